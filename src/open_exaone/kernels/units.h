// What attention is divided into, so that threads get work of like size, the largest first.
#pragma once
#include <algorithm>
#include <vector>

#include "blocks.h"

namespace {

struct Sizes {
    i64 segments, T, N, K, H, window;
    float scale() const { return 1.0f / std::sqrt((float)H); }
    i64 group() const { return N / K; }
};

enum Part { BOTH, KEYS, QUERIES };  // whose gradients a unit computes

// Tokens one behind the other, that may continue a prefix, another segment. Rows count from where the prefix begins.
struct Segment {
    i64 start;                              // the token that row 0 were, did the prefix stand right in front
    i64 begin, end;                         // its own rows
    i64 prefix_start;                       // the prefix's first token
    std::vector<const Segment*> continued;  // by these
    i64 length() const { return end - begin; }
};

struct Unit {
    const Segment* segment;
    i64 head;      // of the keys
    i64 from, to;  // rows of the segment (keys for Part KEYS)
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

// How many scores a segment's rows have with its prefix.
double cost_across(const Segment& s, i64 window) { return (double)s.length() * min(s.begin, window); }

// `prefix`: the segment that each continues, or -1; null where none does.
std::vector<Segment> segments_of(const int32_t* starts, const int32_t* prefix, const Sizes& z) {
    std::vector<Segment> segments(z.segments);
    for (i64 j = 0; j < z.segments; j++) {
        const i64 p = prefix ? prefix[j] : -1, begin = p < 0 ? 0 : starts[p + 1] - starts[p];
        Segment& s = segments[j];
        s.start = starts[j] - begin, s.begin = begin, s.end = begin + starts[j + 1] - starts[j], s.prefix_start = p < 0 ? 0 : starts[p];
        if (p >= 0) segments[p].continued.push_back(&s);
    }
    return segments;
}

constexpr i64 ROWS_A_UNIT = 256;

std::vector<Unit> forward_units(const std::vector<Segment>& segments, const Sizes& z) {
    std::vector<Unit> units;
    for (const Segment& s : segments)
        for (i64 head = 0; head < z.K; head++)
            for (i64 from = s.begin; from < s.end; from += ROWS_A_UNIT) {
                const i64 to = min(from + ROWS_A_UNIT, s.end);
                units.push_back({&s, head, from, to, BOTH, cost_of(from, to, z.window)});
            }
    long_ones_first(units);
    return units;
}

std::vector<Unit> backward_units(const std::vector<Segment>& segments, const Sizes& z, i64 threads) {
    double total = 0;
    std::vector<double> costs, costs_continued;
    for (const Segment& s : segments) {
        double continued = 0;
        for (const Segment* c : s.continued) continued += 4 * cost_across(*c, z.window) / 5;
        costs_continued.push_back(continued);
        costs.push_back(cost_of(0, s.length(), z.window) + 3 * cost_across(s, z.window) / 5 + continued);
        total += z.K * costs.back();
    }
    std::vector<Unit> units;
    for (size_t j = 0; j < segments.size(); j++) {
        const Segment& s = segments[j];
        for (i64 head = 0; head < z.K && s.length(); head++) {
            if (s.length() <= ROWS_A_UNIT || costs[j] * threads <= total) {
                units.push_back({&s, head, s.begin, s.end, BOTH, costs[j]});
                continue;
            }
            for (i64 from = s.begin; from < s.end; from += ROWS_A_UNIT) {
                const i64 to = min(from + ROWS_A_UNIT, s.end);
                const double continued = costs_continued[j] * (to - from) / s.length();
                units.push_back({&s, head, from, to, QUERIES, 3 * cost_of(from, to, z.window) / 5});
                units.push_back({&s, head, from, to, KEYS, 4 * cost_of(s.end - to, s.end - from, z.window) / 5 + continued});
            }
        }
    }
    long_ones_first(units);
    return units;
}

}  // namespace
