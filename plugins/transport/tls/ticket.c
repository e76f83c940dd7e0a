/* SPDX-License-Identifier: BSD-2-Clause */
#include "ticket.h"

#include <stdio.h>

#define NONCE crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG crypto_aead_xchacha20poly1305_ietf_ABYTES
#define KEY crypto_aead_xchacha20poly1305_ietf_KEYBYTES
#define CONTENT (8 + 32 + TLS_IDENTITY_SIZE)
#define TICKET_SIZE (NONCE + CONTENT + TAG)

struct kept {
    char address[TLS_ADDRESS_MAX]; /* "" for a free place */
    uint64_t used;                 /* for which to give up first */
    struct tls_session session;
};

struct tls_tickets {
    pthread_mutex_t lock; /* over all below */
    uint8_t keys[2][KEY]; /* the present one and the one before it */
    int64_t since;        /* when the present one was made, seconds */
    uint64_t uses;
    struct kept kept[TLS_SESSIONS_MAX];
};

struct tls_tickets *tls_tickets_new(void)
{
    struct tls_tickets *tickets = sodium_malloc(sizeof(*tickets));

    if (!tickets)
        return NULL;
    memset(tickets, 0, sizeof(*tickets));
    randombytes_buf(tickets->keys, sizeof(tickets->keys));
    pthread_mutex_init(&tickets->lock, NULL);
    return tickets;
}

size_t tls_tickets_size(void)
{
    return sizeof(struct tls_tickets);
}

void tls_tickets_free(struct tls_tickets *tickets)
{
    if (!tickets)
        return;
    pthread_mutex_destroy(&tickets->lock);
    sodium_free(tickets);
}

/* A ticket is good for as long as a key is, so it may need the one before the present.  Called locked. */
static void rotate(struct tls_tickets *tickets, int64_t now)
{
    if (now >= tickets->since && now - tickets->since < TLS_TICKET_LIFETIME)
        return;
    memcpy(tickets->keys[1], tickets->keys[0], KEY);
    randombytes_buf(tickets->keys[0], KEY);
    tickets->since = now;
}

size_t tls_ticket_seal(struct tls_tickets *tickets, const struct tls_session *session, int64_t now,
                       uint8_t ret_ticket[TLS_TICKET_MAX])
{
    uint8_t content[CONTENT];
    struct tls_writer writer = tls_writer(content, sizeof(content));
    int failed;

    tls_put_number(&writer, 8, (uint64_t)session->issued);
    tls_put_bytes(&writer, session->psk, sizeof(session->psk));
    tls_put_bytes(&writer, session->identity, sizeof(session->identity));
    randombytes_buf(ret_ticket, NONCE);
    pthread_mutex_lock(&tickets->lock);
    rotate(tickets, now);
    failed = crypto_aead_xchacha20poly1305_ietf_encrypt(ret_ticket + NONCE, NULL, content,
                                                        sizeof(content), NULL, 0, NULL, ret_ticket,
                                                        tickets->keys[0]);
    pthread_mutex_unlock(&tickets->lock);
    sodium_memzero(content, sizeof(content));
    return failed || writer.failed ? 0 : TICKET_SIZE;
}

bool tls_ticket_open(struct tls_tickets *tickets, const uint8_t *ticket, size_t length, int64_t now,
                     struct tls_session *ret_session)
{
    struct tls_reader reader;
    uint8_t content[CONTENT];
    bool opened = false;

    if (length != TICKET_SIZE)
        return false;
    pthread_mutex_lock(&tickets->lock);
    rotate(tickets, now);
    for (unsigned i = 0; i < 2 && !opened; i++)
        opened = !crypto_aead_xchacha20poly1305_ietf_decrypt(content, NULL, NULL, ticket + NONCE,
                                                             length - NONCE, NULL, 0, ticket,
                                                             tickets->keys[i]);
    pthread_mutex_unlock(&tickets->lock);
    if (!opened)
        return false;
    reader = tls_reader(content, sizeof(content));
    ret_session->issued = (int64_t)tls_get_number(&reader, 8);
    memcpy(ret_session->psk, tls_get_bytes(&reader, 32), 32);
    memcpy(ret_session->identity, tls_get_bytes(&reader, TLS_IDENTITY_SIZE), TLS_IDENTITY_SIZE);
    sodium_memzero(content, sizeof(content));
    return now >= ret_session->issued && now - ret_session->issued <= TLS_TICKET_LIFETIME;
}

/* The place of the address, or else the one to give up.  Called locked. */
static struct kept *place_of(struct tls_tickets *tickets, const char *address, bool *ret_found)
{
    struct kept *oldest = &tickets->kept[0];

    for (unsigned i = 0; i < TLS_SESSIONS_MAX; i++) {
        struct kept *kept = &tickets->kept[i];

        if (strcmp(kept->address, address) == 0) {
            *ret_found = true;
            return kept;
        }
        if (kept->used < oldest->used)
            oldest = kept;
    }
    *ret_found = false;
    return oldest;
}

void tls_session_keep(struct tls_tickets *tickets, const char *address,
                      const struct tls_session *session)
{
    struct kept *kept;
    bool found;

    if (!*address || strlen(address) >= TLS_ADDRESS_MAX)
        return;
    pthread_mutex_lock(&tickets->lock);
    kept = place_of(tickets, address, &found);
    snprintf(kept->address, sizeof(kept->address), "%s", address);
    kept->session = *session;
    kept->used = ++tickets->uses;
    pthread_mutex_unlock(&tickets->lock);
}

bool tls_session_find(struct tls_tickets *tickets, const char *address, int64_t now,
                      struct tls_session *ret_session)
{
    struct kept *kept;
    bool found;

    if (!*address)
        return false;
    pthread_mutex_lock(&tickets->lock);
    kept = place_of(tickets, address, &found);
    found = found && now >= kept->session.issued &&
            now - kept->session.issued < (int64_t)kept->session.lifetime;
    if (found) {
        *ret_session = kept->session;
        kept->used = ++tickets->uses;
    }
    pthread_mutex_unlock(&tickets->lock);
    return found;
}

void tls_session_forget(struct tls_tickets *tickets, const char *address)
{
    struct kept *kept;
    bool found;

    if (!*address)
        return;
    pthread_mutex_lock(&tickets->lock);
    kept = place_of(tickets, address, &found);
    if (found)
        sodium_memzero(kept, sizeof(*kept));
    pthread_mutex_unlock(&tickets->lock);
}
