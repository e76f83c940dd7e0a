/* SPDX-License-Identifier: BSD-2-Clause */
#include "util/repeat.h"

#include <stdio.h>
#include <string.h>

#define MINUTE UINT64_C(60000000000)

bool repeat_tell(struct repeat *repeat, const char *message, uint64_t now, unsigned *ret_more)
{
    bool same, tell;

    pthread_mutex_lock(&repeat->lock);
    same = !strncmp(repeat->message, message, sizeof(repeat->message) - 1);
    tell = !same || now - repeat->told >= MINUTE;
    *ret_more = same ? repeat->more : 0;
    if (tell) {
        repeat->told = now;
        snprintf(repeat->message, sizeof(repeat->message), "%s", message);
    }
    repeat->more = tell ? 0 : repeat->more + 1;
    pthread_mutex_unlock(&repeat->lock);
    return tell;
}
