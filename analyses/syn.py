"""DIPY's symmetric diffeomorphic registration, with steps as long as the images ask for and a weight on the cost."""

# DIPY carries no types.
# pyright: reportUntypedBaseClass=false, reportMissingSuperCall=false, reportIncompatibleVariableOverride=false

from typing import Any

import numpy as np
from dipy.align import VerbosityLevels
from dipy.align.imwarp import SymmetricDiffeomorphicRegistration
from dipy.align.metrics import SSDMetric
from numpy.typing import NDArray

Field = NDArray[np.float32]
_LONGEST_STEP = 0.25
"""In voxels of the current level."""
_ENOUGH_MM = 0.01
"""Steps that are shorter no longer change the result."""


class Cost(SSDMetric):
    """Weighted squared differences, which remember how long the step is that they ask for.

    Parameters
    ----------
    smooth : float
        Gaussian smoothing of the steps, in voxels of the current level.
    weight : ndarray, shape (X, Y, Z), optional
        Weight of the moving image's voxels in the cost.
    """

    def __init__(self, smooth: float, weight: NDArray[Any] | None) -> None:
        super().__init__(3, smooth=smooth)  # pyright: ignore[reportArgumentType] # any number smooths
        self.weight = weight
        self.warped_weight: Any = None
        self.step = 0.0

    def use_moving_image_dynamics(self, original_moving_image: Any, transformation: Any) -> None:
        """Carry the weight to where the moving image is now."""
        if self.weight is not None:
            shape = self.moving_image.shape
            self.warped_weight = np.asarray(
                transformation.transform(self.weight, out_shape=shape, out_grid2world=self._grid2world())
            )

    def _grid2world(self) -> Any:
        return self.moving_affine

    def compute_demons_step(self, *, forward_step: bool = True) -> Any:
        """The demons' step, none where the weight is 0."""
        if self.warped_weight is not None:
            difference = (self.moving_image - self.static_image) * (1 - self.warped_weight)
            kept = self.static_image, self.moving_image
            self.static_image, self.moving_image = kept[0] + difference / 2, kept[1] - difference / 2
            step = super().compute_demons_step(forward_step=forward_step)
            self.static_image, self.moving_image = kept
        else:
            step = super().compute_demons_step(forward_step=forward_step)
        self.step = float(np.sqrt((step**2).sum(axis=-1).max()) / np.mean(np.asarray(self.static_spacing, dtype=float)))
        return step


class Registration(SymmetricDiffeomorphicRegistration):
    """SyN that takes a short step where the cost asks for a short one.

    DIPY scales every step to the same length, so that close to the solution it moves back and forth and even a small
    difference moves things; the demons' own step is a distance and needs no scaling.
    """

    @property
    def step_length(self) -> float:
        """Length of the step that is to be taken, in voxels."""
        step = self.metric.step
        return min(step, _LONGEST_STEP) if step * self.metric.static_spacing.mean() > _ENOUGH_MM else 0.0

    @step_length.setter
    def step_length(self, value: float) -> None:
        """The cost says how long a step is."""


def register(
    fixed: NDArray[Any],
    moving: NDArray[Any],
    affine: NDArray[np.float64],
    weight: NDArray[Any] | None,
    smooth: float,
    iterations: tuple[int, ...],
) -> tuple[Field, Field]:
    """Displacements from fixed to moving and back, shape (X, Y, Z, 3) in mm; see `registration.deform_onto`."""
    cost = Cost(smooth, weight)
    engine = Registration(cost, level_iters=list(iterations), opt_tol=1e-6, inv_iter=20)
    engine.verbosity = VerbosityLevels.NONE  # pyright: ignore[reportAttributeAccessIssue]
    found = engine.optimize(fixed, moving, static_grid2world=affine, moving_grid2world=affine)
    return np.asarray(found.get_forward_field()), np.asarray(found.get_backward_field())
