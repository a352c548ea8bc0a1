"""``shiftkit finetune``: a model adapted to patients, in folds, or with few of them."""

from typing import Annotated

import typer

from .options import (
    CohortName,
    Config,
    Device,
    FilterFile,
    Jobs,
    ModelName,
    Out,
    Resume,
    Seed,
    filtered,
    finish,
    integers,
    progress,
    raise_unfinished,
    say,
    words,
)


def finetune(
    model: ModelName,
    cohort: CohortName,
    out: Out,
    strategy: Annotated[
        str | None, typer.Option(help="What is trained: one of the strategies above; decoder by default.")
    ] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="Folds over participants; 4 by default.")] = None,
    shots: Annotated[
        list[str] | None,
        typer.Option("--shots", help="Numbers of patients, such as 2,4,8: learning curves, beside scratch."),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(min=1, help="Random choices of patients for each number; 3 by default.")
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="A wider input that begins with the model's own, such as t1w+fa.")
    ] = None,
    bundles: Annotated[
        list[str] | None, typer.Option("--bundles", help="Bundles to add to the model's, such as CC or ORleft.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the strategy's own number.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="Controls to predict too, to measure forgetting; not with --shots.")
    ] = None,
    filters: FilterFile = None,
    config: Config = None,
    device: Device = None,
    jobs: Jobs = None,
    seed: Seed = None,
    resume: Resume = False,
) -> None:
    """Adapt a model to patients in K folds; each patient is predicted by the model that never saw it.

    Strategies:

    \b
    none       Zero-shot: nothing is trained.
    scratch    Patients only, from random weights.
    full       Everything is trained.
    decoder    The encoder is frozen, decoder and head are trained (the published study's choice).
    encoder    The encoder is trained, decoder and head are frozen.
    head       Only the last unit is trained.
    norm       Only the affine parameters of normalization layers are trained.
    adabn      Nothing is trained; batch normalization gets the patients' statistics.
    gradual    Everything is trained in the end; blocks are unfrozen one by one from the output.
    layerwise  Everything is trained, each block at 0.7 times the rate of the one nearer to the output.
    l2sp       Everything is trained, with a pull towards the source weights.

    With --shots every number of patients is tried in several random draws,
    beside training from scratch on the same patients, and scored out of fold:
    OUT/tables/shots.tsv, OUT/tables/learning_curves.tsv, OUT/figures/shots.svg.
    """  # noqa: D301  # \b keeps the lines of the list apart
    from ..config import Finetune, resolve
    from ..pipeline import finetune_cohort
    from ..types import Predictions

    flags = {
        "strategy": strategy,
        "folds": folds,
        "shots": None if shots is None else integers(" ".join(shots), "--shots"),
        "draws": draws,
        "modality": modality,
        "bundles": words(bundles),
        "epochs": epochs,
        "device": device,
        "jobs": jobs,
        "seed": seed,
    }
    made = finetune_cohort(
        model,
        filtered(cohort, filters) or cohort,
        out=out,
        reference=filtered(reference, filters),
        **vars(resolve(Finetune, flags, config)),
        resume=resume,
        announce=lambda plan: say(*plan.lines()),
        progress=progress,
    )
    if isinstance(made, Predictions):
        say(
            f"Out-of-fold predictions of {len(made.cohort)} participants: {made.cohort.root}",
            f"What became of each tensor, by name: {out / 'fold-1' / 'transfer.json'}",
        )
        raise_unfinished(made.failed)
    else:
        finish(made)
