"""Agreement: paired differences on the same rows, judged by their own intervals."""

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from makers import simulated
from makers.decompositions import FAST, pooled
from scipy import special

from shiftkit.analyses.decomposition.agreement import cross_checked
from shiftkit.analyses.decomposition.result import Settings
from shiftkit.analyses.decomposition.rows import build_rows
from shiftkit.analyses.decomposition.sentences import disagreements
from shiftkit.analyses.decomposition.split import split
from shiftkit.analyses.decomposition.study import decompose
from shiftkit.analyses.decomposition.verdict import Part, Verdict
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.status import Status


def test_differences_are_those_of_the_tables_numbers() -> None:
    """Each difference is the other estimator's row less the primary one, with an interval around it."""
    result = decompose(simulated.scores(40, 40, tumor=0.8, decay_mm=6.0), **FAST)
    assert result.status == "ok"
    rows = result.agreement[result.agreement["rows"] == "all"]
    assert set(rows["method"]) == {"exponential", "spline"}
    for row in rows.to_dict("records"):
        own = pooled(result, row["component"])["estimate"]
        assert row["difference"] == pytest.approx(pooled(result, row["component"], row["method"])["estimate"] - own)
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["p_adjusted"] >= row["p_value"]


def test_the_hemispheric_estimator_is_compared_where_it_speaks() -> None:
    """On ipsilesional rows its tumor part differs from the primary one by noise only."""
    row = decompose(simulated.scores(60, 60, decay_mm=8.0), **FAST).agreement.set_index("rows").loc["ipsilesional"]
    assert row["method"] == "hemispheric"
    assert abs(row["difference"]) < 0.03
    assert row["low"] < 0 < row["high"]


def test_inside_a_range_nothing_disagrees() -> None:
    """An estimate between the bounds has the difference 0; one beyond them that to the nearer bound."""
    result = decompose(simulated.scores(100, 100, systematic=0.3, tumor=2.5, decay_mm=80.0, seed=7), **FAST)
    assert result.status == "range"
    for row in result.agreement[result.agreement["rows"] == "all"].to_dict("records"):
        theirs, own = pooled(result, row["component"], row["method"])["estimate"], pooled(result, row["component"])
        low, high = own["bound_low"], own["bound_high"]
        beyond = min(theirs - low, 0) + max(theirs - high, 0)
        assert abs(row["difference"]) == pytest.approx(abs(beyond), abs=0.02)
        assert np.sign(round(row["difference"], 6)) == np.sign(round(beyond, 6))


def test_a_disagreement_is_told_only_where_it_is_shown() -> None:
    """A sentence follows the adjusted p-value, and names the estimator, the part and the direction."""
    table = pd.DataFrame(
        {
            "component": ["systematic", "tumor"],
            "method": ["exponential", "spline"],
            "difference": [-0.03, 0.01],
            "low": [-0.05, -0.01],
            "high": [-0.01, 0.03],
            "p_adjusted": [0.01, 0.4],
            "rows": "all",
        }
    )
    total, none = Part(value=0.2, low=0.1, high=0.3, word="shown"), Part()
    verdict = Verdict(status=Status.OK, total=total, systematic=none, tumor=none, margin=0.02, level=0.95)
    (told,) = disagreements(table, verdict, "dice")
    assert "systematic part: exponential says 0.03 [0.01, 0.05] Dice less than the primary estimate on" in told
    (told,) = disagreements(table, replace(verdict, status=Status.RANGE), "dice")
    assert "0.03 [0.01, 0.05] Dice less than the lower end of the primary range on" in told


@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.ConvergenceWarning")  # its numbers are compared
def test_cross_checks_are_what_statsmodels_fits_by_formula() -> None:
    """The tumor's part of `gee` and of `mixed` is that of the same model written as a formula, predicted twice."""
    import statsmodels.api as sm
    import statsmodels.formula.api as smf

    frame = simulated.scores(20, 16)
    frame["ill"] = (frame["group"] == "glioma").astype(int)
    for knot in (10, 20, 40):
        frame[f"near{knot}"] = np.maximum(1 - frame["tumor_distance_mm"].fillna(1e9) / knot, 0) ** 2
    formula = "value ~ C(bundle):C(hemisphere) + C(bundle):C(hemisphere):ill + near10 + near20 + near40 - 1"
    groups = frame["participant_id"]
    gee = smf.gee(formula, groups, frame, cov_struct=sm.cov_struct.Exchangeable(), family=sm.families.Binomial()).fit()
    mixed = smf.mixedlm(formula, frame, groups=groups).fit()
    patients = frame[frame["ill"] == 1]
    away = patients.assign(near10=0.0, near20=0.0, near40=0.0)
    found = decompose(frame, cross_check=True, **FAST)
    for method, model in (("gee", gee), ("mixed", mixed)):
        lost = (model.predict(away) - model.predict(patients)).groupby(groups).mean().mean()
        row = pooled(found, "tumor", method)
        assert row["estimate"] == pytest.approx(lost, abs=1e-4)
        assert row["low"] < row["estimate"] < row["high"]
        assert row["word"] == "n/a"
        own = found.agreement[found.agreement["method"] == method].set_index("component").loc["tumor"]
        assert own["difference"] == pytest.approx(row["estimate"] - pooled(found, "tumor")["estimate"])


def test_without_a_participant_a_cross_check_is_that_of_the_others() -> None:
    """One Newton step comes near a refit by statsmodels of everyone else: within a tenth of the change itself."""
    frame = simulated.scores(20, 16, seed=3)
    settings = Settings(metric="dice", grid_mm=np.geomspace(2, 80, 9), margin=0.02, inference=Inference(n_bootstrap=20))

    def of(part: pd.DataFrame) -> dict[str, np.ndarray]:
        rows = build_rows(part, "dice")
        weights = np.ones((20, len(rows.people)))
        return cross_checked(split(rows, np.zeros((len(rows.people), 0)), weights, settings))

    whole = of(frame)
    changed = {method: np.ptp(values[1:], axis=0) for method, values in whole.items()}
    for position in (0, 7, 25):
        name = build_rows(frame, "dice").people[position]
        again = of(frame[frame["participant_id"] != name])
        for method, values in whole.items():
            assert (np.abs(values[1 + position] - again[method][0]) <= 0.1 * changed[method]).all()


def test_statsmodels_is_needed_for_the_cross_check_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be imported, a decomposition works, and one with a cross-check says what is lacking."""
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    monkeypatch.setitem(sys.modules, "statsmodels.api", None)
    frame = simulated.scores(12, 10)
    assert len(decompose(frame, **FAST).table)
    with pytest.raises(ImportError, match="statsmodels"):
        decompose(frame, cross_check=True, **FAST)


def test_cross_checks_of_a_distance_are_linear() -> None:
    """Larger distances are worse: what patients lose is positive, on the scale of logs, also by both cross-checks."""
    frame = simulated.scores(24, 20)
    worse = 5 * special.expit(-special.logit(frame["value"]))
    far = frame.assign(metric="assd", value=worse, unit="mm")
    found = decompose(far, metric="assd", cross_check=True, **FAST)
    for method in ("gee", "mixed"):
        own = pooled(found, "total", method)["estimate"]
        assert own == pytest.approx(pooled(found, "total")["estimate"], abs=0.01)
        assert own > 0
