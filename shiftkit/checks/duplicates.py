"""The same image under two participants or two names."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .subject import Subject, relative
from .verdict import Problem

Digests = Mapping[str, str]
"""Digest of the voxels by path below the cohort's folder."""


def digests(subject: Subject) -> Digests:
    """Digests of a participant's images and masks; those that show nothing are left out."""
    found: dict[str, str] = {}
    for _, path, volume in subject.named():
        clean = np.ascontiguousarray(volume.array.T)  # as NIfTI has them, which spares a rearranged copy
        if not np.isfinite(clean).all():
            clean = np.nan_to_num(clean)
        # Empty masks are rightly alike.
        if clean.min() != clean.max():
            digest = hashlib.blake2b(clean.data.cast("B"), digest_size=16)
            digest.update(str(clean.shape).encode())
            found[relative(path, subject.root)] = digest.hexdigest()
    return found


def find(participants: Sequence[tuple[str, Digests]]) -> Iterator[Problem]:
    """Files with the same voxels among (participant, digests of its files): a problem for each but the first."""
    places: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for participant, files in participants:
        for file, digest in files.items():
            places[digest].append((participant, file))
    for same in places.values():
        for participant, file in same[1:]:
            first, other = same[0]
            whose = "another participant's" if participant != first else "another"
            yield Problem(
                participant=participant,
                check="duplicate",
                severity="error",
                file=file,
                sentence=f"Each file is an image of its own; this one has the same voxels as {whose} file {other}.",
                cure=f"Find out whose image it is (it is listed for {first} too) and replace the other one.",
            )
