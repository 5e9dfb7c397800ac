#include "reference.h"

#include <errno.h>
#include <string.h>

#include "Communicator.h"

namespace model {

void reference::check(bool holds, const std::string &rule, const std::string &about) {
    if (!holds)
        object_(rule + ": " + about);
}

std::string reference::name(const submission &it) const {
    std::string text = "request " + std::to_string(it.id) + " to service " + std::to_string(it.service);
    if (it.returned)
        text += ", request() said " + std::to_string(it.result) +
                (it.result < 0 ? std::string(" ") + strerrorname_np(it.code) : "");
    if (it.handled > 0)
        text += ", handle(" + std::to_string(it.state) + ", " +
                (it.error > 0 ? strerrorname_np(it.error) : std::to_string(it.error)) + ")";
    if (it.cancelled > 0)
        text += ", cancelled";
    return text;
}

void reference::not_after_end(const std::string &what) {
    check(!over_, "after deinit() no callback comes", what);
}

// --- a client's session ---

reference::submission &reference::submit(submission plan) {
    std::lock_guard lock(mutex_);
    submissions_.push_back(std::move(plan));
    in_flight_++;
    return submissions_.back();
}

void reference::returned(submission &it, int result, int code) {
    std::lock_guard lock(mutex_);
    it.returned = true;
    it.result = result;
    it.code = code;
    if (result == 0)
        return;
    in_flight_--;
    check(it.handled == 0, "a session that was refused is the caller's: no handle()", name(it));
    // EAGAIN: no slot and no wait; ETIMEDOUT: none in time; EDEADLK: it would have blocked a loop.
    const bool wait = code == EAGAIN || code == ETIMEDOUT || code == EDEADLK || code == ECANCELED;
    const bool system = around_.system_faults || around_.network_faults;
    check(wait || (code == ESHUTDOWN && stopping_) || system ||
              ((code == ECONNREFUSED || code == ENOENT) &&
               (services_[it.service].ever_unbound || services_[it.service].disturbed)),
          "request() fails for a reason", name(it));
}

void reference::asked_out(submission &it) {
    std::lock_guard lock(mutex_);
    not_after_end("message_out");
    check(it.handled == 0, "message_out() comes before handle()", name(it));
    it.asked_out = true;
}

// The failures that the circumstances account for.
bool reference::explains(const submission &it, int state, int error) const {
    const service_state &service = services_[it.service];
    const bool closed_by_service =
        service.unbinding || service.ever_unbound || service.disturbed || stopping_;
    if (state == CS_STATE_STOPPED)
        return stopping_;
    if (error == ECANCELED)
        return true; // finish() compares it with what cancel() said
    if (error == ETIMEDOUT)
        return it.has_deadline || around_.network_faults;
    if (error == ECONNREFUSED)
        return closed_by_service || around_.network_faults;
    if (error == ECONNRESET || error == EPIPE || error == 0)
        return it.server_closes || closed_by_service || around_.network_faults || around_.deadlines ||
               around_.system_faults;
    return around_.system_faults && error > 0;
}

void reference::handled(submission &it, int state, int error, const std::string &answer,
                        const std::vector<std::string> &pushed) {
    std::lock_guard lock(mutex_);
    not_after_end(name(it));
    it.handled++;
    it.state = state;
    it.error = error;
    in_flight_--;
    check(it.handled == 1, "handle() comes once for each submission", name(it));
    if (state == CS_STATE_SUCCESS) {
        check(error == 0, "success has no error", name(it));
        check(it.asked_out, "an answer needs a request that was sent", name(it));
        check(!it.server_closes, "no answer without reply()", name(it));
        check(answer == it.expected, "the answer is the one to this request, byte for byte",
              name(it) + ", got " + std::to_string(answer.size()) + " bytes");
        check(replies_of_[it.id] >= 1, "an answer comes from reply()", name(it));
        check(pushed == pushes_of_[it.id], "what was pushed comes before the reply, whole and in order",
              name(it) + ", got " + std::to_string(pushed.size()) + " of " +
                  std::to_string(pushes_of_[it.id].size()));
    } else {
        check(state == CS_STATE_ERROR || state == CS_STATE_STOPPED,
              "a client's session succeeds, fails or is stopped", name(it));
        check(explains(it, state, error), "a session fails for a reason", name(it));
    }
}

void reference::cancel_returned(submission &it, int result, int code) {
    std::lock_guard lock(mutex_);
    if (result == 0)
        it.cancelled++;
    else
        check(code == ENOENT, "cancel() says 0 or ENOENT", name(it));
}

// --- a pool ---

std::size_t reference::add_pool(std::size_t most) {
    std::lock_guard lock(mutex_);
    pools_.push_back({most});
    return pools_.size() - 1;
}

void reference::connection_made(std::size_t pool) {
    std::lock_guard lock(mutex_);
    pools_[pool].connections++;
}

void reference::connection_gone(std::size_t pool) {
    std::lock_guard lock(mutex_);
    check(pools_[pool].connections-- > 0, "a connection is destroyed once", "pool " + std::to_string(pool));
}

void reference::released(std::size_t pool) {
    std::lock_guard lock(mutex_);
    pools_[pool].slots++;
}

// --- a service ---

std::size_t reference::add_service() {
    std::lock_guard lock(mutex_);
    services_.emplace_back();
    return services_.size() - 1;
}

void reference::bound(std::size_t service) {
    std::lock_guard lock(mutex_);
    service_state &it = services_[service];
    it.bound = true;
    it.unbinding = false;
    it.binds++;
}

void reference::unbinding(std::size_t service) {
    std::lock_guard lock(mutex_);
    services_[service].unbinding = true;
    services_[service].ever_unbound = true;
}

void reference::disturbed(std::size_t service) {
    std::lock_guard lock(mutex_);
    services_[service].disturbed = true;
}

void reference::stopped(std::size_t service) {
    std::lock_guard lock(mutex_);
    services_[service].stops++;
    check(services_[service].stops <= services_[service].binds,
          "handle_stop() comes once at most for each bind()", "service " + std::to_string(service));
}

void reference::unbound(std::size_t service) {
    std::lock_guard lock(mutex_);
    service_state &it = services_[service];
    const std::string about = "service " + std::to_string(service);
    it.unbounds++;
    it.bound = false;
    check(it.unbounds <= it.binds, "handle_unbound() comes once for each bind()", about);
    check(it.unbinding, "handle_unbound() comes after unbind()", about);
    check(it.peers == 0, "handle_unbound() is the last: no connection is left",
          about + " has " + std::to_string(it.peers));
    check(it.open_exchanges == 0, "handle_unbound() is the last: no session is left",
          about + " has " + std::to_string(it.open_exchanges));
}

bool reference::is_unbound(std::size_t service) {
    std::lock_guard lock(mutex_);
    return !services_[service].bound;
}

void reference::peer_made(std::size_t service) {
    std::lock_guard lock(mutex_);
    services_[service].peers++;
    check(services_[service].bound, "no connection before bind() or after handle_unbound()",
          "service " + std::to_string(service));
}

void reference::peer_gone(std::size_t service) {
    std::lock_guard lock(mutex_);
    check(services_[service].peers-- > 0, "a connection is destroyed once",
          "service " + std::to_string(service));
}

reference::exchange &reference::begin(std::size_t service) {
    std::lock_guard lock(mutex_);
    check(services_[service].bound, "no session before bind() or after handle_unbound()",
          "service " + std::to_string(service));
    services_[service].open_exchanges++;
    exchanges_.emplace_back();
    exchanges_.back().service = service;
    return exchanges_.back();
}

void reference::to_reply(exchange &it, std::size_t id) {
    std::lock_guard lock(mutex_);
    it.id = id;
    it.to_reply++;
    check(it.to_reply == 1 && it.finished == 0, "TOREPLY comes once, and first",
          "request " + std::to_string(id));
    // A request that is sent again on a fresh connection is answered anew.
    pushes_of_[id].clear();
}

void reference::pushed(exchange &it, const std::string &what) {
    std::lock_guard lock(mutex_);
    it.pushed.push_back(what);
    pushes_of_[it.id].push_back(what);
}

void reference::push_began() {
    std::lock_guard lock(mutex_);
    pushes_open_++;
}

void reference::push_ended() {
    std::lock_guard lock(mutex_);
    pushes_open_--;
    check(pushes_open_ >= 0, "a push is completed once", "");
}

void reference::replies(exchange &it) {
    std::lock_guard lock(mutex_);
    it.replied = true;
    replies_of_[it.id]++;
}

void reference::reply_refused(exchange &it, int code) {
    std::lock_guard lock(mutex_);
    it.replied = false;
    check(code == ENOENT, "reply() says 0 or ENOENT", "request " + std::to_string(it.id));
    check(it.finished == 0, "a reply that was refused has no completion", "request " + std::to_string(it.id));
}

void reference::dropped(exchange &it) {
    std::lock_guard lock(mutex_);
    it.dropped = true;
}

void reference::finished(exchange &it, int state, int error) {
    std::lock_guard lock(mutex_);
    const std::string about = "request " + std::to_string(it.id) + ", handle(" + std::to_string(state) +
                              ", " + std::to_string(error) + ")";
    it.finished++;
    check(it.finished == 1, "a service's session is completed once", about);
    check(state == CS_STATE_SUCCESS || state == CS_STATE_ERROR || state == CS_STATE_STOPPED, "a known state",
          about);
    if (it.to_reply > 0)
        check(it.replied || it.dropped, "after TOREPLY nothing comes before reply()", about);
    else
        check(state != CS_STATE_SUCCESS, "no success without a request", about);
}

void reference::destroyed(exchange &it) {
    std::lock_guard lock(mutex_);
    services_[it.service].open_exchanges--;
    check(!it.replied || it.finished == 1, "a reply that was taken is completed",
          "request " + std::to_string(it.id));
}

// --- a timer ---

reference::timer &reference::start_timer(bool endless) {
    std::lock_guard lock(mutex_);
    timers_.emplace_back();
    timers_.back().endless = endless;
    in_flight_++;
    return timers_.back();
}

void reference::timer_refused(timer &it, int code) {
    std::lock_guard lock(mutex_);
    it.refused = true;
    in_flight_--;
    check(code == ESHUTDOWN && stopping_, "sleep() is refused only by the stop", strerrorname_np(code));
    check(it.handled == 0, "a timer that was refused is the caller's", "");
}

void reference::timer_handled(timer &it, int state, int error) {
    std::lock_guard lock(mutex_);
    not_after_end("a timer");
    it.handled++;
    it.state = state;
    in_flight_--;
    check(it.handled == 1, "a timer is completed once", "");
    if (state == SS_STATE_COMPLETE)
        check(error == 0 && !it.endless, "a timer completes when its time has come", "");
    else if (state == SS_STATE_ERROR)
        check(error == ECANCELED, "a timer fails only by unsleep()", strerrorname_np(error));
    else
        check(state == SS_STATE_DISRUPTED && stopping_, "a timer is disrupted by the stop only", "");
}

void reference::unsleep_returned(timer &it, int result, int code) {
    std::lock_guard lock(mutex_);
    if (result == 0)
        it.cancelled++;
    else
        check(code == ENOENT, "unsleep() says 0 or ENOENT", strerrorname_np(code));
}

// --- the whole ---

void reference::deinit_begins() {
    std::lock_guard lock(mutex_);
    stopping_ = true;
}

void reference::deinit_over() {
    std::lock_guard lock(mutex_);
    over_ = true;
}

bool reference::quiet() {
    std::lock_guard lock(mutex_);
    return in_flight_ == 0;
}

void reference::finish() {
    std::lock_guard lock(mutex_);
    for (const submission &it : submissions_) {
        check(it.handled == (it.result == 0 ? 1 : 0), "every submission that was taken is completed",
              name(it));
        const bool told =
            it.result < 0 ? it.code == ECANCELED : it.state == CS_STATE_ERROR && it.error == ECANCELED;
        check(it.cancelled <= 1, "cancel() succeeds once", name(it));
        check(told == (it.cancelled == 1), "ECANCELED is told if and only if cancel() said 0", name(it));
    }
    for (const exchange &it : exchanges_)
        check(!it.replied || it.finished == 1, "every reply that was taken is completed",
              "request " + std::to_string(it.id));
    for (const timer &it : timers_) {
        check(it.handled == (it.refused ? 0 : 1), "every timer that was taken is completed", "");
        check((it.state == SS_STATE_ERROR) == (it.cancelled == 1),
              "ECANCELED is told if and only if unsleep() said 0", "");
    }
    for (std::size_t i = 0; i < services_.size(); i++) {
        const service_state &it = services_[i];
        check(it.unbounds == it.binds, "every bind() has its handle_unbound()",
              "service " + std::to_string(i));
        check(it.peers == 0 && it.open_exchanges == 0, "nothing of a service is left",
              "service " + std::to_string(i));
    }
    for (std::size_t i = 0; i < pools_.size(); i++)
        check(pools_[i].connections == 0, "no connection of a pool is left", "pool " + std::to_string(i));
    check(pushes_open_ == 0, "every push that was taken is completed", "");
    check(in_flight_ == 0, "nothing is in flight", "");
}

} // namespace model
