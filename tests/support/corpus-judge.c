/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Says of domain XML in files what EXPECTED of tests/corpus/domain says of its own: a line each. */
#include "config.h"

#include <stdio.h>

#include "tests/support/corpus.h"

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *xml = NULL;
        g_autofree char *line = NULL;

        if (!g_file_get_contents(argv[i], &xml, NULL, &error) ||
            !(line = corpus_judge(xml, &error))) {
            fprintf(stderr, "%s: %s\n", argv[i], error->message);
            return 1;
        }
        puts(line);
    }
    return 0;
}
