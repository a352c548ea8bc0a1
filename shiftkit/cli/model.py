"""The verbs under ``shiftkit model``: look at a checkpoint, verify it, export it."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Look at a checkpoint, verify it, export it.")

Checkpoint = Annotated[str, typer.Argument(metavar="CKPT", help="Checkpoint folder, registered name, or reference.")]


@app.command()
def info(checkpoint: Checkpoint) -> None:
    """Print the model card."""
    from ..names import find_model
    from ..segmentation.network.checkpoints import load_model

    path = find_model(checkpoint)
    typer.echo(str(load_model(path)))
    card = path / "docs" / "README.md"
    if card.is_file():
        typer.echo(card.read_text(encoding="utf-8"))


@app.command()
def verify(checkpoint: Checkpoint) -> None:
    """Check digests, shapes and output; exit 3 if something is wrong."""
    from ..errors import DataError
    from ..names import find_model
    from ..segmentation.network.exporting import verify_model

    verdict = verify_model(find_model(checkpoint))
    for name, outcome in verdict.checks.items():
        typer.echo(f"{name}: {outcome}")
    if not verdict.sound:
        raise DataError(f"Checkpoint {checkpoint} is not sound; the lines above say why. Copy it again.")


@app.command()
def export(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="ONNX instead of TorchScript.")] = False,
    torchscript: Annotated[bool, typer.Option("--torchscript", help="TorchScript, the default.")] = False,
) -> None:
    """Write the network for other programs."""
    from ..names import find_model
    from ..segmentation.network.checkpoints import load_model
    from ..segmentation.network.exporting import export_model

    if onnx and torchscript:
        raise typer.BadParameter("Give --onnx or --torchscript, not both.")
    typer.echo(export_model(load_model(find_model(checkpoint)), out, "onnx" if onnx else "torchscript"))
