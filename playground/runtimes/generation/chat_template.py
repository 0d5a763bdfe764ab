"""A chat template: what it is given, and what it does with what it is given.

A template is a program by a stranger. It runs in a sandbox (``chat_sandbox``) with all that transformers gives it, and
is tried out before a user's words are entrusted to it: some lose a text that is not a list of parts, some have no place
for a system prompt. The module knows templates as texts; where they lie, ``catalog/template_files.py`` knows. It
does not know tokenizers or token ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from playground.errors import Reason
from playground.messages import foreign
from playground.runtimes.generation.chat_sandbox import compiled, environment

_PROBE = "\U000f0002\U000f0003\U000f0004"
"""No one types this, and no template looks for it."""

Turn = tuple[str, str]
"""Who speaks, and what is said."""
ContentFormat = Literal["text", "parts"]
"""How a template wants a content: as text, or as a list of parts, each with its type."""


class Refused(Reason):
    """The template raised an error; its words are the reason."""


# -- rendering ------------------------------------------------------------------------------------------------------


class ChatTemplate:
    """One template with the tokens it may name.

    Args:
        source: In Jinja.
        named: See ``named_tokens``.

    Attributes:
        content_formats: By role, how a content is given so that it is not lost; a role that is missing loses it either
            way.
        default_system: The system prompt it adds where the messages have none; "" if it adds none.
    """

    def __init__(self, source: str, named: Mapping[str, str]) -> None:
        self.source = source
        self.named = dict(named)
        self.content_formats: dict[str, ContentFormat] = {}
        x = "x"
        for role, turns in (
            ("user", [("user", _PROBE)]),
            ("system", [("system", _PROBE), ("user", x)]),
            ("assistant", [("user", x), ("assistant", _PROBE), ("user", x)]),
        ):
            self._try_out(role, turns)
        self.default_system = self._own_system() if "system" in self.content_formats else ""

    def render(self, turns: Sequence[Turn], generate: bool) -> str:
        """The prompt, up to where the answer begins if ``generate``.

        Raises:
            Refused: The template does not take these turns.
        """
        with _refusals():
            text: str = compiled(self.source).render(**self._given(turns, generate), **self.named)
        return text

    def render_with(self, change: Callable[[str], str], where: Places, turns: Sequence[Turn], generate: bool) -> str:
        """The prompt with what the template itself writes changed, as far as ``where`` tells that it is written.

        Raises:
            Refused: The template does not take these turns so.
        """
        with _refusals():
            sandbox = environment(self.source)
            tree = sandbox.parse(self.source)
            for constant in written(tree, where.assigned):
                name = "data" if hasattr(constant, "data") else "value"
                setattr(constant, name, change(getattr(constant, name)))
            named = {name: change(token) for name, token in self.named.items()} if where.named else self.named
            text: str = sandbox.from_string(tree).render(**self._given(turns, generate), **named)
        return text

    @cached_property
    def literals(self) -> str:
        """All text that stands in the template, joined by NUL: what it writes and what it looks for."""
        import jinja2

        with _refusals():
            tree = environment(self.source).parse(self.source)
        texts = [node.data for node in tree.find_all(jinja2.nodes.TemplateData)]
        texts += [node.value for node in tree.find_all(jinja2.nodes.Const) if isinstance(node.value, str)]
        return "\0".join(texts)

    def behind_an_answer(self) -> str:
        """What the template writes behind the last message, if that is an assistant's; "" if it does not say."""
        try:
            text = self.render([("user", "x"), ("assistant", _PROBE)], generate=False)
        except Refused:
            return ""
        _, found, behind = text.rpartition(_PROBE)
        return behind if found else ""

    def _given(self, turns: Sequence[Turn], generate: bool) -> dict[str, Any]:
        """What transformers gives every template; to some an unknown name is not the same as None."""
        return {
            "messages": self._messages(turns),
            "tools": None,
            "documents": None,
            "add_generation_prompt": generate,
        }

    def _messages(self, turns: Sequence[Turn]) -> list[dict[str, Any]]:
        return [
            {
                "role": role,
                "content": [{"type": "text", "text": text}] if self.content_formats.get(role) == "parts" else text,
            }
            for role, text in turns
        ]

    def _try_out(self, role: str, turns: Sequence[Turn]) -> None:
        forms: tuple[ContentFormat, ...] = ("text", "parts")
        for form in forms:
            self.content_formats[role] = form
            try:
                if _PROBE in self.render(turns, generate=True):
                    return
            except Refused:
                pass
        del self.content_formats[role]

    def _own_system(self) -> str:
        head, _, tail = self.render([("system", _PROBE), ("user", "x")], generate=True).partition(_PROBE)
        try:
            bare = self.render([("user", "x")], generate=True)
        except Refused:
            return ""
        is_more = bare.startswith(head) and bare.endswith(tail) and len(bare) > len(head) + len(tail)
        return bare[len(head) : len(bare) - len(tail)].strip() if is_more else ""


@dataclass(frozen=True)
class Places:
    """Where a constant counts as written: in what is put out always, in what is ``assigned``, in ``named`` tokens."""

    assigned: bool
    named: bool


def written(tree: Any, assigned: bool) -> Iterator[Any]:
    """The constants of a parsed template that it writes, not those it compares with or cuts at.

    Args:
        tree: A ``jinja2.nodes.Template``.
        assigned: Whether those in assignments and defaults count, too.
    """
    from jinja2 import nodes

    def parts(node: Any) -> Iterator[Any]:
        if isinstance(node, nodes.TemplateData) or (isinstance(node, nodes.Const) and isinstance(node.value, str)):
            yield node
        elif isinstance(node, nodes.Add):
            yield from (*parts(node.left), *parts(node.right))
        elif isinstance(node, nodes.Concat):
            yield from (part for inner in node.nodes for part in parts(inner))
        elif isinstance(node, nodes.CondExpr):
            yield from (*parts(node.expr1), *parts(node.expr2))
        elif isinstance(node, nodes.Filter):
            yield from parts(node.node)
        elif isinstance(node, nodes.Dict):
            yield from (part for pair in node.items for part in parts(pair.value))
        elif isinstance(node, nodes.List | nodes.Tuple):
            yield from (part for inner in node.items for part in parts(inner))

    for output in tree.find_all(nodes.Output):
        yield from (part for inner in output.nodes for part in parts(inner))
    if assigned:
        for assignment in tree.find_all(nodes.Assign):
            yield from parts(assignment.node)
        for keyword in tree.find_all(nodes.Keyword):
            yield from parts(keyword.value)


class _refusals:
    """Whatever a stranger's program raises is a refusal; that memory ran out is not."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, MemoryError | Refused):
            raise Refused(foreign(str(error) or type(error).__name__)) from error
