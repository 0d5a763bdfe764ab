"""The peers measurement as medians, ratios against goals, a page and its plots. Pure but for ``write``.

A goal that was missed is printed as missed, and one that this run can't tell as not measured, with the reason.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import _plots
from benchmarks._openvino import CALLED
from benchmarks._sections import CONTENDERS, LARGE, LONG, PLAIN, SHORT, SMALL
from playground.results.figures import Figure, figure
from playground.system.contention import BUSY_CORES


@dataclass(frozen=True)
class Ratio:
    """A goal for ours ÷ theirs. Of several of ``theirs`` the best counts, by its median."""

    what: str
    section: str
    figure: str
    ours: str
    theirs: tuple[str, ...]
    sense: str
    bound: float


LLAMA_INT8, LLAMA_INT4 = ("llama.cpp Q8_0", PLAIN), ("llama.cpp Q4_1",)
OPENVINO_INT8 = ("openvino int8", "openvino int8 (prompts)")
OPENVINO_INT4 = ("openvino int4", "openvino int4 (prompts)")
PEERS = tuple(name for name in CONTENDERS if name.split()[0] not in ("ours", "bare"))
RATIOS = (
    Ratio("decode", "decode", "decode_tok_s", "ours int8", LLAMA_INT8, "≥", 1.5),
    Ratio("decode", "decode", "decode_tok_s", "ours int4", LLAMA_INT4, "≥", 1.8),
    Ratio("decode", "decode", "decode_tok_s", "ours int8", OPENVINO_INT8, "≥", 1.2),
    Ratio("decode", "decode", "decode_tok_s", "ours int4", OPENVINO_INT4, "≥", 1.2),
    Ratio("decode", "decode", "decode_tok_s", "ours int8", ("genai int8",), "≥", 1.2),
    Ratio("decode", "decode", "decode_tok_s", "ours int4", ("genai int4",), "≥", 1.2),
    Ratio("decode", "decode", "decode_tok_s", "ours int8", ("torch fp32",), "≥", 4.0),
    Ratio(f"time to first token at {SHORT}", "decode", "ttft_s", "ours int8", PEERS, "≤", 0.5),
    Ratio(f"time to first token at {SHORT}", "decode", "ttft_s", "ours int4", PEERS, "≤", 0.5),
    Ratio(f"time to first token at {LONG}", "prompt", "ttft_s", "ours int8", PEERS, "≤", 0.45),
    Ratio(f"time to first token at {LONG}", "prompt", "ttft_s", "ours int4", PEERS, "≤", 0.45),
    Ratio(f"prefill at {LONG}", "prompt", "prefill_tok_s", "ours int8", LLAMA_INT8, "≥", 2.0),
    Ratio(f"prefill at {LONG}", "prompt", "prefill_tok_s", "ours int4", LLAMA_INT4, "≥", 2.0),
    Ratio("peak memory", "decode", "peak_mb", "ours int8", LLAMA_INT8, "≤", 1.0),
    Ratio("peak memory", "decode", "peak_mb", "ours int4", LLAMA_INT4, "≤", 1.0),
    Ratio("second turn, time to first token", "chat", "ttft_s", "with reuse", ("without reuse",), "≤", 0.3),
)
SECONDS = (
    ("load", "load", "load_s", f"ours int8, {SMALL}", 0.6),
    ("load", "load", "load_s", f"ours int8, {LARGE}", 0.6),
    ("prepare from GGUF", "prepare", "prepare_s", SMALL, 60.0),
    ("prepare from GGUF", "prepare", "prepare_s", LARGE, 60.0),
)
STATES = {True: "reached", False: "missed", None: "not measured"}
HEADS = {
    "decode_tok_s": "decode tok/s",
    "ttft_s": "first token s",
    "prefill_tok_s": "prefill tok/s",
    "reused_tokens": "reused tokens",
    "load_s": "seconds",
    "peak_mb": "peak memory MB",
    "prepare_s": "seconds",
    "together_tok_s": "all together tok/s",
    "first_model_tok_s": "the first model tok/s",
}
SHOWN = {
    "decode": ("Decode, behind a prompt of 40 tokens", ("decode_tok_s", "ttft_s", "peak_mb")),
    "prompt": ("A prompt of 512 tokens", ("ttft_s", "prefill_tok_s")),
    "chat": ("Second turn of a chat (ours int8)", ("ttft_s", "reused_tokens")),
    "load": ("Process start to first token possible (files in the system's cache)", ("load_s",)),
    "size": (f"A model of twice the size ({LARGE})", ("decode_tok_s", "ttft_s", "prefill_tok_s")),
    "growth": ("Growth with the prompt's length", ("ttft_s", "decode_tok_s")),
    "fast": ("Models at once (fast mode)", ("together_tok_s", "first_model_tok_s")),
    "prepare": ("From the downloaded GGUF to ready (int8)", ("prepare_s",)),
}


def goals(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every goal with ``met``: whether this run reached it, None where it can't tell, with ``why`` not."""
    found = [_ratio(document, goal) for goal in RATIOS]
    for what, section, name, who, bound in SECONDS:
        line = {"what": what, "pair": who, "goal": f"≤ {bound:g} s"}
        if values := document["values"].get(section, {}).get(who, {}).get(name):
            taken = figure(what, "s", values)
            found.append(line | _taken(taken) | {"met": taken.median <= bound})
        else:
            found.append(line | _untaken(_why(document, section, [who])))
    return found


def _ratio(document: Mapping[str, Any], goal: Ratio) -> dict[str, Any]:
    """Against the best of those who ran: missed is missed, but reached only where no library's rows are missing."""
    rows = document["values"].get(goal.section, {})
    ran = [name for name in goal.theirs if rows.get(name, {}).get(goal.figure)]
    missing = {name.split()[0] for name in goal.theirs} - {name.split()[0] for name in ran}
    absent = [name for name in goal.theirs if name.split()[0] in missing]
    among = goal.theirs[0] if len(goal.theirs) == 1 else "the best of its peers" if goal.theirs == PEERS else ""
    who = among or f"the best of {', '.join(goal.theirs)}"
    line = {"what": goal.what, "pair": f"{goal.ours} / {who}", "goal": f"{goal.sense} {goal.bound:g} ×"}
    if not ran or not rows.get(goal.ours, {}).get(goal.figure):
        return line | _untaken(_why(document, goal.section, absent if not ran else [goal.ours]))
    more, pick = goal.sense == "≥", max if goal.sense == "≥" else min
    best = pick(ran, key=lambda name: statistics.median(rows[name][goal.figure]))
    pairs = zip(rows[goal.ours][goal.figure], rows[best][goal.figure], strict=True)
    taken = figure(goal.what, "×", [a / b for a, b in pairs])
    met = taken.median >= goal.bound if more else taken.median <= goal.bound
    line |= {"pair": f"{goal.ours} / {best}"} | _taken(taken)
    if len(ran) > 1:
        line["pair"] += f", the best of {len(ran)}"
    if met and missing:
        return line | {"met": None, "why": f"without {', '.join(sorted(missing))}"}
    return line | {"met": met}


def _taken(taken: Figure) -> dict[str, Any]:
    return {"median": taken.median, "quartiles": [taken.low, taken.high], "unit": taken.unit}


def _untaken(why: str) -> dict[str, Any]:
    return {"median": None, "quartiles": None, "unit": "", "met": None, "why": why}


def _why(document: Mapping[str, Any], section: str, names: Sequence[str]) -> str:
    """Why there are no figures of ``names``: the reasons that were noted, or that nobody asked."""
    if not document["values"].get(section):
        return f"no section {section} in this run"
    said = dict.fromkeys(document["skipped"][name] for name in names if name in document["skipped"])
    return "; ".join(said) or "left out of this run"


def page(document: Mapping[str, Any], plots: bool = True) -> str:
    """Markdown."""
    machine = document["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    others = document["other_cpu_cores"]
    parts = [
        "# Benchmarks",
        "",
        f"Written by `{document['command']}` on {machine['date']}, commit `{(machine['commit'] or 'none')[:12]}`. "
        f"Medians of {document['repeats']}, quartiles in brackets. {SMALL}, greedy, {machine['threads']} threads each, "
        "the same model in the formats named, same token ids and counts; contenders take turns, in another order in "
        "each repeat. Sections are minutes apart: compare within a table.",
        "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores, {', '.join(machine['flags']) or 'flags unknown'}, "
        f"{machine['memory_gb']} GB; {machine['system']}",
        f"- Versions: {versions}",
        f"- {_cache(document)}",
        f"- **The machine was busy: between two sections others used {others:.2f} cores. Don't trust these figures.**"
        if others > BUSY_CORES
        else f"- The machine was idle: before, between and after the sections others used at most {others:.2f} cores.",
    ]
    if document["quick"]:
        parts.append("- **A quick run: it shows that everything runs, not how fast.**")
    parts += ["", "## Goals", "", *_goal_table(document["goals"])]
    parts += [
        "",
        "Where a pair has two precisions, it is what the rounded model gains over the original that was asked. Of",
        "several peers the best counts, by its median; reached is only said where no library's rows are missing.",
    ]
    if any(goal["met"] is False for goal in document["goals"]):
        parts += ["", "What a missed goal fails at, and what was tried: [engine.md](engine.md)."]
    for section, rows in document["values"].items():
        title, names = SHOWN[section]
        parts += ["", f"## {title}", "", *_table(section, rows, names, document)]
    if plots and (drawn := drawings(document)):
        parts += ["", "## Plots", "", *(f"![{name.removesuffix('.svg')}](benchmarks/{name})" for name in drawn)]
    parts += ["", "## How each was called", ""]
    for name, seat in document["contenders"].items():
        about = f". It says of itself: {seat['about']}" if seat.get("about") else ""
        parts.append(f"- **{name}**: {seat['how']}{about}")
    parts += [f"- **{name}**: skipped. {why}" for name, why in document["skipped"].items()]
    if "llama-cpp-python" in machine["versions"]:
        parts += ["", "llama.cpp is compiled from llama-cpp-python's source."]
    if "openvino-genai" in machine["versions"]:
        parts += ["", "OpenVINO GenAI:", "", CALLED.rstrip()]
    parts += [
        "",
        "Ours is given text, and its time to first token contains the template and tokenising; the others are",
        "given token ids. Prefill counts from the known ids to the first token, for all alike. The share of the",
        "read rate is bytes of weights read per token × tokens per second ÷ the rate at which as many threads read",
        "as many bytes over and over and do nothing else, taken before and after the decode section, the better of",
        "both; the cache of the conversation is not counted. Bits a weight: those bytes ÷ the weights a token reads.",
        "Peak memory is the most resident memory of the process while it answered, pages of mapped files included.",
        "llama.cpp's context is made for 1,024 tokens at once, where prompts grow for 8,192; those of more than",
        "2,048 tokens are repeated three times at most.",
        "Loading: ours and OpenVINO load their tokenizers too; ours answers once, the others read three tokens.",
        "Q8_0 is made from the downloaded GGUF by llama.cpp's package gguf, once for all who read it.",
        "",
    ]
    return "\n".join(parts)


def _cache(document: Mapping[str, Any]) -> str:
    """What the last-level cache holds, for where it holds the weights memory is not the limit."""
    size = document["last_level_cache_mb"]
    if size is None:
        return "The size of the last-level cache is unknown: the weights may fit, and then memory is not the limit."
    fitting = [name for name, seat in document["contenders"].items() if seat["fits_cache"]]
    said = f"The last-level cache has {size:,} MB (of a virtual machine: the host's, shared with others)."
    if not fitting:
        return f"{said} No contender's weights fit: memory is the limit of decoding."
    who = "every contender" if len(fitting) == len(document["contenders"]) else ", ".join(fitting)
    return f"{said} **The weights of {who} fit: there the cache's rate is the limit of decoding, not memory's.**"


def _goal_table(found: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["| figure | pair | median | goal | |", "|---|---|---|---|---|"]
    for goal in found:
        taken = "–"
        if goal["median"] is not None:
            low, high = goal["quartiles"]
            taken = f"{goal['median']:.2f} {goal['unit']}{_spread(low, high, 2)}"
        state = STATES[goal["met"]] + (f": {goal['why']}" if goal.get("why") else "")
        lines.append(f"| {goal['what']} | {goal['pair']} | {taken} | {goal['goal']} | {state} |")
    return lines


def _table(
    section: str, rows: Mapping[str, Mapping[str, Sequence[float]]], names: Sequence[str], document: Mapping[str, Any]
) -> list[str]:
    shares = section == "decode"
    heads = [HEADS[name] for name in names] + (["share of the read rate"] if shares else [])
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for who, figures in rows.items():
        cells = [_cell(name, figures.get(name, ())) for name in names]
        if shares:
            seat = document["contenders"][who]
            size, most = seat["bytes_per_token"], seat["read_gb_s"]
            share = size * statistics.median(figures["decode_tok_s"]) / most / 1e9
            where = ", fits the cache" if seat["fits_cache"] else ""
            numbers = document.get("weights_per_token")
            bits = f", {size * 8 / numbers:.1f} bits a weight" if numbers else ""
            cells.append(f"{share:.0%} of {most} GB/s ({size / 1e6:.0f} MB a token{bits}{where})")
        lines.append(f"| {who} | {' | '.join(cells)} |")
    return lines


def _cell(name: str, values: Sequence[float]) -> str:
    if not values:
        return "–"
    taken = figure(name, "", values)
    digits = 3 if name == "ttft_s" else 2 if name.endswith("_s") and "tok" not in name else 1
    return f"{taken.median:.{digits}f}{_spread(taken.low, taken.high, digits)}"


def _spread(low: float, high: float, digits: int) -> str:
    """The quartiles in brackets; nothing where there are none to tell apart."""
    return f" [{low:.{digits}f}–{high:.{digits}f}]" if low != high else ""


def drawings(document: Mapping[str, Any]) -> dict[str, str]:
    """SVG by file name."""
    rows = document["values"].get("growth", {})
    drawn = {}
    for name, file, title, unit in (
        ("ttft_s", "first-token.svg", "Time to first token", "seconds"),
        ("decode_tok_s", "decode.svg", "Decode behind a prompt", "tokens/s"),
    ):
        series: dict[str, list[tuple[float, float]]] = {}
        for row, figures in rows.items():
            who, _, length = row.rpartition(" @")
            series.setdefault(who, []).append((float(length), statistics.median(figures[name])))
        if series:
            drawn[file] = _plots.lines(f"{title}, {SMALL}", "tokens of prompt", unit, series)
    for key, section, title in (("size.svg", "size", "Decode by model size"), ("fast.svg", "fast", "Models at once")):
        if series := _by_size(document) if section == "size" else _at_once(document):
            across = "millions of parameters" if section == "size" else "models"
            drawn[key] = _plots.lines(title, across, "tokens/s", series)
    return drawn


def _by_size(document: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Decode of both models, for those who ran both."""
    small, large = document["values"].get("decode", {}), document["values"].get("size", {})
    found = {}
    for who in small:
        if other := large.get(f"{who} @{SHORT}"):
            rates = [statistics.median(row["decode_tok_s"]) for row in (small[who], other)]
            found[who] = [(135.0, rates[0]), (268.0, rates[1])]
    return found


def _at_once(document: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    rows = document["values"].get("fast", {})
    named = {"all together": "together_tok_s", "the first model": "first_model_tok_s"}
    points = {
        title: sorted((float(row.split()[0]), statistics.median(figures[name])) for row, figures in rows.items())
        for title, name in named.items()
    }
    return points if rows else {}


def write(document: Mapping[str, Any], place: Path) -> list[Path]:
    """The page and its plots, which lie in a folder of the page's name."""
    folder = place.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, drawn in drawings(document).items():
        (folder / name).write_text(drawn, encoding="utf-8")
        written.append(folder / name)
    place.write_text(page(document), encoding="utf-8")
    return [place, *written]
