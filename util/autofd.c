/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "util/autofd.h"

#include <errno.h>

void autofd_clear(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    errno = saved;
}
