#include <parley/connection.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

// Elsewhere not even the count of references may be touched.
recv_base::recv_base(connection_state *state) noexcept {
    if (state && state->is_here())
        state_ = hold(*state);
    else
        elsewhere_ = state != nullptr;
}

bool recv_base::await_ready() noexcept {
    refused_ = !state_ || state_->is_receiving();
    return refused_ || state_->recv_is_ready();
}

bool recv_base::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    state_->wait_for_request(task);
    return true;
}

turn *recv_base::take() noexcept {
    return refused_ ? nullptr : state_->take_request();
}

error recv_base::why() const {
    if (!state_)
        return elsewhere_ ? connection_state::not_here() : error(errc::closed, stage::receive);
    return state_->recv_error(refused_);
}

send_base::send_base(connection_state *state) noexcept {
    if (state && state->is_here())
        state_ = hold(*state);
    else
        status_ = state ? send_status::elsewhere : send_status::closed;
}

bool send_base::await_ready() noexcept {
    return !state_ || !state_->can_send(status_);
}

bool send_base::begin(context &task, CommMessageOut &message) noexcept {
    return state_->begin_send(task, message, status_);
}

result<void> send_base::end() const {
    if (status_ == send_status::sent) [[likely]]
        return {};
    if (state_)
        return unexpected(state_->send_error(status_));
    if (status_ == send_status::elsewhere)
        return unexpected(connection_state::not_here());
    return unexpected(errc::closed, stage::send);
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
