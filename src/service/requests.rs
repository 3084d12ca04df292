//! What somebody asks of the running service: commands over MQTT, and a changed configuration.

use super::anew::Restart;
use super::household::config_digest;
use super::runtime::Service;
use super::wishes::Wish;
use crate::config::{Config, ConfigError, changes};
use crate::events::Component;
use crate::home::{Command, Forget};
use crate::ledger::Entry;
use crate::settings::Setting;
use std::time::Instant;

impl Service {
    /// Does what was asked over MQTT, after that moment for sure; none: at any time.
    pub(super) fn command(&mut self, command: Command, said_after: Option<Instant>) {
        match command {
            Command::Set(setting, value) => self.set(setting, value),
            Command::Forget => self.forget(),
            Command::Restart => {
                tracing::info!("a restart was asked for over MQTT");
                self.trial.begin(Restart::Asked, tokio::time::Instant::now());
            }
            Command::Consent(order) => {
                if order.gives() {
                    // What was withdrawn at the machine while this process stood still has to be known first.
                    self.look_at_consent();
                }
                match self.keeper.obey(order, said_after) {
                    Ok(told) => told.into_iter().for_each(|told| self.consent_told(told)),
                    Err(refusal) => self.refused(refusal),
                }
            }
        }
    }

    fn set(&mut self, setting: Setting, value: Option<f64>) {
        let before = self.settings.get(setting);
        if let Err(e) = self.settings.set(setting, value) {
            self.problem(Component::Settings, e.to_string(), false);
        }
        self.keep_settings();
        let now = self.settings.get(setting);
        if now != before {
            tracing::info!("{} is {now} now; it was {before}", setting.name());
            self.wished(Wish::Set(setting));
        }
        // Also where nothing changed: a slider in Home Assistant waits for the answer.
        self.publish_settings();
    }

    /// Overwrites the sound that is held, calls back what a recogniser has or waits for, and takes back what
    /// is shown of what was heard.
    fn forget(&mut self) {
        self.forget = self.settings.live().ask_to_forget();
        self.recogniser.recall();
        self.client.forget(Forget::Heard);
        self.progress.speaking = false;
        self.emotion = None;
        self.show_nothing();
        self.publish_state();
        tracing::info!("what was heard is forgotten, as asked for over MQTT");
        self.wished(Wish::Forget);
    }

    /// Takes over what can change without a restart, and says what cannot.
    pub(super) fn reload(&mut self, read: Result<Config, ConfigError>) {
        let new = match read {
            Ok(new) => new,
            Err(e) => {
                let message = format!("the configuration was not read again, and the old one stays: {e}");
                return self.problem(Component::Settings, message, false);
            }
        };
        let changes = changes(&self.config, &new);
        self.config.take_live(&new);
        self.recogniser.set_limits(&self.config.asr);
        self.settings.set_defaults(&self.config);
        self.publish_settings();
        let told = self.keeper.set_rules(&self.config.consent);
        told.into_iter().for_each(|told| self.consent_told(told));
        self.publish_consent();
        if !changes.live.is_empty() {
            self.recorder.record(Entry::Configured { config_sha256: config_digest(&self.config) });
        }
        if !changes.live.is_empty() {
            tracing::info!("the configuration was read again; in force now: {}", changes.live.join(", "));
        }
        for setting in Setting::ALL.into_iter().filter(|setting| self.settings.is_changed(*setting)) {
            if changes.live.iter().any(|key| key == setting.key()) {
                tracing::info!(
                    "{} stays as it was set at run time: {}",
                    setting.key(),
                    self.settings.get(setting)
                );
            }
        }
        if !changes.restart.is_empty() {
            tracing::warn!(
                "these changes of the configuration need a restart: {}",
                changes.restart.join(", ")
            );
        }
        if changes.live.is_empty() && changes.restart.is_empty() {
            tracing::info!("the configuration was read again; nothing has changed");
        }
    }
}
