"""The code that asks again names all that was asked and nothing else, and says what it can't (tests/ui runs it)."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
from dataclasses import replace

from playground.records import Comparison, Environment, Message, ModelRun, Request, Variant
from playground.results.code_of_run import asked_again, code_of_run

BASE = "http://127.0.0.1:7860/"
NASTY = "It's \"quoted\", $(touch /tmp/x) `id` ${HOME} \\n\n日本語 🦙 </script> 'JSON'\n%s {asked} --x"
TALK = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Bye"))


def comparison(request: Request, *runs: ModelRun, mode: str = "fair") -> Comparison:
    return Comparison("a", "", request, runs or (run("m"),), Environment("cpu", 2, 8000.0), mode)  # type: ignore[arg-type]


def run(name: str, request: Request | None = None, taken_in: str = "") -> ModelRun:
    return ModelRun(Variant(name, "onnx", "int8"), "onnx", "int8", "x", "stop", request=request, taken_in=taken_in)


def code(asked: Comparison, language: str, **more: object) -> str:
    return next(each.code for each in code_of_run(asked, BASE, **more) if each.title.lower() == language)  # type: ignore[arg-type]


def notes(asked: Comparison, place: int = 0, **more: object) -> str:
    return " ".join(code_of_run(asked, BASE, **more)[place].notes)  # type: ignore[arg-type]


def test_what_a_request_has_by_itself_is_left_out() -> None:
    assert asked_again(comparison(Request("Hi"))) == {"prompt": "Hi", "models": ["m@onnx-int8"]}
    assert asked_again(comparison(Request("Hi", seed=None, stop=("a",)), mode="fast")) == {
        "prompt": "Hi", "models": ["m@onnx-int8"], "seed": None, "stop": ["a"], "mode": "fast",
    }  # fmt: skip


def test_columns_name_what_differs_back_to_a_requests_own_values_too() -> None:
    shared = Request("Hi", system="S", temperature=0.7, stop=("a",))
    own = replace(shared, temperature=0.0, system="", stop=(), top_k=5)
    asked = asked_again(comparison(shared, run("m"), run("m", own)))
    assert asked["columns"] == [
        {"model": "m@onnx-int8"},
        {"model": "m@onnx-int8", "temperature": 0.0, "system": "", "stop": [], "top_k": 5},
    ]
    assert "models" not in asked


def test_a_conversation_of_a_column_is_in_that_column() -> None:
    own = Request(messages=TALK)
    asked = asked_again(comparison(Request("Hi"), run("m"), run("n", own)))
    assert asked["columns"][1] == {"model": "n@onnx-int8", "messages": [each.to_json() for each in TALK]}


def test_each_language_reads_back_what_was_asked() -> None:
    asked = comparison(Request(NASTY, system=NASTY, stop=(NASTY,)))
    curl = shlex.split(code(asked, "curl").replace("\\\n", ""))
    body = next(word for word in curl if word.startswith('{"prompt"'))
    assert json.loads(body) == asked_again(asked)
    tree = ast.parse(code(asked, "python"))
    assert any(isinstance(node, ast.Dict) and ast.literal_eval(node) == asked_again(asked) for node in ast.walk(tree))
    words = shlex.split(code(asked, "terminal"))
    assert (words[0], words[-1], words[-2]) == ("playground", NASTY, "--")
    assert f"--system={NASTY}" in words
    assert f"--stop={NASTY}" in words


def test_what_is_pasted_into_a_terminal_presses_no_key_and_hides_nothing() -> None:
    keys = "Hi\x03\nrm -rf ~\n\x1b[201~ 'x' \\ \t\x15\x7f\x9b \u202ednammoc\u202c \u2066"
    asked = comparison(Request(keys, system=keys, stop=(keys,)))
    for language in ("curl", "python", "javascript", "terminal"):
        shown = code(asked, language)
        assert [sign for sign in shown if sign != "\n" and not (sign.isprintable())] == [], language
    assert json.loads(next(word for word in shlex.split(code(asked, "curl")) if word[:2] == '{"')) == asked_again(asked)
    script = f"playground() {{ printf '%s\\0' \"$@\"; }}\n{code(asked, 'terminal')}"
    ran = subprocess.run(["bash", "-c", script], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}, timeout=20)
    words = ran.stdout.decode().split("\0")
    assert words[-2] == keys
    assert f"--system={keys}" in words
    assert f"--stop={keys}" in words


def test_a_prompt_of_one_dash_is_no_order_to_read_the_keyboard() -> None:
    assert code(comparison(Request("-")), "terminal").startswith("printf %s - | playground compare ")


def test_what_can_not_be_asked_again_is_said() -> None:
    begun = Request("Hi", answer_ids=(1, 2))
    assert "continued from given tokens" in notes(comparison(Request("Hi"), run("m", begun)))
    assert "answer_ids" not in code(comparison(Request("Hi"), run("m", begun)), "curl")
    assert "another one each time" in notes(comparison(Request("Hi", seed=None, temperature=0.5)))
    assert "another one" not in notes(comparison(Request("Hi", seed=1, temperature=0.5)))
    assert "does not serve m" in notes(comparison(Request("Hi")), served=["n"])
    assert "serve" not in notes(comparison(Request("Hi")), served=["m"])
    assert "asked anew" in notes(comparison(Request("Hi"), run("m", taken_in="b")))
    assert "least number" in notes(comparison(Request("Hi", min_new_tokens=4)))
    assert notes(comparison(Request("Hi"))) == ""


def test_the_terminal_says_that_it_takes_no_conversation_and_writes_parameters_of_one_model_behind_its_name() -> None:
    talk = comparison(Request(messages=TALK))
    assert code(talk, "terminal") == ""
    assert "no conversation" in notes(talk, 3)
    two = comparison(Request("Hi"), run("m"), run("n"), run("m", Request("Hi", temperature=0.5)))
    commands = code(two, "terminal").splitlines()
    assert commands == ["playground compare -m m@onnx-int8 -m n@onnx-int8 -m 'm@onnx-int8?temperature=0.5' -- Hi"]
    nasty = comparison(Request("Hi"), run("m", Request("Hi", system="a&b=c? é", stop=("x&", "y"))))
    assert "'m@onnx-int8?system=a%26b%3Dc%3F%20%C3%A9&stop=x%26&stop=y'" in code(nasty, "terminal")


def test_what_can_not_be_written_behind_a_name_is_a_command_of_its_own() -> None:
    shared = Request("Hi", stop=("a",))
    asked = comparison(shared, run("m"), run("n", replace(shared, stop=())), run("o", replace(shared, prompt="Bye")))
    assert [line for line in code(asked, "terminal").splitlines() if line] == [
        "playground compare -m m@onnx-int8 --stop=a -- Hi",
        "playground compare -m n@onnx-int8 -- Hi",
        "playground compare -m o@onnx-int8 --stop=a -- Bye",
    ]
    assert "Several commands" in notes(asked, 3)
