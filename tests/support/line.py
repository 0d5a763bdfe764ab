"""A connection between browser and app that can be cut, can be away for a while, and can be slow."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress


class Line:
    """Passes on what is sent to ``port`` of its own.

    Args:
        to: The port of the app.
        late: Of requests whose first line has this in it, the browser gets the answer so many seconds later.
    """

    def __init__(self, to: int, late: tuple[bytes, float] = (b"", 0.0)) -> None:
        self._to, self._late, self._open, self._there = to, late, set[socket.socket](), True
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self._serving.start()

    def cut(self) -> None:
        """End what is open; what is asked next is refused."""
        self._there = False
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._there = True

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._serving.join(5)
        self._server.close()
        self.cut()
        for each in self._open:
            each.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                here = self._server.accept()[0]
                if not self._there:
                    here.close()
                    continue
                there = socket.create_connection(("127.0.0.1", self._to))
                self._open |= {here, there}
                asked = [b""]
                for one, other in ((here, there), (there, here)):
                    threading.Thread(target=self._pass_on, args=(one, other, asked, one is here), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket, asked: list[bytes], asks: bool) -> None:
        """Pass on one direction of a connection; ``asked`` is what both know of the request."""
        part, late_s = self._late
        with suppress(OSError):
            while sent := one.recv(1 << 20):
                if asks:
                    asked[0] = sent.partition(b"\r\n")[0]
                elif part and part in asked[0]:
                    time.sleep(late_s)
                other.sendall(sent)
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
