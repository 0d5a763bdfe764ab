"""What a page of the documentation tells its readers to type: blocks that are indented, and code within sentences."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROGRAMS = frozenset({
    ".", "cp", "curl", "docker", "export", "hf", "kill", "lm_eval", "make", "mkdir", "playground", "pytest", "python",
    "ulimit", "unset",
})  # fmt: skip
"""With what a command begins. What else stands in code is a name, a value or a file."""
_COMMENT = re.compile(r"(?:^|\s+)# .*$")
_SPAN = re.compile(r"`([^`]+)`")
_SETTING = re.compile(r"[A-Z_]+=\S*")


@dataclass(frozen=True)
class Page:
    """A page's code, each piece with blanks and line ends between its words as single blanks.

    Attributes:
        commands: What is typed in a shell, of blocks and of sentences, each once.
        others: Blocks that are no commands, as they stand.
        text: The page without its blocks, each white space a blank.
        spans: Pieces of code within it.
    """

    commands: tuple[str, ...]
    others: tuple[str, ...]
    text: str
    spans: tuple[str, ...]


@cache
def page(path: Path, own: frozenset[str]) -> Page:
    """What a file tells.

    Args:
        own: Names of the playground's commands, which sentences name without the program.
    """
    prose: list[str] = []
    blocks: list[list[str]] = []
    inside = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("    "):
            blocks = blocks if inside else [*blocks, []]
            blocks[-1].append(line[4:])
        else:
            prose.append(line)
        inside = line.startswith("    ")
    shell = [block for block in blocks if is_command(" ".join(block))]
    others = ["\n".join(block) for block in blocks if block not in shell]
    text = " ".join(" ".join(prose).split())
    spans = tuple(dict.fromkeys(_SPAN.findall(text)))
    told = [span for span in spans if is_command(span) or span.startswith("--") or _names(span, own)]
    return Page(tuple(dict.fromkeys([*_typed(shell), *told])), tuple(others), text, spans)


def is_command(text: str) -> bool:
    words = _words(text)
    return bool(words) and words[0] in PROGRAMS


def words_of(command: str) -> list[str]:
    """As a shell takes it apart, without the variables in front."""
    found = shlex.split(command)
    while found and _SETTING.fullmatch(found[0]):
        found.pop(0)
    return found


def _words(text: str) -> list[str]:
    found = text.split()
    while found and _SETTING.fullmatch(found[0]):
        found.pop(0)
    return [] if found == ["playground"] else found  # the name of a container, of a user, of the package


def _names(span: str, own: frozenset[str]) -> bool:
    """Whether it is one of the playground's commands with something behind it, or one whose name is no other word."""
    first, *rest = span.split()
    return first in own and (bool(rest) or "-" in first)


def _typed(blocks: list[list[str]]) -> Iterator[str]:
    """Each command of a shell's block: comments go, and what a backslash continues is one."""
    for block in blocks:
        lines = [_COMMENT.sub("", line).rstrip() for line in block]
        joined = "\n".join(line for line in lines if line).replace("\\\n", " ")
        whole = ""
        for line in joined.splitlines():
            whole = f"{whole} {line}" if whole else line
            try:
                shlex.split(whole)
            except ValueError:  # a quote goes on in the next line
                continue
            yield " ".join(whole.split())
            whole = ""
        assert not whole, f"a quote has no end: {whole}"
