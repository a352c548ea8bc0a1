"""V-Norm against the participant's own baseline, by what a user runs, and what is kept of a run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from makers.bundles import BUNDLE, Study, ball, elsewhere, table_of, tube, visible_mm, write_masks
from scipy import ndimage

import shiftkit as sk
from shiftkit import cohorts
from shiftkit.analyses.deformation import cases
from shiftkit.analyses.deformation.cases import Task, read_lost
from shiftkit.analyses.deformation.template import BundleTemplate
from shiftkit.analyses.deformation.v_norm import Measurement
from shiftkit.errors import ConfigError, DataError
from shiftkit.images import write_image
from shiftkit.types import Volume

pytestmark = pytest.mark.slow


def test_the_own_baseline_tells_the_push_from_anatomy(run: Path) -> None:
    """Bent but not pushed: far from the template, near the own baseline; pushed: within 15 % or 0.5 mm of the truth."""
    table = table_of(run)
    assert table.loc["sub-g1", "v_norm_mm"] > 1.0
    assert table.loc["sub-g1", "v_norm_own_mm"] < 0.3
    truth = visible_mm(6.0)
    assert abs(table.loc["sub-g2", "v_norm_own_mm"] - truth) < max(0.15 * truth, 0.5)
    assert table.loc["sub-g2", "dice_own_after"] > 0.9


def test_what_the_baseline_lacks_has_a_word(run: Path) -> None:
    """An empty baseline mask and a participant who is not there: unavailable, and no number; controls too."""
    table = table_of(run)
    assert table["own_status"].to_dict() == {
        "sub-g1": "ok",
        "sub-g2": "ok",
        **dict.fromkeys(
            (*(f"sub-g{i}" for i in (3, 4, 5, 6, 9)), *(f"sub-h{i}" for i in (0, 1, 2, 3, 9))), "unavailable"
        ),
    }
    assert (table["v_norm_own_mm"].notna() == (table["own_status"] == "ok")).all()
    assert (table.loc[["sub-g3", "sub-g4", "sub-h0", "sub-h1", "sub-h2", "sub-h3"], "status"] == "ok").all()


def test_the_run_shows_it(run: Path) -> None:
    """A figure of its own, a map of the own displacement, and the baseline among the inputs."""
    assert (run / "figures" / "deformation-own.svg").is_file()
    assert (run / "maps" / "sub-g2" / "sub-g2_label-AFleft_desc-vnormown_map.nii.gz").is_file()
    assert "baseline" in json.loads((run / "run.json").read_text())["inputs"]


def test_a_virtual_tumor_destroys_nothing(tmp_path: Path) -> None:
    """The mask of a tumor that is not there, as its sidecar says, is no reason to look away."""
    cohort = write_masks(tmp_path, "glioma", {"sub-g1": tube(2.0)})
    path = cohorts.tumor_path(tmp_path, "sub-g1")
    write_image(ball((-38, 0, 0)), path)
    case = cohorts.load_cohort(tmp_path)["sub-g1"]
    assert len(cohort) and read_lost(case) is not None
    path.with_name("sub-g1_label-tumor_mask.json").write_text('{"Virtual": true}')
    assert read_lost(case) is None


def test_a_baseline_that_is_none_is_refused(study: Study) -> None:
    """The cohort itself is a usage error, and a cohort of other people says that nobody is in both."""
    with pytest.raises(ConfigError, match="another time"):
        sk.deform(study.now, reference=study.healthy, baseline=study.now)
    with pytest.raises(DataError, match="same participant_id"):
        sk.deform(study.now, reference=study.healthy, baseline=study.healthy)


def test_without_enough_controls_for_one_bundle_the_own_value_stands(run: Path) -> None:
    """A bundle that no control has: too_few against the template, a number against the own baseline."""
    row = table_of(run, "PYT").loc["sub-g1"]
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
