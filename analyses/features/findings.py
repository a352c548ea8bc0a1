"""What the comparison of features found: a table, words and pictures."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...embeddings import Embeddings
from ...results import Estimate, Finding
from ...status import Status

_CONTRASTS = ("total", "systematic", "tumor")
_COLORS = ("#0072B2", "#D55E00", "#009E73")
_GIVEN = (Status.OK, Status.EXPLORATORY)
_METHOD = (
    "Features of each layer are averaged inside the reference bundle, one vector a participant and region. Total: "
    "controls against patients; systematic: controls against the patients' hemisphere without the tumor, within "
    "hemispheres; tumor: the patients' two hemispheres, each less the controls' mean of it, with the tumor's side "
    "permuted over patients. Unbiased MMD² with a Gaussian kernel of the median distance's width, energy distance, "
    "sliced Wasserstein distance, Fréchet distance of shrunk covariances on principal components, and AUC and proxy "
    "A-distance of a linear classifier with folds grouped by participant. Tests by permutation of participants, "
    "adjusted over layers and bundles by max-T; jackknife intervals over participants."
)
_REFERENCES = ("10.1016/j.jspi.2013.03.018", "10.1007/s10851-014-0506-3", "10.1007/s10994-009-5152-4")


@dataclass(frozen=True, kw_only=True)
class FeatureShift:
    """Shift of features by layer, bundle, hemisphere and contrast.

    Parameters
    ----------
    table : DataFrame
        Columns of `shiftkit.catalogue.FEATURES`.
    directions : DataFrame
        Columns of `shiftkit.catalogue.DIRECTIONS`: the channels that carry each contrast.
    embeddings : Embeddings
        What was compared.
    level : float
        Coverage of the intervals.
    n_permutations : int
        Behind every p-value.
    notes : tuple of str
        Who was left out of what.
    """

    table: pd.DataFrame
    directions: pd.DataFrame
    embeddings: Embeddings
    level: float
    n_permutations: int
    notes: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """One row a layer, bundle, hemisphere, region, contrast and statistic."""
        return self.table.copy()

    def pooled(self, contrast: str, statistic: str = "mmd2") -> pd.DataFrame:
        """All bundles together, one row a layer, from the input to the output."""
        rows = self.table
        keep = (rows["bundle"] == "all") & (rows["region"] == "reference") & (rows["contrast"] == contrast)
        return rows[keep & (rows["statistic"] == statistic)].reset_index(drop=True)

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """MMD² of each contrast in the layer where it stands out most against chance, over all bundles."""
        made: list[Estimate] = []
        for contrast in _CONTRASTS:
            rows = self.pooled(contrast)
            if not len(rows):
                continue
            row = rows.sort_values(["p_adjusted", "p_value", "value"], ascending=[True, True, False]).iloc[0]
            made.append(
                Estimate(
                    name=f"{contrast} ({row['layer']})",
                    value=row["value"],
                    low=row["low"],
                    high=row["high"],
                    level=self.level,
                    unit="MMD²",
                    n=int(row["n_target"]),
                    p_value=row["p_value"],
                    p_adjusted=row["p_adjusted"],
                    status=str(row["status"]),
                )
            )
        return tuple(made)

    @property
    def verdict(self) -> str:
        """Which contrasts show a shift at 0.05, and where."""
        return " ".join(self._sentence(contrast) for contrast in _CONTRASTS)

    def _sentence(self, contrast: str) -> str:
        name = {"total": "Total", "systematic": "Systematic", "tumor": "Tumor-related"}[contrast]
        rows = self.pooled(contrast)
        given = rows[rows["status"].isin(_GIVEN)]
        if not len(given):
            why = Status(rows["status"].iloc[0]).sentence if len(rows) else Status.UNAVAILABLE.sentence
            return f"{name} feature shift: not given. {why}"
        shown = given[given["p_adjusted"] <= 0.05]
        few = " (exploratory: fewer than 20 patients)" if (given["status"] == Status.EXPLORATORY).all() else ""
        smallest = given["p_adjusted"].min()
        if not len(shown):
            return f"{name} feature shift: not shown in any of {len(given)} layers (p ≥ {smallest:.2g}){few}."
        top = shown.sort_values("value", ascending=False).iloc[0]
        return (
            f"{name} feature shift: shown in {len(shown)} of {len(given)} layers, largest in {top['layer']} (MMD² "
            f"{top['value']:.3f} [{top['low']:.3f}, {top['high']:.3f}], p = {top['p_adjusted']:.2g}){few}."
        )

    def findings(self) -> tuple[Finding, ...]:
        """What the features say, ready for a report: the shift by layer, and where each bundle stands."""
        from .pictures import pictures

        return (
            Finding(
                key="features",
                title="Where in the network do controls and patients part?",
                claim=self.verdict,
                estimates=self.estimates,
                table=self.table,
                caveats=(
                    "A distance between features says that the network sees a difference, not that it errs for it.",
                    "Sliced Wasserstein and Fréchet distances are positive without a shift too: see by_chance.",
                    *self.notes,
                ),
                method=f"{_METHOD} {self.n_permutations} permutations, {self.level:.0%} intervals.",
                references=_REFERENCES,
                figure=self.plot,
                alt="MMD² of the total, systematic and tumor contrast by layer, with intervals.",
            ),
            *self._by_bundle(),
            *self._shells(),
            *finding(self.directions),
            *pictures(self.embeddings),
        )

    def plot(self, ax: Any = None) -> Any:
        """MMD² by layer, all bundles together, one mark a contrast; filled where shown at 0.05."""
        axes = _axes(ax)
        layers = list(dict.fromkeys(self.table["layer"]))
        for offset, (contrast, color) in enumerate(zip(_CONTRASTS, _COLORS, strict=True)):
            rows = self.pooled(contrast).set_index("layer").reindex(layers)
            rows = rows[rows["value"].notna()]
            x = np.array([layers.index(layer) for layer in rows.index]) + 0.2 * (offset - 1)
            reach = np.nan_to_num(np.abs(np.stack([rows["value"] - rows["low"], rows["high"] - rows["value"]])))
            axes.errorbar(x, rows["value"], yerr=reach, fmt="none", ecolor=color, capsize=2)
            shown = (rows["p_adjusted"] <= 0.05).to_numpy()
            marker = "osD"[offset]
            for these, fill in ((shown, "full"), (~shown, "none")):
                label = contrast if these.any() and (fill == "full" or not shown.any()) else None
                axes.plot(x[these], rows["value"][these], marker, color=color, fillstyle=fill, label=label)
        axes.axhline(0, color="0.5", linewidth=0.8)
        axes.set_xticks(range(len(layers)), layers, rotation=30, ha="right")
        axes.set_ylabel("MMD² (filled: p ≤ 0.05, adjusted)")
        axes.legend(frameon=False)
        return axes

    def _by_bundle(self) -> tuple[Finding, ...]:
        rows = self.table
        keep = (rows["statistic"] == "auc") & (rows["hemisphere"] == "all") & (rows["region"] == "reference")
        table = rows[keep & (rows["bundle"] != "all")].reset_index(drop=True)
        given = table[table["status"].isin(_GIVEN) & (table["contrast"] != "total")]
        if not len(given):
            return ()
        tops = [part.sort_values("value", ascending=False).iloc[0] for _, part in given.groupby("contrast", sort=False)]
        claim = "; ".join(
            f"the {top['contrast']} contrast is told apart best in {top['bundle']} at {top['layer']} (AUC "
            f"{top['value']:.2f} [{top['low']:.2f}, {top['high']:.2f}])"
            for top in tops
        )
        return (
            Finding(
                key="features-bundles",
                title="Which bundles does the network see differently?",
                claim=f"{claim[0].upper()}{claim[1:]}.",
                table=table,
                caveats=("The largest of many values is too large by selection; the adjusted p-values are not.",),
                method="AUC of a linear classifier on held-out participants; 0.5 by chance.",
                figure=lambda ax: _heatmap(_axes(ax), table),
                alt="AUC by bundle and layer, for the systematic and the tumor contrast.",
            ),
        )

    def _shells(self) -> tuple[Finding, ...]:
        rows = self.table
        table = rows[rows["region"].str.startswith("shell") & (rows["statistic"] == "mmd2")].reset_index(drop=True)
        given = table[table["status"].isin(_GIVEN)]
        if not len(given):
            return ()
        shown = given[given["p_adjusted"] <= 0.05]
        where = ", ".join(dict.fromkeys(shown["region"].str.removeprefix("shell "))) if len(shown) else ""
        return (
            Finding(
                key="features-shells",
                title="How far from the tumor do features change?",
                claim=(
                    f"Features on the tumor's side differ from those at the mirrored place at {where} from the tumor."
                    if where
                    else "No distance to the tumor shows a difference from the mirrored place."
                ),
                table=table,
                caveats=(
                    "The mirrored place lies in the same patient; anatomy is symmetric in the mean only, which the "
                    "permutation of sides allows for and single patients do not.",
                ),
                method="As the tumor contrast, pooled over bundle voxels at each distance and their mirror image.",
                figure=lambda ax: _shell_lines(_axes(ax), table),
                alt="MMD² between the tumor's side and its mirror image by distance, with intervals.",
            ),
        )

    def __str__(self) -> str:
        return "\n".join((self.verdict, *map(str, self.estimates)))

    def _repr_html_(self) -> str:
        from html import escape

        pooled = pd.concat([self.pooled(contrast) for contrast in _CONTRASTS])
        return f"<p>{escape(self.verdict)}</p>" + pooled.to_html(index=False, na_rep="n/a")


def compared(before: FeatureShift, after: FeatureShift) -> Finding:
    """The shift before and after fine-tuning, side by side."""
    name = after.embeddings.model
    table = pd.concat([one.pooled(contrast) for one in (before, after) for contrast in _CONTRASTS], ignore_index=True)
    words: list[str] = []
    for contrast in ("systematic", "tumor"):
        shown = [one.pooled(contrast).dropna(subset=["value"]) for one in (before, after)]
        if all(len(rows) for rows in shown):
            counts = [int((rows["p_adjusted"] <= 0.05).sum()) for rows in shown]
            words.append(f"{contrast}: shown in {counts[0]} of {len(shown[0])} layers before, {counts[1]} after")
    return Finding(
        key=f"features-{name}",
        title="Feature shift before and after fine-tuning",
        claim=f"{'; '.join(words) or 'Not given: too few participants'} ({name}).".capitalize(),
        table=table,
        caveats=(
            "After fine-tuning each patient is seen through the network that never saw them; networks differ, "
            "so vectors are centered and labels exchanged within folds.",
        ),
        method="As the feature shift, with folds as strata.",
        figure=lambda ax: _before_after(_axes(ax), before, after),
        alt="MMD² by layer before and after fine-tuning with intervals, for the systematic and the tumor contrast.",
    )


def _before_after(ax: Any, before: FeatureShift, after: FeatureShift) -> Any:
    for contrast, color in zip(_CONTRASTS[1:], _COLORS[1:], strict=True):
        for one, style, aside in ((before, "-", -0.08), (after, "--", 0.08)):
            rows = one.pooled(contrast)
            value, low, high = (rows[name].to_numpy(dtype=float) for name in ("value", "low", "high"))
            look = {"linestyle": style, "marker": "o", "markersize": 4, "color": color, "capsize": 2}
            label = f"{contrast}, {one.embeddings.model}"
            x = np.arange(len(rows)) + aside
            ax.errorbar(x, value, yerr=np.abs(np.stack([value - low, high - value])), label=label, **look)
    layers = before.pooled(_CONTRASTS[1])["layer"]
    ax.axhline(0, color="0.5", linewidth=0.8)
    ax.set_xticks(range(len(layers)), layers, rotation=30)
    ax.set_ylabel("MMD²")
    ax.legend(frameon=False)
    return ax


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(5.2, 3.2), layout="constrained")[1]


def _heatmap(ax: Any, table: pd.DataFrame) -> Any:
    """Systematic and tumor AUC side by side: rows are bundles, columns layers."""
    layers, bundles = list(dict.fromkeys(table["layer"])), list(dict.fromkeys(table["bundle"]))
    parts = [
        table[table["contrast"] == contrast].pivot(index="bundle", columns="layer", values="value")
        for contrast in ("systematic", "tumor")
    ]
    values = np.concatenate(
        [part.reindex(index=bundles, columns=layers).to_numpy(dtype=float) for part in parts], axis=1
    )
    ax.imshow(values, vmin=0.0, vmax=1.0, cmap="PuOr_r", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text = f"{value:.2f}" if np.isfinite(value) else "–"
        ink = "white" if np.isfinite(value) and abs(value - 0.5) > 0.3 else "0.05"
        ax.text(column, row, text, ha="center", va="center", fontsize=6, color=ink)
    ax.axvline(len(layers) - 0.5, color="white", linewidth=3)
    ax.set_xticks(range(2 * len(layers)), layers * 2, rotation=60, ha="right")
    ax.set_yticks(range(len(bundles)), bundles)
    ax.set_title("AUC: systematic (left half), tumor (right half)")
    return ax


def _shell_lines(ax: Any, table: pd.DataFrame) -> Any:
    regions = list(dict.fromkeys(table["region"]))
    layers = list(dict.fromkeys(table["layer"]))
    for place, layer in enumerate(layers):
        rows = table[table["layer"] == layer].set_index("region").reindex(regions)
        x = np.arange(len(regions)) + (place - (len(layers) - 1) / 2) * 0.8 / len(layers)
        value, low, high = (rows[name].to_numpy(dtype=float) for name in ("value", "low", "high"))
        look = {"color": f"C{place % 8}", "fmt": "osD^v<>p"[place % 8], "markersize": 3.5, "linewidth": 0.9}
        ax.errorbar(x, value, yerr=np.abs(np.stack([value - low, high - value])), label=layer, **look)
    ax.axhline(0, color="0.5", linewidth=0.8)
    ax.set_xticks(range(len(regions)), [region.removeprefix("shell ") for region in regions])
    ax.set_xlabel("distance to the tumor")
    ax.set_ylabel("MMD² to the mirrored place")
    ax.legend(frameon=False, fontsize=6, ncols=2)
    return ax


Array = NDArray[np.float64]


def finding(table: pd.DataFrame) -> tuple[Finding, ...]:
    """The channels that carry each contrast, where any could be computed."""
    if not len(table):
        return ()
    words: list[str] = []
    for contrast, rows in table.groupby("contrast", sort=False):
        shown = rows[rows["p_adjusted"] <= 0.05]
        if not len(shown):
            words.append(f"no single channel is shown to carry the {contrast} contrast")
            continue
        top = shown.sort_values("difference", key=np.abs).iloc[-1]
        words.append(
            f"the {contrast} contrast moves channel {top['channel']} of {top['layer']} most ({top['difference']:+.2f} "
            f"standard deviations, {top['share']:.0%} of that layer's shift)"
        )
    claim = "; ".join(words)
    return (
        Finding(
            key="features-directions",
            title="Which features carry the shift?",
            claim=f"{claim[0].upper()}{claim[1:]}.",
            table=table,
            caveats=(
                "A channel has no meaning of its own; its number leads to the feature map.",
                "Shares describe and have no interval; the table's adjusted p-values say which channels move.",
            ),
            method="Difference of means over all bundles, channel by channel; max-T over the channels of a layer.",
            figure=lambda ax: _bars(ax, table),
            alt="Share of the squared shift that the three leading channels of each layer carry.",
        ),
    )


def _bars(ax: Any, table: pd.DataFrame) -> Any:
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(5.2, 3.2), layout="constrained")[1]
    layers = list(dict.fromkeys(table["layer"]))
    colors = {"systematic": "#D55E00", "tumor": "#009E73"}
    for offset, (contrast, rows) in enumerate(table.groupby("contrast", sort=False)):
        share = rows.groupby("layer", sort=False)["share"].sum().reindex(layers)
        hatch = ("", "//")[offset % 2]
        x = np.arange(len(layers)) + 0.4 * (offset - 0.5)
        ax.bar(x, share, 0.36, label=contrast, color=colors.get(str(contrast)), hatch=hatch, edgecolor="white")
    ax.set_xticks(range(len(layers)), layers, rotation=30, ha="right")
    ax.set_ylabel("share of the three leading channels")
    ax.legend(frameon=False)
    return ax
