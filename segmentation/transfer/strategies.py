"""The transfer strategies: what of a source model is trained on patients, how fast, and from where.

One entry of one mapping is one strategy; the loop, the folds and the tests know no strategy by name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from torch import nn

from ...errors import ConfigError
from ..network.checkpoints import Model
from ..network.foreign import ForeignNetwork, authored, last_layer, normalization_layers
from ..network.networks import levels, part_of
from ..training.epochs import Rate, Schedule

# A source model is nearly there: few epochs at a third of the rate, or it forgets. From random weights all is to do.
_SHORT = Schedule(epochs=3, learning_rate=1e-3, validate_every=1)
_LONG = Schedule(epochs=20, learning_rate=3e-3)


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """What is trained, how fast, and from where.

    Parameters
    ----------
    trains : callable
        Takes a parameter's name and says whether it is trained.
    keeps_source : bool
        False starts from random weights.
    rate : callable, optional
        Takes the network; returns what multiplies each parameter's learning rate, see `epochs.Restraint`.
    anchor : float
        Strength of the pull towards the source weights.
    statistics : bool
        Re-estimate the running statistics of batch normalization on the patients' images.
    references : tuple of str
        DOIs of where the strategy comes from.
    """

    description: str
    trains: Callable[[str], bool]
    schedule: Schedule = _SHORT
    keeps_source: bool = True
    rate: Callable[[nn.Module], Rate] | None = None
    anchor: float = 0.0
    statistics: bool = False
    references: tuple[str, ...] = ()


def layerwise(decay: float) -> Callable[[nn.Module], Rate]:
    """Learning rates that fall by a factor a block from the output to the input."""

    def build(network: nn.Module) -> Rate:
        level = levels(network)
        # Features near the input are general and close to right for patients too: they move least.
        return lambda name, share: decay ** level[name]

    return build


def unfreeze_gradually(network: nn.Module) -> Rate:
    """The head trains from the start; every block below joins in turn, the first layer at three quarters."""
    level = levels(network)
    deepest = max(level.values())
    # After three quarters all train, so that the first layer has a quarter of the time too.
    return lambda name, share: float(share >= 0.75 * level[name] / deepest)


def _nothing(name: str) -> bool:
    return False


def _everything(name: str) -> bool:
    return True


def _part(*parts: str) -> Callable[[str], bool]:
    return lambda name: part_of(name) in parts


STRATEGIES: Mapping[str, Strategy] = {
    "none": Strategy(description="Zero-shot: nothing is trained.", trains=_nothing),
    "scratch": Strategy(
        description="Patients only, from random weights.", trains=_everything, schedule=_LONG, keeps_source=False
    ),
    "full": Strategy(description="Everything is trained.", trains=_everything),
    "decoder": Strategy(
        description="The encoder is frozen, decoder and head are trained (the published study's choice).",
        trains=_part("decoder", "head"),
    ),
    "encoder": Strategy(description="The encoder is trained, decoder and head are frozen.", trains=_part("encoder")),
    "head": Strategy(description="Only the last unit is trained.", trains=_part("head")),
    "norm": Strategy(
        description="Only the affine parameters of normalization layers are trained.",
        trains=lambda name: ".adn.N." in name or "norm" in name,  # MONAI's U-Net; SegResNet and DynUNet
        references=("10.48550/arXiv.2003.00152",),
    ),
    "adabn": Strategy(
        description="Nothing is trained; batch normalization gets the patients' statistics.",
        trains=_nothing,
        statistics=True,
        references=("10.1016/j.patcog.2018.03.005",),
    ),
    "gradual": Strategy(
        description="Everything is trained in the end; blocks are unfrozen one by one from the output.",
        trains=_everything,
        rate=unfreeze_gradually,
        references=("10.18653/v1/P18-1031",),
    ),
    "layerwise": Strategy(
        description="Everything is trained, each block at 0.7 times the rate of the one nearer to the output.",
        trains=_everything,
        rate=layerwise(0.7),
        references=("10.18653/v1/P18-1031",),
    ),
    "l2sp": Strategy(
        description="Everything is trained, with a pull towards the source weights.",
        trains=_everything,
        schedule=replace(_SHORT, weight_decay=0.0),  # which pulls towards 0, where the anchor pulls to the source
        anchor=0.01,
        references=("10.48550/arXiv.1802.01483",),
    ),
}
"""Every strategy, by name."""


def find_strategy(name: str, epochs: int | None = None) -> Strategy:
    """A strategy by name, with another number of epochs where one is given; unknown names are refused."""
    if name not in STRATEGIES:
        raise ConfigError(f"`strategy` must be one of {', '.join(STRATEGIES)}; got {name!r}.")
    found = STRATEGIES[name]
    return found if epochs is None else replace(found, schedule=replace(found.schedule, epochs=epochs))


_INSIDE = {
    "scratch": "how its random weights are drawn, which learning curves with `shots` need too",
    "decoder": "which of its layers are encoder and decoder",
    "encoder": "which of its layers are encoder and decoder",
    "gradual": "how far each layer lies from the output",
    "layerwise": "how far each layer lies from the output",
}
"""What a strategy has to know of a network's inside; of others' modules nobody has said it."""


def strategy_for(model: Model, name: str, *, layers: Sequence[str] = (), epochs: int | None = None) -> Strategy:
    """A strategy as it is for the network of a model; `Strategy.trains` takes names as the network's author has them.

    Of a module that is not shiftkit's own, ``head`` is the last layer with weights, see `foreign.last_layer`, and
    ``norm`` every normalization layer.

    Parameters
    ----------
    layers : sequence of str
        What ``head`` trains instead: paths of layers or parameters, or patterns of these with ``*``.
    epochs : int, optional
        Instead of the strategy's own number.

    Raises
    ------
    ConfigError
        If the strategy is unknown, needs to know what nobody has said of the network, or finds nothing to train.
    """
    strategy = find_strategy(name, epochs)
    network = model.network
    if isinstance(network, ForeignNetwork):
        if name in _INSIDE:
            possible = ", ".join(one for one in STRATEGIES if one not in _INSIDE)
            raise ConfigError(
                f"Strategy {name} has to know {_INSIDE[name]}; {model.name} is a module of your own, of which shiftkit "
                f"knows no such thing. Choose one of {possible} for `strategy`."
            )
        if name == "norm":
            strategy = replace(strategy, trains=_within(_required(normalization_layers(network), model)))
    if layers and name != "head":
        raise ConfigError(
            f"`layers` say what the strategy head trains; `strategy` is {name}. Leave `layers` out, or choose head."
        )
    if name == "head" and (layers or isinstance(network, ForeignNetwork)):
        chosen = tuple(layers) or last_layer(network)  # pyright: ignore[reportArgumentType]
        _require_matches(chosen, model)
        strategy = replace(strategy, trains=_within(chosen), description=f"Only {', '.join(chosen)} is trained.")
    return strategy


def _within(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a parameter is one of these, lies in one of these layers, or matches one of these patterns."""
    return lambda name: any(
        name == one or name.startswith(f"{one}.") or fnmatchcase(name, one) or fnmatchcase(name, f"{one}.*")
        for one in patterns
    )


def _required(layers: tuple[str, ...], model: Model) -> tuple[str, ...]:
    if not layers:
        raise ConfigError(
            f"Strategy norm trains normalization layers; {model.name} has none with parameters of its own. Choose "
            "head or full for `strategy`."
        )
    return layers


def _require_matches(patterns: Sequence[str], model: Model) -> None:
    names = [name for name, _ in authored(model.network).named_parameters()]
    if nothing := [one for one in patterns if not any(map(_within([one]), names))]:
        there = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
        raise ConfigError(
            f"`layers` must be paths or patterns of layers with parameters; {model.name} has none of "
            f"{', '.join(nothing)}. It has {', '.join(there[-_SHOWN:]) or 'no parameters'}"
            f"{f' and {len(there) - _SHOWN} before these' if len(there) > _SHOWN else ''}."
        )


_SHOWN = 12


def freeze(network: nn.Module, trains: Callable[[str], bool]) -> None:
    """Let only the parameters train that a strategy names."""
    for name, parameter in authored(network).named_parameters():
        parameter.requires_grad_(trains(name))
