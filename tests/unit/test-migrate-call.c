/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls of the migration protocol: both shapes of each phase read and change alike, and what is
 * malformed is refused. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <libvirt/libvirt.h>
#include <string.h>

#include "driver/migrate_call.h"
#include "driver/rpc_xdr.h"
#include "util/bytes.h"

static const char uuid[16] = "0123456789abcdef";

static void put_text(GByteArray *out, const char *text)
{
    gsize len = strlen(text);

    bytes_put_u32(out, (guint32)len);
    g_byte_array_append(out, (const guint8 *)text, (guint)len);
    while (len++ % 4)
        bytes_put_u8(out, 0);
}

static void put_opt_text(GByteArray *out, const char *text)
{
    bytes_put_u32(out, text != NULL);
    if (text)
        put_text(out, text);
}

static void put_dom(GByteArray *out, const char *name)
{
    put_text(out, name);
    g_byte_array_append(out, (const guint8 *)uuid, sizeof uuid);
    bytes_put_u32(out, 7);
}

static void put_param_text(GByteArray *out, const char *field, const char *value)
{
    put_text(out, field);
    bytes_put_u32(out, 7);
    put_text(out, value);
}

static RpcFrame *frame_of(gint32 procedure, const GByteArray *payload)
{
    RpcHeader header = { .program = RPC_PROGRAM_REMOTE,
                         .version = 1,
                         .procedure = procedure,
                         .type = RPC_TYPE_CALL,
                         .serial = 42 };

    return rpc_frame_new(&header, payload->data, payload->len);
}

/* PERFORM3_PARAMS as the wire has it: domain, no dconnuri, a bandwidth and a URI, cookie, flags. */
static GByteArray *perform_params(guint32 flags)
{
    GByteArray *out = g_byte_array_new();

    put_dom(out, "vm1");
    put_opt_text(out, NULL);
    bytes_put_u32(out, 2);
    put_text(out, "bandwidth");
    bytes_put_u32(out, 4);
    bytes_put_u64(out, 77);
    put_param_text(out, "migrate_uri", "postcopy:///?peer=b:1");
    put_text(out, "cookie!");
    bytes_put_u32(out, flags);
    return out;
}

static GByteArray *perform_plain(guint64 flags)
{
    GByteArray *out = g_byte_array_new();

    put_dom(out, "vm1");
    put_opt_text(out, "<domain/>");
    put_text(out, "cookie!");
    put_opt_text(out, NULL);
    put_opt_text(out, "postcopy:///?peer=b:1");
    bytes_put_u64(out, flags);
    put_opt_text(out, "vm2");
    bytes_put_u64(out, 0);
    return out;
}

static void perform_changes_alike(gint32 procedure, GByteArray *payload, const char *dname)
{
    g_autoptr(RpcFrame) frame = frame_of(procedure, payload);
    g_autoptr(MigrateCall) call = migrate_call_decode(frame, NULL);
    g_autoptr(MigrateCall) again = NULL;
    g_autoptr(RpcFrame) changed = NULL;

    assert_non_null(call);
    assert_int_equal(migrate_call_phase(call), MIGRATE_PHASE_PERFORM);
    assert_string_equal(migrate_call_domain(call), "vm1");
    assert_string_equal(migrate_call_text(call, MIGRATE_TEXT_URI), "postcopy:///?peer=b:1");
    assert_null(migrate_call_text(call, MIGRATE_TEXT_DCONNURI));
    assert_false(migrate_call_cancelled(call));

    migrate_call_clear_flags(call, VIR_MIGRATE_TLS);
    assert_true(migrate_call_set_text(call, MIGRATE_TEXT_URI, "unix:///run/x"));
    assert_true(migrate_call_set_text(call, MIGRATE_TEXT_DCONNURI, "postcopy:///system"));
    changed = migrate_call_encode(call, frame, NULL);
    assert_non_null(changed);
    assert_int_equal(changed->header.serial, 42);

    again = migrate_call_decode(changed, NULL);
    assert_non_null(again);
    assert_string_equal(migrate_call_text(again, MIGRATE_TEXT_URI), "unix:///run/x");
    assert_string_equal(migrate_call_text(again, MIGRATE_TEXT_DCONNURI), "postcopy:///system");
    assert_true(migrate_call_flags(again) == VIR_MIGRATE_POSTCOPY);
    if (dname)
        assert_string_equal(migrate_call_text(again, MIGRATE_TEXT_DNAME), dname);
    else
        assert_null(migrate_call_text(again, MIGRATE_TEXT_DNAME));
}

static void test_perform_with_params_is_read_and_changed(void **state)
{
    g_autoptr(GByteArray) payload = perform_params(VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_TLS);

    perform_changes_alike(305, payload, NULL);
}

static void test_perform_without_params_is_read_and_changed(void **state)
{
    g_autoptr(GByteArray) payload = perform_plain(VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_TLS);

    perform_changes_alike(216, payload, "vm2");
}

/* PERFORM3_PARAMS with a number in it, of that type. */
static guint64 postcopy_speed_of(const char *field, guint32 type, guint64 value)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();
    g_autoptr(RpcFrame) frame = NULL;
    g_autoptr(MigrateCall) call = NULL;

    put_dom(payload, "vm1");
    put_opt_text(payload, NULL);
    bytes_put_u32(payload, 1);
    put_text(payload, field);
    bytes_put_u32(payload, type);
    if (type == 4)
        bytes_put_u64(payload, value);
    else
        bytes_put_u32(payload, (guint32)value);
    put_text(payload, "cookie!");
    bytes_put_u32(payload, VIR_MIGRATE_POSTCOPY);
    frame = frame_of(305, payload);
    call = migrate_call_decode(frame, NULL);
    assert_non_null(call);
    return migrate_call_postcopy_speed(call);
}

static void test_limit_of_postcopy_is_read(void **state)
{
    g_autoptr(GByteArray) payload = perform_plain(VIR_MIGRATE_POSTCOPY);
    g_autoptr(RpcFrame) frame = frame_of(216, payload);
    g_autoptr(MigrateCall) plain = migrate_call_decode(frame, NULL);

    assert_true(postcopy_speed_of("bandwidth.postcopy", 4, 77) == 77);
    assert_true(postcopy_speed_of("bandwidth", 4, 77) == 0);
    assert_true(postcopy_speed_of("bandwidth.postcopy", 2, 77) == 0); /* libvirtd will refuse it */
    assert_true(migrate_call_postcopy_speed(plain) == 0);
}

static void test_params_are_seen_and_taken_out_one_by_one(void **state)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(RpcFrame) frame = NULL;
    g_autoptr(MigrateCall) call = NULL;
    g_autofree MigrateParam *params = NULL;
    g_autofree MigrateParam *left = NULL;
    gsize n;

    put_dom(out, "vm1");
    bytes_put_u32(out, 5);
    put_param_text(out, "compression", "zlib");
    put_text(out, "compression.zlib.level");
    bytes_put_u32(out, 1);
    bytes_put_u32(out, (guint32)-3);
    put_text(out, "bandwidth");
    bytes_put_u32(out, 4);
    bytes_put_u64(out, G_MAXUINT64);
    put_text(out, "half");
    bytes_put_u32(out, 6);
    bytes_put_u32(out, 1);
    put_param_text(out, "compression", "xbzrle");
    bytes_put_u32(out, VIR_MIGRATE_POSTCOPY);
    frame = frame_of(302, out);
    call = migrate_call_decode(frame, NULL);
    assert_non_null(call);
    params = migrate_call_params(call, &n);
    assert_int_equal(n, 5);
    assert_int_equal(params[0].type, MIGRATE_PARAM_TEXT);
    assert_string_equal(params[0].text, "zlib");
    assert_true(params[1].type == MIGRATE_PARAM_NUMBER && params[1].number == -3);
    assert_true(params[2].type == MIGRATE_PARAM_NUMBER && params[2].number == G_MAXINT64);
    assert_int_equal(params[3].type, MIGRATE_PARAM_OTHER);
    migrate_call_remove_param(call, 4);
    migrate_call_remove_param(call, 1);
    migrate_call_remove_param(call, 0);
    left = migrate_call_params(call, &n);
    assert_int_equal(n, 2);
    assert_string_equal(left[0].name, "bandwidth");
    assert_string_equal(left[1].name, "half");
}

static void test_a_call_without_params_has_none_to_see(void **state)
{
    g_autoptr(GByteArray) payload = perform_plain(VIR_MIGRATE_POSTCOPY);
    g_autoptr(RpcFrame) frame = frame_of(216, payload);
    g_autoptr(MigrateCall) call = migrate_call_decode(frame, NULL);
    g_autofree MigrateParam *params = NULL;
    gsize n;

    params = migrate_call_params(call, &n);
    assert_int_equal(n, 0);
}

/* ---- a recovery's Perform ---- */

#define RECOVERY_FLAGS \
    (VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_CHANGE_PROTECTION | \
     VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_POSTCOPY_RESUME)

/* The call that recovers what this one has begun, decoded. */
static void recovery_of(gint32 procedure, const GByteArray *payload, remote_perform3_params *ret)
{
    g_autoptr(RpcFrame) frame = frame_of(procedure, payload);
    g_autoptr(MigrateCall) call = migrate_call_decode(frame, NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) args = NULL;
    gsize len;

    assert_non_null(call);
    args = migrate_call_recovery(call, &error);
    assert_non_null(args);
    assert_true(rpc_xdr_decode(g_bytes_get_data(args, &len), g_bytes_get_size(args),
                               (xdrproc_t)xdr_remote_perform3_params, ret, sizeof *ret, "", NULL));
    assert_string_equal(ret->dom.name, "vm1");
    assert_memory_equal(ret->dom.uuid, uuid, sizeof uuid);
    assert_int_equal(ret->dom.id, 7);
    assert_null(ret->dconnuri);
    assert_int_equal(ret->cookie_in.remote_cookie_len, 0);
}

static const remote_param *param_of(const remote_perform3_params *args, const char *field)
{
    for (u_int i = 0; i < args->params.remote_params_len; i++) {
        if (g_str_equal(args->params.remote_params_val[i].field, field))
            return &args->params.remote_params_val[i];
    }
    return NULL;
}

static void test_recovery_keeps_the_params_and_drops_what_was_that_calls_own(void **state)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    RPC_XDR_AUTO(remote_perform3_params, args) = { 0 };

    put_dom(out, "vm1");
    put_opt_text(out, "postcopy://b/system");
    bytes_put_u32(out, 7);
    put_text(out, "bandwidth");
    bytes_put_u32(out, 4);
    bytes_put_u64(out, 77);
    put_param_text(out, "migrate_uri", "postcopy:///?peer=b:1&token=secret");
    put_param_text(out, "destination_name", "vm2");
    put_param_text(out, "listen_address", "::");
    put_param_text(out, "destination_xml", "<domain/>");
    put_param_text(out, "tls.destination", "b.test");
    put_param_text(out, "persistent_xml", "<domain id='p'/>");
    put_text(out, "cookie!");
    bytes_put_u32(out, VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_TLS | VIR_MIGRATE_ABORT_ON_ERROR |
                           VIR_MIGRATE_UNDEFINE_SOURCE);
    recovery_of(305, out, &args);
    assert_int_equal(args.flags, RECOVERY_FLAGS | VIR_MIGRATE_UNDEFINE_SOURCE);
    assert_int_equal(args.params.remote_params_len, 4);
    assert_true(param_of(&args, "bandwidth")->value.remote_param_value_u.ul == 77);
    assert_string_equal(param_of(&args, "destination_name")->value.remote_param_value_u.s, "vm2");
    assert_string_equal(param_of(&args, "destination_xml")->value.remote_param_value_u.s,
                        "<domain/>");
    assert_string_equal(param_of(&args, "persistent_xml")->value.remote_param_value_u.s,
                        "<domain id='p'/>");
}

static void put_param_int(GByteArray *out, const char *field, gint32 value)
{
    put_text(out, field);
    bytes_put_u32(out, 1);
    bytes_put_u32(out, (guint32)value);
}

static GByteArray *perform_with_disks(const char *uri, gboolean port, guint32 flags)
{
    GByteArray *out = g_byte_array_new();

    put_dom(out, "vm1");
    put_opt_text(out, NULL);
    bytes_put_u32(out, 3 + (uri != NULL) + (port != FALSE));
    put_param_text(out, "migrate_disks", "vda");
    put_param_text(out, "migrate_disks", "vdb");
    put_param_text(out, "destination_name", "vm2");
    if (uri)
        put_param_text(out, "disks_uri", uri);
    if (port)
        put_param_int(out, "disks_port", 49170);
    put_text(out, "cookie!");
    bytes_put_u32(out, flags | VIR_MIGRATE_POSTCOPY);
    return out;
}

static void test_recovery_copies_no_disks(void **state)
{
    g_autoptr(GByteArray) payload =
        perform_with_disks("unix:///run/x", TRUE, VIR_MIGRATE_NON_SHARED_INC);
    RPC_XDR_AUTO(remote_perform3_params, args) = { 0 };

    recovery_of(305, payload, &args);
    assert_int_equal(args.flags, RECOVERY_FLAGS);
    assert_int_equal(args.params.remote_params_len, 1);
    assert_string_equal(param_of(&args, "destination_name")->value.remote_param_value_u.s, "vm2");
}

static MigrateCall *call_of(gint32 procedure, GByteArray *payload)
{
    g_autoptr(RpcFrame) frame = frame_of(procedure, payload);
    MigrateCall *call = migrate_call_decode(frame, NULL);

    assert_non_null(call);
    return call;
}

static void test_disks_to_be_copied_are_seen(void **state)
{
    g_autoptr(GByteArray) none = perform_params(VIR_MIGRATE_POSTCOPY);
    g_autoptr(GByteArray) old = perform_plain(VIR_MIGRATE_NON_SHARED_INC);
    g_autoptr(GByteArray) list = perform_with_disks(NULL, TRUE, 0);
    g_autoptr(GByteArray) way = perform_with_disks("tcp://b:1", FALSE, VIR_MIGRATE_NON_SHARED_DISK);
    g_autoptr(MigrateCall) of_none = call_of(305, none);
    g_autoptr(MigrateCall) of_old = call_of(216, old);
    g_autoptr(MigrateCall) of_list = call_of(305, list);
    g_autoptr(MigrateCall) of_way = call_of(305, way);

    assert_false(migrate_call_copies_disks(of_none));
    assert_true(migrate_call_copies_disks(of_old));
    assert_false(migrate_call_has_params(of_old));
    assert_false(migrate_call_set_text(of_old, MIGRATE_TEXT_DISKS_URI, "unix:///run/x"));
    assert_true(migrate_call_copies_disks(of_list));
    assert_true(migrate_call_has_disks_port(of_list));
    assert_null(migrate_call_text(of_list, MIGRATE_TEXT_DISKS_URI));
    assert_true(migrate_call_copies_disks(of_way));
    assert_false(migrate_call_has_disks_port(of_way));
    assert_int_equal(migrate_call_room(of_old), 0);
    assert_int_equal(migrate_call_room(of_way), 64 - 4);
    assert_true(migrate_call_set_text(of_way, MIGRATE_TEXT_URI, "unix:///run/x"));
    assert_int_equal(migrate_call_room(of_way), 64 - 5);
    assert_string_equal(migrate_call_text(of_way, MIGRATE_TEXT_DISKS_URI), "tcp://b:1");
}

static void test_disks_are_forgotten_and_nothing_else(void **state)
{
    g_autoptr(GByteArray) payload = perform_with_disks(
        "tcp://b:1", TRUE,
        VIR_MIGRATE_NON_SHARED_DISK | VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES | VIR_MIGRATE_LIVE);
    g_autoptr(GByteArray) old = perform_plain(VIR_MIGRATE_NON_SHARED_INC | VIR_MIGRATE_LIVE);
    g_autoptr(MigrateCall) call = call_of(305, payload);
    g_autoptr(MigrateCall) plain = call_of(216, old);

    migrate_call_forget_disks(call);
    assert_false(migrate_call_copies_disks(call));
    assert_false(migrate_call_has_disks_port(call));
    assert_null(migrate_call_text(call, MIGRATE_TEXT_DISKS_URI));
    assert_true(migrate_call_flags(call) == (VIR_MIGRATE_LIVE | VIR_MIGRATE_POSTCOPY));
    assert_string_equal(migrate_call_text(call, MIGRATE_TEXT_DNAME), "vm2");
    migrate_call_forget_disks(plain);
    assert_true(migrate_call_flags(plain) == VIR_MIGRATE_LIVE);
}

static void test_recovery_of_a_call_without_params_has_its_values_as_params(void **state)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    RPC_XDR_AUTO(remote_perform3_params, args) = { 0 };

    put_dom(out, "vm1");
    put_opt_text(out, "<domain/>");
    put_text(out, "cookie!");
    put_opt_text(out, "postcopy://b/system");
    put_opt_text(out, "postcopy:///?peer=b:1&token=secret");
    bytes_put_u64(out, VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_PERSIST_DEST);
    put_opt_text(out, "vm2");
    bytes_put_u64(out, 77);
    recovery_of(216, out, &args);
    assert_int_equal(args.flags, RECOVERY_FLAGS | VIR_MIGRATE_PERSIST_DEST);
    assert_int_equal(args.params.remote_params_len, 3);
    assert_int_equal(param_of(&args, "bandwidth")->value.type, REMOTE_PARAM_ULLONG);
    assert_true(param_of(&args, "bandwidth")->value.remote_param_value_u.ul == 77);
    assert_string_equal(param_of(&args, "destination_name")->value.remote_param_value_u.s, "vm2");
    assert_string_equal(param_of(&args, "destination_xml")->value.remote_param_value_u.s,
                        "<domain/>");
}

static void test_recovery_of_a_call_without_values_has_no_params(void **state)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    RPC_XDR_AUTO(remote_perform3_params, args) = { 0 };

    put_dom(out, "vm1");
    put_opt_text(out, NULL);
    put_text(out, "");
    put_opt_text(out, NULL);
    put_opt_text(out, "postcopy:///?peer=b:1");
    bytes_put_u64(out, VIR_MIGRATE_POSTCOPY);
    put_opt_text(out, NULL);
    bytes_put_u64(out, 0);
    recovery_of(216, out, &args);
    assert_int_equal(args.flags, RECOVERY_FLAGS);
    assert_int_equal(args.params.remote_params_len, 0);
}

static void test_call_is_made_again_from_its_header(void **state)
{
    g_autoptr(GByteArray) payload = perform_params(1);
    g_autoptr(RpcFrame) frame = frame_of(305, payload);
    g_autoptr(MigrateCall) call = migrate_call_decode(frame, NULL);
    g_autoptr(RpcFrame) again = migrate_call_encode_again(call, &frame->header, NULL);

    assert_int_equal(again->wire->len, frame->wire->len);
    assert_memory_equal(again->wire->data, frame->wire->data, frame->wire->len);
}

static void test_unchanged_call_encodes_to_the_same_bytes(void **state)
{
    g_autoptr(GByteArray) params = perform_params(1);
    g_autoptr(GByteArray) plain = perform_plain(1);
    const struct {
        gint32 procedure;
        GByteArray *payload;
    } rows[] = { { 305, params }, { 216, plain } };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(RpcFrame) frame = frame_of(rows[i].procedure, rows[i].payload);
        g_autoptr(MigrateCall) call = migrate_call_decode(frame, NULL);
        g_autoptr(RpcFrame) same = migrate_call_encode(call, frame, NULL);

        assert_int_equal(same->wire->len, frame->wire->len);
        assert_memory_equal(same->wire->data, frame->wire->data, frame->wire->len);
    }
}

static void test_every_param_of_a_name_is_removed(void **state)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(RpcFrame) frame = NULL;
    g_autoptr(RpcFrame) stripped = NULL;
    g_autoptr(MigrateCall) call = NULL;

    bytes_put_u32(out, 3);
    put_param_text(out, "tls.destination", "b");
    put_param_text(out, "destination_name", "vm9");
    put_text(out, "tls.destination"); /* a second one, of another type */
    bytes_put_u32(out, 1);
    bytes_put_u32(out, 5);
    put_text(out, "");
    bytes_put_u32(out, 0);
    bytes_put_u32(out, 1); /* cancelled */
    frame = frame_of(306, out);
    call = migrate_call_decode(frame, NULL);
    assert_non_null(call);
    assert_true(migrate_call_cancelled(call));
    migrate_call_clear_cancelled(call);
    assert_false(migrate_call_cancelled(call));
    assert_string_equal(migrate_call_domain(call), "vm9");
    assert_true(migrate_call_set_text(call, MIGRATE_TEXT_TLS_DESTINATION, NULL));
    stripped = migrate_call_encode(call, frame, NULL);
    assert_null(memmem(stripped->wire->data, stripped->wire->len, "tls.dest", 8));
    assert_non_null(memmem(stripped->wire->data, stripped->wire->len, "vm9", 3));
}

static void test_every_truncation_is_refused(void **state)
{
    g_autoptr(GByteArray) params = perform_params(1);
    g_autoptr(GByteArray) plain = perform_plain(1);
    const struct {
        gint32 procedure;
        const GByteArray *payload;
    } rows[] = { { 305, params }, { 216, plain } };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        for (guint len = 0; len < rows[i].payload->len; len++) {
            GByteArray part = { rows[i].payload->data, len };
            g_autoptr(RpcFrame) frame = frame_of(rows[i].procedure, &part);
            g_autoptr(GError) error = NULL;
            g_autoptr(MigrateCall) call = migrate_call_decode(frame, &error);

            assert_null(call);
            assert_true(g_error_matches(error, RPC_XDR_ERROR, RPC_XDR_ERROR_DECODE));
        }
    }
}

static void test_trailing_bytes_are_refused(void **state)
{
    g_autoptr(GByteArray) payload = perform_params(1);
    g_autoptr(RpcFrame) frame = NULL;
    g_autoptr(GError) error = NULL;

    bytes_put_u32(payload, 0);
    frame = frame_of(305, payload);
    assert_null(migrate_call_decode(frame, &error));
    assert_non_null(strstr(error->message, "4 bytes too many"));
}

/* Each row: the start of a BEGIN3_PARAMS that promises more than the protocol allows. */
static void test_limits_of_the_protocol_hold(void **state)
{
    const struct {
        const char *what;
        guint32 name_len, n_params, param_type;
    } rows[] = {
        { "name over 4 MiB", 4194305, 0, 0 },
        { "name of 4 GiB", 0xffffffff, 0, 0 },
        { "65 params", 3, 65, 7 },
        { "4 G params", 3, 0xffffffff, 7 },
        { "unknown type of param", 3, 1, 8 },
        { "type of param 0", 3, 1, 0 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        g_autoptr(RpcFrame) frame = NULL;
        g_autoptr(GError) error = NULL;

        bytes_put_u32(out, rows[i].name_len);
        g_byte_array_append(out, (const guint8 *)"vm1", 4);
        g_byte_array_append(out, (const guint8 *)uuid, sizeof uuid);
        bytes_put_u32(out, 7);
        bytes_put_u32(out, rows[i].n_params);
        put_text(out, "x");
        bytes_put_u32(out, rows[i].param_type);
        put_text(out, "y");
        bytes_put_u32(out, 0);
        frame = frame_of(302, out);
        if (migrate_call_decode(frame, &error))
            fail_msg("accepted: %s", rows[i].what);
        assert_non_null(strstr(error->message, "DOMAIN_MIGRATE_BEGIN3_PARAMS"));
    }
}

static void test_the_domain_of_a_call_can_be_asked_for(void **state)
{
    g_autoptr(GByteArray) payload = perform_params(VIR_MIGRATE_POSTCOPY);
    g_autoptr(RpcFrame) frame = frame_of(305, payload);
    g_autoptr(MigrateCall) call = migrate_call_decode(frame, NULL);
    g_autoptr(GByteArray) wanted = g_byte_array_new();
    g_autoptr(GByteArray) args = migrate_call_domain_args(call, 5, NULL);

    put_dom(wanted, "vm1");
    bytes_put_u32(wanted, 5);
    assert_int_equal(args->len, wanted->len);
    assert_memory_equal(args->data, wanted->data, wanted->len);
}

static void test_known_procedures(void **state)
{
    static const gint32 known[] = { 213, 214, 216, 217, 218, 302, 303, 305, 306, 307 };
    guint n = 0;

    for (gint32 procedure = -1; procedure < 500; procedure++)
        n += migrate_call_knows(procedure);
    assert_int_equal(n, G_N_ELEMENTS(known));
    for (gsize i = 0; i < G_N_ELEMENTS(known); i++)
        assert_true(migrate_call_knows(known[i]));
    assert_true(migrate_call_is_phase(214, MIGRATE_PHASE_PREPARE));
    assert_true(migrate_call_is_phase(303, MIGRATE_PHASE_PREPARE));
    assert_false(migrate_call_is_phase(305, MIGRATE_PHASE_PREPARE));
    assert_false(migrate_call_is_phase(1, MIGRATE_PHASE_PREPARE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_perform_with_params_is_read_and_changed),
        cmocka_unit_test(test_perform_without_params_is_read_and_changed),
        cmocka_unit_test(test_limit_of_postcopy_is_read),
        cmocka_unit_test(test_params_are_seen_and_taken_out_one_by_one),
        cmocka_unit_test(test_a_call_without_params_has_none_to_see),
        cmocka_unit_test(test_recovery_keeps_the_params_and_drops_what_was_that_calls_own),
        cmocka_unit_test(test_recovery_of_a_call_without_params_has_its_values_as_params),
        cmocka_unit_test(test_recovery_copies_no_disks),
        cmocka_unit_test(test_disks_to_be_copied_are_seen),
        cmocka_unit_test(test_disks_are_forgotten_and_nothing_else),
        cmocka_unit_test(test_recovery_of_a_call_without_values_has_no_params),
        cmocka_unit_test(test_call_is_made_again_from_its_header),
        cmocka_unit_test(test_unchanged_call_encodes_to_the_same_bytes),
        cmocka_unit_test(test_every_param_of_a_name_is_removed),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_trailing_bytes_are_refused),
        cmocka_unit_test(test_limits_of_the_protocol_hold),
        cmocka_unit_test(test_the_domain_of_a_call_can_be_asked_for),
        cmocka_unit_test(test_known_procedures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
