"""The public functions: one a verb, taking names, paths or objects alike.

Their signatures declare every option: the command line reads its flags from them, ``shiftkit.toml`` its keys, and both
share bounds, defaults and help with Python. What a result means stands where it is made; each function says where.
Options that the signature explains are not explained again. Everything heavy is imported inside a function, so that
reading the signatures costs nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, overload

from .errors import ConfigError
from .files import one_at_a_time, require_one_process
from .options import Input, Option, checked, passed_on, settings_of
from .words import nearest, understood, words_of
from .work import Progress, Work
from .work.addresses import LOCAL, SCHEDULERS

if TYPE_CHECKING:
    import pandas as pd

    from .analyses.comparison import Comparison
    from .analyses.decomposition.result import Decomposition
    from .analyses.decomposition.rows import Rows
    from .analyses.deformation.result import DeformationResult
    from .analyses.scoring.table import ScoreTable
    from .analyses.validation.planning import Plan
    from .analyses.validation.study import Validation
    from .checks import CheckReport
    from .cohorts.layout import Filters
    from .cohorts.preparation import Prepared
    from .phantoms.implants import Implanted
    from .reports import CohortSummary, Report
    from .results import Finding, Result
    from .runs import Outcome
    from .segmentation.network.checkpoints import Model
    from .segmentation.network.exporting import Verdict
    from .segmentation.training.source import FoldModels
    from .types import Cohort, Predictions

Place = Annotated["str | Path", Input("Folder to write to; it must be new or empty.", required=True)]
CohortName = Annotated["str | Path | Cohort", Input("Path, registered name, or built-in: healthy, glioma.")]
ModelName = Annotated[
    "str | Path | Model",
    Input("Checkpoint, registered name, built-in: reference, or your own: file.py:function, MONAI bundle, .onnx."),
]
Checkpoint = Annotated["str | Path", Input("Checkpoint folder, registered or built-in name.", metavar="CKPT")]
RunFolder = Annotated["str | Path", Input("Folder of a run.", metavar="RUN")]
Controls = Annotated["str | Path | Cohort | None", Input("Cohort that holds the controls.")]
FilterFile = Annotated[
    "str | Path | Filters | None",
    Input("JSON file: which entities (space, desc, res, ses, …) files must carry.", flag="--bids-filter-file"),
]
Bundles = Annotated[Sequence[str], Option("Only these; all by default.")]
Hemispheres = Annotated[Sequence[str], Option("left, right, none.")]
Session = Annotated[str | None, Option("Of participants scanned several times: a label, first or last.")]
Labels = Annotated[Sequence[str], Option("Only these participants, such as 01,02 or sub-01; all by default.")]
PatientLabels = Annotated[
    Sequence[str], Option("Only these patients, such as 01,02 or sub-01; all by default. Controls stay.")
]
Device = Annotated[str, Option("auto, cpu, cuda, cuda:N or mps.", form=r"auto|cpu|mps|cuda(:\d+)?")]
Jobs = Annotated[int, Option("Processes; 0 uses every core.", min=0)]
# No setting, so that no record names a host: what a cluster computes is the same.
Scheduler = Annotated[
    str, Input("local, or dask://HOST:PORT of a Dask scheduler, whose workers are the processes.", form=SCHEDULERS)
]
Seed = Annotated[int, Option("Seed of everything random.", min=0)]
Shards = Annotated[
    str | None,
    Input("One part of several, 1/8 to 8/8, on as many machines; then merge/8 puts them together in --out."),
]
Dry = Annotated[bool, Input("Say what would be done and what it would take, and stop.", flag="--dry-run")]
Resume = Annotated[bool, Input("Continue an interrupted run in --out.")]
Draws = Annotated[int, Option("Bootstrap draws.", min=100, flag="--bootstrap")]
Permutations = Annotated[int, Option("Permutations.", min=99, flag="--permutations")]
Level = Annotated[float, Option("Coverage of the intervals.", min=0.5, max=0.9999)]
Size = tuple[int, int, int]
Strategy = Literal[
    "none", "scratch", "full", "decoder", "encoder", "head", "norm", "adabn", "gradual", "layerwise", "l2sp"
]
Format = Literal["tractoinferno", "brainptm", "hcp105", "tractseg", "pyafq", "brats"]
Say = Callable[[str], None]


def load_cohort(cohort: "str | Path | Cohort", *, filters: "str | Path | Filters | None" = None) -> "Cohort":
    """Index a cohort by path, registered name or built-in name; see `shiftkit.names.find_cohort`."""
    from .names import find_cohort

    return find_cohort(cohort, filters=filters)


def load_model(model: "str | Path | Model", *, source: "str | Path | Model | None" = None) -> "Model":
    """Load a model by path, registered name, built-in name or ``file.py:function``, which is run and makes one.

    ``source`` is the model that was tuned, where that is a module of your own and ``model`` a fold of `finetune`.
    A `DataError` if it is missing, damaged or no model. See `shiftkit.pipeline.inputs.place_of_model`.
    """
    from .pipeline.inputs import open_model

    return open_model(model, source)


def load_scores(
    scores: "str | Path | pd.DataFrame | ScoreTable", columns: Mapping[str, str] | None = None
) -> "ScoreTable":
    """Read a table of scores that `score` or anybody wrote: text, .xlsx, Parquet, or a frame.

    ``columns`` says what columns are called in it, where that cannot be guessed; ``told`` of the result is what was
    understood. See `shiftkit.analyses.scoring.spreadsheet.understand`.
    """
    from .analyses.scoring.table import ScoreTable

    return ScoreTable.read(Path(scores) if isinstance(scores, str) else scores, columns)


@checked
@one_at_a_time
def demo(
    out: Annotated["str | Path", Input("Folder to write to; it must be new or empty.")] = "shiftkit-demo",
    *,
    device: Device = "auto",
    jobs: Jobs = 0,
    scheduler: Scheduler = LOCAL,
    seed: Seed = 0,
    resume: Resume = False,
    settings: Mapping[str, Any] | None = None,
    announce: Say | None = None,
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "Outcome":
    """The whole story on the phantom: segment, fine-tune, decompose, report.

    ``settings`` are further options of `decompose`, by name. ``announce`` is told at the start how long it will take.
    """
    from .pipeline.demo import rehearse

    work = Work(jobs=jobs, scheduler=scheduler, progress=progress, dry_run=dry_run)
    cast = rehearse(Path(out), device=device, seed=seed, resume=resume, announce=announce or str, work=work)
    given: dict[str, Any] = {**(settings or {}), "device": device, "jobs": jobs, "seed": seed, "progress": progress}
    given |= {
        "scheduler": scheduler,
        "model": "reference",
        "cohort": cast.patients,
        "reference": cast.controls,
        "finetuned": [cast.finetuned],
    }
    # The folder holds what was just fine-tuned, so the decomposition always continues in it.
    return decompose(out=out, **given, resume=True)


@checked
@one_at_a_time
def phantom(
    out: Annotated["str | Path", Input("Folder that the cohorts are written into.", metavar="OUT")],
    *,
    n_healthy: Annotated[int, Option("Controls.", min=0)] = 60,
    n_glioma: Annotated[int, Option("Patients.", min=0)] = 24,
    n_target_controls: Annotated[
        int, Option("Healthy people in the patients' scanner.", min=0, flag="--target-controls")
    ] = 0,
    spacing_mm: Annotated[float, Option("Voxel size in mm.", min=1, max=5, flag="--spacing")] = 2.5,
    seed: Annotated[int, Option("Seed; the same seed gives the same bytes.", min=0)] = 0,
    factorial: Annotated[bool, Option("Also clean, systematic only, tumor only.")] = False,
    fields: Annotated[bool, Option("Also the displacement fields.")] = False,
    dwi: Annotated[bool, Option("Also a diffusion series, for shiftkit prepare.")] = False,
    source: Annotated[str | Path, Option("Profile of the controls: a name or a TOML file.")] = "source",
    target: Annotated[str | Path, Option("The patients': mild, moderate, severe or a TOML file.")] = "moderate",
    jobs: Jobs = 0,
    scheduler: Scheduler = LOCAL,
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "dict[str, Cohort]":
    """Write the digital phantom: cohorts healthy and glioma, with the truth beside them.

    See `shiftkit.phantoms.phantom`.
    """
    from .phantoms import phantom as write

    source, target = (Path(one) if str(one).endswith(".toml") else one for one in (source, target))
    settings = settings_of(phantom, locals())
    return write(
        Path(out),
        **passed_on(write, settings),
        work=Work(jobs=jobs, scheduler=scheduler, progress=progress, dry_run=dry_run),
    )


@checked
@one_at_a_time
def implant(
    cohort: Annotated["str | Path | Cohort", Input("Path or name of a cohort with healthy people.", metavar="COHORT")],
    out: Annotated["str | Path", Input("Folder of the new cohort.", metavar="OUT")],
    *,
    like: Annotated[
        "str | Path | Cohort | None",
        Input("Cohort of patients whose tumors' volumes, places and distances are copied."),
    ] = None,
    volume_cm3: Annotated[float | None, Option("One volume for all in cm³ instead; 0 changes no image.", min=0)] = None,
    shape: Annotated[Literal["lobed", "ellipsoid"], Option("lobed, or ellipsoid, which the phantom has.")] = "lobed",
    n_implants: Annotated[int, Option("Tumors of each participant, a session each.", min=1, flag="--implants")] = 1,
    jobs: Jobs = 0,
    scheduler: Scheduler = LOCAL,
    seed: Seed = 0,
    filters: FilterFile = None,
    resume: Annotated[bool, Input("Continue an interrupted cohort in OUT.")] = False,
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "Implanted":
    """Implant tumors into healthy participants, drawn or real, with what is true of them beside the images.

    See `shiftkit.phantoms.implants.cohort.implant`.
    """
    settings = settings_of(implant, locals())
    from .names import find_cohort
    from .phantoms.implants import implant as grow

    work = Work(jobs=jobs, scheduler=scheduler, progress=progress, dry_run=dry_run)
    healthy = find_cohort(cohort, filters=filters, work=work)
    patients = None if like is None else find_cohort(like, work=work)
    return grow(healthy, Path(out), like=patients, **passed_on(grow, settings), resume=resume, work=work)


@checked
@one_at_a_time
def import_cohort(
    format_: Annotated[Format, Input("tractoinferno, brainptm, hcp105, tractseg, pyafq or brats.", metavar="FORMAT")],
    source: Annotated["str | Path", Input("Folder in that data set's own layout.", metavar="SRC")],
    out: Annotated["str | Path", Input("Folder of the new cohort.", metavar="OUT")],
    *,
    group: Annotated[
        Literal["control", "glioma", "target_control"] | None,
        Option("control, glioma or target_control; by default what the data set's people are."),
    ] = None,
    streamlines: Annotated[
        int, Option("A voxel is inside from so many streamlines.", min=1, flag="--min-streamlines")
    ] = 1,
    tumor_labels: Annotated[Sequence[int] | None, Option("For brats: labels of the tumor, such as 1,4.")] = None,
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "Cohort":
    """Turn a public data set's own layout into a cohort.

    See `shiftkit.importers.import_cohort`.
    """
    from .importers import import_cohort as convert

    labels = None if tumor_labels is None else tuple(tumor_labels)
    work = Work(progress=progress, dry_run=dry_run)
    chosen: dict[str, Any] = {"group": group, "streamlines": streamlines, "tumor_labels": labels}
    return convert(format_, Path(source), Path(out), **chosen, work=work)


@checked
def prepare(
    cohort: Annotated[
        "str | Path | Cohort", Input("Path or name of a cohort with raw diffusion images.", metavar="COHORT")
    ],
    *,
    maps: Annotated[Sequence[Literal["fa", "ap", "peaks"]], Option("fa, ap, peaks; all by default.")] = (),
    filters: FilterFile = None,
    jobs: Jobs = 0,
    scheduler: Scheduler = LOCAL,
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "Prepared":
    """Make FA, AP and peaks from raw diffusion images; what is there is kept.

    See `shiftkit.cohorts.preparation.prepare`.
    """
    from .cohorts.preparation import MAPS
    from .cohorts.preparation import prepare as make
    from .names import find_cohort

    work = Work(jobs=jobs, scheduler=scheduler, progress=progress, dry_run=dry_run)
    return make(find_cohort(cohort, filters=filters, work=work), maps=tuple(maps) or MAPS, work=work)


@checked
@one_at_a_time
def train(
    cohort: CohortName,
    *,
    out: Place,
    modality: Annotated[str, Option("t1w, ap, fa, peaks, or a stack such as t1w+fa.")] = "peaks",
    bundles: Annotated[Sequence[str], Option("Bundle labels; all by default.")] = (),
    folds: Annotated[int, Option("Models, so that each control is scored unseen.", min=1)] = 1,
    network: Annotated[Literal["unet", "segresnet", "dynunet"], Option("unet, segresnet or dynunet.")] = "unet",
    normalization: Annotated[
        Literal["instance", "batch"], Option("instance, or batch: unet only, for the strategy adabn.")
    ] = "instance",
    deep_supervision: Annotated[bool, Option("Coarser levels answer too, in training: dynunet only.")] = False,
    spacing_mm: Annotated[
        float, Option("Voxel size of the model's grid in mm.", min=0.5, max=5, flag="--spacing")
    ] = 2.5,
    patch: Annotated[
        Size | None, Option("Train on patches of so many voxels, such as 48,48,48; whole brains by default.", min=1)
    ] = None,
    epochs: Annotated[int | None, Option("Passes over the participants; 2400 steps by default.", min=1)] = None,
    batch_size: Annotated[int, Option("Participants a step, over all processes together.", min=1)] = 1,
    patience: Annotated[int | None, Option("Stop after so many validations without a better one.", min=1)] = None,
    augmentation: Annotated[
        Literal["none", "light", "strong", "acquisition"], Option("none, light, strong or acquisition.")
    ] = "light",
    device: Device = "auto",
    deterministic: Annotated[
        bool, Option("On a GPU: the same bits each time, or faster.", flag="--deterministic/--fast")
    ] = True,
    memory_gib: Annotated[
        float, Option("GiB of memory for images; others are read again.", min=0, flag="--memory")
    ] = 4.0,
    seed: Seed = 0,
    filters: FilterFile = None,
    resume: Resume = False,
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "Model | FoldModels":
    """Train a source model, or K of them.

    Participants with split 'train' in participants.tsv are trained on, those
    with 'val' choose the epoch, those with 'test' are never looked at. With
    --folds the column is not used: each control is predicted by the model that
    never saw it, into OUT/predictions.

    Under torchrun processes share each batch; with --folds each takes whole
    folds.

    See `shiftkit.segmentation.training.source.train`.
    """
    settings = settings_of(train, locals())
    from .cohorts.folder import require_own_files, require_trainable
    from .names import find_cohort

    work = Work(progress=progress, dry_run=dry_run)
    found = require_own_files(find_cohort(cohort, filters=filters, work=work))
    require_trainable(found, modality, bundles)
    # Only now, for the network's libraries take longer to load than all of the above.
    from .segmentation.training.recipes import Recipe
    from .segmentation.training.source import train as fit

    recipe = Recipe(**passed_on(Recipe, settings))
    return fit(found, out=Path(out), recipe=recipe, folds=folds, resume=resume, work=work)


@checked
@one_at_a_time
def finetune(
    model: ModelName,
    cohort: CohortName,
    *,
    out: Place,
    strategy: Annotated[Strategy, Option("What is trained: one of the strategies above.")] = "decoder",
    layers: Annotated[
        Sequence[str], Option("With head: paths or patterns of what is trained instead, such as out,up.3.*.")
    ] = (),
    folds: Annotated[int, Option("Folds over participants.", min=2)] = 4,
    fold: Annotated[
        int | None, Input("Train this fold alone, from 1; several at a time. Then all, with --resume.", min=1)
    ] = None,
    shots: Annotated[
        Sequence[int], Option("Numbers of patients, such as 2,4,8: learning curves, beside scratch.")
    ] = (),
    draws: Annotated[int, Option("Random choices of patients for each number.", min=1)] = 3,
    modality: Annotated[str | None, Option("A wider input that begins with the model's own, such as t1w+fa.")] = None,
    bundles: Annotated[Sequence[str], Option("Bundles to add to the model's, such as CC or ORleft.")] = (),
    epochs: Annotated[int | None, Option("Instead of the strategy's own number.", min=1)] = None,
    device: Device = "auto",
    jobs: Jobs = 0,
    scheduler: Scheduler = LOCAL,
    seed: Seed = 0,
    reference: Annotated[
        "str | Path | Cohort | None", Input("Controls to predict too, to measure forgetting; not with --shots.")
    ] = None,
    filters: FilterFile = None,
    session: Session = None,
    resume: Resume = False,
    announce: Say | None = None,
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "Predictions | Outcome | Model":
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

    Of a network of your own, full, head (its last layer with weights), norm,
    adabn, l2sp and none; the others need to know its inside.

    With --shots every number of patients is tried in several random draws,
    beside training from scratch on the same patients, and scored out of fold:
    OUT/tables/shots.tsv, OUT/tables/learning_curves.tsv, OUT/figures/shots.svg.

    With --fold one fold is trained, as a task of an array of jobs; once all
    are there, the same call with --resume and without --fold segments. Under
    torchrun each process takes whole folds, also of the draws of --shots.

    Parameters
    ----------
    announce : callable, optional
        Told what will be loaded, trained and frozen, before anything is trained.

    Returns
    -------
    Predictions, Outcome or Model
        Out-of-fold predictions; with ``shots`` the learning curves made from those of every run, in the first process
        of a launcher alone; of one ``fold`` its model.
    """  # noqa: D301  # \b keeps the lines of the list apart
    settings = settings_of(finetune, locals())
    if fold is not None:
        require_one_process("one `fold` is for one process. Leave out `fold` to have all shared.")
    from .pipeline.finetune import finetune_cohort, learn
    from .runs import Run
    from .segmentation.transfer.finetuning import Transfer

    shared: dict[str, Any] = {
        # One fine-tuning has one number of shots: each run of the learning curves sets its own.
        "transfer": Transfer(**passed_on(Transfer, settings | {"shots": None})),
        "filters": filters,
        "session": session,
        "announce": None if announce is None else lambda plan: [announce(line) for line in plan.lines()],
        "work": Work(jobs=jobs, scheduler=scheduler, progress=progress, dry_run=dry_run),
    }
    # Predictions of one fine-tuning are a cohort to go on with; learning curves are a study, and end as a run does.
    if shots:
        if fold is not None:
            raise ConfigError("`fold` is one of a single fine-tuning; `shots` asks for many. Leave out one of them.")
        run = Run(root=Path(out), verb="finetune", settings=settings, resume=resume)
        return learn(run, model, cohort, shots=tuple(shots), draws=draws, **shared)
    return finetune_cohort(model, cohort, out=Path(out), fold=fold, reference=reference, resume=resume, **shared)


@checked
def predict(
    model: Annotated[
        "str | Path | Model | Sequence[str | Path | Model]",
        Input(
            "Checkpoint folder, registered or built-in name, or your own, file.py:function; give several to average "
            "them. A folder with fold-1, fold-2, … segments each participant with the models that never saw them.",
            many=True,
        ),
    ],
    cohort: CohortName,
    *,
    out: Annotated["str | Path | None", Input("Folder to write to; it must be new or empty.", required=True)] = None,
    mirrored: Annotated[bool, Option("Average with the prediction for the mirror image; twice the time.")] = False,
    window: Annotated[
        Size | None,
        Option(
            "Go through each brain in windows of so many voxels, such as 48,48,48: less memory. By default the size "
            "of the model's patches, or the whole brain.",
            min=1,
        ),
    ] = None,
    probabilities: Annotated[bool, Option("Write voxel-wise probabilities too.")] = True,
    device: Device = "auto",
    participant_label: Labels = (),
    filters: FilterFile = None,
    shard: Shards = None,
    resume: Resume = False,
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "Predictions":
    """Segment a cohort: masks and probabilities on each participant's own grid.

    Without ``out`` they go into a temporary folder of this process. With ``resume`` participants join those who are
    there, whether all are asked for or some. Parts lie beside ``out`` until they are put together, to the same files as
    from one call. See `shiftkit.segmentation.prediction.cohort`.
    """
    from .pipeline.predict import predict_cohort

    how = {"mirrored": mirrored, "window": window, "probabilities": probabilities, "device": device}
    work = Work(progress=progress, dry_run=dry_run)

    @one_at_a_time
    def predict(  # the lock tells its name
        cohort: "str | Path | Cohort", out: Path | None, resume: bool, dry_run: bool = dry_run
    ) -> "Predictions":
        labels = participant_label if shard is None else ()  # parts are of those who were chosen already
        return predict_cohort(model, cohort, out=out, labels=labels, filters=filters, resume=resume, work=work, **how)

    to = None if out is None else Path(out)
    if shard is None:
        return predict(cohort, to, resume)
    if to is None:
        raise ConfigError("Parts are put together in a folder; give `out` with `shard`.")
    from .names import find_cohort
    from .pipeline.shards import Shard, predict_in_parts

    chosen = find_cohort(cohort, filters=filters, work=work).labeled(participant_label)
    return predict_in_parts(Shard.parse(shard), chosen, to, resume, predict)


@checked
def score(
    predictions: Annotated["Predictions | str | Path", Input("Folder of predicted masks, or of tractograms.")],
    cohort: CohortName,
    *,
    out: Annotated["str | Path | None", Input("The table to write, such as scores.tsv.", required=True)] = None,
    bundles: Bundles = (),
    hemispheres: Hemispheres = (),
    metrics: Annotated[Sequence[str], Option("Metrics; all by default.", flag="--metric")] = (),
    resample: Annotated[bool, Option("Bring predictions onto the cohort's grid.")] = False,
    tolerance_mm: Annotated[float, Option("Tolerance of NSD in mm.", min=0, flag="--tolerance")] = 3.0,
    penalty_mm: Annotated[float, Option("HD95 and ASSD of a missed bundle in mm.", min=0, flag="--penalty")] = 100.0,
    threshold: Annotated[float | None, Option("Threshold on probabilities.", min=0, max=1)] = None,
    unwritten: Annotated[
        Literal["unavailable", "missed"] | None,
        Option("What a bundle is that was written for others only: unavailable or missed."),
    ] = None,
    streamlines: Annotated[
        int | None, Option("Of tractograms: streamlines that mark a voxel.", min=1, flag="--min-streamlines")
    ] = None,
    error_maps: Annotated["str | Path | None", Input("Folder for maps of hits and misses.")] = None,
    sections: Annotated["str | Path | None", Input("Also a table of sections along bundles.")] = None,
    n_sections: Annotated[int, Option("Sections of each bundle.", min=2)] = 10,
    filters: FilterFile = None,
    exclude: Annotated["str | Path | None", Input("Ratings from a report: cases rated bad are left out.")] = None,
    shard: Shards = None,
    jobs: Jobs = 0,
    scheduler: Scheduler = LOCAL,
    announce: Say | None = None,
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "ScoreTable":
    """Score predicted masks against a cohort's reference masks, also masks or tractograms that another tool made.

    See `shiftkit.analyses.scoring.study.score`, and of tractograms `shiftkit.pipeline.tractograms.read_folders`.
    ``announce`` is told of what was left out or written besides. Parts lie
    beside ``out`` until they are put together, to the same table as from one call.
    """
    from .pipeline.shards import Shard, keep_made_of, made_of, merge_scores

    part = None if shard is None else Shard.parse(shard)
    if part is not None and out is None:
        raise ConfigError("Parts are put together in a table; give `out` with `shard`.")
    whole, whole_sections = (None if one is None else Path(one) for one in (out, sections))
    if part is not None and part.part is not None and whole is not None:
        out = part.place(whole) / whole.name
        sections = None if whole_sections is None else part.place(whole) / whole_sections.name
    metrics = tuple(_metric("metrics", name) for name in metrics)
    settings = settings_of(score, locals())
    from .analyses.scoring.predictions import find_predictions
    from .analyses.scoring.study import score as compare_masks
    from .bundles import choose_bundles
    from .catalogue import SCORES, SECTIONS
    from .cohorts.folder import require_own_files
    from .files import require_room
    from .names import find_cohort
    from .pipeline.tractograms import read_folders
    from .tables import require_replaceable, write_table

    if streamlines is not None and not isinstance(predictions, str | Path):
        raise ConfigError("`streamlines` counts those of tractograms in a folder; these predictions are masks already.")
    # Before anything is computed: what would be written must not cost what is there.
    for place, table in ((out, SCORES), (sections, SECTIONS)):
        if place is not None:
            require_room(Path(place))
            require_replaceable(Path(place), table)
    work = Work(jobs=jobs, scheduler=scheduler, progress=progress, dry_run=dry_run)
    source = Path(predictions) if isinstance(predictions, str) else predictions
    found = require_own_files(find_cohort(cohort, filters=filters, work=work))
    content = made_of(settings, source, found)
    if part is not None and part.part is None and whole is not None:
        return merge_scores(part, whole, whole_sections, content)
    found = found if part is None else part.of(found)
    found = found.only(choose_bundles(found.bundles, bundles, hemispheres, what=f"{found.name} has masks of"))
    maps = None if error_maps is None else Path(error_maps)
    wanted = passed_on(compare_masks, settings | {"metrics": tuple(metrics) or None})
    if isinstance(source, Path):
        work.require_seen(source)
    there = read_folders([source], streamlines) if isinstance(source, Path) else find_predictions(source)
    scores = compare_masks(there, found, **wanted, error_maps=maps, work=work)
    say = announce or str
    if told := there.unlike(found):
        say(f"Bundles without a prediction: {told}.")
    if part is None and (told := there.strangers(found)):  # those of other parts are no strangers
        say(f"Predictions of nobody in {found.name}: {told}.")
    if exclude is not None:
        from .analyses.scoring.table import without_bad

        scores, n_bad = without_bad(scores, Path(exclude))
        say(f"Left out as rated bad in {Path(exclude).name}: {n_bad} case{'s' * (n_bad != 1)}.")
    if out is not None:
        scores.save(Path(out))
        if scores.failed:
            from .runs import write_failures

            say(f"Failed: {write_failures(Path(out).parent, scores.failed)}")
    if sections is not None:
        from .analyses.scoring.sections import score_sections

        table = score_sections(there, found, n_sections=n_sections, threshold=threshold, resample=resample, work=work)
        write_table(table, SECTIONS, Path(sections))
        say(f"Sections: {sections}")
    if part is not None and out is not None:
        keep_made_of(Path(out).parent, content)  # last: the part is whole
    return scores


@checked
def check(
    cohort: Annotated["str | Path | Cohort", Input("Path or name of a cohort.", metavar="COHORT")],
    *,
    allow: Annotated[Sequence[str], Option("Checks whose errors do not count.")] = (),
    filters: FilterFile = None,
    jobs: Jobs = 0,
    scheduler: Scheduler = LOCAL,
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "CheckReport":
    """Look for what would pass for domain shift: flips, swaps, grids, peaks, masks; exit 3 on errors.

    See `shiftkit.checks.check`.
    """
    from .checks import check as examine
    from .names import find_cohort

    work = Work(jobs=jobs, scheduler=scheduler, progress=progress, dry_run=dry_run)
    return examine(find_cohort(cohort, filters=filters, work=work), allow=tuple(allow), work=work)


@overload
def deform(cohort: "str | Path | Cohort", *, out: None = None, **options: Any) -> "DeformationResult": ...
@overload
def deform(cohort: "str | Path | Cohort", *, out: str | Path, **options: Any) -> "Outcome": ...
@checked
@one_at_a_time
def deform(  # pyright: ignore[reportInconsistentOverload]  # the overloads say what depends on `out`, not all options again
    cohort: CohortName,
    *,
    out: Annotated["str | Path | None", Input("Folder to write to; it must be new or empty.", required=True)] = None,
    reference: Controls = None,
    baseline: Annotated[
        "str | Path | Cohort | None", Input("Cohort of the same participants earlier, or without the tumor.")
    ] = None,
    participant_label: PatientLabels = (),
    session: Session = None,
    bundles: Bundles = (),
    hemispheres: Hemispheres = (),
    spacing_mm: Annotated[float, Option("Working lattice in mm.", min=1, max=4, flag="--spacing")] = 2.0,
    n_bootstrap: Draws = 2000,
    level: Level = 0.95,
    jobs: Jobs = 0,
    scheduler: Scheduler = LOCAL,
    seed: Seed = 0,
    resume: Resume = False,
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "DeformationResult | Outcome":
    """Measure V-Norm: what it takes to bring each bundle onto the healthy one, against the healthy range.

    Where the controls come from without ``reference`` says `shiftkit.pipeline.inputs.find_controls`. See
    `shiftkit.analyses.deformation.study.deform`; with ``out`` a run is written, and how it ended is returned.
    """
    settings = settings_of(deform, locals())
    from .analyses.deformation.study import deform as measure
    from .analyses.statistics.inference import Inference
    from .cohorts.folder import require_own_files
    from .names import find_cohort
    from .pipeline.deform import deform_cohort
    from .pipeline.inputs import bystanders, controls_once, find_controls, one_session
    from .runs import Run

    run = None if out is None else Run(root=Path(out), verb="deform", settings=settings, resume=resume)
    if run is not None:
        run.require_own()
    work = Work(jobs=jobs, scheduler=scheduler, progress=progress, dry_run=dry_run)
    cases = require_own_files(find_cohort(cohort, work=work))
    # Measuring shapes has no model that may have seen the controls.
    controls = controls_once(find_controls(cases, reference, work), session)
    chosen = cases.where(group="glioma").labeled(participant_label) if participant_label else cases
    found, gone = one_session(chosen, session)
    measured: dict[str, Any] = {
        **passed_on(measure, settings),
        "baseline": None if baseline is None else find_cohort(baseline, work=work),
        "inference": Inference(n_bootstrap=n_bootstrap, level=level, seed=seed),
        "work": work,
    }
    if run is not None:
        return deform_cohort(run, found, controls, left_out={**bystanders(cases), **gone}, **measured)
    return measure(found, controls, **measured)


@checked
@one_at_a_time
def features(
    model: ModelName,
    cohort: CohortName,
    *,
    out: Place,
    reference: Controls = None,
    finetuned: Annotated["Sequence[str | Path]", Input("Folder made by finetune.", many=True)] = (),
    scores: Annotated["str | Path | None", Input("Score table of the model, if there is one.")] = None,
    participant_label: PatientLabels = (),
    session: Session = None,
    layers: Annotated[Sequence[str], Option("Depths, such as encoder-4, or paths of submodules; all by default.")] = (),
    n_permutations: Permutations = 1000,
    level: Level = 0.95,
    device: Device = "auto",
    jobs: Jobs = 0,
    scheduler: Scheduler = LOCAL,
    seed: Seed = 0,
    resume: Resume = False,
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "Outcome":
    """Where in the network controls and patients part, which part is the tumor's, and what differs in the images.

    See `shiftkit.pipeline.features`; ``outcome.result`` is a `shiftkit.pipeline.features.FeatureStudy`.
    """
    settings = settings_of(features, locals())
    from .analyses.scoring.table import ScoreTable, as_frame
    from .analyses.statistics.inference import Inference
    from .pipeline.features import FeatureDesign, begin_features, features_cohort
    from .pipeline.inputs import gather
    from .runs import Run

    work = Work(jobs=jobs, scheduler=scheduler, progress=progress, dry_run=dry_run)
    run = Run(root=Path(out), verb="features", settings=settings, resume=resume)
    run.require_own()
    design = FeatureDesign(
        inference=Inference(n_permutations=n_permutations, level=level, seed=seed),
        finetuned=tuple(Path(one) for one in finetuned),
        **passed_on(FeatureDesign, settings),
    )
    place = None if scores is None else Path(scores)
    given = None if place is None else as_frame(ScoreTable.load(place))
    inputs = gather(
        model,
        cohort,
        reference,
        labels=participant_label,
        session=session,
        begin=lambda named: begin_features(run, named, design, scores=place, work=work),
        work=work,
    )
    return features_cohort(run, inputs, design, scores=place, given=given, work=work)


def _metric(option: str, name: str) -> str:
    """The metric that a name certainly means, such as ``DICE`` or ``DSC``; else a `ConfigError` with the nearest."""
    word = understood("metric", name)
    if word is None or word == "n/a":
        known = words_of("metric")
        raise ConfigError(f"`{option}` is one of {', '.join(known)}; got {name!r}{nearest(name, known) or '.'}")
    return word


@overload
def decompose(
    scores: "ScoreTable | pd.DataFrame | str | Path", *, out: None = None, **options: Any
) -> "Decomposition": ...
@overload
def decompose(scores: str | Path | None = None, *, out: str | Path, **options: Any) -> "Outcome": ...
@checked
@one_at_a_time
def decompose(  # pyright: ignore[reportInconsistentOverload]  # as with `deform`
    scores: Annotated[
        "ScoreTable | pd.DataFrame | str | Path | None",
        Input("Table of scores instead of images: text with tabs, commas or semicolons, .xlsx or Parquet."),
    ] = None,
    *,
    out: Annotated["str | Path | None", Input("Folder to write to; it must be new or empty.", required=True)] = None,
    model: Annotated[
        "str | Path | Model | Sequence[str | Path | Model] | None",
        Input(
            "Checkpoint folder, name, or your own: file.py:function; with --scores, the source's name. Further ones "
            "are set beside the first.",
            many=True,
        ),
    ] = None,
    cohort: Annotated["str | Path | Cohort | None", Input("The patients: path or name.")] = None,
    reference: Annotated[
        "str | Path | Cohort | ScoreTable | pd.DataFrame | None", Input("Cohort that holds the controls.")
    ] = None,
    target_controls: Annotated[
        "str | Path | Cohort | None", Input("Cohort of healthy people scanned like the patients.")
    ] = None,
    finetuned: Annotated[
        "Sequence[str | Path] | Mapping[str, ScoreTable | pd.DataFrame]", Input("Folder made by finetune.", many=True)
    ] = (),
    predictions: Annotated[
        "Sequence[str | Path] | str | Path",
        Input("Folder of masks or probabilities that another tool made, instead of --model or beside it.", many=True),
    ] = (),
    unwritten: Annotated[
        Literal["unavailable", "missed"] | None,
        Option("With --predictions: what a bundle is that was written for others only, unavailable or missed."),
    ] = None,
    resample: Annotated[bool, Option("With --predictions: bring them onto the cohort's grid.")] = False,
    threshold: Annotated[float | None, Option("With --predictions: threshold on probabilities.", min=0, max=1)] = None,
    streamlines: Annotated[
        int | None,
        Option("With --predictions of tractograms: streamlines that mark a voxel.", min=1, flag="--min-streamlines"),
    ] = None,
    columns: Annotated[
        Mapping[str, str] | None,
        Option("What columns of the table are called, as participant=ID,value=Dice; usual names are guessed."),
    ] = None,
    metric: Annotated[str, Option("Primary metric.")] = "dice",
    bundles: Annotated[Sequence[str], Option("Keep only these.")] = (),
    hemispheres: Hemispheres = (),
    covariates: Annotated[Sequence[str], Option("Columns to adjust for, within cohort.")] = (),
    by: Annotated[str | None, Option("Give the split for each value of this column too, such as site.")] = None,
    n_bootstrap: Draws = 2000,
    n_permutations: Permutations = 2000,
    level: Level = 0.95,
    equivalence_margin: Annotated[
        float | None,
        Option(
            "A systematic part smaller than this counts as none: in units of the metric, of distances their log; "
            "0.02 and log 1.1 by default.",
            min=0,
        ),
    ] = None,
    sensitivity: Annotated[bool, Option("Also compute the decomposition under other choices.")] = True,
    cross_check: Annotated[bool, Option("Also fit a GEE and a mixed model (statsmodels), to compare.")] = False,
    include: Annotated[
        Sequence[Literal["features", "deformation"]], Option("Further studies in the report: features, deformation.")
    ] = (),
    check_with_implants: Annotated[
        int, Option("Also measure the tumor's part: on so many unseen controls, with tumors like the patients'.", min=0)
    ] = 0,
    anonymous: Annotated[
        bool, Option("Participants become P001, P002, …; names of folders and further columns are left out.")
    ] = False,
    aliases: Annotated["str | Path | None", Input("With --anonymous: table of who is who, outside --out.")] = None,
    allow: Annotated[Sequence[str], Option("Data check whose errors do not stop.")] = (),
    device: Device = "auto",
    jobs: Jobs = 0,
    scheduler: Scheduler = LOCAL,
    seed: Seed = 0,
    filters: FilterFile = None,
    participant_label: PatientLabels = (),
    session: Session = None,
    resume: Resume = False,
    dry_run: Dry = False,
    replay: str | Path | None = None,
    announce: Say | None = None,
    progress: Progress | None = None,
) -> "Decomposition | Outcome":
    """The main job: every stage that is missing, then the decomposition and the report.

    With several models the report sets them side by side: the first is what it
    is about, and each further one is compared with it on the same participants.

    From Python it also takes score tables alone, and returns the decomposition without writing anything.

    Parameters
    ----------
    scores : ScoreTable, DataFrame or path, optional
        Scores of patients, and of controls unless ``reference`` holds them; instead of ``model`` and ``cohort``. Any
        table that `load_scores` reads.
    out : path, optional
        Folder of the run; needed for everything that starts from images.
    model : str, Path, Model or sequence of these, optional
        The source model. Further ones stand beside it and change none of its numbers; each is compared with it on the
        patients, and on the controls that neither has seen; see
        `shiftkit.analyses.decomposition.models.beside.side_by_side`. With ``scores`` names of models in the table;
        others count as fine-tuned.
    reference : str, Path, Cohort, ScoreTable or DataFrame, optional
        Where the controls are; see `shiftkit.pipeline.inputs.gather`. Beside a table a table.
    predictions : path or sequence of path
        What another tool predicted for patients and controls, in one folder or several, instead of ``model`` or, beside
        it, as a further model: masks, probabilities or label maps in a layout of
        `shiftkit.analyses.scoring.predictions.find_predictions`, or tractograms as
        `shiftkit.importers.tractograms` finds them.
    finetuned : sequence of path, or mapping of str to ScoreTable or DataFrame
        Folders made by `finetune`; beside a table the out-of-fold scores by each fine-tuned model.
    replay : path, optional
        ``run.json`` of an earlier run; other inputs than it had are refused.
    announce : callable, optional
        Told what was understood of a table, or of others' predictions, before anything is computed; the result's notes
        say it too.

    Returns
    -------
    Decomposition or Outcome
        The second with ``out``; its ``result`` is the first. See `shiftkit.analyses.decomposition.study.decompose`.
    """
    metric = _metric("metric", metric)
    settings = settings_of(decompose, locals())  # before any local name is made that an option could share
    from .analyses.statistics.inference import Inference
    from .pipeline.anonymous import require_aliases
    from .pipeline.decompose import (
        begin_decomposition,
        decompose_cohort,
        decompose_table,
        decompose_tables,
        require_possible,
    )
    from .pipeline.inputs import Design, Tool, gather
    from .pipeline.studies import require_inside
    from .runs import Run

    if anonymous and by is not None:
        raise ConfigError(
            "`by` would print the values of a column, such as names of sites; leave it or `anonymous` out."
        )
    folders = [Path(one) for one in ([predictions] if isinstance(predictions, str | Path) else predictions)]
    models: list[Any] = [*model] if isinstance(model, list | tuple) else [] if model is None else [model]
    _require_one_way({**locals(), "predictions": folders, "model": models})
    design = Design(
        inference=Inference(n_bootstrap=n_bootstrap, n_permutations=n_permutations, level=level, seed=seed),
        aliases=None if out is None else require_aliases(anonymous, aliases, Path(out)),
        replay=None if replay is None else Path(replay),
        **passed_on(Design, settings),
    )
    # Three ways: a table alone, a table into a run, images into a run.
    if out is None:
        if scores is None or cohort is not None or include:
            raise ConfigError("Without `out` only `scores` are decomposed; to work on images give `out`, a folder.")
        tables = [load_scores(one, columns) for one in (scores, reference) if one is not None]  # pyright: ignore
        tuned = (
            {name: load_scores(one, columns) for name, one in finetuned.items()}
            if isinstance(finetuned, Mapping)
            else {}
        )
        names = [str(one) for one in models]
        return decompose_tables(tables, tuned, design, sources=names, say=announce or str, work=Work(dry_run=dry_run))
    # A session's label may be a date.
    kept = settings | ({"session": None} if anonymous and session not in ("first", "last") else {})
    kept |= {"participant_label": ()} if anonymous else {}
    run = Run(root=Path(out), verb="decompose", settings=kept, resume=resume)
    work = Work(jobs=jobs, scheduler=scheduler, progress=progress, dry_run=dry_run)
    if scores is not None:
        if include:  # before the table is read, which may be at fault too
            raise ConfigError(
                f"`include` with {' '.join(include)} needs images; `scores` gives numbers only. Give `model` and "
                "`cohort` instead of `scores`, or leave `include` out."
            )
        return decompose_table(
            run,
            load_scores(scores, columns),
            design,
            sources=[str(one) for one in models],
            origin=scores,
            say=announce or str,
            work=work,
        )
    if cohort is None or not (models or folders):
        raise ConfigError(
            "A decomposition needs `model` and `cohort`, or `scores`, a table; give one or the other. Masks that you "
            "have already go in `predictions`, instead of `model` or beside it."
        )
    run.require_own()
    if folders:
        from .pipeline.tractograms import read_folders

        found = read_folders(folders, streamlines)
        models.append(
            Tool(name=found.model, predicted=found, unwritten=unwritten, threshold=threshold, resample=resample)
        )
    tuned = [Path(one) for one in finetuned]
    work.require_seen(*folders, *tuned)
    inputs = gather(
        models[0],
        cohort,
        reference,  # pyright: ignore[reportArgumentType]
        target_controls,
        beside=models[1:],
        filters=filters,
        labels=participant_label,
        session=session,
        early=lambda cohorts, names: require_possible(design, tuned, cohorts, names),
        begin=lambda named: [require_inside(named, design), begin_decomposition(run, named, design, tuned, work)],
        work=work,
    )
    return decompose_cohort(run, inputs, design, finetuned=tuned, say=announce or str, work=work)


def _require_one_way(given: Mapping[str, Any]) -> None:
    """Refuse, with a `ConfigError`, options of a decomposition of which one would be passed over in silence."""
    said = {name for name, value in given.items() if value is not None and value is not False and _is_said(value)}
    to_file, of_predictions = "out" in said, ("unwritten", "resample", "threshold", "streamlines")
    if "scores" in said:
        # A table alone may be in two parts, and have those of fine-tuned models beside it.
        beside = ("reference", "finetuned") if to_file else ()
        of_images = ("predictions", "cohort", "target_controls", "filters", "participant_label")
        wrong = [one for one in (*of_images, *beside) if one in said]
        if wrong:
            raise ConfigError(
                f"`scores` is a table of patients and controls, and nothing is read beside it; {_named(wrong)} would "
                "be passed over. Give `scores`, or images."
            )
    masks_alone = "predictions" in said and "model" not in said
    if masks_alone and "features" in given["include"]:
        raise ConfigError("Features are taken inside a network; `predictions` are masks. Leave features out.")
    if given["check_with_implants"] and ("scores" in said or masks_alone):
        raise ConfigError(
            "`check_with_implants` segments controls with a tumor, which needs a network; `scores` and `predictions` "
            "are numbers and masks. Give `model`, or leave it out."
        )
    if wrong := [one for one in of_predictions if one in said and "predictions" not in said]:
        raise ConfigError(f"{_named(wrong)} says how others' `predictions` are read; none are given.")


def _is_said(value: Any) -> bool:
    return not (isinstance(value, list | tuple | dict) and not value)


def _named(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


@checked
@one_at_a_time
def study(
    file: Annotated[
        "str | Path | Mapping[str, Any]", Input("Study file: cohorts, modalities, strategies, …", metavar="CONFIG")
    ],
    *,
    out: Place,
    device: Device = "auto",
    jobs: Jobs = 0,
    scheduler: Scheduler = LOCAL,
    resume: Resume = False,
    announce: Say | None = None,
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "Outcome":
    """Do the published design on two cohorts: train, fine-tune, decompose, and answer its three findings.

    Every stage is one verb with a folder of its own below --out; a stage that
    ended with the same settings on the same data is kept, so that --resume goes
    on where a run was interrupted. With --dry-run all stages are listed, each
    with the time it is expected to take.

    See `shiftkit.pipeline.study_file.StudyFile` for the keys of a study file, which may also be given as a mapping, and
    `shiftkit.analyses.replication.study.replicate` for what is answered; ``announce`` is told which stage begins.
    """
    from .pipeline.study import begin_study, conclude, do_stages
    from .pipeline.study_file import read_study
    from .runs import Run

    asked = read_study(file, VERBS)
    work = Work(jobs=jobs, scheduler=scheduler, progress=progress, dry_run=dry_run)
    run = Run(root=Path(out), verb="study", settings=asked.settings, resume=resume)
    run.require_own()
    design = begin_study(run, asked, VERBS, device=device, work=work)
    run.open()
    do_stages(design, announce or str, work)
    return conclude(run, design, work)


@checked
def template(
    out: Annotated["str | Path", Input("File to write: .csv, .tsv or .xlsx.", metavar="[OUT]")] = "scores-template.csv",
    *,
    bundles: Annotated[Sequence[str], Option("Bundles, with a side or without, such as AF_left.")] = (),
    wide: Annotated[bool, Option("A column a bundle, in place of a row a bundle.")] = False,
) -> Path:
    """Write an example of a score table to fill in, for decompose --scores."""
    from .analyses.scoring.spreadsheet import template as example
    from .tables import write_sheet

    write_sheet(example(bundles, wide=wide), Path(out))
    return Path(out)


@checked
def report(
    result: Annotated["Result | str | Path", Input("Folder that decompose or demo wrote.", metavar="RUN")],
    *,
    cohort: Annotated["str | Path | Cohort | None", Input("The patients, if they were moved.")] = None,
    linked: Annotated[
        bool | None,
        Input("Volumes beside the pages or in them; by size if not given.", flag="--linked/--embedded"),
    ] = None,
    jobs: Jobs = 0,
    scheduler: Scheduler = LOCAL,
    title: str = "Domain shift of bundle segmentation",
    findings: "Sequence[Finding]" = (),
    cohorts: "Sequence[CohortSummary]" = (),
    notes: Sequence[str] = (),
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "Report":
    """Write a run's report again from its data, drawings and images; nothing is estimated again.

    Or turn a result, such as a decomposition, and further findings into a report, which ``.save(path)`` writes.
    """
    if isinstance(result, str | Path):
        from .pipeline.story import report_again

        return report_again(
            Path(result),
            cohort=cohort,
            linked=linked,
            work=Work(jobs=jobs, scheduler=scheduler, progress=progress, dry_run=dry_run),
        )
    from .reports import report as build

    shown = (*result.findings, *findings)
    return build(shown, title=title, verdict=result.claim, cohorts=cohorts, notes=notes)


@checked
def compare(
    first: RunFolder,
    second: Annotated["str | Path", Input("Folder of another.", metavar="RUN")],
    *,
    out: Annotated["str | Path | None", Input("HTML page to write, such as comparison.html.")] = None,
    n_bootstrap: Draws = 2000,
    level: Level = 0.95,
    seed: Seed = 0,
    dry_run: Dry = False,
) -> "Comparison":
    """Say what differs between two runs: settings, input, components, and the same patients' scores.

    See `shiftkit.analyses.comparison.compare`.
    """
    from .analyses.comparison import compare as set_side_by_side
    from .analyses.statistics.inference import Inference
    from .files import require_room

    if out is not None:
        require_room(Path(out))
    inference = Inference(n_bootstrap=n_bootstrap, level=level, seed=seed)
    found = set_side_by_side(Path(first), Path(second), inference=inference, work=Work(dry_run=dry_run))
    if out is not None:
        from .files import write_text
        from .reports import report as build

        write_text(Path(out), build(found.findings, title=found.title, verdict=found.claim).html)
    return found


@checked
def cite(
    run: Annotated["str | Path | None", Input("Folder of a run; without it, shiftkit.", metavar="[RUN]")] = None,
    *,
    bib: Annotated[bool, Input("Only the BibTeX entries.")] = False,
) -> str:
    """Print a methods paragraph with a run's own numbers, and BibTeX entries."""
    from .reports import citation_bibtex, citation_markdown, restore
    from .reports import report as build

    page = build([], title="shiftkit", verdict="") if run is None else restore(Path(run))
    entries = citation_bibtex(page)
    return entries if bib else f"{citation_markdown(page)}\n{entries}"


def _rows_of(run: "str | Path", hemispheres: Sequence[str] = ("left", "right")) -> "Rows":
    """The source model's rows of a run or a score table."""
    from .analyses.decomposition.rows import build_rows

    place = Path(run)
    scores = load_scores(place / "tables" / "scores.tsv" if place.is_dir() else place).frame
    kept = scores[scores["hemisphere"].isin([*hemispheres, "none"])]
    if kept.empty:
        raise ConfigError(
            f"`hemispheres` must be among those of {place.name}; it has none of {', '.join(hemispheres)}."
        )
    return build_rows(kept[kept["model"] == kept["model"].iloc[0]], "dice")


@checked
def plan(
    patients: Annotated[int, Option("Patients of the study.", min=1, max=5000)],
    controls: Annotated[int, Option("Controls of the study.", min=2, max=5000)],
    *,
    run: Annotated[
        "str | Path | None", Input("Run or score table whose bundles, distances and scatter are taken.", flag="--from")
    ] = None,
    hemispheres: Hemispheres = ("left", "right"),
    systematic: Annotated[float, Option("Dice lost far from the tumor.", min=-1, max=1)] = 0.05,
    tumor: Annotated[float, Option("Dice lost on top in contact with it.", min=-1, max=1)] = 0.05,
    replicates: Annotated[int, Option("Imagined studies a variant.", min=10)] = 200,
    out: Annotated["str | Path | None", Input("Folder for tables/plan.tsv.")] = None,
    jobs: Jobs = 0,
    scheduler: Scheduler = LOCAL,
    seed: Seed = 0,
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "Plan":
    """Tell what a study of a size will show before it is done, and what would help most.

    See `shiftkit.analyses.validation.planning.plan`.
    """
    from .analyses.validation.planning import Layout, standard_layout
    from .analyses.validation.planning import plan as imagine
    from .catalogue import PLAN
    from .files import require_room
    from .tables import write_table

    sides = tuple(hemispheres)
    layout = standard_layout(sides) if run is None else Layout.of(_rows_of(run, sides))
    effects = {"systematic": systematic, "tumor": tumor}
    if out is not None:
        require_room(Path(out))
    work = Work(jobs=jobs, scheduler=scheduler, progress=progress, dry_run=dry_run)
    made = imagine(patients, controls, layout, **effects, replicates=replicates, seed=seed, work=work)
    if out is not None:
        write_table(made.to_frame(), PLAN, Path(out) / "tables" / "plan.tsv")
    return made


@checked
@one_at_a_time
def validate(
    replicates: Annotated[int, Option("Simulated cohorts a cell.", min=10)] = 200,
    *,
    cell: Annotated[str | None, Option("Only cells whose name holds this, such as 'exponential'.")] = None,
    design: Annotated[
        "str | Path | None", Input("Run or score table: simulate in its own design, its distances and numbers.")
    ] = None,
    out: Annotated["str | Path | None", Input("Folder for tables/validation.tsv.")] = None,
    jobs: Jobs = 0,
    scheduler: Scheduler = LOCAL,
    seed: Seed = 0,
    dry_run: Dry = False,
    progress: Progress | None = None,
) -> "Validation":
    """Simulate cohorts with known effects and tell how well the decomposition finds them.

    See `shiftkit.analyses.validation.study.validate`.
    """
    from .analyses.validation.cells import standard_cells
    from .analyses.validation.study import validate as examine
    from .analyses.validation.study import validate_design
    from .files import require_room

    if out is not None:
        require_room(Path(out))
    work = Work(jobs=jobs, scheduler=scheduler, progress=progress, dry_run=dry_run)
    cells = [one for one in standard_cells() if cell is None or cell in one.name]
    if not cells:
        names = ", ".join(sorted({one.name for one in standard_cells()}))
        raise ConfigError(f"`cell` must be part of a cell's name ({names}); got {cell!r}.")
    if design is not None:
        found = validate_design(_rows_of(design), replicates, seed=seed, work=work)
    else:
        found = examine(replicates, seed=seed, cells=cells, work=work)
    if out is not None:
        from .catalogue import VALIDATION
        from .tables import write_table

        write_table(found.to_frame(), VALIDATION, Path(out) / "tables" / "validation.tsv")
    return found


@checked
def model_card(checkpoint: Checkpoint) -> str:
    """Print the model card."""
    from .names import find_model
    from .segmentation.network.checkpoints import load_model as load

    path = find_model(checkpoint)
    card = path / "docs" / "README.md"
    return "\n".join([str(load(path)), *([card.read_text(encoding="utf-8")] if card.is_file() else [])])


@checked
def verify_model(checkpoint: Checkpoint) -> "Verdict":
    """Check digests, shapes and output; exit 3 if something is wrong."""
    from .names import find_model
    from .segmentation.network.exporting import verify_model as verify

    return verify(find_model(checkpoint))


@checked
def export_model(
    checkpoint: Checkpoint,
    *,
    out: Annotated["str | Path", Input("The file to write.")],
    onnx: Annotated[bool, Input("ONNX instead of TorchScript.")] = False,
    torchscript: Annotated[bool, Input("TorchScript, the default.")] = False,
) -> Path:
    """Write the network for other programs."""
    from .segmentation.network.exporting import export_model as export

    if onnx and torchscript:
        raise ConfigError("Give `onnx` or `torchscript`, not both.")
    return export(load_model(checkpoint), Path(out), "onnx" if onnx else "torchscript")


VERBS: Mapping[str, Callable[..., Any]] = {
    **{one.__name__: one for one in (demo, decompose, phantom, implant, prepare, train, finetune, predict, score)},
    **{one.__name__: one for one in (check, deform, features, study, template, report, compare, cite, plan, validate)},
    "import": import_cohort,
    "model info": model_card,
    "model verify": verify_model,
    "model export": export_model,
}
"""The verbs of the command line."""
