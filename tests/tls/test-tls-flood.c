/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Peers that nobody knows, over TCP on the loopback: what they cost, how soon they are refused, and that ten
 * thousand of them do not keep a real one out.
 */
#include "../unit/unit.h"
#include "pair.h"
#include "plugin/transport.h"
#include "trust/keygen.h"
#include "trust/trust.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#define HALF_OPEN 10000
#define HANDSHAKES_MAX 256
#define COST_MAX 16384
#define REFUSAL_MS 5
#define BEHIND_MS 1000 /* a busy machine's; on a quiet one it takes 10 */
#define ATTEMPTS 50

static char *directory;
static struct instance *below, *transport;
static struct transport_listener *listener;
static struct sockaddr_in target = {.sin_family = AF_INET};
static char address[64];

static void begin(const char *const *options)
{
    const char *given[8] = {"key", NULL};
    char identity[DRAFTER_IDENTITY_SIZE], *path, *key;
    const struct trust_key self = {.name = "self", .identity = identity, .may = "", .vms = "*"};
    struct drafter_error err = {0};

    directory = unit_make_directory();
    path = unit_path(directory, "trust.ini");
    key = unit_path(directory, "node");
    trust_use(path);
    ck_assert_int_eq(keygen_write(key, identity, &err), 0);
    ck_assert_int_eq(trust_add(path, &self, &err), 0);
    free(path);
    given[1] = path = unit_path(directory, "node.key");
    for (int i = 0; options[i]; i++)
        given[2 + i] = options[i];
    ck_assert_int_eq(instance_new(DRAFTER_KIND_TRANSPORT, NULL, "tcp", NULL, "tcp", directory, NULL, &below,
                                  &err), 0);
    ck_assert_msg(instance_new(DRAFTER_KIND_TRANSPORT, NULL, "tls", given, "tls", directory, below, &transport,
                               &err) == 0, "%s", err.message);
    ck_assert_int_eq(transport_listen(transport, "127.0.0.1:0", &listener, &err), 0);
    transport_listener_address(listener, address, sizeof(address));
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    target.sin_port = htons((uint16_t)strtoul(strrchr(address, ':') + 1, NULL, 10));
    free(path);
    free(key);
}

static void setup(void)
{
    begin((const char *const[]){"handshake-timeout", "60s", NULL});
}

static void teardown(void)
{
    transport_listener_close(listener);
    instance_free(transport);
    instance_free(below);
    unit_drop_directory(directory);
}

/* A connection on which these bytes were said. */
static int say(const uint8_t *bytes, size_t length)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&target, sizeof(target)), 0);
    ck_assert_int_eq(send(fd, bytes, length, MSG_NOSIGNAL), (ssize_t)length);
    return fd;
}

/* A connection on which so many bytes of a ClientHello were said. */
static int half_open(size_t length)
{
    static const uint8_t hello[600] = {22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3};

    return say(hello, length);
}

/* One on which all of a ClientHello was said, and the server's answer came. */
static int greeted(const struct pair *pair)
{
    int fd = say(pair->client.handshake.out, pair->client.handshake.out_length);
    uint8_t answer;

    ck_assert_int_eq(recv(fd, &answer, 1, 0), 1);
    ck_assert_int_eq(answer, 22); /* ServerHello, no alert */
    return fd;
}

static void *accept_main(void *result)
{
    struct transport_connection *connection;
    struct drafter_error err = {0};

    if (transport_accept(listener, &connection, &err) == 0)
        *(struct transport_connection **)result = connection;
    return NULL;
}

/* A real peer connects; how long it took, in milliseconds. */
static double real_one(void)
{
    struct transport_connection *near = NULL, *far = NULL;
    uint64_t start = drafter_now_ns();
    struct drafter_error err = {0};
    pthread_t thread;
    double took;

    ck_assert_int_eq(pthread_create(&thread, NULL, accept_main, &far), 0);
    ck_assert_msg(transport_connect(transport, address, 20000, &near, &err) == 0, "%s", err.message);
    pthread_join(thread, NULL);
    took = (double)(drafter_now_ns() - start) / 1e6;
    ck_assert_ptr_nonnull(far);
    transport_close(near);
    transport_close(far);
    return took;
}

START_TEST(ten_thousand_half_open_handshakes_do_not_stop_a_real_one)
{
    struct rlimit limit = {HALF_OPEN + 2000, HALF_OPEN + 2000};
    static int fds[HALF_OPEN];
    double took;

    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
        printf("this process may not have so many descriptors\n");
        return;
    }
    for (int i = 0; i < HALF_OPEN; i++)
        fds[i] = half_open((size_t)(i % 3) * 100);
    took = real_one();
    printf("real handshake behind %d half-open ones: %.1f ms\n", HALF_OPEN, took);
    ck_assert_double_lt(took, BEHIND_MS);
    for (int i = 0; i < HALF_OPEN; i++)
        close(fds[i]);
}
END_TEST

/* Opens connections and says half a hello, without an end; a thousand of them at a time stay open. */
static void *flood_main(void *opaque)
{
    atomic_bool *stop = opaque;
    int fds[1000], count = 0;

    for (; !atomic_load(stop); count++) {
        if (count >= 1000)
            close(fds[count % 1000]);
        fds[count % 1000] = half_open(100);
    }
    printf("%d half-open handshakes came meanwhile\n", count);
    for (int i = 0; i < count && i < 1000; i++)
        close(fds[i]);
    return NULL;
}

static void *accept_all_main(void *unused)
{
    struct transport_connection *connection;
    struct drafter_error err = {0};

    (void)unused;
    while (transport_accept(listener, &connection, &err) == 0)
        transport_close(connection);
    return NULL;
}

START_TEST(a_real_handshake_gets_in_while_a_flood_goes_on)
{
    struct rlimit limit = {HALF_OPEN, HALF_OPEN};
    struct transport_connection *near = NULL;
    pthread_t flood, accepting;
    atomic_bool stop = false;
    struct drafter_error err = {0};
    int attempts = 0;

    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(pthread_create(&accepting, NULL, accept_all_main, NULL), 0);
    ck_assert_int_eq(pthread_create(&flood, NULL, flood_main, &stop), 0);
    poll(NULL, 0, 100); /* until all places are taken */
    while (!near && attempts++ < ATTEMPTS)
        transport_connect(transport, address, 2000, &near, &err);
    atomic_store(&stop, true);
    pthread_join(flood, NULL);
    printf("a real handshake got in at attempt %d\n", attempts);
    ck_assert_msg(near, "%s", err.message);
    transport_close(near);
    transport_listener_shutdown(listener);
    pthread_join(accepting, NULL);
}
END_TEST

static size_t resident(void)
{
    char text[256] = "";
    FILE *file = fopen("/proc/self/statm", "re");
    size_t size = 0, pages = 0;

    ck_assert_ptr_nonnull(file);
    ck_assert_ptr_nonnull(fgets(text, sizeof(text), file));
    ck_assert_int_eq(sscanf(text, "%zu %zu", &size, &pages), 2);
    fclose(file);
    return pages * 4096;
}

START_TEST(an_unknown_peer_costs_little)
{
    static int fds[HANDSHAKES_MAX - 6];
    const int count = sizeof(fds) / sizeof(*fds);
    struct pair *pair = pair_new();
    size_t before, after;
    int first;

    pair_begin(pair, NULL, NULL);
    first = _i ? greeted(pair) : half_open(400);

    real_one(); /* what is made once is made */
    before = resident();
    for (int i = 0; i < count; i++)
        fds[i] = _i ? greeted(pair) : half_open(400);
    for (int i = 0; i < 50; i++)
        poll(NULL, 0, 10); /* until the threads have read what there is */
    after = resident();
    printf("%zu bytes for each that said %s ClientHello\n", (after - before) / (size_t)count,
           _i ? "a whole" : "half a");
    if (!strcmp(getenv("SANITIZERS") ? getenv("SANITIZERS") : "no", "no"))
        ck_assert_uint_le((after - before) / (size_t)count, COST_MAX);
    for (int i = 0; i < count; i++)
        close(fds[i]);
    close(first);
    pair_free(pair);
}
END_TEST

START_TEST(a_refusal_comes_at_once)
{
    static const uint8_t noise[] = {22, 3, 1, 0, 4, 1, 0, 0, 0};
    double best = 1000;

    for (int i = 0; i < 10 && best > REFUSAL_MS; i++) {
        int fd = half_open(0);
        uint64_t start = drafter_now_ns();
        uint8_t answer[64];
        double took;

        ck_assert_int_eq(send(fd, noise, sizeof(noise), MSG_NOSIGNAL), sizeof(noise));
        ck_assert_int_eq(recv(fd, answer, sizeof(answer), 0), 7);
        took = (double)(drafter_now_ns() - start) / 1e6;
        ck_assert_int_eq(answer[0], 21);
        ck_assert_int_eq(answer[6], 50); /* decode_error */
        best = took < best ? took : best;
        close(fd);
    }
    printf("refused within %.2f ms\n", best);
    ck_assert_double_le(best, REFUSAL_MS);
}
END_TEST

/* Silent, or with a byte now and then. */
START_TEST(who_does_not_come_to_an_end_is_cut_off)
{
    struct timeval patience = {.tv_sec = 10};
    uint64_t start;
    uint8_t answer[64];
    int fd;

    teardown();
    begin((const char *const[]){"handshake-timeout", "200ms", NULL});
    start = drafter_now_ns();
    fd = half_open(100);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    for (int i = 0; _i && i < 100 && recv(fd, answer, 1, MSG_PEEK | MSG_DONTWAIT) < 0; i++) {
        ck_assert_int_eq(send(fd, "", 1, MSG_NOSIGNAL), 1);
        poll(NULL, 0, 50);
    }
    ck_assert_int_eq(recv(fd, answer, sizeof(answer), 0), 7);
    ck_assert_int_eq(answer[0], 21);
    ck_assert_int_eq(answer[6], 90); /* user_canceled */
    ck_assert_uint_ge(drafter_now_ns() - start, UINT64_C(200000000));
    ck_assert_uint_lt(drafter_now_ns() - start, UINT64_C(5000000000));
    close(fd);
}
END_TEST

/* Whether the server has closed this connection, or does so in time. */
static bool ends(int fd, int timeout_ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    uint8_t byte;

    return poll(&wait, 1, timeout_ms) == 1 && recv(fd, &byte, 1, MSG_DONTWAIT) <= 0;
}

START_TEST(who_is_one_too_many_takes_the_place_of_the_oldest)
{
    int fds[6];

    teardown();
    begin((const char *const[]){"handshake-timeout", "60s", "handshakes-max", "4", NULL});
    for (int i = 0; i < 6; i++) {
        if (i >= 4)
            ck_assert_msg(!ends(fds[i - 4], 100), "%d of 4", i);
        fds[i] = half_open(100);
        if (i >= 4)
            ck_assert(ends(fds[i - 4], 5000));
        else
            poll(NULL, 0, 20); /* until its worker has it, so that it is older than the next */
    }
    for (int i = 2; i < 6; i++)
        ck_assert(!ends(fds[i], 0));
    for (int i = 0; i < 6; i++)
        close(fds[i]);
}
END_TEST

/* What the rule about plain transports asks. */
START_TEST(a_transport_says_whom_it_admits_and_how_far_it_reaches)
{
    ck_assert(!transport_admits_unknown(transport));
    ck_assert(transport_leaves_host(transport, "192.0.2.1:1", false));
    ck_assert(transport_leaves_host(transport, "0.0.0.0:1", true));
    ck_assert(!transport_leaves_host(transport, "127.0.0.1:1", true));
    teardown();
    begin((const char *const[]){"require-client", "no", NULL});
    ck_assert(transport_admits_unknown(transport));
}
END_TEST

/* Reads one record whole: its length. */
static size_t hear(int fd, uint8_t *record, size_t size)
{
    size_t length;

    ck_assert_int_eq(recv(fd, record, 5, MSG_WAITALL), 5);
    length = 5 + ((size_t)record[3] << 8 | record[4]);
    ck_assert_uint_le(length, size);
    ck_assert_int_eq(recv(fd, record + 5, length - 5, MSG_WAITALL), (ssize_t)length - 5);
    return length;
}

/* Somebody with a key that is not trusted does everything right; how long after its last words the alert came. */
static double stranger(struct pair *pair)
{
    struct tls_handshake *client = &pair->client.handshake;
    uint8_t record[8192], alert[2];
    struct tls_opened opened;
    uint64_t start;
    size_t length;
    double took;
    int fd;

    pair_begin(pair, NULL, NULL);
    fd = say(client->out, client->out_length);
    tls_handshake_drop_out(client);
    while (client->state != TLS_DONE)
        ck_assert_int_eq(pair_give(&pair->client, record, hear(fd, record, sizeof(record))), 0);
    start = drafter_now_ns();
    ck_assert_int_eq(send(fd, client->out, client->out_length, MSG_NOSIGNAL), (ssize_t)client->out_length);
    length = hear(fd, record, sizeof(record));
    took = (double)(drafter_now_ns() - start) / 1e6;
    ck_assert_int_eq(tls_open(&pair->client.secrets.receive, record, length, &opened), TLS_OK);
    ck_assert_int_eq(opened.type, TLS_ALERT);
    ck_assert_uint_eq(opened.length, sizeof(alert));
    tls_take(&pair->client.secrets.receive, &opened, alert, sizeof(alert));
    ck_assert_int_eq(alert[1], TLS_ALERT_UNKNOWN_CA);
    close(fd);
    return took;
}

START_TEST(an_unknown_key_is_refused_at_once)
{
    struct pair *pair = pair_new();
    double best = 1000;

    for (int i = 0; i < 10 && best > REFUSAL_MS; i++) {
        double took = stranger(pair);

        best = took < best ? took : best;
    }
    printf("an unknown key was refused within %.2f ms\n", best);
    ck_assert_double_le(best, REFUSAL_MS);
    pair_free(pair);
}
END_TEST

struct slow {
    int listener;
    uint8_t said[4096]; /* by the peer once it was there */
    ssize_t length;
};

/* Lets nobody in for longer than a handshake may take: the first one, who fills the queue, and the one behind. */
static void *slow_main(void *opaque)
{
    static const struct timespec pause = {0, 200000000};
    struct slow *slow = opaque;
    int filler, fd;

    nanosleep(&pause, NULL);
    filler = accept(slow->listener, NULL, NULL);
    fd = accept(slow->listener, NULL, NULL);
    slow->length = recv(fd, slow->said, sizeof(slow->said), 0);
    close(filler);
    close(fd);
    return NULL;
}

START_TEST(a_slow_way_to_a_peer_is_not_counted_as_its_handshake)
{
    char *key = unit_path(directory, "node.key"), *path = unit_path(directory, "slow");
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    struct slow slow = {.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    int filler = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct transport_connection *connection = NULL;
    struct instance *next, *layer;
    struct drafter_error err = {0};
    pthread_t thread;

    snprintf(where.sun_path, sizeof(where.sun_path), "%s", path);
    ck_assert_int_eq(bind(slow.listener, (struct sockaddr *)&where, sizeof(where)), 0);
    ck_assert_int_eq(listen(slow.listener, 0), 0);
    ck_assert_int_eq(connect(filler, (struct sockaddr *)&where, sizeof(where)), 0);
    ck_assert_int_eq(instance_new(DRAFTER_KIND_TRANSPORT, NULL, "unix", NULL, "unix", directory, NULL, &next,
                                  &err), 0);
    ck_assert_int_eq(instance_new(DRAFTER_KIND_TRANSPORT, NULL, "tls",
                                  (const char *const[]){"key", key, "handshake-timeout", "100ms", NULL},
                                  "slow", directory, next, &layer, &err), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, slow_main, &slow), 0);
    ck_assert_int_lt(transport_connect(layer, path, 5000, &connection, &err), 0);
    pthread_join(thread, NULL);
    ck_assert_int_gt(slow.length, 5); /* its ClientHello, and not at once that it gives up */
    ck_assert_int_eq(slow.length, 5 + (slow.said[3] << 8 | slow.said[4]));
    close(filler);
    close(slow.listener);
    instance_free(layer);
    instance_free(next);
    free(key);
    free(path);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, ten_thousand_half_open_handshakes_do_not_stop_a_real_one);
    tcase_add_test(tests, a_real_handshake_gets_in_while_a_flood_goes_on);
    tcase_add_test(tests, who_is_one_too_many_takes_the_place_of_the_oldest);
    tcase_add_test(tests, a_transport_says_whom_it_admits_and_how_far_it_reaches);
    tcase_add_loop_test(tests, an_unknown_peer_costs_little, 0, 2);
    tcase_add_loop_test(tests, who_does_not_come_to_an_end_is_cut_off, 0, 2);
    tcase_add_test(tests, a_refusal_comes_at_once);
    tcase_add_test(tests, a_slow_way_to_a_peer_is_not_counted_as_its_handshake);
    tcase_add_test(tests, an_unknown_key_is_refused_at_once);
}

int main(void)
{
    setbuf(stdout, NULL);
    return unit_run("tls-flood", add_tests);
}
