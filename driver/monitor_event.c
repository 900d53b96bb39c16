/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/monitor_event.h"

#include <glib/gi18n.h>
#include <json-glib/json-glib.h>
#include <libvirt/libvirt-qemu.h>
#include <string.h>

/* libvirtd's events have this serial, not the 0 of the protocol's description. */
#define EVENT_SERIAL 1

/* For a client's regular expression: matching it is done by the main loop. Of several such
 * settings, which can only stand at the beginning, PCRE takes the last. */
#define MATCH_LIMIT "(*LIMIT_MATCH=10000)"

/* In the order of MonitorEventKind; the fields in the order in which the details have them. */
static const struct {
    const char *name;
    const char *fields;
} table[] = {
    { "POSTCOPY_CHANNEL_OPENED", "side session channel tls cipher peer" },
    { "POSTCOPY_LINK_LOST", "side session channel reason" },
    { "POSTCOPY_LINK_RESTORED", "side session channel lost-ms" },
    { "POSTCOPY_RECOVERY_STARTED", "side session attempt" },
    { "POSTCOPY_RECOVERY_FAILED", "side session attempt reason will-retry" },
    { "POSTCOPY_RECOVERY_DONE", "side session attempt" },
};
G_STATIC_ASSERT(G_N_ELEMENTS(table) == MONITOR_EVENT_MAX);

const char *monitor_event_name(MonitorEventKind kind)
{
    return table[kind].name;
}

/* ---- the details ---- */

static void add_text(JsonObject *object, const char *field, const char *text)
{
    g_autofree char *valid = text ? g_utf8_make_valid(text, -1) : NULL;

    if (valid)
        json_object_set_string_member(object, field, valid);
}

static const char *text_of(const MonitorDetails *details, const char *field)
{
    const struct {
        const char *field;
        const char *text;
    } texts[] = {
        { "side", details->side },       { "session", details->session },
        { "channel", details->channel }, { "tls", details->tls },
        { "cipher", details->cipher },   { "peer", details->peer },
        { "reason", details->reason },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        if (g_str_equal(texts[i].field, field))
            return texts[i].text;
    }
    g_assert_not_reached();
}

static void add_field(JsonObject *object, const char *field, const MonitorDetails *details)
{
    if (g_str_equal(field, "lost-ms")) {
        if (details->lost_ms != MONITOR_LOST_UNKNOWN)
            json_object_set_int_member(object, field, details->lost_ms);
    } else if (g_str_equal(field, "attempt")) {
        if (details->attempt > 0)
            json_object_set_int_member(object, field, details->attempt);
    } else if (g_str_equal(field, "will-retry")) {
        if (details->will_retry != MONITOR_RETRY_UNKNOWN)
            json_object_set_boolean_member(object, field, details->will_retry);
    } else {
        add_text(object, field, text_of(details, field));
    }
}

char *monitor_event_json(MonitorEventKind kind, const MonitorDetails *details)
{
    g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);
    g_auto(GStrv) fields = g_strsplit(table[kind].fields, " ", 0);
    JsonObject *object = json_object_new();

    json_node_take_object(root, object);
    for (gsize i = 0; fields[i]; i++)
        add_field(object, fields[i], details);
    return json_to_string(root, /* pretty= */ FALSE);
}

/* ---- who wants which ---- */

/* As libvirt has it: a regular expression may match anywhere in the name. */
static gboolean kinds_of_regex(const char *pattern, gboolean nocase, guint *ret, GError **error)
{
    g_autofree char *limited = g_strconcat(MATCH_LIMIT, pattern, NULL);
    g_autoptr(GRegex) regex = NULL;

    /* Which the library takes for granted. */
    if (!g_utf8_validate(pattern, -1, NULL)) {
        g_set_error(error, RPC_XDR_ERROR, RPC_XDR_ERROR_DECODE,
                    _("the regular expression is not UTF-8"));
        return FALSE;
    }
    if (g_str_has_prefix(pattern, "(*")) {
        g_set_error(error, RPC_XDR_ERROR, RPC_XDR_ERROR_DECODE,
                    _("the regular expression begins with a setting, \"(*\""));
        return FALSE;
    }
    regex = g_regex_new(limited, nocase ? G_REGEX_CASELESS : (GRegexCompileFlags)0,
                        (GRegexMatchFlags)0, error);
    if (!regex)
        return FALSE;
    for (gsize i = 0; i < MONITOR_EVENT_MAX; i++) {
        if (g_regex_match(regex, table[i].name, (GRegexMatchFlags)0, NULL))
            *ret |= 1u << i;
    }
    return TRUE;
}

static void kinds_of_name(const char *name, gboolean nocase, guint *ret)
{
    for (gsize i = 0; i < MONITOR_EVENT_MAX; i++) {
        if (nocase ? g_ascii_strcasecmp(name, table[i].name) == 0
                   : g_str_equal(name, table[i].name))
            *ret |= 1u << i;
    }
}

static gboolean take_kinds(const MonitorRegistration *registration, guint *ret, GError **error)
{
    gboolean nocase =
        (registration->flags & VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_NOCASE) != 0;

    if (!registration->pattern) {
        *ret = (1u << MONITOR_EVENT_MAX) - 1;
        return TRUE;
    }
    if (registration->flags & VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX)
        return kinds_of_regex(registration->pattern, nocase, ret, error);
    kinds_of_name(registration->pattern, nocase, ret);
    return TRUE;
}

void monitor_registration_clear(MonitorRegistration *registration)
{
    g_clear_pointer(&registration->pattern, g_free);
}

static gboolean take_pattern(const remote_monitor_register *args, char **ret, GError **error)
{
    if (!args->event)
        return TRUE;
    if (strlen(*args->event) > MONITOR_PATTERN_MAX) {
        g_set_error(error, RPC_XDR_ERROR, RPC_XDR_ERROR_DECODE,
                    _("the events' name is longer than %d bytes"), MONITOR_PATTERN_MAX);
        return FALSE;
    }
    *ret = g_strdup(*args->event);
    return TRUE;
}

gboolean monitor_registration_decode(const RpcFrame *call, MonitorRegistration *ret,
                                     GError **error)
{
    RPC_XDR_AUTO(remote_monitor_register, args) = { 0 };
    gsize len;
    const guint8 *payload = rpc_frame_payload(call, &len);

    *ret = (MonitorRegistration){ 0 };
    if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_monitor_register, &args, sizeof args,
                        "DOMAIN_MONITOR_EVENT_REGISTER", error))
        return FALSE;
    ret->flags = args.flags;
    ret->any_domain = args.dom == NULL;
    if (args.dom)
        memcpy(ret->uuid, args.dom->uuid, sizeof ret->uuid);
    return take_pattern(&args, &ret->pattern, error);
}

gboolean monitor_registration_filter(const MonitorRegistration *registration, MonitorFilter *ret,
                                     GError **error)
{
    *ret = (MonitorFilter){ .any_domain = registration->any_domain };
    memcpy(ret->uuid, registration->uuid, sizeof ret->uuid);
    return take_kinds(registration, &ret->kinds, error);
}

gboolean monitor_filter_fits(const MonitorFilter *filter, MonitorEventKind kind,
                             const guint8 uuid[REMOTE_UUID_LEN])
{
    return (filter->kinds & (1u << kind)) &&
           (filter->any_domain || memcmp(filter->uuid, uuid, REMOTE_UUID_LEN) == 0);
}

gboolean monitor_callback_decode(const RpcFrame *frame, gint32 *ret, GError **error)
{
    remote_monitor_callback value;
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    if (!rpc_xdr_decode(payload, len, (xdrproc_t)xdr_remote_monitor_callback, &value, sizeof value,
                        "the number of a callback", error))
        return FALSE;
    *ret = value.callback;
    return TRUE;
}

/* ---- on the wire ---- */

RpcFrame *monitor_event_frame(const MonitorEvent *event, gint32 callback, const remote_dom *dom,
                              GError **error)
{
    const RpcHeader header = { .program = RPC_PROGRAM_QEMU,
                               .version = 1,
                               .procedure = PROC_MONITOR_EVENT,
                               .type = RPC_TYPE_MESSAGE,
                               .serial = EVENT_SERIAL,
                               .status = RPC_STATUS_OK };
    remote_text details = (char *)event->json; /* encoding does not write */
    remote_monitor_event value = { .callback = callback,
                                   .dom = *dom,
                                   .event = (char *)table[event->kind].name,
                                   .seconds = event->at / G_USEC_PER_SEC,
                                   .micros = (u_int)(event->at % G_USEC_PER_SEC),
                                   .details = &details };
    g_autoptr(GByteArray) payload = rpc_xdr_encode((xdrproc_t)xdr_remote_monitor_event, &value,
                                                   table[event->kind].name, error);

    return payload ? rpc_frame_new(&header, payload->data, payload->len) : NULL;
}
