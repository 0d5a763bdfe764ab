"""The process of one evaluation: ``python -m playground.evaluation.worker``. It drives lm-eval and asks the door.

A job comes as one line of JSON on stdin (``Job``, with the door's key, so that it stands in no argument and no
variable). Lines of JSON go out on stdout: ``{"step": …, "progress": …}`` any number of times, then one
``{"scores": …}`` or ``{"error": …}``. What lm-eval prints goes to stderr. When stdin closes, whoever started the job is
gone, and the process ends. lm-eval runs code of the tasks it is given (templates, functions beside the YAML): a folder
of tasks is to be trusted like a program.
"""

from __future__ import annotations

import difflib
import logging
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.config.validation import closest
from playground.errors import PlaygroundError, RunError, SourceError, UsageError, shortened
from playground.messages import Translatable, msg
from playground.records import Record
from playground.system.child import Message
from playground.system.one_job import take_job

OWN_TASKS = Path(__file__).parent / "tasks"
SEED, OTHER_SEED = 0, 1234
"""What lm-eval itself begins with: of Python's random numbers; of numpy's, and of the choice of solved examples."""
INTERVAL_S = 0.2

Tell = Callable[[Translatable, float | None], None]


@dataclass(frozen=True)
class Job(Record):
    """What the process is to do.

    Attributes:
        folders: Of further tasks.
        limit: Only the first so many questions of each task; None for all.
        shots: Solved examples before each question; None for each task's own number.
        tokenizer: Folder with the model's tokenizer.
        context: Tokens the model can read.
        journal: Where answers are kept as they come.
    """

    tasks: tuple[str, ...]
    folders: tuple[str, ...]
    limit: int | None
    shots: int | None
    chat: bool
    url: str
    key: str
    model: str
    tokenizer: str
    context: int
    journal: str


def main() -> int:
    """Do one job."""
    sent, send = take_job()
    if sent is None:
        return 2
    job = Job.from_json(sent)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s %(levelname)s %(message)s")
    try:
        send({"scores": _run(job, _reporter(send))})
    except PlaygroundError as error:
        send({"error": error.to_json()})
        return 1
    except Exception as error:
        logging.exception("the harness failed")
        what = msg(
            "lm-eval failed ({kind}: {reason})",
            kind=type(error).__name__,
            reason=shortened(" ".join(str(error).split()), 300),
        )
        send({"error": RunError(what, msg("The log says where.")).to_json()})
        return 1
    return 0


def _run(job: Job, tell: Tell) -> list[dict[str, Any]]:
    """The scores, a task each, and groups behind their tasks."""
    tell(msg("reading the tasks"), None)
    found = _load(job)
    _set(found["tasks"].values(), job)
    plain = {name: task for name, task in found["tasks"].items() if not (job.chat and _generates(task))}
    chats = {name: task for name, task in found["tasks"].items() if name not in plain}
    scores: list[dict[str, Any]] = []
    for tasks, chat_door in ((plain, False), (chats, True)):
        if tasks:
            whole = len(tasks) == len(found["tasks"])
            groups = found["groups"] if whole else {}
            scores += _evaluated(job, {**found, "tasks": tasks, "groups": groups}, chat_door, tell)
    return scores


# -- which tasks ------------------------------------------------------------------------------------------------------


def _load(job: Job) -> dict[str, Any]:
    """The tasks with their questions; only if one is not among those of the given folders, lm-eval's own are read,
    which takes it some seconds.

    Raises:
        UsageError: There is no such task.
        SourceError: Its questions can't be had.
    """
    from lm_eval.tasks import TaskManager

    for folder in job.folders:
        if not Path(folder).is_dir():
            raise UsageError(msg("There is no folder {folder}", folder=folder), msg("Check --include-path."))
    folders = [OWN_TASKS, *map(Path, job.folders)]
    manager = TaskManager(include_path=folders, include_defaults=False)
    if not set(job.tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=folders)
    for name in job.tasks:
        if name not in manager.all_tasks:
            # Of thousands of names none helps but a near one.
            near = difflib.get_close_matches(name, manager.all_tasks, n=1, cutoff=0.6)
            step = closest(name, near) if near else msg("playground is ours; `lm_eval ls tasks` lists all others.")
            raise UsageError(msg("There is no task '{task}'", task=name), step)
    whole: dict[str, Any] = {"tasks": {}, "groups": {}, "group_map": {}}
    for name in dict.fromkeys(job.tasks):
        for part, items in _questions(manager, name).items():
            whole[part].update(items)
    return whole


def _questions(manager: Any, name: str) -> dict[str, Any]:
    try:
        return dict(manager.load([name]))
    except Exception as error:  # whatever a task, the library of data sets or the network makes of it
        logging.exception("the task %s can't be loaded", name)
        reason = shortened(f"{type(error).__name__}: {' '.join(str(error).split())}")
        what = msg("The questions of {task} can't be had ({reason})", task=name, reason=reason)
        if isinstance(error, ImportError):
            raise SourceError(what, msg("That task needs a further package: install the one that is named.")) from error
        offline = any(os.environ.get(each) == "1" for each in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))
        if offline:
            step = msg("HF_HUB_OFFLINE is set, and the Hub is not asked: unset it, or choose a task with local data.")
        else:
            step = msg(
                "Most tasks fetch their questions from the Hub: check the network, or choose a task with local data "
                "(playground)."
            )
        raise SourceError(what, step) from error


def _set(tasks: Iterable[Any], job: Job) -> None:
    """Solved examples and seeds, as lm-eval's own command sets them."""
    import numpy as np

    random.seed(SEED)
    np.random.seed(OTHER_SEED)
    for task in tasks:
        own = task.get_config("num_fewshot")
        if job.shots is not None and own != 0:
            task.set_config(key="num_fewshot", value=job.shots)
        elif own is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=OTHER_SEED)


def _generates(task: Any) -> bool:
    return bool(task.OUTPUT_TYPE == "generate_until" or task.get_config("output_type") == "generate_until")


# -- asking -----------------------------------------------------------------------------------------------------------


def _evaluated(job: Job, tasks: dict[str, Any], chat_door: bool, tell: Tell) -> list[dict[str, Any]]:
    from lm_eval.evaluator import evaluate

    from playground.evaluation.journal import Journal
    from playground.evaluation.models import ChatCompletions, Completions, Door, Resumed

    door = Door(job.url, job.key, job.model, Path(job.tokenizer), job.context)
    journal = Journal(Path(job.journal))
    started = time.monotonic()

    def told(done: int, of: int) -> None:
        tell(msg("asking the model, {all:,} times", all=of), done / of if of else None)

    tell(msg("asking the model"), None)
    model = ChatCompletions(door, told) if chat_door else Completions(door, told)
    if job.chat and not chat_door and not model.tokenizer.chat_template:
        raise UsageError(
            msg("{model} has no chat template", model=job.model), msg("Run it without --chat: on plain text.")
        )
    try:
        results = evaluate(
            lm=Resumed(model, journal), task_dict=tasks, limit=job.limit, apply_chat_template=job.chat,
            fewshot_as_multiturn=job.chat, bootstrap_iters=1000,
        )  # fmt: skip
    finally:
        journal.close()
    tell(msg("judging the answers"), None)
    elapsed = time.monotonic() - started
    return [{**score, "reused": journal.found, "elapsed_s": elapsed} for score in _scores(results, tasks)]


# -- what came of it --------------------------------------------------------------------------------------------------


def _scores(results: Any, tasks: dict[str, Any]) -> list[dict[str, Any]]:
    from playground.evaluation.outcomes import score_of

    return [score_of(name, results, tasks["tasks"].get(name)) for name in results["results"]]


def _reporter(send: Callable[[Message], None]) -> Tell:
    last_step, last_time = "", 0.0

    def report(step: Translatable, progress: float | None) -> None:
        nonlocal last_step, last_time
        now = time.monotonic()
        if progress is None or progress >= 1 or now - last_time >= INTERVAL_S:
            last_step, last_time = step, now
            send({"step": step.to_json(), "progress": progress})

    return report


def tasks_of(text: Sequence[str]) -> tuple[str, ...]:
    """The names in ``a,b`` and ``c``, in order, none twice."""
    return tuple(dict.fromkeys(name.strip() for part in text for name in part.split(",") if name.strip()))


if __name__ == "__main__":
    sys.exit(main())
