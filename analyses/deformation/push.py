"""How far tumors push bundles, estimated over a cohort without earlier scans.

The length of a displacement adds up individual anatomy and the tumor's push, and anatomy is the larger. Its pattern
tells them apart: tissue around a growing tumor moves away from it, more the nearer it is, and people's anatomy does not
know where a tumor will grow. So displacements are compared with the pattern that each patient's tumor would make, and
so are the controls', as if they had that tumor; what patients have more of it is the push.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...results import Estimate
from ...status import Status
from ..statistics.inference import FEWEST, Inference, status_of
from .registration import Array

NAME = "tumors' mean push"
_FADING = 2.0  # around a growing ball an incompressible medium moves by the inverse square of the distance


@dataclass(frozen=True, kw_only=True)
class Push:
    """How much of the tumor's pattern there is in displacements, a row a patient's bundle on the tumor's side.

    ``pattern_mm`` and ``squared`` are the pattern's mean length along the bundle and its mean square. ``patients`` has
    the mean product of the patient's displacement and the pattern in mm², ``controls``, shape (rows, controls), that of
    each control, as if the control had the row's tumor: NaN for a control without the bundle.
    """

    who: tuple[str, ...]
    pattern_mm: Array
    squared: Array
    patients: Array
    controls: Array

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], skeletons_mm: Mapping[tuple[str, str], Array]) -> "Push":
        """Take the rows of a deformation's tasks, and the templates' skeletons by bundle and hemisphere.

        Rows without ``shift_mm`` do not count, nor those of patients without ``tumor``: its center and radius in mm.
        """
        given = [(row, (str(row["bundle"]), str(row["hemisphere"]))) for row in rows if "shift_mm" in row]
        healthy = [(str(row["participant_id"]), place, row) for row, place in given if row["group"] == "control"]
        names = sorted({name for name, _, _ in healthy})
        others = {place: np.full((len(names), *points.shape), np.nan) for place, points in skeletons_mm.items()}
        for name, place, row in healthy:
            others[place][names.index(name)] = _shift(row)
        made: list[tuple[str, float, float, float, Array]] = []
        for row, place in given:
            if row["group"] != "glioma" or "tumor" not in row or row["side"] != "ipsi":
                continue
            *center, radius = row["tumor"]
            pattern = pattern_of(skeletons_mm[place], np.array(center), float(radius))
            length = float(np.linalg.norm(pattern, axis=1).mean())
            own, same = (_mean_product(shifts, pattern) for shifts in (_shift(row), others[place]))
            made.append((str(row["participant_id"]), length, float(_mean_product(pattern, pattern)), float(own), same))
        who, pattern_mm, squared, patients, controls = zip(*made, strict=True) if made else ((),) * 5
        return cls(
            who=tuple(who),
            pattern_mm=np.array(pattern_mm, dtype=np.float64),
            squared=np.array(squared, dtype=np.float64),
            patients=np.array(patients, dtype=np.float64),
            controls=np.array(controls, dtype=np.float64).reshape(len(made), len(names)),
        )

    def estimate(self, inference: Inference = Inference()) -> Estimate:
        """Mean length of the pattern over patients, times how much of it they have more than controls.

        One amplitude is fitted to all patients by least squares; expanded percentile bootstrap over patients and
        controls. Not given with fewer than five patients or controls, exploratory with fewer than 20 patients.
        """
        people = sorted(set(self.who))
        n, m = len(people), self.controls.shape[1]
        what: dict[str, Any] = {"name": NAME, "unit": "mm", "n": n, "level": inference.level}
        if min(n, m) < FEWEST:
            return Estimate(**what, value=float("nan"), status=Status.TOO_FEW)
        drawn = np.concatenate([np.ones((1, n + m)), inference.weights((n, m))])
        # Row 0 of the draws is the sample itself; each draw takes the controls' mean over those who have the bundle.
        there = np.isfinite(self.controls)
        total = np.maximum(drawn[:, n:] @ there.T, 1e-12)
        more = self.patients - drawn[:, n:] @ np.nan_to_num(self.controls).T / total
        weight = drawn[:, [people.index(name) for name in self.who]]
        amplitude = (weight * more).sum(axis=1) / np.maximum(weight @ self.squared, 1e-12)
        # Patients count alike, however many of their bundles lie on the tumor's side.
        count = np.array([self.who.count(name) for name in self.who])
        pushed = amplitude * (weight @ (self.pattern_mm / count)) / n
        low, high = inference.interval(pushed[1:], min(n, m))
        return Estimate(**what, value=float(pushed[0]), low=low, high=high, status=status_of(n))


def pattern_of(skeleton_mm: Array, center_mm: Array, radius_mm: float, fading: float = _FADING) -> Array:
    r"""What a mask would show of a tumor's push along a bundle, for a push of the tumor's radius at its surface.

    :math:`r\,\min(1, (r/d)^2)` away from the center, where :math:`r` is the radius of the ball of the tumor's volume,
    :math:`d` the distance and 2 the ``fading``; less what is along the bundle, which its mask does not show, and less
    the rigid motion that fits it best, which is position. In world mm, shape (32, 3), as the skeleton.

    References
    ----------
    Hogea C, Davatzikos C, Biros G. J Math Biol 56:793 (2008), doi 10.1007/s00285-007-0139-x.

    Examples
    --------
    >>> points = np.stack([np.zeros(32), np.linspace(-40, 40, 32), np.zeros(32)], axis=1)
    >>> pattern = pattern_of(points, np.array([-20.0, 0.0, 0.0]), 15.0)
    >>> bool(pattern[16, 0] > 0 > pattern[0, 0])  # pushed away in the middle, against the whole
    True
    """
    along = np.gradient(skeleton_mm, axis=0)
    along = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)

    # A mask looks the same however it slides along itself: only what is across shows.
    def across(vectors: Array) -> Array:
        return vectors - (vectors * along).sum(axis=1, keepdims=True) * along

    way = skeleton_mm - center_mm
    distance = np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
    push = across(way / distance * radius_mm * np.minimum((radius_mm / distance) ** fading, 1.0))
    around = skeleton_mm - skeleton_mm.mean(axis=0)
    # Three shifts and three small turns, which the rigid part of a measurement has taken already.
    motions = [
        *(np.tile(axis, (len(around), 1)) for axis in np.eye(3)),
        *(np.asarray(np.cross(axis, around), dtype=np.float64) for axis in np.eye(3)),
    ]
    basis = np.stack([across(motion).ravel() for motion in motions], axis=1)
    fit: Any = np.linalg.lstsq(basis, push.ravel(), rcond=None)
    return push - (basis @ fit[0]).reshape(push.shape)


def _shift(row: Mapping[str, Any]) -> Array:
    """Points without a displacement, where nothing of a bundle is left, have none of the pattern."""
    return np.nan_to_num(np.asarray(row["shift_mm"], dtype=np.float64))


def _mean_product(shifts_mm: Array, pattern: Array) -> Array:
    """Over the points, shape (..., 32, 3); shape (...)."""
    return (shifts_mm * pattern).sum(axis=-1).mean(axis=-1)
