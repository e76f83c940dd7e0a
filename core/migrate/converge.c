/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/converge.h"

/* Pre-copy pays as long as each pass leaves clearly less than the one before. */
#define SHRINK_NUMERATOR 4
#define SHRINK_DENOMINATOR 5
#define STALLED_PASSES 1
/* Less than this is not worth a pass that would take it out of the pause. */
#define RESIDUE_NS UINT64_C(1000000)

static uint64_t predict_ns(const struct converge_pass *pass)
{
    double bytes_per_ns;

    if (!pass->left_bytes)
        return 0;
    if (!pass->sent_bytes || !pass->duration_ns)
        return UINT64_MAX;
    bytes_per_ns = (double)pass->sent_bytes / (double)pass->duration_ns;
    return (uint64_t)((double)pass->left_bytes / bytes_per_ns);
}

/* The rest fits the pause; a pass that halves it again makes the pause shorter still. */
static bool worth_another(const struct converge *converge, bool halved)
{
    return halved && converge->predicted_ns > RESIDUE_NS && converge->pass < converge->max_passes;
}

bool converge_judge(struct converge *converge, const struct converge_pass *pass)
{
    bool first = converge->pass == 0;
    bool shrank = first || pass->left_bytes * SHRINK_DENOMINATOR <=
                               converge->previous_left * SHRINK_NUMERATOR;
    bool halved = first || pass->left_bytes <= converge->previous_left / 2;

    converge->pass++;
    converge->stalled = shrank ? 0 : converge->stalled + 1;
    converge->previous_left = pass->left_bytes;
    converge->predicted_ns = predict_ns(pass);
    if (converge->predicted_ns <= converge->downtime_limit_ns)
        return !worth_another(converge, halved);
    if (converge->pass >= converge->max_passes)
        return true;
    return converge->postcopy && converge->stalled >= STALLED_PASSES;
}

bool converge_device_ready(struct converge_device *device, uint64_t dirty_blocks)
{
    device->cycles++;
    if (dirty_blocks < device->limits.max_dirty_blocks)
        return ++device->quiet > device->limits.min_cycles ||
               (device->limits.max_cycles && device->cycles >= device->limits.max_cycles);
    if (device->cycles >= device->limits.max_cycles)
        return true;
    device->quiet = 0;
    return false;
}
