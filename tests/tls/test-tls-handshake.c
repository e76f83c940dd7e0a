/* SPDX-License-Identifier: BSD-2-Clause */
/* Handshakes between a client and a server in memory: who comes to an end, and who is refused how. */
#include "../unit/unit.h"
#include "pair.h"
#include "trust/keygen.h"

#include <errno.h>
#include <sys/stat.h>

static struct pair *pair;

static void setup(void)
{
    pair = pair_new();
}

static void teardown(void)
{
    pair_free(pair);
}

static void expect_agreement(void)
{
    ck_assert_msg(pair_agrees(pair), "client: %d %s, server: %d %s", pair->client.handshake.state,
                  pair->client.handshake.reason, pair->server.handshake.state,
                  pair->server.handshake.reason);
}

static void expect_refusal(const struct pair_side *by, int alert)
{
    const struct pair_side *other = by == &pair->client ? &pair->server : &pair->client;

    ck_assert_int_eq(by->handshake.state, TLS_FAILED);
    ck_assert(!by->handshake.alerted);
    ck_assert_msg(by->handshake.alert == alert, "%s (%s)", tls_alert_name(by->handshake.alert),
                  by->handshake.reason);
    ck_assert_str_ne(by->handshake.reason, "");
    if (other->handshake.state == TLS_FAILED) {
        ck_assert(other->handshake.alerted);
        ck_assert_int_eq(other->handshake.alert, alert);
    }
}

static const struct tls_psk *share_key(const char *server_identity, uint8_t server_byte)
{
    struct tls_psk *ours = &pair->client.credentials->psks[0];
    struct tls_psk *theirs = &pair->server.credentials->psks[0];

    *ours = (struct tls_psk){.identity = "node", .key = {1, 2, 3}, .length = 40};
    *theirs = *ours;
    snprintf(theirs->identity, sizeof(theirs->identity), "%s", server_identity);
    theirs->key[20] = server_byte;
    pair->client.credentials->psk_count = pair->server.credentials->psk_count = 1;
    return ours;
}

static int trust_anybody(const char *identity, char *ret_name, size_t size)
{
    snprintf(ret_name, size, "%s", identity);
    return 0;
}

START_TEST(both_learn_who_the_other_is)
{
    char identity[TLS_IDENTITY_SIZE];

    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    expect_agreement();
    ck_assert(!pair->client.handshake.resumed);
    tls_key_identity(pair->server.credentials->secret_key + 32, identity);
    ck_assert_str_eq(pair->client.handshake.peer, identity);
    tls_key_identity(pair->client.credentials->secret_key + 32, identity);
    ck_assert_str_eq(pair->server.handshake.peer, identity);
    ck_assert_str_eq(pair->server.handshake.peer_name, "friend");
    ck_assert_uint_eq(pair->client.handshake.peer_type, TLS_TYPE_RAW);
}
END_TEST

/* bit 0: the client has a certificate, bit 1: a raw key; 2 and 3: the server. */
START_TEST(every_mixture_of_types_that_meets_works)
{
    pair->client.credentials->has_certificate = _i & 1;
    pair->client.credentials->has_key = _i & 2;
    pair->server.credentials->has_certificate = _i & 4;
    pair->server.credentials->has_key = _i & 8;
    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    if (_i & 3 && _i >> 2)
        expect_agreement();
    else
        ck_assert(!pair_agrees(pair));
    if (!(_i & 3) && _i >> 2)
        expect_refusal(&pair->server, TLS_ALERT_CERTIFICATE_REQUIRED);
}
END_TEST

START_TEST(an_unknown_client_is_refused)
{
    char identity[TLS_IDENTITY_SIZE];

    tls_key_identity(pair->client.credentials->secret_key + 32, identity);
    pair_stranger = identity;
    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    expect_refusal(&pair->server, TLS_ALERT_UNKNOWN_CA);
    ck_assert_ptr_nonnull(strstr(pair->server.handshake.reason, identity));
}
END_TEST

START_TEST(an_unknown_server_is_refused)
{
    char identity[TLS_IDENTITY_SIZE];

    tls_key_identity(pair->server.credentials->secret_key + 32, identity);
    pair_stranger = identity;
    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    expect_refusal(&pair->client, TLS_ALERT_UNKNOWN_CA);
    ck_assert_int_eq(pair->server.handshake.state, TLS_FAILED);
}
END_TEST

START_TEST(an_expired_certificate_is_refused)
{
    struct pair_side *sides[] = {&pair->client, &pair->server};

    pair_rekey(sides[_i], true);
    sides[_i]->credentials->has_key = false; /* so that the certificate is shown */
    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    expect_refusal(sides[!_i], TLS_ALERT_CERTIFICATE_EXPIRED);
}
END_TEST

START_TEST(whoever_shows_a_key_must_hold_it)
{
    struct pair_side *sides[] = {&pair->client, &pair->server};
    uint8_t seed[32] = {9}, public_key[32];

    crypto_sign_seed_keypair(public_key, sides[_i]->credentials->secret_key, seed);
    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    expect_refusal(sides[!_i], TLS_ALERT_DECRYPT_ERROR);
}
END_TEST

/* Or strangers could find out whom we trust: they hear the same whether a key is trusted or not. */
START_TEST(trust_is_asked_only_for_who_proved_itself)
{
    struct pair_side *sides[] = {&pair->client, &pair->server};
    uint8_t seed[32] = {9}, public_key[32];
    char identity[TLS_IDENTITY_SIZE];

    tls_spki_parse(sides[_i]->credentials->spki, TLS_SPKI_SIZE, public_key, &(const char *){NULL});
    tls_key_identity(public_key, identity); /* which is shown, and not held */
    crypto_sign_seed_keypair(public_key, sides[_i]->credentials->secret_key, seed);
    pair_stranger = identity;
    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    expect_refusal(sides[!_i], TLS_ALERT_DECRYPT_ERROR);
}
END_TEST

/* What was recorded can be said again, though not to its end: the answer is the same, too. */
static void expect_answer_to_replay(const struct tls_session *session, const struct tls_psk *psk, const char *identity)
{
    struct pair_wire *wires = calloc(2, sizeof(*wires));

    ck_assert_ptr_nonnull(wires);
    for (int i = 0; i < 2; i++) {
        pair_stranger = i ? identity : NULL;
        pair_begin(pair, session, psk);
        pair_collect(&pair->client, &wires[i]);
        ck_assert_int_eq(pair_give(&pair->server, wires[i].bytes, wires[i].starts[1]), 0);
        ck_assert_int_eq(pair->server.handshake.state, TLS_WAIT_CLIENT_FINISHED);
        pair_collect(&pair->server, &wires[i]);
    }
    ck_assert_uint_eq(wires[0].count, wires[1].count);
    ck_assert_mem_eq(wires[0].starts, wires[1].starts, sizeof(wires[0].starts));
    free(wires);
}

START_TEST(a_replayed_hello_does_not_tell_whom_we_trust)
{
    char identity[TLS_IDENTITY_SIZE];

    if (_i) {
        expect_answer_to_replay(NULL, share_key("node", 0), "psk:node");
        return;
    }
    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    ck_assert(pair_take_ticket(pair));
    memcpy(identity, pair->server.handshake.peer, sizeof(identity));
    expect_answer_to_replay(&pair->session, NULL, identity);
}
END_TEST

/* A server that has a ticket's or a shared key's name only is not judged by it. */
START_TEST(a_client_asks_for_trust_when_the_server_has_proved_itself)
{
    struct tls_server_hello hello = {.random = pair->client.credentials->spki, .psk = true,
                                     .share = (const uint8_t *)"a point on the curve, if a weak one"};
    uint8_t record[5 + 256] = {22, 3, 3};
    struct tls_writer writer = tls_writer(record + 5, 256);

    pair_begin(pair, NULL, share_key("node", 0));
    pair_stranger = "psk:node";
    tls_server_hello_write(&hello, &writer);
    record[4] = (uint8_t)writer.used;
    ck_assert_int_eq(pair_give(&pair->client, record, 5 + writer.used), 0);
    ck_assert_int_eq(pair->client.handshake.state, TLS_WAIT_EXTENSIONS);
}
END_TEST

START_TEST(a_server_with_a_shared_key_needs_trust_too)
{
    const struct tls_psk *psk = share_key("node", 0);

    pair_begin(pair, NULL, psk);
    pair_stranger = "psk:node";
    pair->server.context.trusted = trust_anybody;
    pair_run(pair, NULL, NULL);
    expect_refusal(&pair->client, TLS_ALERT_UNKNOWN_CA);
}
END_TEST

START_TEST(a_client_need_not_prove_itself_where_that_is_off)
{
    pair->server.context.require_client = false;
    pair->client.credentials->has_certificate = pair->client.credentials->has_key = false;
    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    expect_agreement();
    ck_assert_str_eq(pair->server.handshake.peer, "");
    ck_assert_str_eq(pair->server.handshake.peer_name, ""); /* nobody is not asked for in the trust file */
}
END_TEST

START_TEST(a_ticket_resumes_without_signatures)
{
    char before[TLS_IDENTITY_SIZE];

    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    ck_assert(pair_take_ticket(pair));
    memcpy(before, pair->server.handshake.peer, sizeof(before));
    for (int i = 0; i < 3; i++) { /* the same ticket for several streams */
        pair_begin(pair, &pair->session, NULL);
        pair_run(pair, NULL, NULL);
        expect_agreement();
        ck_assert(pair->client.handshake.resumed && pair->server.handshake.resumed);
        ck_assert_str_eq(pair->server.handshake.peer, before);
        ck_assert_str_ne(pair->client.handshake.peer, "");
    }
}
END_TEST

START_TEST(an_old_ticket_means_a_full_handshake)
{
    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    ck_assert(pair_take_ticket(pair));
    pair_time += TLS_TICKET_LIFETIME + 1;
    pair_begin(pair, &pair->session, NULL);
    pair_run(pair, NULL, NULL);
    expect_agreement();
    ck_assert(!pair->server.handshake.resumed && !pair->client.handshake.resumed);
}
END_TEST

/* What resumes a session gets tickets for the rest of its hour, not for ever: proof must be given anew. */
START_TEST(tickets_do_not_prolong_a_session)
{
    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    ck_assert(pair_take_ticket(pair));
    ck_assert_uint_eq(pair->session.lifetime, TLS_TICKET_LIFETIME);
    pair_time += TLS_TICKET_LIFETIME - 600;
    pair_begin(pair, &pair->session, NULL);
    pair_run(pair, NULL, NULL);
    ck_assert(pair->server.handshake.resumed);
    ck_assert(pair_take_ticket(pair));
    ck_assert_uint_eq(pair->session.lifetime, 600);
    pair_time += 601;
    pair_begin(pair, &pair->session, NULL);
    pair_run(pair, NULL, NULL);
    expect_agreement();
    ck_assert(!pair->server.handshake.resumed);
}
END_TEST

START_TEST(a_ticket_of_a_key_that_was_removed_is_worth_nothing)
{
    char identity[TLS_IDENTITY_SIZE];

    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    ck_assert(pair_take_ticket(pair));
    tls_key_identity(pair->client.credentials->secret_key + 32, identity);
    pair_stranger = identity;
    pair_begin(pair, &pair->session, NULL);
    pair_run(pair, NULL, NULL);
    expect_refusal(&pair->server, TLS_ALERT_UNKNOWN_CA);
}
END_TEST

START_TEST(a_server_whose_key_was_removed_resumes_nothing)
{
    char identity[TLS_IDENTITY_SIZE];

    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    ck_assert(pair_take_ticket(pair));
    tls_key_identity(pair->server.credentials->secret_key + 32, identity);
    pair_stranger = identity;
    pair_begin(pair, &pair->session, NULL);
    pair_run(pair, NULL, NULL);
    expect_refusal(&pair->client, TLS_ALERT_UNKNOWN_CA);
}
END_TEST

START_TEST(a_ticket_with_a_wrong_key_is_refused)
{
    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    ck_assert(pair_take_ticket(pair));
    pair->session.psk[5] ^= 1;
    pair_begin(pair, &pair->session, NULL);
    pair_run(pair, NULL, NULL);
    expect_refusal(&pair->server, TLS_ALERT_DECRYPT_ERROR);
}
END_TEST

START_TEST(a_ticket_of_another_server_means_a_full_handshake)
{
    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    ck_assert(pair_take_ticket(pair));
    pair->session.ticket[40] ^= 1;
    pair_begin(pair, &pair->session, NULL);
    pair_run(pair, NULL, NULL);
    expect_agreement();
    ck_assert(!pair->server.handshake.resumed);
}
END_TEST

START_TEST(a_shared_key_is_proof_of_both)
{
    pair_begin(pair, NULL, share_key("node", 0));
    pair_run(pair, NULL, NULL);
    expect_agreement();
    ck_assert_str_eq(pair->server.handshake.peer, "psk:node");
    ck_assert_str_eq(pair->client.handshake.peer, "psk:node");
}
END_TEST

START_TEST(a_shared_key_must_be_the_same)
{
    pair_begin(pair, NULL, share_key("node", 1));
    pair_run(pair, NULL, NULL);
    expect_refusal(&pair->server, TLS_ALERT_DECRYPT_ERROR);
}
END_TEST

START_TEST(a_shared_key_must_be_known)
{
    pair_begin(pair, NULL, share_key("other", 0));
    pair_run(pair, NULL, NULL);
    expect_refusal(&pair->server, TLS_ALERT_UNKNOWN_PSK_IDENTITY);
}
END_TEST

START_TEST(a_shared_key_needs_trust_like_any_other)
{
    pair_stranger = "psk:node";
    pair_begin(pair, NULL, share_key("node", 0));
    pair->client.context.trusted = trust_anybody;
    pair_run(pair, NULL, NULL);
    expect_refusal(&pair->server, TLS_ALERT_UNKNOWN_CA);
}
END_TEST

START_TEST(a_certificate_of_the_future_is_refused)
{
    struct pair_side *sides[] = {&pair->client, &pair->server};

    pair_time += 86400 * 3650;
    pair_rekey(sides[_i], false);
    pair_time -= 86400 * 3650;
    sides[_i]->credentials->has_key = false; /* so that the certificate is shown */
    pair_begin(pair, NULL, NULL);
    pair_run(pair, NULL, NULL);
    expect_refusal(sides[!_i], TLS_ALERT_CERTIFICATE_EXPIRED);
    ck_assert_ptr_nonnull(strstr(sides[!_i]->handshake.reason, "not valid yet"));
}
END_TEST

START_TEST(a_secret_is_its_owners_alone)
{
    char *directory = unit_make_directory(), *base = unit_path(directory, "node"), identity[DRAFTER_IDENTITY_SIZE];
    char *key = unit_path(directory, "node.key"), *shared = unit_path(directory, "psk");
    struct tls_credentials *credentials = pair->client.credentials;
    struct drafter_error err = {0};

    ck_assert_int_eq(keygen_write(base, identity, &err), 0);
    ck_assert_int_eq(io_replace_file(shared, "a:00112233445566778899aabbccddeeff\n", 35, 0600, NULL), 0);
    ck_assert_int_eq(tls_load_key(credentials, key, &err), 0);
    ck_assert_int_eq(tls_load_psks(credentials, shared, &err), 0);
    ck_assert_int_eq(chmod(key, _i ? 0640 : 0604), 0);
    ck_assert_int_eq(chmod(shared, _i ? 0640 : 0604), 0);
    ck_assert_int_eq(tls_load_key(credentials, key, &err), -EACCES);
    ck_assert_ptr_nonnull(strstr(err.message, "chmod 600"));
    ck_assert_int_eq(tls_load_psks(credentials, shared, &err), -EACCES);
    free(shared);
    free(key);
    free(base);
    unit_drop_directory(directory);
}
END_TEST

START_TEST(a_certificate_is_of_the_key_beside_it)
{
    char *directory = unit_make_directory(), *base = unit_path(directory, "node"), identity[DRAFTER_IDENTITY_SIZE];
    char *key = unit_path(directory, "node.key"), *certificate = unit_path(directory, "node.crt");
    struct tls_credentials *credentials = pair->client.credentials;
    struct drafter_error err = {0};

    ck_assert_int_eq(keygen_write(base, identity, &err), 0);
    ck_assert_int_eq(tls_load_certificate(credentials, certificate, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "of another key"));
    ck_assert_int_eq(tls_load_key(credentials, key, &err), 0);
    ck_assert_int_eq(tls_load_certificate(credentials, certificate, &err), 0);
    free(certificate);
    free(key);
    free(base);
    unit_drop_directory(directory);
}
END_TEST

START_TEST(a_shared_key_is_long_enough)
{
    static const char *const lines[] = {"a:00112233445566778899aabbccddee\n", "a:001122334455667788\n", "a:\n",
                                        ":00112233445566778899aabbccddeeff\n", "a:0011223344556677889zaabbccddeeff\n"};
    char *directory = unit_make_directory(), *shared = unit_path(directory, "psk");
    struct drafter_error err = {0};

    ck_assert_int_eq(io_replace_file(shared, lines[_i], strlen(lines[_i]), 0600, NULL), 0);
    ck_assert_int_eq(tls_load_psks(pair->client.credentials, shared, &err), -EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "psk:1: "));
    free(shared);
    unit_drop_directory(directory);
}
END_TEST

/* A ServerHello of TLS 1.2, the way it ends its random, and the alert that this deserves. */
static const struct {
    const char *end;
    int alert;
} old_answers[] = {
    {"RRRRRRRR", TLS_ALERT_PROTOCOL_VERSION},
    {"DOWNGRD\1", TLS_ALERT_ILLEGAL_PARAMETER}, /* it knows TLS 1.3, and heard another hello than ours */
    {"DOWNGRD\0", TLS_ALERT_ILLEGAL_PARAMETER},
};

START_TEST(a_downgrade_is_refused_and_called_by_its_name)
{
    uint8_t record[5 + 4 + 38 + 2] = {22, 3, 3, 0, 44, 2, 0, 0, 40, 3, 3};
    bool extensions = _i % 2;
    int index = _i / 2;

    memset(record + 11, 'R', 24);
    memcpy(record + 35, old_answers[index].end, 8);
    memcpy(record + 43, "\0\xc0\x2b\0\0\0", 6);
    if (!extensions) { /* they are optional there */
        record[4] -= 2;
        record[8] -= 2;
    }
    pair_begin(pair, NULL, NULL);
    ck_assert_int_lt(pair_give(&pair->client, record, sizeof(record) - (extensions ? 0 : 2)), 0);
    expect_refusal(&pair->client, old_answers[index].alert);
    ck_assert(!strstr(pair->client.handshake.reason, "downgrade") ==
              (old_answers[index].alert == TLS_ALERT_PROTOCOL_VERSION));
}
END_TEST

/* Sections 4.2.1 and D.5: the version in front means nothing, except when it is that of SSL 3. */
START_TEST(the_legacy_version_of_a_hello_means_nothing)
{
    struct pair_wire *wire = calloc(1, sizeof(*wire));

    ck_assert_ptr_nonnull(wire);
    pair_begin(pair, NULL, NULL);
    pair_collect(&pair->client, wire);
    wire->bytes[10] = (uint8_t)_i;
    pair_give(&pair->server, wire->bytes, wire->starts[1]);
    if (_i == 0)
        expect_refusal(&pair->server, TLS_ALERT_PROTOCOL_VERSION);
    else
        ck_assert_int_eq(pair->server.handshake.state, TLS_WAIT_CLIENT_CERTIFICATE);
    free(wire);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_loop_test(tests, a_downgrade_is_refused_and_called_by_its_name, 0, 6);
    tcase_add_loop_test(tests, the_legacy_version_of_a_hello_means_nothing, 0, 5);
    tcase_add_test(tests, tickets_do_not_prolong_a_session);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, both_learn_who_the_other_is);
    tcase_add_loop_test(tests, every_mixture_of_types_that_meets_works, 0, 16);
    tcase_add_test(tests, an_unknown_client_is_refused);
    tcase_add_test(tests, an_unknown_server_is_refused);
    tcase_add_loop_test(tests, an_expired_certificate_is_refused, 0, 2);
    tcase_add_loop_test(tests, whoever_shows_a_key_must_hold_it, 0, 2);
    tcase_add_loop_test(tests, trust_is_asked_only_for_who_proved_itself, 0, 2);
    tcase_add_loop_test(tests, a_replayed_hello_does_not_tell_whom_we_trust, 0, 2);
    tcase_add_test(tests, a_client_asks_for_trust_when_the_server_has_proved_itself);
    tcase_add_test(tests, a_server_with_a_shared_key_needs_trust_too);
    tcase_add_test(tests, a_client_need_not_prove_itself_where_that_is_off);
    tcase_add_test(tests, a_ticket_resumes_without_signatures);
    tcase_add_test(tests, an_old_ticket_means_a_full_handshake);
    tcase_add_test(tests, a_ticket_of_a_key_that_was_removed_is_worth_nothing);
    tcase_add_test(tests, a_server_whose_key_was_removed_resumes_nothing);
    tcase_add_test(tests, a_ticket_with_a_wrong_key_is_refused);
    tcase_add_loop_test(tests, a_secret_is_its_owners_alone, 0, 2);
    tcase_add_test(tests, a_certificate_is_of_the_key_beside_it);
    tcase_add_loop_test(tests, a_shared_key_is_long_enough, 0, 5);
    tcase_add_loop_test(tests, a_certificate_of_the_future_is_refused, 0, 2);
    tcase_add_test(tests, a_ticket_of_another_server_means_a_full_handshake);
    tcase_add_test(tests, a_shared_key_is_proof_of_both);
    tcase_add_test(tests, a_shared_key_must_be_the_same);
    tcase_add_test(tests, a_shared_key_must_be_known);
    tcase_add_test(tests, a_shared_key_needs_trust_like_any_other);
}

int main(void)
{
    return unit_run("tls-handshake", add_tests);
}
