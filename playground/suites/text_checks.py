"""Checks that look at the words of an answer: the same, in it, near it, the same language, the same number.

Types, defaults and what is compared with what are promptfoo's (docs/suites.md lists where not); ``numeric``,
``language`` and ``same-answer`` are our own.
"""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import Any

from rapidfuzz.distance import Levenshtein

from playground.messages import Translatable, msg, plural
from playground.suites import language, patterns, quantities
from playground.suites.finding import CheckFunction, Finding, Given, Unjudged
from playground.suites.rouge import recall
from playground.suites.suite import Check

DISTANCE = 5
"""Edits that ``levenshtein`` allows by itself."""
OVERLAP = 0.75
"""Share of words that ``rouge-n`` asks for by itself."""
SHOWN = 80
"""Characters of a text that a reason repeats."""


def short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"


def _equals(check: Check, given: Given) -> Finding:
    if isinstance(check.value, str):
        met = given.answer == check.value
    else:
        met = same_json(_json_of(given.answer), check.value)
    if met:
        return Finding(True, msg("the answer is exactly that"))
    near = isinstance(check.value, str) and given.answer.strip() == check.value.strip()
    told = msg("the answer differs in spaces at its ends") if near else None
    return Finding(False, told or msg("the answer is “{answer}”", answer=short(given.answer)))


def _json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NO_JSON


_NO_JSON = object()


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: true is not 1, 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same_json(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)


def _found(wanted: list[str], given: Given, *, folded: bool) -> tuple[list[str], list[str]]:
    """Of the texts those that are in the answer, and those that are not."""
    answer = given.answer.lower() if folded else given.answer
    there = [(each.lower() if folded else each) in answer for each in wanted]
    hits = [each for each, found in zip(wanted, there, strict=True) if found]
    return hits, [each for each, found in zip(wanted, there, strict=True) if not found]


def _in_it(found: list[str], missing: list[str]) -> Translatable:
    if not found:
        return msg("not in the answer: {texts}", texts=_quoted(missing))
    return msg("in the answer: {texts}", texts=_quoted(found))


def _quoted(texts: list[str], most: int = 5) -> list[str]:
    return [f"“{short(each)}”" for each in texts[:most]] + (["…"] if len(texts) > most else [])


def _contains(check: Check, given: Given) -> Finding:
    found, missing = _found([check.value], given, folded=check.base.startswith("icontains"))
    return Finding(bool(found), _in_it(found, missing))


def _contains_any(check: Check, given: Given) -> Finding:
    found, missing = _found(check.value, given, folded=check.base.startswith("icontains"))
    return Finding(bool(found), _in_it(found, missing))


def _contains_all(check: Check, given: Given) -> Finding:
    found, missing = _found(check.value, given, folded=check.base.startswith("icontains"))
    told = msg("not in the answer: {texts}", texts=_quoted(missing)) if missing else _in_it(found, missing)
    return Finding(not missing, told)


def _starts_with(check: Check, given: Given) -> Finding:
    met = given.answer.startswith(check.value)
    return Finding(met, msg("the answer begins with “{text}”", text=short(given.answer[: len(check.value) + 20])))


def _regex(check: Check, given: Given) -> Finding:
    if patterns.found(check.value, given.answer):
        return Finding(True, msg("the pattern is found in the answer"))
    return Finding(False, msg("the pattern is not found in the answer"))


def _levenshtein(check: Check, given: Given) -> Finding:
    most = DISTANCE if check.threshold is None else check.threshold
    distance = Levenshtein.distance(given.answer, check.value)
    told = plural("the answer is {n} edit away, at most {most:g} are allowed",
                  "the answer is {n} edits away, at most {most:g} are allowed", distance, most=most)  # fmt: skip
    return Finding(distance <= most, told)


def _rouge(check: Check, given: Given) -> Finding:
    least = OVERLAP if check.threshold is None else check.threshold
    score = recall(given.answer, check.value)
    told = msg(
        "{score:.0%} of the words of “{text}” are in the answer, {least:.0%} is the limit",
        score=score,
        least=least,
        text=short(check.value),
    )
    return Finding(score >= least, told, score)


def _word_count(check: Check, given: Given) -> Finding:
    count = len(given.answer.split())
    least, most = check.value
    met = (least is None or count >= least) and (most is None or count <= most)
    return Finding(met, plural("the answer has {n} word", "the answer has {n} words", count))


def _numeric(check: Check, given: Given) -> Finding:
    found = quantities.last_number(given.answer)
    if found is None:
        return Finding(False, msg("there is no number in the answer"))
    wanted = Decimal(check.value)
    allowed = quantities.tolerance(check.options.get("tolerance", "0"), wanted)
    told = msg("the last number of the answer is {number}", number=quantities.number_text(found))
    return Finding(abs(found - wanted) <= allowed, told)


def _language(check: Check, given: Given) -> Finding:
    ranked = language.ranked(given.answer)
    if not ranked:
        return Finding(False, msg("there are no words in the answer to tell a language by"))
    (first, share), probability = ranked[0], dict(ranked).get(check.value, 0.0)
    met = first == check.value if check.threshold is None else probability >= check.threshold
    if first == check.value:
        return Finding(met, msg("the answer reads as {language} ({share:.0%})", language=first, share=share))
    told = msg(
        "the answer reads as {language} ({share:.0%}), as {wanted} {probability:.0%}",
        language=first,
        share=share,
        wanted=check.value,
        probability=probability,
    )
    return Finding(met, told)


def _same_answer(check: Check, given: Given) -> Finding:
    said = [text.strip() for text in (*given.samples, given.answer)]
    if len(said) < check.value:
        told = msg("judged with sample {count}; this is sample {n}", count=check.value, n=len(said))
        return Finding(not check.inverse, told, counts=False)
    _, most = Counter(said).most_common(1)[0]
    share = most / len(said)
    told = plural("{most} of {n} sample is the same", "{most} of {n} samples are the same", len(said), most=most)
    return Finding(share >= (1.0 if check.threshold is None else check.threshold), told, share)


def _finish_reason(check: Check, given: Given) -> Finding:
    told = msg("the answer ended by “{reason}”", reason=given.run.finish_reason)
    if given.run.finish_reason not in ("stop", "length"):
        raise Unjudged(told)
    return Finding(given.run.finish_reason == check.value, told)


CHECKS: dict[str, CheckFunction] = {
    "equals": _equals,
    "contains": _contains,
    "icontains": _contains,
    "contains-any": _contains_any,
    "icontains-any": _contains_any,
    "contains-all": _contains_all,
    "icontains-all": _contains_all,
    "starts-with": _starts_with,
    "regex": _regex,
    "levenshtein": _levenshtein,
    "rouge-n": _rouge,
    "word-count": _word_count,
    "numeric": _numeric,
    "language": _language,
    "same-answer": _same_answer,
    "finish-reason": _finish_reason,
}
