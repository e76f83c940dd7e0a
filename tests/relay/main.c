/* SPDX-License-Identifier: BSD-2-Clause */
/* drafter-relay: options, the event loop, and a clean end. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "relay.h"

static const char usage[] =
    "Usage: drafter-relay --listen ADDR --to ADDR [--listen ADDR --to ADDR]... [OPTION]...\n"
    "Forwards stream connections over one link with delay, rate and faults.\n\n"
    "  --listen ADDR    HOST:PORT, [V6]:PORT (port 0: any), unix:PATH\n"
    "  --to ADDR        where connections to the --listen before it go\n"
    "  --rtt MS         round trip time, half of it each way (0)\n"
    "  --rate BITS      payload bits/s of each direction, for all connections together; k, m, g "
    "(unlimited)\n"
    "  --jitter MS      up to so much more delay per chunk; --seed N repeats a run\n"
    "  --no-handshake   do not charge new connections the round trip and a half of a TCP "
    "handshake\n"
    "  --fault FAULT    one of the faults below, with a trigger; may be given often\n"
    "  --control PATH   UNIX socket for the same faults at run time, and stats, quit\n"
    "  --ready-fd N     write the listening lines to descriptor N and close it (default: standard "
    "output)\n"
    "  --stats          print statistics at the end\n\n"
    "Faults: NAME [ARGUMENT...] [conn=K|all] [dir=up|down|both] [after-bytes=N] [after-ms=T]\n"
    "up is from the connecting side; connections count from 1; without conn, bytes are those of "
    "the whole link.\n";

/* A processor that slept wakes late (0.2 ms in a VM): after a long wait the last bit is waited for
 * awake. */
#define SPIN_NS (200 * 1000)

int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void relay_init(struct relay *relay)
{
    memset(relay, 0, sizeof *relay);
    TAILQ_INIT(&relay->conns);
    TAILQ_INIT(&relay->faults);
    TAILQ_INIT(&relay->clients);
    link_init(&relay->links[UP]);
    link_init(&relay->links[DOWN]);
    relay->control.fd = relay->signals.fd = -1;
    relay->handshake = true;
    relay->random = 1;
    relay->started = now_ns();
    relay->epoll = epoll_create1(EPOLL_CLOEXEC);
}

static void earlier(int64_t *next, int64_t candidate)
{
    if (candidate < *next)
        *next = candidate;
}

static int64_t next_event(const struct relay *relay, int64_t now)
{
    int64_t next = fault_next(relay);
    const struct conn *conn;

    for (int dir = 0; dir < DIRECTIONS; dir++)
        if (!TAILQ_EMPTY(&relay->links[dir].ready))
            earlier(&next, relay->links[dir].rate ? link_room_at(&relay->links[dir]) : now);
    TAILQ_FOREACH(conn, &relay->conns, next)
    {
        if (conn->ends[1].watch.fd < 0)
            earlier(&next, conn->connect_at);
        if (conn->read_at > now)
            earlier(&next, conn->read_at);
        earlier(&next, flow_next_event(&conn->flows[UP], now));
        earlier(&next, flow_next_event(&conn->flows[DOWN], now));
    }
    return next;
}

static void wait_events(struct relay *relay, int64_t until)
{
    struct epoll_event events[64];
    int64_t left = until == INT64_MAX ? 0 : until - now_ns();
    struct timespec timeout = {0};
    int n;

    if (left > 5 * SPIN_NS) {
        left -= SPIN_NS;
        relay->spin = true;
    } else if (left > SPIN_NS || left < 0) {
        relay->spin = false;
    }
    if (left > 0 && (!relay->spin || left > SPIN_NS)) {
        timeout.tv_sec = left / NS_PER_S;
        timeout.tv_nsec = left % NS_PER_S;
    }
    n = epoll_pwait2(relay->epoll, events, 64, until == INT64_MAX ? NULL : &timeout, NULL);
    for (int i = 0; i < n; i++) {
        struct watch *watch = events[i].data.ptr;

        watch->ready(watch, events[i].events);
    }
}

static void run(struct relay *relay)
{
    while (!relay->quit) {
        struct conn *conn;
        int64_t now;

        wait_events(relay, next_event(relay, now_ns()));
        now = now_ns();
        fault_tick(relay, now);
        TAILQ_FOREACH(conn, &relay->conns, next)
        conn_tick(conn, now);
        flow_read_all(relay, now);
        conn_reap(relay);
    }
}

static void signal_ready(struct watch *watch, uint32_t events)
{
    struct relay *relay = (struct relay *)((char *)watch - offsetof(struct relay, signals));

    (void)events;
    relay->quit = true;
}

static int watch_signals(struct relay *relay)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    relay->signals = (struct watch){.ready = signal_ready, .fd = signalfd(-1, &set, SFD_CLOEXEC)};
    return relay->signals.fd < 0 ? -errno : relay_watch(relay, &relay->signals, EPOLLIN);
}

static void bad(const char *option, const char *value)
{
    fprintf(stderr, "drafter-relay: --%s: bad value: %s\n", option, value);
    exit(2);
}

static void add_fault(struct relay *relay, char *text)
{
    char *reply = NULL;
    size_t size;
    FILE *out = open_memstream(&reply, &size);

    if (!out)
        exit(1);
    command_run(relay, text, out);
    fclose(out);
    if (strcmp(reply, "ok\n") != 0) {
        fprintf(stderr, "drafter-relay: --fault: %s", reply);
        exit(2);
    }
    free(reply);
}

struct options {
    char *faults[32], *control;
    int fault_count, ready_fd;
    bool stats;
};

static void add_route(struct relay *relay, int option, const char *text)
{
    struct route *route = &relay->routes[relay->route_count];

    if (relay->route_count == ROUTES_MAX)
        bad("listen", "too many");
    if (option == 'l' ? address_parse(text, &route->listen) < 0
                      : address_parse(text, &route->to) < 0)
        bad(option == 'l' ? "listen" : "to", text);
    if (option == 't' && route->listen.size == 0)
        bad("to", "--listen comes first");
    if (option == 't')
        relay->route_count++;
}

static void set_link(struct relay *relay, int option, const char *text)
{
    int64_t ns;
    uint64_t rate;

    if (option == 'b' ? command_rate(text, &rate) < 0 : command_time(text, &ns) < 0)
        bad(option == 'b' ? "rate" : option == 'r' ? "rtt" : "jitter", text);
    for (int dir = 0; dir < DIRECTIONS; dir++) {
        if (option == 'b')
            relay->links[dir].rate = relay->links[dir].rate_default = rate;
        else if (option == 'r')
            relay->links[dir].delay = ns / 2;
        else
            relay->links[dir].jitter = ns;
    }
}

static void parse_options(struct relay *relay, int argc, char **argv, struct options *ret)
{
    static const struct option table[] = {
        {"listen", 1, NULL, 'l'},
        {"to", 1, NULL, 't'},
        {"rtt", 1, NULL, 'r'},
        {"rate", 1, NULL, 'b'},
        {"jitter", 1, NULL, 'j'},
        {"seed", 1, NULL, 's'},
        {"fault", 1, NULL, 'f'},
        {"control", 1, NULL, 'c'},
        {"ready-fd", 1, NULL, 'd'},
        {"stats", 0, NULL, 'S'},
        {"no-handshake", 0, NULL, 'n'},
        {"help", 0, NULL, 'h'},
        {0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        if (option == 'l' || option == 't')
            add_route(relay, option, optarg);
        else if (option == 'r' || option == 'b' || option == 'j')
            set_link(relay, option, optarg);
        else if (option == 's')
            relay->random = strtoull(optarg, NULL, 10) | 1;
        else if (option == 'f' && ret->fault_count < 32)
            ret->faults[ret->fault_count++] = optarg;
        else if (option == 'c')
            ret->control = optarg;
        else if (option == 'd')
            ret->ready_fd = (int)strtol(optarg, NULL, 10);
        else if (option == 'S')
            ret->stats = true;
        else if (option == 'n')
            relay->handshake = false;
        else {
            fputs(usage, option == 'h' ? stdout : stderr);
            fault_help(option == 'h' ? stdout : stderr);
            exit(option == 'h' ? 0 : 2);
        }
    }
    if (relay->route_count == 0 || optind < argc) {
        fprintf(stderr, "drafter-relay: --listen and --to are needed; see --help\n");
        exit(2);
    }
}

static int listen_all(struct relay *relay)
{
    for (size_t i = 0; i < relay->route_count; i++) {
        struct route *route = &relay->routes[i];

        route->relay = relay;
        route->watch.ready = conn_accept;
        route->watch.fd = address_listen(&route->listen, relay_buffer(relay));
        if (route->watch.fd < 0) {
            fprintf(stderr, "drafter-relay: %s: %s\n", route->listen.text,
                    strerror(-route->watch.fd));
            return -1;
        }
        relay_watch(relay, &route->watch, EPOLLIN | EPOLLET);
    }
    return 0;
}

static void announce(const struct relay *relay, int fd)
{
    for (size_t i = 0; i < relay->route_count; i++)
        dprintf(fd, "listening on %s\n", relay->routes[i].listen.text);
    if (fd != STDOUT_FILENO)
        close(fd);
}

static void relay_release(struct relay *relay)
{
    struct conn *conn;

    TAILQ_FOREACH(conn, &relay->conns, next)
    conn_reset(conn);
    conn_reap(relay);
    fault_release(relay);
    control_release(relay);
    for (size_t i = 0; i < relay->route_count; i++) {
        const struct address *listen = &relay->routes[i].listen;

        close(relay->routes[i].watch.fd);
        if (listen->sa.ss_family == AF_UNIX)
            unlink(listen->text + strlen("unix:"));
    }
    close(relay->signals.fd);
    close(relay->epoll);
}

int main(int argc, char **argv)
{
    struct options options = {.ready_fd = STDOUT_FILENO};
    static struct relay relay;
    int r;

    relay_init(&relay);
    parse_options(&relay, argc, argv, &options);
    prctl(PR_SET_TIMERSLACK, 1);
    setpriority(PRIO_PROCESS, 0,
                -10); /* a link does not get slower when hosts are busy; may fail */
    if (relay.epoll < 0 || watch_signals(&relay) < 0 || listen_all(&relay) < 0)
        return 1;
    r = options.control ? control_listen(&relay, options.control) : 0;
    if (r < 0) {
        fprintf(stderr, "drafter-relay: %s: %s\n", options.control, strerror(-r));
        return 1;
    }
    for (int i = 0; i < options.fault_count; i++)
        add_fault(&relay, options.faults[i]);
    announce(&relay, options.ready_fd);
    run(&relay);
    if (options.stats)
        control_stats(&relay, stdout);
    relay_release(&relay);
    if (options.control)
        unlink(strncmp(options.control, "unix:", 5) == 0 ? options.control + 5 : options.control);
    return 0;
}
