"""An evaluation that is going on: prepare each model, have lm-eval ask the door about it, keep what came of it.

It does not hold the machine: the door takes a turn for each request, as for any other caller. No timing is a result of
it. What was answered is kept as it comes (``journal``): after Ctrl-C, a crash or a restart the same command goes on.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata, util
from pathlib import Path
from typing import Any

from playground.catalog.config_names import CONTEXT_LENGTH, whole
from playground.catalog.template_files import read_json
from playground.errors import UsageError
from playground.evaluation.journal import journal_path
from playground.evaluation.process import HarnessProcess
from playground.evaluation.worker import Job as HarnessJob
from playground.experiments.base import Job, Machine
from playground.messages import NOTHING, Translatable, msg
from playground.records import Artifact, ModelSpec, Record, Variant
from playground.results.scores import Evaluation, Metric
from playground.system.environment import environment

DEFAULT_CONTEXT = 2048
MAX_TASKS = 100
HARNESS = "lm-eval"
INSTALL = msg("Install it beside the playground: pip install 'open-model-playground[eval]'.")


@dataclass(frozen=True)
class Plan(Record):
    """What is asked.

    Attributes:
        tasks: Names of tasks or groups of lm-eval, of the playground's own, or of ``folders``.
        folders: Of further tasks; their templates and functions are run as code.
        limit: Only the first so many questions of each task; None for all.
        shots: Solved examples before each question; None for each task's own number.
        chat: Whether each prompt is put into the model's chat template.
    """

    tasks: tuple[str, ...]
    folders: tuple[str, ...] = ()
    limit: int | None = None
    shots: int | None = None
    chat: bool = False


@dataclass(frozen=True)
class Address:
    """Where the product's own door stands: the address up to and with ``/v1``, and a key it lets in."""

    url: str
    key: str


OpenDoor = Callable[[], AbstractContextManager[Address]]
Save = Callable[[Sequence[Evaluation]], object]


def missing() -> Translatable:
    """What lacks for an evaluation; empty where nothing does."""
    return NOTHING if util.find_spec("lm_eval") else msg("lm-eval is not installed")


class Evaluator:
    """Checks and begins evaluations.

    Args:
        machine: What all experiments share.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def start(self, models: Sequence[str | Variant], plan: Plan, open_door: OpenDoor, save: Save) -> EvaluationJob:
        """Begin one.

        Args:
            open_door: Opens the product's own door for as long as the job asks.
            save: Is given the scores of each model as soon as they are there.

        Raises:
            UsageError: lm-eval is not installed, or the plan or a model is wrong; no work was begun.
        """
        if lacking := missing():
            raise UsageError(lacking, INSTALL)
        _check(plan)
        if not models:
            raise UsageError(msg("No model is chosen"), msg("Choose at least one."))
        self._machine.check_number(len(models), msg("evaluation"))
        found = [self._machine.catalog.resolve(str(model)) for model in models]
        for spec, variant in found:
            if spec.remote:
                raise UsageError(
                    msg("{model} is served elsewhere, and its bytes are not known here", model=variant),
                    msg("Evaluate models that run on this machine; lm-eval can ask a server itself."),
                )
            if variant.runtime == "fake":
                raise UsageError(msg("{model} is a script and has no quality", model=variant), msg("Choose a model."))
        twice = next(
            (variant for place, (_, variant) in enumerate(found) if variant in [v for _, v in found[:place]]), None
        )
        if twice:
            raise UsageError(msg("{variant} is chosen twice", variant=twice), msg("Choose it once."))
        job = EvaluationJob(self._machine, found, plan, open_door, save)
        self._machine.begin(job)
        return job


def _check(plan: Plan) -> None:
    if not plan.tasks:
        raise UsageError(msg("No task is named"), msg("Name some: --tasks playground, or --tasks arc_easy,hellaswag."))
    if len(plan.tasks) > MAX_TASKS:
        raise UsageError(msg("{n} tasks are too many", n=len(plan.tasks)), msg("Name at most {most}.", most=MAX_TASKS))
    if plan.limit is not None and plan.limit < 1:
        raise UsageError(msg("The limit is {n}", n=plan.limit), msg("Ask 1 question of each task or more."))
    if plan.shots is not None and not 0 <= plan.shots <= 64:
        raise UsageError(msg("{n} solved examples can't be given", n=plan.shots), msg("Give 0 to 64."))


class EvaluationJob(Job[tuple[Evaluation, ...]]):
    """An evaluation that is going on; see ``Evaluator.start``. Its result: an evaluation a model and task."""

    def __init__(
        self,
        machine: Machine,
        models: Sequence[tuple[ModelSpec, Variant]],
        plan: Plan,
        open_door: OpenDoor,
        save: Save,
    ) -> None:
        super().__init__(machine, ", ".join(str(variant) for _, variant in models))
        self._models, self._plan, self._open_door, self._save = tuple(models), plan, open_door, save

    def _run(self) -> tuple[Evaluation, ...]:
        artifacts = [self._prepare(variant) for _, variant in self._models]
        found: list[Evaluation] = []
        with self._open_door() as door:
            for (spec, _), artifact in zip(self._models, artifacts, strict=True):
                scores = self._evaluate(spec, artifact, door)
                self._save(scores)
                found += scores
                self._journal(artifact).unlink(missing_ok=True)
        return tuple(found)

    def _evaluate(self, spec: ModelSpec, artifact: Artifact, door: Address) -> list[Evaluation]:
        plan = self._plan

        def tell(step: Translatable, progress: float | None) -> None:
            self._tell(msg("{model}: {step}", model=artifact.variant, step=step), progress)

        process = HarnessProcess(
            HarnessJob(
                tasks=plan.tasks,
                folders=tuple(str(Path(folder).absolute()) for folder in plan.folders),
                limit=plan.limit,
                shots=plan.shots,
                chat=plan.chat,
                url=door.url,
                key=door.key,
                model=str(artifact.variant),
                tokenizer=artifact.path,
                context=_context(spec, artifact),
                journal=str(self._journal(artifact)),
            ),
            self._machine.settings.home,
        )
        try:
            scores = process.follow(tell, self._stop.is_set)
        finally:
            process.kill()
        with suppress(OSError):
            process.log.unlink()
        return [self._evaluation(artifact, score) for score in scores]

    def _journal(self, artifact: Artifact) -> Path:
        plan = replace(self._plan, folders=tuple(str(Path(folder).absolute()) for folder in self._plan.folders))
        about = (artifact.sha256, artifact.path, artifact.engine, harness(), plan.to_json())
        return journal_path(self._machine.settings.home, *about)

    def _evaluation(self, artifact: Artifact, score: dict[str, Any]) -> Evaluation:
        now = datetime.now(UTC)
        return Evaluation(
            id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(16)}",
            created_at=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            variant=artifact.variant,
            metrics=tuple(Metric.from_json(metric) for metric in score["metrics"]),
            harness=harness(),
            environment=environment(),
            limit=self._plan.limit,
            chat=self._plan.chat,
            artifact_sha256=artifact.sha256,
            revision=artifact.revision,
            engine=artifact.engine or artifact.variant.runtime,
            **{
                name: score[name]
                for name in (
                    *("task", "version", "kind", "shots", "questions", "questions_in_task", "data_sha256"),
                    *("reused", "elapsed_s"),
                )
            },
        )


def harness() -> str:
    """The harness and its version."""
    return f"{HARNESS} {metadata.version('lm-eval')}"


def _context(spec: ModelSpec, artifact: Artifact) -> int:
    """How many tokens the model can read: the smaller of what the catalogue and its configuration say."""
    config = read_json(Path(artifact.path) / "config.json", or_empty=True)
    return min(filter(None, (spec.context_length, whole(config, *CONTEXT_LENGTH))), default=DEFAULT_CONTEXT)
