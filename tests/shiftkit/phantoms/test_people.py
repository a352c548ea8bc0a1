import numpy as np

from shiftkit.phantoms.people import Replay, aside


def test_a_replay_gives_the_same_numbers_again() -> None:
    """The first pass is the generator's own; the second repeats it, generators that were set aside too."""
    own, replay = np.random.default_rng(3), Replay(np.random.default_rng(3))

    def draws(rng: np.random.Generator) -> list[float]:
        return [rng.uniform(), aside(rng).gamma(2.0), *rng.standard_normal(3), aside(rng).normal()]

    assert draws(own) == draws(replay.rewound()) == draws(replay.rewound())


def test_what_is_set_aside_takes_no_number() -> None:
    """The stream goes on as if nothing had been set aside."""
    one, two = np.random.default_rng(3), np.random.default_rng(3)
    aside(one).normal(size=10)
    assert one.uniform() == two.uniform()
