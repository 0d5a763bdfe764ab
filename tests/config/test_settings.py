"""spaces.yaml and the environment as settings: every mistake names the file, the place and what to write instead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from playground.config.settings import Limits, load_settings
from playground.errors import ConfigError


def load(folder: Path, text: str) -> Limits:
    path = folder / "spaces.yaml"
    path.write_text(text)
    return load_settings({"PLAYGROUND_SPACE": str(path)}).limits


def test_what_is_left_out_keeps_its_default(tmp_path: Path) -> None:
    assert load(tmp_path, "app: {models: [m]}") == Limits()
    assert load(tmp_path, "app:\n  models: [m]\n  limits:\n") == Limits()
    assert load(tmp_path, "app: {models: [m], limits: {max_models: 2, stall_timeout_s: 5}}") == Limits(
        max_models=2, stall_timeout_s=5.0
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("app: {models: [m], limits: {max_model: 2}}", "app.limits: unknown key 'max_model'. Did you mean max_models?"),
        ("app: {models: [m], limts: {}}", "spaces.yaml: app: unknown key 'limts'. Did you mean limits?"),
        ("app: {models: [m], limits: {max_models: 0}}", "app.limits.max_models must be a whole number above 0, not 0"),
        ("app: {models: [m], limits: {max_models: '2'}}", "app.limits.max_models must be a whole number above 0"),
        ("app: {models: [m], limits: {max_models: true}}", "whole number above 0, not True"),
        ("app: {models: [m], limits: {memory_mb: -1}}", "app.limits.memory_mb must be a number above 0, not -1"),
        ("app: {models: [m], limits: {memory_mb: .nan}}", "app.limits.memory_mb must be a number"),
        ("app: {models: [m], limits: {memory_mb: much}}", "app.limits.memory_mb must be a number, not 'much'"),
        ("app: {models: [m], limits: 3}", "app.limits must be a block of keys, not 3. Known keys: max_models,"),
        ("app: {models: [m, 7]}", "spaces.yaml: app.models[1] must be text, not 7. Write it in quotes."),
        ("app: {models: m}", "app.models must be a list"),
        ("app: {models: [m], space_models: []}", "app.space_models"),
        ("app: {models: [m], space_models: [7]}", "app.space_models[0] must be text, not 7"),
        ("app: {models: []}", "has no list of models under app. Add app: {models: [smollm2-135m-instruct]}."),
        ("app: [m]", "has no list of models under app"),
        ("", "has no list of models under app"),
        ("app: {models: [m]}\napp: {models: [n]}", "the key 'app' stands twice"),
        ("app: {", "is not valid YAML"),
        ("? [a]\n: b", "is not valid YAML"),
        ("? {a: b}\n: b", "is not valid YAML"),
        ("app: 2026-02-30", "can't be read"),
        ("app: " + "9" * 5000, "can't be read"),
        ("app: !!bool x", "can't be read"),
        ('app: !!int ""', "can't be read"),
        ("app: !!timestamp x", "can't be read"),
    ],
)
def test_a_mistake_in_spaces_yaml_names_its_place_and_the_next_step(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value)
    assert str(tmp_path / "spaces.yaml") in str(caught.value)
    assert caught.value.next_step


def test_a_path_with_a_nul_is_told_like_any_that_cannot_be_read() -> None:
    with pytest.raises(ConfigError, match="can't be read") as caught:
        load_settings({"PLAYGROUND_SPACE": "a\0b.yaml"})
    assert "PLAYGROUND_SPACE" in caught.value.next_step and "\0" not in str(caught.value)


def test_a_file_that_is_not_there_names_the_variable_that_points_to_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Restore spaces\.yaml or set PLAYGROUND_SPACE"):
        load_settings({"PLAYGROUND_SPACE": str(tmp_path / "none.yaml")})


def test_pydantic_is_loaded_where_a_file_is_read_and_by_no_worker() -> None:
    modules = "playground.workers.main, playground.config.settings, playground.catalog.entries"
    code = f"import sys, {modules}; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("yaml", "env", "is_open"),
    [
        ("", {}, True),
        ("", {"HOST": "0.0.0.0"}, False),
        ("", {"SPACE_ID": "a/b"}, False),
        ("", {"PLAYGROUND_HOSTS": "play.example.org"}, False),
        ("  api: true\n", {"SPACE_ID": "a/b"}, True),
        ("  api: false\n", {}, False),
    ],
)
def test_programs_may_ask_where_no_strangers_come_or_spaces_yaml_says_so(
    tmp_path: Path, yaml: str, env: dict[str, str], is_open: bool
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(f"app:\n  models: [a]\n{yaml}", encoding="utf-8")
    assert load_settings({"PLAYGROUND_SPACE": str(space)} | env).api_is_open is is_open


def test_keys_of_programs_are_read_and_never_shown() -> None:
    found = load_settings({"PLAYGROUND_API_KEYS": " key-number-one-xx , key-number-two-xx,"})
    assert found.api_keys == ("key-number-one-xx", "key-number-two-xx")
    assert "key-number" not in repr(found)


@pytest.mark.parametrize("wrong", ["tiny-key", "a key with spaces in it", "schlüssel-schlüssel"])
def test_a_key_that_could_be_guessed_or_not_be_sent_is_refused_without_being_repeated(wrong: str) -> None:
    with pytest.raises(ConfigError, match="key 2 is") as refused:
        load_settings({"PLAYGROUND_API_KEYS": f"key-number-one-xx,{wrong}"})
    assert wrong not in refused.value.message


def test_keys_and_values_have_sixteen_bits_or_eight() -> None:
    assert load_settings({}).kv_bits == 16
    assert load_settings({"PLAYGROUND_KV_BITS": "8"}).kv_bits == 8
    for bad in ("4", "32", "half"):
        with pytest.raises(ConfigError, match="PLAYGROUND_KV_BITS"):
            load_settings({"PLAYGROUND_KV_BITS": bad})
