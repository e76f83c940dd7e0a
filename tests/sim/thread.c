/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads, locks, clocks and randomness of the code under test: the linker sends its calls here
 * (--wrap, see Makefile.am).  A lock is zeros when it is free, so that initialisers work, and lives in
 * the memory of the one it stands for.
 */
#include "fiber.h"
#include "sim.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

struct lock {
    struct fiber *owner;
    unsigned readers;
};
_Static_assert(sizeof(struct lock) <= sizeof(pthread_mutex_t), "a lock fits a mutex");
_Static_assert(sizeof(struct lock) <= sizeof(pthread_rwlock_t), "a lock fits a lock");

/* Declared here, as nothing but the linker calls them. */
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *opaque);
int __wrap_pthread_join(pthread_t thread, void **ret_result);
int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes);
int __wrap_pthread_cond_destroy(pthread_cond_t *condition);
int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *deadline);
int __wrap_pthread_cond_broadcast(pthread_cond_t *condition);
int __wrap_pthread_cond_signal(pthread_cond_t *condition);
int __wrap_pthread_rwlock_init(pthread_rwlock_t *lock, const pthread_rwlockattr_t *attributes);
int __wrap_pthread_rwlock_destroy(pthread_rwlock_t *lock);
int __wrap_pthread_rwlock_rdlock(pthread_rwlock_t *lock);
int __wrap_pthread_rwlock_wrlock(pthread_rwlock_t *lock);
int __wrap_pthread_rwlock_unlock(pthread_rwlock_t *lock);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_nanosleep(const struct timespec *time, struct timespec *ret_left);
time_t __wrap_time(time_t *ret_time);
void __wrap_randombytes_buf(void *buffer, size_t size);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *opaque)
{
    int detached = PTHREAD_CREATE_JOINABLE;
    struct fiber *fiber;

    if (fault_takes(fiber_node(), FAULT_RESOURCES, "a thread"))
        return EAGAIN;
    if (attributes)
        pthread_attr_getdetachstate(attributes, &detached);
    fiber = fiber_start(fiber_node(), "thread", detached == PTHREAD_CREATE_DETACHED, run, opaque);
    *thread = fiber_number(fiber);
    fiber_maybe_yield();
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **ret_result)
{
    void *result = fiber_join(fiber_by_number((unsigned)thread));

    if (ret_result)
        *ret_result = result;
    return 0;
}

static int clear(void *object)
{
    memset(object, 0, sizeof(struct lock));
    return 0;
}

/* Outside of fibers (a world is being set up) nobody else runs. */
static int acquire(struct lock *lock)
{
    if (!fiber_self())
        return 0;
    fiber_maybe_yield();
    while (lock->owner || lock->readers)
        fiber_wait(lock, FIBER_NEVER);
    lock->owner = fiber_self();
    return 0;
}

static int release(struct lock *lock)
{
    if (!fiber_self())
        return 0;
    if (lock->owner == fiber_self())
        lock->owner = NULL;
    else if (lock->readers)
        lock->readers--;
    else
        sim_fail("locks", "a thread unlocks what it did not lock");
    fiber_wake(lock);
    return 0;
}

int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    (void)attributes;
    return clear(mutex);
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    if (((struct lock *)mutex)->owner)
        sim_fail("locks", "a lock is destroyed while a thread has it");
    return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    return acquire((struct lock *)mutex);
}

int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex)
{
    const struct lock *lock = (const struct lock *)mutex;

    return lock->owner || lock->readers ? EBUSY : acquire((struct lock *)mutex);
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    return release((struct lock *)mutex);
}

int __wrap_pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes)
{
    (void)attributes;
    return clear(condition);
}

int __wrap_pthread_cond_destroy(pthread_cond_t *condition)
{
    (void)condition;
    return 0;
}

int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    release((struct lock *)mutex);
    fiber_wait(condition, FIBER_NEVER);
    return acquire((struct lock *)mutex);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *deadline)
{
    bool woken;

    release((struct lock *)mutex);
    woken = fiber_wait(condition, (uint64_t)deadline->tv_sec * 1000000000 +
                                      (uint64_t)deadline->tv_nsec);
    acquire((struct lock *)mutex);
    return woken ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *condition)
{
    fiber_wake(condition);
    return 0;
}

int __wrap_pthread_cond_signal(pthread_cond_t *condition)
{
    fiber_wake(condition); /* more than asked for, as a condition may always wake in vain */
    return 0;
}

int __wrap_pthread_rwlock_init(pthread_rwlock_t *lock, const pthread_rwlockattr_t *attributes)
{
    (void)attributes;
    return clear(lock);
}

int __wrap_pthread_rwlock_destroy(pthread_rwlock_t *lock)
{
    (void)lock;
    return 0;
}

int __wrap_pthread_rwlock_rdlock(pthread_rwlock_t *lock)
{
    struct lock *shared = (struct lock *)lock;

    fiber_maybe_yield();
    while (shared->owner)
        fiber_wait(shared, FIBER_NEVER);
    shared->readers++;
    return 0;
}

int __wrap_pthread_rwlock_wrlock(pthread_rwlock_t *lock)
{
    return acquire((struct lock *)lock);
}

int __wrap_pthread_rwlock_unlock(pthread_rwlock_t *lock)
{
    return release((struct lock *)lock);
}

static uint64_t realtime_s(void)
{
    int node = fiber_node();

    return 1800000000 + sim.now / 1000000000 + (node < 0 ? 0 : (uint64_t)sim.nodes[node].clock_skew_s);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    ret_time->tv_sec =
        clock == CLOCK_REALTIME ? (time_t)realtime_s() : (time_t)(sim.now / 1000000000);
    ret_time->tv_nsec = (long)(sim.now % 1000000000);
    return 0;
}

int __wrap_nanosleep(const struct timespec *time, struct timespec *ret_left)
{
    (void)ret_left;
    fiber_sleep((uint64_t)time->tv_sec * 1000000000 + (uint64_t)time->tv_nsec);
    return 0;
}

time_t __wrap_time(time_t *ret_time)
{
    if (ret_time)
        *ret_time = (time_t)realtime_s();
    return (time_t)realtime_s();
}

void __wrap_randombytes_buf(void *buffer, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)buffer)[i] = (uint8_t)sim_random();
}
