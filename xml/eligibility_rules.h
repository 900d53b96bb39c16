/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What rules post-copy out, or may: one row for each kind of thing a domain can have. Data alone;
 * docs/eligibility.md lists the same ids. For the files of this folder. */
#pragma once

#include "util/finding.h"

typedef enum {
    ELIGIBILITY_DEVICES,
    ELIGIBILITY_DOMAIN, /* what concerns all of the guest: processor, security, ... */
    ELIGIBILITY_GROUPS,
} EligibilityGroup;

typedef struct {
    EligibilityGroup group;
    FindingVerdict verdict;
    const char *id;
    const char *elements; /* XPath: the elements that it is about */
    const char *about;    /* XPath, from such an element: what a user knows it by; or NULL */
    const char *what;     /* these three are not translated yet */
    const char *why;      /* stands behind the element's name and a colon */
    const char *remedy;
} EligibilityRule;

const EligibilityRule *eligibility_rules(gsize *ret_n);
