import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from shiftkit.analyses.scoring.skeleton import center_line
from shiftkit.analyses.scoring.surfaces import MaskPair

Mask = NDArray[np.bool_]


def topology(mask: Mask) -> tuple[int, int, int]:
    """Components, components of the background (cavities and the outside), and the Euler number."""
    padded = np.pad(mask, 1)
    objects = ndimage.label(padded, np.ones((3, 3, 3)))[1]
    holes = ndimage.label(~padded)[1]
    return objects, holes, euler_number(padded)


def euler_number(mask: Mask) -> int:
    """Vertices - edges + faces - cubes of the closed voxels, which are 26-connected."""
    size = 2 * np.array(mask.shape) + 1
    cells = np.zeros(size, dtype=bool)
    for x, y, z in np.argwhere(mask):
        cells[2 * x : 2 * x + 3, 2 * y : 2 * y + 3, 2 * z : 2 * z + 3] = True
    dimension = np.indices(size).astype(int) % 2
    return int(np.where(dimension.sum(axis=0) % 2, -1, 1)[cells].sum())


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.3, 2.0), st.floats(0.2, 0.95))
def test_thinning_keeps_the_topology(seed: int, smooth: float, share: float) -> None:
    """Components, cavities and tunnels of the line are those of the mask, and it lies inside."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((10, 9, 11)), smooth)
    mask = noise > np.quantile(noise, share)
    line = center_line(mask)
    assert topology(line) == topology(mask)
    assert not (line & ~mask).any()
    assert line.sum() <= mask.sum()


@pytest.mark.parametrize("size", [(4, 14, 4), (4, 4, 4), (2, 2, 2), (2, 14, 2), (6, 20, 6), (1, 1, 1)])
def test_boxes_of_even_thickness_keep_a_line(size: tuple[int, int, int]) -> None:
    """A box never vanishes, which other thinning code lets happen; a long one keeps most of its length."""
    line = center_line(np.ones(size, dtype=bool))
    assert 1 <= line.sum() <= max(size)
    assert line.sum() >= max(size) - 2 * min(size)


def test_center_line_dice_of_lines_that_swerve() -> None:
    """Half of the predicted line lies beside the reference and the reference's line is half covered: 0.5."""
    reference, prediction = np.zeros((9, 9, 20), dtype=bool), np.zeros((9, 9, 20), dtype=bool)
    reference[4, 4, :] = True
    prediction[4, 4, :10] = prediction[4, 7, 10:] = True
    assert MaskPair.of(prediction, reference, (1.0, 1.0, 1.0)).cldice == pytest.approx(0.5)


def test_center_line_dice_forgives_thickness() -> None:
    """A tube twice as thick has the same center line: Dice drops, center-line Dice stays 1."""
    thin, thick = np.zeros((15, 15, 40), dtype=bool), np.zeros((15, 15, 40), dtype=bool)
    thin[6:9, 6:9, 4:36], thick[4:11, 4:11, 2:38] = True, True
    pair = MaskPair.of(thick, thin, (1.0, 1.0, 1.0))
    assert pair.dice < 0.4
    assert pair.cldice > 0.98


@pytest.mark.parametrize(("n_missing", "expected"), [(1, 0.86), (2, 0.67)])
def test_reference_values_metrics_reloaded_corner(n_missing: int, expected: float) -> None:
    """Metrics Reloaded, a line of five voxels round a corner that misses one or two: clDice 0.86 and 0.67."""
    reference = np.zeros((14, 14, 1), dtype=bool)
    reference[1:4, 1], reference[3, 1:4] = True, True
    prediction = reference.copy()
    prediction[1 : 1 + n_missing, 1] = False
    assert MaskPair.of(prediction, reference, (1.0, 1.0, 1.0)).cldice == pytest.approx(expected, abs=0.005)
