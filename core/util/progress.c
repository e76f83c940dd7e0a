/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/progress.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

const char *const progress_forms[] = {"auto", "tty", "plain", "json", "none", NULL};

void progress_begin(struct progress *progress, enum progress_form form, const char *what,
                    uint64_t total)
{
    sigset_t set;

    if (form == PROGRESS_AUTO)
        form = isatty(STDERR_FILENO) ? PROGRESS_TTY : PROGRESS_NONE;
    *progress = (struct progress){.form = form, .what = what, .total = total};
    progress->started_ns = progress->shown_ns = drafter_now_ns();
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    progress->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void show_text(struct progress *progress, double rate, uint64_t eta, bool rewrite)
{
    double percent = progress->total ? 100.0 * (double)progress->done / (double)progress->total : 100;

    fprintf(stderr, "%s%s: %.1f of %.1f MiB (%.0f %%), %.1f MiB/s, %llu:%02llu left%s",
            rewrite ? "\r" : progress->open_line ? "\n" : "", progress->what,
            (double)progress->done / 1048576, (double)progress->total / 1048576, percent,
            rate / 1048576, (unsigned long long)eta / 60, (unsigned long long)eta % 60,
            rewrite ? "\033[K" : "\n");
    progress->open_line = rewrite;
}

static void show(struct progress *progress, uint64_t now, enum progress_form form)
{
    double seconds = (double)(now - progress->started_ns) / 1e9;
    double rate = seconds > 0 ? (double)progress->done / seconds : 0;
    uint64_t left = progress->total > progress->done ? progress->total - progress->done : 0;
    uint64_t eta = rate > 0 ? (uint64_t)((double)left / rate + 0.5) : 0;

    progress->shown_ns = now;
    if (form == PROGRESS_JSON)
        fprintf(stderr,
                "{\"event\":\"progress\",\"what\":\"%s\",\"done\":%llu,\"total\":%llu,"
                "\"bytes_per_second\":%.0f,\"eta_seconds\":%llu}\n",
                progress->what, (unsigned long long)progress->done,
                (unsigned long long)progress->total, rate, (unsigned long long)eta);
    else
        show_text(progress, rate, eta, form == PROGRESS_TTY);
    fflush(stderr);
}

static bool is_asked(const struct progress *progress)
{
    struct signalfd_siginfo info;

    return progress->signals >= 0 && read(progress->signals, &info, sizeof(info)) == sizeof(info);
}

void progress_advance(struct progress *progress, uint64_t bytes)
{
    uint64_t now = drafter_now_ns();
    uint64_t interval = progress->form == PROGRESS_TTY ? SECOND / 10 : SECOND;

    progress->done += bytes;
    if (is_asked(progress))
        show(progress, now, progress->form == PROGRESS_JSON ? PROGRESS_JSON : PROGRESS_PLAIN);
    else if (progress->form != PROGRESS_NONE && now - progress->shown_ns >= interval)
        show(progress, now, progress->form);
}

void progress_end(struct progress *progress, bool complete)
{
    if (complete && progress->form != PROGRESS_NONE)
        show(progress, drafter_now_ns(), progress->form);
    if (progress->open_line)
        fputc('\n', stderr);
    if (progress->signals >= 0)
        close(progress->signals);
}
