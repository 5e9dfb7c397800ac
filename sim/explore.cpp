#include <parley/sim/search.hpp>

#include <ostream>

#include "access.h"
#include "child.h"
#include "kernel.h"

namespace parley::sim {

namespace {

using detail::outcome;

// The next schedule, depth first, with at most so many preemptions.
class depth_first final : public detail::branching {
public:
    explicit depth_first(int bound) noexcept : bound_(bound) {}

    std::uint32_t branch(std::uint32_t n, bool free) override {
        if (!free && used_ >= bound_)
            return 0;
        if (at_ == path_.size())
            path_.push_back({0, n, free});
        node &here = path_[at_++];
        if (here.n != n || here.free != free)
            kernel_->fail("the program took another way than before under the same schedule: it must decide "
                          "nothing by time, addresses or what an earlier run has left");
        if (!free && here.chosen != 0)
            used_++;
        return here.chosen;
    }

    // False: there is none left.
    bool next() {
        while (!path_.empty() && path_.back().chosen + 1 == path_.back().n)
            path_.pop_back();
        if (path_.empty())
            return false;
        path_.back().chosen++;
        at_ = 0;
        used_ = 0;
        return true;
    }

    void in(detail::kernel &world) noexcept { kernel_ = &world; }

private:
    struct node {
        std::uint32_t chosen;
        std::uint32_t n;
        bool free;
    };

    std::vector<node> path_;
    std::size_t at_ = 0;
    int used_ = 0;
    int bound_;
    detail::kernel *kernel_ = nullptr;
};

// `traced`: the number of the schedule whose trace is kept, from 1.
outcome run_all(int bound, std::uint64_t most, std::uint64_t traced,
                const std::function<void(world &)> &program) {
    return detail::in_child([&] {
        depth_first order(bound);
        std::uint64_t number = 0;
        bool more = true;
        while (more && number < most) {
            detail::tell_number(++number);
            world it(1);
            detail::kernel &kernel = world_access::kernel_of(it);
            kernel.set_failure_sink(detail::tell_failure);
            kernel.chosen().branch_by(&order);
            order.in(kernel);
            if (number == traced)
                kernel.keep_trace(true);
            try {
                program(it);
            } catch (const std::exception &error) {
                detail::tell_failure(kernel, std::string("the program threw: ") + error.what());
            }
            more = order.next();
        }
        // 0: there are more. 16: there are none; of such numbers tell_success() looks for what was leaked.
        detail::tell_success(more ? 0 : 16, number);
    });
}

} // namespace

exploration explore(std::string_view name, const exploration_bounds &bounds,
                    const std::function<void(world &)> &program) {
    exploration result;
    // Fewest preemptions first: what fails is then told in its simplest form.
    for (int bound = 0; bound <= bounds.preemptions; bound++) {
        outcome it = run_all(bound, bounds.schedules, 0, program);
        result.schedules += it.number;
        if (it.failed) {
            outcome again = run_all(bound, bounds.schedules, it.number, program);
            failure what;
            what.name = name;
            what.what = it.what;
            what.trace = std::move(again.trace);
            what.tries = result.schedules;
            what.choices = static_cast<std::uint64_t>(bound);
            result.failed = std::move(what);
            return result;
        }
        result.complete = it.fingerprint != 0;
    }
    return result;
}

std::ostream &operator<<(std::ostream &out, const exploration &it) {
    out << it.schedules << " schedules" << (it.complete ? ", all there are" : ", more are left");
    if (it.failed) {
        out << ", and the last one failed: " << it.failed->what << "\n";
        for (const std::string &line : it.failed->trace)
            out << line << "\n";
    }
    return out;
}

} // namespace parley::sim
