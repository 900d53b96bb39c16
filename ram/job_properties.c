/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/job_properties.h"

typedef struct {
    const char *name;
    guint64 value;
} Counter;

static void add_counters(GVariantBuilder *builder, const Counter *counters, gsize n)
{
    for (gsize i = 0; i < n; i++)
        g_variant_builder_add(builder, "{sv}", counters[i].name,
                              g_variant_new_uint64(counters[i].value));
}

static void add_relay(GVariantBuilder *builder, const RelayStats *stats)
{
    const Counter counters[] = {
        { "stream-bytes", stats->stream_bytes },
        { "return-path-bytes", stats->return_path_bytes },
        { "wire-bytes-sent", stats->wire_bytes_sent },
        { "wire-bytes-received", stats->wire_bytes_received },
        { "wire-preempt-bytes-sent", stats->wire_preempt_sent },
        { "wire-preempt-bytes-received", stats->wire_preempt_received },
        { "wire-bulk-bytes-sent", stats->wire_bulk_sent },
        { "wire-bulk-bytes-received", stats->wire_bulk_received },
        { "bulk-channels", stats->bulk_channels },
        { "wire-disks-bytes-sent", stats->wire_disks_sent },
        { "wire-disks-bytes-received", stats->wire_disks_received },
        { "disk-channels", stats->disk_channels },
        { "frames-sent", stats->frames_sent },
        { "frames-received", stats->frames_received },
        { "window-high-water", stats->window_high_water },
        { "elapsed-us", stats->elapsed_us },
        { "resumes", stats->resumes },
        { "bytes-sent-again", stats->bytes_sent_again },
        { "key-updates", stats->key_updates },
    };

    add_counters(builder, counters, G_N_ELEMENTS(counters));
    g_variant_builder_add(builder, "{sv}", "bulk-bytes",
                          g_variant_new_fixed_array(G_VARIANT_TYPE_UINT64, stats->bulk_bytes,
                                                    stats->bulk_channels, sizeof(guint64)));
}

static void add_ram(GVariantBuilder *builder, const RamStats *ram)
{
    const Counter counters[] = {
        { "pages-normal", ram->pages_normal },
        { "pages-zero", ram->pages_zero },
        { "pages-background", ram->pages_background },
        { "pages-urgent", ram->pages_urgent },
        { "pages-direct", ram->pages_direct },
        { "pages-read", ram->pages_read },
        { "pages-dropped", ram->pages_dropped },
        { "memory-bytes-read", ram->memory_bytes_read },
        { "duplicates", ram->duplicates },
        { "requests", ram->requests },
        { "requests-staged", ram->requests_staged },
        { "requests-asked", ram->requests_asked },
        { "requests-read", ram->requests_read },
        { "requests-late", ram->requests_late },
        { "requests-outstanding", ram->requests_outstanding },
        { "blocked-us", ram->blocked_us },
        { "ram-bytes", ram->ram_bytes },
        { "ram-remaining-bytes", ram->ram_remaining_bytes },
        { "stage-bytes", ram->stage_bytes },
        { "stage-high-water", ram->stage_high_water },
        { "plain-bytes", ram->plain_bytes },
        { "encoded-bytes", ram->encoded_bytes },
        { "compressed-frames", ram->compressed_frames },
        { "rate", ram->rate },
        { "rtt-us", ram->rtt_us },
        { "rtt-min-us", ram->rtt_min_us },
        { "in-flight-limit", ram->in_flight_limit },
    };

    add_counters(builder, counters, G_N_ELEMENTS(counters));
    g_variant_builder_add(builder, "{sv}", "compression-method",
                          g_variant_new_string(pages_encoding_name(ram->encoding)));
}

static GVariant *waits_of_threads(const RamStats *ram)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("a(ut)"));
    for (guint i = 0; i < ram->n_blocked_longest; i++)
        g_variant_builder_add(&builder, "(ut)", ram->blocked_longest[i].id,
                              ram->blocked_longest[i].waited_us);
    return g_variant_builder_end(&builder);
}

/* Of a memory client. Rates are numbers without fractions as well. */
static void add_mapped(GVariantBuilder *builder, const RamStats *ram)
{
    const XbzrleStats *x = &ram->xbzrle;
    guint64 expected = ram->expected_downtime_us == G_MAXUINT64 ? 0 : ram->expected_downtime_us;
    const Counter counters[] = {
        { "dirty-syncs", ram->dirty_syncs },
        { "dirty-rounds", ram->dirty_rounds },
        { "dirty-rate", ram->dirty_rate },
        { "page-rate", ram->page_rate },
        { "setup-us", ram->setup_us },
        { "downtime-us", ram->downtime_us },
        { "expected-downtime-us", expected },
        { "throttle-percent", ram->throttle_percent },
        { "hinted-pages", ram->hinted_pages },
        { "discarded-pages", ram->discarded_pages },
        { "released-bytes", ram->released_bytes },
        { "xbzrle-cache-bytes", x->cache_bytes },
        { "xbzrle-pages", x->pages },
        { "xbzrle-bytes", x->bytes },
        { "xbzrle-misses", x->misses },
        { "xbzrle-overflow", x->overflow },
        { "xbzrle-miss-permille", (guint64)(x->miss_rate * 1000) },
        { "xbzrle-rate-percent", (guint64)(x->encoding_rate * 100) },
        { "checkpoints", ram->checkpoints },
        { "diverged-pages", ram->diverged_pages },
        { "blocked-all-us", ram->blocked_all_us },
        { "blocked-threads-us", ram->blocked_threads_us },
        { "blocked-threads", ram->blocked_threads },
    };

    add_counters(builder, counters, G_N_ELEMENTS(counters));
    g_variant_builder_add(builder, "{sv}", "blocked-by-thread-us", waits_of_threads(ram));
}

static void add_latency(GVariantBuilder *builder, const Histogram *latency)
{
    const Counter counters[] = {
        { "request-latency-count", latency->count },
        { "request-latency-sum-us", latency->sum_us },
        { "request-latency-max-us", latency->max_us },
        { "request-latency-p50-us", histogram_percentile(latency, 0.50) },
        { "request-latency-p99-us", histogram_percentile(latency, 0.99) },
    };

    guint64 buckets[HISTOGRAM_BUCKETS];

    add_counters(builder, counters, G_N_ELEMENTS(counters));
    histogram_get_buckets(latency, buckets);
    g_variant_builder_add(builder, "{sv}", "request-latency-us",
                          g_variant_new_fixed_array(G_VARIANT_TYPE_UINT64, buckets,
                                                    HISTOGRAM_BUCKETS, sizeof(guint64)));
}

void job_properties_set_statistics(PostcopyMigration *skeleton, const RelayStats *stats)
{
    GVariantBuilder builder;

    g_variant_builder_init(&builder, G_VARIANT_TYPE_VARDICT);
    add_relay(&builder, stats);
    add_ram(&builder, &stats->ram);
    if (stats->memory)
        add_mapped(&builder, &stats->ram);
    add_latency(&builder, &stats->ram.request_latency);
    postcopy_migration_set_statistics(skeleton, g_variant_builder_end(&builder));
}

void job_properties_init(PostcopyMigration *skeleton)
{
    const char *const none[] = { NULL };
    RelayStats zero = { 0 };

    postcopy_migration_set_state(skeleton, session_state_status(SESSION_NONE));
    postcopy_migration_set_phase(skeleton, "none");
    postcopy_migration_set_reading(skeleton, "off");
    postcopy_migration_set_placing(skeleton, "off");
    postcopy_migration_set_last_error(skeleton, "");
    postcopy_migration_set_ended_by(skeleton, "");
    postcopy_migration_set_tls_version(skeleton, "");
    postcopy_migration_set_tls_cipher(skeleton, "");
    postcopy_migration_set_peer_name(skeleton, "");
    postcopy_migration_set_channels_wanted(skeleton, none);
    postcopy_migration_set_channels_lost(skeleton, none);
    postcopy_migration_set_features(skeleton, none);
    postcopy_migration_set_channels(skeleton, g_variant_new("a(sss)", NULL));
    postcopy_migration_set_disks_unanswered(skeleton, g_variant_new("au", NULL));
    job_properties_set_statistics(skeleton, &zero);
}

static gboolean is_of_kind(GVariant *channel, const char *kind)
{
    const char *name;

    g_variant_get(channel, "(&s&s&s)", &name, NULL, NULL);
    return g_str_equal(name, kind);
}

void job_properties_put_channel(PostcopyMigration *skeleton, const RelayReport *channel_up)
{
    const char *kind = channel_name(channel_up->kind, channel_up->number);
    GVariantBuilder builder;
    GVariantIter iter;
    GVariant *child;

    g_variant_builder_init(&builder, G_VARIANT_TYPE("a(sss)"));
    g_variant_iter_init(&iter, postcopy_migration_get_channels(skeleton));
    while ((child = g_variant_iter_next_value(&iter))) {
        g_autoptr(GVariant) channel = child;

        if (!is_of_kind(channel, kind))
            g_variant_builder_add_value(&builder, channel);
    }
    g_variant_builder_add(&builder, "(sss)", kind, channel_up->tls_version,
                          channel_up->tls_cipher);
    postcopy_migration_set_channels(skeleton, g_variant_builder_end(&builder));
    if (channel_up->kind != CHANNEL_MAIN)
        return;
    postcopy_migration_set_tls_version(skeleton, channel_up->tls_version);
    postcopy_migration_set_tls_cipher(skeleton, channel_up->tls_cipher);
    postcopy_migration_set_peer_name(skeleton, channel_up->peer_name);
}

void job_properties_set_lost(PostcopyMigration *skeleton, const char *channel, gboolean lost)
{
    const char *const *before = postcopy_migration_get_channels_lost(skeleton);
    /* Setting a property frees what it was before it copies what it is to be. */
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    for (gsize i = 0; before[i]; i++) {
        if (!g_str_equal(before[i], channel))
            g_ptr_array_add(names, g_strdup(before[i]));
    }
    if (lost)
        g_ptr_array_add(names, g_strdup(channel));
    g_ptr_array_add(names, NULL);
    postcopy_migration_set_channels_lost(skeleton, (const char *const *)names->pdata);
}

void job_properties_main_lost_only(PostcopyMigration *skeleton)
{
    const char *const *before = postcopy_migration_get_channels_lost(skeleton);
    const char *main = channel_kind_name(CHANNEL_MAIN);
    const char *const names[] = { g_strv_contains(before, main) ? main : NULL, NULL };

    postcopy_migration_set_channels_lost(skeleton, names);
}

void job_properties_none_lost(PostcopyMigration *skeleton)
{
    const char *const none[] = { NULL };

    postcopy_migration_set_channels_lost(skeleton, none);
}

void job_properties_qemu_answered(PostcopyMigration *skeleton)
{
    guint wanted = postcopy_migration_get_qemu_wanted(skeleton);

    if (wanted)
        postcopy_migration_set_qemu_wanted(skeleton, wanted - 1);
}

void job_properties_want_channels(PostcopyMigration *skeleton, guint n_bulk)
{
    const char *wanted[1 + CHANNEL_BULK_MAX + 1] = { channel_kind_name(CHANNEL_PREEMPT), NULL };

    for (guint16 i = 1; i <= n_bulk; i++)
        wanted[i] = channel_name(CHANNEL_BULK, i);
    postcopy_migration_set_channels_wanted(skeleton, wanted);
}

static void set_disks_unanswered(PostcopyMigration *skeleton, guint16 number, gboolean wanted)
{
    GVariant *before = postcopy_migration_get_disks_unanswered(skeleton);
    GVariantBuilder builder;
    gsize n;
    const guint32 *numbers = g_variant_get_fixed_array(before, &n, sizeof *numbers);

    g_variant_builder_init(&builder, G_VARIANT_TYPE("au"));
    for (gsize i = 0; i < n; i++) {
        if (numbers[i] != number)
            g_variant_builder_add(&builder, "u", numbers[i]);
    }
    if (wanted)
        g_variant_builder_add(&builder, "u", (guint32)number);
    postcopy_migration_set_disks_unanswered(skeleton, g_variant_builder_end(&builder));
}

void job_properties_want_disks(PostcopyMigration *skeleton, guint16 number)
{
    set_disks_unanswered(skeleton, number, TRUE);
}

void job_properties_disks_answered(PostcopyMigration *skeleton, guint16 number)
{
    set_disks_unanswered(skeleton, number, FALSE);
}
