/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/memory_proof.h"

#include <glib/gi18n.h>
#include <inttypes.h>
#include <string.h>

#define PAGE_ALIGN 4096
/* Where QEMU aligns its anonymous memory to; a mapping may have grown together with the one before
 * it. */
#define HUGE_ALIGN (2 * 1024 * 1024)
/* Places for one block. With more, those in the mappings that fit worst are left out. */
#define CANDIDATES_MAX 64
/* With more than one place where they are all right it will not be told apart by more of them. */
#define SAMPLES_MAX 256

/* A page that came, until it is compared. */
typedef struct {
    guint block;
    guint64 offset;
    guint64 due; /* bytes of the stream */
    gsize len;
    guint8 *bytes;
} Sample;

typedef struct {
    guint64 address;
    guint64 surplus; /* of its mapping, over the length of the block */
    guint matched;
} Candidate;

typedef struct {
    MemoryVerdict verdict;
    guint64 address;
    GArray *candidates; /* of Candidate; NULL once it is decided */
    GHashTable *seen;   /* contents that came: guint64 hash */
    guint n_compared;
    gboolean has_last;
    guint64 last_offset;
} BlockProof;

struct MemoryProof {
    const RamBlocks *blocks;
    MemoryReader *reader;
    BlockProof *proofs;
    guint n;
    GQueue samples; /* of Sample, oldest first */
    guint64 stream; /* bytes so far */
    guint8 *buf;    /* a target page */
};

/* ---- candidates ---- */

gboolean memory_ranges_check(const MemoryRange *ranges, gsize n, GError **error)
{
    guint64 last = 0;

    for (gsize i = 0; i < n; i++) {
        const MemoryRange *r = &ranges[i];

        if (r->start < last || r->end <= r->start || r->start % PAGE_ALIGN || r->end % PAGE_ALIGN ||
            r->end > G_MAXINT64) {
            g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID,
                        _("range of memory %zu is 0x%" PRIx64 " to 0x%" PRIx64
                          ": must be made of pages, after the one before"),
                        i, r->start, r->end);
            return FALSE;
        }
        last = r->end;
    }
    if (n <= MEMORY_RANGES_MAX)
        return TRUE;
    g_set_error(error, RAM_ERROR, RAM_ERROR_INVALID, _("%zu ranges of memory, at most %d"), n,
                MEMORY_RANGES_MAX);
    return FALSE;
}

static gint compare_candidates(gconstpointer a, gconstpointer b)
{
    const Candidate *x = a, *y = b;

    if (x->surplus != y->surplus)
        return x->surplus < y->surplus ? -1 : 1;
    return x->address < y->address ? -1 : x->address > y->address;
}

/* In order, and no more than CANDIDATES_MAX: a process may have very many mappings. */
static void keep_candidate(GArray *candidates, const Candidate *candidate)
{
    guint at = 0;

    if (candidates->len == CANDIDATES_MAX &&
        compare_candidates(&g_array_index(candidates, Candidate, CANDIDATES_MAX - 1), candidate) <= 0)
        return;
    for (guint i = 0; i < candidates->len; i++) {
        const Candidate *other = &g_array_index(candidates, Candidate, i);

        if (other->address != candidate->address)
            continue;
        if (other->surplus <= candidate->surplus)
            return;
        g_array_remove_index(candidates, i);
        break;
    }
    while (at < candidates->len &&
           compare_candidates(&g_array_index(candidates, Candidate, at), candidate) < 0)
        at++;
    g_array_insert_vals(candidates, at, candidate, 1);
    if (candidates->len > CANDIDATES_MAX)
        g_array_set_size(candidates, CANDIDATES_MAX);
}

/* run_end: of all mappings that follow one another without a hole. */
static void add_candidate(GArray *candidates, const RamBlock *block, guint64 address,
                          guint64 run_start, guint64 run_end, guint64 surplus)
{
    Candidate candidate = { .address = address, .surplus = surplus };

    if (address >= run_start && address <= run_end && run_end - address >= block->length &&
        address % MAX(block->page_size, (guint64)PAGE_ALIGN) == 0)
        keep_candidate(candidates, &candidate);
}

static GArray *find_candidates(const RamBlock *block, const MemoryRange *ranges, gsize n)
{
    GArray *candidates = g_array_new(FALSE, TRUE, sizeof(Candidate));

    for (gsize first = 0, end; first < n; first = end) {
        guint64 run_end = ranges[first].end;

        for (end = first + 1; end < n && ranges[end].start == run_end; end++)
            run_end = ranges[end].end;
        for (gsize i = first; i < end; i++) {
            const MemoryRange *r = &ranges[i];
            guint64 len = r->end - r->start;
            guint64 surplus = len > block->length ? len - block->length : block->length - len;
            guint64 aligned = (r->start + HUGE_ALIGN - 1) / HUGE_ALIGN * HUGE_ALIGN;

            add_candidate(candidates, block, r->start, r->start, run_end, surplus);
            add_candidate(candidates, block, aligned, r->start, run_end, surplus);
            if (len >= block->length)
                add_candidate(candidates, block, r->end - block->length, r->start, run_end,
                              surplus);
        }
    }
    return candidates;
}

static void decide(BlockProof *p, MemoryVerdict verdict)
{
    p->verdict = verdict;
    g_clear_pointer(&p->candidates, g_array_unref);
    g_clear_pointer(&p->seen, g_hash_table_unref);
}

static void begin(BlockProof *p, const RamBlock *block, const MemoryRange *ranges, gsize n)
{
    p->verdict = MEMORY_NOWHERE;
    if (block->length < MEMORY_PROOF_BLOCK_MIN || block->page_size > MEMORY_WINDOW_MAX)
        return;
    p->candidates = find_candidates(block, ranges, n);
    p->seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    p->verdict = MEMORY_UNPROVED;
    if (p->candidates->len == 0)
        decide(p, MEMORY_NOWHERE);
}

/* ---- life ---- */

MemoryProof *memory_proof_new(const RamBlocks *blocks, MemoryReader *reader,
                              const MemoryRange *ranges, gsize n_ranges, GError **error)
{
    MemoryProof *proof;

    if (!memory_ranges_check(ranges, n_ranges, error))
        return NULL;
    proof = g_new0(MemoryProof, 1);
    proof->blocks = blocks;
    proof->reader = reader;
    proof->n = ram_blocks_count(blocks);
    proof->proofs = g_new0(BlockProof, proof->n);
    proof->buf = g_malloc(ram_blocks_target_page(blocks));
    g_queue_init(&proof->samples);
    for (guint i = 0; i < proof->n; i++)
        begin(&proof->proofs[i], ram_blocks_get(blocks, i), ranges, n_ranges);
    return proof;
}

static void sample_free(Sample *sample)
{
    g_free(sample->bytes);
    g_free(sample);
}

void memory_proof_free(MemoryProof *proof)
{
    if (!proof)
        return;
    for (guint i = 0; i < proof->n; i++)
        decide(&proof->proofs[i], MEMORY_NOWHERE);
    g_queue_clear_full(&proof->samples, (GDestroyNotify)sample_free);
    g_free(proof->proofs);
    g_free(proof->buf);
    g_free(proof);
}

/* ---- comparing ---- */

/* Two blocks cannot be at one place. */
static gboolean is_taken(const MemoryProof *proof, guint block, guint64 address)
{
    guint64 len = ram_blocks_get(proof->blocks, block)->length;

    for (guint i = 0; i < proof->n; i++) {
        const BlockProof *other = &proof->proofs[i];

        if (i != block && other->verdict == MEMORY_PROVED && address < other->address +
                ram_blocks_get(proof->blocks, i)->length && other->address < address + len)
            return TRUE;
    }
    return FALSE;
}

static void judge(MemoryProof *proof, guint block)
{
    BlockProof *p = &proof->proofs[block];
    const Candidate *only;

    if (p->candidates->len == 0) {
        decide(p, MEMORY_NOWHERE);
        return;
    }
    only = &g_array_index(p->candidates, Candidate, 0);
    if (++p->n_compared == SAMPLES_MAX) {
        decide(p, MEMORY_NOWHERE);
        return;
    }
    if (p->candidates->len > 1 || only->matched < MEMORY_PROOF_ENOUGH)
        return;
    p->address = only->address;
    decide(p, is_taken(proof, block, p->address) ? MEMORY_NOWHERE : MEMORY_PROVED);
}

/* What cannot be read is not the page either. TRUE: that decided it. */
static gboolean compare(MemoryProof *proof, const Sample *sample)
{
    BlockProof *p = &proof->proofs[sample->block];

    if (p->verdict != MEMORY_UNPROVED)
        return FALSE;
    for (guint i = p->candidates->len; i-- > 0;) {
        Candidate *candidate = &g_array_index(p->candidates, Candidate, i);

        if (memory_reader_read(proof->reader, candidate->address + sample->offset, proof->buf,
                               sample->len, NULL) &&
            memcmp(proof->buf, sample->bytes, sample->len) == 0)
            candidate->matched++;
        else
            g_array_remove_index(p->candidates, i);
    }
    judge(proof, sample->block);
    return p->verdict != MEMORY_UNPROVED;
}

static gboolean compare_due(MemoryProof *proof)
{
    gboolean news = FALSE;
    Sample *sample;

    while ((sample = g_queue_peek_head(&proof->samples)) && sample->due <= proof->stream) {
        news |= compare(proof, sample);
        sample_free(g_queue_pop_head(&proof->samples));
    }
    return news;
}

/* ---- samples ---- */

static gboolean is_zero(const guint8 *bytes, gsize len)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

/* Any function of all bytes would do: two pages with one hash are one page less to compare. */
static guint64 hash_of(const guint8 *bytes, gsize len)
{
    guint64 hash = G_GUINT64_CONSTANT(0xcbf29ce484222325);

    for (gsize i = 0; i + sizeof(guint64) <= len; i += sizeof(guint64)) {
        guint64 word;

        memcpy(&word, bytes + i, sizeof word);
        hash = (hash ^ word) * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    return hash;
}

static gboolean wants(const BlockProof *p, const QemuPage *page)
{
    if (p->verdict != MEMORY_UNPROVED || page->kind != QEMU_PAGE_RAW)
        return FALSE;
    return !p->has_last || page->offset >= p->last_offset + MEMORY_PROOF_SPACING ||
           page->offset + MEMORY_PROOF_SPACING <= p->last_offset;
}

static void take_sample(MemoryProof *proof, const QemuPage *page)
{
    BlockProof *p = &proof->proofs[page->block];
    Sample *sample;
    guint64 hash;

    if (!wants(p, page) || page->data_len != ram_blocks_target_page(proof->blocks) ||
        is_zero(page->data, page->data_len))
        return;
    hash = hash_of(page->data, page->data_len);
    if (!g_hash_table_add(p->seen, g_memdup(&hash, sizeof hash)))
        return;
    p->has_last = TRUE;
    p->last_offset = page->offset;
    sample = g_new(Sample, 1);
    *sample = (Sample){ page->block, page->offset, proof->stream + MEMORY_PROOF_LAG, page->data_len,
                        g_memdup(page->data, (guint)page->data_len) };
    g_queue_push_tail(&proof->samples, sample);
}

gboolean memory_proof_on_page(MemoryProof *proof, const QemuPage *page)
{
    gboolean news;

    proof->stream += page->data_len;
    news = compare_due(proof);
    if (page->block < proof->n)
        take_sample(proof, page);
    return news;
}

/* ---- asking ---- */

MemoryVerdict memory_proof_verdict(const MemoryProof *proof, guint block, guint64 *ret_address)
{
    const BlockProof *p = &proof->proofs[block];

    if (p->verdict == MEMORY_PROVED)
        *ret_address = p->address;
    return p->verdict;
}

gboolean memory_proof_is_over(const MemoryProof *proof)
{
    for (guint i = 0; i < proof->n; i++) {
        if (proof->proofs[i].verdict == MEMORY_UNPROVED)
            return FALSE;
    }
    return TRUE;
}
