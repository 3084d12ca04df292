//! `undertone ledger`: the record, shown, proved and erased.

use super::Failure;
use super::place::{Found, Place};
use crate::consent::order::duration;
use crate::digest::Digest;
use crate::events::Label;
use crate::ledger::entry::KINDS;
use crate::ledger::erase::{self, Erased};
use crate::ledger::show::{Filter, Format, ShowError, show};
use crate::ledger::verify;
use crate::state::as_owner;
use clap::{Args, Subcommand, ValueEnum};
use jiff::tz::{AmbiguousTimestamp, TimeZone};
use jiff::{SignedDuration, Timestamp};
use std::io::{BufWriter, ErrorKind, stdout};
use std::path::PathBuf;

/// A line about what was spoken before may come so much later: somebody goes on speaking, and a recogniser takes its time.
const STILL_SPOKEN: SignedDuration = SignedDuration::from_mins(10);

/// What to do with the record.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Show lines, or export them
    Show(Show),
    /// Prove that no line was changed, removed or moved, or say where one was
    Verify(Verify),
    /// Erase what was recorded in a span of time; a gap that says so stays
    Erase(Erase),
}

/// Which lines.
#[derive(Debug, Args)]
pub struct Show {
    /// From this moment on: 2026-11-25, 2026-11-25T18:30, an RFC 3339 time, how long ago (3h, 7d), or `now`
    #[arg(long, alias = "from", value_parser = first_moment)]
    since: Option<Timestamp>,
    /// Before this moment, said as for --since; a day alone is the end of it
    #[arg(long, alias = "to", value_parser = last_moment)]
    until: Option<Timestamp>,
    /// Only this kind; may be repeated
    #[arg(long, value_parser = KINDS)]
    kind: Vec<String>,
    /// Only emotions with this label; may be repeated
    #[arg(long, value_parser = label)]
    label: Vec<String>,
    /// How
    #[arg(long, value_enum, default_value_t = How::Text)]
    format: How,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum How {
    Text,
    Csv,
    Json,
}

/// What to prove.
#[derive(Debug, Args)]
pub struct Verify {
    /// A hash that was noted earlier and must be in the chain
    #[arg(long)]
    head: Option<Digest>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Which span.
#[derive(Debug, Args)]
pub struct Erase {
    /// From this moment on: 2026-11-25, 2026-11-25T18:30, an RFC 3339 time, how long ago (3h, 7d), or `now`
    #[arg(long, alias = "since", value_parser = first_moment)]
    from: Timestamp,
    /// Until this moment, said as for --from; a day alone is the end of it
    #[arg(long, alias = "until", value_parser = last_moment)]
    to: Timestamp,
    #[command(flatten)]
    place: Place,
}

/// Shows, verifies or erases.
///
/// # Errors
/// When the record cannot be read or written, or is not as it was written (status 1).
pub fn run(command: LedgerCommand) -> Result<(), Failure> {
    match command {
        LedgerCommand::Show(args) => {
            let (found, state) = find(&args.place, "the record is shown")?;
            if args.since.zip(args.until).is_some_and(|(since, until)| until <= since) {
                return Err(Failure::Usage("--until must be after --since".into()));
            }
            let filter =
                Filter { since: args.since, until: args.until, kinds: args.kind, labels: args.label };
            let format = match args.format {
                How::Text => Format::Text,
                How::Csv => Format::Csv,
                How::Json => Format::Json,
            };
            let unreadable =
                show(&state, &filter, format, BufWriter::new(stdout().lock())).map_err(|e| match e {
                    ShowError::Ledger(e) => Failure::Ledger(e),
                    ShowError::Output(e) => Failure::Output(e),
                })?;
            if unreadable > 0 {
                complain!(
                    "undertone: {unreadable} lines cannot be read; `undertone ledger verify` says which"
                );
                return Err(Failure::Told { status: 1 });
            }
            of_what_was_meant(&args.place, &found)
        }
        LedgerCommand::Verify(args) => prove(&args),
        LedgerCommand::Erase(args) => {
            // What is erased is gone: only where it is said for sure.
            if args.place.state_dir.is_none() {
                args.place.find().inspect_err(|_| {
                    complain!(
                        "undertone: nothing is erased: the configuration says in which folder, and cannot be used; \
                         --state-dir names it"
                    );
                })?;
            }
            let (Found { config, .. }, state) = find(&args.place, "the record is erased")?;
            if args.to < args.from {
                return Err(Failure::Usage("--to must not be before --from".into()));
            }
            let erased = as_owner(&state, || erase::erase(&state, &config.ledger, args.from, args.to))?;
            if let Err(e) = tell(erased, &args)
                && !super::broken_pipe(&e)
            {
                complain!("undertone: it is erased, but that cannot be shown: {e}");
            }
            Ok(())
        }
    }
}

fn tell(Erased { lines, moved, damaged, behind }: Erased, args: &Erase) -> std::io::Result<()> {
    match lines {
        0 if damaged == 0 => say!("nothing was recorded from {} to {}", args.from, args.to)?,
        lines => say!(
            "{lines} lines from {} to {} are erased; gaps that say so, and a line about it, stay in the record",
            args.from,
            args.to
        )?,
    }
    if moved > 0 {
        say!("of these, {moved} said another time, and went by the clock as it was set after them")?;
    }
    if damaged > 0 {
        let lines = if damaged == 1 { "line" } else { "lines" };
        say!(
            "{damaged} damaged {lines} that may be of that time went, too; that something was damaged there stays a \
             finding of `undertone ledger verify`"
        )?;
    }
    if let Some(start) = behind {
        say!(
            "undertone was started at {start} by a clock that was behind what had been recorded before; lines around that \
             start may be of another time than they say: `undertone ledger show` has them"
        )?;
    }
    if Timestamp::now().duration_since(args.to) < STILL_SPOKEN {
        say!(
            "lines about what is still being spoken or recognised may come later; erase once more in a few minutes"
        )?;
    }
    Ok(())
}

/// The configuration and the state folder, which must be there, and open to whoever asks.
fn find(place: &Place, is_done: &str) -> Result<(Found, PathBuf), Failure> {
    let found = place.find_or_default(is_done);
    let state = found.folder.clone().unwrap_or_default();
    if let Err(e) = std::fs::read_dir(&state) {
        let shown = state.display();
        let reason = match e.kind() {
            ErrorKind::NotFound => format!(
                "there is no state folder {shown}, so no record either; --state-dir names another, and a daemon makes its own"
            ),
            ErrorKind::PermissionDenied => format!(
                "the record is not for everybody: {shown} cannot be read: {e}; ask as root (try sudo) or as the user that \
                 undertone runs as"
            ),
            _ => return Ok((found, state)), // told by what has to read there
        };
        return Err(std::io::Error::new(e.kind(), reason).into());
    }
    Ok((found, state))
}

/// Status 2 where the configuration cannot be used and nobody said which folder: it may be another one's record.
fn of_what_was_meant(place: &Place, found: &Found) -> Result<(), Failure> {
    match found.unread.is_some() && place.state_dir.is_none() {
        true => Err(Failure::Told { status: 2 }),
        false => Ok(()),
    }
}

fn prove(args: &Verify) -> Result<(), Failure> {
    let (found, state) = find(&args.place, "the record is verified")?;
    let report = verify::verify(&state, args.head)?;
    // The verdict is the exit status, whether or not anybody reads the sentences.
    match told(&report, args.json) {
        Err(e) if !super::broken_pipe(&e) => return Err(e.into()),
        _ => {}
    }
    match report.is_whole() {
        true => of_what_was_meant(&args.place, &found),
        false => Err(Failure::Told { status: 1 }),
    }
}

fn told(report: &verify::Report, json: bool) -> std::io::Result<()> {
    if json {
        return say!("{}", serde_json::to_string(report)?);
    }
    for finding in &report.findings {
        let file = finding.file.display();
        match finding.line {
            0 => say!("{file}: {}", finding.what)?,
            line => say!("{file}, line {line}: {}", finding.what)?,
        }
    }
    if report.holds == Some(false) {
        say!(
            "the hash that was noted is not in the chain: lines are missing, or the record was written anew"
        )?;
    }
    report.notes.iter().try_for_each(|note| say!("note: {note}"))?;
    // The first line may be one about an erasure, which is younger than what stands behind it.
    let span = report
        .first
        .zip(report.last)
        .map_or(String::new(), |(a, b)| format!(" from {} to {}", a.min(b), a.max(b)));
    say!(
        "{}: {} lines in {} files{span}{}",
        if report.is_whole() { "whole" } else { "NOT AS IT WAS WRITTEN" },
        report.lines,
        report.files,
        if report.erased > 0 { format!(", {} erased", report.erased) } else { String::new() },
    )?;
    match report.head {
        Some((n, hash)) if report.is_whole() => {
            say!("note this elsewhere to prove later that nothing up to number {n} was touched: {hash}")
        }
        _ => Ok(()),
    }
}

fn label(text: &str) -> Result<String, String> {
    let names = Label::ALL.map(Label::name).join(", ");
    Label::from_name(text).map(|label| label.name().into()).ok_or(format!("the labels are {names}"))
}

/// Where a span begins: in the hour that autumn has twice, the first time.
fn first_moment(text: &str) -> Result<Timestamp, String> {
    moment(text, &TimeZone::system(), AmbiguousTimestamp::earlier)
}

/// Where it ends: the second time, and the end of a day that stands alone.
fn last_moment(text: &str) -> Result<Timestamp, String> {
    let day = text.parse::<jiff::civil::Date>().ok().filter(|_| !text.contains([':', 'T', 't', ' ']));
    let next = day.and_then(|day| day.tomorrow().ok()).map(|day| day.to_string());
    moment(next.as_deref().unwrap_or(text), &TimeZone::system(), AmbiguousTimestamp::later)
}

/// A moment: RFC 3339, local date or date and time, or how long ago.
fn moment(
    text: &str,
    zone: &TimeZone,
    which: fn(AmbiguousTimestamp) -> Result<Timestamp, jiff::Error>,
) -> Result<Timestamp, String> {
    // A day alone is its beginning.
    let time = || text.parse::<jiff::civil::DateTime>().ok();
    let local = || time().and_then(|time| which(zone.to_ambiguous_timestamp(time)).ok());
    let ago = || duration(text).and_then(|time| Timestamp::now().checked_sub(time.abs()).ok());
    let now = || (text == "now").then(Timestamp::now);
    text.parse::<Timestamp>().ok().or_else(now).or_else(local).or_else(ago).ok_or_else(|| {
        "allowed are 2026-11-25, 2026-11-25T18:30, 2026-11-25T18:30:00Z, or how long ago, such as 3h or 7d".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_counts_with_and_without_a_zone() {
        let moment = first_moment;
        let local = |hour, minute| {
            let time = jiff::civil::date(2026, 11, 25).at(hour, minute, 0, 0);
            TimeZone::system().to_timestamp(time).unwrap()
        };
        assert_eq!(moment("2026-11-25T18:30").unwrap(), local(18, 30));
        assert_eq!(moment("2026-11-25 18:30").unwrap(), local(18, 30));
        assert_eq!(moment("2026-11-25").unwrap(), local(0, 0));
        assert_eq!(moment("2026-11-25T18:30:00Z").unwrap(), "2026-11-25T18:30:00Z".parse().unwrap());
        assert!(moment("yesterday").is_err());
        let next = jiff::civil::date(2026, 11, 26).at(0, 0, 0, 0);
        assert_eq!(last_moment("2026-11-25").unwrap(), TimeZone::system().to_timestamp(next).unwrap());
        assert_eq!(last_moment("2026-11-25T18:30").unwrap(), local(18, 30));
    }

    #[test]
    fn a_span_takes_the_doubled_hour_of_autumn_whole() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let at = |which| moment("2026-10-25T02:30", &zone, which).unwrap().to_string();
        assert_eq!(at(AmbiguousTimestamp::earlier), "2026-10-25T00:30:00Z");
        assert_eq!(at(AmbiguousTimestamp::later), "2026-10-25T01:30:00Z");
    }
}
