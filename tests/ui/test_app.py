"""The real app, started as people start it, in a real browser; and its API through gradio_client.

The models are scripted (tests/data), but for the last test, which takes the two real ones.
"""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from playground import paths
from playground.config.settings import load_settings
from playground.kernels import building
from playground.paths import ROOT
from tests.support.app import DATA, App, answer, choose, chosen, notice, panel, run_to_end, serving

pytestmark = pytest.mark.ui

HOSTILE = (
    "fake:text=%3Cimg+src%3Dhttps://evil.example/x.png+onerror%3Dalert(1)%3E+%3Cb%3Ebold%3C/b%3E+**stars**&step_s=0.01"
)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripted models and one that answers with HTML."""
    path = tmp_path_factory.mktemp("catalog") / "catalog.yaml"
    hostile = f"""
  - id: hostile
    name: Hostile
    kind: chat
    task: text-generation
    context_length: 512
    source: "{HOSTILE}"
    revision: "1"
    variants: [fake-none]
    terms: {{text: Hostile has terms., url: "https://a.example/terms", policy_url: "https://a.example/policy"}}
"""
    path.write_text((DATA / "fake_catalog.yaml").read_text(encoding="utf-8") + hostile, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, catalog: Path) -> Iterator[App]:
    models = "fast, slow, base, hostile, fails, endless, slow-to-prepare, fails-to-prepare"
    with serving(tmp_path_factory.mktemp("home"), models, catalog, forked=False) as app:
        yield app


def cpu_of_gradio() -> float:
    """Seconds that a process computes for importing gradio: what this machine makes of the larger part of a start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import gradio"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.alone
def test_the_page_is_up_as_soon_as_gradio_allows_with_models_still_to_prepare(app: App, page: Any) -> None:
    assert app.cpu_s < 2 * cpu_of_gradio()
    assert [name.split(" · ")[0] for name in chosen(page)] == ["Fast", "Slow", "Base", "Hostile"]
    assert page.input_value("#prompt textarea")
    assert page.locator("#outputs .panel").count() == 4


def test_states_follow_a_preparation_and_its_failure_says_why(page: Any) -> None:
    choose(page, "Fails to prepare")
    page.wait_for_selector("#states li.is-failed", timeout=20_000)
    assert "no recipe fits it" in page.locator("#states li.is-failed").inner_text()


def test_both_columns_stream_and_the_figures_appear(page: Any) -> None:
    choose(page, "Fast", "Slow")
    page.click("button#run")
    page.wait_for_function(
        "() => document.querySelector(\"#outputs .panel[aria-label^='Slow'] .answer\").textContent.startsWith('Let me')"
    )
    growing = answer(page, "Slow")
    assert not growing.endswith("Paris.")
    assert "tok/s" in panel(page, "Slow").locator(".state").inner_text()
    notice(page, "Done")
    assert answer(page, "Fast") == "Paris is the capital of France."
    assert answer(page, "Slow").endswith("Paris.")
    assert "finished by itself" in panel(page, "Slow").inner_text()
    page.get_by_role("tab", name="Timings").click()
    shown = page.locator("#timings").inner_text()
    for words in ("Time to first token", "Decode rate", "Peak memory", "Where the time went"):
        assert words in shown
    assert re.search("(alone|one model at a time), 2 threads", shown), "the browser is another program"


def test_fast_mode_says_its_figures_are_not_to_be_compared(page: Any) -> None:
    choose(page, "Fast", "Base")
    page.locator("#parameters button").first.click()
    page.get_by_label("Fast: all at once").check()
    run_to_end(page)
    assert "shared CPU" in panel(page, "Fast").inner_text()
    page.get_by_role("tab", name="Timings").click()
    assert "Do not compare the models" in page.locator("#timings").inner_text()


@pytest.mark.alone
def test_stop_ends_the_run_within_two_seconds_and_keeps_the_text(page: Any) -> None:
    choose(page, "Talks for a long time")
    page.click("button#run")
    page.wait_for_function("() => document.querySelector('#outputs .answer').textContent.includes('la la')")
    began = time.monotonic()
    page.click("button#stop")
    notice(page, "Stopped")
    assert time.monotonic() - began < 2.5
    shown = page.locator("#outputs .panel").first.inner_text()
    assert "stopped by you" in shown
    assert "la la" in shown
    assert page.is_enabled("button#run")


def test_a_failing_model_says_why_and_spoils_nothing(page: Any) -> None:
    choose(page, "Fails at token 3", "Fast")
    assert "1 model failed" in run_to_end(page)
    failed = panel(page, "Fails at token 3")
    assert "is-error" in failed.get_attribute("class")
    assert failed.locator(".problem").inner_text()
    assert answer(page, "Fast") == "Paris is the capital of France."


def test_html_in_an_answer_is_shown_as_text_and_fetches_nothing(page: Any) -> None:
    choose(page, "Hostile")
    run_to_end(page)
    assert "<img src=https://evil.example/x.png onerror=alert(1)> <b>bold</b> **stars**" in answer(page, "Hostile")
    rendered = panel(page, "Hostile").locator(".answer")
    assert "<img src=https://evil.example/x.png onerror=alert(1)> <b>bold</b> stars" in rendered.inner_text()
    assert rendered.locator("img, b").count() == 0


def test_terms_are_linked_at_the_column_before_the_run_and_after_it(page: Any) -> None:
    choose(page, "Hostile")
    for _ in ("before it runs", "and after"):
        assert page.locator("#outputs a[href='https://a.example/terms']").first.is_visible()
        assert page.locator("#outputs a[href='https://a.example/policy']").first.is_visible()
        run_to_end(page)


def test_the_system_prompt_is_off_with_the_reason_where_no_chosen_model_reads_it(page: Any) -> None:
    choose(page, "Base")
    page.locator("#parameters button").first.click()
    page.wait_for_selector("#system textarea:disabled")
    assert "Not used, for want of a chat template: Base" in page.locator("#system").inner_text()
    choose(page, "Base", "Fast")
    page.wait_for_selector("#system textarea:not(:disabled)")
    assert "Without a chat template, and will not see it: Base" in page.locator("#system").inner_text()


def test_an_empty_prompt_is_answered_in_place_and_loses_nothing(page: Any) -> None:
    choose(page, "Fast")
    run_to_end(page)
    page.fill("#prompt textarea", "  ")
    page.click("button#run")
    assert "empty" in notice(page, "The prompt")
    assert page.is_enabled("button#run")
    assert answer(page, "Fast") == "Paris is the capital of France."


def test_ctrl_enter_runs_what_stands_in_the_box(page: Any) -> None:
    choose(page, "Fast")
    page.fill("#prompt textarea", "What is the capital of France?")
    page.press("#prompt textarea", "Control+Enter")
    notice(page, "Done")
    page.get_by_role("tab", name="History").click()
    page.locator("#history-list", has_text="What is the capital of France?").wait_for()


def test_a_model_is_found_in_the_catalogue_shown_by_its_row_and_taken_into_the_comparison(page: Any) -> None:
    page.get_by_role("tab", name="Models").click()
    rows = page.locator("#listing [data-row]")
    every = rows.count()
    page.get_by_label("Search").fill("dies at")
    page.wait_for_function("document.querySelectorAll('#listing [data-row]').length === 1")
    assert every > 5
    compare = page.locator("#compare-this")
    assert compare.is_disabled()
    rows.first.locator("td").first.click()  # anywhere in the row
    page.wait_for_selector("#model-detail h3")
    assert page.locator("#model-detail h3").inner_text() == "Dies at token 3"
    assert page.get_by_role("button", name="The rest of the card").is_visible()
    page.wait_for_function("!document.querySelector('#compare-this').disabled")
    compare.click()
    page.wait_for_function("document.querySelectorAll('#models .token').length === 5")
    assert "Dies at token 3" in chosen(page)[-1]
    page.get_by_label("Search").fill("no such words")
    page.wait_for_selector("#listing .empty")
    page.wait_for_function("document.querySelector('#compare-this').disabled")
    assert page.locator("#model-detail h3").count() == 0


def test_two_sessions_share_the_models_and_never_see_each_others_text(browser: Any, app: App, page: Any) -> None:
    other = browser.new_context()
    second = other.new_page()
    second.goto(app.url)
    second.wait_for_selector("button#run")
    choose(page, "Fast", "Slow")
    choose(second, "Base", "Slow")
    page.click("button#run")
    second.click("button#run")
    notice(page, "Done")
    notice(second, "Done")
    assert "and so on" not in page.locator("#outputs").inner_text()
    assert "Paris is the capital" not in second.locator("#outputs").inner_text()
    assert answer(second, "Slow").endswith("Paris.")
    other.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_scrolls_sideways_on_a_phone(browser: Any, app: App, theme: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(f"{app.url}?__theme={theme}")
    page.wait_for_selector("button#run")
    choose(page, "Fast", "Base")
    run_to_end(page)
    assert page.locator("#outputs .panel:visible").count() == 2
    for tab in ("Compare", "Prompt set", "Measure", "Models", "History", "Learn"):
        page.get_by_role("tab", name=tab, exact=True).click()
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
    context.close()


def test_the_api_compares_lists_and_explains(app: App) -> None:
    client = pytest.importorskip("gradio_client").Client(app.url, verbose=False)
    result = client.predict("Capital of France?", ["fast", "base"], api_name="/compare")
    assert [run["variant"]["model"] for run in result["runs"]] == ["fast", "base"]
    assert result["runs"][0]["text"] == "Paris is the capital of France."
    assert result["runs"][0]["timings"]["mode"] == "fair"
    assert result["request"]["prompt"] == "Capital of France?"
    listed = client.predict(api_name="/models")
    assert [model["id"] for model in listed][:2] == ["fast", "slow"]
    assert listed[0]["variants"]["fast@fake-none"]["status"] == "ready"
    assert client.predict("fast", api_name="/card")["model"] == "fast"
    assert client.predict("fast", "Hi there", api_name="/inspect")["token_ids"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": ["fats"]}, "Did you mean fast"),
        ({"models": ["dies"]}, "'dies' is not served by the API of this app"),
        ({"models": ["path:/etc"]}, "/models lists those that are served here"),
        ({"models": ["fast@onnx-int8"]}, "fast@fake-none"),
        ({"models": []}, "No model"),
        ({"prompt": ""}, "empty"),
        ({"prompt": "x" * 100_000}, "100,000 characters"),
        ({"temperature": -1.0}, "temperature"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": 100_000}, "max_new_tokens"),
    ],
)
def test_the_api_refuses_bad_input_with_the_reason(app: App, changes: dict[str, Any], said: str) -> None:
    module = pytest.importorskip("gradio_client")
    client = module.Client(app.url, verbose=False)
    with pytest.raises(module.exceptions.AppError, match=re.escape(said)):
        client.predict(**{"prompt": "Hi", "models": ["fast"], **changes}, api_name="/compare")


def test_only_the_four_endpoints_are_offered(app: App) -> None:
    client = pytest.importorskip("gradio_client").Client(app.url, verbose=False)
    named = client.view_api(return_format="dict", print_info=False)
    assert set(named["named_endpoints"]) == {"/compare", "/models", "/card", "/inspect"}
    assert not named["unnamed_endpoints"]


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file=http://example.org/",
        "gradio_api/file=/etc/passwd",
        "file=/etc/passwd",
        "gradio_api/upload",
        "monitoring",
        "gradio_api/monitoring",
    ],
)
def test_no_file_no_other_site_and_no_monitoring_is_served(app: App, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(app.url + path, timeout=10)
    assert refused.value.code in (403, 404)


def test_a_busy_port_is_explained_and_exits_with_2(app: App) -> None:
    port = app.url.rstrip("/").rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "app.py", "--port", port], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 2
    assert f"Port {port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_end_of_the_app_takes_its_models_down(tmp_path: Path, how: signal.Signals) -> None:
    client_module = pytest.importorskip("gradio_client")
    with serving(tmp_path, "fast, endless", forked=False) as app:
        client = client_module.Client(app.url, verbose=False)
        client.predict("Hi", ["fast"], api_name="/compare")
        client.submit("Hi", ["endless"], api_name="/compare")
        deadline = time.monotonic() + 15
        while len(workers := app.workers()) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(workers) >= 2
        app.process.send_signal(how)
        # gradio waits 5 s for streams that are open; the rest is for whoever else computes here.
        assert app.process.wait(60) == 0
        _, alive = psutil.wait_procs(workers, timeout=3)
        assert not alive


@pytest.mark.integration
def test_the_two_real_models_answer_in_the_browser(browser: Any, tmp_path: Path) -> None:
    models = "smollm2-135m-instruct, gemma-3-270m"
    with serving(tmp_path, models, paths.CATALOG, load_settings().home, stall_s=120) as app:
        page = browser.new_page()
        page.goto(app.url)
        page.wait_for_selector("button#run")
        page.wait_for_function("() => !document.querySelector('#states li')", timeout=280_000)
        page.click("button#run")
        notice(page, "Done.", timeout_s=90)
        for name in ("SmolLM2 135M Instruct", "Gemma 3 270M (base)"):
            assert len(answer(page, name)) > 20
            computed_by = "ONNX Runtime" if building.obstacle() else "ONNX, own kernels"
            assert f"{computed_by} · int8 · fused export" in panel(page, name).inner_text()
        page.close()
