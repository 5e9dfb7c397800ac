// The demo's echo server in callbacks: one session for each message, which answers it with itself and is
// gone.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <mutex>

#include <parley/core/Communicator.h>
#include <parley/endpoint.hpp>

class echo_service final : public CommService {
public:
    explicit echo_service(Communicator &comm) noexcept : comm_(comm) {}
    // Closes, if it is open.
    ~echo_service() override;

    // Listens on a port of 127.0.0.1 that the kernel picks. Throws std::system_error.
    parley::endpoint open();
    // Stops listening, lets requests in flight be answered and waits until nothing is left. Not on a loop.
    void close();

    // Sessions of all services that have begun and not ended.
    static std::size_t unfinished_sessions() noexcept;

private:
    CommSession *new_session(long long seq, CommConnection *connection) override;
    void handle_unbound() override;

    Communicator &comm_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool bound_ = false;
};
