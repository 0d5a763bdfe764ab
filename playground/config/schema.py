"""What blocks of YAML may hold, as pydantic models: the types that all of them share, and spaces.yaml's ``app``.

Numbers and texts are taken as they are written, never turned into each other; an unknown key is a mistake. It loads
pydantic: import it where a file is read, not at the top of a module that a worker needs. ``validation.py`` tells the
mistakes.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from playground.config.validation import MAX_REPEATED, Tell, not_an_address, not_text
from playground.errors import ConfigError
from playground.messages import msg

MAX_TIMEOUT_S = 600.0

Count = Annotated[int, Field(gt=0)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A number above 0."""


class Block(BaseModel):
    """A block of keys. Nested ones are built with the outermost, when it is first used: that takes a quarter of the
    time.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True, protected_namespaces=())


def mistake(tell: Tell) -> PydanticCustomError:
    """What a check of ours raises, where pydantic's own words would not do."""
    return PydanticCustomError("told", "see tell", {"tell": tell})


def matching(pattern: str, tell: Tell) -> BeforeValidator:
    """A text of this form and nothing else."""

    def check(value: Any) -> Any:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise mistake(tell)
        return value

    return BeforeValidator(check)


def _filled(value: str) -> str:
    if not value.strip():
        raise mistake(partial(not_text, value))
    return value


def _web(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+\S*", value):
        raise mistake(partial(not_an_address, value))
    return value


# Functions and not patterns: pydantic compiles a pattern for each field that has one, a third of the time to build it.
Text = Annotated[str, AfterValidator(_filled)]
Url = Annotated[str, AfterValidator(_web)]


def _limit(*, whole: bool = False, zero: bool = False) -> BeforeValidator:
    """A number above 0, or from 0 on where ``zero`` says so; or none."""

    def check(value: Any) -> Any:
        found = None if value == "none" else value  # as it is written; YAML's own null does the same
        kinds = (int,) if whole else (int, float)
        is_number = isinstance(found, kinds) and not isinstance(found, bool) and math.isfinite(found)
        if found is not None and not (is_number and (found > 0 or (zero and found == 0))):
            raise mistake(partial(_no_limit, value, zero=zero, whole=whole))
        return found

    return BeforeValidator(check)


def _no_limit(value: Any, place: str, *, zero: bool, whole: bool) -> ConfigError:
    shown = repr(value)[:MAX_REPEATED]
    if zero:
        what = msg("{place} must be a number of at least 0, or none, not {value}", place=place, value=shown)
        return ConfigError(what, msg("0 allows nothing, none allows everything."))
    if whole:
        what = msg("{place} must be a whole number above 0, or none, not {value}", place=place, value=shown)
    else:
        what = msg("{place} must be a number above 0, or none, not {value}", place=place, value=shown)
    return ConfigError(what, msg("none lifts the limit."))


CountOrNone = Annotated[int | None, _limit(whole=True)]
AmountOrNone = Annotated[float | None, _limit()]
RoomOrNone = Annotated[float | None, _limit(zero=True)]


class LimitsBlock(Block):
    """See ``settings.Limits``; what is left out keeps its default there."""

    max_models: Count = 1
    max_new_tokens: Count = 1
    max_prompt_chars: Count = 1
    max_stop_strings: Count = 1
    max_stop_chars: Count = 1
    max_search_chars: Count = 1
    max_call_bytes: Count = 1
    max_api_call_bytes: Count = 1
    max_sessions: Count = 1
    stall_timeout_s: Amount = 1.0
    max_unfinished: Count = 1
    max_unfinished_of_all: Count = 1
    max_suite_answers: Count = 1
    max_waiting: Count = 1
    max_api_waiting: Count = 1
    max_api_waiting_of_all: Count = 1
    max_pages: Count = 1
    max_pages_of_all: Count = 1
    max_page_loads_per_minute: CountOrNone = None
    max_reads_per_minute: CountOrNone = None
    max_calls_per_minute: CountOrNone = None
    max_wrong_passwords: CountOrNone = None
    max_tokens_per_day: CountOrNone = None
    max_run_s: AmountOrNone = None
    visitors_per_address: Count = 1
    left_s: Amount = 1.0
    prepared_gb: RoomOrNone = None
    max_stored: Count = 1
    max_stored_each: Count = 1
    max_stored_days: Amount = 1.0
    memory_mb: Amount = 1.0


class AppBlock(Block):
    """``app`` of spaces.yaml. ``remotes`` are checked by themselves: they may come from the environment as well."""

    models: Annotated[list[Text], Field(min_length=1)]
    space_models: Annotated[list[Text], Field(min_length=1)] | None = None
    limits: LimitsBlock | None = None
    remotes: Any = None
    api: bool | None = None
    prepared_from: Text | None = None
    audience: Literal["public", "own"] | None = None
    login: Literal["none", "password", "hugging-face"] | None = None
    may_add: Literal["nobody", "signed-in", "everyone"] | None = None


_SECRET_WORDS = {"key", "api_key", "apikey", "token", "password", "secret", "authorization"}


def _is_address(value: Any) -> bool:
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return fits and not re.search(r"[\s\x00-\x1f\x7f]", value)


def _address(value: Any) -> Any:
    if not _is_address(value):
        raise mistake(
            lambda place: ConfigError(
                msg("{place} is not an http(s) address", place=place),
                msg("Write for example http://127.0.0.1:8000/v1."),
            )
        )
    parts = urlsplit(value)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise mistake(
            lambda place: ConfigError(
                msg("{place} holds a user name, a password or a query", place=place),
                msg("Leave them out; a key's variable goes into key_env."),
            )
        )
    return value


def _seconds(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_TIMEOUT_S:
        raise mistake(
            lambda place: ConfigError(
                msg(
                    "{place} must be a number of seconds above 0, {most:g} at most",
                    place=place,
                    most=MAX_TIMEOUT_S,
                ),
                msg("Mend it."),
            )
        )
    return value


class EndpointBlock(Block):
    """A model that somebody serves. No message repeats a value in whose place a key could have been written."""

    private: ClassVar[bool] = True

    name: Annotated[
        str,
        matching(
            r"[a-z0-9][a-z0-9._-]*",
            lambda place: ConfigError(
                msg("{place} may have a-z, 0-9, '.', '_' and '-' only", place=place),
                msg("It becomes the remote:NAME you type."),
            ),
        ),
    ]
    model: Annotated[
        str,
        matching(
            r"(?=.*\S)[^\x00-\x1f\x7f]+",
            lambda place: ConfigError(
                msg("{place} must be text", place=place), msg("Write the name the server knows the model by.")
            ),
        ),
    ]
    url: Annotated[str, BeforeValidator(_address)] = ""
    provider: Annotated[
        str,
        matching(
            r"[a-z0-9][a-z0-9-]*",
            lambda place: ConfigError(
                msg("{place} is not the name of an Inference Provider", place=place),
                msg("Write auto, or a name such as together."),
            ),
        ),
    ] = ""
    # Capitals only: most keys have small letters or dashes, so one pasted here is refused without being repeated.
    key_env: Annotated[
        str,
        matching(
            r"[A-Z_][A-Z0-9_]*",
            lambda place: ConfigError(
                msg("{place} is not the name of an environment variable (A-Z, 0-9 and _)", place=place),
                msg("Name the variable that holds the key; never write the key itself here."),
            ),
        ),
    ] = ""
    kind: Literal["chat", "base"] = "chat"
    context_length: Count = 1
    timeout_s: Annotated[float, BeforeValidator(_seconds)] = 60.0
    replicas: Annotated[list[Annotated[str, BeforeValidator(_address)]], Field(max_length=256)] = []
    at_once: Annotated[int, Field(gt=0, le=256)] = 1

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            # Not the value: it may be a key.
            raise mistake(lambda place: _no_block(place, list(cls.model_fields)))
        for key in value:
            if not isinstance(key, str):
                raise mistake(lambda place: _no_block(place, list(cls.model_fields)))
            if key.lower() in _SECRET_WORDS:
                raise mistake(partial(_secret, key))
        return value

    @model_validator(mode="after")
    def _one_address(self) -> EndpointBlock:
        if bool(self.url) == bool(self.provider):
            both = bool(self.url)
            raise mistake(lambda place: _not_one_address(place, both=both))
        if self.provider and self.kind == "base":
            raise mistake(
                lambda place: ConfigError(
                    msg(
                        "{place} asks a provider for a base model; Inference Providers are reached by chat only",
                        place=place,
                    ),
                    msg("Use kind: chat, or give the url of a server with /v1/completions."),
                )
            )
        if self.provider and not self.key_env:
            raise mistake(
                lambda place: ConfigError(
                    msg("{place} has a provider but no key_env", place=place),
                    msg("Add key_env: HF_TOKEN and set that variable."),
                )
            )
        return self


def _no_block(place: str, known: list[str]) -> ConfigError:
    return ConfigError(msg("{place} is not a block of keys", place=place), msg("Known keys: {names}.", names=known))


def _secret(key: str, place: str) -> ConfigError:
    return ConfigError(
        msg("{place} has '{key}': keys don't belong into a configuration", place=place, key=key),
        msg("Put the key into an environment variable and its name into key_env."),
    )


def _not_one_address(place: str, *, both: bool) -> ConfigError:
    if both:
        return ConfigError(msg("{place} has both url and provider", place=place), msg("Give one of them."))
    return ConfigError(msg("{place} has neither url nor provider", place=place), msg("Give one of them."))
