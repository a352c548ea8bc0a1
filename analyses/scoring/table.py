"""The score table, and what is done to it: ratings taken out, frames taken in."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from ...catalogue import SCORES
from ...errors import DataError, raise_all
from ...status import Status
from ...style import beside, legend, new_axes
from ...tables import cells_of, parse_table, read_cells, read_sheet, write_table
from ...words import chosen_session, named, not_understood, same_person, understood, words_of
from .metrics import METRICS, PENALIZED, PROBABILISTIC
from .spreadsheet import understand

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
    failed : mapping of str to str
        Participants that could not be scored, with the reason.
    told : tuple of str
        What was understood of a table that somebody else wrote; see `read`.

    Raises
    ------
    DataError
        If a required column is missing, a number is not one, a word is unknown, a metric was computed with different
        settings, or values contradict each other; see `understood_scores`.

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
    failed: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)
    told: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        parsed = understood_scores(self.frame)
        named = [name for name in SCORES.columns if name in parsed]
        others = [name for name in parsed if name not in SCORES.columns]
        object.__setattr__(self, "frame", parsed[named + others].reset_index(drop=True))

    @classmethod
    def read(cls, scores: "Path | pd.DataFrame | ScoreTable", columns: Mapping[str, str] | None = None) -> Self:
        """Read a table as people have them: a file that `shiftkit.tables.read_sheet` reads, or a frame.

        What its columns and words mean finds `shiftkit.analyses.scoring.spreadsheet.understand`, which says what
        ``columns`` are and what is refused; ``told`` is what it understood. A score table is handed back as it is.

        Examples
        --------
        >>> rows = {"ID": ["P1", "C1"], "Group": ["Patient", "HC"], "Tract": "AF_L", "DSC": [70, 81]}
        >>> print(ScoreTable.read(pd.DataFrame({**rows, "Distance": [9, None]})))
        Scores of 2 participants (1 control, 1 glioma): dice over 1 bundle
        counts: ok 2
        dice, glioma: mean 0.700 over 1 of 1
        dice, control: mean 0.810 over 1 of 1
        """
        if isinstance(scores, cls):
            return scores
        if isinstance(scores, pd.DataFrame):
            where, (cells, form) = "The score table", (cells_of(scores), "")
        else:
            where, (cells, form) = Path(scores).name, read_sheet(Path(scores))  # pyright: ignore[reportArgumentType]
        sheet = understand(cells, where, form, columns)
        return cls(frame=understood_scores(sheet.frame, where), told=sheet.told)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the table of a file; see `read`. A `DataError` names all its problems at once."""
        return cls.read(Path(path))

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

    def unavailable(self) -> str:
        """Whose bundles were not predicted, in a sentence; empty where all were."""
        lost = self.frame[(self.frame["status"] == Status.UNAVAILABLE) & ~self.frame["metric"].isin(PROBABILISTIC)]
        lost = lost.drop_duplicates(["participant_id", "bundle", "hemisphere"])
        if lost.empty:
            return ""
        labels = lost["bundle"] + lost["hemisphere"].replace({"none": "", "n/a": ""})
        people = lost["participant_id"]
        return (
            f"{len(lost)} bundles of {people.nunique()} participants have no prediction ({_named(labels)} of "
            f"{_named(people)})"
        )

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


_WORDS = ("group", "hemisphere", "side", "tumor_side", "seen")
_WITH_VALUE = (Status.OK, Status.MISSED)
_AT_MOST = 3


def understood_scores(frame: pd.DataFrame, where: str = "The score table") -> pd.DataFrame:
    """Scores in the words of `shiftkit.words`, once every value is one that can be; text or numbers go in.

    Spellings whose meaning is certain are understood, such as ``Glioma``, ``HC`` or ``seen`` as ``True``.

    Raises
    ------
    DataError
        Naming everything that is wrong: columns, words and numbers that are none; a participant in two groups, in two
        spellings; values out of the metric's range, missing where the status promises
        one, or there where it says that there is none; a missed bundle with a score; distances that are negative or
        infinite; settings that differ.
    """
    if {"participant_id"} <= set(frame):
        frame = frame.assign(participant_id=frame["participant_id"].astype(str).str.strip())
    parsed = parse_table(frame, SCORES, where)
    problems: list[str] = []
    for column in (name for name in _WORDS if name in parsed):
        texts = parsed[column].unique()
        meant = {text: understood(column, text) for text in texts}
        for text in not_understood(column, texts):
            who = _named(parsed.loc[parsed[column] == text, "participant_id"])
            problems.append(f"{column} {text!r} ({who}) is none of {', '.join(words_of(column))}")
        letters = {text for text in texts if len(text.strip()) == 1}
        # One table spells a side in one way; two ways come from two tables, whose levels need not be the same.
        if column == "hemisphere" and letters and any(meant[text] in ("left", "right") for text in {*texts} - letters):
            problems.append(f"hemisphere is spelled in two ways, {', '.join(sorted(texts))}; write left and right")
        parsed[column] = parsed[column].map(lambda text, of=meant: of[text] or text)
    require_one_setting(parsed)
    raise_all([*problems, *_people(parsed), *_values(parsed)], where)
    return parsed


def _people(frame: pd.DataFrame) -> Iterator[str]:
    """Participants whose rows contradict each other."""
    people = frame[["participant_id", "cohort", "group"]].drop_duplicates()
    for (name, _), groups in people.groupby(["participant_id", "cohort"])["group"]:
        if len(groups) > 1:
            yield f"a participant is in one group; {name} is in {' and '.join(sorted(groups))}"
    names = people.drop_duplicates(["participant_id", "cohort"])
    for _, same in names.groupby([names["participant_id"].map(same_person), "cohort"])["participant_id"]:
        if len(same) > 1:
            yield f"{' and '.join(sorted(same))} look like one participant in two spellings; write one"


def _values(frame: pd.DataFrame) -> Iterator[str]:
    """Values and distances that cannot be."""
    who, value, status = frame["participant_id"], frame["value"], frame["status"]
    for column in (name for name in map(str, frame) if name.startswith("tumor_") and name.endswith("_mm")):
        distance = frame[column].where(frame["group"] == "glioma")
        bad = (distance < 0) | np.isinf(distance)
        if bad.any():
            given = " to ".join(dict.fromkeys(f"{one:g}" for one in (distance[bad].min(), distance[bad].max())))
            yield (
                f"{column} is a distance in mm, 0 where tumor and bundle touch; that of {_named(who[bad])} is {given}; "
                "write n/a where it is not known"
            )
    promised = status.isin(_WITH_VALUE)
    empty = promised & ~np.isfinite(value)
    if empty.any():
        yield f"a row with status ok or missed has a finite value; {_named(who[empty])} have none"
    # What is predicted of a bundle without a reference has a volume, and no score.
    extra = ~promised & value.notna() & frame["metric"].isin(METRICS)
    if extra.any():
        yield f"a row with status {status[extra].iloc[0]} has no value; {_named(who[extra])} have one"
    for name, rows in frame[promised & ~empty].groupby("metric", sort=False):
        if (metric := METRICS.get(str(name))) is None:
            continue
        low, high = float(rows["value"].min()), float(rows["value"].max())
        if low < 0 or (metric.bounded and high > 1):
            percent = "; it looks like percent: divide by 100" if 1 < high <= 100 and low >= 0 else ""
            yield f"{name} lies in 0–{'1' if metric.bounded else '∞'}; it runs from {low:g} to {high:g}{percent}"
            continue
        missed = rows[rows["status"] == Status.MISSED]
        if name in PENALIZED:
            wrong = missed[missed["value"] != missed["value"].max()]
            right = "the penalty, the same for all"
        else:
            wrong, right = missed[(missed["value"] != 0) & (name not in PROBABILISTIC)], "0"
        if len(wrong):
            yield (
                f"{name} of a missed bundle is {right}; {_named(wrong['participant_id'])} have "
                f"{wrong['value'].iloc[0]:g}, with status missed where it may mean ok"
            )


def _named(people: pd.Series) -> str:
    return named(people.drop_duplicates().tolist(), _AT_MOST)


def one_session(frame: pd.DataFrame, session: str | None = None) -> tuple[pd.DataFrame, dict[str, str]]:
    """The rows of one session of each participant, and who is left out with the reason.

    ``session`` is as in `shiftkit.words.chosen_session`, which says what is refused.
    """
    if "session" not in frame:
        return frame, {}
    pairs = frame[["participant_id", "cohort", "session"]].drop_duplicates()
    people = {key: part["session"].tolist() for key, part in pairs.groupby(["participant_id", "cohort"], sort=False)}
    told = {key: [None if one == "n/a" else str(one) for one in several] for key, several in people.items()}
    named = {f"{name} ({cohort})": told[name, cohort] for name, cohort in told}
    chosen = chosen_session(named, session)
    of_row = (frame["participant_id"] + " (" + frame["cohort"] + ")").map(chosen)
    kept = frame["session"] == of_row.where(of_row.notna(), "n/a")
    gone = {key: f"no session {session}" for key in named if key not in chosen}
    return frame[kept & ~(frame["participant_id"] + " (" + frame["cohort"] + ")").isin(gone)], gone


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
    return replace(scores, frame=frame[~chosen]), len(frame[chosen].drop_duplicates(KEYS))


def _read(ratings: Path) -> pd.DataFrame:
    frame = read_cells(ratings)
    problems = [f"column {name!r} is missing" for name in (*KEYS, "rating") if name not in frame]
    if not problems:
        unknown = sorted(set(frame["rating"]) - set(RATINGS))
        problems = [f"rating {word!r} is not one of {', '.join(RATINGS)}" for word in unknown]
    raise_all(problems, ratings.name)
    return frame


def as_frame(scores: Any, several_sessions: bool = False) -> pd.DataFrame:
    """A score table, or anything with ``to_frame()``, as a validated frame that can be compared with another.

    A `DataError` as in `understood_scores`, for rows that stand twice, for several sessions of a participant unless
    they are asked for, and where every bundle was missed.
    """
    frame = understood_scores(scores if isinstance(scores, pd.DataFrame) else scores.to_frame())
    if len(frame) and (frame["status"] == Status.MISSED).all():
        raise DataError(
            f"A comparison needs bundles that were found; all {len(frame)} rows of the score table are missed. Look at "
            "the predictions: they may be empty, or of other participants."
        )
    keys = [*(name for name in _BUNDLE_OF_A_CASE if name in frame), "metric"]
    twice = frame.loc[frame.duplicated(keys), keys]
    if len(twice):
        row = " ".join(str(twice.iloc[0][name]) for name in ("participant_id", "bundle", "hemisphere", "metric"))
        raise DataError(f"Each row of a score table stands once; {row} stands twice, with {len(twice) - 1} more.")
    if not several_sessions:
        one_session(frame)
    return frame
