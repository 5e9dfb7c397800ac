#include "epoll.h"

#include <errno.h>

#include <algorithm>

#include "kernel.h"

namespace parley::sim::detail {

void file::changed(std::uint32_t events) {
    // edge() wakes threads but runs none, so nobody unregisters meanwhile.
    for (epoll *one : watched_by)
        one->edge(*this, events);
    for (thread *one : waiting_)
        kernel_.threads().wake(*one);
    waiting_.clear();
}

bool file::await_change(const char *doing, std::int64_t deadline) {
    thread &self = kernel_.threads().self();
    waiting_.push_back(&self);
    if (kernel_.threads().block(doing, this, deadline))
        return true;
    std::erase(waiting_, &self);
    return false;
}

std::uint32_t epoll::poll() const {
    for (const auto &[number, one] : registrations_)
        if (one.queued && !one.disabled && (one.target->poll() & (one.events | EPOLLERR | EPOLLHUP)) != 0)
            return EPOLLIN;
    return 0;
}

void epoll::close() {
    for (auto &[number, one] : registrations_)
        std::erase(one.target->watched_by, this);
    registrations_.clear();
}

int epoll::control(int operation, file &target, const epoll_event *event) {
    auto place = registrations_.find(target.descriptor);
    switch (operation) {
    case EPOLL_CTL_ADD:
        if (place != registrations_.end())
            return EEXIST;
        place =
            registrations_.emplace(target.descriptor, registration{&target, event->events, event->data.u64})
                .first;
        target.watched_by.push_back(this);
        break;
    case EPOLL_CTL_MOD:
        if (place == registrations_.end())
            return ENOENT;
        place->second.events = event->events;
        place->second.data = event->data.u64;
        place->second.disabled = false;
        break;
    case EPOLL_CTL_DEL:
        if (place == registrations_.end())
            return ENOENT;
        forget(target);
        return 0;
    default:
        return EINVAL;
    }
    if ((target.poll() & (place->second.events | EPOLLERR | EPOLLHUP)) != 0)
        queue(place->first, place->second);
    return 0;
}

void epoll::forget(file &target) {
    auto place = registrations_.find(target.descriptor);
    if (place == registrations_.end() || place->second.target != &target)
        return;
    removed_.push_back(place->second.data);
    std::erase(target.watched_by, this);
    if (place->second.queued)
        std::erase(ready_, place->first);
    registrations_.erase(place);
}

void epoll::queue(int number, registration &one) {
    if (!one.queued) {
        one.queued = true;
        ready_.push_back(number);
    }
    changed(EPOLLIN);
}

void epoll::edge(file &target, std::uint32_t events) {
    auto place = registrations_.find(target.descriptor);
    if (place == registrations_.end() || place->second.disabled)
        return;
    if (events != 0 && (events & (place->second.events | EPOLLERR | EPOLLHUP)) == 0)
        return;
    queue(place->first, place->second);
}

int epoll::collect(epoll_event *events, int max) {
    kernel &k = world();
    const faults &odds = k.odds();
    int n = 0;
    std::size_t rest = ready_.size();
    std::vector<int> again;
    while (n < max && rest > 0) {
        // Their order within a batch is nobody's promise; that those which do not fit are the next ones is.
        const std::size_t first = std::min(rest, static_cast<std::size_t>(max - n));
        const auto at = k.chosen().who(static_cast<std::uint32_t>(first), true, 0);
        const int number = ready_[at];
        ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(at));
        rest--;
        registration &one = registrations_.at(number);
        one.queued = false;
        const std::uint32_t told = one.target->poll() & (one.events | EPOLLERR | EPOLLHUP);
        if (told == 0)
            continue;
        if (k.fault("late event", odds.late_event)) {
            k.later(one.target->weak_from_this(), 0);
            continue;
        }
        events[n].events = told;
        events[n].data.u64 = one.data;
        n++;
        if ((one.events & EPOLLONESHOT) != 0)
            one.disabled = true;
        else if ((one.events & EPOLLET) == 0)
            again.push_back(number);
    }
    for (int number : again) {
        registrations_.at(number).queued = true;
        ready_.push_back(number);
    }
    // Beside what is real, so that no thread lives on lies alone.
    if (n > 0 && n < max && !registrations_.empty() && k.fault("spurious event", odds.spurious_event)) {
        auto place = registrations_.begin();
        std::advance(place,
                     k.chosen().draw(stream::fault, static_cast<std::uint32_t>(registrations_.size())));
        registration &one = place->second;
        const std::uint32_t lie = one.disabled ? 0 : one.events & (EPOLLIN | EPOLLOUT);
        // Never two of one registration in a batch: that a kernel does not do.
        if (lie != 0 && std::none_of(events, events + n,
                                     [&](const epoll_event &told) { return told.data.u64 == one.data; })) {
            events[n].events = lie;
            events[n].data.u64 = one.data;
            n++;
            one.disabled = (one.events & EPOLLONESHOT) != 0;
        }
    }
    if (n > 0 && n < max && !removed_.empty() && k.fault("stale event", odds.stale_event)) {
        events[n].events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
        events[n].data.u64 =
            removed_[k.chosen().draw(stream::fault, static_cast<std::uint32_t>(removed_.size()))];
        n++;
    }
    return n;
}

std::uint32_t event_counter::poll() const {
    return (count_ > 0 ? EPOLLIN : 0u) | (count_ < UINT64_MAX - 1 ? EPOLLOUT : 0u);
}

int event_counter::take(std::uint64_t &value) {
    if (count_ == 0)
        return EAGAIN;
    value = count_;
    count_ = 0;
    changed(EPOLLOUT);
    return 0;
}

int event_counter::add(std::uint64_t value) {
    if (value == UINT64_MAX)
        return EINVAL;
    if (count_ > UINT64_MAX - 1 - value)
        return EAGAIN;
    count_ += value;
    changed(EPOLLIN);
    return 0;
}

} // namespace parley::sim::detail
