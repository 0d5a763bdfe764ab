"""From the upload to a Space that answers.

Its stages are followed, the end of its log is shown where it fails, and at last the app itself is asked for its health.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playground.deploy.upload import Deployed
from playground.errors import PlaygroundError, Stopped
from playground.messages import NOTHING, Translatable, foreign, msg, sentences
from playground.records import Record
from playground.sources.files import Cancelled, Progress
from playground.sources.hub.writing import writing_errors

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LOG_LINES = 30
POLL_S = 5.0
SETTLES_S = 20.0
"""How long after an upload a stage is doubted in which nothing happens: it may be that of the commit before."""
MISSED = 3
"""So many questions after each other may go unanswered."""
FAILED = {
    "BUILD_ERROR": msg("The packages could not be installed: mend requirements.txt, then deploy again."),
    "RUNTIME_ERROR": msg("The app ended: mend what its log says, then deploy again."),
    "CONFIG_ERROR": msg("The Hub does not take the README's block: `playground space check`, then deploy again."),
    "NO_APP_FILE": msg("The Hub finds no app file: `playground space check`, then deploy again."),
    "PAUSED": msg("Somebody paused it: restart it in its settings."),
    "STOPPED": msg("It sleeps or was stopped: restart it in its settings."),
    "DELETING": msg("Somebody is deleting it: choose another name."),
}
"""Stages that nothing follows by itself, and the next step."""
HEALTH_S = 60.0
"""How long a Space that runs may take to answer."""
HEALTH = "/healthz"


@dataclass(frozen=True)
class Running(Record):
    """A Space that runs.

    Attributes:
        health: What its ``/healthz`` said; empty where it was not asked, and ``note`` says why.
    """

    stage: str
    hardware: str
    waited_s: float
    health: str
    note: Translatable = NOTHING


def wait_until_running(
    deployed: Deployed,
    progress: Progress,
    cancelled: Cancelled,
    *,
    timeout_s: float,
    poll_s: float = POLL_S,
    settles_s: float = SETTLES_S,
    api: HfApi | None = None,
) -> Running:
    """Follow the Space until it runs this commit and answers.

    Args:
        timeout_s: Of building and starting together.

    Raises:
        Stopped: ``cancelled`` said so; the Space goes on by itself.
        PlaygroundError: It did not build, did not start, or does not answer; says why and what to do.
    """
    from huggingface_hub import HfApi

    hub, began, doubted = api or HfApi(), time.monotonic(), not deployed.nothing_changed
    missed = 0
    while True:
        try:
            with writing_errors(deployed.repo):
                runtime = hub.get_space_runtime(deployed.repo)
        except PlaygroundError:
            missed += 1  # a Hub that stumbles once in ten minutes ends nothing
            if missed == MISSED:
                raise
            _sleep(poll_s, cancelled, deployed)
            continue
        missed = 0
        stage, waited = str(getattr(runtime.stage, "value", runtime.stage)), time.monotonic() - began
        sha = str(runtime.raw.get("sha") or "")
        if "BUILDING" in stage or "STARTING" in stage:
            doubted = False  # what comes after this is of what was uploaded
        elif stage == "RUNNING" and sha == deployed.commit:
            doubted = False
        settled = not doubted or waited > settles_s
        if stage == "RUNNING" and settled and sha in ("", deployed.commit):
            health, note = _health(deployed, runtime, cancelled, poll_s)
            return Running(stage, str(runtime.hardware or ""), time.monotonic() - began, health, note)
        if settled and stage in FAILED:
            raise _failed(hub, deployed.repo, stage, runtime)
        if waited > timeout_s:
            took = waited / 60
            raise PlaygroundError(
                msg("{repo} is still {stage} after {n:.0f} minutes", repo=deployed.repo, stage=stage, n=took),
                msg("Look at {address}; the same command waits again.", address=deployed.address),
            )
        progress(msg("the Space is {stage}", stage=stage), None)
        _sleep(poll_s, cancelled, deployed)


def _failed(hub: HfApi, repo: str, stage: str, runtime: Any) -> PlaygroundError:
    said = str(runtime.raw.get("errorMessage") or "")
    log = _log(hub, repo, build=stage == "BUILD_ERROR")
    what = msg("{repo} does not run: {stage}", repo=repo, stage=stage)
    told = sentences(
        msg("{what} ({why})", what=what, why=foreign(said)) if said else what,
        msg("\nThe end of its log:\n{log}\n", log=foreign(log)) if log else NOTHING,
    )
    return PlaygroundError(told, FAILED[stage])


def _log(hub: HfApi, repo: str, *, build: bool) -> str:
    """The last lines; empty where the Hub has none for us, for the stage is worth telling by itself."""
    try:
        lines = list(itertools.islice(hub.fetch_space_logs(repo, build=build), 100_000))
    except Exception:  # whatever stands in the way of a log hides no failure
        return ""
    return "\n".join("".join(lines).splitlines()[-LOG_LINES:])


def _health(deployed: Deployed, runtime: Any, cancelled: Cancelled, poll_s: float) -> tuple[str, Translatable]:
    """What the app says of itself.

    Raises:
        PlaygroundError: It does not answer, or says that it is not well.
    """
    if deployed.private:
        return "", msg("It is private: whether it answers is to be seen in a browser that is logged in.")
    host = deployed.host or _domain(runtime)
    if not host:
        return "", msg("The Hub does not say where it answers.")
    found = _ask(host.rstrip("/") + HEALTH, lambda: _sleep(min(poll_s, 2.0), cancelled, deployed))
    if found[0] == 200:
        return found[1], NOTHING
    raise PlaygroundError(
        msg(
            "{repo} runs, and {door} of it does not answer as it should: {said}",
            repo=deployed.repo,
            door=HEALTH,
            said=foreign(found[1]),
        ),
        msg("Look at its log on {address}.", address=deployed.address),
    )


def _ask(address: str, wait: Callable[[], None]) -> tuple[int, str]:
    """Status and text; asked again for a while, because the door opens a moment after the Hub says RUNNING."""
    import httpx2

    end = time.monotonic() + HEALTH_S
    while True:
        try:
            answer = httpx2.get(address, timeout=10.0, follow_redirects=False)
            status, said = answer.status_code, answer.text.strip()[:200]
        except httpx2.HTTPError as error:
            status, said = 0, str(error) or type(error).__name__
        if status == 200 or time.monotonic() > end:
            return status, said if status in (0, 200) else f"HTTP {status} {said}"
        wait()


def _domain(runtime: Any) -> str:
    domains = runtime.raw.get("domains") or ()
    return next((f"https://{each['domain']}" for each in domains if each.get("domain")), "")


def _sleep(seconds: float, cancelled: Cancelled, deployed: Deployed) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if cancelled():
            raise Stopped(msg("Waiting for {repo} was called off; it goes on by itself", repo=deployed.repo))
        time.sleep(min(0.2, left))
