"""A case and its files: what they hold, read once, and the picture made of it."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..images import read_image, read_mask
from ..types import Volume
from .contents import CasePicture, Convention
from .planes import center_of, one_channel, three_planes, worth_showing


@dataclass(frozen=True, kw_only=True)
class CaseImages:
    """What a case's files hold, read once; the image with one channel and no NaN."""

    image: Volume
    reference: Volume
    prediction: Volume
    after: Volume | None = None
    tumor: Volume | None = None

    @classmethod
    def read(cls, case: CasePicture) -> "CaseImages":
        """Read a case's files; `DataError` if one cannot be read."""
        return cls(
            image=_scalar(case.image),
            reference=read_mask(case.reference),
            prediction=read_mask(case.prediction),
            after=read_mask(case.after) if case.after is not None else None,
            tumor=_tumor(case.tumor) if case.tumor is not None else None,
        )

    @property
    def layers(self) -> dict[str, Volume]:
        """The masks that are there, by name."""
        found = {name: getattr(self, name) for name in ("reference", "prediction", "after", "tumor")}
        return {name: mask for name, mask in found.items() if mask is not None}

    def box(self) -> NDArray[np.float64]:
        """The part of the world worth showing, shape (2, 3), mm; see `shiftkit.reports.planes.worth_showing`."""
        return worth_showing(self.image, list(self.layers.values()))

    def center(self) -> NDArray[np.float64]:
        """Where the slices are cut, mm."""
        return center_of(self.reference, self.prediction, self.tumor, self.box())

    def draw(self, convention: Convention, *, after: bool = False) -> str:
        """Draw the three planes; with ``after``, the prediction is the one after fine-tuning."""
        prediction = self.after if after and self.after is not None else self.prediction
        return three_planes(self.image, self.reference, prediction, self.tumor, convention=convention)


# The cases of one participant share image and tumor and follow each other; two are kept for tables sorted otherwise.
@lru_cache(maxsize=2)
def _scalar(path: Path) -> Volume:
    return one_channel(read_image(path))


@lru_cache(maxsize=2)
def _tumor(path: Path) -> Volume:
    return read_mask(path)
