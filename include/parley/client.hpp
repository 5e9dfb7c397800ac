// client<P>: asks a server, over a pool of connections that are kept alive between requests.
//
//     parley::task<> ask() {
//         parley::client<lines> client{parley::endpoint{"127.0.0.1", 7000}};
//         auto answer = co_await client.request(parley::line_message{"hello"});
//         if (answer)
//             std::cout << answer->text() << '\n';
//         else
//             std::cerr << answer.error() << '\n';
//     }

#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include <parley/config.hpp>
#include <parley/detail/client_state.hpp>
#include <parley/detail/context.hpp>
#include <parley/detail/saturate.hpp>
#include <parley/endpoint.hpp>
#include <parley/protocol.hpp>
#include <parley/result.hpp>
#include <parley/service_options.hpp>
#include <parley/tls.hpp>

namespace parley::inline PARLEY_ABI {

// Each function changes one thing and returns the object.
class client_options {
public:
    client_options() = default;

    // Speak TLS; a context::client(), which verifies that the peer is the endpoint's host.
    client_options &tls(parley::tls::context context) {
        settings_.tls = std::move(context);
        return *this;
    }
    // The name to ask for and to verify, where it is not the endpoint's host.
    client_options &server_name(std::string name) {
        settings_.server_name = std::move(name);
        return *this;
    }
    // Open sockets, and so requests under way, at most; 100 at first. Further requests wait, first in, first
    // out (stage::pool_wait).
    client_options &max_connections(std::size_t connections) noexcept {
        settings_.max_connections = connections < 1 ? 1 : connections;
        return *this;
    }
    // How long a connection that is not used stays open: 60 s at first. Zero closes after each request;
    // negative keeps for ever.
    client_options &keep_alive(detail::any_duration time) noexcept {
        settings_.keep_alive = time.count() == 0 ? 0 : detail::core_milliseconds(time);
        return *this;
    }
    // A request that found its kept connection closed by the server, before any byte of an answer, is sent
    // once more on a fresh one. For requests that may be carried out twice.
    client_options &retriable(bool yes = true) noexcept {
        settings_.retriable = yes;
        return *this;
    }

    // Limits of time, any duration. What runs out fails the request with errc::timed_out; the error says the
    // stage that is named here and the limit. Negative is none, and so is one of more than 24 days. Of a
    // limit and a budget (with_timeout) the nearer counts.

    // stage::resolve: for the name's addresses; none at first. The look-up is left to itself.
    client_options &resolve_limit(detail::any_duration limit) noexcept {
        settings_.resolve = limit.count();
        return *this;
    }
    // stage::pool_wait: for a free connection, at each address; none at first. The request leaves the queue.
    client_options &pool_wait_limit(detail::any_duration limit) noexcept {
        settings_.pool_wait = limit.count();
        return *this;
    }
    // One request altogether, from the first of these to the last byte of the answer; none at first. As
    // with_timeout() around it: the stage is the one in which the request stood.
    client_options &total_limit(detail::any_duration limit) noexcept {
        settings_.total = limit.count();
        return *this;
    }
    // stage::connect, for each address: 10 s at first.
    client_options &connect_limit(detail::any_duration limit) noexcept {
        settings_.connect = detail::core_milliseconds(limit);
        return *this;
    }
    // stage::gap: without any progress: 60 s at first. The wait for the first byte counts too, unless that
    // has a limit of its own.
    client_options &gap_limit(detail::any_duration limit) noexcept {
        settings_.gap = detail::core_milliseconds(limit);
        return *this;
    }
    // stage::first_byte: from the request's last byte to the answer's first; no limit of its own at first.
    // With hours::max() there is no limit to that wait, not the gap's either.
    client_options &first_byte_limit(detail::any_duration limit) noexcept {
        settings_.first_byte = limit.count() < 0 ? 0 : detail::core_milliseconds(limit);
        return *this;
    }
    // stage::receive: the whole answer, from the request's last byte, or from the answer's first if that has
    // a limit of its own; none at first.
    client_options &receive_limit(detail::any_duration limit) noexcept {
        settings_.receive = detail::core_milliseconds(limit);
        return *this;
    }
    // stage::tls, stage::send: as the runtime's (runtime_options) at first. Set one, and both are this
    // client's own, with 10 s and 60 s for the one that was not named.
    client_options &handshake_limit(detail::any_duration limit) noexcept {
        settings_.deadlines.handshake = detail::core_milliseconds(limit);
        settings_.own_deadlines = true;
        return *this;
    }
    client_options &send_limit(detail::any_duration limit) noexcept {
        settings_.deadlines.send = detail::core_milliseconds(limit);
        settings_.own_deadlines = true;
        return *this;
    }

    [[nodiscard]] const detail::client_settings &settings() const noexcept { return settings_; }

private:
    detail::client_settings settings_;
};

namespace detail {
template <class P>
class request_operation;
template <class P>
class request_into_operation;
} // namespace detail

// A handle, movable. Tasks of several loops and threads may share one; each request uses its own loop's
// connections first. The destructor closes the idle connections and never waits; requests that are under way
// come to their end.
template <class P>
class client {
    static_assert(detail::check_client_protocol<P>());

public:
    using protocol_type = P;
    using request_type = typename P::request;
    using response_type = typename P::response;

    // Opens nothing yet. A name is resolved by the first request, and again when none of its addresses can be
    // reached.
    explicit client(endpoint where, const client_options &options = {})
        : state_(std::make_shared<detail::client_state>(std::move(where), options.settings())) {}

    // result<response>: sends `message` and waits for the answer. Cancelled while it waits for a connection,
    // it leaves the queue; later, the connection is closed.
    //
    // Errors: errc::timed_out with the stage whose limit ran out, and that limit; stage::resolve;
    // stage::connect, when no address of the peer could be reached (connection_refused ...); stage::tls, with
    // the reason why the certificate was refused; what the answer's parser says, errc::bad_message or another
    // (stage::receive); connection_reset; errc::stopping when the runtime stops. Each names the peer and the
    // time since the request began.
    [[nodiscard]] detail::request_operation<P> request(request_type message) {
        return detail::request_operation<P>(state_, std::move(message));
    }

    // result<void>: the same with messages of the caller's, which are used until the await ends. `message` is
    // not changed; the memory of `answer` is used again, so a loop of these allocates nothing.
    [[nodiscard]] detail::request_into_operation<P> request(const request_type &message,
                                                            response_type &answer) {
        return detail::request_into_operation<P>(state_, message, answer);
    }

    // Closes the connections that no request uses. Any thread.
    void close_idle() noexcept {
        if (state_)
            state_->close_idle();
    }

    // As given to the constructor.
    [[nodiscard]] endpoint peer() const { return state_ ? state_->where : endpoint(); }

private:
    std::shared_ptr<detail::client_state> state_;
};

// --- Implementation ---

namespace detail {

// What a protocol's messages may say beyond what the core asks them (protocol.hpp).
template <class Response, class Request>
void announce_request(Response &answer, const Request &message) {
    if constexpr (requires { answer.answers_to(message); })
        answer.answers_to(message);
}
template <class Response>
[[nodiscard]] bool ends_with_stream(Response &answer) {
    if constexpr (requires { answer.end_of_stream(); })
        return answer.end_of_stream();
    else
        return false;
}
template <class Request>
[[nodiscard]] bool repeatable(const Request &message) noexcept {
    if constexpr (requires { message.retriable(); })
        return message.retriable();
    else
        return false;
}

template <class P>
class [[nodiscard]] request_operation final : public client_operation {
public:
    request_operation(std::shared_ptr<client_state> state, typename P::request &&message) noexcept
        : client_operation(std::move(state)), message_(std::move(message)) {
        announce_request(response_, message_);
    }

    result<typename P::response> await_resume() {
        if (this->succeeded())
            return result<typename P::response>(std::in_place, std::move(response_));
        return unexpected(this->why());
    }

private:
    CommMessageOut *message_out() override { return &message_; }
    CommMessageIn *message_in() override { return &response_; }
    bool answer_persists() const noexcept override { return keeps_alive(response_); }
    bool answer_ends_with_stream() override { return ends_with_stream(response_); }
    bool may_repeat() const noexcept override { return repeatable(message_); }

    typename P::request message_;
    typename P::response response_;
};

template <class P>
class [[nodiscard]] request_into_operation final : public client_operation {
public:
    request_into_operation(std::shared_ptr<client_state> state, const typename P::request &message,
                           typename P::response &answer) noexcept
        : client_operation(std::move(state)), message_(message), answer_(answer) {
        reset_message(answer_);
        announce_request(answer_, message_);
    }

    result<void> await_resume() {
        if (this->succeeded())
            return {};
        return unexpected(this->why());
    }

private:
    // encode() is not const in the core; protocol.hpp says that it leaves the message as it was.
    CommMessageOut *message_out() override { return const_cast<typename P::request *>(&message_); }
    CommMessageIn *message_in() override { return &answer_; }
    bool answer_persists() const noexcept override { return keeps_alive(answer_); }
    bool answer_ends_with_stream() override { return ends_with_stream(answer_); }
    bool may_repeat() const noexcept override { return repeatable(message_); }

    const typename P::request &message_;
    typename P::response &answer_;
};

} // namespace detail

} // namespace parley::inline PARLEY_ABI
