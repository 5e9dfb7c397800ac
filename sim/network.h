// Hosts and what connects them: who has which address and port, and when what is sent arrives.

#pragma once

#include <parley/sim/world.hpp>

#include <map>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "address.h"
#include "disk.h"

namespace parley::sim::detail {

class kernel;
class datagram;
class stream_socket;

struct host_state {
    explicit host_state(std::string its_name, std::size_t its_index)
        : name(std::move(its_name)), index(its_index) {}

    std::string name;
    std::size_t index;
    std::string text; // IPv4 address in numbers
    address v4, v6;
    disk files;
    std::size_t most_descriptors = SIZE_MAX;
    std::size_t open_descriptors = 0;
    std::uint16_t first_port = 32768, last_port = 60999;
    std::uint16_t next_port = 32768;
    // Who is bound to a port: several with SO_REUSEPORT or different addresses.
    struct port_users {
        std::vector<stream_socket *> bound;           // in that order
        std::unordered_set<stream_socket *> accepted; // may be many; no order is taken from them
    };
    std::map<std::uint16_t, port_users> stream_ports;
    std::multimap<std::uint16_t, datagram *> datagram_ports;
    std::map<std::string, stream_socket *> unix_streams; // nullptr: the name is left, the socket gone
    std::map<std::string, datagram *> unix_datagrams;    // as above
};

class network {
public:
    explicit network(kernel &world) noexcept : kernel_(world) {}

    host_state &add(const std::string &name);
    host_state *by_name(std::string_view name);
    // Where an address leads from `from`; nullptr: nowhere.
    host_state *route(host_state &from, const address &to);
    // The address by which `from` is seen by `to`.
    static address source(host_state &from, const address &to);

    void set_link(host_state &a, host_state &b, const struct link &how);
    void set_up(host_state &a, host_state &b, bool up);
    bool up(host_state &a, host_state &b);

    // When a segment of `size` bytes that is sent now arrives, not before `after`.
    std::int64_t arrival(host_state &from, host_state &to, std::size_t size, std::int64_t after);
    // Runs `what` at that time; while the link is down it waits for heal().
    void deliver(host_state &from, host_state &to, std::int64_t when, std::function<void()> what);

    struct wire {
        struct link how;
        bool up = true;
        unsigned outages = 0;
        std::int64_t free_at[2] = {0, 0}; // bandwidth is taken until then
        std::vector<std::function<void()>> held[2];
    };
    wire &between(host_state &a, host_state &b);

    std::vector<std::unique_ptr<host_state>> hosts;

private:
    kernel &kernel_;
    std::map<std::pair<std::size_t, std::size_t>, wire> wires_;
};

} // namespace parley::sim::detail
