/* AVX2 with VNNI, as AVX-VNNI or as a part of AVX-512: AVX2 but for the products of bytes. Included by vec.h alone. */
#ifndef PLAYGROUND_VEC_AVXVNNI_H
#define PLAYGROUND_VEC_AVXVNNI_H

#include "vec_avx2.h"

#define ISA "avx2_vnni"
#define ROWS 3
#define BIAS8 128 /* weights are unsigned */
#if defined(__AVXVNNI__)
#define DPBUSD _mm256_dpbusd_avx_epi32
#else
#define DPBUSD _mm256_dpbusd_epi32
#endif

INLINE v16i dot8(v16i acc, bytes64 w, int32_t a) {
    __m256i x = _mm256_set1_epi32(a);
    return I(DPBUSD(acc.a, w.a, x), DPBUSD(acc.b, w.b, x));
}
INLINE v16i dot4(v16i acc, bytes64 w, int32_t a) { return dot8(acc, w, a); }

#endif
