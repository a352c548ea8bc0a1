"""How much of the drop in patients is systematic, how much is the tumor's, and what fine-tuning repairs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ...catalogue import DECOMPOSITION
from ...errors import ConfigError, DataError
from ..scoring.table import as_frame
from ..statistics.inference import Inference
from .agreement import agreement, cross_checked, cross_checked_rows
from .covariates import adjusted_for, overlap
from .curve import curve_of, lengths_of, participants_of
from .findings import findings
from .models.beside import side_by_side
from .models.recovery import recovery
from .result import Decomposition, Settings
from .rows import build_rows, entered, metric_of, unseen
from .sensitivity import sensitivity as other_choices
from .sentences import disagreements, notes_of, verdict_of
from .split import by_stratum, split

SHARE_MARGIN, LOG_MARGIN = 0.02, float(np.log(1.1))
"""Effects that count as none: of shares such as Dice, and of distances, whose logs are compared."""
LAMBDA_GRID_MM: tuple[float, ...] = tuple(np.geomspace(2.0, 80.0, 31).tolist())


def decompose(
    scores: Any,
    *,
    reference: Any = None,
    finetuned: Mapping[str, Any] | None = None,
    beside: Mapping[str, Any] | None = None,
    metric: str = "dice",
    covariates: Sequence[str] = (),
    by: str | None = None,
    lambda_grid_mm: Sequence[float] = LAMBDA_GRID_MM,
    equivalence_margin: float | None = None,
    sensitivity: bool = True,
    cross_check: bool = False,
    inference: Inference = Inference(),
) -> Decomposition:
    """Split the drop in performance of patients into a systematic and a tumor part.

    Parameters
    ----------
    scores : ScoreTable or DataFrame
        Scores of patients (group ``glioma``) by one model, in the columns of ``shiftkit.catalogue.SCORES``; controls
        too, unless ``reference`` holds them.
    reference : ScoreTable or DataFrame, optional
        Scores of controls.
    finetuned : mapping of str to ScoreTable or DataFrame, optional
        Out-of-fold scores of the same patients by fine-tuned models, and of the same controls for forgetting.
    beside : mapping of str to ScoreTable or DataFrame, optional
        Scores of patients and controls by further source models, each of which is compared with the first; see
        `shiftkit.analyses.decomposition.models.beside.side_by_side`. They change no other number.
    metric : str
        Primary metric.
    covariates : sequence of str
        Columns to adjust for: the drop is compared at the patients' mean.
    by : str, optional
        Column of participants, such as ``site``: the split is also given for the patients with each of its values; see
        `shiftkit.analyses.decomposition.split.by_stratum`.
    lambda_grid_mm : sequence of float
        Candidates for the decay length, which describes the reach and decides nothing.
    equivalence_margin : float
        A systematic part smaller than this counts as none, and bounds wider than this as a range; 0.02 for shares
        and log 1.1 for distances by default.
    sensitivity : bool
        Also compute the split under other choices.
    cross_check : bool
        Also fit generalized estimating equations and a mixed model with statsmodels, to compare.
    inference : Inference
        Resampling, permutation and intervals.

    Returns
    -------
    Decomposition

    Raises
    ------
    DataError
        If patients, controls, the metric or the distances are missing, or values are not usable.
    ConfigError
        If a covariate cannot be adjusted for, or an option is out of range.

    Notes
    -----
    The systematic part mixes scanner, protocol, pre-processing, label style, age and diffuse disease. Scores of group
    ``target_control``, healthy people scanned like the patients, split it into ``acquisition`` and ``disease``.

    Bias, coverage, type I error, power and the rate of withheld splits were measured by simulation:
    ``shiftkit validate``, with its results in ``benchmarks/validation.md``.
    """
    margin = equivalence_margin or (SHARE_MARGIN if metric_of(metric).bounded else LOG_MARGIN)
    grid = np.sort(np.asarray(lambda_grid_mm, dtype=float))
    settings = Settings(metric=metric, grid_mm=grid, margin=margin, inference=inference)
    _require_settings(settings)
    frame = _one_model(pd.concat([as_frame(one) for one in (scores, reference) if one is not None], ignore_index=True))
    rows, columns, _ = adjusted_for(build_rows(unseen(frame), metric), tuple(covariates))
    before = split(rows, columns, inference.weights(rows.sizes, 0), settings)
    tuned = {name: as_frame(table) for name, table in (finetuned or {}).items()}
    repaired, after = recovery(before, tuned, settings)
    others = {name: _one_model(as_frame(table)) for name, table in (beside or {}).items()}
    models = side_by_side(before, others, settings)
    parts = (before, *after.values())
    strata = [row for part in parts if by is not None for row in by_stratum(part, by, settings)]
    crossed = cross_checked(before) if cross_check and before.regression is not None else {}
    agreed = agreement(before, settings, crossed)
    tables = [*(part.table for part in parts), *([cross_checked_rows(before, settings, crossed)] if crossed else [])]
    result = Decomposition(
        table=_table(tables),
        strata=pd.DataFrame(strata, columns=list(DECOMPOSITION.columns)),
        by=by or "",
        told=before.verdict,
        recovery=repaired,
        sensitivity=other_choices(before, settings, full=sensitivity),
        agreement=agreed,
        entered=entered(frame, rows, metric),
        curve=pd.concat([curve_of(part, settings) for part in parts], ignore_index=True),
        participants=pd.concat([participants_of(part) for part in (*parts, *models.splits)], ignore_index=True),
        models=models.table,
        beside=_table([part.table for part in models.splits]),
        estimates=(*before.estimates, *lengths_of(before, settings)),
        claim=verdict_of(before, repaired, settings),
        status=str(before.verdict.status),
        notes=(*notes_of(before, frame, settings), *disagreements(agreed, before.verdict, metric)),
        compared=models.notes,
        metric=metric,
        margin=margin,
        scores=pd.concat([rows.frame, *(part.rows.frame[part.rows.patient] for part in after.values())]),
        overlap=overlap(rows, tuple(covariates)),
    )
    return replace(result, findings=findings(result))


def _table(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    empty = pd.DataFrame(columns=list(DECOMPOSITION.columns))
    return pd.concat(parts, ignore_index=True)[list(DECOMPOSITION.columns)] if parts else empty


def _one_model(frame: pd.DataFrame) -> pd.DataFrame:
    pairs = frame[["model", "modality"]].drop_duplicates()
    if len(pairs) > 1:
        listed = ", ".join(f"{model} ({modality})" for model, modality in pairs.itertuples(index=False))
        raise DataError(
            f"A decomposition takes the scores of one model; the table holds {listed}. Keep one, and give fine-tuned "
            "models apart."
        )
    keys = ["participant_id", "bundle", "hemisphere", "metric"]
    twice = frame[frame.duplicated(keys)]
    if len(twice):
        first = twice.iloc[0]
        raise DataError(
            f"Each participant, bundle, hemisphere and metric stands once in a score table; {first['participant_id']} "
            f"{first['bundle']} {first['hemisphere']} {first['metric']} stands twice, with {len(twice) - 1} more."
        )
    return frame


def _require_settings(settings: Settings) -> None:
    if settings.inference.n_bootstrap < 100 or settings.inference.n_permutations < 99:
        raise ConfigError("A decomposition needs at least 100 bootstrap draws and 99 permutations.")
    if not 0.5 < settings.inference.level < 1 or not settings.margin > 0:
        raise ConfigError("The level lies between 0.5 and 1, and the equivalence margin above 0.")
    if settings.grid_mm.size < 2 or not (settings.grid_mm > 0).all():
        raise ConfigError("The grid of decay lengths needs at least two positive values.")
