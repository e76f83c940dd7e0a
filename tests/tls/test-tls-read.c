/* SPDX-License-Identifier: BSD-2-Clause */
/* What a peer may say after its handshake, what it may not, and what is an end. */
#include "../unit/unit.h"
#include "connection.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define WIRE_SIZE 65536
#define MESSAGE(text) {TLS_HANDSHAKE, text, sizeof(text) - 1}
#define SHUT {TLS_ALERT, "\1\0", 2} /* close_notify */
#define HELLO {TLS_APPLICATION_DATA, "hello", 5}

static const uint8_t client_secret[TLS_HASH_SIZE] = {1}, server_secret[TLS_HASH_SIZE] = {2};

static struct {
    uint8_t in[WIRE_SIZE], out[WIRE_SIZE];
    size_t in_done, in_length, out_length;
    size_t piece; /* the most that a read has */
    unsigned delay_ms; /* before each read */
} wire;
static struct tls_config config;
static struct tls_instance instance;
static struct tls_connection *connection;
static struct tls_keys theirs, ours; /* to say something to the connection, and to hear it */
static uint8_t their_secret[TLS_HASH_SIZE], our_secret[TLS_HASH_SIZE];

static ssize_t wire_readv(void *below, const struct iovec *vector, int count)
{
    size_t part = wire.in_length - wire.in_done;

    (void)below, (void)count;
    if (wire.delay_ms)
        usleep(wire.delay_ms * 1000);
    if (part > wire.piece)
        part = wire.piece;
    if (part > vector->iov_len)
        part = vector->iov_len;
    memcpy(vector->iov_base, wire.in + wire.in_done, part);
    wire.in_done += part;
    return (ssize_t)part;
}

static ssize_t wire_writev(void *below, const struct iovec *vector, int count)
{
    (void)below, (void)count;
    ck_assert_uint_le(wire.out_length + vector->iov_len, WIRE_SIZE);
    memcpy(wire.out + wire.out_length, vector->iov_base, vector->iov_len);
    wire.out_length += vector->iov_len;
    return (ssize_t)vector->iov_len;
}

static int wire_set_timeout(void *below, unsigned timeout_ms)
{
    (void)below, (void)timeout_ms;
    return 0;
}

static int wire_peer_name(void *below, char *buffer, size_t size)
{
    (void)below;
    snprintf(buffer, size, "peer");
    return 0;
}

static void wire_close(void *below)
{
    (void)below;
}

static int64_t now(void)
{
    return 1800000000;
}

/* A client's end of a connection, or a server's. */
static void begin(bool server)
{
    static const struct drafter_transport_ops ops = {
        .readv = wire_readv, .writev = wire_writev, .set_timeout = wire_set_timeout, .peer_name = wire_peer_name,
        .shutdown = wire_close, .close = wire_close};

    ck_assert_int_ge(sodium_init(), 0);
    wire.in_done = wire.in_length = wire.out_length = 0;
    wire.piece = WIRE_SIZE;
    wire.delay_ms = 0;
    config.rekey_after = UINT64_C(1) << 40;
    instance = (struct tls_instance){.config = &config, .next = &ops, .context.now = now,
                                     .tickets = tls_tickets_new()};
    ck_assert_ptr_nonnull(instance.tickets);
    pthread_mutex_init(&instance.lock, NULL);
    tls_vault_init(&instance.vault);
    connection = tls_connection_new(&instance, &wire);
    ck_assert_ptr_nonnull(connection);
    ck_assert_int_eq(tls_connection_reserve(connection), 0);
    connection->server = server;
    snprintf(connection->address, sizeof(connection->address), "there");
    memcpy(connection->secrets->client_traffic, client_secret, TLS_HASH_SIZE);
    memcpy(connection->secrets->server_traffic, server_secret, TLS_HASH_SIZE);
    memcpy(their_secret, server ? client_secret : server_secret, TLS_HASH_SIZE);
    memcpy(our_secret, server ? server_secret : client_secret, TLS_HASH_SIZE);
    tls_keys_set(&theirs, their_secret);
    tls_keys_set(&ours, our_secret);
    connection->secrets->receive = theirs;
    connection->secrets->send = ours;
}

static void setup(void)
{
    begin(false);
}

static void teardown(void)
{
    tls_close(connection);
    tls_vault_release(&instance.vault);
    tls_tickets_free(instance.tickets);
    pthread_mutex_destroy(&instance.lock);
}

struct said {
    int type; /* 0: nothing more */
    const char *bytes;
    size_t length;
};

static void say(const struct said *said)
{
    const struct iovec piece = {(void *)said->bytes, said->length};
    struct tls_cursor cursor = {.vector = &piece, .count = 1};

    ck_assert_uint_le(wire.in_length + TLS_SEALED_SIZE(said->length), WIRE_SIZE);
    tls_seal(&theirs, said->type, &cursor, said->length, wire.in + wire.in_length);
    wire.in_length += TLS_SEALED_SIZE(said->length);
}

static void their_keys_change(void)
{
    tls_update_secret(their_secret);
    tls_keys_set(&theirs, their_secret);
}

/* The next record that the connection has written: its type, and its first byte after `skip`. */
static int heard(uint8_t *ret_bytes, size_t size)
{
    static size_t done;
    struct tls_opened opened;
    size_t length;

    if (done == wire.out_length)
        return 0;
    length = TLS_RECORD_HEADER + ((size_t)wire.out[done + 3] << 8 | wire.out[done + 4]);
    ck_assert_int_eq(tls_open(&ours, wire.out + done, length, &opened), TLS_OK);
    ck_assert_uint_le(opened.length, size);
    tls_take(&ours, &opened, ret_bytes, opened.length);
    done += length;
    return (int)opened.type;
}

/* All that can be read, and what is at its end. */
static ssize_t read_all(char ret_text[64])
{
    size_t total = 0;
    ssize_t rc;

    while ((rc = tls_readv(connection, &(struct iovec){ret_text + total, 63 - total}, 1)) > 0)
        total += (size_t)rc;
    ret_text[total] = '\0';
    ck_assert_int_eq(tls_readv(connection, &(struct iovec){(char[1]){0}, 1}, 1), rc); /* and it stays so */
    return rc;
}

/* ---- what ends it ----------------------------------------------------------------------------- */

static const struct {
    bool server;
    struct said said[4];
    int alert; /* that it is answered with */
} faults[] = {
    {false, {MESSAGE("\x18\0\0\1\2")}, TLS_ALERT_ILLEGAL_PARAMETER}, /* KeyUpdate */
    {true, {MESSAGE("\x18\0\0\1\2")}, TLS_ALERT_ILLEGAL_PARAMETER},
    {false, {MESSAGE("\x18\0\0\2\0\0")}, TLS_ALERT_DECODE_ERROR},
    {false, {MESSAGE("\x18\0\0\0")}, TLS_ALERT_DECODE_ERROR},
    {false, {MESSAGE("\x18\0\0\1\0\x18\0\0\1\0")}, TLS_ALERT_UNEXPECTED_MESSAGE}, /* more under the old keys */
    {false, {MESSAGE("\x18\0\0\1\0\x18")}, TLS_ALERT_UNEXPECTED_MESSAGE},
    {false, {MESSAGE("\x18\0\0"), HELLO}, TLS_ALERT_UNEXPECTED_MESSAGE}, /* in the middle of one */
    {false, {MESSAGE("\0\0\0\0")}, TLS_ALERT_UNEXPECTED_MESSAGE},       /* HelloRequest: renegotiation */
    {true, {MESSAGE("\1\0\0\0")}, TLS_ALERT_UNEXPECTED_MESSAGE},        /* ClientHello: likewise */
    {false, {MESSAGE("\x0d\0\0\0")}, TLS_ALERT_UNEXPECTED_MESSAGE},     /* CertificateRequest: not offered */
    {true, {MESSAGE("\x14\0\0\0")}, TLS_ALERT_UNEXPECTED_MESSAGE},      /* Finished */
    {true, {MESSAGE("\4\0\0\x0f\0\0\0\1\0\0\0\0\1\0\0\1t\0\0")}, TLS_ALERT_UNEXPECTED_MESSAGE}, /* a client's ticket */
    {false, {MESSAGE("\4\0\0\x0e\0\0\0\1\0\0\0\0\1\0\0\0\0\0")}, TLS_ALERT_DECODE_ERROR},       /* an empty one */
    {false, {MESSAGE("\4\0\xff\xff")}, TLS_ALERT_DECODE_ERROR},
    {false, {MESSAGE("")}, TLS_ALERT_UNEXPECTED_MESSAGE},
    {false, {{TLS_ALERT, "", 0}}, TLS_ALERT_UNEXPECTED_MESSAGE},
    {false, {{TLS_ALERT, "\1", 1}}, TLS_ALERT_DECODE_ERROR},
    {false, {{TLS_CHANGE_CIPHER_SPEC, "\1", 1}}, TLS_ALERT_UNEXPECTED_MESSAGE},
    {false, {{24, "\1", 1}}, TLS_ALERT_UNEXPECTED_MESSAGE},
};

START_TEST(what_is_forbidden_ends_it_with_an_alert)
{
    uint8_t alert[2];
    char text[64];

    teardown();
    begin(faults[_i].server);
    for (unsigned i = 0; faults[_i].said[i].type; i++)
        say(&faults[_i].said[i]);
    say(&(struct said)HELLO);
    ck_assert_int_eq(read_all(text), -EPROTO);
    ck_assert_str_eq(text, "");
    ck_assert_int_eq(heard(alert, sizeof(alert)), TLS_ALERT);
    ck_assert_uint_eq(alert[0], 2);
    ck_assert_uint_eq(alert[1], faults[_i].alert);
    ck_assert_int_eq(tls_writev(connection, &(struct iovec){(char[1]){0}, 1}, 1), -EPIPE);
}
END_TEST

START_TEST(records_that_are_none_end_it_with_an_alert)
{
    static const struct {
        uint8_t header[5];
        int alert, error;
    } records[] = {
        {{23, 3, 3, 0x41, 0x01}, TLS_ALERT_RECORD_OVERFLOW, -EPROTO}, /* 2^14 + 257, before it is here */
        {{20, 3, 3, 0, 1}, TLS_ALERT_UNEXPECTED_MESSAGE, -EPROTO},    /* plain change_cipher_spec */
        {{21, 3, 3, 0, 2}, TLS_ALERT_UNEXPECTED_MESSAGE, -EPROTO},    /* a plain alert: anybody's */
        {{23, 3, 3, 0, 16}, TLS_ALERT_BAD_RECORD_MAC, -EBADMSG},      /* no type in it */
        {{23, 3, 3, 0, 40}, TLS_ALERT_BAD_RECORD_MAC, -EBADMSG},
    };
    uint8_t alert[2];
    char text[64];

    memcpy(wire.in, records[_i].header, 5);
    wire.in_length = _i ? 100 : 5;
    ck_assert_int_eq(read_all(text), records[_i].error);
    ck_assert_int_eq(heard(alert, sizeof(alert)), TLS_ALERT);
    ck_assert_uint_eq(alert[1], records[_i].alert);
}
END_TEST

static const struct {
    struct said said[4];
    ssize_t end;
    const char *text;
} ends[] = {
    {{HELLO, SHUT}, 0, "hello"},
    {{HELLO}, -ECONNRESET, "hello"}, /* cut off */
    {{{0}}, -ECONNRESET, ""},
    {{HELLO, SHUT, HELLO}, 0, "hello"},                        /* nothing is after the end */
    {{HELLO, {TLS_ALERT, "\1\x5a", 2}, SHUT}, 0, "hello"},     /* user_canceled */
    {{HELLO, {TLS_ALERT, "\2\x31", 2}, SHUT}, -EACCES, "hello"}, /* access_denied */
    {{HELLO, {TLS_ALERT, "\1\x31", 2}, SHUT}, -EACCES, "hello"}, /* whatever level it says */
    {{HELLO, {TLS_ALERT, "\1\xc8", 2}, SHUT}, -EPROTO, "hello"}, /* one that nobody knows */
    {{HELLO, MESSAGE("\x18\0\0"), SHUT}, 0, "hello"},
    {{HELLO, {TLS_APPLICATION_DATA, "", 0}, HELLO, SHUT}, 0, "hellohello"}, /* which is allowed to be empty */
};

START_TEST(only_close_notify_is_an_end)
{
    char text[64];

    wire.piece = _i % 2 ? 1 : WIRE_SIZE;
    for (unsigned i = 0; i < 4 && ends[_i].said[i].type; i++)
        say(&ends[_i].said[i]);
    ck_assert_int_eq(read_all(text), ends[_i].end);
    ck_assert_str_eq(text, ends[_i].text);
}
END_TEST

/* Each byte comes in time, the record does not. */
START_TEST(a_record_that_trickles_in_does_not_stretch_the_timeout)
{
    char byte;

    say(&(struct said){TLS_APPLICATION_DATA, "hello", 5});
    wire.piece = 1;
    wire.delay_ms = 10;
    ck_assert_int_eq(tls_set_timeout(connection, 50), 0);
    ck_assert_int_eq(tls_readv(connection, &(struct iovec){&byte, 1}, 1), -ETIMEDOUT);
    ck_assert_uint_lt(wire.in_done, wire.in_length);
    ck_assert_int_eq(tls_set_timeout(connection, 0), 0); /* nothing is lost by it */
    wire.piece = WIRE_SIZE;
    ck_assert_int_eq(tls_readv(connection, &(struct iovec){&byte, 1}, 1), 1);
    ck_assert_int_eq(byte, 'h');
}
END_TEST

/* ---- keys ------------------------------------------------------------------------------------- */

START_TEST(a_key_update_changes_the_keys_of_its_direction)
{
    uint8_t bytes[64];
    char text[64];

    say(&(struct said)HELLO);
    say(&(struct said)MESSAGE("\x18\0\0\1\0"));
    if (!_i)
        their_keys_change();
    say(&(struct said)HELLO);
    say(&(struct said)SHUT);
    ck_assert_int_eq(read_all(text), _i ? -EBADMSG : 0);
    ck_assert_str_eq(text, _i ? "hello" : "hellohello");
    if (_i)
        return;
    ck_assert_int_eq(tls_writev(connection, &(struct iovec){(char *)"data", 4}, 1), 4);
    ck_assert_int_eq(heard(bytes, sizeof(bytes)), TLS_APPLICATION_DATA); /* ours are the old ones */
}
END_TEST

/* Any number of requests between two writes is answered by one update, which asks for none. */
START_TEST(a_key_update_that_asks_for_ours_is_answered_once)
{
    static const uint8_t expected[] = {TLS_KEY_UPDATE, 0, 0, 1, 0};
    uint8_t bytes[64];
    char text[64];

    for (int i = 0; i < 3; i++) {
        say(&(struct said)MESSAGE("\x18\0\0\1\1"));
        their_keys_change();
    }
    say(&(struct said)SHUT);
    ck_assert_int_eq(read_all(text), 0);
    ck_assert_int_eq(heard(bytes, sizeof(bytes)), 0);
    ck_assert_int_eq(tls_writev(connection, &(struct iovec){(char *)"data", 4}, 1), 4);
    ck_assert_int_eq(heard(bytes, sizeof(bytes)), TLS_HANDSHAKE);
    ck_assert_int_eq(memcmp(bytes, expected, sizeof(expected)), 0);
    tls_update_secret(our_secret);
    tls_keys_set(&ours, our_secret);
    ck_assert_int_eq(heard(bytes, sizeof(bytes)), TLS_APPLICATION_DATA);
    ck_assert_int_eq(heard(bytes, sizeof(bytes)), 0);
}
END_TEST

START_TEST(keys_are_changed_before_their_limit)
{
    static const uint8_t expected[] = {TLS_KEY_UPDATE, 0, 0, 1, 1}; /* and those of the peer, too */
    uint8_t bytes[64];

    config.rekey_after = 40;
    for (int i = 0; i < 12; i++) {
        ck_assert_int_eq(tls_writev(connection, &(struct iovec){(char *)"0123456789", 10}, 1), 10);
        if (i && i % 4 == 0) {
            ck_assert_int_eq(heard(bytes, sizeof(bytes)), TLS_HANDSHAKE);
            ck_assert_int_eq(memcmp(bytes, expected, sizeof(expected)), 0);
            tls_update_secret(our_secret);
            tls_keys_set(&ours, our_secret);
        }
        ck_assert_int_eq(heard(bytes, sizeof(bytes)), TLS_APPLICATION_DATA);
    }
}
END_TEST

START_TEST(a_ticket_is_kept_for_its_address)
{
    struct tls_session session;
    char text[64];

    say(&(struct said)MESSAGE("\4\0\0\x0f\0\0\0\x64\0\0\0\5\1")); /* it comes in pieces */
    say(&(struct said)MESSAGE("n\0\1t\0\0"));
    say(&(struct said)SHUT);
    ck_assert_int_eq(read_all(text), 0);
    ck_assert(!tls_session_find(instance.tickets, "elsewhere", now(), &session));
    ck_assert(!tls_session_find(instance.tickets, "there", now() + 100, &session));
    ck_assert(tls_session_find(instance.tickets, "there", now() + 99, &session));
    ck_assert_uint_eq(session.age_add, 5);
    ck_assert_uint_eq(session.ticket_length, 1);
}
END_TEST

START_TEST(closing_says_that_this_is_the_end)
{
    struct tls_connection *other = tls_connection_new(&instance, &wire);
    uint8_t alert[2];

    ck_assert_int_eq(tls_connection_reserve(other), 0);
    if (_i)
        tls_shutdown(connection);
    tls_close(connection);
    connection = other;
    ck_assert_int_eq(heard(alert, sizeof(alert)), TLS_ALERT);
    ck_assert_uint_eq(alert[0], 1);
    ck_assert_uint_eq(alert[1], TLS_ALERT_CLOSE_NOTIFY);
    ck_assert_int_eq(heard(alert, sizeof(alert)), 0);
    connection->closed = true;
}
END_TEST

/* ---- secrets ---------------------------------------------------------------------------------- */

/* Locked memory of this process, in KiB. */
static unsigned locked(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    unsigned kib = 0;
    char line[256];

    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof(line), file))
        sscanf(line, "VmLck: %u kB", &kib);
    fclose(file);
    return kib;
}

/* Not where there is no right to, and sanitizers have it do nothing. */
static bool can_lock(void)
{
    static uint8_t page[4096];
    unsigned before = locked();
    bool can = mlock(page, sizeof(page)) == 0 && locked() > before;

    munlock(page, sizeof(page));
    if (!can)
        printf("memory cannot be locked here\n");
    return can;
}

START_TEST(secrets_are_in_locked_memory)
{
    struct tls_vault vault;
    struct tls_secrets *secrets;
    unsigned before = locked();

    if (!can_lock())
        return;
    tls_vault_init(&vault);
    secrets = tls_vault_take(&vault);
    ck_assert_ptr_nonnull(secrets);
    ck_assert_uint_ge(locked(), before + sizeof(*secrets) / 1024);
    ck_assert_uint_gt(locked(), before);
    tls_vault_give_back(&vault, secrets);
    ck_assert_uint_eq(locked(), before);
    tls_vault_release(&vault);
}
END_TEST

/* An instance that came by its own secrets before the limit was reached. */
START_TEST(that_memory_cannot_be_locked_is_told_once)
{
    FILE *file = tmpfile();
    struct tls_secrets *secrets[100];
    struct tls_vault vault;
    unsigned told = 0;
    char line[512];

    if (!can_lock())
        return;
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(dup2(fileno(file), STDERR_FILENO), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){0, 0}), 0);
    if (!geteuid()) /* of whom no limit is asked */
        ck_assert_int_eq(setresuid(65534, 65534, 65534), 0);
    tls_vault_init(&vault);
    for (int i = 0; i < 100; i++)
        ck_assert_ptr_nonnull(secrets[i] = tls_vault_take(&vault));
    for (int i = 0; i < 100; i++)
        tls_vault_give_back(&vault, secrets[i]);
    tls_vault_release(&vault);
    rewind(file);
    while (fgets(line, sizeof(line), file))
        told += strstr(line, "memory cannot be locked") != NULL;
    ck_assert_uint_eq(told, 1);
    fclose(file);
}
END_TEST

static bool is_zero(const void *bytes, size_t length)
{
    return sodium_is_zero(bytes, length);
}

START_TEST(secrets_are_wiped_when_they_have_served)
{
    struct tls_connection *other = tls_connection_new(&instance, &wire); /* so that the memory stays */
    struct tls_handshake handshake = {.server = _i};
    struct tls_secrets *secrets = connection->secrets;

    ck_assert_int_eq(tls_connection_reserve(other), 0);
    memset(secrets, 'x', sizeof(*secrets));
    tls_connection_settle(connection, &handshake);
    ck_assert(is_zero(secrets, offsetof(struct tls_secrets, client_traffic)));
    ck_assert(is_zero(secrets->resumption, sizeof(secrets->resumption)) == _i); /* a client's tickets need it */
    ck_assert(!is_zero(&secrets->send, sizeof(secrets->send)));
    connection->closed = true;
    tls_close(connection);
    ck_assert(is_zero(secrets, sizeof(*secrets)));
    connection = other;
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, what_is_forbidden_ends_it_with_an_alert, 0, sizeof(faults) / sizeof(*faults));
    tcase_add_loop_test(tests, records_that_are_none_end_it_with_an_alert, 0, 5);
    tcase_add_loop_test(tests, only_close_notify_is_an_end, 0, sizeof(ends) / sizeof(*ends));
    tcase_add_test(tests, a_record_that_trickles_in_does_not_stretch_the_timeout);
    tcase_add_test(tests, secrets_are_in_locked_memory);
    tcase_add_test(tests, that_memory_cannot_be_locked_is_told_once);
    tcase_add_loop_test(tests, a_key_update_changes_the_keys_of_its_direction, 0, 2);
    tcase_add_test(tests, a_key_update_that_asks_for_ours_is_answered_once);
    tcase_add_test(tests, keys_are_changed_before_their_limit);
    tcase_add_loop_test(tests, closing_says_that_this_is_the_end, 0, 2);
    tcase_add_test(tests, a_ticket_is_kept_for_its_address);
    tcase_add_loop_test(tests, secrets_are_wiped_when_they_have_served, 0, 2);
}

int main(void)
{
    return unit_run("tls-read", add_tests);
}
