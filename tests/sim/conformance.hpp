// Scripts of system calls that are played on the real kernel and on the simulated one. Each keeps a log of
// what came of its calls; the two logs must be the same, word for word.

#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <parley/core/Sys.h>
#include <parley/sim/world.hpp>

namespace conformance {

namespace sim = parley::sim;
namespace sys = parley::sys;

// Long enough for a kernel on a busy machine; what does not come within it never comes.
constexpr std::int64_t patience = 5'000'000'000;

inline std::string error_name(int error) {
    const char *name = strerrorname_np(error);
    return name != nullptr ? name : "error " + std::to_string(error);
}

inline std::string event_names(std::uint32_t events) {
    std::string text;
    const auto add = [&](std::uint32_t bit, const char *name) {
        if ((events & bit) != 0)
            text += (text.empty() ? "" : "|") + std::string(name);
    };
    add(EPOLLIN, "IN");
    add(EPOLLOUT, "OUT");
    add(EPOLLRDHUP, "RDHUP");
    add(EPOLLHUP, "HUP");
    add(EPOLLERR, "ERR");
    return text.empty() ? "nothing" : text;
}

struct name {
    sockaddr_storage storage{};
    socklen_t size = sizeof(sockaddr_storage);

    sockaddr *get() { return reinterpret_cast<sockaddr *>(&storage); }
    const sockaddr *get() const { return reinterpret_cast<const sockaddr *>(&storage); }
    std::uint16_t port() const {
        return storage.ss_family == AF_INET6
                   ? ntohs(reinterpret_cast<const sockaddr_in6 &>(storage).sin6_port)
                   : ntohs(reinterpret_cast<const sockaddr_in &>(storage).sin_port);
    }
};

inline name inet(const char *numbers, std::uint16_t port = 0) {
    name made;
    auto &four = reinterpret_cast<sockaddr_in &>(made.storage);
    auto &six = reinterpret_cast<sockaddr_in6 &>(made.storage);
    if (inet_pton(AF_INET, numbers, &four.sin_addr) == 1) {
        four.sin_family = AF_INET;
        four.sin_port = htons(port);
        made.size = sizeof four;
    } else {
        inet_pton(AF_INET6, numbers, &six.sin6_addr);
        six.sin6_family = AF_INET6;
        six.sin6_port = htons(port);
        made.size = sizeof six;
    }
    return made;
}

class script {
public:
    script(sys::world &on, std::string directory) : world(on), directory_(std::move(directory)) {}
    ~script() {
        while (!open_.empty())
            hush(open_.back());
    }
    script(const script &) = delete;

    sys::world &world;

    const std::string &log() const { return log_; }
    void say(const std::string &text) { log_ += text + '\n'; }
    // A call's result, or the name of its error.
    ssize_t note(const std::string &what, ssize_t result) {
        const int error = errno;
        say(what + ": " + (result < 0 ? error_name(error) : std::to_string(result)));
        return result;
    }

    // --- names ---

    std::string path(const std::string &file) const { return directory_ + "/" + file; }
    name unix_path(const std::string &file) const { return unix_name(path(file)); }
    name unix_abstract(const std::string &label) const { return unix_name('\0' + path(label)); }
    // Ports are told by letters, in the order in which they appear; paths without the directory.
    std::string text(const name &of) {
        char numbers[INET6_ADDRSTRLEN] = "";
        const int family = of.storage.ss_family;
        if (of.size == 0)
            return "nobody";
        if (family == AF_UNIX) {
            const auto &un = reinterpret_cast<const sockaddr_un &>(of.storage);
            const std::size_t size =
                of.size - std::min<std::size_t>(of.size, offsetof(sockaddr_un, sun_path));
            std::string path(un.sun_path, size);
            if (const auto at = path.find(directory_ + "/"); at != std::string::npos)
                path.erase(at, directory_.size() + 1);
            std::replace(path.begin(), path.end(), '\0', '@');
            return "unix \"" + path + "\"";
        }
        if (family == AF_INET)
            inet_ntop(family, &reinterpret_cast<const sockaddr_in &>(of.storage).sin_addr, numbers,
                      sizeof numbers);
        else if (family == AF_INET6)
            inet_ntop(family, &reinterpret_cast<const sockaddr_in6 &>(of.storage).sin6_addr, numbers,
                      sizeof numbers);
        const char next = static_cast<char>('A' + ports_.size());
        const std::string port =
            of.port() == 0 ? "0" : std::string(1, ports_.emplace(of.port(), next).first->second);
        return std::string(numbers) + ":" + port;
    }
    name local(int fd) {
        name of;
        note_error("getsockname", world.getsockname(fd, of.get(), &of.size));
        return of;
    }
    void names(int fd) {
        name of;
        if (world.getsockname(fd, of.get(), &of.size) == 0)
            say("local: " + text(of));
        else
            note("local", -1);
        of = {};
        if (world.getpeername(fd, of.get(), &of.size) == 0)
            say("remote: " + text(of));
        else
            note("remote", -1);
    }

    // --- descriptors: what is not closed is closed at the end ---

    int keep(int fd) {
        if (fd >= 0)
            open_.push_back(fd);
        return fd;
    }
    int blocking_socket(int domain, int type) { return keep(world.socket(domain, type, 0)); }
    int socket(int domain, int type) {
        const int fd = blocking_socket(domain, type);
        note_error("set_nonblocking", world.set_nonblocking(fd));
        return fd;
    }
    int stream(int domain = AF_INET) { return socket(domain, SOCK_STREAM); }
    int packets(int domain = AF_INET) { return socket(domain, SOCK_DGRAM); }
    void close(int fd) {
        std::erase(open_, fd);
        note("close", world.close(fd));
    }

    int bind(int fd, const name &to) {
        return static_cast<int>(note("bind", world.bind(fd, to.get(), to.size)));
    }
    int listen(int fd, int backlog = 16) {
        return static_cast<int>(note("listen", world.listen(fd, backlog)));
    }
    int connect(int fd, const name &to) {
        return static_cast<int>(note("connect", world.connect(fd, to.get(), to.size)));
    }
    // Waits for a connection that comes.
    int accept(int door) {
        await(door, EPOLLIN);
        const int fd = keep(world.accept(door, nullptr, nullptr));
        note("accept", fd < 0 ? -1 : 0);
        return fd;
    }
    int try_accept(int door) {
        const int fd = keep(world.accept(door, nullptr, nullptr));
        note("accept", fd < 0 ? -1 : 0);
        return fd;
    }
    int listener(const name &at, int backlog = 16) {
        const int fd = stream(at.storage.ss_family);
        note_error("bind", world.bind(fd, at.get(), at.size));
        note_error("listen", world.listen(fd, backlog));
        return fd;
    }
    int bound_packets(const name &at) {
        const int fd = packets(at.storage.ss_family);
        note_error("bind", world.bind(fd, at.get(), at.size));
        return fd;
    }
    // An address at which nobody listens, and nobody else will: its port is taken.
    name nobody() {
        const int fd = stream();
        const name any = inet("127.0.0.1");
        note_error("bind", world.bind(fd, any.get(), any.size));
        return local(fd);
    }
    // The same for datagrams. Whoever has this port hears nobody but itself, so that what is sent there from
    // elsewhere finds nobody; a port that was given back could be somebody else's by then.
    name nobody_for_packets() {
        const int fd = bound_packets(inet("127.0.0.1"));
        const name itself = local(fd);
        note_error("connect", world.connect(fd, itself.get(), itself.size));
        return itself;
    }
    void shutdown(int fd, int how) { note("shutdown", world.shutdown(fd, how)); }

    int set(int fd, int level, int option, int value) {
        return static_cast<int>(
            note("setsockopt", world.setsockopt(fd, level, option, &value, sizeof value)));
    }
    int get(int fd, int level, int option) {
        int value = -1;
        socklen_t size = sizeof value;
        if (world.getsockopt(fd, level, option, &value, &size) < 0)
            note("getsockopt", -1);
        return value;
    }
    void error_of(int fd) { say("SO_ERROR: " + error_name(get(fd, SOL_SOCKET, SO_ERROR))); }

    // --- data ---

    ssize_t send(int fd, std::string_view data, int flags = 0) {
        return note("send", world.send(fd, data.data(), data.size(), flags));
    }
    std::string recv(int fd, std::size_t size = 100, int flags = 0) {
        std::string data(size, '\0');
        const ssize_t n = world.recv(fd, data.data(), size, flags);
        if (n < 0) {
            note("recv", n);
            return {};
        }
        data.resize(std::min(size, static_cast<std::size_t>(n)));
        say("recv: " + std::to_string(n) + " \"" + data + "\"");
        return data;
    }
    // Until it is ready for one of these, or an error; says so if it never is.
    void await(int fd, std::uint32_t events) {
        const int set = world.epoll_create();
        epoll_event event{};
        event.events = events;
        world.epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
        if (world.epoll_wait(set, &event, 1, patience) != 1)
            say("never ready for " + event_names(events));
        world.close(set);
    }
    std::string recv_when_there(int fd, std::size_t size = 100, int flags = 0) {
        await(fd, EPOLLIN);
        return recv(fd, size, flags);
    }
    // What a level-triggered epoll says of it now.
    void ready(int fd) {
        const int set = world.epoll_create();
        epoll_event event{};
        event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP;
        world.epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
        const int n = world.epoll_wait(set, &event, 1, 0);
        say("ready: " + (n == 1 ? event_names(event.events) : "nothing"));
        world.close(set);
    }
    // Sends until there is no room.
    std::size_t fill(int fd) {
        const std::string piece(16384, 'x');
        std::size_t sum = 0;
        ssize_t n = 0;
        while ((n = world.send(fd, piece.data(), piece.size(), 0)) > 0)
            sum += static_cast<std::size_t>(n);
        note("filled", n);
        return sum;
    }
    // Reads that many bytes away.
    void drain(int fd, std::size_t size) {
        std::string piece(65536, '\0');
        while (size > 0) {
            await(fd, EPOLLIN);
            const ssize_t n = world.recv(fd, piece.data(), std::min(size, piece.size()), 0);
            if (n <= 0) {
                note("drained", n);
                return;
            }
            size -= static_cast<std::size_t>(n);
        }
    }

private:
    static name unix_name(const std::string &path) {
        name made;
        auto &un = reinterpret_cast<sockaddr_un &>(made.storage);
        un.sun_family = AF_UNIX;
        std::memcpy(un.sun_path, path.data(), std::min(path.size(), sizeof un.sun_path - 1));
        made.size =
            static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (path[0] != '\0' ? 1 : 0));
        return made;
    }
    void note_error(const char *what, int result) {
        if (result < 0)
            note(what, result);
    }
    void hush(int fd) {
        std::erase(open_, fd);
        world.close(fd);
    }

    std::string directory_;
    std::string log_;
    std::vector<int> open_;
    std::map<std::uint16_t, char> ports_;
};

// Two ends of a connection.
struct ends {
    int a, b;
};

inline ends connected(script &s, const name &at) {
    const int door = s.listener(at);
    const int a = s.stream(at.storage.ss_family);
    s.connect(a, s.local(door));
    const int b = s.accept(door);
    s.await(a, EPOLLOUT);
    s.close(door);
    return {a, b};
}

inline ends tcp(script &s) {
    return connected(s, inet("127.0.0.1"));
}

inline ends unix_stream(script &s) {
    return connected(s, s.unix_path("pair"));
}

// An epoll set of a script. Events are told in the order of their labels: epoll promises none.
class watch {
public:
    explicit watch(script &of) : s_(of), set_(of.keep(of.world.epoll_create())) {}

    int fd() const { return set_; }
    void add(int fd, std::uint32_t events, std::uint64_t label = 1) {
        control("add", EPOLL_CTL_ADD, fd, events, label);
    }
    void modify(int fd, std::uint32_t events, std::uint64_t label = 1) {
        control("modify", EPOLL_CTL_MOD, fd, events, label);
    }
    void remove(int fd) { control("remove", EPOLL_CTL_DEL, fd, 0, 0); }
    // The events of now.
    void now(int max = 16) { wait(0, max); }
    // The next events.
    void next(int max = 16) { wait(patience, max); }

private:
    void control(const char *what, int operation, int fd, std::uint32_t events, std::uint64_t label) {
        epoll_event event{};
        event.events = events;
        event.data.u64 = label;
        s_.note(what, s_.world.epoll_ctl(set_, operation, fd, &event));
    }
    void wait(std::int64_t timeout, int max) {
        epoll_event events[16];
        const int n = s_.world.epoll_wait(set_, events, max, timeout);
        if (n < 0) {
            s_.note("events", n);
            return;
        }
        std::sort(events, events + n,
                  [](const epoll_event &x, const epoll_event &y) { return x.data.u64 < y.data.u64; });
        std::string text;
        for (int i = 0; i < n; i++)
            text += " " + std::to_string(events[i].data.u64) + " " + event_names(events[i].events) + ";";
        s_.say("events:" + (n > 0 ? text : " none"));
    }

    script &s_;
    int set_;
};

// The first line in which they differ; nothing if none.
inline std::string difference(const std::string &real, const std::string &simulated) {
    std::size_t at = 0;
    for (int line = 1; at < real.size() || at < simulated.size(); line++) {
        const std::string one = real.substr(std::min(at, real.size()), real.find('\n', at) - at);
        const std::string other =
            simulated.substr(std::min(at, simulated.size()), simulated.find('\n', at) - at);
        if (one != other)
            return "line " + std::to_string(line) + ": Linux: " + one + "; simulated: " + other +
                   "\nafter\n" + real.substr(0, at);
        at += one.size() + 1;
    }
    return {};
}

// A script on the kernel's own sockets, in a directory of its own.
inline std::string played_on_linux(const std::function<void(script &)> &play) {
    char directory[] = "/tmp/parley-conformance-XXXXXX";
    REQUIRE(mkdtemp(directory) != nullptr);
    std::string log;
    {
        script real(sys::kernel(), directory);
        play(real);
        log = real.log();
    }
    std::filesystem::remove_all(directory);
    return log;
}

inline void same_in_both(const std::function<void(script &)> &play) {
    const std::string real = played_on_linux(play);
    REQUIRE_FALSE(real.empty());
    REQUIRE(real.find("never ready") == std::string::npos);
    for (std::uint64_t seed = 1; seed <= 3; seed++) {
        sim::world world{seed};
        std::string simulated;
        world.run([&] {
            script of(sys::current(), "/simulated");
            play(of);
            simulated = of.log();
        });
        CHECK(difference(real, simulated) == "");
    }
}

} // namespace conformance
