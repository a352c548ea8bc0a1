"""Streamlines of other tools as predictions: masks of the voxels that enough of them pass through."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..analyses.scoring.predictions import PredictedMasks, Source, merge_predictions
from ..errors import DataError, ImageError
from ..importers import tractograms
from ..importers.sources import Found, MaskSource
from ..importers.writing import mask_of_tractogram
from ..types import Bundle, Case, Volume


@dataclass(frozen=True, kw_only=True)
class Streamlines(Source):
    """Where the streamlines of one bundle in one participant lie; ``mask`` is their file."""

    tractogram: MaskSource


@dataclass(frozen=True, kw_only=True)
class Tractograms(PredictedMasks):
    """Predictions that are streamlines: a voxel is inside of a bundle from ``least`` streamlines on.

    They have no grid of their own, so each is brought onto its reference's, and without one there is no mask.
    """

    least: int = 1

    def read_mask(
        self, case: Case, bundle: Bundle, reference: Volume | None, threshold: float | None, resample: bool
    ) -> Volume | None:
        """See `PredictedMasks.read_mask`; an `ImageError` if streamlines are damaged or off the reference's grid."""
        source = self.source(case, bundle)
        if not isinstance(source, Streamlines):
            return super().read_mask(case, bundle, reference, threshold, resample)
        if reference is None:
            return None
        try:
            return mask_of_tractogram(source.tractogram, (reference.affine, reference.shape), self.least)
        except DataError as error:
            # No option helps, so that it costs its participant alone, as an image that cannot be read does.
            raise ImageError(str(error)) from error


def read_folders(folders: Sequence[Path], least: int | None = None) -> PredictedMasks:
    """What other tools predicted, in one folder or several: images or, where there are none of bundles, streamlines.

    With ``least`` they are streamlines, whatever images lie beside them.

    Raises
    ------
    DataError
        If neither is there, one case is in two folders, or two files of a case are of one bundle.
    """
    if least is None:
        try:
            images = merge_predictions(folders)
            if images.bundles or not any(map(_named, folders)):  # a case's folder without any image is one too
                return images
        except DataError:
            if not any(map(_named, folders)):
                raise
    found = [(folder, one) for folder in folders for one in _named(folder)]
    if not found:
        raise DataError(
            "`streamlines` counts those of a voxel; predictions must then be tractograms, one folder a case, such as "
            f"CASE/AF_left.trk, and in {', '.join(map(str, folders))} there is none. Leave it out for masks."
        )
    cases: dict[str, dict[Bundle, Source]] = {}
    first: dict[str, Path] = {}
    for folder, one in found:
        if one.key in cases:
            where = f"in {first[one.key]} and in {folder}" if first[one.key] != folder else f"twice in {folder}"
            raise DataError(f"A prediction stands once; {one.key} is predicted {where}. Remove one of them.")
        first[one.key] = folder
        cases[one.key] = {
            bundle: Streamlines(mask=source.path, tractogram=source) for bundle, source in one.masks.items()
        }
    names = [folder.resolve().name for folder in folders]
    return Tractograms(
        name=" and ".join(names),
        model="+".join(dict.fromkeys(names)),
        layout=f"tractograms, voxels of at least {least or 1} streamline{'s' * (least not in (None, 1))}",
        cases=cases,
        least=least or 1,
    )


def _named(folder: Path) -> list[Found]:
    return tractograms.find(folder) if folder.is_dir() else []
