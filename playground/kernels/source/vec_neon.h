/* NEON with dot products (ARMv8.2): four registers are sixteen numbers. Included by vec.h alone.
 *
 * Tests compare its bits under an emulator; its speed was measured on no processor yet.
 */
#ifndef PLAYGROUND_VEC_NEON_H
#define PLAYGROUND_VEC_NEON_H

#include <arm_neon.h>
#include <stdint.h>

#define ISA "neon"
#define ROWS 3
#define GROUPS 1
#define ATT_ROWS 3
#define ATT_VECS 2
#define BIAS8 0

typedef float32x4x4_t v16f;
typedef int32x4x4_t v16i;
typedef uint8x16x4_t bytes64;
#define FOUR(type, expression) \
    type r; \
    for (int i = 0; i < 4; i++) r.val[i] = (expression); \
    return r

INLINE v16f f_set(float x) { FOUR(v16f, vdupq_n_f32(x)); }
INLINE v16f f_load(const float *p) { FOUR(v16f, vld1q_f32(p + 4 * i)); }
INLINE void f_store(float *p, v16f x) {
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, x.val[i]);
}
INLINE v16f f_add(v16f a, v16f b) { FOUR(v16f, vaddq_f32(a.val[i], b.val[i])); }
INLINE v16f f_sub(v16f a, v16f b) { FOUR(v16f, vsubq_f32(a.val[i], b.val[i])); }
INLINE v16f f_mul(v16f a, v16f b) { FOUR(v16f, vmulq_f32(a.val[i], b.val[i])); }
INLINE v16f f_div(v16f a, v16f b) { FOUR(v16f, vdivq_f32(a.val[i], b.val[i])); }
INLINE v16f f_fma(v16f a, v16f b, v16f c) { FOUR(v16f, vfmaq_f32(c.val[i], a.val[i], b.val[i])); }
/* vmaxq_f32 means something else where one is no number or both are zero. */
INLINE v16f f_max(v16f a, v16f b) { FOUR(v16f, vbslq_f32(vcgtq_f32(a.val[i], b.val[i]), a.val[i], b.val[i])); }
INLINE v16f f_min(v16f a, v16f b) { FOUR(v16f, vbslq_f32(vcltq_f32(a.val[i], b.val[i]), a.val[i], b.val[i])); }
INLINE v16f f_abs(v16f x) { FOUR(v16f, vabsq_f32(x.val[i])); }
INLINE v16f f_round(v16f x) { FOUR(v16f, vrndnq_f32(x.val[i])); }
INLINE float f_hsum(v16f x) {
    float32x4_t q = vaddq_f32(vaddq_f32(x.val[0], x.val[2]), vaddq_f32(x.val[1], x.val[3]));
    float32x2_t d = vadd_f32(vget_low_f32(q), vget_high_f32(q));
    return vget_lane_f32(d, 0) + vget_lane_f32(d, 1);
}
INLINE float f_hmax(v16f x) {
    v16f y = x;
    for (int i = 0; i < 4; i++) y.val[i] = x.val[(i + 2) % 4];
    x = f_max(x, y); /* sixteen to eight */
    y.val[0] = x.val[1];
    x = f_max(x, y);
    y.val[0] = vextq_f32(x.val[0], x.val[0], 2);
    x = f_max(x, y);
    y.val[0] = vextq_f32(x.val[0], x.val[0], 1);
    return vgetq_lane_f32(f_max(x, y).val[0], 0);
}
INLINE v16f f_half(const half *p) { FOUR(v16f, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)))); }
INLINE v16f f_byte(const int8_t *p) {
    int16x8_t low = vmovl_s8(vld1_s8(p)), high = vmovl_s8(vld1_s8(p + 8));
    v16f r;
    r.val[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)));
    r.val[1] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(low)));
    r.val[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)));
    r.val[3] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)));
    return r;
}
INLINE void f_to_half(half *p, v16f x) {
    for (int i = 0; i < 4; i++) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.val[i])));
}
INLINE float32x4_t power4(float32x4_t x, float32x4_t whole) { /* in two steps: 2^whole alone may be no normal number */
    int32x4_t n = vcvtnq_s32_f32(whole), h = vshrq_n_s32(n, 1), bias = vdupq_n_s32(127);
    x = vmulq_f32(x, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(h, bias), 23)));
    return vmulq_f32(x, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vsubq_s32(n, h), bias), 23)));
}
INLINE v16f f_power(v16f x, v16f whole) { FOUR(v16f, power4(x.val[i], whole.val[i])); }
INLINE v16f f_unless_below(v16f a, v16f b, v16f x) {
    FOUR(v16f, vbslq_f32(vcgeq_f32(a.val[i], b.val[i]), x.val[i], vdupq_n_f32(0.0f)));
}
INLINE v16i i_set(int32_t x) { FOUR(v16i, vdupq_n_s32(x)); }
INLINE v16i i_add(v16i a, v16i b) { FOUR(v16i, vaddq_s32(a.val[i], b.val[i])); }
/* What has no place becomes the least, as on x86. */
INLINE int32x4_t int4_of(float32x4_t x) {
    uint32x4_t fits = vcltq_f32(vabsq_f32(x), vdupq_n_f32(2147483648.0f));
    return vbslq_s32(fits, vcvtnq_s32_f32(x), vdupq_n_s32(INT32_MIN));
}
INLINE v16i i_of(v16f x) { FOUR(v16i, int4_of(x.val[i])); }
INLINE v16f i_to_f(v16i x) { FOUR(v16f, vcvtq_f32_s32(x.val[i])); }
INLINE int32_t i_hsum(v16i x) {
    return vaddvq_s32(vaddq_s32(vaddq_s32(x.val[0], x.val[1]), vaddq_s32(x.val[2], x.val[3])));
}
INLINE void i_to_bytes(int8_t *p, v16i x) {
    int16x8_t low = vcombine_s16(vqmovn_s32(x.val[0]), vqmovn_s32(x.val[1]));
    int16x8_t high = vcombine_s16(vqmovn_s32(x.val[2]), vqmovn_s32(x.val[3]));
    vst1q_s8(p, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
}
INLINE bytes64 b_load(const uint8_t *p) { FOUR(bytes64, vld1q_u8(p + 16 * i)); }
INLINE bytes64 b_low(bytes64 x) { FOUR(bytes64, vandq_u8(x.val[i], vdupq_n_u8(15))); }
INLINE bytes64 b_high(bytes64 x) { FOUR(bytes64, vshrq_n_u8(x.val[i], 4)); }

INLINE v16i dot4(v16i acc, bytes64 w, int32_t a) {
    int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(a));
    FOUR(v16i, vdotq_s32(acc.val[i], vreinterpretq_s8_u8(w.val[i]), x));
}
INLINE v16i dot8(v16i acc, bytes64 w, int32_t a) { return dot4(acc, w, a); }

#endif
