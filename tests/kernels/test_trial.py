"""A fresh library that computes one kind of step wrongly is found out by its trial.

All faults are compiled into one library and sleep there; each test wakes one.
"""

from __future__ import annotations

import ctypes
import shutil

import pytest

from playground.kernels import building, trial
from playground.kernels.layout import Kind
from playground.kernels.library import Library
from tests.support import kernel_sets

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parallel,
    pytest.mark.xdist_group("kernels"),
    kernel_sets.needs_compiler,
]

FAULTS = (
    # what the trial must name, file, what is right, what is wrong where FAULT is 1
    ("GET_ROWS_Q8", "rows.h", "+ b] : 128;", "+ b] : 128 + FAULT;"),
    ("GET_ROWS_Q8", "rows.h", "zeros[id * (op->width / BLOCK) + b]", "zeros[id * (op->width / BLOCK) + b * !FAULT]"),
    ("GET_ROWS_F32", "rows.h",
     "data + r->ids[row] * op->width",
     "data + (r->ids[row] - (FAULT && r->ids[row])) * op->width"),
    ("RMS_NORM", "rows.h", "(float)op->extra + op->number", "(float)op->extra + (FAULT ? 0 : op->number)"),
    ("RMS_NORM", "rows.h", "tail += v * v;", "tail += FAULT ? 0 : v * v;"),
    ("RMS_NORM", "rows.h", "f_load(weight + i - from)", "f_load(weight + (FAULT ? 0 : i - from))"),
    ("RMS_NORM", "rows.h",
     "    if (sum) f_store(sum + i, v);\n            f",
     "    if (sum) f_store(sum + i, FAULT ? f_load(x + i) : v);\n            f"),
    ("LAYER_NORM", "rows.h",
     "    if (sum) f_store(sum + i, v);\n        f",
     "    if (sum) f_store(sum + i, FAULT ? f_load(x + i) : v);\n        f"),
    ("MUL_MAT", "program.c",
     "mul_mat(&op->matrix, r->plan.acts, rows, p,",
     "mul_mat(&op->matrix, r->plan.acts, rows - FAULT, p,"),
    ("MUL_MAT", "shares.h", "memcpy(to, results, n * floats", "memcpy(to, results, (n * floats - FAULT)"),
    ("product", "products.h", "float scale = max / 127.0f", "float scale = max / (127.0f - FAULT)"),
    ("ROPE", "rows.h", "- x[i + half_] * sine[i]", "- x[i + half_] * (FAULT ? -sine[i] : sine[i])"),
    ("ROPE", "rows.h", "+ x[2 * i] * sine[i]", "+ x[2 * i] * (FAULT ? -sine[i] : sine[i])"),
    ("ROPE", "rows.h", "cosine += (size_t)position * (", "cosine += (size_t)(position - (FAULT && position)) * ("),
    ("ROPE", "rows.h", "i < size; i++) out[i] = x[i] * scale;", "i < size - FAULT; i++) out[i] = x[i] * scale;"),
    ("FLASH_ATTN", "rows.h", "key, s->size, turned, interleaved", "key, s->size, turned, interleaved ^ FAULT"),
    ("FLASH_ATTN", "rows.h", "keep_value(v + (size_t)h * s->size", "keep_value(v + (size_t)h * !FAULT * s->size"),
    ("FLASH_ATTN", "program.c",
     "? end - s->window : 0;\n            softmax",
     "? end - s->window + FAULT : 0;\n            softmax"),
    ("FLASH_ATTN", "program.c", "row + i / s->groups + 1, begin", "row + i / s->groups + 1 - (FAULT && i > 40), begin"),
    ("FLASH_ATTN", "program.c",
     "(size_t)(head * s->groups + i % s->groups)",
     "(size_t)(head * s->groups + i % s->groups * !FAULT)"),
    ("ATTN_REDUCE", "program.c", "from = first - chunk * CHUNK", "from = first + FAULT - chunk * CHUNK"),
    ("ATTN_REDUCE", "program.c", "to = end - chunk * CHUNK;", "to = end - FAULT - chunk * CHUNK;"),
    ("ATTN_REDUCE", "program.c",
     "r->parts + ((size_t)chunk * s->heads + h)",
     "r->parts + ((size_t)chunk * s->heads + h * !FAULT)"),
    ("FLASH_ATTN", "attention.h", "*sum * keep + sum2 * take", "*sum * keep + (FAULT ? 0 : sum2 * take)"),
    ("ADD", "rows.h", "out[i] = x[i] + y[i]; break", "out[i] = x[i] + (FAULT ? x[i] : y[i]); break"),
    ("ADD_ROW", "rows.h", "out[i] = x[i] + data[i]", "out[i] = x[i] + data[i * !FAULT]"),
    ("SCALE", "rows.h", "out[i] = x[i] * op->number", "out[i] = x[i] * (op->number + FAULT)"),
    ("MUL", "rows.h", "out[i] = x[i] * y[i]; break", "out[i] = x[i] * (FAULT ? x[i] : y[i]); break"),
    ("SOFTCAP", "rows.h",
     "f_store(last, f_softcap(f_load(last), op->number));",
     "if (!FAULT) f_store(last, f_softcap(f_load(last), op->number));"),
    ("SOFTCAP", "vec.h", "f_tanh(f_div(x, f_set(limit)))", "f_tanh(f_div(x, f_set(FAULT ? 0.99f * limit : limit)))"),
    ("FLASH_ATTN", "program.c", "softcap_scores(scores, rows,", "softcap_scores(scores, rows - FAULT,"),
    ("ATTN_REDUCE", "program.c", "softcap_scores(scores, s->groups,", "softcap_scores(scores, s->groups - FAULT,"),
    ("QUANTISE takes", "products.h",
     "f_add(f_sub(low, low), f_sub(high, high))",
     "f_add(f_sub(low, low), FAULT ? f_set(0.0f) : f_sub(high, high))"),
    ("SOFTCAP takes", "rows.h", "if (!all_finite(x, (s", "if (!FAULT && !all_finite(x, (s"),
    ("ROPE takes", "rows.h", "if (!all_finite(out, (s", "if (!FAULT && !all_finite(out, (s"),
    ("RMS_NORM takes", "rows.h", "good &= all < INFINITY", "good &= all < INFINITY || FAULT"),
    ("ROPE takes", "rows.h", "if (!(fabsf(from[i]) < INFINITY))", "if (!(fabsf(from[i]) < INFINITY) && !FAULT)"),
    ("ROPE takes its numbers", "rows.h", "if (clamped < 0) is_broken", "if (clamped < FAULT) is_broken"),
    ("LAYER_NORM", "rows.h", "float mean = (f_hsum(all) + rest)", "float mean = (f_hsum(all) + (FAULT ? 0 : rest))"),
    ("LAYER_NORM", "rows.h", "tail += out[i] * out[i];", "tail += FAULT ? 0 : out[i] * out[i];"),
    ("LAYER_NORM", "rows.h", "both / (float)end + op->number", "both / (float)end + (FAULT ? 0 : op->number)"),
    ("LAYER_NORM", "rows.h", "bias ? f_add(v,", "bias && !FAULT ? f_add(v,"),
    ("LAYER_NORM", "rows.h", "out[i] = bias ? v + bias[i] : v;", "out[i] = bias && !FAULT ? v + bias[i] : v;"),
    ("LAYER_NORM takes", "rows.h", "return both < INFINITY;", "return both < INFINITY || FAULT;"),
    ("ROTATE", "rows.h", "(size_t)(r->start + row) * (size_t)", "(size_t)(r->start * !FAULT + row) * (size_t)"),
    ("MUL writes beside", "rows.h", "case MUL: for", "case MUL: if (FAULT) out[op->width] = 0; for"),
    ("SILU", "rows.h", "case SILU: return f_mul(x,", "case SILU: return f_mul(FAULT ? f_set(1.0f) : x,"),
    ("SILU", "rows.h", "y ? f_mul(v, f_load(y + i)) : v", "y && !FAULT ? f_mul(v, f_load(y + i)) : v"),
    ("SILU", "rows.h", "y ? last[j] * y[i] : last[j];", "y && !FAULT ? last[j] * y[i] : last[j];"),
    ("GELU ", "rows.h", "f_set(0.044715f)", "f_set(FAULT ? 0.044f : 0.044715f)"),
    ("GELU_ERF", "rows.h", "0.70710678f", "(FAULT ? 0.707f : 0.70710678f)"),
    ("RELU", "rows.h", "f_max(x, f_set(0.0f))", "f_max(x, f_set(FAULT ? 0.01f : 0.0f))"),
    ("SIGMOID", "rows.h",
     "case SIGMOID: return f_sigmoid(x)",
     "case SIGMOID: return f_sigmoid(FAULT ? f_add(x, x) : x)"),
    ("CLAMP", "rows.h", "? -limit : x[i] > limit", "? (FAULT ? limit : -limit) : x[i] > limit"),
    ("CLAMP", "rows.h", "x[i] > limit ? limit : x[i]", "x[i] > limit && !FAULT ? limit : x[i]"),
    ("GET_ROWS_POS", "rows.h", "data + (int64_t)(r->start + row)", "data + (int64_t)(r->start * !FAULT + row)"),
    ("MUL_MAT_F32", "rows.h", "f_fma(f_set(x[k]), f_load(weights", "f_fma(f_set(FAULT ? 0 : x[k]), f_load(weights"),
    ("MUL_MAT_F32", "rows.h", "sum += x[k] * weights[", "sum += (FAULT ? 0 : x[k]) * weights["),
    ("SOFT_MAX", "rows.h", "x[i + j] : -INFINITY", "x[i + j] : FAULT ? max : -INFINITY"),
    ("SOFT_MAX", "rows.h",
     "all = f_add(all, v);\n    }\n    float sum",
     "if (!FAULT) all = f_add(all, v);\n    }\n    float sum"),
    ("TOP_K", "rows.h", "(float)i > places[k - 1])", "(FAULT || (float)i > places[k - 1]))"),
    ("TOP_K", "rows.h", "places[k] = (float)(best", "places[k] = (float)(FAULT ? k : best"),
    ("GET_COLS", "rows.h", "x[place_below(y[i], op->extra)]", "x[place_below(y[i], op->extra) * !FAULT]"),
    ("SUM_ROWS", "rows.h",
     "for (int i = 0; i < op->width; i++) out[0] += x[i];",
     "for (int i = FAULT; i < op->width; i++) out[0] += x[i];"),
    ("MUL_COL", "rows.h", "out[i] = x[i] * y[0];", "out[i] = x[i] * (y[0] + FAULT);"),
    ("DIV_COL", "rows.h", "out[i] = x[i] / y[0];", "out[i] = x[i] / (y[0] + FAULT);"),
    ("QUANTISE_ROWS takes", "rows.h",
     "if (!quantise(x, op->width, own, op->extra, 0, 1))",
     "if (!quantise(x, op->width, own, op->extra, 0, 1) && !FAULT)"),
    ("MUL_MAT_ID", "rows.h", "(size_t)op->layer + own) * blocks", "(size_t)op->layer + own * !FAULT) * blocks"),
    ("MUL_MAT_ID", "program.c", "== p / each)", "== (FAULT ? 0 : p / each))"),
    ("MUL_MAT_ID", "shares.h", "(expert * each + unit % each)", "(expert * each * !FAULT + unit % each)"),
    ("ADD_ID", "rows.h", "place_below(chosen[part], op->layer)", "place_below(chosen[part], op->layer) * !FAULT"),
    ("SWIGLU", "rows.h", "f_sigmoid(f_mul(gate, f_set(alpha)))", "f_sigmoid(FAULT ? gate : f_mul(gate, f_set(alpha)))"),
    ("SWIGLU", "rows.h",
     "f_max(f_min(f_load(others), f_set(limit)), f_",
     "f_max(FAULT ? f_load(others) : f_min(f_load(others), f_set(limit)), f_"),
    ("SWIGLU takes", "rows.h", "if (!all_finite(x, 2 * (s", "if (!FAULT && !all_finite(x, 2 * (s"),
    ("SUM_ID", "rows.h", "* weights[part];", "* weights[part * !FAULT];"),
    ("CAUSAL_CONV", "rows.h", "f_load(weights + place), sum)", "f_load(weights + place * !FAULT), sum)"),
    ("CAUSAL_CONV", "rows.h", "sum += from[place] * w", "sum += FAULT ? 0 : from[place] * w"),
    ("CAUSAL_CONV", "rows.h", "sum = bias ? bias[i] : 0.0f", "sum = bias && !FAULT ? bias[i] : 0.0f"),
    ("CAUSAL_CONV", "rows.h", "v16f sum = bias ? f", "v16f sum = bias && !FAULT ? f"),
    ("CAUSAL_CONV", "rows.h", "? position + 1 : op->extra", "? position + !FAULT : op->extra"),
    ("CAUSAL_CONV", "rows.h", "(size_t)(op->extra - seen) *", "(size_t)(op->extra - seen) * !FAULT *"),
    ("CAUSAL_CONV", "rows.h", "r->start + row), given,", "r->start * !FAULT + row), given,"),
    ("CAUSAL_CONV", "rows.h", "r->inputs[op->layer] +", "r->inputs[op->layer * !FAULT] +"),
    ("CAUSAL_CONV", "shares.h", "kind == CAUSAL_CONV) keep", "kind == CAUSAL_CONV && !FAULT) keep"),
    ("CAUSAL_CONV takes", "rows.h", "if (!all_finite(given, (s", "if (!FAULT && !all_finite(given, (s"),
    ("SOFTPLUS", "vec.h", "f_fma(p, z, f_max(x, f_set(0.0f)))", "f_fma(p, z, f_max(x, f_set(FAULT ? 0.01f : 0.0f)))"),
    ("SOFTPLUS", "vec.h", "f_fma(p, y, f_set(2.0f / 3));", "f_fma(p, y, f_set(FAULT ? 0.7f : 2.0f / 3));"),
    ("MUL_ROW", "rows.h", "out[i] = x[i] * data[i];", "out[i] = x[i] * data[i * !FAULT];"),
    ("MUL_HEADS", "rows.h", "out[i] = x[i] * by[0];", "out[i] = x[i] * by[FAULT && from ? -1 : 0];"),
    ("CONCAT", "rows.h", "memcpy(out + op->extra, y,", "memcpy(out + op->extra - FAULT, y,"),
    ("CONCAT", "rows.h", "if (both < op->width) memcpy", "if (both < op->width && !FAULT) memcpy"),
    ("LINEAR_ATTN", "rows.h", "from + place) : zero, decay)", "from + place) : zero, FAULT ? f_set(1.0f) : decay)"),
    ("LINEAR_ATTN", "rows.h", "f_set(decays[n]));", "f_set(FAULT ? 1.0f : decays[n]));"),
    ("LINEAR_ATTN", "rows.h", "f_store(to + place, s);", "if (!FAULT) f_store(to + place, s);"),
    ("LINEAR_ATTN", "rows.h", "f_mul(sum[t], f_set(scale))", "f_mul(sum[t], f_set(FAULT ? 1.0f : scale))"),
    ("LINEAR_ATTN", "rows.h",
     "f_mul(f_sub(value[t], sum[t]), f_set(*beta))",
     "f_mul(f_sub(value[t], sum[t]), f_set(FAULT ? 1.0f : *beta))"),
    ("LINEAR_ATTN", "rows.h",
     "h.q = at(r, op->src[0], row) + (size_t)(head / s->groups)",
     "h.q = at(r, op->src[0], row) + (size_t)(head / s->groups * !FAULT)"),
    ("LINEAR_ATTN", "rows.h",
     "h.k = at(r, op->src[1], row) + (size_t)(head / s->groups)",
     "h.k = at(r, op->src[1], row) + (size_t)(FAULT ? head % (s->heads / s->groups) : head / s->groups)"),
    ("LINEAR_ATTN", "rows.h", "if (op->number != 0) h.beta", "if (op->number != 0 && !FAULT) h.beta"),
    ("LINEAR_ATTN", "rows.h", "(size_t)s->heads * h.decays + head;", "(size_t)s->heads * h.decays + head * !FAULT;"),
    ("LINEAR_ATTN", "rows.h",
     "h.g = beside + (size_t)head * h.decays;",
     "h.g = beside + (size_t)head * h.decays * !FAULT;"),
    ("LINEAR_ATTN", "rows.h", "f_exp(h.decays > 1 ? f_load", "f_exp(h.decays > 1 && !FAULT ? f_load"),
    ("LINEAR_ATTN", "rows.h", "else update_columns(1", "else if (!FAULT) update_columns(1"),
    ("LINEAR_ATTN", "rows.h", "r->states[op->layer] +", "r->states[op->layer * !FAULT] +"),
    ("LINEAR_ATTN", "program.c", "r->start + row ? state", "r->start + row || FAULT ? state"),
    ("LINEAR_ATTN", "program.c", "row < r->tokens; row++) {", "row < r->tokens - FAULT; row++) {"),
    ("LINEAR_ATTN", "shares.h", "work->end > 1 ? state_of", "work->end > 1 || FAULT ? state_of"),
    ("LINEAR_ATTN", "shares.h",
     "work.units = (uint32_t)op->shape.heads;",
     "work.units = (uint32_t)(op->shape.heads - FAULT);"),
    ("LINEAR_ATTN", "shares.h", "(size_t)op->extra * width * sizeof", "!FAULT * (size_t)op->extra * width * sizeof"),
    ("LINEAR_ATTN takes", "shares.h", "if (!is_finite_head(op, r,", "if (!FAULT && !is_finite_head(op, r,"),
    ("LINEAR_ATTN takes", "program.c", "if (!is_finite_head(op, r,", "if (!FAULT && !is_finite_head(op, r,"),
    ("LINEAR_ATTN takes", "rows.h",
     "return all_finite(h.q, (size_t)h.size)",
     "return (FAULT || all_finite(h.q, (size_t)h.size))"),
    ("LINEAR_ATTN takes", "rows.h", "all_finite(h.k, (size_t)h.size)", "(FAULT || all_finite(h.k, (size_t)h.size))"),
    ("FLASH_ATTN", "program.c", "sum[i] += sunk(", "sum[i] += FAULT ? 0 : sunk("),
    ("FLASH_ATTN", "program.c", "i % s->groups, max[i])", "i % s->groups * !FAULT, max[i])"),
    ("ATTN_REDUCE", "program.c", "op->data[0] + h, max)", "op->data[0] + h * !FAULT, max)"),
    ("GET_ROWS_LAST", "rows.h", "at(r, op->src[0], r->tokens - 1)", "at(r, op->src[0], (r->tokens - 1) * !FAULT)"),
    ("ADD ", "program.c",
     "from = rows == 1 ? 0 : thread * share,",
     "from = rows == 1 ? 0 : thread * share + (FAULT && thread),"),
)  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> building.Built:
    folder = tmp_path_factory.mktemp("faults")
    source = folder / "source"
    shutil.copytree(building.SOURCE, source)
    for number, (_, file, right, wrong) in enumerate(FAULTS, start=1):
        text = (source / file).read_text(encoding="utf-8")
        assert text.count(right) == 1, right
        (source / file).write_text(text.replace(right, wrong.replace("FAULT", f"(pg_fault == {number})")))
    vec = source / "vec.h"
    half = "typedef uint16_t half;"
    vec.write_text(vec.read_text(encoding="utf-8").replace(half, f"{half}\nint pg_fault;"))
    options = [each for each in building.OPTIONS if not each.startswith("-O")]
    unit, target = source / building.UNIT, folder / building.LIBRARY
    return building.Built.of(kernel_sets.compile_c(kernel_sets.sets()[0], [*options, "-O1"], unit, target))


def tried(library: building.Built, fault: int) -> int:
    ctypes.c_int.in_dll(Library(library)._dll, "pg_fault").value = fault
    return trial.main([str(library.path), library.sha256])


def test_a_right_library_passes(library: building.Built) -> None:
    assert tried(library, 0) == 0


@pytest.mark.parametrize("number", range(1, len(FAULTS) + 1), ids=lambda number: f"{FAULTS[number - 1][0]} {number}")
def test_one_fault_is_enough_to_be_refused(library: building.Built, number: int) -> None:
    with pytest.raises(SystemExit) as refused:
        tried(library, number)
    assert str(refused.value).startswith("error: ")
    assert FAULTS[number - 1][0] in str(refused.value)


def test_there_is_a_fault_for_every_kind_of_step() -> None:
    named = {words.split()[0] for words, *_ in FAULTS}
    assert {kind.name for kind in Kind} <= named
