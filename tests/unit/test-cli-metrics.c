/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `virt-postcopy export` prints: held against the rules of Prometheus' text format. */
#include "config.h"

#include "cli/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/job-build.h"

typedef struct {
    GPtrArray *jobs;
    char *text;
} Export;

static int setup(void **state)
{
    Export *export = g_new0(Export, 1);

    export->jobs = g_ptr_array_new_with_free_func((GDestroyNotify)job_free);
    *state = export;
    return 0;
}

static int teardown(void **state)
{
    Export *export = *state;

    g_ptr_array_unref(export->jobs);
    g_free(export->text);
    g_free(export);
    return 0;
}

static void make_text(Export *export)
{
    g_ptr_array_add(export->jobs, job_source("web01"));
    g_ptr_array_add(export->jobs, job_destination("db\"1\\\n"));
    export->text = metrics_text(export->jobs);
}

static void assert_line(const Export *export, const char *line)
{
    g_autofree char *whole = g_strdup_printf("\n%s\n", line);

    if (!strstr(export->text, whole))
        fail_msg("no line %s in\n%s", line, export->text);
}

static void libvirts_fields_have_the_names_exporters_gave_them(void **state)
{
    Export *export = *state;

    make_text(export);
    assert_line(export, "libvirt_domain_job_info_type{domain=\"web01\"} 2");
    assert_line(export, "libvirt_domain_job_info_time_elapsed_seconds{domain=\"web01\"} 21.5");
    assert_line(export, "libvirt_domain_job_info_time_remaining_seconds{domain=\"web01\"} 12");
    assert_line(export, "libvirt_domain_job_info_data_total_bytes{domain=\"web01\"} 2147483648");
    assert_line(export,
                "libvirt_domain_job_info_memory_remaining_bytes{domain=\"web01\"} 805306368");
}

static void ours_are_in_seconds_and_bytes(void **state)
{
    Export *export = *state;

    make_text(export);
    assert_line(export, "libvirt_up 1");
    assert_line(export, "libvirt_domain_postcopy_migrations 2");
    assert_line(export, "libvirt_domain_postcopy_link_up{domain=\"web01\"} 1");
    assert_line(export, "libvirt_domain_postcopy_link_lost_seconds_total{domain=\"web01\"} 1.25");
    assert_line(export, "libvirt_domain_postcopy_rtt_seconds{domain=\"web01\"} 0.00083");
    assert_null(strstr(export->text, "rtt_seconds{domain=\"db"));
    assert_line(export, "libvirt_domain_postcopy_compression_ratio{domain=\"web01\"} 2.5");
    assert_line(export, "libvirt_domain_postcopy_sent_bytes_total"
                        "{domain=\"web01\",channel=\"preempt\"} 700000");
    assert_line(export, "libvirt_domain_postcopy_requests_total{domain=\"web01\"} 150");
}

static void label_values_are_escaped(void **state)
{
    Export *export = *state;

    make_text(export);
    assert_line(export,
                "libvirt_domain_postcopy_block_seconds_total{domain=\"db\\\"1\\\\\\n\"} 4.2");
    assert_line(export, "libvirt_domain_postcopy_info{domain=\"web01\","
                        "uuid=\"11111111-2222-3333-4444-555555555555\",side=\"source\","
                        "state=\"active\",phase=\"postcopy-active\",session=\"0f1e2d3c\","
                        "peer=\"hostb.example.com\",tls=\"TLS1.3 AES-256-GCM\","
                        "features=\"ram,zstd,resume\"} 1");
}

static void the_histogram_is_cumulative(void **state)
{
#define LATENCY "libvirt_domain_postcopy_request_latency_seconds"
#define DB "{domain=\"db\\\"1\\\\\\n\""
    Export *export = *state;

    make_text(export);
    assert_line(export, "# TYPE " LATENCY " histogram");
    assert_line(export, LATENCY "_bucket" DB ",le=\"6.4e-05\"} 14");
    assert_line(export, LATENCY "_bucket" DB ",le=\"0.000512\"} 14");
    assert_line(export, LATENCY "_bucket" DB ",le=\"0.001024\"} 104");
    assert_line(export, LATENCY "_bucket" DB ",le=\"0.002048\"} 104");
    assert_line(export, LATENCY "_bucket" DB ",le=\"0.004096\"} 150");
    assert_line(export, LATENCY "_bucket" DB ",le=\"16.777216\"} 150");
    assert_line(export, LATENCY "_bucket" DB ",le=\"+Inf\"} 150");
    assert_line(export, LATENCY "_sum" DB "} 0.15");
    assert_line(export, LATENCY "_count" DB "} 150");
    assert_null(strstr(export->text, LATENCY "_count{domain=\"web01\""));
}

/* The name of a sample's metric as its TYPE line has it. */
static char *family_of(const char *line, const char *family)
{
    static const char *const suffixes[] = { "_bucket", "_sum", "_count" };
    g_autofree char *name = g_strndup(line, strcspn(line, "{ "));

    for (gsize i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        if (g_str_has_prefix(name, family) &&
            g_str_equal(name + MIN(strlen(family), strlen(name)), suffixes[i]))
            return g_strdup(family);
    }
    return g_steal_pointer(&name);
}

/* What promtool complains of: a sample outside of its family, a family that comes twice, a counter
 * without _total, a gauge with it, a family without samples, the same sample twice. */
static void assert_as_prometheus_wants_it(const Export *export)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_auto(GStrv) lines = NULL;
    g_autofree char *family = g_strdup("");
    guint samples = 1;

    assert_true(g_str_has_suffix(export->text, "\n"));
    lines = g_strsplit(export->text, "\n", -1);
    for (char **line = lines; line[1]; line++) { /* the last one is empty */
        g_auto(GStrv) words = g_strsplit(*line, " ", 4);

        if (g_str_has_prefix(*line, "# HELP ")) {
            assert_true(samples > 0);
            samples = 0;
            g_free(family);
            family = g_strdup(words[2]);
            assert_true(g_hash_table_add(seen, g_strdup(*line)));
            assert_true(g_hash_table_add(seen, g_strconcat("family ", family, NULL)));
            assert_true(strlen(words[3]) > 0);
        } else if (g_str_has_prefix(*line, "# TYPE ")) {
            assert_string_equal(words[2], family);
            assert_int_equal(g_str_equal(words[3], "counter"), g_str_has_suffix(family, "_total"));
        } else {
            g_autofree char *of = family_of(*line, family);
            g_autofree char *series = g_strndup(*line, (gsize)(strrchr(*line, ' ') - *line));

            assert_string_equal(of, family);
            assert_true(g_hash_table_add(seen, g_steal_pointer(&series)));
            samples++;
        }
    }
    assert_true(samples > 0);
}

static void the_text_is_as_prometheus_wants_it(void **state)
{
    Export *export = *state;

    make_text(export);
    assert_as_prometheus_wants_it(export);
}

static Job *job_of_client(const char *uuid)
{
    Job *job = job_destination("memory/vmm");

    g_free(job->uuid);
    job->uuid = g_strdup(uuid);
    return job;
}

/* They name themselves. */
static void memory_clients_of_one_name_are_told_apart(void **state)
{
    Export *export = *state;

    g_ptr_array_add(export->jobs, job_of_client("1-1"));
    g_ptr_array_add(export->jobs, job_of_client("2-2"));
    export->text = metrics_text(export->jobs);
    assert_as_prometheus_wants_it(export);
    assert_line(export,
                "libvirt_domain_postcopy_link_up{domain=\"memory/vmm\",uuid=\"2-2\"} 1");
}

static void nothing_running_is_not_nothing(void **state)
{
    Export *export = *state;

    export->text = metrics_text(export->jobs);
    assert_true(g_str_has_suffix(export->text, "\nlibvirt_domain_postcopy_migrations 0\n"));
    assert_line(export, "libvirt_up 1");
}

static void a_host_that_does_not_answer_is_down(void **state)
{
    Export *export = *state;

    export->text = metrics_text(NULL);
    assert_true(g_str_has_suffix(export->text, "\nlibvirt_up 0\n"));
    assert_null(strstr(export->text, "migrations"));
}

#define WITH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(libvirts_fields_have_the_names_exporters_gave_them),
        WITH(ours_are_in_seconds_and_bytes),
        WITH(label_values_are_escaped),
        WITH(the_histogram_is_cumulative),
        WITH(the_text_is_as_prometheus_wants_it),
        WITH(memory_clients_of_one_name_are_told_apart),
        WITH(nothing_running_is_not_nothing),
        WITH(a_host_that_does_not_answer_is_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
