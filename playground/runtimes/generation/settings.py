"""The generation settings of a model's own files, as transformers' ``generate`` obeys them when nobody says otherwise.

They stand in generation_config.json, in old models inside config.json. What acts on the scores of the next token is
obeyed here; what would need another search, a second pass or another program is named in a warning. How tokens are
drawn (temperature, top_k, top_p, min_p) and how many (max_length, max_new_tokens) the request alone decides. Nothing
need be said of what changes no token: settings of caches, outputs and speed, guesses ahead that are verified, logits
made into logarithms of probabilities.

The module knows those files and one ``Request``; it does not know runtimes, tokenizers or text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playground.errors import all_of
from playground.messages import Translatable, msg
from playground.records import Request
from playground.runtimes.generation import logits_processors
from playground.runtimes.generation.logits_processors import Rule

MAX_NAMED = 3
"""Values of a list that a sentence can name."""

_INNER = ("decoder", "generator", "text_config")
"""Where composite configurations keep the part that writes."""


@dataclass(frozen=True)
class OwnSettings:
    """What a model's files ask for.

    Attributes:
        obeyed: Settings that can be obeyed and would change something, by their names in transformers.
        left_out: Of those that are not served whatever the request says, what a reader is told.
        for_greedy: Those that only matter where the likeliest token is taken.
        for_drawn: Those that only matter where tokens are drawn.
        ends: ``eos_token_id``.
        starts: What a decoder beside an encoder starts with, None where the files do not say it.
    """

    obeyed: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[Translatable, ...] = ()
    for_greedy: tuple[Translatable, ...] = ()
    for_drawn: tuple[Translatable, ...] = ()
    ends: tuple[int, ...] = ()
    starts: int | None = None

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Strings that end an answer beside those of the request."""
        return tuple(self.obeyed.get("stop_strings", ()))

    def rules(
        self, request: Request, prompt: Sequence[int], begun: int, most: int, ends: Collection[int]
    ) -> list[Rule] | None:
        """What is done to each row of logits, in the order of ``generate``; None where the files ask for nothing.

        A repetition penalty and a shortest length of the request that are not the neutral ones win over the files'.

        Args:
            request: Whose answer it is.
            prompt: What the model was given to read, whether by an encoder or not.
            begun: Length of the model's own sequence before the answer: the prompt's, or an encoder-decoder's start.
            most: Tokens the answer may have.
            ends: Every token that ends the answer.
        """
        if not self.obeyed.keys() - {"stop_strings"}:
            return None
        own = dict(self.obeyed) | _overruled(request)
        if "min_new_tokens" in own:
            own.pop("min_length", None)
        at = _Place(prompt, begun, most, ends, self.ends or ends, "forced_bos_token_id" in own)
        return [make(own[name], at) for name, make in _RULES.items() if name in own]

    def warnings(self, request: Request, begun: int) -> tuple[Translatable, ...]:
        """What a reader of an answer to ``request`` should know of them; ``begun`` as in ``rules``."""
        instead = _overruled(request)
        beaten = {name: value for name, value in self.obeyed.items() if name in instead or _beaten(name, instead)}
        # A token to begin with is for decoders beside an encoder; behind a prompt, transformers does not force it.
        unused = {"forced_bos_token_id"} if begun > 1 else set()
        obeyed = {name: value for name, value in self.obeyed.items() if name not in beaten.keys() | unused}
        said = []
        if obeyed:
            said.append(
                msg(
                    "The model's own files set {settings}: obeyed, as by transformers' generate.",
                    settings=_listed(obeyed),
                )
            )
        if beaten:
            taken = {name: value for name, value in instead.items() if _matters(name, beaten)}
            said.append(
                msg(
                    "The model's own files set {settings}; the request's {instead} is used instead.",
                    settings=_listed(beaten),
                    instead=_listed(taken),
                )
            )
        return (*said, *self.left_out, *(self.for_drawn if request.temperature else self.for_greedy))


def read_settings(folder: Path) -> OwnSettings:
    """The settings of the model in ``folder``; none where its files hold none, or can't be read."""
    given = _given(folder)
    obeyed: dict[str, Any] = {}
    left_out: list[Translatable] = []
    for name, read in _OBEYED.items():
        if (value := given.get(name)) is None:
            continue
        try:
            if (meant := read(value)) is not None:
                obeyed[name] = meant
        except (TypeError, ValueError, OverflowError):
            left_out.append(
                msg("The model's own files set {name} to a value that has no meaning; it is not used.", name=name)
            )
    if (least := obeyed.get("min_new_tokens")) is not None:
        obeyed.pop("min_length", None)  # even a 0 stands in its place
        if not least:
            del obeyed["min_new_tokens"]
    left_out += _words(_NOT_SERVED, given)
    start = _one(given.get("decoder_start_token_id"))
    return OwnSettings(
        obeyed=obeyed,
        left_out=tuple(left_out),
        for_greedy=_words(_GREEDY, given),
        for_drawn=_words(_DRAWN, given),
        ends=_tokens_or_none(given.get("eos_token_id")) or (),
        starts=_one(given.get("bos_token_id")) if start is None else start,
    )


def _given(folder: Path) -> dict[str, Any]:
    """generation_config.json where there is one, else what config.json says, as ``from_pretrained`` takes them."""
    if (generation := _json(folder / "generation_config.json")) is not None:
        return generation
    config = _json(folder / "config.json") or {}
    inner: dict[str, Any] = next((config[name] for name in _INNER if isinstance(config.get(name), dict)), {})
    given = inner | {name: value for name, value in config.items() if value is not None}
    if given.get("force_bos_token_to_be_generated") is True:
        given["forced_bos_token_id"] = given.get("bos_token_id")
    return given


def _json(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


# -- what can be obeyed: readers give the value, None where it changes nothing, and raise where it means nothing


def _penalty(value: Any) -> float | None:
    if not 0 < (number := _number(value)) < math.inf:
        raise ValueError(value)
    return None if number == 1 else number


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise TypeError(value)
    return float(value)


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(value)
    return value if value > 0 else None


def _least(value: Any) -> int:
    return _count(value) or 0


def _token(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(value)
    return value


def _tokens(value: Any) -> tuple[int, ...] | None:
    """Some configurations write -1 for "none of them"."""
    listed = value if isinstance(value, list) else [value]
    return tuple(_token(token) for token in listed if token != -1) or None


def _tokens_or_none(value: Any) -> tuple[int, ...] | None:
    try:
        return _tokens(value)
    except TypeError:
        return None


def _one(value: Any) -> int | None:
    """The only token of ``value``."""
    found = _tokens_or_none(value) or ()
    return found[0] if len(found) == 1 else None


def _banned(value: Any) -> tuple[tuple[int, ...], ...] | None:
    return tuple(tuple(_token(token) for token in ids) for ids in _list(value)) or None


def _biased(value: Any) -> dict[tuple[int, ...], float] | None:
    found = {tuple(_token(token) for token in _list(ids)): _number(bias) for ids, bias in _list(value)}
    return {ids: bias for ids, bias in found.items() if bias} or None


def _decay(value: Any) -> tuple[int, float] | None:
    start, factor = _list(value)
    if isinstance(start, bool) or not isinstance(start, int):
        raise TypeError(start)
    return None if (growth := _number(factor)) == 1 else (start, growth)


def _strings(value: Any) -> tuple[str, ...] | None:
    listed = [value] if isinstance(value, str) else _list(value)
    if not all(isinstance(text, str) for text in listed):
        raise TypeError(value)
    return tuple(text for text in listed if text) or None


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(value)
    return value


_OBEYED: dict[str, Callable[[Any], Any]] = {
    "sequence_bias": _biased,
    "encoder_repetition_penalty": _penalty,
    "repetition_penalty": _penalty,
    "no_repeat_ngram_size": _count,
    "encoder_no_repeat_ngram_size": _count,
    "bad_words_ids": _banned,
    "min_length": _count,
    "min_new_tokens": _least,
    "forced_bos_token_id": _token,
    "forced_eos_token_id": _tokens,
    "remove_invalid_values": lambda value: True if value is True else None,
    "exponential_decay_length_penalty": _decay,
    "suppress_tokens": _tokens,
    "begin_suppress_tokens": _tokens,
    "stop_strings": _strings,
}


# -- the rules, in the order in which transformers applies them -------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """What a rule has to know of an answer; see ``OwnSettings.rules``."""

    prompt: Sequence[int]
    begun: int
    most: int
    ends: Collection[int]
    own_ends: Collection[int]
    begins_forced: bool


def _bad_words(banned: Sequence[tuple[int, ...]], at: _Place) -> Rule:
    ends = {(token,) for token in at.own_ends}  # an answer may always end
    return logits_processors.Bias(dict.fromkeys((ids for ids in banned if ids not in ends), -math.inf))


_RULES: dict[str, Callable[[Any, _Place], Rule]] = {
    "sequence_bias": lambda biases, _: logits_processors.Bias(biases),
    "encoder_repetition_penalty": lambda penalty, at: logits_processors.prefer_prompt(at.prompt, penalty),
    "repetition_penalty": lambda penalty, _: logits_processors.Repetition(penalty),
    "no_repeat_ngram_size": lambda size, _: logits_processors.NoRepeat(size),
    "encoder_no_repeat_ngram_size": lambda size, at: logits_processors.NoRepeat(size, at.prompt),
    "bad_words_ids": _bad_words,
    "min_length": lambda length, at: logits_processors.ban_before(length, at.ends),
    "min_new_tokens": lambda count, at: logits_processors.ban_before(at.begun + count, at.ends),
    "forced_bos_token_id": lambda token, _: logits_processors.force_at(1, [token]),
    "forced_eos_token_id": lambda ids, at: logits_processors.force_at(at.begun + at.most - 1, ids),
    "remove_invalid_values": lambda *_: logits_processors.remove_invalid,
    "exponential_decay_length_penalty": lambda decay, at: logits_processors.favour_end(
        at.begun + decay[0], decay[1], at.own_ends
    ),
    "suppress_tokens": lambda ids, _: logits_processors.ban(ids),
    "begin_suppress_tokens": lambda ids, at: logits_processors.ban_at(
        at.begun + (at.begun <= 1 and at.begins_forced), ids
    ),
}


# -- what is not served: when it would change an answer, and what is done instead -------------------------------------

_Served = dict[str, tuple[Callable[[Any], bool], Translatable]]


def _above(least: float, below: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (int, float)) and least < value < below


def _is_set(value: Any) -> bool:
    return value not in (None, False, [], {})


_NOT_SERVED: _Served = {
    "num_beams": (_above(1), msg("beam search is not served, tokens are chosen one by one.")),
    "guidance_scale": (lambda value: _is_set(value) and value != 1, msg("guidance by a second pass is not served.")),
    "watermarking_config": (_is_set, msg("no watermark is put into answers.")),
    "dola_layers": (_is_set, msg("contrasting layers is not served.")),
    "constraints": (_is_set, msg("constraints are not served.")),
    "force_words_ids": (_is_set, msg("words that an answer must have are not served.")),
    "token_healing": (_is_set, msg("the end of a prompt stays as it is.")),
    "max_time": (_is_set, msg("an answer is not ended by the clock.")),
    "cache_implementation": (lambda value: value == "quantized", msg("the cache is kept as it is computed.")),
}
_GREEDY: _Served = {
    "penalty_alpha": (_above(0), msg("contrastive search is not served, the likeliest token is taken.")),
}
_DRAWN: _Served = {
    "typical_p": (_above(-math.inf, 1), msg("this filter is not served.")),
    "epsilon_cutoff": (_above(0, 1), msg("this filter is not served.")),
    "eta_cutoff": (_above(0, 1), msg("this filter is not served.")),
    "top_h": (_is_set, msg("this filter is not served.")),
}


def _words(table: _Served, given: Mapping[str, Any]) -> tuple[Translatable, ...]:
    found = [(name, given[name], words) for name, (counts, words) in table.items() if counts(given.get(name))]
    return tuple(
        msg(
            "The model's own files set {setting}: {consequence}",
            setting=_setting(name, value) if isinstance(value, (int, float, str)) else name,
            consequence=words,
        )
        for name, value, words in found
    )


# -- words ------------------------------------------------------------------------------------------------------------


def _overruled(request: Request) -> dict[str, Any]:
    """What the request sets in place of the files."""
    instead: dict[str, Any] = {}
    if request.repetition_penalty != 1:
        instead["repetition_penalty"] = request.repetition_penalty
    if request.min_new_tokens:
        instead["min_new_tokens"] = request.min_new_tokens
    return instead


def _beaten(name: str, instead: Mapping[str, Any]) -> bool:
    return name == "min_length" and "min_new_tokens" in instead


def _matters(name: str, beaten: Mapping[str, Any]) -> bool:
    return name in beaten or (name == "min_new_tokens" and "min_length" in beaten)


def _shown(value: Any) -> Any:
    """A value as it stands in a sentence: short ones as they are, of long ones how much it is."""
    if (
        isinstance(value, tuple)
        and len(value) <= MAX_NAMED
        and all(isinstance(item, (int, float, str)) for item in value)
    ):
        return [f"“{item}”" if isinstance(item, str) else _shown(item) for item in value]
    if isinstance(value, (tuple, Mapping)):
        return msg("({count} of them)", count=len(value))
    return f"{value:g}" if isinstance(value, float) else str(value)[:40]


def _setting(name: str, value: Any) -> str:
    """A setting with its value; of one that is switched on, the name says it."""
    return name if value is True else msg("{name} {value}", name=name, value=_shown(value))


def _listed(settings: Mapping[str, Any]) -> Translatable:
    return all_of([_setting(name, value) for name, value in settings.items()])
