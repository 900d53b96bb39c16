/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virt-postcopy check: is this host, the way to another one, and a domain, ready for post-copy? */
#include "config.h"

#include <glib/gi18n.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/check_parts.h"
#include "cli/check_view.h"
#include "cli/commands.h"
#include "preflight/problem.h"
#include "util/log.h"
#include "xml/peer_uri.h"

/* It could not run, which says nothing of the host. */
#define CHECK_NOT_RUN CLI_USAGE

typedef struct {
    char *config;
    char *domain;
    char *to;
    char *migrate_uri;
    char *as;
    gboolean json;
    gboolean list_ids;
} CheckOptions;

static void check_options_clear(CheckOptions *options)
{
    g_free(options->config);
    g_free(options->domain);
    g_free(options->to);
    g_free(options->migrate_uri);
    g_free(options->as);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CheckOptions, check_options_clear)

void check_clear(Check *check)
{
    g_clear_pointer(&check->findings, g_ptr_array_unref);
    g_clear_pointer(&check->libvirt, virConnectClose);
    g_clear_pointer(&check->peer, virConnectClose);
    g_clear_pointer(&check->capabilities, g_free);
    g_clear_pointer(&check->peer_name, g_free);
}

static gboolean print_ids(GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (PreflightProblem problem = 0; problem < PROBLEM_MAX; problem++)
        g_string_append_printf(text, "%s %s\n", preflight_problem_id(problem),
                               finding_verdict_name(preflight_problem_verdict(problem)));
    return command_print(text->str, error);
}

static gboolean is_as(const CheckOptions *options, const char *role)
{
    return g_strcmp0(options->as, role) == 0;
}

/* The way to another host is a source's: then what would keep this one from being a destination is
 * only worth a remark. */
static void set_roles(Check *check, const CheckOptions *options)
{
    if (is_as(options, "destination"))
        check->source = CHECK_ROLE_NONE;
    if (is_as(options, "source"))
        check->destination = CHECK_ROLE_NONE;
    else if (options->to)
        check->destination = CHECK_ROLE_ASIDE;
}

static gboolean run_checks(Check *check, const CheckOptions *options, GError **error)
{
    set_roles(check, options);
    check_host(check);
    if (options->to)
        check_peer(check, options->to, options->migrate_uri);
    return !options->domain || check_domain(check, options->domain, error);
}

/* What was found is printed, also if not everything could be looked at. */
static gboolean run_and_print(const CheckOptions *options, FindingVerdict *ret_verdict,
                              GError **error)
{
    g_autoptr(Settings) settings = settings_load(options->config, error);
    g_auto(Check) check = { .settings = settings, .findings = findings_new() };
    g_autofree char *text = NULL;
    gboolean done;

    if (!settings)
        return FALSE;
    done = run_checks(&check, options, error);
    text = options->json ? check_view_json(check.findings) : check_view_table(check.findings);
    *ret_verdict = findings_verdict(check.findings);
    return command_print(text, done ? error : NULL) && done;
}

static gboolean may_run(const CheckOptions *options, GError **error)
{
    g_auto(PeerUri) uri = { NULL };

    if (options->migrate_uri && !peer_uri_parse(options->migrate_uri, &uri, error))
        return FALSE;
    if (geteuid() == 0)
        return TRUE;
    g_set_error(
        error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
        _("check must be run by root: it reads this host's keys, and tries what QEMU's user "
          "may do"));
    return FALSE;
}

static int run(const CheckOptions *options)
{
    g_autoptr(GError) error = NULL;
    FindingVerdict verdict = FINDING_PASS;

    log_init(LOG_LEVEL_ERROR);
    if (options->list_ids ? print_ids(&error)
                          : may_run(options, &error) && run_and_print(options, &verdict, &error))
        return verdict == FINDING_FAIL ? CLI_FAILED : CLI_OK;
    command_failed(error);
    return CHECK_NOT_RUN;
}

static int run_check(const Command *command, CliOptions *common, int argc, char **argv)
{
    g_auto(CheckOptions) options = { NULL };
    const GOptionEntry entries[] = {
        { "config", 'f', 0, G_OPTION_ARG_FILENAME, &options.config,
          N_("virtpostcopyd's configuration file"), N_("FILE") },
        { "domain", 0, 0, G_OPTION_ARG_STRING, &options.domain,
          N_("Look at this domain as well"), N_("DOMAIN") },
        { "to", 0, 0, G_OPTION_ARG_STRING, &options.to,
          N_("Look at the way to this host as well, as for virsh migrate"), N_("URI") },
        { "migrateuri", 0, 0, G_OPTION_ARG_STRING, &options.migrate_uri,
          N_("Where its migrations come in, as for virsh migrate"), N_("URI") },
        { "as", 0, 0, G_OPTION_ARG_STRING, &options.as,
          N_("What this host is to be: source or destination; by default both"), N_("ROLE") },
        { "json", 'j', 0, G_OPTION_ARG_NONE, &options.json, N_("Print JSON"), NULL },
        { "list-ids", 0, 0, G_OPTION_ARG_NONE, &options.list_ids,
          N_("Print what can be found, and check nothing"), NULL },
        { 0 }
    };
    int status;

    if (!command_parse(command, common, entries, argc, argv, &status))
        return status;
    if (common->uri)
        return command_misused(
            _("check is about the host it runs on, and takes no --connect: run it "
              "there, or give --to for a destination"));
    if (options.as && !is_as(&options, "source") && !is_as(&options, "destination"))
        return command_misused(_("--as takes source or destination"));
    if (options.to && is_as(&options, "destination"))
        return command_misused(_("--to is for a source: leave out --as=destination"));
    return run(&options);
}

const Command command_check = {
    .name = "check",
    .summary = N_("Tell whether a host, and the way to another, are ready"),
    .run = run_check,
};
