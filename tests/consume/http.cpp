// A program of somebody else's that speaks HTTP, to itself.
#include <parley/http/client.hpp>
#include <parley/http/server.hpp>
#include <parley/parley.hpp>

namespace http = parley::http;

parley::task<http::response> hello(http::request &) {
    co_return http::response::text(200, "hello");
}

parley::task<int> ask_itself() {
    http::server door(parley::endpoint("127.0.0.1", 0), http::router().get("/", hello));
    const auto local = co_await door.listen();
    if (!local)
        co_return 1;
    const http::client client;
    const auto page = co_await client.get("http://" + local->to_string() + "/");
    const auto closed = co_await door.close();
    if (!page || page->body() != "hello" || !closed)
        co_return 1;
    co_return 0;
}

int main() {
    return parley::run(ask_itself());
}
