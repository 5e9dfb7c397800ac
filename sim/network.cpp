#include "network.h"

#include <arpa/inet.h>

#include <algorithm>

#include "kernel.h"

namespace parley::sim::detail {

host_state &network::add(const std::string &name) {
    const std::size_t index = hosts.size();
    auto fresh = std::make_unique<host_state>(name, index);
    fresh->v4.family = AF_INET;
    fresh->v6.family = AF_INET6;
    if (index == 0) {
        fresh->v4.ip = {127, 0, 0, 1};
        fresh->v6.ip[15] = 1;
    } else {
        fresh->v4.ip = {10, 0, static_cast<unsigned char>(index >> 8), static_cast<unsigned char>(index)};
        fresh->v6.ip[0] = 0xfd;
        fresh->v6.ip[14] = static_cast<unsigned char>(index >> 8);
        fresh->v6.ip[15] = static_cast<unsigned char>(index);
    }
    char text[INET_ADDRSTRLEN];
    fresh->text = inet_ntop(AF_INET, fresh->v4.ip.data(), text, sizeof text);
    hosts.push_back(std::move(fresh));
    return *hosts.back();
}

host_state *network::by_name(std::string_view name) {
    for (const auto &one : hosts)
        if (one->name == name)
            return one.get();
    return nullptr;
}

host_state *network::route(host_state &from, const address &to) {
    if (to.is_loopback() || to.is_any())
        return &from;
    for (const auto &one : hosts)
        if (one->v4.same_ip(to) || one->v6.same_ip(to))
            return one.get();
    return nullptr;
}

address network::source(host_state &from, const address &to) {
    address mine = to.family == AF_INET ? from.v4 : from.v6;
    if (to.is_loopback() || to.is_any()) {
        mine.ip = {};
        if (to.family == AF_INET)
            mine.ip = {127, 0, 0, 1};
        else
            mine.ip[15] = 1;
    }
    return mine;
}

network::wire &network::between(host_state &a, host_state &b) {
    return wires_[{std::min(a.index, b.index), std::max(a.index, b.index)}];
}

void network::set_link(host_state &a, host_state &b, const struct link &how) {
    between(a, b).how = how;
}

void network::set_up(host_state &a, host_state &b, bool up) {
    wire &it = between(a, b);
    if (it.up && !up)
        it.outages++;
    it.up = up;
    if (!up)
        return;
    for (auto &side : it.held) {
        for (auto &what : side)
            kernel_.threads().at(kernel_.threads().now() + it.how.latency.count(), std::move(what));
        side.clear();
    }
}

bool network::up(host_state &a, host_state &b) {
    return between(a, b).up;
}

std::int64_t network::arrival(host_state &from, host_state &to, std::size_t size, std::int64_t after) {
    wire &it = between(from, to);
    std::int64_t when = kernel_.threads().now();
    if (it.how.bytes_per_second != 0) {
        std::int64_t &free_at = it.free_at[from.index <= to.index ? 0 : 1];
        when = std::max(when, free_at);
        when += static_cast<std::int64_t>(static_cast<double>(size) * 1e9 /
                                          static_cast<double>(it.how.bytes_per_second));
        free_at = when;
    }
    when += it.how.latency.count();
    if (const std::int64_t jitter = it.how.jitter.count(); jitter > 0)
        when += jitter / 1000 * kernel_.chosen().draw(stream::network, 1001);
    return std::max(when, after);
}

void network::deliver(host_state &from, host_state &to, std::int64_t when, std::function<void()> what) {
    wire &it = between(from, to);
    if (!it.up) {
        it.held[from.index <= to.index ? 0 : 1].push_back(std::move(what));
        return;
    }
    if (when <= kernel_.threads().now())
        what();
    else
        kernel_.threads().at(when, std::move(what));
}

} // namespace parley::sim::detail
