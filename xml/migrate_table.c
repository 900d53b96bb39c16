/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The names and numbers are libvirt's public ones. Rows are in the order of its header. A changed
 * row changes docs/flags.md: a test says how. */
#include "config.h"

#include "xml/migrate_table.h"

#include <glib/gi18n.h>
#include <libvirt/virterror.h>

#define FLAG(name, bit, option) "VIR_MIGRATE_" #name, bit, option
#define PARAM(name, option) name, MIGRATE_NO_BIT, option
#define FORWARDED MIGRATE_FORWARDED, MIGRATE_KEPT, 0
#define CONSUMED(taking) MIGRATE_CONSUMED, taking, 0
#define ADAPTED(taking) MIGRATE_ADAPTED, taking, 0
#define REFUSED(code) MIGRATE_REFUSED, MIGRATE_KEPT, code

const MigrateRow migrate_rows[] = {
    { FLAG(LIVE, 0, "--live"), FORWARDED, NULL },
    { FLAG(PEER2PEER, 1, "--p2p"), FORWARDED,
      N_("libvirtd's connection to the destination leads through this daemon") },
    { FLAG(TUNNELLED, 2, "--tunnelled"), REFUSED(VIR_ERR_ARGUMENT_UNSUPPORTED),
      N_("a tunnelled migration cannot be a post-copy one: leave out --tunnelled, this driver "
         "encrypts the migration anyway") },
    { FLAG(PERSIST_DEST, 3, "--persistent"), FORWARDED, NULL },
    { FLAG(UNDEFINE_SOURCE, 4, "--undefinesource"), FORWARDED, NULL },
    { FLAG(PAUSED, 5, "--suspend"), FORWARDED, N_("libvirt refuses it with post-copy") },
    { FLAG(NON_SHARED_DISK, 6, "--copy-storage-all"), FORWARDED,
      N_("the disks go through the helpers, unless --disks-uri names another way") },
    { FLAG(NON_SHARED_INC, 7, "--copy-storage-inc"), FORWARDED,
      N_("the disks go through the helpers, unless --disks-uri names another way") },
    { FLAG(CHANGE_PROTECTION, 8, "--change-protection"), FORWARDED, NULL },
    { FLAG(UNSAFE, 9, "--unsafe"), FORWARDED, NULL },
    { FLAG(OFFLINE, 10, "--offline"), FORWARDED,
      N_("only the domain's XML is copied, by libvirt alone") },
    { FLAG(COMPRESSED, 11, "--compressed"), ADAPTED(MIGRATE_TAKEN_METHODS),
      N_("without --comp-methods QEMU sends pages again as differences (xbzrle, libvirt's default) "
         "and the session compresses with zstd; taken out when the session does all methods that "
         "are named") },
    { FLAG(ABORT_ON_ERROR, 12, "--abort-on-error"), FORWARDED, NULL },
    { FLAG(AUTO_CONVERGE, 13, "--auto-converge"), FORWARDED, NULL },
    { FLAG(RDMA_PIN_ALL, 14, "--rdma-pin-all"), ADAPTED(MIGRATE_TAKEN),
      N_("taken out: there is no RDMA in a migration by this driver") },
    { FLAG(POSTCOPY, 15, "--postcopy"), FORWARDED, N_("makes a migration this driver's") },
    { FLAG(TLS, 16, "--tls"), CONSUMED(MIGRATE_TAKEN),
      N_("the session always has TLS; with it, allow_plain_destination does not hold") },
    { FLAG(PARALLEL, 17, "--parallel"), CONSUMED(MIGRATE_TAKEN),
      N_("QEMU's parallel channels do not go together with post-copy: from the switch-over on the "
         "session spreads memory over bulk channels of its own, beside the main one") },
    { FLAG(NON_SHARED_SYNCHRONOUS_WRITES, 18, "--copy-storage-synchronous-writes"), FORWARDED,
      NULL },
    { FLAG(POSTCOPY_RESUME, 19, "--postcopy-resume"), FORWARDED,
      N_("what is left of the broken session on either host ends first") },
    { FLAG(ZEROCOPY, 20, "--zerocopy"), REFUSED(VIR_ERR_ARGUMENT_UNSUPPORTED),
      N_("--zerocopy has no use with this driver, which reads QEMU's stream from a local socket: "
         "leave it out") },

    { PARAM("migrate_uri", "--migrateuri"), CONSUMED(MIGRATE_TAKEN_BY_PREPARE),
      N_("tcp://HOST[:PORT], tcp:HOST[:PORT] or postcopy://HOST[:PORT]: what the source dials, and "
         "the name in the destination's certificate") },
    { PARAM("destination_name", "--dname"), FORWARDED, NULL },
    { PARAM("destination_xml", "--xml"), FORWARDED, NULL },
    { PARAM("persistent_xml", "--persistent-xml"), FORWARDED, NULL },
    { PARAM("bandwidth", "--bandwidth"), FORWARDED, N_("QEMU keeps to it") },
    { PARAM("bandwidth.postcopy", "--postcopy-bandwidth"), FORWARDED,
      N_("QEMU keeps to it; an upper bound for migration_pace_qemu") },
    { PARAM("bandwidth.avail.switchover", "--available-switchover-bandwidth"), FORWARDED, NULL },
    { PARAM("graphics_uri", "--graphicsuri"), FORWARDED, NULL },
    { PARAM("listen_address", "--listen-address"), CONSUMED(MIGRATE_TAKEN_UNLESS_PEER),
      N_("an address of the destination, or a name that it knows for one: the session comes in "
         "there only, and the source dials it unless --migrateuri says otherwise") },
    { PARAM("migrate_disks", "--migrate-disks"), FORWARDED, NULL },
    { PARAM("migrate_disks_detect_zeroes", "--migrate-disks-detect-zeroes"), FORWARDED, NULL },
    { PARAM("disks_port", "--disks-port"), FORWARDED,
      N_("refused when disks are copied: it takes --disks-uri to name a way for them") },
    { PARAM("disks_uri", "--disks-uri"), FORWARDED,
      N_("then libvirt copies the disks by itself, and in clear") },
    { PARAM("compression", "--comp-methods"), ADAPTED(MIGRATE_TAKEN_METHODS),
      N_("zstd, zlib and mt (which is zlib) are done by the session and taken out; xbzrle is "
         "forwarded, and so is a method that is not known") },
    { PARAM("compression.mt.level", "--comp-mt-level"), CONSUMED(MIGRATE_TAKEN_BY_MT),
      N_("0 (none) to 9") },
    { PARAM("compression.mt.threads", "--comp-mt-threads"), CONSUMED(MIGRATE_TAKEN_BY_MT),
      N_("1 to 255; the helper takes 16 at most") },
    { PARAM("compression.mt.dthreads", "--comp-mt-dthreads"), CONSUMED(MIGRATE_TAKEN_BY_MT),
      N_("1 to 255; the receiving helper decides by itself") },
    { PARAM("compression.xbzrle.cache", "--comp-xbzrle-cache"), FORWARDED, NULL },
    { PARAM("compression.zlib.level", "--comp-zlib-level"), CONSUMED(MIGRATE_TAKEN_BY_ZLIB),
      N_("0 (none) to 9") },
    { PARAM("compression.zstd.level", "--comp-zstd-level"), CONSUMED(MIGRATE_TAKEN_BY_ZSTD),
      N_("0 (none) to 20") },
    { PARAM("auto_converge.initial", "--auto-converge-initial"), FORWARDED, NULL },
    { PARAM("auto_converge.increment", "--auto-converge-increment"), FORWARDED, NULL },
    { PARAM("parallel.connections", "--parallel-connections"),
      CONSUMED(MIGRATE_TAKEN_BY_PARALLEL),
      N_("with --parallel: 1 to 255 bulk channels, 2 if it is not said; the helper has 16 at "
         "most") },
    { PARAM("tls.destination", "--tls-destination"), CONSUMED(MIGRATE_TAKEN),
      N_("the name to expect in the destination's certificate") },
};

const gsize migrate_rows_len = G_N_ELEMENTS(migrate_rows);

static const char *const disposition_names[] = {
    [MIGRATE_FORWARDED] = "forwarded",
    [MIGRATE_CONSUMED] = "consumed",
    [MIGRATE_ADAPTED] = "adapted",
    [MIGRATE_REFUSED] = "refused",
};
G_STATIC_ASSERT(G_N_ELEMENTS(disposition_names) == MIGRATE_DISPOSITION_MAX);

const char *migrate_disposition_name(MigrateDisposition disposition)
{
    return disposition_names[disposition];
}

const MigrateRow *migrate_table_flag(guint bit)
{
    for (gsize i = 0; i < migrate_rows_len; i++) {
        if (migrate_rows[i].bit == (gint)bit)
            return &migrate_rows[i];
    }
    return NULL;
}

const MigrateRow *migrate_table_param(const char *name)
{
    for (gsize i = 0; i < migrate_rows_len; i++) {
        if (migrate_rows[i].bit == MIGRATE_NO_BIT && g_str_equal(migrate_rows[i].name, name))
            return &migrate_rows[i];
    }
    return NULL;
}

guint64 migrate_table_unknown(guint64 flags)
{
    for (gsize i = 0; i < migrate_rows_len; i++) {
        if (migrate_rows[i].bit != MIGRATE_NO_BIT)
            flags &= ~(G_GUINT64_CONSTANT(1) << migrate_rows[i].bit);
    }
    return flags;
}
