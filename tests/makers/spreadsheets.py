"""The same score table as people write it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd


def long_table(seed: int = 4, n_patients: int = 24, n_controls: int = 20) -> pd.DataFrame:
    """Dice of ten bundles; patients lose 0.06 everywhere and up to 0.12 where the tumor is."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for group, count in (("glioma", n_patients), ("control", n_controls)):
        for number in range(1, count + 1):
            person, side = rng.normal(0, 0.03), ("left", "right")[number % 2]
            for bundle in ("AF", "FAT", "IFOF", "ILF", "PYT"):
                for hemisphere in ("left", "right"):
                    near = rng.uniform(0, 25) if hemisphere == side else rng.uniform(35, 70)
                    drop = 0.06 + 0.12 * np.exp(-near / 10) if group == "glioma" else 0.0
                    row = {
                        "participant_id": f"{'P' if group == 'glioma' else 'C'}{number:02d}",
                        "group": group,
                        "bundle": bundle,
                        "hemisphere": hemisphere,
                        "metric": "dice",
                        "value": round(float(0.78 + person + rng.normal(0, 0.03) - drop), 4),
                        "tumor_distance_mm": round(float(near), 1) if group == "glioma" else np.nan,
                        "tumor_side": side if group == "glioma" else "n/a",
                    }
                    rows.append(row)
    return pd.DataFrame(rows)


def joined(base: pd.DataFrame) -> pd.DataFrame:
    """The side in the bundle's name, and no metric."""
    named = base.assign(bundle=base["bundle"] + "_" + base["hemisphere"])
    return named.drop(columns=["hemisphere", "metric"])


def wide(base: pd.DataFrame) -> pd.DataFrame:
    """A column a bundle, and one for its distance."""
    long, keys = joined(base), ["participant_id", "group", "tumor_side"]
    values = long.pivot(index=keys, columns="bundle", values="value")
    far = long.pivot(index=keys, columns="bundle", values="tumor_distance_mm").add_prefix("distance_")
    return values.join(far).reset_index()


def renamed(base: pd.DataFrame) -> pd.DataFrame:
    """Other names of columns and groups."""
    names = {"participant_id": "Subject", "group": "Group", "bundle": "Tract", "hemisphere": "Side", "value": "DSC"}
    words = {"glioma": "Patient", "control": "HC"}
    told = base.assign(group=base["group"].map(words)).drop(columns=["metric"])
    return told.rename(columns={**names, "tumor_distance_mm": "Distance (mm)"})


def _with_trailing_tabs(base: pd.DataFrame, path: Path) -> None:
    lines = base.to_csv(sep="\t", index=False, na_rep="n/a").splitlines()
    path.write_bytes(("\t\r\n".join(lines) + "\t\r\n").encode())


SPELLINGS: Mapping[str, Callable[[pd.DataFrame, Path], object]] = {
    "long.tsv": lambda base, path: base.to_csv(path, sep="\t", index=False, na_rep="n/a"),
    "comma.csv": lambda base, path: base.to_csv(path, index=False),
    "semicolon.csv": lambda base, path: base.to_csv(path, sep=";", decimal=",", index=False, encoding="utf-8-sig"),
    "sheet.xlsx": lambda base, path: base.to_excel(path, index=False),
    "frame.parquet": lambda base, path: base.to_parquet(path, index=False),
    "percent.csv": lambda base, path: base.assign(value=100 * base["value"]).to_csv(path, index=False),
    "own_names.csv": lambda base, path: renamed(base).to_csv(path, index=False),
    "capitals.csv": lambda base, path: base.assign(group=base["group"].str.capitalize() + " ").to_csv(
        path, index=False
    ),
    "side_in_bundle.csv": lambda base, path: joined(base).to_csv(path, index=False),
    "wide.csv": lambda base, path: wide(base).to_csv(path, index=False),
    "trailing_tabs.tsv": _with_trailing_tabs,
}
NEEDS = {"sheet.xlsx": "openpyxl", "frame.parquet": "pyarrow"}
