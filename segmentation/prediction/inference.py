"""One case through a network: whole, or in windows."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from types import NoneType
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import ConfigError, DataError, ModelMismatchError
from ...types import Bundle, Case, Volume
from ...work import Work, allowed_cores
from ..network.checkpoints import Model
from ..network.devices import device_of, enough_memory, memory_format_on, pick_device, placed, same_every_time
from ..network.foreign import ForeignNetwork
from ..samples.patches import Size
from ..samples.prefetching import helper_threads, prefetched
from ..samples.samples import Sample, channels_of, load_sample, to_own_grid
from ..samples.warping import mirror

Read = TypeVar("Read")
Made = TypeVar("Made")


def predict_probabilities(
    model: Model | Sequence[Model], case: Case, *, mirrored: bool = False, window: Size | None = None
) -> dict[Bundle, Volume]:
    """Probability of each bundle on the participant's own grid; 0 outside the model's box around the brain.

    Of several models, probabilities are averaged; see `infer`.
    """
    models = [model] if isinstance(model, Model) else list(model)
    first = ensemble_head(models)
    sample = load_sample(case, first.modality, first.spacing_mm, first.shape)
    return on_own_grid(first, sample, infer(models, sample, mirrored, window))


def on_own_grid(model: Model, sample: Sample, channels: NDArray[np.float32]) -> dict[Bundle, Volume]:
    """What `infer` gave, on the participant's own grid."""
    return {bundle: to_own_grid(channel, sample) for bundle, channel in zip(model.bundles, channels, strict=True)}


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
                if isinstance(model.network, ForeignNetwork):
                    model.network.require_logits(answer)
                output: Tensor = torch.sigmoid(answer)[0].cpu()
            total += output[order].flip(1) if flipped else output
    if not torch.isfinite(total).all():
        # Of NaN every comparison is false: the bundle would be booked as missed.
        raise ModelMismatchError(
            f"The network must answer with finite numbers; what {models[0].name} says of {sample.key} holds NaN. Look "
            "for absurd values in the image, and at the model with shiftkit model verify."
        )
    return (total / (len(models) * len(views))).numpy()


def as_batch(image: NDArray[np.float32]) -> Tensor:
    """A sample's image as a batch of one, shape (1, C, X, Y, Z)."""
    return torch.from_numpy(np.ascontiguousarray(image))[None]


@dataclass(frozen=True, kw_only=True)
class Passage(Generic[Read, Made]):
    """What is done with each case: read it, compute on the models' device, and write what was made.

    Reading and writing are done by threads, of other cases than the one that is computed. ``read`` gives None for a
    case of which nothing is left to do.
    """

    read: Callable[[Case], Read | None]
    compute: Callable[[Case, Read], Made]
    write: Callable[[Case, Made], None]


def each_case(
    models: Sequence[Model], cases: Sequence[Case], passage: Passage[Any, Any], device: str, work: Work, stage: str
) -> dict[str, str]:
    """Take one case after another through a passage while the models are on a device.

    Returns those that failed, with the reason; where all did, the last one's error is raised.
    """
    problems: dict[str, _Problem] = {}
    target = pick_device(device)
    threads = _threads(models[0], cases, target)
    under_way: deque[tuple[Case, Future[Any]]] = deque()
    done = itertools.count(1)

    def finish() -> None:
        case, future = under_way.popleft()
        if isinstance(found := future.result(), _PROBLEMS):
            problems[case.key] = found
        work.report(next(done), len(cases), stage)

    with (
        enough_memory(_CURE),
        same_every_time(target),
        placed([model.network for model in models], target),
        closing(prefetched(partial(_tried, passage.read), cases, threads)) as items,
        ThreadPoolExecutor(max(threads, 1)) as pool,
    ):
        try:
            for case, item in zip(cases, items, strict=True):
                made = item if isinstance(item, _NO_MORE) else _tried(passage.compute, case, item)
                # What needs no writing waits for its turn too: cases are told of in their order.
                last = _given if isinstance(made, _NO_MORE) else passage.write
                under_way.append((case, pool.submit(_tried, last, case, made)))
                if len(under_way) > threads:
                    finish()
            while under_way:
                finish()
        finally:
            for _, future in under_way:
                future.cancel()
    if problems and len(problems) == len(cases):
        key, last = list(problems.items())[-1]
        raise last if key in str(last) else type(last)(f"{key}: {last}") from last
    return {key: str(problem) for key, problem in problems.items()}


def _given(case: Case, made: Any) -> Any:
    return made


_PROBLEMS = (DataError, ModelMismatchError)
_NO_MORE = (*_PROBLEMS, NoneType)
_Problem = DataError | ModelMismatchError
_CURE = "Look through smaller windows with `window`, or predict on the cpu."
_ROOM_GIB = 4.0
"""For images that were read and are not computed yet, or not written."""


def _tried(function: Callable[..., Made], *arguments: Any) -> Made | _Problem:
    """What a function gives, or the error that is one participant's alone."""
    try:
        return function(*arguments)
    except _PROBLEMS as error:
        return error


def _threads(model: Model, cases: Sequence[Case], device: torch.device) -> int:
    """How many threads read, and how many write: what cores are free for it, and fewer for large images."""
    import nibabel as nib

    free = helper_threads(16) if device.type == "cpu" else allowed_cores()
    for path in [case.images.get(model.modality.split("+")[0]) for case in cases[:1]]:
        with suppress(Exception):  # what is damaged is told when it is read
            # A few copies of the image's channels on the way in, and of the bundles' on the way out.
            header: Any = nib.load(path or "")
            numbers = math.prod(header.shape[:3]) * (4 * channels_of(model.modality) + 3 * len(model.bundles))
            free = min(free, max(1, int(_ROOM_GIB * 2**30 / (4 * numbers))))
    return free


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
    device = device_of(network)
    form = memory_format_on(device)
    if window is None or all(n >= whole for n, whole in zip(window, image.shape[2:], strict=True)):
        return network(image.to(device).contiguous(memory_format=form))
    from monai.inferers.utils import sliding_window_inference

    def answer(part: Tensor) -> Tensor:
        return network(part.contiguous(memory_format=form))

    # Predictions near a window's edge lack what lies beyond it, so they count less than those of its neighbors.
    made = sliding_window_inference(
        image, window, 1, answer, overlap=OVERLAP, mode="gaussian", sw_device=device, device="cpu"
    )
    return cast(Tensor, made)
