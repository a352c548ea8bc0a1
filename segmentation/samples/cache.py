"""Samples that are loaded when they are needed and kept while there is room."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import overload

from ...errors import ConfigError
from ...types import Bundle, Case
from ...work import Work
from .samples import Sample, load_sample

MEMORY_GIB = 4.0
"""Memory for the samples of one training, unless told otherwise."""


class SampleCache(Sequence[Sample]):
    """A sequence of samples of which only so many are in memory; the others are loaded again when asked for.

    What was asked for longest ago gives way first. A sample that is larger than the bound is never kept.
    Slices and `select` give sequences that share the same memory. Samples are the same as freshly loaded
    ones, to the bit; nobody may change them in place. Several threads may ask at once.

    Parameters
    ----------
    keys : sequence of str
        Of the samples.
    load : callable
        Takes a position and returns its sample.
    memory_gib : float
        Bound on the arrays of the samples that are kept, in GiB. What a training step works on comes on top,
        and under ``torchrun`` every process has a cache of its own.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((4, 8, 8, 8), np.float32)
    >>> make = lambda index: Sample(
    ...     key=str(index), image=image + index, affine=np.eye(4), own_affine=np.eye(4), own_shape=(8, 8, 8)
    ... )
    >>> cache = SampleCache(["0", "1", "2"], make, memory_gib=2 * image.nbytes / 2**30)
    >>> [sample.key for sample in cache[1:]], cache.loads
    (['1', '2'], 2)
    >>> cache[2].key, cache.loads, cache[0].key, cache.loads, cache.nbytes == 2 * image.nbytes
    ('2', 2, '0', 3, True)
    """

    def __init__(self, keys: Sequence[str], load: Callable[[int], Sample], memory_gib: float = MEMORY_GIB) -> None:
        if not memory_gib >= 0:  # NaN too
            raise ConfigError(f"The memory for samples must be 0 GiB or more; got {memory_gib}.")
        self._store = _Store(list(keys), load, int(memory_gib * 2**30))
        self._positions: Sequence[int] = range(len(keys))

    @property
    def keys(self) -> list[str]:
        """Of the samples, in order; loads nothing."""
        return [self._store.keys[position] for position in self._positions]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that are kept now, those of sequences that share the memory included."""
        return self._store.nbytes

    @property
    def loads(self) -> int:
        """How many samples were loaded so far."""
        return self._store.loads

    def select(self, keys: Sequence[str]) -> "SampleCache":
        """The samples with these keys, in this order; `KeyError` if there is no such sample."""
        places = dict(zip(self.keys, self._positions, strict=True))
        return self._sharing([places[key] for key in keys])

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> "SampleCache": ...

    def __getitem__(self, index: int | slice) -> "Sample | SampleCache":
        if isinstance(index, slice):
            return self._sharing(self._positions[index])
        return self._store.get(self._positions[index])

    def _sharing(self, positions: Sequence[int]) -> "SampleCache":
        part = SampleCache.__new__(SampleCache)
        part._store, part._positions = self._store, positions
        return part


@dataclass
class _Store:
    """What the slices of a cache share."""

    keys: list[str]
    load: Callable[[int], Sample]
    bound: int
    nbytes: int = 0
    loads: int = 0
    kept: OrderedDict[int, Sample] = field(default_factory=OrderedDict[int, Sample])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, position: int) -> Sample:
        with self.lock:
            if position in self.kept:
                self.kept.move_to_end(position)
                return self.kept[position]
        sample = self.load(position)  # without the lock: threads load side by side
        with self.lock:
            self._keep(position, sample)
        return sample

    def _keep(self, position: int, sample: Sample) -> None:
        self.loads += 1
        size = sample_bytes(sample)
        # What is larger than all there is would only drive out the others and then not be kept either; and another
        # thread may have loaded the same one meanwhile.
        if size <= self.bound and position not in self.kept:
            while self.nbytes + size > self.bound:
                _, oldest = self.kept.popitem(last=False)
                self.nbytes -= sample_bytes(oldest)
            self.kept[position] = sample
            self.nbytes += size


def sample_bytes(sample: Sample) -> int:
    """Bytes of a sample's image and masks."""
    return sum(array.nbytes for array in (sample.image, sample.target, sample.known) if array is not None)


def sample_keys(samples: Sequence[Sample]) -> list[str]:
    """Keys of samples; of a cache without loading any."""
    return samples.keys if isinstance(samples, SampleCache) else [sample.key for sample in samples]


def load_samples(
    cases: Sequence[Case],
    modality: str,
    bundles: tuple[Bundle, ...],
    spacing_mm: float,
    shape: tuple[int, int, int],
    *,
    memory_gib: float = MEMORY_GIB,
    work: Work = Work(),
) -> SampleCache:
    """Participants on the model's grid, with reference masks, in a cache of bounded size; see `samples.load_sample`.

    Everyone is loaded once at the start, so that a missing or damaged image ends a training before it begins.
    """

    def load(position: int) -> Sample:
        return load_sample(cases[position], modality, spacing_mm, shape, bundles)

    samples = SampleCache([case.key for case in cases], load, memory_gib)
    for position in work.each(range(len(samples)), "Loading images"):
        samples[position]
    return samples
