// A whole model's step in one call: embeddings, layers, head and sampling, over sequences of any lengths.
//
// Threads take sequences, each through all layers and all steps of the call, where there are enough; they share out the
// channels of every product where few rows meet large weights. Neither changes a result.
#include <algorithm>
#include <atomic>
#include <new>
#include <thread>
#include <vector>

#include "attention.h"
#include "product.h"
#include "sample.h"
#include "sequence.h"

namespace {

enum Part : i64 {  // which of a model's weights; kernels/decoder.py, PARTS
    EMBEDDING, HEAD, FINAL_NORM, Q, K, V, O, GATE, UP, DOWN, FIRST_NORM, SECOND_NORM, Q_NORM, K_NORM, Q_BIAS, K_BIAS, V_BIAS
};

struct Config {  // kernels/decoder.py, CONFIG
    i64 vocab, width, num_layers, heads, kv_heads, head_width, ffn_width, window, weights, cache;
    i64 is_reordered, has_qk_norm, has_bias;
    double norm_eps;
};

struct Layer {
    i64 is_local, is_turned;
    i64 place;  // among the layers of its kind
    Matrix qkv, o, gate_up, down;
    std::vector<float> first_norm, second_norm, q_norm, k_norm, bias;
};

struct Span {  // a sequence's rows of a step
    Sequence* sequence;
    i64 first, num, position;
};

// What a team computes in; every member has its own `Own`.
struct Work {
    i64 num_rows = 0;
    std::vector<float> x, normed, qkv, heads, sublayer, gate_up, inner, logits, cos, sin;
    std::vector<int32_t> ids;
    std::vector<Span> spans;
    std::vector<Sequence*> running;
};
struct Own {
    Converted converted;
    Sampler sampler;
    std::vector<const float*> queries;
    std::vector<float*> outs;
    std::vector<i64> positions;
};

using TeamLimit = std::optional<Clock::time_point>;  // none: no team

constexpr i64 ROWS_A_TASK = 32;      // of decoding: enough for a product to be bound by arithmetic
constexpr i64 IDS_A_TASK = 256;      // of reading
constexpr i64 CACHED = 16 << 20;     // bytes of weights that stay in a cache
constexpr i64 WORTH_A_TEAM = 4 << 20;  // bytes of weights from which a step is longer than its barriers

void rms_norm(const float* x, const float* weight, i64 n, double eps, float* out) {
    Vec squares = vec(0);
    for (i64 i = 0; i < n; i += W) squares = fma(load(x + i), load(x + i), squares);
    const Vec scale = vec((float)(1 / std::sqrt((double)sum(squares) / n + eps)));
    for (i64 i = 0; i < n; i += W) store(out + i, load(x + i) * scale * load(weight + i));
}

// Turns each pair (i, i + n / 2), and multiplies by `factor`.
void rotate(float* x, const float* cos, const float* sin, i64 n, float factor) {
    for (i64 i = 0; i < n / 2; i += W) {
        const i64 num = n / 2 - i;
        const Vec a = load(x + i, num), b = load(x + n / 2 + i, num), c = load(cos + i, num), s = load(sin + i, num);
        const Vec f = vec(factor), low = fnma(b, s, a * c) * f, high = fma(a, s, b * c) * f;
        store(x + i, low, num), store(x + n / 2 + i, high, num);
    }
}

class Decoder {
  public:
    Decoder(const Config& config, const i64* is_local, const i64* is_turned, const float* frequencies)
        : c(config), frequencies(frequencies, frequencies + c.head_width / 2) {
        i64 places[2] = {0, 0};
        const i64 q = c.heads * c.head_width, kv = c.kv_heads * c.head_width;
        for (i64 i = 0; i < c.num_layers; i++)
            layers.push_back({is_local[i], is_turned[i], places[is_local[i]]++, Matrix(q + 2 * kv, c.width, (int)c.weights),
                              Matrix(c.width, q, (int)c.weights), Matrix(2 * up(c.ffn_width, W), c.width, (int)c.weights),
                              Matrix(c.width, c.ffn_width, (int)c.weights), {}, {}, {}, {}, {}});
        head.emplace_back(c.vocab, c.width, (int)c.weights);
        for (int kind = 0; kind < 2; kind++) block_bytes[kind] = places[kind] * c.kv_heads * head_bytes();
        num_bytes = head[0].panels() * head[0].panel_bytes();
        for (const Layer& layer : layers)
            for (const Matrix* m : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) num_bytes += m->panels() * m->panel_bytes();
    }

    // Takes one of the weights: a matrix is packed, a vector copied, the embedding only pointed to.
    template <class In> void take(i64 part, i64 index, const In* from) {
        const i64 q = c.heads * c.head_width, kv = c.kv_heads * c.head_width, ffn = c.ffn_width;
        if (part == EMBEDDING) return set_embedding(from);
        if (part == HEAD) return head[0].take(from, c.vocab, 0, 1);
        if (part == FINAL_NORM) return copy(from, c.width, 0, c.width, final_norm);
        Layer& l = layers[index];
        switch (part) {
            case Q: return l.qkv.take(from, q, 0, 1);
            case K: return l.qkv.take(from, kv, q / W, 1);
            case V: return l.qkv.take(from, kv, (q + kv) / W, 1);
            case O: return l.o.take(from, c.width, 0, 1);
            case GATE: return l.gate_up.take(from, ffn, 0, 2);  // panels of both take turns
            case UP: return l.gate_up.take(from, ffn, 1, 2);
            case DOWN: return l.down.take(from, c.width, 0, 1);
            case FIRST_NORM: return copy(from, c.width, 0, c.width, l.first_norm);
            case SECOND_NORM: return copy(from, c.width, 0, c.width, l.second_norm);
            case Q_NORM: return copy(from, c.head_width, 0, c.head_width, l.q_norm);
            case K_NORM: return copy(from, c.head_width, 0, c.head_width, l.k_norm);
            case Q_BIAS: return copy(from, q, 0, q + 2 * kv, l.bias);
            case K_BIAS: return copy(from, kv, q, q + 2 * kv, l.bias);
            case V_BIAS: return copy(from, kv, q + kv, q + 2 * kv, l.bias);
        }
    }

    // Reads each sequence's new tokens into its blocks.
    void prefill(Sequence* sequences, i64 num, i64 num_threads) {
        std::vector<std::pair<i64, i64>> tasks;  // sequences first to end
        i64 all = 0;
        for (i64 i = 0, ids = 0; i < num; i++) {
            if (!tasks.size() || ids + sequences[i].num_ids > IDS_A_TASK) tasks.push_back({i, i}), ids = 0;
            tasks.back().second = i + 1;
            ids += sequences[i].num_ids, all += sequences[i].num_ids;
        }
        const bool may_team = num_threads > 1 && (i64)tasks.size() < 2 * num_threads && all * num_bytes > 16 * WORTH_A_TEAM;
        const auto read = [&](TeamLimit limit) {
            run(limit ? 1 : (i64)tasks.size(), limit, num_threads, [&](Member& me, Work& work, Own& own, i64 task) {
                const auto [first, end] = limit ? std::pair<i64, i64>{0, num} : tasks[task];
                if (me.index == 0) {
                    start(work);
                    for (i64 i = first; i < end; i++) add(work, sequences[i], sequences[i].position, sequences[i].ids, sequences[i].num_ids);
                }
                me.wait();
                forward(me, work, own, false);
            });
        };
        if (!may_team) return read(std::nullopt);
        reading.run((double)all, (double)all, [&](TeamLimit limit, Clock::time_point) { return read(limit), (double)all; });
    }

    // Draws up to num_steps tokens for each sequence, whose one new token is the last that is known: fewer where it ends, or
    // where a trial of a team does.
    void decode(Sequence* sequences, i64 num, i64 num_threads) {
        const i64 rows = (num + num_threads - 1) / num_threads;
        const bool may_team = num_threads > 1 && num_bytes >= WORTH_A_TEAM &&
                              (num < num_threads || (num_bytes > CACHED && rows < ROWS_A_TASK / 2));
        if (!may_team) return decode_tasks(sequences, num, num_threads, std::nullopt);
        i64 steps = 0, size = 0;
        for (i64 i = 0; i < num; i++) steps += sequences[i].num_steps;
        while (num >> (size + 1)) size++;
        decoding[std::min<i64>(size, SIZES - 1)].run((double)num, (double)steps, [&](TeamLimit limit, Clock::time_point end) {
            decode_tasks(sequences, num, num_threads, limit, end);
            i64 drawn = 0;
            for (i64 i = 0; i < num; i++) drawn += sequences[i].num_drawn;
            return (double)std::max<i64>(drawn, 1);  // logits that are not numbers draw nothing
        });
    }

    // Room for so many blocks of each kind, instead of the earlier room.
    void make_pools(const i64* sizes) {
        pools.clear();
        for (int kind = 0; kind < 2; kind++) pools.emplace_back(sizes[kind] * block_bytes[kind]);
    }

    void copy_block(i64 kind, i64 from, i64 to) {
        const i64 size = block_bytes[kind];
        std::memcpy(pools[kind].data + to * size, pools[kind].data + from * size, size);
    }

  private:
    const Config c;
    std::vector<float> frequencies, final_norm;
    std::vector<Layer> layers;
    std::vector<Matrix> head;
    std::vector<Memory> pools;  // of global and of local layers
    i64 block_bytes[2];
    i64 num_bytes;  // of weights
    const float* embedding_floats = nullptr;
    const Bf16* embedding_halves = nullptr;
    static constexpr int SIZES = 12;
    Pace reading, decoding[SIZES];  // of so many sequences: 1, 2 to 3, 4 to 7, …
    std::vector<Work> works;
    std::vector<Own> owns;

    void set_embedding(const float* from) { embedding_floats = from, embedding_halves = nullptr; }
    void set_embedding(const Bf16* from) { embedding_halves = from, embedding_floats = nullptr; }
    template <class In> static void copy(const In* from, i64 n, i64 at, i64 size, std::vector<float>& to) {
        to.resize(up(size, W));
        for (i64 i = 0; i < n; i++) to[at + i] = as_float(from[i]);
    }
    i64 cache_bytes() const { return c.cache == FLOAT32 ? 4 : 2; }
    i64 head_bytes() const { return 2 * c.head_width * BLOCK * cache_bytes(); }
    i64 stride() const { return up(c.width, GROUP); }

    // Stops behind the first step that ends after `end`.
    void decode_tasks(Sequence* sequences, i64 num, i64 num_threads, TeamLimit limit, Clock::time_point end = Clock::time_point::max()) {
        const i64 tasks = limit ? 1 : std::min(num, std::max(num_threads, (num + ROWS_A_TASK - 1) / ROWS_A_TASK));
        run(tasks, limit, num_threads, [&](Member& me, Work& work, Own& own, i64 task) {
            if (me.index == 0) {
                work.running.clear();
                for (i64 i = num * task / tasks; i < num * (task + 1) / tasks; i++)
                    if (!sequences[i].is_done()) work.running.push_back(&sequences[i]);
            }
            for (;;) {
                if (me.index == 0) begin_step(work);
                me.wait();
                if (work.running.empty()) return;
                if (!forward(me, work, own, true)) return;
                for (i64 row = me.first(work.num_rows); row < me.end(work.num_rows); row++)
                    own.sampler.draw(*work.running[row], &work.logits[row * head[0].width()], c.vocab);
                me.wait();
                if (me.index == 0 && Clock::now() > end) work.running.clear();
            }
        });
    }

    // One row for each sequence that goes on.
    void begin_step(Work& work) const {
        auto& running = work.running;
        running.erase(std::remove_if(running.begin(), running.end(), [](Sequence* s) { return s->is_done(); }), running.end());
        start(work);
        for (Sequence* s : running) {
            const int32_t id = s->last_id();
            add(work, *s, s->last_position(), &id, 1);
        }
    }

    // Runs the tasks on threads, one after the other as each comes free; a team does all of them together. Goes on with
    // fewer threads where the system gives no more. Where memory runs out in one, all end, and it throws bad_alloc.
    template <class Task> void run(i64 num_tasks, TeamLimit limit, i64 num_threads, Task task) {
        num_threads = limit ? num_threads : std::min(num_threads, num_tasks);
        if ((i64)owns.size() < num_threads) owns.resize(num_threads);
        if ((i64)works.size() < num_threads) works.resize(num_threads);
        std::optional<Team> together;
        std::atomic<Team*> team{limit ? nullptr : &ALONE};  // a team is there once its size is known
        std::atomic<i64> next{0};
        std::atomic<bool> is_short{false};
        const auto work = [&](int index) {
#ifdef TILES
            const Tiles tiles;
#endif
            team.wait(nullptr, std::memory_order_acquire);
            Member me{team, limit ? index : 0};
            try {
                if (limit) return task(me, works[0], owns[index], 0);
                for (i64 i; (i = next.fetch_add(1)) < num_tasks;) task(me, works[index], owns[index], i);
            } catch (const std::exception&) {
                is_short = true, next = num_tasks;
                if (limit) together->give_up();
            }
        };
        std::vector<std::thread> others;
        others.reserve(num_threads - 1);
        try {
            for (i64 i = 1; i < num_threads; i++) others.emplace_back(work, (int)i);
        } catch (const std::exception&) {
        }
        if (limit) {
            together.emplace((int)others.size() + 1, *limit);
            team.store(&*together, std::memory_order_release);
            team.notify_all();
        }
        work(0);
        for (std::thread& other : others) other.join();
        if (is_short) throw std::bad_alloc();
    }

    void start(Work& w) const {
        w.num_rows = 0;
        w.ids.clear(), w.spans.clear();
    }

    void add(Work& w, Sequence& sequence, i64 position, const int32_t* ids, i64 num) const {
        w.spans.push_back({&sequence, w.num_rows, num, position});
        w.ids.insert(w.ids.end(), ids, ids + num);
        w.num_rows += num;
        const i64 q = c.heads * c.head_width, rows = w.num_rows;
        const auto room = [&](std::vector<float>& to, i64 width) { if ((i64)to.size() < rows * width) to.resize(up(rows, ROWS_A_TASK) * width); };
        room(w.x, stride()), room(w.normed, stride()), room(w.sublayer, up(c.width, W));
        room(w.qkv, layers[0].qkv.width()), room(w.heads, up(q, GROUP));
        room(w.gate_up, layers[0].gate_up.width()), room(w.inner, up(c.ffn_width, GROUP));
        room(w.cos, c.head_width / 2), room(w.sin, c.head_width / 2);
    }

    // Whether this member goes on, or has left its team.
    bool forward(Member& me, Work& w, Own& own, bool has_logits) {
        const i64 S = stride();
        if (has_logits && me.index == 0) w.logits.resize(std::max<size_t>(w.logits.size(), w.num_rows * head[0].width()));
        embed(me, w);
        for (size_t i = 0; i < layers.size(); i++) {
            const Layer& l = layers[i];
            const float* in = w.x.data();
            if (!c.is_reordered) norm_rows(me, w.num_rows, w.x.data(), S, l.first_norm, w.normed.data(), S), in = w.normed.data();
            if (!me.goes_on()) return false;
            product(me, in, S, w.num_rows, l.qkv, w.qkv.data(), own.converted);
            me.wait();
            attend_spans(me, w, own, l, !has_logits && i + 1 == layers.size());
            if (!has_logits && i + 1 == layers.size()) return true;
            me.wait();
            product(me, w.heads.data(), up(c.heads * c.head_width, GROUP), w.num_rows, l.o, w.sublayer.data(), own.converted);
            me.wait();
            join(me, w, c.is_reordered ? &l.first_norm : nullptr, c.is_reordered ? nullptr : &l.second_norm);
            me.wait();
            product(me, c.is_reordered ? w.x.data() : w.normed.data(), S, w.num_rows, l.gate_up, w.gate_up.data(), own.converted,
                    [&](i64 first, i64 end, i64 from, i64 to) { activate(w, l.gate_up, first, end, from / 2, to / 2); });
            me.wait();
            product(me, w.inner.data(), up(c.ffn_width, GROUP), w.num_rows, l.down, w.sublayer.data(), own.converted);
            me.wait();
            join(me, w, c.is_reordered ? &l.second_norm : nullptr, nullptr);
        }
        norm_rows(me, w.num_rows, w.x.data(), S, final_norm, w.normed.data(), S);
        me.wait();
        product(me, w.normed.data(), S, w.num_rows, head[0], w.logits.data(), own.converted);
        me.wait();
        return true;
    }

    void embed(const Member& me, Work& w) const {
        const i64 half = c.head_width / 2;
        for (i64 row = me.first(w.num_rows); row < me.end(w.num_rows); row++) {
            float* x = &w.x[row * stride()];
            const i64 from = w.ids[row] * c.width;
            for (i64 i = 0; i < c.width; i += W) store(x + i, embedding_floats ? load(embedding_floats + from + i) : load(embedding_halves + from + i));
        }
        for (const Span& span : w.spans)
            for (i64 t = 0; t < span.num; t++) {
                const i64 row = span.first + t;
                if (row < me.first(w.num_rows) || row >= me.end(w.num_rows)) continue;
                for (i64 i = 0; i < half; i++) {
                    const float angle = (float)(span.position + t) * frequencies[i];
                    w.cos[row * half + i] = std::cos(angle), w.sin[row * half + i] = std::sin(angle);
                }
            }
    }

    void norm_rows(const Member& me, i64 rows, const float* x, i64 x_row, const std::vector<float>& weight, float* out, i64 out_row) const {
        for (i64 row = me.first(rows); row < me.end(rows); row++) rms_norm(x + row * x_row, weight.data(), c.width, c.norm_eps, out + row * out_row);
    }

    // x += sublayer, normed before where the norm is reordered; then the norm of the next sublayer's input.
    void join(const Member& me, Work& w, const std::vector<float>* before, const std::vector<float>* after) const {
        for (i64 row = me.first(w.num_rows); row < me.end(w.num_rows); row++) {
            float *x = &w.x[row * stride()], *y = &w.sublayer[row * up(c.width, W)];
            if (before) rms_norm(y, before->data(), c.width, c.norm_eps, y);
            for (i64 i = 0; i < c.width; i += W) store(x + i, load(x + i) + load(y + i));
            if (after) rms_norm(x, after->data(), c.width, c.norm_eps, &w.normed[row * stride()]);
        }
    }

    // silu(gate) · up, of rows first to end and pairs of panels from to to.
    void activate(Work& w, const Matrix& gate_up, i64 first, i64 end, i64 from, i64 to) const {
        for (i64 row = first; row < end; row++)
            for (i64 p = from; p < to; p++) {
                const float* x = &w.gate_up[row * gate_up.width() + p * 2 * W];
                const Vec gate = load(x), silu = gate / (vec(1) + exp2(gate * vec(-LOG2E)));
                store(&w.inner[row * up(c.ffn_width, GROUP) + p * W], silu * load(x + W), c.ffn_width - p * W);
            }
    }

    void attend_spans(const Member& me, Work& w, Own& own, const Layer& l, bool only_stores) const {
        me.take_turns((i64)w.spans.size() * c.kv_heads, [&](i64 i) {
            const Span& span = w.spans[i / c.kv_heads];
            if (c.cache == FLOAT32) attend_span<float>(w, own, l, span, i % c.kv_heads, only_stores);
            else attend_span<Bf16>(w, own, l, span, i % c.kv_heads, only_stores);
        });
    }

    // A sequence's new tokens and one head of keys: stores their keys and values, and attends with the queries.
    template <class E> void attend_span(Work& w, Own& own, const Layer& l, const Span& span, i64 head, bool only_stores) const {
        const i64 H = c.head_width, G = c.heads / c.kv_heads, row_width = l.qkv.width(), out_width = up(c.heads * H, GROUP);
        const int kind = (int)l.is_local;
        const Blocks<E> blocks{pools[kind].data + (l.place * c.kv_heads + head) * head_bytes(), block_bytes[kind], H, span.sequence->tables[kind]};
        const float factor = LOG2E / std::sqrt((float)H);
        own.queries.clear(), own.outs.clear(), own.positions.clear();
        for (i64 t = 0; t < span.num; t++) {
            float *row = &w.qkv[(span.first + t) * row_width], *k = row + (c.heads + head) * H, *v = k + c.kv_heads * H;
            finish(l, w, span.first + t, k, (c.heads + head) * H, l.k_norm, 1);
            if (c.has_bias) for (i64 h = 0; h < H; h += W) store(v + h, load(v + h) + load(&l.bias[v - row + h]));
            blocks.store_row(span.position + t, k, v);
            for (i64 g = 0; g < G && !only_stores; g++) {
                float* q = row + (head * G + g) * H;
                finish(l, w, span.first + t, q, (head * G + g) * H, l.q_norm, factor);
                own.queries.push_back(q);
                own.outs.push_back(&w.heads[(span.first + t) * out_width + (head * G + g) * H]);
                own.positions.push_back(span.position + t);
            }
        }
        attend<E>(own.queries.data(), own.positions.data(), (i64)own.queries.size(), kind ? c.window : 0, blocks, own.outs.data());
    }

    // Bias, norm and turn of one head's query or key, times a factor.
    void finish(const Layer& l, const Work& w, i64 row, float* x, i64 at, const std::vector<float>& norm, float factor) const {
        const i64 H = c.head_width;
        if (c.has_bias) for (i64 h = 0; h < H; h += W) store(x + h, load(x + h) + load(&l.bias[at + h]));
        if (c.has_qk_norm) rms_norm(x, norm.data(), H, c.norm_eps, x);
        if (l.is_turned) rotate(x, &w.cos[row * H / 2], &w.sin[row * H / 2], H, factor);
        else for (i64 h = 0; h < H; h += W) store(x + h, load(x + h) * vec(factor));
    }
};

// 1; 0 where memory does not hold what it needs.
template <class Work> i64 done(Work work) {
    try {
        work();
        return 1;
    } catch (const std::exception&) {
        return 0;
    }
}

}  // namespace

// 0 where memory does not hold the weights.
EXPORT i64 decoder_new(const Config* config, const i64* is_local, const i64* is_turned, const float* frequencies) {
    Decoder* decoder = nullptr;
    done([&] { decoder = new Decoder(*config, is_local, is_turned, frequencies); });
    return (i64)decoder;
}
EXPORT void decoder_free(Decoder* decoder) { delete decoder; }
EXPORT i64 decoder_take(Decoder* decoder, i64 part, i64 layer, const void* weight, i64 dtype) {
    return done([&] {
        if (dtype == FLOAT32) decoder->take(part, layer, (const float*)weight);
        else decoder->take(part, layer, (const Bf16*)weight);
    });
}
EXPORT i64 decoder_make_pools(Decoder* decoder, i64 num_global, i64 num_local) {
    const i64 sizes[] = {num_global, num_local};
    return done([&] { decoder->make_pools(sizes); });
}
EXPORT void decoder_copy_block(Decoder* decoder, i64 kind, i64 from, i64 to) { decoder->copy_block(kind, from, to); }
EXPORT i64 decoder_prefill(Decoder* decoder, Sequence* sequences, i64 num, i64 num_threads) {
    return done([&] { decoder->prefill(sequences, num, num_threads); });
}
EXPORT i64 decoder_decode(Decoder* decoder, Sequence* sequences, i64 num, i64 num_threads) {
    return done([&] { decoder->decode(sequences, num, num_threads); });
}
