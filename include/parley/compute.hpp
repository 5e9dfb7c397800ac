// Work that would keep a loop from its other tasks, because it computes for long or blocks, done on the
// threads of the runtime's Executor.

#pragma once

#include <coroutine>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/core/Executor.h>
#include <parley/detail/callable.hpp>
#include <parley/detail/context.hpp>
#include <parley/detail/promise.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

class compute_base : private ExecSession, private operation {
public:
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;

protected:
    compute_base() = default;
    ~compute_base() = default;

    // Throws what the work threw, or parley::exception if it could not be given to the Executor.
    void rethrow();

private:
    virtual void work() = 0;

    void execute() final;
    void handle(int state, int error) final;

    void cancel() noexcept final;
    const char *name() const noexcept final { return "compute"; }
    parley::stage stage() const noexcept final { return parley::stage::compute; }

    context *task_ = nullptr;
    std::exception_ptr failure_;
    int error_ = 0;
};

template <class F>
class [[nodiscard]] compute_await final : public compute_base {
    using value = std::invoke_result_t<F &>;
    using object = std::conditional_t<std::is_reference_v<value>, std::add_pointer_t<value>, value>;
    using stored = std::conditional_t<std::is_void_v<value>, char, object>;

public:
    explicit compute_await(F &&f) noexcept(std::is_nothrow_constructible_v<F, F &&>)
        : f_(std::forward<F>(f)) {}

    value await_resume() {
        this->rethrow();
        if constexpr (std::is_reference_v<value>)
            return static_cast<value>(**result_);
        else if constexpr (!std::is_void_v<value>)
            return std::move(*result_);
    }

private:
    void work() override {
        if constexpr (std::is_void_v<value>) {
            std::invoke(f_);
        } else if constexpr (std::is_reference_v<value>) {
            auto &&referred = std::invoke(f_);
            result_.emplace(std::addressof(referred));
        } else {
            result_.emplace(std::invoke(f_));
        }
    }

    F f_;
    std::optional<stored> result_;
};

} // namespace detail

// `co_await compute(f)`: calls f() on a thread of the Executor; its value, or its exception, comes back to
// the task's loop. f is kept by reference if it has a name and by value if not. A cancel takes it back while
// it waits for a thread; once it runs, the task waits for its end and then stops. Throws parley::exception if
// the Executor takes no more.
template <class F>
    requires std::invocable<std::remove_reference_t<F> &>
[[nodiscard]] detail::compute_await<F> compute(F &&f) {
    detail::check_callable<F>();
    static_assert(!detail::is_task<std::remove_cvref_t<std::invoke_result_t<F &>>>,
                  "parley: compute runs an ordinary function on a thread of the Executor; the body of this "
                  "coroutine would run on the loop all the same. Await the coroutine, and compute in it what "
                  "takes long (docs/tasks.md)");
    return detail::compute_await<F>(std::forward<F>(f));
}

} // namespace parley::inline PARLEY_ABI
