/* Products of activations with weights of eight or four bits in blocks of 32.
 *
 * Weights lie in panels of 32 rows, block after block, so that a thread reads one stream:
 *   eight bits  [8 quads][32 rows][4 bytes] of value + BIAS8, then 32 scales
 *   four bits   [4 pairs of quads][32 rows][4 bytes], then 32 scales, then 32 mins
 * One token's product reads them from the first byte to the last: with the sixteen rows of a group one behind the other it
 * would go to and fro between two places 512 bytes apart, at three quarters of the speed (docs/engine.md).
 * Scales and mins are half floats, each matrix with a power of two of its own that keeps them in range. A weight is
 * scale · value, in four bits scale · value + min: levels may start anywhere, as in GGUF's Q4_1.
 *
 * Activations are rounded to eight bits, a scale for each block of 32. A sum runs over a block in integers, then over
 * the blocks in order, whatever the number of rows: one token gives the same bits alone and in company.
 */
#ifndef PLAYGROUND_PRODUCTS_H
#define PLAYGROUND_PRODUCTS_H

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "vec.h"

#define BLOCK 32
#define PANEL 32

/* One block of a panel. Panels are read by whole lines of the cache, and by loads that want 64 bytes' alignment. */
typedef struct {
    uint8_t values[8][2][64]; /* [quad][group of sixteen rows][row][4]: value + BIAS8 */
    half scales[PANEL];
} Panel8;
typedef struct {
    uint8_t values[4][2][64]; /* the same for quads q, in the low halves, and q + 4 */
    half scales[PANEL], mins[PANEL];
} Panel4;
_Static_assert(sizeof(Panel8) == 1088 && sizeof(Panel8) % 64 == 0, "a block of a panel in eight bits");
_Static_assert(offsetof(Panel8, scales) == 8 * 2 * 64, "scales behind the values");
_Static_assert(sizeof(Panel4) == 640 && sizeof(Panel4) % 64 == 0, "a block of a panel in four bits");
_Static_assert(offsetof(Panel4, scales) == 4 * 2 * 64 && offsetof(Panel4, mins) == 4 * 2 * 64 + 2 * PANEL,
               "scales behind the values, mins behind the scales");

typedef struct {
    int8_t *bytes;  /* tile by tile, [blocks][8 quads][rows of the tile][4] */
    float *scales;  /* tile by tile, [blocks][rows of the tile] */
    float *sums;    /* the same: what all 32 activations stand for, added */
    int32_t *bias;  /* the same: -BIAS8 times the sum of the 32 bytes */
} Acts;

/* -- activations to bytes -------------------------------------------------------------------------------------- */

/* 0 where one of them is infinite or no number: what is left of it would look like any other product. */
static int quantise(const float *x, int width, Acts acts, int blocks, int row, int rows) {
    int tile = row / ROWS, in_tile = row - tile * ROWS;
    int of_tile = rows - tile * ROWS < ROWS ? rows - tile * ROWS : ROWS;
    int8_t *bytes = acts.bytes + (size_t)tile * ROWS * blocks * BLOCK + in_tile * 4;
    size_t first = (size_t)tile * ROWS * blocks + in_tile;
    float padded[BLOCK];
    v16f odd = f_set(0.0f);
    assert(row >= 0 && row < rows && width > (blocks - 1) * BLOCK && width <= blocks * BLOCK);
    for (int b = 0; b < blocks; b++) {
        const float *from = x + b * BLOCK;
        if (width - b * BLOCK < BLOCK) {
            memset(padded, 0, sizeof padded);
            memcpy(padded, from, (size_t)(width - b * BLOCK) * sizeof(float));
            from = padded;
        }
        v16f low = f_load(from), high = f_load(from + 16);
        odd = f_add(odd, f_add(f_sub(low, low), f_sub(high, high)));
        float max = f_hmax(f_max(f_abs(low), f_abs(high)));
        float scale = max / 127.0f, inverse = max > 0 ? 127.0f / max : 0.0f;
        v16i l = i_of(f_mul(low, f_set(inverse))), h = i_of(f_mul(high, f_set(inverse)));
        int32_t sum = i_hsum(i_add(l, h));
        int8_t all[BLOCK];
        i_to_bytes(all, l), i_to_bytes(all + 16, h);
        for (int quad = 0; quad < 8; quad++)
            memcpy(bytes + ((size_t)b * 8 + quad) * of_tile * 4, all + quad * 4, 4);
        size_t at = first + (size_t)b * of_tile;
        acts.scales[at] = scale;
        acts.sums[at] = scale * (float)sum;
        acts.bias[at] = (int32_t)(0u - (uint32_t)BIAS8 * (uint32_t)sum);
    }
    return f_hsum(odd) == 0.0f;
}

/* Whether none of `count` numbers is infinite or no number. */
static int all_finite(const float *x, size_t count) {
    v16f odd = f_set(0.0f);
    float tail = 0;
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        v16f v = f_load(x + i);
        odd = f_add(odd, f_sub(v, v));
    }
    for (; i < count; i++) tail += x[i] - x[i];
    return f_hsum(odd) + tail == 0.0f;
}

/* -- one panel with one tile ----------------------------------------------------------------------------------- */

INLINE int32_t four(const int8_t *p) {
    int32_t x;
    memcpy(&x, p, 4);
    return x;
}

/* All lines of a block are asked for at once, before the first is used; how far before is the instruction set's to say.
 * Two or four panels at a time were slower (docs/engine.md). Behind the last block there may be nothing. */
INLINE void ask_for(const void *block, const int bytes) {
    uintptr_t first = (uintptr_t)block + (uintptr_t)(BLOCKS_AHEAD * bytes);
    UNROLL(17)
    for (int i = 0; i < bytes; i += 64) __builtin_prefetch((const void *)(first + (uintptr_t)i));
}

/* `rows` and `groups` are constants wherever this is expanded, so that all sums stay in registers: where there are few of
 * those, a panel's two groups of sixteen outputs are taken one after the other. */
TILED void tile8(const Panel8 *panel, int blocks, const int rows, int first_group, const int groups, const int8_t *bytes,
                  const float *scales, const int32_t *bias, float factor, float *out, size_t stride) {
    v16f sum[ROWS][2];
    for (int t = 0; t < rows; t++)
        for (int g = 0; g < groups; g++) sum[t][g] = f_set(0.0f);
    for (int b = 0; b < blocks; b++, panel++, bytes += rows * BLOCK, scales += rows, bias += rows) {
        v16i acc[ROWS][2];
        if (rows == 1) ask_for(panel, sizeof *panel);
        for (int t = 0; t < rows; t++)
            for (int g = 0; g < groups; g++) acc[t][g] = i_set(bias[t]);
        UNROLL(8)
        for (int quad = 0; quad < 8; quad++) {
            bytes64 w[2];
            for (int g = 0; g < groups; g++) w[g] = b_load(panel->values[quad][first_group + g]);
            UNROLL(6)
            for (int t = 0; t < rows; t++) {
                int32_t a = four(bytes + (quad * rows + t) * 4);
                for (int g = 0; g < groups; g++) acc[t][g] = dot8(acc[t][g], w[g], a);
            }
        }
        const half *scale = panel->scales + first_group * 16;
        UNROLL(6)
        for (int t = 0; t < rows; t++)
            for (int g = 0; g < groups; g++)
                sum[t][g] = f_fma(i_to_f(acc[t][g]), f_mul(f_half(scale + g * 16), f_set(scales[t])), sum[t][g]);
    }
    for (int t = 0; t < rows; t++)
        for (int g = 0; g < groups; g++)
            f_store(out + t * stride + (first_group + g) * 16, f_mul(sum[t][g], f_set(factor)));
}

TILED void tile4(const Panel4 *panel, int blocks, const int rows, int first_group, const int groups, const int8_t *bytes,
                  const float *scales, const float *sums, float factor, float *out, size_t stride) {
    v16f sum[ROWS][2];
    for (int t = 0; t < rows; t++)
        for (int g = 0; g < groups; g++) sum[t][g] = f_set(0.0f);
    for (int b = 0; b < blocks; b++, panel++, bytes += rows * BLOCK, scales += rows, sums += rows) {
        sum4 acc[ROWS][2];
        if (rows == 1) ask_for(panel, sizeof *panel);
        for (int t = 0; t < rows; t++)
            for (int g = 0; g < groups; g++) acc[t][g] = sum4_zero();
        UNROLL(4)
        for (int pair = 0; pair < 4; pair++) {
            bytes64 both[2], w[2];
            for (int g = 0; g < groups; g++) both[g] = b_load(panel->values[pair][first_group + g]), w[g] = b_low(both[g]);
            UNROLL(6)
            for (int t = 0; t < rows; t++) {
                int32_t a = four(bytes + (pair * rows + t) * 4);
                for (int g = 0; g < groups; g++) acc[t][g] = dot4(acc[t][g], w[g], a);
            }
            for (int g = 0; g < groups; g++) w[g] = b_high(both[g]);
            UNROLL(6)
            for (int t = 0; t < rows; t++) {
                int32_t a = four(bytes + ((pair + 4) * rows + t) * 4);
                for (int g = 0; g < groups; g++) acc[t][g] = dot4(acc[t][g], w[g], a);
            }
        }
        const half *scale = panel->scales + first_group * 16, *min = panel->mins + first_group * 16;
        UNROLL(6)
        for (int t = 0; t < rows; t++)
            for (int g = 0; g < groups; g++) {
                v16f by = f_mul(f_half(scale + g * 16), f_set(scales[t]));
                sum[t][g] = f_fma(i_to_f(sum4_whole(acc[t][g])), by, sum[t][g]);
                sum[t][g] = f_fma(f_half(min + g * 16), f_set(sums[t]), sum[t][g]);
            }
    }
    for (int t = 0; t < rows; t++)
        for (int g = 0; g < groups; g++)
            f_store(out + t * stride + (first_group + g) * 16, f_mul(sum[t][g], f_set(factor)));
}

typedef struct {
    const void *panels; /* [outputs / PANEL][blocks] of Panel8 or Panel4 */
    int bits, blocks, outputs; /* outputs are a multiple of PANEL: what was added gives zeros */
    float factor;              /* what sums are multiplied with: the power of two taken out of the scales */
} Matrix;

INLINE size_t panel_bytes(const Matrix *m) {
    return (size_t)m->blocks * (m->bits == 8 ? sizeof(Panel8) : sizeof(Panel4));
}

/* While a panel is multiplied with one tile after the other, the next one is asked for, as large a part of it for each
 * tile as the tile is of all rows: a prompt need not wait for memory at the beginning of each panel. */
INLINE void ask_for_next(const void *panel, size_t bytes, int row, int left, int rows) {
    size_t from = bytes * (size_t)row / (size_t)rows / 64 * 64, to = bytes * (size_t)(row + left) / (size_t)rows / 64 * 64;
    const uint8_t *next = (const uint8_t *)panel + bytes;
    for (; from < to; from += 64) __builtin_prefetch(next + from, 0, 2);
}

/* Panels `from` to `to` for all rows; `out` is [rows][stride]. */
static void mul_mat(const Matrix *m, Acts acts, int rows, int from, int to, float *out, size_t stride) {
    assert((uintptr_t)m->panels % 64 == 0 && from >= 0 && to <= m->outputs / PANEL && rows > 0);
    size_t bytes_each = panel_bytes(m);
    for (int p = from; p < to; p++) {
        const void *panel = (const uint8_t *)m->panels + p * bytes_each;
        for (int row = 0; row < rows; row += ROWS) {
            size_t at = (size_t)row * m->blocks;
            const int8_t *bytes = acts.bytes + at * BLOCK;
            const float *scales = acts.scales + at, *sums = acts.sums + at;
            const int32_t *bias = acts.bias + at;
            float *to_ = out + row * stride + p * PANEL;
            int left = rows - row < ROWS ? rows - row : ROWS;
            if (NEXT_PANEL && rows > ROWS && p + 1 < to) ask_for_next(panel, bytes_each, row, left, rows);
#define TILE(n) \
    case n: \
        for (int g = 0; g < 2; g += n == 1 ? 2 : GROUPS) \
            if (m->bits == 8) \
                tile8(panel, m->blocks, n, g, n == 1 ? 2 : GROUPS, bytes, scales, bias, m->factor, to_, stride); \
            else \
                tile4(panel, m->blocks, n, g, n == 1 ? 2 : GROUPS, bytes, scales, sums, m->factor, to_, stride); \
        break;
            switch (left) {
                TILE(1) TILE(2) TILE(3)
#if ROWS > 3
                TILE(4)
#endif
#if ROWS > 4
                TILE(5) TILE(6)
#endif
            }
#undef TILE
        }
    }
}

/* -- packing ----------------------------------------------------------------------------------------------------- */

/* One matrix as MatMulNBits stores it: [outputs][blocks][32] values, in four bits two in a byte, the first in the low
 * half; [outputs][blocks] scales; zero points like the values, or none for the middle of the range. `mean_blocks` blocks
 * at the end hold, as rows of the same matrix, what is to be multiplied with the mean of each block of activations: each
 * mean once or, where there are more blocks than that takes, all means over and over, `pg_mean_copies` times. */
typedef struct {
    const uint8_t *values;
    const float *scales;
    const uint8_t *zeros;
    int bits, outputs, blocks, mean_blocks;
} Stored;

INLINE int stored_value(const Stored *s, int row, int block, int i) {
    size_t at = ((size_t)row * (s->blocks + s->mean_blocks) + block) * BLOCK + i;
    return s->bits == 8 ? s->values[at] : (s->values[at / 2] >> (at % 2 * 4)) & 15;
}

INLINE int stored_zero(const Stored *s, int row, int block) {
    int all = s->blocks + s->mean_blocks;
    if (!s->zeros) return s->bits == 8 ? 128 : 8;
    if (s->bits == 8) return s->zeros[(size_t)row * all + block];
    return (s->zeros[(size_t)row * ((all + 1) / 2) + block / 2] >> (block % 2 * 4)) & 15;
}

INLINE float stored_scale(const Stored *s, int row, int block) {
    return s->scales[(size_t)row * (s->blocks + s->mean_blocks) + block];
}

/* So often that behind the last block that the first copy begins all means stand once more; library.py has the same. */
int pg_mean_copies(int blocks) {
    int first = (blocks + BLOCK - 1) / BLOCK * BLOCK;
    return (first + blocks - 1) / blocks + 1;
}

static float stored_min(const Stored *s, int row, int block) {
    float min = -(float)stored_zero(s, row, block) * stored_scale(s, row, block);
    if (!s->mean_blocks) return min;
    int copies = s->mean_blocks > (s->blocks + BLOCK - 1) / BLOCK ? pg_mean_copies(s->blocks) : 1;
    assert(copies * s->blocks <= s->mean_blocks * BLOCK);
    for (int i = 0; i < copies; i++) {
        int column = i * s->blocks + block, from = s->blocks + column / BLOCK;
        float scale = stored_scale(s, row, from);
        min += scale * (float)(stored_value(s, row, from, column % BLOCK) - stored_zero(s, row, from)) / BLOCK;
    }
    return min;
}

/* The largest number that will be stored as a half float; negative where eight bits are not around the middle. */
float pg_max_scale(const Stored *s) {
    float max = 0;
    for (int row = 0; row < s->outputs; row++)
        for (int b = 0; b < s->blocks; b++) {
            float x = fabsf(stored_scale(s, row, b));
            if (s->bits == 4) {
                float min = fabsf(stored_min(s, row, b));
                x = min > x ? min : x;
            } else if (stored_zero(s, row, b) != 128) {
                return -1;
            }
            max = x > max ? x : max;
        }
    return max;
}

static void put_half(half *to, float x) {
    half all[16];
    f_to_half(all, f_set(x));
    *to = all[0];
}

static void pack8(const Stored *s, float factor, int row, int block, Panel8 *to) {
    const uint8_t *from = s->values + ((size_t)row * (s->blocks + s->mean_blocks) + block) * BLOCK;
    int place = row % PANEL;
    for (int quad = 0; quad < 8; quad++) {
        uint32_t four_ = (uint32_t)four((const int8_t *)from + quad * 4) ^ (BIAS8 ? 0 : 0x80808080u); /* 128 less each */
        memcpy(to->values[quad][place / 16] + place % 16 * 4, &four_, 4);
    }
    put_half(to->scales + place, stored_scale(s, row, block) * factor);
}

static void pack4(const Stored *s, float factor, int row, int block, Panel4 *to) {
    const uint8_t *v = s->values + ((size_t)row * (s->blocks + s->mean_blocks) + block) * BLOCK / 2;
    int place = row % PANEL;
    for (int i = 0; i < 16; i++) { /* numbers i of the first half of the block, and i + 16 */
        int low = (v[i / 2] >> (i % 2 * 4)) & 15, high = (v[8 + i / 2] >> (i % 2 * 4)) & 15;
        to->values[i / 4][place / 16][place % 16 * 4 + i % 4] = (uint8_t)(low | high << 4);
    }
    put_half(to->scales + place, stored_scale(s, row, block) * factor);
    put_half(to->mins + place, stored_min(s, row, block) * factor);
}

/* Panels `from` to `to`; `factor` is the power of two that scales and mins are multiplied with. */
void pg_pack(const Stored *s, float factor, int from, int to, void *panels) {
    assert((uintptr_t)panels % 64 == 0 && from >= 0 && (to - 1) * PANEL < s->outputs);
    size_t size = s->bits == 8 ? sizeof(Panel8) : sizeof(Panel4);
    for (int p = from; p < to; p++)
        for (int b = 0; b < s->blocks; b++) {
            void *block = (uint8_t *)panels + ((size_t)p * s->blocks + b) * size;
            memset(block, 0, size);
            for (int row = p * PANEL; row < (p + 1) * PANEL && row < s->outputs; row++)
                if (s->bits == 8) pack8(s, factor, row, b, block);
                else pack4(s, factor, row, b, block);
        }
}

#endif
