"""What visitors of somebody else's app are told in place of what only its owner can do.

Below the front ends nobody knows who reads: an error's next step speaks to whoever can take it, and that is often the
owner, who has the disk, the environment and the terminal. Where the audience is public, the front ends say what stands
here instead: of a message by ``for_visitors``, of what was stored with messages in it by ``all_for_visitors``. Where
files lie on the owner's machine is in no next step, but in what went wrong: of a place the last name is told alone.
``tests/test_owners.py`` finds messages that are neither here nor known to reach no visitor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from playground.messages import NOTHING, Translatable, changed, foreign, msg

Said = Translatable | Callable[[Mapping[str, Any]], Translatable]
"""A message, or what makes it of the values of the one that it stands for."""

ANOTHER = msg("Choose another model: only whoever runs this app can mend this one.")
MEND = msg("Only whoever runs this app can mend that.")
LATER = msg("Try again later, or choose another model.")
READY = msg("Models that are ready run all the same.")
OFFERED = msg("Choose one of the models that are offered here.")
MEASURED = msg("Only whoever runs this app can measure that.")
FAULT = msg("This is a fault of the playground or of the model's files: choose another model.")

FILES = (
    "Accept its licence at {page}, then give a token of that account (huggingface.co/settings/tokens): set HF_TOKEN, "
    "or run `hf auth login`.",
    "The Hub does not tell which. Check the spelling on huggingface.co; for a private one set HF_TOKEN, or run "
    "`hf auth login`, with a token that may read it.",
    "Set HF_TOKEN to a valid one (huggingface.co/settings/tokens), or run `hf auth login`, or give none.",
    "Choose one: `hf download {repo} --include '{file}' --local-dir .`, then name it as path:FILE.",
    "Put one of them into a folder of its own and name it as path:FOLDER.",
    "Put the model's own into a folder with its config.json, as {wanted}, and name it as path:FOLDER.",
    "They are refused. Look for a copy with safetensors, ask its authors for one, or convert it elsewhere "
    "(save_pretrained) and name the folder as path:FOLDER.",
    "Its card names {bases} as what it was made from: take hub:{first}.",
    "Take the unquantised model that it was made from, perhaps hub:{repo} if there is such a repository.",
    "Look for a copy with tokenizer.json, or `pip install sentencepiece`: then it is converted.",
    "Look for a version of the model that transformers knows by itself (often called -hf), or serve it elsewhere and "
    "name it as remote:NAME (docs/remote.md).",
    "Get the file again.",
    "Get it as well.",
    "Get the other parts as well.",
    "Name one of them.",
    "Only safetensors are loaded.",
    "Copy it from the model's repository.",
    "Rename one of them.",
    "Check the path after path: in the catalogue.",
    "Name a .gguf file, or a folder with config.json, tokenizer.json and .safetensors files.",
    "Name one of them: path:{path}/{file}",
    "Put the model's own weights there.",
    "Put the promised file there, or take the revision out of the catalogue.",
    "Pickled weights can run code when they are loaded and are refused; convert them to safetensors.",
    "Sources that can: hub:OWNER/NAME, pypi:PACKAGE==VERSION/FILE, path:FOLDER_OR_GGUF, ollama:NAME and "
    "lmstudio:PUBLISHER/REPO/FILE.",
    "Mend it in the catalogue.",
    "Set revision: sha256:… so that it can be checked.",
    "Check the network and pip's settings (`pip config list`), or put the GGUF file on this machine and name it in the "
    "catalogue as path:FILE.",
    "Nothing of it was kept. Try again; if it stays, check the index that pip is configured to use.",
    "Nothing of it was unpacked. Check the index that pip is configured to use.",
    "Try again; if it stays, check the index that pip is configured to use.",
    "Run `python -m ensurepip` and try again.",
    "Run `python -m ensurepip`.",
    "Check the network and pip's settings.",
    "Check that the file is whole and that its architecture is one transformers knows.",
    "transformers would put random numbers where weights are missing and leave out those it does not know. Take a copy "
    "whose weights are whole and have the names that its config.json's architecture uses.",
    "Install what is named, and prepare the model again.",
    "See the log in PLAYGROUND_HOME.",
    "The log is {log}.",
    "The log is in {folder}.",
    "Is another program at work in PLAYGROUND_HOME?",
    "Prepare the model again.",
    "Prepare the model again, or choose another variant.",
    "Delete {folder} and prepare the model again.",
)
"""Next steps with a model's files: none of them is a visitor's."""
SERVERS = (
    "Add it to spaces.yaml (docs/remote.md).",
    "Set {variable} and start again.",
    "It should be one word of plain characters.",
    "Check its url and model.",
    "Check url and model.",
    "Check that {url} is its OpenAI-compatible address; it often ends in /v1.",
    "Check the key in {variable}.",
    "It wants a key: name its variable in key_env.",
    "It offers: {models}.",
    "Put the final address into url.",
)
"""Next steps with the settings of a model that is served elsewhere."""
WAITING = (
    "Check its url, or look at the server's log.",
    "Check that the server runs and its url.",
    "Look at the server's log.",
    "Try again, or look at the server's log.",
    "Try again; a server that starts models on demand needs a larger timeout_s.",
    "Start them again, or take those that are gone out of replicas.",
    "Look at their logs: the request itself may be what they fail at.",
    "Start it again.",
    "Wait for others to finish, or start it again with more.",
)
"""Next steps with servers and processes that may be well again by themselves."""
MACHINE = (
    "Check that the folder can be written, or set PLAYGROUND_HOME to another one.",
    "Check the folder that PLAYGROUND_HOME names.",
    "Set PLAYGROUND_HOME to a folder that this user may write to.",
    "Free some space or set PLAYGROUND_HOME to another disk.",
    "Free some space or set HF_HOME to a folder on another disk.",
    "Free some space there, or set HF_HOME to a folder that can be written. What arrived is kept.",
    "Free some space there, or set PLAYGROUND_HOME to another folder.",
    "Free some space there.",
    "Free some space on that disk.",
    "Free some.",
    "The file is damaged: move it away, and a new one is made.",
    "Update the playground, or set PLAYGROUND_HOME to another folder.",
    "Check PLAYGROUND_RAY, and the cluster with `ray status`.",
    "Each needs {threads} free cores, this package, and PLAYGROUND_HOME on a disk that all machines share; see "
    "docs/scale.md.",
    "Run: pip install 'open-model-playground[ray]', or unset PLAYGROUND_RAY.",
    "Set PLAYGROUND_RAY_REPLICAS lower, or PLAYGROUND_RAY to a cluster of several machines.",
)
"""Next steps with the disk, the environment and other machines."""
NETWORK = (
    "Check the network, HF_ENDPOINT and proxy settings; models that are prepared run without it.",
    "Connect to the network and try again.",
    "Connect to the network, or name it as hub:{repo}:{tag}.",
    "Unset it.",
    "Unset it, or fetch the model once before.",
)
"""Next steps where the Hub can't be asked."""

INSTEAD: dict[str, Said] = {
    **dict.fromkeys(FILES, ANOTHER),
    **dict.fromkeys(SERVERS, ANOTHER),
    **dict.fromkeys(WAITING, LATER),
    **dict.fromkeys(MACHINE, MEND),
    **dict.fromkeys(NETWORK, READY),
    "This is a fault of the playground or of the model's files; the log is in PLAYGROUND_HOME.": FAULT,
    "This is a fault of the playground or of the model's tokenizer files; the log is in PLAYGROUND_HOME.": FAULT,
    "Wait a few minutes; with a token (HF_TOKEN or `hf auth login`) more are allowed. What arrived is kept.": msg(
        "Wait a few minutes. What arrived is kept."
    ),
    # Limits, sizes, memory
    " (spaces.yaml sets the limits)": NOTHING,
    "This server allows {most:,} at most (spaces.yaml sets the limits).": lambda values: msg(
        "This server allows {most:,} at most.", most=values["most"]
    ),
    "Choose a smaller model or precision, or a shorter prompt; PLAYGROUND_MEMORY_MB allows more.": msg(
        "Choose a smaller model or precision, or a shorter prompt."
    ),
    "Choose a smaller model of the family, or serve it elsewhere and name it as remote:NAME (docs/remote.md).": msg(
        "Choose a smaller model of the family."
    ),
    "Choose a smaller model, or prepare it on a machine with more memory.": msg("Choose a smaller model."),
    "Choose int4, a smaller model of the family, or serve it elsewhere and name it as remote:NAME.": msg(
        "Choose int4, or a smaller model of the family."
    ),
    # Logs
    "Its last words are in {log}.": NOTHING,
    "The worker's log has the details.": NOTHING,
    "The replica's log has the details.": NOTHING,
    "The server's log has the details under {number}; please report it.": lambda values: msg(
        "Whoever runs this server finds it in its log under {number}.", number=values["number"]
    ),
    # Names
    "{n} models are known; `playground models` and Models ▸ Find list them.": lambda values: msg(
        "{n} models are known; Models ▸ Find lists them.", n=values["n"]
    ),
    "Use hub:OWNER/NAME, path:FOLDER_OR_GGUF or a name that `models` lists.": OFFERED,
    "Check the path after path:.": OFFERED,
    "No served model is set up: add one under app.remotes in spaces.yaml, or in PLAYGROUND_REMOTES (docs/remote.md).": (
        OFFERED
    ),
    "`playground models` lists the names.": msg("Models ▸ Find lists the names."),
    "Write MODEL or MODEL@RUNTIME-PRECISION; `playground models` lists them.": msg(
        "Write MODEL or MODEL@RUNTIME-PRECISION; Models ▸ Find lists them."
    ),
    "Take `{model}` instead, or serve it elsewhere and compare it as `remote:NAME`.": lambda values: msg(
        "Take `{model}` instead.", model=values["model"]
    ),
    "Serve it on a larger machine (vLLM, llama.cpp server, Ollama) or choose an inference provider, and name it under "
    "`app.remotes` in spaces.yaml: then it is compared here as `remote:NAME`.": OFFERED,
    "gated: accept its licence on its page, then start the app with HF_TOKEN set": msg(
        "gated: whoever runs this app has to accept its licence"
    ),
    "Gated: accept its licence on the Hub, and give the app a token of that account (HF_TOKEN).": msg(
        "Gated: whoever runs this app has to accept its licence."
    ),
    "Leave --online out.": msg("What is known here can be read."),
    # Options of commands
    "A diff takes two variants of one model; `compare` shows any two side by side.": msg(
        "A diff takes two variants of one model; Compare shows any two side by side."
    ),
    "Only variants of one model can be compared token by token; `compare` shows any two side by side.": msg(
        "Only variants of one model can be compared token by token; Compare shows any two side by side."
    ),
    "Ask for {n} repeats (--repeat {n}), or take the check out.": lambda values: msg(
        "Ask for {n} answers to each prompt, or take the check out.", n=values["n"]
    ),
    "Give its price in US dollars (--price-per-hour), or take the check out.": msg("Take the check out."),
    "Add a column prompt, or say the prompt: above a table that is pasted, with a line --- between them; in the "
    "terminal by --prompt.": msg(
        "Add a column prompt, or say the prompt: above a table that is pasted, with a line --- between them."
    ),
    "Write its text into the file; `playground suite` reads files beside a suite.": msg(
        "Write its text into the file."
    ),
    "Set the environment of the command; remove it.": msg("Remove it."),
    "This file is larger than the page takes: run it in a terminal, with playground suite FILE.": msg(
        "This file is larger than the page takes: make several of it."
    ),
    "Begin a new one with the same file, or ask again for what failed (--retry).": msg(
        "Begin a new one with the same file."
    ),
    "Pause it there, with Ctrl-C in a terminal.": msg("Pause it where it was begun, or wait for its end."),
    "`playground suite --list` lists them.": msg("Load the list again."),
    "Name the id of a stored suite, or a .json or .jsonl file that --output wrote.": msg(
        "Name the id of a stored suite."
    ),
    "Name the id of a stored suite, or a file that --output wrote.": msg("Name the id of a stored suite."),
    # What was not measured
    "Take it: `playground eval -m {model} --tasks {task}`.": MEASURED,
    "Take it with more questions, or all: a larger --limit.": MEASURED,
    "`playground eval` takes one of a model.": MEASURED,
    "Read its card and licence: `playground card {model}`.": msg("Read its card and licence under Models."),
    "Read its configuration: `playground card {model}`.": msg("Read its card under Models."),
    "**To measure models:** choose them in Compare and open Measure, or `playground bench models -m MODEL`; open this "
    "tab again after that.": msg(
        "**To measure models:** choose them in Compare and open Measure; open this tab again after that."
    ),
    "Other prices: edit hardware.yaml, or `playground costs --tier … --price …`": NOTHING,
    "there is no C compiler (install gcc or clang, or: pip install ziglang)": msg("there is no C compiler"),
}
"""By English template: what visitors are told."""


PLACES = frozenset({"file", "folder", "home", "log", "path"})
"""Values that are places on a disk, where they are whole."""
WORDS = frozenset(
    ("detail", "error", "last_words", "line", "parts", "problem", "reason", "said", "sentence", "state", "what", "why")
)
"""Values that are somebody else's words, such as the system's, with places in them."""
QUOTED = re.compile(r"""(?:(')/(?:[^'\n]*/)?([^'\n/]+)/?'|(")/(?:[^"\n]*/)?([^"\n/]+)/?")""")
PLACE = re.compile(r"(?<![\w/.~-])~?/(?:[^\s'\"():,;/]+/)+([^\s'\"():,;/]*)|(?<![\w/])~/([^\s'\"():,;/]+)")
FILE_URL = re.compile(r"\bfile://+")
DRIVE = re.compile(r"(?<!\w)[A-Za-z]:\\(?:[^\s'\"\\]+\\)*([^\s'\"\\]*)")
OURS = "/our/home/"
"""What stands for a folder of ours while the names behind it are looked for."""
_own: set[str] = set()
Kept = TypeVar("Kept")


def keep_to_ourselves(*folders: str | Path) -> None:
    """Folders of this process whose names no visitor is told, whatever characters are in them: where places are looked
    for in somebody else's words, one ends at a blank or a quote, and these may have such.
    """
    _own.update(str(place) for folder in folders if len((place := Path(folder).absolute()).parts) > 1)


def for_visitors(text: str) -> Translatable:
    """A message as a visitor is told it; a text of anybody else's as it is."""
    return changed(foreign(text), _instead, _without_places)


def all_for_visitors(kept: Kept) -> Kept:
    """What has messages in it (records, lists and mappings of them) with each as a visitor is told it; the same object
    where that changes none. What is a template's is a message's; of a message without one, which is somebody else's
    words, the places go; all other texts are as they were written.
    """
    return _all(kept)  # type: ignore[no-any-return]


def _all(kept: Any) -> Any:
    if isinstance(kept, Translatable):
        return for_visitors(kept) if kept.template else _words(kept)
    if type(kept) in (list, tuple):
        if not kept or isinstance(kept[0], (int, float)):  # ids of tokens, by the thousand
            return kept
        items = [_all(item) for item in kept]
        same = all(new is old for new, old in zip(items, kept, strict=True))
        return kept if same else type(kept)(items)
    if isinstance(kept, Mapping):
        found = {name: _all(item) for name, item in kept.items()}
        return kept if all(found[name] is item for name, item in kept.items()) else found
    if is_dataclass(kept) and not isinstance(kept, type):
        held = {each.name: getattr(kept, each.name) for each in fields(kept) if each.init}
        new = {name: told for name, value in held.items() if (told := _all(value)) is not value}
        return replace(kept, **new) if new else kept
    return kept


def _without_places(name: str, text: str) -> str:
    """A value of a message; of a place on this machine in it the last name alone."""
    if name in PLACES and text.startswith("/"):
        return text.rstrip("/").rpartition("/")[2]
    return _named_shortly(text) if name in WORDS else text


def _words(text: Translatable) -> Translatable:
    """Somebody else's words that stand where a message does."""
    said = _named_shortly(text)
    return text if said == text else foreign(said)


def _named_shortly(text: str) -> str:
    if "/" not in text and "\\" not in text:
        return text
    text = FILE_URL.sub("/", text)
    for folder in sorted(_own, key=len, reverse=True):
        text = text.replace(f"{folder}/", OURS).replace(folder, OURS)
    text = QUOTED.sub(lambda found: f"{found[1]}{found[2]}{found[1]}" if found[1] else f'"{found[4]}"', text)
    return DRIVE.sub(r"\1", PLACE.sub(lambda found: found[1] or found[2] or _last(found[0]), text))


def _last(place: str) -> str:
    return place.rstrip("/").rpartition("/")[2]


def _instead(text: Translatable) -> Translatable | None:
    said = INSTEAD.get(text.template)
    return said if said is None or isinstance(said, Translatable) else said(text.values)
