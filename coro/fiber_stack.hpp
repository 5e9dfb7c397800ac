// The stacks of fibers: mapped, with pages below that nothing may touch, and kept for reuse by the thread that
// used them.

#pragma once

#include <cstddef>

#include <parley/config.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// Stands at the upper end of its own memory.
class alignas(64) fiber_stack {
public:
    // At least `size` bytes. Throws std::system_error.
    [[nodiscard]] static fiber_stack &take(std::size_t size);
    // On the thread that took it, which keeps a number of them.
    void give_back() noexcept;

    [[nodiscard]] void *top() noexcept { return this; }
    [[nodiscard]] void *bottom() noexcept;
    [[nodiscard]] std::size_t size() const noexcept;

private:
    class kept;
    explicit fiber_stack(std::size_t mapped) noexcept : mapped_(mapped) {}
    static kept &kept_here() noexcept;
    static fiber_stack &map(std::size_t mapped);
    void unmap() noexcept;

    const std::size_t mapped_; // bytes, with the guard
    fiber_stack *next_ = nullptr;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
