"""The door beside another app on the same port: what is the door's goes there, everything else to the app."""

from __future__ import annotations

import re
from typing import Any

PATHS = re.compile(r"/v1(/.*)?|/(tokenize|detokenize|apply-template|props|health)")


class Beside:
    """ASGI middleware, to be the outermost: the door has a guard of its own."""

    def __init__(self, app: Any, door: Any) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        is_doors = scope["type"] == "http" and PATHS.fullmatch(scope["path"])
        await (self._door if is_doors else self._app)(scope, receive, send)
