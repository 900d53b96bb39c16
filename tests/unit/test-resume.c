/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A user's resume of what failed in post-copy: libvirtd is asked again while it does not know of the failure
 * yet, and only then. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/driver_events.h"
#include "driver/driver_priv.h"
#include "driver/driver_stats.h"
#include "driver/migration_account.h"
#include "driver/migration_priv.h"
#include "driver/recovery.h"
#include "driver/rpc_error.h"
#include "driver/rpc_xdr.h"
#include "tests/support/pki-gen.h"
#include "tests/support/rpc-end.h"

#define BEGIN 302 /* DOMAIN_MIGRATE_BEGIN3_PARAMS */
#define PERFORM 305 /* DOMAIN_MIGRATE_PERFORM3_PARAMS */
#define SERIAL 7
#define RESUME (VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_POSTCOPY_RESUME)

typedef struct {
    char *dir;
    Settings *settings;
    Driver driver; /* only what these calls need */
    Proxy *proxy;
    RpcEnd *client;
    RpcEnd *libvirtd;
} Fixture;

static void make_executable(const char *dir)
{
    g_autofree char *path = g_build_filename(dir, "helper", NULL);

    assert_int_equal(chmod(path, 0700), 0);
}

static int setup_for(void **state, ProxyPeer peer)
{
    Fixture *f = g_new0(Fixture, 1);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    int client[2], upstream[2];

    /* What a source is looked at for before it may begin. */
    f->dir = pki_dir_new();
    g_free(pki_dir_write(f->dir, "keys.psk", "host:00112233445566778899aabbccddeeff\n", -1));
    g_free(pki_dir_write(f->dir, "helper", "", -1));
    text = g_strdup_printf("helper_user = '%s'\nhelper_path = '%s/helper'\n"
                           "migration_auth = 'psk'\nmigration_psk_file = '%s/keys.psk'\n",
                           getpwuid(getuid())->pw_name, f->dir, f->dir);
    make_executable(f->dir);
    f->settings = settings_parse(text, strlen(text), "f.conf", &error);
    assert_non_null(f->settings);
    f->driver.settings = f->settings;
    f->driver.set = migration_set_new(f->settings, &error);
    assert_non_null(f->driver.set);
    f->driver.events = driver_events_new(f->driver.set);
    f->driver.accounts = migration_accounts_new();
    f->driver.stats = driver_stats_new(f->driver.accounts);
    f->driver.recoveries = recovery_set_new(&f->driver);
    rpc_test_pair(client);
    rpc_test_pair(upstream);
    f->client = rpc_end_new(rpc_stream_new_socket(client[0], TRUE));
    f->libvirtd = rpc_end_new(rpc_stream_new_socket(upstream[0], TRUE));
    f->proxy = proxy_ref(proxy_new(rpc_stream_new_socket(client[1], TRUE),
                                   rpc_stream_new_socket(upstream[1], TRUE), &peer, driver_hooks(),
                                   &f->driver));
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_for(state, (ProxyPeer){ .kind = PROXY_CLIENT_INNER });
}

static int setup_itself(void **state)
{
    ProxyPeer peer = { .kind = PROXY_CLIENT_UNIX, .has_creds = TRUE, .pid = getpid() };

    return setup_for(state, peer);
}

static int setup_other(void **state)
{
    ProxyPeer peer = { .kind = PROXY_CLIENT_UNIX, .has_creds = TRUE, .pid = getpid() + 1 };

    return setup_for(state, peer);
}

static int setup_remote(void **state)
{
    return setup_for(state, (ProxyPeer){ .kind = PROXY_CLIENT_TLS, .pid = getpid() });
}

static int teardown(void **state)
{
    Fixture *f = *state;

    proxy_close(f->proxy);
    rpc_test_settle();
    proxy_unref(f->proxy);
    rpc_end_free(f->client);
    rpc_end_free(f->libvirtd);
    recovery_set_free(f->driver.recoveries);
    driver_events_free(f->driver.events);
    driver_stats_free(f->driver.stats);
    migration_accounts_free(f->driver.accounts);
    migration_set_free(f->driver.set);
    settings_free(f->settings);
    pki_dir_remove(f->dir);
    g_free(f);
    return 0;
}

static void calls(Fixture *f, gint32 procedure, xdrproc_t proc, void *args)
{
    g_autoptr(GByteArray) payload = rpc_xdr_encode(proc, args, "", NULL);
    RpcHeader header = { .program = RPC_PROGRAM_REMOTE,
                         .version = 1,
                         .procedure = procedure,
                         .type = RPC_TYPE_CALL,
                         .serial = SERIAL };

    rpc_stream_send(f->client->stream, rpc_frame_new(&header, payload->data, payload->len));
}

static void begin(Fixture *f, guint flags)
{
    remote_begin3_params args = { .dom = { .name = (char *)"vm1", .id = 3 }, .flags = flags };

    calls(f, BEGIN, (xdrproc_t)xdr_remote_begin3_params, &args);
}

/* libvirtd's nth call, which must be the same each time. */
static const RpcFrame *asked(Fixture *f, guint n)
{
    assert_true(rpc_test_until_frames(f->libvirtd, n + 1));
    assert_true(rpc_test_same(rpc_end_frame(f->libvirtd, n), rpc_end_frame(f->libvirtd, 0)));
    return rpc_end_frame(f->libvirtd, n);
}

static void refuse(Fixture *f, guint n, int code)
{
    rpc_stream_send(f->libvirtd->stream,
                    rpc_error_reply(&asked(f, n)->header, code, VIR_FROM_QEMU, "not now"));
}

static void agree(Fixture *f, guint n)
{
    RpcHeader header = asked(f, n)->header;

    header.type = RPC_TYPE_REPLY;
    rpc_stream_send(f->libvirtd->stream, rpc_frame_new(&header, "\0\0\0\0\0\0\0\0", 8));
}

static void client_hears(Fixture *f, guint32 status)
{
    assert_true(rpc_test_until_frames(f->client, 1));
    assert_int_equal(rpc_end_frame(f->client, 0)->header.serial, SERIAL);
    assert_int_equal(rpc_end_frame(f->client, 0)->header.status, status);
}

static void test_libvirt_is_asked_again_until_it_knows_of_the_failure(void **state)
{
    Fixture *f = *state;

    begin(f, RESUME);
    refuse(f, 0, VIR_ERR_OPERATION_INVALID);
    refuse(f, 1, VIR_ERR_OPERATION_INVALID);
    agree(f, 2);
    client_hears(f, RPC_STATUS_OK);
    assert_int_equal(f->libvirtd->frames->len, 3);
}

static void test_another_refusal_counts_at_once(void **state)
{
    Fixture *f = *state;

    begin(f, RESUME);
    refuse(f, 0, VIR_ERR_NO_DOMAIN);
    client_hears(f, RPC_STATUS_ERROR);
    assert_int_equal(f->libvirtd->frames->len, 1);
}

static void test_a_migration_that_is_no_resume_is_not_asked_for_again(void **state)
{
    Fixture *f = *state;

    const RpcFrame *call;

    begin(f, VIR_MIGRATE_POSTCOPY);
    refuse(f, 0, VIR_ERR_NO_DOMAIN); /* the daemon's question for the domain's XML */
    assert_true(rpc_test_until_frames(f->libvirtd, 2));
    call = rpc_end_frame(f->libvirtd, 1);
    assert_int_equal(call->header.procedure, BEGIN);
    rpc_stream_send(f->libvirtd->stream, rpc_error_reply(&call->header, VIR_ERR_OPERATION_INVALID,
                                                         VIR_FROM_QEMU, "not now"));
    client_hears(f, RPC_STATUS_ERROR);
    assert_int_equal(f->libvirtd->frames->len, 2);
}

static void test_a_refusal_that_stays_is_told_in_the_end(void **state)
{
    Fixture *f = *state;

    begin(f, RESUME);
    for (guint n = 0; f->client->frames->len == 0; n++) {
        assert_in_range(n, 0, 100);
        refuse(f, n, VIR_ERR_OPERATION_INVALID);
        while (f->client->frames->len == 0 && f->libvirtd->frames->len == n + 1)
            g_main_context_iteration(NULL, TRUE);
    }
    client_hears(f, RPC_STATUS_ERROR);
    assert_in_range(f->libvirtd->frames->len, 2, 100);
}

static void test_client_that_leaves_ends_it(void **state)
{
    Fixture *f = *state;

    begin(f, RESUME);
    refuse(f, 0, VIR_ERR_OPERATION_INVALID);
    rpc_stream_close(f->client->stream, FALSE);
    assert_true(rpc_test_until_closed(f->libvirtd));
    assert_int_equal(f->libvirtd->frames->len, 1);
}

/* ---- the daemon's own URI for a recovery ---- */

#define RECOVER "postcopy+recover:///system?session=07070707070707070707070707070707"

static void add_record(Fixture *f, gint64 broken)
{
    JobRecord *record = job_record_new();

    record->side = MIGRATION_SIDE_SOURCE;
    record->domain = g_strdup("vm1");
    record->uri.host = g_strdup("127.0.0.1");
    record->uri.port = 1;
    memset(record->uri.session, 7, sizeof record->uri.session);
    record->broken = broken;
    g_ptr_array_add(f->driver.set->broken, record);
}

static void perform(Fixture *f, const char *dconnuri, guint flags)
{
    remote_text text = (char *)dconnuri;
    remote_perform3_params args = { .dom = { .name = (char *)"vm1", .id = 3 },
                                    .dconnuri = &text,
                                    .flags = flags | VIR_MIGRATE_PEER2PEER };

    calls(f, PERFORM, (xdrproc_t)xdr_remote_perform3_params, &args);
}

static void client_is_refused(Fixture *f, int code, const char *words)
{
    g_autofree char *message = NULL;

    client_hears(f, RPC_STATUS_ERROR);
    message = rpc_test_error(rpc_end_frame(f->client, 0));
    assert_non_null(strstr(message, words));
    assert_int_equal(rpc_error_code(rpc_end_frame(f->client, 0)), code);
    assert_int_equal(f->libvirtd->frames->len, 0);
}

static void test_nobody_but_the_daemon_itself_may_recover(void **state)
{
    Fixture *f = *state;

    f->settings->allow_plain_destination = TRUE;
    add_record(f, g_get_real_time() / G_USEC_PER_SEC);
    perform(f, RECOVER, RESUME);
    client_is_refused(f, VIR_ERR_ARGUMENT_UNSUPPORTED, "the daemon's own");
}

static void test_the_daemon_itself_may_recover_only_with_a_resume(void **state)
{
    Fixture *f = *state;

    add_record(f, g_get_real_time() / G_USEC_PER_SEC);
    perform(f, RECOVER, VIR_MIGRATE_POSTCOPY);
    client_is_refused(f, VIR_ERR_ARGUMENT_UNSUPPORTED, "the daemon's own");
}

static void test_a_session_that_goes_on_is_not_recovered(void **state)
{
    Fixture *f = *state;

    add_record(f, 0);
    f->settings->recover_timeout = 0; /* nor does it expire */
    perform(f, RECOVER, RESUME);
    client_is_refused(f, VIR_ERR_OPERATION_FAILED, "no broken migration");
}

static void test_a_session_that_is_not_known_is_not_recovered(void **state)
{
    Fixture *f = *state;

    perform(f, RECOVER, RESUME);
    client_is_refused(f, VIR_ERR_OPERATION_FAILED, "no broken migration");
}

static void test_a_broken_session_is_dialled_for_its_recovery(void **state)
{
    Fixture *f = *state;

    add_record(f, g_get_real_time() / G_USEC_PER_SEC);
    perform(f, RECOVER, RESUME);
    client_is_refused(f, VIR_ERR_OPERATION_FAILED, "127.0.0.1");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_libvirt_is_asked_again_until_it_knows_of_the_failure),
        CASE(test_another_refusal_counts_at_once),
        CASE(test_a_migration_that_is_no_resume_is_not_asked_for_again),
        CASE(test_a_refusal_that_stays_is_told_in_the_end),
        CASE(test_client_that_leaves_ends_it),
        cmocka_unit_test_setup_teardown(test_nobody_but_the_daemon_itself_may_recover, setup_other,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_nobody_but_the_daemon_itself_may_recover,
                                        setup_remote, teardown),
        cmocka_unit_test_setup_teardown(test_the_daemon_itself_may_recover_only_with_a_resume,
                                        setup_itself, teardown),
        cmocka_unit_test_setup_teardown(test_a_session_that_goes_on_is_not_recovered, setup_itself,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_session_that_is_not_known_is_not_recovered,
                                        setup_itself, teardown),
        cmocka_unit_test_setup_teardown(test_a_broken_session_is_dialled_for_its_recovery,
                                        setup_itself, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
