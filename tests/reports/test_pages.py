from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers.reports import example

from shiftkit.reports.niivue import bundled
from shiftkit.reports.pages import Pages, _data_uri
from shiftkit.work import Work


def test_without_a_bundled_viewer_pictures_stand_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where niivue is absent every case has its picture, no page has a viewer, and the first page says so."""
    monkeypatch.setattr("shiftkit.reports.pages.bundled", lambda: None)
    made = example(tmp_path / "images", n=2)
    first = made.save(tmp_path / "run" / "report.html", work=Work(jobs=1))
    text = first.read_text()
    assert text.count('class="planes"') == len(made.cases)
    assert "Still pictures stand in place of the 3D viewer" in text
    for page in (first, *first.parent.rglob("reports/*.html")):
        assert "niivue" not in page.read_text() and "Open in the viewer" not in page.read_text()
    assert not (first.parent / "reports" / "volumes").exists()


@pytest.mark.skipif(bundled() is None, reason="niivue was not fetched (make viewer)")
def test_large_reports_keep_volumes_beside_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Volumes are embedded below the limit and linked above it, and the log says so."""
    page = example(tmp_path / "images", n=2)
    assert not Pages(page, sisters=True).linked
    monkeypatch.setattr("shiftkit.reports.pages.LIMIT_BYTES", 4_000_000)
    told: list[str] = []
    page.save(tmp_path / "run" / "report.html", work=Work(jobs=1, progress=lambda done, total, text: told.append(text)))
    assert (tmp_path / "run" / "reports" / "volumes" / "image-001.js").is_file()
    assert any("8 MB" in text for text in told)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_addresses_of_data_are_those_of_a_whole_quotation(text: str) -> None:
    """Each letter is escaped as `urllib.parse.quote` would, so that no attribute ends early and the text comes back."""
    address = _data_uri(text, "image/svg+xml")
    body = address.removeprefix("data:image/svg+xml;charset=utf-8,")
    assert body == quote(text, safe="/:;,.=+ ()-!*")
    assert unquote(body) == text
    assert not set(body) & set("\"'<>&#%\n") - {"%"}
