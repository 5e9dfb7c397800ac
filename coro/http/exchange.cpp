#include <parley/http/exchange.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <ctime>
#include <system_error>

#include <parley/http/date.hpp>
#include <parley/http/status.hpp>
#include <parley/loop.hpp>
#include <parley/timeout.hpp>

#include "server_core.hpp"

namespace parley::http::inline PARLEY_ABI {
namespace {

using namespace std::chrono_literals;

// What is left of a body is read for the sake of the connection if it is no more than that, for no longer than that.
constexpr std::uint64_t worth_reading = 262144;
constexpr auto worth_waiting = 2s;

// Never inlined: a fiber's code must not keep the address of a thread-local variable in a register.
[[gnu::noinline]] std::string_view date_now() {
    static thread_local std::time_t second = 0;
    static thread_local std::string text;
    const std::time_t now = parley::sys::current().realtime_ns() / 1'000'000'000;
    if (now != second || text.empty()) {
        second = now;
        text = to_date(now);
    }
    return text;
}

std::string chunk_head(std::size_t size) {
    char text[20];
    char *end = std::to_chars(text, text + 18, size, 16).ptr;
    *end++ = '\r';
    *end++ = '\n';
    return {text, static_cast<std::size_t>(end - text)};
}

error invalid(const char *what) {
    error made(make_error_code(std::errc::invalid_argument), parley::stage::send);
    made.set_detail(what);
    return made;
}

} // namespace

std::string_view exchange::parameter(std::string_view name) const noexcept {
    for (const auto &[key, value] : parameters_) {
        if (key == name)
            return value;
    }
    return {};
}

task<result<std::string_view>> exchange::read() {
    in_.take(std::exchange(lent_, 0));
    if (!continued_ && !in_.complete() && in_.bytes().empty() && !begun() && request().minor_version() > 0 &&
        same_token(request().header("Expect"), "100-continue")) {
        continued_ = true;
        const result<void> sent =
            co_await connection_.push(detail::outgoing("HTTP/1.1 100 Continue\r\n\r\n"));
        if (!sent)
            co_return unexpected(sent.error());
    }
    if (!in_.has(detail::incoming::news::bytes)) {
        const result<void> waited =
            co_await with_timeout(std::chrono::nanoseconds(core_.body_gap()),
                                  detail::incoming_wait(in_, detail::incoming::news::bytes));
        if (!waited)
            co_return unexpected(waited.error());
    }
    if (in_.refused()) {
        error why(
            make_error_code(in_.refused()->status == 413 ? std::errc::message_size : std::errc::bad_message),
            parley::stage::receive, connection_.peer().to_string());
        why.set_detail(in_.refused()->what);
        co_return unexpected(std::move(why));
    }
    const std::string_view piece = in_.bytes();
    if (piece.empty() && !in_.complete())
        co_return unexpected(in_.failure());
    lent_ = piece.size();
    co_return piece;
}

task<result<void>> exchange::whole(std::uint64_t most) {
    const auto too_long = [&] {
        error why(make_error_code(std::errc::message_size), parley::stage::receive,
                  connection_.peer().to_string());
        why.set_detail("the body is longer than " + std::to_string(most) + " bytes");
        return why;
    };
    if (in_.length().value_or(0) > most)
        co_return unexpected(too_long());
    std::string all;
    for (;;) {
        const result<std::string_view> piece = co_await read();
        if (!piece)
            co_return unexpected(piece.error());
        if (piece->empty())
            break;
        if (piece->size() > most - all.size())
            co_return unexpected(too_long());
        all.append(*piece);
    }
    request().body(std::move(all));
    co_return result<void>();
}

// Sees to the rest of the body, before the last of the answer is sent: behind it nothing of this request may come.
task<result<void>> exchange::settle() {
    in_.take(std::exchange(lent_, 0));
    if (in_.complete() || !keep_)
        co_return result<void>();
    in_.discard();
    const result<void> waited =
        co_await with_timeout(worth_waiting, detail::incoming_wait(in_, detail::incoming::news::end));
    if (!waited || !in_.complete())
        keep_ = false;
    co_return result<void>();
}

void exchange::write_head(std::string &to, const response &answer, std::optional<std::uint64_t> length) {
    const int status = answer.status();
    const bool old = request().minor_version() == 0;
    status_ = status;
    silent_ = !has_body(status, method());
    to.append("HTTP/1.1 ").append(std::to_string(status)).append(" ").append(answer.reason()).append("\r\n");
    bool dated = false, closes = false;
    for (const auto [name, value] : answer.header()) {
        if (same_token(name, "Content-Length") || same_token(name, "Transfer-Encoding"))
            continue; // the framing is ours
        dated = dated || same_token(name, "Date");
        closes =
            closes || (same_token(name, "Connection") && answer.header().has_member("Connection", "close"));
        to.append(name).append(": ").append(value).append("\r\n");
    }
    if (!dated)
        to.append("Date: ").append(date_now()).append("\r\n");
    const bool framed =
        status >= 200 && status != 204 && status != 304 && !(method() == "CONNECT" && status < 300);
    if (framed && length) {
        to.append("Content-Length: ").append(std::to_string(*length)).append("\r\n");
    } else if (framed && !old) {
        to.append("Transfer-Encoding: chunked\r\n");
        chunks_ = true;
    } else if (framed) {
        keep_ = false; // the end of the stream is the end of the body
    }
    // A body that nobody reads any more: is it worth it?
    const bool waits =
        !continued_ && same_token(request().header("Expect"), "100-continue") && in_.bytes().empty();
    if (!in_.complete() && (waits || !in_.length() || in_.missing() > worth_reading))
        keep_ = false;
    if (!in_.keep_alive() || closes)
        keep_ = false;
    if (!keep_ && !closes)
        to.append("Connection: close\r\n");
    else if (keep_ && old)
        to.append("Connection: keep-alive\r\n");
    to.append("\r\n");
}

// The last of the answer. A peer that still writes is read from for a while, or it would not see what we said.
task<result<void>> exchange::end(detail::outgoing last) {
    phase_ = phase::finished;
    if (in_.complete()) {
        if (!keep_)
            last.last();
        const result<void> sent = co_await connection_.send(std::move(last));
        co_return sent;
    }
    result<void> sent = co_await connection_.push(std::move(last));
    if (sent && parley::detail::connection_access::state(connection_)->half_close()) {
        in_.discard();
        const result<void> waited =
            co_await with_timeout(worth_waiting, detail::incoming_wait(in_, detail::incoming::news::end));
        static_cast<void>(waited);
    }
    co_await connection_.close();
    co_return sent;
}

task<result<void>> exchange::respond(response answer) {
    if (begun())
        co_return unexpected(invalid("the answer has begun"));
    if (!in_.complete() && in_.length() && in_.missing() <= worth_reading && !in_.refused() &&
        !same_token(request().header("Expect"), "100-continue")) {
        const result<void> read = co_await settle();
        static_cast<void>(read);
    }
    std::string head;
    write_head(head, answer, answer.body().size());
    const std::string_view body = silent_ ? std::string_view() : std::string_view(answer.body());
    sent_ = body.size();
    const result<void> sent = co_await end(detail::outgoing(std::move(head), body));
    co_return sent;
}

task<result<void>> exchange::begin(response answer, std::optional<std::uint64_t> length) {
    if (begun())
        co_return unexpected(invalid("the answer has begun"));
    phase_ = phase::begun;
    left_ = length;
    std::string head;
    write_head(head, answer, length);
    const result<void> sent = co_await connection_.push(detail::outgoing(std::move(head)));
    if (!sent || answer.body().empty())
        co_return sent;
    const result<void> first = co_await write(answer.body());
    co_return first;
}

task<result<void>> exchange::write(std::string_view piece) {
    if (phase_ != phase::begun)
        co_return unexpected(invalid("no answer has begun, or it is finished"));
    if (left_ && piece.size() > *left_)
        co_return unexpected(invalid("more than the length that begin() was given"));
    if (left_)
        *left_ -= piece.size();
    if (piece.empty() || silent_)
        co_return result<void>();
    sent_ += piece.size();
    std::string head;
    std::string_view tail;
    if (chunks_) {
        head = chunk_head(piece.size());
        tail = "\r\n";
    }
    const result<void> sent = co_await connection_.push(detail::outgoing(std::move(head), piece, tail));
    co_return sent;
}

task<result<void>> exchange::finish(fields trailer) {
    if (phase_ != phase::begun)
        co_return unexpected(invalid("no answer has begun, or it is finished"));
    if (left_ && *left_ != 0 && !silent_)
        co_return unexpected(invalid("less than the length that begin() was given"));
    std::string tail;
    if (chunks_ && !silent_) {
        tail = "0\r\n";
        for (const auto [name, value] : trailer)
            tail.append(name).append(": ").append(value).append("\r\n");
        tail.append("\r\n");
    }
    const result<void> settled = co_await settle();
    static_cast<void>(settled);
    const result<void> sent = co_await end(detail::outgoing(std::move(tail)));
    co_return sent;
}

task<result<void>> exchange::interim(response answer) {
    if (begun() || answer.status() >= 200)
        co_return unexpected(invalid("an interim answer has a status of 1xx and comes before the other"));
    if (request().minor_version() == 0)
        co_return result<void>(); // it would not understand
    std::string head = "HTTP/1.1 " + std::to_string(answer.status()) + " " + answer.reason() + "\r\n";
    for (const auto [name, value] : answer.header())
        head.append(name).append(": ").append(value).append("\r\n");
    head.append("\r\n");
    const result<void> sent = co_await connection_.push(detail::outgoing(std::move(head)));
    co_return sent;
}

} // namespace parley::http::inline PARLEY_ABI
