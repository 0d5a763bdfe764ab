"""The bodies that are taken, as pydantic models: they check types and are the OpenAPI page's schemas.

Names are OpenAI's; those of llama.cpp's and vLLM's servers where OpenAI has none. Ranges that depend on the limits of
this server are the service's to check.
"""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Whole = Annotated[int, Field(ge=0, le=2**63 - 1)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
Text = Annotated[str, Field(min_length=0)]
"""A text without halves of characters: a length makes pydantic read it."""
Each = TypeVar("Each")
Listed = Annotated[list[Each], Field(fail_fast=True)]
"""A list that is wrong at its first wrong entry: a million of them would be a million errors, with a kilobyte each."""
FIRST = "By default the first that this server serves."
MOST_CHOICES = 128
MOST_TOP = 20
LEAST_PENALTY = 0.01
"""What divides a score by less makes it larger than any number."""
MODEL_CHARS = 4096
USER_CHARS = 512
MOST_NAMES = 100
"""Of one block, more than any here has: of a million unknown names so many are errors."""


class Part(BaseModel):
    """A body, or a part of one: nothing is turned into another type, and nothing is ignored."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few_names(cls, sent: Any) -> Any:
        many = isinstance(sent, dict) and len(sent) > MOST_NAMES
        return dict(islice(sent.items(), MOST_NAMES)) if many else sent


class TextPart(Part):
    type: Literal["text"]
    text: str


class ChatMessage(Part):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Listed[TextPart]
    type: Literal["text"] | None = Field(None, description="Some clients send it; text is all there is.")


class StreamOptions(Part):
    include_usage: bool = Field(False, description="A last chunk before [DONE] that has the usage of the whole.")


class SchemaFormat(Part):
    name: str = ""
    description: str = ""
    # "schema" is a method of pydantic's models
    json_schema_: dict[str, Any] = Field(alias="schema", description="A JSON schema.")
    strict: bool = Field(True, description="The answer is held to the schema either way.")


class ResponseFormat(Part):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None


class Sampling(Part):
    """What chat completions and completions have in common."""

    model: str = Field(
        description="A name of /v1/models: MODEL or MODEL@RUNTIME-PRECISION.", min_length=1, max_length=MODEL_CHARS
    )
    temperature: float = Field(0.0, ge=0, description="0, the default here, is greedy.")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: Whole = Field(0, description="Of this many likeliest tokens one is drawn; 0 is off.")
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, ge=LEAST_PENALTY, le=1 / LEAST_PENALTY)
    seed: Whole | None = Field(None, description="The same seed gives the same answer; choice i draws with seed + i.")
    stop: str | Listed[str] = Field(default_factory=list, description="The answer ends before any of these texts.")
    n: int = Field(1, ge=1, le=MOST_CHOICES)
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    min_tokens: Whole = Field(0, description="The end of turn is not chosen before so many tokens.")
    user: str = Field(
        "", max_length=USER_CHARS, description="On one's own machine: another word is another caller in the queue."
    )
    cache_prompt: bool = Field(
        False, description="What the prompt has in common with the model's last one is not read again."
    )
    return_tokens_as_token_ids: bool = Field(False, description="Tokens of logprobs are called token_id:NUMBER.")


class ChatBody(Sampling):
    messages: Listed[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1, description="By default as many as this server allows.")
    max_completion_tokens: int | None = Field(None, ge=1, description="The same, as OpenAI calls it today.")
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MOST_TOP)
    store: bool = Field(False, description="Keep the answer in the history; `receipt` is its id.")


class CompletionBody(Sampling):
    prompt: str | Listed[str] | Listed[TokenId] | Listed[Listed[TokenId]] = Field(
        description="A text or its token ids, or a list of either. Read as it stands: no chat template."
    )
    max_tokens: int = Field(16, ge=0, description="0 only with echo: nothing is answered, the prompt is scored.")
    logprobs: int | None = Field(None, ge=0, le=MOST_TOP)
    logprobs_from: Listed[Whole] = Field(
        default_factory=list,
        description="With echo: from which token of each prompt on log-probabilities are wanted, one number a prompt. "
        "Those before are null, and cost nothing.",
    )
    echo: bool = Field(False, description="The prompt stands before the answer; with logprobs, it is scored as well.")


class TokenizeBody(Part):
    model: str = Field("", max_length=MODEL_CHARS, description=FIRST)
    content: Text | None = Field(None, description="The text, as llama.cpp calls it.")
    prompt: Text | None = Field(None, description="The text, as vLLM calls it.")
    messages: Listed[ChatMessage] = Field(default_factory=list, description="A conversation in place of a text.")
    add_special: bool = Field(False, description="With what the tokenizer puts around a text.")
    add_special_tokens: bool | None = Field(None, description="The same, as vLLM calls it.")
    with_pieces: bool = Field(False, description="Each token with its text.")


class DetokenizeBody(Part):
    model: str = Field("", max_length=MODEL_CHARS, description=FIRST)
    tokens: Listed[TokenId]


class TemplateBody(Part):
    model: str = Field("", max_length=MODEL_CHARS, description=FIRST)
    messages: Listed[ChatMessage] = Field(min_length=1)
