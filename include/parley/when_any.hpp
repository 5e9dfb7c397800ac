// Several things at once, whichever is first:
//
//     auto first = co_await parley::when_any(peer.recv(), parley::sleep_for(30s));
//     if (first.index() == 1)
//         ...                                     // nobody spoke for half a minute
//
// Each runs as a chain of its own on the loop of the one who awaits. The first that has a value or throws
// wins; the others are cancelled, and have all ended before this goes on. What a loser still had to give is
// destroyed: an accepted connection is closed, a message dropped.

#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <parley/config.hpp>
#include <parley/detail/child.hpp>
#include <parley/detail/join.hpp>
#include <parley/task.hpp>
#include <parley/when_all.hpp>

namespace parley::inline PARLEY_ABI {

// Of a range: which one was first, and its value.
template <class T>
struct winner {
    std::size_t index;
    T value;
};
template <>
struct winner<void> {
    std::size_t index;
};

// --- Implementation ---

namespace detail {

class when_any_base : public join_base {
public:
    // A cancel that comes when all is decided is too late, and exceptions are never dropped.
    static constexpr bool keeps_result = true;
    static constexpr bool awaited_where_made = true;

protected:
    when_any_base() = default;
    ~when_any_base() = default;

    // At the end: the child whose value counts; throws its exception, or `cancelled` if all were stopped.
    record &winner() const;
    virtual std::exception_ptr failure_of(record &child) const noexcept = 0;

private:
    void ended(record &child) noexcept final;
    const char *name() const noexcept final { return "when_any"; }

    record *winner_ = nullptr;
    std::exception_ptr failure_; // the winner's
};

template <class... A>
class [[nodiscard]] when_any_await final : public when_any_base {
    using variant = std::variant<value_or_unit<typename child<A>::value>...>;

public:
    explicit when_any_await(A &&...from) : children_(std::forward<A>(from)...) {}

    bool await_suspend(std::coroutine_handle<>, context &task) {
        std::apply([](auto &...c) { (c.prepare(), ...); }, children_);
        open(task);
        std::apply([this](auto &...c) { (this->add(c.first()), ...); }, children_);
        return wait();
    }

    variant await_resume() { return take(winner(), std::index_sequence_for<A...>()); }

private:
    std::exception_ptr failure_of(record &ended) const noexcept override {
        std::exception_ptr failure;
        std::apply([&](auto &...c) { ((&c.first() == &ended ? void(failure = c.failure()) : void()), ...); },
                   children_);
        return failure;
    }

    template <std::size_t... I>
    variant take(record &first, std::index_sequence<I...>) {
        std::optional<variant> value;
        ((&std::get<I>(children_).first() == &first
              ? void(value.emplace(std::in_place_index<I>, std::get<I>(children_).take_unit()))
              : void()),
         ...);
        return std::move(*value);
    }

    std::tuple<child<A>...> children_;
};

template <class T>
class [[nodiscard]] when_any_range final : public when_any_base {
public:
    static constexpr bool awaited_where_made = false; // it owns its tasks

    explicit when_any_range(std::vector<task<T>> &&tasks) : children_(std::move(tasks)) {
        if (children_.size() == 0)
            throw std::invalid_argument("parley: when_any of no tasks would never end");
    }

    bool await_suspend(std::coroutine_handle<>, context &task) noexcept {
        open(task);
        for (auto frame : children_)
            add(frame.promise());
        return wait();
    }

    parley::winner<T> await_resume() {
        record &first = winner();
        std::size_t index = 0;
        while (&children_[index] != &first)
            ++index;
        if constexpr (std::is_void_v<T>)
            return {index};
        else
            return {index, children_[index].take()};
    }

private:
    std::exception_ptr failure_of(record &ended) const noexcept override {
        return static_cast<promise<T> &>(ended).failure();
    }

    task_frames<T> children_;
};

} // namespace detail

// `co_await when_any(a, b, ...)`, of what when_all() takes: a std::variant whose index() says which was
// first, std::monostate for a value of nothing. Throws what the winner threw. Awaited in the expression
// that makes it.
template <class... A>
    requires(sizeof...(A) > 0)
[[nodiscard]] auto when_any(A &&...children) {
    (detail::check_joinable<A>(), ...);
    return detail::when_any_await<A...>(std::forward<A>(children)...);
}

// The same of any number of tasks: a winner<T>. None at all throws std::invalid_argument.
template <class T>
[[nodiscard]] auto when_any(std::vector<task<T>> &&tasks) {
    static_assert(!std::is_reference_v<T>, "parley: a winner has no reference; return a pointer");
    return detail::when_any_range<T>(std::move(tasks));
}

} // namespace parley::inline PARLEY_ABI
