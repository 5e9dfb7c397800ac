#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

#include "kernel.h"

#if defined(__SANITIZE_ADDRESS__)
#define PARLEY_SIM_LEAKS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PARLEY_SIM_LEAKS 1
#endif
#endif
#ifdef PARLEY_SIM_LEAKS
#include <sanitizer/lsan_interface.h>
#endif

namespace parley::sim::detail {

namespace {

// Where the child writes; -1 in the parent.
int told_to = -1;

// Shared with the child: what is known of it when it dies without a word.
struct last_known {
    std::uint64_t number;
};
last_known *shared = nullptr;

void put(const void *data, std::size_t size) {
    const char *at = static_cast<const char *>(data);
    while (size > 0) {
        const ssize_t n = ::write(told_to, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        at += n;
        size -= static_cast<std::size_t>(n);
    }
}

void put_number(std::uint64_t number) {
    put(&number, sizeof number);
}

void put_text(const std::string &text) {
    put_number(text.size());
    put(text.data(), text.size());
}

// What was read of a child, taken apart.
class message {
public:
    explicit message(const std::string &all) noexcept : rest_(all) {}

    bool number(std::uint64_t &out) {
        if (rest_.size() < sizeof out)
            return false;
        std::memcpy(&out, rest_.data(), sizeof out);
        rest_.remove_prefix(sizeof out);
        return true;
    }
    bool text(std::string &out) {
        std::uint64_t size = 0;
        if (!number(size) || rest_.size() < size)
            return false;
        out.assign(rest_.substr(0, size));
        rest_.remove_prefix(size);
        return true;
    }

private:
    std::string_view rest_;
};

bool understand(const std::string &all, outcome &out) {
    message from(all);
    std::uint64_t failed = 0;
    std::uint64_t lines = 0;
    if (!from.number(failed) || !from.number(out.fingerprint) || !from.number(out.number) ||
        !from.text(out.what) || !from.number(lines))
        return false;
    out.failed = failed != 0;
    for (std::uint64_t i = 0; i < lines; i++) {
        out.trace.emplace_back();
        if (!from.text(out.trace.back()))
            return false;
    }
    for (auto &numbers : out.taken) {
        std::uint64_t size = 0;
        if (!from.number(size))
            return false;
        for (std::uint64_t i = 0; i < size; i++) {
            std::uint64_t value = 0;
            if (!from.number(value))
                return false;
            numbers.push_back(static_cast<std::uint32_t>(value));
        }
    }
    return true;
}

std::string how_it_died(int status, const std::string &printed) {
    std::string text;
    if (WIFSIGNALED(status))
        text = std::string("the process was ended by signal ") + sigabbrev_np(WTERMSIG(status));
    else
        text = "the process ended with code " + std::to_string(WEXITSTATUS(status));
    if (!printed.empty())
        text += ", having printed:\n" + printed;
    return text;
}

} // namespace

void tell_failure(kernel &world, const std::string &what) {
    put_number(1);
    put_number(world.fingerprint());
    put_number(shared->number);
    put_text(what);
    const auto &lines = world.trace_lines();
    put_number(lines.size());
    for (const std::string &line : lines)
        put_text(line);
    for (const auto &numbers : world.chosen().taken()) {
        put_number(numbers.size());
        for (const std::uint32_t value : numbers)
            put_number(value);
    }
    _exit(1);
}

void tell_success(std::uint64_t fingerprint, std::uint64_t number) {
#ifdef PARLEY_SIM_LEAKS
    // _exit() would skip it, and exit() would run the parent's exit handlers. It takes a hundred times as
    // long as the run, so one run in sixteen stands for all.
    if (fingerprint % 16 == 0 && __lsan_do_recoverable_leak_check() != 0)
        _exit(23);
#endif
    put_number(0);
    put_number(fingerprint);
    put_number(number);
    put_text({});
    put_number(0);
    for (std::size_t i = 0; i < streams; i++)
        put_number(0);
    _exit(0);
}

void tell_number(std::uint64_t number) {
    shared->number = number;
}

outcome in_child(const std::function<void()> &body) {
    if (shared == nullptr) {
        void *page = mmap(nullptr, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED)
            throw std::bad_alloc();
        shared = new (page) last_known{};
    }
    shared->number = 0;
    int told[2];
    int printed[2];
    if (pipe2(told, O_CLOEXEC) < 0 || pipe2(printed, O_CLOEXEC) < 0)
        throw std::runtime_error(std::string("parley::sim: no pipe: ") + strerror(errno));
    const pid_t child = fork();
    if (child < 0)
        throw std::runtime_error(std::string("parley::sim: no fork: ") + strerror(errno));
    if (child == 0) {
        ::close(told[0]);
        ::close(printed[0]);
        dup2(printed[1], 2);
        told_to = told[1];
        for (int signal : {SIGABRT, SIGSEGV, SIGFPE, SIGILL, SIGBUS, SIGTERM}) // a test framework's
            ::signal(signal, SIG_DFL);
        body();
        _exit(3);
    }
    ::close(told[1]);
    ::close(printed[1]);
    std::string said;
    std::string errors;
    pollfd from[2] = {{told[0], POLLIN, 0}, {printed[0], POLLIN, 0}};
    while (from[0].fd >= 0 || from[1].fd >= 0) {
        if (poll(from, 2, -1) < 0 && errno != EINTR)
            break;
        for (pollfd &one : from) {
            if (one.fd < 0 || one.revents == 0)
                continue;
            char buffer[65536];
            const ssize_t n = ::read(one.fd, buffer, sizeof buffer);
            if (n > 0)
                (&one == &from[0] ? said : errors).append(buffer, static_cast<std::size_t>(n));
            else if (n == 0 || errno != EINTR)
                one.fd = -1;
        }
    }
    ::close(told[0]);
    ::close(printed[0]);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    outcome result;
    const bool clean = WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 1);
    if (!clean || !understand(said, result)) {
        result = {};
        result.failed = true;
        result.number = shared->number;
        result.what = how_it_died(status, errors);
    } else if (result.failed && !errors.empty()) {
        result.what += "\nIt had printed:\n" + errors;
    }
    return result;
}

} // namespace parley::sim::detail
