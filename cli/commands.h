/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Every subcommand; the table is in cli/main.c. */
#pragma once

#include "cli/command.h"

extern const Command command_check;
extern const Command command_export;
extern const Command command_list;
extern const Command command_top;
