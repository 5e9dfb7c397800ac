// Draws what a random program does.

#include "program.h"

namespace model {

plan draw_plan(const dice &draw, std::size_t most_steps) {
    plan it;
    it.loops = 1 + draw(3);
    constexpr std::size_t handlers[] = {0, 1, 3};
    it.handler_threads = handlers[draw(3)];
    it.executors = 1 + draw(2);
    it.deadlines = draw(4) == 1;
    const std::size_t services = 1 + draw(2);
    for (std::size_t i = 0; i < services; i++) {
        plan::service one;
        one.max_pipeline = 1 + static_cast<int>(draw(3));
        one.session_at_connect = draw(3) == 1;
        one.keep_alive_ms = it.deadlines && draw(2) == 1 ? static_cast<int>(draw(50)) : 600000;
        one.response_timeout = it.deadlines && draw(2) == 1 ? 20 + static_cast<int>(draw(1000)) : -1;
        one.unix_socket = draw(4) == 1;
        it.services.push_back(one);
    }
    const std::size_t pools = 1 + draw(2);
    for (std::size_t i = 0; i < pools; i++) {
        plan::pool one;
        one.service = draw(static_cast<std::uint32_t>(services));
        one.most = 1 + draw(3);
        one.connect_timeout = it.deadlines && draw(2) == 1 ? static_cast<int>(draw(1000)) : -1;
        one.response_timeout = it.deadlines && draw(2) == 1 ? static_cast<int>(draw(1000)) : -1;
        it.pools.push_back(one);
    }
    const std::size_t threads = 1 + draw(3);
    for (std::size_t i = 0; i < threads; i++) {
        std::vector<step> steps;
        const std::size_t count = 1 + draw(static_cast<std::uint32_t>(most_steps));
        for (std::size_t k = 0; k < count; k++) {
            constexpr step::kind kinds[] = {
                step::kind::request, step::kind::request, step::kind::request, step::kind::request,
                step::kind::request, step::kind::cancel,  step::kind::cancel,  step::kind::sleep,
                step::kind::unsleep, step::kind::pause,   step::kind::drain,   step::kind::close_idle,
                step::kind::rest,    step::kind::unbind,  step::kind::stop,
            };
            step one;
            one.what = kinds[draw(15)];
            // Whatever ends things comes seldom.
            if ((one.what == step::kind::unbind || one.what == step::kind::stop) && draw(3) != 1)
                one.what = step::kind::request;
            one.pool = draw(static_cast<std::uint32_t>(pools));
            one.service = draw(static_cast<std::uint32_t>(services));
            one.number = static_cast<int>(draw(20));
            if (one.what == step::kind::request) {
                one.how = static_cast<behaviour>(draw(8));
                const std::size_t sizes[] = {0, 1, 100, 5000, 70000, 300000};
                one.size = sizes[draw(6)];
                one.answer_size = sizes[draw(6)];
                constexpr int waits[] = {-1, 0, 5, 100};
                one.wait_timeout = waits[draw(4)];
                one.deadline_ms = it.deadlines && draw(2) == 1 ? static_cast<int>(draw(300)) : -1;
                one.in_place = draw(2) == 1;
                one.retriable = draw(2) == 1;
                one.again = draw(3) == 1;
            }
            steps.push_back(one);
        }
        it.threads.push_back(std::move(steps));
    }
    it.deinit_before_unbind = draw(2) == 1;
    bool stops = false;
    for (const auto &steps : it.threads)
        for (const step &one : steps)
            stops = stops || one.what == step::kind::stop;
    for (auto &steps : it.threads)
        for (step &one : steps)
            if (stops && one.what == step::kind::unsleep)
                one.what = step::kind::sleep;
    return it;
}

} // namespace model
