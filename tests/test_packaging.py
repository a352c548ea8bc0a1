"""The four rooms are one package, and each module is one module."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import shiftkit

ROOT = Path(__file__).parents[1]
ROOMS = ("segmentation", "analyses", "reports")
PACKAGE = Path(shiftkit.__file__).parent

# Who may import whom: a room may import what stands before it, never what stands after it.
LAYERS = (
    {"shared"},
    {"segmentation", "analyses"},
    {"reports"},
    {"pipeline"},
    {"api"},
    {"cli"},
)
TOP = {"pipeline", "api", "cli"}


def modules() -> list[Path]:
    """Every module of the package, through the links or from the wheel."""
    folders = [PACKAGE, *(PACKAGE / room for room in ROOMS)]
    return sorted({path for folder in folders for path in folder.rglob("*.py")})


def layer_of(module: str) -> int:
    """The layer of a dotted module name such as ``shiftkit.analyses.scoring.study``."""
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 and parts[1] in {*ROOMS, *TOP} else "shared"
    return next(index for index, layer in enumerate(LAYERS) if name in layer)


def imports_of(path: Path) -> set[str]:
    """Dotted names of the shiftkit modules that a module imports, relative imports resolved."""
    module = ("shiftkit", *path.relative_to(PACKAGE).with_suffix("").parts)
    package = module[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*base, *([node.module] if node.module else [])])
            found |= {name} | {f"{name}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_links_make_the_rooms_one_package() -> None:
    """Each room is reached through a relative link inside ``shiftkit/``."""
    if not (ROOT / "segmentation").is_dir():
        pytest.skip("the installed package is tested, not a checkout")
    for room in ROOMS:
        link = ROOT / "shiftkit" / room
        assert link.is_symlink()
        assert link.readlink() == Path("..") / room


def test_dependencies_point_one_way() -> None:
    """No module imports from a layer above its own, apart from inside the public names of the package."""
    wrong: list[str] = []
    for path in modules():
        name = ".".join(("shiftkit", *path.relative_to(PACKAGE).with_suffix("").parts))
        if name == "shiftkit.__init__":
            continue
        wrong += [
            f"{name} imports {imported}"
            for imported in imports_of(path)
            if imported.split(".")[0] == "shiftkit" and layer_of(imported) > layer_of(name)
        ]
    assert wrong == []


def test_no_module_is_imported_by_its_bare_folder_name() -> None:
    """``import analyses`` would load a second copy of a room, so nobody writes it."""
    bare = {f"{path.name}: {name}" for path in modules() for name in imports_of(path) if name.split(".")[0] in ROOMS}
    assert bare == set()


def test_analyses_never_import_torch() -> None:
    """Statistics run on machines without a deep-learning stack."""
    wrong = [
        path.name
        for path in (PACKAGE / "analyses").rglob("*.py")
        if any(name.split(".")[0] in {"torch", "monai", "accelerate"} for name in imports_of(path))
    ]
    assert wrong == []


@pytest.mark.parametrize("statement", ["import shiftkit", "from shiftkit.cli import commands"])
def test_import_is_light(statement: str) -> None:
    """Importing the package or the command line loads neither torch nor matplotlib nor pandas."""
    code = f"{statement}; import sys; print([m for m in ('torch', 'matplotlib', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_resolve() -> None:
    """Every name that the package promises can be fetched."""
    for name in shiftkit.__all__:
        assert getattr(shiftkit, name) is not None


def test_no_machine_path_or_registry_host_is_written_down() -> None:
    """Sources carry no absolute home path and no host name of a package registry."""
    bad = ("/root/", "/home/", "pypi.org", "/work/")
    found = [f"{path.name}: {word}" for path in modules() for word in bad if word in path.read_text(encoding="utf-8")]
    assert found == []
