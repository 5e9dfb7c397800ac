// acceptor<P>: a port, and the connections that come in through it, one by one, on one loop. For servers that
// want to decide themselves what becomes of each connection; serve.hpp has the server that spreads them over
// all loops.
//
//     parley::task<> server() {
//         parley::acceptor<lines> door{parley::endpoint{"127.0.0.1", 7000}};
//         co_await parley::with_scope([&](parley::scope& peers) -> parley::task<> {
//             while (auto peer = co_await door.accept())
//                 peers.spawn(echo(std::move(*peer)));
//         });
//     }

#pragma once

#include <chrono>
#include <coroutine>
#include <utility>

#include <parley/config.hpp>
#include <parley/connection.hpp>
#include <parley/detail/acceptor_state.hpp>
#include <parley/endpoint.hpp>
#include <parley/protocol.hpp>
#include <parley/result.hpp>
#include <parley/service_options.hpp>

namespace parley::inline PARLEY_ABI {

class acceptor_options : public service_options<acceptor_options> {
public:
    acceptor_options() = default;

    // Connections that may wait for accept(), 128 at first; more wait in the kernel's backlog.
    acceptor_options &queue_limit(int connections) noexcept {
        settings_.queue = connections < 1 ? 1 : connections;
        return *this;
    }
};

namespace detail {
template <class P>
class accept_operation;
}

// A handle, movable; the destructor begins the close and never waits. It belongs to the loop on which it was
// first used, and is used there; so do its connections.
template <class P>
class acceptor {
    static_assert(detail::check_service_protocol<P>());

public:
    using protocol_type = P;

    // In a task, opens the port at once; a name is resolved by the first accept() or listen(), which also
    // open the port of an acceptor that was made elsewhere. Never fails: what is wrong is told by those.
    explicit acceptor(endpoint where, const acceptor_options &options = {});
    acceptor(acceptor &&other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    acceptor &operator=(acceptor &&other) noexcept {
        if (this != &other) {
            drop();
            state_ = std::exchange(other.state_, nullptr);
        }
        return *this;
    }
    // As close(), without waiting. An accept() that another task is in ends as if that task had been told to
    // stop.
    ~acceptor() { drop(); }

    // result<connection<P>>: the next connection, before any TLS handshake (its first recv() or send() waits
    // for that). Several tasks may wait; the first gets the first. Cancelled, no connection is lost.
    //
    // Errors: why the port could not be opened (stage::listen or stage::resolve: address_in_use,
    // permission_denied, a name that is not known ...), again each time; errc::closed after close();
    // errc::stopping when the runtime stops.
    [[nodiscard]] detail::accept_operation<P> accept() noexcept;

    // result<endpoint>: opens the port, if it is not open yet, and says which it is. Errors as accept().
    [[nodiscard]] detail::listen_wait listen() noexcept { return detail::listen_wait(state_); }

    // The address that it listens on, with the port that 0 became; or why it does not listen.
    [[nodiscard]] result<endpoint> local_endpoint() const {
        if (state_)
            return state_->local();
        return unexpected(errc::closed, stage::listen);
    }

    // Stops listening, closes connections that nobody accepted yet and those that are idle, lets requests in
    // flight be answered, and waits until the last connection is gone. A connection is idle while no request
    // of it awaits its answer; recv() then says errc::stopping.
    [[nodiscard]] detail::shut_wait close() noexcept { return detail::shut_wait(state_, -1); }
    // The same; what is still busy after `limit` is closed too.
    [[nodiscard]] detail::shut_wait drain(detail::any_duration limit) noexcept {
        return detail::shut_wait(state_, limit.count() <= 0 ? 0 : detail::core_milliseconds(limit));
    }

private:
    void drop() noexcept {
        if (detail::acceptor_state *old = std::exchange(state_, nullptr))
            old->abandon();
    }

    detail::acceptor_state *state_ = nullptr;
};

// --- Implementation ---

namespace detail {

template <class P>
class acceptor_state_of final : public acceptor_state {
public:
    using acceptor_state::acceptor_state;

private:
    connection_state *make_state(CommLoop &here) override { return new connection_state_of<P>(*this, here); }
};

template <class P>
class [[nodiscard]] accept_operation final : public accept_base {
public:
    explicit accept_operation(acceptor_state *state) noexcept : accept_base(state) {}

    result<connection<P>> await_resume() {
        if (connection_state *taken = take())
            return connection_access::adopt<P>(taken);
        return unexpected(why());
    }
};

} // namespace detail

template <class P>
acceptor<P>::acceptor(endpoint where, const acceptor_options &options)
    : state_(new detail::acceptor_state_of<P>(std::move(where), options.settings())) {
    state_->open_in_task();
}

template <class P>
detail::accept_operation<P> acceptor<P>::accept() noexcept {
    return detail::accept_operation<P>(state_);
}

} // namespace parley::inline PARLEY_ABI
