"""Scores by condition, and paired differences between conditions with participants as the unit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from ...catalogue import CONDITIONS
from ...results import Estimate
from ...status import Status
from ..statistics.inference import Inference, holm, p_value

Array = NDArray[np.float64]
NONE, SCRATCH = "none", "scratch"
PATIENTS, CONTROLS = "glioma", "control"
_LEVEL = ["bundle", "hemisphere"]
_ALL = ("all", "all")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One input and one kind of training, with the scores of everything that was made of it.

    Parameters
    ----------
    modality, training : str
        Input of the networks; ``plain``, or what else the source network was trained on.
    source : str
        Name of the source model in the scores; ``<source>+<strategy>`` are the fine-tuned ones.
    scores : DataFrame
        Of patients, out of fold where fine-tuned, and of controls that no network has seen; in the columns of
        `shiftkit.catalogue.SCORES`.
    metric : str
        What is compared.
    """

    modality: str
    training: str
    source: str
    scores: pd.DataFrame
    metric: str = "dice"

    @property
    def name(self) -> str:
        """As sentences call it."""
        return self.modality if self.training == "plain" else f"{self.modality}, trained with {self.training} too"

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Rows of the metric that have a value, with the ``strategy`` of their model."""
        rows = self.scores[(self.scores["metric"] == self.metric) & self.scores["value"].notna()]
        strategy = rows["model"].str.removeprefix(f"{self.source}+").where(rows["model"] != self.source, NONE)
        return rows.assign(strategy=strategy)

    @cached_property
    def strategies(self) -> tuple[str, ...]:
        """Those that were tried, in their order, without the source model as it is."""
        return tuple(name for name in dict.fromkeys(self.rows["strategy"]) if name != NONE)

    @cached_property
    def bundles(self) -> tuple[str, ...]:
        """Names of bundles, without sides."""
        return tuple(sorted(set(self.rows["bundle"])))

    def of(self, group: str, strategy: str) -> pd.Series:
        """Values of a condition, by participant, bundle and hemisphere."""
        rows = self.rows[(self.rows["group"] == group) & (self.rows["strategy"] == strategy)]
        return rows.set_index(["participant_id", *_LEVEL])["value"]

    @property
    def shared(self) -> tuple[tuple[str, str], ...]:
        """Bundles and hemispheres that the source model was scored on in both groups; all of them without one."""
        of_both = [set(self.of(group, NONE).index.droplevel(["participant_id"])) for group in (CONTROLS, PATIENTS)]
        return tuple(level for level in self.levels[1:] if level in of_both[0] & of_both[1]) or self.levels[1:]

    @property
    def levels(self) -> tuple[tuple[str, str], ...]:
        """All bundles together, then each bundle and hemisphere."""
        there = self.rows[_LEVEL].drop_duplicates().sort_values(_LEVEL)
        return (_ALL, *((str(bundle), str(side)) for bundle, side in there.itertuples(index=False)))


def conditions(arm: Arm, inference: Inference) -> pd.DataFrame:
    """Mean score of every condition: each group with each strategy; in the columns of `shiftkit.catalogue.CONDITIONS`.

    A pooled mean is that of the bundles' means, so that it does not depend on who lacks which; of bundles and
    hemispheres that both groups have. Intervals are over participants.
    """
    rows: list[dict[str, Any]] = []
    for group in (CONTROLS, PATIENTS):
        for strategy in (NONE, *arm.strategies):
            values = arm.of(group, strategy)
            for level in arm.levels:
                wide = _by_level(values, arm.shared if level == _ALL else [level])
                if n := len(wide):
                    mean, *drawn = _mean_of_means(wide, np.vstack([np.ones(n), inference.weights((n,))]))
                    one = inference.estimate("mean", float(mean), np.array(drawn), n)
                    rows.append({"group": group, "strategy": strategy, **_told(arm, level, one)})
    return pd.DataFrame(rows, columns=list(CONDITIONS.columns))


def _by_level(values: pd.Series, levels: Sequence[tuple[str, str]]) -> Array:
    """Values of shape (people who have any, levels that anybody has); NaN where somebody lacks one."""
    wide = values.unstack(_LEVEL)
    wide = wide[[level for level in levels if level in wide.columns]].dropna(how="all")
    return wide.dropna(axis="columns", how="all").to_numpy(dtype=np.float64)


def _mean_of_means(wide: Array, weights: Array) -> Array:
    """The mean over levels of their means over people, who count with these weights, shape (draws, people)."""
    there = np.isfinite(wide)
    with np.errstate(invalid="ignore"):  # a draw without anybody who has a level, which does not count
        of_levels = (weights @ np.where(there, wide, 0.0)) / (weights @ there.astype(np.float64))
    return np.nanmean(of_levels, axis=1)


def contrasts(arm: Arm, inference: Inference) -> pd.DataFrame:
    """Differences between conditions with tests; in the columns of `shiftkit.catalogue.CONTRASTS`.

    Patients against controls by the source model, of each bundle and hemisphere less its mean in controls, so that a
    bundle that many lack is no difference; in patients each strategy against the source model, and against
    training from scratch on the same patients; in controls each strategy against the source model, which is what it
    forgot. Of the rows of bundles ``p_adjusted`` is Holm's over all of the arm; of pooled ones see `adjusted`.
    """
    rows: list[dict[str, Any]] = []
    for level in arm.levels:
        for name, group, strategy, one, effect in _differences(arm, level, inference):
            told = {"contrast": name, "group": group, "strategy": strategy, "effect_size": effect}
            rows.append({**told, **_told(arm, level, one), "p_value": one.p_value})
    table = pd.DataFrame(rows)
    of_bundle = table["bundle"] != "all"
    table["p_adjusted"] = np.nan
    table.loc[of_bundle, "p_adjusted"] = holm(table.loc[of_bundle, "p_value"].to_numpy(dtype=float))
    return table


def adjusted(table: pd.DataFrame) -> pd.DataFrame:
    """Contrasts of all arms, the pooled ones adjusted after Holm over each other."""
    pooled = table["bundle"] == "all"
    table = table.copy()
    table.loc[pooled, "p_adjusted"] = holm(table.loc[pooled, "p_value"].to_numpy(dtype=float))
    return table


def _differences(
    arm: Arm, level: tuple[str, str], inference: Inference
) -> Iterator[tuple[str, str, str, Estimate, float]]:
    before = {group: arm.of(group, NONE) for group in (CONTROLS, PATIENTS)}
    usual = before[CONTROLS].groupby(level=_LEVEL).mean()
    centered = (_less(before[group], usual) for group in (PATIENTS, CONTROLS))
    one, effect = unpaired(*(_of_people(values, level) for values in centered), inference)
    yield "patients - controls", PATIENTS, NONE, one, effect
    for strategy in arm.strategies:
        for group in (PATIENTS, CONTROLS):
            after = arm.of(group, strategy)
            if len(after):
                yield "strategy - none", group, strategy, *paired(after, before[group], level, inference)
        if strategy != SCRATCH and SCRATCH in arm.strategies:
            both = (arm.of(PATIENTS, one) for one in (strategy, SCRATCH))
            yield "strategy - scratch", PATIENTS, strategy, *paired(*both, level, inference)


def _told(arm: Arm, level: tuple[str, str], one: Estimate) -> dict[str, Any]:
    return {
        "modality": arm.modality,
        "training": arm.training,
        "bundle": level[0],
        "hemisphere": level[1],
        "metric": arm.metric,
        "value": one.value,
        "low": one.low,
        "high": one.high,
        "n_participants": one.n,
        "status": str(one.status),
    }


def _less(values: pd.Series, usual: pd.Series) -> pd.Series:
    """Values less what is usual for their bundle and hemisphere; without those of which nothing is known."""
    own = usual.reindex(values.index.droplevel(["participant_id"])).to_numpy(dtype=np.float64)
    return (values - own).dropna()


def _of_people(values: pd.Series, level: tuple[str, str]) -> Array:
    """A participant's mean over the bundles of a level, of everybody who has any."""
    if level != _ALL:
        values = values[(values.index.get_level_values(1) == level[0]) & (values.index.get_level_values(2) == level[1])]
    return values.groupby(level=0).mean().to_numpy(dtype=np.float64)


def paired(
    first: pd.Series, second: pd.Series, level: tuple[str, str] = _ALL, inference: Inference = Inference()
) -> tuple[Estimate, float]:
    """Mean difference of two conditions of the same people, and Hedges' g of it.

    Values by participant, bundle and hemisphere; what either lacks is left out of both. The test flips the signs of
    participants' differences. Of g the spread is that of the differences.

    References
    ----------
    Lakens D. Frontiers in Psychology 4:863 (2013), doi 10.3389/fpsyg.2013.00863.
    """
    change = _of_people((first - second).dropna(), level)
    n = change.size
    if n < 2:
        return _too_few(n, inference), float("nan")
    mean = float(change.mean())
    one = inference.estimate("difference", mean, inference.weights((n,)) @ change / n, n)
    signs = inference.generator(1).choice([-1.0, 1.0], size=(inference.n_permutations, n))
    spread = float(change.std(ddof=1))
    effect = _small_sample(n - 1) * mean / spread if spread > 0 else float("nan")
    return replace(one, p_value=p_value(abs(mean), np.abs(signs @ change / n))), effect


def unpaired(first: Array, second: Array, inference: Inference = Inference()) -> tuple[Estimate, float]:
    """Mean difference of two groups of people, first less second, and Hedges' g of it.

    The test permutes who is of which group and compares Welch's t, which holds its level also where the groups differ
    in spread.

    References
    ----------
    Janssen A. Statistics & Probability Letters 36:9 (1997), doi 10.1016/S0167-7152(97)00043-6.
    """
    sizes = first.size, second.size
    n, fewest = sum(sizes), min(sizes)
    if fewest < 2:
        return _too_few(fewest, inference), float("nan")
    everybody = np.concatenate([first, second])
    mean = float(first.mean() - second.mean())
    drawn = inference.weights(sizes)
    draws = drawn[:, : sizes[0]] @ first / sizes[0] - drawn[:, sizes[0] :] @ second / sizes[1]
    one = replace(inference.estimate("difference", mean, draws, fewest), n=n)
    rng = inference.generator(2)
    order = np.stack([np.arange(n), *(rng.permutation(n) for _ in range(inference.n_permutations))])
    parts = everybody[order[:, : sizes[0]]], everybody[order[:, sizes[0] :]]
    errors = sum(part.var(axis=1, ddof=1) / part.shape[1] for part in parts)
    t = (parts[0].mean(axis=1) - parts[1].mean(axis=1)) / np.sqrt(np.maximum(errors, 1e-300))
    both = float(np.sqrt(((sizes[0] - 1) * first.var(ddof=1) + (sizes[1] - 1) * second.var(ddof=1)) / (n - 2)))
    effect = _small_sample(n - 2) * mean / both if both > 0 else float("nan")
    return replace(one, p_value=p_value(abs(float(t[0])), np.abs(t[1:]))), effect


def _too_few(n: int, inference: Inference) -> Estimate:
    return Estimate(name="difference", value=float("nan"), n=n, level=inference.level, status=Status.TOO_FEW)


def _small_sample(df: int) -> float:
    """What makes of Cohen's d Hedges' g, which has no bias in small samples."""
    if df < 2:
        return float("nan")
    return float(np.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) / np.sqrt(df / 2))
