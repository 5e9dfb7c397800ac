// File I/O beside the sockets: an IOService carries out positioned reads, writes and syncs without
// ever blocking a loop. Each is tried at once with RWF_NOWAIT; what would block goes to a few
// threads of the service's own. Included by Communicator.h.

#pragma once

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "CommLoop.h"
#include "list.h"
#include "Sync.h"

#define IOS_STATE_SUCCESS 0
#define IOS_STATE_ERROR 1

class IOService;

// One operation. prepare() runs inside IOService::request() and calls exactly one prep_ function;
// -1 fails the request with errno. Buffers and vectors stay the user's and valid until handle().
class IOSession {
private:
    virtual int prepare() = 0;
    // SUCCESS with get_res() >= 0, or ERROR with errno. On the loop that submitted it, or, submitted
    // elsewhere, on one of the Communicator's; on a handler thread when there are any.
    virtual void handle(int state, int error) = 0;
    // Additive. As CommSession::handle_in_place().
    virtual bool handle_in_place() { return false; }

protected:
    void prep_pread(int fd, void *buf, size_t count, long long offset);
    void prep_pwrite(int fd, void *buf, size_t count, long long offset);
    void prep_preadv(int fd, const struct iovec *iov, int iovcnt, long long offset);
    void prep_pwritev(int fd, const struct iovec *iov, int iovcnt, long long offset);
    void prep_fsync(int fd);
    void prep_fdatasync(int fd);

    // Bytes done, or -errno.
    long get_res() const { return res_; }

public:
    IOSession() = default;
    virtual ~IOSession() = default;
    IOSession(const IOSession &) = delete;
    IOSession &operator=(const IOSession &) = delete;

private:
    enum Operation : int8_t { NONE, READ, WRITE, FSYNC, FDATASYNC };

    Operation operation_ = NONE;
    int fd_ = -1;
    int iovcnt_ = 0;
    const struct iovec *iov_ = nullptr;
    struct iovec single_ = {nullptr, 0};
    long long offset_ = 0;
    long res_ = 0;                // bytes so far, or -errno
    struct IOCore *io_ = nullptr; // from request() to handle()
    CommLoop *loop_ = nullptr;    // where it completes
    CommNode node_;

    friend class IOService;
    friend struct IOCore;
};

// Life: init(), Communicator::io_bind(), requests, Communicator::io_unbind() (or handle_stop() when
// the Communicator stops, which must call io_unbind()), handle_unbound(), deinit().
class IOService {
public:
    // maxevents bounds the operations in flight; more fail with EAGAIN. EINVAL when not positive,
    // EALREADY when initialised.
    int init(int maxevents);
    void deinit(); // after handle_unbound() only

    // ENOENT when not bound, EAGAIN when full, ESHUTDOWN when the Communicator stops, EINVAL when
    // prepare() chose no operation, or what prepare() says; what is wrong with the operation itself
    // (EBADF ...) comes by handle(). After 0, handle() runs exactly once, never inside this call.
    // Its place among the maxevents is free by then. Any thread.
    int request(IOSession *session);

private:
    // The Communicator stops; io_unbind() is due, here or later.
    virtual void handle_stop(int /*error*/) {}
    // No operation is left. The last callback; deinit() may be called in it.
    virtual void handle_unbound() = 0;
    // Kept so that overrides compile; completions travel by the loops' mailboxes, no descriptor is
    // needed and this is not called.
    virtual int create_event_fd() { return -1; }

public:
    IOService() = default;
    virtual ~IOService();
    IOService(const IOService &) = delete;
    IOService &operator=(const IOService &) = delete;

private:
    struct IOCore *core = nullptr; // threads and queue, from init() to deinit(): core/IOService.cpp

    friend class Communicator;
    friend class CommMachine;
    friend struct IOCore;
};
