/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Defects that the checks must find.  Each is a careless change of one function of the real code,
 * which the linker sends through here (--wrap), or of the simulated disk.
 */
#include "sim.h"

#include <stdio.h>
#include <string.h>

const char *plant_name;

static const struct {
    const char *name, *what;
} plants[] = {
    {"generation", "an older copy of a page may be stored over a newer one"},
    {"announcement", "what the source sends anew is not taken for stale"},
    {"local-write", "a page that the guest wrote is overwritten by what arrives"},
    {"ledger-order", "COMMIT is sent before RELINQUISHED is durable"},
    {"ledger-sync", "the ledger is written, and not synced"},
    {"resume-order", "the guest is resumed before its new owner is in the ledger"},
    {"take-back", "a source that lost the link after COMMIT takes the VM back"},
    {"flush-order", "a flush is acknowledged before the data is durable"},
    {"sync-error", "a sync that failed is forgotten, and the next one succeeds"},
    {"checksum", "payloads are not verified"},
    {"header-check", "headers are not verified"},
    {"resend", "after a reconnect everything is sent again"},
    {"announce-again", "after a reconnect it is not said again which pages are stale"},
    {"part-paused", "a source that lost the link in the pause waits with its guest paused"},
};

bool plant_is(const char *name)
{
    return plant_name && !strcmp(plant_name, name);
}

bool plant_exists(const char *name)
{
    for (size_t i = 0; i < sizeof(plants) / sizeof(plants[0]); i++)
        if (!strcmp(plants[i].name, name))
            return true;
    return false;
}

void plant_list(void)
{
    for (size_t i = 0; i < sizeof(plants) / sizeof(plants[0]); i++)
        printf("%-14s %s\n", plants[i].name, plants[i].what);
}

bool __real_block_map_claim(struct block_map *map, uint64_t first, unsigned count,
                            uint32_t generation, uint64_t mask[BLOCK_MASK_WORDS]);
bool __wrap_block_map_claim(struct block_map *map, uint64_t first, unsigned count,
                            uint32_t generation, uint64_t mask[BLOCK_MASK_WORDS]);
void __real_block_map_announce(struct block_map *map, uint64_t first, uint64_t count,
                               uint32_t generation);
void __wrap_block_map_announce(struct block_map *map, uint64_t first, uint64_t count,
                               uint32_t generation);
void __real_block_map_claim_end(struct block_map *map, uint64_t first, unsigned count,
                                uint32_t generation, const uint64_t mask[BLOCK_MASK_WORDS],
                                const uint64_t *hashes, bool stored);
void __wrap_block_map_claim_end(struct block_map *map, uint64_t first, unsigned count,
                                uint32_t generation, const uint64_t mask[BLOCK_MASK_WORDS],
                                const uint64_t *hashes, bool stored);
unsigned __real_source_step(struct source_machine *machine, enum machine_event event);
unsigned __wrap_source_step(struct source_machine *machine, enum machine_event event);
unsigned __real_destination_step(struct destination_machine *machine, enum machine_event event);
unsigned __wrap_destination_step(struct destination_machine *machine, enum machine_event event);
int __real_storage_flush(struct instance *storage);
int __wrap_storage_flush(struct instance *storage);
int __real_wire_verify(const void *bytes, const struct wire_header *header, uint64_t seed,
                       const void *payload);
int __wrap_wire_verify(const void *bytes, const struct wire_header *header, uint64_t seed,
                       const void *payload);
int __real_wire_check(const void *bytes, uint64_t seed, uint64_t sequence);
int __wrap_wire_check(const void *bytes, uint64_t seed, uint64_t sequence);
int __real_source_announce_again(struct source *source);
int __wrap_source_announce_again(struct source *source);
void __real_block_map_get_missing(struct block_map *map, uint64_t *into);
void __wrap_block_map_get_missing(struct block_map *map, uint64_t *into);

/* Every page that nobody is storing is taken for older than what comes. */
bool __wrap_block_map_claim(struct block_map *map, uint64_t first, unsigned count,
                            uint32_t generation, uint64_t mask[BLOCK_MASK_WORDS])
{
    if (!plant_is("generation"))
        return __real_block_map_claim(map, first, count, generation, mask);
    for (unsigned i = 0; i < count; i++)
        if (map->generation[first + i] >= generation && generation &&
            map->generation[first + i] != BLOCK_GENERATION_LOCAL)
            map->generation[first + i] = generation - 1;
    return __real_block_map_claim(map, first, count, generation, mask);
}

void __wrap_block_map_announce(struct block_map *map, uint64_t first, uint64_t count,
                               uint32_t generation)
{
    if (!plant_is("announcement") || generation == 1)
        __real_block_map_announce(map, first, count, generation);
}

void __wrap_block_map_claim_end(struct block_map *map, uint64_t first, unsigned count,
                                uint32_t generation, const uint64_t mask[BLOCK_MASK_WORDS],
                                const uint64_t *hashes, bool stored)
{
    if (plant_is("local-write") && generation == BLOCK_GENERATION_LOCAL)
        stored = false;
    __real_block_map_claim_end(map, first, count, generation, mask, hashes, stored);
}

unsigned __wrap_source_step(struct source_machine *machine, enum machine_event event)
{
    unsigned actions = __real_source_step(machine, event);

    if (plant_is("ledger-order") && actions & ACTION_JOURNAL) {
        machine->state = SOURCE_COMMITTED;
        return ACTION_COMMIT;
    }
    if (plant_is("part-paused") && actions & ACTION_TAKE_BACK && machine->again) {
        machine->again = machine->suspended = false;
        machine->state = SOURCE_PARTED;
        return ACTION_WAIT_LINK;
    }
    if (plant_is("take-back") && event == EVENT_LINK_LOST && machine->state == SOURCE_COMMITTED) {
        machine->state = SOURCE_TAKING_BACK;
        return ACTION_TAKE_BACK;
    }
    return actions;
}

unsigned __wrap_destination_step(struct destination_machine *machine, enum machine_event event)
{
    unsigned actions = __real_destination_step(machine, event);

    if (plant_is("resume-order") && event == EVENT_COMMIT && actions & ACTION_JOURNAL) {
        machine->journaled = true;
        return ACTION_LOAD;
    }
    return actions;
}

int __wrap_storage_flush(struct instance *storage)
{
    if (plant_is("sync-error"))
        storage->flush_error = 0;
    return __real_storage_flush(storage);
}

int __wrap_wire_verify(const void *bytes, const struct wire_header *header, uint64_t seed,
                       const void *payload)
{
    bool planted = (plant_is("checksum") && header->length) ||
                   (plant_is("header-check") && !header->length);

    return planted ? 0 : __real_wire_verify(bytes, header, seed, payload);
}

int __wrap_wire_check(const void *bytes, uint64_t seed, uint64_t sequence)
{
    return plant_is("header-check") ? 0 : __real_wire_check(bytes, seed, sequence);
}

int __wrap_source_announce_again(struct source *source)
{
    return plant_is("announce-again") ? 0 : __real_source_announce_again(source);
}

void __wrap_block_map_get_missing(struct block_map *map, uint64_t *into)
{
    __real_block_map_get_missing(map, into);
    if (plant_is("resend") && map->remote)
        bitmap_set_range(into, 0, map->pages);
}
