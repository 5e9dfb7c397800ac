// parley-bench-load: drives an echo server (4-byte big-endian length, then that many bytes; the answer is the
// same) from one thread in a closed loop, checks the answers, and prints one line of JSON. It does not use
// parley, so that a fault there cannot hide here.
//
// Every connection sends the same endless stream: a ring of different messages, begun at another place by
// each. What must come back is therefore known byte by byte, and neither sending nor checking copies
// anything.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

using nanoseconds = std::int64_t;

constexpr std::size_t header_size = 4;
constexpr nanoseconds second = 1'000'000'000;

nanoseconds now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

[[noreturn]] void die(const std::string &what) {
    std::fprintf(stderr, "parley-bench-load: %s\n", what.c_str());
    std::exit(2);
}

[[noreturn]] void die_errno(const std::string &what) {
    die(what + ": " + std::strerror(errno));
}

struct options {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;
    std::size_t connections = 64;
    std::size_t size = 64;
    std::size_t pipeline = 1;
    nanoseconds measured = 2 * second;
    std::uint64_t requests = 0; // if not 0, ends the measured part instead of the clock
    nanoseconds warmup = second / 2;
    std::uint64_t warmup_requests = 0;  // the same for the warm-up
    std::uint64_t check_every = 0;      // every Nth answer is compared byte by byte; 0: by size
    nanoseconds patience = 10 * second; // without any answer for this long, the run has failed
    bool pause = false;
    std::size_t idle = 0;
    bool exchange = false;
};

// Latencies in nanoseconds, log-linear as in HdrHistogram: 128 buckets for each power of two, so a value read
// off it is right within 0.8 %.
class histogram {
public:
    void add(nanoseconds value) {
        ++counts_[index(static_cast<std::uint64_t>(value < 0 ? 0 : value))];
        ++total_;
        max_ = std::max(max_, value);
    }

    nanoseconds percentile(double part) const {
        const auto wanted = static_cast<std::uint64_t>(part * static_cast<double>(total_) + 0.5);
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            seen += counts_[i];
            if (seen >= wanted && seen > 0) {
                return std::min(highest(i), max_);
            }
        }
        return max_;
    }

    nanoseconds max() const { return max_; }

private:
    static constexpr unsigned sub_bits = 7;

    static std::size_t index(std::uint64_t value) {
        if (value < (1u << sub_bits)) {
            return value;
        }
        const auto shift = static_cast<unsigned>(std::bit_width(value)) - 1 - sub_bits;
        return ((static_cast<std::size_t>(shift) + 1) << sub_bits) +
               ((value >> shift) & ((1u << sub_bits) - 1));
    }

    static nanoseconds highest(std::size_t index) {
        const std::size_t row = index >> sub_bits;
        const std::uint64_t column = index & ((1u << sub_bits) - 1);
        if (row == 0) {
            return static_cast<nanoseconds>(column);
        }
        return static_cast<nanoseconds>((((1u << sub_bits) + column + 1) << (row - 1)) - 1);
    }

    // The last row is that of values with 63 bits; a nanosecond count has no more.
    std::array<std::uint64_t, (64 - sub_bits) << sub_bits> counts_{};
    std::uint64_t total_ = 0;
    nanoseconds max_ = 0;
};

// The messages that go round, header and body, one behind the other.
class message_ring {
public:
    explicit message_ring(std::size_t size)
        : message_(header_size + size), count_(std::clamp<std::size_t>(256 * 1024 / message_, 4, 257)),
          bytes_(std::make_unique_for_overwrite<unsigned char[]>(message_ * count_)) {
        std::uint64_t random = 0x9e3779b97f4a7c15;
        for (std::size_t i = 0; i < message_ * count_; ++i) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            bytes_[i] = static_cast<unsigned char>(random >> 24);
        }
        const std::uint32_t header = htonl(static_cast<std::uint32_t>(size));
        for (std::size_t i = 0; i < count_; ++i) {
            std::memcpy(&bytes_[i * message_], &header, header_size);
        }
    }

    std::size_t message() const { return message_; }
    std::size_t count() const { return count_; }
    std::size_t bytes() const { return message_ * count_; }
    const unsigned char *at(std::size_t position) const { return &bytes_[position]; }

private:
    std::size_t message_;
    std::size_t count_;
    std::unique_ptr<unsigned char[]> bytes_;
};

struct connection {
    int fd = -1;
    bool broken = false;
    std::size_t send_at = 0; // positions in the ring
    std::size_t receive_at = 0;
    std::size_t unsent = 0;     // bytes of the requests under way that the socket has not taken yet
    std::size_t in_message = 0; // bytes of the current answer that have come
    std::uint64_t answers = 0;
    std::uint64_t asked = 0;
    std::vector<nanoseconds> asked_at; // of request n at n % pipeline
};

class generator {
public:
    explicit generator(const options &o)
        : options_(o), ring_(o.size), input_(256 * 1024), check_every_(o.check_every    ? o.check_every
                                                                       : o.size <= 4096 ? 1
                                                                                        : 16) {
        epoll_ = epoll_create1(EPOLL_CLOEXEC);
        if (epoll_ < 0) {
            die_errno("epoll_create1");
        }
    }

    ~generator() {
        for (connection &c : connections_) {
            if (c.fd >= 0) {
                close(c.fd);
            }
        }
        close(epoll_);
    }

    generator(const generator &) = delete;
    generator &operator=(const generator &) = delete;

    // Connects one after another: on loopback that is immediate, and no listen queue overflows.
    void connect_all(std::size_t count) {
        raise_descriptor_limit(count);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(options_.port);
        if (inet_pton(AF_INET, options_.host.c_str(), &address.sin_addr) != 1) {
            die("--host takes an IPv4 address");
        }
        connections_.resize(count);
        for (std::size_t i = 0; i < count; ++i) {
            connection &c = connections_[i];
            c.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            if (c.fd < 0) {
                die_errno("socket");
            }
            if (connect(c.fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) < 0) {
                die_errno("connect to " + options_.host + ":" + std::to_string(options_.port));
            }
            const int on = 1;
            setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            fcntl(c.fd, F_SETFL, O_NONBLOCK);
            c.send_at = c.receive_at = i % ring_.count() * ring_.message();
            c.asked_at.resize(options_.pipeline);
            epoll_event event{};
            event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
            event.data.u64 = i;
            if (epoll_ctl(epoll_, EPOLL_CTL_ADD, c.fd, &event) < 0) {
                die_errno("epoll_ctl");
            }
        }
    }

    // Runs until `time` is over or `requests` were sent (0: no such limit), then waits until all are
    // answered.
    void run(nanoseconds time, std::uint64_t requests, bool record) {
        record_ = record;
        to_ask_ = requests ? requests : UINT64_MAX;
        const nanoseconds start = last_answer_ = now();
        ends_ = requests ? INT64_MAX : start + time;
        under_way_ = 0;
        for (connection &c : connections_) {
            ask(c, options_.pipeline, now());
        }
        std::array<epoll_event, 512> events{};
        while (under_way_ > 0) {
            const int ready = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 100);
            if (ready < 0 && errno != EINTR) {
                die_errno("epoll_wait");
            }
            for (int i = 0; i < ready; ++i) {
                serve(connections_[events[static_cast<std::size_t>(i)].data.u64]);
            }
            if (ready <= 0 && now() - last_answer_ > options_.patience) {
                fail_rest();
            }
        }
        if (record) {
            measured_time_ += last_answer_ - start;
        }
    }

    // One request on every connection, and its answer.
    void exchange_all() {
        for (connection &c : connections_) {
            run_one(c);
        }
    }

    std::size_t still_open() const {
        std::size_t open = 0;
        for (const connection &c : connections_) {
            char byte = 0;
            const ssize_t n = c.broken ? 0 : recv(c.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
            open += n < 0 && errno == EAGAIN;
        }
        return open;
    }

    void say_pause() const {
        std::printf("pause %llu\n", static_cast<unsigned long long>(measured_answers_));
        std::fflush(stdout);
    }

    void print() const {
        const double seconds = static_cast<double>(measured_time_) / static_cast<double>(second);
        const auto us = [](nanoseconds value) { return static_cast<double>(value) / 1000; };
        std::printf("{\"requests\": %llu, \"seconds\": %.6f, \"req_per_s\": %.1f, \"p50_us\": %.1f, "
                    "\"p90_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, \"errors\": %llu, "
                    "\"connections\": %zu, \"size\": %zu, \"pipeline\": %zu}\n",
                    static_cast<unsigned long long>(measured_answers_), seconds,
                    seconds > 0 ? static_cast<double>(measured_answers_) / seconds : 0,
                    us(latency_.percentile(0.5)), us(latency_.percentile(0.9)), us(latency_.percentile(0.99)),
                    us(latency_.max()), static_cast<unsigned long long>(errors_), connections_.size(),
                    options_.size, options_.pipeline);
        std::fflush(stdout);
    }

    std::uint64_t errors() const { return errors_; }

private:
    static void raise_descriptor_limit(std::size_t connections) {
        rlimit limit{};
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < connections + 16) {
            limit.rlim_cur = limit.rlim_max;
            setrlimit(RLIMIT_NOFILE, &limit);
        }
    }

    void fail(connection &c, const std::string &why) {
        if (errors_ == 0) {
            std::fprintf(stderr, "parley-bench-load: connection %td, after %llu answers: %s\n",
                         &c - connections_.data(), static_cast<unsigned long long>(c.answers), why.c_str());
        }
        c.broken = true;
        // A connection that goes while it owes nothing has still gone.
        errors_ += std::max<std::uint64_t>(1, c.asked - c.answers);
        under_way_ -= c.asked - c.answers;
        c.answers = c.asked;
        epoll_ctl(epoll_, EPOLL_CTL_DEL, c.fd, nullptr);
    }

    void fail_rest() {
        for (connection &c : connections_) {
            if (!c.broken && c.asked != c.answers) {
                fail(c, "no answer");
            }
        }
    }

    void run_one(connection &c) {
        to_ask_ = 1;
        ends_ = INT64_MAX;
        under_way_ = 0;
        ask(c, 1, now());
        while (under_way_ > 0) {
            pollfd wait{c.fd, POLLIN, 0};
            if (c.unsent > 0) {
                wait.events |= POLLOUT;
            }
            if (poll(&wait, 1, static_cast<int>(options_.patience / 1'000'000)) == 0) {
                fail(c, "no answer");
                return;
            }
            serve(c);
        }
    }

    void ask(connection &c, std::size_t count, nanoseconds at) {
        if (at >= ends_ || c.broken) {
            return;
        }
        const std::uint64_t asked = std::min<std::uint64_t>(count, to_ask_);
        for (std::uint64_t i = 0; i < asked; ++i) {
            c.asked_at[(c.asked + i) % options_.pipeline] = at;
        }
        to_ask_ -= asked;
        under_way_ += asked;
        c.asked += asked;
        c.unsent += asked * ring_.message();
        flush(c);
    }

    void flush(connection &c) {
        while (c.unsent > 0) {
            const std::size_t piece = std::min(c.unsent, ring_.bytes() - c.send_at);
            const ssize_t n = send(c.fd, ring_.at(c.send_at), piece, MSG_NOSIGNAL);
            if (n < 0) {
                if (errno == EINTR) {
                    continue;
                }
                if (errno != EAGAIN) {
                    fail(c, std::string("send: ") + std::strerror(errno));
                }
                return;
            }
            c.unsent -= static_cast<std::size_t>(n);
            c.send_at += static_cast<std::size_t>(n);
            if (c.send_at == ring_.bytes()) {
                c.send_at = 0;
            }
        }
    }

    void serve(connection &c) {
        if (c.broken) {
            return;
        }
        if (c.unsent > 0) {
            flush(c);
        }
        std::size_t finished = 0;
        nanoseconds at = 0;
        while (!c.broken) {
            const ssize_t n = recv(c.fd, input_.data(), input_.size(), 0);
            if (n > 0) {
                at = now();
                finished += take(c, static_cast<std::size_t>(n), at);
                if (static_cast<std::size_t>(n) < input_.size()) {
                    break; // edge-triggered, and a short read has emptied the socket
                }
            } else if (n == 0) {
                fail(c, "closed by the server");
            } else if (errno == EAGAIN) {
                break;
            } else if (errno != EINTR) {
                fail(c, std::string("recv: ") + std::strerror(errno));
            }
        }
        if (finished > 0) {
            ask(c, finished, at);
        }
    }

    // Compares what has come with what was sent, and counts the answers that are now complete.
    std::size_t take(connection &c, std::size_t size, nanoseconds at) {
        const unsigned char *input = input_.data();
        std::size_t finished = 0;
        while (size > 0 && !c.broken) {
            if (c.answers + finished == c.asked) {
                fail(c, "more bytes than were asked for");
                break;
            }
            const bool in_header = c.in_message < header_size;
            const std::size_t end = in_header ? header_size : ring_.message();
            const std::size_t piece = std::min(size, end - c.in_message);
            const bool checked = in_header || (c.answers + finished) % check_every_ == 0;
            if (checked && std::memcmp(input, ring_.at(c.receive_at), piece) != 0) {
                fail(c, in_header ? "an answer of another length" : "an answer with other bytes");
                break;
            }
            input += piece;
            size -= piece;
            c.in_message += piece;
            c.receive_at += piece;
            if (c.receive_at == ring_.bytes()) {
                c.receive_at = 0;
            }
            if (c.in_message == ring_.message()) {
                c.in_message = 0;
                if (record_) {
                    latency_.add(at - c.asked_at[(c.answers + finished) % options_.pipeline]);
                }
                ++finished;
            }
        }
        if (!c.broken) {
            c.answers += finished;
            under_way_ -= finished;
            measured_answers_ += record_ ? finished : 0;
            last_answer_ = at;
        }
        return finished;
    }

    const options &options_;
    message_ring ring_;
    std::vector<unsigned char> input_;
    std::uint64_t check_every_;
    int epoll_ = -1;
    std::vector<connection> connections_;
    histogram latency_;
    bool record_ = false;
    std::uint64_t to_ask_ = 0;
    std::uint64_t under_way_ = 0;
    std::uint64_t measured_answers_ = 0;
    std::uint64_t errors_ = 0;
    nanoseconds measured_time_ = 0;
    nanoseconds last_answer_ = 0;
    nanoseconds ends_ = 0;
};

bool read_line() {
    char byte = 0;
    while (read(STDIN_FILENO, &byte, 1) == 1) {
        if (byte == '\n') {
            return true;
        }
    }
    return false;
}

void wait_for_end_of_input() {
    char bytes[256];
    while (read(STDIN_FILENO, bytes, sizeof bytes) > 0) {
    }
}

int load(const options &o) {
    generator g(o);
    g.connect_all(o.connections);
    if (o.warmup > 0 || o.warmup_requests > 0) {
        g.run(o.warmup, o.warmup_requests, false);
    }
    if (!o.pause) {
        g.run(o.measured, o.requests, true);
    } else {
        g.say_pause();
        while (read_line()) {
            g.run(o.measured, o.requests, true);
            g.say_pause();
        }
    }
    g.print();
    return g.errors() == 0 ? 0 : 1;
}

int idle(const options &o) {
    generator g(o);
    g.connect_all(o.idle);
    if (o.exchange) {
        g.exchange_all();
    }
    std::puts("ready");
    std::fflush(stdout);
    wait_for_end_of_input();
    const std::size_t open = g.still_open();
    std::printf("{\"idle\": %zu, \"open\": %zu, \"errors\": %llu}\n", o.idle, open,
                static_cast<unsigned long long>(g.errors()));
    return open == o.idle && g.errors() == 0 ? 0 : 1;
}

constexpr std::string_view usage_text =
    R"(usage: parley-bench-load --port N [options]
  --host A             IPv4 address (127.0.0.1)
  --connections N      (64)
  --size BYTES         of a message's body (64)
  --pipeline D         requests under way per connection (1)
  --seconds S          length of the measured part (2), or
  --requests N         its number of requests
  --warmup S           before it, not counted (0.5), or
  --warmup-requests N
  --check N            compare every Nth answer byte by byte (1 up to 4 KiB, else 16); its length always
  --timeout S          without any answer for so long, give up (10)
  --pause              run one measured part for each line of standard input; with all answers in, before the
                       first and after each, print "pause" and the number of answers so far
  --idle N             instead: open N connections, print "ready", close them at the end of standard input
  --exchange           with --idle: one request and answer on each first
Ends with 0 if every request was answered right, else with 1; 2 if it could not run.
)";

[[noreturn]] void usage() {
    std::fprintf(stderr, "%s", usage_text.data());
    std::exit(2);
}

double number(const char *text, double least, double most) {
    char *end = nullptr;
    const double value = std::strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= least && value <= most)) {
        usage();
    }
    return value;
}

options parse(int argc, char **argv) {
    options o;
    for (int i = 1; i < argc; ++i) {
        const std::string_view name = argv[i];
        const auto text = [&]() -> const char * {
            if (++i == argc) {
                usage();
            }
            return argv[i];
        };
        const auto count = [&](double most) { return static_cast<std::size_t>(number(text(), 0, most)); };
        const auto time = [&] {
            return static_cast<nanoseconds>(number(text(), 0, 3600) * static_cast<double>(second));
        };
        if (name == "--host") {
            o.host = text();
        } else if (name == "--port") {
            o.port = static_cast<std::uint16_t>(count(65535));
        } else if (name == "--connections") {
            o.connections = count(1e6);
        } else if (name == "--size") {
            o.size = count(1 << 28);
        } else if (name == "--pipeline") {
            o.pipeline = count(1e6);
        } else if (name == "--seconds") {
            o.measured = time();
        } else if (name == "--requests") {
            o.requests = count(1e15);
        } else if (name == "--warmup") {
            o.warmup = time();
        } else if (name == "--warmup-requests") {
            o.warmup_requests = count(1e15);
        } else if (name == "--check") {
            o.check_every = count(1e15);
        } else if (name == "--timeout") {
            o.patience = time();
        } else if (name == "--pause") {
            o.pause = true;
        } else if (name == "--idle") {
            o.idle = count(1e6);
        } else if (name == "--exchange") {
            o.exchange = true;
        } else {
            usage();
        }
    }
    if (o.port == 0 || o.connections == 0 || o.pipeline == 0) {
        usage();
    }
    return o;
}

} // namespace

int main(int argc, char **argv) {
    const options o = parse(argc, argv);
    return o.idle > 0 ? idle(o) : load(o);
}
