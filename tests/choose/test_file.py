"""A choice's file: read whole before anything runs; what is wrong in it is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from playground.choose import file
from playground.choose.constraints import Constraints
from playground.choose.file import read_choice
from playground.errors import ConfigError, PlaygroundError, UsageError

WHOLE = """
suite: suite.yaml
models: [fast, slow]
repeats: 2
limits:
  min_pass_rate: 80 %
  min_scores: {arc_easy: 0.4}
  min_speed: 20
  max_ttft: 1.5
  max_memory: 1500
  min_context: 2048
  min_openness: 2
  commercial: true
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "choice.yaml"
    path.write_text(text)
    return path


def test_every_limit_has_the_name_of_its_option(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text("prompts: [x]")
    choice = read_choice(write(tmp_path, WHOLE))
    assert choice.limits == Constraints(1500, 1.5, 20, True, 2, 2048, 0.8, {"arc_easy": 0.4})
    assert (choice.suite_file, choice.models, choice.repeats) == (tmp_path / "suite.yaml", ("fast", "slow"), 2)
    assert choice.has_suite


def test_the_suite_may_stand_in_it(tmp_path: Path) -> None:
    choice = read_choice(
        write(tmp_path, "suite: {prompts: ['{{q}}'], tests: [{vars: {q: é}}]}\nlimits: {min_pass_rate: 1}")
    )
    assert "é" in choice.suite and choice.suite_file is None and choice.has_suite


@pytest.mark.parametrize(
    ("written", "share"), [("0.8", 0.8), ("80 %", 0.8), ("'80%'", 0.8), ("1", 1.0), ("'0.05'", 0.05)]
)
def test_a_pass_rate_is_a_share_or_per_cent(tmp_path: Path, written: str, share: float) -> None:
    choice = read_choice(write(tmp_path, f"suite: {{prompts: [x]}}\nlimits: {{min_pass_rate: {written}}}"))
    assert choice.limits.min_pass_rate == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("limits: {min_sped: 3}", ConfigError, "min_speed"),
        ("limit: {min_speed: 3}", ConfigError, "limits"),
        ("limits: {min_speed: fast}", ConfigError, "min_speed"),
        ("limits: {min_speed: -1}", ConfigError, "min_speed"),
        ("limits: {min_openness: 9}", ConfigError, "min_openness"),
        ("limits: {min_scores: {arc: high}}", ConfigError, "arc"),
        ("limits: {min_scores: {arc: .nan}}", UsageError, "arc"),
        ("limits: {min_speed: 3, min_speed: 4}", ConfigError, "twice"),
        ("suite: {prompts: [x]}\nlimits: {min_pass_rate: 80}", UsageError, "80 %"),
        ("suite: {prompts: [x]}\nlimits: {min_pass_rate: 0}", UsageError, "share"),
        ("suite: {prompts: [x]}\nlimits: {min_pass_rate: true}", PlaygroundError, "min_pass_rate"),
        ("limits: {min_pass_rate: 0.5}", UsageError, "names no suite"),
        ("models: [fast]", UsageError, "states no limit"),
        ("repeats: 2\nlimits: {min_speed: 1}", UsageError, "names no suite"),
        ("suite: gone.yaml\nlimits: {min_speed: 1}", UsageError, "gone.yaml"),
        ("- a list", UsageError, "list of keys"),
        ("limits: [", ConfigError, "not valid YAML"),
        ("", UsageError, "list of keys"),
        ("\x00", ConfigError, "choice.yaml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, kind: type[PlaygroundError], said: str) -> None:
    with pytest.raises(kind) as caught:
        read_choice(write(tmp_path, text))
    assert said in str(caught.value)


def test_a_file_that_is_not_there_or_too_large_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        read_choice(tmp_path / "none.yaml")
    monkeypatch.setattr(file, "MAX_BYTES", 10)
    with pytest.raises(UsageError, match="MB"):
        read_choice(write(tmp_path, "limits: {min_speed: 3}"))
