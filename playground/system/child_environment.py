"""What a child process gets of the environment: variables that it is known to need, by name, and no others.

A Space keeps its secrets in variables of any name, so what is passed is listed and not what is held back. Keys to the
Hub, to package indexes and to proxies go to the processes that fetch. A preparation, which starts them, is no such
process: it is told these over its pipe (``hold``), hands them on, and has none of them in its own environment. The
module knows names; it does not know what a child does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

INTERPRETER = (
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_.*|TZ|TMPDIR|TEMP|TMP|SYSTEMROOT|VIRTUAL_ENV|PYTHON.*|(DY)?LD_.*|XDG_.*"
)
"""What Python, a compiler or git needs to start."""
LIBRARIES = r"(OMP|GOMP|KMP|MKL|OPENBLAS|MALLOC|ORT)_.*|GLIBC_TUNABLES"
"""How numerical libraries use cores and memory."""
CACHES = (
    r"HF_(HOME|ENDPOINT|XET_(?!.*TOKEN).*|HUB_(?!.*TOKEN).*|DATASETS_CACHE|DATASETS_OFFLINE|TOKEN_PATH)"
    r"|HUGGINGFACE_HUB_CACHE|TRANSFORMERS_OFFLINE"
)
"""Where the Hub's files are and how it is asked; no token."""
COMPILERS = (
    r"PLAYGROUND_KERNELS|CC|CPATH|C_INCLUDE_PATH|LIBRARY_PATH|COMPILER_PATH|GCC_EXEC_PREFIX|SDKROOT|DEVELOPER_DIR"
    r"|MACOSX_DEPLOYMENT_TARGET|ZIG_.*|NIX_(CFLAGS|LDFLAGS|CC).*"
)
"""Which kernels are compiled, and with what."""
NETWORK = r"SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(?i:(HTTPS?|ALL|NO)_PROXY)"
"""The way out. A proxy's address may hold a password."""
HUB_TOKEN = r"HF_TOKEN|HUGGING_FACE_HUB_TOKEN"
INDEXES = r"PIP_.*|NETRC|DBUS_SESSION_BUS_ADDRESS"
"""pip's own: an index's address may hold a password."""
FETCHED_WITH = (NETWORK, HUB_TOKEN, INDEXES)

_held: dict[str, str] = {}


def passed(*allowed: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of ``env`` whose whole name matches one of the patterns, or one of ``INTERPRETER``.

    Args:
        allowed: Regular expressions, as above.
        env: That of this process by default, with what it holds.
    """
    given = {**os.environ, **_held} if env is None else env
    names = re.compile("|".join((INTERPRETER, *allowed)))
    return {name: value for name, value in given.items() if names.fullmatch(name)}


def keys() -> dict[str, str]:
    """What those who fetch may have and whoever starts them is only to hand on."""
    names = re.compile("|".join(FETCHED_WITH))
    return {name: value for name, value in {**os.environ, **_held}.items() if names.fullmatch(name)}


def hold(given: Mapping[str, str]) -> None:
    """Keep ``keys`` of the parent for children that fetch, out of this process's own environment."""
    _held.update(given)
