/* Preloaded over ALSA's library: a card that runs at one rate, the one that stands in the file
 * UNDERTONE_TEST_RATE when it is asked. */
#include <stdio.h>
#include <stdlib.h>

typedef struct snd_pcm_hw_params snd_pcm_hw_params_t;

static int rate(unsigned int *value, int *direction) {
    FILE *file = fopen(getenv("UNDERTONE_TEST_RATE"), "r");
    if (!file || fscanf(file, "%u", value) != 1)
        abort();
    fclose(file);
    if (direction)
        *direction = 0;
    return 0;
}

int snd_pcm_hw_params_get_rate_min(const snd_pcm_hw_params_t *params, unsigned int *value, int *direction) {
    (void)params;
    return rate(value, direction);
}

int snd_pcm_hw_params_get_rate_max(const snd_pcm_hw_params_t *params, unsigned int *value, int *direction) {
    (void)params;
    return rate(value, direction);
}
