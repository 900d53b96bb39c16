/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who QEMU runs as, read from host capabilities and domain XML. */
#include "config.h"

#include "xml/capabilities.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define HOST(inner) "<capabilities><host>" inner "</host><guest/></capabilities>"
#define DAC(inner) "<secmodel><model>dac</model><doi>0</doi>" inner "</secmodel>"
#define BASE(type, label) "<baselabel type='" type "'>" label "</baselabel>"
#define DOMAIN(inner) "<domain type='kvm'><name>vm1</name>" inner "</domain>"
#define STATIC(label) \
    "<seclabel type='static' model='dac' relabel='yes'><label>" label "</label></seclabel>"

static void the_dac_label_for_kvm_comes_first(void **state)
{
    static const struct {
        const char *xml;
        uid_t uid;
        gid_t gid;
    } rows[] = {
        { HOST(DAC(BASE("kvm", "+64055:+64056") BASE("qemu", "+1:+1"))), 64055, 64056 },
        { HOST(DAC(BASE("qemu", "+1:+1") BASE("kvm", "+64055:+64056"))), 64055, 64056 },
        { HOST(DAC(BASE("qemu", "+107:+108"))), 107, 108 },
        { HOST("<secmodel><model>apparmor</model><doi>0</doi>" BASE("kvm", "x") "</secmodel>" DAC(
              BASE("kvm", "+64055:+64056"))),
          64055, 64056 },
        { HOST(DAC(BASE("kvm", "\n  root:root\n"))), 0, 0 },
        { HOST(DAC(BASE("kvm", "root:+0"))), 0, 0 },
        { HOST(DAC(BASE("kvm", "4294967294:+4294967294"))), 4294967294u, 4294967294u },
        { "<?xml version='1.0'?><!-- c -->" HOST("<uuid>x</uuid>" DAC(BASE("kvm", "+0:+0"))), 0,
          0 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        QemuOwner owner = { 7, 7 };
        g_autoptr(GError) error = NULL;

        if (!capabilities_qemu_owner(rows[i].xml, &owner, &error))
            fail_msg("%s: %s", rows[i].xml, error->message);
        assert_int_equal(owner.uid, rows[i].uid);
        assert_int_equal(owner.gid, rows[i].gid);
    }
}

static const struct {
    const char *xml;
    XmlError code;
    const char *what;
} bad_capabilities[] = {
    { "", XML_ERROR_SYNTAX, "capabilities XML" },
    { "   ", XML_ERROR_SYNTAX, "capabilities XML" },
    { "not xml", XML_ERROR_SYNTAX, "line 1" },
    { "<capabilities>\n<host>\n</capabilities>", XML_ERROR_SYNTAX, "line 3" },
    { "<capabilities/><more/>", XML_ERROR_SYNTAX, "capabilities XML" },
    { "<domain/>", XML_ERROR_SYNTAX, "<domain>, not <capabilities>" },
    { "<capabilities>\xff</capabilities>", XML_ERROR_SYNTAX, "capabilities XML" },
    { "<!DOCTYPE capabilities><capabilities/>", XML_ERROR_SYNTAX, "document type" },
    { "<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><capabilities>&b;</capabilities>",
      XML_ERROR_SYNTAX, "document type" },
    { "<!DOCTYPE x SYSTEM 'file:///etc/passwd'><capabilities/>", XML_ERROR_SYNTAX,
      "document type" },
    { "<capabilities>&undefined;</capabilities>", XML_ERROR_SYNTAX, "capabilities XML" },
    { "<capabilities/>", XML_ERROR_MISSING, "\"dac\"" },
    { HOST(""), XML_ERROR_MISSING, "\"dac\"" },
    { HOST("<secmodel/>"), XML_ERROR_MISSING, "\"dac\"" },
    { HOST("<secmodel><model>selinux</model>" BASE("kvm", "+0:+0") "</secmodel>"),
      XML_ERROR_MISSING, "\"dac\"" },
    { "<capabilities>" DAC(BASE("kvm", "+0:+0")) "</capabilities>", XML_ERROR_MISSING, "\"dac\"" },
    { HOST(DAC("")), XML_ERROR_MISSING, "base label" },
    { HOST(DAC(BASE("lxc", "+0:+0"))), XML_ERROR_MISSING, "base label" },
    { HOST(DAC("<baselabel>+0:+0</baselabel>")), XML_ERROR_MISSING, "base label" },
    { HOST(DAC(BASE("kvm", ""))), XML_ERROR_VALUE, "USER:GROUP" },
    { HOST(DAC(BASE("kvm", "root"))), XML_ERROR_VALUE, "USER:GROUP" },
    { HOST(DAC(BASE("kvm", "root:root:root"))), XML_ERROR_VALUE, "USER:GROUP" },
    { HOST(DAC(BASE("kvm", ":root"))), XML_ERROR_VALUE, "no such user" },
    { HOST(DAC(BASE("kvm", "root:"))), XML_ERROR_VALUE, "no such group" },
    { HOST(DAC(BASE("kvm", "+:+0"))), XML_ERROR_VALUE, "no such user" },
    { HOST(DAC(BASE("kvm", "+-1:+0"))), XML_ERROR_VALUE, "no such user" },
    { HOST(DAC(BASE("kvm", "+4294967295:+0"))), XML_ERROR_VALUE, "no such user" },
    { HOST(DAC(BASE("kvm", "+0:+18446744073709551616"))), XML_ERROR_VALUE, "no such group" },
    { HOST(DAC(BASE("kvm", "no such user:root"))), XML_ERROR_VALUE, "no such user" },
};

static void bad_capabilities_are_refused_by_name_and_change_nothing(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_capabilities); i++) {
        QemuOwner owner = { 7, 7 };
        g_autoptr(GError) error = NULL;

        if (capabilities_qemu_owner(bad_capabilities[i].xml, &owner, &error))
            fail_msg("accepted: %s", bad_capabilities[i].xml);
        assert_int_equal(owner.uid, 7);
        assert_int_equal(owner.gid, 7);
        if (!g_error_matches(error, XML_ERROR, (gint)bad_capabilities[i].code) ||
            !strstr(error->message, bad_capabilities[i].what))
            fail_msg("%s: unexpected error %d: %s", bad_capabilities[i].xml, error->code,
                     error->message);
    }
}

static void every_truncation_is_refused(void **state)
{
    static const char whole[] = HOST(DAC(BASE("kvm", "+64055:+64056")));

    for (gsize len = 0; len < strlen(whole); len++) {
        g_autofree char *cut = g_strndup(whole, len);
        QemuOwner owner;

        assert_false(capabilities_qemu_owner(cut, &owner, NULL));
    }
}

static void oversized_documents_are_refused(void **state)
{
    g_autofree char *filler = g_strnfill(8 * 1024 * 1024, ' ');
    g_autofree char *text = g_strconcat(HOST(DAC(BASE("kvm", "+0:+0"))), filler, NULL);
    QemuOwner owner;
    g_autoptr(GError) error = NULL;

    assert_false(capabilities_qemu_owner(text, &owner, &error));
    assert_non_null(strstr(error->message, "longer than 8388608 bytes"));
}

static void deep_nesting_is_refused(void **state)
{
    g_autoptr(GString) text = g_string_new("<capabilities>");
    QemuOwner owner;
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < 100000; i++)
        g_string_append(text, "<a>");
    assert_false(capabilities_qemu_owner(text->str, &owner, &error));
    assert_true(g_error_matches(error, XML_ERROR, XML_ERROR_SYNTAX));
}

static void only_a_static_dac_label_makes_a_domain_its_own_owner(void **state)
{
    static const struct {
        const char *xml;
        gboolean found;
        uid_t uid;
    } rows[] = {
        { DOMAIN(""), FALSE, 7 },
        { DOMAIN(STATIC("+99:+99")), TRUE, 99 },
        { DOMAIN("<seclabel type='static' model='dac' relabel='no'><label>+98:+98</label>"
                 "</seclabel>"),
          TRUE, 98 },
        { DOMAIN("<seclabel type='static' model='apparmor'><label>x</label></seclabel>" STATIC(
              "root:root")),
          TRUE, 0 },
        { DOMAIN("<seclabel type='dynamic' model='dac' relabel='yes'><label>+99:+99</label>"
                 "<imagelabel>+99:+99</imagelabel></seclabel>"),
          FALSE, 7 },
        { DOMAIN("<seclabel type='none' model='dac'/>"), FALSE, 7 },
        { DOMAIN("<seclabel type='none'/>"), FALSE, 7 },
        { DOMAIN("<seclabel type='static' model='dac'/>"), FALSE, 7 },
        { DOMAIN("<devices><disk><source>" STATIC("+99:+99") "</source></disk></devices>"), FALSE,
          7 },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        QemuOwner owner = { 7, 7 };
        gboolean found = 42;
        g_autoptr(GError) error = NULL;

        if (!domain_xml_qemu_owner(rows[i].xml, &found, &owner, &error))
            fail_msg("%s: %s", rows[i].xml, error->message);
        assert_int_equal(found, rows[i].found);
        assert_int_equal(owner.uid, rows[i].uid);
    }
}

static void a_bad_static_label_is_an_error(void **state)
{
    QemuOwner owner = { 7, 7 };
    gboolean found = 42;
    g_autoptr(GError) error = NULL;

    assert_false(
        domain_xml_qemu_owner(DOMAIN(STATIC("no such user:root")), &found, &owner, &error));
    assert_true(g_error_matches(error, XML_ERROR, XML_ERROR_VALUE));
    assert_int_equal(found, 42);
    assert_int_equal(owner.uid, 7);
}

static void the_name_of_a_domain_is_found(void **state)
{
    static const struct {
        const char *xml;
        const char *name;
        XmlError code;
    } rows[] = {
        { DOMAIN(""), "vm1" },
        { "<domain><metadata><name>no</name></metadata><name> a &amp; b </name></domain>",
          "a & b" },
        { "<domain/>", NULL, XML_ERROR_MISSING },
        { "<domain><name/></domain>", NULL, XML_ERROR_MISSING },
        { "<domain><name> </name></domain>", NULL, XML_ERROR_MISSING },
        { "<domain><metadata><name>no</name></metadata></domain>", NULL, XML_ERROR_MISSING },
        { "<capabilities/>", NULL, XML_ERROR_SYNTAX },
        { "<domain><name>vm1</name>", NULL, XML_ERROR_SYNTAX },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *name = domain_xml_name(rows[i].xml, &error);

        if (rows[i].name) {
            assert_non_null(name);
            assert_string_equal(name, rows[i].name);
        } else {
            assert_null(name);
            assert_true(g_error_matches(error, XML_ERROR, (gint)rows[i].code));
        }
    }
}

static void test_cells_need_not_follow_each_other(void **state)
{
    g_autoptr(GArray) cells = capabilities_cells(
        "<capabilities><host><topology><cells num='4'><cell id='0'/><cell id='8'/><cell id='x'/>"
        "<cell/><cell id='252'/></cells></topology></host></capabilities>",
        NULL);
    g_autoptr(GArray) none = capabilities_cells("<capabilities><host/></capabilities>", NULL);

    assert_int_equal(cells->len, 3);
    assert_int_equal(g_array_index(cells, int, 0), 0);
    assert_int_equal(g_array_index(cells, int, 1), 8);
    assert_int_equal(g_array_index(cells, int, 2), 252);
    assert_int_equal(none->len, 0);
    assert_null(capabilities_cells("<domain/>", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cells_need_not_follow_each_other),
        cmocka_unit_test(the_dac_label_for_kvm_comes_first),
        cmocka_unit_test(bad_capabilities_are_refused_by_name_and_change_nothing),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(oversized_documents_are_refused),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(only_a_static_dac_label_makes_a_domain_its_own_owner),
        cmocka_unit_test(a_bad_static_label_is_an_error),
        cmocka_unit_test(the_name_of_a_domain_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
