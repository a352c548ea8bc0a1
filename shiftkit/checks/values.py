"""Voxel values: finite, not constant, on the scale they should have."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..types import Volume
from .subject import Subject, nonzero
from .verdict import Problem

# Square root of 1.5, to which fractional anisotropy rises when a fitted eigenvalue is negative.
_FA_LIMIT = 1.2248


def find(subject: Subject) -> Iterator[Problem]:
    """Problems with the values of images."""
    for modality, volume in subject.images.items():
        path = subject.case.images[modality]
        if volume.array.ndim == 4 and modality != "peaks":
            sentence = f"A map has one value a voxel; the {modality} image has shape {volume.array.shape}."
            yield subject.problem("values", "error", path, sentence, "Write the wanted volume as an image of its own.")
        yield from _degenerate(subject, modality, path, volume)
        if modality == "fa":
            yield from _anisotropy(subject, path, volume)


def _degenerate(subject: Subject, modality: str, path: Path, volume: Volume) -> Iterator[Problem]:
    finite = np.isfinite(volume.array)
    if not finite.any():
        yield subject.problem("values", "error", path, "An image must hold numbers; every voxel is NaN.", _AGAIN)
        return
    known = volume.array if finite.all() else volume.array[finite]  # a selection copies, and peaks are large
    low, high = float(known.min()), float(known.max())
    if low == high:
        what = "all zero" if low == 0 else f"constant ({low:g})"
        yield subject.problem("values", "error", path, f"An image must show something; it is {what}.", _AGAIN)
        return
    share = _hidden_share(volume, finite)
    if share > 0:
        sentence = (
            f"Inside the brain all voxels of the {modality} image must be finite; {max(share, 1e-4):.2%} are not."
        )
        cure = "Make the map again, or fill these voxels from their neighbors; NaN outside the brain is fine."
        yield subject.problem("values", "error" if share > 0.001 else "warning", path, sentence, cure)


_AGAIN = "Make the image again from its source, or remove the file."


def _hidden_share(volume: Volume, finite: np.ndarray) -> float:
    """Share of the brain that is not finite: voxels enclosed by finite ones, so a NaN background does not count."""
    good = finite if finite.ndim == 3 else finite.all(axis=-1)
    if good.all():
        return 0.0
    enclosed = np.asarray(ndimage.binary_fill_holes(good)) & ~good
    present = nonzero(volume)
    # A background of zeros is finite too; only holes that touch brain are in the brain.
    hidden = enclosed & np.asarray(ndimage.binary_dilation(present, iterations=3), dtype=np.bool_)
    return float(hidden.sum() / max(present.sum() + hidden.sum(), 1))


def _anisotropy(subject: Subject, path: Path, volume: Volume) -> Iterator[Problem]:
    inside = np.nan_to_num(volume.array[nonzero(volume)])
    if not len(inside):
        return
    over, under = float((inside > _FA_LIMIT).mean()), float((inside < -1e-3).mean())
    # Single voxels at the rim of a sound map leave the range too; a scaled map leaves it with most of them.
    if over > 0.001:
        high = float(np.quantile(inside, 0.99))
        guess = next((scale for scale in (100, 255, 1000, 10000) if 0.3 < high / scale < 1.3), None)
        cure = (
            f"It looks multiplied by {guess}: divide by it." if guess else "Fit the tensor again inside a brain mask."
        )
        sentence = f"FA lies between 0 and 1; {over:.1%} of the voxels are higher, the 99th percentile is {high:.3g}."
        yield subject.problem("units", "error", path, sentence, cure)
    if under > 0.001:
        sentence = f"FA lies between 0 and 1; {under:.1%} of the voxels are negative."
        yield subject.problem("units", "error", path, sentence, "Check that this is FA, and fit the tensor again.")
