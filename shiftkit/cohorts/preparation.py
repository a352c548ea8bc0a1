"""Raw diffusion images to the maps that models take: FA, anisotropic power, and peaks in world axes, by DIPY."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError, ShiftkitError
from ..files import held, read_text, refuse_links, sweep, write_json
from ..geometry import same_grid
from ..images import read_image, read_mask, write_image
from ..types import Case, Cohort, Volume
from ..work import Work
from .folder import image_path, load_cohort
from .peaks import frame_rotation, sidecar_path, write_peaks_sidecar

MAPS = ("fa", "ap", "peaks")
# b-values up to this one (s/mm²) count as unweighted.
_B0 = 50
# Above this b-value (s/mm²) the signal departs from a tensor's.
_TENSOR_MAX = 1500.0
# Voxels of highest FA that the single-fiber response is taken from.
_N_RESPONSE = 300


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What `prepare` did: the cohort, indexed again, and how many maps were made now; those that were there are kept.

    ``failed`` are the participants (and sessions) without maps, with the reason.
    """

    cohort: Cohort
    written: int
    failed: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        return f"{self.cohort}; {self.written} maps made, {len(self.failed)} participants failed"


@dataclass(frozen=True, kw_only=True)
class _Diffusion:
    data: NDArray[np.float32]
    grid: Volume
    bvals: NDArray[np.float64]
    bvecs: NDArray[np.float64]
    brain: NDArray[np.bool_]

    def table(self, keep: NDArray[np.bool_]) -> tuple[Any, NDArray[np.float32]]:
        from dipy.core.gradients import gradient_table

        gradients = gradient_table(self.bvals[keep], bvecs=self.bvecs[keep], b0_threshold=_B0)
        return gradients, self.data[..., keep]


def prepare(cohort: Cohort, *, maps: Sequence[str] = MAPS, work: Work = Work()) -> Prepared:
    """Make the missing maps of every participant that has raw diffusion images.

    Beside each ``dwi/*_dwi.nii.gz`` lie ``.bval`` and ``.bvec`` in FSL's convention, as BIDS asks, and a brain
    mask ``*_desc-brain_mask.nii.gz`` (made from the b = 0 image where there is none). Maps that exist are
    kept, so an interrupted call continues where it stopped.

    Parameters
    ----------
    cohort : Cohort
        Where to read and write.
    maps : sequence of str
        Of ``fa`` (weighted least squares tensor up to b = 1500), ``ap`` (anisotropic power, spherical harmonics of
        the largest shell) and ``peaks`` (three largest of constrained spherical deconvolution, same shell).
    work : Work
        In how many processes, and whom to tell how far it is.

    Raises
    ------
    ConfigError
        If a map is unknown.
    DataError
        If no participant has raw diffusion images.

    References
    ----------
    Tournier JD et al., NeuroImage 35:1459 (2007), doi 10.1016/j.neuroimage.2007.02.016 (deconvolution).
    Dell'Acqua F et al., Proc ISMRM 22:0730 (2014) (anisotropic power).
    Garyfallidis E et al., Front Neuroinform 8:8 (2014), doi 10.3389/fninf.2014.00008 (DIPY).
    """
    unknown = [name for name in maps if name not in MAPS]
    if unknown:
        raise ConfigError(f"shiftkit prepares {', '.join(MAPS)}; got {', '.join(unknown)}.")
    todo = [(case, raw) for case in cohort if (raw := raw_path(cohort.root, case)) is not None]
    if not todo:
        raise DataError(
            f"Raw diffusion images are files dwi/*_dwi.nii.gz with .bval and .bvec beside them; cohort {cohort.name} "
            "has none. Copy them into the participants' dwi folders."
        )
    gib = sum(raw.stat().st_size for _, raw in todo) / 2**30
    work.begin(
        f"Would make {', '.join(maps)} of {len(todo)} raw diffusion images of {cohort.name}, where they are not there.",
        # Packed voxels unpack to twice their size, and are floats twice as large again; deconvolution takes the time.
        work.cost(
            len(todo),
            cpu_s=20 + 1500 * gib / len(todo) * (1 if "peaks" in maps else 0.2),
            memory_gib=0.6 + 6 * gib / len(todo),
            disk_gib=0.15 * gib / len(todo),
        ),
        cohort.root,
    )
    written, failed = 0, dict[str, str]()
    with held(cohort.root, "prepare"):
        prepared = work.map(partial(_prepare_case, cohort.root, tuple(maps)), todo, "Preparing")
        for (case, _), (made, reason) in zip(todo, prepared, strict=True):
            written += made
            if reason:
                failed[case.key] = reason
    return Prepared(cohort=load_cohort(cohort.root, cohort.name), written=written, failed=failed)


def raw_path(root: Path, case: Case) -> Path | None:
    """The raw diffusion image of a case; the plain name first, None without any."""
    folder = root.joinpath(*case.key.split("_")) / "dwi"
    found = sorted(folder.glob(f"{case.key}*_dwi.nii*"), key=lambda path: (len(path.name), path.name))
    return found[0] if found else None


def _prepare_case(root: Path, maps: tuple[str, ...], source: tuple[Case, Path]) -> tuple[int, str]:
    """How many maps were made of a case's raw image, and why none could be."""
    key, raw = source[0].key, source[1]
    missing = [name for name in maps if not image_path(root, key, name).is_file()]
    if not missing:
        return 0, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # DIPY warns of defaults that are set here on purpose
            refuse_links(root, raw.parent)
            sweep(raw.parent)
            diffusion = _read(raw)
            makers = {"fa": _anisotropy, "ap": _power, "peaks": _peaks}
            for name in missing:
                _write(root, key, name, diffusion.grid.with_array(makers[name](diffusion)), raw)
    except ShiftkitError as error:
        return 0, str(error)
    except (ValueError, np.linalg.LinAlgError, MemoryError) as error:
        return 0, f"{raw.name}: {type(error).__name__}: {error}"
    return len(missing), ""


def _write(root: Path, key: str, name: str, volume: Volume, raw: Path) -> None:
    path = image_path(root, key, name)
    # The sidecar goes first: an image that is there is complete.
    if name == "peaks":
        write_peaks_sidecar(path)
    else:
        content = {"Sources": [f"bids::{raw.relative_to(root).as_posix()}"], "Map": name}
        write_json(sidecar_path(path), content)
    write_image(volume, path)


def _read(raw: Path) -> _Diffusion:
    volume = read_image(raw)
    if volume.array.ndim != 4:
        raise DataError(f"A diffusion image has one volume a gradient; {raw.name} has shape {volume.array.shape}.")
    stem = raw.name.removesuffix(".gz").removesuffix(".nii")
    bvals = _numbers(raw.with_name(f"{stem}.bval")).ravel()
    bvecs = _numbers(raw.with_name(f"{stem}.bvec"))
    bvecs = bvecs.T if bvecs.shape[0] == 3 else bvecs
    n = volume.array.shape[3]
    if len(bvals) != n or bvecs.shape != (n, 3):
        raise DataError(
            f"{raw.name} has {n} volumes and needs as many b-values and gradient directions; got {len(bvals)} and an "
            f"array of {bvecs.shape[0]} × {bvecs.shape[1]}. Copy the .bval and .bvec of this very image."
        )
    weighted = bvals > _B0
    length = np.linalg.norm(bvecs, axis=1)
    if (~weighted).sum() == 0 or weighted.sum() < 6 or (np.abs(length[weighted] - 1) > 0.1).any():
        raise DataError(
            f"{raw.name} needs an image at b = 0, six gradients, and directions of length 1; got {(~weighted).sum()} "
            f"at b ≤ {_B0:g}, {weighted.sum()} gradients, lengths {length[weighted].min(initial=1):.2f}–"
            f"{length[weighted].max(initial=1):.2f}. Check the .bval and .bvec files."
        )
    bvecs = np.where(weighted[:, None], bvecs / np.maximum(length, 1e-9)[:, None], 0.0)
    # Resampled images undershoot, and the fits take logarithms.
    data = np.maximum(np.nan_to_num(volume.array), 0)
    grid = volume.with_array(data[..., 0])
    return _Diffusion(data=data, grid=grid, bvals=bvals, bvecs=bvecs, brain=_brain(raw, grid, data, ~weighted))


def _numbers(path: Path) -> NDArray[np.float64]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file, which is told below
            found = np.atleast_2d(np.loadtxt(read_text(path, "table of gradients").splitlines()))
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} must hold numbers, one column a volume; it cannot be read: {error}.") from error
    if not found.size or not np.isfinite(found).all():
        raise DataError(f"{path.name} must hold finite numbers, one column a volume; it does not. Copy it again.")
    return found


def _brain(raw: Path, grid: Volume, data: NDArray[np.float32], b0: NDArray[np.bool_]) -> NDArray[np.bool_]:
    found = sorted(raw.parent.glob("*_desc-brain_mask.nii*"))
    if found:
        mask = read_mask(found[0])
        if not same_grid(mask, grid):
            raise DataError(f"The brain mask must share the grid of {raw.name}; {found[0].name} does not. Resample it.")
        return mask.array
    from dipy.segment.mask import median_otsu

    return np.asarray(median_otsu(data[..., b0].mean(axis=-1), median_radius=2, numpass=1)[1], dtype=bool)


def _anisotropy(diffusion: _Diffusion) -> NDArray[np.float32]:
    from dipy.reconst.dti import TensorModel

    keep = diffusion.bvals <= _TENSOR_MAX
    # A tensor has six unknowns: where low b-values have fewer gradients, the higher ones join in.
    if (keep & (diffusion.bvals > _B0)).sum() < 6:
        keep = np.ones(len(keep), dtype=bool)
    gradients, data = diffusion.table(keep)
    fit = TensorModel(gradients, fit_method="WLS").fit(data, mask=diffusion.brain)
    return np.clip(np.nan_to_num(fit.fa), 0, 1).astype(np.float32)


def _shell(diffusion: _Diffusion) -> tuple[NDArray[np.bool_], int]:
    """Volumes of b = 0 and of the shell with most directions, and the harmonic order they carry."""
    shells = np.rint(diffusion.bvals / 200) * 200  # scanners write 995 or 1005 for a nominal 1000
    weighted = diffusion.bvals > _B0
    names, counts = np.unique(shells[weighted], return_counts=True)
    chosen = names[counts == counts.max()].max()  # the higher one of equals: it resolves angles better
    n = int(counts.max())
    # Even harmonics up to an order have so many coefficients, and each takes a gradient.
    order = next((order for order in (8, 6, 4) if n >= (order + 1) * (order + 2) // 2), 0)
    if order == 0:
        raise DataError(f"Peaks and anisotropic power need 15 gradients on one shell; the largest here has {n}.")
    return ~weighted | (shells == chosen), order


def _power(diffusion: _Diffusion) -> NDArray[np.float32]:
    from dipy.reconst.shm import QballModel, anisotropic_power

    keep, order = _shell(diffusion)
    gradients, data = diffusion.table(keep)
    coefficients = QballModel(gradients, order).fit(data, mask=diffusion.brain).shm_coeff
    power = np.nan_to_num(anisotropic_power(coefficients))
    return np.where(diffusion.brain, power, 0).astype(np.float32)


def _peaks(diffusion: _Diffusion) -> NDArray[np.float32]:
    from dipy.data import default_sphere
    from dipy.direction import peaks_from_model
    from dipy.reconst.csdeconv import ConstrainedSphericalDeconvModel, response_from_mask_ssst

    keep, order = _shell(diffusion)
    gradients, data = diffusion.table(keep)
    anisotropy = np.where(diffusion.brain, _anisotropy(diffusion), 0)
    limit = np.sort(anisotropy[diffusion.brain])[-min(_N_RESPONSE, int(diffusion.brain.sum()))]
    response, _ = response_from_mask_ssst(gradients, data, anisotropy >= max(limit, 1e-6))
    model = ConstrainedSphericalDeconvModel(gradients, response, sh_order_max=order)
    # A tenth of the strongest peak: half of it, as in DIPY's examples, would drop most crossing fibers.
    found = peaks_from_model(
        model,
        data,
        default_sphere,
        relative_peak_threshold=0.1,
        min_separation_angle=25,
        mask=diffusion.brain,
        npeaks=3,
        return_sh=False,
    )
    vectors = found.peak_dirs * found.peak_values[..., None]
    # Directions come in the frame of the b-vectors; the file holds world axes.
    turned = vectors @ frame_rotation(diffusion.grid.affine, "bvec").T
    return np.nan_to_num(turned).reshape(*diffusion.grid.shape, 9).astype(np.float32)
