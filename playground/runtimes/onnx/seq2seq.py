"""Encoder-decoder graphs as optimum exports them: the prompt is encoded once, the decoder writes beside it.

Either one merged decoder with a branch without and one with a past, or two files. The keys and values of
cross-attention depend on the prompt alone: they are computed by the decoder's first run and fed to all others as they
are. The module does not know text, sampling or time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from playground.errors import all_of
from playground.messages import msg
from playground.runtimes.generation.engine import Logits
from playground.runtimes.generation.settings import read_settings
from playground.runtimes.onnx.file import ENCODER, GraphError, read_onnx_file
from playground.runtimes.onnx.graph import ENCODER_MASK, ENCODER_STATES, MASK, TOKENS, read_graph
from playground.runtimes.onnx.sessions import OnnxEngine, last_row, ort_value

MERGED = "decoder_model_merged.onnx"
FIRST, NEXT = "decoder_model.onnx", "decoder_with_past_model.onnx"

OpenSession = Callable[[Path], ort.InferenceSession]


def open_encoder_decoder(folder: Path, config: Mapping[str, Any], open_session: OpenSession) -> EncoderDecoderEngine:
    """The engine for the graphs in ``folder``.

    Raises:
        GraphError: A part is missing, or is not what its name says.
    """
    parts = (MERGED,) if (folder / MERGED).is_file() else (FIRST, NEXT)
    missing = [name for name in parts if not (folder / name).is_file()]
    if missing:
        raise GraphError(
            msg(
                "beside {encoder} there is no {merged}, nor {missing}",
                encoder=ENCODER,
                merged=MERGED,
                missing=all_of(missing),
            )
        )
    encoder = open_session(folder / ENCODER)
    taken = {node.name for node in encoder.get_inputs()}
    if unknown := sorted(taken - {TOKENS, MASK}):
        raise GraphError(msg("the encoder has unknown inputs {names}", names=unknown))
    decoders = []
    options = ort.RunOptions()  # one for all: whichever is running is the one that Stop ends
    for name in parts:
        session = open_session(folder / name)
        graph = read_graph(session, read_onnx_file(folder / name), config)
        decoders.append(_Decoder(session, graph, options))
    if not decoders[-1].graph.slots:
        raise GraphError(msg("{file} keeps no cache", file=parts[-1]))
    return EncoderDecoderEngine(encoder, options, decoders[0], decoders[-1], decoder_start(folder, config))


def decoder_start(folder: Path, config: Mapping[str, Any]) -> int:
    """The token a decoder's sequence begins with: what transformers' ``generate`` takes, else what config.json says.

    Raises:
        GraphError: Neither says it.
    """
    found = (read_settings(folder).starts, config.get("decoder_start_token_id"), config.get("bos_token_id"))
    for start in found:
        if isinstance(start, int):
            return start
    raise GraphError(msg("config.json does not say which token the decoder starts with"))


class _Decoder(OnnxEngine):
    """One decoder graph: runs it, keeps nothing."""

    def run(self, token: int, length: int, beside: Mapping[str, ort.OrtValue], wanted: Sequence[str]) -> Any:
        """Logits and the ``wanted`` outputs behind one ``token``, ``length`` of which came before."""
        feeds = {name: ort_value(array) for name, array in self._values((token,), length).items()}
        feeds |= {name: value for name, value in beside.items() if name in self._takes}
        return self._run(["logits", *wanted], feeds)

    @property
    def _takes(self) -> frozenset[str]:
        return frozenset(self.graph.inputs) | {slot.past for slot in self.graph.slots}


class EncoderDecoderEngine(OnnxEngine):
    """An encoder, the decoder that starts and the one that goes on (of a merged export the same)."""

    def __init__(
        self,
        encoder: ort.InferenceSession,
        options: ort.RunOptions,
        first: _Decoder,
        following: _Decoder,
        start: int,
    ) -> None:
        super().__init__(encoder, first.graph, options)
        self.chunk = 0
        self.starts_with = (start,)
        self._first, self._next = first, following
        self._takes_mask = MASK in {node.name for node in encoder.get_inputs()}
        self._encoded = encoder.get_outputs()[0].name
        slots = following.graph.slots
        self._own = [slot for slot in slots if ".encoder." not in slot.past]
        self._cross = [slot for slot in slots if ".encoder." in slot.past]
        self._empty = {slot.past: ort_value(np.zeros(slot.shape, slot.dtype)) for slot in slots}
        self._given: dict[str, ort.OrtValue] = {}
        self._length = self._prompt = 0

    def reset(self, length: int) -> None:
        super().reset(length)
        self._given = {}
        self._length = self._prompt = 0

    def rewind(self, kept: int, length: int) -> bool:
        if not self._length or kept != self._prompt + self._length - 1:
            return False
        super().reset(length)
        return True

    def prefill(self, ids: Sequence[int]) -> Logits:
        mask = ort_value(np.ones((1, len(ids)), np.int64))
        feeds = {TOKENS: ort_value(np.asarray([ids], np.int64))} | ({MASK: mask} if self._takes_mask else {})
        (states,) = self._run([self._encoded], feeds)
        self._given = {ENCODER_STATES: states, ENCODER_MASK: mask}
        names = [_present(slot.past) for slot in (*self._own, *self._cross)]
        logits, *presents = self._first.run(self._start, 0, self._given | self._empty, names)
        self._given |= {slot.past: value for slot, value in zip((*self._own, *self._cross), presents, strict=True)}
        self._length, self._prompt = 1, len(ids)
        return last_row(logits.numpy())

    def step(self, token: int) -> Logits:
        names = [slot.present for slot in self._own]
        logits, *presents = self._next.run(token, self._length, self._given, names)
        self._given |= {slot.past: value for slot, value in zip(self._own, presents, strict=True)}
        self._length += 1
        return last_row(logits.numpy())

    def close(self) -> None:
        self._given.clear()
        self._first.close()
        self._next.close()
        super().close()

    @property
    def _start(self) -> int:
        assert self.starts_with
        return self.starts_with[0]


def _present(past: str) -> str:
    return past.replace("past_key_values.", "present.", 1)
