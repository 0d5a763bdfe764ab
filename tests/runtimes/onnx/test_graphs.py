"""Each layout of decoder graph is recognised from the graph alone and computes what numpy computes."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from playground.errors import RunError
from playground.records import Event, LoadSpec, Request
from playground.runtimes import create_runtime
from playground.runtimes.generation.engine import PREFILL_CHUNK, Interrupted
from playground.runtimes.generation.ids_scorer import IdsScorer
from playground.runtimes.generation.prefix_cache import PrefixCache
from playground.runtimes.generation.token_scores import ScoreIds
from playground.runtimes.onnx.engines import GrowingEngine, SharedEngine, WholeEngine
from playground.runtimes.onnx.file import BadOnnxFile, GraphError, read_onnx_file
from playground.runtimes.onnx.runtime import open_engine
from playground.runtimes.onnx.sessions import OnnxEngine
from tests.support import graphs, tiny
from tests.support.graphs import Layout, reference, write_graph

IDS = [(11 * place + 3) % graphs.VOCAB for place in range(300)]

LAYOUTS: dict[str, tuple[Layout, type[OnnxEngine], int]] = {
    "GroupQueryAttention": (Layout("shared"), SharedEngine, PREFILL_CHUNK),
    "GroupQueryAttention, last logits only": (Layout("shared", last_only=True), SharedEngine, PREFILL_CHUNK),
    "GroupQueryAttention, sizes left open": (Layout("shared", open_sizes=True), SharedEngine, PREFILL_CHUNK),
    "GroupQueryAttention, half precision": (Layout("shared", half=True), SharedEngine, PREFILL_CHUNK),
    "GroupQueryAttention beside a state": (Layout("shared", state=True), SharedEngine, PREFILL_CHUNK),
    "plain": (Layout(), GrowingEngine, PREFILL_CHUNK),
    "plain, last logits only": (Layout(last_only=True), GrowingEngine, PREFILL_CHUNK),
    "plain without positions": (Layout(positions=False), GrowingEngine, PREFILL_CHUNK),
    "plain without mask": (Layout(mask=False), GrowingEngine, PREFILL_CHUNK),
    "plain, half precision": (Layout(half=True), GrowingEngine, PREFILL_CHUNK),
    "plain, heads and vocabulary left open": (Layout(open_sizes=True), GrowingEngine, PREFILL_CHUNK),
    "plain beside a state": (Layout(state=True), GrowingEngine, PREFILL_CHUNK),
    "one token a run": (Layout(one_token=True), GrowingEngine, 1),
    "BLOOM's folded heads and transposed keys": (Layout("folded"), GrowingEngine, PREFILL_CHUNK),
    "keys and values in one tensor": (Layout("joined"), GrowingEngine, PREFILL_CHUNK),
    "merged branches": (Layout(merged=True), GrowingEngine, PREFILL_CHUNK),
    "nothing masked within a part": (Layout(masks_parts=False), GrowingEngine, 0),
    "no cache": (Layout("none"), WholeEngine, 0),
    "no cache, no mask": (Layout("none", mask=False, positions=False), WholeEngine, 0),
}


@pytest.mark.parametrize(("layout", "engine_type", "chunk"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_is_recognised_and_computes_what_numpy_computes(
    layout: Layout, engine_type: type[OnnxEngine], chunk: int, tmp_path: Path
) -> None:
    engine = open_engine(write_graph(tmp_path, layout), threads=1)
    assert type(engine) is engine_type
    assert engine.chunk == chunk
    expected = reference(IDS, layout)
    tolerance = 0.2 if layout.half else 2e-4
    for _ in range(2):  # a reset forgets everything
        engine.reset(len(IDS))
        size = engine.chunk or 290
        for start in range(0, 290, size):
            end = min(start + size, 290)
            np.testing.assert_allclose(engine.prefill(IDS[start:end]), expected[end - 1], atol=tolerance)
        for place in range(290, 300):
            np.testing.assert_allclose(engine.step(IDS[place]), expected[place], atol=tolerance)
    if engine.rewind(200, len(IDS)):
        np.testing.assert_allclose(engine.step(IDS[200]), expected[200], atol=tolerance)
    else:
        assert engine_type is WholeEngine or "conv" in str(engine.graph.slots)
    texts = (IDS[:60], [*IDS[:58], 5], IDS[:40])
    scored = IdsScorer(PrefixCache(engine)).score(
        ScoreIds(tuple(map(tuple, texts)), top=1, starts=(30, 0, 0)), lambda: False, lambda _: None
    )
    wide = expected.astype(np.float64)
    logprobs = wide - np.log(np.exp(wide - wide.max(-1, keepdims=True)).sum(-1, keepdims=True)) - wide.max(-1)[:, None]
    for ids, start, found in zip(texts, (30, 0, 0), scored.logprobs, strict=True):
        places = [place for place in range(start, len(ids)) if place]
        assert [each is None for each in found] == [not place for place in range(start, len(ids))]
        true = [logprobs[place - 1][ids[place]] for place in places]
        np.testing.assert_allclose([each for each in found if each is not None], true, atol=tolerance)
    engine.close()


def test_names_of_other_families_sizes_are_found_through_optimum(tmp_path: Path) -> None:
    write_graph(tmp_path, Layout("folded"))
    (tmp_path / "config.json").write_text(f'{{"model_type": "bloom", "n_head": {graphs.HEADS}, "hidden_size": 1}}')
    engine = open_engine(tmp_path, threads=1)
    np.testing.assert_allclose(engine.prefill(IDS[:9]), reference(IDS[:9], Layout())[-1], atol=2e-4)


def test_a_size_that_nobody_says_is_an_error_that_names_it(tmp_path: Path) -> None:
    write_graph(tmp_path, Layout("folded"))
    (tmp_path / "config.json").write_text('{"model_type": "never heard of"}')
    with pytest.raises(GraphError, match=r"num_attention_heads .*past_key_values\.0\.key"):
        open_engine(tmp_path, threads=1)
    (tmp_path / "config.json").write_text('{"num_attention_heads": -3}')
    with pytest.raises(GraphError, match="num_attention_heads is -3"):
        open_engine(tmp_path, threads=1)


def test_a_graph_that_masks_parts_wrongly_would_have_given_other_logits(tmp_path: Path) -> None:
    """The check at loading is not a formality: in parts, this graph is wrong."""
    layout = Layout(masks_parts=False)
    engine = open_engine(write_graph(tmp_path, layout), threads=1)
    engine.reset(100)
    engine.prefill(IDS[:50])
    assert abs(engine.prefill(IDS[50:100]) - reference(IDS[:100], layout)[-1]).max() > 0.01


def load(folder: Path) -> LoadSpec:
    tiny.write_tokenizer(folder, template=None)
    return LoadSpec(tiny.spec("base"), tiny.artifact(folder, "onnx"), threads=1)


def test_unknown_inputs_are_listed_with_the_models_name(tmp_path: Path) -> None:
    write_graph(tmp_path, Layout(extra="pixel_values"))
    with pytest.raises(
        RunError, match=r"tiny@onnx-fp32: .*unknown inputs pixel_values \(all inputs: input_ids"
    ) as caught:
        create_runtime("onnx").load(load(tmp_path))
    assert "past_key_values.0.key, and 3 more like it" in str(caught.value)


def test_a_graph_without_logits_is_refused_with_what_it_has(tmp_path: Path) -> None:
    import onnx

    write_graph(tmp_path, Layout())
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.output[-1].name = model.graph.node[-1].output[0] = "last_hidden_state"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(GraphError, match=r"gives no logits .*last_hidden_state"):
        open_engine(tmp_path, threads=1)


def test_a_cache_that_goes_in_and_never_comes_out_is_refused(tmp_path: Path) -> None:
    import onnx

    write_graph(tmp_path, Layout(state=True))
    model = onnx.load(tmp_path / "model.onnx")
    kept = [output for output in model.graph.output if output.name != "present.7.conv"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(GraphError, match=r"takes past_key_values\.7\.conv and gives nothing"):
        open_engine(tmp_path, threads=1)


def test_stop_ends_a_prompt_that_is_read_in_one_go(tmp_path: Path) -> None:
    engine = open_engine(write_graph(tmp_path, Layout(positions=False, masks_parts=False)), threads=1)
    assert engine.chunk == 0
    before = engine.prefill(IDS).copy()
    engine.reset(len(IDS))
    timer = threading.Timer(0.05, engine.interrupt)
    timer.start()
    with pytest.raises(Interrupted):
        while True:  # a run is short here; the past grows, and the flag is looked for at each operator
            engine.prefill(IDS)
    timer.join()
    engine.reset(len(IDS))
    np.testing.assert_array_equal(engine.prefill(IDS), before)


def test_a_stop_that_came_when_nothing_ran_does_not_spoil_the_next_answer(tmp_path: Path) -> None:
    engine = open_engine(write_graph(tmp_path, Layout()), threads=1)
    engine.interrupt()
    engine.reset(4)
    np.testing.assert_allclose(engine.prefill(IDS[:4]), reference(IDS[:4], Layout())[-1], atol=2e-4)


def test_an_answer_without_a_cache_carries_its_warning(tmp_path: Path) -> None:
    runtime = create_runtime("onnx")
    write_graph(tmp_path, Layout("none"))
    runtime.load(load(tmp_path))
    events: list[Event] = list(runtime.generate(Request("abc", max_new_tokens=3), lambda: False))
    assert events[-1].run is not None
    assert any("no KV cache" in warning for warning in events[-1].run.warnings)


# -- the file ---------------------------------------------------------------------------------------------------------


def test_the_file_reader_sees_operators_types_and_makers(tmp_path: Path) -> None:
    shared = read_onnx_file(write_graph(tmp_path, Layout("shared", half=True)) / "model.onnx")
    assert shared.operators["GroupQueryAttention"] == graphs.LAYERS
    assert shared.makers["present.1.value"] == "GroupQueryAttention"
    assert (shared.float_type, shared.quantised_bits) == ("float16", None)
    assert shared.domains == {"", "com.microsoft"}


def test_dynamic_quantisation_is_seen_as_eight_bits(tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    write_graph(tmp_path, Layout())
    quantize_dynamic(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    assert read_onnx_file(tmp_path / "int8.onnx").quantised_bits == 8
    assert read_onnx_file(tmp_path / "model.onnx").quantised_bits is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_that_is_cut_off_is_not_an_onnx_file(tmp_path: Path, share: float) -> None:
    path = write_graph(tmp_path, Layout()) / "model.onnx"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadOnnxFile):
        read_onnx_file(path)


@pytest.mark.parametrize("data", [b"not a graph", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x80" * 100, b"{}"])
def test_bytes_of_another_kind_are_not_an_onnx_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(BadOnnxFile):
        read_onnx_file(tmp_path / "model.onnx")


def test_dimensions_that_lie_cost_no_memory(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(write_graph(tmp_path, Layout()) / "model.onnx")
    model.graph.initializer[0].dims[:] = [2**40, 2**40]
    (tmp_path / "lying.onnx").write_bytes(model.SerializeToString())
    assert read_onnx_file(tmp_path / "lying.onnx").operators == read_onnx_file(tmp_path / "model.onnx").operators
    (tmp_path / "lying.onnx").rename(tmp_path / "model.onnx")
    with pytest.raises(RunError, match="onnxruntime can't load it"):
        create_runtime("onnx").load(load(tmp_path))


def test_subgraphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    graph = helper.make_graph([], "innermost", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])])
    for _ in range(12):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["x"], then_branch=graph)], "outer", [], graph.output)
    (tmp_path / "deep.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(BadOnnxFile, match="nested too deep"):
        read_onnx_file(tmp_path / "deep.onnx")


def test_layouts_differ_where_they_should(tmp_path: Path) -> None:
    """The reference itself depends on positions and state, so that a graph fed wrongly can't pass."""
    plain = reference(IDS, Layout())
    for other in (replace(Layout(), positions=False), replace(Layout(), state=True)):
        assert abs(plain - reference(IDS, other)).max() > 0.1
