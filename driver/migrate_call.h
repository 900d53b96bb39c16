/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One call of libvirt's migration protocol v3, with or without typed parameters.
 *
 * libvirt has each of its five phases twice: Begin3 and Begin3Params, ... The two
 * differ in where a value stands, not in what it means, so the driver reads and changes
 * both through this one type (facts: libvirt-rpc.md 3.2, 3.3). Pure. */
#pragma once

#include "driver/rpc_frame.h"
#include "xml/migrate_options.h"

typedef enum {
    MIGRATE_PHASE_BEGIN,
    MIGRATE_PHASE_PREPARE,
    MIGRATE_PHASE_PERFORM,
    MIGRATE_PHASE_FINISH,
    MIGRATE_PHASE_CONFIRM,
    MIGRATE_PHASE_MAX,
} MigratePhase;

/* "begin", "prepare", ... as in log lines. */
const char *migrate_phase_name(MigratePhase phase);

/* A value that may be absent. Which ones a phase has differs; an absent one reads as NULL. */
typedef enum {
    MIGRATE_TEXT_URI,             /* migrate_uri: where the stream goes */
    MIGRATE_TEXT_DNAME,           /* destination_name */
    MIGRATE_TEXT_DOMAIN_XML,      /* destination_xml */
    MIGRATE_TEXT_DCONNURI,        /* destination of a peer-to-peer migration */
    MIGRATE_TEXT_LISTEN_ADDRESS,  /* listen_address */
    MIGRATE_TEXT_TLS_DESTINATION, /* tls.destination: the name to expect in the peer's certificate */
    MIGRATE_TEXT_DISKS_URI,       /* disks_uri */
    MIGRATE_TEXT_MAX,
} MigrateText;

typedef struct MigrateCall MigrateCall;

/* TRUE for the procedures that migrate_call_decode() knows: 213, 214, 216-218, 302, 303,
 * 305-307. */
gboolean migrate_call_knows(gint32 procedure);
gboolean migrate_call_is_phase(gint32 procedure, MigratePhase phase);

MigrateCall *migrate_call_decode(const RpcFrame *frame, GError **error);
void migrate_call_free(MigrateCall *call);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MigrateCall, migrate_call_free)

MigratePhase migrate_call_phase(const MigrateCall *call);
const char *migrate_call_name(const MigrateCall *call); /* "DOMAIN_MIGRATE_PREPARE3_PARAMS" */

/* virDomainMigrateFlags. */
guint64 migrate_call_flags(const MigrateCall *call);
void migrate_call_clear_flags(MigrateCall *call, guint64 flags);

/* Finish and Confirm: the migration is being given up. */
gboolean migrate_call_cancelled(const MigrateCall *call);
/* It is not. */
void migrate_call_clear_cancelled(MigrateCall *call);

/* The domain's name as the call's domain argument or dname says, or NULL (Prepare without one). */
const char *migrate_call_domain(const MigrateCall *call);

/* The arguments, in XDR, of a procedure that takes that domain argument and flags, such as
 * DOMAIN_GET_XML_DESC. The call must not be a Prepare or Finish, which have none. */
GByteArray *migrate_call_domain_args(const MigrateCall *call, guint32 flags, GError **error);

const char *migrate_call_text(const MigrateCall *call, MigrateText text);

/* Whether it has typed parameters: else values that libvirt has had since then have no place. */
gboolean migrate_call_has_params(const MigrateCall *call);

/* value NULL removes it. FALSE if the call has no place for such a value. */
gboolean migrate_call_set_text(MigrateCall *call, MigrateText text, const char *value);

/* All typed parameters, in their order; the array is the caller's (g_free()), what is in it the call's
 * and as it is until that changes. */
MigrateParam *migrate_call_params(const MigrateCall *call, gsize *ret_n);
/* How many more there may be. */
gsize migrate_call_room(const MigrateCall *call);
/* What stands at that place among them. */
void migrate_call_remove_param(MigrateCall *call, gsize index);

/* The disks are copied along, or what differs from a common base of them. */
gboolean migrate_call_copies_disks(const MigrateCall *call);
gboolean migrate_call_has_disks_port(const MigrateCall *call);
/* Nothing about disks is left in it: a migration that is resumed has copied them before. */
void migrate_call_forget_disks(MigrateCall *call);

/* bandwidth.postcopy, in MiB/s; 0: the call does not limit post-copy. */
guint64 migrate_call_postcopy_speed(const MigrateCall *call);

/* A frame with the call's present values; frame gives up its descriptors. */
RpcFrame *migrate_call_encode(MigrateCall *call, RpcFrame *frame, GError **error);
/* The same for a frame that is gone: with its header. */
RpcFrame *migrate_call_encode_again(MigrateCall *call, const RpcHeader *header, GError **error);

/* Of a Perform as the client made it: the call that resumes what it began, should that fail in
 * post-copy (driver/recovery.h). Peer-to-peer, whatever it was, and yet without a dconnuri; nothing
 * of what Prepare answered and nothing of TLS is left in it. The arguments of procedure
 * MIGRATE_CALL_RECOVERY, in XDR. */
#define MIGRATE_CALL_RECOVERY 305 /* DOMAIN_MIGRATE_PERFORM3_PARAMS */
GBytes *migrate_call_recovery(const MigrateCall *perform, GError **error);
