import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers.reports import HOSTILE, example
from PIL import Image

from shiftkit.reports import Report
from shiftkit.reports.niivue import bundled
from shiftkit.work import Work

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
# Pages scroll smoothly unless motion is reduced: a click may then fall beside what moves.
STILL = {"offline": True, "reduced_motion": "reduce"}


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return example(tmp_path_factory.mktemp("images"), ids=["sub-01", HOSTILE, 'sub-"03"', "sub-04"])


@pytest.fixture(scope="session")
def saved(made: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.save(tmp_path_factory.mktemp("run") / "report.html", work=Work(jobs=1))


@pytest.fixture
def opened(browser: Any, saved: Path) -> Iterator[Any]:
    """The first page, offline, with every complaint of the browser collected."""
    context = browser.new_context(**STILL, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.complaints = []
    # Chromium without a graphics card tells how it copies pixels; that is no word of the page's.
    page.on("console", lambda one: page.complaints.append(one.text) if "GL Driver Message" not in one.text else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.complaints.append(request.url) if request.url[:4] == "http" else None)
    page.goto(saved.as_uri())
    yield page
    context.close()


def column(page: Any, table: str, place: int) -> list[str]:
    shown = f"#{table} tbody tr:not([hidden]) td:nth-child({place})"
    return page.eval_on_selector_all(shown, "cells => cells.map(cell => cell.textContent)")


def test_every_page_opens_from_disk_without_complaint(opened: Any, saved: Path) -> None:
    """Neither page errors nor console messages nor requests, with networking off and hostile ids inside."""
    for path in [saved, *sorted((saved.parent / "reports").glob("*.html"))]:
        opened.goto(path.as_uri())
        opened.wait_for_timeout(100)
        assert opened.title() != "owned"
    assert opened.complaints == []


def test_case_pictures_are_drawn(opened: Any) -> None:
    """Each picture decodes to pixels that are not all alike."""
    drawn = opened.evaluate(
        """async () => Promise.all([...document.querySelectorAll('img.planes')].map(async (image) => {
          image.loading = 'eager'; await image.decode();
          const canvas = document.createElement('canvas'); canvas.width = 300; canvas.height = 120;
          const context = canvas.getContext('2d'); context.drawImage(image, 0, 0, 300, 120);
          return new Set(new Uint32Array(context.getImageData(0, 0, 300, 120).data.buffer)).size;
        }))"""
    )
    assert len(drawn) == 8 and min(drawn) > 50


def test_table_sorts_by_number_both_ways(opened: Any) -> None:
    """A click on a header sorts by value, a second click the other way, and the header says so."""
    head = opened.locator("#table-anchored th", has_text="systematic")
    for order in ("ascending", "descending"):
        head.locator("button").click()
        values = [float(text.split(" [")[0].replace("−", "-")) for text in column(opened, "table-anchored", 4)]
        assert values == sorted(values, reverse=order == "descending")
        assert head.get_attribute("aria-sort") == order


def test_table_filters(opened: Any) -> None:
    """Search and choice together leave the rows that satisfy both, and the count says how many."""
    box = opened.locator("#table-anchored")
    box.locator("label", has_text="hemisphere").locator("select").select_option("left")
    assert column(opened, "table-anchored", 2) == ["left"] * 5
    box.locator("input[type=search]").fill("ifof")
    assert column(opened, "table-anchored", 1) == ["IFOF"]
    assert box.locator("output").text_content() == "1 of 10 rows"


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_page_never_scrolls_sideways(opened: Any, width: int) -> None:
    """At a phone's, a tablet's and a desk's width only tables scroll sideways, within themselves."""
    opened.set_viewport_size({"width": width, "height": 844})
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_one_drawing_is_shown_at_a_time(opened: Any) -> None:
    """The narrow drawing replaces the wide one on a phone."""
    for width, shown in ((1280, "wide"), (390, "narrow")):
        opened.set_viewport_size({"width": width, "height": 844})
        assert opened.locator(f"#recovery-numbers .drawing.{shown}").is_visible()
        assert opened.locator("#recovery-numbers .drawing:visible").count() == 1


def test_dark_mode_is_dark_with_light_ink(browser: Any, saved: Path) -> None:
    """In dark mode the page is dark, and the figures' text follows the page's."""
    context = browser.new_context(**STILL, color_scheme="dark")
    page = context.new_page()
    page.goto(saved.as_uri())
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    ink = page.evaluate(
        "getComputedStyle(document.querySelector('#distance svg text')).fill.match(/\\d+/g).map(Number)"
    )
    context.close()
    assert max(paper[:3]) < 60 and min(ink[:3]) > 180


def test_page_is_whole_without_scripts(browser: Any, saved: Path) -> None:
    """With scripts off every table row and every picture is there."""
    context = browser.new_context(**STILL, java_script_enabled=False)
    page = context.new_page()
    page.goto(saved.as_uri())
    assert page.locator("#table-anchored tbody tr").count() == 10
    assert page.locator("img.planes").count() == 8
    context.close()


def test_ratings_are_kept_and_exported(opened: Any, saved: Path) -> None:
    """A rating and its comment survive a reload, are shared with the participant's page, and leave as TSV."""
    card = opened.locator(".case", has_text="sub-04").first
    card.get_by_label("doubtful").check()
    card.get_by_label("comment").fill("cut short\tin front")
    opened.reload()
    assert opened.locator(".case", has_text="sub-04").first.get_by_label("doubtful").is_checked()
    opened.goto((saved.parent / "reports" / "participant-sub-04.html").as_uri())
    with opened.expect_download() as download:
        opened.get_by_role("button", name="Download my ratings").click()
    header, *rows = Path(download.value.path()).read_text().splitlines()
    assert header.split("\t") == ["participant_id", "bundle", "hemisphere", "model", "rating", "comment"]
    assert [row.split("\t") for row in rows] == [
        ["sub-04", "AF", "left", "reference", "doubtful", "cut short in front"]
    ]


def test_the_first_screen_holds_the_answer(opened: Any) -> None:
    """At 1280 px answer, figures, repair and limits end above 900 px; on a phone the menu follows the title."""
    below = "document.querySelector('{}').getBoundingClientRect().{}"
    assert opened.evaluate(below.format(".screen", "bottom")) <= 900
    for shown in ("h1", ".verdict", ".facts", "#decomposition svg", "#distance svg", "#recovery p", "#unknown li"):
        assert opened.locator(shown).first.is_visible()
    opened.set_viewport_size({"width": 390, "height": 844})
    title, menu, answer = (opened.evaluate(below.format(one, "top")) for one in ("h1", "nav", ".verdict"))
    assert title < menu < answer


def test_the_first_page_prints_on_few_sheets(opened: Any) -> None:
    """The printed first page takes eight sheets at most, and the first sheet holds the answer with its figures."""
    opened.emulate_media(media="print")
    # A4 less the margins, at 96 dots an inch.
    opened.set_viewport_size({"width": 688, "height": 1000})
    assert opened.evaluate("document.querySelector('.screen').getBoundingClientRect().bottom") <= 1000
    printed = opened.pdf(format="A4", prefer_css_page_size=True)
    assert 2 <= len(re.findall(rb"/Type /Page\b(?!s)", printed)) <= 8


def test_a_page_is_small(saved: Path, opened: Any) -> None:
    """The first page of four patients stays under 5,000 elements and, its viewer aside, 2 MB."""
    assert opened.evaluate("document.querySelectorAll('*').length") < 5000
    opened.evaluate("document.querySelectorAll('script[type]').forEach((one) => one.remove())")
    assert len(opened.content()) < 2e6


def test_terms_are_explained_on_focus_and_in_print(opened: Any) -> None:
    """A term shows its explanation to hand and keyboard, and the list at the page's end holds the same."""
    term = opened.locator(".verdict .term", has_text="Dice")
    shown = "getComputedStyle(document.querySelector('.verdict .term'), '::after').content"
    assert "shared volume" not in opened.evaluate(shown)
    term.focus()
    assert "shared volume" in opened.evaluate(shown)
    opened.emulate_media(media="print")
    listed = opened.locator(f"#{term.get_attribute('aria-describedby')}")
    assert listed.is_visible() and "shared volume" in listed.text_content()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_axe_finds_nothing(browser: Any, saved: Path, scheme: str, width: int) -> None:
    """An automatic check of accessibility finds no fault in color schemes, widths and print, everything unfolded."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    # The checker is itself a script that the page's policy would refuse.
    look: dict[str, Any] = {} if scheme == "print" else {"color_scheme": scheme}
    context = browser.new_context(**STILL, bypass_csp=True, viewport={"width": width, "height": 900}, **look)
    page = context.new_page()
    page.emulate_media(media="print" if scheme == "print" else "screen")
    pages = sorted((saved.parent / "reports").glob("*.html"))
    for path in [
        saved,
        pages[0],
        *(one for one in pages if one.stem in ("cohort", "data", "methods", "more")),
        pages[-1],
    ]:
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        faults = axe.Axe().run(page).response["violations"]
        assert [(fault["id"], fault["nodes"][0]["html"]) for fault in faults] == []
    context.close()


def shown(page: Any) -> np.ndarray:
    """The canvas once a case is drawn on it, shape (rows, columns, 3)."""
    page.wait_for_selector("#viewer[data-state='ready'], #viewer[data-state='failed']", timeout=60_000)
    assert page.get_attribute("#viewer", "data-state") == "ready", page.locator("#viewer [role=status]").text_content()
    page.wait_for_timeout(300)
    return np.asarray(Image.open(io.BytesIO(page.locator("#viewer canvas").screenshot())).convert("RGB"))


def bluish(pixels: np.ndarray) -> np.ndarray:
    """Where the reference's color is."""
    red, _, blue = np.moveaxis(pixels.astype(int), -1, 0)
    return blue - red > 40


@pytest.mark.skipif(bundled() is None, reason="niivue was not fetched (make viewer)")
@pytest.mark.parametrize("linked", [False, True])
def test_viewer_draws_the_case_that_was_clicked(
    browser: Any, made: Report, saved: Path, tmp_path: Path, linked: bool
) -> None:
    """A point, then a row, opens its own case on the one canvas, with the reference left of the right; no errors."""
    path = saved
    if linked:
        path = made.save(tmp_path / "report.html", linked=True, work=Work(jobs=1))
        assert (path.parent / "reports" / "volumes" / "niivue.js").is_file()
    context = browser.new_context(**STILL, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(path.as_uri())
    page.locator("#distance .drawing circle[data-case=case-sub-01-AFleft-reference]").click()
    left = shown(page)
    assert len(np.unique(left.reshape(-1, 3), axis=0)) > 50
    assert page.locator("#viewer-title").text_content() == "sub-01, AF left"
    page.get_by_role("button", name="Close").click()
    row = page.locator("#cases-table a[data-case=case-sub-01-PYTright-reference]")
    row.scroll_into_view_if_needed()
    page.wait_for_timeout(300)  # what moves between press and release was not clicked
    row.click()
    right = shown(page)
    # Radiological: the left bundle is drawn right of the right one in the axial and the coronal plane.
    half = left.shape[1] // 2
    assert np.argwhere(bluish(left)[:, :half])[:, 1].mean() > np.argwhere(bluish(right)[:, :half])[:, 1].mean() + 20
    page.locator("#viewer").get_by_label("reference", exact=True).uncheck()
    page.wait_for_timeout(300)
    assert bluish(shown(page)).sum() < 0.1 * bluish(right).sum()
    assert page.locator("#viewer canvas").count() == 1 and problems == []
    context.close()


@pytest.mark.skipif(bundled() is None, reason="niivue was not fetched (make viewer)")
def test_rating_in_the_viewer_is_the_cards_rating(opened: Any) -> None:
    """What is rated in the viewer stands on the case's card at once."""
    opened.locator("#case-sub-04-AFleft-reference .open a").click()
    shown(opened)
    opened.locator(".viewer-rating").get_by_label("bad").check()
    opened.get_by_role("button", name="Close").click()
    assert opened.locator("#case-sub-04-AFleft-reference").get_by_label("bad").is_checked()


def test_without_webgl_a_row_leads_to_the_static_picture(browser: Any, saved: Path) -> None:
    """Where the canvas gives no WebGL, a row's link goes to the case's picture and no dialog opens."""
    context = browser.new_context(**STILL)
    page = context.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.goto(saved.as_uri())
    page.locator("#cases-table a", has_text="sub-04").first.click()
    page.wait_for_timeout(200)
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("document.querySelector(decodeURIComponent(location.hash) + ' img.planes') !== null")
    context.close()


def scene(page: Any) -> np.ndarray:
    """The pixels of the surfaces once they are drawn."""
    page.locator("#scene").scroll_into_view_if_needed()
    page.wait_for_selector("#scene[data-state=ready]", timeout=30_000)
    picture = page.locator("#scene canvas").screenshot()
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def blue(pixels: np.ndarray) -> np.ndarray:
    return (pixels[..., 2] > pixels[..., 0] + 50) & (pixels[..., 2] > 90)


def yellow(pixels: np.ndarray) -> np.ndarray:
    return (pixels[..., 0] > 100) & (pixels[..., 0] > pixels[..., 2] + 60) & (pixels[..., 1] > 90)


def test_surfaces_are_drawn_turned_hidden_and_reset(opened: Any, saved: Path) -> None:
    """The canvas shows the bundles' and the tumor's surfaces; keys turn and reset them, a box hides them; offline."""
    opened.goto((saved.parent / "reports" / "participant-sub-04.html").as_uri())
    first = scene(opened)
    assert blue(first).mean() > 0.005 and yellow(first).mean() > 0.002
    canvas = opened.locator("#scene canvas")
    canvas.focus()
    for _ in range(8):
        opened.keyboard.press("ArrowRight")
    turned = scene(opened)
    assert (np.abs(turned - first).max(axis=-1) > 30).mean() > 0.01
    opened.keyboard.press("+")
    assert blue(scene(opened)).sum() > 1.1 * blue(turned).sum()
    opened.keyboard.press("0")
    assert np.abs(scene(opened) - first).max() <= 2
    opened.locator("#scene [data-kind=tumor]").uncheck()
    assert yellow(scene(opened)).sum() == 0
    opened.locator("#scene [data-kind=tumor]").check()
    opened.locator("#scene [data-reset]").click()
    assert np.abs(scene(opened) - first).max() <= 2
    assert opened.complaints == []


def test_a_bundle_leads_to_its_page_from_table_and_brain(opened: Any) -> None:
    """A bundle's name in the table, and the bundle chosen in 3-D, lead to its page, where it stands alone."""
    opened.locator("#table-anchored a", has_text="AF").first.click()
    assert opened.url.endswith("reports/bundle-AFleft.html")
    alone = blue(scene(opened)).sum()
    opened.go_back()
    every = blue(scene(opened)).sum()
    assert 0 < alone < every
    opened.locator("#scene select").select_option("PYT right")
    opened.locator("#scene [data-leads]").click()
    assert opened.url.endswith("reports/bundle-PYTright.html")


def test_without_webgl_a_still_picture_stands_and_says_so(browser: Any, saved: Path) -> None:
    """Where the canvas gives no WebGL, the still picture is shown, is no blank, and the page says why."""
    context = browser.new_context(**STILL)
    page = context.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.goto((saved.parent / "reports" / "participant-sub-04.html").as_uri())
    page.locator("#scene").scroll_into_view_if_needed()
    page.get_by_text("this browser has no WebGL").wait_for()
    still = page.locator("#scene .still")
    assert still.is_visible() and not page.locator("#scene canvas").is_visible()
    pixels = np.asarray(Image.open(io.BytesIO(still.screenshot())).convert("RGB")).astype(int)
    assert blue(pixels).mean() > 0.005 and yellow(pixels).mean() > 0.002
    context.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_tables_of_components_fit_a_bundles_page(opened: Any, saved: Path, width: int) -> None:
    """On a phone and on a desk no estimator's table of a bundle is cut off, nor the sentence above it."""
    opened.set_viewport_size({"width": width, "height": 900})
    opened.goto((saved.parent / "reports" / "bundle-AFleft.html").as_uri())
    boxes = "[...document.querySelectorAll('.fit .scroll')].map((one) => one.scrollWidth - one.clientWidth)"
    found = opened.evaluate(boxes)
    assert len(found) == 3 and max(found) <= 0


def test_table_fits_a_desk(opened: Any) -> None:
    """At 1280 px no column of the bundle table is cut off."""
    box = "document.querySelector('#table-anchored .scroll')"
    assert opened.evaluate(f"{box}.scrollWidth <= {box}.clientWidth")
