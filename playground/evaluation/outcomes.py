"""lm-eval's results as this product keeps them: plain values of one task, for ``results.scores.Evaluation``.

It reads what ``lm_eval.evaluator.evaluate`` returns and imports nothing of it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

NAMES = ("name", "alias", "sample_len", "sample_count")


def score_of(name: str, results: Mapping[str, Any], task: Any = None) -> dict[str, Any]:
    """What the harness says of a task or a group of tasks, with the fields of ``Evaluation`` it knows."""
    samples = (results.get("samples") or {}).get(name, ())
    counted = results.get("n-samples", {})
    parts = [each for each in _leaves(name, results.get("group_subtasks", {})) if each in counted]
    return {
        "task": name,
        "version": _text(results.get("versions", {}).get(name)),
        "kind": str(task.OUTPUT_TYPE) if task is not None else "group",
        "shots": int(results.get("n-shot", {}).get(name) or 0),
        "questions": sum(int(counted[each]["effective"]) for each in parts),
        "questions_in_task": sum(int(counted[each]["original"]) for each in parts),
        "metrics": _metrics(results["results"][name], results.get("higher_is_better", {}).get(name, {}), samples),
        "data_sha256": _digest(samples),
    }


def _leaves(name: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    inner = groups.get(name) or ()
    return [leaf for part in inner for leaf in _leaves(part, groups)] if inner else [name]


def _metrics(found: Mapping[str, Any], higher: Mapping[str, Any], samples: Sequence[Any]) -> list[dict[str, Any]]:
    """The figures among ``metric,filter`` keys; those that are no numbers (a list, "N/A") are left out."""
    metrics = []
    for key, value in found.items():
        metric, _, filter = key.partition(",")
        if key in NAMES or metric.endswith("_stderr") or (number := _number(value)) is None:
            continue
        metrics.append(
            {
                "name": metric,
                "filter": filter or "none",
                "value": number,
                "stderr": _number(found.get(f"{metric}_stderr,{filter}")),
                "higher_is_better": higher.get(metric),
                "outcomes": _outcomes(samples, metric, filter or "none"),
            }
        )
    return metrics


def _outcomes(samples: Sequence[Any], metric: str, filter: str) -> str:
    """A sign a question, in order, where each is plainly right or wrong."""
    mine = sorted((each for each in samples if each["filter"] == filter), key=lambda each: int(each["doc_id"]))
    values = [_number(each.get(metric)) for each in mine]
    return "".join(str(int(value)) for value in values if value is not None) if set(values) <= {0.0, 1.0} else ""


def _digest(samples: Sequence[Any]) -> str:
    """Of the questions as the harness read them, each once, in order."""
    if not samples:
        return ""
    hashes = {int(each["doc_id"]): str(each["doc_hash"]) for each in samples}
    return hashlib.sha256("".join(hashes[place] for place in sorted(hashes)).encode()).hexdigest()


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _text(value: Any) -> str:
    return "" if value is None else str(value)
