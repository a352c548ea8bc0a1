"""Cohorts on disk: the BIDS-derivative layout, read and written."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import DataError
from .files import write_text
from .types import Bundle, Case, Cohort
from .version import __version__

_ENTITY = re.compile(r"([a-z]+)-([A-Za-z0-9]+)")


def image_path(root: Path, key: str, modality: str) -> Path:
    """Where the image of a modality lies.

    Parameters
    ----------
    root : Path
        The cohort's folder.
    key : str
        Participant and session, such as ``sub-01`` or ``sub-01_ses-01``; see `shiftkit.types.Case.key`.
    modality : str
        ``t1w``, or the ``param-`` value of a map in ``dwi/``.

    Examples
    --------
    >>> image_path(Path("cohort"), "sub-01", "fa").as_posix()
    'cohort/sub-01/dwi/sub-01_param-fa_dwimap.nii.gz'
    """
    if modality == "t1w":
        return _folder(root, key) / "anat" / f"{key}_T1w.nii.gz"
    return _folder(root, key) / "dwi" / f"{key}_param-{modality}_dwimap.nii.gz"


def mask_path(root: Path, key: str, bundle: Bundle) -> Path:
    """Where the mask of a bundle lies."""
    return _folder(root, key) / "dwi" / f"{key}_label-{bundle.label}_mask.nii.gz"


def probability_path(root: Path, key: str, bundle: Bundle) -> Path:
    """Where the voxel-wise probability of a bundle lies."""
    return _folder(root, key) / "dwi" / f"{key}_label-{bundle.label}_probseg.nii.gz"


def tumor_path(root: Path, key: str, part: str = "tumor") -> Path:
    """Where the mask of the tumor, or of its ``core``, lies."""
    return _folder(root, key) / "anat" / f"{key}_label-{part}_mask.nii.gz"


def write_description(root: Path, name: str, **extra: Any) -> None:
    """Write ``dataset_description.json`` of a derivative."""
    content = {
        "Name": name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "shiftkit", "Version": __version__}],
        **extra,
    }
    write_text(root / "dataset_description.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_participants(root: Path, rows: pd.DataFrame) -> None:
    """Write ``participants.tsv``, missing values as ``n/a``."""
    write_text(root / "participants.tsv", rows.to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n"))


def read_participants(root: Path) -> dict[str, dict[str, str]]:
    """Read ``participants.tsv`` into one mapping a participant, without missing values.

    Raises
    ------
    DataError
        If the file is missing, has no ``participant_id``, or names a participant twice.
    """
    path = root / "participants.tsv"
    if not path.is_file():
        raise DataError(f"A cohort holds a participants.tsv; there is none in {root}.")
    frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    if "participant_id" not in frame:
        raise DataError(f"{path} must have a column participant_id; its columns are {', '.join(frame)}.")
    twice = frame["participant_id"][frame["participant_id"].duplicated()].tolist()
    if twice:
        raise DataError(f"{path} must name each participant once; these stand twice: {', '.join(twice)}.")
    records: dict[str, dict[str, str]] = {}
    for record in frame.to_dict("records"):
        records[str(record["participant_id"])] = {
            str(column): str(value)
            for column, value in record.items()
            if column != "participant_id" and value not in ("", "n/a")
        }
    return records


def load_cohort(path: Path, name: str | None = None) -> Cohort:
    """Index a cohort folder; images are not opened.

    Parameters
    ----------
    path : Path
        The folder that holds ``participants.tsv``.
    name : str, optional
        How tables call the cohort; the folder's name by default.

    Raises
    ------
    DataError
        If the folder is missing, empty, or not a cohort.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"A cohort is a folder; there is none at {root}.")
    records = read_participants(root)
    cases: list[Case] = []
    for folder in sorted(root.glob("sub-*")):
        sessions = sorted(folder.glob("ses-*")) or [folder]
        attributes = records.get(folder.name, {})
        cases += [_index_case(session, folder.name, attributes) for session in sessions]
    if not cases:
        raise DataError(f"A cohort holds one folder sub-* a participant; there is none in {root}.")
    description = root / "dataset_description.json"
    return Cohort(
        name=name or root.resolve().name,
        root=root,
        cases=tuple(cases),
        description=json.loads(description.read_text()) if description.is_file() else {},
    )


def _folder(root: Path, key: str) -> Path:
    return root.joinpath(*key.split("_"))


def _index_case(folder: Path, participant_id: str, attributes: Mapping[str, str]) -> Case:
    images: dict[str, Path] = {}
    masks: dict[Bundle, Path] = {}
    probabilities: dict[Bundle, Path] = {}
    tumor: dict[str, Path] = {}
    for path in sorted(folder.glob("*/*.nii.gz")):
        stem = path.name.removesuffix(".nii.gz")
        suffix = stem.rsplit("_", 1)[-1]
        entities = dict(_ENTITY.findall(stem))
        label = entities.get("label", "")
        if suffix == "T1w":
            images["t1w"] = path
        elif suffix == "dwimap" and "param" in entities:
            images[entities["param"]] = path
        elif label in ("tumor", "lesion", "core"):
            tumor["core" if label == "core" else "tumor"] = path
        elif suffix == "mask" and label:
            masks[Bundle.parse(label)] = path
        elif suffix == "probseg" and label:
            probabilities[Bundle.parse(label)] = path
    return Case(
        participant_id=participant_id,
        session=folder.name if folder.name.startswith("ses-") else None,
        images=images,
        masks=masks,
        probabilities=probabilities,
        tumor=tumor.get("tumor"),
        tumor_core=tumor.get("core"),
        attributes=attributes,
    )
