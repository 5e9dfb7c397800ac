// A file operation as a step of a series: an IOSession that is also a SubTask.

#pragma once

#include <errno.h>

#include "Communicator.h"
#include "SubTask.h"

// Subclasses define prepare() and done(). Borrows the service, which must live until done().
class IORequest : public SubTask, public IOSession {
public:
    explicit IORequest(IOService *request_service)
        : state(IOS_STATE_SUCCESS), error(0), service(request_service) {}

    // Starts the operation. If it is refused, handle(IOS_STATE_ERROR, errno) runs before this returns.
    virtual void dispatch() {
        if (service->request(this) < 0)
            this->handle(IOS_STATE_ERROR, errno);
    }

protected:
    // What handle() was given; for done().
    int state;
    int error;

    IOService *service;

    // Keeps the result and ends the step. The thread is said at IOSession::handle(); `this` may be gone
    // afterwards.
    virtual void handle(int result, int result_error) {
        state = result;
        error = result_error;
        subtask_done();
    }
};
