"""Keys of the server for agents are guessed as slowly as all others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from playground.config.settings import Settings
from playground.service import Playground

pytest.importorskip("mcp", reason="the extra mcp is not installed")

from playground.mcp.serving import PATH, opened

pytestmark = [pytest.mark.waits, pytest.mark.hostile]

KEY, MOST = "a-key-of-the-tests-0123456789", 3


def test_wrong_keys_of_one_address_are_slowed_and_a_right_one_is_taken_from_elsewhere(settings: Settings) -> None:
    limits = replace(settings.limits, max_wrong_passwords=MOST)

    async def work(playground: Playground) -> None:
        async with opened(playground) as app:

            async def asked(key: str, address: str) -> httpx2.Response:
                transport = httpx2.ASGITransport(app, client=(address, 1))
                sent: dict[str, Any] = {"json": {}, "headers": {"Authorization": f"Bearer {key}"}}
                async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                    return await client.post(PATH, **sent)

            guesses = [(await asked(f"guess {number}", "192.0.2.1")).status_code for number in range(MOST + 2)]
            assert guesses == [401] * MOST + [429] * 2
            refused = await asked(KEY, "192.0.2.1")
            assert refused.status_code == 429, "not even the right one is looked at: the answer would tell that it is"
            assert 1 <= int(refused.headers["retry-after"]) <= 300
            assert f"{MOST} wrong passwords or keys" in refused.json()["error"]
            assert (await asked(KEY, "192.0.2.2")).status_code not in (401, 429)
            same = [(await asked("an-old-key", "192.0.2.2")).status_code for _ in range(3 * MOST)]
            assert same == [401] * 3 * MOST, "the same one again is no further guess"
            assert (await asked(KEY, "192.0.2.2")).status_code not in (401, 429)

    with Playground(replace(settings, api_keys=(KEY,), limits=limits)) as playground:
        asyncio.run(work(playground))
