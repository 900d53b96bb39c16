/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who QEMU runs as, and what a domain is called. */
#include "config.h"

#include "xml/capabilities.h"

#include <glib/gi18n.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>

#include "xml/document.h"

/* -1 means "leave as it is" to chown() and is no id. */
#define ID_MAX (G_MAXUINT32 - 1)

static gboolean parse_id(const char *text, guint32 *ret_id)
{
    guint64 value;

    if (!g_ascii_string_to_unsigned(text, 10, 0, ID_MAX, &value, NULL))
        return FALSE;
    *ret_id = (guint32)value;
    return TRUE;
}

static gboolean lookup_user(const char *name, guint32 *ret_id)
{
    struct passwd entry, *found = NULL;
    char buffer[16384];

    if (getpwnam_r(name, &entry, buffer, sizeof buffer, &found) != 0 || !found)
        return FALSE;
    *ret_id = found->pw_uid;
    return TRUE;
}

static gboolean lookup_group(const char *name, guint32 *ret_id)
{
    struct group entry, *found = NULL;
    g_autofree char *buffer = g_malloc(65536); /* a group lists its members */

    if (getgrnam_r(name, &entry, buffer, 65536, &found) != 0 || !found)
        return FALSE;
    *ret_id = found->gr_gid;
    return TRUE;
}

/* As libvirt reads them: "+N" is a number, all else a name first and a number only if there is
 * no such name. */
static gboolean resolve(const char *text, gboolean (*lookup)(const char *, guint32 *),
                        guint32 *ret_id)
{
    if (text[0] == '+')
        return parse_id(text + 1, ret_id);
    return text[0] != '\0' && (lookup(text, ret_id) || parse_id(text, ret_id));
}

static gboolean parse_label(const char *label, QemuOwner *ret_owner, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(label, ":", 3);
    guint32 uid, gid;

    if (g_strv_length(parts) != 2) {
        g_set_error(error, XML_ERROR, XML_ERROR_VALUE,
                    _("DAC label \"%.128s\" is not of the form USER:GROUP"), label);
        return FALSE;
    }
    if (!resolve(parts[0], lookup_user, &uid)) {
        g_set_error(error, XML_ERROR, XML_ERROR_VALUE,
                    _("DAC label \"%.128s\": this host knows no such user"), label);
        return FALSE;
    }
    if (!resolve(parts[1], lookup_group, &gid)) {
        g_set_error(error, XML_ERROR, XML_ERROR_VALUE,
                    _("DAC label \"%.128s\": this host knows no such group"), label);
        return FALSE;
    }
    ret_owner->uid = uid;
    ret_owner->gid = gid;
    return TRUE;
}

static const xmlNode *find_dac_model(const xmlNode *host)
{
    for (const xmlNode *secmodel = xml_element(host->children, "secmodel"); secmodel;
         secmodel = xml_element(secmodel->next, "secmodel")) {
        const xmlNode *model = xml_element(secmodel->children, "model");
        g_autofree char *name = model ? xml_text(model) : NULL;

        if (g_strcmp0(name, "dac") == 0)
            return secmodel;
    }
    return NULL;
}

static const xmlNode *find_baselabel(const xmlNode *secmodel, const char *type)
{
    const xmlNode *label;

    for (label = xml_element(secmodel->children, "baselabel"); label;
         label = xml_element(label->next, "baselabel")) {
        if (xml_attribute_is(label, "type", type))
            break;
    }
    return label;
}

gboolean capabilities_qemu_owner(const char *xml, QemuOwner *ret_owner, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_document_parse(xml, "capabilities", error);
    g_autofree char *text = NULL;
    const xmlNode *host, *secmodel, *label;

    if (!doc)
        return FALSE;
    host = xml_element(xmlDocGetRootElement(doc)->children, "host");
    secmodel = host ? find_dac_model(host) : NULL;
    if (!secmodel) {
        g_set_error(error, XML_ERROR, XML_ERROR_MISSING,
                    _("capabilities XML: the host has no \"dac\" security model"));
        return FALSE;
    }
    label = find_baselabel(secmodel, "kvm");
    if (!label)
        label = find_baselabel(secmodel, "qemu");
    if (!label) {
        g_set_error(error, XML_ERROR, XML_ERROR_MISSING,
                    _("capabilities XML: the \"dac\" security model has no base label for "
                      "kvm or qemu"));
        return FALSE;
    }
    text = xml_text(label);
    return parse_label(text, ret_owner, error);
}

static const xmlNode *find_host(const xmlDoc *doc, const char *child)
{
    const xmlNode *host = xml_element(xmlDocGetRootElement((xmlDoc *)doc)->children, "host");

    return host ? xml_element(host->children, child) : NULL;
}

char *capabilities_host_uuid(const char *xml, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_document_parse(xml, "capabilities", error);
    const xmlNode *uuid;

    if (!doc)
        return NULL;
    uuid = find_host(doc, "uuid");
    if (uuid)
        return xml_text(uuid);
    g_set_error(error, XML_ERROR, XML_ERROR_MISSING, _("capabilities XML: the host has no UUID"));
    return NULL;
}

GArray *capabilities_page_sizes(const char *xml, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_document_parse(xml, "capabilities", error);
    const xmlNode *cpu;
    GArray *sizes;

    if (!doc)
        return NULL;
    sizes = g_array_new(FALSE, FALSE, sizeof(guint64));
    cpu = find_host(doc, "cpu");
    for (const xmlNode *pages = cpu ? xml_element(cpu->children, "pages") : NULL; pages;
         pages = xml_element(pages->next, "pages")) {
        g_autofree char *text = (char *)xmlGetNoNsProp(pages, (const xmlChar *)"size");
        guint64 kib;

        /* libvirt says them in KiB */
        if (text && g_ascii_string_to_unsigned(text, 10, 1, G_MAXUINT32, &kib, NULL))
            g_array_append_val(sizes, kib);
    }
    return sizes;
}

GArray *capabilities_cells(const char *xml, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_document_parse(xml, "capabilities", error);
    const xmlNode *topology, *cells;
    GArray *ids;

    if (!doc)
        return NULL;
    ids = g_array_new(FALSE, FALSE, sizeof(int));
    topology = find_host(doc, "topology");
    cells = topology ? xml_element(topology->children, "cells") : NULL;
    for (const xmlNode *cell = cells ? xml_element(cells->children, "cell") : NULL; cell;
         cell = xml_element(cell->next, "cell")) {
        g_autofree char *text = (char *)xmlGetNoNsProp(cell, (const xmlChar *)"id");
        guint64 number;

        if (text && g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT, &number, NULL)) {
            int id = (int)number;

            g_array_append_val(ids, id);
        }
    }
    return ids;
}

gboolean domain_xml_qemu_owner(const char *xml, gboolean *ret_found, QemuOwner *ret_owner,
                               GError **error)
{
    g_autoptr(xmlDoc) doc = xml_document_parse(xml, "domain", error);

    if (!doc)
        return FALSE;
    for (const xmlNode *seclabel = xml_element(xmlDocGetRootElement(doc)->children, "seclabel");
         seclabel; seclabel = xml_element(seclabel->next, "seclabel")) {
        const xmlNode *label = xml_element(seclabel->children, "label");
        g_autofree char *text = NULL;

        if (!label || !xml_attribute_is(seclabel, "model", "dac") ||
            !xml_attribute_is(seclabel, "type", "static"))
            continue;
        text = xml_text(label);
        if (!parse_label(text, ret_owner, error))
            return FALSE;
        *ret_found = TRUE;
        return TRUE;
    }
    *ret_found = FALSE;
    return TRUE;
}

char *domain_xml_name(const char *xml, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_document_parse(xml, "domain", error);
    g_autofree char *text = NULL;
    const xmlNode *name;

    if (!doc)
        return NULL;
    name = xml_element(xmlDocGetRootElement(doc)->children, "name");
    text = name ? xml_text(name) : NULL;
    if (!text || text[0] == '\0') {
        g_set_error(error, XML_ERROR, XML_ERROR_MISSING, _("domain XML: it has no name"));
        return NULL;
    }
    return g_steal_pointer(&text);
}
