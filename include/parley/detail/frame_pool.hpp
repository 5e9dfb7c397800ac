// Where coroutine frames come from: lists of used blocks, one list per thread and size, so that a warm
// program allocates nothing. A block may be freed on any thread.

#pragma once

#include <cstddef>

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// Aligned as operator new; throws std::bad_alloc. Sizes up to 4 KiB are recycled, unless PARLEY_FRAME_POOL is
// 0.
[[nodiscard]] void *allocate_frame(std::size_t size);
void free_frame(void *frame, std::size_t size) noexcept;

// Frames that are allocated and not freed, in the whole process. Exact while no other thread makes or frees
// one; for tests.
[[nodiscard]] std::ptrdiff_t live_frames() noexcept;

} // namespace detail
} // namespace parley::inline PARLEY_ABI
