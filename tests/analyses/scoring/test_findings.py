import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection

from shiftkit.analyses.scoring.brain_maps import peak_of
from shiftkit.analyses.scoring.cases import Look, Made, read_cases
from shiftkit.analyses.scoring.error_maps import error_voxels, places_of, places_of_all, tumor_voxels, tumors_of
from shiftkit.analyses.scoring.findings import bundle_findings, cohort_findings
from shiftkit.analyses.scoring.predictions import find_predictions
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.images import write_image
from shiftkit.results import Finding
from shiftkit.types import Bundle, Case, Cohort, Volume
from shiftkit.work import Work

AF = Bundle(name="AF", hemisphere="left")
TEMPLATE = np.array([[-70.0, -106, -72], [70, 70, 80]])


def person(folder: Path, name: str, shift: float, scale: float, at: tuple[float, float, float]) -> tuple[Case, Case]:
    """A box-shaped brain, moved and scaled, whose reference lies at a place and whose prediction is empty."""
    affine = np.diag([4.0 * scale, 4 * scale, 4 * scale, 1])
    affine[:3, 3] = (TEMPLATE[0] - 12) * scale + shift
    shape = tuple((np.ceil((TEMPLATE[1] - TEMPLATE[0]) / 4) + 7).astype(int))
    world = (np.indices(shape).reshape(3, -1).T * 4.0 + TEMPLATE[0] - 12).reshape(*shape, 3)
    brain = ((world >= TEMPLATE[0]) & (world <= TEMPLATE[1])).all(axis=-1)
    reference = np.linalg.norm(world - np.array(at), axis=-1) < 10
    paths: dict[str, Path] = {}
    for part, array in (("fa", brain), ("reference", reference), ("prediction", np.zeros(shape))):
        paths[part] = folder / f"{name}-{part}.nii.gz"
        write_image(Volume(array=array.astype(np.float32), affine=affine), paths[part])
    # Where the bundle is, there is the tumor too.
    common = Case(
        participant_id=name, images={"fa": paths["fa"]}, masks={AF: paths["reference"]}, tumor=paths["reference"]
    )
    return common, dataclasses.replace(common, masks={AF: paths["prediction"]})


def read_two(folder: Path, at: tuple[float, float, float]) -> tuple[Made, Cohort]:
    """What is read of two brains of other place and size, each with the same missed bundle and tumor."""
    made = [person(folder, "sub-1", 0.0, 1.0, at), person(folder, "sub-2", 15.0, 0.85, at)]
    cohort = Cohort(name="c", root=folder, cases=tuple(one for one, _ in made))
    predicted = Cohort(name="p", root=folder, cases=tuple(one for _, one in made))
    readers = {"places": error_voxels, "tumors": tumor_voxels}
    (found,) = read_cases(cohort, [Look(predicted=find_predictions(predicted), readers=readers)], Work())
    return found, cohort


def test_errors_of_moved_and_scaled_brains_meet(tmp_path: Path) -> None:
    """The same missed bundle in two brains of other place and size is counted twice, at its place in the template."""
    at = (-40.0, -20.0, 20.0)
    found, cohort = read_two(tmp_path, at)
    places = places_of(found["places"], cohort.bundles)[AF]
    assert places.n == 2 and not places.false.any()
    both = np.argwhere(places.missed == 2)
    center = (both @ places.affine[:3, :3].T + places.affine[:3, 3]).mean(axis=0)
    np.testing.assert_allclose(center, at, atol=5.0)
    assert len(both) > 0.6 * (places.missed > 0).sum()


def test_tumors_of_moved_and_scaled_brains_meet(tmp_path: Path) -> None:
    """Two tumors at the same place of two brains overlap there, and the finding says how many, of how many, where."""
    at = (-40.0, -20.0, 20.0)
    tumors = tumors_of(read_two(tmp_path, at)[0]["tumors"])
    assert tumors is not None and tumors.n == 2 and tumors.counts.max() == 2
    place = tumors.affine[:3, :3] @ peak_of(tumors) + tumors.affine[:3, 3]
    np.testing.assert_allclose(place, at, atol=5.0)
    found = next(one for one in cohort_findings(scores(), None, tumors) if one.key == "cohort-tumors")
    assert "At most 2 of the 2 tumors overlap in one place, in the left hemisphere" in found.claim
    assert found.place == "cohort" and found.table is not None and found.table["n_tumors"].max() == 2
    ink = found.plot()
    assert {"x = ", "y = ", "z = "} <= {one.get_text()[:4] for one in ink.texts}


def test_a_patient_who_errs_in_two_bundles_at_one_place_counts_once() -> None:
    """Over bundles, a voxel's count is that of patients, and those without any prediction are left out."""
    here, there = np.array([[10, 10, 10]]), np.array([[10, 10, 10], [20, 20, 20]])
    none = np.empty((0, 3), dtype=int)
    made = {
        "sub-1": [{"missed": here, "false": none}, {"missed": there, "false": none}],
        "sub-2": [None, {"missed": none, "false": here}],
        "sub-3": [None, None],
    }
    every = places_of_all(made)
    assert every is not None and every.n == 2
    assert (every.missed[10, 10, 10], every.missed[20, 20, 20], every.missed.sum()) == (1, 1, 2)
    assert (every.false[10, 10, 10], every.false.sum()) == (1, 1)
    assert places_of_all({"sub-3": [None, None]}) is None and tumors_of({"sub-3": [None, None]}) is None


def test_small_multiples_share_their_axes_and_name_the_worst_bundle() -> None:
    """Every bundle has a panel with the limits of all; the worst is the lowest Dice, and the largest distance."""
    worse = scores().assign(bundle="PYT", value=lambda frame: frame["value"] - 0.2)
    both = pd.concat([scores(), worse], ignore_index=True)
    (found,) = cohort_findings(both)
    assert "worst in PYT left" in found.claim and "best in AF left" in found.claim
    panels = found.plot().child_axes
    assert [one.get_title(loc="left") for one in panels] == ["AF left", "PYT left"]
    assert len({(one.get_xlim(), one.get_ylim()) for one in panels}) == 1
    low, high = panels[0].get_ylim()
    assert low <= both["value"].min() and high >= both["value"].max()
    (found,) = cohort_findings(both.assign(metric="hd95"))
    assert "worst in AF left" in found.claim and " mm" in found.claim


def scores(n: int = 20) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    far = np.linspace(0, 60, n)
    common = {"model": "m", "bundle": "AF", "hemisphere": "left", "metric": "dice"}
    patients = [
        {**common, "participant_id": f"sub-{i}", "group": "glioma", "tumor_distance_mm": x}
        | {"value": 0.8 - 0.3 * np.exp(-x / 15) + rng.normal(0, 0.01)}
        for i, x in enumerate(far)
    ]
    controls = [{**common, "participant_id": f"c-{i}", "group": "control", "value": 0.9} for i in range(5)]
    return pd.DataFrame(patients + controls)


def sections() -> pd.DataFrame:
    rows = [
        {"participant_id": f"{group}-{i}", "group": group, "bundle": "AF", "hemisphere": "left", "section": s}
        | {"dice": 0.9 - (0.3 if group == "glioma" and s == 7 else 0.0) - 0.001 * i}
        for group in ("glioma", "control")
        for i in range(6)
        for s in range(1, 11)
    ]
    return pd.DataFrame(rows)


def test_the_section_with_the_drop_is_named() -> None:
    """A drop put into section 7 is found there, and the profile's table holds both groups."""
    _, along = bundle_findings(scores(), sections())[AF]
    assert "largest in section 7 of 10: 0.30" in along.claim
    assert along.table is not None and set(along.table["group"]) == {"glioma", "control"}
    assert along.table["low"].le(along.table["dice"]).all() and along.table["high"].ge(along.table["dice"]).all()


def test_the_running_mean_follows_the_points() -> None:
    """Drawn near and far, the mean lies where the points are, well below the controls near the tumor."""
    (found,) = bundle_findings(scores())[AF]
    axes = found.plot()
    line = next(one for one in axes.get_lines() if one.get_label() == "m")
    y = np.asarray(line.get_ydata(), dtype=float)
    assert y[0] == pytest.approx(0.60, abs=0.06) and y[-1] == pytest.approx(0.79, abs=0.03)
    assert "20 patients" in found.claim and "controls on average 0.90" in found.claim


def test_too_few_patients_get_no_band() -> None:
    """Two patients are drawn without a band, and nothing breaks."""
    few = scores(2)
    (found,) = bundle_findings(few)[AF]
    found.plot()
    assert found.table is not None and len(found.table) == 2


def test_sessions_of_a_participant_count_as_one() -> None:
    """Writing every patient's row twice, as two sessions, changes neither means nor bands; five people are needed."""
    once = scores()
    patients = once[once["group"] == "glioma"]
    twice = pd.concat([once, patients], ignore_index=True)
    # A participant of many sessions does not outvote the others either.
    often = pd.concat([once, *[patients.iloc[[0]]] * 20], ignore_index=True)
    drawn = [bundle_findings(one)[AF][0] for one in (once, twice, often)]
    curves = [_curve(one) for one in drawn]
    np.testing.assert_allclose(curves[1], curves[0])
    np.testing.assert_allclose(curves[2], curves[0])
    assert drawn[2].claim == drawn[0].claim


def _curve(found: Finding) -> np.ndarray:
    """The line of the running mean, and the corners of its band."""
    axes = found.plot()
    line = next(one for one in axes.get_lines() if one.get_label() == "m")
    (drawn,) = (one for one in axes.collections if isinstance(one, PolyCollection))
    return np.concatenate([np.asarray(line.get_xydata()), drawn.get_paths()[0].vertices])


def test_bands_are_expanded_intervals_of_the_level_that_is_asked_for() -> None:
    """Six participants' band is that of `Inference.interval`: wider than plain percentiles, and narrower at 80 %."""
    inference = Inference(n_bootstrap=4000, seed=3)
    table = bundle_findings(scores(), sections(), inference=inference)[AF][1].table
    assert table is not None
    row = table[(table["group"] == "control") & (table["section"] == 1)].iloc[0]
    values = 0.9 - 0.001 * np.arange(6)
    draws = inference.weights((6,)) @ values / 6
    assert (row["low"], row["high"]) == pytest.approx(inference.interval(draws, 6))
    assert row["low"] < np.percentile(draws, 2.5) and row["high"] > np.percentile(draws, 97.5)
    narrow = bundle_findings(scores(), sections(), inference=Inference(level=0.8))[AF][1].table
    assert narrow is not None and (narrow["high"] - narrow["low"] < table["high"] - table["low"]).all()
