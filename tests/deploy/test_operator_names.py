"""Every name and figure of docs/operations.md is the app's: settings, keys of spaces.yaml, metrics, times and sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from playground.api import connections, room, serving
from playground.api.operations import KEY, ROUTES
from playground.config import settings as settings_
from playground.config import variables
from playground.config.logins import PASSWORD_CHARS
from playground.config.schema import AppBlock, LimitsBlock
from playground.config.settings import Limits, load_settings
from playground.config.space_schema import DeployBlock, SpaceBlock
from playground.config.variables import NAMES
from playground.export import allowance, kernels, preparer, process
from playground.paths import ROOT
from playground.records import Request
from playground.results import database, store
from playground.service import Playground, guesses
from playground.service.answers import MOST_HELD
from playground.sources import files
from playground.system.reserve import RESERVE_BYTES
from playground.ui import app, hub_login, pages
from playground.workers import pool
from tests.conftest import MakeSettings
from tests.support.documented import page

FILE = ROOT / "docs" / "operations.md"
TEXT = " ".join(FILE.read_text(encoding="utf-8").split())
PAGE = page(FILE, frozenset())
OF_OTHERS = {"PLAYGROUND_TEST_DOCKER"}
"""Of the tests."""


def rows(heading: str) -> list[list[str]]:
    """Cells of the table whose first row begins so, the first two rows left out."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    found = []
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# -- settings -------------------------------------------------------------------------------------------------------


def test_every_setting_that_is_named_exists_and_every_setting_has_a_row() -> None:
    named = set(re.findall(r"PLAYGROUND_[A-Z_]*[A-Z]", TEXT))
    assert named - set(NAMES) == OF_OTHERS
    in_table = [name for first, *_ in rows("variable") for name in codes(first)]
    assert sorted(in_table) == sorted([*NAMES, "HOST", "PORT"])


def test_every_key_of_spaces_yaml_that_is_named_exists_and_every_key_of_app_is_named() -> None:
    blocks = {"app": AppBlock, "limits": LimitsBlock, "deploy": DeployBlock, "space": SpaceBlock}
    named: dict[str, set[str]] = {}
    for name, block in blocks.items():
        named[name] = set(re.findall(rf"(?<![\w.-]){name}\.(\w+)", TEXT)) - {"py", "yaml"}
        assert named[name] <= set(block.model_fields), name
    assert "limits" in named["app"]
    in_app_limits = set(re.findall(r"app\.limits\.(\w+)", TEXT))
    assert in_app_limits <= set(LimitsBlock.model_fields)
    assert named["app"] == set(AppBlock.model_fields)
    for row in rows("variable"):
        assert all(key.startswith("app.") for key in codes(row[1]))


def test_defaults_of_settings_are_those_of_the_code(tmp_path: Path) -> None:
    plain = tmp_path / "spaces.yaml"
    plain.write_text("app: {models: [m]}")
    found = load_settings({"PLAYGROUND_SPACE": str(plain)})
    cells = {name: row[2] for row in rows("variable") for name in codes(row[0])}
    shown = {
        "HOST": found.host,
        "PORT": str(found.port),
        "PLAYGROUND_KV_BITS": str(found.kv_bits),
        "PLAYGROUND_LOG": found.log,
        "PLAYGROUND_RAY_REPLICAS": str(found.ray_replicas),
        "PLAYGROUND_LOGIN": found.signing_in,
    }
    assert {name: codes(cells[name])[0] for name in shown} == shown
    nothing = {
        "PLAYGROUND_HOSTS": found.hosts, "PLAYGROUND_FRAMES": found.frames, "PLAYGROUND_USERS": found.users,
        "PLAYGROUND_API_KEYS": found.api_keys, "PLAYGROUND_METRICS_KEY": found.metrics_key,
        "PLAYGROUND_PREPARED_FROM": found.prepared_from, "PLAYGROUND_REMOTES": found.remotes,
        "PLAYGROUND_RAY": found.ray,
    }  # fmt: skip
    assert {name for name, cell in cells.items() if cell.startswith("none")} == set(nothing)
    assert not any(nothing.values())
    on_space = load_settings({"PLAYGROUND_SPACE": str(plain), "SPACE_ID": "o/n", "SPACE_HOST": "o-n.hf.space"})
    assert codes(cells["HOST"])[1] == on_space.host
    assert on_space.hosts and on_space.frames == variables.HUB_FRAMES
    assert (
        load_settings({"PLAYGROUND_SPACE": str(plain), "PLAYGROUND_USERS": "a:a-long-password"}).signing_in
        == (codes(cells["PLAYGROUND_LOGIN"])[1])
    )
    assert f"{pool.MEMORY_SHARE * 100:.0f} %" in cells["PLAYGROUND_MEMORY_MB"]
    assert found.keep_days is None and cells["PLAYGROUND_KEEP_DAYS"] == "for ever"


LISTS = {
    "PLAYGROUND_HOSTS": ("a.example", "b.example:8443"),
    "PLAYGROUND_FRAMES": ("https://a.example", "*.b.example"),
    "PLAYGROUND_API_KEYS": ("key-number-one-xx", "key-number-two-xx"),
    "PLAYGROUND_USERS": ("ann:a-long-password", "bob:a-long-password"),
}
FIELDS = {"PLAYGROUND_HOSTS": "hosts", "PLAYGROUND_FRAMES": "frames", "PLAYGROUND_API_KEYS": "api_keys"}


@pytest.mark.parametrize("name", LISTS)
def test_several_values_of_a_variable_have_commas_between_them(name: str) -> None:
    first, second = LISTS[name]
    for text in (f"{first},{second}", f" {first} , {second},"):
        found = load_settings({name: text})
        if name == "PLAYGROUND_USERS":
            assert found.users == tuple(tuple(each.split(":")) for each in (first, second))
        else:
            assert getattr(found, FIELDS[name]) == (first, second)


def test_what_is_told_to_be_a_list_is_one_in_both_places() -> None:
    assert {codes(row[0])[0] for row in rows("variable") if row[3].startswith("a list of")} == set(LISTS)
    lists = {name for name, field in AppBlock.model_fields.items() if "list[" in str(field.annotation)}
    assert set(re.findall(r"`app\.(\w+)` \(a list[;)]", TEXT)) == lists


# -- figures --------------------------------------------------------------------------------------------------------

WORDS = {5: "five", 8: "eight", 11: "eleven"}
FIGURES = (
    f"{Limits().connections} as it comes",
    f"and {settings_.SHORT_CONNECTIONS} for what is answered at once",
    f"{room.OWN_FILES} are its own, {connections.SPARE} for those that are refused",
    f"After {app.END_S:.0f} seconds the process ends in any case",
    f"After {serving.END_IN_ALL_S:.0f} seconds the process ends in any case (`serve-api`",
    f"compiled libraries, at most {WORDS[kernels.KEPT]}",
    f"they go after {files.LOG_DAYS} days, of one model's preparations all but the last {files.LOGS_EACH}",
    f"it is not tried again for {preparer.REMEMBERED_S:.0f} seconds",
    f"the last {MOST_HELD} answers of the API",
    f"until {MOST_HELD} others came",
    f"A password has {PASSWORD_CHARS} characters or more",
    f"`{KEY}` ({variables.KEY_CHARS} characters or more)",
    f"{variables.SECRET_CHARS} characters or more |",
    f"of one address within {WORDS[guesses.MINUTES]} minutes",
    f"It lasts {WORDS[hub_login.LASTS_S // 3600]} hours",
    f"nobody listens for is dropped after {pages.LISTEN_S:.0f} s",
    f"more than {process.MEMORY_SHARE * 100:.0f} % of the memory",
    f"more memory than all models together may (and {pool.LIBRARIES_MB:.0f} MB)",
    f"by default {pool.MEMORY_SHARE * 100:.0f} % of what there is",
    f"it goes on with {RESERVE_BYTES / 1e6:.0f} MB that it kept back",
    f"storing waits up to {database.BUSY_S:.0f} s",
    f"a quarter of it and {database.WORTH_BYTES / 1e6:.0f} MB are free",
    f"`route` is one of {WORDS[len(ROUTES) + 1]} names",
)


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_is_that_of_the_code(figure: str) -> None:
    assert figure in TEXT


def test_figures_that_are_told_in_words_are_those_of_the_code() -> None:
    assert database.WORTH_SHARE == 0.25, "a quarter of it"
    assert store.EXPIRE_S == 3600 and "once an hour when somebody looks" in TEXT
    assert allowance.GRACE_S == 60 and "was asked for within the last minute stays" in TEXT
    assert guesses.ADDRESSES == 4 and "four times as many for one name" in TEXT


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", TEXT))
    assert named and all((ROOT / name).is_file() for name in named)


# -- metrics --------------------------------------------------------------------------------------------------------


@pytest.fixture
def told(make_settings: MakeSettings) -> Iterator[dict[str, set[str]]]:
    """The labels of each metric that a public app tells after something of each kind has happened, by its name."""
    with Playground(make_settings(PLAYGROUND_AUDIENCE="public")) as playground:
        metrics = playground.meter()
        playground.compare(Request("Hi", max_new_tokens=8), playground.variants(["fast"])).result()
        metrics.requested("page", 200)
        metrics.refused("waiting")
        text = metrics.text().decode()
        found: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
        yield found


def documented(known: set[str]) -> dict[str, set[str]]:
    """Each metric of the table with its labels; a name that begins with a line stands for the end of the one before."""
    found: dict[str, set[str]] = {}
    for names, labels, _ in rows("name"):
        first, *more = codes(names)
        found[first] = set(codes(labels))
        for name in more:
            if name.startswith("_"):
                parts = first.split("_")
                whole = {"_".join(parts[:number]) + name for number in range(2, len(parts))} & known
                assert len(whole) == 1, f"{name} could be {whole or 'nothing'}"
                found[whole.pop()] = set(codes(labels))
            else:
                found[name] = set(codes(labels))
    return found


@pytest.mark.waits
def test_the_table_has_every_metric_with_its_labels_and_no_other(told: dict[str, set[str]]) -> None:
    assert documented(set(told)) == told


@pytest.mark.waits
def test_alarms_ask_for_metrics_and_labels_that_there_are(told: dict[str, set[str]]) -> None:
    asked = " ".join(row[0] for row in rows("alarm"))
    samples = dict(told)
    for name, labels in told.items():
        samples |= {f"{name}_{end}": labels for end in ("sum", "count", "bucket")}
    used = re.findall(r"\b(playground_\w+)(?:\{(\w+)=~?\"[^\"]+\"\})?", asked)
    assert len(used) > 10
    for name, label in used:
        assert name in samples
        assert not label or label in samples[name]
    for labels, name in re.findall(r"by \((\w+)\) \(increase\((\w+)", asked):
        assert labels in samples[name]
    others = {word for word in re.findall(r"`(\w+)=\"", TEXT) if not word.startswith("playground_")}
    assert others <= {label for labels in told.values() for label in labels}


def test_prometheus_is_configured_with_what_it_takes() -> None:
    (block,) = [yaml.safe_load(each) for each in PAGE.others if each.startswith("scrape_configs")]
    (job,) = block["scrape_configs"]
    assert job.keys() == {"job_name", "scheme", "authorization", "static_configs"}
    assert "metrics_path" not in job, "its default is ours"
