"""The verbs. Each parses its options, calls one public function, and prints what a user wants to know.

Everything heavy is imported inside a verb, so that ``--help`` answers at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..version import __version__
from ..work import Work
from . import cite as cite_verb
from . import compare as compare_verb
from . import deform as deform_verb
from . import features as features_verb
from . import finetune as finetune_verb
from . import model as model_verbs
from . import predict as predict_verb
from . import report as report_verb
from . import train as train_verb
from . import validate as validate_verb
from .options import (
    CohortName,
    Config,
    Device,
    FilterFile,
    Jobs,
    Json,
    Out,
    Resume,
    Seed,
    cohort_of,
    filtered,
    finish,
    integers,
    progress,
    raise_unfinished,
    say,
    words,
)

if TYPE_CHECKING:
    from ..config import Decompose

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Split the loss of a bundle-segmentation network in glioma patients into its causes.",
)
app.add_typer(model_verbs.app, name="model")


@app.callback()
def shiftkit(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Warnings and tracebacks too.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """-v and -q are taken out before parsing, so that they work in any place."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def demo(
    out: Out = Path("shiftkit-demo"),
    config: Config = None,
    device: Device = None,
    jobs: Jobs = None,
    seed: Seed = None,
    resume: Resume = False,
) -> None:
    """The whole story on the phantom: segment, fine-tune, decompose, report."""
    from ..pipeline import demo as run_demo

    options = _decompose_options(config, device, jobs, seed)
    finish(run_demo(out, options=options, resume=resume, progress=progress))


@app.command()
def decompose(
    out: Out,
    model: Annotated[
        str | None, typer.Option("--model", help="Checkpoint folder or name; with --scores, the source's.")
    ] = None,
    cohort: Annotated[str | None, typer.Option("--cohort", help="The patients: path or name.")] = None,
    reference: Annotated[str | None, typer.Option("--reference", help="Cohort that holds the controls.")] = None,
    target_controls: Annotated[
        str | None, typer.Option("--target-controls", help="Cohort of healthy people scanned like the patients.")
    ] = None,
    finetuned: Annotated[list[Path] | None, typer.Option("--finetuned", help="Folder made by finetune.")] = None,
    scores: Annotated[Path | None, typer.Option("--scores", help="Score table instead of images.")] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="Primary metric.")] = None,
    bundles: Annotated[list[str] | None, typer.Option("--bundles", help="Keep only these.")] = None,
    hemispheres: Annotated[list[str] | None, typer.Option("--hemispheres", help="left, right, none.")] = None,
    covariates: Annotated[list[str] | None, typer.Option("--covariates", help="Columns to adjust for.")] = None,
    bootstrap: Annotated[int | None, typer.Option("--bootstrap", min=100, help="Bootstrap draws.")] = None,
    permutations: Annotated[int | None, typer.Option("--permutations", min=99, help="Permutations.")] = None,
    allow: Annotated[list[str] | None, typer.Option("--allow", help="Data check whose errors do not stop.")] = None,
    include: Annotated[
        list[str] | None, typer.Option("--include", help="Further studies in the report: features, deformation.")
    ] = None,
    filters: FilterFile = None,
    config: Config = None,
    device: Device = None,
    jobs: Jobs = None,
    seed: Seed = None,
    resume: Resume = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    json_: Json = False,
) -> None:
    """The main job: every stage that is missing, then the decomposition and the report."""
    from ..config import read_record
    from ..pipeline import decompose_cohort

    options = _decompose_options(
        config,
        device,
        jobs,
        seed,
        metric=metric,
        bundles=words(bundles),
        hemispheres=words(hemispheres),
        covariates=words(covariates),
        n_bootstrap=bootstrap,
        n_permutations=permutations,
        allow=words(allow),
        include=words(include),
    )
    outcome = decompose_cohort(
        out=out,
        model=model,
        cohort=filtered(cohort, filters),
        reference=filtered(reference, filters),
        target_controls=filtered(target_controls, filters),
        finetuned=tuple(finetuned or ()),
        scores=scores,
        options=options,
        resume=resume,
        dry_run=dry_run,
        replayed=read_record(config)["inputs"] if config is not None and config.suffix == ".json" else None,
        progress=progress,
    )
    finish(outcome, json_)


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder that the cohorts are written into.")],
    n_healthy: Annotated[int, typer.Option(min=0, help="Controls.")] = 60,
    n_glioma: Annotated[int, typer.Option(min=0, help="Patients.")] = 24,
    spacing: Annotated[float, typer.Option("--spacing", min=1.0, max=5.0, help="Voxel size in mm.")] = 2.5,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same seed gives the same bytes.")] = 0,
    factorial: Annotated[bool, typer.Option("--factorial", help="Also clean, systematic only, tumor only.")] = False,
    fields: Annotated[bool, typer.Option("--fields", help="Also the displacement fields.")] = False,
    dwi: Annotated[bool, typer.Option("--dwi", help="Also a diffusion series, for shiftkit prepare.")] = False,
    source: Annotated[str, typer.Option(help="Acquisition profile of the controls: a name or a TOML file.")] = "source",
    target: Annotated[str, typer.Option(help="Acquisition profile of the patients: a name or a TOML file.")] = "target",
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0 uses every core.")] = 0,
) -> None:
    """Write the digital phantom: cohorts healthy and glioma, with the truth beside them."""
    from ..phantoms import phantom as write_phantom

    cohorts = write_phantom(
        out,
        n_healthy=n_healthy,
        n_glioma=n_glioma,
        spacing_mm=spacing,
        seed=seed,
        factorial=factorial,
        fields=fields,
        dwi=dwi,
        source=_profile(source),
        target=_profile(target),
        work=Work(jobs=jobs, progress=progress),
    )
    say(*(str(cohort) for cohort in cohorts.values()))


@app.command("import")
def import_(
    format_: Annotated[
        str, typer.Argument(metavar="FORMAT", help="tractoinferno, brainptm, hcp105, tractseg or brats.")
    ],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder in that data set's own layout.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the new cohort.")],
    group: Annotated[str, typer.Option(help="control, glioma or target_control.")] = "control",
    tumor_labels: Annotated[str | None, typer.Option(help="For brats: labels of the tumor, such as 1,4.")] = None,
) -> None:
    """Turn a public data set's own layout into a cohort."""
    from ..importers import import_cohort

    labels = None if tumor_labels is None else integers(tumor_labels, "--tumor-labels")
    say(str(import_cohort(format_, source, out, group=group, tumor_labels=labels, work=Work(progress=progress))))


@app.command()
def prepare(
    cohort: Annotated[str, typer.Argument(help="Path or name of a cohort with raw diffusion images.")],
    maps: Annotated[list[str] | None, typer.Option("--maps", help="fa, ap, peaks; all by default.")] = None,
    filters: FilterFile = None,
    jobs: Jobs = None,
) -> None:
    """Make FA, AP and peaks from raw diffusion images; what is there is kept."""
    from ..cohorts.preparation import MAPS
    from ..cohorts.preparation import prepare as make_maps

    done = make_maps(cohort_of(cohort, filters), maps=words(maps) or MAPS, work=Work(jobs=jobs or 0, progress=progress))
    say(f"{done.written} maps written: {done.cohort}")
    raise_unfinished(done.failed)


# Registered here, among the verbs of this module: --help lists them in the order in which a study needs them.
app.command("train")(train_verb.train)
app.command("finetune")(finetune_verb.finetune)
app.command("predict")(predict_verb.predict)


@app.command()
def score(
    predictions: Annotated[Path, typer.Option("--predictions", help="Folder of predicted masks.")],
    cohort: CohortName,
    out: Annotated[Path, typer.Option("--out", help="The table to write, such as scores.tsv.")],
    metric: Annotated[list[str] | None, typer.Option("--metric", help="Metrics; all by default.")] = None,
    resample: Annotated[bool, typer.Option("--resample", help="Bring predictions onto the cohort's grid.")] = False,
    tolerance: Annotated[float, typer.Option(min=0, help="Tolerance of NSD in mm.")] = 3.0,
    penalty: Annotated[float, typer.Option(min=0, help="HD95 and ASSD of a missed bundle in mm.")] = 100.0,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Threshold on probabilities.")] = None,
    error_maps: Annotated[Path | None, typer.Option("--error-maps", help="Folder for maps of hits and misses.")] = None,
    sections: Annotated[Path | None, typer.Option("--sections", help="Also a table of sections along bundles.")] = None,
    n_sections: Annotated[int, typer.Option("--n-sections", min=2, help="Sections of each bundle.")] = 10,
    filters: FilterFile = None,
    exclude: Annotated[
        Path | None, typer.Option("--exclude", help="Ratings from a report: cases rated bad are left out.")
    ] = None,
    jobs: Jobs = None,
) -> None:
    """Score predicted masks against a cohort's reference masks, also masks that another tool made."""
    from ..analyses.scoring.metrics import DEFAULT_METRICS
    from ..analyses.scoring.study import score as score_predictions

    found = cohort_of(cohort, filters)
    common: dict[str, Any] = {"threshold": threshold, "resample": resample, "jobs": jobs or 0, "progress": progress}
    scores = score_predictions(
        predictions,
        found,
        metrics=words(metric) or DEFAULT_METRICS,
        tolerance_mm=tolerance,
        penalty_mm=penalty,
        error_maps=error_maps,
        **common,
    )
    if exclude is not None:
        from ..analyses.scoring.table import without_bad

        scores, n_bad = without_bad(scores, exclude)
        say(f"Left out as rated bad in {exclude.name}: {n_bad} case{'s' * (n_bad != 1)}.")
    scores.save(out)
    say(str(scores), f"Table: {out}")
    if sections is not None:
        from ..analyses.scoring.sections import score_sections
        from ..catalogue import SECTIONS
        from ..tables import write_table

        table = score_sections(predictions, found, n_sections=n_sections, **common)
        write_table(table, SECTIONS, sections)
        say(f"Sections: {sections}")


@app.command()
def check(
    cohort: Annotated[str, typer.Argument(help="Path or name of a cohort.")],
    allow: Annotated[list[str] | None, typer.Option("--allow", help="Checks whose errors do not count.")] = None,
    filters: FilterFile = None,
    jobs: Jobs = None,
    json_: Json = False,
) -> None:
    """Look for what would pass for domain shift: flips, swaps, grids, peaks, masks; exit 3 on errors."""
    from ..checks import check as check_cohort

    report = check_cohort(
        cohort_of(cohort, filters), allow=words(allow) or (), work=Work(jobs=jobs or 0, progress=progress)
    )
    typer.echo(report.to_json() if json_ else str(report))
    if report.exit_code:
        from ..errors import DataError

        raise DataError(report.summary)


app.command("deform")(deform_verb.deform)
app.command("features")(features_verb.features)
app.command("report")(report_verb.report)
app.command("compare")(compare_verb.compare)
app.command("cite")(cite_verb.cite)
app.command("validate")(validate_verb.validate)


@app.command()
def doctor() -> None:
    """Say what shiftkit finds on this machine, and whether it can work with it."""
    from .doctor import examine

    lines, sound = examine()
    say(*lines)
    if not sound:
        raise typer.Exit(1)


def _decompose_options(
    config: Path | None, device: str | None, jobs: int | None, seed: int | None, **more: Any
) -> "Decompose":
    from ..config import Decompose, resolve

    return resolve(Decompose, {"device": device, "jobs": jobs, "seed": seed, **more}, config)


def _profile(name: str) -> str | Path:
    return Path(name) if name.endswith(".toml") else name
