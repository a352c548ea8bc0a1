"""The verb ``features``."""

from pathlib import Path
from typing import Annotated

import typer

from .options import CohortName, Config, Device, Jobs, Json, ModelName, Out, Resume, Seed, finish, progress, words


def features(
    model: ModelName,
    cohort: CohortName,
    out: Out,
    reference: Annotated[str | None, typer.Option("--reference", help="Cohort that holds the controls.")] = None,
    finetuned: Annotated[list[Path] | None, typer.Option("--finetuned", help="Folder made by finetune.")] = None,
    scores: Annotated[Path | None, typer.Option("--scores", help="Score table of the model, if there is one.")] = None,
    layers: Annotated[
        list[str] | None, typer.Option("--layers", help="Depths, such as encoder-4; all by default.")
    ] = None,
    permutations: Annotated[int | None, typer.Option("--permutations", min=99, help="Permutations.")] = None,
    config: Config = None,
    device: Device = None,
    jobs: Jobs = None,
    seed: Seed = None,
    resume: Resume = False,
    json_: Json = False,
) -> None:
    """Where in the network controls and patients part, which part is the tumor's, and what differs in the images."""
    from ..config import Features, resolve
    from ..pipeline.features import features_cohort

    flags = {"layers": words(layers), "n_permutations": permutations, "device": device, "jobs": jobs, "seed": seed}
    outcome = features_cohort(
        out=out,
        options=resolve(Features, flags, config),
        model=model,
        cohort=cohort,
        reference=reference,
        finetuned=tuple(finetuned or ()),
        scores=scores,
        resume=resume,
        progress=progress,
    )
    finish(outcome, json_)
