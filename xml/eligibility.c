/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "xml/eligibility.h"

#include <glib/gi18n.h>
#include <libxml/xpath.h>

#include "xml/element.h"
#include "xml/eligibility_memory.h"
#include "xml/eligibility_rules.h"
#include "xml/ram_blocks.h"

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlXPathContext, xmlXPathFreeContext)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlXPathObject, xmlXPathFreeObject)

#define ORDINARY_PAGE 4096

/* Of one rule: to count a device looks at all before it, and nobody reads more. */
#define FINDINGS_MAX 64

/* What is said for a group of rules if nothing of it was found. */
static const struct {
    const char *id, *what;
} groups[] = {
    [ELIGIBILITY_DEVICES] = { "devices", N_("the guest's devices") },
    [ELIGIBILITY_DOMAIN] = { "domain", N_("processor and security of the guest") },
};
G_STATIC_ASSERT(G_N_ELEMENTS(groups) == ELIGIBILITY_GROUPS);

/* The expressions are constants of ours: one that does not compile is a mistake in the table. */
static xmlXPathObject *evaluate(xmlXPathContext *context, const xmlNode *from,
                                const char *expression)
{
    xmlXPathObject *object;

    xmlXPathSetContextNode((xmlNode *)from, context);
    object = xmlXPathEval(BAD_CAST expression, context);
    if (!object)
        g_error("cannot evaluate %s", expression);
    return object;
}

static char *text_of(xmlXPathContext *context, const xmlNode *element, const char *about)
{
    g_autofree char *expression = NULL;
    g_autoptr(xmlXPathObject) object = NULL;

    if (!about)
        return NULL;
    expression = g_strdup_printf("normalize-space(%s)", about);
    object = evaluate(context, element, expression);
    return g_strdup((const char *)object->stringval);
}

static void apply(const EligibilityRule *rule, xmlXPathContext *context, const xmlNode *root,
                  GPtrArray *findings)
{
    g_autoptr(xmlXPathObject) found = evaluate(context, root, rule->elements);

    for (int i = 0; found->nodesetval && i < MIN(found->nodesetval->nodeNr, FINDINGS_MAX); i++) {
        const xmlNode *element = found->nodesetval->nodeTab[i];
        g_autofree char *about = text_of(context, element, rule->about);
        g_autofree char *name = xml_element_describe(element, about);
        g_autofree char *detail = g_strdup_printf("%s: %s", name, _(rule->why));

        findings_add(findings, rule->verdict, rule->id, _(rule->what), detail, _(rule->remedy));
    }
}

static void apply_group(EligibilityGroup group, xmlXPathContext *context, const xmlNode *root,
                        GPtrArray *findings)
{
    gsize n;
    const EligibilityRule *rules = eligibility_rules(&n);
    guint before = findings->len;

    for (gsize i = 0; i < n; i++) {
        if (rules[i].group == group)
            apply(&rules[i], context, root, findings);
    }
    if (findings->len == before)
        findings_add(findings, FINDING_PASS, groups[group].id, _(groups[group].what), NULL, NULL);
}

GPtrArray *eligibility_check(const char *domain_xml, const HostFacts *facts, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_document_parse(domain_xml, "domain", error);
    guint64 page_size = facts && facts->page_size ? facts->page_size : ORDINARY_PAGE;
    g_autoptr(xmlXPathContext) context = NULL;
    g_autoptr(GPtrArray) findings = NULL, blocks = NULL;
    const xmlNode *root;

    if (!doc)
        return NULL;
    root = xmlDocGetRootElement(doc);
    blocks = ram_blocks_expected(domain_xml, page_size, error);
    if (!blocks)
        return NULL;
    context = xmlXPathNewContext(doc);
    if (!context)
        g_error("out of memory");
    findings = findings_new();
    eligibility_memory(findings, blocks, root, facts);
    for (EligibilityGroup group = 0; group < ELIGIBILITY_GROUPS; group++)
        apply_group(group, context, root, findings);
    return g_steal_pointer(&findings);
}
