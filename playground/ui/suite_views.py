"""What a page sees of a suite: ``GET /suite/ID/view`` and ``/suite/ID/row/N``, asked some times a minute by
scripts/prompt_set.js, and its files, ``/export/suite/ID.csv`` and their kin.

A page says up to which cell it knows everything (``after``) and is sent the rows of its page that have changed since;
rows, filters and figures are worked out here, so a page holds fifty rows however long the suite is. An id is a secret:
who knows it may look. The words are the reader's (``i18n.Language`` says whose).

    {"seq", "status", "standing", "chips": {show: n}, "counted", "order": [row…], "rows": {row: HTML}, "page", "pages"}
    and, where they changed: "mark" and "sum" (HTML), "pager"
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from playground.errors import PlaygroundError, UsageError
from playground.experiments.suite_progress import left_words
from playground.messages import NOTHING, msg
from playground.records import SuiteRun
from playground.results.suite_export import SUITE_MEDIA, suite_file_name
from playground.results.suite_summary import Outcomes, Regression, SuiteSummary, column_keys, column_names
from playground.ui.html import panel
from playground.ui.html import prompt_set as view
from playground.ui.html import prompt_set_matrix as rows
from playground.ui.html import prompt_set_summary as summary
from playground.ui.html.format import count
from playground.ui.html.page_export import POLICY
from playground.ui.html.panel import Label
from playground.ui.html.prompt_set import Standing
from playground.ui.html.prompt_set_summary import Told
from playground.ui.i18n import say
from playground.ui.matrix import SHOWS, SORTS, Matrix, Query, Show, Sort

if TYPE_CHECKING:
    from playground.service import Playground

KEPT = 12
"""Suites that are kept in memory for those who look at them; another look reads one anew."""
SUM_S, SUM_TIMES = 2.0, 10
"""Between two times that the figures of a suite that goes on are worked out; and so many times as long as it takes."""
WORDS_CHARS = 200
SPOOLED_BYTES, PIECE_BYTES = 8_000_000, 256_000
BOM = "\ufeff"
"""Spreadsheets take a CSV without it for the old encoding of the reader's country."""
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Robots-Tag": "noindex"}


class Looked:
    """One suite as it is looked at: its header, its cells, and what they come to.

    Args:
        against: An earlier run that it is compared with.
    """

    def __init__(self, playground: Playground, run: SuiteRun, against: str = "") -> None:
        self.playground = playground
        self.lock = threading.Lock()
        self.against = against
        self.labels = labels(playground, run)
        self.told = _told(playground, run)
        self.before = _outcomes(playground, against)
        self.change: Regression | None = None
        self._begin(run)

    def _begin(self, run: SuiteRun) -> None:
        self.run, self.matrix = run, Matrix(run)
        self._summed: SuiteSummary | None = None
        self._at, self._next = -1, 0.0

    def refresh(self) -> None:
        """Take in what was finished since the last look."""
        job = self.playground.running_suite(self.run.id)
        if job is not None and self.run.status != "running":
            self._begin(replace(self.run, status="running"))  # gone on with: what had failed may be asked again
        elif job is None and self.run.status != "done":
            self.run = self.playground.suite_run(self.run.id) or self.run
        self.matrix.run = self.run
        while (part := self.playground.suite_cells(self.run.id, self.matrix.last)).cells:
            self.matrix.add(part.cells, part.last)

    def summed(self) -> SuiteSummary:
        """What the cells come to; of a suite that goes on, as they were a moment ago."""
        began = time.monotonic()
        waits = self.run.status == "running" and began < self._next
        if self._summed is None or (self._at != self.matrix.last and not waits):
            self._summed, self._at = self.playground.suite_summary(self.run.id), self.matrix.last
            if self.before is not None:
                self.change = self.playground.suite_regression(self.run.id, self.before)
                self.matrix.mark(marks(self.run, self.change))
            now = time.monotonic()
            self._next = now + max(SUM_S, SUM_TIMES * (now - began))
        return self._summed

    def standing(self) -> Standing:
        """How far it is."""
        job = self.playground.running_suite(self.run.id)
        if job is None:
            return Standing(self.run.status, self.matrix.done, self.run.cells)
        at, progress = job.snapshot(), job.progress()
        notes = [column.note for column in progress.columns if column.note]
        problem = at.problem or (notes[0] if notes else NOTHING)
        now = [place for place, column in enumerate(progress.columns) if column.state == "running"]
        step = at.step
        if now:
            tokens = sum(live.n_tokens for live in at.lives if live.kind == "token")
            step = msg("{model} is answering, {tokens}", model=self.labels[now[0]].name, tokens=count(tokens, "token"))
        return Standing("running", progress.done, progress.total, left_words(progress.left_s), step, problem)


class Views:
    """The suites that are being looked at, the last ones kept."""

    def __init__(self, playground: Playground) -> None:
        self._playground = playground
        self._kept: OrderedDict[tuple[str, str], Looked] = OrderedDict()
        self._lock = threading.Lock()

    def looked(self, id: str, against: str = "") -> Looked | None:
        """The suite of that id; None where there is none (any more)."""
        with self._lock:
            found = self._kept.get((id, against))
        if not self._playground.has_suite(id):
            with self._lock:
                for key in [key for key in self._kept if key[0] == id]:
                    del self._kept[key]
            return None
        if found is None:
            run = self._playground.suite_run(id)
            if run is None:
                return None
            found = Looked(self._playground, run, against)
        with self._lock:
            found = self._kept.setdefault((id, against), found)
            self._kept.move_to_end((id, against))
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found

    def view(self, id: str, asked: Mapping[str, str]) -> dict[str, Any] | None:
        """What a page is sent; None where there is no such suite."""
        against = asked.get("against", "")
        at = self.looked(id, against if against != id else "")
        if at is None:
            return None
        with at.lock:
            at.refresh()
            return _drawn(at, query(asked), _whole(asked.get("after", "")), asked.get("mark", ""))

    def row(self, id: str, row: int) -> str | None:
        """What a row opens, as HTML; None where there is no such row."""
        at = self.looked(id)
        if at is None or not 0 <= row < len(at.run.rows):
            return None
        with at.lock:
            at.refresh()
            return rows.detail_html(at.matrix, row, at.labels)


def query(asked: Mapping[str, str]) -> Query:
    """What a page looks at, as its address says; what is none of ours is as it is at first."""
    show: Show = next((each for each in SHOWS if each == asked.get("show")), "all")
    sort: Sort = next((each for each in SORTS if each == asked.get("sort")), "file")
    return Query(show, sort, asked.get("words", "")[:WORDS_CHARS], _whole(asked.get("page", "")))


def labels(playground: Playground, run: SuiteRun) -> tuple[Label, ...]:
    """A label a column; columns of one variant say in what they differ."""
    made = panel.labels(playground, [column.variant for column in run.columns])
    own = [name.removeprefix(str(label.variant)).strip() for name, label in zip(column_names(run), made, strict=True)]
    return tuple(
        replace(label, name=f"{label.name} ({more})") if more else label for label, more in zip(made, own, strict=True)
    )


def marks(run: SuiteRun, change: Regression) -> dict[tuple[int, int], str]:
    """By (row, column): worse or better than in the earlier run."""
    column = {key: place for place, key in enumerate(column_keys(run))}
    row = {each.id: place for place, each in enumerate(run.rows)}
    found = {(row[each.row], column[each.column]): "worse" for each in change.worse}
    return found | {(row[each.row], column[each.column]): "better" for each in change.better}


def _drawn(at: Looked, asked: Query, after: int, mark: str) -> dict[str, Any]:
    summed = at.summed()
    found = at.matrix.find(asked)
    sent = {
        str(row): rows.row_html(at.matrix, row, at.labels)
        for row in found.rows
        if not after or at.matrix.changed(row) > after
    }
    told = {
        "seq": at.matrix.last,
        "status": at.run.status,
        "standing": view.standing_html(at.standing()),
        "chips": {show: at.matrix.count(show) for show in SHOWS},
        "counted": view.count_words(found.matching, len(at.run.rows)),
        "order": [str(row) for row in found.rows],
        "rows": sent,
        "page": found.page,
        "pager": view.pages_html(found.page, found.pages),
    }
    drawn = _change(at) + summary.summary_html(summary.Summed(summed, at.labels, at.told, at.playground.tiers))
    now = hashlib.sha256(drawn.encode("utf-8", "replace")).hexdigest()[:16]
    return told if now == mark else {**told, "mark": now, "sum": drawn}


def _change(at: Looked) -> str:
    if not at.against:
        return ""
    if at.before is None:
        return view.gone_html(msg("The run to compare with is not there any more."))
    if at.change is None:
        return ""
    return summary.change_html(at.change, dict(zip(column_keys(at.run), at.labels, strict=True)))


def _told(playground: Playground, run: SuiteRun) -> Sequence[Told]:
    told = []
    for column in run.columns:
        try:
            fact = playground.facts(column.variant).license
            id = playground.listed(playground.entry(column.variant.model)).license_id
            told.append(Told(id or str(fact.value or ""), fact.url))
        except PlaygroundError:  # a model that is not in the catalogue any more
            told.append(Told())
    return told


def _outcomes(playground: Playground, id: str) -> Outcomes | None:
    """What an earlier run came to; None where there is none, or none any more."""
    return playground.suite_outcomes(id) if id and playground.has_suite(id) else None


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0


def routes(playground: Playground) -> list[Route]:
    """To stand before gradio's own."""
    views = Views(playground)

    async def look(request: Request) -> Response:
        return await _answered(views.view, request.path_params["id"], dict(request.query_params))

    async def row(request: Request) -> Response:
        return await _answered(views.row, request.path_params["id"], _whole(request.path_params["row"]))

    async def file(request: Request) -> Response:
        id, ending = request.path_params["id"], request.path_params["ending"]
        return await _answered(_file, playground, id, ending)

    return [
        Route("/suite/{id}/view", look),
        Route("/suite/{id}/row/{row}", row),
        Route("/export/suite/{id}.{ending}", file),
    ]


def _file(playground: Playground, id: str, ending: str) -> Response | None:
    """A suite as a file; it is written whole before it is sent, so that what goes wrong is said."""
    run = playground.suite_run(id)
    if run is None or ending not in SUITE_MEDIA:
        return None
    written = tempfile.SpooledTemporaryFile(SPOOLED_BYTES, "w+b")  # noqa: SIM115 - it is closed when it was sent
    text = io.TextIOWrapper(written, encoding="utf-8", errors="replace", newline="", write_through=True)
    if ending == "csv":
        text.write(BOM)
    playground.export_suite(id, ending, text, say)
    text.detach()
    length = written.tell()
    written.seek(0)
    headers = {
        **_HEADERS,
        "Content-Disposition": f'attachment; filename="{suite_file_name(run, ending)}"',
        "Content-Length": str(length),
    }
    if ending == "html":
        headers["Content-Security-Policy"] = POLICY
    return StreamingResponse(_pieces(written), media_type=SUITE_MEDIA[ending], headers=headers)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE_BYTES):
            yield piece


async def _answered(work: Any, *given: Any) -> Response:
    try:
        found = await asyncio.to_thread(work, *given)
    except UsageError as refused:  # a format that does not go with this suite
        return PlainTextResponse(say(refused.message) + "\n", 404, _HEADERS)
    except PlaygroundError as error:
        return PlainTextResponse(say(error.message) + "\n", 500, _HEADERS)
    if found is None:
        gone = msg("There is no such prompt set here: it was deleted, or its time is over.")
        return PlainTextResponse(say(gone) + "\n", 404, _HEADERS)
    if isinstance(found, Response):
        return found
    return JSONResponse(found if isinstance(found, dict) else {"html": found}, headers=_HEADERS)
