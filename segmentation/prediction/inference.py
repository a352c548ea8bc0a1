"""One case through a network: whole, or in windows."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import ConfigError, DataError, ModelMismatchError
from ...types import Bundle, Case, Volume
from ...work import Work
from ..network.checkpoints import Model
from ..network.devices import pick_device
from ..samples.patches import Size
from ..samples.samples import Sample, load_sample, to_own_grid
from ..samples.warping import mirror


def predict_probabilities(
    model: Model | Sequence[Model], case: Case, *, mirrored: bool = False, window: Size | None = None
) -> dict[Bundle, Volume]:
    """Probability of each bundle on the participant's own grid; 0 outside the model's box around the brain.

    Of several models, probabilities are averaged; see `infer`.
    """
    models = [model] if isinstance(model, Model) else list(model)
    first = ensemble_head(models)
    sample = load_sample(case, first.modality, first.spacing_mm, first.shape)
    channels = infer(models, sample, mirrored, window)
    return {bundle: to_own_grid(channel, sample) for bundle, channel in zip(first.bundles, channels, strict=True)}


def infer(
    models: Sequence[Model], sample: Sample, mirrored: bool = False, window: Size | None = None
) -> NDArray[np.float32]:
    """Mean probability of each bundle on the models' grid, shape (B, X, Y, Z); they may be on any device.

    ``mirrored`` averages with the prediction for the mirror image. The window is each model's own patch by default,
    else the whole box; see `logits`. Memory is that of one network's feature maps on it, whatever the image's own grid.
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
                answer = logits(model.network, as_batch(image), window or model.patch)
                output: Tensor = torch.sigmoid(answer)[0].cpu()
            total += output[order].flip(1) if flipped else output
    return (total / (len(models) * len(views))).numpy()


def as_batch(image: NDArray[np.float32]) -> Tensor:
    """A sample's image as a batch of one, shape (1, C, X, Y, Z)."""
    return torch.from_numpy(np.ascontiguousarray(image))[None]


def each_case(
    models: Sequence[Model], cases: Sequence[Case], do: Callable[[Case], None], device: str, work: Work, stage: str
) -> dict[str, str]:
    """Do something with one case after another while the models are on a device.

    Returns those that failed, with the reason; where all did, the last one's error is raised.
    """
    failed: dict[str, str] = {}
    problem: DataError | ModelMismatchError | None = None
    target = pick_device(device)
    try:
        for model in models:
            model.network.to(target)
        for case in work.each(cases, stage):
            try:
                do(case)
            except (DataError, ModelMismatchError) as error:
                problem = error
                failed[case.key] = str(error)
    finally:
        for model in models:
            model.network.cpu()
    if problem is not None and len(failed) == len(cases):
        raise problem
    return failed


def ensemble_head(models: Sequence[Model]) -> Model:
    """The first of several models; a `ModelMismatchError` if they differ in input, grid or bundles."""
    if not models:
        raise ConfigError("Segmentation needs a model; none was given.")
    for what in ("modality", "spacing_mm", "shape", "bundles"):
        found = {str(getattr(one, what)) for one in models}
        if len(found) > 1:
            raise ModelMismatchError(
                f"Models that are averaged must agree in {what}; found {', '.join(sorted(found))}."
            )
    return models[0]


OVERLAP = 0.5  # share of a window that its neighbor covers too


def logits(network: nn.Module, image: Tensor, window: Size | None = None) -> Tensor:
    """The network's output for each voxel of a box.

    With a window the box is covered by overlapping windows, and each voxel gets the mean of what the windows
    around it say, weighted by a Gaussian (standard deviation 1/8 of the window, no weight under a thousandth) that
    favors those near whose middle it lies. The coordinate channels are cut with the image: a window knows where it is.

    From shape (N, C, X, Y, Z) on any device to (N, B, X, Y, Z), for a network in evaluation mode: on the network's
    device for the whole box, which is without a window, in voxels, or with one that covers it. Of windows it is
    gathered on the CPU, so that a GPU need hold no more than one window's feature maps.

    Instance normalization is over what the network sees: a window is normalized by its own mean and variance. Windows
    of another size than the patches that a network was trained on give other output, and not only at their edges.

    References
    ----------
    Isensee F et al. Nat Methods 2021;18:203, doi 10.1038/s41592-020-01008-z.
    """
    device = next(network.parameters()).device
    if window is None or all(n >= whole for n, whole in zip(window, image.shape[2:], strict=True)):
        return network(image.to(device).contiguous(memory_format=torch.channels_last_3d))
    from monai.inferers.utils import sliding_window_inference

    def answer(part: Tensor) -> Tensor:
        return network(part.contiguous(memory_format=torch.channels_last_3d)).float()

    # Predictions near a window's edge lack what lies beyond it, so they count less than those of its neighbors.
    made = sliding_window_inference(
        image, window, 1, answer, overlap=OVERLAP, mode="gaussian", sw_device=device, device="cpu"
    )
    return cast(Tensor, made)
