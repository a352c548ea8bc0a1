"""The score table, and what is done to it: ratings taken out, frames taken in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd

from ...catalogue import SCORES
from ...errors import DataError, raise_all
from ...status import Status
from ...style import beside, legend, new_axes
from ...tables import parse_table, read_table, write_table

_SETTINGS = ("tolerance_mm", "penalty_mm")
_BUNDLE_OF_A_CASE = ("participant_id", "session", "cohort", "model", "modality", "bundle", "hemisphere")


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Scores of one or more models on one or more cohorts, in tidy long form.

    Parameters
    ----------
    frame : DataFrame
        The columns of `shiftkit.catalogue.SCORES`; the optional ones may be absent. A value that is missing has
        its reason in ``status``.

    Raises
    ------
    DataError
        If a required column is missing, a number is not one, a status word is unknown, or a metric was computed with
        different settings.

    Examples
    --------
    >>> row = dict(participant_id="sub-1", cohort="c", group="control", model="m", modality="fa", bundle="AF",
    ...            hemisphere="left", side="n/a", metric="dice", value=0.8, unit="1", status="ok",
    ...            tumor_distance_mm=None)
    >>> print(ScoreTable(frame=pd.DataFrame([row])))
    Scores of 1 participant (1 control): dice over 1 bundle
    counts: ok 1
    dice, control: mean 0.800 over 1 of 1
    """

    frame: pd.DataFrame

    def __post_init__(self) -> None:
        parsed = parse_table(self.frame, SCORES, "The score table")
        require_one_setting(parsed)
        named = [name for name in SCORES.columns if name in parsed]
        others = [name for name in parsed if name not in SCORES.columns]
        object.__setattr__(self, "frame", parsed[named + others].reset_index(drop=True))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a table that `save` or another program wrote; a `DataError` names all its problems at once."""
        return cls(frame=read_table(Path(path), SCORES))

    @classmethod
    def concatenate(cls, *tables: "ScoreTable") -> Self:
        """One table of several, such as patients and controls."""
        return cls(frame=pd.concat([table.frame for table in tables], ignore_index=True))

    def save(self, path: Path) -> None:
        """Write the table as TSV, atomically, with its data dictionary beside it."""
        write_table(self.frame, SCORES, Path(path))

    def to_frame(self) -> pd.DataFrame:
        """The table as a frame of its own, which may be changed."""
        return self.frame.copy()

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that have rows, in order of appearance."""
        return tuple(dict.fromkeys(self.frame["metric"]))

    def where(self, **values: str | tuple[str, ...]) -> Self:
        """The rows whose columns have the given value, or one of the given values, as ``group=("control",)``."""
        keep = pd.Series(True, index=self.frame.index)
        for column, wanted in values.items():
            keep &= self.frame[column].isin([wanted] if isinstance(wanted, str) else list(wanted))
        return type(self)(frame=self.frame[keep])

    def metric(self, name: str) -> pd.DataFrame:
        """The rows of one metric; a `DataError` where the table does not hold it."""
        if name not in self.metrics:
            raise DataError(
                f"The score table must hold the metric {name!r}; it holds {', '.join(self.metrics) or 'none'}. "
                "Score again and ask for it."
            )
        return self.frame[self.frame["metric"] == name].reset_index(drop=True)

    def counts(self) -> dict[str, int]:
        """How many bundles of participants have each status, whatever the number of metrics.

        Metrics of probabilities, which can be unavailable where the masks are not, count only where they are alone.
        """
        identity = [name for name in _BUNDLE_OF_A_CASE if name in self.frame]
        # The first metric's status is the bundle's: all metrics of masks share it.
        found = self.frame.drop_duplicates(identity)["status"].value_counts()
        return {word: int(found[word]) for word in Status if word in found}

    def summary(self) -> pd.DataFrame:
        """Mean of each metric by group, over the rows that have a value, and how many those are."""
        grouped = self.frame.groupby(["metric", "group"], sort=False)["value"]
        return grouped.agg(mean="mean", sd="std", n="count", rows="size").reset_index()

    def plot(self, ax: Any = None, metric: str | None = None) -> Any:
        """Values of one metric by bundle and group, every participant a dot; returns the axes."""
        axes = new_axes(ax)
        name = metric or self.metrics[0]
        rows = self.metric(name)
        labels = rows["bundle"] + rows["hemisphere"].replace({"none": "", "n/a": ""}).radd(" ").str.rstrip()
        order = sorted(set(labels))
        groups = sorted(set(rows["group"]))
        for index, group in enumerate(groups):
            chosen = (rows["group"] == group) & rows["value"].notna()
            places = labels[chosen].map(order.index) + beside(index, len(groups), 0.25)
            axes.plot(places, rows["value"][chosen], "o", markersize=3, alpha=0.5, label=group)
        axes.set_xticks(range(len(order)), order, rotation=45, ha="right")
        axes.set_ylabel(f"{name} [{rows['unit'].iloc[0]}]" if rows["unit"].iloc[0] != "1" else name)
        legend(axes)
        return axes

    def __len__(self) -> int:
        return len(self.frame)

    def __str__(self) -> str:
        people = self.frame.drop_duplicates(["participant_id", "cohort"])
        groups = ", ".join(f"{n} {group}" for group, n in sorted(people["group"].value_counts().items()))
        n_bundles = len(self.frame[["bundle", "hemisphere"]].drop_duplicates())
        counted = ", ".join(f"{word} {n}" for word, n in self.counts().items())
        lines = [
            f"Scores of {len(people)} participant{'s' * (len(people) != 1)} ({groups}): "
            f"{' '.join(self.metrics)} over {n_bundles} bundle{'s' * (n_bundles != 1)}",
            f"counts: {counted}",
        ]
        for (name, group), row in self.summary().set_index(["metric", "group"]).iterrows():  # pyright: ignore
            given = f"mean {row['mean']:.3f}" if row["n"] else "not given"
            lines.append(f"{name}, {group}: {given} over {row['n']:.0f} of {row['rows']:.0f}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>" + self.frame.to_html(index=False, max_rows=10, na_rep="n/a")


def require_one_setting(frame: pd.DataFrame) -> None:
    """Refuse scores of one metric that were computed with different tolerances or penalties.

    Patients scored at another tolerance than controls would show a drop that is none. Tables that do not tell their
    settings pass.
    """
    for name in (name for name in _SETTINGS if name in frame):
        for metric, values in frame.groupby("metric")[name]:
            found = sorted(values.dropna().unique())
            if len(found) > 1:
                listed = " and ".join(f"{value:g}" for value in found)
                raise DataError(
                    f"All scores of a metric must share its settings; {metric} was computed with {name} {listed}. "
                    "Score all cohorts with the same options."
                )


KEYS = ["participant_id", "bundle", "hemisphere", "model"]
RATINGS = ("good", "doubtful", "bad", "n/a")


def without_bad(scores: ScoreTable, ratings: Path) -> tuple[ScoreTable, int]:
    """The table without the cases that a reviewer rated bad, in all metrics, and how many cases that are.

    The ratings are a TSV with ``participant_id bundle hemisphere model rating``: a rating belongs to one model's
    prediction, and one whose model is ``n/a`` to those of all models. A `DataError` where the table cannot be read, or
    nothing is left.
    """
    frame, rated = scores.to_frame(), _read(ratings)
    chosen = pd.Series(False, index=frame.index)
    for bad in rated[rated["rating"] == "bad"].to_dict("records"):
        keys = KEYS if bad["model"] != "n/a" else KEYS[:-1]
        chosen |= (frame[keys] == [bad[key] for key in keys]).all(axis=1)
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


def as_frame(scores: Any) -> pd.DataFrame:
    """A score table, or anything with ``to_frame()``, as a validated frame."""
    frame = scores if isinstance(scores, pd.DataFrame) else scores.to_frame()
    return parse_table(frame, SCORES, "The score table")
