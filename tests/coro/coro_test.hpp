// What the tests of the coroutine layer share.

#pragma once

#include <cstddef>

#include <doctest/doctest.h>

#include <parley/detail/frame_pool.hpp>

// Checks at the end of its block that every coroutine frame that was made in it has been freed.
class no_frames_left {
public:
    no_frames_left() = default;
    no_frames_left(const no_frames_left &) = delete;
    ~no_frames_left() { CHECK(parley::detail::live_frames() == before_); }

private:
    std::ptrdiff_t before_ = parley::detail::live_frames();
};
