// What search and explore may do with a world beside its public face.

#pragma once

#include <parley/sim/world.hpp>

namespace parley::sim {

struct world_access {
    static detail::kernel &kernel_of(world &it);
};

} // namespace parley::sim
