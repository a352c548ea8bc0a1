"""A study file: what the published design is asked of, checked whole before anything is looked up or computed."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from ..errors import ConfigError, raise_all
from ..files import read_toml
from ..options import Option, options_of, settings_of
from ..words import nearest, understood, words_of

Verbs = Mapping[str, Callable[..., Any]]
PLAIN, IMPLANTS = "plain", "implants"
SCRATCH = "scratch"
_NO_TRANSFER = ("none", SCRATCH)
_OWN = ("seed", "device", "jobs")
DECIDED: Mapping[str, tuple[str, ...]] = {
    "train": ("modality", "bundles", "folds", *_OWN),
    "finetune": ("strategy", "folds", "shots", "modality", "bundles", *_OWN),
    "decompose": ("metric", "bundles", "equivalence_margin", "anonymous", "by", *_OWN),
    "implant": ("volume_cm3", "n_implants", *_OWN),
}
"""Verbs whose further options a study file may give, each in a table; and those that the study itself decides."""
UNFOLLOWED: Mapping[str, str] = {
    "level": "the study's own intervals have 95 %",
    "covariates": "the answers do not adjust, and would be of other numbers than the decomposition",
    "session": "training and fine-tuning choose none, and scores would be of other images than theirs",
}
"""Options of a decomposition that the answers would not follow, each with the reason."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyFile:
    """What a study asks; the keys of a study file, whose tables are called after the verbs they are options of.

    Parameters
    ----------
    train, finetune, decompose, implant : mapping
        Further options of these verbs, by the names they have in Python.
    place : Path
        Folder of the file, from which relative paths are taken.
    """

    healthy: Annotated[str, Option("Cohort of controls: path or name.")]
    patients: Annotated[str, Option("Cohort of patients: path or name.")]
    modalities: Annotated[Sequence[str], Option("Inputs; each has a network of its own.")] = ("t1w", "ap", "peaks")
    bundles: Annotated[Sequence[str], Option("Only these; all by default.")] = ()
    strategies: Annotated[
        Sequence[str], Option("Transfer strategies; the findings are judged by the first. scratch uses patients only.")
    ] = ("decoder", SCRATCH)
    shots: Annotated[Sequence[int], Option("Numbers of patients of the first strategy's learning curve.", min=1)] = ()
    folds: Annotated[int, Option("Folds over patients.", min=2)] = 5
    training: Annotated[Sequence[str], Option("plain; implants adds controls with tumors to the training.")] = (PLAIN,)
    held_out: Annotated[
        float, Option("Share of the controls that no network sees, unless a column split says.", min=0.1, max=0.9)
    ] = 0.3
    metric: Annotated[str, Option("Overlap score that is compared.")] = "dice"
    margin: Annotated[float, Option("A difference smaller than this counts as none.", min=0.0001)] = 0.02
    seed: Annotated[int, Option("Seed of everything random.", min=0)] = 0
    checkpoints: Annotated[Mapping[str, str] | None, Option("Networks that are trained already, by modality.")] = None
    train: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    finetune: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    decompose: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    implant: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    place: Path = Path()

    @property
    def primary(self) -> str:
        """The strategy that the findings are judged by."""
        return self.strategies[0]

    @property
    def settings(self) -> dict[str, Any]:
        """The whole file with its defaults, as a run keeps it."""
        told = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name != "place"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}

    def named(self, name: str) -> str:
        """A cohort or model as it is looked up: below the file's folder, if it is there."""
        below = self.place / Path(name).expanduser()
        return str(below) if below.exists() else name


def read_study(config: str | Path | Mapping[str, Any], verbs: Verbs) -> StudyFile:
    """Read a study file, or take its content.

    Raises
    ------
    ConfigError
        Naming every unknown key, strategy or option, with the nearest, and every value of a wrong type or out of
        bounds.
    """
    if isinstance(config, Mapping):
        where, place, content = "The study", Path(), dict(config)
    else:
        where, place = str(config), Path(config).parent
        try:
            content = read_toml(Path(config), "study file")
        except ValueError as error:
            told = str(error).removesuffix(".")
            raise ConfigError(f"{config} must be a TOML file; it cannot be read: {told}.") from error
    raise_all(list(_problems(content, verbs)), where, ConfigError)
    keys: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
    if "metric" in keys:
        keys["metric"] = understood("metric", keys["metric"])  # such as DSC
    return StudyFile(**keys, place=place)


def _problems(content: Mapping[str, Any], verbs: Verbs) -> Iterator[str]:
    known = options_of(StudyFile)
    for key, value in content.items():
        if key in DECIDED:
            yield from _problems_of_verb(key, value, verbs)
        elif key not in known:
            yield _unknown(key, (*known, *DECIDED))
        elif problem := known[key].problem(value):
            yield f"{key} {problem}"
    for key in ("healthy", "patients"):
        if key not in content:
            yield f"{key} must name a cohort; it is missing"
    yield from _problems_of_lists({**{name: one.default for name, one in known.items()}, **content})


def _overlap_scores() -> tuple[str, ...]:
    from ..analyses.scoring.metrics import METRICS

    return tuple(name for name in words_of("metric") if METRICS[name].bounded and METRICS[name].better == "higher")


def _unknown(key: str, known: Sequence[str]) -> str:
    return f"{key} is not known" + (nearest(key, known) or f" (known: {', '.join(known)})")


def _problems_of_verb(verb: str, table: Any, verbs: Verbs) -> Iterator[str]:
    if not isinstance(table, Mapping):
        yield f"{verb} must be a table of options of shiftkit {verb}, [{verb}]"
        return
    known = settings_of(verbs[verb], options_of(verbs[verb]))
    not_free = (*DECIDED[verb], *(UNFOLLOWED if verb == "decompose" else ()))
    free = [name for name in known if name not in not_free]
    for name, value in table.items():
        if verb == "decompose" and name in UNFOLLOWED:
            yield f"[{verb}] {name} cannot be given in a study: {UNFOLLOWED[name]}; leave it out"
        elif verb == "decompose" and name == "equivalence_margin":
            yield f"[{verb}] {name} is decided by the study itself: what counts as none is the study's own margin"
        elif name in DECIDED[verb]:
            yield f"[{verb}] {name} is decided by the study itself; leave it out"
        elif name not in known:
            yield f"[{verb}] {_unknown(name, free)}"
        elif problem := known[name].problem(value):
            yield f"[{verb}] {name} {problem}"


def _problems_of_lists(told: Mapping[str, Any]) -> Iterator[str]:
    from ..segmentation.transfer.strategies import STRATEGIES

    for key, words in (("strategies", tuple(STRATEGIES)), ("training", (PLAIN, IMPLANTS)), ("modalities", ())):
        given = [one for one in told[key] if isinstance(one, str)] if isinstance(told[key], list | tuple) else []
        if not given:
            yield f"{key} must name at least one"
        if len(set(given)) < len(given):
            yield f"{key} names one twice: {', '.join(given)}"
        for one in given:
            if words and one not in words:
                yield f"{key} are {', '.join(words)}; got {one!r}{nearest(one, words)}"
        if key == "strategies" and given and given[0] in _NO_TRANSFER:
            yield f"strategies begin with the one that the findings are judged by, which cannot be {given[0]}"
        if key == "strategies" and "none" in given:
            yield "strategies do not name none: the source network as it is, is compared with in any case"
        if key == "modalities" and isinstance(told["checkpoints"], Mapping):
            for one in sorted(set(told["checkpoints"]) - set(given)):
                yield f"[checkpoints] {one} is none of the modalities{nearest(one, given)}"
    if isinstance(told["metric"], str) and understood("metric", told["metric"]) not in (taken := _overlap_scores()):
        yield (
            f"metric is one of {', '.join(taken)}; got {told['metric']!r}{nearest(told['metric'], taken)}. The margin "
            "and half of a part are asked on the metric's own scale, which has to end at 1"
        )
    if IMPLANTS in told["training"] and told["checkpoints"]:
        yield "training with implants needs networks that are trained here; leave out [checkpoints]"
