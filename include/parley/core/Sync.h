// The words in which parley's threads talk to each other: atomics, mutexes, condition variables and threads
// under names of our own. The lowest stone of the house; core and the coroutine layer synchronise through it
// and through nothing else.
//
// They are the standard library's and cost nothing. They are aliases because an explorer of interleavings
// puts its own types behind the same names and then runs the same source through every order in which the
// threads could have met. Such an explorer sees operations on objects, not what lies between them, so there
// are no fences here: order is said at the atomic that carries it. For the same reason nobody spins on an
// atomic without an end.

#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace parley::sync {

template <class T>
using atomic = std::atomic<T>;

using std::memory_order;
using std::memory_order_acq_rel;
using std::memory_order_acquire;
using std::memory_order_relaxed;
using std::memory_order_release;
using std::memory_order_seq_cst;

using mutex = std::mutex;
using condition_variable = std::condition_variable;
using std::lock_guard;
using std::scoped_lock;
using std::unique_lock;

using thread = std::thread;

} // namespace parley::sync
