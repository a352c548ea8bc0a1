from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from makers.segmentation import BUNDLES, SHAPE, on_grid

from shiftkit.errors import ConfigError, DataError
from shiftkit.segmentation.network.networks import (
    Architecture,
    build_network,
)
from shiftkit.segmentation.samples.cache import SampleCache, load_samples, sample_bytes, sample_keys
from shiftkit.segmentation.samples.samples import Sample, load_sample
from shiftkit.segmentation.training.epochs import Schedule
from shiftkit.segmentation.training.fitting import fit
from shiftkit.segmentation.training.processes import alone
from shiftkit.types import Cohort
from shiftkit.work import Work

GIB = 2**30


def small(index: int, size: int = 1) -> Sample:
    image = np.full((4, 2, 2, 2 * size), index, np.float32)
    return Sample(key=f"sub-{index}", image=image, affine=np.eye(4), own_affine=np.eye(4), own_shape=(2, 2, 2))


@given(
    requests=st.lists(st.integers(0, 5), min_size=20, max_size=40),
    room=st.integers(0, 7),
    sizes=st.lists(st.integers(1, 3), min_size=6, max_size=6),
)
@settings(max_examples=200, deadline=None)
def test_a_cache_keeps_what_was_asked_for_last(requests: list[int], room: int, sizes: list[int]) -> None:
    """In whatever order samples are asked for, the bound holds, and only those that gave way are loaded again."""
    unit = sample_bytes(small(0))
    cache = SampleCache([f"sub-{n}" for n in range(6)], lambda index: small(index, sizes[index]), room * unit / GIB)
    kept: OrderedDict[int, int] = OrderedDict()
    loads = 0
    for index in requests:
        assert cache[index].image[0, 0, 0, 0] == index
        if index in kept:
            kept.move_to_end(index)
        else:
            loads += 1
            if sizes[index] <= room:
                while sum(kept.values()) + sizes[index] > room:
                    kept.popitem(last=False)
                kept[index] = sizes[index]
        assert cache.nbytes == sum(kept.values()) * unit <= room * unit
        assert cache.loads == loads


def test_parts_of_a_cache_share_its_memory() -> None:
    """Slices and selections are sequences over the same samples, within the same bound; keys load nothing."""
    cache = SampleCache(["a", "b", "c", "d"], small, 4 * sample_bytes(small(0)) / GIB)
    late, picked = cache[2:], cache.select(["d", "a"])
    assert (late.keys, picked.keys, sample_keys(picked), len(picked), cache.loads) == (
        ["c", "d"],
        ["d", "a"],
        ["d", "a"],
        2,
        0,
    )
    assert late[-1] is picked[0] is cache[3] and cache.loads == 1
    assert [sample.key for sample in picked] == ["sub-3", "sub-0"] and late.nbytes == cache.nbytes
    assert sample_keys([small(1)]) == ["sub-1"]
    with pytest.raises(KeyError):
        late.select(["a"])
    with pytest.raises(IndexError):
        late[2]


def test_cached_samples_are_the_loaded_ones(controls: Cohort) -> None:
    """To the bit, before and after they gave way to others; everyone is loaded once at the start."""
    calls: list[tuple[int, int, str]] = []
    cache = load_samples(
        controls.cases,
        "fa",
        BUNDLES,
        2.5,
        SHAPE,
        memory_gib=100_000 / GIB,
        work=Work(progress=lambda *call: calls.append(call)),
    )
    assert cache.loads == len(controls) and calls[-1] == (6, 6, "Loading images")
    for case, sample in zip(controls, cache, strict=True):
        fresh = load_sample(case, "fa", 2.5, SHAPE, BUNDLES)
        for name in ("image", "target", "known", "affine"):
            assert np.array_equal(getattr(sample, name), getattr(fresh, name)), name
    assert cache.nbytes <= 100_000
    with pytest.raises(DataError, match="t1w"):
        load_samples(controls.cases, "t1w", BUNDLES, 2.5, SHAPE)
    with pytest.raises(ConfigError, match="0 GiB or more"):
        load_samples(controls.cases, "fa", BUNDLES, 2.5, SHAPE, memory_gib=-1)


@pytest.mark.parametrize("room", [0.5, 1.5, 100.0])
def test_a_bound_on_memory_changes_no_weights(controls: Cohort, room: float) -> None:
    """With room for none, one or all participants, training ends with the same weights, to the bit."""
    size = sample_bytes(on_grid(controls.cases[:1])[0])
    schedule = Schedule(epochs=3, learning_rate=1e-3, validate_every=1)
    plain = on_grid(controls)
    cache = load_samples(controls.cases, "fa", BUNDLES, 2.5, SHAPE, memory_gib=room * size / GIB)
    held: list[int] = []
    networks = []
    for samples in (plain, cache):
        torch.manual_seed(0)
        network = build_network(Architecture(in_channels=4, out_channels=2, channels=(4, 8)))
        fit(
            network,
            samples[:4],
            samples[4:],
            schedule,
            seed=0,
            processes=alone("cpu"),
            work=Work(progress=lambda *call: held.append(cache.nbytes)),
        )
        networks.append(network.state_dict())
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])
    assert max(held) <= room * size
    once, again = 6, 3 * 6
    assert cache.loads == once if room > 6 else once < cache.loads <= once + again
    assert room != 0.5 or cache.loads == once + again
