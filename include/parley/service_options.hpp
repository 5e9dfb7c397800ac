// What acceptors and servers have in common to be set: TLS, pipelining, limits of time. Each function changes
// one thing and returns the object, so that options read as a sentence:
//
//     parley::acceptor<lines> door{where, parley::acceptor_options().tls(context).idle_limit(60s)};

#pragma once

#include <memory>
#include <utility>

#include <parley/config.hpp>
#include <parley/core/Communicator.h>
#include <parley/detail/saturate.hpp>
#include <parley/tls.hpp>

namespace parley::inline PARLEY_ABI {

namespace detail {

struct service_settings {
    tls::context tls;
    int max_pipeline = 1;
    int queue = 128;
    int idle = -1;
    int receive = -1;
    int gap = -1;
    std::shared_ptr<const void> protocol;
    CommDeadlines deadlines{30'000, 10'000, 60'000};
    bool own_deadlines = false; // else the runtime's
    bool cancel_when_gone = true;
    bool cancel_when_half_closed = false;
};

} // namespace detail

template <class Derived>
class service_options {
public:
    // Speak TLS with the peers; a context::server().
    Derived &tls(parley::tls::context context) {
        settings_.tls = std::move(context);
        return self();
    }
    // How many requests of one connection may be taken and not yet answered; 1 at first. Answers go out in
    // the order of the requests.
    Derived &max_pipeline(int requests) noexcept {
        settings_.max_pipeline = requests < 1 ? 1 : requests;
        return self();
    }

    // What the protocol's own messages are told: their limits, say. Given to P::request::input().
    Derived &protocol_settings(std::shared_ptr<const void> settings) noexcept {
        settings_.protocol = std::move(settings);
        return self();
    }

    // Limits of time, any duration; none unless set, a negative one is none, and so is one of more than 24
    // days. What runs out fails the recv() or send() that waits with errc::timed_out and the stage that is
    // named here, and closes the connection.

    // stage::idle: between an answer and the next request.
    Derived &idle_limit(detail::any_duration limit) noexcept {
        settings_.idle = detail::core_milliseconds(limit);
        return self();
    }
    // stage::receive: from a request's first byte to its last.
    Derived &receive_limit(detail::any_duration limit) noexcept {
        settings_.receive = detail::core_milliseconds(limit);
        return self();
    }
    // stage::gap: without any progress, in a request or in an answer that the peer does not take.
    Derived &gap_limit(detail::any_duration limit) noexcept {
        settings_.gap = detail::core_milliseconds(limit);
        return self();
    }

    // The three that a runtime sets for everybody (runtime_options); set one, and they are this service's
    // own, with 30 s, 10 s and 60 s for those that were not named.

    // stage::receive: from the connection, or a later request's first byte, to the whole request.
    Derived &first_message_limit(detail::any_duration limit) noexcept {
        settings_.deadlines.first_message = detail::core_milliseconds(limit);
        settings_.own_deadlines = true;
        return self();
    }
    // stage::tls.
    Derived &handshake_limit(detail::any_duration limit) noexcept {
        settings_.deadlines.handshake = detail::core_milliseconds(limit);
        settings_.own_deadlines = true;
        return self();
    }
    // stage::send: one answer, from its first byte to its last.
    Derived &send_limit(detail::any_duration limit) noexcept {
        settings_.deadlines.send = detail::core_milliseconds(limit);
        settings_.own_deadlines = true;
        return self();
    }

    [[nodiscard]] const detail::service_settings &settings() const noexcept { return settings_; }
    // All of them at once: those of other options.
    Derived &settings(const detail::service_settings &all) {
        settings_ = all;
        return self();
    }

protected:
    service_options() = default;
    detail::service_settings settings_;

private:
    Derived &self() noexcept { return static_cast<Derived &>(*this); }
};

} // namespace parley::inline PARLEY_ABI
