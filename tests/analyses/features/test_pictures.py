"""The picture of feature space: fitted on controls, repeatable."""

import numpy as np
import pytest
from makers.feature_cohorts import embeddings

from shiftkit.analyses.features.pictures import control_components, umap


@pytest.mark.slow
def test_the_same_seed_gives_the_same_umap() -> None:
    """Two calls give the same coordinates, to the bit; another seed gives others."""
    scores = np.random.default_rng(0).normal(size=(60, 5))
    np.testing.assert_array_equal(umap(scores, seed=3), umap(scores, seed=3))
    assert not np.array_equal(umap(scores, seed=3), umap(scores, seed=4))


def test_components_are_fitted_on_controls_only() -> None:
    """Patients' values change nothing in the controls' coordinates."""
    made = embeddings(10, 10)
    vectors = made.layers["encoder-2"].astype(float)
    controls = (made.rows["group"] == "control").to_numpy()
    far = np.where(controls[:, None], vectors, vectors + 100)
    first, second = (control_components(each, controls)[controls] for each in (vectors, far))
    np.testing.assert_allclose(first, second)
