#include <parley/format.hpp>

namespace parley::inline PARLEY_ABI {

std::ostream &operator<<(std::ostream &out, const cancelled &) {
    return out << "cancelled";
}

std::string detail::text_of(const std::exception_ptr &exception) {
    try {
        std::rethrow_exception(exception);
    } catch (const std::exception &e) {
        return e.what();
    } catch (...) {
        return "of no standard type";
    }
}

} // namespace parley::inline PARLEY_ABI
