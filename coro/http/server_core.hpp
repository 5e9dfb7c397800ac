// What all connections of an HTTP server share, and what one of them does.

#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>

#include <parley/core/Sync.h>
#include <parley/http/server.hpp>

namespace parley::http::inline PARLEY_ABI {
namespace detail {

struct server_core {
    server_core(router r, server_options o) : routes(std::move(r)), options(std::move(o)) {}

    [[nodiscard]] const limits &most() const noexcept { return options.most_; }
    [[nodiscard]] std::int64_t head_limit() const noexcept { return options.head_; }
    [[nodiscard]] std::int64_t body_gap() const noexcept { return options.body_gap_; }

    // Serves one connection. `self` is kept as long as it runs.
    static task<> serve(connection<served_http> peer, std::shared_ptr<const server_core> self);
    [[nodiscard]] task<> answer(exchange &x) const;
    [[nodiscard]] static const server_core &of(const exchange &x) noexcept;
    [[nodiscard]] static serve_options for_connections(const std::shared_ptr<const server_core> &self);
    [[nodiscard]] static const std::function<void(const endpoint &)> &
    listening(const server_options &o) noexcept {
        return o.on_listening_;
    }
    void report(const endpoint &peer, std::exception_ptr failure) const;
    void note_access(exchange &x, const endpoint &peer, std::int64_t began) const noexcept;

    const router routes;
    const server_options options;
    mutable sync::atomic<std::size_t> in_flight{0};
};

} // namespace detail
} // namespace parley::http::inline PARLEY_ABI
