"""One source model after another by the same recipe: train, measure, save."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from ...errors import ConfigError
from ...files import write_text
from ...images import image_digest
from ...types import Bundle, Case, Cohort
from ...work import Progress
from ..network.checkpoints import Model, load_model, save_model
from ..network.networks import Architecture, build_network
from ..prediction.calibration import measure_overconfidence
from ..prediction.embedding import feature_statistics
from ..samples.cache import load_samples
from ..samples.patches import Size
from ..samples.samples import Sample
from .epochs import Schedule
from .fitting import fit, save_curve
from .states import require_same


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything about a training but who is in it and where it goes; fields are as in `training.train`."""

    modality: str
    bundles: tuple[Bundle, ...]
    architecture: Architecture
    spacing_mm: float
    shape: Size
    patch: Size | None
    schedule: Schedule
    device: str
    deterministic: bool
    memory_gib: float
    resume: bool

    def train(
        self,
        cohort: Cohort,
        training: list[Case],
        validation: list[Case],
        out: Path,
        seed: int,
        text: str,
        progress: Progress | None,
    ) -> Model:
        """Train one model and save it in ``out``; one that is there already is kept if it was made by this recipe."""
        if (out / "models" / "model.safetensors").is_file():
            if self.resume:
                return self._finished(out, [*training, *validation], seed)
            raise ConfigError(f"{out} holds a checkpoint already; give another --out, or --resume to keep it.")
        if (out / "state" / "log.json").is_file() and not self.resume:
            raise ConfigError(f"{out} holds an unfinished training; give --resume to continue it, or another --out.")
        cases, n = [*training, *validation], len(training)
        samples = load_samples(
            cases, self.modality, self.bundles, self.spacing_mm, self.shape, progress, self.memory_gib
        )
        participants = digests(cases, self.modality)
        torch.manual_seed(seed)
        built = build_network(self.architecture)
        result = fit(
            built,
            samples[:n],
            samples[n:],
            self.schedule,
            seed=seed,
            patch=self.patch,
            device=self.device,
            deterministic=self.deterministic,
            state=out / "state",
            settings={**self._settings(), "participants": participants},
            text=text,
            progress=progress,
        )
        settings = {
            "cohort": cohort.name,
            "participants_trained_on": n,
            "participants_tuned_on": len(validation),
            **dataclasses.asdict(self.schedule),
            "precision": result.precision,
            "seed": seed,
            "best_epoch": result.best_epoch,
            "validation_dice": round(result.best_dice, 4),
        }
        model = self._model(out.name, built, participants, settings, samples[:n])
        model = dataclasses.replace(model, overconfidence=measure_overconfidence(model, samples[n:]))
        write_text(out / "training.csv", pd.DataFrame(list(result.log)).to_csv(index=False))
        save_curve(result.log, out / "training.svg")
        save_model(model, out)
        shutil.rmtree(out / "state")
        return model

    def _model(
        self,
        name: str,
        network: nn.Module,
        participants: dict[str, str],
        training: dict[str, Any],
        samples: Sequence[Sample],
    ) -> Model:
        """What was trained, with what it takes to use it."""
        return Model(
            name=name,
            network=network,
            architecture=self.architecture,
            modality=self.modality,
            bundles=self.bundles,
            spacing_mm=self.spacing_mm,
            shape=self.shape,
            patch=self.patch,
            thresholds=dict.fromkeys(self.bundles, 0.5),
            participants=participants,
            training=training,
            feature_statistics=feature_statistics(network, samples),
        )

    def _finished(self, out: Path, cases: Sequence[Case], seed: int) -> Model:
        """The model that is there, if its metadata does not say otherwise; images are not read again."""
        model = load_model(out)
        asked = {**dataclasses.asdict(self.schedule), "seed": seed}
        there = {
            **{name: getattr(model, name) for name in ("spacing_mm", "shape", "patch", "modality")},
            "bundles": [bundle.label for bundle in model.bundles],
            "architecture": dataclasses.asdict(model.architecture),
            "participants": sorted(model.participants),
            # A checkpoint of an earlier version may lack some of them.
            "schedule": {name: model.training[name] for name in asked if name in model.training},
        }
        known = {name: value for name, value in asked.items() if name in model.training}
        keys = sorted(case.key for case in cases)
        require_same(there, {**self._settings(), "participants": keys, "schedule": known}, out)
        shutil.rmtree(out / "state", ignore_errors=True)  # left by a kill after the weights were written
        return model

    def _settings(self) -> dict[str, Any]:
        return {
            "modality": self.modality,
            "bundles": [bundle.label for bundle in self.bundles],
            "architecture": dataclasses.asdict(self.architecture),
            "spacing_mm": self.spacing_mm,
            "shape": self.shape,
            "patch": self.patch,
        }


def digests(cases: Sequence[Case], modality: str) -> dict[str, str]:
    """Digest of each participant's first image, by which it is known again under any name."""
    first = modality.split("+")[0]
    return {case.key: image_digest(case.images[first]) for case in cases}
