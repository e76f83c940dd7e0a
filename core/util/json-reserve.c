/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Jansson 2.14 writes beyond its buffer when the memory for a string that it reads cannot grow at the string's end: it
 * ignores that a byte was not kept, and copies up to a quote that is not there.  So what it asks for is not refused:
 * a reserve that lies in the program steps in, which holds what the largest of our texts may take.
 */
#include "util/json.h"

#include <pthread.h>
#include <stdint.h>

#define RESERVE ((size_t)4 << 20)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Alignas(16) char reserve[RESERVE];
static size_t used, living; /* bytes given out, and pieces of them that are in use */

static void *take_reserve(size_t size)
{
    void *piece = NULL;

    pthread_mutex_lock(&lock);
    if (size <= RESERVE - used) {
        piece = reserve + used;
        used += (size + 15) & ~(size_t)15;
        living++;
    }
    pthread_mutex_unlock(&lock);
    return piece;
}

static void *json_allocate(size_t size)
{
    void *piece = malloc(size);

    return piece ? piece : take_reserve(size);
}

static void json_release(void *piece)
{
    if ((uintptr_t)piece - (uintptr_t)reserve >= RESERVE) {
        free(piece);
        return;
    }
    pthread_mutex_lock(&lock);
    if (!--living)
        used = 0;
    pthread_mutex_unlock(&lock);
}

void json_use_reserve(void)
{
    json_set_alloc_funcs(json_allocate, json_release);
}
