/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* CONNECT_OPEN and CONNECT_GET_URI: postcopy:///system here is qemu:///system upstream. */
#pragma once

#include "driver/driver_priv.h"

gboolean driver_connect_open(Driver *driver, Proxy *proxy, RpcFrame *frame);
gboolean driver_connect_get_uri(Driver *driver, Proxy *proxy, RpcFrame *frame);
