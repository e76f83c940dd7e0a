/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The NBD server of device plugin nbd without the kernel (attach = none), with libnbd and with bare
 * sockets as clients.  What it promises as a device plugin is tested by device.c, where the kernel has
 * the client for it.
 */
#include "conformance.h"
#include "device-store.h"

#include "plugin/device.h"

#include <errno.h>
#include <libnbd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PAGE DRAFTER_PAGE_SIZE
#define STORE_SIZE (600 * PAGE + 17)

static struct store store;
static struct instance *device;
static struct exposure *exposure;

static struct exposure *expose(const char *name, unsigned flags)
{
    struct drafter_device_spec spec = store_spec(&store, name, flags);
    struct drafter_error err = {0};
    struct exposure *made = NULL;

    ck_assert_msg(device_expose(device, &spec, &made, &err) == 0, "%s", err.message);
    return made;
}

static void begin(const char *key, const char *value)
{
    const char *overrides[] = {"attach", "none", key, value, NULL};
    struct drafter_error err = {0};

    device = conformance_instance(DRAFTER_KIND_DEVICE, "nbd", overrides);
    mkdir(conformance_path("vm"), 0700);
    ck_assert_msg(device_start(device, conformance_path("vm"), &err) == 0, "%s", err.message);
    exposure = expose("disk", 0);
}

static void end(void)
{
    store_gate(&store, 0, 0);
    device_withdraw(exposure);
    device_stop(device);
    instance_free(device);
    ck_assert_msg(rmdir(conformance_path("vm")) == 0, "%s", strerror(errno));
}

static void setup(void)
{
    store_init(&store, STORE_SIZE);
    begin(NULL, NULL);
}

static void teardown(void)
{
    end();
    store_release(&store);
}

static struct nbd_handle *new_client(const char *name)
{
    struct nbd_handle *nbd = nbd_create();

    ck_assert_ptr_nonnull(nbd);
    ck_assert_int_eq(nbd_set_export_name(nbd, name), 0);
    return nbd;
}

static int try_connect(struct nbd_handle *nbd)
{
    return nbd_connect_unix(nbd, conformance_path("vm/nbd.sock"));
}

static struct nbd_handle *client(void)
{
    struct nbd_handle *nbd = new_client("disk");

    ck_assert_msg(try_connect(nbd) == 0, "%s", nbd_get_error());
    return nbd;
}

/* One that sends what the server ought to refuse. */
static struct nbd_handle *reckless_client(void)
{
    struct nbd_handle *nbd = client();

    ck_assert_int_eq(nbd_set_strict_mode(nbd, 0), 0);
    return nbd;
}

START_TEST(export_tells_what_it_can)
{
    struct nbd_handle *nbd = client();

    ck_assert_int_eq(nbd_get_size(nbd), (int64_t)STORE_SIZE); /* every byte and no other */
    ck_assert_int_eq(nbd_can_flush(nbd), 1);
    ck_assert_int_eq(nbd_can_fua(nbd), 1);
    ck_assert_int_eq(nbd_can_trim(nbd), 1);
    ck_assert_int_eq(nbd_can_zero(nbd), 1);
    ck_assert_int_eq(nbd_can_multi_conn(nbd), 1);
    ck_assert_int_eq(nbd_is_read_only(nbd), 0);
    ck_assert_int_eq(nbd_get_structured_replies_negotiated(nbd), 1);
    ck_assert_int_eq(nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM), 32 << 20);
    nbd_close(nbd);
}
END_TEST

static void read_and_write(struct nbd_handle *nbd)
{
    static char out[3 * PAGE + 5], in[STORE_SIZE];

    ck_assert_int_eq(nbd_pread(nbd, in, STORE_SIZE, 0, 0), 0); /* more than one chunk */
    ck_assert_int_eq(memcmp(in, store.bytes, STORE_SIZE), 0);
    memset(out, 0x5d, sizeof(out));
    ck_assert_int_eq(nbd_pwrite(nbd, out, sizeof(out), PAGE - 3, 0), 0);
    ck_assert_int_eq(memcmp(store.bytes + PAGE - 3, out, sizeof(out)), 0);
    ck_assert_int_eq(store.bytes[PAGE - 4], store_pattern(PAGE - 4));
    ck_assert_int_eq(nbd_pwrite(nbd, in, STORE_SIZE, 0, 0), 0);
    ck_assert_int_eq(memcmp(in, store.bytes, STORE_SIZE), 0);
}

START_TEST(bytes_are_those_of_the_backend)
{
    struct nbd_handle *nbd = client();

    read_and_write(nbd);
    nbd_close(nbd);
}
END_TEST

START_TEST(simple_replies_carry_the_same)
{
    struct nbd_handle *nbd = new_client("disk");

    nbd_set_request_structured_replies(nbd, false);
    ck_assert_int_eq(try_connect(nbd), 0);
    ck_assert_int_eq(nbd_get_structured_replies_negotiated(nbd), 0);
    read_and_write(nbd);
    nbd_close(nbd);
}
END_TEST

/* NBD_OPT_EXPORT_NAME, as clients of before 2016 know no other. */
START_TEST(old_clients_are_served)
{
    struct nbd_handle *nbd = new_client("disk");

    nbd_set_handshake_flags(nbd, 0);
    ck_assert_int_eq(try_connect(nbd), 0);
    ck_assert_str_eq(nbd_get_protocol(nbd), "newstyle");
    read_and_write(nbd);
    nbd_close(nbd);
}
END_TEST

START_TEST(flush_and_fua_reach_the_backend)
{
    struct nbd_handle *nbd = client();

    ck_assert_int_eq(nbd_pwrite(nbd, "a", 1, 0, 0), 0);
    ck_assert_uint_eq(store.flushes, 0);
    ck_assert_int_eq(nbd_flush(nbd, 0), 0);
    ck_assert_uint_eq(store.flushes, 1);
    ck_assert_int_eq(nbd_pwrite(nbd, "b", 1, 0, LIBNBD_CMD_FLAG_FUA), 0);
    ck_assert_uint_eq(store.flushes, 2);
    ck_assert_int_eq(nbd_zero(nbd, PAGE, 0, LIBNBD_CMD_FLAG_FUA), 0);
    ck_assert_uint_eq(store.flushes, 3);
    store.flush_error = EIO;
    ck_assert_int_eq(nbd_pwrite(nbd, "b", 1, 0, LIBNBD_CMD_FLAG_FUA), -1);
    ck_assert_int_eq(nbd_get_errno(), EIO);
    ck_assert_int_eq(nbd_flush(nbd, 0), -1);
    store.flush_error = 0;
    nbd_close(nbd);
}
END_TEST

START_TEST(trim_is_a_trim_and_zeros_are_written)
{
    struct nbd_handle *nbd = client();

    ck_assert_int_eq(nbd_trim(nbd, 2 * PAGE, 4 * PAGE, 0), 0);
    ck_assert_uint_eq(store.trims, 1);
    ck_assert_uint_eq(store.trim_offset, 4 * PAGE);
    ck_assert_uint_eq(store.trim_length, 2 * PAGE);
    ck_assert_int_eq(nbd_zero(nbd, 100 * PAGE + 1, 9 * PAGE + 3, 0), 0);
    ck_assert_uint_eq(store.trims, 1);
    ck_assert_int_eq(store.bytes[9 * PAGE + 2], store_pattern(9 * PAGE + 2));
    for (uint64_t i = 9 * PAGE + 3; i < 109 * PAGE + 4; i++)
        ck_assert_int_eq(store.bytes[i], 0);
    ck_assert_int_eq(store.bytes[109 * PAGE + 4], store_pattern(109 * PAGE + 4));
    nbd_close(nbd);
}
END_TEST

START_TEST(what_is_out_of_bounds_is_refused_and_no_more)
{
    struct nbd_handle *nbd = reckless_client();
    static char buffer[2 * PAGE];

    ck_assert_int_eq(nbd_pread(nbd, buffer, PAGE, STORE_SIZE - 1, 0), -1);
    ck_assert_int_eq(nbd_get_errno(), EINVAL);
    ck_assert_int_eq(nbd_pread(nbd, buffer, 1, UINT64_MAX - 1, 0), -1);
    ck_assert_int_eq(nbd_pwrite(nbd, buffer, 2 * PAGE, STORE_SIZE - PAGE, 0), -1);
    ck_assert_int_eq(nbd_get_errno(), ENOSPC);
    ck_assert_int_eq(nbd_pwrite(nbd, buffer, 2 * PAGE, UINT64_MAX - PAGE, 0), -1);
    ck_assert_int_eq(nbd_zero(nbd, UINT32_MAX, 0, 0), -1);
    ck_assert_int_eq(nbd_trim(nbd, PAGE, STORE_SIZE, 0), -1);
    ck_assert_int_eq(nbd_pread(nbd, buffer, 0, 0, 0), -1);
    ck_assert_int_eq(nbd_pread(nbd, buffer, PAGE, 0, 0x8000), -1); /* a flag that nobody knows */
    ck_assert_int_eq(nbd_cache(nbd, PAGE, 0, 0), -1);              /* was not offered */
    ck_assert_uint_eq(store.writes, 0);
    ck_assert_int_eq(nbd_pread(nbd, buffer, PAGE, 0, 0), 0);
    ck_assert_int_eq(memcmp(buffer, store.bytes, PAGE), 0);
    nbd_close(nbd);
}
END_TEST

START_TEST(longer_requests_than_agreed_are_not_taken)
{
    struct nbd_handle *nbd = reckless_client();
    char *big = calloc(1, 33 << 20);

    ck_assert_int_eq(nbd_pread(nbd, big, 33 << 20, 0, 0), -1);
    ck_assert_int_eq(nbd_pwrite(nbd, big, 33 << 20, 0, 0), -1); /* costs the connection */
    ck_assert_uint_eq(store.writes, 0);
    nbd_close(nbd);
    nbd = client();
    ck_assert_int_eq(nbd_pread(nbd, big, PAGE, 0, 0), 0);
    nbd_close(nbd);
    free(big);
}
END_TEST

START_TEST(readonly_export_is_not_written)
{
    struct exposure *kernel = expose("kernel", DRAFTER_DEVICE_READONLY);
    struct nbd_handle *nbd = new_client("kernel");

    ck_assert_int_eq(try_connect(nbd), 0);
    ck_assert_int_eq(nbd_is_read_only(nbd), 1);
    ck_assert_int_eq(nbd_set_strict_mode(nbd, 0), 0);
    ck_assert_int_eq(nbd_pwrite(nbd, "x", 1, 0, 0), -1);
    ck_assert_int_eq(nbd_get_errno(), EPERM);
    ck_assert_int_eq(nbd_zero(nbd, 1, 0, 0), -1);
    ck_assert_int_eq(nbd_trim(nbd, 1, 0, 0), -1);
    ck_assert_uint_eq(store.writes + store.trims, 0);
    ck_assert_int_eq(nbd_flush(nbd, 0), 0);
    nbd_close(nbd);
    device_withdraw(kernel);
}
END_TEST

START_TEST(errors_of_the_backend_keep_their_names)
{
    struct nbd_handle *nbd = client();
    char byte;

    store.read_error = EIO;
    ck_assert_int_eq(nbd_pread(nbd, &byte, 1, 0, 0), -1);
    ck_assert_int_eq(nbd_get_errno(), EIO);
    store.read_error = 0;
    store.write_error = ENOSPC;
    ck_assert_int_eq(nbd_pwrite(nbd, "x", 1, 0, 0), -1);
    ck_assert_int_eq(nbd_get_errno(), ENOSPC);
    store.write_error = EDQUOT; /* has no number in the protocol */
    ck_assert_int_eq(nbd_pwrite(nbd, "x", 1, 0, 0), -1);
    ck_assert_int_eq(nbd_get_errno(), ENOSPC);
    store.write_error = 0;
    ck_assert_int_eq(nbd_pwrite(nbd, "x", 1, 0, 0), 0);
    nbd_close(nbd);
}
END_TEST

START_TEST(missing_block_holds_up_nothing_else)
{
    struct nbd_handle *nbd = client();
    static char first[PAGE], second[PAGE];
    int64_t cookie;

    store_gate(&store, 0, PAGE);
    cookie = nbd_aio_pread(nbd, first, PAGE, 0, NBD_NULL_COMPLETION, 0);
    ck_assert_int_gt(cookie, 0);
    store_await_blocked(&store, 1);
    ck_assert_int_eq(nbd_pread(nbd, second, PAGE, 100 * PAGE, 0), 0);
    ck_assert_int_eq(nbd_pwrite(nbd, "x", 1, 200 * PAGE, 0), 0);
    ck_assert_int_eq(nbd_flush(nbd, 0), 0);
    ck_assert_int_eq(nbd_aio_command_completed(nbd, (uint64_t)cookie), 0);
    store_gate(&store, 0, 0);
    while (nbd_aio_command_completed(nbd, (uint64_t)cookie) == 0)
        ck_assert_int_ge(nbd_poll(nbd, 5000), 1);
    ck_assert_int_eq(memcmp(first, store.bytes, PAGE), 0);
    nbd_close(nbd);
}
END_TEST

static int count_name(void *opaque, const char *name, const char *description)
{
    (void)description;
    return strcmp(name, opaque) == 0 ? 0 : -1;
}

START_TEST(exports_are_found_by_name)
{
    struct nbd_handle *nbd = nbd_create();
    struct exposure *other;

    nbd_set_opt_mode(nbd, true);
    ck_assert_int_eq(try_connect(nbd), 0);
    ck_assert_int_eq(nbd_opt_list(nbd, (nbd_list_callback){.callback = count_name,
                                                           .user_data = (void *)"disk"}),
                     1);
    ck_assert_int_eq(nbd_set_export_name(nbd, "nothing"), 0);
    ck_assert_int_eq(nbd_opt_info(nbd), -1);
    ck_assert_int_eq(nbd_set_export_name(nbd, ""), 0); /* there is one only */
    ck_assert_int_eq(nbd_opt_info(nbd), 0);
    other = expose("other", 0);
    ck_assert_int_eq(nbd_opt_info(nbd), -1);
    ck_assert_int_eq(nbd_set_export_name(nbd, "other"), 0);
    ck_assert_int_eq(nbd_opt_go(nbd), 0);
    device_withdraw(other);
    nbd_close(nbd);
}
END_TEST

START_TEST(withdrawn_export_ends_its_clients)
{
    struct exposure *other = expose("other", 0);
    struct nbd_handle *nbd = new_client("other"), *stays = client();
    char byte;

    ck_assert_int_eq(try_connect(nbd), 0);
    device_withdraw(other);
    ck_assert_int_eq(nbd_pread(nbd, &byte, 1, 0, 0), -1);
    ck_assert_int_eq(nbd_pread(stays, &byte, 1, 0, 0), 0);
    nbd_close(nbd);
    nbd = new_client("other");
    ck_assert_int_eq(try_connect(nbd), -1);
    nbd_close(nbd);
    nbd_close(stays);
}
END_TEST

START_TEST(stop_does_not_wait_for_clients)
{
    struct nbd_handle *nbd = client();
    uint64_t before = conformance_now_ms();
    char byte;

    end();
    ck_assert_uint_lt(conformance_now_ms() - before, 2000);
    ck_assert_int_eq(nbd_pread(nbd, &byte, 1, 0, 0), -1);
    nbd_close(nbd);
    begin(NULL, NULL);
}
END_TEST

START_TEST(clients_are_bounded)
{
    struct nbd_handle *one, *two, *three = new_client("disk");
    int connected = -1;

    end();
    begin("clients", "2");
    one = client();
    two = client();
    ck_assert_int_eq(try_connect(three), -1);
    nbd_close(three);
    nbd_close(two);
    for (unsigned i = 0; i < 100 && connected < 0; i++) { /* the server may not have seen the end */
        three = new_client("disk");
        connected = try_connect(three);
        nbd_close(three);
        conformance_sleep_ms(20);
    }
    ck_assert_int_eq(connected, 0);
    nbd_close(one);
}
END_TEST

static int bare_client(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = 5};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", conformance_path("vm/nbd.sock"));
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return fd;
}

/* Sends the bytes after the greeting, and expects that the server hangs up. */
static void expect_hangup(const void *bytes, size_t length)
{
    int fd = bare_client();
    char answer[4096];
    ssize_t got;

    ck_assert_int_eq(recv(fd, answer, 18, MSG_WAITALL), 18);
    ck_assert_int_eq(send(fd, bytes, length, MSG_NOSIGNAL), (ssize_t)length);
    while ((got = recv(fd, answer, sizeof(answer), 0)) > 0)
        ;
    ck_assert_msg(got == 0 || errno == ECONNRESET || errno == EPIPE, "it goes on: %s",
                  strerror(errno));
    close(fd);
}

START_TEST(peers_that_talk_nonsense_are_left)
{
    static const unsigned char flags[] = {0xff, 0, 0, 3},
                               magic[] = "\0\0\0\3NOTANOPT\0\0\0\1\0\0\0\0",
                               endless[] = "\0\0\0\3IHAVEOPT\0\0\0\7\xff\xff\xff\xff",
                               unknown[] = "\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\4none",
                               leaves[] = "\0\0\0\3IHAVEOPT\0\0\0\2\0\0\0\0";
    unsigned char many[4 + 65 * 16] = {0, 0, 0, 3};
    struct nbd_handle *nbd = client();

    for (unsigned i = 0; i < 65; i++)
        memcpy(many + 4 + (size_t)i * 16, "IHAVEOPT\0\0\0\xd\0\0\0\0", 16);
    expect_hangup(flags, sizeof(flags));
    expect_hangup(magic, sizeof(magic) - 1);
    expect_hangup(endless, sizeof(endless) - 1);
    expect_hangup(unknown, sizeof(unknown) - 1);
    expect_hangup(leaves, sizeof(leaves) - 1);
    expect_hangup(many, sizeof(many));
    read_and_write(nbd);
    nbd_close(nbd);
}
END_TEST

START_TEST(wrong_request_magic_ends_the_connection)
{
    static const unsigned char go[] = "\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\4disk"
                                      "\x25\x60\x95\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1";

    expect_hangup(go, sizeof(go) - 1);
}
END_TEST

START_TEST(silent_peers_keep_nobody_waiting)
{
    int silent[4];

    for (unsigned i = 0; i < 4; i++)
        silent[i] = bare_client();
    for (unsigned i = 0; i < 3; i++) {
        struct nbd_handle *nbd = client();

        read_and_write(nbd);
        nbd_close(nbd);
    }
    for (unsigned i = 0; i < 4; i++)
        close(silent[i]);
}
END_TEST

START_TEST(listens_where_it_is_told)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct nbd_handle *nbd;
    char where[64], port[16];

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, length), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    close(fd);
    snprintf(port, sizeof(port), "%u", ntohs(address.sin_port));
    snprintf(where, sizeof(where), "127.0.0.1:%s", port);
    end();
    begin("listen", where);
    nbd = new_client("disk");
    ck_assert_msg(nbd_connect_tcp(nbd, "127.0.0.1", port) == 0, "%s", nbd_get_error());
    read_and_write(nbd);
    nbd_close(nbd);
}
END_TEST

START_TEST(stale_socket_is_replaced_and_a_living_one_is_not)
{
    const char *overrides[] = {"attach", "none", "listen", conformance_path("stale.sock"), NULL};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct drafter_error err = {0};
    struct instance *second;
    struct stat status;

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", conformance_path("stale.sock"));
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    end();
    begin("listen", address.sun_path);
    ck_assert_int_eq(stat(address.sun_path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0600);
    overrides[3] = address.sun_path;
    second = conformance_instance(DRAFTER_KIND_DEVICE, "nbd", overrides);
    mkdir(conformance_path("second"), 0700);
    conformance_expect_error(device_start(second, conformance_path("second"), &err), EADDRINUSE, &err,
                             "stale.sock");
    instance_free(second);
    rmdir(conformance_path("second"));
}
END_TEST

START_TEST(nothing_is_left_behind)
{
    unsigned fds = conformance_open_fds();

    for (unsigned i = 0; i < 3; i++) {
        struct nbd_handle *nbd = client();

        read_and_write(nbd);
        nbd_close(nbd);
        end();
        begin(NULL, NULL);
    }
    ck_assert_uint_eq(conformance_open_fds(), fds);
}
END_TEST

/* For tests of tools: serves a store of so many MiB in a directory until it is killed. */
static int serve(const char *where, const char *mebibytes)
{
    const char *overrides[] = {"attach", "none", NULL};

    store_init(&store, (uint64_t)strtoul(mebibytes, NULL, 10) << 20);
    device = conformance_instance(DRAFTER_KIND_DEVICE, "nbd", overrides);
    if (device_start(device, where, &(struct drafter_error){0}) < 0)
        return 1;
    exposure = expose("disk", 0);
    puts("ready");
    fflush(stdout);
    pause();
    return 0;
}

static Suite *make_suite(void)
{
    const TTest *const all[] = {
        export_tells_what_it_can,
        bytes_are_those_of_the_backend,
        simple_replies_carry_the_same,
        old_clients_are_served,
        flush_and_fua_reach_the_backend,
        trim_is_a_trim_and_zeros_are_written,
        what_is_out_of_bounds_is_refused_and_no_more,
        longer_requests_than_agreed_are_not_taken,
        readonly_export_is_not_written,
        errors_of_the_backend_keep_their_names,
        missing_block_holds_up_nothing_else,
        exports_are_found_by_name,
        withdrawn_export_ends_its_clients,
        stop_does_not_wait_for_clients,
        clients_are_bounded,
        peers_that_talk_nonsense_are_left,
        wrong_request_magic_ends_the_connection,
        silent_peers_keep_nobody_waiting,
        listens_where_it_is_told,
        stale_socket_is_replaced_and_a_living_one_is_not,
        nothing_is_left_behind,
    };
    Suite *suite = suite_create("nbd");
    TCase *tests = tcase_create("server");

    tcase_set_timeout(tests, 30);
    tcase_add_checked_fixture(tests, setup, teardown);
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        tcase_add_test(tests, all[i]);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(int argc, char **argv)
{
    unsigned available = conformance_available(DRAFTER_KIND_DEVICE, "nbd");

    if (argc == 4 && strcmp(argv[1], "serve") == 0)
        return serve(argv[2], argv[3]);
    return conformance_run(make_suite(), available);
}
