"""Several source models on the same participants: what each loses, and how much more or less than the first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ....catalogue import MODELS
from ....errors import DataError
from ....status import Status
from ....words import named
from ...scoring.table import require_one_setting
from ..anchored import Anchored, anchored
from ..result import Settings, Split, row_of
from ..rows import GROUPS, Rows, build_rows, unseen, usable
from ..split import split
from ..verdict import Moment, Part, Verdict, plain, word
from .recovery import ends_of

Array = NDArray[np.float64]
COMPONENTS = ("controls", "patients", "total", "systematic", "tumor")
_KEYS = ["participant_id", "bundle", "hemisphere"]


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Further source models beside the first.

    Parameters
    ----------
    table : DataFrame
        Both models of each pair and their paired difference; ``shiftkit.catalogue.MODELS``.
    splits : tuple of Split
        Of each further model, on the rows that the first has too.
    notes : tuple of str
        On whom each pair is compared, and who and what is left out of it.
    """

    table: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(MODELS.columns)))
    splits: tuple[Split, ...] = ()
    notes: tuple[str, ...] = ()


def side_by_side(base: Split, others: Mapping[str, pd.DataFrame], settings: Settings) -> Beside:
    """Set further source models beside the first, each on the participants and bundles that both have.

    Unlike a fine-tuned model each is held against its own scores of controls. Levels, the far cut and the distances are
    those of the shared rows, so that a difference is one of the scores alone; participants are left out of both models
    together. Intervals are the hull of those of the estimates' difference and of the differences of both ends of what
    is possible, as before and after fine-tuning, and hold for all further models at once (Bonferroni).

    Parameters
    ----------
    base : Split
        Of the first model.
    others : mapping of str to DataFrame
        Scores of patients and controls by each further model.
    settings : Settings
        As for ``base``.

    Raises
    ------
    DataError
        If the metric was computed with other settings than for the first model, or a patient's bundle lies elsewhere.
    """
    records: list[dict[str, Any]] = []
    splits: list[Split] = []
    notes: list[str] = []
    first = str(base.rows.frame["model"].iloc[0])
    for name, table in others.items():
        given = table[(table["metric"] == settings.metric) & table["group"].isin(GROUPS)]
        require_one_setting(pd.concat([base.rows.frame, given], ignore_index=True))
        theirs = usable(unseen(given), settings.metric)
        _require_one_place(base.rows, theirs, name, first)
        pair = _paired(base.rows, theirs, settings.metric)
        there = set() if pair is None else set(pair[0].people)
        gone = {"n_left_out": len({*base.rows.people, *theirs["participant_id"]} - there)}
        notes.append(_note(name, first, base.rows, given, None if pair is None else pair[0], settings.metric))
        if pair is None:
            lacking = [_row(base.rows, settings, name, first, one, status=Status.UNAVAILABLE) for one in COMPONENTS]
            records += [row | gone | {"n_patients": 0, "n_controls": 0} for row in lacking]
            continue
        rows, own = pair
        place = {who: number for number, who in enumerate(base.rows.people)}
        columns = base.columns[[place[who] for who in rows.people]]
        of_first = anchored(rows, columns)
        made = split(own, columns, settings.inference.weights(rows.sizes, 0), settings, of_first.design)
        splits.append(made)
        compared = compare(of_first, made.primary, settings, sign=rows.sign, n_models=len(others))
        records += [_row(own, settings, name, first, one, *parts) | gone for one, parts in compared.items()]
    return Beside(table=pd.DataFrame(records, columns=list(MODELS.columns)), splits=tuple(splits), notes=tuple(notes))


def _paired(rows: Rows, other: pd.DataFrame, metric: str) -> tuple[Rows, Rows] | None:
    """The rows that both models have, with the outcome of the first and of the other; None where no split is made."""
    theirs = other.drop_duplicates(_KEYS).set_index(_KEYS)
    mine = pd.MultiIndex.from_frame(rows.frame[_KEYS])
    frame = rows.frame[mine.isin(theirs.index)].reset_index(drop=True)
    own = theirs.loc[pd.MultiIndex.from_frame(frame[_KEYS])]
    told = {column: own[column].to_numpy() for column in ("value", "status", "model", "modality")}
    try:
        # By the rules for one model: levels that too few controls are left with go, and who has no other.
        pair = build_rows(frame, metric), build_rows(frame.assign(**told), metric)
    except DataError:  # nothing is shared by patients and controls
        return None
    return pair if np.ptp(pair[0].distance_mm[pair[0].patient]) > 1e-9 else None


def compare(
    first: Anchored, other: Anchored, settings: Settings, *, sign: int = 1, n_models: int = 1
) -> dict[str, tuple[Part, Part, Part]]:
    """Each component of the first model and of another of one design, and the other's less the first's.

    Parameters
    ----------
    first, other : Anchored
        Of the same people and rows.
    settings : Settings
        Of the decomposition.
    sign : int
        As of `Rows`.
    n_models : int
        How many models are compared with the first, for which intervals of differences hold at once.
    """
    level = settings.inference.level
    sides = [(one, one.verdict(settings.margin, level)) for one in (first, other)]
    lacking = next((told.total.status for _, told in sides if not told.total.given), None)
    made: dict[str, tuple[Part, Part, Part]] = {}
    for component in COMPONENTS:
        (mine, of_first), (theirs, of_other) = (_ends(component, *side, sign, level) for side in sides)
        status = (of_first.status, of_other.status)
        status = lacking or next((one for one in status if one not in (Status.OK, Status.RANGE)), None)
        each = 1 - (1 - level) / n_models
        difference = (
            _difference(mine, theirs, first.stratum, each, settings.margin, n_models)
            if status is None
            else Part(status=status)
        )
        made[component] = (of_first, of_other, difference)
    return made


def _ends(component: str, found: Anchored, told: Verdict, sign: int, level: float) -> tuple[list[Array], Part]:
    """Replicates of a component, and of what is possible of it where that is not known; and the part as it is told."""
    if component in ("total", "systematic", "tumor"):
        ends, part = ends_of(component, found, told)
        return (ends[:1] if component == "total" else ends), part
    made = found.replicates
    healthy = (made.share * made.healthy).sum(axis=1)
    mean = sign * (healthy if component == "controls" else healthy - made.total)
    return [mean], (plain(found.moment(mean), level) if told.total.given else Part(value=float(mean[0])))


def _difference(
    first: Sequence[Array], other: Sequence[Array], stratum: NDArray[np.int64], level: float, margin: float, n: int
) -> Part:
    """Other less first, with the hull of the intervals by the estimates and by both ends of what is possible."""
    ways = [there - here for here, there in zip(first, other, strict=True)]
    # Rounding is no difference.
    each = [Moment.of(np.where(np.abs(one) < 1e-12, 0.0, one), stratum) for one in ways]
    if any(one.se == 0 and one.value != 0 for one in each):
        return Part(value=each[0].value, status=Status.CONSTANT)
    lows, highs = zip(*(one.interval(level) for one in each), strict=True)
    low, high = min(lows), max(highs)
    values = [one.value for one in each]
    bounds = (min(values), max(values)) if len(ways) > 1 else (float("nan"),) * 2
    wide = bounds[1] - bounds[0] > margin
    # The smallest α whose interval excludes 0: the last of the ends decides.
    alike = all(one.se > 0 and one.value * values[0] > 0 for one in each)
    p_value = max(one.p_value for one in each) if alike else 1.0
    return Part(
        value=float("nan") if wide else values[0],
        low=low,
        high=high,
        bound_low=bounds[0],
        bound_high=bounds[1],
        p_value=p_value,
        p_adjusted=min(1.0, n * p_value),
        word=word(low, high, "larger", "smaller"),
        status=Status.RANGE if wide else Status.OK,
    )


def _row(
    rows: Rows,
    settings: Settings,
    name: str,
    first: str,
    component: str,
    of_first: Part = Part(),
    of_other: Part = Part(),
    difference: Part = Part(),
    status: Status = Status.OK,
) -> dict[str, Any]:
    """Both models and their difference in the columns of the table."""
    made = row_of(rows, settings, component, of_other, model=name, compared_with=first)
    for prefix, part in (("first", of_first), ("difference", difference)):
        ends = {f"{prefix}_{end}": getattr(part, end) for end in ("low", "high", "bound_low", "bound_high")}
        made |= {prefix: part.value, **ends}
    told = {"p_value": difference.p_value, "p_adjusted": difference.p_adjusted, "word": difference.word}
    if status == Status.OK:
        status = next((one.status for one in (difference, of_other, of_first) if one.status != Status.OK), Status.OK)
    return {**made, **told, "status": str(status)}


_SAME_PLACE_MM = 1.0
"""By how much distances of the same reference bundle may differ, as rounded ones do."""


def _require_one_place(rows: Rows, theirs: pd.DataFrame, name: str, first: str) -> None:
    """Refuse a table in which the same bundle of a patient lies at two distances from the tumor, by model."""
    both = rows.frame.merge(theirs, on=_KEYS, suffixes=("", "_theirs"))
    far = (both["tumor_distance_mm"] - both["tumor_distance_mm_theirs"].astype(float)).abs() > _SAME_PLACE_MM
    if far.any():
        one = both[far].iloc[0]
        raise DataError(
            "A bundle has one distance from the tumor, whichever model is scored; that of "
            f"{one['bundle']} of {one['participant_id']} is {one['tumor_distance_mm']:.1f} mm for {first} and "
            f"{float(one['tumor_distance_mm_theirs']):.1f} mm for {name}. Measure distances "
            "to the same reference masks."
        )


def _note(name: str, first: str, rows: Rows, given: pd.DataFrame, shared: Rows | None, metric: str) -> str:
    """On whom two models are compared, and who and what is left out, by name and reason."""
    theirs = usable(unseen(given), metric)
    people = set[str]() if shared is None else set(shared.people)
    left = [who for who in rows.people if who not in people]
    seen = set(given["participant_id"]) - set(unseen(given)["participant_id"])
    have = set(theirs["participant_id"])
    lost = {
        f"that {name} has seen": [who for who in left if who in seen],
        f"without a score by {name}": [who for who in left if who not in seen and who not in have],
        # Where nothing is shared, the sentence says so.
        "without enough scores by both": [who for who in left if shared and who not in seen and who in have],
        f"without one by {first}": sorted(have - people - set(rows.people)),
    }
    told = [
        f"{len(names)} participant{'s' * (len(names) != 1)} {why} ({named(names)})"
        for why, names in lost.items()
        if names
    ]
    used = [] if shared is None else _labels(shared.levels)
    mine, other = _labels(rows.levels), _labels(zip(theirs["bundle"], theirs["hemisphere"], strict=True))
    bundles = {
        f"without scores by {name}": [one for one in mine if one not in other],
        f"without enough scores by {first}": [one for one in other if one not in mine],
        "with too few scores by both": [one for one in mine if shared and one in other and one not in used],
    }
    told += [f"bundles {why} ({named(gone, 10)})" for why, gone in bundles.items() if gone]
    left_out = f" Left out: {'; '.join(told)}." if told else ""
    if shared is None:
        return f"{name} and {first} have too few scores of the same participants and bundles to be compared.{left_out}"
    n = len(used)
    return (
        f"{name} and {first} share {shared.n_patients} patients, {shared.n_controls} controls and {n} "
        f"bundle{'s' * (n != 1)} ({named(used, 12)}).{left_out}"
    )


def _labels(levels: Any) -> list[str]:
    return sorted({f"{bundle}{'' if hemisphere == 'none' else hemisphere}" for bundle, hemisphere in levels})
