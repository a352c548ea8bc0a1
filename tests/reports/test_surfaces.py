import base64
import gzip
import io
import json

import nibabel as nib
import numpy as np
import pytest
from makers.reports import ball, head
from PIL import Image

from shiftkit.reports.surfaces import scene_of, surface, turned
from shiftkit.types import Volume


def volume_of(points: np.ndarray, triangles: np.ndarray) -> float:
    """Volume within a closed surface whose triangles run counterclockwise seen from outside."""
    a, b, c = points[triangles].transpose(1, 0, 2)
    return float((a * np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize(("radius", "edge"), [(8.0, 1.5), (20.0, 3.0)])
def test_a_surface_is_closed_outward_and_encloses_its_mask(radius: float, edge: float) -> None:
    """Each edge joins two triangles, the enclosed volume is the ball's, and its points lie on the ball's surface."""
    mask = ball(head(spacing=2.0), (10.0, -5.0, 20.0), radius)
    found = surface(mask, edge)
    edges = np.concatenate([found.triangles[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])
    there, back = {tuple(one) for one in edges.tolist()}, {tuple(one[::-1]) for one in edges.tolist()}
    assert there == back and len(edges) == len(there)
    assert volume_of(found.points, found.triangles) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.15)
    away = np.linalg.norm(found.points - [10.0, -5.0, 20.0], axis=1)
    assert np.abs(away - radius).max() < 2.5


def test_a_surface_lies_in_the_world_whatever_the_voxel_order() -> None:
    """Orientation of the grid changes neither place nor handedness."""
    mask = ball(head(), (30.0, 10.0, -12.0), 18.0)
    image = nib.Nifti1Image(mask.array.astype(np.uint8), mask.affine)
    for codes in ("LAS", "PSR", "IRA"):
        into = nib.orientations.ornt_transform(
            nib.orientations.io_orientation(mask.affine), nib.orientations.axcodes2ornt(tuple(codes))
        )
        other = image.as_reoriented(into)
        found = surface(Volume(array=np.asarray(other.dataobj) > 0, affine=np.asarray(other.affine)))
        assert np.abs(found.points.mean(axis=0) - [30.0, 10.0, -12.0]).max() < 1.0
        assert volume_of(found.points, found.triangles) > 0


def test_a_thin_bundle_keeps_a_surface() -> None:
    """A tube of one voxel does not vanish, and an empty mask has none."""
    like = head(spacing=2.0)
    thin = np.zeros(like.shape, dtype=bool)
    thin[20:60, 40, 40] = True
    assert len(surface(like.with_array(thin)).points) > 50
    assert surface(like.with_array(np.zeros(like.shape, dtype=bool))).points.shape == (0, 3)


def test_a_scene_holds_its_parts_and_is_the_same_each_time() -> None:
    """Counts in the JSON fit the packed bytes; predictions carry their distance to the reference; no randomness."""
    image = head()
    layers = {
        "AF left": {
            "reference": ball(image, (-28, 0, 10), 20),
            "prediction": ball(image, (-20, 0, 10), 20),
            "tumor": ball(image, (32, -30, 20), 16),
        }
    }
    made, again = scene_of(image, layers), scene_of(image, layers)
    assert made is not None and made == again
    content = json.loads(made.content)
    parts = {part["kind"]: part for part in content["parts"]}
    assert list(parts) == ["reference", "prediction", "tumor", "head"] and made.labels == ("AF left",)
    data = gzip.decompress(base64.b64decode(content["data"]))
    length = 0
    for part in content["parts"]:
        length += 6 * part["points"] + 6 * part["triangles"] + part["points"] * part["shaded"]
        length += -length % 4
    assert len(data) == length
    assert parts["prediction"]["shaded"] and not parts["reference"]["shaded"]
    still = np.asarray(Image.open(io.BytesIO(base64.b64decode(made.still))).convert("RGB")).astype(int)
    assert ((still[..., 2] > still[..., 0] + 50) & (still[..., 2] > 90)).mean() > 0.02


def test_nothing_to_show_is_no_scene() -> None:
    """Where every mask is empty there is no scene."""
    image = head()
    nothing = image.with_array(np.zeros(image.shape, dtype=bool))
    assert scene_of(image, {"AF left": {"reference": nothing, "prediction": nothing}}) is None


def test_one_looks_along_right_handed_axes() -> None:
    """What points right, up and toward the viewer stand at right angles, for every view."""
    for view in ((0.0, 0.0), (-0.75, 0.25), (2.0, -1.2)):
        axes = turned(view)
        assert np.allclose(axes @ axes.T, np.eye(3)) and np.allclose(np.cross(axes[0], axes[1]), axes[2])
