r"""The arithmetic of the shell estimator: from error counts to rates, counterfactuals and components.

Everything is a function of participant weights, so that the estimate (weights 1), the bootstrap (weights drawn) and
the jackknife (one weight 0) are the same few lines.

For a bundle :math:`b` in one hemisphere and a section :math:`s` of it, three rates of the same error are compared:

- :math:`h_{bs}`, that of controls (neither shift);
- :math:`f_{bs}`, that of patients far from their tumor (systematic shift alone);
- :math:`o_i`, that of patient :math:`i` as observed (both).

Within a participant, a voxel weighs by its share of the participant's bundle; participants weigh alike:
:math:`h_{bs} = \sum_i (e_{ibs}/n_{ib}) \,/ \sum_i (n_{ibs}/n_{ib})`. Voxels are what the masks are made of and make
thin shells and sections count for little, but voxels of one brain are not independent, so a large bundle must not
outvote a small one. With these weights the profile reproduces the controls' mean error rate exactly.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .counts import ErrorCounts

Array = NDArray[np.float64]
RATES = ("fn", "fp")
COMPONENTS = ("total", "systematic", "tumor", "residual", "raw")
METRICS = ("dice", "fn_rate", "fp_rate")
FEW = 5  # patients below which a section has no far-field rate of its own


@dataclass(frozen=True, kw_only=True)
class ShellModel:
    """Counts of patients and controls, and what is asked of them.

    Parameters
    ----------
    patients, controls : ErrorCounts
        Of the same bundles and sections; controls have a single shell.
    far : ndarray of bool, shape (shells,)
        The shells that make the plateau.
    groups : ndarray of bool, shape (groups, bundles)
        Bundles that are pooled: all of them first.
    """

    patients: ErrorCounts
    controls: ErrorCounts
    far: NDArray[np.bool_]
    groups: NDArray[np.bool_]

    def evaluate(self, patients: Array, controls: Array) -> "Draws":
        """Rates and components under weights, 0 or more, of shapes (draws, patients) and (draws, controls)."""
        healthy = {rate: self._healthy(rate, controls) for rate in RATES}
        far = {rate: self._far(rate, patients, healthy[rate]) for rate in RATES}
        shells = np.stack([self._shells(rate, patients, healthy[rate]) for rate in RATES], axis=2)
        rates = (self._rate(rate, patients, controls, healthy[rate], far[rate]) for rate in RATES)
        components = np.stack([self._dice(patients, controls, healthy, far), *rates], axis=2)
        slope = np.stack([self._slope(rate, patients, far[rate]) for rate in RATES], axis=1)
        return Draws(shells=shells, components=components, slope=slope)

    def _healthy(self, rate: str, weights: Array) -> Array:
        """Controls' rate by section, shape (draws, bundles, sections); a section without voxels takes the bundle's."""
        errors, voxels = (counts.sum(axis=2) for counts in _shares(*self.controls.of(rate)))
        top, bottom = _weigh(weights, errors), _weigh(weights, voxels)
        whole = _ratio(top.sum(axis=2, keepdims=True), bottom.sum(axis=2, keepdims=True))
        return np.where(bottom > 0, _ratio(top, bottom), np.nan_to_num(whole))

    def _far(self, rate: str, weights: Array, healthy: Array) -> Array:
        """Patients' far-field rate by section.

        Where fewer than `FEW` patients have far voxels, the healthy rate plus the bundle's far-field excess, or
        where the bundle has none, plus that of all bundles.
        """
        errors, voxels = (counts[:, :, self.far].sum(axis=2) for counts in _shares(*self.patients.of(rate)))
        top, bottom = _weigh(weights, errors), _weigh(weights, voxels)
        beyond = (top - bottom * healthy).sum(axis=2, keepdims=True)
        voxels_b = bottom.sum(axis=2, keepdims=True)
        pooled = _ratio(beyond.sum(axis=1, keepdims=True), voxels_b.sum(axis=1, keepdims=True))
        # Who counts as having far voxels does not depend on the weights, or sections would change sides between draws.
        own = ((voxels.sum(axis=2) > 0).sum(axis=0) >= FEW)[:, None] & (voxels_b > 0)
        excess = np.where(own, _ratio(beyond, voxels_b), np.nan_to_num(pooled))
        observed = ((voxels > 0).sum(axis=0) >= FEW) & (bottom > 0)
        return np.clip(np.where(observed, _ratio(top, bottom), healthy + excess), 0.0, 1.0)

    def _shells(self, rate: str, weights: Array, healthy: Array) -> Array:
        """Observed rate, baseline and excess, shape (draws, groups, 3, shells)."""
        errors, voxels = self.patients.of(rate)
        # Errors that healthy rates would make of these very voxels, so that thin ends are not the tumor's.
        expected = np.einsum("dbs,ibks->dbik", healthy, voxels, optimize=True)
        rows: list[Array] = []
        for group in self.groups:
            inside = voxels[:, group].sum(axis=(1, 3))
            observed = _ratio(errors[:, group].sum(axis=(1, 3)), inside)
            baseline = _ratio(expected[:, group].sum(axis=1), inside)
            there = (inside > 0).astype(float)
            people = weights @ there
            seen = _ratio(weights @ np.nan_to_num(observed), people)
            same = _ratio(np.einsum("di,dik->dk", weights, np.nan_to_num(baseline)), people)
            rows.append(np.stack([seen, same, seen - same], axis=1))
        return np.stack(rows, axis=1)

    def _slope(self, rate: str, weights: Array, far: Array) -> Array:
        """How much the innermost far shell lies above the others, all bundles together, shape (draws,)."""
        errors, voxels = self.patients.of(rate)
        expected = np.einsum("dbs,ibks->dik", far, voxels, optimize=True)
        beyond, inside = errors.sum(axis=(1, 3)) - expected, voxels.sum(axis=(1, 3))
        first = int(np.argmax(self.far))
        parts = [slice(first, first + 1), slice(first + 1, None)]
        near, rest = (
            _average(weights, _ratio(beyond[:, :, part].sum(axis=2), inside[:, part].sum(axis=1))) for part in parts
        )
        return near - rest

    def _dice(self, patients: Array, controls: Array, healthy: dict[str, Array], far: dict[str, Array]) -> Array:
        """Components on the Dice scale, shape (draws, groups, components); see `shells`."""
        observed, observed_c = _dice(self.patients), _dice(self.controls)
        without = _harmonic(*(_expected(self.patients, rate, healthy[rate]) for rate in RATES))
        systematic = _harmonic(*(_expected(self.patients, rate, far[rate]) for rate in RATES))
        modeled_c = _harmonic(*(_expected(self.controls, rate, healthy[rate]) for rate in RATES))
        reference = self.patients.reference
        wholly_far = (reference[:, :, ~self.far].sum(axis=(2, 3)) == 0) & (reference.sum(axis=(2, 3)) > 0)
        rows: list[Array] = []
        for group in self.groups:
            # Jensen's gap between Dice of mean rates and mean Dice, seen where both are known.
            offset = _row_mean(observed_c - modeled_c, controls, group)
            far_rows = np.where(wholly_far, observed, np.nan)
            offset_far = _row_mean(far_rows - systematic, patients, group)
            offset_far = np.where(np.isfinite(offset_far), offset_far, offset)
            rows.append(
                _components(
                    none=_row_mean(without, patients, group) + offset,
                    systematic=_row_mean(systematic, patients, group) + offset_far,
                    both=_row_mean(observed, patients, group),
                    controls=_row_mean(observed_c, controls, group),
                    sign=-1.0,
                )
            )
        return np.stack(rows, axis=1)

    def _rate(self, rate: str, patients: Array, controls: Array, healthy: Array, far: Array) -> Array:
        """Components on the scale of an error rate, shape (draws, groups, components)."""
        observed, observed_c = (
            _ratio(*(each.sum(axis=(2, 3)) for each in counts.of(rate))) for counts in (self.patients, self.controls)
        )
        gone = np.where(np.isfinite(observed), 0.0, np.nan)  # the same rows in all three states
        without = _expected(self.patients, rate, healthy) + gone
        systematic = _expected(self.patients, rate, far) + gone
        return np.stack(
            [
                _components(
                    none=_row_mean(without, patients, group),
                    systematic=_row_mean(systematic, patients, group),
                    both=_row_mean(observed, patients, group),
                    controls=_row_mean(observed_c, controls, group),
                )
                for group in self.groups
            ],
            axis=1,
        )


class Draws(NamedTuple):
    """What `ShellModel.evaluate` returns, one entry a draw.

    Parameters
    ----------
    shells : ndarray, shape (draws, groups, rates, 3, shells)
        Observed rate, baseline and excess.
    components : ndarray, shape (draws, groups, metrics, components)
        In the order of `METRICS` and `COMPONENTS`.
    slope : ndarray, shape (draws, rates)
        Excess of the innermost far shell over the other far shells.
    """

    shells: Array
    components: Array
    slope: Array


def _components(*, none: Array, systematic: Array, both: Array, controls: Array, sign: float = 1.0) -> Array:
    total, raw = sign * (both - none), sign * (both - controls)
    return np.stack([total, sign * (systematic - none), sign * (both - systematic), raw - total, raw], axis=1)


def _dice(counts: ErrorCounts) -> Array:
    reference, predicted = counts.reference.sum(axis=(2, 3)), counts.predicted.sum(axis=(2, 3))
    hits = reference - counts.missed.sum(axis=(2, 3))
    return np.where(reference > 0, _ratio(2 * hits, reference + predicted), np.nan)


def _expected(counts: ErrorCounts, rate: str, profile: Array) -> Array:
    """Mean of a profile over a participant's voxels, shape (draws, participants, bundles).

    A missed bundle has no predicted voxels: where its false ones would have been is told from the reference.
    """
    reference, voxels = counts.reference.sum(axis=2), counts.of(rate)[1].sum(axis=2)
    empty = voxels.sum(axis=2, keepdims=True) == 0
    weights = np.where(empty, reference, voxels)
    return np.einsum("dbs,ibs->dib", profile, _ratio(weights, weights.sum(axis=2, keepdims=True)), optimize=True)


def _harmonic(missed: Array, false: Array) -> Array:
    """Dice from the two rates: the harmonic mean of sensitivity and precision."""
    sensitivity, precision = 1 - missed, 1 - false
    return 2 * sensitivity * precision / np.where(sensitivity + precision == 0, 1.0, sensitivity + precision)


def _shares(errors: Array, voxels: Array) -> tuple[Array, Array]:
    """Counts as shares of the participant's bundle."""
    whole = voxels.sum(axis=(2, 3), keepdims=True)
    return np.nan_to_num(_ratio(errors, whole)), np.nan_to_num(_ratio(voxels, whole))


def _weigh(weights: Array, values: Array) -> Array:
    return np.tensordot(weights, values, axes=(1, 0))


def _ratio(top: Array, bottom: Array) -> Array:
    """The quotient, NaN where there is nothing to divide by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom > 0, top / bottom, np.nan)


def _average(weights: Array, values: Array) -> Array:
    """Weighted mean over participants of values of shape (draws, participants), NaN left out."""
    there = np.isfinite(values)
    return _ratio((weights * np.where(there, values, 0.0)).sum(axis=1), (weights * there).sum(axis=1))


def _row_mean(values: Array, weights: Array, group: NDArray[np.bool_]) -> Array:
    """Mean over the bundles of a group, then over participants; values of shape ([draws,] participants, bundles)."""
    chosen = values[..., group]
    there = np.isfinite(chosen)
    people = _ratio(np.where(there, chosen, 0.0).sum(axis=-1), there.sum(axis=-1).astype(float))
    return _average(weights, np.broadcast_to(people, weights.shape))
