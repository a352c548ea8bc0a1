"""Probabilities of one participant's bundles, from one model or the mean of several."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, ModelMismatchError
from ..types import Bundle, Case, Volume
from .checkpoints import Model
from .data import Sample, load_sample, to_own_grid
from .patches import Size
from .warping import mirror
from .windows import logits


def predict_probabilities(
    model: Model | Sequence[Model], case: Case, *, mirrored: bool = False, window: Size | None = None
) -> dict[Bundle, Volume]:
    """Probability of each bundle on the participant's own grid; 0 outside the model's box around the brain.

    Parameters
    ----------
    model : Model or sequence of Model
        On the CPU or a GPU; of several, probabilities are averaged.
    case : Case
        With the model's modality.
    mirrored : bool
        Average with the prediction for the mirror image.
    window : tuple of int, optional
        See `prediction.predict`.
    """
    models = [model] if isinstance(model, Model) else list(model)
    first = ensemble_head(models)
    sample = load_sample(case, first.modality, first.spacing_mm, first.shape)
    channels = infer(models, sample, mirrored, window)
    return {bundle: to_own_grid(channel, sample) for bundle, channel in zip(first.bundles, channels, strict=True)}


def infer(
    models: Sequence[Model], sample: Sample, mirrored: bool = False, window: Size | None = None
) -> NDArray[np.float32]:
    """Mean probability of each bundle on the model's grid, shape (B, X, Y, Z).

    Memory is that of one network's feature maps on the model's box, or on one window of it, whatever the image's
    own grid.

    Parameters
    ----------
    models : sequence of Model
        Probabilities are averaged.
    sample : Sample
        One participant on their grid.
    mirrored : bool
        Average with the prediction for the mirror image.
    window : tuple of int, optional
        Each model's own patch by default, else the whole box; see `windows.logits`.
    """
    bundles = models[0].bundles
    total = torch.zeros(len(bundles), *sample.image.shape[1:])
    views = [(sample.image, False)]
    if mirrored:
        if {bundle.mirrored for bundle in bundles} != set(bundles):
            raise ConfigError("Averaging over mirror images needs a model that predicts both sides of every bundle.")
        views.append((mirror(sample).image, True))
    order = [bundles.index(bundle.mirrored) for bundle in bundles] if mirrored else []
    for model in models:
        for image, flipped in views:
            with torch.inference_mode():
                batch = torch.from_numpy(np.ascontiguousarray(image))[None]
                output: Tensor = torch.sigmoid(logits(model.network, batch, window or model.patch))[0].cpu()
            total += output[order].flip(1) if flipped else output
    return (total / (len(models) * len(views))).numpy()


def ensemble_head(models: Sequence[Model]) -> Model:
    """The first of several models that can be averaged.

    Raises
    ------
    ModelMismatchError
        If they differ in input, grid or bundles.
    """
    if not models:
        raise ConfigError("Segmentation needs a model; none was given.")
    for what in ("modality", "spacing_mm", "shape", "bundles"):
        found = {str(getattr(one, what)) for one in models}
        if len(found) > 1:
            raise ModelMismatchError(
                f"Models that are averaged must agree in {what}; found {', '.join(sorted(found))}."
            )
    return models[0]
