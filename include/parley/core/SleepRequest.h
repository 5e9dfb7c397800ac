// A timer as a step of a series: a SleepSession that is also a SubTask.

#pragma once

#include <errno.h>

#include "CommScheduler.h"
#include "SubTask.h"

// Subclasses define duration() and done(). Borrows the scheduler, which must live until done().
class SleepRequest : public SubTask, public SleepSession {
public:
    explicit SleepRequest(CommScheduler *request_scheduler)
        : state(SS_STATE_COMPLETE), error(0), scheduler(request_scheduler) {}

    // Starts the timer. If it is refused, handle(SS_STATE_ERROR, errno) runs before this returns.
    virtual void dispatch() {
        if (scheduler->sleep(this) < 0)
            this->handle(SS_STATE_ERROR, errno);
    }

protected:
    // Communicator::unsleep().
    int cancel() { return scheduler->unsleep(this); }

    // What handle() was given; for done().
    int state;
    int error;

    CommScheduler *scheduler;

    // Keeps the result and ends the step. The thread is said at SleepSession::handle(); `this` may be gone
    // afterwards.
    virtual void handle(int result, int result_error) {
        state = result;
        error = result_error;
        subtask_done();
    }
};
