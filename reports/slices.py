"""Where niivue was not fetched: nilearn's slice viewer, one page a case, beside the report."""

import re

import numpy as np

from ..geometry import resample
from .cases import CaseImages, CasePicture, Convention, window

LEGEND = "reference blue, prediction orange, both pink, tumor yellow"
_COLORS = ("#000000", "#56b4e9", "#ff8c3a", "#cc79a7", "#f0e442")
_TUMOR = 4


def slices_name(key: str) -> str:
    """Where a case's page lies, relative to the report."""
    return f"reports/slices/{key}.html"


def slices_page(case: CasePicture, key: str, convention: Convention) -> str:
    """A page on which a case's slices can be gone through, complete in itself; the same case gives the same bytes.

    Parameters
    ----------
    case : CasePicture
        Whose files are read.
    key : str
        Letters, digits and hyphens: takes the place of the viewer's random names.
    convention : {"radiological", "neurological"}
        Which side of the participant stands on the viewer's left.

    Raises
    ------
    DataError
        If an image cannot be read.
    """
    import nibabel as nib
    from matplotlib.colors import ListedColormap
    from nilearn.plotting import view_img

    images = CaseImages.read(case)
    grid = images.image
    x, y, z = grid.array.shape[:3]
    labels = np.zeros((x, y, z), dtype=np.float32)
    on_grid = {
        name: resample(mask.with_array(mask.array.astype(np.float32)), grid.affine, (x, y, z), order=0).array > 0.5
        for name, mask in images.layers.items()
    }
    if "tumor" in on_grid:
        labels[on_grid["tumor"]] = _TUMOR
    which = on_grid["reference"] + 2 * on_grid["prediction"]
    labels[which > 0] = which[which > 0]
    low, high = window(grid)
    shades = np.clip((grid.array - low) / max(high - low, 1e-9), 0, 1)
    page = view_img(
        nib.Nifti1Image(labels, grid.affine),
        bg_img=nib.Nifti1Image(shades.astype(np.float32), grid.affine),
        cut_coords=tuple(images.center(images.box()).tolist()),
        cmap=ListedColormap(_COLORS),
        threshold=0.5,
        vmin=0,
        vmax=_TUMOR,
        symmetric_cmap=False,
        colorbar=False,
        annotate=True,
        black_bg=True,
        opacity=0.7,
        resampling_interpolation="nearest",
        radiological=convention == "radiological",
    ).html
    page = re.sub(r"<link[^>]*icon[^>]*>", "", page)  # the only thing that would be fetched
    return re.sub(r"(?<=-)[0-9a-f]{32}\b", key, page)
