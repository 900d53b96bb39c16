/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every key of virtpostcopyd.conf. A row here needs its place in virtpostcopyd.conf(5) and in
 * virtpostcopyd.conf.in: a test compares them. */
#include "config.h"

#include "driver/settings_priv.h"

#include <glib/gi18n.h>

#include "ram/job_limits.h"

#define AT(field) G_STRUCT_OFFSET(Settings, field)

#define RECOVER_TIMEOUT_MAX 604800 /* a week */

/* keepalive_*: also what the kernel takes for its own probes. */
const SettingRow setting_rows[] = {
    { "unix_sock_dir", SETTING_PATH, DEFAULT_SOCK_DIR, AT(unix_sock_dir),
      N_("directory of the local sockets") },
    { "unix_sock_group", SETTING_TEXT, "", AT(unix_sock_group), N_("group of the local sockets") },
    { "unix_sock_ro_perms", SETTING_MODE, "0777", AT(unix_sock_ro_perms),
      N_("permissions of the read-only socket") },
    { "unix_sock_rw_perms", SETTING_MODE, "0700", AT(unix_sock_rw_perms),
      N_("permissions of the read-write socket") },
    { "memory_sock_group", SETTING_TEXT, "", AT(memory_sock_group),
      N_("group of the memory clients' socket") },
    { "memory_sock_perms", SETTING_MODE, "0700", AT(memory_sock_perms),
      N_("permissions of the memory clients' socket") },
    { "memory_max_migrations", SETTING_UINT, "256", AT(memory_max_migrations),
      N_("migrations of memory clients at once"), 1, 10000 },
    { "memory_max_migrations_per_user", SETTING_UINT, "128", AT(memory_max_migrations_per_user),
      N_("migrations of one user's memory clients at once"), 1, 10000 },
    { "max_clients", SETTING_UINT, "5000", AT(max_clients), N_("clients connected at once"), 1,
      100000 },

    { "listen_tls", SETTING_BOOL, "0", AT(listen_tls), N_("accept TLS connections") },
    { "listen_tcp", SETTING_BOOL, "0", AT(listen_tcp), N_("accept plain TCP connections") },
    { "listen_addr", SETTING_ADDRESS, "", AT(listen_addr),
      N_("address that remote clients connect to") },
    { "tls_port", SETTING_PORT, "16514", AT(tls_port), N_("port that TLS clients connect to") },
    { "tcp_port", SETTING_PORT, "16555", AT(tcp_port), N_("port that TCP clients connect to") },

    { "key_file", SETTING_PATH, SYSCONFDIR "/pki/libvirt/private/serverkey.pem", AT(key_file),
      N_("key of this host as a server") },
    { "cert_file", SETTING_PATH, SYSCONFDIR "/pki/libvirt/servercert.pem", AT(cert_file),
      N_("certificate of this host as a server") },
    { "ca_file", SETTING_PATH, SYSCONFDIR "/pki/CA/cacert.pem", AT(ca_file),
      N_("certificate authority") },
    { "crl_file", SETTING_PATH, SYSCONFDIR "/pki/CA/cacrl.pem", AT(crl_file),
      N_("list of revoked certificates") },
    { "client_key_file", SETTING_PATH, SYSCONFDIR "/pki/libvirt/private/clientkey.pem",
      AT(client_key_file), N_("key of this host as a client") },
    { "client_cert_file", SETTING_PATH, SYSCONFDIR "/pki/libvirt/clientcert.pem",
      AT(client_cert_file), N_("certificate of this host as a client") },
    { "tls_allowed_dn_list", SETTING_LIST, "", AT(tls_allowed_dn_list),
      N_("distinguished names of remote clients") },

    { "upstream_socket", SETTING_PATH, "", AT(upstream_socket),
      N_("socket of the daemon that runs the guests") },

    { "host_name", SETTING_HOST, "", AT(host_name), N_("name that other hosts know this one by") },
    { "migration_address", SETTING_ADDRESS, "::", AT(migration_address),
      N_("address that migration sessions come in on") },
    { "migration_port", SETTING_PORT, "16515", AT(migration_port),
      N_("port that migration sessions come in on") },
    { "migration_auth", SETTING_WORD, "x509", AT(migration_auth),
      N_("how the hosts of a migration prove who they are"), 0, 0, { "x509", "psk" } },
    { "migration_psk_file", SETTING_PATH, "", AT(migration_psk_file),
      N_("file of pre-shared keys") },
    { "migration_psk_identity", SETTING_TEXT, "", AT(migration_psk_identity),
      N_("which pre-shared key this host presents") },
    { "migration_allowed_dn_list", SETTING_LIST, "", AT(migration_allowed_dn_list),
      N_("distinguished names of other hosts") },
    { "migration_window", SETTING_UINT, "4194304", AT(migration_window),
      N_("bytes in flight before acknowledgement"), 64 * 1024, 1024 * 1024 * 1024 },
    { "migration_stage", SETTING_BYTES, G_STRINGIFY(JOB_STAGE_DEFAULT), AT(migration_stage),
      N_("bytes of memory that wait to be sent"), JOB_STAGE_MIN, JOB_STAGE_MAX },
    { "migration_compression", SETTING_WORD, "auto", AT(migration_compression),
      N_("whether memory is compressed"), 0, 0, { "auto", "on", "off" } },
    { "migration_compression_level", SETTING_UINT, G_STRINGIFY(JOB_COMPRESSION_LEVEL_DEFAULT),
      AT(migration_compression_level), N_("how hard to compress"), JOB_COMPRESSION_LEVEL_MIN,
      JOB_COMPRESSION_LEVEL_MAX },
    { "migration_pace_qemu", SETTING_BOOL, "0", AT(migration_pace_qemu),
      N_("keep QEMU to the speed of the link in post-copy") },
    { "migration_direct_reading", SETTING_BOOL, "1", AT(migration_direct_reading),
      N_("read pages from the memory of the QEMU that is left") },
    { "migration_direct_placing", SETTING_BOOL, "1", AT(migration_direct_placing),
      N_("place pages in the memory of the QEMU that is come to") },
    { "connect_timeout", SETTING_UINT, "10", AT(connect_timeout),
      N_("seconds to wait for another host"), 1, 600 },
    { "keepalive_interval", SETTING_UINT, G_STRINGIFY(JOB_HEARTBEAT_DEFAULT),
      AT(keepalive_interval), N_("seconds between probes of a silent peer"), 1,
      JOB_HEARTBEAT_MAX },
    { "keepalive_count", SETTING_UINT, G_STRINGIFY(JOB_HEARTBEATS_DEFAULT), AT(keepalive_count),
      N_("probes without answer until a connection is lost"), 1, JOB_HEARTBEATS_MAX },
    { "reconnect_timeout", SETTING_UINT, G_STRINGIFY(JOB_RECONNECT_DEFAULT), AT(reconnect_timeout),
      N_("seconds to wait for a lost connection to come back"), 0, JOB_RECONNECT_MAX },
    { "auto_recover", SETTING_BOOL, "1", AT(auto_recover),
      N_("resume a broken post-copy migration without being asked") },
    { "recover_timeout", SETTING_UINT, "600", AT(recover_timeout),
      N_("seconds to try to resume a broken migration"), 0, RECOVER_TIMEOUT_MAX },
    { "migration_rekey_records", SETTING_UINT, "0", AT(migration_rekey_records),
      N_("records until new keys, for tests"), 0, JOB_REKEY_MAX },
    { "allow_plain_destination", SETTING_BOOL, "0", AT(allow_plain_destination),
      N_("allow migration in clear to a host without this daemon") },

    { "helper_path", SETTING_PATH, LIBEXECDIR "/virt-postcopy-helper", AT(helper_path),
      N_("helper program") },
    { "helper_user", SETTING_TEXT, HELPER_USER, AT(helper_user), N_("user that helpers run as") },
    { "run_dir", SETTING_PATH, "", AT(run_dir), N_("directory of this daemon's run-time files") },
    { "log_level", SETTING_UINT, "2", AT(log_level),
      N_("1 debug, 2 information, 3 warnings, 4 errors"), 1, 4 },
};

const gsize setting_rows_len = G_N_ELEMENTS(setting_rows);
