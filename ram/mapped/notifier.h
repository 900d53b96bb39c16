/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Parts that must follow the phases of a migration are told of them, in the order in which they
 * were added, and may refuse one before anything has begun. Pure; one thread. */
#pragma once

#include <glib.h>

typedef enum {
    NOTIFY_PROBE,  /* may it begin? FALSE is a veto */
    NOTIFY_ADVISE, /* memory is being got ready */
    NOTIFY_LISTEN, /* from here on pages come when they are asked for */
    NOTIFY_END,    /* post-copy is over, well or not */
    NOTIFY_BEFORE_SYNC, /* of the dirty bitmaps */
    NOTIFY_AFTER_SYNC,
    NOTIFY_MAX,
} NotifyPhase;

/* "probe"… */
const char *notify_phase_name(NotifyPhase phase);

/* FALSE with error: it fails there. What is asked after BEFORE_SYNC cannot fail, nor can END. */
typedef gboolean (*NotifyFunc)(NotifyPhase phase, gpointer data, GError **error);

typedef struct NotifierList NotifierList;

NotifierList *notifier_list_new(void);
void notifier_list_free(NotifierList *list);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NotifierList, notifier_list_free)

/* name: for errors; copied. Returns an id. */
guint notifier_list_add(NotifierList *list, const char *name, NotifyFunc func, gpointer data);
void notifier_list_remove(NotifierList *list, guint id);

/* FALSE: one of them has refused, the error begins with its name, and those after it were not
 * asked. In END and the two of the sync all are told, and it is TRUE. */
gboolean notifier_list_tell(NotifierList *list, NotifyPhase phase, GError **error);
