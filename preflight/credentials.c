/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The files as such, and pre-shared keys; certificates: preflight/certificates.c. */
#include "config.h"

#include "preflight/credentials.h"

#include <glib/gi18n.h>
#include <string.h>

#include "preflight/credentials_priv.h"
#include "tls/credentials_priv.h"

static void file_clear(CredentialFile *file)
{
    if (file->text)
        explicit_bzero(file->text, file->len);
    g_clear_pointer(&file->text, g_free);
    g_clear_pointer(&file->error, g_free);
}

void credential_facts_clear(CredentialFacts *facts)
{
    file_clear(&facts->psk_file);
    file_clear(&facts->ca);
    file_clear(&facts->crl);
    file_clear(&facts->cert);
    file_clear(&facts->key);
}

static void read_file(const char *root, CredentialFile *file)
{
    g_autoptr(GError) error = NULL;

    if (!file->path || preflight_read(root, file->path, TLS_FILE_SIZE_MAX, &file->text, &file->len,
                                      &file->mode, &error))
        return;
    if (!file->optional || !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND))
        file->error = g_strdup(error->message);
}

void credentials_read(const char *root, CredentialFacts *facts)
{
    if (facts->psk) {
        read_file(root, &facts->psk_file);
        return;
    }
    read_file(root, &facts->ca);
    read_file(root, &facts->crl);
    read_file(root, &facts->cert);
    read_file(root, &facts->key);
}

PreflightCheck credentials_check(const CredentialFacts *facts)
{
    return facts->endpoint == TLS_ENDPOINT_SERVER ? CHECK_SERVER_CREDENTIALS
                                                  : CHECK_CLIENT_CREDENTIALS;
}

gboolean credential_is_there(GPtrArray *findings, const CredentialFacts *facts,
                             const CredentialFile *file, const char *what)
{
    if (file->text)
        return TRUE;
    if (!file->error)
        return FALSE;
    preflight_problem(findings, credentials_check(facts), PROBLEM_CREDENTIAL_FILE,
                      g_strdup_printf(_("%1$s cannot be read: %2$s"), what, file->error),
                      g_strdup_printf(_("put it at %1$s, readable for root (see "
                                        "https://libvirt.org/kbase/tlscerts.html), or name another "
                                        "file in virtpostcopyd.conf"),
                                      file->path));
    return FALSE;
}

void credential_judge_mode(GPtrArray *findings, const CredentialFacts *facts,
                           const CredentialFile *file)
{
    if ((file->mode & 077) == 0)
        return;
    preflight_problem(findings, credentials_check(facts), PROBLEM_KEY_PERMISSIONS,
                      g_strdup_printf(_("the key %1$s can be used by others than its owner (mode "
                                        "%2$04o)"),
                                      file->path, (guint)file->mode),
                      g_strdup_printf(_("run \"chmod 600 %1$s\""), file->path));
}

/* ---- pre-shared keys ---- */

static void judge_identity(GPtrArray *findings, const CredentialFacts *facts,
                           const GPtrArray *entries)
{
    const char *identity = facts->psk_identity;

    if (facts->endpoint == TLS_ENDPOINT_SERVER || !identity ||
        tls_psk_find(entries, identity, strlen(identity))) {
        preflight_pass(findings, credentials_check(facts), facts->psk_file.path);
        return;
    }
    preflight_problem(findings, credentials_check(facts), PROBLEM_PSK_IDENTITY,
                      g_strdup_printf(_("%1$s has no key of the identity \"%2$s\""),
                                      facts->psk_file.path, identity),
                      g_strdup_printf(_("run \"psktool -u %1$s -p %2$s\" and take the file to the "
                                        "other host, or set migration_psk_identity to one of the "
                                        "file's"),
                                      identity, facts->psk_file.path));
}

static void judge_psk(GPtrArray *findings, const CredentialFacts *facts)
{
    const CredentialFile *file = &facts->psk_file;
    g_autoptr(GPtrArray) entries = NULL;
    g_autoptr(GError) error = NULL;

    if (!credential_is_there(findings, facts, file, _("file of pre-shared keys")))
        return;
    credential_judge_mode(findings, facts, file);
    entries = tls_psk_parse(file->path, file->text, file->len, &error);
    if (entries)
        judge_identity(findings, facts, entries);
    else
        preflight_problem(findings, credentials_check(facts), PROBLEM_CREDENTIAL_MALFORMED,
                          g_strdup(error->message),
                          g_strdup_printf(_("make %1$s anew with psktool, the same on both hosts"),
                                          file->path));
}

void credentials_judge(GPtrArray *findings, const CredentialFacts *facts)
{
    if (facts->psk)
        judge_psk(findings, facts);
    else
        certificates_judge(findings, facts);
}
