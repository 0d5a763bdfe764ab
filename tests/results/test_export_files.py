"""A comparison leaves as a file with everything in it: what each model was asked, what came, and how it was taken."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from playground.messages import foreign, msg
from playground.records import Comparison, Environment, Message, ModelRun, Request, Timings, Variant
from playground.results import receipts
from playground.results.export_files import MEDIA, cell, file_name, text_of
from playground.results.figures import Measured, Measurement, figure
from playground.results.receipts import condition_lines

HERE = Environment("A CPU", 2, 8000.0, {"onnxruntime": "1.32.0"}, "abc123", cores_affinity=2)
TAKEN = Timings(
    cold=False, load_s=0.0, prompt_tokens=8, output_tokens=4, ttft_s=0.1, decode_tok_s=20.0, total_s=0.25, threads=2
)
SHARED = Request("And now?", messages=(), system="Be brief.", temperature=0.0, seed=0)
HISTORY = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "And now?"))
TALK = replace(SHARED, prompt="", messages=HISTORY, temperature=0.7, stop=("\n", "=end"))
ON = replace(SHARED, answer_ids=(5, 6, 7, 8))
VARIANT = Variant("m", "onnx", "int8")


def run(text: str, **more: object) -> ModelRun:
    return ModelRun(VARIANT, "onnx", "int8", text, "stop", TAKEN, token_ids=(1, 2, 3, 4), **more)  # type: ignore[arg-type]


DONE = Comparison(
    "c" * 32, "2026-11-24T10:00:00.000Z", SHARED,
    (
        run("plain"),
        run("=HYPERLINK(\"http://x\")", request=TALK),
        run("carried", taken_in="earlier"),
        run("eight tokens", request=ON),
        replace(run(""), finish_reason="error", error=msg("it broke"), timings=Timings()),
    ),
    HERE, parent="before",
)  # fmt: skip
MEASURED = Measurement(
    "b" * 32, "2026-11-24T10:00:00.000Z", Request("a", max_new_tokens=4, min_new_tokens=4), 3,
    (
        Measured(VARIANT, "onnx", "int8", output_tokens=4, figures={"ttft_s": figure("ttft_s", "s", [0.1, 0.2, 0.3])}),
        Measured(Variant("n"), error=msg("it broke")),
    ), HERE, warnings=(msg("busy"),),
)  # fmt: skip


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_json_is_the_record_again_with_its_receipts() -> None:
    document = json.loads(text_of(DONE, "json"))
    assert Comparison.from_json(document) == DONE
    assert (document["parent"], len(document["receipts"]["models"])) == ("before", 5)
    assert Measurement.from_json(json.loads(text_of(MEASURED, "json"))) == MEASURED


def test_jsonl_has_a_line_a_run_each_whole_in_itself() -> None:
    lines = [json.loads(line) for line in text_of(DONE, "jsonl").splitlines()]
    assert [line["column"] for line in lines] == [0, 1, 2, 3, 4]
    for place, line in enumerate(lines):
        assert Request.from_json(line["request"]) == DONE.asked(place)
        assert replace(ModelRun.from_json(line["run"]), request=DONE.runs[place].request) == DONE.runs[place]
        assert line["receipt"]["variant"] == VARIANT.to_json()
        assert Environment.from_json(line["environment"]) == HERE
        assert (line["comparison"], line["parent"], line["mode"]) == (DONE.id, "before", "fair")
    measured = [json.loads(line) for line in text_of(MEASURED, "jsonl").splitlines()]
    assert [line["model"] for line in measured] == [str(VARIANT), "n"]
    assert measured[0]["receipt"]["figures"]["ttft_s"]["values"] == [0.1, 0.2, 0.3]


def test_csv_has_a_row_a_run_and_units_in_its_headings() -> None:
    plain, talk, carried, went_on, failed = rows_of(text_of(DONE, "csv"))
    assert (plain["ttft_s [s]"], plain["decode_tok_s [tokens/s]"], plain["start"]) == ("0.1", "20.0", "warm")
    assert json.loads(talk["messages"]) == [message.to_json() for message in HISTORY]
    assert (talk["temperature"], talk["own_request"], plain["temperature"]) == ("0.7", "true", "0.0")
    assert (talk["prompt"], talk["system"]) == ("And now?", "Be brief.")
    assert json.loads(talk["stop"]) == ["\n", "=end"]
    assert (carried["taken_in"], plain["taken_in"], plain["parent"]) == ("earlier", "", "before")
    assert went_on["answer_begins_with [tokens read]"] == "4"
    assert (failed["error"], failed["ttft_s [s]"]) == ("it broke", "")
    assert plain["load_s [s]"] == ""  # it was warm: 0 s is no time of loading


def test_csv_of_a_measurement_has_median_quartiles_and_values() -> None:
    taken, failed = rows_of(text_of(MEASURED, "csv"))
    assert (taken["ttft_s median [s]"], taken["ttft_s high [s]"]) == ("0.2", "0.25")
    assert json.loads(taken["ttft_s values [s]"]) == [0.1, 0.2, 0.3]
    assert (failed["error"], failed["ttft_s median [s]"], taken["warnings"]) == ("it broke", "", "busy")


@pytest.mark.parametrize("begins", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1"])
def test_no_cell_is_a_formula(begins: str) -> None:
    nasty = replace(DONE, request=Request(begins, system=begins), runs=(run(begins, error=foreign(begins)),))
    (row,) = rows_of(text_of(nasty, "csv"))
    assert row["prompt"] == row["system"] == row["answer"] == row["error"] == f"'{begins}"
    assert not [value for value in row.values() if value.lstrip(" ")[:1] in set("=+@\t\r\n＝") or value[:2] == "-1"]


def test_a_number_below_zero_stays_a_number() -> None:
    assert (cell(-1.5), cell("-1.5"), cell(None), cell(True)) == ("-1.5", "'-1.5", "", "true")


def test_text_in_a_cell_survives_quotes_commas_lines_and_scripts_of_the_world() -> None:
    said = 'a "b", c\r\nd 日本語 🦙 عربي'
    (row,) = rows_of(text_of(replace(DONE, runs=(run(said),)), "csv"))
    assert row["answer"] == said


def test_markdown_says_what_each_was_asked_what_was_read_and_where_it_was_taken() -> None:
    page = text_of(DONE, "md")
    assert "- goes on from comparison before" in page
    assert "## Answer of m@onnx-int8 \\#2" in page  # the same variant in several columns: by position
    assert "user: Hi\nassistant: Hello\nuser: And now?" in page
    assert "- Temperature: 0.0" in page
    assert "- Asked otherwise: Temperature: 0.7 (of all: 0.0)" in page
    assert "- Asked otherwise: a conversation of its own, 3 turns" in page
    assert "- Taken: in comparison earlier, and carried over as it was; that one says on which machine" in page
    assert "- Answer begins: with 4 tokens that were read, not chosen" in page


def test_markdown_is_said_in_the_readers_language() -> None:
    page = text_of(DONE, "md", lambda text: str(text).upper())
    assert "## FIGURES" in page
    assert "plain" in page


def test_characters_a_second_count_only_what_was_chosen() -> None:
    made = receipts.of_comparison(DONE).models
    # "eight tokens" has 12 characters in 8 tokens, 4 of them read: 1.5 characters a token × 20 tokens a second.
    assert made[3].figures["decode_char_s"].values == (30.0,)
    assert made[0].figures["decode_char_s"].values == (25.0,)
    assert made[3].read_tokens == 4


def test_a_receipt_is_silent_where_a_run_was_asked_what_all_were() -> None:
    said = dict(condition_lines(receipts.of_comparison(DONE).models[0]))
    assert not {"Asked otherwise", "Answer begins", "Taken"} & set(said)


@pytest.mark.parametrize("id", ["../../etc/passwd", 'a"\r\nb', "", "日本"])
def test_a_file_has_a_name_that_is_one_everywhere(id: str) -> None:
    name = file_name(replace(DONE, id=id), "csv")
    assert name.startswith("comparison-")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz-.ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    assert ".." not in name


def test_every_format_but_the_page_is_made_here() -> None:
    assert {ending for ending in MEDIA if ending != "html"} == {"json", "jsonl", "csv", "md", "comparator"}
    for ending in set(MEDIA) - {"html"}:
        assert text_of(DONE, ending)
    with pytest.raises(KeyError):
        text_of(DONE, "exe")
