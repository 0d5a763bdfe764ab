"""The use cases: what the page, the terminal, the HTTP API and whoever comes next ask for, each by one method.

``Playground`` puts the rooms together. Front ends ask it and reach through it into no room (``tests/test_service.py``
sees to that), so that they can't drift apart: a card is put together here, and the documents of a model and of its
card are made here. Opening it starts nothing and needs no network; closing it ends every worker and preparation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from playground.catalog import hub, hub_cards
from playground.catalog.cards import card_markdown, openness_score
from playground.catalog.entries import CatalogEntry, load_catalog
from playground.catalog.facts import full_facts
from playground.catalog.hub import HubInfo
from playground.catalog.kinds import kind_told
from playground.catalog.search import Filters, Listed, Sort, choices, listed, select, smaller
from playground.catalog.sets import ModelSet, model_sets
from playground.config.settings import Settings
from playground.errors import SourceError, UsageError
from playground.experiments.admission import check_request
from playground.experiments.base import Machine
from playground.experiments.benchmark import BenchmarkJob, Measurer
from playground.experiments.compare import CompareJob, Comparer
from playground.experiments.diff import DiffJob, VariantDiffer
from playground.experiments.memory_plan import MemoryPlan, plan_of
from playground.experiments.replay import Replayer, ReplayJob
from playground.export import Preparation, Preparer
from playground.messages import NOTHING, Translatable, msg
from playground.records import (
    Artifact,
    Cancelled,
    Comparison,
    LoadSpec,
    Mode,
    ModelFacts,
    ModelSpec,
    PromptView,
    Request,
    Variant,
    plain_json,
)
from playground.results.costs import load_tiers
from playground.results.figures import Measurement
from playground.results.store import Store
from playground.sources.files import Progress
from playground.system.memory import limit_mb
from playground.workers.pool import Pool


@dataclass(frozen=True)
class Card:
    """What is known of a model, from everybody who says something about it.

    Attributes:
        hub: What the Hub says of it now, or said when it was last asked; None where nothing was read.
        problem: Why the Hub could not be asked, though it was to be.
    """

    entry: CatalogEntry
    facts: ModelFacts
    hub: HubInfo | None = None
    problem: Translatable = NOTHING

    @property
    def openness(self) -> tuple[int, int]:
        """How many of how many items of openness are a plain yes."""
        return openness_score(self.facts)

    @property
    def rest(self) -> str:
        """The card's prose, as markdown."""
        return card_markdown(self.entry)

    def to_json(self) -> dict[str, Any]:
        """Of a card, for every front end: the facts by name, then what no fact says."""
        return {
            **self.facts.to_json(),
            "openness_score": list(self.openness),
            "terms": _terms(self.entry),
            "rest": self.rest,
            "hub": _hub_json(self.hub) if self.hub else None,
        }


class Playground:
    """Everything a front end needs; a context manager.

    Raises:
        ConfigError: The catalogue or the table of hardware is wrong.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tiers = load_tiers(settings.hardware_file)
        self.catalog = load_catalog(settings.catalog_file, settings.remotes)
        self.preparer = Preparer(settings, self.catalog)
        self.pool = Pool(settings)
        self._machine = Machine(settings, self.catalog, self.preparer, self.pool)
        self.comparer = Comparer(self._machine)
        self.measurer = Measurer(self._machine)
        self.differ = VariantDiffer(self._machine, self.comparer)
        self.replayer = Replayer(self._machine, self.comparer)
        self.store = Store(settings.database, settings.limits.max_stored if settings.on_space else None)

    def __enter__(self) -> Playground:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop what runs and end every child process, even if one of them resists."""
        with ExitStack() as ends:  # the last one first, each whatever another raises
            ends.callback(self.store.close)
            ends.callback(self.preparer.close)
            ends.callback(self.pool.close)
            ends.callback(self._machine.close)

    # -- which models there are -----------------------------------------------------------------------------------

    def ids(self) -> tuple[str, ...]:
        """The models of the catalogue."""
        return self.catalog.ids()

    def entries(self) -> tuple[CatalogEntry, ...]:
        """What the catalogue says of each of its models, in its order."""
        return tuple(self.catalog)

    def entry(self, model: str) -> CatalogEntry:
        """What the catalogue says of ``model``, which may be a source of its own (``hub:OWNER/NAME``).

        Raises:
            UsageError: There is none.
        """
        return self.catalog.entry(model)

    def resolve(self, text: str) -> tuple[ModelSpec, Variant]:
        """What ``MODEL[@RUNTIME-PRECISION]`` names.

        Raises:
            UsageError: No such model or variant, with the closest names.
        """
        return self.catalog.resolve(text)

    def variants(self, texts: Iterable[str]) -> list[Variant]:
        """What several such texts name, in their order.

        Raises:
            UsageError: One of them names nothing.
        """
        return [self.resolve(text)[1] for text in texts]

    def served(self) -> tuple[CatalogEntry, ...]:
        """The models that the app was told to serve, in that order."""
        return tuple(map(self.entry, dict.fromkeys(variant.model for variant in self.default_variants())))

    def default_variants(self) -> tuple[Variant, ...]:
        """What the app was told to serve: the variant named there, or each model's default one."""
        return tuple(dict.fromkeys(self.variants(self.settings.models)))

    def search(self, filters: Filters, order: Sort = "catalogue") -> list[Listed]:
        """The models of the catalogue that fit every filter, and whether they run on this machine."""
        return select(self.catalog, filters, order, limit_mb=limit_mb())

    def filter_choices(self) -> dict[str, list[str]]:
        """What can be filtered by: the values that occur, by filter."""
        return choices(self.catalog, limit_mb())

    def listed(self, entry: CatalogEntry) -> Listed:
        """A model's facts, what it would need and whether it runs on this machine."""
        return listed(entry, limit_mb())

    def smaller(self, item: Listed) -> list[Listed]:
        """Models to take instead of one that is too large for this machine."""
        return smaller(item, map(self.listed, self.catalog))

    def model_sets(self) -> tuple[ModelSet, ...]:
        """Sets of models to begin with."""
        return model_sets(self.search(Filters()), [entry.spec.id for entry in self.served()])

    # -- what is known of one -------------------------------------------------------------------------------------

    def facts(self, variant: Variant) -> ModelFacts:
        """What is known of a model and of this variant of it; asks no network."""
        entry = self.entry(variant.model)
        return self._facts(entry, variant, self._remembered(entry.spec.upstream))

    def card(self, model: str, ask_hub: Literal["never", "unknown", "always"] = "never") -> Card:
        """The card of ``MODEL[@RUNTIME-PRECISION]``.

        Args:
            ask_hub: Whether to read what the Hub says now, or only of a model of which nothing else is known.

        Raises:
            UsageError: No such model, or it is not on the Hub, which was always to be asked.
            SourceError: The Hub was always to be asked and can't be.
        """
        spec, variant = self.resolve(model)
        entry, info, problem = self.entry(spec.id), None, NOTHING
        if spec.upstream:
            revision = spec.revision if spec.source.startswith("hub:") else ""
            try:
                online = ask_hub == "always" or (ask_hub == "unknown" and not entry.card)
                info = hub_cards.read(spec.upstream, revision, self.settings.home, online=online)
            except SourceError as error:
                if ask_hub == "always":
                    raise
                info, problem = self._remembered(spec.upstream), error.message
        elif ask_hub == "always":
            raise UsageError(msg("{model} is not on the Hub", model=spec.id), msg("Leave --online out."))
        return Card(entry, self._facts(entry, variant, info), info, problem)

    def hub_card(self, text: str) -> Card:
        """The card of a repository of the Hub, as ``OWNER/NAME`` or the address of its page; asks the Hub.

        Raises:
            UsageError: The text names no repository.
            SourceError: The Hub can't be asked.
        """
        repo, revision = hub.parse(text)
        info = hub_cards.read(repo, revision, self.settings.home, online=True)
        assert info is not None
        entry = self.entry(f"hub:{info.repo}#{info.revision}")
        return Card(entry, self._facts(entry, None, info), info)

    def _facts(self, entry: CatalogEntry, variant: Variant | None, info: HubInfo | None) -> ModelFacts:
        def of_base_model(repo: str) -> ModelFacts | None:
            kept = self._remembered(repo)
            return hub_cards.hub_facts(kept) if kept else None

        artifact = self.preparation(variant).artifact if variant else None
        return full_facts(self.catalog, entry, artifact, hub_cards.hub_facts(info) if info else None, of_base_model)

    def _remembered(self, repo: str) -> HubInfo | None:
        return hub_cards.remembered(repo, self.settings.home) if repo else None

    def model_json(self, item: Listed) -> dict[str, Any]:
        """A model of the catalogue with all that it is listed by and the state of each variant."""
        entry = item.entry
        told = {
            **entry.spec.to_json(),
            "task": entry.task,
            "license": item.license_id or None,
            "commercial_use": item.commercial,
            "parameters": item.facts.parameters.value,
            "family": item.family or None,
            "specialisation": item.facts.specialisation.value,
            "open_items": item.open_items,
            "expected_memory": item.footprint.to_json() if item.footprint else None,
            "runs_here": item.fits,
            "refused": item.refused or None,
            "instead": item.instead or None,
            "terms": _terms(entry),
            "variants": [{"variant": str(each)} | self._state_json(each) for each in entry.variants],
        }
        return {name: plain_json(value) for name, value in told.items()}

    def served_json(self, entry: CatalogEntry) -> dict[str, Any]:
        """A served model for strangers: nothing of where its files lie."""
        told = self.model_json(self.listed(entry))
        shown = {name: told[name] for name in ("id", "name", "kind", "context_length", "terms")}
        return {**shown, "variants": {each.pop("variant"): each for each in told["variants"]}}

    def _state_json(self, variant: Variant) -> dict[str, Any]:
        told = self.preparation(variant).to_json()
        return {name: told[name] for name in ("status", "step", "progress", "error")}

    # -- making them ready ----------------------------------------------------------------------------------------

    def preparation(self, variant: Variant) -> Preparation:
        """Where ``variant`` stands: missing, preparing, ready or failed."""
        return self.preparer.state(variant)

    @property
    def preparing(self) -> bool:
        """Whether anything is being prepared, or waits for its turn."""
        return self.preparer.busy

    def prepare(self, variant: Variant, progress: Progress, cancelled: Cancelled = lambda: False) -> Artifact:
        """Fetch, export and check a variant, if that was not done before.

        Raises:
            PlaygroundError: It can't be prepared; says why and what to do.
        """
        return self.preparer.prepare(variant, progress, cancelled)

    def prepare_served(self) -> None:
        """Prepare what the app was told to serve, in the background."""
        for variant in self.default_variants():
            self.preparer.start(variant)

    def memory_plan(self, variants: Sequence[Variant], request: Request | None = None) -> MemoryPlan:
        """What these variants are expected to take together: of prepared ones from their files, of others from the
        catalogue, None where neither says.
        """
        return plan_of(self.catalog, self.preparer, variants, request, self.pool.budget_mb)

    def inspect(self, model: str, request: Request, progress: Progress = lambda step, share: None) -> PromptView:
        """What a model would really read of a request; prepares it first.

        Raises:
            UsageError: No such model, or the request is wrong.
            PlaygroundError: It can't be prepared or loaded.
        """
        limits = self.settings.limits
        check_request(request, limits.max_new_tokens, limits.max_prompt_chars)
        spec, variant = self.resolve(model)
        artifact = self.prepare(variant, progress)
        return self.pool.inspect(LoadSpec(spec, artifact, self.settings.threads), request)

    # -- experiments ----------------------------------------------------------------------------------------------

    def compare(self, request: Request, variants: Sequence[Variant], mode: Mode = "fair") -> CompareJob:
        """Begin a comparison.

        Raises:
            UsageError: The request, a model or the list is wrong; no work was begun.
        """
        return self.comparer.start(request, variants, mode)

    def benchmark(self, request: Request, variants: Sequence[Variant], repeats: int) -> BenchmarkJob:
        """Begin a measurement.

        Raises:
            UsageError: The request, a model or the number of repeats is wrong; no work was begun.
        """
        return self.measurer.start(request, variants, repeats)

    def diff(
        self, request: Request, reference: str | Variant, candidate: str | Variant, *, with_prompt: bool = False
    ) -> DiffJob:
        """Begin to compare two variants of one model token by token.

        Raises:
            UsageError: The request is wrong, or the two can't be compared by tokens; no work was begun.
        """
        return self.differ.start(request, reference, candidate, with_prompt=with_prompt)

    def replay(self, stored: Comparison) -> ReplayJob:
        """Begin to run a stored comparison once more.

        Raises:
            UsageError: It can't be run again; no work was begun.
        """
        return self.replayer.start(stored)

    # -- what was kept --------------------------------------------------------------------------------------------

    def keep(self, result: Comparison | Measurement) -> None:
        """Store a result.

        Raises:
            StorageError: The database can't be written.
        """
        if isinstance(result, Comparison):
            self.store.save(result)
        else:
            self.store.save_measurement(result)

    def comparison(self, id: str) -> Comparison | None:
        """The stored comparison of that id. It and the next three raise StorageError if the file can't be read."""
        return self.store.get(id)

    def comparisons(self, limit: int) -> list[Comparison]:
        """The newest comparisons."""
        return self.store.list(limit)

    def measurement(self, id: str) -> Measurement | None:
        """The stored measurement of that id."""
        return self.store.measurement(id)

    def measurements(self, limit: int) -> list[Measurement]:
        """The newest measurements."""
        return self.store.measurements(limit)


def _terms(entry: CatalogEntry) -> dict[str, Any] | None:
    return entry.terms.to_json() if entry.terms else None


def _hub_json(info: HubInfo) -> dict[str, Any]:
    expected, told = info.footprint(), info.to_json()
    shown = ("repo", "revision", "download_bytes", "gated", "architecture", "onnx_files", "way", "refusal", "notes")
    return {name: told[name] for name in shown} | {
        "kind": kind_told(info.config, info.tags),
        "expected_memory": expected.to_json() if expected else None,
    }
