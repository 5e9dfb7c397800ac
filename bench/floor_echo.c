/*
 * The floor: the least a TCP echo server can do per request and still be correct. One thread, one epoll, no
 * framework. Everything else in bench/ is measured against it.
 *
 * A message is a 4-byte big-endian length and that many bytes; the answer is the same message, sent when all
 * of it has arrived. Because an answer repeats its request, one FIFO per connection holds both: what is
 * received is appended, and whole messages leave at the other end. Reading and writing go on independently.
 *
 * What keeps it cheap: one edge-triggered registration per connection, made once; no second read after a
 * short one; the write is attempted at once; and buffers belong to the loop. A small request is read into,
 * and answered from, the same hot buffer, and a connection at rest keeps none (`--idle-buffers none`, the
 * default; with `keep` a connection keeps the buffer it has once had).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    header_size = 4,
    buffer_size = 128 * 1024, /* a usual buffer; more only for a message that needs more */
    spare_buffers = 256,      /* how many of them the loop keeps for reuse */
    longest_message = 256 * 1024 * 1024,
    unsent_limit = 16 * 1024 * 1024, /* above it a connection is not read until its peer has read */
    events_per_wait = 512
};

/* 0 <= sent <= whole <= end <= size: [sent, whole) is to be written, [whole, end) is a message not yet
 * complete. */
struct buffer {
    size_t size;
    size_t sent;
    size_t whole;
    size_t end;
    unsigned char bytes[];
};

struct connection {
    struct buffer *buffer; /* null at rest */
    bool open;
    bool input_ended;
    bool unread; /* the socket may hold more; no edge will tell us again */
};

struct loop {
    int epoll;
    int listener;
    bool accept_again; /* accept failed for want of descriptors; the next close makes room */
    bool keep_buffers;
    struct connection *connections; /* indexed by descriptor, so that stale pointers cannot exist */
    size_t connection_slots;
    struct buffer *spare[spare_buffers];
    size_t spares;
};

static void die(const char *what) {
    fprintf(stderr, "floor_echo: %s: %s\n", what, strerror(errno));
    exit(1);
}

static struct buffer *take_buffer(struct loop *loop) {
    struct buffer *buffer;

    if (loop->spares > 0) {
        return loop->spare[--loop->spares];
    }
    buffer = malloc(sizeof *buffer + buffer_size);
    if (!buffer) {
        die("malloc");
    }
    buffer->size = buffer_size;
    buffer->sent = buffer->whole = buffer->end = 0;
    return buffer;
}

static void give_buffer(struct loop *loop, struct buffer *buffer) {
    if (buffer->size == buffer_size && loop->spares < spare_buffers) {
        buffer->sent = buffer->whole = buffer->end = 0;
        loop->spare[loop->spares++] = buffer; /* last in, first out: the hottest is used next */
    } else {
        free(buffer);
    }
}

/* Makes room at the end: by moving what is left to the front if that frees half, else by doubling. */
static struct buffer *make_room(struct buffer *buffer) {
    if (buffer->sent >= buffer->size / 2) {
        memmove(buffer->bytes, buffer->bytes + buffer->sent, buffer->end - buffer->sent);
        buffer->whole -= buffer->sent;
        buffer->end -= buffer->sent;
        buffer->sent = 0;
        return buffer;
    }
    buffer = realloc(buffer, sizeof *buffer + buffer->size * 2);
    if (!buffer) {
        die("realloc");
    }
    buffer->size *= 2;
    return buffer;
}

/* Moves `whole` over every message that is complete. False: a length that nobody means. */
static bool find_whole_messages(struct buffer *buffer) {
    while (buffer->end - buffer->whole >= header_size) {
        uint32_t length;

        memcpy(&length, buffer->bytes + buffer->whole, header_size);
        length = ntohl(length);
        if (length > longest_message) {
            return false;
        }
        if (buffer->end - buffer->whole - header_size < length) {
            return true;
        }
        buffer->whole += header_size + (size_t)length;
    }
    return true;
}

/* Writes what is whole, as far as the socket takes it; an edge of EPOLLOUT goes on with the rest. */
static bool write_whole_messages(int fd, struct buffer *buffer) {
    while (buffer->sent < buffer->whole) {
        size_t wanted = buffer->whole - buffer->sent;
        ssize_t n = send(fd, buffer->bytes + buffer->sent, wanted, MSG_NOSIGNAL);

        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno == EAGAIN;
        }
        buffer->sent += (size_t)n;
    }
    return true;
}

/* Reads and answers until the socket has no more. False: the connection is finished or broken. */
static bool converse(struct loop *loop, int fd, struct connection *connection, bool read_to_end) {
    struct buffer *buffer = connection->buffer ? connection->buffer : take_buffer(loop);
    bool alive = true;

    while (connection->unread && !connection->input_ended && buffer->whole - buffer->sent < unsent_limit) {
        size_t room;
        ssize_t n;

        if (buffer->end == buffer->size) {
            buffer = make_room(buffer);
        }
        room = buffer->size - buffer->end;
        n = recv(fd, buffer->bytes + buffer->end, room, 0);
        if (n > 0) {
            buffer->end += (size_t)n;
            /* A short read has emptied the socket. Only if its end is known to be near it pays to read on. */
            connection->unread = (size_t)n == room || read_to_end;
            alive = find_whole_messages(buffer) && write_whole_messages(fd, buffer);
        } else if (n == 0) {
            connection->input_ended = true;
        } else if (errno == EAGAIN) {
            connection->unread = false;
        } else if (errno != EINTR) {
            alive = false;
        }
        if (!alive) {
            break;
        }
        if (buffer->sent == buffer->end) {
            buffer->sent = buffer->whole = buffer->end = 0;
        }
    }
    connection->buffer = buffer;
    if (buffer->sent == buffer->whole) {
        if (connection->input_ended) {
            alive = false;
        }
        if (buffer->end == buffer->whole && !(loop->keep_buffers && alive)) {
            give_buffer(loop, buffer);
            connection->buffer = NULL;
        }
    }
    return alive;
}

static void accept_connections(struct loop *loop);

static void close_connection(struct loop *loop, int fd) {
    struct connection *connection = &loop->connections[fd];

    if (connection->buffer) {
        give_buffer(loop, connection->buffer);
    }
    memset(connection, 0, sizeof *connection);
    close(fd);
    if (loop->accept_again) {
        accept_connections(loop);
    }
}

static void serve(struct loop *loop, int fd, uint32_t events) {
    struct connection *connection = &loop->connections[fd];
    bool alive = true;

    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        connection->unread = true;
    }
    if (connection->buffer && (events & EPOLLOUT)) {
        alive = write_whole_messages(fd, connection->buffer);
    }
    if (alive) {
        alive = converse(loop, fd, connection, (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
    }
    if (!alive) {
        close_connection(loop, fd);
    }
}

static void add_connection(struct loop *loop, int fd) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
    int on = 1;

    if ((size_t)fd >= loop->connection_slots) {
        size_t slots =
            (size_t)fd + 1 > 2 * loop->connection_slots ? (size_t)fd + 1 : 2 * loop->connection_slots;
        struct connection *grown = realloc(loop->connections, slots * sizeof *grown);

        if (!grown) {
            die("realloc");
        }
        memset(grown + loop->connection_slots, 0, (slots - loop->connection_slots) * sizeof *grown);
        loop->connections = grown;
        loop->connection_slots = slots;
    }
    loop->connections[fd].open = true;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        die("epoll_ctl");
    }
}

static void accept_connections(struct loop *loop) {
    loop->accept_again = false;
    for (;;) {
        int fd = accept4(loop->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            add_connection(loop, fd);
        } else if (errno == EAGAIN) {
            return;
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            loop->accept_again = true;
            return;
        }
        /* Anything else is the failure of one connection that was waiting; the next may be good. */
    }
}

static int listen_on(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof address;
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) {
        die("socket");
    }
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0) {
        die("listen");
    }
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0) {
        die("getsockname");
    }
    printf("listening on 127.0.0.1:%u\n", (unsigned)ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static int stop_signals(void) {
    sigset_t signals;
    int fd;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0) {
        die("signalfd");
    }
    return fd;
}

static void watch(struct loop *loop, int fd) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = fd};

    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        die("epoll_ctl");
    }
}

static void run(struct loop *loop, int signals) {
    struct epoll_event events[events_per_wait];

    for (;;) {
        int ready = epoll_wait(loop->epoll, events, events_per_wait, -1);

        if (ready < 0 && errno != EINTR) {
            die("epoll_wait");
        }
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;

            if (fd == signals) {
                return;
            }
            if (fd == loop->listener) {
                accept_connections(loop);
            } else {
                serve(loop, fd, events[i].events);
            }
        }
    }
}

static void close_loop(struct loop *loop) {
    close(loop->listener);
    loop->accept_again = false;
    for (size_t fd = 0; fd < loop->connection_slots; fd++) {
        if (loop->connections[fd].open) {
            close_connection(loop, (int)fd);
        }
    }
    while (loop->spares > 0) {
        free(loop->spare[--loop->spares]);
    }
    free(loop->connections);
    close(loop->epoll);
}

static int usage(void) {
    fprintf(stderr, "usage: floor_echo [--port N] [--idle-buffers none|keep]\n");
    return 2;
}

int main(int argc, char **argv) {
    static struct loop loop;
    uint16_t port = 0;
    int signals;

    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (!value) {
            return usage();
        }
        if (!strcmp(argv[i], "--port")) {
            char *end;
            unsigned long number = strtoul(value, &end, 10);

            if (*value == '\0' || *end != '\0' || number > 65535) {
                return usage();
            }
            port = (uint16_t)number;
        } else if (!strcmp(argv[i], "--idle-buffers") && (!strcmp(value, "none") || !strcmp(value, "keep"))) {
            loop.keep_buffers = !strcmp(value, "keep");
        } else {
            return usage();
        }
    }
    signals = stop_signals();
    loop.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop.epoll < 0) {
        die("epoll_create1");
    }
    loop.listener = listen_on(port);
    watch(&loop, loop.listener);
    watch(&loop, signals);
    run(&loop, signals);
    close_loop(&loop);
    close(signals);
    return 0;
}
