"""What differs between the images themselves: spacing, intensity, contrast, noise, sharpness, histogram."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from ...catalogue import IMAGES
from ...cohorts.peaks import load_peaks
from ...distances import edge_distance_map
from ...errors import DataError
from ...geometry import resample, same_grid
from ...images import read_image, read_mask
from ...status import Status
from ...types import Case, Cohort, Volume
from ...work import Work
from ..statistics.inference import Inference, jackknife_interval, p_value, standardized, status_of
from .findings import image_finding, told
from .result import ImageShift
from .samples import FEWEST
from .study import adjusted

Array = NDArray[np.float64]
UNITS = {
    "spacing": "mm",
    "intensity": "image units",
    "contrast": "1",
    "noise": "share of the range",
    "sharpness": "share of the range per mm",
    "histogram": "share of the range",
}
"""Properties and the units of their means; the range is that from the 1st to the 99th percentile."""
_AWAY_MM = 20.0  # from the tumor, so that what is compared is the scan, not the lesion
_FEWEST_VOXELS = 100
_QUANTILES = np.linspace(0.01, 0.99, 99)


def image_shift(
    patients: Cohort,
    controls: Cohort,
    *,
    inference: Inference = Inference(n_permutations=1000),
    work: Work = Work(),
) -> ImageShift:
    """Compare the images of controls and patients, modality by modality and channel by channel.

    Modalities that both have are compared, a `DataError` if there is none; of peaks, the lengths of the first, second
    and third.
    """
    modalities = sorted(set(patients.modalities) & set(controls.modalities))
    if not modalities:
        raise DataError(
            f"Images are compared modality by modality; {patients.name} has {' '.join(patients.modalities) or 'none'}, "
            f"{controls.name} has {' '.join(controls.modalities) or 'none'}."
        )
    cases = [*controls, *patients]
    read = list(work.map(partial(_measure_case, modalities=modalities), cases, "Measuring images"))
    skipped = tuple(problem for _, problems in read for problem in problems)
    frames = [
        pd.DataFrame(rows).assign(participant_id=case.participant_id, patient=number >= len(controls))
        for number, (case, (rows, _)) in enumerate(zip(cases, read, strict=True))
        if rows
    ]
    if not frames:
        raise DataError(f"No image could be read; the first problem: {skipped[0]}")
    measures = pd.concat(frames, ignore_index=True)
    shift = ImageShift(table=_compared(measures, inference), skipped=skipped)
    return told(shift, image_finding(shift))


def _measure_case(case: Case, modalities: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for modality in modalities:
        if modality not in case.images:
            continue
        try:
            image = load_peaks(case) if modality == "peaks" else read_image(case.images[modality])
            channels = _channels(image, modality)
            away = _away_from_tumor(case, image)
            for number, channel in enumerate(channels, start=1):
                measured = measure(channel, away & (channel != 0), image.spacing_mm)
                rows.append({"modality": modality, "channel": str(number), **measured})
        except DataError as error:
            problems.append(f"{case.key} {modality}: {error}")
    return rows, problems


def _channels(image: Volume, modality: str) -> list[NDArray[np.float32]]:
    array = np.nan_to_num(image.array)
    if array.ndim == 3:
        return [array]
    if modality == "peaks":
        return [np.linalg.norm(array[..., start : start + 3], axis=-1) for start in range(0, array.shape[3], 3)]
    return list(np.moveaxis(array, -1, 0))


def _away_from_tumor(case: Case, image: Volume) -> NDArray[np.bool_]:
    if case.tumor is not None:
        tumor = read_mask(case.tumor)
        if not same_grid(tumor, image):
            tumor = resample(tumor.with_array(tumor.array.astype(np.float32)), image.affine, image.shape)
        inside = tumor.array > 0.5
        if inside.any():
            return edge_distance_map(inside, image.spacing_mm) >= _AWAY_MM
    return np.ones(image.shape, dtype=bool)


def measure(image: NDArray[Any], inside: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> dict[str, Any]:
    """Properties of one channel by the voxels ``inside``: those of `UNITS`, and ``quantiles`` over their own range.

    NaN where fewer than a hundred voxels count, or all are equal.
    """
    measured: dict[str, Any] = dict.fromkeys(UNITS, float("nan"))
    measured |= {"spacing": float(max(spacing_mm)), "quantiles": np.full(len(_QUANTILES), np.nan)}
    values = image[inside].astype(float)
    if values.size < _FEWEST_VOXELS:
        return measured
    low, p5, median, p95, high = np.percentile(values, [1, 5, 50, 95, 99])
    scale = high - low
    if scale <= 0:
        return measured
    measured |= {"intensity": float(median), "quantiles": (np.quantile(values, _QUANTILES) - low) / scale}
    if median:
        measured["contrast"] = float((p95 - p5) / abs(median))
    # Differences reach one voxel further: the outermost voxels would measure the edge of the brain.
    core: NDArray[np.bool_] = np.asarray(ndimage.binary_erosion(inside), dtype=bool)
    if core.any():
        image = image.astype(np.float32)
        steps = np.stack([np.gradient(image, step, axis=axis)[core] for axis, step in enumerate(spacing_mm)])
        # The second difference along the axes is blind to any linear change. On independent noise its variance is 42
        # voxels' variances: 6² for the voxel itself and 1 for each of its six neighbors.
        second = np.sum([ndimage.convolve1d(image, [1, -2, 1], axis=axis) for axis in range(3)], axis=0)
        residual: NDArray[Any] = second[core] / np.sqrt(42)
        # 1.4826 times the median absolute deviation is a normal distribution's standard deviation.
        measured["noise"] = float(1.4826 * np.median(np.abs(residual - np.median(residual))) / scale)
        measured["sharpness"] = float(np.percentile(np.linalg.norm(steps, axis=0), 95) / scale)
    return measured


def _compared(measures: pd.DataFrame, inference: Inference) -> pd.DataFrame:
    rng = inference.generator()
    people = measures.drop_duplicates("participant_id")[["participant_id", "patient"]]
    patient = people["patient"].to_numpy(dtype=bool)
    labels = np.repeat(patient[:, None], inference.n_permutations + 1, axis=1)
    labels[:, 1:] = rng.permuted(labels[:, 1:], axis=0)
    place = {name: number for number, name in enumerate(people["participant_id"])}
    rows: list[dict[str, Any]] = []
    for (modality, channel), part in measures.groupby(["modality", "channel"], sort=True):
        part = part.assign(histogram=_histogram_distance(part))
        for name, unit in UNITS.items():
            if name == "spacing" and channel != "1":
                continue  # all channels of an image have the same
            mean = part.groupby("participant_id")[name].mean().dropna()
            row = _difference(mean.to_numpy(), labels[[place[name] for name in mean.index]], inference.level)
            rows.append({"modality": modality, "channel": channel, "property": name, "unit": unit, **row})
    return adjusted(rows)[list(IMAGES.columns)]


def _histogram_distance(part: pd.DataFrame) -> list[float]:
    """Wasserstein-1 distance to the controls' mean histogram; a control is compared with the other controls."""
    quantiles = np.stack(part["quantiles"].tolist())
    controls = ~part["patient"].to_numpy(dtype=bool) & np.isfinite(quantiles).all(axis=1)
    total, n = quantiles[controls].sum(axis=0), int(controls.sum())
    made: list[float] = []
    for row, control in zip(quantiles, controls, strict=True):
        others = n - control
        mean = (total - row) / others if control and others else total / others if others else np.full_like(row, np.nan)
        made.append(float(np.abs(row - mean).mean()))
    return made


def _difference(values: Array, labels: NDArray[np.bool_], level: float) -> dict[str, Any]:
    """Hedges' g of one property with interval, p-value and ``null``; see `.study.adjusted`."""
    target = labels.astype(float)
    n_target, n_source = int(target[:, 0].sum()), int(len(values) - target[:, 0].sum())
    numbers = ("controls", "patients", "difference", "low", "high", "p_value", "p_adjusted")
    row: dict[str, Any] = dict.fromkeys(numbers, float("nan"))
    row |= {"n_source": n_source, "n_target": n_target, "status": Status.TOO_FEW}
    if n_source and n_target:
        row["controls"], row["patients"] = (float(values[labels[:, 0] == one].mean()) for one in (False, True))
    if min(n_source, n_target) < FEWEST:
        return row
    found = _hedges(values, target, np.ones((len(values), 1)))
    if not np.isfinite(found[0]):
        return row | {"status": Status.CONSTANT}
    left_out = _hedges(values, target[:, :1], 1 - np.eye(len(values)))
    low, high = jackknife_interval(float(found[0]), left_out, labels[:, 0], level)
    magnitude = np.abs(np.nan_to_num(found))
    row |= {"difference": float(found[0]), "low": low, "high": high, "status": status_of(n_target, FEWEST)}
    return row | {"p_value": p_value(float(magnitude[0]), magnitude[1:]), "null": standardized(magnitude)}


def _hedges(values: Array, target: Array, keep: Array) -> Array:
    """Standardized mean difference with the small-sample correction, for columns of labels."""
    # A column for each labeling or participant left out: all differences from a few matrix products.
    t, s = target * keep, (1 - target) * keep
    n_t, n_s = t.sum(axis=0), s.sum(axis=0)
    m_t, m_s = values @ t / n_t, values @ s / n_s
    squares = (values**2) @ t - n_t * m_t**2 + (values**2) @ s - n_s * m_s**2
    freedom = n_t + n_s - 2
    scale = np.abs(values).max()
    # What is left of constant values is rounding.
    variance = np.where(squares > 1e-12 * max(scale**2, 1e-300) * len(values), squares / freedom, np.nan)
    return np.asarray((m_t - m_s) / np.sqrt(variance) * (1 - 3 / (4 * freedom - 1)))
