import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from makers.reports import distance, example

from shiftkit.errors import DataError
from shiftkit.reports import CohortSummary, report, restore, store
from shiftkit.results import Estimate, Finding
from shiftkit.types import Bundle
from shiftkit.work import Work


def test_saved_again_from_its_data_gives_the_same_bytes(tmp_path: Path) -> None:
    """A report stored, restored and saved elsewhere gives the same pages, drawings and citations, to the byte."""
    bundle = Bundle(name="AF", hemisphere="left")
    made = example(tmp_path / "images", n=2)
    finding = replace(distance(["sub-01"], [4.0], [0.4]), key="bundle-AFleft-distance")
    page = replace(made, bundle_findings={bundle: (finding,)})
    first = page.save(tmp_path / "run" / "report.html", work=Work(jobs=1)).parent
    store(page, first)
    before = {path.relative_to(first): path.read_bytes() for path in first.rglob("*.*")}
    restore(first).save(first / "report.html", work=Work(jobs=1))
    assert {path.relative_to(first): path.read_bytes() for path in first.rglob("*.*")} == before
    assert str(tmp_path) not in (first / "report.json").read_text()


def test_what_is_kept_comes_back_with_its_types(tmp_path: Path) -> None:
    """Tuples, frames with their dtypes, bundles, mappings, None and numbers that are none are what they were."""
    table = pd.DataFrame({"n": [1, 2], "value": [0.5, np.nan], "name": ["a", None], "yes": [True, False]})
    finding = Finding(
        key="k", title="t", claim="c", estimates=(Estimate(name="e", value=float("nan"), high=float("inf")),),
        table=table, caveats=("one", "two"), place="lead",
    )  # fmt: skip
    bundle = Bundle(name="AF", hemisphere="left")
    cohort = CohortSummary(name="c", role="r", n=3, excluded={"sub-1": "seen"})
    made = report([finding], title="t", verdict="v", cohorts=[cohort], bundle_findings={bundle: [finding]})
    store(made, tmp_path)
    back = restore(tmp_path)
    (one,) = back.findings
    assert one.table is not None and one.table.equals(table) and (one.table.dtypes == table.dtypes).all()
    assert replace(one, table=None, estimates=()) == replace(finding, table=None, estimates=())
    assert np.isnan(one.estimates[0].value) and one.estimates[0].high == float("inf")
    assert list(back.bundle_findings) == [bundle] and back.cohorts == (cohort,) and back.table is None


def test_an_archive_without_places_tells_the_same_story(tmp_path: Path) -> None:
    """A report kept before findings said where they stand is shown in the same order, with points to click on."""
    made = example(tmp_path / "images", n=1)
    store(made, tmp_path)
    path = tmp_path / "report.json"
    content = json.loads(path.read_text())
    for finding in content["findings"]:
        # Findings about the whole cohort came later.
        if finding["place"] != "cohort":
            del finding["place"]
    path.write_text(json.dumps(content))
    assert [one.place for one in restore(tmp_path).findings] == [one.place for one in made.findings]


def test_a_moved_cohort_is_found_again(tmp_path: Path) -> None:
    """With the cohort's new place the pictures are drawn; without it the report says what is missing, and no path."""
    made = example(tmp_path / "cohort" / "sub-01", n=1)
    store(made, tmp_path / "run")
    shutil.move(tmp_path / "cohort", tmp_path / "moved")
    lost = restore(tmp_path / "run").html
    assert "No picture: There is no image at" in lost and str(tmp_path) not in lost
    assert restore(tmp_path / "run", tmp_path / "moved").html.count('class="planes"') == 2


def test_a_damaged_archive_is_a_clear_error(tmp_path: Path) -> None:
    """Missing and broken files name what must be there."""
    with pytest.raises(DataError, match=r"holds report\.json"):
        restore(tmp_path)
    store(example(tmp_path / "images", n=1), tmp_path)
    (tmp_path / "report.json").write_text('{"form": 1}')
    with pytest.raises(DataError, match="damaged or of another version"):
        restore(tmp_path)
