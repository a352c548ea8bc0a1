"""Who and what enters a run, after names were turned into things."""

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from warnings import warn

from ..cohorts.folder import participants_by_folder
from ..config import registered_names
from ..errors import ConfigError, DataError, ModelMismatchError, ShiftkitWarning, raise_all
from ..files import file_digest
from ..names import ModelNames, find_cohort, find_model, is_built_in, is_of_phantom, is_phantom
from ..types import Bundle, Case, Cohort
from ..words import chosen_session, named, understood, words_of
from ..work import Work

if TYPE_CHECKING:
    from ..analyses.scoring.predictions import PredictedMasks
    from ..analyses.statistics.inference import Inference
    from ..cohorts.layout import Filters
    from ..segmentation.network.checkpoints import Model
    from ..segmentation.prediction.routing import Folds
    from ..segmentation.samples.domain import Domain, Nearness


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tool:
    """What stands for a model where others made the predictions: nothing is known of it but what it wrote.

    ``unwritten``, ``threshold`` and ``resample`` are as in `shiftkit.analyses.scoring.study.score`.
    """

    name: str
    predicted: "PredictedMasks"
    unwritten: str | None = None
    threshold: float | None = None
    resample: bool = False
    knows_training: bool = False
    image_statistics: "tuple[Domain, ...]" = ()

    @property
    def modality(self) -> str:
        """What it read, if its folder says so."""
        return self.predicted.modality

    @cached_property
    def digest(self) -> str:
        """SHA-256 of every file it wrote that is read, by the case and bundle it is of."""
        whole = hashlib.sha256()
        for path in self.predicted.files:
            whole.update(f"{path.name} {file_digest(path)}\n".encode())
        return whole.hexdigest()

    def has_seen(self, case: Case) -> bool:
        """Whom it was trained on nobody can tell."""
        return False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """A source model, or a tool that predicted; the patients, and controls that the model has not seen.

    ``target_controls`` are healthy people scanned like the patients, unseen too; ``seen`` are the keys of controls that
    were left out because the model was trained or tuned on them. ``left_out`` are the others who were, each with the
    reason; ``near`` is how far the images of each cohort lie from those of the training, patients first; names of an
    ``anonymous`` run are none of the user's. ``beside`` is the same for each further source model, with the controls of
    these that it has not seen either.
    """

    model: "Model | Tool"
    patients: Cohort
    controls: Cohort
    seen: tuple[str, ...]
    target_controls: Cohort | None = None
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    near: "tuple[Nearness, ...]" = ()
    anonymous: bool = False
    beside: "tuple[Inputs, ...]" = ()

    @property
    def models(self) -> "tuple[Inputs, ...]":
        """Of every source model: this one, then those beside it."""
        return (self, *self.beside)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences without which no number of this run must be read."""
        own = warnings_of(self.model, self.patients, *self.near)
        return tuple(dict.fromkeys((*own, *(said for one in self.beside for said in one.warnings))))

    @property
    def notes(self) -> tuple[str, ...]:
        """What else is said of the input of this model."""
        return notes_of(*self.near)

    def only(self, chosen: Collection[Bundle]) -> "Inputs":
        """The same people with the masks of these bundles alone: of others nothing is read."""
        parts = {name: cohort.only(chosen) for name, cohort in self.cohorts.items()}
        return dataclasses.replace(self, **parts, beside=tuple(one.only(chosen) for one in self.beside))

    @property
    def network(self) -> "Model":
        """The model where only a network will do; a `ConfigError` if others made the predictions."""
        if isinstance(self.model, Tool):
            raise ConfigError("This needs a network; `predictions` are masks. Give `model` instead.")
        return self.model

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """Every bundle of which anybody has a reference mask."""
        return tuple(sorted({bundle for cohort in self.cohorts.values() for bundle in cohort.bundles}))

    @property
    def cohorts(self) -> dict[str, Cohort]:
        """What is predicted and scored, by the part it plays."""
        parts = {"patients": self.patients, "controls": self.controls, "target_controls": self.target_controls}
        return {name: cohort for name, cohort in parts.items() if cohort is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Design:
    """What a decomposition is asked: options of `shiftkit.api.decompose`, and how sure its numbers have to be."""

    metric: str
    bundles: tuple[str, ...]
    hemispheres: tuple[str, ...]
    covariates: tuple[str, ...]
    sensitivity: bool
    cross_check: bool
    include: tuple[str, ...]
    allow: tuple[str, ...]
    device: str
    inference: "Inference"
    equivalence_margin: float | None = None
    by: str | None = None
    anonymous: bool = False
    aliases: Path | None = None
    session: str | None = None
    replay: Path | None = None
    check_with_implants: int = 0


def place_of_model(model: "str | Path | Model") -> "Path | Model | Folds":
    """Where a model lies, or itself: a path or name of a checkpoint, or ``file.py:function``, which makes a model.

    Such a file is run. So it is taken from whoever starts the program only: names that ``shiftkit.toml`` gives are
    folders, for that file may lie in a folder that somebody else made. ``file.py:function@folder`` has the weights that
    fine-tuning left in a folder: of one fold, or of all.

    Raises
    ------
    ConfigError
        If the file has no such function, that returns something else than a `Model`, or weights are of another.
    DataError
        If the file or checkpoint is not there, or the file fails.
    """
    if not isinstance(model, str | Path):
        return model
    if ".py:" not in str(model) or Path(model).exists():
        return find_model(model)
    from ..segmentation.network.checkpoints import Model
    from ..segmentation.network.foreign import call_factory
    from ..segmentation.prediction.routing import open_place

    code, _, tuned = str(model).partition("@")
    made = call_factory(code)
    if not isinstance(made, Model):
        raise ConfigError(
            f"{code} must return shiftkit.Model(network=…, modality=…, bundles=…, spacing_mm=…), which says what goes "
            f"in and out; it returned a {type(made).__name__}."
        )
    return open_place(Path(tuned).expanduser(), made) if tuned else made


def open_model(model: "str | Path | Model", source: "str | Path | Model | None" = None) -> "Model":
    """Load a model by path, name or ``file.py:function``; one that is loaded is handed back. See `place_of_model`.

    ``source`` is the model that a checkpoint was tuned from, where it is a module of your own.
    """
    return _one(place_of_model(model), None if source is None else open_model(source))


def _one(place: "Path | Model | Folds", source: "Model | None" = None) -> "Model":
    """Of what `place_of_model` found, the model; folds are several."""
    from ..segmentation.network.checkpoints import Model, load_model

    if isinstance(place, Path):
        return load_model(place, source)
    if isinstance(place, Model):
        return place
    raise ConfigError(f"One model is needed, and {place.name} is a folder of folds. Name one of them, such as fold-1.")


def gather(
    model: "str | Path | Model | Tool",
    cohort: str | Path | Cohort,
    reference: str | Path | Cohort | None = None,
    target_controls: str | Path | Cohort | None = None,
    *,
    beside: "Sequence[str | Path | Model | Tool]" = (),
    bundles: Sequence[str] = (),
    filters: "Filters | str | Path | None" = None,
    labels: Sequence[str] = (),
    session: str | None = None,
    early: Callable[[Mapping[str, Cohort], ModelNames | None], object] = lambda *_: None,
    begin: Callable[[Inputs], object] = lambda _: None,
    work: Work = Work(),
) -> Inputs:
    """Turn names into a model and cohorts, and leave out every control the model has seen.

    Of a tool, whose predictions are read, nothing is looked at but these, and ``early`` gets no names. ``beside`` are
    further source models, whose names differ; they change nothing of what the first is given.

    ``early`` is called for each model once all cohorts are known and before a network is loaded, ``begin`` after that
    and before an image is read, with controls of whom it is not known yet whom the model has seen: what they refuse is
    refused at once, and there a dry run ends.

    Where the controls come from without ``reference`` says `find_controls`, and which ``session`` of each participant
    is taken `one_session`. Without ``target_controls`` they are the cohort's own of group ``target_control``, if it has
    any. ``labels`` are those of the patients to take, all without any. ``bundles`` are labels that the model is going
    to learn: patients may have masks of these alone. ``filters`` say which files serve where several could; see
    `shiftkit.names.find_cohort`.

    Raises
    ------
    ConfigError
        If nothing says where the controls are, or two models are one or have one name.
    DataError
        If there are no patients, no control is left, or the table of participants leaves doubt; see
        `require_understood`.
    ModelMismatchError
        If model and cohort, or two models, have no bundle in common, or nobody has the images that a model reads.
    """
    places = [one if isinstance(one, Tool) else place_of_model(one) for one in (model, *beside)]
    models = [one if isinstance(one, Tool) else described(one) for one in places]
    _require_different(places, models)
    found = find_cohort(cohort, filters=filters, work=work)
    # Filters choose among files of every cohort, also of those that are looked up by name further below.
    if filters is not None:
        reference, target_controls = (
            None if one is None else find_cohort(one, filters=filters, work=work)
            for one in (reference, target_controls)
        )
    patients, gone = one_session(find_patients(found).labeled(labels), session)
    controls = controls_once(find_controls(found, reference, work), session)
    targets = _target_controls(found, target_controls, session, work)
    parts = {"patients": patients, "controls": controls, "target_controls": targets}
    there = {name: part for name, part in parts.items() if part is not None}
    require_apart(there)
    for one in models:
        names = None if isinstance(one, Tool) else one
        for part in there.values():
            if names is None:
                break
            part.require_input(names.name, names.modality)
            # Patients whose only masks are of bundles that are going to be learned suit a model that lacks these.
            if part is not patients or not bundles:
                require_common_bundles(names, part)
        early(there, names)
    for further in models[1:]:
        _require_comparable(models[0], further, patients)
    # Only now, for a network takes longer to load than all of the above.
    first, *others = [one if isinstance(one, Tool) else _one(one) for one in places]
    everybody = Inputs(
        model=first,
        patients=patients,
        controls=controls,
        target_controls=targets,
        seen=(),
        left_out={**bystanders(found), **gone},
    )
    # Not known yet is whom a model has seen.
    begin(dataclasses.replace(everybody, beside=tuple(dataclasses.replace(everybody, model=one) for one in others)))
    inputs = _unseen(everybody)
    further = [_unseen(dataclasses.replace(inputs, model=one, seen=())) for one in others]
    # Images are read last: whatever else is wrong is told at once.
    inputs, *further = [_with_nearness(one, work) for one in (inputs, *further)]
    return dataclasses.replace(inputs, beside=tuple(further))


def _with_nearness(inputs: Inputs, work: Work) -> Inputs:
    if isinstance(inputs.model, Tool):
        return inputs
    return dataclasses.replace(inputs, near=said_of_input(inputs.model, *inputs.cohorts.values(), work=work))


def _require_different(places: "Sequence[Path | Model | Folds | Tool]", models: Sequence[ModelNames | Tool]) -> None:
    """Refuse, with a `ConfigError`, one model named twice, and two models of one name: tables could not tell them."""
    for number, (place, one) in enumerate(zip(places, models, strict=True)):
        for other_place, other in zip(places[:number], models[:number], strict=True):
            same = (
                isinstance(place, Path) and isinstance(other_place, Path) and place.resolve() == other_place.resolve()
            )
            if place is other_place or same:
                raise ConfigError(
                    f"Models that stand side by side are different ones; {one.name} is named twice in `model`. Leave "
                    "one out."
                )
            if one.name == other.name:
                raise ConfigError(
                    f"Models that stand side by side have different names; two are called {one.name}. Rename the "
                    'folder of `predictions`, or name one in Python: sk.Model(…, name="another"), or of a checkpoint '
                    'dataclasses.replace(sk.load_model(…), name="another").'
                )


def _require_comparable(first: ModelNames | Tool, further: ModelNames | Tool, patients: Cohort) -> None:
    """Refuse, with a `ModelMismatchError`, two models that predict no bundle of the cohort both."""
    has = [one.predicted.has if isinstance(one, Tool) else set(one.bundles).__contains__ for one in (first, further)]
    if not any(has[0](bundle) and has[1](bundle) for bundle in patients.bundles):
        told = [
            f"{one.name} predicts {' '.join(bundle.label for bundle in patients.bundles if there(bundle)) or 'none'}"
            for one, there in zip((first, further), has, strict=True)
        ]
        raise ModelMismatchError(
            f"Models side by side need a bundle that both predict; of those of {patients.name}, {' and '.join(told)}. "
            "Decompose them one by one."
        )


def _unseen(inputs: Inputs) -> Inputs:
    """Without the controls that the model has seen; a `DataError` if none is left."""
    model, controls, targets = inputs.model, inputs.controls, inputs.target_controls
    unseen, seen = _by_sight(model, controls)
    if not len(unseen):
        raise DataError(
            f"A control must be one that the model has not seen; model {model.name} was trained or tuned on all "
            f"{len(controls)} controls of {controls.name}. Name other controls with `reference`, or train with `folds`."
        )
    if targets is None:
        return dataclasses.replace(inputs, controls=unseen, seen=seen)
    unseen_targets, seen_targets = _by_sight(model, targets)
    if not len(unseen_targets):
        raise _without_targets(targets, len(seen_targets))
    return dataclasses.replace(inputs, controls=unseen, seen=(*seen, *seen_targets), target_controls=unseen_targets)


def described(place: "Path | Model | Folds") -> ModelNames:
    """The names of a model; where a checkpoint's description cannot be read, it is loaded, which says what is wrong."""
    if isinstance(place, Path) and (names := ModelNames.of(place)) is not None:
        return names
    from ..segmentation.prediction.routing import Folds

    model = place.head if isinstance(place, Folds) else _one(place)
    return ModelNames(name=model.name, modality=model.modality, bundles=model.bundles)


def require_apart(cohorts: Mapping[str, Cohort]) -> None:
    """Refuse, with a `DataError`, an identifier of two cohorts: its scores would be those of one person."""
    first: dict[str, str] = {}
    twice: dict[str, list[str]] = {}
    for part, cohort in cohorts.items():
        for case in cohort:
            if (other := first.setdefault(case.participant_id, part)) != part:
                twice.setdefault(f"{other} and {part}", []).append(case.participant_id)
    raise_all(
        [
            f"{named(names, 3)} stand in {both}; rename the folders, files and rows of one, such as "
            "sub-c01 for sub-01, and leave out whoever is the same person"
            for both, names in twice.items()
        ],
        "Cohorts of which each numbers from 1",
    )


def find_patients(cohort: Cohort) -> Cohort:
    """The patients of a cohort; a `DataError` if there are none."""
    require_understood(cohort)
    patients = cohort.where(group="glioma")
    if not len(patients):
        raise DataError(
            f"The cohort must hold patients; {cohort.name} has no participant with group 'glioma' in "
            "participants.tsv. Fill in the group column, or name another cohort."
        )
    return patients


def _target_controls(
    cohort: Cohort, given: str | Path | Cohort | None, session: str | None, work: Work
) -> Cohort | None:
    """Healthy people scanned like the patients."""
    if given is None:
        pool = cohort.where(group="target_control")
        return controls_once(pool, session) if len(pool) else None
    pool = find_cohort(given, work=work)
    require_understood(pool)
    healthy = pool.where(lambda case: case.group in ("control", "target_control"))
    if not len(healthy):
        raise _without_targets(healthy, 0)
    return controls_once(healthy, session)


def _without_targets(pool: Cohort, seen: int) -> DataError:
    return DataError(
        f"`target_controls` must hold healthy participants that the model has not seen; {pool.name} has {len(pool)} of "
        f"group 'control' or 'target_control', and the model was trained on {seen} of them."
    )


def find_controls(cohort: Cohort, reference: str | Path | Cohort | None = None, work: Work = Work()) -> Cohort:
    """The controls of the reference or, without one, the cohort's own, else those registered as ``healthy``.

    The built-in ``healthy`` stands in beside the built-in ``glioma`` alone: a phantom is nobody's control.

    Raises
    ------
    ConfigError
        If none of these is there.
    DataError
        If the cohort that is there holds no controls.
    """
    if reference is not None:
        pool = find_cohort(reference, work=work)
    elif len(cohort.where(group="control")):
        pool = cohort
    elif "healthy" in registered_names("cohorts") or is_built_in(cohort, "glioma"):
        pool = find_cohort("healthy", work=work)
    else:
        raise ConfigError(
            f"Patients are compared with controls; {cohort.name} has no participant with group 'control', and no "
            "cohort was named. Give `reference` the cohort that holds them, register it as healthy under [cohorts] in "
            "shiftkit.toml, or fill in the group column of participants.tsv."
        )
    require_understood(pool)
    controls = pool.where(group="control")
    if not len(controls):
        raise DataError(
            f"The reference must hold controls; {pool.name} has no participant with group 'control' in "
            "participants.tsv. Fill in the group column, or name another cohort with `reference`."
        )
    return controls


def require_understood(cohort: Cohort) -> None:
    """Refuse, with a `DataError`, a table of participants of which somebody would be lost in silence.

    Whoever has a folder must have a row, and each group must be a word that `shiftkit.words` understands.
    """
    if not (cohort.root / "participants.tsv").is_file():
        return
    rows = participants_by_folder(cohort.root)
    people = dict.fromkeys(case.participant_id for case in cohort)
    lost = [name for name in people if name not in rows]
    problems: list[str] = []
    if lost:
        without = [name for name in rows if not (cohort.root / name).is_dir()]
        also = f"; rows without a folder: {named(without)}" if without else ""
        problems.append(f"{named(lost)} {'has' if len(lost) == 1 else 'have'} a folder and no row{also}")
    for name in people:
        group = rows.get(name, {}).get("group", "n/a")
        if understood("group", group) is None:
            problems.append(f"group of {name} is {group[:40]!r}, which is none of {', '.join(words_of('group'))}")
    raise_all(problems, f"participants.tsv of {cohort.name}")


def bystanders(cohort: Cohort) -> dict[str, str]:
    """Who stands in a cohort's table or folders and cannot take part, with the reason."""
    table = participants_by_folder(cohort.root) if (cohort.root / "participants.tsv").is_file() else {}
    absent = {name: "no folder" for name in table if not (cohort.root / name).is_dir()}
    return absent | {case.key: "no group in participants.tsv" for case in cohort if case.group == "n/a"}


def one_session(cohort: Cohort, session: str | None) -> tuple[Cohort, dict[str, str]]:
    """One session of each participant, and whom that leaves out; see `shiftkit.words.chosen_session`."""
    people: dict[str, list[str | None]] = {}
    for case in cohort:
        people.setdefault(case.participant_id, []).append(case.session)
    chosen = chosen_session(people, session)
    gone = {name: f"no session {session}" for name in people if name not in chosen}
    return cohort.where(lambda case: chosen.get(case.participant_id, "") == case.session), gone


def controls_once(controls: Cohort, session: str | None) -> Cohort:
    """Controls that were scanned once stay, whatever the patients' session is called."""
    once = len({case.participant_id for case in controls}) == len(controls)
    return controls if once else one_session(controls, session)[0]


def said_of_input(model: "Model", *cohorts: Cohort, work: Work = Work()) -> "tuple[Nearness, ...]":
    """How far images of cohorts lie from those of the model's training; what must be known of it is told at once.

    See `shiftkit.segmentation.samples.domain.nearness`.
    """
    from ..segmentation.samples.domain import nearness

    near = tuple(nearness(model.name, model.image_statistics, model.modality, one, work) for one in cohorts)
    for sentence in warnings_of(model, cohorts[0], *near):
        warn(sentence, ShiftkitWarning, stacklevel=3)
    return near


def warnings_of(model: "Model | Tool", cohort: Cohort, *near: "Nearness") -> tuple[str, ...]:
    """Sentences without which no number of a run must be read."""
    told: list[str] = []
    if not isinstance(model, Tool) and not is_phantom(cohort) and is_of_phantom(model.digest):
        told.append(
            f"Model {model.name} was trained on shiftkit's digital phantom and {cohort.name} is no phantom: what it "
            "segments there says nothing about a network for real images. Name a model that was trained on such images."
        )
    return (*told, *(str(one) for one in near if one.outside))


def notes_of(*near: "Nearness") -> tuple[str, ...]:
    """What a page says besides: that images lie in the range of the training's, or that this is not known."""
    return tuple(str(one) for one in near if not one.outside)


def _by_sight(model: "Model | Tool", cohort: Cohort) -> tuple[Cohort, tuple[str, ...]]:
    """Whom the model has not seen, and the keys of those it has: it segments these better than anybody new."""
    seen = tuple(case.key for case in cohort if model.has_seen(case))
    return cohort.where(lambda case: case.key not in seen), seen


def require_common_bundles(model: ModelNames, cohort: Cohort) -> None:
    """Refuse, with a `ModelMismatchError`, a cohort without a reference mask of anything that the model predicts."""
    if not set(model.bundles) & set(cohort.bundles):
        raise ModelMismatchError(
            f"Model and cohort must have bundles in common; model {model.name} predicts "
            f"{' '.join(bundle.label for bundle in model.bundles)}, cohort {cohort.name} has reference masks of "
            f"{' '.join(bundle.label for bundle in cohort.bundles) or 'no bundle'}. Name a model for these bundles."
        )
