/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/tree.h"

#include <stdlib.h>
#include <string.h>

#define REPORT_MAX 1000 /* who has more faults than this starts again anyway */

void config_report_add(struct config_report *report, const struct drafter_error *err)
{
    char **grown, *copy;

    if (!report || report->count == REPORT_MAX)
        return;
    grown = reallocarray(report->messages, report->count + 1, sizeof(*grown));
    if (!grown)
        return;
    report->messages = grown;
    copy = strdup(err->message);
    if (copy)
        report->messages[report->count++] = copy;
}

void config_report_free(struct config_report *report)
{
    for (size_t i = 0; i < report->count; i++)
        free(report->messages[i]);
    free(report->messages);
    *report = (struct config_report){0};
}

int config_fault(struct config_report *report, struct drafter_error *first,
                 const struct drafter_error *fault)
{
    config_report_add(report, fault);
    if (first && first->code == 0)
        *first = *fault;
    return -fault->code;
}
