"""Shipping a model: prepared, asked once by the playground itself, then written as a folder for onnxruntime-genai.

It gathers what others know of the model; ``ship`` says what becomes of it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from playground import sources
from playground.catalog.cards import card_markdown, fact_title, license_id
from playground.catalog.entries import Catalog, CatalogEntry
from playground.catalog.stores import Stores
from playground.choose.evidence import Evidence, gather
from playground.config.settings import Settings
from playground.errors import RunError, Stopped, UsageError
from playground.experiments.compare import CompareJob
from playground.messages import Translatable, foreign, msg
from playground.records import (
    Artifact,
    Cancelled,
    Column,
    Comparison,
    Fact,
    Mode,
    ModelFacts,
    ModelSpec,
    Request,
    Variant,
)
from playground.results.figures import CHOICE
from playground.results.store import Store
from playground.ship.example import question_of
from playground.ship.folder import Shipped, cannot_ship, check_target, ship
from playground.ship.push import Pushed, Pushing, cannot_push, push
from playground.ship.shipment import Known, Shipment
from playground.ship.trying import TOKENS
from playground.sources.files import Progress
from playground.system.environment import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

NEWEST = 100
"""So many of the newest measurements and comparisons are looked through for figures."""
TOLD = ("license", "parameters", "context_length", "languages", "base_model", "datasets", "specialisation")
"""The facts that head the card."""
MAX_LICENCE = 1_000_000
LEGAL = ("LICENSE", "LICENCE", "NOTICE", "USE_POLICY")


class Shipping(ABC):
    """A part of ``Playground``: what leaves it."""

    settings: Settings
    store: Store
    catalog: Catalog

    @abstractmethod
    def entry(self, model: str) -> CatalogEntry: ...

    @abstractmethod
    def resolve(self, text: str) -> tuple[ModelSpec, Variant]: ...

    @abstractmethod
    def facts(self, variant: Variant) -> ModelFacts: ...

    @abstractmethod
    def prepare(self, variant: Variant, progress: Progress, cancelled: Cancelled = lambda: False) -> Artifact: ...

    @abstractmethod
    def compare(
        self,
        request: Request,
        columns: Sequence[Variant | Column],
        mode: Mode = "fair",
        *,
        owner: str = "",
        parent: Comparison | None = None,
        keep: bool = True,
    ) -> CompareJob: ...

    def ship(
        self,
        model: str,
        target: Path,
        *,
        force: bool = False,
        licence: Path | None = None,
        progress: Progress = lambda step, share: None,
        cancelled: Cancelled = lambda: False,
    ) -> Shipped:
        """Write ``MODEL[@RUNTIME-PRECISION]`` as a folder that onnxruntime-genai runs; prepares it first.

        Args:
            target: A folder that does not exist, is empty, or holds an earlier shipment that ``force`` replaces.
            licence: A text file with the licence of the weights, where they come without one.

        Raises:
            UsageError: No such model, one that can't be shipped whatever becomes of it, or a target with other files;
                nothing was begun.
            PlaygroundError: It can't be prepared, run or written; the target is as it was.
        """
        spec, variant = self.resolve(model)
        entry = self.entry(variant.model)
        others = tuple(str(each) for each in entry.variants if each.runtime == "onnx" and each != variant)
        if reason := cannot_ship(spec, variant, others):
            raise reason
        check_target(target, force=force)
        if licence is not None:
            _check_licence(licence)
        artifact = self.prepare(variant, progress, cancelled)
        question = question_of(spec)
        job = self.compare(Request(prompt=question, max_new_tokens=TOKENS), [variant], keep=False)
        while not job.wait(0.1):
            if cancelled():
                job.stop()
        ours = job.result().runs[0]
        if cancelled():
            raise Stopped(msg("Shipping {model} was called off", model=spec.name))
        if ours.error:
            raise RunError(
                msg("{model} is not shipped: it did not answer here ({reason})", model=variant, reason=ours.error)
            )
        facts, known = self._known_of(variant, licence)
        shipment = Shipment(spec, variant, artifact, facts, known, question, ours, environment(), others)
        return ship(shipment, target, force=force, progress=progress, cancelled=cancelled)

    def push(
        self,
        models: Sequence[str],
        repo: str,
        *,
        private: bool = False,
        progress: Progress = lambda step, share: None,
        cancelled: Cancelled = lambda: False,
    ) -> Pushed:
        """Put the artifacts of these variants into a repository of the Hub, from which another playground starts
        without exporting; prepares them first.

        Raises:
            UsageError: No such model, one that can't be pushed, or a repository that holds something else.
            PlaygroundError: One can't be prepared, or the Hub refused or can't be reached.
        """
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
            raise UsageError(msg("'{name}' is not OWNER/NAME", name=repo), msg("Give the repository's full name."))
        chosen = dict.fromkeys(self.resolve(model)[1] for model in models)
        for variant in chosen:
            if reason := cannot_push(self.resolve(str(variant))[0], variant):
                raise reason
        pushing = []
        for variant in chosen:
            artifact = self.prepare(variant, progress, cancelled)
            facts, known = self._known_of(variant, None)
            pushing.append(Pushing(self.resolve(str(variant))[0], artifact, facts, known))
        return push(tuple(pushing), repo, progress, private=private)

    def _known_of(self, variant: Variant, licence: Path | None) -> tuple[ModelFacts, Known]:
        """What others know of the model, for the papers that go with it."""
        entry, facts = self.entry(variant.model), self.facts(variant)
        found = gather([variant], self.store.measurements(NEWEST), self.store.list(NEWEST), environment())
        legal = _legal(entry.spec, self.settings.home, self.catalog.stores)
        return facts, Known(
            licence_id=license_id(entry, facts) or str(facts.license.value or ""),
            terms=entry.terms,
            card=_card(entry, facts),
            measured={name: taken.to_json() for name, taken in found.figures[variant].items()},
            lines=_lines(found, variant),
            notes=found.notes,
            legal=legal | ({"LICENSE": licence} if licence else {}),
        )


def _lines(found: Evidence, variant: Variant) -> tuple[tuple[Translatable, Translatable, Translatable], ...]:
    from playground.choose.wording import spread_words

    taken = found.figures[variant]
    return tuple(
        (CHOICE[name].title, spread_words(taken[name].figure), taken[name].words) for name in CHOICE if name in taken
    )


def _check_licence(path: Path) -> None:
    """
    Raises:
        UsageError: It is no text that could be a licence.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_LICENCE + 1)
        content.decode("utf-8")
    except OSError as error:
        raise UsageError(
            msg("{path} can't be read ({reason})", path=path, reason=error.strerror or str(error)),
            msg("Check the path of the licence."),
        ) from None
    except UnicodeDecodeError:
        raise UsageError(msg("{path} is not UTF-8 text", path=path), msg("Save the licence as text.")) from None
    if not content.strip() or len(content) > MAX_LICENCE:
        raise UsageError(
            msg("{path} has {n:,} bytes", path=path, n=len(content)),
            msg("A licence is a text of at most {most:,}.", most=MAX_LICENCE),
        )


def _legal(spec: ModelSpec, home: Path, stores: Stores) -> dict[str, Path]:
    """Licence and notice files that came with the weights; of a folder of the reader's own, what lies in it."""
    fetched = sources.present(spec, home)
    folders = {path.parent for path in fetched.files} if fetched else set()
    if spec.source.startswith("path:") and spec.source.lower().endswith(".gguf"):
        folders = set()  # what lies beside a single file may be anybody's
    stored = stores.find(spec.source).legal if spec.file else ()
    found: dict[str, Path] = {path.name if path.suffix else "LICENSE": path for path in stored}
    for folder in sorted(folders):
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name.upper().startswith(LEGAL) and path.stat().st_size < MAX_LICENCE:
                found.setdefault(path.name, path)
    return found


def _card(entry: CatalogEntry, facts: ModelFacts) -> str:
    """The facts with a source, then the rest to read."""
    rows = []
    for name in TOLD:
        fact: Fact | None = getattr(facts, name, None)
        if isinstance(fact, Fact) and fact.value is not None:
            where = fact.url or fact.source
            rows.append(f"- {fact_title(name)}: {foreign(str(fact.value))} ({where})")
    return "\n\n".join(part for part in ("\n".join(rows), card_markdown(entry)) if part)
