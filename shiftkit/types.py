"""The nouns of shiftkit: few, frozen, made with keywords.

Arrays live in a `Volume` (array and affine, world space RAS+ in millimetres); a `Case` is one
participant's images on disk, a `Cohort` an ordered set of them, `Predictions` a cohort whose masks a
model made.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .errors import ConfigError, DataError, ModelMismatchError
from .words import nearest, readable

Hemisphere = Literal["left", "right", "none"]
MODALITIES: dict[str, int] = {"t1w": 1, "fa": 1, "ap": 1, "peaks": 9}
"""The modalities that have a name of their own, with their number of channels."""


_LONGEST_LABEL = 60
"""Letters of a bundle's label: it is part of file names, which have at most 255."""


@dataclass(frozen=True, kw_only=True, order=True)
class Bundle:
    """A white-matter bundle in one hemisphere.

    Parameters
    ----------
    name : str
        Letters and digits, such as ``"AF"``.
    hemisphere : {"left", "right", "none"}
        ``"none"`` for bundles that cross or lie on the midline.

    Examples
    --------
    >>> Bundle.parse("AFleft")
    Bundle(name='AF', hemisphere='left')
    >>> Bundle.parse("CC").label
    'CC'
    >>> Bundle.parse("AFleft").mirrored.label
    'AFright'
    """

    name: str
    hemisphere: Hemisphere = "none"

    @classmethod
    def parse(cls, label: str) -> Self:
        """Read the value of a ``label-`` entity, such as ``AFleft`` or ``CC``.

        Raises
        ------
        DataError
            If the label is not made of letters and digits.
        """
        # The name is taken lazily, or it would swallow the side.
        match = re.fullmatch(r"([A-Za-z0-9]+?)(left|right)?", label) if len(label) <= _LONGEST_LABEL else None
        if match is None:
            got = readable(label)[:_LONGEST_LABEL]
            raise DataError(f"A bundle label holds letters and digits only, as in 'AFleft'; got {got!r}.")
        hemisphere: Hemisphere = match[2] or "none"  # type: ignore[assignment]
        return cls(name=match[1], hemisphere=hemisphere)

    @property
    def label(self) -> str:
        """Name and hemisphere in one word, as in file names."""
        return self.name if self.hemisphere == "none" else f"{self.name}{self.hemisphere}"

    @property
    def mirrored(self) -> Self:
        """The same bundle in the other hemisphere; itself on the midline."""
        other: dict[Hemisphere, Hemisphere] = {"left": "right", "right": "left", "none": "none"}
        return replace(self, hemisphere=other[self.hemisphere])

    def __str__(self) -> str:
        return self.label


@dataclass(frozen=True, kw_only=True)
class Volume:
    """An image in memory.

    Parameters
    ----------
    array : ndarray, shape (X, Y, Z) or (X, Y, Z, C)
        Voxel values; channels come last.
    affine : ndarray, shape (4, 4)
        From voxel indices to world coordinates, RAS+ in millimetres.

    Raises
    ------
    DataError
        If the array does not have three or four axes or the affine is not invertible.

    Examples
    --------
    >>> volume = Volume(array=np.zeros((4, 5, 6)), affine=np.diag([-2.0, 2, 2.5, 1]))
    >>> volume.spacing_mm
    (2.0, 2.0, 2.5)
    >>> volume.orientation
    'LAS'
    >>> volume.world(np.array([[1, 1, 2]])).tolist(), volume.voxels(np.array([[-2.0, 2, 5]])).tolist()
    ([[-2.0, 2.0, 5.0]], [[1.0, 1.0, 2.0]])
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, dtype=np.float64)
        if self.array.ndim not in (3, 4):
            raise DataError(f"An image has three axes, or four with channels last; got shape {self.array.shape}.")
        # Less than a cubic micrometer is no voxel: an axis is missing.
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise DataError(f"An affine is an invertible 4 × 4 matrix of finite numbers; got {affine.tolist()}.")
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The spatial shape, in voxels."""
        x, y, z = self.array.shape[:3]
        return x, y, z

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel, in millimetres."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel, in milliliters."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    @property
    def orientation(self) -> str:
        """The directions in which the three voxel axes run, such as ``"RAS"``."""
        import nibabel as nib

        return "".join(str(code) for code in nib.aff2axcodes(self.affine))  # pyright: ignore

    def world(self, voxels: NDArray[Any]) -> NDArray[np.float64]:
        """Places in the world, in mm, of voxel indices, shape (N, 3); fractions of a voxel too."""
        return voxels @ self.affine[:3, :3].T + self.affine[:3, 3]

    def voxels(self, points_mm: NDArray[Any]) -> NDArray[np.float64]:
        """Voxel indices, with fractions, of places in the world, shape (N, 3) in mm."""
        inverse = np.linalg.inv(self.affine)
        return points_mm @ inverse[:3, :3].T + inverse[:3, 3]

    def points_inside(self) -> NDArray[np.float64]:
        """Places in the world, in mm, of the voxels that are not 0, in the order of ``np.argwhere``."""
        return self.world(np.argwhere(self.array))

    def with_array(self, array: NDArray[Any]) -> Self:
        """The same grid with other voxel values."""
        return replace(self, array=array)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One participant (and session) of a cohort; images are paths and load on request.

    Parameters
    ----------
    participant_id, session : str
        With their prefixes, such as ``"sub-01"`` and ``"ses-01"``; session may be None.
    images : mapping of str to Path
        One file a modality (``t1w ap fa peaks`` or any scalar map).
    masks : mapping of Bundle to Path
        One file a bundle: reference masks in a cohort, predicted ones in predictions.
    probabilities : mapping of Bundle to Path
        Voxel-wise probabilities, where a model wrote them.
    tumor, tumor_core : Path or None
        The tumor mask, and that of its core where it is told apart from infiltration and edema.
    attributes : mapping of str to str
        The participant's row of ``participants.tsv``, without missing values.
    """

    participant_id: str
    session: str | None = None
    images: Mapping[str, Path] = field(default_factory=dict[str, Path])
    masks: Mapping[Bundle, Path] = field(default_factory=dict[Bundle, Path])
    probabilities: Mapping[Bundle, Path] = field(default_factory=dict[Bundle, Path])
    tumor: Path | None = None
    tumor_core: Path | None = None
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def key(self) -> str:
        """Participant and session in one word: the prefix of the case's file names."""
        return self.participant_id if self.session is None else f"{self.participant_id}_{self.session}"

    @property
    def group(self) -> str:
        """``control``, ``glioma``, or ``n/a`` when the table does not say."""
        return self.attributes.get("group", "n/a")

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """The bundles that have a mask, sorted."""
        return tuple(sorted(self.masks))

    def number(self, column: str) -> float:
        """A numeric column of ``participants.tsv``; NaN where it is missing, 89 for ``89+``, as BIDS has high ages.

        Raises
        ------
        DataError
            If the value is there and is no number, or infinite.
        """
        text = self.attributes.get(column)
        if text is None:
            return float("nan")
        try:
            # BIDS has people above 89 written as 89+, so that nobody is known by their age.
            number = float(text.removesuffix("+") if column == "age" else text)
        except ValueError:
            number = math.inf
        if math.isinf(number):
            raise DataError(f"{column} of {self.participant_id} must be a number or n/a; got {text[:40]!r}.")
        return number


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """An ordered set of cases that share one folder.

    Parameters
    ----------
    name, root : str, Path
        How tables and reports call it, and its folder.
    cases : tuple of Case
        Sorted by participant and session.
    description : mapping
        The content of ``dataset_description.json``.
    """

    name: str
    root: Path
    cases: tuple[Case, ...]
    description: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __getitem__(self, participant_id: str | int) -> Case:
        """The first case of a participant, by id, or the case in a place; `KeyError` or `IndexError` without one."""
        if isinstance(participant_id, int):
            return self.cases[participant_id]
        for case in self.cases:
            if participant_id in (case.participant_id, case.key):
                return case
        raise KeyError(f"{participant_id} is not in cohort {self.name}")

    @cached_property
    def bundles(self) -> tuple[Bundle, ...]:
        """Every bundle that at least one case has, sorted."""
        return tuple(sorted({bundle for case in self.cases for bundle in case.masks}))

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """Every modality that at least one case has, sorted."""
        return tuple(sorted({modality for case in self.cases for modality in case.images}))

    def only(self, bundles: Iterable[Bundle]) -> Self:
        """The same cases with the masks of these bundles alone."""
        kept = frozenset(bundles)
        if kept.issuperset(self.bundles):
            return self
        cases = (
            replace(
                case,
                masks={bundle: path for bundle, path in case.masks.items() if bundle in kept},
                probabilities={bundle: path for bundle, path in case.probabilities.items() if bundle in kept},
            )
            for case in self.cases
        )
        return replace(self, cases=tuple(cases))

    def require_input(self, model: str, modality: str) -> None:
        """Refuse, with a `ModelMismatchError`, a cohort in which nobody has the images that a model reads."""
        if not any(set(modality.split("+")) <= set(case.images) for case in self.cases):
            raise ModelMismatchError(
                f"Model {model} reads {modality.replace('+', ' and ')}; no participant of {self.name} has that, there "
                f"is {' '.join(self.modalities) or 'no image'}. Add the images, with shiftkit prepare from raw "
                "diffusion data, or name a model for those that are there."
            )

    def where(self, keep: Callable[[Case], bool] | None = None, /, **attributes: str | Sequence[str]) -> Self:
        """The cases that satisfy a predicate and have the given attributes.

        Examples
        --------
        >>> controls = [Case(participant_id="sub-1", attributes={"group": "control", "split": "test"})]
        >>> cohort = Cohort(name="healthy", root=Path("."), cases=tuple(controls))
        >>> len(cohort.where(group="control", split=("val", "test")))
        1
        """

        def matches(case: Case) -> bool:
            return all(
                case.attributes.get(name) in ([wanted] if isinstance(wanted, str) else wanted)
                for name, wanted in attributes.items()
            ) and (keep is None or keep(case))

        return replace(self, cases=tuple(case for case in self.cases if matches(case)))

    def labeled(self, labels: Sequence[str]) -> Self:
        """The cases of the participants with these labels, ``sub-`` before them or not; all of them without a label.

        A `ConfigError` that names labels of nobody, with the nearest there are.

        Examples
        --------
        >>> cohort = Cohort(name="c", root=Path("."), cases=tuple(Case(participant_id=f"sub-0{i}") for i in range(3)))
        >>> [case.key for case in cohort.labeled(["02", "sub-01"])]
        ['sub-01', 'sub-02']
        """
        if not labels:
            return self
        there = list(dict.fromkeys(case.participant_id for case in self.cases))
        wanted = {f"sub-{label.removeprefix('sub-')}": label for label in labels}
        if lost := [name for name in wanted if name not in there]:
            raise ConfigError(
                f"`participant_label` names participants of {self.name}, of whom there are {len(there)}; "
                f"{', '.join(lost[:5])} {'is' if len(lost) == 1 else 'are'} none{nearest(lost[0], there) or '.'}"
            )
        return self.where(lambda case: case.participant_id in wanted)

    def to_frame(self) -> pd.DataFrame:
        """One row a case: identifiers, attributes, and what files there are."""
        return pd.DataFrame(
            [
                {
                    "participant_id": case.participant_id,
                    "session": case.session,
                    **case.attributes,
                    "modalities": " ".join(sorted(case.images)),
                    "n_bundles": len(case.masks),
                    "tumor_mask": case.tumor is not None,
                }
                for case in self.cases
            ]
        )

    def __str__(self) -> str:
        groups = pd.Series([case.group for case in self.cases], dtype=str).value_counts()
        counted = ", ".join(f"{count} {group}" for group, count in sorted(groups.items()))
        names = " ".join(dict.fromkeys(bundle.name for bundle in self.bundles))
        return f"Cohort {self.name}: {len(self)} cases ({counted}); {' '.join(self.modalities)}; bundles {names}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(str(self))}</p>" + self.to_frame().to_html(index=False, max_rows=10)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What one model predicted for a cohort, on disk: again a cohort, with predicted masks.

    Parameters
    ----------
    cohort : Cohort
        Its cases hold predicted masks, and probabilities where they were written.
    model : str
        Name of the model, or of the tool that made the masks.
    modality : str
        The input the masks were made from; ``"n/a"`` where it is not known.
    failed : mapping of str to str
        Cases without a prediction, with the reason.

    Examples
    --------
    >>> made = Cohort(name="made", root=Path("."), cases=(Case(participant_id="sub-01"), Case(participant_id="sub-02")))
    >>> predictions = Predictions(cohort=made, model="mine", modality="peaks")
    >>> predictions["sub-02"] == predictions[1], [case.key for case in predictions]
    (True, ['sub-01', 'sub-02'])
    """

    cohort: Cohort
    model: str
    modality: str
    failed: Mapping[str, str] = field(default_factory=dict[str, str])

    def __len__(self) -> int:
        return len(self.cohort)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cohort)

    def __getitem__(self, participant_id: str | int) -> Case:
        """The masks of a participant, by id, or of the case in a place; `KeyError` or `IndexError` without one."""
        return self.cohort[participant_id]
