// Datagram sockets, UDP and unix.

#pragma once

#include <deque>

#include "network.h"
#include "stream.h"

namespace parley::sim::detail {

class datagram final : public file {
public:
    datagram(kernel &world, host_state &home, int domain) : file(world, home), domain_(domain) {
        local_.family = domain;
    }
    ~datagram() override;

    std::uint32_t poll() const override;
    void close() override;
    std::string describe() const override;

    // As the calls: 0, or a count, or minus an errno.
    int bind(const address &to);
    int connect(const address &to); // AF_UNSPEC: no longer
    ssize_t send(std::string data, const address *to);
    // `size` becomes what the datagram had, whatever fits into `out`.
    ssize_t recv(char *out, std::size_t &size, address *from, int flags);
    int take_error();

    const address &local() const noexcept { return local_; }
    const address &remote() const noexcept { return remote_; }
    bool connected() const noexcept { return remote_.family != AF_UNSPEC; }

    socket_options options;

private:
    struct message {
        std::string data;
        address from;
    };

    int claim(address at);
    void release_name();
    static datagram *find(host_state &there, const address &to, const address &from);
    void arrives(message one);

    int domain_;
    address local_, remote_;
    bool named_ = false;
    std::deque<message> in_;
    std::size_t queued_ = 0;
    int error_ = 0;
};

} // namespace parley::sim::detail
