#include "hang.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace parley::sim::detail {

namespace {

// The calls in which a program waits by mistake, by the words a person would use.
const char *name_of(long number, bool &descriptor) {
    descriptor = true;
    switch (number) {
    case SYS_read:
    case SYS_readv:
    case SYS_pread64:
        return "read()";
    case SYS_write:
    case SYS_writev:
        return "write()";
    case SYS_recvfrom:
    case SYS_recvmsg:
        return "recv()";
    case SYS_sendto:
    case SYS_sendmsg:
        return "send()";
    case SYS_accept:
    case SYS_accept4:
        return "accept()";
    case SYS_connect:
        return "connect()";
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
        return "epoll_wait()";
    default:
        break;
    }
    descriptor = false;
    switch (number) {
    case SYS_futex:
        return "a lock, condition variable or atomic that is not parley::sync's";
    case SYS_poll:
    case SYS_ppoll:
        return "poll()";
    case SYS_select:
    case SYS_pselect6:
        return "select()";
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
        return "a sleep in real time";
    case SYS_wait4:
    case SYS_waitid:
        return "the end of a process";
    default:
        return nullptr;
    }
}

} // namespace

std::string what_hangs(int id) {
    std::ifstream file("/proc/self/task/" + std::to_string(id) + "/syscall");
    std::string word;
    std::string argument;
    file >> word >> argument;
    if (!file || word == "running")
        return "it computes, or waits in a loop that does not yield";
    const long number = std::atol(word.c_str());
    bool descriptor = false;
    const char *name = name_of(number, descriptor);
    std::string text = "it waits in ";
    text += name != nullptr ? std::string(name) : "system call " + word;
    if (descriptor) {
        const long fd = std::strtol(argument.c_str(), nullptr, 16);
        text += " on descriptor " + std::to_string(fd);
        char target[256];
        const std::string link = "/proc/self/fd/" + std::to_string(fd);
        const ssize_t n = readlink(link.c_str(), target, sizeof target);
        if (n > 0)
            text += " (" + std::string(target, static_cast<std::size_t>(n)) + ")";
    }
    return text;
}

} // namespace parley::sim::detail
