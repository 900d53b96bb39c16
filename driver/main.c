/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* virtpostcopyd: command line, start, signals, end. */
#include "config.h"

#include <errno.h>
#include <glib-unix.h>
#include <glib/gi18n.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/daemon.h"
#include "driver/pid_file.h"
#include "driver/systemd.h"
#include "util/log.h"

#define DEFAULT_PID_FILE RUNSTATEDIR "/virtpostcopyd.pid"

/* For each client its connection and that to upstream; the rest is for migrations. */
#define FDS_PER_CLIENT 2u
#define FDS_BESIDE 4096u

typedef struct {
    char *config;
    char *pid_file;
    gboolean verbose;
    gboolean version;
} Options;

typedef struct {
    GMainLoop *loop;
    Daemon *daemon;
    gboolean stopping;
} Run;

static void options_clear(Options *options)
{
    g_free(options->config);
    g_free(options->pid_file);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Options, options_clear)

static gboolean parse_options(int *argc, char ***argv, Options *ret, GError **error)
{
    const GOptionEntry entries[] = {
        { "config", 'f', 0, G_OPTION_ARG_FILENAME, &ret->config,
          N_("Configuration file to use"), N_("FILE") },
        { "pid-file", 'p', 0, G_OPTION_ARG_FILENAME, &ret->pid_file,
          N_("File to keep the process id in"), N_("FILE") },
        { "verbose", 'v', 0, G_OPTION_ARG_NONE, &ret->verbose,
          N_("Log debug messages, whatever log_level says"), NULL },
        { "version", 'V', 0, G_OPTION_ARG_NONE, &ret->version, N_("Print the version and exit"),
          NULL },
        { 0 }
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);

    g_option_context_add_main_entries(context, entries, PACKAGE);
    g_option_context_set_translation_domain(context, PACKAGE);
    g_option_context_set_summary(context, _("Post-copy migration daemon for libvirt"));
    if (!g_option_context_parse(context, argc, argv, error))
        return FALSE;
    if (*argc > 1) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_FAILED, _("unknown argument \"%1$s\""),
                    (*argv)[1]);
        return FALSE;
    }
    return TRUE;
}

/* --- signals --- */

static void on_stopped(gpointer data)
{
    Run *run = data;

    g_main_loop_quit(run->loop);
}

static gboolean on_stop(gpointer data)
{
    Run *run = data;

    if (run->stopping) {
        log_warning(NULL, _("asked to stop again: stopping at once"));
        g_main_loop_quit(run->loop);
        return G_SOURCE_CONTINUE;
    }
    run->stopping = TRUE;
    log_info(NULL, _("stopping"));
    systemd_notify("STOPPING=1\nSTATUS=Stopping");
    daemon_stop(run->daemon, on_stopped, run);
    return G_SOURCE_CONTINUE;
}

static gboolean on_reload(gpointer data)
{
    Run *run = data;
    g_autoptr(GError) error = NULL;

    if (daemon_reload(run->daemon, &error))
        log_info(NULL, _("TLS credentials were read again"));
    else
        log_error(NULL, _("TLS credentials stay as they were: %1$s"), error->message);
    return G_SOURCE_CONTINUE;
}

/* --- start --- */

static gboolean check_privileges(GError **error)
{
    if (geteuid() == 0)
        return TRUE;
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
                _("virtpostcopyd must be started by root (it runs as uid %1$u): it connects to "
                  "libvirt's system socket, hands sockets to QEMU's user and starts helpers as "
                  "another user"),
                (guint)geteuid());
    return FALSE;
}

static gboolean make_socket_dir(const Settings *settings, GError **error)
{
    if (g_mkdir_with_parents(settings->unix_sock_dir, 0755) == 0)
        return TRUE;
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), _("cannot make %1$s: %2$s"),
                settings->unix_sock_dir, g_strerror(errno));
    return FALSE;
}

static void raise_fd_limit(const Settings *settings)
{
    rlim_t wanted = (rlim_t)settings->max_clients * FDS_PER_CLIENT + FDS_BESIDE;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted;
    if (limit.rlim_max < wanted)
        limit.rlim_max = wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        log_warning(NULL, _("max_clients is %1$u, but this process may not open %2$llu files"),
                    settings->max_clients, (unsigned long long)wanted);
}

static void serve(Run *run)
{
    guint sources[] = {
        g_unix_signal_add(SIGTERM, on_stop, run),
        g_unix_signal_add(SIGINT, on_stop, run),
        g_unix_signal_add(SIGHUP, on_reload, run),
    };

    run->loop = g_main_loop_new(NULL, FALSE);
    daemon_start(run->daemon);
    systemd_notify("READY=1\nSTATUS=Serving clients");
    log_info(NULL, _("virtpostcopyd %1$s is ready"), PACKAGE_VERSION);
    g_main_loop_run(run->loop);
    for (gsize i = 0; i < G_N_ELEMENTS(sources); i++)
        g_source_remove(sources[i]);
    g_clear_pointer(&run->loop, g_main_loop_unref);
}

static gboolean run_daemon(const Settings *settings, GError **error)
{
    g_autoptr(GArray) passed = systemd_take_fds(SYSTEMD_FIRST_FD, error);
    g_autoptr(Daemon) daemon = NULL;
    Run run = { 0 };

    if (!passed || !make_socket_dir(settings, error))
        return FALSE;
    raise_fd_limit(settings);
    daemon = daemon_new(settings, passed, error);
    if (!daemon)
        return FALSE;
    run.daemon = daemon;
    serve(&run);
    return TRUE;
}

static gboolean start(const Options *options, GError **error)
{
    const char *pid_path = options->pid_file ? options->pid_file : DEFAULT_PID_FILE;
    g_autoptr(Settings) settings = settings_load(options->config, error);
    gboolean done;
    int pid_fd;

    if (!settings || !check_privileges(error))
        return FALSE;
    log_set_level(options->verbose ? LOG_LEVEL_DEBUG : (LogLevel)settings->log_level);
    pid_fd = pid_file_acquire(pid_path, error);
    if (pid_fd < 0)
        return FALSE;
    done = run_daemon(settings, error);
    pid_file_release(pid_fd, pid_path);
    return done;
}

int main(int argc, char **argv)
{
    g_auto(Options) options = { 0 };
    g_autoptr(GError) error = NULL;

    setlocale(LC_ALL, "");
    bindtextdomain(PACKAGE, LOCALEDIR);
    bind_textdomain_codeset(PACKAGE, "UTF-8");
    textdomain(PACKAGE);
    log_init(LOG_LEVEL_INFO);
    signal(SIGPIPE, SIG_IGN);

    if (!parse_options(&argc, &argv, &options, &error)) {
        fprintf(stderr, _("virtpostcopyd: %1$s\n"), error->message);
        return EXIT_FAILURE;
    }
    if (options.version) {
        printf("virtpostcopyd (%s) %s\n", PACKAGE_NAME, PACKAGE_VERSION);
        return EXIT_SUCCESS;
    }
    if (!start(&options, &error)) {
        log_error(NULL, "%s", error->message);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
