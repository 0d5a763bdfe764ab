"""How people sign in to the web app: not at all, by names and passwords of the environment, or, on a Space, with
Hugging Face.

It reads and checks what was set; it knows no cookies, and it never asks who somebody is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from playground.config.variables import word
from playground.errors import ConfigError
from playground.messages import NOTHING, msg

if TYPE_CHECKING:
    from playground.config.settings import Settings

Login = Literal["none", "password", "hugging-face"]
LOGINS: tuple[Login, ...] = get_args(Login)
Users = tuple[tuple[str, str], ...]
"""Names and passwords."""

PASSWORD_CHARS = 12
PROVIDER = re.compile(r"https://[\w.-]+(:\d{1,5})?(/[\w./-]*)?|http://(127\.0\.0\.1|localhost)(:\d{1,5})?")
"""A provider's address: by https, so that what it says is its own; on this machine alone without."""
HOST = re.compile(r"[\w.-]+(:\d{1,5})?")


@dataclass(frozen=True)
class HubLogin:
    """What the Hub gives a Space with ``hf_oauth: true`` in its front matter, as environment variables.

    Attributes:
        host: The Space's first name, which the Hub leads back to.
        provider: Of OpenID Connect; its address.
    """

    host: str
    provider: str
    client_id: str
    client_secret: str = field(repr=False)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the variables that are not there, or are not what they should be."""
        found = {
            "SPACE_HOST": HOST.fullmatch(self.host),
            "OPENID_PROVIDER_URL": PROVIDER.fullmatch(self.provider),
            "OAUTH_CLIENT_ID": self.client_id,
            "OAUTH_CLIENT_SECRET": self.client_secret,
        }
        return tuple(name for name, good in found.items() if not good)


NO_HUB_LOGIN = HubLogin("", "", "", "")


def load_hub_login(env: Mapping[str, str]) -> HubLogin:
    """As the environment has it; where the Space has no OAuth, of empty texts."""
    return HubLogin(
        host=env.get("SPACE_HOST", "").split(",")[0].strip(),
        provider=env.get("OPENID_PROVIDER_URL", "").strip().rstrip("/"),
        client_id=env.get("OAUTH_CLIENT_ID", "").strip(),
        client_secret=env.get("OAUTH_CLIENT_SECRET", "").strip(),
    )


def load_login(env: Mapping[str, str]) -> Login | None:
    """PLAYGROUND_LOGIN, if it is set.

    Raises:
        ConfigError: It is no way to sign in.
    """
    return word(env, "PLAYGROUND_LOGIN", LOGINS)


def load_users(env: Mapping[str, str]) -> Users:
    """PLAYGROUND_USERS. What is wrong is told by its place: a message must not repeat a password.

    Raises:
        ConfigError: An entry is not NAME:PASSWORD.
    """
    found: dict[str, str] = {}
    for number, pair in enumerate(filter(None, map(str.strip, env.get("PLAYGROUND_USERS", "").split(","))), start=1):
        name, colon, password = pair.partition(":")
        wrong = NOTHING
        if not colon or not re.fullmatch(r"[\w.@-]{1,64}", name):
            wrong = msg("PLAYGROUND_USERS: entry {number} is no NAME:PASSWORD", number=number)
        elif name in found:
            wrong = msg("PLAYGROUND_USERS: the name of entry {number} was given before", number=number)
        elif len(password) < PASSWORD_CHARS:
            wrong = msg(
                "PLAYGROUND_USERS: the password of entry {number} is shorter than {least} characters",
                number=number,
                least=PASSWORD_CHARS,
            )
        if wrong:
            raise ConfigError(wrong, msg("Write NAME:PASSWORD with commas between them; neither may have a comma."))
        found[name] = password
    return tuple(found.items())


def check_login(settings: Settings) -> None:
    """Refuse to open the web app where nobody could sign in as it was set, or where some could come in without.

    Raises:
        ConfigError: Says what is missing.
    """
    how = settings.signing_in
    if how == "none" and settings.users:
        raise ConfigError(
            msg("The login is none, but PLAYGROUND_USERS names people"),
            msg("Unset one of them: app.login of spaces.yaml (or PLAYGROUND_LOGIN), or PLAYGROUND_USERS."),
        )
    if how == "password" and not settings.users:
        raise ConfigError(
            msg("The login is by password, but PLAYGROUND_USERS names nobody"),
            msg("Set PLAYGROUND_USERS=NAME:PASSWORD, or PLAYGROUND_LOGIN=none."),
        )
    if how == "hugging-face":
        _check_hub_login(settings)


def _check_hub_login(settings: Settings) -> None:
    if not settings.on_space:
        raise ConfigError(
            msg("Signing in with Hugging Face works on a Space alone"),
            msg("Set PLAYGROUND_USERS=NAME:PASSWORD here, or PLAYGROUND_LOGIN=none."),
        )
    if settings.users:
        raise ConfigError(
            msg("The login is with Hugging Face, but PLAYGROUND_USERS names people as well"),
            msg("Unset PLAYGROUND_USERS, or set app.login of spaces.yaml to password."),
        )
    if not settings.strangers:
        raise ConfigError(
            msg("The login is with Hugging Face, but the audience is own: everybody may do all that you may"),
            msg("Set app.audience of spaces.yaml (or PLAYGROUND_AUDIENCE) to public, or PLAYGROUND_LOGIN=none."),
        )
    if settings.hub_login.missing:
        raise ConfigError(
            msg(
                "The login is with Hugging Face, but the Space was not given {names}", names=settings.hub_login.missing
            ),
            msg(
                "Its README's front matter needs hf_oauth: true; `playground deploy space` and `playground space "
                "render` write it where app.login of spaces.yaml is hugging-face."
            ),
        )
