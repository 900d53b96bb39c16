/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one place that hands text to libxml2. libvirt's documents have no DTD, so a document that
 * brings one is refused where it begins: its entities are never seen, let alone expanded. */
#include "config.h"

#include "xml/document.h"

#include <glib/gi18n.h>
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <string.h>

G_DEFINE_QUARK(xml-error-quark, xml_error)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlParserCtxt, xmlFreeParserCtxt)

static void refuse_dtd(void *opaque, const xmlChar *name, const xmlChar *external,
                       const xmlChar *system)
{
    xmlParserCtxt *ctxt = opaque;
    gboolean *dtd_seen = ctxt->_private;

    *dtd_seen = TRUE;
    xmlStopParser(ctxt);
}

static void set_syntax_error(xmlParserCtxt *ctxt, gboolean dtd_seen, const char *root,
                             GError **error)
{
    const xmlError *last = xmlCtxtGetLastError(ctxt);
    g_autofree char *message = NULL;

    if (dtd_seen) {
        g_set_error(error, XML_ERROR, XML_ERROR_SYNTAX,
                    _("%s XML: a document type declaration is not allowed"), root);
        return;
    }
    message = last && last->message ? g_strdup(last->message) : g_strdup(_("not well-formed"));
    g_set_error(error, XML_ERROR, XML_ERROR_SYNTAX, _("%s XML, line %d: %s"), root,
                last ? last->line : 1, g_strstrip(message));
}

xmlDoc *xml_document_parse(const char *text, const char *root, GError **error)
{
    gsize len = strnlen(text, XML_DOCUMENT_MAX + 1);
    g_autoptr(xmlParserCtxt) ctxt = NULL;
    g_autoptr(xmlDoc) doc = NULL;
    gboolean dtd_seen = FALSE;
    const xmlNode *found;

    if (len > XML_DOCUMENT_MAX) {
        g_set_error(error, XML_ERROR, XML_ERROR_SYNTAX, _("%s XML: longer than %d bytes"), root,
                    XML_DOCUMENT_MAX);
        return NULL;
    }
    ctxt = xmlNewParserCtxt();
    if (!ctxt)
        g_error("out of memory");
    ctxt->_private = &dtd_seen;
    ctxt->sax->internalSubset = refuse_dtd;
    doc = xmlCtxtReadMemory(ctxt, text, (int)len, NULL, NULL,
                            XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    if (!doc || dtd_seen) {
        set_syntax_error(ctxt, dtd_seen, root, error);
        return NULL;
    }
    found = xmlDocGetRootElement(doc);
    if (!found || !xmlStrEqual(found->name, BAD_CAST root)) {
        g_set_error(error, XML_ERROR, XML_ERROR_SYNTAX,
                    _("%s XML: the root element is <%.64s>, not <%s>"), root,
                    found ? (const char *)found->name : "", root);
        return NULL;
    }
    return g_steal_pointer(&doc);
}

const xmlNode *xml_element(const xmlNode *node, const char *name)
{
    for (; node; node = node->next) {
        if (node->type == XML_ELEMENT_NODE && xmlStrEqual(node->name, BAD_CAST name))
            return node;
    }
    return NULL;
}

gboolean xml_attribute_is(const xmlNode *node, const char *name, const char *value)
{
    xmlChar *found = xmlGetNoNsProp((xmlNode *)node, BAD_CAST name);
    gboolean same = xmlStrEqual(found, BAD_CAST value);

    xmlFree(found);
    return same;
}

char *xml_text(const xmlNode *node)
{
    xmlChar *content = xmlNodeGetContent((xmlNode *)node);
    char *text = g_strdup(content ? (const char *)content : "");

    xmlFree(content);
    return g_strstrip(text);
}
