/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The page sender with a supply of the test's: which page goes where, and in what. What comes out is read at
 * the other end of each channel. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "ram/page_sender.h"
#include "tests/support/engine-pair.h"

#define WINDOW (1024 * 1024)
#define TARGET RAM_TARGET_PAGE_DEFAULT
#define HOST_RECORDS 64 /* of a host page of block 1: too many for a frame */
#define PAGES_MAX 4096

/* Block 0 has small pages, block 1 large ones. The first bytes of each page say which it is. */
typedef struct {
    PageSupply base;
    guint next[2];  /* the host page of each block that goes next */
    guint n[2];
    GQueue urgent;  /* of SupplyPage */
    gboolean clean; /* every other target page is not sent */
    guint out;      /* handed out and not done */
    guint done;
    guint8 data[TARGET];
} Supply;

typedef struct {
    Supply supply;
    EnginePair pair;
    ModelGuest guest;
    RamBlocks *blocks;
    PageSender *sender;
    guint seen[2][PAGES_MAX]; /* how often a target page has come */
    guint frames[PAIR_CHANNELS];
    guint pages[PAIR_CHANNELS];
    guint last[PAIR_CHANNELS]; /* target page of block 1 on it, and 1 */
    guint runs; /* target pages that lay behind the one before */
} Bench;

/* ---- the supply ---- */

static SupplyPage host_page(guint block, guint number)
{
    guint records = block == 0 ? 1 : HOST_RECORDS;

    return (SupplyPage){ block, (guint64)number * records * TARGET, records, NULL };
}

static gboolean supply_next(PageSupply *base, SupplyPage *ret_page)
{
    Supply *s = (Supply *)base;
    guint block = s->next[0] < s->n[0] ? 0 : 1;

    if (s->next[block] == s->n[block])
        return FALSE;
    *ret_page = host_page(block, s->next[block]++);
    s->out++;
    return TRUE;
}

static gboolean supply_next_urgent(PageSupply *base, SupplyPage *ret_page)
{
    Supply *s = (Supply *)base;
    SupplyPage *page = g_queue_pop_head(&s->urgent);

    if (!page)
        return FALSE;
    *ret_page = *page;
    g_free(page);
    s->out++;
    return TRUE;
}

static gboolean supply_record(PageSupply *base, const SupplyPage *page, guint i, QemuPage *ret_page)
{
    Supply *s = (Supply *)base;

    if (s->clean && (page->offset / TARGET + i) % 2)
        return FALSE;
    ret_page->kind = QEMU_PAGE_RAW;
    ret_page->data = s->data;
    ret_page->data_len = TARGET;
    return TRUE;
}

static void supply_done(PageSupply *base, SupplyPage *page, gboolean urgent)
{
    ((Supply *)base)->out--;
    ((Supply *)base)->done++;
}

static const PageSupplyOps supply_ops = { supply_next, supply_next_urgent, supply_record,
                                          supply_done };

static void want(Bench *b, SupplyPage page)
{
    SupplyPage *copy = g_new(SupplyPage, 1);

    *copy = page;
    g_queue_push_tail(&b->supply.urgent, copy);
}

/* ---- the bench ---- */

static const ModelBlock no_blocks[] = { { "pc.ram", MODEL_PAGE, 1, 0 } };

static void bench_init(Bench *b, guint small, guint large, guint bulk)
{
    EngineSetup setup = { .window = WINDOW, .stage = WINDOW, .qemu_buffer = 1, .most = 1,
                          .bulk = bulk };
    PageSenderConfig config = { .window = WINDOW, .compress = PAGE_COMPRESS_OFF };
    guint index;

    *b = (Bench){ .supply = { .base.ops = &supply_ops, .n = { small, large } } };
    g_queue_init(&b->supply.urgent);
    model_guest_init(&b->guest, no_blocks, 1, 1);
    engine_pair_init(&b->pair, &setup, &b->guest, 1);
    b->blocks = ram_blocks_new();
    ram_blocks_add(b->blocks, (const guint8 *)"small", 5, (guint64)PAGES_MAX * TARGET, TARGET,
                   &index, NULL);
    ram_blocks_add(b->blocks, (const guint8 *)"large", 5, (guint64)PAGES_MAX * TARGET,
                   HOST_RECORDS * TARGET, &index, NULL);
    b->sender = page_sender_new(&config, &b->supply.base, b->blocks, b->pair.source.session);
    page_sender_set_lane(b->sender, b->pair.source.lane);
    for (guint i = 0; i < bulk; i++)
        page_sender_add_bulk(b->sender, b->pair.source.lanes[PAIR_BULK + i]);
}

static void bench_clear(Bench *b)
{
    page_sender_free(b->sender);
    g_queue_clear_full(&b->supply.urgent, g_free);
    ram_blocks_free(b->blocks);
    engine_pair_clear(&b->pair);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Bench, bench_clear)

/* A host page stays on one channel, and its target pages in order. */
static void see_large(Bench *b, guint channel, guint number)
{
    if (number % HOST_RECORDS != 0 && !b->supply.clean)
        assert_int_equal(b->last[channel], number);
    b->last[channel] = number + 1;
}

static void see_body(Bench *b, guint channel, GBytes *body)
{
    g_autoptr(PagesReader) reader = pages_reader_new(TARGET);
    const guint8 *behind = NULL;
    gboolean more = TRUE;
    QemuPage page;

    b->frames[channel]++;
    assert_true(pages_reader_begin(reader, body, NULL));
    for (;;) {
        assert_true(pages_reader_next(reader, b->blocks, &page, &more, NULL));
        if (!more)
            return;
        b->seen[page.block][page.offset / TARGET]++;
        b->pages[channel]++;
        b->runs += page.data == behind;
        behind = page.data + page.data_len;
        if (page.block == 1)
            see_large(b, channel, (guint)(page.offset / TARGET));
    }
}

/* Everything that was sent is read, and acknowledged. */
static void read_all(Bench *b)
{
    EngineEnd *end = &b->pair.destination;
    FrameType type;
    GBytes *body;

    engine_pair_move_links(&b->pair);
    while ((body = session_received(end->session, &type))) {
        see_body(b, PAIR_MAIN, body);
        session_consume(end->session);
    }
    for (guint i = PAIR_PREEMPT; i < PAIR_CHANNELS; i++) {
        while (end->lanes[i] && (body = lane_received(end->lanes[i], &type))) {
            see_body(b, i, body);
            lane_consume(end->lanes[i]);
        }
    }
    engine_pair_move_links(&b->pair);
}

static void send_all(Bench *b)
{
    for (guint i = 0; i < 1000 && !(page_sender_is_idle(b->sender) && i > 0 &&
                                    page_sender_is_acked(b->sender)); i++) {
        b->pair.now_us += 100;
        page_sender_update(b->sender, b->pair.now_us);
        page_sender_send(b->sender, b->pair.now_us);
        read_all(b);
    }
}

static void assert_once_each(const Bench *b, guint block, guint n, guint step)
{
    for (guint i = 0; i < n; i++) {
        if (b->seen[block][i] != (i % step == 0))
            fail_msg("page %u of block %u has come %u times", i, block, b->seen[block][i]);
    }
}

/* ---- tests ---- */

static void pages_in_a_row_go_in_runs(void **state)
{
    g_auto(Bench) b;

    bench_init(&b, 200, 0, 0);
    send_all(&b);
    assert_once_each(&b, 0, 200, 1);
    assert_int_equal(b.pages[PAIR_MAIN], 200);
    /* All but the first of each frame. */
    assert_int_equal(b.runs, 200 - b.frames[PAIR_MAIN]);
    assert_int_equal(page_sender_pages(b.sender), 200);
    assert_int_equal(b.supply.out, 0);
}

static void each_channel_has_its_turn(void **state)
{
    g_auto(Bench) b;
    RamEnd end;

    bench_init(&b, 1000, 12, 3);
    send_all(&b);
    assert_once_each(&b, 0, 1000, 1);
    assert_once_each(&b, 1, 12 * HOST_RECORDS, 1);
    assert_int_equal(b.pages[PAIR_PREEMPT], 0);
    for (guint i = PAIR_BULK; i < PAIR_BULK + 3; i++)
        assert_in_range(b.pages[i], 200, 800);
    page_sender_ram_end(b.sender, &end);
    assert_int_equal(end.pages, 1000 + 12 * HOST_RECORDS);
    assert_int_equal(end.preempt_seq, 0);
    assert_int_equal(end.n_bulk, 3);
    for (guint i = 0; i < 3; i++)
        assert_int_equal(end.bulk_seq[i], b.frames[PAIR_BULK + i]);
}

static void channel_that_is_lost_gets_nothing_more(void **state)
{
    g_auto(Bench) b;
    guint had[PAIR_CHANNELS];

    bench_init(&b, 1000, 0, 2);
    page_sender_send(b.sender, 1);
    read_all(&b);
    memcpy(had, b.pages, sizeof had);
    assert_true(had[PAIR_MAIN] > 0 && had[PAIR_BULK] > 0 && had[PAIR_BULK + 1] > 0);
    lane_on_channel_lost(b.pair.source.lanes[PAIR_BULK], "cut");
    session_on_channel_lost(b.pair.source.session, "cut");
    send_all(&b);
    assert_int_equal(b.pages[PAIR_MAIN], had[PAIR_MAIN]);
    assert_int_equal(b.pages[PAIR_BULK], had[PAIR_BULK]);
    assert_int_equal(b.pages[PAIR_BULK + 1], 1000 - had[PAIR_MAIN] - had[PAIR_BULK] -
                                                 (b.supply.out));
    assert_true(b.supply.out <= 2); /* what was begun for the others */
}

static void page_that_is_waited_for_goes_alone(void **state)
{
    g_auto(Bench) b;

    bench_init(&b, 0, 0, 1);
    want(&b, host_page(0, 7));
    want(&b, host_page(0, 8));
    want(&b, host_page(1, 1));
    page_sender_send_urgent(b.sender);
    read_all(&b);
    assert_int_equal(b.pages[PAIR_PREEMPT], 2 + HOST_RECORDS);
    assert_true(b.frames[PAIR_PREEMPT] >= 2 + HOST_RECORDS * TARGET / PAGES_PLAIN_MAX);
    assert_int_equal(b.supply.done, 3);
}

static void page_that_is_begun_is_hurried_and_another_given_back(void **state)
{
    g_auto(Bench) b;
    SupplyPage given = { 0 };
    gboolean any = FALSE;

    bench_init(&b, 0, 40, 2);
    page_sender_send(b.sender, 1);
    /* The flows are full: what is under way stands still on every channel. */
    for (guint i = 0; i < 3; i++) {
        switch (page_sender_recall(b.sender, 1, host_page(1, i).offset, &given)) {
        case PAGE_RECALL_BEGUN:
            any = TRUE;
            break;
        case PAGE_RECALL_GIVEN:
            assert_int_equal(given.offset, host_page(1, i).offset);
            break;
        case PAGE_RECALL_NONE:
            break;
        }
    }
    assert_true(any);
    assert_int_equal(page_sender_recall(b.sender, 1, host_page(1, 30).offset, &given),
                     PAGE_RECALL_NONE);
    page_sender_send(b.sender, 1);
    read_all(&b);
    /* Without an acknowledgement: all of them is there. */
    for (guint page = 0; page < 3; page++) {
        for (guint i = 1; i < HOST_RECORDS; i++)
            assert_int_equal(b.seen[1][page * HOST_RECORDS + i], b.seen[1][page * HOST_RECORDS]);
    }
}

static void pages_that_need_not_go_are_left_out(void **state)
{
    g_auto(Bench) b;

    bench_init(&b, 501, 3, 1);
    b.supply.clean = TRUE;
    send_all(&b);
    assert_once_each(&b, 0, 501, 2);
    assert_once_each(&b, 1, 3 * HOST_RECORDS, 2);
    assert_int_equal(b.supply.done, 504);
    assert_int_equal(page_sender_pages(b.sender), 251 + 3 * HOST_RECORDS / 2);
}

static void what_was_handed_out_is_given_back_at_the_end(void **state)
{
    g_auto(Bench) b;

    bench_init(&b, 0, 40, 2);
    page_sender_send(b.sender, 1);
    assert_true(b.supply.out > 0);
    g_clear_pointer(&b.sender, page_sender_free);
    assert_int_equal(b.supply.out, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_in_a_row_go_in_runs),
        cmocka_unit_test(each_channel_has_its_turn),
        cmocka_unit_test(channel_that_is_lost_gets_nothing_more),
        cmocka_unit_test(page_that_is_waited_for_goes_alone),
        cmocka_unit_test(page_that_is_begun_is_hurried_and_another_given_back),
        cmocka_unit_test(pages_that_need_not_go_are_left_out),
        cmocka_unit_test(what_was_handed_out_is_given_back_at_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
