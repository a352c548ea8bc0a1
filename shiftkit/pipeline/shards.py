"""One verb in several parts, on as many machines, and the parts put together: the same files as from one call."""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ..cohorts.folder import UNFINISHED, read_description, require_new
from ..errors import ConfigError, DataError
from ..files import held, read_json, write_json
from ..types import Bundle, Cohort
from ..words import named

if TYPE_CHECKING:
    from ..analyses.scoring.table import ScoreTable
    from ..tables import Table

Made = TypeVar("Made")

_WORD = re.compile(r"(\d{1,6}|merge)/(\d{1,6})")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One part of so many, the first is 1; or, of ``part`` None, all of them, to be put together.

    Examples
    --------
    >>> Shard.parse("2/8"), Shard.parse("merge/8")
    (Shard(part=2, total=8), Shard(part=None, total=8))
    >>> Shard.parse("2/8").place(Path("masks")).as_posix()
    'masks.shards/2-of-8'
    """

    part: int | None
    total: int

    @classmethod
    def parse(cls, word: str) -> Self:
        """Read ``2/8`` or ``merge/8``; a `ConfigError` for anything else."""
        found = _WORD.fullmatch(word)
        part = None if found is None or found[1] == "merge" else int(found[1])
        if found is None or int(found[2]) < 1 or (part is not None and not 1 <= part <= int(found[2])):
            raise ConfigError(f"`shard` is 1/8 to 8/8 for one part of eight, then merge/8; got {word!r}.")
        return cls(part=part, total=int(found[2]))

    @property
    def parts(self) -> "list[Shard]":
        """Every part, in order."""
        return [replace(self, part=number) for number in range(1, self.total + 1)]

    def place(self, out: Path) -> Path:
        """The folder of this part, beside what all are put together to."""
        return out.with_name(f"{out.name}.shards") / f"{self.part}-of-{self.total}"

    def of(self, cohort: Cohort) -> Cohort:
        """The cases of this part, neighbors in the cohort, so that parts in a row are in its order."""
        if self.total > len(cohort):
            raise ConfigError(
                f"Each part needs a case; {cohort.name} has {len(cohort)}, and `shard` asks for {self.total} parts."
            )
        assert self.part is not None
        low, high = (len(cohort) * number // self.total for number in (self.part - 1, self.part))
        kept = {name: getattr(cohort, name) for name in ("name", "root", "description")}
        return Part(**kept, cases=cohort.cases[low:high], whole=cohort.bundles)


@dataclass(frozen=True, kw_only=True)
class Part(Cohort):
    """Some cases of a cohort, with the bundles of all: tables have rows of every bundle for every case."""

    whole: tuple[Bundle, ...] = ()

    @cached_property
    def bundles(self) -> tuple[Bundle, ...]:
        """Every bundle that anybody in the whole cohort has."""
        return self.whole

    def only(self, bundles: Iterable[Bundle]) -> Self:
        """See `Cohort.only`."""
        kept = frozenset(bundles)
        return replace(super().only(kept), whole=tuple(one for one in self.whole if one in kept))


def place(out: Any, shard: str | None) -> Path:
    """Where a verb that was given these writes."""
    if shard is None or Shard.parse(shard).part is None:
        return Path(out)
    return Shard.parse(shard).place(Path(out))


def predict_in_parts(
    shard: Shard, cohort: Cohort, out: Path, resume: bool, call: Callable[[Cohort, Path, bool], Made]
) -> Made:
    """Predict one part, or put all together; ``call`` predicts a cohort into a folder, or goes on in it.

    Raises
    ------
    ConfigError
        If there are more parts than cases, or ``out`` holds something.
    DataError
        If a part is missing or unfinished.
    """
    if shard.part is not None:
        return call(shard.of(cohort), shard.place(out), resume)
    places = [one.place(out) for one in shard.parts]
    _require_parts({one: read_description(one).get("State", UNFINISHED if not one.is_dir() else "") for one in places})
    # A description names the model; whether there are probabilities it does not say.
    described = {one: [read_description(one), any(one.rglob("*_probseg.nii.gz"))] for one in places}
    _require_alike(described, described[places[0]])
    require_new(out, resume)
    with held(out, "predict"):
        out.mkdir(parents=True, exist_ok=True)
        moved = {out / one.name: one for place in places for one in place.glob("sub-*")}
        for there, participant in moved.items():
            participant.replace(there)
        shutil.copyfile(places[0] / "dataset_description.json", out / "dataset_description.json")
        try:
            # Everybody is there, so this writes the tables and nothing else; who failed is tried, and told, once more.
            made = call(cohort, out, True)
        except BaseException:
            for there, participant in moved.items():
                there.replace(participant)  # parts are whole again, whatever was refused
            shutil.rmtree(out)
            raise
        _remove(places)
    return made


def made_of(settings: Mapping[str, Any], predictions: Any, cohort: Cohort) -> dict[str, Any]:
    """What a table of scores is made of: parts of different tables are none of one."""
    named = {name: value for name, value in settings.items() if name not in ("jobs", "shard")}
    source = predictions if isinstance(predictions, str | Path) else type(predictions).__name__
    content = {**named, "predictions": str(source), "cohort": [case.key for case in cohort]}
    return json.loads(json.dumps(content, default=str))


def keep_made_of(place: Path, content: Mapping[str, Any]) -> None:
    """Leave beside a part what it was made of."""
    write_json(place / _MADE_OF, content)


_MADE_OF = "made_of.json"


def merge_scores(shard: Shard, out: Path, sections: Path | None, content: Mapping[str, Any]) -> "ScoreTable":
    """One table of those of all parts, with the rows and bytes of a single call, at ``out``.

    Raises
    ------
    DataError
        If a part is missing, or was made of something else than ``content``; see `made_of`.
    """
    import pandas as pd

    from ..analyses.scoring.table import ScoreTable
    from ..catalogue import SCORES, SECTIONS
    from ..runs import write_failures
    from ..tables import read_cells, read_table, write_table

    places = [one.place(out) for one in shard.parts]
    _require_parts({one: "" if (one / _MADE_OF).is_file() else UNFINISHED for one in places})
    _require_alike({one: read_json(one / _MADE_OF) for one in places}, content)
    wanted: list[tuple[Path, Table]] = [(out, SCORES)]
    wanted += [] if sections is None else [(sections, SECTIONS)]
    for path, table in wanted:
        parts = [read_table(one / path.name, table) for one in places]
        write_table(pd.concat(parts, ignore_index=True), table, path)
    failed: dict[str, str] = {}
    for log in (one / "logs" / "failed.tsv" for one in places):
        if log.is_file():
            failed |= dict(read_cells(log)[["participant_id", "reason"]].itertuples(index=False, name=None))
    if failed:
        write_failures(out.parent, failed)
    _remove(places)
    return replace(ScoreTable.load(out), failed=failed)


def _require_parts(states: dict[Path, str]) -> None:
    if absent := [one.name for one, state in states.items() if state == UNFINISHED]:
        raise DataError(
            f"All parts must be there before they are put together; {named(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} missing or unfinished in {next(iter(states)).parent}. Run "
            f"`shard` {absent[0].replace('-of-', '/')} again."
        )


def _require_alike(parts: Mapping[Path, Any], wanted: Any) -> None:
    """Refuse, with a `DataError`, parts that were made otherwise than the call that puts them together says."""
    if other := [one for one, content in parts.items() if content != wanted]:
        there, here = (part if isinstance(part, dict) else {"": part} for part in (parts[other[0]], wanted))
        names = [name for name in sorted({*there, *here}) if name and there.get(name) != here.get(name)]
        told = f" ({', '.join(names)})" if names else ""
        raise DataError(
            f"Parts that are put together are made alike; {named(one.name for one in other)} in {other[0].parent} "
            f"{'was' if len(other) == 1 else 'were'} made otherwise{told}. Run "
            f"{'it' if len(other) == 1 else 'them'} again with the same settings, and merge with these."
        )


def _remove(places: Sequence[Path]) -> None:
    """Parts that were put together; other divisions of the work stay."""
    for one in places:
        shutil.rmtree(one)
    whole = places[0].parent
    if not any(whole.iterdir()):
        whole.rmdir()
