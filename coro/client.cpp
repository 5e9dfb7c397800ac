#include <parley/client.hpp>

#include <algorithm>
#include <cerrno>
#include <new>
#include <system_error>
#include <utility>

#include <parley/detail/session_error.hpp>
#include <parley/loop.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// --- Addresses ---

int client_target::open(const endpoint &where, const client_settings &settings, const std::string &host) {
    struct sockaddr_storage storage;
    result<socklen_t> length = where.to_sockaddr(storage);
    if (!length) {
        errno = length.error() == std::errc::filename_too_long ? ENAMETOOLONG : EINVAL;
        return -1;
    }
    const auto *address = reinterpret_cast<const struct sockaddr *>(&storage);
    where_ = where;
    host_ = host;
    const int done = settings.tls
                         ? init(address, *length, settings.tls.native(), settings.connect, -1, settings.gap,
                                settings.max_connections)
                         : init(address, *length, settings.connect, settings.gap, settings.max_connections);
    if (done == 0 && settings.own_deadlines)
        set_deadlines(settings.deadlines);
    return done;
}

client_state::client_state(endpoint to, client_settings how)
    : where(std::move(to)), settings(std::move(how)),
      host(settings.server_name.empty() && !where.is_unix() ? where.host() : settings.server_name) {}

// No request is under way any more; idle connections are closed by their loops, later.
client_state::~client_state() {
    for (const auto &all : known_) {
        for (const auto &target : all->targets)
            target->deinit();
    }
}

client_state::addresses *client_state::adopt(const std::vector<endpoint> &found) {
    sync::lock_guard<sync::mutex> lock(mutex_);
    for (const auto &all : known_) {
        const bool same =
            std::equal(all->targets.begin(), all->targets.end(), found.begin(), found.end(),
                       [](const auto &target, const endpoint &one) { return target->where() == one; });
        if (same) {
            current_.store(all.get(), sync::memory_order_release);
            return all.get();
        }
    }
    auto fresh = std::make_unique<addresses>();
    for (const endpoint &one : found) {
        auto target = std::make_unique<client_target>();
        if (target->open(one, settings, host) < 0)
            throw std::system_error(errno, std::system_category());
        fresh->targets.push_back(std::move(target));
    }
    known_.push_back(std::move(fresh));
    current_.store(known_.back().get(), sync::memory_order_release);
    return known_.back().get();
}

void client_state::forget(addresses *stale) noexcept {
    current_.compare_exchange_strong(stale, nullptr);
}

void client_state::close_idle() noexcept {
    sync::lock_guard<sync::mutex> lock(mutex_);
    for (const auto &all : known_) {
        for (const auto &target : all->targets)
            target->close_idle();
    }
}

// --- A request ---

client_operation::client_operation(std::shared_ptr<client_state> state) noexcept : state_(std::move(state)) {}

bool client_operation::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    task.begin(*this);
    // Whoever named the operation may await it again.
    phase_ = phase::idle;
    tried_ = 0;
    stage_until_ = for_ever;
    cancelled_ = given_up_ = succeeded_ = false;
    starting_ = true;
    if (state_)
        total_until_ = end_of(state_->settings.total);
    if (!state_)
        fail(error(errc::closed));
    else if (client_state::addresses *all = state_->current())
        reach(all);
    else
        resolve();
    starting_ = false;
    if (phase_ == phase::done)
        return false;
    watch();
    return true;
}

void client_operation::resolve() noexcept {
    if (state_->where.is_name()) {
        phase_ = phase::resolving;
        query_ = query::start(state_->where, task_->loop(), *this);
        if (!query_)
            fail(errno_error(errno, parley::stage::resolve, state_->where.to_string(), elapsed()));
        else
            limit_stage(state_->settings.resolve);
        return;
    }
    try {
        reach(state_->adopt(std::vector<endpoint>(1, state_->where)));
    } catch (const std::system_error &e) {
        fail(error(e.code(), parley::stage::connect, state_->where.to_string()));
    } catch (const std::bad_alloc &) {
        fail(errno_error(ENOMEM, parley::stage::connect, {}));
    }
}

void client_operation::resolved(query &q) noexcept {
    query_ = nullptr;
    stage_until_ = for_ever;
    if (!q.answer) {
        fail(std::move(q.answer.error().set_elapsed(elapsed())));
        return;
    }
    try {
        reach(state_->adopt(*q.answer));
    } catch (const std::system_error &e) {
        fail(error(e.code(), parley::stage::connect, state_->where.to_string()));
    } catch (const std::bad_alloc &) {
        fail(errno_error(ENOMEM, parley::stage::connect, {}));
    }
}

void client_operation::reach(client_state::addresses *all) noexcept {
    all_ = all;
    address_ = all->preferred.load(sync::memory_order_relaxed);
    acquire();
}

void client_operation::acquire() noexcept {
    phase_ = phase::queued;
    if (target().wait_slot(this) == 1)
        submit();
    else
        limit_stage(state_->settings.pool_wait);
}

void client_operation::granted(CommTarget *) {
    stage_until_ = for_ever;
    submit();
}

void client_operation::submit() noexcept {
    phase_ = phase::in_flight;
    failure_ = error();
    if (task_->loop().communicator().request(this, &target()) == 0)
        return;
    const int failure = errno;
    target().release();
    next_address(errno_error(failure, parley::stage::connect, target().where().to_string(), elapsed()));
}

void client_operation::handle_tls_failure(const SSL *ssl) {
    if (!given_up_)
        failure_ = tls_words(*this, ssl);
}

void client_operation::handle(int state, int error_number) {
    const bool ended = state == CS_STATE_ERROR && error_number == ECONNRESET && get_cause() == CC_EOF;
    if (state == CS_STATE_SUCCESS || (ended && answer_ends_with_stream())) {
        succeeded_ = true;
        if (tried_ != 0)
            all_->preferred.store(address_, sync::memory_order_relaxed);
        finish();
        return;
    }
    if (given_up_) {
        finish();
        return;
    }
    error failure = session_error(*this, state, error_number, parley::stage::receive,
                                  target().where().to_string(), elapsed());
    add_tls_words(failure, failure_);
    if (state == CS_STATE_ERROR && get_cause() == CC_CONNECT && !cancelled_)
        next_address(std::move(failure));
    else
        fail(std::move(failure));
}

// The peer could not be reached there, so it has seen nothing of the request.
void client_operation::next_address(error failure) noexcept {
    tried_++;
    if (tried_ < all_->targets.size() && failure != errc::stopping) {
        address_ = (address_ + 1) % all_->targets.size();
        acquire();
        return;
    }
    if (state_->where.is_name())
        state_->forget(all_);
    fail(std::move(failure));
}

void client_operation::fail(error failure) noexcept {
    failure_ = std::move(failure);
    finish();
}

void client_operation::finish() noexcept {
    phase_ = phase::done;
    if (starting_)
        return;
    if (armed_)
        task_->loop().communicator().unsleep(&timer_); // timer_ended() follows
    else
        report();
}

void client_operation::report() noexcept {
    cancelled_ ? task_->complete_stopped() : task_->complete();
}

void client_operation::cancel() noexcept {
    switch (phase_) {
    case phase::resolving:
        std::exchange(query_, nullptr)->abandon();
        cancelled_ = true;
        finish();
        break;
    case phase::queued:
        // On the loop that queued it also a grant on its way here is taken back.
        target().cancel_wait(this);
        cancelled_ = true;
        finish();
        break;
    case phase::in_flight:
        cancelled_ = true;
        task_->loop().communicator().cancel(static_cast<CommSession *>(this)); // handle() follows
        break;
    case phase::idle:
    case phase::done:
        break;
    }
}

// --- Its own limits ---

std::int64_t client_operation::end_of(std::int64_t limit) noexcept {
    const std::int64_t now = monotonic_now();
    return limit < 0 || limit > for_ever - now ? for_ever : now + limit;
}

void client_operation::limit_stage(std::int64_t limit) noexcept {
    stage_until_ = limit < 0 ? for_ever : end_of(limit);
    watch();
}

void client_operation::watch() noexcept {
    const std::int64_t nearest = std::min(total_until_, stage_until_);
    if (starting_ || nearest == for_ever)
        return;
    if (armed_) {
        if (nearest < armed_until_)
            task_->loop().communicator().unsleep(&timer_); // timer_ended() sets it again
        armed_until_ = std::min(armed_until_, nearest);
        return;
    }
    armed_ = true;
    armed_until_ = nearest;
    if (task_->loop().communicator().sleep(&timer_) == 0)
        return;
    armed_ = false;
    give_up(errno_error(errno, stage(), resource(), elapsed()));
}

int client_operation::timer::duration(struct timespec *value) {
    constexpr std::int64_t second = 1'000'000'000;
    const std::int64_t left = std::max<std::int64_t>(owner_.armed_until_ - monotonic_now(), 1);
    value->tv_sec = static_cast<time_t>(left / second);
    value->tv_nsec = static_cast<long>(left % second);
    return 0;
}

void client_operation::timer_ended(int state) noexcept {
    armed_ = false;
    if (phase_ == phase::done) {
        report();
        return;
    }
    if (state == SS_STATE_DISRUPTED || given_up_)
        return; // the Communicator stops, and tells what is in flight; the runtime cancels the rest
    if (monotonic_now() < std::min(total_until_, stage_until_)) {
        watch();
        return;
    }
    const client_settings &settings = state_->settings;
    const std::int64_t limit = total_until_ <= stage_until_ ? settings.total
                               : phase_ == phase::resolving ? settings.resolve
                                                            : settings.pool_wait;
    give_up(timed_out_error(stage(), resource(), elapsed(), std::chrono::nanoseconds(limit)));
}

void client_operation::give_up(error why) noexcept {
    switch (phase_) {
    case phase::resolving:
        std::exchange(query_, nullptr)->abandon();
        fail(std::move(why));
        break;
    case phase::queued:
        target().cancel_wait(this);
        fail(std::move(why));
        break;
    case phase::in_flight:
        given_up_ = true;
        failure_ = std::move(why);
        task_->loop().communicator().cancel(static_cast<CommSession *>(this)); // handle() follows
        break;
    case phase::idle:
    case phase::done:
        break;
    }
}

// --- For who looks at it ---

parley::stage client_operation::stage() const noexcept {
    switch (phase_) {
    case phase::resolving:
        return parley::stage::resolve;
    case phase::queued:
        return parley::stage::pool_wait;
    case phase::in_flight:
        return stage_of(get_wait(), parley::stage::connect);
    case phase::idle:
    case phase::done:
        break;
    }
    return parley::stage::none;
}

std::string client_operation::resource() const {
    return all_ ? target().where().to_string() : state_->where.to_string();
}

std::chrono::nanoseconds client_operation::elapsed() const noexcept {
    return std::chrono::nanoseconds(task_->loop().core().now() - task_->since());
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
