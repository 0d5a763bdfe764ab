"""A request becomes what the model really reads: the rendered template, its token ids, and every warning worth showing.

The ids are those of the published tokenizer: of a plain prompt with whatever its post-processor puts around it, of a
chat what its template makes of the turns. Control tokens a user typed reach a chat model as plain text, so nobody can
fake a turn. The module knows tokenizers and templates; it does not know runtimes, sampling or time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from playground.catalog.config_names import CONTEXT_LENGTH, whole
from playground.catalog.kinds import has_encoder
from playground.catalog.template_files import find_template, named_tokens, read_json
from playground.errors import BadRequest, ContextOverflow, RunError, reason_of
from playground.messages import Translatable, msg, plural
from playground.records import ModelSpec, PromptView, Request
from playground.runtimes.generation.chat_template import ChatTemplate, Refused, Turn
from playground.runtimes.generation.encoding import Encoder, control_ids, read_tokenizer
from playground.runtimes.generation.notes import (
    BASE_WITHOUT_SYSTEM,
    JOINED_MESSAGES,
    OWN_SYSTEM_MESSAGE,
    called,
    prompt_too_long,
)
from playground.runtimes.generation.provenance import Provenance, trace
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
        self.tokenizer = read_tokenizer(folder, spec)
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
        self.accepts_system = self._template is not None and "system" in self._template.content_formats
        control = control_ids(self.tokenizer, self._template, config.get("chat_control_tokens"))
        self._encoder = Encoder(self.tokenizer, control, spec.id)
        self._head, self._tail = self._around_a_text()
        self.eos_ids = self._ends(named.get("eos_token"), model, generation)
        self._control = control | self.detokenizer.special_ids

    def view(self, request: Request) -> PromptView:
        """What the model reads for ``request``; a prompt that is too long gets a warning here, ``fit`` refuses it.

        Raises:
            RunError: The model's template refuses the messages.
        """
        template = self._template
        if request.prompt_ids:
            rendered, ids, warnings = self._as_given(request)
        elif template and not request.plain:
            rendered, ids, warnings = self._chat(template, request)
        else:
            rendered, ids, warnings = self._plain(request)
        given = request.answer_ids
        room = self._room(ids, given)
        if beyond := self._beyond(ids):
            warnings.append(
                msg(
                    "The model has no embedding for {tokens}: {rows:,} tokens have one.", tokens=beyond, rows=self._rows
                )
            )
        if room < 1 and given:
            warnings.append(self._too_long(ids, given).what)
        elif room < 1:
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
                    prompt=len(ids) + len(given),
                    context=self.context_length,
                )
            )
        return PromptView(
            model=self._spec.id,
            rendered=rendered,
            token_ids=tuple(ids),
            tokens=tuple(map(self.detokenizer.readable, ids)),
            warnings=tuple(warnings),
            control=tuple(place for place, token in enumerate(ids) if token in self._control),
            answer=tuple(map(self.detokenizer.readable, given)),
            context_length=self.context_length,
            room=max(0, room),
        )

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
        self._check_prompt(request.prompt_ids)
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
        self._check_answer(request.answer_ids)
        room = self._room(view.token_ids, request.answer_ids)
        if room < 1:
            raise self._too_long(view.token_ids, request.answer_ids)
        return min(request.max_new_tokens, room)

    @cached_property
    def rows(self) -> int:
        """How many tokens the model has: ids are below that."""
        return self._rows or max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, text: str, *, special: bool) -> tuple[int, ...]:
        """A text's ids; ``special``: with whatever the tokenizer puts around a text. Names of control tokens in it are
        read as such.
        """
        return tuple(self.tokenizer.encode(text, add_special_tokens=special).ids)

    def _check_prompt(self, ids: Sequence[int]) -> None:
        """Refuse ids that are none of this model's."""
        if strange := [(place, token) for place, token in enumerate(ids, start=1) if not 0 <= token < self.rows]:
            raise BadRequest(
                msg(
                    "{model}: token {number} of the prompt is {id}; it has {most:,} tokens",
                    model=self._spec.id,
                    number=strange[0][0],
                    id=str(strange[0][1]),
                    most=self.rows,
                ),
                msg("Token ids are those of one model: give this model its own."),
            )

    def _check_answer(self, ids: Sequence[int]) -> None:
        """Refuse what no answer of this model can begin with."""
        most = self.rows
        for place, token in enumerate(ids):
            if not 0 <= token < most:
                raise RunError(
                    msg(
                        "{model}: token {number} of the answer to go on with is {id}; it has {most:,} tokens",
                        model=self._spec.id,
                        number=place + 1,
                        id=str(token),
                        most=most,
                    ),
                    msg("Token ids are those of one model: give this model its own."),
                )
            if token in self.eos_ids:
                raise RunError(
                    msg(
                        "{model}: token {number} of the answer to go on with is {name}, which ends an answer",
                        model=self._spec.id,
                        number=place + 1,
                        name=self.detokenizer.readable(token),
                    ),
                    msg("Go on from before it."),
                )

    def _too_long(self, ids: Sequence[int], given: Sequence[int]) -> ContextOverflow:
        if not given:
            return prompt_too_long(self._spec.id, len(ids), self.context_length)
        return ContextOverflow(
            msg(
                "{model}: prompt ({prompt:,} tokens) and answer so far ({answer:,}) fill its context of {context:,}",
                model=self._spec.id,
                prompt=len(ids),
                answer=len(given),
                context=self.context_length,
            ),
            msg("Go on from further in front, or choose a model with a longer context."),
        )

    def _beyond(self, ids: Sequence[int]) -> list[str]:
        """The tokens that the tokenizer knows and the model's embedding does not."""
        rows = self._rows
        return [] if rows is None else [self.detokenizer.readable(token) for token in sorted(set(ids)) if token >= rows]

    def _room(self, ids: Sequence[int], given: Sequence[int] = ()) -> int:
        """Tokens the context leaves for more of the answer. An encoder's prompt takes none of the decoder's room."""
        apart = self._has_encoder and len(ids) <= self.context_length
        return self.context_length - (0 if apart else len(ids)) - len(given)

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
        encoding = self._encoder.encode(rendered)
        known = trace(
            template, turns, rendered, lambda text: self._encoder.controls(text, encoding if text == rendered else None)
        )
        self._check(turns, known)
        if known.users:
            names = sorted({token.name for token in known.users})
            warnings.append(msg("Control tokens in your text are read as plain text: {names}", names=names))
        warnings += [
            msg("The chat template leaves out all of {turn}.", turn=called(turns, number)) for number in known.lost
        ]
        warnings += [
            msg("The chat template leaves out or changes a part of {turn}.", turn=called(turns, number))
            for number in known.changed
        ]
        ids = self._encoder.encode_apart(rendered, known.users) if known.users else list(encoding.ids)
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
            warnings.append(OWN_SYSTEM_MESSAGE)
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
                    turn=called(turns, asked),
                ),
                msg("Write it differently, or choose another model."),
            )

    def _plain(self, request: Request) -> tuple[str, list[int], list[Translatable]]:
        warnings = []
        if self._spec.kind == "chat" and not request.plain:
            warnings.append(msg("This model brings no chat template; the prompt is sent as it stands."))
        system = request.system or any(message.role == "system" for message in request.messages)
        if system:
            warnings.append(
                BASE_WITHOUT_SYSTEM
                if self._spec.kind == "base"
                else msg("This model has no chat template; the system prompt is not used.")
            )
        said = [message.content for message in request.messages if message.role != "system"]
        if len(said) > 1:
            warnings.append(JOINED_MESSAGES)
        text = request.prompt or "\n\n".join(said)
        body: list[int] = self._encoder.encode(text).ids
        special = self.detokenizer.special_ids.intersection(body)
        typed = sorted(map(self.detokenizer.readable, special - self._encoder.unknown))
        for name in map(self.detokenizer.readable, special & self._encoder.unknown):
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

    def _as_given(self, request: Request) -> tuple[str, list[int], list[Translatable]]:
        """Ids as they are; an id that no token has is refused by ``fit``, as one without an embedding."""
        ids = list(request.prompt_ids)
        warnings = [BASE_WITHOUT_SYSTEM] if request.system else []
        return "".join(map(self.detokenizer.readable, ids)), ids, warnings

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

    def _names(self, ids: Sequence[int]) -> str:
        return "".join(self.tokenizer.id_to_token(token) or "" for token in ids)

    def _around_a_text(self) -> tuple[list[int], list[int]]:
        """What the tokenizer's post-processor puts before and behind a plain text."""
        bare, whole = self._encoder.encode("a").ids, self.tokenizer.encode("a", add_special_tokens=True).ids
        start = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), len(whole))
        return list(whole[:start]), list(whole[start + len(bare) :])

    def _ends(self, eos: str | None, *configs: dict[str, Any]) -> frozenset[int]:
        ids: set[Any] = {self.tokenizer.token_to_id(eos) if eos else None}
        if self._template:
            # The added token behind an assistant's message, whether it is marked as special or not.
            first = self._encoder.encode(self._template.behind_an_answer().lstrip()).ids[:1]
            ids.update(token for token in first if token in self.tokenizer.get_added_tokens_decoder())
        for config in configs:
            given = config.get("eos_token_id")
            ids.update(given if isinstance(given, list) else [given])
        return frozenset(index for index in ids if isinstance(index, int) and not isinstance(index, bool))


def _context_length(spec: ModelSpec, model: dict[str, Any]) -> int:
    """What the catalogue says, never more than the model's own configuration."""
    lengths = [length for length in (spec.context_length, whole(model, *CONTEXT_LENGTH)) if length]
    return min(lengths) if lengths else 2048
