// The same by the classic spelling, as code written against the classic Communicator has it.
#include "Communicator.h"
#include "CommScheduler.h"

int main() {
    CommScheduler scheduler;
    if (scheduler.init(1, 0) < 0)
        return 1;
    scheduler.deinit();
    return 0;
}
