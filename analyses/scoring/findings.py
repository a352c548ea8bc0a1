"""What is told of one bundle in one hemisphere: performance against distance, along the bundle, and in the brain."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from ...results import Finding
from ...style import band, legend, look, new_axes
from ...types import Bundle, Volume
from ..statistics.inference import FEWEST, Array, Inference
from .error_maps import EDGE_MM, KINDS, ErrorPlaces
from .metrics import METRICS

_GROUPS = {"glioma": ("patients", look(1), "-"), "control": ("controls", look(0), "--")}
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
            axes.plot(curve["distance_mm"], curve["mean"], color=seen.color, linestyle=seen.line, label=model)
        if np.isfinite(healthy):
            axes.axhline(healthy, color="0.3", linewidth=0.8, linestyle=":", label="controls' mean")
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
    x, y = (points[column].to_numpy(dtype=float) for column in ("tumor_distance_mm", "value"))
    who, sessions = np.unique(points["participant_id"], return_inverse=True, return_counts=True)[1:]
    n = len(sessions)
    grid = np.linspace(0.0, x.max(), 60)
    # A participant's sessions share one weight, and are drawn together; the small number keeps far grid points defined.
    kernel = (np.exp(-0.5 * ((grid[:, None] - x[None, :]) / _WIDTH_MM) ** 2) + 1e-12) / sessions[who]
    drawn = inference.weights((n,))[:, who]
    low, high = _band((drawn * y) @ kernel.T / (drawn @ kernel.T), np.full(len(grid), n), inference)
    return pd.DataFrame({"distance_mm": grid, "mean": kernel @ y / kernel.sum(axis=1), "low": low, "high": high})


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
    most = {kind: float(places.share(kind).array.max()) for kind in KINDS}
    return Finding(
        key=f"bundle-{bundle.label}-errors",
        title="In the brain",
        claim=f"At the places where most patients agree, {most['missed']:.0%} of {places.n} patients miss the bundle "
        f"and {most['false']:.0%} have false voxels.",
        table=places.to_frame(),
        caveats=(
            "Participants are aligned by the extent of their brains only: the map shows where errors gather, not where "
            "exactly they are.",
        ),
        method="Share of patients with a missed or false voxel in each voxel of 4 mm in MNI152 space, as maximum "
        "projections.",
        references=("10.3389/fninf.2014.00014", "10.1016/j.neuroimage.2010.07.033"),
        figure=lambda ax: _glass(new_axes(ax), places, max(*most.values(), 0.01)),
        alt="Glass brains from the side, the back and above: fuller colors where more patients miss the bundle, in the "
        "upper row, or have false voxels, in the lower row.",
    )


def _glass(ax: Any, places: ErrorPlaces, most: float) -> Any:
    """Maximum projections from the right, the back and above, a row a kind of error, over the template's outline."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    ax.set_axis_off()
    lines: dict[str, Any] = {"colors": [ax.xaxis.label.get_color()], "linewidths": 0.5, "alpha": 0.6}
    for kind, bottom in zip(KINDS, (0.5, 0.0), strict=True):
        share = places.share(kind)
        # The palest third is left out: it cannot be seen on white, and outshines the rest on a dark page.
        colors = ListedColormap(colormaps["YlOrBr" if kind == "missed" else "Blues"](np.linspace(0.35, 1, 256)))
        shown: dict[str, Any] = {"cmap": colors, "norm": Normalize(0.0, most)}
        for through in range(3):
            panel = ax.inset_axes((0.02 + 0.29 * through, bottom, 0.28, 0.46))
            panel.set_axis_off()
            panel.set_aspect("equal")
            for *outline, level in _outlines(through):
                panel.contour(*outline, levels=[level], **lines)
            seen = share.array.max(axis=through).T
            (x, y), half = _grid(share, through), EDGE_MM / 2
            extent = (x[0] - half, x[-1] + half, y[0] - half, y[-1] + half)
            panel.imshow(np.ma.masked_equal(seen, 0), extent=extent, origin="lower", interpolation="nearest", **shown)
            if through > 0:
                for side, x in (("L", 0.04), ("R", 0.96)):
                    panel.text(x, 0.9, side, transform=panel.transAxes, ha="center", size=7)
        bar = ax.inset_axes((0.91, bottom + 0.03, 0.015, 0.38))
        ax.figure.colorbar(ScalarMappable(**shown), cax=bar)
        ax.text(0.0, bottom + 0.49, kind, transform=ax.transAxes, va="top")
    return ax


def _grid(volume: Volume, through: int) -> list[Array]:
    """World coordinates of the voxels' centers along the two axes that are not looked through, in mm."""
    shape = volume.array.shape
    at = [volume.world(np.arange(shape[axis])[:, None] * np.eye(3)[axis])[:, axis] for axis in range(3)]
    return [at[axis] for axis in range(3) if axis != through]


@cache
def _outlines(through: int) -> list[tuple[Array, Array, Array, float]]:
    """Silhouette of the template's brain, and the white matter in the slice through its middle, to be contoured."""
    from nilearn.datasets import load_mni152_template

    image: Any = load_mni152_template(resolution=4)
    brain = Volume(array=np.asarray(image.dataobj, dtype=np.float32), affine=image.affine)
    # Beside the midline, where the hemispheres part and no white matter lies.
    middle = np.take(brain.array, brain.array.shape[through] // 2 + (3 if through == 0 else 0), axis=through)
    x, y = _grid(brain, through)
    return [
        (x, y, brain.array.max(axis=through).T, 0.3),
        (x, y, middle.T, float(np.quantile(middle[middle > 0.3], 0.6))),
    ]
