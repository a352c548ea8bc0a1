"""A run on disk: its folder, what is written into it, and where every number came from."""

import dataclasses
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import ConfigError
from .files import file_digest, write_text
from .tables import Table, write_table
from .types import Cohort
from .version import __version__

_PACKAGES = ("torch", "monai", "accelerate", "nibabel", "numpy", "scipy", "pandas", "numba", "nilearn", "dipy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """The folder of one run.

    Parameters
    ----------
    root : Path
        The folder.
    started : datetime
        When the run began, in UTC.
    """

    root: Path
    started: datetime

    @classmethod
    def open(cls, root: Path, resume: bool) -> "Run":
        """Make the folder, or continue in it.

        Raises
        ------
        ConfigError
            If the folder holds something and ``resume`` was not asked for: nothing is ever overwritten.
        """
        if root.exists() and not root.is_dir():
            raise ConfigError(f"A run needs a folder of its own; {root} is a file. Give another --out.")
        if root.is_dir() and any(root.iterdir()) and not resume:
            raise ConfigError(
                f"A run needs an empty folder; {root} holds files already. Give --resume to continue that run, "
                "or another --out."
            )
        root.mkdir(parents=True, exist_ok=True)
        return cls(root=root, started=datetime.now(UTC))

    def write_table(self, frame: pd.DataFrame, table: Table) -> None:
        """Write one of the published tables under ``tables/``."""
        write_table(frame, table, self.root / "tables" / f"{table.name}.tsv")

    def write_failures(self, failed: Mapping[str, str]) -> None:
        """Write ``logs/failed.tsv``: who failed, and why."""
        frame = pd.DataFrame(sorted(failed.items()), columns=["participant_id", "reason"])
        write_text(self.root / "logs" / "failed.tsv", frame.to_csv(sep="\t", index=False, lineterminator="\n"))

    def write_configuration(self, stages: Mapping[str, Any]) -> None:
        """Write ``config.toml``: every setting of every stage, as it was resolved."""
        import tomli_w

        content = {
            name: {key: value for key, value in dataclasses.asdict(stage).items() if value is not None}
            for name, stage in stages.items()
        }
        write_text(self.root / "config.toml", tomli_w.dumps(content))

    def record(self, **content: Any) -> dict[str, Any]:
        """Version, packages and times, and what the caller adds: what ``run.json`` and the report tell."""
        return {
            "shiftkit": __version__,
            "python": platform.python_version(),
            "packages": package_versions(),
            "started": self.started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            **content,
        }

    def write_record(self, **content: Any) -> None:
        """Write ``run.json``, last of all: its presence says that the run is complete."""
        text = json.dumps(self.record(**content), indent=2, ensure_ascii=False)
        write_text(self.root / "run.json", text + "\n")


def keep(path: Path, digest: str, content: Mapping[str, Any]) -> None:
    """Write a finished piece of work, made from input of this digest, to be found after an interruption."""
    write_text(path, json.dumps({"digest": digest, **content}) + "\n")


def kept(path: Path, digest: str) -> dict[str, Any] | None:
    """What `keep` wrote for input of the same digest; None if there is nothing, or it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.pop("digest", None) == digest else None


def package_versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on; those not installed are left out."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def cohort_digest(cohort: Cohort) -> str:
    """One SHA-256 over every file of a cohort's cases and their attributes, whatever the folder is called."""
    import hashlib

    digest = hashlib.sha256()
    for case in cohort:
        digest.update(json.dumps([case.key, dict(sorted(case.attributes.items()))]).encode())
        paths = [*case.images.values(), *case.masks.values()]
        paths += [path for path in (case.tumor, case.tumor_core) if path is not None]
        for path in sorted(paths):
            digest.update(f"{path.name} {file_digest(path)}\n".encode())
    return digest.hexdigest()
