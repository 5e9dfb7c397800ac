// http::server, told by raw sockets: routes, bodies both ways, limits and their statuses, what becomes of the
// connection, and ends of all kinds.

#include <parley/http/server.hpp>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "patient_world.hpp"

namespace http = parley::http;
using namespace net;
using parley::task;

namespace {

// A server for the length of a test.
class web {
public:
    explicit web(http::router routes, const http::server_options &options = {}, std::size_t loops = 1)
        : rt(with_loops(loops)), door(parley::endpoint("127.0.0.1", 0), std::move(routes), options) {
        rt.sync_wait(rt.loop(0), [this]() -> task<> {
            auto opened = co_await door.listen();
            local = opened.value();
        }());
    }
    ~web() {
        rt.sync_wait(rt.loop(0), [this]() -> task<> {
            auto closed = co_await door.close();
            CHECK(closed);
        }());
    }

    parley::runtime rt;
    http::server door;
    parley::endpoint local;
};

// Without the date, which is never the same twice.
std::string undated(std::string text) {
    for (std::size_t at; (at = text.find("Date: ")) != std::string::npos;)
        text.erase(at, text.find("\r\n", at) + 2 - at);
    return text;
}

// One answer with a length: head and body.
std::string answer_of(raw_peer &peer) {
    std::string head, body;
    std::size_t length = 0;
    for (std::string line; (line = peer.recv_line()) != "\r"; head += line + "\n") {
        if (line.ends_with("<end>"))
            return head + line;
        if (line.starts_with("Content-Length: "))
            length = std::stoul(line.substr(16));
    }
    for (char c; body.size() < length && ::recv(peer.fd(), &c, 1, 0) == 1;)
        body += c;
    return undated(head) + "\r\n" + body;
}

std::string asked(web &server, const std::string &bytes) {
    raw_peer peer(server.local);
    peer.send(bytes);
    return undated(peer.recv_all());
}

std::string status_line(web &server, const std::string &bytes) {
    const std::string all = asked(server, bytes);
    return all.substr(0, all.find("\r\n"));
}

task<http::response> hello(http::request &) {
    co_return http::response::text(200, "hello\n");
}

task<http::response> echo(http::exchange &x) {
    co_return http::response(200)
        .set("Content-Type", "text/plain")
        .body(x.method() + " " + std::string(x.parameter("what")) + " " + x.request().body());
}

task<> count_bytes(http::exchange &x) {
    std::size_t bytes = 0;
    auto piece = co_await x.read();
    while (piece && !piece->empty()) {
        bytes += piece->size();
        piece = co_await x.read();
    }
    std::string said = piece ? std::to_string(bytes) : parley::to_string(piece.error());
    said.append(" ").append(x.trailer().get("X-Sum").value_or(""));
    auto sent = co_await x.respond(http::response::text(200, said));
}

http::router usual() {
    http::router routes;
    routes.get("/", hello).get("/echo/{what}", echo).post("/echo/{what}", echo).put("/count", count_bytes);
    return routes;
}

const std::string close_it = "Host: a\r\nConnection: close\r\n\r\n";

} // namespace

TEST_CASE("an answer has a length, a date, and says when the connection ends") {
    web server(usual());
    CHECK(asked(server, "GET / HTTP/1.1\r\n" + close_it) ==
          "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 6\r\n"
          "Connection: close\r\n\r\nhello\n");
    CHECK(asked(server, "HEAD / HTTP/1.1\r\n" + close_it) ==
          "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 6\r\n"
          "Connection: close\r\n\r\n");
    CHECK(asked(server, "GET / HTTP/1.0\r\n\r\n") ==
          "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 6\r\n"
          "Connection: close\r\n\r\nhello\n");
    raw_peer dated(server.local);
    dated.send("GET / HTTP/1.1\r\n" + close_it);
    const std::string all = dated.recv_all();
    const std::size_t at = all.find("Date: ");
    REQUIRE(at != std::string::npos);
    CHECK(all.substr(at + 9, 2) == ", "); // Mon, 23 Nov 2026 14:25:12 GMT
    CHECK(all.substr(at + 6 + 25, 4) == " GMT");
}

TEST_CASE("a connection serves one request after the other, pipelined or not") {
    web server(usual());
    raw_peer peer(server.local);
    for (int i = 0; i < 3; ++i) {
        peer.send("GET /echo/" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\n\r\n");
        CHECK(answer_of(peer).ends_with("\r\n\r\nGET " + std::to_string(i) + " "));
    }
    std::string many;
    for (int i = 0; i < 200; ++i)
        many += "POST /echo/" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    peer.send(many);
    for (int i = 0; i < 200; ++i)
        CHECK(answer_of(peer).ends_with("\r\n\r\nPOST " + std::to_string(i) + " abc"));
    peer.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    CHECK(answer_of(peer).find("Connection: keep-alive\r\n") != std::string::npos);
    peer.send("GET / HTTP/1.1\r\n" + close_it);
    CHECK(answer_of(peer).find("Connection: close\r\n") != std::string::npos);
    CHECK(peer.is_closed_by_peer());
}

TEST_CASE("what no route has") {
    web server(usual());
    CHECK(status_line(server, "GET /nowhere HTTP/1.1\r\n" + close_it) == "HTTP/1.1 404 Not Found");
    const std::string refused = asked(server, "DELETE /echo/1 HTTP/1.1\r\n" + close_it);
    CHECK(refused.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
    CHECK(refused.find("Allow: GET, POST, HEAD, OPTIONS\r\n") != std::string::npos);
    CHECK(asked(server, "OPTIONS /echo/1 HTTP/1.1\r\n" + close_it) ==
          "HTTP/1.1 204 No Content\r\nAllow: GET, POST, HEAD, OPTIONS\r\nConnection: close\r\n\r\n");
    for (const char *path :
         {"/echo/..", "/echo/%2e%2e", "/echo/a%2fb", "/echo/a%00", "/echo/%zz", "/echo/%2"})
        CHECK(status_line(server, "GET " + std::string(path) + " HTTP/1.1\r\n" + close_it) ==
              "HTTP/1.1 404 Not Found");
    CHECK(asked(server, "GET /echo/a%20b%3F HTTP/1.1\r\n" + close_it).ends_with("\r\n\r\nGET a b? "));
}

TEST_CASE("what is not understood is answered, and the connection ends") {
    web server(usual(), http::server_options().limits(http::limits().header_bytes(2000).body(10)));
    CHECK(status_line(server, "GET / HTTP/1.1\r\n\r\n") == "HTTP/1.1 400 Bad Request");
    CHECK(status_line(server, "\x16\x03\x01\x02") == "HTTP/1.1 400 Bad Request");
    CHECK(status_line(server, "GET / HTTP/2.0\r\nHost: a\r\n\r\n") ==
          "HTTP/1.1 505 HTTP Version Not Supported");
    CHECK(status_line(server, "GET /" + std::string(9000, 'x') + " HTTP/1.1\r\nHost: a\r\n\r\n")
              .starts_with("HTTP/1.1 4"));
    CHECK(status_line(server, "GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(3000, 'x') + "\r\n\r\n") ==
          "HTTP/1.1 431 Request Header Fields Too Large");
    CHECK(
        status_line(server, "POST /echo/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n") ==
        "HTTP/1.1 501 Not Implemented");
    CHECK(status_line(server, "GET / HTTP/1.1\r\nExpect: magic\r\n" + close_it) ==
          "HTTP/1.1 417 Expectation Failed");
    // A body that is announced too large, one that turns out to be, and one that is malformed.
    CHECK(status_line(server, "POST /echo/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000\r\n\r\nab") ==
          "HTTP/1.1 413 Content Too Large");
    CHECK(status_line(server, "POST /echo/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "6\r\nabcdef\r\n6\r\nabcdef\r\n") == "HTTP/1.1 413 Content Too Large");
    CHECK(
        status_line(server, "POST /echo/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n") ==
        "HTTP/1.1 400 Bad Request");
}

TEST_CASE("a peer that still writes sees why it was refused") {
    web server(usual());
    raw_peer peer(server.local);
    peer.send("POST /echo/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000\r\n\r\n");
    // Half a megabyte after the refusal: a reset would take the answer away.
    peer.send(std::string(500000, 'x'));
    const std::string all = peer.recv_all();
    CHECK(all.starts_with("HTTP/1.1 413 Content Too Large\r\n"));
    CHECK(all.ends_with("bytes\n"));
}

TEST_CASE("so does one whose head was refused") {
    web server(usual());
    raw_peer peer(server.local);
    peer.send("GET / HTTP/1.1\r\nHost: a\r\n" + std::string(500000, 'x'));
    CHECK(peer.recv_line() == "HTTP/1.1 431 Request Header Fields Too Large\r");
    CHECK(peer.recv_all().ends_with("header line 3: longer than 16384 bytes\n"));
}

TEST_CASE("a body while it comes: of known length, in chunks, with a trailer") {
    web server(usual());
    const std::string megabytes(3 << 20, 'b');
    CHECK(asked(server, "PUT /count HTTP/1.1\r\nContent-Length: " + std::to_string(megabytes.size()) +
                            "\r\n" + close_it + megabytes)
              .ends_with("\r\n\r\n3145728 "));
    CHECK(asked(server, "PUT /count HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + close_it +
                            "5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 6\r\n\r\n")
              .ends_with("\r\n\r\n6 6"));
    CHECK(asked(server, "PUT /count HTTP/1.1\r\nContent-Length: 0\r\n" + close_it).ends_with("\r\n\r\n0 "));
}

TEST_CASE("a client that waits for 100 Continue gets it when its body is wanted, and only then") {
    web server(usual());
    raw_peer peer(server.local);
    peer.send("PUT /count HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    CHECK(peer.recv_line() == "HTTP/1.1 100 Continue\r");
    CHECK(peer.recv_line() == "\r");
    peer.send("abc");
    CHECK(answer_of(peer).ends_with("\r\n\r\n3 "));
    peer.send("PUT /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    const std::string refused = answer_of(peer);
    CHECK(refused.starts_with("HTTP/1.1 404 Not Found\r\n"));
    CHECK(refused.find("Connection: close\r\n") !=
          std::string::npos); // whether the body comes is anybody's guess
    peer.half_close();
    CHECK(peer.is_closed_by_peer());
}

TEST_CASE("a handler that does not read a short body does not cost the connection") {
    http::router routes;
    routes.post("/ignore",
                [](http::exchange &x) -> task<> { auto sent = co_await x.respond(http::response(204)); });
    web server(std::move(routes));
    raw_peer peer(server.local);
    for (int i = 0; i < 3; ++i) {
        peer.send("POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" +
                  std::string(100000, 'x'));
        CHECK(answer_of(peer) == "HTTP/1.1 204 No Content\r\n\r\n");
    }
}

TEST_CASE("an answer in pieces") {
    http::router routes;
    routes.get("/{how}", [](http::exchange &x) -> task<> {
        const bool known = x.parameter("how") == "known";
        std::optional<std::uint64_t> length;
        if (known)
            length = 11;
        auto done = co_await x.begin(http::response(200).body("one "), length);
        if (done)
            done = co_await x.write("two ");
        if (done)
            done = co_await x.write("");
        if (done)
            done = co_await x.write("six");
        if (done && known) {
            auto more = co_await x.write("!");
            CHECK(more.error() == std::errc::invalid_argument);
        }
        http::fields trailer;
        trailer.add("X-Count", "3");
        if (done)
            done = co_await x.finish(std::move(trailer));
        CHECK(done);
    });
    web server(std::move(routes));
    CHECK(asked(server, "GET /chunks HTTP/1.1\r\n" + close_it) ==
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
          "4\r\none \r\n4\r\ntwo \r\n3\r\nsix\r\n0\r\nX-Count: 3\r\n\r\n");
    CHECK(asked(server, "GET /known HTTP/1.1\r\n" + close_it) ==
          "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\none two six");
    CHECK(asked(server, "HEAD /chunks HTTP/1.1\r\n" + close_it) ==
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
    // A client of HTTP/1.0 knows no chunks.
    CHECK(asked(server, "GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n") ==
          "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\none two six");
}

TEST_CASE("an exception is a 500, and one in the middle of an answer the end of the connection") {
    http::router routes;
    routes.get("/before", [](http::request &) -> task<http::response> {
        throw std::runtime_error("no notes today");
        co_return http::response();
    });
    routes.get("/within", [](http::exchange &x) -> task<> {
        auto begun = co_await x.begin(http::response(200), 100);
        throw std::runtime_error("no more");
    });
    routes.get("/silent", [](http::exchange &) -> task<> { co_return; });
    inbox<std::string> told;
    http::server_options options;
    options.on_exception([&](const parley::endpoint &, std::exception_ptr failure) {
        try {
            std::rethrow_exception(failure);
        } catch (const std::exception &e) {
            told.put(e.what());
        }
    });
    web server(std::move(routes), options);
    CHECK(status_line(server, "GET /before HTTP/1.1\r\n" + close_it) == "HTTP/1.1 500 Internal Server Error");
    CHECK(told.take() == "no notes today");
    CHECK(asked(server, "GET /within HTTP/1.1\r\nHost: a\r\n\r\n").ends_with("Content-Length: 100\r\n\r\n"));
    CHECK(told.take() == "no more");
    CHECK(status_line(server, "GET /silent HTTP/1.1\r\n" + close_it) == "HTTP/1.1 500 Internal Server Error");
    raw_peer peer(server.local); // the server lives, and a connection survives a 500
    peer.send("GET /before HTTP/1.1\r\nHost: a\r\n\r\nGET /before HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(answer_of(peer).starts_with("HTTP/1.1 500 "));
    CHECK(answer_of(peer).starts_with("HTTP/1.1 500 "));
}

TEST_CASE("too many at once are told to come back") {
    http::router routes;
    parley::event entered, leave;
    routes.get("/slow", [&](http::request &) -> task<http::response> {
        entered.set();
        co_await leave.wait();
        co_return http::response(204);
    });
    routes.get("/", hello);
    web server(std::move(routes), http::server_options().max_in_flight(1));
    raw_peer first(server.local);
    first.send("GET /slow HTTP/1.1\r\n" + close_it);
    server.rt.sync_wait(server.rt.loop(0), [&]() -> task<> { co_await entered.wait(); }());
    const std::string refused = asked(server, "GET / HTTP/1.1\r\n" + close_it);
    CHECK(refused.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    CHECK(refused.find("Retry-After: 1\r\n") != std::string::npos);
    leave.set();
    CHECK(first.recv_line() == "HTTP/1.1 204 No Content\r");
    CHECK(status_line(server, "GET / HTTP/1.1\r\n" + close_it) == "HTTP/1.1 200 OK");
}

TEST_CASE("slow heads, slow bodies and idle connections end in their time") {
    patient_world world;
    fixture::InstalledWorld installed(world);
    http::router routes = usual();
    parley::event entered;
    routes.put("/body", [&](http::exchange &x) -> task<> {
        entered.set();
        const bool read = co_await http::detail::read_whole(x);
        CHECK_FALSE(read);
    });
    http::server_options options;
    options.head_limit(5s).body_gap_limit(3s).idle_limit(10s);
    web server(std::move(routes), options);
    raw_peer head(server.local), body(server.local), idle(server.local);
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(answer_of(idle).starts_with("HTTP/1.1 200 OK\r\n"));
    head.send("GET / HT");
    body.send("PUT /body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    server.rt.sync_wait(server.rt.loop(0), [&]() -> task<> { co_await entered.wait(); }());
    world.pass(server.rt, 2s);
    head.send("T"); // progress is no excuse
    for (int i = 0; i < 4; ++i)
        world.pass(server.rt, 1s);
    CHECK(body.recv_line() == "HTTP/1.1 408 Request Timeout\r");
    CHECK(head.recv_line() == "HTTP/1.1 408 Request Timeout\r");
    for (int i = 0; i < 10; ++i)
        world.pass(server.rt, 1s);
    CHECK(idle.is_closed_by_peer());
    body.recv_all();
    head.recv_all();
}

TEST_CASE("a client that goes away ends its handler") {
    http::router routes;
    parley::event entered;
    inbox<bool> unwound;
    struct at_end {
        inbox<bool> &to;
        ~at_end() { to.put(true); }
    };
    routes.get("/", [&](http::request &) -> task<http::response> {
        const at_end guard{unwound};
        entered.set();
        co_await parley::sleep_for(24h);
        co_return http::response();
    });
    web server(std::move(routes));
    raw_peer peer(server.local);
    peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    server.rt.sync_wait(server.rt.loop(0), [&]() -> task<> { co_await entered.wait(); }());
    peer.reset();
    CHECK(unwound.take());
}

TEST_CASE("a body that is cut off is an error of the handler's read") {
    http::router routes;
    inbox<std::string> told;
    routes.put("/", [&](http::exchange &x) -> task<> {
        auto piece = co_await x.read();
        while (piece && !piece->empty())
            piece = co_await x.read();
        told.put(piece ? "whole" : piece.error().code().message());
    });
    web server(std::move(routes));
    raw_peer peer(server.local);
    peer.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    peer.half_close();
    CHECK(told.take() == "Connection reset by peer");
}

TEST_CASE("a drain answers what has begun and ends what is idle") {
    http::router routes;
    parley::event entered, leave;
    routes.get("/slow", [&](http::request &) -> task<http::response> {
        entered.set();
        co_await leave.wait();
        co_return http::response::text(200, "late\n");
    });
    routes.get("/", hello);
    web server(std::move(routes));
    raw_peer busy(server.local), idle(server.local);
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(answer_of(idle).starts_with("HTTP/1.1 200 OK\r\n"));
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    server.rt.sync_wait(server.rt.loop(0), [&]() -> task<> { co_await entered.wait(); }());
    const auto drain = [&]() -> task<> { // lives as long as its task
        auto report = co_await server.door.drain(60s);
        REQUIRE(report);
        CHECK(report->cancelled == 0);
    };
    background draining(server.rt, drain());
    CHECK(idle.is_closed_by_peer());
    leave.set();
    CHECK(answer_of(busy).ends_with("\r\n\r\nlate\n"));
    CHECK(busy.is_closed_by_peer());
    CHECK(draining.join());
}

TEST_CASE("an access log tells of every answer") {
    inbox<std::string> lines, objects;
    http::server_options options;
    options.on_access([&](const http::access_record &one) {
        http::access_record fixed = one;
        CHECK(fixed.elapsed.count() > 0);
        fixed.peer = parley::endpoint("127.0.0.1", 4711);
        fixed.elapsed = 123us;
        lines.put(http::to_logfmt(fixed));
        objects.put(http::to_json(fixed));
    });
    web server(usual(), options);
    asked(server, "GET /echo/%22?a=b HTTP/1.1\r\n" + close_it);
    CHECK(lines.take() ==
          "peer=127.0.0.1:4711 method=GET target=\"/echo/%22?a=b\" status=200 bytes=6 seconds=0.000123");
    CHECK(objects.take() == "{\"peer\":\"127.0.0.1:4711\",\"method\":\"GET\",\"target\":\"/echo/%22?a=b\","
                            "\"status\":200,\"bytes\":6,\"seconds\":0.000123}");
    asked(server, "nonsense\r\n\r\n");
    CHECK(lines.take() == "peer=127.0.0.1:4711 method=\"\" target=\"\" status=400 bytes=" +
                              std::to_string(std::string("start line: the method is no token\n").size()) +
                              " seconds=0.000123");
}

TEST_CASE("routes: what is written out goes before what stands for anything") {
    http::router routes;
    const auto named = [](std::string name) {
        return [name](http::request &) -> task<http::response> { co_return http::response::text(200, name); };
    };
    const auto rest = named("rest"), any = named("any"), text = named("text"), deep = named("deep");
    routes.get("/{all...}", rest).get("/{one}", any).get("/text", text).get("/{one}/deep", deep);
    http::router::parameters found;
    std::string allow;
    const auto parameters = [&](const char *path) {
        const http::handler *one = routes.find("GET", path, found, allow);
        std::string said = one ? "" : "none";
        for (const auto &[name, value] : found)
            said += name + "=" + value + ";";
        return said;
    };
    CHECK(parameters("/text") == "");
    CHECK(parameters("/other") == "one=other;");
    CHECK(parameters("/a/deep") == "one=a;");
    CHECK(parameters("/a/b/c") == "all=a/b/c;");
    CHECK(parameters("/") == "one=;");
    CHECK(parameters("a") == "none");
    CHECK_THROWS_AS(routes.get("no slash", text), std::invalid_argument);
    CHECK_THROWS_AS(routes.get("/{open", text), std::invalid_argument);
    CHECK_THROWS_AS(routes.get("/{}", text), std::invalid_argument);
    CHECK_THROWS_AS(routes.get("/{all...}/more", text), std::invalid_argument);
    CHECK_THROWS_AS(routes.add("G T", "/", text), std::invalid_argument);
}
