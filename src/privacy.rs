//! What this sensor hears, keeps and tells, in words that a visitor can read.
//!
//! In: the configuration in force, and consent as it stands. Out: a page of plain text. Nothing in it is
//! fixed that the configuration can change: it says what this sensor does, not what one could do.

use crate::audio::SAMPLE_RATE;
use crate::config::asr::{Asr, Kind, WyomingAddress};
use crate::config::endpoint::{Endpoint, is_loopback};
use crate::config::{Config, EMBEDDED};
use crate::consent::Standing;
use crate::events::Consent;
use crate::features::{FRAMES, HOP};
use jiff::tz::TimeZone;
use std::fmt::Write as _;
use std::path::Path;

/// Where nobody else can read along.
const NEAR: &str = "It does not leave this machine on the way there.";
/// Width of the page.
const WIDTH: usize = 96;

/// The page of a daemon with this state folder; `runs` says whether it does, as far as is known.
pub fn page(config: &Config, folder: Option<&Path>, standing: &Standing, runs: bool) -> String {
    let mut page = Page(String::new());
    let zone = TimeZone::system();
    page.title(&format!("This room has a voice sensor: undertone, named {:?}", config.node));
    page.say(match standing.listening.consent {
        Consent::Granted if runs => "The microphone is open now.".into(),
        Consent::Granted => {
            "As far as is known, no undertone runs with this configuration at the moment, and then nothing is heard; \
             whenever it runs, the microphone is open."
                .into()
        }
        Consent::Withheld => {
            format!("The microphone is closed now: listening is {}.", standing.listening.sentence(&zone))
        }
    });
    page.say(match standing.transcription.consent {
        _ if recogniser(config).is_none() => {
            "No speech recogniser is set up: no words are recognised.".to_owned()
        }
        Consent::Granted if standing.listening.consent == Consent::Granted => {
            "Words are recognised: see below.".into()
        }
        Consent::Granted => "Words would be recognised if the microphone were open: see below.".into(),
        Consent::Withheld => {
            format!("Words are not recognised: transcription is {}.", standing.transcription.sentence(&zone))
        }
    });
    heard(&mut page, config);
    kept(&mut page, config, folder);
    told(&mut page, config);
    stop(&mut page, config);
    law(&mut page);
    page.0
}

/// Stands in front of a page that is made from another configuration than the daemon's.
pub fn other_configuration() -> String {
    let mut page = Page(String::new());
    page.say(
        "NOTE: the undertone that runs here runs with another configuration than the one this page is made from, because \
         the file was changed since (or the program was). What it does may differ from what follows until it is started \
         anew: `systemctl restart undertone`. The page of the one that runs is on its MQTT topic `privacy`.",
    );
    page.0 + "\n"
}

fn heard(page: &mut Page, config: &Config) {
    page.title("What is heard");
    page.say(format!(
        "While listening is granted, the microphone ({}) is always on. A program on this machine finds out when \
         somebody speaks, and guesses from the sound of each sentence which of six words fits best: neutral, happy, \
         fear, disgust, anger, sad. It does not know who speaks. Such guesses are often wrong, most of all for \
         children, for languages and voices that it was not made from, and with more than one person speaking.",
        config.audio.device
    ));
}

fn kept(page: &mut Page, config: &Config, folder: Option<&Path>) {
    page.title("What is kept, and for how long");
    let window = (FRAMES * HOP) as f64 / f64::from(SAMPLE_RATE);
    let c = &config.cascade;
    let seconds = c.max_segment_seconds + c.pre_roll_seconds + c.min_silence_seconds + 2.0 * window;
    page.item(format!(
        "Sound: the last {:.0} seconds, in memory only, overwritten by what follows. Up to {:.0} seconds more wait \
         there while the machine is busy. It is never written to a disk by this program. When listening is withdrawn \
         it is overwritten at once.",
        seconds.ceil(),
        config.audio.ring_seconds.ceil()
    ));
    if recogniser(config).is_some() {
        let spoken = if config.asr.streams() { c.max_segment_seconds } else { 0.0 };
        let most = (config.asr.queue as f64 + 1.0) * (config.asr.longest_hand_over() + spoken);
        page.item(format!(
            "Sound of sentences for the recogniser: while transcription is granted, up to {} of them wait for it, in memory \
             only. If it does not answer, the last may wait for up to {}. When transcription is withdrawn they are overwritten at once.",
            config.asr.queue,
            span(most)
        ));
    }
    match folder {
        None => page.item("A record of decisions: none is kept."),
        Some(folder) => page.item(format!(
                "A record of decisions: when somebody spoke, which emotion was guessed, whether the recogniser was woken, \
                 and who changed consent. No sound, no words. For {} to {} days, in {} on this machine; whoever may \
                 administer it can read it. It can be erased for any span of time (`undertone ledger erase`).",
                config.ledger.keep_days,
                u64::from(config.ledger.keep_days) + u64::from(config.ledger.max_file_days),
                folder.join("ledger").display()
            )),
    }
    page.item(
        "The system's log (the journal): a line whenever somebody speaks, with the time and the guessed emotion; no sound, no \
         words. For as long as the system keeps its log. With UNDERTONE_LOG=warn these lines are left out.",
    );
    page.item(
        "The home hub, and whatever else receives the messages below, may keep them for as long as it is set to. Ask who \
         runs it.",
    );
}

fn told(page: &mut Page, config: &Config) {
    page.title("What is sent, where, and who can see it");
    let mqtt = &config.mqtt;
    let inside = mqtt.inside || mqtt.broker == EMBEDDED;
    let broker = Endpoint::parse(&mqtt.broker).ok().filter(|_| !inside);
    let place = match inside {
        true => format!("a broker inside this program, at {}", mqtt.embedded_listen),
        false => format!("the message broker {}", mqtt.place()),
    };
    let way = match &broker {
        None if loopback(&mqtt.embedded_listen) => NEAR,
        Some(broker) if broker.is_near() => NEAR,
        Some(broker) if broker.tls => "On the way it is encrypted.",
        _ => "On the way it is NOT encrypted: whoever is in the same network can read along.",
    };
    let readers = match inside && mqtt.user.is_empty() {
        true => "Whatever runs on this machine can read it there, and send what is told there itself",
        false => "Whoever may read there sees it",
    };
    page.item(format!(
        "That somebody speaks, when, and the guessed emotion with its probabilities: to {place}, under {}/{}/. {readers}, \
         the home hub first of all. {way}",
        mqtt.prefix, config.node
    ));
    if !config.metrics.listen.is_empty() {
        page.item(format!(
            "Figures about the program's work, among them how often somebody spoke, but not which emotion was guessed, nor \
             when: to whatever runs on this machine and asks http://{}/metrics. Who collects them often can tell the hour.",
            config.metrics.listen
        ));
    }
    let Some(recogniser) = recogniser(config) else {
        page.item("Sound: to nobody. No recogniser is set up.");
        return;
    };
    page.item(format!(
        "Sound of single sentences, {:.1} to {:.0} seconds each, only while transcription is granted: to {recogniser}. {} What it \
         does with them is up to whoever set it up.",
        config.asr.min_seconds, config.asr.max_seconds, way_of(&config.asr)
    ));
    page.item(if config.asr.publish_transcript {
        format!(
            "The recognised words: to the same broker, under {}/{}/transcript. They are not kept there by this program.",
            mqtt.prefix, config.node
        )
    } else {
        "The recognised words: to nobody, by this program; the recogniser itself has them.".to_owned()
    });
}

fn stop(page: &mut Page, config: &Config) {
    page.title("How to switch it off");
    page.item(
        "At the machine: `undertone consent revoke all`, or `undertone consent guest 3h` for a visit. The microphone is closed \
         within a second, not just muted.",
    );
    page.item(if config.consent.remote_grant {
        "In the home hub: the consent switches. They can also grant it (consent.remote_grant is set)."
    } else {
        "In the home hub: the consent switches. They can only take consent away; it is given back at the machine."
    });
    if !config.consent.quiet_hours.is_empty() {
        let hours: Vec<String> = config.consent.quiet_hours.iter().map(ToString::to_string).collect();
        page.item(format!("By itself, every day: {}.", hours.join(", ")));
    }
    page.item(if config.consent.guest_ends_by_itself {
        "A visit with a time ends by itself, and the microphone may then open again."
    } else {
        "When the time of a visit is over, the microphone stays closed until somebody says otherwise."
    });
    page.item("Or ask whoever lives here. Nobody needs to give a reason.");
}

/// Regulation (EU) 2024/1689, articles 2(10), 3(4), 3(39), 5(1)(f), 50(3) and (5), 113 and annex III 1(c);
/// the date of the last by Regulation (EU) 2026/1744.
fn law(page: &mut Page) {
    page.title("What the law of the European Union says about this (no legal advice)");
    page.say(
        "To infer emotions from a voice, which is biometric data, is \"emotion recognition\" in the EU AI Act, Regulation \
         (EU) 2024/1689, article 3(39).",
    );
    page.item(
        "FORBIDDEN at workplaces and in schools and other education institutions (article 5(1)(f), since 2 February 2025), \
         except for medical or safety reasons, which this program is not made for. A home in which somebody works for \
         others, is employed or is taught may be such a place meanwhile. Do not use it there.",
    );
    page.item(
        "Elsewhere, whoever uses such a system on other people must tell them that it works, clearly and at the latest when \
         they are first exposed to it (article 50(3) and (5), since 2 August 2026), and must keep the GDPR. \
         This page is meant to help with that: show it, or put it on the wall.",
    );
    page.item(
        "A person's purely personal, non-professional use is left out of these duties (articles 2(10) and 3(4)). Guests, tenants, \
         patients, carers and staff have rights all the same, and in many countries it is a crime to listen in on a \
         conversation in secret. So: tell everybody, and ask.",
    );
    page.item(
        "Emotion recognition that is not forbidden is high-risk (article 6(2) and annex III, 1(c)); the duties that come with \
         it apply from 2 December 2027 (as amended by Regulation (EU) 2026/1744) to those who offer or use it professionally. This program was not assessed for that and is not meant for it.",
    );
}

/// Who is given sound, if anybody is.
fn recogniser(config: &Config) -> Option<String> {
    let asr = &config.asr;
    Some(match asr.kind()? {
        Kind::Command => {
            let place = asr.place(); // where it lies tells nobody in the room anything
            format!("the program {} on this machine", place.rsplit('/').next().unwrap_or(&place))
        }
        Kind::Wyoming => format!("the wyoming recogniser at {}", asr.place()),
        Kind::Http => format!("the http recogniser at {}", asr.place()),
    })
}

/// A span of time in words.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{:.0} seconds", s.ceil()),
        s if s < 7200.0 => format!("{:.0} minutes", (s / 60.0).ceil()),
        s => format!("{:.0} hours", (s / 3600.0).ceil()),
    }
}

/// Who else can hear what the recogniser is sent.
fn way_of(asr: &Asr) -> &'static str {
    let (near, encrypted) = match asr.kind() {
        Some(Kind::Wyoming) => match asr.wyoming.address() {
            Some(WyomingAddress::Tcp(host, _)) => (is_loopback(&host), false),
            Some(WyomingAddress::Unix(_)) => (true, false),
            None => (false, false),
        },
        Some(Kind::Http) => {
            asr.http.address().map_or((false, false), |address| (is_loopback(&address.host), address.tls))
        }
        Some(Kind::Command) | None => (true, false),
    };
    match (near, encrypted) {
        (true, _) => NEAR,
        (false, true) => "On the way it is encrypted.",
        (false, false) => "On the way it is NOT encrypted: whoever is in the same network can listen in.",
    }
}

fn loopback(listen: &str) -> bool {
    listen.parse::<std::net::SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
}

struct Page(String);

impl Page {
    fn title(&mut self, text: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        let _ = writeln!(self.0, "{gap}{text}\n");
    }

    fn say(&mut self, text: impl AsRef<str>) {
        self.wrap("", "", text.as_ref());
    }

    fn item(&mut self, text: impl AsRef<str>) {
        self.wrap("- ", "  ", text.as_ref());
    }

    fn wrap(&mut self, first: &str, next: &str, text: &str) {
        let mut line = first.to_owned();
        let mut begun = false;
        for word in text.split_whitespace() {
            if begun && line.chars().count() + 1 + word.chars().count() > WIDTH {
                let _ = writeln!(self.0, "{line}");
                line = next.to_owned();
                begun = false;
            }
            if begun {
                line.push(' ');
            }
            line.push_str(word);
            begun = true;
        }
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::Record;
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    /// A daemon has the address of its own broker where the configuration has its name.
    #[test]
    fn who_can_read_along_is_told_of_the_broker_inside_once_it_runs() {
        let mut config = Config::default();
        config.mqtt.embedded_listen = "0.0.0.0:1883".into();
        let page = |broker: &str, inside: bool| {
            let mut config = config.clone();
            (config.mqtt.broker, config.mqtt.inside) = (broker.into(), inside);
            let standing =
                Standing::at(&config.consent, &Record::default(), Timestamp::now(), &TimeZone::UTC);
            super::page(&config, None, &standing, true)
        };
        let near = "mqtt://127.0.0.1:1883";
        assert_eq!(page(EMBEDDED, false), page(near, true));
        assert!(page(near, true).contains("NOT encrypted") && page(near, true).contains("0.0.0.0:1883"));
        assert!(!page(near, false).contains("NOT encrypted"));
    }
}
