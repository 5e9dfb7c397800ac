// Readiness, as epoll(7) gives it: an edge puts a registration into the ready list; epoll_wait looks what is
// ready in truth, tells that, and keeps a level-triggered one in the list. So edges merge, an event may tell
// more than what caused it, and one of a batch may name what an earlier one has closed.

#pragma once

#include <deque>
#include <map>

#include "file.h"

namespace parley::sim::detail {

class epoll final : public file {
public:
    using file::file;

    std::uint32_t poll() const override;
    void close() override;
    std::string describe() const override { return "epoll"; }

    // 0 or an errno.
    int control(int operation, file &target, const epoll_event *event);
    // Up to max events; nothing if nothing is ready.
    int collect(epoll_event *events, int max);
    // An edge of a file that is watched.
    void edge(file &target, std::uint32_t events);
    // The file is gone.
    void forget(file &target);

private:
    struct registration {
        file *target;
        std::uint32_t events;
        std::uint64_t data;
        bool queued = false;
        bool disabled = false; // EPOLLONESHOT has told
    };

    void queue(int number, registration &one);

    std::map<int, registration> registrations_; // by descriptor
    std::deque<int> ready_;
    std::vector<std::uint64_t> removed_; // data of registrations that are no more, for stale events
};

// A counter, as eventfd(2): non-blocking.
class event_counter final : public file {
public:
    using file::file;

    std::uint32_t poll() const override;
    std::string describe() const override { return "eventfd"; }

    // As read and write of 8 bytes: 0 or an errno.
    int take(std::uint64_t &value);
    int add(std::uint64_t value);

private:
    std::uint64_t count_ = 0;
};

} // namespace parley::sim::detail
