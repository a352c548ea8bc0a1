"""Where in the network controls and patients part, and which part of that is the tumor's."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...catalogue import DIRECTIONS, FEATURES
from ...embeddings import Embeddings
from ...errors import ConfigError, DataError
from ...status import Status
from ...work import Work
from ..statistics.inference import Inference, jackknife_interval, max_t, p_value, standardized
from ..statistics.two_sample import RANGES, STATISTICS, evaluators
from .findings import FeatureShift
from .samples import CONTRASTS, SIDES, Cell, Roster, cells

Array = NDArray[np.float64]
_FEWEST = 4  # participants a side: below this no number means anything
_EXPLORATORY = 20  # patients


def feature_shift(
    embeddings: Embeddings,
    *,
    statistics: Sequence[str] = STATISTICS,
    inference: Inference = Inference(n_permutations=1000),
    work: Work = Work(),
) -> FeatureShift:
    """Measure and test the shift of features between controls and patients, layer by layer and bundle by bundle.

    Parameters
    ----------
    embeddings : Embeddings
        Of controls (``group`` control) and patients (``group`` glioma) by one model, or by the networks of one
        fine-tuning, each participant by one of them.
    statistics : sequence of str
        Of `shiftkit.analyses.statistics.two_sample.STATISTICS`.
    inference : Inference
        At least 99 permutations of participants; the seed is also that of projections and folds.
    work : Work
        Cells are compared side by side.

    Returns
    -------
    FeatureShift

    Raises
    ------
    ConfigError
        If a statistic is unknown, or permutations are too few.
    DataError
        If there are no controls, no patients, or the embeddings hold no region that can be compared.

    Notes
    -----
    Three contrasts, all of one vector a participant and region:

    - *total*: controls against patients, hemisphere by hemisphere and both together.
    - *systematic*: controls against the patients' hemisphere without the tumor. Patients differ in which hemisphere
      that is, so each control lends one hemisphere, drawn in the patients' proportion without a look at the
      features; vectors are centered within hemispheres and labels exchanged within hemispheres.
    - *tumor*: the patients' two hemispheres, each less the controls' mean of that hemisphere. Which hemisphere has the
      tumor is permuted over patients; the numbers of left and right tumors stay, so that a difference between
      hemispheres, also one that a systematic shift makes larger, is the same in every permutation. With tumors on one
      side only nothing can be permuted, and the tumor part is withheld.

    Under the respective hypothesis all labelings are equally likely, so the tests are exact in samples of any size.
    Features are centered and scaled without a look at the labels. p-values are adjusted over all layers, bundles and
    regions of a contrast by the largest standardized statistic of each permutation (max-T).

    Intervals: delete-one jackknife over participants with Student's quantile. A bootstrap of MMD² draws participants
    twice, counts them as near neighbors of themselves, and excludes 0 most of the time although there is no
    shift; see ``benchmarks/features.md``. The sliced Wasserstein and Fréchet distances are positive without a shift
    too: the column ``by_chance`` has the mean over permutations.

    References
    ----------
    Gretton A et al. JMLR 13:723 (2012), jmlr.org/papers/v13/gretton12a.html. Westfall PH, Young SS. Resampling-Based
    Multiple Testing (1993). Arvesen JN. Ann Math Stat 40:2076 (1969), doi 10.1214/aoms/1177697287 (jackknife of
    U-statistics).
    """
    embeddings = embeddings.where(group=("control", "glioma"))
    _check(embeddings, statistics, inference.n_permutations)
    rng = inference.generator()
    roster = Roster.of(embeddings, rng)
    labels = {contrast: roster.labels(contrast, inference.n_permutations, rng) for contrast in CONTRASTS}
    found = [_with_status(cell, roster) for cell in cells(embeddings, roster)]
    if not found:
        raise DataError("Features are compared in regions: these embeddings hold none of bundles or of the brain.")
    evaluate = partial(_evaluate, roster=roster, labels=labels, statistics=tuple(statistics), inference=inference)
    results = list(work.map(evaluate, list(enumerate(found)), f"Comparing features of {embeddings.model}"))
    table = _adjusted([row for one in results for row in one[0]], [null for one in results for null in one[1]])
    carried = pd.DataFrame([row for one in results for row in one[2]], columns=list(DIRECTIONS.columns))
    named = table.assign(model=embeddings.model, modality=embeddings.modality)
    return FeatureShift(
        table=named[list(FEATURES.columns)],
        directions=carried.assign(model=embeddings.model, modality=embeddings.modality),
        embeddings=embeddings,
        level=inference.level,
        n_permutations=inference.n_permutations,
        notes=_notes(roster),
    )


def _check(embeddings: Embeddings, statistics: Sequence[str], n_permutations: int) -> None:
    unknown = [one for one in statistics if one not in STATISTICS]
    if unknown or not statistics:
        raise ConfigError(f"Feature shift is measured by {', '.join(STATISTICS)}; got {', '.join(unknown) or 'none'}.")
    if n_permutations < 99:
        raise ConfigError(f"A permutation test needs at least 99 permutations; got {n_permutations}.")
    people = embeddings.rows.drop_duplicates("participant_id")
    for group, what in (("control", "controls"), ("glioma", "patients")):
        if not (people["group"] == group).any():
            raise DataError(
                f"A feature shift lies between controls and patients; the embeddings hold no {what} (group {group!r}). "
                "Embed both cohorts with the same model."
            )
    twice = embeddings.rows.groupby("participant_id")[["fold", "group", "tumor_side"]].nunique().max(axis=1)
    if (twice > 1).any():
        raise DataError(
            "A participant has one group, one tumor side and one network that made their vectors; "
            f"{', '.join(map(str, twice.index[twice > 1][:3]))} have several. Keep one of each."
        )


def _notes(roster: Roster) -> tuple[str, ...]:
    other = int((roster.patient & (roster.side == "n/a")).sum())
    if not other:
        return ()
    return (f"{other} patients without a tumor on one side only are part of the total contrast and of no other.",)


def _with_status(cell: Cell, roster: Roster) -> Cell:
    """Say why a comparison gives no number, or only an indication."""
    if cell.sample is None or cell.status != Status.OK:
        return cell
    people = np.unique(cell.sample.person)
    patients, controls = roster.patient[people].sum(), (~roster.patient[people]).sum()
    status = Status.EXPLORATORY if patients < _EXPLORATORY else Status.OK
    if patients < _FEWEST or (cell.contrast != "tumor" and controls < _FEWEST):
        status = Status.TOO_FEW
    elif cell.contrast == "tumor" and min((roster.side[people] == side).sum() for side in SIDES) < 1:
        status = Status.SPLIT_WITHHELD
    return dataclasses.replace(cell, status=status)


def _evaluate(
    numbered: tuple[int, Cell],
    roster: Roster,
    labels: Mapping[str, NDArray[np.bool_]],
    statistics: Sequence[str],
    inference: Inference,
) -> tuple[list[dict[str, Any]], list[Array], list[dict[str, Any]]]:
    """Rows of the table for one cell, for each the standardized observed and permuted values, and what carries it."""
    number, cell = numbered
    people = np.unique(cell.sample.person) if cell.sample is not None else np.empty(0, dtype=int)
    patients, controls = int(roster.patient[people].sum()), int((~roster.patient[people]).sum())
    base = {
        "layer": cell.layer,
        "bundle": cell.bundle,
        "hemisphere": cell.hemisphere,
        "region": cell.region,
        "contrast": cell.contrast,
        "n_source": patients if cell.contrast == "tumor" else controls,
        "n_target": patients,
        "status": cell.status,
    }
    empty = dict.fromkeys(("value", "low", "high", "p_value", "p_adjusted", "by_chance"), float("nan"))
    if cell.sample is None or cell.status not in (Status.OK, Status.EXPLORATORY):
        return [{**base, **empty, "statistic": name} for name in statistics], [np.empty(0)] * len(statistics), []
    person = cell.sample.person
    target = labels[cell.contrast][person].astype(float)
    if cell.sample.ipsi is not None:
        target = np.where(cell.sample.ipsi[:, None], 1 - target, target)
    left_out = (person[:, None] != people).astype(float)
    group = np.zeros(len(people)) if cell.contrast == "tumor" else roster.patient[people]
    rows: list[dict[str, Any]] = []
    nulls: list[Array] = []
    prepared = evaluators(cell.sample.features, person, inference.generator(number), statistics)
    for name in statistics:
        values = prepared[name](1 - target, target)
        jackknife = prepared[name]((1 - target[:, :1]) * left_out, target[:, :1] * left_out)
        low, high = jackknife_interval(float(values[0]), jackknife, group, inference.level)
        low, high = np.clip([low, high], *RANGES.get(name, (-np.inf, np.inf)))
        given = {"value": values[0], "low": low, "high": high, "p_value": p_value(float(values[0]), values[1:])}
        rows.append({**base, **empty, **given, "by_chance": float(np.nanmean(values[1:])), "statistic": name})
        nulls.append(standardized(values))
    pooled = cell.bundle == "all" and cell.region == "reference" and cell.contrast != "total"
    return rows, nulls, directions(cell, target) if pooled else []


def _adjusted(rows: list[dict[str, Any]], nulls: list[Array]) -> pd.DataFrame:
    families: dict[tuple[str, str], list[int]] = {}
    for number, (row, null) in enumerate(zip(rows, nulls, strict=True)):
        if null.size:
            families.setdefault((row["contrast"], row["statistic"]), []).append(number)
    for members in families.values():
        adjusted = max_t(np.stack([nulls[number] for number in members]))
        for number, p in zip(members, adjusted, strict=True):
            rows[number]["p_adjusted"] = float(p)
    return pd.DataFrame(rows)


_TOP = 3  # channels a layer


def directions(cell: Cell, target: Array) -> list[dict[str, Any]]:
    """The channels of one comparison that move most.

    Parameters
    ----------
    cell : Cell
        Systematic or tumor contrast, with a sample.
    target : ndarray, shape (N, permutations + 1)
        Labels, observed first.

    Returns
    -------
    list of dict
        Rows of `shiftkit.catalogue.DIRECTIONS` without the model: difference of means in units of the channel's spread,
        its share of the squared length of all channels' differences, and a p-value adjusted over the layer's channels.
    """
    if cell.sample is None or cell.status not in (Status.OK, Status.EXPLORATORY):
        return []
    moved = cell.sample.features.T @ (target / target.sum(axis=0) - (1 - target) / (1 - target).sum(axis=0))
    spread = moved[:, 1:].std(axis=1, keepdims=True)
    standardized = np.abs(np.divide(moved, spread, out=np.zeros_like(moved), where=spread > 0))
    largest = standardized[:, 1:].max(axis=0)
    length = float((moved[:, 0] ** 2).sum())
    order = np.argsort(-np.abs(moved[:, 0]), kind="stable")[:_TOP]
    return [
        {
            "layer": cell.layer,
            "contrast": cell.contrast,
            "channel": int(channel) + 1,
            "difference": float(moved[channel, 0]),
            "share": float(moved[channel, 0] ** 2) / length if length > 0 else 0.0,
            "p_adjusted": p_value(float(standardized[channel, 0]), largest),
            "status": cell.status,
        }
        for channel in order
    ]
