"""transformers' own modules, written with ONNX Runtime's operators while a network is traced.

Traced as it stands, a network's attention, norms and rotary angles come out as hundreds of small nodes. Here each is
one operator, put in at the places that transformers made for it: its interfaces for attention, masks and experts
(``experts.py``), the cache object, and the modules that normalise and turn. No family is named. What such a place
computes is looked at with real numbers first (``watch``) and replaced only where the operator gives the same; a mask is
asked which tokens it lets through; whatever can't be said by an operator ends the trace with its reason. The module
knows torch and transformers; it writes no file.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import NormalDist
from typing import Any, cast

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from transformers import activations
from transformers.cache_utils import DynamicCache
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, grouped_mm_experts_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from playground.export.recipes import experts, recurrences
from playground.export.recipes.caches import CONV, RECURRENT, Held, Past, PastLayer, State, presents
from playground.export.recipes.reasons import MaskCut, NoOperator, TurnLost
from playground.messages import Translatable, msg
from playground.runtimes.torch.deferred import real

NAME = "sdpa"
"""Under which name of transformers' interfaces attention and masks are put in. Families that have their own call of
torch's attention make it under this name."""

EXPERTS = "operators"
"""The same of experts."""

_CHOICES = {"_attn_implementation_internal": NAME, "_experts_implementation_internal": EXPERTS}
"""Where a configuration keeps which of them its modules take."""

FAR = 1 << 20
"""A position beyond every window and chunk, where masks are asked."""

EIGHT = 8
"""ONNX Runtime turns so many pairs at once, or none."""

FLOAT = 1
"""ONNX's number for fp32."""

STRAIGHT = 20
"""From here on log(1 + exp(x)) is x in fp32; torch writes a choice between the two."""

WATCHED = 5
"""Tokens of the run that is looked at; their positions begin at ``WATCHED``, so that a turn shows."""

_SAME_HEADS = frozenset(("transpose", "contiguous"))
"""What torch is asked for between turning and attention that leaves each head as it is."""

_TIMES = frozenset(("mul", "multiply", "__mul__"))

_SAYS_NOTHING = frozenset(
    (
        *("dropout", "sliding_window", "is_causal", "position_ids", "use_cache", "cache_position", "output_attentions"),
        *("output_hidden_states", "return_dict", "logits_to_keep", "num_items_in_batch", "output_router_logits"),
    )
)
"""What attention is told that changes nothing here: windows come with the mask, the rest is for training and kernels
of other processors."""


@dataclass(frozen=True)
class Mask:
    """Stands for the mask of a layer.

    Attributes:
        window: How many tokens are seen, the token itself included; -1 for all before it.
        refusal: Why the operator can't have it. A network may make masks that none of its layers uses.
    """

    window: int
    refusal: NoOperator | None = None

    @classmethod
    def __torch_function__(cls, func: Any, _types: Any, _args: Any = (), _kwargs: Any = None) -> Any:
        """Torch takes what has this method where it takes tensors; ``_Calls`` sees the one call that is meant."""
        raise NoOperator(_own_mask())

    def __getitem__(self, index: Any) -> Mask:
        if all(isinstance(each, slice) and not each.start and each.stop is None for each in index):
            return self
        raise MaskCut(_own_mask())

    def __getattr__(self, name: str) -> Any:
        """A network that looks at the mask's numbers makes one of its own of them."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise NoOperator(_own_mask())


@dataclass(frozen=True)
class Turn:
    """Rotary angles as the operator wants them.

    Attributes:
        cosines, sines: fp32 ``[positions, turned / 2]``.
        interleaved: Whether neighbours are turned together, not a number and the one half a head further.
    """

    cosines: torch.Tensor
    sines: torch.Tensor
    interleaved: int


@dataclass(frozen=True)
class _Scores:
    """What attention is told besides queries, keys and values.

    Attributes:
        mask: Stands for that of a layer; of anything else there is no operator.
        scale: Of scores; None for the usual one.
        softcap: Their limit, or none.
        sinks: A score for each head that goes to no token, fp32 ``[heads]``; or none.
    """

    mask: Any
    scale: float | None
    softcap: float | None = None
    sinks: torch.Tensor | None = None


@dataclass
class _Run:
    """What the operators of one traced run need.

    Attributes:
        cache: The layers.
        lengths: ``seqlens_k`` and ``total_sequence_length`` of the operator.
        waiting: Queries and keys that are to be turned and have not come to attention yet, by identity.
        order: The layers that were given keys and values, in the order in which they were.
    """

    cache: Past
    lengths: tuple[torch.Tensor, torch.Tensor]
    waiting: dict[int, torch.Tensor] = field(default_factory=dict)
    order: list[PastLayer] = field(default_factory=list)


@dataclass
class _Watched:
    """What was seen with real numbers.

    Attributes:
        norms: The operator, weight and epsilon by module, where the operator gives the same.
        gates: Where a norm that has a gate has it, by the same.
        turns: By the call of a rotary module, where turning as the operator does gives the same.
        tables: Cosines and sines of all positions, by the same.
        caches: Heads and sizes of the keys of each layer, by its number.
        experts: What the operator is told of a mixture, by its class.
        states: Shapes and types of the states that a layer keeps, by its number.
        others: Functions of recurrences that compute something else than the operator.
    """

    norms: dict[int, tuple[str, torch.Tensor, float]] = field(default_factory=dict)
    gates: dict[int, str | None] = field(default_factory=dict)
    turns: dict[Any, Turn | None] = field(default_factory=dict)
    tables: dict[Any, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    caches: dict[int, tuple[int, int]] = field(default_factory=dict)
    experts: dict[type, experts.Settings] = field(default_factory=dict)
    states: dict[int, dict[State, tuple[tuple[int, ...], torch.dtype]]] = field(default_factory=dict)
    others: set[Any] = field(default_factory=set)


class Operators:
    """A network whose modules write operators while they are ``installed``.

    Args:
        model: transformers' own, for causal language modelling.
        positions: How many the tables of angles hold.
    """

    def __init__(self, model: Any, positions: int) -> None:
        self._model, self._positions = model, positions
        self._seen, self._run = _Watched(), cast("_Run | None", None)
        self._held: list[Held] = []
        self._wanted: Any = 1

    @contextmanager
    def installed(self) -> Iterator[None]:
        """In this block the network's modules are those of this object."""
        with ExitStack() as stack:
            for module in list(self._model.modules()):
                name = type(module).__name__
                if "RMSNorm" in name or ("LayerNorm" in name and not isinstance(module, torch.nn.LayerNorm)):
                    _instead(stack, module, "forward", self._norm(module))
                elif type(module).__module__ == activations.__name__ and _is_fast_gelu(module):
                    _instead(stack, module, "forward", _fast_gelu)
                elif name.endswith("RotaryEmbedding"):
                    _check_fixed(module)
                    _instead(stack, module, "forward", self._angles(module))
            for space in {type(module).__module__ for module in self._model.modules()}:
                for name, around in self._functions().items():
                    if usual := getattr(sys.modules[space], name, None):
                        _instead(stack, sys.modules[space], name, around(usual))
            for config in {id(each): each for each in map(_config, self._model.modules()) if each is not None}.values():
                for choice, name in _CHOICES.items():
                    stack.callback(setattr, config, choice, getattr(config, choice, None))
                    setattr(config, choice, name)
            for interface, name, ours in (
                (ALL_ATTENTION_FUNCTIONS, NAME, self._attention),
                (ALL_MASK_ATTENTION_FUNCTIONS, NAME, _mask),
                (ALL_EXPERTS_FUNCTIONS, EXPERTS, self._experts),
            ):
                interface[name] = ours
                stack.callback(interface.__delitem__, name)
            stack.enter_context(_Calls(self))
            yield

    def watch(self) -> list[Held]:
        """Run the network once on a few tokens, and remember what its modules compute.

        Returns:
            What each layer keeps.

        Raises:
            NoOperator: There is nothing that a layer keeps.
        """
        tokens = torch.arange(WATCHED)[None]
        cache = DynamicCache(config=self._model.config)
        for number, layer in enumerate(cache.layers):
            if hasattr(layer, "update_recurrent_state"):
                self._watch_states(number, layer)
        with torch.no_grad():
            self._model(**self._given(tokens, tokens + WATCHED, cache))
        kept = {number: layer for number, layer in enumerate(cache.layers) if _keeps_keys(layer)}
        found = {number: _heads_kept(layer.keys, layer.values) for number, layer in kept.items()} | self._seen.caches
        if not found and not self._seen.states:
            raise NoOperator(msg("its layers keep nothing in transformers' cache"))
        layers = range(1 + max((*found, *self._seen.states)))
        self._held = [Held(found.get(number), self._seen.states.get(number, {})) for number in layers]
        return self._held

    def run(
        self, tokens: torch.Tensor, seen: torch.Tensor, positions: torch.Tensor, past: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """One step of decoding, to be traced.

        Args:
            tokens: int64 ``[1, new]``.
            seen: The attention mask, int64 ``[1, total]``.
            positions: int64 ``[1, new]``.
            past: What each layer kept, in turn, as ``Held.empty`` has it.

        Returns:
            Logits ``[1, 1, vocab]`` of the last token; what each layer keeps now.

        Raises:
            NoOperator: The network can't be written this way.
        """
        order: list[PastLayer] = []
        kept = iter(past)
        layers = [held.layer([next(kept) for _ in held.names()], order) for held in self._held]
        lengths = seen.sum(1, keepdim=True).to(torch.int32) - 1, seen.sum().to(torch.int32)
        self._run = _Run(Past(layers), lengths, order=order)
        try:
            found = self._model(**self._given(tokens, positions, self._run.cache), logits_to_keep=self._wanted)
            if self._run.waiting:
                raise TurnLost(msg("what is turned is not what attention compares"))
        finally:
            self._run = None
        keeps = [presents(layer, held) for layer, held in zip(layers, self._held, strict=True)]
        if any(each is None for each in keeps):
            raise NoOperator(msg("not every layer keeps keys and values"))
        return found.logits, [tensor for each in keeps for tensor in each or ()]

    @property
    def is_traced(self) -> bool:
        """Whether what runs is to be written, and not looked at."""
        return self._run is not None

    def _given(self, tokens: torch.Tensor, positions: torch.Tensor, cache: DynamicCache) -> dict[str, Any]:
        """The network's arguments: those of layers without positions have other names."""
        given = {"input_ids": tokens, "attention_mask": None, "use_cache": True}
        if keeps_states_alone(self._model):
            return given | {"cache_params": cache}
        return given | {"past_key_values": cache, "position_ids": positions}

    def _watch_states(self, number: int, layer: Any) -> None:
        """Remember what ``layer`` keeps, as the graph will have it."""
        convolution, recurrence = layer.update_conv_state, layer.update_recurrent_state
        known = self._seen.states.setdefault(number, {})

        def update_conv_state(conv_states: torch.Tensor, state_idx: int = 0, **named: Any) -> torch.Tensor:
            whole = cast(torch.Tensor, convolution(conv_states, state_idx, **named)).clone()
            known[CONV, state_idx] = tuple(layer.conv_states[state_idx].shape), whole.dtype
            whole.conv = known, state_idx, conv_states
            return whole

        def update_recurrent_state(recurrent_states: torch.Tensor, state_idx: int = 0, **named: Any) -> torch.Tensor:
            shape = getattr(recurrent_states, "held", tuple(recurrent_states.shape))
            known[RECURRENT, state_idx] = shape, recurrent_states.dtype
            return cast(torch.Tensor, recurrence(recurrent_states, state_idx, **named))

        layer.update_conv_state, layer.update_recurrent_state = update_conv_state, update_recurrent_state

    # -- what stands in a module's place -------------------------------------------------------------------------------

    def _attention(self, module: Any, *given: Any, **told: Any) -> tuple[torch.Tensor, None]:
        """As transformers' interface has it: ``[batch, heads, tokens, size]`` to ``[batch, tokens, heads, size]``.

        Args:
            given: Queries, keys, values and the mask.
            told: Settings, by transformers' names.
        """
        query, key, value, mask = given
        scaling, softcap = told.pop("scaling", None), told.pop("softcap", None)
        sinks = told.pop("s_aux", None)
        if self._run is None:  # watched: what it sees does not matter
            self._seen.caches[module.layer_idx] = _heads_kept(key, value)
            seen = torch.nn.functional.scaled_dot_product_attention(
                query, key, value, is_causal=True, scale=scaling, enable_gqa=True
            )
            return seen.transpose(1, 2), None
        unknown = sorted(name for name, each in told.items() if name not in _SAYS_NOTHING and each is not None)
        if unknown:
            raise NoOperator(msg("attention is told {names}", names=unknown))
        layer = self._run.cache.layers[module.layer_idx]
        return self._grouped(layer, (query, key, value), _Scores(mask, scaling, softcap, sinks)), None

    def _experts(self, module: Any, hidden: Any, chosen: Any, weights: Any) -> torch.Tensor:
        """As transformers' interface has it: ``[tokens, width]`` to the same, by each token's experts.

        Args:
            chosen, weights: Each token's experts and their weights, ``[tokens, chosen]``.
        """
        kind = type(module)
        if self._run is not None:
            return experts.mixed(module, hidden, chosen, weights, self._seen.experts[kind])
        if kind not in self._seen.experts:
            self._seen.experts[kind] = experts.settings_of(module)
        return cast(torch.Tensor, grouped_mm_experts_forward(module, hidden, chosen, weights))

    def attention_called(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Mask, scale: float | None
    ) -> torch.Tensor:
        """In place of torch's own attention: ``[batch, heads, tokens, size]`` to the same.

        The layer is the one whose keys and values went into the cache last.
        """
        if self._run is None:
            usual = torch.nn.functional.scaled_dot_product_attention
            return usual(query, key, value, is_causal=True, scale=scale, enable_gqa=True)
        if not self._run.order:
            raise NoOperator(msg("not every layer keeps keys and values"))
        return self._grouped(self._run.order[-1], (query, key, value), _Scores(mask, scale)).transpose(1, 2)

    def _grouped(
        self, layer: PastLayer, given: tuple[torch.Tensor, torch.Tensor, torch.Tensor], scores: _Scores
    ) -> torch.Tensor:
        """The operator, behind ``layer``: ``[batch, tokens, heads, size]``."""
        assert self._run is not None
        query, key, value = given
        if not isinstance(scores.mask, Mask):
            raise NoOperator(_own_mask())
        if scores.mask.refusal:
            raise scores.mask.refusal
        if value.shape[-1] != key.shape[-1]:
            return self._padded(layer, given, scores)
        batch, heads, tokens, size = query.shape
        turn, other = getattr(query, "turn", None), getattr(key, "turn", None)
        if turn is not other:
            raise TurnLost(msg("queries and keys are turned differently"))
        settings: dict[str, Any] = {"num_heads": heads, "kv_num_heads": key.shape[1]}
        settings["scale"] = float(size**-0.5 if scores.scale is None else scores.scale)
        if scores.mask.window > 0:
            settings["local_window_size"] = scores.mask.window
        if scores.softcap:
            settings["softcap"] = float(scores.softcap)
        for each in (query, key):
            self._run.waiting.pop(id(each), None)
        rows = [each.transpose(1, 2).reshape(batch, tokens, -1) for each in given]
        tables = (turn.cosines, turn.sines) if turn else (None, None)
        if turn is not None:
            settings |= {"do_rotary": 1, "rotary_interleaved": turn.interleaved}
        inputs = [*rows, *layer.past, *self._run.lengths, *tables, None, None, scores.sinks]
        while inputs[-1] is None:
            inputs.pop()
        held = (batch, key.shape[1], layer.get_seq_length() + tokens, size)
        shapes = [(batch, tokens, heads * size), held, held]
        made, *present = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::GroupQueryAttention", inputs, settings, dtypes=[FLOAT] * 3, shapes=shapes, version=1
        )
        layer.present = tuple(present)
        return made.reshape(batch, tokens, heads, size)

    def _padded(
        self, layer: PastLayer, given: tuple[torch.Tensor, torch.Tensor, torch.Tensor], scores: _Scores
    ) -> torch.Tensor:
        """As ``_grouped``, where keys and values have different sizes: the narrower ones end in zeros, which add
        nothing to a score and give columns that are left out.
        """
        narrow, size = given[2].shape[-1], max(each.shape[-1] for each in given)
        scale = given[0].shape[-1] ** -0.5 if scores.scale is None else scores.scale
        query, key, value = (_padded_to(size, each) for each in given)
        for before, after in zip(given, (query, key, value), strict=True):
            self.goes_on(before, after)
        return self._grouped(layer, (query, key, value), replace(scores, scale=scale))[..., :narrow]

    def goes_on(self, before: Any, after: torch.Tensor) -> None:
        """Take note that ``after`` is ``before`` in another form, and so still to be turned."""
        if self._run is not None and id(before) in self._run.waiting:
            del self._run.waiting[id(before)]
            self._wait(after, before.turn)

    def _wait(self, heads: torch.Tensor, turn: Turn) -> None:
        assert self._run is not None
        heads.turn = turn
        self._run.waiting[id(heads)] = heads

    def leave_angles(self) -> bool:
        """From now on heads are turned by the network's own code; whether they were not before."""
        changed = any(self._seen.turns.values())
        self._seen.turns.clear()
        return changed

    def leave_tokens(self) -> bool:
        """From now on the network is not told in a number how many logits are wanted, and so computes all tokens in
        all layers: the cache needs them; whether it was told before.
        """
        changed = isinstance(self._wanted, int)
        self._wanted = slice(-1, None)
        return changed

    def _norm(self, module: Any) -> Callable[..., Any]:
        usual = module.forward
        has_gate = "gate" in inspect.signature(usual).parameters

        def forward(source: torch.Tensor, *more: Any, **named: Any) -> Any:
            beside = (*more, *named.values())
            gate = beside[0] if len(beside) == 1 and has_gate and isinstance(beside[0], torch.Tensor) else None
            if beside and gate is None:
                return usual(source, *more, **named)
            if self._run is None:
                normed = usual(source, *more, **named)
                alone = normed if gate is None else usual(source, torch.full_like(gate, recurrences.UNGATED))
                if found := _normalised(module, source, alone):
                    self._seen.norms[id(module)] = found
                if gate is not None:
                    self._seen.gates[id(module)] = recurrences.gated_where(usual, source, gate, normed)
                return normed
            where = None if gate is None else self._seen.gates.get(id(module))
            if id(module) not in self._seen.norms or (gate is not None and where is None):
                return usual(source, *more, **named)
            operator, weight, epsilon = self._seen.norms[id(module)]
            if where == recurrences.BEFORE:
                source = source * torch.nn.functional.silu(gate)
            normed = recurrences.norm(operator, source, weight, epsilon)
            return normed * torch.nn.functional.silu(gate) if where == recurrences.BEHIND else normed

        return forward

    def _angles(self, module: Any) -> Callable[..., Any]:
        usual = module.forward

        def forward(source: torch.Tensor, position_ids: Any = None, *more: Any, **named: Any) -> Any:
            found = usual(source, position_ids, *more, **named)
            if not (isinstance(found, tuple) and len(found) == 2):
                return found
            call = (id(module), more, tuple(sorted(named.items())))
            if self._run is None and call not in self._seen.tables:
                everywhere = torch.arange(self._positions)[None]
                cosines, sines = usual(source, everywhere, *more, **named)
                self._seen.tables[call] = cosines[0], sines[0]
            for each in found:
                each.call = call
            return found

        return forward

    def _functions(self) -> dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]]:
        """What stands in the place of transformers' functions, by their names."""
        written = {name: partial(self._recurrence, name) for name in recurrences.RECURRENCES}
        return {"apply_rotary_pos_emb": self._turned, recurrences.CONVOLUTION: self._convolution, **written}

    def _convolution(self, usual: Callable[..., Any]) -> Callable[..., Any]:
        def apply(source: Any, weight: Any, bias: Any = None, activation: Any = None, **named: Any) -> Any:
            kept, number, new = cast("tuple[Any, int, Any]", getattr(source, "conv", (None, 0, None)))
            if self._run is None or kept is None:
                found = usual(source, weight, bias, activation, **named)
                if kept is not None and recurrences.is_causal(new, weight, bias, activation, found):
                    kept[CONV, number] = (*new.shape[:2], weight.shape[-1] - 1), new.dtype
                return found
            state = kept.states[CONV, number]
            if state.shape[-1] != weight.shape[-1] - 1:
                return usual(source, weight, bias, activation, **named)
            made, kept.next[CONV, number] = recurrences.convolved(new, state, weight, bias, activation)
            made.only_new = True
            return made

        return apply

    def _recurrence(self, name: str, usual: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(usual)

        def apply(*args: Any, **named: Any) -> Any:
            steps = recurrences.steps_of(name, signature, args, named, traced=self._run is not None)
            if self._run is None:
                found = usual(*args, **named)
                if recurrences.gives_the_same(steps, found):
                    found[1].held = steps.held
                else:
                    self._seen.others.add(usual)
                return found
            if usual in self._seen.others:
                return usual(*args, **named)
            state = self._run.cache.asked if steps.initial is None else steps.initial
            if state is None:
                raise NoOperator(msg("its layers keep a state that no operator continues"))
            made, present = recurrences.written(steps, state)
            return steps.finish(made), present

        return apply

    def _turned(self, usual: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(usual)

        def apply(*args: Any, **named: Any) -> Any:
            bound = signature.bind(*args, **named)
            bound.apply_defaults()
            given = bound.arguments
            call = getattr(given.get("cos"), "call", None)
            heads = [each for name, each in given.items() if name not in ("cos", "sin") and _is_heads(each)]
            heads_at = given.get("unsqueeze_dim", 1)
            if call is None or heads_at not in {1, 2} or not heads:
                return usual(*args, **named)
            if self._run is None:
                found = usual(*args, **named)
                made = found if isinstance(found, tuple) else (found,)
                here = given["cos"].unsqueeze(heads_at), given["sin"].unsqueeze(heads_at)
                turn = _turn(heads, made, here, self._seen.tables[call])
                # What is turned in two ways by the same angles is left as it is.
                known = self._seen.turns.setdefault(call, turn)
                if known is None or turn is None or known.interleaved != turn.interleaved:
                    self._seen.turns[call] = None
                return found
            turn = self._seen.turns.get(call)
            if turn is None:
                return usual(*args, **named)
            waiting = [each.view(each.shape) for each in heads]
            for each in waiting:
                self._wait(each, turn)
            return tuple(waiting) if len(waiting) > 1 else waiting[0]

        return apply


class _Calls(TorchFunctionMode):  # type: ignore[misc]
    """Sees what a network's own code asks of torch."""

    def __init__(self, operators: Operators) -> None:
        super().__init__()
        self._operators = operators

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "scaled_dot_product_attention" and isinstance(named.get("attn_mask"), Mask):
            query, key, value = args
            return self._operators.attention_called(query, key, value, named["attn_mask"], named.get("scale"))
        if name == "__getitem__" and getattr(args[0], "only_new", False) and _from_the_end(args[1]):
            return args[0]
        if name == "softplus" and self._operators.is_traced and _is_plain_softplus(*args, **named):
            return _softplus(args[0] if args else named["input"])
        if name == "erfinv" and self._operators.is_traced and (number := _number_of(args[0])) is not None:
            return torch.tensor(math.sqrt(0.5) * NormalDist().inv_cdf((number + 1) / 2))
        found = func(*args, **named)
        if name in _SAME_HEADS:
            self._operators.goes_on(args[0], found)
        elif name in _TIMES and _is_number_of_each_head(args[1]):
            self._operators.goes_on(args[0], found)  # turned and then larger is larger and then turned
        elif name in {"cat", "concat", "concatenate"} and -1 in (*args[1:], named.get("dim")):
            self._operators.goes_on(args[0][0], found)  # of which the first numbers alone are turned
        return found


def keeps_states_alone(model: Any) -> bool:
    """Whether no layer has attention: then the cache has another name in transformers, and there are no positions."""
    return "cache_params" in inspect.signature(model.forward).parameters


def _mask(*, mask_function: Callable[..., Any], **_: Any) -> Mask:
    try:
        return Mask(window_of(mask_function))
    except NoOperator as refusal:
        return Mask(-1, refusal)


def window_of(lets_through: Callable[..., Any]) -> int:
    """How far back a mask of transformers' lets a token see: -1 for everything, else a number of tokens.

    Args:
        lets_through: Of batch, head, query's and key's position, as transformers' masks are written.

    Raises:
        NoOperator: What it hides is something else than the future and what lies behind a window.
    """

    def sees(query: int, key: int) -> bool:
        return bool(lets_through(torch.tensor(0), torch.tensor(0), torch.tensor(query), torch.tensor(key)))

    refusal = NoOperator(msg("its mask hides something else than the future and what is behind a window"))
    if any(not sees(at, at) or sees(at, at + 1) for at in (0, 1, FAR - 1, FAR)):
        raise refusal
    if sees(FAR, 0):
        if all(sees(at, key) for at in (1, 2, FAR + 1) for key in (0, at // 2, at - 1)):
            return -1
        raise refusal
    hidden, seen = 0, FAR
    while seen - hidden > 1:
        middle = (hidden + seen) // 2
        hidden, seen = (hidden, middle) if sees(FAR, middle) else (middle, seen)
    window = FAR - hidden
    # A window goes with the token; chunks, which begin at fixed places, don't.
    places = (FAR + 1, FAR + window // 2, FAR + window - 1, 3 * FAR + 1)
    if any(sees(at, at - window) or not sees(at, at - window + 1) for at in places):
        raise refusal
    return window


def _normalised(module: Any, source: torch.Tensor, normed: torch.Tensor) -> tuple[str, torch.Tensor, float] | None:
    """Operator, weight and epsilon with which the operator gives what the module gave; None where there are none.

    Some families keep the weight's distance from one.
    """
    named = ("variance_epsilon", "eps", "epsilon", "norm_eps")
    epsilon = next((each for name in named if isinstance(each := getattr(module, name, None), float)), None)
    weight = getattr(module, "weight", None)
    if epsilon is None or normed.shape != source.shape or normed.dtype != torch.float32:
        return None
    width = source.shape[-1]
    for operator, middle in (("SimplifiedLayerNormalization", source), ("LayerNormalization", _around_mean(source))):
        plain = middle * torch.rsqrt(middle.pow(2).mean(-1, keepdim=True) + epsilon)
        for added in (0.0, 1.0):
            factors = torch.ones(width) if weight is None else real(weight.detach()).float() + added
            if factors.shape == (width,) and experts.same(plain * factors, normed):
                return operator, factors.clone(), epsilon
    return None


def _around_mean(source: torch.Tensor) -> torch.Tensor:
    return source - source.mean(-1, keepdim=True)


def _is_fast_gelu(module: Any) -> bool:
    """Whether an activation of transformers' own, which writes it out, is GELU by the hyperbolic tangent."""
    if next(module.parameters(), None) is not None:
        return False
    probes = torch.linspace(-9.0, 9.0, 512)
    return experts.same(module.forward(probes), torch.nn.functional.gelu(probes, approximate="tanh"))


def _fast_gelu(source: torch.Tensor) -> torch.Tensor:
    return cast(
        torch.Tensor,
        torch.onnx.ops.symbolic("com.microsoft::FastGelu", [source], dtype=source.dtype, shape=source.shape, version=1),
    )


def _number_of(traced: torch.Tensor) -> float | None:
    """What a tensor of one number holds that was made of numbers alone; None of one that depends on what is given."""
    constant = getattr(traced, "constant", None)
    if constant is None:
        return None
    with _disable_current_modes():
        return float(constant) if constant.numel() == 1 else None


def _is_plain_softplus(input: torch.Tensor, beta: float = 1, threshold: float = STRAIGHT, **more: Any) -> bool:
    """Whether it is log(1 + exp(x)), but for what no fp32 number has room for. torch's own names."""
    return input.dtype == torch.float32 and beta == 1 and threshold >= STRAIGHT and not more


def _softplus(source: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, torch.onnx.ops.symbolic("Softplus", [source], dtype=source.dtype, shape=source.shape))


def _turn(
    heads: list[torch.Tensor],
    turned: tuple[torch.Tensor, ...],
    angles: tuple[torch.Tensor, torch.Tensor],
    tables: tuple[torch.Tensor, torch.Tensor],
) -> Turn | None:
    """The angles of all positions with which the operator would give ``turned``; None where it can't.

    Args:
        angles: Cosines and sines of these positions, with an axis for heads.
        tables: Those of all positions, without one.
    """
    if len(heads) != len(turned):
        return None
    for take in _HALVES:
        here = [take(each) for each in angles]
        if any(each is None or 2 * each.shape[-1] > heads[0].shape[-1] or each.shape[-1] % EIGHT for each in here):
            continue
        for interleaved in (0, 1):
            cos, sin = cast("list[torch.Tensor]", here)
            if all(
                experts.same(_rotated(head, cos, sin, interleaved), made)
                for head, made in zip(heads, turned, strict=True)
            ):
                whole = [cast(torch.Tensor, take(each)).float().contiguous() for each in tables]
                return Turn(whole[0], whole[1], interleaved)
    return None


def _first_half(angles: torch.Tensor) -> torch.Tensor | None:
    half = angles.shape[-1] // 2
    return angles[..., :half] if torch.equal(angles[..., :half], angles[..., half:]) else None


def _every_second(angles: torch.Tensor) -> torch.Tensor | None:
    return angles[..., ::2] if torch.equal(angles[..., ::2], angles[..., 1::2]) else None


_HALVES: tuple[Callable[[torch.Tensor], torch.Tensor | None], ...] = (_first_half, _every_second, lambda angles: angles)
"""Each angle turns two numbers: families write it down twice, in one of two orders, or once."""


def _rotated(head: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, interleaved: int) -> torch.Tensor:
    """What the operator computes."""
    size = 2 * cosines.shape[-1]
    turned, rest = head[..., :size], head[..., size:]
    if interleaved:
        first, second = turned[..., ::2], turned[..., 1::2]
    else:
        first, second = turned[..., : size // 2], turned[..., size // 2 :]
    both = first * cosines - second * sines, second * cosines + first * sines
    made = torch.stack(both, -1).flatten(-2) if interleaved else torch.cat(both, -1)
    return torch.cat((made, rest), -1)


def _from_the_end(index: Any) -> bool:
    """Whether this leaves out what a convolution gives of earlier tokens."""
    whole = slice(None)
    last = index[-1] if isinstance(index, tuple) and index[:-1] == (whole, whole) else whole
    return isinstance(last, slice) and last.start is not None and last.stop is None and last.step is None


def _is_number_of_each_head(factor: Any) -> bool:
    return isinstance(factor, float) or (
        isinstance(factor, torch.Tensor) and factor.ndim == 4 and factor.shape[-1] == 1
    )


def _heads_kept(key: torch.Tensor, value: torch.Tensor) -> tuple[int, int]:
    """How many heads there are, and of how many numbers."""
    return key.shape[1], max(key.shape[3], value.shape[3])


def _padded_to(size: int, heads: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(heads, (0, size - heads.shape[-1])) if heads.shape[-1] < size else heads


def _keeps_keys(layer: Any) -> bool:
    return getattr(layer, "keys", None) is not None


def _is_heads(each: Any) -> bool:
    return isinstance(each, torch.Tensor) and each.ndim == 4


def _config(module: Any) -> Any:
    found = getattr(module, "config", None)
    return found if hasattr(found, "_attn_implementation") else None


def _check_fixed(module: Any) -> None:
    """Refuse angles that depend on how long the text is.

    Raises:
        NoOperator: They do.
    """
    kinds = getattr(module, "rope_type", None)
    if {"dynamic", "longrope"} & set(kinds.values() if isinstance(kinds, dict) else [kinds]):
        raise NoOperator(msg("its rotary angles change with the length of the text"))


def _own_mask() -> Translatable:
    return msg("attention has a mask or a bias of its own")


def _instead(stack: ExitStack, place: Any, name: str, other: Any) -> None:
    """Put ``other`` there until the stack is left."""
    own = vars(place).get(name, stack)
    setattr(place, name, other)
    stack.callback(lambda: delattr(place, name) if own is stack else setattr(place, name, own))
