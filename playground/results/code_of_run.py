"""The code that asks the same again: curl, Python and JavaScript over the app's HTTP API, and a terminal's command.

Made of a comparison and an address, run by nobody here. What a way of asking can't express is said beside it. All that
a reader or a model wrote is quoted by the rules of each language.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass, replace
from pprint import pformat
from typing import Any
from urllib.parse import quote, urlencode

from playground.messages import Translatable, msg, plural
from playground.records import Comparison, Request
from playground.results.requests import changed

CALL = "/gradio_api/call/v2/compare"
NOT_IN_THE_API = ("min_new_tokens",)
BEHIND_A_NAME = (
    *("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "system", "stop"),
)
"""Parameters that the terminal takes for one model, behind its name."""
WIDTH = 100
_UNSEEN = r"\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
_HIDDEN, _HIDDEN_OR_LINE = re.compile(f"[{_UNSEEN}]"), re.compile(f"[\\n{_UNSEEN}]")

PYTHON = """from gradio_client import Client  # pip install gradio_client

client = Client({base})
result = client.predict(
    api_name="/compare",
    **{asked},
)
for run in result["runs"]:
    print(run["variant"]["model"], run["timings"]["decode_tok_s"], "tokens/s")
    print(run["error"]["text"] if run["error"] else run["text"])
"""

JAVASCRIPT = """// Node 18 or later, as a module (.mjs). Other websites' pages are not answered.
const address = {address};
const asked = {asked};

const sent = await fetch(address, {{
  method: "POST",
  headers: {{ "Content-Type": "application/json" }},
  body: JSON.stringify(asked),
}});
if (!sent.ok) throw new Error(await sent.text());
const {{ event_id }} = await sent.json();
const told = await (await fetch(`${{address}}/${{event_id}}`)).text();
const done = told.split("\\n\\n").find((each) => each.startsWith("event: complete"));
if (!done) throw new Error(told);
const [result] = JSON.parse(done.slice(done.indexOf("data: ") + 6));
for (const run of result.runs) {{
  console.log(run.variant.model, run.timings.decode_tok_s, "tokens/s");
  console.log(run.error ? run.error.text : run.text);
}}
"""

CURL = """EVENT=$(curl -sS {address} \\
  -H 'Content-Type: application/json' \\
  --data-raw {asked} \\
  | sed 's/.*"event_id": *"\\([^"]*\\)".*/\\1/')
curl -sSN {address}/"$EVENT"
"""


@dataclass(frozen=True)
class Snippet:
    """One way of asking again.

    Attributes:
        language: As code blocks are marked.
        code: Empty where this way can't ask it.
        notes: What it does not do as the run did.
    """

    title: Translatable
    language: str
    code: str
    notes: tuple[Translatable, ...] = ()


def asked_again(comparison: Comparison) -> dict[str, Any]:
    """The parameters of ``/compare`` that ask the same: what is as the endpoint has it by itself is left out."""
    asked: dict[str, Any] = {"prompt": comparison.request.prompt}
    if any(comparison.asked(place) != comparison.request for place in range(len(comparison.runs))):
        asked["columns"] = [
            {"model": str(run.variant), **_own(comparison.request, comparison.asked(place))}
            for place, run in enumerate(comparison.runs)
        ]
    else:
        asked["models"] = [str(run.variant) for run in comparison.runs]
    asked |= {key: value for key, value in _given(comparison.request).items() if key != "prompt"}
    return asked if comparison.mode == "fair" else asked | {"mode": comparison.mode}


def code_of_run(comparison: Comparison, base: str, served: Collection[str] | None = None) -> tuple[Snippet, ...]:
    """Every way there is.

    Args:
        base: Where the app answers, e.g. ``http://127.0.0.1:7860``.
        served: The models that its API serves; None where nobody knows.
    """
    base, asked = base.rstrip("/"), asked_again(comparison)
    written = _json(asked, indent=2)
    address, notes = base + CALL, _notes(comparison, served)
    python = pformat(asked, width=WIDTH, sort_dicts=False).replace("\n", "\n    ")
    quoted = shlex.quote(_json(asked))
    curl = CURL.format(address=shlex.quote(address), asked=quoted)
    script = JAVASCRIPT.format(address=json.dumps(address), asked=written)
    return (
        Snippet(msg("curl"), "bash", curl, notes),
        Snippet(msg("Python"), "python", PYTHON.format(base=repr(base), asked=python), notes),
        Snippet(msg("JavaScript"), "javascript", script, notes),
        _terminal(comparison),
    )


def _given(request: Request) -> dict[str, Any]:
    """What a request says, without what it has by itself."""
    given: dict[str, Any] = {"prompt": request.prompt} if request.prompt else {}
    if request.messages:
        given["messages"] = [message.to_json() for message in request.messages]
    if request.system:
        given["system"] = request.system
    told = {name: value for name, value in changed(request).items() if name not in NOT_IN_THE_API}
    return given | {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}


def _own(shared: Request, own: Request) -> dict[str, Any]:
    """In what a column differs, what it has by itself included where the others have not."""
    ours, theirs = _given(own), _given(shared)
    found = {name: value for name, value in ours.items() if theirs.get(name) != value}
    plain = Request()
    for name in theirs.keys() - ours.keys() - {"prompt", "messages"}:
        value = getattr(plain, name)
        found[name] = list(value) if isinstance(value, tuple) else value
    return found


def _notes(comparison: Comparison, served: Collection[str] | None) -> tuple[Translatable, ...]:
    """What the API can't be told, and what is not the same the second time."""
    requests = [comparison.asked(place) for place in range(len(comparison.runs))]
    notes = _of_chance(requests)
    if begun := sum(bool(each.answer_ids) for each in requests):
        notes.append(
            plural(
                "{n} answer was continued from given tokens, which the API does not take: it is asked from its start.",
                "{n} answers were continued from given tokens, which the API does not take: they are asked from their "
                "start.",
                n=begun,
            )
        )
    if any(each.min_new_tokens for each in requests):
        notes.append(msg("A least number of tokens was asked for, which the API does not take."))
    missing = [run.variant.model for run in comparison.runs if served is not None and run.variant.model not in served]
    if missing:
        notes.append(
            msg(
                "The API of this app does not serve {models}; /models lists what it serves.",
                models=list(dict.fromkeys(missing)),
            )
        )
    if any(run.taken_in for run in comparison.runs):
        notes.append(msg("Answers that were carried over from an earlier comparison are asked anew."))
    return tuple(notes)


def _of_chance(requests: list[Request]) -> list[Translatable]:
    if any(each.seed is None and each.temperature > 0 for each in requests):
        return [msg("No seed was set and the temperature is above 0: the answer is another one each time.")]
    return []


def _terminal(comparison: Comparison) -> Snippet:
    """One command, with parameters of a model's own behind its name; another for what can't be written so."""
    groups: dict[Request, list[str]] = {}
    requests = [replace(comparison.asked(place), answer_ids=()) for place in range(len(comparison.runs))]
    shared = replace(comparison.request, answer_ids=())
    for run, own in zip(comparison.runs, requests, strict=True):
        words = _own_words(shared, own)
        asked, behind = (own, "") if words is None else (shared, words)
        groups.setdefault(asked, []).append(f"{run.variant}{behind}")
    notes = _of_chance(requests)
    if any(comparison.asked(place).answer_ids for place in range(len(comparison.runs))):
        notes.append(msg("The terminal continues no answer from given tokens: it is asked from its start."))
    if any(each.min_new_tokens for each in requests):
        notes.append(msg("A least number of tokens was asked for, which the terminal does not take."))
    talks = [each for each in requests if each.messages]
    if talks:
        notes.append(msg("The terminal takes no conversation of several turns: use one of the other three."))
    if any(each.seed is None and each not in talks for each in requests):
        notes.append(msg("The terminal always has a seed, 0 where none is given."))
    groups = {each: models for each, models in groups.items() if not each.messages}
    if len(groups) > 1:
        notes.append(msg("Several commands: what these models were asked can't be written in one."))
    commands = [_command(request, models, comparison.mode) for request, models in groups.items()]
    return Snippet(msg("Terminal"), "bash", "\n".join(commands), tuple(notes))


def _own_words(shared: Request, own: Request) -> str | None:
    """What stands behind a model's name (``?temperature=0.7&seed=1``); None where that does not say it."""
    names = [name for name in BEHIND_A_NAME if getattr(own, name) != getattr(shared, name)]
    told = {name: getattr(own, name) for name in names}
    if shared.messages or replace(shared, **told) != own or any(value in (None, ()) for value in told.values()):
        return None
    return "?" + urlencode(told, doseq=True, quote_via=quote) if told else ""


def _command(request: Request, models: list[str], mode: str) -> str:
    options = [("-m", model) for model in models]
    if request.system:
        options.append(("--system", request.system))
    for name, value in changed(request).items():
        option = f"--{name.replace('_', '-')}"
        if name in NOT_IN_THE_API or value is None:
            continue
        if isinstance(value, bool):
            options.append((option, ""))
        elif isinstance(value, tuple):
            options += [(option, each) for each in value]
        else:
            options.append((option, str(value)))
    if mode != "fair":
        options.append(("--mode", mode))
    # "--option=value" holds a value that begins with a dash; the prompt comes last, behind two dashes.
    words = [_option(name, value) for name, value in options]
    pipe, prompt = ("printf %s - | ", "-") if request.prompt == "-" else ("", _quoted(request.prompt))
    return pipe + " ".join(["playground", "compare", *words, "--", prompt]) + "\n"


def _option(name: str, value: str) -> str:
    if not value:
        return name
    return f"{name} {_quoted(value)}" if name == "-m" else f"{name}={_quoted(value)}"


def _json(asked: dict[str, Any], indent: int | None = None) -> str:
    """As JSON that hides nothing from who reads it (a mark that turns the direction of writing around, for one)."""
    written = json.dumps(asked, ensure_ascii=False, indent=indent)
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def _quoted(text: str) -> str:
    """A word of a command. A control character is written, not sent: pasted into a terminal it would be a key that is
    pressed, and what follows it a command of whoever wrote the prompt.
    """
    if not _HIDDEN.search(text):
        return shlex.quote(text)
    plain = text.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _HIDDEN_OR_LINE.sub(_escaped, plain) + "'"


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"  # old shells know the first alone
