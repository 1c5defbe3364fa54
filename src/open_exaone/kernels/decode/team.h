// Threads that compute one step together, and how they wait for each other.
#pragma once
#include <atomic>
#include <chrono>

#include "../native.h"

// Waits briefly by spinning, then asleep: a thread that spins would keep the one it waits for off a busy core.
class Team {
  public:
    const int size;
    explicit Team(int size) : size(size) {}
    void wait() {
        if (size == 1) return;
        const int before = turn.load(std::memory_order_acquire);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
            arrived.store(0, std::memory_order_relaxed);
            turn.fetch_add(1, std::memory_order_release);
            turn.notify_all();
            return;
        }
        for (int spin = 0; spin < SPINS; spin++) {
            if (turn.load(std::memory_order_acquire) != before) return;
            _mm_pause();
        }
        turn.wait(before, std::memory_order_acquire);
    }

  private:
    static constexpr int SPINS = 2000;  // about 20 to 50 µs
    std::atomic<int> arrived{0}, turn{0};
};

// A team's member: which part of n things is its own.
struct Member {
    Team& team;
    int index;
    i64 first(i64 n) const { return n * index / team.size; }
    i64 end(i64 n) const { return n * (index + 1) / team.size; }
    void wait() const { team.wait(); }
};

// Whether a team is faster than one thread, by what calls have taken: on a busy machine threads that wait for each other
// are slow. It decides how fast a result comes, never which.
class Pace {
  public:
    // Runs work(is_team), which does `amount` of something.
    template <class Work> void run(double amount, Work work) {
        const int faster = seconds[1] <= seconds[0];  // nothing is known at first: a team
        const int chosen = calls++ % TRY_OTHER == TRY_OTHER - 1 || seconds[faster] == 0 ? !faster : faster;
        const int kind = seconds[1] == 0 ? 1 : chosen;
        const auto start = std::chrono::steady_clock::now();
        work(kind == 1);
        const double now = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / amount;
        seconds[kind] = seconds[kind] == 0 ? now : 0.7 * seconds[kind] + 0.3 * now;
    }

  private:
    static constexpr int TRY_OTHER = 24;  // calls after which the slower one is tried again
    double seconds[2] = {0, 0};           // of one thread and of a team, for one unit of work
    int calls = 0;
};
