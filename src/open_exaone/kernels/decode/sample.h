// From a row of logits to a token, as engine/sampling.py defines it.
#pragma once
#include <algorithm>
#include <numeric>
#include <vector>

#include "sequence.h"

constexpr double GREEDY_BELOW = 1e-5;  // temperatures that are as good as 0
constexpr i64 STRETCH = 256;           // weights that are summed at once

struct Sampler {
    std::vector<float> weights, changed;
    std::vector<int32_t> kept;

    // Draws the next token of a sequence from its logits [V], behind which up to the next multiple of 16 anything may lie.
    void draw(Sequence& s, float* logits, i64 V) {
        std::fill(logits + V, logits + (V + W - 1) / W * W, -INFINITY);
        const float most = highest(logits, V);
        weights.resize((V + STRETCH) / STRETCH * STRETCH);
        const double raw_total = exponentials(logits, V, most, 1.0f);
        const float* scores = with_penalties(s, logits, V);
        const float best = scores == logits ? most : highest(scores, V);
        if (!(std::abs(best) < INFINITY) || !(std::abs(most) < INFINITY) || !(raw_total < INFINITY)) {
            s.status = NOT_A_NUMBER;
            return;
        }
        int32_t id;
        double sampling_logprob = 0;
        if (s.temperature < GREEDY_BELOW) {
            id = (int32_t)(std::find(scores, scores + V, best) - scores);
        } else {
            const bool is_raw = scores == logits && s.temperature == 1;
            double total = is_raw ? raw_total : exponentials(scores, V, best, (float)(1 / s.temperature));
            const double u = s.uniforms[s.num_drawn];
            if (s.top_k > 0 || s.top_p < 1 || s.min_p > 0) {
                id = s.top_p < 1 && s.top_p * total <= 1 ? (int32_t)(std::find(scores, scores + V, best) - scores) : -1;
                if (id < 0) id = pick_kept(cut_of(s, V, total), u, V, total);
                else total = 1;  // one token alone reaches top_p
            } else {
                id = pick(u * total, V);
            }
            sampling_logprob = (scores[id] - best) / s.temperature - std::log(total);
        }
        if (s.num_drawn < s.num_forced) {
            s.num_replaced += id != s.forced[s.num_drawn];
            id = s.forced[s.num_drawn], sampling_logprob = 0;
        }
        s.drawn[s.num_drawn] = id;
        s.logprobs[s.num_drawn] = (float)(logits[id] - most - std::log(raw_total));
        s.sampling_logprobs[s.num_drawn] = (float)sampling_logprob;
        if (s.num_top) give_top(s, logits, V, most + std::log(raw_total));
        s.num_drawn++;
        if (s.counts) s.counts[id] += s.counts[id] < 0xffff;
        if (std::find(s.end_ids, s.end_ids + s.num_end_ids, id) != s.end_ids + s.num_end_ids) s.status = ENDED;
    }

  private:
    std::vector<double> sums;  // of each stretch of weights
    std::vector<double> masses;  // of each bucket
    std::vector<i64> counts;

    // The most likely tokens under the raw model; of equals the lower id first.
    void give_top(const Sequence& s, const float* logits, i64 V, double log_total) {
        const auto is_before = [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
        kept.resize(V);
        std::iota(kept.begin(), kept.end(), 0);
        std::partial_sort(kept.begin(), kept.begin() + s.num_top, kept.end(), is_before);
        for (i64 i = 0, at = s.num_drawn * s.num_top; i < s.num_top; i++, at++)
            s.top_ids[at] = kept[i], s.top_logprobs[at] = (float)(logits[kept[i]] - log_total);
    }

    static float highest(const float* x, i64 V) {
        Vec most = load(x);
        for (i64 v = W; v < V; v += W) most = larger(most, load(x + v));
        return top(most);
    }

    // weights[v] = exp((x[v] - most) · scale), their sums by stretch, and the sum of all.
    double exponentials(const float* x, i64 V, float most, float scale) {
        sums.clear();
        double total = 0;
        for (i64 v = 0; v < V;) {
            Vec stretch = vec(0);
            for (const i64 end = std::min(V, v + STRETCH); v < end; v += W) {
                const Vec w = exp2((load(x + v) - vec(most)) * vec(scale * LOG2E));
                store(weights.data() + v, w);
                stretch = stretch + w;
            }
            sums.push_back(sum(stretch));
            total += sums.back();
        }
        return total;
    }

    const float* with_penalties(const Sequence& s, const float* logits, i64 V) {
        if (!s.counts && !s.num_biases && !s.is_in_prompt) return logits;
        changed.assign(logits, logits + (V + W - 1) / W * W);
        for (i64 i = 0; i < s.num_biases; i++) changed[s.bias_ids[i]] += s.biases[i];
        if (s.is_in_prompt) {
            const float penalty = (float)s.repetition_penalty;
            for (i64 v = 0; v < V; v++)
                if (s.is_in_prompt[v] || (s.counts && s.counts[v])) changed[v] = changed[v] > 0 ? changed[v] / penalty : changed[v] * penalty;
        }
        if (s.counts && (s.presence_penalty != 0 || s.frequency_penalty != 0))
            for (i64 v = 0; v < V; v++)
                if (s.counts[v]) changed[v] -= (float)(s.frequency_penalty * s.counts[v] + s.presence_penalty);
        return changed.data();
    }

    // Where min_p, top_k and top_p (in this order) cut the tokens, which are ordered by weight and then by id.
    struct Cut {
        float weight;  // of the last token that is kept
        int32_t id;
        bool keeps(float w, int32_t v) const { return w > weight || (w == weight && v <= id); }
    };

    // Weights are at most 1; their buckets are their exponents and first bits, so that only one bucket needs sorting.
    static constexpr int BUCKETS = (0x3f800000 >> 18) + 1;
    static int bucket_of(float weight) {
        uint32_t bits;
        std::memcpy(&bits, &weight, 4);
        return std::min<int>(bits >> 18, BUCKETS - 1);
    }

    Cut cut_of(const Sequence& s, i64 V, double total) {
        const float least = s.min_p > 0 ? (float)s.min_p : 0;
        const i64 most_kept = s.top_k > 0 ? std::min(s.top_k, V) : V;
        masses.assign(BUCKETS, 0), counts.assign(BUCKETS, 0);
        for (i64 v = 0; v < V; v++)
            if (weights[v] >= least) masses[bucket_of(weights[v])] += weights[v], counts[bucket_of(weights[v])]++;
        Cut cut = {least, (int32_t)V};
        if (s.top_k > 0) cut.weight = cut_at(V, least, most_kept, INFINITY).weight;  // equals of the last all stay
        if (s.top_p == 1) return cut;
        if (s.top_k > 0 || s.min_p > 0) {
            total = 0;
            for (i64 v = 0; v < V; v++) if (cut.keeps(weights[v], (int32_t)v)) total += weights[v];
        }
        return cut_at(V, cut.weight, V, s.top_p * total);
    }

    // The fewest tokens from the top that are `most` or weigh `mass`.
    Cut cut_at(i64 V, float least, i64 most, double mass) {
        int bucket = BUCKETS - 1;
        i64 count = 0;
        double sum = 0;
        while (bucket > 0 && count + counts[bucket] < most && sum + masses[bucket] < mass) count += counts[bucket], sum += masses[bucket--];
        kept.clear();
        for (i64 v = 0; v < V; v++)
            if (weights[v] >= least && bucket_of(weights[v]) == bucket) kept.push_back((int32_t)v);
        if (kept.empty()) return {least, (int32_t)V};
        std::sort(kept.begin(), kept.end(), [&](int32_t a, int32_t b) { return weights[a] != weights[b] ? weights[a] > weights[b] : a < b; });
        size_t last = 0;
        while (last + 1 < kept.size() && count + (i64)last + 1 < most && (sum += weights[kept[last]]) < mass) last++;
        return {weights[kept[last]], kept[last]};
    }

    // Draws among what a cut keeps; their total weight goes into `total`.
    int32_t pick_kept(const Cut& cut, double u, i64 V, double& total) const {
        total = 0;
        for (i64 v = 0; v < V; v++) if (cut.keeps(weights[v], (int32_t)v)) total += weights[v];
        double target = u * total;
        int32_t id = -1;
        for (i64 v = 0; v < V; v++) {
            if (!cut.keeps(weights[v], (int32_t)v) || weights[v] == 0) continue;
            id = (int32_t)v;
            if ((target -= weights[v]) < 0) break;
        }
        return id;
    }

    int32_t pick(double target, i64 V) const {
        size_t stretch = 0;
        while (stretch + 1 < sums.size() && target >= sums[stretch]) target -= sums[stretch++];
        int32_t id = -1;
        for (i64 v = stretch * STRETCH; v < std::min<i64>(V, (stretch + 1) * STRETCH); v++) {
            if (weights[v] > 0) id = (int32_t)v;
            if (weights[v] > 0 && (target -= weights[v]) < 0) return id;
        }
        return id;  // rounding must not pass the last one
    }
};
