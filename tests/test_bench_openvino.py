"""OpenVINO GenAI's part of the peers measurement, with fake processes and a fake library: nothing is measured here."""

from __future__ import annotations

import importlib.util
import json
import textwrap
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest

from benchmarks import _openvino, _parties, _weights
from benchmarks.engine import Contender
from playground.errors import RunError

FILE = _openvino.Weights("GGUF Q8_0", Path("a.gguf"), 143)
FOLDER = _openvino.Weights("IR by NNCF INT8_SYM", Path("folder"), 135)
WAYS = [_openvino.Way(key, each) for each in (FILE, FOLDER) for key in ("openvino_pa", "openvino_sdpa_f32")]


class Fake:
    """Answers at a rate of its own; breaks at the given answer."""

    def __init__(self, rate: float, prompt_s: float, breaks_at: int | None = None) -> None:
        self._rate, self._prompt_s, self._left = rate, prompt_s, breaks_at
        self.asked: list[tuple[int, int]] = []

    def generate(self, ids: tuple[int, ...], count: int) -> dict[str, Any]:
        self.asked.append((len(ids), count))
        if self._left is not None and len(self.asked) >= self._left:
            raise RunError("it broke")
        return {"began": 5.0, "stamps": [5.0 + self._prompt_s + step / self._rate for step in range(count)]}


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_openvino, "PAUSE_S", 0.0)


def compared(fakes: Sequence[Fake | str]) -> _openvino.Look:
    by_way = dict(zip(WAYS, fakes, strict=False))

    def start(way: _openvino.Way, _: ExitStack) -> Fake:
        fake = by_way[way]
        if isinstance(fake, str):
            raise RunError(fake)
        return fake

    return _openvino.compare(list(by_way), start)


def test_the_fastest_at_decoding_and_the_fastest_at_prompts_are_found_with_all_that_was_tried() -> None:
    fakes = [Fake(50.0, 0.3), Fake(80.0, 0.5), Fake(60.0, 0.2), Fake(70.0, 0.4)]
    look = compared(fakes)
    assert [str(way) for way in look.best()] == ["GGUF Q8_0, SDPA, f32", "IR by NNCF INT8_SYM, PA"]
    assert "GGUF Q8_0, PA: 50 tok/s, 0.300 s; " in look.told()
    assert all(fake.asked == [(40, 32), (512, 1)] * _openvino.ROUNDS for fake in fakes)


def test_a_way_that_fails_at_first_or_later_leaves_the_others_alone_and_says_why() -> None:
    look = compared([Fake(90.0, 0.1, breaks_at=3), Fake(80.0, 0.5), "no such architecture"])
    assert look.best() == (WAYS[1], WAYS[1])
    assert look.failed == {"GGUF Q8_0, PA": "it broke", "IR by NNCF INT8_SYM, PA": "no such architecture"}


def test_where_no_way_runs_each_reason_is_told_once() -> None:
    with pytest.raises(RunError, match=r"\(no such architecture; out of memory\)"):
        compared(["no such architecture", "out of memory", "no such architecture"]).best()


def seats(monkeypatch: pytest.MonkeyPatch, fakes: Sequence[Fake | str], names: Sequence[str]) -> list[_parties.Seat]:
    look = compared(fakes)
    monkeypatch.setattr(_openvino, "look", lambda *_: look)
    monkeypatch.setattr(_parties, "missing", lambda *_: "")
    monkeypatch.setattr(_weights, "starter_gguf", lambda *_: Path("a.gguf"))
    settings = SimpleNamespace(home=Path("home"), threads=2)
    catalog = SimpleNamespace(resolve=lambda _: (None, None))
    playground: Any = SimpleNamespace(settings=settings, catalog=catalog)
    return _parties.seats(playground, "a-model", names)


BOTH = ("openvino int8", "openvino int8 (prompts)")


def test_each_row_says_which_way_it_is_and_reads_that_ways_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    writing, reading = seats(monkeypatch, [Fake(80.0, 0.3), Fake(50.0, 0.5), Fake(60.0, 0.2)], BOTH)
    assert "GGUF Q8_0, PA: the fastest at decoding" in writing.how and writing.bytes_per_token == 143
    assert "IR by NNCF INT8_SYM, PA: the fastest at reading 512 tokens" in reading.how
    assert reading.bytes_per_token == 135 and writing.open and reading.open


def test_one_way_that_is_the_fastest_at_both_has_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    writing, reading = seats(monkeypatch, [Fake(80.0, 0.1), Fake(50.0, 0.5)], BOTH)
    assert writing.open is not None
    assert reading.open is None and reading.skipped == "GGUF Q8_0, PA is the fastest at both, see openvino int8"


def test_a_model_that_openvino_cannot_read_is_a_row_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    (seat,) = seats(monkeypatch, ["Unsupported model architecture 'gemma3'"], BOTH[:1])
    assert seat.open is None and "Unsupported model architecture 'gemma3'" in seat.skipped


def test_without_the_package_the_row_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    playground: Any = SimpleNamespace(settings=SimpleNamespace(home=Path("home"), threads=2))
    for name, package in (("openvino int4", "openvino_genai"), ("llama.cpp Q8_0", "llama_cpp")):
        (seat,) = _parties.seats(playground, "a-model", [name])
        assert seat.open is None
        assert seat.skipped == f"{package} is not installed: pip install -r requirements-bench.txt"


def test_a_contenders_own_reason_comes_through(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"model\.onnx .*So says the contender 'onnxruntime'"):
        Contender("onnxruntime", tmp_path, 1, {})


LIBRARY = """
    import json, os, pathlib

    LOG = pathlib.Path(os.environ["FAKE_LOG"])

    class SchedulerConfig:
        enable_prefix_caching, max_num_batched_tokens = True, 256

    class StreamingStatus:
        RUNNING = 0

    class StreamerBase: ...

    class GenerationConfig:
        max_new_tokens, ignore_eos, do_sample = 0, False, True

    class TokenizedInputs:
        def __init__(self, ids, mask):
            self.ids, self.mask = ids, mask

    class Answer:
        def __init__(self, tokens):
            self.tokens = [tokens]

    class LLMPipeline:
        def __init__(self, model, device, **settings):
            if not os.path.exists(model):
                raise RuntimeError("Check 'data' failed at src/gguf.cpp:84:\\n[load_gguf] no such file\\n\\n")
            schedule = settings.pop("scheduler_config", None)
            LOG.write_text(json.dumps([device, settings, schedule and vars(schedule)]))

        def generate(self, inputs, config, streamer):
            assert config.ignore_eos and not config.do_sample and inputs.mask.shape == inputs.ids.shape
            said = [int(inputs.ids[0, -1]) + step for step in range(config.max_new_tokens)]
            streamer.write(said[0])
            streamer.write(said[1:])  # some tokens may come together
            return Answer(said)
"""
RUNTIME = """
    __version__ = "2026.4.1-1-abc"

    def Tensor(array):
        return array

    class Core:
        def __init__(self):
            self.told = {"KV_CACHE_PRECISION": "<Type: 'uint8_t'>", "INFERENCE_PRECISION_HINT": "<Type: 'bfloat16'>"}
            self.told["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 32

        def set_property(self, device, properties):
            self.told |= properties

        def get_property(self, device, name):
            return self.told[name]
"""


@pytest.fixture
def library(tmp_path: Path) -> dict[str, str]:
    for name, source in (("openvino_genai", LIBRARY), ("openvino", RUNTIME)):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
    return {"PYTHONPATH": str(tmp_path), "FAKE_LOG": str(tmp_path / "log")}


def test_openvino_is_called_greedily_for_latency_without_its_cache_of_prefixes(
    library: dict[str, str], tmp_path: Path
) -> None:
    contender = Contender("openvino_pa_f32", tmp_path, 3, library)
    try:
        answer = contender.generate((7, 8, 9), 5)
    finally:
        contender.close()
    assert answer["ids"] == [9, 10, 11, 12, 13] and len(answer["stamps"]) == 5
    assert answer["began"] <= answer["stamps"][0] and answer["peak_mb"] > 1
    device, settings, schedule = json.loads((tmp_path / "log").read_text())
    assert device == "CPU" and schedule["enable_prefix_caching"] is False
    assert settings["PERFORMANCE_HINT"] == "LATENCY" and settings["INFERENCE_NUM_THREADS"] == 3
    assert settings["INFERENCE_PRECISION_HINT"] == "f32" and settings["ATTENTION_BACKEND"] == "PA"
    for told in ("OpenVINO 2026.4.1,", "KV_CACHE_PRECISION uint8_t", "DYNAMIC_QUANTIZATION_GROUP_SIZE 32"):
        assert told in contender.about


def test_the_plugin_chooses_its_type_where_none_is_asked_for(library: dict[str, str], tmp_path: Path) -> None:
    contender = Contender("openvino_sdpa", tmp_path, 2, library)
    contender.close()
    assert "ATTENTION_BACKEND SDPA" in contender.about and "INFERENCE_PRECISION_HINT bfloat16" in contender.about
    assert "INFERENCE_PRECISION_HINT" not in (tmp_path / "log").read_text()


def test_what_openvino_says_of_a_file_it_cannot_read_is_the_reason(library: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^\[load_gguf\] no such file"):
        Contender("openvino_pa", tmp_path / "nothing.gguf", 2, library)


def test_a_file_in_other_bits_has_the_same_facts_and_nearly_the_same_numbers(tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(source, "llama")
    writer.add_block_count(3)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    matrix = np.random.default_rng(0).standard_normal((4, 64), np.float32)
    writer.add_tensor("token_embd.weight", matrix)
    writer.add_tensor("output_norm.weight", matrix[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    made = _weights.q8_0(source, tmp_path / "made")
    reader = gguf.GGUFReader(made)
    assert reader.fields["llama.block_count"].contents() == 3
    assert reader.fields["tokenizer.ggml.tokens"].contents() == ["a", "b"]
    assert reader.fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q8_0
    embedding, norm = reader.tensors
    assert embedding.tensor_type == gguf.GGMLQuantizationType.Q8_0
    taken = gguf.quants.dequantize(embedding.data, embedding.tensor_type)
    assert np.abs(taken - matrix).max() < np.abs(matrix).max() / 127
    assert np.array_equal(norm.data, matrix[0])
    assert _weights.gguf_weights(made) == 5 * 64 and _weights.gguf_bytes(made) == 4 * 2 * 34 + 64 * 4
    assert _weights.q8_0(source, tmp_path / "made") == made
