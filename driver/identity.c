/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/identity.h"

#include <grp.h>
#include <libvirt/libvirt.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/bytes.h"

#define LABEL_MAX 4096u
#define NAMES_MAX (1024u * 1024)

/* --- finding out --- */

guint64 identity_parse_start_time(const char *stat)
{
    /* The program's name is in brackets and may hold anything, brackets and spaces as well. */
    const char *p = strrchr(stat, ')');
    g_auto(GStrv) fields = NULL;

    if (!p || p[1] != ' ')
        return 0;
    fields = g_strsplit(p + 2, " ", 0); /* from field 3 on */
    if (g_strv_length(fields) < 20)
        return 0;
    return g_ascii_strtoull(fields[22 - 3], NULL, 10);
}

static guint64 start_time(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
    g_autofree char *stat = NULL;

    return g_file_get_contents(path, &stat, NULL, NULL) ? identity_parse_start_time(stat) : 0;
}

/* Other security modules answer SO_PEERSEC too, but libvirt wants SELinux's labels only. */
static char *selinux_context(int fd)
{
    char label[LABEL_MAX + 1];
    socklen_t len = LABEL_MAX;

    if (access("/sys/fs/selinux/enforce", F_OK) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERSEC, label, &len) < 0)
        return NULL;
    label[len] = '\0';
    return g_strdup(label);
}

void identity_take(int fd, ProxyPeer *peer)
{
    struct ucred creds;
    socklen_t len = sizeof creds;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &creds, &len) < 0)
        return;
    peer->has_creds = TRUE;
    peer->pid = creds.pid;
    peer->uid = creds.uid;
    peer->gid = creds.gid;
    peer->start_time = start_time(creds.pid);
    peer->selinux_context = selinux_context(fd);
}

void identity_find_names(ProxyPeer *peer)
{
    struct passwd pw, *user = NULL;
    struct group gr, *group = NULL;
    g_autofree char *buffer = NULL;

    for (gsize len = 4096; len <= NAMES_MAX; len *= 4) {
        buffer = g_realloc(buffer, len);
        if (getpwuid_r(peer->uid, &pw, buffer, len, &user) != ERANGE)
            break;
    }
    if (user)
        peer->user_name = g_strdup(user->pw_name);
    for (gsize len = 4096; len <= NAMES_MAX; len *= 4) {
        buffer = g_realloc(buffer, len);
        if (getgrgid_r(peer->gid, &gr, buffer, len, &group) != ERANGE)
            break;
    }
    if (group)
        peer->group_name = g_strdup(group->gr_name);
}

/* --- telling --- */

static void put_string(GByteArray *out, const char *text)
{
    static const guint8 padding[4];
    gsize len = strlen(text);

    bytes_put_u32(out, (guint32)len);
    g_byte_array_append(out, (const guint8 *)text, (guint)len);
    g_byte_array_append(out, padding, (guint)(-len & 3));
}

static guint put_text_param(GByteArray *out, const char *field, const char *text)
{
    if (!text)
        return 0;
    put_string(out, field);
    bytes_put_u32(out, VIR_TYPED_PARAM_STRING);
    put_string(out, text);
    return 1;
}

static guint put_number_param(GByteArray *out, const char *field, virTypedParameterType type,
                              guint64 value)
{
    put_string(out, field);
    bytes_put_u32(out, type);
    bytes_put_u64(out, value);
    return 1;
}

static guint put_creds(GByteArray *out, const ProxyPeer *peer)
{
    guint n = 0;

    n += put_text_param(out, VIR_CONNECT_IDENTITY_USER_NAME, peer->user_name);
    n += put_number_param(out, VIR_CONNECT_IDENTITY_UNIX_USER_ID, VIR_TYPED_PARAM_ULLONG,
                          peer->uid);
    n += put_text_param(out, VIR_CONNECT_IDENTITY_GROUP_NAME, peer->group_name);
    n += put_number_param(out, VIR_CONNECT_IDENTITY_UNIX_GROUP_ID, VIR_TYPED_PARAM_ULLONG,
                          peer->gid);
    if (peer->pid > 0) /* 0: a process of another PID namespace */
        n += put_number_param(out, VIR_CONNECT_IDENTITY_PROCESS_ID, VIR_TYPED_PARAM_LLONG,
                              (guint64)peer->pid);
    if (peer->start_time)
        n += put_number_param(out, VIR_CONNECT_IDENTITY_PROCESS_TIME, VIR_TYPED_PARAM_ULLONG,
                              peer->start_time);
    return n;
}

GByteArray *identity_encode(const ProxyPeer *peer)
{
    GByteArray *payload = g_byte_array_new();
    g_autoptr(GByteArray) params = g_byte_array_new();
    guint n = 0;

    if (peer->has_creds)
        n += put_creds(params, peer);
    n += put_text_param(params, VIR_CONNECT_IDENTITY_SELINUX_CONTEXT, peer->selinux_context);
    n += put_text_param(params, VIR_CONNECT_IDENTITY_X509_DISTINGUISHED_NAME, peer->dn);

    bytes_put_u32(payload, n);
    g_byte_array_append(payload, params->data, params->len);
    bytes_put_u32(payload, 0); /* flags */
    return payload;
}
