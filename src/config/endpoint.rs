//! `mqtt.broker` as a host, a port, and whether TLS is spoken there.

use super::address::shown;

const PLAIN_PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;
const FORM: &str = "allowed are \"embedded\", \"mqtt://host[:port]\" and \"mqtts://host[:port]\"";
const SECRET: &str = "user and password do not belong into the address, which logs and the page for visitors show; write \
     the user into mqtt.user, and the password into a file that mqtt.password_file names, or into the environment \
     variable UNDERTONE_MQTT_PASSWORD";

/// Why an address is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointError {
    /// What may be shown of it.
    pub value: String,
    /// What is wrong, and what would mend it.
    pub reason: &'static str,
}

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address; an IPv6 address stands without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `mqtts`.
    pub tls: bool,
}

impl Endpoint {
    /// Reads `mqtt://host[:port]` or `mqtts://host[:port]`.
    ///
    /// # Errors
    /// [`EndpointError`] repeats no password that was written into the URL.
    pub fn parse(url: &str) -> Result<Endpoint, EndpointError> {
        let refuse = |reason| Err(EndpointError { value: shown(url), reason });
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme @ ("mqtt" | "mqtts"), rest)) => (scheme, rest),
            _ if url.contains('@') => return refuse(SECRET),
            _ => return refuse(FORM),
        };
        if rest.contains(['@', '?', '#']) {
            return refuse(SECRET);
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let tls = scheme == "mqtts";
        let (host, port) = match authority.strip_prefix('[') {
            Some(inner) => match inner.split_once(']') {
                Some((host, "")) if is_v6(host) => (host, None),
                Some((host, tail)) if is_v6(host) && tail.starts_with(':') => (host, Some(&tail[1..])),
                _ => return refuse("an IPv6 address is written like \"mqtt://[fd00::1]:1883\""),
            },
            None if authority.matches(':').count() > 1 => {
                return refuse("an IPv6 address needs brackets, like \"mqtt://[fd00::1]:1883\"");
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return refuse("the host is missing; write \"mqtt://host[:port]\" or \"mqtts://host[:port]\"");
        }
        let named = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if !host.contains(':') && !host.chars().all(named) {
            return refuse("nothing but a port may follow the host, which is a name or an IP address");
        }
        let port = match port.map(str::parse::<u16>) {
            None if tls => TLS_PORT,
            None => PLAIN_PORT,
            Some(Ok(port)) if port != 0 => port,
            Some(_) => return refuse("the port must be a number from 1 to 65535"),
        };
        Ok(Endpoint { host: host.to_owned(), port, tls })
    }

    /// Whether it is this machine itself, so that nothing leaves it on the way there.
    pub fn is_near(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// Whether this host, an IPv6 address without brackets, is this machine itself.
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_v6(host: &str) -> bool {
    let address = host.split_once('%').map_or(host, |(address, _zone)| address);
    address.parse::<std::net::Ipv6Addr>().is_ok()
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        match Endpoint::parse(url) {
            Ok(endpoint) => endpoint.to_string(),
            Err(e) => format!("{}: {}", e.value, e.reason),
        }
    }

    #[test]
    fn hosts_and_ports() {
        assert_eq!(shown("mqtt://broker.lan"), "mqtt://broker.lan:1883");
        assert_eq!(shown("mqtts://broker.lan/"), "mqtts://broker.lan:8883");
        assert_eq!(shown("mqtt://10.0.0.2:2000"), "mqtt://10.0.0.2:2000");
        assert_eq!(shown("mqtt://[::1]"), "mqtt://[::1]:1883");
        assert_eq!(shown("mqtts://[fe80::1%eth0]:99"), "mqtts://[fe80::1%eth0]:99");
        assert_eq!(Endpoint::parse("mqtt://[::1]:7").unwrap().host, "::1");
    }

    #[test]
    fn what_is_not_an_address_is_refused_with_a_mend() {
        for (url, mend) in [
            ("http://broker", "mqtt://host"),
            ("mqtt://", "host is missing"),
            ("mqtt://:1883", "host is missing"),
            ("mqtt://broker:0", "1 to 65535"),
            ("mqtt://broker:99999", "1 to 65535"),
            ("mqtt://broker:", "1 to 65535"),
            ("mqtt://broker/path", "nothing but a port"),
            ("mqtt://bro ker", "nothing but a port"),
            ("mqtt://::1", "needs brackets"),
            ("mqtt://[::1", "is written like"),
            ("mqtt://[broker]", "is written like"),
            ("mqtt://[::1]x", "is written like"),
        ] {
            assert!(shown(url).contains(mend), "{url}: {}", shown(url));
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        for url in [
            "mqtt://ann:s3cret@broker",
            "mqtts://s3cret@broker:8883",
            "tcp://ann:s3cret@broker",
            "s3cret@broker",
            "mqtt://ann:s3@cret@broker",
            "mqtt://broker?password=s3cret",
            "mqtt://broker/#s3cret",
        ] {
            let told = shown(url);
            assert!(told.contains("mqtt.password_file") && !told.contains("s3"), "{told}");
            assert!(!told.contains("ann"), "{told}");
        }
        assert!(!shown("mqtt://ann:s3cret").contains("s3"), "{}", shown("mqtt://ann:s3cret"));
    }

    #[test]
    fn only_this_machine_is_near() {
        for (url, near) in [
            ("mqtt://localhost", true),
            ("mqtt://127.0.0.2:7", true),
            ("mqtt://[::1]", true),
            ("mqtt://localhost.example.org", false),
            ("mqtt://10.0.0.2", false),
            ("mqtt://127.example.org", false),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().is_near(), near, "{url}");
        }
    }
}
