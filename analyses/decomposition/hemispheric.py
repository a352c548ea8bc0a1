"""The model-free estimator: contralesional against ipsilesional, less the controls' own left/right contrast."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .rows import Rows

Array = NDArray[np.float64]
COMPONENTS = ("total", "systematic", "tumor")
ESTIMANDS = {
    "total": "drop of ipsilesional bundles",
    "systematic": "drop of contralesional bundles",
    "tumor": "ipsilesional less contralesional drop",
}
"""What these are here: not the components of all of the patients' bundles."""


def hemispheric(rows: Rows, weights: Array) -> tuple[Array, Array, int]:
    """Difference in differences between hemispheres.

    For a patient with a tumor on one side and a bundle scored in both hemispheres, the tumor part is the
    contralesional less the ipsilesional value, less the same left/right contrast in controls; the systematic part is
    what the contralesional value lies under the controls' in that hemisphere. It needs no model of the distance, and
    counts as systematic whatever the tumor does to the other hemisphere.

    Parameters
    ----------
    rows : Rows
        Patients and controls; patients need ``tumor_side`` left or right.
    weights : ndarray, shape (B, people)
        Bootstrap weights.

    Returns
    -------
    values : ndarray, shape (3,)
        Total, systematic, tumor; positive means worse in patients. NaN without a usable patient or control.
    draws : ndarray, shape (B, 3)
        The same in each resampled cohort.
    n : int
        Patients used.
    """
    table = np.full((len(rows.people), len(rows.levels)), np.nan)
    table[rows.person, rows.level] = rows.sign * rows.outcome
    side = _sides(rows)
    index = {pair: position for position, pair in enumerate(rows.levels)}
    paired = [name for name, hemisphere in rows.levels if hemisphere == "left" and (name, "right") in index]
    left = np.array([index[name, "left"] for name in paired], dtype=int)
    right = np.array([index[name, "right"] for name in paired], dtype=int)
    patients, controls = table[: rows.n_patients], table[rows.n_patients :]
    is_left = (side == "left")[:, None]
    ipsi = np.where(is_left, patients[:, left], patients[:, right])
    contra = np.where(is_left, patients[:, right], patients[:, left])
    usable = np.isfinite(ipsi) & np.isfinite(contra) & np.isin(side, ["left", "right"])[:, None]
    used = np.asarray(usable.any(axis=1))
    if not used.any() or not len(controls) or not paired:
        return np.full(3, np.nan), np.full((len(weights), 3), np.nan), 0
    all_weights = np.vstack([np.ones(len(rows.people)), weights])
    healthy_left = _means(controls[:, left], all_weights[:, rows.n_patients :])
    healthy_right = _means(controls[:, right], all_weights[:, rows.n_patients :])
    pairs = _Pairs(ipsi=ipsi[used], contra=contra[used], usable=usable[used], is_left=is_left[used])
    weight = all_weights[:, : rows.n_patients][:, used]
    drawn = range(0, len(weight), _CHUNK)
    out = [pairs.parts(*(one[at : at + _CHUNK] for one in (weight, healthy_left, healthy_right))) for at in drawn]
    whole = np.concatenate(out)
    return whole[0], whole[1:], int(used.sum())


_CHUNK = 256
"""Draws at once, for all patients and bundles."""


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Scores of patients' bundles on both sides, shape (people, K) each, and which of them count."""

    ipsi: Array
    contra: Array
    usable: NDArray[np.bool_]
    is_left: NDArray[np.bool_]

    def parts(self, weight: Array, healthy_left: Array, healthy_right: Array) -> Array:
        """Total, systematic and tumor, shape (draws, 3), from weights and controls' means of each draw."""
        left, right = healthy_left[:, None], healthy_right[:, None]
        healthy_ipsi = np.where(self.is_left, left, right)
        healthy_contra = np.where(self.is_left, right, left)
        tumor = (self.contra - self.ipsi) - (healthy_contra - healthy_ipsi)
        systematic = healthy_contra - self.contra
        known = self.usable & np.isfinite(tumor)
        counts = known.sum(axis=2)
        share = weight * (counts > 0)
        total = share.sum(axis=1)
        means = [np.where(known, part, 0.0).sum(axis=2) / np.maximum(counts, 1) for part in (systematic, tumor)]
        sums = [(mean * share).sum(axis=1) for mean in means]
        far, near = (np.divide(one, total, out=np.full(len(total), np.nan), where=total != 0) for one in sums)
        return np.stack([far + near, far, near], axis=1)


def _means(values: Array, weights: Array) -> Array:
    """Weighted mean of each column over those who have it, one row a draw."""
    known = np.isfinite(values)
    total = weights @ np.where(known, values, 0.0)
    mass = weights @ known.astype(float)
    return np.divide(total, mass, out=np.full_like(total, np.nan), where=mass > 0)


def _sides(rows: Rows) -> NDArray[np.str_]:
    if "tumor_side" not in rows.frame:
        return np.full(rows.n_patients, "n/a")
    first = rows.frame[rows.patient].drop_duplicates("participant_id").set_index("participant_id")
    return first["tumor_side"].reindex(list(rows.people[: rows.n_patients])).to_numpy(dtype=str)
