/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The VM outlives its drafter: what the holder must have for that, and how a new process goes on.
 *
 * What is on disk (ledger, overlays, configuration) is read again; what only the dead process knew is in
 * memory that the holder keeps.  The VMM says itself whether its guest runs.  A guest that does not, and
 * that the ledger says is ours, is let run: whoever paused it is dead.
 */
#include "role/peer.h"

#include "util/cleanup.h"
#include "util/io.h"
#include "util/log.h"

#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#define KEPT "core/peer"
#define LEDGER "core/ledger"
#define LEAVING "core/leaving"
#define ARRIVAL "core/arrival"
#define ARGUMENTS_MAX (1u << 20)

static int map_kept(struct peer *peer, bool *ret_found, struct drafter_error *err)
{
    void *memory;
    int rc = holder_memory(peer->node->holder, KEPT, sizeof(*peer->kept), &memory, ret_found);

    if (rc)
        return drafter_error_errno(err, -rc, "cannot keep the VM's state");
    peer->kept = memory;
    return 0;
}

int peer_keep(struct peer *peer, struct drafter_error *err)
{
    struct node *node = peer->node;
    bool found;
    int rc = slot_open(&peer->slot, node, peer->options.network, peer->options.netns, err);

    if (rc)
        return rc;
    if (!peer->exposer || !device_adoptable(peer->exposer) || !slot_adoptable(&peer->slot))
        holder_end(node->holder);
    if (!holder_active(node->holder))
        return 0;
    rc = map_kept(peer, &found, err);
    if (!rc && (rc = holder_put(node->holder, NODE_LOCK, node->lock)))
        drafter_error_errno(err, -rc, "cannot keep the lock of %s", node->directory);
    if (!rc)
        peer->kept->layout = PEER_KEPT_LAYOUT;
    return rc;
}

int peer_keep_arrival(struct peer *peer, struct drafter_error *err)
{
    void *memory;
    bool found;
    int rc;

    if (!peer->kept)
        return 0;
    rc = holder_memory(peer->node->holder, ARRIVAL, sizeof(*peer->arrival_kept), &memory, &found);
    if (rc)
        return drafter_error_errno(err, -rc, "cannot keep the arrival");
    peer->arrival_kept = memory;
    return 0;
}

int peer_map_memory(struct peer *peer, const char *device, size_t size, void **ret_memory,
                    bool *ret_found)
{
    char name[DRAFTER_NAME_MAX + 16];

    snprintf(name, sizeof(name), "core/map/%s", device);
    return holder_memory(peer->node->holder, name, size, ret_memory, ret_found);
}

void peer_step(struct peer *peer, enum peer_step step)
{
    if (!peer->kept)
        return;
    __atomic_store_n(&peer->kept->step, (uint32_t)step, __ATOMIC_RELEASE);
    if (holder_worth(peer->node->holder, step != PEER_STEP_NOTHING) < 0)
        log_warning("peer", "VM %s will not outlive its drafter: the holder is gone",
                    peer->node->options.name);
}

int peer_open_ledger(struct peer *peer, struct drafter_error *err)
{
    const struct node_options *options = &peer->node->options;
    int locked = -1, rc;

    if (holder_take(peer->node->holder, LEDGER, &locked) < 0)
        locked = -1;
    rc = ledger_open_locked(options->state_directory, options->name, locked, &peer->ledger, err);
    peer->ledger_open = rc == 0;
    if (rc && locked >= 0)
        close(locked);
    if (!rc && (rc = holder_put(peer->node->holder, LEDGER, peer->ledger.fd)))
        return drafter_error_errno(err, -rc, "cannot keep the lock of %s", peer->ledger.path);
    return rc;
}

/* Ends what the dead process had begun and nobody can use. */
static int start_over(struct peer *peer, const char *why)
{
    log_warning("peer", "VM %s: what a drafter that died left is of no use (%s): starting anew",
                peer->node->options.name, why);
    if (peer->kept)
        munmap(peer->kept, sizeof(*peer->kept));
    peer->kept = NULL;
    holder_end(peer->node->holder);
    peer->node->left = false;
    return 0;
}

/* The ledger's word, and what it has to say from now on. */
static int own(struct peer *peer, struct drafter_error *err)
{
    const struct ledger_record *record = &peer->ledger.record;

    if (record->state == LEDGER_OWNED)
        return 0;
    if (record->state == LEDGER_NONE || record->state == LEDGER_SAVED)
        return peer_claim(peer, err);
    if (record->state == LEDGER_RELINQUISHED && peer->options.listen) {
        peer->resume_leaving = true;
        return 0;
    }
    return drafter_error_set(err, ENOTRECOVERABLE,
                             "VM %s: its VMM is still there, but the ledger says %s (epoch %llu)",
                             record->vm, ledger_state_name(record->state),
                             (unsigned long long)record->epoch);
}

static int go_on(struct peer *peer, enum drafter_vmm_phase phase, struct drafter_error *err)
{
    int rc = own(peer, err);

    if (!rc && peer->resume_leaving) /* only its memory is still needed */
        return phase == DRAFTER_VMM_RUNNING ? vm_pause(&peer->vm, err) : 0;
    if (rc || phase == DRAFTER_VMM_RUNNING)
        return rc;
    if (phase != DRAFTER_VMM_PAUSED)
        return drafter_error_set(err, ENOTRECOVERABLE, "VM %s: its VMM has no guest to go on with",
                                 peer->node->options.name);
    rc = vm_resume(&peer->vm, err);
    if (!rc)
        peer_start_aftermath(peer);
    return rc;
}

int peer_adopt(struct peer *peer, bool *ret_adopted, struct drafter_error *err)
{
    uint64_t started = drafter_now_ns();
    enum drafter_vmm_phase phase = DRAFTER_VMM_USELESS;
    bool found = false;
    int rc = map_kept(peer, &found, err);

    if (rc)
        return rc;
    if (!found || peer->kept->step == PEER_STEP_NOTHING)
        return start_over(peer, "its VM never ran");
    if (peer->kept->layout == PEER_KEPT_LAYOUT && peer->kept->step == PEER_STEP_ARRIVING) {
        peer->adopt_arrival = true;
        *ret_adopted = true;
        return peer_arrive(peer, err);
    }
    if (peer->kept->layout != PEER_KEPT_LAYOUT || peer->kept->step != PEER_STEP_STARTING)
        return drafter_error_set(err, EPROTO,
                                 "VM %s: another version of drafter left it; only that one can go on",
                                 peer->node->options.name);
    rc = peer_open_ledger(peer, err);
    if (!rc)
        rc = peer_open_local(peer, err);
    if (!rc)
        rc = vm_read_config(&peer->vm, err);
    if (!rc)
        rc = vm_adopt(&peer->vm, &phase, err);
    if (!rc)
        rc = go_on(peer, phase, err);
    if (rc)
        return drafter_error_wrap(err, "going on with VM %s", peer->node->options.name);
    if (!peer->resume_leaving)
        slot_announce(&peer->slot);
    peer->facts = peer->vm.package.facts;
    peer->node->left = false;
    *ret_adopted = true;
    log_event("adopted", "\"vm\":\"%s\",\"was\":\"%s\",\"ms\":%.1f", peer->node->options.name,
              phase == DRAFTER_VMM_RUNNING ? "running" : "paused",
              (double)(drafter_now_ns() - started) / 1e6);
    return 0;
}

/* ---- what a hand-over leaves */

/* In words of 8 bytes: pass, count of devices, identity, the bitmaps of those devices. */
#define LEAVING_HEADER (2 + DRAFTER_IDENTITY_SIZE / sizeof(uint64_t))

static size_t leaving_size(const struct peer *peer, unsigned *ret_count)
{
    size_t words = LEAVING_HEADER;

    *ret_count = 0;
    for (unsigned i = 0; i < peer->arranged_count; i++)
        if (peer_migrates(peer, i)) {
            words += bitmap_words(peer->arranged[i]->map.pages);
            ++*ret_count;
        }
    return words * sizeof(uint64_t);
}

int peer_keep_leaving(struct peer *peer, const struct source_kept *kept, struct drafter_error *err)
{
    unsigned count, index = 0;
    size_t size = leaving_size(peer, &count);
    uint64_t *words;
    void *memory;
    bool found;
    int rc;

    if (!peer->kept)
        return 0;
    if (peer->leaving_memory)
        munmap(peer->leaving_memory, size);
    peer->leaving_memory = NULL;
    rc = holder_memory(peer->node->holder, LEAVING, size, &memory, &found);
    if (rc)
        return drafter_error_errno(err, -rc, "cannot keep what the hand-over needs");
    peer->leaving_memory = words = memory;
    words[0] = kept->pass;
    words[1] = count;
    memcpy(words + 2, kept->identity, sizeof(kept->identity));
    words += LEAVING_HEADER;
    for (unsigned i = 0; i < peer->arranged_count; i++) {
        size_t length = bitmap_words(peer->arranged[i]->map.pages);

        if (!peer_migrates(peer, i))
            continue;
        memcpy(words, kept->final[index++], length * sizeof(*words));
        words += length;
    }
    return 0;
}

bool peer_find_leaving(struct peer *peer, struct source_kept *ret_kept)
{
    unsigned count, index = 0;
    size_t size = leaving_size(peer, &count);
    const uint64_t *words;
    void *memory;
    bool found;

    if (holder_memory(peer->node->holder, LEAVING, size, &memory, &found))
        return false;
    peer->leaving_memory = memory;
    words = memory;
    if (!found || words[0] > UINT32_MAX || words[1] != count)
        return false;
    *ret_kept = (struct source_kept){.pass = (uint32_t)words[0]};
    memcpy(ret_kept->identity, words + 2, sizeof(ret_kept->identity) - 1);
    words += LEAVING_HEADER;
    for (unsigned i = 0; i < peer->arranged_count; i++) {
        if (!peer_migrates(peer, i))
            continue;
        ret_kept->final[index++] = words;
        words += bitmap_words(peer->arranged[i]->map.pages);
    }
    return true;
}

/* ---- another binary */

/* The words we were started with. */
static int read_arguments(char **ret_text, char ***ret_words, struct drafter_error *err)
{
    cleanup_free char *text = NULL;
    size_t length = 0, count = 0;
    char **words;
    int rc = io_read_file("/proc/self/cmdline", ARGUMENTS_MAX, &text, &length, err);

    if (rc)
        return rc;
    words = calloc(length + 1, sizeof(*words));
    if (!words)
        return drafter_error_set(err, ENOMEM, "out of memory");
    for (char *at = text; at < text + length; at += strlen(at) + 1)
        words[count++] = at;
    *ret_text = steal(&text);
    *ret_words = words;
    return 0;
}

void peer_reexec(struct peer *peer)
{
    const char *program = (const char *)getauxval(AT_EXECFN);
    cleanup_free char *text = NULL;
    cleanup_free char **words = NULL;
    struct drafter_error error = {0};
    bool busy;

    pthread_mutex_lock(&peer->lock);
    busy = peer->leaving || peer->moved || peer->lost;
    pthread_mutex_unlock(&peer->lock);
    if (!holder_active(peer->node->holder))
        drafter_error_set(&error, ENOTSUP, "its plugins cannot hand a VM over to another process");
    else if (busy)
        drafter_error_set(&error, EBUSY, "it is being handed over to a peer");
    else if (!program)
        drafter_error_set(&error, ENOENT, "the program's name is not known");
    else if (!read_arguments(&text, &words, &error)) {
        log_event("reexec", "\"vm\":\"%s\",\"program\":\"%s\"", peer->vm.name, program);
        execv(program, words);
        drafter_error_errno(&error, errno, "%s", program);
    }
    log_error("peer", "VM %s goes on with this binary: %s", peer->vm.name, error.message);
}
