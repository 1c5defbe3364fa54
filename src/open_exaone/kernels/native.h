// Vectors of 16 floats, loads and stores of float32 and bfloat16, exponentials: shared by all kernels.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <immintrin.h>
#include <initializer_list>

#define EXPORT extern "C" __attribute__((visibility("default")))

// Loops over registers: rolled up, they would go through memory.
#define UNROLLED _Pragma("GCC unroll 16")

using i64 = int64_t;
using Vec = __m512;
constexpr int W = 16;  // floats a vector

struct Bf16 {
    uint16_t bits;
};
enum DType { FLOAT32 = 0, BFLOAT16 = 1 };

static inline Vec vec(float x) { return _mm512_set1_ps(x); }
static inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline __mmask16 first_lanes(i64 n) { return n >= W ? 0xffff : (__mmask16)((1u << (n < 0 ? 0 : n)) - 1); }
static inline float sum(Vec x) { return _mm512_reduce_add_ps(x); }
static inline float top(Vec x) { return _mm512_reduce_max_ps(x); }
// The larger one; not a number if b is: then the trouble shows in the result.
static inline Vec larger(Vec a, Vec b) { return _mm512_max_ps(a, b); }

static inline Vec widen(__m256i bits) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)); }

// Rounds to nearest, ties to even.
static inline __m256i narrow(Vec x) {
#ifdef __AVX512BF16__
    return (__m256i)_mm512_cvtneps_pbh(x);
#else
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    __mmask16 is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, is_nan, _mm512_set1_epi32(0x7fc0)));
#endif
}

static inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
static inline Vec load(const Bf16* p) { return widen(_mm256_loadu_si256((const __m256i*)p)); }
static inline void store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
static inline void store(Bf16* p, Vec x) { _mm256_storeu_si256((__m256i*)p, narrow(x)); }

// The first n of 16, the rest zero; n may be more than 16.
static inline Vec load(const float* p, i64 n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
static inline Vec load(const Bf16* p, i64 n) {
    if (n >= W) return load(p);
    alignas(32) uint16_t some[W] = {};
    std::memcpy(some, p, n * sizeof(Bf16));
    return load((const Bf16*)some);
}
static inline void store(float* p, Vec x, i64 n) { _mm512_mask_storeu_ps(p, first_lanes(n), x); }
static inline void store(Bf16* p, Vec x, i64 n) {
    if (n >= W) return store(p, x);
    alignas(32) uint16_t some[W];
    store((Bf16*)some, x);
    std::memcpy(p, some, n * sizeof(Bf16));
}

// The largest of each of four vectors.
static inline __m128 top_4(const Vec* x) {
    Vec a = larger(_mm512_unpacklo_ps(x[0], x[1]), _mm512_unpackhi_ps(x[0], x[1]));
    Vec b = larger(_mm512_unpacklo_ps(x[2], x[3]), _mm512_unpackhi_ps(x[2], x[3]));
    Vec ab = larger(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));  // in each quarter of lanes
    __m256 half = _mm256_max_ps(_mm512_castps512_ps256(ab), _mm512_extractf32x8_ps(ab, 1));
    return _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// The sum of each of four vectors.
static inline __m128 sum_4(const Vec* x) {
    Vec a = _mm512_add_ps(_mm512_unpacklo_ps(x[0], x[1]), _mm512_unpackhi_ps(x[0], x[1]));
    Vec b = _mm512_add_ps(_mm512_unpacklo_ps(x[2], x[3]), _mm512_unpackhi_ps(x[2], x[3]));
    Vec ab = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(ab), _mm512_extractf32x8_ps(ab, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// log2 x within 2e-7 for x > 0: x = 2^e m with m from 0.75 to 1.5, log m = 2 artanh((m - 1) / (m + 1)).
static inline Vec log2(Vec x) {
    Vec m = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src), e = _mm512_getexp_ps(_mm512_div_ps(x, m));
    Vec t = _mm512_div_ps(_mm512_sub_ps(m, vec(1)), _mm512_add_ps(m, vec(1))), square = _mm512_mul_ps(t, t);
    Vec p = vec(2 / (9 * 0.6931471805599453f));
    for (float odd : {7.0f, 5.0f, 3.0f, 1.0f}) p = fma(p, square, vec(2 / (odd * 0.6931471805599453f)));
    return fma(p, t, e);
}

// 2^x within 2e-7 of itself, 1 at 0, 0 below -149; what is not a number stays so.
static inline Vec exp2(Vec x) {
    x = _mm512_max_ps(vec(-200.0f), x);  // the second operand wins where x is not a number
    Vec whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    Vec f = _mm512_sub_ps(x, whole);
    Vec p = vec(1.3264751e-3f);
    p = fma(p, f, vec(9.6715125e-3f));
    p = fma(p, f, vec(5.5507337e-2f));
    p = fma(p, f, vec(2.4022242e-1f));
    p = fma(p, f, vec(6.9314698e-1f));
    p = fma(p, f, vec(1.0f));
    return _mm512_scalef_ps(p, whole);
}
constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;
