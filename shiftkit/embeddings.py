"""Feature vectors of participants' regions, in memory and on disk: one row a participant and region."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .files import array_shapes, atomic

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float32]
COLUMNS = ("participant_id", "group", "tumor_side", "fold", "region", "bundle", "hemisphere", "volume_ml")
"""Who and where; ``fold`` says which of a fine-tuned model's networks made the row."""
_SHELL = "shell "
_MOST_NUMBERS = 2**27
"""Of one participant's vectors, letters of its rows included: half a GiB, a thousand times what networks here make."""


def shell_region(low_mm: float, high_mm: float) -> str:
    """The region between two distances to the tumor.

    Examples
    --------
    >>> shell_region(0, 10), shell_region(40, float("inf"))
    ('shell 0-10 mm', 'shell >40 mm')
    """
    return f"{_SHELL}{low_mm:g}-{high_mm:g} mm" if np.isfinite(high_mm) else f"{_SHELL}>{low_mm:g} mm"


def shell_distance(region: str) -> str:
    """The distances of a shell, such as ``0-10 mm``; empty for any other region."""
    return region.removeprefix(_SHELL) if region.startswith(_SHELL) else ""


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """What a network makes of each region of each participant.

    Parameters
    ----------
    rows : DataFrame
        Columns `COLUMNS`. ``region`` is ``reference`` (pooled inside the reference mask), ``mirror`` (inside the
        mirror image of the other hemisphere's mask), ``predicted`` (weighted by the predicted probability),
        ``brain``, or what `shell_region` names. ``hemisphere`` is where the region lies.
    layers : mapping of str to ndarray, shape (rows, channels)
        Mean of each channel over the region, from the input down and up again.
    """

    model: str
    modality: str
    rows: "pd.DataFrame"
    layers: Mapping[str, Array]

    def __post_init__(self) -> None:
        missing = [name for name in COLUMNS if name not in self.rows]
        if missing:
            raise DataError(f"Embeddings say who and where each row is; columns {', '.join(missing)} are missing.")
        for name, vectors in self.layers.items():
            if vectors.ndim != 2 or len(vectors) != len(self.rows):
                raise DataError(
                    f"A layer has one vector a row; {name} has shape {vectors.shape} for {len(self.rows)} rows."
                )

    def where(self, **wanted: str | Sequence[str]) -> Self:
        """The rows with the given values.

        Examples
        --------
        >>> import pandas as pd
        >>> rows = pd.DataFrame([dict.fromkeys(COLUMNS, "n/a") | {"bundle": name} for name in ("AF", "ILF")])
        >>> embeddings = Embeddings(model="m", modality="fa", rows=rows, layers={"encoder-1": np.ones((2, 4))})
        >>> len(embeddings.where(bundle="AF").rows)
        1
        """
        keep = np.ones(len(self.rows), dtype=bool)
        for name, value in wanted.items():
            keep &= self.rows[name].isin([value] if isinstance(value, str) else list(value)).to_numpy()
        layers = {name: vectors[keep] for name, vectors in self.layers.items()}
        return replace(self, rows=self.rows[keep].reset_index(drop=True), layers=layers)

    @classmethod
    def concat(cls, parts: Sequence["Embeddings"]) -> "Embeddings":
        """Rows of several participants, cohorts or folds of one model together; a `DataError` if they do not fit."""
        import pandas as pd

        if not parts:
            raise DataError("Embeddings are put together from at least one participant; there is none.")
        kinds = {(one.model, one.modality, tuple((k, v.shape[1]) for k, v in one.layers.items())) for one in parts}
        if len(kinds) > 1:
            raise DataError("Embeddings that are put together must come from one model and the same layers.")
        rows = pd.concat([one.rows for one in parts], ignore_index=True)
        layers = {name: np.concatenate([one.layers[name] for one in parts]) for name in parts[0].layers}
        return replace(parts[0], rows=rows, layers=layers)

    def save(self, path: Path, **note: Any) -> None:
        """Write one npz file, without pickles; the same rows give the same bytes.

        The note, plain values that say how the rows were made, is what `load` may ask for.
        """
        arrays: dict[str, NDArray[Any]] = {f"layer/{name}": vectors for name, vectors in self.layers.items()}
        for name in COLUMNS:
            column = self.rows[name]
            arrays[f"row/{name}"] = column.to_numpy(dtype=float if name == "volume_ml" else str)
        # The order of layers, from the input down and up again, which names in an archive do not keep.
        meta = {"model": self.model, "modality": self.modality, "layers": list(self.layers), "note": note}
        with atomic(path) as part:
            np.savez_compressed(part, meta=np.array(json.dumps(meta)), **arrays)  # pyright: ignore[reportArgumentType]

    @classmethod
    def load(cls, path: Path, **note: Any) -> "Embeddings":
        """Read what `save` wrote; a `DataError` if the file is missing, damaged, or has not the note that is given."""
        import pandas as pd

        try:
            if sum(map(math.prod, array_shapes(path).values())) > _MOST_NUMBERS:
                raise ValueError(f"it holds more than {_MOST_NUMBERS} numbers")
            with np.load(path, allow_pickle=False) as stored:
                meta = json.loads(str(stored["meta"]))
                rows = pd.DataFrame({name: stored[f"row/{name}"] for name in COLUMNS})
                layers = {name: stored[f"layer/{name}"] for name in meta["layers"]}
            if any(one.ndim != 2 or len(one) != len(rows) or one.dtype.kind != "f" for one in layers.values()):
                raise ValueError("a layer has not one vector a row")
            known = meta["model"], meta["modality"], meta["note"]
        # A damaged archive raises what zip, zlib, numpy's header and JSON each raise: no base is shared.
        except Exception as error:
            raise DataError(f"{path} must be an npz file of embeddings; it cannot be read: {error!r}.") from error
        if note and known[2] != note:
            raise DataError(f"{path} must hold embeddings made from {note}; it says {known[2]}.")
        return cls(model=known[0], modality=known[1], rows=rows, layers=layers)
