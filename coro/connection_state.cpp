#include <parley/detail/connection_state.hpp>

#include <netinet/in.h>

#include <cassert>
#include <cerrno>
#include <new>
#include <utility>

#include <parley/core/Sys.h>
#include <parley/detail/door.hpp>
#include <parley/detail/session_error.hpp>
#include <parley/loop.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// --- A turn, as the core sees it ---

const void *turn::protocol_settings() const noexcept {
    return owner_.door_.settings().protocol.get();
}

int turn::send_timeout() {
    return -1; // the service's total for sending holds
}

int turn::receive_timeout() {
    return owner_.door_.settings().receive;
}

int turn::keep_alive_timeout() {
    return last_ ? 0 : owner_.door_.settings().idle;
}

void turn::handle(int state, int error) {
    if (state == CS_STATE_TOREPLY)
        owner_.request_arrived(*this);
    else if (state == CS_STATE_SUCCESS)
        owner_.answered(*this);
    else
        owner_.turn_failed(*this, state, error);
}

void turn::handle_peer_closed() {
    owner_.peer_closed(*this);
}

void turn::handle_half_closed() {
    owner_.half_closed();
}

void turn::handle_tls_failure(const SSL *ssl) {
    owner_.tls_failed(*this, ssl);
}

// The task in send() is told to stop before all was written: what the peer has is half a message.
void turn::cancel() noexcept {
    cancelled_ = true;
    owner_.begin_close();
}

std::string turn::resource() const {
    return owner_.resource();
}

// --- Life ---

connection_state::connection_state(door &from, CommLoop &home) noexcept : door_(from), home_(home) {
    CommNode::run = [](CommNode *node) { static_cast<connection_state *>(node)->abandon(); };
}

connection_state::~connection_state() {
    assert(!first_ && is_closed());
}

CommConnection *connection_state::make_link() noexcept {
    retain();
    linked_.store(true, sync::memory_order_relaxed);
    list();
    return ::new (static_cast<void *>(&link)) held_link;
}

void connection_state::abandon() noexcept {
    if (!is_here()) {
        // Where nothing is left to close, the loop may be gone as well.
        if (is_closed() || home_.post(this) != 0)
            release();
        return;
    }
    if (context *task = std::exchange(receiver_, nullptr)) {
        receiving_ = false;
        task->complete_stopped();
    }
    begin_close();
    release();
}

void connection_state::begin_close() noexcept {
    if (closing_)
        return;
    closing_ = true;
    const hold keep(*this);
    wake_receiver();
    // A request that was never answered closes the connection with its session.
    for (turn *t = first_, *after; t; t = after) {
        after = t->next_;
        if (t->phase_ == turn::phase::receiving || t->phase_ == turn::phase::sending)
            continue;
        // Without that the core would first send what was pushed, to a peer that perhaps does not take it.
        if (t->phase_ != turn::phase::spare)
            communicator().cancel(t);
        destroy(*t);
    }
    // What is under way ends by handle(), later.
    for (turn *t = first_, *after; t; t = after) {
        after = t->next_;
        communicator().cancel(t);
    }
}

// The descriptor is closed and no session is left.
void connection_state::unlinked() noexcept {
    unlist();
    note_failure(farewell());
    receiving_ended();
    while (close_wait *one = closers_.pop_front())
        one->task_->complete();
    linked_.store(false, sync::memory_order_release); // last: from here on another thread may take it as gone
}

// --- For who looks at it ---

namespace {

// Never inlined: a fiber's code must not keep the address of a thread-local variable in a register.
[[gnu::noinline]] connection_state *&listed_here() noexcept {
    static thread_local connection_state *first = nullptr;
    return first;
}

} // namespace

void connection_state::list() noexcept {
#if PARLEY_SIGHT
    connection_state *&first = listed_here();
    next_listed_ = first;
    place_listed_ = &first;
    if (first)
        first->place_listed_ = &next_listed_;
    first = this;
#endif
}

void connection_state::unlist() noexcept {
    if (!place_listed_)
        return;
    *place_listed_ = next_listed_;
    if (next_listed_)
        next_listed_->place_listed_ = place_listed_;
    place_listed_ = nullptr;
}

const connection_state *connection_state::first_here() noexcept {
    return listed_here();
}

int connection_state::descriptor() const noexcept {
    for (const turn *t = first_; t; t = t->next_) {
        if (const int fd = t->get_fd(); fd >= 0)
            return fd;
    }
    return -1;
}

std::size_t connection_state::unanswered() const noexcept {
    std::size_t count = 0;
    for (const turn *t = first_; t; t = t->next_)
        count += t->phase_ != turn::phase::spare && t->phase_ != turn::phase::receiving;
    return count;
}

const char *connection_state::condition() const noexcept {
    if (closing_)
        return "closing";
    if (unanswered() != 0)
        return "answering";
    return stage() == parley::stage::receive ? "receiving" : "idle";
}

// --- Turns ---

CommSession *connection_state::new_session(CommConnection *of) noexcept {
    return state_at(of).next_turn();
}

CommSession *connection_state::next_turn() noexcept {
    if (closing_) {
        errno = ECANCELED;
        return nullptr; // the core closes
    }
    turn *t = find(turn::phase::spare);
    if (t) {
        unlink(*t);
    } else {
        try {
            t = make_turn();
        } catch (const std::bad_alloc &) {
            errno = ENOMEM;
            return nullptr;
        }
    }
    append(*t);
    t->phase_ = turn::phase::receiving;
    if (!greeted_) {
        greeted_ = true;
        door_.arrived(*this);
    }
    if (!closing_)
        return t;
    destroy(*t); // nobody wants it
    errno = ECANCELED;
    return nullptr;
}

void connection_state::request_arrived(turn &t) noexcept {
    t.bound_ = false;
    t.phase_ = turn::phase::ready;
    if (closing_)
        destroy_last(t);
    else
        wake_receiver();
}

void connection_state::answered(turn &t) noexcept {
    context *task = std::exchange(t.sender_, nullptr);
    *std::exchange(t.status_, nullptr) = send_status::sent;
    t.answer_ = nullptr;
    t.phase_ = turn::phase::spare;
    const bool cancelled = std::exchange(t.cancelled_, false);
    if (no_more_ || closing_)
        destroy_last(t);
    if (task)
        cancelled ? task->complete_stopped() : task->complete();
}

void connection_state::turn_failed(turn &t, int state, int error_number) noexcept {
    const hold keep(*this);
    const bool was_sending = t.phase_ == turn::phase::sending;
    const bool is_first = !ended_ || clean_end_;
    const context *waiting = was_sending ? t.sender_ : receiver_;
    error failure = session_error(t, state, error_number, was_sending ? stage::send : stage::receive,
                                  resource(), waiting ? since(*waiting) : std::chrono::nanoseconds());
    if (!ended_)
        add_tls_words(failure, ending_);
    note_failure(std::move(failure));
    if (!was_sending)
        clean_end_ = is_first && state == CS_STATE_ERROR && error_number == 0 && t.get_cause() == CC_EOF;

    const bool gone = state == CS_STATE_ERROR && !closing_ && !clean_end_ && !somebody_waits();
    context *task = std::exchange(t.sender_, nullptr);
    const bool cancelled = t.cancelled_;
    if (send_status *status = std::exchange(t.status_, nullptr))
        *status = send_status::failed;
    destroy(t);
    receiving_ended();
    if (task)
        cancelled ? task->complete_stopped() : task->complete();
    if (gone)
        peer_gone();
    else if (clean_end_ && !closing_ && !somebody_waits())
        peer_half_closed();
}

// The peer sends nothing more.
void connection_state::half_closed() noexcept {
    if (closing_ || somebody_waits())
        return;
    const hold keep(*this);
    peer_half_closed();
}

// A turn that awaits its answer will not get it to the peer any more; send() says so.
void connection_state::peer_closed(turn &) noexcept {
    const hold keep(*this);
    const bool gone = !closing_ && !somebody_waits();
    note_failure(error(system_error_code(ECONNRESET), stage::send, resource()));
    receiving_ended();
    if (gone)
        peer_gone();
}

// In recv() or send(), which tell by their result how the connection ended.
bool connection_state::somebody_waits() const noexcept {
    bool waits = receiver_ != nullptr;
    for (const turn *t = first_; t; t = t->next_)
        waits = waits || t->status_;
    return waits;
}

// An end that no session was told of: ours, or after the last answer because the door is closed.
error connection_state::farewell() const {
    const bool ours = closing_ || door_.state() == door::phase::open;
    return error(ours ? errc::closed : errc::stopping, stage::shutdown, resource());
}

// The first failure is the cause of the others; only the end of the peer's stream may be followed by a real
// one.
void connection_state::note_failure(error failure) noexcept {
    if (ended_ && !clean_end_)
        return;
    ending_ = std::move(failure);
    ended_ = true;
    clean_end_ = false;
}

// No request will come any more, so spare turns keep the connection pinned for nothing.
void connection_state::receiving_ended() noexcept {
    no_more_ = true;
    destroy_spares();
    wake_receiver();
}

// With the last session may go the connection, and with that this state.
void connection_state::destroy_last(turn &t) noexcept {
    const hold keep(*this);
    destroy(t);
}

void connection_state::destroy_spares() noexcept {
    const hold keep(*this);
    while (turn *spare = find(turn::phase::spare))
        destroy(*spare);
}

void connection_state::wake_receiver() noexcept {
    if (context *task = std::exchange(receiver_, nullptr))
        task->complete();
}

void connection_state::append(turn &t) noexcept {
    turn **end = &first_;
    while (*end)
        end = &(*end)->next_;
    *end = &t;
    t.next_ = nullptr;
}

void connection_state::unlink(turn &t) noexcept {
    turn **place = &first_;
    while (*place != &t)
        place = &(*place)->next_;
    *place = t.next_;
}

void connection_state::destroy(turn &t) noexcept {
    if (!ended_ && t.peer() && !t.next_ && first_ == &t)
        note_failure(farewell()); // the last one that knows the peer
    unlink(t);
    free_turn(&t);
}

turn *connection_state::idle_turn() const noexcept {
    turn *t = find(turn::phase::receiving);
    return t && !t->bound_ ? t : nullptr;
}

// --- recv() ---

void connection_state::wait_for_request(context &task) noexcept {
    receiving_ = true;
    receiver_ = &task;
    task.begin(*this);
    // The core has begun a turn by now, or it closes after the last answer; then spare turns are all that
    // keeps the connection, and unlinked() follows when they let go.
    bool idle = true;
    for (const turn *t = first_; t; t = t->next_)
        idle = idle && t->phase_ == turn::phase::spare;
    if (idle)
        destroy_spares();
}

turn *connection_state::take_request() noexcept {
    receiving_ = false;
    turn *t = closing_ ? nullptr : find(turn::phase::ready);
    if (t)
        t->phase_ = turn::phase::open;
    return t;
}

error connection_state::recv_error(bool busy) const {
    if (closing_)
        return error(errc::closed, stage::receive, resource());
    if (ended_ && !busy)
        return ending_;
    return error(make_error_code(std::errc::device_or_resource_busy), stage::receive, resource(), {},
                 "another task is in recv() of this connection");
}

// The task in recv() is told to stop: the parse goes on, a later recv() gets the message.
void connection_state::cancel() noexcept {
    receiving_ = false;
    std::exchange(receiver_, nullptr)->complete_stopped();
}

parley::stage connection_state::stage() const noexcept {
    const turn *t = find(turn::phase::receiving);
    return t ? stage_of(t->get_wait(), parley::stage::idle) : parley::stage::idle;
}

// --- send() ---

bool connection_state::can_send(send_status &status) const noexcept {
    if (closing_)
        status = send_status::closed;
    else if (!find(turn::phase::open))
        status = ended_ && !clean_end_ ? send_status::failed : send_status::no_turn;
    else
        return true;
    return false;
}

bool connection_state::begin_send(context &task, CommMessageOut &message, bool last,
                                  send_status &status) noexcept {
    turn *t = find(turn::phase::open);
    assert(t && !closing_);
    t->phase_ = turn::phase::sending;
    t->answer_ = &message;
    t->status_ = &status;
    t->cancelled_ = false;
    t->last_ = last;
    status = send_status::pending;
    task.begin(*t);
    if (communicator().reply(t) < 0) {
        // The peer is gone; nobody told, if the Communicator stops.
        note_failure(errno_error(errno == ENOENT ? ECONNRESET : errno, stage::send, resource()));
        clean_end_ = false;
        status = send_status::failed;
        destroy(*t);
        receiving_ended();
        return false;
    }
    if (status != send_status::pending)
        return false; // written at once; t may be the next turn already
    t->sender_ = &task;
    return true;
}

error connection_state::send_error(send_status status) const {
    switch (status) {
    case send_status::no_turn:
        return error(errc::no_turn, stage::send, resource());
    case send_status::failed:
        if (ended_ && !clean_end_)
            return ending_;
        break;
    default:
        break;
    }
    return error(errc::closed, stage::send, resource());
}

std::chrono::nanoseconds connection_state::since(const context &task) const noexcept {
    return std::chrono::nanoseconds(home_.now() - task.since());
}

error connection_state::not_here() {
    return error(make_error_code(std::errc::operation_not_permitted), stage::none, {}, {},
                 "a connection is used on the loop that accepted it");
}

// --- close() ---

close_wait::close_wait(connection_state *state) noexcept {
    if (!state)
        return;
    if (!state->is_here())
        return;
    state_ = hold(*state);
    state->begin_close();
}

bool close_wait::await_ready() const noexcept {
    return !state_ || state_->is_closed();
}

bool close_wait::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    task.begin(*this);
    state_->closers_.push_back(*this);
    return true;
}

// --- push() ---

// Any session of the connection will do, as long as its turn is not lost.
CommSession *connection_state::session_to_push() const noexcept {
    for (turn::phase what :
         {turn::phase::receiving, turn::phase::open, turn::phase::ready, turn::phase::sending}) {
        if (turn *t = find(what))
            return t;
    }
    return nullptr;
}

bool connection_state::half_close() noexcept {
    CommSession *session = closing_ ? nullptr : session_to_push();
    return session && communicator().half_close(session) == 0;
}

push_wait::push_wait(connection_state *state) noexcept {
    if (state && state->is_here())
        state_ = hold(*state);
    else
        elsewhere_ = state != nullptr;
}

push_wait::~push_wait() = default;

bool push_wait::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    state_of_push_ = CS_STATE_ERROR;
    if (!state_ || state_->closing_)
        return false;
    CommSession *session = state_->session_to_push();
    if (!session)
        return false;
    task.begin(*this);
    push_.emplace(*this, session);
    if (state_->communicator().push(&*push_) == 0)
        return true;
    error_ = errno;
    return false;
}

void push_wait::written(int state, int error_number) noexcept {
    state_of_push_ = state;
    error_ = error_number;
    cancelled_ ? task_->complete_stopped() : task_->complete();
}

result<void> push_wait::await_resume() {
    if (state_of_push_ == CS_STATE_SUCCESS)
        return {};
    if (elsewhere_)
        return unexpected(connection_state::not_here());
    if (!state_)
        return unexpected(errc::closed, stage::send);
    if (state_->closing_)
        return unexpected(errc::closed, stage::send, state_->resource());
    if (error_ == EAGAIN) // too much is queued; the connection is well
        return unexpected(errno_error(EAGAIN, stage::send, state_->resource()));
    if (state_->ended_ && !state_->clean_end_)
        return unexpected(state_->ending_);
    const int why = error_ == 0 || error_ == ENOENT ? ECONNRESET : error_;
    const auto elapsed = push_ ? state_->since(*task_) : std::chrono::nanoseconds();
    return unexpected(errno_error(why, stage::send, state_->resource(), elapsed));
}

void push_wait::cancel() noexcept {
    cancelled_ = true;
    state_->begin_close();
}

int push_wait::descriptor() const noexcept {
    return state_->descriptor();
}

std::string push_wait::resource() const {
    return state_->resource();
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
