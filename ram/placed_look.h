/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is in place, and not in the record: a helper that is killed between placing a page and noting it leaves
 * such pages. QEMU takes each of them for an error when it comes again. While the memory is registered with a
 * userfaultfd a page is in its page tables if it was placed, by QEMU or by a helper, and not else; so the kernel
 * can be asked. Nobody may place anything meanwhile. */
#pragma once

#include "ram/placed_record.h"

/* Marks what is there by pagemap (/proc/PID/pagemap of QEMU, the caller's; an empty file tells of nothing).
 * Returns how many target pages were not marked before. */
guint64 placed_look(PlacedRecord *record, int pagemap);
