/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A driver for a virtio balloon, as much of it as is needed to give memory back to
 * the host once and for all: through the legacy interface, which the device has on
 * an i440fx machine (virtio 1.0, 5.5 and the "legacy interface" sections).
 */
#pragma once

#include "options.h"

/* Gives @memory to the host. NULL, or why that was not possible. */
const char *balloon_inflate(Span memory);
