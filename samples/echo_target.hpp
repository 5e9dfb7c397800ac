// A server for lines and a CommTarget that leads to it, for 13_callbacks_to_co_await.cpp.

#pragma once

#include <system_error>

#include <sys/socket.h>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

class echo_target : public CommTarget {
public:
    ~echo_target() { deinit(); }

    // Opens a port, and serves it until the object ends. Once.
    parley::task<> open() {
        auto local = co_await door_.listen();
        struct sockaddr_storage address;
        const socklen_t length = local.value().to_sockaddr(address).value();
        if (init(reinterpret_cast<struct sockaddr *>(&address), length, 1000, 1000) < 0)
            throw std::system_error(errno, std::system_category(), local->to_string());
    }

private:
    struct lines {
        using request = parley::line_message;
        using response = parley::line_message;
    };
    static parley::task<> echo(parley::connection<lines> peer) {
        while (auto line = co_await peer.recv())
            if (auto sent = co_await peer.send(*line); !sent)
                co_return;
    }
    parley::server<lines> door_{parley::endpoint("127.0.0.1", 0), echo};
};
