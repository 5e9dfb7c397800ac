// Where cancellation meets code that does not unwind by it: as a value, and from a std::stop_token.
//
//     if (auto sent = co_await parley::stop_as_error(peer.send(message)); !sent)
//         log(sent.error());                       // "stopped", if somebody cancelled this task
//
//     auto done = co_await parley::with_stop_token(token, work());   // token.request_stop() from any thread

#pragma once

#include <coroutine>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/core/CommLoop.h>
#include <parley/core/Sync.h>
#include <parley/detail/child.hpp>
#include <parley/detail/join.hpp>
#include <parley/result.hpp>

namespace parley::inline PARLEY_ABI {

// --- Implementation ---

namespace detail {

class stop_base : public join_base {
public:
    static constexpr bool keeps_result = true;
    static constexpr bool begins_stopped = true;
    static constexpr bool awaited_where_made = true;

protected:
    stop_base() = default;
    ~stop_base() = default;

    // False if the task is stopping already: the child does not begin.
    bool begin(context &task) noexcept;
    bool begin(record &child) noexcept;
    [[nodiscard]] bool begun() const noexcept { return begun_; }
    [[nodiscard]] error failure() const;

private:
    void ended(record &) noexcept final {}
    void cancel_children() noexcept final;
    const char *name() const noexcept final { return "stop_as_error"; }

    std::int64_t started_ = 0;
    interrupted at_;
    bool begun_ = false;
};

class stop_token_base : public join_base {
public:
    static constexpr bool keeps_result = true;
    static constexpr bool awaited_where_made = true;

protected:
    explicit stop_token_base(std::stop_token token) noexcept : token_(std::move(token)) {}
    ~stop_token_base() = default;

    // False if the token says stop already: the child does not begin.
    bool begin(context &task) noexcept;
    bool begin(record &child) noexcept;
    [[nodiscard]] bool begun() const noexcept { return begun_; }
    // It was the token that stopped the child.
    [[nodiscard]] bool stopped() const noexcept { return stopped_; }
    [[nodiscard]] error failure() const;

private:
    struct on_stop {
        stop_token_base *owner;
        void operator()() const noexcept;
    };
    struct request : CommNode {
        stop_token_base *owner;
    };

    void requested() noexcept;
    void ended(record &) noexcept final;
    const char *name() const noexcept final { return "with_stop_token"; }

    std::stop_token token_;
    std::optional<std::stop_callback<on_stop>> callback_;
    request request_;
    std::int64_t started_ = 0;
    interrupted at_;
    sync::atomic<bool> posted_{false}; // request_ is on its way, or was run
    sync::atomic<bool> past_{false};   // the callback is through, but for its return
    bool begun_ = false;
    bool stopped_ = false;
};

template <class A>
class [[nodiscard]] stop_as_error_await final : public stop_base {
    using value = typename child<A>::value;
    static_assert(!std::is_reference_v<value>, "parley: a result has no reference; return a pointer");

public:
    explicit stop_as_error_await(A &&work) : child_(std::forward<A>(work)) {}

    bool await_suspend(std::coroutine_handle<>, context &task) {
        if (!begin(task))
            return false;
        child_.prepare();
        return begin(child_.first());
    }

    flat_result<value> await_resume() {
        if (!begun() || child_.ending() == ending::stopped)
            return unexpected(failure());
        return child_.take_result();
    }

private:
    child<A> child_;
};

template <class A>
class [[nodiscard]] stop_token_await final : public stop_token_base {
    using value = typename child<A>::value;
    static_assert(!std::is_reference_v<value>, "parley: a result has no reference; return a pointer");

public:
    stop_token_await(std::stop_token token, A &&work)
        : stop_token_base(std::move(token)), child_(std::forward<A>(work)) {}

    bool await_suspend(std::coroutine_handle<>, context &task) {
        if (!begin(task))
            return false;
        child_.prepare();
        return begin(child_.first());
    }

    flat_result<value> await_resume() {
        if (!begun() || (child_.ending() == ending::stopped && stopped()))
            return unexpected(failure());
        return child_.take_result();
    }

private:
    child<A> child_;
};

} // namespace detail

// `co_await stop_as_error(work)`: a result<T>, and T itself if that is a result. If the work ends because
// this task was told to stop, the error is errc::stopping with the stage and the peer at which it stood,
// and nothing is thrown here. The task stays told to stop: its next await ends it. In a task that was told
// before, the work does not begin.
template <class A>
[[nodiscard]] auto stop_as_error(A &&work) {
    detail::check_joinable<A>();
    return detail::stop_as_error_await<A>(std::forward<A>(work));
}

// `co_await with_stop_token(token, work)`: a stop that is requested of the token, on any thread, cancels the
// work; then, when it has ended, the error is errc::stopping. A token that was stopped before: the work does
// not begin. Results as of stop_as_error(). In a simulated world the stop is requested on one of its threads.
template <class A>
[[nodiscard]] auto with_stop_token(std::stop_token token, A &&work) {
    detail::check_joinable<A>();
    return detail::stop_token_await<A>(std::move(token), std::forward<A>(work));
}

} // namespace parley::inline PARLEY_ABI
