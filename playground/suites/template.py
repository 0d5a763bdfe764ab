"""Templates of prompts: ``{{name}}`` and ``{{name.key}}`` of nunjucks; what else nunjucks has is refused by its name.

Jinja's parser reads them, the same language as far as this goes; nothing of a template is ever run. Values are put in
as they are: a ``{{city}}`` that comes in by a value is filled in too, as promptfoo does, while one that names no
variable stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes

from playground.errors import Reason
from playground.messages import Translatable, foreign, msg
from playground.suites.spots import short

ROUNDS = 5
"""How often values within values are filled in; promptfoo does so as often."""

_MARKS = re.compile(r"\{\{|\{%|\{#")
_WITHIN = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_PARSER = Environment(keep_trailing_newline=True, autoescape=False)  # it parses; nothing is rendered by it
Path = tuple[str | int, ...]
"""A variable and the keys behind it."""

_NAMES: dict[type[nodes.Node], Callable[[Any], Translatable]] = {
    nodes.Filter: lambda node: msg("the filter '{name}'", name=str(node.name)),
    nodes.Test: lambda node: msg("the test 'is {name}'", name=str(node.name)),
    nodes.Call: lambda node: msg("calling a function"),
    nodes.For: lambda node: msg("the loop {{% for %}}"),
    nodes.If: lambda node: msg("{{% if %}}"),
    nodes.CondExpr: lambda node: msg("a condition ('… if …')"),
    nodes.Assign: lambda node: msg("{{% set %}}"),
    nodes.AssignBlock: lambda node: msg("{{% set %}}"),
    nodes.Include: lambda node: msg("{{% include %}}"),
    nodes.Import: lambda node: msg("{{% import %}}"),
    nodes.FromImport: lambda node: msg("{{% import %}}"),
    nodes.Extends: lambda node: msg("{{% extends %}}"),
    nodes.Block: lambda node: msg("{{% block %}}"),
    nodes.Macro: lambda node: msg("{{% macro %}}"),
    nodes.CallBlock: lambda node: msg("{{% call %}}"),
    nodes.FilterBlock: lambda node: msg("{{% filter %}}"),
    nodes.With: lambda node: msg("{{% with %}}"),
}


class Missing(Reason):
    """A variable has no value.

    Attributes:
        name: Of the variable, with the keys behind it.
    """

    def __init__(self, name: str, known: list[str]) -> None:
        if known:
            super().__init__(msg("{{{{{name}}}}} has no value; there are {names}", name=name, names=known[:8]))
        else:
            super().__init__(msg("{{{{{name}}}}} has no value, and there are no variables", name=name))
        self.name = name


@dataclass(frozen=True)
class Template:
    """A text in parts: what stands there, and variables."""

    parts: tuple[str | Path, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Its variables, in the order that they come up in."""
        return tuple(dict.fromkeys(str(part[0]) for part in self.parts if isinstance(part, tuple)))

    def fill(self, values: Mapping[str, Any], longest: int) -> str:
        """The text with its variables filled in.

        Raises:
            Missing: One of them has no value.
            Reason: It becomes longer than ``longest`` characters.
        """
        length = 0
        texts = []
        for part in self.parts:
            text = part if isinstance(part, str) else text_of(_found(part, values))
            length += len(text)
            if length > longest:
                raise Reason(msg("with its variables filled in it is longer than {n:,} characters", n=longest))
            texts.append(text)
        return "".join(texts)


@lru_cache(maxsize=256)
def compiled(text: str) -> Template:
    """The parts of a template.

    Raises:
        Reason: It is not one, or uses what is not supported.
    """
    if not _MARKS.search(text):
        return Template((text,) if text else ())
    try:
        tree = _PARSER.parse(text)
    except TemplateSyntaxError as error:
        raise Reason(
            msg("line {line} of the template: {said}", line=error.lineno, said=foreign(short(error.message)))
        ) from error
    except RecursionError as error:
        raise Reason(msg("the template is nested too deeply")) from error
    parts: list[str | Path] = []
    for node in tree.body:
        if not isinstance(node, nodes.Output):
            raise _refused(node)
        for each in node.nodes:
            parts.append(each.data if isinstance(each, nodes.TemplateData) else _path(each))
    return Template(tuple(parts))


def _path(node: nodes.Node) -> Path:
    if isinstance(node, nodes.Name):
        return (node.name,)
    if isinstance(node, nodes.Getattr):
        return (*_path(node.node), node.attr)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, (str, int)):
        return (*_path(node.node), node.arg.value)
    raise _refused(node)


def _refused(node: nodes.Node) -> Reason:
    name = _NAMES.get(type(node))
    what = name(node) if name else msg("an expression ({kind})", kind=type(node).__name__)
    return Reason(
        msg("{what} is not supported in templates (line {line}); variables are, {{{{name}}}}", what=what,
            line=node.lineno)
    )  # fmt: skip


def _found(path: Path, values: Mapping[str, Any]) -> Any:
    value: Any = values
    for step in path:
        known = isinstance(value, Mapping) and step in value
        if known or (isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value)):
            value = value[step]
        else:
            value = None
        if value is None:
            raise Missing(".".join(map(str, path)), list(values))
    return value


def text_of(value: Any) -> str:
    """A value of a file as text, as JavaScript writes it: 5 and not 5.0, true and not True; JSON for what has parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: ""}[value]
    if isinstance(value, (int, float)):
        return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else str(value)
    return json.dumps(value, ensure_ascii=False)


def left_in(text: str) -> str:
    """The first ``{{name}}`` in a text that is filled in; empty where there is none."""
    found = _WITHIN.search(text)
    return found[1] if found else ""


def resolved(values: Mapping[str, Any], longest: int) -> dict[str, Any]:
    """Variables with those within them filled in, and without a line break at their end.

    Raises:
        Reason: One becomes longer than ``longest`` characters.
    """
    filled = {name: value.removesuffix("\n") if isinstance(value, str) else value for name, value in values.items()}
    for _ in range(ROUNDS):
        changed = False
        for name, value in filled.items():
            if not isinstance(value, str) or "{{" not in value:
                continue
            text = _within(value, name, filled, longest)
            changed = changed or text != value
            filled[name] = text
        if not changed:
            break
    return filled


def _within(text: str, name: str, values: Mapping[str, Any], longest: int) -> str:
    length = len(text)

    def value_of(match: re.Match[str]) -> str:
        nonlocal length
        if match[1] == name or match[1] not in values:
            return match[0]
        found = text_of(values[match[1]])
        length += len(found)
        if length > longest:
            raise Reason(msg("variables within '{name}' make it longer than {n:,} characters", name=name, n=longest))
        return found

    return _WITHIN.sub(value_of, text)
