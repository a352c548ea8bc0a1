"""The published design on two cohorts: its stages, each a verb with a folder of its own, and what they come to."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..bundles import choose_bundles
from ..catalogue import (
    CKA,
    CONDITIONS,
    CONTRASTS,
    CURVES,
    DECOMPOSITION,
    DEFORMATION_RELATION,
    FEATURES,
    RECOVERY,
    REPLICATION,
    SCORES,
)
from ..catalogue import IMPLANTS as IMPLANT_CHECK
from ..cohorts.folder import cohort_digest
from ..errors import DataError, ModelMismatchError, raise_all
from ..files import file_digest, read_json
from ..names import find_cohort, find_model
from ..options import options_of, passed_on
from ..runs import Outcome, Run, keep, kept
from ..tables import Table, read_cells, read_table
from ..types import Cohort
from ..words import named, nearest
from ..work import Cost, Work, duration
from .inputs import described, find_controls, find_patients, require_apart, require_common_bundles
from .story import Ending, end
from .study_file import IMPLANTS, PLAIN, StudyFile, Verbs

if TYPE_CHECKING:
    from ..segmentation.network.checkpoints import Model

Say = Callable[[str], object]
_LEAST_HELD_OUT = 5
"""Controls below which a bundle is left out of a decomposition."""
_PURPOSE = 31
"""Of the random choice of controls that no network sees."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One verb and what it is asked, into a folder of its own.

    Parameters
    ----------
    name : str
        Also its folder below the study's.
    verb : str
        As in `shiftkit.api.VERBS`.
    settings : mapping
        Its options: with the cohorts and what it needs, all that its result depends on.
    inputs : mapping
        Cohorts, a network, or folders made by other stages.
    needs : tuple of str
        Names of the stages whose folders it reads.
    """

    name: str
    verb: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Any]
    needs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One kind of input and of training: a source network, what is made of it, and its stages in their order."""

    modality: str
    training: str

    @property
    def name(self) -> str:
        """Also its folder."""
        return self.modality if self.training == PLAIN else f"{self.modality}-{self.training}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Design:
    """A study file with its cohorts, where it is worked at, and the verbs that do the work."""

    file: StudyFile
    healthy: Cohort
    patients: Cohort
    root: Path
    verbs: Verbs
    device: str = "auto"

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Every modality with every kind of training."""
        return tuple(Arm(modality=one, training=way) for way in self.file.training for one in self.file.modalities)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """All that is done, in an order in which each finds what it needs."""
        extra = self._implants() if IMPLANTS in self.file.training else ()
        return (*extra, *(stage for arm in self.arms for stage in self._stages_of(arm)))

    def _implants(self) -> Iterator[Stage]:
        trained_on = self.healthy.where(group="control", split="train")
        yield Stage(name=IMPLANTS, verb="implant", settings=self.file.implant, inputs={"cohort": trained_on})

    def _stages_of(self, arm: Arm) -> Iterator[Stage]:
        file, seed, both = self.file, {"seed": self.file.seed}, {"cohort": self.patients, "reference": self.healthy}
        given = (file.checkpoints or {}).get(arm.modality)
        source = f"{arm.name}/source"
        if given is None:
            asked = {**file.train, **seed, "modality": arm.modality, "bundles": file.bundles}
            implanted = (IMPLANTS,) if arm.training == IMPLANTS else ()
            yield Stage(name=source, verb="train", settings=asked, inputs={"cohort": self.healthy}, needs=implanted)
            model, needs = str(self.root / source), (source,)
        else:
            model, needs = str(find_model(file.named(given))), ()
        tuned: list[str] = []
        for strategy in file.strategies:
            asked = {**file.finetune, **seed, "strategy": strategy, "folds": file.folds}
            asked.pop("draws", None)
            tuned.append(f"{arm.name}/{strategy}")
            yield Stage(name=tuned[-1], verb="finetune", settings=asked, inputs={"model": model, **both}, needs=needs)
        if file.shots:
            asked = {**file.finetune, **seed, "strategy": file.primary, "folds": file.folds, "shots": file.shots}
            inputs = {"model": model, "cohort": self.patients}
            yield Stage(name=f"{arm.name}/curves", verb="finetune", settings=asked, inputs=inputs, needs=needs)
        # What counts as none must be the same in the decomposition and in the answers.
        asked = {"equivalence_margin": file.margin, **file.decompose, **seed, "metric": file.metric}
        yield Stage(
            name=f"{arm.name}/decomposition",
            verb="decompose",
            settings={**asked, "bundles": file.bundles},
            inputs={"model": model, **both, "finetuned": [self.root / one for one in tuned]},
            needs=(*needs, *tuned),
        )

    @cached_property
    def digests(self) -> dict[str, str]:
        """What tells the cohorts from others, who is held out of them included."""
        return {"healthy": cohort_digest(self.healthy), "patients": cohort_digest(self.patients)}

    @cached_property
    def made_of(self) -> dict[str, str]:
        """What each stage is made of, as a digest: its settings, the cohorts, and what the stages it needs are made of.

        A network that is given counts with its own digest.
        """
        found: dict[str, str] = {}
        for stage in self.stages:
            model = stage.inputs.get("model")
            foreign = _digest_of(Path(model)) if model and not stage.needs else ""
            parts = [stage.verb, dict(stage.settings), self.digests, foreign, [found[one] for one in stage.needs]]
            text = json.dumps(parts, sort_keys=True, default=str)
            found[stage.name] = hashlib.sha256(text.encode()).hexdigest()
        return found

    def _note(self, stage: Stage) -> Path:
        return self.root / "stages" / f"{stage.name.replace('/', '-')}.json"

    def is_done(self, stage: Stage) -> bool:
        """Whether a stage ended, with these settings, on these cohorts and on what it needs as that is now.

        Raises
        ------
        DataError
            If what it left was changed since, or is gone.
        """
        folder, note = self.root / stage.name, kept(self._note(stage), self.made_of[stage.name])
        if note is None or not folder.is_dir():
            return False
        left, there = note.get("left", {}), _left_in(folder)
        if changed := sorted(name for name in {*left, *there} if left.get(name) != there.get(name)):
            raise DataError(
                f"A finished stage is as its verb left it; of {folder} {named(changed, 3)} "
                f"{'was' if len(changed) == 1 else 'were'} changed, added or removed since. Remove that folder, and "
                "the stage is done again."
            )
        return True

    def do(self, stage: Stage, work: Work) -> None:
        """Do a stage, or go on with it where it was interrupted, and note that it is done."""
        self._call(stage, dict(stage.inputs), work)
        left = _left_in(self.root / stage.name)
        keep(self._note(stage), self.made_of[stage.name], {"verb": stage.verb, "left": left})

    def plan(self, stage: Stage, work: Work) -> Cost:
        """What a stage will take; refuses what names, headers and options tell to be impossible, as its verb does."""
        dry = dataclasses.replace(work, dry_run=True)
        inputs = dict(stage.inputs)
        if "model" in inputs:
            inputs["model"] = self._stand_in(Path(inputs["model"]))
        cost = self._call(stage, {**inputs, **({"finetuned": ()} if "finetuned" in inputs else {})}, dry).cost
        if stage.verb != "decompose":
            return cost
        # Each fine-tuned network is scored and split as the source network is, which is a quarter of all that is done
        # with that one; and each is looked into where that is asked.
        n_tuned = len(stage.inputs["finetuned"])
        cost = cost.times(1 + n_tuned / 4)
        for study in stage.settings.get("include", ()):
            only = {"model", "cohort", "reference"} if study == "features" else {"cohort", "reference"}
            asked = Stage(name=f"{stage.name}/{study}", verb=study, settings={}, inputs={})
            further = self._call(asked, {name: inputs[name] for name in only}, dry).cost
            cost += further.times(1 + n_tuned if study == "features" else 1)
        return cost

    def _call(self, stage: Stage, inputs: Mapping[str, Any], work: Work) -> Any:
        verb = self.verbs[stage.verb]
        known = options_of(verb)
        if stage.needs == (IMPLANTS,) and not work.dry_run:
            inputs = {**inputs, "cohort": self._with_implants()}
        how = {"device": self.device, "jobs": work.jobs, "scheduler": work.scheduler}
        told = {name: value for name, value in {**how, "seed": self.file.seed}.items() if name in known}
        told = {**told, "dry_run": work.dry_run, "progress": work.progress, "resume": True}
        return verb(**{**told, **stage.settings, **inputs, "out": self.root / stage.name})

    def _stand_in(self, place: Path) -> "Model":
        """The network of a stage, or one that nobody has trained yet, by which work on it is planned."""
        from ..segmentation.network.checkpoints import is_whole, load_model
        from ..segmentation.training.recipes import Recipe

        if is_whole(place):
            return load_model(place)
        stage = next(one for one in self.stages if self.root / one.name == place)
        return Recipe(**passed_on(Recipe, stage.settings)).settled(self.healthy).untrained(place.name, {})

    def _with_implants(self) -> Cohort:
        """The controls, and those of the training with a tumor besides: participants of their own, never held out."""
        made = find_cohort(self.root / IMPLANTS)
        cases = [
            dataclasses.replace(case, session=f"ses-{IMPLANTS}", attributes={**case.attributes, "split": "train"})
            for case in made
        ]
        return dataclasses.replace(self.healthy, cases=(*self.healthy.cases, *cases))


def _digest_of(model: Path) -> str:
    from ..segmentation.network.checkpoints import load_model

    return load_model(model).digest


def begin_study(run: Run, file: StudyFile, verbs: Verbs, *, device: str, work: Work) -> Design:
    """Look everything up and plan every stage, so that what can be refused is refused before anything is computed.

    A dry run ends here; see `shiftkit.work.Work.begin`.

    Raises
    ------
    DataError
        If there are no patients or too few controls, or a modality or bundle is missing in a cohort.
    ModelMismatchError
        If a network of ``checkpoints`` reads another modality than it is named for, or lacks the bundles.
    """
    from ..segmentation.network.devices import pick_device

    pick_device(device)
    patients = find_patients(find_cohort(file.named(file.patients), work=work))
    healthy = find_controls(patients, file.named(file.healthy), work)
    require_apart({"patients": patients, "healthy": healthy})
    for cohort in (healthy, patients):
        _require_there(file, cohort)
        _require_suitable(file, cohort)
    design = Design(
        file=file,
        healthy=with_held_out(healthy, file.held_out, file.seed),
        patients=patients,
        root=run.root,
        verbs=verbs,
        device=device,
    )
    left = [stage for stage in design.stages if not design.is_done(stage)]
    costs = {stage.name: design.plan(stage, work) for stage in left}
    done = len(design.stages) - len(left)
    lines = [f"  {name}: {duration(max(1.0, cost.seconds))}" for name, cost in costs.items()]
    told = f"Would do {len(left)} stages" + (f" ({done} are done)" if done else "") + ", then the tables and the page."
    work.begin("\n".join([told, *lines]), sum(costs.values(), Cost(seconds=60, memory_gib=0.7)), run.root)
    return design


def _require_there(file: StudyFile, cohort: Cohort) -> None:
    choose_bundles(cohort.bundles, file.bundles, what=f"{cohort.name} has masks of")
    parts = dict.fromkeys(part for one in file.modalities for part in one.split("+"))
    raise_all(
        [
            f"modality {part} is missing; there is {' '.join(cohort.modalities) or 'no image'}"
            f"{nearest(part, cohort.modalities)}"
            for part in parts
            if part not in cohort.modalities
        ],
        f"Cohort {cohort.name}",
    )


def _require_suitable(file: StudyFile, cohort: Cohort) -> None:
    """Networks that are given must be of their modality, whose name their scores get, and know the bundles."""
    problems: list[str] = []
    for modality, name in (file.checkpoints or {}).items():
        model = described(find_model(file.named(name)))
        if model.modality != modality:
            problems.append(f"{modality} names {name}, which reads {model.modality}")
        if file.bundles:
            asked = choose_bundles(cohort.bundles, file.bundles, what=f"{cohort.name} has masks of")
            if lacking := [bundle.label for bundle in asked if bundle not in model.bundles]:
                problems.append(f"{modality} names {name}, which does not predict {named(lacking)}")
        else:
            require_common_bundles(model, cohort)
    raise_all(problems, "[checkpoints]", ModelMismatchError)


def with_held_out(healthy: Cohort, share: float, seed: int) -> Cohort:
    """Controls with the part that each plays: some train the networks, some choose the epoch, some are never seen.

    A column ``split`` of the cohort's own is kept where at least five are ``test``. Else a share is drawn, of at least
    five, and of the others one in six chooses the epoch.
    """
    if len({case.participant_id for case in healthy.where(split="test")}) >= _LEAST_HELD_OUT:
        return healthy
    people = sorted({case.participant_id for case in healthy})
    n_test = max(_LEAST_HELD_OUT, round(share * len(people)))
    if len(people) < n_test + 2:
        raise DataError(
            f"Controls both train the networks and are held out of the training; {healthy.name} has {len(people)}, of "
            f"whom {n_test} are held out. Add controls, at least {n_test + 2 - len(people)}."
        )
    order = np.random.default_rng([seed, _PURPOSE]).permutation(people).tolist()
    n_val = max(1, (len(people) - n_test) // 6)
    part = dict.fromkeys(order, "train") | dict.fromkeys(order[:n_test], "test")
    part |= dict.fromkeys(order[n_test : n_test + n_val], "val")
    cases = (
        dataclasses.replace(case, attributes={**case.attributes, "split": part[case.participant_id]})
        for case in healthy
    )
    return dataclasses.replace(healthy, cases=tuple(cases))


def _left_in(folder: Path) -> dict[str, str]:
    """What of a stage others read: its tables by their digests, masks and networks by their sizes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): file_digest(path) if path.suffix == ".tsv" else str(path.stat().st_size)
        for path in files
        if path.name.endswith((".tsv", ".nii.gz", ".safetensors"))
    }


def do_stages(design: Design, say: Say, work: Work) -> None:
    """Do every stage that is not done yet, in their order; a `DataError` if a check finds images wrong.

    Decompositions check too, but only after everything was trained.
    """
    from ..checks import check

    left = [stage for stage in design.stages if not design.is_done(stage)]
    if len(left) == len(design.stages):
        for cohort in (design.healthy, design.patients):
            report = check(cohort, allow=tuple(design.file.decompose.get("allow", ())), work=work)
            if report.exit_code:
                raise DataError(report.summary)
    for stage in left:
        number = design.stages.index(stage) + 1
        say(f"Stage {number} of {len(design.stages)}: {stage.name} (shiftkit {stage.verb})")
        design.do(stage, work)


_GATHERED = (DECOMPOSITION, RECOVERY, CURVES, FEATURES, CKA, DEFORMATION_RELATION, IMPLANT_CHECK)
"""Tables of the stages that the study has again, of all arms together."""


def conclude(run: Run, design: Design, work: Work) -> Outcome:
    """Answer the findings from what the stages left, put their tables together, and end the run."""
    from ..analyses.replication.conditions import Arm as Scored
    from ..analyses.replication.findings import further
    from ..analyses.replication.study import replicate
    from ..analyses.statistics.inference import Inference

    arms: list[Scored] = []
    for arm in design.arms:
        scores = read_table(design.root / arm.name / "decomposition" / "tables" / "scores.tsv", SCORES)
        told: dict[str, Any] = {"source": str(scores["model"].iloc[0]), "scores": scores, "metric": design.file.metric}
        arms.append(Scored(modality=arm.modality, training=arm.training, **told))
    gathered = _gathered(design)
    by_table = {table.name: frame for frame, table in gathered}
    inference = Inference(seed=design.file.seed, **passed_on(Inference, design.file.decompose))
    result = replicate(
        arms,
        primary=design.file.primary,
        margin=design.file.margin,
        recovery=by_table.get(RECOVERY.name),
        curves=by_table.get(CURVES.name),
        inference=inference,
        work=work,
    )
    ending = Ending(
        result=result,
        title="The published study's findings on these cohorts",
        tables=(
            (result.table, REPLICATION),
            (result.conditions, CONDITIONS),
            (result.contrasts, CONTRASTS),
            *gathered,
        ),
        digests=design.digests,
        findings=further(by_table, design.file.primary),
        failed=_failed(design),
        cohorts={"patients": (design.patients, {}), "controls": (design.healthy, {})},
        notes=tuple(f"{arm.name}: {_verdict_of(design, arm)}" for arm in design.arms),
        said=(*str(result).splitlines(), f"Tables: {run.root / 'tables'}"),
    )
    return end(run, ending, work)


def _verdict_of(design: Design, arm: Arm) -> str:
    """What the decomposition of an arm says, with its warnings."""
    return str(read_json(design.root / arm.name / "decomposition" / "run.json").get("verdict", ""))


def _failed(design: Design) -> dict[str, str]:
    """Participants who failed in any arm, with the reason."""
    found: dict[str, str] = {}
    for arm in design.arms:
        rows = read_cells(design.root / arm.name / "decomposition" / "logs" / "failed.tsv")
        for row in rows.to_dict("records"):
            found.setdefault(str(row["participant_id"]), f"{arm.name}: {row['reason']}")
    return found


def _gathered(design: Design) -> tuple[tuple[pd.DataFrame, Table], ...]:
    """Every table that a stage wrote, of all arms together: what is trained how stands in further columns."""
    found: list[tuple[pd.DataFrame, Table]] = []
    for table in _GATHERED:
        parts: list[pd.DataFrame] = []
        for arm in design.arms:
            folder = "curves" if table is CURVES else "decomposition"
            path = design.root / arm.name / folder / "tables" / f"{table.name}.tsv"
            if path.is_file():
                told = {"modality": arm.modality, "training": arm.training}
                parts.append(read_table(path, table).assign(**told))
        if parts:
            found.append((pd.concat(parts, ignore_index=True), table))
    return tuple(found)
