import base64
import gzip
import io
import re
import shutil
import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from makers.reports import ball, distance, example, head

from shiftkit.errors import DataError
from shiftkit.reports import restore, store
from shiftkit.reports.niivue import bundled, unpack
from shiftkit.reports.pages import Pages
from shiftkit.reports.volumes import LAYERS, pack, unpacked
from shiftkit.types import Bundle
from shiftkit.work import Work

BOX = np.array([[-70.0, -80, -70], [70, 80, 70]])


def tarball(name: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = 4
        archive.addfile(member, io.BytesIO(b"code"))
    return stream.getvalue()


def test_a_changed_tarball_is_refused() -> None:
    """A tarball with another digest than the pinned one is not unpacked."""
    with pytest.raises(DataError, match="must have the digest sha512-"):
        unpack(tarball("package/dist/niivue.umd.js"))


def test_the_pinned_tarball_gives_its_script() -> None:
    """With the right digest the script comes out, and a tarball without it says so."""
    import hashlib

    for name, good in (("package/dist/niivue.umd.js", True), ("other", False)):
        content = tarball(name)
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
        if good:
            assert gzip.decompress(unpack(content, integrity)) == b"code"
        else:
            with pytest.raises(DataError, match="must hold"):
                unpack(content, integrity)


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "PIR"])
def test_packed_masks_lie_where_they_were(orientation: str) -> None:
    """Whatever the voxel order, a mask's center of mass stays within half a voxel, and each layer has its own bit."""
    image = head(orientation)
    layers = {"reference": ball(image, (30, 10, -5), 16), "tumor": ball(image, (-30, -20, 15), 12)}
    packed = pack(image, {"case": layers}, BOX, (0, 1), 2.5)
    bits = unpacked(packed.overlays["case"])
    affine = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(packed.overlays["case"]))).affine
    for name, center in (("reference", (30, 10, -5)), ("tumor", (-30, -20, 15))):
        found = affine[:3, :3] @ np.argwhere(bits & LAYERS[name]).mean(axis=0) + affine[:3, 3]
        assert np.abs(found - center).max() < 2
        # The page's voxels are the image's own, so none is added or lost.
        assert np.count_nonzero(bits & LAYERS[name]) == np.count_nonzero(layers[name].array)
    assert not (bits & LAYERS["prediction"]).any()
    assert unpacked(packed.image).dtype == np.uint8


def test_thin_masks_survive_coarser_voxels() -> None:
    """A bundle as thin as two fine voxels keeps its volume within a third on voxels 2.5 times as large."""
    image = head(spacing=2.0)
    mask = ball(image, (20, 0, 0), 6)
    packed = pack(image, {"case": {"reference": mask}}, BOX, (0, 1), 3.0)
    volume = unpacked(packed.overlays["case"]).sum() * 27.0
    assert volume == pytest.approx(mask.array.sum() * 8.0, rel=0.33)


def test_saved_again_from_its_data_gives_the_same_bytes(tmp_path: Path) -> None:
    """A report stored, restored and saved elsewhere gives the same pages, drawings and citations, to the byte."""
    bundle = Bundle(name="AF", hemisphere="left")
    made = example(tmp_path / "images", n=2)
    finding = distance(["sub-01"], [4.0], [0.4])
    page = type(made)(**{**vars_of(made), "bundle_findings": {bundle: (rekeyed(finding),)}})
    first = page.save(tmp_path / "run" / "report.html").parent
    store(page, first)
    before = {path.relative_to(first): path.read_bytes() for path in first.rglob("*.*")}
    restore(first).save(first / "report.html")
    assert {path.relative_to(first): path.read_bytes() for path in first.rglob("*.*")} == before
    assert str(tmp_path) not in (first / "report.json").read_text()


def test_without_niivue_the_slices_can_be_gone_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture of the first page leads to nilearn's viewer, which fetches nothing and repeats byte by byte."""
    monkeypatch.setattr("shiftkit.reports.pages.bundled", lambda: None)
    page = example(tmp_path / "images", n=2)
    first, again = (page.save(tmp_path / name / "report.html") for name in ("a", "b"))
    links = re.findall(r'href="(reports/slices/[^"]+)"', first.read_text())
    assert len(links) == len(page.cases)
    for link in links:
        text = (first.parent / link).read_text()
        assert text == (again.parent / link).read_text()
        assert "brainsprite" in text and "http" not in re.sub(r"<!--.*?-->|/\*.*?\*/|//[^\n]*", "", text, flags=re.S)


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


@pytest.mark.skipif(bundled() is None, reason="niivue was not fetched (make viewer)")
def test_large_reports_keep_volumes_beside_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Volumes are embedded below the limit and linked above it, and the log says so."""
    page = example(tmp_path / "images", n=2)
    assert not Pages(page, sisters=True).linked
    monkeypatch.setattr("shiftkit.reports.pages.LIMIT_BYTES", 4_000_000)
    told: list[str] = []
    page.save(tmp_path / "run" / "report.html", work=Work(progress=lambda done, total, text: told.append(text)))
    assert (tmp_path / "run" / "reports" / "volumes" / "image-001.js").is_file()
    assert any("15 MB" in text for text in told)


def vars_of(report: object) -> dict[str, object]:
    import dataclasses

    return {field.name: getattr(report, field.name) for field in dataclasses.fields(report)}  # type: ignore[arg-type]


def rekeyed(finding: object) -> object:
    import dataclasses

    return dataclasses.replace(finding, key="bundle-AFleft-distance")  # type: ignore[type-var]
