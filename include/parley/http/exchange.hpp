// exchange: one request and its answer, as a handler of a server sees them when it wants more than the one whole and
// the other whole (server.hpp): the body while it comes, an answer in pieces, who asks.
//
//     parley::task<> count(parley::http::exchange &x) {
//         std::size_t bytes = 0;
//         for (auto piece = co_await x.read(); piece && !piece->empty(); piece = co_await x.read())
//             bytes += piece->size();
//         auto done = co_await x.respond(parley::http::response::text(200, std::to_string(bytes)));
//     }

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <parley/config.hpp>
#include <parley/connection.hpp>
#include <parley/endpoint.hpp>
#include <parley/http/detail/incoming.hpp>
#include <parley/http/detail/outgoing.hpp>
#include <parley/http/request.hpp>
#include <parley/http/response.hpp>
#include <parley/result.hpp>
#include <parley/task.hpp>

namespace parley::http::inline PARLEY_ABI {

namespace detail {

struct server_core;

// HTTP/1.1 as the server speaks it: requests that are read while they come, answers in pieces.
struct served_http {
    using request = incoming_request;
    using response = outgoing;
};

} // namespace detail

// Made by the server for each request and valid until the handler has ended; its operations are awaited on the
// handler's loop, one at a time.
//
// Errors are those of a connection (connection.hpp): stage::receive or stage::send and the peer. After one the
// exchange is over, and the handler may as well return.
class exchange {
public:
    exchange(const exchange &) = delete;
    exchange &operator=(const exchange &) = delete;

    // The head; the body as well, once whole() has read it.
    [[nodiscard]] http::request &request() noexcept { return in_.head(); }
    [[nodiscard]] const std::string &method() noexcept { return in_.head().method(); }
    // What stood in the place of {name} in the route's pattern, percent-decoded; empty for none.
    [[nodiscard]] std::string_view parameter(std::string_view name) const noexcept;
    [[nodiscard]] endpoint peer() const { return connection_.peer(); }
    // Who that is under TLS; nothing without.
    [[nodiscard]] std::optional<tls::peer_identity> tls_peer() const { return connection_.tls_peer(); }

    // The body.

    // The next piece, which is valid until the next read(); an empty one at the end. Sends "100 Continue" first to a
    // client that waits for it. Errors: std::errc::bad_message for a body that is malformed, std::errc::connection_reset
    // for one that is cut off, errc::timed_out after server_options::body_gap_limit.
    [[nodiscard]] task<result<std::string_view>> read();
    // All of it, into request().body(). std::errc::message_size when it is longer than `most`.
    [[nodiscard]] task<result<void>> whole(std::uint64_t most);
    // What stood behind it, when read() has said that it is at its end.
    [[nodiscard]] const fields &trailer() noexcept { return in_.trailer(); }

    // The answer: once respond(), or begin(), any number of write(), and finish().

    // The library adds Date, the length and what the connection needs; to HEAD it sends the head alone.
    [[nodiscard]] task<result<void>> respond(response answer);
    // The head of an answer whose body follows in pieces: in chunks, or `length` bytes. A body of the response is its
    // first piece.
    [[nodiscard]] task<result<void>> begin(response answer, std::optional<std::uint64_t> length = {});
    // Done when the kernel has the piece, so that a slow reader slows its writer. std::errc::invalid_argument for more
    // than the length that begin() was given.
    [[nodiscard]] task<result<void>> write(std::string_view piece);
    // With a trailer, if the body goes in chunks. std::errc::invalid_argument for less than the length.
    [[nodiscard]] task<result<void>> finish(fields trailer = {});
    // An answer with a status of 1xx before the one that counts: 103 with links, say.
    [[nodiscard]] task<result<void>> interim(response answer);

    // Whether some of the answer has been sent.
    [[nodiscard]] bool begun() const noexcept { return phase_ != phase::nothing; }
    [[nodiscard]] bool finished() const noexcept { return phase_ == phase::finished; }
    [[nodiscard]] int status() const noexcept { return status_; }
    // Bytes of the answer's body so far.
    [[nodiscard]] std::uint64_t sent() const noexcept { return sent_; }

private:
    friend struct detail::server_core;
    enum class phase : std::uint8_t { nothing, begun, finished };

    exchange(connection<detail::served_http> &on, detail::incoming &in,
             const detail::server_core &core) noexcept
        : connection_(on), in_(in), core_(core) {}

    [[nodiscard]] task<result<void>> settle();
    [[nodiscard]] task<result<void>> end(detail::outgoing last);
    void write_head(std::string &to, const response &answer, std::optional<std::uint64_t> length);

    connection<detail::served_http> &connection_;
    detail::incoming &in_;
    const detail::server_core &core_;
    std::vector<std::pair<std::string, std::string>> parameters_;
    std::optional<std::uint64_t> left_; // of the length that begin() was given
    std::uint64_t sent_ = 0;
    std::size_t lent_ = 0; // bytes that the last read() gave
    int status_ = 0;
    phase phase_ = phase::nothing;
    bool continued_ = false;
    bool chunks_ = false;
    bool keep_ = true;    // another request can follow
    bool silent_ = false; // the answer has no body
};

} // namespace parley::http::inline PARLEY_ABI
