/* SPDX-License-Identifier: BSD-2-Clause */
#include "control/show.h"

#include <string.h>

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));

    return value ? value : "";
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

/* A size in the unit in which it has one to four digits. */
static const char *size_text(double bytes, char *buffer, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;

    for (; bytes >= 1024 && unit + 1 < sizeof(units) / sizeof(*units); unit++)
        bytes /= 1024;
    snprintf(buffer, size, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return buffer;
}

static void show_rates(const json_t *migration, FILE *stream)
{
    char rate[32], dirty[32];

    fprintf(stream, ", %s/s", size_text(number(migration, "bytes_per_second"), rate, sizeof(rate)));
    if (json_object_get(migration, "dirty_bytes_per_second"))
        fprintf(stream, ", dirty %s/s",
                size_text(number(migration, "dirty_bytes_per_second"), dirty, sizeof(dirty)));
    if (json_is_number(json_object_get(migration, "eta_seconds")))
        fprintf(stream, ", %.0f s left", number(migration, "eta_seconds"));
    if (json_is_number(json_object_get(migration, "predicted_downtime_ms")))
        fprintf(stream, ", downtime %.0f ms", number(migration, "predicted_downtime_ms"));
    if (*text(migration, "convergence"))
        fprintf(stream, ", %s", text(migration, "convergence"));
}

void control_show_progress(const json_t *status, FILE *stream)
{
    const json_t *migration = json_object_get(status, "migration");
    char left[32], total[32];

    if (!migration)
        return;
    fprintf(stream, "%s, %s", text(status, "state"), text(migration, "phase"));
    if (json_object_get(migration, "pass"))
        fprintf(stream, ", pass %.0f", number(migration, "pass"));
    fprintf(stream, ": %s of %s left",
            size_text(number(migration, "left_bytes"), left, sizeof(left)),
            size_text(number(migration, "total_bytes"), total, sizeof(total)));
    show_rates(migration, stream);
    fputc('\n', stream);
}

void control_show_status(const json_t *status, FILE *stream)
{
    static const char *const keys[] = {"name", "role", "state", "vmm", "network", "listen"};
    static const char *const numbers[] = {"pid", "epoch", "clients", "pulled", "failed", "slots", "forwards"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
        if (*text(status, keys[i]))
            fprintf(stream, "%-10s %s\n", keys[i], text(status, keys[i]));
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
        if (json_object_get(status, numbers[i]))
            fprintf(stream, "%-10s %.0f\n", numbers[i], number(status, numbers[i]));
    if (json_object_get(status, "migration")) {
        fprintf(stream, "%-10s ", "migration");
        control_show_progress(status, stream);
    }
}

void control_show_row(const json_t *status, FILE *stream)
{
    static const char format[] = "%-24s %-12s %-10s %8s %6s  %s\n";
    char pid[24], epoch[24];

    if (!status) {
        fprintf(stream, format, "NAME", "ROLE", "STATE", "PID", "EPOCH", "LISTEN");
        return;
    }
    snprintf(pid, sizeof(pid), "%.0f", number(status, "pid"));
    snprintf(epoch, sizeof(epoch), json_object_get(status, "epoch") ? "%.0f" : "-", number(status, "epoch"));
    fprintf(stream, format, text(status, "name"), text(status, "role"), text(status, "state"), pid,
            epoch, text(status, "listen"));
}
