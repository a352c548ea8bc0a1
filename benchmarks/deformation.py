"""What V-Norm says of phantom patients whose displacement is known, and what a bundle costs.

    python benchmarks/deformation.py --work FOLDER --out benchmarks/deformation.md

Truth is the same measure between a participant's noise-free masks with and without the tumor's displacement, 1 mm
voxels, nothing destroyed. Measured are masks as a scan has them: misplaced by the scanner, cut by the tumor's core, at
1, 2 and 2.5 mm; against the participant's own mask without tumor, which only a phantom has, and against a template
of controls, which is what a study has. What is done stays in the work folder.
"""

import argparse
import json
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from shiftkit.analyses.bundle_template import Controls
from shiftkit.analyses.v_norm import measure
from shiftkit.phantoms import render
from shiftkit.phantoms.acquisition import draw_pose, load_profile
from shiftkit.phantoms.people import Person, draw_person, generator
from shiftkit.types import Bundle, Volume

SPACINGS_MM = (1.0, 2.0, 2.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for what is done")
    parser.add_argument("--out", type=Path, help="file for the tables")
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--controls", type=int, default=10)
    parser.add_argument("--bundles", nargs="+", default=["AF", "PYT"])
    parser.add_argument("--seed", type=int, default=3, help="other than that of the built-in cohorts")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rows = [row for index in range(1, options.patients + 1) for row in patient(options, f"sub-g{index:03d}")]
    text = "\n".join(report(options, pd.DataFrame(rows))) + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    print(text)


def patient(options: argparse.Namespace, key: str) -> list[dict[str, Any]]:
    """One row a bundle on the tumor's side."""
    kept = options.work / f"{key}-{options.seed}.json"
    rows: list[dict[str, Any]] = json.loads(kept.read_text()) if kept.is_file() else []
    person = draw_person(options.seed, key, True)
    assert person.tumor is not None
    for name in options.bundles:
        bundle = Bundle.parse(name + person.tumor.side)
        if all(row["bundle"] != bundle.label for row in rows):
            rows.append({"participant_id": key, "bundle": bundle.label, **values(options, person, bundle)})
            kept.write_text(json.dumps(rows))
    return rows


def values(options: argparse.Namespace, person: Person, bundle: Bundle) -> dict[str, float]:
    clean, pushed = (mask(person, bundle, 1.0, kind) for kind in ("clean", "pushed"))
    made = {"field": field_mm(person, pushed), "truth": against(clean, pushed)[0]}
    template = controls(options, bundle)
    for spacing in SPACINGS_MM:
        scanned = mask(person, bundle, spacing, "scanned")
        own = mask(person, bundle, spacing, "scanned clean")
        lost = core(person, spacing)
        made[f"own {spacing:g}"] = against(own, scanned, lost)[0]
        start = time.process_time()
        made[f"template {spacing:g}"] = measure(scanned, template, lost=lost)[0].v_norm_mm
        made[f"s {spacing:g}"] = time.process_time() - start
        if spacing == 2.0:
            made["looking 2"] = against(own, scanned)[0]
            made["template clean 2"] = measure(own, template)[0].v_norm_mm
    return made


def against(fixed: Volume, moving: Volume, lost: Volume | None = None) -> tuple[float, float]:
    found = measure(moving, Controls.of({"own": fixed}).template(), lost=lost)[0]
    return found.v_norm_mm, found.dice_after


_TEMPLATES: dict[Bundle, Any] = {}


def controls(options: argparse.Namespace, bundle: Bundle) -> Any:
    if bundle not in _TEMPLATES:
        people = [draw_person(options.seed, f"sub-h{i:03d}", False) for i in range(1, options.controls + 1)]
        masks = {one.participant_id: mask(one, bundle, 2.0, "scanned clean") for one in people}
        _TEMPLATES[bundle] = Controls.of(masks).template()
    return _TEMPLATES[bundle]


def mask(person: Person, bundle: Bundle, spacing_mm: float, kind: str) -> Volume:
    """As `shiftkit.phantoms.render.render` makes it, without the images."""
    affine, shape = render.grid(spacing_mm)
    profile = load_profile("source")
    pose = draw_pose(profile, generator(0, person.participant_id, "scan source")) if "scanned" in kind else None
    if kind == "pushed" and person.tumor is not None:
        person = replace(person, tumor=replace(person.tumor, core_share=0.0))
    population = render._population(person.bundles[bundle], person, pose, affine, shape, "clean" not in kind)
    array = population.mask(render._THRESHOLD, shape)
    if kind == "scanned" and person.tumor is not None:
        voxels = np.argwhere(array)
        dead = voxels[person.tumor.depth(voxels * spacing_mm + affine[:3, 3]) <= person.tumor.core_share]
        array[tuple(dead.T)] = False
    return Volume(array=array, affine=affine)


def core(person: Person, spacing_mm: float) -> Volume:
    return render.tumor_masks(person, *render.grid(spacing_mm))["core"]


def field_mm(person: Person, pushed: Volume) -> float:
    """Mean length of the true displacement over the bundle, along it and across it."""
    assert person.tumor is not None
    points = np.argwhere(pushed.array) + pushed.affine[:3, 3]
    return float(np.linalg.norm(points - person.tumor.push.to_template(points), axis=1).mean())


def report(options: argparse.Namespace, rows: pd.DataFrame) -> list[str]:
    truth = rows["truth"]
    lines = [
        "# Deformation",
        "",
        f"`python benchmarks/deformation.py --work FOLDER --patients {options.patients} --controls {options.controls} "
        f"--bundles {' '.join(options.bundles)} --seed {options.seed}`, {platform.machine()}, one thread.",
        "",
        __doc__.split("\n\n")[2].replace("\n", " "),
        "",
        f"{len(rows)} bundles of {rows['participant_id'].nunique()} patients; truth {truth.min():.2f} to "
        f"{truth.max():.2f} mm, mean {truth.mean():.2f}. The true field moves the same voxels by "
        f"{rows['field'].mean():.2f} mm on average (rank correlation with the truth over bundles "
        f"{rank(rows['field'], truth):.2f}): the difference is "
        "what runs along the bundle, and the rigid part.",
        "",
        "| measured | mean, mm | mean error, mm | within 15 % or 0.5 mm | rank correlation: bundles | patients |",
        "|---|---|---|---|---|---|",
    ]
    names = [name for name in rows if name.startswith(("own", "looking", "template"))]
    for name in names:
        error = (rows[name] - truth).abs()
        near = (error <= np.maximum(0.15 * truth, 0.5)).mean()
        people = rows.groupby("participant_id")[[name, "truth"]].mean()
        lines.append(
            f"| {LABELS[name]} | {rows[name].mean():.2f} | {(rows[name] - truth).mean():+.2f} | {near:.0%} "
            f"| {rank(rows[name], truth):.2f} | {rank(people[name], people['truth']):.2f} |"
        )
    excess = rows["template 2"] - rows["template clean 2"]
    people = rows.assign(excess=excess).groupby("participant_id")[["excess", "truth"]].mean()
    lines += [
        "",
        "Against the template, V-Norm holds the individual anatomy too. What the tumor adds to the same participant's "
        f"value is {excess.mean():.2f} mm on average; its rank correlation with the truth is "
        f"{rank(excess, truth):.2f} over bundles and {rank(people['excess'], people['truth']):.2f} over patients.",
        "",
        "Voxel size: "
        + "; ".join(
            f"{s:g} mm less 1 mm {(rows[f'own {s:g}'] - rows['own 1']).mean():+.3f} mm against the own mask and "
            f"{(rows[f'template {s:g}'] - rows['template 1']).mean():+.3f} mm against the template"
            for s in SPACINGS_MM[1:]
        )
        + " on average.",
        "",
        "Processor time of one bundle, rigid part and SyN, one thread: "
        + "; ".join(
            f"{s:g} mm: median {rows[f's {s:g}'].median():.1f} s, longest {rows[f's {s:g}'].max():.1f} s"
            for s in SPACINGS_MM
        )
        + ".",
    ]
    return lines


LABELS = {
    **{f"own {s:g}": f"against the own mask without tumor, {s:g} mm" for s in SPACINGS_MM},
    "looking 2": "the same at 2 mm, looking into the tumor's core too",
    **{f"template {s:g}": f"against the template, {s:g} mm" for s in SPACINGS_MM},
    "template clean 2": "the same participants without tumor against the template, 2 mm",
}


def rank(a: pd.Series, b: pd.Series) -> float:
    return float(stats.spearmanr(a, b).statistic)


if __name__ == "__main__":
    main()
