/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What preflight/ looks at, from the daemon's settings. */
#pragma once

#include "driver/settings.h"
#include "preflight/preflight.h"

/* Valid as long as settings are. */
PreflightConfig preflight_config(const Settings *settings);
