// Blocks of 64 tokens of one head in the layouts that products want, and the one product that attention is made of.
//
// A word is what one broadcast feeds to all lanes: two bfloat16 that are multiplied and added together (Pairs), or one
// float (Singles). PACK is how many numbers a word holds. Three layouts of a block of rows x H numbers:
//   natural     [row][H / PACK] words, as in memory
//   transposed  [H / PACK][64]: for products over H, lanes are rows
//   layered     [row / PACK][H]: for products over rows, lanes are channels; a word holds the numbers of PACK rows
#pragma once
#include "native.h"

constexpr int BLOCK = 64;

struct Singles {
    using Word = float;
    static constexpr int PACK = 1;
    static Vec dot(Vec sum, Word a, Vec b) { return fma(vec(a), b, sum); }
    static Vec words(const Word* p) { return load(p); }
    template <class In> static void copy_row(const In* from, Word* to, i64 H) {
        for (i64 h = 0; h < H; h += W) store(to + h, load(from + h));
    }
    static void layer(const Word* natural, Word* layered, i64 H, i64 rows) {
        std::memcpy(layered, natural, rows * H * sizeof(Word));
    }
    // V vectors of one row, as words along the row.
    template <int V> static void put_row(Word* p, const Vec* x) {
        UNROLLED for (int c = 0; c < V; c++) store(p + c * W, x[c]);
    }
    // Rows 0 to 3 of one vector each, PACK rows a word, words `step` apart.
    static void put_layers(Word* p, i64 step, Vec x0, Vec x1, Vec x2, Vec x3) {
        store(p, x0), store(p + step, x1), store(p + 2 * step, x2), store(p + 3 * step, x3);
    }
};

#ifdef __AVX512BF16__
struct Pairs {
    using Word = uint32_t;
    static constexpr int PACK = 2;
    static Vec dot(Vec sum, Word a, Vec b) {
        return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(a), (__m512bh)_mm512_castps_si512(b));
    }
    static Vec words(const Word* p) { return _mm512_loadu_ps(p); }
    static void copy_row(const Bf16* from, Word* to, i64 H) {
        for (i64 h = 0; h < H; h += W) _mm256_storeu_si256((__m256i*)(to + h / 2), _mm256_loadu_si256((const __m256i*)(from + h)));
    }
    static __m512i shuffle() {
        alignas(64) static const uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
        return _mm512_load_si512(order);
    }
    static void layer(const Word* natural, Word* layered, i64 H, i64 rows) {
        const __m512i order = shuffle();
        for (i64 row = 0; row < rows; row += 2)
            for (i64 h = 0; h < H; h += W) {
                const Word* from = natural + row * (H / 2) + h / 2;
                __m512i both = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i*)from));
                both = _mm512_inserti64x4(both, _mm256_loadu_si256((const __m256i*)(from + H / 2)), 1);
                _mm512_storeu_si512(layered + (row / 2) * H + h, _mm512_permutexvar_epi16(order, both));
            }
    }
    template <int V> static void put_row(Word* p, const Vec* x) {
        UNROLLED for (int c = 0; c + 1 < V; c += 2) _mm512_storeu_si512(p + c * 8, (__m512i)_mm512_cvtne2ps_pbh(x[c + 1], x[c]));
        if (V % 2) _mm256_storeu_si256((__m256i*)(p + (V - 1) * 8), (__m256i)_mm512_cvtneps_pbh(x[V - 1]));
    }
    static void put_layers(Word* p, i64 step, Vec x0, Vec x1, Vec x2, Vec x3) {
        const __m512i order = shuffle();
        _mm512_storeu_si512(p, _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(x1, x0)));
        _mm512_storeu_si512(p + step, _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(x3, x2)));
    }
};
#endif

// Copies `rows` rows, `stride` numbers apart, into a natural block, and zeros up to row `filled`.
template <class M, class In>
static void take_rows(const In* from, i64 stride, i64 rows, i64 filled, i64 H, typename M::Word* natural) {
    const i64 words = H / M::PACK;
    for (i64 row = 0; row < rows; row++) M::copy_row(from + row * stride, natural + row * words, H);
    std::memset((void*)(natural + rows * words), 0, (filled - rows) * words * sizeof(*natural));
}

// transpose_16: 16 rows of 16 words, `stride` apart, into 16 columns, BLOCK apart; of the words only the first `n`.
#ifndef __AVX512F__
// 4 words of 16 rows.
static inline void transpose_16x4(const float* from, i64 stride, float* to) {
    Vec x[4], y[4];
    const auto rows = [&](i64 row) {  // rows `row` and `row` + 4 side by side
        return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from + row * stride)), _mm_loadu_ps(from + (row + 4) * stride), 1);
    };
    UNROLLED for (int i = 0; i < 4; i++) x[i] = {rows(i), rows(8 + i)};
    UNROLLED for (int i = 0; i < 4; i += 2) y[i] = zip_low(x[i], x[i + 1]), y[i + 1] = zip_high(x[i], x[i + 1]);
    store(to, pairs_low(y[0], y[2])), store(to + BLOCK, pairs_high(y[0], y[2]));
    store(to + 2 * BLOCK, pairs_low(y[1], y[3])), store(to + 3 * BLOCK, pairs_high(y[1], y[3]));
}
static inline void transpose_16(const float* from, i64 stride, float* to, i64) {  // a word is a float: there are 16 at least
    for (i64 word = 0; word < W; word += 4) transpose_16x4(from + word, stride, to + word * BLOCK);
}
#else
static inline void transpose_16(const float* from, i64 stride, float* to, i64 n) {
    __m512i x[16], y[16];
    UNROLLED for (int i = 0; i < 16; i++) x[i] = _mm512_castps_si512(load(from + i * stride, n));
    UNROLLED for (int i = 0; i < 16; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    UNROLLED for (int i = 0; i < 16; i += 4) {
        x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    UNROLLED for (int i = 0; i < 4; i++) {  // x[4 j + i] holds rows 4 j to 4 j + 3 of columns i, 4 + i, 8 + i, 12 + i
        __m512i low = _mm512_shuffle_i32x4(x[i], x[4 + i], 0x88), low2 = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0x88);
        __m512i odd = _mm512_shuffle_i32x4(x[i], x[4 + i], 0xdd), odd2 = _mm512_shuffle_i32x4(x[8 + i], x[12 + i], 0xdd);
        y[i] = _mm512_shuffle_i32x4(low, low2, 0x88);
        y[8 + i] = _mm512_shuffle_i32x4(low, low2, 0xdd);
        y[4 + i] = _mm512_shuffle_i32x4(odd, odd2, 0x88);
        y[12 + i] = _mm512_shuffle_i32x4(odd, odd2, 0xdd);
    }
    UNROLLED for (int i = 0; i < 16; i++)
        if (i < n) _mm512_storeu_si512(to + i * BLOCK, y[i]);
}
#endif

// A natural block into a transposed one; rows in sixteens.
template <class Word> static void transpose(const Word* natural, i64 words, i64 rows, Word* transposed) {
    for (i64 row = 0; row < rows; row += W)
        for (i64 w = 0; w < words; w += W)
            transpose_16((const float*)natural + row * words + w, words, (float*)transposed + w * BLOCK + row, words - w);
}

// Rows and columns of sums that the registers hold beside what is multiplied.
#ifdef __AVX512F__
constexpr int HELD_ROWS = 8, HELD_COLUMNS = 3;
#else
constexpr int HELD_ROWS = 4, HELD_COLUMNS = 1;
#endif

// sums[r][c] += Σ_i a[r a_row + i a_step] · b[i b_step + 16 c …]: R rows of broadcast words, C vectors of lanes.
template <class M, int R, int C>
INLINE void multiply(Vec (&sums)[R][C], const typename M::Word* a, i64 a_row, i64 a_step, const typename M::Word* b, i64 b_step, i64 n) {
    if constexpr (R * C > HELD_ROWS * HELD_COLUMNS) {
        UNROLLED for (int c = 0; c < C; c++) {
            Vec column[R][1];
            UNROLLED for (int r = 0; r < R; r++) column[r][0] = sums[r][c];
            multiply<M, R, 1>(column, a, a_row, a_step, b + c * W, b_step, n);
            UNROLLED for (int r = 0; r < R; r++) sums[r][c] = column[r][0];
        }
        return;
    }
    for (i64 i = 0; i < n; i++, a += a_step, b += b_step) {
        Vec lanes[C];
        UNROLLED for (int c = 0; c < C; c++) lanes[c] = held(M::words(b + c * W));
        UNROLLED for (int r = 0; r < R; r++)
            UNROLLED for (int c = 0; c < C; c++) sums[r][c] = M::dot(sums[r][c], a[r * a_row], lanes[c]);
    }
}

template <class M, int C>
static void accumulate_columns(float* sums, i64 width, const float* factors, bool is_first, const typename M::Word* a,
                               i64 a_row, i64 a_step, const typename M::Word* b, i64 b_step, i64 n) {
    Vec x[HELD_ROWS][C];
    UNROLLED for (int r = 0; r < HELD_ROWS; r++)
        UNROLLED for (int c = 0; c < C; c++) x[r][c] = is_first ? vec(0) : load(sums + r * width + c * W);
    if (factors)
        UNROLLED for (int r = 0; r < HELD_ROWS; r++)
            UNROLLED for (int c = 0; c < C; c++) x[r][c] = x[r][c] * vec(factors[r]);
    multiply<M, HELD_ROWS, C>(x, a, a_row, a_step, b, b_step, n);
    UNROLLED for (int r = 0; r < HELD_ROWS; r++)
        UNROLLED for (int c = 0; c < C; c++) store(sums + r * width + c * W, x[r][c]);
}

constexpr int ROWS = 8;  // rows that one call of `accumulate` adds to

// sums [8][H] = sums · factors (1 where null; zeros if it is the first time) + a b, over all H columns of b.
template <class M>
static void accumulate(float* sums, i64 H, const float* factors, bool is_first, const typename M::Word* a, i64 a_row,
                       i64 a_step, const typename M::Word* b, i64 n) {
    for (i64 h = 0, left = H / W; left;) {
        const i64 columns = HELD_COLUMNS == 1 ? 1 : left == 4 ? 2 : left < 3 ? left : 3;
        auto add = columns == 1 ? accumulate_columns<M, 1> : columns == 2 ? accumulate_columns<M, 2> : accumulate_columns<M, 3>;
        for (i64 row = 0; row < ROWS; row += HELD_ROWS)
            add(sums + row * H + h, H, factors ? factors + row : nullptr, is_first, a + row * a_row, a_row, a_step, b + h, H, n);
        h += columns * W, left -= columns;
    }
}
