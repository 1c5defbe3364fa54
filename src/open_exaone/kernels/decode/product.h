// The product of activations with a packed matrix: out[row][channel] = Σ_k a[row][k] w[channel][k], float32.
#pragma once
#include "matrix.h"
#include "team.h"
#include "tiles.h"

#ifdef __AVX512F__
constexpr int MOST_ROWS = 12, MOST_VECS = 24;  // of one tile of sums; 32 registers
#else
constexpr int MOST_ROWS = 6, MOST_VECS = 5;  // 16 registers, two a vector: 3 rows of 2 panels are too many
#endif
#define MEMBER inline __attribute__((always_inline))
constexpr i64 DEEP = 512;  // inputs at a time: a panel's part stays in the first cache
constexpr i64 NEAR = 16 << 10;  // bytes of activations that stay there

// sums[r][c] += a[r] · lanes(c), in an order of loops for which there are registers.
template <int R, int C, class Lanes> INLINE void add_products(Vec (&sums)[R][C], const float* a, i64 a_row, Lanes lanes) {
#ifdef __AVX512F__
    Vec all[C];
    UNROLLED for (int c = 0; c < C; c++) all[c] = lanes(c);
    UNROLLED for (int r = 0; r < R; r++) {
        const Vec x = vec(a[r * a_row]);
        UNROLLED for (int c = 0; c < C; c++) sums[r][c] = fma(x, all[c], sums[r][c]);
    }
#else
    UNROLLED for (int c = 0; c < C; c++) {
        const Vec some = R > 1 ? held(lanes(c)) : lanes(c);  // or the compiler loads it again for every row
        UNROLLED for (int r = 0; r < R; r++) sums[r][c] = fma(vec(a[r * a_row]), some, sums[r][c]);
    }
#endif
}

// How a kind of weights is multiplied: the activations' type, and the steps of `STEP` inputs.
struct Floats {
    using In = float;
    static constexpr int STEP = 1;
    template <int R, int C>
    INLINE void add(Vec (&sums)[R][C], const float* a, i64 a_row, const char* b, i64 panel_bytes) {
        add_products(sums, a, a_row, [&](int c) __attribute__((always_inline)) { return load((const float*)(b + c * panel_bytes)); });
    }
};

#ifdef __AVX512BF16__
struct Halves {  // two products a step and lane
    using In = Bf16;
    static constexpr int STEP = 2;
    template <int R, int C>
    INLINE void add(Vec (&sums)[R][C], const Bf16* a, i64 a_row, const char* b, i64 panel_bytes) {
        __m512bh lanes[C];
        UNROLLED for (int c = 0; c < C; c++) lanes[c] = (__m512bh)_mm512_loadu_si512(b + c * panel_bytes);
        UNROLLED for (int r = 0; r < R; r++) {
            uint32_t two;
            std::memcpy(&two, a + r * a_row, 4);
            const __m512bh x = (__m512bh)_mm512_set1_epi32((int)two);
            UNROLLED for (int c = 0; c < C; c++) sums[r][c] = _mm512_dpbf16_ps(sums[r][c], x, lanes[c]);
        }
    }
};
#else
struct Halves {  // bfloat16 weights are widened, activations stay float32
    using In = float;
    static constexpr int STEP = 2;
    template <int R, int C>
    INLINE void add(Vec (&sums)[R][C], const float* a, i64 a_row, const char* b, i64 panel_bytes) {
        add_products(sums, a, a_row, [&](int c) __attribute__((always_inline)) { return widen_even(b + c * panel_bytes); });
        add_products(sums, a + 1, a_row, [&](int c) __attribute__((always_inline)) { return widen_odd(b + c * panel_bytes); });
    }
};
#endif

// Meanwhile fetches the panel that begins at `ahead` from memory, unless that is null.
template <class M, int R, int C>
static void tile(const typename M::In* a, i64 a_row, const char* b, i64 panel_bytes, i64 steps, bool is_first, float* out, i64 out_row,
                 const char* ahead) {
    Vec sums[R][C];
    UNROLLED for (int r = 0; r < R; r++)
        UNROLLED for (int c = 0; c < C; c++) sums[r][c] = is_first ? vec(0) : load(out + r * out_row + c * W);
    constexpr i64 bytes = M::STEP * W * (std::is_same<M, Floats>::value ? 4 : 2);
    for (i64 i = 0; i < steps; i++) {
        if (ahead) _mm_prefetch(ahead + i * bytes, _MM_HINT_T0);
        M::template add<R, C>(sums, a + i * M::STEP, a_row, b + i * bytes, panel_bytes);
    }
    UNROLLED for (int r = 0; r < R; r++)
        UNROLLED for (int c = 0; c < C; c++) store(out + r * out_row + c * W, sums[r][c]);
}

template <class M> using Tile = void (*)(const typename M::In*, i64, const char*, i64, i64, bool, float*, i64, const char*);

// Few rows take several panels at once, so that there are enough sums to add to.
INLINE constexpr i64 panels_at_once(i64 rows) { return std::min<i64>(4, std::max<i64>(1, MOST_VECS / rows)); }
template <class M, int R> static Tile<M> tile_of_rows(i64 panels) {
    constexpr i64 most = panels_at_once(R);
    if constexpr (most >= 4) if (panels == 4) return tile<M, R, 4>;
    if constexpr (most >= 3) if (panels == 3) return tile<M, R, 3>;
    if constexpr (most >= 2) if (panels == 2) return tile<M, R, 2>;
    return tile<M, R, 1>;
}
template <class M> static Tile<M> tile_for(i64 rows, i64 panels) {
    switch (rows) {
        case 1: return tile_of_rows<M, 1>(panels);
        case 2: return tile_of_rows<M, 2>(panels);
        case 3: return tile_of_rows<M, 3>(panels);
        case 4: return tile_of_rows<M, 4>(panels);
        case 5: return tile_of_rows<M, 5>(panels);
        case 6: return tile_of_rows<M, 6>(panels);
#ifdef __AVX512F__
        case 7: return tile_of_rows<M, 7>(panels);
        case 8: return tile_of_rows<M, 8>(panels);
        case 9: return tile_of_rows<M, 9>(panels);
        case 10: return tile_of_rows<M, 10>(panels);
        case 11: return tile_of_rows<M, 11>(panels);
        default: return tile_of_rows<M, 12>(panels);
#else
        default: return tile_of_rows<M, 6>(panels);
#endif
    }
}

// Rows first to end, panels from to to.
template <class M>
static void multiply(const typename M::In* a, i64 a_row, i64 first, i64 end, const Matrix& w, i64 from, i64 to, float* out) {
    const i64 rows_at_once = std::max<i64>(MOST_ROWS, (256 << 10) / (i64)(std::min(w.depth, DEEP) * sizeof(typename M::In)));
    const i64 out_row = w.width(), value_bytes = Matrix::value_bytes(w.kind);
    // A panel that only one tile reads is read from end to end, as memory is fastest.
    const i64 num = end - first, deep = num <= MOST_ROWS ? std::max<i64>(DEEP, NEAR / (num * sizeof(typename M::In)) / GROUP * GROUP) : DEEP;
    for (i64 block = first; block < end; block += rows_at_once)
        for (i64 k = 0; k < w.depth; k += deep) {
            const i64 block_end = std::min(end, block + rows_at_once), steps = std::min(deep, w.depth - k) / M::STEP;
            // Tiles of nearly equal height: 7 rows are 4 and 3, not 6 and 1.
            const i64 height = block_end - block, tiles = (height + MOST_ROWS - 1) / MOST_ROWS;
            for (i64 p = from; p < to;) {
                const i64 panels = std::min(panels_at_once((height + tiles - 1) / tiles), to - p);
                const auto part = [&](i64 panel) { return w.panel(panel) + k * W * value_bytes; };
                for (i64 t = 0; t < tiles; t++) {
                    // Each tile fetches one of the next panels. A single tile reads as fast as memory gives.
                    const bool fetches = tiles > 1 && t < panels && p + panels + t < to;
                    const i64 row = block + height * t / tiles, rows = block + height * (t + 1) / tiles - row;
                    tile_for<M>(rows, panels)(a + row * a_row + k, a_row, part(p), w.panel_bytes(), steps, k == 0,
                                              out + row * out_row + p * W, out_row, fetches ? part(p + panels + t) : nullptr);
                }
                p += panels;
            }
        }
}

// Activations of one row, rounded to 8 bits in groups of 32, as INT8 weights are.
struct Bytes {
    std::vector<int8_t> values;
    std::vector<float> scales;
    std::vector<int32_t> offsets;  // -128 times the group's sum, where weights are taken as unsigned
    i64 depth = 0;
    void take(const float* a, i64 a_row, i64 rows, i64 K) {
        depth = K;
        values.resize(rows * K), scales.resize(rows * K / GROUP), offsets.resize(rows * K / GROUP);
        for (i64 g = 0; g < rows * K / GROUP; g++) {
            const float* from = a + g / (K / GROUP) * a_row + g % (K / GROUP) * GROUP;
            float largest = 0, odd = 0;  // odd is NaN where one is not finite
            for (i64 k = 0; k < GROUP; k++) largest = std::max(largest, std::abs(from[k])), odd += from[k] - from[k];
            const float inverse = largest > 0 ? 127 / largest : 0;
            int32_t sum = 0;
            for (i64 k = 0; k < GROUP; k++) sum += values[g * GROUP + k] = (int8_t)std::nearbyint(from[k] * inverse);
            scales[g] = largest / 127 + odd, offsets[g] = -128 * sum;
        }
    }
};

#ifdef __AVX512F__
constexpr int MOST_BYTE_ROWS = 6, BYTE_PANELS = 2;
#else
constexpr int MOST_BYTE_ROWS = 2, BYTE_PANELS = 1;
#endif

// Four products a lane: the sums of 32 of them are whole numbers, so their order is of no account.
#ifdef __AVX512F__
struct Sums {
    __m512i x;
    INLINE Sums from(int32_t offset) {
#ifdef __AVX512VNNI__
        return {_mm512_set1_epi32(offset)};
#else
        return {_mm512_setzero_si512()};
#endif
    }
    MEMBER void add(const int8_t* w, int32_t four) {
        const __m512i a = _mm512_set1_epi32(four), b = _mm512_loadu_si512(w);
#ifdef __AVX512VNNI__
        x = _mm512_dpbusd_epi32(x, _mm512_xor_si512(b, _mm512_set1_epi8((char)0x80)), a);
#else
        const __m512i turned = _mm512_mask_sub_epi8(a, _mm512_movepi8_mask(b), _mm512_setzero_si512(), a);
        x = _mm512_add_epi32(x, _mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_abs_epi8(b), turned), _mm512_set1_epi16(1)));
#endif
    }
    MEMBER Vec floats() const { return _mm512_cvtepi32_ps(x); }
};
#else
struct Sums {
    __m256i low, high;
    INLINE Sums from(int32_t) { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
    INLINE __m256i dot(__m256i w, __m256i a) {
        return _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w)), _mm256_set1_epi16(1));
    }
    MEMBER void add(const int8_t* w, int32_t four) {
        const __m256i a = _mm256_set1_epi32(four);
        low = _mm256_add_epi32(low, dot(_mm256_loadu_si256((const __m256i*)w), a));
        high = _mm256_add_epi32(high, dot(_mm256_loadu_si256((const __m256i*)(w + 32)), a));
    }
    MEMBER Vec floats() const { return {_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)}; }
};
#endif

template <int R, int C> static void byte_tile(const Bytes& a, i64 row, const Matrix& w, i64 p, float* out) {
    Vec sums[R][C];
    UNROLLED for (int r = 0; r < R; r++)
        UNROLLED for (int c = 0; c < C; c++) sums[r][c] = vec(0);
    const i64 groups = a.depth / GROUP;
    for (i64 g = 0; g < groups; g++) {
        Sums whole[R][C];
        UNROLLED for (int r = 0; r < R; r++)
            UNROLLED for (int c = 0; c < C; c++) whole[r][c] = Sums::from(a.offsets[(row + r) * groups + g]);
        for (i64 k = g * GROUP; k < (g + 1) * GROUP; k += 4)
            UNROLLED for (int r = 0; r < R; r++) {
                int32_t four;
                std::memcpy(&four, &a.values[(row + r) * a.depth + k], 4);
                UNROLLED for (int c = 0; c < C; c++) whole[r][c].add((const int8_t*)w.panel(p + c) + k * W, four);
            }
        UNROLLED for (int c = 0; c < C; c++) {
            const Vec scale = load(w.panel_scales(p + c) + g * W);
            UNROLLED for (int r = 0; r < R; r++)
                sums[r][c] = fma(whole[r][c].floats(), scale * vec(a.scales[(row + r) * groups + g]), sums[r][c]);
        }
    }
    UNROLLED for (int r = 0; r < R; r++)
        UNROLLED for (int c = 0; c < C; c++) store(out + (row + r) * w.width() + (p + c) * W, sums[r][c]);
}

template <int C> static void byte_rows(const Bytes& a, i64 row, i64 rows, const Matrix& w, i64 p, float* out) {
    switch (rows) {
        case 1: return byte_tile<1, C>(a, row, w, p, out);
#ifdef __AVX512F__
        case 3: return byte_tile<3, C>(a, row, w, p, out);
        case 4: return byte_tile<4, C>(a, row, w, p, out);
        case 5: return byte_tile<5, C>(a, row, w, p, out);
        case 6: return byte_tile<6, C>(a, row, w, p, out);
#endif
        default: return byte_tile<2, C>(a, row, w, p, out);
    }
}

// `a` holds rows first to end, as its rows 0, 1, …
static void multiply(const Bytes& a, i64 rows, const Matrix& w, i64 from, i64 to, float* out) {
    for (i64 p = from; p < to;) {
        const i64 panels = BYTE_PANELS == 2 || rows == 1 ? std::min<i64>(2, to - p) : 1;
        for (i64 row = 0; row < rows; row += MOST_BYTE_ROWS) {
            const i64 some = std::min<i64>(MOST_BYTE_ROWS, rows - row);
            if (panels == 2) byte_rows<2>(a, row, some, w, p, out);
            else byte_rows<1>(a, row, some, w, p, out);
        }
        p += panels;
    }
}

// What a thread turns activations into before a product.
struct Converted {
    std::vector<Bf16> halves;
    Bytes bytes;
    void take(const float* a, i64 a_row, i64 rows, const Matrix& w) {
        if (w.kind == INT8) bytes.take(a, a_row, rows, w.depth);
#ifdef __AVX512BF16__
        if (w.kind != BFLOAT16) return;
        halves.resize(up(rows, W) * w.depth);
        for (i64 row = 0; row < rows; row++)
            for (i64 k = 0; k < w.depth; k += W) store(halves.data() + row * w.depth + k, load(a + row * a_row + k));
#endif
    }
};

constexpr i64 ROWS_A_THREAD = 16;  // with fewer, threads share the panels of a matrix out, else the rows
constexpr i64 PANELS_A_TURN = 4;   // an even number, so that gate and up of a channel stay together

// Rows first to end, panels from to to, of out = a wᵀ; `own` holds the rows as the product wants them.
static void multiply(const float* a, i64 a_row, i64 first, i64 end, const Matrix& w, i64 from, i64 to, float* out, const Converted& own) {
    float* const rows = out + first * w.width();
    if (w.kind == INT8) return multiply(own.bytes, end - first, w, from, to, rows);
    if (w.kind == FLOAT32) return multiply<Floats>(a, a_row, first, end, w, from, to, out);
#ifdef TILES
    multiply_tiles(own.halves.data(), end - first, w, from, to, rows);
#elif defined(__AVX512BF16__)
    multiply<Halves>(own.halves.data(), w.depth, 0, end - first, w, from, to, rows);
#else
    multiply<Halves>(a, a_row, first, end, w, from, to, out);
#endif
}

// A member's share of out = a wᵀ. a has w.depth numbers a row, zeros behind K. Of few rows, members take panels in turns.
// `then` is called with the rows and the panels that are done.
template <class Then>
static void product(const Member& me, const float* a, i64 a_row, i64 rows, const Matrix& w, float* out, Converted& own, Then then) {
    const bool by_rows = rows >= ROWS_A_THREAD * me.team->size;
    const i64 first = by_rows ? me.first(rows) : 0, end = by_rows ? me.end(rows) : rows;
    if (first == end) return;
    own.take(a + first * a_row, a_row, end - first, w);
    const auto compute = [&](i64 from, i64 to) {
        multiply(a, a_row, first, end, w, from, to, out, own);
        then(first, end, from, to);
    };
    if (by_rows || me.team->size == 1) return compute(0, w.panels());
    me.take_turns((w.panels() + PANELS_A_TURN - 1) / PANELS_A_TURN,
                  [&](i64 i) { compute(i * PANELS_A_TURN, std::min((i + 1) * PANELS_A_TURN, w.panels())); });
}
static void product(const Member& me, const float* a, i64 a_row, i64 rows, const Matrix& w, float* out, Converted& own) {
    product(me, a, a_row, rows, w, out, own, [](i64, i64, i64, i64) {});
}
