// parley, the program: finds the command by its name and runs it.

#include <csignal>
#include <cstdio>
#include <exception>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <parley/config.hpp>

#include "command.h"

namespace {

struct command {
    std::string_view name;
    std::string_view synopsis;
    std::string_view summary;
    int (*run)(arguments given);
};

constexpr command commands[] = {
    {"demo", "demo [--json] [--seconds N]",
     "coroutines and callbacks talk over real sockets; every byte is checked", demo},
    {"serve", "serve [--port N] [--tls] DIR",
     "the files of a directory by HTTP or HTTPS; serve --help has more", serve},
};

void print_help(std::FILE *out) {
    std::fputs("usage: parley COMMAND [ARGUMENT...]\n\n", out);
    for (const command &each : commands)
        std::fprintf(out, "  parley %-28.*s %.*s\n", static_cast<int>(each.synopsis.size()),
                     each.synopsis.data(), static_cast<int>(each.summary.size()), each.summary.data());
    std::fputs(
        "  parley --version\n"
        "  parley --help\n\n"
        "Exit status: 0, it is so; 1, it is not; 2, arguments that are not understood; 3, something that is\n"
        "needed is missing; 130, interrupted.\n",
        out);
}

int run_command(arguments given) {
    if (given.empty()) {
        print_help(stderr);
        return not_understood;
    }
    const std::string_view name = given.front();
    if (name == "--help" || name == "-h" || name == "help") {
        print_help(stdout);
        return done;
    }
    if (name == "--version") {
        std::puts("parley " PARLEY_VERSION);
        return done;
    }
    for (const command &each : commands) {
        if (each.name == name)
            return each.run(given.subspan(1));
    }
    std::fprintf(stderr, "parley: there is no command \"%.*s\"; parley --help lists them\n",
                 static_cast<int>(name.size()), name.data());
    return not_understood;
}

// Standard descriptors that are closed would be given to sockets, and messages written into these.
void hold_standard_descriptors() {
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

// Whoever read standard output has had enough of it, as `head` does.
bool is_reader_gone() {
    struct pollfd output = {STDOUT_FILENO, 0, 0};
    return poll(&output, 1, 0) == 1 && (output.revents & POLLERR) != 0;
}

} // namespace

int main(int argc, char **argv) {
    hold_standard_descriptors();
    std::signal(SIGPIPE, SIG_IGN); // `parley demo | head` gets its lines, and the run its end
    const std::vector<std::string_view> words(argv + (argc > 0), argv + argc);
    int status;
    try {
        status = run_command(words);
    } catch (const std::exception &e) {
        std::fprintf(stderr, "parley: %s\n", e.what());
        status = failed;
    }
    std::fflush(stdout);
    if (std::ferror(stdout) != 0 && !is_reader_gone()) {
        std::fputs("parley: the output could not be written\n", stderr);
        return status == done ? failed : status;
    }
    return status;
}
