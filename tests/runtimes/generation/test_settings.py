"""Settings of a model's own files: what generate obeys is obeyed, token for token, and what is not is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as some

from playground.records import LoadSpec, ModelRun, Request
from playground.runtimes import create_runtime
from playground.runtimes.generation import settings as generation
from playground.runtimes.generation.settings import read_settings
from tests.support import tiny

LENGTH = 14
PROMPT = "the quick brown fox jumps over the lazy fox"
NONE = {"eos_token_id": 0, "pad_token_id": 2}


@dataclass
class Both:
    """A tiny model as the product runs it and as transformers does."""

    folder: Path
    runtime: Any
    network: Any

    def set(self, own: dict[str, Any]) -> None:
        """Let the model's files hold ``own`` settings."""
        from transformers import GenerationConfig

        start = {"decoder_start_token_id": 1} if self.network.config.is_encoder_decoder else {}
        path = self.folder / "generation_config.json"
        path.write_text(json.dumps(NONE | start | own))
        self.network.generation_config = GenerationConfig.from_pretrained(self.folder)
        self.runtime._loaded = replace(self.runtime._loaded, own=read_settings(self.folder))

    def ours(self, **request: Any) -> ModelRun:
        run = list(self.runtime.generate(Request(PROMPT, **{"max_new_tokens": LENGTH, **request}), lambda: False))[
            -1
        ].run
        assert run is not None
        return run

    def wanted(self, **given: Any) -> list[int]:
        import torch

        ids = list(self.runtime.inspect(Request(PROMPT)).token_ids)
        begun = 1 if self.network.config.is_encoder_decoder else len(ids)
        found = self.network.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            **{"max_new_tokens": LENGTH, "do_sample": False, "num_beams": 1, **given},
        )
        return found[0, begun:].tolist()


def both(folder: Path, kind: str, network: Any) -> Both:
    network.save_pretrained(folder)
    runtime = create_runtime("torch")
    runtime.load(LoadSpec(tiny.spec(kind), tiny.artifact(folder, "torch"), threads=1))
    return Both(folder, runtime, network.eval())


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    from transformers import LlamaForCausalLM

    folder = tiny.write_model(tmp_path_factory.mktemp("causal"))
    (folder / "chat_template.jinja").unlink()
    made = both(folder, "base", LlamaForCausalLM.from_pretrained(folder))
    yield made
    made.runtime.close()


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """An encoder-decoder model."""
    import torch
    from transformers import BartConfig, BartForConditionalGeneration

    folder = tiny.write_tokenizer(tmp_path_factory.mktemp("beside"), template=None)
    torch.manual_seed(5)
    config = BartConfig(
        vocab_size=tiny.VOCAB,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=128,
        init_std=0.6,
        bos_token_id=1,
        eos_token_id=0,
        pad_token_id=2,
        decoder_start_token_id=1,
        forced_eos_token_id=None,
    )
    made = both(folder, "text2text", BartForConditionalGeneration(config))
    yield made
    made.runtime.close()


@pytest.fixture(params=["causal", "beside"])
def model(request: pytest.FixtureRequest) -> Both:
    made: Both = request.getfixturevalue(request.param)
    return made


def favourites(model: Both, **own: Any) -> list[int]:
    """What it writes without any settings, or with ``own``."""
    model.set(own)
    return model.wanted()


CHANGING: dict[str, Any] = {
    "repetition_penalty": lambda _: 1.9,
    "encoder_repetition_penalty": lambda _: 3.0,
    "no_repeat_ngram_size": lambda _: 1,
    "encoder_no_repeat_ngram_size": lambda _: 1,
    "bad_words_ids": lambda usual: [[usual[0]], [usual[0], usual[1]], [0]],
    "sequence_bias": lambda usual: [[[usual[0]], -50.0], [[7, 8], 2.0]],
    "suppress_tokens": lambda usual: usual[:2],
    "begin_suppress_tokens": lambda usual: usual[:1],
    "forced_eos_token_id": lambda _: 0,
    "exponential_decay_length_penalty": lambda _: [2, 4.0],
    "min_new_tokens": lambda _: 9,
    "min_length": lambda _: 60,
    "forced_bos_token_id": lambda _: 33,
}


@pytest.mark.filterwarnings("ignore:Unfeasible length constraints:UserWarning")  # what generate says of min_length 60
@pytest.mark.parametrize("name", CHANGING)
def test_each_setting_changes_the_answer_as_it_changes_generates(model: Both, name: str) -> None:
    read = list(model.runtime.inspect(Request(PROMPT)).token_ids)
    own: dict[str, Any] = {"sequence_bias": [[[read[3]], 30.0]]} if name == "encoder_no_repeat_ngram_size" else {}
    usual = favourites(model, **own)
    own[name] = CHANGING[name](usual)
    unforced = name == "forced_bos_token_id" and not model.network.config.is_encoder_decoder
    if name.startswith("min_"):  # a model that wants to end at once
        own["eos_token_id"] = usual[0]
        model.runtime._loaded.prompter.eos_ids = frozenset({usual[0]})
    try:
        model.set(own)
        run = model.ours()
        assert list(run.token_ids or ()) == model.wanted()
    finally:
        model.runtime._loaded.prompter.eos_ids = frozenset({0})
    if not unforced:
        assert list(run.token_ids or ()) != usual[: 1 if name.startswith("min_") else None]
    assert any(name in warning and "obeyed" in warning for warning in run.warnings) != unforced


tokens = some.integers(1, 60)
several = some.lists(tokens, min_size=1, max_size=4)
SETTINGS = some.fixed_dictionaries(
    {},
    optional={
        "repetition_penalty": some.floats(0.7, 2.0),
        "encoder_repetition_penalty": some.floats(0.7, 2.0),
        "no_repeat_ngram_size": some.integers(0, 3),
        "encoder_no_repeat_ngram_size": some.integers(0, 3),
        "bad_words_ids": some.lists(several, min_size=1, max_size=4),
        "sequence_bias": some.lists(some.tuples(several, some.floats(-9, 9)).map(list), min_size=1, max_size=4),
        "min_length": some.integers(0, 12),
        "min_new_tokens": some.integers(0, 12),
        "forced_bos_token_id": tokens,
        "forced_eos_token_id": some.one_of(some.just(0), some.just([0, 5])),
        "remove_invalid_values": some.booleans(),
        "exponential_decay_length_penalty": some.tuples(some.integers(1, 8), some.floats(1.01, 2)).map(list),
        "suppress_tokens": several,
        "begin_suppress_tokens": several,
        "renormalize_logits": some.booleans(),
        "eos_token_id": some.sampled_from([0, [0]]),
        "temperature": some.floats(0.1, 2),
        "do_sample": some.booleans(),
        "top_k": some.integers(1, 50),
        "use_cache": some.booleans(),
    },
)


@settings(max_examples=15, deadline=None)
@given(own=SETTINGS)
@example(own={"remove_invalid_values": True, "min_length": 12, "exponential_decay_length_penalty": [1, 2.0]})
def test_any_settings_together_give_the_tokens_of_generate(causal: Both, beside: Both, own: dict[str, Any]) -> None:
    assume(own.get("forced_bos_token_id") not in own.get("suppress_tokens", ()))
    for model in (causal, beside):
        model.set(own)
        assert list(model.ours().token_ids or ()) == model.wanted()


def test_a_request_wins_over_the_files(model: Both) -> None:
    model.set({"repetition_penalty": 1.9, "min_length": 4})
    run = model.ours(repetition_penalty=1.2, min_new_tokens=LENGTH)
    assert list(run.token_ids or ()) == model.wanted(repetition_penalty=1.2, min_new_tokens=LENGTH)
    said = (
        "The model's own files set repetition_penalty 1.9 and min_length 4; the request's repetition_penalty 1.2 and "
    )
    assert said + f"min_new_tokens {LENGTH} is used instead." in run.warnings


def test_a_run_of_fixed_length_has_it_even_where_the_files_force_an_end(model: Both) -> None:
    model.set({"forced_eos_token_id": 0, "exponential_decay_length_penalty": [1, 3.0]})
    run = model.ours(min_new_tokens=LENGTH)
    assert run.timings.output_tokens == LENGTH
    assert list(run.token_ids or ()) == model.wanted(min_new_tokens=LENGTH)


def test_stop_strings_of_the_files_end_the_answer(model: Both) -> None:
    model.set({})
    text = model.ours().text
    stop = text[4:7]
    model.set({"stop_strings": [stop]})
    run = model.ours()
    assert run.text == text[: text.index(stop)] and run.finish_reason == "stop"
    assert f"The model's own files set stop_strings “{stop}”: obeyed, as by transformers' generate." in run.warnings


def test_scoring_looks_at_the_raw_logits(model: Both) -> None:
    prompt = list(model.runtime.inspect(Request(PROMPT)).token_ids)
    answer = favourites(model)[:5]
    rows = [row.copy() for row in model.runtime.score(prompt, answer, lambda: False) if row is not None]
    model.set({"suppress_tokens": answer, "repetition_penalty": 2.0})
    again = [row.copy() for row in model.runtime.score(prompt, answer, lambda: False) if row is not None]
    assert len(rows) == len(again) == 5
    assert all((one == other).all() for one, other in zip(rows, again, strict=True))


@pytest.mark.parametrize(
    ("own", "request_", "words"),
    [
        ({"num_beams": 4, "length_penalty": 2.0}, {}, "num_beams 4: beam search is not served"),
        ({"guidance_scale": 1.5}, {}, "guidance_scale 1.5: guidance by a second pass is not served"),
        ({"penalty_alpha": 0.6, "top_k": 4}, {}, "penalty_alpha 0.6: contrastive search is not served"),
        ({"typical_p": 0.9}, {"temperature": 1.0}, "typical_p 0.9: this filter is not served"),
        ({"eta_cutoff": 0.01}, {"temperature": 1.0}, "eta_cutoff 0.01: this filter is not served"),
        ({"dola_layers": "high"}, {}, "dola_layers high: contrasting layers is not served"),
        ({"watermarking_config": {"bias": 2.0}}, {}, "watermarking_config: no watermark"),
        ({"token_healing": True}, {}, "token_healing: the end of a prompt stays as it is"),
        ({"repetition_penalty": "much"}, {}, "repetition_penalty to a value that has no meaning"),
        ({"bad_words_ids": [[3], [-4]]}, {}, "bad_words_ids to a value that has no meaning"),
    ],
)
def test_what_is_not_served_is_said(tmp_path: Path, own: dict[str, Any], request_: dict[str, Any], words: str) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(own))
    found = read_settings(tmp_path)
    assert any(words in warning for warning in found.warnings(Request("x", **request_), 5))
    assert found.rules(Request("x"), [1], 1, 9, {0}) is None


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "do_sample": True, "max_length": 2048, "eos_token_id": [1, 2]},
        {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "num_beams": 1, "min_length": 0, "typical_p": 1.0},
        {"suppress_tokens": [-1], "bad_words_ids": [], "forced_bos_token_id": None, "penalty_alpha": 0.0},
        {"min_length": 30, "min_new_tokens": 0},
        {"prompt_lookup_num_tokens": 3, "cache_implementation": "hybrid", "guidance_scale": 1.0},
    ],
)
def test_where_nothing_is_changed_nothing_is_done_and_nothing_said(tmp_path: Path, own: dict[str, Any]) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps(own))
    found = read_settings(tmp_path)
    for temperature in (0.0, 1.0):
        request = Request("x", temperature=temperature, repetition_penalty=1.3)
        assert found.rules(request, [1], 1, 9, {0}) is None
        assert found.warnings(request, 1) == ()


def test_old_settings_inside_config_json_count_where_there_is_no_other_file(tmp_path: Path) -> None:
    config = {
        "no_repeat_ngram_size": 3,
        "num_beams": 4,
        "force_bos_token_to_be_generated": True,
        "bos_token_id": 7,
        "eos_token_id": 2,
        "decoder": {"repetition_penalty": 1.5, "eos_token_id": 9},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = read_settings(tmp_path)
    assert found.obeyed == {"no_repeat_ngram_size": 3, "forced_bos_token_id": 7, "repetition_penalty": 1.5}
    assert found.ends == (2,) and found.starts == 7 and "num_beams 4" in found.left_out[0]
    (tmp_path / "generation_config.json").write_text("{}")
    assert read_settings(tmp_path).obeyed == {}


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"no_repeat_ngram_size": ' + "[" * 99_999])
def test_files_that_cannot_be_read_ask_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "generation_config.json").write_text(text)
    assert read_settings(tmp_path) == generation.OwnSettings()


def test_every_setting_that_transformers_knows_has_been_thought_of() -> None:
    """A new one has to be obeyed, named in a warning, or put here with the reason why neither is needed."""
    from transformers import GenerationConfig

    the_request_decides = "max_length max_new_tokens do_sample temperature top_k top_p min_p"
    tokens_by_name = "pad_token_id bos_token_id eos_token_id decoder_start_token_id"
    only_with_beams = "early_stopping length_penalty num_return_sequences diversity_penalty num_beam_groups low_memory"
    only_speed = "use_cache cache_config max_cache_len compile_config disable_compile prefill_chunk_size"
    only_outputs = "output_attentions output_hidden_states output_scores output_logits return_dict_in_generate"
    about_files = "transformers_version _from_model_config continuous_batching_config"
    changes_no_choice = "renormalize_logits"
    verified_guesses = (
        "use_mtp is_assistant num_assistant_tokens num_assistant_tokens_schedule assistant_confidence_threshold "
        "prompt_lookup_num_tokens max_matching_ngram_size assistant_early_exit assistant_lookbehind target_lookbehind "
        "assistant_ensemble_weight speculation_type"
    )
    spoken_for = (the_request_decides, tokens_by_name, only_with_beams, only_speed, only_outputs, about_files)
    silent = " ".join((*spoken_for, changes_no_choice, verified_guesses)).split()
    tables = (generation._OBEYED, generation._NOT_SERVED, generation._GREEDY, generation._DRAWN)
    known = {name for table in tables for name in table} | set(silent)
    assert set(GenerationConfig().to_dict()) - known == set()
    assert set(generation._RULES) | {"stop_strings"} == set(generation._OBEYED)
