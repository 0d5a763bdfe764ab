/* Attention of groups of heads over a cache in half floats, or in bytes.
 *
 * The cache of one key-value head: keys in chunks of 64 positions, each [size][64], so that sixteen positions are one
 * vector; values [positions][size]. Both are rounded to half floats, as in llama.cpp; or to eight bits, with a scale for
 * each block of 32 numbers of a position (as in its Q8_0, the scales in fp32): then a chunk of keys is [size][64] bytes
 * and [blocks][64] scales, a position's values are its bytes and its scales.
 *
 * Each chunk gives a partial result (its largest score, the sum of the weights, the weighted values), and those are put
 * together in order (Milakov and Gimelshein 2018, arXiv:1805.02867). Chunks start at fixed positions, so that a token
 * gives the same bits alone and in company.
 */
#ifndef PLAYGROUND_ATTENTION_H
#define PLAYGROUND_ATTENTION_H

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <string.h>
#include "products.h"

#define CHUNK 64
#define MAX_QUERIES 48 /* queries worked on together */

typedef struct {
    int heads, groups, size; /* query heads, query heads of one key-value head, numbers in a head */
    int window;              /* how many positions are seen, 0: all */
    float scale;
} Shape;

INLINE int cache_blocks(int size) { return (size + BLOCK - 1) / BLOCK; }

/* Bytes of one position of one head's keys, or of its values. */
INLINE size_t cache_bytes(int bits, int size) {
    return bits == 8 ? (size_t)size + sizeof(float) * (size_t)cache_blocks(size) : sizeof(half) * (size_t)size;
}

/* Sixteen positions' keys in dimension `d`, from vector `v` of the chunk on; sixteen dimensions of position `p`. */
INLINE v16f key_float(const float *keys, int size, int d, int v) { return (void)size, f_load(keys + (size_t)d * CHUNK + v * 16); }
INLINE v16f key_half(const half *keys, int size, int d, int v) { return (void)size, f_half(keys + (size_t)d * CHUNK + v * 16); }
INLINE v16f key_byte(const int8_t *keys, int size, int d, int v) {
    const float *scales = (const float *)(keys + (size_t)size * CHUNK) + (size_t)(d / BLOCK) * CHUNK;
    return f_mul(f_byte(keys + (size_t)d * CHUNK + v * 16), f_load(scales + v * 16));
}
INLINE v16f value_float(const float *values, int size, int p, int v) { return f_load(values + (size_t)p * size + v * 16); }
INLINE v16f value_half(const half *values, int size, int p, int v) { return f_half(values + (size_t)p * size + v * 16); }
INLINE v16f value_byte(const int8_t *values, int size, int p, int v) {
    const int8_t *row = values + (size_t)p * cache_bytes(8, size);
    return f_mul(f_byte(row + v * 16), f_set(((const float *)(row + size))[v / (BLOCK / 16)]));
}

/* Keys of `chunk` times queries: scores [rows][64]. What is no float is widened on the way. */
#define SCORES(NAME, TYPE, KEY) \
TILED void NAME##_tile(const float *q, const TYPE *keys, int size, const int rows, int from, const int vecs, float *scores) { \
    v16f sum[ATT_ROWS][ATT_VECS]; \
    for (int r = 0; r < rows; r++) \
        for (int v = 0; v < vecs; v++) sum[r][v] = f_set(0.0f); \
    for (int d = 0; d < size; d++) { \
        v16f k[ATT_VECS]; \
        for (int v = 0; v < vecs; v++) k[v] = KEY(keys, size, d, from + v); \
        for (int r = 0; r < rows; r++) { \
            v16f a = f_set(q[(size_t)r * size + d]); \
            for (int v = 0; v < vecs; v++) sum[r][v] = f_fma(a, k[v], sum[r][v]); \
        } \
    } \
    for (int r = 0; r < rows; r++) \
        for (int v = 0; v < vecs; v++) f_store(scores + (size_t)r * CHUNK + v * 16, sum[r][v]); \
} \
static void NAME(const float *q, const TYPE *keys, int size, int rows, float *scores) { \
    for (int r = 0; r < rows; r += ATT_ROWS) \
        for (int v = 0; v < CHUNK / 16; v += ATT_VECS) { \
            const float *of = q + (size_t)r * size; \
            float *to = scores + (size_t)r * CHUNK + v * 16; \
            switch (rows - r) { \
                case 1: NAME##_tile(of, keys, size, 1, v, ATT_VECS, to); break; \
                case 2: NAME##_tile(of, keys, size, 2, v, ATT_VECS, to); break; \
                case 3: NAME##_tile(of, keys, size, 3, v, ATT_VECS, to); break; \
                case 4: NAME##_tile(of, keys, size, ATT_ROWS < 4 ? ATT_ROWS : 4, v, ATT_VECS, to); break; \
                case 5: NAME##_tile(of, keys, size, ATT_ROWS < 5 ? ATT_ROWS : 5, v, ATT_VECS, to); break; \
                default: NAME##_tile(of, keys, size, ATT_ROWS, v, ATT_VECS, to); \
            } \
        } \
}
SCORES(scores_float, float, key_float)
SCORES(scores_half, half, key_half)
SCORES(scores_byte, int8_t, key_byte)

/* Weights [rows][64] times `values` [positions][size]: out [rows][size]. */
#define WEIGHTED(NAME, TYPE, VALUE) \
TILED void NAME##_tile(const float *w, const TYPE *values, int size, int positions, const int rows, int from, \
                        const int vecs, float *out) { \
    v16f sum[ATT_ROWS][ATT_VECS]; \
    for (int r = 0; r < rows; r++) \
        for (int v = 0; v < vecs; v++) sum[r][v] = f_set(0.0f); \
    for (int p = 0; p < positions; p++) { \
        v16f x[ATT_VECS]; \
        for (int v = 0; v < vecs; v++) x[v] = VALUE(values, size, p, from + v); \
        for (int r = 0; r < rows; r++) { \
            v16f a = f_set(w[(size_t)r * CHUNK + p]); \
            for (int v = 0; v < vecs; v++) sum[r][v] = f_fma(a, x[v], sum[r][v]); \
        } \
    } \
    for (int r = 0; r < rows; r++) \
        for (int v = 0; v < vecs; v++) f_store(out + (size_t)r * size + v * 16, sum[r][v]); \
} \
static void NAME(const float *w, const TYPE *values, int size, int positions, int rows, float *out) { \
    int vecs = size / 16; \
    for (int r = 0; r < rows; r += ATT_ROWS) { \
        const float *of = w + (size_t)r * CHUNK; \
        float *to = out + (size_t)r * size; \
        int left = rows - r, v = 0; \
        for (; v + ATT_VECS <= vecs; v += ATT_VECS) \
            switch (left) { \
                case 1: NAME##_tile(of, values, size, positions, 1, v, ATT_VECS, to + v * 16); break; \
                case 2: NAME##_tile(of, values, size, positions, 2, v, ATT_VECS, to + v * 16); break; \
                case 3: NAME##_tile(of, values, size, positions, 3, v, ATT_VECS, to + v * 16); break; \
                case 4: \
                    NAME##_tile(of, values, size, positions, ATT_ROWS < 4 ? ATT_ROWS : 4, v, ATT_VECS, to + v * 16); \
                    break; \
                case 5: \
                    NAME##_tile(of, values, size, positions, ATT_ROWS < 5 ? ATT_ROWS : 5, v, ATT_VECS, to + v * 16); \
                    break; \
                default: NAME##_tile(of, values, size, positions, ATT_ROWS, v, ATT_VECS, to + v * 16); \
            } \
        for (; v < vecs; v++) \
            for (int one = 0; one < left && one < ATT_ROWS; one++) \
                NAME##_tile(of + one * CHUNK, values, size, positions, 1, v, 1, to + (size_t)one * size + v * 16); \
    } \
}
WEIGHTED(weighted_float, float, value_float)
WEIGHTED(weighted_half, half, value_half)
WEIGHTED(weighted_byte, int8_t, value_byte)

/* Scores of `rows` queries, each `limit` at most (Gemma 2). */
static void softcap_scores(float *scores, int rows, float limit) {
    for (int i = 0; i < rows * CHUNK; i += 16) f_store(scores + i, f_softcap(f_load(scores + i), limit));
}

/* Scores become weights, relative to the row's largest; positions outside [from, to) of the chunk weigh nothing.
 * Gives the largest score and the weights' sum; a row that sees nothing has the largest score -inf. */
static void softmax_chunk(float *scores, int from, int to, float *max, float *sum) {
    if (from < 0) from = 0;
    if (to > CHUNK) to = CHUNK;
    if (from >= to) {
        memset(scores, 0, CHUNK * sizeof(float));
        *max = -INFINITY, *sum = 0;
        return;
    }
    for (int i = 0; i < from; i++) scores[i] = -INFINITY;
    for (int i = to; i < CHUNK; i++) scores[i] = -INFINITY;
    v16f top = f_load(scores);
    for (int v = 1; v < CHUNK / 16; v++) top = f_max(top, f_load(scores + v * 16));
    *max = f_hmax(top);
    v16f all = f_set(0.0f);
    for (int v = 0; v < CHUNK / 16; v++) {
        v16f w = f_exp(f_sub(f_load(scores + v * 16), f_set(*max)));
        f_store(scores + v * 16, w);
        all = f_add(all, w);
    }
    *sum = f_hsum(all);
}

static float exp1(float x) {
    float all[16];
    f_store(all, f_exp(f_set(x)));
    return all[0];
}

/* What a head's sink takes of the weights, relative to the largest score (gpt-oss). */
static float sunk(const float *sink, float max) { return exp1(*sink - max); }

/* A further chunk's partial result joins what was put together so far. */
static void merge_partial(float *max, float *sum, float *out, float max2, float sum2, const float *out2, int size) {
    if (max2 == -INFINITY) return;
    if (*max == -INFINITY) {
        *max = max2, *sum = sum2;
        memcpy(out, out2, (size_t)size * sizeof(float));
        return;
    }
    float top = *max > max2 ? *max : max2, keep = exp1(*max - top), take = exp1(max2 - top);
    *sum = *sum * keep + sum2 * take;
    *max = top;
    for (int i = 0; i < size; i += 16)
        f_store(out + i, f_fma(f_load(out2 + i), f_set(take), f_mul(f_load(out + i), f_set(keep))));
}

/* Have bytes on their way to the second cache while others are computed with. */
static void fetch_ahead(const uint8_t *from, size_t count) {
    if (!FETCH_AHEAD) return;
    for (size_t i = 0; i < count; i += 64) __builtin_prefetch(from + i, 0, 2);
}

/* A chunk of the cache as floats: keys [size][64], values of the first `positions` [positions][size]. */
static void widen_keys(const void *from, int bits, int size, float *to) {
    for (int d = 0; d < size; d++)
        for (int v = 0; v < CHUNK / 16; v++)
            f_store(to + (size_t)d * CHUNK + v * 16, bits == 8 ? key_byte(from, size, d, v) : key_half(from, size, d, v));
}

static void widen_values(const void *from, int bits, int size, int positions, float *to) {
    for (int p = 0; p < positions; p++)
        for (int v = 0; v < size / 16; v++)
            f_store(to + (size_t)p * size + v * 16,
                    bits == 8 ? value_byte(from, size, p, v) : value_half(from, size, p, v));
}

#endif
