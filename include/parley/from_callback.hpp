// Any callback API as something to await. The function given here starts the work and hands `done` to it; the
// task goes on when `done` is called, from whatever thread.
//
//     int status = co_await parley::from_callback<int>([&](auto& done) {
//         resolver_start(resolver, name, done.invoke, done.data());    // void (*)(int status, void* user)
//     });
//
// For C++ APIs that want a function object there is done.callback(), which also notices when it is thrown
// away uncalled.

#pragma once

#include <concepts>
#include <coroutine>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/core/Sync.h>
#include <parley/detail/callable.hpp>
#include <parley/detail/context.hpp>
#include <parley/error.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {

// The part of a callback's life that knows no types.
//
//   | phase    | set by               | becomes                                                    |
//   |----------|----------------------|------------------------------------------------------------|
//   | starting | await_suspend, first | armed, when the initiating function has returned; or done  |
//   | armed    | the task's loop      | done: who called posts the task                            |
//   | done     | the call, anywhere   | -; found instead of starting, the task goes on at once     |
class callback_base : protected operation {
protected:
    enum : int { starting, armed, done };

    callback_base() = default;
    ~callback_base() = default;

    void begin(context &task) noexcept;
    // After the initiating function. False: it is done already.
    bool arm() noexcept;
    // Once, after the values are stored. The last statement.
    void complete(bool stopped = false) noexcept;
    // Before the values are stored: refuses a second call, by ending the program.
    void claim() noexcept;
    bool try_claim() noexcept { return !claimed_.exchange(true, sync::memory_order_relaxed); }
    [[noreturn]] void throw_dropped() const;

    std::exception_ptr failure_; // of the initiating function
    bool dropped_ = false;

private:
    const char *name() const noexcept override { return "callback"; }

    context *task_ = nullptr;
    sync::atomic<int> phase_{starting};
    sync::atomic<bool> claimed_{false};
};

} // namespace detail

// What the initiating function gets a reference to. It stays where it is until the task goes on, that is,
// until it has been called; it must be called exactly once.
template <class... T>
class callback_done : protected detail::callback_base {
public:
    // From any thread, inside the initiating function too. A second call while the task still waits ends the
    // program with a message.
    template <class... U>
        requires(sizeof...(U) == sizeof...(T) && (std::constructible_from<T, U> && ...))
    void operator()(U &&...values) {
        claim();
        store(std::forward<U>(values)...);
    }

    // For C: pass `invoke` as the function and data() as its user pointer, which comes last, or first.
    [[nodiscard]] void *data() noexcept { return this; }
    static void invoke(T... values, void *user) {
        (*static_cast<callback_done *>(user))(std::move(values)...);
    }
    static void invoke_first(void *user, T... values) {
        (*static_cast<callback_done *>(user))(std::move(values)...);
    }

    // A function object that can be copied and outlive the wait. Calls after the first do nothing. If every
    // copy is destroyed and none was called, the await throws parley::exception with errc::dropped.
    // Allocates.
    [[nodiscard]] auto callback();

protected:
    callback_done() = default;
    ~callback_done() = default;

    std::optional<std::tuple<T...>> values_;

private:
    struct ticket {
        explicit ticket(callback_done &d) noexcept : done(&d) {}
        ticket(const ticket &) = delete;
        ~ticket() {
            if (done.load(sync::memory_order_acquire))
                done.load(sync::memory_order_relaxed)->drop();
        }
        sync::atomic<callback_done *> done;
    };

    template <class... U>
    void store(U &&...values) {
        values_.emplace(std::forward<U>(values)...);
        this->complete();
    }
    void drop() noexcept {
        claim();
        this->dropped_ = true;
        this->complete();
    }
};

// --- Implementation ---

template <class... T>
auto callback_done<T...>::callback() {
    return [held = std::make_shared<ticket>(*this)](T... values) {
        if (callback_done *d = held->done.exchange(nullptr, sync::memory_order_acq_rel))
            (*d)(std::move(values)...);
    };
}

namespace detail {

struct no_cancel_hook {};

template <class Initiate, class Cancel, class... T>
class [[nodiscard]] callback_await final : public callback_done<T...> {
    using first = std::tuple_element_t<0, std::tuple<T..., void>>; // void if there is none
    using value = std::conditional_t<(sizeof...(T) > 1), std::tuple<T...>, first>;

public:
    callback_await(Initiate &&initiate, Cancel &&hook)
        : initiate_(std::forward<Initiate>(initiate)), hook_(std::forward<Cancel>(hook)) {}

    bool await_ready() const noexcept { return false; }

    bool await_suspend(std::coroutine_handle<>, context &task) noexcept {
        this->begin(task);
        try {
            std::invoke(initiate_, static_cast<callback_done<T...> &>(*this));
        } catch (...) {
            this->failure_ = std::current_exception();
            return false;
        }
        return this->arm();
    }

    value await_resume() {
        if (this->failure_)
            std::rethrow_exception(std::move(this->failure_));
        if (this->dropped_)
            this->throw_dropped();
        if constexpr (sizeof...(T) == 1)
            return std::get<0>(std::move(*this->values_));
        else if constexpr (sizeof...(T) > 1)
            return std::move(*this->values_);
    }

private:
    void cancel() noexcept override {
        if constexpr (!std::same_as<std::remove_cvref_t<Cancel>, no_cancel_hook>) {
            if constexpr (std::same_as<std::invoke_result_t<Cancel &>, bool>) {
                if (std::invoke(hook_) && this->try_claim())
                    this->complete(true);
            } else {
                std::invoke(hook_);
            }
        }
    }

    Initiate initiate_;
    [[no_unique_address]] Cancel hook_;
};

} // namespace detail

// `co_await from_callback<T...>(initiate)`: calls initiate(done) and waits for done(values...). Gives
// nothing, the value or a std::tuple of them. An exception of initiate is thrown by the await; done must then
// never be called.
//
// With a cancel hook, cancelling the task calls hook() on the task's loop: it asks the API to be quick. If it
// returns true the API promises that done will not be called any more, and the wait ends at once; if it
// returns nothing or false the wait goes on until done is called. Without a hook the wait cannot be cut
// short.
//
// Functions with a name are kept by reference, temporaries by value.
template <class... T, class Initiate>
[[nodiscard]] auto from_callback(Initiate &&initiate) {
    static_assert(std::invocable<Initiate &, callback_done<T...> &>,
                  "parley: from_callback<T...>(initiate) calls initiate(done): [&](auto& done) { ... }");
    detail::check_callable<Initiate>();
    using awaitable = detail::callback_await<Initiate, detail::no_cancel_hook, T...>;
    return awaitable(std::forward<Initiate>(initiate), {});
}
template <class... T, class Initiate, class Cancel>
[[nodiscard]] auto from_callback(Initiate &&initiate, Cancel &&hook) {
    static_assert(std::invocable<Initiate &, callback_done<T...> &>,
                  "parley: from_callback<T...>(initiate, hook) calls initiate(done): "
                  "[&](auto& done) { ... }");
    static_assert(std::invocable<Cancel &>,
                  "parley: the cancel hook of from_callback is called without arguments");
    detail::check_callable<Initiate>();
    detail::check_callable<Cancel>();
    return detail::callback_await<Initiate, Cancel, T...>(std::forward<Initiate>(initiate),
                                                          std::forward<Cancel>(hook));
}

} // namespace parley::inline PARLEY_ABI
