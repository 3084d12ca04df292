//! Which microphone `audio.device` means.
//!
//! Cards are numbered in the order in which they are found, so a number means another card after the
//! next start. Names stay.

use regex_lite::{Regex, RegexBuilder};

/// The name that stands for the system's choice.
pub const DEFAULT_DEVICE: &str = "default";

/// A parsed `audio.device`.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// The system's choice.
    Default,
    /// The device with this name, or this description.
    Named(String),
    /// The first device whose name or description matches.
    Matching(Regex),
}

impl Wanted {
    /// `default`, a name such as `hw:CARD=Mic`, or a regular expression between slashes, for which
    /// upper and lower case are the same.
    ///
    /// # Errors
    /// What is allowed, if it is a number, or no regular expression.
    pub fn parse(device: &str) -> Result<Wanted, &'static str> {
        if device == DEFAULT_DEVICE {
            return Ok(Wanted::Default);
        }
        if let Some(pattern) = device.strip_prefix('/') {
            let pattern = pattern.strip_suffix('/').filter(|pattern| !pattern.is_empty());
            let regex = pattern.and_then(|p| RegexBuilder::new(p).case_insensitive(true).build().ok());
            return regex.map(Wanted::Matching).ok_or("it is no regular expression between two slashes");
        }
        let arguments = device.split_once(':').map_or(device, |(_, arguments)| arguments);
        let card = arguments.split(',').next().unwrap_or_default();
        let card = card.strip_prefix("CARD=").unwrap_or(card);
        if card.chars().all(|c| c.is_ascii_digit()) {
            return Err("cards change their numbers; allowed are a name as `undertone devices` prints it \
                        (\"hw:CARD=…\"), a regular expression (\"/usb/\") and \"default\"");
        }
        Ok(Wanted::Named(device.into()))
    }

    /// As [`pick`](Self::pick), but the device of the name `last`, if it is one of those that match: what was heard is
    /// heard on, whatever else was plugged in.
    pub fn pick_again<'a>(&self, devices: &'a [(String, String)], last: Option<&str>) -> Option<&'a str> {
        let again = match (self, last) {
            (Wanted::Matching(regex), Some(last)) => devices
                .iter()
                .find(|(name, about)| name == last && (regex.is_match(name) || regex.is_match(about))),
            _ => None,
        };
        again.map(|(name, _)| name.as_str()).or_else(|| self.pick(devices))
    }

    /// Which of these devices, each with its name and its description, is meant. Of several that match
    /// a regular expression the most direct one is taken, so that nothing is converted on the way.
    pub fn pick<'a>(&self, devices: &'a [(String, String)]) -> Option<&'a str> {
        let found = match self {
            Wanted::Default => devices.iter().find(|(name, _)| name == DEFAULT_DEVICE),
            Wanted::Named(wanted) => {
                let whole = format!("{wanted},DEV=0"); // as the sound system completes it
                devices
                    .iter()
                    .find(|(name, _)| name == wanted || *name == whole)
                    .or_else(|| devices.iter().find(|(_, description)| description == wanted))
            }
            Wanted::Matching(regex) => devices
                .iter()
                .filter(|(name, description)| regex.is_match(name) || regex.is_match(description))
                .min_by_key(|(name, _)| (directness(name), name.len(), name.clone())),
        };
        found.map(|(name, _)| name.as_str())
    }
}

fn directness(name: &str) -> u8 {
    match name.split(':').next().unwrap_or_default() {
        "hw" => 0,
        "plughw" => 1,
        "sysdefault" | "front" | "dsnoop" => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick<'a>(wanted: &str, devices: &'a [(String, String)]) -> Option<&'a str> {
        Wanted::parse(wanted).unwrap().pick(devices)
    }

    fn devices() -> Vec<(String, String)> {
        [
            ("default", "Default Audio Device"),
            ("sysdefault:CARD=Device", "USB PnP Sound Device"),
            ("plughw:CARD=Device,DEV=0", "USB PnP Sound Device, USB Audio"),
            ("hw:CARD=Device,DEV=1", "USB PnP Sound Device, USB Audio #1"),
            ("hw:CARD=Device,DEV=0", "USB PnP Sound Device, USB Audio"),
            ("hw:CARD=PCH,DEV=0", "HDA Intel PCH, ALC257 Analog"),
        ]
        .map(|(name, description)| (name.into(), description.into()))
        .to_vec()
    }

    #[test]
    fn names_descriptions_and_patterns_find_a_device() {
        let devices = devices();
        assert_eq!(pick("default", &devices), Some("default"));
        assert_eq!(pick("hw:CARD=PCH,DEV=0", &devices), Some("hw:CARD=PCH,DEV=0"));
        assert_eq!(pick("hw:CARD=PCH", &devices), Some("hw:CARD=PCH,DEV=0"));
        assert_eq!(pick("HDA Intel PCH, ALC257 Analog", &devices), Some("hw:CARD=PCH,DEV=0"));
        assert_eq!(pick("hw:CARD=PC", &devices), None);
        assert_eq!(pick("/usb pnp/", &devices), Some("hw:CARD=Device,DEV=0"));
        assert_eq!(pick("/plug.*device/", &devices), Some("plughw:CARD=Device,DEV=0"));
        assert_eq!(pick("/#1$/", &devices), Some("hw:CARD=Device,DEV=1"));
        assert_eq!(pick("/bluetooth/", &devices), None);
        let again = |wanted: &str, last| {
            Wanted::parse(wanted).unwrap().pick_again(&devices, Some(last)).map(str::to_owned)
        };
        assert_eq!(again("/usb pnp/", "hw:CARD=Device,DEV=1").as_deref(), Some("hw:CARD=Device,DEV=1"));
        assert_eq!(again("/usb pnp/", "hw:CARD=Gone,DEV=0").as_deref(), Some("hw:CARD=Device,DEV=0"));
        assert_eq!(
            again("/usb pnp/", "hw:CARD=PCH,DEV=0").as_deref(),
            Some("hw:CARD=Device,DEV=0"),
            "it is not meant"
        );
        assert_eq!(again("default", "hw:CARD=PCH,DEV=0").as_deref(), Some("default"));
    }

    /// Listings in ALSA's form, before a USB microphone was pulled out and after it came back while another
    /// card had taken its number; then with a second one of its kind, which ALSA gives another name.
    #[test]
    fn a_card_with_another_number_is_the_same_card() {
        let listing = |cards: &[(&str, &str)]| -> Vec<(String, String)> {
            let named = |(card, description): &(&str, &str)| {
                ["sysdefault", "plughw", "hw"].map(|kind| {
                    let device = if kind == "sysdefault" { "" } else { ",DEV=0" };
                    (format!("{kind}:CARD={card}{device}"), format!("{description}, USB Audio"))
                })
            };
            cards.iter().flat_map(named).collect()
        };
        let (desk, shelf) = ("USB PnP Sound Device", "ReSpeaker 4 Mic Array");
        let before = listing(&[("PCH", "HDA Intel PCH"), ("ArrayUAC10", shelf)]);
        let after = listing(&[("Device", desk), ("ArrayUAC10", shelf), ("PCH", "HDA Intel PCH")]);
        for wanted in ["hw:CARD=ArrayUAC10", "hw:CARD=ArrayUAC10,DEV=0", "/respeaker/", "/arrayuac/"] {
            assert_eq!(pick(wanted, &before), Some("hw:CARD=ArrayUAC10,DEV=0"), "{wanted}");
            assert_eq!(pick(wanted, &after), Some("hw:CARD=ArrayUAC10,DEV=0"), "{wanted}");
        }
        // Two of a kind: the second to come gets a name of its own, which only a pattern finds.
        let renamed = listing(&[("PCH", "HDA Intel PCH"), ("ArrayUAC10_1", shelf)]);
        assert_eq!(pick("hw:CARD=ArrayUAC10", &renamed), None);
        assert_eq!(pick("/respeaker/", &renamed), Some("hw:CARD=ArrayUAC10_1,DEV=0"));
    }

    #[test]
    fn numbers_and_broken_patterns_are_refused() {
        for wanted in ["hw:0", "hw:1,0", "plughw:2,0", "hw:CARD=0,DEV=0", "3", ""] {
            assert!(Wanted::parse(wanted).unwrap_err().contains("numbers"), "{wanted}");
        }
        for wanted in ["/", "//", "/(/", "/usb"] {
            assert!(Wanted::parse(wanted).unwrap_err().contains("regular expression"), "{wanted}");
        }
        for wanted in ["hw:CARD=U0x46d0x825", "pulse", "usbstream:CARD=Mic"] {
            assert!(matches!(Wanted::parse(wanted), Ok(Wanted::Named(_))), "{wanted}");
        }
    }
}
