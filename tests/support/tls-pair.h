/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two TLS channels joined by a socket pair, driven alternately in one thread. */
#pragma once

#include "tests/support/pki-gen.h"
#include "tls/channel.h"

typedef struct {
    TlsChannel *client; /* NULL once it has failed */
    TlsChannel *server;
    GError *client_error; /* why */
    GError *server_error;
} TlsPair;

/* Credentials by way of files, as the programs make them. cas: PEM text; crl: PEM text or NULL.
 * The files are called cacert.pem, cert.pem, key.pem, crl.pem. NULL with error. */
TlsCredentials *tls_pair_x509(TlsEndpoint endpoint, const char *cas, const PkiIdentity *own,
                              const char *crl, GError **error);
/* From lines of a PSK file; aborts the test if they are bad. */
TlsCredentials *tls_pair_psk(TlsEndpoint endpoint, const char *lines);

/* Takes the configurations as they are but sets their endpoints. */
void tls_pair_init(TlsPair *pair, TlsCredentials *client_creds, TlsChannelConfig client,
                   TlsCredentials *server_creds, TlsChannelConfig server);
void tls_pair_clear(TlsPair *pair);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(TlsPair, tls_pair_clear)

/* Until each end is open or has failed. An end that fails is closed at once, as the programs do,
 * and the other then reads, for that is where TLS 1.3 shows a client that it was refused. */
void tls_pair_handshake(TlsPair *pair);

/* A connected pair of non-blocking sockets. */
void tls_pair_sockets(int ret_fds[2]);
