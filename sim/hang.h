// Says what a thread of this process does that does not come back to the world.

#pragma once

#include <string>

namespace parley::sim::detail {

// `id`: the kernel's number of the thread.
std::string what_hangs(int id);

} // namespace parley::sim::detail
