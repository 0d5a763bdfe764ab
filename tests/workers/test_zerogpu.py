"""ZeroGPU, with the Hub's own package where its decorator does nothing, and the processor in the place of the GPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from playground.config.settings import Settings
from playground.errors import RunError
from playground.export import pipeline
from playground.records import ON_ACCELERATOR, Artifact, LoadSpec, ModelRun, ModelSpec, Request, Variant
from playground.runtimes.torch import runtime
from playground.runtimes.torch.accelerator import Accelerator
from playground.runtimes.torch.runtime import TorchRuntime
from playground.system.zerogpu import on_zero_gpu
from playground.workers import zerogpu
from playground.workers.pool import Pool
from tests.support import tiny

pytestmark = [pytest.mark.integration, pytest.mark.parallel]

BF16 = Variant("tiny", "torch", "bf16")
REQUEST = Request(prompt="the quick brown fox", max_new_tokens=12)


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> LoadSpec:
    folder = tiny.write_model(tmp_path_factory.mktemp("model"))
    spec = ModelSpec("tiny", "Tiny", f"path:{folder}", "", "torch", "fp32", tiny.CONTEXT, "chat")
    return LoadSpec(spec, Artifact(BF16, str(folder), "none", "", "", 0), 1)


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    pytest.importorskip("spaces")
    monkeypatch.setattr(runtime, "find_accelerator", lambda: Accelerator("cpu", "Pretended"))
    monkeypatch.setattr(zerogpu, "_compute", None)
    zerogpu.enable()
    yield
    zerogpu._servers.clear()


def answer(pool: Pool, load: LoadSpec, request: Request = REQUEST, stop_after: int = 1000) -> ModelRun:
    tokens: list[str] = []
    run = None
    for event in pool.generate(load, request, lambda: len(tokens) >= stop_after):
        if event.kind == "token":
            tokens.append(event.text)
        run = event.run or run
    assert run is not None
    return run


def test_bf16_is_answered_by_the_decorated_function_and_never_ranked(
    lent: None, load: LoadSpec, settings: Settings
) -> None:
    with Pool(settings) as pool:
        run = answer(pool, load)
        server = next(iter(zerogpu._servers.values()))
        again = answer(pool, load)
        assert next(iter(zerogpu._servers.values())) is server, "what is loaded is kept"
    assert run.error is None
    assert (run.engine or "").startswith(ON_ACCELERATOR)
    assert run.timings.output_tokens and run.text == again.text
    direct = TorchRuntime()
    direct.load(load)
    (last,) = [event.run for event in direct.generate(REQUEST, lambda: False) if event.run]
    direct.close()
    assert last.text == run.text


def test_stop_ends_an_answer_there_and_the_next_one_comes(lent: None, load: LoadSpec, settings: Settings) -> None:
    with Pool(settings) as pool:
        stopped = answer(pool, load, replace(REQUEST, max_new_tokens=400), stop_after=2)
        assert stopped.finish_reason == "stopped"
        assert stopped.timings.output_tokens < 400
        assert answer(pool, load).error is None


def test_a_gpu_that_is_not_lent_is_told_with_a_next_step(
    lent: None, load: LoadSpec, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(load: str, command: str) -> Iterator[bytes]:
        raise ValueError("ZeroGPU quota exceeded")
        yield b""

    monkeypatch.setattr(zerogpu, "_compute", refused)
    with Pool(settings) as pool:
        run = answer(pool, load)
    assert "ZeroGPU gave no answer (ZeroGPU quota exceeded)" in (run.error or "")
    assert "try again later, or take a variant that runs on the processor" in (run.error or "")


def test_other_variants_and_other_machines_have_processes_of_their_own(lent: None) -> None:
    assert zerogpu.runs_there(BF16)
    assert not zerogpu.runs_there(Variant("tiny", "torch", "fp32"))
    assert not zerogpu.runs_there(Variant("tiny", "onnx", "int8"))
    assert not on_zero_gpu({}) and on_zero_gpu({"SPACES_ZERO_GPU": "true"})


def test_without_the_package_a_zerogpu_space_says_which_profile_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spaces", None)
    with pytest.raises(RunError, match=r"package spaces is not installed.*--profile zerogpu"):
        zerogpu.enable()


def test_where_a_gpu_is_lent_bf16_is_prepared_as_fp32_and_says_so(load: LoadSpec, tmp_path: Path) -> None:
    made = pipeline.make(load.spec, BF16, tmp_path, lambda *_: None, lambda: False, lent=True)
    assert made.variant == BF16
    assert made.fidelity is not None and made.fidelity.verdict == "exact"
    assert [note for note in made.notes if "in bf16 on the GPU it was not compared" in note]
