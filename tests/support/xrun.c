/* Preloaded over ALSA's library: a card that overruns. Before some of its reads, samples are thrown away as
 * a full buffer of the kernel's does, and the reader is told so.
 *
 * UNDERTONE_TEST_XRUNS="SECOND LOST SECOND LOST ..." at 48 kHz, in seconds of the card's own time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

#define RATE 48000
#define MOST 64

typedef struct snd_pcm snd_pcm_t;
typedef long (*readi_t)(snd_pcm_t *, void *, unsigned long);
typedef long (*bytes_t)(snd_pcm_t *, long);

static double at[MOST], lost[MOST];
static int count = -1, next;
static long heard;

long snd_pcm_readi(snd_pcm_t *pcm, void *buffer, unsigned long frames) {
    readi_t real = (readi_t)dlsym(RTLD_NEXT, "snd_pcm_readi");
    if (count < 0) {
        char *text = getenv("UNDERTONE_TEST_XRUNS");
        for (count = 0; text && *text && count < MOST; count++) {
            at[count] = strtod(text, &text);
            lost[count] = strtod(text, &text);
        }
    }
    if (next < count && heard >= (long)(at[next] * RATE)) {
        bytes_t bytes = (bytes_t)dlsym(RTLD_NEXT, "snd_pcm_frames_to_bytes");
        void *waste = malloc((size_t)bytes(pcm, (long)frames));
        for (long left = (long)(lost[next] * RATE); left > 0;) {
            long got = real(pcm, waste, frames);
            if (got < 0)
                break;
            left -= got;
            heard += got;
        }
        free(waste);
        next++;
        return -EPIPE;
    }
    long got = real(pcm, buffer, frames);
    if (got > 0)
        heard += got;
    return got;
}
