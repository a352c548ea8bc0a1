"""What the comparisons of features answer: numbers first, their words in the end."""

from dataclasses import dataclass

import pandas as pd

from ...embeddings import Embeddings
from ...results import Result
from ..statistics.inference import Inference


@dataclass(frozen=True, kw_only=True)
class FeatureShift(Result):
    """Shift of features by layer, bundle, hemisphere, region, contrast and statistic: `shiftkit.catalogue.FEATURES`.

    Also the channels that carry each contrast, `shiftkit.catalogue.DIRECTIONS`, what was compared, who was left out.
    """

    directions: pd.DataFrame
    embeddings: Embeddings
    inference: Inference
    notes: tuple[str, ...] = ()

    def pooled(self, contrast: str, statistic: str = "mmd2") -> pd.DataFrame:
        """All bundles together, one row a layer, from the input to the output."""
        rows = self.table
        keep = (rows["bundle"] == "all") & (rows["region"] == "reference") & (rows["contrast"] == contrast)
        return rows[keep & (rows["statistic"] == statistic)].reset_index(drop=True)


@dataclass(frozen=True, kw_only=True)
class ImageShift(Result):
    """Differences of images by modality, channel and property: `shiftkit.catalogue.IMAGES`, and what was skipped."""

    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Foresight(Result):
    """Feature shift of each patient and bundle, with observed and predicted drop: `shiftkit.catalogue.FORESIGHT`.

    Its estimates are ``shift``, the rank correlation of feature shift and drop over patients; ``prediction``, that of
    predicted and observed drop out of sample; ``skill``, the share of the squared error of the mean drop that the
    prediction saves.
    """


@dataclass(frozen=True, kw_only=True)
class LayerChange(Result):
    """Unbiased linear CKA between a source and a fine-tuned model, layer by layer: `shiftkit.catalogue.CKA`."""
