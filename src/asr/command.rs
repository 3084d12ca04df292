//! The hook of kind `command`: a program gets the segment as WAV on its standard input, and what it
//! prints is the transcript.
//!
//! The program is run anew for each segment, in a process group of its own, with the daemon's
//! environment (less the broker's password) and two variables more: `UNDERTONE_SEGMENT_ID` and
//! `UNDERTONE_NODE`. When the hand-over is over, by whatever cause, the whole group is killed, so
//! that nothing which saw the audio outlives it. Only a program that leaves its group on purpose
//! (`setsid`) can stay, which is how a recogniser may start a server for itself.

use super::{Answer, AsrError, AsrHook, Clip, Complaint};
use crate::audio::SAMPLE_RATE;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{Cursor, ErrorKind};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::timeout;

/// Most bytes a program may print: hours of speech in words.
pub const MAX_TRANSCRIPT_BYTES: usize = 64 * 1024;
/// Bytes of standard error that are kept, from its end.
const KEPT_STDERR_BYTES: usize = 4 * 1024;
/// How long pipes may stay open after the program ended, because something it started holds them.
const PIPE_GRACE: Duration = Duration::from_millis(500);
/// How long a killed program may take to be gone; only one stuck in the kernel takes longer.
const REAP_GRACE: Duration = Duration::from_secs(2);
/// The broker's password is no business of the recogniser's.
const WITHHELD_VARIABLE: &str = "UNDERTONE_MQTT_PASSWORD";

/// Runs one program for each segment.
pub struct Command {
    program: String,
    arguments: Vec<String>,
    limit_seconds: f64,
    node: String,
}

impl Command {
    /// A program with its arguments, how many seconds it may take in all, and the node's name.
    pub fn new(program: &str, arguments: &[String], limit_seconds: f64, node: &str) -> Command {
        Command { program: program.into(), arguments: arguments.to_vec(), limit_seconds, node: node.into() }
    }

    async fn hand_over(&self, clip: &Clip) -> Result<String, AsrError> {
        let wav = wav(&clip.samples)?;
        let mut child = tokio::process::Command::new(&self.program)
            .args(&self.arguments)
            .env("UNDERTONE_SEGMENT_ID", clip.id.to_string())
            .env("UNDERTONE_NODE", &self.node)
            .env_remove(WITHHELD_VARIABLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| AsrError::Start { program: self.program.clone(), source })?;
        let group = Group::of(&child);
        let limit = Duration::from_secs_f64(self.limit_seconds);
        let answer = timeout(limit, self.converse(&mut child, &wav)).await;
        // An id is not given to a new group while the old one has members, and ids come round late:
        // this reaches the group of this program or none.
        drop(group);
        if timeout(REAP_GRACE, child.wait()).await.is_err() {
            tracing::warn!(program = self.program, "a killed recogniser is still there");
        }
        answer.unwrap_or_else(|_| {
            Err(AsrError::TimedOut { program: self.program.clone(), seconds: self.limit_seconds })
        })
    }

    /// Writes, reads and waits at the same time: a program may talk before it listens, or not listen.
    async fn converse(&self, child: &mut Child, wav: &[u8]) -> Result<String, AsrError> {
        let pipe = |source| AsrError::Pipe { program: self.program.clone(), source };
        let (stdin, stdout, stderr) = pipes(child).ok_or_else(|| pipe(ErrorKind::BrokenPipe.into()))?;
        let (mut printed, mut complained) = (Vec::new(), Vec::new());
        let status = {
            let talk = async {
                tokio::try_join!(
                    async { feed(stdin, wav).await.map_err(pipe) },
                    async { self.gather(stdout, &mut printed).await },
                    async { keep_tail(stderr, &mut complained).await.map_err(pipe) },
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

    /// Reads to the end, or to the first byte too many.
    async fn gather(&self, stdout: ChildStdout, printed: &mut Vec<u8>) -> Result<(), AsrError> {
        stdout
            .take(MAX_TRANSCRIPT_BYTES as u64 + 1)
            .read_to_end(printed)
            .await
            .map_err(|source| AsrError::Pipe { program: self.program.clone(), source })?;
        if printed.len() > MAX_TRANSCRIPT_BYTES {
            return Err(AsrError::Flooded { program: self.program.clone(), limit: MAX_TRANSCRIPT_BYTES });
        }
        Ok(())
    }

    fn judge(&self, status: ExitStatus, printed: &[u8], complained: &[u8]) -> Result<String, AsrError> {
        if status.success() {
            return Ok(String::from_utf8_lossy(printed).trim().to_owned());
        }
        let complaint = Complaint::last_line(complained);
        Err(AsrError::Exit { program: self.program.clone(), status, complaint })
    }
}

impl AsrHook for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn transcribe<'a>(&'a self, clip: &'a Clip) -> Answer<'a> {
        Box::pin(self.hand_over(clip))
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

/// A mono 16-bit WAV file at 16 kHz; what is not a number becomes silence.
fn wav(samples: &[f32]) -> Result<Vec<u8>, AsrError> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::with_capacity(44 + 2 * samples.len()));
    let mut writer = hound::WavWriter::new(&mut bytes, spec)?;
    for sample in samples {
        writer.write_sample((sample.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16)?;
    }
    writer.finalize()?;
    Ok(bytes.into_inner())
}

/// Writes everything and closes; a reader that has heard enough is no error.
async fn feed(mut stdin: ChildStdin, bytes: &[u8]) -> std::io::Result<()> {
    match stdin.write_all(bytes).await {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Reads to the end and keeps the last bytes.
async fn keep_tail(mut stderr: ChildStderr, tail: &mut Vec<u8>) -> std::io::Result<()> {
    let mut chunk = [0; 1024];
    loop {
        let n = stderr.read(&mut chunk).await?;
        if n == 0 {
            return Ok(());
        }
        tail.extend_from_slice(&chunk[..n]);
        let excess = tail.len().saturating_sub(KEPT_STDERR_BYTES);
        tail.drain(..excess);
    }
}
