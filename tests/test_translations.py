"""Whose language it is: of a request by its header, of a terminal by its environment; only what there is is chosen."""

from __future__ import annotations

import contextvars
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground import translations
from playground.messages import Translatable, msg, plural, render
from playground.translations import ENGLISH, for_page, for_terminal, from_environment, from_header, lookup
from playground.ui import i18n
from tests.support.pseudo_language import LANGUAGE, write_pseudo_language

UNKNOWN = msg("Unknown model '{name}'", name="smol")
IN_PSEUDO = "⟦Unknown model 'smol'⟧"


@pytest.fixture
def pseudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translations, "LOCALE", write_pseudo_language(tmp_path / "locale"))
    monkeypatch.delenv("PLAYGROUND_LANGUAGE", raising=False)


@pytest.mark.parametrize(
    ("header", "languages"),
    [
        ("", []),
        ("ja", ["ja"]),
        ("en-GB,en;q=0.9,ja;q=0.8", ["en-GB", "en", "ja"]),
        ("ja;q=0.2, de ; q=0.9 ,fr;q=1.0", ["fr", "de", "ja"]),
        ("ja;q=0, de", ["de"]),
        ("*", ["*"]),
        ("ja;q=high, ../../etc, de", ["de"]),
        (";;;,,,q=1", []),
    ],
)
def test_a_header_is_read_by_its_weights(header: str, languages: list[str]) -> None:
    assert from_header(header) == languages


@given(st.text(max_size=200))
def test_no_header_breaks_anything(header: str) -> None:
    assert lookup(from_header(header), ["en", "ja"]) in ("en", "ja")


def test_a_long_header_is_not_read_to_its_end() -> None:
    assert len(from_header(",".join(["ja"] * 100_000))) == translations.MAX_RANGES


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["ja"], "ja"),
        (["ja-JP"], "ja"),
        (["JA_jp"], "ja"),
        (["en-US", "ja"], "en"),
        (["fr", "ja"], "ja"),
        (["fr"], "en"),
        ([], "en"),
        (["*"], "en"),
        (["zh-Hant-TW"], "zh_Hant"),
        (["zh-Hans"], "en"),
        (["pt"], "en"),
    ],
)
def test_the_first_language_that_there_is_is_taken(wanted: list[str], found: str) -> None:
    assert lookup(wanted, ["en", "ja", "zh_Hant", "pt_BR"]) == found


@pytest.mark.parametrize(
    ("env", "languages"),
    [
        ({}, []),
        ({"LANG": "ja_JP.UTF-8"}, ["ja_JP"]),
        ({"LANG": "ja_JP.UTF-8", "LC_MESSAGES": "de_DE@euro"}, ["de_DE"]),
        ({"LANG": "ja_JP.UTF-8", "LC_MESSAGES": "de_DE", "LC_ALL": "fr_FR.UTF-8"}, ["fr_FR"]),
        ({"LANG": "ja_JP.UTF-8", "LANGUAGE": "de:fr"}, ["de", "fr"]),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C", "LANGUAGE": "de"}, []),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C", "PLAYGROUND_LANGUAGE": "de"}, ["de"]),
        ({"LANG": "", "LC_ALL": "C.UTF-8"}, ["C"]),
    ],
)
def test_an_environment_is_read_as_gettext_reads_it(env: dict[str, str], languages: list[str]) -> None:
    assert from_environment(env) == languages


@pytest.mark.usefixtures("pseudo")
def test_what_was_chosen_for_everybody_goes_before_headers_and_locales() -> None:
    assert render(UNKNOWN, for_page("de", {"PLAYGROUND_LANGUAGE": "en"})) == UNKNOWN
    assert render(UNKNOWN, for_page("en", {"PLAYGROUND_LANGUAGE": LANGUAGE})) == IN_PSEUDO
    assert render(UNKNOWN, for_terminal({"LANG": "en_US.UTF-8", "PLAYGROUND_LANGUAGE": LANGUAGE})) == IN_PSEUDO


@pytest.mark.usefixtures("pseudo")
def test_both_forms_of_a_number_and_lists_are_said() -> None:
    read = for_page("de-AT, en;q=0.5", {})
    names = msg("Did you mean {names}?", names=["a", "b"])
    assert render(names, read) == "⟦Did you mean a, b?⟧"
    assert render(msg("not in any catalogue {x}", x=1), read) == "not in any catalogue 1"


def test_a_plural_is_chosen_by_the_languages_own_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from babel.messages.catalog import Catalog

    from scripts.messages import written

    catalog = Catalog(locale="pl")  # three forms
    catalog.add(("{n} model", "{n} models"), ("{n} model", "{n} modele", "{n} modeli"))
    path = tmp_path / "pl" / "LC_MESSAGES" / "playground.po"
    path.parent.mkdir(parents=True)
    path.write_bytes(written(catalog, dated=True))
    monkeypatch.setattr(translations, "LOCALE", tmp_path)
    said = [render(plural("{n} model", "{n} models", n=n), for_page("pl", {})) for n in (1, 3, 5)]
    assert said == ["1 model", "3 modele", "5 modeli"]


def test_a_catalogue_that_is_no_catalogue_is_no_reason_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fr" / "LC_MESSAGES" / "playground.po"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"broken")
    monkeypatch.setattr(translations, "LOCALE", tmp_path)
    assert render(UNKNOWN, for_page("fr", {})) == UNKNOWN


def test_a_catalogue_with_an_unknown_encoding_or_a_broken_rule_is_passed_over_with_a_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(translations, "LOCALE", tmp_path)
    heads = {
        "aa": "Content-Type: text/plain; charset=nonsense\n",
        "bb": "Content-Type: text/plain; charset=utf-8\nPlural-Forms: nplurals=2; plural=\n",
        "cc": "Content-Type: text/plain; charset=utf-8\nPlural-Forms: nonsense\n",
    }
    for language, head in heads.items():
        write_po(tmp_path, language, head)
        assert render(UNKNOWN, for_page(language, {})) == UNKNOWN
        assert f"The catalogue of {language} can't be read" in caplog.text


def test_a_rule_of_plurals_that_breaks_on_a_number_leaves_english(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translations, "LOCALE", tmp_path)
    head = "Content-Type: text/plain; charset=utf-8\nPlural-Forms: nplurals=2; plural=1/n;\n"
    write_po(tmp_path, "dd", head)
    assert render(plural("{n} model", "{n} models", n=0), for_page("dd", {})) == "0 models"


def write_po(folder: Path, language: str, head: str) -> None:
    """A catalogue of one message with this head."""
    path = folder / language / "LC_MESSAGES" / "playground.po"
    path.parent.mkdir(parents=True)
    lines = "".join(f'"{line}\\n"\n' for line in head.splitlines())
    message = 'msgid "{n} model"\nmsgid_plural "{n} models"\nmsgstr[0] "X"\nmsgstr[1] "Y"\n'
    path.write_text(f'msgid ""\nmsgstr ""\n{lines}\n{message}', encoding="utf-8")


def test_there_are_english_and_japanese() -> None:
    assert translations.languages(translations.LOCALE) == ("en", "ja")
    assert for_page("fr, de;q=0.5", {}) is ENGLISH
    assert render(UNKNOWN, for_page("ja-JP, en;q=0.5", {})) != UNKNOWN


@pytest.mark.usefixtures("pseudo")
def test_two_readers_at_once_get_each_their_own_language() -> None:
    """Each in a context of its own, as events are, in whatever order they take turns."""
    turn, said = threading.Barrier(2), dict[str, list[str]]()

    def read(header: str) -> None:
        with i18n.reading(header):
            for _ in range(20):
                turn.wait(10)
                said.setdefault(header, []).append(i18n.say(UNKNOWN))

    threads = [threading.Thread(target=contextvars.copy_context().run, args=(read, each)) for each in ("de", "en")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert said == {"de": [IN_PSEUDO] * 20, "en": [str(UNKNOWN)] * 20}
    assert i18n.say(UNKNOWN) == UNKNOWN


def test_what_is_no_message_is_said_as_it_is() -> None:
    assert i18n.say("Paris is the capital.") == "Paris is the capital."
    assert i18n.say(Translatable.from_json("old words")) == "old words"
