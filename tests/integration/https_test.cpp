// HTTP over TLS: the same server and client, and what only TLS can go wrong with.

#include <parley/http/client.hpp>
#include <parley/http/server.hpp>

#include <optional>
#include <string>

#include "net.hpp"

namespace http = parley::http;
namespace tls = parley::tls;
using namespace net;
using parley::task;

namespace {

class secure_web {
public:
    explicit secure_web(http::router routes)
        : mine(tls::certificate::self_signed({"127.0.0.1"}).value()), rt(with_loops(2)),
          door(parley::endpoint("127.0.0.1", 0), std::move(routes),
               http::server_options().tls(tls::context::server(tls::server_options().add(mine)).value())) {
        rt.sync_wait(rt.loop(0), [this]() -> task<> {
            auto opened = co_await door.listen();
            local = opened.value();
        }());
    }
    ~secure_web() {
        rt.sync_wait(rt.loop(0), [this]() -> task<> {
            auto closed = co_await door.close();
            CHECK(closed);
        }());
    }
    std::string url(const std::string &path) const {
        return "https://127.0.0.1:" + std::to_string(local.port()) + path;
    }
    http::client trusting() const {
        return http::client(http::client_options().tls(
            tls::context::client(tls::client_options().trust_pem(mine.chain_pem())).value()));
    }

    tls::certificate mine;
    parley::runtime rt;
    http::server door;
    parley::endpoint local;
};

} // namespace

TEST_CASE("https: a client that trusts the certificate, and one that does not") {
    secure_web server(http::router().get("/", [](http::exchange &x) -> task<http::response> {
        const auto who = x.tls_peer();
        co_return http::response::text(200, who ? who->version : "plain");
    }));
    auto good = server.rt.sync_wait(server.trusting().get(server.url("/")));
    REQUIRE(good);
    CHECK(good->body() == "TLSv1.3");
    const http::client careful;
    auto refused = server.rt.sync_wait(careful.get(server.url("/")));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().stage() == parley::stage::tls);
    CHECK(std::string(refused.error().detail()).find("signed by itself") != std::string::npos);
    // Plain HTTP on the port of TLS: an end, and no answer.
    raw_peer plain(server.local);
    plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(plain.recv_all().find("HTTP/") == std::string::npos);
}

TEST_CASE("https: large bodies both ways") {
    http::router routes;
    routes.put("/", [](http::exchange &x) -> task<> {
        auto begun = co_await x.begin(http::response(200));
        auto piece = co_await x.read();
        while (begun && piece && !piece->empty()) {
            begun = co_await x.write(*piece);
            piece = co_await x.read();
        }
        if (begun && piece)
            begun = co_await x.finish();
        CHECK(begun);
    });
    secure_web server(std::move(routes));
    std::string all(5 << 20, ' ');
    for (std::size_t i = 0; i < all.size(); ++i)
        all[i] = static_cast<char>('a' + i % 23);
    auto back =
        server.rt.sync_wait(server.trusting().request(server.url("/"), http::request("PUT", "/").body(all)));
    REQUIRE(back);
    CHECK((back->body() == all));
}
