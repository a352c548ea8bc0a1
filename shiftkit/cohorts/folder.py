"""Cohorts on disk: the BIDS-derivative layout, read and written."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from ..bundles import choose_bundles
from ..errors import ConfigError, DataError, raise_all
from ..files import holds, write_json, write_text
from ..tables import harmless, read_cells
from ..types import Bundle, Case, Cohort
from ..words import name_problem, named, nearest, readable, same_person, understood, words_of
from .layout import Filters, candidates, choose, read_filters, read_json, sidecar_path
from .peaks import meaning_digest


def image_path(root: Path, key: str, modality: str) -> Path:
    """Where the image of a modality lies: ``t1w``, or the ``param-`` value of a map in ``dwi/``.

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


def write_image_sidecar(path: Path, skull_stripped: bool) -> None:
    """Say beside an image of the head, at ``path``, whether the skull was taken off, as BIDS asks of derivatives."""
    write_json(sidecar_path(path), {"SkullStripped": skull_stripped})


def tumor_path(root: Path, key: str, part: str = "tumor") -> Path:
    """Where the mask of the tumor, or of its ``core``, lies."""
    return _folder(root, key) / "anat" / f"{key}_label-{part}_mask.nii.gz"


def write_description(root: Path, name: str, **extra: Any) -> None:
    """Write what tells people and programs of a derivative what it is.

    These are ``dataset_description.json``, a ``README.md`` where there is none, ``.bidsignore`` for what BIDS has no
    names for, and ``mask.json``, which holds for all masks that lie there by then.
    """
    content = {
        "Name": name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "shiftkit", "Version": version("shiftkit")}],
        **extra,
    }
    write_json(root / "dataset_description.json", content)
    write_text(root / ".bidsignore", "".join(f"{pattern}\n" for pattern in _NOT_IN_BIDS))
    if not (root / "README.md").exists():
        write_text(root / "README.md", _README.format(name=name))
    # A sidecar without any file that it could be of is an error to validators.
    if next(root.glob("sub-*/**/*_mask.nii.gz"), None) is not None:
        write_json(root / "mask.json", _MASKS)


_NOT_IN_BIDS = (
    "*_dwimap.*",
    "*_probseg.*",
    "*_displacement.*",
    "*_phantom.json",
    "*_implant.json",
    "*_prediction.json",
    "fold-*",
    "models",
    "tables",
    "figures",
    "logs",
    "run.json",
    "*.toml",
)
"""What lies in shiftkit's folders and the standard has no name for: maps of BEP016, probabilities, tables, records."""

_README = """# {name}

Written by shiftkit, as a BIDS derivative. Folders `sub-*` hold a participant each: `anat/` T1w image and masks of
the tumor, `dwi/` maps (`param-fa`, `param-ap`, `param-peaks`) and one mask a bundle (`label-AFleft`: its name and
hemisphere).
`participants.json` says what the columns of `participants.tsv` mean.
"""

_MASKS = {
    "Description": "Binary mask of a bundle, the tumor, its core or the brain, as its label or desc says.",
    "Type": "ROI",
    "SpatialReference": "orig",
}


def read_description(root: Path) -> dict[str, Any]:
    """Read ``dataset_description.json``; empty where there is none, `DataError` if it is not a JSON object."""
    path = root / "dataset_description.json"
    return read_json(path) if path.is_file() else {}


UNFINISHED = "unfinished"
"""What a folder of predictions says of itself, as ``State`` in dataset_description.json, until all are written."""


def require_finished(root: Path) -> None:
    """Refuse, with a `DataError`, predictions that were interrupted: masks not yet written would count as missed."""
    if read_description(root).get("State") == UNFINISHED:
        raise DataError(
            f"Predictions must be finished before they are used; those in {root} are unfinished, since what wrote "
            "them was interrupted or still runs. Run the same command again with `resume`."
        )


def require_new(out: Path, resume: bool) -> None:
    """Refuse, with a `ConfigError`, a folder for predictions that holds something, unless it is to be resumed."""
    if holds(out) and not resume:
        raise ConfigError(f"Predictions need an empty folder; {out} holds files already. Give `resume` or `out`.")


def require_trainable(cohort: Cohort, modality: str, bundles: Sequence[str] = ()) -> tuple[Bundle, ...]:
    """The bundles to train on: those that are asked for, all without any.

    A `DataError` if the cohort has no masks of them, or nobody has the images; see
    `shiftkit.bundles.choose_bundles` for the names.
    """
    if not cohort.bundles:
        raise DataError(f"Training needs reference masks; cohort {cohort.name} has none.")
    chosen = choose_bundles(cohort.bundles, bundles, what=f"{cohort.name} has masks of")
    if lacking := [part for part in modality.split("+") if part not in cohort.modalities]:
        near = nearest(lacking[0], cohort.modalities)
        raise DataError(
            f"`modality` must be what the cohort's images are; {cohort.name} has "
            f"{' '.join(cohort.modalities) or 'no image'}, not {' '.join(lacking)}{near or '.'}"
        )
    return chosen


def other_name(case: Case, path: Path) -> str:
    """Whom a file in a case's folder is called after, where that is somebody else; else empty."""
    told = re.match(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?_", path.name)
    if told is None or (told[1] == case.participant_id and (told[2] is None or told[2] == case.session)):
        return ""
    return "_".join(part for part in told.groups() if part)


def require_own_files(cohort: Cohort) -> Cohort:
    """Refuse, with a `DataError`, files that are called after another participant; `shiftkit.checks` lists them all."""
    for case in cohort:
        for path in (*case.images.values(), *case.masks.values(), case.tumor, case.tumor_core):
            if path is not None and (other := other_name(case, path)):
                raise DataError(
                    f"Files in the folder of {case.key} carry its name; {path.name} is called after {other}. Find out "
                    "whose image it is, and move or rename it."
                )
    return cohort


def participants_frame(cohort: Cohort) -> pd.DataFrame:
    """The rows of ``participants.tsv`` of a cohort's participants."""
    rows = {case.participant_id: {"participant_id": case.participant_id, **case.attributes} for case in cohort}
    return pd.DataFrame(list(rows.values()))


def write_participants(root: Path, rows: pd.DataFrame) -> None:
    """Write ``participants.tsv``, missing values as ``n/a``."""
    write_text(
        root / "participants.tsv", harmless(rows).to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n")
    )
    meanings = {str(name): _COLUMNS.get(str(name), {"Description": "As its source has it."}) for name in rows.columns}
    write_json(root / "participants.json", meanings)


_COLUMNS: Mapping[str, Mapping[str, Any]] = {
    "participant_id": {"Description": "Name of the participant's folder."},
    "group": {
        "Description": "Who they are.",
        "Levels": {
            "control": "healthy, scanned as those that a network is trained on",
            "glioma": "patient with a glioma",
            "target_control": "healthy, scanned as the patients",
        },
    },
    "age": {"Description": "Age.", "Units": "year"},
    "sex": {"Description": "Sex.", "Levels": {"F": "female", "M": "male"}},
    "site": {"Description": "Where they were scanned."},
    "scanner": {"Description": "What they were scanned with."},
    "tumor_side": {
        "Description": "Hemisphere of the tumor; of several sessions, in the first.",
        "Levels": {"left": "left", "right": "right", "bilateral": "both"},
    },
    "tumor_volume_ml": {"Description": "Volume of the tumor mask; of several sessions, in the first.", "Units": "mL"},
    "split": {
        "Description": "What a participant of a training serves for.",
        "Levels": {"train": "trained on", "val": "chooses the epoch", "test": "never looked at"},
    },
}


def read_participants(root: Path) -> dict[str, dict[str, str]]:
    """Read ``participants.tsv`` into one mapping a participant, without missing values.

    Raises
    ------
    DataError
        If the file is missing, is not a table, has no ``participant_id``, or names a participant twice.
    """
    path = root / "participants.tsv"
    if not path.is_file():
        raise DataError(
            f"A cohort holds a participants.tsv; there is none in {root}. Write one with the columns participant_id "
            "and group, one row a folder sub-*."
        )
    frame = read_cells(path)
    if "participant_id" not in frame:
        there = ", ".join(map(str, frame))[:200]
        raise DataError(f"{path} must have a column participant_id; its columns are {there}.")
    twice = frame["participant_id"][frame["participant_id"].duplicated()].tolist()
    if twice:
        raise DataError(f"{path} must name each participant once; these stand twice: {named(twice)}.")
    problems = {name: name_problem(name) for name in frame["participant_id"]}
    strange = [f"participant_id {name[:40]!r} {problem}" for name, problem in problems.items() if problem]
    raise_all(strange[:5], str(path))
    rows: dict[str, dict[str, Any]] = frame.set_index("participant_id").to_dict("index")  # pyright: ignore
    return {
        name: {k: _word(k, v) for k, v in row.items() if _word(k, v) not in ("", "n/a")} for name, row in rows.items()
    }


def _word(column: str, text: str) -> str:
    """The word that is certainly meant; what is not understood stays, for the checks to name."""
    return (understood(column, text) or text) if words_of(column) else text


def participants_by_folder(root: Path) -> dict[str, dict[str, str]]:
    """`read_participants` under the names of the folders.

    A row whose id lacks its prefix or its zeros, which spreadsheets take off, goes to the one folder that it can mean.
    Rows and folders that are left without each other keep their names.
    """
    records, folders = read_participants(root), _folders(root)
    found = dict(records)
    rows, places = [name for name in records if name not in folders], [name for name in folders if name not in records]
    for place in places:
        same = [row for row in rows if same_person(row) == same_person(place)]
        if len(same) == 1 and [one for one in folders if same_person(one) == same_person(place)] == [place]:
            found[place] = found.pop(same[0])
    return found


def _folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(root) if _is_folder(entry, "sub-"))


def load_cohort(path: Path, name: str | None = None, *, filters: Filters | Path | None = None) -> Cohort:
    """Index a cohort folder, the one that holds ``participants.tsv``; images are not opened.

    ``filters`` say which entities (``space``, ``desc``, ``res``, ``model``, …) the chosen files must carry, or which
    JSON file says so; see `shiftkit.cohorts.layout.read_filters`.

    Raises
    ------
    DataError
        If the folder is missing, empty or not a cohort, if a participant's or session's folder has a name that none
        is, or if several files could be the same thing; the message names them. The rules of choice are those of
        `shiftkit.cohorts.layout.choose`.

    Notes
    -----
    Names are parsed here rather than by a general BIDS indexer: the layout has six kinds of files, and the
    one that was tried (bids2table 2.3) needs several times as long, see ``benchmarks/check.md``.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"A cohort is a folder; there is none at {root}.")
    wanted = read_filters(filters) if isinstance(filters, Path) else filters or {}
    records = participants_by_folder(root)
    cases: list[Case] = []
    ambiguous: list[str] = []
    folders = _folders(root)
    _require_names(folders, "sub", root)
    for participant_id in folders:
        folder = root / participant_id
        sessions = sorted(entry.name for entry in os.scandir(folder) if _is_folder(entry, "ses-"))
        _require_names(sessions, "ses", folder)
        for session in _wanted_sessions(sessions, wanted) or ([None] if not sessions else []):
            case, unclear = _index_case(folder, participant_id, session, records.get(participant_id, {}), wanted)
            cases.append(case)
            ambiguous += [f"{case.key}: {sentence}" for sentence in unclear]
    if ambiguous:
        more = [f"and {len(ambiguous) - 5} more"] if len(ambiguous) > 5 else []
        way = 'choose with a filter file, such as {"t1w": {"space": "ACPC"}, "mask": {"space": "ACPC"}}'
        raise_all([*ambiguous[:5], *more, way], f"Cohort {root}")
    if not cases:
        raise DataError(f"A cohort holds one folder sub-* a participant; there is none in {root}.")
    return Cohort(
        name=name or _plain(root.resolve().name), root=root, cases=tuple(cases), description=read_description(root)
    )


def _require_names(folders: Sequence[str], prefix: str, root: Path) -> None:
    """Refuse names that no file in these folders can carry, or that lead elsewhere when paths are made of them."""
    strange = [name for name in folders if not re.fullmatch(f"{prefix}-[A-Za-z0-9]{{1,60}}", name)]
    if strange:
        raise DataError(
            f"A folder of {root} is called {prefix}- and up to 60 letters and digits; there is "
            f"{named(repr(readable(name)[:40]) for name in strange)}. Rename it and its files, or move it out "
            "of the cohort."
        )


def _plain(name: str) -> str:
    """A folder's name as tables and pages can show it."""
    while (problem := name_problem(name)) is not None and problem != "is empty":
        name = re.sub(r"[<>]", "", readable(name).replace("\n", " ").replace("..", "."))[:100].lstrip("=+-@/~\\")
    return name or "cohort"


def _is_folder(entry: "os.DirEntry[str]", prefix: str) -> bool:
    return entry.name.startswith(prefix) and entry.is_dir()


def _wanted_sessions(sessions: list[str], filters: Filters) -> list[str]:
    wanted = filters.get("session", {}).get("ses")
    return sessions if wanted is None else [one for one in sessions if one.removeprefix("ses-") in wanted]


def _folder(root: Path, key: str) -> Path:
    return root.joinpath(*key.split("_"))


def _index_case(
    folder: Path, participant_id: str, session: str | None, attributes: Mapping[str, str], filters: Filters
) -> tuple[Case, list[str]]:
    found = list(candidates(folder if session is None else folder / session))
    chosen, ambiguous = choose(found, filters)
    case = Case(
        participant_id=participant_id,
        session=session,
        images={name: path for (kind, name), path in chosen.items() if kind == "image"},
        masks={Bundle.parse(name): path for (kind, name), path in chosen.items() if kind == "mask"},
        probabilities={Bundle.parse(name): path for (kind, name), path in chosen.items() if kind == "probseg"},
        tumor=chosen.get(("tumor", "")),
        tumor_core=chosen.get(("core", "")),
        attributes=attributes,
    )
    return case, ambiguous


def cohort_digest(cohort: Cohort) -> str:
    """One SHA-256 over all that a cohort's cases are: files, what says how these are read, attributes.

    Names count and not places: a cohort that was moved is the same cohort.
    """
    digest = hashlib.sha256()
    for case in cohort:
        digest.update(json.dumps([case.key, dict(sorted(case.attributes.items()))]).encode())
        paths = [*case.images.values(), *case.masks.values()]
        paths += [path for path in (case.tumor, case.tumor_core) if path is not None]
        for path in sorted(paths):
            digest.update(f"{path.name} {meaning_digest(path)}\n".encode())
    return digest.hexdigest()
