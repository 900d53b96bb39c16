/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the guest puts below 1 MiB, where the loader leaves memory free and no
 * page under test is.
 */
#pragma once

#define LOWMEM_BALLOON 0x60000          /* the balloon's queue, 16 KiB */
#define LOWMEM_AP_CODE 0x70000          /* where the other processors wake up, one page */
