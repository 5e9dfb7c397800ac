#include <parley/serve.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include <parley/core/Sys.h>
#include <parley/detail/promise.hpp>
#include <parley/runtime.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// --- A handler ---

server_state &served::server() noexcept {
    return static_cast<server_state &>(state().through());
}

void served::begin(task<void> &&handler) noexcept {
    record &first = task_access::release(handler).promise();
    server_shard &shard = server().shard_here();
    state().retain();
    server().handler_begins();
    handler_ = &first;
    first.begin_chain(*shard.loop, *this, nullptr);
    shard.handlers.push_back(*shard.loop, first);
    if (shard.draining)
        shard.drained.connections++;
    if (shard.cancelled) {
        shard.note_cancelled(*this, first);
        first.owned_chain().cancel();
    }
    first.owned_chain().pass();
}

served &served::of(const record &handler) noexcept {
    return static_cast<served &>(const_cast<chain_owner &>(handler.owner()));
}

void served::abandon_handler() noexcept {
    if (handler_ && server().settings().cancel_when_gone)
        handler_->owned_chain().cancel();
}

void served::abandon_half_closed() noexcept {
    if (handler_ && server().settings().cancel_when_half_closed)
        handler_->owned_chain().cancel();
}

std::string served::purpose() const {
    return "handler of " + const_cast<served &>(*this).state().peer().to_string();
}

std::string served::whereabouts(const record &handler) const {
    std::string text = purpose();
    const context &chain = const_cast<record &>(handler).owned_chain();
    if (const operation *op = chain.awaiting())
        text.append(": ").append(op->name());
    if (const std::source_location at = chain.has_task() ? chain.task().site() : std::source_location();
        at.line() > 0)
        text.append(", ").append(at.file_name()).append(":").append(std::to_string(at.line()));
    return text;
}

int served::descriptor() const noexcept {
    return const_cast<served &>(*this).state().descriptor();
}

void served::chain_done(record &first) noexcept {
    server_state &server = this->server();
    const std::exception_ptr failure = static_cast<promise<void> &>(first).failure();
    handler_ = nullptr;
    server_shard &shard = server.shard_here();
    shard.handlers.remove(*shard.loop, first);
    first.destroy(); // and with it, mostly, the connection's handle
    if (failure)
        server.report_failure(state().peer(), failure);
    state().release(); // *this may end
    server.handler_ended();
}

// --- The server ---

server_state::server_state(endpoint where, service_settings settings, exception_sink sink)
    : door(std::move(where), std::move(settings)), sink_(std::move(sink)) {
    finished_node_.owner = this;
    finished_node_.run = [](CommNode *node) {
        static_cast<node_to<server_state> *>(node)->owner->finished();
    };
}

server_state::~server_state() = default;

int server_state::bind_to(Communicator &communicator, CommLoop &) noexcept {
    runtime &rt = home()->runtime();
    loops_ = rt.loops();
    shards_.reset(new (std::nothrow) server_shard[loops_]);
    if (!shards_) {
        errno = ENOMEM;
        return -1;
    }
    for (std::size_t i = 0; i < loops_; i++) {
        server_shard &shard = shards_[i];
        shard.loop = &rt.loop(i);
        shard.drain_node.owner = shard.cancel_node.owner = this;
        shard.drain_node.run = [](CommNode *node) {
            server_state *self = static_cast<node_to<server_state> *>(node)->owner;
            self->drain_shard(self->shard_here());
            self->handler_ended(); // what post_to_shards() counted
        };
        shard.cancel_node.run = [](CommNode *node) {
            server_state *self = static_cast<node_to<server_state> *>(node)->owner;
            self->cancel_shard(self->shard_here());
            self->handler_ended();
        };
    }
    // Before the first connection comes, on whatever loop.
    retain();
    running_.store(1, sync::memory_order_relaxed);
    ran_ = true;
    if (communicator.bind(this) == 0)
        return 0;
    ran_ = false;
    release();
    return -1;
}

server_shard &server_state::shard_here() noexcept {
    return shards_[CommLoop::current()->index()];
}

void server_state::changed() noexcept {
    if (state() == phase::closed && ran_)
        handler_ended(); // the core's service
    else if (state() == phase::failed || state() == phase::closed)
        while (serve_wait *one = serving_.pop_front())
            one->task_->complete();
}

void server_state::abandoned() noexcept {
    // Those who wait for the end are told that there will be none; it comes all the same.
    while (serve_wait *one = serving_.pop_front())
        one->task_->complete_stopped();
}

void server_state::handler_ended() noexcept {
    if (running_.fetch_sub(1, sync::memory_order_acq_rel) != 1)
        return;
    if (home()->is_current() || home()->core().post(&finished_node_) != 0)
        finished();
}

void server_state::finished() noexcept {
    finished_ = true;
    limit_.stop();
    while (serve_wait *one = serving_.pop_front())
        one->cancelled_ ? one->task_->complete_stopped() : one->task_->complete();
    release();
}

// --- Draining ---

void server_shard::note_cancelled(const served &owner, const record &handler) noexcept {
    if (!draining)
        return;
    drained.cancelled++;
    try {
        drained.overstayed.push_back(owner.whereabouts(handler));
    } catch (const std::bad_alloc &) {
        // It is counted.
    }
}

void server_state::post_to_shards(node_to<server_state> server_shard::*node) noexcept {
    for (std::size_t i = 0; ran_ && !finished_ && i < loops_; i++) {
        server_shard &shard = shards_[i];
        handler_begins(); // the server lasts until the node has run
        if (shard.loop->core().post(&(shard.*node)) != 0)
            handler_ended();
    }
}

void server_state::begin_drain(std::int64_t limit) noexcept {
    const hold keep(*this);
    // Counted before the connections close: the core's unbind() goes the same way to each loop.
    if (!std::exchange(draining_, true))
        post_to_shards(&server_shard::drain_node);
    begin_close();
    if (limit <= 0)
        stop_handlers();
    else if (limit != serve_wait::no_limit && ran_ && !finished_ && !stopped_)
        limit_.set(sys::monotonic_ns() + std::min(limit, serve_wait::no_limit / 2));
}

void server_state::stop_handlers() noexcept {
    // Told before their connections close, so that they stop and do not take that for an error of their
    // peers.
    if (!std::exchange(stopped_, true))
        post_to_shards(&server_shard::cancel_node);
    begin_close(0);
}

void server_state::drain_shard(server_shard &shard) noexcept {
    shard.draining = true;
    for (record *one = shard.handlers.chains().first(); one; one = chain_list::next(*one)) {
        const connection_state &its = served::of(*one).state();
        shard.drained.connections++;
        if (its.unanswered() == 0 && its.idle_turn())
            shard.drained.idle++;
        if (shard.cancelled) // before the drain began
            shard.note_cancelled(served::of(*one), *one);
    }
}

void server_state::cancel_shard(server_shard &shard) noexcept {
    shard.cancelled = true;
    for (record *one = shard.handlers.chains().first(); one; one = chain_list::next(*one)) {
        shard.note_cancelled(served::of(*one), *one);
        one->owned_chain().cancel();
        served::of(*one).state().begin_close();
    }
}

drain_report server_state::report() const {
    drain_report sum;
    for (std::size_t i = 0; shards_ && i < loops_; i++) {
        const drain_report &part = shards_[i].drained;
        sum.connections += part.connections;
        sum.idle += part.idle;
        sum.cancelled += part.cancelled;
        sum.overstayed.insert(sum.overstayed.end(), part.overstayed.begin(), part.overstayed.end());
    }
    sum.finished = sum.connections - sum.cancelled;
    return sum;
}

void server_state::limit_timer::set(std::int64_t at) noexcept {
    if (at >= at_)
        return;
    at_ = at;
    if (running_)
        owner_.home()->communicator().unsleep(this); // handle() starts it again
    else
        start();
}

void server_state::limit_timer::stop() noexcept {
    at_ = serve_wait::no_limit;
    if (running_)
        owner_.home()->communicator().unsleep(this);
}

void server_state::limit_timer::start() noexcept {
    owner_.retain();
    running_ = true;
    if (owner_.home()->communicator().sleep(this) == 0)
        return;
    running_ = false;
    owner_.stop_handlers(); // rather early than never
    owner_.release();
}

int server_state::limit_timer::duration(struct timespec *value) {
    constexpr std::int64_t second = 1'000'000'000;
    const std::int64_t left = std::max<std::int64_t>(at_ - sys::monotonic_ns(), 0);
    value->tv_sec = static_cast<time_t>(left / second);
    value->tv_nsec = static_cast<long>(left % second);
    return 0;
}

void server_state::limit_timer::handle(int state, int) {
    running_ = false;
    if (at_ != serve_wait::no_limit) {
        if (state == SS_STATE_COMPLETE)
            owner_.stop_handlers();
        else if (state == SS_STATE_ERROR)
            start();
    }
    owner_.release();
}

// --- How it stands ---

bool server_state::is_finished() const noexcept {
    return finished_ || (!ran_ && !is_opening());
}

result<void> server_state::ending() const {
    const error reason = why(parley::stage::listen);
    if (finished_ && reason == errc::closed)
        return {};
    return unexpected(reason);
}

void server_state::report_failure(const endpoint &peer, std::exception_ptr failure) const noexcept {
    try {
        if (sink_) {
            sink_(peer, failure);
            return;
        }
    } catch (...) {
        failure = std::current_exception(); // the sink's own
    }
    const std::string who = peer.to_string();
    try {
        std::rethrow_exception(failure);
    } catch (const std::exception &e) {
        std::fprintf(stderr, "parley: exception in the handler of %s: %s\n", who.c_str(), e.what());
    } catch (...) {
        std::fprintf(stderr, "parley: exception in the handler of %s\n", who.c_str());
    }
}

// --- serve(), close() and drain() ---

serve_wait::serve_wait(server_state *state, kind what, std::int64_t limit) noexcept : kind_(what) {
    if (!state || !state->is_here())
        return;
    state_ = hold(*state);
    if (what == kind::close)
        state->begin_drain(limit);
}

bool serve_wait::await_ready() const noexcept {
    return !state_ || state_->is_finished();
}

bool serve_wait::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    task.begin(*this);
    state_->open(task.loop(), true);
    if (state_->is_finished())
        return false;
    state_->serving_.push_back(*this);
    return true;
}

result<void> serve_wait::await_resume() const {
    if (!state_)
        return unexpected(errc::closed, parley::stage::listen);
    if (kind_ == kind::close)
        return {};
    return state_->ending();
}

result<drain_report> drain_wait::await_resume() const {
    if (!state_)
        return unexpected(errc::closed, parley::stage::listen);
    return state_->report();
}

void serve_wait::cancel() noexcept {
    if (kind_ == kind::close || !state_->ran_) {
        state_->serving_.remove(*this);
        state_->lose_interest();
        task_->complete_stopped();
        return;
    }
    cancelled_ = true;
    state_->stop_handlers();
}

parley::stage serve_wait::stage() const noexcept {
    return kind_ == kind::serve ? parley::stage::accept : parley::stage::shutdown;
}

std::string serve_wait::resource() const {
    return state_->where().to_string();
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
