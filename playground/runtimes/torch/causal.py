"""Decoders as their authors run them: transformers' own preparation of every call, under the playground's loop.

What a network keeps of the tokens it has read is its own affair: keys and values, windows, states of fixed size,
XLNet's memories, nothing at all. So no cache is made here and no input is guessed. ``generate`` prepares the first call
and hands over; each later one goes through the network's own ``prepare_inputs_for_generation`` and
``_update_model_kwargs_for_generation``, as in the loop of ``generate`` itself. What is added: a prompt in parts and a
way back in the cache, where both are known to change nothing, and an end in the middle of a long prompt. The module
does not know text, sampling or time.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig
from transformers.cache_utils import DummyLayer, DynamicLayer, DynamicSlidingWindowLayer

from playground.runtimes.generation.engine import MAX_ROWS, PREFILL_CHUNK, Engine, Interrupted, Logits
from playground.runtimes.generation.rotary import steady_length
from playground.runtimes.torch.accelerator import Accelerator, as_row
from playground.runtimes.torch.interrupt import interruptible
from playground.runtimes.torch.state import Unchanged

PROBE_TOKENS = 16
"""Tokens of the check that a prompt may be read in parts, with a way back between them."""

LIKE_WHOLE = 1e-3
"""Largest difference of a logit read in parts, in standard deviations of the row. fp32 rounds far less."""

_PLAIN = (DynamicLayer, DynamicSlidingWindowLayer, DummyLayer)
"""Layers of a cache that keep keys and values, all of them or those in a window, or nothing. By exact type: what is
derived from them keeps more."""

_SELECTING = re.compile(r"window(_size)?$|^attention_chunk_size$|^local_attention$|^index_topk")
"""Numbers of a configuration beyond which attention leaves tokens out. Which ones, a few networks (Doge, Moshi) decide
by how many they see at once, so a longer prompt is read in one go."""

_BY_POSITION = ("position_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""What ``generate`` carries along beside the tokens, one entry for each of them."""


class TorchEngine(Engine):
    """One causal language model, or one that reads images as well and is given text.

    Args:
        model: transformers' network, ready to compute: in fp32, or in bf16 on an accelerator.
        accelerator: Where it is; None for the processor.
    """

    def __init__(self, model: Any, accelerator: Accelerator | None = None) -> None:
        self._model = model
        self.name = accelerator.engine if accelerator else "torch"
        self._device = accelerator.device if accelerator else "cpu"
        # How tokens are chosen is the playground's: what the files say about it must not reach the preparation.
        model.generation_config = GenerationConfig()
        config = model.config.get_text_config(decoder=True)
        sizes = config.to_dict()
        selecting = [size for name, size in sizes.items() if isinstance(size, int) and _SELECTING.search(name)]
        self._longest = min((length for length in [*selecting, steady_length(sizes)] if length), default=None)
        self._unchanged = Unchanged(model)
        self._stopping = False
        self._counts_new = "num_new_tokens" in inspect.signature(model._update_model_kwargs_for_generation).parameters
        self.chunk = 0
        self._rewinds = False
        self._keep = 1
        self._gives_rows: bool | None = None  # not tried yet
        self._most_rows = max(8, MAX_ROWS // int(config.vocab_size))
        self.reset(0)
        self._try_parts(int(config.vocab_size))

    # -- what the loop asks for -----------------------------------------------------------------------------------

    def reads_in_parts(self, total: int) -> bool:
        return self.chunk > 0 and (self._longest is None or total <= self._longest)

    def reset(self, length: int) -> None:
        self._stopping = False
        self._unchanged.restore()
        self._room = max(length, 1)
        self._ids: Any = torch.zeros((1, 0), dtype=torch.long, device=self._device)
        self._given: dict[str, Any] = {}
        self._settings: Any = None

    def rewind(self, kept: int, length: int) -> bool:
        read = self._ids.shape[1]
        cache: Any = self._given.get("past_key_values")
        if kept == read and (type(cache) is DynamicCache or length <= self._room):
            self._stopping = False
            return True
        if not self._rewinds or type(cache) is not DynamicCache or (self._longest is not None and read > self._longest):
            return False
        if any(_is_full(layer) for layer in cache.layers):
            return False
        self._stopping = False
        if kept < read:
            cache.crop(kept - read)
        self._ids = self._ids[:, :kept]
        for name in _BY_POSITION:
            if self._given.get(name) is not None:
                self._given[name] = self._given[name][..., : kept + 1]
        return True

    def prefill(self, ids: Sequence[int]) -> Logits:
        """See ``Engine.prefill``.

        Raises:
            Interrupted: Another thread called ``interrupt``.
            RuntimeError: Whatever transformers or torch raised.
        """
        rows: Logits = self._rows(ids, 1)[0]
        return rows

    def rows(self, ids: Sequence[int], wanted: int) -> Iterator[Logits]:
        """See ``Engine.rows``; in one call of the network, where its rows are those of shorter texts."""
        if wanted == 1 or not self.rows_hold():
            yield from super().rows(ids, wanted)
            return
        parts = self.chunk > 0 and self._ids.shape[1] + len(ids) <= (self._longest or sys.maxsize)
        size = min(len(ids), self._most_rows) if parts else len(ids)
        for start in range(0, len(ids), size):
            part = ids[start : start + size]
            here = min(len(part), wanted - (len(ids) - start - len(part)))
            if here > 0:
                yield from self._rows(part, here)
            else:
                self._rows(part, 1)

    def step(self, token: int) -> Logits:
        return self.prefill((token,))

    def interrupt(self) -> None:
        self._stopping = True

    def close(self) -> None:
        del self._model, self._unchanged
        self._given = {}

    # -- one call of the network ----------------------------------------------------------------------------------

    def _rows(self, ids: Sequence[int], wanted: int) -> Logits:
        """Logits ``[wanted, vocab]`` behind the last ``wanted`` of ``ids``; of a network that keeps no more, fewer."""
        self._keep = wanted
        try:
            with torch.inference_mode(), self._listening(len(ids)):
                return self._read(torch.tensor([list(ids)], device=self._device))
        except Interrupted:
            raise
        except Exception as error:  # transformers raises whatever happens to break; the loop knows torch's own
            raise RuntimeError(str(error) or type(error).__name__) from error
        finally:
            self._keep = 1

    def _read(self, new: Any) -> Logits:
        outputs = self._first(new) if self._ids.shape[1] == 0 else self._next(new)
        self._given = self._model._update_model_kwargs_for_generation(outputs, self._given, is_encoder_decoder=False)
        rows = outputs.logits[0, -self._keep :]
        # Of a few old classes, the row is a part of all positions' logits, which would stay in memory with it.
        logits: Logits = as_row(rows.clone() if outputs.logits.shape[1] > len(rows) else rows)
        return logits

    def _set_keep(self) -> None:
        """``generate`` asks for the last row alone, of networks that can be asked."""
        if "logits_to_keep" in self._given:
            self._given["logits_to_keep"] = self._keep

    def _first(self, ids: Any) -> Any:
        """What ``generate`` does up to the first logits; its way of choosing tokens is replaced by handing over."""
        handed: dict[str, Any] = {}

        def hand_over(_model: Any, input_ids: Any, generation_config: Any, **given: Any) -> Any:
            handed.update(settings=generation_config, given=given)
            return input_ids

        plain = GenerationConfig(do_sample=False, use_cache=True, max_new_tokens=max(1, self._room - ids.shape[1]))
        self._ids = self._model.generate(ids, generation_config=plain, custom_generate=hand_over)
        self._settings = handed["settings"]
        self._given = {name: value for name, value in handed["given"].items() if name not in _CHOOSING}
        self._set_keep()
        return self._model._prefill(self._ids, self._settings, self._given)

    def _next(self, new: Any) -> Any:
        count = new.shape[1]
        self._ids = torch.cat([self._ids, new], dim=-1)
        if count > 1 and self._counts_new:  # room for one token is made after each call
            self._given = self._model._update_model_kwargs_for_generation(
                {}, self._given, is_encoder_decoder=False, num_new_tokens=count - 1
            )
        self._set_keep()
        inputs = self._model.prepare_inputs_for_generation(self._ids, next_sequence_length=count, **self._given)
        return self._model(**inputs, return_dict=True)

    def _listening(self, tokens: int) -> AbstractContextManager[None]:
        """Where much is read at once, ``interrupt`` is heard before each module of the network."""
        return interruptible(self._model.modules() if tokens > PREFILL_CHUNK else (), lambda: self._stopping)

    # -- what may be done with the cache --------------------------------------------------------------------------

    def _try_parts(self, vocab: int) -> None:
        """Find out whether a prompt may be read in parts, and whether the cache can go back.

        States of fixed size, and whatever a network keeps by itself, are not tried: a few tokens can't show what a
        chunk of a state-space scan does. Plain keys and values are compared on a short text: some networks look ahead
        within a prompt, or number each part from 0.
        """
        context = (
            getattr(self._model.config.get_text_config(decoder=True), "max_position_embeddings", None) or PROBE_TOKENS
        )
        count = PROBE_TOKENS if context < 1 else min(PROBE_TOKENS, context)
        ids = [(7 * place + 11) % vocab for place in range(count)]
        head = count // 2 - 1
        whole = self.prefill(ids)
        if not getattr(self._model, "_is_stateful", False) and self._is_plain():
            for detour in (ids[: count // 3], []):
                if self._reads_like(whole, ids[:head], detour, ids[head:]):
                    self.chunk, self._rewinds = PREFILL_CHUNK, bool(detour)
                    break
        self.reset(0)

    def rows_hold(self) -> bool:
        """See ``Engine.rows_hold``. Some networks look ahead within a prompt, or give the last row alone. Tried once,
        on a short text, when it is first asked; what was read is read again.
        """
        if self._gives_rows is None:
            known, room = self._ids[0].tolist(), self._room
            vocab = int(self._model.config.get_text_config(decoder=True).vocab_size)
            ids = [(7 * place + 11) % vocab for place in range(min(PROBE_TOKENS, max(2, room)))]
            head = len(ids) // 2
            self.reset(len(ids))
            rows = self._rows(ids, len(ids))
            self.reset(len(ids))
            behind_head = self._rows(ids[:head], 1)[0]
            same = len(rows) == len(ids) and float(abs(rows[head - 1] - behind_head).max()) <= LIKE_WHOLE * float(
                behind_head.std()
            )
            self._gives_rows = same
            self.reset(room)
            if known:
                self._rows(known, 1)
        return self._gives_rows

    def _reads_like(self, whole: Logits, head: Sequence[int], detour: Sequence[int], tail: Sequence[int]) -> bool:
        """Whether the logits behind ``head`` and ``tail`` are ``whole``, with a ``detour`` and a way back between."""
        self.reset(0)
        self._rewinds = bool(detour)
        try:
            self.prefill([*head, *detour])
            if detour and not self.rewind(len(head), PROBE_TOKENS):
                return False
            parts = self.prefill(tail)
        except RuntimeError:
            return False
        finally:
            self._rewinds = False
        return float(abs(parts - whole).max()) <= LIKE_WHOLE * float(whole.std())

    def _is_plain(self) -> bool:
        """Whether the cache is one of keys and values, and is used at all."""
        cache: Any = self._given.get("past_key_values")
        if type(cache) is not DynamicCache or cache.get_seq_length() != self._ids.shape[1]:
            return False
        return all(type(layer) in _PLAIN for layer in cache.layers)


_CHOOSING = ("logits_processor", "stopping_criteria", "synced_gpus", "streamer", "assistant_model", "tokenizer")
"""What ``generate`` hands to its own loop beside the inputs of the network."""


def _is_full(layer: Any) -> bool:
    """Whether a window has begun to forget."""
    return type(layer) is DynamicSlidingWindowLayer and bool(layer.get_seq_length() >= layer.sliding_window)
