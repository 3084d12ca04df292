//! Where recognisers listen: `asr.wyoming.url` and `asr.http.url`, read, and as they may be shown.

use super::asr::{Http, Wyoming};
use std::fmt;
use std::path::PathBuf;

/// The port that Wyoming recognisers listen on by custom.
const WYOMING_PORT: u16 = 10300;
/// Where OpenAI-style servers take recordings.
const TRANSCRIPTIONS: &str = "/v1/audio/transcriptions";

/// Where a Wyoming server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WyomingAddress {
    /// Host (IPv6 without brackets) and port.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Wyoming {
    /// Where to connect; none if the URL is not of the form that [`Wyoming::url`] allows.
    pub fn address(&self) -> Option<WyomingAddress> {
        if let Some(path) = self.url.strip_prefix("unix://") {
            return path.starts_with('/').then(|| WyomingAddress::Unix(path.into()));
        }
        let (host, port) = host_and_port(self.url.strip_prefix("tcp://")?)?;
        Some(WyomingAddress::Tcp(host, port.unwrap_or(WYOMING_PORT)))
    }
}

impl fmt::Display for WyomingAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WyomingAddress::Tcp(host, port) if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            WyomingAddress::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
            WyomingAddress::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Where an HTTP server listens, and for what it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAddress {
    /// `https`.
    pub tls: bool,
    /// Name or address; IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Host and port as they stand in the URL.
    pub authority: String,
    /// Path.
    pub path: String,
}

/// Where it is; the path, in which some servers want a key, is not shown.
impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

impl Http {
    /// Where to post to; none if the URL is not of the form that [`Http::url`] allows.
    pub fn address(&self) -> Option<HttpAddress> {
        let (tls, rest) = match self.url.split_once("://")? {
            ("http", rest) => (false, rest),
            ("https", rest) => (true, rest),
            _ => return None,
        };
        let (authority, path) = match rest.split_once('/') {
            None | Some((_, "")) => (rest.trim_end_matches('/'), TRANSCRIPTIONS.to_owned()),
            Some((authority, path)) => (authority, format!("/{path}")),
        };
        let (host, port) = host_and_port(authority)?;
        let plain = |c: char| c.is_ascii_graphic() && !"#?<>`\"".contains(c);
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        path.chars().all(plain).then(|| HttpAddress { tls, host, port, authority: authority.into(), path })
    }
}

/// `host[:port]`, where an IPv6 address stands in brackets. A user or password is refused.
fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let named = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || !host.chars().all(named) {
        return None;
    }
    let port = match rest {
        "" => None,
        rest => Some(rest.strip_prefix(':')?.parse().ok().filter(|port| *port != 0)?),
    };
    Some((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Option<WyomingAddress> {
        Some(WyomingAddress::Tcp(host.into(), port))
    }

    #[test]
    fn wyoming_addresses() {
        let read = |url: &str| Wyoming { url: url.into(), ..Default::default() }.address();
        assert_eq!(read("tcp://hub.lan:10301"), tcp("hub.lan", 10301));
        assert_eq!(read("tcp://192.168.1.2"), tcp("192.168.1.2", 10300));
        assert_eq!(read("tcp://[fd00::1]:7"), tcp("fd00::1", 7));
        assert_eq!(read("unix:///run/asr"), Some(WyomingAddress::Unix("/run/asr".into())));
        for bad in [
            "",
            "hub:1",
            "tcp://",
            "tcp://a:0",
            "tcp://a:b",
            "tcp://a/b",
            "tcp://u@a:1",
            "unix://run",
            "tcp://[fd00::1",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn http_addresses() {
        let read = |url: &str| Http { url: url.into(), ..Default::default() }.address();
        let whisper = read("http://hub:8080/inference").unwrap();
        assert_eq!((whisper.host.as_str(), whisper.port, whisper.path.as_str()), ("hub", 8080, "/inference"));
        assert_eq!(whisper.authority, "hub:8080");
        for url in ["https://api.example.org", "https://api.example.org/"] {
            let address = read(url).unwrap();
            assert_eq!((address.tls, address.port), (true, 443));
            assert_eq!(
                (address.authority.as_str(), address.path.as_str()),
                ("api.example.org", TRANSCRIPTIONS)
            );
        }
        assert_eq!(read("http://[::1]:80/run/@cf/x").unwrap().path, "/run/@cf/x");
        assert_eq!(read("http://[::1]:80/run/key").unwrap().to_string(), "http://[::1]:80");
        for bad in [
            "",
            "ftp://a",
            "http://",
            "http://a b/",
            "http://u:p@a/",
            "http://a/ b",
            "http://a/\r\nx",
            "http://a#x",
            "http://a/b?key=c",
            "http://a?key=c",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
