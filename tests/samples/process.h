// Programs as a person starts them: arguments, what they print, signals, exit status. Every wait has a guard
// of 20 seconds (60 with sanitizers), so that a program that hangs is a failed test.

#pragma once

#include <csignal>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

class process {
public:
    enum class output { pipe, terminal };

    // Starts it with standard input from /dev/null and standard error to memory. `environment` is added to
    // ours
    // ("NAME=VALUE").
    process(const std::string &program, std::vector<std::string> arguments, output kind = output::pipe,
            std::vector<std::string> environment = {});
    process(const process &) = delete;
    // Kills it if it still runs.
    ~process();

    // The next line of standard output without its end; nothing at the end of the output.
    std::optional<std::string> read_line();
    // Everything up to this text and with it; everything there is if it never comes.
    std::string read_until(std::string_view text);
    // All that is left of standard output.
    std::string read_rest();
    // Nobody reads standard output any more.
    void close_output();

    void send_signal(int number);
    // Until the program catches this signal: for one that prints nothing before.
    void wait_until_catching(int signal_number) const;
    // The exit status, or minus the signal that ended it.
    int wait();
    // Standard error, all of it after wait().
    std::string errors();

private:
    bool read_more();

    pid_t pid_ = -1;
    int output_ = -1;
    int errors_ = -1;
    std::string buffer_;
};

// What a program printed and how it ended.
struct outcome {
    int status;
    std::string output;
    std::string errors;
};
outcome run_program(const std::string &program, std::vector<std::string> arguments);

// The full path of a sample.
std::string sample(std::string_view name);

// A sample that serves, on a port that it picked itself.
class server : public process {
public:
    explicit server(std::string_view name);
    unsigned short port = 0;
};

// SIGTERM, and the exit status that follows.
int stop(process &running);

// A client's socket, connected to 127.0.0.1.
class client_socket {
public:
    explicit client_socket(unsigned short port);
    client_socket(const client_socket &) = delete;
    ~client_socket();

    void send(std::string_view bytes);
    void end_of_stream(); // of ours; the peer may go on
    // The next line without its end; what there is of it, if the peer ends before.
    std::string read_line();
    // As many bytes, or fewer if the peer ends before.
    std::string read(std::size_t size);
    // Whether the peer has closed: end of stream or reset, with nothing before it.
    bool closed();

private:
    bool read_more();

    int fd_ = -1;
    std::string buffer_;
};

// A port that is in use for as long as the object lives.
class taken_port {
public:
    taken_port();
    taken_port(const taken_port &) = delete;
    ~taken_port();
    unsigned short number = 0;

private:
    int fd_ = -1;
};
