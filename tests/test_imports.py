"""Packages know only the layers below them, by their doors, and each process loads only what it needs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from playground.paths import PACKAGE, ROOT

LAYERS: list[set[str]] = [
    {"messages", "paths"},
    {"records", "errors", "translations", "owners"},
    {"system"},
    {"config"},
    {"kernels", "catalog", "results", "suites"},
    {"sources"},
    {"runtimes"},
    {"export"},
    {"workers"},
    {"experiments", "choose", "ship"},
    {"evaluation"},
    {"service", "deploy"},
    {"api", "mcp"},
    {"ui", "cli"},
]
"""The packages of docs/design.md from the bottom: each may import itself and what stands on lower layers. Above them
all stands ``__main__``, which is no package.
"""

LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """Modules of the package that ``module`` imports, at the top or inside a function, but not for types alone."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for node in ast.walk(block)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            names |= {_source(node.module or "", alias.name) for alias in node.names}
    return frozenset(name for name in names if name in modules() and name not in (module, "playground"))


def _source(package: str, name: str) -> str:
    """``from package import name``: the submodule of that name if there is one, else the package itself."""
    return f"{package}.{name}" if f"{package}.{name}" in modules() else package


def test_every_module_has_a_place_in_the_order() -> None:
    rooms = {room_of(module) for module in modules()} - {"", "__main__"}
    assert rooms <= set(LEVEL), f"add to LAYERS: {sorted(rooms - set(LEVEL))}"


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_imports_only_its_own_room_and_rooms_above(module: str) -> None:
    if module == "playground":
        assert not imports(module)
        return
    if module == "playground.__main__":
        assert imports(module) == {"playground.cli"}
        return
    here = room_of(module)
    wrong = {name for name in imports(module) if room_of(name) != here and LEVEL[room_of(name)] >= LEVEL[here]}
    assert not wrong


def test_no_modules_import_each_other_in_a_circle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"circle: {' → '.join((*path[path.index(module) :], module))}"
        if module not in done:
            for name in imports(module):
                visit(name, (*path, module))
            done.add(module)

    for module in modules():
        visit(module, ())


def test_only_the_web_app_imports_gradio() -> None:
    users = {
        module
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "gradio" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gradio")
    }
    assert {room_of(module) for module in users} <= {"ui"}


def loaded_after(statement: str) -> set[str]:
    """Every module a fresh interpreter holds after ``statement``."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def heavy(loaded: set[str]) -> set[str]:
    unwanted = {
        "torch",
        "transformers.modeling_utils",
        "transformers.models.auto.modeling_auto",
        "onnxruntime",
        "optimum",
    }
    return loaded & unwanted


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = loaded_after("import playground")
    assert not heavy(loaded)
    assert "gradio" not in loaded


def test_the_terminal_loads_neither_gradio_nor_torch() -> None:
    loaded = loaded_after(
        "from playground.cli import main\nimport playground.service\nassert main(['models', '--json']) == 0"
    )
    assert not heavy(loaded)
    assert "gradio" not in loaded


def test_the_terminals_help_waits_for_nothing_but_typer() -> None:
    loaded = loaded_after("from playground.cli import main\nassert main(['compare', '--help']) == 0")
    assert not loaded & {
        "yaml",
        "numpy",
        "sqlite3",
        "huggingface_hub",
        "playground.service",
        "playground.config.settings",
    }


def test_an_onnx_worker_loads_neither_torch_nor_gradio() -> None:
    loaded = loaded_after("import playground.workers.main\nimport playground.runtimes.onnx.runtime")
    assert "onnxruntime" not in loaded  # it comes with the graph, where the kernels don't run it
    assert not loaded & {"torch", "gradio", "transformers.modeling_utils", "optimum"}


def test_no_test_module_imports_another_one() -> None:
    """What two of them need stands in tests/support, or as a fixture in a conftest.py."""
    borrowed = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in _named(node)
        if name.startswith("tests.") and any(part.startswith("test_") for part in name.split("."))
    }
    assert not borrowed


def _named(node: ast.Import | ast.ImportFrom) -> list[str]:
    names = [alias.name for alias in node.names]
    return names if isinstance(node, ast.Import) else [f"{node.module or ''}.{name}" for name in names]


# -- doors ----------------------------------------------------------------------------------------------------------

DOOR = re.compile(r"^Door:\n((?:    .+\n?)+)", re.MULTILINE)
PACKAGES = sorted(room for rooms in LAYERS for room in rooms if (PACKAGE / room).is_dir())


@cache
def door(package: str) -> dict[str, frozenset[str]]:
    """What others may import of a package, by module, as the docstring of its ``__init__`` says."""
    docstring = ast.get_docstring(ast.parse((PACKAGE / package / "__init__.py").read_text(encoding="utf-8"))) or ""
    found = DOOR.search(docstring)
    if found is None:
        return {}
    listed = {}
    for line in re.sub(r"\n {8,}", " ", found[1]).splitlines():
        module, _, names = line.strip().partition(": ")
        listed[module] = frozenset(name.strip() for name in names.split(","))
    return listed


@cache
def foreign_imports() -> frozenset[tuple[str, str, str, str]]:
    """(importer, package, module below it, name) of every import over the border of a package, for types alone too."""
    found = set()
    for importer, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "playground":
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    module, name = (full, "") if full in modules() else (node.module or "", alias.name)
                    package = room_of(module)
                    if package in PACKAGES and package != room_of(importer):
                        below = module.removeprefix(f"playground.{package}").lstrip(".") or "__init__"
                        found.add((importer, package, below, name))
    return frozenset(found)


def test_packages_are_entered_by_their_doors() -> None:
    wrong = {
        f"{importer} imports {package}.{module}: {name or 'the module'}"
        for importer, package, module, name in foreign_imports()
        if module not in door(package) or (name and name not in door(package)[module])
    }
    assert not wrong, "add to the docstring of the package, or ask for less: " + "; ".join(sorted(wrong))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_door_lists_what_exists_and_what_somebody_uses(package: str) -> None:
    used = {(module, name) for _, other, module, name in foreign_imports() if other == package}
    for module, names in door(package).items():
        full = f"playground.{package}" + ("" if module == "__init__" else f".{module}")
        assert full in modules(), f"{package}'s door names {module}, which there is none of"
        users = {name for other, name in used if other == module}
        assert names <= users or "" in users or package in ("ui", "cli"), f"{full}: nobody uses {sorted(names - users)}"


def declared(requirements: list[str]) -> set[str]:
    """The names of the distributions that ``requirements`` bring on this machine, with what those need themselves."""
    found: set[str] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        if name not in found:
            found.add(name)
            with suppress(PackageNotFoundError):  # what is for one of the extras need not be installed
                waiting += map(Requirement, distribution(name).requires or ())
    return found


def imported_from_outside() -> dict[str, set[str]]:
    """Per module of ours the packages of others that it imports, be it at the top or within a function."""
    found = {}
    for module, path in modules().items():
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = {name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for name in _named(node)}
        names |= {(node.module or "").split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
        found[module] = {name for name in names if name and name not in {*sys.stdlib_module_names, "playground"}}
    return found


def test_what_is_imported_is_what_an_installation_brings() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    brought = declared(project["dependencies"])
    extras = declared([line for extra in project["optional-dependencies"].values() for line in extra])
    bring_themselves = {"spaces"}  # a ZeroGPU Space has it, and off one nothing asks for it
    assert "limits" in brought and "starlette" in brought and "mcp" not in brought
    providers = packages_distributions()
    missing = {
        f"{module}: {package}"
        for module, packages in imported_from_outside().items()
        for package in packages
        if not {canonicalize_name(name) for name in providers.get(package, [package])}
        & (brought | extras | bring_themselves)
    }
    assert not missing, f"pin them in pyproject.toml: {sorted(missing)}"
