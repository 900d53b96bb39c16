/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The socket of memory clients: what of their first message the daemon takes, and what it answers. The client's end
 * is here; what follows WELCOME is tested with helpers (tests/e2e). */
#include "config.h"

#include "driver/memory_port.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/handover.h"
#include "driver/memory_job.h"
#include "driver/migration_priv.h"
#include "driver/run_dir.h"
#include "util/autofd.h"

#define WAIT_S 10
#define URI                                                               \
    "postcopy:///?peer=127.0.0.1:1&session=00112233445566778899aabbccddeeff&token=" \
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

typedef struct {
    char *dir;
    char *path;
    Settings *settings;
    MigrationSet *set;
    MemoryPort *port;
    int fd;
    guint8 answer[HANDOVER_MESSAGE_MAX];
    HandoverMessage message;
} Fixture;

static int setup(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    g_autofree char *conf = NULL;
    GError *error = NULL;

    f->dir = g_dir_make_tmp("test-memory-port-XXXXXX", NULL);
    f->path = g_build_filename(f->dir, HANDOVER_SOCKET, NULL);
    /* No helper: whatever gets that far fails there, and is told why. */
    conf = g_strdup_printf("helper_user = 'root'\nrun_dir = '%s'\nhelper_path = '/nonexistent'\n"
                           "memory_sock_perms = '0760'\nmigration_auth = 'psk'\n"
                           "migration_psk_file = '%s/psk'\nhost_name = 'here.example'\n",
                           f->dir, f->dir);
    f->settings = settings_parse(conf, strlen(conf), "conf", NULL);
    f->fd = -1;
    *state = f;
    if (!f->settings)
        return -1;
    f->set = migration_set_new(f->settings, &error);
    f->port = f->set ? memory_port_new(f->set, &error) : NULL;
    return f->port ? 0 : -1;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    int left;

    memory_port_free(f->port);
    migration_set_free(f->set);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    left = g_rmdir(f->dir);
    autofd_clear(&f->fd);
    settings_free(f->settings);
    g_free(f->path);
    g_free(f->dir);
    g_free(f);
    return left;
}

/* ---- the client ---- */

static void client_connect(Fixture *f)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    g_strlcpy(address.sun_path, f->path, sizeof address.sun_path);
    f->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(f->fd >= 0);
    assert_int_equal(connect(f->fd, (struct sockaddr *)&address, sizeof address), 0);
}

static void client_say(Fixture *f, const void *bytes, gsize len)
{
    assert_int_equal(send(f->fd, bytes, len, MSG_NOSIGNAL), len);
}

static HandoverText text(const char *t)
{
    return handover_text(t, strlen(t));
}

static void client_hello(Fixture *f, HandoverRole role, const char *uri)
{
    g_autofree HandoverMessage *hello = g_new0(HandoverMessage, 1);
    guint8 bytes[HANDOVER_MESSAGE_MAX];

    hello->type = HANDOVER_HELLO;
    hello->hello.version = HANDOVER_VERSION;
    hello->hello.role = role;
    hello->hello.name = text("guest");
    hello->hello.uri = text(uri);
    client_say(f, bytes, handover_encode(hello, bytes));
}

static gboolean on_wait_over(gpointer data)
{
    gboolean *over = data;

    *over = TRUE;
    return G_SOURCE_CONTINUE;
}

/* The answer's type; 0: the daemon has closed. */
static guint client_hear(Fixture *f)
{
    char why[HANDOVER_ERROR_MAX];
    gboolean over = FALSE;
    guint timer = g_timeout_add_seconds(WAIT_S, on_wait_over, &over);
    ssize_t n = -1;

    while (!over && n < 0) {
        n = recv(f->fd, f->answer, sizeof f->answer, MSG_DONTWAIT);
        if (n < 0)
            g_main_context_iteration(NULL, errno == EAGAIN && g_main_context_pending(NULL));
    }
    g_source_remove(timer);
    assert_true(n >= 0);
    if (n == 0)
        return 0;
    assert_true(handover_decode(f->answer, (gsize)n, 0, &f->message, why));
    return f->message.type;
}

static void assert_refused(Fixture *f, const char *part)
{
    g_autofree char *said = NULL;

    assert_int_equal(client_hear(f), HANDOVER_REFUSED);
    said = g_strndup(f->message.text.bytes, f->message.text.len);
    if (!strstr(said, part))
        fail_msg("\"%s\" is not in \"%s\"", part, said);
    assert_int_equal(client_hear(f), 0);
}

/* ---- tests ---- */

static void the_socket_has_the_permissions_that_are_set(void **state)
{
    Fixture *f = *state;
    struct stat st;

    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0760);
}

static void what_is_no_message_is_refused(void **state)
{
    Fixture *f = *state;

    client_connect(f);
    client_say(f, "\0\1no", 4);
    assert_refused(f, "HELLO");
}

static void another_version_is_refused_with_both(void **state)
{
    Fixture *f = *state;

    client_connect(f);
    client_say(f, "\0\1\0\0\0\7and what it brings along", 30);
    assert_refused(f, "version 7");
}

static void another_message_than_hello_is_refused(void **state)
{
    Fixture *f = *state;
    g_autofree HandoverMessage *message = g_new0(HandoverMessage, 1);
    guint8 bytes[HANDOVER_MESSAGE_MAX];

    client_connect(f);
    message->type = HANDOVER_ADVISED;
    client_say(f, bytes, handover_encode(message, bytes));
    assert_refused(f, "ADVISED");
}

static void descriptors_with_hello_are_refused(void **state)
{
    Fixture *f = *state;
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec iov = { (void *)"\0\1", 2 };
    struct msghdr message = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = &control,
                              .msg_controllen = sizeof control.space };
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    client_connect(f);
    memcpy(CMSG_DATA(c), &f->fd, sizeof(int));
    assert_int_equal(sendmsg(f->fd, &message, 0), 2);
    assert_refused(f, "descriptors");
}

static void a_source_needs_a_uri_of_ours(void **state)
{
    Fixture *f = *state;

    client_connect(f);
    client_hello(f, HANDOVER_SOURCE, "tcp://there.example");
    assert_refused(f, "postcopy");
}

static void a_helper_that_cannot_be_started_is_told(void **state)
{
    Fixture *f = *state;
    g_autofree char *psk = g_build_filename(f->dir, "psk", NULL);
    guint8 session[MIGRATION_SESSION_LEN] = { 0 };

    assert_true(g_file_set_contents_full(psk, "me:00112233\n", -1, G_FILE_SET_CONTENTS_NONE, 0600,
                                         NULL));
    client_connect(f);
    client_hello(f, HANDOVER_DESTINATION, "");
    assert_refused(f, "/nonexistent");
    assert_null(migration_set_lookup(f->set, session));
    autofd_clear(&f->fd);
    client_connect(f);
    client_hello(f, HANDOVER_SOURCE, URI);
    assert_refused(f, "/nonexistent");
    g_unlink(psk);
}

static void missing_credentials_are_told(void **state)
{
    Fixture *f = *state;

    client_connect(f);
    client_hello(f, HANDOVER_DESTINATION, "");
    assert_refused(f, "psk");
}

static void one_that_leaves_without_a_word_is_forgotten(void **state)
{
    Fixture *f = *state;

    client_connect(f);
    g_main_context_iteration(NULL, TRUE);
    autofd_clear(&f->fd);
    g_main_context_iteration(NULL, TRUE);
    client_connect(f);
    client_hello(f, HANDOVER_SOURCE, "nonsense");
    assert_int_equal(client_hear(f), HANDOVER_REFUSED);
}

static void a_second_daemon_does_not_get_the_socket(void **state)
{
    Fixture *f = *state;
    g_autoptr(GError) error = NULL;

    assert_null(memory_port_new(f->set, &error));
    assert_non_null(strstr(error->message, f->path));
    client_connect(f);
}

/* As if its helper ran. */
static Migration *add_running(Fixture *f, uid_t uid)
{
    Migration *migration =
        migration_new_memory(f->set, MIGRATION_SIDE_DESTINATION, "guest", NULL, uid, FALSE);

    g_ptr_array_add(f->set->migrations, migration);
    return migration;
}

static void only_so_many_are_under_way_at_once(void **state)
{
    Fixture *f = *state;

    f->settings->memory_max_migrations = 3;
    f->settings->memory_max_migrations_per_user = 2;
    add_running(f, geteuid() + 1);
    add_running(f, geteuid());
    client_connect(f);
    client_hello(f, HANDOVER_DESTINATION, "");
    assert_refused(f, "psk"); /* there is room: it fails later, for its credentials */
    autofd_clear(&f->fd);

    add_running(f, geteuid());
    f->settings->memory_max_migrations = 4;
    client_connect(f);
    client_hello(f, HANDOVER_DESTINATION, "");
    assert_refused(f, "memory_max_migrations_per_user");
    autofd_clear(&f->fd);

    f->settings->memory_max_migrations = 3;
    client_connect(f);
    client_hello(f, HANDOVER_SOURCE, URI);
    assert_refused(f, "3 migrations of memory clients are under way");
    autofd_clear(&f->fd);

    /* One has ended. */
    g_ptr_array_remove_index(f->set->migrations, 2);
    client_connect(f);
    client_hello(f, HANDOVER_DESTINATION, "");
    assert_refused(f, "psk");
    g_ptr_array_set_size(f->set->migrations, 0);
}

/* What the daemon says may have come from anywhere. */
static void a_reason_is_made_one_line(void **state)
{
    Fixture *f = *state;
    g_autofree char *text = g_strnfill(2000, 'x');
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    f->fd = pair[1];
    memory_job_refuse(pair[0], "\x1b[31mred\x7f \xc2\x85 \xff\n");
    assert_int_equal(client_hear(f), HANDOVER_REFUSED);
    assert_int_equal(f->message.text.bytes[0], '?');
    assert_int_equal(f->message.text.bytes[f->message.text.len - 1], '?');
    memory_job_refuse(pair[0], text);
    assert_int_equal(client_hear(f), HANDOVER_REFUSED);
    assert_int_equal(f->message.text.len, HANDOVER_TEXT_MAX);
    close(pair[0]);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(the_socket_has_the_permissions_that_are_set),
        T(what_is_no_message_is_refused),
        T(another_version_is_refused_with_both),
        T(another_message_than_hello_is_refused),
        T(descriptors_with_hello_are_refused),
        T(a_source_needs_a_uri_of_ours),
        T(a_helper_that_cannot_be_started_is_told),
        T(missing_credentials_are_told),
        T(one_that_leaves_without_a_word_is_forgotten),
        T(a_second_daemon_does_not_get_the_socket),
        T(only_so_many_are_under_way_at_once),
        T(a_reason_is_made_one_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
