#include "datagram.h"

#include <errno.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernel.h"

namespace parley::sim::detail {

namespace {

constexpr std::size_t most_udp = 65507;
constexpr std::size_t most_unix_messages = 10; // Linux' net.unix.max_dgram_qlen

} // namespace

datagram::~datagram() {
    release_name();
}

// --- names ---

bool datagram::is_taken(const address &at) const {
    auto [first, last] = home().datagram_ports.equal_range(at.port);
    return std::any_of(first, last, [&](const auto &place) {
        const datagram &other = *place.second;
        const auto both = [&](int option) {
            return options.on(SOL_SOCKET, option) && other.options.on(SOL_SOCKET, option);
        };
        return (at.covers(other.local_, only_v6()) || other.local_.covers(at, other.only_v6())) &&
               !both(SO_REUSEPORT) && !both(SO_REUSEADDR);
    });
}

int datagram::claim(address at) {
    host_state &host = home();
    if (domain_ == AF_UNIX) {
        const bool stream_there = at.path[0] != '\0' && host.unix_streams.contains(at.path);
        if (host.unix_datagrams.contains(at.path) || stream_there)
            return EADDRINUSE;
        host.unix_datagrams[at.path] = this;
    } else {
        const int count = host.last_port - host.first_port + 1;
        const bool any_port = at.port == 0;
        for (int i = 0; any_port && i < count && at.port == 0; i++) {
            if (host.next_port < host.first_port || host.next_port > host.last_port)
                host.next_port = host.first_port;
            if (!host.datagram_ports.contains(host.next_port))
                at.port = host.next_port;
            host.next_port++;
        }
        if (at.port == 0)
            return EADDRINUSE;
        if (!any_port && is_taken(at))
            return EADDRINUSE;
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
        // The path stays in the file system; an abstract name goes.
        if (local_.path[0] == '\0')
            home().unix_datagrams.erase(local_.path);
        else
            home().unix_datagrams[local_.path] = nullptr;
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
    if (domain_ == AF_UNIX && to.path.empty())
        return -EINVAL;
    if (domain_ != AF_UNIX && !to.is_any() && !to.is_loopback() && !to.same_ip(home().v4) &&
        !to.same_ip(home().v6))
        return -EADDRNOTAVAIL;
    if (named_)
        return -EINVAL;
    if (int error = claim(to))
        return -error;
    bound_ = to;
    return 0;
}

int datagram::connect(const address &wanted) {
    address to = wanted;
    if (domain_ == AF_UNIX) {
        datagram *other = nullptr;
        if (int error = find_unix(to, other))
            return error;
        peer_ = std::static_pointer_cast<datagram>(other->shared_from_this());
    } else {
        if (to.is_any())
            to.ip = network::source(home(), wanted).ip;
        if (world().net().route(home(), to) == nullptr)
            return -ENETUNREACH;
        address at = network::source(home(), to);
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

int datagram::disconnect() {
    remote_ = {};
    peer_.reset();
    if (domain_ == AF_UNIX)
        return 0;
    if (bound_.port == 0)
        release_name(); // a port that was drawn is given back
    const std::uint16_t port = bound_.port;
    local_ = bound_;
    local_.family = bound_.family == AF_UNSPEC ? domain_ : bound_.family;
    local_.port = port;
    return 0;
}

// The socket at that path: 0, or minus an errno.
int datagram::find_unix(const address &to, datagram *&found) {
    auto place = home().unix_datagrams.find(to.path);
    if (place == home().unix_datagrams.end()) {
        if (to.path.empty())
            return -EINVAL;
        if (to.path[0] == '\0')
            return -ECONNREFUSED;
        auto stream = home().unix_streams.find(to.path);
        if (stream == home().unix_streams.end())
            return -ENOENT;
        return stream->second != nullptr ? -EPROTOTYPE : -ECONNREFUSED;
    }
    if (place->second == nullptr)
        return -ECONNREFUSED;
    found = place->second;
    return 0;
}

datagram *datagram::find(host_state &there, const address &to, const address &from) {
    datagram *for_all = nullptr;
    auto [first, last] = there.datagram_ports.equal_range(to.port);
    for (auto place = first; place != last; ++place) {
        datagram &one = *place->second;
        if (!one.local_.covers(to, one.only_v6()))
            continue;
        if (!one.connected())
            for_all = for_all == nullptr ? &one : for_all;
        else if (one.remote_.same_ip(from) && one.remote_.port == from.port)
            return &one;
    }
    return for_all;
}

// --- sending and receiving ---

ssize_t datagram::send(std::string data, const address *to) {
    if (domain_ == AF_UNIX)
        return send_unix(std::move(data), to);
    if (data.size() > 0xffff)
        return -EMSGSIZE;
    if (to != nullptr && to->port == 0)
        return -EINVAL;
    if (to == nullptr && !connected())
        return -EDESTADDRREQ;
    if (data.size() > most_udp)
        return -EMSGSIZE;
    if (error_ != 0)
        return -take_error();
    if (shut_write_)
        return -EPIPE;
    return send_udp(std::move(data), to != nullptr ? *to : remote_);
}

ssize_t datagram::send_unix(std::string data, const address *to) {
    datagram *other = nullptr;
    std::shared_ptr<datagram> peer = peer_.lock();
    if (to == nullptr) {
        if (!connected())
            return -ENOTCONN;
        other = peer.get();
    }
    if (data.size() > static_cast<std::size_t>(options.number(SOL_SOCKET, SO_SNDBUF)) - 32)
        return -EMSGSIZE;
    if (error_ != 0)
        return -take_error();
    if (shut_write_)
        return -EPIPE;
    if (to != nullptr) {
        if (int error = find_unix(*to, other))
            return error;
    } else if (other == nullptr || !other->open) {
        disconnect();
        return -ECONNREFUSED;
    }
    if (other->shut_read_)
        return -EPIPE;
    if (other->full()) {
        other->will_tell(std::static_pointer_cast<datagram>(shared_from_this()));
        return -EAGAIN;
    }
    const auto n = static_cast<ssize_t>(data.size());
    other->arrives({std::move(data), local_});
    return n;
}

ssize_t datagram::send_udp(std::string data, const address &wanted) {
    network &net = world().net();
    address to = wanted;
    if (to.is_any())
        to.ip = network::source(home(), wanted).ip;
    host_state *there = net.route(home(), to);
    if (there == nullptr)
        return -ENETUNREACH;
    if (!named_) {
        address any;
        any.family = domain_;
        if (int error = claim(any))
            return -error;
    }
    address from = local_;
    if (local_.is_any()) {
        from = network::source(home(), to);
        from.port = local_.port;
    }
    const auto n = static_cast<ssize_t>(data.size());
    // It has left the socket, which wakes who waits for that.
    changed(EPOLLOUT);
    const struct link how = net.between(home(), *there).how;
    if (!net.up(home(), *there) || world().chosen().seldom(stream::network, how.loss) != 0)
        return n; // lost on the way; nobody tells the sender
    const message one{std::move(data), std::move(from)};
    const int copies = world().chosen().seldom(stream::network, how.duplicate) != 0 ? 2 : 1;
    for (int i = 0; i < copies; i++)
        send_copy(*there, one, to);
    return n;
}

void datagram::send_copy(host_state &there, const message &one, const address &to) {
    network &net = world().net();
    const std::int64_t when = net.arrival(home(), there, one.data.size(), 0);
    auto me = std::static_pointer_cast<datagram>(shared_from_this());
    net.deliver(home(), there, when, [me, &there, one, to] {
        if (datagram *other = me->find(there, to, one.from)) {
            other->arrives(one);
            return;
        }
        // ICMP: port unreachable, which a connected socket is told.
        network &wires = me->world().net();
        if (!wires.up(there, me->home()))
            return;
        wires.deliver(there, me->home(), wires.arrival(there, me->home(), 0, 0), [me, to] {
            if (!me->open || !me->remote_.same_ip(to) || me->remote_.port != to.port)
                return;
            me->error_ = ECONNREFUSED;
            me->changed(EPOLLERR);
        });
    });
}

bool datagram::full() const {
    return in_.size() > most_unix_messages;
}

void datagram::arrives(message one) {
    // What does not fit is lost.
    if (domain_ != AF_UNIX &&
        queued_ + one.data.size() > static_cast<std::size_t>(options.number(SOL_SOCKET, SO_RCVBUF)))
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
        const bool was_full = full();
        queued_ -= one.data.size();
        in_.pop_front();
        if (was_full)
            tell_of_room();
    }
    return static_cast<ssize_t>(n);
}

int datagram::take_error() {
    return std::exchange(error_, 0);
}

std::uint32_t datagram::poll() const {
    std::uint32_t events = 0;
    if (!in_.empty())
        events |= EPOLLIN | EPOLLRDNORM;
    if (shut_read_)
        events |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
    if (shut_read_ && shut_write_)
        events |= EPOLLHUP;
    if (error_ != 0)
        events |= EPOLLERR;
    auto other = peer_.lock();
    if (other && other->open && other->full())
        other->will_tell(std::static_pointer_cast<const datagram>(shared_from_this()));
    else
        events |= EPOLLOUT;
    return events;
}

// Who found no room hears of it when there is some.
void datagram::will_tell(const std::shared_ptr<const datagram> &sender) {
    const bool known = std::any_of(waiting_for_room_.begin(), waiting_for_room_.end(),
                                   [&](const auto &one) { return one.lock() == sender; });
    if (!known)
        waiting_for_room_.push_back(std::const_pointer_cast<datagram>(sender));
}

void datagram::tell_of_room() {
    for (const auto &waiting : std::exchange(waiting_for_room_, {}))
        if (auto sender = waiting.lock(); sender && sender->open)
            sender->changed(EPOLLOUT);
}

int datagram::shutdown(int how) {
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
        return -EINVAL;
    shut_read_ = shut_read_ || how != SHUT_WR;
    shut_write_ = shut_write_ || how != SHUT_RD;
    changed(0);
    return domain_ == AF_UNIX || connected() ? 0 : -ENOTCONN;
}

void datagram::close() {
    release_name();
    tell_of_room();
}

std::string datagram::describe() const {
    return (domain_ == AF_UNIX ? "unix datagrams " : "udp ") + local_.text() +
           (connected() ? " - " + remote_.text() : "");
}

} // namespace parley::sim::detail
