#include <parley/drain_report.hpp>

#include <ostream>

namespace parley::inline PARLEY_ABI {

std::ostream &operator<<(std::ostream &out, const drain_report &report) {
    out << "drained: " << report.connections << (report.connections == 1 ? " connection, " : " connections, ")
        << report.idle << " idle, " << report.finished << " finished, " << report.cancelled << " cancelled";
    for (const std::string &one : report.overstayed)
        out << "\n  " << one;
    return out;
}

} // namespace parley::inline PARLEY_ABI
