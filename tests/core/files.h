// What the tests of file operations have in common.

#pragma once

#include "Communicator.h"
#include "echo_fixture.h"
#include "forwarding_world.h"

#include <doctest/doctest.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <ostream>
#include <string>
#include <vector>

namespace files {

using namespace fixture;

// A file without a name.
class File {
public:
    explicit File(const std::string &content = "") {
        char path[] = "/tmp/parley-io-XXXXXX";
        fd_ = mkostemp(path, O_CLOEXEC);
        REQUIRE(fd_ >= 0);
        unlink(path);
        REQUIRE(::pwrite(fd_, content.data(), content.size(), 0) == static_cast<ssize_t>(content.size()));
    }
    ~File() { ::close(fd_); }
    File(const File &) = delete;
    File &operator=(const File &) = delete;

    int fd() const { return fd_; }
    std::string content() const {
        std::string all(static_cast<size_t>(lseek(fd_, 0, SEEK_END)), '\0');
        REQUIRE(::pread(fd_, all.data(), all.size(), 0) == static_cast<ssize_t>(all.size()));
        return all;
    }

private:
    int fd_;
};

class Files : public IOService {
public:
    explicit Files(int maxevents = 64) { REQUIRE(init(maxevents) == 0); }
    ~Files() override { deinit(); }

    std::function<void()> on_stop;
    std::function<void()> on_unbound;
    std::atomic<int> stops{0};
    std::atomic<int> unbounds{0};
    Tally unbound; // calls that have come to their end

private:
    void handle_stop(int error) override {
        CHECK(error == 0);
        stops++;
        if (on_stop)
            on_stop();
    }
    void handle_unbound() override {
        unbounds++;
        if (on_unbound)
            on_unbound();
        unbound.add();
    }
};

// A service bound to a Communicator, as most tests want it.
class Bound {
public:
    explicit Bound(Communicator &comm, int maxevents = 64) : files(maxevents), comm_(comm) {
        REQUIRE(comm.io_bind(&files) == 0);
    }
    ~Bound() {
        comm_.io_unbind(&files);
        files.unbound.wait_for(1);
    }

    Files files;

private:
    Communicator &comm_;
};

// What an operation came to.
struct Outcome {
    int state = -1;
    int error = -1;
    long result = -1;

    bool operator==(const Outcome &) const = default;
    friend std::ostream &operator<<(std::ostream &out, const Outcome &self) {
        return out << "state " << self.state << ", error " << self.error << ", result " << self.result;
    }
};

inline Outcome success(long result) {
    return {IOS_STATE_SUCCESS, 0, result};
}

inline Outcome failure(int error) {
    return {IOS_STATE_ERROR, error, -error};
}

// An operation given by a function, which calls one of prep_*() and returns what prepare() shall.
class Operation : public IOSession {
public:
    explicit Operation(std::function<int(Operation &)> prepare_with) : prepare_(std::move(prepare_with)) {}

    static Operation reading(int fd, void *buf, size_t count, long long offset) {
        return Operation([=](Operation &self) { return self.prep_pread(fd, buf, count, offset), 0; });
    }

    using IOSession::prep_fdatasync;
    using IOSession::prep_fsync;
    using IOSession::prep_pread;
    using IOSession::prep_preadv;
    using IOSession::prep_pwrite;
    using IOSession::prep_pwritev;

    char byte = 0; // see byte_of()
    bool in_place = false;
    std::function<void()> then; // the last inside handle()

    const Outcome &wait() {
        done_.wait();
        return outcome_;
    }
    bool is_done() const { return done_.is_open(); }
    CommLoop *loop() const { return loop_; }

private:
    int prepare() override { return prepare_(*this); }
    bool handle_in_place() override { return in_place; }
    void handle(int state, int error) override {
        outcome_ = {state, error, get_res()};
        loop_ = CommLoop::current();
        if (then)
            then();
        done_.set();
    }

    std::function<int(Operation &)> prepare_;
    Outcome outcome_;
    CommLoop *loop_ = nullptr;
    Event done_;
};

// To read one byte into the operation itself.
inline auto byte_of(int fd, long long offset = 0) {
    return [=](Operation &self) { return self.prep_pread(fd, &self.byte, 1, offset), 0; };
}

// Files of which nothing is ever cached, so that threads of the service do all the work; and these wait for
// open() as long as the gate is shut.
class SlowFiles : public ForwardingWorld {
public:
    void shut() {
        std::lock_guard lock(mutex_);
        shut_ = true;
    }
    void open_gate() {
        std::lock_guard lock(mutex_);
        shut_ = false;
        opened_.notify_all();
    }

    // Threads that have come to the gate, ever, and offsets in that order.
    Tally arrivals;
    std::vector<off_t> offsets() {
        std::lock_guard lock(mutex_);
        return offsets_;
    }

    ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset, int flags) override {
        if ((flags & RWF_NOWAIT) != 0) {
            errno = EAGAIN;
            return -1;
        }
        pass(offset);
        return real.preadv(fd, iov, count, offset, flags);
    }
    ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset, int flags) override {
        if ((flags & RWF_NOWAIT) != 0) {
            errno = EOPNOTSUPP;
            return -1;
        }
        pass(offset);
        return real.pwritev(fd, iov, count, offset, flags);
    }

private:
    void pass(off_t offset) {
        std::unique_lock lock(mutex_);
        offsets_.push_back(offset);
        arrivals.add();
        opened_.wait(lock, [this] { return !shut_; });
    }

    std::mutex mutex_;
    std::condition_variable opened_;
    bool shut_ = false;
    std::vector<off_t> offsets_;
};

inline std::string pattern(size_t size) {
    std::string text(size, '\0');
    unsigned seed = 1;
    for (char &c : text)
        c = static_cast<char>((seed = seed * 1664525 + 1013904223) >> 24);
    return text;
}

} // namespace files
