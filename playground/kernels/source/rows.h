/* Steps that go row by row: a row's results depend on no other row, but for what earlier ones left in the cache. */
#ifndef PLAYGROUND_ROWS_H
#define PLAYGROUND_ROWS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "run.h"

static void get_rows_q8(const Op *op, int64_t id, float *out) {
    const uint8_t *values = (const uint8_t *)op->data[0] + id * op->width, *zeros = op->data[2];
    const float *scales = (const float *)op->data[1] + id * (op->width / BLOCK);
    for (int b = 0; b < op->width / BLOCK; b++) {
        int zero = zeros ? zeros[id * (op->width / BLOCK) + b] : 128;
        for (int i = 0; i < BLOCK; i++) out[b * BLOCK + i] = scales[b] * (float)(values[b * BLOCK + i] - zero);
    }
}

/* 0 where the squares have no sum: what is divided by it would be zeros. */
static int rms_norm(const Op *op, const float *x, const float *skip, float *out, float *sum) {
    const float *weight = op->data[0];
    int good = 1;
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
        float all = f_hsum(squares) + tail, by = 1.0f / sqrtf(all / (float)op->extra + op->number);
        good &= all < INFINITY;
        for (i = from; i + 16 <= end; i += 16)
            f_store(out + i, f_mul(f_mul(f_load(out + i), f_set(by)), f_load(weight + i - from)));
        for (; i < end; i++) out[i] = out[i] * by * weight[i - from];
    }
    return good;
}

/* (x - mean) / deviation · weight + bias, of all of a row. 0 where the squares have no sum. */
static int layer_norm(const Op *op, const float *x, const float *skip, float *out, float *sum) {
    const float *weight = op->data[0], *bias = op->data[1];
    v16f all = f_set(0.0f), squares = f_set(0.0f);
    float rest = 0, tail = 0;
    int i = 0, end = op->width;
    for (; i + 16 <= end; i += 16) {
        v16f v = f_load(x + i);
        if (skip) v = f_add(v, f_load(skip + i));
        if (sum) f_store(sum + i, v);
        f_store(out + i, v);
        all = f_add(all, v);
    }
    for (; i < end; i++) {
        float v = skip ? x[i] + skip[i] : x[i];
        if (sum) sum[i] = v;
        out[i] = v;
        rest += v;
    }
    float mean = (f_hsum(all) + rest) / (float)end;
    for (i = 0; i + 16 <= end; i += 16) {
        v16f v = f_sub(f_load(out + i), f_set(mean));
        f_store(out + i, v);
        squares = f_fma(v, v, squares);
    }
    for (; i < end; i++) {
        out[i] -= mean;
        tail += out[i] * out[i];
    }
    float both = f_hsum(squares) + tail, by = 1.0f / sqrtf(both / (float)end + op->number);
    for (i = 0; i + 16 <= end; i += 16) {
        v16f v = f_mul(f_mul(f_load(out + i), f_set(by)), f_load(weight + i));
        f_store(out + i, bias ? f_add(v, f_load(bias + i)) : v);
    }
    for (; i < end; i++) {
        float v = out[i] * by * weight[i];
        out[i] = bias ? v + bias[i] : v;
    }
    return both < INFINITY;
}

INLINE v16f activated(int kind, v16f x) {
    switch (kind) {
        case SILU: return f_mul(x, f_sigmoid(x));
        case SIGMOID: return f_sigmoid(x);
        case SOFTPLUS: return f_softplus(x);
        case RELU: return f_max(x, f_set(0.0f));
        default: { /* x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))), Hendrycks and Gimpel 2016, arXiv:1606.08415 */
            v16f cube = f_mul(f_mul(x, x), x);
            v16f inner = f_mul(f_set(0.7978845608f), f_fma(f_set(0.044715f), cube, x));
            return f_mul(f_mul(f_set(0.5f), x), f_add(f_set(1.0f), f_tanh(inner)));
        }
    }
}

/* What goes beyond the limit is the limit: OLMo's queries, keys and values. */
static void clamp(const Op *op, const float *x, float *out) {
    float limit = op->number;
    for (int i = 0; i < op->width; i++) out[i] = x[i] < -limit ? -limit : x[i] > limit ? limit : x[i];
}

/* limit · tanh(x / limit): Gemma 2's logits. */
static void softcap(const Op *op, const float *x, float *out) {
    int i = 0;
    for (; i + 16 <= op->width; i += 16) f_store(out + i, f_softcap(f_load(x + i), op->number));
    if (i < op->width) {
        float last[16] = {0};
        memcpy(last, x + i, (size_t)(op->width - i) * sizeof(float));
        f_store(last, f_softcap(f_load(last), op->number));
        memcpy(out + i, last, (size_t)(op->width - i) * sizeof(float));
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
        float last[16] = {0};
        memcpy(last, x + i, (size_t)(op->width - i) * sizeof(float));
        f_store(last, activated(op->kind, f_load(last)));
        for (int j = 0; i < op->width; i++, j++) out[i] = y ? last[j] * y[i] : last[j];
    }
}

/* As half floats, none of them infinite. How many numbers were too large for one; -1 where one is infinite or none. */
INLINE int halves(const float *from, half *to, int size) {
    v16f off = f_set(0.0f);
    for (int i = 0; i < size; i += 16) {
        v16f x = f_load(from + i), bounded = f_max(f_set(-65504.0f), f_min(f_set(65504.0f), x));
        f_to_half(to + i, bounded);
        off = f_add(off, f_abs(f_sub(x, bounded)));
    }
    if (f_hsum(off) == 0.0f) return 0;
    int clamped = 0;
    for (int i = 0; i < size; i++) {
        if (!(fabsf(from[i]) < INFINITY)) return -1;
        clamped += fabsf(from[i]) > 65504.0f;
    }
    return clamped;
}

/* As bytes, [size], and a scale for each block of 32, [blocks]. -1 where a number is infinite or none, else 0. */
INLINE int bytes_and_scales(const float *from, int8_t *to, float *scales, int size) {
    v16f odd = f_set(0.0f), zero = odd;
    for (int b = 0; b < cache_blocks(size); b++) {
        int both = b * BLOCK + 16 < size;
        v16f low = f_load(from + b * BLOCK), high = both ? f_load(from + b * BLOCK + 16) : zero;
        odd = f_add(odd, f_add(f_sub(low, low), f_sub(high, high)));
        float max = f_hmax(f_max(f_abs(low), f_abs(high)));
        float inverse = max > 1e-30f ? 127.0f / max : 0.0f;
        scales[b] = max > 1e-30f ? max / 127.0f : 0.0f;
        i_to_bytes(to + b * BLOCK, i_of(f_mul(low, f_set(inverse))));
        if (both) i_to_bytes(to + b * BLOCK + 16, i_of(f_mul(high, f_set(inverse))));
    }
    return f_hsum(odd) == 0.0f ? 0 : -1;
}

/* A position of one head goes into the cache. How many numbers were too large for it; -1 where one is infinite or none. */
static int keep_key(const float *key, void *chunk, int bits, int size, int place) {
    if (bits == 8) {
        int8_t narrow[MAX_HEAD], *to = chunk;
        float scales[MAX_HEAD / BLOCK], *their = (float *)(to + (size_t)size * CHUNK);
        int found = bytes_and_scales(key, narrow, scales, size);
        for (int i = 0; i < size; i++) to[(size_t)i * CHUNK + place] = narrow[i];
        for (int b = 0; b < cache_blocks(size); b++) their[(size_t)b * CHUNK + place] = scales[b];
        return found;
    }
    half narrow[MAX_HEAD], *to = chunk;
    int found = halves(key, narrow, size);
    for (int i = 0; i < size; i++) to[(size_t)i * CHUNK + place] = narrow[i];
    return found;
}

static int keep_value(const float *value, void *to, int bits, int size) {
    if (bits == 8) return bytes_and_scales(value, to, (float *)((int8_t *)to + size), size);
    return halves(value, to, size);
}

static void kept(const Op *op, Run *r, int clamped) {
    if (clamped < 0) is_broken(r, op);
    else if (clamped > 0) atomic_fetch_add_explicit(&r->clamped, clamped, memory_order_relaxed);
}

static void rope(const float *restrict x, float *restrict out, int size, int turned, int interleaved,
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
static void rope_row(const Op *op, Run *r, int row) {
    const Shape *s = &op->shape;
    int position = r->start + row, turned = op->width, interleaved = op->extra;
    const float *cosine = (const float *)op->data[0], *sine = (const float *)op->data[1];
    if (cosine) cosine += (size_t)position * (turned / 2), sine += (size_t)position * (turned / 2);
    if (!cosine) turned = 0;
    const float *q = at(r, op->src[0], row), *k = at(r, op->src[1], row), *v = at(r, op->src[2], row);
    float *out = at(r, op->dst[0], row), key[MAX_HEAD];
    size_t each = cache_bytes(r->bits, s->size);
    for (int h = 0; h < s->heads; h++)
        rope(q + (size_t)h * s->size, out + (size_t)h * s->size, s->size, turned, interleaved, cosine, sine, s->scale);
    if (!all_finite(out, (size_t)s->heads * s->size)) is_broken(r, op);
    for (int h = 0; h < s->heads / s->groups; h++) {
        rope(k + (size_t)h * s->size, key, s->size, turned, interleaved, cosine, sine, 1.0f);
        size_t first = (size_t)h * r->capacity * each;
        uint8_t *chunk = r->keys[op->layer] + first + (size_t)(position / CHUNK * CHUNK) * each;
        kept(op, r, keep_key(key, chunk, r->bits, s->size, position % CHUNK));
        uint8_t *values = r->values[op->layer] + first + (size_t)position * each;
        kept(op, r, keep_value(v + (size_t)h * s->size, values, r->bits, s->size));
    }
}

static void rotate_row(const Op *op, Run *r, int row) {
    int size = op->extra;
    size_t place = (size_t)(r->start + row) * (size_t)(size / 2);
    const float *x = at(r, op->src[0], row), *cosine = (const float *)op->data[0] + place;
    float *out = at(r, op->dst[0], row);
    for (int from = 0; from < op->width; from += size)
        rope(x + from, out + from, size, size, 0, cosine, (const float *)op->data[1] + place, 1.0f);
}

/* -- short convolutions -------------------------------------------------------------------------------------------- */

/* What goes into a convolution stays at its position, so that a text can be gone back in as with keys and values. */
INLINE float *conv_input(const Op *op, const Run *r, int position) {
    assert(r->inputs && position >= 0 && position < r->capacity);
    return r->inputs[op->layer] + (size_t)position * op->width;
}

static void keep_input(const Op *op, Run *r, int row) {
    const float *given = at(r, op->src[0], row);
    if (!all_finite(given, (size_t)op->width)) is_broken(r, op);
    memcpy(conv_input(op, r, r->start + row), given, (size_t)op->width * sizeof(float));
}

/* Reads its own row and earlier ones where `keep_input` left them; before a text there is nothing. */
static void causal_conv(const Op *op, const Run *r, int row, float *out) {
    int position = r->start + row, seen = position < op->extra ? position + 1 : op->extra, i = 0;
    const float *from = conv_input(op, r, position + 1 - seen), *bias = op->data[1];
    const float *weights = (const float *)op->data[0] + (size_t)(op->extra - seen) * op->width;
    for (; i + 16 <= op->width; i += 16) {
        v16f sum = bias ? f_load(bias + i) : f_set(0.0f);
        for (int tap = 0; tap < seen; tap++) {
            size_t place = (size_t)tap * op->width + i;
            sum = f_fma(f_load(from + place), f_load(weights + place), sum);
        }
        f_store(out + i, sum);
    }
    for (; i < op->width; i++) {
        float sum = bias ? bias[i] : 0.0f;
        for (int tap = 0; tap < seen; tap++) {
            size_t place = (size_t)tap * op->width + i;
            sum += from[place] * weights[place];
        }
        out[i] = sum;
    }
}

/* -- recurrences --------------------------------------------------------------------------------------------------- */

static void mul_heads(const Op *op, const float *x, const float *by, float *out) {
    for (int from = 0; from < op->width; from += op->extra, by++)
        for (int i = from; i < from + op->extra; i++) out[i] = x[i] * by[0];
}

/* What one token does to some of a state's columns, sixteen by sixteen: they don't look at each other. `from` may be `to`,
 * or NULL: zeros. `beta`: or NULL. */
INLINE void update_columns(int count, const float *from, float *to, int size, const float *q, const float *k,
                           const float *decays, const float *v, const float *beta, float scale, float *out) {
    v16f value[2], sum[2], zero = f_set(0.0f);
    for (int t = 0; t < count; t++) value[t] = f_load(v + 16 * t), sum[t] = zero;
    if (beta) {
        for (int n = 0; n < size; n++)
            for (int t = 0; t < count; t++) {
                size_t place = ((size_t)t * size + n) * 16;
                v16f decayed = f_mul(from ? f_load(from + place) : zero, f_set(decays[n]));
                sum[t] = f_fma(decayed, f_set(k[n]), sum[t]);
            }
        for (int t = 0; t < count; t++) value[t] = f_mul(f_sub(value[t], sum[t]), f_set(*beta)), sum[t] = zero;
    }
    for (int n = 0; n < size; n++) {
        v16f decay = f_set(decays[n]), key = f_set(k[n]), query = f_set(q[n]);
        for (int t = 0; t < count; t++) {
            size_t place = ((size_t)t * size + n) * 16;
            v16f s = f_fma(key, value[t], f_mul(from ? f_load(from + place) : zero, decay));
            f_store(to + place, s);
            sum[t] = f_fma(s, query, sum[t]);
        }
    }
    for (int t = 0; t < count; t++) f_store(out + 16 * t, f_mul(sum[t], f_set(scale)));
}

/* What one head is given for one token. */
typedef struct {
    const float *q, *k, *v, *g, *beta;
    int size, width, decays;
} Head;

INLINE Head head_of(const Op *op, const Run *r, int row, int head) {
    const Shape *s = &op->shape;
    Head h = {.size = op->extra, .width = s->size, .decays = s->window ? op->extra : 1};
    h.q = at(r, op->src[0], row) + (size_t)(head / s->groups) * h.size;
    h.k = at(r, op->src[1], row) + (size_t)(head / s->groups) * h.size;
    h.v = at(r, op->src[2], row) + (size_t)head * h.width;
    const float *beside = at(r, op->src[2], row) + op->width;
    h.g = beside + (size_t)head * h.decays;
    if (op->number != 0) h.beta = beside + (size_t)s->heads * h.decays + head;
    return h;
}

static int is_finite_head(const Op *op, const Run *r, int row, int head) {
    Head h = head_of(op, r, row, head);
    return all_finite(h.q, (size_t)h.size) && all_finite(h.k, (size_t)h.size) && all_finite(h.v, (size_t)h.width) &&
           all_finite(h.g, (size_t)h.decays) && (!h.beta || all_finite(h.beta, 1));
}

/* A head's state: [size / 16][key size][16]. */
INLINE float *state_of(const Op *op, const Run *r, int head) {
    assert(r->states && head >= 0 && head < op->shape.heads);
    return r->states[op->layer] + (size_t)head * op->extra * op->shape.size;
}

/* One token for one head: what comes out, and the state behind it from the one before (`from`, which may be `to`). */
static void linear_attn_head(const Op *op, const Run *r, int row, int head, const float *from, float *to, float *out) {
    Head h = head_of(op, r, row, head);
    float decays[MAX_HEAD], scale = op->shape.scale;
    int i = 0;
    for (; i < h.size; i += 16) f_store(decays + i, f_exp(h.decays > 1 ? f_load(h.g + i) : f_set(*h.g)));
    for (i = 0; i < h.width; i += 32) {
        size_t place = (size_t)i * h.size;
        const float *before = from ? from + place : NULL;
        if (i + 32 <= h.width)
            update_columns(2, before, to + place, h.size, h.q, h.k, decays, h.v + i, h.beta, scale, out + i);
        else update_columns(1, before, to + place, h.size, h.q, h.k, decays, h.v + i, h.beta, scale, out + i);
    }
}

/* -- mixtures of experts ------------------------------------------------------------------------------------------- */

/* A place that a step computed, below `count`: another thread may be reading what is of no use any more. */
INLINE int place_below(float computed, int count) {
    return computed >= 0.0f && computed < (float)count ? (int)computed : 0;
}

/* Few outputs: which experts a token goes to changes in jumps, so that nothing of it is rounded. */
static void mul_mat_f32(const Op *op, const float *x, float *out) {
    const float *weights = op->data[0];
    int i = 0;
    for (; i + 16 <= op->width; i += 16) {
        v16f sum = f_set(0.0f);
        for (int k = 0; k < op->extra; k++)
            sum = f_fma(f_set(x[k]), f_load(weights + (size_t)k * op->width + i), sum);
        f_store(out + i, sum);
    }
    for (; i < op->width; i++) {
        float sum = 0;
        for (int k = 0; k < op->extra; k++) sum += x[k] * weights[(size_t)k * op->width + i];
        out[i] = sum;
    }
}

static void soft_max(const Op *op, const float *x, float *out) {
    float max = x[0], last[16];
    for (int i = 1; i < op->width; i++) max = x[i] > max ? x[i] : max;
    v16f all = f_set(0.0f);
    int i = 0;
    for (; i + 16 <= op->width; i += 16) {
        v16f v = f_exp(f_sub(f_load(x + i), f_set(max)));
        f_store(out + i, v);
        all = f_add(all, v);
    }
    if (i < op->width) {
        for (int j = 0; j < 16; j++) last[j] = i + j < op->width ? x[i + j] : -INFINITY;
        v16f v = f_exp(f_sub(f_load(last), f_set(max)));
        f_store(last, v);
        memcpy(out + i, last, (size_t)(op->width - i) * sizeof(float));
        all = f_add(all, v);
    }
    float sum = f_hsum(all);
    for (i = 0; i < op->width; i++) out[i] /= sum;
}

/* Of equal numbers the first. */
static void top_k(const Op *op, const float *x, float *out, float *places) {
    for (int k = 0; k < op->extra; k++) {
        int best = -1;
        for (int i = 0; i < op->width; i++) {
            int free_ = !k || x[i] < out[k - 1] || (x[i] == out[k - 1] && (float)i > places[k - 1]);
            if (free_ && (best < 0 || x[i] > x[best])) best = i;
        }
        out[k] = x[best < 0 ? 0 : best], places[k] = (float)(best < 0 ? 0 : best);
    }
}

static void swiglu(const Op *op, const float *x, float *out) {
    const float *told = op->data[0], alpha = told[0], beta = told[1], limit = told[2];
    for (int i = 0; i < op->width; i += 16) {
        float gates[16] = {0}, others[16] = {0}, made[16];
        int count = op->width - i < 16 ? op->width - i : 16;
        for (int j = 0; j < count; j++) gates[j] = x[2 * (i + j)], others[j] = x[2 * (i + j) + 1];
        v16f gate = f_min(f_load(gates), f_set(limit));
        v16f other = f_max(f_min(f_load(others), f_set(limit)), f_set(-limit));
        v16f by = f_mul(gate, f_sigmoid(f_mul(gate, f_set(alpha))));
        f_store(made, f_mul(by, f_add(other, f_set(beta))));
        memcpy(out + i, made, (size_t)count * sizeof(float));
    }
}

static void add_id(const Op *op, const float *x, const float *chosen, float *out) {
    const float *table = op->data[0];
    for (int part = 0; part < op->extra; part++) {
        const float *row = table + (size_t)place_below(chosen[part], op->layer) * op->width;
        for (int i = 0; i < op->width; i++) out[(size_t)part * op->width + i] = x[(size_t)part * op->width + i] + row[i];
    }
}

static void sum_id(const Op *op, const float *x, const float *weights, float *out) {
    for (int i = 0; i < op->width; i++) {
        float sum = 0;
        for (int part = 0; part < op->extra; part++) sum += x[(size_t)part * op->width + i] * weights[part];
        out[i] = sum;
    }
}

static Acts acts_from(Acts acts, size_t block) {
    return (Acts){acts.bytes + block * BLOCK, acts.scales + block, acts.sums + block, acts.bias + block};
}

/* One row's activations, for the expert at `part` of those that were chosen for it. */
INLINE Acts acts_of(const Op *op, const Run *r, int row, int part) {
    size_t blocks = (size_t)op->matrix.blocks, own = op->layer > 1 ? (size_t)part : 0;
    return acts_from(r->plan.acts, ((size_t)row * (size_t)op->layer + own) * blocks);
}

static void row_of(const Op *op, Run *r, int row, int rows) {
    float *out = op->dst[0].buffer < 0 ? NULL : at(r, op->dst[0], row);
    const float *x = op->src[0].buffer < 0 ? NULL : at(r, op->src[0], row);
    const float *y = op->src[1].buffer < 0 ? NULL : at(r, op->src[1], row);
    const float *data = op->data[0];
    switch (op->kind) {
        case GET_ROWS_Q8: get_rows_q8(op, r->ids[row], out); break;
        case GET_ROWS_F32: memcpy(out, data + r->ids[row] * op->width, (size_t)op->width * sizeof(float)); break;
        case GET_ROWS_POS:
            memcpy(out, data + (int64_t)(r->start + row) * op->width, (size_t)op->width * sizeof(float));
            break;
        case RMS_NORM:
            if (!rms_norm(op, x, y, out, op->dst[1].buffer < 0 ? NULL : at(r, op->dst[1], row))) is_broken(r, op);
            break;
        case LAYER_NORM:
            if (!layer_norm(op, x, y, out, op->dst[1].buffer < 0 ? NULL : at(r, op->dst[1], row))) is_broken(r, op);
            break;
        case ROTATE: rotate_row(op, r, row); break;
        case QUANTISE:
            if (!quantise(x, op->width, r->plan.acts, op->extra, row, rows)) is_broken(r, op);
            break;
        case QUANTISE_ROWS: {
            Acts own = acts_from(r->plan.acts, (size_t)row * op->extra);
            if (!quantise(x, op->width, own, op->extra, 0, 1)) is_broken(r, op);
            break;
        }
        case MUL_MAT_F32: mul_mat_f32(op, x, out); break;
        case GET_COLS: for (int i = 0; i < op->width; i++) out[i] = x[place_below(y[i], op->extra)]; break;
        case SUM_ROWS:
            out[0] = 0;
            for (int i = 0; i < op->width; i++) out[0] += x[i];
            break;
        case MUL_COL: for (int i = 0; i < op->width; i++) out[i] = x[i] * y[0]; break;
        case DIV_COL: for (int i = 0; i < op->width; i++) out[i] = x[i] / y[0]; break;
        case ADD_ID: add_id(op, x, y, out); break;
        case SUM_ID: sum_id(op, x, y, out); break;
        case SWIGLU: /* as below */
            if (!all_finite(x, 2 * (size_t)op->width)) is_broken(r, op);
            swiglu(op, x, out);
            break;
        case ROPE: rope_row(op, r, row); break;
        case CAUSAL_CONV: causal_conv(op, r, row, out); break; /* behind `keep_input` */
        case MUL_HEADS: mul_heads(op, x, y, out); break;
        case CONCAT: {
            int both = op->extra + op->layer;
            memcpy(out, x, (size_t)op->extra * sizeof(float)), memcpy(out + op->extra, y, (size_t)op->layer * sizeof(float));
            if (both < op->width) memcpy(out + both, at(r, op->src[2], row), (size_t)(op->width - both) * sizeof(float));
            break;
        }
        case ADD: for (int i = 0; i < op->width; i++) out[i] = x[i] + y[i]; break;
        case ADD_ROW: for (int i = 0; i < op->width; i++) out[i] = x[i] + data[i]; break;
        case MUL_ROW: for (int i = 0; i < op->width; i++) out[i] = x[i] * data[i]; break;
        case SCALE: for (int i = 0; i < op->width; i++) out[i] = x[i] * op->number; break;
        case MUL: for (int i = 0; i < op->width; i++) out[i] = x[i] * y[i]; break;
        case GET_ROWS_LAST: memcpy(out, at(r, op->src[0], r->tokens - 1), (size_t)op->width * sizeof(float)); break;
        case SOFT_MAX:
        case TOP_K:
        case SOFTCAP:
        case CLAMP:
        case RELU:
        case SOFTPLUS:
        case SIGMOID: /* what they make of no number is one */
            if (!all_finite(x, (size_t)op->width)) is_broken(r, op);
            if (op->kind == SOFT_MAX) soft_max(op, x, out);
            else if (op->kind == TOP_K) top_k(op, x, out, at(r, op->dst[1], row));
            else if (op->kind == SOFTCAP) softcap(op, x, out);
            else if (op->kind == CLAMP) clamp(op, x, out);
            else activate(op, x, y, out);
            break;
        default: activate(op, x, y, out);
    }
}

#endif
