"""Embeddings: what each depth of a network makes of each region, one vector a participant and region."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...distances import edge_distance_map
from ...embeddings import COLUMNS, Array, Embeddings, shell_region
from ...errors import ConfigError, DataError
from ...types import Case, Cohort
from ...work import Work
from ..network.checkpoints import Model
from ..network.devices import device_of, memory_format_on
from ..network.foreign import ForeignNetwork, choose_layers
from ..samples.samples import Sample, load_sample, mask_on_grid
from .inference import Passage, as_batch, each_case

Place = tuple[str, str, str]
"""Region, bundle and hemisphere."""

SHELLS_MM = (0.0, 10.0, 20.0, 40.0, float("inf"))
_VERSION = 2  # of the regions and how they are pooled; stored vectors of another version are made again
_AT_ONCE = 8  # regions whose weights are held at a time: what bounds the memory


def layers_of(network: nn.Module, names: Sequence[str] = ()) -> dict[str, nn.Module]:
    """The places in a network at which features are taken, from the input down and up again to the output.

    ``encoder-1`` is next to the input, ``decoder-1`` next to the output, ``head`` the output itself; those of a network
    that is not shiftkit's own go by their dotted paths, see `foreign.choose_layers`. With ``names`` only these; the
    dotted path of any submodule is understood too, anything else a `ConfigError`.
    """
    if isinstance(network, ForeignNetwork):
        modules = {name: one for name, one in network.network.named_modules() if name}
        # What is named is not searched for: the network would see an image for it.
        paths = choose_layers(network) if not names or not set(names) <= set(modules) else []
        found = {path: modules[path] for path in paths}
    else:
        modules = dict(network.named_modules())
        found = _depths(modules)
    if not names:
        return found
    unknown = [name for name in names if name not in found and name not in modules]
    if unknown:
        raise ConfigError(f"A layer is one of {', '.join(found)} or the path of a submodule; got {', '.join(unknown)}.")
    return {name: found[name] if name in found else modules[name] for name in names}


def _depths(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Blocks of the U-Net, SegResNet or DynUNet by depth."""
    down, up = _unet_paths(modules) if "model.0" in modules else _listed_paths(modules)
    found = {f"encoder-{number}": modules[path] for number, path in enumerate(down, start=1)}
    found |= {f"decoder-{len(up) - number}": modules[path] for number, path in enumerate(up)}
    head = next((path for path in ("model.2", "conv_final", "output_block") if path in modules), None)
    return found if head is None else found | {"head": modules[head]}


def _unet_paths(modules: Mapping[str, nn.Module]) -> tuple[list[str], list[str]]:
    path, down, up = "model", list[str](), list[str]()
    while f"{path}.1.submodule" in modules:
        down.append(f"{path}.0")
        up.append(f"{path}.2")
        path = f"{path}.1.submodule"
    # The outermost block upwards ends in the head, which is listed by itself; its first half is the last depth.
    return [*down, path], [f"{up[0]}.0", *up[1:]][::-1]


def _listed_paths(modules: Mapping[str, nn.Module]) -> tuple[list[str], list[str]]:
    def numbered(prefix: str) -> list[str]:
        return [name for name in modules if name.startswith(f"{prefix}.") and name.count(".") == 1]

    if "down_layers" in modules:
        return numbered("down_layers"), numbered("up_layers")
    return ["input_block", *numbered("downsamples"), "bottleneck"], numbered("upsamples")


def capture(network: nn.Module, image: Tensor, layers: Mapping[str, nn.Module]) -> tuple[dict[str, Tensor], Tensor]:
    """Run a network once, in evaluation mode, and keep what each layer gives: shape (1, channels, x, y, z).

    ``image`` has shape (1, C, X, Y, Z), on the network's device. The second value is the network's output.
    """
    kept: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim != 5:
            raise ConfigError(
                f"A layer gives one map a channel, shape (N, C, X, Y, Z); {name} gives "
                f"{tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__}. Name another one."
            )
        kept[name] = output.detach()

    handles = [layer.register_forward_hook(partial(keep, name)) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            output = network(image)
    finally:
        for handle in handles:
            handle.remove()
    return kept, output


def pool(features: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of each channel over each region, regions brought to the layer's resolution by area.

    ``features`` of one layer have shape (1, C, x, y, z), ``weights`` (R, X, Y, Z) are on the network's input grid; the
    means have shape (R, C), with NaN where a region has no weight.
    """
    if features.device.type == "mps":  # a Mac's GPU has no double precision
        features, weights = features.cpu(), weights.cpu()
    shares = nn.functional.interpolate(weights[:, None].float(), size=features.shape[2:], mode="area").flatten(1)
    return (shares.double() @ features[0].flatten(1).double().T) / shares.double().sum(dim=1, keepdim=True)


def embed(
    model: Model,
    cohort: Cohort,
    *,
    out: Path,
    layers: Sequence[str] = (),
    shells_mm: Sequence[float] = SHELLS_MM,
    fold: str = "1",
    device: str = "auto",
    work: Work = Work(),
) -> tuple[Embeddings, dict[str, str]]:
    """Embed every participant of a cohort, and say who could not be embedded, and why; if nobody could, an error.

    One npz file a participant goes into ``out``, with its network's digest: it is read again if model, layers and
    shells are the same. Layers are those of `layers_of`, every depth by default; ``shells_mm`` the edges of shells
    around the tumor, increasing from 0; ``fold``, which goes into the rows, is which of several networks this is.

    In memory are one network's feature maps, the weights of eight regions, and images that are read ahead. The
    network looks at the whole box at once, also one that was trained on patches and predicts in windows.
    """
    chosen = layers_of(model.network, layers)
    edges = [str(edge) for edge in shells_mm]
    note = {"digest": model.digest, "layers": list(chosen), "shells_mm": edges, "fold": fold, "version": _VERSION}
    made: dict[str, Embeddings] = {}

    def read(case: Case) -> Sample | None:
        try:
            made[case.key] = Embeddings.load(out / f"{case.key}.npz", **note)
        except DataError:  # nothing there, made otherwise, or damaged
            return load_sample(case, model.modality, model.spacing_mm, model.shape, model.bundles)
        return None

    def compute(case: Case, sample: Sample) -> Embeddings:
        return _embed_case(model, case, sample, chosen, tuple(shells_mm), fold)

    def write(case: Case, embeddings: Embeddings) -> None:
        path = out / f"{case.key}.npz"
        embeddings.save(path, **note)
        made[case.key] = Embeddings.load(path)

    passage = Passage(read=read, compute=compute, write=write)
    failed = each_case([model], cohort.cases, passage, device, work, f"Embedding {cohort.name} with {model.name}")
    return Embeddings.concat([made[case.key] for case in cohort if case.key in made]), failed


def _embed_case(
    model: Model,
    case: Case,
    sample: Sample,
    layers: Mapping[str, nn.Module],
    shells_mm: tuple[float, ...],
    fold: str,
) -> Embeddings:
    device = device_of(model.network)
    image = as_batch(sample.image).to(device, memory_format=memory_format_on(device))
    maps, output = capture(model.network, image, layers)
    regions = [*_mask_regions(sample), *_shell_regions(sample, case, model, shells_mm)]
    probabilities = torch.sigmoid(output[0]).float().cpu().numpy()
    predicted = zip(model.bundles, probabilities, strict=True)
    regions += [(("predicted", bundle.name, bundle.hemisphere), channel) for bundle, channel in predicted]
    vectors: dict[str, list[Array]] = {name: [] for name in layers}
    for start in range(0, len(regions), _AT_ONCE):
        some = np.stack([weight for _, weight in regions[start : start + _AT_ONCE]])
        weights = torch.from_numpy(some.astype(np.float32)).to(device)
        for name, features in maps.items():
            vectors[name].append(pool(features, weights).float().cpu().numpy())
    voxel_ml = model.spacing_mm**3 / 1000
    rows = pd.DataFrame([place for place, _ in regions], columns=["region", "bundle", "hemisphere"]).assign(
        participant_id=case.participant_id,
        group=case.group,
        tumor_side=case.attributes.get("tumor_side", "n/a"),
        fold=fold,
        volume_ml=[float(weight.sum()) * voxel_ml for _, weight in regions],
    )
    pooled = {name: np.concatenate(parts) for name, parts in vectors.items()}
    return Embeddings(model=model.name, modality=model.modality, rows=rows[list(COLUMNS)], layers=pooled)


def _mask_regions(sample: Sample) -> list[tuple[Place, NDArray[Any]]]:
    """The brain, each reference mask, and each mask's mirror image, named by the hemisphere in which it lies."""
    brain = sample.brain
    regions: list[tuple[Place, NDArray[Any]]] = [(("brain", "brain", "all"), brain)]
    if sample.target is None or sample.known is None:
        return regions
    for bundle, mask, known in zip(sample.bundles, sample.target, sample.known, strict=True):
        if not known or not mask.any():
            continue
        regions.append((("reference", bundle.name, bundle.hemisphere), mask))
        reflected = mask[::-1] & brain
        if bundle.hemisphere != "none" and reflected.any():
            regions.append((("mirror", bundle.name, bundle.mirrored.hemisphere), reflected))
    return regions


def _shell_regions(
    sample: Sample, case: Case, model: Model, shells_mm: tuple[float, ...]
) -> list[tuple[Place, NDArray[Any]]]:
    """Bundle voxels on the tumor's side by distance to the tumor, and the mirrored places.

    A shell counts only where both it and its mirror image have voxels in the brain.
    """
    side = case.attributes.get("tumor_side", "n/a")
    if case.tumor is None or side not in ("left", "right") or sample.target is None:
        return []
    tumor = mask_on_grid(case.tumor, sample.affine, model.shape)
    if not tumor.any():
        return []
    distance = edge_distance_map(tumor, (model.spacing_mm, model.spacing_mm, model.spacing_mm))
    half = np.zeros(model.shape, dtype=bool)
    middle = model.shape[0] // 2
    half[:middle] = side == "left"  # the first axis of the model's grid runs from left to right
    half[model.shape[0] - middle :] = side == "right"
    brain = sample.brain
    bundles = np.asarray(sample.target.any(axis=0)) & half & brain & brain[::-1]
    other = {"left": "right", "right": "left"}[side]
    regions: list[tuple[Place, NDArray[Any]]] = []
    for low, high in pairwise(shells_mm):
        shell = bundles & (distance >= low) & (distance < high)
        if shell.any():
            name = shell_region(low, high)
            regions += [((name, "all", side), shell), ((name, "all", other), shell[::-1])]
    return regions


def feature_means(network: nn.Module, sample: Sample) -> dict[str, NDArray[np.float64]]:
    """Mean of each channel over the brain, for each block of the encoder from the input down."""
    device = device_of(network)
    encoder = {name: layer for name, layer in layers_of(network).items() if name.startswith("encoder")}
    kept, _ = capture(network, as_batch(sample.image).to(device), encoder)
    brain = torch.from_numpy(sample.brain)[None].to(device)
    return {name: pool(output, brain)[0].cpu().numpy() for name, output in kept.items()}


def feature_statistics(network: nn.Module, samples: Sequence[Sample]) -> Mapping[str, Any]:
    """Mean and standard deviation over participants of each channel's mean, for each encoder block.

    The reference against which a new image's features are compared; rounded, so that they stay readable.
    """
    rows = [feature_means(network, sample) for sample in samples]
    return {
        name: {
            "mean": [round(x, 5) for x in np.mean([row[name] for row in rows], axis=0).tolist()],
            "sd": [round(x, 5) for x in np.std([row[name] for row in rows], axis=0, ddof=1).tolist()],
            "n": len(rows),
        }
        for name in (rows[0] if len(rows) > 1 else {})
    }
