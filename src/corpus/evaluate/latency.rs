//! How long a window takes, on one thread, beside the same network without gates.

use super::judging::Sample;
use crate::config;
use crate::corpus::CorpusError;
use crate::features::INPUT;
use crate::model::{Model, ModelError};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// Windows that are judged, untimed, before the first one counts.
const WARM_UP: usize = 3;

/// Median time of a window: what the thread spent on the processor, so that another program's turn does
/// not count. Its share of caches and clock does; compare only what comes from one run.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// Windows of background.
    pub background: Option<Timed>,
    /// Utterances.
    pub speech: Option<Timed>,
}

/// One kind of window.
#[derive(Debug, Clone, Serialize)]
pub struct Timed {
    /// How many were timed.
    pub windows: usize,
    /// Median, in milliseconds.
    pub ms: f64,
    /// The same windows through the network without gates; none if none was named.
    pub ungated_ms: Option<f64>,
    /// `ms` divided by `ungated_ms`.
    pub ratio: Option<f64>,
}

/// The network without gates of this file.
///
/// # Errors
/// When it cannot be loaded, or has gates after all (which skip nothing at a threshold of 0).
pub fn ungated(path: &Path, settings: &config::Model) -> Result<Model, CorpusError> {
    let mut model = Model::open(path, settings)?;
    // Of silence, gates let hardly anything run.
    if model.infer(&[0.0; INPUT], settings.gate_threshold as f32)?.executed.iter().all(|ran| *ran) {
        return Ok(model);
    }
    let reason = format!(
        "{} skips modules, so it is no network without gates; models/training/variants.py makes one (`make bench` does so, too)",
        path.display()
    );
    Err(CorpusError::Nothing(reason))
}

/// Times the samples through `model`, in turns with the network without gates.
///
/// # Errors
/// When a model fails.
pub fn measure(
    mut model: Model,
    samples: Vec<Sample>,
    mut beside: Option<Model>,
    threshold: f32,
) -> Result<Latency, CorpusError> {
    for sample in samples.iter().take(WARM_UP) {
        model.infer(&sample.input, threshold)?;
        if let Some(beside) = &mut beside {
            beside.infer(&sample.input, threshold)?;
        }
    }
    let mut kind = |speech: bool| -> Result<Option<Timed>, ModelError> {
        let (mut own, mut other) = (Vec::new(), Vec::new());
        for sample in samples.iter().filter(|sample| sample.speech == speech) {
            own.push(milliseconds(&mut model, &sample.input, threshold)?);
            if let Some(beside) = &mut beside {
                other.push(milliseconds(beside, &sample.input, threshold)?);
            }
        }
        Ok(median(&mut own).map(|ms| {
            let ungated_ms = median(&mut other);
            Timed { windows: own.len(), ms, ungated_ms, ratio: ungated_ms.map(|ungated| ms / ungated) }
        }))
    };
    Ok(Latency { background: kind(false)?, speech: kind(true)? })
}

fn milliseconds(model: &mut Model, input: &[f32; INPUT], threshold: f32) -> Result<f64, ModelError> {
    let begun = thread_time();
    model.infer(input, threshold)?;
    Ok((thread_time() - begun).as_secs_f64() * 1e3)
}

/// CPU time of this thread, on which a session of one thread runs.
fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
