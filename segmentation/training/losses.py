"""Dice and cross-entropy over the bundles that a participant's annotation has."""

import torch
from torch import Tensor


def dice_bce(output: Tensor, target: Tensor, known: Tensor, *, probabilities: bool = False) -> Tensor:
    """Soft Dice plus binary cross-entropy, averaged over each participant's known bundles, then participants.

    A bundle that an annotation lacks says nothing: it is left out, not treated as background. Averaging
    within participants first makes a batch count the same however it is shared out among processes.

    ``output``, which is logits or ``probabilities``, and ``target``, the reference in 0–1, have shape
    (N, B, X, Y, Z); ``known`` (N, B) tells which bundles each participant's annotation has.

    References
    ----------
    Milletari F et al. 3DV 2016, doi 10.1109/3DV.2016.79.
    """
    from monai.losses.dice import DiceLoss

    # Dice alone says little where a bundle is a few voxels, cross-entropy alone where it is a thousandth of the box.
    dice = DiceLoss(sigmoid=not probabilities, reduction="none")(output, target).flatten(2).mean(-1)
    if probabilities:  # rounding may have carried them beyond 0 and 1
        entropies = torch.nn.functional.binary_cross_entropy(output.clamp(0, 1), target, reduction="none")
    else:
        entropies = torch.nn.functional.binary_cross_entropy_with_logits(output, target, reduction="none")
    entropy = entropies.flatten(2).mean(-1)
    # A participant without any known bundle would divide by 0.
    weight = known.to(output.dtype)
    return (((dice + entropy) * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)).mean()


def supervised_loss(output: Tensor, target: Tensor, known: Tensor, *, probabilities: bool = False) -> Tensor:
    """`dice_bce` of a network's output, or of each of its supervision heads, deeper ones counting half as much.

    ``output`` has shape (N, B, X, Y, Z), or (N, H, B, X, Y, Z) of H heads brought to the same size, the network's own
    first.

    References
    ----------
    Isensee F et al. Nat Methods 2021;18:203, doi 10.1038/s41592-020-01008-z; there targets are brought to the
    heads' size, here heads to the targets'.
    """
    if output.ndim == target.ndim:
        return dice_bce(output, target, known, probabilities=probabilities)
    heads = output.unbind(1)
    losses = [
        weight * dice_bce(head, target, known) for weight, head in zip(head_weights(len(heads)), heads, strict=True)
    ]
    return torch.stack(losses).sum()


def head_weights(count: int) -> tuple[float, ...]:
    """Weights 1, ½, ¼ … of supervision heads, divided by their sum.

    Examples
    --------
    >>> head_weights(1), [round(weight, 3) for weight in head_weights(3)]
    ((1.0,), [0.571, 0.286, 0.143])
    """
    raw = [0.5**depth for depth in range(count)]
    return tuple(weight / sum(raw) for weight in raw)


def hard_dice(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Dice of the thresholded output, one value a participant and bundle; NaN where the bundle is not known."""
    from monai.metrics.meandice import compute_dice

    # A logit of 0 is a probability of one half. Nothing predicted where nothing is counts as 1, not as no answer.
    dice = compute_dice(logits > 0, target > 0.5, ignore_empty=False)
    return torch.where(known, dice, torch.nan)
