/* Attention of groups of heads over a cache in half floats.
 *
 * The cache of one key-value head: keys in chunks of 64 positions, each [size][64], so that sixteen positions are one
 * vector; values [positions][size]. Both are rounded to half floats, as in llama.cpp.
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

/* Keys of `chunk` times queries: scores [rows][64]. `keys` is float or half: halves are widened on the way. */
#define SCORES(NAME, TYPE, LOAD) \
TILED void NAME##_tile(const float *q, const TYPE *keys, int size, const int rows, const int vecs, float *scores) { \
    v16f sum[ATT_ROWS][ATT_VECS]; \
    for (int r = 0; r < rows; r++) \
        for (int v = 0; v < vecs; v++) sum[r][v] = f_set(0.0f); \
    for (int d = 0; d < size; d++) { \
        v16f k[ATT_VECS]; \
        for (int v = 0; v < vecs; v++) k[v] = LOAD(keys + (size_t)d * CHUNK + v * 16); \
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
            const float *from = q + (size_t)r * size; \
            float *to = scores + (size_t)r * CHUNK + v * 16; \
            switch (rows - r) { \
                case 1: NAME##_tile(from, keys + v * 16, size, 1, ATT_VECS, to); break; \
                case 2: NAME##_tile(from, keys + v * 16, size, 2, ATT_VECS, to); break; \
                case 3: NAME##_tile(from, keys + v * 16, size, 3, ATT_VECS, to); break; \
                case 4: NAME##_tile(from, keys + v * 16, size, ATT_ROWS < 4 ? ATT_ROWS : 4, ATT_VECS, to); break; \
                case 5: NAME##_tile(from, keys + v * 16, size, ATT_ROWS < 5 ? ATT_ROWS : 5, ATT_VECS, to); break; \
                default: NAME##_tile(from, keys + v * 16, size, ATT_ROWS, ATT_VECS, to); \
            } \
        } \
}
SCORES(scores_float, float, f_load)
SCORES(scores_half, half, f_half)

/* Weights [rows][64] times `values` [positions][size]: out [rows][size]. */
#define WEIGHTED(NAME, TYPE, LOAD) \
TILED void NAME##_tile(const float *w, const TYPE *values, int size, int positions, const int rows, const int vecs, \
                        float *out) { \
    v16f sum[ATT_ROWS][ATT_VECS]; \
    for (int r = 0; r < rows; r++) \
        for (int v = 0; v < vecs; v++) sum[r][v] = f_set(0.0f); \
    for (int p = 0; p < positions; p++) { \
        v16f x[ATT_VECS]; \
        for (int v = 0; v < vecs; v++) x[v] = LOAD(values + (size_t)p * size + v * 16); \
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
        const float *from = w + (size_t)r * CHUNK; \
        float *to = out + (size_t)r * size; \
        int left = rows - r, v = 0; \
        for (; v + ATT_VECS <= vecs; v += ATT_VECS) \
            switch (left) { \
                case 1: NAME##_tile(from, values + v * 16, size, positions, 1, ATT_VECS, to + v * 16); break; \
                case 2: NAME##_tile(from, values + v * 16, size, positions, 2, ATT_VECS, to + v * 16); break; \
                case 3: NAME##_tile(from, values + v * 16, size, positions, 3, ATT_VECS, to + v * 16); break; \
                case 4: \
                    NAME##_tile(from, values + v * 16, size, positions, ATT_ROWS < 4 ? ATT_ROWS : 4, ATT_VECS, to + v * 16); \
                    break; \
                case 5: \
                    NAME##_tile(from, values + v * 16, size, positions, ATT_ROWS < 5 ? ATT_ROWS : 5, ATT_VECS, to + v * 16); \
                    break; \
                default: NAME##_tile(from, values + v * 16, size, positions, ATT_ROWS, ATT_VECS, to + v * 16); \
            } \
        for (; v < vecs; v++) \
            for (int one = 0; one < left && one < ATT_ROWS; one++) \
                NAME##_tile(from + one * CHUNK, values + v * 16, size, positions, 1, 1, to + (size_t)one * size + v * 16); \
    } \
}
WEIGHTED(weighted_float, float, f_load)
WEIGHTED(weighted_half, half, f_half)

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

/* Have numbers on their way to the second cache while others are computed with. */
static void fetch_ahead(const half *from, size_t count) {
    for (size_t i = 0; i < count; i += 64 / sizeof(half)) __builtin_prefetch(from + i, 0, 2);
}

static void widen(const half *from, float *to, size_t count) {
    for (size_t i = 0; i < count; i += 16) f_store(to + i, f_half(from + i));
}

#endif
