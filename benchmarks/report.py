"""How long a report takes to build, how much memory, how large its pages are, and when a browser has painted the first.

Run as ``python benchmarks/report.py``; writes ``benchmarks/report.md``. Patients are those of the built-in glioma
cohort (2.5 mm), each taken several times under another name; predictions are their reference masks moved by one voxel.
What is timed is `Report.save`: reading the images, every picture, volume, surface, drawing and page. Then Chromium
opens the first page from disk, where it and playwright are installed.
"""

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from joblib.externals.loky import get_reusable_executor

from shiftkit.analyses.scoring.cases import Look, read_cases
from shiftkit.analyses.scoring.error_maps import error_voxels, places_of
from shiftkit.analyses.scoring.findings import bundle_findings
from shiftkit.analyses.scoring.predictions import find_predictions
from shiftkit.images import read_mask, write_image
from shiftkit.names import find_cohort
from shiftkit.reports import CasePicture, Report, report
from shiftkit.types import Cohort, Predictions
from shiftkit.work import Work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", nargs="+", type=int, default=[20, 100])
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    lines = [
        "# Building a report",
        "",
        f"`python benchmarks/report.py --patients {' '.join(map(str, options.patients))} --jobs {options.jobs}`; ten "
        f"bundles a patient, 2.5 mm. Load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.",
        "",
        "| patients | cases | s | CPU s | peak memory of the largest process (GiB) | largest page (MB) | volumes | "
        "whole folder (MB) | first page: MB | elements | first paint (s) | complete (s) |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    cohort = find_cohort("glioma").where(group="glioma")
    with tempfile.TemporaryDirectory() as scratch:
        cases, table, places = material(cohort, Path(scratch))
        for n in options.patients:
            page = example(cohort, cases, table, places, n, Path(scratch) / f"images-{n}")
            lines.append(measure(page, n, Path(scratch) / f"run-{n}", options.jobs))
    text = "\n".join(lines) + "\n"
    (Path(__file__).parent / "report.md").write_text(text, encoding="utf-8")
    print(text)


def material(cohort: Cohort, folder: Path) -> tuple[list[CasePicture], pd.DataFrame, Predictions]:
    """Cases with predictions of every patient, a score table, and the predictions."""
    rng = np.random.default_rng(0)
    cases: list[CasePicture] = []
    rows: list[dict[str, object]] = []
    predicted = []
    for case in cohort:
        masks = {}
        for bundle, path in case.masks.items():
            reference = read_mask(path)
            masks[bundle] = folder / "predictions" / path.name
            write_image(reference.with_array(np.roll(reference.array, 1, axis=1)), masks[bundle])
            dice, far = float(rng.uniform(0.4, 0.9)), float(rng.uniform(0, 70))
            cases.append(
                CasePicture(
                    participant_id=case.participant_id,
                    bundle=bundle,
                    score=dice,
                    distance_mm=far,
                    image=case.images["t1w"],
                    reference=path,
                    prediction=masks[bundle],
                    tumor=case.tumor,
                    model="benchmark",
                )
            )
            common = {"participant_id": case.participant_id, "bundle": bundle.name, "hemisphere": bundle.hemisphere}
            rest = {"group": "glioma", "model": "benchmark", "metric": "dice", "value": dice, "tumor_distance_mm": far}
            rows.append({**common, **rest})
        predicted.append(type(case)(participant_id=case.participant_id, masks=masks))
    predictions = Cohort(name="benchmark", root=folder, cases=tuple(predicted))
    return cases, pd.DataFrame(rows), Predictions(cohort=predictions, model="benchmark", modality="n/a")


def example(
    cohort: Cohort, cases: Sequence[CasePicture], table: pd.DataFrame, predictions: Predictions, n: int, folder: Path
) -> Report:
    """A report of ``n`` patients; those beyond the cohort are its first again, under other names and image paths."""
    folder.mkdir(parents=True)
    chosen: list[CasePicture] = []
    ids = [case.participant_id for case in cohort]
    for place in range(n):
        source = [case for case in cases if case.participant_id == ids[place % len(ids)]]
        image = folder / f"{place}.nii.gz"
        image.symlink_to(source[0].image)
        chosen += [
            CasePicture(**{**vars(case), "participant_id": f"sub-{place:03d}", "image": image}) for case in source
        ]
    look = Look(predicted=find_predictions(predictions), readers={"places": error_voxels})
    (made,) = read_cases(cohort, [look], Work())
    found = bundle_findings(table, None, places_of(made["places"], cohort.bundles))
    return report([], title="Benchmark", verdict="None.", cases=chosen, bundle_findings=found)


def cpu_seconds() -> float:
    """Seconds that this process and its finished children kept a core busy."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(page: Report, n: int, folder: Path, jobs: int) -> str:
    """One row of the table."""
    start, busy = time.perf_counter(), cpu_seconds()
    page.save(folder / "report.html", work=Work(jobs=jobs))
    seconds = time.perf_counter() - start
    get_reusable_executor().shutdown(wait=True)  # the time of worker processes counts once they have ended
    busy = cpu_seconds() - busy
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20
    largest = max(path.stat().st_size for path in folder.rglob("*.html")) / 1e6
    whole = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    where = "beside the pages" if (folder / "reports" / "volumes").is_dir() else "embedded"
    own = (folder / "report.html").stat().st_size / 1e6
    return (
        f"| {n} | {len(page.cases)} | {seconds:.0f} | {busy:.0f} | {peak:.2f} | {largest:.1f} | {where} | {whole:.0f} "
        f"| {own:.1f} | {painted(folder / 'report.html')} |"
    )


def painted(path: Path) -> str:
    """Elements of a page, and seconds until something of it and until all of it was there: medians of five visits."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "n/a | n/a | n/a"
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        return "n/a | n/a | n/a"
    asked = """() => [document.querySelectorAll('*').length,
      performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000,
      performance.getEntriesByType('navigation')[0].loadEventEnd / 1000]"""
    seen: list[list[float]] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(5):
            page = browser.new_context(
                offline=True, reduced_motion="reduce", viewport={"width": 1280, "height": 900}
            ).new_page()
            page.goto(path.as_uri())
            page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
            seen.append(page.evaluate(asked))
            page.context.close()
        browser.close()
    elements, first, whole = np.median(np.array(seen), axis=0)
    return f"{elements:.0f} | {first:.2f} | {whole:.2f}"


if __name__ == "__main__":
    main()
