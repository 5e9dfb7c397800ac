#include <parley/detail/door.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <new>
#include <utility>

#include <parley/detail/session_error.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

door::door(endpoint where, service_settings settings)
    : where_(std::move(where)), settings_(std::move(settings)) {
    abandon_node_.owner = stop_node_.owner = unbound_node_.owner = this;
    abandon_node_.run = [](CommNode *node) { static_cast<node_to<door> *>(node)->owner->abandon(); };
    stop_node_.run = [](CommNode *node) { static_cast<node_to<door> *>(node)->owner->listening_stopped(); };
    unbound_node_.run = [](CommNode *node) { static_cast<node_to<door> *>(node)->owner->unbound(); };
}

// --- Opening ---

void door::open(parley::loop &here, bool may_resolve) noexcept {
    if (state() != phase::shut)
        return;
    if (!where_.is_name()) {
        settle(here);
        open_at(where_);
    } else if (may_resolve) {
        settle(here);
        query_ = query::start(where_, here, *this);
        if (query_)
            set_phase(phase::resolving);
        else
            fail(errno_error(errno, stage::resolve, where_.to_string()));
    }
}

void door::lose_interest() noexcept {
    if (state() != phase::resolving || !opening.empty() || is_awaited())
        return;
    std::exchange(query_, nullptr)->abandon();
    set_phase(phase::shut);
}

void door::resolved(query &q) noexcept {
    query_ = nullptr;
    if (q.answer)
        open_at(q.answer->front());
    else
        fail(std::move(q.answer).error());
}

void door::open_at(const endpoint &address) noexcept {
    struct sockaddr_storage storage;
    result<socklen_t> length = address.to_sockaddr(storage);
    if (!length) {
        fail(std::move(length.error().set_stage(stage::listen)));
        return;
    }
    auto *generic = reinterpret_cast<struct sockaddr *>(&storage);
    if (CommService::init(generic, *length, -1, settings_.gap) < 0) {
        fail(errno_error(errno, stage::listen, where_.to_string()));
        return;
    }
    if (settings_.tls)
        set_ssl(settings_.tls.native(), -1);
    if (settings_.own_deadlines)
        set_deadlines(settings_.deadlines);

    retain(); // the core's, until unbound()
    if (bind_to(home_->communicator(), home_->core()) < 0) {
        fail(errno_error(errno, stage::listen, where_.to_string()));
        CommService::deinit();
        release();
        return;
    }
    set_phase(phase::open);
}

void door::fail(error why) noexcept {
    failure_ = std::move(why);
    set_phase(phase::failed);
}

void door::set_phase(phase next) noexcept {
    const hold keep(*this);
    phase_.store(next, sync::memory_order_release);
    if (!is_opening())
        wake(opening);
    changed();
    if (next == phase::closed)
        wake(closing);
}

void door::wake(waiters<door_wait> &queue) noexcept {
    while (door_wait *one = queue.pop_front())
        one->task_->complete();
}

result<endpoint> door::local() const {
    if (state() == phase::open || state() == phase::closing) {
        struct sockaddr_storage storage;
        socklen_t size = sizeof storage;
        auto *generic = reinterpret_cast<struct sockaddr *>(&storage);
        if (get_local_addr(generic, &size) == 0)
            return endpoint(generic, size);
    }
    return unexpected(why(stage::listen));
}

error door::why(parley::stage at) const {
    if (failure_.code())
        return failure_;
    if (is_opening())
        return error(make_error_code(std::errc::not_connected), at, where_.to_string(), {},
                     "it does not listen yet");
    return error(errc::closed, at, where_.to_string());
}

// --- Closing ---

void door::begin_close(int deadline_ms) noexcept {
    switch (state()) {
    case phase::open:
        if (deadline_ms < 0)
            home_->communicator().unbind(this);
        else
            home_->communicator().unbind(this, deadline_ms);
        set_phase(phase::closing);
        break;
    case phase::resolving:
        std::exchange(query_, nullptr)->abandon();
        set_phase(phase::closed);
        break;
    case phase::shut:
    case phase::failed:
        set_phase(phase::closed);
        break;
    case phase::closing:
    case phase::closed:
        break;
    }
}

void door::abandon() noexcept {
    if (!is_here()) {
        // Where nothing is left to close, the loop may be gone as well.
        const bool quiet = state() == phase::closed || state() == phase::failed;
        if (quiet || home_->core().post(&abandon_node_) != 0)
            release();
        return;
    }
    while (door_wait *one = opening.pop_front())
        one->task_->complete_stopped();
    abandoned();
    begin_close();
    release();
}

void door::post_home(node_to<door> &node) noexcept {
    if (home_->is_current() || home_->core().post(&node) != 0)
        node.run(&node);
}

// Listening has ended by itself, on whatever thread.
void door::handle_stop(int error_number) {
    stop_error_ = error_number;
    Communicator &communicator = home_->communicator();
    post_home(stop_node_);
    communicator.unbind(this);
}

void door::listening_stopped() noexcept {
    if (state() != phase::open)
        return;
    failure_ = stop_error_ == 0 ? error(errc::stopping, stage::shutdown, where_.to_string())
                                : errno_error(stop_error_, stage::accept, where_.to_string());
    set_phase(phase::closing);
}

void door::handle_unbound() {
    post_home(unbound_node_);
}

void door::unbound() noexcept {
    set_phase(phase::closed);
    release();
}

// --- Connections ---

CommConnection *door::new_connection(int) {
    try {
        connection_state *state = make_state(*CommLoop::current());
        CommConnection *link = state->make_link();
        state->release(); // the link holds it
        return link;
    } catch (const std::bad_alloc &) {
        errno = ENOMEM;
        return nullptr;
    }
}

CommSession *door::new_session(long long, CommConnection *link) {
    return connection_state::new_session(link);
}

// --- Waiting ---

door_wait::door_wait(door *d) noexcept {
    if (d && d->is_here())
        door_ = hold(*d);
}

void door_wait::begin_wait(waiters<door_wait> &queue, context &task) noexcept {
    task_ = &task;
    queue_ = &queue;
    queue.push_back(*this);
}

void door_wait::cancel() noexcept {
    queue_->remove(*this);
    door_->lose_interest();
    task_->complete_stopped();
}

std::string door_wait::resource() const {
    return door_->where().to_string();
}

bool listen_wait::await_ready() const noexcept {
    return !door_ || !door_->is_opening();
}

bool listen_wait::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task.begin(*this);
    door_->open(task.loop(), true);
    if (!door_->is_opening())
        return false;
    begin_wait(door_->opening, task);
    return true;
}

result<endpoint> listen_wait::await_resume() const {
    return door_ ? door_->local() : result<endpoint>(unexpect, errc::closed, parley::stage::listen);
}

shut_wait::shut_wait(door *d, int limit_ms) noexcept : door_wait(d) {
    if (door_)
        door_->begin_close(limit_ms);
}

bool shut_wait::await_ready() const noexcept {
    return !door_ || door_->state() == door::phase::closed;
}

bool shut_wait::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task.begin(*this);
    begin_wait(door_->closing, task);
    return true;
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
