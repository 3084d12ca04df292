//! The gated Conformer in ONNX Runtime: features in, [`Verdict`] out.
//!
//! The network decides, module by module, what to compute: before each of its 64 modules a gate looks
//! at the window, and a module whose gate stays shut is never run. [`Model`] refuses a file whose
//! contract or feature configuration is not the one this program computes.

mod contract;
mod digest;
mod library;
mod search;
mod trial;

pub use library::NO_REPORTS;
pub use search::{LIBRARY_VARIABLE, MODEL_VARIABLE};
pub use trial::try_out;

use crate::config;
use crate::events::Label;
use crate::features::{CHANNELS, FRAMES, INPUT};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use std::path::{Path, PathBuf};

/// Gated modules: 16 blocks of feed-forward, attention, convolution, feed-forward.
pub const MODULES: usize = 64;
/// Speech logits of one verdict: one for each four windows (40 ms at the streaming hop).
pub const SPEECH_FRAMES: usize = 90;

/// Why the model cannot be used. Each says what failed and what would mend it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file was found nowhere.
    #[error("{what} was not found at {}; {mend}", .searched.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", nor at "))]
    Missing {
        /// The model file or the library.
        what: &'static str,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
        /// How to get it.
        mend: String,
    },
    /// The library cannot be loaded, or is too old.
    #[error("ONNX Runtime at {path} cannot be used: {reason}; undertone needs version 1.24 or newer: {mend}")]
    Library {
        /// The library.
        path: PathBuf,
        /// The loader's reason.
        reason: String,
        /// How to get one that can.
        mend: String,
    },
    /// The library would report to its makers.
    #[error(
        "ONNX Runtime is not loaded, because it would report to its makers; start the program with {NO_REPORTS}=1"
    )]
    Reports,
    /// The file is no model.
    #[error(
        "{path} is not a model that ONNX Runtime can load: {reason}; is it whole, and may undertone read it?"
    )]
    NotAModel {
        /// The model file.
        path: PathBuf,
        /// ONNX Runtime's reason.
        reason: String,
    },
    /// The file is not as it was exported.
    #[error(
        "{path} is damaged: its weights are not those that were exported; copy it again, or install the package again"
    )]
    Damaged {
        /// The model file.
        path: PathBuf,
    },
    /// The file is a model, but not one of ours.
    #[error(
        "{path} does not fit this version of undertone: its {field} is {found}, where {expected} is needed"
    )]
    Contract {
        /// The model file.
        path: PathBuf,
        /// Name of the input, output or metadata field.
        field: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// Inference failed.
    #[error("the model failed on a window: {0}")]
    Run(String),
}

/// The version of ONNX Runtime that is used, its build, and where it lies.
///
/// # Errors
/// [`ModelError::Missing`], [`ModelError::Library`].
pub fn library_version(config: &config::Model) -> Result<String, ModelError> {
    let path = search::library(&config.library)?;
    library::environment(&path, &config.library)?;
    // The library tells its commit, and only its file name tells its version.
    let real = path.canonicalize().unwrap_or_else(|_| path.clone());
    let name = real.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let version = name.strip_prefix("libonnxruntime.so.").unwrap_or("of unknown version");
    let build = ort::info().split(',').find_map(|part| part.trim().strip_prefix("git-commit-id="));
    Ok(format!("{version} {} (build {})", path.display(), build.unwrap_or("unknown")))
}

/// The model's answer for one window or one segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// One logit for each [`Label`], in its order.
    pub logits: [f32; Label::COUNT],
    /// Speech logit of each four windows.
    pub speech: [f32; SPEECH_FRAMES],
    /// P(execute) of each module, block-major.
    pub p_execute: [f32; MODULES],
    /// Which modules ran.
    pub executed: [bool; MODULES],
    /// Whether the emotion head was asked; else the odds among the emotions are a rougher head's.
    pub emotion_judged: bool,
}

impl Verdict {
    /// Posterior of each label: the softmax of the logits.
    pub fn posterior(&self) -> [f64; Label::COUNT] {
        let top = self.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let raised = self.logits.map(|l| f64::from(l - top).exp());
        let sum: f64 = raised.iter().sum();
        raised.map(|r| r / sum)
    }

    /// Modules that ran.
    pub fn modules_run(&self) -> u64 {
        self.executed.iter().filter(|ran| **ran).count() as u64
    }
}

/// A loaded model. One thread at a time uses it, and it uses one thread.
pub struct Model {
    session: Session,
    path: PathBuf,
    version: String,
    macs_modules: [u64; MODULES],
    macs_stem: u64,
    macs_emotion: u64,
    asks: bool,
}

impl Model {
    /// Finds and loads ONNX Runtime and the model, and checks the model's contract.
    ///
    /// # Errors
    /// See [`ModelError`]; all but [`ModelError::Run`].
    pub fn load(config: &config::Model) -> Result<Model, ModelError> {
        Self::open(&search::model(&config.path)?, config)
    }

    /// As [`load`](Self::load), with this file and no other, whatever the configuration and the environment name.
    ///
    /// # Errors
    /// See [`ModelError`]; all but [`ModelError::Run`].
    pub fn open(path: &Path, config: &config::Model) -> Result<Model, ModelError> {
        let environment = library::environment(&search::library(&config.library)?, &config.library)?;
        let not_a_model = |e: String| ModelError::NotAModel { path: path.into(), reason: first_line(&e) };
        // One thread, and no spinning: a pool that waits busily burns a core for nothing.
        let session = Session::builder(&environment)
            .and_then(|b| Ok(b.with_intra_threads(1)?))
            .and_then(|b| Ok(b.with_inter_threads(1)?))
            .and_then(|b| Ok(b.with_intra_op_spinning(false)?))
            .and_then(|b| Ok(b.with_inter_op_spinning(false)?))
            .and_then(|b| Ok(b.with_optimization_level(GraphOptimizationLevel::All)?))
            // Most weights are stored in 16 bits or 8. Made wide beforehand, and packed for products, they would take
            // 35 MB; a module that runs widens its own in no more time.
            .and_then(|b| Ok(b.with_disabled_optimizers("ConstantFolding")?))
            .and_then(|b| Ok(b.with_log_level(ort::logging::LogLevel::Error)?))
            .and_then(|mut b| b.commit_from_file(path))
            .map_err(|e| not_a_model(e.to_string()))?;
        let card = contract::check(&session, path)?;
        if let Some(told) = &card.digest {
            digest::verify(path, told)?;
        }
        Ok(Model {
            session,
            version: card.version,
            macs_modules: card.macs_modules,
            macs_stem: card.macs_stem,
            macs_emotion: card.macs_emotion,
            asks: card.asks,
            path: path.into(),
        })
    }

    /// The file that [`load`](Self::load) would take.
    ///
    /// # Errors
    /// [`ModelError::Missing`].
    pub fn find(config: &config::Model) -> Result<PathBuf, ModelError> {
        search::model(&config.path)
    }

    /// Judges 80 x 360 features; a module runs if its P(execute) is above `gate_threshold`.
    ///
    /// # Errors
    /// [`ModelError::Run`].
    pub fn infer(&mut self, features: &[f32; INPUT], gate_threshold: f32) -> Result<Verdict, ModelError> {
        self.run(features, gate_threshold, true)
    }

    /// As [`infer`](Self::infer), for who wants to know where speech is and not in which emotion: the emotion head is
    /// left out, the odds among the emotions are a rougher head's, and everything else is the same.
    ///
    /// # Errors
    /// [`ModelError::Run`].
    pub fn infer_speech(
        &mut self,
        features: &[f32; INPUT],
        gate_threshold: f32,
    ) -> Result<Verdict, ModelError> {
        self.run(features, gate_threshold, false)
    }

    fn run(
        &mut self,
        features: &[f32; INPUT],
        gate_threshold: f32,
        emotion: bool,
    ) -> Result<Verdict, ModelError> {
        let run = |e: ort::Error| ModelError::Run(first_line(&e.to_string()));
        let shape = [1i64, CHANNELS as i64, FRAMES as i64];
        let threshold = [gate_threshold];
        let wanted = [emotion];
        let mut inputs = ort::inputs![
            "features" => TensorRef::from_array_view((shape, features.as_slice())).map_err(run)?,
            "gate_threshold" => TensorRef::from_array_view(([0i64; 0], threshold.as_slice())).map_err(run)?,
        ];
        if self.asks && !emotion {
            let wanted = TensorRef::from_array_view(([0i64; 0], wanted.as_slice())).map_err(run)?;
            inputs.push((contract::ASKS.into(), wanted.into()));
        }
        let outputs = self.session.run(inputs).map_err(run)?;
        let mut verdict = Verdict {
            logits: [0.0; Label::COUNT],
            speech: [0.0; SPEECH_FRAMES],
            p_execute: [0.0; MODULES],
            executed: [false; MODULES],
            emotion_judged: false,
        };
        copy(&mut verdict.logits, outputs["logits"].try_extract_tensor().map_err(run)?.1)?;
        copy(&mut verdict.speech, outputs["speech"].try_extract_tensor().map_err(run)?.1)?;
        copy(&mut verdict.p_execute, outputs["p_execute"].try_extract_tensor().map_err(run)?.1)?;
        let (_, executed) = outputs["executed"].try_extract_tensor::<u8>().map_err(run)?;
        for (ran, &byte) in verdict.executed.iter_mut().zip(executed) {
            *ran = byte != 0;
        }
        if self.asks {
            let (_, judged) = outputs[contract::JUDGED].try_extract_tensor::<u8>().map_err(run)?;
            verdict.emotion_judged = judged.iter().any(|&byte| byte != 0);
        }
        if verdict.logits.iter().chain(&verdict.speech).chain(&verdict.p_execute).any(|x| !x.is_finite()) {
            return Err(ModelError::Run("it answered with a number that is not finite".into()));
        }
        Ok(verdict)
    }

    /// Version from the file's metadata.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The file it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Multiply-accumulates that this verdict cost, stem included.
    pub fn macs(&self, verdict: &Verdict) -> u64 {
        let modules = self.macs_modules.iter().zip(&verdict.executed);
        let ran: u64 = modules.filter(|(_, ran)| **ran).map(|(macs, _)| macs).sum();
        self.macs_stem + ran + if verdict.emotion_judged { self.macs_emotion } else { 0 }
    }

    /// Multiply-accumulates of a verdict for which everything runs that is asked for.
    pub fn macs_ungated(&self, emotion: bool) -> u64 {
        self.macs_stem + self.macs_modules.iter().sum::<u64>() + if emotion { self.macs_emotion } else { 0 }
    }
}

fn copy<const N: usize>(to: &mut [f32; N], from: &[f32]) -> Result<(), ModelError> {
    let wrong = |_| ModelError::Run(format!("it answered with {} values where {N} are due", from.len()));
    *to = from.try_into().map_err(wrong)?;
    Ok(())
}

/// ONNX Runtime's messages run over many lines; the first says what happened.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim().to_owned()
}
