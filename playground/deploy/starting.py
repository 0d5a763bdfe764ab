"""What would keep a Space from starting, found by the app's own checks before anything is uploaded.

A Space has nobody who reads its first error: it is built for minutes, ends, and its page says so. The environment that
it will have is known before: what the Hub gives every Space, the variables of spaces.yaml and its secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from playground.catalog.entries import load_catalog
from playground.config.starting import app_mistakes, check_start, variable_mistake
from playground.deploy.space_file import OAUTH
from playground.errors import ConfigError
from playground.messages import Translatable, msg
from playground.results.costs import load_tiers

NOBODY: Mapping[str, str] = MappingProxyType({})
"""An environment without any secret."""
A_SPACE = {"SPACE_ID": "owner/name", "SPACE_HOST": "owner-name.hf.space"}
"""What the Hub gives every Space."""
WITH_OAUTH = {
    "OPENID_PROVIDER_URL": "https://huggingface.co",
    "OAUTH_CLIENT_ID": "id",
    "OAUTH_CLIENT_SECRET": "secret",
}
"""And those whose front matter says ``hf_oauth: true``."""
UNKNOWN_SECRETS = {"PLAYGROUND_USERS": "name:a-password-that-the-Space-has"}
"""For secrets that decide whether the app starts, where this environment has no value: the Space may have one."""
TOLD_BY_PLACE = frozenset(
    {
        *("PLAYGROUND_SECRET", "PLAYGROUND_USERS", "PLAYGROUND_API_KEYS", "PLAYGROUND_METRICS_KEY"),
        "PLAYGROUND_REMOTES",
    }
)
"""Settings whose mistakes are told without their value."""
SPACE_FILE = "PLAYGROUND_SPACE"
FILES = ("PLAYGROUND_CATALOG", "PLAYGROUND_HARDWARE")


def start_problems(
    document: dict[str, Any], name: str, root: Path, env: Mapping[str, str] = NOBODY, *, login: bool = True
) -> list[Translatable]:
    """Why the app would not start on a Space, one sentence each.

    Args:
        document: Of spaces.yaml, as it is uploaded.
        name: Of that file, for messages.
        root: What is uploaded.
        env: Where the values of secrets come from; none of them is repeated.
        login: Whether to look at the login too.
    """
    variables, secrets = _given(document)
    given = {each: env[each] for each in secrets if env.get(each)}
    found = [each.message for each in app_mistakes(document, name)]
    for each, value in variables.items():
        if mistake := variable_mistake(each, value):
            found.append(_at(f"{name}: deploy.variables", mistake.message))
        elif each == SPACE_FILE:
            words = msg("a Space reads the spaces.yaml that is uploaded: leave {name} out.", name=each)
            found.append(_at(f"{name}: deploy.variables", words))
        elif each in FILES:
            found += _file_problems(f"{name}: deploy.variables", each, value, root)
    for each in secrets:
        if mistake := variable_mistake(each, given.get(each)):
            found.append(_secret_problem(f"{name}: deploy.secrets", each, mistake, known=each in given))
    if found:
        return found
    unknown = {each: value for each, value in UNKNOWN_SECRETS.items() if each in secrets}
    oauth = WITH_OAUTH if document.get("space", {}).get(OAUTH) is True else {}
    try:
        check_start(document, {**A_SPACE, **oauth, **variables, **unknown, **given}, name, login=login)
    except ConfigError as error:
        return [_at(name, error.message)]
    return []


def _given(document: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Variables and names of secrets, as far as they are what they should be."""
    deploy = document.get("deploy")
    block = deploy if isinstance(deploy, dict) else {}
    variables, secrets = block.get("variables"), block.get("secrets")
    return (
        {name: value for name, value in variables.items() if isinstance(name, str) and isinstance(value, str)}
        if isinstance(variables, dict)
        else {},
        [name for name in secrets if isinstance(name, str)] if isinstance(secrets, list) else [],
    )


def _secret_problem(place: str, name: str, mistake: ConfigError, *, known: bool) -> Translatable:
    if known and name not in TOLD_BY_PLACE:
        return msg(
            "{place}: the app does not take the value that {name} has in this environment, which is not repeated here.",
            place=place,
            name=name,
        )
    return _at(place, mistake.message)


def _file_problems(place: str, name: str, value: str, root: Path) -> list[Translatable]:
    """A file that a variable names lies in the checkout, unless the Space mounts it, and can be read."""
    if not value or Path(value).is_absolute():
        return []
    path = root / value
    if not path.is_file():
        return [msg("{place}: {name} names {file}, which is not in the checkout.", place=place, name=name, file=value)]
    try:
        load_catalog(path) if name == "PLAYGROUND_CATALOG" else load_tiers(path)
    except ConfigError as error:
        return [_at(place, error.message)]
    return []


def _at(place: str, problem: Translatable) -> Translatable:
    return msg("{place}: {problem}", place=place, problem=problem)
