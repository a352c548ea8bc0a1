import os

import pytest
import torch


def test_a_gpu_is_told_to_be_reproducible_and_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside the block PyTorch's switches are on, afterwards as before, also after an error; the CPU is left alone."""
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
        )

    before = switches()
    with pytest.raises(KeyError), same_every_time(torch.device("cuda")):
        assert switches() == (True, True, True, False, ":4096:8")
        raise KeyError
    assert switches() == before
    for device, wanted in (("cpu", True), ("cuda", False)):
        with same_every_time(torch.device(device), wanted):
            assert switches() == before
