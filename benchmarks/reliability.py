"""Plants faults that real inputs, tools and machines have, one at a time, and checks what shiftkit says of each.

Run as ``python benchmarks/reliability.py``; writes ``benchmarks/reliability.md`` and ends with 1 where anything
deviates from what is right: the exit code, words of the message, or a value. ``--only TEXT`` runs the faults whose kind
or name holds a text, and leaves the lines of the others as they are.
"""

import argparse
import contextlib
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from shiftkit.cli import main as shiftkit
from shiftkit.cohorts.folder import load_cohort

SHAPE, AFFINE = (40, 44, 36), np.array([[3.0, 0, 0, -60], [0, 3, 0, -66], [0, 0, 3, -54], [0, 0, 0, 1]])
FAST = ["--bootstrap", "100", "--permutations", "99"]
Words = list[str]


@dataclass
class Bench:
    """A scratch folder with sound inputs, copied before anything is planted into them."""

    root: Path
    number: int = 0
    here: Path = field(init=False)

    def start(self) -> None:
        """A new empty folder for the next fault."""
        self.number += 1
        self.here = self.root / f"fault-{self.number}"
        self.here.mkdir(parents=True)

    @property
    def out(self) -> str:
        """Where a command writes."""
        return str(self.here / "out")

    def table(
        self, name: str = "scores.tsv", change: Callable[[pd.DataFrame], pd.DataFrame | None] | None = None
    ) -> str:
        """A sound score table of 24 patients and 24 controls, changed."""
        frame = score_table()
        if change is not None:
            made = change(frame)
            frame = frame if made is None else made
        frame.to_csv(self.here / name, sep="\t", index=False, na_rep="n/a")
        return str(self.here / name)

    def truth(self, seeds: tuple[int, ...] = (1, 4, 7), **options: Any) -> Path:
        """A cohort of patients with boxes as bundles."""
        return write_cohort(self.here / "truth", seeds, **options)

    def predictions(self, name: str = "predictions", rename: Callable[[str], str] = str, value: Any = None) -> Path:
        """Masks of another tool for `truth`, a voxel off: Dice 0.8333 in every bundle."""
        for number, seed in enumerate((1, 4, 7), start=1):
            for label, mask in boxes(seed).items():
                moved = np.roll(mask, 1, axis=0)
                array = moved if value is None else value(moved)
                save(array, self.here / name / f"sub-{number:02d}" / f"{rename(label)}.nii.gz")
        return self.here / name

    @cached_property
    def phantom(self) -> Path:
        """Four controls and four patients at 5 mm."""
        words = ["phantom", str(self.root / "phantom"), "--n-healthy", "4", "--n-glioma", "4", "--spacing", "5"]
        assert run([*words, "--seed", "5", "-q"]).code == 0
        return self.root / "phantom"

    def cohort(self, name: str, people: int = 4) -> Path:
        """A copy of a phantom cohort, of its first participants."""
        made = self.here / name
        shutil.copytree(self.phantom / name, made)
        frame = read(made / "participants.tsv")
        for key in frame["participant_id"][people:]:
            shutil.rmtree(made / key)
        write(frame[:people], made / "participants.tsv")
        return made

    @cached_property
    def model(self) -> Path:
        """A small model of FA, trained for an epoch."""
        words = ["train", "--cohort", str(self.phantom / "healthy"), "--modality", "fa", "--spacing", "5"]
        words += ["--epochs", "1", "--device", "cpu", "--out", str(self.root / "model"), "-q"]
        assert run(words).code == 0
        return self.root / "model"

    def checkpoint(self, change: Callable[[dict[str, Any]], object]) -> Words:
        """A prediction with a copy of `model` whose description was changed."""
        made = self.here / "model"
        shutil.copytree(self.model, made)
        described = json.loads((made / "configs" / "metadata.json").read_text())
        change(described["shiftkit"])
        (made / "configs" / "metadata.json").write_text(json.dumps(described))
        return self.predict(made)

    def predict(self, model: Path, cohort: Path | None = None) -> Words:
        """Segment patients with a model."""
        cohort = cohort or self.phantom / "glioma"
        return ["predict", "--model", str(model), "--cohort", str(cohort), "--device", "cpu", "--out", self.out]


def read(path: Path) -> pd.DataFrame:
    """A table as text."""
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def write(frame: pd.DataFrame, path: Path) -> None:
    """A table of text."""
    frame.to_csv(path, sep="\t", index=False)


def score_table() -> pd.DataFrame:
    """Scores that drop by 0.05 everywhere and by up to 0.25 near the tumor."""
    rng, rows = np.random.default_rng(0), []
    for group in ("control", "glioma"):
        for i in range(24):
            side, person = ("left", "right")[i % 2], rng.normal(0, 0.02)
            for bundle in ("AF", "FAT", "ILF", "PYT"):
                for hemisphere in ("left", "right"):
                    near = hemisphere == side
                    distance = float(rng.uniform(0, 25) if near else rng.uniform(20, 90))
                    lost = 0.05 + 0.25 * np.exp(-distance / 15) if group == "glioma" else 0.0
                    rows.append(
                        {
                            "participant_id": f"sub-{group[0]}{i + 1:02d}",
                            "cohort": group,
                            "group": group,
                            "model": "m",
                            "modality": "fa",
                            "bundle": bundle,
                            "hemisphere": hemisphere,
                            "side": "n/a" if group == "control" else "ipsi" if near else "contra",
                            "metric": "dice",
                            "value": round(0.82 + person + rng.normal(0, 0.03) - lost, 4),
                            "unit": "1",
                            "status": "ok",
                            "tumor_distance_mm": round(distance, 2) if group == "glioma" else np.nan,
                        }
                    )
    return pd.DataFrame(rows)


def boxes(seed: int) -> dict[str, np.ndarray]:
    """Masks of two bundles a side, moved by up to a voxel."""
    rng, made = np.random.default_rng(seed), {}
    for name, y in (("AF", 10), ("ILF", 26)):
        for side, x in (("left", 8), ("right", 26)):
            mask, (i, j, k) = np.zeros(SHAPE, bool), rng.integers(-1, 2, 3)
            mask[x + i : x + 6 + i, y + j : y + 12 + j, 10 + k : 24 + k] = True
            made[f"{name}{side}"] = mask
    return made


def ball(center: tuple[int, int, int], radius: int) -> np.ndarray:
    """A ball on the grid of the boxes."""
    return sum((axis - c) ** 2 for axis, c in zip(np.indices(SHAPE), center, strict=True)) <= radius**2


def save(array: np.ndarray, path: Path, affine: np.ndarray = AFFINE, dtype: Any = None) -> None:
    """An image in mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array.astype(dtype or (np.uint8 if array.dtype == bool else array.dtype)), affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def write_cohort(root: Path, seeds: tuple[int, ...], group: str = "glioma", affine: np.ndarray = AFFINE) -> Path:
    """Masks, an FA map, a tumor of patients, and the table of participants."""
    root.mkdir(parents=True)
    described = {"Name": "trial", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    (root / "dataset_description.json").write_text(json.dumps(described))
    rows = []
    for number, seed in enumerate(seeds, start=1):
        key, rng = f"sub-{number:02d}", np.random.default_rng(seed)
        for label, mask in boxes(seed).items():
            save(mask, root / key / "dwi" / f"{key}_label-{label}_mask.nii.gz", affine)
        fa = np.where(ball((20, 22, 18), 17), 0.4 + 0.1 * rng.random(SHAPE), 0)
        save(fa, root / key / "dwi" / f"{key}_param-fa_dwimap.nii.gz", affine, np.float32)
        if group == "glioma":
            tumor = ball((10 + seed % 5, 14, 12), 3)  # copies would be a fault of their own
            save(tumor, root / key / "anat" / f"{key}_label-tumor_mask.nii.gz", affine)
        side = "left" if group == "glioma" else "n/a"
        rows.append({"participant_id": key, "group": group, "age": str(40 + number), "tumor_side": side})
    write(pd.DataFrame(rows), root / "participants.tsv")
    return root


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    said: str

    @property
    def last(self) -> str:
        """Its last line."""
        lines = [line for line in self.said.strip().splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


def run(words: Words, most_s: int = 180) -> Outcome:
    """A command in this process, given up after a while."""

    def give_up(*_: Any) -> None:
        raise TimeoutError(f"not done after {most_s} s")

    said = io.StringIO()
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(most_s)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = shiftkit(words)
    finally:
        signal.alarm(0)
    return Outcome(code, re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue()))


@dataclass(frozen=True)
class Fault:
    """One fault: how it is planted, and what is right."""

    kind: str
    name: str
    code: int
    says: str
    plant: Callable[[Bench], Words]
    holds: Callable[[Bench], bool] | None = None
    most_s: int = 180


FAULTS: list[Fault] = []


def fault(kind: str, name: str, code: int, says: str = "", holds: Callable[[Bench], bool] | None = None) -> Any:
    """Put a fault on the list; the function plants it and returns the command."""

    def add(plant: Callable[[Bench], Words]) -> Callable[[Bench], Words]:
        FAULTS.append(Fault(kind, name, code, says, plant, holds))
        return plant

    return add


def decompose(table: str, bench: Bench, *more: str) -> Words:
    """The main job on a table of scores."""
    # One bundle of four: most of such a run goes into the pages of bundles.
    return ["decompose", "--scores", table, "--bundles", "AF", "--out", bench.out, *FAST, *more]


def score(bench: Bench, predictions: Path, truth: Path | None = None) -> Words:
    """Score masks of another tool."""
    cohort = truth or bench.here / "truth"
    words = ["score", "--predictions", str(predictions), "--cohort", str(cohort), "--metric", "dice", "--jobs", "1"]
    return [*words, "--out", str(bench.here / "scores.tsv")]


def dice(expected: float, status: str = "ok", rows: int = 12) -> Callable[[Bench], bool]:
    """Whether every row of the scores has this value and word."""

    def holds(bench: Bench) -> bool:
        frame = pd.read_csv(bench.here / "scores.tsv", sep="\t")
        frame = frame[frame["status"] == status]
        return len(frame) == rows and bool(np.allclose(frame["value"], expected, atol=5e-4))

    return holds


def people(patients: int, controls: int) -> Callable[[Bench], bool]:
    """Whether that many entered the pooled total."""

    def holds(bench: Bench) -> bool:
        frame = pd.read_csv(Path(bench.out) / "tables" / "decomposition.tsv", sep="\t")
        total = frame[(frame["component"] == "total") & (frame["bundle"] == "all")].iloc[0]
        return (int(total["n_patients"]), int(total["n_controls"])) == (patients, controls)

    return holds


def scores_of_sound(bench: Bench) -> bool:
    """Whether the scores that were understood are those of the sound table."""
    keys, wanted = ["participant_id", "bundle", "hemisphere"], score_table()
    made = pd.read_csv(Path(bench.out) / "tables" / "scores.tsv", sep="\t").merge(wanted, on=keys)
    return len(made) == (wanted["bundle"] == "AF").sum() and bool(np.allclose(made["value_x"], made["value_y"]))


# Score tables ---------------------------------------------------------------------------------------------------------


def _set(where: Callable[[pd.DataFrame], Any], column: str, value: Any) -> Callable[[pd.DataFrame], None]:
    def change(frame: pd.DataFrame) -> None:
        rows = where(frame)
        if not isinstance(value, float | int):
            frame[column] = frame[column].astype(object)
        frame.loc[rows, column] = value

    return change


def _six(frame: pd.DataFrame) -> Any:
    return frame["participant_id"].isin([f"sub-g{i:02d}" for i in range(1, 7)])


def _first(frame: pd.DataFrame) -> Any:
    return frame["participant_id"] == "sub-g01"


def _patients(frame: pd.DataFrame) -> Any:
    return frame["group"] == "glioma"


def _controls(frame: pd.DataFrame) -> Any:
    return frame["group"] == "control"


def on_table(
    name: str, code: int, says: str = "", change: Any = None, holds: Any = None, more: Words | None = None
) -> None:
    """A fault of the score table, planted by a change of the sound one."""
    plant = lambda bench: decompose(bench.table(change=change), bench, *(more or []))  # noqa: E731
    FAULTS.append(Fault("score table", name, code, says, plant, holds))


def _in_percent_but_six(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(value=frame["value"].where(_six(frame), frame["value"] * 100))


on_table("a sound table", 0, holds=people(24, 24))
on_table("six groups spelled `Glioma`", 0, change=_set(_six, "group", "Glioma"), holds=people(24, 24))
on_table("six groups with a space at the end", 0, change=_set(_six, "group", "glioma "), holds=people(24, 24))
on_table("groups spelled `patient`", 0, change=_set(_patients, "group", "patient"), holds=people(24, 24))
on_table("groups spelled `HC`", 0, change=_set(_controls, "group", "HC"), holds=people(24, 24))
on_table("six groups that mean nothing", 3, "group", change=_set(_six, "group", "arm 2"))
on_table("negative distances", 3, "tumor_distance_mm", change=_set(_six, "tumor_distance_mm", -4.0))
on_table("infinite distances", 3, "tumor_distance_mm", change=_set(_six, "tumor_distance_mm", np.inf))
on_table("a missed row with Dice 0.8", 3, "missed", change=_set(_six, "status", "missed"))
on_table(
    "Dice in percent",
    0,
    "dice from percent",
    change=lambda frame: frame.assign(value=frame["value"] * 100),
    holds=scores_of_sound,
)
on_table("Dice in percent, six patients as shares", 3, "percent", change=_in_percent_but_six)
on_table("Dice below 0", 3, "-0.2", change=_set(_six, "value", -0.2))
on_table("every row missed", 3, "", change=lambda frame: frame.assign(status="missed", value=0.0))
on_table(
    "hemispheres spelled L and R",
    0,
    change=lambda f: f.assign(hemisphere=f["hemisphere"].str[0].str.upper()),
    holds=people(24, 24),
)
on_table("hemispheres that mean nothing", 3, "hemisphere", change=_set(_six, "hemisphere", "up"))
on_table("the whole table twice", 3, "twice", change=lambda frame: pd.concat([frame, frame]))
on_table(
    "two sessions of everybody",
    3,
    "session",
    change=lambda f: pd.concat([f.assign(session="ses-1"), f.assign(session="ses-2")]),
)
on_table(
    "distances missing in six patients",
    0,
    "12 rows of 6 patients (no distance",
    change=_set(_six, "tumor_distance_mm", np.nan),
    holds=people(18, 24),
)
on_table("one control", 0, "", change=lambda f: f[_patients(f) | (f["participant_id"] == "sub-c01")])
on_table("one patient", 0, "", change=lambda f: f[_controls(f) | (f["participant_id"] == "sub-g01")])
on_table("no control", 3, "control", change=lambda f: f[_patients(f)])
on_table("no patient", 3, "glioma", change=lambda f: f[_controls(f)])
on_table("a column is missing", 3, "hemisphere", change=lambda f: f.drop(columns="hemisphere"))
on_table("decimal commas", 3, "value", change=lambda f: f.assign(value=f["value"].astype(str).str.replace(".", ",")))
for spelled, no in (("True", "False"), ("yes", "no"), ("1", "0")):
    on_table(
        f"controls seen, as {spelled}", 0, "12",
        change=lambda f, s=spelled, n=no: f.assign(
            seen=np.where(_controls(f) & (f["participant_id"].str[-2:].astype(int) <= 12), s, n)
        ),
        holds=people(24, 12),
    )  # fmt: skip
on_table("a formula as an identifier", 3, "participant_id", change=_set(_first, "participant_id", "=1+1"))
on_table("markup as a bundle", 3, "bundle", change=_set(_first, "bundle", "<img src=x onerror=alert(1)>"))
on_table("a path as an identifier", 3, "participant_id", change=_set(_first, "participant_id", "sub-../../x"))


@fault("score table", "a missing file", 3, "There is no table")
def _(bench: Bench) -> Words:
    return decompose(str(bench.here / "nothing.tsv"), bench)


@fault("score table", "a folder", 3, "folder")
def _(bench: Bench) -> Words:
    return decompose(str(bench.here), bench)


@fault("score table", "a device without an end", 3, "")
def _(bench: Bench) -> Words:
    return decompose("/dev/zero", bench)


@fault("score table", "a pipe that nobody writes to", 3, "")
def _(bench: Bench) -> Words:
    os.mkfifo(bench.here / "pipe.tsv")
    return decompose(str(bench.here / "pipe.tsv"), bench)


@fault("score table", "an image", 3, "")
def _(bench: Bench) -> Words:
    save(ball((20, 22, 18), 5), bench.here / "a.nii.gz")
    return decompose(str(bench.here / "a.nii.gz"), bench)


@fault("score table", "an empty file", 3, "")
def _(bench: Bench) -> Words:
    (bench.here / "empty.tsv").touch()
    return decompose(str(bench.here / "empty.tsv"), bench)


@fault("score table", "a tab too many in every line", 0, "", people(24, 24))
def _(bench: Bench) -> Words:
    path = Path(bench.table())
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *(f"{line}\t" for line in lines)]) + "\n")
    return decompose(str(path), bench)


@fault("score table", "UTF-8 with a byte order mark", 0, "", people(24, 24))
def _(bench: Bench) -> Words:
    path = Path(bench.table())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    return decompose(str(path), bench)


@fault("score table", "a folder of the user's as --out", 2, "")
def _(bench: Bench) -> Words:
    Path(bench.out, "tables").mkdir(parents=True)
    Path(bench.out, "config.toml").write_text("mine")
    return decompose(bench.table(), bench)


@fault(
    "score table",
    "a folder of the user's as --out, with --resume",
    2,
    "",
    lambda b: Path(b.out, "config.toml").read_text() == "mine",
)
def _(bench: Bench) -> Words:
    Path(bench.out, "tables").mkdir(parents=True)
    Path(bench.out, "config.toml").write_text("mine")
    return decompose(bench.table(), bench, "--resume")


# Masks of other tools -------------------------------------------------------------------------------------------------


@fault("masks", "sound masks", 0, "", dice(0.8333))
def _(bench: Bench) -> Words:
    bench.truth()
    return score(bench, bench.predictions())


for style, rename in {
    "AF_L": lambda n: n.replace("left", "_L").replace("right", "_R"),
    "af_l": lambda n: n.lower().replace("left", "_l").replace("right", "_r"),
    "left_AF": lambda n: ("left_" if "left" in n else "right_") + n.replace("left", "").replace("right", ""),
}.items():

    @fault("masks", f"bundles spelled {style}", 0, "", dice(0.8333))
    def _(bench: Bench, rename: Any = rename) -> Words:
        bench.truth()
        return score(bench, bench.predictions(rename=rename))


@fault("masks", "names that nobody knows", 4, "not understood")
def _(bench: Bench) -> Words:
    bench.truth()
    return score(bench, bench.predictions(rename=lambda n: n.replace("AF", "qq")))


@fault("masks", "the cohort's own CST, predictions of CST_left", 0, "", dice(0.8333))
def _(bench: Bench) -> Words:
    for path in list(bench.truth().rglob("*label-ILF*")):
        path.rename(str(path).replace("label-ILF", "label-CST"))
    rename = lambda n: n.replace("ILF", "CST").replace("left", "_left").replace("right", "_right")  # noqa: E731
    return score(bench, bench.predictions(rename=rename))


@fault("masks", "one bundle as .nii beside .nii.gz", 0, "", dice(0.8333))
def _(bench: Bench) -> Words:
    bench.truth()
    made = bench.predictions()
    path = made / "sub-02" / "AFleft.nii.gz"
    nib.save(nib.load(path), made / "sub-02" / "AFleft.nii")
    path.unlink()
    return score(bench, made)


def soft(mask: np.ndarray) -> np.ndarray:
    """A smooth map, 0 to 1."""
    from scipy import ndimage

    made = ndimage.gaussian_filter(mask.astype(float), 1.0)
    made[made < 0.02] = 0
    return made


for title, scale, dtype in (
    ("density, 0 to 0.02", 0.02, np.float32),
    ("percent, 0 to 100", 100, np.float32),
    ("counts", 5000, np.uint16),
):

    @fault("masks", f"maps of {title}", 3, "")
    def _(bench: Bench, scale: float = scale, dtype: Any = dtype) -> Words:
        bench.truth()
        return score(bench, bench.predictions(value=lambda mask: (soft(mask) * scale).astype(dtype)))


@fault("masks", "masks with NaN", 3, "NaN")
def _(bench: Bench) -> Words:
    bench.truth()
    return score(
        bench,
        bench.predictions(value=lambda m: np.where(np.arange(40)[:, None, None] < 3, np.nan, m).astype(np.float32)),
    )


@fault("masks", "a folder without any mask", 3, "")
def _(bench: Bench) -> Words:
    bench.truth()
    (bench.here / "nothing").mkdir()
    return score(bench, bench.here / "nothing")


@fault("masks", "a participant's folder is empty", 4, "sub-02")
def _(bench: Bench) -> Words:
    bench.truth()
    made = bench.predictions()
    for path in (made / "sub-02").iterdir():
        path.unlink()
    return score(bench, made)


@fault("masks", "a bundle written for some participants only", 3, "--unwritten")
def _(bench: Bench) -> Words:
    bench.truth()
    made = bench.predictions()
    (made / "sub-02" / "AFleft.nii.gz").unlink()
    return score(bench, made)


@fault("masks", "the same, with --unwritten missed", 0, "", dice(0.0, "missed", 1))
def _(bench: Bench) -> Words:
    bench.truth()
    made = bench.predictions()
    (made / "sub-02" / "AFleft.nii.gz").unlink()
    return [*score(bench, made), "--unwritten", "missed"]


@fault("masks", "a mask cut short", 4, "sub-01")
def _(bench: Bench) -> Words:
    bench.truth()
    path = bench.predictions() / "sub-01" / "AFleft.nii.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return score(bench, bench.here / "predictions")


def label_map(bench: Bench, kind: Any) -> Path:
    """Label maps of nnU-Net whose numbers may have gone through a scale factor."""
    made, names = bench.here / "nnunet", sorted(boxes(1))
    made.mkdir()
    labels = {"background": 0, **{name: number for number, name in enumerate(names, start=1)}}
    (made / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
    for number, seed in enumerate((1, 4, 7), start=1):
        array = np.zeros(SHAPE)
        for name, mask in boxes(seed).items():
            array[np.roll(mask, 1, axis=0)] = labels[name]
        nib.save(kind(array), made / f"sub-{number:02d}.nii.gz")
    return made


@fault("masks", "label maps scaled to int16, 3 read as 2.9999998", 0, "", dice(0.8333))
def _(bench: Bench) -> Words:
    def kind(array: np.ndarray) -> nib.Nifti1Image:
        image = nib.Nifti1Image(array, AFFINE)
        image.set_data_dtype(np.int16)
        return image

    bench.truth()
    return score(bench, label_map(bench, kind))


@fault("masks", "label maps with 1.4 in them", 3, "")
def _(bench: Bench) -> Words:
    bench.truth()
    return score(bench, label_map(bench, lambda array: nib.Nifti1Image(array * 1.4, AFFINE)))


@fault("masks", "affines rounded to three decimals", 0, "", dice(0.8333))
def _(bench: Bench) -> Words:
    affine = AFFINE.copy()
    affine[:3, 3] = (-60.1237, -66.4561, -54.7893)
    bench.truth(affine=affine)
    for path in bench.predictions().rglob("*.nii.gz"):
        save(np.asarray(nib.load(path).dataobj), path, np.round(affine, 3))
    return score(bench, bench.here / "predictions")


@fault(
    "masks", "scores over the cohort's own table", 2, "", lambda b: "age" in read(b.here / "truth" / "participants.tsv")
)
def _(bench: Bench) -> Words:
    truth = bench.truth()
    return [*score(bench, bench.predictions())[:-1], str(truth / "participants.tsv")]


# Cohorts --------------------------------------------------------------------------------------------------------------

for verb in ("decompose", "finetune", "features", "deform"):

    @fault("cohort", f"{verb} without controls", 2, "--reference")
    def _(bench: Bench, verb: str = verb) -> Words:
        model = [] if verb == "deform" else ["--model", "reference"]
        return [verb, *model, "--cohort", str(bench.cohort("glioma")), "--out", bench.out]


def regrouped(bench: Bench, word: str) -> Words:
    """The main job on a cohort in which two patients of four have another word for their group."""
    cohort = bench.cohort("glioma")
    frame = read(cohort / "participants.tsv")
    frame.loc[:1, "group"] = word
    write(frame, cohort / "participants.tsv")
    words = ["decompose", "--model", "reference", "--cohort", str(cohort), "--bundles", "AF", "--out", bench.out]
    return [*words, "--reference", str(bench.phantom / "healthy"), *FAST]


@fault("cohort", "two patients of four are `Patient`", 0, "", people(4, 4))
def _(bench: Bench) -> Words:
    return regrouped(bench, "Patient")


@fault(
    "cohort", "two patients of four are of group `arm 2`", 3, "arm 2", lambda b: not Path(b.out, "predictions").exists()
)
def _(bench: Bench) -> Words:
    return regrouped(bench, "arm 2")


@fault(
    "cohort", "controls numbered like the patients", 3, "stand in patients and controls",
    lambda b: not Path(b.out, "predictions").exists(),
)  # fmt: skip
def _(bench: Bench) -> Words:
    cohort = bench.cohort("glioma")
    for path in sorted(cohort.rglob("*sub-g*"), reverse=True):
        path.rename(path.with_name(path.name.replace("sub-g", "sub-h")))
    table = cohort / "participants.tsv"
    table.write_text(table.read_text().replace("sub-g", "sub-h"))
    words = ["decompose", "--model", str(bench.model), "--cohort", str(cohort), "--out", bench.out, *FAST]
    return [*words, "--reference", str(bench.phantom / "healthy"), "--device", "cpu"]


@fault(
    "cohort",
    "bundles that cannot be measured",
    0,
    "1 row of 1 participant (the mask holds nothing here); 1 row of 1 participant (the mask holds too little",
)
def _(bench: Bench) -> Words:
    patients, controls = bench.truth(), write_cohort(bench.here / "controls", (2, 5, 8), group="control")
    for path in [*bench.here.rglob("*label-ILF*"), *bench.here.rglob("*label-AFright*")]:
        path.unlink()
    one = np.zeros(SHAPE, bool)
    save(one, next(patients.glob("sub-01/dwi/*AFleft_mask*")))
    one[10, 12, 14] = True
    save(one, next(patients.glob("sub-02/dwi/*AFleft_mask*")))
    return ["deform", "--cohort", str(patients), "--reference", str(controls), "--out", bench.out, "--jobs", "1"]


@fault("cohort", "BraTS of a release that codes enhancing tumor 3", 3, "P2: --tumor-labels names enhancing tumor 4")
def _(bench: Bench) -> Words:
    for name, enhancing in (("P1", 4), ("P2", 3)):
        made = np.where(ball((20, 22, 18), 8), 2, 0)
        made[ball((20, 22, 18), 5)] = 1
        made[ball((20, 22, 18), 3)] = enhancing
        save(made.astype(np.uint8), bench.here / "brats" / name / f"{name}_seg.nii.gz")
    return ["import", "brats", str(bench.here / "brats"), bench.out, "--group", "glioma", "--tumor-labels", "1,4"]


@fault(
    "cohort",
    "a phantom where somebody's cohort lies",
    2,
    "no phantom",
    lambda b: len(read(b.here / "out" / "glioma" / "participants.tsv")) == 3,
)
def _(bench: Bench) -> Words:
    write_cohort(Path(bench.out) / "glioma", (1, 4, 7))
    return ["phantom", bench.out, "--n-healthy", "1", "--n-glioma", "1", "--spacing", "5"]


def checked(kind: str, name: str, code: int, says: str, holds: Any = None) -> Any:
    """A fault of a cohort that `check` is asked about."""

    def add(plant: Callable[[Path], None]) -> None:
        def words(bench: Bench) -> Words:
            plant(bench.truth())
            return ["check", str(bench.here / "truth"), "--jobs", "1"]

        FAULTS.append(Fault(kind, name, code, says, words, holds))

    return add


def _ages(bench: Bench) -> bool:
    """Whether everybody still has the age of the table."""
    return [case.number("age") for case in load_cohort(bench.here / "truth")] == [41, 42, 43]


@checked("cohort", "identifiers that lost their zeros", 0, "'sub-1' is read as sub-01", _ages)
def _(truth: Path) -> None:
    frame = read(truth / "participants.tsv")
    frame["participant_id"] = frame["participant_id"].str.replace("sub-0", "sub-")
    write(frame, truth / "participants.tsv")


@checked("cohort", "an image without sform and qform", 3, "")
def _(truth: Path) -> None:
    path = truth / "sub-01" / "dwi" / "sub-01_param-fa_dwimap.nii.gz"
    image = nib.load(path)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, path)


@checked("cohort", "a file that carries another's name", 3, "sub-02")
def _(truth: Path) -> None:
    path = truth / "sub-01" / "dwi" / "sub-01_label-AFleft_mask.nii.gz"
    path.rename(path.with_name("sub-02_label-AFleft_mask.nii.gz"))


@checked("cohort", "age 89+, as BIDS recommends", 0, "")
def _(truth: Path) -> None:
    path = truth / "participants.tsv"
    path.write_text(path.read_text().replace("\t41\t", "\t89+\t"))


@checked("cohort", "a byte order mark in dataset_description.json", 0, "")
def _(truth: Path) -> None:
    path = truth / "dataset_description.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


@checked("cohort", "a name that leaves the folder", 3, "")
def _(truth: Path) -> None:
    (truth / "sub-01").rename(truth / "sub-_.._.._x")
    path = truth / "participants.tsv"
    path.write_text(path.read_text().replace("sub-01", "sub-_.._.._x"))


# Models and settings --------------------------------------------------------------------------------------------------

for title, change in {
    "digest is gone": lambda b: b.pop("digest"),
    "thresholds is a list": lambda b: b.update(thresholds=[1]),
    "thresholds is empty": lambda b: b.update(thresholds={}),
    "thresholds are -1": lambda b: b.update(thresholds=dict.fromkeys(b["thresholds"], -1)),
    "shape is 0": lambda b: b.update(shape=[0, 0, 0]),
    "shape is 4096": lambda b: b.update(shape=[4096] * 3),
    "modality is a list": lambda b: b.update(modality=["fa"]),
    "patch is 1": lambda b: b.update(patch=[1, 1, 1]),
    "a bundle stands twice": lambda b: b["bundles"].__setitem__(1, b["bundles"][0]),
    "orientation is LPS": lambda b: b.update(orientation="LPS"),
}.items():

    @fault("model", title, 3, "")
    def _(bench: Bench, change: Any = change) -> Words:
        return bench.checkpoint(change)


@fault("model", "weights are NaN", 3, "not finite")
def _(bench: Bench) -> Words:
    made = bench.here / "model"
    shutil.copytree(bench.model, made)
    path = made / "models" / "model.safetensors"
    tensors = load_file(path)
    save_file({name: np.full_like(one, np.nan) for name, one in tensors.items()}, path)
    return bench.predict(made)


@fault("model", "a header that lies about its length", 3, "")
def _(bench: Bench) -> Words:
    made = bench.here / "model"
    shutil.copytree(bench.model, made)
    path = made / "models" / "model.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])
    return bench.predict(made)


for key, value in (
    ("spacing_mm", "nan"),
    ("spacing_mm", "inf"),
    ("spacing_mm", "0.003"),
    ("epochs", "-1"),
    ("modalty", '"fa"'),
):

    @fault("settings", f"{key} = {value} in the file", 2, key)
    def _(bench: Bench, key: str = key, value: str = value) -> Words:
        (bench.here / "c.toml").write_text(f"[train]\n{key} = {value}\n")
        words = ["train", "--cohort", str(bench.phantom / "healthy"), "--modality", "fa", "--out", bench.out]
        return [*words, "--config", str(bench.here / "c.toml")]


# Interrupted runs -----------------------------------------------------------------------------------------------------


@fault("resume", "an image changed after its prediction", 2, "")
def _(bench: Bench) -> Words:
    cohort = bench.cohort("glioma", 2)
    assert run([*bench.predict(bench.model, cohort), "-q"]).code == 0
    path = next(cohort.rglob("*param-fa_dwimap.nii.gz"))
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * 0.5, image.affine, image.header), path)
    return [*bench.predict(bench.model, cohort), "--resume"]


@fault("resume", "folds of other settings", 2, "epochs")
def _(bench: Bench) -> Words:
    words = ["finetune", "--model", str(bench.model), "--cohort", str(bench.phantom / "glioma"), "--reference"]
    words += [str(bench.phantom / "healthy"), "--folds", "2", "--device", "cpu", "--out", bench.out, "--epochs"]
    assert run([*words, "2", "-q"]).code == 0
    shutil.rmtree(Path(bench.out, "fold-2"))
    return [*words, "1", "--resume"]


@fault("resume", "a patient joined after the folds were trained", 2, "")
def _(bench: Bench) -> Words:
    cohort = bench.cohort("glioma", 3)
    words = ["finetune", "--model", str(bench.model), "--cohort", str(cohort), "--reference"]
    words += [str(bench.phantom / "healthy"), "--folds", "2", "--device", "cpu", "--epochs", "1", "--out", bench.out]
    assert run([*words, "-q"]).code == 0
    shutil.rmtree(cohort)
    shutil.copytree(bench.phantom / "glioma", cohort)
    return [*words, "--resume"]


@fault("resume", "an unfinished prediction is scored", 3, "unfinished")
def _(bench: Bench) -> Words:
    cohort = bench.cohort("glioma")
    words = [sys.executable, "-c", "from shiftkit.cli import entry; entry()", *bench.predict(bench.model, cohort)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(Path(bench.out).rglob("*_mask.nii.gz")):
        time.sleep(0.02)
    process.kill()
    process.wait()
    return score(bench, Path(bench.out), cohort)


# Signals and machines: these need a process of their own --------------------------------------------------------------


def process(words: Words, **options: Any) -> "subprocess.Popen[str]":
    """The command line in a new process."""
    call = [sys.executable, "-c", "from shiftkit.cli import entry; entry()", *words]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def workers_of(pid: int) -> list[int]:
    """Processes below one."""
    import psutil

    return [one.pid for one in psutil.Process(pid).children(recursive=True)]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not yet fetched does not."""
    import psutil

    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def is_at_work(pid: int) -> bool:
    """Whether a process has more behind it than its start, which is no second of computing."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).cpu_times().user > 1
    return False


def signaled(sent: signal.Signals) -> tuple[Outcome, str]:
    """Stop a training after its first step; its outcome, and what deviates."""
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch))
        bench.start()
        words = ["train", "--cohort", str(bench.phantom / "healthy"), "--modality", "fa", "--spacing", "5"]
        running = process([*words, "--epochs", "500", "--device", "cpu", "--out", bench.out])
        while running.poll() is None and not list(Path(bench.out).rglob("*.safetensors")):
            time.sleep(0.05)
        running.send_signal(sent)
        start = time.perf_counter()
        said = running.communicate(timeout=60)[0]
        seconds = time.perf_counter() - start
    return Outcome(running.returncode, said), "" if seconds < 2 else f"ended after {seconds:.1f} s"


def orphans() -> tuple[Outcome, str]:
    """Kill a command −9 while its workers score; how many of them are alive 2 s later."""
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch))
        bench.start()
        bench.truth(seeds=tuple(range(60)))
        words = [word if word != "1" else "2" for word in score(bench, bench.here / "truth")]
        running = process(words)
        while running.poll() is None and sum(map(is_at_work, workers_of(running.pid))) < 2:
            time.sleep(0.02)
        below = workers_of(running.pid)
        running.kill()
        running.wait()
        time.sleep(2)
        alive = [pid for pid in below if is_alive(pid)]
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return Outcome(
        running.returncode, f"{len(alive)} of {len(below)} workers alive"
    ), "" if not alive else "workers outlived it"


def two_runs() -> tuple[Outcome, str]:
    """Two decompositions into one folder at the same time: one result, and one refusal or two results in turn."""
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch))
        bench.start()
        table = bench.table()
        both = [process(decompose(table, bench, "--seed", seed)) for seed in ("0", "5")]
        said = [one.communicate(timeout=300)[0] for one in both]
        codes = sorted(one.returncode for one in both)
    refused = next((text for one, text in zip(both, said, strict=True) if one.returncode), "")
    return Outcome(codes[-1], refused), "" if codes[0] == 0 and codes[1] in (1, 2) else f"exit codes {codes}"


def no_room() -> tuple[Outcome, str]:
    """A disk that takes no file over 40 kB, as a full one does in the middle of writing; then one that does."""

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch))
        bench.start()
        words = decompose(bench.table(), bench)
        running = process(words, preexec_fn=small)
        said = running.communicate(timeout=300)[0]
        half = [path.name for path in Path(bench.out).rglob(".part-*")]
        again = run([*words, "--resume"])
        resumed, out = _bytes(Path(bench.out)), Path(bench.out)
        shutil.rmtree(out)
        run(words)
        same = resumed == _bytes(out)
    wrong = [f"left {half}"] if half else []
    wrong += [f"--resume ended with {again.code}"] if again.code else []
    wrong += [] if same else ["--resume gives other bytes"]
    wrong += ["no sentence"] if "could not read or write" not in said else []
    return Outcome(running.returncode, said), "; ".join(wrong)


def _bytes(root: Path) -> dict[str, bytes]:
    """Tables and figures of a run."""
    kept = (path for path in sorted(root.rglob("*")) if path.suffix in (".tsv", ".svg", ".toml"))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in kept}


def killed_worker() -> tuple[Outcome, str]:
    """Kill one of the workers that score."""
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch))
        bench.start()
        bench.truth(seeds=tuple(range(60)))
        running = process([word if word != "1" else "2" for word in score(bench, bench.here / "truth")])
        victims: list[int] = []
        while running.poll() is None and not victims:
            time.sleep(0.02)
            victims = [pid for pid in workers_of(running.pid) if is_at_work(pid)]
        for victim in victims[:1]:
            os.kill(victim, signal.SIGKILL)
        said = running.communicate(timeout=300)[0]
        left = [path.name for path in bench.here.iterdir() if path.name.startswith(("scores", ".part-"))]
    wrong = [] if "worker process was killed" in said else ["no sentence"]
    return Outcome(running.returncode, said), "; ".join(wrong + ([f"left {left}"] if left else []))


MACHINE: dict[str, tuple[int, Callable[[], tuple[Outcome, str]]]] = {
    "SIGINT while training": (130, lambda: signaled(signal.SIGINT)),
    "SIGTERM while training": (130, lambda: signaled(signal.SIGTERM)),
    "SIGKILL while workers score": (-9, orphans),
    "a worker is killed": (1, killed_worker),
    "no room on the disk": (1, no_room),
    "two runs into one folder": (1, two_runs),
}


def rows(only: str, bench: Bench) -> Iterator[tuple[str, bool]]:
    """A line of the table for every fault, and whether all is right."""
    for one in FAULTS:
        if only in one.name or only in one.kind:
            bench.start()
            try:
                words = one.plant(bench)
                outcome = run(words, most_s=one.most_s)
                wrong = [] if outcome.code == one.code else [f"exit {one.code} is right"]
                wrong += [] if one.says in outcome.said else [f"says nothing of “{one.says}”"]
                wrong += ["Internal error"] if "Internal error" in outcome.said or "Traceback" in outcome.said else []
                if not wrong and one.holds is not None and not one.holds(bench):
                    wrong.append("a value is wrong")
            except Exception as error:  # the harness goes on, and says so
                words, outcome, wrong = ["?"], Outcome(-1, f"{type(error).__name__}: {error}"), ["could not be planted"]
            yield told(one.kind, one.name, words, bench, outcome, wrong), not wrong
    for name, (code, plant) in MACHINE.items():
        if only in name or only == "machine":
            outcome, deviation = plant()
            wrong = [deviation] if deviation else []
            wrong += [] if outcome.code == code else [f"exit {code} is right"]
            yield told("machine", name, [], bench, outcome, wrong), not wrong


def told(kind: str, name: str, words: Words, bench: Bench, outcome: Outcome, wrong: list[str]) -> str:
    """One line of the table."""
    command = " ".join(words).replace(f"{bench.here if bench.number else ''}/", "").replace(f"{bench.root}/", "")
    last = outcome.last.replace(f"{bench.here if bench.number else ''}/", "").replace(f"{bench.root}/", "")
    last = last[:160].replace("|", "/").replace("<", "&lt;")
    return f"| {kind} | {name} | `{command}` | {outcome.code}: {last} | {'; '.join(wrong) or 'right'} |"


TABLE = Path(__file__).with_name("reliability.md")
RIGHT = "| right |"


def _known() -> dict[str, str]:
    """Lines of earlier calls, by kind and name, of faults that are still planted."""
    lines = TABLE.read_text(encoding="utf-8").splitlines() if TABLE.is_file() else []
    names = [*((one.kind, one.name) for one in FAULTS), *(("machine", name) for name in MACHINE)]
    starts = [f"| {kind} | {name} | " for kind, name in names]
    return {start: line for start in starts for line in lines if line.startswith(start)}


def write_lines(lines: list[str]) -> None:
    """The table as far as it is known: these lines, and for all other faults those of the latest call."""
    known = _known()
    for line in lines:
        kind, name = line.split(" | ")[:2]
        known[f"{kind} | {name} | "] = line
    wrong = sum(not line.endswith(RIGHT) for line in known.values())
    head = [
        "# Planted faults",
        "",
        f"`python benchmarks/reliability.py`: {len(known)} faults, {wrong} deviations from what is right.",
        "",
        "| kind | fault | command | exit code and last line | |",
        "|---|---|---|---|---|",
    ]
    order = [*((one.kind, one.name) for one in FAULTS), *(("machine", name) for name in MACHINE)]
    kept = [known[start] for kind, name in order if (start := f"| {kind} | {name} | ") in known]
    TABLE.write_text("\n".join([*head, *kept]) + "\n", encoding="utf-8")


def main() -> None:
    """Plant all, write the table, fail on any deviation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="Faults whose kind or name holds this.")
    only = parser.parse_args().only
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for line, _ in rows(only, Bench(Path(scratch))):
            print(line, flush=True)
            lines.append(line)
            write_lines(lines)
    deviations = sum(not line.endswith(RIGHT) for line in lines)
    print(f"{len(lines)} faults, {deviations} deviations.")
    sys.exit(bool(deviations))


if __name__ == "__main__":
    main()
