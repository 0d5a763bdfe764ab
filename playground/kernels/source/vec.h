/* Sixteen numbers at a time: the few operations the kernels are written in. A header for each instruction set has them;
 * vec_scalar.h has them in plain C, as reference and for every other processor.
 *
 * v16f is sixteen floats, v16i sixteen int32, bytes64 sixty-four weights of eight bits. What a product of bytes needs to be
 * exact differs: with VNNI weights are unsigned (BIAS8 is taken off each block's sum), without it signed (BIAS8 is 0).
 *
 * All sets give the same bits, NaNs aside: integer sums are exact, a fused multiply-add rounds once, f_max(a, b) is
 * a > b ? a : b, and f_hsum and f_hmax halve sixteen to eight, to four, to two, to one. Tests compare them.
 */
#ifndef PLAYGROUND_VEC_H
#define PLAYGROUND_VEC_H

#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
typedef uint16_t half;

/* PG_SCALAR, from the command line: plain C where the compiler has more. */
#if defined(PG_SCALAR)
#include "vec_scalar.h"
#elif defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)
#include "vec_avx512vnni.h"
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
#include "vec_avxvnni.h"
#else
#include "vec_avx2.h"
#endif
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#include "vec_neon.h"
#else
#include "vec_scalar.h"
#endif

/* What a block's products of four bits are added in, eight calls of dot4 at most. */
#ifndef OWN_SUM4
typedef v16i sum4;
INLINE sum4 sum4_zero(void) { return i_set(0); }
INLINE v16i sum4_whole(sum4 acc) { return acc; }
#endif

/* How far ahead of its use a token's block of weights is asked for. */
#ifndef BLOCKS_AHEAD
#define BLOCKS_AHEAD 0
#endif

/* Whether a prompt's panel of weights is asked for while the one before is multiplied. */
#ifndef NEXT_PANEL
#define NEXT_PANEL 0
#endif

/* Whether one token's attention has its keys and values on their way before it needs them. */
#ifndef FETCH_AHEAD
#define FETCH_AHEAD 1
#endif

/* Tiles are expanded for each number of rows and their loops unrolled, so that sums stay in registers. Plain C has none that
 * are wide enough: it would only take long to compile. */
#ifdef PLAYGROUND_VEC_SCALAR_H
#define TILED static __attribute__((noinline))
#define UNROLL(n)
#else
#define TILED INLINE
#define PRAGMA(x) _Pragma(#x)
#define UNROLL(n) PRAGMA(GCC unroll n)
#endif

/* exp(x) to about two units in the last place; exactly 0 below -87. Cephes' expf: x = n·ln 2 + r, a polynomial in r. */
INLINE v16f f_exp(v16f x) {
    v16f bounded = f_min(f_max(x, f_set(-87.0f)), f_set(88.0f));
    v16f n = f_round(f_mul(bounded, f_set(1.44269504088896341f)));
    v16f r = f_fma(n, f_set(-0.693359375f), bounded);
    r = f_fma(n, f_set(2.12194440e-4f), r);
    v16f p = f_set(1.9875691500e-4f);
    p = f_fma(p, r, f_set(1.3981999507e-3f));
    p = f_fma(p, r, f_set(8.3334519073e-3f));
    p = f_fma(p, r, f_set(4.1665795894e-2f));
    p = f_fma(p, r, f_set(1.6666665459e-1f));
    p = f_fma(p, r, f_set(5.0000001201e-1f));
    p = f_add(f_fma(p, f_mul(r, r), r), f_set(1.0f));
    return f_unless_below(x, f_set(-87.0f), f_power(p, n));
}
INLINE v16f f_sigmoid(v16f x) { return f_div(f_set(1.0f), f_add(f_set(1.0f), f_exp(f_sub(f_set(0.0f), x)))); }
/* log(1 + exp(x)): the larger of x and 0, and log(1 + t), t = exp(-|x|), as 2 artanh(z), z = t / (2 + t) < 1/3. */
INLINE v16f f_softplus(v16f x) {
    v16f t = f_exp(f_sub(f_set(0.0f), f_abs(x))), z = f_div(t, f_add(f_set(2.0f), t)), y = f_mul(z, z);
    v16f p = f_set(2.0f / 15);
    p = f_fma(p, y, f_set(2.0f / 13));
    p = f_fma(p, y, f_set(2.0f / 11));
    p = f_fma(p, y, f_set(2.0f / 9));
    p = f_fma(p, y, f_set(2.0f / 7));
    p = f_fma(p, y, f_set(2.0f / 5));
    p = f_fma(p, y, f_set(2.0f / 3));
    p = f_fma(p, y, f_set(2.0f));
    return f_fma(p, z, f_max(x, f_set(0.0f)));
}
INLINE v16f f_tanh(v16f x) { /* 1 - 2 / (exp(2x) + 1) */
    return f_sub(f_set(1.0f), f_div(f_set(2.0f), f_add(f_exp(f_add(x, x)), f_set(1.0f))));
}
INLINE v16f f_softcap(v16f x, float limit) { return f_mul(f_set(limit), f_tanh(f_div(x, f_set(limit)))); }

#endif
