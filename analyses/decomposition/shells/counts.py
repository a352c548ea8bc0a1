"""Errors counted voxel by voxel: by bundle, distance to the tumor and place along the bundle."""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....distances import shell_of
from ....types import Bundle, Cohort, Volume
from ....work import Work
from ...distance.places import Places
from ...distance.tumor import Tumor
from ...scoring.cases import OpenCase

Counts = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ErrorCounts:
    """What was there, missed, predicted and false, in voxels.

    Four arrays of shape (participants, bundles, shells, sections): ``missed`` are those of the ``reference`` that the
    prediction lacks, ``false`` those ``predicted`` that the reference lacks. Sessions of a participant are added up; a
    bundle without a reference counts 0 throughout. ``skipped`` has the cases that could not be counted, and why.
    """

    participants: tuple[str, ...]
    bundles: tuple[Bundle, ...]
    reference: Counts
    missed: Counts
    predicted: Counts
    false: Counts
    skipped: Mapping[str, str]

    def of(self, rate: str) -> tuple[Counts, Counts]:
        """Numerator and denominator of a rate: ``fn`` or ``fp``."""
        return (self.missed, self.reference) if rate == "fn" else (self.false, self.predicted)


@dataclass(frozen=True, kw_only=True)
class KeptMask:
    """A mask kept in memory at about a hundredth of its size, since healthy places need all controls at once."""

    packed: bytes
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @classmethod
    def of(cls, mask: Volume) -> "KeptMask":
        """Pack a boolean mask."""
        return cls(packed=zlib.compress(np.packbits(mask.array).tobytes(), 1), shape=mask.shape, affine=mask.affine)

    def open(self) -> Volume:
        """The mask as it was."""
        bits = np.unpackbits(np.frombuffer(zlib.decompress(self.packed), np.uint8), count=int(np.prod(self.shape)))
        return Volume(array=bits.reshape(self.shape).astype(bool), affine=self.affine)


Kept = tuple[KeptMask | None, KeptMask | None]
"""Reference and prediction of a bundle."""


def keep_masks(opened: OpenCase, bundle: Bundle, prediction: Volume | None) -> Kept:
    """Reader of controls: masks to be counted when the places along the bundles are known."""
    reference = opened.anatomy.references[bundle]
    keep = (None if mask is None else KeptMask.of(mask) for mask in (reference, prediction))
    return next(keep), next(keep)


@dataclass(frozen=True, kw_only=True)
class Counting:
    """Reader that counts the errors in one of its bundles, by section and shell.

    Without edges, which go from 0 to infinity, there is one shell, and no tumor is looked for.
    """

    bundles: tuple[Bundle, ...]
    places: Places
    edges_mm: tuple[float, ...] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Shells and sections."""
        return 1 if self.edges_mm is None else len(self.edges_mm) - 1, self.places.n_sections

    def __call__(self, opened: OpenCase, bundle: Bundle, prediction: Volume | None) -> Counts | str | None:
        """Counts, shape (4, shells, sections), or None; a word where nothing of the case can be counted."""
        if bundle not in self.bundles:
            return None
        tumor = opened.anatomy.tumor
        if prediction is not None and self.edges_mm is not None and (tumor is None or tumor.distance_mm is None):
            return "there is no tumor mask"
        return self.count(bundle, opened.anatomy.references[bundle], prediction, tumor)

    def count(
        self, bundle: Bundle, reference: Volume | None, prediction: Volume | None, tumor: Tumor | None = None
    ) -> Counts | str | None:
        """Count two masks on one grid."""
        if prediction is None:
            return "there is no prediction"
        if reference is None or not reference.array.any():
            return None  # no reference, no rate: the score table says reference_absent
        voxels = np.argwhere(reference.array | prediction.array)  # elsewhere nobody errs
        at = tuple(voxels.T)
        shell = np.zeros(len(voxels), dtype=np.intp)
        if self.edges_mm is not None and tumor is not None and tumor.distance_mm is not None:
            shell = shell_of(tumor.distance_mm[at], self.edges_mm, tumor.mask.spacing_mm)
        # One flat index a voxel, so that each kind of error is one histogram.
        cell = np.ravel_multi_index((shell, self.places.section(bundle, reference.world(voxels))), self.shape)
        there, drawn = reference.array[at], prediction.array[at]
        kinds = (there, there & ~drawn, drawn, drawn & ~there)
        counted = [np.bincount(cell[kind], minlength=math.prod(self.shape)) for kind in kinds]
        return np.array(counted, dtype=np.float64).reshape(4, *self.shape)

    def kept(self, masks: Mapping[Bundle, Kept]) -> list[Counts | str | None]:
        """Counts of the masks of one control, one a bundle."""
        pairs = ((bundle, *(one and one.open() for one in masks[bundle])) for bundle in self.bundles)
        return [self.count(bundle, reference, prediction) for bundle, reference, prediction in pairs]

    def collect(
        self,
        made: Mapping[str, Sequence[Counts | str | None]],
        looked: Sequence[Bundle],
        cohort: Cohort,
        failed: Mapping[str, str],
    ) -> ErrorCounts:
        """Counts of a cohort, in its order, from those of its cases, one a bundle that was looked at.

        A case that is missing has no prediction; reasons in ``failed``, of `Predictions`, are better than ours.
        """
        names = tuple(dict.fromkeys(case.participant_id for case in cohort))
        total = np.zeros((4, len(names), len(self.bundles), *self.shape))
        skipped: dict[str, str] = {}
        counted: set[str] = set()
        for case in cohort:
            values = made.get(case.key, ["there is no prediction"])
            reason = next((one for one in values if isinstance(one, str)), None)
            if reason is not None:
                skipped[case.key] = failed.get(case.key, reason)
                continue
            counted.add(case.participant_id)
            for bundle, one in zip(looked, values, strict=True):
                if isinstance(one, np.ndarray):
                    total[:, names.index(case.participant_id), self.bundles.index(bundle)] += one
        there = [index for index, name in enumerate(names) if name in counted]
        parts = dict(zip(("reference", "missed", "predicted", "false"), total[:, there], strict=True))
        participants = tuple(names[index] for index in there)
        return ErrorCounts(participants=participants, bundles=self.bundles, **parts, skipped=skipped)


def count_healthy(
    kept: Mapping[str, Sequence[Kept]],
    looked: Sequence[Bundle],
    people: Cohort,
    failed: Mapping[str, str],
    *,
    bundles: tuple[Bundle, ...],
    n_sections: int,
    work: Work,
) -> tuple[ErrorCounts, Places]:
    """Errors of controls, from what `keep_masks` kept, and the places along bundles that their references define."""
    masks = [dict(zip(looked, kept[case.key], strict=True)) for case in people]

    def references(bundle: Bundle) -> Iterator[Volume]:
        return (one.open() for one, _ in (of_case[bundle] for of_case in masks) if one is not None)

    places = Places.of({bundle: references(bundle) for bundle in bundles}, n_sections, people.name)
    counting = Counting(bundles=bundles, places=places)
    counted = work.map(counting.kept, masks, f"Counting errors in {people.name}")
    made = {case.key: found for case, found in zip(people, counted, strict=True)}
    return counting.collect(made, bundles, people, failed), places
