"""Whose vectors are compared: missing bundles, mirrored hemispheres, controls that stand in for a side, statuses."""

import numpy as np
import pytest
from makers.feature_cohorts import embeddings, shift_of, with_layers

from shiftkit.analyses.features.samples import Roster, cells
from shiftkit.embeddings import Embeddings


def test_a_missing_bundle_leaves_its_owner_out_of_that_bundle_alone() -> None:
    """One control without the left AF: 19 there, 20 elsewhere."""
    made = embeddings()
    rows = made.rows
    gone = (rows["participant_id"] == "sub-000") & (rows["bundle"] == "AF") & (rows["hemisphere"] == "left")
    kept = Embeddings(
        model="m",
        modality="peaks",
        rows=rows[~gone].reset_index(drop=True),
        layers={name: vectors[~gone.to_numpy()] for name, vectors in made.layers.items()},
    )
    table = shift_of(kept, ("mmd2",)).to_frame()
    total = table[(table["contrast"] == "total") & (table["layer"] == "encoder-1")].set_index(["bundle", "hemisphere"])
    assert total.loc[("AF", "left"), "n_source"] == 19
    assert total.loc[("AF", "right"), "n_source"] == 20
    assert total.loc[("ILF", "all"), "n_source"] == 20


def test_every_control_lends_one_hemisphere_in_the_patients_proportion() -> None:
    """With 15 left and 5 right tumors, 12 of 16 controls stand in for left."""
    made = embeddings(16, 20, sides=("left",) * 15 + ("right",) * 5)
    roster = Roster.of(made, np.random.default_rng(0))
    assert (roster.side[~roster.patient] == "left").sum() == 12
    systematic = next(c for c in cells(made, roster) if c.contrast == "systematic" and c.bundle == "AF")
    assert systematic.sample is not None
    assert len(systematic.sample.person) == len(set(systematic.sample.person.tolist())) == 36


def test_a_constant_layer_and_nan_features_have_a_status() -> None:
    """A layer that says the same of everyone is ``constant``; one with NaN is ``not_finite``; the others go on."""
    made = embeddings(tumor=2.0)
    broken = made.layers["encoder-2"].copy()
    broken[5, 0] = np.nan
    constant = np.full_like(made.layers["encoder-1"], 0.7)
    result = shift_of(with_layers(made, {"flat": constant, "broken": broken}))
    table = result.to_frame()
    assert set(table.loc[table["layer"] == "flat", "status"]) == {"constant"}
    assert "not_finite" in set(table.loc[table["layer"] == "broken", "status"])
    assert table.loc[table["status"].isin(["constant", "not_finite"]), "value"].isna().all()
    assert table.loc[table["layer"] == "encoder-1", "value"].notna().all()


def test_infinite_features_have_a_status() -> None:
    """Infinity of a network never becomes a number of the table."""
    made = embeddings()
    vectors = made.layers["encoder-1"].copy()
    vectors[0] = np.inf
    table = shift_of(with_layers(made, {"encoder-1": vectors})).to_frame()
    row = table[(table["layer"] == "encoder-1") & (table["bundle"] == "AF") & (table["hemisphere"] == "left")]
    assert set(row["status"]) == {"not_finite"}


def test_tumors_on_one_side_only_withhold_the_tumor_part() -> None:
    """Left tumors only: side and hemisphere cannot be told apart; total and systematic are given."""
    result = shift_of(embeddings(10, 10, sides=("left",) * 10), ("mmd2",))
    assert set(result.pooled("tumor")["status"]) == {"split_withheld"}
    assert result.pooled("systematic")["value"].notna().all()


def test_bilateral_tumors_take_part_in_total_only() -> None:
    """They are counted in total, left out of the others, and the notes say so."""
    sides = ("left", "right") * 5 + ("bilateral", "n/a")
    result = shift_of(embeddings(10, 12, sides=sides), ("mmd2",))
    assert set(result.pooled("total")["n_target"]) == {12}
    assert set(result.pooled("tumor")["n_target"]) == {10}
    assert "2 patients" in result.notes[0]


@pytest.mark.parametrize(("n_controls", "n_patients"), [(20, 1), (1, 20), (3, 3)])
def test_one_participant_is_too_few(n_controls: int, n_patients: int) -> None:
    """No contrast between controls and patients with fewer than four on a side, and the sentence says so."""
    result = shift_of(embeddings(n_controls, n_patients))
    assert set(result.pooled("total")["status"]) == {"too_few"}
    assert result.pooled("total")["value"].isna().all()
    assert "Too few participants" in str(result)
