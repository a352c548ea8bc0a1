"""How fast masks are scored, as ratios against the field's tools in the same process.

Ten bundle-like 1 mm masks on the full MNI grid (182 × 218 × 182), with predictions that are shifted, eroded and noisy:
Dice, HD95, ASSD and NSD by shiftkit, by MONAI and by DeepMind's surface-distance. Then the whole score table of 100
participants × 10 bundles at 2 mm, from disk to disk, on two processes.

Run with ``OMP_NUM_THREADS=1 python benchmarks/scoring.py --out benchmarks/scoring.md``.
"""

import argparse
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from shiftkit.analyses.scoring.metrics import METRICS, compare
from shiftkit.analyses.scoring.study import score
from shiftkit.cohorts.folder import (
    load_cohort,
    mask_path,
    probability_path,
    tumor_path,
    write_description,
    write_participants,
)
from shiftkit.images import write_image
from shiftkit.types import Bundle, Volume
from shiftkit.work import Work

FOUR = ("dice", "hd95", "assd", "nsd")
TOLERANCE_MM = 1.0
GRID_1MM, GRID_2MM = (182, 218, 182), (91, 109, 91)
SHIFTED_MM, ERODED_MM, NOISE_MM = 2.0, 1.0, 2.0
LABELS = [f"{name}{side}" for name in ("AF", "FAT", "IFOF", "ILF", "PYT") for side in ("left", "right")]
Masks = tuple[np.ndarray, np.ndarray]
# Control points of the courses of five bundles of the left hemisphere, as fractions of the grid, and radii in mm.
COURSES = {
    "AF": ([(0.30, 0.72, 0.50), (0.30, 0.50, 0.62), (0.31, 0.36, 0.56), (0.25, 0.42, 0.42)], 5.0),
    "FAT": ([(0.45, 0.62, 0.75), (0.38, 0.63, 0.62), (0.30, 0.66, 0.52)], 4.5),
    "IFOF": ([(0.38, 0.80, 0.45), (0.34, 0.62, 0.42), (0.34, 0.40, 0.44), (0.42, 0.18, 0.45)], 4.0),
    "ILF": ([(0.28, 0.60, 0.28), (0.31, 0.40, 0.36), (0.41, 0.18, 0.45)], 4.0),
    "PYT": ([(0.35, 0.46, 0.82), (0.38, 0.46, 0.58), (0.45, 0.45, 0.30), (0.48, 0.42, 0.14)], 4.5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--participants", type=int, default=100)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = [
        "# Scoring",
        "",
        f"`OMP_NUM_THREADS=1 python benchmarks/scoring.py --out benchmarks/scoring.md`, seed {options.seed}",
        "",
        *pairs_of_masks(options.seed),
        "",
        *whole_table(options.seed, options.participants),
    ]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


def pairs_of_masks(seed: int) -> list[str]:
    tools = {"shiftkit": by_shiftkit, "MONAI": by_monai, "surface-distance": by_surface_distance}
    seconds = {tool: dict.fromkeys(("shifted", "eroded", "noisy"), 0.0) for tool in tools}
    worst = np.zeros((2, len(FOUR) + 1))
    for index, (kind, prediction, reference) in enumerate(predictions(seed)):
        values: dict[str, tuple[float, ...]] = {}
        for tool, run in tools.items():
            if index == 0:
                run(prediction, reference)  # compilation and imports are not timed
            tries: list[float] = []
            for _ in range(3):
                started = time.perf_counter()
                values[tool] = run(prediction, reference)
                tries.append(time.perf_counter() - started)
            seconds[tool][kind] += min(tries)
        theirs = (*values["MONAI"], monai_hd95_in_double_precision(prediction, reference))
        ours = np.array((*values["shiftkit"], values["shiftkit"][1]))
        worst = np.maximum(worst, [np.abs(ours - theirs), np.abs(ours - theirs) / np.maximum(ours, 1e-9)])
    lines = [
        "Ten bundles, 1 mm, full MNI grid; Dice + HD95 + ASSD + NSD; seconds for all ten, one thread, best of three.",
        "",
        "| predictions | shiftkit | MONAI | surface-distance | × MONAI | × surface-distance |",
        "|---|---|---|---|---|---|",
    ]
    for kind in (*seconds["shiftkit"], "all"):
        ours, monai, deepmind = (
            sum(by_kind.values()) if kind == "all" else by_kind[kind] for by_kind in seconds.values()
        )
        ratios = f"{monai / ours:.0f} | {deepmind / ours:.1f}"
        lines.append(f"| {kind} | {ours:.3f} | {monai:.2f} | {deepmind:.2f} | {ratios} |")
    names = [*FOUR, "hd95, percentile of MONAI's distances in double precision"]
    return [
        *lines,
        "",
        "| largest difference from MONAI's value | absolute | relative |",
        "|---|---|---|",
        *(f"| {name} | {gap:.0e} | {share:.0e} |" for name, gap, share in zip(names, *worst, strict=True)),
        "",
        "MONAI computes the rank of the percentile in single precision (`torch.quantile` of float32), so its own hd95",
        "is off by up to the rounding of the rank times the step between neighboring distances.",
    ]


def by_shiftkit(prediction: np.ndarray, reference: np.ndarray) -> tuple[float, ...]:
    found = compare(prediction, reference, (1.0, 1.0, 1.0), metrics=FOUR, tolerance_mm=TOLERANCE_MM)
    return tuple(found.values[name] for name in FOUR)


def by_monai(prediction: np.ndarray, reference: np.ndarray) -> tuple[float, ...]:
    import torch
    from monai.metrics import (
        compute_average_surface_distance,
        compute_dice,
        compute_hausdorff_distance,
        compute_surface_dice,
    )

    torch.set_num_threads(1)
    p, r = torch.from_numpy(prediction)[None, None], torch.from_numpy(reference)[None, None]
    dice = compute_dice(p.float(), r.float())
    hd95 = compute_hausdorff_distance(p, r, include_background=True, percentile=95, spacing=[1.0] * 3)
    assd = compute_average_surface_distance(p, r, include_background=True, symmetric=True, spacing=[1.0] * 3)
    nsd = compute_surface_dice(p, r, [TOLERANCE_MM], include_background=True, spacing=[1.0] * 3)
    return float(dice), float(hd95), float(assd), float(nsd)


def monai_hd95_in_double_precision(prediction: np.ndarray, reference: np.ndarray) -> float:
    from monai.metrics.utils import get_mask_edges, get_surface_distance

    p, r = get_mask_edges(prediction, reference)
    directed = (get_surface_distance(a, b, spacing=[1.0] * 3) for a, b in ((p, r), (r, p)))
    return max(float(np.quantile(np.asarray(distances, dtype=float), 0.95)) for distances in directed)


def by_surface_distance(prediction: np.ndarray, reference: np.ndarray) -> tuple[float, ...]:
    import surface_distance as deepmind

    distances = deepmind.compute_surface_distances(reference, prediction, (1.0, 1.0, 1.0))
    there, back = deepmind.compute_average_surface_distance(distances)
    return (
        float(deepmind.compute_dice_coefficient(reference, prediction)),
        float(deepmind.compute_robust_hausdorff(distances, 95)),
        float((there + back) / 2),
        float(deepmind.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM)),
    )


def predictions(seed: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each bundle with a shifted, an eroded and a noisy prediction."""
    rng = np.random.default_rng(seed)
    for label in LABELS:
        inside = signed_distance(label, GRID_1MM, 1.0, rng)
        reference = inside < 0
        yield "shifted", np.roll(reference, int(SHIFTED_MM), axis=int(rng.integers(3))), reference
        yield "eroded", inside < -ERODED_MM, reference
        yield "noisy", inside + NOISE_MM * smooth_noise(GRID_1MM, 3.0, rng) < 0, reference


def signed_distance(label: str, grid: tuple[int, int, int], spacing_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Distance in mm to the wall of a tube along a bundle's course, negative inside."""
    bundle = Bundle.parse(label)
    points, radius_mm = COURSES[bundle.name]
    course = np.array(points)
    if bundle.hemisphere == "right":
        course[:, 0] = 1 - course[:, 0]
    course = course * grid + rng.normal(0, 1.5 / spacing_mm, course.shape)
    steps = np.linspace(0, len(course) - 1, 400)
    path = np.stack([np.interp(steps, np.arange(len(course)), axis) for axis in course.T], axis=1)
    line = np.ones(grid, dtype=bool)
    line[tuple(np.round(ndimage.gaussian_filter1d(path, 20, axis=0)).astype(int).T)] = False
    fan = smooth_noise(grid, 8.0 / spacing_mm, rng)  # a wall that is not smooth
    return ndimage.distance_transform_edt(line, sampling=spacing_mm) - radius_mm * (1 + 0.3 * fan)


def smooth_noise(grid: tuple[int, int, int], sigma: float, rng: np.random.Generator) -> np.ndarray:
    noise = ndimage.gaussian_filter(rng.standard_normal(grid, dtype=np.float32), sigma)
    return noise / noise.std()


def whole_table(seed: int, n: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_cohorts(root, seed, n)
        cohort = load_cohort(root / "cohort")
        score(root / "predictions", cohort.where(lambda case: case is cohort.cases[0]), metrics=tuple(METRICS))
        rows = []
        for title, metrics in (("Dice, HD95, ASSD, NSD", FOUR), ("all metrics", tuple(METRICS))):
            seconds, n_rows = timed(lambda chosen=metrics: write(root, cohort, chosen))
            rows.append(f"| {title} | {n_rows} | {seconds:.1f} |")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return [
        f"Whole table, from files to file: {n} participants × {len(LABELS)} bundles, 2 mm, "
        "with tumor distances, two processes.",
        "",
        "| metrics | rows | seconds |",
        "|---|---|---|",
        *rows,
        "",
        f"Peak resident memory of one scoring process: {child / 1024:.0f} MiB (two of them run; the main process, "
        f"which also made the masks and ran the peers, peaked at {own / 1024:.0f} MiB).",
    ]


def write(root: Path, cohort: object, metrics: tuple[str, ...]) -> int:
    table = score(root / "predictions", cohort, metrics=metrics, work=Work(jobs=2))  # type: ignore[arg-type]
    table.save(root / "scores.tsv")
    return len(table)


def timed(run: Callable[[], int]) -> tuple[float, int]:
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


def write_cohorts(root: Path, seed: int, n: int) -> None:
    """A cohort of patients and its predictions; ten shapes are varied by shifts, since only their scoring is timed."""
    rng = np.random.default_rng(seed)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-90, -126, -72)
    inside = {label: signed_distance(label, GRID_2MM, 2.0, rng) for label in LABELS}
    noise = [NOISE_MM * smooth_noise(GRID_2MM, 1.5, rng) for _ in range(5)]
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in GRID_2MM), indexing="ij"), axis=-1)
    keys = [f"sub-{index:03}" for index in range(n)]
    people = pd.DataFrame({"participant_id": keys, "group": "glioma", "age": 50, "sex": "F"})
    for folder in ("cohort", "predictions"):
        write_description(root / folder, folder)
        write_participants(root / folder, people)
    for index, key in enumerate(keys):
        shift = tuple(rng.integers(-2, 3, 3).tolist())
        for label in LABELS:
            wall = np.roll(inside[label], shift, axis=(0, 1, 2))
            guess = wall + noise[index % len(noise)]
            bundle = Bundle.parse(label)
            probability = (1 / (1 + np.exp(np.clip(guess, -30, 30)))).astype(np.float32)
            write_image(Volume(array=wall < 0, affine=affine), mask_path(root / "cohort", key, bundle))
            write_image(Volume(array=guess < 0, affine=affine), mask_path(root / "predictions", key, bundle))
            quantized = np.round(probability * 255).astype(np.uint8)
            image = Volume(array=(quantized / np.float32(255)), affine=affine)
            write_image(image, probability_path(root / "predictions", key, bundle))
        center = rng.uniform(0.3, 0.7, 3) * GRID_2MM
        tumor = ((grid - center) ** 2).sum(axis=-1) < rng.uniform(5, 12) ** 2
        write_image(Volume(array=tumor, affine=affine), tumor_path(root / "cohort", key))


if __name__ == "__main__":
    main()
