"""Predicted masks of a cohort, read one by one and brought onto the grid of the reference."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...bundles import BUNDLE_NAMES, TRACTSEG_ORDER, bundle_named
from ...cohorts.folder import load_cohort, require_finished
from ...errors import DataError, ImageError
from ...files import read_json, require_file
from ...geometry import resample as resample_onto
from ...geometry import same_grid
from ...images import inside, read_image, whole_labels
from ...tables import read_sheet
from ...types import Bundle, Case, Cohort, Predictions, Volume
from ...words import named
from .nnunet import Channel


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the prediction of one bundle in one participant lies: a mask or a label map, and probabilities.

    ``labels`` are the values of a label map that mean this bundle; there are none for a mask. ``known`` are all values
    that have a meaning there. ``channel`` is the place of the mask in an image of several.
    """

    mask: Path | None = None
    channel: int | None = None
    labels: tuple[int, ...] = ()
    known: tuple[int, ...] = ()
    probability: Path | Channel | None = None

    def read_mask(self, threshold: float | None) -> Volume:
        """The boolean mask: by the threshold where one is given and probabilities are there, else as written."""
        volume = self.read_probability() if self.mask is None or threshold is not None else None
        if volume is None:
            if self.mask is None:
                raise DataError("A prediction needs a mask or probabilities; this one has neither.")
            volume = _read(self.mask, self.channel)
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
    ``unwritten`` says what a bundle is that other cases have and this one does not: ``unavailable`` or ``missed``;
    ``layout`` in which of its layouts a folder was read, and ``ignored`` which images in it were not.
    """

    name: str
    model: str
    layout: str = "shiftkit"
    ignored: tuple[str, ...] = ()
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
        return named(keys)

    def told(self, cohort: Cohort) -> tuple[str, ...]:
        """What of the predictions was understood for a cohort, and what was not: one fact a sentence."""
        mine = [case.key for case in cohort if self.of(case)]
        asked = [one.label for one in cohort.bundles if any(self.source(case, one) for case in cohort)]
        lines = [
            f"Predictions {self.name} ({self.layout}): {len(mine)} of {len(cohort)} cases of {cohort.name}, bundles "
            f"{' '.join(asked) or 'none'}."
        ]
        if lacking := [bundle.label for bundle in cohort.bundles if bundle.label not in asked]:
            lines.append(f"Bundles of {cohort.name} without a prediction: {' '.join(lacking)}.")
        known = {_same(bundle) for bundle in cohort.bundles}
        if spare := [bundle.label for bundle in sorted(self.bundles) if _same(bundle) not in known]:
            lines.append(f"Predicted, and no reference mask of it in {cohort.name}: {named(spare, 10, ' ')}.")
        return tuple(lines)

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Every file that is read."""
        found: set[Path] = set()
        for source in (source for sources in self.cases.values() for source in sources.values()):
            probability = source.probability
            found |= {one for one in (source.mask, probability) if isinstance(one, Path)}
            found |= {probability.path} if isinstance(probability, Channel) else set()
        return tuple(sorted(found))

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
    # As importers name participants: of sub-1, sub1 and 1 the number is left.
    return re.sub(r"[^A-Za-z0-9]", "", re.sub(r"^(sub-)?(sub(?=\d))?", "", key))


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


def _read(path: Path, channel: int | None = None) -> Volume:
    volume = read_image(path)
    if channel is not None:
        if volume.array.ndim != 4 or channel >= volume.array.shape[3]:
            raise ImageError(
                f"{path} must hold one volume a bundle, {len(TRACTSEG_ORDER)} in TractSeg's order; it has shape "
                f"{volume.array.shape}."
            )
        return volume.with_array(volume.array[..., channel])
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


def find_predictions(predictions: Predictions | PredictedMasks | Path | Cohort) -> PredictedMasks:
    """Index predicted masks; images are not opened, and what is indexed already is handed back.

    Parameters
    ----------
    predictions : Predictions, PredictedMasks, Cohort or Path
        A folder is read in the first of these layouts that it has:

        shiftkit
            A cohort on disk whose masks are predictions, with ``participants.tsv``.
        nnU-Net, one label map a case
            ``dataset.json`` and ``CASE.nii.gz``; ``labels`` in ``dataset.json`` names the bundles, each with one value
            or, trained on regions, with several, so that bundles can overlap. Probabilities come from ``CASE.npz``,
            where it is there; the ``.pkl`` beside it is never opened.
        integer atlas
            ``CASE.nii.gz`` beside one lookup table: ``.tsv`` or ``.csv`` with columns ``index`` (or ``label``, ``id``,
            ``value``) and ``name``, ``.txt`` with a value and a name a line, ``.json`` with one of both by the other.
        TractSeg
            ``CASE/[tractseg_output/]bundle_segmentations/AF_left.nii.gz``, masks or probabilities, or one such folder
            for one participant; also one file with all 72 bundles in TractSeg's order,
            ``CASE/[tractseg_output/]bundle_segmentations.nii.gz``.
        BIDS derivative
            ``sub-01/[ses-01/][anat|dwi/]sub-01_…_[hemi-L_]label-AF_…_mask.nii.gz`` or ``_probseg``; or ``_dseg.nii.gz``
            with its lookup table beside it, or in the folder above all.
        one folder a case
            ``CASE/AF_left.nii.gz``.
        one binary file a case
            ``BUNDLE/CASE.nii.gz``: one folder a bundle, as from one nnU-Net a bundle.

        ``CASE`` is ``sub-01`` or ``01``, with ``_ses-01`` or in a subfolder ``ses-01`` where there are sessions.
        ``BUNDLE`` is ``AFleft``, ``AF_L``, ``lh.AF``, …; see `shiftkit.bundles.bundle_named`.

    Raises
    ------
    DataError
        If the folder is missing or has none of these layouts.
    """
    if isinstance(predictions, PredictedMasks):
        return predictions
    if isinstance(predictions, Predictions):
        return _of_cohort(predictions.cohort, predictions.model, predictions.modality)
    if isinstance(predictions, Cohort):
        return _of_cohort(predictions)
    root = Path(predictions)
    if not root.is_dir():
        raise DataError(f"Predictions lie in a folder; there is none at {root}.")
    require_finished(root)
    if (root / "participants.tsv").is_file() and not any(root.rglob("sub-*_hemi-*")) and not _parcellations(root):
        return _of_cohort(load_cohort(root))
    name = root.resolve().name
    for layout, read in _LAYOUTS.items():
        cases = read(root)
        if cases:
            made = PredictedMasks(name=name, model=name, layout=layout, cases=cases)
            images = sorted(path for suffix in (*_SUFFIXES, *_NO_IMAGES) for path in root.rglob(f"*{suffix}"))
            spare = [str(path.relative_to(root)) for path in images if path not in set(made.files)]
            return replace(made, ignored=tuple(spare))
    raise DataError(
        f"Predictions must lie in shiftkit's layout (participants.tsv, sub-*/dwi/*_mask.nii.gz), TractSeg's "
        f"(CASE/bundle_segmentations/AF_left.nii.gz, or one file with 72 volumes), nnU-Net's (CASE.nii.gz beside "
        f"dataset.json, or BUNDLE/CASE.nii.gz), BIDS (sub-01/dwi/sub-01_hemi-L_label-AF_mask.nii.gz), or be label maps "
        f"with a lookup table (CASE.nii.gz beside labels.tsv); {root} has none of these{_shown(root)}. Give the folder "
        "that holds them."
    )


def merge_predictions(places: Sequence[Path]) -> PredictedMasks:
    """The predictions of several folders as those of one tool, such as patients in one and controls in another.

    Each is read as `find_predictions` does; a `DataError` where two hold the same case, or are the same folder.
    """
    same = [place.resolve() for place in places]
    if twice := [str(place) for number, place in enumerate(places) if place.resolve() in same[:number]]:
        raise DataError(f"Each folder of predictions is named once; {twice[0]} is named twice. Leave one out.")
    found = [find_predictions(place) for place in places]
    if len(found) == 1:
        return found[0]
    first: dict[str, Path] = {}
    for place, one in zip(places, found, strict=True):
        for key in one.cases:
            if (other := first.setdefault(_identifier(key), place)) is not place:
                raise DataError(
                    f"A prediction stands once; {key} is predicted in {other} and in {place}: several folders are the "
                    "parts of one tool's predictions. Remove one of both; to compare two tools, score each, and give "
                    "decompose one table with both."
                )
    named = [(_identifier(key), key, (key, sources)) for one in found for key, sources in one.cases.items()]
    models = dict.fromkeys(one.model for one in found)
    return PredictedMasks(
        name=" and ".join(one.name for one in found),
        model="+".join(models),
        modality=found[0].modality,
        layout=" and ".join(dict.fromkeys(one.layout for one in found)),
        ignored=tuple(f"{one.name}/{path}" for one in found for path in one.ignored),
        cases=dict(_once(named, "the case").values()),
    )


def _of_cohort(cohort: Cohort, model: str | None = None, modality: str | None = None) -> PredictedMasks:
    cases = {
        case.key: {
            bundle: Source(mask=case.masks.get(bundle), probability=case.probabilities.get(bundle))
            for bundle in sorted({*case.masks, *case.probabilities})
        }
        for case in cohort
    }
    told = cohort.description.get("Model")
    # Folders that shiftkit predicted into say whose masks they hold; others may have a name there, or nothing.
    named = told if isinstance(told, Mapping) else {"Name": told, "Modality": cohort.description.get("Modality")}
    return PredictedMasks(
        name=cohort.name,
        model=model or str(named.get("Name") or cohort.name),
        modality=modality or str(named.get("Modality") or "n/a"),
        cases=cases,
    )


def _label_maps(root: Path) -> dict[str, dict[Bundle, Source]]:
    description = root / "dataset.json"
    return _of_labels(_images(root), _labels(description)) if description.is_file() else {}


def _of_labels(images: Mapping[Path, str], labels: Mapping[str, tuple[int, ...]]) -> dict[str, dict[Bundle, Source]]:
    """Label maps with the values of each bundle; images are named by their cases."""
    known = tuple(sorted({0, *(value for values in labels.values() for value in values)}))
    meant = {name: values for name, values in labels.items() if name != "ignore" and set(values) - {0}}
    return {stem: _of_label_map(path, stem, meant, known) for path, stem in images.items()}


def _of_label_map(
    path: Path, stem: str, labels: Mapping[str, tuple[int, ...]], known: tuple[int, ...]
) -> dict[Bundle, Source]:
    array = path.with_name(f"{path.name.split('.')[0]}.npz")
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
    cases: list[tuple[str, Path, dict[Bundle, Source]]] = []
    for folder in folders:
        parts = [part for part in folder.relative_to(root).parts if part not in _BETWEEN]
        files = [(bundle_named(stem), path, Source(mask=path)) for path, stem in _images(folder).items()]
        sources = _once((one for one in files if one[0] is not None), "bundle")
        cases.append(("_".join(parts) or root.resolve().name, folder, sources))
    for path, stem in _images(root, "**/bundle_segmentations*").items():
        if stem == "bundle_segmentations":
            parts = [part for part in path.parent.relative_to(root).parts if part not in _BETWEEN]
            named = [(bundle_named(name), channel) for channel, name in enumerate(TRACTSEG_ORDER)]
            stacked = {one: Source(mask=path, channel=channel) for one, channel in named if one is not None}
            cases.append(("_".join(parts) or root.resolve().name, path, stacked))
    return _once(cases, "the case")


_LOOKUPS = (".tsv", ".csv", ".txt", ".json")
_NOT_LOOKUPS = ("dataset_description", "participants", "plans", "dataset_fingerprint", "predict_from_raw_data_args")
_VALUES = ("index", "label", "id", "value", "key")


def _atlas(root: Path) -> dict[str, dict[Bundle, Source]]:
    images = _images(root)
    files = [path for path in sorted(root.iterdir()) if path.suffix in _LOOKUPS and path.stem not in _NOT_LOOKUPS]
    tables = {path: lookup for path in files if (lookup := _lookup(path))} if images else {}
    if len(tables) > 1:
        raise DataError(
            f"Label maps have one lookup table; {root} holds {' and '.join(path.name for path in tables)}. Leave one."
        )
    return {key: sources for lookup in tables.values() for key, sources in _of_labels(images, lookup).items()}


def _lookup(path: Path) -> dict[str, tuple[int, ...]]:
    """Values by name of a lookup table; empty where a file is none."""
    require_file(path, "lookup table")
    if path.stat().st_size > _MOST_LOOKUP_BYTES:
        return {}
    try:
        if path.suffix == ".json":
            content: Any = read_json(path)
            pairs = [
                (name, value) if str(name).lstrip("-").isdigit() else (value, name) for name, value in content.items()
            ]
        elif path.suffix == ".txt":
            lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
            pairs = [(line[0], line[1]) for line in lines if len(line) > 1 and not line[0].startswith("#")]
        else:
            frame, _ = read_sheet(path)
            columns = {str(name).lower(): name for name in frame}
            value = next((columns[name] for name in _VALUES if name in columns), None)
            if value is None or "name" not in columns:
                return {}
            pairs = list(zip(frame[value], frame[columns["name"]], strict=True))
        found: dict[str, list[int]] = {}
        for value, name in pairs:
            found.setdefault(str(name), []).append(_label(value))
    except (ValueError, TypeError, AttributeError, OverflowError, UnicodeDecodeError):
        return {}
    values = [value for several in found.values() for value in several]
    if len(set(values)) < len(values):
        raise DataError(f"A lookup table gives each value one name; {path} has two names for one. Mend the table.")
    return {name: tuple(several) for name, several in found.items()}


_MOST_LOOKUP_BYTES = 2**20


def _parcellations(root: Path) -> dict[Path, Path]:
    """Label maps of a BIDS derivative, ``_dseg``, with the lookup table of each."""
    found: dict[Path, Path] = {}
    for path, stem in _images(root, "sub-*/**/*_dseg").items():
        atlas = next((part for part in stem.split("_") if part.startswith("atlas-")), None)
        above = (
            [f"{atlas}_dseg.tsv", "dseg.tsv"]
            if atlas
            else ["dseg.tsv", *(p.name for p in root.glob("desc-*_dseg.tsv"))]
        )
        places = (path.with_name(f"{stem}.tsv"), *(root / name for name in above))
        table = next((one for one in places if one.is_file()), None)
        if table is not None:
            found[path] = table
    return found


def _bids(root: Path) -> dict[str, dict[Bundle, Source]]:
    cases: dict[str, list[tuple[Bundle | None, Path, Source]]] = {}
    for path, stem in _images(root, "sub-*/**/sub-*").items():
        *parts, suffix = stem.split("_")
        entities = dict(part.split("-", 1) for part in parts if "-" in part)
        label, side = entities.get("label", ""), entities.get("hemi", "")
        if suffix not in ("mask", "probseg") or not label or label.lower() in _NO_BUNDLES:
            continue
        bundle = bundle_named(f"{label}_{side}" if side else label)
        source = Source(mask=path) if suffix == "mask" else Source(probability=path)
        cases.setdefault(_bids_key(entities), []).append((bundle, path, source))
    made = {key: _mask_and_probability(found) for key, found in cases.items()}
    for path, table in _parcellations(root).items():
        entities = dict(part.split("-", 1) for part in path.name.split("_") if "-" in part)
        key = _bids_key(entities)
        (sources,) = _of_labels({path: key}, _lookup(table)).values()
        made[key] = made.get(key, {}) | sources
    return made


_NO_BUNDLES = ("tumor", "lesion", "core", "brain", "edema")


def _bids_key(entities: Mapping[str, str]) -> str:
    return f"sub-{entities['sub']}" + (f"_ses-{entities['ses']}" if "ses" in entities else "")


def _mask_and_probability(found: Sequence[tuple[Bundle | None, Path, Source]]) -> dict[Bundle, Source]:
    """A bundle's mask and its probability, which lie in two files, as one source."""
    masks = _once((one for one in found if one[0] is not None and one[2].mask is not None), "bundle")
    shares = _once((one for one in found if one[0] is not None and one[2].mask is None), "bundle")
    both = {
        bundle: replace(masks[bundle], probability=shares[bundle].probability) for bundle in masks if bundle in shares
    }
    return {**shares, **masks, **both}


def _one_folder_a_case(root: Path) -> dict[str, dict[Bundle, Source]]:
    """Folders whose files are called as bundles are, at least as often as the folders themselves are."""
    images = {path: (bundle_named(stem), bundle_named(path.parent.name)) for path, stem in _images(root, "*/*").items()}
    by_file = sum(_looks_like(own) for own, _ in images.values())
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if not folders or by_file <= sum(_looks_like(folder) for _, folder in images.values()):
        # A folder that is empty is a case that a tool left unfinished.
        folders = [path for path in folders if path.name.startswith("sub-")]
    found = {
        path.name: [(own, one, Source(mask=one)) for one, (own, _) in images.items() if one.parent == path]
        for path in folders
    }
    return {name: _once((one for one in files if one[0] is not None), "bundle") for name, files in found.items()}


def _looks_like(bundle: Bundle | None) -> bool:
    """Whether a name is certainly that of a bundle: it has a side, or is a usual one."""
    return bundle is not None and (bundle.hemisphere != "none" or bundle.name.upper() in BUNDLE_NAMES)


def _one_folder_a_bundle(root: Path) -> dict[str, dict[Bundle, Source]]:
    cases: dict[str, list[tuple[Bundle, Path, Source]]] = {}
    for path, stem in _images(root, "*/*").items():
        bundle = bundle_named(path.parent.name)
        if bundle is not None:
            cases.setdefault(stem, []).append((bundle, path, Source(mask=path)))
    return {stem: _once(sources, "bundle") for stem, sources in cases.items()}


_LAYOUTS: Mapping[str, Callable[[Path], Mapping[str, Mapping[Bundle, Source]]]] = {
    "nnU-Net": _label_maps,
    "label maps with a lookup table": _atlas,
    "TractSeg": _tractseg,
    "BIDS derivative": _bids,
    "one folder a case": _one_folder_a_case,
    "one folder a bundle": _one_folder_a_bundle,
}
"""Layouts of other tools, in the order in which they are tried."""

_NO_IMAGES = (".trk", ".tck", ".trx")
"""What may lie there and is not read."""


def _shown(root: Path) -> str:
    """What a folder holds, in a few words."""
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return f"; it holds {', '.join(files[:3])}{' …' if len(files) > 3 else ''}" if files else ", and no file"
