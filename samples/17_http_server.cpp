// An HTTP server: routes with parameters, bodies in pieces both ways, a log, and an end in good order. Run it, and in
// another terminal: curl http://127.0.0.1:8080/hello/world; curl -N http://127.0.0.1:8080/count/5
// curl -T FILE http://127.0.0.1:8080/length

#include <chrono>
#include <csignal>
#include <iostream>
#include <string>

#include <parley/http/server.hpp>
#include <parley/parley.hpp>

#include "arguments.hpp"

namespace http = parley::http;
using namespace std::chrono_literals;

// [handler]
parley::task<http::response> hello(http::exchange &x) {
    co_return http::response::text(200, "hello, " + std::string(x.parameter("name")) + "\n");
}
// [/handler]

// [streaming-answer]
parley::task<> count(http::exchange &x) {
    const int last = std::stoi(std::string(x.parameter("to")));
    auto begun = co_await x.begin(http::response(200).set("Content-Type", "text/plain"));
    for (int i = 1; begun && i <= last; ++i) {
        begun = co_await x.write(std::to_string(i) + "\n");
        co_await parley::sleep_for(10ms);
    }
    if (begun)
        begun = co_await x.finish();
}
// [/streaming-answer]

// [streaming-request]
parley::task<> length(http::exchange &x) {
    std::size_t bytes = 0;
    auto piece = co_await x.read();
    while (piece && !piece->empty()) {
        bytes += piece->size();
        piece = co_await x.read();
    }
    if (!piece)
        co_return; // cut off
    auto sent = co_await x.respond(http::response::text(200, std::to_string(bytes) + "\n"));
}
// [/streaming-request]

// [server]
parley::task<int> run(std::uint16_t port) {
    http::router routes;
    routes.get("/hello/{name}", hello).get("/count/{to}", count).put("/length", length);

    http::server_options options;
    options.on_access([](const http::access_record &one) {
        std::cout << http::to_logfmt(one) + "\n" << std::flush;
    });
    http::server door(parley::endpoint("127.0.0.1", port), std::move(routes), options);
    auto local = co_await door.listen();
    if (!local) {
        std::cerr << local.error() << '\n';
        co_return 1;
    }
    std::cout << "listening on " << *local << std::endl;
    co_await parley::wait_signal(SIGINT, SIGTERM);
    auto drained = co_await door.drain(5s);
    if (drained)
        std::cout << *drained << '\n';
    co_return drained ? 0 : 1;
}
// [/server]

int main(int argc, char **argv) {
    const arguments given = parse_arguments(argc, argv, "[--port N]", 8080);
    return parley::run(run(given.port));
}
