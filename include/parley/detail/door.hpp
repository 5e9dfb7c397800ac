// The service behind acceptors and servers: opens a port where its endpoint says, resolving a name first, and
// is told of every connection.

#pragma once

#include <chrono>
#include <cstdint>

#include <parley/config.hpp>
#include <parley/core/Communicator.h>
#include <parley/core/Sync.h>
#include <parley/detail/connection_state.hpp>
#include <parley/detail/context.hpp>
#include <parley/detail/hold.hpp>
#include <parley/detail/node_to.hpp>
#include <parley/detail/query.hpp>
#include <parley/detail/waiters.hpp>
#include <parley/endpoint.hpp>
#include <parley/error.hpp>
#include <parley/loop.hpp>
#include <parley/result.hpp>
#include <parley/service_options.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

class door;

// Somebody who waits until the door is open, or until it is closed.
class door_wait : public waiter<door_wait>, protected operation {
public:
    door_wait(door_wait &&) = delete;

protected:
    // Where the door is another loop's, the wait is refused.
    explicit door_wait(door *d) noexcept;
    ~door_wait() = default;
    void begin_wait(waiters<door_wait> &queue, context &task) noexcept;
    void cancel() noexcept override; // unlinks
    std::string resource() const override;

    hold<door> door_;

private:
    friend class door;
    context *task_ = nullptr;
    waiters<door_wait> *queue_ = nullptr;
};

class listen_wait final : public door_wait {
public:
    explicit listen_wait(door *d) noexcept : door_wait(d) {}
    bool await_ready() const noexcept;
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    result<endpoint> await_resume() const;

private:
    const char *name() const noexcept override { return "listen"; }
    parley::stage stage() const noexcept override { return parley::stage::listen; }
};

class shut_wait final : public door_wait {
public:
    // limit_ms: after which what is still busy is closed too; -1 is none.
    shut_wait(door *d, int limit_ms) noexcept;
    bool await_ready() const noexcept;
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    void await_resume() const noexcept {}

private:
    const char *name() const noexcept override { return "close"; }
    parley::stage stage() const noexcept override { return parley::stage::shutdown; }
};

//   | phase     | becomes                                                                                  |
//   |-----------|------------------------------------------------------------------------------------------|
//   | shut      | resolving or open or failed, by open()                                                   |
//   | resolving | open or failed, when the name is known; closed, by begin_close()                         |
//   | open      | closing, by begin_close() or when listening ended by itself                              |
//   | closing   | closed, by handle_unbound(): the last connection is gone                                 |
//   | failed    | closed, by begin_close()                                                                 |
//   | closed    |                                                                                          |
class door : protected CommService, private query_client {
public:
    enum class phase : std::uint8_t { shut, resolving, open, closing, failed, closed };

    void retain() noexcept { references_.fetch_add(1, sync::memory_order_relaxed); }
    void release() noexcept {
        if (references_.fetch_sub(1, sync::memory_order_acq_rel) == 1)
            delete this;
    }

    // The handle is gone, on whatever thread: closes and lets go of its reference.
    void abandon() noexcept;
    // Whether this is the loop that it is used on. True until it was first used.
    [[nodiscard]] bool is_here() const noexcept { return !home_ || CommLoop::current() == core_loop_; }

    // Opens now if no name has to be resolved first; else begins to, if `may_resolve`. Idempotent. On a loop.
    void open(parley::loop &here, bool may_resolve) noexcept;
    void begin_close(int deadline_ms = -1) noexcept;

    [[nodiscard]] phase state() const noexcept { return phase_.load(sync::memory_order_acquire); }
    [[nodiscard]] bool is_opening() const noexcept {
        return state() == phase::shut || state() == phase::resolving;
    }
    // Nobody has ever seen it open, and nobody waits for it any more: an unfinished look-up is given up.
    void lose_interest() noexcept;
    // The port that 0 became; or why there is none.
    [[nodiscard]] result<endpoint> local() const;
    // Why accept() ends; of use when it does.
    [[nodiscard]] error why(parley::stage at) const;
    [[nodiscard]] const endpoint &where() const noexcept { return where_; }
    [[nodiscard]] const service_settings &settings() const noexcept { return settings_; }
    [[nodiscard]] parley::loop *home() const noexcept { return home_; }

    waiters<door_wait> opening; // woken when it is open or failed
    waiters<door_wait> closing; // woken when it is closed

    // --- for connections ---

    // A newborn connection whose first session awaits its request. On its loop.
    virtual void arrived(connection_state &newcomer) noexcept = 0;

protected:
    door(endpoint where, service_settings settings);
    ~door() override = default;

    virtual connection_state *make_state(CommLoop &home) = 0;
    virtual int bind_to(Communicator &communicator, CommLoop &here) noexcept = 0;
    // It is open, failed, closing or closed. On the home loop.
    virtual void changed() noexcept {}
    // The handle is gone: whoever still waits is stopped.
    virtual void abandoned() noexcept {}
    // Whether somebody waits besides those in `opening`.
    [[nodiscard]] virtual bool is_awaited() const noexcept { return false; }

private:
    friend class door_wait;
    friend class connection_state;

    void settle(parley::loop &here) noexcept {
        home_ = &here;
        core_loop_ = &here.core();
    }
    void open_at(const endpoint &address) noexcept;
    void fail(error why) noexcept;
    void resolved(query &q) noexcept override;
    void set_phase(phase next) noexcept;
    static void wake(waiters<door_wait> &queue) noexcept;
    void listening_stopped() noexcept;
    void unbound() noexcept;

    void post_home(node_to<door> &node) noexcept;

    // The core.
    CommSession *new_session(long long seq, CommConnection *link) override;
    CommConnection *new_connection(int fd) override;
    void handle_stop(int error) override;
    void handle_unbound() override;
    bool session_at_connect() override { return true; }
    int max_pipeline() override { return settings_.max_pipeline; }

    endpoint where_;
    service_settings settings_;
    parley::loop *home_ = nullptr;  // from the first use on
    CommLoop *core_loop_ = nullptr; // the same; to be compared even when the runtime is gone
    query *query_ = nullptr;
    error failure_;
    node_to<door> abandon_node_;
    node_to<door> stop_node_;
    node_to<door> unbound_node_;
    int stop_error_ = 0;
    sync::atomic<int> references_{1};        // atomic because another thread may drop the handle
    sync::atomic<phase> phase_{phase::shut}; // written on the home loop; read by who drops a handle elsewhere
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
