// A program of somebody else's that uses the callback core, by the spelling of parley's own headers.
#include <parley/core/Communicator.h>

int main() {
    Communicator communicator;
    if (communicator.init(1, 1) < 0)
        return 1;
    communicator.deinit();
    return 0;
}
