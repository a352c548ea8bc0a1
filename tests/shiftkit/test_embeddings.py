"""Embeddings on disk."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from makers.feature_cohorts import embeddings

from shiftkit.embeddings import Embeddings
from shiftkit.errors import DataError


def test_embeddings_survive_the_disk_to_the_byte(tmp_path: Path) -> None:
    """Saved and read back they are equal, and the file the same; one damaged or made otherwise is refused by name."""
    made = embeddings(3, 3)
    made.save(tmp_path / "a.npz", digest="x")
    back = Embeddings.load(tmp_path / "a.npz")
    pd.testing.assert_frame_equal(made.rows, back.rows)
    np.testing.assert_array_equal(made.layers["encoder-2"], back.layers["encoder-2"])
    back.save(tmp_path / "b.npz", digest="x")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert len(Embeddings.load(tmp_path / "a.npz", digest="x").rows) == len(made.rows)
    with pytest.raises(DataError, match=r"a\.npz"):
        Embeddings.load(tmp_path / "a.npz", digest="y")
    (tmp_path / "c.npz").write_bytes(b"PK not a zip")
    with pytest.raises(DataError, match=r"c\.npz"):
        Embeddings.load(tmp_path / "c.npz")
