/* SPDX-License-Identifier: BSD-2-Clause */
#include "guest.h"
#include "util/cleanup.h"
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define TICK_NS 1000000u
#define SECOND_NS UINT64_C(1000000000)
#define SCAN_PAGES 64 /* per tick */

/* What one stretch of running keeps: a pause is not made up for. */
struct stretch {
    uint64_t since, next_beat;
    uint64_t done[GUEST_FILES_MAX];
};

static void print_line(const struct guest *guest, const char *line, int length)
{
    if (guest->serial >= 0 && write(guest->serial, line, (size_t)length) < 0)
        return; /* a lost heartbeat is what the reader looks for */
}

static void beat(struct guest *guest, uint64_t now)
{
    char line[96];

    guest->beats++;
    print_line(guest, line,
               snprintf(line, sizeof(line), "HB %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                        guest->beats, guest->files[0].steps, now));
}

static int work(struct guest *guest, struct stretch *stretch, uint64_t now,
                struct drafter_error *err)
{
    for (size_t i = 0; i < guest->file_count; i++) {
        double due = (double)guest->rates[i] * (double)(now - stretch->since) / (double)SECOND_NS;
        uint64_t limit = guest->rates[i] / 100 + 1; /* stay responsive to a pause */
        int result = 0;

        for (; limit && (double)stretch->done[i] < due && result == 0; limit--) {
            result = oracle_step(&guest->files[i], err);
            stretch->done[i]++;
        }
        if (result == 0 && guest->scan)
            result = oracle_scan(&guest->files[i], SCAN_PAGES, err);
        if (result < 0)
            return result;
    }
    if (guest->heartbeat_ns && now >= stretch->next_beat) {
        beat(guest, now);
        stretch->next_beat = now + guest->heartbeat_ns;
    }
    return 0;
}

static void fail(struct guest *guest, const struct drafter_error *reason)
{
    char line[DRAFTER_ERROR_MAX + 8];

    print_line(guest, line, snprintf(line, sizeof(line), "BAD %s\n", reason->message));
    drafter_log(DRAFTER_LOG_ERROR, "null vmm", "the guest stopped: %s", reason->message);
    pthread_mutex_lock(&guest->lock);
    guest->fault = *reason;
    guest->wanted = false;
    pthread_mutex_unlock(&guest->lock);
}

/* Sleeps a tick, or less when something changes. */
static bool tick(struct guest *guest)
{
    struct timespec until;
    bool goes_on;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += TICK_NS;
    if (until.tv_nsec >= (long)SECOND_NS) {
        until.tv_nsec -= (long)SECOND_NS;
        until.tv_sec++;
    }
    pthread_mutex_lock(&guest->lock);
    if (guest->wanted && !guest->quit)
        pthread_cond_timedwait(&guest->changed, &guest->lock, &until);
    goes_on = guest->wanted && !guest->quit;
    pthread_mutex_unlock(&guest->lock);
    return goes_on;
}

static void run_stretch(struct guest *guest)
{
    struct stretch stretch = {.since = drafter_now_ns()};
    struct drafter_error reason = {0};

    do {
        if (work(guest, &stretch, drafter_now_ns(), &reason) < 0) {
            fail(guest, &reason);
            return;
        }
    } while (tick(guest));
}

static void *guest_main(void *opaque)
{
    struct guest *guest = opaque;

    pthread_mutex_lock(&guest->lock);
    while (!guest->quit) {
        if (guest->wanted && guest->fault.code == 0) {
            guest->runs = true;
            pthread_cond_broadcast(&guest->changed);
            pthread_mutex_unlock(&guest->lock);
            run_stretch(guest);
            pthread_mutex_lock(&guest->lock);
            guest->runs = false;
            pthread_cond_broadcast(&guest->changed);
        } else {
            pthread_cond_wait(&guest->changed, &guest->lock);
        }
    }
    pthread_mutex_unlock(&guest->lock);
    return NULL;
}

int guest_start(struct guest *guest, struct drafter_error *err)
{
    pthread_condattr_t attributes;
    int code;

    pthread_mutex_init(&guest->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&guest->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    code = pthread_create(&guest->thread, NULL, guest_main, guest);
    if (code)
        return drafter_error_errno(err, code, "cannot start the guest's thread");
    guest->started = true;
    return 0;
}

void guest_run(struct guest *guest)
{
    lock_scope(&guest->lock);
    guest->wanted = true;
    pthread_cond_broadcast(&guest->changed);
    while (!guest->runs && guest->wanted && guest->fault.code == 0)
        pthread_cond_wait(&guest->changed, &guest->lock);
}

void guest_halt(struct guest *guest)
{
    lock_scope(&guest->lock);
    guest->wanted = false;
    pthread_cond_broadcast(&guest->changed);
    while (guest->runs)
        pthread_cond_wait(&guest->changed, &guest->lock);
}

int guest_check(struct guest *guest, struct drafter_error *err)
{
    lock_scope(&guest->lock);
    if (guest->fault.code == 0)
        return 0;
    return drafter_error_set(err, guest->fault.code, "%s", guest->fault.message);
}

void guest_stop(struct guest *guest)
{
    if (!guest->started)
        return;
    pthread_mutex_lock(&guest->lock);
    guest->quit = true;
    guest->wanted = false;
    pthread_cond_broadcast(&guest->changed);
    pthread_mutex_unlock(&guest->lock);
    pthread_join(guest->thread, NULL);
    pthread_cond_destroy(&guest->changed);
    pthread_mutex_destroy(&guest->lock);
    guest->started = false;
}
