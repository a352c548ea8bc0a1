import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from makers.reports import ball, head
from PIL import Image

from shiftkit.reports import three_planes
from shiftkit.types import Volume

SVG = "{http://www.w3.org/2000/svg}"


def axial_picture(svg: str) -> np.ndarray:
    """The gray values of the first panel."""
    image = ElementTree.fromstring(svg).find(f".//{SVG}image")
    assert image is not None
    return np.asarray(Image.open(BytesIO(b64decode(image.attrib["href"].split(",")[1]))))


def outline(svg: str, name: str) -> np.ndarray:
    """The points of a named outline in the first panel, shape (N, 2), in picture coordinates."""
    panel = ElementTree.fromstring(svg).find(f"{SVG}g")
    assert panel is not None
    path = next(p for p in panel.iter(f"{SVG}path") if p.findtext(f"{SVG}title") == name)
    return np.array([[float(v) for v in pair.split()] for pair in re.findall(r"[-\d.]+ [-\d.]+", path.attrib["d"])])


def turned(orientation: str) -> tuple[Volume, Volume, Volume]:
    image = head(orientation)
    return image, ball(image, (30, 35, 0), 14), ball(image, (-30, -35, 0), 14)


@pytest.mark.parametrize("orientation", ["LAS", "RPI", "PIR", "ASL"])
def test_any_voxel_order_gives_the_same_picture(orientation: str) -> None:
    """A volume looks the same however its voxels are ordered on disk."""
    assert three_planes(*turned(orientation)) == three_planes(*turned("RAS"))


def test_right_is_left_in_radiological_convention() -> None:
    """What lies on the participant's right front is drawn at the viewer's upper left, where the letter R stands."""
    image, reference, prediction = turned("LAS")
    svg = three_planes(image, reference, prediction)
    pixels = axial_picture(svg).astype(float)
    spot = np.argwhere(pixels > 240).mean(axis=0)
    assert spot[0] < pixels.shape[0] / 2 and spot[1] < pixels.shape[1] / 2
    letters = [(float(t.attrib["x"]), t.text) for t in ElementTree.fromstring(svg).iter(f"{SVG}text")][:2]
    assert letters[0][1] == "R" and letters[0][0] < letters[1][0]


def test_neurological_convention_mirrors_the_axial_slice_and_its_letters() -> None:
    """In neurological convention the participant's left is on the viewer's left."""
    image, reference, prediction = turned("RAS")
    left = three_planes(image, reference, prediction)
    right = three_planes(image, reference, prediction, convention="neurological")
    np.testing.assert_array_equal(axial_picture(left), axial_picture(right)[:, ::-1])
    assert [t.text for t in ElementTree.fromstring(right).iter(f"{SVG}text")][:2] == ["L", "R"]


def test_outline_lies_where_the_mask_is() -> None:
    """The outline of the reference surrounds the bright spot of the image it was drawn on."""
    image, reference, prediction = turned("LAS")
    svg = three_planes(image, reference, prediction)
    # Samples of a picture of 4 mm voxels are 2 mm apart.
    spot = 2 * (np.argwhere(axial_picture(svg) > 240).mean(axis=0)[::-1] + 0.5)
    points = outline(svg, "reference")
    np.testing.assert_allclose((points.max(axis=0) + points.min(axis=0)) / 2, spot, atol=1.5)
    radius = np.linalg.norm(points - spot, axis=1)
    assert radius.min() > 9 and radius.max() < 16


def test_outlines_differ_in_color_and_in_line_style() -> None:
    """No two outlines share a color or a dash pattern."""
    image, reference, _ = turned("RAS")
    svg = three_planes(image, reference, reference, ball(image, (30, 35, 0), 20))
    drawn = [p for p in ElementTree.fromstring(svg).iter(f"{SVG}path") if p.find(f"{SVG}title") is not None]
    looks = {p.findtext(f"{SVG}title"): (p.attrib["stroke"], p.attrib.get("stroke-dasharray", "")) for p in drawn}
    assert set(looks) == {"reference", "prediction", "tumor"}
    assert len({color for color, _ in looks.values()}) == len({dash for _, dash in looks.values()}) == 3


def test_masks_on_a_grid_of_their_own_are_placed_in_the_world() -> None:
    """A mask on a coarser, differently ordered grid is drawn at the same place."""
    image, reference, prediction = turned("RAS")
    other = ball(head("PIR", 5.0), (30, 35, 0), 14)
    a = outline(three_planes(image, reference, prediction), "reference")
    b = outline(three_planes(image, other, prediction), "reference")
    np.testing.assert_allclose(a.mean(axis=0), b.mean(axis=0), atol=2.5)


def test_empty_masks_and_nan_still_give_a_picture() -> None:
    """An empty reference, an empty prediction and NaN in the image do not stop the drawing."""
    image = head()
    holes = image.array.copy()
    holes[:5] = np.nan
    nothing = image.with_array(np.zeros(image.shape, dtype=bool))
    svg = three_planes(image.with_array(holes), nothing, nothing)
    assert "NaN" not in svg and "nan" not in svg
    ElementTree.fromstring(svg)


def test_left_bundle_of_a_real_participant_lies_on_the_left(shared_data: Path) -> None:
    """In the LAS images of a real subject the left AF is drawn on the side of the letter L."""
    from shiftkit.images import read_image, read_mask

    subject = shared_data / "tractseg_subject"
    masks = sorted((subject / "bundle_segmentations").glob("AF_left*"))
    if not masks:
        pytest.skip("the subject's bundle masks are absent")
    reference = read_mask(masks[0])
    svg = three_planes(read_image(subject / "FA.nii.gz"), reference, reference)
    image = ElementTree.fromstring(svg).find(f".//{SVG}image")
    assert image is not None and outline(svg, "reference")[:, 0].mean() > float(image.attrib["width"]) / 2
