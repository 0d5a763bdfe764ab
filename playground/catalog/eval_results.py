"""Results of evaluations in a repository of the Hub, ``.eval_results/*.yaml``, as facts with their source.

The format is the Hub's (https://huggingface.co/docs/hub/eval-results; the fields:
https://github.com/huggingface/hub-docs/blob/main/eval_results.yaml): a list of a benchmark's data set and task, a
value, and who says so, when and how. huggingface_hub's own reader makes entries of it; what that stumbles over is left
out, and said. Values stand as they are written: the format does not say whether 0.4 is a share or a score. A
``verifyToken`` would prove a value to the Hub; it is not checked here, and a fact that has one says that.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from playground.catalog.card_text import BadFrontMatter, plain_yaml, repository_url, safe_url
from playground.messages import Translatable, msg
from playground.records import Fact

if TYPE_CHECKING:
    from huggingface_hub import EvalResultEntry

EVAL_RESULTS = re.compile(r"\.eval_results/[^/]+\.ya?ml")
MAX_ENTRIES = 100
"""Of one file."""
CHARS = 80
"""Of each word that a stranger wrote."""


def results_of(files: Mapping[str, str], repo: str, revision: str) -> tuple[dict[str, Fact], list[Translatable]]:
    """The values by benchmark, and what could not be read.

    Args:
        files: Name and text of each.
    """
    found: dict[str, Fact] = {}
    notes: list[Translatable] = []
    for name, text in files.items():
        try:
            listed = plain_yaml(text)
        except BadFrontMatter as error:
            notes.append(msg("Its {file} is not read: {reason}.", file=name, reason=error.message))
            continue
        entries = listed if isinstance(listed, list) else []
        wrong = 0 if isinstance(listed, list) else 1
        for each in entries[:MAX_ENTRIES]:
            entry = _entry(each)
            if entry is None:
                wrong += 1
                continue
            benchmark = _benchmark(entry)
            found.setdefault(benchmark, _fact(entry, benchmark, name, repo, revision))
        if wrong:
            notes.append(msg("Its {file} has {n} entries that are no results.", file=name, n=wrong))
    return found, notes


def _entry(data: Any) -> EvalResultEntry | None:
    from huggingface_hub import parse_eval_result_entries

    try:
        (entry,) = parse_eval_result_entries([data])
    except Exception:  # whatever a stranger's YAML makes the parser stumble over
        return None
    value = entry.value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or abs(value) >= 1e9:
        return None
    return entry if _word(entry.dataset_id) else None


def _benchmark(entry: EvalResultEntry) -> str:
    """The data set, the task in it, and how it was taken, which tells several values of one task apart."""
    task = "" if _word(entry.task_id) in ("", "default") else f" {_word(entry.task_id)}"
    notes = f" ({_word(entry.notes)})" if _word(entry.notes) else ""
    return f"{_word(entry.dataset_id)}{task}{notes}"


def _fact(entry: EvalResultEntry, benchmark: str, file: str, repo: str, revision: str) -> Fact:
    place = f"{repository_url(repo, revision)}{file}"
    words = {"file": file, "revision": revision[:12]}
    source = msg("{file} at revision {revision}; not measured by us", **words)
    if entry.verify_token:
        source = msg(
            "{file} at revision {revision}, with a token of verification that is not checked here; not measured by us",
            **words,
        )
    who = _word(entry.source_name) or _word(entry.source_org) or _word(entry.source_user)
    note = ", ".join(filter(None, (benchmark, _word(entry.date), who)))
    url = safe_url(entry.source_url, place) if isinstance(entry.source_url, str) else ""
    return Fact(entry.value, source, url or place, "card", note)


def _word(value: Any) -> str:
    """A text or a date on one line, no longer than anybody reads; "" for anything else."""
    if isinstance(value, datetime.date):
        value = value.isoformat()
    return " ".join(value.split())[:CHARS] if isinstance(value, str) else ""
