#include "net.hpp"

#include <netdb.h>

#include <algorithm>

using namespace net;
using parley::endpoint;
using parley::runtime;
using parley::task;

TEST_CASE("a literal is its own answer and does not suspend") {
    runtime rt(with_loops(1));
    rt.sync_wait([]() -> task<> {
        for (const endpoint &one :
             {endpoint("127.0.0.1", 80), endpoint("::1", 80), endpoint::unix_path("/x")}) {
            auto found = co_await parley::resolve(one);
            REQUIRE(found);
            CHECK(found->size() == 1);
            CHECK(found->front() == one);
        }
    }());
}

TEST_CASE("a name becomes addresses with its port") {
    runtime rt(with_loops(1));
    rt.sync_wait([]() -> task<> {
        auto found = co_await parley::resolve(endpoint("localhost", 7000));
        REQUIRE(found);
        CHECK(!found->empty());
        bool loopback = false;
        for (const endpoint &one : *found) {
            CHECK(!one.is_name());
            CHECK(one.port() == 7000);
            loopback = loopback || one.host() == "127.0.0.1" || one.host() == "::1";
        }
        CHECK(loopback);
    }());
}

TEST_CASE("a name that nobody knows is an error of the resolver") {
    runtime rt(with_loops(1));
    rt.sync_wait([]() -> task<> {
        auto found = co_await parley::resolve(endpoint("no-such-host.invalid", 80));
        CHECK(found.error().stage() == parley::stage::resolve);
        CHECK(found.error().code().category() == parley::resolve_category());
        CHECK(found.error().peer() == "no-such-host.invalid:80");
        found = co_await parley::resolve(endpoint("", 80));
        CHECK(!found);
        found = co_await parley::resolve(endpoint());
        CHECK(!found);
    }());
}

TEST_CASE("a cancelled look-up lets its task go on at once, though the Executor is busy") {
    runtime rt(with_loops(1));
    inbox<int> go;
    rt.sync_wait([](inbox<int> &release) -> task<> {
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            // Both threads of the Executor are taken, so the look-up cannot even begin.
            for (int i = 0; i < 2; i++) {
                s.spawn(
                    [](inbox<int> &r) -> task<> { co_await parley::compute([&r] { r.take(); }); }(release));
            }
            co_await parley::yield();
            co_await parley::with_scope([&](parley::scope &inner) -> task<> {
                inner.spawn([]() -> task<> {
                    auto found = co_await parley::resolve(endpoint("localhost", 80));
                    CHECK(false); // not reached
                }());
                inner.spawn([]() -> task<> {
                    parley::client<lines> c{endpoint("localhost", 80)};
                    auto answer = co_await c.request(parley::line_message("x"));
                    CHECK(false); // not reached
                }());
                inner.spawn([]() -> task<> {
                    parley::acceptor<lines> door{endpoint("localhost", 0)};
                    auto peer = co_await door.accept();
                    CHECK(false); // not reached
                }());
                co_await parley::yield();
                inner.cancel();
            });
            release.put(1);
            release.put(1);
        });
    }(go));
}
