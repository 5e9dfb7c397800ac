#include "datagram.h"

#include <errno.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernel.h"

namespace parley::sim::detail {

namespace {

constexpr std::size_t most_udp = 65507;
constexpr std::size_t receive_buffer = 212992; // Linux' rmem_default

} // namespace

datagram::~datagram() {
    release_name();
}

int datagram::claim(address at) {
    host_state &host = home();
    if (domain_ == AF_UNIX) {
        if (host.unix_datagrams.contains(at.path))
            return EADDRINUSE;
        host.unix_datagrams[at.path] = this;
    } else {
        if (at.port == 0) {
            const int count = host.last_port - host.first_port + 1;
            for (int i = 0; i < count && at.port == 0; i++) {
                if (host.next_port < host.first_port || host.next_port > host.last_port)
                    host.next_port = host.first_port;
                if (!host.datagram_ports.contains(host.next_port))
                    at.port = host.next_port;
                host.next_port++;
            }
            if (at.port == 0)
                return EADDRINUSE;
        } else {
            auto [first, last] = host.datagram_ports.equal_range(at.port);
            for (auto place = first; place != last; ++place) {
                const datagram &other = *place->second;
                const bool shared = options.number(SOL_SOCKET, SO_REUSEPORT, 0) != 0 &&
                                    other.options.number(SOL_SOCKET, SO_REUSEPORT, 0) != 0;
                if (other.domain_ == domain_ && !shared &&
                    (other.local_.is_any() || at.is_any() || other.local_.same_ip(at)))
                    return EADDRINUSE;
            }
        }
        host.datagram_ports.emplace(at.port, this);
    }
    local_ = std::move(at);
    named_ = true;
    return 0;
}

void datagram::release_name() {
    if (!std::exchange(named_, false))
        return;
    if (domain_ == AF_UNIX) {
        home().unix_datagrams.erase(local_.path);
        return;
    }
    auto [first, last] = home().datagram_ports.equal_range(local_.port);
    for (auto place = first; place != last; ++place) {
        if (place->second == this) {
            home().datagram_ports.erase(place);
            return;
        }
    }
}

int datagram::bind(const address &to) {
    if (named_ || to.family != domain_)
        return -EINVAL;
    if (domain_ != AF_UNIX && !to.is_any() && !to.is_loopback() && !to.same_ip(home().v4) && !to.same_ip(home().v6))
        return -EADDRNOTAVAIL;
    return -claim(to);
}

int datagram::connect(const address &to) {
    if (to.family == AF_UNSPEC) {
        remote_ = {};
        return 0;
    }
    if (to.family != domain_)
        return -EAFNOSUPPORT;
    if (domain_ == AF_UNIX) {
        if (!home().unix_datagrams.contains(to.path))
            return -ECONNREFUSED;
    } else {
        if (world().net().route(home(), to) == nullptr)
            return -ENETUNREACH;
        address at = world().net().source(home(), to);
        if (!named_) {
            if (int error = claim(at))
                return -error;
        } else if (local_.is_any()) {
            at.port = local_.port;
            local_ = at;
        }
    }
    remote_ = to;
    return 0;
}

datagram *datagram::find(host_state &there, const address &to, const address &from) {
    if (to.family == AF_UNIX) {
        auto place = there.unix_datagrams.find(to.path);
        return place != there.unix_datagrams.end() ? place->second : nullptr;
    }
    datagram *open = nullptr;
    auto [first, last] = there.datagram_ports.equal_range(to.port);
    for (auto place = first; place != last; ++place) {
        datagram &one = *place->second;
        if (one.domain_ != to.family || !(one.local_.is_any() || one.local_.same_ip(to)))
            continue;
        if (!one.connected())
            open = open == nullptr ? &one : open;
        else if (one.remote_.same_ip(from) && one.remote_.port == from.port)
            return &one;
    }
    return open;
}

ssize_t datagram::send(std::string data, const address *to) {
    if (error_ != 0)
        return -take_error();
    if (to == nullptr) {
        if (!connected())
            return -EDESTADDRREQ;
        to = &remote_;
    }
    if (domain_ != AF_UNIX && data.size() > most_udp)
        return -EMSGSIZE;
    network &net = world().net();
    host_state *there = domain_ == AF_UNIX ? &home() : net.route(home(), *to);
    if (there == nullptr)
        return -ENETUNREACH;
    address from = local_;
    if (domain_ != AF_UNIX) {
        if (!named_) {
            address any;
            any.family = domain_;
            if (int error = claim(any))
                return -error;
        }
        from = local_;
        if (local_.is_any()) {
            from = net.source(home(), *to);
            from.port = local_.port;
        }
    }
    const auto n = static_cast<ssize_t>(data.size());
    if (domain_ == AF_UNIX) {
        datagram *other = find(*there, *to, from);
        if (other == nullptr)
            return -ECONNREFUSED;
        if (other->queued_ + data.size() > receive_buffer)
            return -EAGAIN;
        other->arrives({std::move(data), std::move(from)});
        return n;
    }
    const struct link how = net.between(home(), *there).how;
    if (!net.up(home(), *there) || world().chosen().seldom(stream::network, how.loss) != 0)
        return n; // lost on the way; nobody tells the sender
    const int copies = world().chosen().seldom(stream::network, how.duplicate) != 0 ? 2 : 1;
    for (int i = 0; i < copies; i++) {
        const std::int64_t when = net.arrival(home(), *there, data.size(), 0);
        net.deliver(home(), *there, when,
                    [me = std::weak_ptr(shared_from_this()), there, one = message{data, from}, goal = *to] {
                        datagram *other = find(*there, goal, one.from);
                        if (other != nullptr) {
                            other->arrives(one);
                            return;
                        }
                        // ICMP: port unreachable, which a connected socket is told.
                        auto sender = std::static_pointer_cast<datagram>(me.lock());
                        if (sender && sender->open && sender->connected()) {
                            sender->error_ = ECONNREFUSED;
                            sender->changed(0);
                        }
                    });
    }
    return n;
}

void datagram::arrives(message one) {
    if (queued_ + one.data.size() > receive_buffer)
        return;
    queued_ += one.data.size();
    in_.push_back(std::move(one));
    changed(EPOLLIN);
}

ssize_t datagram::recv(char *out, std::size_t &size, address *from, int flags) {
    if (error_ != 0)
        return -take_error();
    if (in_.empty())
        return -EAGAIN;
    message &one = in_.front();
    const std::size_t n = std::min(size, one.data.size());
    std::memcpy(out, one.data.data(), n);
    if (from != nullptr)
        *from = one.from;
    size = one.data.size();
    if ((flags & MSG_PEEK) == 0) {
        queued_ -= one.data.size();
        in_.pop_front();
    }
    return static_cast<ssize_t>(n);
}

int datagram::take_error() {
    return std::exchange(error_, 0);
}

std::uint32_t datagram::poll() const {
    return EPOLLOUT | (in_.empty() ? 0u : EPOLLIN | EPOLLRDNORM) | (error_ != 0 ? EPOLLERR : 0u);
}

void datagram::close() {
    release_name();
}

std::string datagram::describe() const {
    return (domain_ == AF_UNIX ? "unix datagrams " : "udp ") + local_.text() +
           (connected() ? " - " + remote_.text() : "");
}

} // namespace parley::sim::detail
