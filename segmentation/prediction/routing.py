"""Models of folds: each participant is segmented by those that never saw them."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from ...errors import ConfigError, DataError
from ...images import image_digest
from ...types import Case, Cohort
from ..network.checkpoints import Model, load_model
from .inference import ensemble_head


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folds:
    """The models of one training in folds by the name of their folder, and how tables call them together."""

    name: str
    models: Mapping[str, Model]

    @cached_property
    def head(self) -> Model:
        """The first model, after it was made sure that all can be averaged."""
        return ensemble_head(list(self.models.values()))

    def routes(self, cohort: Cohort) -> dict[str, tuple[str, ...]]:
        """The folds that never saw each case, by the case's key; those of a participant's other sessions count too.

        Participants are known by their images (`Model.has_seen`), whatever they are called. Somebody whom no model has
        seen gets all of them; somebody whom every model has seen gets none.
        """
        first = self.head.modality.split("+")[0]  # of several modalities one tells who it is
        digests: dict[str, set[str]] = {}
        for case in cohort:
            known = digests.setdefault(case.participant_id, set())
            if first in case.images:
                known.add(image_digest(case.images[first]))
        seen = {name: set(model.participants.values()) for name, model in self.models.items()}
        return {
            case.key: tuple(name for name, others in seen.items() if not digests[case.participant_id] & others)
            for case in cohort
        }

    def routed(self, routes: Mapping[str, Sequence[str]], case: Case) -> list[Model]:
        """The models that routes give to a case; where there are none a `DataError` says why."""
        if not routes[case.key]:
            raise DataError(
                f"A participant is segmented by folds that never saw them; every fold of {self.name} was trained or "
                f"tuned on {case.key}. Use a model trained without this participant."
            )
        return [self.models[name] for name in routes[case.key]]

    def __str__(self) -> str:
        return f"{len(self.models)} folds of {self.head}"


def open_models(places: Sequence[Path | Model | Folds]) -> Model | list[Model] | Folds:
    """Load one checkpoint, several to be averaged, or one folder with ``fold-1``, ``fold-2``, …, as training makes it.

    What is a model already stays as it is.

    A folder of folds among several is a `ConfigError`, a checkpoint that is missing or damaged a `DataError`.
    """
    opened = [place if isinstance(place, Model | Folds) else open_place(place) for place in places]
    models = [one for one in opened if isinstance(one, Model)]
    if len(opened) > len(models) and len(opened) > 1:
        raise ConfigError(
            "Several models are averaged, each a checkpoint of its own; among them is a folder of folds. Give it "
            "alone, to segment each participant with the folds that never saw them, or name its fold-1 and the others."
        )
    return opened[0] if len(opened) == 1 else models


def open_place(path: Path, source: Model | None = None) -> Model | Folds:
    """Load a checkpoint, or a folder of folds; ``source`` is the model they were tuned from, see `load_model`."""
    folders = fold_folders(path)
    if not folders:
        return load_model(path, source)
    models = {folder.name: load_model(folder, source) for folder in folders}
    names = {model.name for model in models.values()}
    # Fine-tuning names its folds alike; training names each after its folder.
    name = names.pop() if len(names) == 1 else f"{path.resolve().name}×{len(models)}"
    return Folds(name=name, models=models)


def fold_folders(path: Path) -> list[Path]:
    """The checkpoints ``fold-1``, ``fold-2``, … in a folder, in order; none where the folder is a checkpoint."""
    if not path.is_dir() or (path / "configs").is_dir():
        return []
    numbered = {int(found[1]): one for one in path.iterdir() if (found := re.fullmatch(r"fold-(\d+)", one.name))}
    return [numbered[number] for number in sorted(numbered)]
