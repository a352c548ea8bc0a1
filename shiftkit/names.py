"""Names instead of paths: cohorts and models that ``shiftkit.toml`` registers, and the built-in ones."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .cohorts.folder import load_cohort
from .cohorts.layout import Filters, read_json
from .config import registered_names
from .errors import ConfigError, DataError
from .files import cache_dir, held, write_text
from .types import Bundle, Cohort
from .words import nearest
from .work import Work

BUILT_IN_COHORTS = ("healthy", "glioma")
BUILT_IN_MODELS: Mapping[str, Path] = {"reference": Path(__file__).parent / "models" / "reference"}


def find_cohort(
    cohort: str | Path | Cohort, *, filters: Filters | str | Path | None = None, work: Work = Work()
) -> Cohort:
    """Turn a path, a registered name or a built-in name into a cohort; a cohort is handed back as it is.

    Names are those under ``[cohorts]`` of ``shiftkit.toml`` and the built-in phantom cohorts ``healthy`` and
    ``glioma``, which are made on first use; anything else is the path of a folder. ``filters`` are those of
    `shiftkit.cohorts.layout.read_filters`.

    Raises
    ------
    ConfigError
        If the filter file is not one, or a name is that of a folder here too.
    DataError
        If nothing of that name exists, or the folder is not a cohort.
    MachineError
        If ``work`` is done elsewhere, where it is not seen.
    """
    found = cohort if isinstance(cohort, Cohort) else _indexed(cohort, filters, work)
    work.require_seen(found.root)
    return found


def _indexed(cohort: str | Path, filters: Filters | str | Path | None, work: Work) -> Cohort:
    folder = _folder("cohort", cohort, BUILT_IN_COHORTS)
    if folder is None:
        return built_in_cohort(str(cohort), work)
    filters = Path(filters) if isinstance(filters, str) else filters
    return load_cohort(folder, name=None if folder == Path(cohort) else str(cohort), filters=filters)


def find_model(model: str | Path) -> Path:
    """Turn a path, a registered name or a built-in name into the folder of a checkpoint; errors as in `find_cohort`.

    A name that ``shiftkit.toml`` gives to code is refused with a `ConfigError`: the file may be somebody else's.
    """
    folder = _folder("model", model, BUILT_IN_MODELS) or BUILT_IN_MODELS[str(model)]
    if ".py:" in folder.name:
        raise ConfigError(
            f"shiftkit.toml names folders of checkpoints; {model} there is {folder.name}, and no file that lies above "
            "a folder may say which code is run. Give it on the command line, as file.py:function, or in Python."
        )
    return folder


@dataclass(frozen=True, kw_only=True)
class ModelNames:
    """What a checkpoint's description says of it; to look at what fits without loading a network, which takes longer.

    Parameters
    ----------
    name, modality : str
        As in `shiftkit.segmentation.network.checkpoints.Model`.
    bundles : tuple of Bundle
        What it predicts.
    digest : str
        Of its weights; empty where the description does not say it, as of a network of somebody else.
    """

    name: str
    modality: str
    bundles: tuple[Bundle, ...]
    digest: str = ""

    @classmethod
    def of(cls, folder: Path) -> "ModelNames | None":
        """Those of a checkpoint, or of the first in a folder of folds; None where they cannot be read."""
        for place in (folder, folder / "fold-1"):
            try:
                block = read_json(place / "configs" / "metadata.json")["shiftkit"]
                named = [block["name"], block["modality"], block.get("digest", ""), *block["bundles"]]
                if not all(isinstance(one, str) for one in named):
                    return None
                name, modality, digest, *labels = named
                return cls(name=name, modality=modality, bundles=tuple(map(Bundle.parse, labels)), digest=digest)
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None


def built_in_cohort(name: str, work: Work = Work()) -> Cohort:
    """A built-in phantom cohort, generated once into the cache folder."""
    if name not in BUILT_IN_COHORTS:
        raise ConfigError(f"The built-in cohorts are {' and '.join(BUILT_IN_COHORTS)}; got {name!r}.")
    root = cache_dir() / f"phantom-{_phantom_digest()}"
    done = root / f"{name}.done"  # outside the cohort: a half-made one is continued, not trusted
    if not done.is_file():
        from .phantoms import phantom
        from .phantoms.cohort import cost_of as drawing

        n_healthy, n_glioma = (60, 0) if name == "healthy" else (0, 24)
        work.begin(
            f"Would first draw the built-in cohort {name}, once, and then go on; what it is asked for is checked then.",
            drawing(n_healthy + n_glioma, 2.5, work),
            root,
        )
        # Several may want it at once, such as the processes of a launcher: the first draws it, and the others wait.
        with held(root / name, "phantom", waits=True):
            if not done.is_file():
                phantom(root, n_healthy=n_healthy, n_glioma=n_glioma, work=work)
                write_text(done, "")
    return load_cohort(root / name, name=name)


def is_built_in(cohort: Cohort, name: str) -> bool:
    """Whether a cohort is the built-in one of that name, wherever it was called from."""
    return cohort.root.resolve() == (cache_dir() / f"phantom-{_phantom_digest()}" / name).resolve()


def is_phantom(cohort: Cohort) -> bool:
    """Whether a cohort was drawn, as its description says."""
    return "Phantom" in cohort.description


def is_of_phantom(digest: str) -> bool:
    """Whether a model of this digest is a built-in one, all of which were trained on the phantom; also a copy of it."""
    built_in = map(ModelNames.of, BUILT_IN_MODELS.values())
    return any(one is not None and one.digest == digest for one in built_in)


def _phantom_digest() -> str:
    """Short digest of the phantom's sources: a changed phantom is made anew, not mistaken for the cached one."""
    folder = Path(__file__).parent / "phantoms"
    sources = sorted([*folder.rglob("*.py"), *folder.rglob("*.toml")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]


def _folder(kind: str, name: str | Path, built_in: Iterable[str]) -> Path | None:
    """The folder that a path or a registered name means; None for a built-in name."""
    registered = registered_names(f"{kind}s")
    known, place = (*registered, *built_in), Path(name)
    # A folder that happens to have a known name must not stand in for what the name means, nor the other way round.
    if isinstance(name, str) and name in known and place.exists():
        raise ConfigError(
            f"A {kind} must be named in one way; {name!r} is a known name and a folder here too. Write ./{name} for "
            "the folder, or work in another folder to use the name."
        )
    # What is wrong with a file in a model's stead is told by who reads checkpoints.
    if place.is_dir() or (kind == "model" and place.exists()):
        return place
    if str(name) not in known:
        told = f"{', '.join(dict.fromkeys(known))}{nearest(str(name), known) or '.'}"
        raise DataError(
            f"A {kind} is a folder, a name from shiftkit.toml or a built-in name; {str(name)!r} is none of them. "
            f"Known names here: {told} Check the spelling, or give the path of its folder."
        )
    return registered.get(str(name))
