/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tls transport against plain tcp, against what libsodium's bare AEAD allows, and against OpenSSL.  One
 * JSON line per figure; rounds alternate (A-B-A-B), and the ratio is the median of those of the pairs: what
 * else the machine does then counts for both sides, or for few of the pairs.
 *
 *     bench-tls [ROUNDS [FIGURES]]        those whose names begin so
 *
 *     tls/seal_*, tls/open_*   one thread, 16 KiB records, in memory: nothing but the cipher
 *     tls/loopback_*           a thread that sends and one that receives, over TCP on the loopback: the
 *                              kernel's copies are part of both sides' figures
 *     tls/1gbit_*              the same through a relay of 1 Gbit/s and 2 ms
 *
 * The first two are in megabytes per second of processor time, of all threads together: what is asked is what the
 * bytes cost, whoever else uses the machine.  The last is in megabytes per second.
 *
 * What is sent looks like a migration's streams: a frame's header and 1 MiB of pages.  Handshakes are not
 * in the figures.  Needs DRAFTER_PLUGIN_PATH, and drafter-relay in DRAFTER_RELAY or ../relay.
 */
#include "bench-tls.h"

#include "alert.h"
#include "plugin/transport.h"
#include "record.h"
#include "trust/keygen.h"
#include "trust/trust.h"
#include "util/io.h"
#include "util/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS_MAX 25
#define FRAME_HEADER 48
#define FRAME_DATA (1u << 20)
#define FRAME (FRAME_HEADER + FRAME_DATA)
#define FRAMES_FAST 192 /* of a round on the loopback */
#define FRAMES_SLOW 72  /* behind the relay */
#define RECORDS 2048    /* of a round in memory */
#define SEALED (TLS_RECORD_HEADER + TLS_PLAINTEXT_MAX + TLS_RECORD_TAG)

/* As in the program: what plugins may call must be linked in. */
void *const bench_exports[] = {(void *)drafter_now_ns, (void *)drafter_next_transport,
                               (void *)drafter_error_wrap, (void *)drafter_trust_find};

/* Both ends of a connection, for one round. */
struct line {
    struct transport_connection *near, *far;
    struct transport_listener *listener;
    unsigned frames;
};

static char directory[] = "/tmp/bench-tls.XXXXXX";
static char key_path[64], certificate_path[64];
static struct instance *tcp, *tls;

void bench_die(const char *what, const char *why)
{
    fprintf(stderr, "bench-tls: %s: %s\n", what, why);
    io_remove_tree(directory, NULL);
    abort();
}

static struct instance *make(const char *plugin, const char *const *options, struct instance *next)
{
    struct drafter_error err = {0};
    struct instance *made;

    if (instance_new(DRAFTER_KIND_TRANSPORT, NULL, plugin, options, plugin, directory, next, &made, &err))
        bench_die(plugin, err.message);
    return made;
}

static void setup(void)
{
    char identity[DRAFTER_IDENTITY_SIZE], path[64];
    const struct trust_key self = {.name = "self", .identity = identity, .may = "", .vms = "*"};
    struct drafter_error err = {0};

    if (sodium_init() < 0 || !mkdtemp(directory))
        bench_die(directory, "cannot be made");
    snprintf(path, sizeof(path), "%s/node", directory);
    snprintf(key_path, sizeof(key_path), "%s/node.key", directory);
    snprintf(certificate_path, sizeof(certificate_path), "%s/node.crt", directory);
    if (keygen_write(path, identity, &err))
        bench_die("key", err.message);
    snprintf(path, sizeof(path), "%s/trust.ini", directory);
    trust_use(path);
    if (trust_add(path, &self, &err))
        bench_die("trust", err.message);
    tcp = make("tcp", NULL, NULL);
    tls = make("tls", (const char *const[]){"key", key_path, NULL}, tcp);
}

uint64_t bench_cpu_ns(void)
{
    struct timespec used;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

/* ---- in memory -------------------------------------------------------------------------------- */

static uint8_t plain[TLS_PLAINTEXT_MAX], sealed[TLS_SEALED_SIZE(TLS_PLAINTEXT_MAX)];
static struct tls_keys send_keys, receive_keys;

static void seal_ours(void)
{
    const struct iovec piece = {plain, sizeof(plain)};
    struct tls_cursor cursor = {.vector = &piece, .count = 1};

    tls_seal(&send_keys, TLS_APPLICATION_DATA, &cursor, sizeof(plain), sealed);
}

static void seal_theirs(void)
{
    uint8_t nonce[TLS_NONCE_SIZE];

    tls_nonce(send_keys.iv, send_keys.sequence++, nonce);
    crypto_aead_chacha20poly1305_ietf_encrypt(sealed + TLS_RECORD_HEADER, NULL, plain, sizeof(plain), sealed,
                                              TLS_RECORD_HEADER, NULL, nonce, send_keys.key);
}

static void open_ours(void)
{
    struct tls_opened opened;

    receive_keys.sequence = 0; /* the same record again and again */
    if (tls_open(&receive_keys, sealed, sizeof(sealed), &opened) != TLS_OK)
        bench_die("record", "does not open");
    tls_take(&receive_keys, &opened, plain, opened.length);
}

static void open_theirs(void)
{
    uint8_t nonce[TLS_NONCE_SIZE];

    tls_nonce(receive_keys.iv, 0, nonce);
    if (crypto_aead_chacha20poly1305_ietf_decrypt(plain, NULL, NULL, sealed + TLS_RECORD_HEADER,
                                                  SEALED - TLS_RECORD_HEADER, sealed, TLS_RECORD_HEADER,
                                                  nonce, receive_keys.key))
        bench_die("record", "does not open with libsodium");
}

static double time_records(void (*work)(void))
{
    uint64_t start = bench_cpu_ns();

    for (unsigned i = 0; i < RECORDS; i++)
        work();
    return RECORDS * (double)sizeof(plain) * 1e3 / (double)(bench_cpu_ns() - start);
}

static double records_seal(bool ours)
{
    send_keys.sequence = 1;
    return time_records(ours ? seal_ours : seal_theirs);
}

static double records_open(bool ours)
{
    send_keys.sequence = 0; /* what is opened */
    (ours ? seal_ours : seal_theirs)();
    return time_records(ours ? open_ours : open_theirs);
}

/* ---- over connections -------------------------------------------------------------------------- */

static void *connect_main(void *opaque)
{
    struct line *line = opaque;
    struct drafter_error err = {0};

    if (transport_accept(line->listener, &line->far, &err))
        bench_die("accept", err.message);
    return NULL;
}

/* A relay of 1 Gbit/s in front of an address, which it replaces. */
static pid_t start_relay(char *address, size_t size)
{
    const char *program = getenv("DRAFTER_RELAY") ? getenv("DRAFTER_RELAY") : "../relay/drafter-relay";
    const char *const argv[] = {program, "--listen", "127.0.0.1:0", "--to", address, "--rtt", "2", "--rate",
                                "1g", NULL};
    struct drafter_error err = {0};
    char text[256] = "", *found;
    int fds[2];
    pid_t pid;
    FILE *out;

    if (pipe2(fds, O_CLOEXEC))
        bench_die("pipe", strerror(errno));
    if (proc_spawn(&(struct proc_spec){.argv = argv, .stdin_fd = -1, .stdout_fd = fds[1], .stderr_fd = 2,
                                       .die_with_parent = true}, &pid, &err))
        bench_die(program, err.message);
    close(fds[1]);
    out = fdopen(fds[0], "r");
    found = out && fgets(text, sizeof(text), out) ? strstr(text, "tcp:") : NULL;
    if (!found)
        bench_die(program, "does not say where it listens");
    snprintf(address, size, "%s", found + 4);
    address[strcspn(address, " \n")] = '\0';
    fclose(out);
    return pid;
}

static void close_line(struct line *line)
{
    transport_close(line->near);
    transport_close(line->far);
    transport_listener_close(line->listener);
}

static pid_t open_line(struct instance *transport, bool relayed, struct line *line)
{
    struct drafter_error err = {0};
    char address[256];
    pthread_t thread;
    pid_t relay = -1;

    if (transport_listen(transport, "127.0.0.1:0", &line->listener, &err))
        bench_die("listen", err.message);
    transport_listener_address(line->listener, address, sizeof(address));
    if (relayed)
        relay = start_relay(address, sizeof(address));
    if (pthread_create(&thread, NULL, connect_main, line))
        bench_die("thread", "cannot start");
    if (transport_connect(transport, address, 10000, &line->near, &err))
        bench_die("connect", err.message);
    pthread_join(thread, NULL);
    return relay;
}

static void must_write(struct transport_connection *connection, struct iovec *vector, int count)
{
    if (transport_writev_full(connection, vector, count))
        bench_die("write", "failed");
}

static void *send_frames(void *opaque)
{
    struct line *line = opaque;
    uint8_t header[FRAME_HEADER] = {0}, *data = calloc(1, FRAME_DATA);

    for (unsigned i = 0; data && i < line->frames; i++) {
        struct iovec vector[] = {{header, sizeof(header)}, {data, FRAME_DATA}};

        must_write(line->near, vector, 2);
    }
    free(data);
    return NULL;
}

static void receive_frames(struct line *line)
{
    uint8_t header[FRAME_HEADER], *data = malloc(FRAME_DATA);

    for (unsigned i = 0; i < line->frames; i++)
        if (!data || transport_read_full(line->far, header, sizeof(header)) ||
            transport_read_full(line->far, data, FRAME_DATA))
            bench_die("read", "failed");
    free(data);
}

/* Records of the bare AEAD, sixteen to a call, over the same plain tcp: what there is to be had. */
static void *send_aead(void *opaque)
{
    struct line *line = opaque;
    uint8_t *out = calloc(16, SEALED), *data = calloc(1, FRAME_DATA), nonce[TLS_NONCE_SIZE] = {0};
    size_t batch = 0;

    for (unsigned i = 0; out && data && i < line->frames * (FRAME_DATA / TLS_PLAINTEXT_MAX); i++) {
        uint8_t *record = out + batch++ * SEALED;
        const uint8_t *from = data + i % (FRAME_DATA / TLS_PLAINTEXT_MAX) * TLS_PLAINTEXT_MAX;

        tls_nonce(send_keys.iv, i, nonce);
        crypto_aead_chacha20poly1305_ietf_encrypt(record + TLS_RECORD_HEADER, NULL, from, TLS_PLAINTEXT_MAX,
                                                  record, TLS_RECORD_HEADER, NULL, nonce, send_keys.key);
        if (batch == 16) {
            must_write(line->near, &(struct iovec){out, 16 * SEALED}, 1);
            batch = 0;
        }
    }
    free(out);
    free(data);
    return NULL;
}

static void receive_aead(struct line *line)
{
    uint8_t *in = malloc((size_t)16 * SEALED), *data = malloc(FRAME_DATA), nonce[TLS_NONCE_SIZE];
    size_t here = 0, records = (size_t)line->frames * (FRAME_DATA / TLS_PLAINTEXT_MAX), done = 0;

    while (in && data && done < records) {
        struct iovec piece = {in + here, (size_t)16 * SEALED - here};
        ssize_t got = transport_readv(line->far, &piece, 1);
        size_t at = 0;

        if (got <= 0)
            bench_die("read", "failed");
        for (here += (size_t)got; here - at >= SEALED; at += SEALED, done++) {
            tls_nonce(send_keys.iv, done, nonce);
            if (crypto_aead_chacha20poly1305_ietf_decrypt(
                    data + done % (FRAME_DATA / TLS_PLAINTEXT_MAX) * TLS_PLAINTEXT_MAX, NULL, NULL,
                    in + at + TLS_RECORD_HEADER, SEALED - TLS_RECORD_HEADER, in + at, TLS_RECORD_HEADER,
                    nonce, send_keys.key))
                bench_die("record", "does not open");
        }
        memmove(in, in + at, here - at);
        here -= at;
    }
    free(in);
    free(data);
}

/* MB/s of one round, through the relay in real time. */
static double transfer(struct instance *transport, bool relayed, unsigned frames, bool aead)
{
    struct line line = {.frames = frames};
    pid_t relay = open_line(transport, relayed, &line);
    uint64_t (*clock)(void) = relayed ? drafter_now_ns : bench_cpu_ns;
    uint64_t start = clock(), took;
    pthread_t thread;

    if (pthread_create(&thread, NULL, aead ? send_aead : send_frames, &line))
        bench_die("thread", "cannot start");
    (aead ? receive_aead : receive_frames)(&line);
    took = clock() - start;
    pthread_join(thread, NULL);
    close_line(&line);
    if (relay > 0)
        proc_stop(relay, 1000);
    return (double)frames * FRAME_DATA * 1e3 / (double)took;
}

static double loopback_plain(bool ours)
{
    return transfer(ours ? tls : tcp, false, FRAMES_FAST, false);
}

static double loopback_aead(bool ours)
{
    return transfer(ours ? tls : tcp, false, FRAMES_FAST, !ours);
}

static double relay_plain(bool ours)
{
    return transfer(ours ? tls : tcp, true, FRAMES_SLOW, false);
}

#ifdef BENCH_OPENSSL
static double loopback_openssl(bool ours, const char *suite)
{
    return ours ? transfer(tls, false, FRAMES_FAST, false)
                : bench_openssl(suite, key_path, certificate_path, (uint64_t)FRAMES_FAST * FRAME_DATA);
}

static double loopback_openssl_chacha(bool ours)
{
    return loopback_openssl(ours, "TLS_CHACHA20_POLY1305_SHA256");
}

static double loopback_openssl_aes(bool ours)
{
    return loopback_openssl(ours, "TLS_AES_128_GCM_SHA256");
}
#endif

/* ---- report ------------------------------------------------------------------------------------ */

static const struct figure {
    const char *name, *other;
    double (*run)(bool ours); /* megabytes per second */
    double target;            /* of the ratio; 0: none */
} figures[] = {
    {"tls/seal_MB_cpu_s", "libsodium AEAD", records_seal, 0.95},
    {"tls/open_MB_cpu_s", "libsodium AEAD", records_open, 0.95},
    {"tls/loopback_aead_MB_cpu_s", "libsodium AEAD over the same tcp", loopback_aead, 0.95},
    {"tls/loopback_plain_MB_cpu_s", "plain tcp", loopback_plain, 0},
#ifdef BENCH_OPENSSL
    {"tls/loopback_openssl_MB_cpu_s", "openssl chacha20-poly1305", loopback_openssl_chacha, 0},
    {"tls/loopback_openssl_aes_MB_cpu_s", "openssl aes-128-gcm", loopback_openssl_aes, 0},
#endif
    {"tls/1gbit_MB_s", "plain tcp", relay_plain, 0.98},
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void measure(const struct figure *figure, unsigned rounds)
{
    double values[3][ROUNDS_MAX], *ours = values[0], *theirs = values[1], *ratios = values[2];

    for (unsigned i = 0; i < rounds; i++) {
        ours[i] = figure->run(true);
        theirs[i] = figure->run(false);
        ratios[i] = ours[i] / theirs[i];
    }
    qsort(ours, rounds, sizeof(*ours), compare);
    qsort(theirs, rounds, sizeof(*theirs), compare);
    qsort(ratios, rounds, sizeof(*ratios), compare);
    printf("{\"bench\": \"%s\", \"ours\": %.1f, \"other\": \"%s\", \"theirs\": %.1f, \"ratio\": %.4f, ",
           figure->name, ours[rounds / 2], figure->other, theirs[rounds / 2],
           ratios[rounds / 2]);
    if (figure->target > 0)
        printf("\"target\": %.2f, ", figure->target);
    printf("\"ratio_spread\": [%.4f, %.4f], \"ours_spread\": [%.1f, %.1f], "
           "\"theirs_spread\": [%.1f, %.1f], \"rounds\": %u}\n",
           ratios[0], ratios[rounds - 1], ours[0], ours[rounds - 1], theirs[0], theirs[rounds - 1], rounds);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 11;

    if (rounds == 0 || rounds > ROUNDS_MAX)
        rounds = 11;
    setup();
    for (size_t i = 0; i < sizeof(figures) / sizeof(*figures); i++)
        if (argc < 3 || !strncmp(figures[i].name, argv[2], strlen(argv[2])))
            measure(&figures[i], rounds);
    instance_free(tls);
    instance_free(tcp);
    io_remove_tree(directory, NULL);
    return 0;
}
