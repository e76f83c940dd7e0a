/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench-tls.h"

#include <drafter/common.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE (1u << 20)
#define READ_BUFFER 262144 /* as much as we read at a time */

struct sender {
    SSL *ssl;
    uint64_t bytes;
};

static SSL_CTX *make_context(bool server, const char *suite, const char *key, const char *certificate)
{
    SSL_CTX *context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

    if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(context, suite))
        bench_die("openssl", suite);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, READ_BUFFER);
    if (server && (SSL_CTX_use_certificate_file(context, certificate, SSL_FILETYPE_PEM) != 1 ||
                   SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1))
        bench_die("openssl", "does not take the key");
    return context;
}

/* Two connected sockets, TCP_NODELAY as tcp sets it. */
static void connect_sockets(int fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || fds[0] < 0 || bind(listener, (struct sockaddr *)&address, size) ||
        listen(listener, 1) || getsockname(listener, (struct sockaddr *)&address, &size) ||
        connect(fds[0], (struct sockaddr *)&address, size))
        bench_die("openssl", "no connection");
    fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    for (unsigned i = 0; i < 2; i++)
        if (setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
            bench_die("openssl", "no connection");
}

static void *accept_main(void *opaque)
{
    if (SSL_accept(opaque) != 1)
        bench_die("openssl", "the handshake failed");
    return NULL;
}

static void *send_main(void *opaque)
{
    struct sender *sender = opaque;
    char *data = calloc(1, PIECE);

    for (uint64_t done = 0; done < sender->bytes;) {
        int part = data ? SSL_write(sender->ssl, data, PIECE) : -1;

        if (part <= 0)
            bench_die("openssl", "cannot write");
        done += (unsigned)part;
    }
    free(data);
    return NULL;
}

static void receive(SSL *ssl, uint64_t bytes)
{
    char *data = malloc(PIECE);

    for (uint64_t done = 0; done < bytes;) {
        int part = data ? SSL_read(ssl, data, PIECE) : -1;

        if (part <= 0)
            bench_die("openssl", "cannot read");
        done += (unsigned)part;
    }
    free(data);
}

double bench_openssl(const char *suite, const char *key, const char *certificate, uint64_t bytes)
{
    SSL_CTX *contexts[] = {make_context(false, suite, key, certificate),
                           make_context(true, suite, key, certificate)};
    SSL *near = SSL_new(contexts[0]), *far = SSL_new(contexts[1]);
    struct sender sender = {near, bytes};
    pthread_t thread;
    uint64_t start;
    double seconds;
    int fds[2];

    connect_sockets(fds);
    if (!near || !far || !SSL_set_fd(near, fds[0]) || !SSL_set_fd(far, fds[1]) ||
        pthread_create(&thread, NULL, accept_main, far))
        bench_die("openssl", "out of memory");
    if (SSL_connect(near) != 1)
        bench_die("openssl", "the handshake failed");
    pthread_join(thread, NULL);
    start = bench_cpu_ns();
    if (pthread_create(&thread, NULL, send_main, &sender))
        bench_die("thread", "cannot start");
    receive(far, bytes);
    seconds = (double)(bench_cpu_ns() - start) / 1e9;
    pthread_join(thread, NULL);
    SSL_free(near);
    SSL_free(far);
    SSL_CTX_free(contexts[0]);
    SSL_CTX_free(contexts[1]);
    close(fds[0]);
    close(fds[1]);
    return (double)bytes / 1e6 / seconds;
}
