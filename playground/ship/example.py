"""The example that goes along: as short as what onnxruntime-genai reads alike allows."""

from __future__ import annotations

import json

from playground.records import ModelSpec
from playground.ship.trying import Trial

QUESTION = {"chat": "What is the capital of Japan?", "base": "The capital of France is"}
"""What the trial asks, and what the example asks where it is asked nothing."""


def question_of(spec: ModelSpec) -> str:
    return QUESTION["chat" if spec.kind == "chat" else "base"]


def example(spec: ModelSpec, trial: Trial) -> str:
    """A program that prints an answer as it comes, for a folder as the trial found it."""
    imports = ["sys"]
    chat = spec.kind == "chat"
    lines = [
        f'here, asked = Path(__file__).parent, " ".join(sys.argv[1:]) or {json.dumps(question_of(spec))}',
        "model = og.Model(str(here))",
        "tokenizer, params = og.Tokenizer(model), og.GeneratorParams(model)",
    ]
    prompt = "asked"
    if chat and trial.template_alike:
        imports.insert(0, "json")
        lines.append('turns = json.dumps([{"role": "user", "content": asked}])')
        prompt = "tokenizer.apply_chat_template(messages=turns, add_generation_prompt=True)"
    elif chat:
        before, _, behind = trial.rendered.partition(question_of(spec))
        prompt = f"{json.dumps(before)} + asked + {json.dumps(behind)}"
    if trial.reads_alike:
        if not chat:
            lines.append('tokenizer.update_options(add_special_tokens="true")')
        ids = f"tokenizer.encode({prompt})"
    else:
        special = "" if not chat else ", add_special_tokens=False"
        ids = f'Tokenizer.from_file(str(here / "tokenizer.json")).encode({prompt}{special}).ids'
    lines += [
        f"ids = {ids}",
        "params.set_search_options(max_length=len(ids) + 200, do_sample=False)",
        "generator, stream = og.Generator(model, params), tokenizer.create_stream()",
        "generator.append_tokens(ids)",
        "while not generator.is_done():",
        "    generator.generate_next_token()",
        '    print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)',
    ]
    head = [*(f"import {name}" for name in imports), "from pathlib import Path", "", "import onnxruntime_genai as og"]
    if not trial.reads_alike:
        head.append("from tokenizers import Tokenizer")
    return "\n".join([*head, "", *lines]) + "\n"
