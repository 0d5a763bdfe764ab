"""The use cases: what the page, the terminal, the HTTP API and whoever comes next ask for, each by one method.

``Playground`` puts the rooms together. Front ends ask it and reach through it into no room (``tests/test_service.py``
sees to that), so that they can't drift apart. Its parts are modules here: what is known of models (``cards``), what it
runs (``experiments``), what it keeps (``history``). Opening it starts nothing and needs no network; closing it ends
every worker and preparation.

Door:
    __init__: Playground
    addresses: network_of, whence
    answers: MOST_HELD
    guesses: Guesses
    limiter: Kind
    metrics: CONTENT_TYPE
    suggestions: SUGGESTED, Suggestion, Suggestions
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from playground.catalog.entries import CatalogEntry, load_catalog
from playground.catalog.search import Filters, Listed, Sort, choices, listed, select, smaller
from playground.catalog.sets import ModelSet, model_sets
from playground.catalog.stores import Stored, Stores
from playground.config.settings import Settings
from playground.errors import ConfigError
from playground.evaluation.job import Evaluator
from playground.experiments.admission import check_request, check_search
from playground.experiments.base import Machine
from playground.experiments.benchmark import Measurer
from playground.experiments.compare import Comparer
from playground.experiments.diff import VariantDiffer
from playground.experiments.memory_plan import MemoryPlan, plan_of
from playground.experiments.replay import Replayer
from playground.experiments.suite import SuiteRunner
from playground.experiments.token_view import TokenViewer
from playground.export import Preparation, Preparer
from playground.kernels import building
from playground.messages import msg
from playground.owners import keep_to_ourselves
from playground.paths import ROOT
from playground.records import (
    Artifact,
    Cancelled,
    Column,
    LoadSpec,
    ModelSpec,
    PromptView,
    Request,
    Variant,
)
from playground.results.costs import load_tiers
from playground.results.scores import Scores
from playground.results.store import Store
from playground.results.suites import Suites
from playground.results.votes import Votes
from playground.service.answers import Answers, Lately
from playground.service.callers import Callers
from playground.service.cards import Cards
from playground.service.disk import Disk
from playground.service.evaluation import Evaluating
from playground.service.experiments import Experiments, GoingOn
from playground.service.history import History, retention
from playground.service.limiter import Kind, Limiter
from playground.service.presence import Presence
from playground.service.readiness import Ready
from playground.service.scoring import Scoring
from playground.service.ship import Shipping
from playground.service.suggestions import Suggesting
from playground.service.suite_rows import SuiteRows
from playground.service.suites import SuitesGoingOn, Suiting
from playground.service.votes import Voting
from playground.sources.files import Progress
from playground.system.environment import environment
from playground.system.memory import limit_mb
from playground.system.zerogpu import on_zero_gpu
from playground.workers.fleet import Fleet

if TYPE_CHECKING:
    from playground.service.metrics import Metrics

log = logging.getLogger(__name__)


class Playground(
    Voting, Cards, Experiments, History, Suggesting, Scoring, Shipping, Answers, Evaluating, Suiting, SuiteRows, Ready
):
    """Everything a front end needs; a context manager.

    Attributes:
        ending: Whether it was told to end.
        metrics: What is counted, where a server counts.

    Raises:
        ConfigError: The catalogue, the table of hardware or ``PLAYGROUND_KERNELS`` is wrong.
    """

    def __init__(self, settings: Settings) -> None:
        Suggesting.__init__(self)
        Scoring.__init__(self)
        if wrong := building.mistyped():
            raise ConfigError(wrong, msg("Write one of them, or leave the variable out."))
        self.settings = settings
        self.metrics: Metrics | None = None
        self.tiers = load_tiers(settings.hardware_file)
        self.catalog = load_catalog(settings.catalog_file, settings.reached_remotes, _stores(settings))
        if settings.strangers:
            keep_to_ourselves(settings.home, ROOT, Path.home(), *_folders_of(self._named()))
        self.disk = Disk(settings, self.catalog, self.default_variants, self._models_in_use)
        self.preparer = Preparer(settings, self.catalog, self.disk)
        self.pool = Fleet(settings)
        self._machine = Machine(settings, self.catalog, self.preparer, self.pool)
        self.comparer = Comparer(self._machine)
        self.measurer = Measurer(self._machine)
        self.differ = VariantDiffer(self._machine, self.comparer)
        self.replayer = Replayer(self._machine, self.comparer)
        self.token_viewer = TokenViewer(self._machine)
        self.evaluator = Evaluator(self._machine)
        self.suite_runner = SuiteRunner(self._machine)
        self.suites_going_on = SuitesGoingOn()
        self.going_on = GoingOn()
        self.limiter = Limiter(settings, self.refused)
        self.presence = Presence()
        limits = settings.limits
        self.callers = Callers(limits.max_api_waiting, limits.max_api_waiting_of_all, self.pool.turns.expected_s)
        self.lately = Lately()
        self.store = Store(settings.database, retention(settings))
        self.votes_kept = Votes(self.store, self.store.retention.most)
        self.scores_kept = Scores(self.store)
        self.suites_kept = Suites(self.store)

    def __enter__(self) -> Playground:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop what runs and end every child process, even if one of them resists."""
        self.ending = True
        with ExitStack() as ends:  # the last one first, each whatever another raises
            ends.callback(self.store.close)
            ends.callback(self._wait_for_ends)
            ends.callback(self._wait_for_suites)
            ends.callback(self.preparer.close)
            ends.callback(self.pool.close)
            ends.callback(self._machine.close)

    def meter(self) -> Metrics:
        """Count from now on; asked for by whoever serves others, once it is known which models are served."""
        from playground.service.metrics import Metrics

        if self.metrics is None:
            self.metrics = Metrics(self)
            self.pool.on_run = self.metrics.ran
        return self.metrics

    def came_from(self, visitor: str, address: str) -> None:
        """Calls of this visitor come from there (``limiter``)."""
        self.limiter.came_from(visitor, address)

    def count(self, kind: Kind, visitor: str, address: str = "") -> None:
        """A visitor asks for something.

        Args:
            address: Where it comes from; empty for where they came from last.

        Raises:
            Busy: Too often within a minute; with the seconds until they may again.
        """
        self.limiter.count(kind, visitor, address)

    def turns_name(self, visitor: str) -> str:
        """Under which name a visitor has turns at the machine: those of one address share theirs."""
        return self.limiter.fair_name(visitor)

    def open_pages(self, visitor: str | None = None) -> int:
        """How many pages are open, of all or of one visitor."""
        return self.presence.pages if visitor is None else self.presence.pages_of(visitor)

    def page_opened(self, visitor: str) -> None:
        """A page was opened."""
        self.presence.enter(visitor)

    def page_closed(self, visitor: str) -> bool:
        """A page was closed; returns whether it was the visitor's last."""
        return self.presence.leave(visitor)

    def refused(self, limit: str) -> None:
        """Something was refused because a limit was reached.

        Args:
            limit: Its name; a word of the code, never of a visitor.
        """
        log.info("refused", extra={"limit": limit})
        if self.metrics is not None:
            self.metrics.refused(limit)

    def use_lent_gpu(self) -> None:
        """On a ZeroGPU Space, have ``torch-bf16`` answered there; before gradio's launch.

        Raises:
            RunError: The package that lends it is not installed.
        """
        if on_zero_gpu():
            from playground.workers.zerogpu import enable

            enable()

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

    def stored_models(self) -> list[Stored]:
        """What Ollama and LM Studio keep on this machine, by the names it can be asked for with; none where strangers
        come.
        """
        return self.catalog.stores.found()

    def _named(self) -> list[str]:
        """Sources of all models that are known by name."""
        return [*self.served_names, *(entry.spec.source for entry in self.catalog)]

    def default_variants(self) -> tuple[Variant, ...]:
        """What the app was told to serve: the variant named there, or each model's default one."""
        return tuple(dict.fromkeys(self.variants(self.served_names)))

    def search(self, filters: Filters, order: Sort = "catalogue") -> list[Listed]:
        """The models of the catalogue that fit every filter, and whether they run on this machine.

        Raises:
            BadRequest: What is searched for is too long.
        """
        check_search(filters.search, self.settings.limits)
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
        artifact = self.preparer.prepare(variant, progress, cancelled)
        self.note_used(variant)
        return artifact

    def _models_in_use(self) -> set[str]:
        return {each.variant.partition("@")[0] for each in self.pool.loaded()} | self._machine.in_use()

    def prepare_served(self) -> None:
        """Prepare what the app was told to serve, in the background."""
        environment()  # read once, by asking git: while there is memory, and nothing is measured
        self.preparer.clean()
        for variant in self.default_variants():
            self.preparer.start(variant)

    def memory_plan(self, columns: Sequence[Variant | Column], request: Request | None = None) -> MemoryPlan:
        """What these are expected to take together: prepared ones by their files, others by the catalogue, None where
        neither says. ``request`` is of all columns without one of their own.
        """
        asked = [
            (each.variant, each.request or request) if isinstance(each, Column) else (each, request) for each in columns
        ]
        return plan_of(self.catalog, self.preparer, asked, self.pool.budget_mb)

    def inspect(self, model: str, request: Request, progress: Progress = lambda step, share: None) -> PromptView:
        """What a model would really read of a request; prepares it first.

        Raises:
            UsageError: No such model, or the request is wrong.
            PlaygroundError: It can't be prepared or loaded.
        """
        # Nothing is answered, so how long an answer may be is not asked.
        check_request(replace(request, max_new_tokens=1, min_new_tokens=0), self.settings.limits)
        spec, variant = self.resolve(model)
        artifact = self.prepare(variant, progress)
        return self.pool.inspect(LoadSpec(spec, artifact, self.settings.threads), request)


def _folders_of(sources: Iterable[str]) -> list[Path]:
    """Where models lie that are named by a place on the disk."""
    places = [source.removeprefix("path:").partition("@")[0] for source in sources if source.startswith("path:")]
    return [Path(place).expanduser().parent for place in places]


def _stores(settings: Settings) -> Stores:
    """Files of other programs are for the people at this machine."""
    return Stores() if settings.strangers else Stores(settings.ollama, settings.lmstudio)
