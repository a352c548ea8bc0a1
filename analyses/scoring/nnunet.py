"""Probabilities that nnU-Net writes beside its label maps: one array a case, without a grid of its own.

With ``--save_probabilities``, version 2 writes ``CASE.npz`` beside ``CASE.nii.gz``: an array ``probabilities`` of shape
(C, Z, Y, X), one channel a label with the background first or, trained on regions, one a region in the order of
``dataset.json``. Version 1 calls it ``softmax``. What else is known of it stands in a pickle, which is never opened,
since a pickle can run anything; the label map gives the grid instead.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...files import array_shapes, require_file
from ...images import read_image
from ...types import Volume

_NAMES = ("probabilities", "softmax")
_LEAST_AGREEMENT = 0.5
"""Share of the labeled voxels to which probabilities give the same label; post-processing may take off a part."""
_RAS = np.array([[0, 1], [1, 1], [2, 1]])


@dataclass(frozen=True, kw_only=True)
class Channel:
    """The probabilities of one bundle: a channel of the ``.npz`` file beside the label map it was written with.

    Channels are regions, which overlap, or labels, of which the likeliest wins.
    """

    path: Path
    label_map: Path
    index: int
    is_region: bool

    def read(self) -> Volume:
        """The bundle's probabilities on the grid of the label map, float32, shape (X, Y, Z).

        A `DataError` where the file is damaged, lacks the channel, covers another grid, or contradicts the label map.
        """
        # Part of the cache's key, so that a file that was written anew is read anew.
        written = self.path.stat().st_mtime_ns, self.label_map.stat().st_mtime_ns
        volume = _all_channels(self.path, self.label_map, self.is_region, written)
        if self.index >= volume.array.shape[3]:
            raise DataError(
                f"{self.path} must have a channel {self.index}, as dataset.json says; it has {volume.array.shape[3]}. "
                "Copy the dataset.json of the model that predicted."
            )
        return volume.with_array(volume.array[..., self.index].astype(np.float32))


@lru_cache(maxsize=1)  # every bundle of a case asks for the same file
def _all_channels(path: Path, label_map: Path, is_region: bool, _written: tuple[int, int]) -> Volume:
    """All channels, shape (X, Y, Z, C), on the grid of the label map."""
    labels = read_image(label_map)
    stored = _stored(path, labels.array.shape).T
    # The array has the axes of the image as it was read. One reader of nnU-Net turns images to RAS+ first, which only
    # the pickle tells; so both orders are tried, and the one that fits the label map better is taken.
    orders = [stored] if labels.orientation == "RAS" else [stored, _from_ras(stored, labels.affine)]
    orders = [order for order in orders if order.shape[:3] == labels.array.shape]
    if not orders:
        raise DataError(
            f"Probabilities must cover the grid of their label map, {labels.shape}; those in {path} have shape "
            f"{stored.shape[:3]}. Version 1 of nnU-Net crops them: put them back, or convert them to NIfTI."
        )
    agreement = [_agreement(order, np.rint(labels.array), is_region) for order in orders]
    best = int(np.argmax(agreement))
    if agreement[best] < _LEAST_AGREEMENT:
        raise DataError(
            f"Probabilities and label map must come from one prediction; {path} and {label_map.name} agree in "
            f"{agreement[best]:.0%} of the labeled voxels. Predict again, or remove the .npz file."
        )
    return labels.with_array(orders[best])


_MOST_CHANNELS = 1000


def _stored(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    require_file(path, "file of probabilities")
    try:
        told = array_shapes(path)
        name = next((one for one in _NAMES if one in told), None)
        if name is None:
            raise DataError(f"{path} must hold an array '{_NAMES[0]}'; it does not. Predict again.")
        _require_grid(told[name], path, shape)
        with np.load(path, allow_pickle=False) as arrays:
            array = np.asarray(arrays[name])
    except DataError:
        raise
    # A damaged archive raises what zip, zlib and numpy's header each raise: no base is shared.
    except Exception as error:
        raise DataError(f"{path} must be what nnU-Net wrote; it is damaged ({error}). Predict again.") from error
    if array.ndim != 4 or array.dtype.kind != "f":
        raise DataError(
            f"{path} must hold fractions with axes (C, Z, Y, X); it holds {array.dtype} of shape {array.shape}."
        )
    return array


def _require_grid(told: tuple[int, ...], path: Path, shape: tuple[int, ...]) -> None:
    """Refuse an array of other voxels than its label map, before memory is asked for."""
    if len(told) != 4 or sorted(told[1:]) != sorted(shape) or not 0 < told[0] <= _MOST_CHANNELS:
        raise DataError(
            f"Probabilities must cover the grid of their label map, {shape}, with axes (C, Z, Y, X); those in {path} "
            f"have shape {told[::-1]} in (X, Y, Z, C). Version 1 of nnU-Net crops them: put them back, or convert them "
            "to NIfTI."
        )


def _from_ras(array: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    """From the axes of an image that was turned to RAS+ to those of the affine."""
    from nibabel.orientations import apply_orientation, io_orientation, ornt_transform

    return np.asarray(apply_orientation(array, ornt_transform(_RAS, io_orientation(affine))))


def _agreement(probabilities: NDArray[Any], labels: NDArray[np.float32], is_region: bool) -> float:
    guess: Any = (probabilities > 0.5).any(axis=-1) if is_region else probabilities.argmax(axis=-1)
    truth: NDArray[Any] = labels > 0 if is_region else labels
    either = (guess > 0) | (truth > 0)
    return float(np.mean(guess[either] == truth[either])) if either.any() else 1.0
