// resolve: the addresses of a host, without stopping the loop. Acceptors and clients resolve by themselves;
// this is for programs that want to see or choose addresses.

#pragma once

#include <coroutine>
#include <utility>
#include <vector>

#include <parley/config.hpp>
#include <parley/detail/context.hpp>
#include <parley/detail/query.hpp>
#include <parley/endpoint.hpp>
#include <parley/result.hpp>

namespace parley::inline PARLEY_ABI {

// What resolve() returns; await it.
class [[nodiscard]] resolve_operation final : private detail::operation, private detail::query_client {
public:
    bool await_ready() noexcept;
    bool await_suspend(std::coroutine_handle<>, detail::context &task) noexcept;
    result<std::vector<endpoint>> await_resume();
    resolve_operation(resolve_operation &&) = delete;

private:
    friend resolve_operation resolve(endpoint where);
    explicit resolve_operation(endpoint where) noexcept : where_(std::move(where)) {}

    void resolved(detail::query &q) noexcept override;
    void cancel() noexcept override;
    const char *name() const noexcept override { return "resolve"; }
    parley::stage stage() const noexcept override { return parley::stage::resolve; }
    std::string resource() const override { return where_.to_string(); }

    endpoint where_;
    result<std::vector<endpoint>> answer_;
    detail::query *query_ = nullptr;
    detail::context *task_ = nullptr;
};

// result<std::vector<endpoint>>: the addresses of `where`, in the system's order of preference, each with its
// port; at least one. A literal or a unix path is its own answer and does not suspend. A name is asked for on
// the runtime's Executor; cancelled, the task goes on at once and the look-up ends unheard.
//
// Errors: stage::resolve, category "resolve" or system; errc::stopping.
[[nodiscard]] inline resolve_operation resolve(endpoint where) {
    return resolve_operation(std::move(where));
}

} // namespace parley::inline PARLEY_ABI
