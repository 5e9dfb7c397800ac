// Who is at the other end of a connection.

#include <parley/detail/connection_state.hpp>

#include <sys/socket.h>

#include <parley/detail/session_error.hpp>
#include <parley/tls_identity.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

endpoint connection_state::peer() const {
    if (ended_)
        return endpoint::parse(ending_.peer()).value_or(endpoint());
    for (const turn *t = first_; t; t = t->next_) {
        if (const CommTarget *target = t->peer()) {
            const struct sockaddr *address = nullptr;
            socklen_t length = 0;
            target->get_addr(&address, &length);
            return endpoint(address, length);
        }
    }
    return {};
}

endpoint connection_state::local() const {
    struct sockaddr_storage storage;
    auto *address = reinterpret_cast<struct sockaddr *>(&storage);
    socklen_t length = sizeof storage;
    if (!first_ || first_->get_local_addr(address, &length) < 0)
        return {};
    return endpoint(address, length);
}

std::optional<tls::peer_identity> connection_state::tls_peer() const {
    if (!is_here())
        return std::nullopt;
    for (const turn *t = first_; t; t = t->next_) {
        if (const SSL *ssl = t->ssl())
            return tls::identify(ssl);
    }
    return std::nullopt;
}

void connection_state::tls_failed(turn &t, const SSL *ssl) noexcept {
    if (!ended_)
        ending_ = tls_words(t, ssl); // turn_failed() follows
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
