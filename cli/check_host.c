/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* This host, as libvirt, its files and its processes show it. */
#include "config.h"

#include <glib/gi18n.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "cli/check_parts.h"
#include "driver/preflight_config.h"
#include "driver/upstream.h"
#include "preflight/memory.h"
#include "preflight/preflight.h"
#include "preflight/qemu_conf.h"
#include "preflight/userfaultfd.h"
#include "preflight/versions.h"
#include "util/autofd.h"

/* ---- libvirt ---- */

/* A connected socket, or -1. */
static int connect_unix(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    autofd fd = -1;

    if (strlen(path) >= sizeof address.sun_path)
        return -1;
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return -1;
    return autofd_steal(&fd);
}

/* The first of those the daemon would try that somebody answers on; *ret_pid: who. */
static char *find_socket(const Settings *settings, pid_t *ret_pid)
{
    g_auto(GStrv) paths = upstream_candidates(settings, /* read_only= */ FALSE);

    for (char **path = paths; *path; path++) {
        struct ucred creds;
        socklen_t len = sizeof creds;
        autofd fd = connect_unix(*path);

        if (fd < 0)
            continue;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &creds, &len) == 0)
            *ret_pid = creds.pid;
        return g_strdup(*path);
    }
    return NULL;
}

static void libvirt_unreachable(Check *check, const char *reason)
{
    preflight_problem(check->findings, CHECK_LIBVIRT, PROBLEM_LIBVIRT_UNREACHABLE, g_strdup(reason),
                      g_strdup(_("run \"systemctl start libvirtd\" (or virtqemud), or set "
                                 "upstream_socket in virtpostcopyd.conf to its socket")));
}

static void open_libvirt(Check *check)
{
    g_autofree char *path = find_socket(check->settings, &check->libvirt_pid);
    g_autofree char *escaped = NULL;
    g_autofree char *uri = NULL;
    g_autoptr(GError) error = NULL;

    if (!path) {
        libvirt_unreachable(check, _("neither libvirtd nor virtqemud answers on its socket"));
        return;
    }
    escaped = g_uri_escape_string(path, "/", FALSE);
    uri = g_strdup_printf("qemu+unix:///system?socket=%s", escaped);
    check->libvirt = connection_open(uri, FALSE, &error);
    if (!check->libvirt)
        libvirt_unreachable(check, error->message);
}

static void look_at_libvirt(Check *check)
{
    g_autoptr(GError) error = NULL;
    gulong version = 0;
    char *xml;

    if (virConnectGetLibVersion(check->libvirt, &version) == 0)
        versions_judge_libvirt(check->findings, CHECK_LIBVIRT, version);
    if (virConnectGetVersion(check->libvirt, &check->qemu_version) < 0)
        check->qemu_version = 0;
    versions_judge_qemu(check->findings, CHECK_QEMU, check->qemu_version);
    xml = virConnectGetCapabilities(check->libvirt);
    check->capabilities = g_strdup(xml);
    free(xml);
    if (!check->capabilities)
        connection_error(&error);
    else
        check->has_owner = capabilities_qemu_owner(check->capabilities, &check->owner, &error);
    if (!check->has_owner)
        libvirt_unreachable(check, error->message);
}

/* ---- the whole ---- */

/* Takes what was found of a role. */
static void add_of_role(Check *check, CheckRole role, GPtrArray *found)
{
    if (role == CHECK_ROLE_ASIDE)
        findings_take_as_warnings(check->findings, found);
    else
        findings_take(check->findings, found);
}

static void look_at_userfaultfd(Check *check)
{
    GPtrArray *found = findings_new();
    UserfaultfdFacts facts;

    userfaultfd_look("", &check->owner, check->qemu_version, &facts);
    userfaultfd_probe(&facts);
    userfaultfd_judge(found, &facts);
    add_of_role(check, check->destination, found);
}

static void look_at_credentials(Check *check, CheckRole role, TlsEndpoint endpoint)
{
    PreflightConfig config = preflight_config(check->settings);
    GPtrArray *found;

    if (role == CHECK_ROLE_NONE)
        return;
    found = findings_new();
    preflight_credentials(found, &config, endpoint,
                          endpoint == TLS_ENDPOINT_SERVER ? config.host_name : NULL);
    add_of_role(check, role, found);
}

static void look_at_memory(Check *check)
{
    g_autoptr(GArray) pools = hugepages_look("");
    MemlockFacts facts = { 0 };

    if (check->libvirt_pid > 0) {
        memlock_look("", check->libvirt_pid, &facts);
        memlock_judge(check->findings, &facts);
    }
    hugepages_judge_host(check->findings, pools);
}

static gboolean daemon_answers(Check *check)
{
    g_autofree char *path =
        g_strconcat(check->settings->unix_sock_dir, "/virtpostcopyd-sock", NULL);
    g_autofree char *escaped = g_uri_escape_string(path, "/", FALSE);
    g_autofree char *uri = g_strdup_printf("postcopy+unix:///system?socket=%s", escaped);
    g_autoptr(GError) error = NULL;
    g_autoptr(virConnect) connection = connection_open(uri, FALSE, &error);

    if (connection) {
        preflight_pass(check->findings, CHECK_DAEMON, path);
        return TRUE;
    }
    preflight_problem(
        check->findings, CHECK_DAEMON, PROBLEM_DAEMON_DOWN, g_strdup(error->message),
        g_strdup(_("run \"systemctl enable --now virtpostcopyd.socket "
                   "virtpostcopyd-ro.socket\"; if that does not help, \"journalctl -u "
                   "virtpostcopyd\" says why")));
    return FALSE;
}

void check_host(Check *check)
{
    PreflightConfig config = preflight_config(check->settings);
    GPtrArray *findings = check->findings;

    open_libvirt(check);
    if (check->libvirt)
        look_at_libvirt(check);
    qemu_conf_look(findings, "");
    if (check->has_owner && check->destination != CHECK_ROLE_NONE)
        look_at_userfaultfd(check);
    look_at_memory(check);
    look_at_credentials(check, check->destination, TLS_ENDPOINT_SERVER);
    look_at_credentials(check, check->source, TLS_ENDPOINT_CLIENT);
    preflight_helper(findings, &config);
    check_ports(check, daemon_answers(check));
    /* After the daemon, which makes it when it starts. */
    if (check->has_owner)
        preflight_run_dir(findings, &config, &check->owner);
    preflight_confinement(findings, &config);
}
