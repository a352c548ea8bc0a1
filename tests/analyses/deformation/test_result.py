"""The healthy range."""

import numpy as np
import pandas as pd
import pytest
from makers.bundles import rows_of

from shiftkit.analyses.deformation.result import ranked, with_healthy_range


def test_controls_are_ranked_among_the_others() -> None:
    """Over many controls of one distribution, left-out percentiles are uniform and z-scores standard."""
    values = np.random.default_rng(0).normal(4, 1, 400).tolist()
    table = with_healthy_range(rows_of({"control": values}), {}).table
    assert table["percentile"].between(0, 100).all()
    assert np.quantile(table["percentile"], [0.1, 0.5, 0.9]) == pytest.approx([10, 50, 90], abs=1.5)
    assert (table["z"].mean(), table["z"].std()) == pytest.approx((0, 1), abs=0.02)


def test_ties_count_half_and_a_missing_place_has_a_status() -> None:
    """A patient like half of the controls lies at the 50th percentile; a point where nothing is left has a word."""
    result = with_healthy_range(rows_of({"control": [1.0, 2.0, 2.0, 3.0], "glioma": [2.0]}), {})
    patient = result.patients.iloc[0]
    assert patient["percentile"] == 50
    assert patient["z"] == pytest.approx(0)
    gone = result.profiles[result.profiles["point"] == 2]
    assert set(gone["status"]) == {"empty"}
    assert gone["v_norm_mm"].isna().all()


def test_controls_that_do_not_vary_give_a_percentile_and_a_word_instead_of_z() -> None:
    """With controls all alike there is no z-score and the row says constant; with too few there is neither number."""
    alike = with_healthy_range(rows_of({"control": [2.0, 2.0, 2.0, 2.0], "glioma": [5.0]}), {})
    patient = alike.patients.iloc[0]
    assert (patient["percentile"], patient["range_status"], patient["status"]) == (100, "constant", "ok")
    assert np.isnan(patient["z"])
    few = with_healthy_range(rows_of({"control": [2.0], "glioma": [5.0]}), {}).patients.iloc[0]
    assert few["range_status"] == "too_few"
    assert np.isnan([few["percentile"], few["z"]]).all()
    for frame in (alike.table, alike.profiles):
        assert (frame["z"].notna() == (frame["range_status"] == "ok")).all()


def test_the_share_by_chance_is_what_healthy_people_show() -> None:
    """Patients of the controls' own distribution lie beyond as often as the claim says: 10 controls, and 40."""
    rng = np.random.default_rng(1)
    for n, chance in ((10, 1 / 11), (40, 2 / 41)):
        draws = [
            pd.DataFrame({"group": ["control"] * n + ["glioma"] * 40, "v_norm_mm": rng.normal(size=n + 40)})
            for _ in range(60)
        ]
        frame = pd.concat([one.assign(draw=index, status="ok") for index, one in enumerate(draws)], ignore_index=True)
        patients = ranked(frame, ["draw"]).query("group == 'glioma'")
        assert (patients["percentile"] > 95).mean() == pytest.approx(chance, abs=0.02)
