"""Where in the network controls and patients part, and which part of that is the tumor's."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...catalogue import DIRECTIONS, FEATURES
from ...embeddings import Embeddings
from ...errors import ConfigError, DataError
from ...results import Estimate
from ...status import Status
from ...words import named
from ...work import Work
from ..statistics.inference import Inference, jackknife_interval, max_t, p_value, standardized
from ..statistics.two_sample import RANGES, STATISTICS, evaluators
from .findings import shift_findings, told
from .result import FeatureShift
from .samples import CONTRASTS, Cell, Roster, cells

Array = NDArray[np.float64]
_TOP = 3  # channels a layer that are told to carry the shift


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
    found = list(cells(embeddings, roster))
    if not found:
        raise DataError("Features are compared in regions: these embeddings hold none of bundles or of the brain.")
    evaluate = partial(_evaluate, roster=roster, labels=labels, statistics=tuple(statistics), inference=inference)
    results = list(work.map(evaluate, list(enumerate(found)), f"Comparing features of {embeddings.model}"))
    whose = {"model": embeddings.model, "modality": embeddings.modality}
    carried = pd.DataFrame([row for _, moved in results for row in moved], columns=list(DIRECTIONS.columns))
    table = adjusted([row for rows, _ in results for row in rows], "contrast", "statistic")
    shift = FeatureShift(
        table=table.assign(**whose)[list(FEATURES.columns)],
        directions=carried.assign(**whose),
        embeddings=embeddings,
        inference=inference,
        notes=_notes(roster),
    )
    shift = replace(shift, estimates=_estimates(shift))
    return told(shift, *shift_findings(shift))


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
            f"{named(map(str, twice.index[twice > 1]), 3)} have several. Keep one of each."
        )


def _notes(roster: Roster) -> tuple[str, ...]:
    other = int((roster.patient & (roster.side == "n/a")).sum())
    told_of = f"{other} patients without a tumor on one side only are part of the total contrast and of no other."
    return (told_of,) if other else ()


def _estimates(shift: FeatureShift) -> tuple[Estimate, ...]:
    """MMD² of each contrast in the layer where it stands out most against chance, over all bundles."""
    made: list[Estimate] = []
    for contrast in CONTRASTS:
        rows = shift.pooled(contrast).sort_values(["p_adjusted", "p_value", "value"], ascending=[True, True, False])
        for row in rows.head(1).to_dict("records"):
            given: dict[str, Any] = {key: row[key] for key in ("value", "low", "high", "p_value", "p_adjusted")}
            name, level = f"{contrast} ({row['layer']})", shift.inference.level
            n, status = int(row["n_target"]), str(row["status"])
            made.append(Estimate(name=name, **given, level=level, unit="MMD²", n=n, status=status))
    return tuple(made)


def _evaluate(
    numbered: tuple[int, Cell],
    roster: Roster,
    labels: Mapping[str, NDArray[np.bool_]],
    statistics: Sequence[str],
    inference: Inference,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the table for one cell, with their ``null``, and what carries it; see `adjusted`."""
    number, cell = numbered
    people = cell.people
    patients, controls = int(roster.patient[people].sum()), int((~roster.patient[people]).sum())
    base: dict[str, Any] = {
        **{name: getattr(cell, name) for name in ("layer", "bundle", "hemisphere", "region", "contrast", "status")},
        "n_source": patients if cell.contrast == "tumor" else controls,
        "n_target": patients,
        **dict.fromkeys(("value", "low", "high", "p_value", "p_adjusted", "by_chance"), float("nan")),
    }
    if cell.sample is None or cell.status not in (Status.OK, Status.EXPLORATORY):
        return [{**base, "statistic": name} for name in statistics], []
    person = cell.sample.person
    target = labels[cell.contrast][person].astype(float)
    if cell.sample.ipsi is not None:
        # Labels say whose sides change places; a patient's two observations have opposite ones.
        target = np.where(cell.sample.ipsi[:, None], 1 - target, target)
    # Both observations of a participant are left out together, a column a participant.
    left_out = (person[:, None] != people).astype(float)
    group = np.zeros(len(people)) if cell.contrast == "tumor" else roster.patient[people]
    rows: list[dict[str, Any]] = []
    prepared = evaluators(cell.sample.features, person, inference.generator(number), statistics)
    for name in statistics:
        values = prepared[name](1 - target, target)
        jackknife = prepared[name]((1 - target[:, :1]) * left_out, target[:, :1] * left_out)
        low, high = jackknife_interval(float(values[0]), jackknife, group, inference.level)
        low, high = np.clip([low, high], *RANGES.get(name, (-np.inf, np.inf)))
        given = {"value": values[0], "low": low, "high": high, "p_value": p_value(float(values[0]), values[1:])}
        null = {"by_chance": float(np.nanmean(values[1:])), "null": standardized(values)}
        rows.append({**base, **given, **null, "statistic": name})
    pooled = cell.bundle == "all" and cell.region == "reference" and cell.contrast != "total"
    return rows, _directions(cell, cell.sample.features, target) if pooled else []


def adjusted(rows: Sequence[Mapping[str, Any]], *family: str) -> pd.DataFrame:
    """A table with ``p_adjusted`` by max-T over the rows that agree in the columns of the family.

    The ``null`` of a row holds its observed and permuted values in comparable units; rows without one stay as they are.
    """
    table = pd.DataFrame([{name: value for name, value in row.items() if name != "null"} for row in rows])
    families: dict[tuple[Any, ...], list[int]] = {}
    for number, row in enumerate(rows):
        if "null" in row:
            families.setdefault(tuple(row[name] for name in family), []).append(number)
    for members in families.values():
        table.loc[members, "p_adjusted"] = max_t(np.stack([rows[number]["null"] for number in members]))
    return table


def _directions(cell: Cell, features: Array, target: Array) -> list[dict[str, Any]]:
    """Rows of `shiftkit.catalogue.DIRECTIONS`: the channels of one comparison that move most.

    Differences of means are in units of the channel's spread, shares are of the squared length of all channels'
    differences, and p-values are adjusted over the layer's channels.
    """
    moved = features.T @ (target / target.sum(axis=0) - (1 - target) / (1 - target).sum(axis=0))
    spread = moved[:, 1:].std(axis=1, keepdims=True)
    against_chance = np.abs(np.divide(moved, spread, out=np.zeros_like(moved), where=spread > 0))
    largest = against_chance[:, 1:].max(axis=0)
    length = float((moved[:, 0] ** 2).sum())
    order = np.argsort(-np.abs(moved[:, 0]), kind="stable")[:_TOP]
    return [
        {
            "layer": cell.layer,
            "contrast": cell.contrast,
            "channel": int(channel) + 1,
            "difference": float(moved[channel, 0]),
            "share": float(moved[channel, 0] ** 2) / length if length > 0 else 0.0,
            "p_adjusted": p_value(float(against_chance[channel, 0]), largest),
            "status": cell.status,
        }
        for channel in order
    ]
