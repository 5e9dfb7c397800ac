// A resolver that blocks, lies or knows too much: no loop waits for it, and what it says becomes addresses or
// one clear error.

#include "net.hpp"

#include <netdb.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "core/forwarding_world.h"

using namespace net;
using parley::client;
using parley::endpoint;
using parley::line_message;
using parley::runtime;
using parley::task;

namespace {

class fake_names : public fixture::ForwardingWorld {
public:
    std::vector<std::string> addresses; // the answer, in order
    int failure = 0;                    // or an EAI_ code
    int system_error = 0;               // and the errno of EAI_SYSTEM
    bool blocks = false;                // each look-up takes one from `go` first
    inbox<int> asked, go;
    std::atomic<int> outstanding{0}; // answers that were not freed

    int getaddrinfo(const char *, const char *, const struct addrinfo *hints,
                    struct addrinfo **result) override {
        asked.put(1);
        if (blocks)
            go.take();
        errno = system_error;
        if (failure != 0)
            return failure;
        *result = nullptr;
        for (auto one = addresses.rbegin(); one != addresses.rend(); ++one) {
            auto *in = new sockaddr_in{};
            in->sin_family = AF_INET;
            inet_pton(AF_INET, one->c_str(), &in->sin_addr);
            *result = new addrinfo{0,       AF_INET,    hints->ai_socktype,
                                   0,       sizeof *in, reinterpret_cast<sockaddr *>(in),
                                   nullptr, *result};
        }
        outstanding += *result != nullptr;
        return 0;
    }
    void freeaddrinfo(struct addrinfo *result) override {
        outstanding -= result != nullptr;
        while (result) {
            delete reinterpret_cast<sockaddr_in *>(result->ai_addr);
            delete std::exchange(result, result->ai_next);
        }
    }
};

} // namespace

TEST_CASE("while the resolver blocks, the loop that asked it serves on") {
    fake_names names;
    names.addresses = {"127.0.0.1"};
    names.blocks = true;
    fixture::InstalledWorld installed(names);
    echo_server<lines> server(1);
    background asking(server.rt, [](endpoint where) -> task<> {
        client<lines> c{where};
        auto answer = co_await c.request(line_message("by name"));
        REQUIRE(answer);
        CHECK(answer->text() == "by name");
    }(endpoint("a.name", server.local.port())));
    names.asked.take();
    raw_peer other(server.local);
    for (int i = 0; i < 50; i++) {
        other.send("x\n");
        CHECK(other.recv_line() == "x");
    }
    names.go.put(1);
    CHECK(asking.join());
    CHECK(names.outstanding == 0);
}

TEST_CASE("a resolver that answers with no address at all is an error of the look-up") {
    fake_names names;
    fixture::InstalledWorld installed(names);
    runtime rt(with_loops(1));
    rt.sync_wait([]() -> task<> {
        auto found = co_await parley::resolve(endpoint("a.name", 80));
        CHECK(!found);
        CHECK(found.error().stage() == parley::stage::resolve);
        CHECK(found.error().peer() == "a.name:80");
        client<lines> c{endpoint("a.name", 80)};
        auto answer = co_await c.request(line_message("x"));
        CHECK(!answer);
        CHECK(answer.error().stage() == parley::stage::resolve);
    }());
}

TEST_CASE("every failure of the resolver is told, with its own words, and the next look-up asks again") {
    fake_names names;
    names.addresses = {"127.0.0.1"};
    fixture::InstalledWorld installed(names);
    runtime rt(with_loops(1));
    rt.sync_wait([](fake_names &world) -> task<> {
        for (int failure : {EAI_NONAME, EAI_AGAIN, EAI_FAIL, EAI_MEMORY, EAI_NODATA, EAI_SYSTEM}) {
            CAPTURE(failure);
            world.failure = failure;
            world.system_error = failure == EAI_SYSTEM ? EIO : 0;
            auto found = co_await parley::resolve(endpoint("a.name", 80));
            CHECK(!found);
            CHECK(found.error().stage() == parley::stage::resolve);
            if (failure == EAI_SYSTEM)
                CHECK(found.error() == std::errc::io_error);
            else
                CHECK(found.error().code().category() == parley::resolve_category());
            if (failure != EAI_SYSTEM)
                CHECK(found.error().code().message() == gai_strerror(failure));
            world.failure = 0;
            auto again = co_await parley::resolve(endpoint("a.name", 80));
            CHECK(again);
        }
    }(names));
    CHECK(names.outstanding == 0);
}

TEST_CASE("a name with a thousand addresses of which the last one works is reached, and none is left open") {
    fake_names names;
    for (int i = 0; i < 999; i++)
        names.addresses.push_back("127.1." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1));
    names.addresses.push_back("127.0.0.1");
    fixture::InstalledWorld installed(names);
    echo_server<lines> server(1);
    std::size_t descriptors = open_descriptors();
    server.rt.sync_wait([](endpoint where) -> task<> {
        auto found = co_await parley::resolve(where);
        REQUIRE(found);
        CHECK(found->size() == 1000);
        client<lines> c{where};
        auto answer = co_await c.request(line_message("far away"));
        REQUIRE(answer);
        CHECK(answer->text() == "far away");
    }(endpoint("a.name", server.local.port())));
    // Idle connections close when the client has gone, some time later.
    for (int i = 0; i < 1000 && open_descriptors() > descriptors; i++)
        server.rt.sync_wait([]() -> task<> { co_await parley::sleep_for(1ms); }());
    CHECK(open_descriptors() == descriptors);
    CHECK(names.outstanding == 0);
}

TEST_CASE("a name of whose addresses none answers is one error that says what the last one said") {
    fake_names names;
    for (int i = 1; i <= 20; i++)
        names.addresses.push_back("127.1.1." + std::to_string(i));
    fixture::InstalledWorld installed(names);
    echo_server<lines> server(1); // its port is taken at 127.0.0.1, and at no other address
    server.rt.sync_wait([](endpoint where) -> task<> {
        client<lines> c{where};
        auto answer = co_await c.request(line_message("x"));
        CHECK(!answer);
        CHECK(answer.error() == std::errc::connection_refused);
        CHECK(answer.error().stage() == parley::stage::connect);
    }(endpoint("a.name", server.local.port())));
}
