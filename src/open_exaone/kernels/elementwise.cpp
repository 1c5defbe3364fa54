// Norms, rotary embedding and SwiGLU, forward and back, one pass over memory each. All arithmetic is float32, and each
// result is rounded once. Gradients of weights are summed in parts of so many rows, whatever the threads.
#include "native.h"

namespace {

i64 min(i64 a, i64 b) { return a < b ? a : b; }

// Threads for so many numbers: waking one costs as much as some ten thousand of them.
int threads_for(i64 threads, i64 numbers) {
    const i64 useful = 1 + numbers / 16384;
    return (int)min(threads, useful);
}

template <class In> INLINE Vec square_sum(const In* x, i64 n) {
    Vec a = vec(0), b = vec(0);
    i64 i = 0;
    for (; i + 2 * W <= n; i += 2 * W) {
        const Vec p = load(x + i), q = load(x + i + W);
        a = fma(p, p, a), b = fma(q, q, b);
    }
    for (; i < n; i += W) {
        const Vec p = load(x + i, n - i);
        a = fma(p, p, a);
    }
    return a + b;
}

// out = [x +] y scale weight, scale = 1 / √(mean y² + eps), kept in scales.
template <class In>
void norm(const In* x, const In* y, const In* weight, In* out, float* scales, i64 T, i64 D, float eps, i64 threads) {
#pragma omp parallel for num_threads(threads_for(threads, T * D))
    for (i64 t = 0; t < T; t++) {
        const In *from = y + t * D, *residual = x ? x + t * D : nullptr;
        const float scale = scales[t] = 1 / std::sqrt(sum(square_sum(from, D)) / D + eps);
        for (i64 d = 0; d < D; d += W) {
            const Vec normed = load(from + d, D - d) * vec(scale), w = load(weight + d, D - d);
            store(out + t * D + d, residual ? fma(normed, w, load(residual + d, D - d)) : normed * w, D - d);
        }
    }
}

// One row back: dx = scale (w g - n mean(w g n)), dweight += g n, with n = x scale; g given.
template <class In, class G> void norm_row_back(const G* given, const In* x, const In* weight, float scale, In* dx, float* dweight, i64 D) {
    Vec dot = vec(0);
    for (i64 d = 0; d < D; d += W) dot = fma(load(given + d, D - d) * load(weight + d, D - d), load(x + d, D - d), dot);
    const Vec pull = vec(-sum(dot) * scale * scale / D), s = vec(scale);
    for (i64 d = 0; d < D; d += W) {
        const Vec g = load(given + d, D - d), from = load(x + d, D - d);
        const Vec back = fma(from, pull, g * load(weight + d, D - d));
        store(dx + d, back * s, D - d);
        store(dweight + d, fma(from * s, g, load(dweight + d, D - d)), D - d);
    }
}

template <class In>
void norm_back(const In* given, const In* y, const In* weight, const float* scales, In* dy, float* parts, i64 T, i64 D, i64 rows, i64 threads) {
#pragma omp parallel for num_threads(threads_for(threads, T * D))
    for (i64 part = 0; part < (T + rows - 1) / rows; part++) {
        std::memset(parts + part * D, 0, D * sizeof(float));
        for (i64 t = part * rows; t < min(T, (part + 1) * rows); t++)
            norm_row_back(given + t * D, y + t * D, weight, scales[t], dy + t * D, parts + part * D, D);
    }
}

template <class In>
void norm_rope(const In* x, const In* weight, const float* cos, const float* sin, In* out, float* scales, i64 T, i64 N, i64 H, float eps,
               i64 threads) {
    const i64 half = H / 2;
#pragma omp parallel for num_threads(threads_for(threads, T * N * H))
    for (i64 t = 0; t < T; t++)
        for (i64 n = 0; n < N; n++) {
            const In* from = x + (t * N + n) * H;
            In* to = out + (t * N + n) * H;
            float scale = 1;
            if (weight) scale = scales[t * N + n] = 1 / std::sqrt(sum(square_sum(from, H)) / H + eps);
            for (i64 h = 0; h < half; h += W) {
                const i64 left = half - h;
                Vec a = load(from + h, left), b = load(from + half + h, left);
                if (weight) {
                    a = a * vec(scale) * load(weight + h, left);
                    b = b * vec(scale) * load(weight + half + h, left);
                }
                const float *c = cos + t * H + h, *s = sin + t * H + h;
                store(to + h, fnma(b, load(s, left), a * load(c, left)), left);
                store(to + half + h, fma(a, load(s + half, left), b * load(c + half, left)), left);
            }
        }
}

// The turn back, g into `to` (In or float).
template <class In, class To> void turn_back(const In* given, const float* cos, const float* sin, To* to, i64 H) {
    const i64 half = H / 2;
    for (i64 h = 0; h < half; h += W) {
        const i64 left = half - h;
        const Vec a = load(given + h, left), b = load(given + half + h, left);
        store(to + h, fma(b, load(sin + half + h, left), a * load(cos + h, left)), left);
        store(to + half + h, fnma(a, load(sin + h, left), b * load(cos + half + h, left)), left);
    }
}

constexpr i64 WIDEST_HEAD = 1024;  // as in elementwise.py

template <class In>
void norm_rope_back(const In* given, const In* x, const In* weight, const float* cos, const float* sin, const float* scales, In* dx,
                    float* parts, i64 T, i64 N, i64 H, i64 rows, i64 threads) {
#pragma omp parallel for num_threads(threads_for(threads, T * N * H))
    for (i64 part = 0; part < (T + rows - 1) / rows; part++) {
        if (weight) std::memset(parts + part * H, 0, H * sizeof(float));
        for (i64 t = part * rows; t < min(T, (part + 1) * rows); t++)
            for (i64 n = 0; n < N; n++) {
                const i64 at = (t * N + n) * H;
                if (!weight) {
                    turn_back(given + at, cos + t * H, sin + t * H, dx + at, H);
                    continue;
                }
                float turned[WIDEST_HEAD];
                turn_back(given + at, cos + t * H, sin + t * H, turned, H);
                norm_row_back(turned, x + at, weight, scales[t * N + n], dx + at, parts + part * H, H);
            }
    }
}

INLINE Vec sigmoid(Vec x) { return vec(1) / (vec(1) + exp2(x * vec(-LOG2E))); }

template <class In> void swiglu(const In* gate, const In* up, In* out, i64 n, i64 threads) {
#pragma omp parallel for num_threads(threads_for(threads, n))
    for (i64 i = 0; i < n; i += W) {
        const Vec g = load(gate + i, n - i);
        store(out + i, g * sigmoid(g) * load(up + i, n - i), n - i);
    }
}

template <class In> void swiglu_back(const In* given, const In* gate, const In* up, In* dgate, In* dup, i64 n, i64 threads) {
#pragma omp parallel for num_threads(threads_for(threads, n))
    for (i64 i = 0; i < n; i += W) {
        const Vec d = load(given + i, n - i), g = load(gate + i, n - i), s = sigmoid(g), silu = g * s;
        const Vec slope = fma(silu, vec(1) - s, s);  // silu' = s + g s (1 - s)
        store(dup + i, d * silu, n - i);
        store(dgate + i, d * load(up + i, n - i) * slope, n - i);
    }
}

}  // namespace

// Makes the call for the type at hand; IN(p) casts a pointer to it.
#define FOR_TYPE(call)                   \
    if (dtype == BFLOAT16) {             \
        using In = Bf16;                 \
        call;                            \
    } else {                             \
        using In = float;                \
        call;                            \
    }
#define IN(p) ((const In*)(p))
#define OUT(p) ((In*)(p))

EXPORT void add_norm_forward(const void* x, const void* y, const void* weight, void* out, float* scales, i64 T, i64 D, float eps, i64 dtype,
                            i64 threads) {
    FOR_TYPE(norm(IN(x), IN(y), IN(weight), OUT(out), scales, T, D, eps, threads))
}

// parts [T / rows, rounded up][D] gets the weight's gradient, `rows` rows a part.
EXPORT void add_norm_backward(const void* given, const void* y, const void* weight, const float* scales, void* dy, float* parts, i64 T, i64 D,
                             i64 rows, i64 dtype, i64 threads) {
    FOR_TYPE(norm_back(IN(given), IN(y), IN(weight), scales, OUT(dy), parts, T, D, rows, threads))
}

// weight and scales may be null: no norm. cos, sin [T][H].
EXPORT void norm_rope_forward(const void* x, const void* weight, const float* cos, const float* sin, void* out, float* scales, i64 T, i64 N,
                             i64 H, float eps, i64 dtype, i64 threads) {
    FOR_TYPE(norm_rope(IN(x), IN(weight), cos, sin, OUT(out), scales, T, N, H, eps, threads))
}

EXPORT void norm_rope_backward(const void* given, const void* x, const void* weight, const float* cos, const float* sin, const float* scales,
                              void* dx, float* parts, i64 T, i64 N, i64 H, i64 rows, i64 dtype, i64 threads) {
    FOR_TYPE(norm_rope_back(IN(given), IN(x), IN(weight), cos, sin, scales, OUT(dx), parts, T, N, H, rows, threads))
}

EXPORT void swiglu_forward(const void* gate, const void* up, void* out, i64 n, i64 dtype, i64 threads) {
    FOR_TYPE(swiglu(IN(gate), IN(up), OUT(out), n, threads))
}

EXPORT void swiglu_backward(const void* given, const void* gate, const void* up, void* dgate, void* dup, i64 n, i64 dtype, i64 threads) {
    FOR_TYPE(swiglu_back(IN(given), IN(gate), IN(up), OUT(dgate), OUT(dup), n, threads))
}
