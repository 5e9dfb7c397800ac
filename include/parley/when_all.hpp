// Several things at once, all of them:
//
//     auto [user, orders] = co_await parley::when_all(load_user(id), load_orders(id));
//
//     std::vector<parley::task<page>> fetches = ...;
//     std::vector<page> pages = co_await parley::when_all(std::move(fetches));
//
// Each runs as a chain of its own on the loop of the one who awaits, and begins when that one waits. The
// first that throws cancels the others; the exception is thrown here when all have ended, with what others
// threw meanwhile attached (other_exceptions()). What a result<T> says is a value like any other and
// cancels nobody.

#pragma once

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <parley/cancelled.hpp>
#include <parley/config.hpp>
#include <parley/detail/child.hpp>
#include <parley/detail/join.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {

// --- Implementation ---

namespace detail {

class when_all_base : public join_base {
public:
    // A cancel that comes when all is decided is too late, and exceptions are never dropped.
    static constexpr bool keeps_result = true;
    static constexpr bool awaited_where_made = true;

protected:
    when_all_base() = default;
    ~when_all_base() = default;

    // At the end: throws what a child threw first, or `cancelled` if one was stopped.
    void rethrow() const;
    virtual std::exception_ptr failure_of(record &child) const noexcept = 0;

private:
    void ended(record &child) noexcept final;
    const char *name() const noexcept final { return "when_all"; }

    std::exception_ptr failure_;
    bool stopped_ = false; // one ended without a value
};

template <class... A>
class [[nodiscard]] when_all_await final : public when_all_base {
public:
    explicit when_all_await(A &&...from) : children_(std::forward<A>(from)...) {}

    bool await_suspend(std::coroutine_handle<>, context &task) {
        std::apply([](auto &...c) { (c.prepare(), ...); }, children_);
        open(task);
        std::apply([this](auto &...c) { (this->add(c.first()), ...); }, children_);
        return wait();
    }

    std::tuple<value_or_unit<typename child<A>::value>...> await_resume() {
        rethrow();
        return std::apply(
            [](auto &...c) {
                return std::tuple<value_or_unit<typename child<A>::value>...>{c.take_unit()...};
            },
            children_);
    }

private:
    std::exception_ptr failure_of(record &ended) const noexcept override {
        std::exception_ptr failure;
        std::apply([&](auto &...c) { ((&c.first() == &ended ? void(failure = c.failure()) : void()), ...); },
                   children_);
        return failure;
    }

    std::tuple<child<A>...> children_;
};

// The frames of a range of tasks, as far as they were taken out of their tasks.
template <class T>
class task_frames {
public:
    explicit task_frames(std::vector<task<T>> &&tasks) {
        for (const task<T> &t : tasks)
            if (!t)
                throw_empty_task();
        frames_.reserve(tasks.size());
        for (task<T> &t : tasks)
            frames_.push_back(task_access::release(t));
    }
    task_frames(task_frames &&) = delete;
    ~task_frames() {
        for (auto frame : frames_)
            frame.destroy();
    }

    [[nodiscard]] auto begin() const noexcept { return frames_.begin(); }
    [[nodiscard]] auto end() const noexcept { return frames_.end(); }
    [[nodiscard]] std::size_t size() const noexcept { return frames_.size(); }
    [[nodiscard]] promise<T> &operator[](std::size_t i) const noexcept { return frames_[i].promise(); }

private:
    std::vector<std::coroutine_handle<promise<T>>> frames_;
};

template <class T>
class [[nodiscard]] when_all_range final : public when_all_base {
public:
    static constexpr bool awaited_where_made = false; // it owns its tasks

    explicit when_all_range(std::vector<task<T>> &&tasks) : children_(std::move(tasks)) {}

    bool await_suspend(std::coroutine_handle<>, context &task) noexcept {
        open(task);
        for (auto frame : children_)
            add(frame.promise());
        return wait();
    }

    std::conditional_t<std::is_void_v<T>, void, std::vector<value_or_unit<T>>> await_resume() {
        rethrow();
        if constexpr (!std::is_void_v<T>) {
            std::vector<T> values;
            values.reserve(children_.size());
            for (auto frame : children_)
                values.push_back(frame.promise().take());
            return values;
        }
    }

private:
    std::exception_ptr failure_of(record &ended) const noexcept override {
        return static_cast<promise<T> &>(ended).failure();
    }

    task_frames<T> children_;
};

} // namespace detail

// `co_await when_all(a, b, ...)`, of tasks (by rvalue), functions that make tasks, operations such as
// peer.recv(), and awaitables of other libraries: a std::tuple of their values, std::monostate for none.
// Awaited in the expression that makes it. A child that was stopped by itself stops the others, and this
// task.
template <class... A>
    requires(sizeof...(A) > 0)
[[nodiscard]] auto when_all(A &&...children) {
    (detail::check_joinable<A>(), ...);
    return detail::when_all_await<A...>(std::forward<A>(children)...);
}

// The same of any number of tasks: their values in their order, or nothing for task<>.
template <class T>
[[nodiscard]] auto when_all(std::vector<task<T>> &&tasks) {
    static_assert(!std::is_reference_v<T>, "parley: a vector has no references; return pointers");
    return detail::when_all_range<T>(std::move(tasks));
}

} // namespace parley::inline PARLEY_ABI
