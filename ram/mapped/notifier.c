/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/mapped/notifier.h"

typedef struct {
    guint id;
    char *name;
    NotifyFunc func;
    gpointer data;
} Notifier;

struct NotifierList {
    GPtrArray *all; /* of Notifier */
    guint last_id;
};

static void notifier_free(gpointer data)
{
    Notifier *notifier = data;

    g_free(notifier->name);
    g_free(notifier);
}

const char *notify_phase_name(NotifyPhase phase)
{
    static const char *const names[] = {
        "probe", "advise", "listen", "end", "before-sync", "after-sync",
    };

    G_STATIC_ASSERT(G_N_ELEMENTS(names) == NOTIFY_MAX);
    return (guint)phase < NOTIFY_MAX ? names[phase] : "?";
}

NotifierList *notifier_list_new(void)
{
    NotifierList *list = g_new0(NotifierList, 1);

    list->all = g_ptr_array_new_with_free_func(notifier_free);
    return list;
}

void notifier_list_free(NotifierList *list)
{
    if (!list)
        return;
    g_ptr_array_unref(list->all);
    g_free(list);
}

guint notifier_list_add(NotifierList *list, const char *name, NotifyFunc func, gpointer data)
{
    Notifier *notifier = g_new0(Notifier, 1);

    notifier->id = ++list->last_id;
    notifier->name = g_strdup(name);
    notifier->func = func;
    notifier->data = data;
    g_ptr_array_add(list->all, notifier);
    return notifier->id;
}

void notifier_list_remove(NotifierList *list, guint id)
{
    for (guint i = 0; i < list->all->len; i++) {
        const Notifier *notifier = g_ptr_array_index(list->all, i);

        if (notifier->id != id)
            continue;
        g_ptr_array_remove_index(list->all, i);
        return;
    }
}

static gboolean may_refuse(NotifyPhase phase)
{
    return phase < NOTIFY_END;
}

gboolean notifier_list_tell(NotifierList *list, NotifyPhase phase, GError **error)
{
    for (guint i = 0; i < list->all->len; i++) {
        const Notifier *notifier = g_ptr_array_index(list->all, i);
        g_autoptr(GError) refusal = NULL;

        if (notifier->func(phase, notifier->data, &refusal) || !may_refuse(phase))
            continue;
        g_propagate_prefixed_error(error, g_steal_pointer(&refusal), "%s: ", notifier->name);
        return FALSE;
    }
    return TRUE;
}
