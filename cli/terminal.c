/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "cli/terminal.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gi18n.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cli/top_view.h"

#define ENTER "\033[?1049h\033[?25l" /* the alternate screen, no cursor */
#define LEAVE "\033[m\033[?25h\033[?1049l"
#define HOME "\033[H"
#define CLEAR_LINE "\033[K"
#define PLAIN "\033[m"
#define CLEAR_REST "\r\n\033[J"

/* What is written at once, and how long the terminal may take until there is room for it. */
#define CHUNK 256
#define PATIENCE_MS 200

#define COLUMNS 80
#define ROWS 24

struct Terminal {
    struct termios before;
};

/* What a signal that ends the program at once has to put back. Signal handlers get no argument, so
 * this is the one thing that is global; it is set while there is a Terminal. */
static struct {
    struct termios before;
    volatile sig_atomic_t active;
} rescue;

static const int fatal_signals[] = { SIGQUIT, SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS };

/* --- this way and back --- */

/* A terminal that is stopped or whose other end does not read is not waited for: what does not come
 * through is left out, and the next frame is a whole one. */
static gboolean takes_more(void)
{
    struct pollfd terminal = { .fd = STDOUT_FILENO, .events = POLLOUT };

    return poll(&terminal, 1, PATIENCE_MS) == 1 && (terminal.revents & POLLOUT);
}

static void write_all(const char *text, gsize len)
{
    while (len > 0 && takes_more()) {
        gssize n = write(STDOUT_FILENO, text, MIN(len, CHUNK));

        if (n < 0 && errno != EINTR)
            return; /* it has gone; SIGHUP is on its way */
        if (n > 0) {
            text += n;
            len -= (gsize)n;
        }
    }
}

/* Calls nothing that a signal handler may not call. */
static void leave(const struct termios *before)
{
    write_all(LEAVE, sizeof(LEAVE) - 1);
    tcsetattr(STDIN_FILENO, TCSANOW, before);
}

static void enter(const struct termios *before)
{
    struct termios raw = *before;

    /* Ctrl-C, Ctrl-Z and Ctrl-S come as keys, so that nothing stops the program or the terminal
     * halfway through a frame. */
    raw.c_iflag &= (tcflag_t)~IXON;
    raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO | ISIG);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    write_all(ENTER, sizeof(ENTER) - 1);
}

static void on_fatal(int signum)
{
    if (rescue.active)
        leave(&rescue.before);
    rescue.active = 0;
    raise(signum); /* the handler is gone by now (SA_RESETHAND) */
}

static void set_rescue(const struct termios *before)
{
    struct sigaction action = { .sa_handler = before ? on_fatal : SIG_DFL,
                                .sa_flags = (int)(before ? SA_RESETHAND : 0) };

    sigemptyset(&action.sa_mask);
    if (before)
        rescue.before = *before;
    rescue.active = before != NULL;
    for (gsize i = 0; i < G_N_ELEMENTS(fatal_signals); i++)
        sigaction(fatal_signals[i], &action, NULL);
}

Terminal *terminal_new(GError **error)
{
    const char *kind = g_getenv("TERM");
    Terminal *terminal;
    struct termios before;

    if (!isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &before) < 0 || !kind || !*kind ||
        g_str_equal(kind, "dumb")) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                            _("this is no terminal to draw on: use --batch"));
        return NULL;
    }
    terminal = g_new0(Terminal, 1);
    terminal->before = before;
    set_rescue(&before);
    enter(&before);
    return terminal;
}

void terminal_free(Terminal *terminal)
{
    leave(&terminal->before);
    set_rescue(NULL);
    g_free(terminal);
}

void terminal_suspend(Terminal *terminal)
{
    leave(&terminal->before);
    set_rescue(NULL);
    kill(0, SIGTSTP); /* the whole job, as the terminal would have */
    set_rescue(&terminal->before);
    enter(&terminal->before);
}

/* --- drawing --- */

void terminal_size(const Terminal *terminal, gsize *ret_columns, gsize *ret_rows)
{
    struct winsize size = { 0 };

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0 || size.ws_row == 0)
        size = (struct winsize){ .ws_col = COLUMNS, .ws_row = ROWS };
    *ret_columns = size.ws_col;
    *ret_rows = size.ws_row;
}

static const char *style(TopLineKind kind)
{
    switch (kind) {
    case TOP_LINE_HEADER:
        return "\033[7m";
    case TOP_LINE_DOMAIN:
        return "\033[1m";
    case TOP_LINE_TROUBLE:
        return "\033[31m";
    case TOP_LINE_PLAIN:
        break;
    }
    return "";
}

/* In one piece, over what is there: that does not flicker. A line is cleared before it is written,
 * since behind a full one the cursor still stands on its last character; and there is no line break
 * on the last row, which would scroll. */
void terminal_draw(Terminal *terminal, const GPtrArray *lines)
{
    g_autoptr(GString) out = g_string_new(HOME);
    gsize columns, rows;

    terminal_size(terminal, &columns, &rows);
    for (guint i = 0; i < lines->len; i++) {
        const TopLine *line = lines->pdata[i];

        g_string_append_printf(out, "%s" CLEAR_LINE "%s%s" PLAIN, i > 0 ? "\r\n" : "",
                               style(line->kind), line->text);
    }
    if (lines->len < rows)
        g_string_append(out, CLEAR_REST);
    write_all(out->str, out->len);
}
