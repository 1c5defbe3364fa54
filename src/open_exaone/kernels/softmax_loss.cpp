// Log-probability, entropy and, in place, the gradient of a weighted log-probability, row by row of logits.
#include "native.h"

namespace {

// 16 of V logits from i on, behind the end -inf, whose weight is 0.
template <class In> INLINE Vec some(const In* x, i64 i, i64 V) {
    const Vec logits = load(x + i, V - i);
    return V - i >= W ? logits : pick(logits, 0, V - i, vec(-INFINITY));
}

template <class In>
void rows(In* logits, const int64_t* ids, const float* coefficients, float* logprobs, float* entropies, i64 C, i64 V, i64 threads) {
#pragma omp parallel for num_threads((int)threads) schedule(dynamic, 4)
    for (i64 row = 0; row < C; row++) {
        In* x = logits + row * V;
        Vec best = vec(-INFINITY);
        for (i64 i = 0; i < V; i += W) best = larger(best, some(x, i, V));
        const float most = ::top(best);
        // What is below the most by 200 binary digits weighs nothing; -inf would make weight · logit no number.
        const Vec scale = vec(LOG2E), top = vec(most), floor = vec(-200 * LN2);
        Vec total = vec(0), mean = vec(0);
        for (i64 i = 0; i < V; i += W) {
            const Vec logit = larger(floor, some(x, i, V) - top), weight = exp2(logit * scale);
            total = total + weight;
            mean = fma(weight, logit, mean);
        }
        const float sum_all = sum(total), log_sum = std::log(sum_all);
        float chosen[W];
        store(chosen, load(x + ids[row], 1));
        const float logprob = logprobs[row] = chosen[0] - most - log_sum;
        entropies[row] = log_sum - sum(mean) / sum_all;
        if (!coefficients) continue;
        const float c = coefficients[row];
        if (c == 0) {
            std::memset((void*)x, 0, V * sizeof(In));
            continue;
        }
        const Vec factor = vec(-c / sum_all);
        for (i64 i = 0; i < V; i += W)
            store(x + i, exp2((load(x + i, V - i) - top) * scale) * factor, V - i);
        const float rest = -std::expm1(logprob);  // 1 - p, exact for p near 1 too
        store(x + ids[row], vec(c * rest), 1);
    }
}

}  // namespace

// logits [C][V]; coefficients null: logits are only read. found [2][C] gets log-probabilities and entropies.
EXPORT void softmax_loss(void* logits, const int64_t* ids, const float* coefficients, float* found, i64 C, i64 V, i64 dtype, i64 threads) {
    if (dtype == BFLOAT16)
        rows((Bf16*)logits, ids, coefficients, found, found + C, C, V, threads);
    else
        rows((float*)logits, ids, coefficients, found, found + C, C, V, threads);
}
