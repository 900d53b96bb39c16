/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "ram/relay_report.h"

RelayReport *relay_report_new(RelayReportType type)
{
    RelayReport *report = g_new0(RelayReport, 1);

    report->type = type;
    return report;
}

void relay_report_free(gpointer data)
{
    RelayReport *report = data;

    g_clear_error(&report->error);
    g_free(report->reason);
    g_free(report->address);
    g_free(report->tls_version);
    g_free(report->tls_cipher);
    g_free(report->peer_name);
    g_free(report);
}
