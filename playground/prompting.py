"""A request becomes what the model really reads: the rendered template, its token ids, and every warning worth showing.

A chat model's template comes from its tokenizer and is rendered in transformers' sandbox, which loads no torch; a base
model never sees a template. Control tokens a user typed reach a chat model as plain text, so nobody can fake a turn.
The module knows tokenizers and templates; it does not know runtimes, sampling or time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from playground.errors import ContextOverflow, RunError
from playground.records import ModelSpec, PromptView, Request
from playground.textstream import Detokenizer

_OPEN, _CLOSE = "\U000f0000", "\U000f0001"  # private-use characters, taken out of whatever the user wrote
_PROBE = "\U000f0002"

Chat = list[dict[str, str]]


class Prompter:
    """Prompts for one model.

    Args:
        folder: Holds tokenizer.json; tokenizer_config.json, chat_template.jinja, config.json and
            generation_config.json where the model has them.
        spec: Its kind decides about the template, its context length about what fits.

    Attributes:
        eos_ids: Any of these ends the answer: the model's end of text and its end of turn.
        context_length: Most tokens of prompt and answer together.
        accepts_system: Whether a system prompt reaches the model.

    Raises:
        RunError: The tokenizer can't be read.
    """

    def __init__(self, folder: Path, spec: ModelSpec) -> None:
        self._spec = spec
        self.tokenizer = _read_tokenizer(folder, spec)
        self.detokenizer = Detokenizer(self.tokenizer)
        self._config = _read_json(folder / "tokenizer_config.json")
        model, generation = _read_json(folder / "config.json"), _read_json(folder / "generation_config.json")
        model = model.get("text_config") or model
        self.context_length = _context_length(spec, model)
        brought = _read_template(folder, self._config)
        self._template = (brought or spec.chat_template or None) if spec.kind == "chat" else None
        self._documented = bool(self._template) and not brought
        self._named = {name: _content(self._config.get(name)) for name in ("bos_token", "eos_token", "unk_token")}
        self._bos_id = self._added_bos()
        self._tail = self._added_tail() if spec.kind == "text2text" else []
        self._control = self._control_tokens()
        self._default_system, self.accepts_system = self._probe_system()
        self.eos_ids = self._eos_ids(model, generation)

    def view(self, request: Request) -> PromptView:
        """What the model reads for ``request``; a prompt that is too long gets a warning here, ``fit`` refuses it.

        Raises:
            RunError: The model's template refuses the messages.
        """
        rendered, ids, warnings = self._chat(request) if self._template else self._plain(request)
        room = self._room(ids)
        if room < 1:
            warnings.append(f"The prompt has {len(ids):,} tokens; the model's context holds {self.context_length:,}.")
        elif room < request.max_new_tokens:
            warnings.append(
                f"The answer is cut to {room:,} tokens instead of {request.max_new_tokens:,}: prompt ({len(ids):,}) "
                f"and answer share a context of {self.context_length:,}."
            )
        tokens = tuple(self.detokenizer.readable(token) for token in ids)
        return PromptView(self._spec.id, rendered, tuple(ids), tokens, tuple(warnings))

    def fit(self, view: PromptView, request: Request) -> int:
        """The number of tokens the answer may have: ``max_new_tokens``, or what the context leaves.

        Raises:
            ContextOverflow: The prompt alone fills the context.
            RunError: The prompt has no token at all.
        """
        if not view.token_ids:
            raise RunError(f"{self._spec.id}: its tokenizer makes no token of this prompt", "Write something else.")
        room = self._room(view.token_ids)
        if room < 1:
            raise ContextOverflow(
                f"{self._spec.id}: the prompt has {len(view.token_ids):,} tokens, its context holds "
                f"{self.context_length:,}",
                "Shorten the prompt or choose a model with a longer context.",
            )
        return min(request.max_new_tokens, room)

    def _room(self, ids: Sequence[int]) -> int:
        """Tokens the context leaves for the answer. An encoder's prompt takes none of the decoder's room."""
        apart = self._spec.kind == "text2text" and len(ids) <= self.context_length
        return self.context_length - (0 if apart else len(ids))

    # -- prompts ------------------------------------------------------------------------------------------------

    def _chat(self, request: Request) -> tuple[str, list[int], list[str]]:
        warnings = []
        if self._documented:
            warnings.append("The tokenizer brings no chat template; the format documented for this model is used.")
        messages: Chat = [message.to_json() for message in request.messages]
        messages = messages or [{"role": "user", "content": request.prompt}]
        if request.system and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": request.system})
        elif request.system:
            warnings.append("The messages bring their own system message; the system prompt is not used.")
        if messages[0]["role"] == "system" and not self.accepts_system:
            warnings.append("This model's chat template has no place for a system prompt; it is not used.")
            messages = messages[1:]
        if messages[0]["role"] != "system" and self._default_system:
            warnings.append(f"The chat template adds a system prompt of its own: “{self._default_system}”")
        typed = sorted({token for message in messages for token in self._control.findall(message["content"])})
        if typed:
            warnings.append(f"Control tokens in your text are read as plain text: {', '.join(typed)}")
        marked = [message | {"content": self._mark(message["content"])} for message in messages]
        rendered = self._render(marked, generate=True)
        ids = self._encode_marked(rendered)
        return rendered.replace(_OPEN, "").replace(_CLOSE, ""), ids, warnings

    def _plain(self, request: Request) -> tuple[str, list[int], list[str]]:
        warnings = []
        if self._spec.kind == "chat":
            warnings.append("This model brings no chat template; the prompt is sent as it stands.")
        system = request.system or any(message.role == "system" for message in request.messages)
        if system:
            reason = "This is a base model" if self._spec.kind == "base" else "This model has no chat template"
            warnings.append(f"{reason}; the system prompt is not used.")
        said = [message.content for message in request.messages if message.role != "system"]
        if len(said) > 1:
            warnings.append("The messages were joined by blank lines: there is no template that marks who speaks.")
        text = request.prompt or "\n\n".join(said)
        ids = self._encode(text)
        typed = sorted({self.detokenizer.readable(token) for token in ids if token in self.detokenizer.special_ids})
        if typed:
            warnings.append(f"Control tokens in the prompt are read as such: {', '.join(typed)}")
        if self._bos_id is not None:
            text, ids = self._with_one_bos(self._bos_id, text, ids, warnings)
        if ids and self._tail and ids[-1:] != self._tail[-1:]:
            text, ids = text + self.tokenizer.decode(self._tail, skip_special_tokens=False), [*ids, *self._tail]
        return text, ids, warnings

    def _with_one_bos(self, bos_id: int, text: str, ids: list[int], warnings: list[str]) -> tuple[str, list[int]]:
        bos = self._named["bos_token"]
        if ids[:1] == [bos_id]:
            warnings.append(f"The prompt begins with {bos}, which is added anyway; the model reads it once.")
        while ids[:1] == [bos_id]:
            ids, text = ids[1:], text.removeprefix(bos)
        return bos + text, [bos_id, *ids]

    # -- the template -------------------------------------------------------------------------------------------

    def _render(self, messages: Chat, generate: bool) -> str:
        import jinja2
        from transformers.utils.chat_template_utils import render_jinja_template

        named = {name: text for name, text in self._named.items() if text}
        try:
            rendered, _ = render_jinja_template(
                [messages], chat_template=self._template, add_generation_prompt=generate, **named
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise RunError(
                f"{self._spec.id}: its chat template refuses the messages ({error})", "Try another order of messages."
            ) from error
        text: str = rendered[0]
        return text

    def _probe_system(self) -> tuple[str, bool]:
        """The template's own system prompt ("" if none), and whether it has a place for the user's."""
        if not self._template:
            return "", False
        user = {"role": "user", "content": "x"}
        try:
            own = self._render([{"role": "system", "content": _PROBE}, user], generate=True)
        except RunError:
            return "", False
        head, found, tail = own.partition(_PROBE)
        if not found:
            return "", False
        bare = self._render([user], generate=True)
        is_default = bare.startswith(head) and bare.endswith(tail) and len(bare) > len(head) + len(tail)
        return (bare[len(head) : len(bare) - len(tail)].strip() if is_default else ""), True

    def _end_of_turn(self) -> int | None:
        """The control token the template writes behind an assistant's message."""
        if not self._template:
            return None
        turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _PROBE}]
        try:
            _, found, tail = self._render(turns, generate=False).rpartition(_PROBE)
        except RunError:
            return None
        first = self._encode(tail.lstrip())[:1] if found else []
        return first[0] if first and first[0] in self.detokenizer.special_ids else None

    # -- tokens -------------------------------------------------------------------------------------------------

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _mark(self, text: str) -> str:
        text = text.replace(_OPEN, "").replace(_CLOSE, "")
        return self._control.sub(rf"{_OPEN}\g<0>{_CLOSE}", text)

    def _encode_marked(self, text: str) -> list[int]:
        """Encode a rendered chat; what stands between the marks is the user's and never becomes a control token."""
        pieces = re.split(f"{_OPEN}(.*?){_CLOSE}", text, flags=re.DOTALL)
        ids = self._encode(pieces[0])
        newline = self._encode("\n")
        for place, piece in enumerate(pieces[1:], start=1):
            if piece:
                # Behind a newline, because some tokenizers put a space before the start of a text.
                encode = self._encode_as_text if place % 2 else self._encode
                part = encode("\n" + piece)
                ids += part[len(newline) :] if part[: len(newline)] == newline else encode(piece)
        return ids

    def _encode_as_text(self, text: str) -> list[int]:
        tokenizer = self.tokenizer
        if tokenizer.normalizer is not None:
            text = tokenizer.normalizer.normalize_str(text)
        splits = [text]
        if tokenizer.pre_tokenizer is not None:
            splits = [split for split, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for split in splits for token in tokenizer.model.tokenize(split)]

    def _control_tokens(self) -> re.Pattern[str]:
        """Special tokens, and added ones the template writes; the longest first."""
        added = self.tokenizer.get_added_tokens_decoder().values()
        names = {token.content for token in added if token.special or token.content in (self._template or "")}
        names.discard("")
        return re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) or "(?!)")

    def _added_bos(self) -> int | None:
        """The token put before a plain prompt, None where the model wants none.

        tokenizer_config.json decides where it says so, otherwise the tokenizer's own post-processor.
        """
        bos: int | None = self.tokenizer.token_to_id(self._named["bos_token"])
        said = self._config.get("add_bos_token")
        if said is None:
            said = self.tokenizer.encode("a", add_special_tokens=True).ids[:1] == [bos]
        return bos if said else None

    def _added_tail(self) -> list[int]:
        """What the tokenizer puts behind a text: an encoder was trained to see the end (T5's ``</s>``)."""
        bare, whole = self._encode("a"), self.tokenizer.encode("a", add_special_tokens=True).ids
        start = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), len(whole))
        return list(whole[start + len(bare) :])

    def _eos_ids(self, *configs: dict[str, Any]) -> frozenset[int]:
        ids: set[int | None] = {self.tokenizer.token_to_id(self._named["eos_token"]), self._end_of_turn()}
        for config in configs:
            given = config.get("eos_token_id")
            ids.update(given if isinstance(given, list) else [given])
        return frozenset(index for index in ids if index is not None)


def _read_tokenizer(folder: Path, spec: ModelSpec) -> Tokenizer:
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for a missing file and for bad JSON alike
        raise RunError(f"{spec.id}: its tokenizer can't be read ({error})", "Prepare the model again.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RunError(f"{path.name} can't be read ({error})", "Prepare the model again.") from error
    return document if isinstance(document, dict) else {}


def _read_template(folder: Path, config: dict[str, Any]) -> str | None:
    """chat_template.jinja where there is one, else the entry of tokenizer_config.json (the default one of several)."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("default")
    return template or None


def _content(token: Any) -> str:
    """A token's text; tokenizer_config.json has it plain or as a dict."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _context_length(spec: ModelSpec, model: dict[str, Any]) -> int:
    """What the catalogue says, never more than the model's own configuration."""
    names: Sequence[str] = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
    own = next((model[name] for name in names if isinstance(model.get(name), int)), 0)
    lengths = [length for length in (spec.context_length, own) if length]
    return min(lengths) if lengths else 2048
