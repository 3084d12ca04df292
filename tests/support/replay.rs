//! Samples as a microphone that is never late: the real service over them, faster than they were said.
#![allow(dead_code)] // each test uses a part of it

use crate::mosquitto::Mosquitto;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use undertone::audio::{AudioError, AudioSource, Read, SAMPLE_RATE};
use undertone::config::Config;
use undertone::home::Subscriber;
use undertone::service::{self, Source};

/// Longest silence of the broker while the service runs.
const PATIENCE: Duration = Duration::from_secs(15);

/// Plays samples as fast as they are judged, with a rest for the other threads.
pub struct Player {
    pub samples: Arc<Vec<f32>>,
    pub at: usize,
    pub rest: Duration,
}

impl Player {
    /// From the beginning.
    pub fn new(samples: &Arc<Vec<f32>>, rest: Duration) -> Player {
        Player { samples: Arc::clone(samples), at: 0, rest }
    }
}

impl AudioSource for Player {
    fn sample_rate(&self) -> u32 {
        SAMPLE_RATE
    }

    fn read(&mut self, out: &mut Vec<f32>, _patience: Duration) -> Result<Read, AudioError> {
        std::thread::sleep(self.rest);
        let block = &self.samples[self.at..(self.at + 1600).min(self.samples.len())];
        self.at += block.len();
        out.extend_from_slice(block);
        Ok(if block.is_empty() { Read::End } else { Read::Samples })
    }
}

/// Runs the service over the samples at a broker of its own, and returns what it told: the end of the topic, and the
/// payload. Nothing is kept in a state folder.
pub async fn replay(config: &mut Config, samples: &Arc<Vec<f32>>, rest: Duration) -> Vec<(String, Value)> {
    let broker = Mosquitto::start();
    config.mqtt.broker = broker.url();
    config.mqtt.outbox = 10_000;
    config.state_dir = Default::default();
    let mut subscriber = Subscriber::connect(&config.mqtt, "undertone/#", PATIENCE).await.unwrap();
    let gather = tokio::spawn(async move {
        let mut told = Vec::new();
        while let Ok(Some(message)) = subscriber.recv(PATIENCE).await {
            let topic = message.topic.splitn(3, '/').last().unwrap_or_default().to_owned();
            told.push((topic, serde_json::from_slice(&message.payload).unwrap_or_default()));
        }
        told
    });
    let controls = service::Controls::fixed(config);
    let source = Source::Once(Box::new(Player::new(samples, rest)));
    service::run(config, source, controls, CancellationToken::new()).await.unwrap();
    drop(broker); // ends the subscription
    gather.await.unwrap()
}
