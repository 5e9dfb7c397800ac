// What the tests of the coroutine layer share.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <utility>

#include <doctest/doctest.h>

#include <parley/detail/frame_pool.hpp>
#include <parley/runtime.hpp>
#include <parley/sleep.hpp>
#include <parley/task.hpp>

// Checks at the end of its block that every coroutine frame that was made in it has been freed.
class no_frames_left {
public:
    no_frames_left() = default;
    no_frames_left(const no_frames_left &) = delete;
    ~no_frames_left() { CHECK(parley::detail::live_frames() == before_); }

private:
    std::ptrdiff_t before_ = parley::detail::live_frames();
};

inline parley::runtime_options on_loops(std::size_t n) {
    parley::runtime_options options;
    options.loops = n;
    options.executor_threads = 1;
    return options;
}

// Lets the others of the loop run n times.
inline parley::task<> yields(unsigned n) {
    for (unsigned i = 0; i < n; ++i)
        co_await parley::yield();
}

template <class T>
parley::task<T> after(std::chrono::nanoseconds time, T value) {
    co_await parley::sleep_for(time);
    co_return std::move(value);
}

inline parley::task<int> fail_after(std::chrono::nanoseconds time, const char *what) {
    co_await parley::sleep_for(time);
    throw std::runtime_error(what);
}

// xorshift64*
class dice {
public:
    explicit dice(std::uint64_t seed) noexcept : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
    unsigned operator()(unsigned below) noexcept {
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return static_cast<unsigned>((state_ * 0x2545f4914f6cdd1du) >> 33) % below;
    }

private:
    std::uint64_t state_;
};
