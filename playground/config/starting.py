"""Whether the app would start with another environment than this one's, such as that of a Space.

The checks are the app's own: ``load_settings`` and ``check_login`` read what is given, and nothing else is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from playground.config import validation
from playground.config.logins import check_login
from playground.config.settings import check_app, load_settings
from playground.config.variables import NAMES, PREFIX
from playground.errors import ConfigError
from playground.messages import msg

PLAIN = {"app": {"models": ["any"]}}
"""A spaces.yaml with nothing wrong, for a variable that is looked at by itself."""


def app_mistakes(document: Any, where: str) -> list[ConfigError]:
    """Every mistake in the ``app`` block of spaces.yaml.

    Args:
        where: The file, for messages.
    """
    from playground.config.schema import AppBlock

    try:
        app = check_app(document, where)
    except ConfigError as error:
        return [error]
    return validation.problems(AppBlock, app, f"{where}: app")


def variable_mistake(name: str, value: str | None) -> ConfigError | None:
    """What is wrong with one variable by itself: no setting has its name, or its value is none.

    Args:
        value: None where it is not known.
    """
    if name.startswith(PREFIX) and name not in NAMES:
        return ConfigError(msg("there is no setting {name}", name=name), validation.closest(name, NAMES))
    try:
        load_settings({name: value or ""}, PLAIN)
    except ConfigError as error:
        return error
    return None


def check_start(document: Any, env: Mapping[str, str], where: str, *, login: bool = True) -> None:
    """Read the settings as the app does when it starts.

    Args:
        where: The file that ``document`` is of, for messages.
        login: Whether to see if somebody could sign in, too.

    Raises:
        ConfigError: It would not start; about the first mistake.
    """
    settings = load_settings({**env, "PLAYGROUND_SPACE": where}, document)
    if login:
        check_login(settings)
