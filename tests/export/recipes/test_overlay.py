"""The exporter's own environment: installed whole or not at all, and what happens where it can't be."""

from __future__ import annotations

import re
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from playground.errors import ExportError, StorageError
from playground.export import cache
from playground.export.recipes import optimum, overlay
from playground.export.recipes.overlay import OverlayError, ensure_overlay, overlay_folder, pins
from playground.records import Artifact, Variant

INSTALLS = """
import pathlib, sys
target = pathlib.Path(sys.argv[sys.argv.index("--target") + 1])
target.mkdir()
(target / "optimum.txt").write_text(pathlib.Path(sys.argv[sys.argv.index("--requirement") + 1]).read_text())
with open({log!r}, "a") as log:
    log.write("installed\\n")
"""


def says(text: str) -> str:
    return f"import pathlib, sys; pathlib.Path(sys.argv[2]).mkdir(); print({text!r}); sys.exit(1)"


def run(home: Path, steps: list[str] | None = None) -> Path:
    seen: list[str] = [] if steps is None else steps
    return ensure_overlay(home, lambda step, _: seen.append(step), lambda: False)


def pip_is(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(overlay, "PIP", ("-c", code))
    monkeypatch.setattr(overlay, "PIP_PATIENCE", ())


def test_the_list_pins_every_package_exactly() -> None:
    assert {"optimum", "optimum-onnx", "transformers", "tokenizers", "huggingface-hub"} <= set(pins())
    assert all(part.isdigit() for version in pins().values() for part in version.split("."))


def test_the_overlay_is_installed_once_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    pip_is(monkeypatch, INSTALLS.format(log=str(log)))
    steps: list[str] = []
    folder = run(tmp_path, steps)
    assert run(tmp_path) == folder == overlay_folder(tmp_path)
    assert (folder / "optimum.txt").read_text() == overlay.REQUIREMENTS.read_text()
    assert log.read_text() == "installed\n"
    assert set(steps) == {"installing the exporter"}


def test_other_versions_get_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = overlay_folder(tmp_path)
    monkeypatch.setattr(overlay, "pins", lambda: {**pins(), "transformers": "4.57.7"})
    assert overlay_folder(tmp_path) != before


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("ERROR: No version that satisfies optimum (from versions: none)", OverlayError, "can't be reached"),
        ("ERROR: No version that satisfies optimum (from versions: 1.0)", OverlayError, "does not offer"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", OverlayError, "pip failed: ERROR: THESE PACKAGES"),
        ("No module named pip", OverlayError, "no pip"),
        ("ERROR: [Errno 28] No space left on device", StorageError, "full"),
    ],
)
def test_an_install_that_fails_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, kind: type[Exception], words: str
) -> None:
    pip_is(monkeypatch, says(said))
    with pytest.raises(kind, match=words):
        run(tmp_path)
    assert not overlay_folder(tmp_path).exists()
    assert not list((tmp_path / "staging").iterdir())


def test_a_stand_in_for_an_exporter_that_could_not_be_installed_does_not_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "artifacts" / "tiny"
    folder.mkdir(parents=True)
    artifact = Artifact(Variant("tiny", "torch", "fp32"), str(folder), "none", "r", "", 0, fallbacks=("no network",))
    cache.write(folder, tmp_path, artifact, {}, lasts_s=60)
    assert cache.read(folder, tmp_path) == artifact
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert cache.read(folder, tmp_path) is None
    assert cache.verify(folder, tmp_path) is None
    assert not folder.exists()


class TestTheProcess:
    """``Exporter`` with scripts in place of optimum."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "overlay"
        folder.mkdir()
        return folder

    def script(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
        worker = tmp_path / "worker.py"
        worker.write_text(code)
        monkeypatch.setattr(optimum, "WORKER", worker)

    READY = "import json, sys\nprint(json.dumps({'ready': True}), flush=True)\n"

    def test_only_the_overlay_is_put_on_its_path(
        self, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
        (folder / "marker.py").write_text("")
        code = "import marker\ntry:\n    import playground\nexcept ImportError:\n    pass\nelse:\n    sys.exit()\n"
        self.script(tmp_path, monkeypatch, "import sys\n" + code + self.READY + "sys.stdin.read()\n")
        exporter = optimum.Exporter(folder)
        assert exporter.alive
        exporter.close()
        assert not exporter.alive

    def test_one_that_does_not_start_throws_the_overlay_away(
        self, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.script(tmp_path, monkeypatch, "import no_such_module")
        with pytest.raises(OverlayError, match="can't be started"):
            optimum.Exporter(folder)
        assert not folder.exists()

    @pytest.mark.parametrize(
        ("reply", "words"),
        [
            ("{'error': 'Trying to export a x model, that is a custom or unsupported architecture, …', 'type': 'V'}",
             "does not know this architecture"),
            ("{'error': 'Sizes of tensors must match', 'type': 'RuntimeError'}",
             r"of optimum-onnx \d[\d.]+, transformers 4[\d.]+ \(RuntimeError: Sizes of tensors must match\)$"),
            ("{'error': 'It has model type `x` but Transformers does not recognize this architecture. This could be "
             "because your version of Transformers is out of date.', 'type': 'ValueError'}",
             r"^optimum works with transformers 4[\d.]+, which does not know this architecture$"),
            ("{'error': 'Seven1 ' * 40, 'type': 'ValueError'}", r"\(ValueError: (Seven1 )+Seven1…\)$"),
        ],
    )  # fmt: skip
    def test_what_optimum_says_becomes_a_reason(
        self, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, reply: str, words: str
    ) -> None:
        self.script(tmp_path, monkeypatch, self.READY + f"sys.stdin.readline()\nprint(json.dumps({reply}), flush=True)")
        with closing(optimum.Exporter(folder)) as exporter, pytest.raises(ExportError) as caught:
            exporter.export(tmp_path, tmp_path, "text-generation-with-past")
        assert re.search(words, caught.value.what)

    def test_one_that_dies_at_work_is_an_error_and_the_next_job_gets_a_new_one(
        self, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.script(tmp_path, monkeypatch, self.READY + "sys.stdin.readline()\nsys.exit(3)")
        first = optimum.exporter_in(folder)
        with pytest.raises(ExportError, match=r"ended early \(3\)"):
            first.export(tmp_path, tmp_path, "text-generation-with-past")
        second = optimum.exporter_in(folder)
        assert second is not first
        first.close()
        second.close()


@pytest.mark.integration
def test_the_real_overlay_has_its_own_transformers_and_the_apps_torch(tmp_path: Path) -> None:
    import subprocess

    folder = run(tmp_path)
    code = "import transformers, torch, optimum.exporters.onnx; print(transformers.__file__, torch.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=True
    )
    ours, theirs = done.stdout.split()
    assert ours.startswith(str(folder))
    assert not theirs.startswith(str(folder))
