#include "echo_service.h"

#include <cerrno>
#include <system_error>

#include <parley/protocol/length_prefixed.hpp>

namespace {

std::atomic<std::size_t> unfinished{0};

class echo_session final : public CommSession {
public:
    explicit echo_session(Communicator &comm) noexcept : comm_(comm) { unfinished++; }
    ~echo_session() override { unfinished--; }

private:
    CommMessageIn *message_in() override { return &message_; }
    CommMessageOut *message_out() override { return &message_; }
    int keep_alive_timeout() override { return -1; }
    void handle(int state, int) override {
        // The reply's own completion comes here too, perhaps before reply() returns.
        if (state != CS_STATE_TOREPLY || comm_.reply(this) < 0)
            delete this;
    }

    Communicator &comm_;
    parley::length_prefixed message_;
};

[[noreturn]] void throw_errno(const char *what) {
    throw std::system_error(errno, std::system_category(), what);
}

} // namespace

parley::endpoint echo_service::open() {
    struct sockaddr_storage storage;
    auto *address = reinterpret_cast<struct sockaddr *>(&storage);
    socklen_t size = parley::endpoint("127.0.0.1", 0).to_sockaddr(storage).value();
    if (init(address, size, -1, -1) < 0)
        throw_errno("the callback server");
    if (comm_.bind(this) < 0) {
        const int error = errno;
        deinit();
        errno = error;
        throw_errno("the callback server");
    }
    bound_ = true;
    get_local_addr(address, &size);
    return parley::endpoint(address, size);
}

void echo_service::close() {
    std::unique_lock lock(mutex_);
    if (!bound_)
        return;
    lock.unlock();
    comm_.unbind(this);
    lock.lock();
    changed_.wait(lock, [this] { return !bound_; });
    deinit();
}

echo_service::~echo_service() {
    close();
}

std::size_t echo_service::unfinished_sessions() noexcept {
    return unfinished;
}

CommSession *echo_service::new_session(long long, CommConnection *) {
    return new echo_session(comm_);
}

void echo_service::handle_unbound() {
    std::lock_guard lock(mutex_);
    bound_ = false;
    changed_.notify_one(); // under the lock: who waits may destroy this at once
}
