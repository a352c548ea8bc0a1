"""How real the phantom's people are, and what a cohort costs.

    python benchmarks/phantom.py --against CHECKOUT --out benchmarks/phantom.md

Bundle volumes, overlap between participants, agreement with a population average (where ``../shared/data`` or
``SHIFTKIT_DATA`` has it) and between raters; processor time of one case and, beside an older checkout, of a factorial
cohort; pictures of three patients of each profile. What the profiles cost a network: ``end_to_end.py``.
"""

import argparse
import itertools
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import spatial

from shiftkit.images import read_image
from shiftkit.phantoms import fibers, render
from shiftkit.phantoms import template as anatomy
from shiftkit.phantoms.acquisition import load_profile
from shiftkit.phantoms.people import Person, draw_person, generator
from shiftkit.phantoms.raters import draw_generosity
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the tables")
    parser.add_argument("--people", type=int, default=8, help="controls whose bundles are compared, and raters")
    parser.add_argument("--seed", type=int, default=1, help="other than that of the built-in cohorts")
    parser.add_argument("--against", type=Path, help="an older checkout, to time beside this one")
    parser.add_argument("--cohort", type=int, default=12, help="controls, and patients, of the cohort that is timed")
    parser.add_argument("--turns", type=int, default=2, help="how often either is timed")
    options = parser.parse_args()
    against = f" --against CHECKOUT --cohort {options.cohort} --turns {options.turns}" if options.against else ""
    lines = [
        "# The digital phantom",
        "",
        f"`python benchmarks/phantom.py --people {options.people} --seed {options.seed}{against} --out "
        f"benchmarks/phantom.md`, {platform.machine()}, one thread.",
        "",
        *bundles(options.people, options.seed),
        "",
        *cost(options),
        "",
        *pictures(options.seed),
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
        f"1 mm: share of voxels within 5 mm of the other; agreement of {people} raters of one control. Trained raters "
        "with one protocol agreed with a Dice of 0.85 to 0.90 (Rheault F et al., Hum Brain Mapp 43:2134 (2022), doi "
        "10.1002/hbm.25777; three bundles of five people).",
        "",
        "| bundle | volume, ml: median (range) | Dice between participants: median | phantom near population "
        "| population near phantom | Dice between raters: mean |",
        "|---" * 6 + "|",
    ]
    raters = rated(draw_person(seed, "sub-h001", False), people)
    for bundle, courses in anatomy.bundle_courses().items():
        volumes = [mask.sum() * 2.5**3 / 1000 for mask in masks[bundle]]
        pairs = [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in itertools.combinations(masks[bundle], 2)]
        near = agreement(bundle, courses, seed)
        rows.append(
            f"| {bundle.label} | {np.median(volumes):.1f} ({min(volumes):.1f}–{max(volumes):.1f}) "
            f"| {np.median(pairs):.2f} | {near[0]} | {near[1]} | {raters[bundle]:.2f} |"
        )
    return [*rows, f"| mean | | | | | {np.mean(list(raters.values())):.2f} |"]


def rated(person: Person, raters: int) -> dict[Bundle, float]:
    """Mean Dice between raters who draw the same anatomy."""
    affine, shape = render.grid(2.5)
    drawn: dict[Bundle, list[np.ndarray]] = {}
    for rater in range(raters):
        seen = replace(person, generosity=draw_generosity(np.random.default_rng(rater), person.bundles))
        for bundle in seen.bundles:
            population = render.bundle_population(bundle, seen, None, affine, shape, False)
            drawn.setdefault(bundle, []).append(population.mask(render._THRESHOLD, shape))
    return {
        bundle: float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in itertools.combinations(masks, 2)]))
        for bundle, masks in drawn.items()
    }


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
        for _ in range(options.turns):  # in turns, so that a busy machine is busy for both
            seconds["now"].append(float(timed(ONE_COHORT, str(options.cohort))))
            seconds["before"].append(float(timed(ONE_COHORT, str(options.cohort), root=options.against)))
        now, before = min(seconds["now"]), min(seconds["before"])
        rows += [
            "",
            f"A factorial cohort of {options.cohort} + {options.cohort} at 2 mm, written to disk, processor "
            f"time (best of {options.turns}, in turns): {now:.1f} s, before {before:.1f} s; "
            f"{before / now:.2f} times as fast.",
        ]
    return rows


def timed(program: str, *words: str, root: Path | None = None) -> str:
    single = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")}
    if root is not None:
        single["PYTHONPATH"] = str(root)
    command = [sys.executable, "-P", "-c", program, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=single).stdout


def pictures(seed: int) -> list[str]:
    for profile in PATIENTS:
        draw_patients(seed, profile, Path(__file__).with_name(f"phantom_{profile}.png"))
    return [
        "T1w, FA and colored leading peaks of three patients of each profile at 2 mm, with tumor (red), core (orange) "
        "and, in the coronal cut, reference masks on the tumor's side (cyan).",
        "",
        " ".join(f"![Three patients of the profile {profile}](phantom_{profile}.png)" for profile in PATIENTS),
        "",
        "What the profiles cost a network, and how that falls with the distance to the tumor, is in "
        "[end_to_end.md](end_to_end.md).",
    ]


def draw_patients(seed: int, profile: str, path: Path) -> None:
    """T1w, FA and peaks of three patients at 2 mm through the tumor, with outlines of tumor, core and two bundles."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 4, figsize=(9, 8), layout="constrained", facecolor="black")
    target = load_profile(profile)
    for row, number in zip(axes, range(1, 4), strict=True):
        key = f"sub-g{number:03d}"
        person = draw_person(seed, key, True, target.gliomas)
        made = render.render(person, target, generator(seed, key, "scan target"), 2.0)
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
