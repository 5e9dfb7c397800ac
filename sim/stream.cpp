#include "stream.h"

#include <errno.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernel.h"

namespace parley::sim::detail {

namespace {

constexpr std::size_t default_buffer = 64 * 1024;
constexpr int syn_retries = 6;                                        // Linux' tcp_syn_retries: 127 s in all
constexpr std::int64_t second = 1'000'000'000;
constexpr std::int64_t retransmission_limit = 924 * second;           // Linux' tcp_retries2 = 15

} // namespace

// --- options ---

int socket_options::get(int level, int name, void *value, socklen_t *length) const {
    int number = 0;
    if (auto place = values_.find({level, name}); place != values_.end())
        number = place->second;
    const auto n = std::min<std::size_t>(*length, sizeof number);
    std::memcpy(value, &number, n);
    *length = static_cast<socklen_t>(n);
    return 0;
}

int socket_options::set(int level, int name, const void *value, socklen_t length) {
    if (level == SOL_SOCKET && name == SO_LINGER) {
        struct ::linger how{};
        if (length < sizeof how)
            return EINVAL;
        std::memcpy(&how, value, sizeof how);
        resets_at_close = how.l_onoff != 0 && how.l_linger == 0;
        return 0;
    }
    if (length < sizeof(int))
        return EINVAL;
    int number;
    std::memcpy(&number, value, sizeof number);
    if (level == SOL_SOCKET && (name == SO_SNDBUF || name == SO_RCVBUF))
        number *= 2; // as Linux does, for its own book-keeping
    values_[{level, name}] = number;
    return 0;
}

int socket_options::number(int level, int name, int otherwise) const {
    auto place = values_.find({level, name});
    return place != values_.end() ? place->second : otherwise;
}

// --- names ---

stream_socket::~stream_socket() {
    release_name();
}

void stream_socket::claim_port(const address &at) {
    local_ = at;
    named_ = true;
    if (domain_ == AF_UNIX)
        home().unix_streams[at.path] = this;
    else
        home().stream_ports.emplace(at.port, this);
}

void stream_socket::release_name() {
    if (!named_)
        return;
    named_ = false;
    if (domain_ == AF_UNIX) {
        auto place = home().unix_streams.find(local_.path);
        if (place != home().unix_streams.end() && place->second == this) {
            // The path stays in the file system; an abstract name goes.
            if (!local_.path.empty() && local_.path[0] == '\0')
                home().unix_streams.erase(place);
            else
                place->second = nullptr;
        }
        return;
    }
    auto [first, last] = home().stream_ports.equal_range(local_.port);
    for (auto place = first; place != last; ++place) {
        if (place->second == this) {
            home().stream_ports.erase(place);
            return;
        }
    }
}

// A port that is free for `at`; to: the connection's other end, whose pair must be unique. 0 or an errno.
int stream_socket::choose_port(address &at, const address *to) {
    host_state &host = home();
    const int count = host.last_port - host.first_port + 1;
    for (int i = 0; i < count; i++) {
        if (host.next_port < host.first_port || host.next_port > host.last_port)
            host.next_port = host.first_port;
        const std::uint16_t port = host.next_port++;
        if (host.stream_ports.find(port) == host.stream_ports.end()) {
            at.port = port;
            return 0;
        }
    }
    return to != nullptr ? EADDRNOTAVAIL : EADDRINUSE;
}

int stream_socket::bind(const address &to) {
    if (named_ || state_ != state::fresh || to.family != domain_)
        return -EINVAL;
    if (domain_ == AF_UNIX) {
        if (to.path.empty())
            return -EINVAL;
        if (home().unix_streams.contains(to.path))
            return -EADDRINUSE;
        claim_port(to);
        return 0;
    }
    if (!to.is_any() && !to.is_loopback() && !to.same_ip(home().v4) && !to.same_ip(home().v6))
        return -EADDRNOTAVAIL;
    address at = to;
    if (at.port == 0) {
        if (int error = choose_port(at, nullptr))
            return -error;
    } else {
        auto [first, last] = home().stream_ports.equal_range(at.port);
        for (auto place = first; place != last; ++place) {
            const stream_socket &other = *place->second;
            if (other.domain_ != domain_ || !(other.local_.is_any() || at.is_any() || other.local_.same_ip(at)))
                continue;
            const bool both_port = options.number(SOL_SOCKET, SO_REUSEPORT, 0) != 0 &&
                                   other.options.number(SOL_SOCKET, SO_REUSEPORT, 0) != 0;
            const bool both_address = options.number(SOL_SOCKET, SO_REUSEADDR, 0) != 0 &&
                                      other.options.number(SOL_SOCKET, SO_REUSEADDR, 0) != 0 &&
                                      other.state_ != state::listening;
            if (!both_port && !both_address)
                return -EADDRINUSE;
        }
    }
    claim_port(at);
    return 0;
}

int stream_socket::listen(int backlog) {
    if (state_ != state::fresh && state_ != state::listening)
        return -EINVAL;
    if (!named_) {
        if (domain_ == AF_UNIX)
            return -EINVAL;
        address at = local_;
        if (int error = choose_port(at, nullptr))
            return -error;
        claim_port(at);
    }
    state_ = state::listening;
    backlog_ = static_cast<std::size_t>(std::clamp(backlog, 0, 4096));
    return 0;
}

// --- connecting ---

int stream_socket::connect(const address &to) {
    switch (state_) {
    case state::fresh: break;
    case state::connecting: return -EALREADY;
    case state::connected: return -EISCONN;
    default: return -EINVAL;
    }
    if (to.family != domain_)
        return -EAFNOSUPPORT;
    if (domain_ == AF_UNIX) {
        auto place = home().unix_streams.find(to.path);
        if (place == home().unix_streams.end())
            return -(to.path.empty() || to.path[0] == '\0' ? ECONNREFUSED : ENOENT);
        stream_socket *listener = place->second;
        if (listener == nullptr || listener->state_ != state::listening)
            return -ECONNREFUSED;
        if (listener->accepted_.size() > listener->backlog_)
            return -EAGAIN;
        bool dropped = false;
        bool refused = false;
        remote_ = to;
        listener->syn_arrives(self(), dropped, refused);
        return 0;
    }
    host_state *there = world().net().route(home(), to);
    if (there == nullptr)
        return -ENETUNREACH;
    if (!named_) {
        address at = world().net().source(home(), to);
        if (int error = choose_port(at, &to))
            return -error;
        claim_port(at);
    } else if (local_.is_any()) {
        const std::uint16_t port = local_.port;
        local_ = world().net().source(home(), to);
        local_.port = port;
    }
    remote_ = to;
    state_ = state::connecting;
    send_syn(0);
    return -EINPROGRESS;
}

int stream_socket::finish_connect() {
    if (state_ == state::connecting)
        return -EINPROGRESS;
    const int error = take_error();
    return error != 0 ? -error : state_ == state::connected ? 0 : -ECONNREFUSED;
}

void stream_socket::send_syn(int attempt) {
    network &net = world().net();
    host_state &there = *net.route(home(), remote_);
    const auto again = [it = std::weak_ptr(self()), attempt] {
        auto client = it.lock();
        if (!client || !client->open || client->state_ != state::connecting)
            return;
        if (attempt == syn_retries)
            client->reset_arrives(ETIMEDOUT);
        else
            client->send_syn(attempt + 1);
    };
    const std::int64_t now = world().threads().now();
    if (!net.up(home(), there)) {
        world().threads().at(now + (second << attempt), again);
        return;
    }
    last_arrival_ = net.arrival(home(), there, 0, last_arrival_);
    net.deliver(home(), there, last_arrival_, [it = std::weak_ptr(self()), &there, again, attempt] {
        auto client = it.lock();
        if (!client || !client->open || client->state_ != state::connecting)
            return;
        network &wires = client->world().net();
        // Of several listeners with SO_REUSEPORT the kernel takes one by a hash.
        std::vector<stream_socket *> listeners;
        auto [first, last] = there.stream_ports.equal_range(client->remote_.port);
        for (auto place = first; place != last; ++place) {
            stream_socket &one = *place->second;
            const bool both = one.domain_ == AF_INET6 && client->domain_ == AF_INET && one.local_.is_any() &&
                              one.options.number(IPPROTO_IPV6, IPV6_V6ONLY, 0) == 0;
            if (one.state_ == state::listening &&
                (both || (one.domain_ == client->domain_ && (one.local_.is_any() || one.local_.same_ip(client->remote_)))))
                listeners.push_back(&one);
        }
        bool dropped = false;
        bool refused = listeners.empty();
        if (!refused) {
            const auto k = client->world().chosen().draw(stream::network, static_cast<std::uint32_t>(listeners.size()));
            listeners[k]->syn_arrives(client, dropped, refused);
        }
        if (dropped)
            client->world().threads().at(client->world().threads().now() + (second << attempt), again);
        if (refused) {
            const std::int64_t back = wires.arrival(there, client->home(), 0, 0);
            wires.deliver(there, client->home(), back, [it] {
                if (auto refused_one = it.lock())
                    refused_one->reset_arrives(ECONNREFUSED);
            });
        }
    });
}

// On the listener. Makes the other end.
void stream_socket::syn_arrives(const pointer &client, bool &dropped, bool &refused) {
    (void)refused;
    if (accepted_.size() > backlog_) {
        dropped = true;
        return;
    }
    auto server = std::make_shared<stream_socket>(world(), home(), client->domain_);
    server->state_ = state::connected;
    server->local_ = client->remote_;
    server->remote_ = client->local_;
    server->options = options;
    server->peer_ = client;
    world().take_cut(client->remote_.port, [&](const cut &how) {
        stream_socket &side = how.connecting_side ? *client : *server;
        side.cut_after_ = how.bytes;
        side.cut_resets_ = how.reset;
    });
    accepted_.push_back(server);
    changed(EPOLLIN);
    if (domain_ == AF_UNIX) {
        client->connected_to(server, client->local_);
        return;
    }
    network &net = world().net();
    server->last_arrival_ = net.arrival(home(), client->home(), 0, 0);
    net.deliver(home(), client->home(), server->last_arrival_, [client, server] {
        if (client->state_ == state::connecting && client->open)
            client->connected_to(server, client->local_);
        else if (!client->open)
            server->reset_arrives(ECONNRESET);
    });
}

void stream_socket::connected_to(const pointer &server, const address &at) {
    local_ = at;
    state_ = state::connected;
    peer_ = server;
    changed(0);
}

std::shared_ptr<stream_socket> stream_socket::accept() {
    if (accepted_.empty())
        return nullptr;
    pointer one = accepted_.front();
    accepted_.pop_front();
    return one;
}

// --- data ---

std::size_t stream_socket::window() const {
    auto other = peer_.lock();
    // getsockopt() says double of what was set; half of it is for data.
    const auto half = [](int doubled) { return std::max<std::size_t>(static_cast<std::size_t>(doubled) / 2, 1024); };
    const int whole = static_cast<int>(default_buffer) * 2;
    return half(options.number(SOL_SOCKET, SO_SNDBUF, whole)) +
           (other ? half(other->options.number(SOL_SOCKET, SO_RCVBUF, whole)) : default_buffer);
}

// Linux wakes a writer when a third is free, so as not to wake it for every segment.
bool stream_socket::writable() const {
    const std::size_t all = window();
    return unread_by_peer_ < all && all - unread_by_peer_ >= all / 3;
}

std::uint32_t stream_socket::poll() const {
    std::uint32_t events = 0;
    switch (state_) {
    case state::fresh: return EPOLLOUT | EPOLLHUP;
    case state::listening: return accepted_.empty() ? 0u : EPOLLIN;
    case state::connecting: return 0;
    case state::connected:
        if (writable() || shut_write_)
            events |= EPOLLOUT;
        if (end_in_ && shut_write_)
            events |= EPOLLHUP;
        break;
    case state::closed: events |= EPOLLOUT | EPOLLHUP | EPOLLIN | EPOLLRDHUP; break;
    }
    if (in_at_ < in_.size() || end_in_ || shut_read_)
        events |= EPOLLIN | EPOLLRDNORM;
    if (end_in_ || shut_read_)
        events |= EPOLLRDHUP;
    if (error_ != 0)
        events |= EPOLLERR;
    return events;
}

ssize_t stream_socket::send(const char *data, std::size_t size) {
    if (error_ != 0)
        return -take_error();
    if (shut_write_ || state_ == state::closed)
        return -EPIPE;
    if (state_ != state::connected)
        return state_ == state::connecting ? -EAGAIN : -ENOTCONN;
    if (size == 0)
        return 0;
    const std::size_t all = window();
    const std::size_t room = all > unread_by_peer_ ? all - unread_by_peer_ : 0;
    if (room == 0) {
        wants_room_ = true;
        return -EAGAIN;
    }
    const std::size_t n = std::min(size, room);
    if (n < size)
        wants_room_ = true;
    transmit(std::string(data, n));
    return static_cast<ssize_t>(n);
}

// The bytes that cut_connection() lets through; true: nothing comes after them.
bool stream_socket::cut_here(std::string &data) {
    if (sent_ + data.size() < cut_after_)
        return false;
    data.resize(static_cast<std::size_t>(cut_after_ - sent_));
    cut_ = true;
    return true;
}

void stream_socket::transmit(std::string data) {
    if (cut_)
        return;
    const bool last = cut_after_ != UINT64_MAX && cut_here(data);
    sent_ += data.size();
    unread_by_peer_ += data.size();
    const std::size_t size = data.size();
    if (size > 0)
        to_peer(size, [bytes = std::move(data)](stream_socket &other) { other.segment_arrives(bytes); });
    if (last) {
        world().trace_note("the connection " + describe() + " is cut after " + std::to_string(cut_after_) + " bytes");
        if (cut_resets_) {
            to_peer(0, [](stream_socket &other) { other.reset_arrives(ECONNRESET); });
            reset_arrives(ECONNRESET);
        } else {
            transmit_end();
        }
    }
}

void stream_socket::transmit_end() {
    if (end_sent_)
        return;
    end_sent_ = true;
    to_peer(0, [](stream_socket &other) { other.end_arrives(); });
}

void stream_socket::transmit_reset() {
    to_peer(0, [](stream_socket &other) { other.reset_arrives(ECONNRESET); });
}

void stream_socket::to_peer(std::size_t size, std::function<void(stream_socket &)> what) {
    pointer other = peer_.lock();
    if (!other)
        return;
    network &net = world().net();
    const std::int64_t now = world().threads().now();
    last_arrival_ = domain_ == AF_UNIX ? now : net.arrival(home(), other->home(), size, last_arrival_);
    if (!net.up(home(), other->home()))
        give_up_unless_healed();
    net.deliver(home(), other->home(), last_arrival_, [other, it = std::move(what)] { it(*other); });
}

void stream_socket::give_up_unless_healed() {
    const int limit_ms = options.number(IPPROTO_TCP, TCP_USER_TIMEOUT, 0);
    const std::int64_t limit = limit_ms > 0 ? limit_ms * INT64_C(1000000) : retransmission_limit;
    world().threads().at(world().threads().now() + limit, [it = std::weak_ptr(self())] {
        auto end = it.lock();
        if (!end || end->state_ != state::connected)
            return;
        auto other = end->peer_.lock();
        if (other && !end->world().net().up(end->home(), other->home()))
            end->reset_arrives(ETIMEDOUT);
    });
}

void stream_socket::segment_arrives(std::string data) {
    if (state_ == state::closed)
        return;
    if (!open || shut_read_) {
        // Nobody will read it. TCP says so when the descriptor is closed.
        if (!open) {
            state_ = state::closed;
            transmit_reset();
            world().forget_orphan(*this);
        } else if (auto other = peer_.lock()) {
            other->acknowledged(data.size());
        }
        return;
    }
    if (domain_ != AF_UNIX && world().fault("reset", world().odds().reset)) {
        transmit_reset();
        reset_arrives(ECONNRESET);
        return;
    }
    if (in_at_ == in_.size()) {
        in_.clear();
        in_at_ = 0;
    }
    in_ += data;
    changed(EPOLLIN);
}

void stream_socket::end_arrives() {
    if (state_ == state::closed)
        return;
    end_in_ = true;
    if (open)
        changed(0);
    else
        world().forget_orphan(*this);
}

void stream_socket::reset_arrives(int why) {
    if (state_ == state::closed)
        return;
    // Somebody who was told of the end, and writes on, is told EPIPE (tcp_reset in CLOSE_WAIT).
    error_ = why == ECONNRESET && end_in_ && state_ == state::connected ? EPIPE : why;
    state_ = state::closed;
    end_in_ = true;
    shut_write_ = true;
    cut_ = true;
    if (open)
        changed(0);
    else
        world().forget_orphan(*this);
}

ssize_t stream_socket::recv(char *out, std::size_t size, int flags) {
    if (state_ == state::fresh || state_ == state::listening)
        return -ENOTCONN;
    const std::size_t there = in_.size() - in_at_;
    if (there == 0) {
        if (error_ != 0)
            return -take_error();
        if (end_in_ || shut_read_)
            return 0;
        return -EAGAIN;
    }
    const std::size_t n = std::min(size, there);
    std::memcpy(out, in_.data() + in_at_, n);
    if ((flags & MSG_PEEK) != 0)
        return static_cast<ssize_t>(n);
    in_at_ += n;
    if (auto other = peer_.lock()) {
        network &net = world().net();
        // The window's news travels too, but a lost one is no loss of bytes: never held back.
        const std::int64_t when =
            domain_ == AF_UNIX ? 0 : world().threads().now() + net.between(home(), other->home()).how.latency.count();
        if (when <= world().threads().now())
            other->acknowledged(n);
        else
            world().threads().at(when, [other, n] { other->acknowledged(n); });
    }
    return static_cast<ssize_t>(n);
}

void stream_socket::acknowledged(std::size_t size) {
    unread_by_peer_ -= std::min(size, unread_by_peer_);
    if (open && wants_room_ && writable()) {
        wants_room_ = false;
        changed(EPOLLOUT);
    }
}

// Both directions end at once; what was not read is a reset (unix_release_sock).
void stream_socket::unix_peer_closed(bool unread) {
    end_in_ = true;
    shut_write_ = true;
    if (unread)
        error_ = ECONNRESET;
    if (open)
        changed(0);
}

int stream_socket::take_error() {
    return std::exchange(error_, 0);
}

// --- the end ---

int stream_socket::shutdown(int how) {
    if (state_ != state::connected)
        return -ENOTCONN;
    if (how == SHUT_RD || how == SHUT_RDWR)
        shut_read_ = true;
    if ((how == SHUT_WR || how == SHUT_RDWR) && !shut_write_) {
        shut_write_ = true;
        transmit_end();
    }
    changed(0);
    return 0;
}

void stream_socket::close() {
    const bool unread = in_at_ < in_.size();
    for (const pointer &one : accepted_) {
        one->open = false;
        one->state_ = state::closed;
        one->transmit_reset();
    }
    accepted_.clear();
    if (state_ == state::connected) {
        if (domain_ == AF_UNIX) {
            state_ = state::closed;
            if (pointer other = peer_.lock())
                other->unix_peer_closed(unread);
        } else if (unread || options.resets_at_close) {
            transmit_reset();
            state_ = state::closed;
        } else {
            transmit_end();
            if (!end_in_)
                world().keep_orphan(shared_from_this());
        }
    }
    release_name();
}

std::string stream_socket::describe() const {
    std::string text = domain_ == AF_UNIX ? "unix " : "tcp ";
    text += local_.text();
    if (state_ == state::listening)
        text += " (listens)";
    else if (remote_.family != AF_UNSPEC && state_ != state::fresh)
        text += " - " + remote_.text();
    return text;
}

} // namespace parley::sim::detail
