/* Every number and every place in a structure that Python has a copy of (kernels/library.py), by name. */
#ifndef PLAYGROUND_CONSTANTS_H
#define PLAYGROUND_CONSTANTS_H

#include <stddef.h>
#include <stdint.h>
#include "pace.h"
#include "plan.h"

typedef struct {
    const char *name;
    int64_t value;
} Constant;

#define NUMBER(name) {#name, name}
#define SIZE(type) {"sizeof(" #type ")", sizeof(type)}
#define FIELD(type, field) {#type "." #field, offsetof(type, field)}

static const Constant CONSTANTS[] = {
    NUMBER(GET_ROWS_Q8), NUMBER(GET_ROWS_F32), NUMBER(RMS_NORM), NUMBER(QUANTISE), NUMBER(MUL_MAT), NUMBER(ROPE),
    NUMBER(FLASH_ATTN), NUMBER(ATTN_REDUCE), NUMBER(ADD), NUMBER(ADD_ROW), NUMBER(SCALE), NUMBER(MUL), NUMBER(SILU),
    NUMBER(GELU), NUMBER(GELU_ERF), NUMBER(RELU), NUMBER(SIGMOID), NUMBER(GET_ROWS_LAST), NUMBER(SOFTCAP),
    NUMBER(LAYER_NORM), NUMBER(ROTATE), NUMBER(CLAMP), NUMBER(GET_ROWS_POS), NUMBER(MUL_MAT_F32), NUMBER(SOFT_MAX),
    NUMBER(TOP_K), NUMBER(GET_COLS), NUMBER(SUM_ROWS), NUMBER(MUL_COL), NUMBER(DIV_COL), NUMBER(QUANTISE_ROWS),
    NUMBER(MUL_MAT_ID), NUMBER(ADD_ID), NUMBER(SWIGLU), NUMBER(SUM_ID), NUMBER(CAUSAL_CONV), NUMBER(SOFTPLUS),
    NUMBER(MUL_ROW), NUMBER(MUL_HEADS), NUMBER(CONCAT), NUMBER(LINEAR_ATTN), NUMBER(KINDS),
    NUMBER(BLOCK), NUMBER(PANEL), NUMBER(CHUNK), NUMBER(MAX_HEAD), NUMBER(MAX_QUERIES), NUMBER(TOGETHER), NUMBER(ALONE),
    SIZE(Panel8), SIZE(Panel4),
    SIZE(Ref), FIELD(Ref, buffer), FIELD(Ref, offset), FIELD(Ref, stride),
    SIZE(Matrix), FIELD(Matrix, panels), FIELD(Matrix, bits), FIELD(Matrix, blocks), FIELD(Matrix, outputs),
    FIELD(Matrix, factor),
    SIZE(Shape), FIELD(Shape, heads), FIELD(Shape, groups), FIELD(Shape, size), FIELD(Shape, window), FIELD(Shape, scale),
    SIZE(Op), FIELD(Op, kind), FIELD(Op, one), FIELD(Op, width), FIELD(Op, extra), FIELD(Op, src), FIELD(Op, dst),
    FIELD(Op, number), FIELD(Op, data), FIELD(Op, matrix), FIELD(Op, shape), FIELD(Op, layer),
    SIZE(Acts), FIELD(Acts, bytes), FIELD(Acts, scales), FIELD(Acts, sums), FIELD(Acts, bias),
    SIZE(Room), FIELD(Room, rows), FIELD(Room, width),
    SIZE(Plan), FIELD(Plan, ops), FIELD(Plan, threads), FIELD(Plan, list), FIELD(Plan, buffers), FIELD(Plan, acts),
    FIELD(Plan, rooms), FIELD(Plan, places), FIELD(Plan, layers), FIELD(Plan, tokens), FIELD(Plan, blocks),
    SIZE(Stored), FIELD(Stored, values), FIELD(Stored, scales), FIELD(Stored, zeros), FIELD(Stored, bits),
    FIELD(Stored, outputs), FIELD(Stored, blocks), FIELD(Stored, mean_blocks),
    {NULL, 0},
};
_Static_assert(sizeof CONSTANTS / sizeof *CONSTANTS > KINDS, "all kinds and more");

#endif
