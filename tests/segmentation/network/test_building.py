import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unet import UNet
from torch import nn

from shiftkit.errors import DataError, MachineError
from shiftkit.segmentation.network.building import build_for
from shiftkit.segmentation.network.weights import map_safetensors, map_state_dict, weights_of

PLACE = Path("tracts")


def unet(*channels: int) -> nn.Module:
    """A network that MONAI builds on the device meta."""
    return UNet(3, 1, 2, channels, (2,) * (len(channels) - 1))


def swin(**more: object) -> nn.Module:
    """One that computes while it is built, and so cannot be tried without memory."""
    return SwinUNETR(1, 2, feature_size=12, **more)  # pyright: ignore[reportArgumentType]


class Long(nn.Module):
    """Computes without end, a little at a time, before it has any weights."""

    def __init__(self) -> None:
        super().__init__()
        while True:
            torch.linspace(0, 1, 3)[0].item()


@pytest.mark.parametrize("make", [lambda: unet(4, 8), swin], ids=["unet", "swin"])
def test_a_network_of_its_own_weights_is_built(make: Callable[[], nn.Module]) -> None:
    """Its weights are those that are there, also where MONAI computes while it builds."""
    torch.manual_seed(0)
    weights = weights_of(make())
    made = build_for(make, weights, PLACE)
    assert not made.training
    assert all(torch.equal(one, weights[name]) for name, one in made.state_dict().items())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: swin(window_size=48), "numbers"),
        (lambda: swin(window_size=2000), "numbers"),
        (lambda: SwinUNETR(1, 2, feature_size=12_000), "numbers"),
        (Long, "operations"),
    ],
    ids=["window", "vast window", "channels", "operations"],
)
def test_what_is_larger_than_its_weights_is_not_made(make: Callable[[], nn.Module], told: str) -> None:
    """Of an attention window of 48 voxels the table of places alone has 10¹⁰ numbers, 91 GiB; it is refused before."""
    with pytest.raises(DataError, match=rf"asks for more than \d+ {told}\. Copy both"):
        build_for(make, weights_of(swin()), PLACE)


def test_a_machine_with_too_little_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that fit their network and not the machine: what is needed, what is there, before it is built."""
    weights = weights_of(unet(4, 8))
    monkeypatch.setattr("shiftkit.segmentation.network.building.machine_memory_bytes", lambda: 2**13)
    with pytest.raises(MachineError, match=r"need 1\.\d+e-05 GiB of memory.*has 7\.63e-06"):
        build_for(lambda: pytest.fail("built"), weights, PLACE)


def vast(path: Path, gib: int) -> Path:
    """A file of safetensors with one honest tensor of so many GiB, none of which is on the disk."""
    header = b'{"w":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}' % (gib * 2**28, gib * 2**30)
    with path.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + gib * 2**30)
    return path


def test_numbers_are_read_only_if_they_are_the_networks_own(tmp_path: Path) -> None:
    """Weights of 3 GiB beside a network of a few thousand are refused by their shapes: they are not read."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    weights = map_safetensors(vast(tmp_path / "model.safetensors", 3))
    with pytest.raises(DataError, match="tensors differ"):
        build_for(lambda: unet(4, 8), weights, PLACE)
    with pytest.raises(DataError, match="tensors differ"):
        build_for(lambda: unet(4, 10**6), weights, PLACE)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19, "KiB"


def test_a_file_of_torch_save_is_mapped_and_an_old_one_is_small(tmp_path: Path) -> None:
    """Of an archive shapes are known before numbers are read; files of before PyTorch 1.6 are none."""
    state = weights_of(unet(4, 8))
    for name, new in (("new", True), ("old", False)):
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=new)
        made = map_state_dict(tmp_path / name)
        assert all(torch.equal(one, state[key]) for key, one in made.items())
    with (tmp_path / "old").open("r+b") as stream:
        stream.truncate(2**30)
    with pytest.raises(ValueError, match=r"old, as before PyTorch 1\.6, has 1\.0 GiB"):
        map_state_dict(tmp_path / "old")


def test_no_network_has_so_many_tensors(tmp_path: Path) -> None:
    """Parts of a network are counted by its tensors: a header of empty ones would allow any number."""
    one = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    header = b"{" + b",".join(one % number for number in range(10_001)) + b"}"
    (tmp_path / "w").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match="10001 tensors"):
        map_safetensors(tmp_path / "w")
