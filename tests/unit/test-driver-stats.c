/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Questions for a domain's job, with a libvirtd that the test plays itself: what is added to its
 * answers, what is said in its place, and that nobody waits for it. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

#include "driver/driver_memory.h"
#include "driver/driver_stats.h"
#include "driver/job_answer.h"
#include "driver/memory_list.h"
#include "driver/migration_priv.h"
#include "driver/rpc_error.h"
#include "driver/rpc_xdr.h"
#include "tests/support/rpc-end.h"

#define DOMAIN "vm1"
#define COMPLETED VIR_DOMAIN_JOB_STATS_COMPLETED
#define KEEP (COMPLETED | VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED)

typedef struct {
    MigrationAccounts *accounts;
    MigrationAccounts *memory; /* those of memory clients */
    DriverStats *stats;
    Migration *migration;
    Proxy *proxy;
    RpcEnd *client;
    RpcEnd *upstream;
    guint32 serial;
} Fixture;

static gboolean on_call(Proxy *proxy, RpcFrame *frame, gpointer data)
{
    Fixture *f = data;

    return driver_memory_call(f->memory, proxy, frame) ||
           driver_stats_call(f->stats, proxy, frame);
}

static gboolean on_message(Proxy *proxy, RpcFrame *frame, gpointer data)
{
    Fixture *f = data;

    return driver_stats_message(f->stats, proxy, frame);
}

static void on_closed(Proxy *proxy, gpointer data)
{
    Fixture *f = data;

    driver_stats_closed(f->stats, proxy);
}

static const ProxyHooks hooks = { .call = on_call, .message = on_message, .closed = on_closed };

static int setup(void **state)
{
    const ProxyPeer peer = { .kind = PROXY_CLIENT_UNIX };
    Fixture *f = g_new0(Fixture, 1);
    int client[2], upstream[2];

    rpc_test_pair(client);
    rpc_test_pair(upstream);
    f->accounts = migration_accounts_new();
    f->memory = migration_accounts_new();
    f->stats = driver_stats_new(f->accounts);
    f->client = rpc_end_new(rpc_stream_new_socket(client[0], TRUE));
    f->upstream = rpc_end_new(rpc_stream_new_socket(upstream[0], TRUE));
    f->proxy = proxy_ref(proxy_new(rpc_stream_new_socket(client[1], TRUE),
                                   rpc_stream_new_socket(upstream[1], TRUE), &peer, &hooks, f));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;

    g_clear_pointer(&f->client, rpc_end_free);
    g_clear_pointer(&f->upstream, rpc_end_free);
    proxy_close(f->proxy);
    for (guint i = 0; i < 3; i++)
        rpc_test_settle();
    proxy_unref(f->proxy);
    migration_unref(f->migration);
    driver_stats_free(f->stats);
    migration_accounts_free(f->accounts);
    migration_accounts_free(f->memory);
    g_free(f);
    return 0;
}

/* ---- a migration ---- */

static void says(Fixture *f, const char *state)
{
    migration_accounts_notice(f->accounts, f->migration, MIGRATION_NOTICE_STATE, state);
}

static void migrates(Fixture *f, MigrationSide side)
{
    JobRecord *record = job_record_new();

    record->side = side;
    record->domain = g_strdup(DOMAIN);
    record->begun = g_get_real_time();
    f->migration = migration_alloc(NULL, record);
    says(f, "active");
}

static void completes(Fixture *f)
{
    says(f, "completed");
    migration_accounts_notice(f->accounts, f->migration, MIGRATION_NOTICE_ENDED, NULL);
}

/* ---- the client ---- */

static void ask_by_id(Fixture *f, gint32 procedure, guint32 flags, const char *domain, int id)
{
    remote_abort_job_flags args = { .dom = { .name = (char *)domain, .id = id }, .flags = flags };
    remote_abort_job info = { .dom = args.dom };
    xdrproc_t proc = procedure == JOB_PROC_INFO ? (xdrproc_t)xdr_remote_abort_job
                                                : (xdrproc_t)xdr_remote_abort_job_flags;
    void *value = procedure == JOB_PROC_INFO ? (void *)&info : (void *)&args;
    g_autoptr(GByteArray) payload = rpc_xdr_encode(proc, value, "a question", NULL);
    RpcHeader header = { RPC_PROGRAM_REMOTE, 1, procedure, RPC_TYPE_CALL, f->serial++, 0 };

    rpc_stream_send(f->client->stream, rpc_frame_new(&header, payload->data, payload->len));
}

static void ask(Fixture *f, gint32 procedure, guint32 flags, const char *domain)
{
    ask_by_id(f, procedure, flags, domain, 1);
}

static void ask_stats(Fixture *f, guint32 flags)
{
    ask(f, JOB_PROC_STATS, flags, DOMAIN);
}

/* The client's answer number i, as libvirt's client reads it. */
static void read_stats(Fixture *f, guint i, remote_job_stats_ret *ret)
{
    const RpcFrame *frame;
    const guint8 *payload;
    gsize len;

    assert_true(rpc_test_until_frames(f->client, i + 1));
    frame = rpc_end_frame(f->client, i);
    assert_int_equal(frame->header.status, RPC_STATUS_OK);
    assert_int_equal(frame->header.type, RPC_TYPE_REPLY);
    payload = rpc_frame_payload(frame, &len);
    assert_true(rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_job_stats_ret, ret, sizeof *ret,
                               "the answer", NULL));
}

static const remote_param *find(const remote_params *params, const char *field)
{
    for (guint i = 0; i < params->remote_params_len; i++) {
        if (g_str_equal(params->remote_params_val[i].field, field))
            return &params->remote_params_val[i];
    }
    return NULL;
}

static gboolean is_ours_as_well(const remote_params *params)
{
    return find(params, "postcopy.link") != NULL;
}

static guint64 number(const remote_params *params, const char *field)
{
    const remote_param *param = find(params, field);

    if (!param)
        fail_msg("%s is missing", field);
    return param->value.remote_param_value_u.ul;
}

static int error_code(Fixture *f, guint i)
{
    g_auto(RpcError) error = { 0 };
    const guint8 *payload;
    gsize len;

    assert_true(rpc_test_until_frames(f->client, i + 1));
    assert_int_equal(rpc_end_frame(f->client, i)->header.status, RPC_STATUS_ERROR);
    payload = rpc_frame_payload(rpc_end_frame(f->client, i), &len);
    assert_true(rpc_error_decode(payload, len, &error, NULL));
    return error.code;
}

/* ---- libvirtd ---- */

static const RpcHeader *asked(Fixture *f, guint i)
{
    assert_true(rpc_test_until_frames(f->upstream, i + 1));
    return &rpc_end_frame(f->upstream, i)->header;
}

/* n_params: of them one memory_processed, the rest anything. */
static void answers(Fixture *f, guint i, int type, guint n_params, guint64 processed)
{
    remote_param params[REMOTE_PARAMS_MAX] = { 0 };
    remote_job_stats_ret ret = { .type = type };

    for (guint k = 0; k < n_params; k++) {
        params[k].field = (char *)(k ? "disk_bps" : "memory_processed");
        params[k].value.type = REMOTE_PARAM_ULLONG;
        params[k].value.remote_param_value_u.ul = processed;
    }
    ret.params.remote_params_len = n_params;
    ret.params.remote_params_val = params;
    rpc_stream_send(
        f->upstream->stream,
        rpc_xdr_reply(asked(f, i), (xdrproc_t)xdr_remote_job_stats_ret, &ret, NULL));
}

static void refuses(Fixture *f, guint i, int code)
{
    rpc_stream_send(f->upstream->stream,
                    rpc_error_reply(asked(f, i), code, VIR_FROM_QEMU, "refused"));
}

/* ---- libvirt's own ---- */

static void a_domain_that_does_not_migrate_is_libvirts(void **state)
{
    Fixture *f = *state;

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask(f, JOB_PROC_STATS, 0, "another");
    assert_int_equal(asked(f, 0)->serial, 0); /* the client's own call */
    answers(f, 0, VIR_DOMAIN_JOB_UNBOUNDED, 1, 7);
    assert_true(rpc_test_until_frames(f->client, 1));
    assert_int_equal(rpc_end_frame(f->client, 0)->wire->len, RPC_HEADER_LEN + 4 + 4 + 20 + 4 + 8);
}

static void flags_that_are_not_known_are_libvirts(void **state)
{
    Fixture *f = *state;

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask_stats(f, 8);
    assert_int_equal(asked(f, 0)->serial, 0);
}

static void a_question_that_is_none_is_libvirts(void **state)
{
    Fixture *f = *state;

    migrates(f, MIGRATION_SIDE_SOURCE);
    rpc_stream_send(f->client->stream, rpc_test_frame(RPC_TYPE_CALL, JOB_PROC_STATS, 9, 16));
    assert_int_equal(asked(f, 0)->serial, 9);
}

/* ---- the source ---- */

static void libvirts_answer_is_completed(void **state)
{
    Fixture *f = *state;
    RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask_stats(f, 0);
    assert_true(asked(f, 0)->serial >= 0xff000000); /* ours */
    answers(f, 0, VIR_DOMAIN_JOB_UNBOUNDED, 2, 77);
    read_stats(f, 0, &ret);
    assert_int_equal(rpc_end_frame(f->client, 0)->header.serial, 0);
    assert_int_equal(ret.type, VIR_DOMAIN_JOB_UNBOUNDED);
    assert_int_equal(number(&ret.params, "memory_processed"), 77);
    assert_true(is_ours_as_well(&ret.params));
}

static void libvirts_64_leave_no_room(void **state)
{
    Fixture *f = *state;
    RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask_stats(f, 0);
    answers(f, 0, VIR_DOMAIN_JOB_UNBOUNDED, 64, 1);
    read_stats(f, 0, &ret);
    assert_int_equal(ret.params.remote_params_len, 64);
    assert_false(is_ours_as_well(&ret.params));
}

static void no_job_is_no_job(void **state)
{
    Fixture *f = *state;
    RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask_stats(f, 0);
    answers(f, 0, VIR_DOMAIN_JOB_NONE, 0, 0);
    read_stats(f, 0, &ret);
    assert_int_equal(ret.type, VIR_DOMAIN_JOB_NONE);
    assert_int_equal(ret.params.remote_params_len, 0);
}

static void errors_and_nonsense_go_on_to_the_client(void **state)
{
    Fixture *f = *state;
    RpcHeader header;

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask_stats(f, 0);
    refuses(f, 0, VIR_ERR_ACCESS_DENIED);
    assert_int_equal(error_code(f, 0), VIR_ERR_ACCESS_DENIED);
    ask_stats(f, 0);
    refuses(f, 1, VIR_ERR_OPERATION_UNSUPPORTED); /* not the destination */
    assert_int_equal(error_code(f, 1), VIR_ERR_OPERATION_UNSUPPORTED);
    ask_stats(f, 0);
    header = *asked(f, 2);
    header.type = RPC_TYPE_REPLY;
    rpc_stream_send(f->upstream->stream, rpc_frame_new(&header, "abc", 3));
    assert_true(rpc_test_until_frames(f->client, 3));
    assert_int_equal(rpc_end_frame(f->client, 2)->wire->len, RPC_HEADER_LEN + 3);
    assert_int_equal(rpc_end_frame(f->client, 2)->header.serial, 2);
}

static void another_operation_is_left_alone(void **state)
{
    Fixture *f = *state;
    remote_param operation = { .field = (char *)"operation" };
    remote_job_stats_ret ret = { .type = VIR_DOMAIN_JOB_UNBOUNDED };
    RPC_XDR_AUTO(remote_job_stats_ret, got) = { 0 };

    migrates(f, MIGRATION_SIDE_SOURCE);
    operation.value.type = REMOTE_PARAM_INT;
    operation.value.remote_param_value_u.i = VIR_DOMAIN_JOB_OPERATION_DUMP;
    ret.params.remote_params_len = 1;
    ret.params.remote_params_val = &operation;
    ask_stats(f, 0);
    rpc_stream_send(
        f->upstream->stream,
        rpc_xdr_reply(asked(f, 0), (xdrproc_t)xdr_remote_job_stats_ret, &ret, NULL));
    read_stats(f, 0, &got);
    assert_int_equal(got.params.remote_params_len, 1);
}

/* ---- libvirtd does not answer ---- */

static void nobody_waits_for_libvirtd(void **state)
{
    Fixture *f = *state;
    RPC_XDR_AUTO(remote_job_stats_ret, first) = { 0 };
    RPC_XDR_AUTO(remote_job_stats_ret, second) = { 0 };
    RPC_XDR_AUTO(remote_job_stats_ret, third) = { 0 };

    migrates(f, MIGRATION_SIDE_SOURCE);
    /* Nothing is known of libvirt's: all of it from the helper. */
    ask_stats(f, 0);
    read_stats(f, 0, &first);
    assert_int_equal(first.type, VIR_DOMAIN_JOB_UNBOUNDED);
    assert_int_equal(find(&first.params, "operation")->value.remote_param_value_u.i, 5);
    assert_true(is_ours_as_well(&first.params));
    /* Its late reply is for the next time, and no second call was made. */
    ask_stats(f, 0);
    read_stats(f, 1, &second);
    assert_int_equal(f->upstream->frames->len, 1);
    answers(f, 0, VIR_DOMAIN_JOB_UNBOUNDED, 1, 4711);
    rpc_test_settle();
    assert_int_equal(f->client->frames->len, 2);
    ask_stats(f, 0);
    asked(f, 1);
    read_stats(f, 2, &third);
    assert_int_equal(number(&third.params, "memory_processed"), 4711);
    assert_null(find(&third.params, "memory_total"));
    assert_true(is_ours_as_well(&third.params));
}

static void an_old_sample_is_told_of_no_other_job(void **state)
{
    Fixture *f = *state;
    RPC_XDR_AUTO(remote_job_stats_ret, first) = { 0 };
    RPC_XDR_AUTO(remote_job_stats_ret, none) = { 0 };
    RPC_XDR_AUTO(remote_job_stats_ret, second) = { 0 };

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask_stats(f, 0);
    answers(f, 0, VIR_DOMAIN_JOB_UNBOUNDED, 1, 4711);
    read_stats(f, 0, &first);
    says(f, "failed");
    /* of a job that has ended */
    ask_stats(f, 0);
    read_stats(f, 1, &none);
    assert_int_equal(none.type, VIR_DOMAIN_JOB_FAILED);
    assert_non_null(find(&none.params, "memory_total"));
    answers(f, 1, VIR_DOMAIN_JOB_UNBOUNDED, 1, 4712);
    for (guint i = 0; i < 3; i++)
        rpc_test_settle();
    /* of the migration before */
    migration_accounts_notice(f->accounts, f->migration, MIGRATION_NOTICE_ENDED, NULL);
    migration_unref(f->migration);
    migrates(f, MIGRATION_SIDE_SOURCE);
    ask_stats(f, 0);
    read_stats(f, 2, &second);
    assert_int_equal(second.type, VIR_DOMAIN_JOB_UNBOUNDED);
    assert_non_null(find(&second.params, "memory_total"));
}

/* libvirt ends its job a little after the helper has ended. */
static void the_last_sample_stands_until_libvirts_job_ends(void **state)
{
    Fixture *f = *state;
    RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask_stats(f, 0);
    answers(f, 0, VIR_DOMAIN_JOB_UNBOUNDED, 1, 4711);
    assert_true(rpc_test_until_frames(f->client, 1));
    completes(f);
    ask_stats(f, 0);
    read_stats(f, 1, &ret);
    assert_int_equal(number(&ret.params, "memory_processed"), 4711);
}

static void a_sample_goes_with_the_job(void **state)
{
    Fixture *f = *state;
    RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask_stats(f, 0);
    answers(f, 0, VIR_DOMAIN_JOB_UNBOUNDED, 1, 4711);
    assert_true(rpc_test_until_frames(f->client, 1));
    ask_stats(f, 0);
    answers(f, 1, VIR_DOMAIN_JOB_NONE, 0, 0);
    assert_true(rpc_test_until_frames(f->client, 2));
    ask_stats(f, 0);
    read_stats(f, 2, &ret);
    assert_non_null(find(&ret.params, "memory_total"));
}

static void another_domain_of_that_name_is_asked_for_anew(void **state)
{
    Fixture *f = *state;
    RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask_stats(f, 0);
    refuses(f, 0, VIR_ERR_NO_DOMAIN);
    assert_int_equal(error_code(f, 0), VIR_ERR_NO_DOMAIN);
    ask_by_id(f, JOB_PROC_STATS, 0, DOMAIN, 2);
    asked(f, 1);
    assert_true(rpc_end_frame(f->upstream, 0)->wire->len ==
                rpc_end_frame(f->upstream, 1)->wire->len);
    assert_memory_not_equal(rpc_end_frame(f->upstream, 0)->wire->data + RPC_HEADER_LEN,
                            rpc_end_frame(f->upstream, 1)->wire->data + RPC_HEADER_LEN,
                            rpc_end_frame(f->upstream, 0)->wire->len - RPC_HEADER_LEN);
    answers(f, 1, VIR_DOMAIN_JOB_UNBOUNDED, 1, 7);
    read_stats(f, 1, &ret);
    assert_int_equal(number(&ret.params, "memory_processed"), 7);
}

static void one_reply_answers_all_who_wait(void **state)
{
    Fixture *f = *state;

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask_stats(f, 0);
    ask_stats(f, 0);
    asked(f, 0);
    answers(f, 0, VIR_DOMAIN_JOB_UNBOUNDED, 1, 5);
    for (guint i = 0; i < 2; i++) {
        RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };

        read_stats(f, i, &ret);
        assert_int_equal(rpc_end_frame(f->client, i)->header.serial, i);
    }
    assert_int_equal(f->upstream->frames->len, 1);
}

static void a_client_has_few_calls_with_libvirtd(void **state)
{
    Fixture *f = *state;

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask_stats(f, 0);
    ask_by_id(f, JOB_PROC_STATS, 0, DOMAIN, 2);
    ask(f, JOB_PROC_INFO, 0, DOMAIN);
    assert_true(rpc_test_until_frames(f->client, 3)); /* all the same */
    assert_int_equal(f->upstream->frames->len, DRIVER_STATS_CALLS_MAX);
}

static void a_question_without_room_is_asked_later(void **state)
{
    Fixture *f = *state;
    RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask_stats(f, 0);
    ask(f, JOB_PROC_INFO, 0, DOMAIN);
    ask_stats(f, COMPLETED); /* which only libvirtd can answer */
    assert_true(rpc_test_until_frames(f->client, 2));
    assert_int_equal(f->upstream->frames->len, 2);
    answers(f, 0, VIR_DOMAIN_JOB_UNBOUNDED, 1, 5);
    asked(f, 2);
    answers(f, 2, VIR_DOMAIN_JOB_NONE, 0, 0);
    read_stats(f, 2, &ret);
    assert_int_equal(rpc_end_frame(f->client, 2)->header.serial, 2);
}

static void info_is_told_from_the_last_one(void **state)
{
    Fixture *f = *state;
    remote_job_info info = { .type = VIR_DOMAIN_JOB_UNBOUNDED, .mem_total = 99 };

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask(f, JOB_PROC_INFO, 0, DOMAIN);
    rpc_stream_send(f->upstream->stream,
                    rpc_xdr_reply(asked(f, 0), (xdrproc_t)xdr_remote_job_info, &info, NULL));
    assert_true(rpc_test_until_frames(f->client, 1));
    ask(f, JOB_PROC_INFO, 0, DOMAIN);
    asked(f, 1);
    assert_true(rpc_test_until_frames(f->client, 2));
    assert_memory_equal(rpc_end_frame(f->client, 0)->wire->data + RPC_HEADER_LEN,
                        rpc_end_frame(f->client, 1)->wire->data + RPC_HEADER_LEN, 92);
    assert_int_equal(rpc_end_frame(f->client, 1)->wire->len, RPC_HEADER_LEN + 92);
}

static void a_client_that_leaves_hears_nothing_more(void **state)
{
    Fixture *f = *state;

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask_stats(f, 0);
    asked(f, 0);
    proxy_close(f->proxy);
    assert_true(rpc_test_until_closed(f->client));
    for (guint i = 0; i < 3; i++)
        rpc_test_settle();
    assert_int_equal(f->client->frames->len, 0);
}

/* ---- the destination ---- */

static void the_destination_answers_where_libvirt_refuses(void **state)
{
    Fixture *f = *state;
    RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };
    RPC_XDR_AUTO(remote_job_stats_ret, again) = { 0 };

    migrates(f, MIGRATION_SIDE_DESTINATION);
    ask_stats(f, 0);
    refuses(f, 0, VIR_ERR_OPERATION_UNSUPPORTED);
    read_stats(f, 0, &ret);
    assert_int_equal(ret.type, VIR_DOMAIN_JOB_UNBOUNDED);
    assert_int_equal(find(&ret.params, "operation")->value.remote_param_value_u.i, 4);
    assert_true(is_ours_as_well(&ret.params));
    assert_non_null(find(&ret.params, "postcopy.block_time"));
    /* It is not asked again, as it would note that as an error each time. */
    ask_stats(f, 0);
    read_stats(f, 1, &again);
    assert_int_equal(f->upstream->frames->len, 1);
    /* Once it is over libvirtd may know better. */
    completes(f);
    ask_stats(f, 0);
    asked(f, 1);
}

static void info_of_the_destination_is_ours(void **state)
{
    Fixture *f = *state;

    migrates(f, MIGRATION_SIDE_DESTINATION);
    ask(f, JOB_PROC_INFO, 0, DOMAIN);
    refuses(f, 0, VIR_ERR_OPERATION_UNSUPPORTED);
    assert_true(rpc_test_until_frames(f->client, 1));
    assert_int_equal(rpc_end_frame(f->client, 0)->header.status, RPC_STATUS_OK);
    assert_int_equal(rpc_end_frame(f->client, 0)->wire->len, RPC_HEADER_LEN + 92);
}

static void a_failure_is_told_as_one(void **state)
{
    static const struct {
        const char *state;
        int type;
    } rows[] = { { "failed", VIR_DOMAIN_JOB_FAILED }, { "cancelled", VIR_DOMAIN_JOB_CANCELLED } };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        Fixture *f;
        void *own;

        assert_int_equal(setup(&own), 0);
        f = own;
        {
            RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };

            migrates(f, MIGRATION_SIDE_DESTINATION);
            says(f, rows[i].state);
            ask_stats(f, 0);
            refuses(f, 0, VIR_ERR_OPERATION_UNSUPPORTED);
            read_stats(f, 0, &ret);
            assert_int_equal(ret.type, rows[i].type);
        }
        assert_int_equal(teardown(&own), 0);
    }
}

/* ---- completed ---- */

static void completed_statistics_are_kept_until_read(void **state)
{
    for (guint side = MIGRATION_SIDE_SOURCE; side <= MIGRATION_SIDE_DESTINATION; side++) {
        Fixture *f;
        void *own;

        assert_int_equal(setup(&own), 0);
        f = own;
        migrates(f, side);
        completes(f);
        for (guint i = 0; i < 4; i++) {
            RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };

            ask_stats(f, i < 2 ? KEEP : COMPLETED);
            answers(f, i, VIR_DOMAIN_JOB_NONE, 0, 0);
            read_stats(f, i, &ret);
            assert_int_equal(ret.type, i < 3 ? VIR_DOMAIN_JOB_COMPLETED : VIR_DOMAIN_JOB_NONE);
            assert_int_equal(is_ours_as_well(&ret.params), i < 3);
        }
        assert_int_equal(teardown(&own), 0);
    }
}

static void libvirts_completed_statistics_come_first(void **state)
{
    Fixture *f = *state;
    RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };
    RPC_XDR_AUTO(remote_job_stats_ret, gone) = { 0 };

    migrates(f, MIGRATION_SIDE_SOURCE);
    completes(f);
    ask_stats(f, KEEP);
    answers(f, 0, VIR_DOMAIN_JOB_COMPLETED, 1, 31);
    read_stats(f, 0, &ret);
    assert_int_equal(number(&ret.params, "memory_processed"), 31);
    assert_null(find(&ret.params, "memory_total"));
    assert_true(is_ours_as_well(&ret.params));
    /* The domain is gone from there, and libvirt's with it. */
    ask_stats(f, KEEP);
    refuses(f, 1, VIR_ERR_NO_DOMAIN);
    read_stats(f, 1, &gone);
    assert_int_equal(gone.type, VIR_DOMAIN_JOB_COMPLETED);
    assert_non_null(find(&gone.params, "memory_total"));
}

/* Anybody may ask for a domain of that name with an id that is none. */
static void no_domain_at_the_destination_clears_nothing(void **state)
{
    Fixture *f = *state;
    RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };

    migrates(f, MIGRATION_SIDE_DESTINATION);
    completes(f);
    ask_by_id(f, JOB_PROC_STATS, COMPLETED, DOMAIN, 99);
    refuses(f, 0, VIR_ERR_NO_DOMAIN);
    assert_int_equal(error_code(f, 0), VIR_ERR_NO_DOMAIN);
    ask_stats(f, KEEP);
    answers(f, 1, VIR_DOMAIN_JOB_NONE, 0, 0);
    read_stats(f, 1, &ret);
    assert_int_equal(ret.type, VIR_DOMAIN_JOB_COMPLETED);
    assert_true(is_ours_as_well(&ret.params));
}

/* Longer than anybody waits for an answer of a job that runs. */
static void late_completed_statistics_are_waited_for(void **state)
{
    Fixture *f = *state;
    RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };

    migrates(f, MIGRATION_SIDE_SOURCE);
    completes(f);
    ask_stats(f, COMPLETED);
    ask(f, JOB_PROC_INFO, 0, DOMAIN);
    assert_true(rpc_test_until_frames(f->client, 1));
    assert_int_equal(rpc_end_frame(f->client, 0)->header.serial, 1);
    answers(f, 0, VIR_DOMAIN_JOB_COMPLETED, 1, 31);
    read_stats(f, 1, &ret);
    assert_int_equal(number(&ret.params, "memory_processed"), 31);
    assert_true(is_ours_as_well(&ret.params));
}

static void nothing_is_completed_while_it_goes_on(void **state)
{
    Fixture *f = *state;
    RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };

    migrates(f, MIGRATION_SIDE_SOURCE);
    ask_stats(f, COMPLETED);
    answers(f, 0, VIR_DOMAIN_JOB_NONE, 0, 0);
    read_stats(f, 0, &ret);
    assert_int_equal(ret.type, VIR_DOMAIN_JOB_NONE);
}

/* ---- the event ---- */

static void send_event(Fixture *f, const char *domain)
{
    remote_param param = { .field = (char *)"time_elapsed" };
    remote_job_completed event = { .callback_id = 12, .dom = { .name = (char *)domain, .id = -1 } };
    g_autoptr(GByteArray) payload = NULL;
    RpcHeader header = { RPC_PROGRAM_REMOTE, 1, 363, RPC_TYPE_MESSAGE, 1, 0 };

    param.value.type = REMOTE_PARAM_ULLONG;
    event.params.remote_params_len = 1;
    event.params.remote_params_val = &param;
    payload = rpc_xdr_encode((xdrproc_t)xdr_remote_job_completed, &event, "an event", NULL);
    rpc_stream_send(f->upstream->stream, rpc_frame_new(&header, payload->data, payload->len));
}

static void read_event(Fixture *f, guint i, remote_job_completed *ret)
{
    const guint8 *payload;
    gsize len;

    assert_true(rpc_test_until_frames(f->client, i + 1));
    payload = rpc_frame_payload(rpc_end_frame(f->client, i), &len);
    assert_true(rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_job_completed, ret, sizeof *ret,
                               "the event", NULL));
}

/* Long after its end what runs is libvirt's own. */
static void later_jobs_are_left_alone(void **state)
{
    remote_job_completed event = { .dom = { .name = (char *)DOMAIN, .id = -1 } };
    g_autoptr(GByteArray) payload =
        rpc_xdr_encode((xdrproc_t)xdr_remote_job_completed, &event, "an event", NULL);
    const RpcHeader header = { RPC_PROGRAM_REMOTE, 1, 363, RPC_TYPE_MESSAGE, 1, 0 };
    const RpcHeader call = { RPC_PROGRAM_REMOTE, 1, JOB_PROC_STATS, RPC_TYPE_CALL, 1, 0 };
    remote_job_stats_ret running = { .type = VIR_DOMAIN_JOB_UNBOUNDED };
    g_autoptr(RpcFrame) reply =
        rpc_xdr_reply(&call, (xdrproc_t)xdr_remote_job_stats_ret, &running, NULL);
    JobFigures figures = { .outcome = JOB_OUTCOME_FAILED };
    const JobQuestion question = { call, 0, reply, NULL, &figures };

    for (guint i = 0; i < 2; i++) {
        RpcFrame *theirs = rpc_frame_new(&header, payload->data, payload->len);
        g_autoptr(RpcFrame) told = NULL;
        g_autoptr(RpcFrame) answer = NULL;
        gboolean later = i == 1;

        figures.ended_us = (gint64)(later ? 3600 : 1) * G_USEC_PER_SEC;
        told = job_completed_event(theirs, &figures);
        answer = job_answer(&question).frame;
        assert_int_equal(told == theirs, later);
        assert_int_equal(answer == NULL, later);
    }
}

static void the_event_is_completed(void **state)
{
    Fixture *f = *state;
    RPC_XDR_AUTO(remote_job_completed, ours) = { 0 };
    RPC_XDR_AUTO(remote_job_completed, other) = { 0 };
    const RpcHeader bad = { RPC_PROGRAM_REMOTE, 1, 363, RPC_TYPE_MESSAGE, 1, 0 };

    migrates(f, MIGRATION_SIDE_SOURCE);
    completes(f);
    send_event(f, DOMAIN);
    send_event(f, "another");
    rpc_stream_send(f->upstream->stream, rpc_frame_new(&bad, "what", 4));
    read_event(f, 0, &ours);
    read_event(f, 1, &other);
    assert_int_equal(ours.callback_id, 12);
    assert_string_equal(ours.params.remote_params_val[0].field, "time_elapsed");
    assert_true(is_ours_as_well(&ours.params));
    assert_int_equal(other.params.remote_params_len, 1);
    assert_true(rpc_test_until_frames(f->client, 3));
    assert_int_equal(rpc_end_frame(f->client, 2)->wire->len, RPC_HEADER_LEN + 4);
    assert_int_equal(rpc_end_frame(f->client, 0)->header.type, RPC_TYPE_MESSAGE);
}

/* ---- memory clients ---- */

#define PROC_LIST 273
#define CLIENT MEMORY_PREFIX "vmm"

/* One of a client's whose session is full of that number; it says that. */
static Migration *moves(Fixture *f, MigrationSide side, guint8 number, const char *state)
{
    JobRecord *record = job_record_new();
    Migration *migration;

    record->side = side;
    record->domain = g_strdup(CLIENT);
    record->memory = TRUE;
    record->postcopy = TRUE;
    record->begun = g_get_real_time();
    memset(record->uri.session, number, MIGRATION_SESSION_LEN);
    migration = migration_alloc(NULL, record);
    migration_accounts_notice(f->memory, migration, MIGRATION_NOTICE_STATE, state);
    return migration;
}

static void list_domains(Fixture *f, guint32 flags)
{
    remote_list_domains args = { .need_results = 1, .flags = flags };
    g_autoptr(GByteArray) payload =
        rpc_xdr_encode((xdrproc_t)xdr_remote_list_domains, &args, "a list", NULL);
    RpcHeader header = { RPC_PROGRAM_REMOTE, 1, PROC_LIST, RPC_TYPE_CALL, f->serial++, 0 };

    rpc_stream_send(f->client->stream, rpc_frame_new(&header, payload->data, payload->len));
}

static void read_list(Fixture *f, guint i, remote_list_domains_ret *ret)
{
    const guint8 *payload;
    gsize len;

    assert_true(rpc_test_until_frames(f->client, i + 1));
    payload = rpc_frame_payload(rpc_end_frame(f->client, i), &len);
    assert_true(rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_list_domains_ret, ret,
                               sizeof *ret, "the list", NULL));
    assert_int_equal(ret->n, ret->domains.domains_len);
}

static void ask_client(Fixture *f, guint8 number, guint32 flags)
{
    remote_abort_job_flags args = { .dom = { .name = (char *)CLIENT, .id = -1 }, .flags = flags };
    g_autoptr(GByteArray) payload = NULL;
    RpcHeader header = { RPC_PROGRAM_REMOTE, 1, JOB_PROC_STATS, RPC_TYPE_CALL, f->serial++, 0 };

    memset(args.dom.uuid, number, REMOTE_UUID_LEN);
    payload = rpc_xdr_encode((xdrproc_t)xdr_remote_abort_job_flags, &args, "a question", NULL);
    rpc_stream_send(f->client->stream, rpc_frame_new(&header, payload->data, payload->len));
}

static void assert_type(Fixture *f, guint i, int type)
{
    RPC_XDR_AUTO(remote_job_stats_ret, ret) = { 0 };

    read_stats(f, i, &ret);
    assert_int_equal(ret.type, type);
    assert_int_equal(is_ours_as_well(&ret.params), type != VIR_DOMAIN_JOB_NONE);
}

static void memory_clients_are_listed_for_who_asks_for_them(void **state)
{
    Fixture *f = *state;
    G_GNUC_UNUSED g_autoptr(Migration) first = moves(f, MIGRATION_SIDE_SOURCE, 1, "active");
    G_GNUC_UNUSED g_autoptr(Migration) second =
        moves(f, MIGRATION_SIDE_DESTINATION, 0xfe, "active");
    RPC_XDR_AUTO(remote_list_domains_ret, ret) = { 0 };

    list_domains(f, MEMORY_LIST_FLAG);
    read_list(f, 0, &ret);
    assert_int_equal(ret.n, 2);
    for (guint i = 0; i < 2; i++) {
        guint8 uuid[REMOTE_UUID_LEN];

        memset(uuid, i ? 0xfe : 1, sizeof uuid);
        assert_string_equal(ret.domains.domains_val[i].name, CLIENT);
        assert_memory_equal(ret.domains.domains_val[i].uuid, uuid, sizeof uuid);
    }
    assert_int_equal(f->upstream->frames->len, 0);
    /* Any other list is libvirt's alone. */
    list_domains(f, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    list_domains(f, MEMORY_LIST_FLAG | VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    assert_int_equal(asked(f, 1)->procedure, PROC_LIST);
    assert_int_equal(f->client->frames->len, 1);
}

static void each_session_of_a_memory_client_has_its_own_statistics(void **state)
{
    Fixture *f = *state;
    g_autoptr(Migration) first = moves(f, MIGRATION_SIDE_SOURCE, 1, "active");
    g_autoptr(Migration) second = moves(f, MIGRATION_SIDE_SOURCE, 2, "active");

    ask_client(f, 1, 0);
    assert_type(f, 0, VIR_DOMAIN_JOB_UNBOUNDED);
    ask_client(f, 1, KEEP);
    assert_type(f, 1, VIR_DOMAIN_JOB_NONE);
    migration_accounts_notice(f->memory, first, MIGRATION_NOTICE_STATE, "completed");
    ask_client(f, 1, 0);
    assert_type(f, 2, VIR_DOMAIN_JOB_NONE);
    ask_client(f, 1, KEEP);
    assert_type(f, 3, VIR_DOMAIN_JOB_COMPLETED);
    ask_client(f, 2, 0);
    assert_type(f, 4, VIR_DOMAIN_JOB_UNBOUNDED);
    /* The daemon does not wait for its recovery, which is another session. */
    migration_accounts_notice(f->memory, second, MIGRATION_NOTICE_STATE, "failed");
    ask_client(f, 2, KEEP);
    assert_type(f, 5, VIR_DOMAIN_JOB_FAILED);
    ask_client(f, 3, 0);
    assert_int_equal(error_code(f, 6), VIR_ERR_NO_DOMAIN);
    assert_int_equal(f->upstream->frames->len, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_domain_that_does_not_migrate_is_libvirts),
        TEST(flags_that_are_not_known_are_libvirts),
        TEST(a_question_that_is_none_is_libvirts),
        TEST(libvirts_answer_is_completed),
        TEST(libvirts_64_leave_no_room),
        TEST(no_job_is_no_job),
        TEST(errors_and_nonsense_go_on_to_the_client),
        TEST(another_operation_is_left_alone),
        TEST(nobody_waits_for_libvirtd),
        TEST(an_old_sample_is_told_of_no_other_job),
        TEST(the_last_sample_stands_until_libvirts_job_ends),
        TEST(a_sample_goes_with_the_job),
        TEST(another_domain_of_that_name_is_asked_for_anew),
        TEST(one_reply_answers_all_who_wait),
        TEST(a_client_has_few_calls_with_libvirtd),
        TEST(a_question_without_room_is_asked_later),
        TEST(info_is_told_from_the_last_one),
        TEST(a_client_that_leaves_hears_nothing_more),
        TEST(the_destination_answers_where_libvirt_refuses),
        TEST(info_of_the_destination_is_ours),
        cmocka_unit_test(a_failure_is_told_as_one),
        cmocka_unit_test(completed_statistics_are_kept_until_read),
        TEST(libvirts_completed_statistics_come_first),
        TEST(no_domain_at_the_destination_clears_nothing),
        TEST(late_completed_statistics_are_waited_for),
        TEST(nothing_is_completed_while_it_goes_on),
        TEST(the_event_is_completed),
        cmocka_unit_test(later_jobs_are_left_alone),
        TEST(memory_clients_are_listed_for_who_asks_for_them),
        TEST(each_session_of_a_memory_client_has_its_own_statistics),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
