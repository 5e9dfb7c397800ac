#include <cerrno>
#include <ostream>
#include <system_error>

#include <parley/core/Sync.h>
#include <parley/core/Sys.h>
#include <parley/dump_tasks.hpp>
#include <parley/wait_signal.hpp>

#include "signal_listener.hpp"

namespace parley::inline PARLEY_ABI {
namespace {

class descriptor {
public:
    explicit descriptor(int fd) : fd_(fd) {
        if (fd < 0)
            throw std::system_error(errno, std::system_category(), "parley: dump_on_signal");
    }
    ~descriptor() { sys::close(fd_); }
    descriptor(const descriptor &) = delete;
    [[nodiscard]] int get() const noexcept { return fd_; }

private:
    int fd_;
};

} // namespace

class dump_on_signal::parts {
public:
    parts(int number, std::ostream &out, const dump_options &options)
        : signal_(detail::signal_bits(number)), out_(out), options_(options), end_(sys::current().eventfd()),
          ready_(sys::current().epoll_create()) {
        for (int fd : {signal_.event(), end_.get()}) {
            epoll_event interest = {};
            interest.events = EPOLLIN;
            interest.data.fd = fd;
            if (sys::current().epoll_ctl(ready_.get(), EPOLL_CTL_ADD, fd, &interest) < 0)
                throw std::system_error(errno, std::system_category(), "parley: dump_on_signal");
        }
        thread_ = sync::thread([this] { run(); });
    }
    ~parts() {
        const std::uint64_t one = 1;
        static_cast<void>(sys::current().write(end_.get(), &one, sizeof one));
        thread_.join();
    }

private:
    void run() noexcept {
        for (;;) {
            epoll_event event = {};
            if (sys::current().epoll_wait(ready_.get(), &event, 1, -1) != 1)
                continue; // EINTR
            if (event.data.fd == end_.get())
                return;
            if (signal_.take() == 0)
                continue;
            try {
                dump_tasks(out_, options_);
                out_.flush();
            } catch (...) { // no memory, or the stream's: this dump is lost, the next may work
            }
        }
    }

    detail::signal_listener signal_;
    std::ostream &out_;
    dump_options options_;
    descriptor end_;
    descriptor ready_;
    sync::thread thread_;
};

dump_on_signal::dump_on_signal(int number, std::ostream &out, const dump_options &options)
    : parts_(std::make_unique<parts>(number, out, options)) {}

dump_on_signal::~dump_on_signal() = default;

} // namespace parley::inline PARLEY_ABI
