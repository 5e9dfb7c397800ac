// What `co_await task` is inside a task.

#pragma once

#include <coroutine>
#include <memory>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/detail/promise.hpp>
#include <parley/outcome.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// For whoever runs tasks: takes the frame out of one.
struct task_access {
    template <class T>
    [[nodiscard]] static std::coroutine_handle<promise<T>> release(task<T> &t) noexcept {
        return std::exchange(t.frame_, {});
    }
};

[[noreturn]] void throw_empty_task();

// The await of one task by another. It owns the child's frame, which therefore ends with the expression that
// awaits.
template <class T>
class task_await {
public:
    explicit task_await(std::coroutine_handle<promise<T>> child) noexcept : child_(child) {}
    task_await(task_await &&) = delete;
    ~task_await() { child_.destroy(); }

    bool await_ready() const noexcept { return false; }

    template <class P>
    transfer await_suspend(std::coroutine_handle<P> self) noexcept {
        record &parent = self.promise();
        child_.promise().begin_below(parent);
        parent.life_ = life::suspended;
        context &chain = parent.chain();
        chain.note_innermost(child_);
        if (chain.spend_ready()) [[likely]]
            return loop_access::hand_over(chain.loop(), child_);
        chain.repost(child_);
        return loop_access::rest();
    }

    T await_resume() {
        promise<T> &child = child_.promise();
        if (child.ending() == ending::exception) [[unlikely]]
            attach_site(child.failure(), child.parent()->site());
        return child.take();
    }

protected:
    std::coroutine_handle<promise<T>> child_;
};

template <class U>
task_await<U> promise_base::await_transform(task<U> &&child, std::source_location site) {
    enter(site);
    if (!child) [[unlikely]]
        throw_empty_task();
    return task_await<U>(task_access::release(child));
}

// `co_await named_task(name, std::move(t))`: the awaiting task has this name until it ends.
template <class T>
class [[nodiscard]] named_task {
public:
    named_task(const std::string &name, task<T> &&t) noexcept : name_(name), task_(std::move(t)) {}

private:
    friend class promise_base;
    const std::string &name_;
    task<T> task_;
};

template <class U>
task_await<U> promise_base::await_transform(named_task<U> &&child) {
    enter(std::source_location());
    if (!child.task_) [[unlikely]]
        throw_empty_task();
    set_name(child.name_);
    return task_await<U>(task_access::release(child.task_));
}

// `co_await unlisted_task(std::move(t))`: the await of a task whose place is of no interest to anyone, because
// the awaiting task is a wrapper of the library's.
template <class T>
class [[nodiscard]] unlisted_task {
public:
    explicit unlisted_task(task<T> &&t) noexcept : task_(std::move(t)) {}

private:
    friend class promise_base;
    task<T> task_;
};

template <class U>
task_await<U> promise_base::await_transform(unlisted_task<U> &&child) {
    return await_transform(std::move(child.task_), std::source_location());
}

template <class T>
task<T> promise<T>::get_return_object() noexcept {
    return task<T>(std::coroutine_handle<promise>::from_promise(*this));
}
template <class T>
task<T &> promise<T &>::get_return_object() noexcept {
    return task<T &>(std::coroutine_handle<promise>::from_promise(*this));
}
inline task<void> promise<void>::get_return_object() noexcept {
    return task<void>(std::coroutine_handle<promise>::from_promise(*this));
}

// `co_await task_outcome(std::move(t))` gives an outcome<T> and does not throw. If the awaiting task is told
// to stop before, t does not begin.
template <class T>
class [[nodiscard]] task_outcome {
public:
    explicit task_outcome(task<T> &&t) noexcept : task_(std::move(t)) {}

private:
    friend class promise_base;
    task<T> task_;
};

template <class T>
class outcome_await : public task_await<T> {
public:
    outcome_await(std::coroutine_handle<promise<T>> child, bool begin) noexcept
        : task_await<T>(child), begin_(begin) {}

    bool await_ready() const noexcept { return !begin_; }

    outcome<T> await_resume() {
        outcome<T> result;
        promise<T> &child = this->child_.promise();
        if (child.ending() == ending::value) {
            if constexpr (std::is_void_v<T>)
                result.value_.emplace();
            else if constexpr (std::is_reference_v<T>)
                result.value_.emplace(std::addressof(child.take()));
            else
                result.value_.emplace(child.take());
        } else {
            result.exception_ = child.failure();
        }
        return result;
    }

private:
    bool begin_;
};

template <class U>
outcome_await<U> promise_base::await_transform(task_outcome<U> &&child) {
    site_ = std::source_location(); // in the library, of no interest
    if (!child.task_) [[unlikely]]
        throw_empty_task();
    return outcome_await<U>(task_access::release(child.task_), !context_->stopping_);
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
