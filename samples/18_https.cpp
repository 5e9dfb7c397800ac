// HTTPS: a server with a certificate that is made on the spot, and two clients: one that trusts it, and one
// that trusts whom everybody trusts. A real program reads its certificate with tls::certificate::files();
// sample 28 has more of TLS.

#include <iostream>
#include <string>

#include <parley/http/client.hpp>
#include <parley/http/server.hpp>
#include <parley/parley.hpp>

#include "run_sample.hpp"

namespace http = parley::http;
namespace tls = parley::tls;

parley::task<http::response> hello(http::exchange &x) {
    const auto who = x.tls_peer();
    co_return http::response::text(200, "hello over " + (who ? who->version : "nothing") + "\n");
}

// [https]
parley::task<> serve_and_ask() {
    const auto mine = tls::certificate::self_signed({"localhost", "127.0.0.1"}).value();
    const auto context = tls::context::server(tls::server_options().add(mine).alpn("http/1.1")).value();
    http::server_options options;
    http::server door(parley::endpoint("127.0.0.1", 0), http::router().get("/", hello), options.tls(context));
    const parley::endpoint where = (co_await door.listen()).value();
    const std::string url = "https://127.0.0.1:" + std::to_string(where.port()) + "/";

    const auto trusting = tls::context::client(tls::client_options().trust_pem(mine.chain_pem())).value();
    const http::client friendly(http::client_options().tls(trusting)), careful;
    for (const http::client &client : {friendly, careful}) {
        auto page = co_await client.get(url);
        if (page)
            std::cout << page->status() << ' ' << page->body();
        else
            std::cout << page.error().detail() << std::endl;
    }
    auto closed = co_await door.close();
    closed.value();
}
// [/https]

int main(int argc, char **argv) {
    return run_sample(argc, argv, serve_and_ask());
}
