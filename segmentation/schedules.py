"""How long and how fast to train, and what holds weights back."""

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Rate = Callable[[str, float], float]
"""Takes a parameter's name and the share of training that is over; gives a factor of its learning rate."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train.

    Parameters
    ----------
    epochs : int
        Passes over the training participants.
    learning_rate : float
        At the start; it falls to zero along a half cosine.
    weight_decay : float
        Of AdamW.
    validate_every : int
        Epochs between validations; the weights of the best one are kept.
    batch_size : int
        Participants a step, over all processes together.
    patience : int or None
        Stop after so many validations without a better one.
    augmentation : str
        A name in `augmentation.AUGMENTATIONS`.
    """

    epochs: int
    learning_rate: float
    weight_decay: float = 1e-4
    validate_every: int = 2
    batch_size: int = 1
    patience: int | None = None
    augmentation: str = "light"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anchor:
    """Pull towards the source weights: strength/2 · ‖w − w₀‖² is added to the loss.

    References
    ----------
    Li X, Grandvalet Y, Davoine F. ICML 2018, arXiv 1802.01483.
    """

    weights: Mapping[str, Tensor]
    strength: float

    def penalty(self, network: nn.Module) -> Tensor:
        """The term to add; parameters without an anchor are free."""
        terms = [
            ((parameter - self.weights[name].to(parameter.device)) ** 2).sum()
            for name, parameter in network.named_parameters()
            if name in self.weights and parameter.requires_grad
        ]
        return self.strength / 2 * torch.stack(terms).sum()
