#include <parley/acceptor.hpp>

#include <utility>

namespace parley::inline PARLEY_ABI {
namespace detail {

void acceptor_state::open_in_task() noexcept {
    if (parley::loop *here = parley::loop::current())
        open(*here, false);
}

int acceptor_state::bind_to(Communicator &communicator, CommLoop &here) noexcept {
    return communicator.bind(this, &here);
}

void acceptor_state::arrived(connection_state &newcomer) noexcept {
    newcomer.retain();
    if (accept_base *one = accepting_.pop_front()) {
        one->given_ = &newcomer;
        one->task_->complete();
        return;
    }
    newcomer.set_next_in_queue(nullptr);
    if (last_)
        last_->set_next_in_queue(&newcomer);
    else
        first_ = &newcomer;
    last_ = &newcomer;
    if (++queued_ >= settings().queue && !paused_) {
        paused_ = true;
        pause_accept();
    }
}

connection_state *acceptor_state::pop() noexcept {
    connection_state *oldest = first_;
    if (!oldest)
        return nullptr;
    first_ = oldest->next_in_queue();
    if (!first_)
        last_ = nullptr;
    if (--queued_ <= settings().queue / 2 && paused_ && state() == phase::open) {
        paused_ = false;
        resume_accept();
    }
    return oldest;
}

void acceptor_state::changed() noexcept {
    if (state() == phase::open || is_opening())
        return;
    while (accept_base *one = accepting_.pop_front())
        one->task_->complete();
    while (connection_state *nobodys = pop())
        nobodys->abandon();
}

void acceptor_state::abandoned() noexcept {
    while (accept_base *one = accepting_.pop_front())
        one->task_->complete_stopped();
}

accept_base::accept_base(acceptor_state *state) noexcept {
    if (state && state->is_here())
        state_ = hold(*state);
    else
        elsewhere_ = state != nullptr;
}

accept_base::~accept_base() {
    if (given_)
        given_->abandon();
}

bool accept_base::await_ready() noexcept {
    if (!state_)
        return true;
    if (state_->accepting_.empty())
        given_ = state_->pop();
    return given_ || (!state_->is_opening() && state_->state() != door::phase::open);
}

bool accept_base::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    task.begin(*this);
    state_->open(task.loop(), true);
    if (!state_->is_opening() && state_->state() != door::phase::open)
        return false;
    state_->accepting_.push_back(*this);
    return true;
}

connection_state *accept_base::take() noexcept {
    return std::exchange(given_, nullptr);
}

error accept_base::why() const {
    if (state_)
        return state_->why(parley::stage::accept);
    if (elsewhere_)
        return error(make_error_code(std::errc::operation_not_permitted), parley::stage::accept, {}, {},
                     "an acceptor is used on one loop");
    return error(errc::closed, parley::stage::accept);
}

void accept_base::cancel() noexcept {
    state_->accepting_.remove(*this);
    state_->lose_interest();
    task_->complete_stopped();
}

std::string accept_base::resource() const {
    return state_->where().to_string();
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
