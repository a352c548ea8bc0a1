"""Dice and cross-entropy over the bundles that a participant's annotation has."""

import torch
from torch import Tensor


def dice_bce(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Soft Dice plus binary cross-entropy, averaged over each participant's known bundles, then participants.

    A bundle that an annotation lacks says nothing: it is left out, not treated as background. Averaging
    within participants first makes a batch count the same however it is shared out among processes.

    Parameters
    ----------
    logits, target : Tensor, shape (N, B, X, Y, Z)
        Network output, and reference in 0–1.
    known : Tensor of bool, shape (N, B)
        Which bundles each participant's annotation has.

    Returns
    -------
    Tensor
        Scalar.

    References
    ----------
    Milletari F et al. 3DV 2016, doi 10.1109/3DV.2016.79.
    """
    from monai.losses.dice import DiceLoss

    dice = DiceLoss(sigmoid=True, reduction="none")(logits, target).flatten(2).mean(-1)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(2).mean(-1)
    weight = known.to(logits.dtype)
    return (((dice + entropy) * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)).mean()


def hard_dice(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Dice of the thresholded output, one value a participant and bundle; NaN where the bundle is not known."""
    predicted = logits > 0
    inside = target > 0.5
    hit = (predicted & inside).flatten(2).sum(-1)
    total = predicted.flatten(2).sum(-1) + inside.flatten(2).sum(-1)
    dice = torch.where(total > 0, 2 * hit / total.clamp(min=1), torch.ones_like(hit, dtype=torch.float32))
    return torch.where(known, dice, torch.full_like(dice, float("nan")))
