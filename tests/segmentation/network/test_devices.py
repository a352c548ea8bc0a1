import os

import pytest
import torch


def test_a_gpu_is_told_to_be_reproducible_and_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside the block PyTorch's switches are on, afterwards as before, also after an error; the CPU is left alone.

    Where the same bits are not wanted, cuDNN looks for the fastest algorithms instead.
    """
    from shiftkit.segmentation.network.devices import same_every_time

    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    cudnn = torch.backends.cudnn

    def switches() -> tuple[object, ...]:
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            cudnn.deterministic,
            cudnn.benchmark,
            os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
            torch.utils.deterministic.fill_uninitialized_memory,
        )

    before = switches()
    with pytest.raises(KeyError), same_every_time(torch.device("cuda")):
        assert switches() == (True, True, True, False, ":4096:8", False)
        raise KeyError
    assert switches() == before
    with same_every_time(torch.device("cpu")):
        assert switches() == before
    with same_every_time(torch.device("cuda"), wanted=False):
        assert switches() == (False, False, False, True, None, True)
    assert switches() == before


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers count from 0, other words are no device, and ``auto`` takes the CPU where there is no GPU."""
    from shiftkit.errors import ConfigError
    from shiftkit.segmentation.network.devices import pick_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    for wrong, words in (("cuda:0", "needs a GPU"), ("gpu", "as in cuda:1"), ("cuda:x", "as in cuda:1")):
        with pytest.raises(ConfigError, match=words):
            pick_device(wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match="cuda:0 to cuda:1; got 'cuda:2'"):
        pick_device("cuda:2")


def test_a_macs_gpu_is_taken_where_it_is_and_only_if_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere ``mps`` is refused in a sentence, and ``auto`` is the CPU also on a Mac."""
    from shiftkit.errors import ConfigError
    from shiftkit.segmentation.network.devices import pick_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"mps needs the GPU of a Mac.*Use auto or cpu\."):
        pick_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("mps") == torch.device("mps") and pick_device("auto") == torch.device("cpu")


def test_a_lack_of_memory_names_its_cure() -> None:
    """PyTorch's error about a full GPU becomes one sentence with what to do; other errors stay what they are."""
    from shiftkit.errors import MachineError
    from shiftkit.segmentation.network.devices import enough_memory

    with pytest.raises(MachineError, match=r"memory is used up\. Take a bus\."), enough_memory("Take a bus."):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    with pytest.raises(KeyError), enough_memory("Take a bus."):
        raise KeyError
