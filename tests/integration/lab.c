/* SPDX-License-Identifier: BSD-2-Clause */
#include "lab.h"

#include "trust/keygen.h"
#include "trust/trust.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "vm.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#define BURST 200

static void open_storage(struct lab_node *node, unsigned index, uint64_t size)
{
    struct drafter_error err = {0};
    const char *overrides[] = {NULL, NULL, NULL};

    if (index == LAB_MEMORY && node->faults.memory_fault) {
        overrides[0] = node->faults.memory_fault;
        overrides[1] = node->faults.memory_fault_at;
    }
    ck_assert_msg(!instance_new(DRAFTER_KIND_STORAGE, NULL, "null", overrides, "lab",
                                node->lab->directory, NULL, &node->storage[index], &err),
                  "%s", err.message);
    ck_assert_int_eq(storage_open(node->storage[index], size, DRAFTER_STORAGE_CREATE, &err), 0);
}

static const char *const device_names[] = {"state", "memory", "disk"};
static const uint64_t device_sizes[] = {LAB_STATE_SIZE, LAB_MEMORY_SIZE, LAB_DISK_SIZE};

static void open_node(struct lab_node *node)
{
    struct drafter_error err = {0};

    for (unsigned i = 0; i < LAB_DEVICES; i++) {
        open_storage(node, i, device_sizes[i]);
        ck_assert_int_eq(
            block_device_init(&node->blocks[i], device_names[i], node->storage[i], 64 << 10, &err), 0);
    }
    node->open = true;
}

static void close_node(struct lab_node *node)
{
    for (unsigned i = 0; node->open && i < LAB_DEVICES; i++) {
        block_device_release(&node->blocks[i]);
        instance_free(node->storage[i]);
    }
    node->open = false;
}

/* Breaks the link of the session under way, once. */
static void cut(struct lab_node *node, bool now)
{
    struct lab *lab = node->lab;

    if (!now || !lab->control)
        return;
    stream_shutdown(lab->control);
    lab->control = NULL;
}

static int inject(bool fault, const char *what, struct drafter_error *err)
{
    return fault ? drafter_error_set(err, EIO, "%s fails as the test wants", what) : 0;
}

/* The source's VM */

static int source_hook(void *opaque, struct drafter_error *err)
{
    struct lab_node *node = opaque;

    cut(node, node->faults.cut_at_hook);
    return inject(node->faults.hook, "hook", err);
}

static int source_pause(void *opaque, struct drafter_error *err)
{
    struct lab_node *node = opaque;

    if (inject(node->faults.pause, "pause", err))
        return -EIO;
    lab_vm_burst(node->lab->vm, BURST); /* so that something is left for after the hand-over */
    lab_vm_pause(node->lab->vm);
    node->runs = false;
    return 0;
}

void lab_bad_file(const struct lab *lab, char ret_path[80])
{
    snprintf(ret_path, 80, "%s/bad", lab->directory);
}

static void make_unreadable(const struct lab *lab)
{
    char path[80];
    int fd;

    lab_bad_file(lab, path);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

static int source_save(void *opaque, struct drafter_error *err)
{
    struct lab_node *node = opaque;

    if (inject(node->faults.save, "save", err))
        return -EIO;
    cut(node, node->faults.cut_at_save);
    if (node->faults.unreadable) /* memory is read again once COMMIT was sent */
        make_unreadable(node->lab);
    return lab_vm_save(node->lab->vm, &node->blocks[LAB_STATE]);
}

static int source_go_on(void *opaque, struct drafter_error *err)
{
    struct lab_node *node = opaque;

    (void)err;
    if (!node->runs) /* a failed pause left it running */
        lab_vm_resume(node->lab->vm, node->blocks);
    node->runs = true;
    return 0;
}

/* The destination's VM */

static int destination_prepare(void *opaque, const struct offer *offer,
                               struct destination_device *ret_devices, struct drafter_error *err)
{
    struct lab_node *node = opaque;

    if (inject(node->faults.prepare, "prepare", err))
        return -EIO;
    ck_assert_uint_eq(offer->device_count, LAB_DEVICES);
    open_node(node);
    for (unsigned i = 0; i < LAB_DEVICES; i++) {
        node->blocks[i].fresh = true;
        ret_devices[i].block = &node->blocks[i];
    }
    return 0;
}

static int destination_start(void *opaque, struct drafter_error *err)
{
    struct lab_node *node = opaque;
    char byte;

    if (inject(node->faults.start, "start", err))
        return -EIO;
    return block_device_read(&node->blocks[LAB_DISK], &byte, 1, 0); /* as a VMM that probes a disk */
}

/* What goes along with the VM follows from its length. */
static int source_custom(void *opaque, void *buffer, size_t size, size_t *ret_length,
                         struct drafter_error *err)
{
    struct lab_node *node = opaque;

    if (inject(node->faults.custom, "custom", err))
        return -EIO;
    ck_assert_uint_le(node->lab->custom_length, size);
    for (size_t i = 0; i < node->lab->custom_length; i++)
        ((uint8_t *)buffer)[i] = (uint8_t)(i * 7 + node->lab->custom_length);
    *ret_length = node->lab->custom_length;
    return 0;
}

static int destination_custom(void *opaque, const void *data, size_t length,
                              struct drafter_error *err)
{
    struct lab_node *node = opaque;

    if (inject(node->faults.keep_custom, "custom", err))
        return -EIO;
    ck_assert_int_eq(node->ledger.record.state == LEDGER_INCOMPLETE, false);
    for (size_t i = 0; i < length; i++)
        ck_assert_uint_eq(((const uint8_t *)data)[i], (uint8_t)(i * 7 + length));
    node->lab->custom_arrived = length;
    return 0;
}

static int destination_journal(void *opaque, enum ledger_state state, uint64_t epoch,
                               const char *peer, const uint8_t session[16],
                               struct drafter_error *err)
{
    struct lab_node *node = opaque;

    if (state == LEDGER_INCOMPLETE && inject(node->faults.journal, "journal", err))
        return -EIO;
    return ledger_write(&node->ledger, state, epoch, peer, session, err);
}

static int destination_load(void *opaque, struct drafter_error *err)
{
    struct lab_node *node = opaque;

    cut(node, node->faults.cut_at_load);
    if (inject(node->faults.load, "load", err))
        return -EIO;
    return node->lab->live ? lab_vm_load(node->lab->vm, &node->blocks[LAB_STATE]) : 0;
}

static int destination_resume(void *opaque, struct drafter_error *err)
{
    struct lab_node *node = opaque;


    if (inject(node->faults.resume, "resume", err))
        return -EIO;
    cut(node, node->faults.cut_at_resume);
    node->lab->missing_at_resume = block_map_missing(&node->blocks[LAB_MEMORY].map);
    if (node->lab->live)
        lab_vm_resume(node->lab->vm, node->blocks);
    node->runs = true;
    return 0;
}

static void destination_stop(void *opaque)
{
    struct lab_node *node = opaque;

    node->runs = false;
}

static void destination_discard(void *opaque)
{
    close_node(opaque);
}

/* Sessions */

static void fill_options(struct lab_node *node, struct source_options *options)
{
    memset(options, 0, sizeof(*options));
    node->source_vm = (struct source_vm){.opaque = node,
                                          .before_suspend = source_hook,
                                          .pause = source_pause,
                                          .save = source_save,
                                          .resume = source_go_on,
                                          .custom = source_custom};
    for (unsigned i = 0; i < LAB_DEVICES; i++)
        options->devices[options->device_count++] =
            (struct source_device_options){.block = &node->blocks[i], .early = i == LAB_STATE};
    if (node->lab->live) {
        options->vm = &node->source_vm;
        options->ledger = &node->ledger;
        options->offer.epoch = node->ledger.record.epoch;
    }
    options->relink_timeout_ms = 2000;
    options->converge = (struct converge){.downtime_limit_ns = 1000000, .max_passes = 4, .postcopy = true};
    memcpy(options->offer.vm, "lab", 4);
}

static int begin(void *opaque, const struct hello *hello, struct stream *control,
                 struct source **ret_source, struct drafter_error *err)
{
    struct lab_node *node = opaque;
    struct source_options *options = malloc(sizeof(*options));
    int rc;

    (void)hello;
    ck_assert_ptr_nonnull(options);
    fill_options(node, options);
    rc = source_new(options, control, ret_source, err);
    node->lab->control = control;
    free(options);
    return rc;
}

static void end(void *opaque, enum source_outcome outcome, const struct drafter_error *error)
{
    struct lab_node *node = opaque;

    lock_scope(&node->lab->lock);
    node->left = outcome;
    node->left_error = *error;
    node->ends++;
    pthread_cond_broadcast(&node->lab->changed);
}

static struct destination_options arrival_options(struct lab_node *target, bool wait_for_all)
{
    struct lab *lab = target->lab;

    return (struct destination_options){
        .transport = lab->transport,
        .address = lab->address,
        .vm_name = "",
        .role = "test",
        .bulk_streams = 2,
        .connect_timeout_ms = 1000,
        .relink_timeout_ms = 2000,
        .wait_for_all = wait_for_all,
        .vm = {.opaque = target,
               .prepare = destination_prepare,
               .start = destination_start,
               .journal = destination_journal,
               .custom = destination_custom,
               .load = destination_load,
               .resume = destination_resume,
               .stop = destination_stop,
               .discard = destination_discard},
    };
}

enum destination_outcome lab_move(struct lab *lab, unsigned from, unsigned to, bool wait_for_all,
                                  struct drafter_error *err)
{
    struct lab_node *source = &lab->nodes[from], *target = &lab->nodes[to];
    const struct server_ops ops = {.begin = begin, .end = end, .opaque = source};
    const struct destination_options options = arrival_options(target, wait_for_all);
    struct destination *destination;
    enum destination_outcome outcome;

    ck_assert_int_eq(destination_new(&options, &destination, err), 0);
    ck_assert_int_eq(server_start(lab->transport, lab->address, &ops, &lab->server, err), 0);
    outcome = destination_run(destination, err);
    pthread_mutex_lock(&lab->lock);
    while (!source->ends)
        pthread_cond_wait(&lab->changed, &lab->lock);
    source->ends = 0;
    pthread_mutex_unlock(&lab->lock);
    server_stop(lab->server, "the test is over");
    destination_free(destination);
    if (outcome == DESTINATION_OUTCOME_COMPLETE && lab->live)
        close_node(source);
    return outcome;
}

/* Somebody who has lost the source dials until it is there, and says HELLO; the type of the answer. */
static void *come_back_main(void *opaque)
{
    struct lab *lab = opaque;
    struct hello hello = {.version = WIRE_VERSION, .reconnect = true, .epoch = 2, .vm = "lab"};
    uint64_t end = drafter_now_ns() + UINT64_C(10000000000);
    cleanup_free char *payload = malloc(WIRE_DATA_MAX);
    struct transport_connection *connection;
    struct wire_header header = {0};
    struct stream *control = NULL;
    struct drafter_error err;

    while (transport_connect(lab->transport, lab->address, 1000, &connection, &err) && drafter_now_ns() < end)
        ;
    memcpy(hello.token, lab->token, sizeof(hello.token));
    ck_assert_int_eq(stream_new(connection, &control), 0);
    ck_assert_int_eq(session_send_text(control, WIRE_HELLO, 0, hello_encode(&hello)), 0);
    ck_assert_int_eq(stream_receive(control, &header, payload, WIRE_DATA_MAX), 0);
    stream_free(control);
    lab->answer = header.type;
    return NULL;
}

unsigned lab_resume_session(struct lab *lab)
{
    struct lab_node *node = &lab->nodes[0];
    const struct server_ops ops = {.begin = begin, .end = end, .opaque = node};
    struct source_kept kept = {.pass = 3};
    struct source_options options;
    struct drafter_error err = {0};
    struct source *source;
    pthread_t dialer;

    memcpy(kept.identity, lab->identity, sizeof(kept.identity));
    fill_options(node, &options);
    ck_assert_int_eq(source_resume(&options, lab->token, &kept, &source, &err), 0);
    ck_assert_int_eq(pthread_create(&dialer, NULL, come_back_main, lab), 0);
    ck_assert_int_eq(server_start_resumed(lab->transport, lab->address, &ops, source, &lab->server, &err), 0);
    pthread_join(dialer, NULL);
    server_stop(lab->server, "the test is over");
    return lab->answer;
}

/* Another epoch than the one in which somebody comes back. */
static void overrule(void *opaque, const struct hello *hello, const char *identity, uint64_t *ret_epoch,
                     struct drafter_error *reason)
{
    (void)opaque;
    (void)identity;
    *ret_epoch = hello->epoch + 3;
    drafter_error_set(reason, ESTALE, "taken over by force");
}

int lab_confirm(struct lab *lab, bool overruled, struct drafter_error *err)
{
    struct lab_node *node = &lab->nodes[1];
    const struct server_ops ops = {.begin = begin, .end = end, .stranger = overruled ? overrule : NULL};
    const struct destination_options options = arrival_options(node, true);
    int rc;

    ck_assert_int_eq(server_start(lab->transport, lab->address, &ops, &lab->server, err), 0);
    rc = destination_confirm(&options, &node->ledger.record, err);
    server_stop(lab->server, "the test is over");
    return rc;
}

static int adopt_waiting(void *opaque, struct destination_found *ret_found, struct drafter_error *err)
{
    (void)opaque;
    (void)err;
    *ret_found = (struct destination_found){.owned = true, .phase = DRAFTER_VMM_WAITING};
    return 0;
}

/* What a process that died left of an arrival of which nothing is here yet. */
static void keep_arrival(struct lab *lab, struct destination_kept *kept)
{
    struct offer offer = {.epoch = 1, .live = true, .vm = "lab", .device_count = LAB_DEVICES};
    cleanup_free char *text = NULL;

    for (unsigned i = 0; i < LAB_DEVICES; i++) {
        memcpy(offer.devices[i].name, device_names[i], strlen(device_names[i]) + 1);
        offer.devices[i].size = device_sizes[i];
        offer.devices[i].block_size = 64 << 10;
    }
    memcpy(offer.token, lab->token, sizeof(offer.token));
    text = offer_encode(&offer);
    ck_assert_ptr_nonnull(text);
    *kept = (struct destination_kept){
        .layout = DESTINATION_KEPT_LAYOUT, .epoch = 2, .offer_length = (uint32_t)strlen(text)};
    memcpy(kept->offer, text, strlen(text) + 1);
    memcpy(kept->identity, lab->identity, sizeof(kept->identity));
}

enum destination_outcome lab_adopt(struct lab *lab, bool overruled, struct drafter_error *err)
{
    struct lab_node *node = &lab->nodes[1];
    const struct server_ops ops = {.begin = begin, .end = end, .stranger = overruled ? overrule : NULL};
    cleanup_free struct destination_kept *kept = malloc(sizeof(*kept));
    struct destination_options options = arrival_options(node, false);
    struct destination *destination;
    enum destination_outcome outcome;

    ck_assert_ptr_nonnull(kept);
    keep_arrival(lab, kept);
    options.kept = kept;
    options.adopt = true;
    options.vm.adopt = adopt_waiting;
    ck_assert_int_eq(destination_new(&options, &destination, err), 0);
    ck_assert_int_eq(server_start(lab->transport, lab->address, &ops, &lab->server, err), 0);
    outcome = destination_run(destination, err);
    server_stop(lab->server, "the test is over");
    destination_free(destination);
    return outcome;
}

/* Life */

static struct instance *new_transport(struct lab *lab, const char *plugin, const char *const *options)
{
    struct drafter_error err = {0};
    struct instance *made;

    ck_assert_msg(!instance_new(DRAFTER_KIND_TRANSPORT, NULL, plugin, options, "lab", lab->directory,
                                lab->below, &made, &err), "%s", err.message);
    return made;
}

/* A port of the loopback that is free now: a server that starts anew is to be found where it was. */
static void choose_port(char *ret_address, size_t size)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    snprintf(ret_address, size, "127.0.0.1:%u", ntohs(address.sin_port));
    close(fd);
}

/* Both nodes have the same key here, and trust it. */
static void connect_nodes(struct lab *lab, const char *below)
{
    char key[96], trust[96];
    const struct trust_key self = {.name = "self", .identity = lab->identity, .may = "pull push", .vms = "*"};
    struct drafter_error err = {0};

    snprintf(lab->address, sizeof(lab->address), "%s/socket", lab->directory);
    if (!below) {
        lab->transport = new_transport(lab, "null", NULL);
        return;
    }
    if (!strcmp(below, "tcp"))
        choose_port(lab->address, sizeof(lab->address));
    snprintf(key, sizeof(key), "%s/node", lab->directory);
    snprintf(trust, sizeof(trust), "%s/trust.ini", lab->directory);
    ck_assert_msg(!keygen_write(key, lab->identity, &err), "%s", err.message);
    ck_assert_msg(!trust_add(trust, &self, &err), "%s", err.message);
    trust_use(trust);
    snprintf(key, sizeof(key), "%s/node.key", lab->directory);
    lab->below = new_transport(lab, below, NULL);
    lab->transport = new_transport(lab, "tls", (const char *const[]){"key", key, NULL});
}

struct lab *lab_new(const char *below)
{
    struct lab *lab = calloc(1, sizeof(*lab));
    struct drafter_error err = {0};

    ck_assert_ptr_nonnull(lab);
    ck_assert_int_ge(sodium_init(), 0);
    memcpy(lab->directory, "/tmp/drafter-lab-XXXXXX", 24);
    ck_assert_ptr_nonnull(mkdtemp(lab->directory));
    pthread_mutex_init(&lab->lock, NULL);
    pthread_cond_init(&lab->changed, NULL);
    connect_nodes(lab, below);
    for (unsigned i = 0; i < 2; i++) {
        char directory[80];

        snprintf(directory, sizeof(directory), "%s/%u", lab->directory, i);
        lab->nodes[i].lab = lab;
        lab->nodes[i].name = i ? "B" : "A";
        ck_assert_int_eq(ledger_open(directory, "lab", &lab->nodes[i].ledger, &err), 0);
    }
    lab->live = true;
    return lab;
}

void lab_boot(struct lab *lab)
{
    struct lab_node *node = &lab->nodes[0];
    struct drafter_error err = {0};

    open_node(node);
    lab->vm = lab_vm_new(node->blocks);
    ck_assert_int_eq(ledger_write(&node->ledger, LEDGER_OWNED, 1, "", NULL, &err), 0);
    if (lab->live) {
        lab_vm_resume(lab->vm, node->blocks);
        node->runs = true;
    }
}

void lab_free(struct lab *lab)
{
    struct drafter_error err = {0};

    lab_vm_free(lab->vm);
    for (unsigned i = 0; i < 2; i++) {
        close_node(&lab->nodes[i]);
        ledger_close(&lab->nodes[i].ledger);
    }
    instance_free(lab->transport);
    instance_free(lab->below);
    ck_assert_int_eq(io_remove_tree(lab->directory, &err), 0);
    free(lab);
}

void lab_set_rate(struct lab *lab, unsigned writes_per_ms)
{
    lab_vm_set_rate(lab->vm, writes_per_ms);
}

void lab_check_content(struct lab *lab, unsigned index)
{
    struct lab_node *node = &lab->nodes[index];

    lab_vm_pause(lab->vm);
    lab_vm_verify(lab->vm, node->blocks);
    if (lab->live)
        lab_vm_resume(lab->vm, node->blocks);
}

void lab_check_runs(struct lab *lab, unsigned index)
{
    ck_assert(lab->nodes[index].runs);
    ck_assert(!lab->nodes[!index].runs);
    ck_assert_msg(lab_vm_progresses(lab->vm), "the guest does not go on");
}

void lab_check_owner(struct lab *lab, unsigned index)
{
    const struct ledger_record *mine = &lab->nodes[index].ledger.record;
    const struct ledger_record *other = &lab->nodes[!index].ledger.record;

    ck_assert_int_eq(mine->state, LEDGER_OWNED);
    ck_assert_int_ne(other->state, LEDGER_OWNED);
    ck_assert_int_ne(other->state, LEDGER_INCOMPLETE);
    ck_assert_uint_ge(mine->epoch + (other->state == LEDGER_REFUSED), other->epoch);
}

void lab_set_workload(struct lab *lab, const char *name)
{
    const char *source = getenv("abs_top_srcdir");
    char memory[1024], disk[1024];

    ck_assert_ptr_nonnull(source);
    snprintf(memory, sizeof(memory), "%s/tests/integration/workload/%s-memory.binlog", source, name);
    snprintf(disk, sizeof(disk), "%s/tests/integration/workload/%s-disk.binlog", source, name);
    lab_vm_set_workload(lab->vm, memory, disk);
}
