import contextlib
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shiftkit.errors import DataError
from shiftkit.images import image_digest, inside, read_image, read_mask, whole_labels, write_image
from shiftkit.types import Volume


def oblique(angle: float, spacing: tuple[float, float, float], mirrored: bool) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing) @ np.diag([-1.0 if mirrored else 1.0, 1, 1])
    affine[:3, 3] = (-20, 7, 3)
    return affine


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("images") / "image.nii.gz"
    array = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    write_image(Volume(array=array, affine=oblique(0.3, (2, 2, 2.5), True)), path)
    return path.read_bytes()


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_are_invalid_data(data: st.DataObject, stored: bytes, tmp_path: Path) -> None:
    """Whatever bytes of the header are overwritten, reading gives an image or a DataError, nothing else."""
    plain = bytearray(gzip.decompress(stored))
    place = data.draw(st.integers(0, 351))
    junk = data.draw(st.binary(min_size=1, max_size=8))
    plain[place : place + len(junk)] = junk
    path = tmp_path / "damaged.nii.gz"
    path.write_bytes(gzip.compress(bytes(plain), compresslevel=1))
    with contextlib.suppress(DataError):
        assert isinstance(read_image(path), Volume)


@pytest.mark.parametrize("keep", [0, 1, 10, 100, 0.5, 0.95])
def test_truncated_files_are_invalid_data(keep: float, stored: bytes, tmp_path: Path) -> None:
    """A file cut off anywhere is refused by name."""
    path = tmp_path / "cut.nii.gz"
    path.write_bytes(stored[: int(keep if keep >= 1 or keep == 0 else keep * len(stored))])
    with pytest.raises(DataError, match=r"cut\.nii\.gz"):
        read_image(path)


def test_header_that_asks_for_too_much_is_refused(stored: bytes, tmp_path: Path) -> None:
    """Absurd dimensions are refused from the header alone, before any memory is taken."""
    plain = bytearray(gzip.decompress(stored))
    plain[42:48] = b"\x00\x10" * 3  # 4096 voxels along each axis
    path = tmp_path / "huge.nii.gz"
    path.write_bytes(gzip.compress(bytes(plain)))
    with pytest.raises(DataError, match="GiB"):
        read_image(path)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    """A text file, a missing file, a one-dimensional image and complex numbers are refused."""
    (tmp_path / "text.nii.gz").write_text("not an image")
    with pytest.raises(DataError):
        read_image(tmp_path / "text.nii.gz")
    with pytest.raises(DataError, match="no image"):
        read_image(tmp_path / "missing.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), dtype=np.complex64), np.eye(4)), tmp_path / "complex.nii.gz")
    with pytest.raises(DataError, match="real numbers"):
        read_image(tmp_path / "complex.nii.gz")


def test_channels_are_no_mask(tmp_path: Path) -> None:
    """A mask with channels is refused; a fourth axis of length one is dropped."""
    write_image(Volume(array=np.zeros((3, 3, 3, 2), dtype=np.float32), affine=np.eye(4)), tmp_path / "two.nii.gz")
    with pytest.raises(DataError, match="three axes"):
        read_mask(tmp_path / "two.nii.gz")
    write_image(Volume(array=np.ones((3, 3, 3, 1), dtype=np.float32), affine=np.eye(4)), tmp_path / "one.nii.gz")
    assert read_mask(tmp_path / "one.nii.gz").array.shape == (3, 3, 3)


def test_digest_is_of_content_not_of_files(tmp_path: Path) -> None:
    """The digest ignores compression and data type on disk, and sees a voxel or the affine change."""
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    a, b, c, d = (tmp_path / name for name in ("a.nii.gz", "b.nii", "c.nii.gz", "d.nii.gz"))
    write_image(Volume(array=array, affine=np.eye(4)), a)
    write_image(Volume(array=array.astype(np.float32), affine=np.eye(4)), b)
    write_image(Volume(array=array, affine=np.diag([1, 1, 2.0, 1])), c)
    changed = array.copy()
    changed[0, 0, 0] = 9
    write_image(Volume(array=changed, affine=np.eye(4)), d)
    assert image_digest(a) == image_digest(b)
    assert len({image_digest(path) for path in (a, c, d)}) == 3


def test_equal_values_have_equal_digests(tmp_path: Path) -> None:
    """Minus zero is zero: a control must be known again when only the sign of its zeros differs."""
    array = np.zeros((2, 2, 2), dtype=np.float32)
    array[0, 0, 0] = 1.0
    for name, zero in (("plus", 0.0), ("minus", -0.0)):
        array[1] = zero
        write_image(Volume(array=array.copy(), affine=np.eye(4)), tmp_path / f"{name}.nii.gz")
    assert image_digest(tmp_path / "plus.nii.gz") == image_digest(tmp_path / "minus.nii.gz")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 1], [False, True, True]),
        ([0, 255, 0], [False, True, False]),
        ([0, 0.9999998, 0], [False, True, False]),
        ([0.1, 0.6, 0.4], [False, True, False]),
        ([0, 0, 0], [False, False, False]),
    ],
)
def test_masks_are_read_where_the_meaning_is_certain(values: list[float], expected: list[bool]) -> None:
    """0 and one other value, or probabilities that reach a half."""
    assert inside(np.array(values, dtype=np.float32), Path("m.nii.gz")).tolist() == expected


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0, 0.01, 0.02], "from 0 to 0.02"),
        ([0, 40, 99.5], "from 0 to 99.5"),
        ([0, 3, 4976], "from 0 to 4976"),
        ([-1, 0, 0], "from -1 to 0"),
        ([0, 1, np.nan], "1 of 3 voxels are NaN"),
    ],
)
def test_what_is_no_mask_is_refused_with_its_range(values: list[float], said: str) -> None:
    """Densities, percent, counts, negative values and NaN have no certain inside."""
    with pytest.raises(DataError, match=said):
        inside(np.array(values, dtype=np.float32), Path("m.nii.gz"))


def test_labels_survive_an_inexact_scale_factor() -> None:
    """2.9999998 is 3; 2.5 is no label."""
    assert whole_labels(np.array([0, 1.00392, 2.9999998]), Path("l.nii.gz")).tolist() == [0, 1, 3]
    with pytest.raises(DataError, match=r"such as 2\.5"):
        whole_labels(np.array([0, 2.5]), Path("l.nii.gz"))


@pytest.mark.parametrize("spacing", [0.0025, 2500.0, 2.5])
def test_images_in_other_units_or_far_away_are_refused(spacing: float, tmp_path: Path) -> None:
    """Meters and micrometers, or a place ten meters off, are told with what was found; nothing is logged beside."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = 1e30 if spacing == 2.5 else 0
    write_image(Volume(array=np.ones((3, 3, 3), np.float32), affine=affine), tmp_path / "a.nii")
    with pytest.raises(DataError, match="in millimeters"):
        read_image(tmp_path / "a.nii")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_both_versions_of_nifti_are_read(name: str, tmp_path: Path) -> None:
    """The second version of NIfTI, of either byte order, gives the same voxels and world."""
    array, affine = np.random.default_rng(0).random((4, 5, 6), np.float32), oblique(0.3, (2, 2, 2.5), True)
    for endianness in "<>":
        header = nib.Nifti2Header(endianness=endianness)
        nib.save(nib.Nifti2Image(array, affine, header), tmp_path / name)
        volume = read_image(tmp_path / name)
        np.testing.assert_array_equal(volume.array, array)
        np.testing.assert_allclose(volume.affine, affine)


def test_an_image_that_does_not_say_where_left_is_is_refused(tmp_path: Path) -> None:
    """With both codes 0 a reader would invent a frame; one of them is enough."""
    image = nib.Nifti1Image(np.ones((3, 3, 3), np.float32), None)
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(DataError, match="both 0"):
        read_image(tmp_path / "a.nii")
    image.set_qform(np.diag([2.0, 2, 2, 1]), code=1)
    nib.save(image, tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").spacing_mm == (2, 2, 2)


def test_what_is_repaired_in_a_header_is_not_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A damaged header is an error in one sentence, and stderr stays empty."""
    write_image(Volume(array=np.ones((3, 3, 3), np.float32), affine=np.eye(4)), tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[0:4], data[252:254] = b"\x00\x00\x00\x01", b"\xff\x7f"
    (tmp_path / "a.nii").write_bytes(data)
    with contextlib.suppress(DataError):
        read_image(tmp_path / "a.nii")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("dtype", ["float32", ">f4", "float64", "int16", "uint8", "bool"])
@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
def test_files_are_those_of_nibabel(dtype: str, name: str, tmp_path: Path) -> None:
    """What is written is, unpacked, what nibabel itself writes to the byte, for volumes and for series."""
    affine = oblique(0.3, (2, 2, 2.5), True)
    for shape in ((4, 5, 6), (4, 5, 6, 3)):
        array = (np.random.default_rng(0).standard_normal(shape) * 9).astype(dtype)
        write_image(Volume(array=array, affine=affine), tmp_path / name)
        native = np.dtype("uint8") if dtype == "bool" else array.dtype.newbyteorder("=")
        other = nib.Nifti1Image(array.astype(native), affine)
        other.header.set_xyzt_units("mm")
        other.set_sform(affine, code=2)
        other.set_qform(affine, code=2)
        content = (tmp_path / name).read_bytes()
        assert (gzip.decompress(content) if name.endswith(".gz") else content) == other.to_bytes()


@pytest.mark.parametrize("dtype", ["<i2", ">f4", "<f8", "u1"])
@pytest.mark.parametrize("scaled", [False, True])
def test_voxels_are_those_that_nibabel_reads(dtype: str, scaled: bool, tmp_path: Path) -> None:
    """Packed in one part or several, in any byte order, with a scale factor or without; and they may be changed."""
    header = nib.Nifti1Header()
    values = np.random.default_rng(0).integers(0, 90, (4, 3, 5, 2)).astype(dtype)
    header.set_data_dtype(values.dtype)
    image = nib.Nifti1Image(values, np.eye(4), header)
    if scaled:
        image.header.set_slope_inter(0.5, 3)
    plain, packed, several = (tmp_path / name for name in ("a.nii", "b.nii.gz", "c.nii.gz"))
    nib.save(image, plain)
    content = plain.read_bytes()
    packed.write_bytes(gzip.compress(content))
    several.write_bytes(gzip.compress(content[:100]) + gzip.compress(content[100:500]) + gzip.compress(content[500:]))
    expected = np.asarray(nib.load(plain).dataobj).astype(np.float32)
    for path in (plain, packed, several):
        array = read_image(path).array
        np.testing.assert_array_equal(array, expected)
        array[0] = 0


@pytest.mark.parametrize("cut", [1, 5, 8])
def test_a_file_that_ends_before_its_checksum_is_refused(cut: int, stored: bytes, tmp_path: Path) -> None:
    """Also where all voxels could be read: nobody knows what else was lost."""
    (tmp_path / "cut.nii.gz").write_bytes(stored[:-cut])
    with pytest.raises(DataError, match="damaged"):
        read_image(tmp_path / "cut.nii.gz")


def test_a_wrong_checksum_is_refused(stored: bytes, tmp_path: Path) -> None:
    """A file whose bytes are not those that were packed is no image, though all of them can be unpacked."""
    path = tmp_path / "changed.nii.gz"
    path.write_bytes(stored[:-8] + bytes([stored[-8] ^ 1]) + stored[-7:])
    with pytest.raises(DataError, match="damaged"):
        read_image(path)
