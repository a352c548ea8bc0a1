"""Do the estimates find what rendering shows? A factorial check with a real network.

The same patients are rendered without shift, with the systematic shift alone, and with both shifts; controls are
rendered with a seed that the model's training never saw. What the network loses from one rendering to the next is the
truth:

- systematic = Dice without shift − Dice with the systematic shift alone,
- tumor = Dice with the systematic shift alone − Dice with both,

averaged within, then across patients. The estimators see only the patients with both shifts, and the controls.

    python benchmarks/end_to_end.py --work FOLDER --seeds 1 2 3 --jobs 2 --out benchmarks/end_to_end.md

With ``--finetune N`` the decoder is fine-tuned to N of the patients, and what it repairs of either part is measured.

Everything that is done is kept in the work folder and not done again: renderings a participant, predictions a case,
score tables a seed. Images are deleted once they are segmented; masks stay.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from shiftkit import cohorts
from shiftkit.analyses.scoring.study import score
from shiftkit.analyses.scoring.table import ScoreTable
from shiftkit.catalogue import DECOMPOSITION, SHELLS
from shiftkit.cohorts.folder import participants_frame
from shiftkit.files import write_text
from shiftkit.images import write_image
from shiftkit.names import find_model
from shiftkit.phantoms.acquisition import load_profile
from shiftkit.phantoms.people import Person, Replay, draw_person, generator
from shiftkit.phantoms.render import render
from shiftkit.tables import read_table, write_table
from shiftkit.types import Cohort, Predictions
from shiftkit.work import Work

TARGET = 0.02  # Dice
TARGET_N, TARGET_SEEDS = 60, (1, 2, 3)
CONDITIONS = {"healthy": ("source", False), "clean": ("source", False), "systematic": ("target", False)} | {
    "both": ("target", True)
}
COMPONENTS = ("systematic", "tumor", "total")
RANGES = {"systematic": (0.03, 0.10), "tumor": (0.03, 0.08)}  # Dice that studies report for well-trained networks
BINS_MM = ((0, 0), (0, 5), (5, 10), (10, 20), (20, 40), (40, 70), (70, 200))
CHUNK = 20  # participants rendered, segmented and freed of their images at a time


def main() -> None:
    options = _options()
    for seed in options.seeds:
        root = options.work / f"seed-{seed}"
        for start in range(1, options.participants + 1, CHUNK):
            numbers = range(start, min(start + CHUNK, options.participants + 1))
            _render(root, seed, numbers, options.spacing_mm, options.target, options.jobs)
            _segment(root, options.model, numbers, options.target, options.jobs)
        _measure(root, options.participants, options.target, options.jobs, seed)
        if options.finetune:
            _finetune(root, seed, options)
        if options.out:  # a seed at a time: what is finished is told
            _publish(options.work, options.out, options.spacing_mm)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is kept between calls")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(TARGET_SEEDS))
    parser.add_argument("--participants", type=int, default=TARGET_N, help="controls, and patients")
    parser.add_argument("--spacing-mm", type=float, default=2.5)
    parser.add_argument("--target", default="moderate", help="the patients' profile: name or TOML file")
    parser.add_argument("--model", default="reference", help="path or name")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--finetune", type=int, default=0, help="patients to fine-tune the decoder to, in folds")
    parser.add_argument("--out", type=Path, help="file for the table of all seeds in the work folder")
    return parser.parse_args()


def _ids(condition: str, numbers: Sequence[int]) -> list[str]:
    return [f"sub-{'h' if condition == 'healthy' else 'g'}{number:03d}" for number in numbers]


def _folder(root: Path, condition: str, target: str) -> Path:
    """Of a rendering; controls and patients without shift are the same for every profile of patients."""
    return root / (condition if CONDITIONS[condition][0] == "source" else f"{condition}-{Path(target).stem}")


def _render(root: Path, seed: int, numbers: Sequence[int], spacing_mm: float, target: str, jobs: int) -> None:
    tasks = [("healthy",), ("clean", "systematic", "both")]
    work = (
        delayed(_render_participant)(root, seed, key, conditions, spacing_mm, target)
        for conditions in tasks
        for key in _ids(conditions[0], numbers)
    )
    done = sum(Parallel(n_jobs=jobs)(work))
    if done:
        print(f"seed {seed}: rendered {done} images of participants {numbers[0]}–{numbers[-1]}", flush=True)


def _render_participant(
    root: Path, seed: int, key: str, conditions: Sequence[str], spacing_mm: float, target: str
) -> int:
    places = {name: _folder(root, name, target) for name in conditions}
    missing = [name for name, place in places.items() if not _record(place, key).is_file()]
    patients = load_profile(target)
    person = draw_person(seed, key, key.startswith("sub-g"), patients.gliomas) if missing else None
    tapes: dict[str, Replay] = {}
    for name in missing:
        assert person is not None
        (scanner, with_tumor), place = CONDITIONS[name], places[name]
        noise = tapes.setdefault(scanner, Replay(generator(seed, key, f"scan {scanner}"))).rewound()
        profile = patients if scanner == "target" else load_profile(scanner)
        made = render(person, profile, noise, spacing_mm, with_tumor)
        write_image(made.images["peaks"], _peaks(place, key))
        sidecar = {"OrientationEncoding": {"EncodingAxis": 3, "Reference": "xyz", "Type": "3vector"}}
        write_text(_peaks(place, key).with_suffix("").with_suffix(".json"), json.dumps(sidecar) + "\n")
        for bundle, mask in made.masks.items():
            write_image(mask, cohorts.mask_path(place, key, bundle))
        if made.tumor is not None:
            write_image(made.tumor, cohorts.tumor_path(place, key))
        write_text(_record(place, key), json.dumps(_attributes(person, scanner)) + "\n")  # last: all is there
    return len(missing)


def _peaks(root: Path, key: str) -> Path:
    return cohorts.image_path(root, key, "peaks")


def _record(root: Path, key: str) -> Path:
    return root / key / "participant.json"


def _attributes(person: Person, scanner: str) -> dict[str, object]:
    tumor = person.tumor
    return {
        "participant_id": person.participant_id,
        "group": "control" if tumor is None else "glioma",
        "age": person.age,
        "sex": person.sex,
        "scanner": scanner,
        "tumor_side": "n/a" if tumor is None else tumor.side,
    }


def _cohort(place: Path, keys: Sequence[str]) -> Cohort:
    rows = [json.loads(_record(place, key).read_text()) for key in keys]
    cohorts.write_participants(place, pd.DataFrame(rows))
    return cohorts.load_cohort(place, name=place.name).where(lambda case: case.participant_id in keys)


def _segment(root: Path, model: str, numbers: Sequence[int], target: str, jobs: int) -> None:
    """Segment what has an image, and delete the image."""
    places = {_folder(root, name, target): _ids(name, numbers) for name in CONDITIONS}
    todo = {place: [key for key in keys if _peaks(place, key).is_file()] for place, keys in places.items()}
    Parallel(n_jobs=jobs)(delayed(_segment_cohort)(place, keys, model) for place, keys in todo.items() if keys)
    done = [_peaks(place, key) for place, keys in todo.items() for key in keys]
    for path in done:
        path.unlink()
    if done:
        print(f"{root.name}: segmented {len(done)} images of participants {numbers[0]}–{numbers[-1]}", flush=True)


def _segment_cohort(place: Path, keys: Sequence[str], model: str) -> None:
    import torch

    from shiftkit.segmentation.network.checkpoints import load_model
    from shiftkit.segmentation.prediction.cohort import predict

    torch.set_num_threads(1)
    out = _predictions(place)
    made = predict(
        load_model(find_model(model)), _cohort(place, keys), out=out, probabilities=False, device="cpu", resume=True
    )
    if made.failed:
        raise SystemExit(f"{place.name}: {dict(made.failed)}")


def _predictions(place: Path) -> Path:
    return place.parent / "predictions" / place.name


def _read_predictions(place: Path, cohort: Cohort) -> Predictions:
    """Those of all chunks: each was written as if it were all."""
    from shiftkit.segmentation.prediction.cohort import read_predictions

    cohorts.write_participants(_predictions(place), participants_frame(cohort))
    return read_predictions(_predictions(place))


def _measure(root: Path, participants: int, target: str, jobs: int, seed: int) -> None:
    """Score every rendering, and decompose what the estimators may see."""
    from shiftkit.analyses.decomposition.reading import read_once
    from shiftkit.analyses.decomposition.shells.study import shells
    from shiftkit.analyses.decomposition.study import decompose
    from shiftkit.analyses.statistics.inference import Inference

    made: dict[str, tuple[Cohort, Predictions]] = {}
    for name in CONDITIONS:
        place = _folder(root, name, target)
        cohort = _cohort(place, _ids(name, range(1, participants + 1)))
        made[name] = cohort, _read_predictions(place, cohort)
    tables = root / f"{Path(target).stem}-n-{participants}"
    for name, (cohort, predictions) in made.items():
        if not (tables / f"scores-{name}.tsv").is_file():
            score(predictions, cohort, metrics=("dice",), work=Work(jobs=jobs)).save(tables / f"scores-{name}.tsv")
    if not (tables / "shells.tsv").is_file():
        (patients, patient_masks), (controls, control_masks) = made["both"], made["healthy"]
        masks = {"patients": [patient_masks], "controls": [control_masks]}
        counts = read_once(masks, {"patients": patients, "controls": controls}, work=Work(jobs=jobs)).counts
        assert counts is not None
        names = patient_masks.model, patient_masks.modality
        found = shells(*counts, names, inference=Inference(seed=seed))
        write_table(found.components, DECOMPOSITION, tables / "shell-components.tsv")
        write_table(found.to_frame(), SHELLS, tables / "shells.tsv")
    inference = Inference(seed=seed)
    healthy = _scores(tables, "healthy")
    result = decompose(_scores(tables, "both"), reference=healthy, sensitivity=False, inference=inference)
    estimated = pd.concat([result.to_frame(), read_table(tables / "shell-components.tsv", DECOMPOSITION)])
    write_table(estimated, DECOMPOSITION, tables / "estimates.tsv")
    table = _compare(tables, seed, participants)
    table.to_csv(tables / "comparison.tsv", sep="\t", index=False)
    print(table.to_string(index=False), flush=True)


def _finetune(root: Path, seed: int, options: argparse.Namespace) -> None:
    """Fine-tune the decoder in folds to patients with both shifts; look at them with either, before and after.

    Each is seen by the fold that never saw them, with the systematic shift alone too: what that rendering gains is
    repaired of the systematic part, what the gap between the two loses is repaired of the tumor's.
    """
    from shiftkit.segmentation.network.checkpoints import load_model
    from shiftkit.segmentation.prediction.cohort import predict
    from shiftkit.segmentation.training.folds import fold_members
    from shiftkit.segmentation.transfer.finetuning import Transfer, finetune

    n, target, jobs = options.finetune, options.target, options.jobs
    found = root / f"finetuned-{Path(target).stem}-n-{n}.tsv"
    if found.is_file():
        return
    place = root / f"finetuning-n-{n}"
    keys = _ids("both", range(1, n + 1))
    conditions = ("systematic", "both")
    Parallel(n_jobs=jobs)(
        delayed(_render_participant)(place, seed, key, conditions, options.spacing_mm, target) for key in keys
    )
    seen = {name: _cohort(_folder(place, name, target), keys) for name in conditions}
    transfer = Transfer(device="cpu", seed=seed)
    source, out = load_model(find_model(options.model)), place / f"decoder-{Path(target).stem}"
    tuned = finetune(source, seen["both"], out=out, transfer=transfer, resume=True, work=Work(jobs=jobs))
    parts = [("both", "after", tuned, seen["both"])]
    for number, members in enumerate(fold_members(seen["both"], transfer.folds, transfer.seed), start=1):
        fold = load_model(out / f"fold-{number}")
        own = seen["systematic"].where(lambda case, members=members: case.participant_id in members)
        made = predict(fold, own, out=out / f"systematic-{number}", probabilities=False, device="cpu", resume=True)
        parts.append(("systematic", "after", made, own))
    for name, cohort in seen.items():
        before = out / f"before-{name}"
        made = predict(source, cohort, out=before, probabilities=False, device="cpu", resume=True)
        parts.append((name, "before", made, cohort))
    rows = [
        ScoreTable(frame=score(made, cohort, metrics=("dice",), work=Work(jobs=jobs)).frame)
        .to_frame()
        .assign(rendering=name, time=time)
        for name, time, made, cohort in parts
    ]
    pd.concat(rows).to_csv(found, sep="\t", index=False)


def _scores(tables: Path, condition: str) -> ScoreTable:
    frame = ScoreTable.load(tables / f"scores-{condition}.tsv").to_frame()
    return ScoreTable(frame=frame.assign(seen="no"))


def _truth(tables: Path) -> dict[str, dict[str, float]]:
    """What rendering shows, by method, over bundles whose reference is there in all three renderings of a patient.

    The hemispheric estimator speaks of pairs of bundles beside lateral tumors only: its systematic part of the
    contralesional ones, its tumor part of the ipsilesional ones. It is held against the truth there.
    """
    rows = ["participant_id", "bundle", "hemisphere"]
    scores = {name: _scores(tables, name).metric("dice").set_index(rows) for name in CONDITIONS}
    dice = pd.DataFrame({name: scores[name]["value"] for name in ("clean", "systematic", "both")}).dropna()
    everywhere = _drops(dice)
    side = scores["both"]["side"].reindex(dice.index)
    paired = dice.assign(side=side).groupby(["participant_id", "bundle"])["side"].transform("nunique") == 2
    contra, ipsi = (_drops(dice[paired & (side == name)]) for name in ("contra", "ipsi"))
    lateral = {"systematic": contra["systematic"], "tumor": ipsi["tumor"]}
    return {
        "everywhere": everywhere,
        "hemispheric": lateral | {"total": sum(lateral.values())},
        "means": {name: _mean(scores[name]["value"].dropna()) for name in CONDITIONS},
        "errors": _errors(scores, dice),
    }


def _drops(dice: pd.DataFrame) -> dict[str, float]:
    clean, systematic, both = (_mean(dice[name]) for name in ("clean", "systematic", "both"))
    return {"systematic": clean - systematic, "tumor": systematic - both, "total": clean - both}


def _errors(scores: dict[str, pd.DataFrame], dice: pd.DataFrame) -> dict[str, float]:
    """Standard errors over participants: of each true component, and of the sampling difference."""
    people = dice.groupby("participant_id").mean()
    groups = [scores[name]["value"].dropna().groupby("participant_id").mean() for name in ("healthy", "clean")]
    return {
        "systematic": float((people["clean"] - people["systematic"]).sem()),
        "tumor": float((people["systematic"] - people["both"]).sem()),
        "sampling": float(np.hypot(*(group.sem() for group in groups))),
    }


def _mean(dice: pd.Series) -> float:
    """Within, then across participants."""
    return float(dice.groupby("participant_id").mean().mean())


def _compare(tables: Path, seed: int, participants: int) -> pd.DataFrame:
    truth = _truth(tables)
    estimated = read_table(tables / "estimates.tsv", DECOMPOSITION)
    pooled = estimated[(estimated["bundle"] == "all") & (estimated["hemisphere"] == "all")]
    rows: list[dict[str, object]] = []
    for component in COMPONENTS:
        chosen = pooled[(pooled["component"] == component) & (pooled["metric"] == "dice")]
        for row in chosen.to_dict("records"):
            true = truth.get(row["method"], truth["everywhere"])[component]
            error = row["estimate"] - true
            rows.append(
                {
                    "seed": seed,
                    "n": participants,
                    "component": component,
                    "method": row["method"],
                    "truth": round(true, 4),
                    "estimate": round(row["estimate"], 4),
                    "low": round(row["low"], 4),
                    "high": round(row["high"], 4),
                    "error": round(error, 4),
                    "within": "n/a" if not np.isfinite(error) else "yes" if abs(error) <= TARGET else "no",
                    "status": row["status"],
                }
            )
    return pd.DataFrame(rows)


def _publish(work: Path, out: Path, spacing_mm: float) -> None:
    largest: dict[tuple[str, str], Path] = {}
    for path in work.glob("seed-*/*-n-*/scores-both.tsv"):  # written last of what the truth is made of
        target, n = path.parent.name.rsplit("-n-", 1)
        key = target, path.parent.parent.name
        if key not in largest or int(n) > _size(largest[key]):
            largest[key] = path.parent
    tables = [largest[key] for key in sorted(largest)]
    done = {
        seed: ("moderate", f"seed-{seed}") in largest and _size(largest["moderate", f"seed-{seed}"]) >= TARGET_N
        for seed in TARGET_SEEDS
    }
    lacking = [str(seed) for seed, there in done.items() if not there]
    lines = [
        "# End to end: what rendering shows, and estimates against it",
        "",
        f"`{' '.join(['python', *_portable(sys.argv)])}`",
        "",
        f"As many controls as patients (n each), {spacing_mm:g} mm, model `reference`, Dice over all bundles. Asked "
        f"for: {TARGET_N} of each with seed {', '.join(map(str, TARGET_SEEDS))} of the profile `moderate`. "
        + (f"Not done at that size: seed {', '.join(lacking)}." if lacking else "All done.")
        + " The tables hold all that calls left in FOLDER: other profiles by `--target`, sizes by `--participants`.",
        "",
        "## The truth",
        "",
        "The same patients rendered without shift, with the systematic shift alone, and with both. ± is the standard "
        "error over participants. Sampling difference: controls minus patients rendered without any shift; it is no "
        "shift, and an estimator that compares people with people books it as systematic. Ranges are what studies "
        f"report: {_range('systematic')} systematic, {_range('tumor')} tumor.",
        "",
        "| profile | seed | n | controls | patients without shift | systematic | both | true systematic | in range "
        "| true tumor | in range | sampling difference | within two SE of 0 |",
        "|---" * 13 + "|",
    ]
    for root in tables:
        truth = _truth(root)
        means, parts, errors = truth["means"], truth["everywhere"], truth["errors"]
        cells = [_profile(root), root.parent.name.removeprefix("seed-"), str(_size(root))]
        cells += [f"{value:.4f}" for value in means.values()]
        for name, (low, high) in RANGES.items():
            cells += [f"{parts[name]:.4f} ± {errors[name]:.4f}", "yes" if low <= parts[name] <= high else "no"]
        sampling = means["healthy"] - means["clean"]
        cells += [f"{sampling:.4f} ± {errors['sampling']:.4f}"]
        cells += ["yes" if abs(sampling) <= 2 * errors["sampling"] else "no"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *_patients(tables), "", *_by_distance(tables), "", *_finetuned(work), *_estimates(tables)]
    write_text(out, "\n".join(lines) + "\n")


def _size(tables: Path) -> int:
    return int(tables.name.rsplit("-n-", 1)[1])


def _profile(tables: Path) -> str:
    return tables.name.rsplit("-n-", 1)[0]


def _range(component: str) -> str:
    low, high = RANGES[component]
    return f"{low:.2f}–{high:.2f}"


def _dice(tables: Path) -> pd.DataFrame:
    """A row a patient and bundle that are there in all three renderings, with side and distance of the tumor."""
    rows = ["participant_id", "bundle", "hemisphere"]
    scores = {name: _scores(tables, name).metric("dice").set_index(rows) for name in ("clean", "systematic", "both")}
    dice = pd.DataFrame({name: table["value"] for name, table in scores.items()}).dropna()
    return dice.join(scores["both"][["side", "tumor_distance_mm"]])


def _patients(tables: Sequence[Path]) -> list[str]:
    lines = [
        "Patients differ: the tumor's part of the least affected one, quartiles, and the most affected one; and the "
        "mean over bundles of the tumor's side and of the other.",
        "",
        "| profile | seed | patients | least | lower quartile | median | upper quartile | most | ipsilesional "
        "| contralesional |",
        "|---" * 10 + "|",
    ]
    for root in tables:
        dice = _dice(root)
        tumor = dice["systematic"] - dice["both"]
        people = tumor.groupby("participant_id").mean()
        sides = [tumor[dice["side"] == side].mean() for side in ("ipsi", "contra")]
        shown = [*people.quantile([0, 0.25, 0.5, 0.75, 1]), *sides]
        named = [_profile(root), root.parent.name.removeprefix("seed-"), str(len(people))]
        lines.append(f"| {' | '.join([*named, *(f'{value:.3f}' for value in shown)])} |")
    return lines


def _by_distance(tables: Sequence[Path]) -> list[str]:
    profiles = sorted({_profile(root) for root in tables})
    found = {name: pd.concat([_dice(root) for root in tables if _profile(root) == name]) for name in profiles}
    lines = [
        "Dice that the tumor costs, by distance between its edge and the bundle: mean ± standard error over bundles "
        "(how many), all seeds together. No formula of a decay is in the phantom.",
        "",
        f"| mm | {' | '.join(profiles)} |",
        "|---" * (len(profiles) + 1) + "|",
    ]
    for low, high in BINS_MM:
        cells = ["0" if low == high else f"{low}–{high}"]
        for dice in found.values():
            near = dice["tumor_distance_mm"].between(low, high, inclusive="both" if low == high else "right")
            part = (dice["systematic"] - dice["both"])[near]
            cells.append(f"{part.mean():.3f} ± {part.sem():.3f} ({len(part)})" if len(part) > 1 else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _finetuned(work: Path) -> list[str]:
    """What fine-tuning repairs of either part, as rendering shows it."""
    found = sorted(work.glob("seed-*/finetuned-*.tsv"))
    if not found:
        return []
    lines = [
        "## Fine-tuning",
        "",
        "The decoder, in four folds, on n patients with both shifts; each is scored by the fold that never saw them, "
        "also with the systematic shift alone. Repaired of the systematic part: what that rendering gains; of the "
        "tumor's: what the gap to the rendering with both loses. Shares are of the true part of the same patients.",
        "",
        "| profile | seed | n | true systematic | repaired | share | true tumor | repaired | share |",
        "|---" * 9 + "|",
    ]
    for path in found:
        target, n = path.stem.removeprefix("finetuned-").rsplit("-n-", 1)
        seed = path.parent.name.removeprefix("seed-")
        scores = ScoreTable(frame=pd.read_csv(path, sep="\t", keep_default_na=False, na_values=["n/a", ""]))
        table = scores.metric("dice").dropna(subset="value")
        dice = table.pivot_table(
            index=["participant_id", "bundle", "hemisphere"], columns=["rendering", "time"], values="value"
        ).dropna()
        people = dice.groupby("participant_id").mean()
        clean = _clean(path.parent, people.index)
        systematic, both = people["systematic"], people["both"]
        parts = [
            (clean - systematic["before"], systematic["after"] - systematic["before"]),
            (
                systematic["before"] - both["before"],
                systematic["before"] - both["before"] - systematic["after"] + both["after"],
            ),
        ]
        cells = [target, seed, n]
        for true, repaired in parts:
            cells += [f"{one.mean():.4f} ± {one.sem():.4f}" for one in (true, repaired)]
            cells += [f"{100 * repaired.mean() / true.mean():.0f} %"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _clean(root: Path, people: pd.Index) -> pd.Series:
    """Dice of patients without shift, the mean of each."""
    path = min(root.glob("*-n-*/scores-clean.tsv"), key=lambda path: -_size(path.parent))
    scores = _scores(path.parent, "clean").metric("dice").dropna(subset="value")
    return scores.groupby("participant_id")["value"].mean().reindex(people)


def _estimates(tables: Sequence[Path]) -> list[str]:
    lines = [
        "## Estimates",
        "",
        f"Target: each component within {TARGET} of the truth. The estimators see controls and patients with both "
        "shifts only. The hemispheric estimator speaks of fewer bundles and is held against the truth there: "
        "contralesional for its systematic part, ipsilesional for its tumor part.",
        "",
        "| profile | seed | n | component | method | truth | estimate | 95 % interval | holds the truth | error "
        "| within 0.02 | status |",
        "|---" * 12 + "|",
    ]
    for root in [one for one in tables if (one / "comparison.tsv").is_file()]:
        for row in pd.read_csv(root / "comparison.tsv", sep="\t", keep_default_na=False).to_dict("records"):
            holds = "yes" if float(row["low"]) <= float(row["truth"]) <= float(row["high"]) else "no"
            cells = [_profile(root), *(row[name] for name in ("seed", "n", "component", "method", "truth", "estimate"))]
            cells += [f"{row['low']} to {row['high']}", holds, *(row[name] for name in ("error", "within", "status"))]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return [*lines, "", *_weakness(tables)]


def _weakness(tables: Sequence[Path]) -> list[str]:
    """Says so where the target asks for little."""
    shown = {root: _truth(root)["everywhere"] for root in tables}
    small = [
        f"{component} {truth[component]:.3f} (seed {root.parent.name.removeprefix('seed-')}, "
        f"n {_size(root)}, {_profile(root)})"
        for root, truth in shown.items()
        for component in ("systematic", "tumor")
        if abs(truth[component]) <= TARGET
    ]
    if not small:
        return []
    return [
        f"These true components are no larger than {TARGET} themselves, so an estimate of 0 would meet the target too: "
        f"{', '.join(small)}. There the error beside the truth, and whether the interval holds it, say more."
    ]


def _portable(arguments: Sequence[str]) -> list[str]:
    """The command without the folder it was run in."""
    words = ["benchmarks/end_to_end.py", *arguments[1:]]
    return ["FOLDER" if before == "--work" else word for before, word in zip(["", *words], words, strict=False)]


if __name__ == "__main__":
    main()
