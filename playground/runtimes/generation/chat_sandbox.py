"""The sandbox that chat templates run in: Jinja's own immutable one, with what transformers gives a template.

transformers has the same (``utils/chat_template_utils.py`` of 5.x), which is the authority on what a template may use.
But importing it takes 0.6 s, more than half of what a small model needs to load, so it is put together here from
Jinja's parts; ``tests/runtimes/generation/test_chat_sandbox.py`` holds it to transformers' own, name by name and
template by template. The module knows Jinja; it does not know messages.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

KEPT = 64
"""Templates that stay compiled."""


@lru_cache(maxsize=KEPT)
def environment(source: str) -> ImmutableSandboxedEnvironment:
    """The sandbox for one template: none shares anything with another's."""
    del source  # what it is kept by
    from jinja2 import ext, nodes
    from jinja2.exceptions import SecurityError, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(ext.Extension):
        """``{% generation %}`` marks what an assistant said, for training; it writes what stands in it."""

        tags = {"generation"}  # noqa: RUF012 - an instance's, says Jinja

        def parse(self, parser: Any) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

        def _said(self, caller: Any) -> Any:
            return caller()

    class Dict:
        """``dict`` without a way to the class and what hangs on it."""

        def __call__(self, *args: Any, **named: Any) -> dict[Any, Any]:
            return dict(*args, **named)

        def fromkeys(self, *args: Any) -> dict[Any, Any]:
            return dict.fromkeys(*args)

    class Names(Namespace):
        """``namespace`` without names that begin with an underscore: Python's own begin so."""

        def __init__(*args: Any, **named: Any) -> None:
            self, *rest = args  # a template may call a name of its own "self"
            for name in (given := dict(*rest, **named)):
                refuse(name)
            Namespace.__init__(self, given)

        def __setitem__(self, name: str, value: Any) -> None:
            refuse(name)
            super().__setitem__(name, value)

    def refuse(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError("a namespace has no names that begin with an underscore")

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    extensions = [Generation, ext.loopcontrols]
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    made.filters["tojson"] = _to_json
    made.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": _strftime_now,
        "dict": Dict(),
        "namespace": Names,
    }
    return made


@lru_cache(maxsize=KEPT)
def compiled(source: str) -> Any:
    """The template, ready to be rendered.

    Raises:
        jinja2.TemplateError: It can't be read.
    """
    return environment(source).from_string(source)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Jinja's own would escape what HTML reads."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)
