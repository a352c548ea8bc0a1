"""The verbs, in the order in which a study needs them, and what each prints.

Options and work stand in `shiftkit.api`; nothing heavy is imported here, so that ``--help`` answers at once.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import DataError, Unfinished
from .bars import say
from .flags import Facts, Show, Verb, add, failures

Given = Mapping[str, Any]

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Split the loss of a bundle-segmentation network in glioma patients into its causes.",
)
model = typer.Typer(no_args_is_help=True, help="Look at a checkpoint, verify it, export it.")


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("shiftkit"))
        raise typer.Exit


@app.callback()
def shiftkit(
    # Told while words are parsed, when no verb has been missed yet.
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_tell_version, metavar=" ")
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Warnings and tracebacks too.", metavar=" ")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.", metavar=" ")] = False,
) -> None:
    """-v and -q are taken out before parsing, so that they work in any place."""


def _itself(made: Any, _: Given) -> list[str]:
    return [str(made)]


def _imported(made: Any, _: Given) -> Iterator[str]:
    yield str(made)
    if not made.bundles:
        yield "It has no reference masks: nothing in it can be scored, decomposed or trained on."


def _outcome(made: Any, _: Given) -> list[str]:
    return made.lines()


def _finetuned(made: Any, given: Given) -> list[str]:
    if given["shots"]:
        return made.lines()
    if given["fold"] is not None:
        return [f"Fold {given['fold']} of {given['folds']}: {given['out']}/fold-{given['fold']}"]
    return [
        f"Out-of-fold predictions of {len(made.cohort)} participants: {made.cohort.root}",
        f"What became of each tensor, by name: {Path(given['out']) / 'fold-1' / 'transfer.json'}",
    ]


def _predicted(made: Any, given: Given) -> list[str]:
    from ..pipeline.shards import place

    what = "Masks" if given["probabilities"] is False else "Masks and probabilities"
    return [f"{what} of {len(made.cohort)} participants: {place(given['out'], given['shard'])}"]


# Both checks print first and raise then: what is wrong must be told in full before the exit code says that it is.
def _checked(made: Any, _: Given) -> Iterator[str]:
    yield str(made)
    if made.exit_code:
        raise DataError(made.summary)


def _verified(made: Any, given: Given) -> Iterator[str]:
    yield str(made)
    if not made.sound:
        raise DataError(f"Checkpoint {given['checkpoint']} is not sound; the lines above say why. Copy it again.")


def _with_file(told: str, option: str, *below: str) -> Show:
    """The result itself and, where the option was given, the file it went to."""

    def show(made: Any, given: Given) -> list[str]:
        written = [] if given[option] is None else [f"{told}: {Path(given[option]).joinpath(*below)}"]
        return [str(made), *written]

    return show


def _scored(made: Any, given: Given) -> Iterator[str]:
    from ..pipeline.shards import place

    where = place(given["out"], given["shard"])
    yield from (str(made), f"Table: {where if where == Path(given['out']) else where / Path(given['out']).name}")
    if told := made.unavailable():
        raise Unfinished("; ".join((told, *filter(None, [failures(made.failed)]))))


def _template(made: Any, _: Given) -> Iterator[str]:
    from ..analyses.scoring.spreadsheet import WHY

    yield f"Template: {made}"
    yield from (f"  {name}: {why}." for name, why in WHY.items())


def _written(made: Any, given: Given) -> dict[str, Any]:
    """Predictions or models: who, where, and who failed."""
    if given.get("shots"):
        return made.to_dict()
    if given.get("fold") is not None:
        return _checkpoint(made, given)
    predictions = getattr(made, "predictions", made)
    facts = {"out": given["out"], "model": str(made) if predictions is not made else predictions.model}
    return {**facts, "participants": [case.key for case in predictions], "failed": predictions.failed}


def _trained(made: Any, given: Given) -> dict[str, Any]:
    if given["folds"] > 1:
        return _written(made, given)
    return _checkpoint(made, given)


def _checkpoint(made: Any, given: Given) -> dict[str, Any]:
    return {"out": given["out"], "model": made.name, "bundles": made.bundles, "digest": made.digest}


def _scores(made: Any, given: Given) -> dict[str, Any]:
    ok = made.frame[made.frame["status"] == "ok"]
    means = ok.groupby(["metric", "group"])["value"].agg(["mean", "count"]).reset_index()
    return {
        "table": given["out"],
        "rows": len(made.frame),
        "status": made.frame["status"].value_counts().to_dict(),
        "means": means.to_dict("records"),
        "failed": made.failed,
    }


def _result(*options: str) -> Facts:
    """Claim and table of a study, and where it was written."""

    def facts(made: Any, given: Given) -> dict[str, Any]:
        files = {name: given[name] for name in options}
        return {"verdict": made.claim, "table": made.to_frame().to_dict("records"), **files}

    return facts


def _cohort(made: Any) -> dict[str, Any]:
    bundles = [bundle.label for bundle in made.bundles]
    return {"folder": made.root, "participants": len(made), "modalities": made.modalities, "bundles": bundles}


def _is_part(given: Given) -> bool:
    return given["shard"] is not None and not given["shard"].startswith("merge")


_AFTER_PART = "once all parts are there, the same command with --shard merge/N"
_AFTER_PREDICT = "shiftkit score --predictions {out} --cohort {cohort} --out scores.tsv"
_AFTER_SCORE = "shiftkit decompose --scores {out} --out run, once it holds patients and controls"
_AFTER_IMPLANT = "shiftkit decompose --model MODEL --cohort {out} --reference CONTROLS --out run"
_WITHOUT_MASKS = (
    "shiftkit predict --model MODEL --cohort {out} --out masks; for scores and a decomposition, first lay a reference "
    "mask of each bundle beside the images, such as sub-01/dwi/sub-01_label-AFleft_mask.nii.gz"
)
_AFTER_FOLD = "once all {folds} folds are there, the same command with --resume and without --fold"
_AFTER_FINETUNE = "shiftkit decompose --model {model} --cohort {cohort} --finetuned {out} --out run"

GROUPS: Mapping[str, Mapping[str, Verb]] = {
    "Start here": {
        "demo": Verb(_outcome, ("demo", "demo --out story"), "open {out}/report.html in a browser"),
        "decompose": Verb(
            _outcome,
            ("decompose --model reference --cohort glioma --out run", "decompose --scores scores.csv --out run"),
            "open {out}/report.html in a browser; shiftkit cite {out}",
        ),
        "template": Verb(
            _template,
            ("template", "template scores.xlsx --wide --bundles AF_left,AF_right"),
            "replace the example rows, then shiftkit decompose --scores {out} --out run",
            facts=lambda made, _: {"template": made},
        ),
    },
    "Data": {
        "phantom": Verb(
            lambda made, _: map(str, made.values()),
            (
                "phantom small --n-healthy 14 --n-glioma 14 --spacing 4",
                "phantom truth --factorial --target severe --target-controls 20",
            ),
            "shiftkit decompose --model reference --cohort {out}/glioma --reference {out}/healthy --out run",
            facts=lambda made, _: {"cohorts": {name: _cohort(one) for name, one in made.items()}},
        ),
        "implant": Verb(
            _itself,
            (
                "implant healthy implanted --like glioma",
                "implant cohorts/controls cohorts/with-tumors --volume-cm3 40 --implants 2",
            ),
            lambda made, _: _AFTER_IMPLANT if made.cohort.bundles else _WITHOUT_MASKS,
            facts=lambda made, _: {**_cohort(made.cohort), "failed": made.failed},
        ),
        "import": Verb(
            _imported,
            (
                "import hcp105 downloads/HCP105 cohorts/hcp",
                "import brats downloads/BraTS cohorts/brats --tumor-labels 1,4",
            ),
            lambda made, _: "shiftkit check {out}" if made.bundles else _WITHOUT_MASKS,
            facts=lambda made, _: _cohort(made),
        ),
        "prepare": Verb(
            lambda made, _: [f"{made.written} maps written: {made.cohort}"],
            ("prepare cohorts/hospital", "prepare cohorts/hospital --maps fa,peaks"),
            "shiftkit check {cohort}",
            facts=lambda made, _: {**_cohort(made.cohort), "written": made.written, "failed": made.failed},
        ),
        "check": Verb(
            _checked,
            ("check cohorts/hospital", "check glioma --json"),
            "shiftkit decompose --model MODEL --cohort {cohort} --reference CONTROLS --dry-run --out run",
        ),
    },
    "Model": {
        "train": Verb(
            _with_file("Checkpoint", "out"),
            (
                "train --cohort healthy --out mine",
                "train --cohort healthy --modality t1w+fa --folds 4 --out folds",
            ),
            "shiftkit decompose --model {out} --cohort PATIENTS --reference {cohort} --out run",
            facts=_trained,
        ),
        "finetune": Verb(
            _finetuned,
            (
                "finetune --model reference --cohort glioma --out tuned",
                "finetune --model reference --cohort glioma --strategy head --shots 2,4,8 --out curves",
            ),
            lambda _, given: "" if given["shots"] else _AFTER_FOLD if given["fold"] is not None else _AFTER_FINETUNE,
            facts=_written,
        ),
        "predict": Verb(
            _predicted,
            (
                "predict --model reference --cohort glioma --out masks",
                "predict --model mine --cohort cohorts/hospital --no-probabilities --out masks",
            ),
            lambda _, given: _AFTER_PART if _is_part(given) else _AFTER_PREDICT,
            facts=_written,
        ),
    },
    "Analysis": {
        "score": Verb(
            _scored,
            (
                "score --predictions masks --cohort glioma --out scores.tsv",
                "score --predictions masks --cohort glioma --metric dice,hd95 --sections sections.tsv --out scores.tsv",
            ),
            lambda _, given: _AFTER_PART if _is_part(given) else _AFTER_SCORE,
            facts=_scores,
        ),
        "features": Verb(
            _outcome,
            (
                "features --model reference --cohort glioma --out layers",
                "features --model mine --cohort cohorts/hospital --reference healthy --out layers",
            ),
            "open {out}/report.html in a browser",
        ),
        "deform": Verb(
            _outcome,
            (
                "deform --cohort glioma --out shapes",
                "deform --cohort cohorts/after --baseline cohorts/before --reference healthy --out shapes",
            ),
            "open {out}/report.html in a browser",
        ),
        "study": Verb(
            _outcome,
            ("study study.toml --dry-run --out study", "study study.toml --out study --resume"),
            "open {out}/report.html in a browser",
        ),
        "plan": Verb(
            _with_file("Table", "out", "tables", "plan.tsv"),
            ("plan --patients 24 --controls 20", "plan --patients 40 --controls 40 --from run"),
            facts=_result("out"),
        ),
        "validate": Verb(
            _with_file("Table", "out", "tables", "validation.tsv"),
            ("validate --cell exponential --out validation", "validate --design run"),
            facts=_result("out"),
        ),
    },
    "Report": {
        "report": Verb(
            lambda made, given: [made.verdict, f"Report: {Path(given['result']) / 'report.html'}"],
            ("report run", "report run --linked"),
            facts=lambda made, given: {"verdict": made.verdict, "report": Path(given["result"]) / "report.html"},
        ),
        "compare": Verb(
            _with_file("Page", "out"),
            ("compare run other", "compare run other --out comparison.html"),
            facts=_result("out"),
        ),
        "cite": Verb(_itself, ("cite run", "cite run --bib"), facts=lambda made, _: {"text": made}),
    },
}
"""The verbs in the order in which ``--help`` lists them, by what they are for."""

MODEL = {
    "model info": Verb(_itself, ("model info reference", "model info mine"), facts=lambda made, _: {"text": made}),
    "model verify": Verb(
        _verified,
        ("model verify reference", "model verify mine"),
        facts=lambda made, _: {"sound": made.sound, "text": str(made)},
    ),
    "model export": Verb(
        _itself,
        ("model export mine --out mine.pt", "model export mine --onnx --out mine.onnx"),
        facts=lambda made, _: {"file": made},
    ),
}

for _group, _verbs in GROUPS.items():
    for _name, _verb in _verbs.items():
        # demo ends with a decomposition, and reads the settings of that one.
        _table = "decompose" if _name == "demo" else ""
        add(app, _name, _verb, group=_group, table=_table)
app.add_typer(model, name="model", rich_help_panel="Model")
for _name, _verb in MODEL.items():
    add(model, _name, _verb)


@app.command(rich_help_panel="Start here")
def doctor() -> None:
    """Say what shiftkit finds on this machine, and whether it can work with it."""
    from .doctor import examine

    lines, sound = examine()
    say(*lines)
    if not sound:
        raise typer.Exit(1)


@app.command(
    rich_help_panel="Model",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Examples:\n\n  shiftkit slurm --parts 16 predict --model mine --cohort hospital --out masks > job.sh\n\n"
    "  shiftkit slurm --parts 8 --cpus 4 score --predictions masks --cohort hospital --out scores.tsv > job.sh",
)
def slurm(
    command: Annotated[list[str], typer.Argument(metavar="VERB …", help="predict or score, as it would be called.")],
    parts: Annotated[int, typer.Option("--parts", help="Parts, each a task of the array.", min=2)] = 8,
    cpus: Annotated[int, typer.Option("--cpus", help="Cores of each task.", min=1)] = 1,
) -> None:
    """Print the job of a verb in parts on a SLURM cluster, and of their merge: bash job.sh hands both in."""
    from .slurm import script

    say(script(command, parts=parts, cpus=cpus))
