// Datagram sockets, UDP and unix.

#pragma once

#include <deque>
#include <vector>

#include "network.h"
#include "options.h"

namespace parley::sim::detail {

class datagram final : public file {
public:
    datagram(kernel &world, host_state &home, int domain)
        : file(world, home), options(domain, SOCK_DGRAM), domain_(domain) {
        local_.family = domain;
    }
    ~datagram() override;

    std::uint32_t poll() const override;
    void close() override;
    std::string describe() const override;

    // As the calls: 0, or a count, or minus an errno.
    int bind(const address &to);
    int connect(const address &to);
    int disconnect(); // connect() to no family
    bool reads_no_more() const noexcept { return shut_read_; }
    int shutdown(int how);
    ssize_t send(std::string data, const address *to);
    // `size` becomes what the datagram had, whatever fits into `out`.
    ssize_t recv(char *out, std::size_t &size, address *from, int flags);
    int take_error();

    int domain() const noexcept { return domain_; }
    const address &local() const noexcept { return local_; }
    const address &remote() const noexcept { return remote_; }
    bool connected() const noexcept { return remote_.family != AF_UNSPEC; }

    socket_options options;

private:
    struct message {
        std::string data;
        address from;
    };

    bool only_v6() const { return options.on(IPPROTO_IPV6, IPV6_V6ONLY); }
    bool is_taken(const address &at) const;
    int claim(address at);
    void release_name();
    int find_unix(const address &to, datagram *&found);
    datagram *find(host_state &there, const address &to, const address &from);
    ssize_t send_unix(std::string data, const address *to);
    ssize_t send_udp(std::string data, const address &to);
    void send_copy(host_state &there, const message &one, const address &to);
    bool full() const;
    void will_tell(const std::shared_ptr<const datagram> &sender);
    void tell_of_room();
    void arrives(message one);

    int domain_;
    address local_, remote_;
    bool named_ = false;
    address bound_;                // what bind() was asked for: connect() makes it narrower
    std::weak_ptr<datagram> peer_; // of a connected unix socket
    std::vector<std::weak_ptr<datagram>> waiting_for_room_; // unix senders to this one
    bool shut_read_ = false;
    bool shut_write_ = false;
    std::deque<message> in_;
    std::size_t queued_ = 0;
    int error_ = 0;
};

} // namespace parley::sim::detail
