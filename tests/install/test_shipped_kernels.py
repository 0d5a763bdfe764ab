"""A wheel with kernels that were compiled beforehand: they are tried, used, and no compiler is needed.

The wheel is made of a copy of the checkout, so that nothing compiled is ever found in the checkout itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from playground.kernels import building, shipped
from playground.kernels.library import Library
from playground.paths import ROOT
from scripts import build_kernels
from tests.support import tiny

pytestmark = [pytest.mark.integration, pytest.mark.parallel, pytest.mark.xdist_group("shipped")]

SYSTEM = "macos" if platform.system() == "Darwin" else "linux"
HERE = f"{SYSTEM}-{'x86_64' if platform.machine() == 'x86_64' else 'aarch64'}"
LEVEL = next(name for name in building.runnable() if f"{HERE}-{name}.so" in build_kernels.libraries())
NAME = f"{HERE}-{LEVEL}"


def compiled(into: Path, **environment: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "build_kernels.py"), "--only", NAME, "--into", str(into)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("ziglang")
    folder = tmp_path_factory.mktemp("compiled") / "libraries"
    compiled(folder)
    return folder


@pytest.fixture(scope="module")
def wheel(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE", "spaces.yaml", ".gitignore"):
        shutil.copy(ROOT / name, copy / name)
    shutil.copytree(ROOT / "playground", copy / "playground", ignore=shutil.ignore_patterns("__pycache__", "libraries"))
    shutil.copytree(libraries, copy / "playground" / "kernels" / "libraries")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(copy / "dist"), str(copy))
    return next((copy / "dist").glob("*.whl"))


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def listed(libraries: Path) -> Any:
    return json.loads((libraries / shipped.LIST).read_text(encoding="utf-8"))


def test_a_wheel_brings_the_libraries_and_their_list(wheel: Path, libraries: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = "playground/kernels/libraries/"
        assert json.loads(archive.read(inside + shipped.LIST)) == listed(libraries)
        assert listed(libraries)["libraries"] == {
            f"{NAME}.so": hashlib.sha256(archive.read(f"{inside}{NAME}.so")).hexdigest()
        }


def test_the_same_source_gives_the_same_bytes(libraries: Path, tmp_path: Path) -> None:
    caches = {name: str(tmp_path / name) for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    compiled(tmp_path / "again", **caches)
    assert listed(tmp_path / "again") == listed(libraries)


@pytest.mark.skipif(platform.system() != "Linux", reason="other systems have no glibc")
def test_a_glibc_of_2012_will_do(libraries: Path) -> None:
    wanted = re.findall(rb"\0GLIBC_([0-9.]+)(?=\0)", (libraries / f"{NAME}.so").read_bytes())
    assert wanted
    assert max(tuple(map(int, each.split(b"."))) for each in wanted) <= (2, 17)


def test_nothing_of_this_machine_is_in_a_library(libraries: Path) -> None:
    content = (libraries / f"{NAME}.so").read_bytes()
    assert str(ROOT).encode() not in content
    assert b"/tmp/" not in content
    assert len(content) < 200_000


def test_without_a_compiler_the_library_of_the_package_is_taken(
    libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shipped, "FOLDER", libraries)
    monkeypatch.setattr(building, "compiler", lambda: None)
    monkeypatch.setenv(building.OFF, LEVEL)
    assert building.obstacle() is None
    built = building.build(tmp_path)
    assert built.sha256 == listed(libraries)["libraries"][f"{NAME}.so"]
    assert built.origin.startswith("package, zig 0.")
    assert built.path.parent == tmp_path
    assert Library(built).isa == LEVEL
    monkeypatch.setattr(building, "REVISION", "other")
    assert building.obstacle() == building.NO_COMPILER
    with pytest.raises(building.KernelsUnavailable, match="no C compiler"):
        building.build(tmp_path, LEVEL)


@pytest.mark.parametrize("compiler", ["cc", "zig", "broken"])
def test_the_systems_compiler_comes_first_zigs_last(
    compiler: str, libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gcc's libraries are quicker than the package's, which are zig's."""
    found = shutil.which("cc")
    if not found:
        pytest.skip("there is no cc")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shipped, "FOLDER", libraries)
    commands = {"cc": (found,), "zig": (sys.executable, "-m", "ziglang", "cc"), "broken": ("/bin/false",)}
    monkeypatch.setattr(building, "compiler", lambda: commands[compiler])
    origin = building.build(tmp_path, LEVEL).origin
    assert origin.startswith("here, cc" if compiler == "cc" else "package, zig 0.")


@pytest.mark.parametrize("fault", ["altered", "another list", "another source", "no list"])
def test_a_library_that_is_not_the_listed_one_is_not_used_and_a_compiler_is_asked(
    fault: str, libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "libraries"
    shutil.copytree(libraries, folder)
    library, document = folder / f"{NAME}.so", listed(folder)
    if fault == "altered":
        library.write_bytes(library.read_bytes() + b"\0")
    elif fault == "another list":
        document["libraries"][library.name] = "0" * 64
        (folder / shipped.LIST).write_text(json.dumps(document))
    elif fault == "another source":
        document["source"] = "0" * 64
        (folder / shipped.LIST).write_text(json.dumps(document))
    else:
        (folder / shipped.LIST).unlink()
    own = os.environ.get("CC", "cc").split()
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shipped, "FOLDER", folder)
    monkeypatch.setattr(building, "compiler", lambda: None)
    with pytest.raises(building.KernelsUnavailable, match=r"is not what the package lists|no C compiler"):
        building.build(tmp_path, LEVEL)
    assert not (tmp_path / building.LIBRARY).exists()
    if not (found := shutil.which(own[0])):
        return
    monkeypatch.setattr(building, "compiler", lambda: (found, *own[1:]))
    built = building.build(tmp_path, LEVEL)
    assert built.origin == f"here, {Path(found).name}"


def test_a_library_of_the_package_that_computes_wrongly_is_found_out(
    libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its list says that it is right; the trial does not believe it."""
    folder = tmp_path / "libraries"
    folder.mkdir()
    content = b"no library at all"
    (folder / f"{NAME}.so").write_bytes(content)
    document = listed(libraries) | {"libraries": {f"{NAME}.so": hashlib.sha256(content).hexdigest()}}
    (folder / shipped.LIST).write_text(json.dumps(document))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shipped, "FOLDER", folder)
    monkeypatch.setattr(building, "compiler", lambda: None)
    with pytest.raises(building.KernelsUnavailable, match="the trial failed"):
        building.build(tmp_path, LEVEL)
    assert not (tmp_path / building.LIBRARY).exists()


PREPARED = """
import json, sys
from pathlib import Path
from playground.kernels import building
from playground.export import pipeline
from playground.records import ModelSpec, Variant
from playground.runtimes.native.own_library import recorded
from playground.runtimes.onnx.runtime import open_engine
source, home = map(Path, sys.argv[1:])
spec = ModelSpec("tiny", "Tiny", f"path:{source}", "", "onnx", "int8", 64, "chat")
made = pipeline.make(spec, Variant("tiny", "onnx", "int8"), home, lambda *_: None, lambda: False)
engine = open_engine(Path(made.path), 1, library=recorded(Path(made.path)))
engine.reset(8)
logits = engine.prefill([1, 2, 3])
print(json.dumps([building.compiler(), building.__file__, made.to_json(), engine.name, len(logits)]))
"""


def test_a_model_is_prepared_and_answers_without_any_compiler(wheel: Path, libraries: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    packages = next(environment.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    # What the tests have beside the playground, but for the compiler among it.
    borrowed = f"{sysconfig.get_path('purelib')}\nimport sys; sys.modules['ziglang'] = None\n"
    (packages / "borrowed.pth").write_text(borrowed)
    source = tiny.write_model(tmp_path / "source")
    kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
    own = {"PATH": "", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", building.OFF: LEVEL}
    done = subprocess.run(
        [str(environment / "bin" / "python"), "-c", PREPARED, str(source), str(tmp_path / "home")],
        cwd=tmp_path,
        env=kept | own,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    compiler, module, artifact, engine, width = json.loads(done.stdout.splitlines()[-1])
    assert compiler is None
    assert Path(module).is_relative_to(packages)
    assert artifact["engine"] == engine == f"kernels {LEVEL}"
    assert artifact["tool_versions"]["kernels"].startswith("package, zig ")
    assert width > 0
    found = hashlib.sha256((Path(artifact["path"]) / building.LIBRARY).read_bytes()).hexdigest()
    assert found == listed(libraries)["libraries"][f"{NAME}.so"]
