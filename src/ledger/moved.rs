//! A wall clock that was set while the daemon ran: noticed, and times of lines from before judged by it, too.
//!
//! A Raspberry Pi has no clock of its own: it begins with a time that it saved, hours ago, until the network tells the
//! right one. What it recorded meanwhile says that earlier time, and would be missed by whoever shows or erases what was
//! recorded at an hour that a person remembers. So a `clock` line says by how much the clock was moved, and what the same
//! daemon recorded before it is of two times: the one that it says, and that with the move.

use super::LedgerError;
use super::entry::Entry;
use super::files::Folder;
use super::line::{self, Line};
use crate::{state, tell};
use jiff::{SignedDuration, Timestamp};
use std::io::{BufRead as _, BufReader};
use std::time::Duration;

/// The clock was set if it moved by more than this against the time since boot; a clock that is only slewed takes that along.
const SET: Duration = Duration::from_millis(500);

/// Kinds of lines that [`Moves`] has to see, as they stand in one.
const TELL: [&str; 4] =
    ["\"kind\":\"clock\"", "\"kind\":\"started\"", "\"kind\":\"stopped\"", "\"kind\":\"gap\""];
/// So far from its beginning a line names its kind, at most.
const NAMED: usize = 128;

/// The wall clock as it goes with the time since boot.
#[derive(Debug)]
pub(super) struct Wall {
    /// Wall clock less time since boot.
    ahead: SignedDuration,
}

impl Wall {
    /// As it goes now.
    pub(super) fn now() -> Wall {
        Wall::at(Timestamp::now(), since_boot())
    }

    /// As it goes when it shows `now`, so long after boot.
    pub(super) fn at(now: Timestamp, boot: Duration) -> Wall {
        Wall { ahead: ahead(now, boot) }
    }

    /// By how much somebody set it since, if anybody did.
    pub(super) fn moved(&self, now: Timestamp, boot: Duration) -> Option<SignedDuration> {
        let moved = ahead(now, boot).saturating_sub(self.ahead);
        (moved.unsigned_abs() > SET).then_some(moved)
    }

    /// That is taken note of.
    pub(super) fn follow(&mut self, moved: SignedDuration) {
        self.ahead = self.ahead.saturating_add(moved);
    }
}

fn ahead(now: Timestamp, boot: Duration) -> SignedDuration {
    now.as_duration().saturating_sub(SignedDuration::try_from(boot).unwrap_or_default())
}

/// Time since boot, suspension included.
pub(super) fn since_boot() -> Duration {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(boot).unwrap_or_default()
}

/// What is recorded of a clock that was set.
pub(super) fn entry(moved: SignedDuration) -> Entry {
    Entry::Clock { moved_s: tell::round(moved.as_secs_f64(), 3) }
}

/// By how much the clock was set, if that is what it says.
pub(super) fn moved(entry: Option<&Entry>) -> Option<SignedDuration> {
    match entry {
        Some(Entry::Clock { moved_s }) => SignedDuration::try_from_secs_f64(*moved_s).ok(),
        _ => None,
    }
}

/// A moment by a clock that was moved by so much.
pub(super) fn by(t: Timestamp, moved: SignedDuration) -> Timestamp {
    t.saturating_add(moved).unwrap_or(t)
}

/// When a line was recorded by the clock of the line before it.
pub(super) fn by_the_clock_before(line: &Line) -> Timestamp {
    match moved(line.entry.as_ref()) {
        Some(moved) => by(line.t, SignedDuration::ZERO.saturating_sub(moved)),
        None => line.t,
    }
}

/// Where in the record the clock was set, and where a daemon began or ended (none): by the numbers of these lines.
#[derive(Debug, Default)]
pub(super) struct Moves(Vec<(u64, Option<SignedDuration>)>);

impl Moves {
    /// Of the whole record.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn read(folder: &Folder) -> Result<Moves, LedgerError> {
        let mut moves = Moves::default();
        for (_, path) in folder.list()? {
            let failed = |e| folder.failed(&path, e);
            for bytes in BufReader::new(state::open(&path).map_err(failed)?).split(b'\n') {
                let bytes = bytes.map_err(failed)?;
                // To read each of them would take long.
                if tells(&bytes)
                    && let Some(line) = line::read(&bytes)
                {
                    moves.look(&line);
                }
            }
        }
        Ok(moves)
    }

    /// Takes the next line of the record.
    pub(super) fn look(&mut self, line: &Line) {
        match &line.entry {
            Some(entry) if entry.is_boundary() => self.0.push((line.n, None)),
            entry => self.0.extend(moved(entry.as_ref()).map(|moved| (line.n, Some(moved)))),
        }
    }

    /// By how much the clock had been moved since line number `n`, each time that it was set while the same daemon ran. Nothing
    /// says which of these clocks was right.
    pub(super) fn since(&self, n: u64) -> impl Iterator<Item = SignedDuration> {
        let behind = self.0.partition_point(|(at, _)| *at <= n);
        let moves = self.0[behind..].iter().map_while(|(_, moved)| *moved);
        moves.scan(SignedDuration::ZERO, |sum, moved| {
            *sum = sum.saturating_add(moved);
            Some(*sum)
        })
    }
}

/// Whether it may be a line that [`Moves`] has to see.
fn tells(bytes: &[u8]) -> bool {
    let beginning = &bytes[..bytes.len().min(NAMED)];
    TELL.iter().any(|kind| beginning.windows(kind.len()).any(|part| part == kind.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::ledger::Writer;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn secs(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_once_and_one_that_goes_on_is_not() {
        let boot = Duration::from_secs;
        let mut wall = Wall::at(at(0), boot(100));
        assert_eq!(wall.moved(at(86_400), boot(86_500)), None);
        assert_eq!(wall.moved(at(3_600) + SignedDuration::from_millis(400), boot(3_700)), None);
        let mut set = 0;
        for moved in [8_100, -8_100, 1] {
            assert_eq!(wall.moved(at(5_000 + set), boot(5_100)), None);
            set += moved;
            assert_eq!(wall.moved(at(5_000 + set), boot(5_100)), Some(secs(moved)));
            wall.follow(secs(moved));
            assert_eq!(wall.moved(at(5_060 + set), boot(5_160)), None, "{moved}");
        }
        assert_eq!(entry(SignedDuration::from_micros(-1_234_567)), Entry::Clock { moved_s: -1.235 });
    }

    /// What another daemon recorded is of its own clock, and each setting adds to those before it.
    #[test]
    fn a_line_is_moved_by_each_setting_behind_it_until_another_daemon_begins() {
        let state = tempfile::tempdir().unwrap();
        let quiet = |second| Entry::Background { start: at(second) };
        let clock = |moved_s| Entry::Clock { moved_s };
        let entries = [
            quiet(1),
            clock(60.0),
            quiet(3),
            Entry::Stopped {},
            quiet(5),
            clock(8_100.0),
            quiet(7),
            clock(-0.75),
            quiet(9),
            clock(f64::MAX), // nothing that a clock can do
        ];
        let entries: Vec<_> = (1..).map(at).zip(entries).collect();
        let mut writer = Writer::new(state.path(), &config::Ledger::default());
        writer.append(&entries).unwrap();
        let moves = Moves::read(writer.folder()).unwrap();
        let since = |n| moves.since(n).collect::<Vec<_>>();
        let both = [secs(8_100), SignedDuration::from_millis(8_099_250)];
        for (n, expected) in [
            (1, &[secs(60)][..]),
            (2, &[][..]),
            (3, &[][..]),
            (5, &both[..]),
            (6, &[SignedDuration::from_millis(-750)][..]),
            (7, &[SignedDuration::from_millis(-750)][..]),
            (9, &[][..]),
        ] {
            assert_eq!(since(n), expected, "{n}");
        }
    }

    #[test]
    fn a_clock_line_was_recorded_by_two_clocks() {
        let text = line::write(1, at(8_100), crate::digest::Digest::ZERO, &entry(secs(8_100))).unwrap();
        let line = line::read(text.as_bytes()).unwrap();
        assert_eq!((line.t, by_the_clock_before(&line)), (at(8_100), at(0)));
        assert!(tells(text.as_bytes()));
        let text = line::write(1, at(8_100), crate::digest::Digest::ZERO, &Entry::Stopped {}).unwrap();
        let line = line::read(text.as_bytes()).unwrap();
        assert_eq!(by_the_clock_before(&line), at(8_100));
        assert!(tells(text.as_bytes()) && !tells(b"{\"n\":1}") && !tells(b""));
    }
}
