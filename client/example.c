/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A guest that moves: a thread that writes to its memory, and checks what it wrote before.
 *
 *     b$ example                       prints a URI
 *     a$ example 'postcopy:///?...'    moves its guest to b
 */
#include <postcopy-client.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define PAGES 16384ul

static uint64_t *memory;       /* the guest: 64 MiB, */
static _Atomic uint64_t count; /* and one register */
static atomic_bool runs;
static pthread_t vcpu;

static void *guest(void *unused)
{
    for (; runs; count++) {
        uint64_t *word = memory + count % PAGES * 512;

        if (*word != (count < PAGES ? 0 : count - PAGES + 1))
            printf("page %lu is wrong\n", (unsigned long)(count % PAGES));
        *word = count + 1;
    }
    return unused;
}

static void resume_guest(void *data, const char *reason)
{
    runs = true;
    pthread_create(&vcpu, NULL, guest, data);
}

static int pause_guest(void *data, const void **ret_state, size_t *ret_len)
{
    runs = false;
    pthread_join(vcpu, NULL);
    *ret_state = &count;
    *ret_len = sizeof count;
    return 0;
}

static int run_guest(void *data, const void *state, size_t len)
{
    memcpy(&count, state, sizeof count);
    resume_guest(data, NULL);
    return 0;
}

int main(int argc, char **argv)
{
    PostcopyCallbacks callbacks = { .size = sizeof callbacks, .pause = pause_guest,
                                    .resume = resume_guest, .run = run_guest };
    PostcopyRegion ram = { .name = "ram", .length = PAGES * 4096, .page_size = 4096,
                           .flags = POSTCOPY_REGION_MIGRATABLE, .fd = -1 };
    PostcopySide side = argc > 1 ? POSTCOPY_SOURCE : POSTCOPY_DESTINATION;
    PostcopyClient *client = postcopy_client_new(side, "example", &callbacks, NULL);
    uint64_t moved_at;

    ram.address = memory = mmap(NULL, ram.length, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    postcopy_client_add_region(client, &ram);
    postcopy_client_set(client, POSTCOPY_USER_FAULTS_ONLY, 1); /* no KVM here */
    if (side == POSTCOPY_SOURCE)
        resume_guest(NULL, NULL);
    if (postcopy_client_connect(client, NULL, argv[1]) < 0) {
        fprintf(stderr, "%s\n", postcopy_client_error(client));
        return 1;
    }
    if (side == POSTCOPY_SOURCE)
        postcopy_client_start_postcopy(client); /* do not wait until all is copied */
    else
        printf("%s\n", postcopy_client_uri(client)), fflush(stdout);
    postcopy_client_run(client);
    if (postcopy_client_outcome(client) != POSTCOPY_COMPLETED) {
        fprintf(stderr, "%s\n", postcopy_client_error(client));
        return 1;
    }
    if (side == POSTCOPY_DESTINATION) {
        for (moved_at = count; count < moved_at + 2 * PAGES;)
            ;
        runs = false;
        pthread_join(vcpu, NULL);
        printf("it runs here, at %lu\n", (unsigned long)count);
    }
    postcopy_client_free(client);
    return 0;
}
