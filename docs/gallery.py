"""The pictures of ``docs/gallery.md``, from a run and its report.

``shiftkit decompose --model reference --cohort small/glioma --reference small/healthy --out run`` on the phantom of
``docs/start.md``, then ``python docs/gallery.py run``; the picture of the report needs playwright and Chromium.
"""

import argparse
import io
import shutil
from pathlib import Path

FOLDER = Path(__file__).with_name("gallery")
FIGURES = ("decomposition", "distance", "bundles", "agreement", "bundle-AFleft-sections")
WIDTH, HEIGHT = 1200, 900


def figures(run: Path) -> None:
    """Copy figures that a report shows."""
    for name in FIGURES:
        shutil.copy(run / "figures" / f"{name}.svg", FOLDER)


def first_screen(run: Path) -> None:
    """Photograph the first screen of a report, in a palette of 64 colors."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        place = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=place, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, reduced_motion="reduce")
        page.goto((run / "report.html").resolve().as_uri())
        image = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    image.convert("RGB").quantize(64).save(FOLDER / "report.png", optimize=True)


def main() -> None:
    """Write all pictures into ``docs/gallery``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    FOLDER.mkdir(exist_ok=True)
    figures(run)
    first_screen(run)


if __name__ == "__main__":
    main()
