#include "one_server.hpp"

#include <thread>

using namespace net;
using parley::acceptor;
using parley::connection;
using parley::endpoint;
using parley::errc;
using parley::line_message;
using parley::runtime;
using parley::task;

TEST_CASE("recv by value and into a message, send borrowed and owned") {
    auto server = serve_one([](connection<lines> peer) -> task<> {
        auto first = co_await peer.recv();
        auto sent = co_await peer.send(*first);
        CHECK(sent);
        line_message line;
        auto received = co_await peer.recv(line);
        CHECK(received);
        sent = co_await peer.send(std::move(line));
        CHECK(sent);
        auto third = co_await peer.recv();
        sent = co_await peer.send(line_message("3: " + third->text()));
        CHECK(sent);
    });
    raw_peer client(server.local);
    client.send("one\ntwo\nthree\n");
    CHECK(client.recv_line() == "one");
    CHECK(client.recv_line() == "two");
    CHECK(client.recv_line() == "3: three");
    CHECK(client.is_closed_by_peer());
}

TEST_CASE("recv at a clean end is end_of_stream, and so is the next one") {
    inbox<parley::error> ended;
    auto server = serve_one([&ended](connection<lines> peer) -> task<> {
        auto first = co_await peer.recv();
        ended.put(first.error());
        auto second = co_await peer.recv();
        ended.put(second.error());
        auto sent = co_await peer.send(line_message("nobody"));
        ended.put(sent.error());
    });
    raw_peer client(server.local);
    std::string peer = client.local().to_string();
    client.close();
    parley::error first = ended.take();
    CHECK(first == errc::end_of_stream);
    CHECK(first.peer() == peer);
    CHECK(ended.take() == errc::end_of_stream);
    ended.take(); // which of its errors it is depends on when the close comes
}

TEST_CASE("a half-closed client is answered, then comes the end of the stream") {
    inbox<bool> clean;
    auto server = serve_one([&clean](connection<lines> peer) -> task<> {
        auto line = co_await peer.recv();
        auto sent = co_await peer.send(*line);
        CHECK(sent);
        auto next = co_await peer.recv();
        clean.put(!next && next.error() == errc::end_of_stream);
    });
    raw_peer client(server.local);
    client.send("question\n");
    client.half_close();
    CHECK(client.recv_all() == "question\n");
    CHECK(clean.take());
}

TEST_CASE("pipelined requests of a half-closed client are all answered") {
    auto server = serve_one(echo<lines>);
    raw_peer client(server.local);
    std::string all;
    for (int i = 0; i < 1000; i++)
        all += "line " + std::to_string(i) + "\n";
    client.send(all);
    client.half_close();
    CHECK(client.recv_all() == all);
}

TEST_CASE("send without a request that awaits its answer is no_turn") {
    inbox<parley::error> failure;
    auto server = serve_one([&failure](connection<lines> peer) -> task<> {
        auto sent = co_await peer.send(line_message("unasked"));
        failure.put(sent.error());
        auto line = co_await peer.recv();
        sent = co_await peer.send(*line);
        CHECK(sent);
        sent = co_await peer.send(*line);
        failure.put(sent.error());
    });
    raw_peer client(server.local);
    client.send("x\n");
    CHECK(client.recv_line() == "x");
    CHECK(failure.take() == errc::no_turn);
    CHECK(failure.take() == errc::no_turn);
    CHECK(client.is_closed_by_peer());
}

TEST_CASE(
    "up to max_pipeline requests are received before the first is answered, and answers keep their order") {
    parley::acceptor_options options;
    options.max_pipeline(3);
    auto server = serve_one(
        [](connection<lines> peer) -> task<> {
            std::deque<line_message> open;
            for (int i = 0; i < 3; i++) {
                auto line = co_await peer.recv();
                open.push_back(std::move(*line));
            }
            for (const line_message &one : open) {
                auto sent = co_await peer.send(one);
                CHECK(sent);
            }
        },
        options);
    raw_peer client(server.local);
    client.send("a\nb\nc\nd\n");
    CHECK(client.recv_line() == "a");
    CHECK(client.recv_line() == "b");
    CHECK(client.recv_line() == "c");
    CHECK(client.is_closed_by_peer());
}

TEST_CASE("recv beyond max_pipeline waits until a request was answered") {
    auto server = serve_one([](connection<lines> peer) -> task<> {
        auto first = co_await peer.recv();
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            bool received = false;
            s.spawn([](connection<lines> &p, bool &done) -> task<> {
                auto second = co_await p.recv();
                done = true;
                auto sent = co_await p.send(*second);
                CHECK(sent);
            }(peer, received));
            for (int i = 0; i < 10; i++)
                co_await parley::yield();
            CHECK(!received);
            auto sent = co_await peer.send(*first);
            CHECK(sent);
        });
    });
    raw_peer client(server.local);
    client.send("1\n2\n");
    CHECK(client.recv_line() == "1");
    CHECK(client.recv_line() == "2");
}

TEST_CASE("a second recv at the same time is refused and the first one goes on") {
    inbox<parley::error> refused;
    auto server = serve_one([&refused](connection<lines> peer) -> task<> {
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([](connection<lines> &p) -> task<> {
                auto line = co_await p.recv();
                auto sent = co_await p.send(*line);
                CHECK(sent);
            }(peer));
            co_await parley::yield();
            auto second = co_await peer.recv();
            refused.put(second.error());
        });
    });
    raw_peer client(server.local);
    CHECK(refused.take() == std::errc::device_or_resource_busy);
    client.send("still here\n");
    CHECK(client.recv_line() == "still here");
}

TEST_CASE("a cancelled recv loses nothing: the next one gets the message") {
    inbox<int> parked;
    auto server = serve_one([&parked](connection<lines> peer) -> task<> {
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([](connection<lines> &p) -> task<> {
                auto line = co_await p.recv();
                CHECK(!line); // not reached
            }(peer));
            co_await parley::yield();
            s.cancel();
        });
        parked.put(1);
        auto line = co_await peer.recv();
        auto sent = co_await peer.send(*line);
        CHECK(sent);
    });
    raw_peer client(server.local);
    client.send("half");
    parked.take();
    client.send(" and half\n");
    CHECK(client.recv_line() == "half and half");
}

TEST_CASE("push sends at any time, in order with answers") {
    auto server = serve_one([](connection<lines> peer) -> task<> {
        auto pushed = co_await peer.push(line_message("welcome"));
        CHECK(pushed);
        auto line = co_await peer.recv();
        pushed = co_await peer.push(line_message("working"));
        CHECK(pushed);
        auto sent = co_await peer.send(*line);
        CHECK(sent);
        pushed = co_await peer.push(line_message("done"));
        CHECK(pushed);
    });
    raw_peer client(server.local);
    CHECK(client.recv_line() == "welcome");
    client.send("job\n");
    CHECK(client.recv_line() == "working");
    CHECK(client.recv_line() == "job");
    CHECK(client.recv_line() == "done");
}

TEST_CASE("push to a peer that is gone is an error") {
    inbox<parley::error> failure;
    auto server = serve_one([&failure](connection<lines> peer) -> task<> {
        auto line = co_await peer.recv();
        CHECK(!line);
        for (;;) {
            auto pushed = co_await peer.push(line_message("hello?"));
            if (!pushed) {
                failure.put(pushed.error());
                co_return;
            }
        }
    });
    raw_peer client(server.local);
    client.reset();
    CHECK(failure.take().code());
}

TEST_CASE("operations on another loop than the connection's are refused") {
    runtime rt(with_loops(2));
    inbox<endpoint> listening;
    background server(rt, rt.loop(0), [](inbox<endpoint> &at, parley::loop &other) -> task<> {
        acceptor<lines> door{endpoint{"127.0.0.1", 0}};
        at.put(door.local_endpoint().value());
        auto peer = co_await door.accept();
        parley::loop &home = parley::this_loop();
        co_await parley::resume_on(other);
        auto line = co_await peer->recv();
        CHECK(line.error() == std::errc::operation_not_permitted);
        auto sent = co_await peer->send(line_message("x"));
        CHECK(sent.error() == std::errc::operation_not_permitted);
        auto pushed = co_await peer->push(line_message("x"));
        CHECK(pushed.error() == std::errc::operation_not_permitted);
        auto accepted = co_await door.accept();
        CHECK(accepted.error() == std::errc::operation_not_permitted);
        co_await parley::resume_on(home);
        line = co_await peer->recv();
        CHECK(line);
    }(listening, rt.loop(1)));
    raw_peer client(listening.take());
    client.send("x\n");
    CHECK(client.is_closed_by_peer());
}

TEST_CASE("an unparsable message closes its connection only, with peer, stage and reason") {
    inbox<parley::error> failure;
    runtime rt(with_loops(1));
    inbox<endpoint> listening;
    background server(rt, [](inbox<endpoint> &at, inbox<parley::error> &out) -> task<> {
        acceptor<packets> door{endpoint{"127.0.0.1", 0}};
        at.put(door.local_endpoint().value());
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            while (auto peer = co_await door.accept()) {
                s.spawn([](connection<packets> p, inbox<parley::error> &o) -> task<> {
                    for (;;) {
                        auto packet = co_await p.recv();
                        if (!packet) {
                            o.put(packet.error());
                            co_return;
                        }
                        auto sent = co_await p.send(*packet);
                        CHECK(sent);
                    }
                }(std::move(*peer), out));
            }
        });
    }(listening, failure));

    endpoint where = listening.take();
    raw_peer good(where), bad(where);
    good.send(std::string("\0\0\0\2ok", 6));
    bad.send("\xff\xff\xff\xff");
    CHECK(bad.is_closed_by_peer());
    parley::error why = failure.take();
    CHECK(why == std::errc::message_size);
    CHECK(why.stage() == parley::stage::receive);
    CHECK(why.peer() == bad.local().to_string());
    good.half_close();
    CHECK(good.recv_all() == std::string("\0\0\0\2ok", 6));
    rt.stop();
}

TEST_CASE("a stream that ends inside a message is an error, not the end of the stream") {
    inbox<parley::error> failure;
    auto server = serve_one([&failure](connection<lines> peer) -> task<> {
        auto line = co_await peer.recv();
        failure.put(line.error());
    });
    raw_peer client(server.local);
    client.send("half a li");
    client.half_close();
    parley::error why = failure.take();
    CHECK(why != errc::end_of_stream);
    CHECK(why == std::errc::connection_reset);
    CHECK(why.stage() == parley::stage::receive);
}

TEST_CASE("limits of time name their stage") {
    SUBCASE("idle") {
        parley::acceptor_options options;
        options.idle_limit(20ms);
        inbox<parley::error> failure;
        auto server = serve_one(
            [&failure](connection<lines> peer) -> task<> {
                auto line = co_await peer.recv();
                auto sent = co_await peer.send(*line);
                line = co_await peer.recv();
                failure.put(line.error());
            },
            options);
        raw_peer client(server.local);
        client.send("x\n");
        parley::error why = failure.take();
        CHECK(why == errc::timed_out);
        CHECK(why.stage() == parley::stage::idle);
        CHECK(why.elapsed() >= 19ms);
    }
    SUBCASE("receive") {
        parley::acceptor_options options;
        options.receive_limit(20ms);
        inbox<parley::error> failure;
        auto server = serve_one(
            [&failure](connection<lines> peer) -> task<> {
                auto line = co_await peer.recv();
                failure.put(line.error());
            },
            options);
        raw_peer client(server.local);
        client.send("half a line");
        parley::error why = failure.take();
        CHECK(why == errc::timed_out);
        CHECK(why.stage() == parley::stage::receive);
        CHECK(to_string(why).starts_with("timed out: receive, 127.0.0.1:"));
    }
    SUBCASE("gap") {
        parley::acceptor_options options;
        options.gap_limit(20ms);
        inbox<parley::error> failure;
        auto server = serve_one(
            [&failure](connection<lines> peer) -> task<> {
                auto line = co_await peer.recv();
                failure.put(line.error());
            },
            options);
        raw_peer client(server.local);
        client.send("half a line");
        parley::error why = failure.take();
        CHECK(why == errc::timed_out);
        CHECK(why.stage() == parley::stage::gap);
    }
    SUBCASE("first message") {
        parley::acceptor_options options;
        options.first_message_limit(20ms);
        inbox<parley::error> failure;
        auto server = serve_one(
            [&failure](connection<lines> peer) -> task<> {
                auto line = co_await peer.recv();
                failure.put(line.error());
            },
            options);
        raw_peer client(server.local);
        parley::error why = failure.take();
        CHECK(why == errc::timed_out);
        CHECK(why.stage() == parley::stage::receive);
    }
    SUBCASE("send") {
        parley::acceptor_options options;
        options.send_limit(50ms);
        inbox<parley::error> failure;
        auto server = serve_one<packets>(
            [&failure](connection<packets> peer) -> task<> {
                auto packet = co_await peer.recv();
                parley::length_prefixed large;
                std::memset(large.resize_for_overwrite(32u << 20), 'x', 32u << 20);
                auto sent = co_await peer.send(large);
                failure.put(sent.error());
            },
            options);
        raw_peer client(server.local);
        client.send(std::string("\0\0\0\1x", 5)); // and takes nothing
        parley::error why = failure.take();
        CHECK(why == errc::timed_out);
        CHECK(why.stage() == parley::stage::send);
        CHECK(why.elapsed() >= 40ms);
    }
}

TEST_CASE("a send whose peer resets is an error") {
    inbox<parley::error> failure;
    auto server = serve_one<packets>([&failure](connection<packets> peer) -> task<> {
        auto packet = co_await peer.recv();
        parley::length_prefixed large;
        std::memset(large.resize_for_overwrite(32u << 20), 'x', 32u << 20);
        auto sent = co_await peer.send(large);
        failure.put(sent.error());
        packet = co_await peer.recv();
        failure.put(packet.error());
    });
    raw_peer client(server.local);
    client.send(std::string("\0\0\0\1x", 5));
    char byte;
    REQUIRE(::recv(client.fd(), &byte, 1, 0) == 1); // the answer is under way
    client.reset();
    CHECK(failure.take().code());
    CHECK(failure.take().code());
}

TEST_CASE("a cancelled send closes the connection") {
    auto server = serve_one<packets>([](connection<packets> peer) -> task<> {
        auto packet = co_await peer.recv();
        parley::length_prefixed large;
        std::memset(large.resize_for_overwrite(32u << 20), 'x', 32u << 20);
        co_await parley::with_scope([&](parley::scope &s) -> task<> {
            s.spawn([](connection<packets> &p, const parley::length_prefixed &answer) -> task<> {
                auto sent = co_await p.send(answer);
                CHECK(!sent); // not reached
            }(peer, large));
            co_await parley::yield();
            s.cancel();
        });
        auto next = co_await peer.recv();
        CHECK(next.error() == errc::closed);
    });
    raw_peer client(server.local);
    client.send(std::string("\0\0\0\1x", 5));
    std::string got = client.recv_all();
    CHECK(got.size() < (32u << 20));
}

TEST_CASE("the end of the runtime stops a parked recv and closes the connection") {
    auto server = serve_one([](connection<lines> peer) -> task<> {
        auto line = co_await peer.recv();
        auto sent = co_await peer.send(*line);
        line = co_await peer.recv();
        CHECK(false); // not reached
    });
    raw_peer client(server.local);
    client.send("x\n");
    CHECK(client.recv_line() == "x");
    server.rt.stop();
    CHECK(!server.join());
    CHECK(client.is_closed_by_peer());
}

TEST_CASE("a 64 MiB upload to a peer that echoes while it reads comes back whole") {
    auto server = serve_one<packets>(frugal_echo<packets>);
    raw_peer client(server.local);
    constexpr std::size_t size = std::size_t{64} << 20;
    std::string body(size, '\0');
    for (std::size_t i = 0; i < size; i += 4096)
        body[i] = static_cast<char>(i >> 12);
    std::string header{'\x04', '\0', '\0', '\0'};
    client.send(header);
    client.send(body);
    client.half_close();
    std::string back = client.recv_all();
    CHECK(back.size() == size + 4);
    CHECK(back.compare(0, 4, header) == 0);
    CHECK(back.compare(4, std::string::npos, body) == 0);
}

TEST_CASE("a thousand pipelined messages of 64 KiB come back whole while both directions are full") {
    auto server = serve_one<packets>(frugal_echo<packets>);
    raw_peer client(server.local);
    std::string packet = std::string("\0\1\0\0", 4) + std::string(65536, 'p');
    std::thread writer([&client, &packet] {
        for (int i = 0; i < 1024; i++)
            client.send(packet);
        client.half_close();
    });
    std::string back = client.recv_all();
    writer.join();
    CHECK(back.size() == packet.size() * 1024);
}
