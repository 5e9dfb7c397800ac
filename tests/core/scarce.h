// Memory that runs out: a world and an operator new that fail the n-th allocation, or all from the n-th on,
// of the threads that parley has started and of the calls that a test makes inside a Scope. Allocations of
// the test framework never fail. Include it in one file of an executable: it replaces operator new.

#pragma once

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <atomic>
#include <new>

#include "forwarding_world.h"

namespace scarce {

inline constinit std::atomic<int64_t> left{INT64_MAX}; // allocations until the one that fails
inline constinit std::atomic<bool> onward{false};
inline constinit std::atomic<size_t> smallest{0}; // smaller ones do not count
inline constinit std::atomic<int64_t> failures{0};
inline constinit std::atomic<int64_t> live{0}; // blocks, of watched threads, that were not freed yet
inline constinit std::atomic<int64_t> bytes{0};
inline thread_local bool watched = false;

// From now on the n-th allocation of at least that size fails, from 1, and with `further` all after it.
inline void arm(int64_t n, bool further, size_t at_least = 0) {
    left = INT64_MAX;
    failures = 0;
    smallest = at_least;
    onward = further;
    left = n;
}
inline void plenty() {
    onward = false;
    left = INT64_MAX;
}

inline bool fails(size_t size) {
    if (!watched || size < smallest)
        return false;
    int64_t position = --left;
    if (position > 0 || (position < 0 && !onward))
        return false;
    failures++;
    return true;
}

// A block knows whether it is counted; the header keeps the alignment of malloc().
struct alignas(16) Header {
    size_t size;
    bool counted;
};

inline void *get(size_t size) {
    if (fails(size))
        return nullptr;
    void *memory = malloc(sizeof(Header) + size);
    if (memory == nullptr)
        return nullptr;
    auto *header = new (memory) Header{size, watched};
    if (header->counted) {
        live++;
        bytes += static_cast<int64_t>(size);
    }
    return header + 1;
}
inline void give_back(void *memory) {
    if (memory == nullptr)
        return;
    Header *header = static_cast<Header *>(memory) - 1;
    if (header->counted) {
        live--;
        bytes -= static_cast<int64_t>(header->size);
    }
    free(header);
}

// The calls of this thread are watched as long as this lives.
class Scope {
public:
    Scope() { watched = true; }
    ~Scope() { watched = before_; }
    Scope(const Scope &) = delete;
    Scope &operator=(const Scope &) = delete;

private:
    bool before_ = watched;
};

class World : public fixture::ForwardingWorld {
public:
    World() { parley::sys::install(this); }
    ~World() override { parley::sys::install(nullptr); }

    void *allocate(size_t size) override {
        void *memory = get(size);
        if (memory == nullptr)
            errno = ENOMEM;
        return memory;
    }
    void deallocate(void *memory) override { give_back(memory); }

    int thread_start(parley::sys::thread_handle *thread, void (*run)(void *), void *argument) override {
        auto *start = static_cast<Start *>(malloc(sizeof(Start)));
        *start = {run, argument};
        int error = real.thread_start(thread, run_watched, start);
        if (error != 0)
            free(start);
        return error;
    }

private:
    struct Start {
        void (*run)(void *);
        void *argument;
    };
    static void run_watched(void *memory) {
        Start start = *static_cast<Start *>(memory);
        free(memory);
        watched = true;
        start.run(start.argument);
        watched = false; // what the thread's own destructors do is not parley's
    }
};

} // namespace scarce

void *operator new(size_t size) {
    void *memory = scarce::get(size);
    if (memory == nullptr)
        throw std::bad_alloc();
    return memory;
}
void *operator new[](size_t size) {
    return operator new(size);
}
// The library's own call those above, but a sanitizer brings others.
void *operator new(size_t size, const std::nothrow_t &) noexcept {
    return scarce::get(size);
}
void *operator new[](size_t size, const std::nothrow_t &) noexcept {
    return scarce::get(size);
}
void operator delete(void *memory) noexcept {
    scarce::give_back(memory);
}
void operator delete(void *memory, size_t) noexcept {
    scarce::give_back(memory);
}
void operator delete[](void *memory) noexcept {
    scarce::give_back(memory);
}
void operator delete[](void *memory, size_t) noexcept {
    scarce::give_back(memory);
}
