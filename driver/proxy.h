/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One client and its own upstream connection, with the driver looking on.
 *
 * Frames pass unchanged in both directions. The driver is asked about each call of a client; it may
 * leave it alone, hold it, change it, answer it itself, watch for its reply, or make calls of its
 * own whose serials the client never sees. One upstream connection for each client, never shared,
 * closed when the client goes: libvirtd ties incoming guests and outgoing jobs to it
 * (facts: libvirt-rpc.md 4.1). Main thread only. */
#pragma once

#include "driver/rpc_stream.h"

typedef struct Proxy Proxy;

typedef enum {
    PROXY_CLIENT_UNIX,
    PROXY_CLIENT_TCP,
    PROXY_CLIENT_TLS,
    PROXY_CLIENT_INNER, /* the source libvirtd's own connection in a peer-to-peer migration */
    PROXY_CLIENT_RECOVERY, /* another host's daemon, for a recovery: driver/recovery_port.h */
} ProxyClientKind;

/* Who is at the other end of the client's connection. */
typedef struct {
    ProxyClientKind kind;
    gboolean read_only; /* came in on the -ro socket */
    gboolean has_creds; /* the next three are known (SO_PEERCRED) */
    pid_t pid;
    uid_t uid;
    gid_t gid;
    char *user_name;       /* of uid, or NULL */
    char *group_name;      /* of gid, or NULL */
    guint64 start_time;    /* of pid, in clock ticks since boot; 0 if not known */
    char *selinux_context; /* where SELinux is in use, else NULL */
    char *address;         /* for TCP, TLS and recovery, else NULL */
    char *dn;              /* for TLS (also in a recovery), else NULL */
} ProxyPeer;

void proxy_peer_clear(ProxyPeer *peer);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ProxyPeer, proxy_peer_clear)

typedef struct {
    /* A call from the client (types call and call-with-fds, any program). TRUE: the hook took the
     * frame. FALSE: it is forwarded. */
    gboolean (*call)(Proxy *proxy, RpcFrame *frame, gpointer data);
    /* An event from upstream (type message, any program), on its way to the client. TRUE: the hook
     * took the frame and sends what is to be sent with proxy_reply(). FALSE: it is forwarded. May be
     * NULL. */
    gboolean (*message)(Proxy *proxy, RpcFrame *frame, gpointer data);
    /* The client or the upstream is gone; once. Watches and own calls have ended before. */
    void (*closed)(Proxy *proxy, gpointer data);
} ProxyHooks;

/* A reply to a watched or own call; takes reply. reply is NULL, once, if the proxy closes first. */
typedef void (*ProxyReplyFunc)(Proxy *proxy, RpcFrame *reply, gpointer data);

/* Takes both streams and copies peer. hooks must outlive the proxy. The proxy keeps itself alive
 * until it is closed; who wants it for longer takes a reference to what is returned. */
Proxy *proxy_new(RpcStream *client, RpcStream *upstream, const ProxyPeer *peer,
                 const ProxyHooks *hooks, gpointer data);
Proxy *proxy_ref(Proxy *proxy);
void proxy_unref(Proxy *proxy);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Proxy, proxy_unref)

const ProxyPeer *proxy_peer(const Proxy *proxy);
const char *proxy_name(const Proxy *proxy); /* for log lines: "unix-12", "tls-3", "recovery-1" */
/* From the moment on that either side is gone or proxy_close() was called. What is sent after that
 * is dropped, but for proxy_reply() from inside a ProxyReplyFunc, if the client is still there. */
gboolean proxy_is_closed(const Proxy *proxy);

/* What is queued is still written. The hooks hear of it later, from the main loop. */
void proxy_close(Proxy *proxy);

/* A place for the driver's own state of this client; freed with the proxy. */
void proxy_set_data(Proxy *proxy, gpointer data, GDestroyNotify destroy);
gpointer proxy_get_data(const Proxy *proxy);

/* Sends a client's call upstream; takes frame. */
void proxy_forward(Proxy *proxy, RpcFrame *frame);

/* The same, but the reply comes to func instead of the client: func answers with proxy_reply().
 * The client has its calls' serials to itself, so one reply is one call; a client that uses a
 * serial again before its reply is closed. */
void proxy_forward_watched(Proxy *proxy, RpcFrame *frame, ProxyReplyFunc func, gpointer data);

/* Sends a frame to the client; takes frame. */
void proxy_reply(Proxy *proxy, RpcFrame *frame);

/* Answers call with an error object of libvirt's (virErrorNumber, virErrorDomain). */
void proxy_reply_error(Proxy *proxy, const RpcHeader *call, int code, int domain,
                       const char *message);

/* A call of the daemon's own to upstream, with a serial the client does not see. On a closed proxy
 * func hears NULL, later. */
void proxy_call(Proxy *proxy, guint32 program, gint32 procedure, const void *payload, gsize len,
                ProxyReplyFunc func, gpointer data);

/* The inner connection's upstream peer, for SO_PEERCRED checks: FALSE if not a unix socket. */
gboolean proxy_upstream_creds(const Proxy *proxy, pid_t *ret_pid, uid_t *ret_uid);
