"""Predicted masks of a cohort, read one by one and brought onto the grid of the reference."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...bundles import bundle_named
from ...cohorts.folder import load_cohort, require_finished
from ...errors import DataError, ImageError
from ...files import read_json
from ...geometry import resample as resample_onto
from ...geometry import same_grid
from ...images import inside, read_image, whole_labels
from ...types import Bundle, Case, Cohort, Predictions, Volume
from .nnunet import Channel


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the prediction of one bundle in one participant lies: a mask or a label map, and probabilities.

    ``labels`` are the values of a label map that mean this bundle; there are none for a mask. ``known`` are all values
    that have a meaning there.
    """

    mask: Path | None = None
    labels: tuple[int, ...] = ()
    known: tuple[int, ...] = ()
    probability: Path | Channel | None = None

    def read_mask(self, threshold: float | None) -> Volume:
        """The boolean mask: by the threshold where one is given and probabilities are there, else as written."""
        volume = self.read_probability() if self.mask is None or threshold is not None else None
        if volume is None:
            if self.mask is None:
                raise DataError("A prediction needs a mask or probabilities; this one has neither.")
            volume = _read(self.mask)
            if self.labels:
                values = whole_labels(volume.array, self.mask)
                _require_known(values, self.known, self.mask)
                return volume.with_array(np.isin(values, self.labels))
            return volume.with_array(inside(volume.array, self.mask, threshold))
        return volume.with_array(volume.array >= (0.5 if threshold is None else threshold))

    def read_probability(self) -> Volume | None:
        """Voxel-wise probabilities; None without any."""
        if isinstance(self.probability, Path):
            return _require_probability(_read(self.probability), self.probability)
        return None if self.probability is None else self.probability.read()


@dataclass(frozen=True, kw_only=True)
class PredictedMasks:
    """The predictions of one model or tool for a cohort; made with `find_predictions`.

    ``name`` is for messages. Cases go by keys such as ``sub-01`` or ``sub-01_ses-01``: the prefix may be missing, and
    only letters and digits count, so that what another tool calls ``patient_7`` is found as ``sub-patient7``.
    ``unwritten`` says what a bundle is that other cases have and this one does not: ``unavailable`` or ``missed``.
    """

    name: str
    model: str
    modality: str = "n/a"
    cases: Mapping[str, Mapping[Bundle, Source]] = field(default_factory=dict[str, Mapping[Bundle, Source]])
    unwritten: str = "unavailable"

    @cached_property
    def bundles(self) -> set[Bundle]:
        """Every bundle that at least one case has."""
        return {bundle for sources in self.cases.values() for bundle in sources}

    def of(self, case: Case) -> Mapping[Bundle, Source] | None:
        """What was predicted for a case; None without a prediction."""
        return self._by_id.get(_identifier(case.key)) or None

    def unfinished(self, cohort: Cohort) -> dict[str, str]:
        """The cases whose folder is there and holds no mask, with this as the reason."""
        return {
            case.key: (
                "its predictions are unfinished, there is a folder and no mask in it; run the tool again, or write "
                "empty masks if it found nothing"
            )
            for case in cohort
            if self._by_id.get(_identifier(case.key)) == {}
        }

    def read_mask(
        self, case: Case, bundle: Bundle, reference: Volume | None, threshold: float | None, resample: bool
    ) -> Volume | None:
        """The predicted mask of a bundle, boolean, on the grid of its reference where there is one.

        None where the case has no prediction at all, nobody has this bundle, or it was not written; empty for the last
        of these if ``unwritten`` says that it is missed. What lies on another grid is resampled, linearly, with what is
        at least half covered inside, or refused with a `DataError` where ``resample`` is not set.
        """
        source = self.source(case, bundle)
        if source is None:
            if self.of(case) is None or not self.has(bundle) or self.unwritten != "missed":
                return None
            # Tools leave out files of what they did not find; a bundle that nobody has was never looked for.
            nothing = Volume(array=np.zeros((1, 1, 1), dtype=bool), affine=np.eye(4))
            return nothing if reference is None else reference.with_array(np.zeros_like(reference.array))
        mask = source.read_mask(threshold)
        if reference is None or same_grid(mask, reference):
            return mask
        share = mask.with_array(mask.array.astype(np.float32))
        covered = _bring_onto(share, reference, resample, f"The mask of {bundle}")
        return covered.with_array(covered.array >= 0.5)

    def read_probability(self, case: Case, bundle: Bundle, reference: Volume, resample: bool) -> Volume | None:
        """The voxel-wise probability of a bundle on the grid of its reference; None without one."""
        source = self.source(case, bundle)
        probability = None if source is None else source.read_probability()
        if probability is None:
            return None
        if same_grid(probability, reference):
            return probability
        return _bring_onto(probability, reference, resample, f"The probability of {bundle}")

    def source(self, case: Case, bundle: Bundle) -> Source | None:
        """Where the prediction of a bundle lies, by whatever name the tool and the cohort have for it; None without."""
        return {_same(one): source for one, source in (self.of(case) or {}).items()}.get(_same(bundle))

    def has(self, bundle: Bundle) -> bool:
        """Whether at least one case has a bundle, by whatever name."""
        return _same(bundle) in self._names

    def unlike(self, cohort: Cohort) -> str:
        """What a cohort asks for and nobody predicted, and what was predicted and nobody asked for, in words."""
        asked = [bundle.label for bundle in cohort.bundles if not self.has(bundle)]
        known = {_same(bundle) for bundle in cohort.bundles}
        spare = [bundle.label for bundle in sorted(self.bundles) if _same(bundle) not in known]
        there = f"; present but not understood: {', '.join(spare[:20])}" if spare else ""
        return f"{', '.join(asked)}{there}" if asked else ""

    def strangers(self, cohort: Cohort) -> str:
        """Whose predictions belong to nobody in a cohort; empty where all do."""
        people = {_identifier(case.key) for case in cohort}
        keys = [key for key in self.cases if _identifier(key) not in people]
        more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
        return f"{', '.join(keys[:5])}{more}"

    @cached_property
    def _names(self) -> set[tuple[str, str]]:
        return {_same(bundle) for bundle in self.bundles}

    @cached_property
    def _by_id(self) -> dict[str, Mapping[Bundle, Source]]:
        named = [(_identifier(key), key, sources) for key, sources in self.cases.items()]
        return _once(named, f"the case of {self.name}")


def _same(bundle: Bundle) -> tuple[str, str]:
    """What a bundle's names have in common: a cohort may itself say CST, or write in lower case."""
    read = bundle_named(bundle.label) or bundle
    return read.name.upper(), read.hemisphere


def _identifier(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", key.removeprefix("sub-"))


Thing = TypeVar("Thing")


def _once(named: Iterable[tuple[Any, object, Thing]], what: str) -> dict[Any, Thing]:
    """Things by what their names mean; a `DataError` where two names mean the same, and one would be lost."""
    found: dict[Any, tuple[object, Thing]] = {}
    for meaning, name, thing in named:
        if meaning in found:
            raise DataError(
                f"A prediction stands once; {found[meaning][0]} and {name} are both names of {what} {meaning}. Remove "
                "or rename one of them."
            )
        found[meaning] = (name, thing)
    return {meaning: thing for meaning, (_, thing) in found.items()}


def _require_known(values: NDArray[Any], known: tuple[int, ...], path: Path) -> None:
    strange = np.unique(values[~np.isin(values.astype(np.int64), known)]) if known else ()
    if len(strange):
        raise DataError(
            f"A label map holds the labels that dataset.json names, {', '.join(map(str, known))}; {path} holds "
            f"{', '.join(f'{one:g}' for one in strange[:5])} too. Give the dataset.json that belongs to it."
        )


def _bring_onto(volume: Volume, reference: Volume, allowed: bool, what: str) -> Volume:
    if not allowed:
        raise DataError(
            f"{what} must lie on the grid of its reference; it has shape {volume.shape}, voxels of "
            f"{_in_words(volume)}, the reference {reference.shape} and {_in_words(reference)}. Resample it, or ask for "
            "that with `resample`."
        )
    return resample_onto(volume, reference.affine, reference.shape)


def _in_words(volume: Volume) -> str:
    x, y, z = volume.spacing_mm
    origin = ", ".join(f"{value:.1f}" for value in volume.affine[:3, 3])
    return f"{x:.2f} × {y:.2f} × {z:.2f} mm ({volume.orientation}, origin at {origin} mm)"


def _read(path: Path) -> Volume:
    volume = read_image(path)
    if volume.array.ndim != 3:
        raise ImageError(f"{path} must have three axes, one file a bundle; it has shape {volume.array.shape}.")
    return volume


def _require_probability(volume: Volume, path: Path) -> Volume:
    low, high = float(volume.array.min()), float(volume.array.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # also false for NaN
        raise ImageError(
            f"{path} must hold probabilities, 0 to 1; its values run from {low:g} to {high:g}. Scale them."
        )
    return volume


_SUFFIXES = (".nii.gz", ".nii")


def _images(folder: Path, pattern: str = "*") -> dict[Path, str]:
    """NIfTI files, compressed or not, with their names without suffix; a `DataError` where one stands there twice."""
    found: dict[Path, str] = {}
    for suffix in _SUFFIXES:
        for path in sorted(folder.glob(f"{pattern}{suffix}")):
            # Files that another system leaves behind begin with a dot.
            if not path.name.startswith("."):
                found[path] = path.name.removesuffix(suffix)
    places = [path.parent / stem for path, stem in found.items()]
    if twice := sorted({str(place) for place in places if places.count(place) > 1}):
        raise DataError(f"A prediction stands once; {twice[0]} is there as .nii and as .nii.gz. Remove one of them.")
    return found


_BETWEEN = ("bundle_segmentations", "tractseg_output", "dwi")
"""Folders that say nothing of the case."""


def find_predictions(predictions: Predictions | Path | Cohort) -> PredictedMasks:
    """Index predicted masks; images are not opened.

    Parameters
    ----------
    predictions : Predictions, Cohort or Path
        A folder is read in the first of these layouts that it has:

        shiftkit
            A cohort on disk whose masks are predictions, with ``participants.tsv``.
        nnU-Net, one label map a case
            ``dataset.json`` and ``CASE.nii.gz``; ``labels`` in ``dataset.json`` names the bundles, each with one value
            or, trained on regions, with several, so that bundles can overlap. Probabilities come from ``CASE.npz``,
            where it is there; the ``.pkl`` beside it is never opened.
        TractSeg
            ``CASE/[tractseg_output/]bundle_segmentations/AF_left.nii.gz``, or one such folder for one participant; also
            ``sub-01/AF_left.nii.gz``.
        one binary file a case
            ``BUNDLE/CASE.nii.gz``: one folder a bundle, as from one nnU-Net a bundle.

        ``CASE`` is ``sub-01`` or ``01``, with ``_ses-01`` or in a subfolder ``ses-01`` where there are sessions.
        ``BUNDLE`` is ``AFleft``, ``AF_L``, ``lh.AF``, …; see `shiftkit.bundles.bundle_named`.

    Raises
    ------
    DataError
        If the folder is missing or has none of these layouts.
    """
    if isinstance(predictions, Predictions):
        return _of_cohort(predictions.cohort, predictions.model, predictions.modality)
    if isinstance(predictions, Cohort):
        return _of_cohort(predictions)
    root = Path(predictions)
    if not root.is_dir():
        raise DataError(f"Predictions lie in a folder; there is none at {root}.")
    require_finished(root)
    if (root / "participants.tsv").is_file():
        return _of_cohort(load_cohort(root))
    name = root.resolve().name
    for read in (_label_maps, _tractseg, _one_folder_a_bundle):
        cases = read(root)
        if cases:
            return PredictedMasks(name=name, model=name, cases=cases)
    raise DataError(
        f"Predictions must lie in shiftkit's layout (participants.tsv, sub-*/dwi/*_mask.nii.gz), TractSeg's "
        f"(CASE/bundle_segmentations/AF_left.nii.gz) or nnU-Net's (CASE.nii.gz beside dataset.json, or "
        f"BUNDLE/CASE.nii.gz); {root} has none of these. Give the folder that holds them."
    )


def _of_cohort(cohort: Cohort, model: str | None = None, modality: str | None = None) -> PredictedMasks:
    cases = {
        case.key: {
            bundle: Source(mask=case.masks.get(bundle), probability=case.probabilities.get(bundle))
            for bundle in sorted({*case.masks, *case.probabilities})
        }
        for case in cohort
    }
    described = cohort.description
    return PredictedMasks(
        name=cohort.name,
        model=model or str(described.get("Model", cohort.name)),
        modality=modality or str(described.get("Modality", "n/a")),
        cases=cases,
    )


def _label_maps(root: Path) -> dict[str, dict[Bundle, Source]]:
    description = root / "dataset.json"
    if not description.is_file():
        return {}
    labels = _labels(description)
    known = tuple(sorted({0, *(value for values in labels.values() for value in values)}))
    meant = {name: values for name, values in labels.items() if name != "ignore" and set(values) - {0}}
    return {stem: _of_label_map(path, stem, meant, known) for path, stem in _images(root).items()}


def _of_label_map(
    path: Path, stem: str, labels: Mapping[str, tuple[int, ...]], known: tuple[int, ...]
) -> dict[Bundle, Source]:
    array = path.with_name(f"{stem}.npz")
    is_region = any(len(values) > 1 for values in labels.values())
    sources: list[tuple[Bundle | None, str, Source]] = []
    for place, (name, values) in enumerate(labels.items()):
        index = place if is_region else values[0]  # regions come in the order of the file, labels by value
        channel = Channel(path=array, label_map=path, index=index, is_region=is_region)
        probability = channel if array.is_file() else None
        source = Source(mask=path, labels=values, known=known, probability=probability)
        sources.append((bundle_named(name), name, source))
    return _once((one for one in sources if one[0] is not None), "bundle")


def _labels(description: Path) -> dict[str, tuple[int, ...]]:
    """Values by name, in order."""
    try:
        labels: dict[str, Any] = read_json(description)["labels"]
        values = {name: tuple(_label(v) for v in np.atleast_1d(value)) for name, value in labels.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(
            f'{description} must hold "labels" with the values of each bundle, as in {{"AFleft": 1}}; it does not '
            f"({error!r})."
        ) from error
    return values


_MOST_LABELS = 2**16


def _label(value: Any) -> int:
    """A value of a label map; -1 would count channels from the end, and 1.5 be cut to 1."""
    label = int(value)
    if label != float(value) or not 0 <= label < _MOST_LABELS:
        raise ValueError(f"{value} is no label, which is a whole number from 0 to {_MOST_LABELS - 1}")
    return label


def _tractseg(root: Path) -> dict[str, dict[Bundle, Source]]:
    folders = [root] if root.name == "bundle_segmentations" else []
    for depth in ("", "*/", "*/*/", "*/*/*/"):
        folders += sorted(path for path in root.glob(f"{depth}bundle_segmentations") if path.is_dir())
    folders = folders or sorted(path for path in root.glob("sub-*") if path.is_dir())
    cases: list[tuple[str, Path, dict[Bundle, Source]]] = []
    for folder in folders:
        parts = [part for part in folder.relative_to(root).parts if part not in _BETWEEN]
        files = [(bundle_named(stem), path, Source(mask=path)) for path, stem in _images(folder).items()]
        sources = _once((one for one in files if one[0] is not None), "bundle")
        cases.append(("_".join(parts) or root.resolve().name, folder, sources))
    return _once(cases, "the case")


def _one_folder_a_bundle(root: Path) -> dict[str, dict[Bundle, Source]]:
    cases: dict[str, list[tuple[Bundle, Path, Source]]] = {}
    for path, stem in _images(root, "*/*").items():
        bundle = bundle_named(path.parent.name)
        if bundle is not None:
            cases.setdefault(stem, []).append((bundle, path, Source(mask=path)))
    return {stem: _once(sources, "bundle") for stem, sources in cases.items()}
