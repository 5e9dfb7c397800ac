#include <parley/resolve.hpp>

#include <netdb.h>

#include <cerrno>
#include <memory>
#include <new>
#include <string>

#include <parley/core/Sys.h>
#include <parley/detail/query.hpp>
#include <parley/detail/session_error.hpp>
#include <parley/runtime.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

query::query(const endpoint &name, parley::loop &here, query_client &client)
    : answer(std::vector<endpoint>()), name_(name), home_(here), client_(&client) {
    CommNode::run = come_home;
}

void query::come_home(CommNode *node) noexcept {
    auto *self = static_cast<query *>(node);
    if (self->client_)
        self->client_->resolved(*self);
    delete self;
}

query *query::start(const endpoint &name, parley::loop &here, query_client &client) noexcept {
    try {
        auto *fresh = new query(name, here, client);
        if (here.runtime().executor().request(fresh, &here.runtime().compute_queue()) == 0)
            return fresh;
        delete fresh;
    } catch (const std::bad_alloc &) {
        errno = ENOMEM;
    }
    return nullptr;
}

// On a thread of the Executor: may block for as long as it takes.
void query::execute() {
    sys::world &world = sys::current();
    struct addrinfo hints = {};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    struct addrinfo *found = nullptr;
    const std::string host = name_.host();
    const int failure = world.getaddrinfo(host.c_str(), nullptr, &hints, &found);
    if (failure != 0) {
        const std::error_code why = failure == EAI_SYSTEM ? system_error_code(errno) : resolve_error(failure);
        answer = unexpected(why, stage::resolve, name_.to_string());
        return;
    }
    for (struct addrinfo *one = found; one; one = one->ai_next) {
        const endpoint address = endpoint(one->ai_addr, one->ai_addrlen).with_port(name_.port());
        if (address)
            answer->push_back(address);
    }
    world.freeaddrinfo(found);
    if (answer->empty())
        answer = unexpected(resolve_error(EAI_NONAME), stage::resolve, name_.to_string());
}

void query::handle(int state, int error_number) {
    if (state == ES_STATE_CANCELED)
        answer = unexpected(errc::stopping, stage::shutdown, name_.to_string());
    else if (state == ES_STATE_ERROR)
        answer = unexpected(errno_error(error_number, stage::resolve, name_.to_string()));
    if (home_.core().post(this) != 0)
        delete this; // the loop has ended, and with it whoever waited
}

} // namespace detail

bool resolve_operation::await_ready() noexcept {
    if (where_.is_name())
        return false;
    struct sockaddr_storage address;
    result<socklen_t> valid = where_.to_sockaddr(address);
    if (valid)
        answer_ = std::vector<endpoint>(1, where_);
    else
        answer_ = unexpected(valid.error().set_stage(stage::resolve));
    return true;
}

bool resolve_operation::await_suspend(std::coroutine_handle<>, detail::context &task) noexcept {
    task_ = &task;
    task.begin(*this);
    query_ = detail::query::start(where_, task.loop(), *this);
    if (query_)
        return true;
    answer_ = unexpected(detail::errno_error(errno, stage::resolve, where_.to_string()));
    return false;
}

result<std::vector<endpoint>> resolve_operation::await_resume() {
    return std::move(answer_);
}

void resolve_operation::resolved(detail::query &q) noexcept {
    query_ = nullptr;
    answer_ = std::move(q.answer);
    if (!answer_)
        answer_.error().set_elapsed(std::chrono::nanoseconds(task_->loop().core().now() - task_->since()));
    task_->complete();
}

void resolve_operation::cancel() noexcept {
    if (!query_)
        return;
    query_->abandon();
    task_->complete_stopped();
}

} // namespace parley::inline PARLEY_ABI
