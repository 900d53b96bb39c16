/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "client/handover.h"

#include <stdio.h>
#include <string.h>

/* Walks a message's body in either direction, so that there is one description of each. After
 * the first thing that is wrong nothing more is read or written. */
typedef struct {
    bool writes;
    uint8_t *out;        /* writes: HANDOVER_MESSAGE_MAX bytes */
    const uint8_t *in;   /* reads */
    size_t len;          /* reads: of in */
    size_t at;
    const char *wrong;   /* the field; NULL: none */
    const char *why;
} Codec;

static const char *const type_names[] = {
    [HANDOVER_HELLO] = "HELLO",
    [HANDOVER_WELCOME] = "WELCOME",
    [HANDOVER_REFUSED] = "REFUSED",
    [HANDOVER_REGIONS] = "REGIONS",
    [HANDOVER_MEMORY] = "MEMORY",
    [HANDOVER_ADVISE] = "ADVISE",
    [HANDOVER_PAUSE] = "PAUSE",
    [HANDOVER_THROTTLE] = "THROTTLE",
    [HANDOVER_RESUME] = "RESUME",
    [HANDOVER_LOG_SYNC] = "LOG_SYNC",
    [HANDOVER_DISCARD] = "DISCARD",
    [HANDOVER_LISTEN] = "LISTEN",
    [HANDOVER_DEVICE] = "DEVICE",
    [HANDOVER_RUN] = "RUN",
    [HANDOVER_STATE] = "STATE",
    [HANDOVER_END] = "END",
    [HANDOVER_NO_RETURN] = "NO_RETURN",
    [HANDOVER_ADVISED] = "ADVISED",
    [HANDOVER_PAUSED] = "PAUSED",
    [HANDOVER_SYNCED] = "SYNCED",
    [HANDOVER_LISTENING] = "LISTENING",
    [HANDOVER_DISCARDED] = "DISCARDED",
    [HANDOVER_RUNNING] = "RUNNING",
    [HANDOVER_FAILED] = "FAILED",
    [HANDOVER_GIVEN_UP] = "GIVEN_UP",
    [HANDOVER_FREE_HINTS] = "FREE_HINTS",
    [HANDOVER_START_POSTCOPY] = "START_POSTCOPY",
    [HANDOVER_CONTINUE] = "CONTINUE",
    [HANDOVER_CANCEL] = "CANCEL",
    [HANDOVER_PARAMS] = "PARAMS",
    [HANDOVER_SHARED] = "SHARED",
    [HANDOVER_UNSHARED] = "UNSHARED",
    [HANDOVER_CHECKPOINT] = "CHECKPOINT",
    [HANDOVER_FAILOVER] = "FAILOVER",
    [HANDOVER_VCPUS] = "VCPUS",
};

#define N_TYPES (sizeof(type_names) / sizeof(type_names[0]))

const char *handover_type_name(uint16_t type)
{
    return type < N_TYPES && type_names[type] ? type_names[type] : "?";
}

static void fail(Codec *c, const char *field, const char *why)
{
    if (c->wrong)
        return;
    c->wrong = field;
    c->why = why;
}

static bool has_room(Codec *c, const char *field, size_t len)
{
    size_t end = c->writes ? HANDOVER_MESSAGE_MAX : c->len;

    if (c->wrong)
        return false;
    if (len <= end - c->at)
        return true;
    fail(c, field, c->writes ? "does not fit" : "is cut off");
    return false;
}

static uint64_t number(Codec *c, const char *field, size_t width, uint64_t value)
{
    uint64_t ret = 0;

    if (!has_room(c, field, width))
        return 0;
    for (size_t i = 0; i < width; i++) {
        if (c->writes)
            c->out[c->at + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
        else
            ret = ret << 8 | c->in[c->at + i];
    }
    c->at += width;
    return c->writes ? value : ret;
}

#define NUMBER(c, field, lvalue) \
    ((lvalue) = (__typeof__(lvalue))number((c), (field), sizeof(lvalue), \
                                           (c)->writes ? (lvalue) : 0))

/* At most max, or it is refused. */
#define LIMITED(c, field, lvalue, max) \
    do { \
        NUMBER((c), (field), (lvalue)); \
        if ((lvalue) > (max)) \
            fail((c), (field), "is too large"); \
    } while (0)

/* How long the character at the head of bytes is; 0: it is none, or a control character. */
static size_t utf8_length(const uint8_t *b, size_t len)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    size_t n = b[0] < 0x80 ? 1 : b[0] >> 5 == 6 ? 2 : b[0] >> 4 == 14 ? 3 : b[0] >> 3 == 30 ? 4 : 0;
    uint32_t c = n == 1 ? b[0] : b[0] & (0x7fu >> n);

    if (n == 0 || n > len)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((b[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (b[i] & 0x3f);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    return c < 0x20 || (c >= 0x7f && c < 0xa0) ? 0 : n;
}

static void text(Codec *c, const char *field, HandoverText *t, size_t max)
{
    const uint8_t *bytes;
    size_t n;

    LIMITED(c, field, t->len, max);
    if (!has_room(c, field, t->len))
        return;
    if (c->writes && t->len > 0)
        memcpy(c->out + c->at, t->bytes, t->len);
    bytes = c->writes ? c->out + c->at : c->in + c->at;
    for (size_t i = 0; i < t->len; i += n) {
        n = utf8_length(bytes + i, t->len - i);
        if (n == 0) {
            fail(c, field, "is not one line of UTF-8");
            return;
        }
    }
    if (!c->writes)
        t->bytes = (const char *)bytes;
    c->at += t->len;
}

static void boolean(Codec *c, const char *field, uint8_t *value)
{
    NUMBER(c, field, *value);
    if (*value > 1)
        fail(c, field, "is neither 0 nor 1");
}

static void range(Codec *c, const char *field, uint64_t *start, uint64_t *length)
{
    NUMBER(c, field, *start);
    NUMBER(c, field, *length);
    if (*length == 0)
        fail(c, field, "is empty");
    else if (*start + *length < *start)
        fail(c, field, "goes beyond the end of addresses");
}

static void hello(Codec *c, HandoverMessage *m)
{
    NUMBER(c, "version", m->hello.version);
    if (!c->writes && m->hello.version != HANDOVER_VERSION) {
        /* What another version looks like from here on is not known. */
        c->at = c->len;
        return;
    }
    NUMBER(c, "role", m->hello.role);
    if (m->hello.role != HANDOVER_SOURCE && m->hello.role != HANDOVER_DESTINATION)
        fail(c, "role", "is neither source nor destination");
    boolean(c, "recovers", &m->hello.recovers);
    LIMITED(c, "bulk", m->hello.bulk, 16);
    LIMITED(c, "compress", m->hello.compress, 2);
    text(c, "name", &m->hello.name, HANDOVER_NAME_MAX);
    text(c, "uri", &m->hello.uri, HANDOVER_TEXT_MAX);
    if (m->hello.name.len == 0)
        fail(c, "name", "is empty");
    if ((m->hello.uri.len > 0) != (m->hello.role == HANDOVER_SOURCE))
        fail(c, "uri", "is the source's to give, and only the source's");
}

static void one_region(Codec *c, HandoverRegion *r)
{
    text(c, "region name", &r->name, HANDOVER_NAME_MAX);
    if (r->name.len == 0)
        fail(c, "region name", "is empty");
    NUMBER(c, "region length", r->length);
    NUMBER(c, "region page size", r->page_size);
    NUMBER(c, "region flags", r->flags);
    NUMBER(c, "region address", r->address);
    LIMITED(c, "region descriptor", r->fd, HANDOVER_FDS_MAX);
    NUMBER(c, "region offset in its descriptor", r->fd_offset);
}

static void regions(Codec *c, HandoverMessage *m)
{
    m->n_fds = 0;
    LIMITED(c, "number of regions", m->regions.n, HANDOVER_REGIONS_MAX);
    if (m->regions.n == 0)
        fail(c, "number of regions", "is 0");
    for (unsigned i = 0; i < m->regions.n && !c->wrong; i++) {
        one_region(c, &m->regions.regions[i]);
        if (m->regions.regions[i].fd > m->n_fds)
            m->n_fds = m->regions.regions[i].fd;
    }
}

static void params(Codec *c, HandoverParams *p)
{
    NUMBER(c, "max bandwidth", p->max_bandwidth);
    NUMBER(c, "max post-copy bandwidth", p->max_postcopy_bandwidth);
    NUMBER(c, "downtime limit", p->downtime_limit_ms);
    boolean(c, "postcopy", &p->postcopy);
    boolean(c, "pause before switchover", &p->pause_before_switchover);
    boolean(c, "auto-converge", &p->auto_converge);
    LIMITED(c, "initial throttle", p->throttle_initial, 99);
    LIMITED(c, "throttle increment", p->throttle_increment, 99);
    LIMITED(c, "maximum throttle", p->throttle_max, 99);
    boolean(c, "release RAM", &p->release_ram);
    NUMBER(c, "XBZRLE cache", p->xbzrle_cache);
    if ((p->xbzrle_cache & (p->xbzrle_cache - 1)) != 0)
        fail(c, "XBZRLE cache", "is no power of two");
    boolean(c, "checkpoints", &p->checkpoints);
    NUMBER(c, "checkpoint interval", p->checkpoint_interval_ms);
}

static void memory(Codec *c, HandoverMessage *m)
{
    NUMBER(c, "number of regions", m->memory.n_regions);
    NUMBER(c, "target page", m->memory.target_page);
    boolean(c, "recovers", &m->memory.recovers);
    LIMITED(c, "dirty log", m->memory.log, 2);
    LIMITED(c, "descriptors", m->memory.fds, HANDOVER_FD_ALL);
    params(c, &m->memory.params);
    m->n_fds = (unsigned)__builtin_popcount(m->memory.fds);
}

static void ranges(Codec *c, HandoverMessage *m)
{
    NUMBER(c, "block", m->ranges.block);
    LIMITED(c, "number of ranges", m->ranges.n, HANDOVER_RANGES_MAX);
    for (unsigned i = 0; i < m->ranges.n && !c->wrong; i++)
        range(c, "range", &m->ranges.ranges[i].start, &m->ranges.ranges[i].length);
}

static void device(Codec *c, HandoverMessage *m)
{
    boolean(c, "last", &m->device.last);
    if (!c->writes && !c->wrong)
        m->device.len = c->len - c->at;
    if (m->device.len > HANDOVER_DEVICE_PIECE_MAX)
        fail(c, "device state", "is too long for one piece");
    if (!has_room(c, "device state", m->device.len))
        return;
    if (!c->writes)
        m->device.bytes = c->in + c->at;
    else if (m->device.len > 0)
        memcpy(c->out + c->at, m->device.bytes, m->device.len);
    c->at += m->device.len;
}

static void end(Codec *c, HandoverMessage *m)
{
    LIMITED(c, "outcome", m->end.outcome, 4);
    text(c, "text", &m->end.text, HANDOVER_TEXT_MAX);
}

static void shared(Codec *c, HandoverMessage *m)
{
    HandoverMapping *mapping;

    m->n_fds = 1;
    NUMBER(c, "id", m->shared.id);
    LIMITED(c, "number of mappings", m->shared.n, HANDOVER_MAPPINGS_MAX);
    if (m->shared.n == 0)
        fail(c, "number of mappings", "is 0");
    for (unsigned i = 0; i < m->shared.n && !c->wrong; i++) {
        mapping = &m->shared.mappings[i];
        NUMBER(c, "block", mapping->block);
        range(c, "mapping", &mapping->offset, &mapping->length);
        NUMBER(c, "mapping address", mapping->address);
        if (mapping->address + mapping->length < mapping->address)
            fail(c, "mapping address", "goes beyond the end of addresses");
    }
}

static void vcpus(Codec *c, HandoverMessage *m)
{
    LIMITED(c, "number of threads", m->vcpus.n, HANDOVER_VCPUS_MAX);
    for (unsigned i = 0; i < m->vcpus.n && !c->wrong; i++) {
        NUMBER(c, "thread", m->vcpus.threads[i]);
        if (m->vcpus.threads[i] == 0)
            fail(c, "thread", "is 0");
    }
}

static void body(Codec *c, HandoverMessage *m)
{
    m->n_fds = m->type == HANDOVER_LISTENING;
    switch (m->type) {
    case HANDOVER_HELLO:
        hello(c, m);
        break;
    case HANDOVER_WELCOME:
        text(c, "uri", &m->welcome.uri, HANDOVER_TEXT_MAX);
        text(c, "session", &m->welcome.session, 32);
        break;
    case HANDOVER_REGIONS:
        regions(c, m);
        break;
    case HANDOVER_MEMORY:
        memory(c, m);
        break;
    case HANDOVER_REFUSED:
    case HANDOVER_RESUME:
    case HANDOVER_STATE:
    case HANDOVER_FAILED:
        text(c, "text", &m->text, HANDOVER_TEXT_MAX);
        break;
    case HANDOVER_THROTTLE:
        LIMITED(c, "percent", m->percent, 99);
        break;
    case HANDOVER_DISCARD:
    case HANDOVER_FREE_HINTS:
        ranges(c, m);
        break;
    case HANDOVER_DEVICE:
        device(c, m);
        break;
    case HANDOVER_END:
        end(c, m);
        break;
    case HANDOVER_PARAMS:
        params(c, &m->params);
        break;
    case HANDOVER_SHARED:
        shared(c, m);
        break;
    case HANDOVER_VCPUS:
        vcpus(c, m);
        break;
    case HANDOVER_UNSHARED:
        NUMBER(c, "id", m->shared.id);
        break;
    }
}

size_t handover_encode(HandoverMessage *message, uint8_t *ret_bytes)
{
    Codec c = { .writes = true, .out = ret_bytes };

    NUMBER(&c, "type", message->type);
    body(&c, message);
    return c.wrong ? 0 : c.at;
}

bool handover_decode(const uint8_t *bytes, size_t len, unsigned n_fds, HandoverMessage *ret_message,
                     char ret_error[HANDOVER_ERROR_MAX])
{
    Codec c = { .in = bytes, .len = len };

    /* Not the arrays: their entries are filled as they come. */
    ret_message->n_fds = 0;
    NUMBER(&c, "type", ret_message->type);
    if (c.wrong) {
        snprintf(ret_error, HANDOVER_ERROR_MAX, "A message of %zu bytes is too short", len);
        return false;
    }
    if (strcmp(handover_type_name(ret_message->type), "?") == 0) {
        snprintf(ret_error, HANDOVER_ERROR_MAX, "There is no message of type %u",
                 ret_message->type);
        return false;
    }
    body(&c, ret_message);
    if (!c.wrong && c.at != len)
        fail(&c, "end", "is not where the message ends");
    if (c.wrong) {
        snprintf(ret_error, HANDOVER_ERROR_MAX, "%s: %s %s", handover_type_name(ret_message->type),
                 c.wrong, c.why);
        return false;
    }
    if (n_fds != ret_message->n_fds) {
        snprintf(ret_error, HANDOVER_ERROR_MAX, "%s: %u descriptors came along, and it names %u",
                 handover_type_name(ret_message->type), n_fds, ret_message->n_fds);
        return false;
    }
    return true;
}
