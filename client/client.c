/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "client/client_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int client_fail(PostcopyClient *client, int err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(client->error, sizeof client->error, format, args);
    va_end(args);
    return -err;
}

bool client_has_own_log(const PostcopyClient *client)
{
    return client->callbacks.log_sync != NULL;
}

HandoverText client_line(const char *text)
{
    size_t len = text ? strcspn(text, "\r\n") : 0;

    return handover_text(text, len < HANDOVER_TEXT_MAX ? len : HANDOVER_TEXT_MAX);
}

/* ---- making ---- */

static bool callbacks_will_do(PostcopySide side, const PostcopyCallbacks *c)
{
    bool all = c->log_start && c->log_sync && c->log_stop;
    bool none = !c->log_start && !c->log_sync && !c->log_stop;

    if (side == POSTCOPY_DESTINATION)
        return c->run != NULL;
    return side == POSTCOPY_SOURCE && c->pause && c->resume && (all || none);
}

/* What a process that was built with an older header does not have is NULL. */
static void take_callbacks(PostcopyClient *client, const PostcopyCallbacks *callbacks)
{
    size_t size = callbacks->size;

    if (size > sizeof client->callbacks)
        size = sizeof client->callbacks;
    memcpy(&client->callbacks, callbacks, size);
}

EXPORT PostcopyClient *postcopy_client_new(PostcopySide side, const char *name,
                                           const PostcopyCallbacks *callbacks, void *data)
{
    PostcopyClient *client;

    if (!name || !*name || strlen(name) > HANDOVER_NAME_MAX || !callbacks ||
        callbacks->size < offsetof(PostcopyCallbacks, prepare))
        return NULL;
    client = calloc(1, sizeof *client);
    if (!client)
        return NULL;
    pthread_mutex_init(&client->lock, NULL);
    client->side = side;
    client->data = data;
    client->fd = client->uffd = client->bitmaps_fd = -1;
    client->deferred_tail = &client->deferred;
    client->params = (HandoverParams){ .downtime_limit_ms = 300,
                                       .postcopy = 1,
                                       .throttle_initial = 20,
                                       .throttle_increment = 10,
                                       .throttle_max = 99 };
    take_callbacks(client, callbacks);
    client->name = strdup(name);
    client->message = malloc(sizeof *client->message);
    client->bytes = malloc(HANDOVER_MESSAGE_MAX);
    if (!client->name || !client->message || !client->bytes ||
        !callbacks_will_do(side, &client->callbacks)) {
        postcopy_client_free(client);
        return NULL;
    }
    return client;
}

EXPORT void postcopy_client_free(PostcopyClient *client)
{
    if (!client)
        return;
    client_close(client);
    client_unregister(client);
    if (client->log_is_on && client_has_own_log(client))
        client->callbacks.log_stop(client->data);
    client_restore_mappings(client);
    client_free_bitmaps(client);
    client_drop_deferred(client);
    for (unsigned i = 0; i < client->n_regions; i++) {
        free(client->regions[i].name);
        if (client->regions[i].fd >= 0 && !client->regions[i].borrows_fd)
            close(client->regions[i].fd);
    }
    free(client->regions);
    free(client->vcpus);
    free(client->state);
    free(client->uri);
    free(client->session);
    free(client->bytes);
    free(client->message);
    free(client->name);
    pthread_mutex_destroy(&client->lock);
    free(client);
}

/* ---- what it is told ---- */

static int check_region(PostcopyClient *client, const PostcopyRegion *r)
{
    uint64_t address = (uintptr_t)r->address;

    if (client->fd >= 0 || client->session)
        return client_fail(client, EBUSY, "Regions are added before connecting");
    if (client->n_regions == POSTCOPY_REGIONS_MAX)
        return client_fail(client, ENOSPC, "More than %d regions", POSTCOPY_REGIONS_MAX);
    if (!r->name || !*r->name || strlen(r->name) > POSTCOPY_NAME_MAX)
        return client_fail(client, EINVAL, "A region's name has 1 to %d bytes", POSTCOPY_NAME_MAX);
    for (unsigned i = 0; i < client->n_regions; i++)
        if (strcmp(client->regions[i].name, r->name) == 0)
            return client_fail(client, EEXIST, "There is a region %s already", r->name);
    if (r->page_size < 4096 || (r->page_size & (r->page_size - 1)) != 0)
        return client_fail(client, EINVAL, "Region %s: pages of %llu bytes cannot be", r->name,
                           (unsigned long long)r->page_size);
    if (r->length == 0 || r->length % r->page_size != 0 || address % r->page_size != 0 ||
        r->fd_offset % r->page_size != 0)
        return client_fail(client, EINVAL,
                           "Region %s: address, length and offset are multiples of its page size",
                           r->name);
    if (r->fd >= 0 && !(fcntl(r->fd, F_GET_SEALS) & F_SEAL_SHRINK))
        return client_fail(client, EINVAL,
                           "Region %s: its descriptor is no memfd sealed with F_SEAL_SHRINK",
                           r->name);
    return 0;
}

static bool is_same_file(int a, int b)
{
    struct stat x, y;

    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino &&
           (fcntl(a, F_GETFL) & O_ACCMODE) == (fcntl(b, F_GETFL) & O_ACCMODE);
}

/* One descriptor for all regions of a memfd. */
static void keep_fd(PostcopyClient *client, Region *r, int fd)
{
    for (unsigned i = 0; i < client->n_regions && !r->borrows_fd; i++) {
        const Region *other = &client->regions[i];

        if (other->fd < 0 || other->borrows_fd || !is_same_file(other->fd, fd))
            continue;
        r->fd = other->fd;
        r->borrows_fd = true;
    }
    if (!r->borrows_fd)
        r->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

EXPORT int postcopy_client_add_region(PostcopyClient *client, const PostcopyRegion *region)
{
    Region *more, *r;
    int ret = check_region(client, region);

    if (ret == 0 && region->fd < 0 && !(region->flags & POSTCOPY_REGION_IGNORED))
        ret = client_check_private(client, region);
    if (ret < 0)
        return ret;
    more = realloc(client->regions, (client->n_regions + 1) * sizeof *more);
    if (!more)
        return client_fail(client, ENOMEM, "Out of memory");
    client->regions = more;
    r = &more[client->n_regions];
    *r = (Region){ .name = strdup(region->name),
                   .address = region->address,
                   .length = region->length,
                   .page_size = region->page_size,
                   .flags = region->flags,
                   .fd = -1,
                   .fd_offset = region->fd >= 0 ? region->fd_offset : 0 };
    if (region->fd >= 0)
        keep_fd(client, r, region->fd);
    if (!r->name || (region->fd >= 0 && r->fd < 0)) {
        ret = client_fail(client, r->name ? errno : ENOMEM, "Region %s cannot be kept",
                          region->name);
        if (r->fd >= 0 && !r->borrows_fd)
            close(r->fd);
        free(r->name);
        return ret;
    }
    client->n_regions++;
    return 0;
}

/* An option that is a number of params: where it is, and its most. */
typedef struct {
    size_t offset, size;
    uint64_t max;
} Place;

#define PLACE(member, most) \
    { offsetof(HandoverParams, member), sizeof(((HandoverParams *)0)->member), most }

static const Place places[] = {
    [POSTCOPY_MAX_BANDWIDTH] = PLACE(max_bandwidth, UINT64_MAX),
    [POSTCOPY_MAX_POSTCOPY_BANDWIDTH] = PLACE(max_postcopy_bandwidth, UINT64_MAX),
    [POSTCOPY_DOWNTIME_LIMIT] = PLACE(downtime_limit_ms, UINT32_MAX),
    [POSTCOPY_ALLOWED] = PLACE(postcopy, 1),
    [POSTCOPY_PAUSE_BEFORE_SWITCHOVER] = PLACE(pause_before_switchover, 1),
    [POSTCOPY_AUTO_CONVERGE] = PLACE(auto_converge, 1),
    [POSTCOPY_THROTTLE_INITIAL] = PLACE(throttle_initial, 99),
    [POSTCOPY_THROTTLE_INCREMENT] = PLACE(throttle_increment, 99),
    [POSTCOPY_THROTTLE_MAX] = PLACE(throttle_max, 99),
    [POSTCOPY_RELEASE_RAM] = PLACE(release_ram, 1),
    [POSTCOPY_XBZRLE_CACHE] = PLACE(xbzrle_cache, UINT64_MAX),
    [POSTCOPY_CHECKPOINTS] = PLACE(checkpoints, 1),
    [POSTCOPY_CHECKPOINT_INTERVAL] = PLACE(checkpoint_interval_ms, UINT32_MAX),
};

#define N_PLACES (sizeof places / sizeof places[0])

static int set_param(PostcopyClient *client, PostcopyOption option, uint64_t value)
{
    const Place *place = &places[option];
    uint8_t *to = (uint8_t *)&client->params + place->offset;
    uint32_t narrow = (uint32_t)value;

    if (value > place->max ||
        (option == POSTCOPY_XBZRLE_CACHE && (value & (value - 1)) != 0))
        return client_fail(client, ERANGE, "Option %d cannot be %llu", (int)option,
                           (unsigned long long)value);
    if (place->size == 8)
        memcpy(to, &value, 8);
    else if (place->size == 4)
        memcpy(to, &narrow, 4);
    else
        *to = (uint8_t)value;
    return 0;
}

static int set_before(PostcopyClient *client, PostcopyOption option, uint64_t value)
{
    if (client->fd >= 0)
        return client_fail(client, EBUSY, "Option %d is set before connecting", (int)option);
    if (option == POSTCOPY_BULK_CHANNELS && value <= 16)
        client->bulk = (uint16_t)value;
    else if (option == POSTCOPY_COMPRESS && value <= 2)
        client->compress = (uint8_t)value;
    else if (option == POSTCOPY_USER_FAULTS_ONLY && value <= 1)
        client->user_faults_only = value;
    else
        return client_fail(client, ERANGE, "Option %d cannot be %llu", (int)option,
                           (unsigned long long)value);
    return 0;
}

static bool can_follow(const PostcopyClient *client)
{
    return client->side == POSTCOPY_SOURCE ||
           (client->callbacks.stop && client->callbacks.resume);
}

EXPORT int postcopy_client_set(PostcopyClient *client, PostcopyOption option, uint64_t value)
{
    HandoverMessage message = { .type = HANDOVER_PARAMS };
    int ret;

    if ((unsigned)option >= N_PLACES || places[option].size == 0)
        return set_before(client, option, value);
    if (client->fd >= 0 && option >= POSTCOPY_CHECKPOINTS)
        return client_fail(client, EBUSY, "Option %d is set before connecting", (int)option);
    if (option == POSTCOPY_CHECKPOINTS && value && !can_follow(client))
        return client_fail(client, EINVAL,
                           "A destination that takes checkpoints needs stop and resume");
    ret = set_param(client, option, value);
    if (ret < 0 || !client->may_tell || client->side != POSTCOPY_SOURCE)
        return ret;
    message.params = client->params;
    return client_tell(client, &message, NULL);
}

/* ---- what it tells ---- */

EXPORT const char *postcopy_client_uri(const PostcopyClient *client)
{
    return client->uri;
}

EXPORT const char *postcopy_client_session(const PostcopyClient *client)
{
    return client->session;
}

EXPORT int postcopy_client_fd(const PostcopyClient *client)
{
    return client->fd;
}

EXPORT PostcopyOutcome postcopy_client_outcome(const PostcopyClient *client)
{
    return client->outcome;
}

EXPORT const char *postcopy_client_error(const PostcopyClient *client)
{
    return client->error;
}
