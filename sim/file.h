// What a descriptor stands for.

#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace parley::sim::detail {

class kernel;
class epoll;
struct host_state;
struct thread;

class file : public std::enable_shared_from_this<file> {
public:
    file(kernel &world, host_state &home) noexcept : kernel_(world), home_(home) {}
    virtual ~file() = default;
    file(const file &) = delete;
    file &operator=(const file &) = delete;

    // What is ready now, as epoll would say.
    virtual std::uint32_t poll() const = 0;
    // The descriptor was closed.
    virtual void close() {}
    virtual std::string describe() const = 0;

    // An edge: these events may be ready now. 0: look at all.
    void changed(std::uint32_t events);
    // Blocks the calling thread until changed() (true) or the deadline (false).
    bool await_change(const char *doing, std::int64_t deadline = INT64_MAX);

    kernel &world() const noexcept { return kernel_; }
    host_state &home() const noexcept { return home_; }

    bool nonblocking = false;
    bool open = true;
    int descriptor = -1;
    std::vector<epoll *> watched_by;

private:
    kernel &kernel_;
    host_state &home_;
    std::vector<thread *> waiting_;
};

} // namespace parley::sim::detail
