/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How messages name an element of a domain's XML. For the files of this folder. */
#pragma once

#include "xml/document.h"

/* The value of an attribute, or NULL. */
char *xml_attribute(const xmlNode *node, const char *name);

/* "<memory model='nvdimm'> number 1 (/x/y)": with the attribute that tells what kind it is, counted
 * among its brothers of the same name and kind where there can be several, and with about, which
 * may be NULL or empty. Translated. */
char *xml_element_describe(const xmlNode *node, const char *about);
