/* Plain C: the reference that every other set is compared with, and what runs where there is no other. Included by vec.h
 * alone. Written to be read; compilers make vectors of some of it.
 */
#ifndef PLAYGROUND_VEC_SCALAR_H
#define PLAYGROUND_VEC_SCALAR_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define ISA "scalar"
#define ROWS 3
#define GROUPS 1
#define ATT_ROWS 3
#define ATT_VECS 2
#define BIAS8 0

typedef struct { float v[16]; } v16f;
typedef struct { int32_t v[16]; } v16i;
typedef struct { uint8_t v[64]; } bytes64;
#define EACH for (int i = 0; i < 16; i++)

/* -- one number ------------------------------------------------------------------------------------------------- */

INLINE uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* a · b + c, rounded once. Without an instruction for it: the product is exact in double; the sum is rounded to odd, and
 * then once more (Boldo and Melquiond 2008, "Emulation of FMA and correctly rounded sums: proved algorithms using
 * rounding to odd"). That is faster than a C library's fmaf, which most processors without one get. */
INLINE float fma1(float a, float b, float c) {
#if defined(__FMA__) || defined(__FP_FAST_FMAF) || defined(__aarch64__) || FLT_EVAL_METHOD != 0
    return __builtin_fmaf(a, b, c);
#else
    double product = (double)a * b, sum = product + c, part = sum - product;
    double lost = (product - (sum - part)) + (c - part); /* Knuth's two-sum; NaN where the sum is no number */
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if ((lost > 0 || lost < 0) && !(bits & 1)) bits += (lost > 0) == (sum > 0) ? 1 : UINT64_MAX;
    memcpy(&sum, &bits, sizeof sum);
    return (float)sum;
#endif
}

/* To the nearest whole number, halves to the even one. */
INLINE float round1(float x) {
    float whole = 8388608.0f; /* from 2^23 on there are no fractions */
    return fabsf(x) < whole ? copysignf((fabsf(x) + whole) - whole, x) : x;
}

/* As processors do it: what has no place becomes the least. */
INLINE int32_t int1(float x) { return x >= -2147483648.0f && x < 2147483648.0f ? (int32_t)round1(x) : INT32_MIN; }

INLINE float half1(half h) {
    float x = float_of((uint32_t)(h & 0x7fff) << 13) * 0x1p112f; /* the exponent's other bias; subnormals become normal */
    uint32_t bits = bits_of(x) | (x >= 65536.0f ? 0x7f800000u : 0u);
    return float_of(bits | (uint32_t)(h & 0x8000) << 16);
}

INLINE half to_half1(float x) {
    uint32_t bits = bits_of(x), sign = bits & 0x80000000u, found;
    bits ^= sign;
    if (bits > 0x7f800000u) found = 0x7e00u | (bits >> 13 & 0x3ffu); /* no number */
    else if (bits >= 0x47800000u) found = 0x7c00u;                   /* from 65536 on */
    else if (bits < 0x38800000u) found = bits_of(float_of(bits) + 0.5f) - 0x3f000000u; /* subnormal, or zero */
    else found = (bits - 0x38000000u + 0xfffu + (bits >> 13 & 1u)) >> 13;
    return (half)(found | sign >> 16);
}

/* -- sixteen ---------------------------------------------------------------------------------------------------- */

#define SIXTEEN(type, expression) \
    type r; \
    EACH r.v[i] = (expression); \
    return r

INLINE v16f f_set(float x) { SIXTEEN(v16f, x); }
INLINE v16f f_load(const float *p) { SIXTEEN(v16f, p[i]); }
INLINE void f_store(float *p, v16f x) { EACH p[i] = x.v[i]; }
INLINE v16f f_add(v16f a, v16f b) { SIXTEEN(v16f, a.v[i] + b.v[i]); }
INLINE v16f f_sub(v16f a, v16f b) { SIXTEEN(v16f, a.v[i] - b.v[i]); }
INLINE v16f f_mul(v16f a, v16f b) { SIXTEEN(v16f, a.v[i] * b.v[i]); }
INLINE v16f f_div(v16f a, v16f b) { SIXTEEN(v16f, a.v[i] / b.v[i]); }
INLINE v16f f_fma(v16f a, v16f b, v16f c) { SIXTEEN(v16f, fma1(a.v[i], b.v[i], c.v[i])); }
INLINE v16f f_max(v16f a, v16f b) { SIXTEEN(v16f, a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
INLINE v16f f_min(v16f a, v16f b) { SIXTEEN(v16f, a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
INLINE v16f f_abs(v16f x) { SIXTEEN(v16f, fabsf(x.v[i])); }
INLINE v16f f_round(v16f x) { SIXTEEN(v16f, round1(x.v[i])); }
INLINE float f_hsum(v16f x) {
    for (int n = 8; n > 0; n /= 2)
        for (int i = 0; i < n; i++) x.v[i] += x.v[i + n];
    return x.v[0];
}
INLINE float f_hmax(v16f x) {
    for (int n = 8; n > 0; n /= 2)
        for (int i = 0; i < n; i++) x.v[i] = x.v[i] > x.v[i + n] ? x.v[i] : x.v[i + n];
    return x.v[0];
}
INLINE v16f f_half(const half *p) { SIXTEEN(v16f, half1(p[i])); }
INLINE v16f f_byte(const int8_t *p) { SIXTEEN(v16f, (float)p[i]); }
INLINE void f_to_half(half *p, v16f x) { EACH p[i] = to_half1(x.v[i]); }
INLINE float power1(float x, float whole) { /* in two steps: 2^whole alone may be no normal number */
    int32_t n = int1(whole), h = n >> 1;
    return x * float_of((uint32_t)(h + 127) << 23) * float_of((uint32_t)(n - h + 127) << 23);
}
INLINE v16f f_power(v16f x, v16f whole) { SIXTEEN(v16f, power1(x.v[i], whole.v[i])); }
INLINE v16f f_unless_below(v16f a, v16f b, v16f x) { SIXTEEN(v16f, a.v[i] >= b.v[i] ? x.v[i] : 0.0f); }
INLINE v16i i_set(int32_t x) { SIXTEEN(v16i, x); }
/* Sums wrap around, as those of processors do, where activations were no numbers. */
INLINE v16i i_add(v16i a, v16i b) { SIXTEEN(v16i, (int32_t)((uint32_t)a.v[i] + (uint32_t)b.v[i])); }
INLINE v16i i_of(v16f x) { SIXTEEN(v16i, int1(x.v[i])); }
INLINE v16f i_to_f(v16i x) { SIXTEEN(v16f, (float)x.v[i]); }
INLINE int32_t i_hsum(v16i x) {
    uint32_t sum = 0;
    EACH sum += (uint32_t)x.v[i];
    return (int32_t)sum;
}
INLINE void i_to_bytes(int8_t *p, v16i x) { EACH p[i] = (int8_t)(x.v[i] > 127 ? 127 : x.v[i] < -128 ? -128 : x.v[i]); }
INLINE bytes64 b_load(const uint8_t *p) {
    bytes64 r;
    memcpy(&r, p, sizeof r);
    return r;
}
INLINE bytes64 b_low(bytes64 x) {
    for (int i = 0; i < 64; i++) x.v[i] &= 15;
    return x;
}
INLINE bytes64 b_high(bytes64 x) {
    for (int i = 0; i < 64; i++) x.v[i] >>= 4;
    return x;
}

INLINE v16i dot8(v16i acc, bytes64 w, int32_t activations) {
    int8_t a[4], of[64];
    memcpy(a, &activations, sizeof a);
    memcpy(of, w.v, sizeof of);
    EACH {
        const int8_t *four_ = of + 4 * i;
        int sum = four_[0] * a[0] + four_[1] * a[1] + four_[2] * a[2] + four_[3] * a[3];
        acc.v[i] = (int32_t)((uint32_t)acc.v[i] + (uint32_t)sum);
    }
    return acc;
}
INLINE v16i dot4(v16i acc, bytes64 w, int32_t a) { return dot8(acc, w, a); }

#endif
