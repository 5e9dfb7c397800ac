#include "stall_watch.hpp"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <iomanip>
#include <ostream>
#include <sstream>
#include <utility>

#include <parley/core/Sys.h>
#include <parley/detail/record.hpp>
#include <parley/detail/root.hpp>
#include <parley/loop.hpp>
#include <parley/runtime.hpp>

#include "function_name.hpp"

namespace parley::inline PARLEY_ABI {

std::ostream &operator<<(std::ostream &out, const stall_report &report) {
    std::ostringstream text; // the caller's stream keeps its flags
    text << "loop " << report.loop << (report.over ? " was blocked for " : " is blocked for ") << std::fixed
         << std::setprecision(3) << std::chrono::duration<double>(report.lasted).count() << " s: ";
    if (!report.in_task)
        text << "in a callback";
    else if (report.where.line() == 0)
        text << "in a task that has awaited nothing yet";
    else
        text << "in " << detail::function_name(report.where) << ", which went on at "
             << report.where.file_name() << ':' << report.where.line();
    return out << text.str();
}

namespace detail {

stall_watch::stall_watch(runtime &of, std::chrono::nanoseconds threshold, sink tell)
    : runtime_(of), threshold_(threshold.count()), sink_(std::move(tell)), loops_(of.loops()) {
    thread_ = sync::thread([this] { run(); });
}

stall_watch::~stall_watch() {
    {
        sync::lock_guard<sync::mutex> lock(mutex_);
        ended_ = true;
        changed_.notify_all();
    }
    thread_.join();
}

void stall_watch::run() noexcept {
    const std::chrono::nanoseconds interval(std::max<std::int64_t>(threshold_ / 4, 100'000));
    sync::unique_lock<sync::mutex> lock(mutex_);
    while (!changed_.wait_for(lock, interval, [this] { return ended_; })) {
        lock.unlock();
        for (std::size_t i = 0; i < loops_.size(); ++i)
            look_at(i);
        lock.lock();
    }
}

void stall_watch::look_at(std::size_t index) noexcept {
    watched &its = loops_[index];
    const parley::loop &loop = runtime_.loop(index);
    const std::int64_t since = loop.core().busy_since();
    const std::int64_t now = sys::monotonic_ns();
    if (its.told != 0 && its.told != since) {
        its.report.lasted = std::chrono::nanoseconds(now - its.told);
        its.report.over = true;
        its.told = 0;
        tell(its.report);
    }
    if (since == 0 || since == its.told || now - since < threshold_)
        return;
    // Whoever sees what a later turn has published sees that turn's begin as well: then it is over just now.
    const auto where = loop_access::resumed_at(loop);
    if (loop.core().busy_since() != since)
        return;
    its.told = since;
    its.report = stall_report();
    its.report.loop = index;
    its.report.lasted = std::chrono::nanoseconds(now - since);
    its.report.in_task = where.has_value();
    if (where)
        its.report.where = *where;
    tell(its.report);
}

void stall_watch::tell(const stall_report &report) noexcept {
    try {
        if (sink_) {
            sink_(report);
            return;
        }
        std::ostringstream text; // one write, so that reports of several threads do not mix
        text << "parley: " << report << '\n';
        std::fputs(text.str().c_str(), stderr);
    } catch (...) {
        report_exception("runtime_options::on_stall", std::current_exception());
    }
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
