// Vectors of 16 floats, loads and stores of float32 and bfloat16, exponentials: shared by all kernels.
//
// A Vec is one register with AVX-512 and two without it (AVX2 and FMA), chosen by what the compiler is given with -march.
// The functions have the same names, and add in the same order, so that float32 results agree.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <immintrin.h>

#define EXPORT extern "C" __attribute__((visibility("default")))
// A Vec of two registers would go through memory where a call stays a call.
#define INLINE static inline __attribute__((always_inline))
// Loops over registers: rolled up, they would go through memory.
#define UNROLLED _Pragma("GCC unroll 16")

using i64 = int64_t;
constexpr int W = 16;  // floats a vector
constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;

struct Bf16 {
    uint16_t bits;
};
enum DType { FLOAT32 = 0, BFLOAT16 = 1 };

#ifdef __AVX512F__

using Vec = __m512;  // + - * / come with the compiler

INLINE Vec vec(float x) { return _mm512_set1_ps(x); }
INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
INLINE Vec fnma(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a b
// The larger one; not a number if b is: then the trouble shows in the result.
INLINE Vec larger(Vec a, Vec b) { return _mm512_max_ps(a, b); }

INLINE __mmask16 first_lanes(i64 n) { return n >= W ? 0xffff : (__mmask16)((1u << (n < 0 ? 0 : n)) - 1); }
// Lanes `from` up to `end` of x, the others of `other`; both may be below 0 or above 16.
INLINE Vec pick(Vec x, i64 from, i64 end, Vec other) {
    return _mm512_mask_mov_ps(other, (__mmask16)(first_lanes(end) & ~first_lanes(from)), x);
}

INLINE Vec load(const float* p) { return _mm512_loadu_ps(p); }
INLINE void store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
// The first n of 16, the rest zero; n may be more than 16.
INLINE Vec load(const float* p, i64 n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
INLINE void store(float* p, Vec x, i64 n) { _mm512_mask_storeu_ps(p, first_lanes(n), x); }

INLINE Vec held(Vec x) { return x; }

INLINE __m256 low_half(Vec x) { return _mm512_castps512_ps256(x); }
INLINE __m256 high_half(Vec x) { return _mm512_extractf32x8_ps(x, 1); }
INLINE Vec first_4(__m128 x) { return _mm512_castps128_ps512(x); }  // the rest is anything

// Of each four lanes x0 … x3 of x and y: x0 y0 x1 y1; x2 y2 x3 y3; x0 x1 y0 y1; x2 x3 y2 y3.
INLINE Vec zip_low(Vec x, Vec y) { return _mm512_unpacklo_ps(x, y); }
INLINE Vec zip_high(Vec x, Vec y) { return _mm512_unpackhi_ps(x, y); }
INLINE Vec pairs_low(Vec x, Vec y) { return _mm512_shuffle_ps(x, y, 0x44); }
INLINE Vec pairs_high(Vec x, Vec y) { return _mm512_shuffle_ps(x, y, 0xee); }

INLINE Vec load(const Bf16* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}

// Of 32 bfloat16 those at even places, and those at odd ones.
INLINE Vec widen_even(const void* p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16)); }
INLINE Vec widen_odd(const void* p) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32((int)0xffff0000)));
}

// To bfloat16: rounds to nearest, ties to even.
INLINE __m256i narrow(Vec x) {
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

// x = 2^e m with m from 0.75 to 1.5, for x > 0.
INLINE void split(Vec x, Vec& e, Vec& m) {
    m = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
    e = _mm512_getexp_ps(x / m);
}

// 2^x = 2^whole 2^f with |f| at most 1/2; `power` is the polynomial 2^f.
template <class Power> INLINE Vec exp2_by(Vec x, Power power) {
    x = larger(vec(-200.0f), x);
    const Vec whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm512_scalef_ps(power(x - whole), whole);
}

#else

struct Vec {
    __m256 low, high;
};

INLINE Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
INLINE Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
INLINE Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
INLINE Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }

INLINE Vec vec(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INLINE Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)}; }
INLINE Vec fnma(Vec a, Vec b, Vec c) { return {_mm256_fnmadd_ps(a.low, b.low, c.low), _mm256_fnmadd_ps(a.high, b.high, c.high)}; }
INLINE Vec larger(Vec a, Vec b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }

// All bits of the first n of lanes `from` to `from` + 7.
INLINE __m256i first_lanes(i64 n, int from) {
    const __m256i lanes = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(from));
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n < 0 ? 0 : n > W ? W : n)), lanes);
}
INLINE Vec pick(Vec x, i64 from, i64 end, Vec other) {
    const __m256i low = _mm256_andnot_si256(first_lanes(from, 0), first_lanes(end, 0));
    const __m256i high = _mm256_andnot_si256(first_lanes(from, 8), first_lanes(end, 8));
    return {_mm256_blendv_ps(other.low, x.low, _mm256_castsi256_ps(low)), _mm256_blendv_ps(other.high, x.high, _mm256_castsi256_ps(high))};
}

INLINE Vec load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
INLINE void store(float* p, Vec x) { _mm256_storeu_ps(p, x.low), _mm256_storeu_ps(p + 8, x.high); }
INLINE Vec load(const float* p, i64 n) {
    if (__builtin_expect(n >= W, 1)) return load(p);
    return {_mm256_maskload_ps(p, first_lanes(n, 0)), _mm256_maskload_ps(p + 8, first_lanes(n, 8))};
}
INLINE void store(float* p, Vec x, i64 n) {
    if (__builtin_expect(n >= W, 1)) return store(p, x);
    _mm256_maskstore_ps(p, first_lanes(n, 0), x.low), _mm256_maskstore_ps(p + 8, first_lanes(n, 8), x.high);
}

// Keeps what was loaded in its registers: the compiler would rather load it anew for each product.
INLINE Vec held(Vec x) {
    asm("" : "+x"(x.low), "+x"(x.high));
    return x;
}

INLINE __m256 low_half(Vec x) { return x.low; }
INLINE __m256 high_half(Vec x) { return x.high; }
INLINE Vec first_4(__m128 x) { return {_mm256_castps128_ps256(x), _mm256_setzero_ps()}; }

INLINE Vec zip_low(Vec x, Vec y) { return {_mm256_unpacklo_ps(x.low, y.low), _mm256_unpacklo_ps(x.high, y.high)}; }
INLINE Vec zip_high(Vec x, Vec y) { return {_mm256_unpackhi_ps(x.low, y.low), _mm256_unpackhi_ps(x.high, y.high)}; }
INLINE Vec pairs_low(Vec x, Vec y) { return {_mm256_shuffle_ps(x.low, y.low, 0x44), _mm256_shuffle_ps(x.high, y.high, 0x44)}; }
INLINE Vec pairs_high(Vec x, Vec y) { return {_mm256_shuffle_ps(x.low, y.low, 0xee), _mm256_shuffle_ps(x.high, y.high, 0xee)}; }

// Each half is loaded by itself: of a whole register the compiler would put one half through memory.
INLINE __m256 widen_half(const Bf16* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
INLINE Vec load(const Bf16* p) { return {widen_half(p), widen_half(p + 8)}; }

INLINE __m256 upper_half(const __m256i* p) {
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(p), _mm256_set1_epi32((int)0xffff0000)));
}
INLINE __m256 lower_half(const __m256i* p) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(p), 16)); }
INLINE Vec widen_even(const void* p) { return {lower_half((const __m256i*)p), lower_half((const __m256i*)p + 1)}; }
INLINE Vec widen_odd(const void* p) { return {upper_half((const __m256i*)p), upper_half((const __m256i*)p + 1)}; }

INLINE __m256i narrow_half(__m256 x) {  // 8 numbers of 32 bits, of which the lower 16 count
    const __m256i bits = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), is_nan);
}
INLINE __m256i narrow(Vec x) {
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(narrow_half(x.low), narrow_half(x.high)), 0xd8);
}

INLINE void split_half(__m256 x, __m256& e, __m256& m) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i power = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_castps_si256(_mm256_set1_ps(0.75f))), 23);
    m = _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(power, 23)));
    // Zero is 2^-inf, and what is infinite or no number stays so.
    const __m256 is_plain = _mm256_cmp_ps(x, _mm256_set1_ps(INFINITY), _CMP_LT_OQ), is_zero = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_EQ_OQ);
    e = _mm256_blendv_ps(x, _mm256_cvtepi32_ps(power), is_plain);
    e = _mm256_blendv_ps(e, _mm256_set1_ps(-INFINITY), is_zero);
}
INLINE void split(Vec x, Vec& e, Vec& m) { split_half(x.low, e.low, m.low), split_half(x.high, e.high, m.high); }

// The power of two goes straight into the exponent's bits: exact from 2^-126 on, zero below, infinite from 2^128 on.
INLINE __m256 scaled(__m256 power, __m256 x, __m256i whole) {
    const __m256i bits = _mm256_add_epi32(_mm256_castps_si256(power), _mm256_slli_epi32(whole, 23));
    return _mm256_and_ps(_mm256_castsi256_ps(bits), _mm256_cmp_ps(x, _mm256_set1_ps(-126), _CMP_NLT_UQ));
}
template <class Power> INLINE Vec exp2_by(Vec x, Power power) {
    const __m256 most = _mm256_set1_ps(128);  // the second operand wins where x is not a number
    x = {_mm256_min_ps(most, x.low), _mm256_min_ps(most, x.high)};
    const __m256i low = _mm256_cvtps_epi32(x.low), high = _mm256_cvtps_epi32(x.high);  // to the nearest
    const Vec p = power(x - Vec{_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)});
    return {scaled(p.low, x.low, low), scaled(p.high, x.high, high)};
}

#endif

INLINE void store(Bf16* p, Vec x) { _mm256_storeu_si256((__m256i*)p, narrow(x)); }
INLINE Vec load(const Bf16* p, i64 n) {
    if (n >= W) return load(p);
    alignas(32) uint16_t some[W] = {};
    if (n > 0) std::memcpy(some, p, n * sizeof(Bf16));
    return load((const Bf16*)some);
}
INLINE void store(Bf16* p, Vec x, i64 n) {
    if (n >= W) return store(p, x);
    alignas(32) uint16_t some[W];
    store((Bf16*)some, x);
    if (n > 0) std::memcpy(p, some, n * sizeof(Bf16));
}

// Sums and maxima of lanes go by halves: 16, 8, 4, 2, 1.
INLINE __m128 half_sums(Vec x) {
    const __m256 half = _mm256_add_ps(low_half(x), high_half(x));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
INLINE __m128 half_tops(Vec x) {
    const __m256 half = _mm256_max_ps(low_half(x), high_half(x));
    return _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
INLINE float sum(Vec x) {
    const __m128 four = half_sums(x), two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
INLINE float top(Vec x) {
    const __m128 four = half_tops(x), two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
// The largest of each of four vectors.
INLINE __m128 top_4(const Vec* x) {
    const Vec a = larger(zip_low(x[0], x[1]), zip_high(x[0], x[1])), b = larger(zip_low(x[2], x[3]), zip_high(x[2], x[3]));
    return half_tops(larger(pairs_low(a, b), pairs_high(a, b)));
}
// The sum of each of four vectors.
INLINE __m128 sum_4(const Vec* x) {
    const Vec a = zip_low(x[0], x[1]) + zip_high(x[0], x[1]), b = zip_low(x[2], x[3]) + zip_high(x[2], x[3]);
    return half_sums(pairs_low(a, b) + pairs_high(a, b));
}

// log2 x within 2e-7 for x > 0: with x = 2^e m, log m = 2 artanh((m - 1) / (m + 1)).
INLINE Vec log2(Vec x) {
    Vec e, m;
    split(x, e, m);
    const Vec t = (m - vec(1)) / (m + vec(1)), square = t * t;
    Vec p = vec(2 / (9 * LN2));
    UNROLLED for (int odd = 7; odd > 0; odd -= 2) p = fma(p, square, vec(2 / (odd * LN2)));
    return fma(p, t, e);
}

// 2^x within 2e-7 of itself, 1 at 0, 0 far below (AVX-512: -149; AVX2: -126); what is not a number stays so.
INLINE Vec exp2(Vec x) {
    return exp2_by(x, [](Vec f) __attribute__((always_inline)) {
        Vec p = vec(1.3264751e-3f);
        p = fma(p, f, vec(9.6715125e-3f));
        p = fma(p, f, vec(5.5507337e-2f));
        p = fma(p, f, vec(2.4022242e-1f));
        p = fma(p, f, vec(6.9314698e-1f));
        return fma(p, f, vec(1.0f));
    });
}
INLINE __m128 exp2_4(__m128 x) { return _mm256_castps256_ps128(low_half(exp2(first_4(x)))); }
