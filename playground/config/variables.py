"""Single variables of the environment, each read and checked by itself; ``settings`` puts them together.

What is wrong is told with the variable's name, and with its value where that can be no secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar, get_args

from playground.errors import ConfigError
from playground.messages import msg

PREFIX = "PLAYGROUND_"
NAMES = (
    *("PLAYGROUND_HOME", "PLAYGROUND_SPACE", "PLAYGROUND_CATALOG", "PLAYGROUND_HARDWARE", "PLAYGROUND_MEMORY_MB"),
    *("PLAYGROUND_THREADS", "PLAYGROUND_KV_BITS", "PLAYGROUND_KERNELS", "PLAYGROUND_REMOTES", "PLAYGROUND_AUDIENCE"),
    *("PLAYGROUND_LOGIN", "PLAYGROUND_USERS", "PLAYGROUND_PREPARED_FROM", "PLAYGROUND_HOSTS", "PLAYGROUND_FRAMES"),
    *("PLAYGROUND_API_KEYS", "PLAYGROUND_SECRET", "PLAYGROUND_METRICS_KEY", "PLAYGROUND_LOG", "PLAYGROUND_KEEP_DAYS"),
    *("PLAYGROUND_RAY", "PLAYGROUND_RAY_REPLICAS", "PLAYGROUND_OLLAMA", "PLAYGROUND_LMSTUDIO", "PLAYGROUND_LANGUAGE"),
)
"""Every setting of the environment that is the playground's own, whoever reads it."""

Audience = Literal["public", "own"]
"""Who uses the web app: strangers, of whom nothing is known, or people who may do what whoever started it may."""
AUDIENCES: tuple[Audience, ...] = get_args(Audience)
LogFormat = Literal["text", "json"]
LOG_FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)
Word = TypeVar("Word", bound=str)

SECRET_CHARS = 32
KEY_CHARS = 16
HUB_FRAMES = ("https://huggingface.co", "https://*.huggingface.co", "https://*.hf.space")
MAKE_ONE = msg('Make one: python -c "import secrets; print(secrets.token_urlsafe(32))".')


def word(env: Mapping[str, str], name: str, known: Sequence[Word]) -> Word | None:
    """The one of ``known`` that a variable is set to; None where it is not set.

    Raises:
        ConfigError: It is none of them.
    """
    text = env.get(name, "").strip()
    found = next((each for each in known if each == text), None)
    if text and found is None:
        raise ConfigError(
            msg("{name} is {value}", name=name, value=repr(text)),
            msg("Set it to {names}, or unset it.", names=list(known)),
        )
    return found


def number(env: Mapping[str, str], name: str, default: int, least: int, most: int | None = None) -> int:
    """A whole number, or ``default`` where the variable is not set.

    Raises:
        ConfigError: It is none, or outside of ``least`` to ``most``.
    """
    text = env.get(name)
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise ConfigError(
            msg("{name}={value} is not a whole number of at least {least}", name=name, value=repr(text), least=least),
            msg("Set {name} to one or unset it.", name=name),
        )
    if most is not None and value > most:
        raise ConfigError(
            msg("{name}={value} is more than {most}", name=name, value=repr(text), most=most),
            msg("Set {name} to a smaller one or unset it.", name=name),
        )
    return value


def kv_bits(env: Mapping[str, str]) -> int:
    """PLAYGROUND_KV_BITS."""
    bits = number(env, "PLAYGROUND_KV_BITS", 16, least=1)
    if bits not in (8, 16):
        raise ConfigError(
            msg("PLAYGROUND_KV_BITS is {bits}: keys and values have 16 bits or 8", bits=bits),
            msg("Set it to 8, or unset it."),
        )
    return bits


def hosts(env: Mapping[str, str], *, on_space: bool) -> tuple[str, ...]:
    """The names of PLAYGROUND_HOSTS and, on a Space, the one that the Hub gives it."""
    named = _listed(env, "PLAYGROUND_HOSTS")
    for name in named:
        if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d{1,5})?", name):
            raise ConfigError(
                msg("PLAYGROUND_HOSTS: {name} is not the name of a host", name=repr(name)),
                msg("Write names alone, without https:// and paths, e.g. PLAYGROUND_HOSTS=play.example.org,10.0.0.5."),
            )
    return tuple(dict.fromkeys([*named, *(_listed(env, "SPACE_HOST") if on_space else ())]))


def frames(env: Mapping[str, str], *, on_space: bool) -> tuple[str, ...]:
    """The websites of PLAYGROUND_FRAMES and, on a Space, those of the Hub, which shows every Space in a frame."""
    named = _listed(env, "PLAYGROUND_FRAMES")
    for name in named:
        if not re.fullmatch(r"(https?://)?(\*\.)?[A-Za-z0-9.-]+(:(\d{1,5}|\*))?", name):
            raise ConfigError(
                msg("PLAYGROUND_FRAMES: {name} is not a website", name=repr(name)),
                msg("Write names without paths, e.g. PLAYGROUND_FRAMES=https://intranet.example.org,*.example.com."),
            )
    return tuple(dict.fromkeys([*named, *(HUB_FRAMES if on_space else ())]))


def secret(env: Mapping[str, str]) -> str:
    """PLAYGROUND_SECRET."""
    found = env.get("PLAYGROUND_SECRET", "").strip()
    if found and len(found) < SECRET_CHARS:
        raise ConfigError(
            msg("PLAYGROUND_SECRET is shorter than {least} characters: it could be guessed", least=SECRET_CHARS),
            MAKE_ONE,
        )
    return found


def metrics_key(env: Mapping[str, str]) -> str:
    """PLAYGROUND_METRICS_KEY."""
    key = env.get("PLAYGROUND_METRICS_KEY", "").strip()
    if key and not _is_key(key):
        raise ConfigError(
            msg(
                "PLAYGROUND_METRICS_KEY is shorter than {least} characters, or has others than ASCII's", least=KEY_CHARS
            ),
            MAKE_ONE,
        )
    return key


def api_keys(env: Mapping[str, str]) -> tuple[str, ...]:
    """PLAYGROUND_API_KEYS."""
    keys = _listed(env, "PLAYGROUND_API_KEYS")
    for place, key in enumerate(keys, start=1):
        if not _is_key(key):
            raise ConfigError(
                msg(
                    "PLAYGROUND_API_KEYS: key {number} is shorter than {least} characters, or has others than ASCII's",
                    number=place,
                    least=KEY_CHARS,
                ),
                MAKE_ONE,
            )
    return keys


def prepared_from(text: str) -> str:
    """PLAYGROUND_PREPARED_FROM, or ``app.prepared_from``, without ``hub:``."""
    name = text.strip().removeprefix("hub:")
    if name and not re.fullmatch(r"[\w.-]+/[\w.-]+(#[\w./-]+)?", name):
        raise ConfigError(
            msg("prepared_from is {name}, which is not OWNER/NAME[#REVISION]", name=repr(name)),
            msg("Name the repository that `playground prepare --push-to` filled."),
        )
    return name


def _listed(env: Mapping[str, str], name: str) -> tuple[str, ...]:
    """What stands in a variable with commas between it."""
    return tuple(each.strip() for each in env.get(name, "").split(",") if each.strip())


def _is_key(text: str) -> bool:
    return len(text) >= KEY_CHARS and re.fullmatch(r"[!-~]+", text) is not None
