//! The names of the topics: `<prefix>/<node>/…`. Both parts are validated by [`crate::config`].

/// Payload of [`Topics::availability`] while the sensor is connected.
pub const ONLINE: &str = "online";
/// Payload of [`Topics::availability`] after a goodbye, and the last will.
pub const OFFLINE: &str = "offline";

/// The topics of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// `online` or `offline`; retained; the last will goes here.
    pub availability: String,
    /// [`crate::events::State`] as JSON; retained.
    pub state: String,
    /// One [`crate::events::Event`] as JSON a message; never retained.
    pub event: String,
    /// [`crate::events::Transcript`] as JSON; never retained.
    pub transcript: String,
    /// Where `undertone check` proves that it may publish; never retained.
    pub check: String,
}

impl Topics {
    /// Topics below `<prefix>/<node>`.
    pub fn new(prefix: &str, node: &str) -> Topics {
        let topic = |leaf: &str| format!("{prefix}/{node}/{leaf}");
        Topics {
            availability: topic("availability"),
            state: topic("state"),
            event: topic("event"),
            transcript: topic("transcript"),
            check: topic("check"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_stand_below_prefix_and_node() {
        let topics = Topics::new("undertone", "kitchen");
        assert_eq!(topics.availability, "undertone/kitchen/availability");
        assert_eq!(topics.event, "undertone/kitchen/event");
    }
}
