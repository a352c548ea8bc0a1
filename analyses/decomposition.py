"""How much of the drop in patients is systematic, how much is the tumor's, and what fine-tuning repairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import ConfigError, DataError
from ..status import Status
from ..tables import DECOMPOSITION
from ..types import Estimate, Finding
from .hemispheric import COMPONENTS as HEMISPHERIC
from .hemispheric import hemispheric
from .permutation import systematic_test, tumor_test
from .recovery import recovery
from .regression import COMPONENTS, Regression, regress
from .resampling import draw_weights, holm, interval
from .rows import Rows, as_frame, build_rows, covariate_columns

Array = NDArray[np.float64]
LAMBDA_GRID_MM: tuple[float, ...] = tuple(np.geomspace(2.0, 40.0, 25).tolist())
EXPLORATORY_BELOW = 20
FAR_FIELD_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Decomposition:
    """The drop in performance of patients, split.

    Parameters
    ----------
    table : DataFrame
        In the columns of ``shiftkit.tables.DECOMPOSITION``.
    recovery : DataFrame
        What each fine-tuned model repairs; ``shiftkit.tables.RECOVERY``.
    sensitivity : DataFrame
        The split under other choices; ``shiftkit.tables.SENSITIVITY``.
    curve : DataFrame
        Drop against distance with pointwise and simultaneous band, one block a model.
    estimates : tuple of Estimate
        The pooled components of the source model, and the decay length.
    verdict : str
        The answer in words.
    status : str
        Of the source model's split.
    notes : tuple of str
        What to know before quoting it.
    scores : DataFrame
        The rows it was computed from, for the figures.
    """

    table: pd.DataFrame
    recovery: pd.DataFrame
    sensitivity: pd.DataFrame
    curve: pd.DataFrame
    estimates: tuple[Estimate, ...]
    verdict: str
    status: str
    notes: tuple[str, ...]
    metric: str
    scores: pd.DataFrame = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """The table of all components, tidy."""
        return self.table

    def findings(self) -> tuple[Finding, ...]:
        """The answers as a report shows them."""
        from .decomposition_findings import findings

        return findings(self)

    def plot(self, ax: Any = None) -> Any:
        """Draw the components as bars with intervals; returns the axes."""
        return self.findings()[0].plot(ax)

    def __str__(self) -> str:
        return "\n".join([self.verdict, *map(str, self.estimates), *self.notes])

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(self.verdict)}</p>" + self.table.to_html(index=False, max_rows=12)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a decomposition is computed; see `decompose`."""

    metric: str
    covariates: tuple[str, ...]
    n_bootstrap: int
    n_permutations: int
    grid_mm: Array
    margin: float
    level: float
    seed: int

    def generator(self, purpose: int) -> np.random.Generator:
        """An independent generator for each purpose, so that one analysis does not shift another's draws."""
        return np.random.default_rng([self.seed, purpose])


def decompose(
    scores: Any,
    *,
    reference: Any = None,
    finetuned: Mapping[str, Any] | None = None,
    metric: str = "dice",
    covariates: Sequence[str] = (),
    n_bootstrap: int = 2000,
    n_permutations: int = 2000,
    lambda_grid_mm: Sequence[float] = LAMBDA_GRID_MM,
    equivalence_margin: float = 0.02,
    level: float = 0.95,
    sensitivity: bool = True,
    seed: int = 0,
) -> Decomposition:
    """Split the drop in performance of patients into a systematic and a tumor part.

    Parameters
    ----------
    scores : ScoreTable or DataFrame
        Scores of patients (group ``glioma``) by one model, in the columns of ``shiftkit.tables.SCORES``; controls too,
        unless ``reference`` holds them.
    reference : ScoreTable or DataFrame, optional
        Scores of controls.
    finetuned : mapping of str to ScoreTable or DataFrame, optional
        Out-of-fold scores of the same patients by fine-tuned models, and of the same controls for forgetting.
    metric : str
        Primary metric.
    covariates : sequence of str
        Columns to adjust for, within cohort.
    n_bootstrap, n_permutations : int
        Resampled cohorts and permutations.
    lambda_grid_mm : sequence of float
        Candidates for the decay length.
    equivalence_margin : float
        A systematic part smaller than this counts as none.
    level : float
        Coverage of the intervals.
    sensitivity : bool
        Also compute the split under other choices.
    seed : int
        Of resampling and permutation.

    Returns
    -------
    Decomposition

    Raises
    ------
    DataError
        If patients, controls, the metric or the distances are missing, or values are not usable.
    ConfigError
        If a covariate cannot be adjusted for, or an option is out of range.

    Notes
    -----
    The systematic part mixes scanner, protocol, pre-processing, label style, age and diffuse disease.

    The tumor's effect is not modulated by its volume here. The far-field share below which a split is withheld and the
    expansion of the intervals are defaults; their operating characteristics (coverage of the components, type I error,
    power) have not been measured yet.
    """
    settings = Settings(
        metric=metric,
        covariates=tuple(covariates),
        n_bootstrap=n_bootstrap,
        n_permutations=n_permutations,
        grid_mm=np.sort(np.asarray(lambda_grid_mm, dtype=float)),
        margin=equivalence_margin,
        level=level,
        seed=seed,
    )
    _require_settings(settings)
    frame = _one_model(pd.concat([as_frame(one) for one in (scores, reference) if one is not None], ignore_index=True))
    rows = build_rows(_unseen(frame), metric)
    weights = draw_weights(rows.n_patients, rows.n_controls, n_bootstrap, settings.generator(0))
    before = split(rows, weights, settings)
    from .sensitivity import sensitivity as other_choices
    from .verdict import curve_of, notes_of, verdict_of

    tuned = {name: as_frame(table) for name, table in (finetuned or {}).items()}
    repaired, after = recovery(rows, weights, before, tuned, settings)
    tables = [before.table, *(part.table for part in after.values())]
    curves = [curve_of(before, settings), *(curve_of(part, settings) for part in after.values())]
    return Decomposition(
        table=pd.concat(tables, ignore_index=True)[list(DECOMPOSITION.columns)],
        recovery=repaired,
        sensitivity=other_choices(rows, weights, before, settings, full=sensitivity),
        curve=pd.concat(curves, ignore_index=True),
        estimates=before.estimates,
        verdict=verdict_of(before, repaired, settings),
        status=before.status,
        notes=notes_of(before, settings),
        metric=metric,
        scores=pd.concat([rows.frame, *(part.rows.frame[part.rows.patient] for part in after.values())]),
    )


@dataclass(frozen=True, kw_only=True)
class Split:
    """The split of one model: table, pooled regression, status."""

    table: pd.DataFrame
    estimates: tuple[Estimate, ...]
    regression: Regression
    rows: Rows
    status: str
    p_tumor: float

    def estimate(self, component: str) -> Estimate:
        """The pooled estimate of one component."""
        return next(one for one in self.estimates if one.name == component)


def split(rows: Rows, weights: Array, settings: Settings) -> Split:
    """All three components of one model: pooled, per bundle, and by hemispheres."""
    columns, _ = covariate_columns(rows, settings.covariates)
    _require_spread(rows)
    pooled = regress(rows, columns, weights, settings.grid_mm)
    p_tumor = tumor_test(rows, columns, settings.grid_mm, settings.n_permutations, settings.generator(1))
    decay = pooled.decay_mm if np.isfinite(pooled.decay_mm) else float(settings.grid_mm[0])
    p_systematic = systematic_test(rows, columns, decay, settings.n_permutations, settings.generator(2))
    low, high = interval(pooled.decay_draws_mm, settings.level, 10_000)
    status = _status(rows, pooled, p_tumor, high, settings)
    p_values = {"systematic": p_systematic, "tumor": p_tumor}
    table = _records(
        rows, "all", "all", "regression", COMPONENTS, pooled.values, pooled.draws, p_values, status, settings
    )
    table += _by_bundle(rows, columns, weights, pooled, status, settings)
    values, draws, n = hemispheric(rows, weights)
    table += _records(rows, "all", "all", "hemispheric", HEMISPHERIC, values, draws, {}, _few(n), settings, n)
    frame = pd.DataFrame(table)
    return Split(
        table=frame,
        estimates=_estimates(frame, status, (pooled.decay_mm, low, high), rows, settings),
        regression=pooled,
        rows=rows,
        status=status,
        p_tumor=p_tumor,
    )


def _status(rows: Rows, pooled: Regression, p_tumor: float, decay_high: float, settings: Settings) -> str:
    """Whether the split stands; the order is that of the questions: is there an effect, is its far field seen."""
    failed = np.mean(~np.isfinite(pooled.draws[:, 0])) if len(pooled.draws) else 0.0
    if not pooled.converged or not np.isfinite(p_tumor) or failed > 0.1:
        return Status.NOT_CONVERGED
    if rows.n_patients < 3 or rows.n_controls < 3:
        return Status.TOO_FEW
    if p_tumor > 1 - settings.level:
        return Status.NO_TUMOR_EFFECT_SHOWN
    far = np.mean(rows.distance_mm[rows.patient] > 2 * pooled.decay_mm)
    if decay_high >= settings.grid_mm[-1] * 0.999 or far < FAR_FIELD_SHARE:
        return Status.SPLIT_WITHHELD
    return _few(rows.n_patients)


def _few(n_patients: int) -> str:
    if n_patients < 3:
        return Status.TOO_FEW
    return Status.EXPLORATORY if n_patients < EXPLORATORY_BELOW else Status.OK


def _by_bundle(
    rows: Rows, columns: Array, weights: Array, pooled: Regression, status: str, settings: Settings
) -> list[dict[str, Any]]:
    """Fits of their own for each bundle and hemisphere, with the pooled model's λ in every draw."""
    if status in (Status.NOT_CONVERGED, Status.TOO_FEW):
        return []
    records: list[dict[str, Any]] = []
    # Effects of single bundles are noisier than the pooled one; borrowing its λ keeps them estimable.
    for number, (bundle, hemisphere) in enumerate(rows.levels):
        part, own_columns = rows.only(number), columns[rows.level == number]
        if len(set(part.person[part.patient])) < 3 or len(set(part.person[~part.patient])) < 3:
            continue
        fitted = regress(part, own_columns, weights, settings.grid_mm, pooled.chosen)
        grid = np.array([pooled.decay_mm])
        p_tumor = tumor_test(part, own_columns, grid, settings.n_permutations, settings.generator(100 + number))
        p_far = systematic_test(
            part, own_columns, pooled.decay_mm, settings.n_permutations, settings.generator(200 + number)
        )
        n = len(set(part.person[part.patient]))
        own = Status.NOT_CONVERGED if not fitted.converged else status if status in _WITHHOLDING else _few(n)
        tested = {"tumor": p_tumor, "systematic": p_far}
        records += _records(
            part, bundle, hemisphere, "regression", COMPONENTS, fitted.values, fitted.draws, tested, own, settings, n
        )
    _adjust(records)
    return records


_WITHHOLDING = (Status.SPLIT_WITHHELD, Status.NO_TUMOR_EFFECT_SHOWN)


def _adjust(records: list[dict[str, Any]]) -> None:
    """Holm over bundles and hemispheres, for each component's test."""
    for component in ("tumor", "systematic"):
        chosen = [record for record in records if record["component"] == component]
        for record, adjusted in zip(chosen, holm(np.array([r["p_value"] for r in chosen])), strict=True):
            record["p_adjusted"] = adjusted


def _records(
    rows: Rows,
    bundle: str,
    hemisphere: str,
    method: str,
    names: Sequence[str],
    values: Array,
    draws: Array,
    p_values: Mapping[str, float],
    status: str,
    settings: Settings,
    n_patients: int | None = None,
) -> list[dict[str, Any]]:
    first = rows.frame.iloc[0]
    records: list[dict[str, Any]] = []
    for column, name in enumerate(names):
        low, high = interval(draws[:, column], settings.level, min(rows.n_patients, rows.n_controls))
        given = status not in (Status.NOT_CONVERGED, Status.TOO_FEW) and not (
            status == Status.SPLIT_WITHHELD and name in ("systematic", "tumor", "interaction")
        )
        records.append(
            {
                "model": first["model"],
                "modality": first["modality"],
                "bundle": bundle,
                "hemisphere": hemisphere,
                "metric": settings.metric,
                "method": method,
                "component": name,
                "estimate": values[column] if given else np.nan,
                "low": low if given else np.nan,
                "high": high if given else np.nan,
                "p_value": p_values.get(name, np.nan) if given else np.nan,
                "p_adjusted": np.nan,
                "n_patients": rows.n_patients if n_patients is None else n_patients,
                "n_controls": rows.n_controls,
                "status": str(status),
            }
        )
    return records


def _estimates(
    frame: pd.DataFrame, status: str, decay: tuple[float, float, float], rows: Rows, settings: Settings
) -> tuple[Estimate, ...]:
    pooled = frame[(frame["bundle"] == "all") & (frame["method"] == "regression")]
    made = [
        Estimate(
            name=row["component"],
            value=row["estimate"],
            low=row["low"],
            high=row["high"],
            level=settings.level,
            unit=unit_of(settings.metric),
            n=rows.n_patients,
            p_value=row["p_value"],
            status=row["status"],
        )
        for row in pooled.to_dict("records")
    ]
    shown = status in (Status.OK, Status.EXPLORATORY)
    value, low, high = decay if shown else (float("nan"),) * 3
    made.append(
        Estimate(
            name="decay_length",
            value=value,
            low=low,
            high=high,
            level=settings.level,
            unit="mm",
            n=rows.n_patients,
            status=str(status),
        )
    )
    return tuple(made)


def unit_of(metric: str) -> str:
    """Unit in which components are given."""
    names = {"dice": "Dice", "nsd": "NSD", "hd95": "log mm", "assd": "log mm"}
    return names.get(metric, metric)


def _one_model(frame: pd.DataFrame) -> pd.DataFrame:
    pairs = frame[["model", "modality"]].drop_duplicates()
    if len(pairs) > 1:
        listed = ", ".join(f"{model} ({modality})" for model, modality in pairs.itertuples(index=False))
        raise DataError(
            f"A decomposition takes the scores of one model; the table holds {listed}. Keep one, and give fine-tuned "
            "models apart."
        )
    keys = ["participant_id", "bundle", "hemisphere", "metric"]
    twice = frame[frame.duplicated(keys)]
    if len(twice):
        first = twice.iloc[0]
        raise DataError(
            f"Each participant, bundle, hemisphere and metric stands once in a score table; {first['participant_id']} "
            f"{first['bundle']} {first['hemisphere']} {first['metric']} stands twice, with {len(twice) - 1} more."
        )
    return frame


def _unseen(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out controls that the table itself marks as seen by the model."""
    if "seen" not in frame:
        return frame
    return frame[~((frame["group"] == "control") & (frame["seen"] == "yes"))]


def _require_settings(settings: Settings) -> None:
    if settings.n_bootstrap < 100 or settings.n_permutations < 99:
        raise ConfigError("A decomposition needs at least 100 bootstrap draws and 99 permutations.")
    if not 0.5 < settings.level < 1 or not settings.margin > 0:
        raise ConfigError("The level lies between 0.5 and 1, and the equivalence margin above 0.")
    if settings.grid_mm.size < 2 or not (settings.grid_mm > 0).all():
        raise ConfigError("The grid of decay lengths needs at least two positive values.")


def _require_spread(rows: Rows) -> None:
    if np.ptp(rows.outcome) < 1e-12:
        raise DataError("Scores must vary; every value of the metric is the same, so there is nothing to split.")
    near = rows.distance_mm[rows.patient]
    if np.ptp(near) < 1e-9:
        raise DataError(
            f"Distances to the tumor must vary; all are {near[0]:g} mm, so that the tumor's part cannot be told from "
            "the systematic one. Check the tumor masks."
        )
