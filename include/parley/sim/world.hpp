// A simulated world: time, hosts, sockets, files and threads that come from one number. A program whose
// system calls go through parley::sys and whose threads meet through parley::sync, as all of parley's do,
// runs in it unchanged; what it does there follows from the seed, every time.
//
//     sim::world world{42};
//     sim::host &server = world.add_host("server");
//     world.link(world.local(), server, {.latency = 20ms});
//     world.run([&] {
//         auto serving = server.start([] { my_server(7000); });
//         my_client("server", 7000);
//         serving.join();
//     });
//
// One thread runs at a time. Where threads could meet (every call through sys and sync) the seed says who
// goes on. Time stands still while anybody can run; when nobody can it moves to the next moment at which
// something is due, so an hour's wait takes no time. A real descriptor, a thread from elsewhere or a lock
// that is not parley::sync's ends the run with a sentence that names it.

#pragma once

#include <parley/core/Sync.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace parley::sim {

using std::chrono::nanoseconds;

namespace detail {
class kernel;
struct host_state;
} // namespace detail

// The calls of sys::world that can be made to fail, see world::fail_calls().
enum class call : unsigned char {
    socket,
    bind,
    listen,
    accept,
    connect,
    shutdown,
    getsockname,
    getpeername,
    getsockopt,
    setsockopt,
    recv,
    send,
    recvmsg,
    sendmsg,
    recvmmsg,
    sendmmsg,
    read,
    write,
    set_nonblocking,
    close,
    epoll_create,
    epoll_ctl,
    epoll_wait,
    eventfd,
    open,
    preadv,
    pwritev,
    fsync,
    fdatasync,
    getaddrinfo,
    sigaction,
    thread_start,
    random,
    allocate,
};

// How often the world is unkind: chances, from 0 (never) to 1 (whenever it can be). What it does is always
// something that a real kernel or network may do.
struct faults {
    double short_read = 0;     // a read ends before all that is there; the rest is announced again
    double short_write = 0;    // a write takes less than there is room for
    double would_block = 0;    // EAGAIN although something could be done; it is announced again soon
    double reset = 0;          // the network resets a connection when a segment arrives
    double spurious_event = 0; // epoll reports readiness where there is none
    double stale_event = 0;    // epoll reports an event of a registration that was removed
    double late_event = 0;     // an event is kept for a later epoll_wait, merged with what comes until then
    double stall = 0;          // a thread is not run for a while (up to `longest_stall`)
    double slow_disk = 0;      // a file operation takes up to a second
    nanoseconds longest_stall = std::chrono::milliseconds(50);
};

// Which calls a planned failure is for.
struct plan {
    std::uint64_t after = 0; // that many calls go well before
    std::uint64_t times = 1; // that many fail; UINT64_MAX: all from then on
};

// One direction of a link is as the other. Streams keep their order whatever the jitter.
struct link {
    nanoseconds latency{0};
    nanoseconds jitter{0};              // up to that much is added, drawn anew for each segment or datagram
    std::uint64_t bytes_per_second = 0; // 0: no limit
    double loss = 0;                    // of datagrams
    double duplicate = 0;               // of datagrams
};

// A machine of the world. It has addresses, ports, files and names for its unix sockets; a thread, and every
// descriptor it makes, belongs to the host that the thread was started on. Owned by the world.
class host {
public:
    host(const host &) = delete;
    host &operator=(const host &) = delete;

    const std::string &name() const noexcept;
    const std::string &address() const noexcept; // IPv4, in numbers

    // Runs f on the calling thread, as a program of this host.
    void run(const std::function<void()> &f);
    // Runs f on a new thread of this host. Join it before the run ends.
    [[nodiscard]] sync::thread start(std::function<void()> f);

    // What a file holds, and puts one there.
    std::string read_file(const std::string &path) const;
    void write_file(const std::string &path, std::string content);
    // At most that many bytes in all files: then ENOSPC.
    void limit_disk(std::size_t bytes);
    // At most that many descriptors: then EMFILE.
    void limit_descriptors(std::size_t count);
    std::size_t descriptors() const noexcept; // that are open
    // The ports that connect() and port 0 draw from, both included.
    void limit_ports(std::uint16_t first, std::uint16_t last);

private:
    friend class world;
    friend class detail::kernel;
    explicit host(detail::host_state &state) noexcept : state_(state) {}

    detail::host_state &state_;
};

// Something that the world found, or that expect() or fail() said.
class failed : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

class world {
public:
    // The same seed and the same program make the same run.
    explicit world(std::uint64_t seed);
    ~world();
    world(const world &) = delete;
    world &operator=(const world &) = delete;

    std::uint64_t seed() const noexcept;

    // --- hosts and links ---

    // The host on which run() starts: "localhost", 127.0.0.1.
    host &local() noexcept;
    // A further host. It has 127.0.0.1 for itself, an address of its own (10.0.0.1 and so on, and an IPv6
    // one) for all, and its name is known to getaddrinfo everywhere.
    host &add_host(std::string name);
    // How two hosts, or a host and itself, are connected; without latency unless said otherwise.
    void link(host &a, host &b, const struct link &how);
    // Nothing passes until heal(): connections wait, as for TCP's retransmission, and give up after
    // fifteen minutes; datagrams are lost.
    void partition(host &a, host &b);
    void heal(host &a, host &b);

    // --- faults ---

    void set_faults(const faults &chances);
    // Calls on `where` (nullptr: any host) fail with this errno (getaddrinfo: EAI_ code; allocate: always
    // ENOMEM). Of epoll_ctl only additions fail, since the others need no memory; close never fails.
    void fail_calls(call which, int error, const plan &when = {}, const host *where = nullptr);
    // Each call fails with that chance.
    void fail_calls_by_chance(call which, int error, double chance, const host *where = nullptr);
    // Of the next connection that is made to this port: the bytes sent by the side that connects (or that
    // accepts) stop after `bytes`, and both ends see a reset (or an end of stream).
    void cut_connection(std::uint16_t port, bool connecting_side, std::uint64_t bytes, bool reset = true);
    // The clocks move on at once: sys::monotonic_ns() as after a suspend, sys::realtime_ns() as if set.
    void jump(nanoseconds time);
    void set_wall_clock(nanoseconds since_1970);
    // The signal's handler is run, on the calling thread.
    void raise(int signal);

    // --- the run ---

    // Runs f as the first thread and returns when it has returned. Then no thread, descriptor or memory of
    // sys::allocate may be left: else `failed` is thrown. What f throws is passed on. A failure from which
    // the program cannot be freed (a deadlock, a call on a real descriptor) is printed with the trace
    // and ends the process; search() runs its worlds in processes of their own. Once per world.
    void run(const std::function<void()> &f);

    // While f runs, from any thread of the world.
    static world *current() noexcept;
    nanoseconds now() const noexcept; // virtual, since the world began
    void sleep(nanoseconds time);     // the calling thread does nothing
    // A place where another thread may go on.
    void point();
    // Draws from the seed, for the program's own decisions. A failing run is retold with smaller draws if it
    // fails with these as well: let 0 mean the simplest.
    std::uint32_t draw(std::uint32_t n); // 0 .. n-1
    bool chance(double p);
    // The run has failed: it ends here. expect(): unless `true_` holds.
    [[noreturn]] void fail(const std::string &what);
    void expect(bool true_, std::string_view what);
    // A line of the program's own in the trace.
    void note(std::string_view text);

    // What happened, a line for each call, beginning with its virtual time; kept if asked for before run().
    void keep_trace();
    const std::vector<std::string> &trace() const noexcept;
    // A number that stands for all that happened: two runs were the same if theirs are.
    std::uint64_t fingerprint() const noexcept;
    std::uint64_t steps() const noexcept; // places at which a thread could have been changed

private:
    friend struct world_access;
    std::unique_ptr<detail::kernel> kernel_;
};

} // namespace parley::sim
