"""What differs between two runs: settings, input, components, and the scores of patients who are in both."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..catalogue import DECOMPOSITION, SCORES
from ..errors import DataError
from ..files import read_json
from ..results import Estimate, Finding, Result
from ..status import Status
from ..style import beside, intervals, legend, name_rows, new_axes
from ..tables import read_table
from ..work import Cost, Work
from .statistics.inference import Inference, p_value

_KEYS = ["modality", "bundle", "hemisphere", "metric", "method", "component"]
_CASE = ["participant_id", "bundle", "hemisphere", "metric"]
_ENDS = ("first", "second")


@dataclass(frozen=True, kw_only=True)
class Comparison(Result):
    """Two runs side by side.

    ``table`` holds the pooled components with their intervals in both runs, ``claim`` the paired difference in words.

    Parameters
    ----------
    names : tuple of str
        What the runs are called.
    verdicts : tuple of str
        Their answers.
    settings : DataFrame
        Settings, versions and digests of input that differ; columns ``setting first second``.
    difference : Estimate
        Mean difference in score, second less first, over patients who are in both; each patient's bundles are averaged
        first. A test by sign flips, an interval by bootstrap, both over patients.
    """

    names: tuple[str, str]
    verdicts: tuple[str, str]
    settings: pd.DataFrame
    difference: Estimate

    def told(self) -> "Comparison":
        """The result with its claim, estimate and findings."""
        result = replace(self, claim=self._claim(), estimates=(self.difference,))
        return replace(result, findings=result._findings())

    @property
    def verdict(self) -> str:
        """The paired difference in one sentence."""
        return self.claim

    @property
    def components(self) -> pd.DataFrame:
        """The table."""
        return self.table

    def _findings(self) -> tuple[Finding, ...]:
        return (
            Finding(
                key="decomposition",
                place="lead",
                title="Components in both runs",
                claim=f"{self.names[0]}: {self.verdicts[0]} {self.names[1]}: {self.verdicts[1]}",
                table=self.table,
                figure=self._draw,
                alt=f"Total, systematic and tumor part with intervals, {self.names[0]} as circles and {self.names[1]} "
                "as diamonds.",
            ),
            Finding(
                key="paired",
                title="The same patients in both runs",
                claim=self.claim,
                estimates=(self.difference,),
                method="Mean over bundles within each patient, second run less first; expanded percentile "
                "bootstrap and sign flips over patients.",
            ),
            Finding(
                key="settings",
                title="What else differs",
                claim=f"{len(self.settings)} settings, versions or inputs differ."
                if len(self.settings)
                else "Settings, versions and input are the same.",
                table=self.settings if len(self.settings) else None,
            ),
        )

    def _draw(self, ax: Any = None) -> Any:
        """Components of both runs with their intervals; returns the axes."""
        axes = new_axes(ax)
        rows = self.table[self.table["method"] == "anchored"]
        named = rows["model"] + ": " + rows["component"]
        labels = list(dict.fromkeys(named))
        for place, (end, marker) in enumerate(zip(_ENDS, "oD", strict=True)):
            y = named.map(labels.index) + beside(place, 2, 0.3)
            numbers = (rows[f"{name}_{end}"] for name in ("estimate", "low", "high"))
            intervals(axes, y, *numbers, lying=True, fmt=marker, label=self.names[place])
        name_rows(axes, labels)
        axes.set_xlabel("Drop in patients")
        legend(axes)
        return axes

    @property
    def title(self) -> str:
        """What a report on the comparison is called."""
        return f"{self.names[0]} and {self.names[1]} compared"

    def _claim(self) -> str:
        one = self.difference
        if not np.isfinite(one.value):
            return f"No paired difference: {one.n} patients are in both runs with the same bundles."
        tested = f" (p = {one.p_value:.3f})" if np.isfinite(one.p_value) else ""
        return (
            f"In the {one.n} patients who are in both runs, {self.names[1]} scores {one.value:+.3f} "
            f"[{one.low:+.3f}, {one.high:+.3f}] {one.unit} against {self.names[0]}{tested}."
        )

    def __str__(self) -> str:
        lines = [self.title, self.claim, *(f"{n}: {v}" for n, v in zip(self.names, self.verdicts, strict=True))]
        shown = " | ".join(f"{{estimate_{end}:.3f}} [{{low_{end}:.3f}}, {{high_{end}:.3f}}]" for end in _ENDS)
        told = "{method} {model} {component}: " + shown
        lines += [told.format(**row) for row in self.table.to_dict("records")]  # pyright: ignore[reportCallIssue]
        lines += [f"{row['setting']}: {row['first']} | {row['second']}" for row in self.settings.to_dict("records")]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from html import escape

        tables = [self.table, self.settings]
        return f"<h4>{escape(self.title)}</h4><p>{escape(self.claim)}</p>" + "".join(
            table.to_html(index=False, max_rows=20, na_rep="–") for table in tables
        )


def compare(first: Path, second: Path, *, inference: Inference = Inference(), work: Work = Work()) -> Comparison:
    """Compare two runs on disk; bootstrap and sign flips are those of the inference.

    Raises
    ------
    DataError
        If a folder is not a finished run.
    """
    runs = (Path(first), Path(second))
    records = [_record(run) for run in runs]
    tables = [read_table(run / "tables" / "decomposition.tsv", DECOMPOSITION) for run in runs]
    scores = [read_table(run / "tables" / "scores.tsv", SCORES) for run in runs]
    names = [run.resolve().name for run in runs]
    if names[0] == names[1]:
        names = [f"{run.resolve().parent.name}/{name}" for run, name in zip(runs, names, strict=True)]
    if names[0] == names[1]:  # both may be one folder
        names = [f"{name} ({end})" for name, end in zip(names, _ENDS, strict=True)]
    work.begin(f"Would compare {names[0]} with {names[1]}.", Cost(seconds=2, memory_gib=0.4))
    return Comparison(
        names=(names[0], names[1]),
        verdicts=(str(records[0].get("verdict", "")), str(records[1].get("verdict", ""))),
        settings=_settings(*records),
        table=_components(*tables),
        difference=_paired(scores[0], scores[1], inference),
    ).told()


def _record(run: Path) -> dict[str, Any]:
    try:
        if not (run / "run.json").is_file():
            raise DataError(
                f"A run to compare is a folder that shiftkit decompose finished; {run} has no run.json. Name another, "
                "or finish it with `resume`."
            )
        content = read_json(run / "run.json")
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{run / 'run.json'} must be JSON as shiftkit wrote it; it is not: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{run / 'run.json'} must be JSON as shiftkit wrote it; it holds something else.")
    return content


def _settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> pd.DataFrame:
    # Outcomes and clocks are no settings.
    skipped = ("verdict", "split", "estimates", "left_out", "started", "finished")
    one, other = (dict(_flat({k: v for k, v in record.items() if k not in skipped})) for record in (first, second))
    names = [name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name)]
    rows = [(name, one.get(name, "n/a"), other.get(name, "n/a")) for name in names]
    return pd.DataFrame(rows, columns=["setting", *_ENDS])


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False).strip('"')


def _components(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Pooled rows of both runs side by side; models are matched in their order, since names may differ."""
    kept = ["estimate", "low", "high", "n_patients", "n_controls", "status"]
    parts: list[pd.DataFrame] = []
    for table in (first, second):
        pooled = table[(table["bundle"] == "all") & table["component"].isin(["total", "systematic", "tumor"])]
        order = {model: place for place, model in enumerate(dict.fromkeys(pooled["model"]))}
        parts.append(pooled.assign(place=pooled["model"].map(order))[["place", "model", *_KEYS, *kept]])
    joined = parts[0].merge(parts[1], on=["place", *_KEYS], how="outer", suffixes=("_first", "_second"), sort=False)
    same = joined["model_first"].fillna(joined["model_second"])
    other = joined["model_second"].fillna(same)
    joined.insert(0, "model", same.where(same == other, same + " / " + other))
    return joined.drop(columns=["place", "model_first", "model_second", "bundle", "hemisphere"])


def _paired(first: pd.DataFrame, second: pd.DataFrame, inference: Inference) -> Estimate:
    """Mean difference of the source models' scores over patients in both runs."""
    joined = _source(first).merge(_source(second), on=_CASE, suffixes=("_first", "_second"))
    joined = joined.dropna(subset=["value_first", "value_second"])
    unit = str(joined["unit_first"].iloc[0]) if len(joined) else "1"
    if len(joined) and unit == "1":
        unit = str(joined["metric"].iloc[0]).capitalize()
    # Participants are drawn, never rows: a patient's bundles are averaged before.
    of_rows = joined["value_second"] - joined["value_first"]
    changes = of_rows.groupby(joined["participant_id"]).mean().to_numpy(dtype=float)
    n, name = len(changes), "paired difference"
    if n < 2:
        return Estimate(name=name, value=float("nan"), n=n, unit=unit, level=inference.level, status=Status.TOO_FEW)
    mean = float(changes.mean())
    one = inference.estimate(name, mean, inference.weights((n,)) @ changes / n, n, unit, fewest=2)
    # Were the runs alike, a change would be as likely the other way round.
    signs = inference.generator(1).choice([-1.0, 1.0], size=(inference.n_permutations, n))
    return replace(one, p_value=p_value(abs(mean), np.abs(signs @ changes / n)))


def _source(table: pd.DataFrame) -> pd.DataFrame:
    """Patients' scores of the first model, which is the source model, in the first metric."""
    rows = table[table["group"] == "glioma"]
    if not len(rows):
        return rows[[*_CASE, "value", "unit"]]
    first = rows.iloc[0]
    rows = rows[(rows["model"] == first["model"]) & (rows["metric"] == first["metric"])]
    return rows.drop_duplicates(_CASE)[[*_CASE, "value", "unit"]]
