"""Every type of check by its name: what value and what limit it takes; and promptfoo's other types, each with the
reason why a suite that has one is refused before anything runs.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

from playground.errors import Reason, UsageError
from playground.messages import Translatable, msg
from playground.suites import language, patterns, quantities, schema, template, yaml_text
from playground.suites.spots import Spot, short

Threshold = Literal["no", "may", "must"]


@dataclass(frozen=True)
class Kind:
    """What a type of check takes.

    Attributes:
        value: Makes of the file's value what the check is judged with; None where it takes none.
        optional: Whether the value may be left out.
        threshold: Whether it takes a limit.
        options: Further keys that it knows.
        most: The highest limit that makes sense; None where there is none.
    """

    value: Callable[[Any], Any] | None = None
    optional: bool = False
    threshold: Threshold = "no"
    options: tuple[str, ...] = ()
    most: float | None = None


def _text(value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return template.text_of(value)
    if value == "":
        raise Reason(msg("an empty text is in every answer"))
    raise Reason(msg("it takes a text, not {value}", value=short(repr(value))))


def _any(value: Any) -> Any:
    """What ``equals`` takes: a text as it stands, and JSON."""
    if isinstance(value, (dict, list)):
        return value
    return template.text_of(value)


def _texts(value: Any) -> list[str]:
    texts = comma_separated(value) if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        raise Reason(msg("it takes a list of texts, not {value}", value=short(repr(value))))
    return [_text(each) for each in texts]


def comma_separated(text: str) -> list[str]:
    """Texts between commas; one in double quotes may hold commas, as promptfoo reads such lists.

    Raises:
        Reason: A quote is not closed, or something stands behind it.
    """
    found = []
    at = 0
    while at < len(text):
        at = re.compile(r"[\s,]*").match(text, at).end()  # type: ignore[union-attr]
        if at >= len(text):
            break
        if text[at] != '"':
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            found.append(text[at:end].strip())
            at = end
            continue
        quoted = re.compile(r'"((?:[^"\\]|""|\\.)*)"\s*(?=,|$)', re.DOTALL).match(text, at)
        if quoted is None:
            raise Reason(msg("a double quote in the list is not closed, or something stands behind it"))
        found.append(re.sub(r'\\(["\\])|""', lambda match: match[1] or '"', quoted[1]))
        at = quoted.end()
    return found


def _pattern(value: Any) -> str:
    pattern = _text(value)
    patterns.compiled(pattern)
    return pattern


def _schema(value: Any) -> Any:
    """A JSON schema; its text may be JSON or YAML."""
    if isinstance(value, str):
        return _schema_of_text(value) if value.strip() else None
    schema.compiled(json.dumps(value))
    return value


@lru_cache(maxsize=128)
def _schema_of_text(text: str) -> Any:
    try:
        found = yaml_text.parse(text, Spot("schema"))
    except UsageError as error:
        raise Reason(msg("its schema is neither JSON nor YAML ({said})", said=error.what)) from error
    schema.compiled(json.dumps(found))
    return found


def _count(value: Any) -> list[float | None]:
    """The least and the most words."""
    if isinstance(value, dict):
        for key in value:
            if key not in ("min", "max"):
                raise Reason(msg("it knows min and max, not '{key}'", key=short(key)))
        least, most = (None if value.get(key) is None else number(value[key]) for key in ("min", "max"))
        if least is None and most is None:
            raise Reason(msg("it takes min, max or both"))
        if least is not None and most is not None and least > most:
            raise Reason(msg("min is above max"))
        return [least, most]
    exact = number(value)
    return [exact, exact]


def number(value: Any) -> float:
    """A number; a text that is one will do, as variables and CSV bring it."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError as error:
            raise Reason(msg("it takes a number, not {value}", value=short(repr(value)))) from error
    if isinstance(value, int) and abs(value) > sys.float_info.max:  # whose digits Python may refuse to write down
        raise Reason(msg("it takes a number, not {value}", value=msg("one of more than 300 digits")))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Reason(msg("it takes a number, not {value}", value=short(repr(value))))
    return float(value)


def _quantity(value: Any) -> str:
    found = quantities.wanted_number(value)
    if found is None:
        raise Reason(msg("it takes a number, not {value}", value=short(repr(value))))
    return str(found)


def tolerance(value: Any) -> str:
    """How far a number may be off, as text: ``0.5``, ``1%``."""
    text = template.text_of(value).strip()
    if not re.fullmatch(r"[0-9]{1,20}(?:\.[0-9]{1,20})?%?", text):
        raise Reason(msg("tolerance is a number of at least 0, or one with %, not {value}", value=short(repr(value))))
    return f"{Decimal(text.rstrip('%'))}{'%' if text.endswith('%') else ''}"


def _language(value: Any) -> str:
    code = language.code_of(_text(value))
    if code not in language.known():
        raise Reason(
            msg("'{code}' is no language that can be told; write a code such as en, de, fr, ja", code=short(code))
        )
    return code


def _samples(value: Any) -> int:
    count = number(value)
    if not count.is_integer() or count < 2:
        raise Reason(msg("it takes the number of samples, at least 2"))
    return int(count)


def _ending(value: Any) -> str:
    text = _text(value).lower()
    if text not in ("stop", "length"):
        raise Reason(msg("models here end by 'stop' or 'length', not '{value}'", value=short(text)))
    return text


KINDS: dict[str, Kind] = {
    "equals": Kind(_any),
    "contains": Kind(_text),
    "icontains": Kind(_text),
    "contains-any": Kind(_texts),
    "icontains-any": Kind(_texts),
    "contains-all": Kind(_texts),
    "icontains-all": Kind(_texts),
    "starts-with": Kind(_text),
    "regex": Kind(_pattern),
    "is-json": Kind(_schema, optional=True, options=("enforce",)),
    "contains-json": Kind(_schema, optional=True),
    "levenshtein": Kind(_text, threshold="may"),
    "rouge-n": Kind(_text, threshold="may", most=1),
    "word-count": Kind(_count),
    "finish-reason": Kind(_ending),
    "latency": Kind(threshold="must"),
    "cost": Kind(threshold="must"),
    "perplexity": Kind(threshold="may"),
    "perplexity-score": Kind(threshold="may", most=1),
    "tokens-per-second": Kind(threshold="must"),
    "first-token": Kind(threshold="must"),
    "tokens": Kind(threshold="must"),
    "language": Kind(_language, threshold="may", most=1),
    "numeric": Kind(_quantity, options=("tolerance",)),
    "same-answer": Kind(_samples, threshold="may", most=1),
}

_SCRIPT = msg("it is a script, and scripts of a file are not run")
_JUDGE = msg("it needs a model to judge by, and none is asked here")
_HOSTED = msg("it asks a service on the network")
_TRACE = msg("it looks at tool calls and traces, which answers here have none of")
_OTHER = msg("it is not built yet")

REFUSED: dict[str, Translatable] = {
    **dict.fromkeys(("javascript", "fn", "eval", "python", "ruby"), _SCRIPT),
    **dict.fromkeys(
        ("llm-rubric", "grade", "g-eval", "factuality", "model-graded-closedqa", "model-graded-factuality",
         "answer-relevance", "context-faithfulness", "context-recall", "context-relevance", "conversation-relevance",
         "agent-rubric", "search-rubric", "research-rubric", "video-rubric", "citation-faithfulness",
         "noise-sensitivity", "select-best", "max-score", "similar", "similar:cosine", "similar:dot",
         "similar:euclidean", "classifier", "trajectory:goal-success"), _JUDGE),
    **dict.fromkeys(("webhook", "moderation", "pi", "guardrails"), _HOSTED),
    **dict.fromkeys(
        ("is-valid-function-call", "is-valid-openai-function-call", "is-valid-openai-tools-call", "tool-call-f1",
         "skill-used", "trace-span-count", "trace-span-duration", "trace-error-spans", "trajectory:tool-used",
         "trajectory:tool-args-match", "trajectory:tool-sequence", "trajectory:step-count"), _TRACE),
    **dict.fromkeys(
        ("bleu", "gleu", "meteor", "rouge-l", "rouge-s", "is-refusal", "is-html", "contains-html", "is-xml",
         "contains-xml", "is-sql", "contains-sql", "ends-with"), _OTHER),
}  # fmt: skip
"""promptfoo's types that a suite here can't have, and why."""
