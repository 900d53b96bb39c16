/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "driver/migrate_call.h"

#include <glib/gi18n.h>
#include <libvirt/libvirt.h>
#include <stdlib.h>
#include <string.h>

#include "driver/rpc_xdr.h"

typedef union {
    remote_begin3 begin3;
    remote_prepare3 prepare3;
    remote_perform3 perform3;
    remote_finish3 finish3;
    remote_confirm3 confirm3;
    remote_begin3_params begin3_params;
    remote_prepare3_params prepare3_params;
    remote_perform3_params perform3_params;
    remote_finish3_params finish3_params;
    remote_confirm3_params confirm3_params;
} MigrateArgs;

/* Where a value stands in the arguments. Offsets are into MigrateArgs; NOWHERE if it has none. */
#define NOWHERE G_MAXSIZE

typedef struct {
    gint32 procedure;
    MigratePhase phase;
    const char *name;
    xdrproc_t xdr;
    gsize size;
    gsize flags;
    gboolean flags_are_u64;
    gsize params;    /* remote_params */
    gsize dom;       /* remote_dom */
    gsize cancelled; /* int */
    /* Values that stand by themselves rather than in params: pointers to optional texts. */
    gsize opt_text[MIGRATE_TEXT_MAX];
    /* The same, but never absent: plain texts. */
    gsize text[MIGRATE_TEXT_MAX];
} MigrateProcedure;

#define AT(type, field) offsetof(type, field)
#define NO_TEXTS { NOWHERE, NOWHERE, NOWHERE, NOWHERE, NOWHERE, NOWHERE, NOWHERE }
#define XDR_OF(type) (xdrproc_t)xdr_##type, sizeof(type)

static const MigrateProcedure procedures[] = {
    { 213, MIGRATE_PHASE_BEGIN, "DOMAIN_MIGRATE_BEGIN3", XDR_OF(remote_begin3),
      AT(remote_begin3, flags), TRUE, NOWHERE, AT(remote_begin3, dom), NOWHERE,
      { NOWHERE, AT(remote_begin3, dname), AT(remote_begin3, xmlin), NOWHERE, NOWHERE, NOWHERE,
        NOWHERE },
      NO_TEXTS },
    { 214, MIGRATE_PHASE_PREPARE, "DOMAIN_MIGRATE_PREPARE3", XDR_OF(remote_prepare3),
      AT(remote_prepare3, flags), TRUE, NOWHERE, NOWHERE, NOWHERE,
      { AT(remote_prepare3, uri_in), AT(remote_prepare3, dname), NOWHERE, NOWHERE, NOWHERE,
        NOWHERE, NOWHERE },
      { NOWHERE, NOWHERE, AT(remote_prepare3, dom_xml), NOWHERE, NOWHERE, NOWHERE, NOWHERE } },
    { 216, MIGRATE_PHASE_PERFORM, "DOMAIN_MIGRATE_PERFORM3", XDR_OF(remote_perform3),
      AT(remote_perform3, flags), TRUE, NOWHERE, AT(remote_perform3, dom), NOWHERE,
      { AT(remote_perform3, uri), AT(remote_perform3, dname), AT(remote_perform3, xmlin),
        AT(remote_perform3, dconnuri), NOWHERE, NOWHERE, NOWHERE },
      NO_TEXTS },
    { 217, MIGRATE_PHASE_FINISH, "DOMAIN_MIGRATE_FINISH3", XDR_OF(remote_finish3),
      AT(remote_finish3, flags), TRUE, NOWHERE, NOWHERE, AT(remote_finish3, cancelled),
      { AT(remote_finish3, uri), NOWHERE, NOWHERE, AT(remote_finish3, dconnuri), NOWHERE, NOWHERE,
        NOWHERE },
      { NOWHERE, AT(remote_finish3, dname), NOWHERE, NOWHERE, NOWHERE, NOWHERE, NOWHERE } },
    { 218, MIGRATE_PHASE_CONFIRM, "DOMAIN_MIGRATE_CONFIRM3", XDR_OF(remote_confirm3),
      AT(remote_confirm3, flags), TRUE, NOWHERE, AT(remote_confirm3, dom),
      AT(remote_confirm3, cancelled), NO_TEXTS, NO_TEXTS },
    { 302, MIGRATE_PHASE_BEGIN, "DOMAIN_MIGRATE_BEGIN3_PARAMS", XDR_OF(remote_begin3_params),
      AT(remote_begin3_params, flags), FALSE, AT(remote_begin3_params, params),
      AT(remote_begin3_params, dom), NOWHERE, NO_TEXTS, NO_TEXTS },
    { 303, MIGRATE_PHASE_PREPARE, "DOMAIN_MIGRATE_PREPARE3_PARAMS", XDR_OF(remote_prepare3_params),
      AT(remote_prepare3_params, flags), FALSE, AT(remote_prepare3_params, params), NOWHERE,
      NOWHERE, NO_TEXTS, NO_TEXTS },
    { 305, MIGRATE_PHASE_PERFORM, "DOMAIN_MIGRATE_PERFORM3_PARAMS", XDR_OF(remote_perform3_params),
      AT(remote_perform3_params, flags), FALSE, AT(remote_perform3_params, params),
      AT(remote_perform3_params, dom), NOWHERE,
      { NOWHERE, NOWHERE, NOWHERE, AT(remote_perform3_params, dconnuri), NOWHERE, NOWHERE,
        NOWHERE },
      NO_TEXTS },
    { 306, MIGRATE_PHASE_FINISH, "DOMAIN_MIGRATE_FINISH3_PARAMS", XDR_OF(remote_finish3_params),
      AT(remote_finish3_params, flags), FALSE, AT(remote_finish3_params, params), NOWHERE,
      AT(remote_finish3_params, cancelled), NO_TEXTS, NO_TEXTS },
    { 307, MIGRATE_PHASE_CONFIRM, "DOMAIN_MIGRATE_CONFIRM3_PARAMS", XDR_OF(remote_confirm3_params),
      AT(remote_confirm3_params, flags), FALSE, AT(remote_confirm3_params, params),
      AT(remote_confirm3_params, dom), AT(remote_confirm3_params, cancelled), NO_TEXTS, NO_TEXTS },
};

static const char *const param_names[] = {
    [MIGRATE_TEXT_URI] = VIR_MIGRATE_PARAM_URI,
    [MIGRATE_TEXT_DNAME] = VIR_MIGRATE_PARAM_DEST_NAME,
    [MIGRATE_TEXT_DOMAIN_XML] = VIR_MIGRATE_PARAM_DEST_XML,
    [MIGRATE_TEXT_DCONNURI] = NULL,
    [MIGRATE_TEXT_LISTEN_ADDRESS] = VIR_MIGRATE_PARAM_LISTEN_ADDRESS,
    [MIGRATE_TEXT_TLS_DESTINATION] = VIR_MIGRATE_PARAM_TLS_DESTINATION,
    [MIGRATE_TEXT_DISKS_URI] = VIR_MIGRATE_PARAM_DISKS_URI,
};
G_STATIC_ASSERT(G_N_ELEMENTS(param_names) == MIGRATE_TEXT_MAX);

static const char *const phase_names[] = {
    [MIGRATE_PHASE_BEGIN] = "begin",   [MIGRATE_PHASE_PREPARE] = "prepare",
    [MIGRATE_PHASE_PERFORM] = "perform", [MIGRATE_PHASE_FINISH] = "finish",
    [MIGRATE_PHASE_CONFIRM] = "confirm",
};
G_STATIC_ASSERT(G_N_ELEMENTS(phase_names) == MIGRATE_PHASE_MAX);

struct MigrateCall {
    const MigrateProcedure *procedure;
    MigrateArgs args;
};

const char *migrate_phase_name(MigratePhase phase)
{
    return phase_names[phase];
}

static const MigrateProcedure *procedure_find(gint32 number)
{
    for (gsize i = 0; i < G_N_ELEMENTS(procedures); i++) {
        if (procedures[i].procedure == number)
            return &procedures[i];
    }
    return NULL;
}

gboolean migrate_call_knows(gint32 procedure)
{
    return procedure_find(procedure) != NULL;
}

gboolean migrate_call_is_phase(gint32 procedure, MigratePhase phase)
{
    const MigrateProcedure *found = procedure_find(procedure);

    return found && found->phase == phase;
}

MigrateCall *migrate_call_decode(const RpcFrame *frame, GError **error)
{
    g_autofree MigrateCall *call = g_new0(MigrateCall, 1);
    gsize len;
    const guint8 *payload = rpc_frame_payload(frame, &len);

    call->procedure = procedure_find(frame->header.procedure);
    g_assert(call->procedure);
    if (!rpc_xdr_decode(payload, len, call->procedure->xdr, &call->args, call->procedure->size,
                        call->procedure->name, error))
        return NULL;
    return g_steal_pointer(&call);
}

void migrate_call_free(MigrateCall *call)
{
    if (!call)
        return;
    rpc_xdr_free(call->procedure->xdr, &call->args);
    g_free(call);
}

MigratePhase migrate_call_phase(const MigrateCall *call)
{
    return call->procedure->phase;
}

const char *migrate_call_name(const MigrateCall *call)
{
    return call->procedure->name;
}

static void *field_at(const MigrateCall *call, gsize offset)
{
    return offset == NOWHERE ? NULL : (char *)&call->args + offset;
}

guint64 migrate_call_flags(const MigrateCall *call)
{
    void *at = field_at(call, call->procedure->flags);

    return call->procedure->flags_are_u64 ? *(u_quad_t *)at : *(u_int *)at;
}

void migrate_call_clear_flags(MigrateCall *call, guint64 flags)
{
    void *at = field_at(call, call->procedure->flags);

    if (call->procedure->flags_are_u64)
        *(u_quad_t *)at &= ~flags;
    else
        *(u_int *)at &= ~(u_int)flags;
}

gboolean migrate_call_cancelled(const MigrateCall *call)
{
    const int *at = field_at(call, call->procedure->cancelled);

    return at && *at != 0;
}

const char *migrate_call_domain(const MigrateCall *call)
{
    const remote_dom *dom = field_at(call, call->procedure->dom);

    return dom ? dom->name : migrate_call_text(call, MIGRATE_TEXT_DNAME);
}

void migrate_call_clear_cancelled(MigrateCall *call)
{
    int *at = field_at(call, call->procedure->cancelled);

    if (at)
        *at = 0;
}

GByteArray *migrate_call_domain_args(const MigrateCall *call, guint32 flags, GError **error)
{
    const remote_dom *dom = field_at(call, call->procedure->dom);
    remote_get_max_speed args = { .flags = flags };

    g_assert(dom);
    args.dom = *dom; /* borrowed */
    return rpc_xdr_encode((xdrproc_t)xdr_remote_get_max_speed, &args, "a call for the domain",
                          error);
}

static remote_param *param_find(const remote_params *params, const char *name,
                                remote_param_type type)
{
    for (u_int i = 0; params && name && i < params->remote_params_len; i++) {
        remote_param *param = &params->remote_params_val[i];

        if (g_str_equal(param->field, name) && param->value.type == type)
            return param;
    }
    return NULL;
}

const char *migrate_call_text(const MigrateCall *call, MigrateText text)
{
    const remote_param *param =
        param_find(field_at(call, call->procedure->params), param_names[text],
                   REMOTE_PARAM_STRING);
    remote_text *const *optional = field_at(call, call->procedure->opt_text[text]);
    const remote_text *plain = field_at(call, call->procedure->text[text]);

    if (param)
        return param->value.remote_param_value_u.s;
    if (optional && *optional)
        return **optional;
    return plain ? *plain : NULL;
}

static void set_optional(remote_opt_text *optional, const char *value)
{
    if (*optional) {
        free(**optional);
        free(*optional);
        *optional = NULL;
    }
    if (value) {
        *optional = calloc(1, sizeof **optional);
        g_assert(*optional);
        **optional = strdup(value);
    }
}

/* Every one of that name goes, whatever its type: a second one must not slip through. */
static void params_remove(remote_params *params, const char *name)
{
    u_int kept = 0;

    for (u_int i = 0; i < params->remote_params_len; i++) {
        remote_param *param = &params->remote_params_val[i];

        if (g_str_equal(param->field, name))
            rpc_xdr_free((xdrproc_t)xdr_remote_param, param);
        else
            params->remote_params_val[kept++] = *param;
    }
    params->remote_params_len = kept;
}

static remote_param_value *params_grow(remote_params *params, const char *name,
                                       remote_param_type type)
{
    u_int n = params->remote_params_len;
    remote_param *grown = realloc(params->remote_params_val, (n + 1) * sizeof *grown);

    g_assert(grown);
    grown[n] = (remote_param){ .field = strdup(name) };
    grown[n].value.type = type;
    params->remote_params_val = grown;
    params->remote_params_len = n + 1;
    return &grown[n].value;
}

static void params_add(remote_params *params, const char *name, const char *value)
{
    params_grow(params, name, REMOTE_PARAM_STRING)->remote_param_value_u.s = strdup(value);
}

gboolean migrate_call_set_text(MigrateCall *call, MigrateText text, const char *value)
{
    remote_params *params = field_at(call, call->procedure->params);
    remote_opt_text *optional = field_at(call, call->procedure->opt_text[text]);
    remote_text *plain = field_at(call, call->procedure->text[text]);

    if (optional) {
        set_optional(optional, value);
        return TRUE;
    }
    if (plain) {
        if (!value)
            return FALSE;
        free(*plain);
        *plain = strdup(value);
        return TRUE;
    }
    if (!params || !param_names[text])
        return FALSE;
    params_remove(params, param_names[text]);
    if (value)
        params_add(params, param_names[text], value);
    return TRUE;
}

/* ---- typed parameters as the table knows them ---- */

static MigrateParam param_view(const remote_param *param)
{
    const remote_param_value *value = &param->value;
    MigrateParam view = { .name = param->field, .type = MIGRATE_PARAM_NUMBER };

    switch (value->type) {
    case REMOTE_PARAM_INT:
        view.number = value->remote_param_value_u.i;
        break;
    case REMOTE_PARAM_UINT:
        view.number = value->remote_param_value_u.ui;
        break;
    case REMOTE_PARAM_LLONG:
        view.number = value->remote_param_value_u.l;
        break;
    case REMOTE_PARAM_ULLONG:
        view.number = (gint64)MIN(value->remote_param_value_u.ul, (guint64)G_MAXINT64);
        break;
    case REMOTE_PARAM_STRING:
        view.type = MIGRATE_PARAM_TEXT;
        view.text = value->remote_param_value_u.s;
        break;
    case REMOTE_PARAM_DOUBLE:
    case REMOTE_PARAM_BOOLEAN:
        view.type = MIGRATE_PARAM_OTHER;
        break;
    }
    return view;
}

gsize migrate_call_room(const MigrateCall *call)
{
    const remote_params *params = field_at(call, call->procedure->params);

    return params ? REMOTE_PARAMS_MAX - MIN(params->remote_params_len, REMOTE_PARAMS_MAX) : 0;
}

MigrateParam *migrate_call_params(const MigrateCall *call, gsize *ret_n)
{
    const remote_params *params = field_at(call, call->procedure->params);
    gsize n = params ? params->remote_params_len : 0;
    MigrateParam *views = g_new0(MigrateParam, n + 1);

    for (gsize i = 0; i < n; i++)
        views[i] = param_view(&params->remote_params_val[i]);
    *ret_n = n;
    return views;
}

void migrate_call_remove_param(MigrateCall *call, gsize index)
{
    remote_params *params = field_at(call, call->procedure->params);
    remote_param *at;

    g_assert(params && index < params->remote_params_len);
    at = &params->remote_params_val[index];
    rpc_xdr_free((xdrproc_t)xdr_remote_param, at);
    params->remote_params_len--;
    memmove(at, at + 1, (params->remote_params_len - index) * sizeof *at);
}

gboolean migrate_call_has_params(const MigrateCall *call)
{
    return call->procedure->params != NOWHERE;
}

/* ---- disks ---- */

/* Flags of virDomainMigrateFlags that libvirt 8.5, our floor, has; and what they come with. */
#define DISKS_FLAGS \
    (VIR_MIGRATE_NON_SHARED_DISK | VIR_MIGRATE_NON_SHARED_INC | \
     VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES)

static const char *const disks_params[] = {
    VIR_MIGRATE_PARAM_DISKS_URI,
    VIR_MIGRATE_PARAM_DISKS_PORT,
    VIR_MIGRATE_PARAM_MIGRATE_DISKS,
    "migrate_disks_detect_zeroes",
};

/* For a list of disks alone libvirt (9.0) wants to be told a way as well. */
gboolean migrate_call_copies_disks(const MigrateCall *call)
{
    const remote_params *params = field_at(call, call->procedure->params);

    return (migrate_call_flags(call) &
            (VIR_MIGRATE_NON_SHARED_DISK | VIR_MIGRATE_NON_SHARED_INC)) != 0 ||
           param_find(params, VIR_MIGRATE_PARAM_MIGRATE_DISKS, REMOTE_PARAM_STRING);
}

gboolean migrate_call_has_disks_port(const MigrateCall *call)
{
    const remote_params *params = field_at(call, call->procedure->params);

    return param_find(params, VIR_MIGRATE_PARAM_DISKS_PORT, REMOTE_PARAM_INT) != NULL;
}

static void params_forget_disks(remote_params *params)
{
    for (gsize i = 0; i < G_N_ELEMENTS(disks_params); i++)
        params_remove(params, disks_params[i]);
}

void migrate_call_forget_disks(MigrateCall *call)
{
    migrate_call_clear_flags(call, DISKS_FLAGS);
    if (migrate_call_has_params(call))
        params_forget_disks(field_at(call, call->procedure->params));
}

guint64 migrate_call_postcopy_speed(const MigrateCall *call)
{
    const remote_param *param =
        param_find(field_at(call, call->procedure->params), VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY,
                   REMOTE_PARAM_ULLONG);

    return param ? param->value.remote_param_value_u.ul : 0;
}

RpcFrame *migrate_call_encode(MigrateCall *call, RpcFrame *frame, GError **error)
{
    g_autoptr(GByteArray) payload =
        rpc_xdr_encode(call->procedure->xdr, &call->args, call->procedure->name, error);

    if (!payload)
        return NULL;
    return rpc_frame_new_with_payload(frame, payload->data, payload->len);
}

RpcFrame *migrate_call_encode_again(MigrateCall *call, const RpcHeader *header, GError **error)
{
    g_autoptr(GByteArray) payload =
        rpc_xdr_encode(call->procedure->xdr, &call->args, call->procedure->name, error);

    return payload ? rpc_frame_new(header, payload->data, payload->len) : NULL;
}

/* ---- a recovery's Perform ---- */

/* From the call without parameters. libvirt's words for what both shapes can say. */
static void recovery_from_plain(const remote_perform3 *plain, remote_perform3_params *args)
{
    args->dom = plain->dom;
    args->dom.name = strdup(plain->dom.name);
    if (plain->dname)
        params_add(&args->params, VIR_MIGRATE_PARAM_DEST_NAME, *plain->dname);
    if (plain->xmlin)
        params_add(&args->params, VIR_MIGRATE_PARAM_DEST_XML, *plain->xmlin);
    if (plain->resource)
        params_grow(&args->params, VIR_MIGRATE_PARAM_BANDWIDTH, REMOTE_PARAM_ULLONG)
            ->remote_param_value_u.ul = plain->resource;
}

/* From the one with parameters: a copy of its own, without what belongs to that one call. */
static gboolean recovery_from_params(const MigrateCall *perform, remote_perform3_params *args,
                                     GError **error)
{
    static const char *const dropped[] = {
        VIR_MIGRATE_PARAM_URI,
        VIR_MIGRATE_PARAM_LISTEN_ADDRESS,
        VIR_MIGRATE_PARAM_TLS_DESTINATION,
    };
    g_autoptr(GByteArray) copy = rpc_xdr_encode(perform->procedure->xdr, (void *)&perform->args,
                                                perform->procedure->name, error);

    if (!copy || !rpc_xdr_decode(copy->data, copy->len, (xdrproc_t)xdr_remote_perform3_params,
                                 args, sizeof *args, perform->procedure->name, error))
        return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(dropped); i++)
        params_remove(&args->params, dropped[i]);
    params_forget_disks(&args->params);
    set_optional(&args->dconnuri, NULL);
    rpc_xdr_free((xdrproc_t)xdr_remote_cookie, &args->cookie_in);
    args->cookie_in = (remote_cookie){ 0 };
    return TRUE;
}

GBytes *migrate_call_recovery(const MigrateCall *perform, GError **error)
{
    RPC_XDR_AUTO(remote_perform3_params, args) = { 0 };
    guint64 flags = migrate_call_flags(perform);
    GByteArray *payload;

    g_assert(migrate_call_phase(perform) == MIGRATE_PHASE_PERFORM);
    if (perform->procedure->params == NOWHERE)
        recovery_from_plain(&perform->args.perform3, &args);
    else if (!recovery_from_params(perform, &args, error))
        return NULL;
    flags &= ~(guint64)(VIR_MIGRATE_TLS | VIR_MIGRATE_ABORT_ON_ERROR | DISKS_FLAGS);
    flags |= VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_CHANGE_PROTECTION |
             VIR_MIGRATE_POSTCOPY | VIR_MIGRATE_POSTCOPY_RESUME;
    args.flags = (u_int)flags;
    payload = rpc_xdr_encode((xdrproc_t)xdr_remote_perform3_params, &args,
                             "DOMAIN_MIGRATE_PERFORM3_PARAMS", error);
    return payload ? g_byte_array_free_to_bytes(payload) : NULL;
}
