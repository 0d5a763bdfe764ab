"""How much a server has room for: connections, and requests of one address under way, with the open files for both.

The page's server and the door's own have theirs by this alone. Who runs the server is let in where nobody else is. It
knows settings and limits; it does not know what is asked.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from playground.api.connections import SPARE, bounded
from playground.api.crowd import Crowd, Refuse
from playground.api.operations import OPERATIONS
from playground.errors import ConfigError
from playground.messages import msg
from playground.service.addresses import whence

if TYPE_CHECKING:
    from playground.config.settings import Settings

OWN_FILES = 100
"""That an app has open beside its connections: databases, logs, the pipes of its models."""


class Room:
    """One server's.

    Args:
        settings: Of an app that others than this process ask; None of one that it asks itself.
        connections: That it keeps.
        refused: Told the name of the limit whenever somebody reached it.

    Attributes:
        protocol: What uvicorn is to answer connections by.

    Raises:
        ConfigError: The machine allows fewer.
    """

    def __init__(
        self,
        settings: Settings | None,
        connections: int,
        refused: Callable[[str], object] = lambda limit: None,
    ) -> None:
        strangers, on_space = (settings.strangers, settings.on_space) if settings else (False, False)
        if strangers:
            allow(connections)
        self._of_one = connections // 2 if strangers else None
        self._whence = partial(whence, behind_proxy=on_space)
        self._refused = refused
        # A Space's proxy is not one that uvicorn knows: all connections are its.
        self.protocol = bounded(connections, None if on_space else self._of_one, OPERATIONS, refused)

    def shared(self, app: Any, refuse: Refuse) -> Any:
        """The app, of whose requests under way one address leaves half to others where strangers come.

        Args:
            refuse: Tells those beyond.
        """
        if self._of_one is None:
            return app
        return Crowd(app, self._of_one, self._whence, refuse, self._refused, free=OPERATIONS)


def allow(connections: int) -> None:
    """See to it that this process may have so many connections open, beside its own files.

    Raises:
        ConfigError: The machine does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted, endless = connections + SPARE + OWN_FILES, resource.RLIM_INFINITY
    if soft == endless or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError) as error:
        raise ConfigError(
            msg(
                "The limits of spaces.yaml mean {connections:,} connections, and {wanted:,} open files with the rest; "
                "this process may open {most:,}",
                connections=connections,
                wanted=wanted,
                most=soft if hard == endless else hard,
            ),
            msg("Lower max_pages_of_all or max_api_waiting_of_all, or allow more (ulimit -n {wanted}).", wanted=wanted),
        ) from error
