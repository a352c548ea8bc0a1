"""The main job on a cohort: predict, score, decompose, report."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..catalogue import DECOMPOSITION, RECOVERY, SCORES, SENSITIVITY, SHELLS
from ..config import Decompose
from ..errors import ConfigError, DataError
from ..files import file_digest
from ..results import Finding
from ..runs import Run, cohort_digest
from ..tables import read_table
from ..types import Cohort, Predictions
from ..work import Progress, Work
from .inputs import Inputs, gather
from .story import Story, write_report
from .studies import further_findings, require_known

if TYPE_CHECKING:
    from ..analyses.decomposition.result import Decomposition
    from ..analyses.decomposition.shells.findings import ShellResult
    from ..segmentation.network.checkpoints import Model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run of the main job ended with.

    Parameters
    ----------
    root : Path
        The run's folder; ``report.html`` and ``tables/`` are in it.
    verdict : str
        The answer in words.
    failed : mapping of str to str
        Participants without a result, with the reason.
    """

    root: Path
    verdict: str
    failed: Mapping[str, str]

    def lines(self) -> list[str]:
        """What the command line prints."""
        report = self.root / "report.html"
        return [self.verdict, f"Report: {report}"] if report.is_file() else [self.verdict]

    def to_dict(self) -> dict[str, Any]:
        """The same for machines."""
        return {"verdict": self.verdict, "report": "report.html", "failed": dict(self.failed)}


def decompose_cohort(
    *,
    out: Path,
    options: Decompose,
    model: str | Path | None = None,
    cohort: str | Path | Cohort | None = None,
    reference: str | Path | Cohort | None = None,
    target_controls: str | Path | Cohort | None = None,
    finetuned: Sequence[Path] = (),
    scores: Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    replayed: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Run the main job into a folder; see ``shiftkit decompose``.

    Parameters
    ----------
    out : Path
        Folder of the run: new, empty, or with ``resume`` that of an interrupted run.
    options : Decompose
        Settings.
    model, cohort : str, Path or Cohort
        The source model and the patients. With ``scores`` no cohort is needed, and the model's name only where the
        table holds several: the others count as fine-tuned.
    reference, target_controls : str, Path or Cohort, optional
        Where the controls are, and those scanned like the patients; see `shiftkit.pipeline.gather`.
    finetuned : sequence of Path
        Folders made by `shiftkit.pipeline.finetune_cohort`.
    scores : Path, optional
        A score table of patients and controls, instead of model and images.
    resume, dry_run : bool
        Continue; only say what would be done.
    replayed : mapping of str to str, optional
        Digests of the inputs of an earlier run, as ``inputs`` in its ``run.json``; other inputs are refused.
    progress : callable, optional
        Called as ``progress(done, total, text)``, ``text`` naming the stage.

    Returns
    -------
    Outcome

    Raises
    ------
    ConfigError
        If neither scores nor model and cohort are given, or the folder is in use.
    DataError, ModelMismatchError
        If the input cannot be used.
    """
    if scores is not None:
        _require_replayed(replayed, {"scores": file_digest(scores)})
        return _from_scores(out, options, scores, None if model is None else str(model), resume, dry_run)
    require_known(options)
    if model is None or cohort is None:
        raise ConfigError("decompose needs --model and --cohort, or --scores TSV; give one or the other.")
    inputs = gather(model, cohort, reference, target_controls, progress)
    _require_finetuned(finetuned)
    digests = _digests(inputs, finetuned)
    _require_replayed(replayed, digests)
    if dry_run:
        return Outcome(root=out, verdict=_plan(inputs, finetuned), failed={})
    run = Run.open(out, resume)
    checks = _require_sound(inputs, options, progress)
    return _from_images(run, inputs, finetuned, checks, digests, options, progress)


def _from_scores(
    out: Path, options: Decompose, scores: Path, model: str | None, resume: bool, dry_run: bool
) -> Outcome:
    if options.include:
        raise ConfigError(
            f"--include {' '.join(options.include)} needs images; --scores gives numbers only. Give --model and "
            "--cohort instead of --scores, or leave --include out."
        )
    frame = _keep(read_table(scores, SCORES), options)
    source, tuned = _by_model(frame, model, scores)
    if dry_run:
        return Outcome(root=out, verdict=f"Would decompose the {len(frame)} rows of {scores.name}.", failed={})
    run = Run.open(out, resume)
    result = _decompose(source, tuned, options)
    note = (
        "The scores came as a table: whether the model had seen the controls could not be checked, and the shell "
        "estimator, which needs images, is not available."
    )
    return _conclude(run, frame, result, None, options, Story(notes=(note,)), {"scores": file_digest(scores)})


def _by_model(frame: pd.DataFrame, source: str | None, path: Path) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The source model's rows of a table, and those of each other model, which counts as fine-tuned."""
    parts = {str(name): part for name, part in frame.groupby("model", sort=False)}
    if source is None and len(parts) == 1:
        return frame, {}
    if source is None or source not in parts:
        raise ConfigError(
            f"{path.name} holds scores of {', '.join(parts)}; --model must name the source model among them"
            + (f", it is {source}." if source is not None else ". The others count as fine-tuned.")
        )
    own = parts.pop(source)
    return own, parts


def _from_images(
    run: Run,
    inputs: Inputs,
    tuned: Sequence[Path],
    checks: Sequence[Finding],
    digests: Mapping[str, str],
    options: Decompose,
    progress: Progress | None,
) -> Outcome:
    cohorts = inputs.cohorts
    source = _predict(run, inputs.model, cohorts, options, progress)
    failed = {key: reason for predictions in source.values() for key, reason in predictions.failed.items()}
    before = _score(source, cohorts, options, progress)
    after = _finetuned(tuned, cohorts, options, progress)
    result = _decompose(before, {name: table for name, (_, table) in after.items()}, options)
    shell = _shells(source, cohorts, options, progress)
    frame = pd.concat([before, *(table for _, table in after.values())], ignore_index=True)
    story = Story(
        inputs=inputs,
        source=source["patients"],
        tuned=next((predictions["patients"] for predictions, _ in after.values()), None),
        notes=_notes(inputs),
        failed=failed,
        controls=source["controls"],
        jobs=options.jobs,
        progress=progress,
    )
    further = (*further_findings(run, inputs, tuned, frame, options, progress), *checks)
    return _conclude(run, frame, result, shell, options, story, digests, further)


def _conclude(
    run: Run,
    frame: pd.DataFrame,
    result: "Decomposition",
    shell: "ShellResult | None",
    options: Decompose,
    story: Story,
    digests: Mapping[str, str],
    further: Sequence[Finding] = (),
) -> Outcome:
    from ..analyses.decomposition.findings import disagreements

    run.write_table(frame, SCORES)
    parts = [result.to_frame(), *([shell.decomposition(options.metric)] if shell is not None else [])]
    components = pd.concat(parts, ignore_index=True)
    run.write_table(components, DECOMPOSITION)
    run.write_table(result.recovery, RECOVERY)
    run.write_table(result.sensitivity, SENSITIVITY)
    if shell is not None:
        run.write_table(shell.to_frame(), SHELLS)
    run.write_failures(story.failed)
    run.write_configuration({"decompose": options})
    record = {
        "verdict": result.verdict,
        "configuration": dataclasses.asdict(options),
        "seeds": {"decompose": options.seed},
        "inputs": dict(digests),
        "estimates": [_plain(dataclasses.asdict(estimate)) for estimate in result.estimates],
    }
    findings = (*result.findings(), *(shell.findings() if shell is not None else ()), *further)
    against_shell = [note for note in disagreements(components) if note not in result.notes]
    story = dataclasses.replace(story, notes=(*story.notes, *against_shell))
    write_report(run, findings, result, components, story, run.record(**record))
    run.write_record(**record)
    return Outcome(root=run.root, verdict=result.verdict, failed=story.failed)


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """NaN is no JSON: what is not given becomes null."""
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value for key, value in record.items()
    }


def _decompose(before: pd.DataFrame, after: Mapping[str, pd.DataFrame], options: Decompose) -> "Decomposition":
    from ..analyses.decomposition.study import decompose
    from ..analyses.statistics.inference import Inference

    return decompose(
        before,
        finetuned=after,
        metric=options.metric,
        covariates=options.covariates,
        equivalence_margin=options.equivalence_margin,
        sensitivity=options.sensitivity,
        inference=Inference(
            n_bootstrap=options.n_bootstrap,
            n_permutations=options.n_permutations,
            level=options.level,
            seed=options.seed,
        ),
    )


def _predict(
    run: Run, model: "Model", cohorts: Mapping[str, Cohort], options: Decompose, progress: Progress | None
) -> dict[str, Predictions]:
    """Predict every cohort with the source model; what is on disk already is not made again."""
    from ..segmentation.prediction.cohort import predict

    folder = run.root / "predictions"
    return {
        name: predict(
            model, cohort, out=folder / name, device=options.device, resume=True, work=Work(progress=progress)
        )
        for name, cohort in cohorts.items()
    }


def _finetuned(
    folders: Sequence[Path], cohorts: Mapping[str, Cohort], options: Decompose, progress: Progress | None
) -> dict[str, tuple[dict[str, Predictions], pd.DataFrame]]:
    """Predictions and scores of each fine-tuned model: patients out of fold, and controls where there are any."""
    from ..segmentation.prediction.cohort import read_predictions

    after: dict[str, tuple[dict[str, Predictions], pd.DataFrame]] = {}
    for folder in folders:
        found = {"patients": read_predictions(folder / "predictions")}
        if (folder / "controls").is_dir():
            found["controls"] = read_predictions(folder / "controls")
        after[found["patients"].model] = (found, _score(found, cohorts, options, progress))
    return after


def _score(
    predictions: Mapping[str, Predictions], cohorts: Mapping[str, Cohort], options: Decompose, progress: Progress | None
) -> pd.DataFrame:
    """Score each cohort that has predictions; the parts go into one table."""
    from ..analyses.scoring.study import score

    tables: list[pd.DataFrame] = []
    for name, one in predictions.items():
        predicted = {case.key for case in one.cohort}
        part = cohorts[name].where(lambda case, keys=predicted: case.key in keys)
        made = score(one, part, metrics=(options.metric,), jobs=options.jobs, progress=progress)
        frame = made.to_frame()
        tables.append(frame.assign(group="target_control") if name == "target_controls" else frame)
    # Controls the model has seen never get here, and patients are predicted zero-shot or out of fold.
    return _keep(pd.concat(tables, ignore_index=True).assign(seen="no"), options)


def _shells(
    source: Mapping[str, Predictions], cohorts: Mapping[str, Cohort], options: Decompose, progress: Progress | None
) -> "ShellResult | None":
    """The voxel-wise estimator; it speaks of overlap, so other metrics go without."""
    from ..analyses.decomposition.shells.study import shells

    if options.metric != "dice":
        return None
    return shells(
        source["patients"],
        cohorts["patients"],
        source["controls"],
        cohorts["controls"],
        n_bootstrap=options.n_bootstrap,
        level=options.level,
        seed=options.seed,
        jobs=options.jobs,
        progress=progress,
    )


def _keep(frame: pd.DataFrame, options: Decompose) -> pd.DataFrame:
    """The bundles and hemispheres that were asked for; a name that matches nothing is an error."""
    for column, wanted in (("bundle", options.bundles), ("hemisphere", options.hemispheres)):
        unknown = sorted(set(wanted) - set(frame[column]))
        if unknown:
            there = ", ".join(sorted(set(frame[column])))
            raise DataError(f"--{column}s must name what was scored: {there}; got {', '.join(unknown)}.")
        if wanted:
            frame = frame[frame[column].isin(wanted)]
    return frame.reset_index(drop=True)


def _digests(inputs: Inputs, tuned: Sequence[Path]) -> dict[str, str]:
    """What tells the inputs of a run from others."""
    from ..segmentation.prediction.cohort import read_predictions

    after = [read_predictions(folder / "predictions") for folder in tuned]
    return {
        "model": inputs.model.digest,
        **{name: cohort_digest(part) for name, part in inputs.cohorts.items()},
        **{f"predictions of {one.model}": cohort_digest(one.cohort) for one in after},
    }


def _require_replayed(before: Mapping[str, str] | None, now: Mapping[str, str]) -> None:
    """A run that is replayed must have the same inputs, or its numbers would be compared with others in vain."""
    if before is None:
        return
    other = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if other:
        raise DataError(
            f"A replayed run must have the inputs of the first; what differs is: {', '.join(other)}. Give the same "
            "model, cohorts, --finetuned and --scores; for the settings alone, give the run's config.toml to --config."
        )


def _require_finetuned(folders: Sequence[Path]) -> None:
    for folder in folders:
        if not (folder / "predictions" / "participants.tsv").is_file():
            raise DataError(
                f"--finetuned takes a folder made by shiftkit finetune; {folder} holds no predictions. Run shiftkit "
                f"finetune --out {folder} first, or name the right folder."
            )


def _require_sound(inputs: Inputs, options: Decompose, progress: Progress | None) -> tuple[Finding, ...]:
    """Stop before anything is computed from images that a check found wrong; else what the checks say."""
    from ..checks import check

    findings: list[Finding] = []
    for role, cohort in inputs.cohorts.items():
        report = check(cohort, jobs=options.jobs, allow=options.allow, progress=progress)
        if report.exit_code:
            raise DataError(report.summary)
        findings += report.findings(role)
    return tuple(findings)


def _notes(inputs: Inputs) -> tuple[str, ...]:
    if not inputs.seen:
        return (f"None of the {len(inputs.controls)} controls was seen by model {inputs.model.name}.",)
    return (
        f"{len(inputs.seen)} controls were left out because model {inputs.model.name} was trained or tuned on them; "
        f"{len(inputs.controls)} unseen ones remain.",
    )


def _plan(inputs: Inputs, tuned: Sequence[Path]) -> str:
    names = ", ".join(folder.name for folder in tuned)
    return (
        f"Would predict {len(inputs.patients)} patients of {inputs.patients.name} and {len(inputs.controls)} unseen "
        f"controls of {inputs.controls.name} with model {inputs.model.name}, score them, decompose the drop"
        + (f" before and after {names}" if names else "")
        + ", and write the report."
    )
