"""What shiftkit writes against the official BIDS validator, and whether pybids tells the maps apart.

    pip install bids-validator-deno pybids
    python benchmarks/bids.py OUT

Makes phantoms with every option, predictions, a fine-tuned folder and an import of every format below OUT, from files
with the names that the data sets have, runs the validator on each, and prints a table.
The validator needs a runtime of 90 MB, so it is no part of the tests.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# In place of this script's own folder, in which it would be found as pybids' package, bids.
sys.path[:1] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from makers import layouts  # noqa: E402 - found through the line above

import shiftkit as sk  # noqa: E402

IMPORTS = {
    "brainptm": layouts.brainptm,
    "brats": layouts.brats,
    "hcp105": layouts.hcp_training,
    "pyafq": layouts.pyafq,
    "tractoinferno": layouts.tractoinferno,
    "tractseg": layouts.tractseg,
}


def folders(out: Path) -> Iterator[tuple[str, Path]]:
    """Commands, and the folders that each left behind."""
    options = {"factorial": True, "fields": True, "dwi": True, "n_target_controls": 1}
    made = sk.phantom(out / "phantom", n_healthy=2, n_glioma=2, spacing_mm=4, **options)
    for name in made:
        yield f"phantom --factorial --fields --dwi --target-controls 1: `{name}`", out / "phantom" / name
    raw = sk.phantom(out / "raw", n_healthy=1, n_glioma=0, spacing_mm=4, dwi=True)["healthy"]
    for path in raw.root.glob("sub-*/dwi/*_dwimap.*"):
        path.unlink()
    sk.prepare(raw.root)
    yield "prepare", raw.root
    sk.predict("reference", made["glioma"], out=out / "predictions")
    yield "predict", out / "predictions"
    tuned = {"strategy": "none", "folds": 2, "reference": made["healthy"]}
    sk.finetune("reference", made["glioma"], out=out / "finetuned", **tuned)
    for name in ("predictions", "controls"):  # the folder itself holds models, and these as data sets
        yield f"finetune --strategy none --folds 2: `{name}`", out / "finetuned" / name
    for name, rebuild in IMPORTS.items():
        sk.import_cohort(name, rebuild(out / "sources" / name), out / name)
        yield f"import {name}", out / name


def validate(folder: Path) -> tuple[int, Counter[str], Counter[str]]:
    """How many files, and the codes of errors and warnings."""
    command = [str(Path(sys.executable).with_name("bids-validator-deno")), str(folder), "--format", "json"]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    codes = {"error": Counter[str](), "warning": Counter[str]()}
    for issue in told["issues"]["issues"]:
        codes[issue["severity"]][" ".join(filter(None, (issue["code"], issue.get("subCode"))))] += 1
    return sum(1 for path in folder.rglob("*") if path.is_file()), codes["error"], codes["warning"]


def maps(folder: Path) -> str:
    """Maps of the first participant, as pybids finds them by their entity."""
    from bids import BIDSLayout

    param = {"name": "param", "pattern": "_param-([A-Za-z0-9]+)_"}
    config = folder.parent / "pybids.json"  # it takes names and paths alone
    config.write_text(json.dumps({"name": "shiftkit", "entities": [param]}))
    layout = BIDSLayout(folder, validate=False, is_derivative=True, config=["bids", "derivatives", str(config)])
    found = {name: layout.get(param=name, suffix="dwimap", extension=".nii.gz") for name in ("fa", "ap", "peaks")}
    return ", ".join(f"{name}: {len(files)} files" for name, files in found.items())


def main(out: Path) -> None:
    print("| written by | files | errors | warnings |\n|---|---:|---:|---|")
    wrong = 0
    for command, folder in folders(out):
        n_files, errors, warnings = validate(folder)
        wrong += errors.total()
        told = ", ".join(f"{code} ×{n}" for code, n in sorted(warnings.items()))
        print(f"| {command} | {n_files} | {errors.total()} {', '.join(errors)}| {told} |", flush=True)
    print(f"\npybids on the phantom's `glioma`: {maps(out / 'phantom' / 'glioma')}.")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
