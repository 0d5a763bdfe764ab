"""How fast architectures decode beside transformers: networks of real classes and of a size that feels memory.

    python -m tests.families.speed [--only NAME,…] [--work FOLDER] [--repeats 3] [--unchecked]
    python -m tests.families.speed --write FILE [--note TEXT]

The second form puts rows that the first has printed into docs/families.md.

Each is a network of about 0.1 B random weights in eight layers, published as bf16 safetensors, prepared as int8 and
decoded greedily by the playground's own engine and by transformers' ``generate`` in fp32 on the same files, in turns: a
thread a core by the clock, then one thread by the processor's time, which says more where a machine does other work.
``--unchecked`` measures what the first recipe builds without comparing it with the original, which takes most of the
time and which the sweep does for the same classes. The vocabulary is the tests' small one, so heads weigh nothing.
Ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks import _unchecked
from benchmarks._contender import Generate, bare, torch
from playground.paths import ROOT
from tests.families.report import PAGE
from tests.families.sweep.page import START as SWEEP
from tests.support import tiny

PROMPT, COUNT = 40, 32
START, END = "<!-- the speed -->", "<!-- /the speed -->"
COLUMNS = (
    "family",
    "million weights",
    "way",
    "engine",
    "precision",
    "tok/s",
    "transformers fp32",
    "ratio",
    "one thread",
)
HEAD = """## How fast

Written by `python -m tests.families.speed --write FILE` from the rows of `python -m tests.families.speed`: decoding
behind 40 tokens, greedily, in int8 by the playground's engine and in fp32 by `transformers.generate`, in turns, on
networks of the real classes with eight layers of random weights and the tests' small vocabulary. *ratio* is by the
clock with a thread a core, *one thread* by the processor's time of one thread each; a dash is
a figure that was not taken. Medians of three turns.
"""
BASE: dict[str, Any] = {
    "vocab_size": tiny.VOCAB,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
MAMBA = {"mamba_n_heads": 32, "mamba_d_head": 64, "mamba_d_state": 64, "mamba_expand": 2, "mamba_n_groups": 1}
DENSE = {"num_local_experts": 0, "shared_intermediate_size": 3072}
LINEAR = ["linear_attention"] * 3 + ["full_attention"]
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama 2": ("llama", {}),
    "Mistral": ("mistral", {}),
    "Mixtral": ("mixtral", {"num_local_experts": 8, "intermediate_size": 1024}),
    "Falcon": ("falcon", {"multi_query": True, "ffn_hidden_size": 4096, "head_dim": None}),
    "OLMo": ("olmo", {"clip_qkv": 8.0}),
    "OLMo 2": ("olmo2", {}),
    "OLMo 3": ("olmo3", {}),
    "Phi 4": ("phi3", {}),
    "SmolLM3": ("smollm3", {}),
    "Ministral 3": ("ministral3", {}),
    "EXAONE 4": ("exaone4", {}),
    "Granite 4 (dense)": (
        "granitemoehybrid",
        {**MAMBA, **DENSE, "layer_types": ["attention"] * 8, "position_embedding_type": "rope"},
    ),
    "Granite 4 (hybrid)": (
        "granitemoehybrid",
        {**MAMBA, **DENSE, "layer_types": ["mamba", "mamba", "mamba", "attention"] * 2,
         "position_embedding_type": "nope"},
    ),
    "Falcon H1": ("falcon_h1", {**MAMBA, "mamba_d_ssm": 2048}),
    "LFM2": ("lfm2", {"layer_types": ["conv", "conv", "full_attention", "conv"] * 2}),
    "Gemma 4": ("gemma4_text", {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "global_head_dim": 64,
                                "vocab_size_per_layer_input": tiny.VOCAB}),
    "Qwen 3 MoE": ("qwen3_moe", {"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 768}),
    "Qwen 3.5": ("qwen3_5_text", {"layer_types": LINEAR * 2}),
}  # fmt: skip


def write(name: str, folder: Path) -> int:
    """The network's files; returns its number of parameters."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, more = FAMILIES[name]
    torch.manual_seed(0)
    sizes = {name: value for name, value in (BASE | more).items() if value is not None or name == "bos_token_id"}
    network: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **sizes))
    with torch.no_grad():
        # Blocks add little to a stream of one, as in trained networks: eight bits are then eight bits.
        network.get_input_embeddings().weight.normal_()
    tiny.write_tokenizer(folder, template=None)
    network.to(torch.bfloat16).save_pretrained(folder)
    return sum(each.numel() for each in network.parameters())


def prepared(folder: Path, home: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "playground", "prepare", f"path:{folder}@onnx-int8", "--json"]
    environment = os.environ | {"PLAYGROUND_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{folder.name}: {done.stdout[-500:]} {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)["artifacts"][0]
    return found


def unchecked(folder: Path, target: Path) -> dict[str, Any]:
    """As ``prepared``, of the first graph that can be built."""
    recipe = _unchecked.build(folder, target, "int8")
    found = {"recipe": recipe, "engine": _unchecked.finished(folder, target), "path": str(target)}
    return found | {"variant": {"runtime": "onnx", "precision": "int8"}}


def tok_s(stamps: list[float]) -> float:
    return (len(stamps) - 1) / (stamps[-1] - stamps[0])


def by_clock(party: Generate, ids: list[int]) -> float:
    """Tokens a second behind the first."""
    return tok_s(party(ids, COUNT)[0])


def by_processor(party: Generate, ids: list[int]) -> float:
    """Tokens in a second of the processor: what ``COUNT`` tokens took more than one."""
    taken = []
    for count in (1, COUNT):
        began = time.process_time()
        party(ids, count)
        taken.append(time.process_time() - began)
    return (COUNT - 1) / (taken[1] - taken[0])


def measured(name: str, work: Path, repeats: int, check: bool) -> str:
    """A row of the table."""
    folder = work / name.lower().replace(" ", "-").replace("(", "").replace(")", "")
    folder.mkdir(parents=True)
    parameters = write(name, folder)
    home = work / f"home-{folder.name}"
    found = prepared(folder, home) if check else unchecked(folder, home / "graph")
    runtime, precision = found["variant"]["runtime"], found["variant"]["precision"]
    engine = (found["engine"] or runtime).split()[0]
    row = f"| {name} | {parameters / 1e6:.0f} | {found['recipe']} | {engine} | {precision} "
    if runtime == "torch":
        return f"{row}| | | | |"
    ids = [(37 * place + 11) % (tiny.VOCAB - 20) + 10 for place in range(PROMPT)]
    figures = []
    for threads, rate in ((len(os.sched_getaffinity(0)), by_clock), (1, by_processor)):
        parties = bare(Path(found["path"]), threads), torch(folder, threads)
        taken: tuple[list[float], list[float]] = ([], [])
        for turn in range(repeats + 1):
            for party, rates in zip(parties, taken, strict=True):
                found_rate = rate(party, ids)
                if turn:  # the first of each warms up
                    rates.append(found_rate)
        figures.append([statistics.median(rates) for rates in taken])
    shutil.rmtree(folder)
    (ours, theirs), one = figures
    return f"{row}| {ours:.1f} | {theirs:.1f} | {ours / theirs:.1f} | {one[0] / one[1]:.1f} |"


def kept(page: str) -> str:
    """The section that a page has, "" if none."""
    _, found, rest = page.partition(START)
    return f"{START}{rest.partition(END)[0]}{END}\n" if found else ""


def put(page: str, rows: Sequence[str], of: str) -> str:
    """``page`` with these rows in place of those that it had, before the sweep.

    Args:
        of: The machine.
    """
    head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    section = "\n".join([START, HEAD, f"{of}.", "", *head, *rows, END, ""])
    if old := kept(page):
        return page.replace(old, section)
    before, sweep, behind = page.partition(SWEEP)
    return f"{before}{section}\n{sweep}{behind}"


def machine() -> str:
    """The processor, by its own name, and how many cores there are."""
    told = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    name = next((line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")), "")
    return f"{len(os.sched_getaffinity(0))} cores of {name or platform.machine()}, {date.today():%B %Y}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.families.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="names, with commas between them")
    parser.add_argument("--work", type=Path, help="a folder for networks and artifacts")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--unchecked", action="store_true", help="do not compare with the original")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write docs/families.md from these rows")
    parser.add_argument("--note", default="", help="what else is to be said of the machine, with --write")
    options = parser.parse_args()
    if options.write:
        rows = [line for line in options.write.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
        measured_rows = [row for row in rows if not row.startswith(f"| {COLUMNS[0]} ")]
        PAGE.write_text(
            put(PAGE.read_text(encoding="utf-8"), measured_rows, machine() + options.note), encoding="utf-8"
        )
        return 0
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    print(
        "| family | million weights | way | engine | precision | tok/s | transformers fp32 | ratio | one thread |",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as temporary:
        for name in filter(None, options.only.split(",")) if options.only else FAMILIES:
            row = measured(name, options.work or Path(temporary), options.repeats, not options.unchecked)
            print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
