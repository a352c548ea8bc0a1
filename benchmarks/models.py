"""The models that are shipped, or are to be: how each is made, and how good it is on people whom none of them has seen.

    python benchmarks/models.py --work FOLDER --jobs 12 --train reference-robust --device cuda
    python benchmarks/models.py --work FOLDER --draw reference-t1w-fa
    python benchmarks/models.py --work FOLDER --real TRACTSEG --evaluate --out benchmarks/models.md

The first draws whom the model is trained on and leaves its checkpoint in ``FOLDER/models``, to be copied to
``shiftkit/models``. The second only draws, into ``FOLDER/people/reference-t1w-fa``, which can be taken to the machine
that trains: people of a built-in cohort are known again by the bits of their images. The third writes the table, and
into the card of each shipped model what the table says of it; ``TRACTSEG`` is the folder of a real subject as TractSeg
leaves it. What is done is kept in the work folder and not done again. With ``--toy`` all of it is rehearsed on a few
small images.
"""

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

import shiftkit as sk
from shiftkit.cohorts.folder import load_cohort, participants_frame, write_description, write_participants
from shiftkit.cohorts.layout import sidecar_path
from shiftkit.files import read_text, write_json, write_text
from shiftkit.importers import import_cohort
from shiftkit.names import BUILT_IN_MODELS, find_cohort
from shiftkit.phantoms import phantom
from shiftkit.phantoms.acquisition import PROFILES, load_profile
from shiftkit.segmentation.network.checkpoints import Model, is_whole
from shiftkit.segmentation.training.recipes import Recipe
from shiftkit.segmentation.training.source import train
from shiftkit.types import Case, Cohort
from shiftkit.work import Work

Scores = dict[str, dict[str, float]]
"""Dice of each bundle, by participant and bundle; without bundles that a participant does not have."""

# Seeds of nobody else: those of built-in cohorts, demonstration, study and tests are below 100 or 12345.
_TRAINED, _EVALUATED = 2600, 2700


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """How much is drawn, and how fine."""

    spacing_mm: float
    controls: int
    """Of the built-in healthy cohort."""
    trained: int
    """In each scanner of a mixed cohort, of whom every tenth chooses the epoch."""
    evaluated: int
    patients: int
    epochs: int | None
    """For every model; each has its own otherwise."""


FULL = Size(spacing_mm=2.5, controls=60, trained=40, evaluated=20, patients=24, epochs=None)
TOY = Size(spacing_mm=5.0, controls=8, trained=2, evaluated=2, patients=2, epochs=2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """How a shipped model is made; whatever is not said is as by default in `shiftkit.train`."""

    people: Callable[[Path, Size, Work], Cohort]
    whom: str
    modality: str
    augmentation: str = "light"
    epochs: int | None = None


def main() -> None:
    options = _options()
    size, work = (TOY if options.toy else FULL), Work(jobs=options.jobs)
    options.work.mkdir(parents=True, exist_ok=True)
    for name in options.draw:
        print(_trained_on(name, options.work, size, work))
    for name in options.train:
        _train(name, options.work, size, work, options.device)
    if options.evaluate:
        records = _evaluate_all(options, size, work)
        sections = {name: _section(name, records[name]) for name in MODELS if name in records}
        text = _page(records, sections, size)
        print(text)
        if options.out:
            write_text(options.out, text)
        _write_cards(options.work, sections, packaged=not options.toy)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is kept between calls")
    parser.add_argument("--draw", nargs="+", default=[], choices=list(MODELS), metavar="NAME", help="draw only")
    parser.add_argument("--train", nargs="+", default=[], choices=list(MODELS), metavar="NAME", help=" ".join(MODELS))
    parser.add_argument("--evaluate", action="store_true", help="the table of all shipped models, and their cards")
    parser.add_argument("--real", type=Path, help="folder of a real subject, in TractSeg's layout")
    parser.add_argument("--out", type=Path, help="the table; benchmarks/models.md is the committed one")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--jobs", type=int, default=0, help="processes that draw; all cores by default")
    parser.add_argument("--toy", action="store_true", help="a few small images and two epochs")
    return parser.parse_args()


# --- who is trained on -------------------------------------------------------------------------------------------


def _controls(work: Path, size: Size, how: Work) -> Cohort:
    """The built-in healthy cohort; with fewer participants for a rehearsal."""
    if size == FULL:
        return find_cohort("healthy", work=how)
    toy = phantom(
        work / "people" / "controls", n_healthy=size.controls, n_glioma=0, spacing_mm=size.spacing_mm, work=how
    )
    return toy["healthy"]


def _scanned(
    work: Path, profile: str | Path, seed: int, size: Size, how: Work, *, healthy: int = 0, patients: int = 0
) -> Cohort:
    """A cohort of one scanner's: healthy people of patients' age, or patients."""
    made = phantom(
        work / "people" / str(seed),
        n_healthy=0,
        n_glioma=patients,
        n_target_controls=healthy,
        spacing_mm=size.spacing_mm,
        seed=seed,
        target=profile,
        work=how,
    )
    (cohort,) = made.values()
    return cohort


def _mixed(work: Path, size: Size, how: Work) -> Cohort:
    """Healthy people in every scanner that comes with shiftkit; each scanner has people of its own."""
    cases: list[Case] = []
    for number, profile in enumerate(PROFILES):
        cohort = _scanned(work, profile, _TRAINED + number, size, how, healthy=size.trained)
        n_train = size.trained - max(1, size.trained // 10)
        for place, case in enumerate(cohort):
            split = "train" if place < n_train else "val"
            # The same numbers are other people in each scanner, so that their names must tell which.
            named = case.participant_id.replace("sub-t", f"sub-{profile}")
            attributes = {**case.attributes, "split": split, "scanner": profile}
            cases.append(dataclasses.replace(case, participant_id=named, attributes=attributes))
    return Cohort(name=" ".join(PROFILES), root=work / "people", cases=tuple(sorted(cases, key=lambda one: one.key)))


_CONTROLS = "the built-in cohort `healthy`, scanner `source`"
MODELS: Mapping[str, Made] = {
    "reference": Made(people=_controls, whom=_CONTROLS, modality="peaks", epochs=30),
    "reference-robust": Made(
        people=_mixed,
        whom=f"healthy people of their own in the scanners {', '.join(f'`{name}`' for name in PROFILES)}",
        modality="peaks",
        augmentation="acquisition",
    ),
    "reference-t1w-fa": Made(people=_controls, whom=_CONTROLS, modality="t1w+fa"),
}


# --- training ----------------------------------------------------------------------------------------------------


def _trained_on(name: str, work: Path, size: Size, how: Work) -> Cohort:
    """Whom a model is trained on; of a built-in cohort's people a copy of what the model needs of them."""
    made, folder = MODELS[name], work / "people" / name
    if made.people is not _controls:
        return made.people(work, size, how)
    if not (folder / "participants.tsv").is_file():
        cohort = made.people(work, size, how).where(split=("train", "val"))
        if size == FULL and name != "reference":
            _require_known(cohort, work)
        for case in cohort:
            needed = [case.images[part] for part in made.modality.split("+")]
            for path in (*needed, *map(sidecar_path, needed), *case.masks.values()):
                if path.is_file():
                    copy = folder / path.relative_to(cohort.root)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, copy)
        write_description(folder, "healthy")
        write_participants(folder, participants_frame(cohort))  # last: they are whole
    return load_cohort(folder, name="healthy")


def _train(name: str, work: Path, size: Size, how: Work, device: str) -> None:
    made, start = MODELS[name], time.monotonic()
    cohort = _trained_on(name, work, size, how)
    learned, tuned = (len(cohort.where(split=split)) for split in ("train", "val"))
    print(f"{name}: {learned} + {tuned} participants of {cohort.name} drawn in {_since(start)}.", flush=True)
    recipe = Recipe(
        modality=made.modality,
        augmentation=made.augmentation,
        epochs=size.epochs or made.epochs,
        device=device,
        spacing_mm=max(Recipe.spacing_mm, size.spacing_mm),
    )
    model = train(cohort, out=work / "models" / name, recipe=recipe, resume=True, work=Work(progress=_say))
    assert isinstance(model, Model), "one fold is one model"
    print(f"{model}\n{work / 'models' / name}, validation Dice {model.training['validation_dice']}; {_since(start)}.")


def _require_known(cohort: Cohort, work: Path) -> None:
    """Refuse a built-in cohort of other bits than elsewhere: nobody would know whom the model has seen."""
    reference = sk.load_model(_place("reference", work) or BUILT_IN_MODELS["reference"])
    there = sum(reference.has_seen(case) for case in cohort)
    if there != len(reference.participants):
        sys.exit(
            f"Whom a model has seen is known by the bits of images; of {len(reference.participants)} people of the "
            f"built-in cohort whom `reference` has seen {there} are known again here. Other versions of NumPy "
            "and other processors draw other bits: --draw where they are known, and take the folder here."
        )


def _say(done: int, total: int, text: str) -> None:
    """A tenth of the steps a line."""
    if done * 10 // total > (done - 1) * 10 // total:
        print(f"  {done}/{total} {text}", flush=True)


def _since(start: float) -> str:
    return f"{time.monotonic() - start:.0f} s"


# --- evaluation --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class People:
    """Some whom no model was trained on."""

    title: str
    draw: Callable[[argparse.Namespace, Size, Work], Cohort]


def _unseen(options: argparse.Namespace, size: Size, how: Work) -> Cohort:
    return _controls(options.work, size, how).where(split="test")


def _healthy(profile: str, seed: int) -> Callable[[argparse.Namespace, Size, Work], Cohort]:
    def draw(options: argparse.Namespace, size: Size, how: Work) -> Cohort:
        scanner = _beyond(options.work) if profile == "beyond" else profile
        return _scanned(options.work, scanner, seed, size, how, healthy=size.evaluated)

    return draw


def _patients(profile: str, seed: int) -> Callable[[argparse.Namespace, Size, Work], Cohort]:
    def draw(options: argparse.Namespace, size: Size, how: Work) -> Cohort:
        return _scanned(options.work, profile, seed, size, how, patients=size.patients)

    return draw


def _real(options: argparse.Namespace, size: Size, how: Work) -> Cohort:
    folder = options.work / "people" / "real"
    return find_cohort(folder) if folder.is_dir() else import_cohort("tractseg", options.real, folder, work=how)


PEOPLE: Mapping[str, People] = {
    "controls": People(title="healthy, scanner `source`", draw=_unseen),
    "severe": People(title="healthy, scanner `severe`", draw=_healthy("severe", _EVALUATED)),
    "beyond": People(title="healthy, beyond `severe`", draw=_healthy("beyond", _EVALUATED + 1)),
    "patients-moderate": People(title="patients, `moderate`", draw=_patients("moderate", _EVALUATED + 2)),
    "patients-severe": People(title="patients, `severe`", draw=_patients("severe", _EVALUATED + 3)),
    "real": People(title="one real subject", draw=_real),
}


def _beyond(work: Path) -> Path:
    """A scanner that nobody was trained on: a quarter further from `source` than `severe`, with the same raters."""
    source, severe = (load_profile(name).to_dict() for name in ("source", "severe"))
    kept = {name: severe[name] for name in ("label_style", "aging", "gliomas")}
    further = {name: _further(source[name], severe[name]) for name in source if name not in kept}
    path = work / "beyond.toml"
    write_text(path, tomli_w.dumps(further | kept))
    return path


def _further(start: Any, end: Any) -> Any:
    if isinstance(end, list):
        return [_further(*pair) for pair in zip(start, end, strict=True)]
    return round(start + 1.25 * (end - start), 6)


def _place(name: str, work: Path) -> Path | None:
    """Where a model lies: in the work folder, if it was made there, or in the package."""
    places = (work / "models" / name, BUILT_IN_MODELS.get(name))
    return next((path for path in places if path is not None and is_whole(path)), None)


def _evaluate_all(options: argparse.Namespace, size: Size, how: Work) -> dict[str, dict[str, Scores]]:
    """Dice by model, people, participant and bundle; what is there for a model's weights is not computed again."""
    found: dict[str, dict[str, Scores]] = {}
    models = {name: sk.load_model(place) for name in MODELS if (place := _place(name, options.work)) is not None}
    for group, people in PEOPLE.items():
        cohort: Cohort | None = None
        for name, model in models.items():
            path = options.work / "evaluated" / f"{name}-{group}.json"
            record: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
            if record.get("digest") != model.digest:
                if group == "real" and options.real is None:
                    continue
                cohort = people.draw(options, size, how) if cohort is None else cohort
                record = {"digest": model.digest, "scores": _score(model, cohort, options.device)}
                write_json(path, record)
            found.setdefault(name, {})[group] = record["scores"]
    return found


def _score(model: Model, cohort: Cohort, device: str) -> Scores:
    """Dice of everything that somebody has; nothing of a cohort without what the model reads."""
    if not any(set(model.modality.split("+")) <= set(case.images) for case in cohort):
        return {}
    if seen := [case.key for case in cohort if model.has_seen(case)]:
        sys.exit(f"Nobody who is evaluated may have been trained on; {model.name} has seen {' '.join(seen)}.")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        made = sk.predict(model, cohort, out=Path(folder) / "p", probabilities=False, device=device)
        if made.failed:
            sys.exit(f"Everybody must be segmented; {made.failed}.")
        common = tuple(bundle.label for bundle in model.bundles if bundle in cohort.bundles)
        frame = sk.score(made, cohort, bundles=common, metrics=["dice"]).frame
    print(f"{model.name}: {len(cohort)} of {cohort.name}, {_since(start)}", flush=True)
    frame = frame[frame["value"].notna()]
    scores: Scores = {}
    for row in frame.itertuples():
        scores.setdefault(str(row.participant_id), {})[f"{row.bundle}{row.hemisphere}"] = round(float(row.value), 4)
    return scores


# --- the table ---------------------------------------------------------------------------------------------------


def _page(records: Mapping[str, Mapping[str, Scores]], sections: Mapping[str, str], size: Size) -> str:
    gains = {"reference", "reference-robust"} <= set(sections)
    lines = [
        "# Models that are shipped",
        "",
        f"`python benchmarks/models.py --work FOLDER --real TRACTSEG --evaluate{' --toy' if size == TOY else ''}`",
        "",
        *(["A rehearsal on small images, whose numbers say nothing.", ""] if size == TOY else []),
        "Dice, mean over bundles and people [95 % interval, people drawn again 10,000 times]. None of these people was "
        "in any training; the healthy ones of `source` are the split `test` of the built-in cohort. "
        + ("`reference-robust` has met all scanners but the one beyond `severe`, with other people. " if gains else "")
        + "Beyond `severe`: in everything but people and raters a quarter further from `source`. The "
        "real subject's masks are another tool's output.",
        "",
        f"| people | {' | '.join(f'`{name}`' for name in sections)} |{' robust less `reference` |' if gains else ''}",
        f"|---|{'---|' * (len(sections) + gains)}",
    ]
    for group, people in PEOPLE.items():
        every = [records[name].get(group) for name in sections]
        cells = ["missing" if scores is None else _told(_means(scores)) for scores in every]
        if gains:
            cells.append(_gain(*(records[name].get(group) for name in ("reference-robust", "reference"))))
        lines.append(f"| {people.title} | {' | '.join(cells)} |")
    for name, section in sections.items():
        lines += ["", f"## {name}", "", section]
    return "\n".join(lines) + "\n"


def _section(name: str, records: Mapping[str, Scores]) -> str:
    """What the page and the model's card say of one model."""
    groups = {group: scores for group, scores in records.items() if scores}
    bundles = sorted({label for scores in groups.values() for one in scores.values() for label in one})
    heads = [f"{PEOPLE[group].title} ({len(scores)})" for group, scores in groups.items()]
    lines = [
        f"Trained on {MODELS[name].whom}. Dice on others, mean over people [95 % interval]:",
        "",
        f"| bundle | {' | '.join(heads)} |",
        f"|---|{'---|' * len(heads)}",
        f"| all | {' | '.join(_told(_means(scores)) for scores in groups.values())} |",
    ]
    for bundle in bundles:
        cells = (_told(_of_bundle(scores, bundle)) for scores in groups.values())
        lines.append(f"| {bundle} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _said_of_real(records.get("real"), MODELS[name].modality)])


def _said_of_real(scores: Scores | None, modality: str) -> str:
    if scores is None:
        return "On real images it was not tried."
    if not scores:
        return (
            f"On real images it was not tried: the subject at hand does not have both {modality.replace('+', ' and ')}."
        )
    (one,) = scores.values()
    worst, best = (choose(one, key=lambda label: one[label]) for choose in (min, max))
    return (
        f"On the real subject, against masks that another tool made, Dice is {np.mean(list(one.values())):.2f}: from "
        f"{one[worst]:.2f} ({worst}) to {one[best]:.2f} ({best}). The model was made on drawn images: it is no network "
        "for real ones."
    )


def _means(scores: Scores) -> list[float]:
    return [float(np.mean(list(one.values()))) for one in scores.values()]


def _of_bundle(scores: Scores, label: str) -> list[float]:
    return [one[label] for one in scores.values() if label in one]


def _told(values: Sequence[float], sign: str = "") -> str:
    """The mean and, of several people, its interval."""
    if not values:
        return "n/a"
    mean = f"{np.mean(values):{sign}.3f}"
    if len(values) == 1:
        return mean
    drawn = np.random.default_rng(0).choice(np.asarray(values), (10_000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{mean} [{low:{sign}.3f}, {high:{sign}.3f}]"


def _gain(scores: Scores | None, before: Scores | None) -> str:
    """By how much each of the same people is better off."""
    if not scores or not before:
        return "n/a"
    return _told([after - one for after, one in zip(_means(scores), _means(before), strict=True)], "+")


_HEADING = "\n## Evaluation\n"


def _write_cards(work: Path, sections: Mapping[str, str], packaged: bool) -> None:
    """What is known of each model at the end of its card, wherever the model that was evaluated lies."""
    for name, section in sections.items():
        evaluated = _place(name, work)
        if evaluated is None:
            continue
        digest = sk.load_model(evaluated).digest
        for place in (
            work / "models" / name,
            *([BUILT_IN_MODELS[name]] if packaged and name in BUILT_IN_MODELS else []),
        ):
            if is_whole(place) and sk.load_model(place).digest == digest:
                card = place / "docs" / "README.md"
                told = read_text(card).split(_HEADING)[0].rstrip()
                write_text(card, f"{told}\n{_HEADING}\n{section}\n")


if __name__ == "__main__":
    main()
