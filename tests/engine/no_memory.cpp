// Loaded before all libraries: memory and threads that end when a test says so, in C++ code alone.
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <dlfcn.h>
#include <new>
#include <pthread.h>

static std::atomic<long> memory{-1}, threads{-1};  // how often more is given; below 0: for ever

static bool is_refused(std::atomic<long>& left) {
    for (long n = left.load(); n >= 0;) {
        if (n == 0) return true;
        if (left.compare_exchange_weak(n, n - 1)) return false;
    }
    return false;
}

// Returns how much of the earlier memory was not asked for.
extern "C" long allow(long new_memory, long new_threads) {
    threads = new_threads;
    return memory.exchange(new_memory);
}

void* operator new(std::size_t size) {
    void* found = is_refused(memory) ? nullptr : std::malloc(size ? size : 1);
    if (!found) throw std::bad_alloc();
    return found;
}
void operator delete(void* place) noexcept { std::free(place); }
void operator delete(void* place, std::size_t) noexcept { std::free(place); }

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*), void* argument) {
    static const auto create = (decltype(&pthread_create))dlsym(RTLD_NEXT, "pthread_create");
    return is_refused(threads) ? EAGAIN : create(thread, attributes, run, argument);
}
