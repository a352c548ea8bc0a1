"""Small images, masks and streamlines on one grid, and public data sets' folders with their real file names."""

from pathlib import Path

import nibabel as nib
import numpy as np

from shiftkit.images import write_image
from shiftkit.types import Volume

GRID = np.array([[-2.0, 0, 0, 20], [0, 2, 0, -20], [0, 0, 2, -20], [0, 0, 0, 1]])
LINE = np.array([[-10.0, -8, 0], [10, 8, 4]], dtype=np.float32)


def volume(array: np.ndarray) -> Volume:
    return Volume(array=array, affine=GRID)


def image(path: Path, value: float = 1.0) -> None:
    write_image(volume(np.full((20, 20, 20), value, dtype=np.float32)), path)


def mask(path: Path, place: int = 5) -> None:
    array = np.zeros((20, 20, 20), dtype=np.uint8)
    array[place : place + 4, 5:15, 8:10] = 1
    write_image(volume(array), path)


def labels(path: Path, *values: int) -> None:
    """A label map with a slab of 400 voxels a value, from low x of the grid, which is the right side, up."""
    array = np.zeros((20, 20, 20), dtype=np.uint8)
    for place, value in enumerate(values, start=4):
        array[place] = value
    write_image(volume(array), path)


def trk(path: Path, *streamlines: np.ndarray, affine: np.ndarray = GRID, shape: tuple[int, ...] = (20, 20, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = nib.streamlines.trk.TrkFile.create_empty_header()
    header["voxel_to_rasmm"] = affine
    header["voxel_sizes"] = np.linalg.norm(affine[:3, :3], axis=0)
    header["dimensions"] = shape
    header["voxel_order"] = "".join(nib.aff2axcodes(affine))
    tractogram = nib.streamlines.Tractogram(list(streamlines), affine_to_rasmm=np.eye(4))
    nib.streamlines.save(nib.streamlines.trk.TrkFile(tractogram, header), str(path))


def trx(path: Path, groups: dict[str, list[int]], *streamlines: np.ndarray) -> None:
    """Written by the format's own library."""
    from trx.io import save
    from trx.trx_file_memmap import TrxFile

    path.parent.mkdir(parents=True, exist_ok=True)
    made = TrxFile(nb_vertices=sum(map(len, streamlines)), nb_streamlines=len(streamlines))
    made.header["VOXEL_TO_RASMM"], made.header["DIMENSIONS"] = GRID, np.array([20, 20, 20], dtype=np.uint16)
    made.streamlines._data[:] = np.concatenate(streamlines)
    lengths = [len(one) for one in streamlines]
    made.streamlines._offsets[:] = np.cumsum([0, *lengths[:-1]])
    made.streamlines._lengths = np.array(lengths, dtype=np.uint32)
    made.groups = {name: np.array(which, dtype=np.uint32) for name, which in groups.items()}
    save(made, str(path))


def gradients(folder: Path, name: str, bval: str = "bval", bvec: str = "bvec") -> None:
    write_image(volume(np.ones((20, 20, 20, 4), dtype=np.float32)), folder / f"{name}.nii.gz")
    (folder / f"{name}.{bval}").write_text("0 1000 1000 1000\n")
    (folder / f"{name}.{bvec}").write_text("0 1 0 0\n0 0 1 0\n0 0 0 1\n")


def brainptm(root: Path) -> Path:
    """Two training cases, one without CST, and a test case with dummies."""
    for name, kind in (("case_1", "train"), ("case_2", "train"), ("case_61", "test")):
        folder = root / f"sheba75_data_{kind}" / name
        image(folder / "T1.nii.gz", 3)
        image(folder / "brain_mask.nii.gz")
        gradients(folder, "Diffusion", "bvals", "bvecs")
        tracts = root / ("sheba75_tracts_train" if kind == "train" else "sheba75_tracts_test_dummy") / name
        for tract in ("OR_left", "OR_right", *([] if name == "case_2" else ["CST_left", "CST_right"])):
            mask(tracts / f"{tract}.nii.gz", 5 if tract.endswith("right") else 12)
    return root


def tractoinferno(root: Path) -> Path:
    """Two subjects of two sets, with all files of one."""
    for name, subject in (("trainset", "sub-1006"), ("testset", "sub-1030")):
        folder = root / "derivatives" / name / subject
        image(folder / "anat" / f"{subject}__T1w.nii.gz", 2)
        image(folder / "dti" / f"{subject}__fa.nii.gz", 0.5)
        gradients(folder / "dwi", f"{subject}__dwi")
        for place, tissue in enumerate(("csf", "gm", "wm")):
            mask(folder / "mask" / f"{subject}__mask_{tissue}.nii.gz", 1 + 5 * place)
        for tract in ("AF_L", "PYT_R", "CC_Pa"):
            trk(folder / "tractography" / f"{subject}__{tract}.trk", LINE)
    return root


def hcp_training(root: Path, n_volumes: int = 72) -> Path:
    """TractSeg's training data of a subject of HCP105."""
    folder = root / "HCP_for_training_COPY" / "599469"
    stacked = np.zeros((6, 6, 6, n_volumes), dtype=np.uint8)
    for channel in range(n_volumes):
        stacked.reshape(-1, n_volumes)[channel, channel] = 1
    write_image(volume(stacked), folder / f"bundle_masks{'_72' if n_volumes == 72 else ''}.nii.gz")
    write_image(volume(np.ones((6, 6, 6, 9), dtype=np.float32)), folder / "mrtrix_peaks.nii.gz")
    return root


def tractseg(root: Path) -> Path:
    """A subject with two sessions."""
    for session in ("ses-pre", "ses-post"):
        folder = root / "sub-P01" / session / "tractseg_output"
        write_image(volume(np.ones((20, 20, 20, 9), dtype=np.float32)), folder / "peaks.nii.gz")
        image(folder / "nodif_brain_mask.nii.gz")
        for place, name in ((5, "AF_right"), (12, "AF_left"), (12, "CST_left")):
            mask(folder / "bundle_segmentations" / f"{name}.nii.gz", place)
    return root


def pyafq(root: Path) -> Path:
    """A session of an older release, and a participant of a newer one, single bundles and all in one file."""
    old = root / "afq" / "sub-NDARAA948VFH" / "ses-HBNsiteRU"
    base = "sub-NDARAA948VFH_ses-HBNsiteRU_acq-64dir_space-T1w_desc-preproc_dwi"
    image(old / f"{base}_model-DKI_FA.nii.gz", 0.5)
    image(old / f"{base}_brain_mask.nii.gz")
    for tract in ("ARC_L", "CST_R", "FP"):
        trk(old / "clean_bundles" / f"{base}_space-RASMM_model-CSD_desc-prob-afq-{tract}_tractography.trk", LINE)
    new = root / "afq" / "sub-02" / "dwi"
    image(new / "models" / "sub-02_model-tensor_param-fa_dwimap.nii.gz", 0.5)
    for tract in ("LeftArcuate", "RightInferiorLongitudinal"):
        trx(new / "bundles" / f"sub-02_desc-{tract}_tractography.trx", {}, LINE)
    together = {"Left Arcuate": [0], "Right Corticospinal": [1, 2]}
    image(root / "afq" / "sub-03" / "sub-03_model-tensor_param-fa_dwimap.nii.gz", 0.5)
    trx(root / "afq" / "sub-03" / "sub-03_desc-bundles_tractography.trx", together, LINE, LINE + 4, LINE + 6)
    return root


def brats(root: Path) -> Path:
    """Patients of two releases: labels 1, 2, 4 in a folder of grades, and 1, 2, 3 at two time points."""
    place = root / "MICCAI_BraTS2020_TrainingData"
    _patient(place / "BraTS20_Training_001", "_", ("flair", "t1", "t1ce", "t2"), (1, 2, 4))
    _patient(place / "BraTS20_Training_355", "_", ("flair", "t1", "t1ce", "t2"), (1, 2))
    odd = place / "BraTS20_Training_355"
    (odd / "BraTS20_Training_355_seg.nii.gz").rename(odd / "W39_1998.09.19_Segm.nii.gz")
    for name in ("BraTS-GLI-00008-000", "BraTS-GLI-00008-001"):
        values = (0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3)
        _patient(root / "ASNR-MICCAI-BraTS2023-GLI" / name, "-", ("t1c", "t1n", "t2f", "t2w"), values)
    return root


def _patient(folder: Path, separator: str, contrasts: tuple[str, ...], values: tuple[int, ...]) -> None:
    for number, contrast in enumerate(contrasts, start=1):
        image(folder / f"{folder.name}{separator}{contrast}.nii.gz", number)
    labels(folder / f"{folder.name}{separator}seg.nii.gz", *values)
