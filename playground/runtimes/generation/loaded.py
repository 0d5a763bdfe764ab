"""What a local runtime holds while its model is in memory.

It keeps things together; it does nothing with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from playground.records import Artifact
from playground.runtimes.generation.engine import Engine
from playground.runtimes.generation.ids_scorer import IdsScorer
from playground.runtimes.generation.prefix_cache import PrefixCache
from playground.runtimes.generation.prompt import Prompter
from playground.runtimes.generation.settings import OwnSettings
from playground.runtimes.generation.vocabulary import vocabulary_digests

if TYPE_CHECKING:  # what it needs is loaded by those who want it
    from playground.runtimes.generation.held import Grammars


@dataclass(frozen=True)
class Loaded:
    prompter: Prompter
    engine: Engine
    cache: PrefixCache
    own: OwnSettings
    artifact: Artifact
    threads: int

    @cached_property
    def scorer(self) -> IdsScorer:
        return IdsScorer(self.cache)

    @cached_property
    def grammars(self) -> Grammars:
        """Made when it is first asked for: a second or two for the largest vocabularies.

        Raises:
            NotHeld: Answers of this model can't be held to a schema.
        """
        from playground.runtimes.generation.held import Grammars

        return Grammars(self.prompter.detokenizer, self.prompter.eos_ids)

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        return vocabulary_digests(self.prompter.tokenizer)
