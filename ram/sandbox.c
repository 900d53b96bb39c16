/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/sandbox.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "ram/mapped/pagemap_scan.h"

static gboolean failed(GError **error, const char *what, int ret)
{
    g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(-ret),
                _("seccomp filter: %s: %s"), what, g_strerror(-ret));
    return FALSE;
}

#ifdef SANITIZERS

/* Sanitizers read /proc, start symbolizers, and trace the process from another to find leaks: the
 * filter of such a build only shows that there is one. */
#define DEFAULT_ACTION SCMP_ACT_ALLOW

static gboolean add_all_rules(scmp_filter_ctx ctx, GError **error)
{
    int ret = seccomp_rule_add(ctx, SCMP_ACT_KILL_PROCESS, SCMP_SYS(connect), 0);

    return ret >= 0 || failed(error, "connect", ret);
}

#else

#define DEFAULT_ACTION SCMP_ACT_KILL_PROCESS

/* Where an ioctl's number has the letter of its subsystem. */
#define IOCTL_TYPE(letter) ((scmp_datum_t)(letter) << _IOC_TYPESHIFT)

static const char *const allowed[] = {
    /* the data path */
    "poll", "ppoll", "recvfrom", "recvmsg", "recvmmsg", "sendto", "sendmsg", "sendmmsg", "read",
    "write", "readv", "writev", "shutdown", "close", "accept4", "eventfd2", "getsockopt",
    "setsockopt", "getsockname", "getpeername", "fcntl", "dup", "lseek", "pread64",
    /* looking at what is open */
    "fstat", "newfstatat", "statx", "fstatfs",
    /* memory */
    "brk", "munmap", "mremap", "madvise",
    /* of a memory client, which it has handed over; every other file is open for reading or is the outcome */
    "pwrite64", "fallocate",
    /* threads */
    "futex", "set_robust_list", "rseq", "exit", "exit_group", "sched_yield", "sched_getaffinity",
    "get_robust_list", "membarrier", "restart_syscall", "sched_getattr", "sched_setattr",
    /* time and chance */
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time",
    "getrandom",
    /* signals */
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "rt_sigtimedwait",
    /* who am I */
    "getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getresuid",
    "getresgid", "getrusage", "getrlimit", "sysinfo", "uname", "umask",
};

/* Looked at by libraries, never needed here. */
static const char *const denied[] = {
    "open", "openat", "openat2", "access", "faccessat", "faccessat2", "stat", "lstat", "readlink",
    "readlinkat", "socket", "getdents64", "statfs", "getcwd", "sched_setscheduler",
    "setpriority", "memfd_create",
};

/* What the C library then does without. clone3's arguments cannot be seen by a filter; told that
 * it does not exist, it uses clone. */
static const char *const missing[] = { "clone3" };

static gboolean add_rules(scmp_filter_ctx ctx, guint32 action, const char *const *names, gsize n,
                          GError **error)
{
    for (gsize i = 0; i < n; i++) {
        int number = seccomp_syscall_resolve_name(names[i]);
        int ret;

        /* Not every architecture has every call. */
        if (number == __NR_SCMP_ERROR || number < 0)
            continue;
        ret = seccomp_rule_add(ctx, action, number, 0);
        if (ret < 0 && ret != -EACCES && ret != -EEXIST)
            return failed(error, names[i], ret);
    }
    return TRUE;
}

/* Allowed with one argument only. */
static gboolean add_narrow_rules(scmp_filter_ctx ctx, GError **error)
{
    const struct {
        const char *name;
        struct scmp_arg_cmp cmp;
    } rules[] = {
        /* new threads, not new processes */
        { "clone", SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD) },
        /* a thread's name */
        { "prctl", SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME) },
        /* memory, but no new code */
        { "mmap", SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
        { "mprotect", SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
        /* to itself: abort(), and its own limits */
        { "tgkill", SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()) },
        { "prlimit64", SCMP_A0(SCMP_CMP_EQ, 0) },
        /* userfaultfds and pagemaps that were handed over */
        { "ioctl", SCMP_A1(SCMP_CMP_MASKED_EQ, IOCTL_TYPE(0xff), IOCTL_TYPE(UFFDIO)) },
        { "ioctl", SCMP_A1(SCMP_CMP_EQ, PAGEMAP_SCAN) },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rules); i++) {
        int number = seccomp_syscall_resolve_name(rules[i].name);
        int ret = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, number, 1, &rules[i].cmp);

        if (ret < 0)
            return failed(error, rules[i].name, ret);
    }
    return TRUE;
}

/* Is it one? asks the C library of what it writes to. */
static gboolean deny_terminals(scmp_filter_ctx ctx, GError **error)
{
    struct scmp_arg_cmp cmp =
        SCMP_A1(SCMP_CMP_MASKED_EQ, IOCTL_TYPE(0xff), IOCTL_TYPE('T'));
    int ret = seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1, &cmp);

    return ret >= 0 || failed(error, "ioctl", ret);
}

static gboolean add_all_rules(scmp_filter_ctx ctx, GError **error)
{
    return add_rules(ctx, SCMP_ACT_ALLOW, allowed, G_N_ELEMENTS(allowed), error) &&
           add_narrow_rules(ctx, error) &&
           add_rules(ctx, SCMP_ACT_ERRNO(EPERM), denied, G_N_ELEMENTS(denied), error) &&
           deny_terminals(ctx, error) &&
           add_rules(ctx, SCMP_ACT_ERRNO(ENOSYS), missing, G_N_ELEMENTS(missing), error);
}

#endif

/* Asked with a bad address, a kernel that has filters complains about the address. */
static gboolean kernel_has_filters(void)
{
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL, 0, 0) < 0 && errno == EFAULT;
}

gboolean sandbox_enter(gboolean *ret_active, GError **error)
{
    scmp_filter_ctx ctx;
    gboolean ok;
    int ret;

    *ret_active = FALSE;
    if (!kernel_has_filters())
        return TRUE;
    ctx = seccomp_init(DEFAULT_ACTION);
    if (!ctx)
        return failed(error, "seccomp_init", -ENOMEM);
    ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    ok = ret >= 0 || failed(error, "TSYNC", ret);
    ok = ok && add_all_rules(ctx, error);
    if (ok) {
        ret = seccomp_load(ctx);
        *ret_active = ret >= 0;
        ok = ret >= 0 || failed(error, "seccomp_load", ret);
    }
    seccomp_release(ctx);
    return ok;
}
