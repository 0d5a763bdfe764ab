"""What a page is sent of a suite that goes on or has ended, by the real service: only rows that changed, in the order
that is asked for, and nothing of one that is gone."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from playground.service import Playground
from playground.ui.matrix import Query
from playground.ui.suite_views import Views, query, routes

TABLE = "prompt,__expected\nWhat is the capital of France?,icontains:Paris\nAnd of Japan?,icontains:Tokyo\nThird?,\n"


def run(playground: Playground, text: str = TABLE, *models: str, **more: Any) -> str:
    """A suite that has ended; its id."""
    job = playground.suite(text, "table.csv", models or ("fast", "base"), **more)
    job.result()
    return job.id


def get(playground: Playground, path: str) -> httpx2.Response:
    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(Starlette(routes=routes(playground)))
        async with httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
            return await client.get(path)

    return asyncio.run(ask())


def test_a_page_is_sent_all_at_first_and_then_what_changed(playground: Playground) -> None:
    views, id = Views(playground), run(playground)
    first = views.view(id, {})
    assert first is not None
    assert (first["status"], first["order"], list(first["rows"])) == ("done", ["0", "1", "2"], ["0", "1", "2"])
    assert first["chips"]["differs"] == 2  # by a check; and by words where there is none
    assert "1 of 2" in first["sum"]
    again = views.view(id, {"after": str(first["seq"]), "mark": first["mark"]})
    assert again is not None
    assert again["rows"] == {}
    assert "sum" not in again


def test_rows_come_while_it_goes_on(playground: Playground) -> None:
    views = Views(playground)
    job = playground.suite("\n".join(f"Question {n}" for n in range(12)), "", ["slow"])
    after, sent = 0, set[str]()
    while not job.done:
        told = views.view(job.id, {"after": str(after)})
        assert told is not None
        new = set(told["rows"]) if after else {row for row in told["rows"] if "not answered" not in told["rows"][row]}
        if after:
            assert not new & sent, "a row without a new cell is sent again"
            sent |= new
        after = told["seq"]
        if len(sent) > 2:
            job.stop()
    job.result()
    last = views.view(job.id, {})
    assert last is not None
    assert last["status"] == "paused"
    assert "paused · " in last["standing"]


def test_a_suite_that_is_gone_on_with_is_read_anew(playground: Playground) -> None:
    views, id = Views(playground), run(playground, TABLE, "fails")
    before = views.view(id, {})
    assert before is not None
    assert before["chips"]["error"] == 3
    playground.resume_suite(id, retry=True).result()
    after = views.view(id, {})
    assert after is not None
    assert (after["chips"]["error"], after["status"]) == (3, "done")


def test_one_run_against_an_earlier_one(playground: Playground) -> None:
    views, id, other = Views(playground), run(playground), run(playground, TABLE.replace("Tokyo", "Paris"))
    told = views.view(other, {"against": id})
    assert told is not None
    assert "1 cell got worse" not in told["sum"]
    back = views.view(id, {"against": other, "show": "worse"})
    assert back is not None
    assert back["sum"].startswith('<div class="suite-against">')
    gone = views.view(id, {"against": "20260101-000000-" + "0" * 32})
    assert gone is not None
    assert "not there any more" in gone["sum"]


def test_what_is_asked_for_is_not_believed(playground: Playground) -> None:
    asked = {"show": "nothing", "sort": "<b>", "words": "w" * 900, "page": "-3"}
    assert query(asked) == Query("all", "file", "w" * 200, 0)
    assert query({"page": "1" * 40}) == Query()
    views, id = Views(playground), run(playground)
    told = views.view(id, {"after": "nan", "page": "7", "words": "japan"})
    assert told is not None
    assert told["order"] == ["1"]


@pytest.mark.parametrize("path", ["view", "row/0"])
def test_what_is_deleted_is_not_shown(playground: Playground, path: str) -> None:
    id = run(playground)
    assert get(playground, f"/suite/{id}/{path}").status_code == 200
    playground.delete_suite(id)
    answer = get(playground, f"/suite/{id}/{path}")
    assert answer.status_code == 404
    assert "no such prompt set" in answer.text


def test_memory_of_what_is_deleted_is_given_back(playground: Playground) -> None:
    views, id = Views(playground), run(playground)
    assert views.view(id, {})
    playground.delete_suite(id)
    assert views.view(id, {}) is None
    assert views._kept == {}


def test_rows_and_files_of_a_suite(playground: Playground) -> None:
    id = run(playground)
    assert "What is the capital of France?" in get(playground, f"/suite/{id}/row/0").json()["html"]
    assert get(playground, f"/suite/{id}/row/99").status_code == 404
    for ending, kind in {
        "json": "application/json",
        "jsonl": "application/jsonl",
        "csv": "text/csv",
        "xml": "application/xml",
        "html": "text/html",
        "md": "text/markdown",
    }.items():
        answer = get(playground, f"/export/suite/{id}.{ending}")
        assert answer.status_code == 200, ending
        assert answer.headers["content-type"].startswith(kind), ending
        assert answer.headers["content-disposition"] == f'attachment; filename="suite-{id}.{ending}"'
        assert answer.headers["content-length"] == str(len(answer.content))
        assert "Paris is the capital" in answer.text, ending
    assert get(playground, f"/export/suite/{id}.csv").content.startswith(b"\xef\xbb\xbf")
    assert "content-security-policy" in get(playground, f"/export/suite/{id}.html").headers
    assert get(playground, f"/export/suite/{id}.exe").status_code == 404
    assert get(playground, "/export/suite/unknown.csv").status_code == 404


def test_a_row_becomes_one_comparison(playground: Playground) -> None:
    id = run(playground)
    made = playground.suite_comparison(id, 0)
    assert [str(each.variant) for each in made.runs] == ["fast@fake-none", "base@fake-none"]
    assert made.request.prompt == "What is the capital of France?"
    assert made.runs[0].text.startswith("Paris")
    assert playground.suite_comparison(id, 0).id == made.id
    assert playground.comparison(made.id) == made
    playground.delete(made.id, "")
    again = playground.suite_comparison(id, 0)
    assert again.id != made.id
    assert playground.comparison(again.id) is not None
