#include <parley/http/detail/incoming.hpp>

#include <cerrno>
#include <new>
#include <utility>

#include <parley/detail/session_error.hpp>

namespace parley::http::inline PARLEY_ABI {
namespace detail {

void incoming::begin(CommSession &of, const limits &most) {
    parser_.limit(most);
    parser_.reset();
    head_.clear();
    body_.clear();
    taken_ = 0;
    discarded_ = 0;
    refused_.reset();
    failure_ = error();
    session_ = &of;
    announced_ = headed_ = complete_ = failed_ = paused_ = discards_ = false;
}

int incoming::append(const void *buf, std::size_t *size) {
    try {
        return parse(buf, size);
    } catch (const std::bad_alloc &) {
        errno = ENOMEM;
        return -1;
    }
}

int incoming::parse(const void *buf, std::size_t *size) {
    if (discards_) {
        discarded_ += *size;
        if (discarded_ > most_discarded) {
            pause(); // for good
            return 0;
        }
        if (refused_)
            return 0;
    }
    std::string_view input(static_cast<const char *>(buf), *size);
    const auto refuse = [&](const parse_error &why) {
        refused_ = why;
        discards_ = true;
        body_.clear();
        taken_ = 0;
        wake();
    };
    for (;;) {
        switch (parser_.next(input)) {
        case parser::event::head:
            head_.adopt(parser_);
            headed_ = true;
            break;
        case parser::event::data:
            if (!discards_)
                body_.append(parser_.data());
            if (held() < most_held)
                break;
            if (std::string_view none; parser_.next(none) == parser::event::end)
                break; // there is nothing to hold back
            paused_ = true;
            [[fallthrough]];
        case parser::event::need_more:
        case parser::event::interim:
            *size -= input.size();
            if (!announced_) {
                announced_ = true;
                announce();
            }
            if (paused_)
                pause();
            wake();
            return 0;
        case parser::event::end:
            *size -= input.size();
            complete_ = true;
            session_ = nullptr;
            wake();
            return 1;
        case parser::event::error:
            refuse(parser_.error());
            if (!announced_) {
                announced_ = true;
                announce();
            }
            return 0;
        }
    }
}

void incoming::interrupted(int state, int error_number) {
    CommSession *session = std::exchange(session_, nullptr);
    failed_ = true;
    failure_ = parley::detail::session_error(*session, state, error_number, parley::stage::receive, peer_,
                                             std::chrono::nanoseconds());
    wake();
}

void incoming::take(std::size_t count) noexcept {
    taken_ += count;
    if (held() != 0)
        return;
    body_.clear();
    taken_ = 0;
    if (std::exchange(paused_, false) && session_)
        CommLoop::current()->communicator()->resume(session_);
}

void incoming::discard() noexcept {
    discards_ = true;
    take(held());
}

void incoming::wait(parley::detail::context &task, news what) noexcept {
    waiter_ = &task;
    awaited_ = what;
    task.begin(*this);
}

void incoming::wake() noexcept {
    if (waiter_ && has(awaited_))
        std::exchange(waiter_, nullptr)->complete();
}

void incoming::cancel() noexcept {
    std::exchange(waiter_, nullptr)->complete_stopped();
}

CommMessageIn *incoming_request::input(CommSession &session, const void *settings) {
    const auto &most = *static_cast<const limits *>(settings);
    try {
        if (!in_)
            in_ = std::make_unique<incoming>(most);
        in_->begin(session, most);
        return in_.get();
    } catch (const std::bad_alloc &) {
        errno = ENOMEM;
        return nullptr;
    }
}

bool incoming_wait::await_suspend(std::coroutine_handle<>, parley::detail::context &task) noexcept {
    on_.wait(task, what_);
    return true;
}

} // namespace detail
} // namespace parley::http::inline PARLEY_ABI
