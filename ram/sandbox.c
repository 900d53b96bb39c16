/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/sandbox.h"

#include <errno.h>
#include <glib/gi18n.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>

static const char *const allowed[] = {
    /* the data path */
    "poll", "ppoll", "recvfrom", "recvmsg", "recvmmsg", "sendto", "sendmsg", "sendmmsg", "read",
    "write", "readv", "writev", "shutdown", "close", "accept4", "eventfd2", "getsockopt",
    "setsockopt", "getsockname", "getpeername", "fcntl", "dup", "lseek", "pread64",
    /* looking at what is open */
    "fstat", "newfstatat", "statx", "fstatfs", "ioctl",
    /* memory */
    "brk", "mmap", "munmap", "mremap", "mprotect", "madvise",
    /* threads */
    "futex", "set_robust_list", "rseq", "exit", "exit_group", "sched_yield", "sched_getaffinity",
    "get_robust_list", "membarrier", "restart_syscall",
    /* time and chance */
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time",
    "getrandom",
    /* signals, to itself */
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "rt_sigtimedwait", "tgkill",
    /* who am I */
    "getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getresuid",
    "getresgid", "getrusage", "prlimit64", "getrlimit", "sysinfo", "uname", "umask",
#ifdef SANITIZERS
    /* reports with symbols, shadow memory, the leak check's tracing thread */
    "open", "openat", "readlink", "readlinkat", "access", "stat", "lstat", "getcwd", "pipe",
    "pipe2", "ptrace", "wait4", "clone", "clone3", "execve", "fork", "vfork", "personality",
    "process_vm_readv", "prctl", "dup2", "dup3", "kill", "getdents64", "unlink", "msync",
    "timer_create", "timer_settime", "timer_delete", "setrlimit", "arch_prctl", "mincore",
#endif
};

/* Looked at by libraries, never needed here. */
static const char *const denied[] = {
    "open", "openat", "openat2", "access", "faccessat", "faccessat2", "stat", "lstat", "readlink",
    "readlinkat", "socket", "getdents64", "statfs", "getcwd", "sched_setscheduler",
    "sched_setattr", "setpriority", "memfd_create",
};

/* What the C library then does without. clone3's arguments cannot be seen by a filter; told that
 * it does not exist, it uses clone. */
static const char *const missing[] = { "clone3" };

static gboolean failed(GError **error, const char *what, int ret)
{
    g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(-ret),
                _("seccomp filter: %s: %s"), what, g_strerror(-ret));
    return FALSE;
}

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

/* New threads, not new processes; a name for the thread, nothing else of prctl. */
static gboolean add_thread_rules(scmp_filter_ctx ctx, GError **error)
{
#ifdef SANITIZERS
    return TRUE;
#else
    int ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                               SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));

    if (ret < 0)
        return failed(error, "clone", ret);
    ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                           SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
    return ret >= 0 || failed(error, "prctl", ret);
#endif
}

static gboolean add_all_rules(scmp_filter_ctx ctx, GError **error)
{
    const guint32 allow = SCMP_ACT_ALLOW;

    return add_rules(ctx, allow, allowed, G_N_ELEMENTS(allowed), error) &&
           add_thread_rules(ctx, error) &&
#ifndef SANITIZERS
           add_rules(ctx, SCMP_ACT_ERRNO(EPERM), denied, G_N_ELEMENTS(denied), error) &&
           add_rules(ctx, SCMP_ACT_ERRNO(ENOSYS), missing, G_N_ELEMENTS(missing), error) &&
#endif
           TRUE;
}

gboolean sandbox_enter(gboolean *ret_active, GError **error)
{
    scmp_filter_ctx ctx;
    gboolean ok;
    int ret;

    *ret_active = FALSE;
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0 && errno == EINVAL)
        return TRUE;
    ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
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
