"""Predicted masks on disk, whoever made them: shiftkit's layout, TractSeg's and nnU-Net's."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..cohorts import load_cohort
from ..errors import DataError
from ..types import Bundle, Cohort, Predictions
from .nnunet import Channel
from .predictions import PredictedMasks, Source

_SUFFIX = ".nii.gz"
_SYNONYMS = {"CST": "PYT", "IFO": "IFOF"}
"""TractSeg's names of bundles that are called otherwise here."""


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
        ``BUNDLE`` is ``AFleft`` or ``AF_left``; ``CST`` is read as ``PYT`` and ``IFO`` as ``IFOF``.

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


def parse_bundle(name: str) -> Bundle | None:
    """Read a bundle's name as tools write it; None for what is not one.

    Examples
    --------
    >>> [str(parse_bundle(name)) for name in ("AF_left", "CST-right", "IFOFleft", "CC")]
    ['AFleft', 'PYTright', 'IFOFleft', 'CC']
    """
    label = re.sub(r"[_\- ]", "", name)
    label = re.sub(r"(?i)(left|right)$", lambda side: side[0].lower(), label)
    if not re.fullmatch(r"[A-Za-z0-9]+", label) or label in ("left", "right"):
        return None
    bundle = Bundle.parse(label)
    return Bundle(name=_SYNONYMS.get(bundle.name, bundle.name), hemisphere=bundle.hemisphere)


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
    return {path.name.removesuffix(_SUFFIX): _of_label_map(path, labels) for path in sorted(root.glob(f"*{_SUFFIX}"))}


def _of_label_map(path: Path, labels: Mapping[str, tuple[int, ...]]) -> dict[Bundle, Source]:
    array = path.with_name(path.name.removesuffix(_SUFFIX) + ".npz")
    is_region = any(len(values) > 1 for values in labels.values())
    sources: dict[Bundle, Source] = {}
    for place, (name, values) in enumerate(labels.items()):
        bundle = parse_bundle(name)
        if bundle is not None:
            index = place if is_region else values[0]
            channel = Channel(path=array, label_map=path, index=index, is_region=is_region)
            sources[bundle] = Source(mask=path, labels=values, probability=channel if array.is_file() else None)
    return sources


def _labels(description: Path) -> dict[str, tuple[int, ...]]:
    """Values by name, in order, without background."""
    try:
        labels: dict[str, Any] = json.loads(description.read_text(encoding="utf-8"))["labels"]
        values = {name: tuple(int(v) for v in np.atleast_1d(value)) for name, value in labels.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f'{description} must hold "labels" with the values of each bundle, as in {{"AFleft": 1}}; it does not '
            f"({error!r})."
        ) from error
    return {name: value for name, value in values.items() if name != "ignore" and set(value) - {0}}


def _tractseg(root: Path) -> dict[str, dict[Bundle, Source]]:
    folders = [root] if root.name == "bundle_segmentations" else []
    for depth in ("", "*/", "*/*/", "*/*/*/"):
        folders += sorted(path for path in root.glob(f"{depth}bundle_segmentations") if path.is_dir())
    folders = folders or sorted(path for path in root.glob("sub-*") if path.is_dir())
    cases: dict[str, dict[Bundle, Source]] = {}
    for folder in folders:
        parts = [
            part
            for part in folder.relative_to(root).parts
            if part not in ("bundle_segmentations", "tractseg_output", "dwi")
        ]
        key = "_".join(parts) or root.resolve().name
        cases[key] = _bundle_files(folder)
    return cases


def _bundle_files(folder: Path) -> dict[Bundle, Source]:
    named = {parse_bundle(path.name.removesuffix(_SUFFIX)): path for path in sorted(folder.glob(f"*{_SUFFIX}"))}
    return {bundle: Source(mask=path) for bundle, path in named.items() if bundle is not None}


def _one_folder_a_bundle(root: Path) -> dict[str, dict[Bundle, Source]]:
    cases: dict[str, dict[Bundle, Source]] = {}
    for path in sorted(root.glob(f"*/*{_SUFFIX}")):
        bundle = parse_bundle(path.parent.name)
        if bundle is not None:
            cases.setdefault(path.name.removesuffix(_SUFFIX), {})[bundle] = Source(mask=path)
    return cases
