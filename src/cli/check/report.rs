//! What `undertone check` tells: a line a stage as it ends, or one JSON object.

use crate::cli::{Failure, broken_pipe};
use serde::Serialize;

/// How a stage went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    Warning,
    Failed,
    Skipped,
}

/// One stage.
#[derive(Debug, Serialize)]
pub struct Stage {
    stage: String,
    outcome: Outcome,
    text: String,
}

/// All stages; on a terminal each is told as it ends.
#[derive(Debug, Serialize)]
pub struct Report {
    ok: bool,
    stages: Vec<Stage>,
    #[serde(skip)]
    json: bool,
    /// Why not all of it could be told, if whoever reads is still there.
    #[serde(skip)]
    untold: Option<std::io::Error>,
}

impl Report {
    /// No stage yet; with `json` nothing is told before the end.
    pub fn new(json: bool) -> Report {
        Report { ok: true, stages: Vec::new(), json, untold: None }
    }

    /// Takes note of a stage, and tells it.
    pub fn add(&mut self, stage: &str, outcome: Outcome, text: String) {
        self.ok &= outcome != Outcome::Failed;
        if !self.json {
            let (mark, colour) = match outcome {
                Outcome::Ok => ("ok  ", "\x1b[32m"),
                Outcome::Warning => ("warn", "\x1b[33m"),
                Outcome::Failed => ("FAIL", "\x1b[31m"),
                Outcome::Skipped => ("-   ", ""),
            };
            let coloured = crate::logging::coloured(&std::io::stdout());
            let colour = if coloured { colour } else { "" };
            let off = if colour.is_empty() { "" } else { "\x1b[0m" };
            let told = say!("{colour}{mark}{off} {stage:<14} {text}");
            self.note(told);
        }
        self.stages.push(Stage { stage: stage.into(), outcome, text });
    }

    /// What the daemon gets along without: a failure, `unless` the question is whether it can start.
    pub fn tell_unless(&mut self, unless: bool, stage: &str, outcome: Result<String, String>) {
        match outcome {
            Err(text) if unless => self.add(stage, Outcome::Warning, text),
            outcome => self.tell(stage, outcome),
        }
    }

    /// Works, or does not.
    pub fn tell(&mut self, stage: &str, outcome: Result<String, String>) {
        match outcome {
            Ok(text) => self.add(stage, Outcome::Ok, text),
            Err(text) => self.add(stage, Outcome::Failed, text),
        }
    }

    /// The exit status says it to those who do not read; that a disk is full is for those who do.
    fn note(&mut self, told: std::io::Result<()>) {
        if let Err(e) = told
            && !broken_pipe(&e)
        {
            self.untold = Some(e);
        }
    }

    /// Prints the JSON, if that was asked for; `status` is the exit status of a failure.
    pub fn end(mut self, status: u8) -> Result<(), Failure> {
        if self.json {
            let told = say!("{}", serde_json::to_string(&self).map_err(std::io::Error::from)?);
            self.note(told);
        }
        if let Some(e) = self.untold.filter(|_| self.ok) {
            let reason = format!("what was found cannot be written: {e}");
            return Err(std::io::Error::new(e.kind(), reason).into());
        }
        if self.ok { Ok(()) } else { Err(Failure::Told { status }) }
    }
}
