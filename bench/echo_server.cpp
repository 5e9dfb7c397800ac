// echo_server --style callbacks|coroutines [--loops N] [--port N]
//
// Answers each message (4 bytes of big-endian length, then that many bytes) with itself, on
// 127.0.0.1. Says `listening on 127.0.0.1:PORT` when it does, ends on SIGINT and SIGTERM.

#include <charconv>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "echo_server.h"

namespace {

int usage() {
    std::fputs("usage: echo_server --style callbacks|coroutines [--loops N] [--port N]\n", stderr);
    return 2;
}

template <class T>
bool number(std::string_view text, T &value) {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size();
}

} // namespace

int main(int argc, char **argv) {
    echo_options options;
    std::string_view style;
    for (int i = 1; i + 1 < argc; i += 2) {
        std::string_view name = argv[i], value = argv[i + 1];
        if (name == "--style")
            style = value;
        else if (name == "--loops" ? !number(value, options.loops)
                                   : name != "--port" || !number(value, options.port))
            return usage();
    }
    if (argc % 2 == 0 || options.loops == 0 || (style != "callbacks" && style != "coroutines"))
        return usage();
    auto tell = [](unsigned short port) {
        std::printf("listening on 127.0.0.1:%u\n", unsigned{port});
        std::fflush(stdout);
    };
    return style == "callbacks" ? serve_with_callbacks(options, tell) : serve_with_coroutines(options, tell);
}
