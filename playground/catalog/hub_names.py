"""How a model of the Hub is named: ``hub:OWNER/NAME[:QUANTISATION][#REVISION]``, or by the address of its page.

The quantisation is one of the GGUF files, named as for llama.cpp (``-hf OWNER/NAME:Q4_K_M``); which file that is,
``gguf_names.py`` knows. Capitals in it don't matter, so it is written in capitals wherever a name is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import unquote

from playground.catalog.gguf_names import quantisation_in, unsplit

HUB_ID = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}(?<![.-])", re.ASCII)
"""``OWNER/NAME`` as the Hub allows it."""
HUB_REVISION = re.compile(r"(?!.*(?:\.\.|//))[\w][\w./-]{0,254}", re.ASCII)
"""A branch, a tag, ``refs/pr/N`` or a commit."""
HUB_TAG = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][\w.-]{0,127}(?<![.-])", re.ASCII)
"""A quantisation, or more of the name of a GGUF file."""

_PAGE = re.compile(r"(?P<repo>[^/]+/[^/]+)/(?:tree|blob|commit|resolve)/(?P<revision>[^/]+)(?:/(?P<file>.*))?")


@dataclass(frozen=True)
class HubName:
    """A repository, and as far as they are named the quantisation (in capitals) and the revision; "" where not."""

    repo: str
    tag: str = ""
    revision: str = ""

    @property
    def source(self) -> str:
        """``hub:OWNER/NAME[:QUANTISATION]``, without the revision."""
        return f"hub:{self.repo}:{self.tag}" if self.tag else f"hub:{self.repo}"

    def __str__(self) -> str:
        return f"{self.source}#{self.revision}" if self.revision else self.source

    def tagged(self, tag: str) -> HubName:
        """The same with another quantisation."""
        return replace(self, tag=tag.upper())


def hub_name(location: str) -> HubName | None:
    """Read what stands behind ``hub:``; None where it is not written as it should be."""
    rest, hash_, revision = location.partition("#")
    repo, colon, tag = rest.partition(":")
    if not HUB_ID.fullmatch(repo) or (colon and not HUB_TAG.fullmatch(tag)):
        return None
    return None if hash_ and not HUB_REVISION.fullmatch(revision) else HubName(repo, tag.upper(), revision)


def tag_in(source: str) -> str:
    """The quantisation that a source names; "" where it names none, or is none of the Hub."""
    scheme, _, location = source.partition(":")
    name = hub_name(location) if scheme == "hub" else None
    return name.tag if name else ""


def parse(text: str) -> HubName | None:
    """``hub:OWNER/NAME[:QUANTISATION][#REVISION]``, with or without ``hub:``, or an address at the Hub: of the page, of
    a folder, or of a file, where one of a GGUF file names that one. None where it is none of these, or of a GGUF file
    that no tag can name: another one of the repository is not meant.
    """
    bare = re.sub(r"^(?:hub:|(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)", "", text.strip())
    bare = bare.partition("?")[0].rstrip("/")
    page = _PAGE.fullmatch(bare.partition("#")[0])
    if page is None:
        return hub_name(bare)
    name = hub_name(f"{page['repo']}#{page['revision']}")
    file = unquote((page["file"] or "").rpartition("/")[2])
    if name is None or not file.lower().endswith(".gguf"):
        return name
    tags = (unsplit(file), quantisation_in(file))
    return next((name.tagged(tag) for tag in tags if HUB_TAG.fullmatch(tag)), None)
