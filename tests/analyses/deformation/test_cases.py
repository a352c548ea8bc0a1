"""V-Norm against the participant's own baseline, by what a user runs, and what is kept of a run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from makers.bundles import BUNDLE, ball, elsewhere, tube, visible_mm, write_masks
from scipy import ndimage

import shiftkit as sk
from shiftkit import cohorts
from shiftkit.analyses.deformation import cases
from shiftkit.analyses.deformation.cases import Task, read_lost
from shiftkit.analyses.deformation.template import BundleTemplate
from shiftkit.analyses.deformation.v_norm import Measurement
from shiftkit.catalogue import DEFORMATION
from shiftkit.cli import main
from shiftkit.errors import ConfigError, DataError
from shiftkit.images import write_image
from shiftkit.tables import read_table
from shiftkit.types import Bundle, Cohort, Volume

BENDS_MM = {"sub-g1": 5.0, "sub-g2": -5.0, "sub-g3": 0.0, "sub-g4": 4.0}
PUSHES_MM = {"sub-g1": 0.0, "sub-g2": 6.0, "sub-g3": 3.0, "sub-g4": 5.0}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cohort]:
    """Patients that differ by more than a tumor pushes; the last is not in the baseline, the third empty there."""
    root = tmp_path_factory.mktemp("study")
    now = {key: tube(2.5, PUSHES_MM[key], bend_mm=bend) for key, bend in BENDS_MM.items()}
    before = {key: elsewhere(tube(2.5, bend_mm=bend)) for key, bend in BENDS_MM.items() if key != "sub-g4"}
    before["sub-g3"] = before["sub-g3"].with_array(np.zeros_like(before["sub-g3"].array))
    healthy = {f"sub-h{i}": tube(2.5, bend_mm=bend) for i, bend in enumerate((-3.0, 0.0, 2.0, 4.0))}
    return {
        "now": write_masks(root / "glioma", "glioma", now),
        "before": write_masks(root / "earlier", "glioma", before),
        "healthy": write_masks(root / "healthy", "control", healthy),
    }


@pytest.fixture(scope="module")
def run(study: dict[str, Cohort], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["deform", *words(study), "--out", str(out)]) == 0
    return out


def words(study: dict[str, Cohort]) -> list[str]:
    roots = {"cohort": study["now"], "reference": study["healthy"], "baseline": study["before"]}
    given = [word for name, one in roots.items() for word in (f"--{name}", str(one.root))]
    return [*given, "--spacing", "2.5", "--jobs", "1", "-q"]


def test_the_own_baseline_tells_the_push_from_anatomy(run: Path) -> None:
    """Bent but not pushed: far from the template, near the own baseline; pushed: within 15 % or 0.5 mm of the truth."""
    table = read_table(run / "tables" / "deformation.tsv", DEFORMATION).set_index("participant_id")
    assert table.loc["sub-g1", "v_norm_mm"] > 1.0
    assert table.loc["sub-g1", "v_norm_own_mm"] < 0.3
    truth = visible_mm(PUSHES_MM["sub-g2"])
    assert abs(table.loc["sub-g2", "v_norm_own_mm"] - truth) < max(0.15 * truth, 0.5)
    assert table.loc["sub-g2", "dice_own_after"] > 0.9


def test_what_the_baseline_lacks_has_a_word(run: Path) -> None:
    """An empty baseline mask and a participant who is not there: unavailable, and no number; controls too."""
    table = read_table(run / "tables" / "deformation.tsv", DEFORMATION).set_index("participant_id")
    assert table["own_status"].to_dict() == {
        "sub-g1": "ok",
        "sub-g2": "ok",
        **dict.fromkeys(("sub-g3", "sub-g4", "sub-h0", "sub-h1", "sub-h2", "sub-h3"), "unavailable"),
    }
    assert (table["v_norm_own_mm"].notna() == (table["own_status"] == "ok")).all()
    assert (table["status"] == "ok").all()


def test_the_run_shows_it(run: Path) -> None:
    """A figure of its own, a map of the own displacement, and the baseline among the inputs."""
    assert (run / "figures" / "deformation-own.svg").is_file()
    assert (run / "maps" / "sub-g2" / "sub-g2_label-AFleft_desc-vnormown_map.nii.gz").is_file()
    assert "baseline" in json.loads((run / "run.json").read_text())["inputs"]


def test_an_interrupted_run_measures_what_is_missing_only(run: Path, study: dict[str, Cohort]) -> None:
    """With one own measurement lost, --resume makes it again, keeps the others, and ends with the same table."""
    table = run / "tables" / "deformation.tsv"
    before = table.read_bytes()
    records = sorted((run / "measurements").rglob("*.json"))
    lost = next(path for path in records if path.name == "sub-g2_label-AFleft_own.json")
    times = {path: path.stat().st_mtime_ns for path in records if path != lost}
    lost.unlink()
    table.unlink()
    assert main(["deform", *words(study), "--out", str(run), "--resume"]) == 0
    assert table.read_bytes() == before
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_a_virtual_tumor_destroys_nothing(tmp_path: Path) -> None:
    """The mask of a tumor that is not there, as its sidecar says, is no reason to look away."""
    cohort = write_masks(tmp_path, "glioma", {"sub-g1": tube(2.0)})
    path = cohorts.tumor_path(tmp_path, "sub-g1")
    write_image(ball((-38, 0, 0)), path)
    case = cohorts.load_cohort(tmp_path)["sub-g1"]
    assert len(cohort) and read_lost(case) is not None
    path.with_name("sub-g1_label-tumor_mask.json").write_text('{"Virtual": true}')
    assert read_lost(case) is None


def test_a_baseline_that_is_none_is_refused(study: dict[str, Cohort]) -> None:
    """The cohort itself is a usage error, and a cohort of other people says that nobody is in both."""
    with pytest.raises(ConfigError, match="another time"):
        sk.deform(study["now"], reference=study["healthy"], baseline=study["now"])
    with pytest.raises(DataError, match="same participant_id"):
        sk.deform(study["now"], reference=study["healthy"], baseline=study["healthy"])


def test_without_enough_controls_for_one_bundle_the_own_value_stands(study: dict[str, Cohort], tmp_path: Path) -> None:
    """A bundle that no control has: too_few against the template, a number against the own baseline."""
    other = Bundle.parse("PYTleft")
    for cohort, push_mm in (("now", 4.0), ("before", 0.0)):
        root = tmp_path / cohort
        write_masks(root, "glioma", {"sub-g1": tube(2.5, bend_mm=5.0)})
        write_image(tube(2.5, push_mm, bend_mm=5.0), cohorts.mask_path(root, "sub-g1", other))
    healthy = study["healthy"]
    result = sk.deform(tmp_path / "now", reference=healthy, baseline=tmp_path / "before", spacing_mm=2.5)
    row = result.patients.set_index("bundle").loc["PYT"]
    assert (row["status"], row["own_status"]) == ("too_few", "ok")
    assert row["v_norm_own_mm"] > 0.5


def test_what_is_kept_depends_on_all_that_enters(
    healthy: BundleTemplate, pushed: tuple[Measurement, Volume], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept for the same input; made again for another mask, tumor, group, template or place of it, spacing, format."""
    made: list[str] = []
    monkeypatch.setattr(cases, "measure", lambda *_, **__: made.append("once") or pushed)
    whole, root = tube(2.0), tmp_path / "cohort"

    def times(mask: Volume = whole, group: str = "glioma", against: BundleTemplate = healthy, mm: float = 2.0) -> int:
        """How often the participant is measured when the same is asked twice."""
        made.clear()
        case = write_masks(root, group, {"sub-g1": mask})["sub-g1"]
        asked = {"cohort": "glioma", "bundle": BUNDLE, "before": None, "spacing_mm": mm, "out": tmp_path / "run"}
        first, again = (Task(case=case, template=against, **asked)() for _ in range(2))
        assert first == again
        return len(made)

    assert (times(), times()) == (1, 0)
    assert (times(group="target_control"), times()) == (1, 1)
    assert times(mask=tube(2.0, push_mm=1.0)) == 1
    write_image(ball((-38, 0, 0)), cohorts.tumor_path(root, "sub-g1"))
    assert (times(), times()) == (1, 0)
    thinner = healthy.mask.with_array(ndimage.binary_erosion(healthy.mask.array))
    shifted = Volume(array=healthy.mask.array, affine=elsewhere(healthy.mask).affine)
    assert [times(against=replace(healthy, mask=mask)) for mask in (thinner, shifted)] == [1, 1]
    assert times(mm=2.5) == 1
    assert (times(), times()) == (1, 0)
    monkeypatch.setattr(cases, "FORMAT", cases.FORMAT + 1)
    assert times() == 1
