/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scope-bound release of memory, descriptors and locks.  Hand ownership over with steal().
 */
#ifndef UTIL_CLEANUP_H
#define UTIL_CLEANUP_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_(void *pointer)
{
    free(*(void **)pointer);
}

static inline void cleanup_close_(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void cleanup_fclose_(FILE **file)
{
    if (*file)
        fclose(*file);
}

static inline pthread_mutex_t *cleanup_locked_(pthread_mutex_t *mutex)
{
    pthread_mutex_lock(mutex);
    return mutex;
}

static inline void cleanup_unlock_(pthread_mutex_t **mutex)
{
    pthread_mutex_unlock(*mutex);
}

#define cleanup_free __attribute__((cleanup(cleanup_free_)))
#define cleanup_close __attribute__((cleanup(cleanup_close_)))
#define cleanup_fclose __attribute__((cleanup(cleanup_fclose_)))

/* Holds `mutex` to the end of the enclosing block. */
#define lock_scope(mutex)                                                                          \
    __attribute__((cleanup(cleanup_unlock_), unused)) pthread_mutex_t *locked_scope_ =             \
        cleanup_locked_(mutex)

/* The pointer's value, leaving NULL behind. */
#define steal(pointer)                                                                             \
    __extension__({                                                                                \
        __auto_type stolen_ = *(pointer);                                                          \
        *(pointer) = NULL;                                                                         \
        stolen_;                                                                                   \
    })

static inline int steal_fd(int *fd)
{
    int stolen = *fd;

    *fd = -1;
    return stolen;
}

#endif
