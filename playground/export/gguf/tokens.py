"""The tokens of a GGUF file and no others.

transformers hands a GGUF's vocabulary to one of its tokenizer classes, and those add their family's usual special
tokens (``<|endoftext|>``, ``<mask>``) where the file has none: their ids lie beyond the embedding, or are somebody
else's. It knows tokenizers, not weights.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer


def keep_to_vocabulary(tokenizer: Any) -> tuple[str, ...]:
    """Take out of a tokenizer read from a GGUF what is not in the file's vocabulary.

    Args:
        tokenizer: transformers' object; it is changed.

    Returns:
        The tokens taken out.
    """
    backend: Tokenizer = tokenizer.backend_tokenizer
    own = backend.get_vocab(with_added_tokens=False)
    invented = tuple(each.content for each in backend.get_added_tokens_decoder().values() if each.content not in own)
    if not invented:
        return ()
    raw = json.loads(backend.to_str())
    raw["added_tokens"] = [each for each in raw["added_tokens"] if each["content"] in own]
    if raw["model"].get("unk_token") not in own:
        raw["model"].pop("unk_token", None)
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(raw))
    for name, token in dict(tokenizer.special_tokens_map).items():
        if token in invented:
            setattr(tokenizer, name, None)
    return invented
