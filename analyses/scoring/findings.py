"""What is told of one bundle in one hemisphere: performance against distance, along the bundle, and in the brain."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...results import Finding
from ...types import Bundle
from .error_maps import KINDS, ErrorPlaces
from .metrics import METRICS

_COLORS = {"glioma": "#D55E00", "control": "#0072B2"}
_STYLES = {"glioma": "-", "control": "--"}
_MARKERS = ("o", "s", "D", "^")
_NAMES = {"glioma": "patients", "control": "controls"}
_WIDTH_MM = 10.0
_DRAWS = 500
_LEVEL = 0.95


def bundle_findings(
    scores: pd.DataFrame, sections: pd.DataFrame | None = None, places: Mapping[Bundle, ErrorPlaces] | None = None
) -> dict[Bundle, tuple[Finding, ...]]:
    """Findings of every bundle and hemisphere that patients have scores of.

    Parameters
    ----------
    scores : DataFrame
        Columns of `shiftkit.catalogue.SCORES`, one metric.
    sections : DataFrame, optional
        Columns of `shiftkit.catalogue.SECTIONS`, of patients and controls.
    places : mapping of Bundle to ErrorPlaces, optional
        Where in the brain the patients' predictions err.

    Returns
    -------
    dict of Bundle to tuple of Finding
    """
    patients = scores[scores["group"] == "glioma"]
    names = patients[["bundle", "hemisphere"]].drop_duplicates().itertuples(index=False, name=None)
    made: dict[Bundle, tuple[Finding, ...]] = {}
    for name, hemisphere in names:
        bundle = Bundle(name=name, hemisphere=hemisphere)
        found = [against_distance(_of(scores, bundle), bundle)]
        if sections is not None and len(_of(sections, bundle)):
            found.append(along(_of(sections, bundle), bundle))
        if places is not None and bundle in places:
            found.append(in_the_brain(places[bundle], bundle))
        made[bundle] = tuple(found)
    return dict(sorted(made.items()))


def _of(frame: pd.DataFrame, bundle: Bundle) -> pd.DataFrame:
    return frame[(frame["bundle"] == bundle.name) & (frame["hemisphere"] == bundle.hemisphere)]


def against_distance(scores: pd.DataFrame, bundle: Bundle) -> Finding:
    """Each patient's score against the distance from the tumor, with a running mean and the controls' mean."""
    metric = METRICS[str(scores["metric"].iloc[0])].label
    patients = scores[(scores["group"] == "glioma") & scores["value"].notna() & scores["tumor_distance_mm"].notna()]
    healthy = scores.loc[(scores["group"] == "control") & scores["value"].notna(), "value"]
    source = scores["model"].iloc[0]
    healthy_mean = float(healthy[scores["model"] == source].mean()) if len(healthy) else float("nan")
    curves = {str(model): _running_mean(part) for model, part in patients.groupby("model", sort=False)}

    def figure(ax: Any) -> Any:
        axes = _axes(ax)
        for place, (model, part) in enumerate(patients.groupby("model", sort=False)):
            color, style = list(_COLORS.values())[::-1][place % 2], ("-", "--", ":", "-.")[place % 4]
            marker = _MARKERS[place % len(_MARKERS)]
            axes.scatter(part["tumor_distance_mm"], part["value"], s=12, alpha=0.6, color=color, marker=marker, lw=0)
            curve = curves[str(model)]
            axes.fill_between(curve["distance_mm"], curve["low"], curve["high"], color=color, alpha=0.2, lw=0)
            axes.plot(curve["distance_mm"], curve["mean"], color=color, linestyle=style, label=str(model))
        if np.isfinite(healthy_mean):
            axes.axhline(healthy_mean, color="0.3", linewidth=0.8, linestyle=":", label="controls' mean")
        axes.set_xlabel("Distance from tumor to bundle (mm)")
        axes.set_ylabel(metric)
        axes.set_xlim(left=-1)
        axes.legend(frameon=False)
        return axes

    n = patients["participant_id"].nunique()
    return Finding(
        key=f"bundle-{bundle.label}-distance",
        place="distance",
        title="Against distance to the tumor",
        claim=_distance_claim(patients[patients["model"] == source], healthy_mean, n),
        table=patients[["participant_id", "model", "tumor_distance_mm", "value"]].reset_index(drop=True),
        caveats=("Not a test: the decomposition tests whether performance depends on the distance.",),
        method=f"Running mean with a Gaussian kernel of {_WIDTH_MM:.0f} mm; band: pointwise 95 % percentile bootstrap.",
        figure=figure,
        alt=f"Each patient's {metric} by distance to the tumor, with a running mean and its band for each model, and "
        "the controls' mean.",
    )


def _distance_claim(patients: pd.DataFrame, healthy: float, n: int) -> str:
    if not len(patients):
        return "No patient has a score and a distance."
    against = f", controls on average {healthy:.2f}" if np.isfinite(healthy) else ""
    return f"The {n} patients score {patients['value'].mean():.2f} on average{against}."


def _running_mean(points: pd.DataFrame) -> pd.DataFrame:
    """Kernel-weighted mean on a grid of distances, with a pointwise bootstrap band; one row a participant goes in."""
    x = points["tumor_distance_mm"].to_numpy(dtype=float)
    y = points["value"].to_numpy(dtype=float)
    grid = np.linspace(0.0, x.max(), 60)
    kernel = np.exp(-0.5 * ((grid[:, None] - x[None, :]) / _WIDTH_MM) ** 2) + 1e-12
    generator = np.random.default_rng(0)  # a drawing must look the same each time
    counts = generator.multinomial(len(x), np.full(len(x), 1 / len(x)), size=_DRAWS).astype(float)
    drawn = (counts * y) @ kernel.T / (counts @ kernel.T)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0) if len(x) > 2 else np.full((2, len(grid)), np.nan)
    return pd.DataFrame({"distance_mm": grid, "mean": kernel @ y / kernel.sum(axis=1), "low": low, "high": high})


def along(sections: pd.DataFrame, bundle: Bundle) -> Finding:
    """Dice in each section along the bundle, patients against controls."""
    groups = [group for group in ("glioma", "control") if (sections["group"] == group).any()]
    profile = pd.concat([_profile(sections[sections["group"] == group], group) for group in groups])

    def figure(ax: Any) -> Any:
        axes = _axes(ax)
        for group in groups:
            rows = profile[profile["group"] == group]
            axes.fill_between(rows["section"], rows["low"], rows["high"], color=_COLORS[group], alpha=0.2, lw=0)
            axes.plot(
                rows["section"],
                rows["dice"],
                color=_COLORS[group],
                linestyle=_STYLES[group],
                marker="o" if group == "glioma" else "s",
                markersize=3,
                label=_NAMES[group],
            )
        axes.set_xlabel("Section, from the posterior, inferior or lateral end")
        axes.set_ylabel("Dice")
        axes.set_xticks(sorted(profile["section"].unique()))
        axes.legend(frameon=False)
        return axes

    return Finding(
        key=f"bundle-{bundle.label}-sections",
        title="Along the bundle",
        claim=_profile_claim(profile),
        table=profile.reset_index(drop=True),
        method="Sections of equal length along the reference; a predicted voxel belongs to the section of the nearest "
        "reference voxel. Mean over participants, pointwise 95 % percentile bootstrap over participants.",
        figure=figure,
        alt="Mean Dice in sections along the bundle with bands, patients as a solid and controls as a dashed line.",
    )


def _profile(rows: pd.DataFrame, group: str) -> pd.DataFrame:
    wide = rows.pivot_table(index="participant_id", columns="section", values="dice", dropna=False)
    values: NDArray[np.float64] = wide.to_numpy(dtype=float)
    generator = np.random.default_rng(0)
    counts = generator.multinomial(len(values), np.full(len(values), 1 / len(values)), size=_DRAWS).astype(float)
    given = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = counts @ np.nan_to_num(values) / (counts @ given)
        mean = np.nan_to_num(values).sum(axis=0) / given.sum(axis=0)
    enough = given.sum(axis=0) > 2
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0) if enough.any() else np.full((2, len(mean)), np.nan)
    return pd.DataFrame(
        {
            "group": group,
            "section": wide.columns.to_numpy(dtype=int),
            "dice": mean,
            "low": np.where(enough, low, np.nan),
            "high": np.where(enough, high, np.nan),
            "n": given.sum(axis=0),
        }
    )


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

    def figure(ax: Any) -> Any:
        return _glass(_axes(ax), places, max(*most.values(), 0.01))

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
        references=("10.3389/fninf.2014.00014",),
        figure=figure,
        alt="Glass brains from the side, the back and above: fuller colors where more patients miss the bundle, in the "
        "upper row, or have false voxels, in the lower row.",
    )


def _glass(ax: Any, places: ErrorPlaces, most: float) -> Any:
    import nibabel as nib
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from nilearn.plotting import plot_glass_brain

    ax.set_axis_off()
    for kind, bottom in zip(KINDS, (0.5, 0.0), strict=True):
        share = places.share(kind)
        # The palest third is left out: it cannot be seen on white, and outshines the rest on a dark page.
        colors = colormaps["YlOrBr" if kind == "missed" else "Blues"](np.linspace(0.35, 1, 256))
        display = plot_glass_brain(
            nib.Nifti1Image(share.array, share.affine),
            figure=ax.figure,
            axes=(0.0, bottom, 0.93, 0.5),
            display_mode="ortho",
            cmap=ListedColormap(colors),
            vmin=0.0,
            vmax=most,
            colorbar=True,
            annotate=False,
            threshold=1e-6,
            symmetric_cbar=False,
        )
        for one in display.axes.values():
            one.draw_left_right(size=7, bg_color="none", color=ax.xaxis.label.get_color())
        ax.figure.text(0.01, bottom + 0.46, kind, va="top")
    return ax


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(5.2, 3.2), layout="constrained")[1]
