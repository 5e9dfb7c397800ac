// Coroutine frames from an allocator of the user's, by the protocol of std::generator:
//
//     parley::task<int> load(std::allocator_arg_t, arena_allocator<> where, int id);
//     int x = co_await load(std::allocator_arg, where, 7);
//
// Such coroutines have a promise type of their own, so that all others pay nothing for the possibility. The
// compiler finds it by the types of the parameters and calls its operator new with them; the operator delete
// that belongs to it is compiled into the coroutine, whoever destroys it.

#pragma once

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>

#include <parley/config.hpp>
#include <parley/detail/promise.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

template <class Tag>
concept allocator_tag = std::same_as<std::remove_cvref_t<Tag>, std::allocator_arg_t>;

template <class A>
concept frame_allocator = requires(A &a, std::size_t n) {
    typename A::value_type;
    { *a.allocate(n) } -> std::same_as<typename A::value_type &>;
};

// The unit that an allocator is asked for: frames are aligned to 16.
struct alignas(16) frame_unit {
    std::byte bytes[16];
};

// Memory for frames from copies of an allocator. One that carries state is kept behind the frame.
template <class Given>
class frame_source {
    static_assert(std::copy_constructible<Given> && frame_allocator<Given>,
                  "parley: std::allocator_arg is followed by an allocator, which gives the coroutine's frame "
                  "(docs/tasks.md)");
    using allocator = typename std::allocator_traits<Given>::template rebind_alloc<frame_unit>;
    using traits = std::allocator_traits<allocator>;
    using pointer = typename traits::pointer;
    static constexpr bool kept =
        !(traits::is_always_equal::value && std::is_default_constructible_v<allocator>);
    static_assert(alignof(allocator) <= alignof(frame_unit),
                  "parley: nothing in a coroutine may be over-aligned (docs/compilers.md)");

    static constexpr std::size_t place_of_allocator(std::size_t frame) noexcept {
        return (frame + alignof(allocator) - 1) / alignof(allocator) * alignof(allocator);
    }
    static constexpr std::size_t units(std::size_t frame) noexcept {
        const std::size_t bytes = kept ? place_of_allocator(frame) + sizeof(allocator) : frame;
        return (bytes + sizeof(frame_unit) - 1) / sizeof(frame_unit);
    }

public:
    // Throws what the allocator throws.
    [[nodiscard]] static void *take(std::size_t size, const Given &given) {
        allocator from(given);
        pointer first = traits::allocate(from, units(size));
        void *frame = std::to_address(first);
        if constexpr (kept)
            ::new (static_cast<void *>(static_cast<std::byte *>(frame) + place_of_allocator(size)))
                allocator(std::move(from));
        return frame;
    }

    static void give_back(void *frame, std::size_t size) noexcept {
        auto *first = static_cast<frame_unit *>(frame);
        if constexpr (kept) {
            void *place = static_cast<std::byte *>(frame) + place_of_allocator(size);
            auto *stored = std::launder(static_cast<allocator *>(place));
            allocator from(std::move(*stored)); // out of the memory that it is about to free
            std::destroy_at(stored);
            traits::deallocate(from, std::pointer_traits<pointer>::pointer_to(*first), units(size));
        } else {
            allocator from;
            traits::deallocate(from, std::pointer_traits<pointer>::pointer_to(*first), units(size));
        }
    }
};

// The compilers do not agree whether a lambda's own object comes before the tag: it is looked for.
template <class Given, class First, class... Rest>
const Given &allocator_among(First &, Rest &...rest) noexcept {
    if constexpr (allocator_tag<First>)
        return [](const Given &given, auto &...) -> const Given & { return given; }(rest...);
    else
        return allocator_among<Given>(rest...);
}

// It adds no member to promise<T>, at whose address it is: to everyone else such a task is like the others.
template <class T, class Given>
class allocated_promise final : public promise<T> {
public:
    allocated_promise() noexcept {} // user-provided: an aggregate could be made from the parameters

    // g++ 12 holds an operator new with further parameters against the operator delete without them, which is
    // the one that coroutines use, and would warn in the user's code (-Wmismatched-new-delete). So it is not
    // to see a call of the one, nor where the other's pointer came from.
    template <class... Parameters>
    [[gnu::always_inline]] static void *operator new(std::size_t size, Parameters &...parameters) {
        void *frame = frame_source<Given>::take(size, allocator_among<Given>(parameters...));
#if defined(__GNUC__) && !defined(__clang__)
        __asm__("" : "+r"(frame));
#endif
        return frame;
    }
    static void operator delete(void *frame, std::size_t size) noexcept {
        frame_source<Given>::give_back(frame, size);
    }
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI

// Functions and static member functions; the allocator may be taken by value or by reference.
template <class T, parley::detail::allocator_tag Tag, class Given, class... Rest>
struct std::coroutine_traits<parley::task<T>, Tag, Given, Rest...> {
    using promise_type = parley::detail::allocated_promise<T, std::remove_cvref_t<Given>>;
};

// Member functions and lambdas.
template <class T, class Object, parley::detail::allocator_tag Tag, class Given, class... Rest>
    requires(!parley::detail::allocator_tag<Object>)
struct std::coroutine_traits<parley::task<T>, Object, Tag, Given, Rest...> {
    using promise_type = parley::detail::allocated_promise<T, std::remove_cvref_t<Given>>;
};
