"""The app under visitors: many at once through its real queue, and one after the other for long.

    python -m playground bench load [--visitors 50] [--minutes 10] [--soak 500] [--seed 0] [--json]

    load    each visitor, with a cookie and a session of their own, asks two scripted models, reads the answer for a
            moment and asks again; every tenth time they leave as soon as they are served. How long they waited by
            their place in the queue, what failed, and how evenly answers were given (Jain's index, "A Quantitative
            Measure of Fairness and Discrimination", 1984: 1 where all visitors have as many, 1/n where one has all)
    soak    runs by four visitors who come back again and again: memory, open files, processes and shared memory of the
            app and its children, the last quarter of the runs beside the second

The app runs in a process of its own, with an audience of strangers. The models compute nothing: what is measured is
the app, not an engine. Nothing of a run may be lost: each that was asked for has an answer, an error, a refusal, or was
left by its visitor.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
import psutil
import yaml

from benchmarks.app import app
from benchmarks.engine import note
from playground.config.settings import load_settings
from playground.errors import PlaygroundError

GOALS = {"fairness": 0.9, "growth": 0.05}
MODELS = ("brief", "slower")
ANSWERS = {"brief": ("A short answer.", 0.005), "slower": ("An answer that takes a little longer than that.", 0.01)}
PLACES = (1, 5, 10, 20, 40)
"""Upper ends of the groups of places in the queue."""
ENDS = ("answered", "left", "refused", "failed", "lost")
READS_S = 4.0
"""A visitor reads this long on average before asking again."""
LEAVES_EVERY = 10
SHM = Path("/dev/shm")


@dataclass
class Asked:
    """One run that a visitor asked for.

    Attributes:
        place: In gradio's queue when it was joined, from 0; -1 where it was not told.
        waited_s: From asking to the answer.
        ended: One of ``ENDS``.
        said: Why it was refused or failed.
        again_s: Where it was refused, after how long to ask again.
    """

    visitor: int
    place: int = -1
    waited_s: float = 0.0
    ended: str = "lost"
    said: str = ""
    again_s: float = 1.0


@dataclass
class Held:
    """What the app and its children hold.

    Attributes:
        memory_mb: Resident memory, of each page that several hold their share (PSS), in MB.
        files: Open files and sockets of the app itself.
        processes: It and its children.
        shared_memory: Files in /dev/shm.
    """

    memory_mb: float
    files: int
    processes: int
    shared_memory: int


@dataclass
class Visitors:
    """Clients of one app, all on one event loop."""

    url: str
    function: int
    asked: list[Asked] = field(default_factory=list)

    @classmethod
    async def of(cls, url: str) -> Visitors:
        async with httpx2.AsyncClient(timeout=60) as web:
            known = (await web.get(f"{url}config")).json()
        number = next(each["id"] for each in known["dependencies"] if each["api_name"] == "compare")
        return cls(url, number)

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(timeout=300, headers={"Origin": self.url.rstrip("/")})

    async def ask(self, web: httpx2.AsyncClient, visitor: int, *, leaves: bool = False) -> Asked:
        """Ask once and wait for the end; ``leaves``: no longer than until it is served."""
        asked = Asked(visitor)
        self.asked.append(asked)
        began, session = time.monotonic(), secrets.token_hex(8)
        data = ["Say it.", list(MODELS), "", 32, 0.0, 0, 1.0, 0.0, 1.0, 0, [], "fair", False, [], []]
        body = {"data": data, "fn_index": self.function, "session_hash": session}
        answer = await web.post(f"{self.url}gradio_api/queue/join", json=body)
        if answer.status_code in {429, 503}:
            asked.ended, asked.said = "refused", answer.text[:200]
            asked.again_s = float(answer.headers.get("Retry-After", asked.again_s))
        elif answer.status_code != 200:
            asked.ended, asked.said = "failed", f"{answer.status_code} {answer.text[:200]}"
        else:
            await self._follow(web, session, asked, leaves=leaves)
        asked.waited_s = time.monotonic() - began
        return asked

    async def _follow(self, web: httpx2.AsyncClient, session: str, asked: Asked, *, leaves: bool) -> None:
        address = f"{self.url}gradio_api/queue/data?session_hash={session}"
        async with web.stream("GET", address) as stream:
            async for line in stream.aiter_lines():
                told = json.loads(line[6:]) if line.startswith("data: ") else {}
                kind = told.get("msg")
                if kind == "estimation" and asked.place < 0:
                    asked.place = told.get("rank") or 0
                if kind == "process_starts" and leaves:
                    asked.ended = "left"
                    return
                if kind == "process_completed":
                    asked.ended, asked.said = ended(told)
                    return


def ended(told: Mapping[str, Any]) -> tuple[str, str]:
    """How a run ended by gradio's last message of it, and what was said if it was not answered."""
    output = told.get("output") or {}
    if not told.get("success"):
        said = str(output.get("error") or "no reason was given")
        return ("refused" if output.get("title") == "Busy" or "waiting" in said else "failed"), said
    runs = output["data"][0]["runs"]
    wrong = [str(run["error"]) for run in runs if run.get("error") or not run.get("text")]
    return ("failed", wrong[0]) if wrong else ("answered", "")


async def load(url: str, visitors: int, seconds: float, seed: int) -> list[Asked]:
    """``visitors`` at once for so long; then each waits for what they asked for last."""
    all_ = await Visitors.of(url)
    until = time.monotonic() + seconds

    async def visit(number: int) -> None:
        chance = random.Random(seed * 1000 + number)
        async with all_.client() as web:
            await asyncio.sleep(chance.uniform(0, READS_S))
            await web.get(url)  # the page brings the cookie
            turn = 0
            while time.monotonic() < until:
                turn += 1
                await all_.ask(web, number, leaves=turn % LEAVES_EVERY == 0)
                await asyncio.sleep(min(chance.expovariate(1 / READS_S), max(0.0, until - time.monotonic())))

    await asyncio.gather(*(visit(number) for number in range(visitors)))
    return all_.asked


async def soak(url: str, process: psutil.Process, runs: int) -> tuple[list[Asked], list[Held]]:
    """``runs`` by four visitors, who wait as long as they are told where they are refused and ask again; what the app
    holds after each fortieth of them.
    """
    all_ = await Visitors.of(url)
    left, seen = iter(range(runs)), [held(process)]

    async def visit(number: int) -> None:
        for place in left:
            async with all_.client() as web:  # who comes back brings no cookie
                while (asked := await all_.ask(web, number)).ended == "refused":
                    await asyncio.sleep(asked.again_s)
            if place % max(1, runs // 40) == 0:
                seen.append(held(process))

    await asyncio.gather(*(visit(number) for number in range(4)))
    await asyncio.sleep(2)
    return all_.asked, [*seen, held(process)]


def held(process: psutil.Process) -> Held:
    """What the app and its children hold now."""
    memory, count = 0, 0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            memory += each.memory_full_info().pss
            count += 1
    return Held(memory / 1e6, process.num_fds(), count, sum(1 for _ in SHM.iterdir()) if SHM.is_dir() else 0)


def fairness(asked: Sequence[Asked], visitors: int) -> float:
    """Jain's index of the answers that each visitor got."""
    answers = Counter(each.visitor for each in asked if each.ended == "answered")
    counts = [answers[number] for number in range(visitors)]
    squares = sum(count * count for count in counts)
    return sum(counts) ** 2 / (visitors * squares) if squares else 0.0


def quantile(values: Sequence[float], share: float) -> float:
    """Of at least one value, the one that ``share`` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def by_place(asked: Sequence[Asked]) -> list[dict[str, float]]:
    """Waits by the place in the queue when it was joined: runs, median and 95th percentile in seconds."""
    found, low = [], 0
    for high in (*PLACES, 10_000):
        waits = [each.waited_s for each in asked if each.ended == "answered" and low <= each.place < high]
        if waits:
            about = {"from": low, "below": high, "runs": len(waits), "p50_s": statistics.median(waits)}
            found.append({**about, "p95_s": quantile(waits, 0.95)})
        low = high
    return found


def growth(seen: Sequence[float]) -> float:
    """By what share the median of the last quarter is above that of the second."""
    quarter = max(1, len(seen) // 4)
    before, after = statistics.median(seen[quarter : 2 * quarter]), statistics.median(seen[-quarter:])
    return after / before - 1 if before else 0.0


def summary(asked: Sequence[Asked]) -> dict[str, Any]:
    """How runs ended, and what was said of those that failed."""
    waits = [each.waited_s for each in asked if each.ended == "answered"]
    return {
        "asked": len(asked),
        **{
            kind: sum(each.ended == kind for each in asked)
            for kind in ("answered", "left", "refused", "failed", "lost")
        },
        "p50_s": statistics.median(waits) if waits else None,
        "p95_s": quantile(waits, 0.95) if waits else None,
        "said": dict(Counter(each.said for each in asked if each.ended in {"failed", "refused"}).most_common(5)),
    }


def scripted(folder: Path) -> dict[str, str]:
    """Two models that compute nothing, served to strangers; the environment of an app with them."""
    models = [
        {
            "id": name,
            "name": name.capitalize(),
            "kind": "chat",
            "task": "text-generation",
            "context_length": 512,
            "source": f"fake:text={text.replace(' ', '+')}&step_s={step}",
            "revision": "none",
            "variants": ["fake-none"],
        }
        for name, (text, step) in ANSWERS.items()
    ]
    limits = {"max_models": 2, "max_new_tokens": 64, "max_prompt_chars": 2000, "max_sessions": 8, "stall_timeout_s": 30}
    served = {"audience": "public", "models": list(MODELS), "limits": limits}
    (folder / "catalog.yaml").write_text(yaml.safe_dump({"schema_version": 1, "models": models}), encoding="utf-8")
    (folder / "served.yaml").write_text(yaml.safe_dump({"app": served}), encoding="utf-8")
    return {"PLAYGROUND_CATALOG": str(folder / "catalog.yaml"), "PLAYGROUND_SPACE": str(folder / "served.yaml")}


def measure(visitors: int, seconds: float, runs: int, seed: int = 0) -> dict[str, Any]:
    """Both parts on one app: what was asked for and how it ended, waits, fairness, and what the app holds.

    Raises:
        RunError: The app did not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with (
            patch.dict("os.environ", scripted(Path(folder))),
            app(replace(load_settings(), home=home)) as (url, process),
        ):
            found: dict[str, Any] = {"visitors": visitors, "seconds": seconds, "before": vars(held(process))}
            if seconds > 0:
                note(f"{visitors} visitors, {seconds:.0f} s")
                asked = asyncio.run(load(url, visitors, seconds, seed))
                found |= {"load": summary(asked), "places": by_place(asked), "fairness": fairness(asked, visitors)}
            if runs:
                note(f"{runs} runs, four at a time")
                asked, seen = asyncio.run(soak(url, process, runs))
                found |= {"soak": summary(asked), "held": [vars(each) for each in seen]}
                found["growth"] = growth([each.memory_mb for each in seen])
            found["after"] = vars(held(process))
    return found


def table(found: Mapping[str, Any]) -> str:
    """The figures as lines of text."""
    lines = []
    if ran := found.get("load"):
        lines += [f"{found['visitors']} visitors, {found['seconds']:.0f} s: {counted(ran)}"]
        lines += [f"  fairness {found['fairness']:.3f} (Jain's index; goal {GOALS['fairness']})"]
        lines += [
            f"  place {each['from']} to {each['below'] - 1}: {each['runs']} runs, "
            f"p50 {each['p50_s']:.2f} s, p95 {each['p95_s']:.2f} s"
            for each in found["places"]
        ]
        lines += [f"  {count} × {said}" for said, count in ran["said"].items()]
    if ran := found.get("soak"):
        lines += [f"soak: {counted(ran)}", f"  memory {100 * found['growth']:+.1f} % (goal ± 5 %)"]
        lines += [f"  {count} × {said}" for said, count in ran["said"].items()]
    for name in ("before", "after"):
        told = found[name]
        lines.append(
            f"{name}: {told['memory_mb']:.0f} MB, {told['files']} files, {told['processes']} processes, "
            f"{told['shared_memory']} in /dev/shm"
        )
    return "\n".join(lines)


def counted(ran: Mapping[str, Any]) -> str:
    ends = ", ".join(f"{ran[kind]} {kind}" for kind in ENDS)
    waits = f"; p50 {ran['p50_s']:.2f} s, p95 {ran['p95_s']:.2f} s" if ran["p50_s"] is not None else ""
    return f"{ran['asked']} runs asked for, {ends}{waits}"


def main(arguments: list[str] | None = None) -> int:
    """Print the figures, or all of them as JSON; 1 if something failed or was lost."""
    parser = argparse.ArgumentParser(prog="python -m playground bench load", description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--soak", type=int, default=500, help="runs; 0 leaves this part out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found = measure(options.visitors, options.minutes * 60, options.soak, options.seed)
    print(json.dumps(found) if options.json else table(found))
    parts = [found[part] for part in ("load", "soak") if part in found]
    return int(any(part["failed"] or part["lost"] for part in parts))


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except PlaygroundError as error:
        raise SystemExit(f"{error}") from error
