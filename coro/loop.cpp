#include <parley/loop.hpp>

#include <cstring>
#include <optional>
#include <type_traits>
#include <utility>

#include <parley/detail/promise.hpp>
#include <parley/detail/record.hpp>
#include <parley/detail/root.hpp>
#include <parley/error.hpp>
#include <parley/runtime.hpp>

namespace parley::inline PARLEY_ABI {
namespace {

// Never inlined: a fiber's code must not keep the address of a thread-local variable in a register.
[[gnu::noinline]] loop *&running_here() noexcept {
    static thread_local loop *running = nullptr;
    return running;
}

} // namespace

loop::loop(parley::runtime &owner, CommLoop &core) noexcept : runtime_(owner), core_(core), roots_(*this) {
    stop_.of = this;
    stop_.run = [](CommNode *node) { static_cast<stop_node *>(node)->of->roots_.stop(); };
}

void loop::post_stop() noexcept {
    core_.post(&stop_);
}

void loop::publish(const std::source_location &site) noexcept {
    const void *word = nullptr;
    static_assert(sizeof site == sizeof word && std::is_trivially_copyable_v<std::source_location>);
    std::memcpy(&word, &site, sizeof word);
    resumed_at_.store(word ? word : this, sync::memory_order_release);
}

loop *loop::current() noexcept {
    return running_here();
}

void loop::resume(std::coroutine_handle<> task) noexcept {
    loop *const before = std::exchange(running_here(), this);
#if PARLEY_SIGHT
    publish(std::coroutine_handle<detail::promise_base>::from_address(task.address()).promise().site());
#endif
    task.resume();
#if !PARLEY_SYMMETRIC_TRANSFER
    while (next_)
        std::exchange(next_, {}).resume();
#endif
    if (detail::record *first = std::exchange(finished_, nullptr))
        first->owner_->chain_done(*first);
    running_here() = before;
#if PARLEY_SIGHT
    resumed_at_.store(nullptr, sync::memory_order_relaxed);
#endif
}

loop &this_loop() {
    loop *here = loop::current();
    if (!here)
        throw exception(errc::no_runtime);
    return *here;
}

namespace detail {

std::optional<std::source_location> loop_access::resumed_at(const parley::loop &home) noexcept {
    const void *word = home.resumed_at_.load(sync::memory_order_acquire);
    if (!word)
        return std::nullopt;
    std::source_location site;
    if (word != &home)
        std::memcpy(static_cast<void *>(&site), &word, sizeof site);
    return site;
}

void chain_source::push_back(parley::loop &home, record &chain) noexcept {
    if (chains_.empty()) {
        chain_source *&first = loop_access::sources(home);
        previous_ = nullptr;
        next_ = first;
        if (first)
            first->previous_ = this;
        first = this;
    }
    chains_.push_back(chain);
}

void chain_source::remove(parley::loop &home, record &chain) noexcept {
    chains_.remove(chain);
    if (!chains_.empty())
        return;
    (previous_ ? previous_->next_ : loop_access::sources(home)) = next_;
    if (next_)
        next_->previous_ = previous_;
}

bool root_list::begin(record &first) noexcept {
    first.begin_chain(home_, *this, nullptr);
    first.owned_chain().CommNode::run = &context::run_root;
    return first.owned_chain().start();
}

void context::run_root(CommNode *node) noexcept {
    auto &chain = *static_cast<context *>(node);
    chain.CommNode::run = &context::run;
    loop_access::roots(*chain.home_).enter(chain.task());
    context::run(node);
}

void root_list::enter(record &first) noexcept {
    chains_.push_back(first);
    if (stopping_)
        first.owned_chain().cancel();
}

void root_list::stop() noexcept {
    stopping_ = true;
    for (record *chain = chains_.first(); chain; chain = chain_list::next(*chain))
        chain->owned_chain().cancel();
}

void root_list::chain_done(record &first) noexcept {
    chains_.remove(first);
    first.destroy();
    home_.root_count_.fetch_sub(1, sync::memory_order_relaxed);
    home_.runtime().root_ended();
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
