"""The trial as its parent sees it: started on a staged folder, heard, ended, whatever becomes of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from playground.errors import ExportError, Stopped
from playground.messages import NOTHING, Translatable, foreign, msg
from playground.records import Cancelled, ModelSpec, Record
from playground.system.child import Ending, JsonChild
from playground.system.child_environment import LIBRARIES, passed

MODULE = "playground.ship.trial"
TOKENS = 32
"""So many are generated: enough to see that two engines agree, few enough to wait for."""
LONGEST_S = 600.0


@dataclass(frozen=True)
class Trial(Record):
    """What onnxruntime-genai made of the folder, once.

    Attributes:
        adapted: Fields of genai_config.json that were brought in line with what was measured.
        reads_alike: Whether its tokenizer gives the playground's ids on all sample texts.
        template_alike: Whether its template engine renders the playground's prompt.
        rendered: The prompt of the trial as the model reads it.
        prompt_ids, tokens: Ids of that prompt, and of the greedy answer, an end of turn included.
        ttft_s: From the prompt's ids to the first token, in seconds.
        decode_tok_s: Tokens a second behind the first; None below two.
        peak_memory_mb: Of the process that tried it, in MB.
        version: Of onnxruntime-genai.
        same_tokens: How many tokens from the start are those of the playground's own answer.
        our_tokens: Length of that answer.
    """

    adapted: tuple[str, ...]
    reads_alike: bool
    template_alike: bool
    rendered: str
    prompt_ids: tuple[int, ...]
    tokens: tuple[int, ...]
    load_s: float
    ttft_s: float | None
    decode_tok_s: float | None
    peak_memory_mb: float
    version: str
    same_tokens: int = 0
    our_tokens: int = 0

    @property
    def agrees(self) -> bool:
        """Whether every token that both gave is the same."""
        return self.same_tokens == min(len(self.tokens), self.our_tokens)


class _Process(JsonChild):
    """A running ``playground.ship.trial``."""

    def __init__(self, name: str) -> None:
        self._name = name
        super().__init__(MODULE, {**passed(LIBRARIES), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"})

    def died(self, ending: Ending) -> ExportError:
        how = msg("signal {signal}", signal=ending.signal) if ending.signal else msg("code {code}", code=ending.code)
        step = msg("Is memory short? Close other programs and ship it again.") if ending.killed else NOTHING
        return ExportError(
            msg(
                "{model}: onnxruntime-genai's process ended while it tried the folder ({how})",
                model=self._name,
                how=how,
            ),
            step,
        )


def tried(folder: Path, spec: ModelSpec, prompt: str, cancelled: Cancelled) -> Trial:
    """Let onnxruntime-genai load ``folder`` and answer ``prompt`` in a process of its own.

    Raises:
        ExportError: It can't; says what onnxruntime-genai says.
        Stopped: ``cancelled`` said so.
    """
    try:
        process = _Process(spec.name)
    except OSError as error:
        raise ExportError(
            msg("No process could be started to try {model} ({reason})", model=spec.name, reason=error.strerror),
            msg("Try again."),
        ) from error
    ends = time.monotonic() + LONGEST_S
    try:
        process.send({"folder": str(folder.absolute()), "spec": spec.to_json(), "prompt": prompt, "tokens": TOKENS})
        for message in process.messages(lambda: cancelled() or time.monotonic() > ends):
            if "trial" in message:
                return Trial.from_json(message["trial"])
            raise _refused(spec, message["error"])
    finally:
        process.kill()
    if cancelled():
        raise Stopped(msg("Shipping {model} was called off", model=spec.name))
    raise _refused(spec, foreign("timeout"))


def _refused(spec: ModelSpec, said: object) -> ExportError:
    reason = Translatable.from_json(said) if isinstance(said, dict) else foreign(str(said))
    return ExportError(
        msg("{model}: onnxruntime-genai can't run the folder ({reason})", model=spec.name, reason=reason),
        msg("Nothing was written. Choose another precision of the model."),
    )
