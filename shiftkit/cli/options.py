"""What several verbs share: options with one meaning, and how a verb ends."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .progress import Progress

if TYPE_CHECKING:
    from ..types import Cohort

progress = Progress()

Out = Annotated[Path, typer.Option("--out", help="Folder to write to; it must be new or empty.")]
CohortName = Annotated[str, typer.Option("--cohort", help="Path, registered name, or built-in: healthy, glioma.")]
ModelName = Annotated[str, typer.Option("--model", help="Checkpoint folder, registered name, or built-in: reference.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="TOML file with settings, or a run.json to replay; flags win.")
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
Jobs = Annotated[int | None, typer.Option("--jobs", min=0, help="Processes; 0 uses every core.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything random.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in --out.")]
FilterFile = Annotated[
    Path | None,
    typer.Option("--bids-filter-file", help="JSON file: which entities (space, desc, res, ses, …) files must carry."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def finish(outcome: Any, as_json: bool = False) -> None:
    """Print what a run ended with, as lines or as JSON, and fail if participants did."""
    if as_json:
        typer.echo(json.dumps(outcome.to_dict(), indent=2, ensure_ascii=False))
    else:
        say(*outcome.lines())
    raise_unfinished(outcome.failed)


def raise_unfinished(failed: Any) -> None:
    """End with exit code 4 if participants failed, naming the first three."""
    from . import Unfinished

    progress.close()
    if failed:
        listed = "; ".join(f"{participant}: {reason}" for participant, reason in list(failed.items())[:3])
        raise Unfinished(f"{len(failed)} failed ({listed}{'; …' if len(failed) > 3 else ''})")


def cohort_of(name: str, filters: Path | None) -> "Cohort":
    """The cohort of a name or path; ``filters`` is what ``--bids-filter-file`` gave."""
    from ..names import find_cohort
    from ..work import Work

    return find_cohort(name, filters=filters, work=Work(progress=progress))


def filtered(name: str | None, filters: Path | None) -> "str | Cohort | None":
    """A name as it is, for a stage that looks it up when its turn comes; with a filter, the cohort."""
    return name if name is None or filters is None else cohort_of(name, filters)


def integers(text: str, option: str) -> tuple[int, ...]:
    """Whole numbers from ``1,4`` or ``1 4``."""
    try:
        return tuple(int(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise typer.BadParameter(f"{option} takes whole numbers, such as 1,4; got {text!r}.") from None


def box(text: str | None, option: str) -> tuple[int, int, int] | None:
    """Three numbers of voxels from ``48,48,48``; one number stands for all three."""
    if text is None:
        return None
    numbers = integers(text, option)
    if len(numbers) not in (1, 3):
        raise typer.BadParameter(
            f"{option} takes one or three numbers of voxels, such as 48 or 48,64,48; got {text!r}."
        )
    x, y, z = numbers if len(numbers) == 3 else numbers * 3
    return x, y, z


def words(values: list[str] | None) -> tuple[str, ...] | None:
    """Both ``--bundles AF --bundles FAT`` and ``--bundles AF,FAT`` are understood."""
    return None if values is None else tuple(word for value in values for word in value.replace(",", " ").split())


def say(*lines: str) -> None:
    """Print lines on stdout, after the progress bar is gone."""
    progress.close()
    for line in lines:
        typer.echo(line, file=sys.stdout)
