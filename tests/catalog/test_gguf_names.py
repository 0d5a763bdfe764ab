"""Which GGUF file a tag means, and by which tag a file is proposed."""

from __future__ import annotations

from random import Random

import pytest

from playground.catalog import gguf_names
from playground.catalog.gguf_names import bits_of, fitting, quantisation_in, tags_of, unsplit, usual


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("model-Q4_K_M.gguf", "Q4_K_M"),
        ("model.q4_k_m.GGUF", "Q4_K_M"),
        ("model_Q5_0.gguf", "Q5_0"),
        ("Qwen2.5-0.5B-Instruct-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("model.i1-IQ3_XXS.gguf", "IQ3_XXS"),
        ("model-TQ1_0.gguf", "TQ1_0"),
        ("model-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("BF16/model-BF16-00001-of-00002.gguf", "BF16"),
        ("UD-Q2_K_XL/model-00001-of-00003.gguf", "UD-Q2_K_XL"),
        ("model-f16.gguf", "F16"),
        ("model-v0.1.gguf", ""),
        ("Q4_K_MODEL/x/model.gguf", ""),
    ],
)
def test_the_quantisation_is_read_from_the_name_or_its_folder(name: str, tag: str) -> None:
    assert quantisation_in(name) == tag


NAMES = [
    "m-Q4_K_M.gguf",
    "m-UD-Q4_K_M.gguf",
    "m.i1-IQ3_XXS.gguf",
    "BF16/m-BF16-00001-of-00002.gguf",
    "Q6_K/model.gguf",
    "other.gguf",
    "a-7b-Q8_0.gguf",
    "b-1b-Q8_0.gguf",
]


@pytest.mark.parametrize(
    ("tag", "files"),
    [
        ("q4_k_m", ["m-Q4_K_M.gguf"]),
        ("UD-Q4_K_M", ["m-UD-Q4_K_M.gguf"]),
        ("i1-iq3_xxs", ["m.i1-IQ3_XXS.gguf"]),
        ("bf16", ["BF16/m-BF16-00001-of-00002.gguf"]),
        ("Q6_K", ["Q6_K/model.gguf"]),
        ("OTHER", ["other.gguf"]),
        ("7b-Q8_0", ["a-7b-Q8_0.gguf"]),
        ("Q8_0", ["a-7b-Q8_0.gguf", "b-1b-Q8_0.gguf"]),
        # Parts of words are none.
        ("Q4_K", []),
        ("Q4", []),
        ("Q8", []),
        ("K_M", []),
        (".*", []),
    ],
)
def test_a_tag_is_a_whole_part_of_the_name_in_any_case(tag: str, files: list[str]) -> None:
    assert fitting(NAMES, tag) == files


def test_every_file_is_proposed_by_a_tag_that_means_it_alone() -> None:
    tags = tags_of(NAMES)
    assert {name: fitting(NAMES, tag) for name, tag in tags.items()} == {name: [name] for name in NAMES}
    assert tags["m-UD-Q4_K_M.gguf"] == "UD-Q4_K_M"
    assert tags["a-7b-Q8_0.gguf"] == "A-7B-Q8_0"
    assert tags_of(["x/y/m.gguf", "z/y/m.gguf"]) == {"x/y/m.gguf": "", "z/y/m.gguf": ""}


def test_what_is_proposed_is_what_a_look_at_all_names_would_give() -> None:
    random = Random(3)
    parts = ["m", "Q4_K_M", "q8_0", "UD-Q4_K_M", "7b", "a.b", "x", "MODEL", "00001-of-00002"]
    for _ in range(300):
        names = {
            "/".join("-".join(random.choices(parts, k=random.randint(1, 3))) for _ in range(random.randint(1, 3))) + end
            for end in (".gguf", ".GGUF")
            for _ in range(random.randint(1, 5))
        }
        found = tags_of(list(names))
        assert found.keys() == names
        for name, tag in found.items():
            folder = name.rpartition("/")[0].rpartition("/")[2]
            offered = [each for each in (quantisation_in(name), folder, unsplit(name)) if each]
            clear = [each.upper() for each in offered if fitting(list(names), each) == [name]]
            assert tag == (clear[0] if clear else "")


def test_thousands_of_files_take_no_more_than_a_few_looks_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def counted(name: str) -> str:
        nonlocal looks
        looks += 1
        return unsplit(name)

    monkeypatch.setattr(gguf_names, "unsplit", counted)
    names = [f"{number}/m-{number}.gguf" for number in range(3000)]
    assert set(tags_of(names).values()) == {f"{number}" for number in range(3000)}
    assert looks <= 8 * len(names)


def test_llama_cpps_own_choice_is_proposed_where_it_is_there() -> None:
    assert usual(["BF16", "Q8_0", "Q4_K_M"]) == "Q4_K_M"
    assert usual(["", "IQ2_S"]) == "IQ2_S"
    assert usual([""]) == ""


def test_bits_grow_with_the_number_in_the_quantisation() -> None:
    tags = ("TQ1_0", "Q2_K", "IQ3_XXS", "MXFP4", "Q5_K_M", "Q6_K", "Q8_0", "BF16", "F32")
    bits = [bits_of(tag) for tag in tags]
    assert bits == sorted(bits)
    assert bits_of("no-quantisation") == 16
