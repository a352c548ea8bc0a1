"""The picture of feature space: fitted on controls, repeatable."""

import numpy as np
from makers.feature_cohorts import embeddings

from shiftkit.analyses.features.pictures import control_components


def test_components_are_fitted_on_controls_only() -> None:
    """Patients' values change nothing in the controls' coordinates."""
    made = embeddings(10, 10)
    vectors = made.layers["encoder-2"].astype(float)
    controls = (made.rows["group"] == "control").to_numpy()
    far = np.where(controls[:, None], vectors, vectors + 100)
    first, second = (control_components(each, controls)[controls] for each in (vectors, far))
    np.testing.assert_allclose(first, second)
