"""Runs that name nobody: participants become P001, P002, …, and names of folders are left out of every file."""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ..catalogue import SCORES
from ..errors import ConfigError
from ..files import file_digest, write_text
from ..results import Finding
from ..types import Case, Cohort, Predictions

if TYPE_CHECKING:
    from ..segmentation.samples.domain import Nearness
    from .inputs import Inputs

_KEPT = ("group", "age", "sex", "site", "scanner", "tumor_side", "tumor_volume_ml", "split")
"""Columns of a participants.tsv that a run needs; others may hold anything, a name or a date of birth."""
MODEL = "model"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aliases:
    """Who is who: by the part a cohort plays, each participant's id, and what it is called.

    Numbers follow from the images, or of a table from the values, never from the ids: whoever has a list of these
    cannot read the aliases off it, and a resumed run finds the same ones.
    """

    people: Mapping[str, Mapping[str, str]]
    kept: tuple[str, ...] = _KEPT

    @classmethod
    def of_inputs(cls, inputs: "Inputs", columns: Sequence[str] = ()) -> "Aliases":
        """Of everybody in a run; ``columns`` are further attributes that it needs."""
        marks = {
            name: {case.participant_id: _mark_of(case) for case in cohort} for name, cohort in inputs.cohorts.items()
        }
        return cls(people=_numbered(marks), kept=(*_KEPT, *columns))

    @classmethod
    def of_table(cls, frame: pd.DataFrame, columns: Sequence[str] = ()) -> "Aliases":
        """Of everybody in a score table, by cohort."""
        marks: dict[str, dict[str, str]] = {}
        values = frame[["metric", "bundle", "hemisphere", "value"]].astype(str).agg("\t".join, axis=1)
        for (cohort, name), rows in values.groupby([frame["cohort"], frame["participant_id"]], sort=False):
            marks.setdefault(str(cohort), {})[str(name)] = _digest("\n".join(sorted(rows)))
        return cls(people=_numbered(marks), kept=(*_KEPT, *columns))

    def save(self, path: Path) -> None:
        """Write who is who, for who asked for it."""
        pairs = [(name, old, new) for name, people in self.people.items() for old, new in people.items()]
        frame = pd.DataFrame(pairs, columns=["cohort", "participant_id", "alias"])
        write_text(path, frame.to_csv(sep="\t", index=False, lineterminator="\n"))

    def inputs(self, inputs: "Inputs", model: str = MODEL) -> "Inputs":
        """The same people and images under other names."""
        hidden = {name: self.cohort(cohort, name) for name, cohort in inputs.cohorts.items()}
        names = model_names((), [one.model.name for one in inputs.models])
        return dataclasses.replace(
            inputs,
            model=dataclasses.replace(inputs.model, name=model),
            patients=hidden["patients"],
            controls=hidden["controls"],
            target_controls=hidden.get("target_controls"),
            # Who was left out has no alias, and is told by number.
            seen=tuple(f"seen {number}" for number, _ in enumerate(inputs.seen, start=1)),
            left_out=unnamed(inputs.left_out),
            near=tuple(self._near(part, near, model) for part, near in zip(inputs.cohorts, inputs.near, strict=False)),
            anonymous=True,
            beside=tuple(self.inputs(one, names[one.model.name]) for one in inputs.beside),
        )

    def _near(self, part: str, near: "Nearness", model: str) -> "Nearness":
        """How near the images of a part are, with its name alone."""
        people = self.people[part]
        outside = tuple(dataclasses.replace(one, key=people[one.key.split("_")[0]]) for one in near.outside)
        return dataclasses.replace(near, model=model, cohort=part.replace("_", " "), outside=outside)

    def cohort(self, cohort: Cohort, part: str) -> Cohort:
        """A cohort under the name of its part; whoever is not in this run is left out."""
        people = self.people[part]
        cases = [
            dataclasses.replace(
                case,
                participant_id=people[case.participant_id],
                session=None,  # one each, and its label may be a date
                attributes={name: value for name, value in case.attributes.items() if name in self.kept},
            )
            for case in cohort
            if case.participant_id in people
        ]
        cases.sort(key=lambda case: case.participant_id)
        return dataclasses.replace(cohort, name=part.replace("_", " "), cases=tuple(cases))

    def predictions(self, made: Predictions, part: str, name: str) -> Predictions:
        """Predictions that lie in a folder of the user's."""
        return dataclasses.replace(made, cohort=self.cohort(made.cohort, part), model=name)

    def table(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A score table without the columns that no run needs."""
        names = [name for name in frame if name in SCORES.columns or name in self.kept]
        pairs = zip(frame["cohort"], frame["participant_id"], strict=True)
        cohorts = {cohort: f"cohort {number}" for number, cohort in enumerate(self.people, start=1)}
        changed = {
            "participant_id": [self.people[cohort][name] for cohort, name in pairs],
            "cohort": frame["cohort"].map(cohorts),
        }
        return frame[names].assign(**changed, **({"session": "n/a"} if "session" in frame else {}))

    def finding(self, one: Finding, cohort: Cohort, part: str) -> Finding:
        """A finding about a cohort, such as what a check said of its files."""
        table = one.table
        if table is not None:
            table = table.map(lambda cell: self.text(cell, cohort, part) if isinstance(cell, str) else cell)
        return dataclasses.replace(
            one,
            claim=self.text(one.claim, cohort, part),
            caveats=tuple(self.text(caveat, cohort, part) for caveat in one.caveats),
            table=table,
        )

    def text(self, text: str, cohort: Cohort, part: str) -> str:
        """A text about a cohort, such as why somebody failed, without its folders and ids."""
        return self.without_folders(text, [cohort], self.people[part])

    @staticmethod
    def without_folders(text: str, cohorts: Iterable[Cohort], people: Mapping[str, str]) -> str:
        """A text in which ids are replaced, and their sessions and what leads to a cohort's folder are cut."""
        for root in {str(place) for one in cohorts for place in (one.root, one.root.resolve())}:
            text = text.replace(f"{root}/", "").replace(root, "the cohort")
        if not people:
            return text
        known = "|".join(sorted(map(re.escape, people), key=len, reverse=True))
        text = re.sub(rf"(?<![A-Za-z0-9])({known})(?![A-Za-z0-9])", lambda found: people[found[1]], text)
        return re.sub(r"[/_]ses-[A-Za-z0-9]+", "", text)


def unnamed(left_out: Mapping[str, str]) -> dict[str, str]:
    """Who was left out, by number alone, with the reason, in which no label of a session stands."""
    reasons = (re.sub(r"^no session .*", "not that session", why) for why in left_out.values())
    return {f"left out {number}": why for number, why in enumerate(reasons, start=1)}


def require_aliases(anonymous: bool, aliases: str | Path | None, out: Path) -> Path | None:
    """Where to write who is who; a `ConfigError` where that is inside the run, which is meant to be shared."""
    if aliases is None:
        return None
    path = Path(aliases)
    if not anonymous:
        raise ConfigError("`aliases` says who is who in a run made with `anonymous`; give both, or neither.")
    if path.resolve().is_relative_to(out.resolve()):
        raise ConfigError(f"`aliases` must lie outside of the run, which names nobody; got {path}. Give another place.")
    return path


def model_names(names: Sequence[str], sources: Sequence[str]) -> dict[str, str]:
    """What models are called: the first source ``model``, further ones by number, tuned ones by strategy or number."""
    source = sources[0]
    made = {source: MODEL, **{name: f"{MODEL} {number}" for number, name in enumerate(sources[1:], start=2)}}
    for number, name in enumerate((name for name in names if name not in sources), start=1):
        strategy = re.fullmatch(rf"{re.escape(source)}(\+[a-z0-9]+)", name)
        made[name] = f"{MODEL}{strategy[1]}" if strategy else f"fine-tuned {number}"
    return made


def _numbered(marks: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """One alias each, in the order of marks that say nothing of the ids."""
    order = sorted((mark, part, name) for part, people in marks.items() for name, mark in people.items())
    width = max(3, len(str(len(order))))
    made: dict[str, dict[str, str]] = {part: {} for part in marks}
    for number, (_, part, name) in enumerate(order, start=1):
        made[part][name] = f"sub-P{number:0{width}d}"
    return made


def _mark_of(case: Case) -> str:
    """What tells a participant's images from others, whatever the participant is called."""
    paths = sorted(case.images.values())
    return _digest(" ".join(file_digest(path) for path in paths if path.is_file()))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
