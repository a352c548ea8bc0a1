"""``shiftkit predict``: masks and probabilities of a cohort."""

from typing import Annotated

import typer

from .options import CohortName, Device, FilterFile, Out, Resume, box, cohort_of, progress, raise_unfinished, say


def predict(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            help="Checkpoint folder, registered name, or reference; give several to average them. A folder with "
            "fold-1, fold-2, … segments each participant with the models that never saw them.",
        ),
    ],
    cohort: CohortName,
    out: Out,
    mirrored: Annotated[
        bool, typer.Option("--mirrored", help="Average with the prediction for the mirror image; twice the time.")
    ] = False,
    window: Annotated[
        str | None,
        typer.Option(
            help="Go through each brain in windows of so many voxels, such as 48,48,48: less memory. By "
            "default the size of the model's patches, or the whole brain."
        ),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities/--no-probabilities", help="Write voxel-wise probabilities too.")
    ] = True,
    filters: FilterFile = None,
    device: Device = None,
    resume: Resume = False,
) -> None:
    """Segment a cohort: masks and probabilities on each participant's own grid."""
    from ..names import find_model
    from ..segmentation.prediction.cohort import predict as segment
    from ..segmentation.prediction.routing import open_models
    from ..work import Work

    predictions = segment(
        open_models([find_model(one) for one in model]),
        cohort_of(cohort, filters),
        out=out,
        probabilities=probabilities,
        mirrored=mirrored,
        window=box(window, "--window"),
        device=device or "auto",
        resume=resume,
        work=Work(progress=progress),
    )
    what = "Masks and probabilities" if probabilities else "Masks"
    say(f"{what} of {len(predictions.cohort)} participants: {out}")
    raise_unfinished(predictions.failed)
