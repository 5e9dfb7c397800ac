#include <parley/dump_tasks.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <ostream>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <parley/error.hpp>
#include <parley/sleep.hpp>

#include "function_name.hpp"
#include "sight.hpp"

namespace parley::inline PARLEY_ABI {
namespace {

using detail::function_name;
using detail::seen_loop;
using detail::seen_task;

constexpr std::size_t none = seen_task::none;

// The tasks of all loops as one forest, in which what is on another loop hangs below what it belongs to.
class forest {
public:
    struct node {
        seen_task *task;
        std::size_t loop; // an index in the list of loops
        std::size_t parent = none;
        std::size_t first_child = none;
        std::size_t next_sibling = none;
    };

    explicit forest(std::vector<seen_loop> &loops) {
        std::unordered_map<const void *, std::size_t> away;
        for (std::size_t l = 0; l < loops.size(); ++l) {
            const std::size_t base = nodes.size();
            for (seen_task &task : loops[l].tasks) {
                if (task.abroad && !task.is_guest)
                    away.emplace(task.abroad, nodes.size());
                nodes.push_back({&task, l, task.parent == none ? none : base + task.parent});
            }
        }
        for (node &one : nodes) {
            if (!one.task->is_guest)
                continue;
            if (auto home = away.find(one.task->abroad); home != away.end())
                one.parent = home->second;
        }
        for (std::size_t i = nodes.size(); i-- > 0;) { // backwards, so that siblings keep their order
            std::size_t &first = nodes[i].parent == none ? roots : nodes[nodes[i].parent].first_child;
            nodes[i].next_sibling = std::exchange(first, i);
        }
        std::vector<std::size_t> todo;
        for (std::size_t i = roots; i != none; i = nodes[i].next_sibling)
            todo.push_back(i);
        std::reverse(todo.begin(), todo.end());
        while (!todo.empty()) {
            const std::size_t i = todo.back();
            todo.pop_back();
            order.push_back(i);
            const std::size_t from = todo.size();
            for (std::size_t c = nodes[i].first_child; c != none; c = nodes[c].next_sibling)
                todo.push_back(c);
            std::reverse(todo.begin() + static_cast<std::ptrdiff_t>(from), todo.end());
        }
    }

    std::vector<node> nodes;
    std::vector<std::size_t> order; // parents before their children
    std::size_t roots = none;
};

std::string seconds_of(std::int64_t nanoseconds) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3f", static_cast<double>(nanoseconds) / 1e9);
    return text;
}

std::string seconds_since(std::int64_t since) {
    return seconds_of(std::max<std::int64_t>(detail::monotonic_now() - since, 0));
}

const char *name_of(seen_task::condition state) noexcept {
    switch (state) {
    case seen_task::condition::running:
        return "running";
    case seen_task::condition::ready:
        return "ready";
    case seen_task::condition::away:
        return "away";
    case seen_task::condition::suspended:
    case seen_task::condition::waiting:
        break;
    }
    return "waiting";
}

const char *name_of(seen_loop::condition state) noexcept {
    switch (state) {
    case seen_loop::condition::answered:
        return "answered";
    case seen_loop::condition::ended:
        return "ended";
    case seen_loop::condition::blocked:
        break;
    }
    return "blocked";
}

// --- Text ---

class text_writer {
public:
    text_writer(std::ostream &out, std::vector<seen_loop> &loops, const dump_options &options)
        : out_(out), loops_(loops), options_(options), all_(loops) {}

    void write() {
#if !PARLEY_SIGHT
        out_ << "parley was built without PARLEY_SIGHT: tasks cannot be listed\n";
#endif
        find_alike();
        std::vector<std::vector<std::size_t>> roots(loops_.size());
        for (std::size_t i = all_.roots; i != none; i = all_.nodes[i].next_sibling)
            roots[all_.nodes[i].loop].push_back(i);
        for (std::size_t l = 0; l < loops_.size(); ++l) {
            write_head(loops_[l]);
            write_trees(std::move(roots[l]));
            write_connections(loops_[l]);
        }
    }

private:
    struct line {
        std::size_t node;
        std::size_t depth;
        std::size_t alike; // how many it stands for
    };

    // For each task, what makes it alike to another: places, states and operations of all below it.
    void find_alike() {
        alike_.resize(all_.nodes.size());
        oldest_.resize(all_.nodes.size());
        for (auto at = all_.order.rbegin(); at != all_.order.rend(); ++at) {
            const seen_task &task = *all_.nodes[*at].task;
            std::size_t hash = std::hash<const void *>()(task.site.file_name());
            mix(hash, task.site.line());
            mix(hash, task.site.column());
            mix(hash, static_cast<std::size_t>(task.state));
            mix(hash, std::hash<std::string_view>()(task.awaits ? task.awaits : ""));
            std::int64_t oldest = task.since == 0 ? INT64_MAX : task.since;
            for (std::size_t c = all_.nodes[*at].first_child; c != none; c = all_.nodes[c].next_sibling) {
                mix(hash, alike_[c]);
                oldest = std::min(oldest, oldest_[c]);
            }
            alike_[*at] = hash;
            oldest_[*at] = oldest;
        }
    }
    static void mix(std::size_t &hash, std::size_t more) noexcept {
        hash = (hash ^ more) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }

    void write_head(const seen_loop &one) {
        out_ << "runtime " << one.runtime << ", loop " << one.index << ": ";
        if (one.state == seen_loop::condition::answered) {
            out_ << one.tasks.size() << (one.tasks.size() == 1 ? " task, " : " tasks, ")
                 << one.connections.size() << (one.connections.size() == 1 ? " connection" : " connections");
            if (one.lag >= std::chrono::milliseconds(1))
                out_ << ", was late by " << seconds_of(one.lag.count()) << " s";
            out_ << '\n';
        } else if (one.state == seen_loop::condition::ended) {
            out_ << "ended\n";
        } else if (!one.in_task) {
            out_ << "blocked, not in a task\n";
        } else if (one.site.line() == 0) {
            out_ << "blocked in a task before its first co_await\n";
        } else {
            out_ << "blocked in the task resumed at " << one.site.file_name() << ':' << one.site.line()
                 << " in " << function_name(one.site) << '\n';
        }
    }

    void write_trees(std::vector<std::size_t> roots) {
        std::vector<line> todo;
        push(todo, std::move(roots), 1);
        while (!todo.empty()) {
            const line one = todo.back();
            todo.pop_back();
            write_task(one);
            std::vector<std::size_t> children;
            for (std::size_t c = all_.nodes[one.node].first_child; c != none; c = all_.nodes[c].next_sibling)
                children.push_back(c);
            push(todo, std::move(children), one.depth + 1);
        }
    }

    // Siblings to be written, the last of them first.
    void push(std::vector<line> &todo, std::vector<std::size_t> siblings, std::size_t depth) {
        const std::size_t from = todo.size();
        if (siblings.size() > options_.group_above) {
            std::unordered_map<std::size_t, std::size_t> count;
            for (std::size_t s : siblings)
                ++count[alike_[s]];
            std::unordered_map<std::size_t, std::size_t> group; // its line
            for (std::size_t s : siblings) {
                const std::size_t many = count[alike_[s]];
                if (many <= options_.group_above) {
                    todo.push_back({s, depth, 1});
                    continue;
                }
                const auto [at, is_new] = group.emplace(alike_[s], todo.size());
                if (is_new)
                    todo.push_back({s, depth, many});
                else if (oldest_[s] < oldest_[todo[at->second].node])
                    todo[at->second].node = s;
            }
        } else {
            for (std::size_t s : siblings)
                todo.push_back({s, depth, 1});
        }
        std::reverse(todo.begin() + static_cast<std::ptrdiff_t>(from), todo.end());
    }

    void write_task(const line &one) {
        const seen_task &task = *all_.nodes[one.node].task;
        constexpr std::size_t deepest = 40;
        const std::string indent(2 * std::min(one.depth, deepest), ' ');
        if (task.omitted != 0)
            out_ << indent << "(" << task.omitted << " more tasks between)\n";
        out_ << indent;
        if (one.alike > 1)
            out_ << one.alike << " times, the oldest: ";
        if (!task.purpose.empty()) {
            out_ << task.purpose;
            if (task.fd >= 0 && !task.awaits)
                out_ << ", fd " << task.fd;
            out_ << ": ";
        }
        if (!task.name.empty())
            out_ << '"' << task.name << "\" ";
        if (task.site.line() != 0)
            out_ << task.site.file_name() << ':' << task.site.line() << " in " << function_name(task.site);
        else if (task.state == seen_task::condition::away && task.name.empty())
            out_ << "task";
        else if (!task.awaits && task.name.empty())
            out_ << "before its first co_await";
        write_state(task);
        if (task.is_guest)
            out_ << ", on loop " << loops_[all_.nodes[one.node].loop].index;
        out_ << '\n';
    }

    void write_state(const seen_task &task) {
        if (task.state == seen_task::condition::suspended)
            return;
        if (!task.awaits) {
            out_ << ": " << name_of(task.state);
            return;
        }
        out_ << (task.site.line() != 0 || task.state == seen_task::condition::away ? ": " : "")
             << task.awaits;
        if (!task.resource.empty())
            out_ << ' ' << task.resource;
        if (task.fd >= 0 && task.resource != "fd " + std::to_string(task.fd))
            out_ << ", fd " << task.fd;
        if (task.since != 0)
            out_ << ", " << seconds_since(task.since) << " s";
    }

    void write_connections(const seen_loop &of) {
        std::size_t idle = 0;
        for (const auto &one : of.connections)
            idle += is_idle(one);
        const bool group = idle > options_.group_above;
        if (group)
            out_ << "  " << idle << " idle connections\n";
        for (const auto &one : of.connections) {
            if (group && is_idle(one))
                continue;
            out_ << "  connection " << one.peer << ", fd " << one.fd << ": " << one.condition;
            if (one.unanswered != 0)
                out_ << ", " << one.unanswered << " unanswered";
            out_ << '\n';
        }
    }
    static bool is_idle(const detail::seen_connection &one) noexcept {
        return std::string_view(one.condition) == "idle";
    }

    std::ostream &out_;
    std::vector<seen_loop> &loops_;
    const dump_options &options_;
    forest all_;
    std::vector<std::size_t> alike_;
    std::vector<std::int64_t> oldest_;
};

// --- JSON ---

class json_writer {
public:
    explicit json_writer(std::ostream &out) : out_(out) {}

    void write(std::vector<seen_loop> &loops) {
        out_ << "{\"loops\":[";
        for (const seen_loop &one : loops) {
            begin(&one != &loops.front());
            place(one);
            text("state", name_of(one.state));
            if (one.state == seen_loop::condition::answered) {
                key("lag");
                out_ << seconds_of(one.lag.count());
            }
            site(one.site);
            out_ << '}';
        }
        out_ << "],\"tasks\":[";
        const forest all(loops);
        for (std::size_t i : all.order) {
            begin(i != all.order.front());
            task(all.nodes[i], i, loops[all.nodes[i].loop]);
            out_ << '}';
        }
        out_ << "],\"connections\":[";
        bool follows = false;
        for (const seen_loop &where : loops) {
            for (const auto &one : where.connections) {
                begin(std::exchange(follows, true));
                place(where);
                text("peer", one.peer);
                number("fd", one.fd);
                text("state", one.condition);
                number("unanswered", one.unanswered);
                out_ << '}';
            }
        }
        out_ << "]}\n";
    }

private:
    void task(const forest::node &node, std::size_t id, const seen_loop &where) {
        const seen_task &one = *node.task;
        number("id", id);
        if (node.parent != none)
            number("parent", node.parent);
        place(where);
        text("state", name_of(one.state));
        if (!one.name.empty())
            text("name", one.name);
        if (!one.purpose.empty())
            text("purpose", one.purpose);
        site(one.site);
        if (one.awaits)
            text("awaits", one.awaits);
        if (one.stage != parley::stage::none)
            text("stage", to_string(one.stage));
        if (!one.resource.empty())
            text("resource", one.resource);
        if (one.fd >= 0)
            number("fd", one.fd);
        if (one.since != 0) {
            key("seconds");
            out_ << seconds_since(one.since);
        }
        if (one.omitted != 0)
            number("omitted", one.omitted);
    }

    void begin(bool follows) {
        out_ << (follows ? ",{" : "{");
        first_ = true;
    }
    void key(const char *name) { out_ << (std::exchange(first_, false) ? "\"" : ",\"") << name << "\":"; }
    void place(const seen_loop &of) {
        number("runtime", of.runtime);
        number("loop", of.index);
    }
    void site(const std::source_location &at) {
        if (at.line() == 0)
            return;
        key("site");
        out_ << '{';
        first_ = true;
        text("file", at.file_name());
        number("line", at.line());
        text("function", function_name(at));
        out_ << '}';
        first_ = false;
    }
    template <class N>
    void number(const char *name, N value) {
        key(name);
        out_ << std::to_string(value); // not by the stream, which may have a locale
    }
    void text(const char *name, std::string_view value) {
        key(name);
        out_ << '"';
        for (const char c : value) {
            if (c == '"' || c == '\\') {
                out_ << '\\' << c;
            } else if (static_cast<unsigned char>(c) < 0x20) {
                char escaped[8];
                std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
                out_ << escaped;
            } else {
                out_ << c;
            }
        }
        out_ << '"';
    }

    std::ostream &out_;
    bool first_ = true;
};

void write_text(std::ostream &out, runtime *only, const dump_options &options) {
    std::vector<seen_loop> loops = detail::look(only, options.patience.nanoseconds());
    text_writer(out, loops, options).write();
}

void write_json(std::ostream &out, runtime *only, const dump_options &options) {
    std::vector<seen_loop> loops = detail::look(only, options.patience.nanoseconds());
    json_writer(out).write(loops);
}

} // namespace

void dump_tasks(std::ostream &out, const dump_options &options) {
    write_text(out, nullptr, options);
}
void dump_tasks(std::ostream &out, runtime &of, const dump_options &options) {
    write_text(out, &of, options);
}
void dump_tasks_json(std::ostream &out, const dump_options &options) {
    write_json(out, nullptr, options);
}
void dump_tasks_json(std::ostream &out, runtime &of, const dump_options &options) {
    write_json(out, &of, options);
}

} // namespace parley::inline PARLEY_ABI
