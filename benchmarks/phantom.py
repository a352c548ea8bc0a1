"""How real the phantom's people are, what a cohort costs, and what its two shifts do to a network.

    python benchmarks/phantom.py --work FOLDER --out benchmarks/phantom.md --against CHECKOUT

Bundle volumes, overlap between participants, agreement with a population average (where ``../shared/data`` or
``SHIFTKIT_DATA`` has it); processor time of one case and, beside an older checkout, of a factorial cohort; and, for
each profile of patients, Dice of a model on a factorial cohort, by distance to the tumor too, with pictures of three
patients. Cohorts and predictions stay in the work folder and are not made again.
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
# Written by one process, after a small cohort has compiled and loaded what every cohort shares.
ONE_COHORT = """
import sys, tempfile, time
from pathlib import Path
from shiftkit.phantoms import phantom
from shiftkit.work import Work
with tempfile.TemporaryDirectory() as folder:
    phantom(Path(folder) / "small", n_healthy=1, n_glioma=1, spacing_mm=5, factorial=True, work=Work(jobs=1))
    start = time.process_time()
    n = int(sys.argv[1])
    phantom(Path(folder) / "cohort", n_healthy=n, n_glioma=n, spacing_mm=2, seed=1, factorial=True, work=Work(jobs=1))
    print(time.process_time() - start)
"""
PATIENTS = ("mild", "moderate", "severe")
BINS_MM = ((0, 0), (0, 5), (5, 10), (10, 20), (20, 40), (40, 70), (70, 200))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for cohorts and predictions")
    parser.add_argument("--out", type=Path, help="file for the tables")
    parser.add_argument("--people", type=int, default=12, help="controls whose bundles are compared")
    parser.add_argument("--participants", type=int, default=12, help="patients, and controls, that a model segments")
    parser.add_argument("--seed", type=int, default=1, help="other than that of the built-in cohorts")
    parser.add_argument("--model", default="reference", help="path or name")
    parser.add_argument("--against", type=Path, help="an older checkout, to time beside this one")
    parser.add_argument("--cohort", type=int, default=12, help="controls, and patients, of the cohort that is timed")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    against = " --against CHECKOUT" if options.against else ""
    lines = [
        "# The digital phantom",
        "",
        f"`python benchmarks/phantom.py --work FOLDER --people {options.people} --participants {options.participants} "
        f"--seed {options.seed} --model {options.model}{against} --out benchmarks/phantom.md`, {platform.machine()}, "
        "one thread.",
        "",
        *bundles(options.people, options.seed),
        "",
        *cost(options),
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


def cost(options: argparse.Namespace) -> list[str]:
    rows = [
        "One case at 2 mm, drawn and rendered: processor time (user and system) of five cases, peak memory of the "
        "process.",
        "",
        "| case | s: best | s: median | GiB |",
        "|---|---|---|---|",
    ]
    for profile, kind in (("source", "control"), ("moderate", "glioma")):
        best, median, memory = map(float, timed(ONE_CASE, profile, kind, str(options.seed)).split())
        rows.append(f"| {kind}, {profile} profile | {best:.2f} | {median:.2f} | {memory:.2f} |")
    if options.against:
        seconds: dict[str, list[float]] = {"now": [], "before": []}
        for _ in range(2):  # in turns, so that a busy machine is busy for both
            seconds["now"].append(float(timed(ONE_COHORT, str(options.cohort))))
            seconds["before"].append(float(timed(ONE_COHORT, str(options.cohort), root=options.against)))
        now, before = min(seconds["now"]), min(seconds["before"])
        rows += [
            "",
            f"A factorial cohort of {options.cohort} + {options.cohort} at 2 mm, written to disk, processor time of "
            f"the better of two runs in turns: {now:.0f} s, before {before:.0f} s; {before / now:.1f} times as fast.",
        ]
    return rows


def timed(program: str, *words: str, root: Path | None = None) -> str:
    single = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")}
    if root is not None:
        single["PYTHONPATH"] = str(root)
    command = [sys.executable, "-P", "-c", program, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=single).stdout


def shifts(options: argparse.Namespace) -> list[str]:
    parts = [scores(options, profile) for profile in PATIENTS]
    table = pd.concat(parts)
    controls = table.groupby("participant_id")["healthy"].mean().mean()
    rows = [
        f"Mean Dice of the model on {options.participants} controls and, for each profile, the same "
        f"{options.participants} patients four times; systematic = clean − systematic only, tumor = systematic only − "
        "both; ± standard error over participants, and the least and most affected patient.",
        "",
        "| profile | controls | clean | systematic only | tumor only | both | systematic | tumor |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for profile in PATIENTS:
        people = means(table[table["profile"] == profile])
        dice = {"healthy": controls} | {name: people[name].mean() for name in NAMES[1:]}
        cells = [*(f"{value:.3f}" for value in dice.values()), *(spread(people[name]) for name in PARTS)]
        rows.append(f"| {profile} | {' | '.join(cells)} |")
    rows += ["", *by_bundle(table), "", *by_distance(table)]
    draw_distance(table, Path(__file__).with_name("phantom_distance.png"))
    for profile in PATIENTS:
        draw_patients(options, profile, Path(__file__).with_name(f"phantom_{profile}.png"))
        rows += ["", f"![Three patients of the profile {profile}](phantom_{profile}.png)"]
    return rows


NAMES = ("healthy", "glioma_clean", "glioma_systematic", "glioma_tumor", "glioma")
PARTS = ("systematic", "tumor")


def scores(options: argparse.Namespace, profile: str) -> pd.DataFrame:
    """A row a participant and bundle: Dice in each cohort, its parts, side and distance of the tumor."""
    import torch

    from shiftkit.analyses.scoring.study import score
    from shiftkit.segmentation.network.checkpoints import load_model
    from shiftkit.segmentation.prediction.cohort import predict
    from shiftkit.work import Work

    torch.set_num_threads(options.jobs)
    work = Work(jobs=options.jobs)
    n, root = options.participants, options.work / profile
    controls = n if profile == PATIENTS[0] else 0  # the same for all
    made = phantom(root, n_healthy=controls, n_glioma=n, factorial=True, seed=options.seed, target=profile, work=work)
    model = load_model(find_model(options.model))
    keys = ["participant_id", "bundle", "hemisphere"]
    dice: dict[str, pd.Series] = {}
    seen = pd.DataFrame()
    for name, cohort in made.items():
        predictions = predict(
            model, cohort, out=options.work / "predictions" / profile / name, device="cpu", resume=True
        )
        frame = score(predictions, cohort, metrics=("dice",), work=work).frame
        frame = frame[frame["status"].isin(["ok", "missed"])].set_index(keys)
        dice[name] = frame["value"]
        if name == "glioma":
            seen = frame[["side", "tumor_distance_mm"]]
    table = pd.DataFrame(dice).join(seen).reset_index().assign(profile=profile)
    table["systematic"] = table["glioma_clean"] - table["glioma_systematic"]
    table["tumor"] = table["glioma_systematic"] - table["glioma"]
    return table


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Within patients."""
    return table.dropna(subset="glioma_clean").groupby("participant_id")[[*NAMES[1:], *PARTS]].mean()


def spread(values: pd.Series) -> str:
    values = values.dropna()
    return f"{values.mean():.3f} ± {values.sem():.3f} ({values.min():.3f} to {values.max():.3f})"


def by_bundle(table: pd.DataFrame) -> list[str]:
    """Bundles of the tumor's side and of the other."""
    rows = [
        "The same by side of the tumor.",
        "",
        "| bundle | " + " | ".join(f"{profile}: systematic; tumor ipsi, contra" for profile in PATIENTS) + " |",
        "|---" * (len(PATIENTS) + 1) + "|",
    ]
    for bundle, part in table.groupby("bundle"):
        cells: list[str] = []
        for profile in PATIENTS:
            own = part[part["profile"] == profile]
            ipsi, contra = (own.loc[own["side"] == side, "tumor"].mean() for side in ("ipsi", "contra"))
            cells.append(f"{own['systematic'].mean():.3f}; {ipsi:.3f}, {contra:.3f}")
        rows.append(f"| {bundle} | {' | '.join(cells)} |")
    return rows


def by_distance(table: pd.DataFrame) -> list[str]:
    rows = [
        "Dice that the tumor costs, by distance between its edge and the bundle: mean and number of bundles. No "
        "formula of a decay is in the phantom. ![Dice that the tumor costs against distance](phantom_distance.png)",
        "",
        "| mm | " + " | ".join(PATIENTS) + " |",
        "|---" * (len(PATIENTS) + 1) + "|",
    ]
    for low, high in BINS_MM:
        near = table["tumor_distance_mm"].between(low, high, inclusive="both" if low == high else "right")
        parts = [table.loc[near & (table["profile"] == profile), "tumor"].dropna() for profile in PATIENTS]
        label = "0" if low == high else f"{low}–{high}"
        rows.append(
            f"| {label} | {' | '.join(f'{part.mean():.3f} ({len(part)})' if len(part) else '–' for part in parts)} |"
        )
    return rows


def draw_distance(table: pd.DataFrame, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(PATIENTS), figsize=(10, 3), sharex=True, sharey=True, layout="constrained")
    for ax, profile in zip(axes, PATIENTS, strict=True):
        own = table[(table["profile"] == profile)].dropna(subset=["tumor", "tumor_distance_mm"])
        for side, color in (("ipsi", "C3"), ("contra", "C0")):
            part = own[own["side"] == side]
            ax.plot(part["tumor_distance_mm"], part["tumor"], ".", color=color, alpha=0.5, label=f"{side}lateral")
        ax.axhline(0, color="0.6", lw=0.8)
        ax.set(title=profile, xlabel="distance to the tumor, mm")
    axes[0].set_ylabel("Dice lost to the tumor")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def draw_patients(options: argparse.Namespace, profile: str, path: Path) -> None:
    """T1w, FA and peaks of three patients at 2 mm through the tumor, with outlines of tumor, core and two bundles."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 4, figsize=(9, 8), layout="constrained", facecolor="black")
    target = load_profile(profile)
    for row, number in zip(axes, range(1, 4), strict=True):
        key = f"sub-g{number:03d}"
        person = draw_person(options.seed, key, True, target.gliomas)
        made = render.render(person, target, generator(options.seed, key, "scan target"), 2.0)
        assert person.tumor is not None and made.tumor is not None and made.core is not None
        affine = made.tumor.affine
        _, y, z = np.round((person.tumor.center_mm - affine[:3, 3]) / 2).astype(int)
        color = np.abs(made.images["peaks"].array[..., :3])
        pictures = [made.images["t1w"].array, made.images["fa"].array, color, made.images["t1w"].array]
        for column, (ax, image) in enumerate(zip(row, pictures, strict=True)):
            cut = (slice(None), slice(None), z) if column < 3 else (slice(None), y, slice(None))
            top = np.percentile(image, 99.7)
            ax.imshow(np.clip(np.moveaxis(image[cut], 0, 1) / top, 0, 1), origin="lower", cmap="gray")
            outlines = [(made.tumor, "red"), (made.core, "orange")]
            outlines += [(made.masks[b], "cyan") for b in made.masks if b.hemisphere == person.tumor.side] * (
                column == 3
            )
            for volume, edge in outlines:
                if volume.array[cut].any():
                    ax.contour(volume.array[cut].T, [0.5], colors=edge, linewidths=0.7)
            ax.axis("off")
        row[0].set_title(
            f"{person.tumor.family}, {person.tumor.site}, {person.tumor.volume_ml:.0f} ml", color="w", fontsize=8
        )
    figure.savefig(path, dpi=75)
    plt.close(figure)


if __name__ == "__main__":
    main()
