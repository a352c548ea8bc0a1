"""A network over a whole box at once, or window by window where it was trained on patches."""

from typing import cast

import torch
from torch import Tensor, nn

from .patches import Size

OVERLAP = 0.5
"""Share of a window that its neighbor covers too."""


def logits(network: nn.Module, image: Tensor, window: Size | None = None) -> Tensor:
    """The network's output for each voxel of a box.

    With a window the box is covered by overlapping windows, and each voxel gets the mean of what the windows
    around it say, weighted by a Gaussian (standard deviation 1/8 of the window, no weight under a thousandth) that
    favors those near whose middle it lies. The coordinate channels are cut with the image: a window knows where it is.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    image : Tensor, shape (N, C, X, Y, Z)
        On any device; windows are brought to the network's.
    window : tuple of int, optional
        In voxels; the whole box at once without one, or with one that covers it.

    Returns
    -------
    Tensor, shape (N, B, X, Y, Z)
        On the network's device for the whole box. Of windows it is gathered on the CPU, so that a GPU need hold
        no more than one window's feature maps.

    Notes
    -----
    Instance normalization is over what the network sees: a window is normalized by its own mean and variance.
    Windows of another size than the patches that a network was trained on therefore give other output, and not
    only at their edges.

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

    made = sliding_window_inference(
        image, window, 1, answer, overlap=OVERLAP, mode="gaussian", sw_device=device, device="cpu"
    )
    return cast(Tensor, made)
