/* SPDX-License-Identifier: BSD-2-Clause */
/* Prints the host's TSC frequency in kHz: what guests want as tsc_khz= and tsc_early_khz=. */
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

/* A pair of clocks read as close together as a few tries get: a preempted pair would spoil the
 * result. */
static void read_clocks(double *ret_ns, double *ret_ticks)
{
    unsigned long long best = ~0ULL;

    for (int i = 0; i < 10; i++) {
        struct timespec t;
        unsigned long long before = __rdtsc();

        clock_gettime(CLOCK_MONOTONIC_RAW, &t);
        unsigned long long took = __rdtsc() - before;

        if (took >= best)
            continue;
        best = took;
        *ret_ns = (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
        *ret_ticks = (double)(before + took / 2);
    }
}

int main(void)
{
    struct timespec wait = {.tv_nsec = 50000000};
    double ns[2], ticks[2];

    read_clocks(&ns[0], &ticks[0]);
    nanosleep(&wait, NULL);
    read_clocks(&ns[1], &ticks[1]);
    printf("%.0f\n", (ticks[1] - ticks[0]) / (ns[1] - ns[0]) * 1e6);
    return 0;
}
