import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from makers.reports import HOSTILE, components, decomposition, distance, example, sensitivity

from shiftkit.reports import CasePicture, Opening, citation_bibtex, draw, report
from shiftkit.reports.tables import by_bundle, view
from shiftkit.reports.views import cases_table
from shiftkit.results import Finding
from shiftkit.types import Bundle
from shiftkit.work import Work

FIGURE_FILES = (".svg", "-column.svg", ".pdf", "-column.pdf", ".tsv")
BUNDLES = ("AF", "FAT", "IFOF", "ILF", "PYT")


class Seen(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append((tag, dict(attrs)))

    def every(self, name: str) -> list[str]:
        """All values of an attribute."""
        return [value or "" for _, attributes in self.tags for key, value in attributes.items() if key == name]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return example(folder / "images", n=4).save(folder / "run" / "report.html", work=Work(jobs=1))


def pages(saved: Path) -> list[Path]:
    return [saved, *sorted((saved.parent / "reports").glob("*.html"))]


def test_save_writes_page_bundle_pages_and_figures(saved: Path) -> None:
    """First page, pages of a bundle, a participant and a part, each figure in two widths with its data, citations."""
    written = {path.relative_to(saved.parent).as_posix() for path in saved.parent.rglob("*.*")}
    assert written == {
        "report.html",
        *(f"reports/bundle-{name}{side}.html" for name in BUNDLES for side in ("left", "right")),
        *(f"reports/participant-sub-0{i}.html" for i in range(1, 5)),
        *(f"reports/{name}.html" for name in ("cohort", "more", "data", "methods")),
        "CITATION.md",
        "CITATION.bib",
        *(f"figures/{name}{end}" for name in ("decomposition", "distance", "recovery") for end in FIGURE_FILES),
        *(f"figures/cohort-tumors{end}" for end in FIGURE_FILES if not end.endswith(".tsv")),
    }


def test_story_is_told_in_order(saved: Path) -> None:
    """Answer, figures, repair, limits, then numbers, table, cases; the rest on pages of its own, or below if alone."""
    ids = Seen(saved.read_text()).every("id")
    first = [
        "verdict",
        "decomposition",
        "distance",
        "recovery",
        "unknown",
        "decomposition-numbers",
        "components",
        "cases",
    ]
    places = [ids.index(name) for name in [*first, "limitations"]]
    assert places == sorted(places)
    apart = {
        "cohort": ["cohort-tumors"],
        "more": ["sensitivity"],
        "data": ["origin", "cohorts"],
        "methods": ["methods", "provenance"],
    }
    for name, sections in apart.items():
        own = Seen((saved.parent / "reports" / f"{name}.html").read_text()).every("id")
        assert set(sections) <= set(own) and not set(sections) & set(ids)
    whole = Seen(example(saved.parent.parent / "images", n=1).html).every("id")
    assert {name for sections in apart.values() for name in sections} <= set(whole)


def test_the_cohorts_page_is_in_the_menu_and_leads_to_cases_and_bundles(saved: Path) -> None:
    """The short menu names it; its first sentence leads to the table of every case and to each bundle's page."""
    assert 'href="reports/cohort.html">The cohort</a>' in saved.read_text()
    links = Seen((saved.parent / "reports" / "cohort.html").read_text()).every("href")
    assert "../report.html#cases" in links
    assert {f"bundle-{name}{side}.html" for name in BUNDLES for side in ("left", "right")} <= set(links)


def test_pages_load_nothing(saved: Path) -> None:
    """No page refers to anything but itself, data within it, its sister pages and DOIs to click on."""
    for path in pages(saved):
        seen = Seen(path.read_text())
        assert all(source.startswith("data:") for source in seen.every("src"))
        for target in seen.every("href"):
            if target.startswith(("#", "data:", "https://doi.org/")):
                continue
            other, _, anchor = target.partition("#")
            assert (path.parent / other).is_file(), target
            assert not anchor or anchor in Seen((path.parent / other).read_text()).every("id"), target
        assert not re.search(r"@import|url\((?!#|%23|data:)", path.read_text())


def test_ids_are_unique_and_anchors_exist(saved: Path) -> None:
    """Every id stands once, and every link within a page ends somewhere."""
    for path in pages(saved):
        seen = Seen(path.read_text())
        ids = seen.every("id")
        assert len(ids) == len(set(ids))
        assert {target[1:] for target in seen.every("href") if target.startswith("#")} <= set(ids)


def test_saving_twice_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    """A report has no time stamp and no random id of its own."""
    again = example(tmp_path / "images", n=4).save(tmp_path / "report.html", work=Work(jobs=1))
    assert again.read_bytes() == saved.read_bytes()


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """A script tag in an id, a bundle, a column, a cell, a verdict or a provenance value never becomes markup."""
    good = example(tmp_path / "images", n=1).cases[0]
    bundle = Bundle(name=f"../{HOSTILE}", hemisphere="left")
    case = CasePicture(**{**vars(good), "participant_id": HOSTILE, "bundle": bundle, "facts": {HOSTILE: HOSTILE}})
    finding = Finding(
        key=f'"{HOSTILE}',
        title=HOSTILE,
        claim=HOSTILE,
        table=pd.DataFrame({HOSTILE: [HOSTILE, '"onload="x'], "status": ["ok", HOSTILE]}),
        caveats=(HOSTILE,),
        method=HOSTILE,
        references=(f"10.1/{HOSTILE}",),
        figure=distance([f"$ {HOSTILE}"]).figure,
        alt=HOSTILE,
    )
    table = components([bundle]).assign(model=HOSTILE)
    page = report(
        [finding],
        title=HOSTILE,
        verdict=HOSTILE,
        cases=[case],
        table=table,
        provenance={HOSTILE: {HOSTILE: HOSTILE}},
        notes=(HOSTILE,),
        opening=Opening(question=HOSTILE, facts={HOSTILE: HOSTILE}, origin=(HOSTILE,)),
    )
    saved = page.save(tmp_path / "run" / "report.html")
    assert len(pages(saved)) == 5
    for path in (tmp_path / "run").rglob("*.*"):
        text = path.read_bytes().decode("latin-1")
        # Neither references nor data are markup.
        assert "<script>document" not in text or path.suffix in (".bib", ".tsv")
        if path.suffix == ".html":
            tags = Seen(text).tags
            running = [a for tag, a in tags if tag == "script" and a.get("type", "module") == "module"]
            assert len(running) == 1
            assert not any(key.startswith("on") for _, attributes in tags for key in attributes)


def test_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    """A key or a bundle with slashes and dots does not write outside the report's folder."""
    finding = Finding(**{**vars(decomposition()), "key": "../../escaped"})
    report([finding], title="t", verdict="v").save(tmp_path / "deep" / "run" / "report.html")
    assert {path.name for path in tmp_path.iterdir()} == {"deep"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"run"}


def test_damaged_image_costs_its_picture_only(tmp_path: Path) -> None:
    """Where an image cannot be read, the case is listed with the reason and the rest of the report stands."""
    page = example(tmp_path / "images", n=2)
    page.cases[0].prediction.write_bytes(b"not an image")
    text = page.html
    assert text.count("No picture:") == 1 and text.count('class="planes"') == 3


def test_cases_come_worst_first_and_missing_dice_last(tmp_path: Path) -> None:
    """The lowest Dice stands first; a case without one stands last."""
    cases = list(example(tmp_path / "images", n=3).cases)
    cases.insert(0, CasePicture(**{**vars(cases[0]), "score": float("nan"), "status": "reference_absent"}))
    ordered = [case.score for case in report([], title="t", verdict="v", cases=cases[::-1]).cases]
    assert ordered[:-1] == sorted(ordered[:-1]) and ordered[-1] != ordered[-1]


def test_the_worst_distance_is_the_largest_and_stands_with_its_unit(tmp_path: Path) -> None:
    """Of a metric in mm the largest comes first; nothing on the page calls it Dice."""
    cases = [
        replace(case, score=3.0 + place, measure="HD95", unit="mm", higher_is_better=False)
        for place, case in enumerate(example(tmp_path / "images", n=3).cases)
    ]
    page = report([], title="t", verdict="v", cases=cases)
    assert [case.score for case in page.cases] == sorted((case.score for case in cases), reverse=True)
    assert "HD95 <b>5.0 mm</b>" in page.html and "HD95 (mm)" in page.html and "Dice" not in page.html


def test_a_report_of_nothing_is_still_a_report() -> None:
    """Without findings, cases or table the page has its verdict and its limitations."""
    text = report([], title="t", verdict="Nothing could be estimated.").html
    assert "Nothing could be estimated." in text and "Not for clinical use" in text


def test_figures_have_alternative_text_data_and_downloads(saved: Path) -> None:
    """Each drawing is described, and can be had as SVG, its data as TSV."""
    seen = Seen(saved.read_text())
    drawings = [a for tag, a in seen.tags if tag == "div" and "drawing" in (a.get("class") or "")]
    assert len(drawings) == 4 and all(a["role"] == "img" and len(a["aria-label"] or "") > 20 for a in drawings)
    assert {"decomposition.svg", "decomposition-data.tsv", "distance.svg", "distance-data.tsv"} <= set(
        seen.every("download")
    )


def test_figure_widths_are_those_of_a_journal() -> None:
    """A column is 85 mm wide and a page 180 mm, as SVG and as PDF."""
    for width, points in (("column", 240.9), ("page", 510.2)):
        drawn = draw(decomposition(), width, "f")
        declared = re.search(r'width="([\d.]+)pt"', drawn.standalone)
        assert declared is not None and float(declared[1]) == pytest.approx(points, abs=0.2)
        box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", drawn.pdf)
        assert box is not None and float(box[1]) == pytest.approx(points, abs=0.2)


def test_figures_leave_global_settings_alone() -> None:
    """Drawing a report neither changes matplotlib's settings nor opens pyplot figures."""
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw(decomposition(), "page", "f")
    assert dict(mpl.rcParams) == before


def test_bundle_table_has_one_row_a_bundle_and_hemisphere() -> None:
    """Components stand side by side, the primary estimator comes first, and no estimate is lost."""
    bundles = [Bundle(name="AF", hemisphere="left"), Bundle(name="FAT", hemisphere="right")]
    tables = by_bundle(components(bundles).sort_values("method"))
    assert list(tables) == ["anchored", "hemispheric", "shell"]
    # What another estimand all components share is said above the table, and not in each of its headers.
    assert {name: one.attrs["estimand"] for name, one in tables.items()} == {
        "anchored": "",
        "hemispheric": "",
        "shell": "Dice implied by voxels' error rates",
    }
    assert list(tables["shell"]) == list(tables["anchored"])
    wide = tables["anchored"]
    assert list(wide["bundle"]) == ["AF", "FAT"]
    assert list(wide["status"]) == ["ok", "range"]
    assert wide[["total", "systematic", "tumor"]].map(lambda text: text.count("[") == 1).all(axis=None)


def test_download_holds_unrounded_numbers() -> None:
    """What is rounded on the page is exact in the TSV, with n/a for what is missing."""
    table = view(pd.DataFrame({"value": [0.123456789, float("nan")]}), "t", "c")
    assert [row[0].text for row in table.rows] == ["0.123", "–"]
    assert table.tsv == "value\n0.123456789\nn/a\n"


def test_the_table_of_cases_rounds_as_the_page_and_leaves_out_what_all_share() -> None:
    """Scores have the decimals of cards and sentences, and the file those measured; one bundle needs no column."""
    places = dict.fromkeys(("image", "reference", "prediction"), Path("x.nii.gz"))
    bundle = Bundle(name="AF", hemisphere="left")
    cases = [
        CasePicture(participant_id=f"sub-{i}", bundle=bundle, score=score, distance_mm=3.14159, **places)
        for i, score in enumerate((0.46789, float("nan")))
    ]
    told = cases_table(cases, "Every case", [])
    assert [one.title for one in told.headers] == ["participant", "Dice", "distance (mm)"]
    assert [[cell.text for cell in row] for row in told.rows] == [["sub-0", "0.47", "3.1"], ["sub-1", "–", "3.1"]]
    assert told.rows[1][1].sort == "" and "0.46789" in told.tsv


def test_status_words_are_explained() -> None:
    """A status word in a table comes with its sentence, in words; its file keeps the word."""
    table = view(pd.DataFrame({"bundle": ["AF"], "status": ["too_few"]}), "t", "c")
    assert table.rows[0][1].text == table.statuses[0][0] == "too few" and "too_few" in table.tsv
    page = report([sensitivity()], title="t", verdict="v", table=components([Bundle(name="FAT", hemisphere="left")]))
    assert "What the tumor does beyond" in page.html


def test_notebook_representation_is_a_frame(tmp_path: Path) -> None:
    """In a notebook the page stands in a frame of its own, fully escaped."""
    text = report([decomposition()], title="t", verdict="v")._repr_html_()
    tags = Seen(text).tags
    assert [tag for tag, _ in tags] == ["iframe"] and "<!doctype html>" in (tags[0][1]["srcdoc"] or "")


def test_citation_holds_the_numbers_and_references_of_the_run(saved: Path) -> None:
    """The methods paragraph names participants and settings; every reference has an entry with its DOI."""
    text = (saved.parent / "CITATION.md").read_text()
    assert "24 patients" in text and "2,000 times" in text and "0.120 [0.100, 0.140] Dice" in text
    entries = (saved.parent / "CITATION.bib").read_text()
    assert "doi = {10.1016/j.media.2025.103766}" in entries and "Medical Image Analysis" in entries
    assert "year = {2025}" in entries and "url = {https://doi.org/10.1016/j.media.2025.103766}" in entries
    assert entries.count("{") == entries.count("}")


def test_citation_survives_braces_in_a_reference() -> None:
    """A hostile reference does not end a BibTeX entry early."""
    finding = Finding(key="k", title="t", claim="c", references=("10.1/x}}, note={evil",))
    entries = citation_bibtex(report([finding], title="t", verdict="v"))
    assert entries.count("{") == entries.count("}") and "note=evil" in entries
