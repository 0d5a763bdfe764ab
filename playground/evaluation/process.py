"""The harness's process as the job sees it: started with what it needs and no more, followed, ended."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playground.errors import PlaygroundError, RunError, Stopped
from playground.evaluation.worker import Job
from playground.messages import Translatable, msg
from playground.records import Cancelled
from playground.sources.files import Progress, ensure_home, storage_errors
from playground.system.child import Ending, JsonChild
from playground.system.child_environment import CACHES, NETWORK, passed

MODULE = "playground.evaluation.worker"
LOOPBACK = "127.0.0.1,localhost"


def harness_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of the harness: the network and caches that its tasks' questions may come from. Tokens stay
    behind; for questions behind a licence, `hf auth login` writes a token that the Hub's own library finds. The door on
    loopback is asked past any proxy.
    """
    unproxied = [part for name in ("NO_PROXY", "no_proxy") if (part := env.get(name))]
    past = ",".join([*unproxied, LOOPBACK])
    return passed(CACHES, NETWORK, env=env) | {
        "NO_PROXY": past,
        "no_proxy": past,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "TQDM_DISABLE": "1",
        "PYTHONUNBUFFERED": "1",
    }


class HarnessProcess(JsonChild):
    """A running ``playground.evaluation.worker``.

    Args:
        job: What it does.
        home: PLAYGROUND_HOME; its log goes to the folder ``logs``.

    Raises:
        StorageError: ``home`` can't be written.
        RunError: No process could be started.
    """

    def __init__(self, job: Job, home: Path) -> None:
        ensure_home(home)
        with storage_errors(home):
            (home / "logs").mkdir(exist_ok=True)
            self.log = home / "logs" / f"evaluate-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
            log = self.log.open("ab")
        with log:
            try:
                super().__init__(MODULE, harness_environment(os.environ), stderr=log)
            except OSError as error:
                raise RunError(
                    msg("No process could be started for lm-eval ({reason})", reason=error.strerror), msg("Try again.")
                ) from error
        with contextlib.suppress(RunError):  # ``follow`` raises it
            self.send(job.to_json())

    def follow(self, progress: Progress, cancelled: Cancelled) -> list[dict[str, Any]]:
        """Wait for the scores.

        Raises:
            PlaygroundError: What the harness reported, or that it died.
            Stopped: ``cancelled`` said so; the process still runs, until ``kill``.
        """
        for message in self.messages(cancelled):
            if "scores" in message:
                return list(message["scores"])
            if "error" in message:
                raise PlaygroundError.from_json(message["error"], RunError)
            progress(Translatable.from_json(message["step"]), message["progress"])
        raise Stopped(msg("The evaluation was stopped"))

    def died(self, ending: Ending) -> RunError:
        how = (
            msg("signal {signal}", signal=ending.signal) if ending.signal else msg("exit code {code}", code=ending.code)
        )
        return RunError(
            msg("lm-eval's process ended early ({how})", how=how),
            msg("What was answered is kept: the same command goes on from there. The log is {log}.", log=self.log),
        )
