// A weight matrix, packed once into panels of 16 output channels, and its product with a few rows.
//
// A row's sum for a channel is taken in one order, input by input, however many rows and threads there are: what a row
// gives never depends on what is computed beside it.
//   FLOAT32   panel [K][16]
//   BFLOAT16  panel [K / 2][16][2]: two inputs of a channel in one word of 32 bits, as the tiles of AMX want them
//   INT8      panel [K / 4][16][4], and a scale for each 32 inputs of a channel: [K / 32][16] bfloat16
#pragma once
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <sys/mman.h>
#include <vector>

#include "../native.h"

constexpr int INT8 = 2;     // beside FLOAT32 and BFLOAT16
constexpr i64 GROUP = 32;   // inputs that share a scale
constexpr i64 HUGE_PAGE = 2 << 20;

INLINE i64 up(i64 n, i64 step) { return (n + step - 1) / step * step; }
INLINE float as_float(Bf16 x) {
    const uint32_t bits = (uint32_t)x.bits << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
INLINE float as_float(float x) { return x; }
INLINE Bf16 as_bf16(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if (x != x) return {0x7fc0};
    return {(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

// Memory in huge pages where the system gives them, as a model's weights are read from end to end for every token. None
// of size 0.
struct Memory {
    char* data = nullptr;
    explicit Memory(i64 size) {
        if (!size) return;
        data = (char*)std::aligned_alloc(HUGE_PAGE, up(size, HUGE_PAGE));
        if (!data) throw std::bad_alloc();
        madvise(data, up(size, HUGE_PAGE), MADV_HUGEPAGE);
    }
    Memory(Memory&& other) : data(other.data) { other.data = nullptr; }
    Memory(const Memory&) = delete;
    ~Memory() { std::free(data); }
};

struct Matrix {
    i64 N, K;    // output channels, inputs
    i64 depth;   // inputs with padding
    int kind;
    Memory weights;
    std::vector<Bf16> scales;

    Matrix(i64 N, i64 K, int kind)
        : N(N), K(K), depth(up(K, GROUP)), kind(kind), weights(up(N, W) * up(K, GROUP) * value_bytes(kind)),
          scales(kind == INT8 ? up(N, W) * up(K, GROUP) / GROUP : 0) {
        std::memset(weights.data, 0, panels() * panel_bytes());
    }
    static i64 value_bytes(int kind) { return kind == FLOAT32 ? 4 : kind == BFLOAT16 ? 2 : 1; }
    i64 panels() const { return up(N, W) / W; }
    i64 panel_bytes() const { return depth * W * value_bytes(kind); }
    i64 width() const { return up(N, W); }
    const char* panel(i64 p) const { return weights.data + p * panel_bytes(); }
    const Bf16* panel_scales(i64 p) const { return scales.data() + p * (depth / GROUP) * W; }

    // Takes `rows` rows of K numbers into panels first, first + step, …
    template <class In> void take(const In* rows, i64 num_rows, i64 first, i64 step) {
        for (i64 row = 0; row < num_rows; row++) {
            const i64 p = first + row / W * step, lane = row % W;
            const In* from = rows + row * K;
            if (kind == FLOAT32) {
                float* to = (float*)(weights.data + p * panel_bytes()) + lane;
                for (i64 k = 0; k < K; k++) to[k * W] = as_float(from[k]);
            } else if (kind == BFLOAT16) {
                Bf16* to = (Bf16*)(weights.data + p * panel_bytes()) + lane * 2;
                for (i64 k = 0; k < K; k++) to[k / 2 * 2 * W + k % 2] = as_bf16(as_float(from[k]));
            } else {
                int8_t* to = (int8_t*)(weights.data + p * panel_bytes()) + lane * 4;
                Bf16* scale = scales.data() + p * (depth / GROUP) * W + lane;
                for (i64 k = 0; k < K; k += GROUP) quantise(from + k, std::min(GROUP, K - k), to + k * W, scale[k / GROUP * W]);
            }
        }
    }

  private:
    // Rounds n numbers to multiples of their largest over 127; the scale is rounded up to bfloat16 before, not after.
    template <class In> static void quantise(const In* from, i64 n, int8_t* to, Bf16& scale) {
        float largest = 0, odd = 0;  // odd is NaN where one is not finite
        for (i64 k = 0; k < n; k++) largest = std::max(largest, std::abs(as_float(from[k]))), odd += as_float(from[k]) - as_float(from[k]);
        uint32_t bits;
        const float exact = largest / 127;
        std::memcpy(&bits, &exact, 4);
        scale = odd == 0 ? Bf16{(uint16_t)((bits + 0xffff) >> 16)} : as_bf16(odd);
        const float inverse = largest > 0 ? 1 / as_float(scale) : 0;
        for (i64 k = 0; k < n; k++)
            to[k / 4 * 4 * W + k % 4] = (int8_t)std::max(-127.0f, std::min(127.0f, std::nearbyint(as_float(from[k]) * inverse)));
    }
};
