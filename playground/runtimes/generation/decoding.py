"""What the local runtimes share: a prompter, an engine that a subclass opens, and the loop around it.

The module keeps a model loaded and hands each request to ``answering`` or ``forcing``; it does not know what is inside
an engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from playground.errors import RunError
from playground.messages import msg
from playground.records import Cancelled, DecodedTokens, Event, LoadSpec, PromptView, Request
from playground.runtimes.generation.answering import Answer
from playground.runtimes.generation.engine import Engine, Logits
from playground.runtimes.generation.forcing import Forced
from playground.runtimes.generation.ids_scorer import Tell
from playground.runtimes.generation.loaded import Loaded
from playground.runtimes.generation.narrow_cache import NARROW_BITS, PROBE, narrow_cache
from playground.runtimes.generation.prefix_cache import PrefixCache
from playground.runtimes.generation.prompt import Prompter
from playground.runtimes.generation.settings import read_settings
from playground.runtimes.generation.token_scores import ScoredIds, ScoreIds
from playground.runtimes.generation.vocabulary import decode_tokens


class DecodingRuntime:
    """A ``Runtime`` around an engine; a subclass says how the engine is opened."""

    def __init__(self) -> None:
        self._loaded: Loaded | None = None

    def open_engine(self, load: LoadSpec) -> Engine:
        """Bring the weights into memory.

        Raises:
            RunError: They can't be read.
        """
        raise NotImplementedError

    def load(self, load: LoadSpec) -> None:
        folder = Path(load.artifact.path)
        engine = self.open_engine(load)  # first: the kernels go on packing weights while the tokenizer is read
        try:
            prompter = Prompter(folder, load.spec)
            if load.kv_bits == NARROW_BITS:
                engine.cache_note = narrow_cache(engine, prompter.encode(PROBE, special=True))
        except BaseException:
            engine.close()
            raise
        if engine.context_limit and engine.context_limit < prompter.context_length:
            prompter.context_length = engine.context_limit
        else:
            engine.context_limit = None
        own = read_settings(folder)
        self._loaded = Loaded(prompter, engine, PrefixCache(engine), own, load.artifact, load.threads)
        # A first run allocates scratch memory and wakes the threads: not the first user's to pay.
        warm = Request(prompt="a", max_new_tokens=2)
        for _ in self.generate(warm, cancelled=lambda: False):
            pass

    def inspect(self, request: Request) -> PromptView:
        return self._ready().prompter.view(request)

    def generate(self, request: Request, cancelled: Cancelled) -> Iterator[Event]:
        return Answer(self._ready(), request, cancelled).events()

    def score(self, prompt: Sequence[int], answer: Sequence[int], cancelled: Cancelled) -> Iterator[Logits | None]:
        return Forced(self._ready(), cancelled).rows(prompt, answer)

    def score_ids(self, task: ScoreIds, cancelled: Cancelled, tell: Tell) -> ScoredIds:
        return Forced(self._ready(), cancelled).texts(task, tell)

    def encode(self, text: str, special: bool) -> tuple[int, ...]:
        return self._ready().prompter.encode(text, special=special)

    def decode(self, ids: Sequence[int]) -> DecodedTokens:
        loaded = self._ready()
        return decode_tokens(loaded.prompter, ids, loaded.vocabulary)

    def close(self) -> None:
        if self._loaded:
            self._loaded.engine.close()
            self._loaded = None

    def _ready(self) -> Loaded:
        if self._loaded is None:
            raise RunError(msg("No model is loaded"), msg("Load one first."))
        return self._loaded
