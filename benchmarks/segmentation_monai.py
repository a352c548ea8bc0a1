"""A bare MONAI loop on a shiftkit cohort, as MONAI's tutorials write it: a peer in `schedule.py` and `segmentation.py`.

Cached images, whole brains on their own grid, MONAI's U-Net and loss, AdamW with one cycle over the given time,
intensity augmentation, mixed precision on a GPU, the best validated weights kept. What it
shares with shiftkit: who is trained, tuned and tested on, and the signs of the peaks.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai import transforms
from monai.data.dataloader import DataLoader
from monai.data.dataset import CacheDataset
from monai.losses.dice import DiceCELoss
from monai.metrics.meandice import compute_dice
from monai.networks.nets.unet import UNet
from monai.utils.misc import set_determinism

from shiftkit.segmentation.samples.samples import canonical_peaks
from shiftkit.types import Bundle, Case

VALIDATIONS, HIGHEST_RATE, WARM_UP = 20, 3e-3, 0.1


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came out: Dice by participant and bundle, and how it was made."""

    dice: list[list[float]]
    steps: int
    wall_s: float
    parameters: int
    precision: str
    curve: list[tuple[float, float]]
    """Seconds, and the validation's Dice then."""


def bare_monai(
    training: Sequence[Case],
    validation: Sequence[Case],
    test: Sequence[Case],
    bundles: Sequence[Bundle],
    *,
    seconds: float,
    device: str,
    threads: int,
    seed: int = 0,
) -> Trained:
    """Train for so many seconds, reading included, and predict whom it has not seen."""
    start = time.monotonic()
    set_determinism(seed)
    torch.use_deterministic_algorithms(False)
    place = torch.device(device)
    half = place.type == "cuda"
    steady, augmented = _transforms(augmented=False), _transforms(augmented=True)
    learned = CacheDataset(_items(training, bundles), augmented, num_workers=threads, progress=False)
    held_out = CacheDataset(_items(validation, bundles), steady, num_workers=threads, progress=False)
    loader = DataLoader(
        learned, batch_size=1, shuffle=True, num_workers=threads if place.type == "cuda" else 0,
        persistent_workers=place.type == "cuda", pin_memory=place.type == "cuda",
    )  # fmt: skip
    network = UNet(3, 9, len(bundles), channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=2).to(place)
    optimizer, loss = torch.optim.AdamW(network.parameters(), lr=HIGHEST_RATE), DiceCELoss(sigmoid=True)
    best, kept, steps = -1.0, copy.deepcopy(network.state_dict()), 0
    curve: list[tuple[float, float]] = []
    while True:
        for batch in loader:
            share = (time.monotonic() - start) / seconds
            if share >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = HIGHEST_RATE * _one_cycle(share)
            optimizer.zero_grad()
            with torch.autocast(place.type, torch.bfloat16, enabled=half):
                output = network(batch["image"].to(place, non_blocking=True))
            loss(output.float(), batch["label"].to(place, non_blocking=True)).backward()
            optimizer.step()
            steps += 1
            if held_out and share * VALIDATIONS >= len(curve) + 1:
                now = float(np.mean(_dice(network, held_out, place, half)))
                curve.append((time.monotonic() - start, now))
                if now > best:
                    best, kept = now, copy.deepcopy(network.state_dict())
        else:
            continue
        break
    wall = time.monotonic() - start
    if curve:
        network.load_state_dict(kept)
    tested = CacheDataset(_items(test, bundles), steady, num_workers=threads, progress=False)
    return Trained(
        dice=_dice(network, tested, place, half),
        steps=steps,
        wall_s=wall,
        parameters=sum(one.numel() for one in network.parameters()),
        precision="bfloat16" if half else "float32",
        curve=curve,
    )


def _items(cases: Sequence[Case], bundles: Sequence[Bundle]) -> list[dict[str, Any]]:
    return [{"image": case.images["peaks"], "label": [case.masks[one] for one in bundles]} for case in cases]


def _transforms(*, augmented: bool) -> transforms.Compose:
    changes = [
        transforms.RandScaleIntensityd("image", factors=0.15, prob=1.0),
        transforms.RandGaussianNoised("image", prob=1.0, std=0.06),
    ]
    return transforms.Compose(
        [
            transforms.LoadImaged("image", image_only=True, ensure_channel_first=False),
            transforms.Lambdad("image", lambda image: np.moveaxis(canonical_peaks(np.asarray(image)), -1, 0)),
            transforms.LoadImaged("label", image_only=True),
            transforms.DivisiblePadd(("image", "label"), k=8),
            transforms.EnsureTyped(("image", "label"), dtype=torch.float32, track_meta=False),
            *(changes if augmented else []),
        ]
    )


def _one_cycle(share: float) -> float:
    if share < WARM_UP:
        return 0.04 + 0.96 * share / WARM_UP
    return 0.5 * (1 + float(np.cos(np.pi * (share - WARM_UP) / (1 - WARM_UP)))) + 1e-4


def _dice(network: torch.nn.Module, cases: Any, place: torch.device, half: bool) -> list[list[float]]:
    network.eval()
    found: list[list[float]] = []
    with torch.no_grad():
        for one in cases:
            with torch.autocast(place.type, torch.bfloat16, enabled=half):
                output = network(one["image"][None].to(place))
            found.append(compute_dice(output > 0, one["label"][None].to(place), ignore_empty=False)[0].tolist())
    network.train()
    return found
