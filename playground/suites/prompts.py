"""The prompts of a suite: texts, conversations as JSON, and files of them; each a template for all rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from playground.errors import Reason
from playground.messages import foreign, msg
from playground.records import Message
from playground.suites import json_text, template, yaml_text
from playground.suites.files import PREFIX, SCRIPTS, Folder
from playground.suites.spots import Spot, short

PASSTHROUGH = "{{prompt}}"
"""The prompt where a file names none, as in promptfoo."""
ROLES = ("system", "user", "assistant")
ELSEWHERE = {
    "exec:": msg("a command"),
    "langfuse://": msg("a prompt of Langfuse"),
    "portkey://": msg("a prompt of Portkey"),
    "helicone://": msg("a prompt of Helicone"),
    "http://": msg("an address"),
    "https://": msg("an address"),
    "package:": msg("a package"),
}
KEYS = ("id", "raw", "label")
UNSUPPORTED = ("config", "function", "transform")
_SEPARATOR = re.compile(r"^---[ \t]*$", re.MULTILINE)
_TURNS = re.compile(r"\s*\[\s*\{")
_PATH = re.compile(r"[\w./-]+\.(?:txt|md|json|jsonl|yaml|yml|csv|j2|js|py|sh)(?::\w+)?")
MAX_PROMPTS = 100


@dataclass(frozen=True)
class Prompt:
    """One prompt of a file, a template.

    Attributes:
        text: As it was written, by which rows are told apart.
        turns: Role and template of each turn; one of no role where it is a text and no conversation.
        label: For a reader; empty where the file gives none.
        own: Whether each row brings its own prompt, and this only stands for it.
    """

    text: str
    turns: tuple[tuple[str, template.Template], ...]
    label: str
    spot: Spot
    own: bool = False

    def fill(
        self, values: Mapping[str, Any], longest: int, before: str = "", behind: str = ""
    ) -> tuple[str, tuple[Message, ...]]:
        """The prompt, or the conversation; ``before`` and ``behind`` are put around the text, or the last turn of the
        user, as promptfoo's prefix and suffix.

        Raises:
            template.Missing: A variable has no value.
            Reason: A turn becomes longer than ``longest`` characters.
        """
        if self.own and is_conversation(given := template.text_of(values.get("prompt"))):
            return _conversation(json_text.parse(given, self.spot), given, self.spot, "").fill(
                values, longest, before, behind
            )
        texts = [each.fill(values, longest) for _, each in self.turns]
        last = max((n for n, (role, _) in enumerate(self.turns) if role in ("", "user")), default=len(texts) - 1)
        texts[last] = f"{before}{texts[last]}{behind}"
        if self.turns[0][0] == "":
            return texts[0], ()
        roles = (role for role, _ in self.turns)
        return "", tuple(Message(cast(Any, role), text) for role, text in zip(roles, texts, strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """Its variables."""
        return tuple(dict.fromkeys(name for _, each in self.turns for name in each.names))


def read(value: Any, spot: Spot, folder: Folder) -> list[Prompt]:
    """The prompts of the key ``prompts``.

    Raises:
        UsageError: One of them is none, or of a kind that is not supported.
    """
    entries = value if isinstance(value, list) else [value]
    found: list[Prompt] = []
    for number, entry in enumerate(entries, 1):
        here = spot.at(msg("prompt {n}", n=number), yaml_text.line_of(value, number - 1))
        found += _entry(entry, here, folder)
        if len(found) > MAX_PROMPTS:
            raise here.error(msg("there are more than {n} prompts", n=MAX_PROMPTS), msg("Make them rows of a table."))
    if not found:
        raise spot.error(msg("there are no prompts"), msg("Write at least one."))
    return found


def _entry(entry: Any, here: Spot, folder: Folder) -> list[Prompt]:
    label = ""
    if isinstance(entry, dict):
        for key in entry:
            if key in UNSUPPORTED:
                raise here.error(msg("'{key}' of a prompt is not supported", key=key), msg("Remove it."))
            if key not in KEYS:
                raise here.unknown(key, KEYS)
        label = text(entry.get("label", ""), here.key("label"))
        if ("raw" in entry) == ("id" in entry):
            raise here.error(msg("a prompt has either 'raw' or 'id'"), msg("Write its text under raw."))
        entry = entry["raw"] if "raw" in entry else entry["id"]
    return of_text(text(entry, here), here, folder, label)


def text(value: Any, spot: Spot) -> str:
    """A value that has to be a text; a number will do."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return template.text_of(value)
    raise spot.error(msg("this must be a text, not {value}", value=short(repr(value))), msg("Write it in quotes."))


def of_text(given: str, here: Spot, folder: Folder, label: str = "") -> list[Prompt]:
    """The prompt that a text is, or those of the file that it names."""
    bare = given.strip()
    for prefix, kind in ELSEWHERE.items():
        if bare.startswith(prefix) and not re.search(r"\s", bare):
            raise here.error(msg("{kind} is no prompt here ({text})", kind=kind, text=short(bare)),
                             msg("Write the prompt itself."))  # fmt: skip
    if bare.startswith(PREFIX):
        return _of_file(bare, here, folder, label)
    if _PATH.fullmatch(bare):
        raise here.error(
            msg("'{text}' looks like the name of a file", text=short(bare)),
            msg("Write file://{name}.", name=short(bare)),
        )
    return [_one(given, here, folder, label)]


def _of_file(reference: str, here: Spot, folder: Folder, label: str) -> list[Prompt]:
    name, content = folder.read(reference, here)
    here = here.at(foreign(short(name)))
    if name.endswith((".csv", ".jsonl", *SCRIPTS)):
        raise here.error(
            msg("prompts are not read from such a file"), msg("Write them into .txt, .md, .json or .yaml.")
        )
    if name.endswith((".yaml", ".yml")):
        value = yaml_text.parse(content, Spot(name))
        return [_conversation(value, content, here, label)]
    if name.endswith(".json"):
        return [_one(content, here, folder, label)]
    parts = [part.strip("\n") for part in _SEPARATOR.split(content.replace("\r\n", "\n"))]
    return [_one(part, here, folder, label) for part in parts if part.strip()]


def _one(given: str, here: Spot, folder: Folder, label: str) -> Prompt:
    if not given.strip():
        raise here.error(msg("the prompt is empty"), msg("Write one."))
    if len(given) > folder.limits.max_cell:
        raise here.error(
            msg("the prompt has {n:,} characters, at most {most:,} are taken", n=len(given),
                most=folder.limits.max_cell),
            msg("Shorten it."),
        )  # fmt: skip
    if is_conversation(given):
        return _conversation(json_text.parse(given, here), given, here, label)
    return Prompt(given, (("", _template(given, here)),), label, here)


def is_conversation(given: str) -> bool:
    """Whether a text is meant as the JSON of a conversation."""
    return _TURNS.match(given) is not None and '"role"' in given


def _template(given: str, here: Spot) -> template.Template:
    try:
        return template.compiled(given)
    except Reason as error:
        raise here.error(error.reason, msg("Write out what it stands for.")) from error


def _conversation(value: Any, given: str, here: Spot, label: str) -> Prompt:
    if not isinstance(value, list) or not value:
        raise here.error(msg("a conversation is a list of turns"), msg('Write [{{"role": "user", "content": "…"}}].'))
    turns = []
    for number, turn in enumerate(value, 1):
        place = here.at(msg("turn {n}", n=number), yaml_text.line_of(value, number - 1))
        if not isinstance(turn, dict):
            raise place.error(msg("a turn is a block with role and content"), msg("Write both."))
        for key in turn:
            if key not in ("role", "content"):
                raise place.unknown(key, ("role", "content"))
        role = turn.get("role")
        if role not in ROLES:
            raise place.error(msg("the role '{role}' is none of {names}", role=short(role), names=ROLES),
                              msg("Write one of them."))  # fmt: skip
        turns.append((str(role), _template(_content(turn.get("content"), place.key("content")), place.key("content"))))
    return Prompt(given, tuple(turns), label, here)


def _content(value: Any, here: Spot) -> str:
    """The text of a turn; of a list of parts those that are texts, and nothing else may be in it."""
    if isinstance(value, list):
        parts = []
        for part in value:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind != "text" or not isinstance(part.get("text"), str):
                raise here.error(msg("a part of the type '{kind}' is not supported", kind=short(kind)),
                                 msg("Models here read text alone."))  # fmt: skip
            parts.append(part["text"])
        return "".join(parts)
    return text(value, here)
