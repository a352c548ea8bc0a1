"""What the comparisons of features say, in words and figures; the numbers come from the studies."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from ...embeddings import shell_distance
from ...results import Finding, Result, in_percent
from ...status import Status
from ...style import GRAY, ORANGE, RULE, VERMILION, beside, intervals, legend, look, name_columns, name_rows, new_axes
from ...types import Bundle
from ..statistics.inference import EXPLORATORY_BELOW
from .pictures import picture
from .result import FeatureShift, Foresight, ImageShift, LayerChange
from .samples import CONTRASTS

_GIVEN = (Status.OK, Status.EXPLORATORY)
_SHOWN = 0.05  # of an adjusted p-value
_SPLIT = CONTRASTS[1:]  # what the total contrast is made of
_METHOD = (
    "Features of each layer are averaged inside the reference bundle, one vector a participant and region. Total: "
    "controls against patients; systematic: controls against the patients' hemisphere without the tumor, within "
    "hemispheres; tumor: the patients' two hemispheres, each less the controls' mean of it, with the tumor's side "
    "permuted over patients. Unbiased MMD² with a Gaussian kernel of the median distance's width, energy distance, "
    "sliced Wasserstein distance, Fréchet distance of shrunk covariances on principal components, and AUC and proxy "
    "A-distance of a linear classifier with folds grouped by participant. Tests by permutation of participants, "
    "adjusted over layers and bundles by max-T; jackknife intervals over participants."
)

AnyResult = TypeVar("AnyResult", bound=Result)


def told(result: AnyResult, *findings: Finding) -> AnyResult:
    """A result with its findings; the first one's claim is that of the whole."""
    return replace(result, findings=findings, claim=findings[0].claim)


def _sentence(parts: Sequence[str]) -> str:
    words = "; ".join(parts)
    return f"{words[0].upper()}{words[1:]}."


def _within(row: Any, digits: int = 2, value: str = "value") -> str:
    """A number of a table with its interval."""
    return f"{row[value]:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"


def shift_findings(shift: FeatureShift) -> tuple[Finding, ...]:
    """The shift by layer, bundle and distance to the tumor, what carries it, and a picture."""
    how = f"{shift.inference.n_permutations} permutations, {shift.inference.level:.0%} intervals."
    first = Finding(
        key="features",
        title="Where in the network do controls and patients part?",
        claim=" ".join(_contrast_told(contrast, shift.pooled(contrast)) for contrast in CONTRASTS),
        estimates=shift.estimates,
        table=shift.table,
        caveats=(
            "A distance between features says that the network sees a difference, not that it errs for it.",
            "Sliced Wasserstein and Fréchet distances are positive without a shift too: see by_chance.",
            *shift.notes,
        ),
        method=f"{_METHOD} {how}",
        references=("10.1016/j.jspi.2013.03.018", "10.1007/s10851-014-0506-3", "10.1007/s10994-009-5152-4"),
        figure=partial(_by_layer, {contrast: shift.pooled(contrast) for contrast in CONTRASTS}),
        alt="MMD² of the total, systematic and tumor contrast by layer, with intervals.",
    )
    others = (_by_bundle(shift.table), _by_distance(shift.table), _carried(shift.directions), picture(shift.embeddings))
    return (first, *(one for one in others if one is not None))


def _contrast_told(contrast: str, rows: pd.DataFrame) -> str:
    """Whether a contrast is shown, and where."""
    name = {"total": "Total", "systematic": "Systematic", "tumor": "Tumor-related"}[contrast]
    given = rows[rows["status"].isin(_GIVEN)]
    if not len(given):
        why = Status(rows["status"].iloc[0]).sentence if len(rows) else Status.UNAVAILABLE.sentence
        return f"{name} feature shift: not given. {why}"
    exploratory = (given["status"] == Status.EXPLORATORY).all()
    few = f" (exploratory: fewer than {EXPLORATORY_BELOW} patients)" if exploratory else ""
    shown = given[given["p_adjusted"] <= _SHOWN]
    if not len(shown):
        smallest = given["p_adjusted"].min()
        return f"{name} feature shift: not shown in any of {len(given)} layers (p ≥ {smallest:.2g}){few}."
    top = shown.sort_values("value", ascending=False).iloc[0]
    return (
        f"{name} feature shift: shown in {len(shown)} of {len(given)} layers, largest in {top['layer']} (MMD² "
        f"{_within(top, 3)}, p = {top['p_adjusted']:.2g}){few}."
    )


def bundle_shifts(table: pd.DataFrame) -> dict[Bundle, Finding]:
    """What the first model's features say of each bundle and hemisphere, from rows of `shiftkit.catalogue.FEATURES`.

    The total contrast is that of the hemisphere; the other two compare hemispheres and are those of the bundle.
    """
    own = table[(table["model"] == table["model"].iloc[0]) & (table["statistic"] == "mmd2")]
    own = own[(own["region"] == "reference") & (own["bundle"] != "all")]
    made: dict[Bundle, Finding] = {}
    for name, rows in own.groupby("bundle", sort=False):
        both = rows[rows["hemisphere"] == "all"]
        sides = [side for side in dict.fromkeys(rows["hemisphere"]) if side != "all"]
        for side in sides or ["none"]:
            total = rows[(rows["hemisphere"] == side) & (rows["contrast"] == "total")] if sides else both
            parts = {one: both[both["contrast"] == one] for one in CONTRASTS} | {
                "total": total[total["contrast"] == "total"]
            }
            bundle = Bundle(name=str(name), hemisphere=side)
            made[bundle] = _of_bundle(bundle, parts)
    return made


def _of_bundle(bundle: Bundle, parts: Mapping[str, pd.DataFrame]) -> Finding:
    return Finding(
        key=f"bundle-{bundle.label}-features",
        title="Feature shift",
        claim=" ".join(_contrast_told(contrast, rows) for contrast, rows in parts.items()),
        table=pd.concat(parts.values(), ignore_index=True),
        caveats=(
            "A distance between features says that the network sees a difference, not that it errs for it.",
            "The systematic and the tumor contrast compare hemispheres: they are those of the bundle in both.",
        ),
        figure=partial(_by_layer, parts),
        alt=f"MMD² of {bundle.label} by layer of the network, one mark a contrast (total, systematic, tumor), with "
        "intervals.",
    )


def _by_layer(parts: Mapping[str, pd.DataFrame], ax: Any) -> Any:
    """MMD², one mark a contrast; filled where shown."""
    axes = new_axes(ax)
    layers = list(dict.fromkeys(layer for rows in parts.values() for layer in rows["layer"]))
    for place, contrast in enumerate(CONTRASTS):
        rows = parts[contrast].set_index("layer").reindex(layers)
        x = np.arange(len(layers)) + beside(place, len(CONTRASTS), 0.2)
        color, marker = look(place).color, look(place).marker
        intervals(axes, x, rows["value"], rows["low"], rows["high"], fmt="none", ecolor=color)
        shown = (rows["p_adjusted"] <= _SHOWN).to_numpy()
        for these, fill in ((shown, "full"), (~shown & rows["value"].notna().to_numpy(), "none")):
            label = contrast if these.any() and (fill == "full" or not shown.any()) else None
            axes.plot(x[these], rows["value"][these], marker, color=color, fillstyle=fill, label=label)
    name_columns(axes, layers, slanted=True)
    axes.set_ylabel(f"MMD² (filled: p ≤ {_SHOWN}, adjusted)")
    legend(axes)
    return axes


def _by_bundle(rows: pd.DataFrame) -> Finding | None:
    keep = (rows["statistic"] == "auc") & (rows["hemisphere"] == "all") & (rows["region"] == "reference")
    table = rows[keep & (rows["bundle"] != "all")].reset_index(drop=True)
    given = table[table["status"].isin(_GIVEN) & (table["contrast"] != "total")]
    if not len(given):
        return None
    tops = [part.sort_values("value", ascending=False).iloc[0] for _, part in given.groupby("contrast", sort=False)]
    best = "the {0[contrast]} contrast is told apart best in {0[bundle]} at {0[layer]} (AUC {1})"
    return Finding(
        key="features-bundles",
        title="Which bundles does the network see differently?",
        claim=_sentence([best.format(top, _within(top)) for top in tops]),
        table=table,
        caveats=("The largest of many values is too large by selection; the adjusted p-values are not.",),
        method="AUC of a linear classifier on held-out participants; 0.5 by chance.",
        figure=partial(_heatmap, table),
        alt="AUC by bundle and layer, for the systematic and the tumor contrast.",
    )


def _heatmap(table: pd.DataFrame, ax: Any) -> Any:
    """Systematic and tumor AUC side by side: rows are bundles, columns layers."""
    axes = new_axes(ax)
    layers, bundles = (list(dict.fromkeys(table[name])) for name in ("layer", "bundle"))
    wide = table.pivot(index="bundle", columns=["contrast", "layer"], values="value")
    columns = pd.MultiIndex.from_product([_SPLIT, layers])
    values = wide.reindex(index=bundles, columns=columns).to_numpy(dtype=float)
    axes.imshow(values, vmin=0.0, vmax=1.0, cmap="PuOr_r", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text = f"{value:.2f}" if np.isfinite(value) else "–"
        # Both ends of the color map are dark.
        ink = "white" if np.isfinite(value) and abs(value - 0.5) > 0.3 else "0.05"
        axes.text(column, row, text, ha="center", va="center", fontsize=6, color=ink)
    axes.axvline(len(layers) - 0.5, color="white", linewidth=3)
    axes.set_xticks(range(2 * len(layers)), layers * 2, rotation=60, ha="right")
    axes.set_yticks(range(len(bundles)), bundles)
    axes.set_title("AUC: systematic (left half), tumor (right half)")
    return axes


def _by_distance(rows: pd.DataFrame) -> Finding | None:
    table = rows[rows["region"].map(shell_distance).ne("") & (rows["statistic"] == "mmd2")].reset_index(drop=True)
    given = table[table["status"].isin(_GIVEN)]
    if not len(given):
        return None
    where = ", ".join(dict.fromkeys(map(shell_distance, given.loc[given["p_adjusted"] <= _SHOWN, "region"])))
    return Finding(
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
        figure=partial(_shell_lines, table),
        alt="MMD² between the tumor's side and its mirror image by distance, with intervals.",
    )


def _shell_lines(table: pd.DataFrame, ax: Any) -> Any:
    axes = new_axes(ax)
    regions, layers = (list(dict.fromkeys(table[name])) for name in ("region", "layer"))
    for place, layer in enumerate(layers):
        rows = table[table["layer"] == layer].set_index("region").reindex(regions)
        x = np.arange(len(regions)) + beside(place, len(layers), 0.8 / len(layers))
        style: Any = {"fmt": look(place).marker, "color": look(place).color, "markersize": 3.5, "linewidth": 0.9}
        intervals(axes, x, rows["value"], rows["low"], rows["high"], label=layer, **style)
    name_columns(axes, list(map(shell_distance, regions)))
    axes.set_xlabel("distance to the tumor")
    axes.set_ylabel("MMD² to the mirrored place")
    legend(axes, fontsize=6, ncols=2)
    return axes


def _carried(table: pd.DataFrame) -> Finding | None:
    """The channels that carry each contrast, where any could be computed."""
    if not len(table):
        return None
    words: list[str] = []
    for contrast, rows in table.groupby("contrast", sort=False):
        shown = rows[rows["p_adjusted"] <= _SHOWN]
        if not len(shown):
            words.append(f"no single channel is shown to carry the {contrast} contrast")
            continue
        top = shown.sort_values("difference", key=np.abs).iloc[-1]
        words.append(
            f"the {contrast} contrast moves channel {top['channel']} of {top['layer']} most ({top['difference']:+.2f} "
            f"standard deviations, {top['share']:.0%} of that layer's shift)"
        )
    return Finding(
        key="features-directions",
        title="Which features carry the shift?",
        claim=_sentence(words),
        table=table,
        caveats=(
            "A channel has no meaning of its own; its number leads to the feature map.",
            "Shares describe and have no interval; the table's adjusted p-values say which channels move.",
        ),
        method="Difference of means over all bundles, channel by channel; max-T over the channels of a layer.",
        figure=partial(_share_bars, table),
        alt="Share of the squared shift that the three leading channels of each layer carry.",
    )


def _share_bars(table: pd.DataFrame, ax: Any) -> Any:
    axes = new_axes(ax)
    layers = list(dict.fromkeys(table["layer"]))
    for place, contrast in enumerate(_SPLIT):
        rows = table[table["contrast"] == contrast]
        if not len(rows):
            continue
        share = rows.groupby("layer", sort=False)["share"].sum().reindex(layers)
        x = np.arange(len(layers)) + beside(place, len(_SPLIT), 0.4)
        # The look of the contrast in every figure: the first look is the total's.
        style: Any = {"color": look(place + 1).color, "hatch": look(place).hatch, "edgecolor": "white"}
        axes.bar(x, share, 0.36, label=contrast, **style)
    name_columns(axes, layers, slanted=True, zero=None)
    axes.set_ylabel("share of the three leading channels")
    legend(axes)
    return axes


def compared(before: FeatureShift, after: FeatureShift) -> Finding:
    """The shift before and after fine-tuning, side by side."""
    name = after.embeddings.model
    words: list[str] = []
    for contrast in _SPLIT:
        shown = [one.pooled(contrast).dropna(subset=["value"]) for one in (before, after)]
        if all(len(rows) for rows in shown):
            counts = [int((rows["p_adjusted"] <= _SHOWN).sum()) for rows in shown]
            words.append(f"{contrast}: shown in {counts[0]} of {len(shown[0])} layers before, {counts[1]} after")
    return Finding(
        key=f"features-{name}",
        title="Feature shift before and after fine-tuning",
        claim=_sentence([f"{'; '.join(words) or 'not given: too few participants'} ({name})"]),
        table=pd.concat([one.pooled(contrast) for one in (before, after) for contrast in CONTRASTS], ignore_index=True),
        caveats=(
            "After fine-tuning each patient is seen through the network that never saw them; networks differ, "
            "so vectors are centered and labels exchanged within folds.",
        ),
        method="As the feature shift, with folds as strata.",
        figure=partial(_before_after, before, after),
        alt="MMD² by layer before and after fine-tuning with intervals, for the systematic and the tumor contrast.",
    )


def _before_after(before: FeatureShift, after: FeatureShift, ax: Any) -> Any:
    axes = new_axes(ax)
    for place, contrast in enumerate(_SPLIT, start=1):
        for one, line, aside in ((before, "o-", -0.08), (after, "o--", 0.08)):
            rows = one.pooled(contrast)
            label = f"{contrast}, {one.embeddings.model}"
            x = np.arange(len(rows)) + aside
            style: Any = {"fmt": line, "color": look(place).color, "label": label}
            intervals(axes, x, rows["value"], rows["low"], rows["high"], **style)
    name_columns(axes, list(before.pooled(_SPLIT[0])["layer"]), slanted=True)
    axes.set_ylabel("MMD²")
    legend(axes)
    return axes


def image_finding(shift: ImageShift) -> Finding:
    """What differs between the images, in one finding."""
    return Finding(
        key="features-images",
        title="What differs between the images themselves?",
        claim=_images_told(shift.table),
        table=shift.table,
        caveats=(
            "A description of the images as they are on disk; it harmonizes nothing, and a difference here "
            "need not be what the network stumbles over.",
            *(f"Left out: {one}" for one in shift.skipped[:3]),
        ),
        method=(
            "Brain voxels at least 20 mm from the tumor. Intensity: median. Contrast: range from the 5th to "
            "the 95th percentile over the median. Noise: robust spread of a second difference. Sharpness: "
            "95th percentile of the gradient. Histogram: Wasserstein distance from the controls' mean, both "
            "scaled to their own range. Differences in pooled standard deviations; jackknife intervals, "
            "permutation of participants, max-T."
        ),
        figure=partial(_differences, shift.table),
        alt="Differences between patients' and controls' images, in standard deviations.",
    )


def _images_told(table: pd.DataFrame) -> str:
    """Which channel differs most, and where voxels are of another size."""
    given = table.dropna(subset=["difference"])
    first = "What differs between the images is not given: too few participants."
    if len(given):
        top = given.sort_values("difference", key=np.abs).iloc[-1]
        first = (
            f"The images differ most in {top['property']} of {top['modality']} channel {top['channel']}: "
            f"{top['difference']:+.1f} [{top['low']:.1f}, {top['high']:.1f}] standard deviations in patients; "
            f"{(given['p_adjusted'] <= _SHOWN).sum()} of {len(given)} properties differ (p ≤ {_SHOWN}, adjusted)."
        )
    # Spacing is told in mm: where everybody of a cohort has the same there is no spread to measure it in.
    spacing = table[(table["property"] == "spacing") & (table["controls"] != table["patients"])]
    return " ".join(
        [first]
        + [
            f"Voxels of {row['modality']} are {row['controls']:.2f} mm in controls, {row['patients']:.2f} in patients."
            for row in spacing.dropna(subset=["controls", "patients"]).to_dict("records")
        ]
    )


def _differences(table: pd.DataFrame, ax: Any) -> Any:
    """One line a property and channel."""
    axes = new_axes(ax)
    rows = table[table["difference"].notna()]
    intervals(axes, np.arange(len(rows)), rows["difference"], rows["low"], rows["high"], lying=True)
    name_rows(axes, [f"{r['modality']} {r['channel']}: {r['property']}" for r in rows.to_dict("records")])
    axes.figure.set_figheight(max(2.0, 0.16 * len(rows) + 0.8))
    axes.set_xlabel("patients less controls (standard deviations)")
    return axes


def change_finding(change: LayerChange) -> Finding:
    """How far fine-tuning moved each layer."""
    given = change.table.dropna(subset=["cka"])
    claim = "How much fine-tuning changed each layer is not given: too few participants were seen by both models."
    if len(given):
        least = given.sort_values("cka").iloc[0]
        kept = ", ".join(given.loc[given["cka"] > 0.999, "layer"])
        claim = (
            f"Fine-tuning ({least['model']}) changed {least['layer']} most: CKA {_within(least, value='cka')} "
            f"with the source model on the same participants.{f' Unchanged: {kept}.' if kept else ''}"
        )
    return Finding(
        key="features-cka",
        title="Which layers did fine-tuning move?",
        claim=claim,
        table=change.table,
        caveats=("CKA compares two models on the same inputs; it says nothing about a shift of inputs.",),
        method="Unbiased linear CKA over participants, summed over bundles and folds; jackknife over participants.",
        references=("10.48550/arXiv.1905.00414", "10.48550/arXiv.2010.15327"),
        figure=partial(_cka_by_layer, change.table),
        alt="CKA of each layer between source and fine-tuned model, with intervals.",
    )


def _cka_by_layer(table: pd.DataFrame, ax: Any) -> Any:
    axes = new_axes(ax)
    intervals(
        axes, np.arange(len(table)), table["cka"], table["low"], table["high"], fmt="o-", label=table["model"].iloc[0]
    )
    name_columns(axes, list(table["layer"]), slanted=True, zero=None)
    axes.set_ylabel("CKA with the source model")
    legend(axes)
    return axes


def foresight_finding(foresight: Foresight) -> Finding:
    """Whether the shift foretells the drop."""
    shift, prediction, skill = foresight.estimates
    claim = f"Whether the feature shift foretells the drop is not given: {Status(shift.status).sentence}"
    if np.isfinite(shift.value):
        words = "foretells" if skill.low > 0 else "is not shown to foretell"
        claim = (
            f"Without labels, the feature shift {words} the drop in unseen patients: it saves {in_percent(skill)} "
            f"of the squared error of the mean drop; rank correlation of predicted and observed drop "
            f"{_within(vars(prediction))}, of shift and drop over patients {_within(vars(shift))}."
        )
    return Finding(
        key="features-foresight",
        title="Can failure be foreseen from features, without labels?",
        claim=claim,
        estimates=foresight.estimates,
        table=foresight.table,
        caveats=("The prediction was learned from other patients' scores: a hospital needs some of its own.",),
        method=(
            "Features are averaged with the predicted probability as weight, so no reference mask enters. "
            "Shift: log Mahalanobis distance from the controls (shrunk covariance), averaged over layers and "
            "bundles. Prediction: ridge regression of the drop on the distances in all layers, tested on "
            "patients that it was not fitted to; intervals by bootstrap over patients."
        ),
        references=("10.1016/S0047-259X(03)00096-4",),
        figure=partial(_observed_against_predicted, foresight.table),
        alt="Observed against predicted drop of each patient and bundle.",
    )


def _observed_against_predicted(table: pd.DataFrame, ax: Any) -> Any:
    axes = new_axes(ax)
    given = table.dropna(subset=["predicted", "observed"])
    for side, marker, color in (("ipsi", "^", VERMILION), ("contra", "s", ORANGE), ("bilateral", "x", GRAY)):
        rows = given[given["side"] == side]
        if len(rows):
            style: Any = {"s": 10, "marker": marker, "color": color, "linewidths": 0.8 if marker == "x" else 0}
            axes.scatter(rows["predicted"], rows["observed"], label=side, **style)
    if len(given):
        ends = [given["predicted"].min(), given["predicted"].max()]
        axes.plot(ends, ends, **RULE)
    axes.set_xlabel("predicted drop, patient held out")
    axes.set_ylabel("observed drop")
    legend(axes)
    return axes
