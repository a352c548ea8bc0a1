"""The main job on a cohort: predict, score, decompose, report; or the last two on a table of scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..bundles import choose_bundles
from ..catalogue import (
    AGREEMENT,
    DECOMPOSITION,
    ENTERED,
    IMPLANTS,
    MODELS,
    RECOVERY,
    SCORES,
    SECTIONS,
    SENSITIVITY,
    SHELLS,
)
from ..cohorts.folder import cohort_digest
from ..config import read_record
from ..errors import ConfigError, DataError
from ..files import file_digest
from ..names import ModelNames, is_of_phantom, is_phantom
from ..options import passed_on
from ..results import Finding
from ..runs import Outcome, Run, table_digest
from ..types import Bundle, Cohort, Predictions
from ..words import named
from ..work import Cost, Work
from .anonymous import Aliases, model_names, unnamed
from .implants import check_with_implants, cost_of_check, require_checkable, require_unseen
from .inputs import Design, Inputs, Tool, require_common_bundles
from .scores import predict_cohorts, read_cohorts, unread
from .story import Ending, LeftOut, Reasons, counted, end, pictures
from .studies import Occasion, further_findings, metrics_of

if TYPE_CHECKING:
    from ..analyses.decomposition.reading import Reading
    from ..analyses.decomposition.result import Decomposition
    from ..analyses.decomposition.shells.findings import ShellResult
    from ..analyses.scoring.table import ScoreTable
    from ..reports import Opening

Say = Callable[[str], object]
QUESTION = "How much of the loss in patients is systematic, and how much is the tumor's?"
TITLE = "Domain shift of white-matter bundle segmentation"
_OF_PARTICIPANTS = ("age", "sex", "site", "scanner")
"""Columns of participants.tsv that score tables have too."""
_FROM_TABLE = (
    "The scores came as a table: whether the model had seen the controls could not be checked, and the shell "
    "estimator, which needs images, is not available."
)


def split(
    before: Any, after: Mapping[str, Any], design: Design, beside: Mapping[str, Any] | None = None
) -> "Decomposition":
    """Decompose scores by the source model and by each fine-tuned one; nothing is written.

    ``beside`` are scores by further source models.
    """
    from ..analyses.decomposition.study import decompose

    return decompose(before, finetuned=after, beside=beside, **passed_on(decompose, vars(design)))


def decompose_tables(
    tables: "Sequence[ScoreTable]",
    finetuned: "Mapping[str, ScoreTable]",
    design: Design,
    *,
    sources: Sequence[str] = (),
    say: Say = str,
    work: Work = Work(),
) -> "Decomposition":
    """Decompose score tables of one model, and those by each fine-tuned one; nothing is written.

    ``sources`` are as for `decompose_table`, and the other models in these tables count as fine-tuned too.
    """
    from ..analyses.scoring.table import as_frame, one_session

    told = _told([*tables, *finetuned.values()], say)
    frames = [one_session(as_frame(one, several_sessions=True), design.session)[0] for one in tables]
    frame = _keep(pd.concat(frames, ignore_index=True), design)
    after: dict[str, Any] = {**finetuned}
    beside: dict[str, pd.DataFrame] = {}
    if sources:
        frame, beside, tuned = _by_model(frame, sources, "the table")
        after = {**tuned, **after}
    _begin_split(frame, "the table", design, 1 + len(after) + len(beside), work)
    result = split(frame, after, design, beside)
    return replace(result, notes=(*told, *result.notes))


def decompose_table(
    run: Run,
    scores: "ScoreTable",
    design: Design,
    *,
    sources: Sequence[str] = (),
    origin: Any = None,
    say: Say = str,
    work: Work = Work(),
) -> Outcome:
    """Decompose a score table of patients and controls into a run that is not open yet.

    ``sources`` name the source models where the table holds several: the first is decomposed, further ones stand beside
    it, and the others count as fine-tuned. ``origin`` is the file it was read from, or else the digest is that of the
    table.
    """
    from ..analyses.scoring.table import as_frame, one_session

    run.require_own()
    told = _told([scores], say)
    frame, gone = one_session(scores.to_frame(), design.session)
    frame = _keep(as_frame(frame), design)
    is_file = isinstance(origin, str | Path)
    name = Path(origin).name if is_file else "the table"
    digests = {"scores": file_digest(Path(origin)) if is_file else table_digest(scores.frame)}
    _require_replayed(design.replay, digests)
    aliases = None
    if design.anonymous:
        aliases = Aliases.of_table(frame, design.covariates)
        names = model_names(list(frame["model"].unique()), sources or (str(frame["model"].iloc[0]),))
        frame, gone = aliases.table(frame).assign(model=frame["model"].map(names)), unnamed(gone)
        sources = [names.get(one, one) for one in sources]
        told = ()  # it names the file and its columns
    before, beside, after = _by_model(frame, sources, name)
    _begin_split(frame, name, design, 1 + len(after) + len(beside), work, run.root)
    if aliases is not None:
        _keep_aliases(aliases, design)
    run.open()
    result = split(before, after, design, beside)
    ending = ending_of(result, frame, design, digests, (_FROM_TABLE, *told))
    return end(run, replace(ending, left_out=(*counted("table", gone), *ending.left_out)), work)


def _begin_split(
    frame: pd.DataFrame, name: str, design: Design, n_models: int, work: Work, out: Path | None = None
) -> None:
    from ..analyses.decomposition.covariates import require_covariates
    from ..analyses.decomposition.split import require_column

    require_covariates(design.covariates, [str(name) for name in frame])
    if design.by is not None:
        require_column(design.by, [str(name) for name in frame])
    people = frame.drop_duplicates("participant_id")["group"].value_counts()
    counted_people = " and ".join(f"{number} of group {group}" for group, number in people.items())
    work.begin(
        f"Would decompose the {design.metric} of {name}: {len(frame)} rows, {counted_people}.",
        _cost_of_split(len(frame), design).times(n_models),
        out,
    )


def _told(tables: "Sequence[ScoreTable]", say: Say) -> tuple[str, ...]:
    """What was understood of tables that others wrote, said once."""
    told = tuple(dict.fromkeys(line for table in tables for line in table.told))
    for line in told:
        say(line)
    return told


def require_possible(
    design: Design, finetuned: Sequence[Path], cohorts: Mapping[str, Cohort], model: ModelNames | None
) -> None:
    """Refuse what names and options tell to be impossible, before the network is loaded."""
    from ..analyses.decomposition.covariates import require_covariates
    from ..analyses.decomposition.split import require_column, require_values
    from ..checks import require_checks

    require_checks(design.allow)
    _require_finetuned(finetuned)
    require_checkable(design, cohorts)
    there = {bundle for cohort in cohorts.values() for bundle in cohort.bundles}
    chosen = choose_bundles(there, design.bundles, design.hemispheres, what="is scored")
    for cohort in cohorts.values():
        if model is not None:
            require_common_bundles(model, cohort.only(chosen))
    require_covariates(design.covariates, SCORES.columns)
    if design.by is not None:
        require_column(design.by, _OF_PARTICIPANTS)
        require_values(design.by, [case.attributes.get(design.by, "n/a") for case in cohorts["patients"]])
    for name in sorted(set(design.covariates) & set(_OF_PARTICIPANTS)):
        for cohort in cohorts.values():
            if not any(name in case.attributes for case in cohort):
                raise ConfigError(
                    f"`covariates` needs values of patients and controls; nobody of {cohort.name} has {name} in "
                    f"participants.tsv. Fill in the column, or leave {name} out."
                )


def begin_decomposition(run: Run, inputs: Inputs, design: Design, finetuned: Sequence[Path], work: Work) -> None:
    """Say what will be done, before an image is read; see `shiftkit.work.Work.begin`."""
    from ..segmentation.network.devices import pick_device

    pick_device(design.device)
    chosen = inputs.only(_chosen(inputs, design))
    if inputs.beside:
        from ..segmentation.prediction.cohort import read_predictions

        tuned = [read_predictions(folder / "predictions").model for folder in finetuned]
        _require_tuned_from([one.model.name for one in inputs.models], tuned)
    work.begin(_plan(chosen, finetuned), _cost(chosen, design, len(finetuned), work), run.root)


def decompose_cohort(
    run: Run, inputs: Inputs, design: Design, *, finetuned: Sequence[Path] = (), say: Say = str, work: Work = Work()
) -> Outcome:
    """Run the main job on what `require_possible` did not refuse; see ``shiftkit decompose``.

    ``say`` is told what was understood of predictions that others made.

    The run is opened once all can be used, so that a refusal leaves no folder behind. ``finetuned`` are folders made by
    `shiftkit.pipeline.finetune.finetune_cohort`.
    """
    for one in inputs.models:
        for line in told_of(one.model, one.cohorts) if isinstance(one.model, Tool) else ():
            say(line)
    require_unseen(design, inputs)
    digests = _digests(inputs, finetuned, design.anonymous)
    _require_replayed(design.replay, digests)
    # Only now: whatever bundles are asked for, a run is told from others by all that its cohorts hold.
    inputs = inputs.only(_chosen(inputs, design))
    # Opened first: checks take minutes, and a folder in use must be refused before, not after.
    run.open()
    aliases = Aliases.of_inputs(inputs, design.covariates) if design.anonymous else None
    checks = _require_sound(inputs, design, aliases, work)
    after = [_finetuned(folder) for folder in finetuned]
    if aliases is not None:
        _keep_aliases(aliases, design)
        names = model_names([one["patients"].model for one in after], [one.model.name for one in inputs.models])
        after = [
            {part: aliases.predictions(made, part, names[made.model]) for part, made in one.items()} for one in after
        ]
        inputs = aliases.inputs(inputs)
    occasion = Occasion(run=run, inputs=inputs, finetuned=tuple(finetuned), design=design, work=work)
    return end(run, _find(occasion, after, checks, digests, aliases), work)


def told_of(tool: Tool, cohorts: Mapping[str, Any]) -> tuple[str, ...]:
    """What was understood of predictions that others made, and what not: also in the report."""
    found = tool.predicted
    lines = [line for cohort in cohorts.values() for line in found.told(cohort)]
    whole = Cohort(name="all", root=Path(), cases=tuple(case for cohort in cohorts.values() for case in cohort))
    if strangers := found.strangers(whole):
        lines.append(f"Predictions of nobody in these cohorts: {strangers}.")
    if found.ignored:
        lines.append(f"Files that were not understood: {named(found.ignored)}.")
    return tuple(lines)


def _find(
    occasion: Occasion,
    after: Sequence[Mapping[str, Predictions]],
    checks: Mapping[str, Finding],
    digests: Mapping[str, str],
    aliases: Aliases | None,
) -> Ending:
    """Everything that is computed from images, in its order."""
    from ..analyses.decomposition.shells.study import shells

    inputs, design, work = occasion.inputs, occasion.design, occasion.work
    source = predict_cohorts(occasion.run, inputs, design.device, work)
    others = [
        predict_cohorts(occasion.run, one, design.device, work, f"model-{number}")
        for number, one in enumerate(inputs.beside, start=2)
    ]
    # The voxel-wise estimator speaks of overlap, so other metrics go without.
    wanted, count = metrics_of(design), design.metric == "dice"
    seen, frames = read_cohorts([source, *after, *others], inputs.cohorts, wanted, count=count, work=work)
    # One table of everything: further studies need other metrics and fine-tuned models too.
    # Controls the model has seen never get here, and patients are predicted zero-shot or out of fold.
    before, *tables = (_keep(frame.assign(seen="no"), design) for frame in frames)
    names = [one["patients"].model for one in (*after, *others)]
    own = {name: _primary(table, design) for name, table in zip(names, tables, strict=True)}
    beside = {name: own.pop(name) for name in names[len(after) :]}
    scored = pd.concat([before, *tables[: len(after)]], ignore_index=True)
    failed = {key: reason for one in source.values() for key, reason in one.failed.items()}
    known = dict.fromkeys(inputs.seen, "control that the model has seen")
    result = split(_primary(before, design), own, design, beside)
    result = replace(result, entered=pd.concat([result.entered, _unscored(inputs, known, failed)], ignore_index=True))
    model = source["patients"].model, source["patients"].modality
    shell = None if seen.counts is None else shells(*seen.counts, model, inference=design.inference)
    every = pd.concat([_primary(scored, design), *beside.values()], ignore_index=True)
    notes = tuple(dict.fromkeys(note for one in inputs.models for note in _notes(one)))
    ending = ending_of(result, every, design, digests, notes, shell, seen)
    # After `_unscored`: whoever a further model alone fails on has entered.
    for one in others:
        failed |= {f"{key}, {part.model}": told for part in one.values() for key, told in part.failed.items()}
    if aliases is not None:
        # An id in a reason is that of the participant who failed: it can only stand in a path.
        everybody = {name: people for people in aliases.people.values() for name in people}
        for key, reason in failed.items():
            failed[key] = aliases.without_folders(reason, inputs.cohorts.values(), dict.fromkeys(everybody, key))
    tuned = after[0]["patients"] if after else None
    if design.check_with_implants:
        checked = check_with_implants(occasion, before, result, digests)
        failed |= checked.failed
        ending = replace(
            ending,
            tables=(*ending.tables, (checked.check.table, IMPLANTS)),
            findings=(*checked.check.findings, *ending.findings),
            record={**ending.record, "implants": checked.check.record()},
            said=(*ending.said, checked.check.claim),
        )
    further = further_findings(occasion, scored)
    shown = {
        bundle: (*own, *([further.by_bundle[bundle]] if bundle in further.by_bundle else []))
        for bundle, own in ending.bundle_findings.items()
    }
    return replace(
        ending,
        opening=_opening(result, _origin(inputs, checks)),
        findings=(*ending.findings, *further.findings, *checks.values()),
        bundle_findings=shown,
        failed=failed,
        cases=pictures(result.scores, inputs.patients, source["patients"], tuned),
        cohorts={"patients": (inputs.patients, {}), "unseen controls": (inputs.controls, known)},
        warnings=inputs.warnings,
        shows_places=aliases is None,
    )


def _unscored(inputs: Inputs, known: Reasons, failed: Reasons) -> pd.DataFrame:
    """Who took no part before anything was scored, as rows of the table of who entered."""
    failed_of = {role: [case.key for case in cohort if case.key in failed] for role, cohort in inputs.cohorts.items()}
    groups = {"patients": "glioma", "controls": "control", "target_controls": "target_control"}
    absent = [*counted("glioma", inputs.left_out), *counted("control", known)]
    for role, keys in failed_of.items():
        absent += [LeftOut(groups[role], f"failed: {named(keys)}", len(keys))] if keys else []
    rows = [(one.group, one.reason, 0, one.n_participants) for one in absent]
    return pd.DataFrame(rows, columns=["group", "reason", "n_rows", "n_participants"])


def ending_of(
    result: "Decomposition",
    frame: pd.DataFrame,
    design: Design,
    digests: Mapping[str, str],
    notes: tuple[str, ...],
    shell: "ShellResult | None" = None,
    seen: "Reading | None" = None,
) -> Ending:
    """What a decomposition leaves behind, also one of a table: of that there is no shell estimate and no place."""
    from ..analyses.decomposition.findings import bundle_verdicts
    from ..analyses.scoring.findings import bundle_findings, cohort_findings

    # Without strata and further models: tables on the page are of all patients, or of one bundle, by the first.
    parts = [result.table, *([] if shell is None else [shell.decomposition(str(result.metric))])]
    components = pd.concat(parts, ignore_index=True)
    sections, places = (None, None) if seen is None else (seen.sections, seen.places)
    told = bundle_verdicts(result)
    shown = bundle_findings(result.scores, sections, places, inference=design.inference)
    everywhere, tumors = (None, None) if seen is None else (seen.everywhere, seen.tumors)
    return Ending(
        result=result,
        title=TITLE,
        opening=_opening(result, ()),
        tables=(
            (frame, SCORES),
            (pd.concat([components, result.strata, result.beside], ignore_index=True), DECOMPOSITION),
            (result.recovery, RECOVERY),
            *(((result.models, MODELS),) if len(result.models) else ()),
            (result.sensitivity, SENSITIVITY),
            (result.agreement, AGREEMENT),
            (result.entered, ENTERED),
            *(() if shell is None else ((shell.table, SHELLS),)),
            *(() if seen is None else ((seen.sections, SECTIONS),)),
        ),
        digests=digests,
        findings=(*cohort_findings(result.scores, everywhere, tumors), *(() if shell is None else shell.findings)),
        notes=(*notes, *result.notes, *result.compared),
        said=(result.claim, *(one.claim for one in result.findings if one.key == "models"), *result.compared),
        components=components,
        entered=result.entered,
        left_out=tuple(
            LeftOut(row["group"], row["reason"], int(row["n_participants"]), int(row["n_rows"]) or None)
            for row in result.entered.to_dict("records")
            if row["reason"] != "entered"
        ),
        bundle_findings={
            bundle: (*([told[bundle]] if bundle in told else []), *further) for bundle, further in shown.items()
        },
        record={"split": result.told.record(), **_compared(result)},
        facts=_compared(result),
    )


def _compared(result: "Decomposition") -> dict[str, Any]:
    """What is said of models side by side, for machines."""
    found = [one for one in result.findings if one.key == "models"]
    return {
        one.key: {
            "verdict": one.claim,
            "notes": list(result.compared),
            "differences": [asdict(estimate) for estimate in one.estimates],
        }
        for one in found
    }


def _opening(result: "Decomposition", origin: tuple[str, ...]) -> "Opening":
    """The question, who and what the answer rests on, and where it comes from."""
    from ..analyses.decomposition.sentences import digits_for
    from ..analyses.scoring.metrics import METRICS
    from ..reports import Opening

    first = result.table.iloc[0]
    levels = result.scores[["bundle", "hemisphere"]].drop_duplicates()
    n_bundles = levels["bundle"].nunique()
    sides = f" ({len(levels)} with hemispheres)" if len(levels) > n_bundles else ""
    facts = {
        "patients": str(first["n_patients"]),
        "controls": str(first["n_controls"]),
        "bundles": f"{n_bundles}{sides}",
        "model": f"{first['model']} ({first['modality']})",
        "metric": METRICS[result.metric].label,
    }
    if len(result.models):
        facts["beside"] = named(dict.fromkeys(result.models["model"]))
    return Opening(question=QUESTION, facts=facts, origin=origin, decimals=digits_for(result.told, result.metric))


def _origin(inputs: Inputs, checks: Mapping[str, Finding]) -> tuple[str, ...]:
    """Whether data are drawn, whether each model was made for them, and which checks warned."""
    drawn = is_phantom(inputs.patients)
    told = ["The data are shiftkit's digital phantom: drawn images, no patients."] if drawn else []
    for one in inputs.models:
        if is_of_phantom(one.model.digest):
            # Without the phantom's data the run has a warning of its own.
            told += [f"Model {one.model.name} was trained on that phantom's healthy people."] if drawn else []
        elif not any(near.known for near in one.near):
            told.append(f"Whether model {one.model.name} was made for images like these is not known.")
        else:  # what lies outside is a warning, in the verdict
            told += [str(near) for near in one.near if not near.outside]
    return (*told, *filter(None, (_warned(role.replace("_", " "), one) for role, one in checks.items())))


def _warned(people: str, check: Finding) -> str:
    """What the checks of a cohort's images found, in one sentence; nothing where all look sound."""
    counts = {"errors": int(check.estimates[0].value), "warnings": int(check.estimates[1].value)}
    found = " and ".join(f"{what} in {n}" for what, n in counts.items() if n)
    return f"Checks of the images found {found} of {check.estimates[0].n} {people}." if found else ""


def _primary(frame: pd.DataFrame, design: Design) -> pd.DataFrame:
    """The rows of the metric that is decomposed."""
    return frame[frame["metric"] == design.metric].reset_index(drop=True)


def _keep_aliases(aliases: Aliases, design: Design) -> None:
    if design.aliases is not None:
        aliases.save(design.aliases)


def _finetuned(folder: Path) -> dict[str, Predictions]:
    """Predictions of a fine-tuned model: patients out of fold, and controls where there are any."""
    from ..segmentation.prediction.cohort import read_predictions

    found = {"patients": read_predictions(folder / "predictions")}
    if (folder / "controls").is_dir():
        found["controls"] = read_predictions(folder / "controls")
    return found


def _keep(frame: pd.DataFrame, design: Design) -> pd.DataFrame:
    """The bundles and hemispheres that were asked for; a name that matches nothing is an error."""
    labels = pd.MultiIndex.from_frame(frame[["bundle", "hemisphere"]])
    there = [Bundle(name=str(name), hemisphere=side) for name, side in labels.unique()]
    kept = choose_bundles(there, design.bundles, design.hemispheres, what="is scored")
    return frame[labels.isin([(one.name, one.hemisphere) for one in kept])].reset_index(drop=True)


def _chosen(inputs: Inputs, design: Design) -> tuple[Bundle, ...]:
    return choose_bundles(inputs.bundles, design.bundles, design.hemispheres, what="is scored")


def _by_model(
    frame: pd.DataFrame, sources: Sequence[str], name: str
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """Of a table the first source model's rows, those of each further one, and those of each fine-tuned model."""
    parts = {str(name): part for name, part in frame.groupby("model", sort=False)}
    if not sources and len(parts) == 1:
        return frame, {}, {}
    strange = [one for one in sources if one not in parts]
    if strange or not sources:
        raise ConfigError(
            f"{name} holds scores of {', '.join(parts)}; `model` must name the source model among them"
            + (f", it is {', '.join(strange)}." if strange else ", or several. The others count as fine-tuned.")
        )
    if twice := sorted({one for one in sources if sources.count(one) > 1}):
        raise ConfigError(
            f"Models that stand side by side are different ones; {twice[0]} is named twice in `model`. Leave one out."
        )
    first, *beside = [parts.pop(one) for one in sources]
    _require_tuned_from(sources, list(parts))
    return first, dict(zip(sources[1:], beside, strict=True)), parts


def _require_tuned_from(sources: Sequence[str], tuned: Sequence[str]) -> None:
    """Refuse, with a `ConfigError`, fine-tuned models that may be another source model's than the first's."""
    if both := sorted({*sources[1:]} & {*tuned}):
        raise ConfigError(
            f"A model is fine-tuned or stands beside the first; {named(both)} is given as both. Leave out one."
        )
    if len(sources) > 1 and (others := [one for one in tuned if not one.startswith(f"{sources[0]}+")]):
        raise ConfigError(
            f"Beside several source models, those that were fine-tuned are the first one's, {sources[0]}; "
            f"{named(others)} may be another's. Name its source first, or leave it out."
        )


def _digests(inputs: Inputs, tuned: Sequence[Path], anonymous: bool = False) -> dict[str, str]:
    """What tells the inputs of a run from others."""
    from ..segmentation.prediction.cohort import read_predictions

    after = [read_predictions(folder / "predictions") for folder in tuned]
    names = {one.model: one.model for one in after}
    sources = {one.model.name: one.model.name for one in inputs.models}
    if anonymous:
        named_as = model_names(list(names), list(sources))
        names, sources = ({name: named_as[name] for name in part} for part in (names, sources))
    return {
        _kind(inputs): inputs.model.digest,
        **{f"{_kind(one)} {sources[one.model.name]}": one.model.digest for one in inputs.beside},
        **{name: cohort_digest(part) for name, part in inputs.cohorts.items()},
        **{f"predictions of {names[one.model]}": cohort_digest(one.cohort) for one in after},
    }


def _kind(inputs: Inputs) -> str:
    return "predictions" if isinstance(inputs.model, Tool) else "model"


def _require_replayed(replay: Path | None, now: Mapping[str, str]) -> None:
    """A run that is replayed must have the same inputs, or its numbers would be compared with others in vain."""
    if replay is None:
        return
    before = read_record(replay)["inputs"]
    # In either direction: a cohort more would change the numbers as one less does.
    other = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if other:
        raise DataError(
            f"A replayed run must have the inputs of the first; what differs is: {', '.join(other)}. Give the same "
            "model, cohorts, `finetuned` and `scores`; for the settings alone, give the run's config.toml."
        )


def _require_finetuned(folders: Sequence[Path]) -> None:
    for folder in folders:
        if not (folder / "predictions" / "participants.tsv").is_file():
            raise DataError(
                f"`finetuned` takes a folder made by shiftkit finetune; {folder} holds no predictions. Run shiftkit "
                f"finetune --out {folder} first, or name the right folder."
            )


def _require_sound(inputs: Inputs, design: Design, aliases: Aliases | None, work: Work) -> dict[str, Finding]:
    """Stop before anything is computed from images that a check found wrong; else what the checks of each role say."""
    from ..checks import check

    findings: dict[str, Finding] = {}
    for role, cohort in inputs.cohorts.items():
        report = check(cohort, allow=design.allow, work=work)
        if report.exit_code:
            raise DataError(report.summary)
        (said,) = report.findings(role)
        findings[role] = said if aliases is None else aliases.finding(said, cohort, role)
    return findings


def _notes(inputs: Inputs) -> tuple[str, ...]:
    if not inputs.model.knows_training:
        told = told_of(inputs.model, inputs.cohorts) if isinstance(inputs.model, Tool) and not inputs.anonymous else ()
        return (
            *inputs.notes,
            *told,
            f"Who model {inputs.model.name} was trained on is not known: a control that it has seen would make the "
            "drop look larger than it is.",
        )
    if not inputs.seen:
        return (
            *inputs.notes,
            f"None of the {len(inputs.controls)} controls was seen by model {inputs.model.name}.",
        )
    return (
        *inputs.notes,
        f"{len(inputs.seen)} controls were left out because model {inputs.model.name} was trained or tuned on them; "
        f"{len(inputs.controls)} unseen ones remain.",
    )


def _cost(inputs: Inputs, design: Design, n_tuned: int, work: Work) -> Cost:
    """Checks, segmentation, scores, the split and the report, as their rooms estimate them."""
    from ..analyses.scoring.study import cost_of as scoring
    from ..checks import cost_of as checking
    from ..segmentation.prediction.cohort import cost_of as segmenting

    cost, n_models = Cost(), n_tuned + len(inputs.models)
    for cohort in inputs.cohorts.values():
        cost += checking(cohort, work) + scoring(cohort, work).times(n_models)
        # What others predicted is read.
        for one in inputs.models:
            cost += Cost() if isinstance(one.model, Tool) else segmenting(one.model, cohort)
    n_rows = sum(len(case.masks) for cohort in inputs.cohorts.values() for case in cohort)
    cost += _cost_of_split(n_rows, design).times(n_models) + cost_of_check(inputs, design, work)
    return cost + Cost(seconds=30 + 2.0 * len(inputs.patients), memory_gib=0.6, disk_gib=0.05)


def _cost_of_split(n_rows: int, design: Design) -> Cost:
    """As in `benchmarks/decomposition.md`, with ten bundles a participant, and the page."""
    draws = (design.inference.n_bootstrap + design.inference.n_permutations) / 4000
    return Cost(seconds=6 + draws * n_rows / 400 * (2 if design.sensitivity else 1), memory_gib=0.7, disk_gib=0.01)


def _plan(inputs: Inputs, tuned: Sequence[Path]) -> str:
    names = ", ".join(folder.name for folder in tuned)
    tools = [one for one in inputs.models if isinstance(one.model, Tool)]
    lacking = {one.model.name: _lacking(one) for one in tools}
    first, beside = inputs.model, [one.model.name for one in inputs.beside]
    lost = sum(sum(parts.values()) for parts in lacking.values())
    failing = f" {lost} without predictions would fail, and the run end with 4." if lost else ""
    more = f", set {named(beside)} beside it" if beside else ""
    if isinstance(first, Tool):
        there = {name: len(one) - lacking[first.name][name] for name, one in inputs.cohorts.items()}
        return (
            f"Would read predictions of {there['patients']} patients of {inputs.patients.name} and "
            f"{there['controls']} controls of {inputs.controls.name} in {first.predicted.name}, score them, "
            f"decompose the drop{more}, and write the report.{failing}"
        )
    return (
        f"Would predict {len(inputs.patients)} patients of {inputs.patients.name} and those of {len(inputs.controls)} "
        f"controls of {inputs.controls.name} that it has not seen, with model {first.name}, "
        f"score them, decompose the drop{f' before and after {names}' if names else ''}{more}, and write the report."
        f"{failing}"
    )


def _lacking(inputs: Inputs) -> dict[str, int]:
    """Of how many in each cohort a tool has predicted nothing that can be read."""
    assert isinstance(inputs.model, Tool)
    parts = inputs.cohorts
    return {name: len(unread(inputs.model, one, parts.values())) for name, one in parts.items()}
