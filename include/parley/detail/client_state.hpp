// What stands behind a client<P>: where its peer is, and one request to it.

#pragma once

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <parley/config.hpp>
#include <parley/core/CommScheduler.h>
#include <parley/core/Communicator.h>
#include <parley/core/Sync.h>
#include <parley/detail/context.hpp>
#include <parley/detail/query.hpp>
#include <parley/detail/saturate.hpp>
#include <parley/endpoint.hpp>
#include <parley/error.hpp>
#include <parley/tls.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

struct client_settings {
    tls::context tls;
    std::string server_name; // for SNI and the certificate; the endpoint's host where empty
    std::size_t max_connections = 100;
    std::int64_t resolve = -1; // these three in nanoseconds, negative is none
    std::int64_t pool_wait = -1;
    std::int64_t total = -1;
    int connect = 10'000; // milliseconds, as the core wants them
    int gap = 60'000;
    int first_byte = 0; // off
    int receive = -1;
    int keep_alive = 60'000;
    CommDeadlines deadlines{30'000, 10'000, 60'000};
    bool own_deadlines = false; // else the runtime's
    bool retriable = false;
};

// One address of the peer, with the pool of connections to it.
class client_target final : public CommSchedTarget {
public:
    // 0, or -1 with errno.
    int open(const endpoint &where, const client_settings &settings, const std::string &host);
    [[nodiscard]] const endpoint &where() const noexcept { return where_; }

private:
    int init_ssl(SSL *ssl) override { return tls::context::prepare_client(ssl, host_, where_.port()); }

    endpoint where_;
    std::string host_;
};

// Shared by the handle and the requests under way, on all loops.
class client_state {
public:
    client_state(endpoint where, client_settings settings);
    ~client_state();

    // All addresses of the peer, in order of preference; the newest answer of the resolver.
    struct addresses {
        std::vector<std::unique_ptr<client_target>> targets;
        sync::atomic<std::size_t> preferred{0}; // the one that answered last
    };
    // nullptr: not resolved yet.
    [[nodiscard]] addresses *current() const noexcept { return current_.load(sync::memory_order_acquire); }
    // Makes targets of what the resolver found, or keeps the present ones if it found the same. Any thread;
    // throws std::bad_alloc or std::system_error.
    addresses *adopt(const std::vector<endpoint> &found);
    // None of them could be reached: the next request resolves again. Any thread.
    void forget(addresses *stale) noexcept;

    void close_idle() noexcept;

    const endpoint where;
    const client_settings settings;
    const std::string host; // for TLS

private:
    sync::atomic<addresses *> current_{nullptr};
    sync::mutex mutex_;                             // for known_
    std::vector<std::unique_ptr<addresses>> known_; // all there ever were: requests may be under way to them
};

// A request, from the first name to the last byte: a session of the core in the frame of who awaits it. The
// derived class has the messages.
//
//   | phase     | waits for             | becomes                                            |
//   |-----------|-----------------------|----------------------------------------------------|
//   | idle      |                       | resolving, queued or in_flight, by await_suspend() |
//   | resolving | the resolver          | queued or in_flight; done                          |
//   | queued    | a place in the pool   | in_flight; done                                    |
//   | in_flight | handle()              | queued or in_flight at the next address; done      |
//   | done      | the timer, if it runs |                                                    |
class client_operation : private CommSession,
                         private CommSlotWaiter,
                         private query_client,
                         private operation {
public:
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<>, context &task) noexcept;
    client_operation(client_operation &&) = delete;

protected:
    explicit client_operation(std::shared_ptr<client_state> state) noexcept;
    ~client_operation() override = default;
    [[nodiscard]] bool succeeded() const noexcept { return succeeded_; }
    [[nodiscard]] const error &why() const noexcept { return failure_; }

private:
    enum class phase : std::uint8_t { idle, resolving, queued, in_flight, done };

    // For the limits that the core does not know: of resolving, of the queue, of the whole.
    class timer final : public SleepSession {
    public:
        explicit timer(client_operation &owner) noexcept : owner_(owner) {}

    private:
        int duration(struct timespec *value) override;
        void handle(int state, int) override { owner_.timer_ended(state); }
        bool handle_in_place() override { return true; }
        client_operation &owner_;
    };

    // CommSession; message_out() and message_in() are the derived class's.
    int receive_timeout() override { return state_->settings.receive; }
    int keep_alive_timeout() override { return answer_persists() ? state_->settings.keep_alive : 0; }
    int first_timeout() override { return state_->settings.first_byte; }
    void handle(int state, int error) override;
    void handle_tls_failure(const SSL *ssl) override;
    bool handle_in_place() override { return true; }
    bool retriable() override { return state_->settings.retriable || may_repeat(); }

    // What the messages say, if they say it.
    [[nodiscard]] virtual bool answer_persists() const noexcept { return true; }
    [[nodiscard]] virtual bool answer_ends_with_stream() { return false; }
    [[nodiscard]] virtual bool may_repeat() const noexcept { return false; }

    void granted(CommTarget *target) override; // CommSlotWaiter
    void resolved(query &q) noexcept override; // query_client

    void cancel() noexcept override;
    const char *name() const noexcept override { return "request"; }
    parley::stage stage() const noexcept override;
    std::string resource() const override;
    int descriptor() const noexcept override { return get_fd(); }

    // Each goes as far as it can; the last ends with finish().
    void resolve() noexcept;
    void reach(client_state::addresses *all) noexcept;
    void acquire() noexcept;
    void submit() noexcept;
    void next_address(error failure) noexcept;
    void finish() noexcept;
    void report() noexcept;
    void fail(error failure) noexcept;

    // Sees to it that the timer fires at the nearest limit; while it runs the operation is not over.
    void watch() noexcept;
    void timer_ended(int state) noexcept;
    void give_up(error why) noexcept;
    [[nodiscard]] static std::int64_t end_of(std::int64_t limit) noexcept;
    void limit_stage(std::int64_t limit) noexcept;

    [[nodiscard]] client_target &target() const noexcept { return *all_->targets[address_]; }
    [[nodiscard]] std::chrono::nanoseconds elapsed() const noexcept;

    std::shared_ptr<client_state> state_;
    context *task_ = nullptr;
    query *query_ = nullptr;
    client_state::addresses *all_ = nullptr;
    std::size_t address_ = 0; // in *all_
    std::size_t tried_ = 0;   // of them, in vain
    timer timer_{*this};
    std::int64_t total_until_ = for_ever; // on the clock of CommLoop::now()
    std::int64_t stage_until_ = for_ever;
    std::int64_t armed_until_ = for_ever;
    error failure_; // before handle(): TLS' words about it
    phase phase_ = phase::idle;
    bool starting_ = false; // await_suspend() is on the stack
    bool cancelled_ = false;
    bool armed_ = false;    // the timer runs
    bool given_up_ = false; // failure_ says why; handle() follows
    bool succeeded_ = false;
};

} // namespace detail
} // namespace parley::inline PARLEY_ABI
