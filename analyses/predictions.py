"""Predicted masks of a cohort, read one by one and brought onto the grid of the reference."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..images import read_image, same_grid
from ..images import resample as resample_onto
from ..types import Bundle, Case, Volume
from .nnunet import Channel


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the prediction of one bundle in one participant lies.

    Parameters
    ----------
    mask : Path or None
        A mask, or a label map.
    labels : tuple of int
        The values of a label map that mean this bundle; empty for a mask.
    probability : Path, Channel or None
        Voxel-wise probabilities.
    """

    mask: Path | None = None
    labels: tuple[int, ...] = ()
    probability: Path | Channel | None = None

    def read_mask(self, threshold: float | None) -> Volume:
        """The boolean mask: by the threshold where one is given and probabilities are there, else as written."""
        volume = self.read_probability() if self.mask is None or threshold is not None else None
        if volume is None:
            if self.mask is None:
                raise DataError("A prediction needs a mask or probabilities; this one has neither.")
            volume = _read(self.mask)
            if self.labels:
                return volume.with_array(np.isin(volume.array, self.labels))
        return volume.with_array(volume.array >= (0.5 if threshold is None else threshold))

    def read_probability(self) -> Volume | None:
        """Voxel-wise probabilities; None without any."""
        if isinstance(self.probability, Path):
            return _read(self.probability)
        return None if self.probability is None else self.probability.read()


@dataclass(frozen=True, kw_only=True)
class PredictedMasks:
    """The predictions of one model or tool for a cohort; made with `shiftkit.analyses.layouts.find_predictions`.

    Parameters
    ----------
    name : str
        For messages: the folder's or the cohort's name.
    model, modality : str
        As in the score table.
    cases : mapping of str to mapping of Bundle to Source
        By the case's key, such as ``sub-01`` or ``sub-01_ses-01``. The prefix ``sub-`` may be missing, and only letters
        and digits count, so that what another tool calls ``patient_7`` is found as ``sub-patient7``.
    """

    name: str
    model: str
    modality: str = "n/a"
    cases: Mapping[str, Mapping[Bundle, Source]] = field(default_factory=dict[str, Mapping[Bundle, Source]])

    @cached_property
    def bundles(self) -> set[Bundle]:
        """Every bundle that at least one case has."""
        return {bundle for sources in self.cases.values() for bundle in sources}

    def of(self, case: Case) -> Mapping[Bundle, Source] | None:
        """What was predicted for a case; None without a prediction."""
        return self._by_id.get(_identifier(case.key))

    def read_mask(
        self, case: Case, bundle: Bundle, reference: Volume | None, threshold: float | None, resample: bool
    ) -> Volume | None:
        """The predicted mask of a bundle, on the grid of its reference where there is one.

        Parameters
        ----------
        case, bundle : Case, Bundle
            Which.
        reference : Volume or None
            Gives the grid.
        threshold : float or None
            See `Source.read_mask`.
        resample : bool
            Resample what lies on another grid, linearly, with what is at least half covered inside.

        Returns
        -------
        Volume or None
            Boolean. Empty where the case has predictions but no file for a bundle that other cases have; None
            where the case has no prediction at all or nobody has this bundle.

        Raises
        ------
        DataError
            If the grids differ and ``resample`` is not set.
        """
        sources = self.of(case)
        if sources is None or bundle not in self.bundles:
            return None
        if bundle not in sources:
            nothing = Volume(array=np.zeros((1, 1, 1), dtype=bool), affine=np.eye(4))
            return nothing if reference is None else reference.with_array(np.zeros_like(reference.array))
        mask = sources[bundle].read_mask(threshold)
        if reference is None or same_grid(mask, reference):
            return mask
        covered = _bring_onto(
            mask.with_array(mask.array.astype(np.float32)), reference, resample, f"The mask of {bundle}"
        )
        return covered.with_array(covered.array >= 0.5)

    def read_probability(self, case: Case, bundle: Bundle, reference: Volume, resample: bool) -> Volume | None:
        """The voxel-wise probability of a bundle on the grid of its reference; None without one."""
        source = (self.of(case) or {}).get(bundle)
        probability = None if source is None else source.read_probability()
        if probability is None:
            return None
        if same_grid(probability, reference):
            return probability
        return _bring_onto(probability, reference, resample, f"The probability of {bundle}")

    @cached_property
    def _by_id(self) -> dict[str, Mapping[Bundle, Source]]:
        return {_identifier(key): sources for key, sources in self.cases.items()}


def _identifier(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", key.removeprefix("sub-"))


def _bring_onto(volume: Volume, reference: Volume, allowed: bool, what: str) -> Volume:
    if not allowed:
        raise DataError(
            f"{what} must lie on the grid of its reference; it has shape {volume.shape}, voxels of "
            f"{_in_words(volume)}, the reference {reference.shape} and {_in_words(reference)}. Resample it, or ask for "
            "that with --resample."
        )
    return resample_onto(volume, reference.affine, reference.shape)


def _in_words(volume: Volume) -> str:
    x, y, z = volume.spacing_mm
    origin = ", ".join(f"{value:.1f}" for value in volume.affine[:3, 3])
    return f"{x:.2f} × {y:.2f} × {z:.2f} mm ({volume.orientation}, origin at {origin} mm)"


def _read(path: Path) -> Volume:
    volume = read_image(path)
    if volume.array.ndim != 3:
        raise DataError(f"{path} must have three axes, one file a bundle; it has shape {volume.array.shape}.")
    return volume.with_array(np.nan_to_num(volume.array, copy=False))
