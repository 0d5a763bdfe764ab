"""spaces.yaml's profiles: the same Space on other hardware, as files that are rendered when they are uploaded.

A checkout stays what it is; what a profile changes (front matter, requirements, what is served) is written into what
leaves it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from playground.config import validation
from playground.deploy.files import Chosen, choose_files
from playground.deploy.space_file import front_matter, read_text, space_block, split_readme, with_login
from playground.errors import ConfigError, UsageError
from playground.messages import msg

Contents = dict[str, Path | bytes]
"""What is uploaded, by path in the Space: a file of the checkout, or what was rendered."""
RENDERED = "# Rendered from the checkout's spaces.yaml for one of its profiles: change it there.\n"


def deploy_block(space_file: Path) -> Any:
    """The ``deploy`` block, checked.

    Raises:
        ConfigError: It is not what it should be.
    """
    from playground.config.space_schema import DeployBlock

    found = _document(space_file).get("deploy") or {}
    return validation.checked(DeployBlock, found, f"{space_file}: deploy")


def merged(space_file: Path, profile: str) -> dict[str, Any]:
    """The document of spaces.yaml as it holds under ``profile``; as it stands where that is empty, but with what the
    login asks of the Space.

    Raises:
        UsageError: There is no such profile.
        ConfigError: It is not what it should be.
    """
    document = _document(space_file)
    if not profile:
        return document | {"space": space_block(space_file)}
    block = _profile(document, space_file, profile)
    new = {key: value for key, value in document.items() if key != "profiles"}
    app = document.get("app")
    app = {**(app if isinstance(app, dict) else {}), **block.app}
    return new | {"space": with_login({**space_block(space_file), **block.space}, app), "app": app}


def contents(root: Path, space_file: Path, chosen: Chosen, profile: str) -> Contents:
    """Every file that a Space gets, rendered for ``profile``, its README with what the login asks of the Space.

    Raises:
        UsageError: There is no such profile.
        ConfigError: A file can't be read, or the profile is not what it should be.
    """
    files: Contents = {name.as_posix(): root / name for name in chosen.files}
    document = merged(space_file, profile)
    if not profile:
        if document["space"] != _document(space_file)["space"]:  # what the login asks of the Space
            body = split_readme(read_text(root / "README.md"))[1]
            files["README.md"] = (front_matter(document["space"]) + body).encode()
        return files
    block = _profile(_document(space_file), space_file, profile)
    body = split_readme(read_text(root / "README.md"))[1]
    files["README.md"] = (front_matter(document["space"]) + body).encode()
    files["spaces.yaml"] = (
        RENDERED + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)
    ).encode()
    files["requirements.txt"] = _pinned(read_text(root / "requirements.txt"), block.pins).encode()
    if not block.pre_requirements:
        files.pop("pre-requirements.txt", None)
    return files


def write_space(root: Path, space_file: Path, profile: str, target: Path) -> int:
    """Write what a Space gets into ``target``, a folder that is not there or empty; the number of files.

    Raises:
        UsageError: There is something, or there is no such profile.
        ConfigError: A file can't be read or written.
    """
    tree = contents(root, space_file, choose_files(root), profile)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UsageError(
            msg("{path} is there already", path=target), msg("Name a folder that does not exist yet, or is empty.")
        )
    try:
        for path, content in tree.items():
            place = target / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    except OSError as error:
        raise ConfigError(
            msg("{file} can't be written ({error})", file=error.filename or target, error=error.strerror),
            msg("Check its permissions."),
        ) from error
    return len(tree)


def _pinned(text: str, pins: dict[str, str]) -> str:
    """requirements.txt with these versions; what it does not have is put at its end."""
    for package, version in pins.items():
        text, found = re.subn(rf"(?m)^{re.escape(package)}==\S+", f"{package}=={version}", text)
        if not found:
            text += f"{package}=={version}\n"
    return text


def _profile(document: dict[str, Any], space_file: Path, profile: str) -> Any:
    from playground.config.space_schema import ProfileBlock

    profiles = document.get("profiles") or {}
    if not isinstance(profiles, dict) or profile not in profiles:
        known = sorted(map(str, profiles)) if isinstance(profiles, dict) else []
        raise UsageError(
            msg("{file} has no profile '{profile}'", file=space_file.name, profile=profile),
            validation.closest(profile, known),
        )
    return validation.checked(ProfileBlock, profiles[profile], f"{space_file}: profiles.{profile}")


def _document(space_file: Path) -> dict[str, Any]:
    document = validation.read_yaml(space_file)
    if not isinstance(document, dict):
        raise ConfigError(msg("{file} has no space block", file=space_file), msg("Restore spaces.yaml."))
    return document
