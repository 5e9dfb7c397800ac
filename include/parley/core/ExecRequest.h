// A piece of work for an Executor as a step of a series: an ExecSession that is also a SubTask.

#pragma once

#include <errno.h>

#include "Executor.h"
#include "SubTask.h"

// Subclasses define execute() and done(). Borrows the queue and the Executor; both must live until done().
class ExecRequest : public SubTask, public ExecSession {
public:
    ExecRequest(ExecQueue *request_queue, Executor *request_executor)
        : state(ES_STATE_FINISHED), error(0), queue(request_queue), executor(request_executor) {}

    ExecQueue *get_request_queue() const { return queue; }

    // For the next dispatch().
    void set_request_queue(ExecQueue *request_queue) { queue = request_queue; }

    // Requests the work. If the Executor refuses it, handle(ES_STATE_ERROR, errno) runs before this returns.
    virtual void dispatch() {
        if (executor->request(this, queue) < 0)
            this->handle(ES_STATE_ERROR, errno);
    }

protected:
    // What handle() was given; for done().
    int state;
    int error;

    ExecQueue *queue;
    Executor *executor;

    // Keeps the result and ends the step. The thread is said at ExecSession::handle(); `this` may be gone
    // afterwards.
    virtual void handle(int result, int result_error) {
        state = result;
        error = result_error;
        subtask_done();
    }
};
