#include <parley/connection.hpp>

#include <utility>

namespace parley::inline PARLEY_ABI {
namespace detail {

bool recv_base::await_ready() noexcept {
    if (!state_)
        return true;
    if (!state_->is_here()) {
        elsewhere_ = true;
        state_ = nullptr; // not even its count of references may be touched
        return true;
    }
    refused_ = state_->is_receiving();
    return refused_ || state_->recv_is_ready();
}

bool recv_base::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    keep();
    state_->wait_for_request(task);
    return true;
}

void recv_base::keep() noexcept {
    if (state_ && !std::exchange(held_, true))
        state_->retain();
}

turn *recv_base::take() noexcept {
    return refused_ || !state_ ? nullptr : state_->take_request();
}

error recv_base::why() const {
    if (!state_)
        return elsewhere_ ? connection_state::not_here() : error(errc::closed, stage::receive);
    return state_->recv_error(refused_);
}

bool send_base::await_ready() noexcept {
    if (state_ && state_->is_here())
        return !state_->can_send(status_);
    status_ = state_ ? send_status::elsewhere : send_status::closed;
    state_ = nullptr; // elsewhere not even its count of references may be touched
    return true;
}

bool send_base::begin(context &task, CommMessageOut &message, bool last) noexcept {
    if (!state_->begin_send(task, message, last, status_))
        return false;
    keep();
    return true;
}

void send_base::keep() noexcept {
    if (state_ && !std::exchange(held_, true))
        state_->retain();
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
