"""The pictures of ``docs/gallery.md``, from a run and its report: ``make gallery``.

``shiftkit demo --out run``, whose phantom is severe enough for both parts of the drop to be seen, then
``python docs/gallery.py run``; the pictures of pages need playwright and Chromium.
"""

import argparse
import io
import shutil
from pathlib import Path

FOLDER = Path(__file__).with_name("gallery")
FIGURES = ("decomposition", "distance", "bundles", "agreement", "bundle-AFleft-sections", "cohort-tumors")
PAGES = {"report": "report.html", "cohort": "reports/cohort.html"}
WIDTH, HEIGHT = 1200, 900
LARGEST_BYTES = 300_000


def figures(run: Path) -> None:
    """Copy figures that a report shows."""
    for name in FIGURES:
        shutil.copy(run / "figures" / f"{name}.svg", FOLDER)


def first_screens(run: Path) -> None:
    """Photograph the first screen of pages, in a palette of 64 colors."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        place = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=place, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, reduced_motion="reduce")
        for name, file in PAGES.items():
            page.goto((run / file).resolve().as_uri())
            image = Image.open(io.BytesIO(page.screenshot()))
            image.convert("RGB").quantize(64).save(FOLDER / f"{name}.png", optimize=True)
        browser.close()
    large = [name for name in PAGES if (FOLDER / f"{name}.png").stat().st_size > LARGEST_BYTES]
    if large:
        raise SystemExit(f"Pictures in docs/gallery stay below {LARGEST_BYTES:,} bytes; {', '.join(large)} do not.")


def main() -> None:
    """Write all pictures into ``docs/gallery``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    FOLDER.mkdir(exist_ok=True)
    figures(run)
    first_screens(run)


if __name__ == "__main__":
    main()
