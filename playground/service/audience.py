"""What whoever uses this app may name, and which models they may run: all of it on one's own machine; where the
audience is public, models that are served or ready, and others only for whom the settings let add models.

It knows names and the states of preparations; it does not know pages, keys or cookies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from playground.config.settings import Settings
from playground.errors import UsageError, some
from playground.experiments.base import ASKING, WANTED
from playground.export import Preparation
from playground.messages import NOTHING, Translatable, msg, sentences
from playground.owners import all_for_visitors
from playground.records import ModelSpec, Variant
from playground.service.disk import Disk
from playground.service.limiter import Limiter

Kept = TypeVar("Kept")

SIGNED_IN = ("login:", "key:")
"""How the owners begin of whom it is known who they are: a name with a password or from the Hub, a key of the API."""


class Admitting(ABC):
    """A part of ``Playground``: who may do what."""

    settings: Settings
    limiter: Limiter
    disk: Disk

    @abstractmethod
    def ids(self) -> tuple[str, ...]: ...

    @abstractmethod
    def default_variants(self) -> tuple[Variant, ...]: ...

    @abstractmethod
    def preparation(self, variant: Variant) -> Preparation: ...

    @abstractmethod
    def resolve(self, text: str) -> tuple[ModelSpec, Variant]: ...

    def told(self, message: Translatable) -> Translatable:
        """A message as whoever uses this app is told it: visitors can do nothing with advice for its owner."""
        return self.all_told(message)

    def all_told(self, kept: Kept) -> Kept:
        """What was kept, or is known, with every message in it as whoever uses this app is told it: for files, programs
        and whatever else is not said word by word.
        """
        return all_for_visitors(kept) if self.settings.strangers else kept

    def may_be_named(self, model: str) -> bool:
        """Whether whoever uses this app may name ``model``, to read of it or to run it: where the audience is public,
        no folder, file, repository or server, but the catalogue and what the app was told to serve.
        """
        if not self.settings.strangers or model.lower() in self.ids():
            return True
        return any(model == variant.model for variant in self.default_variants())

    def may_add(self, owner: str) -> bool:
        """Whether this visitor may have models prepared that are not served."""
        adding = self.settings.adding
        return adding == "everyone" or (adding == "signed-in" and owner.startswith(SIGNED_IN))

    def may_run(self, variant: Variant, owner: str) -> bool:
        """Whether this visitor may run a variant: it is served, it is ready, or they may add it."""
        return self.may_add(owner) or variant in self.default_variants() or self.preparation(variant).status == "ready"

    def check_may_run(self, variants: Iterable[Variant], owner: str, step: Translatable = NOTHING) -> None:
        """Refuse what this visitor may not run, before anything is prepared for it.

        Args:
            owner: Who asks, as comparisons are kept for them.
            step: What to do instead, for programs, which have neither the page's list nor its way to sign in.

        Raises:
            UsageError: One of them is neither served nor ready.
        """
        for variant in dict.fromkeys(variants):
            if self.may_run(variant, owner):
                continue
            served = some([str(each) for each in self.default_variants()])
            sign_in = self.settings.adding == "signed-in" and self.settings.signing_in != "none"
            raise UsageError(
                msg("{variant} is not prepared here, and visitors may not add models", variant=variant),
                sentences(
                    step or msg("Choose one that is ready, the list has them first; {names} are served.", names=served),
                    msg("Or sign in: then you may add models.") if sign_in and not step else NOTHING,
                ),
            )

    @contextmanager
    def admitted(self, owner: str, variants: Iterable[Variant] = (), tokens: int = 0) -> Iterator[None]:
        """What is begun inside takes turns with that of other visitors.

        Args:
            tokens: What it may read and write at most, where that is known beforehand; counted once it was begun.

        Raises:
            UsageError: One of the variants may not be run by this visitor.
            Busy: They have had the tokens of a day.
        """
        asked = tuple(dict.fromkeys(variants))
        self.check_may_run(asked, owner)
        self.limiter.check_tokens(owner)
        for variant in asked:
            self.note_used(variant)
        before = ASKING.set(self.limiter.fair_name(owner))
        models = WANTED.set(frozenset(variant.model for variant in asked))
        try:
            yield
        finally:
            WANTED.reset(models)
            ASKING.reset(before)
        self.limiter.spend(owner, tokens)

    def note_used(self, variant: Variant) -> None:
        """A variant is asked for: what visitors added goes by when it was last used."""
        spec, variant = self.resolve(str(variant))
        self.disk.used(spec, variant, lambda: self.preparation(variant).artifact)
