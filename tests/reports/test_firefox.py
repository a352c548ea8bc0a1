"""One look through another engine than Chromium's; Debian's Firefox takes pictures, and no other orders from tests."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from makers.reports import example
from PIL import Image

from shiftkit.work import Work

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")


@pytest.mark.slow
@pytest.mark.skipif(FIREFOX is None, reason="no firefox is installed (Debian: firefox-esr)")
def test_firefox_shows_the_first_page_from_disk(tmp_path: Path) -> None:
    """The first screen holds the bar of the answer, the figures' colors, and text on more than a few lines."""
    page = example(tmp_path / "images", n=1).save(tmp_path / "run" / "report.html", work=Work(jobs=1))
    picture, profile = tmp_path / "screen.png", tmp_path / "profile"
    profile.mkdir()
    # Nothing but the page: no start page, no updates, no light or dark of the machine's.
    settings = {"browser.shell.checkDefaultBrowser": "false", "layout.css.prefers-color-scheme.content-override": "1"}
    settings |= {"app.update.enabled": "false", "datareporting.policy.dataSubmissionEnabled": "false"}
    told = "".join(f'user_pref("{name}", {value});\n' for name, value in settings.items())
    (profile / "user.js").write_text(told)
    command = [str(FIREFOX), "--headless", "--no-remote", "--profile", str(profile), "--window-size=1280,900"]
    command += ["--screenshot", str(picture), page.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert picture.is_file(), ran.stderr
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert pixels.shape == (900, 1280, 3)
    dark = (pixels.max(axis=-1) < 110).any(axis=1)
    assert 100 < dark.sum() < 880 and (pixels.min(axis=-1) > 250).mean() > 0.5
    red, green, blue = np.moveaxis(pixels, -1, 0)
    accent = (red < 40) & (abs(green - 114) < 30) & (abs(blue - 178) < 30)
    # The bar beside the answer, and what the figures draw below it.
    assert accent[:300].sum() > 200 and accent[300:].sum() > 50
