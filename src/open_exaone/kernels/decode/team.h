// Threads that compute one step together, and how they wait for each other.
#pragma once
#include <atomic>
#include <chrono>
#include <cmath>
#include <new>
#include <optional>

#include "../native.h"

using Clock = std::chrono::steady_clock;

// Waits briefly by spinning, then asleep: a thread that spins would keep the one it waits for off a busy core.
class Team {
  public:
    const int size;
    const Clock::time_point limit;  // from which it is given up
    std::atomic<bool> is_over{false};
    std::atomic<i64> turns{0};  // that members have taken since they last waited
    explicit Team(int size, Clock::time_point limit = Clock::time_point::max()) : size(size), limit(limit) {}
    void wait() {
        if (size == 1) return;
        const int before = turn.load(std::memory_order_acquire);
        check();
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
            arrived.store(0, std::memory_order_relaxed), turns.store(0, std::memory_order_relaxed);
            turn.fetch_add(1, std::memory_order_release);
            turn.notify_all();
            return;
        }
        for (int spin = 0; spin < SPINS; spin++) {
            if (turn.load(std::memory_order_acquire) != before) return check();
            _mm_pause();
        }
        turn.wait(before, std::memory_order_acquire);
        check();
    }
    // For a member that memory does not suffice: the others leave at their next wait, by the same exception.
    void give_up() {
        is_short.store(true, std::memory_order_relaxed);
        turn.fetch_add(1, std::memory_order_release);
        turn.notify_all();
    }

  private:
    static constexpr int SPINS = 2000;  // about 20 to 50 µs
    std::atomic<int> arrived{0}, turn{0};
    std::atomic<bool> is_short{false};
    void check() const {
        if (is_short.load(std::memory_order_relaxed)) throw std::bad_alloc();
    }
};
static Team ALONE(1);

// A team's member: which part of n things is its own.
struct Member {
    Team* team;
    int index;
    i64 first(i64 n) const { return n * index / team->size; }
    i64 end(i64 n) const { return n * (index + 1) / team->size; }
    void wait() const { team->wait(); }
    // Calls act(i) for each of n things that falls to it: whoever is free takes the next, so one that is slowed down
    // takes fewer. Once between two waits.
    template <class Act> void take_turns(i64 n, Act act) const {
        if (team->size == 1) for (i64 i = 0; i < n; i++) act(i);
        else for (i64 i; (i = team->turns.fetch_add(1)) < n;) act(i);
    }
    // Waits for the others. Behind the team's limit, the first member goes on alone and the others leave. Between two
    // calls is another wait.
    bool goes_on() {
        if (index == 0 && Clock::now() > team->limit) team->is_over = true;
        wait();
        if (!team->is_over) return true;
        team = &ALONE;
        return index == 0;
    }
};

// Whether a team is faster than one thread (or a thread for each part), by what calls have taken: on a busy machine
// threads that wait for each other are slow. It decides how fast a result comes, never which.
class Pace {
  public:
    // Runs work(limit, end), which does `amount` of something, but stops behind `end` once it has done `least`, and
    // returns how much it did: in a team until `limit`, without a team where there is none.
    template <class Work> double run(double least, double amount, Work work) {
        const bool is_known = seconds[0] && seconds[1], is_trial = !is_known || since >= PATIENCE * lost;
        const int faster = seconds[1] < seconds[0], kind = is_known ? (is_trial ? !faster : faster) : seconds[0] != 0;
        const double most = is_trial ? std::min(seconds[0] * amount, TRIAL + seconds[0] * least) : seconds[0] * amount;
        const auto start = Clock::now();
        const double done = work(kind ? std::optional(start + duration(GIVEN_UP * most)) : std::nullopt,
                                 is_trial ? start + duration(TRIAL) : Clock::time_point::max());
        const double alone = seconds[0] * done;
        double taken = std::chrono::duration<double>(Clock::now() - start).count();
        since += taken;
        if (is_known && is_trial) since = 0, lost = taken - seconds[faster] * done;
        if (!is_known && kind) since = 0, lost = std::abs(taken - alone);
        if (kind) taken = std::min(taken, MOST * alone);
        seconds[kind] = seconds[kind] == 0 ? taken / done : (0.7 * seconds[kind] + 0.3 * taken / done);
        return done;
    }

  private:
    static constexpr double GIVEN_UP = 1.5;  // times what it takes without a team
    static constexpr double MOST = 1.3;      // times the same that count: one call that was disturbed decides nothing
    static constexpr double PATIENCE = 30;   // times what the last trial of the slower one lost: then it is tried again
    static constexpr double TRIAL = 0.05;    // seconds: a few slices of a busy machine's scheduler
    double seconds[2] = {0, 0};              // without a team and in one, for one unit of work
    double since = 0, lost = 0;              // seconds
    static Clock::duration duration(double seconds) {
        return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    }
};
