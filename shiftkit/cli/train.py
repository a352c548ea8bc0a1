"""``shiftkit train``: a source model, or one a fold."""

from typing import Annotated

import typer

from .options import CohortName, Config, Device, FilterFile, Out, Resume, Seed, box, cohort_of, progress, say, words


def train(
    cohort: CohortName,
    out: Out,
    modality: Annotated[str | None, typer.Option(help="t1w, ap, fa, peaks, or a stack such as t1w+fa.")] = None,
    bundles: Annotated[list[str] | None, typer.Option("--bundles", help="Bundle labels; all by default.")] = None,
    folds: Annotated[int | None, typer.Option(min=1, help="Models, so that each control is scored unseen.")] = None,
    network: Annotated[str | None, typer.Option(help="unet (default), segresnet or dynunet.")] = None,
    normalization: Annotated[
        str | None, typer.Option(help="instance (default), or batch: unet only, for the strategy adabn.")
    ] = None,
    deep_supervision: Annotated[
        bool | None, typer.Option("--deep-supervision", help="Coarser levels answer too, in training: dynunet only.")
    ] = None,
    spacing: Annotated[
        float | None, typer.Option("--spacing", min=0.5, max=5.0, help="Voxel size of the model's grid in mm.")
    ] = None,
    patch: Annotated[
        str | None, typer.Option(help="Train on patches of so many voxels, such as 48,48,48; whole brains by default.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the participants; 30 by default.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Participants a step, over all processes together.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many validations without a better one.")
    ] = None,
    augmentation: Annotated[str | None, typer.Option(help="none, light (default), strong or acquisition.")] = None,
    memory: Annotated[
        float | None, typer.Option("--memory", min=0, help="GiB of memory for images; others are read again; 4.")
    ] = None,
    deterministic: Annotated[
        bool | None,
        typer.Option("--deterministic/--fast", help="On a GPU: the same bits each time (default), or faster."),
    ] = None,
    filters: FilterFile = None,
    config: Config = None,
    device: Device = None,
    seed: Seed = None,
    resume: Resume = False,
) -> None:
    """Train a source model, or K of them.

    Participants with split 'train' in participants.tsv are trained on, those
    with 'val' choose the epoch, those with 'test' are never looked at. With
    --folds the column is not used: each control is predicted by the model that
    never saw it, into OUT/predictions.
    """
    from ..api import train as train_model
    from ..config import Train, resolve

    flags = {
        "modality": modality,
        "bundles": words(bundles),
        "folds": folds,
        "network": network,
        "normalization": normalization,
        "deep_supervision": deep_supervision,
        "spacing_mm": spacing,
        "patch": box(patch, "--patch"),
        "epochs": epochs,
        "batch_size": batch_size,
        "patience": patience,
        "augmentation": augmentation,
        "memory_gib": memory,
        "deterministic": deterministic,
        "device": device,
        "seed": seed,
    }
    options = resolve(Train, flags, config)
    model = train_model(
        cohort_of(cohort, filters),
        **vars(options),
        out=out,
        resume=resume,
        progress=progress,
    )
    say(str(model), f"Checkpoint: {out}")
