"""How real the phantom's people are, what a case costs, and what its two shifts do to a network.

    python benchmarks/phantom.py --work FOLDER --out benchmarks/phantom.md

Bundle volumes, overlap between participants, agreement with a population average (where ``../shared/data`` or
``SHIFTKIT_DATA`` has it), processor time and memory of one case, and, on a factorial cohort, Dice of a model on
patients without shift, with each shift alone and with both. Cohorts and predictions stay in the work folder and are
not made again.
"""

import argparse
import itertools
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import spatial

from shiftkit.images import read_image
from shiftkit.names import find_model
from shiftkit.phantoms import fibers, phantom, render
from shiftkit.phantoms import template as anatomy
from shiftkit.phantoms.acquisition import load_profile
from shiftkit.phantoms.people import draw_person, generator
from shiftkit.types import Bundle

# Measured in a process of its own, after a first small case has compiled and loaded what every case shares.
ONE_CASE = """
import resource, sys, time
import numpy as np
from shiftkit.phantoms.acquisition import load_profile
from shiftkit.phantoms.people import draw_person
from shiftkit.phantoms.render import render
profile, patient, seed = load_profile(sys.argv[1]), sys.argv[2] == "glioma", int(sys.argv[3])
render(draw_person(seed, "sub-x001", patient), profile, np.random.default_rng(0), 4.0)
times = []
for i in range(2, 7):
    start = time.process_time()
    render(draw_person(seed, f"sub-x{i:03d}", patient), profile, np.random.default_rng(0), 2.0)
    times.append(time.process_time() - start)
print(min(times), np.median(times), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for cohorts and predictions")
    parser.add_argument("--out", type=Path, help="file for the tables")
    parser.add_argument("--people", type=int, default=12, help="controls whose bundles are compared")
    parser.add_argument("--participants", type=int, default=12, help="patients, and controls, that a model segments")
    parser.add_argument("--seed", type=int, default=1, help="other than that of the built-in cohorts")
    parser.add_argument("--model", default="reference", help="path or name")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    lines = [
        "# The digital phantom",
        "",
        f"`python benchmarks/phantom.py --work FOLDER --people {options.people} --participants {options.participants} "
        f"--seed {options.seed} --model {options.model}`, {platform.machine()}, one thread.",
        "",
        *bundles(options.people, options.seed),
        "",
        *cost(options.seed),
        "",
        *shifts(options),
    ]
    text = "\n".join(lines) + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    print(text)


def bundles(people: int, seed: int) -> list[str]:
    source = load_profile("source")
    masks: dict[Bundle, list[np.ndarray]] = {}
    for i in range(1, people + 1):
        key = f"sub-h{i:03d}"
        made = render.render(draw_person(seed, key, False), source, generator(seed, key, "scan source"), 2.5)
        for bundle, mask in made.masks.items():
            masks.setdefault(bundle, []).append(mask.array)
    rows = [
        f"Bundles of {people} controls at 2.5 mm; agreement of the template's bundles with a population average at "
        "1 mm: share of voxels within 5 mm of the other.",
        "",
        "| bundle | volume, ml: median (range) | Dice between participants: median | phantom near population "
        "| population near phantom |",
        "|---|---|---|---|---|",
    ]
    for bundle, courses in anatomy.bundle_courses().items():
        volumes = [mask.sum() * 2.5**3 / 1000 for mask in masks[bundle]]
        pairs = [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in itertools.combinations(masks[bundle], 2)]
        near = agreement(bundle, courses, seed)
        rows.append(
            f"| {bundle.label} | {np.median(volumes):.1f} ({min(volumes):.1f}–{max(volumes):.1f}) "
            f"| {np.median(pairs):.2f} | {near[0]} | {near[1]} |"
        )
    return rows


def agreement(bundle: Bundle, courses: tuple[anatomy.Course, ...], seed: int) -> tuple[str, str]:
    folder = Path(os.environ.get("SHIFTKIT_DATA", Path(__file__).parents[2] / "shared" / "data")) / "hcp1065"
    if not folder.is_dir():
        return "not at hand", "not at hand"
    affine, shape = render.grid(1.0)
    streamlines = anatomy.grow_bundle(courses, 600, np.random.default_rng(seed))
    population = fibers.rasterize(streamlines, np.ones(streamlines.shape[:2], dtype=bool), affine, shape)
    own = np.argwhere(population.mask(render._THRESHOLD, shape)) + affine[:3, 3]
    real = read_image(folder / f"{bundle.name}_{bundle.hemisphere}.nii.gz")
    theirs = np.argwhere(real.array > 0) @ real.affine[:3, :3].T + real.affine[:3, 3]
    shares = [
        (spatial.cKDTree(other).query(one, distance_upper_bound=5.01)[0] <= 5).mean()
        for one, other in ((own, theirs), (theirs, own))
    ]
    return f"{shares[0]:.2f}", f"{shares[1]:.2f}"


def cost(seed: int) -> list[str]:
    rows = [
        "One case at 2 mm, drawn and rendered: processor time (user and system) of five cases, peak memory of the "
        "process.",
        "",
        "| case | s: best | s: median | GiB |",
        "|---|---|---|---|",
    ]
    single = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")}
    for profile, kind in (("source", "control"), ("target", "glioma")):
        command = [sys.executable, "-c", ONE_CASE, profile, kind, str(seed)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, env=single).stdout
        best, median, memory = map(float, answer.split())
        rows.append(f"| {kind}, {profile} profile | {best:.2f} | {median:.2f} | {memory:.2f} |")
    return rows


def shifts(options: argparse.Namespace) -> list[str]:
    import torch

    from shiftkit.analyses.scoring.study import score
    from shiftkit.segmentation.network.checkpoints import load_model
    from shiftkit.segmentation.prediction.cohort import predict
    from shiftkit.work import Work

    torch.set_num_threads(options.jobs)
    made = phantom(
        options.work / "cohorts",
        n_healthy=options.participants,
        n_glioma=options.participants,
        factorial=True,
        seed=options.seed,
        work=Work(jobs=options.jobs),
    )
    model = load_model(find_model(options.model))
    dice: dict[str, pd.Series] = {}
    for name, cohort in made.items():
        predictions = predict(model, cohort, out=options.work / "predictions" / name, device="cpu", resume=True)
        frame = score(predictions, cohort, metrics=("dice",)).frame
        frame = frame[frame["status"].isin(["ok", "missed"])]
        dice[name] = frame.groupby(frame["bundle"] + frame["hemisphere"].replace("none", ""))["value"].mean()
    table = pd.DataFrame(dice)
    table.loc["mean"] = table.mean()
    table["systematic"] = table["glioma_clean"] - table["glioma_systematic"]
    table["tumor"] = table["glioma_systematic"] - table["glioma"]
    names = [*made, "systematic", "tumor"]
    rows = [
        f"Mean Dice of the model on {options.participants} controls and the same {options.participants} patients four "
        "times; systematic = clean − systematic only, tumor = systematic only − both.",
        "",
        f"| bundle | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
    ]
    return rows + [
        f"| {label} | {' | '.join(f'{row[name]:.3f}' for name in names)} |" for label, row in table.iterrows()
    ]


if __name__ == "__main__":
    main()
