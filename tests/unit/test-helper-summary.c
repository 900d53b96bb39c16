/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a migration's summary line says of a helper's counters. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "driver/helper_summary.h"

static const struct {
    const char *statistics; /* GVariant text */
    const char *line;
} rows[] = {
    { "@a{sv} {}", " compression=1.00" },
    { "{'frames-sent': <uint64 7>, 'elapsed-us': <uint64 18446744073709551615>}",
      " frames-sent=7 elapsed-us=18446744073709551615 compression=1.00" },
    /* what is no counter is left out */
    { "{'request-latency-us': <[uint64 1, 2]>, 'requests': <uint64 3>, 'x': <'text'>}",
      " requests=3 compression=1.00" },
    { "{'requests': <uint64 3>, 'compression-method': <'zlib'>}",
      " requests=3 compression-method=zlib compression=1.00" },
    { "{'plain-bytes': <uint64 300>, 'encoded-bytes': <uint64 100>}",
      " plain-bytes=300 encoded-bytes=100 compression=3.00" },
    { "{'plain-bytes': <uint64 200>, 'encoded-bytes': <uint64 300>}",
      " plain-bytes=200 encoded-bytes=300 compression=0.67" },
    { "{'plain-bytes': <uint64 18446744073709551615>, "
      "'encoded-bytes': <uint64 9223372036854775808>}",
      " plain-bytes=18446744073709551615 encoded-bytes=9223372036854775808 compression=2.00" },
    { "{'plain-bytes': <uint64 5>, 'encoded-bytes': <uint64 0>}",
      " plain-bytes=5 encoded-bytes=0 compression=1.00" },
    { "{'waits': <[(uint32 7, uint64 90), (8, 20)]>, 'none': <@a(ut) []>}",
      " waits=7:90,8:20 compression=1.00" },
    /* of another type: not taken for a counter */
    { "{'plain-bytes': <'much'>, 'encoded-bytes': <uint64 4>}",
      " encoded-bytes=4 compression=0.00" },
};

static void every_counter_is_a_field_and_the_ratio_is_computed(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GVariant) statistics =
            g_variant_ref_sink(g_variant_new_parsed(rows[i].statistics));
        g_autoptr(GString) line = g_string_new(NULL);

        helper_summary_add_statistics(line, statistics);
        assert_string_equal(line->str, rows[i].line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_counter_is_a_field_and_the_ratio_is_computed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
