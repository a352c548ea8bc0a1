import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shiftkit.analyses.comparison import compare
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.catalogue import DECOMPOSITION, SCORES
from shiftkit.errors import DataError
from shiftkit.tables import read_table, write_table


def scores(shift: float, n: int = 12, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    base = {"cohort": "c", "group": "glioma", "model": "m", "modality": "fa", "side": "ipsi", "metric": "dice"}
    rest = {"unit": "1", "status": "ok", "tumor_distance_mm": 5.0}
    return pd.DataFrame(
        [
            {**base, **rest, "participant_id": f"sub-{i}", "bundle": b, "hemisphere": "left"}
            | {"value": 0.7 + shift + rng.normal(0, 0.001)}
            for i in range(n)
            for b in ("AF", "PYT")
        ]
    )


def run(folder: Path, shift: float, **configuration: object) -> Path:
    write_table(scores(shift), SCORES, folder / "tables" / "scores.tsv")
    row = {"model": "m", "modality": "fa", "bundle": "all", "hemisphere": "all", "metric": "dice"}
    rest = {"low": 0.1, "high": 0.3, "p_value": 0.01, "p_adjusted": 0.01, "n_patients": 12, "n_controls": 9}
    rest |= {
        "stratum": "all",
        "level": 0.95,
        "bound_low": 0.1,
        "bound_high": 0.3,
        "word": "shown",
        "exploratory": "yes",
    }
    components = [
        {**row, **rest, "method": "anchored", "component": name, "estimate": 0.2 - shift, "status": "ok"}
        for name in ("total", "systematic", "tumor")
    ]
    write_table(pd.DataFrame(components), DECOMPOSITION, folder / "tables" / "decomposition.tsv")
    record = {"verdict": "v.", "configuration": configuration, "started": str(shift)}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_paired_difference_is_found_with_its_sign(tmp_path: Path) -> None:
    """A second run 0.05 better in every patient is said to be so, with an interval around it and a small p."""
    found = compare(run(tmp_path / "a", 0.0), run(tmp_path / "b", 0.05))
    one = found.difference
    assert one.low <= 0.05 + 0.001 and one.high >= 0.05 - 0.001 and one.value == pytest.approx(0.05, abs=0.002)
    assert one.n == 12 and one.p_value < 0.01
    assert "+0.05" in str(found) and "anchored m total: 0.200 [0.100, 0.300] | 0.150" in str(found)


def test_the_interval_is_the_one_of_every_other_study(tmp_path: Path) -> None:
    """Patients are drawn, not rows, and percentiles are moved outwards as for any mean over so many of them."""
    folders = run(tmp_path / "a", 0.0), run(tmp_path / "b", 0.05)
    write_table(scores(0.05, seed=1), SCORES, folders[1] / "tables" / "scores.tsv")
    inference = Inference(n_bootstrap=300, seed=3, level=0.9)
    found = compare(*folders, inference=inference).difference
    frames = [read_table(folder / "tables" / "scores.tsv", SCORES) for folder in folders]
    means = [frame.groupby("participant_id")["value"].mean() for frame in frames]
    changes = (means[1] - means[0]).to_numpy()
    expected = inference.interval(inference.weights((12,)) @ changes / 12, 12)
    assert (found.low, found.high, found.level) == pytest.approx((*expected, 0.9))
    plain = np.quantile(inference.weights((12,)) @ changes / 12, [0.05, 0.95])
    assert found.low < plain[0] and found.high > plain[1]


def test_only_what_differs_is_listed(tmp_path: Path) -> None:
    """Settings that are the same, and times, are not listed; one that differs is, with both values."""
    found = compare(run(tmp_path / "a", 0.0, seed=1, level=0.95), run(tmp_path / "b", 0.0, seed=2, level=0.95))
    assert found.settings.to_dict("records") == [{"setting": "configuration.seed", "first": "1", "second": "2"}]


def test_a_folder_that_is_no_run_is_a_clear_error(tmp_path: Path) -> None:
    """Without run.json the error says what is missing."""
    with pytest.raises(DataError, match=r"has no run\.json"):
        compare(tmp_path, tmp_path)
