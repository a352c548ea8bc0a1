"""Small synthetic cohorts: two tubes a hemisphere in a brain that is brighter on one side."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from shiftkit import cohorts
from shiftkit.images import write_image
from shiftkit.segmentation.network.checkpoints import load_model
from shiftkit.types import Bundle, Cohort, Volume

SHAPE = (24, 24, 16)
BUNDLES = tuple(Bundle.parse(label) for label in ("AFleft", "AFright"))
GRID = {"channels": (4, 8, 16), "spacing_mm": 2.5, "shape": SHAPE}


def write_cohort(root: Path, count: int, *, group: str = "control", prefix: str = "c", bundles=BUNDLES) -> Cohort:
    """Write ``count`` participants: 3/4 train, the rest val, on a grid whose axes run LPS."""
    rng = np.random.default_rng(len(prefix) + count)
    affine = np.diag([-2.5, -2.5, 2.5, 1.0])
    affine[:3, 3] = [28.75, 28.75, -18.75]
    x, y, z = np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")
    world_x = affine[0, 0] * x + affine[0, 3]
    brain = ((x - 11.5) / 11) ** 2 + ((y - 11.5) / 11) ** 2 + ((z - 7.5) / 7.5) ** 2 < 1
    rows = []
    for number in range(count):
        key = f"sub-{prefix}{number:02d}"
        height = 7 + rng.integers(-1, 2)
        image = (0.3 + rng.normal(0, 0.02, SHAPE)) * brain
        peaks = rng.normal(0, 0.05, (*SHAPE, 9)) * brain[..., None]
        for bundle in bundles:
            side = -1 if bundle.hemisphere == "left" else 1
            tube = (np.abs(world_x - side * 12.5) < 4) & (np.abs(z - height) < 2) & (np.abs(y - 11.5) < 8) & brain
            image[tube] += 0.5
            peaks[tube, :3] = [0.1, 0.9, 0.1]
            write_image(Volume(array=tube, affine=affine), cohorts.mask_path(root, key, bundle))
        write_image(Volume(array=image.astype(np.float32), affine=affine), cohorts.image_path(root, key, "fa"))
        path = cohorts.image_path(root, key, "peaks")
        write_image(Volume(array=peaks.astype(np.float32), affine=affine), path)
        cohorts.write_peaks_sidecar(path)
        split = "train" if number < count * 3 / 4 else "val"
        rows.append({"participant_id": key, "group": group, "split": split})
    cohorts.write_description(root, root.name)
    cohorts.write_participants(root, pd.DataFrame(rows))
    return cohorts.load_cohort(root)


def same_weights(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same weights, to the bit."""
    one, two = load_model(a).network.state_dict(), load_model(b).network.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
