// A server of one connection, for tests of what a connection does.

#pragma once

#include <utility>

#include "net.hpp"

namespace net {

// Runs `serve_one` for one connection of an acceptor on a runtime with one loop.
template <class P, class F>
class one_server {
public:
    explicit one_server(F serve_one, parley::acceptor_options options = {})
        : rt(with_loops(1)), serve_one_(std::move(serve_one)), running_(rt, run(std::move(options))) {
        local = listening_.take();
    }

    parley::runtime rt;
    parley::endpoint local;
    bool join() { return running_.join(); }

private:
    parley::task<> run(parley::acceptor_options options) {
        parley::acceptor<P> door(parley::endpoint("127.0.0.1", 0), options);
        listening_.put(door.local_endpoint().value());
        auto peer = co_await door.accept();
        co_await serve_one_(std::move(*peer));
    }

    F serve_one_;
    inbox<parley::endpoint> listening_;
    background running_;
};

template <class P = lines, class F>
one_server<P, F> serve_one(F f, parley::acceptor_options options = {}) {
    return one_server<P, F>(std::move(f), std::move(options));
}

} // namespace net
