"""The process that tries a folder with onnxruntime-genai before it is shipped: ``python -m playground.ship.trial``.

A job comes as one line of JSON on stdin: ``{"folder": …, "spec": …, "prompt": …, "tokens": …}``. Lines of JSON go out
on stdout: one ``{"trial": …}``, or one ``{"error": …}``. onnxruntime-genai has a tokenizer, a template engine and a
list of ends of its own; where they read the files otherwise than the playground does, the folder is told (the ends), or
its example is (tokenizer and template). It knows one folder; it does not know what becomes of it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from playground.errors import first_line
from playground.messages import foreign, msg
from playground.records import ModelSpec, Request
from playground.runtimes.generation.prompt import Prompter
from playground.system.memory import PeakMeter
from playground.system.one_job import take_job

CONFIG = "genai_config.json"
TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "  two  spaces,\ttabs\n\nand lines: 3.14, 1,234 – “quoted”.",
    "def f(x):\n    return [y ** 2 for y in x]",
    "日本語の文章。 Ünïcödé 🙂",
)
"""What both tokenizers must read alike: where one differs, prompts may."""


def main() -> int:
    """Do one job."""
    job, send = take_job()
    if job is None:
        return 2
    try:
        send({"trial": run(job)})
    except MemoryError:
        send({"error": msg("memory is short").to_json()})
        return 1
    except Exception as error:  # onnxruntime-genai's errors have no common ancestor below this one
        reason = first_line(str(error).replace(job["folder"], "the folder"), 300)
        send({"error": foreign(reason).to_json() if reason else str(error)})
        return 1
    return 0


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Bring genai_config.json in line, then encode, render and generate; what came is the fields of ``Trial``."""
    folder, most = Path(job["folder"]), int(job["tokens"])
    spec = ModelSpec.from_json(job["spec"])
    prompter = Prompter(folder, spec)
    view = prompter.view(Request(prompt=job["prompt"]))
    adapted = _adapt(folder / CONFIG, sorted(prompter.eos_ids), prompter.context_length)

    import onnxruntime_genai as genai

    meter = PeakMeter()
    began = time.monotonic()
    model = genai.Model(str(folder))
    tokenizer = genai.Tokenizer(model)
    load_s = time.monotonic() - began
    found = {
        "adapted": adapted,
        "reads_alike": _reads_alike(tokenizer, prompter, chat=spec.kind == "chat"),
        "template_alike": spec.kind == "chat" and _renders_alike(tokenizer, job["prompt"], view.rendered),
        "rendered": view.rendered,
        "prompt_ids": list(view.token_ids),
        "load_s": load_s,
        "version": str(genai.__version__),
    }
    return {**found, **_generated(genai, model, view.token_ids, most), "peak_memory_mb": meter.read()[0]}


def _adapt(path: Path, ends: list[int], context: int) -> list[str]:
    """Write the playground's ends of an answer and the context into genai_config.json; the names of what changed."""
    config = json.loads(path.read_text(encoding="utf-8"))
    model, search = config["model"], config.setdefault("search", {})
    wanted = [
        (model, "eos_token_id", ends[0] if len(ends) == 1 else ends),
        (model, "context_length", context),
        (search, "max_length", context),
    ]
    changed = []
    for block, name, value in wanted:
        if value and _set(block.get(name)) != _set(value):
            block[name] = value
            changed.append(name)
    if changed:
        path.write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")
    return changed


def _set(value: Any) -> set[Any]:
    return set(value) if isinstance(value, list) else {value}


def _reads_alike(tokenizer: Any, prompter: Prompter, *, chat: bool) -> bool:
    """Whether onnxruntime-genai's tokenizer gives the playground's ids; it adds no beginning of text unless told to."""
    if not chat:
        tokenizer.update_options(add_special_tokens="true")
    for text in TEXTS:
        view = prompter.view(Request(prompt=text))
        given = view.rendered if chat else text
        if [int(token) for token in tokenizer.encode(given)] != list(view.token_ids):
            return False
    return True


def _renders_alike(tokenizer: Any, prompt: str, rendered: str) -> bool:
    """Whether its template engine makes the same prompt."""
    messages = json.dumps([{"role": "user", "content": prompt}])
    try:
        return bool(tokenizer.apply_chat_template(messages=messages, add_generation_prompt=True) == rendered)
    except Exception:  # it has no template, or one with words that its engine does not know
        return False


def _generated(genai: Any, model: Any, ids: Any, most: int) -> dict[str, Any]:
    """Greedy tokens behind ``ids`` and how fast they came; the first comes with the prompt's work."""
    params = genai.GeneratorParams(model)
    params.set_search_options(max_length=len(ids) + most, do_sample=False)
    generator = genai.Generator(model, params)
    began = time.monotonic()
    generator.append_tokens([int(token) for token in ids])
    stamps = []
    tokens: list[int] = []
    while not generator.is_done() and len(tokens) < most:
        generator.generate_next_token()
        stamps.append(time.monotonic() - began)
        tokens.append(int(generator.get_next_tokens()[0]))
    rate = (len(stamps) - 1) / (stamps[-1] - stamps[0]) if len(stamps) > 1 and stamps[-1] > stamps[0] else None
    return {"tokens": tokens, "ttft_s": stamps[0] if stamps else None, "decode_tok_s": rate}


if __name__ == "__main__":
    sys.exit(main())
