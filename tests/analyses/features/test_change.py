"""Change of layers: the one that was moved is named."""

import dataclasses

import numpy as np
import pytest
from makers.feature_cohorts import embeddings

from shiftkit.analyses.features.change import layer_change
from shiftkit.errors import DataError


def test_cka_names_the_layer_that_was_moved() -> None:
    """A layer that was replaced by noise has the lowest CKA; one that was rotated stays at 1."""
    made = embeddings(12, 12)
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    noise = rng.standard_normal(made.layers["encoder-2"].shape)
    tuned = dataclasses.replace(
        made, model="tuned", layers={"encoder-1": made.layers["encoder-1"] @ rotation, "encoder-2": noise}
    )
    result = layer_change(made, tuned)
    table = result.to_frame().set_index("layer")
    assert table.loc["encoder-1", "cka"] == pytest.approx(1.0, abs=1e-5)
    assert table.loc["encoder-2", "high"] < 0.5
    assert "encoder-2 most" in result.claim
    with pytest.raises(DataError, match="have none"):
        layer_change(made, dataclasses.replace(tuned, rows=made.rows.assign(participant_id="sub-x")))
