// connection<P>: one client of a server, as the server's coroutine sees it: a queue of turns. Requests come
// out of recv() in the order they were sent, answers go out by send() in the same order. Acceptors and
// servers make connections (acceptor.hpp, serve.hpp); a program that asks instead of answering uses
// client.hpp.
//
//     parley::task<> echo(parley::connection<lines> peer) {
//         while (auto line = co_await peer.recv())
//             if (auto sent = co_await peer.send(*line); !sent)
//                 co_return;
//     }

#pragma once

#include <coroutine>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/detail/connection_state.hpp>
#include <parley/detail/context.hpp>
#include <parley/endpoint.hpp>
#include <parley/protocol.hpp>
#include <parley/result.hpp>
#include <parley/tls_identity.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {
template <class P>
class recv_operation;
template <class P>
class recv_into_operation;
template <class M>
class send_operation;
template <class M>
class send_owned_operation;
template <class M>
class push_operation;
struct connection_access;
} // namespace detail

// A handle, movable and cheap; the destructor begins the close and never waits. It belongs to the loop that
// accepted it, and its operations are awaited there (std::errc::operation_not_permitted elsewhere); peer()
// and local() too. One task may be in recv() and others in send() and push() at the same time.
//
// Errors. A failure closes the connection, and what is awaited on it says why: errc::timed_out with the stage
// whose limit ran out; errc::bad_message or what the parser says (stage::receive); the category `tls` with
// OpenSSL's reason (stage::tls); a system error; errc::stopping (the runtime or the server stops);
// errc::closed (closed here, or the handle is empty). Each names the peer and the time that the operation
// took.
template <class P>
class connection {
    static_assert(detail::check_service_protocol<P>());

public:
    using protocol_type = P;
    using request = typename P::request;
    using response = typename P::response;

    // Empty: every operation is errc::closed.
    connection() noexcept = default;
    connection(connection &&other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    connection &operator=(connection &&other) noexcept {
        if (this != &other) {
            drop();
            state_ = std::exchange(other.state_, nullptr);
        }
        return *this;
    }
    // Begins to close. A recv() that another task is in ends as if that task had been told to stop.
    ~connection() { drop(); }

    // result<request>: the next request, which then awaits its answer. Waits for the TLS handshake first, and
    // while max_pipeline requests (service_options; 1 at first) await their answers, for one of them. At the
    // end of the peer's stream, errc::end_of_stream; requests that came before it can still be answered.
    // Cancelled, nothing is lost: a message that is half here is finished for the next recv().
    // std::errc::device_or_resource_busy while another task is in recv().
    [[nodiscard]] detail::recv_operation<P> recv() noexcept;

    // result<void>: the same into a message of the caller's, whose memory is used for a later request: with
    // it a loop of recv() and send() allocates nothing.
    [[nodiscard]] detail::recv_into_operation<P> recv(request &into) noexcept;

    // result<void>: answers the oldest request that was received and not answered; done when the kernel has
    // all of it. errc::no_turn when there is none. The message is used until the await ends and is not
    // changed. Cancelled before all is written, the connection is closed: the peer has half a message.
    [[nodiscard]] detail::send_operation<response> send(const response &answer) noexcept;
    // The same with a message that is kept as long as it is needed.
    [[nodiscard]] detail::send_owned_operation<P> send(response &&answer) noexcept;

    // result<void>: sends a message that answers nothing, at any time, in order with the answers; done when
    // the kernel has all of it. std::errc::resource_unavailable_try_again when too much is queued already
    // (Communicator::set_push_high_water). Cancelled, the connection is closed.
    [[nodiscard]] detail::push_operation<response> push(response message) noexcept;

    // Closes, and waits until the descriptor is closed. Requests that were not answered get none. What other
    // tasks await here ends with errc::closed.
    [[nodiscard]] detail::close_wait close() noexcept { return detail::close_wait(state_); }

    // Who is there; nowhere, when the handle is empty. A client's unix socket has no path.
    [[nodiscard]] endpoint peer() const { return state_ ? state_->peer() : endpoint(); }
    // The address that the peer connected to.
    [[nodiscard]] endpoint local() const { return state_ ? state_->local() : endpoint(); }

    // Who is at the other end as far as TLS knows, and what was agreed: from the first recv() on that gave a
    // request until the connection is closed. Nothing without TLS. Makes copies: ask once.
    [[nodiscard]] std::optional<tls::peer_identity> tls_peer() const {
        return state_ ? state_->tls_peer() : std::nullopt;
    }

    // Whether there is a connection in this handle; not whether it is still alive.
    explicit operator bool() const noexcept { return state_ != nullptr; }

private:
    friend struct detail::connection_access;
    void drop() noexcept {
        if (detail::connection_state *old = std::exchange(state_, nullptr))
            old->abandon();
    }

    detail::connection_state *state_ = nullptr;
};

// --- Implementation ---

namespace detail {

template <class P>
class turn_of final : public turn {
public:
    explicit turn_of(connection_state &owner) noexcept : turn(owner) {}
    typename P::request request;

private:
    CommMessageIn *message_in() override {
        message_bound();
        if constexpr (has_input<typename P::request>)
            return request.input(*this, protocol_settings());
        else
            return &request;
    }
};

// The first turn lives in the state itself; more are needed for pipelining only.
template <class P>
class connection_state_of : public connection_state {
public:
    connection_state_of(door &from, CommLoop &home) noexcept : connection_state(from, home) {}
    ~connection_state_of() override {} // no turn is left

private:
    turn *make_turn() override {
        if (!first_used_) {
            std::construct_at(&first_, *this);
            first_used_ = true;
            return &first_;
        }
        return new turn_of<P>(*this);
    }
    void free_turn(turn *old) noexcept override {
        if (old == &first_) {
            std::destroy_at(&first_);
            first_used_ = false;
        } else {
            delete static_cast<turn_of<P> *>(old);
        }
    }

    // Not an optional: in front of it the flag takes no place of its own.
    bool first_used_ = false;
    union {
        turn_of<P> first_;
    };
};

struct connection_access {
    // Takes over a reference.
    template <class P>
    [[nodiscard]] static connection<P> adopt(connection_state *state) noexcept {
        connection<P> made;
        made.state_ = state;
        return made;
    }
    template <class P>
    [[nodiscard]] static connection_state *state(const connection<P> &from) noexcept {
        return from.state_;
    }
};

// What the two forms of recv() have in common: a pointer, and whether it is worth following.
class recv_base {
public:
    static constexpr bool keeps_result = true;

    bool await_ready() noexcept;
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    void keep() noexcept;
    recv_base(recv_base &&) = delete;

protected:
    explicit recv_base(connection_state *state) noexcept : state_(state) {}
    ~recv_base() {
        if (held_)
            state_->release();
    }
    turn *take() noexcept;
    [[nodiscard]] error why() const;

private:
    connection_state *state_;
    bool held_ = false; // while the task is suspended the handle may go
    bool refused_ = false;
    bool elsewhere_ = false; // on another loop than the connection's
};

template <class P>
class [[nodiscard]] recv_operation final : public recv_base {
public:
    explicit recv_operation(connection_state *state) noexcept : recv_base(state) {}

    result<typename P::request> await_resume() {
        turn *t = take();
        if (!t)
            return unexpected(why());
        auto &message = static_cast<turn_of<P> *>(t)->request;
        result<typename P::request> taken(std::in_place, std::move(message));
        reset_message(message);
        return taken;
    }
};

template <class P>
class [[nodiscard]] recv_into_operation final : public recv_base {
public:
    recv_into_operation(connection_state *state, typename P::request &into) noexcept
        : recv_base(state), into_(into) {}

    result<void> await_resume() {
        turn *t = take();
        if (!t)
            return unexpected(why());
        auto &message = static_cast<turn_of<P> *>(t)->request;
        using std::swap;
        swap(message, into_);
        reset_message(message);
        return {};
    }

private:
    typename P::request &into_;
};

class send_base {
public:
    bool await_ready() noexcept;
    void keep() noexcept;
    send_base(send_base &&) = delete;

protected:
    explicit send_base(connection_state *state) noexcept : state_(state) {}
    ~send_base() {
        if (held_)
            state_->release();
    }
    bool begin(context &task, CommMessageOut &message, bool last) noexcept;
    result<void> end() const;
    [[nodiscard]] connection_state *state() const noexcept { return state_; }

private:
    connection_state *state_;
    bool held_ = false; // while the task is suspended the handle may go
    send_status status_ = send_status::pending;
};

template <class M>
class [[nodiscard]] send_operation final : public send_base {
public:
    send_operation(connection_state *state, const M &answer) noexcept : send_base(state), answer_(answer) {}

    bool await_suspend(std::coroutine_handle<>, context &task) noexcept {
        // encode() is not const in the core; protocol.hpp says that it leaves the message as it was.
        return begin(task, const_cast<M &>(answer_), !keeps_alive(answer_));
    }
    result<void> await_resume() const { return end(); }

private:
    const M &answer_;
};

template <class P>
class [[nodiscard]] send_owned_operation final : public send_base {
public:
    send_owned_operation(connection_state *from, typename P::response &&answer) noexcept
        : send_base(from), answer_(std::move(answer)) {}

    bool await_suspend(std::coroutine_handle<>, context &task) noexcept {
        return begin(task, answer_, !keeps_alive(answer_));
    }
    result<void> await_resume() {
        // Where both sides speak the same message, its memory is used for the next request.
        if constexpr (std::is_same_v<typename P::request, typename P::response>) {
            if (turn *next = state() ? state()->idle_turn() : nullptr) {
                auto &message = static_cast<turn_of<P> *>(next)->request;
                message = std::move(answer_);
                reset_message(message);
            }
        }
        return end();
    }

private:
    typename P::response answer_;
};

template <class M>
class [[nodiscard]] push_operation final : public push_wait {
public:
    push_operation(connection_state *state, M &&message) noexcept
        : push_wait(state), message_(std::move(message)) {}

private:
    CommMessageOut &message() noexcept override { return message_; }
    M message_;
};

} // namespace detail

template <class P>
detail::recv_operation<P> connection<P>::recv() noexcept {
    return detail::recv_operation<P>(state_);
}
template <class P>
detail::recv_into_operation<P> connection<P>::recv(request &into) noexcept {
    return detail::recv_into_operation<P>(state_, into);
}
template <class P>
detail::send_operation<typename P::response> connection<P>::send(const response &answer) noexcept {
    return detail::send_operation<response>(state_, answer);
}
template <class P>
detail::send_owned_operation<P> connection<P>::send(response &&answer) noexcept {
    return detail::send_owned_operation<P>(state_, std::move(answer));
}
template <class P>
detail::push_operation<typename P::response> connection<P>::push(response message) noexcept {
    return detail::push_operation<response>(state_, std::move(message));
}

} // namespace parley::inline PARLEY_ABI
