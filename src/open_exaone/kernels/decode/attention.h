// Attention of queries over a sequence's cached keys and values, which lie in blocks of 16 positions.
//
// A block holds, for each layer and head, the keys [H][16] (lanes are positions) and the values [16][H]. The softmax goes
// on in chunks of 64 positions that begin at multiples of 64: a query's sums are taken in one order, whichever queries
// are computed beside it.
#pragma once
#include "matrix.h"

constexpr i64 BLOCK = 16, CHUNK = 64;
#define APART static __attribute__((noinline))
constexpr float LOWEST = -1e30f;  // below every score

// The blocks of one sequence as a layer and a head see them.
template <class E> struct Blocks {
    char* pool;            // where the layer's and head's part of block 0 begins
    i64 block_bytes, H;
    const int32_t* table;
    E* keys(i64 position) const { return (E*)(pool + table[position / BLOCK] * block_bytes); }
    E* values(i64 position) const { return keys(position) + H * BLOCK; }

    // Fetches one of a block's 2 H parts from memory: the processor's own foresight ends with the page.
    void fetch(i64 position, i64 part) const {
        for (size_t at = 0; at < BLOCK * sizeof(E); at += 64) _mm_prefetch((const char*)(keys(position) + part * BLOCK) + at, _MM_HINT_T1);
    }

    void store_row(i64 position, const float* k, const float* v) const {
        E* to = keys(position) + position % BLOCK;
        for (i64 h = 0; h < H; h++) put(to + h * BLOCK, k[h]);
        E* row = values(position) + position % BLOCK * H;
        for (i64 h = 0; h < H; h += W) store(row + h, load(v + h));
    }

  private:
    static void put(float* to, float x) { *to = x; }
    static void put(Bf16* to, float x) { *to = as_bf16(x); }
};

// A function of its own: inlined, the compiler runs out of registers for the sums.
template <class E, int R, int C>
APART void add_values(const float (&weights)[R][CHUNK], const float* factors, const Blocks<E>& blocks, i64 chunk, i64 from, i64 to, i64 h,
                       float* const* out) {
    Vec x[R][C];
    UNROLLED for (int r = 0; r < R; r++)
        UNROLLED for (int c = 0; c < C; c++) x[r][c] = load(out[r] + h + c * W) * vec(factors[r]);
    for (i64 s = from; s < to;) {
        const i64 end = std::min(to, s / BLOCK * BLOCK + BLOCK);
        const E* row = blocks.values(chunk + s) + s % BLOCK * blocks.H + h;
        for (; s < end; s++, row += blocks.H) {
            Vec v[C];
            UNROLLED for (int c = 0; c < C; c++) v[c] = R > 1 ? held(load(row + c * W)) : load(row + c * W);
            UNROLLED for (int r = 0; r < R; r++)
                UNROLLED for (int c = 0; c < C; c++) x[r][c] = fma(vec(weights[r][s]), v[c], x[r][c]);
        }
    }
    UNROLLED for (int r = 0; r < R; r++)
        UNROLLED for (int c = 0; c < C; c++) store(out[r] + h + c * W, x[r][c]);
}

// R queries, scaled by log2 e / √H; each sees its own position and those before it, at most `window` where that is not 0.
template <class E, int R>
static void attend_rows(const float* const* q, const i64* positions, i64 window, const Blocks<E>& blocks, float* const* out) {
    const i64 H = blocks.H, last = *std::max_element(positions, positions + R);
    const i64 start = window ? std::max<i64>(0, *std::min_element(positions, positions + R) - window + 1) : 0;
    float highest[R], totals[R], factors[R];
    alignas(64) float scores[R][CHUNK];
    for (int r = 0; r < R; r++) {
        highest[r] = LOWEST, totals[r] = 0;
        std::memset(out[r], 0, H * sizeof(float));
    }
    for (i64 chunk = start / CHUNK * CHUNK; chunk <= last; chunk += CHUNK) {
        const i64 from = std::max<i64>(0, start - chunk), to = std::min(CHUNK, last + 1 - chunk);
        for (i64 s = 0; s < CHUNK; s += BLOCK) {
            Vec x[R];
            UNROLLED for (int r = 0; r < R; r++) x[r] = vec(0);
            if (s < to && s + BLOCK > from) {
                const E* keys = blocks.keys(chunk + s);
                const i64 ahead = chunk + s + CHUNK;
                for (i64 h = 0; h < H; h++) {
                    if (ahead <= last) blocks.fetch(ahead, h), blocks.fetch(ahead, H + h);
                    const Vec k = R > 1 ? held(load(keys + h * BLOCK)) : load(keys + h * BLOCK);
                    UNROLLED for (int r = 0; r < R; r++) x[r] = fma(vec(q[r][h]), k, x[r]);
                }
            }
            UNROLLED for (int r = 0; r < R; r++) {
                const i64 position = positions[r] - chunk - s;
                store(scores[r] + s, pick(x[r], window ? position - window + 1 : 0, position + 1, vec(-INFINITY)));
            }
        }
        for (int r = 0; r < R; r++) {
            Vec x[CHUNK / W], most = vec(highest[r]), total = vec(0);
            for (int i = 0; i < CHUNK / W; i++) x[i] = load(scores[r] + i * W), most = larger(most, x[i]);
            const float now = top(most);
            for (int i = 0; i < CHUNK / W; i++) {
                x[i] = exp2(x[i] - vec(now));
                total = total + x[i];
                store(scores[r] + i * W, x[i]);
            }
            alignas(64) float factor[W];
            store(factor, exp2(vec(highest[r] - now)));
            factors[r] = factor[0];
            totals[r] = totals[r] * factors[r] + sum(total);
            highest[r] = now;
        }
#ifdef __AVX512F__
        constexpr int C = 4;
#else
        constexpr int C = std::max(1, 4 / R);
#endif
        i64 h = 0;
        for (; h + C * W <= H; h += C * W) add_values<E, R, C>(scores, factors, blocks, chunk, from, to, h, out);
        for (; h < H; h += W) add_values<E, R, 1>(scores, factors, blocks, chunk, from, to, h, out);
    }
    for (int r = 0; r < R; r++) {
        const Vec inverse = vec(1 / totals[r]);
        for (i64 h = 0; h < H; h += W) store(out[r] + h, load(out[r] + h) * inverse);
    }
}

// Any number of queries of one head.
template <class E>
static void attend(const float* const* q, const i64* positions, i64 num, i64 window, const Blocks<E>& blocks, float* const* out) {
    i64 r = 0;
    for (; r + 4 <= num; r += 4) attend_rows<E, 4>(q + r, positions + r, window, blocks, out + r);
    switch (num - r) {
        case 3: return attend_rows<E, 3>(q + r, positions + r, window, blocks, out + r);
        case 2: return attend_rows<E, 2>(q + r, positions + r, window, blocks, out + r);
        case 1: return attend_rows<E, 1>(q + r, positions + r, window, blocks, out + r);
    }
}
