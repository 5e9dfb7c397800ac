// The socket calls: what Linux does around a socket whatever its kind.

#include <errno.h>

#include <algorithm>
#include <cstring>

#include "datagram.h"
#include "kernel.h"

namespace parley::sim::detail {

namespace {

std::size_t total(const iovec *iov, std::size_t count) {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < count; i++)
        sum += iov[i].iov_len;
    return sum;
}

std::string gather(const iovec *iov, std::size_t count) {
    std::string all;
    for (std::size_t i = 0; i < count; i++)
        all.append(static_cast<const char *>(iov[i].iov_base), iov[i].iov_len);
    return all;
}

void scatter(const std::string &from, const iovec *iov, std::size_t count) {
    std::size_t at = 0;
    for (std::size_t i = 0; i < count && at < from.size(); i++) {
        const std::size_t n = std::min(iov[i].iov_len, from.size() - at);
        std::memcpy(iov[i].iov_base, from.data() + at, n);
        at += n;
    }
}

// AF_UNSPEC: it is no socket.
int domain_of(const file &it) {
    if (auto *stream = dynamic_cast<const stream_socket *>(&it))
        return stream->domain();
    auto *packets = dynamic_cast<const datagram *>(&it);
    return packets != nullptr ? packets->domain() : AF_UNSPEC;
}

} // namespace

// Why a descriptor is no stream: `packets` if it is a socket after all.
int kernel::no_stream(int fd, int packets) {
    if (fd < 0)
        return -EBADF;
    return domain_of(*descriptors_[static_cast<std::size_t>(fd - first_descriptor)]) != AF_UNSPEC ? packets
                                                                                                  : -ENOTSOCK;
}

int kernel::socket(int domain, int type, int protocol) {
    if (!enter(call::socket, -1))
        return -1;
    const int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX)
        return leave_int(call::socket, -1, -EAFNOSUPPORT);
    if (kind < 0 || kind > SOCK_PACKET)
        return leave_int(call::socket, -1, -EINVAL);
    const int its_own = domain == AF_UNIX ? 0 : kind == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
    if (protocol != 0 && protocol != its_own)
        return leave_int(call::socket, -1, -EPROTONOSUPPORT);
    std::shared_ptr<file> one;
    if (kind == SOCK_STREAM)
        one = std::make_shared<stream_socket>(*this, here(), domain);
    else if (kind == SOCK_DGRAM)
        one = std::make_shared<datagram>(*this, here(), domain);
    else
        return leave_int(call::socket, -1, -ESOCKTNOSUPPORT);
    one->nonblocking = (type & SOCK_NONBLOCK) != 0;
    return leave_int(call::socket, -1, give_number(std::move(one)));
}

int kernel::bind(int fd, const sockaddr *addr, socklen_t addrlen) {
    if (!enter(call::bind, fd))
        return -1;
    file *it = find(call::bind, fd);
    if (it == nullptr)
        return leave_int(call::bind, fd, -EBADF);
    address to;
    int result = -ENOTSOCK;
    if (const int domain = domain_of(*it); domain != AF_UNSPEC)
        result = -address::from(domain, addr, addrlen, to);
    if (result == 0) {
        if (auto *stream = dynamic_cast<stream_socket *>(it))
            result = stream->bind(to);
        else if (auto *packets = dynamic_cast<datagram *>(it))
            result = packets->bind(to);
    }
    return leave_int(call::bind, fd, result, to.text());
}

int kernel::listen(int fd, int backlog) {
    if (!enter(call::listen, fd))
        return -1;
    auto *stream = find_as<stream_socket>(call::listen, fd);
    return leave_int(call::listen, fd,
                     stream != nullptr ? stream->listen(backlog) : no_stream(fd, -EOPNOTSUPP));
}

int kernel::accept(int fd, sockaddr *addr, socklen_t *addrlen) {
    if (!enter(call::accept, fd))
        return -1;
    auto *door = find_as<stream_socket>(call::accept, fd);
    if (door == nullptr)
        return leave_int(call::accept, fd, no_stream(fd, -EOPNOTSUPP));
    if (!door->listening())
        return leave_int(call::accept, fd, -EINVAL);
    // The number is taken before the connection: with none left it waits in the queue (EMFILE).
    if (here().open_descriptors >= here().most_descriptors)
        return leave_int(call::accept, fd, -EMFILE);
    std::shared_ptr<stream_socket> one = door->accept();
    while (one == nullptr) {
        if (door->nonblocking)
            return leave_int(call::accept, fd, -EAGAIN);
        door->await_change("accept");
        one = door->accept();
    }
    one->nonblocking = true;
    const address peer = one->remote();
    if (addr != nullptr)
        peer.to(one->domain(), addr, addrlen);
    return leave_int(call::accept, fd, give_number(std::move(one)), peer.text());
}

int kernel::connect(int fd, const sockaddr *addr, socklen_t addrlen) {
    if (!enter(call::connect, fd))
        return -1;
    file *it = find(call::connect, fd);
    if (it == nullptr)
        return leave_int(call::connect, fd, -EBADF);
    auto *stream = dynamic_cast<stream_socket *>(it);
    auto *packets = dynamic_cast<datagram *>(it);
    address to;
    int result = 0;
    if (stream == nullptr && packets == nullptr)
        result = -ENOTSOCK;
    else if (addr != nullptr && addrlen >= sizeof addr->sa_family && addr->sa_family == AF_UNSPEC)
        result = stream != nullptr ? stream->disconnect() : packets->disconnect();
    else if (int error = address::from(domain_of(*it), addr, addrlen, to))
        result = -error;
    else if (packets != nullptr)
        result = packets->connect(to);
    else
        result = connect_stream(*stream, to);
    return leave_int(call::connect, fd, result, to.text());
}

int kernel::connect_stream(stream_socket &stream, const address &to) {
    int result = stream.connect(to);
    if (stream.nonblocking)
        return result;
    while (result == -EAGAIN) { // a unix listener whose backlog is full
        scheduler_.block("connect", &stream, scheduler_.now() + 1'000'000);
        result = stream.connect(to);
    }
    while (result == -EINPROGRESS) {
        // It may have been answered within connect() itself.
        result = stream.finish_connect();
        if (result == -EINPROGRESS)
            stream.await_change("connect");
    }
    return result;
}

int kernel::shutdown(int fd, int how) {
    if (!enter(call::shutdown, fd))
        return -1;
    auto *stream = find_as<stream_socket>(call::shutdown, fd);
    auto *packets = stream == nullptr ? find_as<datagram>(call::shutdown, fd) : nullptr;
    const int result = stream != nullptr    ? stream->shutdown(how)
                       : packets != nullptr ? packets->shutdown(how)
                                            : no_stream(fd, 0);
    return leave_int(call::shutdown, fd, result, how == SHUT_RD ? "RD" : how == SHUT_WR ? "WR" : "RDWR");
}

int kernel::getsockname(int fd, sockaddr *addr, socklen_t *addrlen) {
    if (!enter(call::getsockname, fd))
        return -1;
    file *it = find(call::getsockname, fd);
    if (auto *stream = dynamic_cast<stream_socket *>(it))
        stream->local().to(stream->domain(), addr, addrlen);
    else if (auto *packets = dynamic_cast<datagram *>(it))
        packets->local().to(packets->domain(), addr, addrlen);
    else
        return leave_int(call::getsockname, fd, it == nullptr ? -EBADF : -ENOTSOCK);
    return leave_int(call::getsockname, fd, 0);
}

int kernel::getpeername(int fd, sockaddr *addr, socklen_t *addrlen) {
    if (!enter(call::getpeername, fd))
        return -1;
    file *it = find(call::getpeername, fd);
    auto *stream = dynamic_cast<stream_socket *>(it);
    auto *packets = dynamic_cast<datagram *>(it);
    if (stream == nullptr && packets == nullptr)
        return leave_int(call::getpeername, fd, it == nullptr ? -EBADF : -ENOTSOCK);
    if (stream != nullptr ? !stream->connected() : !packets->connected())
        return leave_int(call::getpeername, fd, -ENOTCONN);
    (stream != nullptr ? stream->remote() : packets->remote()).to(domain_of(*it), addr, addrlen);
    return leave_int(call::getpeername, fd, 0);
}

int kernel::getsockopt(int fd, int level, int name, void *value, socklen_t *length) {
    if (!enter(call::getsockopt, fd))
        return -1;
    file *it = find(call::getsockopt, fd);
    auto *stream = dynamic_cast<stream_socket *>(it);
    auto *packets = dynamic_cast<datagram *>(it);
    if (stream == nullptr && packets == nullptr)
        return leave_int(call::getsockopt, fd, it == nullptr ? -EBADF : -ENOTSOCK);
    if (level == SOL_SOCKET && (name == SO_ERROR || name == SO_TYPE || name == SO_DOMAIN ||
                                name == SO_PROTOCOL || name == SO_ACCEPTCONN)) {
        int number = 0;
        if (name == SO_ERROR)
            number = stream != nullptr ? stream->take_error() : packets->take_error();
        else if (name == SO_TYPE)
            number = stream != nullptr ? SOCK_STREAM : SOCK_DGRAM;
        else if (name == SO_DOMAIN)
            number = domain_of(*it);
        else if (name == SO_PROTOCOL)
            number = domain_of(*it) == AF_UNIX ? 0 : stream != nullptr ? IPPROTO_TCP : IPPROTO_UDP;
        else
            number = stream != nullptr && stream->listening() ? 1 : 0;
        *length = std::min<socklen_t>(*length, sizeof number);
        std::memcpy(value, &number, *length);
        return leave_int(call::getsockopt, fd, 0,
                         name == SO_ERROR ? "SO_ERROR " + std::to_string(number) : "");
    }
    const socket_options &options = stream != nullptr ? stream->options : packets->options;
    return leave_int(call::getsockopt, fd, -options.get(level, name, value, length));
}

int kernel::setsockopt(int fd, int level, int name, const void *value, socklen_t length) {
    if (!enter(call::setsockopt, fd))
        return -1;
    file *it = find(call::setsockopt, fd);
    auto *stream = dynamic_cast<stream_socket *>(it);
    auto *packets = dynamic_cast<datagram *>(it);
    if (stream == nullptr && packets == nullptr)
        return leave_int(call::setsockopt, fd, it == nullptr ? -EBADF : -ENOTSOCK);
    const bool bound = stream != nullptr ? stream->named() : packets->local().port != 0;
    if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY && domain_of(*it) == AF_INET6 && bound)
        return leave_int(call::setsockopt, fd, -EINVAL); // others may rely on what it was
    socket_options &options = stream != nullptr ? stream->options : packets->options;
    return leave_int(call::setsockopt, fd, -options.set(level, name, value, length));
}

// --- streams ---

ssize_t kernel::read_stream(call which, stream_socket &from, const iovec *iov, std::size_t count, int flags) {
    const bool waits = !from.nonblocking && (flags & MSG_DONTWAIT) == 0;
    std::size_t size = total(iov, count);
    if (!waits && fault("would block", faults_.would_block)) {
        later(from.weak_from_this(), EPOLLIN);
        return leave(which, from.descriptor, -EAGAIN);
    }
    const bool all = waits && (flags & MSG_WAITALL) != 0;
    if (size > 1 && !all && fault("short read", faults_.short_read)) {
        // The rest is as if it came after: announced again.
        size = 1 + choices_.draw(stream::fault,
                                 static_cast<std::uint32_t>(std::min<std::size_t>(size - 1, UINT32_MAX)));
        later(from.weak_from_this(), EPOLLIN);
    }
    const bool thrown_away = (flags & MSG_TRUNC) != 0 && from.domain() != AF_UNIX;
    std::string bytes(thrown_away ? 0 : size, '\0');
    std::size_t done = 0;
    ssize_t n = 0;
    for (;;) {
        n = from.recv(thrown_away ? nullptr : bytes.data() + done, size - done, flags);
        if (n > 0)
            done += static_cast<std::size_t>(n);
        if (n == -EAGAIN ? !waits : n <= 0 || !all || done == size)
            break;
        if (n == -EAGAIN)
            from.await_change("recv");
    }
    if (done > 0) {
        n = static_cast<ssize_t>(done);
        bytes.resize(thrown_away ? 0 : done);
        scatter(bytes, iov, count);
    }
    return leave(which, from.descriptor, n, tracing_ ? from.describe() : std::string());
}

ssize_t kernel::write_stream(call which, stream_socket &to, const iovec *iov, std::size_t count, int flags) {
    const bool waits = !to.nonblocking && (flags & MSG_DONTWAIT) == 0;
    if (!waits && fault("would block", faults_.would_block)) {
        to.out_of_room();
        later(to.weak_from_this(), EPOLLOUT);
        return leave(which, to.descriptor, -EAGAIN);
    }
    std::string bytes = gather(iov, count);
    const std::size_t whole = bytes.size();
    if (!waits && bytes.size() > 1 && fault("short write", faults_.short_write)) {
        bytes.resize(1 + choices_.draw(stream::fault, static_cast<std::uint32_t>(bytes.size() - 1)));
        to.out_of_room();
        later(to.weak_from_this(), EPOLLOUT);
    }
    ssize_t n = to.send(bytes.data(), bytes.size());
    std::size_t sent = n > 0 ? static_cast<std::size_t>(n) : 0;
    // A blocking one sends all of it.
    while (waits && (n == -EAGAIN || (n >= 0 && sent < bytes.size()))) {
        to.await_change("send");
        n = to.send(bytes.data() + sent, bytes.size() - sent);
        if (n > 0)
            sent += static_cast<std::size_t>(n);
    }
    std::string what;
    if (tracing_)
        what = to.describe() + ", " + std::to_string(whole) + " bytes";
    return leave(which, to.descriptor, sent > 0 ? static_cast<ssize_t>(sent) : n, what);
}

// --- datagrams ---

ssize_t kernel::read_datagram(datagram &from, msghdr &message, int flags) {
    const bool waits = !from.nonblocking && (flags & MSG_DONTWAIT) == 0;
    std::string bytes(total(message.msg_iov, message.msg_iovlen), '\0');
    address sender;
    std::size_t size = bytes.size();
    ssize_t n = from.recv(bytes.data(), size, &sender, flags);
    while (n == -EAGAIN && waits) {
        if (from.reads_no_more())
            return 0;
        from.await_change("recvmsg");
        size = bytes.size();
        n = from.recv(bytes.data(), size, &sender, flags);
    }
    if (n < 0)
        return n;
    message.msg_flags = (size > bytes.size() ? MSG_TRUNC : 0) | (flags & MSG_CMSG_CLOEXEC);
    message.msg_controllen = 0;
    bytes.resize(static_cast<std::size_t>(n));
    scatter(bytes, message.msg_iov, message.msg_iovlen);
    // A unix sender without a name has no address at all.
    if (from.domain() == AF_UNIX && sender.path.empty())
        message.msg_namelen = 0;
    else if (message.msg_name != nullptr)
        sender.to(from.domain(), static_cast<sockaddr *>(message.msg_name), &message.msg_namelen);
    return (flags & MSG_TRUNC) != 0 ? static_cast<ssize_t>(size) : n;
}

ssize_t kernel::write_datagram(datagram &to, const msghdr &message, int flags) {
    (void)flags;
    address goal;
    if (message.msg_name != nullptr && message.msg_namelen > 0)
        if (int error = address::from(to.domain(), static_cast<const sockaddr *>(message.msg_name),
                                      message.msg_namelen, goal))
            return -error;
    return to.send(gather(message.msg_iov, message.msg_iovlen), goal.family != AF_UNSPEC ? &goal : nullptr);
}

ssize_t kernel::recv(int fd, void *buffer, size_t size, int flags) {
    if (!enter(call::recv, fd))
        return -1;
    file *it = find(call::recv, fd);
    iovec iov{buffer, size};
    if (auto *from = dynamic_cast<stream_socket *>(it))
        return read_stream(call::recv, *from, &iov, 1, flags);
    if (auto *packets = dynamic_cast<datagram *>(it)) {
        msghdr message{};
        message.msg_iov = &iov;
        message.msg_iovlen = 1;
        return leave(call::recv, fd, read_datagram(*packets, message, flags));
    }
    return leave(call::recv, fd, it == nullptr ? -EBADF : -ENOTSOCK);
}

ssize_t kernel::send(int fd, const void *buffer, size_t size, int flags) {
    if (!enter(call::send, fd))
        return -1;
    file *it = find(call::send, fd);
    iovec iov{const_cast<void *>(buffer), size};
    if (auto *to = dynamic_cast<stream_socket *>(it))
        return write_stream(call::send, *to, &iov, 1, flags);
    if (auto *packets = dynamic_cast<datagram *>(it)) {
        msghdr message{};
        message.msg_iov = &iov;
        message.msg_iovlen = 1;
        return leave(call::send, fd, write_datagram(*packets, message, flags));
    }
    return leave(call::send, fd, it == nullptr ? -EBADF : -ENOTSOCK);
}

ssize_t kernel::recvmsg(int fd, msghdr *message, int flags) {
    if (!enter(call::recvmsg, fd))
        return -1;
    file *it = find(call::recvmsg, fd);
    if (auto *from = dynamic_cast<stream_socket *>(it)) {
        message->msg_namelen = 0;
        message->msg_controllen = 0;
        message->msg_flags = MSG_CMSG_CLOEXEC; // as the seam's own flag comes back on Linux
        return read_stream(call::recvmsg, *from, message->msg_iov, message->msg_iovlen, flags);
    }
    if (auto *packets = dynamic_cast<datagram *>(it))
        return leave(call::recvmsg, fd, read_datagram(*packets, *message, flags | MSG_CMSG_CLOEXEC));
    return leave(call::recvmsg, fd, it == nullptr ? -EBADF : -ENOTSOCK);
}

ssize_t kernel::sendmsg(int fd, const msghdr *message, int flags) {
    if (!enter(call::sendmsg, fd))
        return -1;
    file *it = find(call::sendmsg, fd);
    if (auto *to = dynamic_cast<stream_socket *>(it))
        return write_stream(call::sendmsg, *to, message->msg_iov, message->msg_iovlen, flags);
    if (auto *packets = dynamic_cast<datagram *>(it))
        return leave(call::sendmsg, fd, write_datagram(*packets, *message, flags));
    return leave(call::sendmsg, fd, it == nullptr ? -EBADF : -ENOTSOCK);
}

int kernel::recvmmsg(int fd, mmsghdr *messages, unsigned count, int flags) {
    if (!enter(call::recvmmsg, fd))
        return -1;
    file *it = find(call::recvmmsg, fd);
    auto *packets = dynamic_cast<datagram *>(it);
    auto *from = dynamic_cast<stream_socket *>(it);
    if (packets == nullptr && from == nullptr)
        return leave_int(call::recvmmsg, fd, it == nullptr ? -EBADF : -ENOTSOCK);
    unsigned n = 0;
    ssize_t last = 0;
    for (; n < count; n++) {
        msghdr &one = messages[n].msg_hdr;
        last = packets != nullptr ? read_datagram(*packets, one, flags & ~MSG_WAITFORONE)
                                  : read_stream(call::recvmmsg, *from, one.msg_iov, one.msg_iovlen, flags);
        if (packets == nullptr && last < 0)
            last = -errno;
        if (last < 0)
            break;
        if ((flags & MSG_WAITFORONE) != 0)
            flags |= MSG_DONTWAIT;
        messages[n].msg_len = static_cast<unsigned>(last);
    }
    return leave_int(call::recvmmsg, fd, n > 0 ? static_cast<ssize_t>(n) : last);
}

int kernel::sendmmsg(int fd, mmsghdr *messages, unsigned count, int flags) {
    if (!enter(call::sendmmsg, fd))
        return -1;
    file *it = find(call::sendmmsg, fd);
    auto *packets = dynamic_cast<datagram *>(it);
    auto *to = dynamic_cast<stream_socket *>(it);
    if (packets == nullptr && to == nullptr)
        return leave_int(call::sendmmsg, fd, it == nullptr ? -EBADF : -ENOTSOCK);
    unsigned n = 0;
    ssize_t last = 0;
    for (; n < count; n++) {
        const msghdr &one = messages[n].msg_hdr;
        last = packets != nullptr ? write_datagram(*packets, one, flags)
                                  : write_stream(call::sendmmsg, *to, one.msg_iov, one.msg_iovlen, flags);
        if (packets == nullptr && last < 0)
            last = -errno;
        if (last < 0)
            break;
        messages[n].msg_len = static_cast<unsigned>(last);
    }
    return leave_int(call::sendmmsg, fd, n > 0 ? static_cast<ssize_t>(n) : last);
}

ssize_t kernel::read(int fd, void *buffer, size_t size) {
    if (!enter(call::read, fd))
        return -1;
    file *it = find(call::read, fd);
    if (auto *counter = dynamic_cast<event_counter *>(it)) {
        std::uint64_t value = 0;
        if (size < sizeof value)
            return leave(call::read, fd, -EINVAL);
        if (int error = counter->take(value))
            return leave(call::read, fd, -error);
        std::memcpy(buffer, &value, sizeof value);
        return leave(call::read, fd, sizeof value);
    }
    iovec iov{buffer, size};
    if (auto *from = dynamic_cast<stream_socket *>(it))
        return read_stream(call::read, *from, &iov, 1, 0);
    if (auto *on_disk = dynamic_cast<disk_file *>(it)) {
        use_disk("read");
        const ssize_t n = on_disk->read(buffer, size, -1);
        return leave(call::read, fd, n < 0 ? -errno : n, on_disk->describe());
    }
    return leave(call::read, fd, it == nullptr ? -EBADF : -EINVAL);
}

ssize_t kernel::write(int fd, const void *buffer, size_t size) {
    if (!enter(call::write, fd))
        return -1;
    file *it = find(call::write, fd);
    if (auto *counter = dynamic_cast<event_counter *>(it)) {
        std::uint64_t value;
        if (size != sizeof value)
            return leave(call::write, fd, -EINVAL);
        std::memcpy(&value, buffer, sizeof value);
        const int error = counter->add(value);
        return leave(call::write, fd, error != 0 ? -error : static_cast<ssize_t>(sizeof value), "eventfd");
    }
    iovec iov{const_cast<void *>(buffer), size};
    if (auto *to = dynamic_cast<stream_socket *>(it))
        return write_stream(call::write, *to, &iov, 1, 0);
    if (auto *on_disk = dynamic_cast<disk_file *>(it)) {
        use_disk("write");
        const ssize_t n = on_disk->write(buffer, size, -1);
        return leave(call::write, fd, n < 0 ? -errno : n, on_disk->describe());
    }
    return leave(call::write, fd, it == nullptr ? -EBADF : -EINVAL);
}

} // namespace parley::sim::detail
