// Products of bfloat16 by AMX: tiles of 16 rows of 32 inputs, times 16 channels.
#pragma once
#include "matrix.h"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
#define TILES  // Linux has been asked for them (kernels/build.py)

struct alignas(64) TileConfig {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// A thread's tiles, for as long as it lives.
struct Tiles {
    Tiles() {
        static const TileConfig config;
        asm volatile("ldtilecfg %0" ::"m"(config) : "memory");  // the intrinsic of gcc 12 reads 8 bytes only
    }
    ~Tiles() { _tile_release(); }
};

// Two times 16 rows, of which the second may be missing, times two panels: sums in the tiles 0 to 3.
static void multiply_tiles(const Bf16* a, i64 rows, const Matrix& w, i64 from, i64 to, float* out) {
    const i64 row_bytes = w.depth * 2;
    alignas(64) float sums[4][W * W];
    for (i64 row = 0; row < rows; row += 2 * W)
        for (i64 p = from; p < to; p += 2) {
            const bool two_rows = rows - row > W, two_panels = to - p > 1;
            const Bf16* a1 = a + (row + (two_rows ? W : 0)) * w.depth;
            const char *b0 = w.panel(p), *b1 = w.panel(two_panels ? p + 1 : p);
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
            for (i64 k = 0; k < w.depth; k += 32) {
                _tile_loadd(4, a + row * w.depth + k, row_bytes);
                _tile_loadd(6, b0 + k * W * 2, 64);
                _tile_dpbf16ps(0, 4, 6);
                if (two_panels) {
                    _tile_loadd(7, b1 + k * W * 2, 64);
                    _tile_dpbf16ps(1, 4, 7);
                }
                if (two_rows) {
                    _tile_loadd(5, a1 + k, row_bytes);
                    _tile_dpbf16ps(2, 5, 6);
                }
                if (two_rows && two_panels) _tile_dpbf16ps(3, 5, 7);
            }
            _tile_stored(0, sums[0], 64);
            _tile_stored(1, sums[1], 64);
            _tile_stored(2, sums[2], 64);
            _tile_stored(3, sums[3], 64);
            asm volatile("" ::"r"(sums) : "memory");
            for (i64 r = 0; r < std::min<i64>(2 * W, rows - row); r++)
                for (i64 c = 0; c <= two_panels; c++)
                    store(out + (row + r) * w.width() + (p + c) * W, load(sums[r / W * 2 + c] + r % W * W));
        }
}
#endif
