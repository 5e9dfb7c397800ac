// A program of somebody else's that uses the coroutine layer.
#include <parley/parley.hpp>

#if __has_include("Communicator.h")
#error "parley::parley forces the core's classic include path on its users"
#endif

parley::task<int> answer() {
    co_await parley::yield();
    co_return 42;
}

int main() {
    return parley::run(answer()) == 42 ? 0 : 1;
}
