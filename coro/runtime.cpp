#include <parley/runtime.hpp>

#include <cerrno>
#include <cstdio>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include <parley/core/Communicator.h>
#include <parley/core/Sync.h>
#include <parley/core/Sys.h>
#include <parley/detail/promise.hpp>
#include <parley/detail/root.hpp>
#include <parley/detail/all_runtimes.hpp>
#include <parley/dump_tasks.hpp>
#include <parley/error.hpp>
#include <parley/exception_notes.hpp>

#include "stall_watch.hpp"

namespace parley::inline PARLEY_ABI {
namespace {

[[noreturn]] void throw_errno(const char *what) {
    throw std::system_error(errno, std::system_category(), what);
}

std::size_t threads_or_all(std::size_t wanted) noexcept {
    return wanted != 0 ? wanted : sys::current().processors();
}

// A condition that threads wait for; signalled by the last to leave.
class gate {
public:
    void open() {
        sync::lock_guard<sync::mutex> lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }
    void wait() {
        sync::unique_lock<sync::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return open_; });
    }

private:
    sync::mutex mutex_;
    sync::condition_variable changed_;
    bool open_ = false;
};

// File operations. Unbound by the runtime or, if a borrowed Communicator stops before it, by handle_stop().
class file_service final : public IOService {
public:
    void begin(Communicator &communicator, int max_operations) {
        communicator_ = &communicator;
        if (init(max_operations) < 0)
            throw_errno("parley: file operations");
        if (communicator.io_bind(this) < 0) {
            const int error = errno;
            deinit();
            errno = error;
            throw_errno("parley: file operations");
        }
        bound_ = true;
    }
    void end() {
        if (!bound_)
            return;
        unbind();
        unbound_.wait();
        deinit();
    }

private:
    void handle_stop(int) override { unbind(); }
    void handle_unbound() override { unbound_.open(); }
    void unbind() {
        if (!unbinding_.exchange(true))
            communicator_->io_unbind(this);
    }

    Communicator *communicator_ = nullptr;
    bool bound_ = false;
    sync::atomic<bool> unbinding_{false};
    gate unbound_;
};

} // namespace

class runtime::parts {
public:
    std::optional<CommScheduler> own;
    CommScheduler *scheduler = nullptr;
    Executor executor;
    ExecQueue compute_queue;
    file_service files;
    std::vector<std::unique_ptr<parley::loop>> loops;
    std::optional<detail::stall_watch> stalls;
    std::optional<dump_on_signal> dump;
    sync::atomic<bool> stopping{false};
    sync::atomic<std::size_t> roots{0};
    sync::mutex mutex; // for `idle`
    sync::condition_variable idle;

    parts(CommScheduler *borrowed, const runtime_options &options) : scheduler(borrowed) {
        if (!borrowed) {
            scheduler = &own.emplace();
            CommDeadlines limits;
            limits.first_message = detail::core_milliseconds(options.first_message);
            limits.handshake = detail::core_milliseconds(options.handshake);
            limits.send = detail::core_milliseconds(options.send);
            if (own->init(threads_or_all(options.loops), options.handler_threads) < 0)
                throw_errno("parley: starting the loops");
            own->communicator().set_default_deadlines(limits);
        }
        try {
            compute_queue.init();
            if (executor.init(threads_or_all(options.executor_threads)) < 0)
                throw_errno("parley: starting the executor");
            files.begin(scheduler->communicator(), options.file_operations);
        } catch (...) {
            end();
            throw;
        }
    }

    void wait_for_roots() {
        sync::unique_lock<sync::mutex> lock(mutex);
        idle.wait(lock, [this] { return roots.load(sync::memory_order_acquire) == 0; });
    }

    // Returns when each loop has done all that was posted to it before.
    void flush_loops() {
        struct farewell : CommNode {
            gate passed;
        };
        for (const auto &each : loops) {
            farewell last;
            last.run = [](CommNode *node) { static_cast<farewell *>(node)->passed.open(); };
            if (each->core().post(&last) == 0)
                last.passed.wait();
        }
    }

    void end() {
        files.end();
        executor.deinit();
        compute_queue.deinit();
        if (own)
            own->deinit();
    }
};

runtime::runtime(const runtime_options &options) : parts_(std::make_unique<parts>(nullptr, options)) {
    begin(options);
}

runtime::runtime(CommScheduler &scheduler, const runtime_options &options)
    : parts_(std::make_unique<parts>(&scheduler, options)) {
    begin(options);
}

// What fails here has begun nothing but threads, which ~runtime would not end.
void runtime::begin(const runtime_options &options) {
    Communicator &core = communicator();
    try {
        for (std::size_t i = 0; i < core.loops(); ++i)
            parts_->loops.emplace_back(new parley::loop(*this, *core.loop(i)));
        if (options.stall_threshold.count() > 0)
            parts_->stalls.emplace(*this, options.stall_threshold.nanoseconds(), options.on_stall);
        if (options.dump_signal != 0)
            parts_->dump.emplace(options.dump_signal, std::cerr);
    } catch (...) {
        parts_->stalls.reset();
        parts_->end();
        throw;
    }
    detail::all_runtimes::enter(*this);
}

runtime::~runtime() {
    CommLoop *here = CommLoop::current();
    if (here && here->communicator() == &communicator()) {
        std::fputs("parley: a runtime was destroyed on one of its own loops\n", stderr);
        std::terminate();
    }
    stop();
    parts_->wait_for_roots();
    parts_->dump.reset();
    parts_->stalls.reset();
    detail::all_runtimes::leave(*this); // before the flush, which waits for visits that were posted
    parts_->flush_loops();
    parts_->end();
}

void runtime::stop() noexcept {
    if (parts_->stopping.exchange(true))
        return;
    for (const auto &each : parts_->loops)
        each->post_stop();
}

bool runtime::stopping() const noexcept {
    return parts_->stopping.load(sync::memory_order_relaxed);
}

std::size_t runtime::loops() const noexcept {
    return parts_->loops.size();
}

loop &runtime::loop(std::size_t index) const noexcept {
    return *parts_->loops[index];
}

CommScheduler &runtime::scheduler() const noexcept {
    return *parts_->scheduler;
}

Executor &runtime::executor() const noexcept {
    return parts_->executor;
}

ExecQueue &runtime::compute_queue() const noexcept {
    return parts_->compute_queue;
}

IOService &runtime::io_service() const noexcept {
    return parts_->files;
}

loop &runtime::choose_loop() const noexcept {
    CommLoop *here = CommLoop::current();
    if (here && here->communicator() == &communicator())
        return loop(here->index());
    parley::loop *best = parts_->loops.front().get();
    for (const auto &each : parts_->loops) {
        if (each->roots() < best->roots())
            best = each.get();
    }
    return *best;
}

// The runtime may be gone once the lock is free, but not before the loop has left this callback: see
// flush_loops().
void runtime::root_ended() noexcept {
    if (parts_->roots.fetch_sub(1, sync::memory_order_acq_rel) != 1)
        return;
    sync::lock_guard<sync::mutex> lock(parts_->mutex);
    parts_->idle.notify_all();
}

void runtime::begin_root(parley::loop &where, task<void> &&root) {
    detail::record &first = detail::task_access::release(root).promise();
    runtime &rt = where.runtime();
    rt.parts_->roots.fetch_add(1, sync::memory_order_relaxed);
    where.root_count_.fetch_add(1, sync::memory_order_relaxed);
    if (where.roots_.begin(first))
        return;
    where.root_count_.fetch_sub(1, sync::memory_order_relaxed);
    first.frame().destroy();
    rt.root_ended();
    throw exception(errc::stopping);
}

namespace detail {

void begin_root(parley::loop &where, task<void> &&root) {
    runtime::begin_root(where, std::move(root));
}

wait_permit::wait_permit(const runtime &rt) {
    if (CommLoop::current())
        throw std::system_error(EDEADLK, std::system_category(), "parley: sync_wait on a loop");
    Executor &pool = rt.executor();
    if (!pool.is_executor_thread())
        return;
    if (pool.increase_thread() < 0)
        throw std::system_error(errno, std::system_category(), "parley: sync_wait inside compute()");
    stand_in_ = &pool;
}

wait_permit::~wait_permit() {
    if (stand_in_)
        stand_in_->decrease_thread();
}

namespace {

// ": <what>", or nothing for what is no std::exception.
std::string what_after_colon(const std::exception_ptr &exception) {
    try {
        std::rethrow_exception(exception);
    } catch (const std::exception &e) {
        return std::string(": ") + e.what();
    } catch (...) {
        return {};
    }
}

} // namespace

void report_exception(const char *where, const std::exception_ptr &exception) noexcept {
    try {
        std::ostringstream text; // one write, so that reports of several threads do not mix
        text << "parley: exception in " << where << what_after_colon(exception) << '\n'
             << await_trace(exception);
        const std::vector<std::exception_ptr> others = other_exceptions(exception);
        constexpr std::size_t most = 8;
        for (std::size_t i = 0; i < others.size() && i < most; ++i)
            text << "  then another" << what_after_colon(others[i]) << '\n' << await_trace(others[i]);
        if (others.size() > most)
            text << "  then " << others.size() - most << " more\n";
        std::fputs(text.str().c_str(), stderr);
    } catch (...) { // no memory
        std::fprintf(stderr, "parley: exception in %s\n", where);
    }
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
