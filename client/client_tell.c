/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the process says by itself, in any thread: nothing here touches more of the client than
 * the socket. */
#include "config.h"

#include "client/client_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int tell(PostcopyClient *client, PostcopySide side, HandoverMessage *message)
{
    if (side && client->side != side)
        return -EINVAL;
    return client_tell(client, message, NULL);
}

EXPORT int postcopy_client_start_postcopy(PostcopyClient *client)
{
    return tell(client, POSTCOPY_SOURCE, &(HandoverMessage){ .type = HANDOVER_START_POSTCOPY });
}

EXPORT int postcopy_client_continue(PostcopyClient *client)
{
    return tell(client, POSTCOPY_SOURCE, &(HandoverMessage){ .type = HANDOVER_CONTINUE });
}

EXPORT int postcopy_client_checkpoint(PostcopyClient *client)
{
    if (!client->params.checkpoints)
        return -EINVAL;
    return tell(client, POSTCOPY_SOURCE, &(HandoverMessage){ .type = HANDOVER_CHECKPOINT });
}

EXPORT int postcopy_client_failover(PostcopyClient *client)
{
    if (!client->params.checkpoints)
        return -EINVAL;
    return tell(client, 0, &(HandoverMessage){ .type = HANDOVER_FAILOVER });
}

EXPORT int postcopy_client_cancel(PostcopyClient *client)
{
    return tell(client, 0, &(HandoverMessage){ .type = HANDOVER_CANCEL });
}

EXPORT int postcopy_client_fail(PostcopyClient *client, const char *reason)
{
    HandoverMessage message = { .type = HANDOVER_FAILED };

    message.text = client_line(reason);
    return tell(client, 0, &message);
}

EXPORT int postcopy_client_free_hint(PostcopyClient *client, unsigned region, uint64_t start,
                                     uint64_t length)
{
    HandoverMessage message = { .type = HANDOVER_FREE_HINTS };
    const Region *r;

    if (client->side != POSTCOPY_SOURCE || region >= client->n_regions)
        return -EINVAL;
    r = &client->regions[region];
    if (start % r->page_size != 0 || length % r->page_size != 0 || length == 0 ||
        start > r->length || length > r->length - start)
        return -EINVAL;
    /* What is written there from here on is told apart from what was written before. */
    client_protect(client, region, start, length);
    message.ranges.block = (uint16_t)region;
    message.ranges.n = 1;
    message.ranges.ranges[0] = (HandoverRange){ start, length };
    return tell(client, POSTCOPY_SOURCE, &message);
}

/* ---- not in any thread, but of the same kind ---- */

static bool mapping_is_good(const PostcopyClient *client, const PostcopyMapping *m)
{
    const Region *r;

    if (m->region >= client->n_regions)
        return false;
    r = &client->regions[m->region];
    return m->offset % r->page_size == 0 && m->length % r->page_size == 0 && m->length > 0 &&
           m->offset <= r->length && m->length <= r->length - m->offset &&
           m->address % r->page_size == 0;
}

EXPORT int postcopy_client_share(PostcopyClient *client, uint32_t id, int uffd,
                                 const PostcopyMapping *mappings, unsigned n_mappings)
{
    HandoverMessage message = { .type = HANDOVER_SHARED };

    if (client->side != POSTCOPY_DESTINATION)
        return client_fail(client, EINVAL, "Only a destination shares its memory");
    if (n_mappings == 0 || n_mappings > HANDOVER_MAPPINGS_MAX)
        return client_fail(client, EINVAL, "%u mappings: 1 to %d can be", n_mappings,
                           HANDOVER_MAPPINGS_MAX);
    message.shared.id = id;
    message.shared.n = (uint16_t)n_mappings;
    for (unsigned i = 0; i < n_mappings; i++) {
        if (!mapping_is_good(client, &mappings[i]))
            return client_fail(client, EINVAL, "Mapping %u is not of whole pages of a region", i);
        message.shared.mappings[i] = (HandoverMapping){ (uint16_t)mappings[i].region,
                                                        mappings[i].offset, mappings[i].length,
                                                        mappings[i].address };
    }
    return client_tell(client, &message, &uffd);
}

EXPORT int postcopy_client_unshare(PostcopyClient *client, uint32_t id)
{
    HandoverMessage message = { .type = HANDOVER_UNSHARED };

    message.shared.id = id;
    return tell(client, POSTCOPY_DESTINATION, &message);
}

/* ---- vCPUs ---- */

int client_tell_vcpus(PostcopyClient *client)
{
    HandoverMessage *message;
    int ret;

    /* Too large for anybody's stack. */
    message = calloc(1, sizeof *message);
    if (!message)
        return client_fail(client, ENOMEM, "Out of memory");
    message->type = HANDOVER_VCPUS;
    message->vcpus.n = (uint16_t)client->n_vcpus;
    if (client->n_vcpus > 0)
        memcpy(message->vcpus.threads, client->vcpus, client->n_vcpus * sizeof *client->vcpus);
    ret = client_tell(client, message, NULL);
    free(message);
    return ret < 0 ? client_fail(client, -ret, "VCPUS: %s", strerror(-ret)) : 0;
}

EXPORT int postcopy_client_set_vcpus(PostcopyClient *client, const uint32_t *threads,
                                     unsigned n_threads)
{
    uint32_t *copy;

    if (client->side != POSTCOPY_DESTINATION)
        return client_fail(client, EINVAL, "Only a destination's threads are waited for");
    if (n_threads > HANDOVER_VCPUS_MAX)
        return client_fail(client, EINVAL, "%u threads: no more than %d can be", n_threads,
                           HANDOVER_VCPUS_MAX);
    for (unsigned i = 0; i < n_threads; i++)
        if (threads[i] == 0)
            return client_fail(client, EINVAL, "There is no thread 0");
    copy = malloc((n_threads + 1) * sizeof *copy);
    if (!copy)
        return client_fail(client, ENOMEM, "Out of memory");
    if (n_threads > 0)
        memcpy(copy, threads, n_threads * sizeof *copy);
    free(client->vcpus);
    client->vcpus = copy;
    client->n_vcpus = n_threads;
    return client->may_tell ? client_tell_vcpus(client) : 0;
}
