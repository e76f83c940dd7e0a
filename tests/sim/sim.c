/* SPDX-License-Identifier: BSD-2-Clause */
/* Plays many seeds, in as many processes as there are processors; explains the first that fails. */
#include "fiber.h"
#include "sim.h"

#include <getopt.h>
#include <jansson.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX 64

/* Exit statuses beside 0. */
enum { FAILED = 1, USAGE = 2, UNCOVERED = 3 };

struct options {
    uint64_t first, seeds, seconds;
    unsigned jobs;
    bool verbose, coverage, expect;
};

/* Between the processes. */
struct shared {
    uint64_t next, played;
    uint64_t failed_seed;
    bool failed;
    uint64_t playing[JOBS_MAX];
    struct sim_outcomes totals;
    uint32_t coverage[FAULT_COUNT][FAULT_STEPS_MAX];
};
static struct shared *shared;

int __real_clock_gettime(clockid_t clock, struct timespec *ret_time);
void __wrap_free(void *memory);
void __wrap_drafter_log(enum drafter_log_level level, const char *subject, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void __wrap_log_event(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

void __wrap_drafter_log(enum drafter_log_level level, const char *subject, const char *format, ...)
{
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    char message[512];
    va_list arguments;

    if (!sim.traced)
        return;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    sim_trace("node %d logs %s: %s: %s", fiber_node(), levels[level], subject, message);
}

void __wrap_log_event(const char *name, const char *format, ...)
{
    (void)name, (void)format;
}

static int usage(void)
{
    fprintf(stderr,
            "Usage: sim [--seeds N] [--seed S] [--seconds T] [--jobs J] [--verbose] [--coverage]\n"
            "           [--plant NAME [--expect-violation]] [--list-plants]\n"
            "\n"
            "Plays N seeds (default 1000) from S (default 1) on, or as many as T seconds allow.\n"
            "Exit status: 1 when an invariant was violated, 3 when with --coverage a pair of step\n"
            "and fault was never hit.  --expect-violation turns 0 and 1 around.\n");
    return USAGE;
}

static bool number(const char *text, uint64_t *ret_number)
{
    char *end;

    errno = 0;
    *ret_number = strtoull(text, &end, 10);
    return !errno && *text && !*end;
}

static int parse(int argc, char **argv, struct options *options)
{
    static const struct option longs[] = {
        {"seeds", required_argument, NULL, 'n'}, {"seed", required_argument, NULL, 's'},
        {"seconds", required_argument, NULL, 't'}, {"jobs", required_argument, NULL, 'j'},
        {"verbose", no_argument, NULL, 'v'}, {"coverage", no_argument, NULL, 'c'},
        {"plant", required_argument, NULL, 'p'}, {"expect-violation", no_argument, NULL, 'e'},
        {"list-plants", no_argument, NULL, 'l'}, {0}};
    uint64_t jobs = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
    bool seeds = false, single = false, good = true;
    int option;

    *options = (struct options){.first = 1, .seeds = 1000};
    while (good && (option = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
        if (option == 'n')
            good = seeds = number(optarg, &options->seeds);
        else if (option == 's')
            good = single = number(optarg, &options->first);
        else if (option == 't')
            good = number(optarg, &options->seconds);
        else if (option == 'j')
            good = number(optarg, &jobs) && jobs;
        else if (option == 'p')
            good = plant_exists(plant_name = optarg);
        else if (option == 'v' || option == 'c' || option == 'e')
            *(option == 'v' ? &options->verbose : option == 'c' ? &options->coverage : &options->expect) =
                true;
        else if (option == 'l')
            plant_list();
        good &= option != '?' && option != 'l';
    }
    if (single && !seeds)
        options->seeds = 1;
    if (options->seconds && !seeds)
        options->seeds = UINT64_MAX / 2;
    options->jobs = jobs < JOBS_MAX ? (unsigned)jobs : JOBS_MAX;
    return good && optind == argc ? 0 : option == 'l' ? 1 : usage();
}

/* Of the machine, not of the world. */
static double real_now(void)
{
    struct timespec now;

    __real_clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void note_failure(uint64_t seed)
{
    if (!__atomic_exchange_n(&shared->failed, true, __ATOMIC_SEQ_CST))
        __atomic_store_n(&shared->failed_seed, seed, __ATOMIC_SEQ_CST);
}

static void play_some(const struct options *options, unsigned job, double deadline)
{
    for (;;) {
        uint64_t index = __atomic_fetch_add(&shared->next, 1, __ATOMIC_RELAXED);

        if (index >= options->seeds || __atomic_load_n(&shared->failed, __ATOMIC_RELAXED) ||
            real_now() >= deadline)
            return;
        shared->playing[job] = options->first + index;
        if (!sim_play(options->first + index, false))
            note_failure(options->first + index);
        shared->playing[job] = 0;
        __atomic_fetch_add(&shared->played, 1, __ATOMIC_RELAXED);
    }
}

static void set_up(void)
{
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        sim_die("no memory");
    fault_coverage = shared->coverage;
    sim_totals = &shared->totals;
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    json_set_alloc_funcs(memory_for_json, __wrap_free);
    json_object_seed(1);
    fiber_setup();
}

/* A process that dies has found something, too. */
static void await_jobs(const struct options *options)
{
    for (unsigned i = 0; i < options->jobs; i++) {
        int status;

        if (wait(&status) < 0 || (WIFEXITED(status) && !WEXITSTATUS(status)))
            continue;
        for (unsigned job = 0; job < options->jobs; job++)
            if (shared->playing[job] && !shared->failed)
                note_failure(shared->playing[job]);
    }
}

static void play_all(const struct options *options)
{
    double deadline = options->seconds ? real_now() + (double)options->seconds : 1e300;

    if (options->verbose && options->seeds == 1) {
        shared->played = 1;
        if (!sim_play(options->first, true))
            note_failure(options->first);
        return;
    }
    fflush(stdout);
    for (unsigned job = 0; job < options->jobs; job++) {
        if (fork())
            continue;
        play_some(options, job, deadline);
        _exit(0);
    }
    await_jobs(options);
}

static void summarize(double seconds)
{
    const struct sim_outcomes *totals = &shared->totals;

    printf("%llu seeds in %.1f s (%.0f a minute): %.1f days of simulated time, %.1f million turns, "
           "%.1f million guest operations\n",
           (unsigned long long)shared->played, seconds, (double)shared->played * 60 / seconds,
           (double)totals->simulated_ns / 86400e9, (double)totals->events / 1e6,
           (double)totals->guest_operations / 1e6);
    printf("sessions: %llu moved, %llu kept by the source, %llu given up by it after the hand-over, "
           "%llu ended in part; %llu links were found again before the hand-over; at the end of %llu "
           "seeds the guest runs nowhere, for a reason\n",
           (unsigned long long)totals->moved, (unsigned long long)totals->kept,
           (unsigned long long)totals->lost, (unsigned long long)totals->partial,
           (unsigned long long)totals->parted, (unsigned long long)totals->stranded);
}

/* The same seed once more, in a process of its own: it may crash. */
static void explain(const struct options *options)
{
    uint64_t seed = shared->failed_seed;
    pid_t child;
    int status;

    printf("seed %llu fails; its trace:\n", (unsigned long long)seed);
    fflush(stdout);
    child = fork();
    if (!child) {
        setvbuf(stdout, NULL, _IOLBF, 0); /* for a crash */
        bool good = sim_play(seed, !options->expect || options->verbose);

        printf("seed %llu: %s: %s\n", (unsigned long long)seed,
               good ? "does not fail again" : sim.invariant, good ? "the run is not a function of its "
               "seed" : sim.message);
        fflush(stdout);
        _exit(0);
    }
    if (waitpid(child, &status, 0) == child && WIFSIGNALED(status))
        printf("seed %llu: ended by signal %d (%s)\n", (unsigned long long)seed, WTERMSIG(status),
               strsignal(WTERMSIG(status)));
    printf("again: sim --verbose --seed %llu%s%s\n", (unsigned long long)seed,
           plant_name ? " --plant " : "", plant_name ? plant_name : "");
}

static int report_coverage(void)
{
    unsigned missing = fault_missing();

    fault_print_coverage(true);
    printf("%u of %u pairs of step and fault were hit\n", fault_pairs() - missing, fault_pairs());
    return missing ? UNCOVERED : 0;
}

int main(int argc, char **argv)
{
    struct options options;
    double began;
    int rc = parse(argc, argv, &options);

    if (rc)
        return rc == USAGE ? USAGE : 0;
    set_up();
    began = real_now();
    play_all(&options);
    summarize(real_now() - began);
    if (shared->failed && !(options.verbose && options.seeds == 1))
        explain(&options);
    if (options.expect) {
        printf(shared->failed ? "%s was found\n" : "%s was NOT found\n", plant_name);
        return shared->failed ? 0 : FAILED;
    }
    if (shared->failed)
        return FAILED;
    return options.coverage ? report_coverage() : 0;
}
