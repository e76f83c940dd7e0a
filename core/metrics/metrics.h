/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Figures of a node, at http://ADDRESS/metrics in the text format of OpenMetrics.  Nobody is asked who reads them:
 * they hold sizes, counts and names of devices, nothing of what devices contain.
 */
#ifndef METRICS_METRICS_H
#define METRICS_METRICS_H

#include <drafter/common.h>

struct metrics_text;

/* A family of samples, ahead of them.  All families are gauges. */
void metrics_family(struct metrics_text *text, const char *name, const char *help);

/* A sample of the family that was begun last; `labels` are label, value, label, value ..., NULL. */
void metrics_sample(struct metrics_text *text, const char *const *labels, double value);

struct metrics;

/* `collect` is called for each request, from one thread. */
int metrics_start(const char *address, void (*collect)(void *opaque, struct metrics_text *text),
                  void *opaque, struct metrics **ret_metrics, struct drafter_error *err);

/* NULL is allowed. */
void metrics_stop(struct metrics *metrics);

#endif
