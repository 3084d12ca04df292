//! undertone: an always-listening, privacy-first voice sensor for the home.
//!
//! # Layout, in the order the data flows
//!
//! A module imports from those above it ([`config`] and [`state`] from each other), and all of them the names in [`events`]; [`service`] and
//! [`cli`] see everything.
//!
//! | module | in | out |
//! | --- | --- | --- |
//! | [`config`] | TOML | a validated [`config::Config`] |
//! | [`digest`] | bytes | their SHA-256 |
//! | [`state`] | | files that must survive a power cut |
//! | [`settings`] | changes from Home Assistant | thresholds that the listener reads without a lock |
//! | [`audio`] | a microphone or a file | 16 kHz mono samples, and gaps where samples were lost |
//! | [`features`] | samples | log-mel + delta, 80 x 360 |
//! | [`model`] | features | a [`model::Verdict`]: class logits, speech by frame, what ran |
//! | [`cascade`] | samples | segments of speech with their emotion |
//! | [`events`], [`tell`] | segments | the JSON that MQTT and `analyze --json` share |
//! | [`consent`] | what people say about it | who may listen to what |
//! | [`ledger`] | decisions | the record: a chain of lines on the disk |
//! | [`listener`] | a source | the cascade, and gaps on its clock |
//! | [`asr`] | a segment, whole or growing | a transcript, from a recogniser of the user's choice |
//! | [`home`] | events | MQTT |
//! | [`logging`] | what the program says of itself | text, JSON, the journal |
//! | [`metrics`] | events, work done | figures for Prometheus |
//! | [`privacy`] | the configuration in force | a page for people in the room |
//! | [`service`] | all of the above | the daemon |
//! | [`corpus`] | labelled audio | training features, evaluation tables |
//! | [`cli`] | the command line | one file a subcommand |

pub mod asr;
pub mod audio;
pub mod cascade;
pub mod cli;
pub mod config;
pub mod consent;
pub mod corpus;
pub mod digest;
pub mod events;
pub mod features;
pub mod home;
mod journal;
pub mod ledger;
pub mod listener;
pub mod logging;
pub mod metrics;
pub mod model;
pub mod privacy;
pub mod service;
pub mod settings;
pub mod state;
pub mod tell;
