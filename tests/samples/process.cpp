#include "process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <thread>
#include <utility>

#include <doctest/doctest.h>

namespace {

#ifdef PARLEY_SANITIZED
constexpr int guard = 60'000; // ms
#else
constexpr int guard = 20'000;
#endif

// False when the guard's time is over.
bool wait_readable(int fd) {
    struct pollfd what = {fd, POLLIN, 0};
    int ready;
    do {
        ready = poll(&what, 1, guard);
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

std::optional<std::string> take_line(std::string &buffer) {
    const std::size_t end = buffer.find('\n');
    if (end == buffer.npos)
        return {};
    std::string line = buffer.substr(0, end);
    buffer.erase(0, end + 1);
    return line;
}

// ends[0] reads what is written to ends[1], which is a terminal of 100 columns.
void open_terminal(int (&ends)[2]) {
    struct winsize size = {};
    size.ws_col = 100;
    size.ws_row = 25;
    REQUIRE(openpty(&ends[0], &ends[1], nullptr, nullptr, &size) == 0);
    for (const int end : ends)
        REQUIRE(fcntl(end, F_SETFD, FD_CLOEXEC) == 0);
}

struct sockaddr_in loopback(unsigned short port) {
    struct sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

} // namespace

// --- process ---

process::process(const std::string &program, std::vector<std::string> arguments, output kind,
                 std::vector<std::string> environment) {
    int ends[2];
    if (kind == output::pipe)
        REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    else
        open_terminal(ends);
    output_ = ends[0];
    errors_ = memfd_create("errors", MFD_CLOEXEC);
    REQUIRE(errors_ >= 0);

    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, ends[1], 1);
    posix_spawn_file_actions_adddup2(&files, errors_, 2);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes, &signals);
    sigfillset(&signals);
    posix_spawnattr_setsigdefault(&attributes, &signals);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

    std::vector<char *> words = {const_cast<char *>(program.c_str())};
    for (std::string &argument : arguments)
        words.push_back(argument.data());
    words.push_back(nullptr);
    std::vector<char *> variables;
    for (std::string &variable : environment)
        variables.push_back(variable.data()); // the first of two is the one that counts
    for (char **inherited = environ; *inherited != nullptr; inherited++)
        variables.push_back(*inherited);
    variables.push_back(nullptr);
    const int failed =
        posix_spawn(&pid_, program.c_str(), &files, &attributes, words.data(), variables.data());
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    close(ends[1]);
    REQUIRE_MESSAGE(failed == 0, program, ": ", strerror(failed));
}

process::~process() {
    if (pid_ > 0) {
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
    }
    close_output();
    if (errors_ >= 0)
        close(errors_);
}

bool process::read_more() {
    if (output_ < 0)
        return false;
    if (!wait_readable(output_)) {
        INFO("so far: ", buffer_, "\nstandard error: ", errors());
        FAIL("the program neither printed nor ended in time");
    }
    char bytes[4096];
    const ssize_t n = ::read(output_, bytes, sizeof bytes);
    if (n > 0)
        buffer_.append(bytes, static_cast<std::size_t>(n));
    return n > 0;
}

std::optional<std::string> process::read_line() {
    for (;;) {
        if (auto line = take_line(buffer_))
            return line;
        if (!read_more())
            return {};
    }
}

std::string process::read_until(std::string_view text) {
    std::size_t found;
    while ((found = buffer_.find(text)) == buffer_.npos) {
        if (!read_more())
            return std::exchange(buffer_, {});
    }
    std::string before = buffer_.substr(0, found + text.size());
    buffer_.erase(0, before.size());
    return before;
}

std::string process::read_rest() {
    while (read_more()) {
    }
    return std::exchange(buffer_, {});
}

void process::close_output() {
    if (output_ >= 0)
        close(std::exchange(output_, -1));
}

void process::send_signal(int number) {
    REQUIRE(kill(pid_, number) == 0);
}

void process::wait_until_catching(int signal_number) const {
    const std::string path = "/proc/" + std::to_string(pid_) + "/status";
    const std::string label = "SigCgt:\t";
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(guard);
    for (;;) {
        REQUIRE(std::chrono::steady_clock::now() < end);
        std::ifstream status(path);
        for (std::string line; std::getline(status, line);) {
            if (line.starts_with(label) &&
                std::stoull(line.substr(label.size()), nullptr, 16) >> (signal_number - 1) & 1)
                return;
        }
        std::this_thread::yield();
    }
}

int process::wait() {
    while (read_more()) { // a full pipe would keep it from ending
    }
    const int watch = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
    const bool ended = watch < 0 || wait_readable(watch);
    if (watch >= 0)
        close(watch);
    if (!ended) {
        INFO("standard error: ", errors());
        FAIL("the program did not end in time");
    }
    int status = 0;
    REQUIRE(waitpid(std::exchange(pid_, -1), &status, 0) > 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

std::string process::errors() {
    std::string text;
    char bytes[4096];
    ssize_t n;
    while ((n = pread(errors_, bytes, sizeof bytes, static_cast<off_t>(text.size()))) > 0)
        text.append(bytes, static_cast<std::size_t>(n));
    return text;
}

outcome run_program(const std::string &program, std::vector<std::string> arguments) {
    process running(program, std::move(arguments));
    std::string output = running.read_rest();
    const int status = running.wait();
    return {status, std::move(output), running.errors()};
}

std::string sample(std::string_view name) {
    return PARLEY_SAMPLES_DIR "/" + std::string(name);
}

// --- server ---

server::server(std::string_view name) : process(sample(name), {"--port", "0"}) {
    const std::string said = "listening on 127.0.0.1:";
    const std::string line = read_line().value_or("");
    INFO("standard error: ", errors());
    REQUIRE_MESSAGE(line.starts_with(said), line);
    port = static_cast<unsigned short>(std::stoi(line.substr(said.size())));
    REQUIRE(port != 0);
}

int stop(process &running) {
    running.send_signal(SIGTERM);
    const int status = running.wait();
    if (status != 0)
        MESSAGE(running.errors()); // a sanitizer's report
    return status;
}

// --- client_socket ---

client_socket::client_socket(unsigned short port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    REQUIRE(fd_ >= 0);
    const struct sockaddr_in address = loopback(port);
    REQUIRE(connect(fd_, reinterpret_cast<const struct sockaddr *>(&address), sizeof address) == 0);
}

client_socket::~client_socket() {
    close(fd_);
}

void client_socket::send(std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        REQUIRE_MESSAGE(n > 0, strerror(errno));
        bytes.remove_prefix(static_cast<std::size_t>(n));
    }
}

void client_socket::end_of_stream() {
    REQUIRE(shutdown(fd_, SHUT_WR) == 0);
}

bool client_socket::read_more() {
    if (!wait_readable(fd_)) {
        INFO("so far: ", buffer_.size(), " bytes");
        FAIL("no answer in time");
    }
    char bytes[65536];
    const ssize_t n = recv(fd_, bytes, sizeof bytes, 0);
    if (n > 0)
        buffer_.append(bytes, static_cast<std::size_t>(n));
    return n > 0;
}

std::string client_socket::read_line() {
    for (;;) {
        if (auto line = take_line(buffer_))
            return *line;
        if (!read_more())
            return std::exchange(buffer_, {});
    }
}

std::string client_socket::read(std::size_t size) {
    while (buffer_.size() < size && read_more()) {
    }
    std::string bytes = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return bytes;
}

bool client_socket::closed() {
    return buffer_.empty() && !read_more();
}

// --- taken_port ---

taken_port::taken_port() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    struct sockaddr_in address = loopback(0);
    auto *where = reinterpret_cast<struct sockaddr *>(&address);
    socklen_t size = sizeof address;
    REQUIRE(fd_ >= 0);
    REQUIRE(bind(fd_, where, size) == 0);
    REQUIRE(listen(fd_, 1) == 0);
    REQUIRE(getsockname(fd_, where, &size) == 0);
    number = ntohs(address.sin_port);
}

taken_port::~taken_port() {
    close(fd_);
}
