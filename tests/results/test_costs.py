"""What answers cost: the arithmetic, the table of prices, and how it is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from playground.cli.app import main
from playground.errors import ConfigError, UsageError
from playground.records import ModelRun, Timings, Variant
from playground.results.costs import HARDWARE, chosen, load_tiers, of_run, per_million, with_medians
from playground.results.figures import Measured, figure
from playground.ui.html.costs import costs_html
from playground.ui.html.panel import Label

TIMINGS = Timings(
    decode_tok_s=100.0, prefill_tok_s=400.0, output_tokens=64, peak_memory_mb=325.0, expected_memory_mb=335.0,
    disk_mb=270.0, cache_mb_per_1000=46.1, cpu_s=1.2, mode="fair",
)  # fmt: skip
RUN = ModelRun(Variant("m", "onnx", "int8"), "onnx", "int8", "Paris.", "stop", TIMINGS)


def test_money_for_a_million_tokens_is_the_price_of_the_time_they_take() -> None:
    assert per_million(0.036, 100.0) == pytest.approx(0.1)  # 10,000 s at 0.00001 a second
    assert per_million(0.0, 100.0) == 0
    assert per_million(0.03, None) is None


def test_every_tier_has_its_price_source_and_date() -> None:
    tiers = {tier.flavor: tier for tier in load_tiers()}
    assert tiers["cpu-basic"].per_hour == 0 and tiers["cpu-upgrade"].per_hour == 0.03
    assert all(tier.source.startswith("https://") and tier.as_of == "2026-07-21" for tier in tiers.values())


def test_a_run_costs_by_its_own_speeds_and_says_whether_its_memory_fits() -> None:
    tiers = chosen(load_tiers(), "cpu-upgrade")
    cost = of_run(RUN, tiers)
    assert cost.tiers[0].output_million == pytest.approx(0.03 / 3600 * 1e4)
    assert cost.tiers[0].prompt_million == pytest.approx(0.03 / 3600 * 2.5e3)
    assert cost.tiers[0].fits is True and cost.how == "one run"
    large = replace(RUN, timings=replace(TIMINGS, peak_memory_mb=33_000))
    assert of_run(large, tiers).tiers[0].fits is False


def test_chunks_and_failed_runs_have_no_price() -> None:
    for run in (replace(RUN, timings=replace(TIMINGS, unit="chunk")), replace(RUN, error="died")):
        assert of_run(run, load_tiers()).tiers[1].output_million is None


def test_the_medians_of_a_measurement_count_more_than_one_run() -> None:
    figures = {
        name: figure(name, "", values) for name, values in (("decode_tok_s", (49, 50, 51)), ("cpu_s", (2, 3, 4)))
    }
    tiers = chosen(load_tiers(), "cpu-upgrade")
    cost = with_medians(of_run(RUN, tiers), Measured(RUN.variant, output_tokens=32, figures=figures), tiers)
    assert cost.how == "median of 3 repeats"
    assert cost.tiers[0].output_million == pytest.approx(0.03 / 3600 * 2e4)
    assert (cost.cpu_s_per_answer, cost.peak_memory_mb, cost.tiers[0].prompt_million) == (3, 325.0, None)


def test_a_price_of_ones_own_replaces_the_tables_and_its_source() -> None:
    (tier,) = chosen(load_tiers(), "cpu-basic", 0.01)
    assert tier.per_hour == 0.01 and tier.source == "given with the command"


@pytest.mark.parametrize(
    ("flavor", "price", "words"),
    [("gpu", None, "cpu-basic, cpu-upgrade"), ("cpu-basic", -1.0, "0 or more"), ("", 0.1, "Name the tier"),
     ("cpu-basic", float("nan"), "0 or more")],
)  # fmt: skip
def test_a_wrong_tier_or_price_says_what_is_right(flavor: str, price: float | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        chosen(load_tiers(), flavor, price)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [("per_hour: 0.03", "per_hour: cheap", "per_hour must be a number"), ("as_of: 2026-07-21", "as_of: soon", "a date"),
     ("flavor: cpu-upgrade", "flavor: cpu-basic", "stands twice"), ("source: https", "sauce: https", "unknown key")],
)  # fmt: skip
def test_a_table_with_a_mistake_is_refused_and_names_the_place(old: str, new: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "hardware.yaml"
    path.write_text(HARDWARE.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=words):
        load_tiers(path)


def test_the_page_shows_expected_beside_measured_and_each_price_with_its_source() -> None:
    html = costs_html([RUN], _labels(), load_tiers())
    for words in ("335 MB", "325 MB", "270 MB", "46 MB", "1.20 s", "0.0833 USD", "free", "spaces-gpus", "2026-07-21"):
        assert words in html, words


def _labels() -> list[Label]:
    from playground import paths
    from playground.catalog.entries import load_catalog
    from playground.ui.html.panel import labels

    return list(labels(load_catalog(paths.CATALOG), [Variant("smollm2-135m-instruct", "onnx", "int8")]))


@pytest.mark.waits
def test_the_command_prices_what_was_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(__file__).parents[1] / "data"
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path))
    monkeypatch.setenv("PLAYGROUND_CATALOG", str(data / "fake_catalog.yaml"))
    monkeypatch.setenv("PLAYGROUND_SPACE", str(data / "fake_space.yaml"))
    assert main(["costs", "-m", "fast"]) == 2
    assert "bench models -m fast" in capsys.readouterr().err
    assert main(["compare", "-m", "fast", "Hi", "--save"]) == 0
    capsys.readouterr()
    assert main(["costs", "-m", "fast", "--tier", "cpu-basic", "--price", "0.36", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (cost,) = document["costs"]
    assert cost["tiers"][0]["output_million"] > 0 and cost["expected_memory_mb"] == 60
    assert document["tiers"][0]["per_hour"] == 0.36
    assert main(["costs"]) == 0
    assert "CPU Upgrade: 8 vCPU, 32 GB" in capsys.readouterr().out
