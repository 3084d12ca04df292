//! How much of what somebody wrote into the configuration may be shown.
//!
//! In: addresses, file names and programs as they stand there. Out: what may stand in a sentence, on the
//! page for visitors, on a topic, in the log. A password belongs into a file or the environment; one that
//! was written elsewhere by mistake is not repeated by anything that this program says.

use std::path::{Component, Path};

/// Stands for what is not shown.
const HIDDEN: &str = "…";

/// What may be shown of an address that nobody could read: scheme, host, and a port that is a number.
///
/// A secret may stand before an `@`, behind a `?` or `#`, in a path, or where a port belongs.
pub fn shown(address: &str) -> String {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (format!("{scheme}://"), rest),
        Some(_) => return HIDDEN.into(),
        None => (String::new(), address),
    };
    if rest.is_empty() {
        return scheme;
    }
    let (user, rest) = match rest.rsplit_once('@') {
        // Which of them ends the secret cannot be told.
        Some(_) if rest.contains(['?', '#']) => return scheme + HIDDEN,
        Some((_, behind)) => ("…@", behind),
        None => ("", rest),
    };
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let cut =
        if place.len() < rest.len() { rest[place.len()..][..1].to_owned() + HIDDEN } else { String::new() };
    let v6 = place.find(']').filter(|_| place.starts_with('[')).map(|end| end + 1);
    let (host, port) = place.split_at(v6.or_else(|| place.find(':')).unwrap_or(place.len()));
    let named =
        |c: char| c.is_ascii_alphanumeric() || "-._".contains(c) || (v6.is_some() && "[]:%".contains(c));
    let host = if host.chars().all(named) { host } else { HIDDEN };
    let number = |port: &str| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => String::new(),
        Some(port) if number(port) => format!(":{port}"),
        _ => format!(":{HIDDEN}"),
    };
    format!("{scheme}{user}{host}{port}{cut}")
}

fn is_scheme(scheme: &str) -> bool {
    (1..=8).contains(&scheme.len()) && scheme.bytes().all(|b| b.is_ascii_lowercase())
}

/// What may be shown of the name of a file that holds a secret: somebody may have written the secret itself
/// in its place.
pub fn file(path: &Path) -> String {
    let plain = path.to_str().is_some_and(|text| text.len() <= 256 && !text.contains(char::is_control));
    let named = path.components().filter(|part| matches!(part, Component::Normal(_))).count();
    if path.is_absolute() && named >= 2 && plain { format!("{path:?}") } else { format!("{HIDDEN:?}") }
}

/// The same for a certificate: what ends like one is none.
pub fn certificate(path: &Path) -> String {
    let ends = path.extension().and_then(|end| end.to_str());
    let named = ends.is_some_and(|end| ["pem", "crt", "cer"].contains(&end)) && !path.starts_with("~");
    match path.to_str() {
        Some(text) if named && text.len() <= 256 && !text.contains(char::is_control) => format!("{text:?}"),
        _ => file(path),
    }
}

/// The name of a program, without what somebody wrote behind it, where its arguments do not belong.
pub fn program(program: &str) -> String {
    match program.trim_start().find(|c: char| c.is_whitespace() || c == '=') {
        Some(end) => program.trim_start()[..end].to_owned() + HIDDEN,
        None => program.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_where_and_nothing_secret() {
        for (address, seen) in [
            ("broker.lan", "broker.lan"),
            ("broker.lan:1883", "broker.lan:1883"),
            ("http://broker.lan", "http://broker.lan"),
            ("mqtt://", "mqtt://"),
            ("mqtt://[fd00::1%eth0]:99", "mqtt://[fd00::1%eth0]:99"),
            ("mqtt://host/path", "mqtt://host/…"),
            ("SECRET@host", "…@host"),
            ("ann:SECRET@host:1883", "…@host:1883"),
            ("mqtt://ann:SECRET@host", "mqtt://…@host"),
            ("mqtt://ann:SEC@RET@host", "mqtt://…@host"),
            ("mqtt://ann:SEC/RET@host", "mqtt://…@host"),
            ("mqtt://ann:SEC?RET@host", "mqtt://…"),
            ("mqtt://host?password=SECRET", "mqtt://host?…"),
            ("mqtt://host?password=SEC@RET", "mqtt://…"),
            ("mqtt://host#SECRET", "mqtt://host#…"),
            ("mqtt://ann:SECRET", "mqtt://ann:…"),
            ("mqtt:ann:SECRET", "mqtt:…"),
            ("mqtt://ann%3ASECRET%40host", "mqtt://…"),
            ("SECRET://host", "…"),
            ("https://host/hook/SECRET", "https://host/…"),
            ("ann SECRET", "…"),
            ("", ""),
        ] {
            assert_eq!(shown(address), seen, "{address}");
        }
    }

    #[test]
    fn a_secret_in_the_place_of_a_file_or_a_program_is_not_shown() {
        assert_eq!(file(Path::new("/etc/undertone/password")), "\"/etc/undertone/password\"");
        for secret in ["hunter2", "/hunter2", "a/b/c", "/etc/-----BEGIN KEY-----\nabc"] {
            assert_eq!(file(Path::new(secret)), "\"…\"", "{secret}");
        }
        assert_eq!(program("/opt/words"), "/opt/words");
        assert_eq!(program("curl -H hunter2"), "curl…");
        assert_eq!(program("KEY=hunter2 curl"), "KEY…");
    }
}
