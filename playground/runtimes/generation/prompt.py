"""A request becomes what the model really reads: the rendered template, its token ids, and every warning worth showing.

The ids are those of the published tokenizer: of a plain prompt with whatever its post-processor puts around it, of a
chat what its template makes of the turns. Control tokens a user typed reach a chat model as plain text, so nobody can
fake a turn. The module knows tokenizers and templates; it does not know runtimes, sampling or time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer

from playground.catalog.config_names import CONTEXT_LENGTH, whole
from playground.catalog.kinds import has_encoder
from playground.catalog.template_files import find_template, named_tokens, read_json
from playground.errors import ContextOverflow, RunError, reason_of
from playground.messages import Translatable, foreign, msg, plural
from playground.records import ModelSpec, PromptView, Request
from playground.runtimes.generation.chat_template import ChatTemplate, Refused, Turn
from playground.runtimes.generation.provenance import Control, Provenance, trace
from playground.runtimes.generation.text_stream import Detokenizer


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
        config = read_json(folder / "tokenizer_config.json")
        self.detokenizer = Detokenizer(self.tokenizer, config)
        self.tokenizer.encode_special_tokens = config.get("split_special_tokens") is True
        model, generation = read_json(folder / "config.json"), read_json(folder / "generation_config.json")
        self._has_encoder = has_encoder(model) or spec.kind == "text2text"
        part = model.get("text_config")
        model = part if isinstance(part, dict) and part else model
        self.context_length = _context_length(spec, model)
        self._rows = rows if isinstance(rows := model.get("vocab_size"), int) and rows > 0 else None
        named = named_tokens(folder, config)
        brought = find_template(folder) if spec.kind == "chat" else None
        source = brought or spec.chat_template if spec.kind == "chat" else ""
        self._template = ChatTemplate(source, named) if source else None
        self._documented = bool(self._template) and not brought
        self.accepts_system = self._template is not None and "system" in self._template.manners
        self._head, self._tail = self._around_a_text()
        self._control = self._control_ids(config.get("chat_control_tokens"))
        # What stands for characters that the tokenizer does not know, as nobody's private one.
        unknown = self.tokenizer.model.tokenize("\U000f0002")
        self._unknown = self._control.intersection(token.id for token in unknown)
        self.eos_ids = self._ends(named.get("eos_token"), model, generation)

    def view(self, request: Request) -> PromptView:
        """What the model reads for ``request``; a prompt that is too long gets a warning here, ``fit`` refuses it.

        Raises:
            RunError: The model's template refuses the messages.
        """
        template = self._template
        rendered, ids, warnings = self._chat(template, request) if template else self._plain(request)
        room = self._room(ids)
        if beyond := self._beyond(ids):
            warnings.append(
                msg(
                    "The model has no embedding for {tokens}: {rows:,} tokens have one.", tokens=beyond, rows=self._rows
                )
            )
        if room < 1:
            warnings.append(
                plural(
                    "The prompt has {n:,} token; the model's context holds {context:,}.",
                    "The prompt has {n:,} tokens; the model's context holds {context:,}.",
                    len(ids),
                    context=self.context_length,
                )
            )
        elif room < request.max_new_tokens:
            warnings.append(
                plural(
                    "The answer is cut to {n:,} token instead of {wanted:,}: prompt ({prompt:,}) and answer share a "
                    "context of {context:,}.",
                    "The answer is cut to {n:,} tokens instead of {wanted:,}: prompt ({prompt:,}) and answer share a "
                    "context of {context:,}.",
                    room,
                    wanted=request.max_new_tokens,
                    prompt=len(ids),
                    context=self.context_length,
                )
            )
        tokens = tuple(self.detokenizer.readable(token) for token in ids)
        return PromptView(self._spec.id, rendered, tuple(ids), tokens, tuple(warnings))

    def fit(self, view: PromptView, request: Request) -> int:
        """The number of tokens the answer may have: ``max_new_tokens``, or what the context leaves.

        Raises:
            ContextOverflow: The prompt alone fills the context.
            RunError: The prompt has no token at all, or one that the model does not know.
        """
        if not view.token_ids:
            raise RunError(
                msg("{model}: its tokenizer makes no token of this prompt", model=self._spec.id),
                msg("Write something else."),
            )
        if beyond := self._beyond(view.token_ids):
            typed = any(beyond[0] in text for text in (request.prompt, *(said.content for said in request.messages)))
            raise RunError(
                msg(
                    "{model}: the prompt holds {token}, for which the model has no embedding",
                    model=self._spec.id,
                    token=beyond[0],
                ),
                msg("Leave it out of the prompt.")
                if typed
                else msg("The model's tokenizer and weights don't belong together."),
            )
        room = self._room(view.token_ids)
        if room < 1:
            raise ContextOverflow(
                plural(
                    "{model}: the prompt has {n:,} token, its context holds {context:,}",
                    "{model}: the prompt has {n:,} tokens, its context holds {context:,}",
                    len(view.token_ids),
                    model=self._spec.id,
                    context=self.context_length,
                ),
                msg("Shorten the prompt or choose a model with a longer context."),
            )
        return min(request.max_new_tokens, room)

    def _beyond(self, ids: Sequence[int]) -> list[str]:
        """The tokens that the tokenizer knows and the model's embedding does not."""
        rows = self._rows
        return [] if rows is None else [self.detokenizer.readable(token) for token in sorted(set(ids)) if token >= rows]

    def _room(self, ids: Sequence[int]) -> int:
        """Tokens the context leaves for the answer. An encoder's prompt takes none of the decoder's room."""
        apart = self._has_encoder and len(ids) <= self.context_length
        return self.context_length - (0 if apart else len(ids))

    # -- prompts ------------------------------------------------------------------------------------------------

    def _chat(self, template: ChatTemplate, request: Request) -> tuple[str, list[int], list[Translatable]]:
        turns, warnings = self._turns(template, request)
        try:
            rendered = template.render(turns, generate=True)
        except Refused as error:
            raise RunError(
                msg(
                    "{model}: its chat template refuses the messages ({reason})",
                    model=self._spec.id,
                    reason=reason_of(error),
                ),
                msg("Try another order of messages."),
            ) from error
        encoding = self._encode(rendered)
        known = trace(
            template, turns, rendered, lambda text: self._controls(text, encoding if text == rendered else None)
        )
        self._check(turns, known)
        if known.users:
            names = sorted({token.name for token in known.users})
            warnings.append(msg("Control tokens in your text are read as plain text: {names}", names=names))
        warnings += [
            msg("The chat template leaves out all of {turn}.", turn=_called(turns, number)) for number in known.lost
        ]
        warnings += [
            msg("The chat template leaves out or changes a part of {turn}.", turn=_called(turns, number))
            for number in known.changed
        ]
        ids = self._encode_apart(rendered, known.users) if known.users else list(encoding.ids)
        return rendered, ids, warnings

    def _turns(self, template: ChatTemplate, request: Request) -> tuple[list[Turn], list[Translatable]]:
        warnings = []
        if self._documented:
            warnings.append(msg("The tokenizer brings no chat template; the format documented for this model is used."))
        turns: list[Turn] = [(message.role, message.content) for message in request.messages]
        turns = turns or [("user", request.prompt)]
        if request.system and turns[0][0] != "system":
            turns.insert(0, ("system", request.system))
        elif request.system:
            warnings.append(msg("The messages bring their own system message; the system prompt is not used."))
        if turns[0][0] == "system" and not self.accepts_system:
            warnings.append(msg("This model's chat template has no place for a system prompt; it is not used."))
            turns = turns[1:]
        if turns[0][0] != "system" and template.default_system:
            warnings.append(
                msg("The chat template adds a system prompt of its own: “{prompt}”", prompt=template.default_system)
            )
        return turns, warnings

    def _check(self, turns: Sequence[Turn], known: Provenance) -> None:
        if known.unclear:
            raise RunError(
                msg(
                    "{model}: its chat template works on {tokens} in the text, so that it can't be told from the "
                    "control token that the template writes",
                    model=self._spec.id,
                    tokens=known.unclear,
                ),
                msg("Write it differently, for example with a space in it."),
            )
        asked = max((number for number, (role, _) in enumerate(turns) if role == "user"), default=None)
        if asked in known.lost:
            raise RunError(
                msg(
                    "{model}: its chat template leaves out all of {turn}",
                    model=self._spec.id,
                    turn=_called(turns, asked),
                ),
                msg("Write it differently, or choose another model."),
            )

    def _plain(self, request: Request) -> tuple[str, list[int], list[Translatable]]:
        warnings = []
        if self._spec.kind == "chat":
            warnings.append(msg("This model brings no chat template; the prompt is sent as it stands."))
        system = request.system or any(message.role == "system" for message in request.messages)
        if system:
            warnings.append(
                msg("This is a base model; the system prompt is not used.")
                if self._spec.kind == "base"
                else msg("This model has no chat template; the system prompt is not used.")
            )
        said = [message.content for message in request.messages if message.role != "system"]
        if len(said) > 1:
            warnings.append(msg("The messages were joined by blank lines: there is no template that marks who speaks."))
        text = request.prompt or "\n\n".join(said)
        body: list[int] = self._encode(text).ids
        special = self.detokenizer.special_ids.intersection(body)
        typed = sorted(map(self.detokenizer.readable, special - self._unknown))
        for name in map(self.detokenizer.readable, special & self._unknown):
            warnings.append(
                msg(
                    "The tokenizer does not know all of the prompt; what it does not know is read as {token}.",
                    token=name,
                )
            )
        if typed:
            warnings.append(msg("Control tokens in the prompt are read as such: {names}", names=typed))
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=True).ids
        if ids == [*self._head, *body, *self._tail]:
            return self._with_one_of_each(text, body, warnings)
        return text, ids, warnings

    def _with_one_of_each(
        self, text: str, body: list[int], warnings: list[Translatable]
    ) -> tuple[str, list[int], list[Translatable]]:
        """What the tokenizer puts around a text is read once, even where the text already has it."""
        head, tail = self._head, self._tail
        before, behind = self._names(head), self._names(tail)
        if head and body[: len(head)] == head:
            warnings.append(
                msg("The prompt begins with {tokens}, which is added anyway; the model reads it once.", tokens=before)
            )
        while head and body[: len(head)] == head:
            body, text = body[len(head) :], text.removeprefix(before)
        if tail and body[-len(tail) :] == tail:
            warnings.append(
                msg("The prompt ends with {tokens}, which is added anyway; the model reads it once.", tokens=behind)
            )
        while tail and body[-len(tail) :] == tail:
            body, text = body[: -len(tail)], text.removesuffix(behind)
        return before + text + behind, [*head, *body, *tail], warnings

    # -- tokens -------------------------------------------------------------------------------------------------

    def _encode(self, text: str) -> Encoding:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _names(self, ids: Sequence[int]) -> str:
        return "".join(self.tokenizer.id_to_token(token) or "" for token in ids)

    def _controls(self, text: str, encoding: Encoding | None = None) -> list[Control]:
        """The control tokens that the tokenizer reads in ``text``; ``encoding`` is the text's, where it is known."""
        encoding = encoding or self._encode(text)
        if self._control.isdisjoint(encoding.ids):
            return []
        found = []
        for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
            if token in self._control:
                taken = text[start:stop]  # some take the spaces beside them, too
                name, at = taken.strip(), start + len(taken) - len(taken.lstrip())
                if token in self._unknown and name != self.tokenizer.id_to_token(token):
                    continue
                found.append(Control(token, name, at, at + len(name)))
        return found

    def _encode_apart(self, text: str, users: Sequence[Control]) -> list[int]:
        """Encode a rendered chat in which some control tokens are the user's and never become one."""
        ids: list[int] = []
        for piece, is_users in _pieces(text, users):
            encode = self._encode_as_text if is_users else lambda piece: list(self._encode(piece).ids)
            ids += encode(piece) if not ids else self._behind_a_line(encode, piece)
        return ids

    def _behind_a_line(self, encode: Any, piece: str) -> list[int]:
        """Encoded behind a newline, because some tokenizers put a space before the start of a text."""
        newline: list[int] = self._encode("\n").ids
        ids: list[int] = encode("\n" + piece)
        if ids[: len(newline)] == newline:
            return ids[len(newline) :]
        whole: list[int] = encode(piece)
        return whole

    def _encode_as_text(self, text: str) -> list[int]:
        ids, control = self._by_the_model(text), self._control - self._unknown
        if control.isdisjoint(ids):
            return ids
        ids = [token for character in text for token in self._by_the_model(character)]
        if not control.isdisjoint(ids):
            raise RunError(
                msg(
                    "{model}: its tokenizer knows {token} as a control token only, not as text",
                    model=self._spec.id,
                    token=text.strip(),
                ),
                msg("Write it differently, for example with a space in it."),
            )
        return ids

    def _by_the_model(self, text: str) -> list[int]:
        tokenizer = self.tokenizer
        if tokenizer.normalizer is not None:
            text = tokenizer.normalizer.normalize_str(text)
        splits = [text]
        if tokenizer.pre_tokenizer is not None:
            splits = [split for split, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        return [token.id for split in splits for token in tokenizer.model.tokenize(split)]

    def _control_ids(self, listed: Any) -> frozenset[int]:
        """Special tokens, and added ones that the template writes or looks for, unless its authors list them."""
        try:
            literals = self._template.literals if self._template else ""
        except Refused:  # whoever asks for a prompt is told
            literals = ""
        said = set(listed) if isinstance(listed, list) else None
        added = self.tokenizer.get_added_tokens_decoder().items()
        # Spaces and newlines are ordinary text of a template, even where they are added tokens.
        written = (
            content for _, token in added if not (content := str(token.content)).isspace() and content in literals
        )
        named = set(written) if said is None else said
        return frozenset(index for index, token in added if token.content and (token.special or token.content in named))

    def _around_a_text(self) -> tuple[list[int], list[int]]:
        """What the tokenizer's post-processor puts before and behind a plain text."""
        bare, whole = self._encode("a").ids, self.tokenizer.encode("a", add_special_tokens=True).ids
        start = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), len(whole))
        return list(whole[:start]), list(whole[start + len(bare) :])

    def _ends(self, eos: str | None, *configs: dict[str, Any]) -> frozenset[int]:
        ids: set[Any] = {self.tokenizer.token_to_id(eos) if eos else None}
        if self._template:
            # The added token behind an assistant's message, whether it is marked as special or not.
            first = self._encode(self._template.behind_an_answer().lstrip()).ids[:1]
            ids.update(token for token in first if token in self.tokenizer.get_added_tokens_decoder())
        for config in configs:
            given = config.get("eos_token_id")
            ids.update(given if isinstance(given, list) else [given])
        return frozenset(index for index in ids if isinstance(index, int) and not isinstance(index, bool))


def _pieces(text: str, users: Sequence[Control]) -> Iterator[tuple[str, bool]]:
    """``text`` cut at the user's control tokens, each piece with whether it is one; none is empty."""
    at = 0
    for token in users:
        if text[at : token.start]:
            yield text[at : token.start], False
        yield text[token.start : token.stop], True
        at = token.stop
    if text[at:]:
        yield text[at:], False


def _called(turns: Sequence[Turn], number: int) -> Translatable:
    """A turn for its reader."""
    role, users = turns[number][0], [role for role, _ in turns].count("user")
    if role == "system":
        return msg("the system prompt")
    if role == "user" and users == 1:
        return msg("the prompt")
    return msg("message {number} (role: {role})", number=number + 1, role=role)


def _read_tokenizer(folder: Path, spec: ModelSpec) -> Tokenizer:
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for a missing file and for bad JSON alike
        raise RunError(
            msg("{model}: its tokenizer can't be read ({reason})", model=spec.id, reason=foreign(str(error))),
            msg("Prepare the model again."),
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _context_length(spec: ModelSpec, model: dict[str, Any]) -> int:
    """What the catalogue says, never more than the model's own configuration."""
    lengths = [length for length in (spec.context_length, whole(model, *CONTEXT_LENGTH)) if length]
    return min(lengths) if lengths else 2048
