// serve<P>: a server on every loop. Each connection gets a coroutine of its own, on the loop that accepted
// it, so that the loops share nothing; the coroutines that serve() starts have all ended when it returns.
//
//     int main() {
//         return parley::run([]() -> parley::task<int> {
//             auto served = co_await parley::serve<lines>(parley::endpoint("0.0.0.0", 7000), echo);
//             if (!served)
//                 std::cerr << served.error() << '\n';
//             co_return served ? 0 : 1;
//         }());
//     }

#pragma once

#include <chrono>
#include <concepts>
#include <exception>
#include <functional>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/connection.hpp>
#include <parley/detail/callable.hpp>
#include <parley/detail/server_state.hpp>
#include <parley/drain_report.hpp>
#include <parley/endpoint.hpp>
#include <parley/protocol.hpp>
#include <parley/result.hpp>
#include <parley/service_options.hpp>
#include <parley/task.hpp>

namespace parley::inline PARLEY_ABI {

class serve_options : public service_options<serve_options> {
public:
    serve_options() = default;

    // Called with the address when the port is open, the port that 0 became included. By serve(), on its
    // loop.
    template <class F>
        requires std::invocable<std::decay_t<F> &, const endpoint &>
    serve_options &on_listening(F &&f) {
        detail::check_callable<F>();
        on_listening_ = std::forward<F>(f);
        return *this;
    }

    // Called with the peer and the exception that left its handler, instead of a line on standard error. On
    // the handler's loop, so on several at once. The connection is closed, and the server goes on.
    template <class F>
        requires std::invocable<std::decay_t<F> &, const endpoint &, std::exception_ptr>
    serve_options &on_exception(F &&f) {
        detail::check_callable<F>();
        on_exception_ = std::forward<F>(f);
        return *this;
    }

    // Whether a handler is cancelled when its peer has gone (reset, hung up, a failed write, TLS closed; an end
    // of its stream alone is none of these), so that nobody works for nobody; true at first. A handler that
    // is in recv() or send() just then is not cancelled: that says how the connection ended.
    serve_options &cancel_when_gone(bool cancel) noexcept {
        settings_.cancel_when_gone = cancel;
        return *this;
    }

    // Whether it is cancelled as well when its peer has ended its own half of the connection and could still
    // read an answer: for protocols whose clients do that only when they give up. False at first.
    serve_options &cancel_when_half_closed(bool cancel) noexcept {
        settings_.cancel_when_half_closed = cancel;
        return *this;
    }

    [[nodiscard]] const std::function<void(const endpoint &)> &listening() const noexcept {
        return on_listening_;
    }
    [[nodiscard]] const detail::server_state::exception_sink &exception() const noexcept {
        return on_exception_;
    }

private:
    std::function<void(const endpoint &)> on_listening_;
    detail::server_state::exception_sink on_exception_;
};

// A server as an object, for those who want to know its port before it serves, or to end it while the runtime
// goes on. serve<P>() below is the short form.
//
//     parley::server<lines> door(where, echo);
//     auto local = co_await door.listen();       // result<endpoint>: connections are served from now on
//     auto served = co_await door.serve();       // until close() or drain(), or until this task is told to
//     stop
//
// A handle, movable; the destructor begins the close and never waits. Except for its handlers it belongs to
// the loop on which it was first used.
template <class P>
class server {
    static_assert(detail::check_service_protocol<P>());

public:
    using protocol_type = P;

    // `handler` is called as handler(connection<P>) for each connection and makes the task<> that serves it;
    // from every loop, at the same time, so what it captures must bear that. It is kept until the last of its
    // tasks has ended. What it needs of its own for a task belongs into that task's parameters or locals.
    template <class H>
    server(endpoint where, H &&handler, const serve_options &options = {});
    server(server &&other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    server &operator=(server &&other) noexcept {
        if (this != &other) {
            drop();
            state_ = std::exchange(other.state_, nullptr);
        }
        return *this;
    }
    // As close(), without waiting. A serve() that another task is in ends as if that task had been told to
    // stop.
    ~server() { drop(); }

    // result<endpoint>: opens the port on every loop, if it is not open yet, and says which it is. Errors:
    // stage::listen (address_in_use, permission_denied ...), stage::resolve, errc::closed.
    [[nodiscard]] detail::listen_wait listen() noexcept { return detail::listen_wait(state_); }
    [[nodiscard]] result<endpoint> local_endpoint() const {
        if (state_)
            return state_->local();
        return unexpected(errc::closed, stage::listen);
    }

    // result<void>: listens, if listen() was not called, and returns when the server was closed and its last
    // handler has ended. Errors as listen(), and why listening ended if it did by itself. Cancelled, it tells
    // every handler to stop, closes every connection and waits for the handlers.
    [[nodiscard]] detail::serve_wait serve() noexcept {
        return detail::serve_wait(state_, detail::serve_wait::kind::serve);
    }

    // result<void>: stops listening and closes the connections that are idle, whose recv() then says
    // errc::stopping; requests in flight are answered. Done when the last handler has ended.
    [[nodiscard]] detail::serve_wait close() noexcept {
        return detail::serve_wait(state_, detail::serve_wait::kind::close);
    }
    // result<drain_report>: the same; after `limit` every handler that still runs is told to stop and its
    // connection is closed. Done when the last handler has ended, which one in a shield() or a compute() may
    // put off. Cancelled, nobody waits any more, and the limit holds all the same. Called again while it
    // drains, it can only bring the limit forward. Errors: errc::closed, of a handle that was moved from.
    [[nodiscard]] detail::drain_wait drain(detail::any_duration limit) noexcept {
        return detail::drain_wait(state_, limit.count());
    }

private:
    void drop() noexcept {
        if (detail::server_state *old = std::exchange(state_, nullptr))
            old->abandon();
    }

    detail::server_state *state_ = nullptr;
};

// --- Implementation ---

namespace detail {

template <class P>
class served_state_of final : public served, public connection_state_of<P> {
public:
    served_state_of(server_state &server, CommLoop &here) noexcept : connection_state_of<P>(server, here) {}
    using served::begin;

private:
    void peer_gone() noexcept override { this->abandon_handler(); }
    void peer_half_closed() noexcept override { this->abandon_half_closed(); }
    connection_state &state() noexcept override { return *this; }
};

template <class P, class H>
class server_state_of final : public server_state {
public:
    template <class F>
    server_state_of(endpoint where, F &&handler, const serve_options &options)
        : server_state(std::move(where), options.settings(), options.exception()),
          handler_(std::forward<F>(handler)) {}

private:
    connection_state *make_state(CommLoop &here) override { return new served_state_of<P>(*this, here); }
    void arrived(connection_state &newcomer) noexcept override {
        newcomer.retain();
        try {
            task<void> handling = std::invoke(handler_, connection_access::adopt<P>(&newcomer));
            if (!handling)
                throw_empty_task();
            static_cast<served_state_of<P> &>(newcomer).begin(std::move(handling));
        } catch (...) {
            this->report_failure(newcomer.peer(), std::current_exception());
        }
    }

    H handler_;
};

template <class P, class H>
task<result<void>> serve_until_closed(endpoint where, H handler, serve_options options) {
    server<P> door(std::move(where), std::move(handler), options);
    result<endpoint> local = co_await door.listen();
    if (!local)
        co_return unexpected(std::move(local).error());
    if (options.listening())
        options.listening()(*local);
    result<void> served = co_await door.serve();
    co_return served;
}

} // namespace detail

template <class P>
template <class H>
server<P>::server(endpoint where, H &&handler, const serve_options &options) {
    detail::check_callable<H>();
    static_assert(std::is_invocable_r_v<task<>, std::decay_t<H> &, connection<P>>,
                  "parley: a server's handler takes a parley::connection<P> and makes a parley::task<>");
    state_ =
        new detail::server_state_of<P, std::decay_t<H>>(std::move(where), std::forward<H>(handler), options);
}

// result<void>: opens `where` on every loop and serves each connection with handler(connection<P>), until the
// task that awaits this is told to stop, by its scope or by runtime::stop(). Errors and the handler: see
// server<P>.
template <class P, class H>
[[nodiscard]] task<result<void>> serve(endpoint where, H &&handler, serve_options options = {}) {
    detail::check_callable<H>();
    return detail::serve_until_closed<P, std::decay_t<H>>(std::move(where), std::forward<H>(handler),
                                                          std::move(options));
}

} // namespace parley::inline PARLEY_ABI
