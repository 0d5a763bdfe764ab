"""The memory plan: what a model is expected to take, what fits together, what is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from playground import paths
from playground.catalog.entries import load_catalog
from playground.catalog.footprint import PACKED
from playground.config.settings import Settings
from playground.errors import ConfigError, DoesNotFit
from playground.experiments.memory_plan import batches, plan, plan_of
from playground.export import Preparation
from playground.records import Artifact, LoadSpec, ModelSpec, Request, Variant
from playground.service import Playground
from playground.system import memory
from playground.workers.expected_memory import check_alone, expected
from playground.workers.pool import Pool
from tests.support.scripted_models import scripted
from tests.support.watching import ASK, compare, until

LLAMA = {"model_type": "llama", "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
SMOL = {**LLAMA, "hidden_size": 576, "vocab_size": 49152}


def load(folder: Path, config: dict[str, Any], precision: str, size: int, runtime: str = "onnx") -> LoadSpec:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    variant = Variant("m", runtime, precision)
    recipe = "fused" if runtime == "onnx" else "none"
    spec = ModelSpec("m", "M", "path:x", "", runtime, precision, 8192, "chat")
    return LoadSpec(spec, Artifact(variant, str(folder), recipe, "r", "", size), 2)


def graph(path: Path, **weights: tuple[int, int]) -> None:
    """An ONNX file with these weights (element type, count) and one node, quantised where ``bits`` says so."""
    bits = weights.pop("bits", (0, 0))[0]
    kept = [helper.make_tensor(name, kind, [count], b"\0" * size(kind, count), raw=True)
            for name, (kind, count) in weights.items()]  # fmt: skip
    node = (
        helper.make_node("MatMulNBits", ["x"], ["y"], bits=bits) if bits else helper.make_node("Gather", ["x"], ["y"])
    )
    onnx.save(helper.make_model(helper.make_graph([node], "g", [], [], kept)), str(path))


def size(kind: int, count: int) -> int:
    return count * (4 if kind == TensorProto.FLOAT else 1)


def test_tables_that_are_looked_up_beside_rounded_weights_take_no_memory(tmp_path: Path) -> None:
    rounded, table = (TensorProto.UINT8, 32_000_000), (TensorProto.FLOAT, 25_000_000)
    spec = load(tmp_path, SMOL, "int8", 136_000_000)
    graph(tmp_path / "model.onnx", bits=(8, 0), products=rounded, scales=(TensorProto.FLOAT, 1_000_000), table=table)
    assert expected(spec).weights_mb == pytest.approx((32 + 4) * PACKED["int8"])
    assert expected(spec).disk_mb == 136
    whole = load(tmp_path / "whole", SMOL, "fp32", 100_000_000)
    graph(tmp_path / "whole" / "model.onnx", table=table)
    assert expected(whole).weights_mb == pytest.approx(100 * PACKED["fp32"])


def test_what_embedding_and_head_share_counts_once(tmp_path: Path) -> None:
    head = (TensorProto.UINT8, 32_000_000)
    spec = load(tmp_path, SMOL, "int8", 48_000_000)  # the file has one of the two
    graph(tmp_path / "model.onnx", bits=(8, 0), layers=(TensorProto.UINT8, 16_000_000), head=head, embedding=head)
    assert expected(spec).weights_mb == pytest.approx(48 * PACKED["int8"])


def test_a_graph_that_can_not_be_read_counts_with_its_whole_size(tmp_path: Path) -> None:
    spec = load(tmp_path, SMOL, "int8", 90_000_000)
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    assert expected(spec).weights_mb == pytest.approx(90 * PACKED["int8"])


def test_torch_widens_narrow_weights_and_maps_wide_ones(tmp_path: Path) -> None:
    for kind, taken_mb in ((np.float32, 4.0), (np.float16, 2.0 + 4.0)):
        spec = load(tmp_path, SMOL, "fp32", 0, "torch")
        save_file({"w": np.zeros((1000, 1000), kind)}, tmp_path / "model.safetensors")
        assert expected(spec).weights_mb == pytest.approx(taken_mb, rel=0.01)


def test_a_long_prompt_is_expected_to_take_its_cache(tmp_path: Path) -> None:
    spec = load(tmp_path, SMOL, "int8", 270_000_000)
    short, long = (expected(spec, Request("a" * length)).cache_mb for length in (30, 15_000))
    assert long - short == pytest.approx(4990 * 46_080 / 1e6, rel=0.06)  # in steps of 256 tokens
    endless = expected(spec, Request("a" * 10**6)).cache_mb
    assert endless == pytest.approx(8192 * 46_080 / 1e6)  # the context is all there can be
    japanese = expected(spec, Request("日" * 5_000)).cache_mb
    assert japanese == pytest.approx(long, rel=0.05)  # a character is a token there, not a third of one


def test_holding_an_answer_to_a_schema_takes_its_vocabulary_as_bytes(tmp_path: Path) -> None:
    one = load(tmp_path, SMOL, "int8", 140_000_000)
    free, held = (expected(one, Request("hi", json_schema=schema)) for schema in ("", "{}"))
    assert held.total_mb - free.total_mb == pytest.approx(49152 * 900 / 1e6)
    assert held.process_mb - free.process_mb == pytest.approx(held.total_mb - free.total_mb)


def test_a_model_too_large_for_the_machine_is_refused_with_both_figures(tmp_path: Path) -> None:
    spec = load(tmp_path, SMOL, "fp32", 8_000_000_000)
    with pytest.raises(DoesNotFit, match=r"m@onnx-fp32 is expected to take 9,\d\d\d MB; models may take 4,000 MB"):
        check_alone(spec, Request("Hi"), 4000)


def test_groups_hold_what_fits_together_in_order() -> None:
    assert batches([300, 300, 300], 700) == [[0, 1], [2]]
    assert batches([900, 100, 100], 700) == [[0], [1, 2]]
    assert batches([], 700) == []


def test_a_plan_says_what_is_expected_and_what_will_happen() -> None:
    a, b = Variant("a", "onnx", "int8"), Variant("b", "onnx", "fp32")
    assert "a@onnx-int8 300 MB, b@onnx-fp32 600 MB" in plan([(a, 300), (b, 600)], 1000).words()
    assert "unloaded before another is loaded" in plan([(a, 300), (b, 800)], 1000).words()
    assert "b@onnx-fp32 will be refused" in plan([(a, 300), (b, 2000)], 1000).words()
    assert plan([(a, None)], 1000).words() == ""


def test_in_fast_mode_a_plan_names_the_groups_and_leaves_out_what_is_refused() -> None:
    a, b, c, d = (Variant(name, "onnx", "int8") for name in "abcd")
    made = plan([(a, 500), (b, 400), (c, 2000), (d, 300)], 1000)
    assert made.groups() == [[a, b], [d]]
    assert "in groups: a@onnx-int8 and b@onnx-int8; d@onnx-int8" in made.words("fast")
    assert "unloaded before another" in made.words("fair")
    assert made.tight
    assert not plan([(a, 500), (b, 400)], 1000).tight


def test_the_budget_is_a_setting_of_the_space_and_of_the_environment(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    space = tmp_path / "spaces.yaml"
    space.write_text("app: {models: [fast], limits: {memory_mb: 3000}}")
    assert make_settings(PLAYGROUND_SPACE=space).memory_mb == 3000
    assert make_settings(PLAYGROUND_SPACE=space, PLAYGROUND_MEMORY_MB=500).memory_mb == 500
    assert make_settings().memory_mb is None
    for wrong in ("0", "lots", "-1"):
        with pytest.raises(ConfigError, match="PLAYGROUND_MEMORY_MB"):
            make_settings(PLAYGROUND_MEMORY_MB=wrong)


def test_what_is_not_prepared_is_planned_by_the_catalogue() -> None:
    catalog, large = load_catalog(paths.CATALOG), Variant("mistral-7b-instruct-v0.1", "onnx", "int8")
    none = SimpleNamespace(state=lambda variant: Preparation("missing"))
    (planned,) = plan_of(catalog, none, [(large, Request("Hi"))], 6000).models
    assert planned.expected_mb == pytest.approx(7_241_732_096 * 1.15 * 1.1 / 1e6, rel=0.1)
    assert not planned.alone


@pytest.mark.waits
class TestWithWorkers:
    def test_one_too_large_is_refused_and_the_others_answer(
        self, playground: Playground, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        large = "playground.workers.pool.check_alone"

        def check(load: LoadSpec, request: Request, budget_mb: float) -> None:
            check_alone(replace(load, artifact=_sized(load.artifact)), request, budget_mb)

        def _sized(artifact: Artifact) -> Artifact:
            return replace(artifact, size_bytes=10**14 if artifact.variant.model == "slow" else 0)

        monkeypatch.setattr(large, check)
        slow, fast = compare(playground, "slow", "fast").runs
        assert slow.error and "is expected to take 100,000,060 MB" in slow.error and slow.finish_reason == "error"
        assert fast.error is None and fast.text

    def test_fast_mode_runs_in_groups_that_fit(self, make_settings: Callable[..., Settings]) -> None:
        with Playground(make_settings(PLAYGROUND_MEMORY_MB=130)) as playground:  # two of 60 MB fit, three don't
            running = playground.comparer.start(ASK, ["fast", "slow", "base"], "fast")
            most = 0
            while not running.done:
                most = max(most, sum(loaded.busy for loaded in playground.pool.loaded()))
            assert all(run.error is None for run in running.result().runs)
            assert 0 < most <= 2

    def test_models_that_fast_mode_runs_alone_have_all_threads(self, make_settings: Callable[..., Settings]) -> None:
        threads = {}
        for budget in (70, 1000):  # one of 60 MB fits, or all
            with Playground(make_settings(PLAYGROUND_MEMORY_MB=budget, PLAYGROUND_THREADS=2)) as playground:
                runs = compare(playground, "fast", "base", mode="fast").runs
                threads[budget] = [run.timings.threads for run in runs]
        assert threads == {70: [2, 2], 1000: [1, 1]}

    def test_expected_and_measured_stand_side_by_side(self, playground: Playground) -> None:
        (run,) = compare(playground, "fast").runs
        assert run.timings.expected_memory_mb == 60
        assert run.timings.peak_memory_mb and run.timings.peak_memory_mb > 10

    def test_unloading_gives_the_memory_of_the_process_tree_back(self, settings: Settings) -> None:
        import psutil

        def held() -> float:
            own = psutil.Process()
            return sum(memory.resident_mb(child.pid) or 0.0 for child in own.children(recursive=True))

        with Pool(settings) as pool:
            before = held()
            load = scripted("fake:text=a&memory_mb=200")
            list(pool.generate(load, ASK, lambda: False))
            assert held() > before + 180
            pool.unload(str(load.artifact.variant))
            until(lambda: held() < before + 10)

    def test_what_is_too_large_is_refused_before_it_is_prepared(self, make_settings: Callable[..., Settings]) -> None:
        with Playground(make_settings(PLAYGROUND_CATALOG=paths.CATALOG, PLAYGROUND_MEMORY_MB=300)) as own:
            (run,) = compare(own, "mistral-7b-instruct-v0.1@onnx-int8").runs
            assert run.error
            assert "mistral-7b-instruct-v0.1@onnx-int8 is expected to take" in run.error
            assert "models may take 300 MB here" in run.error
            assert run.timings.expected_memory_mb == pytest.approx(9_500, rel=0.1)
            assert own.preparer.state(run.variant).status == "missing"

    def test_of_two_that_load_at_once_each_counts_the_other(self, settings: Settings) -> None:
        def item(name: str, **more: Any) -> LoadSpec:
            return scripted("fake:" + "&".join(f"{key}={value}" for key, value in more.items()), name, size_bytes=10**8)

        with Pool(settings, budget_mb=450) as pool:  # each is expected to take 160 MB
            list(pool.generate(item("idle", memory_mb=150), ASK, lambda: False))
            threads = [
                threading.Thread(target=lambda load=load: list(pool.generate(load, ASK, lambda: False)))
                for load in (item("one", load_s=0.4), item("two", load_s=0.4))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert {loaded.variant for loaded in pool.loaded()} == {"one@fake-none", "two@fake-none"}
