/* A decoder as a list of steps over buffers of numbers, run by a few threads: in lock step where there are several tokens,
 * shared (shares.h) where there is one.
 *
 * The list is made elsewhere (runtimes/native/engine.py); here every step is taken for the tokens given, one or many.
 * Buffers are [tokens][stride] floats. Nothing is allocated while running. This file does not know ONNX, text or time.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "constants.h"
#include "packing.h"
#include "rows.h"
#include "run.h"

/* -- attention ----------------------------------------------------------------------------------------------------- */

/* One thread's scratch: queries, scores, a partial result, results so far, and a chunk of keys and of values. */
static size_t scratch_floats(int size) {
    return (size_t)MAX_QUERIES * (3 * size + CHUNK) + 2 * (size_t)CHUNK * size + 64;
}

static int tokens_together(const Shape *s) {
    int tokens = MAX_QUERIES / s->groups;
    return tokens < 1 ? 1 : tokens > 16 ? 16 : tokens;
}

/* The partial results of one key-value head's queries for one token, of one chunk: what ATTN_REDUCE puts together. */
static void flash_attn_one(const Op *op, const Run *r, int end, int head, int chunk, float *out, float *own) {
    const Shape *s = &op->shape;
    int first = s->window && end > s->window ? end - s->window : 0;
    size_t each = cache_bytes(r->bits, s->size), place = ((size_t)head * r->capacity + (size_t)chunk * CHUNK) * each;
    const uint8_t *keys = r->keys[op->layer] + place, *values = r->values[op->layer] + place;
    const float *q = at(r, op->src[0], 0) + (size_t)head * s->groups * s->size;
    float *scores = own;
    int part = s->size + 2, from = first - chunk * CHUNK, to = end - chunk * CHUNK;
    float *weighted = own + (size_t)MAX_QUERIES * CHUNK;
    int positions = to < CHUNK ? to : CHUNK;
    fetch_ahead(values, (size_t)positions * each);
    if (r->bits == 8) scores_byte(q, (const int8_t *)keys, s->size, s->groups, scores);
    else scores_half(q, (const half *)keys, s->size, s->groups, scores);
    if (to > CHUNK) fetch_ahead(keys + CHUNK * each, CHUNK * each);
    if (op->number > 0) softcap_scores(scores, s->groups, op->number);
    for (int g = 0; g < s->groups; g++) softmax_chunk(scores + g * CHUNK, from, to, out + g * part, out + g * part + 1);
    if (r->bits == 8) weighted_byte(scores, (const int8_t *)values, s->size, positions, s->groups, weighted);
    else weighted_half(scores, (const half *)values, s->size, positions, s->groups, weighted);
    for (int g = 0; g < s->groups; g++)
        memcpy(out + g * part + 2, weighted + (size_t)g * s->size, (size_t)s->size * sizeof(float));
}

static void attn_reduce(const Op *op, Run *r) {
    const Shape *s = &op->shape;
    int end = r->start + 1, first = s->window && end > s->window ? end - s->window : 0, part = s->size + 2;
    float *out = at(r, op->dst[0], 0);
    for (int h = 0; h < s->heads; h++, out += s->size) {
        float max = -INFINITY, sum = 0;
        for (int chunk = first / CHUNK; chunk * CHUNK < end; chunk++) {
            const float *p = r->parts + ((size_t)chunk * s->heads + h) * part;
            merge_partial(&max, &sum, out, p[0], p[1], p + 2, s->size);
        }
        if (op->data[0]) sum += sunk((const float *)op->data[0] + h, max);
        for (int i = 0; i < s->size; i++) out[i] /= sum;
    }
}

/* A few tokens' queries of one key-value head over all they see. */
static void flash_attn_many(const Op *op, Run *r, int head, int row, int tokens, float *own) {
    const Shape *s = &op->shape;
    int rows = tokens * s->groups, size = s->size;
    float *q = own, *weighted = q + (size_t)MAX_QUERIES * size, *sofar = weighted + (size_t)MAX_QUERIES * size;
    float *scores = sofar + (size_t)MAX_QUERIES * size, *wide = scores + (size_t)MAX_QUERIES * CHUNK;
    float max[MAX_QUERIES], sum[MAX_QUERIES];
    for (int t = 0; t < tokens; t++)
        memcpy(q + (size_t)t * s->groups * size, at(r, op->src[0], row + t) + (size_t)head * s->groups * size,
               (size_t)s->groups * size * sizeof(float));
    for (int i = 0; i < rows; i++) max[i] = -INFINITY, sum[i] = 0;
    int last = r->start + row + tokens, first = r->start + row + 1 - s->window;
    if (!s->window || first < 0) first = 0;
    for (int chunk = first / CHUNK; chunk * CHUNK < last; chunk++) {
        size_t place = ((size_t)head * r->capacity + (size_t)chunk * CHUNK) * cache_bytes(r->bits, size);
        int positions = last - chunk * CHUNK < CHUNK ? last - chunk * CHUNK : CHUNK;
        widen_keys(r->keys[op->layer] + place, r->bits, size, wide);
        scores_float(q, wide, size, rows, scores);
        if (op->number > 0) softcap_scores(scores, rows, op->number);
        float max2[MAX_QUERIES], sum2[MAX_QUERIES];
        for (int i = 0; i < rows; i++) {
            int end = r->start + row + i / s->groups + 1, begin = s->window && end > s->window ? end - s->window : 0;
            softmax_chunk(scores + (size_t)i * CHUNK, begin - chunk * CHUNK, end - chunk * CHUNK, max2 + i, sum2 + i);
        }
        widen_values(r->values[op->layer] + place, r->bits, size, positions, wide);
        weighted_float(scores, wide, size, positions, rows, weighted);
        for (int i = 0; i < rows; i++)
            merge_partial(max + i, sum + i, sofar + (size_t)i * size, max2[i], sum2[i], weighted + (size_t)i * size,
                          size);
    }
    for (int i = 0; i < rows; i++) {
        if (op->data[0]) sum[i] += sunk((const float *)op->data[0] + head * s->groups + i % s->groups, max[i]);
        float *out = at(r, op->dst[0], row + i / s->groups) + (size_t)(head * s->groups + i % s->groups) * size;
        for (int j = 0; j < size; j++) out[j] = sofar[(size_t)i * size + j] / sum[i];
    }
}

static int by_rows(int kind) {
    return kind != MUL_MAT && kind != MUL_MAT_ID && kind != FLASH_ATTN && kind != LINEAR_ATTN;
}

#include "shares.h"

static int take(Run *r, int step, int count) {
    return atomic_fetch_add_explicit(&r->taken[step], count, memory_order_relaxed);
}

static void flash_attn(const Op *op, Run *r, int step, float *own) {
    const Shape *s = &op->shape;
    int heads = s->heads / s->groups;
    int together_ = tokens_together(s), tiles = (r->tokens + together_ - 1) / together_, all = heads * tiles;
    for (int i = take(r, step, 1); i < all; i = take(r, step, 1)) {
        int row = (tiles - 1 - i / heads) * together_; /* the longest first */
        int tokens = r->tokens - row < together_ ? r->tokens - row : together_;
        flash_attn_many(op, r, i % heads, row, tokens, own);
    }
}

/* Each head goes through all tokens: before a text its state is zeros. */
static void linear_attn(const Op *op, Run *r, int step) {
    for (int head = take(r, step, 1); head < op->shape.heads; head = take(r, step, 1)) {
        float *state = state_of(op, r, head);
        for (int row = 0; row < r->tokens; row++) {
            float *out = at(r, op->dst[0], row) + (size_t)head * op->shape.size;
            if (!is_finite_head(op, r, row, head)) is_broken(r, op);
            linear_attn_head(op, r, row, head, r->start + row ? state : NULL, state, out);
        }
    }
}

#ifdef PROFILE /* nanoseconds by kind of step, of the calling thread: at work, and waiting for the others */
long pg_work[KINDS], pg_wait[KINDS];
#define PROFILE_BEGIN long began_ = now_ns(), worked_;
#define PROFILE_WORK worked_ = now_ns(); if (!thread) pg_work[op->kind] += worked_ - began_;
#define PROFILE_WAIT if (!thread) pg_wait[op->kind] += now_ns() - worked_;
#else
#define PROFILE_BEGIN
#define PROFILE_WORK
#define PROFILE_WAIT
#endif

/* -- the list ------------------------------------------------------------------------------------------------------ */

static void mul_mat_step(const Op *op, Run *r, int step, int rows) {
    int panels = op->matrix.outputs / PANEL, each = panels / (16 * r->working);
    float *out = at(r, op->dst[0], 0);
    size_t stride = (size_t)op->dst[0].stride;
    if (each < 1) each = 1;
    for (int p = take(r, step, each); p < panels; p = take(r, step, each)) {
        int end = p + each < panels ? p + each : panels;
        mul_mat(&op->matrix, r->plan.acts, rows, p, end, out, stride);
        if (r->next[step] >= 0) continue; /* whatever is behind it looks at its numbers */
        for (int row = 0; row < rows; row++)
            if (!all_finite(out + row * stride + p * PANEL, (size_t)(end - p) * PANEL)) is_broken(r, op);
    }
}

/* Panels of all experts, each for the rows that have chosen its expert: one row after the other, while a panel is in the
 * cache. */
static void mul_mat_id_step(const Op *op, Run *r, int step, int rows) {
    int each = op->width / PANEL;
    Matrix panel = op->matrix;
    panel.outputs = PANEL;
    for (int p = take(r, step, 1); p < op->matrix.outputs / PANEL; p = take(r, step, 1)) {
        panel.panels = (const uint8_t *)op->matrix.panels + p * panel_bytes(&op->matrix);
        for (int row = 0; row < rows; row++) {
            const float *chosen = at(r, op->src[0], row);
            float *out = at(r, op->dst[0], row) + (size_t)(p % each) * PANEL;
            for (int part = 0; part < op->extra; part++)
                if (place_below(chosen[part], op->matrix.outputs / op->width) == p / each)
                    mul_mat(&panel, acts_of(op, r, row, part), 1, 0, 1, out + (size_t)part * op->width, PANEL);
        }
    }
}

/* The list for several tokens: in lock step. */
static void many_tokens(void *with, int thread) {
    Run *r = with;
    const Plan *plan = &r->plan;
    int share = (r->tokens + r->working - 1) / r->working;
    for (int i = 0; i < plan->ops; i++) {
        const Op *op = plan->list + i;
        PROFILE_BEGIN
        int rows = op->one ? 1 : r->tokens;
        if (op->kind == MUL_MAT) {
            mul_mat_step(op, r, i, rows);
        } else if (op->kind == MUL_MAT_ID) {
            mul_mat_id_step(op, r, i, rows);
        } else if (op->kind == FLASH_ATTN) {
            flash_attn(op, r, i, r->own[thread] + r->result);
        } else if (op->kind == LINEAR_ATTN) {
            linear_attn(op, r, i);
        } else if (op->kind != ATTN_REDUCE) { /* which several tokens have no need of */
            int from = rows == 1 ? 0 : thread * share, to = rows == 1 ? (thread == 0) : from + share;
            if (op->kind == CAUSAL_CONV) { /* which reads other threads' rows, where they stay */
                for (int row = from; row < to && row < rows; row++) keep_input(op, r, row);
                if (r->working > 1) barrier(r->pool);
            }
            for (int row = from; row < to && row < rows; row++) row_of(op, r, row, rows);
        }
        /* Steps that go row by row need not wait for each other, as long as a row stays with its thread. */
        PROFILE_WORK
        int next_same = i + 1 < plan->ops && by_rows(op[0].kind) && by_rows(op[1].kind) && op[0].one == op[1].one;
        if (!next_same && i + 1 < plan->ops && r->working > 1) barrier(r->pool);
        PROFILE_WAIT
    }
}

/* -- what the caller sees ------------------------------------------------------------------------------------------ */

const char *pg_isa(void) { return ISA; }
int pg_tile(void) { return ROWS; }

/* What Python's structures and numbers must agree with: a list that ends with a name of NULL. */
const Constant *pg_constants(void) { return CONSTANTS; }

void pg_close(Run *r) {
    if (!r) return;
    pool_close(r->pool);
    if (r->own)
        for (int i = 0; i < r->plan.threads; i++) free(r->own[i]);
    free(r->own), free(r->taken), free(r->next), free(r->parts), free(r->next_piece), free(r->done), free(r->claims);
    free(r);
}

/* The first step that would reach beyond its buffers, or -1. `max_size`: the largest head there is scratch for. */
int pg_unsound(const Plan *plan, int max_size) {
    Sofar sofar = {0, 0, 0};
    for (int i = 0; i < plan->ops; i++)
        if (!sound(plan, plan->list + i, &sofar, max_size)) return i;
    return -1;
}

/* Ready to run; NULL where memory or threads can't be had. */
Run *pg_open(const Plan *plan, int max_size, int awake) {
    Run *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->plan = *plan;
    r->forced = -1;
    r->pace[0].longer = 1;
    r->bits = 16;
    r->result = result_floats(plan, max_size);
    r->taken = calloc((size_t)plan->ops, sizeof(atomic_int));
    r->own = calloc((size_t)plan->threads, sizeof(float *));
    r->next = calloc((size_t)plan->ops, sizeof(int));
    r->next_piece = calloc((size_t)plan->threads * (size_t)plan->ops, sizeof(atomic_ullong));
    r->done = calloc((size_t)plan->ops, sizeof(atomic_ullong));
    r->claims = aligned_alloc(64, (size_t)plan->threads * sizeof(Claim));
    if (!r->taken || !r->own || !r->next || !r->next_piece || !r->done || !r->claims) return pg_close(r), NULL;
    memset(r->claims, 0, (size_t)plan->threads * sizeof(Claim));
    for (int i = plan->ops - 1, next = -1; i >= 0; i--) {
        r->next[i] = next;
        if (plan->list[i].kind == MUL_MAT) next = i;
    }
    for (int i = 0; i < plan->threads; i++)
        if (!(r->own[i] = aligned_alloc(64, ((r->result + scratch_floats(max_size)) * 4 + 63) / 64 * 64)))
            return pg_close(r), NULL;
    if (!(r->pool = pool_open(plan->threads, awake, many_tokens, one_token, r))) return pg_close(r), NULL;
    return r;
}

/* To be called before memory that a run has seen is given back. */
void pg_settle(Run *r) { pool_settle(r->pool); }

/* How many bits a key or value has in the cache: 16, as it is from the start, or 8. To be said before `pg_cache`. */
void pg_cache_bits(Run *r, int bits) { r->bits = bits; }

/* The cache: for each layer keys and values with room for `capacity` positions (a multiple of 64). */
int pg_cache(Run *r, uint8_t **keys, uint8_t **values, int capacity, int heads, int size) {
    pool_settle(r->pool);
    r->keys = keys, r->values = values, r->capacity = capacity;
    size_t wanted = (size_t)(capacity / CHUNK) * (size_t)heads * (size_t)(size + 2);
    if (wanted > r->parts_size) {
        free(r->parts);
        r->parts_size = 0;
        if (!(r->parts = malloc(wanted * sizeof(float)))) return -1;
        r->parts_size = wanted;
    }
    return 0;
}

/* The same of what goes into convolutions: for each, in order, [capacity][width]. To be said behind `pg_cache`. */
void pg_conv_inputs(Run *r, float **inputs) { r->inputs = inputs; }

/* The same of recurrences' states: for each, in order, [heads][size / 16][key size][16]. */
void pg_states(Run *r, float **states) { r->states = states; }

/* One token: by whichever threads come, or by the caller alone where the cores are others' as well and that is faster. */
static void run_one(Run *r, int start) {
    unsigned long long step = (atomic_load_explicit(&r->step, memory_order_relaxed) >> 32) + 1;
    atomic_store_explicit(&r->step, step << 32 | (unsigned)start, memory_order_release);
    int threads = r->plan.threads, way = r->forced >= 0 ? r->forced : pace_way(&r->pace[0]);
    if (threads == 1 || r->forced == ALONE) return one_token(r, 0);
    long began = now_ns(), ran = ran_ns();
    if (way == ALONE) one_token(r, 0);
    else shared(r->pool);
    double took = (double)(now_ns() - began);
    if (r->forced < 0) pace_took(&r->pace[0], took, took - (double)(ran_ns() - ran));
}

static void run(Run *r, const int64_t *ids, int tokens, int start) {
    if (tokens > 1) pool_settle(r->pool);
    r->ids = ids, r->tokens = tokens, r->start = start;
    atomic_store_explicit(&r->broken, r->plan.ops, memory_order_relaxed);
    int size = 0, threads = r->working = r->plan.threads;
    if (tokens == 1) return run_one(r, start);
    for (int i = 0; i < r->plan.ops; i++) atomic_store_explicit(&r->taken[i], 0, memory_order_relaxed);
    if (threads == 1) return many_tokens(r, 0);
    while (size < PACES - 1 && 1 << size < tokens) size++;
    Pace *pace = &r->pace[size];
    int way = r->forced >= 0 ? r->forced : pace_way(pace);
    if (way == ALONE) r->working = 1;
    atomic_store_explicit(&r->pool->waited, 0, memory_order_relaxed);
    long began = now_ns();
    if (way == ALONE) many_tokens(r, 0);
    else together(r->pool);
    double waited = (double)atomic_load_explicit(&r->pool->waited, memory_order_relaxed) / (threads - 1);
    if (r->forced < 0) pace_took(pace, (double)(now_ns() - began), waited);
}

/* Reads `tokens` ids behind `start` others. The first step that met numbers which are infinite or none, or -1; what a
 * run gave where there is one, and what it put into the cache, is of no use. */
int pg_run(Run *r, const int64_t *ids, int tokens, int start) {
    run(r, ids, tokens, start);
    int broken = atomic_load_explicit(&r->broken, memory_order_relaxed);
    return broken < r->plan.ops ? broken : -1;
}

/* How many keys and values were too large for half floats, and became the largest, since the plan was opened. */
long pg_clamped(Run *r) { return atomic_load_explicit(&r->clamped, memory_order_relaxed); }

/* Every step from here on by the caller alone (1), by all threads together (0), or by what was lately faster (-1). */
void pg_way(Run *r, int way) { r->forced = way; }

/* One product alone, for tests and measurements: rows of `x` [rows][width] to `out` [rows][outputs]. */
void pg_product(const Matrix *m, Acts acts, const float *x, int width, int rows, float *out) {
    for (int row = 0; row < rows; row++) quantise(x + (size_t)row * width, width, acts, m->blocks, row, rows);
    mul_mat(m, acts, rows, 0, m->outputs / PANEL, out, (size_t)m->outputs);
}
