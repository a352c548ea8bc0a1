"""The invented score table of ``docs/data/spreadsheet.md``; ``python docs/data/example_scores.py`` writes it."""

from pathlib import Path

import numpy as np
import pandas as pd


def main() -> None:
    """Dice in percent of 24 patients and 20 controls: 6 are lost everywhere, up to 12 more where the tumor is."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for group, count in (("Patient", 24), ("HC", 20)):
        for number in range(1, count + 1):
            person, side = rng.normal(0, 3), ("left", "right")[number % 2]
            row: dict[str, object] = {"ID": f"{group}{number:02d}", "Group": group, "Age": int(rng.integers(25, 70))}
            for bundle in ("AF_left", "AF_right", "FAT_left", "FAT_right", "CST_left", "CST_right"):
                far_mm = rng.uniform(0, 25) if bundle.endswith(side) else rng.uniform(35, 70)
                drop = 6 + 12 * np.exp(-far_mm / 10) if group == "Patient" else 0
                row[bundle] = round(78 + person + rng.normal(0, 3) - drop, 1)
                row[f"distance_{bundle}"] = round(far_mm, 1) if group == "Patient" else None
            rows.append(row)
    pd.DataFrame(rows).to_csv(Path(__file__).with_name("example-scores.csv"), index=False)


if __name__ == "__main__":
    main()
