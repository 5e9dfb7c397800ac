// Values that belong to a task and to everything below it, as thread_local variables belong to threads: the
// number of a request for the log, the user on whose behalf something is done.
//
//     constinit parley::task_local<std::string> request_id;          // the key: of static lifetime
//
//     co_await parley::with_value(request_id, id, handle(request));
//
//     if (const std::string *id = request_id.get())                  // anywhere inside of handle()
//         log(*id);

#pragma once

#include <concepts>
#include <coroutine>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/detail/callable.hpp>
#include <parley/detail/context.hpp>
#include <parley/detail/join.hpp>
#include <parley/detail/promise.hpp>
#include <parley/detail/root.hpp>
#include <parley/detail/task_await.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {

// One value, in the frame of its with_value(). What inherits it ends before that does.
struct local_node {
    const void *key;
    const void *value;
    const local_node *next; // further out
};

// The chain of the task that runs on this thread; nullptr outside of tasks.
[[nodiscard]] const context *running_chain() noexcept;

// The value for this key in the task that runs on this thread; nullptr if there is none.
[[nodiscard]] const void *find_local(const void *key) noexcept;

} // namespace detail

// A key. Must not move, and must live until every with_value() for it has ended.
template <class T>
class task_local {
public:
    constexpr task_local() noexcept = default;
    task_local(const task_local &) = delete;
    task_local &operator=(const task_local &) = delete;

    // The value of the innermost with_value() that the running task is in; nullptr if there is none, or if no
    // task runs on this thread (in a callback, in compute()). Valid until that with_value() ends. Walks from
    // the innermost value outwards.
    [[nodiscard]] const T *get() const noexcept { return static_cast<const T *>(detail::find_local(this)); }
    [[nodiscard]] T value_or(T other) const {
        const T *value = get();
        return value ? *value : std::move(other);
    }

private:
    char identity_ = 0; // keys are told apart by their addresses
};

// --- Implementation ---

namespace detail {

class local_base : public join_base {
public:
    static constexpr bool keeps_result = true; // as a task's that is awaited

protected:
    local_base(const void *key, const void *value) noexcept : node_{key, value, nullptr} {}
    ~local_base() = default;

    bool begin(record &child, context &task) noexcept;

private:
    void ended(record &) noexcept final {} // the frame stays for await_resume()
    const char *name() const noexcept final { return "with_value"; }

    local_node node_;
    inherited inherited_;
};

template <class T>
struct local_value {
    T kept;
};

template <class T, class U>
class [[nodiscard]] local_await final : private local_value<T>, public local_base {
public:
    template <class V>
    local_await(const task_local<T> &key, V &&value, task<U> &&work)
        : local_value<T>{T(std::forward<V>(value))}, local_base(&key, std::addressof(this->kept)),
          work_(std::move(work)) {}
    ~local_await() {
        if (running_)
            running_.destroy();
    }

    bool await_suspend(std::coroutine_handle<>, context &task) noexcept {
        if (!work_)
            return false; // await_resume() says so
        running_ = task_access::release(work_);
        return this->begin(running_.promise(), task);
    }
    U await_resume() {
        if (!running_)
            throw_empty_task();
        return running_.promise().take();
    }

private:
    task<U> work_;
    std::coroutine_handle<promise<U>> running_;
};

} // namespace detail

// `co_await with_value(key, value, work)`: awaits the task with the value set for it, its children, and all
// that these await or spawn; gives what it gives. Inside, a further with_value() for the key hides this one;
// outside nothing changes. The value is kept here. A function is called inside, and kept as long.
template <class T, class V, class U>
    requires std::constructible_from<T, V>
[[nodiscard]] auto with_value(const task_local<T> &key, V &&value, task<U> &&work) {
    return detail::local_await<T, U>(key, std::forward<V>(value), std::move(work));
}
template <class T, class V, class F>
    requires(std::constructible_from<T, V> && !detail::is_task<std::remove_cvref_t<F>>)
[[nodiscard]] auto with_value(const task_local<T> &key, V &&value, F &&make) {
    detail::check_callable<F>();
    static_assert(detail::makes_task<std::remove_reference_t<F>>,
                  "parley: with_value takes a task or a function that makes one: "
                  "[&]() -> parley::task<> { ... }");
    if constexpr (std::is_lvalue_reference_v<F>)
        return with_value(key, std::forward<V>(value), detail::call_kept(std::ref(make)));
    else
        return with_value(key, std::forward<V>(value), detail::call_kept(std::move(make)));
}

} // namespace parley::inline PARLEY_ABI
