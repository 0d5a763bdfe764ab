/* A decoder as a list of steps over buffers of numbers, run by a few threads in lock step.
 *
 * The list is made elsewhere (runtimes/kernel_engine.py); here every step is taken for the tokens given, one or many.
 * Buffers are [tokens][stride] floats. Nothing is allocated while running. This file does not know ONNX, text or time.
 */
#define _GNU_SOURCE
#include "plan.h"
#include "pace.h"
#include "pool.h"

typedef struct {
    Plan plan;
    Pool *pool;
    int working;        /* threads that take this step */
    int forced;         /* the way of every step, -1: by its pace */
    Pace pace[PACES];   /* of steps with one row, two, up to four … */
    atomic_int *taken; /* for each step: how much of its work is taken */
    half **keys, **values; /* for each layer */
    int capacity;          /* positions */
    const int64_t *ids;
    int tokens, start;
    float *parts;      /* partial results of attention for one token */
    size_t parts_size; /* in floats */
    float **own;       /* each thread's scratch */
    int *next;         /* for each step: the next product behind it, or -1 */
} Run;

INLINE float *at(const Run *r, Ref ref, int row) {
    return r->plan.buffers[ref.buffer] + (size_t)row * ref.stride + ref.offset;
}

/* -- row by row ---------------------------------------------------------------------------------------------------- */

static void embed8(const Op *op, int64_t id, float *out) {
    const uint8_t *values = (const uint8_t *)op->data[0] + id * op->width, *zeros = op->data[2];
    const float *scales = (const float *)op->data[1] + id * (op->width / BLOCK);
    for (int b = 0; b < op->width / BLOCK; b++) {
        int zero = zeros ? zeros[id * (op->width / BLOCK) + b] : 128;
        for (int i = 0; i < BLOCK; i++) out[b * BLOCK + i] = scales[b] * (float)(values[b * BLOCK + i] - zero);
    }
}

static void norm(const Op *op, const float *x, const float *skip, float *out, float *sum) {
    const float *weight = op->data[0];
    for (int from = 0; from < op->width; from += op->extra) { /* extra: how many numbers are normalised together */
        v16f squares = f_set(0.0f);
        float tail = 0;
        int i = from, end = from + op->extra;
        for (; i + 16 <= end; i += 16) {
            v16f v = f_load(x + i);
            if (skip) v = f_add(v, f_load(skip + i));
            if (sum) f_store(sum + i, v);
            f_store(out + i, v);
            squares = f_fma(v, v, squares);
        }
        for (; i < end; i++) {
            float v = skip ? x[i] + skip[i] : x[i];
            if (sum) sum[i] = v;
            out[i] = v;
            tail += v * v;
        }
        float by = 1.0f / sqrtf((f_sum(squares) + tail) / (float)op->extra + op->number);
        for (i = from; i + 16 <= end; i += 16)
            f_store(out + i, f_mul(f_mul(f_load(out + i), f_set(by)), f_load(weight + i - from)));
        for (; i < end; i++) out[i] = out[i] * by * weight[i - from];
    }
}

INLINE v16f activated(int kind, v16f x) {
    switch (kind) {
        case SILU: return f_mul(x, f_sigmoid(x));
        case SIGMOID: return f_sigmoid(x);
        case RELU: return f_max(x, f_set(0.0f));
        default: { /* x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))), Hendrycks and Gimpel 2016, arXiv:1606.08415 */
            v16f cube = f_mul(f_mul(x, x), x);
            v16f inner = f_mul(f_set(0.7978845608f), f_fma(f_set(0.044715f), cube, x));
            return f_mul(f_mul(f_set(0.5f), x), f_add(f_set(1.0f), f_tanh(inner)));
        }
    }
}

static void activate(const Op *op, const float *x, const float *y, float *out) {
    int i = 0;
    if (op->kind == GELU_ERF) {
        for (; i < op->width; i++) {
            float v = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
            out[i] = y ? v * y[i] : v;
        }
        return;
    }
    for (; i + 16 <= op->width; i += 16) {
        v16f v = activated(op->kind, f_load(x + i));
        f_store(out + i, y ? f_mul(v, f_load(y + i)) : v);
    }
    if (i < op->width) {
        float rest[16] = {0};
        memcpy(rest, x + i, (size_t)(op->width - i) * sizeof(float));
        f_store(rest, activated(op->kind, f_load(rest)));
        for (int j = 0; i < op->width; i++, j++) out[i] = y ? rest[j] * y[i] : rest[j];
    }
}

/* As half floats, none of them infinite. */
INLINE void halves(const float *from, half *to, int size) {
    for (int i = 0; i < size; i += 16)
        f_to_half(to + i, f_max(f_set(-65504.0f), f_min(f_set(65504.0f), f_load(from + i))));
}

static void rotate(const float *restrict x, float *restrict out, int size, int turned, int interleaved,
                   const float *restrict cosine, const float *restrict sine, float scale) {
    int half_ = turned / 2;
    if (interleaved)
        for (int i = 0; i < half_; i++) {
            out[2 * i] = (x[2 * i] * cosine[i] - x[2 * i + 1] * sine[i]) * scale;
            out[2 * i + 1] = (x[2 * i + 1] * cosine[i] + x[2 * i] * sine[i]) * scale;
        }
    else
        for (int i = 0; i < half_; i++) {
            out[i] = (x[i] * cosine[i] - x[i + half_] * sine[i]) * scale;
            out[i + half_] = (x[i + half_] * cosine[i] + x[i] * sine[i]) * scale;
        }
    for (int i = turned; i < size; i++) out[i] = x[i] * scale;
}

/* Queries and keys are turned by their position; keys and values go into the cache. data: cosines, sines (or none). */
static void rotate_row(const Op *op, Run *r, int row) {
    const Shape *s = &op->shape;
    int position = r->start + row, turned = op->width, interleaved = op->extra;
    const float *cosine = (const float *)op->data[0], *sine = (const float *)op->data[1];
    if (cosine) cosine += (size_t)position * (turned / 2), sine += (size_t)position * (turned / 2);
    if (!cosine) turned = 0;
    const float *q = at(r, op->in[0], row), *k = at(r, op->in[1], row), *v = at(r, op->in[2], row);
    float *out = at(r, op->out[0], row), key[LONGEST_HEAD];
    half narrow[LONGEST_HEAD];
    for (int h = 0; h < s->heads; h++)
        rotate(q + (size_t)h * s->size, out + (size_t)h * s->size, s->size, turned, interleaved, cosine, sine, s->scale);
    for (int h = 0; h < s->heads / s->groups; h++) {
        rotate(k + (size_t)h * s->size, key, s->size, turned, interleaved, cosine, sine, 1.0f);
        halves(key, narrow, s->size);
        size_t first = ((size_t)h * r->capacity + position / CHUNK * CHUNK) * s->size + position % CHUNK;
        half *keys = r->keys[op->layer] + first;
        for (int i = 0; i < s->size; i++) keys[(size_t)i * CHUNK] = narrow[i];
        halves(v + (size_t)h * s->size, r->values[op->layer] + ((size_t)h * r->capacity + position) * s->size, s->size);
    }
}

static void row_of(const Op *op, Run *r, int row, int rows) {
    float *out = op->out[0].buffer < 0 ? NULL : at(r, op->out[0], row);
    const float *x = op->in[0].buffer < 0 ? NULL : at(r, op->in[0], row);
    const float *y = op->in[1].buffer < 0 ? NULL : at(r, op->in[1], row);
    const float *data = op->data[0];
    switch (op->kind) {
        case EMBED8: embed8(op, r->ids[row], out); break;
        case EMBED32: memcpy(out, data + r->ids[row] * op->width, (size_t)op->width * sizeof(float)); break;
        case NORM: norm(op, x, y, out, op->out[1].buffer < 0 ? NULL : at(r, op->out[1], row)); break;
        case QUANTISE: quantise(x, op->width, r->plan.acts, op->extra, row, rows); break;
        case ROTATE: rotate_row(op, r, row); break;
        case ADD: for (int i = 0; i < op->width; i++) out[i] = x[i] + y[i]; break;
        case ADD_ROW: for (int i = 0; i < op->width; i++) out[i] = x[i] + data[i]; break;
        case SCALE: for (int i = 0; i < op->width; i++) out[i] = x[i] * op->number; break;
        case TIMES: for (int i = 0; i < op->width; i++) out[i] = x[i] * y[i]; break;
        case LAST: memcpy(out, at(r, op->in[0], r->tokens - 1), (size_t)op->width * sizeof(float)); break;
        default: activate(op, x, y, out);
    }
}

/* -- attention ----------------------------------------------------------------------------------------------------- */

/* One thread's scratch: queries, scores, a partial result, results so far, and a chunk of keys and of values. */
static size_t scratch_floats(int size) { return (size_t)MOST_ROWS * (3 * size + CHUNK) + 2 * (size_t)CHUNK * size + 64; }

static int tokens_together(const Shape *s) {
    int tokens = MOST_ROWS / s->groups;
    return tokens < 1 ? 1 : tokens > 16 ? 16 : tokens;
}

/* Chunk by chunk, the partial results of one key-value head's queries for one token, kept for `merge`. */
static void attend_one(const Op *op, Run *r, int head, int chunk, float *own) {
    const Shape *s = &op->shape;
    int end = r->start + 1, first = s->window && end > s->window ? end - s->window : 0;
    const half *keys = r->keys[op->layer] + ((size_t)head * r->capacity + (size_t)chunk * CHUNK) * s->size;
    const half *values = r->values[op->layer] + ((size_t)head * r->capacity + (size_t)chunk * CHUNK) * s->size;
    const float *q = at(r, op->in[0], 0) + (size_t)head * s->groups * s->size;
    float *scores = own;
    int part = s->size + 2, from = first - chunk * CHUNK, to = end - chunk * CHUNK;
    float *out = r->parts + ((size_t)chunk * s->heads + (size_t)head * s->groups) * part;
    float *weighted = own + (size_t)MOST_ROWS * CHUNK;
    scores_half(q, keys, s->size, s->groups, scores);
    for (int g = 0; g < s->groups; g++) soften(scores + g * CHUNK, from, to, out + g * part, out + g * part + 1);
    weighted_half(scores, values, s->size, to < CHUNK ? to : CHUNK, s->groups, weighted);
    for (int g = 0; g < s->groups; g++)
        memcpy(out + g * part + 2, weighted + (size_t)g * s->size, (size_t)s->size * sizeof(float));
}

static void merge(const Op *op, Run *r) {
    const Shape *s = &op->shape;
    int end = r->start + 1, first = s->window && end > s->window ? end - s->window : 0, part = s->size + 2;
    float *out = at(r, op->out[0], 0);
    for (int h = 0; h < s->heads; h++, out += s->size) {
        float most = -INFINITY, sum = 0;
        for (int chunk = first / CHUNK; chunk * CHUNK < end; chunk++) {
            const float *p = r->parts + ((size_t)chunk * s->heads + h) * part;
            join(&most, &sum, out, p[0], p[1], p + 2, s->size);
        }
        for (int i = 0; i < s->size; i++) out[i] /= sum;
    }
}

/* A few tokens' queries of one key-value head over all they see. */
static void attend_many(const Op *op, Run *r, int head, int row, int tokens, float *own) {
    const Shape *s = &op->shape;
    int rows = tokens * s->groups, size = s->size;
    float *q = own, *weighted = q + (size_t)MOST_ROWS * size, *sofar = weighted + (size_t)MOST_ROWS * size;
    float *scores = sofar + (size_t)MOST_ROWS * size, *wide = scores + (size_t)MOST_ROWS * CHUNK;
    float most[MOST_ROWS], sum[MOST_ROWS];
    for (int t = 0; t < tokens; t++)
        memcpy(q + (size_t)t * s->groups * size, at(r, op->in[0], row + t) + (size_t)head * s->groups * size,
               (size_t)s->groups * size * sizeof(float));
    for (int i = 0; i < rows; i++) most[i] = -INFINITY, sum[i] = 0;
    int last = r->start + row + tokens, first = r->start + row + 1 - s->window;
    if (!s->window || first < 0) first = 0;
    for (int chunk = first / CHUNK; chunk * CHUNK < last; chunk++) {
        size_t place = ((size_t)head * r->capacity + (size_t)chunk * CHUNK) * size;
        int positions = last - chunk * CHUNK < CHUNK ? last - chunk * CHUNK : CHUNK;
        widen(r->keys[op->layer] + place, wide, (size_t)CHUNK * size);
        scores_float(q, wide, size, rows, scores);
        float most2[MOST_ROWS], sum2[MOST_ROWS];
        for (int i = 0; i < rows; i++) {
            int end = r->start + row + i / s->groups + 1, begin = s->window && end > s->window ? end - s->window : 0;
            soften(scores + (size_t)i * CHUNK, begin - chunk * CHUNK, end - chunk * CHUNK, most2 + i, sum2 + i);
        }
        widen(r->values[op->layer] + place, wide, (size_t)positions * size);
        weighted_float(scores, wide, size, positions, rows, weighted);
        for (int i = 0; i < rows; i++)
            join(most + i, sum + i, sofar + (size_t)i * size, most2[i], sum2[i], weighted + (size_t)i * size, size);
    }
    for (int i = 0; i < rows; i++) {
        float *out = at(r, op->out[0], row + i / s->groups) + (size_t)(head * s->groups + i % s->groups) * size;
        for (int j = 0; j < size; j++) out[j] = sofar[(size_t)i * size + j] / sum[i];
    }
}

static int take(Run *r, int step, int count) { return atomic_fetch_add_explicit(&r->taken[step], count, memory_order_relaxed); }

static void attend(const Op *op, Run *r, int step, float *own) {
    const Shape *s = &op->shape;
    int heads = s->heads / s->groups;
    if (r->tokens == 1) {
        int end = r->start + 1, first = (s->window && end > s->window ? end - s->window : 0) / CHUNK;
        int chunks = (end + CHUNK - 1) / CHUNK - first, all = heads * chunks;
        for (int i = take(r, step, 1); i < all; i = take(r, step, 1)) attend_one(op, r, i / chunks, first + i % chunks, own);
        return;
    }
    int together_ = tokens_together(s), tiles = (r->tokens + together_ - 1) / together_, all = heads * tiles;
    for (int i = take(r, step, 1); i < all; i = take(r, step, 1)) {
        int row = (tiles - 1 - i / heads) * together_; /* the longest first */
        int tokens = r->tokens - row < together_ ? r->tokens - row : together_;
        attend_many(op, r, i % heads, row, tokens, own);
    }
}

#ifdef PROFILE /* nanoseconds by kind of step, of the calling thread: at work, and waiting for the others */
long pg_work[32], pg_wait[32];
#define PROFILE_BEGIN long began_ = now_ns(), worked_;
#define PROFILE_WORK worked_ = now_ns(); if (!thread) pg_work[op->kind] += worked_ - began_;
#define PROFILE_WAIT if (!thread) pg_wait[op->kind] += now_ns() - worked_;
#else
#define PROFILE_BEGIN
#define PROFILE_WORK
#define PROFILE_WAIT
#endif

/* -- the list ------------------------------------------------------------------------------------------------------ */

/* With one row a product is as fast as memory is read, and a long stream is read fastest: three quarters are shared out
 * beforehand, one stretch for each thread, and only the rest goes to whoever is free. */
INLINE int fixed_share(int panels, int threads) { return panels * 3 / 4 / threads; }

static void multiply(const Op *op, Run *r, int step, int rows, int thread) {
    int panels = op->matrix.outputs / PANEL, threads = r->working, first = 0, each = panels / (16 * threads);
    float *out = at(r, op->out[0], 0);
    size_t stride = (size_t)op->out[0].stride;
    if (rows == 1) {
        int share = fixed_share(panels, threads);
        product(&op->matrix, r->plan.acts, rows, thread * share, (thread + 1) * share, out, stride);
        first = threads * share;
    }
    if (each < 1) each = 1;
    for (int p = first + take(r, step, each); p < panels; p = first + take(r, step, each))
        product(&op->matrix, r->plan.acts, rows, p, p + each < panels ? p + each : panels, out, stride);
}

/* What a thread may ask for while it waits: the beginning of its share of the next product. */
static Ahead wanted(const Run *r, int step, int thread) {
    if (r->tokens > 1 || r->next[step] < 0) return (Ahead){NULL, NULL};
    const Matrix *m = &r->plan.list[r->next[step]].matrix;
    size_t panel = (size_t)m->blocks * (m->bits == 8 ? PANEL8 : PANEL4);
    size_t share = panel * fixed_share(m->outputs / PANEL, r->working);
    const uint8_t *from = m->panels + thread * share;
    return (Ahead){from, from + (share < LOOKAHEAD ? share : LOOKAHEAD)};
}

static int by_rows(int kind) { return kind != PRODUCT && kind != ATTEND; }

static void steps(void *with, int thread) {
    Run *r = with;
    const Plan *plan = &r->plan;
    int share = (r->tokens + r->working - 1) / r->working;
    share = (share + ROWS - 1) / ROWS * ROWS;
    for (int i = 0; i < plan->ops; i++) {
        const Op *op = plan->list + i;
        PROFILE_BEGIN
        int rows = op->one ? 1 : r->tokens;
        if (op->kind == PRODUCT) {
            multiply(op, r, i, rows, thread);
        } else if (op->kind == ATTEND) {
            attend(op, r, i, r->own[thread]);
        } else if (op->kind == MERGE) {
            if (r->tokens == 1 && thread == 0) merge(op, r);
        } else {
            int from = rows == 1 ? 0 : thread * share, to = rows == 1 ? (thread == 0) : from + share;
            for (int row = from; row < to && row < rows; row++) row_of(op, r, row, rows);
        }
        /* Steps that go row by row need not wait for each other, as long as a row stays with its thread. */
        PROFILE_WORK
        int next_same = i + 1 < plan->ops && by_rows(op[0].kind) && by_rows(op[1].kind) && op[0].one == op[1].one;
        if (!next_same && i + 1 < plan->ops && r->working > 1) barrier(r->pool, wanted(r, i, thread));
        PROFILE_WAIT
    }
}

/* -- what the caller sees ------------------------------------------------------------------------------------------ */

const char *pg_isa(void) { return ISA; }
int pg_tile(void) { return ROWS; }
int pg_op_size(void) { return (int)sizeof(Op); }

void pg_close(Run *r) {
    if (!r) return;
    pool_close(r->pool);
    if (r->own)
        for (int i = 0; i < r->plan.threads; i++) free(r->own[i]);
    free(r->own), free(r->taken), free(r->next), free(r->parts), free(r);
}

/* The first step that would reach beyond its buffers, or -1. `most_size`: the largest head there is scratch for. */
int pg_unsound(const Plan *plan, int most_size) {
    int64_t rounded = 0;
    for (int i = 0; i < plan->ops; i++)
        if (!sound(plan, plan->list + i, &rounded, most_size)) return i;
    return -1;
}

/* Ready to run; NULL where memory or threads can't be had. */
Run *pg_open(const Plan *plan, int most_size, int awake) {
    Run *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->plan = *plan;
    r->forced = -1;
    r->taken = calloc((size_t)plan->ops, sizeof(atomic_int));
    r->own = calloc((size_t)plan->threads, sizeof(float *));
    r->next = calloc((size_t)plan->ops, sizeof(int));
    if (!r->taken || !r->own || !r->next) return pg_close(r), NULL;
    for (int i = plan->ops - 1, next = -1; i >= 0; i--) {
        r->next[i] = next;
        if (plan->list[i].kind == PRODUCT) next = i;
    }
    for (int i = 0; i < plan->threads; i++)
        if (!(r->own[i] = aligned_alloc(64, (scratch_floats(most_size) * 4 + 63) / 64 * 64))) return pg_close(r), NULL;
    if (!(r->pool = pool_open(plan->threads, awake))) return pg_close(r), NULL;
    return r;
}

/* The cache: for each layer keys and values with room for `capacity` positions (a multiple of 64). */
int pg_cache(Run *r, half **keys, half **values, int capacity, int heads, int size) {
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

/* Reads `tokens` ids behind `start` others. */
void pg_run(Run *r, const int64_t *ids, int tokens, int start) {
    r->ids = ids, r->tokens = tokens, r->start = start;
    for (int i = 0; i < r->plan.ops; i++) atomic_store_explicit(&r->taken[i], 0, memory_order_relaxed);
    int size = 0, threads = r->working = r->plan.threads;
    if (threads == 1) return steps(r, 0);
    while (size < PACES - 1 && 1 << size < tokens) size++;
    Pace *pace = &r->pace[size];
    int way = r->forced >= 0 ? r->forced : pace_way(pace);
    if (way == ALONE) r->working = 1;
    atomic_store_explicit(&r->pool->waited, 0, memory_order_relaxed);
    long began = now_ns();
    if (way == ALONE) steps(r, 0);
    else together(r->pool, steps, r);
    double waited = (double)atomic_load_explicit(&r->pool->waited, memory_order_relaxed) / (threads - 1);
    if (r->forced < 0) pace_took(pace, (double)(now_ns() - began), waited);
}

/* Every step from here on by the caller alone (1), by all threads together (0), or by what was lately faster (-1). */
void pg_way(Run *r, int way) { r->forced = way; }

/* One product alone, for tests and measurements: rows of `x` [rows][width] to `out` [rows][outputs]. */
void pg_product(const Matrix *m, Acts acts, const float *x, int width, int rows, float *out) {
    for (int row = 0; row < rows; row++) quantise(x + (size_t)row * width, width, acts, m->blocks, row, rows);
    product(m, acts, rows, 0, m->outputs / PANEL, out, (size_t)m->outputs);
}
