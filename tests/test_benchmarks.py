"""The peers measurement's own arithmetic: turns, ratios, goals, the page and its plots. Nothing is run here."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest

from benchmarks import _machine, _plots, _report, _sections, _weights, cores, door

SEAT = {"how": "called so", "bytes_per_token": 100_000_000, "read_gb_s": 20.0, "fits_cache": False}


def document(values: dict[str, Any], others: float = 0.0) -> dict[str, Any]:
    names = {who.split(" @")[0] for rows in values.values() for who in rows}
    found: dict[str, Any] = {
        "command": "python -m playground bench peers",
        "machine": {
            "cpu": "Some processor",
            "cores": 2,
            "threads": 2,
            "flags": ["avx2"],
            "memory_gb": 24.0,
            "system": "Linux",
            "versions": {"python": "3.12"},
            "commit": "0123456789abcdef",
            "date": "2026-01-01 00:00 UTC",
        },
        "other_cpu_cores": others,
        "last_level_cache_mb": 32,
        "repeats": 3,
        "quick": False,
        "contenders": dict.fromkeys(names, SEAT),
        "skipped": {"optimum fp32": "not installed"},
        "values": values,
    }
    return found | {"goals": _report.goals(found)}


def decode(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    rows = {"ours int8": ours, "llama.cpp Q8_0": theirs}
    return {"decode": {who: {"decode_tok_s": rates, "ttft_s": [0.1] * len(rates)} for who, rates in rows.items()}}


def test_everyone_begins_once_and_everyone_is_asked_in_every_repeat() -> None:
    rounds = [_sections.order(["a", "b", "c", "d"], repeat) for repeat in range(4)]
    assert all(sorted(asked) == ["a", "b", "c", "d"] for asked in rounds)
    assert [asked[0] for asked in rounds] == ["a", "b", "c", "d"]
    assert rounds[1] == ["b", "a", "d", "c"]


def test_a_ratio_is_the_median_of_the_ratios_within_a_repeat() -> None:
    # The medians' own ratio would be 2; a machine that slowed down for both in one repeat must not matter.
    goal = _report.goals(document(decode([100.0, 10.0, 40.0], [50.0, 10.0, 20.0])))[0]
    assert goal["median"] == 2.0
    assert goal["quartiles"] == [1.5, 2.0]


@pytest.mark.parametrize(("ours", "met"), [(151.0, True), (150.0, True), (149.0, False)])
def test_a_goal_is_met_from_its_bound_on_and_missed_below(ours: float, met: bool) -> None:
    found = _report.goals(document(decode([ours] * 3, [100.0] * 3)))
    assert found[0]["pair"] == "ours int8 / llama.cpp Q8_0"
    assert found[0]["met"] is met


def test_a_goal_that_was_not_measured_says_why() -> None:
    found = document(decode([100.0] * 3, [50.0] * 3))
    del found["values"]["decode"]["llama.cpp Q8_0"]
    found["skipped"]["llama.cpp Q8_0"] = "llama_cpp is not installed"
    goals = {(goal["what"], goal["pair"]): goal for goal in _report.goals(found)}
    assert all(goal["met"] is None and goal["median"] is None for goal in goals.values())
    llama = goals["decode", "ours int8 / the best of llama.cpp Q8_0, llama.cpp Q8_0 (no flash attention)"]
    assert llama["why"] == "llama_cpp is not installed"
    assert goals["decode", "ours int4 / genai int4"]["why"] == "left out of this run"
    assert goals["load", "ours int8, gemma-3-270m"]["why"] == "no section load in this run"
    page = _report.page(found | {"goals": list(goals.values())})
    assert "| decode | ours int8 / genai int8 | – | ≥ 1.2 × | not measured: left out of this run |" in page


def test_the_best_peer_counts_and_a_missing_one_leaves_a_goal_open_but_no_miss() -> None:
    def first(ours: float, **peers: float) -> dict[str, Any]:
        names = {
            "llama": "llama.cpp Q8_0",
            "openvino": "openvino int8",
            "genai": "genai int8",
            "ort": "onnxruntime int8",
        }
        names |= {"torch": "torch bf16", "optimum": "optimum fp32"}
        rows = {"ours int8": ours} | {names[name]: seconds for name, seconds in peers.items()}
        values = {"decode": {who: {"ttft_s": [s] * 3, "decode_tok_s": [1.0] * 3} for who, s in rows.items()}}
        return next(goal for goal in _report.goals(document(values)) if goal["what"] == "time to first token at 40")

    peers = {"llama": 0.3, "genai": 0.9, "ort": 0.9, "torch": 0.2, "optimum": 0.9}
    missed = first(0.11, **peers)
    assert missed["pair"] == "ours int8 / torch bf16, the best of 5" and missed["median"] == pytest.approx(0.55)
    assert missed["met"] is False
    left_open = first(0.09, **peers)
    assert left_open["met"] is None and left_open["why"] == "without openvino"
    assert first(0.09, **peers, openvino=0.8)["met"] is True


def test_more_memory_than_llama_cpp_is_a_miss_and_as_much_is_not() -> None:
    for ours, met in ((300.0, True), (301.0, False)):
        rows = {"ours int8": ours, "llama.cpp Q8_0": 300.0}
        values = {who: {"peak_mb": [mb], "decode_tok_s": [1.0], "ttft_s": [1.0]} for who, mb in rows.items()}
        found = _report.goals(document({"decode": values}))
        assert next(goal["met"] for goal in found if goal["what"] == "peak memory") is met


def test_bits_a_weight_are_told_where_the_weights_were_counted() -> None:
    found = document(decode([100.0] * 3, [100.0] * 3)) | {"weights_per_token": 100_000_000}
    assert "| 50% of 20.0 GB/s (100 MB a token, 8.0 bits a weight) |" in _report.page(found)


def test_the_page_prints_misses_shares_skips_and_that_the_machine_was_busy() -> None:
    page = _report.page(document(decode([100.0] * 3, [100.0] * 3), others=0.7))
    assert "| decode | ours int8 / llama.cpp Q8_0 | 1.00 × | ≥ 1.5 × | missed |" in page
    assert "| 50% of 20.0 GB/s (100 MB a token) |" in page
    assert "**optimum fp32**: skipped. not installed" in page
    assert "The machine was busy" in page and "0.70 cores" in page
    assert "was busy" not in _report.page(document(decode([100.0] * 3, [100.0] * 3)))


def test_each_share_is_of_the_rate_at_which_that_contenders_bytes_are_read() -> None:
    found = document(decode([100.0] * 3, [100.0] * 3))
    found["contenders"]["ours int8"] = SEAT | {"read_gb_s": 40.0}
    page = _report.page(found)
    assert "| 25% of 40.0 GB/s (100 MB a token) |" in page and "| 50% of 20.0 GB/s (100 MB a token) |" in page


def test_the_page_says_where_the_cache_holds_the_weights() -> None:
    found = document(decode([100.0] * 3, [100.0] * 3))
    assert "No contender's weights fit: memory is the limit" in _report.page(found)
    found["contenders"]["ours int8"] = SEAT | {"fits_cache": True}
    page = _report.page(found)
    assert "**The weights of ours int8 fit" in page
    assert page.count("(100 MB a token, fits the cache)") == 1
    found["contenders"] = {name: SEAT | {"fits_cache": True} for name in found["contenders"]}
    assert "**The weights of every contender fit" in _report.page(found)
    assert "is unknown: the weights may fit" in _report.page(found | {"last_level_cache_mb": None})


def test_threads_read_all_of_the_bytes_asked_for_and_no_byte_twice_in_a_pass() -> None:
    read: dict[int, list[tuple[int, int]]] = {}

    def reader(first: Any, second: Any) -> None:
        place = read.setdefault(threading.get_ident(), [])
        place += [(half.ctypes.data, half.nbytes) for half in (first, second)]
        time.sleep(0.001)

    size = 3 * 2**20
    began = time.perf_counter()
    rate = _machine.read_bandwidth(size, 3, rounds=1, read=reader)
    took = time.perf_counter() - began
    assert len(read) == 3
    assert {len(places) for places in read.values()} == {2 * -(-_machine.ROUND_BYTES // size)}
    places = sorted({place for places in read.values() for place in places})
    assert sum(length for _, length in places) == size
    assert all(one + length <= other for (one, length), (other, _) in pairwise(places))
    assert rate >= _machine.ROUND_BYTES / took


def test_the_best_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 2.0, 2.0, 3.0, 3.0, 7.0))
    monkeypatch.setattr(_machine.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(_machine, "ROUND_BYTES", 2**20)
    assert _machine.read_bandwidth(2**20, 2, rounds=3) == 2**20


def test_the_last_level_cache_is_that_of_all_cores_we_may_use(tmp_path: Path) -> None:
    for core, shared in ((0, "0-1"), (1, "0-1"), (2, "2-3")):
        for index, (level, kind, size, of) in enumerate(
            ((1, "Data", 48, str(core)), (1, "Instruction", 99999999, str(core)), (3, "Unified", 32768, shared))
        ):
            folder = tmp_path / f"cpu{core}" / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            for name, said in (("level", level), ("type", kind), ("size", f"{size}K"), ("shared_cpu_list", of)):
                (folder / name).write_text(f"{said}\n")
    assert _machine.last_level_cache({0, 1}, tmp_path) == 32 * 2**20
    assert _machine.last_level_cache({1, 2}, tmp_path) == 64 * 2**20
    assert _machine.last_level_cache({7}, tmp_path) is None


def test_the_written_page_links_the_plots_that_were_written(tmp_path: Path) -> None:
    rows = {f"ours int8 @{length}": {"ttft_s": [length / 1000], "decode_tok_s": [90.0]} for length in (64, 128)}
    place = tmp_path / "benchmarks.md"
    written = _report.write(document({"growth": rows}), place)
    assert {path.name for path in written} == {"benchmarks.md", "first-token.svg", "decode.svg"}
    for path in written[1:]:
        assert f"(benchmarks/{path.name})" in place.read_text(encoding="utf-8")
        ElementTree.parse(path)


def test_a_plot_places_points_by_the_logarithm_and_from_zero() -> None:
    drawn = _plots.lines("A <b>", "tokens", "s", {"one & two": [(64, 0.0), (128, 5.0), (256, 10.0)]})
    root = ElementTree.fromstring(drawn)
    circles = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert circles[1][0] - circles[0][0] == pytest.approx(circles[2][0] - circles[1][0], abs=0.2)
    assert circles[0][1] == _plots.HEIGHT - _plots.BOTTOM
    assert "one & two" in "".join(root.itertext())


def test_only_weights_that_a_token_reads_whole_are_counted(tmp_path: Path) -> None:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    table = numpy_helper.from_array(np.zeros((1000, 8), np.float32), "table")
    weight = numpy_helper.from_array(np.zeros((8, 16), np.float32), "weight")
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["row"]),
        helper.make_node("MatMul", ["row", "weight"], ["y"]),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16])
    save(helper.make_model(helper.make_graph(nodes, "g", [ids], [y], [table, weight])), tmp_path / "model.onnx")
    assert 8 * 16 * 4 <= _weights.onnx_bytes(tmp_path / "model.onnx") < 8 * 16 * 4 + 64


def test_instruction_sets_are_read_from_the_system_and_absent_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nflags\t\t: fpu avx2 avx512_vnni sse\n")
    assert _machine.instruction_sets(file) == ["avx2", "avx512_vnni"]
    assert _machine.instruction_sets(tmp_path / "nothing") == []


def test_what_a_client_waits_is_held_against_the_worker_of_the_same_moment() -> None:
    worker = [door.Answer(1.0, 100.0, 1.0, 100.0), door.Answer(2.0, 50.0, 2.0, 50.0)]  # the machine got slower
    client = [door.Answer(1.02, 98.0, 1.0, 99.0), door.Answer(2.04, 49.0, 2.0, 49.5)]
    row = door._row(worker, client, [door.Answer(1.05, 90.0, 1.0, 99.0)])
    assert row["ttft_ratio"] == pytest.approx(1.02)
    assert row["decode_ratio"] == pytest.approx(0.98)
    assert row["added_ms"] == pytest.approx(30.0)


def test_the_harness_is_compared_with_the_faster_way_to_ask_torch_within_each_repeat() -> None:
    from argparse import Namespace

    from benchmarks import evaluation

    # Medians alone would give 20 / 2.
    taken = {"ours int8": [(1.0, 0.6), (10.0, 0.6), (2.0, 0.6)], "torch fp32": [(20.0, 0.7), (70.0, 0.7), (20.0, 0.7)]}
    taken["torch fp32 ×16"] = [(6.0, 0.7), (40.0, 0.7), (12.0, 0.7)]
    options = Namespace(task="playground_choice", questions=200, model="m")
    found = evaluation._document(options, taken, {"llama.cpp": "not installed"})
    assert found["parties"]["torch fp32"]["ours_int8_is_times"] == 10.0
    assert found["parties"]["ours int8"]["ours_int8_is_times"] == 1.0
    assert list(found["goal"].values()) == [6.0, 5.0, True]


def test_parties_of_the_harness_take_turns() -> None:
    from benchmarks import evaluation

    asked: list[str] = []

    def party(name: str) -> evaluation.Party:
        return lambda: (asked.append(name), (1.0, 0.5))[1]

    taken = evaluation._rounds({name: party(name) for name in "abc"}, 2)
    assert asked == ["c", "a", "b", "a", "b", "c", "b", "c", "a"]
    assert {name: len(rounds) for name, rounds in taken.items()} == {"a": 2, "b": 2, "c": 2}


class TestCores:
    def test_each_number_of_loops_once_and_every_quota(self) -> None:
        names = [each.name for each in cores.conditions(2, (0.5, 1.0))]
        assert names == ["idle", "1 busy loop", "2 busy loops", "quota 0.5", "quota 1"]
        assert [each.busy for each in cores.conditions(1, ())] == [0, 1]

    def test_a_quota_is_set_by_either_interface(self, tmp_path: Path) -> None:
        old, new = tmp_path / "old", tmp_path / "new"
        (old / "cpu").mkdir(parents=True)
        new.mkdir()
        (new / "cgroup.controllers").touch()
        quotas = [cores.Quota(root) for root in (old, new)]
        for quota in quotas:
            quota.set(1.5)
            quota.add(7)
        (one,), (other,) = ([*root.glob("playground-bench-*")] for root in (old / "cpu", new))
        assert (one / "cpu.cfs_quota_us").read_text() == "150000"
        assert (one / "cpu.cfs_period_us").read_text() == "100000"
        assert (other / "cpu.max").read_text() == "150000 100000"
        quotas[1].set(None)
        assert (other / "cpu.max").read_text() == "max 100000"
        assert {(folder / "cgroup.procs").read_text() for folder in (one, other)} == {"7"}

    def test_without_the_right_to_make_one_there_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="No such file"):
            cores.Quota(tmp_path / "nowhere")

    def test_loops_are_gone_afterwards(self) -> None:
        before = set(psutil.Process().children())
        with cores.busy(2):
            assert len(set(psutil.Process().children(recursive=True)) - before) >= 2
        assert not [each for each in set(psutil.Process().children()) - before if "resource_tracker" not in cmd(each)]

    def test_the_table_says_what_the_app_takes_of_the_best(self) -> None:
        rates = {"ours 1": 40.0, "ours 2": 45.0, "ours 8": 50.0, "onnxruntime 2": 30.0}
        *_, line, other = cores.table({"idle": rates, "quota 1": rates}, 2).splitlines()
        assert line == "| idle | 40.0 | **45.0** | 50.0 | 30.0 | 0.90 | 1.50 |"
        assert other == "| quota 1 | **40.0** | 45.0 | 50.0 | 30.0 | 0.80 | 1.33 |"
        assert cores.table({"idle": {"ours 1": 1.0}}, 1).splitlines()[-1] == "| idle | **1.0** | 1.00 | – |"


def cmd(process: psutil.Process) -> str:
    return " ".join(process.cmdline())
