// What stands behind a server<P>: a door that is open on every loop, and on each loop the handlers of its
// connections.

#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>

#include <parley/config.hpp>
#include <parley/core/Sync.h>
#include <parley/detail/chain_list.hpp>
#include <parley/detail/connection_state.hpp>
#include <parley/detail/context.hpp>
#include <parley/detail/door.hpp>
#include <parley/detail/hold.hpp>
#include <parley/detail/node_to.hpp>
#include <parley/detail/waiters.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

class server_state;

// The handlers that run on one loop; used there alone.
struct server_shard {
    parley::loop *loop = nullptr;
    chain_source handlers;
    bool cancelled = false;
    node_to<server_state> cancel_node; // posted once
};

// A connection's handler: the owner of that chain.
class served : private chain_owner {
protected:
    served() = default;
    ~served() = default;

    // Runs the handler. On the connection's loop.
    void begin(task<void> &&handler) noexcept;
    // Tells it to stop, if it runs and the server wants that. On the connection's loop.
    void abandon_handler() noexcept;
    void abandon_half_closed() noexcept;

private:
    void chain_done(record &first) noexcept override;
    std::string purpose() const override;
    int descriptor() const noexcept override;
    [[nodiscard]] virtual connection_state &state() noexcept = 0;
    [[nodiscard]] server_state &server() noexcept;

    record *handler_ = nullptr; // while it runs
};

// Somebody in serve() or close().
class serve_wait final : public waiter<serve_wait>, private operation {
public:
    enum class kind : std::uint8_t { serve, close };

    serve_wait(server_state *state, kind what, int limit_ms = -1) noexcept;
    bool await_ready() const noexcept;
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    result<void> await_resume() const;
    serve_wait(serve_wait &&) = delete;

private:
    friend class server_state;
    void cancel() noexcept override;
    const char *name() const noexcept override { return kind_ == kind::serve ? "serve" : "close"; }
    parley::stage stage() const noexcept override;
    std::string resource() const override;

    hold<server_state> state_;
    context *task_ = nullptr;
    kind kind_;
    bool cancelled_ = false;
};

class server_state : public door {
public:
    using exception_sink = std::function<void(const endpoint &peer, std::exception_ptr)>;

    server_state(endpoint where, service_settings settings, exception_sink sink);

    // Stops listening, closes every connection and tells every handler to stop. On the home loop.
    void stop_handlers() noexcept;
    // Nothing runs any more, or ever ran and is closed.
    [[nodiscard]] bool is_finished() const noexcept;
    [[nodiscard]] result<void> ending() const;

protected:
    ~server_state() override;

    [[nodiscard]] server_shard &shard_here() noexcept;
    // An exception left a handler, which is gone, or was thrown instead of a handler.
    void report(const endpoint &peer, std::exception_ptr failure) const noexcept;
    void handler_begins() noexcept { running_.fetch_add(1, sync::memory_order_relaxed); }
    void handler_ended() noexcept;

private:
    friend class served;
    friend class serve_wait;

    int bind_to(Communicator &communicator, CommLoop &here) noexcept override;
    void changed() noexcept override;
    void abandoned() noexcept override;
    bool is_awaited() const noexcept override { return !serving_.empty(); }
    void finished() noexcept;
    void cancel_shard(server_shard &shard) noexcept;

    exception_sink sink_;
    std::unique_ptr<server_shard[]> shards_; // from bind_to() on
    std::size_t loops_ = 0;
    waiters<serve_wait> serving_;
    node_to<server_state> finished_node_;
    sync::atomic<std::size_t> running_{0}; // handlers, and 1 from bind_to() to the end of the core's service
    bool ran_ = false;                     // the core's service was bound
    bool stopped_ = false;                 // stop_handlers() was called
    bool finished_ = false;                // running_ is 0 again
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
