// The two ways the benchmark's echo server is written. Both answer each length-prefixed message
// with the same message.

#pragma once

#include <cstddef>
#include <functional>

struct echo_options {
    std::size_t loops = 1;
    unsigned short port = 0;
};

// Serve until SIGINT or SIGTERM, after telling the port. The exit code.
using on_port = std::function<void(unsigned short port)>;
int serve_with_callbacks(const echo_options &options, const on_port &tell);
int serve_with_coroutines(const echo_options &options, const on_port &tell);
