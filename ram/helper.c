/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virt-postcopy-helper: the data path of one migration, on one side.
 *
 * Started by virtpostcopyd with a descriptor over which it is told everything else
 * (ram/org.libvirt.Postcopy1.xml), one on which it waits for a daemon that comes later, and one
 * of a file for its outcome. The order below matters: privileges go first, before there is a
 * thread or a byte from outside; then what has to be opened is opened; then nothing can be. */
#include "config.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib-unix.h>
#include <glib/gi18n.h>
#include <gnutls/gnutls.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "ram/control.h"
#include "ram/job.h"
#include "ram/job_outcome.h"
#include "ram/privileges.h"
#include "ram/sandbox.h"
#include "util/log.h"

#define EXIT_USAGE 2

typedef struct {
    int dbus_fd;
    int listen_fd;  /* or -1 */
    int outcome_fd; /* or -1 */
    int log_level;
    char *user;
    gboolean version;
} HelperOptions;

typedef struct {
    GMainLoop *loop;
    Control *control;
    Job *job;
    JobOutcome outcome;
} Helper;

/* ---- command line ---- */

static gboolean check_options(const HelperOptions *options, int argc, char **argv, GError **error)
{
    PrivilegesUser user;

    if (argc > 1) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED, _("unexpected argument \"%s\""),
                    argv[1]);
        return FALSE;
    }
    if (options->version)
        return TRUE;
    if (options->dbus_fd < 0) {
        g_set_error_literal(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED,
                            _("--dbus-fd is missing: this program is started by virtpostcopyd"));
        return FALSE;
    }
    if (options->user && !privileges_parse_user(options->user, &user, error))
        return FALSE;
    if (options->log_level < LOG_LEVEL_DEBUG || options->log_level > LOG_LEVEL_ERROR) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    _("log level %d is not one of 1 (debug) to 4 (error)"), options->log_level);
        return FALSE;
    }
    return TRUE;
}

static gboolean parse_options(int argc, char **argv, HelperOptions *o, GError **error)
{
    const GOptionEntry entries[] = {
        { "dbus-fd", 0, 0, G_OPTION_ARG_INT, &o->dbus_fd,
          N_("descriptor of the connection to virtpostcopyd"), "N" },
        { "listen-fd", 0, 0, G_OPTION_ARG_INT, &o->listen_fd,
          N_("descriptor on which a virtpostcopyd that comes later connects"), "N" },
        { "outcome-fd", 0, 0, G_OPTION_ARG_INT, &o->outcome_fd,
          N_("descriptor of the file that says how far the migration came"), "N" },
        { "user", 0, 0, G_OPTION_ARG_STRING, &o->user, N_("numeric user and group to become"),
          "UID:GID" },
        { "log-level", 0, 0, G_OPTION_ARG_INT, &o->log_level,
          N_("1 debug, 2 information, 3 warnings, 4 errors"), "N" },
        { "version", 0, 0, G_OPTION_ARG_NONE, &o->version, N_("print the version and exit"), NULL },
        { NULL },
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);

    g_option_context_set_translation_domain(context, PACKAGE_TARNAME);
    g_option_context_set_summary(context, _("Moves the memory of one migrating guest. Started by "
                                            "virtpostcopyd, not by hand."));
    g_option_context_add_main_entries(context, entries, NULL);
    return g_option_context_parse(context, &argc, &argv, error) &&
           check_options(o, argc, argv, error);
}

/* ---- start ---- */

/* What the terminal or the service manager sends to the daemon's group is not for the data path. */
static void leave_group(void)
{
    setsid();
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
}

static gboolean drop_privileges(const HelperOptions *options, GError **error)
{
    PrivilegesUser user;

    if (!options->user) {
        if (geteuid() == 0)
            log_warning(NULL, "running as root, because --user was not given");
        return TRUE;
    }
    return privileges_parse_user(options->user, &user, error) && privileges_drop(&user, error);
}

/* Libraries open files when they are first used: catalogues of messages, character sets, the
 * time zone. The texts themselves are not wanted. */
static void open_what_is_needed(void)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    const char *charset;

    g_free(g_date_time_format(now, "%c"));
    g_free(g_strdup_printf("%s%s", _("the daemon has gone"), g_strerror(EPERM)));
    g_get_charset(&charset);
    gnutls_global_init();
}

static gboolean enter_sandbox(GError **error)
{
    gboolean active;

    if (!sandbox_enter(&active, error))
        return FALSE;
    if (!active)
        log_warning(NULL, "this kernel has no seccomp filters, going on without");
    return TRUE;
}

/* ---- end ---- */

static gboolean on_flushed(gpointer data)
{
    Helper *helper = data;

    g_main_loop_quit(helper->loop);
    return G_SOURCE_REMOVE;
}

/* The last state is on its way to the daemon; it must have got there before the process ends. */
static void on_job_end(JobOutcome outcome, gpointer data)
{
    Helper *helper = data;

    helper->outcome = outcome;
    control_flush(helper->control, on_flushed, helper);
}

static gboolean on_sigterm(gpointer data)
{
    Helper *helper = data;

    job_give_up(helper->job, _("the helper was told to end (SIGTERM)"));
    return G_SOURCE_CONTINUE;
}

static int serve(const HelperOptions *options, GDBusConnection *connection, uid_t daemon_uid,
                 GError **error)
{
    Helper helper = { .outcome = JOB_FAILED };

    helper.job = job_new(options->outcome_fd, on_job_end, &helper);
    helper.control = control_new(helper.job, connection, error);
    if (!helper.control) {
        job_free(helper.job);
        return EXIT_FAILURE;
    }
    if (options->listen_fd >= 0)
        control_listen(helper.control, options->listen_fd, daemon_uid);
    helper.loop = g_main_loop_new(NULL, FALSE);
    g_unix_signal_add(SIGTERM, on_sigterm, &helper);

    g_main_loop_run(helper.loop);

    control_free(helper.control);
    job_free(helper.job);
    g_main_loop_unref(helper.loop);
    return (int)helper.outcome;
}

static gboolean check_descriptors(const HelperOptions *options, GError **error)
{
    return (options->listen_fd < 0 || control_check_listener(options->listen_fd, error)) &&
           (options->outcome_fd < 0 || job_outcome_check(options->outcome_fd, error));
}

static int run(const HelperOptions *options, GError **error)
{
    g_autoptr(GDBusConnection) connection = NULL;
    uid_t daemon_uid = getuid(); /* it has started this process */

    leave_group();
    if (!check_descriptors(options, error))
        return EXIT_FAILURE;
    /* While still the user that made the socket pair: the kernel vouches for that one. */
    connection = control_connect(options->dbus_fd, error);
    if (!connection || !drop_privileges(options, error) || !privileges_limit(error))
        return EXIT_FAILURE;
    if (options->listen_fd >= 0 && !control_own_listener(options->listen_fd, error))
        return EXIT_FAILURE;
    open_what_is_needed();
    if (!enter_sandbox(error))
        return EXIT_FAILURE;
    return serve(options, connection, daemon_uid, error);
}

static void helper_options_clear(HelperOptions *options)
{
    g_clear_pointer(&options->user, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HelperOptions, helper_options_clear)

int main(int argc, char **argv)
{
    g_auto(HelperOptions) options = {
        .dbus_fd = -1, .listen_fd = -1, .outcome_fd = -1, .log_level = LOG_LEVEL_INFO
    };
    g_autoptr(GError) error = NULL;
    int status;

    setlocale(LC_ALL, "");
    bindtextdomain(PACKAGE_TARNAME, LOCALEDIR);
    bind_textdomain_codeset(PACKAGE_TARNAME, "UTF-8");
    textdomain(PACKAGE_TARNAME);

    if (!parse_options(argc, argv, &options, &error)) {
        g_printerr("virt-postcopy-helper: %s\n", error->message);
        return EXIT_USAGE;
    }
    if (options.version) {
        g_print("virt-postcopy-helper (%s) %s\n", PACKAGE_NAME, PACKAGE_VERSION);
        return EXIT_SUCCESS;
    }

    log_init(options.log_level);
    status = run(&options, &error);
    if (error)
        log_error(NULL, "%s", error->message);
    return status;
}
