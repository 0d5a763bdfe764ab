/* Products of activations with weights of eight or four bits in blocks of 32.
 *
 * Weights lie in panels of 32 rows, block after block, so that a thread reads one stream:
 *   eight bits  2 × [8 quads][16 rows][4 bytes] of value + 128, then 32 scales               1088 bytes
 *   four bits   2 × [4 pairs of quads][16 rows][4 bytes], then 32 scales, then 32 lows        640 bytes
 * Scales and lows are half floats, each matrix with a power of two of its own that keeps them in range. A weight is
 * scale · value, in four bits scale · value + low: levels may start anywhere, as in GGUF's Q4_1.
 *
 * Activations are rounded to eight bits, a scale for each block of 32. A sum runs over a block in integers, then over
 * the blocks in order, whatever the number of rows: one token gives the same bits alone and in company.
 */
#ifndef PLAYGROUND_PRODUCTS_H
#define PLAYGROUND_PRODUCTS_H

#include <stddef.h>
#include <string.h>
#include "vec.h"

#define BLOCK 32
#define PANEL 32
#define PANEL8 1088
#define PANEL4 640

typedef struct {
    int8_t *bytes;  /* tile by tile, [blocks][8 quads][rows of the tile][4] */
    float *scales;  /* tile by tile, [blocks][rows of the tile] */
    float *sums;    /* the same: what all 32 activations stand for, added */
    int32_t *bias;  /* the same: -BIAS8 times the sum of the 32 bytes */
} Acts;

/* -- activations to bytes -------------------------------------------------------------------------------------- */

static void quantise(const float *x, int width, Acts acts, int blocks, int row, int rows) {
    int tile = row / ROWS, in_tile = row - tile * ROWS;
    int of_tile = rows - tile * ROWS < ROWS ? rows - tile * ROWS : ROWS;
    int8_t *bytes = acts.bytes + (size_t)tile * ROWS * blocks * BLOCK + in_tile * 4;
    size_t first = (size_t)tile * ROWS * blocks + in_tile;
    float padded[BLOCK];
    for (int b = 0; b < blocks; b++) {
        const float *from = x + b * BLOCK;
        if (width - b * BLOCK < BLOCK) {
            memset(padded, 0, sizeof padded);
            memcpy(padded, from, (size_t)(width - b * BLOCK) * sizeof(float));
            from = padded;
        }
        v16f low = f_load(from), high = f_load(from + 16);
        float most = f_most(f_max(f_abs(low), f_abs(high)));
        float scale = most / 127.0f, inverse = most > 0 ? 127.0f / most : 0.0f;
        v16i l = i_of(f_mul(low, f_set(inverse))), h = i_of(f_mul(high, f_set(inverse)));
        int32_t sum = i_sum(i_add(l, h));
        int8_t all[BLOCK];
        i_to_bytes(all, l), i_to_bytes(all + 16, h);
        for (int quad = 0; quad < 8; quad++)
            memcpy(bytes + ((size_t)b * 8 + quad) * of_tile * 4, all + quad * 4, 4);
        size_t at = first + (size_t)b * of_tile;
        acts.scales[at] = scale;
        acts.sums[at] = scale * (float)sum;
        acts.bias[at] = (int32_t)(0u - (uint32_t)BIAS8 * (uint32_t)sum);
    }
}

/* -- one panel with one tile ----------------------------------------------------------------------------------- */

INLINE int32_t four(const int8_t *p) {
    int32_t x;
    memcpy(&x, p, 4);
    return x;
}

/* All lines of a block are asked for before the first is used. Asking further ahead was slower, and so were two or four
 * panels at a time (docs/engine.md). */
INLINE void ask_for(const uint8_t *p, const int bytes) {
#pragma GCC unroll 17
    for (int i = 0; i < bytes; i += 64) __builtin_prefetch(p + i);
}

/* `rows` and `groups` are constants wherever this is expanded, so that all sums stay in registers: where there are few of
 * those, a panel's two groups of sixteen outputs are taken one after the other. */
INLINE void tile8(const uint8_t *panel, int blocks, const int rows, int first_group, const int groups, const int8_t *bytes,
                  const float *scales, const int32_t *bias, float post, float *out, size_t stride) {
    v16f sum[ROWS][2];
    for (int t = 0; t < rows; t++)
        for (int g = 0; g < groups; g++) sum[t][g] = f_set(0.0f);
    for (int b = 0; b < blocks; b++, panel += PANEL8, bytes += rows * BLOCK, scales += rows, bias += rows) {
        const uint8_t *weights = panel + first_group * 512;
        v16i acc[ROWS][2];
        if (rows == 1) ask_for(panel, PANEL8);
        for (int t = 0; t < rows; t++)
            for (int g = 0; g < groups; g++) acc[t][g] = i_set(bias[t]);
#pragma GCC unroll 8
        for (int quad = 0; quad < 8; quad++) {
            bytes64 w[2];
            for (int g = 0; g < groups; g++) w[g] = b_load(weights + g * 512 + quad * 64);
#pragma GCC unroll 6
            for (int t = 0; t < rows; t++) {
                int32_t a = four(bytes + (quad * rows + t) * 4);
                for (int g = 0; g < groups; g++) acc[t][g] = dot8(acc[t][g], w[g], a);
            }
        }
        const half *scale = (const half *)(panel + 1024) + first_group * 16;
#pragma GCC unroll 6
        for (int t = 0; t < rows; t++)
            for (int g = 0; g < groups; g++)
                sum[t][g] = f_fma(i_to_f(acc[t][g]), f_mul(f_half(scale + g * 16), f_set(scales[t])), sum[t][g]);
    }
    for (int t = 0; t < rows; t++)
        for (int g = 0; g < groups; g++)
            f_store(out + t * stride + (first_group + g) * 16, f_mul(sum[t][g], f_set(post)));
}

INLINE void tile4(const uint8_t *panel, int blocks, const int rows, int first_group, const int groups, const int8_t *bytes,
                  const float *scales, const float *sums, float post, float *out, size_t stride) {
    v16f sum[ROWS][2];
    for (int t = 0; t < rows; t++)
        for (int g = 0; g < groups; g++) sum[t][g] = f_set(0.0f);
    for (int b = 0; b < blocks; b++, panel += PANEL4, bytes += rows * BLOCK, scales += rows, sums += rows) {
        const uint8_t *weights = panel + first_group * 256;
        v16i acc[ROWS][2];
        if (rows == 1) ask_for(panel, PANEL4);
        for (int t = 0; t < rows; t++)
            for (int g = 0; g < groups; g++) acc[t][g] = i_set(0);
#pragma GCC unroll 4
        for (int pair = 0; pair < 4; pair++) {
            bytes64 both[2], w[2];
            for (int g = 0; g < groups; g++) both[g] = b_load(weights + g * 256 + pair * 64), w[g] = b_low(both[g]);
#pragma GCC unroll 6
            for (int t = 0; t < rows; t++) {
                int32_t a = four(bytes + (pair * rows + t) * 4);
                for (int g = 0; g < groups; g++) acc[t][g] = dot4(acc[t][g], w[g], a);
            }
            for (int g = 0; g < groups; g++) w[g] = b_high(both[g]);
#pragma GCC unroll 6
            for (int t = 0; t < rows; t++) {
                int32_t a = four(bytes + ((pair + 4) * rows + t) * 4);
                for (int g = 0; g < groups; g++) acc[t][g] = dot4(acc[t][g], w[g], a);
            }
        }
        const half *scale = (const half *)(panel + 512) + first_group * 16, *low = scale + 32;
#pragma GCC unroll 6
        for (int t = 0; t < rows; t++)
            for (int g = 0; g < groups; g++) {
                v16f by = f_mul(f_half(scale + g * 16), f_set(scales[t]));
                sum[t][g] = f_fma(i_to_f(acc[t][g]), by, sum[t][g]);
                sum[t][g] = f_fma(f_half(low + g * 16), f_set(sums[t]), sum[t][g]);
            }
    }
    for (int t = 0; t < rows; t++)
        for (int g = 0; g < groups; g++)
            f_store(out + t * stride + (first_group + g) * 16, f_mul(sum[t][g], f_set(post)));
}

typedef struct {
    const uint8_t *panels;
    int bits, blocks, outputs; /* outputs are a multiple of PANEL: what was added gives zeros */
    float post;                /* what sums are multiplied with: the power of two taken out of the scales */
} Matrix;

/* Panels `from` to `to` for all rows; `out` is [rows][stride]. */
static void product(const Matrix *m, Acts acts, int rows, int from, int to, float *out, size_t stride) {
    size_t panel_bytes = (size_t)m->blocks * (m->bits == 8 ? PANEL8 : PANEL4);
    for (int p = from; p < to; p++) {
        const uint8_t *panel = m->panels + p * panel_bytes;
        for (int row = 0; row < rows; row += ROWS) {
            size_t at = (size_t)row * m->blocks;
            const int8_t *bytes = acts.bytes + at * BLOCK;
            const float *scales = acts.scales + at, *sums = acts.sums + at;
            const int32_t *bias = acts.bias + at;
            float *to_ = out + row * stride + p * PANEL;
            int left = rows - row < ROWS ? rows - row : ROWS;
#define TILE(n) \
    case n: \
        for (int g = 0; g < 2; g += n == 1 ? 2 : GROUPS) \
            if (m->bits == 8) \
                tile8(panel, m->blocks, n, g, n == 1 ? 2 : GROUPS, bytes, scales, bias, m->post, to_, stride); \
            else \
                tile4(panel, m->blocks, n, g, n == 1 ? 2 : GROUPS, bytes, scales, sums, m->post, to_, stride); \
        break;
            switch (left) {
                TILE(1) TILE(2) TILE(3)
#if ROWS > 3
                TILE(4) TILE(5) TILE(6)
#endif
            }
#undef TILE
        }
    }
}

/* -- packing ----------------------------------------------------------------------------------------------------- */

/* One matrix as MatMulNBits stores it: [outputs][blocks][32] values, in four bits two in a byte, the first in the low
 * half; [outputs][blocks] scales; zero points like the values, or none for the middle of the range. `rest` blocks at
 * the end hold, as rows of the same matrix, what is to be multiplied with the mean of each block of activations. */
typedef struct {
    const uint8_t *values;
    const float *scales;
    const uint8_t *zeros;
    int bits, outputs, blocks, rest;
} Stored;

INLINE int stored_value(const Stored *s, int row, int block, int i) {
    size_t at = ((size_t)row * (s->blocks + s->rest) + block) * BLOCK + i;
    return s->bits == 8 ? s->values[at] : (s->values[at / 2] >> (at % 2 * 4)) & 15;
}

INLINE int stored_zero(const Stored *s, int row, int block) {
    int all = s->blocks + s->rest;
    if (!s->zeros) return s->bits == 8 ? 128 : 8;
    if (s->bits == 8) return s->zeros[(size_t)row * all + block];
    return (s->zeros[(size_t)row * ((all + 1) / 2) + block / 2] >> (block % 2 * 4)) & 15;
}

INLINE float stored_scale(const Stored *s, int row, int block) {
    return s->scales[(size_t)row * (s->blocks + s->rest) + block];
}

static float stored_low(const Stored *s, int row, int block) {
    float low = -(float)stored_zero(s, row, block) * stored_scale(s, row, block);
    if (s->rest) {
        int from = s->blocks + block / BLOCK;
        float scale = stored_scale(s, row, from);
        low += scale * (float)(stored_value(s, row, from, block % BLOCK) - stored_zero(s, row, from)) / BLOCK;
    }
    return low;
}

/* The largest number that will be stored as a half float; negative where eight bits are not around the middle. */
float pg_reach(const Stored *s) {
    float most = 0;
    for (int row = 0; row < s->outputs; row++)
        for (int b = 0; b < s->blocks; b++) {
            float x = fabsf(stored_scale(s, row, b));
            if (s->bits == 4) {
                float low = fabsf(stored_low(s, row, b));
                x = low > x ? low : x;
            } else if (stored_zero(s, row, b) != 128) {
                return -1;
            }
            most = x > most ? x : most;
        }
    return most;
}

static void put_half(half *to, float x) {
    half all[16];
    f_to_half(all, f_set(x));
    *to = all[0];
}

/* Panels `from` to `to`; `up` is the power of two that scales and lows are multiplied with. */
void pg_pack(const Stored *s, float up, int from, int to, uint8_t *panels) {
    size_t size = s->bits == 8 ? PANEL8 : PANEL4;
    for (int p = from; p < to; p++)
        for (int b = 0; b < s->blocks; b++) {
            uint8_t *block = panels + ((size_t)p * s->blocks + b) * size;
            memset(block, 0, size);
            for (int r = 0; r < PANEL; r++) {
                int row = p * PANEL + r, group = r / 16, in_group = r % 16;
                if (row >= s->outputs) continue;
                size_t at = ((size_t)row * (s->blocks + s->rest) + b) * BLOCK;
                if (s->bits == 8) {
                    for (int quad = 0; quad < 8; quad++)
                        memcpy(block + group * 512 + quad * 64 + in_group * 4, s->values + at + quad * 4, 4);
                    put_half((half *)(block + 1024) + r, stored_scale(s, row, b) * up);
                } else {
                    const uint8_t *v = s->values + at / 2;
                    for (int i = 0; i < 16; i++) { /* numbers i of the first half of the block, and i + 16 */
                        int low = (v[i / 2] >> (i % 2 * 4)) & 15, high = (v[8 + i / 2] >> (i % 2 * 4)) & 15;
                        block[group * 256 + i / 4 * 64 + in_group * 4 + i % 4] = (uint8_t)(low | high << 4);
                    }
                    put_half((half *)(block + 512) + r, stored_scale(s, row, b) * up);
                    put_half((half *)(block + 576) + r, stored_low(s, row, b) * up);
                }
            }
        }
}

#endif
