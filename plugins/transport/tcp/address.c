/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Numeric addresses are converted in place.  Names go to getaddrinfo(), which knows no timeout, in a
 * thread of its own: the caller waits until its deadline and then abandons the thread, which frees
 * what it found when the resolver lets go of it.  That may be after the instance is gone, so this
 * object is linked with -z nodelete and the thread touches nothing but its own request.
 */
#include "address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool tcp_digits(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == '\0';
}

static int tcp_parse_port(const char *address, const char *text, struct tcp_address *ret,
                          struct drafter_error *err)
{
    unsigned long port;

    if (!tcp_digits(text) || strlen(text) > 5 || (port = strtoul(text, NULL, 10)) > 65535)
        return drafter_error_set(err, EINVAL,
                                 "address \"%.300s\": the port must be a number from 0 to 65535",
                                 address);
    snprintf(ret->port, sizeof(ret->port), "%lu", port);
    ret->port_number = (uint16_t)port;
    return 0;
}

static int tcp_parse_host(const char *address, const char *text, size_t length,
                          struct tcp_address *ret, struct drafter_error *err)
{
    if (length > TCP_HOST_MAX)
        return drafter_error_set(err, EINVAL, "address \"%.60s...\": the host name is too long",
                                 address);
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] > '~' || strchr("[]/@", text[i]))
            return drafter_error_set(err, EINVAL,
                                     "address \"%.300s\": a host name has no such characters; write "
                                     "host:port",
                                     address);
    memcpy(ret->host, text, length);
    ret->host[length] = '\0';
    return 0;
}

int tcp_address_parse(const char *address, struct tcp_address *ret_address,
                      struct drafter_error *err)
{
    struct tcp_address found = {0};
    const char *host = address, *end, *port;
    int rc;

    if (tcp_digits(address)) {
        end = host;
        port = address;
    } else if (*address == '[') {
        host = address + 1;
        end = strchr(host, ']');
        if (!end || end[1] != ':' || end == host)
            return drafter_error_set(err, EINVAL,
                                     "address \"%.300s\": write an IPv6 address as [address]:port",
                                     address);
        port = end + 2;
        found.bracketed = true;
    } else {
        end = strrchr(address, ':');
        if (!end)
            return drafter_error_set(err, EINVAL,
                                     "address \"%.300s\": the port is missing; write host:port",
                                     address);
        if (memchr(address, ':', (size_t)(end - address)))
            return drafter_error_set(err, EINVAL,
                                     "address \"%.300s\": write an IPv6 address as [address]:port",
                                     address);
        port = end + 1;
    }
    rc = tcp_parse_host(address, host, (size_t)(end - host), &found, err);
    if (rc < 0)
        return rc;
    rc = tcp_parse_port(address, port, &found, err);
    if (rc < 0)
        return rc;
    *ret_address = found;
    return 0;
}

bool tcp_address_is_local(const struct tcp_address *address, bool listening)
{
    struct in6_addr six;
    struct in_addr four;

    if (!address->host[0])
        return !listening;
    if (inet_pton(AF_INET, address->host, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, address->host, &six) == 1)
        return IN6_IS_ADDR_LOOPBACK(&six);
    return strcmp(address->host, "localhost") == 0;
}

/* Freed by the thread when abandoned, else by the caller. */
struct tcp_lookup {
    struct tcp_address address;
    struct addrinfo hints;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done, abandoned; /* protected by lock, like all below */
    int rc, code;
    struct addrinfo *list;
};

static void tcp_lookup_free(struct tcp_lookup *lookup)
{
    pthread_cond_destroy(&lookup->ended);
    pthread_mutex_destroy(&lookup->lock);
    if (lookup->list)
        freeaddrinfo(lookup->list);
    free(lookup);
}

static void *tcp_lookup_run(void *opaque)
{
    struct tcp_lookup *lookup = opaque;
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(lookup->address.host, lookup->address.port, &lookup->hints, &list);
    int code = errno;
    bool abandoned;

    pthread_mutex_lock(&lookup->lock);
    lookup->rc = rc;
    lookup->code = code;
    lookup->list = rc == 0 ? list : NULL;
    lookup->done = true;
    abandoned = lookup->abandoned;
    pthread_cond_signal(&lookup->ended);
    pthread_mutex_unlock(&lookup->lock);
    if (abandoned)
        tcp_lookup_free(lookup);
    return NULL;
}

static struct tcp_lookup *tcp_lookup_start(const struct tcp_address *address,
                                           const struct addrinfo *hints)
{
    struct tcp_lookup *lookup = calloc(1, sizeof(*lookup));
    pthread_condattr_t monotonic;
    sigset_t all, before;
    pthread_t thread;
    int rc;

    if (!lookup)
        return NULL;
    lookup->address = *address;
    lookup->hints = *hints;
    pthread_mutex_init(&lookup->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&lookup->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the threads of the program */
    rc = pthread_create(&thread, NULL, tcp_lookup_run, lookup);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        tcp_lookup_free(lookup);
        errno = rc;
        return NULL;
    }
    pthread_detach(thread);
    return lookup;
}

/* getaddrinfo's result, or EAI_SYSTEM with errno ETIMEDOUT when the deadline came first. */
static int tcp_lookup(const struct tcp_address *address, const struct addrinfo *hints,
                      uint64_t deadline, struct addrinfo **ret_list)
{
    struct timespec until = {.tv_sec = (time_t)(deadline / 1000000000),
                             .tv_nsec = (long)(deadline % 1000000000)};
    struct tcp_lookup *lookup = tcp_lookup_start(address, hints);
    int rc = 0;

    if (!lookup)
        return EAI_SYSTEM;
    pthread_mutex_lock(&lookup->lock);
    while (!lookup->done && rc == 0)
        rc = deadline ? pthread_cond_timedwait(&lookup->ended, &lookup->lock, &until)
                      : pthread_cond_wait(&lookup->ended, &lookup->lock);
    if (!lookup->done) {
        lookup->abandoned = true;
        pthread_mutex_unlock(&lookup->lock);
        errno = ETIMEDOUT;
        return EAI_SYSTEM;
    }
    rc = lookup->rc;
    errno = lookup->code;
    *ret_list = lookup->list;
    lookup->list = NULL;
    pthread_mutex_unlock(&lookup->lock);
    tcp_lookup_free(lookup);
    return rc;
}

static int tcp_resolve_failed(const char *host, int rc, struct drafter_error *err)
{
    int code = errno;

    switch (rc) {
    case EAI_NONAME:
#ifdef EAI_NODATA
    case EAI_NODATA:
#endif
        return drafter_error_set(err, EHOSTUNREACH,
                                 "the host name %s does not resolve; check its spelling, or add it "
                                 "to DNS or /etc/hosts",
                                 host);
    case EAI_AGAIN:
        return drafter_error_set(err, EHOSTUNREACH,
                                 "the host name %s does not resolve now: the name server does not "
                                 "answer; check /etc/resolv.conf or use a numeric address",
                                 host);
    case EAI_MEMORY:
        return drafter_error_set(err, ENOMEM, "resolving %s: out of memory", host);
    case EAI_SYSTEM:
        if (code == ETIMEDOUT)
            return drafter_error_set(err, ETIMEDOUT,
                                     "the host name %s did not resolve in time; check "
                                     "/etc/resolv.conf or use a numeric address",
                                     host);
        return drafter_error_errno(err, code ? code : EIO, "resolving %s", host);
    default:
        return drafter_error_set(err, EHOSTUNREACH, "resolving %s: %s", host, gai_strerror(rc));
    }
}

int tcp_address_resolve(const struct tcp_address *address, bool passive, uint64_t deadline,
                        struct addrinfo **ret_list, struct drafter_error *err)
{
    struct addrinfo hints = {.ai_family = address->bracketed ? AF_INET6 : AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV | AI_NUMERICHOST};
    const char *host = address->host[0] ? address->host : NULL;
    int rc;

    if (passive)
        hints.ai_flags |= AI_PASSIVE;
    rc = getaddrinfo(host, address->port, &hints, ret_list); /* numeric: never waits */
    if (rc != 0 && rc != EAI_MEMORY && rc != EAI_SYSTEM && address->bracketed)
        return drafter_error_set(err, EINVAL, "[%s] is not an IPv6 address", host);
    if (rc == EAI_NONAME) {
        hints.ai_flags &= ~AI_NUMERICHOST;
        rc = tcp_lookup(address, &hints, deadline, ret_list);
    }
    return rc == 0 ? 0 : tcp_resolve_failed(host ? host : "localhost", rc, err);
}

void tcp_address_format(const struct sockaddr *address, socklen_t length, char *buffer, size_t size)
{
    char host[INET6_ADDRSTRLEN + 32], port[8];
    const char *shown = host;

    if (getnameinfo(address, length, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        snprintf(buffer, size, "unknown");
        return;
    }
    if (strncmp(host, "::ffff:", 7) == 0 && strchr(host, '.'))
        shown += 7;
    snprintf(buffer, size, strchr(shown, ':') ? "[%s]:%s" : "%s:%s", shown, port);
}
