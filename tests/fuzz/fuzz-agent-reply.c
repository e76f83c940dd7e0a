/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest says to the host.  The clock is wrapped (see Makefile.am), so that the call that is
 * answered always has the id 1.
 */
#include "vm/agent.h"

#include <assert.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define REPLY_MAX (100u << 10) /* what a socket takes without a reader */

uint64_t __wrap_drafter_now_ns(void);

uint64_t __wrap_drafter_now_ns(void)
{
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct drafter_error err = {0};
    int pair[2], rc;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return 0;
    fcntl(pair[1], F_SETFL, O_NONBLOCK);
    while (size && size <= REPLY_MAX) {
        ssize_t written = write(pair[1], data, size);

        if (written <= 0)
            break;
        data += written;
        size -= (size_t)written;
    }
    shutdown(pair[1], SHUT_WR);
    rc = agent_call(pair[0], "BeforeSuspend", NULL, 1000, &err);
    assert((rc < 0) == (err.code != 0));
    liveness_wait(pair[0], 1000, &err);
    close(pair[0]);
    close(pair[1]);
    return 0;
}
