// A random program of requests, answers, pushes, cancels, timers, drains, unbinds and a stop, on a
// Communicator, that reports all it sees to the reference. What it does is drawn before it begins, so that a
// failing run can be told with less of it; the same program runs in a simulated world and on the real kernel.

#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "reference.h"

namespace model {

// 0 .. n-1; 0 is the plainest.
using dice = std::function<std::uint32_t(std::uint32_t n)>;

// What the server does with a request; the client writes it into the request.
enum class behaviour : unsigned char {
    reply_at_once,
    reply_later, // by another thread
    push_then_reply,
    push_then_later,
    shut_down,      // no answer
    delete_at_once, // no answer
    shut_down_later,
    delete_later,
};

struct step {
    enum class kind : unsigned char {
        request,
        cancel,
        sleep,
        unsleep,
        pause,
        drain,
        close_idle,
        rest,
        unbind,
        stop,
    };
    kind what = kind::request;
    std::size_t pool = 0, service = 0;
    behaviour how = behaviour::reply_at_once;
    std::size_t size = 0, answer_size = 0;
    int wait_timeout = 0;
    int deadline_ms = -1;
    int number = 0; // of which one, how many, how long
    bool in_place = false, retriable = false, again = false;
};

struct plan {
    std::size_t loops = 1, handler_threads = 0;
    std::size_t executors = 1; // threads that answer later
    struct service {
        int max_pipeline = 1;
        bool session_at_connect = false;
        int keep_alive_ms = -1;
        int response_timeout = -1;
        bool unix_socket = false;
    };
    struct pool {
        std::size_t service = 0;
        std::size_t most = 1;
        int connect_timeout = -1, response_timeout = -1;
    };
    std::vector<service> services;
    std::vector<pool> pools;
    std::vector<std::vector<step>> threads; // each a thread's
    bool deinit_before_unbind = false;
    bool deadlines = false;
};

// `unit_ms`: how long the shortest pause is; virtual time costs nothing, real time does.
plan draw_plan(const dice &draw, std::size_t most_steps);

struct surroundings {
    circumstances around;
    std::function<void(const std::string &)> object; // a rule was broken
    std::function<void(int ms)> pause;               // lets time pass on the calling thread
    int unit_ms = 1;
};

void run_program(const plan &what, const surroundings &in);

} // namespace model
