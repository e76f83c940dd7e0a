/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The simulated world: nodes with disks, a network between them, one guest, a clock, and faults drawn
 * from a seed.  What runs in it is the real code of core/migrate, core/block and core/role/serve.c.
 *
 *   fiber.c   threads            thread.c  pthread_*, clocks, randomness of the code under test
 *   memory.c  malloc             disk.c    files: the ledger, and storages
 *   net.c     a transport        cache.c   an exposure: the page cache through which a VMM sees devices
 *   guest.c   a VMM and a guest that writes versioned pages and remembers what was flushed
 *   node.c    what core/role does around a migration: as a source, as a destination, at a start
 *   fault.c   the table of steps and faults, and what each fault does
 *   check.c   invariants         plant.c   defects that the checks must find
 *   world.c   one seed           sim.c     many
 *
 * One world at a time in a process, in `sim`.
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "block/device.h"
#include "fault.h"
#include "migrate/ledger.h"
#include "migrate/source.h"

#include <stdnoreturn.h>

#define SIM_NODES 3 /* two that hand the VM to and fro, and one that comes between them */
#define SIM_DEVICES 4
#define SIM_PAGES_MAX 40
#define SIM_FILES_MAX 8 /* of a node: a ledger and the storages */
#define SIM_PIPES_MAX 96
#define SIM_VM "vm"

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

enum sim_device { DEVICE_CONFIG, DEVICE_STATE, DEVICE_MEMORY, DEVICE_DISK };

struct sim_device_spec {
    const char *name;
    uint64_t size;
    uint32_t block_size;
    bool exposed, guest; /* a VMM opens it; the guest writes it */
};
extern const struct sim_device_spec sim_devices[SIM_DEVICES];

/* What a seed has of everything; chances are of 1024. */
struct sim_swarm {
    unsigned yield, short_io, slow_disk, guest_rate, writeback, partial_write;
    unsigned disk_survives; /* chance of an unsynced sector to survive a power loss */
    uint64_t latency_ns, jitter_ns;
    size_t window; /* of a connection, bytes */
    bool registry, wait_for_all, reuse, eager_ready;
    unsigned moves, streams, max_passes;
};

/* disk.c */
struct sim_file {
    int node;
    char path[48];
    bool exists, is_ledger, created;
    size_t size, capacity;
    uint8_t *content, *durable; /* as processes see it; as it is after a power loss */
    uint8_t *unsynced;          /* a flag per sector */
    int locked_by;              /* descriptor, or -1 */
    int device;                 /* enum sim_device, or -1 */
    bool lost_writes;           /* a failed fsync dropped some */
};

/* cache.c */
struct sim_cache {
    bool used, withdrawn, background; /* its flusher runs */
    int node;
    unsigned inside; /* calls in the backend */
    uint64_t pages, size;
    int device;
    struct drafter_device_backend backend;
    struct {
        bool cached, dirty, writing, failed;
        uint8_t *data;
    } page[SIM_PAGES_MAX];
};

/* guest.c */
enum vmm_state { VMM_NONE, VMM_WAITING, VMM_LOADED, VMM_RUNNING, VMM_PAUSED, VMM_DEAD };

struct sim_vmm {
    enum vmm_state state;
    bool pausing, parked;
    unsigned guest_fibers;
};

struct sim_guest {
    bool exists;   /* has booted, and has not died */
    bool may_die;  /* a fault excuses its end */
    uint32_t version[SIM_DEVICES][SIM_PAGES_MAX];   /* of each page, as the guest wrote it last */
    uint32_t acked[SIM_DEVICES][SIM_PAGES_MAX];     /* that a flush made durable */
    uint32_t suspended[SIM_DEVICES][SIM_PAGES_MAX]; /* when it was paused last */
    uint32_t uncertain[SIM_DEVICES][SIM_PAGES_MAX]; /* last version whose write failed, 0: none */
    uint64_t operations, flushes, reads;
    uint64_t operations_before; /* this run of it, or this move */
};

/* node.c */
struct sim_node {
    int index;
    bool up;
    unsigned lives;         /* starts so far */
    int64_t clock_skew_s;   /* of its wall clock */
    struct sim_vmm vmm;
    struct role *role;      /* its memory; NULL: nothing runs */
    bool arriving;          /* it takes the VM over, or is about to */
    bool role_running;      /* the role's main thread has not ended */
    void *(*next_main)(void *); /* of the role that starts */
    int next_from;
};

enum sim_step_number {
#define STEP(name_, what_) STEP_##name_,
    SIM_STEPS(STEP)
#undef STEP
        STEP_COUNT
};

struct sim_world {
    uint64_t seed, random[4], now, events;
    struct sim_swarm swarm;
    struct sim_node nodes[SIM_NODES];
    struct sim_file files[SIM_NODES][SIM_FILES_MAX];
    struct sim_guest guest;
    unsigned step; /* enum sim_step_number: the furthest of the present session */
    bool over;
    bool torn[SIM_DEVICES][SIM_PAGES_MAX]; /* a write of the page failed half-way on some disk */
    uint8_t old_token[WIRE_TOKEN_SIZE]; /* of a session that is over */
    bool traced;
    const char *invariant; /* that was violated, or NULL */
    char message[512];

    /* What a session did, for the checks. */
    int source, destination; /* nodes of the present move, or -1 */
    bool committed;          /* COMMIT left the source in this session */
    bool copy_saved; /* a registry's copy that ran is another VM now */
    bool resuming;           /* the source answered a reconnect */
    bool ledger_failed;      /* a write of one failed: its record may be there or not */
    uint64_t paused_at;      /* 0: the source's guest is not paused for this session */
    uint64_t excused_until;  /* a pause may be longer: the source stands still */
    uint32_t state_version;
    struct sim_outcomes {
        uint64_t moved, kept, partial, lost, stranded, died, pauses, pause_ns, pause_max_ns;
        uint64_t parted; /* links that broke before the hand-over and were found again */
        uint64_t guest_operations, events, simulated_ns;
    } outcomes;
};
extern struct sim_world sim;

/* world.c */
uint64_t sim_random(void);
uint64_t sim_below(uint64_t limit);
bool sim_chance(unsigned of_1024);
void sim_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The first one counts; the world ends after the present turn. */
void sim_fail(const char *invariant, const char *format, ...) __attribute__((format(printf, 2, 3)));
noreturn void sim_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern struct sim_outcomes *sim_totals; /* of all seeds and processes */
/* Plays a seed; false: an invariant was violated (sim.invariant, sim.message). */
bool sim_play(uint64_t seed, bool traced);

/* memory.c */
void *sim_allocate(size_t size); /* of the world, zeroed; lives as long as it */
void memory_drop(int node);
size_t memory_live(int node);
size_t memory_peak(int node);
void *memory_for_json(size_t size); /* never fails */

/* disk.c */
struct sim_file *disk_file(int node, const char *path); /* made when there is none */
struct instance *disk_storage(int node, enum sim_device device);
void disk_reset(void);
void disk_kill(int node);                /* open files are closed */
void disk_power_loss(int node);          /* and what was not synced may be lost */
bool disk_ledger(int node, bool durable, struct ledger_record *ret_record); /* false: none */
uint8_t *disk_page(int node, enum sim_device device, uint64_t page, bool durable);
bool disk_device_exists(int node, enum sim_device device);
bool disk_lost_writes(int node, enum sim_device device); /* by a sync that failed */
void disk_remove_devices(int node);

/* net.c */
struct instance *net_transport(int node);
void net_reset(void);
void net_kill(int node, bool silently); /* its connections break, or just end to answer */
void net_restart(int node);              /* after net_kill silently */
unsigned net_connections(int node);
enum net_fault { NET_REFUSE, NET_CUT, NET_STALL, NET_ONE_WAY, NET_SLOW, NET_DELAY_ONE, NET_FLIP, NET_TRUNCATE,
                 NET_DUPLICATE };
void net_break(enum net_fault fault, int node, uint64_t duration);
void net_heal(void);
bool net_is_stalled(void);
int net_unnoticed(uint64_t limit); /* a node that has not noticed for so long, or -1 */

/* cache.c */
struct instance *cache_exposer(int node);
struct sim_cache *cache_of(int node, enum sim_device device); /* NULL: not shown */
int cache_write(struct sim_cache *cache, uint64_t page, const uint8_t *data, size_t from, size_t length);
int cache_read(struct sim_cache *cache, uint64_t page, uint8_t *data);
int cache_write_back(struct sim_cache *cache, uint64_t page);
int cache_write_back_all(struct sim_cache *cache);
void cache_drop(int node);
void cache_reset(void);

/* guest.c: pages and their versions. */
void page_fill(enum sim_device device, uint64_t page, uint32_t version, uint8_t *ret_data);
size_t page_length(enum sim_device device, uint64_t page);
uint64_t page_count(enum sim_device device);
/* The version of a page's content; 0xffffffff: zeros, which several are; false: it is none. */
bool page_version(enum sim_device device, uint64_t page, const uint8_t *data, uint32_t *ret_version);
bool page_is(enum sim_device device, uint64_t page, uint32_t version, const uint8_t *data);
#define PAGE_ZEROS UINT32_MAX

void guest_boot(int node); /* all pages have version 0, and it runs here */
int vmm_pause_guest(int node, struct drafter_error *err);
int vmm_resume_guest(int node, struct drafter_error *err);
void vmm_end(int node, bool excused);
void guest_reset(void);

/* node.c */
void node_install(int node); /* a package that was never started */
void node_start_local(int node);
void node_start_registry(int node);
void node_start_arrival(int node, int source);
void node_cancel(int node, const char *why);
void node_stop(int node); /* an operator ends it; waits */
void node_kill(int node, bool power);
bool node_is_serving(int node);    /* a session is under way */
bool node_arrives(int node);
bool node_page_present(int node, unsigned device, uint64_t page); /* or never awaited */
bool node_page_dirty(int node, unsigned device, uint64_t page); /* since the last pass began */
const uint8_t *node_session(int node); /* token, or NULL */

/* check.c */
void check_turn(void);
void check_storage_attempt(int node, int device, uint64_t offset, size_t length);
void check_storage_write(int node, int device, uint64_t offset, const uint8_t *data, size_t length);
void check_ledger_change(int node);
void check_frame(int node, const struct wire_header *header);
void check_resume(int node);
void check_flush_ack(int node, enum sim_device device, const uint32_t *versions);
void check_guest_read(int node, enum sim_device device, uint64_t page, const uint8_t *data);
void check_disks(const char *when);
void check_session_begins(int node, const char *peer); /* "node N" */
void check_arrival_begins(int node);
void check_arrival_end(int node, int outcome);
void check_source_end(int node, enum source_outcome outcome);
void check_idle(int node);
void check_reset(void);

/* plant.c */
extern const char *plant_name; /* NULL: none */
bool plant_is(const char *name);
bool plant_exists(const char *name);
void plant_list(void);

/* A step was reached; faults that wait for it strike before the caller goes on. */
void sim_step(enum sim_step_number step);

#endif
