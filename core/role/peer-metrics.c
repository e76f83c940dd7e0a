/* SPDX-License-Identifier: BSD-2-Clause */
/* Figures of a peer under the names that the original gave them; what has no counterpart here is not there. */
#include "role/peer.h"

#include "metrics/metrics.h"
#include "util/cleanup.h"

/* What is to be told of each device. */
struct figure {
    const char *name, *help;
    double (*value)(const struct peer *peer, unsigned index);
};

static const struct block_device *block_of(const struct peer *peer, unsigned index)
{
    return peer->arranged[index];
}

static double in_blocks(const struct peer *peer, unsigned index, uint64_t pages)
{
    uint64_t size = block_of(peer, index)->block_size >> DRAFTER_PAGE_SHIFT;

    return (double)((pages + size - 1) / size);
}

static double block_size(const struct peer *peer, unsigned index)
{
    return block_of(peer, index)->block_size;
}

static double total_blocks(const struct peer *peer, unsigned index)
{
    return in_blocks(peer, index, block_of(peer, index)->map.pages);
}

static double missing_blocks(const struct peer *peer, unsigned index)
{
    return in_blocks(peer, index, block_map_missing((struct block_map *)&block_of(peer, index)->map));
}

/* What the other side does not have yet, or this side while the VM arrives. */
static double ready_blocks(const struct peer *peer, unsigned index)
{
    const struct source_progress *source = &peer->watch.source;

    if (!peer->watch.has_source)
        return total_blocks(peer, index) - missing_blocks(peer, index);
    for (unsigned i = 0; i < source->device_count; i++)
        if (source->devices[i].block == block_of(peer, index))
            return total_blocks(peer, index) - in_blocks(peer, index, source->devices[i].left_pages);
    return 0;
}

static double dirty_blocks(const struct peer *peer, unsigned index)
{
    return in_blocks(peer, index, block_map_count_dirty(&block_of(peer, index)->map));
}

#define COUNTER(name_, kind_, field_)                                                              \
    static double name_(const struct peer *peer, unsigned index)                                   \
    {                                                                                              \
        return (double)__atomic_load_n(&block_of(peer, index)->kind_.field_, __ATOMIC_RELAXED);    \
    }
COUNTER(read_ops, reads, ops)
COUNTER(read_bytes, reads, bytes)
COUNTER(read_errors, reads, errors)
COUNTER(write_ops, writes, ops)
COUNTER(write_bytes, writes, bytes)
COUNTER(write_errors, writes, errors)
COUNTER(flush_ops, flushes, ops)
COUNTER(flush_errors, flushes, errors)

static const struct figure figures[] = {
    {"silo_migrator_block_size", "Bytes that travel together.", block_size},
    {"silo_migrator_total_blocks", "Blocks of the device.", total_blocks},
    {"silo_migrator_ready_blocks", "Blocks that are at the destination, at either end of a move.",
     ready_blocks},
    {"silo_dirtyTracker_block_size", "Bytes of a block whose changes are tracked.", block_size},
    {"silo_dirtyTracker_dirty_blocks", "Blocks written since the last pass, as far as they came here.",
     dirty_blocks},
    {"silo_waitingCache_available_remote", "Blocks that are still at the source.", missing_blocks},
    {"silo_metrics_read_ops", "Reads of the VM that came here.", read_ops},
    {"silo_metrics_read_bytes", "Bytes of them.", read_bytes},
    {"silo_metrics_read_errors", "Of them, those that failed.", read_errors},
    {"silo_metrics_write_ops", "Writes of the VM that came here.", write_ops},
    {"silo_metrics_write_bytes", "Bytes of them.", write_bytes},
    {"silo_metrics_write_errors", "Of them, those that failed.", write_errors},
    {"silo_metrics_flush_ops", "Flushes.", flush_ops},
    {"silo_metrics_flush_errors", "Of them, those that failed.", flush_errors},
};

static void tell(struct metrics_text *text, const struct peer *peer, const char *name,
                 const char *help, double value)
{
    const char *const labels[] = {"instance_id", peer->node->options.name, NULL};

    metrics_family(text, name, help);
    metrics_sample(text, labels, value);
}

static void tell_transfer(struct metrics_text *text, const struct peer *peer, const char *name,
                          const char *help, double value)
{
    const char *const labels[] = {"instance", peer->node->options.name, "device", "", NULL};

    metrics_family(text, name, help);
    metrics_sample(text, labels, value);
}

static void tell_devices(struct metrics_text *text, const struct peer *peer)
{
    for (size_t i = 0; i < sizeof(figures) / sizeof(*figures); i++) {
        metrics_family(text, figures[i].name, figures[i].help);
        for (unsigned j = 0; j < peer->arranged_count; j++) {
            const char *const labels[] = {"instance", peer->node->options.name, "device",
                                          peer->arranged[j]->name, NULL};

            metrics_sample(text, labels, figures[i].value(peer, j));
        }
    }
}

static void collect(void *opaque, struct metrics_text *text)
{
    struct peer *peer = opaque;
    bool arriving, here;

    lock_scope(&peer->lock);
    arriving = peer->options.connect && !peer->arrived;
    here = peer->vm_made && !peer->moved && !peer->lost;
    tell(text, peer, "drafter_peer_vm_running", "Whether the guest runs here.",
         here && peer->vm.running);
    tell(text, peer, "drafter_peer_migrating_to", "Whether a peer takes the VM over.", peer->leaving);
    tell(text, peer, "drafter_peer_migrating_from", "Whether the VM arrives.", arriving);
    tell(text, peer, "drafter_peer_migrating_from_wait_ready",
         "Whether the VM runs here while some of it is missing.", arriving && peer->vm.running);
    tell_transfer(text, peer, "silo_protocol_data_sent", "Bytes sent in the move that is under way.",
                  peer->watch.has_source ? (double)peer->watch.source.sent_bytes : 0);
    tell_transfer(text, peer, "silo_protocol_data_recv", "Bytes that arrived.",
                  peer->watch.has_destination ? (double)peer->watch.destination.received_bytes : 0);
    if (here)
        tell_devices(text, peer);
}

int peer_metrics_start(struct peer *peer, struct drafter_error *err)
{
    const char *address = peer->options.metrics;

    return address && *address ? metrics_start(address, collect, peer, &peer->metrics, err) : 0;
}

void peer_metrics_stop(struct peer *peer)
{
    metrics_stop(peer->metrics);
    peer->metrics = NULL;
}
