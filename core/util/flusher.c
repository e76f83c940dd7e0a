/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/flusher.h"

#include "util/log.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

void flusher_setup(void)
{
    /* prctl(2): for FUSE daemons and the like; needs CAP_SYS_RESOURCE. */
    if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
        log_debug("flusher", "PR_SET_IO_FLUSHER: %s", strerror(errno));
    /* Under a limit of locked memory, MCL_FUTURE would make later allocations fail. */
    if (geteuid() == 0 && mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT))
        log_debug("flusher", "mlockall: %s", strerror(errno));
}
