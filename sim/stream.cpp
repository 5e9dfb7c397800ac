#include "stream.h"

#include <errno.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernel.h"

namespace parley::sim::detail {

namespace {

constexpr std::int64_t retransmission_limit = 924'000'000'000; // Linux' tcp_retries2 = 15

} // namespace

// --- data ---

std::size_t stream_socket::window() const {
    // getsockopt() says double of what was set; half of it is for data.
    const auto half = [](int doubled) {
        return std::max<std::size_t>(static_cast<std::size_t>(doubled) / 2, 1024);
    };
    const std::size_t mine = half(options.number(SOL_SOCKET, SO_SNDBUF));
    auto other = peer_.lock();
    return domain_ == AF_UNIX || !other ? mine : mine + half(other->options.number(SOL_SOCKET, SO_RCVBUF));
}

// Linux wakes a writer when a third is free, of a unix socket three quarters, so as not to wake it for every
// segment.
bool stream_socket::writable() const {
    const std::size_t all = window();
    if (domain_ == AF_UNIX)
        return unread_by_peer_ <= all / 4;
    return unread_by_peer_ < all && all - unread_by_peer_ >= all / 3;
}

std::uint32_t stream_socket::poll() const {
    std::uint32_t events = 0;
    if (state_ == state::listening)
        return accepted_.empty() ? 0u : EPOLLIN | EPOLLRDNORM;
    const bool unconnected = state_ == state::closed || state_ == state::fresh;
    if ((shut_read_ && shut_write_) || unconnected)
        events |= EPOLLHUP;
    if (shut_read_)
        events |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
    if (in_at_ < in_.size())
        events |= EPOLLIN | EPOLLRDNORM;
    if (error_ != 0)
        events |= EPOLLERR;
    if (state_ == state::connecting)
        return events;
    if (unconnected || writable() || (shut_write_ && domain_ != AF_UNIX))
        events |= EPOLLOUT;
    else
        wants_room_ = true;
    return events;
}

// 0, or why not, but for a pending error.
ssize_t stream_socket::may_send() const {
    if (domain_ != AF_UNIX) {
        if (state_ == state::connecting)
            return -EAGAIN;
        return state_ == state::connected && !shut_write_ && error_ == 0 ? 0 : -EPIPE;
    }
    if (state_ != state::connected)
        return -ENOTCONN;
    return shut_write_ ? -EPIPE : 0;
}

ssize_t stream_socket::send(const char *data, std::size_t size) {
    if (const ssize_t no = may_send(); no != 0) {
        const bool told_first = no == -EPIPE && domain_ != AF_UNIX && error_ != 0;
        return told_first ? -take_error() : no;
    }
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
        world().trace_note("the connection " + describe() + " is cut after " + std::to_string(cut_after_) +
                           " bytes");
        if (cut_resets_) {
            to_peer(0, [](stream_socket &other) { other.reset_arrives(ECONNRESET); });
            reset_arrives(ECONNRESET);
        } else {
            // As if somebody between them had ended both halves: each sees an end, and sends into the void.
            cut_ = end_sent_ = true;
            to_peer(0, [](stream_socket &other) {
                other.cut_ = true;
                other.end_arrives();
            });
            end_arrives();
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
    const int limit_ms = options.number(IPPROTO_TCP, TCP_USER_TIMEOUT);
    const std::int64_t limit = limit_ms > 0 ? limit_ms * INT64_C(1000000) : retransmission_limit;
    auto there = peer_.lock();
    if (!there)
        return;
    const unsigned outage = world().net().between(home(), there->home()).outages;
    world().threads().at(world().threads().now() + limit, [it = std::weak_ptr(self()), outage] {
        auto end = it.lock();
        auto other = end ? end->peer_.lock() : nullptr;
        if (!other || end->state_ != state::connected)
            return;
        const network::wire &wire = end->world().net().between(end->home(), other->home());
        if (!wire.up && wire.outages == outage)
            end->reset_arrives(ETIMEDOUT);
    });
}

void stream_socket::tell_peer(std::function<void(stream_socket &)> what) {
    pointer other = peer_.lock();
    if (!other)
        return;
    const std::int64_t now = world().threads().now();
    const std::int64_t takes =
        domain_ == AF_UNIX ? 0 : world().net().between(home(), other->home()).how.latency.count();
    if (takes == 0)
        what(*other);
    else
        world().threads().at(now + takes, [other, it = std::move(what)] { it(*other); });
}

void stream_socket::segment_arrives(const std::string &data) {
    if (state_ == state::closed)
        return;
    // Nobody will read it, and TCP says so.
    if (!open) {
        state_ = state::closed;
        transmit_reset();
        world().forget_orphan(*this);
        return;
    }
    const bool nobody_reads = domain_ != AF_UNIX && shut_read_ && end_sent_;
    if (nobody_reads || (domain_ != AF_UNIX && world().fault("reset", world().odds().reset))) {
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
    shut_read_ = true;
    if (pointer other = peer_.lock()) {
        close_if_both_ended(*other);
        tell_peer([me = self()](stream_socket &it) { it.close_if_both_ended(*me); });
    }
    if (open)
        changed(0);
    else
        world().forget_orphan(*this);
}

// Both have ended and know it: what is left of the connection is what was not read.
void stream_socket::close_if_both_ended(const stream_socket &peer) {
    if (state_ != state::connected || !end_in_ || !end_sent_ || !peer.end_in_)
        return;
    state_ = state::closed;
    shut_write_ = true;
    if (open)
        changed(0);
    else
        release_name();
}

void stream_socket::reset_arrives(int why) {
    if (state_ == state::closed)
        return;
    // Somebody who was told of the end, and has not ended itself, is told EPIPE (tcp_reset in CLOSE_WAIT).
    error_ = why == ECONNRESET && end_in_ && !end_sent_ ? EPIPE : why;
    state_ = state::closed;
    shut_read_ = shut_write_ = true;
    cut_ = true;
    if (open) {
        changed(0);
    } else {
        release_name();
        world().forget_orphan(*this);
    }
}

ssize_t stream_socket::recv(char *out, std::size_t size, int flags) {
    if (domain_ == AF_UNIX && state_ != state::connected)
        return -EINVAL;
    if (state_ == state::listening)
        return -ENOTCONN;
    const std::size_t there = in_.size() - in_at_;
    if (there == 0) {
        if (end_in_ && domain_ != AF_UNIX)
            return 0; // before the error: it stays for who asks or sends
        if (error_ != 0)
            return -take_error();
        if (shut_read_)
            return 0;
        return state_ == state::fresh ? -ENOTCONN : -EAGAIN;
    }
    const std::size_t n = std::min(size, there);
    if (out != nullptr)
        std::memcpy(out, in_.data() + in_at_, n);
    if ((flags & MSG_PEEK) != 0)
        return static_cast<ssize_t>(n);
    in_at_ += n;
    // The window's news travels too, but a lost one is no loss of bytes: never held back.
    tell_peer([n](stream_socket &other) { other.acknowledged(n); });
    return static_cast<ssize_t>(n);
}

void stream_socket::acknowledged(std::size_t size) {
    unread_by_peer_ -= std::min(size, unread_by_peer_);
    // A unix socket's writer hears of all that is read.
    if (open && (wants_room_ || domain_ == AF_UNIX) && writable()) {
        wants_room_ = false;
        changed(EPOLLOUT);
    }
}

// Both directions end at once; what was not read is a reset (unix_release_sock).
void stream_socket::unix_peer_closed(bool unread) {
    shut_read_ = shut_write_ = true;
    unread_by_peer_ = 0; // it was freed with its reader
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
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
        return -EINVAL;
    if (domain_ == AF_UNIX)
        return shutdown_unix(how);
    if (state_ == state::listening) {
        if (how != SHUT_WR) {
            close_door();
            forget_connection();
            changed(0);
        }
        return 0;
    }
    if (state_ == state::connecting) {
        disconnect();
        return 0;
    }
    if (asked_ == asked::told_in_progress)
        asked_ = state_ == state::connected ? asked::told : asked::in_vain;
    const bool was_connected = state_ == state::connected;
    shut_read_ = shut_read_ || how != SHUT_WR;
    if (how != SHUT_RD && !std::exchange(shut_write_, true) && was_connected)
        transmit_end();
    changed(0);
    return was_connected ? 0 : -ENOTCONN;
}

// One end's reading is the other one's writing.
int stream_socket::shutdown_unix(int how) {
    const bool reading = how != SHUT_WR, writing = how != SHUT_RD;
    shut_read_ = shut_read_ || reading;
    shut_write_ = shut_write_ || writing;
    changed(0);
    if (pointer other = peer_.lock()) {
        other->shut_read_ = other->shut_read_ || writing;
        other->shut_write_ = other->shut_write_ || reading;
        other->changed(0);
    }
    return 0;
}

void stream_socket::close() {
    const bool unread = in_at_ < in_.size();
    if (state_ == state::listening) {
        close_door();
    } else if (state_ == state::connected && domain_ == AF_UNIX) {
        state_ = state::closed;
        if (pointer other = peer_.lock())
            other->unix_peer_closed(unread);
    } else if (state_ == state::connected && (unread || options.resets_at_close())) {
        transmit_reset();
        state_ = state::closed;
    } else if (state_ == state::connected) {
        transmit_end();
        // Its port is free when the peer has ended too.
        if (state_ == state::connected && !end_in_) {
            world().keep_orphan(shared_from_this());
            return;
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
