#include "sight.hpp"

#include <algorithm>
#include <memory>
#include <new>
#include <utility>

#include <parley/core/Sync.h>
#include <parley/detail/all_runtimes.hpp>
#include <parley/detail/connection_state.hpp>
#include <parley/detail/excursion.hpp>
#include <parley/detail/promise.hpp>
#include <parley/loop.hpp>
#include <parley/task_local.hpp>

namespace parley::inline PARLEY_ABI {
namespace detail {

void all_runtimes::enter(runtime &one) noexcept {
    sync::lock_guard<sync::mutex> hold(mutex_);
    one.next_ = std::exchange(first_, &one);
}

void all_runtimes::leave(runtime &one) noexcept {
    sync::lock_guard<sync::mutex> hold(mutex_);
    runtime **place = &first_;
    while (*place != &one)
        place = &(*place)->next_;
    *place = one.next_;
}

namespace {

// Writes down what is on the calling loop. No recursion: chains may be nested to any depth.
class visitor {
public:
    visitor(parley::loop &here, seen_loop &out) noexcept : here_(here), out_(out) {}

    void visit() {
        todo_.push_back({&loop_access::roots(here_).chains(), seen_task::none});
        for (const chain_source *one = loop_access::sources(here_); one; one = one->next())
            todo_.push_back({&one->chains(), seen_task::none});
        for (const excursion *one = loop_access::guests(here_); one; one = one->next_guest())
            add_guest(*one);
        for (std::size_t done = 0; done < todo_.size(); ++done) { // grows meanwhile
            const auto [list, parent] = todo_[done];
            for (record *chain = list->first(); chain; chain = chain_list::next(*chain))
                add_chain(*chain, parent);
        }
        for (const connection_state *one = connection_state::first_here(); one; one = one->next_here()) {
            if (&one->home() == &here_.core())
                out_.connections.push_back(
                    {one->peer().to_string(), one->condition(), one->descriptor(), one->unanswered()});
        }
        out_.lag = here_.lag();
        out_.state = seen_loop::condition::answered;
    }

private:
    static constexpr std::size_t most_outer = 32; // of the tasks of one chain
    static constexpr std::size_t most_inner = 32;

    struct below {
        const chain_list *list;
        std::size_t parent;
    };

    void add_chain(record &first, std::size_t parent) {
        const context &chain = first.owned_chain();
        const std::size_t top = out_.tasks.size();
        add_tasks(chain, nullptr, parent);
        seen_task &outermost = out_.tasks[top];
        outermost.purpose = first.owner().purpose();
        if (outermost.fd < 0 && !outermost.purpose.empty())
            outermost.fd = first.owner().descriptor();
    }

    void add_guest(const excursion &one) {
        const std::size_t top = out_.tasks.size();
        add_tasks(one.chain(), &one.task(), seen_task::none);
        out_.tasks[top].is_guest = true;
        out_.tasks[top].abroad = &one;
    }

    // From the outermost, which is `last` or the first of the chain, to the innermost.
    void add_tasks(const context &chain, const record *last, std::size_t parent) {
        line_.clear();
        for (const record *one = chain.has_task() ? &chain.task() : nullptr; one;
             one = one == last ? nullptr : one->parent())
            line_.push_back(one);
        // Wrappers of the library's have no place; a name is that of the task in it.
        const std::string *name = nullptr;
        std::size_t omitted = 0;
        for (std::size_t left = line_.size(); left-- > 0;) {
            const record &one = *line_[left];
            if (one.name())
                name = one.name();
            if (left > 0 && one.site().line() == 0)
                continue;
            if (left >= most_inner && left + most_outer < line_.size()) {
                ++omitted;
                continue;
            }
            seen_task seen;
            seen.parent = parent;
            seen.site = one.site();
            seen.omitted = std::exchange(omitted, 0);
            if (const std::string *its = std::exchange(name, nullptr))
                seen.name = *its;
            parent = out_.tasks.size();
            out_.tasks.push_back(std::move(seen));
        }
        if (line_.empty()) {
            seen_task seen;
            seen.parent = parent;
            parent = out_.tasks.size();
            out_.tasks.push_back(std::move(seen));
        }
        describe(chain, out_.tasks[parent], parent);
    }

    void describe(const context &chain, seen_task &innermost, std::size_t index) {
        const operation *op = chain.awaiting();
        if (&chain == running_chain()) {
            innermost.state = seen_task::condition::running;
            return;
        }
        if (!op) {
            innermost.state = seen_task::condition::ready;
            return;
        }
        innermost.state = seen_task::condition::waiting;
        innermost.awaits = op->name();
        innermost.stage = op->stage();
        innermost.resource = op->resource();
        innermost.fd = op->descriptor();
        innermost.since = chain.since();
        if (op->is_elsewhere()) {
            innermost.state = seen_task::condition::away;
            innermost.abroad = static_cast<const excursion *>(op);
        }
        if (const branch *all = op->as_branch(); all && all->children())
            todo_.push_back({all->children(), index});
    }

    parley::loop &here_;
    seen_loop &out_;
    std::vector<below> todo_;
    std::vector<const record *> line_;
};

// The question to all loops. Kept by who asked and by every loop that has not answered yet: such a one may
// answer when nobody listens any more.
class question : public std::enable_shared_from_this<question> {
public:
    void add(parley::loop &where, std::size_t number) {
        asked_.push_back(std::make_unique<one_loop>(where));
        asked_.back()->seen.runtime = number;
        asked_.back()->seen.index = where.index();
    }

    // Under the lock of all_runtimes, or while the runtime lives otherwise.
    void post() {
        for (const auto &each : asked_) {
            if (each->where.is_current())
                continue; // below, in place
            each->asks = shared_from_this();
            each->run = [](CommNode *node) {
                auto &mine = *static_cast<one_loop *>(node);
                const std::shared_ptr<question> asks = std::move(mine.asks); // may be the last to keep `mine`
                asks->answer(mine);
            };
            {
                sync::lock_guard<sync::mutex> hold(mutex_);
                ++missing_;
            }
            if (each->where.core().post(each.get()) != 0) {
                each->asks.reset();
                each->seen.state = seen_loop::condition::ended;
                sync::lock_guard<sync::mutex> hold(mutex_);
                --missing_;
            }
        }
    }

    std::vector<seen_loop> wait(std::chrono::nanoseconds patience) {
        for (const auto &each : asked_) {
            if (each->where_is_here)
                visitor(each->where, each->seen).visit();
        }
        sync::unique_lock<sync::mutex> lock(mutex_);
        constexpr std::chrono::nanoseconds longest = std::chrono::hours(24 * 365); // the clock has an end
        answered_.wait_for(lock, std::min(patience, longest), [this] { return missing_ == 0; });
        over_ = true;
        std::vector<seen_loop> all;
        for (const auto &each : asked_) {
            // One that has not answered stays until it has: it waits for the lock.
            if (each->seen.state == seen_loop::condition::blocked) {
                if (const auto site = loop_access::resumed_at(each->where)) {
                    each->seen.in_task = true;
                    each->seen.site = *site;
                }
            }
            all.push_back(std::move(each->seen));
        }
        if (failed_)
            throw std::bad_alloc();
        return all;
    }

private:
    struct one_loop : CommNode {
        explicit one_loop(parley::loop &l) noexcept : where(l), where_is_here(l.is_current()) {}
        parley::loop &where;
        bool where_is_here;
        seen_loop seen;
        std::shared_ptr<question> asks; // while posted
    };

    // On the loop. It writes into a list of its own, so that nobody waits for the lock meanwhile.
    void answer(one_loop &mine) noexcept {
        seen_loop seen;
        bool failed = false;
        if (!is_over()) {
            try {
                visitor(mine.where, seen).visit();
            } catch (...) { // no memory
                failed = true;
            }
        }
        sync::lock_guard<sync::mutex> hold(mutex_);
        --missing_;
        if (over_)
            return;
        failed_ = failed_ || failed;
        seen.runtime = mine.seen.runtime;
        seen.index = mine.seen.index;
        mine.seen = std::move(seen);
        answered_.notify_one();
    }
    [[nodiscard]] bool is_over() noexcept {
        sync::lock_guard<sync::mutex> hold(mutex_);
        return over_;
    }

    std::vector<std::unique_ptr<one_loop>> asked_;
    sync::mutex mutex_; // for what follows, and for what was seen
    sync::condition_variable answered_;
    std::size_t missing_ = 0;
    bool over_ = false;
    bool failed_ = false;
};

} // namespace

std::vector<seen_loop> look([[maybe_unused]] runtime *only,
                            [[maybe_unused]] std::chrono::nanoseconds patience) {
#if PARLEY_SIGHT
    const auto asked = std::make_shared<question>();
    std::size_t number = 0;
    auto add = [&](runtime &one) {
        ++number;
        for (std::size_t i = 0; i < one.loops(); ++i)
            asked->add(one.loop(i), number);
    };
    if (only) {
        add(*only);
        asked->post();
    } else {
        all_runtimes::for_each(add, [&] { asked->post(); });
    }
    return asked->wait(patience);
#else
    return {};
#endif
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
