/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A client's identity: what the kernel knows of it, and the payload that tells upstream. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <unistd.h>

#include "driver/identity.h"
#include "tests/support/rpc-end.h"
#include "util/bytes.h"

static void test_start_time_is_field_22(void **state)
{
    static const struct {
        const char *line;
        guint64 time;
    } rows[] = {
        { "7 (virsh) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 91122 1 1 1", 91122 },
        { "7 (a) b) S 1 (c) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 3 1 1", 3 },
        { "7 (virsh) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 18446744073709551615 1",
          G_MAXUINT64 },
        { "7 (virsh) S 1 7", 0 },
        { "7 (virsh)", 0 },
        { "7 virsh S", 0 },
        { "", 0 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        assert_true(identity_parse_start_time(rows[i].line) == rows[i].time);
}

static void test_kernel_tells_who_is_at_the_other_end(void **state)
{
    g_auto(ProxyPeer) peer = { 0 };
    int fds[2];

    rpc_test_pair(fds);
    identity_take(fds[0], &peer);
    assert_true(peer.has_creds);
    assert_int_equal(peer.pid, getpid());
    assert_int_equal(peer.uid, getuid());
    assert_int_equal(peer.gid, getgid());
    assert_true(peer.start_time > 0);
    identity_find_names(&peer);
    if (getuid() == 0)
        assert_string_equal(peer.user_name, "root");
    close(fds[0]);
    close(fds[1]);
}

static void test_unknown_ids_have_no_names(void **state)
{
    g_auto(ProxyPeer) peer = { .has_creds = TRUE, .uid = 3999999999u, .gid = 3999999999u };

    identity_find_names(&peer);
    assert_null(peer.user_name);
    assert_null(peer.group_name);
}

/* "name=value name=value", as a reader of libvirt's would see the payload. */
static char *decode(const ProxyPeer *peer)
{
    g_autoptr(GByteArray) payload = identity_encode(peer);
    ByteReader r = byte_reader(payload->data, payload->len);
    GString *out = g_string_new(NULL);
    guint32 n, len, type, flags;
    const guint8 *text;
    guint64 number;

    assert_true(byte_reader_take_u32(&r, "count", &n, NULL));
    for (guint32 i = 0; i < n; i++) {
        assert_true(byte_reader_take_u32(&r, "length", &len, NULL));
        assert_true(byte_reader_take(&r, "field", (len + 3) & ~3u, &text, NULL));
        g_string_append_printf(out, "%s%.*s", i > 0 ? " " : "", (int)len, (const char *)text);
        assert_true(byte_reader_take_u32(&r, "type", &type, NULL));
        if (type == 7) {
            assert_true(byte_reader_take_u32(&r, "length", &len, NULL));
            assert_true(byte_reader_take(&r, "value", (len + 3) & ~3u, &text, NULL));
            g_string_append_printf(out, "=%.*s", (int)len, (const char *)text);
        } else {
            assert_true(byte_reader_take_u64(&r, "value", &number, NULL));
            g_string_append_printf(out, "=%s%" G_GUINT64_FORMAT, type == 3 ? "l" : "u", number);
        }
    }
    assert_true(byte_reader_take_u32(&r, "flags", &flags, NULL));
    assert_int_equal(flags, 0);
    assert_true(byte_reader_end(&r, "identity", NULL));
    return g_string_free(out, FALSE);
}

static void test_payload_has_what_is_known(void **state)
{
    static const struct {
        ProxyPeer peer;
        const char *text;
    } rows[] = {
        { { .kind = PROXY_CLIENT_UNIX,
            .has_creds = TRUE,
            .pid = 4711,
            .uid = 1000,
            .gid = 100,
            .user_name = (char *)"alice",
            .group_name = (char *)"users",
            .start_time = 9,
            .selinux_context = (char *)"staff_u:staff_r:staff_t:s0" },
          "user-name=alice unix-user-id=u1000 group-name=users unix-group-id=u100 "
          "process-id=l4711 process-time=u9 selinux-context=staff_u:staff_r:staff_t:s0" },
        { { .kind = PROXY_CLIENT_UNIX, .has_creds = TRUE, .pid = 1, .uid = 2, .gid = 3 },
          "unix-user-id=u2 unix-group-id=u3 process-id=l1" },
        { { .kind = PROXY_CLIENT_UNIX, .has_creds = TRUE, .pid = 0, .uid = 2, .gid = 3 },
          "unix-user-id=u2 unix-group-id=u3" },
        { { .kind = PROXY_CLIENT_TLS, .address = (char *)"1.2.3.4:5",
            .dn = (char *)"CN=admin,O=x" },
          "x509-distinguished-name=CN=admin,O=x" },
        { { .kind = PROXY_CLIENT_TCP, .address = (char *)"1.2.3.4:5" }, "" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = decode(&rows[i].peer);

        assert_string_equal(text, rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start_time_is_field_22),
        cmocka_unit_test(test_kernel_tells_who_is_at_the_other_end),
        cmocka_unit_test(test_unknown_ids_have_no_names),
        cmocka_unit_test(test_payload_has_what_is_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
