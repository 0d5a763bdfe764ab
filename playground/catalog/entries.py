"""The models as data: catalog.yaml read, checked, searched and resolved.

It knows names, sources, variants and the card block's shape. It does not know weights, runtimes or
what a fact looks like on a page (``cards.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from playground.catalog.config_names import CONTEXT_LENGTH, whole
from playground.catalog.hub_names import HubName, hub_name, tag_in
from playground.catalog.kinds import kind_in
from playground.catalog.stores import SCHEMES, Stored, Stores
from playground.catalog.template_files import read_json
from playground.config import validation
from playground.config.endpoints import remote_spec
from playground.errors import ConfigError, UnknownModel, UnknownVariant, UsageError
from playground.messages import Translatable, foreign, msg
from playground.records import ModelKind, ModelSpec, Record, Remote, Variant

if TYPE_CHECKING:
    from playground.catalog.card_schema import Card, EntryBlock, Onnx

SCHEMA_VERSION = 1
EXPORTED = ("onnx-int8", "onnx-int4", "onnx-fp32", "torch-fp32")
"""What any model with weights of its own can be asked for; the first is the default."""
FAKE = "fake-none"


@dataclass(frozen=True)
class Terms(Record):
    """Conditions to be shown wherever the model is offered."""

    text: str
    url: str
    policy_url: str = ""


@dataclass(frozen=True)
class PromptFormat(Record):
    """A documented prompt format and where it is documented; the template itself is the spec's ``chat_template``."""

    source: str
    note: str = ""


def _nothing_researched() -> Card:
    from playground.catalog.card_schema import Card

    return Card()


@dataclass(frozen=True)
class CatalogEntry:
    """One model: how to get and run it, and what was researched about it.

    Attributes:
        card: The ``card`` block of catalog.yaml; an empty one for a model that is not in the catalogue.
        terms: Present where the licence asks that its text be linked wherever the model is offered.
        prompt_format: Where the spec's chat template comes from.
        onnx: The ``onnx`` block of catalog.yaml: a repository with ready-made graphs and the files known to be in it.
    """

    spec: ModelSpec
    card: Card = field(default_factory=_nothing_researched)
    task: str = "text-generation"
    terms: Terms | None = None
    prompt_format: PromptFormat | None = None
    onnx: Onnx | None = None

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Every variant offered, the default one first."""
        return tuple(_variant(self.spec.id, text) for text in self.spec.precisions)


class Catalog:
    """The models by id, in the order of the file.

    Args:
        entries: The models of the file.
        remotes: Models somebody else serves, which can be named ``remote:NAME``; they are no part of the file.
        stores: What other programs keep on this machine, which can be named ``ollama:…`` and ``lmstudio:…``.
    """

    def __init__(
        self, entries: tuple[CatalogEntry, ...], remotes: Sequence[Remote] = (), stores: Stores | None = None
    ) -> None:
        self.stores = stores or Stores()
        self._entries = {entry.spec.id: entry for entry in entries}
        self._upstream = {entry.spec.upstream.lower(): entry for entry in reversed(entries) if entry.spec.upstream}
        self._remotes = {f"remote:{remote.name}": CatalogEntry(remote_spec(remote)) for remote in remotes}

    def __iter__(self) -> Iterator[CatalogEntry]:
        return iter(self._entries.values())

    def ids(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def entry(self, model: str) -> CatalogEntry:
        """The entry called ``model``: an id, or a source of its own (``hub:``, ``path:``, ``remote:``, ``ollama:`` …).

        Capitals in an id don't matter. A source of its own has no card, except a ``hub:`` one whose repository the
        catalogue knows as an upstream.

        Raises:
            UnknownModel: With the closest ids.
            UsageError: A source this version can't fetch.
        """
        if model.lower() in self._entries:
            return self._entries[model.lower()]
        scheme, colon, rest = model.partition(":")
        if scheme == "remote":
            if model not in self._remotes:
                raise _unknown_remote(model, self._remotes)
            return self._remotes[model]
        if scheme == "hub" and rest:
            return self._hub_entry(model, rest)
        if scheme in SCHEMES and rest:
            return CatalogEntry(spec=_store_spec(self.stores.find(model)))
        if colon and scheme in _SOURCES and rest:
            return CatalogEntry(spec=_SOURCES[scheme](model, rest))
        if colon and re.fullmatch(r"[a-z]+", scheme):
            raise UsageError(
                msg("'{model}' is not a source this version can read", model=model),
                msg("Use hub:OWNER/NAME, path:FOLDER_OR_GGUF or a name that `models` lists."),
            )
        raise UnknownModel(model, self._entries)

    def upstream(self, repo: str) -> CatalogEntry | None:
        """The entry whose release on the Hub is ``repo`` (``OWNER/NAME``, in any case), if there is one."""
        return self._upstream.get(repo.lower())

    def _hub_entry(self, source: str, location: str) -> CatalogEntry:
        name = hub_name(location)
        if name is None:
            raise UsageError(
                msg(
                    "'{source}' is not hub:OWNER/NAME, hub:OWNER/NAME#REVISION or hub:OWNER/NAME:Q4_K_M", source=source
                ),
                msg("Copy it from the model's page."),
            )
        known = self.upstream(name.repo)
        spec = _hub_spec(source, name)
        if known is None:
            return CatalogEntry(spec)
        old = known.spec
        kept = replace(name, repo=old.upstream)
        shown = f"{old.name} {name.tag}" if name.tag and name.tag != tag_in(old.source) else old.name
        spec = replace(spec, name=shown, source=kept.source, upstream=kept.repo, kind=old.kind)
        spec = replace(spec, context_length=old.context_length, chat_template=old.chat_template)
        card = known.card.model_copy(update={"weights": None})  # these come from the Hub itself
        return replace(known, spec=spec, card=card, onnx=None if name.revision or name.tag else known.onnx)

    def resolve(self, text: str) -> tuple[ModelSpec, Variant]:
        """Read ``MODEL[@RUNTIME-PRECISION]`` and fill in what is left out.

        Raises:
            UnknownModel: No such model; with the closest names.
            UnknownVariant: The model is not offered in that runtime or precision.
        """
        text = text.strip()
        try:
            wanted = Variant.parse(text)
        except ValueError:
            model = text.rpartition("@")[0]
            raise UnknownVariant(text, map(str, self.entry(model).variants)) from None
        entry = self.entry(wanted.model)
        wanted = replace(wanted, model=entry.spec.id)
        if not wanted.runtime:
            return entry.spec, entry.variants[0]
        if wanted not in entry.variants and not _on_accelerator(wanted, entry):
            raise UnknownVariant(text, map(str, entry.variants))
        return entry.spec, wanted


def _on_accelerator(wanted: Variant, entry: CatalogEntry) -> bool:
    """Whether ``wanted`` is a model of torch's on an accelerator: offered on none, for few machines have one; whoever
    asks is told by the preparation where there is none.
    """
    return (wanted.runtime, wanted.precision) == ("torch", "bf16") and "torch-fp32" in entry.spec.precisions


def load_catalog(path: Path, remotes: Sequence[Remote] = (), stores: Stores | None = None) -> Catalog:
    """Read and check catalog.yaml.

    Args:
        path: Of catalog.yaml.
        remotes: Served models to be known by ``remote:NAME``, from the settings.
        stores: What other programs keep on this machine; None where that is nobody's business.

    Raises:
        ConfigError: With the file, the entry's id and the field.
    """
    from playground.catalog.card_schema import CatalogFile, EntryBlock

    file = validation.checked(CatalogFile, validation.read_yaml(path), f"{path.name}: ")
    if file.schema_version != SCHEMA_VERSION:
        raise ConfigError(
            msg(
                "{file}: schema_version is {found}, this version reads {known}",
                file=path.name,
                found=file.schema_version,
                known=SCHEMA_VERSION,
            ),
            msg("Use the catalogue that came with this version."),
        )
    entries: dict[str, CatalogEntry] = {}
    for position, block in enumerate(file.models, start=1):
        name = block.get("id") if isinstance(block, dict) else None
        where = f"{path.name}: {name or f'entry {position}'}: "
        checked = validation.checked(EntryBlock, block, where)
        _check_together(checked, where)
        if checked.id in entries:
            raise ConfigError(
                msg("{place}id stands twice", place=foreign(where)), msg("Give one of the two another id.")
            )
        entries[checked.id] = _entry(checked)
    return Catalog(tuple(entries.values()), remotes, stores)


def _entry(block: EntryBlock) -> CatalogEntry:
    default = _variant(block.id, block.variants[0])
    documented = block.prompt_format
    name = _named(block.source)
    spec = ModelSpec(
        id=block.id,
        name=block.name,
        source=name.source if name else block.source,
        revision=block.revision,
        runtime=default.runtime,
        precision=default.precision,
        context_length=block.context_length,
        kind=block.kind,
        precisions=tuple(block.variants),
        upstream=block.upstream or (name.repo if name else ""),
        download_bytes=block.download_bytes,
        chat_template=documented.template if documented else "",
    )
    return CatalogEntry(
        spec=spec,
        card=block.card,
        task=block.task,
        terms=Terms(block.terms.text, block.terms.url, block.terms.policy_url) if block.terms else None,
        prompt_format=PromptFormat(documented.source, documented.note) if documented else None,
        onnx=block.onnx,
    )


def _check_together(block: EntryBlock, where: str) -> None:
    """What the fields of an entry say about each other.

    Raises:
        ConfigError: With the place and the next step.
    """
    scheme = block.source.partition(":")[0]
    variants = block.variants

    def check(fits: bool, what: Translatable, next_step: Translatable) -> None:
        if not fits:
            raise ConfigError(msg("{place}{problem}", place=foreign(where), problem=what), next_step)

    check(
        bool(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", block.id)),
        msg("id may have a-z, 0-9, '.', '_' and '-' only"),
        msg("Rename it."),
    )
    source = msg("source is '{source}'", source=block.source)
    check(scheme in ("pypi", "path", "hub", "fake"), source, msg("Start it with pypi:, path:, hub: or fake:."))
    name = _named(block.source)
    named = scheme != "hub" or (name is not None and not name.revision)
    check(named, source, msg("Write hub:OWNER/NAME or hub:OWNER/NAME:Q4_K_M; a commit goes into revision."))
    graphs = name is None or not name.tag or block.onnx is None
    check(graphs, source, msg("Leave onnx out: a quantisation takes the GGUF file alone."))
    pinned = scheme in ("hub", "fake") or bool(block.revision)
    check(pinned, msg("the key 'revision' is missing"), msg("Pin what is fetched."))
    once = len(set(variants)) == len(variants)
    check(once, msg("variants names one twice"), msg("Leave each in once, the default first."))
    scripted = (scheme == "fake") == (FAKE in variants) and (FAKE not in variants or len(variants) == 1)
    check(
        scripted,
        msg("variants does not fit its source"),
        msg("A fake: source has {variant} alone.", variant=FAKE),
    )


def _unknown_remote(model: str, known: Iterable[str]) -> UnknownModel:
    names = list(known)
    error = UnknownModel(model, names)
    if not names:
        error.next_step = msg(
            "No served model is set up: add one under app.remotes in spaces.yaml, or in PLAYGROUND_REMOTES "
            "(docs/remote.md)."
        )
    return error


def _variant(model: str, text: str) -> Variant:
    runtime, _, precision = text.partition("-")
    return Variant(model, runtime, precision)


def _named(source: str) -> HubName | None:
    """What a source names on the Hub; None where it is no such source, or not written as one."""
    scheme, _, location = source.partition(":")
    return hub_name(location) if scheme == "hub" else None


def _hub_spec(source: str, name: HubName) -> ModelSpec:
    """Any repository of the Hub. Nothing is asked of the network: what only its files say is 0 or the usual case, as
    long as they are not in the Hub's cache. A GGUF keeps it inside.
    """
    short = name.repo.partition("/")[2]
    return ModelSpec(
        id=str(name) if name.tag else source,
        name=f"{short} {name.tag}" if name.tag else short,
        source=name.source,
        revision=name.revision,
        runtime="onnx",
        precision="int8",
        context_length=0,
        kind=(None if name.tag else _cached_kind(name.repo, name.revision)) or "chat",
        precisions=EXPORTED,
        upstream=name.repo,
    )


def _cached_kind(repo: str, revision: str) -> ModelKind | None:
    """What the files in the Hub's cache say, once all of them are there: weights are fetched last."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, "config.json", revision=revision or None)
    if not isinstance(path, str):
        return None
    folder = Path(path).parent
    complete = any(file.suffix in (".safetensors", ".onnx") for file in folder.rglob("*"))
    return kind_in(folder) if complete else None


def _path_spec(source: str, location: str) -> ModelSpec:
    """A folder or GGUF file of the reader's own. Length and kind come from the small JSON files beside the weights;
    a GGUF keeps them inside, where the import step reads them, and until then they are 0 and ``chat``.
    """
    folder = Path(location).expanduser()
    if not folder.exists():
        raise UsageError(msg("There is no file or folder '{path}'", path=location), msg("Check the path after path:."))
    return ModelSpec(
        id=source,
        name=folder.name or source,
        source=source,
        revision="",
        runtime="onnx",
        precision="int8",
        context_length=whole(read_json(folder / "config.json", or_empty=True), *CONTEXT_LENGTH),
        # Without a config.json the folder holds a GGUF, whose template is inside.
        kind=kind_in(folder) or ("base" if (folder / "config.json").is_file() else "chat"),
        precisions=EXPORTED,
    )


def _store_spec(stored: Stored) -> ModelSpec:
    """What another program keeps. Like a GGUF file by its path: length and kind are inside."""
    return ModelSpec(
        id=stored.source,
        name=stored.source.partition(":")[2].rpartition("/")[2].removesuffix(".gguf"),
        source=stored.source,
        revision=f"sha256:{stored.sha256}" if stored.sha256 else "",
        runtime="onnx",
        precision="int8",
        context_length=0,
        kind="chat",
        precisions=EXPORTED,
        file=str(stored.path),
    )


def _fake_spec(source: str, script: str) -> ModelSpec:
    fields = parse_qs(script)
    return ModelSpec(
        id=source,
        name=source,
        source=source,
        revision="",
        runtime="fake",
        precision="none",
        context_length=4096,
        kind="base" if fields.get("template") == ["0"] else "chat",
        precisions=(FAKE,),
    )


_SOURCES = {"path": _path_spec, "fake": _fake_spec}
