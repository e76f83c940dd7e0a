/* SPDX-License-Identifier: BSD-2-Clause */
#include "role/supervise.h"

#include "util/log.h"

#include <poll.h>
#include <signal.h>
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
}

void supervisor_notify(struct supervisor *supervisor)
{
    const uint64_t one = 1;

    if (write(supervisor->news, &one, sizeof(one)) < 0)
        log_debug("supervise", "news are waiting already");
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
