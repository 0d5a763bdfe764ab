"""Programs that speak OpenAI's API, as people have them: each asks the door without knowing what it is."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from playground.service import Playground
from tests.support.door import served

pytestmark = pytest.mark.waits

KEY = "a-key-for-real-clients"
HI = [{"role": "user", "content": "Hi"}]
PARIS = "Paris is the capital of France."


@pytest.fixture(scope="module")
def base(models: Playground) -> Iterator[str]:
    """The address that clients are given; they have to send the key."""
    with served(models, keys=[KEY]) as url:
        yield f"{url}/v1"


@pytest.fixture
def client(base: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base, api_key=KEY, max_retries=0) as client:
        yield client


def test_openais_client_asks_and_lists(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()][:3] == ["fast@fake-none", "slow@fake-none", "base@fake-none"]
    assert client.models.retrieve("fast@fake-none").owned_by == "local"
    said = client.chat.completions.create(model="fast", messages=HI, logprobs=True, top_logprobs=1)  # type: ignore[call-overload]
    assert said.choices[0].message.content == PARIS
    assert said.choices[0].logprobs.content[0].token == "Paris "
    assert said.usage.completion_tokens == 6
    assert said.model_extra["timings"]["predicted_n"] == 6
    assert said.model_extra["receipt"]
    done = client.completions.create(model="base", prompt=["a", "b"], logprobs=1, echo=True, max_tokens=1)
    assert [choice.text for choice in done.choices] == ["aso ", "bso "]
    assert done.choices[0].logprobs


def test_openais_client_streams(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="fast",
        messages=HI,  # type: ignore[arg-type]
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == PARIS
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 6
    with client.chat.completions.stream(model="fast", messages=HI) as events:  # type: ignore[arg-type]
        assert events.get_final_completion().choices[0].message.content == PARIS


def test_openais_async_client_asks_for_several_at_once(base: str) -> None:
    async def ask() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=base, api_key=KEY, max_retries=0) as client:
            calls = [client.chat.completions.create(model="fast", messages=HI) for _ in range(4)]  # type: ignore[call-overload]
            whole = [said.choices[0].message.content for said in await asyncio.gather(*calls)]
            stream = await client.chat.completions.create(model="fast", messages=HI, stream=True)  # type: ignore[call-overload]
            return [*whole, "".join([chunk.choices[0].delta.content or "" async for chunk in stream])]

    assert asyncio.run(ask()) == [PARIS] * 5


def test_openais_client_raises_its_own_errors(base: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Unknown model 'fst'"):
        client.chat.completions.create(model="fst", messages=HI)  # type: ignore[call-overload]
    with pytest.raises(openai.BadRequestError, match="tools is not supported") as refused:
        client.chat.completions.create(model="fast", messages=HI, tools=[{"type": "function"}])  # type: ignore[call-overload]
    assert refused.value.param == "tools"
    with pytest.raises(openai.InternalServerError, match="token 3 fails"):
        client.chat.completions.create(model="fails", messages=HI)  # type: ignore[call-overload]
    with pytest.raises(openai.APIError, match="token 3 fails"):
        list(client.chat.completions.create(model="fails", messages=HI, stream=True))  # type: ignore[call-overload]
    stranger = openai.OpenAI(base_url=base, api_key="wrong", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_openais_client_that_breaks_a_stream_off_is_no_trouble(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="endless", messages=HI, stream=True)  # type: ignore[call-overload]
    next(iter(stream))
    stream.close()
    assert client.chat.completions.create(model="fast", messages=HI).choices  # type: ignore[call-overload]


def test_litellm(base: str) -> None:
    """In a process of its own: it warns of much that is not ours."""
    pytest.importorskip("litellm")
    code = f"""
import json, litellm
ask = dict(model="openai/fast", api_base={base!r}, api_key={KEY!r}, messages={HI!r}, num_retries=0)
whole = litellm.completion(**ask)
stream = "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(**ask, stream=True))
text = litellm.text_completion(model="text-completion-openai/base", api_base={base!r}, api_key={KEY!r}, prompt="a")
print(json.dumps([whole.choices[0].message.content, stream, whole.usage.completion_tokens, text.choices[0].text]))
"""
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HTTP_PROXY": "", "HTTPS_PROXY": "", "NO_PROXY": "*"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=env, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.strip().splitlines()[-1]) == [PARIS, PARIS, 6, "and so on and so forth"]


def curl(base: str, path: str, *more: str) -> str:
    command = ["curl", "-sS", "--noproxy", "*", f"{base}{path}", "-H", f"Authorization: Bearer {KEY}", *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def test_curl(base: str) -> None:
    asked = json.dumps({"model": "fast", "messages": HI, "stream": True})
    said = curl(base, "/chat/completions", "-N", "--json", asked).strip().split("\n\n")
    assert said[-1] == "data: [DONE]"
    deltas = [json.loads(each.removeprefix("data: "))["choices"][0]["delta"].get("content", "") for each in said[:-1]]
    assert "".join(deltas) == PARIS
    assert json.loads(curl(base, "/models"))["object"] == "list"


def test_inspect_ai(base: str, tmp_path: Path) -> None:
    """It wants an older fsspec than datasets has, so it stands in an environment of its own: INSPECT_PYTHON names it.

    python -m venv peers/inspect && peers/inspect/bin/pip install inspect-ai==0.3.285 openai==3.54.0
    """
    python = os.environ.get("INSPECT_PYTHON", "")
    if not python:
        pytest.skip("INSPECT_PYTHON names no interpreter with inspect-ai")
    code = """
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
samples = [Sample(input="Hi", target="Paris"), Sample(input="Ho", target="London")]
(log,) = eval(Task(dataset=samples, scorer=includes()), model="openai-api/door/fast", display="none", max_tokens=32)
print(log.status, log.results.scores[0].metrics["accuracy"].value, log.samples[0].output.completion)
"""
    env = {**os.environ, "DOOR_API_KEY": KEY, "DOOR_BASE_URL": base, "INSPECT_LOG_DIR": str(tmp_path), "NO_PROXY": "*"}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=120, env=env, check=False)
    assert done.stdout.strip().endswith(f"success 0.5 {PARIS}"), done.stdout[-2000:] + done.stderr[-2000:]
