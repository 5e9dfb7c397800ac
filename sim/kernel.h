// The simulated kernel: parley::sys::world over the world's hosts, sockets and files. It checks what it is
// handed, injects what was planned, traces what was called; what a call does stands with what it is called
// on.

#pragma once

#include <parley/sim/world.hpp>

#include <signal.h>

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "choices.h"
#include "epoll.h"
#include "network.h"
#include "scheduler.h"
#include "stream.h"

namespace parley::sim::detail {

// What a failure is told to, instead of being printed.
using failure_sink = void (*)(kernel &world, const std::string &what);

constexpr int first_descriptor = 1 << 20; // real ones are below

// How many kinds of call there are: `allocate` is the last of the enumeration.
constexpr std::size_t calls = static_cast<std::size_t>(call::allocate) + 1;

class kernel final : public sys::world, private scheduler::listener {
public:
    explicit kernel(std::uint64_t seed);
    ~kernel() override;

    void run(const std::function<void()> &f);
    static kernel *running() noexcept;

    // --- for what is in the world ---

    scheduler &threads() noexcept { return scheduler_; }
    choices &chosen() noexcept { return choices_; }
    network &net() noexcept { return network_; }
    const faults &odds() const noexcept { return faults_; }
    // True with that chance, and traced.
    bool fault(const char *name, double chance);
    // An edge for this file, soon.
    void later(std::weak_ptr<file> one, std::uint32_t events);
    void keep_orphan(std::shared_ptr<file> one) { orphans_.insert(std::move(one)); }
    void forget_orphan(file &one) { orphans_.erase(one.shared_from_this()); }
    void take_cut(std::uint16_t port, const std::function<void(const cut &)> &apply);
    void trace_note(const std::string &text) { trace("note", text); }
    [[noreturn]] void fail(const std::string &what) override;

    // --- for sim::world ---

    struct planned {
        int error = 0;
        std::uint64_t after = 0;
        std::uint64_t times = 0;
        double chance = 0;
        const host_state *where = nullptr;
    };
    void plan_failure(call which, const planned &how) {
        plans_[static_cast<std::size_t>(which)].push_back(how);
    }
    void plan_cut(const cut &how) { cuts_.push_back(how); }
    void set_faults(const faults &chances) { faults_ = chances; }
    void set_wall_clock(std::int64_t ns) { wall_offset_ = ns - scheduler_.now(); }
    void raise(int signal);
    void jump(std::int64_t ns) { scheduler_.jump(ns); }
    std::int64_t since_start() const noexcept;
    void keep_trace(bool points = false) noexcept {
        tracing_ = true;
        tracing_points_ = points;
    }
    const std::vector<std::string> &trace_lines() const noexcept { return trace_; }
    std::uint64_t fingerprint() const noexcept { return fingerprint_; }
    void set_failure_sink(failure_sink sink) noexcept { sink_ = sink; }

    const std::uint64_t seed;
    sim::world *face = nullptr;
    std::vector<std::unique_ptr<sim::host>> hosts; // of network::hosts, by index

    // --- sys::world ---

    int socket(int domain, int type, int protocol) override;
    int bind(int fd, const sockaddr *addr, socklen_t addrlen) override;
    int listen(int fd, int backlog) override;
    int accept(int fd, sockaddr *addr, socklen_t *addrlen) override;
    int connect(int fd, const sockaddr *addr, socklen_t addrlen) override;
    int shutdown(int fd, int how) override;
    int getsockname(int fd, sockaddr *addr, socklen_t *addrlen) override;
    int getpeername(int fd, sockaddr *addr, socklen_t *addrlen) override;
    int getsockopt(int fd, int level, int name, void *value, socklen_t *length) override;
    int setsockopt(int fd, int level, int name, const void *value, socklen_t length) override;
    ssize_t recv(int fd, void *buffer, size_t size, int flags) override;
    ssize_t send(int fd, const void *buffer, size_t size, int flags) override;
    ssize_t recvmsg(int fd, msghdr *message, int flags) override;
    ssize_t sendmsg(int fd, const msghdr *message, int flags) override;
    int recvmmsg(int fd, mmsghdr *messages, unsigned count, int flags) override;
    int sendmmsg(int fd, mmsghdr *messages, unsigned count, int flags) override;
    ssize_t read(int fd, void *buffer, size_t size) override;
    ssize_t write(int fd, const void *buffer, size_t size) override;
    int set_nonblocking(int fd) override;
    int close(int fd) override;
    int epoll_create() override;
    int epoll_ctl(int epfd, int operation, int fd, epoll_event *event) override;
    int epoll_wait(int epfd, epoll_event *events, int max, int64_t timeout_ns) override;
    int eventfd() override;
    int open(const char *path, int flags, mode_t mode) override;
    ssize_t preadv(int fd, const iovec *iov, int count, off_t offset, int flags) override;
    ssize_t pwritev(int fd, const iovec *iov, int count, off_t offset, int flags) override;
    int fsync(int fd) override;
    int fdatasync(int fd) override;
    int getaddrinfo(const char *node, const char *service, const addrinfo *hints, addrinfo **result) override;
    void freeaddrinfo(addrinfo *result) override;
    int sigaction(int signal, const struct sigaction *action, struct sigaction *old) override;
    int thread_start(sys::thread_handle *thread, void (*run)(void *), void *argument) override;
    void thread_join(sys::thread_handle thread) override;
    unsigned processors() override { return 2; } // the same on every machine
    int64_t monotonic_ns() override;
    int64_t realtime_ns() override;
    ssize_t random(void *buffer, size_t size) override;
    void *allocate(size_t size) override;
    void deallocate(void *memory) override;

private:
    void trace(const char *name, const std::string &text) override;
    bool tracing_points() const noexcept override { return tracing_points_; }
    double stall_chance() const noexcept override { return faults_.stall; }
    std::int64_t longest_stall() const noexcept override { return faults_.longest_stall.count(); }

    host_state &here() { return *scheduler_.self().home; }
    // The start of a call: others may go on before it. False: it was planned to fail, errno is set.
    bool enter(call which, int fd);
    // Its end: the result, or -1 and errno from a negative one. Traced.
    ssize_t leave(call which, int fd, ssize_t result, const std::string &detail = {});
    int leave_int(call which, int fd, ssize_t result, const std::string &detail = {}) {
        return static_cast<int>(leave(which, fd, result, detail));
    }
    std::string label(int fd) const;

    file *find(call which, int fd);
    template <class Kind>
    Kind *find_as(call which, int fd) {
        return dynamic_cast<Kind *>(find(which, fd));
    }
    int give_number(std::shared_ptr<file> one);
    int no_stream(int fd, int packets);
    int connect_stream(stream_socket &stream, const address &to);
    ssize_t read_stream(call which, stream_socket &from, const iovec *iov, std::size_t count, int flags);
    ssize_t write_stream(call which, stream_socket &to, const iovec *iov, std::size_t count, int flags);
    ssize_t read_datagram(datagram &from, msghdr &message, int flags);
    ssize_t write_datagram(datagram &to, const msghdr &message, int flags);
    void use_disk(const char *doing);
    std::string leftovers() const;

    choices choices_;
    network network_; // outlives the sockets in what the scheduler has still planned
    scheduler scheduler_;
    faults faults_;
    std::array<std::vector<planned>, calls> plans_;
    std::vector<cut> cuts_;
    std::vector<std::shared_ptr<file>> descriptors_;
    std::set<int> free_numbers_;
    std::unordered_set<std::shared_ptr<file>> orphans_;
    std::unordered_map<void *, std::size_t> memory_;
    std::unordered_map<addrinfo *, bool> names_given_;
    std::map<int, struct sigaction> signals_;
    std::int64_t wall_offset_;
    bool tracing_ = false;
    bool tracing_points_ = false; // also where nothing but a thread may change
    std::vector<std::string> trace_;
    std::uint64_t fingerprint_ = 0xcbf29ce484222325;
    failure_sink sink_ = nullptr;
};

} // namespace parley::sim::detail
