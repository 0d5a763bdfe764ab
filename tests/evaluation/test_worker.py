"""The harness's process: what it asks a door, what it says when something is missing; nothing is asked twice."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from playground.errors import PlaygroundError, RunError, SourceError, UsageError
from playground.evaluation.journal import Journal
from playground.evaluation.process import HarnessProcess
from playground.evaluation.worker import Job, tasks_of
from tests.support import tiny

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.waits

KEY = "a-key-for-the-harness"


class Door:
    """A door that answers at once, by a rule of its own: the sum of a text's ids says how likely it is.

    Attributes:
        asked: The bodies that came, in order.
        refuse_at: From which request on it answers with an error.
        stop_at: At which request the harness is killed.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.refuse_at: int | None = None
        self.kill_at: int | None = None
        self.pid = 0
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                door.asked.append(body)
                door.keys.add(self.headers["authorization"])
                if len(door.asked) == door.kill_at:
                    os.kill(door.pid, signal.SIGKILL)
                    return
                refused = door.refuse_at is not None and len(door.asked) >= door.refuse_at
                answer = {"error": {"message": "The oven is cold."}} if refused else door.answer(self.path, body)
                written = json.dumps(answer).encode()
                self.send_response(503 if refused else 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(written)))
                self.end_headers()
                self.wfile.write(written)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the test looks at ``asked``."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path.endswith("/chat/completions"):
            return {"choices": [{"index": 0, "message": {"content": "It is 7."}}]}
        if not body.get("echo"):
            return {"choices": [{"index": place, "text": " 7"} for place, _ in enumerate(body["prompt"])]}
        return {"choices": [self.scored(place, ids, body) for place, ids in enumerate(body["prompt"])]}

    def scored(self, place: int, ids: list[int], body: dict[str, Any]) -> dict[str, Any]:
        value = -int(hashlib.sha256(json.dumps(ids).encode()).hexdigest(), 16) % 1000 / 100
        start = body["logprobs_from"][place]
        own = [None] * start + [-value] * (len(ids) - start)
        tops = [None] * start + [{"x": -value if value < 5 else -1.0}] * (len(ids) - start)
        return {"index": place, "logprobs": {"token_logprobs": own, "top_logprobs": tops}}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.close()


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    return tiny.write_tokenizer(tmp_path / "tokenizer")


def job(door: Door, tokenizer: Path, *tasks: str, **changes: Any) -> Job:
    journal = str(tokenizer.parent / "journal.jsonl")
    given: dict[str, Any] = {"folders": (), "limit": 40, "shots": None, "chat": False, "url": door.url, "key": KEY}
    given |= {"model": "tiny@onnx-int8", "tokenizer": str(tokenizer), "context": tiny.CONTEXT, "journal": journal}
    return Job(tasks=tasks, **{**given, **changes})


def run(wanted: Job, home: Path, door: Door | None = None) -> list[dict[str, Any]]:
    process = HarnessProcess(wanted, home)
    if door:
        door.pid = process.pid
    try:
        return process.follow(lambda step, share: None, lambda: False)
    finally:
        process.kill()


def plain(scores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what depends on when it was taken."""
    return [{name: value for name, value in each.items() if name not in ("elapsed_s", "reused")} for each in scores]


def test_what_begins_alike_is_asked_for_together_and_only_the_continuations_are_wanted(
    door: Door, tokenizer: Path, tmp_path: Path
) -> None:
    (choice,) = run(job(door, tokenizer, "playground_choice"), tmp_path)
    assert (choice["questions"], choice["questions_in_task"]) == (40, 211)
    assert [metric["name"] for metric in choice["metrics"]] == ["acc", "acc_norm"]
    assert sum(len(body["prompt"]) for body in door.asked) == 160
    assert len(door.asked) <= 5
    assert door.keys == {f"Bearer {KEY}"}
    for body in door.asked:
        assert (body["max_tokens"], body["logprobs"], body["echo"]) == (0, 1, True)
        assert body["prompt"] == sorted(body["prompt"])
        for ids, start in zip(body["prompt"], body["logprobs_from"], strict=True):
            assert 0 < start < len(ids)


def test_answers_are_asked_for_as_text_or_in_the_chat_template(door: Door, tokenizer: Path, tmp_path: Path) -> None:
    wanted = job(door, tokenizer, "playground_sums", limit=3)
    (text,) = run(wanted, tmp_path)
    assert [body["stop"] for body in door.asked] == [["\n", "<|eos|>"]] * 3
    assert all(isinstance(body["prompt"][0][0], int) for body in door.asked)
    Path(wanted.journal).unlink()
    (chat,) = run(job(door, tokenizer, "playground_sums", limit=3, chat=True), tmp_path)
    assert door.asked[-1]["messages"][0]["role"] == "user"
    assert {body["max_tokens"] for body in door.asked} == {24}
    assert text["metrics"] == chat["metrics"]
    assert text["metrics"][0]["name"] == "exact_match"


def test_a_chat_template_stands_around_what_is_scored(door: Door, tokenizer: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    run(job(door, tokenizer, "playground_cloze", limit=1, chat=True), tmp_path)
    read = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    (body,) = door.asked
    assert read.decode(body["prompt"][0], skip_special_tokens=False).count("<|turn|>") == 3


def test_a_run_that_broke_off_goes_on_where_it_was(door: Door, tokenizer: Path, tmp_path: Path) -> None:
    wanted = job(door, tokenizer, "playground")
    undisturbed = run(wanted, tmp_path)
    all_asked = len(door.asked)
    Path(wanted.journal).unlink()
    door.asked.clear()
    door.refuse_at = 3
    with pytest.raises(RunError, match=r"answered 503: The oven is cold.*goes on from there"):
        run(wanted, tmp_path)
    door.refuse_at, door.kill_at = None, 5
    with pytest.raises(RunError, match="signal SIGKILL"):
        run(wanted, tmp_path, door)
    door.kill_at = None
    again = run(wanted, tmp_path)
    assert plain(again) == plain(undisturbed)
    assert len(door.asked) == all_asked + 2  # the two that nobody got an answer to
    assert again[0]["reused"] > 0


def test_stop_ends_it_and_keeps_what_there_is(door: Door, tokenizer: Path, tmp_path: Path) -> None:
    process = HarnessProcess(job(door, tokenizer, "playground_choice"), tmp_path)
    with pytest.raises(PlaygroundError, match="stopped"):
        process.follow(lambda step, share: None, lambda: len(door.asked) > 1)
    process.kill()
    assert len(Journal(tokenizer.parent / "journal.jsonl")) >= 1


def test_more_tasks_can_be_brought_along(door: Door, tokenizer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "data.jsonl").write_text('{"text": "The sky is", "word": "blue"}\n')
    (folder / "mine.yaml").write_text(
        f"task: mine\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {folder}/data.jsonl\n"
        "test_split: test\noutput_type: loglikelihood\ndoc_to_text: '{{text}}'\ndoc_to_target: '{{word}}'\n"
        "metric_list:\n  - metric: acc\nmetadata:\n  version: 3\n"
    )
    (found,) = run(job(door, tokenizer, "mine", folders=(str(folder),), limit=None), tmp_path)
    assert (found["task"], found["version"], found["questions"]) == ("mine", "3", 1)


def test_what_is_missing_is_said_with_the_next_step(door: Door, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no folder /none"):
        run(job(door, tokenizer, "playground", folders=("/none",)), tmp_path)
    with pytest.raises(UsageError, match=r"There is no task 'arc_esy'\. Did you mean .*arc_easy"):
        run(job(door, tokenizer, "arc_esy"), tmp_path)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "lost.yaml").write_text(
        "task: lost\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: nowhere.jsonl\n"
        "test_split: test\noutput_type: loglikelihood\ndoc_to_text: '{{text}}'\ndoc_to_target: '{{word}}'\n"
    )
    with pytest.raises(SourceError, match=r"The questions of lost can't be had \(FileNotFoundError"):
        run(job(door, tokenizer, "lost", folders=(str(folder),)), tmp_path)
    (folder / "odd.yaml").write_text(
        (folder / "lost.yaml").read_text().replace("lost", "odd") + "process_docs: !function odd.f\n"
    )
    (folder / "odd.py").write_text("import no_such_package\n")
    with pytest.raises(SourceError, match=r"no_such_package.*needs a further package"):
        run(job(door, tokenizer, "odd", folders=(str(folder),)), tmp_path)
    assert door.asked == []


def test_a_task_of_the_hub_without_the_hub_is_an_error_and_no_hang(
    door: Door, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with pytest.raises(SourceError, match=r"The questions of copa can't be had .*HF_HUB_OFFLINE is set"):
        run(job(door, tokenizer, "copa"), tmp_path)


def test_a_model_without_a_template_is_not_asked_in_one(door: Door, tmp_path: Path) -> None:
    bare = tiny.write_tokenizer(tmp_path / "bare", template=None)
    with pytest.raises(UsageError, match="has no chat template"):
        run(job(door, bare, "playground_cloze", chat=True), tmp_path)


def test_names_of_tasks_are_read_from_commas_and_repeats() -> None:
    assert tasks_of(["a, b", "c,a,", ""]) == ("a", "b", "c")
