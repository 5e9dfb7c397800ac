// A protocol, as acceptors, servers, connections and clients take one: a struct that names two message
// classes of the core, which callback programs use as they are.
//
//     struct lines {
//         using request = parley::line_message;  // what clients send and servers parse
//         using response = parley::line_message; // what servers send and clients parse
//     };
//
// A message is default-constructible, movable while no connection uses it, and derives from CommMessageIn
// where it is parsed and from CommMessageOut where it is sent; a protocol whose both sides are used in one
// program needs both of both. A message that has `void clear()`, which makes it ready to be parsed into again
// and keeps its memory, is reused without allocating; others are replaced by a new one. A message sent by
// const reference has an encode() that leaves it as it was.
//
// More that a message may have, for protocols that need it:
//     bool keep_alive() const      of what is sent or received: false, the connection is closed behind it
//     bool end_of_stream()         of a response: the peer has closed; true if that completes it
//     bool retriable() const       of a request: it may be sent twice for once, when a connection that was kept alive
//                                  turns out to be closed by the peer before any byte of an answer
//     answers_to(const request &)  of a response: called before it is parsed into
//     CommMessageIn *input(CommSession &, const void *settings)   of a request: what is parsed into, if that is
//                                  not the message itself but something that it owns and that stays where it is
//                                  while the message moves; for messages that are used while they come
//                                  (CommMessageIn::announce). `settings`: service_options::protocol_settings()

#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <parley/config.hpp>
#include <parley/core/Communicator.h>

namespace parley::inline PARLEY_ABI {

template <class P>
concept protocol = requires {
    typename P::request;
    typename P::response;
};

namespace detail {

template <class M>
consteval bool check_message() {
    static_assert(std::is_default_constructible_v<M>,
                  "parley: a message of a protocol is default-constructible: one is made for each turn");
    static_assert(
        std::is_move_constructible_v<M> && std::is_move_assignable_v<M>,
        "parley: a message of a protocol can be moved (CommMessageIn and CommMessageOut themselves can)");
    static_assert(alignof(M) <= alignof(std::max_align_t),
                  "parley: a message is not over-aligned: compilers misplace such objects in coroutines");
    return true;
}

template <class M>
concept has_input = requires(M &message, CommSession &session, const void *settings) {
    { message.input(session, settings) } -> std::convertible_to<CommMessageIn *>;
};

// Whether the connection can carry another message behind this one.
template <class M>
[[nodiscard]] bool keeps_alive(const M &message) noexcept {
    if constexpr (requires { message.keep_alive(); })
        return message.keep_alive();
    else
        return true;
}

// For the side that answers: parses requests, sends responses.
template <class P>
consteval bool check_service_protocol() {
    static_assert(protocol<P>, "parley: a protocol is a struct with two message classes in it: "
                               "using request = ...; using response = ...;");
    if constexpr (protocol<P>) {
        static_assert(std::derived_from<typename P::request, CommMessageIn> || has_input<typename P::request>,
                      "parley: a server parses requests: P::request derives from CommMessageIn, publicly");
        static_assert(std::derived_from<typename P::response, CommMessageOut>,
                      "parley: a server sends responses: P::response derives from CommMessageOut, publicly");
        return check_message<typename P::request>() && check_message<typename P::response>();
    }
    return true;
}

// For the side that asks: sends requests, parses responses.
template <class P>
consteval bool check_client_protocol() {
    static_assert(protocol<P>, "parley: a protocol is a struct with two message classes in it: "
                               "using request = ...; using response = ...;");
    if constexpr (protocol<P>) {
        static_assert(std::derived_from<typename P::request, CommMessageOut>,
                      "parley: a client sends requests: P::request derives from CommMessageOut, publicly");
        static_assert(std::derived_from<typename P::response, CommMessageIn>,
                      "parley: a client parses responses: P::response derives from CommMessageIn, publicly");
        return check_message<typename P::request>() && check_message<typename P::response>();
    }
    return true;
}

// Makes a message ready to be parsed into.
template <class M>
void reset_message(M &message) {
    if constexpr (requires { message.clear(); })
        message.clear();
    else
        message = M{};
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
