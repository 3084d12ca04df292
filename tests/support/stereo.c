/* Preloaded over ALSA's library: a card of two channels, and of no other number. */
typedef struct snd_pcm_hw_params snd_pcm_hw_params_t;

static int two(unsigned int *value) {
    *value = 2;
    return 0;
}

int snd_pcm_hw_params_get_channels_min(const snd_pcm_hw_params_t *params, unsigned int *value) {
    (void)params;
    return two(value);
}

int snd_pcm_hw_params_get_channels_max(const snd_pcm_hw_params_t *params, unsigned int *value) {
    (void)params;
    return two(value);
}
