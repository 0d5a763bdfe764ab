"""Numbers and structures that Python and C have in common, as Python has them, and whether a library has the same.

In C they stand in products.h, attention.h and plan.h; constants.h names each for the comparison.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_float, c_int, c_int64, c_void_p
from enum import IntEnum

from playground.messages import msg

BLOCK = 32
PANEL = 32
"""Outputs that lie together."""
PANEL_BYTES = {8: 1088, 4: 640}
"""Of a panel's block, by the bits of a weight."""
CHUNK = 64
"""Positions of the cache that lie together."""
MAX_HEAD = 1024
"""Numbers in one head that there is room for."""
MAX_QUERIES = 48
"""Query heads of one key-value head."""
TOGETHER, ALONE = 0, 1
"""Ways to take a step: by all threads, or by the caller."""


class Kind(IntEnum):
    """Steps of a program, as in plan.h."""

    GET_ROWS_Q8 = 0
    GET_ROWS_F32 = 1
    RMS_NORM = 2
    QUANTISE = 3
    MUL_MAT = 4
    ROPE = 5
    FLASH_ATTN = 6
    ATTN_REDUCE = 7
    ADD = 8
    ADD_ROW = 9
    SCALE = 10
    MUL = 11
    SILU = 12
    GELU = 13
    GELU_ERF = 14
    RELU = 15
    SIGMOID = 16
    GET_ROWS_LAST = 17
    SOFTCAP = 18
    LAYER_NORM = 19
    ROTATE = 20
    CLAMP = 21
    GET_ROWS_POS = 22
    MUL_MAT_F32 = 23
    SOFT_MAX = 24
    TOP_K = 25
    GET_COLS = 26
    SUM_ROWS = 27
    MUL_COL = 28
    DIV_COL = 29
    QUANTISE_ROWS = 30
    MUL_MAT_ID = 31
    ADD_ID = 32
    SWIGLU = 33
    SUM_ID = 34
    CAUSAL_CONV = 35
    SOFTPLUS = 36
    MUL_ROW = 37
    MUL_HEADS = 38
    CONCAT = 39
    LINEAR_ATTN = 40


LATER = tuple(kind.name for kind in Kind if kind >= Kind.SOFTCAP)
"""Kinds that libraries compiled before have not, the oldest first. They compute all others as today's do, and a step of
a later kind is refused when it is opened.
"""


class Ref(Structure):
    """Where a value lies: a buffer, its first column, the width of the buffer's rows."""

    _fields_ = (("buffer", c_int), ("offset", c_int), ("stride", c_int))


class Matrix(Structure):
    _fields_ = (("panels", c_void_p), ("bits", c_int), ("blocks", c_int), ("outputs", c_int), ("factor", c_float))


class Shape(Structure):
    _fields_ = (("heads", c_int), ("groups", c_int), ("size", c_int), ("window", c_int), ("scale", c_float))


class Op(Structure):
    _fields_ = (
        ("kind", c_int),
        ("one", c_int),
        ("width", c_int),
        ("extra", c_int),
        ("src", Ref * 3),
        ("dst", Ref * 2),
        ("number", c_float),
        ("data", c_void_p * 4),
        ("matrix", Matrix),
        ("shape", Shape),
        ("layer", c_int),
    )


class Acts(Structure):
    _fields_ = (("bytes", c_void_p), ("scales", c_void_p), ("sums", c_void_p), ("bias", c_void_p))


class Room(Structure):
    """What a buffer has: rows of so many numbers."""

    _fields_ = (("rows", c_int), ("width", c_int))


class Plan(Structure):
    """``places``: how many buffers and rooms; ``layers``: of the cache; ``tokens``: the most of one run; ``blocks``:
    the most of rounded activations there is room for.
    """

    _fields_ = (
        ("ops", c_int),
        ("threads", c_int),
        ("list", POINTER(Op)),
        ("buffers", POINTER(c_void_p)),
        ("acts", Acts),
        ("rooms", POINTER(Room)),
        ("places", c_int),
        ("layers", c_int),
        ("tokens", c_int),
        ("blocks", c_int),
    )


class Stored(Structure):
    _fields_ = (
        ("values", c_void_p),
        ("scales", c_void_p),
        ("zeros", c_void_p),
        ("bits", c_int),
        ("outputs", c_int),
        ("blocks", c_int),
        ("mean_blocks", c_int),
    )


class _Constant(Structure):
    _fields_ = (("name", c_char_p), ("value", c_int64))


def constants() -> dict[str, int]:
    """Every number and every place in a structure that C has as well (constants.h), by C's name."""
    found = {kind.name: int(kind) for kind in Kind} | {"KINDS": len(Kind)}
    found |= {"BLOCK": BLOCK, "PANEL": PANEL, "CHUNK": CHUNK, "MAX_HEAD": MAX_HEAD, "MAX_QUERIES": MAX_QUERIES}
    found |= {"TOGETHER": TOGETHER, "ALONE": ALONE}
    found |= {f"sizeof(Panel{bits})": size for bits, size in PANEL_BYTES.items()}
    for structure in (Ref, Matrix, Shape, Op, Acts, Room, Plan, Stored):
        found[f"sizeof({structure.__name__})"] = ctypes.sizeof(structure)
        for name, *_ in structure._fields_:
            found[f"{structure.__name__}.{name}"] = getattr(structure, name).offset
    return found


_BEFORE_THE_TABLE = 160
"""sizeof(Op) of libraries that have no table of constants, and compute the same. Prepared models have them."""


def check(dll: ctypes.CDLL) -> frozenset[str]:
    """Compare the library's numbers with those here.

    Returns:
        The kinds of ``LATER`` that it does not have.

    Raises:
        RuntimeError: One differs; says which.
    """
    ours = constants()
    if not hasattr(dll, "pg_constants"):
        if dll.pg_op_size() != ours["sizeof(Op)"] or ours["sizeof(Op)"] != _BEFORE_THE_TABLE:
            raise RuntimeError(msg("the library is another version's: it has no table of constants"))
        return frozenset(LATER)
    dll.pg_constants.restype = POINTER(_Constant)
    table = dll.pg_constants()
    theirs: dict[str, int] = {}
    while (entry := table[len(theirs)]).name is not None:
        theirs[entry.name.decode()] = int(entry.value)
    lacking = frozenset(name for name in LATER if name not in theirs)
    ours = {name: value for name, value in ours.items() if name not in lacking}
    ours["KINDS"] -= len(lacking)
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            has, wants = (f"{each[name]:,}" if name in each else msg("missing") for each in (theirs, ours))
            raise RuntimeError(
                msg(
                    "the library is another version's: its {constant} is {found}, {expected} was expected",
                    constant=name,
                    found=has,
                    expected=wants,
                )
            )
    return lacking
