// http::serve: an HTTP/1.1 server on every loop.
//
//     parley::task<parley::http::response> hello(parley::http::request &) {
//         co_return parley::http::response::text(200, "hello\n");
//     }
//
//     int main() {
//         return parley::run([]() -> parley::task<int> {
//             auto served = co_await parley::http::serve(parley::endpoint("0.0.0.0", 8080),
//                                                        parley::http::router().get("/", hello));
//             co_return served ? 0 : 1;
//         }());
//     }
//
// What a server takes from the internet is bounded from the start: heads, bodies, times; see server_options.

#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <parley/config.hpp>
#include <parley/detail/saturate.hpp>
#include <parley/http/limits.hpp>
#include <parley/http/router.hpp>
#include <parley/serve.hpp>

namespace parley::http::inline PARLEY_ABI {

// What an access log is told of a request when its answer is over.
struct access_record {
    endpoint peer;
    std::string_view method; // empty for a request that was not understood
    std::string_view target;
    int status = 0;          // 0: nothing was answered
    std::uint64_t bytes = 0; // of the answer's body
    std::chrono::nanoseconds elapsed{};
};
// As a line of logfmt, without its end: peer=127.0.0.1:4711 method=GET target="/a b" status=200 bytes=6 seconds=0.000123
[[nodiscard]] std::string to_logfmt(const access_record &of);
// As an object of JSON.
[[nodiscard]] std::string to_json(const access_record &of);

// TLS and serve_options' other settings are here as well; idle_limit is 75 s and gap_limit 60 s unless they are set.
class server_options : public service_options<server_options> {
public:
    server_options();

    // How large a request may be: 431, 414, 413.
    server_options &limits(const http::limits &most) {
        most_ = most;
        return *this;
    }
    // From a request's first byte to the end of its head: 408. 30 s at first.
    server_options &head_limit(parley::detail::any_duration limit) {
        head_ = limit.count();
        return *this;
    }
    // How long a read of the body waits for more: 408 where the handler has the body read for it, else
    // exchange::read() says errc::timed_out. 30 s at first.
    server_options &body_gap_limit(parley::detail::any_duration limit) {
        body_gap_ = limit.count();
        return *this;
    }
    // How many requests may be answered at once, on all loops: those beyond are answered by 503 with Retry-After.
    // 10,000 at first.
    server_options &max_in_flight(std::size_t requests) {
        in_flight_ = requests;
        return *this;
    }
    // Called when an answer is over; on its handler's loop, so on several at once.
    template <class F>
        requires std::invocable<std::decay_t<F> &, const access_record &>
    server_options &on_access(F &&f) {
        parley::detail::check_callable<F>();
        on_access_ = std::forward<F>(f);
        return *this;
    }
    // As serve_options::on_listening().
    template <class F>
        requires std::invocable<std::decay_t<F> &, const endpoint &>
    server_options &on_listening(F &&f) {
        parley::detail::check_callable<F>();
        on_listening_ = std::forward<F>(f);
        return *this;
    }
    // Called with the peer and the exception that left a handler, which is answered by 500 if nothing was answered
    // yet, instead of a line on standard error.
    template <class F>
        requires std::invocable<std::decay_t<F> &, const endpoint &, std::exception_ptr>
    server_options &on_exception(F &&f) {
        parley::detail::check_callable<F>();
        on_exception_ = std::forward<F>(f);
        return *this;
    }

private:
    friend struct detail::server_core;
    http::limits most_;
    std::int64_t head_ = 30'000'000'000;
    std::int64_t body_gap_ = 30'000'000'000;
    std::size_t in_flight_ = 10'000;
    std::function<void(const access_record &)> on_access_;
    std::function<void(const endpoint &)> on_listening_;
    std::function<void(const endpoint &, std::exception_ptr)> on_exception_;
};

// A server as an object: parley::server of HTTP, with its listen(), serve(), close() and drain().
class server : public parley::server<detail::served_http> {
public:
    server(endpoint where, router routes, const server_options &options = {});
    // One handler for everything.
    template <class F>
        requires(!std::same_as<std::decay_t<F>, router>)
    server(endpoint where, F &&f, const server_options &options = {})
        : server(std::move(where), std::move(router().otherwise(std::forward<F>(f))), options) {}

private:
    server(endpoint where, std::shared_ptr<const detail::server_core> core);
};

// result<void>: opens `where` on every loop and serves until the task that awaits this is told to stop.
[[nodiscard]] task<result<void>> serve(endpoint where, router routes, server_options options = {});
template <class F>
    requires(!std::same_as<std::decay_t<F>, router>)
[[nodiscard]] task<result<void>> serve(endpoint where, F &&f, server_options options = {}) {
    return serve(std::move(where), std::move(router().otherwise(std::forward<F>(f))), std::move(options));
}

} // namespace parley::http::inline PARLEY_ABI
