"""What the comparisons of features say and draw."""

import pytest
from makers.feature_cohorts import embeddings, shift_of

from shiftkit.analyses.features.findings import bundle_shifts, compared
from shiftkit.types import Bundle


def test_results_speak_draw_and_show_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, HTML, tidy frame and axes; pictures are labelled as pictures; of few points there is PCA alone."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    monkeypatch.setattr("shiftkit.analyses.features.pictures._FEWEST", 1000)
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


def test_each_bundle_and_hemisphere_gets_its_own_shift() -> None:
    """A bundle's finding holds the total contrast of its hemisphere and the other two of both; the figure is theirs."""
    shift = shift_of(embeddings(8, 8, tumor=2.0, seed=1))
    found = bundle_shifts(shift.table)
    named = shift.table[~shift.table["bundle"].isin(["all"]) & ~shift.table["hemisphere"].isin(["all"])]
    sides = {tuple(one) for one in named[["bundle", "hemisphere"]].drop_duplicates().itertuples(index=False)}
    assert {(one.name, one.hemisphere) for one in found} == sides and len(sides) > 1
    for bundle, one in found.items():
        table = one.table
        assert table is not None and set(table["bundle"]) == {bundle.name} and set(table["statistic"]) == {"mmd2"}
        total = table["contrast"] == "total"
        assert set(table.loc[total, "hemisphere"]) == {bundle.hemisphere}
        assert set(table.loc[~total, "hemisphere"]) == {"all"}
        drawn = one.plot()
        assert [tick.get_text() for tick in drawn.get_xticklabels()] == list(dict.fromkeys(table["layer"]))
    midline = shift.table.assign(hemisphere="all").drop_duplicates(
        ["bundle", "layer", "contrast", "statistic", "region"]
    )
    assert {one.hemisphere for one in bundle_shifts(midline)} == {"none"}
    assert all(Bundle(name=one.name, hemisphere="none") == one for one in bundle_shifts(midline))
