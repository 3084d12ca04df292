/* Preloaded over the C library: a name service that does not answer for half a minute. */
#define _GNU_SOURCE
#include <netdb.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    (void)node, (void)service, (void)hints, (void)found;
    sleep(30);
    return EAI_AGAIN;
}
