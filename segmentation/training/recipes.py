"""One source model after another by the same recipe: train, measure, save."""

import dataclasses
import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from ...cohorts.folder import require_trainable
from ...cohorts.peaks import meaning_digest
from ...errors import ConfigError, DataError
from ...files import file_digest, read_json, sweep, write_json
from ...images import image_digest
from ...options import passed_on
from ...types import Bundle, Case, Cohort
from ...work import Cost, Work
from ..network.checkpoints import METADATA, Model, is_whole, load_model, require_own, require_same, save_model
from ..network.devices import pick_device, placed, same_every_time
from ..network.networks import Architecture, build_network, require_fit
from ..prediction.calibration import answers, measure_overconfidence
from ..prediction.embedding import feature_statistics
from ..samples.augmentation import AUGMENTATIONS
from ..samples.cache import MEMORY_GIB, load_samples
from ..samples.domain import domain_of, measure_all
from ..samples.patches import Size
from ..samples.samples import COORDINATE_CHANNELS, box_shape, channels_of
from .epochs import Schedule
from .fitting import fit, save_log
from .processes import Processes
from .states import StateFolder


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything about a training but who is in it and where it goes: options of `shiftkit.train`, and two more.

    Parameters
    ----------
    channels : tuple of int
        Feature maps at each depth.
    shape : tuple of int, optional
        Of the model's grid in voxels, multiples of 2 to the power of how often the network halves its input. By
        default what a brain needs at the spacing; see `samples.box_shape`.
    patch : tuple of int, optional
        Train on patches of this size in voxels, half of them around a bundle, one a participant and epoch, and
        predict in windows of it; the whole box by default. Such multiples too.
    epochs : int, optional
        By default as many as `STEPS` steps take, and at least `LEAST_EPOCHS`: what a network has learned depends on
        its steps, so few participants are looked at more often.
    """

    modality: str = "peaks"
    bundles: Sequence[str] = ()
    network: str = "unet"
    normalization: str = "instance"
    deep_supervision: bool = False
    channels: tuple[int, ...] = (16, 32, 64, 128)
    spacing_mm: float = 2.5
    shape: Size | None = None
    patch: Size | None = None
    epochs: int | None = None
    batch_size: int = 1
    patience: int | None = None
    augmentation: str = "light"
    device: str = "auto"
    deterministic: bool = True
    memory_gib: float = MEMORY_GIB
    seed: int = 0

    def settled(self, cohort: Cohort) -> Self:
        """The recipe with the cohort's bundles written out, once it is sure that all fits; see `source.train`."""
        if self.augmentation not in AUGMENTATIONS:
            raise ConfigError(f"`augmentation` must be one of {', '.join(AUGMENTATIONS)}; got {self.augmentation!r}.")
        pick_device(self.device)
        bundles = require_trainable(cohort, self.modality, self.bundles)
        settled = dataclasses.replace(self, bundles=tuple(bundle.label for bundle in bundles))
        require_fit("shape", self.box, settled.architecture)
        if self.patch is not None:
            require_fit("patch", self.patch, settled.architecture, self.box)
        return settled

    @property
    def box(self) -> Size:
        """Shape of the model's grid."""
        return self.shape or box_shape(self.spacing_mm)

    @property
    def architecture(self) -> Architecture:
        """The network; `settled` has the number of its outputs."""
        return Architecture(
            name=self.network,
            in_channels=channels_of(self.modality) + COORDINATE_CHANNELS,
            out_channels=len(self.bundles),
            channels=self.channels,
            normalization=self.normalization,
            deep_supervision=self.deep_supervision,
        )

    def schedule(self, participants: int) -> Schedule:
        """How long and how fast so many participants are trained on.

        Examples
        --------
        >>> [Recipe().schedule(participants).epochs for participants in (8, 36, 1000)]
        [300, 67, 10]
        >>> Recipe(epochs=30).schedule(8).epochs
        30
        """
        given = passed_on(Schedule, vars(self))
        if self.epochs is not None:
            return Schedule(learning_rate=_LEARNING_RATE, **given)
        steps = Schedule(epochs=1, learning_rate=_LEARNING_RATE, **given).steps(participants)
        epochs = max(LEAST_EPOCHS, math.ceil(STEPS / steps))
        often = max(1, epochs // _VALIDATIONS)
        return Schedule(epochs=epochs, learning_rate=_LEARNING_RATE, validate_every=often, **given)

    def cost(self, training: int, validation: int = 0) -> Cost:
        """What a training on so many participants takes on a CPU."""
        schedule = self.schedule(training)
        box, patch = (math.prod(size) / 1e6 for size in (self.box, self.patch or self.box))
        steps = schedule.epochs * schedule.steps(training)
        # Whoever chooses the epoch is looked at without gradients: a third of the work.
        looks = validation * schedule.epochs / schedule.validate_every / 3
        samples = (training + validation) * box * 0.06  # GiB of twelve channels and masks
        return Cost(
            seconds=10 + 3.0 * (steps * patch * self.batch_size + looks * box),
            memory_gib=0.6 + min(samples, self.memory_gib) + 3.0 * patch * self.batch_size,
            disk_gib=0.02,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What must be the same for a training to go on, besides what `fit` compares."""
        return {
            "modality": self.modality,
            "bundles": list(self.bundles),
            "architecture": dataclasses.asdict(self.architecture),
            "spacing_mm": self.spacing_mm,
            "shape": self.box,
            "patch": self.patch,
        }

    def untrained(self, name: str, participants: Mapping[str, str]) -> Model:
        """A model with the random weights of the seed; its network is trained in place."""
        bundles = tuple(Bundle.parse(label) for label in self.bundles)
        torch.manual_seed(self.seed)  # of the weights alone: all other draws have generators of their own
        return Model(
            name=name,
            network=build_network(self.architecture),
            architecture=self.architecture,
            modality=self.modality,
            bundles=bundles,
            spacing_mm=self.spacing_mm,
            shape=self.box,
            patch=self.patch,
            thresholds=dict.fromkeys(bundles, 0.5),
            participants=participants,
        )


STEPS = 2400
"""Steps of a training, unless told otherwise: see `benchmarks/gpu.md` for what fewer and more give."""

LEAST_EPOCHS = 10
"""How often everybody is looked at, however many there are."""

_LEARNING_RATE = 3e-3
_VALIDATIONS = 20  # each looks at everybody who chooses the epoch: of small cohorts after many epochs


def train_by(
    recipe: Recipe,
    cohort: Cohort,
    training: Sequence[Case],
    validation: Sequence[Case],
    *,
    out: Path,
    resume: bool,
    stage: str,
    processes: Processes,
    work: Work,
) -> Model:
    """Train one model by a settled recipe and save it in ``out``; with ``resume`` one that is there already is kept.

    Of several processes that share the training the first writes. See `source.train` for the errors.
    """
    cases = [*training, *validation]
    require_own(out, resume)
    processes.gather(None)  # all have seen the folder before anything in it changes
    if processes.is_main:
        sweep(out)
    schedule = _begun(recipe, out) or recipe.schedule(len(training))
    if is_whole(out):
        return _finished(recipe, schedule, out, cases)
    bundles = tuple(Bundle.parse(label) for label in recipe.bundles)
    samples = load_samples(
        cases, recipe.modality, bundles, recipe.spacing_mm, recipe.box, memory_gib=recipe.memory_gib, work=work
    )
    learned, held_out = samples[: len(training)], samples[len(training) :]
    measured = measure_all(cases, recipe.modality, work)
    model, masks = (
        recipe.untrained(out.name, digests(cases, recipe.modality)),
        masks_digest(cases, bundles, recipe.modality),
    )
    result = fit(
        model.network,
        learned,
        held_out,
        schedule,
        seed=recipe.seed,
        patch=recipe.patch,
        processes=processes,
        deterministic=recipe.deterministic,
        state=StateFolder(out / "state", {**recipe.settings, "participants": dict(model.participants), "masks": masks}),
        stage=stage,
        work=work,
    )
    model = dataclasses.replace(
        model,
        training={
            "cohort": cohort.name,
            "participants_trained_on": len(training),
            "participants_tuned_on": len(validation),
            **dataclasses.asdict(schedule),
            "precision": result.precision,
            "seed": recipe.seed,
            "best_epoch": result.best_epoch,
            "validation_dice": round(result.best_dice, 4),
            "masks": masks,
        },
        image_statistics=(domain_of(list(measured.values())),),
    )
    with same_every_time(processes.device), placed([model.network], processes.device):
        model = dataclasses.replace(model, feature_statistics=feature_statistics(model.network, learned))
        model = dataclasses.replace(model, overconfidence=measure_overconfidence(model, answers(model, held_out)))
    if processes.is_main:
        save_log(result.log, out)
        save_model(model, out)
        shutil.rmtree(out / "state")  # last: until the checkpoint is whole, this is what a training continues from
    return model


def _begun(recipe: Recipe, out: Path) -> Schedule | None:
    """The schedule of a training that is there, if the recipe leaves its length open: other versions choose another."""
    if recipe.epochs is not None:
        return None
    there = load_model(out).training if is_whole(out) else StateFolder(out / "state").started_with.get("schedule", {})
    if not {"epochs", "validate_every"} <= set(there):
        return None
    begun = dataclasses.replace(recipe, epochs=int(there["epochs"])).schedule(0)
    return dataclasses.replace(begun, validate_every=int(there["validate_every"]))


def _finished(recipe: Recipe, schedule: Schedule, out: Path, cases: Sequence[Case]) -> Model:
    """The model that is there, if its metadata does not say otherwise."""
    model = load_model(out)
    masks = masks_digest(cases, model.bundles, recipe.modality)
    asked = {**dataclasses.asdict(schedule), "seed": recipe.seed, "masks": masks}
    # A checkpoint of an earlier version may lack some of them.
    known = [name for name in asked if name in model.training]
    there = {
        **{name: getattr(model, name) for name in ("spacing_mm", "shape", "patch", "modality")},
        "bundles": [bundle.label for bundle in model.bundles],
        "architecture": None if model.architecture is None else dataclasses.asdict(model.architecture),
        "participants": dict(model.participants),
        "schedule": {name: model.training[name] for name in known},
    }
    now = {"participants": digests(cases, recipe.modality), "schedule": {name: asked[name] for name in known}}
    require_same(there, {**recipe.settings, **now}, out)
    shutil.rmtree(out / "state", ignore_errors=True)  # left by a kill after the weights were written
    return model


def digests(cases: Sequence[Case], modality: str) -> dict[str, str]:
    """Digest of each participant's first image, by which it is known again under any name."""
    first = modality.split("+")[0]  # the one that a model with a narrower input has too
    return {case.key: image_digest(case.images[first]) for case in cases}


def masks_digest(cases: Sequence[Case], bundles: Sequence[Bundle], modality: str) -> str:
    """One SHA-256 over the reference masks of these bundles, and over the axes that peaks are read by.

    Other masks of the same images, or the same peaks turned, make another model.
    """
    whole = hashlib.sha256()
    for case in sorted(cases, key=lambda one: one.key):
        if "peaks" in modality.split("+") and "peaks" in case.images:
            whole.update(f"{case.key} peaks {meaning_digest(case.images['peaks'])}\n".encode())
        for bundle in sorted(set(case.masks) & set(bundles)):
            whole.update(f"{case.key} {bundle.label} {file_digest(case.masks[bundle])}\n".encode())
    return whole.hexdigest()


def recall_images(checkpoint: Path, cohort: Cohort, work: Work = Work()) -> int:
    """Write into a checkpoint of before what the images were like that it was trained and tuned on; how many those are.

    Participants are known by the digests of their images. Weights and everything else stay as they are.

    Raises
    ------
    DataError
        If the cohort lacks somebody whom the model was trained or tuned on.
    """
    model = load_model(checkpoint)
    seen = cohort.where(model.has_seen).cases
    if len(seen) < len(model.participants):
        raise DataError(
            f"Statistics are of everybody that a model was trained or tuned on; of the {len(model.participants)} of "
            f"model {model.name} cohort {cohort.name} has {len(seen)}. Name the cohort it was trained on."
        )
    path = checkpoint / METADATA
    content = read_json(path)
    measured = measure_all(seen, model.modality, work)
    content["shiftkit"]["image_statistics"] = [domain_of(list(measured.values()))]
    write_json(path, content)
    return len(measured)
