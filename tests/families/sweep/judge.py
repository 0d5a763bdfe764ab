"""What transformers itself answers: its automatic classes on the files as they were published, and ``generate``.

Nothing here is the product's: no import, no prompt, no loop. It is greedy in fp32, with whatever else the model's own
generation settings say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.families.sweep.names import Architecture
from tests.families.sweep.networks import alone
from tests.families.sweep.prompts import Prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLOSE = 2e-3
"""Logits: two arithmetics in fp32 may choose differently where the two likeliest tokens are nearer than this."""


@dataclass(frozen=True)
class Expected:
    """The answer to one prompt.

    Attributes:
        ids: Of the prompt.
        new: Ids of the answer, the end of text included.
        text: The answer without special tokens.
        leads: Logits by which each token led, as ``generate`` computed them.
        consistent: Whether the network, given all of it at once without a cache, would choose the same tokens where
            they lead clearly; None where it can't be asked.
    """

    ids: list[int]
    new: list[int]
    text: str
    leads: list[float]
    consistent: bool | None


class Judge:
    """One model, loaded from ``folder`` by the automatic class of its list.

    Raises:
        Exception: Whatever transformers says.
    """

    def __init__(self, architecture: Architecture, folder: Path) -> None:
        from transformers import AutoTokenizer

        self._network = _network(architecture, folder).eval()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.class_name = type(self._network).__name__
        self._has_encoder = bool(self._network.config.is_encoder_decoder)

    def answer(self, prompt: Prompt) -> Expected:
        """What ``generate`` says to it."""
        import torch

        ids = self._tokenizer(prompt.text, return_tensors="pt").input_ids
        with torch.inference_mode():
            output = self._network.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                num_beams=1,
                repetition_penalty=prompt.penalty,
                max_new_tokens=prompt.tokens,
                output_scores=True,
                output_logits=True,
                return_dict_in_generate=True,
            )
        sequence = output.sequences[0].tolist()
        new = sequence[len(sequence) - len(output.logits) :]
        leads = []
        for row in output.scores:
            first, second = row[0].float().topk(2).values.tolist()
            leads.append(first - second)
        text = self._tokenizer.decode(new, skip_special_tokens=True)
        chosen = [row[0].float().numpy() for row in output.logits]
        return Expected(ids[0].tolist(), new, text, leads, self._consistent(ids[0].tolist(), new, chosen))

    def rows(self, ids: Sequence[int], new: Sequence[int]) -> NDArray[Any]:
        """Logits ``[len(new), vocab]`` behind which each token of ``new`` stands, in one pass without a cache."""
        import torch

        whole = torch.tensor([[*self._start(ids), *new[:-1]]])
        given = {"input_ids": whole, "attention_mask": torch.ones_like(whole)}
        if self._has_encoder:
            prompt = torch.tensor([list(ids)])
            given = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt), "decoder_input_ids": whole}
        with torch.inference_mode():
            logits = self._network(**given, use_cache=False).logits[0]
        rows: NDArray[Any] = logits[-len(new) :].float().numpy()
        return rows

    def _start(self, ids: Sequence[int]) -> list[int]:
        """What stands before an answer to ``ids``: the same, or what a decoder starts with."""
        if not self._has_encoder:
            return list(ids)
        start = self._network.generation_config.decoder_start_token_id
        return [self._network.config.decoder_start_token_id if start is None else start]

    def _consistent(self, ids: Sequence[int], new: Sequence[int], chosen: Sequence[NDArray[Any]]) -> bool | None:
        """Whether rows in one pass and those that ``generate`` saw, step by step, have the same favourites."""
        try:
            rows = self.rows(ids, new)
        except Exception:  # a network may refuse to compute without its cache
            return None
        favourites = [int(row.argmax()) for row in chosen]
        return all(row.max() - row[favourite] < CLOSE for row, favourite in zip(rows, favourites, strict=True))


def _network(architecture: Architecture, folder: Path) -> Any:
    """The first of transformers' classes that finds all of its weights in the files.

    It is the automatic class of the list; or the one for images and text, or the class that the list names, where that
    knows other names; or, where a tower wants a package that is missing, the class of the language part, which lies by
    itself beside the whole.
    """
    import torch
    import transformers

    names = (architecture.auto, "AutoModelForImageTextToText", architecture.classes[0])
    readers = [(name, folder) for name in dict.fromkeys(names)]
    if alone(folder).is_dir():
        readers.append(("AutoModelForCausalLM", alone(folder)))
    problem: Exception | None = None
    for name, place in readers:
        reader: Any = getattr(transformers, name)
        try:
            network, found = reader.from_pretrained(
                place, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
        except (ImportError, ValueError) as error:  # a package is missing, or the class knows no such configuration
            problem = problem or error
            continue
        if not found["missing_keys"]:
            return network
        missing = ", ".join(sorted(found["missing_keys"])[:3])
        problem = problem or ValueError(f"transformers does not find what it wrote itself: {missing}, …")
    assert problem is not None
    raise problem
