// What stands behind a server<P>: a door that is open on every loop, and on each loop the handlers of its
// connections.

#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include <parley/config.hpp>
#include <parley/core/Sync.h>
#include <parley/detail/chain_list.hpp>
#include <parley/detail/connection_state.hpp>
#include <parley/detail/context.hpp>
#include <parley/detail/door.hpp>
#include <parley/detail/hold.hpp>
#include <parley/detail/node_to.hpp>
#include <parley/detail/waiters.hpp>
#include <parley/drain_report.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

class served;
class server_state;

// The handlers that run on one loop; used there alone.
struct server_shard {
    parley::loop *loop = nullptr;
    chain_source handlers;
    bool draining = false;
    bool cancelled = false;
    drain_report drained;              // from begin_drain() on; `finished` is left to the sum
    node_to<server_state> drain_node;  // posted once
    node_to<server_state> cancel_node; // posted once

    // A handler is told to stop, or was when the drain began: it is counted.
    void note_cancelled(const served &owner, const record &handler) noexcept;
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
    friend class server_state;
    friend struct server_shard;

    // Of a handler: whose it is.
    [[nodiscard]] static served &of(const record &handler) noexcept;
    // What it waits for and where, to be read by people.
    [[nodiscard]] std::string whereabouts(const record &handler) const;

    void chain_done(record &first) noexcept override;
    std::string purpose() const override;
    int descriptor() const noexcept override;
    [[nodiscard]] virtual connection_state &state() noexcept = 0;
    [[nodiscard]] server_state &server() noexcept;

    record *handler_ = nullptr; // while it runs
};

// Somebody in serve(), close() or drain().
class serve_wait : public waiter<serve_wait>, private operation {
public:
    enum class kind : std::uint8_t { serve, close };

    // limit: nanoseconds after which the handlers are told to stop.
    serve_wait(server_state *state, kind what, std::int64_t limit = no_limit) noexcept;
    bool await_ready() const noexcept;
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    result<void> await_resume() const;
    serve_wait(serve_wait &&) = delete;

    static constexpr std::int64_t no_limit = std::numeric_limits<std::int64_t>::max();

protected:
    hold<server_state> state_;

private:
    friend class server_state;
    void cancel() noexcept override;
    const char *name() const noexcept override { return kind_ == kind::serve ? "serve" : "close"; }
    parley::stage stage() const noexcept override;
    std::string resource() const override;

    context *task_ = nullptr;
    kind kind_;
    bool cancelled_ = false;
};

// Somebody in drain().
class drain_wait final : public serve_wait {
public:
    drain_wait(server_state *state, std::int64_t limit) noexcept : serve_wait(state, kind::close, limit) {}
    result<drain_report> await_resume() const;
};

class server_state : public door {
public:
    using exception_sink = std::function<void(const endpoint &peer, std::exception_ptr)>;

    server_state(endpoint where, service_settings settings, exception_sink sink);

    // Stops listening and closes what is idle; after `limit` nanoseconds, stop_handlers(). A later call can
    // only bring that forward. On the home loop.
    void begin_drain(std::int64_t limit) noexcept;
    // Stops listening, tells every handler to stop and closes every connection. On the home loop.
    void stop_handlers() noexcept;
    // Of the drain, when it is over.
    [[nodiscard]] drain_report report() const;
    // Nothing runs any more, or ever ran and is closed.
    [[nodiscard]] bool is_finished() const noexcept;
    [[nodiscard]] result<void> ending() const;

protected:
    ~server_state() override;

    [[nodiscard]] server_shard &shard_here() noexcept;
    // An exception left a handler, which is gone, or was thrown instead of a handler.
    void report_failure(const endpoint &peer, std::exception_ptr failure) const noexcept;
    void handler_begins() noexcept { running_.fetch_add(1, sync::memory_order_relaxed); }
    void handler_ended() noexcept;

private:
    friend class served;
    friend class serve_wait;

    // When the handlers are told to stop. On the home loop.
    class limit_timer final : public SleepSession {
    public:
        explicit limit_timer(server_state &owner) noexcept : owner_(owner) {}
        void set(std::int64_t at) noexcept;
        void stop() noexcept;

    private:
        void start() noexcept;
        int duration(struct timespec *value) override;
        void handle(int state, int error) override;
        bool handle_in_place() override { return true; }

        server_state &owner_;
        std::int64_t at_ = serve_wait::no_limit; // monotonic
        bool running_ = false;                   // and the server is retained
    };

    int bind_to(Communicator &communicator, CommLoop &here) noexcept override;
    void changed() noexcept override;
    void abandoned() noexcept override;
    bool is_awaited() const noexcept override { return !serving_.empty(); }
    void finished() noexcept;
    void post_to_shards(node_to<server_state> server_shard::*node) noexcept;
    void drain_shard(server_shard &shard) noexcept;
    void cancel_shard(server_shard &shard) noexcept;

    exception_sink sink_;
    std::unique_ptr<server_shard[]> shards_; // from bind_to() on
    std::size_t loops_ = 0;
    waiters<serve_wait> serving_;
    node_to<server_state> finished_node_;
    limit_timer limit_{*this};
    sync::atomic<std::size_t> running_{0}; // handlers, and 1 from bind_to() to the end of the core's service
    bool ran_ = false;                     // the core's service was bound
    bool draining_ = false;                // begin_drain() was called
    bool stopped_ = false;                 // stop_handlers() was called
    bool finished_ = false;                // running_ is 0 again
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
