"""lm-eval's own models of an OpenAI door, as this product's door is best asked.

``Completions`` is its ``local-completions`` for log-likelihoods and for answers to plain text, ``ChatCompletions`` its
``local-chat-completions``. What differs: special tokens are added as lm-eval's backend for transformers adds them (its
backend for doors leaves a model's beginning-of-text token out, and its figures are another model's then); texts that
begin alike are asked for together, so that the door reads what they share once; an error of the door is told in its
words. Imported by the harness's process alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from lm_eval.api.model import CacheHook, CachingLM
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI
from lm_eval.models.utils import has_bos_prefix
from transformers import PreTrainedTokenizerFast

from playground.errors import RunError, shortened
from playground.evaluation.journal import Journal
from playground.messages import msg

TEXTS = 64
TOKENS = 4096
"""Most texts, and most tokens, in one request for log-likelihoods."""
TIMEOUT_S = 24 * 3600
"""The door says when something goes wrong; how long an honest answer takes depends on model and machine."""

Told = Callable[[int, int], None]
"""Is told how many of how many questions have an answer."""


@dataclass(frozen=True)
class Door:
    """Where the model is asked.

    Attributes:
        url: Up to and with ``/v1``.
        key: What it wants to be shown.
        model: As it names it there.
        tokenizer: Folder with the model's tokenizer.
        context: Tokens the model can read.
    """

    url: str
    key: str
    model: str
    tokenizer: Path
    context: int


class _Asking:
    """How both ask."""

    base_url: str
    header: dict[str, str]
    _seed: int
    _told: Told
    _done = _all = 0

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        self._done, self._all = 0, len(requests)
        answers: list[str] = super().generate_until(requests, disable_tqdm)  # type: ignore[misc]
        return answers

    def model_call(self, messages: Any, *, generate: bool = True, gen_kwargs: Any = None, **kwargs: Any) -> Any:
        """The door's answer.

        Raises:
            RunError: It gave none; in its words.
        """
        asked = self._create_payload(  # type: ignore[attr-defined]
            self.create_message(messages),  # type: ignore[attr-defined]
            generate=generate,
            gen_kwargs=dict(gen_kwargs or {}),
            seed=self._seed,
            eos=self.eos_string,  # type: ignore[attr-defined]
            **kwargs,
        )
        try:
            answer = requests.post(self.base_url, json=asked, headers=self.header, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            kind = type(error).__name__
            raise RunError(
                msg("The model's door can't be reached ({kind})", kind=kind), msg("Run the same command again.")
            ) from error
        if not answer.ok:
            raise RunError(
                msg("The model's door answered {status}: {error}", status=answer.status_code, error=_said(answer)),
                msg("What was answered is kept: the same command goes on from there."),
            )
        if generate:
            self._done += 1
            self._told(self._done, self._all)
        return answer.json()


def _said(answer: requests.Response) -> str:
    try:
        return shortened(str(answer.json()["error"]["message"]), 500)
    except (ValueError, KeyError, TypeError):
        return shortened(answer.text)


class Completions(_Asking, LocalCompletionsAPI):  # type: ignore[misc]
    """For log-likelihoods, and for answers to a prompt as it stands."""

    def __init__(self, door: Door, told: Told) -> None:
        super().__init__(
            model=door.model,
            base_url=f"{door.url}/completions",
            tokenizer_backend="none",
            add_bos_token=None,
            batch_size=1,
            # One more than the model can read, as the harness leaves room for a token that nobody needs.
            max_length=door.context + 1,
            max_retries=1,
            header={"Authorization": f"Bearer {door.key}"},
        )
        # What the artifact's tokenizer.json says, which is what runs; AutoTokenizer reads the same and loads torch.
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(str(door.tokenizer))
        self.tokenizer_backend, self.tokenized_requests = "huggingface", True
        self._told = told

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path)

    def tok_encode(
        self,
        string: Any,
        left_truncate_len: int | None = None,
        add_special_tokens: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """As ``HFLM.tok_encode``: the tokenizer's own special tokens, unless the text brings the first one."""
        if not isinstance(string, str):
            return [self.tok_encode(each, left_truncate_len, add_special_tokens) for each in string]
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        chosen = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        ids = self.tokenizer.encode(string, **chosen)
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def _loglikelihood_tokens(self, requests: Sequence[Any], **kwargs: Any) -> list[tuple[float, bool]]:
        """A log-likelihood for each, and whether its tokens are the likeliest ones; asked for in an order in which
        those that begin alike stand together.
        """
        inputs, lengths, keys = self.batch_loglikelihood_requests([list(requests)])
        answers: list[Any] = [None] * len(inputs)
        done = 0
        for places in _together(inputs):
            texts, contexts = [inputs[place] for place in places], [lengths[place] for place in places]
            outputs = self.model_call(texts, generate=False, starts=contexts)
            for place, answer in zip(places, self.parse_logprobs([outputs], texts, contexts), strict=True):
                answers[place] = answer
                if keys[place] is not None:
                    self.cache_hook.add_partial("loglikelihood", keys[place], answer)
            done += len(places)
            self._told(done, len(inputs))
        return answers

    def _create_payload(self, messages: Any, generate: bool = False, starts: Any = (), **kwargs: Any) -> dict[str, Any]:
        """As the harness asks, without the token it has generated and throws away, and with the door's own field that
        says from where on log-probabilities are wanted.
        """
        asked: dict[str, Any] = super()._create_payload(messages, generate=generate, **kwargs)
        return asked if generate else {**asked, "max_tokens": 0, "logprobs_from": list(starts)}

    @staticmethod
    def parse_logprobs(
        outputs: Any, tokens: Any = None, ctxlens: Any = None, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """Of each text the sum behind its context, and whether each token there was the likeliest."""
        found = []
        (output,) = outputs
        choices = sorted(output["choices"], key=lambda choice: int(choice["index"]))
        for choice, text, start in zip(choices, tokens, ctxlens, strict=True):
            told = choice["logprobs"]
            own = told["token_logprobs"][start : len(text)]
            tops = told["top_logprobs"][start : len(text)]
            if len(own) != len(text) - start or None in own:
                raise RunError(
                    msg("The model's door gave {n} log-probabilities of {all}", n=len(own), all=len(text) - start)
                )
            likeliest = all(value >= max(top.values()) for value, top in zip(own, tops, strict=True))
            found.append((float(sum(own)), likeliest))
        return found

    def create_message(self, messages: Any, generate: bool = False) -> Any:
        return messages


class ChatCompletions(_Asking, LocalChatCompletion):  # type: ignore[misc]
    """For answers to a conversation, in the model's own template."""

    def __init__(self, door: Door, told: Told) -> None:
        super().__init__(
            model=door.model,
            base_url=f"{door.url}/chat/completions",
            max_length=door.context + 1,
            max_retries=1,
            header={"Authorization": f"Bearer {door.key}"},
        )
        self._told = told

    @property
    def eos_string(self) -> None:
        """Nothing to stop at beside what the task says: the door ends at the model's own end of turn."""


def _together(texts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of texts in batches: sorted, so that neighbours share as long a beginning as there is."""
    batch: list[int] = []
    tokens = 0
    for place in sorted(range(len(texts)), key=lambda place: tuple(texts[place])):
        if batch and (len(batch) == TEXTS or tokens + len(texts[place]) > TOKENS):
            yield batch
            batch, tokens = [], 0
        batch.append(place)
        tokens += len(texts[place])
    if batch:
        yield batch


class Resumed(CachingLM):  # type: ignore[misc]
    """A model whose answers are looked up in a journal first and written there: lm-eval's own way, without its file."""

    def __init__(self, lm: Any, journal: Journal) -> None:
        self.lm, self.dbdict, self.cache_db = lm, journal, "the journal"
        lm.set_cache_hook(CacheHook(self))
