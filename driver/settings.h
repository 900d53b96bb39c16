/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The settings of virtpostcopyd: every key of virtpostcopyd.conf, typed and checked.
 * What each key means to the administrator stands in virtpostcopyd.conf(5). */
#pragma once

#include <gio/gio.h>
#include <sys/types.h>

#define SETTINGS_ERROR (settings_error_quark())
GQuark settings_error_quark(void);

typedef enum {
    SETTINGS_ERROR_FILE,     /* cannot be read */
    SETTINGS_ERROR_UNKNOWN,  /* no such key */
    SETTINGS_ERROR_TYPE,     /* integer, string or list where it must be something else */
    SETTINGS_ERROR_VALUE,    /* out of range, not one of the words, not a path... */
    SETTINGS_ERROR_CONFLICT, /* two keys that do not go together */
} SettingsError;

#define SETTINGS_DEFAULT_PATH SYSCONFDIR "/libvirt/virtpostcopyd.conf"

typedef enum { MIGRATION_AUTH_X509, MIGRATION_AUTH_PSK } MigrationAuth;

typedef enum {
    MIGRATION_COMPRESSION_AUTO,
    MIGRATION_COMPRESSION_ON,
    MIGRATION_COMPRESSION_OFF,
} MigrationCompression;

/* Immutable after loading. A char * is NULL where the comment says so, never "". */
typedef struct {
    /* Local sockets. */
    char *unix_sock_dir;       /* where libvirt's sockets are, and ours */
    char *unix_sock_group;     /* or NULL: the process's own */
    guint unix_sock_ro_perms;  /* mode bits */
    guint unix_sock_rw_perms;
    guint max_clients;
    char *memory_sock_group;   /* as unix_sock_*, of memory clients' socket */
    guint memory_sock_perms;
    guint memory_max_migrations;
    guint memory_max_migrations_per_user;

    /* Remote clients. */
    gboolean listen_tls;
    gboolean listen_tcp;
    char *listen_addr; /* an IP address, or NULL: every one */
    guint16 tls_port;
    guint16 tcp_port;

    /* X.509, libvirt's PKI layout: server side, client side. */
    char *key_file;
    char *cert_file;
    char *ca_file;
    char *crl_file;
    gboolean crl_required; /* crl_file stands in the file: it must exist */
    char *client_key_file;
    char *client_cert_file;
    char **tls_allowed_dn_list; /* or NULL: every DN */

    /* Upstream. */
    char *upstream_socket; /* or NULL: virtqemud-sock, else libvirt-sock, in unix_sock_dir */

    /* Migration sessions. */
    char *host_name;         /* or NULL: the system's */
    char *migration_address; /* an IP address */
    guint16 migration_port;
    MigrationAuth migration_auth;
    char *migration_psk_file;         /* or NULL; set if migration_auth is PSK */
    char *migration_psk_identity;     /* or NULL: the file's first */
    char **migration_allowed_dn_list; /* or NULL: every DN */
    guint migration_window;           /* bytes in flight before acknowledgement */
    guint64 migration_stage;          /* bytes taken from QEMU and not sent yet */
    MigrationCompression migration_compression;
    guint migration_compression_level; /* zstd's */
    gboolean migration_pace_qemu;
    gboolean migration_direct_reading;
    gboolean migration_direct_placing;
    guint connect_timeout;            /* seconds */
    guint keepalive_interval;         /* seconds */
    guint keepalive_count;
    guint reconnect_timeout;          /* seconds; 0: for ever */
    gboolean auto_recover;
    guint recover_timeout;            /* seconds; 0: for ever */
    guint migration_rekey_records;    /* 0: when the library wants it */
    gboolean allow_plain_destination;

    /* Processes. */
    char *helper_path;
    char *helper_user;
    char *run_dir; /* never NULL: "virtpostcopy" in unix_sock_dir unless set */
    guint log_level; /* a LogLevel of util/log.h */
} Settings;

/* path NULL: SETTINGS_DEFAULT_PATH, and every default if there is no such file. A path that was
 * asked for must exist. Messages name the file, the line and the key. */
Settings *settings_load(const char *path, GError **error);

/* The same for text that is there already; filename is for messages. Pure. */
Settings *settings_parse(const char *text, gsize len, const char *filename, GError **error);

/* What this host is called: as configured, else as the system says. The settings' or static. */
const char *settings_host_name(const Settings *settings);

void settings_free(Settings *settings);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Settings, settings_free)
