// What attention is divided into, so that threads get work of like size, the largest first.
#pragma once
#include <algorithm>
#include <vector>

#include "blocks.h"

namespace {

struct Sizes {
    i64 documents, T, N, K, H, window;
    float scale() const { return 1.0f / std::sqrt((float)H); }
    i64 group() const { return N / K; }
};

enum Part { BOTH, KEYS, QUERIES };  // whose gradients a unit computes

struct Unit {
    i64 start, length, head;  // of the document; of the keys
    i64 from, to;             // rows (keys for Part KEYS) of the document
    Part part;
    double cost;
};

i64 min(i64 a, i64 b) { return a < b ? a : b; }
i64 max(i64 a, i64 b) { return a > b ? a : b; }
i64 up(i64 n, i64 step) { return (n + step - 1) / step * step; }

// How many scores rows from … to have, and a little for each row.
double cost_of(i64 from, i64 to, i64 window) {
    double scores = 0;
    for (i64 row = from; row < to; row += BLOCK) scores += (double)min(row + BLOCK, window + BLOCK) * min(BLOCK, to - row);
    return scores + 32.0 * (to - from);
}

void long_ones_first(std::vector<Unit>& units) {
    std::stable_sort(units.begin(), units.end(), [](const Unit& a, const Unit& b) { return a.cost > b.cost; });
}

constexpr i64 ROWS_A_UNIT = 256;

std::vector<Unit> forward_units(const int32_t* starts, const Sizes& z) {
    std::vector<Unit> units;
    for (i64 d = 0; d < z.documents; d++)
        for (i64 head = 0, length = starts[d + 1] - starts[d]; head < z.K; head++)
            for (i64 from = 0; from < length; from += ROWS_A_UNIT) {
                const i64 to = min(from + ROWS_A_UNIT, length);
                units.push_back({starts[d], length, head, from, to, BOTH, cost_of(from, to, z.window)});
            }
    long_ones_first(units);
    return units;
}

std::vector<Unit> backward_units(const int32_t* starts, const Sizes& z, i64 threads) {
    double total = 0;
    for (i64 d = 0; d < z.documents; d++) total += z.K * cost_of(0, starts[d + 1] - starts[d], z.window);
    std::vector<Unit> units;
    for (i64 d = 0; d < z.documents; d++)
        for (i64 head = 0, length = starts[d + 1] - starts[d]; head < z.K && length; head++) {
            const double cost = cost_of(0, length, z.window);
            if (length <= ROWS_A_UNIT || cost * threads <= total) {
                units.push_back({starts[d], length, head, 0, length, BOTH, cost});
                continue;
            }
            for (i64 from = 0; from < length; from += ROWS_A_UNIT) {
                const i64 to = min(from + ROWS_A_UNIT, length);
                units.push_back({starts[d], length, head, from, to, QUERIES, 3 * cost_of(from, to, z.window) / 5});
                units.push_back({starts[d], length, head, from, to, KEYS, 4 * cost_of(length - to, length - from, z.window) / 5});
            }
        }
    long_ones_first(units);
    return units;
}

}  // namespace
