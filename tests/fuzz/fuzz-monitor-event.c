/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What clients register for, the numbers of their callbacks, and texts from anywhere that become
 * JSON, which must read back. */
#include "config.h"

#include <json-glib/json-glib.h>
#include <stdint.h>

#include "driver/monitor_event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_json(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    MonitorDetails details = MONITOR_DETAILS_INIT;
    g_autofree char *json = NULL;
    g_autoptr(JsonNode) root = NULL;

    details.reason = text;
    json = monitor_event_json(MONITOR_EVENT_LINK_LOST, &details);
    root = json_from_string(json, NULL);
    g_assert_nonnull(root);
    g_assert_true(json_object_has_member(json_node_get_object(root), "reason"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const RpcHeader header = { .program = RPC_PROGRAM_QEMU,
                               .version = 1,
                               .procedure = PROC_MONITOR_EVENT_REGISTER,
                               .type = RPC_TYPE_CALL };
    g_autoptr(RpcFrame) frame = rpc_frame_new(&header, data, size);
    g_auto(MonitorRegistration) wanted = { 0 };
    MonitorFilter filter;
    gint32 callback;

    if (monitor_registration_decode(frame, &wanted, NULL) &&
        monitor_registration_filter(&wanted, &filter, NULL)) {
        g_assert_true(filter.kinds < 1u << MONITOR_EVENT_MAX);
        monitor_filter_fits(&filter, MONITOR_EVENT_LINK_LOST, filter.uuid);
    }
    monitor_callback_decode(frame, &callback, NULL);
    as_json(data, size);
    return 0;
}
