/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/supervise.h"

#include "util/log.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

int supervisor_init(struct supervisor *supervisor, struct drafter_error *err)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    supervisor->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    supervisor->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    supervisor->process = -1;
    supervisor->telling = false;
    if (supervisor->signals < 0 || supervisor->news < 0)
        return drafter_error_errno(err, errno, "cannot watch for signals");
    return 0;
}

void supervisor_release(struct supervisor *supervisor)
{
    close(supervisor->signals);
    close(supervisor->news);
    if (supervisor->process >= 0)
        close(supervisor->process);
}

void supervisor_watch(struct supervisor *supervisor, pid_t pid)
{
    if (supervisor->process >= 0)
        close(supervisor->process);
    supervisor->process = pid > 0 ? pidfd_open(pid, 0) : -1;
    if (pid < 0 || (pid > 0 && supervisor->process < 0 && errno == ESRCH))
        supervisor->process = eventfd(1, EFD_CLOEXEC); /* as a process that has ended: readable */
}

void supervisor_notify(struct supervisor *supervisor)
{
    const uint64_t one = 1;

    while (write(supervisor->news, &one, sizeof(one)) < 0 && errno == EINTR)
        ; /* else news are waiting already */
}

static void *tell(void *opaque)
{
    struct supervisor *supervisor = opaque;
    struct pollfd pollers[2] = {
        {.fd = supervisor->told, .events = POLLIN},
        {.fd = supervisor->signals, .events = POLLIN},
    };
    struct signalfd_siginfo signal_info;

    for (;;) {
        if (poll(pollers, 2, -1) < 0)
            continue; /* EINTR: nothing else can fail */
        if (pollers[0].revents)
            return NULL;
        if (read(supervisor->signals, &signal_info, sizeof(signal_info)) == sizeof(signal_info))
            log_warning("drafter",
                        "%s: ending already: %s: %s, for %.1f s now; this ends by itself, to break "
                        "it off could lose the VM",
                        signal_info.ssi_signo == SIGINT    ? "SIGINT"
                        : signal_info.ssi_signo == SIGTERM ? "SIGTERM"
                                                           : "SIGUSR2",
                        supervisor->subject, atomic_load(&supervisor->doing),
                        (double)(drafter_now_ns() - supervisor->since_ns) / 1e9);
    }
}

void supervisor_busy(struct supervisor *supervisor, const char *subject, const char *doing)
{
    atomic_store(&supervisor->doing, doing);
    if (supervisor->telling)
        return;
    supervisor->subject = subject;
    supervisor->since_ns = drafter_now_ns();
    supervisor->told = eventfd(0, EFD_CLOEXEC);
    if (supervisor->told < 0)
        return; /* it only tells */
    supervisor->telling = !pthread_create(&supervisor->teller, NULL, tell, supervisor);
    if (!supervisor->telling)
        close(supervisor->told);
}

void supervisor_done(struct supervisor *supervisor)
{
    const uint64_t one = 1;

    if (!supervisor->telling)
        return;
    if (write(supervisor->told, &one, sizeof(one)) != sizeof(one))
        log_debug("supervise", "the teller was told before");
    pthread_join(supervisor->teller, NULL);
    close(supervisor->told);
    supervisor->telling = false;
}

enum wakeup supervisor_wait(struct supervisor *supervisor, int timeout_ms)
{
    struct pollfd pollers[3] = {
        {.fd = supervisor->signals, .events = POLLIN},
        {.fd = supervisor->process, .events = POLLIN},
        {.fd = supervisor->news, .events = POLLIN},
    };
    struct signalfd_siginfo signal_info;
    uint64_t count;

    while (poll(pollers, 3, timeout_ms) < 0 && errno == EINTR)
        ;
    if (pollers[0].revents) {
        if (read(supervisor->signals, &signal_info, sizeof(signal_info)) != sizeof(signal_info))
            return WAKEUP_NEWS;
        if (signal_info.ssi_signo == SIGUSR2)
            return WAKEUP_REEXEC;
        log_info("drafter", "%s: ending",
                 signal_info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
        return WAKEUP_SIGNAL;
    }
    if (pollers[2].revents) {
        if (read(supervisor->news, &count, sizeof(count)) < 0)
            log_debug("supervise", "no news after all");
        return WAKEUP_NEWS;
    }
    if (pollers[1].revents)
        return WAKEUP_PROCESS;
    return WAKEUP_TIMEOUT;
}
