#include "options.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/time.h>

#include <algorithm>
#include <cstring>

namespace parley::sim::detail {

namespace {

constexpr int most_buffer = 4 * 1024 * 1024;
constexpr int least_send_buffer = 4608;
constexpr int least_receive_buffer = 2304;

bool is_switch(int level, int name) {
    if (level == SOL_SOCKET)
        return name == SO_REUSEADDR || name == SO_REUSEPORT || name == SO_KEEPALIVE || name == SO_BROADCAST ||
               name == SO_OOBINLINE || name == SO_DONTROUTE || name == SO_TIMESTAMP || name == SO_ZEROCOPY;
    if (level == IPPROTO_TCP)
        return name == TCP_NODELAY || name == TCP_CORK || name == TCP_QUICKACK ||
               name == TCP_FASTOPEN_CONNECT;
    return level == IPPROTO_IPV6 && name == IPV6_V6ONLY;
}

bool is_time(int level, int name) {
    return level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO);
}

bool is_number(int level, int name) {
    if (level == SOL_SOCKET)
        return name == SO_SNDBUF || name == SO_RCVBUF || name == SO_PRIORITY || name == SO_MARK ||
               name == SO_RCVLOWAT || name == SO_BUSY_POLL || name == SO_INCOMING_CPU || name == SO_LINGER;
    if (level == IPPROTO_TCP)
        return name == TCP_KEEPIDLE || name == TCP_KEEPINTVL || name == TCP_KEEPCNT || name == TCP_SYNCNT ||
               name == TCP_USER_TIMEOUT || name == TCP_DEFER_ACCEPT || name == TCP_FASTOPEN ||
               name == TCP_MAXSEG || name == TCP_LINGER2 || name == TCP_NOTSENT_LOWAT;
    // Of these Linux has dozens, none of which means anything here.
    return level == IPPROTO_IP || level == IPPROTO_IPV6 || level == IPPROTO_UDP;
}

} // namespace

socket_options::socket_options(int domain, int type) : domain_(domain), type_(type) {
    const bool tcp = domain != AF_UNIX && type == SOCK_STREAM;
    values_[{SOL_SOCKET, SO_SNDBUF}] = tcp ? 131072 : 212992;
    values_[{SOL_SOCKET, SO_RCVBUF}] = tcp ? 131072 : 212992;
    values_[{SOL_SOCKET, SO_RCVLOWAT}] = 1;
    if (tcp) {
        values_[{IPPROTO_TCP, TCP_KEEPIDLE}] = 7200;
        values_[{IPPROTO_TCP, TCP_KEEPINTVL}] = 75;
        values_[{IPPROTO_TCP, TCP_KEEPCNT}] = 9;
        values_[{IPPROTO_TCP, TCP_SYNCNT}] = 6;
        values_[{IPPROTO_TCP, TCP_QUICKACK}] = 1;
    }
}

bool socket_options::is_its_own(int level) const {
    if (domain_ == AF_UNIX)
        return level == SOL_SOCKET;
    const int protocol = type_ == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
    return level == SOL_SOCKET || level == protocol || level == IPPROTO_IP ||
           (level == IPPROTO_IPV6 && domain_ == AF_INET6);
}

int socket_options::refuses(int level, int name) const {
    if (level != SOL_SOCKET && domain_ == AF_UNIX)
        return EOPNOTSUPP;
    if (level == SOL_SOCKET && name == SO_REUSEPORT && domain_ == AF_UNIX)
        return EOPNOTSUPP;
    if (!is_its_own(level))
        return ENOPROTOOPT;
    return is_switch(level, name) || is_number(level, name) || is_time(level, name) ? 0 : ENOPROTOOPT;
}

int socket_options::get(int level, int name, void *value, socklen_t *length) const {
    // A level that is not the socket's is told in another way than by setsockopt().
    if (!is_its_own(level))
        return EOPNOTSUPP;
    if (int error = refuses(level, name))
        return error;
    const auto give = [&](const void *from, std::size_t size) {
        size = std::min<std::size_t>(*length, size);
        std::memcpy(value, from, size);
        *length = static_cast<socklen_t>(size);
        return 0;
    };
    if (level == SOL_SOCKET && name == SO_LINGER)
        return give(&linger_, sizeof linger_);
    const int found = number(level, name);
    if (is_time(level, name)) {
        const timeval time{found / 1000, found % 1000 * 1000};
        return give(&time, sizeof time);
    }
    return give(&found, sizeof found);
}

int socket_options::set(int level, int name, const void *value, socklen_t length) {
    // Linux looks at the length first, but not for a unix socket's other protocols.
    if (level != SOL_SOCKET && domain_ == AF_UNIX)
        return EOPNOTSUPP;
    if (length < sizeof(int) && level == SOL_SOCKET)
        return EINVAL;
    if (int error = refuses(level, name))
        return error;
    if (length < sizeof(int))
        return EINVAL;
    int wanted;
    std::memcpy(&wanted, value, sizeof wanted);
    if (level == SOL_SOCKET && name == SO_LINGER) {
        if (length < sizeof linger_)
            return EINVAL;
        ::linger how;
        std::memcpy(&how, value, sizeof how);
        linger_.l_onoff = how.l_onoff != 0 ? 1 : 0;
        if (how.l_onoff != 0)
            linger_.l_linger = how.l_linger;
        return 0;
    }
    if (is_time(level, name)) {
        timeval time;
        if (length < sizeof time)
            return EINVAL;
        std::memcpy(&time, value, sizeof time);
        wanted = static_cast<int>(time.tv_sec * 1000 + time.tv_usec / 1000);
    } else if (is_switch(level, name)) {
        wanted = wanted != 0 ? 1 : 0;
    } else if (level == SOL_SOCKET && name == SO_SNDBUF) {
        // Doubled, as Linux does for its own book-keeping.
        wanted = std::max(std::clamp(wanted, 0, most_buffer) * 2, least_send_buffer);
    } else if (level == SOL_SOCKET && name == SO_RCVBUF) {
        wanted = std::max(std::clamp(wanted, 0, most_buffer) * 2, least_receive_buffer);
    }
    values_[{level, name}] = wanted;
    return 0;
}

int socket_options::number(int level, int name) const {
    auto place = values_.find({level, name});
    return place != values_.end() ? place->second : 0;
}

} // namespace parley::sim::detail
