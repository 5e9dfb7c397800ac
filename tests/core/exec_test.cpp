// A program that is executed while services run: it inherits the standard streams and nothing else, and the
// services do not notice.

#include <doctest/doctest.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "peers.h"

using namespace peers;

namespace {

// Those above the standard streams that this process was given by whoever started it.
std::vector<int> inherited() {
    std::vector<int> all;
    DIR *dir = opendir("/proc/self/fd");
    while (struct dirent *entry = readdir(dir))
        if (int fd = atoi(entry->d_name); fd > 2 && fd != dirfd(dir))
            all.push_back(fd);
    closedir(dir);
    return all;
}

// What a shell sees that is executed from here: its descriptors, one a line.
std::string descriptors_of_a_program(const std::vector<int> &not_ours) {
    const char *script = "for f in /proc/$$/fd/*; do [ -e $f ] && echo ${f##*/}; done";
    int out[2];
    if (pipe2(out, O_CLOEXEC) < 0)
        return "no pipe";
    pid_t child = fork();
    if (child == 0) {
        dup2(out[1], 1);
        for (int fd : not_ours)
            fcntl(fd, F_SETFD, FD_CLOEXEC);
        execl("/bin/sh", "sh", "-c", script, static_cast<char *>(nullptr));
        _exit(127);
    }
    close(out[1]);
    std::string text;
    char buffer[256];
    for (ssize_t n; (n = read(out[0], buffer, sizeof buffer)) > 0;)
        text.append(buffer, static_cast<size_t>(n));
    close(out[0]);
    waitpid(child, nullptr, 0);
    return text;
}

} // namespace

TEST_CASE("a program that is executed by a running service inherits the standard streams and nothing else") {
    std::vector<int> before = inherited();
    Running comm(2, 1);
    Lines tcp, unix_socket, datagrams;
    REQUIRE(unix_socket.start(comm, unix_path("@parley-exec-" + std::to_string(getpid()))) == 0);
    datagrams.listen_fd = [] { return parley::sys::socket(AF_INET, SOCK_DGRAM, 0); };
    REQUIRE(datagrams.start(comm) == 0);
    std::string seen;
    bool in_place = false;
    SUBCASE("from a loop") {
        in_place = true;
    }
    SUBCASE("from a handler thread") {}
    tcp.stay = in_place;
    tcp.on_request = [&](Served &session) {
        seen = descriptors_of_a_program(before);
        session.out.text = session.in.text;
        if (comm.reply(&session) < 0)
            delete &session;
    };
    REQUIRE(tcp.start(comm) == 0);
    Target one(tcp.address()), two(unix_socket.address()), three(datagrams.address());
    three.connect_fd = [] { return parley::sys::socket(AF_INET, SOCK_DGRAM, 0); };
    for (int i = 0; i < 5; i++) {
        for (Target *target : {&one, &two, &three}) {
            Ask ask("x");
            REQUIRE(comm.request(&ask, target) == 0);
            REQUIRE(ask.done.wait());
            CHECK(ask.is(CS_STATE_SUCCESS, 0));
            CHECK(ask.seq == i); // on the connection that it had before the fork
        }
        CHECK(seen == "0\n1\n2\n");
    }
    for (Lines *service : {&tcp, &unix_socket, &datagrams})
        REQUIRE(service->finish());
}
