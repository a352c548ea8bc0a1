"""What is told of one bundle (against distance, along it, in the brain), and of the patients taken together."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...results import Finding
from ...style import RULE, band, legend, legend_above, look, new_axes
from ...types import Bundle, Volume
from ...words import spoken_model
from ..statistics.inference import FEWEST, Array, Inference
from .brain_maps import glass, peak_of, tumor_planes
from .error_maps import KINDS, ErrorPlaces, TumorPlaces
from .metrics import METRICS, Metric

_GROUPS = {"glioma": ("patients", look(1), "-"), "control": ("controls", look(0), "--")}
_CONTROLS: dict[str, Any] = {**RULE, "linestyle": ":", "label": "controls' mean"}
_WIDTH_MM = 10.0
"""Of the kernel: about the span over which tumor effects on a bundle fade."""


def bundle_findings(
    scores: pd.DataFrame,
    sections: pd.DataFrame | None = None,
    places: Mapping[Bundle, ErrorPlaces] | None = None,
    *,
    inference: Inference = Inference(),
) -> dict[Bundle, tuple[Finding, ...]]:
    """Findings of every bundle and hemisphere that patients have scores of, which are of one metric.

    Scores and sections are of patients and controls, in their columns of `shiftkit.catalogue`; the places are where in
    the brain the patients' predictions err.
    """
    patients = scores[scores["group"] == "glioma"]
    made: dict[Bundle, tuple[Finding, ...]] = {}
    for name, hemisphere in patients[["bundle", "hemisphere"]].drop_duplicates().itertuples(index=False, name=None):
        bundle = Bundle(name=name, hemisphere=hemisphere)
        found = [against_distance(_of(scores, bundle), bundle, inference)]
        if sections is not None and len(_of(sections, bundle)):
            found.append(along(_of(sections, bundle), bundle, inference))
        if places is not None and bundle in places:
            found.append(in_the_brain(places[bundle], bundle))
        made[bundle] = tuple(found)
    return dict(sorted(made.items()))


def _of(frame: pd.DataFrame, bundle: Bundle) -> pd.DataFrame:
    return frame[(frame["bundle"] == bundle.name) & (frame["hemisphere"] == bundle.hemisphere)]


def against_distance(scores: pd.DataFrame, bundle: Bundle, inference: Inference = Inference()) -> Finding:
    """Each patient's score against the distance from the tumor, with a running mean and the controls' mean."""
    metric = METRICS[str(scores["metric"].iloc[0])].label
    patients = scores[(scores["group"] == "glioma") & scores["value"].notna() & scores["tumor_distance_mm"].notna()]
    source = scores["model"].iloc[0]  # it comes first; healthy people are its yardstick
    healthy = _mean(scores[(scores["group"] == "control") & (scores["model"] == source)])
    models = [(str(model), part) for model, part in patients.groupby("model", sort=False)]
    curves = [_running_mean(part, inference) for _, part in models]

    def figure(ax: Any) -> Any:
        axes = new_axes(ax)
        for place, (model, part) in enumerate(models):
            seen, curve = look(place), curves[place]
            x, y = part["tumor_distance_mm"], part["value"]
            axes.scatter(x, y, s=12, alpha=0.6, color=seen.color, marker=seen.marker, lw=0)
            band(axes, curve["distance_mm"], curve["low"], curve["high"], seen.color)
            name = spoken_model(model, models[0][0]) if len(models) > 1 else model
            axes.plot(curve["distance_mm"], curve["mean"], color=seen.color, linestyle=seen.line, label=name)
        if np.isfinite(healthy):
            axes.axhline(healthy, **_CONTROLS)
        axes.set_xlabel("Distance from tumor to bundle (mm)")
        axes.set_ylabel(metric)
        axes.set_xlim(left=-1)
        legend(axes)
        return axes

    return Finding(
        key=f"bundle-{bundle.label}-distance",
        place="distance",
        title="Against distance to the tumor",
        claim=_distance_claim(patients, str(source), healthy),
        table=patients[["participant_id", "model", "tumor_distance_mm", "value"]].reset_index(drop=True),
        caveats=("Not a test: the decomposition tests whether performance depends on the distance.",),
        method=f"Running mean with a Gaussian kernel of {_WIDTH_MM:.0f} mm, every patient of one weight; band: "
        f"pointwise {inference.level:.0%} expanded percentile bootstrap over patients.",
        figure=figure,
        alt=f"Each patient's {metric} by distance to the tumor, with a running mean and its band for each model, and "
        "the controls' mean.",
    )


def _distance_claim(patients: pd.DataFrame, source: str, healthy: float) -> str:
    own = patients[patients["model"] == source]
    if not len(own):
        return "No patient has a score and a distance."
    against = f", controls on average {healthy:.2f}" if np.isfinite(healthy) else ""
    n = patients["participant_id"].nunique()
    return f"The {n} patients score {_mean(own):.2f} on average{against}."


def _mean(rows: pd.DataFrame) -> float:
    """Mean over participants, whose sessions are averaged first; NaN without any."""
    return float(rows.groupby("participant_id")["value"].mean().mean())


def _running_mean(points: pd.DataFrame, inference: Inference) -> pd.DataFrame:
    """Kernel-weighted mean on a grid of distances, with a pointwise band over participants."""
    y = points["value"].to_numpy(dtype=float)
    grid, kernel, who = _kernel(points)
    n = int(who.max()) + 1
    drawn = inference.weights((n,))[:, who]
    low, high = _band((drawn * y) @ kernel.T / (drawn @ kernel.T), np.full(len(grid), n), inference)
    return pd.DataFrame({"distance_mm": grid, "mean": kernel @ y / kernel.sum(axis=1), "low": low, "high": high})


def _kernel(points: pd.DataFrame) -> tuple[Array, Array, NDArray[np.intp]]:
    """Distances to draw at, the weight of each point at each of them, and the number of each point's participant."""
    x = points["tumor_distance_mm"].to_numpy(dtype=float)
    who, sessions = np.unique(points["participant_id"], return_inverse=True, return_counts=True)[1:]
    grid = np.linspace(0.0, x.max(), 60)
    # A participant's sessions share one weight, and are drawn together; the small number keeps far grid points defined.
    return grid, (np.exp(-0.5 * ((grid[:, None] - x[None, :]) / _WIDTH_MM) ** 2) + 1e-12) / sessions[who], who


def _band(draws: Array, n: Array, inference: Inference) -> Array:
    """Interval of each column of draws, shape (2, columns); none where fewer than `FEWEST` participants have values."""
    made = [
        inference.interval(column, int(people)) if people >= FEWEST else (np.nan, np.nan)
        for column, people in zip(draws.T, n, strict=True)
    ]
    return np.array(made, dtype=np.float64).reshape(-1, 2).T


def along(sections: pd.DataFrame, bundle: Bundle, inference: Inference = Inference()) -> Finding:
    """Dice in each section along the bundle, patients against controls."""
    groups = [group for group in ("glioma", "control") if (sections["group"] == group).any()]
    profile = pd.concat([_profile(sections[sections["group"] == group], group, inference) for group in groups])

    def figure(ax: Any) -> Any:
        axes = new_axes(ax)
        for group in groups:
            name, seen, line = _GROUPS[group]
            rows = profile[profile["group"] == group]
            band(axes, rows["section"], rows["low"], rows["high"], seen.color)
            drawn: dict[str, Any] = {"color": seen.color, "linestyle": line, "markersize": 3, "label": name}
            axes.plot(rows["section"], rows["dice"], marker="o" if group == "glioma" else "s", **drawn)
        axes.set_xlabel("Section, from the posterior, inferior or lateral end")
        axes.set_ylabel("Dice")
        axes.set_xticks(sorted(profile["section"].unique()))
        legend(axes)
        return axes

    return Finding(
        key=f"bundle-{bundle.label}-sections",
        title="Along the bundle",
        claim=_profile_claim(profile),
        table=profile.reset_index(drop=True),
        method="Sections of equal length along the reference; a predicted voxel belongs to the section of the nearest "
        "reference voxel. Mean over participants, pointwise "
        f"{inference.level:.0%} expanded percentile bootstrap over participants.",
        figure=figure,
        alt="Mean Dice in sections along the bundle with bands, patients as a solid and controls as a dashed line.",
    )


def _profile(rows: pd.DataFrame, group: str, inference: Inference) -> pd.DataFrame:
    wide = rows.pivot_table(index="participant_id", columns="section", values="dice", dropna=False)
    values: Array = wide.to_numpy(dtype=float)
    given = np.isfinite(values)
    n = given.sum(axis=0)
    weights = inference.weights((len(values),))
    with np.errstate(invalid="ignore", divide="ignore"):  # sections that nobody has
        drawn = weights @ np.nan_to_num(values) / (weights @ given)
        mean = np.nan_to_num(values).sum(axis=0) / n
    low, high = _band(drawn, n, inference)
    section = wide.columns.to_numpy(dtype=int)
    return pd.DataFrame({"group": group, "section": section, "dice": mean, "low": low, "high": high, "n": n})


def _profile_claim(profile: pd.DataFrame) -> str:
    patients = profile[profile["group"] == "glioma"].set_index("section")["dice"].dropna()
    controls = profile[profile["group"] == "control"].set_index("section")["dice"].dropna()
    if not len(patients):
        return "No patient has a reference to cut into sections."
    if not len(controls):
        return f"Patients score lowest in section {patients.idxmin()} of {len(patients)}: {patients.min():.2f} Dice."
    drop = (controls - patients).dropna()
    return (
        f"The drop is largest in section {drop.idxmax()} of {len(drop)}: {drop.max():.2f} Dice; it is smallest in "
        f"section {drop.idxmin()}: {drop.min():.2f}."
    )


def in_the_brain(places: ErrorPlaces, bundle: Bundle) -> Finding:
    """Where the patients' predictions miss the bundle and make it up, seen through a glass brain."""
    return _errors(places, f"bundle-{bundle.label}-errors", "In the brain", "the bundle")


def _errors(places: ErrorPlaces, key: str, title: str, what: str) -> Finding:
    most = {kind: float(places.share(kind).array.max()) for kind in KINDS}
    return Finding(
        key=key,
        title=title,
        claim=f"At the places where most patients agree, the prediction misses {what} in {most['missed']:.0%} of "
        f"{places.n} patients and has false voxels in {most['false']:.0%}.",
        table=places.to_frame(),
        caveats=(_ALIGNED,),
        method="Share of patients with a missed or false voxel in each voxel of 4 mm in MNI152 space, as maximum "
        "projections.",
        references=_MNI152,
        figure=lambda ax: glass(new_axes(ax), places),
        alt=f"Glass brains from the left, the front and below: fuller colors where {what} is missed in more patients, "
        "in the upper row, or has false voxels, in the lower row.",
    )


_ALIGNED = (
    "Participants are aligned by the extent of their brains only: the map shows where errors and tumors gather, not "
    "where exactly each of them is."
)
_MNI152 = ("10.3389/fninf.2014.00014", "10.1016/j.neuroimage.2010.07.033")


def cohort_findings(
    scores: pd.DataFrame, everywhere: ErrorPlaces | None = None, tumors: TumorPlaces | None = None
) -> tuple[Finding, ...]:
    """Findings of the patients taken together: where predictions err, where tumors lie, and every bundle by distance.

    Scores, of one metric, as in `bundle_findings`; what is None has no map.
    """
    found = []
    if everywhere is not None:
        found.append(_errors(everywhere, "cohort-errors", "Where predictions err", "some bundle"))
    if tumors is not None and tumors.counts.any():
        found.append(_tumors(tumors))
    patients = scores[(scores["group"] == "glioma") & scores["value"].notna() & scores["tumor_distance_mm"].notna()]
    if len(patients):
        found.append(_bundles(scores, patients))
    return tuple(replace(one, place="cohort") for one in found)


def _tumors(tumors: TumorPlaces) -> Finding:
    most = int(tumors.counts.max())
    place = Volume(array=tumors.counts, affine=tumors.affine).world(peak_of(tumors)[None])[0]
    x, y, z = (f"{one:.0f}".replace("-", "−") for one in place)
    side = "left" if place[0] < 0 else "right"
    where = f"in the {side} hemisphere (x {x}, y {y}, z {z} mm in MNI152 space)"
    many = f"At most {most} of the {tumors.n} tumors overlap in one place, {where}."
    claim = many if most > 1 else f"None of the {tumors.n} tumors overlaps with another."
    return Finding(
        key="cohort-tumors",
        title="Where the tumors are",
        claim=claim,
        table=tumors.to_frame(),
        caveats=(_ALIGNED,),
        method="Number of patients whose tumor mask covers each voxel of 4 mm in MNI152 space.",
        references=_MNI152,
        figure=lambda ax: tumor_planes(_low(new_axes(ax)), tumors),
        alt="Sagittal, coronal and axial slice of the template brain through the place that most tumors share; fuller "
        f"colors where more of the {tumors.n} tumors overlap, at most {most}. The participant's right is on the left.",
    )


def _low(ax: Any) -> Any:
    """Axes for one row of slices."""
    ax.figure.set_figheight(0.32 * ax.figure.get_figwidth())
    return ax


def _bundles(scores: pd.DataFrame, patients: pd.DataFrame) -> Finding:
    """Every bundle's scores against distance in a panel of its own, all with the same axes."""
    metric = METRICS[str(patients["metric"].iloc[0])]
    source = patients["model"].iloc[0]
    healthy = scores[(scores["group"] == "control") & (scores["model"] == source)]
    levels = patients[["bundle", "hemisphere"]].drop_duplicates().sort_values(["bundle", "hemisphere"])
    bundles = [Bundle(name=name, hemisphere=side) for name, side in levels.itertuples(index=False, name=None)]
    means = {one: _mean(_of(patients[patients["model"] == source], one)) for one in bundles}
    known = {one: mean for one, mean in means.items() if np.isfinite(mean)}
    worst, best = (_extreme(known, worst, metric) for worst in (True, False))
    unit = "" if metric.unit == "1" else f" {metric.unit}"

    def figure(ax: Any) -> Any:
        return _small_multiples(new_axes(ax), bundles, patients, healthy, metric.label)

    return Finding(
        key="cohort-bundles",
        title="Every bundle against distance",
        claim=f"Patients score worst in {_name(worst)}, on average {known[worst]:.2f}{unit}, and best in "
        f"{_name(best)}, {known[best]:.2f}{unit}.",
        table=patients[["participant_id", "bundle", "hemisphere", "model", "tumor_distance_mm", "value"]].reset_index(
            drop=True
        ),
        method=f"Running means with a Gaussian kernel of {_WIDTH_MM:.0f} mm, every patient of one weight.",
        figure=figure,
        alt=f"A panel a bundle, all with the same axes: each patient's {metric.label} by distance to the tumor in mm, "
        "with a running mean for each model, and the controls' mean as a dotted line.",
    )


def _extreme(means: Mapping[Bundle, float], worst: bool, metric: Metric) -> Bundle:
    lowest = worst == (metric.better == "higher")
    return (min if lowest else max)(means, key=lambda one: means[one])


def _name(bundle: Bundle) -> str:
    return bundle.name if bundle.hemisphere == "none" else f"{bundle.name} {bundle.hemisphere}"


def _small_multiples(ax: Any, bundles: list[Bundle], patients: pd.DataFrame, healthy: pd.DataFrame, label: str) -> Any:
    """Panels inside the axes: as axes of their own, each would be laid out several times, which takes seconds."""
    from matplotlib.ticker import MaxNLocator

    wide = ax.figure.get_figwidth() > _NARROW_INCHES
    n_columns = min(5 if wide else 2, len(bundles))
    n_rows = -(-len(bundles) // n_columns)
    ax.figure.set_figheight(0.7 + n_rows * (1.35 if wide else 1.2))
    ax.set(xlabel="Distance from tumor to bundle (mm)", ylabel=label)
    for side in ax.spines.values():
        side.set_visible(False)
    models = list(dict.fromkeys(patients["model"]))
    far, values = patients["tumor_distance_mm"].max(), pd.concat([patients["value"], healthy["value"]])
    ax.set(xlim=(-1, 1.05 * far), ylim=(min(0.0, values.min()), 1.05 * values.max()))
    # Ticks of the axes leave room for those of the panels, which the layout does not look at.
    ticks = [np.asarray(MaxNLocator(4).tick_values(*ends)) for ends in _limits(ax)]
    ticks = [each[(each >= low) & (each <= high)] for each, (low, high) in zip(ticks, _limits(ax), strict=True)]
    ax.set(xticks=ticks[0], yticks=ticks[1])
    ax.tick_params(length=0, colors="none")
    width, height = 1 / n_columns, 1 / n_rows
    for place, bundle in enumerate(bundles):
        row, column = divmod(place, n_columns)
        panel = ax.inset_axes((column * width, 1 - (row + 1) * height, 0.92 * width, 0.78 * height))
        _panel(panel, _of(patients, bundle), models, _mean(_of(healthy, bundle)))
        panel.set(xticks=ticks[0], yticks=ticks[1], xlim=ax.get_xlim(), ylim=ax.get_ylim())
        panel.set_in_layout(False)
        panel.set_title(_name(bundle), pad=2, loc="left")
        panel.tick_params(labelleft=column == 0, labelbottom=place + n_columns >= len(bundles))
    for place, model in enumerate(models):
        seen = look(place)
        ax.plot([], [], color=seen.color, marker=seen.marker, linestyle=seen.line, label=spoken_model(model, models[0]))
    ax.plot([], [], **_CONTROLS)
    legend_above(ax)
    return ax


def _limits(ax: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    return ax.get_xlim(), ax.get_ylim()


def _panel(panel: Any, own: pd.DataFrame, models: list[str], healthy: float) -> None:
    for place, model in enumerate(models):
        part, seen = own[own["model"] == model], look(place)
        x, y = part["tumor_distance_mm"].to_numpy(dtype=float), part["value"].to_numpy(dtype=float)
        panel.scatter(x, y, s=5, alpha=0.5, color=seen.color, marker=seen.marker, lw=0)
        if part["participant_id"].nunique() >= FEWEST:
            grid, kernel, _ = _kernel(part)
            panel.plot(grid, kernel @ y / kernel.sum(axis=1), color=seen.color, linestyle=seen.line)
    if np.isfinite(healthy):
        panel.axhline(healthy, **_CONTROLS)


_NARROW_INCHES = 4.5
