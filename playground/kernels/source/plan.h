/* What is to be done, as the caller says it: steps over buffers, and whether each of them stays inside.
 *
 * Plans are made of graphs that strangers wrote. Whoever makes them (runtimes/native/checks.py) refuses what can't be
 * vouched for; here their word is not taken for it, once, when a plan is opened. What tables of constants hold is known
 * to the maker alone.
 */
#ifndef PLAYGROUND_PLAN_H
#define PLAYGROUND_PLAN_H

#include <stdint.h>
#include "attention.h"

/* Kinds of steps. Python has the same (kernels/library.py); what differs is found when a library is loaded. */
enum {
    GET_ROWS_Q8,   /* an embedding's rows, eight bits in blocks */
    GET_ROWS_F32,  /* an embedding's rows */
    RMS_NORM,      /* of a sum, if there are two sources; a second result is the sum */
    QUANTISE,      /* activations to bytes, for the products behind it */
    MUL_MAT,       /* of what was quantised last */
    ROPE,          /* queries and keys are turned, keys and values go to the cache */
    FLASH_ATTN,    /* chunk by chunk; for one token partial results, for several all of it; number: scores are capped;
                    * data: a score for each head that goes to no position, in ATTN_REDUCE as well */
    ATTN_REDUCE,   /* one token's partial results put together */
    ADD, ADD_ROW, SCALE, MUL,
    SILU, GELU, GELU_ERF, RELU, SIGMOID, /* of one source, times the second if there is one */
    GET_ROWS_LAST, /* the last token's row */
    SOFTCAP,       /* number · tanh(x / number) */
    LAYER_NORM,    /* the same as RMS_NORM around the mean, with a bias if there is one */
    ROTATE,        /* heads of `extra` numbers are turned by their position */
    CLAMP,         /* x between -number and number */
    GET_ROWS_POS,  /* a table's rows, by position */
    MUL_MAT_F32,   /* with few weights [extra][width] that are not rounded */
    SOFT_MAX,      /* of a row */
    TOP_K,         /* a row's `extra` largest numbers, from the largest, and where they stand */
    GET_COLS,      /* the first source's numbers at the places that the second has */
    SUM_ROWS,      /* one number for each row */
    MUL_COL, DIV_COL, /* by the second source's one number for each row */
    QUANTISE_ROWS, /* as QUANTISE, but every row by itself, for MUL_MAT_ID */
    MUL_MAT_ID,    /* of what was quantised last with `extra` of several matrices, which the source chooses; layer: 1 where
                    * all have the same numbers, `extra` where each has its own */
    ADD_ID,        /* to each part of `width` numbers a row of a table, which the second source chooses; layer: its rows */
    SWIGLU,        /* gate · sigmoid(alpha · gate) · (other + beta), which stand by turns; data: alpha, beta, limit of both */
    SUM_ID,        /* parts of `width` numbers, each times one of the second source's `extra`, added */
    CAUSAL_CONV,   /* each column's last `extra` numbers, of earlier runs as well, by weights [extra][width] that end with
                    * the newest's; a bias or none; layer: which of them it is, in order */
    SOFTPLUS,      /* log(1 + exp(x)) of one source, times the second if there is one */
    MUL_ROW,       /* by a constant row */
    MUL_HEADS,     /* each `extra` numbers in a row by one of the second source's */
    CONCAT,        /* sources side by side: `extra` numbers, `layer` numbers, and what is left of `width` */
    LINEAR_ATTN,   /* each head's state S becomes exp(g) S + k v^T and gives scale S^T q; `number`: v is beta (v - S^T k), of the
                    * S that has decayed. Sources: q and k of `extra` numbers, for `groups` heads each; values of `size`
                    * numbers, and beside them g of each head (`window`: of each number of its key) and beta of each;
                    * layer: which of them it is, in order */
    KINDS
};
#define MAX_HEAD 1024 /* numbers in one head */

typedef struct {
    int buffer, offset, stride;
} Ref; /* rows of a buffer, from a column on; buffer -1: nothing */

typedef struct {
    int kind, one; /* one: only the last token's row is left here */
    int width, extra;
    Ref src[3], dst[2];
    float number;
    const void *data[4];
    Matrix matrix;
    Shape shape;
    int layer;
} Op;

typedef struct {
    int rows, width;
} Room;

typedef struct {
    int ops, threads;
    const Op *list;
    float **buffers;
    Acts acts;
    const Room *rooms; /* of each buffer */
    int places;        /* buffers */
    int layers;        /* of the cache */
    int tokens, blocks; /* the most of one run, and the most that `acts` has room for */
} Plan;

/* -- whether it is sound: sizes are compared as 64-bit numbers ---------------------------------------------------- */

static int has(const Plan *plan, Ref ref, int64_t width, int64_t rows) {
    if (ref.buffer < 0 || ref.buffer >= plan->places || width < 1) return 0;
    Room room = plan->rooms[ref.buffer];
    return room.rows >= rows && ref.stride == room.width && ref.offset >= 0 && ref.offset + width <= room.width;
}

static int may_have(const Plan *plan, Ref ref, int64_t width, int64_t rows) {
    return ref.buffer == -1 || has(plan, ref, width, rows);
}

static int sound_shape(const Plan *plan, const Op *op, int max_size) {
    const Shape *s = &op->shape;
    if (op->one || op->layer < 0 || op->layer >= plan->layers || s->window < 0) return 0;
    if (s->heads < 1 || s->groups < 1 || s->groups > MAX_QUERIES || s->heads % s->groups) return 0;
    return s->size > 0 && s->size % 16 == 0 && s->size <= max_size && s->size <= MAX_HEAD;
}

static int sound_matrix(const Matrix *m) {
    return m->panels && (m->bits == 8 || m->bits == 4) && m->blocks > 0 && m->outputs > 0 && m->outputs % PANEL == 0;
}

#define EACH_ROW ((int64_t)1 << 40) /* added to `rounded` where rows were quantised by themselves */

/* What the steps before have left. */
typedef struct {
    int64_t rounded; /* blocks of activations of the last QUANTISE, of all rows or (negative) of one */
    int convolutions, recurrences;
} Sofar;

static int sound_heads(const Op *op) {
    const Shape *s = &op->shape;
    if (op->one || s->heads < 1 || s->groups < 1 || s->heads % s->groups || s->window < 0 || s->window > 1) return 0;
    if (s->size < 1 || s->size % 16 || s->size > MAX_HEAD) return 0;
    return op->extra > 0 && op->extra % 16 == 0 && op->extra <= MAX_HEAD;
}

static int sound(const Plan *plan, const Op *op, Sofar *sofar, int max_size) {
    const Shape *s = &op->shape;
    int64_t rows = op->one ? 1 : plan->tokens, width = op->width, heads = (int64_t)s->heads * s->size;
    switch (op->kind) {
        case GET_ROWS_Q8:
            return width % BLOCK == 0 && op->data[0] && op->data[1] && has(plan, op->dst[0], width, rows);
        case GET_ROWS_F32: return op->data[0] && has(plan, op->dst[0], width, rows);
        case GET_ROWS_POS: return !op->one && op->data[0] && has(plan, op->dst[0], width, rows);
        case RMS_NORM:
            return op->extra > 0 && width % op->extra == 0 && op->data[0] && has(plan, op->src[0], width, rows) &&
                   may_have(plan, op->src[1], width, rows) && has(plan, op->dst[0], width, rows) &&
                   may_have(plan, op->dst[1], width, rows);
        case LAYER_NORM:
            return op->data[0] && has(plan, op->src[0], width, rows) && may_have(plan, op->src[1], width, rows) &&
                   has(plan, op->dst[0], width, rows) && may_have(plan, op->dst[1], width, rows);
        case ROTATE:
            return !op->one && op->extra > 0 && op->extra % 2 == 0 && width % op->extra == 0 && op->data[0] &&
                   op->data[1] && has(plan, op->src[0], width, rows) && has(plan, op->dst[0], width, rows);
        case QUANTISE:
            sofar->rounded = op->one ? -(int64_t)op->extra : op->extra;
            return has(plan, op->src[0], width, rows) && op->extra == (width + BLOCK - 1) / BLOCK &&
                   op->extra <= plan->blocks;
        case QUANTISE_ROWS:
            sofar->rounded = EACH_ROW + op->extra;
            if (op->one) sofar->rounded = -sofar->rounded;
            return has(plan, op->src[0], width, rows) && op->extra == (width + BLOCK - 1) / BLOCK &&
                   op->extra <= plan->blocks;
        case MUL_MAT_ID: {
            const Matrix *m = &op->matrix;
            int64_t blocks = EACH_ROW + (int64_t)m->blocks * op->layer;
            return sound_matrix(m) && width > 0 && width % PANEL == 0 && m->outputs % width == 0 && op->extra > 0 &&
                   (op->layer == 1 || op->layer == op->extra) && sofar->rounded == (op->one ? -blocks : blocks) &&
                   has(plan, op->src[0], op->extra, rows) && has(plan, op->dst[0], width * op->extra, rows);
        }
        case ADD_ID:
            return op->extra > 0 && op->layer > 0 && op->data[0] && width > 0 &&
                   has(plan, op->src[0], width * op->extra, rows) && has(plan, op->src[1], op->extra, rows) &&
                   has(plan, op->dst[0], width * op->extra, rows);
        case SUM_ID:
            return op->extra > 0 && width > 0 && has(plan, op->src[0], width * op->extra, rows) &&
                   has(plan, op->src[1], op->extra, rows) && has(plan, op->dst[0], width, rows);
        case SWIGLU:
            return op->data[0] && has(plan, op->src[0], 2 * width, rows) && has(plan, op->dst[0], width, rows);
        case MUL_MAT_F32:
            return op->extra > 0 && op->data[0] && has(plan, op->src[0], op->extra, rows) &&
                   has(plan, op->dst[0], width, rows);
        case SOFT_MAX: return has(plan, op->src[0], width, rows) && has(plan, op->dst[0], width, rows);
        case TOP_K:
            return op->extra > 0 && op->extra <= width && has(plan, op->src[0], width, rows) &&
                   has(plan, op->dst[0], op->extra, rows) && has(plan, op->dst[1], op->extra, rows);
        case GET_COLS:
            return op->extra > 0 && has(plan, op->src[0], op->extra, rows) && has(plan, op->src[1], width, rows) &&
                   has(plan, op->dst[0], width, rows);
        case CAUSAL_CONV:
            return !op->one && op->extra > 0 && op->data[0] && op->layer == sofar->convolutions++ &&
                   has(plan, op->src[0], width, rows) && has(plan, op->dst[0], width, rows);
        case LINEAR_ATTN: {
            if (!sound_heads(op) || width != heads || op->layer != sofar->recurrences++) return 0;
            int64_t keys = (int64_t)(s->heads / s->groups) * op->extra;
            int64_t beside = s->heads * (int64_t)(s->window ? op->extra : 1) + (op->number != 0 ? s->heads : 0);
            return has(plan, op->src[0], keys, rows) && has(plan, op->src[1], keys, rows) &&
                   has(plan, op->src[2], width + beside, rows) && has(plan, op->dst[0], width, rows);
        }
        case MUL_HEADS:
            return op->extra > 0 && width % op->extra == 0 && has(plan, op->src[0], width, rows) &&
                   has(plan, op->src[1], width / op->extra, rows) && has(plan, op->dst[0], width, rows);
        case CONCAT: {
            int64_t rest = width - op->extra - (int64_t)op->layer;
            return rest >= 0 && has(plan, op->src[0], op->extra, rows) && has(plan, op->src[1], op->layer, rows) &&
                   (!rest || has(plan, op->src[2], rest, rows)) && has(plan, op->dst[0], width, rows);
        }
        case SUM_ROWS: return has(plan, op->src[0], width, rows) && has(plan, op->dst[0], 1, rows);
        case MUL_COL:
        case DIV_COL:
            return has(plan, op->src[0], width, rows) && has(plan, op->src[1], 1, rows) &&
                   has(plan, op->dst[0], width, rows);
        case MUL_MAT:
            return sound_matrix(&op->matrix) && has(plan, op->dst[0], op->matrix.outputs, rows) &&
                   sofar->rounded == (op->one ? -(int64_t)op->matrix.blocks : op->matrix.blocks);
        case ROPE:
            if (!sound_shape(plan, op, max_size) || width < 0 || width % 2 || width > s->size) return 0;
            if (!op->data[0] != !op->data[1] || (width && !op->data[0])) return 0;
            return has(plan, op->src[0], heads, rows) && has(plan, op->src[1], heads / s->groups, rows) &&
                   has(plan, op->src[2], heads / s->groups, rows) && has(plan, op->dst[0], heads, rows);
        case FLASH_ATTN:
        case ATTN_REDUCE:
            return sound_shape(plan, op, max_size) && has(plan, op->src[0], heads, rows) &&
                   has(plan, op->dst[0], heads, rows);
        case GET_ROWS_LAST:
            return op->one && has(plan, op->src[0], width, plan->tokens) && has(plan, op->dst[0], width, 1);
        case ADD:
        case MUL:
            return has(plan, op->src[0], width, rows) && has(plan, op->src[1], width, rows) &&
                   has(plan, op->dst[0], width, rows);
        case MUL_ROW:
        case ADD_ROW: return op->data[0] && has(plan, op->src[0], width, rows) && has(plan, op->dst[0], width, rows);
        case SCALE:
        case SOFTCAP:
        case CLAMP:
        case SILU:
        case GELU:
        case GELU_ERF:
        case RELU:
        case SIGMOID:
        case SOFTPLUS:
            return has(plan, op->src[0], width, rows) && may_have(plan, op->src[1], width, rows) &&
                   has(plan, op->dst[0], width, rows);
        default: return 0;
    }
}

#endif
