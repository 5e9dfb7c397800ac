#include <parley/http/server.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <new>
#include <utility>

#include <parley/cancelled.hpp>
#include <parley/http/status.hpp>
#include <parley/timeout.hpp>

#include "server_core.hpp"

namespace parley::http::inline PARLEY_ABI {
namespace detail {
namespace {

using namespace std::chrono_literals;

// A request is counted as long as it is answered.
class place {
public:
    explicit place(const server_core &core) noexcept : core_(core) { count_ = ++core_.in_flight; }
    place(place &&) = delete;
    ~place() { --core_.in_flight; }
    [[nodiscard]] std::size_t count() const noexcept { return count_; }

private:
    const server_core &core_;
    std::size_t count_;
};

// Tells the access log when the answer is over, however that comes about.
class access_note {
public:
    access_note(const server_core &core, exchange &x, const endpoint &peer) noexcept
        : core_(core), x_(x), peer_(peer), began_(CommLoop::current()->now()) {}
    access_note(access_note &&) = delete;
    ~access_note() { core_.note_access(x_, peer_, began_); }

private:
    const server_core &core_;
    exchange &x_;
    const endpoint &peer_;
    const std::int64_t began_;
};

} // namespace

task<bool> read_whole(exchange &x) {
    const result<void> read = co_await x.whole(detail::server_core::of(x).most().body());
    if (read)
        co_return true;
    const std::error_code why = read.error().code();
    const int status = why == std::errc::message_size ? 413 : why == std::errc::timed_out ? 408 : 400;
    if (why == std::errc::message_size || why == std::errc::bad_message || why == std::errc::timed_out) {
        const result<void> sent = co_await x.respond(
            response::text(status, std::string(read.error().detail()) + "\n").set("Connection", "close"));
        static_cast<void>(sent);
    }
    co_return false;
}

task<> server_core::answer(exchange &x) const {
    incoming &in = x.in_;
    if (!in.has(incoming::news::head)) {
        const result<void> waited = co_await with_timeout(std::chrono::nanoseconds(head_limit()),
                                                          incoming_wait(in, incoming::news::head));
        if (!waited) {
            const result<void> sent = co_await x.respond(
                response::text(408, "the request took too long\n").set("Connection", "close"));
            static_cast<void>(sent);
            co_return;
        }
    }
    if (in.refused()) {
        const result<void> sent = co_await x.respond(
            response::text(in.refused()->status, in.refused()->what + "\n").set("Connection", "close"));
        static_cast<void>(sent);
        co_return;
    }
    if (!in.complete() && in.head().method().empty())
        co_return; // the peer is gone
    const place mine(*this);
    const std::string_view expects = x.request().header("Expect");
    std::string allow;
    const handler *found = nullptr;
    int status = 0;
    if (mine.count() > options.in_flight_)
        status = 503;
    else if (!expects.empty() && !same_token(expects, "100-continue"))
        status = 417;
    else if (found = routes.find(x.method(), x.request().path(), x.parameters_, allow); !found)
        status = allow.empty() ? 404 : x.method() == "OPTIONS" ? 204 : 405;
    if (status != 0) {
        response refusal =
            status == 204 ? response(204) : response::text(status, std::string(reason_phrase(status)) + "\n");
        if (!allow.empty())
            refusal.set("Allow", allow);
        if (status == 503)
            refusal.set("Retry-After", "1");
        const result<void> sent = co_await x.respond(std::move(refusal));
        static_cast<void>(sent);
        co_return;
    }
    std::exception_ptr failure;
    try {
        task<void> handling = (*found)(x);
        co_await std::move(handling);
    } catch (const cancelled &) {
        throw;
    } catch (...) {
        failure = std::current_exception();
    }
    if (failure)
        report(x.peer(), failure);
    if (!x.begun()) {
        const char *why = failure ? "Internal Server Error\n" : "the handler has not answered\n";
        const result<void> sent = co_await x.respond(response::text(500, why));
        static_cast<void>(sent);
    } else if (!x.finished()) {
        co_await x.connection_.close(); // half an answer: the peer must not take it for the whole
    }
}

task<> server_core::serve(connection<served_http> peer, std::shared_ptr<const server_core> self) {
    incoming_request in;
    const endpoint who = peer.peer();
    const std::string name = who.to_string();
    for (bool keep = true; keep;) {
        const result<void> got = co_await peer.recv(in);
        if (!got)
            co_return;
        in->set_peer(name);
        exchange x(peer, *in, *self);
        const access_note note(*self, x, who); // also of a handler that is cancelled because its peer is gone
        co_await self->answer(x);
        keep = x.finished() && x.keep_;
    }
}

void server_core::note_access(exchange &x, const endpoint &peer, std::int64_t began) const noexcept {
    if (!options.on_access_)
        return;
    try {
        access_record record;
        record.peer = peer;
        if (!x.in_.refused()) {
            record.method = x.method();
            record.target = x.request().target();
        }
        record.status = x.status();
        record.bytes = x.sent();
        record.elapsed = std::chrono::nanoseconds(parley::sys::monotonic_ns() - began);
        options.on_access_(record);
    } catch (...) {
        report(peer, std::current_exception());
    }
}

void server_core::report(const endpoint &peer, std::exception_ptr failure) const {
    if (options.on_exception_) {
        options.on_exception_(peer, failure);
        return;
    }
    std::string line = "parley: exception in the handler of " + peer.to_string() + ": ";
    try {
        std::rethrow_exception(failure);
    } catch (const std::exception &e) {
        line += e.what();
    } catch (...) {
        line += "no std::exception";
    }
    line += '\n';
    std::fputs(line.c_str(), stderr);
}

const server_core &server_core::of(const exchange &x) noexcept {
    return x.core_;
}

serve_options server_core::for_connections(const std::shared_ptr<const server_core> &self) {
    serve_options plain;
    plain.settings(self->options.settings());
    plain.protocol_settings(std::shared_ptr<const void>(self, &self->options.most_));
    return plain;
}

} // namespace detail

server_options::server_options() {
    idle_limit(std::chrono::seconds(75));
    gap_limit(std::chrono::seconds(60)); // beyond body_gap_limit(), which is answered
}

server::server(endpoint where, router routes, const server_options &options)
    : server(std::move(where), std::make_shared<const detail::server_core>(std::move(routes), options)) {}

namespace {

class serve_connection {
public:
    explicit serve_connection(std::shared_ptr<const detail::server_core> core) noexcept
        : core_(std::move(core)) {}
    task<> operator()(connection<detail::served_http> peer) {
        return detail::server_core::serve(std::move(peer), core_);
    }

private:
    std::shared_ptr<const detail::server_core> core_;
};

} // namespace

server::server(endpoint where, std::shared_ptr<const detail::server_core> core)
    : parley::server<detail::served_http>(std::move(where), serve_connection(core),
                                          detail::server_core::for_connections(core)) {}

task<result<void>> serve(endpoint where, router routes, server_options options) {
    const auto listening = detail::server_core::listening(options);
    server door(std::move(where), std::move(routes), options);
    result<endpoint> local = co_await door.listen();
    if (!local)
        co_return unexpected(std::move(local).error());
    if (listening)
        listening(*local);
    result<void> served = co_await door.serve();
    co_return served;
}

namespace {

// In quotes where a line of logfmt needs them.
std::string quoted(std::string_view text) {
    if (text.find_first_of(" \"=") == std::string_view::npos && !text.empty())
        return std::string(text);
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\')
            out += '\\';
        out += c;
    }
    return out + "\"";
}

std::string json_string(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (static_cast<unsigned char>(c) < 0x20) {
            char code[8];
            std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
            out += code;
        } else {
            out += c;
        }
    }
    return out + "\"";
}

std::string seconds(std::chrono::nanoseconds time) {
    char text[32];
    std::snprintf(text, sizeof text, "%.6f", static_cast<double>(time.count()) / 1e9);
    return text;
}

} // namespace

std::string to_logfmt(const access_record &of) {
    return "peer=" + of.peer.to_string() + " method=" + quoted(of.method) + " target=" + quoted(of.target) +
           " status=" + std::to_string(of.status) + " bytes=" + std::to_string(of.bytes) +
           " seconds=" + seconds(of.elapsed);
}

std::string to_json(const access_record &of) {
    return "{\"peer\":" + json_string(of.peer.to_string()) + ",\"method\":" + json_string(of.method) +
           ",\"target\":" + json_string(of.target) + ",\"status\":" + std::to_string(of.status) +
           ",\"bytes\":" + std::to_string(of.bytes) + ",\"seconds\":" + seconds(of.elapsed) + "}";
}

} // namespace parley::http::inline PARLEY_ABI
