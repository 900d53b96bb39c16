/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "tests/support/job-build.h"

#define MIB ((guint64)1 << 20)

struct JobBuild {
    virTypedParameterPtr params;
    int n, max;
};

JobBuild *job_build_new(void)
{
    g_assert_cmpint(virInitialize(), ==, 0); /* which its typed parameters need */
    return g_new0(JobBuild, 1);
}

void job_build_int(JobBuild *build, const char *field, int value)
{
    g_assert_cmpint(virTypedParamsAddInt(&build->params, &build->n, &build->max, field, value), ==,
                    0);
}

void job_build_uint(JobBuild *build, const char *field, unsigned int value)
{
    g_assert_cmpint(virTypedParamsAddUInt(&build->params, &build->n, &build->max, field, value), ==,
                    0);
}

void job_build_number(JobBuild *build, const char *field, guint64 value)
{
    g_assert_cmpint(virTypedParamsAddULLong(&build->params, &build->n, &build->max, field, value),
                    ==, 0);
}

void job_build_double(JobBuild *build, const char *field, double value)
{
    g_assert_cmpint(virTypedParamsAddDouble(&build->params, &build->n, &build->max, field, value),
                    ==, 0);
}

void job_build_text(JobBuild *build, const char *field, const char *value)
{
    g_assert_cmpint(virTypedParamsAddString(&build->params, &build->n, &build->max, field, value),
                    ==, 0);
}

Job *job_build_end(JobBuild *build, const char *domain, int type)
{
    Job *job = job_new(domain, "11111111-2222-3333-4444-555555555555", type, build->params,
                       build->n);

    g_free(build);
    return job;
}

static JobBuild *build_common(int operation)
{
    JobBuild *build = job_build_new();

    job_build_int(build, "operation", operation);
    job_build_number(build, "time_elapsed", 21500);
    job_build_number(build, "data_total", 2048 * MIB);
    job_build_number(build, "data_processed", 1300 * MIB);
    job_build_number(build, "data_remaining", 768 * MIB);
    job_build_number(build, "memory_total", 2048 * MIB);
    job_build_number(build, "memory_processed", 1300 * MIB);
    job_build_number(build, "memory_remaining", 768 * MIB);
    job_build_text(build, "postcopy.state", "active");
    job_build_text(build, "postcopy.session", "0f1e2d3c");
    job_build_text(build, "postcopy.tls", "TLS1.3 AES-256-GCM");
    job_build_text(build, "postcopy.features", "ram,zstd,resume");
    job_build_uint(build, "postcopy.channels", 2);
    job_build_number(build, "postcopy.main.bytes_sent", 1300 * MIB);
    job_build_number(build, "postcopy.main.bytes_received", 1300 * MIB);
    job_build_number(build, "postcopy.preempt.bytes_sent", 700000);
    job_build_number(build, "postcopy.preempt.bytes_received", 1500);
    job_build_number(build, "postcopy.requests", 150);
    job_build_uint(build, "postcopy.recoveries", 1);
    job_build_number(build, "postcopy.resumes", 2);
    job_build_text(build, "postcopy.link", "up");
    job_build_number(build, "postcopy.link_lost_time", 1250);
    job_build_number(build, "postcopy.rate", 64 * MIB);
    return build;
}

JobBuild *job_build_source(void)
{
    JobBuild *build = build_common(VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT);

    job_build_text(build, "postcopy.phase", "postcopy-active");
    job_build_text(build, "postcopy.peer", "hostb.example.com");
    job_build_number(build, "postcopy.rtt", 830);
    job_build_double(build, "postcopy.compression_ratio", 2.5);
    return build;
}

Job *job_source(const char *domain)
{
    return job_build_end(job_build_source(), domain, VIR_DOMAIN_JOB_UNBOUNDED);
}

JobBuild *job_build_destination(void)
{
    JobBuild *build = build_common(VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN);

    job_build_text(build, "postcopy.phase", "running");
    job_build_text(build, "postcopy.peer", "O=Example,CN=hosta.example.com");
    job_build_number(build, "postcopy.rtt", 0);
    job_build_number(build, "postcopy.requests_outstanding", 3);
    job_build_number(build, "postcopy.latency_avg", 1000);
    job_build_number(build, "postcopy.latency_p50", 1024);
    job_build_number(build, "postcopy.latency_p99", 3900);
    job_build_number(build, "postcopy.latency_max", 3950);
    job_build_text(build, "postcopy.latency_histogram", "2:14,1024:90,4096:46");
    job_build_number(build, "postcopy.block_time", 4200);
    return build;
}

Job *job_destination(const char *domain)
{
    return job_build_end(job_build_destination(), domain, VIR_DOMAIN_JOB_UNBOUNDED);
}
