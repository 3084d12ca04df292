//! The hook of kind `command`: a program gets the segment on its standard input, and what it prints is
//! the transcript. In mode `segment` that is a WAV file; in mode `stream` raw samples, as they come.
//!
//! The program is run anew for each segment, in a process group of its own, with the daemon's
//! environment (less its secrets) and four variables more: `UNDERTONE_SEGMENT_ID`, `UNDERTONE_NODE`,
//! `UNDERTONE_LANGUAGE` and `UNDERTONE_VOCABULARY` (one hint a line). When the hand-over is over, by whatever cause, the whole group is killed, so
//! that nothing which saw the audio outlives it. Only a program that leaves its group on purpose
//! (`setsid`) can stay, which is how a recogniser may start a server for itself.

use super::{Answer, AsrError, AsrHook, Clip, Complaint, MAX_TRANSCRIPT_BYTES, pcm, program, within};
use crate::config::{self, address, asr::Mode};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::timeout;

/// Bytes of standard error that are kept, from its end.
const KEPT_STDERR_BYTES: usize = 4 * 1024;
/// Bytes that it may write there: progress of large models, but not without end.
const MAX_STDERR_BYTES: usize = 1024 * 1024;
/// How long pipes may stay open after the program ended, because something it started holds them.
const PIPE_GRACE: Duration = Duration::from_millis(500);
/// How long a killed program may take to be gone; only one stuck in the kernel takes longer.
const REAP_GRACE: Duration = Duration::from_secs(2);
/// Secrets of the daemon that are no business of the program's.
const WITHHELD_VARIABLES: [&str; 2] = ["UNDERTONE_MQTT_PASSWORD", super::http::KEY_VARIABLE];

/// Runs one program for each segment.
pub struct Command {
    program: String,
    arguments: Vec<String>,
    mode: Mode,
    limit_seconds: f64,
    node: String,
    language: String,
    vocabulary: String,
}

impl Command {
    /// The program of `asr.command`, for the node of this name.
    pub fn new(config: &config::Asr, node: &str) -> Command {
        let (program, arguments) = match config.command.split_first() {
            Some((program, arguments)) => (program.clone(), arguments.to_vec()),
            None => Default::default(), // the configuration does not allow it; nothing can be started
        };
        Command {
            program,
            arguments,
            mode: config.mode,
            limit_seconds: config.timeout_seconds,
            node: node.into(),
            language: config.language.clone(),
            vocabulary: config.vocabulary.join("\n"),
        }
    }

    async fn hand_over(&self, clip: &mut Clip) -> Result<String, AsrError> {
        let mut child = tokio::process::Command::new(&self.program);
        child
            .args(&self.arguments)
            .env("UNDERTONE_SEGMENT_ID", clip.id.to_string())
            .env("UNDERTONE_NODE", &self.node)
            .env("UNDERTONE_LANGUAGE", &self.language)
            .env("UNDERTONE_VOCABULARY", &self.vocabulary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        for secret in WITHHELD_VARIABLES {
            child.env_remove(secret);
        }
        let mut child = child.spawn().map_err(|source| self.not_started(source))?;
        let group = Group::of(&child);
        let expiry = clip.expiry(Duration::from_secs_f64(self.limit_seconds));
        let answer = within(expiry, self.converse(&mut child, clip), || AsrError::TimedOut {
            recogniser: self.named(),
            seconds: self.limit_seconds,
        });
        let answer = answer.await;
        // An id is not given to a new group while the old one has members, and ids come round late:
        // this reaches the group of this program or none.
        drop(group);
        if timeout(REAP_GRACE, child.wait()).await.is_err() {
            tracing::warn!(program = address::program(&self.program), "a killed recogniser is still there");
        }
        answer
    }

    fn not_started(&self, source: std::io::Error) -> AsrError {
        let program = address::program(&self.program);
        match source.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) {
            true => AsrError::Unfit { program, reason: program::NO_PROGRAM.into() },
            false => AsrError::Start { program, source },
        }
    }

    /// As errors name it.
    fn named(&self) -> String {
        format!("`{}`", address::program(&self.program))
    }

    fn broken(&self, source: &std::io::Error) -> AsrError {
        AsrError::Broken { recogniser: self.named(), reason: source.to_string() }
    }

    /// Writes, reads and waits at the same time: a program may talk before it listens, or not listen.
    async fn converse(&self, child: &mut Child, clip: &mut Clip) -> Result<String, AsrError> {
        let pipe = |source: std::io::Error| self.broken(&source);
        let (stdin, stdout, stderr) = pipes(child).ok_or_else(|| pipe(ErrorKind::BrokenPipe.into()))?;
        let (mut printed, mut complained) = (Vec::new(), Vec::new());
        let status = {
            let talk = async {
                tokio::try_join!(
                    self.feed(stdin, clip),
                    async { self.gather(stdout, &mut printed).await },
                    async { self.keep_tail(stderr, &mut complained).await },
                )
            };
            tokio::pin!(talk);
            tokio::select! {
                said = &mut talk => {
                    said?;
                    child.wait().await.map_err(pipe)?
                }
                status = child.wait() => {
                    // Past the grace, what was printed so far is the answer.
                    if let Ok(said) = timeout(PIPE_GRACE, &mut talk).await {
                        said?;
                    }
                    status.map_err(pipe)?
                }
            }
        };
        self.judge(status, &printed, &complained)
    }

    /// Writes everything and closes; a reader that has heard enough is no error.
    async fn feed(&self, mut stdin: ChildStdin, clip: &mut Clip) -> Result<(), AsrError> {
        let mut write = async |bytes: pcm::Bytes| match stdin.write_all(&bytes).await {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(e) => Err(self.broken(&e)),
        };
        if self.mode == Mode::Segment {
            write(pcm::wav(&clip.rest().await?)?).await?;
            return Ok(());
        }
        while let Some(samples) = clip.next().await? {
            if !write(pcm::raw(&samples)).await? {
                break;
            }
        }
        Ok(())
    }

    /// Reads to the end, or to the first byte too many.
    async fn gather(&self, stdout: ChildStdout, printed: &mut Vec<u8>) -> Result<(), AsrError> {
        let limited = &mut stdout.take(MAX_TRANSCRIPT_BYTES as u64 + 1);
        limited.read_to_end(printed).await.map_err(|source| self.broken(&source))?;
        if printed.len() > MAX_TRANSCRIPT_BYTES {
            return Err(AsrError::Flooded { recogniser: self.named(), limit: MAX_TRANSCRIPT_BYTES });
        }
        Ok(())
    }

    /// Reads to the end and keeps the last bytes.
    async fn keep_tail(&self, mut stderr: ChildStderr, tail: &mut Vec<u8>) -> Result<(), AsrError> {
        let (mut chunk, mut seen) = ([0; 1024], 0);
        loop {
            let n = stderr.read(&mut chunk).await.map_err(|source| self.broken(&source))?;
            seen += n;
            if n == 0 {
                return Ok(());
            }
            if seen > MAX_STDERR_BYTES {
                return Err(AsrError::Flooded { recogniser: self.named(), limit: MAX_STDERR_BYTES });
            }
            tail.extend_from_slice(&chunk[..n]);
            let excess = tail.len().saturating_sub(KEPT_STDERR_BYTES);
            tail.drain(..excess);
        }
    }

    fn judge(&self, status: ExitStatus, printed: &[u8], complained: &[u8]) -> Result<String, AsrError> {
        if status.success() {
            return Ok(String::from_utf8_lossy(printed).trim().to_owned());
        }
        let complaint = Complaint::last_line(complained);
        Err(AsrError::Exit { program: address::program(&self.program), status, complaint })
    }

    /// The program's file, if it can be started.
    fn find(&self) -> Result<PathBuf, AsrError> {
        let program = || address::program(&self.program);
        let unfit = |reason: String| AsrError::Unfit { program: program(), reason };
        let path = match program::find(&self.program) {
            Ok(path) => path,
            Err(None) => {
                return Err(AsrError::Start { program: program(), source: ErrorKind::NotFound.into() });
            }
            Err(Some(_)) => {
                return Err(unfit("it is not executable by this user (`chmod 755` makes it so)".into()));
            }
        };
        match program::interpreter(&path) {
            Some(named) if program::find(&named).is_err() => {
                let line_end = if named.ends_with('\r') { " (its lines end as on Windows)" } else { "" };
                let named = named.trim_end();
                Err(unfit(format!(
                    "its first line asks for `{named}`{line_end}, which is not there or cannot be run; install that, or \
                     correct the line"
                )))
            }
            None if !program::is_one(&path) => Err(unfit(program::NO_PROGRAM.into())),
            _ => Ok(path),
        }
    }
}

impl AsrHook for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn transcribe<'a>(&'a self, clip: &'a mut Clip) -> Answer<'a> {
        Box::pin(self.hand_over(clip))
    }

    /// The program can be started; it is not.
    fn probe(&self) -> Answer<'_> {
        let found = self.find().map(|path| path.display().to_string());
        Box::pin(async move { found })
    }
}

/// Kills a process group when dropped, also when the hand-over itself is dropped half-way.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Group {
        Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // An error means that nobody is left in it, which is what is wanted.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

fn pipes(child: &mut Child) -> Option<(ChildStdin, ChildStdout, ChildStderr)> {
    Some((child.stdin.take()?, child.stdout.take()?, child.stderr.take()?))
}
