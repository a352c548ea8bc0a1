"""The four rooms are one package, and each module is one module."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

import pytest
import yaml

import shiftkit

ROOT = Path(__file__).parents[1]
ROOMS = ("segmentation", "analyses", "reports")
PACKAGE = Path(shiftkit.__file__).parent

# Floors, lowest first: a module imports from floors below its own; on its own floor only what ARROWS allows.
FLOORS = (
    {"errors", "status", "files", "work", "options", "style", "words"},
    {"types", "results", "tables", "distances", "embeddings", "config"},
    {"images", "geometry", "bundles", "catalogue", "runs"},
    {"cohorts"},
    {"checks", "importers", "phantoms"},
    {"segmentation", "analyses", "reports", "names"},
    {"pipeline"},
    {"api"},
    {"cli"},
    {"__main__"},
)
ARROWS = {
    "options": {"errors", "words", "work"},
    "work": {"errors", "files", "words"},
    "files": {"errors"},
    "words": {"errors"},
    "distances": {"types"},
}
# Rooms inside a room, in the same way.
INSIDE = {
    "segmentation": ({"samples"}, {"network"}, {"prediction"}, {"training"}, {"transfer"}),
    "analyses": (
        {"statistics"},
        {"distance", "comparison"},
        {"scoring"},
        {"decomposition", "features", "deformation", "learning_curves"},
        {"validation", "replication"},
    ),
    "reports": (
        {"naming"},
        {"contents"},
        {"planes", "figures", "glossary", "surfaces", "tables", "volumes", "niivue"},
        {"cite"},
        {"rendering"},
        {"views"},
        {"viewing"},
        {"pages"},
        {"report"},
        {"archive"},
    ),
}
MOST_MODULES = {"shiftkit": 21}
MOST_PARAMETERS = 12


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, through the links or from the wheel."""
    folders = [PACKAGE, *(PACKAGE / room for room in ROOMS)]
    found: dict[str, Path] = {}
    for path in sorted({path for folder in folders for path in folder.rglob("*.py")}):
        parts = ("shiftkit", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def imports_of(name: str) -> set[str]:
    """Dotted names of what a module imports, wherever it does: in functions and for type checkers too."""
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found |= {one if (one := f"{source}.{alias.name}") in MODULES else source for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def own_imports(name: str) -> set[str]:
    """What a module imports from shiftkit, itself left out."""
    return {one for one in imports_of(name) if one in MODULES} - {name}


def upward(name: str, imported: str, floors: Sequence[set[str]], depth: int, arrows: Mapping[str, set[str]]) -> bool:
    """Whether an import goes up, or sideways where nothing allows it; ``depth`` is the place of the room's name."""
    here, there = (one.split(".")[depth] if one.count(".") >= depth else "" for one in (name, imported))
    floor = {room: number for number, rooms in enumerate(floors) for room in rooms}
    if not here or not there or here == there:
        return False
    return floor[there] >= floor[here] and there not in arrows.get(here, set())


def test_links_make_the_rooms_one_package() -> None:
    """Each room is reached through a relative link inside ``shiftkit/``."""
    if not (ROOT / "segmentation").is_dir():
        pytest.skip("the installed package is tested, not a checkout")
    for room in ROOMS:
        link = ROOT / "shiftkit" / room
        assert link.is_symlink()
        assert link.readlink() == Path("..") / room


def test_dependencies_point_one_way() -> None:
    """No module imports from a floor above its own, nor from a neighbor: also not in functions and for type checkers.

    The public names of the package alone reach up, lazily.
    """
    wrong = [
        f"{name} imports {imported}"
        for name in MODULES
        if name != "shiftkit"
        for imported in own_imports(name)
        if imported == "shiftkit"
        or upward(name, imported, FLOORS, 1, ARROWS)
        or any(
            name.split(".")[1] == imported.split(".")[1] == room and upward(name, imported, floors, 2, {})
            for room, floors in INSIDE.items()
        )
    ]
    assert wrong == []


def test_no_circle_of_files() -> None:
    """From no module do imports, wherever they stand, lead back to it."""
    arrows = {name: own_imports(name) for name in MODULES}
    TopologicalSorter(arrows).prepare()  # raises with the circle that it found


def test_rooms_are_not_crowded() -> None:
    """No folder holds more than 17 modules, but for the package's own, 21; faces of packages are not counted."""
    crowd = Counter(str(path.parent) for path in MODULES.values() if path.name != "__init__.py")
    most = {str(PACKAGE): MOST_MODULES["shiftkit"]}
    assert {folder: count for folder, count in crowd.items() if count > most.get(folder, 17)} == {}


def test_functions_take_few_parameters() -> None:
    """No function has more than 12 parameters, but for the public verbs: options travel as one value."""
    wrong: list[str] = []
    for name, path in MODULES.items():
        if name == "shiftkit.api":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                every = node.args
                count = len(every.posonlyargs) + len(every.args) + len(every.kwonlyargs)
                wrong += [f"{name}.{node.name}: {count}"] if count > MOST_PARAMETERS else []
    assert wrong == []


def test_no_module_is_imported_by_its_bare_folder_name() -> None:
    """``import analyses`` would load a second copy of a room, so nobody writes it."""
    bare = {f"{name}: {one}" for name in MODULES for one in imports_of(name) if one.split(".")[0] in ROOMS}
    assert bare == set()


def test_analyses_never_import_torch() -> None:
    """Statistics run on machines without a deep-learning stack."""
    wrong = [
        name
        for name in MODULES
        if name.startswith("shiftkit.analyses")
        and any(one.split(".")[0] in {"torch", "monai", "accelerate"} for one in imports_of(name))
    ]
    assert wrong == []


@pytest.mark.parametrize("statement", ["import shiftkit", "from shiftkit.cli import commands"])
def test_import_is_light(statement: str) -> None:
    """Importing the package or the command line loads neither torch nor matplotlib nor pandas."""
    code = f"{statement}; import sys; print([m for m in ('torch', 'matplotlib', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_imported_is_declared() -> None:
    """Each package that a module imports is a dependency of the wheel, or of an extra where it is optional."""
    declared = {re.split(r"[^A-Za-z0-9_.-]", one)[0].lower().replace("-", "_") for one in requires("shiftkit") or []}
    homes = packages_distributions()
    imported = {one.split(".")[0] for name in MODULES for one in imports_of(name)}
    foreign = {one for one in imported if one not in sys.stdlib_module_names and one != "shiftkit"}
    missing = {
        one for one in foreign if not {home.lower().replace("-", "_") for home in homes.get(one, [one])} & declared
    }
    assert missing == set()


def test_public_names_resolve() -> None:
    """Every name that the package promises can be fetched."""
    for name in shiftkit.__all__:
        assert getattr(shiftkit, name) is not None


def test_no_machine_path_or_registry_host_is_written_down() -> None:
    """Sources carry no absolute home path and no host name of a package registry."""
    bad = ("/root/", "/home/", "pypi.org", "/work/")
    text = {name: path.read_text(encoding="utf-8") for name, path in MODULES.items()}
    found = [f"{name}: {word}" for name in text for word in bad if word in text[name]]
    assert found == []


def test_a_checkout_without_links_is_not_built(tmp_path: Path) -> None:
    """Where links came as text files, as Git writes them on some systems, the build ends with the cure."""
    setup = ROOT / "setup.py"
    if not setup.is_file():
        pytest.skip("the tests run beside an installed package, not in a checkout")
    shutil.copy(setup, tmp_path)
    (tmp_path / "shiftkit").mkdir()
    for room in ROOMS:
        (tmp_path / "shiftkit" / room).write_text(f"../{room}")
    told = subprocess.run([sys.executable, "setup.py", "--name"], cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode != 0 and "symlinks" in told.stderr


def test_the_installation_has_the_version_of_its_code() -> None:
    """What runs and checkpoints record, the installed version, is that of the code that made them."""
    assert version("shiftkit") == shiftkit.__version__


def test_the_citation_names_this_version_and_its_study() -> None:
    """CITATION.cff has the package's version, licence and keywords, and the study's DOI as the reports have it."""
    if not (ROOT / "CITATION.cff").is_file():
        pytest.skip("the tests run beside an installed package, not in a checkout")
    known = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert known["version"] == shiftkit.__version__
    assert known["license"] == project["license"] and known["keywords"] == project["keywords"]
    assert known["references"][0]["doi"] in (PACKAGE / "reports" / "cite.py").read_text(encoding="utf-8")
