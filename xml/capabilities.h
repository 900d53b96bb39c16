/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What this driver reads in libvirt's XML documents. Text in, values out; the one look outside
 * is at the user database, for labels that hold names.
 * Formats: https://libvirt.org/formatcaps.html, https://libvirt.org/formatdomain.html.
 * A document with a DTD (so: with entities) or over 8 MiB is refused; nothing is fetched. */
#pragma once

#include <gio/gio.h>
#include <sys/types.h>

#define XML_ERROR (xml_error_quark())
GQuark xml_error_quark(void);

typedef enum {
    XML_ERROR_SYNTAX,  /* not well-formed, or not the document expected */
    XML_ERROR_MISSING, /* an element or attribute that must be there is not */
    XML_ERROR_VALUE,   /* its value makes no sense */
} XmlError;

/* Who a QEMU process runs as. */
typedef struct {
    uid_t uid;
    gid_t gid;
} QemuOwner;

/* From host capabilities: host/secmodel[model='dac']/baselabel, the one for type 'kvm' if there
 * is one, else for 'qemu'. "+64055:+64055" and "user:group" are both understood.
 * XML_ERROR_MISSING: no dac model; XML_ERROR_VALUE: no such user or group. */
gboolean capabilities_qemu_owner(const char *xml, QemuOwner *ret_owner, GError **error);

/* host/uuid; XML_ERROR_MISSING without one. */
char *capabilities_host_uuid(const char *xml, GError **error);

/* host/cpu/pages: the sizes of pages that the host has, in KiB (guint64 elements); empty if it does not
 * say. */
GArray *capabilities_page_sizes(const char *xml, GError **error);

/* host/topology/cells/cell: the ids of the NUMA nodes (int elements), which need not follow each
 * other; empty if it does not say. */
GArray *capabilities_cells(const char *xml, GError **error);

/* A domain's own owner, if its XML sets one: seclabel[model='dac'] with type 'static' and a label.
 * Otherwise (none, type 'dynamic' or 'none') ret_found is FALSE, owner untouched, and QEMU runs
 * as the host's default. */
gboolean domain_xml_qemu_owner(const char *xml, gboolean *ret_found, QemuOwner *ret_owner,
                               GError **error);

/* The domain's name; XML_ERROR_MISSING without one. */
char *domain_xml_name(const char *xml, GError **error);
