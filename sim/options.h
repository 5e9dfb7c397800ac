// A socket's options: which there are, what they are at first, and what Linux makes of what is set.

#pragma once

#include <sys/socket.h>

#include <map>
#include <utility>

namespace parley::sim::detail {

class socket_options {
public:
    socket_options(int domain, int type);

    // 0 or an errno.
    int get(int level, int name, void *value, socklen_t *length) const;
    int set(int level, int name, const void *value, socklen_t length);
    int number(int level, int name) const;
    bool on(int level, int name) const { return number(level, name) != 0; }

    bool resets_at_close() const noexcept { return linger_.l_onoff != 0 && linger_.l_linger == 0; }

private:
    bool is_its_own(int level) const;
    // 0, or why this socket has no such option.
    int refuses(int level, int name) const;

    int domain_;
    int type_;
    std::map<std::pair<int, int>, int> values_;
    ::linger linger_{};
};

} // namespace parley::sim::detail
