/* AVX2 with FMA and F16C: two registers are sixteen numbers. Included by vec.h, and by vec_avxvnni.h, which has
 * products of its own. */
#ifndef PLAYGROUND_VEC_AVX2_H
#define PLAYGROUND_VEC_AVX2_H

#include <immintrin.h>

#define GROUPS 1
#define ATT_ROWS 3
#define ATT_VECS 2

typedef struct { __m256 a, b; } v16f;
typedef struct { __m256i a, b; } v16i;
typedef v16i bytes64;
#define F(x, y) ((v16f){x, y})
#define I(x, y) ((v16i){x, y})

INLINE v16f f_set(float x) { return F(_mm256_set1_ps(x), _mm256_set1_ps(x)); }
INLINE v16f f_load(const float *p) { return F(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }
INLINE void f_store(float *p, v16f x) { _mm256_storeu_ps(p, x.a), _mm256_storeu_ps(p + 8, x.b); }
INLINE v16f f_add(v16f a, v16f b) { return F(_mm256_add_ps(a.a, b.a), _mm256_add_ps(a.b, b.b)); }
INLINE v16f f_sub(v16f a, v16f b) { return F(_mm256_sub_ps(a.a, b.a), _mm256_sub_ps(a.b, b.b)); }
INLINE v16f f_mul(v16f a, v16f b) { return F(_mm256_mul_ps(a.a, b.a), _mm256_mul_ps(a.b, b.b)); }
INLINE v16f f_div(v16f a, v16f b) { return F(_mm256_div_ps(a.a, b.a), _mm256_div_ps(a.b, b.b)); }
INLINE v16f f_fma(v16f a, v16f b, v16f c) {
    return F(_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b));
}
INLINE v16f f_max(v16f a, v16f b) { return F(_mm256_max_ps(a.a, b.a), _mm256_max_ps(a.b, b.b)); }
INLINE v16f f_min(v16f a, v16f b) { return F(_mm256_min_ps(a.a, b.a), _mm256_min_ps(a.b, b.b)); }
INLINE v16f f_abs(v16f x) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    return F(_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b));
}
#define NEAREST (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
INLINE v16f f_round(v16f x) { return F(_mm256_round_ps(x.a, NEAREST), _mm256_round_ps(x.b, NEAREST)); }
INLINE float f_hsum(v16f x) {
    __m256 s = _mm256_add_ps(x.a, x.b);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
INLINE float f_hmax(v16f x) {
    __m256 s = _mm256_max_ps(x.a, x.b);
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}
INLINE v16f f_half(const half *p) {
    return F(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1)));
}
INLINE v16f f_byte(const int8_t *p) {
    __m128i x = _mm_loadu_si128((const __m128i *)p);
    return F(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(x, 8))));
}
INLINE void f_to_half(half *p, v16f x) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x.a, NEAREST));
    _mm_storeu_si128((__m128i *)p + 1, _mm256_cvtps_ph(x.b, NEAREST));
}
INLINE __m256 power8(__m256 x, __m256 whole) { /* in two steps: 2^whole alone may be no normal number */
    __m256i n = _mm256_cvtps_epi32(whole), h = _mm256_srai_epi32(n, 1), bias = _mm256_set1_epi32(127);
    __m256i rest = _mm256_sub_epi32(n, h);
    x = _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(h, bias), 23)));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}
INLINE v16f f_power(v16f x, v16f whole) { return F(power8(x.a, whole.a), power8(x.b, whole.b)); }
INLINE v16f f_unless_below(v16f a, v16f b, v16f x) {
    return F(_mm256_and_ps(_mm256_cmp_ps(a.a, b.a, _CMP_GE_OQ), x.a), _mm256_and_ps(_mm256_cmp_ps(a.b, b.b, _CMP_GE_OQ), x.b));
}
INLINE v16i i_set(int32_t x) { return I(_mm256_set1_epi32(x), _mm256_set1_epi32(x)); }
INLINE v16i i_add(v16i a, v16i b) { return I(_mm256_add_epi32(a.a, b.a), _mm256_add_epi32(a.b, b.b)); }
INLINE v16i i_of(v16f x) { return I(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)); }
INLINE v16f i_to_f(v16i x) { return F(_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)); }
INLINE int32_t i_hsum(v16i x) {
    __m256i s = _mm256_add_epi32(x.a, x.b);
    __m128i q = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    q = _mm_add_epi32(q, _mm_unpackhi_epi64(q, q));
    return _mm_cvtsi128_si32(_mm_add_epi32(q, _mm_shuffle_epi32(q, 1)));
}
INLINE void i_to_bytes(int8_t *p, v16i x) {
    __m128i low = _mm_packs_epi32(_mm256_castsi256_si128(x.a), _mm256_extracti128_si256(x.a, 1));
    __m128i high = _mm_packs_epi32(_mm256_castsi256_si128(x.b), _mm256_extracti128_si256(x.b, 1));
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(low, high));
}
INLINE bytes64 b_load(const uint8_t *p) {
    return I(_mm256_load_si256((const __m256i *)p), _mm256_load_si256((const __m256i *)p + 1));
}
INLINE bytes64 b_low(bytes64 x) {
    __m256i mask = _mm256_set1_epi8(15);
    return I(_mm256_and_si256(x.a, mask), _mm256_and_si256(x.b, mask));
}
INLINE bytes64 b_high(bytes64 x) { return b_low(I(_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4))); }

#ifndef PLAYGROUND_VEC_AVXVNNI_H
#define ISA "avx2"
#define ROWS 4
#define BLOCKS_AHEAD 2 /* 1.3 × as fast as none on an EPYC (docs/engine.md) */
#define NEXT_PANEL 1
#define BIAS8 0

/* A sum is made here and now: compilers would put the additions off, and for want of registers keep what is to be added in
 * memory (gcc 12: 124 moves to and fro among the 418 instructions of a block; docs/engine.md). */
#define KEEP(x) __asm__("" : "+x"(x))

/* Two bytes' products are added in sixteen bits, which 255 · 127 · 2 would not fit: the sign moves to the activation. */
INLINE __m256i signed8(__m256i acc, __m256i w, __m256i a) {
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    KEEP(acc);
    return acc;
}
INLINE v16i dot8(v16i acc, bytes64 w, int32_t a) {
    __m256i x = _mm256_set1_epi32(a);
    return I(signed8(acc.a, w.a, x), signed8(acc.b, w.b, x));
}
/* Products of four bits are small enough for those of a whole block to be added in sixteen: 16 · 15 · 128 < 2^15. */
#define OWN_SUM4
typedef v16i sum4;
INLINE sum4 sum4_zero(void) { return I(_mm256_setzero_si256(), _mm256_setzero_si256()); }
INLINE sum4 dot4(sum4 acc, bytes64 w, int32_t a) {
    __m256i x = _mm256_set1_epi32(a);
    acc = I(_mm256_add_epi16(acc.a, _mm256_maddubs_epi16(w.a, x)), _mm256_add_epi16(acc.b, _mm256_maddubs_epi16(w.b, x)));
    KEEP(acc.a);
    KEEP(acc.b);
    return acc;
}
INLINE v16i sum4_whole(sum4 acc) {
    __m256i one = _mm256_set1_epi16(1);
    return I(_mm256_madd_epi16(acc.a, one), _mm256_madd_epi16(acc.b, one));
}
#endif

#endif
