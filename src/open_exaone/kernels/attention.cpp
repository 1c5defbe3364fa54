// Causal attention over packed segments. One unit of work is one segment, one key/value head with its group of query
// heads, and a range of rows; blocks of 64 x 64 scores live in registers and the first cache.
//
// Nothing depends on how units fall to threads: each result is summed by one unit, in one order. Where a segment is so
// large that threads would wait for it, its gradients are computed in smaller units, those of keys and values apart from
// those of queries: more work (7 products for 5), the same sums in the same order. So it is with a prefix: its own unit
// sums what the queries of all segments that continue it give to its keys, in the order of the segments.
#include <cstdlib>
#include <memory>

#include "units.h"

namespace {

// Memory for one thread, handed out in pieces.
class Scratch {
  public:
    explicit Scratch(size_t bytes) : base_((char*)std::aligned_alloc(64, up(bytes + 4096, 4096)), std::free), next_(base_.get()) {}
    template <class X> X* take(i64 count) {
        X* piece = (X*)next_;
        next_ += up(count * sizeof(X), 64);
        return piece;
    }

  private:
    std::unique_ptr<char, void (*)(void*)> base_;
    char* next_;
};

// Of numbers for 16 keys from `key` on those that `row` sees, for the others `hidden`.
INLINE Vec seen(Vec x, i64 row, i64 key, i64 window, Vec hidden) { return pick(x, row + 1 - window - key, row + 1 - key, hidden); }

i64 first_block(i64 row, i64 window) { return max(0, row - window + 1) / BLOCK * BLOCK; }

template <class In, class M> class Forward {
    using Word = typename M::Word;
    static constexpr i64 P_ROW = BLOCK / M::PACK;

  public:
    static size_t bytes(const Sizes& z, i64 longest) {
        return sizeof(Word) * 2 * up(longest, BLOCK) * z.H + 4 * (5 * BLOCK * z.H + 6 * BLOCK * BLOCK);
    }

    Forward(const Sizes& z, i64 longest, const In* q, const In* k, const In* v, In* out, float* sums)
        : z(z), words(z.H / M::PACK), scratch(bytes(z, longest)), q(q), k(k), v(v), out(out), sums(sums) {
        keys = scratch.template take<Word>(up(longest, BLOCK) * words);
        values = scratch.template take<Word>(up(longest, BLOCK) * words);
        natural = scratch.template take<Word>(BLOCK * words);
        queries = scratch.template take<Word>(BLOCK * words);
        weights = scratch.template take<Word>(BLOCK * P_ROW);
        mixed = scratch.template take<float>(BLOCK * z.H);
        totals = scratch.template take<Vec>(BLOCK);
        tops = scratch.template take<float>(BLOCK);
        factors = scratch.template take<float>(BLOCK);
    }

    void run(const Unit& u) {
        first = first_block(u.from, z.window);
        for (i64 key = first; key < u.to; key += BLOCK) {
            const i64 rows = min(BLOCK, u.to - key), at = (key - first) * words;
            take(k, u, key, rows);
            transpose(natural, words, rows, keys + at);
            take(v, u, key, rows);
            M::layer(natural, values + at, z.H, up(rows, W));
        }
        for (i64 g = 0; g < z.group(); g++)
            for (i64 row = u.from, end; row < u.to; row = end) {  // blocks end where those of keys do
                end = min(up(row + 1, BLOCK), u.to);
                query_block(*u.segment, u.head * z.group() + g, row, end - row);
            }
    }

  private:
    // A natural block of keys or values, of which the first may be the prefix's.
    void take(const In* from, const Unit& u, i64 key, i64 rows) {
        const Segment& s = *u.segment;
        const i64 before = min(rows, max(0, s.begin - key)), stride = z.K * z.H, at = u.head * z.H;
        if (before) take_rows<M>(from + (s.prefix_start + key) * stride + at, stride, before, before, z.H, natural);
        from += (s.start + key + before) * stride + at;
        take_rows<M>(from, stride, rows - before, up(rows, W) - before, z.H, natural + before * words);
    }

    void query_block(const Segment& s, i64 head, i64 row, i64 rows) {
        take_rows<M>(q + ((s.start + row) * z.N + head) * z.H, z.N * z.H, rows, up(rows, ROWS), z.H, queries);
        for (i64 t = 0; t < up(rows, ROWS); t++) totals[t] = vec(0), tops[t] = -1e30f;
        const i64 low = first_block(row, z.window);
        for (i64 key = low; key < row + rows; key += BLOCK) {
            const Word* at_keys = keys + (key - first) * words;
            for (i64 t = 0; t < rows; t += ROWS) {
                const i64 see = min(BLOCK, min(row + t + ROWS, row + rows) - key);  // behind the last row no key was taken
                bool is_scaled = score(at_keys, row + t, key, t, see);
                if (t + 4 < rows) is_scaled |= score(at_keys, row + t + 4, key, t + 4, see);
                accumulate<M>(mixed + t * z.H, z.H, is_scaled && key > low ? factors + t : nullptr, key == low, weights + t * P_ROW,
                              P_ROW, 1, values + (key - first) * words, (see + M::PACK - 1) / M::PACK);
            }
        }
        for (i64 t = 0; t < rows; t += 4) _mm_store_ps(factors + t, sum_4(totals + t));
        for (i64 t = 0; t < rows; t += W) {
            const Vec total = load(factors + t);
            store(sums + head * z.T + s.start + row + t, load(tops + t) + log2(total), rows - t);
            store(factors + t, vec(1) / total);
        }
        for (i64 t = 0; t < rows; t++) {
            In* to = out + ((s.start + row + t) * z.N + head) * z.H;
            for (i64 h = 0; h < z.H; h += W) store(to + h, load(mixed + t * z.H + h) * vec(factors[t]));
        }
    }

    // Probabilities of 4 rows for a block of keys, of which the tile's 8 rows see the first `see`; whether the rows'
    // maxima have risen, so that what was mixed before must be scaled by `factors`.
    bool score(const Word* at_keys, i64 row, i64 key, i64 t, i64 see) {
        const i64 vectors = min(4, (row + 4 - key + W - 1) / W);
        auto tile = vectors == 1 ? &Forward::tile<1> : vectors == 2 ? &Forward::tile<2> : vectors == 3 ? &Forward::tile<3> : &Forward::tile<4>;
        const bool is_scaled = (this->*tile)(at_keys, row, key, t);
        for (i64 c = vectors; c * W < see; c++)
            for (i64 r = 0; r < 4; r++) std::memset((void*)(weights + (t + r) * P_ROW + c * W / M::PACK), 0, W / M::PACK * sizeof(Word));
        return is_scaled;
    }

    template <int V> bool tile(const Word* at_keys, i64 row, i64 key, i64 t) {
        Vec s[4][V], best[4];
        UNROLLED for (int r = 0; r < 4; r++)
            UNROLLED for (int c = 0; c < V; c++) s[r][c] = vec(0);
        multiply<M, 4, V>(s, queries + t * words, words, 1, at_keys, BLOCK, words);
        if (key + V * W - 1 > row || row + 3 - key >= z.window)
            UNROLLED for (int r = 0; r < 4; r++)
                UNROLLED for (int c = 0; c < V; c++)
                    s[r][c] = seen(s[r][c], row + r, key + c * W, z.window, vec(-INFINITY));
        UNROLLED for (int r = 0; r < 4; r++) {
            best[r] = s[r][0];
            UNROLLED for (int c = 1; c < V; c++) best[r] = larger(best[r], s[r][c]);
        }
        const float factor = z.scale() * LOG2E;
        const Vec scale = vec(factor);
        const __m128 was = _mm_load_ps(tops + t), top = _mm_mul_ps(top_4(best), _mm_set1_ps(factor)), now = _mm_max_ps(was, top);
        const bool is_scaled = _mm_movemask_ps(_mm_cmpgt_ps(now, was));
        if (is_scaled) {
            _mm_store_ps(tops + t, now);
            _mm_store_ps(factors + t, exp2_4(_mm_sub_ps(was, now)));
            UNROLLED for (int r = 0; r < 4; r++) totals[t + r] = totals[t + r] * vec(factors[t + r]);
        } else {
            _mm_store_ps(factors + t, _mm_set1_ps(1));
        }
        UNROLLED for (int r = 0; r < 4; r++) {
            const Vec less = vec(-tops[t + r]);
            UNROLLED for (int c = 0; c < V; c++) {
                s[r][c] = exp2(fma(s[r][c], scale, less));
                totals[t + r] = totals[t + r] + s[r][c];
            }
            M::template put_row<V>(weights + (t + r) * P_ROW, s[r]);
        }
        return is_scaled;
    }

    const Sizes z;
    const i64 words;
    i64 first = 0;  // key that the packed blocks begin with
    Scratch scratch;
    const In *q, *k, *v;
    In* out;
    float* sums;
    Word *keys, *values, *natural, *queries, *weights;
    float *mixed, *tops, *factors;
    Vec* totals;
};

template <class In, class M> class Backward {
    using Word = typename M::Word;
    static constexpr i64 P_ROW = BLOCK / M::PACK;

  public:
    static size_t bytes(const Sizes& z, i64 longest) {
        return 4 * (13 * BLOCK * z.H + 4 * BLOCK * BLOCK) + 4 * z.group() * up(longest, BLOCK) * z.H;
    }

    Backward(const Sizes& z, i64 longest, const In* q, const In* k, const In* v, const In* given, const float* sums,
             const float* means, In* dq, In* dk, In* dv)
        : z(z), words(z.H / M::PACK), scratch(bytes(z, longest)), q(q), k(k), v(v), given(given), sums(sums), means(means), dq(dq),
          dk(dk), dv(dv) {
        for (Word** block : {&natural, &keys_t, &values_t, &keys_l, &queries, &queries_l, &givens, &givens_l})
            *block = scratch.template take<Word>(BLOCK * words);
        for (Word** block : {&weights_l, &slopes_l, &slopes}) *block = scratch.template take<Word>(BLOCK * P_ROW);
        for (float** block : {&dkeys, &dvalues}) *block = scratch.template take<float>(BLOCK * z.H);
        for (float** row : {&row_sums, &row_means}) *row = scratch.template take<float>(BLOCK);
        dqueries = scratch.template take<float>(z.group() * up(longest, BLOCK) * z.H);
    }

    void run(const Unit& u) {
        const Segment& s = *u.segment;
        const i64 rows = u.to - u.from;
        height = up(rows, BLOCK);
        if (u.part != KEYS) {
            std::memset(dqueries, 0, z.group() * height * z.H * sizeof(float));
            for (i64 key = first_block(u.from, z.window); key < s.begin; key += BLOCK)
                key_block(u, QUERIES, s.prefix_start + key, key, min(BLOCK, s.begin - key));
        }
        const i64 from = u.part == QUERIES ? s.begin + first_block(u.from - s.begin, z.window) : u.from;
        for (i64 key = from; key < u.to; key += BLOCK) key_block(u, u.part, s.start + key, key, min(BLOCK, s.end - key));
        if (u.part == KEYS) return;
        for (i64 g = 0; g < z.group(); g++)
            for (i64 row = 0; row < rows; row++)
                give(dq + ((s.start + u.from + row) * z.N + u.head * z.group() + g) * z.H, dqueries + (g * height + row) * z.H, z.scale());
    }

  private:
    void give(In* to, const float* from, float factor) {
        for (i64 h = 0; h < z.H; h += W) store(to + h, load(from + h) * vec(factor));
    }

    void key_block(const Unit& u, Part part, i64 token, i64 key, i64 count) {
        const Segment& s = *u.segment;
        const i64 filled = up(count, W), from = (token * z.K + u.head) * z.H, reach = key + BLOCK - 1 + z.window;
        end = key + count;
        take_rows<M>(k + from, z.K * z.H, count, filled, z.H, natural);
        transpose(natural, words, filled, keys_t);
        M::layer(natural, keys_l, z.H, filled);
        take_rows<M>(v + from, z.K * z.H, count, filled, z.H, natural);
        transpose(natural, words, filled, values_t);
        is_first = true;
        const i64 first = part == QUERIES ? max(key, u.from) : key;
        query_blocks(s, part, u, key, count, first, min(part == KEYS ? s.end : u.to, reach));
        if (part == QUERIES) return;
        for (const Segment* c : s.continued) query_blocks(*c, KEYS, u, key, count, c->begin, min(c->end, reach));
        for (i64 j = 0; j < count; j++) {
            give(dk + from + j * z.K * z.H, dkeys + j * z.H, z.scale());
            give(dv + from + j * z.K * z.H, dvalues + j * z.H, 1);
        }
    }

    void query_blocks(const Segment& s, Part part, const Unit& u, i64 key, i64 count, i64 from, i64 to) {
        for (i64 g = 0; g < z.group(); g++)
            for (i64 row = from; row < to; row += BLOCK, is_first = false) query_block(s, part, u, g, key, count, row);
    }

    void query_block(const Segment& s, Part part, const Unit& u, i64 g, i64 key, i64 count, i64 row) {
        const i64 head = u.head * z.group() + g, rows = min(BLOCK, s.end - row), filled = up(rows, ROWS);
        const i64 from = ((s.start + row) * z.N + head) * z.H;
        take_rows<M>(q + from, z.N * z.H, rows, filled, z.H, queries);
        take_rows<M>(given + from, z.N * z.H, rows, filled, z.H, givens);
        for (i64 t = 0; t < filled; t++) {  // a row of padding has no probability
            row_sums[t] = t < rows ? sums[head * z.T + s.start + row + t] : INFINITY;
            row_means[t] = t < rows ? means[head * z.T + s.start + row + t] : 0;
        }
        for (i64 t = 0; t < filled; t += 4)
            for (i64 j = 0; j < count; j += 2 * W) {
                const i64 vectors = (row + t + 4 - (key + j) + W - 1) / W;
                auto tile = vectors <= 0 ? &Backward::tile<0> : vectors == 1 ? &Backward::tile<1> : &Backward::tile<2>;
                (this->*tile)(row + t, key + j, t, j);
            }
        if (part != QUERIES) {
            M::layer(queries, queries_l, z.H, filled);
            M::layer(givens, givens_l, z.H, filled);
            for (i64 j = 0; j < count; j += ROWS) {
                const i64 skipped = min(filled, max(0, key + j - row)) / M::PACK, n = filled / M::PACK - skipped;
                accumulate<M>(dvalues + j * z.H, z.H, nullptr, is_first, weights_l + skipped * BLOCK + j, 1, BLOCK, givens_l + skipped * z.H, n);
                accumulate<M>(dkeys + j * z.H, z.H, nullptr, is_first, slopes_l + skipped * BLOCK + j, 1, BLOCK, queries_l + skipped * z.H, n);
            }
        }
        if (part != KEYS)
            for (i64 t = 0; t < rows; t += ROWS)
                accumulate<M>(dqueries + (g * height + row - u.from + t) * z.H, z.H, nullptr, false, slopes + t * P_ROW, P_ROW, 1, keys_l,
                              (min(count, row + t + ROWS - key) + M::PACK - 1) / M::PACK);
    }

    // Probabilities of 4 rows for 32 keys and their slopes p (dp - mean), of which V x 16 keys may be seen.
    template <int V> void tile(i64 row, i64 key, i64 t, i64 j) {
        Vec p[4][V], slope[4][2];
        UNROLLED for (int r = 0; r < 4; r++)
            UNROLLED for (int c = 0; c < 2; c++) slope[r][c] = vec(0);
        if constexpr (V > 0) {
            Vec d[4][V];
            UNROLLED for (int r = 0; r < 4; r++)
                UNROLLED for (int c = 0; c < V; c++) p[r][c] = d[r][c] = vec(0);
            multiply<M, 4, V>(p, queries + t * words, words, 1, keys_t + j, BLOCK, words);
            multiply<M, 4, V>(d, givens + t * words, words, 1, values_t + j, BLOCK, words);
            const Vec scale = vec(z.scale() * LOG2E);
            UNROLLED for (int r = 0; r < 4; r++)
                UNROLLED for (int c = 0; c < V; c++) p[r][c] = exp2(fma(p[r][c], scale, vec(-row_sums[t + r])));
            if (key + V * W - 1 > row || row + 3 - key >= z.window)
                UNROLLED for (int r = 0; r < 4; r++)
                    UNROLLED for (int c = 0; c < V; c++) p[r][c] = seen(p[r][c], row + r, key + c * W, z.window, vec(0));
            if (end <= row && key + V * W > end)  // behind a prefix's last key
                UNROLLED for (int r = 0; r < 4; r++)
                    UNROLLED for (int c = 0; c < V; c++) p[r][c] = pick(p[r][c], 0, end - key - c * W, vec(0));
            UNROLLED for (int r = 0; r < 4; r++)
                UNROLLED for (int c = 0; c < V; c++)
                    slope[r][c] = p[r][c] * (d[r][c] - vec(row_means[t + r]));
        }
        UNROLLED for (int r = 0; r < 4; r++) M::template put_row<2>(slopes + (t + r) * P_ROW + j / M::PACK, slope[r]);
        Word* at = weights_l + t / M::PACK * BLOCK + j;
        UNROLLED for (int c = 0; c < V; c++) M::put_layers(at + c * W, BLOCK, p[0][c], p[1][c], p[2][c], p[3][c]);
        UNROLLED for (int c = V; c < 2; c++) M::put_layers(at + c * W, BLOCK, vec(0), vec(0), vec(0), vec(0));
        at = slopes_l + t / M::PACK * BLOCK + j;
        UNROLLED for (int c = 0; c < 2; c++) M::put_layers(at + c * W, BLOCK, slope[0][c], slope[1][c], slope[2][c], slope[3][c]);
    }

    const Sizes z;
    const i64 words;
    i64 height = 0;         // rows of dqueries for one head
    i64 end = 0;            // of the keys in the block
    bool is_first = false;  // block of queries for this block of keys
    Scratch scratch;
    const In *q, *k, *v, *given;
    const float *sums, *means;
    In *dq, *dk, *dv;
    Word *natural, *keys_t, *values_t, *keys_l, *queries, *queries_l, *givens, *givens_l, *weights_l, *slopes_l, *slopes;
    float *dkeys, *dvalues, *dqueries, *row_sums, *row_means;
};

#ifdef __AVX512BF16__
using Bf16Words = Pairs;
#else
using Bf16Words = Singles;
#endif

i64 longest_of(const std::vector<Unit>& units) {
    i64 longest = 1;
    for (const Unit& u : units) longest = max(longest, u.segment->end);
    return longest;
}

template <class Worker, class... Args> void work(const std::vector<Unit>& units, i64 threads, const Sizes& z, Args... args) {
#pragma omp parallel num_threads((int)min(threads, (i64)units.size()))
    {
        Worker worker(z, longest_of(units), args...);
#pragma omp for schedule(dynamic, 1)
        for (size_t i = 0; i < units.size(); i++) worker.run(units[i]);
    }
}

// means[n][t] = Σ_h out · given: what softmax takes off every slope.
template <class In> void mean_slopes(const Sizes& z, i64 threads, const In* out, const In* given, float* means) {
#pragma omp parallel for num_threads((int)threads)
    for (i64 t = 0; t < z.T; t++)
        for (i64 n = 0; n < z.N; n++) {
            Vec total = vec(0);
            for (i64 h = (t * z.N + n) * z.H, end = h + z.H; h < end; h += W) total = fma(load(out + h), load(given + h), total);
            means[n * z.T + t] = sum(total);
        }
}

template <class In, class M>
void backward(const std::vector<Segment>& segments, const Sizes& z, i64 threads, const In* q, const In* k, const In* v, const In* out,
              const float* sums, const In* given, float* means, In* dq, In* dk, In* dv) {
    mean_slopes(z, threads, out, given, means);
    work<Backward<In, M>>(backward_units(segments, z, threads), threads, z, q, k, v, given, sums, means, dq, dk, dv);
}

}  // namespace

// q, out [T][N][H], k, v [T][K][H]; sums [N][T] gets log2 Σ exp of each query's scores.
// Segment j holds tokens starts[j] up to starts[j + 1] and continues segment prefix[j], or none (-1, or a null pointer).
EXPORT void attention_forward(const void* q, const void* k, const void* v, const int32_t* starts, const int32_t* prefix, void* out,
                             float* sums, i64 segments, i64 T, i64 N, i64 K, i64 H, i64 window, i64 dtype, i64 threads) {
    const Sizes z{segments, T, N, K, H, window};
    const auto parts = segments_of(starts, prefix, z);
    const auto units = forward_units(parts, z);
    if (units.empty()) return;
    if (dtype == BFLOAT16)
        work<Forward<Bf16, Bf16Words>>(units, threads, z, (const Bf16*)q, (const Bf16*)k, (const Bf16*)v, (Bf16*)out, sums);
    else
        work<Forward<float, Singles>>(units, threads, z, (const float*)q, (const float*)k, (const float*)v, (float*)out, sums);
}

// `given` is d loss / d out; means [N][T] is scratch.
EXPORT void attention_backward(const void* q, const void* k, const void* v, const int32_t* starts, const int32_t* prefix, const void* out,
                              const float* sums, const void* given, float* means, void* dq, void* dk, void* dv, i64 segments, i64 T,
                              i64 N, i64 K, i64 H, i64 window, i64 dtype, i64 threads) {
    const Sizes z{segments, T, N, K, H, window};
    if (T == 0) return;
    const auto parts = segments_of(starts, prefix, z);
    if (dtype == BFLOAT16)
        backward<Bf16, Bf16Words>(parts, z, threads, (const Bf16*)q, (const Bf16*)k, (const Bf16*)v, (const Bf16*)out, sums,
                                  (const Bf16*)given, means, (Bf16*)dq, (Bf16*)dk, (Bf16*)dv);
    else
        backward<float, Singles>(parts, z, threads, (const float*)q, (const float*)k, (const float*)v, (const float*)out, sums,
                                 (const float*)given, means, (float*)dq, (float*)dk, (float*)dv);
}
