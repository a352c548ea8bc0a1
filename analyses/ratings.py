"""Reviewers' ratings, as reports export them, taken into account: cases rated bad are left out."""

from pathlib import Path

import pandas as pd

from ..errors import DataError, raise_all
from .score_table import ScoreTable

KEYS = ["participant_id", "bundle", "hemisphere", "model"]
RATINGS = ("good", "doubtful", "bad", "n/a")


def without_bad(scores: ScoreTable, ratings: Path) -> tuple[ScoreTable, int]:
    r"""Leave out the cases that a reviewer rated bad.

    Parameters
    ----------
    scores : ScoreTable
        Of any cohort and model.
    ratings : Path
        TSV with ``participant_id bundle hemisphere model rating``; a rating belongs to one model's prediction, and one
        whose model is ``n/a`` to those of all models.

    Returns
    -------
    kept : ScoreTable
        Without the rows of those cases, in all metrics.
    n : int
        Cases left out: participants, bundles and hemispheres of one model.

    Raises
    ------
    DataError
        If the table cannot be read, or nothing is left.

    Examples
    --------
    >>> import tempfile
    >>> row = dict(participant_id="sub-1", cohort="c", group="control", model="m", modality="fa", bundle="AF",
    ...            hemisphere="left", side="n/a", metric="dice", value=0.8, unit="1", status="ok",
    ...            tumor_distance_mm=None)
    >>> table = ScoreTable(frame=pd.DataFrame([row, {**row, "participant_id": "sub-2"}]))
    >>> path = Path(tempfile.mkdtemp()) / "ratings.tsv"
    >>> _ = path.write_text("participant_id\tbundle\themisphere\tmodel\trating\nsub-2\tAF\tleft\tm\tbad\n")
    >>> kept, n = without_bad(table, path)
    >>> len(kept), n
    (1, 1)
    """
    bad = _read(ratings)
    bad = bad[bad["rating"] == "bad"]
    frame = scores.to_frame()
    chosen = pd.Series(False, index=frame.index)
    for row in bad.to_dict("records"):
        here = pd.Series(True, index=frame.index)
        for key in KEYS:
            if key != "model" or row[key] != "n/a":
                here &= frame[key] == row[key]
        chosen |= here
    if len(frame) and chosen.all():
        raise DataError(f"{ratings.name} must leave a case to score; it rates every one bad. Look at its ratings.")
    return ScoreTable(frame=frame[~chosen]), len(frame[chosen].drop_duplicates(KEYS))


def _read(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise DataError(f"There is no table of ratings at {path}.") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path} must be a table of ratings as a report exports it; it is not: {error}.") from error
    problems = [f"column {name!r} is missing" for name in (*KEYS, "rating") if name not in frame]
    if not problems:
        unknown = sorted(set(frame["rating"]) - set(RATINGS))
        problems = [f"rating {word!r} is not one of {', '.join(RATINGS)}" for word in unknown]
    raise_all(problems, path.name)
    return frame
