"""The verb that examines the estimators themselves."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Jobs, Seed, progress, say


def validate(
    replicates: Annotated[int, typer.Option(min=10, help="Simulated cohorts a cell.")] = 200,
    cell: Annotated[str | None, typer.Option(help="Only cells whose name holds this, such as 'recovery'.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for tables/validation.tsv.")] = None,
    jobs: Jobs = None,
    seed: Seed = None,
) -> None:
    """Simulate cohorts with known effects and tell how well the decomposition finds them."""
    from ..analyses.validation.cells import standard_cells
    from ..analyses.validation.study import validate as examine
    from ..catalogue import VALIDATION
    from ..tables import write_table
    from ..work import Work

    cells = [one for one in standard_cells() if cell is None or cell in one.name]
    if not cells:
        names = ", ".join(sorted({one.name for one in standard_cells()}))
        raise typer.BadParameter(f"--cell must be part of a cell's name ({names}); got {cell!r}.")
    found = examine(replicates, seed=seed or 0, cells=cells, work=Work(jobs=jobs or 0, progress=progress))
    say(str(found))
    if out is not None:
        path = out / "tables" / "validation.tsv"
        write_table(found.to_frame(), VALIDATION, path)
        say(f"Table: {path}")
