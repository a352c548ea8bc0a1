"""What the images of a training were like, and how far others lie from them: the first thing to know of a prediction.

Measured are voxel size, how much of the brain is there, and of each modality how bright it is and how its values
spread. Nothing here looks at masks or tumors.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ...cohorts.peaks import load_peaks, meaning_digest
from ...errors import DataError
from ...images import read_image
from ...types import Case, Cohort
from ...work import DETAIL, Work
from .prefetching import helper_threads, prefetched

Domain = Mapping[str, Any]
"""Of the images of one training: ``n`` participants, and of each of ``measures`` its ``mean`` and ``sd``."""

_ALPHA = 6e-5
"""How rarely somebody like the training's participants is called out of range: four standard deviations of many. With
ten measures of 100 participants, once in seventeen cohorts."""
_FLOOR = 0.05
"""Of the mean, the least standard deviation: a training at one voxel size, or of one scanner, shows none, and what
differs by less than that is resampled or normalized away."""
_SHOWN_MEASURES = 3
_READING = 4  # threads, each with an image in memory
_STAGE = "Comparing images with those of the training"

_EXTENTS = {
    "extent_x_mm": "brain from left to right",
    "extent_y_mm": "brain from back to front",
    "extent_z_mm": "brain from bottom to top",
}

_KEPT = 10_000
_known: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
"""What was measured of images in this process, by their digests: a run that fine-tunes, predicts and decomposes asks
for the same images each time."""


def measure_images(case: Case, modality: str) -> dict[str, float]:
    """What a participant's images are like, as the model's input ``modality`` is read; a stack is joined by ``+``.

    ``spacing_mm``, the largest edge of a voxel; the extents of what is not 0 along the world's axes, without the
    outermost percent; and of each modality what is ``bright`` (the 99th percentile, of peaks the 95th of the first
    one's length; not of T1w, whose unit is the scanner's), the ``median`` and ``spread`` as shares of it, and of peaks
    the mean length of the ``second`` one as a share of the first one's.

    Raises
    ------
    DataError
        If an image is missing, damaged or empty.
    """
    found: dict[str, float] = {}
    for number, part in enumerate(modality.split("+")):
        if part not in case.images:
            raise DataError(f"The model reads {part}; {case.key} has none.")
        volume = load_peaks(case) if part == "peaks" else read_image(case.images[part])
        array = np.nan_to_num(volume.array, posinf=0.0, neginf=0.0)
        values = _length(array[..., :3]) if part == "peaks" else array if array.ndim == 3 else array[..., 0]
        inside = values != 0
        if not inside.any():
            raise DataError(f"An image must not be empty; {case.images[part].name} is zero everywhere.")
        if number == 0:
            points = volume.world(np.argwhere(inside))
            low, high = np.percentile(points, [1, 99], axis=0)
            found["spacing_mm"] = max(volume.spacing_mm)
            found |= dict(zip(_EXTENTS, (high - low).tolist(), strict=True))
        within = values[inside].astype(np.float64)
        bright = float(np.percentile(within, 95 if part == "peaks" else 99))
        if part != "t1w":
            found[f"{part}_bright"] = bright
        unit = max(abs(bright), 1e-12)
        found[f"{part}_median"] = float(np.median(within)) / unit
        found[f"{part}_spread"] = float(np.std(np.clip(within, -2 * unit, 2 * unit))) / unit
        if part == "peaks":
            found["peaks_second"] = float(_length(array[..., 3:6])[inside].mean() / within.mean())
    return found


def _length(vectors: NDArray[Any]) -> NDArray[Any]:
    # In double precision: squares of absurd values overflow single.
    return np.linalg.norm(vectors.astype(np.float64), axis=-1)


def domain_of(measured: Sequence[Mapping[str, float]]) -> Domain:
    """Mean and standard deviation of each measure over participants, to five digits, which all machines share.

    Examples
    --------
    >>> domain_of([{"spacing_mm": 2.5}, {"spacing_mm": 2.5}])
    {'n': 2, 'measures': {'spacing_mm': {'mean': 2.5, 'sd': 0.0}}}
    """
    measures = {
        name: {
            "mean": float(f"{np.mean([one[name] for one in measured]):.5g}"),
            "sd": float(f"{np.std([one[name] for one in measured], ddof=min(1, len(measured) - 1)):.5g}"),
        }
        for name in (measured[0] if measured else {})
    }
    return {"n": len(measured), "measures": measures}


def measure_all(
    cases: Sequence[Case], modality: str, work: Work = Work(), stage: str = "Measuring images"
) -> dict[str, dict[str, float]]:
    """`measure_images` of all cases whose images can be read, by their keys."""

    def tried(case: Case) -> dict[str, float]:
        try:
            files = tuple((part, meaning_digest(case.images[part])) for part in modality.split("+"))
            known = _known.get(files)
            measures = measure_images(case, modality) if known is None else known
        except (DataError, KeyError, OSError):
            return {}  # who segments it tells the reason
        if len(_known) < _KEPT:
            _known[files] = measures
        return measures

    with closing(prefetched(tried, cases, helper_threads(_READING))) as measured:
        found = {case.key: measures for case, measures in zip(work.each(cases, stage), measured, strict=False)}
    return {key: measures for key, measures in found.items() if measures}


@dataclass(frozen=True, kw_only=True)
class Outside:
    """One participant out of range: what of the images, and by how many standard deviations; the farthest first."""

    key: str
    measures: tuple[str, ...]
    distance: float


@dataclass(frozen=True, kw_only=True)
class Nearness:
    """How far the images of a cohort lie from those of a training.

    Parameters
    ----------
    model, cohort : str
        Their names.
    n : int
        Participants that were compared; 0 where no image could be read, or the model is not ``known``.
    known : bool
        Whether the model says what its training's images were like; the first checkpoints do not.
    farthest : float
        The largest distance of anybody in any measure, in standard deviations of the training.
    outside : tuple of Outside
        Who is out of range, farthest first.
    """

    model: str
    cohort: str
    n: int
    known: bool = True
    farthest: float = 0.0
    outside: tuple[Outside, ...] = ()

    def __str__(self) -> str:
        if not self.n and self.known:
            return f"No image of {self.cohort} could be compared with those that model {self.model} was trained on."
        if not self.known:
            return (
                f"Model {self.model} does not say what its training's images were like, so how far those of "
                f"{self.cohort} lie from them is not known."
            )
        far = f"up to {self.farthest:.3g} standard deviations away"
        if not self.outside:
            return (
                f"The images of all {self.n} participants of {self.cohort} lie in the range of those that model "
                f"{self.model} was trained on, {far}."
            )
        # It stands in a run's verdict, so that the farthest participant and measure stand for all.
        first = self.outside[0]
        return (
            f"The images of {len(self.outside)} of {self.n} participants of {self.cohort} lie outside the range of "
            f"those that model {self.model} was trained on, {far} ({first.key}: {first.measures[0]})."
        )


def nearness(model: str, domains: Sequence[Domain], modality: str, cohort: Cohort, work: Work = Work()) -> Nearness:
    """How far the images of a cohort lie from those of a model's trainings; of several the nearest counts.

    A participant is out of range with a value that somebody like the training's participants has once in 17,000: by
    Student's t for as many as there were, so that few say little.
    """
    known = [one for one in domains if one["n"] > 1]
    if not known:
        return Nearness(model=model, cohort=cohort.name, n=0, known=False)
    measured = measure_all(cohort.cases, modality, work, _STAGE)
    outside: list[Outside] = []
    farthest = 0.0
    for key, found in measured.items():
        # Of several trainings, the one to which this participant's farthest measure is nearest.
        far = min((_distances(domain, found) for domain in known), key=lambda one: max(one.values(), default=0.0))
        domain = min(known, key=lambda one: max(_distances(one, found).values(), default=0.0))
        limit = _limit(domain["n"])
        farthest = max(farthest, *far.values(), 0.0)
        names = sorted((name for name in far if far[name] > limit), key=lambda name: -far[name])
        if names:
            told = tuple(_told(name, found[name], domain) for name in names[:_SHOWN_MEASURES])
            outside.append(Outside(key=key, measures=told, distance=far[names[0]]))
    outside.sort(key=lambda one: -one.distance)
    if measured:
        work.report(len(measured), len(measured), f"{_STAGE}{DETAIL}up to {farthest:.3g} standard deviations away")
    return Nearness(model=model, cohort=cohort.name, n=len(measured), farthest=farthest, outside=tuple(outside))


def _limit(n: int) -> float:
    """Distance in standard deviations of n that one more of the same kind exceeds with `_ALPHA`."""
    return float(stats.t.ppf(1 - _ALPHA / 2, n - 1)) * math.sqrt(1 + 1 / n)


def _distances(domain: Domain, found: Mapping[str, float]) -> dict[str, float]:
    """Of each measure that both have, the distance to the training's mean in its standard deviations."""
    return {
        name: abs(found[name] - told["mean"]) / max(told["sd"], _FLOOR * abs(told["mean"]), 1e-9)
        for name, told in domain["measures"].items()
        if name in found
    }


def _told(name: str, value: float, domain: Domain) -> str:
    """One measure in words, with what the training had."""
    told = domain["measures"][name]
    unit = " mm" if name.endswith("_mm") else ""
    return f"{_title(name, value < told['mean'])} {value:.3g}{unit}, {told['mean']:.3g}{unit} in training"


def _title(name: str, less: bool) -> str:
    if name in _EXTENTS:
        return f"{'missing coverage: ' * less}{_EXTENTS[name]}"
    if name == "spacing_mm":
        return "voxel size"
    part, _, what = name.rpartition("_")
    lead = "length of peaks" if part == "peaks" else f"intensity of {part}"
    return {
        "bright": lead,
        "median": f"median {lead} as a share of the {'longest' if part == 'peaks' else 'brightest'}",
        "spread": f"spread of the {lead}",
        "second": "second peak as a share of the first",
    }[what]
