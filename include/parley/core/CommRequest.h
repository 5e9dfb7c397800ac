// One exchange with a peer as a step of a series: a CommSession that is also a SubTask.

#pragma once

#include <errno.h>

#include "CommScheduler.h"
#include "SubTask.h"

#define TOR_NOT_TIMEOUT 0
#define TOR_WAIT_TIMEOUT 1     // no slot of the target became free
#define TOR_CONNECT_TIMEOUT 2  // TCP or TLS
#define TOR_TRANSMIT_TIMEOUT 3 // sending or receiving

// Subclasses define message_out(), message_in() and done(). Borrows the object and the scheduler;
// both must live until done().
class CommRequest : public SubTask, public CommSession {
public:
    CommRequest(CommSchedObject *request_object, CommScheduler *request_scheduler)
        : state(CS_STATE_SUCCESS), error(0), target(nullptr), timeout_reason(TOR_NOT_TIMEOUT),
          wait_timeout(0), object(request_object), scheduler(request_scheduler) {}

    CommSchedObject *get_request_object() const { return object; }
    int get_wait_timeout() const { return wait_timeout; }

    // For the next dispatch().
    void set_request_object(CommSchedObject *request_object) { object = request_object; }
    void set_wait_timeout(int timeout) { wait_timeout = timeout; }

    // Sends the request. If it is refused, handle(CS_STATE_ERROR, errno) runs before this returns.
    virtual void dispatch() {
        target = nullptr;
        if (scheduler->request(this, object, wait_timeout, &target) < 0)
            this->handle(CS_STATE_ERROR, errno);
    }

protected:
    // What handle() was given, and which timeout it was; for done().
    int state;
    int error;

    CommTarget *target; // nullptr: none was acquired
    int timeout_reason;
    int wait_timeout;
    CommSchedObject *object;
    CommScheduler *scheduler;

    // Keeps the result and ends the step. The thread is said at CommSession::handle(); `this` may be gone
    // afterwards.
    virtual void handle(int result, int result_error) {
        state = result;
        error = result_error;
        if (error != ETIMEDOUT)
            timeout_reason = TOR_NOT_TIMEOUT;
        else if (target == nullptr)
            timeout_reason = TOR_WAIT_TIMEOUT;
        else if (get_message_out() == nullptr) // asked for only when the connection is ready
            timeout_reason = TOR_CONNECT_TIMEOUT;
        else
            timeout_reason = TOR_TRANSMIT_TIMEOUT;
        subtask_done();
    }
};
