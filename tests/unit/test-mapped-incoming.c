/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The destination's machine of a mapped session on real memory, with a source that says what a
 * test wants: what it does with each frame, what it refuses, and by what words; faults of
 * threads; recovery. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ram/mapped/frames.h"
#include "ram/uffd/clients.h"
#include "ram/uffd/uffd.h"
#include "ram/xbzrle.h"
#include "tests/support/mapped-pair.h"

#define WINDOW (4 * 1024 * 1024)
#define PAGE 4096
#define PAGES 64
#define BULK 2 /* the channel */
#define HUGE_N 2

enum { RAM, PRIVATE, ROM };

static const TestRegion regions[] = {
    { "pc.ram", PAGES, TEST_MEMFD, 0 },
    { "private", PAGES, TEST_PRIVATE, 0 },
    { "pc.rom", PAGES, TEST_MEMFD, MEMORY_IGNORED },
};

static const TestRegion huge_regions[] = {
    { "huge", HUGE_N, TEST_HUGE, 0 },
};

/* ---- a machine whose peer says what a test wants ---- */

typedef struct {
    MappedPair pair;
    TestMemory *memory;
    guint64 pages; /* sent */
    guint64 urgent_frames;
    gboolean releases; /* the source */
} Bench;

static void bench_begin(Bench *bench, const TestRegion *all, guint n)
{
    MappedSetup setup = {
        .window = WINDOW,
        .features = SESSION_FEATURE_RUNS | SESSION_FEATURE_XBZRLE,
        .n_bulk = 1,
        .most = G_MAXUINT,
        .scripted = TRUE,
    };

    *bench = (Bench){ .memory = test_memory_new(all, n) };
    assert_non_null(bench->memory);
    mapped_pair_init(&bench->pair, &setup, bench->memory, bench->memory, 1);
}

static void bench_init(Bench *bench)
{
    bench_begin(bench, regions, G_N_ELEMENTS(regions));
}

static void bench_clear(Bench *bench)
{
    if (!bench->memory)
        return;
    mapped_pair_clear(&bench->pair);
    test_memory_free(bench->memory);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Bench, bench_clear)

/* Until nothing moves any more. */
static void settle(Bench *bench)
{
    guint idle = 0;

    while (idle < 3)
        idle = mapped_pair_turn(&bench->pair) ? 0 : idle + 1;
}

static MappedIncomingState now(const Bench *bench)
{
    return mapped_incoming_state(bench->pair.incoming);
}

static void assert_failed(Bench *bench, const char *says)
{
    settle(bench);
    assert_non_null(mapped_pair_failure(&bench->pair));
    if (!strstr(mapped_pair_failure(&bench->pair), says))
        fail_msg("\"%s\" does not say \"%s\"", mapped_pair_failure(&bench->pair), says);
    assert_true(bench->pair.destination.client->ended);
    /* The source hears of it in the same words. */
    if (!strstr(session_reason(bench->pair.source.session), says))
        fail_msg("the source hears \"%s\"", session_reason(bench->pair.source.session));
}

static void assert_fine(const Bench *bench)
{
    if (mapped_pair_failure(&bench->pair))
        fail_msg("%s", mapped_pair_failure(&bench->pair));
}

/* ---- frames ---- */

static RamBlocks *blocks_of(const TestMemory *memory, GArray *flags)
{
    RamBlocks *blocks = ram_blocks_new();

    for (guint i = 0; i < memory->n; i++) {
        const TestMapping *map = &memory->maps[i];

        assert_true(ram_blocks_add(blocks, (const guint8 *)map->region->name,
                                   strlen(map->region->name), map->length, map->page_size, NULL,
                                   NULL));
        g_array_append_val(flags, map->region->flags);
    }
    return blocks;
}

static void send_blocks_of(Bench *bench, const RamBlocks *blocks, const GArray *flags,
                           MappedBeginning beginning)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    assert_true(mapped_blocks_body_encode(body, blocks, (const guint32 *)(gpointer)flags->data,
                                          beginning, FRAME_PAGES_MAX));
    mapped_pair_send(&bench->pair, 0, FRAME_BLOCKS, body);
}

static void send_blocks(Bench *bench, MappedBeginning beginning)
{
    g_autoptr(GArray) flags = g_array_new(FALSE, FALSE, sizeof(guint32));
    g_autoptr(RamBlocks) blocks = blocks_of(bench->memory, flags);

    send_blocks_of(bench, blocks, flags, beginning);
}

static void send_phase(Bench *bench, MappedPhase phase)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    mapped_phase_body_encode(body, phase);
    mapped_pair_send(&bench->pair, 0, FRAME_PHASE, body);
}

static void send_discard(Bench *bench, guint block, guint64 start, guint64 length)
{
    DiscardBody discard = { .block = block, .n_ranges = 1, .ranges = { { start, length } } };
    g_autoptr(GByteArray) body = g_byte_array_new();

    discard_body_encode(body, &discard);
    mapped_pair_send(&bench->pair, 0, FRAME_DISCARD, body);
}

static void send_text(Bench *bench, FrameType type, const char *text)
{
    g_autoptr(GByteArray) body = g_byte_array_new();

    g_byte_array_append(body, (const guint8 *)text, strlen(text));
    mapped_pair_send(&bench->pair, 0, type, body);
}

static void send_batch(Bench *bench, guint channel, PagesBatch *batch)
{
    g_autoptr(GByteArray) body = NULL;
    gsize len;
    guint8 *bytes = pages_batch_finish(batch, &len);

    body = g_byte_array_new_take(bytes, len);
    mapped_pair_send(&bench->pair, channel, FRAME_PAGES, body);
}

static void send_page(Bench *bench, guint channel, const QemuPage *page)
{
    g_auto(PagesBatch) batch = { 0 };

    pages_batch_init(&batch, 0);
    assert_true(pages_batch_add(&batch, page, PAGE));
    send_batch(bench, channel, &batch);
    bench->pages++;
}

static void fill(guint8 *page, guint block, guint64 number)
{
    guint64 word = G_GUINT64_CONSTANT(0x9e3779b97f4a7c15) * (number + 1) + block;

    for (gsize at = 0; at < PAGE; at += sizeof word)
        memcpy(page + at, &word, sizeof word);
}

/* The page that is to be there in the end. */
static void send_right(Bench *bench, guint channel, guint block, guint64 number)
{
    guint8 bytes[PAGE];
    QemuPage page = { block, number * PAGE, QEMU_PAGE_RAW, 0, bytes, PAGE };

    fill(bytes, block, number);
    send_page(bench, channel, &page);
}

static void send_zeros(Bench *bench, guint channel, guint block, guint64 number, guint8 byte)
{
    QemuPage page = { block, number * PAGE, QEMU_PAGE_ZERO, byte, NULL, 0 };

    send_page(bench, channel, &page);
}

static void send_ram_end(Bench *bench, guint64 pages)
{
    RamEnd end = { .pages = pages, .preempt_seq = bench->urgent_frames };
    g_autoptr(GByteArray) body = g_byte_array_new();

    ram_end_body_encode(body, &end);
    mapped_pair_send(&bench->pair, 0, FRAME_RAM_END, body);
}

static gboolean is_right(const Bench *bench, guint block, guint64 number)
{
    guint8 bytes[PAGE];

    fill(bytes, block, number);
    return memcmp(bench->memory->maps[block].at + number * PAGE, bytes, PAGE) == 0;
}

static gboolean is_full_of(const Bench *bench, guint block, guint64 number, guint8 byte)
{
    const guint8 *at = bench->memory->maps[block].at + number * PAGE;

    return at[0] == byte && memcmp(at, at + 1, PAGE - 1) == 0;
}

/* ---- to a state ---- */

static void go_to_advise(Bench *bench)
{
    send_blocks(bench, MAPPED_BEGINS | (bench->releases ? MAPPED_RELEASES : 0));
    send_phase(bench, MAPPED_PHASE_ADVISE);
    settle(bench);
    assert_fine(bench);
    assert_int_equal(now(bench), MAPPED_INCOMING_ADVISE);
}

/* With all of RAM and PRIVATE missing. */
static void go_to_running(Bench *bench)
{
    go_to_advise(bench);
    send_phase(bench, MAPPED_PHASE_DISCARD);
    send_text(bench, FRAME_DATA, "devices");
    send_phase(bench, MAPPED_PHASE_RUNNING);
    settle(bench);
    assert_fine(bench);
    assert_int_equal(now(bench), MAPPED_INCOMING_RUNNING);
    assert_true(bench->pair.destination.client->running);
    assert_int_equal(bench->pair.destination.client->device->len, 7);
    assert_memory_equal(bench->pair.destination.client->device->data, "devices", 7);
}

static void go_to(Bench *bench, MappedIncomingState state)
{
    switch (state) {
    case MAPPED_INCOMING_NONE:
        return;
    case MAPPED_INCOMING_SETUP:
        send_blocks(bench, MAPPED_BEGINS);
        break;
    case MAPPED_INCOMING_ADVISE:
        go_to_advise(bench);
        return;
    case MAPPED_INCOMING_DEVICE:
        go_to_advise(bench);
        send_text(bench, FRAME_DATA, "d");
        break;
    case MAPPED_INCOMING_DISCARD:
        go_to_advise(bench);
        send_phase(bench, MAPPED_PHASE_DISCARD);
        break;
    case MAPPED_INCOMING_LISTENING:
        go_to_advise(bench);
        send_phase(bench, MAPPED_PHASE_DISCARD);
        send_text(bench, FRAME_DATA, "d");
        break;
    case MAPPED_INCOMING_RUNNING:
        go_to_running(bench);
        return;
    default:
        go_to_running(bench);
        for (guint i = 0; i < PAGES; i++) {
            send_right(bench, 0, RAM, i);
            send_right(bench, 0, PRIVATE, i);
        }
        send_ram_end(bench, bench->pages);
    }
    settle(bench);
    assert_fine(bench);
    assert_int_equal(now(bench), state);
}

/* ---- the table ---- */

static void send_event(Bench *bench, MappedIncomingEvent event)
{
    switch (event) {
    case MAPPED_INCOMING_EV_BLOCKS:
        send_blocks(bench, MAPPED_BEGINS);
        return;
    case MAPPED_INCOMING_EV_ADVISE:
        send_phase(bench, MAPPED_PHASE_ADVISE);
        return;
    case MAPPED_INCOMING_EV_PAGES:
        send_right(bench, 0, RAM, 0);
        return;
    case MAPPED_INCOMING_EV_BULK_PAGES:
        send_right(bench, BULK, RAM, 0);
        return;
    case MAPPED_INCOMING_EV_URGENT_PAGES:
        send_right(bench, 1, RAM, 0);
        return;
    case MAPPED_INCOMING_EV_PHASE_DISCARD:
        send_phase(bench, MAPPED_PHASE_DISCARD);
        return;
    case MAPPED_INCOMING_EV_DISCARD:
        send_discard(bench, RAM, 0, PAGE);
        return;
    case MAPPED_INCOMING_EV_PHASE_LISTEN:
        send_phase(bench, MAPPED_PHASE_LISTEN);
        return;
    case MAPPED_INCOMING_EV_DATA:
        send_text(bench, FRAME_DATA, "x");
        return;
    case MAPPED_INCOMING_EV_RUNNING:
        send_phase(bench, MAPPED_PHASE_RUNNING);
        return;
    default:
        send_ram_end(bench, 0);
    }
}

/* What the other channels bring too early waits instead. */
static gboolean waits(MappedIncomingState state, MappedIncomingEvent event)
{
    if (event == MAPPED_INCOMING_EV_URGENT_PAGES)
        return state < MAPPED_INCOMING_LISTENING;
    return event == MAPPED_INCOMING_EV_BULK_PAGES &&
           (state < MAPPED_INCOMING_ADVISE || state == MAPPED_INCOMING_DISCARD);
}

/* PHASE listen, DATA, PHASE running in discard: the client listens first, then there is a row. */
static gboolean has_row(MappedIncomingState state, MappedIncomingEvent event)
{
    MappedIncomingState next;

    if (state == MAPPED_INCOMING_DISCARD &&
        (event == MAPPED_INCOMING_EV_PHASE_LISTEN || event == MAPPED_INCOMING_EV_DATA ||
         event == MAPPED_INCOMING_EV_RUNNING))
        state = MAPPED_INCOMING_LISTENING;
    return mapped_incoming_has_row(state, event, &next);
}

static void every_frame_in_every_state_has_a_row_or_is_refused_by_name(void **test)
{
    /* Those of checkpoints: test-mapped-colo.c. */
    for (guint state = 0; state <= MAPPED_INCOMING_END; state++) {
        for (guint event = 0; event <= MAPPED_INCOMING_EV_RAM_END; event++) {
            g_auto(Bench) bench = { 0 };
            g_autofree char *says = NULL;

            if (event == MAPPED_INCOMING_EV_LISTENING || event == MAPPED_INCOMING_EV_RECOVERY)
                continue;
            bench_init(&bench);
            go_to(&bench, state);
            says = g_strdup_printf("%s is not expected in state %s",
                                   mapped_incoming_event_name(event),
                                   mapped_incoming_state_name(state));
            send_event(&bench, event);
            settle(&bench);
            /* A page that is missing at RAM_END is another matter. */
            if (state == MAPPED_INCOMING_RUNNING && event == MAPPED_INCOMING_EV_RAM_END)
                assert_failed(&bench, "128 pages are still missing");
            else if (waits(state, event) || has_row(state, event))
                assert_fine(&bench);
            else
                assert_failed(&bench, says);
        }
    }
}

static void frames_that_a_memory_client_has_no_use_for_are_refused(void **test)
{
    static const struct {
        FrameType type;
        const char *body;
        const char *says;
    } rows[] = {
        { FRAME_QEMU_CHANNEL, "\1", "QEMU_CHANNEL is not for a memory client" },
        { FRAME_PHASE, "\4", "PHASE checkpoint was not agreed on" },
        { FRAME_PHASE, "\10", "PHASE: value 8 is out of range" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(Bench) bench = { 0 };

        bench_init(&bench);
        go_to_advise(&bench);
        send_text(&bench, rows[i].type, rows[i].body);
        assert_failed(&bench, rows[i].says);
        assert_int_equal(bench.pair.destination.client->outcome, MEMORY_END_FAILED);
    }
}

/* ---- BLOCKS ---- */

static void blocks_that_differ_are_refused_with_both_values(void **test)
{
    static const struct {
        const char *name;
        guint64 length;
        guint64 page;
        guint32 flags;
        guint n; /* of blocks */
        const char *says;
    } rows[] = {
        { "pc.ram", PAGES * PAGE, PAGE, 0, 2, "region \"pc.rom\" that was handed over here" },
        { "other", PAGES * PAGE, PAGE, 0, 3, "\"other\" of the source was not handed over here" },
        { "pc.ram", 2 * PAGES * PAGE, PAGE, 0, 3,
          "has 524288 bytes at the source and 262144 here" },
        { "pc.ram", PAGES * PAGE, 2 * PAGE, 0, 3,
          "has pages of 8192 bytes at the source and of 4096 here" },
        { "pc.ram", PAGES * PAGE, PAGE, MEMORY_IGNORED, 3,
          "\"pc.ram\" is left out by the source and moved here" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(Bench) bench = { 0 };
        g_autoptr(RamBlocks) blocks = ram_blocks_new();
        g_autoptr(GArray) flags = g_array_new(FALSE, FALSE, sizeof(guint32));

        bench_init(&bench);
        ram_blocks_add(blocks, (const guint8 *)rows[i].name, strlen(rows[i].name), rows[i].length,
                       rows[i].page, NULL, NULL);
        g_array_append_val(flags, rows[i].flags);
        for (guint k = 1; k < rows[i].n; k++) {
            ram_blocks_add(blocks, (const guint8 *)regions[k].name, strlen(regions[k].name),
                           PAGES * PAGE, PAGE, NULL, NULL);
            g_array_append_val(flags, regions[k].flags);
        }
        send_blocks_of(&bench, blocks, flags, MAPPED_BEGINS);
        assert_failed(&bench, rows[i].says);
    }
}

static void a_recovery_that_only_one_side_knows_of_is_refused(void **test)
{
    g_auto(Bench) bench = { 0 };

    bench_init(&bench);
    send_blocks(&bench, MAPPED_RECOVERS);
    assert_failed(&bench, "the source recovers a migration, and here one is to begin");
}

static void the_order_of_blocks_is_the_sources(void **test)
{
    g_auto(Bench) bench = { 0 };
    g_autoptr(RamBlocks) blocks = ram_blocks_new();
    g_autoptr(GArray) flags = g_array_new(FALSE, FALSE, sizeof(guint32));
    guint8 bytes[PAGE];
    QemuPage page = { 2, PAGE, QEMU_PAGE_RAW, 0, bytes, PAGE };

    bench_init(&bench);
    for (guint i = 3; i-- > 0;) {
        ram_blocks_add(blocks, (const guint8 *)regions[i].name, strlen(regions[i].name),
                       PAGES * PAGE, PAGE, NULL, NULL);
        g_array_append_val(flags, regions[i].flags);
    }
    send_blocks_of(&bench, blocks, flags, MAPPED_BEGINS);
    send_phase(&bench, MAPPED_PHASE_ADVISE);
    fill(bytes, RAM, 1);
    send_page(&bench, 0, &page);
    settle(&bench);
    assert_fine(&bench);
    assert_true(is_right(&bench, RAM, 1));
}

/* ---- before the switch-over ---- */

static void the_last_one_of_a_page_counts_before_the_switch_over(void **test)
{
    g_auto(Bench) bench = { 0 };
    guint8 before[PAGE], after[PAGE], delta[PAGE];
    QemuPage changed = { RAM, 3 * PAGE, QEMU_PAGE_XBZRLE, 0, delta, 0 };

    bench_init(&bench);
    go_to_advise(&bench);
    for (guint block = RAM; block <= PRIVATE; block++) {
        send_right(&bench, 0, block, 1);
        send_right(&bench, 0, block, 2);
        send_zeros(&bench, BULK, block, 4, 0x55);
        settle(&bench);
        assert_true(is_right(&bench, block, 1) && is_right(&bench, block, 2));
        assert_true(is_full_of(&bench, block, 4, 0x55));
        send_zeros(&bench, 0, block, 1, 0);
        send_right(&bench, BULK, block, 4);
        settle(&bench);
        assert_true(is_full_of(&bench, block, 1, 0) && is_right(&bench, block, 4));
    }
    fill(before, RAM, 77);
    memcpy(after, before, PAGE);
    fill(after, RAM, 3);
    memcpy(after, before, PAGE / 2);
    send_page(&bench, 0, &(QemuPage){ RAM, 3 * PAGE, QEMU_PAGE_RAW, 0, before, PAGE });
    assert_int_equal(xbzrle_encode(before, after, PAGE, delta, PAGE, &changed.data_len),
                     XBZRLE_DELTA);
    send_page(&bench, 0, &changed);
    settle(&bench);
    assert_fine(&bench);
    assert_memory_equal(bench.memory->maps[RAM].at + 3 * PAGE, after, PAGE);
}

static void zeros_take_no_memory(void **test)
{
    g_auto(Bench) bench = { 0 };
    struct stat st;

    bench_init(&bench);
    go_to_advise(&bench);
    for (guint i = 0; i < PAGES; i++)
        send_zeros(&bench, 0, RAM, i, 0);
    send_right(&bench, 0, RAM, 5);
    send_right(&bench, 0, RAM, 6);
    send_zeros(&bench, 0, RAM, 6, 0);
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(fstat(bench.memory->maps[RAM].fd, &st), 0);
    assert_int_equal(st.st_blocks * 512, PAGE);
    assert_true(is_right(&bench, RAM, 5) && is_full_of(&bench, RAM, 6, 0));
}

static void a_migration_can_end_before_the_switch(void **test)
{
    g_auto(Bench) bench = { 0 };

    bench_init(&bench);
    go_to_advise(&bench);
    for (guint i = 0; i < PAGES; i++)
        send_right(&bench, 0, RAM, i);
    send_text(&bench, FRAME_DATA, "dev");
    send_text(&bench, FRAME_DATA, "ices");
    send_phase(&bench, MAPPED_PHASE_RUNNING);
    send_ram_end(&bench, bench.pages);
    settle(&bench);
    session_on_qemu_eof(bench.pair.source.session, NULL);
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(now(&bench), MAPPED_INCOMING_END);
    assert_int_equal(bench.pair.destination.client->outcome, MEMORY_END_COMPLETED);
    assert_true(bench.pair.destination.client->ended);
    assert_int_equal(bench.pair.destination.client->device->len, 7);
    assert_int_equal(bench.pair.destination.client->uffd, -1);
    assert_string_equal(bench.pair.destination.client->states->str,
                        "setup advise device running end ");
}

/* ---- records that cannot be ---- */

static void bad_pages_are_refused_by_what_is_wrong(void **test)
{
    static guint8 bytes[PAGE];
    static const struct {
        MappedIncomingState state;
        QemuPage page;
        const char *says;
    } rows[] = {
        { MAPPED_INCOMING_ADVISE, { ROM, 0, QEMU_PAGE_RAW, 0, bytes, PAGE },
          "block 2 is not moved" },
        { MAPPED_INCOMING_RUNNING, { ROM, 0, QEMU_PAGE_RAW, 0, bytes, PAGE },
          "block 2 is not moved" },
        { MAPPED_INCOMING_ADVISE, { RAM, 0, QEMU_PAGE_COMPRESSED, 0, bytes, 10 },
          "record kind 3 is not expected in state advise" },
        { MAPPED_INCOMING_RUNNING, { RAM, 0, QEMU_PAGE_XBZRLE, 0, bytes, 10 },
          "record kind 2 is not expected in state running" },
        { MAPPED_INCOMING_ADVISE, { RAM, 0, QEMU_PAGE_XBZRLE, 0, (const guint8 *)"\1", 1 },
          "difference of a page (XBZRLE), byte 1 of 1" },
        { MAPPED_INCOMING_ADVISE, { RAM, PAGES * PAGE, QEMU_PAGE_RAW, 0, bytes, PAGE },
          "are outside of RAM block 'pc.ram'" },
        { MAPPED_INCOMING_ADVISE, { 7, 0, QEMU_PAGE_RAW, 0, bytes, PAGE }, "no RAM block 7" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(Bench) bench = { 0 };

        bench_init(&bench);
        go_to(&bench, rows[i].state);
        send_page(&bench, 0, &rows[i].page);
        assert_failed(&bench, rows[i].says);
    }
}

static void bad_discards_are_refused(void **test)
{
    static const struct {
        guint block;
        guint64 start;
        guint64 length;
        const char *says;
    } rows[] = {
        { RAM, PAGES * PAGE, PAGE, "DISCARD: 4096 bytes at offset 0x40000" },
        { RAM, 100, PAGE, "DISCARD: " },
        { ROM, 0, PAGE, "DISCARD: block 2 is not moved" },
        { 9, 0, PAGE, "DISCARD: there is no RAM block 9" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(Bench) bench = { 0 };

        bench_init(&bench);
        go_to(&bench, MAPPED_INCOMING_DISCARD);
        send_discard(&bench, rows[i].block, rows[i].start, rows[i].length);
        assert_failed(&bench, rows[i].says);
    }
}

static void pages_that_were_not_sent_are_missed(void **test)
{
    static const struct {
        guint64 more;
        const char *says;
    } rows[] = { { 1, "65 pages were sent, 64 have come" },
                 { 0, "RAM_END: 64 pages are still missing" } };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(Bench) bench = { 0 };

        bench_init(&bench);
        go_to_running(&bench);
        for (guint k = 0; k < PAGES; k++)
            send_right(&bench, 0, RAM, k);
        send_ram_end(&bench, bench.pages + rows[i].more);
        assert_failed(&bench, rows[i].says);
        /* The guest has begun to run here. */
        assert_int_equal(bench.pair.destination.client->outcome, MEMORY_END_PAUSED);
    }
}

/* ---- the client ---- */

static void a_client_that_fails_ends_the_session_in_its_words(void **test)
{
    for (guint state = MAPPED_INCOMING_NONE; state < MAPPED_INCOMING_END; state++) {
        for (guint how = 0; how < 3; how++) {
            static const MemoryEventType says[] = { MEMORY_EV_FAILED, MEMORY_EV_GONE,
                                                    MEMORY_EV_PAUSED };
            static const char *const words[] = { "destination failed: gone fishing",
                                                 "destination is gone: gone fishing",
                                                 "the memory client says \"paused\" in state" };
            g_auto(Bench) bench = { 0 };

            bench_init(&bench);
            go_to(&bench, state);
            test_client_say(bench.pair.destination.client, says[how]);
            assert_failed(&bench, words[how]);
            assert_int_equal(bench.pair.destination.client->outcome,
                             state == MAPPED_INCOMING_RUNNING ? MEMORY_END_PAUSED
                                                              : MEMORY_END_FAILED);
        }
    }
}

static void a_client_that_refuses_ends_the_session(void **test)
{
    for (guint what = 0; what < 3; what++) {
        g_auto(Bench) bench = { 0 };

        bench_init(&bench);
        if (what > 0)
            go_to_advise(&bench);
        if (what > 1)
            go_to(&bench, MAPPED_INCOMING_NONE);
        bench.pair.destination.client->refuses = TRUE;
        if (what == 0)
            send_blocks(&bench, MAPPED_BEGINS);
        send_phase(&bench, what == 0 ? MAPPED_PHASE_ADVISE : MAPPED_PHASE_DISCARD);
        send_text(&bench, FRAME_DATA, "d");
        assert_failed(&bench, "the memory client of the destination failed: not today");
    }
}

static void what_the_client_does_after_the_end_is_its_own_affair(void **test)
{
    static const MemoryEventType says[] = { MEMORY_EV_GONE, MEMORY_EV_FAILED, MEMORY_EV_CANCEL };

    for (gsize i = 0; i < G_N_ELEMENTS(says); i++) {
        g_auto(Bench) bench = { 0 };

        bench_init(&bench);
        go_to(&bench, MAPPED_INCOMING_END);
        test_client_say(bench.pair.destination.client, says[i]);
        settle(&bench);
        session_on_qemu_eof(bench.pair.source.session, NULL);
        settle(&bench);
        assert_fine(&bench);
        assert_true(mapped_pair_is_complete(&bench.pair));
        assert_int_equal(bench.pair.destination.client->outcome, MEMORY_END_COMPLETED);
    }
}

static void a_client_that_cancels_is_told_so(void **test)
{
    g_auto(Bench) bench = { 0 };

    bench_init(&bench);
    go_to_advise(&bench);
    test_client_say(bench.pair.destination.client, MEMORY_EV_CANCEL);
    settle(&bench);
    assert_int_equal(session_state(bench.pair.source.session), SESSION_CANCELLED);
    assert_int_equal(bench.pair.destination.client->outcome, MEMORY_END_CANCELLED);
}

/* ---- faults ---- */

typedef struct {
    const volatile guint8 *at;
    gsize step;
    guint n;
    guint first;
    gint done; /* atomic */
} Reader;

static gpointer read_pages(gpointer data)
{
    Reader *reader = data;
    guint sum = 0;

    for (guint i = 0; i < reader->n; i++)
        sum += reader->at[((reader->first + i) % reader->n) * reader->step];
    g_atomic_int_set(&reader->done, 1);
    return GUINT_TO_POINTER(sum);
}

/* What the destination asks for is sent, in the order in which it was asked. Returns how many
 * requests. */
static guint serve_requests(Bench *bench)
{
    Lane *lane = bench->pair.source.lane[1];
    FrameType type;
    GBytes *body;
    guint n = 0;

    while ((body = lane_received(lane, &type))) {
        PageRequest request;

        assert_int_equal(type, FRAME_REQUEST);
        assert_true(request_body_decode(body, &request, NULL));
        for (guint64 at = 0; at < request.length; at += PAGE)
            send_right(bench, 1, request.block, (request.start + at) / PAGE);
        bench->urgent_frames += request.length / PAGE;
        lane_consume(lane);
        n++;
    }
    return n;
}

static void many_threads_wait_for_pages_and_each_page_is_asked_for_once(void **test)
{
    g_auto(Bench) bench = { 0 };
    Reader readers[64];
    GThread *threads[64];
    guint requests = 0, running = 64;

    bench_init(&bench);
    go_to_running(&bench);
    for (guint i = 0; i < 64; i++) {
        readers[i] = (Reader){ bench.memory->maps[i % 2].at, PAGE, PAGES, i, 0 };
        threads[i] = g_thread_new("vcpu", read_pages, &readers[i]);
    }
    while (running > 0) {
        settle(&bench);
        assert_fine(&bench);
        requests += serve_requests(&bench);
        running = 0;
        for (guint i = 0; i < 64; i++)
            running += !g_atomic_int_get(&readers[i].done);
    }
    for (guint i = 0; i < 64; i++)
        g_thread_join(threads[i]);
    assert_int_equal(requests, 2 * PAGES);
    send_ram_end(&bench, bench.pages);
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(now(&bench), MAPPED_INCOMING_END);
    for (guint i = 0; i < PAGES; i++)
        assert_true(is_right(&bench, RAM, i) && is_right(&bench, PRIVATE, i));
}

/* Four of them; it is through when somebody has read what the kernel says of it. */
static gpointer drop_pages(gpointer at)
{
    return GINT_TO_POINTER(madvise(at, 4 * PAGE, MADV_DONTNEED));
}

static void wait_done(Bench *bench, Reader *reader)
{
    while (!g_atomic_int_get(&reader->done)) {
        mapped_pair_turn(&bench->pair);
        assert_fine(bench);
        g_usleep(100);
    }
}

static void wait_requests(Bench *bench, guint n)
{
    RamStats stats;

    do {
        settle(bench);
        assert_fine(bench);
        mapped_incoming_get_stats(bench->pair.incoming, 0, &stats);
    } while (stats.requests_outstanding < n);
    settle(bench);
}

static void a_page_that_comes_meanwhile_wakes_who_waits(void **test)
{
    g_auto(Bench) bench = { 0 };
    Reader first, second;
    GThread *threads[2];

    bench_init(&bench);
    go_to_running(&bench);
    first = second = (Reader){ bench.memory->maps[RAM].at + 9 * PAGE, 0, 1, 0, 0 };
    threads[0] = g_thread_new("vcpu", read_pages, &first);
    wait_requests(&bench, 1);
    threads[1] = g_thread_new("vcpu", read_pages, &second);
    settle(&bench);
    /* In the background, as if it had been under way; and again, which is dropped. */
    send_right(&bench, 0, RAM, 9);
    send_zeros(&bench, BULK, RAM, 9, 0x11);
    wait_done(&bench, &first);
    wait_done(&bench, &second);
    g_thread_join(threads[0]);
    g_thread_join(threads[1]);
    settle(&bench);
    assert_true(is_right(&bench, RAM, 9));
}

typedef struct {
    const volatile guint8 *at; /* atomic: NULL: not yet */
    gint tid;                  /* atomic */
    gint done;
} Vcpu;

static gpointer run_vcpu(gpointer data)
{
    Vcpu *vcpu = data;
    const volatile guint8 *at;
    guint8 byte;

    g_atomic_int_set(&vcpu->tid, (gint)syscall(SYS_gettid));
    while (!(at = g_atomic_pointer_get(&vcpu->at)))
        g_usleep(100);
    byte = *at;
    g_atomic_int_set(&vcpu->done, 1);
    return GUINT_TO_POINTER((guint)byte);
}

static RamStats stats_now(Bench *bench)
{
    RamStats stats;

    mapped_incoming_get_stats(bench->pair.incoming, g_get_monotonic_time(), &stats);
    return stats;
}

/* Two vCPUs, and a thread that is none: while it waits, or one of them, the other runs. */
static void the_time_in_which_all_vcpus_wait_is_counted(void **test)
{
    g_auto(Bench) bench = { 0 };
    Vcpu vcpus[3] = { 0 };
    GThread *threads[3];
    guint32 ids[2];
    guint64 waited;

    bench_init(&bench);
    for (guint i = 0; i < 3; i++) {
        threads[i] = g_thread_new("vcpu", run_vcpu, &vcpus[i]);
        while (!g_atomic_int_get(&vcpus[i].tid))
            g_usleep(100);
    }
    for (guint i = 0; i < 2; i++)
        ids[i] = (guint32)vcpus[i].tid;
    test_client_vcpus(bench.pair.destination.client, ids, 2);
    go_to_running(&bench);
    assert_int_equal(stats_now(&bench).blocked_threads, 2);
    g_atomic_pointer_set(&vcpus[0].at, bench.memory->maps[RAM].at + 3 * PAGE);
    wait_requests(&bench, 1);
    g_atomic_pointer_set(&vcpus[2].at, bench.memory->maps[RAM].at + 5 * PAGE);
    wait_requests(&bench, 2);
    g_usleep(2000);
    assert_int_equal(stats_now(&bench).blocked_all_us, 0);
    assert_true(stats_now(&bench).blocked_us >= 2000);
    g_atomic_pointer_set(&vcpus[1].at, bench.memory->maps[RAM].at + 7 * PAGE);
    wait_requests(&bench, 3);
    g_usleep(2000);
    waited = stats_now(&bench).blocked_all_us;
    assert_true(waited >= 2000);
    assert_true(waited < stats_now(&bench).blocked_us);
    assert_int_equal(serve_requests(&bench), 3);
    for (guint i = 0; i < 3; i++) {
        while (!g_atomic_int_get(&vcpus[i].done)) {
            mapped_pair_turn(&bench.pair);
            assert_fine(&bench);
        }
        g_thread_join(threads[i]);
    }
    assert_int_equal(stats_now(&bench).blocked_threads, 3);
}

/* A mapping of its own of the same memory, with a userfaultfd of its own: as another process has
 * it. */
static void others_that_share_the_memory_wait_and_are_woken(void **test)
{
    for (guint late = 0; late < 2; late++) {
        g_auto(Bench) bench = { 0 };
        int uffd = uffd_open(0, FALSE, NULL, NULL);
        Reader own, other, left;
        GThread *threads[3];
        guint8 *alias;

        bench_init(&bench);
        alias = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, bench.memory->maps[RAM].fd, 0);
        assert_true(alias != MAP_FAILED && uffd >= 0);
        if (!late)
            test_client_share(bench.pair.destination.client, 5, RAM, alias, uffd);
        go_to_running(&bench);
        if (late)
            test_client_share(bench.pair.destination.client, 5, RAM, alias, uffd);
        settle(&bench);
        other = (Reader){ alias + 3 * PAGE, 0, 1, 0, 0 };
        threads[0] = g_thread_new("other", read_pages, &other);
        wait_requests(&bench, 1);
        own = (Reader){ bench.memory->maps[RAM].at + 3 * PAGE, 0, 1, 0, 0 };
        threads[1] = g_thread_new("vcpu", read_pages, &own);
        settle(&bench);
        assert_int_equal(serve_requests(&bench), 1);
        wait_done(&bench, &other);
        wait_done(&bench, &own);
        assert_memory_equal(alias + 3 * PAGE, bench.memory->maps[RAM].at + 3 * PAGE, PAGE);
        /* It leaves while it waits: what is missing reads as zeros there, as if nobody watched. */
        left = (Reader){ alias + 8 * PAGE, 0, 1, 0, 0 };
        threads[2] = g_thread_new("other", read_pages, &left);
        wait_requests(&bench, 1);
        test_client_unshare(bench.pair.destination.client, 5);
        wait_done(&bench, &left);
        for (guint i = 0; i < 3; i++)
            g_thread_join(threads[i]);
        assert_fine(&bench);
        munmap(alias, PAGES * PAGE);
        close(uffd);
    }
}

/* The last as well as the first: and no more descriptors are stored than there is room for. */
static void as_many_as_can_share_the_memory_are_all_served(void **test)
{
    g_auto(Bench) bench = { 0 };
    guint8 *aliases[UFFD_CLIENTS_MAX];
    int fds[UFFD_CLIENTS_MAX + 2];
    GThread *thread;
    Reader last;

    bench_init(&bench);
    go_to_running(&bench);
    for (guint i = 0; i < UFFD_CLIENTS_MAX; i++) {
        int uffd = uffd_open(0, FALSE, NULL, NULL);

        assert_true(uffd >= 0);
        aliases[i] = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, bench.memory->maps[RAM].fd, 0);
        assert_true(aliases[i] != MAP_FAILED);
        test_client_share(bench.pair.destination.client, i, RAM, aliases[i], uffd);
        close(uffd);
    }
    settle(&bench);
    assert_fine(&bench);
    fds[UFFD_CLIENTS_MAX] = -7;
    assert_int_equal(mapped_incoming_poll_fds(bench.pair.incoming, fds, UFFD_CLIENTS_MAX),
                     UFFD_CLIENTS_MAX);
    assert_int_equal(fds[UFFD_CLIENTS_MAX], -7);
    assert_int_equal(mapped_incoming_poll_fds(bench.pair.incoming, fds, G_N_ELEMENTS(fds)),
                     UFFD_CLIENTS_MAX + 2);
    last = (Reader){ aliases[UFFD_CLIENTS_MAX - 1] + 3 * PAGE, 0, 1, 0, 0 };
    thread = g_thread_new("other", read_pages, &last);
    wait_requests(&bench, 1);
    assert_int_equal(serve_requests(&bench), 1);
    wait_done(&bench, &last);
    g_thread_join(thread);
    for (guint i = 0; i < UFFD_CLIENTS_MAX; i++) {
        test_client_unshare(bench.pair.destination.client, i);
        munmap(aliases[i], PAGES * PAGE);
    }
    settle(&bench);
    assert_fine(&bench);
}

/* A guest that gives pages back while they are missing reads zeros from them, and what comes is
 * dropped. */
static void pages_that_the_guest_drops_meanwhile_stay_dropped(void **test)
{
    g_auto(Bench) bench = { 0 };
    Reader reader;
    GThread *threads[2];

    bench_init(&bench);
    bench.pair.destination.client->uffd_features = UFFD_FEATURE_EVENT_REMOVE;
    go_to_running(&bench);
    threads[0] = g_thread_new("balloon", drop_pages, bench.memory->maps[PRIVATE].at + 4 * PAGE);
    reader = (Reader){ bench.memory->maps[PRIVATE].at + 5 * PAGE, 0, 1, 0, 0 };
    g_usleep(10000);
    settle(&bench);
    g_thread_join(threads[0]);
    threads[1] = g_thread_new("vcpu", read_pages, &reader);
    wait_done(&bench, &reader);
    assert_int_equal(GPOINTER_TO_UINT(g_thread_join(threads[1])), 0);
    for (guint i = 0; i < PAGES; i++) {
        send_right(&bench, 0, PRIVATE, i);
        send_right(&bench, BULK, RAM, i);
        settle(&bench);
    }
    send_ram_end(&bench, bench.pages);
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(now(&bench), MAPPED_INCOMING_END);
    assert_true(is_right(&bench, PRIVATE, 3) && is_full_of(&bench, PRIVATE, 5, 0) &&
                is_right(&bench, PRIVATE, 8));
}

/* What is acknowledged to a source that gives it back to its host is in place, and with nobody who could be killed. */
static void pages_that_are_nowhere_else_are_in_place_when_they_are_acknowledged(void **test)
{
    g_auto(Bench) bench = { 0 };

    bench_init(&bench);
    bench.releases = TRUE;
    go_to_running(&bench);
    for (guint i = 0; i < PAGES; i++) {
        guint64 before = session_acked_bytes(bench.pair.source.session);

        send_right(&bench, 0, PRIVATE, i);
        send_right(&bench, BULK, RAM, i);
        while (session_acked_bytes(bench.pair.source.session) == before) {
            mapped_pair_turn(&bench.pair);
            assert_false(mapped_incoming_is_placing(bench.pair.incoming));
        }
        assert_true(is_right(&bench, PRIVATE, i));
    }
    send_ram_end(&bench, bench.pages);
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(now(&bench), MAPPED_INCOMING_END);
}

static void wait_readable(int fd)
{
    struct pollfd polled = { fd, POLLIN, 0 };

    assert_int_equal(poll(&polled, 1, 20000), 1);
}

/* It was placed in the background and dropped again, all before the machine has heard of it: who runs into it
 * then is not left to wait for a page that has come. */
static void a_page_that_is_dropped_before_it_is_known_to_have_come_is_zeros(void **test)
{
    g_auto(Bench) bench = { 0 };
    MappedIncoming *incoming;
    Reader reader;
    GThread *thread;
    guint8 *page;
    int fds[2];

    bench_init(&bench);
    go_to_running(&bench);
    incoming = bench.pair.incoming;
    page = bench.memory->maps[PRIVATE].at + 5 * PAGE;
    send_right(&bench, BULK, PRIVATE, 5);
    while (!mapped_incoming_is_placing(incoming))
        mapped_pair_turn(&bench.pair);
    assert_int_equal(mapped_incoming_poll_fds(incoming, fds, 2), 2);
    wait_readable(fds[1]);
    assert_int_equal(madvise(page, PAGE, MADV_DONTNEED), 0);
    reader = (Reader){ page, 0, 1, 0, 0 };
    thread = g_thread_new("vcpu", read_pages, &reader);
    wait_readable(fds[0]);
    mapped_incoming_on_readable(incoming, fds[0], g_get_monotonic_time());
    wait_done(&bench, &reader);
    assert_int_equal(GPOINTER_TO_UINT(g_thread_join(thread)), 0);
    assert_true(is_full_of(&bench, PRIVATE, 5, 0));
    assert_fine(&bench);
}

/* While it is not read that the guest drops pages the kernel places nothing: there is no room with the thread any
 * more, and what comes then is kept until there is. */
static void pages_that_are_dropped_while_there_is_no_room_stay_dropped(void **test)
{
    enum { DROPPED = 32 };
    g_auto(Bench) bench = { 0 };
    struct pollfd fd = { .events = POLLIN };
    Reader reader;
    GThread *threads[2];

    bench_init(&bench);
    bench.pair.destination.client->uffd_features = UFFD_FEATURE_EVENT_REMOVE;
    go_to_running(&bench);
    assert_true(mapped_incoming_poll_fds(bench.pair.incoming, &fd.fd, 1) == 1);
    threads[0] = g_thread_new("balloon", drop_pages,
                              bench.memory->maps[PRIVATE].at + DROPPED * PAGE);
    assert_int_equal(poll(&fd, 1, 20000), 1);
    bench.pair.deaf = TRUE;
    /* No two are neighbours: the seventeenth is the first that finds no room. */
    for (guint i = 0; i < PAGES; i += 2)
        send_right(&bench, 0, PRIVATE, i);
    for (guint i = 0; i < 200; i++)
        mapped_pair_turn(&bench.pair);
    assert_fine(&bench);
    bench.pair.deaf = FALSE;
    settle(&bench);
    g_thread_join(threads[0]);
    settle(&bench);
    reader = (Reader){ bench.memory->maps[PRIVATE].at + DROPPED * PAGE, 0, 1, 0, 0 };
    threads[1] = g_thread_new("vcpu", read_pages, &reader);
    wait_done(&bench, &reader);
    assert_int_equal(GPOINTER_TO_UINT(g_thread_join(threads[1])), 0);
    assert_true(is_right(&bench, PRIVATE, DROPPED - 2) &&
                is_full_of(&bench, PRIVATE, DROPPED, 0) &&
                is_right(&bench, PRIVATE, DROPPED + 4));
}

static void zeros_from_before_the_switch_are_not_asked_for(void **test)
{
    g_auto(Bench) bench = { 0 };
    Reader reader;
    GThread *thread;
    FrameType type;

    bench_init(&bench);
    go_to_advise(&bench);
    for (guint block = RAM; block <= PRIVATE; block++) {
        for (guint i = 0; i < PAGES; i++)
            send_zeros(&bench, 0, block, i, 0);
    }
    send_phase(&bench, MAPPED_PHASE_DISCARD);
    send_discard(&bench, RAM, PAGE, PAGE);
    send_phase(&bench, MAPPED_PHASE_RUNNING);
    settle(&bench);
    assert_int_equal(now(&bench), MAPPED_INCOMING_RUNNING);
    for (guint block = RAM; block <= PRIVATE; block++) {
        reader = (Reader){ bench.memory->maps[block].at + 2 * PAGE, PAGE, PAGES - 2, 0, 0 };
        thread = g_thread_new("vcpu", read_pages, &reader);
        wait_done(&bench, &reader);
        assert_int_equal(GPOINTER_TO_UINT(g_thread_join(thread)), 0);
    }
    assert_null(lane_received(bench.pair.source.lane[1], &type));
    send_right(&bench, 0, RAM, 1);
    send_ram_end(&bench, bench.pages);
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(now(&bench), MAPPED_INCOMING_END);
    assert_true(is_right(&bench, RAM, 1));
}

static void send_zero_run(Bench *bench, guint channel, guint block, guint64 first, guint n)
{
    QemuPage page = { block, first * PAGE, QEMU_PAGE_ZERO, 0, NULL, 0 };
    g_auto(PagesBatch) batch = { 0 };

    pages_batch_init(&batch, 0);
    assert_int_equal(pages_batch_add_zeros(&batch, &page, n, PAGE), n);
    send_batch(bench, channel, &batch);
    bench->pages += n;
}

static guint count_resident(const Bench *bench, guint block)
{
    unsigned char resident[PAGES];
    guint n = 0;

    assert_int_equal(mincore(bench->memory->maps[block].at, PAGES * PAGE, resident), 0);
    for (guint i = 0; i < PAGES; i++)
        n += resident[i] & 1;
    return n;
}

/* What was told the end may use its memory for something else. */
static void nothing_is_placed_after_the_session_has_ended(void **test)
{
    g_auto(Bench) bench = { 0 };
    guint64 here; /* a bit for each of its pages */
    guint resident;

    bench_init(&bench);
    go_to_running(&bench);
    for (guint i = 0; i < PAGES; i += 2)
        send_right(&bench, 0, PRIVATE, i);
    while (!mapped_incoming_is_placing(bench.pair.incoming))
        mapped_pair_turn(&bench.pair);
    mapped_incoming_on_session_end(bench.pair.incoming, SESSION_FAILED, "enough");
    resident = count_resident(&bench, PRIVATE);
    assert_false(mapped_incoming_is_placing(bench.pair.incoming));
    g_usleep(20000);
    assert_int_equal(count_resident(&bench, PRIVATE), resident);
    /* Those are known to be there. */
    assert_int_equal(pread(bench.memory->received_fd, &here, sizeof here, PRIVATE * sizeof here),
                     sizeof here);
    assert_int_equal(__builtin_popcountll(here), resident);
}

/* Who runs into them meanwhile gets them, and the source is not asked; in the end they are what is
 * there when nobody watches any more. */
static void zeros_are_here_without_being_placed(void **test)
{
    g_auto(Bench) bench = { 0 };
    FrameType type;

    bench_init(&bench);
    go_to_running(&bench);
    for (guint block = RAM; block <= PRIVATE; block++) {
        Reader reader = { bench.memory->maps[block].at + 20 * PAGE, 0, 1, 0, 0 };
        GThread *thread;

        send_right(&bench, 0, block, 0);
        send_zero_run(&bench, 0, block, 1, 50);
        settle(&bench);
        assert_fine(&bench);
        assert_int_equal(count_resident(&bench, block), 1);
        thread = g_thread_new("vcpu", read_pages, &reader);
        wait_done(&bench, &reader);
        g_thread_join(thread);
        /* And along with it those that follow, where that costs nothing. */
        assert_int_equal(count_resident(&bench, block), block == RAM ? 2 : 18);
    }
    assert_null(lane_received(bench.pair.source.lane[1], &type));
    for (guint block = RAM; block <= PRIVATE; block++) {
        send_zero_run(&bench, BULK, block, 40, PAGES - 40 - 1);
        settle(&bench);
        send_right(&bench, 0, block, PAGES - 1);
    }
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(count_resident(&bench, RAM), 3);
    assert_int_equal(stats_now(&bench).duplicates, 2 * 11);
    /* Before the source has said that this was all: should it be lost now, nobody waits. */
    for (guint block = RAM; block <= PRIVATE; block++) {
        for (guint i = 0; i < PAGES; i++)
            assert_true(i > 0 && i < PAGES - 1 ? is_full_of(&bench, block, i, 0)
                                               : is_right(&bench, block, i));
    }
    send_ram_end(&bench, bench.pages);
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(now(&bench), MAPPED_INCOMING_END);
}

static void zeros_that_somebody_waits_for_are_placed(void **test)
{
    g_auto(Bench) bench = { 0 };
    Reader readers[4];
    GThread *threads[4];

    bench_init(&bench);
    go_to_running(&bench);
    for (guint i = 0; i < 4; i++) {
        readers[i] = (Reader){ bench.memory->maps[i / 2].at + (10 + i % 2 * 7) * PAGE, 0, 1, 0, 0 };
        threads[i] = g_thread_new("vcpu", read_pages, &readers[i]);
    }
    wait_requests(&bench, 4);
    send_zero_run(&bench, 0, RAM, 0, PAGES);
    send_zero_run(&bench, BULK, PRIVATE, 5, 20);
    for (guint i = 0; i < 4; i++) {
        wait_done(&bench, &readers[i]);
        assert_int_equal(GPOINTER_TO_UINT(g_thread_join(threads[i])), 0);
    }
    settle(&bench);
    assert_int_equal(stats_now(&bench).requests_outstanding, 0);
    assert_int_equal(count_resident(&bench, RAM), 2);
    assert_int_equal(count_resident(&bench, PRIVATE), 2);
}

static void others_that_share_the_memory_get_zeros_and_are_let_go(void **test)
{
    g_auto(Bench) bench = { 0 };
    int uffd = uffd_open(0, FALSE, NULL, NULL);
    Reader reader;
    GThread *thread;
    guint8 *alias;

    bench_init(&bench);
    alias = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, bench.memory->maps[RAM].fd, 0);
    assert_true(alias != MAP_FAILED && uffd >= 0);
    test_client_share(bench.pair.destination.client, 5, RAM, alias, uffd);
    go_to_running(&bench);
    send_zero_run(&bench, 0, RAM, 0, PAGES);
    settle(&bench);
    reader = (Reader){ alias + 3 * PAGE, 0, 1, 0, 0 };
    thread = g_thread_new("other", read_pages, &reader);
    wait_done(&bench, &reader);
    g_thread_join(thread);
    send_zero_run(&bench, 0, PRIVATE, 0, PAGES);
    settle(&bench);
    assert_int_equal(alias[9 * PAGE], 0);
    /* Who comes now has nothing to wait for. */
    test_client_unshare(bench.pair.destination.client, 5);
    test_client_share(bench.pair.destination.client, 6, RAM, alias, uffd);
    settle(&bench);
    assert_int_equal(alias[12 * PAGE], 0);
    test_client_unshare(bench.pair.destination.client, 6);
    send_ram_end(&bench, bench.pages);
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(now(&bench), MAPPED_INCOMING_END);
    munmap(alias, PAGES * PAGE);
    close(uffd);
}

static void what_is_discarded_is_missing_in_memory_of_every_kind(void **test)
{
    g_auto(Bench) bench = { 0 };

    bench_init(&bench);
    go_to_advise(&bench);
    for (guint block = RAM; block <= PRIVATE; block++) {
        for (guint i = 0; i < PAGES; i++)
            send_zeros(&bench, 0, block, i, 0x77);
    }
    send_phase(&bench, MAPPED_PHASE_DISCARD);
    for (guint block = RAM; block <= PRIVATE; block++) {
        send_discard(&bench, block, 0, 8 * PAGE);
        send_discard(&bench, block, 16 * PAGE, PAGE);
    }
    send_phase(&bench, MAPPED_PHASE_RUNNING);
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(bench.pair.destination.client->discards, 2);
    for (guint block = RAM; block <= PRIVATE; block++) {
        for (guint i = 0; i < PAGES; i++) {
            unsigned char resident = 0xff;

            assert_int_equal(mincore(bench.memory->maps[block].at + i * PAGE, PAGE, &resident), 0);
            assert_int_equal(resident & 1, i >= 8 && i != 16);
        }
        for (guint i = 0; i < 17; i++) {
            if (i < 8 || i == 16)
                send_right(&bench, i % 2 ? 0 : BULK, block, i);
        }
    }
    settle(&bench);
    send_ram_end(&bench, bench.pages);
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(now(&bench), MAPPED_INCOMING_END);
    assert_true(is_right(&bench, RAM, 3) && is_full_of(&bench, PRIVATE, 20, 0x77));
}

/* As VMMs do it that want no surprises later: nothing is written there, and for lseek() it is a
 * hole, but the kernel has pages. */
static void pages_that_were_preallocated_are_missing_all_the_same(void **test)
{
    g_auto(Bench) bench = { 0 };

    bench_init(&bench);
    assert_return_code(fallocate(bench.memory->maps[RAM].fd, 0, 0, PAGES * PAGE), errno);
    go_to_running(&bench);
    for (guint block = RAM; block <= PRIVATE; block++) {
        for (guint i = 0; i < PAGES; i++)
            send_right(&bench, 0, block, i);
    }
    send_ram_end(&bench, bench.pages);
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(now(&bench), MAPPED_INCOMING_END);
    for (guint block = RAM; block <= PRIVATE; block++) {
        for (guint i = 0; i < PAGES; i++)
            assert_true(is_right(&bench, block, i));
    }
}

static void a_region_that_is_unmapped_is_an_error_that_names_it(void **test)
{
    g_auto(Bench) bench = { 0 };

    bench_init(&bench);
    go_to_running(&bench);
    munmap(bench.memory->maps[PRIVATE].at, bench.memory->maps[PRIVATE].length);
    bench.memory->maps[PRIVATE].at = NULL;
    send_right(&bench, 0, PRIVATE, 1);
    settle(&bench);
    assert_non_null(mapped_pair_failure(&bench.pair));
    assert_int_equal(session_state(bench.pair.source.session), SESSION_FAILED);
}

/* ---- huge pages ---- */

static void host_pages_are_placed_whole(void **test)
{
    const guint n = TEST_HUGE_PAGE / PAGE;
    g_auto(Bench) bench = { 0 };
    Reader reader;
    GThread *thread;

    if (!test_huge_pages_reserve(2 * HUGE_N))
        skip();
    bench_begin(&bench, huge_regions, 1);
    go_to_advise(&bench);
    send_right(&bench, 0, 0, 5);
    send_phase(&bench, MAPPED_PHASE_DISCARD);
    send_discard(&bench, 0, 0, HUGE_N * TEST_HUGE_PAGE);
    send_phase(&bench, MAPPED_PHASE_RUNNING);
    settle(&bench);
    assert_fine(&bench);
    reader = (Reader){ bench.memory->maps[0].at + TEST_HUGE_PAGE + 7 * PAGE, 0, 1, 0, 0 };
    thread = g_thread_new("vcpu", read_pages, &reader);
    for (guint i = 0; i < n; i++) {
        send_right(&bench, 0, 0, i);
        settle(&bench);
    }
    assert_true(is_right(&bench, 0, 5) && is_right(&bench, 0, n - 1));
    assert_int_equal(g_atomic_int_get(&reader.done), 0);
    while (!g_atomic_int_get(&reader.done)) {
        settle(&bench);
        serve_requests(&bench);
    }
    g_thread_join(thread);
    assert_true(is_right(&bench, 0, 2 * n - 1));
    send_ram_end(&bench, bench.pages);
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(now(&bench), MAPPED_INCOMING_END);
}

static void a_host_page_that_is_neither_here_nor_gone_is_refused(void **test)
{
    g_auto(Bench) bench = { 0 };

    if (!test_huge_pages_reserve(2 * HUGE_N))
        skip();
    bench_begin(&bench, huge_regions, 1);
    go_to_advise(&bench);
    send_right(&bench, 0, 0, 5);
    send_phase(&bench, MAPPED_PHASE_DISCARD);
    send_phase(&bench, MAPPED_PHASE_RUNNING);
    assert_failed(&bench,
                  "the page of 2097152 bytes at offset 0x0 of memory block 0 is neither here");
}

static void pages_of_another_host_page_may_not_come_between(void **test)
{
    g_auto(Bench) bench = { 0 };

    if (!test_huge_pages_reserve(2 * HUGE_N))
        skip();
    bench_begin(&bench, huge_regions, 1);
    go_to_advise(&bench);
    send_phase(&bench, MAPPED_PHASE_DISCARD);
    send_phase(&bench, MAPPED_PHASE_RUNNING);
    send_right(&bench, 0, 0, 0);
    send_right(&bench, 0, 0, TEST_HUGE_PAGE / PAGE);
    assert_failed(&bench, "before the host page under way is complete");
}

static int restore_huge_pages(void **test)
{
    test_huge_pages_restore();
    return 0;
}

/* ---- recovery ---- */

static guint64 received_pages(Bench *bench, guint block)
{
    Session *session = bench->pair.source.session;
    guint64 pages = 0;
    FrameType type;
    GBytes *bytes;

    while ((bytes = session_received(session, &type))) {
        ReceivedBody body;

        assert_int_equal(type, FRAME_RECEIVED);
        assert_true(received_body_decode(bytes, &body, NULL));
        if (body.block != block)
            break;
        for (gsize i = 0; i < body.len; i++)
            pages += (guint)__builtin_popcount(body.bytes[i]);
        session_consume(session);
    }
    return pages;
}

static void a_recovery_says_what_is_here_and_goes_on(void **test)
{
    g_auto(Bench) bench = { 0 };
    Reader reader;
    GThread *thread;

    bench_init(&bench);
    go_to_running(&bench);
    for (guint i = 0; i < 10; i++)
        send_right(&bench, 0, RAM, i);
    reader = (Reader){ bench.memory->maps[RAM].at + 20 * PAGE, 0, 1, 0, 0 };
    thread = g_thread_new("vcpu", read_pages, &reader);
    wait_requests(&bench, 1);
    mapped_pair_recover(&bench.pair);
    bench.pages = bench.urgent_frames = 0;
    send_blocks(&bench, MAPPED_RECOVERS);
    settle(&bench);
    assert_fine(&bench);
    assert_true(mapped_incoming_is_recovering(bench.pair.incoming));
    assert_int_equal(received_pages(&bench, RAM), 10);
    assert_int_equal(received_pages(&bench, PRIVATE), 0);
    send_phase(&bench, MAPPED_PHASE_RUNNING);
    settle(&bench);
    assert_int_equal(now(&bench), MAPPED_INCOMING_RUNNING);
    /* The thread has told a helper that is no more, and tells the new one. */
    wait_requests(&bench, 1);
    assert_int_equal(serve_requests(&bench), 1);
    wait_done(&bench, &reader);
    g_thread_join(thread);
    for (guint i = 10; i < PAGES; i++) {
        if (i != 20)
            send_right(&bench, 0, RAM, i);
    }
    for (guint i = 0; i < PAGES; i++)
        send_right(&bench, BULK, PRIVATE, i);
    settle(&bench);
    send_ram_end(&bench, bench.pages);
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(now(&bench), MAPPED_INCOMING_END);
    for (guint i = 0; i < PAGES; i++)
        assert_true(is_right(&bench, RAM, i) && is_right(&bench, PRIVATE, i));
}

static void a_guest_that_has_all_its_memory_says_so_in_a_recovery(void **test)
{
    g_auto(Bench) bench = { 0 };

    bench_init(&bench);
    go_to_advise(&bench);
    send_right(&bench, 0, RAM, 1);
    send_phase(&bench, MAPPED_PHASE_RUNNING);
    settle(&bench);
    mapped_pair_recover(&bench.pair);
    send_blocks(&bench, MAPPED_RECOVERS);
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(received_pages(&bench, RAM), PAGES);
    assert_int_equal(received_pages(&bench, PRIVATE), PAGES);
    send_phase(&bench, MAPPED_PHASE_RUNNING);
    send_ram_end(&bench, 0);
    settle(&bench);
    assert_fine(&bench);
    assert_int_equal(now(&bench), MAPPED_INCOMING_END);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_frame_in_every_state_has_a_row_or_is_refused_by_name),
        cmocka_unit_test(frames_that_a_memory_client_has_no_use_for_are_refused),
        cmocka_unit_test(blocks_that_differ_are_refused_with_both_values),
        cmocka_unit_test(a_recovery_that_only_one_side_knows_of_is_refused),
        cmocka_unit_test(the_order_of_blocks_is_the_sources),
        cmocka_unit_test(the_last_one_of_a_page_counts_before_the_switch_over),
        cmocka_unit_test(zeros_take_no_memory),
        cmocka_unit_test(a_migration_can_end_before_the_switch),
        cmocka_unit_test(bad_pages_are_refused_by_what_is_wrong),
        cmocka_unit_test(bad_discards_are_refused),
        cmocka_unit_test(pages_that_were_not_sent_are_missed),
        cmocka_unit_test(a_client_that_fails_ends_the_session_in_its_words),
        cmocka_unit_test(a_client_that_refuses_ends_the_session),
        cmocka_unit_test(a_client_that_cancels_is_told_so),
        cmocka_unit_test(what_the_client_does_after_the_end_is_its_own_affair),
        cmocka_unit_test(many_threads_wait_for_pages_and_each_page_is_asked_for_once),
        cmocka_unit_test(a_page_that_comes_meanwhile_wakes_who_waits),
        cmocka_unit_test(the_time_in_which_all_vcpus_wait_is_counted),
        cmocka_unit_test(others_that_share_the_memory_wait_and_are_woken),
        cmocka_unit_test(as_many_as_can_share_the_memory_are_all_served),
        cmocka_unit_test(pages_that_the_guest_drops_meanwhile_stay_dropped),
        cmocka_unit_test(pages_that_are_dropped_while_there_is_no_room_stay_dropped),
        cmocka_unit_test(nothing_is_placed_after_the_session_has_ended),
        cmocka_unit_test(pages_that_are_nowhere_else_are_in_place_when_they_are_acknowledged),
        cmocka_unit_test(a_page_that_is_dropped_before_it_is_known_to_have_come_is_zeros),
        cmocka_unit_test(zeros_from_before_the_switch_are_not_asked_for),
        cmocka_unit_test(zeros_are_here_without_being_placed),
        cmocka_unit_test(zeros_that_somebody_waits_for_are_placed),
        cmocka_unit_test(others_that_share_the_memory_get_zeros_and_are_let_go),
        cmocka_unit_test(what_is_discarded_is_missing_in_memory_of_every_kind),
        cmocka_unit_test(pages_that_were_preallocated_are_missing_all_the_same),
        cmocka_unit_test(a_region_that_is_unmapped_is_an_error_that_names_it),
        cmocka_unit_test_teardown(host_pages_are_placed_whole, restore_huge_pages),
        cmocka_unit_test_teardown(a_host_page_that_is_neither_here_nor_gone_is_refused,
                                  restore_huge_pages),
        cmocka_unit_test_teardown(pages_of_another_host_page_may_not_come_between,
                                  restore_huge_pages),
        cmocka_unit_test(a_recovery_says_what_is_here_and_goes_on),
        cmocka_unit_test(a_guest_that_has_all_its_memory_says_so_in_a_recovery),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
