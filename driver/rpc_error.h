/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libvirt's error object: the payload of a reply (or stream packet) with status error.
 *
 *     int code; int domain; optional string message; int level; optional domain; optional
 *     strings str1, str2, str3; int int1, int2; optional network   (facts: libvirt-rpc.md 2.3)
 *
 * code and domain are virErrorNumber and virErrorDomain. Pure. */
#pragma once

#include "driver/rpc_frame.h"

typedef struct {
    int code;
    int domain;
    char *message; /* or NULL */
} RpcError;

void rpc_error_clear(RpcError *e);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RpcError, rpc_error_clear)

/* The object for message, level error; free with g_byte_array_unref(). */
GByteArray *rpc_error_encode(int code, int domain, const char *message);

/* Reads the first three fields; the others are of no use to anybody here. */
gboolean rpc_error_decode(const void *payload, gsize len, RpcError *ret_error, GError **error);

/* libvirt's code (virErrorNumber) in a reply; 0: it is no error, or not to be read. */
int rpc_error_code(const RpcFrame *reply);

/* The reply with status error to that call. */
RpcFrame *rpc_error_reply(const RpcHeader *call, int code, int domain, const char *message);

/* Takes reply, an error reply, and gives it with another message, or with ": " and text behind the
 * message it has; every other field stays. A reply that cannot be decoded comes back as it is. */
RpcFrame *rpc_error_replace_message(RpcFrame *reply, const char *message);
RpcFrame *rpc_error_append_message(RpcFrame *reply, const char *text);
