"""The comparison on show, for those who compare its answers: as far as it goes, while it runs and when it is stored.

It knows comparisons and labels; it does not know how they are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playground.experiments.compare import CompareJob
from playground.records import Request
from playground.results.thinking import parts
from playground.ui.html import panel
from playground.ui.html.differences import Answer

if TYPE_CHECKING:
    from playground.records import Comparison
    from playground.service import Playground
    from playground.ui.html.panel import Label


@dataclass(frozen=True)
class OnShow:
    """A comparison as far as it goes.

    Attributes:
        prompt: The last thing that was asked.
        labels: Of every column.
        requests: Of every column.
        answers: Of the columns that have any.
    """

    prompt: str
    labels: tuple[Label, ...]
    requests: tuple[Request, ...]
    answers: tuple[Answer, ...]


def on_show(playground: Playground, id: Any) -> OnShow | None:
    """The answers of that comparison, stored or still coming.

    Raises:
        StorageError: The history can't be read.
    """
    if not isinstance(id, str) or not id:
        return None
    job = playground.running(id)
    if job is not None and not job.done:
        return _live(playground, job) if isinstance(job, CompareJob) else None  # a blind one shows nothing yet
    stored = playground.comparison(id)
    return _stored(playground, stored) if stored else None


def _live(playground: Playground, job: CompareJob) -> OnShow:
    lives = job.snapshot().lives
    labels = panel.labels(playground, [live.variant for live in lives])
    requests = tuple((live.run.request if live.run else None) or job.request for live in lives)
    texts = [(live.run.text if live.run else live.text, live.run is not None) for live in lives]
    return _of(labels, requests, texts)


def _stored(playground: Playground, stored: Comparison) -> OnShow:
    labels = panel.labels(playground, [run.variant for run in stored.runs])
    requests = tuple(stored.asked(place) for place in range(len(stored.runs)))
    return _of(labels, requests, [(run.text, True) for run in stored.runs])


def _of(labels: tuple[Label, ...], requests: tuple[Request, ...], texts: Sequence[tuple[str, bool]]) -> OnShow:
    answers = tuple(
        Answer(label, text, whole)
        for label, (text, whole) in zip(labels, ((said(text), whole) for text, whole in texts), strict=True)
        if text.strip()
    )
    first = requests[0] if requests else Request()
    return OnShow(first.prompts[-1], labels, requests, answers)


def said(text: str) -> str:
    """An answer without what the model thought before it."""
    return parts(text)[1]
