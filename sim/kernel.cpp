#include "kernel.h"

#include <errno.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "tls_randomness.h"

namespace parley::sim::detail {

namespace {

constexpr const char *names[] = {
    "socket",       "bind",         "listen",      "accept",          "connect",
    "shutdown",     "getsockname",  "getpeername", "getsockopt",      "setsockopt",
    "recv",         "send",         "recvmsg",     "sendmsg",         "recvmmsg",
    "sendmmsg",     "read",         "write",       "set_nonblocking", "close",
    "epoll_create", "epoll_ctl",    "epoll_wait",  "eventfd",         "open",
    "preadv",       "pwritev",      "fsync",       "fdatasync",       "getaddrinfo",
    "sigaction",    "thread_start", "random",      "allocate",
};
static_assert(std::size(names) == calls);

// Friday, 2 January 2026, noon. The same in every run, or none could be repeated; a date of our days,
// since a program may take one near 1970 for a clock that was never set. OpenSSL does not see it: that
// asks the real clock.
constexpr std::int64_t wall_clock_at_start = 1'767'355'200'000'000'000;
constexpr std::int64_t monotonic_at_start = 1'000'000'000;

kernel *in_force = nullptr;

} // namespace

const char *name_of(call which) {
    return names[static_cast<std::size_t>(which)];
}

kernel::kernel(std::uint64_t its_seed)
    : seed(its_seed), choices_(its_seed), network_(*this), scheduler_(*this, choices_),
      wall_offset_(wall_clock_at_start - monotonic_at_start) {
    scheduler_.jump(monotonic_at_start);
    network_.add("localhost");
}

kernel::~kernel() {
    for (const auto &[memory, size] : memory_)
        std::free(memory);
}

kernel *kernel::running() noexcept {
    return in_force;
}

std::int64_t kernel::since_start() const noexcept {
    return scheduler_.now() - monotonic_at_start;
}

// --- the run ---

void kernel::run(const std::function<void()> &f) {
    if (in_force != nullptr)
        throw std::logic_error("sim::world::run: another world of this process runs");
    in_force = this;
    sys::install(this);
    sync::install(&scheduler_);
    tls_randomness repeatable(choices_);
    scheduler_.begin(network_.hosts[0].get());
    // How often threads are changed differs from run to run, since each rate finds other faults.
    constexpr double rates[] = {0.02, 0, 0.1, 0.3, 0.005};
    scheduler_.preempt(rates[choices_.draw(stream::schedule, 5)]);
    struct restore {
        kernel &self;
        ~restore() {
            sync::install(nullptr);
            sys::install(nullptr);
            in_force = nullptr;
        }
    } afterwards{*this};
    try {
        f();
    } catch (const std::exception &error) {
        if (sink_ != nullptr)
            fail(std::string("the program threw: ") + error.what());
        scheduler_.end();
        throw;
    } catch (...) { // a test framework's way out
        if (sink_ != nullptr)
            fail("the program threw what is no std::exception");
        scheduler_.end();
        throw;
    }
    const std::string left = leftovers();
    if (!left.empty() && sink_ != nullptr)
        fail(left);
    scheduler_.end();
    if (!left.empty())
        throw failed("seed " + std::to_string(seed) + ": " + left);
}

std::string kernel::leftovers() const {
    std::string left;
    for (std::size_t i = 0; i < descriptors_.size(); i++)
        if (descriptors_[i] != nullptr)
            left += "\n  descriptor " + label(first_descriptor + static_cast<int>(i)) + ": " +
                    descriptors_[i]->describe();
    for (const auto &[memory, size] : memory_)
        left += "\n  " + std::to_string(size) + " bytes of sys::allocate";
    if (!names_given_.empty())
        left += "\n  a result of getaddrinfo";
    return left.empty() ? left : "the run has ended and these are left:" + left;
}

void kernel::fail(const std::string &what) {
    if (sink_ != nullptr)
        sink_(*this, what);
    std::fprintf(stderr, "\nparley::sim: seed %llu: %s\n", static_cast<unsigned long long>(seed),
                 what.c_str());
    if (trace_.empty())
        std::fprintf(stderr, "(world::keep_trace() before run() keeps a trace)\n");
    constexpr std::size_t most = 200;
    for (std::size_t i = trace_.size() > most ? trace_.size() - most : 0; i < trace_.size(); i++)
        std::fprintf(stderr, "%s\n", trace_[i].c_str());
    std::fflush(nullptr);
    std::abort();
}

void kernel::trace(const char *name, const std::string &text) {
    if (!tracing_)
        return;
    const thread *who = scheduler::calling();
    char head[96];
    std::snprintf(head, sizeof head, "%12.6f  ", static_cast<double>(since_start()) / 1e9);
    std::string line = head;
    if (who != nullptr)
        line += who->home->name + "/" + who->name + "  ";
    else
        line += "the world  ";
    trace_.push_back(line + name + " " + text);
}

std::string kernel::label(int fd) const {
    return fd >= first_descriptor ? "#" + std::to_string(fd - first_descriptor) : std::to_string(fd);
}

bool kernel::fault(const char *name, double chance) {
    if (choices_.seldom(stream::fault, chance) == 0)
        return false;
    trace("fault:", name);
    return true;
}

void kernel::later(std::weak_ptr<file> one, std::uint32_t events) {
    const std::int64_t delay = 1000 * (1 + choices_.draw(stream::network, 1000));
    scheduler_.at(scheduler_.now() + delay, [one = std::move(one), events] {
        if (auto it = one.lock(); it && it->open)
            it->changed(events);
    });
}

void kernel::take_cut(std::uint16_t port, const std::function<void(const cut &)> &apply) {
    for (auto place = cuts_.begin(); place != cuts_.end(); ++place) {
        if (place->port == port) {
            apply(*place);
            cuts_.erase(place);
            return;
        }
    }
}

void kernel::raise(int signal) {
    auto place = signals_.find(signal);
    if (place == signals_.end() || place->second.sa_handler == SIG_DFL)
        fail("signal " + std::to_string(signal) + " was raised and nobody handles it");
    if (place->second.sa_handler == SIG_IGN)
        return;
    trace("signal", std::to_string(signal));
    if ((place->second.sa_flags & SA_SIGINFO) != 0) {
        siginfo_t info{};
        info.si_signo = signal;
        place->second.sa_sigaction(signal, &info, nullptr);
    } else {
        place->second.sa_handler(signal);
    }
}

// --- what every call has in common ---

bool kernel::enter(call which, int fd) {
    scheduler_.point(name_of(which), nullptr);
    for (planned &one : plans_[static_cast<std::size_t>(which)]) {
        if (one.where != nullptr && one.where != &here())
            continue;
        if (one.chance > 0) {
            if (choices_.seldom(stream::fault, one.chance) == 0)
                continue;
        } else if (one.after > 0) {
            one.after--;
            continue;
        } else if (one.times == 0) {
            continue;
        } else if (one.times != UINT64_MAX) {
            one.times--;
        }
        std::string what = name_of(which);
        if (fd != -1)
            what.append(" ").append(label(fd));
        trace("fault:", what + " fails as planned");
        errno = one.error;
        return false;
    }
    return true;
}

ssize_t kernel::leave(call which, int fd, ssize_t result, const std::string &detail) {
    auto mix = [this](std::uint64_t value) { fingerprint_ = (fingerprint_ ^ value) * 0x100000001b3; };
    mix(static_cast<std::uint64_t>(which));
    mix(static_cast<std::uint64_t>(fd));
    mix(static_cast<std::uint64_t>(result));
    mix(static_cast<std::uint64_t>(scheduler_.now()));
    mix(scheduler_.self().index);
    if (tracing_) {
        std::string text = fd != -1 ? label(fd) : std::string();
        if (!detail.empty())
            text += (text.empty() ? "" : ", ") + detail;
        text += " = ";
        if (result < 0)
            text += strerrorname_np(static_cast<int>(-result));
        else
            text += which == call::socket || which == call::accept || which == call::open ||
                            which == call::epoll_create || which == call::eventfd
                        ? label(static_cast<int>(result))
                        : std::to_string(result);
        trace(name_of(which), text);
    }
    if (result < 0) {
        errno = static_cast<int>(-result);
        return -1;
    }
    return result;
}

file *kernel::find(call which, int fd) {
    if (fd < 0)
        return nullptr;
    if (fd < first_descriptor) {
        char target[256] = "not open";
        const std::string link = "/proc/self/fd/" + std::to_string(fd);
        const ssize_t n = readlink(link.c_str(), target, sizeof target - 1);
        if (n > 0)
            target[n] = '\0';
        fail(std::string(name_of(which)) + "() was handed descriptor " + std::to_string(fd) +
             ", which is real and none of the world's: " + target +
             ". Make descriptors by parley::sys, or run on the real kernel");
    }
    const auto index = static_cast<std::size_t>(fd - first_descriptor);
    if (index >= descriptors_.size() || descriptors_[index] == nullptr)
        fail(std::string(name_of(which)) + "() was handed descriptor " + label(fd) + ", which is not open");
    return descriptors_[index].get();
}

int kernel::give_number(std::shared_ptr<file> one) {
    host_state &host = here();
    if (host.open_descriptors >= host.most_descriptors)
        return -EMFILE;
    host.open_descriptors++;
    // The lowest that is free, as in POSIX: a number comes back as soon as it can.
    std::size_t index = descriptors_.size();
    if (!free_numbers_.empty()) {
        index = static_cast<std::size_t>(*free_numbers_.begin());
        free_numbers_.erase(free_numbers_.begin());
    } else {
        descriptors_.emplace_back();
    }
    one->descriptor = first_descriptor + static_cast<int>(index);
    descriptors_[index] = std::move(one);
    return first_descriptor + static_cast<int>(index);
}

int kernel::close(int fd) {
    // Never fails, as on Linux, but it is a place like any other.
    scheduler_.point("close", nullptr);
    file *it = find(call::close, fd);
    if (it == nullptr)
        return leave_int(call::close, fd, -EBADF);
    const auto index = static_cast<std::size_t>(fd - first_descriptor);
    std::shared_ptr<file> gone = std::move(descriptors_[index]);
    descriptors_[index] = nullptr;
    free_numbers_.insert(static_cast<int>(index));
    gone->home().open_descriptors--;
    std::string what = tracing_ ? gone->describe() : std::string();
    // epoll forgets a file with its last descriptor.
    for (epoll *one : std::vector<epoll *>(gone->watched_by))
        one->forget(*gone);
    gone->open = false;
    gone->close();
    return leave_int(call::close, fd, 0, what);
}

int kernel::set_nonblocking(int fd) {
    if (!enter(call::set_nonblocking, fd))
        return -1;
    file *it = find(call::set_nonblocking, fd);
    if (it == nullptr)
        return leave_int(call::set_nonblocking, fd, -EBADF);
    it->nonblocking = true;
    return leave_int(call::set_nonblocking, fd, 0);
}

// --- readiness ---

int kernel::epoll_create() {
    if (!enter(call::epoll_create, -1))
        return -1;
    return leave_int(call::epoll_create, -1, give_number(std::make_shared<epoll>(*this, here())));
}

int kernel::eventfd() {
    if (!enter(call::eventfd, -1))
        return -1;
    auto one = std::make_shared<event_counter>(*this, here());
    one->nonblocking = true;
    return leave_int(call::eventfd, -1, give_number(std::move(one)));
}

int kernel::epoll_ctl(int epfd, int operation, int fd, epoll_event *event) {
    // Only what needs memory can fail: to take a descriptor out never does.
    if (operation != EPOLL_CTL_ADD)
        scheduler_.point("epoll_ctl", nullptr);
    else if (!enter(call::epoll_ctl, fd))
        return -1;
    auto *set = find_as<epoll>(call::epoll_ctl, epfd);
    file *target = find(call::epoll_ctl, fd);
    if (set == nullptr || target == nullptr)
        return leave_int(call::epoll_ctl, fd, set == nullptr && epfd >= 0 ? -EINVAL : -EBADF);
    if (dynamic_cast<disk_file *>(target) != nullptr)
        return leave_int(call::epoll_ctl, fd, -EPERM);
    if (target == set)
        return leave_int(call::epoll_ctl, fd, -EINVAL);
    const char *what = operation == EPOLL_CTL_ADD ? "add" : operation == EPOLL_CTL_MOD ? "modify" : "remove";
    return leave_int(call::epoll_ctl, fd, -set->control(operation, *target, event), what);
}

int kernel::epoll_wait(int epfd, epoll_event *events, int max, int64_t timeout_ns) {
    if (!enter(call::epoll_wait, epfd))
        return -1;
    auto *set = find_as<epoll>(call::epoll_wait, epfd);
    if (set == nullptr || max <= 0)
        return leave_int(call::epoll_wait, epfd, epfd < 0 ? -EBADF : -EINVAL);
    const std::int64_t deadline = timeout_ns < 0 ? never : scheduler_.now() + timeout_ns;
    int n = set->collect(events, max);
    while (n == 0 && timeout_ns != 0) {
        const bool edge = set->await_change("epoll_wait", deadline);
        n = set->collect(events, max);
        if (!edge)
            break;
    }
    std::string what;
    if (tracing_ && timeout_ns > 0)
        what = "at most " + std::to_string(timeout_ns / 1000000) + " ms";
    return leave_int(call::epoll_wait, epfd, n, what);
}

// --- names, threads, time, memory ---

int kernel::sigaction(int signal, const struct sigaction *action, struct sigaction *old) {
    if (!enter(call::sigaction, -1))
        return -1;
    if (signal < 1 || signal >= NSIG || signal == SIGKILL || signal == SIGSTOP)
        return leave_int(call::sigaction, -1, -EINVAL);
    struct sigaction &place = signals_[signal];
    if (old != nullptr)
        *old = place;
    if (action != nullptr)
        place = *action;
    return leave_int(call::sigaction, -1, 0, std::to_string(signal));
}

int kernel::thread_start(sys::thread_handle *thread, void (*body)(void *), void *argument) {
    if (!enter(call::thread_start, -1))
        return errno;
    const int error = scheduler_.start(body, argument, nullptr, thread);
    if (error == 0)
        leave(call::thread_start, -1, static_cast<ssize_t>(static_cast<detail::thread *>(*thread)->index));
    return error;
}

void kernel::thread_join(sys::thread_handle thread) {
    scheduler_.point("joins", thread);
    scheduler_.join(thread);
}

int64_t kernel::monotonic_ns() {
    scheduler_.self();
    return scheduler_.now();
}

int64_t kernel::realtime_ns() {
    scheduler_.self();
    return scheduler_.now() + wall_offset_;
}

ssize_t kernel::random(void *buffer, size_t size) {
    if (!enter(call::random, -1))
        return -1;
    choices_.bytes(buffer, size);
    return static_cast<ssize_t>(size);
}

void *kernel::allocate(size_t size) {
    if (!enter(call::allocate, -1)) {
        errno = ENOMEM;
        return nullptr;
    }
    void *memory = std::malloc(size);
    if (memory != nullptr)
        memory_[memory] = size;
    return memory;
}

void kernel::deallocate(void *memory) {
    if (memory == nullptr)
        return;
    scheduler_.self();
    if (memory_.erase(memory) == 0)
        fail("sys::deallocate() was handed memory that sys::allocate() did not give, or a second time");
    std::free(memory);
}

} // namespace parley::sim::detail
