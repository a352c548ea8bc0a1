"""Peaks: a sidecar, nine volumes, and vectors that run along the fibers they stand for."""

import zlib
from collections.abc import Iterator

import numpy as np

from ..cohorts.peaks import Reference, frame_rotation, peaks_reference
from ..errors import DataError
from ..geometry import same_grid
from ..types import Volume
from .frames import Array, axis_frames, bundle_agreement, coherence, long_axes
from .subject import Subject
from .verdict import Problem

# Gain in agreement (0–1, bundles and continuity together) from which another frame is believed.
_MARGIN = 0.015
# The same where there is no bundle mask and continuity speaks alone.
_MARGIN_ALONE = 0.005


def find(subject: Subject) -> Iterator[Problem]:
    """Problems with peaks."""
    volume, path = subject.images.get("peaks"), subject.case.images.get("peaks")
    if volume is None or path is None:
        return
    if volume.array.ndim != 4 or volume.array.shape[3] != 9:
        sentence = f"Peaks are 9 volumes, three vectors a voxel; this file has shape {volume.array.shape}."
        cure = "Write three peaks a voxel, zeros where there are fewer."
        yield subject.problem("peaks", "error", path, sentence, cure)
        return
    reference: Reference = "xyz"
    try:
        reference = peaks_reference(path)
    except DataError as error:
        told = str(error).replace(str(path), "the file").replace(f"{subject.root}/", "")
        sentence, _, cure = told.partition(". Write a file ")
        yield subject.problem("sidecar", "error", path, f"{sentence}.", f"Write a file {cure}")
    yield from _frame(subject, volume, reference)


def _frame(subject: Subject, stored: Volume, reference: Reference) -> Iterator[Problem]:
    rotation = frame_rotation(stored.affine, reference).astype(np.float32)
    finite = np.isfinite(stored.array)
    clean = stored.array if finite.all() else np.where(finite, stored.array, 0)
    # One product of two matrices: a stack of three by three is multiplied a voxel at a time.
    peaks = stored.with_array((clean.reshape(-1, 3) @ rotation.T).reshape(clean.shape))
    rng = np.random.default_rng(zlib.crc32(subject.case.key.encode()))  # the same voxels in every run
    frames = _candidates(stored.affine)
    matrices = list(frames.values())
    along, continued = _along_bundles(subject, peaks, rng, matrices), coherence(peaks, rng, matrices)
    if np.isnan(continued).all():
        return
    alone = bool(np.isnan(along).all())
    score = continued if alone else along + continued
    best = int(np.nanargmax(score))
    gain = float(score[best] - score[0])
    # Noise makes some other frame fit as well as the stored one in sound peaks: only a clear gain counts.
    if best == 0 or gain < (_MARGIN_ALONE if alone else _MARGIN):
        return
    name = list(frames)[best]
    # Continuity knows no masks: where it does not gain, the masks lie wrong and not the peaks.
    if continued[best] > continued[0]:
        sentence = _sentence(name, along, continued, best)
        cure = _cure(name, matrices[best] @ rotation, stored.affine, reference)
        yield subject.problem("peaks", "error", subject.case.images["peaks"], sentence, cure)
    else:
        sentence = (
            "Peaks run along bundles; they continue well from voxel to voxel, but fit the bundle masks better as "
            f"({name}): the masks' voxels are mirrored or turned, not the peaks."
        )
        cure = "Convert the masks again from their source, with their own affine."
        yield subject.problem("flip", "error", next(iter(subject.case.masks.values())), sentence, cure)


def _along_bundles(subject: Subject, peaks: Volume, rng: np.random.Generator, frames: list[Array]) -> Array:
    places: list[np.ndarray] = []
    axes: list[np.ndarray] = []
    for path in subject.case.masks.values():
        mask = subject.marked.get(path)
        if mask is not None and same_grid(mask, peaks):
            index, axis = long_axes(mask, rng)
            places.append(index)
            axes.append(axis)
    if sum(len(index) for index in places) < 100:
        return np.full(len(frames), np.nan)
    return bundle_agreement(peaks, np.concatenate(places), np.concatenate(axes), frames)


def _candidates(affine: Array) -> dict[str, Array]:
    frames = axis_frames()
    for reference in ("ijk", "bvec"):
        rotation = frame_rotation(affine, reference)
        for name, matrix in ((f"from {reference}", rotation), (f"to {reference}", rotation.T)):
            if not any(_same_lines(matrix, known) for known in frames.values()):
                frames[name] = matrix
    return frames


def _same_lines(a: Array, b: Array) -> bool:
    return bool(np.allclose(a, b, atol=0.02) or np.allclose(a, -b, atol=0.02))


def _sentence(name: str, along: Array, continued: Array, best: int) -> str:
    rise = f"agreement with the bundles rises from {along[0]:.2f} to {along[best]:.2f}, "
    bundles = "" if np.isnan(along[0]) else rise
    return (
        f"Peaks run along fibers in world axes; they fit best as ({name}) instead of (x y z): {bundles}continuity from "
        f"voxel to voxel from {continued[0]:.2f} to {continued[best]:.2f}."
    )


def _cure(name: str, total: Array, affine: Array, reference: Reference) -> str:
    """The sidecar's frame that would explain it, or the flip to apply."""
    others: tuple[Reference, ...] = ("xyz", "ijk", "bvec")
    fitting = [other for other in others if other != reference and _same_lines(total, frame_rotation(affine, other))]
    flip = f"exchange or flip the components so that the new ones are ({name}) of the old ones"
    if fitting:
        return f'Set OrientationEncoding.Reference in the sidecar to "{fitting[0]}", or {flip}.'
    return f"{flip[0].upper()}{flip[1:]}; if gradients were flipped before fitting, prepare again with right ones."
