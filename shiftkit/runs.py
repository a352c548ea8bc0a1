"""A run on disk: its folder, what is written into it, how it ended, and where every number came from."""

import dataclasses
import json
import platform
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import ConfigError
from .files import holds, sweep, write_text
from .results import Result
from .tables import Table, write_table
from .work.packages import package_versions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """The folder of one run, and what it was asked to do.

    Parameters
    ----------
    verb : str
        The verb, by which ``config.toml`` and the seeds are filed.
    settings : mapping
        Every setting as it was resolved.
    resume : bool
        Whether a folder that holds something is continued.
    """

    root: Path
    verb: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    resume: bool = False
    started: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))

    def open(self) -> "Run":
        """Make the folder, or continue in it; see `require_own` for the errors."""
        self.require_own()
        sweep(self.root)  # only now: in a folder of the user's nothing is touched
        self.root.mkdir(parents=True, exist_ok=True)
        self.write_configuration()  # at once: by it a later run knows this folder for one of its verb
        return self

    def require_own(self) -> None:
        """Refuse a folder that cannot be this run's, before anything is looked up, computed or written.

        Raises
        ------
        ConfigError
            If it holds something and ``resume`` was not asked for, or what no run of this verb began: nothing is ever
            overwritten.
        """
        if self.root.exists() and not self.root.is_dir():
            raise ConfigError(f"A run needs a folder of its own; {self.root} is a file. Give another `out`.")
        if holds(self.root) and not self.resume:
            raise ConfigError(
                f"A run needs an empty folder; {self.root} holds files already. Give `resume` to continue that run, "
                "or another `out`."
            )
        if not holds(self.root):
            return
        try:
            begun = tomllib.loads((self.root / "config.toml").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            begun = {}
        # A demonstration ends in a decomposition, in the same folder.
        kin = {"demo", "decompose"} if self.verb in ("demo", "decompose") else {self.verb}
        if not kin & set(begun):
            raise ConfigError(
                f"`resume` continues a run of shiftkit {self.verb}; {self.root} holds files that none wrote: its "
                f"config.toml has no table [{self.verb}]. Give another `out`."
            )

    def write_table(self, frame: pd.DataFrame, table: Table, **facts: object) -> None:
        """Write one of the published tables under ``tables/``; ``facts`` go into its dictionary."""
        write_table(frame, table, self.root / "tables" / f"{table.name}.tsv", facts)

    def write_failures(self, failed: Mapping[str, str]) -> None:
        """Write ``logs/failed.tsv``: who failed, and why."""
        write_failures(self.root, failed)

    def write_configuration(self) -> None:
        """Write ``config.toml``: every setting, as it was resolved."""
        import tomli_w

        given = {name: value for name, value in self.settings.items() if value is not None}  # TOML has no null
        write_text(self.root / "config.toml", tomli_w.dumps({self.verb: given}))

    def record(self, **content: Any) -> dict[str, Any]:
        """Version, packages, times, settings and what the caller adds: what ``run.json`` and the report tell."""
        return {
            "shiftkit": version("shiftkit"),
            "python": platform.python_version(),
            "packages": package_versions(),
            "started": self.started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "configuration": dict(self.settings),
            "seeds": {self.verb: self.settings["seed"]} if "seed" in self.settings else {},
            **content,
        }

    def write_record(self, **content: Any) -> None:
        """Write ``run.json``, last of all: its presence says that the run is complete."""
        text = json.dumps(self.record(**content), indent=2, ensure_ascii=False)
        write_text(self.root / "run.json", text + "\n")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome(Result):
    """What a run ended with: the answer as any result gives it, and where everything lies.

    Parameters
    ----------
    root : Path
        The run's folder; ``report.html`` and ``tables/`` are in it.
    failed : mapping of str to str
        Participants without a result, with the reason.
    result : object
        The study's own result; None where nothing was computed.
    said : tuple of str
        What the command line prints, where it is not the claim alone.
    facts : mapping
        What it gives to machines besides claim and failures.
    """

    root: Path
    failed: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    result: Any = None
    said: tuple[str, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])

    @property
    def verdict(self) -> str:
        """The answer in words."""
        return self.claim

    def lines(self) -> list[str]:
        """What the command line prints."""
        report = self.root / "report.html"
        return [*(self.said or (self.claim,)), *([f"Report: {report}"] if report.is_file() else [])]

    def to_dict(self) -> dict[str, Any]:
        """The same for machines."""
        return {"verdict": self.claim, "report": "report.html", "failed": dict(self.failed), **self.facts}


def write_failures(root: Path, failed: Mapping[str, str]) -> Path:
    """Write ``logs/failed.tsv`` below a folder: who failed, and why."""
    frame = pd.DataFrame(sorted(failed.items()), columns=["participant_id", "reason"])
    path = root / "logs" / "failed.tsv"
    write_text(path, frame.to_csv(sep="\t", index=False, lineterminator="\n"))
    return path


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


def table_digest(frame: pd.DataFrame) -> str:
    """One SHA-256 over a table that came from no file."""
    import hashlib

    return hashlib.sha256(frame.to_csv(index=False, lineterminator="\n").encode()).hexdigest()
