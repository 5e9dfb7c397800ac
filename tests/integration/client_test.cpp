#include "net.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

using namespace net;
using parley::acceptor;
using parley::client;
using parley::client_options;
using parley::connection;
using parley::endpoint;
using parley::errc;
using parley::line_message;
using parley::runtime;
using parley::task;

namespace {

task<parley::result<line_message>> ask(client<lines> &c, std::string text) {
    auto answer = co_await c.request(line_message(std::move(text)));
    co_return answer;
}

// Counts its connections and answers with the number of the connection and the request.
struct counting_server {
    std::atomic<int> accepted{0};
    std::atomic<int> open{0};
    std::atomic<int> most{0};

    task<> handle(connection<lines> peer) {
        int number = ++accepted;
        int now = ++open;
        int seen = most;
        while (now > seen && !most.compare_exchange_weak(seen, now)) {
        }
        while (auto line = co_await peer.recv()) {
            auto sent = co_await peer.send(line_message(std::to_string(number) + ":" + line->text()));
            if (!sent)
                break;
        }
        --open;
    }
};

} // namespace

TEST_CASE("a client asks and is answered") {
    echo_server<lines> server(2);
    auto answer = server.rt.sync_wait([](endpoint where) -> task<std::string> {
        client<lines> c{where};
        CHECK(c.peer() == where);
        auto first = co_await c.request(line_message("one"));
        auto second = co_await c.request(line_message("two"));
        co_return first->text() + " " + second->text();
    }(server.local));
    CHECK(answer == "one two");
}

TEST_CASE("a client over a name, IPv6 and a unix socket") {
    temp_dir dir;
    for (const endpoint &where :
         {endpoint("127.0.0.1", 0), endpoint("::1", 0), endpoint::unix_path(dir / "door")}) {
        echo_server<lines> server(1, where);
        server.rt.sync_wait([](endpoint at) -> task<> {
            client<lines> c{at};
            auto answer = co_await c.request(line_message("hello"));
            CHECK(answer->text() == "hello");
            if (at.host() == "127.0.0.1") {
                client<lines> by_name{endpoint("localhost", at.port())};
                answer = co_await by_name.request(line_message("by name"));
                CHECK(answer->text() == "by name");
            }
        }(server.local));
    }
}

TEST_CASE("requests with messages of the caller's") {
    echo_server<packets> server(1);
    server.rt.sync_wait([](endpoint where) -> task<> {
        client<packets> c{where};
        parley::length_prefixed question(std::string(100'000, 'q')), answer;
        for (int i = 0; i < 10; i++) {
            question.data()[i] = static_cast<char>(i);
            auto asked = co_await c.request(question, answer);
            CHECK(asked);
            CHECK(answer.body() == question.body());
        }
    }(server.local));
}

TEST_CASE("a request that has a name may be awaited again, and each end is its own") {
    std::optional<echo_server<lines>> server(std::in_place, 1);
    runtime rt(with_loops(1));
    rt.sync_wait([](std::optional<echo_server<lines>> &other) -> task<> {
        client<lines> c{other->local};
        const line_message question("one");
        line_message answer;
        auto asking = c.request(question, answer);
        for (int i = 0; i < 2; i++) {
            auto answered = co_await asking;
            CHECK(answered);
            CHECK(answer.text() == "one");
        }
        co_await parley::compute([&other] { other.reset(); });
        auto refused = co_await asking;
        CHECK_FALSE(refused);
        CHECK(refused.error().peer() == c.peer().to_string());
    }(server));
}

TEST_CASE("connections are kept and used again") {
    counting_server counter;
    runtime rt(with_loops(1));
    rt.sync_wait([](counting_server &s) -> task<> {
        auto handler = [&s](connection<lines> peer) { return s.handle(std::move(peer)); };
        parley::server<lines> door(endpoint("127.0.0.1", 0), handler);
        auto where = co_await door.listen();
        client<lines> c{*where};
        for (int i = 0; i < 10; i++) {
            auto answer = co_await c.request(line_message("x"));
            CHECK(answer->text() == "1:x");
        }
        client_options options;
        options.keep_alive(0s);
        client<lines> forgetful(*where, options);
        for (int i = 2; i < 5; i++) {
            auto answer = co_await forgetful.request(line_message("y"));
            CHECK(answer->text() == std::to_string(i) + ":y");
        }
        auto closed = co_await door.close();
    }(counter));
}

TEST_CASE("a thousand requests at once go over four sockets, all answered") {
    counting_server counter;
    runtime rt(with_loops(2));
    rt.sync_wait([](counting_server &s) -> task<> {
        auto handler = [&s](connection<lines> peer) { return s.handle(std::move(peer)); };
        parley::server<lines> door(endpoint("127.0.0.1", 0), handler);
        auto where = co_await door.listen();
        client_options options;
        options.max_connections(4);
        client<lines> c(*where, options);
        int answered = 0;
        co_await parley::with_scope([&](parley::scope &all) -> task<> {
            for (int i = 0; i < 1000; i++) {
                all.spawn([](client<lines> &asks, int n, int &count) -> task<> {
                    auto answer = co_await asks.request(line_message(std::to_string(n)));
                    CHECK(answer->text().ends_with(":" + std::to_string(n)));
                    count++;
                }(c, i, answered));
            }
            co_return;
        });
        CHECK(answered == 1000);
        CHECK(s.accepted <= 4);
        auto closed = co_await door.close();
    }(counter));
}

TEST_CASE("a full pool is waited for in the order of the requests") {
    echo_server<lines> server(1);
    server.rt.sync_wait([](endpoint where) -> task<> {
        client_options options;
        options.max_connections(1);
        client<lines> c(where, options);
        std::vector<int> order;
        co_await parley::with_scope([&](parley::scope &all) -> task<> {
            for (int i = 0; i < 200; i++) {
                all.spawn([](client<lines> &asks, int n, std::vector<int> &out) -> task<> {
                    auto answer = co_await asks.request(line_message("x"));
                    CHECK(answer);
                    out.push_back(n);
                }(c, i, order));
            }
            co_return;
        });
        CHECK(order.size() == 200);
        CHECK(std::is_sorted(order.begin(), order.end()));
    }(server.local));
}

TEST_CASE("clients of two loops share four sockets") {
    counting_server counter;
    runtime rt(with_loops(2));
    std::unique_ptr<client<lines>> shared;
    inbox<endpoint> listening;
    inbox<int> done;
    background running(rt, rt.loop(0),
                       [](counting_server &s, inbox<endpoint> &at, inbox<int> &end) -> task<> {
                           auto handler = [&s](connection<lines> peer) { return s.handle(std::move(peer)); };
                           parley::server<lines> door(endpoint("127.0.0.1", 0), handler);
                           auto where = co_await door.listen();
                           at.put(*where);
                           co_await parley::compute([&end] { end.take(); });
                       }(counter, listening, done));
    client_options options;
    options.max_connections(4);
    shared = std::make_unique<client<lines>>(listening.take(), options);
    std::atomic<int> answered{0};
    {
        std::deque<background> both;
        for (std::size_t loop = 0; loop < 2; loop++) {
            both.emplace_back(rt, rt.loop(loop), [](client<lines> &c, std::atomic<int> &n) -> task<> {
                co_await parley::with_scope([&](parley::scope &all) -> task<> {
                    for (int i = 0; i < 500; i++) {
                        all.spawn([](client<lines> &asks, std::atomic<int> &count) -> task<> {
                            auto answer = co_await asks.request(line_message("x"));
                            if (answer)
                                ++count;
                            else
                                MESSAGE(to_string(answer.error()));
                        }(c, n));
                    }
                    co_return;
                });
            }(*shared, answered));
        }
    }
    CHECK(answered == 1000);
    CHECK(counter.most <= 4);
    done.put(1);
}

TEST_CASE("a refused connection is an error with stage and peer, and the client can be used on") {
    runtime rt(with_loops(1));
    rt.sync_wait([]() -> task<> {
        endpoint where;
        {
            acceptor<lines> door{endpoint{"127.0.0.1", 0}};
            where = door.local_endpoint().value();
            co_await door.close();
        }
        client<lines> c{where};
        auto answer = co_await c.request(line_message("anybody?"));
        CHECK(answer.error() == std::errc::connection_refused);
        CHECK(answer.error().stage() == parley::stage::connect);
        CHECK(answer.error().peer() == where.to_string());

        parley::server<lines> door(where, echo<lines>);
        auto local = co_await door.listen();
        CHECK(local);
        answer = co_await c.request(line_message("now?"));
        CHECK(answer->text() == "now?");
    }());
}

TEST_CASE("a name that nobody knows is an error of the resolver, each time") {
    runtime rt(with_loops(1));
    rt.sync_wait([]() -> task<> {
        client<lines> c{endpoint{"no-such-host.invalid", 80}};
        for (int i = 0; i < 2; i++) {
            auto answer = co_await c.request(line_message("x"));
            CHECK(answer.error().stage() == parley::stage::resolve);
            CHECK(answer.error().code().category() == parley::resolve_category());
            CHECK(answer.error().peer() == "no-such-host.invalid:80");
        }
    }());
}

TEST_CASE("an answer that cannot be parsed is an error with stage and peer") {
    runtime rt(with_loops(1));
    rt.sync_wait([]() -> task<> {
        parley::server<lines> door(endpoint("127.0.0.1", 0), echo<lines>);
        auto where = co_await door.listen();
        struct asks_lines {
            using request = line_message;
            using response = parley::length_prefixed;
        };
        client<asks_lines> c{*where};
        auto answer = co_await c.request(line_message("\xff\xff\xff\xff"));
        CHECK(answer.error() == std::errc::message_size);
        CHECK(answer.error().stage() == parley::stage::receive);
        CHECK(answer.error().peer() == where->to_string());
    }());
}

TEST_CASE("a server that closes instead of answering is an error") {
    runtime rt(with_loops(1));
    rt.sync_wait([]() -> task<> {
        auto handler = [](connection<lines> peer) -> task<> { auto line = co_await peer.recv(); };
        parley::server<lines> door(endpoint("127.0.0.1", 0), handler);
        auto where = co_await door.listen();
        client<lines> c{*where};
        auto answer = co_await c.request(line_message("x"));
        CHECK(answer.error() == std::errc::connection_reset);
    }());
}

TEST_CASE("a retriable request is sent again when its kept connection was closed") {
    runtime rt(with_loops(1));
    rt.sync_wait([]() -> task<> {
        // Answers one request per connection and closes at the second one.
        auto handler = [](connection<lines> peer) -> task<> {
            auto line = co_await peer.recv();
            auto sent = co_await peer.send(*line);
            line = co_await peer.recv();
        };
        parley::server<lines> door(endpoint("127.0.0.1", 0), handler);
        auto where = co_await door.listen();
        client<lines> plain{*where};
        auto answer = co_await plain.request(line_message("1"));
        CHECK(answer);
        answer = co_await plain.request(line_message("2"));
        CHECK(!answer);

        client_options options;
        options.retriable();
        client<lines> stubborn(*where, options);
        answer = co_await stubborn.request(line_message("1"));
        CHECK(answer);
        answer = co_await stubborn.request(line_message("2"));
        CHECK(answer->text() == "2");
    }());
}

TEST_CASE("limits of time name their stage") {
    runtime rt(with_loops(1));
    rt.sync_wait([]() -> task<> {
        auto silent = [](connection<lines> peer) -> task<> {
            auto line = co_await peer.recv();
            co_await parley::sleep_for(std::chrono::hours(1));
        };
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            parley::server<lines> mute(endpoint("127.0.0.1", 0), silent);
            auto where = co_await mute.listen();
            s.spawn([](parley::server<lines> &d) -> task<> { auto served = co_await d.serve(); }(mute));

            client_options options;
            options.first_byte_limit(20ms);
            client<lines> first(*where, options);
            auto answer = co_await first.request(line_message("x"));
            CHECK(answer.error() == errc::timed_out);
            CHECK(answer.error().stage() == parley::stage::first_byte);
            CHECK(answer.error().elapsed() >= 19ms);

            client_options total;
            total.receive_limit(20ms);
            client<lines> second(*where, total);
            answer = co_await second.request(line_message("x"));
            CHECK(answer.error() == errc::timed_out);
            CHECK(answer.error().stage() == parley::stage::receive);
            s.cancel();
            co_await parley::yield();
        });
    }());
}

TEST_CASE("a client that is dropped while its request is under way lets it end") {
    echo_server<lines> server(1);
    server.rt.sync_wait([](endpoint where) -> task<> {
        bool answered = false;
        auto c = std::make_unique<client<lines>>(where);
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([](client<lines> &asks, bool &out) -> task<> {
                auto answer = co_await asks.request(line_message("x"));
                out = bool(answer);
            }(*c, answered));
            co_await parley::yield();
            c.reset();
        });
        CHECK(answered);
    }(server.local));
}

TEST_CASE("a cancelled request closes its connection, and a waiting one leaves the queue") {
    runtime rt(with_loops(1));
    rt.sync_wait([]() -> task<> {
        inbox<int> closed;
        auto handler = [&closed](connection<lines> peer) -> task<> {
            while (auto line = co_await peer.recv()) {
                if (line->text() == "quick") {
                    auto sent = co_await peer.send(*line);
                    continue;
                }
                // The answer would come only when the client has gone.
                auto gone = co_await peer.recv();
                closed.put(1);
            }
        };
        parley::server<lines> door(endpoint("127.0.0.1", 0), handler, [] {
            parley::serve_options options;
            options.max_pipeline(2);
            return options;
        }());
        auto where = co_await door.listen();
        client_options options;
        options.max_connections(1);
        client<lines> c(*where, options);
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            for (int i = 0; i < 3; i++) {
                s.spawn([](client<lines> &asks) -> task<> {
                    auto answer = co_await asks.request(line_message("slow"));
                    CHECK(!answer); // not reached
                }(c));
            }
            co_await parley::sleep_for(10ms); // the first may or may not be connected: all must end alike
            s.cancel();
        });
        auto answer = co_await c.request(line_message("quick"));
        CHECK(answer->text() == "quick");
    }());
}

TEST_CASE("requests under way end when the runtime stops") {
    auto handler = [](connection<lines> peer) -> task<> {
        auto line = co_await peer.recv();
        co_await parley::sleep_for(std::chrono::hours(1));
    };
    runtime rt(with_loops(2));
    inbox<int> asked;
    background running(rt, [](auto &h, inbox<int> &ready) -> task<> {
        parley::server<lines> door(endpoint("127.0.0.1", 0), h);
        auto where = co_await door.listen();
        client<lines> c{*where};
        ready.put(1);
        auto answer = co_await c.request(line_message("x"));
        CHECK(false); // not reached
    }(handler, asked));
    asked.take();
    rt.stop();
    CHECK(!running.join());
}

TEST_CASE("a client may outlive its runtime") {
    client<lines> c{endpoint("127.0.0.1", 1)};
    {
        echo_server<lines> server(1);
        c = client<lines>{server.local};
        auto answer = server.rt.sync_wait(ask(c, "x"));
        CHECK(answer);
    }
    c.close_idle();
}
