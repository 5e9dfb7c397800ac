// A request as a server takes it: the head as soon as it is there, the body while it comes.

#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <parley/config.hpp>
#include <parley/core/Communicator.h>
#include <parley/detail/context.hpp>
#include <parley/error.hpp>
#include <parley/http/limits.hpp>
#include <parley/http/parser.hpp>
#include <parley/http/request.hpp>

namespace parley::http::inline PARLEY_ABI {
namespace detail {

// What the core parses into. It stays where it is, in an incoming_request, from the first byte of a request to its
// last; everything happens on the connection's loop. It holds at most `most_held` bytes of a body that nobody has
// read yet, and one buffer of the loop beyond that; then the peer waits.
//
// What cannot be understood is swallowed from there on, so that the answer can be sent before the connection goes:
// a peer that is cut off while it still writes would not see it.
class incoming final : public CommMessageIn, private parley::detail::operation {
public:
    static constexpr std::size_t most_held = 65536;
    // Of what nobody wants so much is read; then the peer waits for the connection's end.
    static constexpr std::uint64_t most_discarded = 1048576;

    // What a task can wait for: the head; something to read; that nothing more will come. Each also ends by the
    // connection's end.
    enum class news : std::uint8_t { head, bytes, end };

    explicit incoming(const limits &most) : parser_(parser::request, most) {}

    // The next request of that session begins.
    void begin(CommSession &of, const limits &most);
    // To be named in errors.
    void set_peer(const std::string &peer) { peer_ = peer; }

    // Whether it is here. A head, or bytes, that will never come: refused() or failure() says why.
    [[nodiscard]] bool has(news what) const noexcept {
        switch (what) {
        case news::head:
            return headed_ || refused_ || complete_ || failed_;
        case news::bytes:
            return held() != 0 || refused_ || complete_ || failed_;
        default:
            return complete_ || failed_;
        }
    }
    // All of it has come, and nothing was wrong.
    [[nodiscard]] bool complete() const noexcept { return complete_; }
    [[nodiscard]] const std::optional<parse_error> &refused() const noexcept { return refused_; }
    // Why the rest will not come.
    [[nodiscard]] const error &failure() const noexcept { return failure_; }

    [[nodiscard]] request &head() noexcept { return head_; }
    [[nodiscard]] const fields &trailer() noexcept { return parser_.trailer(); }
    [[nodiscard]] bool keep_alive() const noexcept { return parser_.keep_alive(); }
    [[nodiscard]] std::optional<std::uint64_t> length() const noexcept { return parser_.content_length(); }
    // Bytes of the body that are still to be taken, so far as that is known.
    [[nodiscard]] std::uint64_t missing() const noexcept { return parser_.remaining() + held(); }

    // What has come of the body and was not taken.
    [[nodiscard]] std::string_view bytes() const noexcept { return std::string_view(body_).substr(taken_); }
    void take(std::size_t count) noexcept;
    // Nobody wants the rest.
    void discard() noexcept;

    // Of one waiter.
    void wait(parley::detail::context &task, news what) noexcept;

private:
    int append(const void *buf, std::size_t *size) override;
    int parse(const void *buf, std::size_t *size); // throws std::bad_alloc
    void interrupted(int state, int error_number) override;

    void cancel() noexcept override;
    const char *name() const noexcept override { return "read body"; }
    parley::stage stage() const noexcept override { return parley::stage::receive; }
    std::string resource() const override { return peer_; }

    [[nodiscard]] std::size_t held() const noexcept { return body_.size() - taken_; }
    void wake() noexcept;

    parser parser_;
    request head_;
    std::string body_;
    std::size_t taken_ = 0; // of body_
    std::string peer_;
    std::optional<parse_error> refused_;
    error failure_;
    CommSession *session_ = nullptr; // until the message is complete or interrupted
    parley::detail::context *waiter_ = nullptr;
    std::uint64_t discarded_ = 0;
    news awaited_ = news::head;
    bool announced_ = false;
    bool headed_ = false;
    bool complete_ = false;
    bool failed_ = false;
    bool paused_ = false;
    bool discards_ = false;
};

// The request of the protocol: a handle of an `incoming`, which is used for a later one again.
class incoming_request {
public:
    CommMessageIn *input(CommSession &session, const void *settings);
    void clear() noexcept {}
    [[nodiscard]] incoming *operator->() const noexcept { return in_.get(); }
    [[nodiscard]] incoming &operator*() const noexcept { return *in_; }

private:
    std::unique_ptr<incoming> in_;
};

class [[nodiscard]] incoming_wait final {
public:
    incoming_wait(incoming &on, incoming::news what) noexcept : on_(on), what_(what) {}
    incoming_wait(incoming_wait &&) = delete;
    bool await_ready() const noexcept { return on_.has(what_); }
    bool await_suspend(std::coroutine_handle<>, parley::detail::context &task) noexcept;
    void await_resume() const noexcept {}

private:
    incoming &on_;
    const incoming::news what_;
};

} // namespace detail
} // namespace parley::http::inline PARLEY_ABI
