// What stands behind an acceptor<P>: a door with a queue of connections that nobody has accepted yet.

#pragma once

#include <coroutine>
#include <utility>

#include <parley/config.hpp>
#include <parley/detail/connection_state.hpp>
#include <parley/detail/context.hpp>
#include <parley/detail/door.hpp>
#include <parley/detail/hold.hpp>
#include <parley/detail/waiters.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

class acceptor_state;

// Somebody in accept().
class accept_base : public waiter<accept_base>, private operation {
public:
    static constexpr bool keeps_result = true; // the connection, which nobody else would get

    bool await_ready() noexcept;
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    accept_base(accept_base &&) = delete;

protected:
    explicit accept_base(acceptor_state *state) noexcept;
    ~accept_base();
    // The connection, with a reference; or nullptr, and why() says why.
    connection_state *take() noexcept;
    [[nodiscard]] error why() const;

private:
    friend class acceptor_state;
    void cancel() noexcept override;
    const char *name() const noexcept override { return "accept"; }
    parley::stage stage() const noexcept override { return parley::stage::accept; }
    std::string resource() const override;

    hold<acceptor_state> state_;
    context *task_ = nullptr;
    connection_state *given_ = nullptr;
    bool elsewhere_ = false; // on another loop than the acceptor's
};

class acceptor_state : public door {
public:
    acceptor_state(endpoint where, service_settings settings) : door(std::move(where), std::move(settings)) {}

    // Opens, if this is a task and no name has to be resolved.
    void open_in_task() noexcept;

protected:
    ~acceptor_state() override = default;

private:
    friend class accept_base;

    int bind_to(Communicator &communicator, CommLoop &here) noexcept override;
    void arrived(connection_state &newcomer) noexcept override;
    void changed() noexcept override;
    void abandoned() noexcept override;
    bool is_awaited() const noexcept override { return !accepting_.empty(); }

    connection_state *pop() noexcept;

    waiters<accept_base> accepting_;
    connection_state *first_ = nullptr; // in the order of arrival; each with a reference
    connection_state *last_ = nullptr;
    int queued_ = 0;
    bool paused_ = false;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
