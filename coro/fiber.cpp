#include <parley/fiber.hpp>

#include <cassert>
#include <cerrno>
#include <stdexcept>
#include <utility>

#include <cxxabi.h>

#include <boost/context/detail/fcontext.hpp>

#include "fiber_stack.hpp"
#include "sanitizer.hpp"

namespace parley::inline PARLEY_ABI {

fiber_options &fiber_options::stack_size(std::size_t bytes) {
    if (bytes < std::size_t{16} * 1024)
        throw std::invalid_argument("parley: the stack of a fiber has at least 16 KiB");
    stack_size_ = bytes;
    return *this;
}

namespace detail {
namespace {

namespace switching = boost::context::detail;

// As the C++ ABI has it. The runtime keeps one for each thread; a fiber that is left in a catch block, or by a
// destructor in the middle of an unwinding, needs its own.
struct exception_globals {
    void *caught;
    unsigned uncaught;
};

// Never inlined: a fiber's code must not keep the address of a thread-local variable in a register.
[[gnu::noinline]] fiber *&running_here() noexcept {
    static thread_local fiber *running = nullptr;
    return running;
}

} // namespace

// The two ways across, each with all that sanitizers want to be told in the function that jumps.
class fiber_switch {
public:
    static void into(fiber &f) noexcept {
        exception_globals &here = *static_cast<exception_globals *>(f.exceptions_);
        const exception_globals driver = here;
        here = {f.caught_, f.uncaught_};
        *f.running_ = &f;
#ifdef PARLEY_ASAN
        void *fake = nullptr;
        __sanitizer_start_switch_fiber(&fake, f.stack_.bottom(), f.stack_.size());
#endif
#ifdef PARLEY_TSAN
        f.driver_side_ = __tsan_get_current_fiber();
        __tsan_switch_to_fiber(f.own_side_, 0);
#endif
        f.inside_ = switching::jump_fcontext(f.inside_, &f).fctx;
#ifdef PARLEY_ASAN
        __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
        *f.running_ = nullptr;
        f.caught_ = here.caught;
        f.uncaught_ = here.uncaught;
        here = driver;
    }

    static void out_of(fiber &f) noexcept {
#ifdef PARLEY_ASAN
        void *fake = nullptr;
        __sanitizer_start_switch_fiber(f.ended_ ? nullptr : &fake, f.driver_side_, f.driver_side_size_);
#endif
#ifdef PARLEY_TSAN
        __tsan_switch_to_fiber(const_cast<void *>(f.driver_side_), 0);
#endif
        f.outside_ = switching::jump_fcontext(f.outside_, nullptr).fctx;
#ifdef PARLEY_ASAN
        __sanitizer_finish_switch_fiber(fake, &f.driver_side_, &f.driver_side_size_);
#endif
    }

    static void entry(switching::transfer_t from) noexcept {
        fiber &f = *static_cast<fiber *>(from.data);
        f.outside_ = from.fctx;
#ifdef PARLEY_ASAN
        __sanitizer_finish_switch_fiber(nullptr, &f.driver_side_, &f.driver_side_size_);
#endif
        try {
            f.call();
        } catch (...) {
            f.failure_ = std::current_exception();
        }
        f.ended_ = true;
        out_of(f);
        std::terminate(); // what has ended is not gone on with
    }
};

fiber::fiber(const fiber_options &options)
    : stack_(fiber_stack::take(options.stack_size())), running_(&running_here()),
      exceptions_(abi::__cxa_get_globals()) {
    inside_ = switching::make_fcontext(stack_.top(), stack_.size(), &fiber_switch::entry);
#ifdef PARLEY_TSAN
    own_side_ = __tsan_create_fiber(0);
#endif
}

fiber::~fiber() {
    assert(ended_ || !outside_);
#ifdef PARLEY_TSAN
    __tsan_destroy_fiber(own_side_);
#endif
    stack_.give_back();
}

fiber &fiber::current() {
    if (fiber *here = running_here())
        return *here;
    throw std::logic_error("parley: await() outside of in_fiber(); in a task write co_await");
}

void fiber::leave() {
    const int error = errno;
    fiber_switch::out_of(*this);
    errno = error;
    if (failure_)
        std::rethrow_exception(std::exchange(failure_, nullptr));
}

transfer fiber::go_on(promise_base &driver) noexcept {
    driver_ = &driver;
    for (;;) {
        fiber_switch::into(*this);
        if (ended_)
            return loop_access::hand_over(driver.chain().loop(), driver.frame());
        at_once_ = false;
        try {
#if PARLEY_SYMMETRIC_TRANSFER
            const transfer next = begin_(*this);
            if (!at_once_)
                return next;
#else
            begin_(*this);
            if (!at_once_)
                return;
#endif
        } catch (...) {
            failure_ = std::current_exception();
        }
    }
}

void fiber::rethrow() {
    if (failure_)
        std::rethrow_exception(std::exchange(failure_, nullptr));
}

} // namespace detail
} // namespace parley::inline PARLEY_ABI
