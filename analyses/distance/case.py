"""What a participant's own images say before any prediction: reference bundles, and where the tumor is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...distances import check_orthogonal
from ...errors import DataError
from ...geometry import same_grid
from ...images import read_mask
from ...types import Bundle, Case, Volume
from .tumor import QUANTILES, Tumor, bundle_distance, mid_sagittal_x, side_of, tumor_side


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """The reference masks of a case and its tumor; made with `of`.

    A reference is None where the case has no mask of a bundle, tumor and core for controls and where there is no mask.
    Side (``left``, ``right``, ``bilateral``, ``n/a``) and volume are those of the participants table or of the mask:
    for the side the table goes first, for the volume the mask.
    """

    references: Mapping[Bundle, Volume | None]
    tumor: Tumor | None
    core: Tumor | None
    tumor_side: str
    tumor_volume_ml: float

    @classmethod
    def of(cls, case: Case, bundles: Sequence[Bundle]) -> "Anatomy":
        """Read the masks of a case; a `DataError` if one is sheared, on another grid, or marks a whole brain."""
        references = {bundle: _read(case.masks[bundle]) if bundle in case.masks else None for bundle in bundles}
        has_tumor = case.group not in ("control", "target_control")
        tumor, core = (
            _tumor(path) if has_tumor and path is not None else None for path in (case.tumor, case.tumor_core)
        )
        _require_one_grid(references, tumor, core)
        # The participants table goes first: there a person has said it.
        side = case.attributes.get("tumor_side", "n/a") if has_tumor else "n/a"
        if side == "n/a" and tumor is not None:
            side = tumor_side(tumor.mask, mid_sagittal_x(references))
        volume_ml = case.number("tumor_volume_ml") if tumor is None else tumor.volume_ml
        return cls(references=references, tumor=tumor, core=core, tumor_side=side, tumor_volume_ml=volume_ml)

    def columns(self, bundle: Bundle) -> dict[str, float | str]:
        """The tumor's columns of the score table for one bundle."""
        reference = self.references[bundle]
        near = bundle_distance(self.tumor, None if reference is None else reference.array)
        near_core = bundle_distance(self.core, None if reference is None else reference.array)
        quantiles = zip(QUANTILES, near.quantiles_mm, strict=True)
        return {
            "side": side_of(bundle.hemisphere, self.tumor_side),
            "tumor_distance_mm": near.edge_mm,
            "tumor_distance_mean_mm": near.mean_mm,
            **{f"tumor_distance_p{100 * share:02.0f}_mm": value for share, value in quantiles},
            "tumor_core_distance_mm": near_core.edge_mm,
            "tumor_overlap_ml": near.overlap_ml,
            "tumor_volume_ml": self.tumor_volume_ml,
            "tumor_side": self.tumor_side,
        }


def _read(path: Path) -> Volume:
    mask = read_mask(path)
    check_orthogonal(mask.affine, path.name)
    return mask


_LARGEST_ML = 1000.0
"""Of a tumor; a whole brain has little more."""


def _tumor(path: Path) -> Tumor:
    tumor = Tumor.of(_read(path), path.name)
    if tumor.volume_ml > _LARGEST_ML:
        raise DataError(
            f"A tumor takes up a part of the brain, less than {_LARGEST_ML:g} ml; {path.name} marks "
            f"{tumor.volume_ml:.0f} ml. It may be a brain mask, or inverted: write the tumor mask again."
        )
    return tumor


def _require_one_grid(references: Mapping[Bundle, Volume | None], tumor: Tumor | None, core: Tumor | None) -> None:
    # Distances are looked up by voxel index, which means the same place only on one grid.
    masks = {str(bundle): mask for bundle, mask in references.items() if mask is not None}
    masks |= {name: one.mask for name, one in (("tumor", tumor), ("tumor core", core)) if one is not None}
    names = list(masks)
    for name in names[1:]:
        if not same_grid(masks[name], masks[names[0]]):
            raise DataError(
                f"All masks of a participant must lie on one grid; that of {name} has shape {masks[name].shape}, that "
                f"of {names[0]} {masks[names[0]].shape}, or their affines differ. `shiftkit check` says how to mend it."
            )
