"""Configuration: one frozen dataclass a stage, strict TOML, and the names a project registers.

A value comes from the flag, else from the file given with ``--config``, else from the nearest
``shiftkit.toml`` upwards from the current folder, else from the default. Unknown keys are refused with
their place. In place of a TOML file, the ``run.json`` of a decomposition gives the settings of that run.
"""

import dataclasses
import json
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import ConfigError, raise_all

FILE_NAME = "shiftkit.toml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decompose:
    """What ``shiftkit decompose`` and ``shiftkit demo`` can be told.

    Parameters
    ----------
    metric : str
        Primary metric.
    bundles, hemispheres : tuple of str
        Keep only these; all by default.
    covariates : tuple of str
        Columns of the score table to adjust for, within cohort.
    n_bootstrap, n_permutations : int
        Resampled and permuted cohorts.
    level : float
        Coverage of the intervals.
    equivalence_margin : float
        A systematic part smaller than this, in units of the metric, counts as none.
    sensitivity : bool
        Also compute the decomposition under other choices.
    include : tuple of str
        Further studies for the same report: ``features``, ``deformation``.
    allow : tuple of str
        Data checks whose errors do not stop the run.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    jobs : int
        Processes for scoring and checking; 0 uses every core.
    seed : int
        Seed of resampling and permutation.
    """

    metric: str = "dice"
    bundles: tuple[str, ...] = ()
    hemispheres: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    n_bootstrap: int = 2000
    n_permutations: int = 2000
    level: float = 0.95
    equivalence_margin: float = 0.02
    sensitivity: bool = True
    include: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    device: str = "auto"
    jobs: int = 0
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """What ``shiftkit train`` can be told; see `shiftkit.segmentation.training.source.train`."""

    modality: str = "peaks"
    bundles: tuple[str, ...] = ()
    folds: int = 1
    network: str = "unet"
    normalization: str = "instance"
    deep_supervision: bool = False
    spacing_mm: float = 2.5
    patch: tuple[int, ...] | None = None
    epochs: int | None = None
    batch_size: int = 1
    patience: int | None = None
    augmentation: str = "light"
    device: str = "auto"
    deterministic: bool = True
    memory_gib: float = 4.0
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetune:
    """What ``shiftkit finetune`` can be told; see `shiftkit.pipeline.finetune_cohort`."""

    strategy: str = "decoder"
    folds: int = 4
    shots: tuple[int, ...] = ()
    draws: int = 3
    modality: str | None = None
    bundles: tuple[str, ...] = ()
    epochs: int | None = None
    device: str = "auto"
    jobs: int = 0
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
    """What ``shiftkit features`` can be told; ``layers`` are depths of the network, all by default."""

    layers: tuple[str, ...] = ()
    n_permutations: int = 1000
    level: float = 0.95
    device: str = "auto"
    jobs: int = 0
    seed: int = 0


STAGES: Mapping[str, type] = {"decompose": Decompose, "train": Train, "finetune": Finetune, "features": Features}
Options = TypeVar("Options", Decompose, Train, Finetune, Features)


def resolve(stage: type[Options], flags: Mapping[str, Any], file: Path | None = None) -> Options:
    """Combine flags, configuration file and defaults.

    Parameters
    ----------
    stage : type
        One of the dataclasses of this module.
    flags : mapping
        Values given on the command line; None counts as not given.
    file : Path, optional
        The file of ``--config``; without it the nearest ``shiftkit.toml``.

    Raises
    ------
    ConfigError
        If the file cannot be read, or holds an unknown key or a value of the wrong type.

    Examples
    --------
    >>> resolve(Finetune, {"folds": 3, "strategy": None}).folds
    3
    """
    path = file or find_file()
    section = read_file(path).get(stage.__name__.lower(), {}) if path else {}
    given = {name: value for name, value in flags.items() if value is not None}
    return stage(**{**section, **given})


def find_file(start: Path | None = None) -> Path | None:
    """The nearest ``shiftkit.toml`` in ``start`` (by default the current folder) or above it."""
    start = (start or Path.cwd()).resolve()
    candidates = (folder / FILE_NAME for folder in (start, *start.parents))
    return next((path for path in candidates if path.is_file()), None)


def read_file(path: Path) -> dict[str, dict[str, Any]]:
    """Read and validate a configuration file.

    Returns
    -------
    dict
        One entry a table; values of stages have the types of their dataclass.

    Raises
    ------
    ConfigError
        Naming every unknown table, unknown key and value of the wrong type.
    """
    if path.suffix == ".json":
        content = {"decompose": read_record(path)["configuration"]}
    else:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path} must be a TOML file; it cannot be read: {error}.") from error
    problems: list[str] = []
    for table, entries in content.items():
        if table in STAGES:
            problems += _check_stage(table, entries)
        elif table not in ("cohorts", "models"):
            known = ", ".join((*STAGES, "cohorts", "models"))
            problems.append(f"table [{table}] is not known (known: {known})")
        elif not isinstance(entries, dict) or not all(isinstance(value, str) for value in entries.values()):
            problems.append(f"[{table}] must map names to paths, as in name = 'path'")
    raise_all(problems, str(path), ConfigError)
    return content


def read_record(path: Path) -> dict[str, Any]:
    """Read the ``run.json`` of a decomposition, whose settings and inputs a later run can be held to.

    Raises
    ------
    ConfigError
        If it is none.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} must be the run.json of a decomposition; it cannot be read: {error}.") from error
    if not isinstance(record, dict) or "decompose" not in record.get("seeds", {}) or "configuration" not in record:  # pyright: ignore
        raise ConfigError(f"{path} must be the run.json of a decomposition; it has no such settings.")
    return record  # pyright: ignore[reportUnknownVariableType]


def registered_names(kind: str) -> dict[str, Path]:
    """The names that the nearest ``shiftkit.toml`` gives to ``cohorts`` or ``models``.

    Relative paths are taken from the folder of that file.
    """
    path = find_file()
    if path is None:
        return {}
    return {name: path.parent / Path(value).expanduser() for name, value in read_file(path).get(kind, {}).items()}


def _check_stage(table: str, entries: Any) -> list[str]:
    if not isinstance(entries, dict):
        return [f"[{table}] must be a table"]
    hints = get_type_hints(STAGES[table])
    problems: list[str] = []
    for key, value in entries.items():
        if key not in hints:
            problems.append(f"[{table}] {key} is not known (known: {', '.join(hints)})")
        elif not _fits(value, hints[key]):
            problems.append(f"[{table}] {key} must be {_words(hints[key])}; got {value!r}")
        elif isinstance(value, list):
            entries[key] = tuple(value)
    return problems


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _words(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_words(part) for part in get_args(hint) if part is not type(None))
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(hint) or f"a list, each item {names[get_args(hint)[0]]}"
