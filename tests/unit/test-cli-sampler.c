/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Asking again and again, in a thread, with libvirt's own test driver as a host that has domains
 * and cannot tell of jobs, and with one that is not there. */
#include "config.h"

#include "cli/sampler.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/connection.h"
#include "cli/sample.h"

#define NEVER_MS (3600 * 1000)
#define WITHOUT_JOBS "test:///default"
#define NOT_THERE "test+unix:///default?socket=/nonexistent/socket"

typedef struct {
    guint n;
    guint enough;
    char *trouble;
    gboolean jobs;
    GMainLoop *loop;
} Answers;

static void on_sample(Sample *sample, gpointer data)
{
    Answers *answers = data;

    g_free(answers->trouble);
    answers->trouble = g_steal_pointer(&sample->trouble);
    answers->jobs = sample->jobs != NULL;
    sample_free(sample);
    if (++answers->n >= answers->enough)
        g_main_loop_quit(answers->loop);
}

static int setup(void **state)
{
    Answers *answers = g_new0(Answers, 1);

    answers->loop = g_main_loop_new(NULL, FALSE);
    answers->enough = 1;
    *state = answers;
    return 0;
}

static int teardown(void **state)
{
    Answers *answers = *state;

    g_main_loop_unref(answers->loop);
    g_free(answers->trouble);
    g_free(answers);
    return 0;
}

static void a_host_that_is_not_there_is_asked_again(void **state)
{
    Answers *answers = *state;
    Sampler *sampler;

    answers->enough = 3;
    sampler = sampler_new(NULL, NOT_THERE, FALSE, 1, on_sample, answers);
    g_main_loop_run(answers->loop);
    assert_true(sampler_stop(sampler));
    assert_false(answers->jobs);
    assert_true(g_str_has_prefix(answers->trouble, "cannot connect to " NOT_THERE ": "));
}

static void what_the_host_says_is_passed_on(void **state)
{
    Answers *answers = *state;
    g_autoptr(GError) error = NULL;
    virConnect *connection = connection_open(WITHOUT_JOBS, FALSE, &error);
    Sampler *sampler;

    assert_non_null(connection);
    sampler = sampler_new(connection, WITHOUT_JOBS, FALSE, NEVER_MS, on_sample, answers);
    g_main_loop_run(answers->loop);
    assert_true(sampler_stop(sampler));
    assert_non_null(strstr(answers->trouble, "virDomainGetJobStats"));
}

static void who_cannot_wait_asks_now(void **state)
{
    Answers *answers = *state;
    Sampler *sampler = sampler_new(NULL, NOT_THERE, FALSE, NEVER_MS, on_sample, answers);

    g_main_loop_run(answers->loop);
    answers->enough = 2;
    sampler_ask_now(sampler);
    g_main_loop_run(answers->loop);
    assert_true(sampler_stop(sampler));
    assert_int_equal(answers->n, 2);
}

static void nothing_comes_after_the_stop(void **state)
{
    Answers *answers = *state;
    Sampler *sampler = sampler_new(NULL, NOT_THERE, FALSE, 1, on_sample, answers);

    g_main_loop_run(answers->loop);
    assert_true(sampler_stop(sampler));
    answers->n = 0;
    while (g_main_context_iteration(NULL, FALSE))
        continue;
    assert_int_equal(answers->n, 0);
}

#define ASKED 20

/* An owner that waited (for its terminal) finds the newest answer, and what may still be under way
 * then: one that is being asked for, and one more that was. */
static void answers_do_not_pile_up(void **state)
{
    Answers *answers = *state;
    Sampler *sampler = sampler_new(NULL, NOT_THERE, FALSE, NEVER_MS, on_sample, answers);

    for (guint i = 0; i < ASKED; i++) {
        g_usleep(20 * 1000);
        sampler_ask_now(sampler);
    }
    g_usleep(100 * 1000);
    while (g_main_context_iteration(NULL, FALSE))
        continue;
    assert_true(sampler_stop(sampler));
    assert_in_range(answers->n, 0, 3);
}

static void one_domain_is_no_reason_to_lose_the_others(void **state)
{
    assert_true(sample_is_domains_own(VIR_ERR_NO_DOMAIN, TRUE));
    assert_true(sample_is_domains_own(VIR_ERR_INTERNAL_ERROR, TRUE));
    assert_true(sample_is_domains_own(VIR_ERR_ACCESS_DENIED, TRUE));
    assert_false(sample_is_domains_own(VIR_ERR_INTERNAL_ERROR, FALSE));
    assert_false(sample_is_domains_own(VIR_ERR_NO_SUPPORT, TRUE));
}

#define WITH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void on_error(void *data, virErrorPtr error)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(a_host_that_is_not_there_is_asked_again),
        WITH(what_the_host_says_is_passed_on),
        WITH(who_cannot_wait_asks_now),
        WITH(nothing_comes_after_the_stop),
        WITH(answers_do_not_pile_up),
        cmocka_unit_test(one_domain_is_no_reason_to_lose_the_others),
    };

    if (virInitialize() < 0)
        return 1;
    virSetErrorFunc(NULL, on_error);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
