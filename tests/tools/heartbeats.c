/* SPDX-License-Identifier: BSD-2-Clause */
/* drafter-heartbeats: options and the loop. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* ppoll */
#endif
#include "heartbeats.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "Usage: drafter-heartbeats --source NAME=ADDR [--source NAME=ADDR]... [OPTION]...\n"
    "Stamps the heartbeats of a guest as they arrive and reports its blackouts as JSON.\n\n"
    "ADDR: connect:PATH (QEMU -serial unix:PATH,server=on,wait=off), listen:PATH, file:PATH (or a "
    "FIFO)\n"
    "  --until-switches N  end when the guest has changed hosts N times\n"
    "  --settle MS         and so long after that (1300; the speed is taken over 1 s)\n"
    "  --until-beats N     end after N beats\n"
    "  --timeout S         end after S seconds in any case (60), with status 3 if an --until was "
    "not reached\n"
    "  --strict            status 4 if beats are repeated, memory went back or is bad, or two "
    "hosts ran the guest\n"
    "  --events FD         one line at once for: beat NAME SEQ, ready NAME, switch FROM TO MS, bad "
    "NAME TEXT,\n"
    "                      other NAME LINE\n"
    "  --log FILE          every beat: ns NAME seq sweeps tsc\n"
    "SIGTERM and SIGINT end it with a report.\n";

#define LINE_NS (200 * 1000)

static volatile sig_atomic_t stopped;

int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void stop(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = stop};

    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* A stamp is worth what the processor's promptness is worth. Needs privilege; without it the load
 * had better be low. */
static void be_prompt(void)
{
    struct sched_param param = {.sched_priority = 1};

    prctl(PR_SET_TIMERSLACK, 1);
    if (sched_setscheduler(0, SCHED_FIFO, &param) < 0)
        setpriority(PRIO_PROCESS, 0, -10);
}

static bool reached(const struct record *record, const struct wanted *wanted, int64_t now)
{
    if (wanted->switches && record->switches >= wanted->switches &&
        now - record->last_switch >= wanted->settle)
        return true;
    return wanted->beats && record->count >= wanted->beats;
}

/* Regular files and sockets that are not there yet have to be looked at; all else wakes us. */
static int64_t open_missing(struct record *record)
{
    int64_t wait = 50 * NS_PER_MS;

    for (unsigned i = 0; i < record->source_count; i++) {
        struct source *source = &record->sources[i];
        int r = source->fd < 0 && source->listener < 0 ? source_open(source) : 0;

        if (r < 0 && r != -EAGAIN) {
            fprintf(stderr, "drafter-heartbeats: %s: %s\n", source->path, strerror(-r));
            exit(1);
        }
        if (r < 0)
            wait = wait < 2 * NS_PER_MS ? wait : 2 * NS_PER_MS;
        else if (source->regular)
            wait = NS_PER_MS / 2;
    }
    return wait;
}

/*
 * A serial port delivers byte by byte. The stamp is that of the first byte; the rest of the line is
 * given time to come, for thirty wake-ups a line would slow down the guest that is being measured.
 */
static void wait_and_read(struct record *record)
{
    const struct timespec line = {.tv_nsec = LINE_NS};
    struct pollfd fds[SOURCES_MAX];
    struct timespec timeout = {.tv_nsec = open_missing(record)};
    int64_t now;

    for (unsigned i = 0; i < record->source_count; i++) {
        const struct source *source = &record->sources[i];
        int fd = source->regular ? -1 : source->fd >= 0 ? source->fd : source->listener;

        fds[i] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    if (ppoll(fds, record->source_count, &timeout, NULL) < 0)
        return;
    now = now_ns();
    nanosleep(&line, NULL);
    for (unsigned i = 0; i < record->source_count; i++)
        if (fds[i].revents || record->sources[i].regular)
            source_read(record, i, now);
}

static FILE *open_log(const char *path)
{
    FILE *log = fopen(path, "we");

    if (!log) {
        perror(path);
        exit(1);
    }
    setvbuf(log, NULL, _IOLBF, 0); /* tests follow it */
    return log;
}

static int64_t number(const char *text, int64_t unit)
{
    char *end;
    double value = strtod(text, &end);

    if (end == text || *end || !(value >= 0 && value < 1e9)) {
        fprintf(stderr, "drafter-heartbeats: not a number: %s\n", text);
        exit(2);
    }
    return (int64_t)(value * (double)unit);
}

static void add_source(struct record *record, const char *text)
{
    if (record->source_count < SOURCES_MAX &&
        source_parse(text, &record->sources[record->source_count]) == 0) {
        record->source_count++;
        return;
    }
    fprintf(stderr,
            "drafter-heartbeats: --source: NAME=connect:PATH, listen:PATH or file:PATH, not %s\n",
            text);
    exit(2);
}

static void parse_options(struct record *record, struct wanted *wanted, int argc, char **argv)
{
    static const struct option table[] = {
        {"source", 1, NULL, 's'},  {"until-switches", 1, NULL, 'n'},
        {"settle", 1, NULL, 'e'},  {"until-beats", 1, NULL, 'b'},
        {"timeout", 1, NULL, 't'}, {"strict", 0, NULL, 'S'},
        {"events", 1, NULL, 'v'},  {"log", 1, NULL, 'l'},
        {"help", 0, NULL, 'h'},    {0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        if (option == 's')
            add_source(record, optarg);
        else if (option == 'n')
            wanted->switches = (unsigned)number(optarg, 1);
        else if (option == 'e')
            wanted->settle = number(optarg, NS_PER_MS);
        else if (option == 'b')
            wanted->beats = (uint64_t)number(optarg, 1);
        else if (option == 't')
            wanted->timeout = number(optarg, NS_PER_S);
        else if (option == 'S')
            wanted->strict = true;
        else if (option == 'v')
            record->events = fdopen((int)number(optarg, 1), "we");
        else if (option == 'l')
            record->log = open_log(optarg);
        else {
            fputs(usage, option == 'h' ? stdout : stderr);
            exit(option == 'h' ? 0 : 2);
        }
    }
    if (record->source_count == 0 || optind < argc) {
        fprintf(stderr, "drafter-heartbeats: --source is needed; see --help\n");
        exit(2);
    }
}

static void release(struct record *record)
{
    for (unsigned i = 0; i < record->source_count; i++)
        source_release(&record->sources[i]);
    free(record->beats);
    if (record->log)
        fclose(record->log);
}

int main(int argc, char **argv)
{
    static struct record record;
    struct wanted wanted = {.settle = 1300LL * NS_PER_MS, .timeout = 60LL * NS_PER_S};
    int64_t end;
    bool timed_out, intact, done;

    parse_options(&record, &wanted, argc, argv);
    catch_signals();
    be_prompt();
    end = now_ns() + wanted.timeout;
    while (!(done = reached(&record, &wanted, now_ns())) && !stopped && now_ns() < end)
        wait_and_read(&record);
    timed_out = !done && !stopped && (wanted.switches || wanted.beats);
    intact = report_write(&record, timed_out, stdout);
    release(&record);
    if (wanted.strict && !intact)
        return 4;
    return timed_out ? 3 : 0;
}
