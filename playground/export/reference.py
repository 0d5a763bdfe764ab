"""What the fidelity check holds to be right: transformers' own network on the original files.

Two things are asked of it, as its authors mean it to be used: a forward pass over each text, without a cache, and
``generate``'s own continuation of prompts, greedily, with the logits behind each of its tokens. Where the two
contradict each other (a class whose plain forward pass sees what comes later, XLNet's; one whose cache is not what it
looks at), ``generate`` is what users get, and it alone is believed. The module knows transformers; it makes no verdict,
and does not know what is compared with it.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from playground.errors import Reason
from playground.export import vocabulary
from playground.export.fidelity import Logits, aligned
from playground.export.passages import Passage, Tokens, context_of
from playground.messages import Translatable, msg
from playground.runtimes.generation.divergence import kl_divergence
from playground.runtimes.torch.networks import Network, load_network

log = logging.getLogger(__name__)

ALONE = 32
"""Tokens that ``generate`` is asked for behind each prompt where it alone is believed."""

SAME_KL = 1e-4
"""Nats by which the forward pass and ``generate`` may differ at the same place: both are fp32, with other kernels at
most. What sees the future differs by whole nats."""

CONTRADICTION = msg("transformers' forward pass and its generate contradict each other: compared with generate alone")

NO_PLACES = np.empty((0, 0), np.float32)


@dataclass(frozen=True)
class Expected:
    """What the original holds at each position of one passage.

    Attributes:
        passage: What was read.
        rows: Logits ``[1 + steps, vocab]``: behind the prompt, and behind each token of the text after it; of fewer
            where the forward pass can't be believed.
        continued: The ids with which ``generate`` goes on behind the prompt.
        greedy: Logits ``[len(continued), vocab]`` from which they were chosen; the first again those behind the prompt.
    """

    passage: Passage
    rows: Logits
    continued: tuple[int, ...]
    greedy: Logits


@dataclass(frozen=True)
class Reference:
    """The original's answers.

    Attributes:
        expected: Of each passage.
        tokens: How many ids the tokenizer has; logits beyond are padding of the embedding.
        notes: What is odd about them, for a reader of the verdict.
    """

    expected: tuple[Expected, ...]
    tokens: int
    notes: tuple[Translatable, ...] = ()


Choose = Callable[[Tokens, Any, int | None], list[Passage]]
"""``passages.passages``, or its quick kind."""


def ask(original: Path, choose: Choose, spare: Path | None = None, alone: bool = False) -> Reference:
    """Let the original read.

    Args:
        original: The folder with the original files.
        choose: Which passages.
        spare: A folder with tokenizer.json, for originals whose tokenizer can't be read from their own.
        alone: Whether ``generate`` alone is asked, step by step along the texts.

    Raises:
        Reason: There is nothing that it can read.
        Exception: Whatever transformers raises.
    """
    from playground.runtimes.torch.gguf_weights import unpacked_ahead

    network = load_network(original, deferred=True)
    with unpacked_ahead(network.model):
        return _asked(network, original, choose, spare, alone)


def _asked(network: Network, original: Path, choose: Choose, spare: Path | None, alone: bool) -> Reference:
    model = network.model
    encode, tokens = tokenizer_of(original, spare)
    texts = choose(encode, model.config, _embeddings(model))
    found: list[Expected] = []
    notes: list[Translatable] = [CONTRADICTION] if alone else []
    for passage in texts:
        try:
            if CONTRADICTION in notes:
                found.append(_generated(model, network.has_encoder, passage))
            else:
                found.append(_expected(model, network.has_encoder, passage, notes))
        except (IndexError, RuntimeError, ValueError, NotImplementedError) as error:
            log.warning("the original can't read %s", passage.kind, exc_info=error)
            notes.append(
                msg(
                    "the original itself could not read the {text} ({kind})",
                    text=passage.kind,
                    kind=type(error).__name__,
                )
            )
            failed = error
    if not found:
        if texts:
            raise failed
        raise Reason(msg("the texts of the check have no tokens that the model knows"))
    if len(texts) > len({passage.kind for passage in texts}):
        notes.append(
            msg(
                "the texts were read in parts of {tokens} tokens, all that the context holds",
                tokens=context_of(model.config),
            )
        )
    return Reference(tuple(found), tokens, tuple(dict.fromkeys(notes)))


def tokenizer_of(folder: Path, spare: Path | None = None) -> tuple[Tokens, int]:
    """The tokenizer of these files as a function from text to ids, and how many ids it has.

    tokenizer.json alone gives transformers' ids and is read in a tenth of the time; where there is none, transformers
    makes it of what there is.
    """
    places = [place for place in (folder, spare) if place is not None]
    if place := next((each for each in places if (each / vocabulary.FILE).is_file()), None):
        quick = vocabulary.of(place)
        return quick.encode, quick.size
    from transformers import AutoTokenizer

    slow: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return (lambda text: slow(text)["input_ids"]), len(slow)


def _embeddings(model: Any) -> int | None:
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError, IndexError):
        return None


def _expected(model: Any, has_encoder: bool, passage: Passage, notes: list[Translatable]) -> Expected:
    rows = _forward(model, has_encoder, passage)
    if not passage.greedy:
        return Expected(passage, rows, (), NO_PLACES)
    try:
        continued, greedy = _generate(model, has_encoder, passage)
    except (IndexError, RuntimeError, ValueError, NotImplementedError, AttributeError, TypeError, KeyError) as error:
        log.warning("generate can't be asked about %s", passage.kind, exc_info=error)
        notes.append(msg("transformers' generate could not be asked ({kind})", kind=type(error).__name__))
        return Expected(passage, rows, (), NO_PLACES)
    found = Expected(passage, rows, continued, greedy)
    apart = _contradiction(model, has_encoder, found)
    if not apart <= SAME_KL:
        log.warning("forward pass and generate differ by %.2g nats behind the same tokens", apart)
        notes.append(CONTRADICTION)
        return _generated(model, has_encoder, passage)
    return found


def _contradiction(model: Any, has_encoder: bool, found: Expected) -> float:
    """Mean divergence of the forward pass from ``generate``, in nats: behind the prompt and along its own words.

    What keeps something else than it looks at (an index of attention, positions counted past padding, a window cut too
    early) shows only in the steps behind a cache.
    """
    passage = found.passage
    along = replace(passage, ids=(*passage.ids[: passage.prompt], *found.continued[:-1]))
    again = _forward(model, has_encoder, along)
    rows = zip(found.greedy, again, strict=True)
    return float(np.mean([kl_divergence(*aligned(ours, theirs)) for ours, theirs in rows]))


def _generated(model: Any, has_encoder: bool, passage: Passage) -> Expected:
    """What ``generate`` says, alone: its own words, and along the text by tokens that are forced on it."""
    room = ALONE if has_encoder else min(ALONE, len(passage.steps))
    continued, greedy = _generate(model, has_encoder, replace(passage, greedy=room))
    _, rows = _generate(model, has_encoder, replace(passage, greedy=1), passage.steps[:ALONE])
    return Expected(passage, rows, continued, greedy)


def _forward(model: Any, has_encoder: bool, passage: Passage) -> Logits:
    """Logits ``[1 + steps, vocab]`` in one pass without a cache.

    An encoder-decoder model reads the prompt with its encoder and the rest with its decoder, behind its start token.
    """
    import torch

    wanted = len(passage.steps) + 1
    taken = inspect.signature(model.forward).parameters
    options: dict[str, Any] = {"use_cache": False} if "use_cache" in taken else {}
    if has_encoder:
        decoded = torch.tensor([[_start(model), *passage.steps]])
        given = {"input_ids": torch.tensor([passage.ids[: passage.prompt]]), "decoder_input_ids": decoded}
    else:
        given = {"input_ids": torch.tensor([passage.ids])}
        if "logits_to_keep" in taken:
            # Of a wide vocabulary, all positions' logits would take gigabytes; a few old classes give no choice.
            options["logits_to_keep"] = wanted
    with torch.no_grad():
        # A copy, or the logits of the whole prompt would stay with those of a few positions.
        rows: Logits = model(**given, **options).logits[0, -wanted:].float().clone().numpy()
    return rows


def _generate(
    model: Any, has_encoder: bool, passage: Passage, along: tuple[int, ...] = ()
) -> tuple[tuple[int, ...], Logits]:
    """What ``generate`` goes on with behind the prompt, and the raw logits of each token.

    Args:
        along: Tokens that it must choose first, whatever it would.
    """
    import torch

    prompt = torch.tensor([passage.ids[: passage.prompt]])
    with torch.no_grad():
        found = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            num_beams=1,
            max_new_tokens=len(along) + passage.greedy,
            min_new_tokens=len(along) + passage.greedy,  # an early end would leave nothing to compare
            return_dict_in_generate=True,
            output_logits=True,
            logits_processor=[_Forced(along)] if along else None,
        )
    rows: Logits = torch.stack([step[0] for step in found.logits]).float().numpy()
    return tuple(found.sequences[0, -len(rows) :].tolist()), rows


class _Forced:
    """A logits processor of ``generate``: at each step nothing but the next of these tokens can be chosen."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = iter(tokens)

    def __call__(self, _ids: Any, scores: Any) -> Any:
        token = next(self._tokens, None)
        if token is None:
            return scores
        forced = scores.new_full(scores.shape, float("-inf"))
        forced[:, token] = 0.0
        return forced


def _start(model: Any) -> int:
    """The token a decoder begins with, where ``generate`` looks for it."""
    for settings in (model.generation_config, model.config, model.config.get_text_config(decoder=True)):
        for name in ("decoder_start_token_id", "bos_token_id"):
            token = getattr(settings, name, None)
            if isinstance(token, int):
                return token
    raise Reason(msg("config.json does not say which token the decoder starts with"))
