/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Loads a libvirt XML document and finds elements in it. For the files of this folder. */
#pragma once

#include "xml/capabilities.h"

#include <libxml/tree.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlDoc, xmlFreeDoc)

#define XML_DOCUMENT_MAX (8 * 1024 * 1024)

/* Fails with XML_ERROR_SYNTAX unless text is well-formed, has no DTD (so no entities either) and
 * its root element is called root. */
xmlDoc *xml_document_parse(const char *text, const char *root, GError **error);

/* The first element called name from node on among its siblings, or NULL. Walk all of them with
 *     for (n = xml_element(parent->children, "x"); n; n = xml_element(n->next, "x")) */
const xmlNode *xml_element(const xmlNode *node, const char *name);

/* TRUE if the attribute is there and has this value. */
gboolean xml_attribute_is(const xmlNode *node, const char *name, const char *value);

/* The element's text without surrounding white space; "" if it is empty. */
char *xml_text(const xmlNode *node);
