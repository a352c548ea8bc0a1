"""The third estimator: errors by distance to the tumor, against healthy errors at the same place along the bundle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ....catalogue import DECOMPOSITION, SHELLS
from ....errors import ConfigError, DataError
from ....status import Status
from ....types import Bundle, Cohort, Predictions
from ...scoring.predictions import find_predictions
from ...statistics.inference import EXPLORATORY_BELOW, Inference, interval, status_of
from .counts import ErrorCounts
from .findings import ShellResult, told
from .model import COMPONENTS, METRICS, RATES, Draws, ShellModel

EDGES_MM = (0.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, float("inf"))
_GIVEN = (Status.OK, Status.EXPLORATORY)
_RISE = 0.02  # of an error rate, within the far field: what would matter
_CHUNK = 50  # draws at a time: what bounds the memory


def shells(
    patients: ErrorCounts,
    controls: ErrorCounts,
    names: tuple[str, str],
    *,
    edges_mm: Sequence[float] = EDGES_MM,
    plateau_mm: float = 40.0,
    inference: Inference = Inference(),
) -> ShellResult:
    """Split the patients' errors by distance to the tumor.

    Parameters
    ----------
    patients, controls : ErrorCounts
        Of the same bundles and sections; see `shiftkit.analyses.decomposition.reading.read_once`. Controls are
        participants that the model has not seen.
    names : tuple of str
        Model and modality.
    edges_mm : sequence of float
        Edges of the patients' shells, in mm from the edge of the tumor mask; from 0 to infinity, increasing. The
        tumor's own voxels belong to the first shell.
    plateau_mm : float
        Shells that begin here or farther out make the plateau; one of the edges.
    inference : Inference
        Draws, level and seed of the bootstrap.

    Raises
    ------
    ConfigError
        If the edges are not increasing from 0 to infinity, or the plateau does not begin at one of them.
    DataError
        If fewer than two controls have predictions.

    Notes
    -----
    Two error rates are taken voxel by voxel: *fn*, the missed share of the reference, and *fp*, the false share of the
    prediction. In each shell the rate expected of healthy people *at the same places* is subtracted: each voxel's
    place is its section along the bundle, and each section has the controls' rate, so that a shell which happens to
    hold the thin end of a bundle is not blamed on the tumor.

    Beyond ``plateau_mm`` the excess is systematic; what an error rate has above the far-field rate of the *same
    section* (of patients whose tumor is elsewhere) is the tumor's doing. On the Dice scale both are counterfactuals:
    each patient's masks are given the far-field rates (no tumor effect), or the healthy ones (neither shift), and Dice
    is computed again as the harmonic mean of sensitivity and precision. As Dice is concave in the rates, rates
    averaged over people give a slightly higher Dice than the people have; the gap is measured on the controls, and
    on bundles that are wholly far, and taken off. Rows are averaged within, then across patients, as the regression's
    components are, and total = systematic + tumor exactly.

    Weights: a voxel counts by its share of its participant's bundle and every participant counts alike, see
    `shiftkit.analyses.decomposition.shells.model`. Participants are resampled, patients and controls apart.

    **What the reference does not show.** Where a tumor has destroyed a bundle the reference mask has no voxels left,
    so near the core *fn* speaks only of the fibers that a rater could still draw, and those are the better
    preserved ones. The network that goes on drawing the bundle there is counted under *fp*: in the innermost shells
    the two rates must be read together, and the counterfactual Dice is that of the reference as it is, with
    its destroyed part gone in all three states. Loss of the bundle itself is not a segmentation error and is in
    no component.

    The split is withheld (``split_withheld``) where fewer than two patients, or a tenth of them, have voxels beyond
    ``plateau_mm``, and where the innermost plateau shell lies above the others by more than 0.02 even at the lower end
    of its interval, for then the effect reaches into the plateau and would be booked as systematic.
    """
    edges_mm = _check_edges(edges_mm, plateau_mm)
    n = len(patients.participants), len(controls.participants)
    if n[1] < 2:
        raise DataError(
            f"Healthy error rates need at least 2 controls with predictions; there are {n[1]}. Predict more controls "
            "that the model has not seen."
        )
    far = np.asarray(edges_mm[:-1]) >= plateau_mm
    labels = ("all", *dict.fromkeys(bundle.name for bundle in patients.bundles))
    groups = np.array([[label in ("all", bundle.name) for bundle in patients.bundles] for label in labels])
    if n[0]:
        model = ShellModel(patients=patients, controls=controls, far=far, groups=groups)
        point = model.evaluate(np.ones((1, n[0])), np.ones((1, n[1])))
        draws = _bootstrap(model, n, inference)
    else:
        point = draws = _nothing(len(labels), len(far))
    made = _Table(names=names, labels=labels, groups=groups, patients=patients, n_controls=n[1], level=inference.level)
    result = ShellResult(
        table=made.shells(point, draws, edges_mm),
        components=made.components(point, draws, _is_withheld(patients, n[1], far, draws, inference.level)),
        level=inference.level,
        plateau_mm=plateau_mm,
        skipped=tuple(f"{key}: {reason}" for key, reason in {**patients.skipped, **controls.skipped}.items()),
    )
    return told(result)


def _bootstrap(model: ShellModel, n: tuple[int, int], inference: Inference) -> Draws:
    """Resample patients and controls, each within their group."""
    weights = inference.weights(n)
    parts = [
        model.evaluate(weights[start : start + _CHUNK, : n[0]], weights[start : start + _CHUNK, n[0] :])
        for start in range(0, inference.n_bootstrap, _CHUNK)
    ]
    return Draws(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _nothing(n_groups: int, n_shells: int) -> Draws:
    shapes = (n_groups, len(RATES), 3, n_shells), (n_groups, len(METRICS), len(COMPONENTS)), (len(RATES),)
    return Draws(*(np.full((1, *shape), np.nan) for shape in shapes))


def _is_withheld(patients: ErrorCounts, n_controls: int, far: NDArray[np.bool_], draws: Draws, level: float) -> bool:
    """Whether the far field is not observed, or is no plateau."""
    # With hardly anybody out there, the plateau would be that of one or two brains.
    n_far = int((patients.reference[:, :, far].sum(axis=(1, 2, 3)) > 0).sum())
    if n_far < max(2, 0.1 * len(patients.participants)):
        return True
    shared = 1 - (1 - level) / len(RATES)  # Bonferroni: one level for both rates together
    n = min(len(patients.participants), n_controls)
    return any(interval(slope, shared, n)[0] > _RISE for slope in draws.slope.T)


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Turns draws into rows of the tables."""

    names: tuple[str, str]
    labels: tuple[str, ...]
    groups: NDArray[np.bool_]
    patients: ErrorCounts
    n_controls: int
    level: float

    def shells(self, point: Draws, draws: Draws, edges_mm: Sequence[float]) -> pd.DataFrame:
        """One row a group of bundles, rate and shell."""
        rows: list[dict[str, Any]] = []
        for g, r, k in np.ndindex(len(self.labels), len(RATES), len(edges_mm) - 1):
            voxels = self.patients.of(RATES[r])[1][:, self.groups[g], k]
            observed, baseline, _ = point.shells[0, g, r, :, k]
            row = self._row(g, voxels, "excess", point.shells[0, g, r, 2, k], draws.shells[:, g, r, 2, k])
            given = row["status"] in _GIVEN
            row |= {"observed": observed if given else np.nan, "baseline": baseline if given else np.nan}
            rows.append(row | {"rate": RATES[r], "shell_low_mm": edges_mm[k], "shell_high_mm": edges_mm[k + 1]})
        return pd.DataFrame(rows)[list(SHELLS.columns)]

    def components(self, point: Draws, draws: Draws, withheld: bool) -> pd.DataFrame:
        """One row a group of bundles, metric and component."""
        common = {"stratum": "all", "hemisphere": "all", "method": "shell", "level": self.level, "word": "n/a"}
        common["estimand"] = "Dice implied by voxels' error rates"
        common |= dict.fromkeys(("p_value", "p_adjusted", "bound_low", "bound_high"), np.nan)
        rows: list[dict[str, Any]] = []
        for g, m, c in np.ndindex(len(self.labels), len(METRICS), len(COMPONENTS)):
            voxels = self.patients.reference[:, self.groups[g]].sum(axis=1)
            hidden = withheld and COMPONENTS[c] in ("systematic", "tumor")
            value, drawn = point.components[0, g, m, c], draws.components[:, g, m, c]
            row = self._row(g, voxels, "estimate", value, drawn, hidden)
            if row["status"] == Status.OK and COMPONENTS[c] == "tumor" and row["low"] <= 0:
                row["status"] = Status.NO_TUMOR_EFFECT_SHOWN
            row |= {"metric": METRICS[m], "component": COMPONENTS[c], "n_controls": self.n_controls}
            row["exploratory"] = "yes" if row["n_patients"] < EXPLORATORY_BELOW else "no"
            rows.append(row | common)
        return pd.DataFrame(rows)[list(DECOMPOSITION.columns)]

    def _row(
        self, group: int, voxels: NDArray[np.float64], name: str, value: float, draws: NDArray[np.float64],
        withheld: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """A value with its interval, where enough patients have voxels."""
        n_patients = int((voxels.sum(axis=(1, 2)) > 0).sum())
        status = status_of(n_patients, fewest=2) if n_patients else Status.UNAVAILABLE
        if withheld and status != Status.UNAVAILABLE:
            status = Status.SPLIT_WITHHELD
        given = status in _GIVEN  # a number without a word that vouches for it is not shown
        low, high = interval(draws, self.level, min(n_patients, self.n_controls)) if given else (np.nan, np.nan)
        return {
            "model": self.names[0],
            "modality": self.names[1],
            "bundle": self.labels[group],
            name: float(value) if given else np.nan,
            "low": low,
            "high": high,
            "n_patients": n_patients,
            "status": status,
        }


def _check_edges(edges_mm: Sequence[float], plateau_mm: float) -> tuple[float, ...]:
    edges = tuple(float(edge) for edge in edges_mm)
    if len(edges) < 3 or edges[0] != 0 or np.isfinite(edges[-1]) or not bool((np.diff(edges) > 0).all()):
        raise ConfigError(f"Shell edges must increase from 0 to infinity, at least three of them; got {edges}.")
    if plateau_mm not in edges[1:-1]:
        raise ConfigError(f"The plateau must begin at one of the inner edges {edges[1:-1]}; got {plateau_mm:g} mm.")
    return edges


def common_bundles(
    patients: Cohort, controls: Cohort, predictions: Predictions, reference_predictions: Predictions
) -> tuple[Bundle, ...]:
    """Bundles that patients and at least two controls have, and that the model predicts in both."""
    predicted = [find_predictions(each).bundles for each in (predictions, reference_predictions)]
    common = sorted(predicted[0].intersection(predicted[1], patients.bundles))
    found = tuple(bundle for bundle in common if sum(bundle in case.masks for case in controls) >= 2)
    if not found:
        parts = (patients.bundles, controls.bundles, *predicted)
        listed = [" ".join(sorted(bundle.label for bundle in each)) or "none" for each in parts]
        raise DataError(
            "Shells need a bundle that the patients and at least 2 controls have and that the model predicts in both; "
            f"patients have {listed[0]}, controls {listed[1]}, predictions {listed[2]} and {listed[3]}. Check the "
            "labels in the file names, and the group column."
        )
    return found
