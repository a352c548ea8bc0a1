"""What the comparisons of features say and draw."""

import pytest
from makers.feature_cohorts import embeddings, shift_of

from shiftkit.analyses.features.findings import compared


def test_results_speak_draw_and_show_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, HTML, tidy frame and axes; pictures are labelled as pictures; without umap-learn there is PCA alone."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    monkeypatch.setattr("shiftkit.analyses.features.pictures.find_spec", lambda name: None)
    before, after = (shift_of(embeddings(8, 8, tumor=t, seed=1)) for t in (2.0, 0.0))
    found = (*before.findings, compared(before, after))
    keys = [finding.key for finding in found]
    assert keys == ["features", "features-bundles", "features-directions", "features-picture", "features-m"]
    assert before.claim == found[0].claim and before.estimates == found[0].estimates
    for finding in found:
        assert finding.claim and finding.alt
        axes = finding.plot()
        if finding.key == "features-picture":
            assert "a picture, no test" in axes.get_title()
            assert "no evidence" in finding.claim
        plt.close(axes.figure)
    assert "Tumor-related" in before._repr_html_() and "MMD²" in str(before)
