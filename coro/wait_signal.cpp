#include <parley/wait_signal.hpp>

#include <array>
#include <bit>
#include <cassert>
#include <cerrno>

#include <signal.h>

#include <parley/core/Sync.h>
#include <parley/core/Sys.h>
#include <parley/error.hpp>
#include <parley/loop.hpp>

#include "signal_listener.hpp"

namespace parley::inline PARLEY_ABI {
namespace detail {

// One who waits. The signal handler goes through all slots; it notes the signal in those that want it and
// wakes them through their eventfd. That is all it does.
struct signal_slot {
    sync::atomic<std::uint64_t> wanted{0}; // 0: nothing for the handler to do here
    sync::atomic<std::uint64_t> arrived{0};
    sync::atomic<int> event{-1};
    bool taken = false;
};

namespace {

std::array<signal_slot, 64> slots;
sync::atomic<int> handlers_running{0};

extern "C" void parley_on_signal(int number) {
    const int error = errno;
    const std::uint64_t bit = signal_bit(number);
    handlers_running.fetch_add(1);
    for (signal_slot &slot : slots) {
        if ((slot.wanted.load() & bit) == 0)
            continue;
        slot.arrived.fetch_or(bit);
        const std::uint64_t one = 1;
        static_cast<void>(sys::current().write(slot.event.load(), &one, sizeof one));
    }
    handlers_running.fetch_sub(1);
    errno = error;
}

// Who has which disposition changed. Calls come from loops; none of them waits for another for long.
class signal_desk {
public:
    // Gives a slot, or returns nullptr with errno.
    signal_slot *take(std::uint64_t wanted) {
        sync::lock_guard<sync::mutex> lock(mutex_);
        signal_slot *slot = free_slot();
        if (!slot || wanted == 0) {
            errno = slot ? EINVAL : EAGAIN;
            return nullptr;
        }
        const int event = sys::current().eventfd();
        if (event < 0)
            return nullptr;
        slot->event.store(event);
        slot->arrived.store(0);
        slot->wanted.store(wanted);
        slot->taken = true;
        const std::uint64_t changed = divert(wanted);
        if (changed == wanted)
            return slot;
        const int error = errno;
        restore(changed);
        free(*slot);
        errno = error;
        return nullptr;
    }

    // Gives the slot back. What has arrived for it beyond `used` is kept for the next who wants it.
    void give_back(signal_slot &slot, std::uint64_t used) {
        sync::lock_guard<sync::mutex> lock(mutex_);
        restore(slot.wanted.load());
        free(slot);
        kept_ |= slot.arrived.load() & ~used;
    }

    // One of `wanted` that has been kept; 0 if there is none.
    int take_kept(std::uint64_t wanted) {
        sync::lock_guard<sync::mutex> lock(mutex_);
        const std::uint64_t found = kept_ & wanted;
        if (found == 0)
            return 0;
        kept_ &= ~(found & -found);
        return std::countr_zero(found) + 1;
    }

private:
    static signal_slot *free_slot() {
        for (signal_slot &slot : slots) {
            if (!slot.taken)
                return &slot;
        }
        return nullptr;
    }

    // A handler that runs on another thread may have seen the slot: its few steps are waited for, then nobody
    // can write to the descriptor any more.
    static void free(signal_slot &slot) {
        slot.wanted.store(0);
        while (handlers_running.load() != 0)
            sync::yield();
        sys::close(slot.event.exchange(-1));
        slot.taken = false;
    }

    // Those that were diverted: all, or those before the first that failed, with errno.
    std::uint64_t divert(std::uint64_t wanted) {
        std::uint64_t done = 0;
        for (std::uint64_t rest = wanted; rest != 0; rest &= rest - 1) {
            const auto index = static_cast<std::size_t>(std::countr_zero(rest));
            if (waiting_[index] == 0) {
                struct sigaction ours = {};
                ours.sa_handler = parley_on_signal;
                ours.sa_flags = SA_RESTART;
                sigfillset(&ours.sa_mask);
                if (sys::current().sigaction(static_cast<int>(index) + 1, &ours, &old_[index]) < 0)
                    return done;
            }
            ++waiting_[index];
            done |= rest & -rest;
        }
        return done;
    }

    void restore(std::uint64_t diverted) {
        for (std::uint64_t rest = diverted; rest != 0; rest &= rest - 1) {
            const auto index = static_cast<std::size_t>(std::countr_zero(rest));
            if (--waiting_[index] == 0)
                sys::current().sigaction(static_cast<int>(index) + 1, &old_[index], nullptr);
        }
    }

    sync::mutex mutex_;
    std::array<int, 64> waiting_{};
    std::array<struct sigaction, 64> old_{};
    std::uint64_t kept_ = 0;
};

signal_desk &desk() {
    static signal_desk &only = *new signal_desk;
    return only;
}

} // namespace

signal_listener::signal_listener(std::uint64_t wanted) : slot_(desk().take(wanted)) {
    if (!slot_)
        throw exception(error(system_error_code(errno), parley::stage::none, {}, {}, "taking a signal"));
}

signal_listener::~signal_listener() {
    desk().give_back(*slot_, slot_->wanted.load());
}

int signal_listener::event() const noexcept {
    return slot_->event.load();
}

std::uint64_t signal_listener::take() noexcept {
    std::uint64_t count;
    static_cast<void>(sys::current().read(event(), &count, sizeof count));
    return slot_->arrived.exchange(0);
}

bool signal_await::await_suspend(std::coroutine_handle<>, context &task) noexcept {
    task_ = &task;
    error_ = 0;
    signal_ = desk().take_kept(wanted_);
    if (signal_ != 0)
        return false;
    slot_ = desk().take(wanted_);
    if (!slot_) {
        error_ = errno;
        return false;
    }
    task.begin(*this);
    if (task.loop().communicator().watch(this, slot_->event.load(), false) == 0)
        return true;
    error_ = errno;
    desk().give_back(*slot_, 0);
    return false;
}

void signal_await::handle(int state, int) {
    const std::uint64_t arrived = state == CS_STATE_SUCCESS ? slot_->arrived.load() : 0;
    const std::uint64_t first = arrived & -arrived;
    assert(first != 0 || state != CS_STATE_SUCCESS);
    desk().give_back(*slot_, first);
    if (first == 0)
        return task_->complete_stopped();
    signal_ = std::countr_zero(first) + 1;
    task_->complete();
}

int signal_await::await_resume() const {
    if (error_ != 0)
        throw exception(error(system_error_code(error_)));
    return signal_;
}

void signal_await::cancel() noexcept {
    task_->loop().communicator().unwatch(this);
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
