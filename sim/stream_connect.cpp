// Names of stream sockets, listeners, and how connections come to be.

#include <errno.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "datagram.h"
#include "kernel.h"

namespace parley::sim::detail {

namespace {

constexpr std::int64_t second = 1'000'000'000;

} // namespace

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
        home().stream_ports[at.port].bound.push_back(this);
}

// Of a connection that was accepted: the port is taken for as long as it lives.
void stream_socket::share_port(const address &at) {
    local_ = at;
    named_ = true;
    home().stream_ports[at.port].accepted.insert(this);
}

void stream_socket::release_name() {
    if (!std::exchange(named_, false))
        return;
    if (domain_ == AF_UNIX) {
        auto place = home().unix_streams.find(local_.path);
        if (place != home().unix_streams.end() && place->second == this) {
            // The path stays in the file system; an abstract name goes.
            if (local_.path[0] == '\0')
                home().unix_streams.erase(place);
            else
                place->second = nullptr;
        }
        return;
    }
    auto place = home().stream_ports.find(local_.port);
    if (place == home().stream_ports.end())
        return;
    host_state::port_users &users = place->second;
    if (users.accepted.erase(this) == 0)
        std::erase(users.bound, this);
    if (users.accepted.empty() && users.bound.empty())
        home().stream_ports.erase(place);
}

// A port that is free, or that errno.
int stream_socket::choose_port(address &at, int otherwise) {
    host_state &host = home();
    const int count = host.last_port - host.first_port + 1;
    for (int i = 0; i < count; i++) {
        if (host.next_port < host.first_port || host.next_port > host.last_port)
            host.next_port = host.first_port;
        const std::uint16_t port = host.next_port++;
        if (!host.stream_ports.contains(port)) {
            at.port = port;
            return 0;
        }
    }
    return otherwise;
}

// Whether another has that address and port, and has not agreed to share them.
bool stream_socket::is_taken(const address &at) const {
    auto place = home().stream_ports.find(at.port);
    if (place == home().stream_ports.end())
        return false;
    const auto in_the_way = [&](const stream_socket *one) {
        const stream_socket &other = *one;
        if (&other == this ||
            !(at.covers(other.local_, only_v6()) || other.local_.covers(at, other.only_v6())))
            return false;
        const auto both = [&](int option) {
            return options.on(SOL_SOCKET, option) && other.options.on(SOL_SOCKET, option);
        };
        return !both(SO_REUSEPORT) && (!both(SO_REUSEADDR) || other.listening());
    };
    const host_state::port_users &users = place->second;
    return std::any_of(users.bound.begin(), users.bound.end(), in_the_way) ||
           std::any_of(users.accepted.begin(), users.accepted.end(), in_the_way);
}

int stream_socket::bind(const address &to) {
    if (domain_ == AF_UNIX) {
        if (named_ || to.path.empty())
            return -EINVAL;
        const bool packets_there = to.path[0] != '\0' && home().unix_datagrams.contains(to.path);
        if (home().unix_streams.contains(to.path) || packets_there)
            return -EADDRINUSE;
        claim_port(to);
        return 0;
    }
    if (!to.is_any() && !to.is_loopback() && !to.same_ip(home().v4) && !to.same_ip(home().v6))
        return -EADDRNOTAVAIL;
    if (named_ || state_ != state::fresh)
        return -EINVAL;
    address at = to;
    if (at.port == 0) {
        if (int error = choose_port(at, EADDRINUSE))
            return -error;
    } else if (is_taken(at)) {
        return -EADDRINUSE;
    }
    claim_port(at);
    bound_ = to;
    return 0;
}

int stream_socket::listen(int backlog) {
    if (state_ != state::fresh && state_ != state::listening)
        return -EINVAL;
    if (!named_) {
        if (domain_ == AF_UNIX)
            return -EINVAL;
        address at = local_;
        if (int error = choose_port(at, EADDRINUSE))
            return -error;
        claim_port(at);
    }
    // With SO_REUSEADDR several may be bound, but one listens.
    if (domain_ != AF_UNIX && state_ == state::fresh && is_taken(local_))
        return -EADDRINUSE;
    state_ = state::listening;
    backlog_ = static_cast<std::size_t>(std::clamp(backlog, 0, 4096));
    return 0;
}

// --- connecting ---

int stream_socket::connect(const address &to) {
    if (domain_ == AF_UNIX)
        return connect_unix(to);
    switch (asked_) {
    case asked::told:
        return -EISCONN;
    case asked::in_vain:
        return -EINVAL;
    case asked::told_in_progress:
        if (state_ == state::connecting)
            return -EALREADY;
        return finish_connect();
    case asked::not_yet:
        break;
    }
    return state_ == state::fresh ? connect_tcp(to) : -EISCONN;
}

int stream_socket::connect_unix(const address &to) {
    auto place = home().unix_streams.find(to.path);
    if (place == home().unix_streams.end()) {
        if (to.path.empty())
            return -EINVAL;
        if (to.path[0] == '\0')
            return -ECONNREFUSED;
        return home().unix_datagrams.contains(to.path) ? -EPROTOTYPE : -ENOENT;
    }
    stream_socket *listener = place->second;
    if (listener == nullptr || listener->state_ != state::listening)
        return -ECONNREFUSED;
    if (listener->accepted_.size() > listener->backlog_)
        return -EAGAIN;
    if (state_ != state::fresh)
        return state_ == state::listening ? -EINVAL : -EISCONN;
    remote_ = to;
    listener->syn_arrives(self());
    return 0;
}

int stream_socket::connect_tcp(const address &wanted) {
    address to = wanted;
    if (to.is_any())
        to.ip = network::source(home(), wanted).ip;
    host_state *there = world().net().route(home(), to);
    if (there == nullptr)
        return -ENETUNREACH;
    if (!named_) {
        address at = network::source(home(), to);
        if (int error = choose_port(at, EADDRNOTAVAIL))
            return -error;
        claim_port(at);
    } else if (local_.is_any()) {
        const std::uint16_t port = local_.port;
        local_ = network::source(home(), to);
        local_.port = port;
    }
    remote_ = to;
    state_ = state::connecting;
    asked_ = asked::told_in_progress;
    send_syn(0);
    return -EINPROGRESS;
}

int stream_socket::finish_connect() {
    if (domain_ == AF_UNIX || state_ == state::connecting)
        return -EINPROGRESS;
    if (state_ == state::connected) {
        asked_ = asked::told;
        return 0;
    }
    const int error = std::exchange(error_, 0);
    forget_connection();
    return error != 0 ? -error : -ECONNABORTED;
}

int stream_socket::disconnect() {
    if (domain_ == AF_UNIX)
        return -EINVAL;
    if (state_ == state::connected)
        transmit_reset();
    const bool was_used = state_ == state::connected || state_ == state::connecting;
    if (state_ == state::listening)
        close_door();
    forget_connection();
    error_ = was_used ? ECONNRESET : 0;
    changed(0);
    return 0;
}

// As if nothing had been done but bind().
void stream_socket::forget_connection() {
    state_ = state::fresh;
    asked_ = asked::not_yet;
    peer_.reset();
    in_.clear();
    in_at_ = unread_by_peer_ = 0;
    end_in_ = end_sent_ = shut_read_ = shut_write_ = cut_ = false;
    remote_ = {};
    if (bound_.port == 0)
        release_name(); // a port that was drawn is given back
    local_ = bound_;
    local_.family = bound_.family == AF_UNSPEC ? domain_ : bound_.family;
}

void stream_socket::send_syn(int attempt) {
    network &net = world().net();
    host_state &there = *net.route(home(), remote_);
    if (!net.up(home(), there)) {
        try_syn_again(attempt);
        return;
    }
    last_arrival_ = net.arrival(home(), there, 0, last_arrival_);
    net.deliver(home(), there, last_arrival_, [it = std::weak_ptr(self()), &there, attempt] {
        auto client = it.lock();
        if (client && client->open && client->state_ == state::connecting)
            client->syn_at(there, attempt);
    });
}

// It is lost, and sent again after 1, 2, 4 ... seconds, of which the last one is waited out: 127 s in all.
void stream_socket::try_syn_again(int attempt) {
    world().threads().at(world().threads().now() + (second << attempt),
                         [it = std::weak_ptr(self()), attempt] {
                             auto client = it.lock();
                             if (!client || !client->open || client->state_ != state::connecting)
                                 return;
                             if (attempt >= client->options.number(IPPROTO_TCP, TCP_SYNCNT))
                                 client->reset_arrives(ETIMEDOUT);
                             else
                                 client->send_syn(attempt + 1);
                         });
}

// On the client, where the listener is.
void stream_socket::syn_at(host_state &there, int attempt) {
    // Of several listeners with SO_REUSEPORT the kernel takes one by a hash.
    std::vector<stream_socket *> listeners;
    if (auto place = there.stream_ports.find(remote_.port); place != there.stream_ports.end())
        for (stream_socket *one : place->second.bound)
            if (one->listening() && one->local_.covers(remote_, one->only_v6()))
                listeners.push_back(one);
    // Who is bound to this address comes before who is bound to all.
    if (std::any_of(listeners.begin(), listeners.end(),
                    [](const stream_socket *one) { return !one->local_.is_any(); }))
        std::erase_if(listeners, [](const stream_socket *one) { return one->local_.is_any(); });
    else if (std::any_of(listeners.begin(), listeners.end(),
                         [&](const stream_socket *one) { return one->local_.family == remote_.family; }))
        std::erase_if(listeners,
                      [&](const stream_socket *one) { return one->local_.family != remote_.family; });
    if (!listeners.empty()) {
        const auto k = world().chosen().draw(stream::network, static_cast<std::uint32_t>(listeners.size()));
        if (!listeners[k]->syn_arrives(self()))
            try_syn_again(attempt);
        return;
    }
    network &net = world().net();
    net.deliver(there, home(), net.arrival(there, home(), 0, 0), [it = std::weak_ptr(self())] {
        if (auto refused = it.lock(); refused && refused->state_ == state::connecting)
            refused->reset_arrives(ECONNREFUSED);
    });
}

// On the listener. Makes the other end; false: there is no room for it.
bool stream_socket::syn_arrives(const pointer &client) {
    if (accepted_.size() > backlog_)
        return false;
    auto server = std::make_shared<stream_socket>(world(), home(), domain_);
    server->state_ = state::connected;
    server->asked_ = asked::told;
    server->remote_ = client->local_;
    server->options = options;
    server->peer_ = client;
    if (domain_ == AF_UNIX) {
        server->local_ = local_;
        client->connected_to(server);
        joins_queue(server);
        return true;
    }
    server->share_port(client->remote_);
    world().take_cut(client->remote_.port, [&](const cut &how) {
        stream_socket &side = how.connecting_side ? *client : *server;
        side.cut_after_ = how.bytes;
        side.cut_resets_ = how.reset;
    });
    network &net = world().net();
    server->last_arrival_ = net.arrival(home(), client->home(), 0, 0);
    net.deliver(home(), client->home(), server->last_arrival_,
                [client, server, door = std::weak_ptr(self())] {
                    if (client->state_ != state::connecting || !client->open) {
                        server->release_name();
                        return;
                    }
                    client->connected_to(server);
                    client->to_peer(0, [door](stream_socket &it) {
                        if (auto listener = door.lock(); listener && listener->listening())
                            listener->joins_queue(it.self());
                        else
                            it.refuse_embryo();
                    });
                });
    return true;
}

void stream_socket::joins_queue(const pointer &server) {
    accepted_.push_back(server);
    changed(EPOLLIN);
}

// Nobody will accept it.
void stream_socket::refuse_embryo() {
    open = false;
    if (domain_ != AF_UNIX)
        transmit_reset();
    else if (pointer other = peer_.lock())
        other->unix_peer_closed(true);
    state_ = state::closed;
    release_name();
}

void stream_socket::connected_to(const pointer &server) {
    state_ = state::connected;
    peer_ = server;
    if (domain_ == AF_UNIX)
        asked_ = asked::told;
    changed(0);
}

std::shared_ptr<stream_socket> stream_socket::accept() {
    if (accepted_.empty())
        return nullptr;
    pointer one = accepted_.front();
    accepted_.pop_front();
    return one;
}

// Who was not accepted is told that nobody will.
void stream_socket::close_door() {
    for (const pointer &one : std::exchange(accepted_, {}))
        one->refuse_embryo();
}

} // namespace parley::sim::detail
