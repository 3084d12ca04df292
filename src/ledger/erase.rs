//! The wish to be forgotten: lines of a span of time are replaced by a gap that says so.
//!
//! The gap carries the hash of the body of each line that stood there, so the chain holds; the erasure itself is
//! recorded first, so that a gap without one is seen for what it is. A damaged line that may be of that span goes, too:
//! what it says can often be read all the same. That it was damaged stays to be seen. What was recorded before the clock
//! was set is of two times, and goes by either.

use super::LedgerError;
use super::entry::{Entry, Gap};
use super::files::Folder;
use super::line::{self, BLOT, LONGEST, Line};
use super::moved::{self, Moves, by, by_the_clock_before};
use super::writer::Writer;
use crate::digest::Digest;
use crate::{config, state};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeSet, HashSet};
use std::path::Path;

/// One line of a file: its bytes, and what it says if it can be read.
type Text = (Vec<u8>, Option<Line>);

/// What was erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Lines.
    pub lines: u64,
    /// Those of them that say another time, because the clock was set later.
    pub moved: u64,
    /// Damaged lines between or beside them.
    pub damaged: u64,
    /// A daemon started then, near that time, by a clock that was behind what had been recorded before and was not set later.
    pub behind: Option<Timestamp>,
}

/// How much later than speech a line about it may have been recorded.
const LATER: SignedDuration = SignedDuration::from_secs(60);

/// So near to a time a clock that was behind is pointed out.
const NEAR: SignedDuration = SignedDuration::from_hours(24);

/// Background follows the speech that it ended by no more than this, as times are computed and rounded.
const ROUNDED: SignedDuration = SignedDuration::from_millis(100);

/// Erases every line that was recorded, or is about speech, from `from` until `until`, and damaged ones that may be.
///
/// # Errors
/// See [`LedgerError`]. If it fails half-way, `verify` tells, and erasing once more ends it.
pub fn erase(
    state: &Path,
    rules: &config::Ledger,
    from: Timestamp,
    until: Timestamp,
) -> Result<Erased, LedgerError> {
    let folder = Folder::below(state);
    if folder.list()?.is_empty() {
        return Ok(Erased::default());
    }
    let mut writer = Writer::new(state, rules);
    let _lock = folder.lock(true)?;
    writer.append_locked(&[])?; // mends the end, if it must be
    let (mut moves, mut starts) = (Moves::default(), Starts::default());
    for (_, path) in folder.list()? {
        for line in read(&folder, &path)?.iter().filter_map(|(_, line)| line.as_ref()) {
            moves.look(line);
            starts.look(line, from, until);
        }
    }
    let within = |line: &Line, moved: SignedDuration| {
        let start = line.entry.as_ref().and_then(Entry::start).unwrap_or(line.t).min(line.t);
        let bookkeeping = line.entry.as_ref().is_some_and(Entry::is_bookkeeping);
        by(start, moved) <= until && by(line.t, moved) >= from && !bookkeeping
    };
    let says = |line: &Line| within(line, SignedDuration::ZERO);
    let moved = |line: &Line| !says(line) && moves.since(line.n).any(|moved| within(line, moved));
    let inside = |line: &Line| says(line) || moved(line);
    // What is about the same speech, or begins where it ended, tells as much: it goes, too.
    let (mut segments, mut ends) = (HashSet::new(), BTreeSet::new());
    for (_, path) in folder.list()? {
        for entry in
            read(&folder, &path)?.iter().filter_map(|(_, line)| line.as_ref()).filter(|line| inside(line))
        {
            segments.extend(entry.entry.as_ref().and_then(Entry::id));
            ends.extend(entry.entry.as_ref().and_then(Entry::end));
        }
    }
    let inside = |line: &Line| {
        let entry = line.entry.as_ref();
        let same = entry.and_then(Entry::id).is_some_and(|id| segments.contains(&id));
        // Both times are computed, by different sums.
        let near = |start: Timestamp| ends.range(start - ROUNDED..=start + ROUNDED).next().is_some();
        let after = matches!(entry, Some(Entry::Background { start }) if near(*start));
        inside(line) || same || after
    };
    let (mut gaps, mut erased) = (Vec::new(), Erased { behind: starts.end(), ..Erased::default() });
    let mut damage = Damage::new(from, until, &moves);
    for (file, path) in folder.list()? {
        let texts = read(&folder, &path)?;
        damage.look(file, &texts);
        erased.moved += texts.iter().filter(|(_, line)| line.as_ref().is_some_and(moved)).count() as u64;
        for run in runs(&texts, inside) {
            erased.lines += run.lines();
            gaps.push(run);
        }
    }
    let damaged = damage.end();
    erased.damaged = damaged.len() as u64;
    if gaps.is_empty() && damaged.is_empty() {
        return Ok(erased);
    }
    let now = Timestamp::now();
    let told = gaps.chunks(TOLD).map(|own| (now, Entry::erased(from, until, own)));
    let mut told: Vec<_> = told.collect();
    if told.is_empty() {
        told.push((now, Entry::erased(from, until, &[])));
    }
    writer.append_locked(&told)?;
    for (file, path) in folder.list()? {
        let mut texts = read(&folder, &path)?;
        let blots = damaged.iter().filter(|(of, _)| *of == file);
        let blotted = blots.map(|(_, at)| BLOT.clone_into(&mut texts[*at].0)).count() > 0;
        if let Some(bytes) = without(&texts, inside, blotted)? {
            state::replace(&path, &bytes).map_err(|e| folder.failed(&path, e))?;
        }
    }
    writer.forget_end();
    Ok(erased)
}

/// Starts of daemons at which the clock was behind, as it is after a power cut where it is only saved now and then.
#[derive(Default)]
struct Starts {
    /// When the last line was recorded that is not about the record itself.
    last: Option<Timestamp>,
    /// The last such start, near the span, and by how much the clock is behind since.
    open: Option<(Timestamp, SignedDuration)>,
    /// One before, at which it never was.
    found: Option<Timestamp>,
}

impl Starts {
    fn look(&mut self, line: &Line, from: Timestamp, until: Timestamp) {
        match &line.entry {
            Some(Entry::Started { .. }) => {
                self.found = self.open.take().map(|(start, _)| start).or(self.found);
                let behind = self.last.filter(|last| last.duration_since(line.t) > LATER);
                let near = |last| by(last, NEAR) >= from && by(line.t, -NEAR) <= until;
                self.open =
                    behind.filter(|last| near(*last)).map(|last| (line.t, last.duration_since(line.t)));
            }
            entry @ Some(Entry::Clock { .. }) => {
                let moved = moved::moved(entry.as_ref()).unwrap_or_default();
                let rest = |(start, behind): (_, SignedDuration)| (start, behind.saturating_sub(moved));
                self.open = self.open.map(rest).filter(|(_, behind)| *behind > LATER);
            }
            // Written just before a start, or when somebody erased.
            Some(entry) if entry.is_bookkeeping() => return,
            _ => {}
        }
        self.last = Some(line.t);
    }

    fn end(self) -> Option<Timestamp> {
        self.open.map(|(start, _)| start).or(self.found)
    }
}

/// Damaged lines that may be of the span: nobody knows when they were recorded, but for the lines around them.
struct Damage<'a> {
    from: Timestamp,
    until: Timestamp,
    moves: &'a Moves,
    /// Number of the last line that can be read, and when it was recorded; a gap knows only when it was made.
    before: Option<(u64, Timestamp)>,
    /// Damaged ones since, each by its file and its place there.
    since: Vec<(u64, usize)>,
    inside: HashSet<(u64, usize)>,
}

impl Damage<'_> {
    fn new(from: Timestamp, until: Timestamp, moves: &Moves) -> Damage<'_> {
        Damage { from, until, moves, before: None, since: Vec::new(), inside: HashSet::new() }
    }

    fn look(&mut self, file: u64, texts: &[Text]) {
        for (at, (text, line)) in texts.iter().enumerate() {
            match line {
                None if text != BLOT && !text.is_empty() => self.since.push((file, at)),
                Some(line) if !matches!(line.entry, Some(Entry::Gap { .. })) => {
                    self.settle(Some(by_the_clock_before(line)));
                    self.before = Some((line.n, line.t));
                }
                _ => {}
            }
        }
    }

    fn settle(&mut self, next: Option<Timestamp>) {
        let last = by(self.until, LATER);
        // Where the clock went back, what is behind does not say how late it may have been.
        let back = self.before.zip(next).is_some_and(|((_, before), next)| next < before);
        let within = |moved| {
            self.before.is_none_or(|(_, before)| by(before, moved) <= last)
                && next.is_none_or(|next| back || by(next, moved) >= self.from)
        };
        let number = self.before.map_or(0, |(n, _)| n);
        let may_be = within(SignedDuration::ZERO) || self.moves.since(number).any(within);
        let since = std::mem::take(&mut self.since);
        self.inside.extend(since.into_iter().filter(|_| may_be));
    }

    fn end(mut self) -> HashSet<(u64, usize)> {
        self.settle(None);
        self.inside
    }
}

fn read(folder: &Folder, path: &Path) -> Result<Vec<Text>, LedgerError> {
    let bytes = folder.read(path)?;
    let lines = bytes.strip_suffix(b"\n").unwrap_or(&bytes).split(|b| *b == b'\n');
    Ok(lines.map(|text| (text.to_vec(), line::read(text))).collect())
}

/// Lines of one gap, so that it is no longer than a line may be.
const TOGETHER: usize = LONGEST / 128;

/// Gaps that one line tells of, likewise.
const TOLD: usize = LONGEST / 256;

/// Neighbouring lines that are erased together. A line that cannot be read is none of them.
fn groups(texts: &[Text], inside: impl Fn(&Line) -> bool) -> Vec<&[Text]> {
    let erased = |text: &Text| text.1.as_ref().is_some_and(&inside);
    let runs = texts.chunk_by(|a, b| erased(a) == erased(b) && (!erased(a) || follows(a, b)));
    runs.flat_map(|run| run.chunks(TOGETHER)).collect()
}

/// Whether the chain goes on from one to the other. Where it does not, a gap must not cover it up.
fn follows(a: &Text, b: &Text) -> bool {
    a.1.as_ref().zip(b.1.as_ref()).is_some_and(|(a, b)| {
        let last = a.last();
        (last.n + 1, last.hash) == (b.n, b.prev)
    })
}

/// What stands for these lines, and the link to what is before them.
fn gap(group: &[Text]) -> Option<(Gap, Digest, Vec<Digest>)> {
    let lines: Vec<&Line> = group.iter().map(|(_, line)| line.as_ref()).collect::<Option<_>>()?;
    let (first, end) = (lines.first()?, lines.last()?.last());
    let bodies = lines.iter().map(|line| line.body).collect();
    Some((Gap { n: first.n, to: end.n, hash: end.hash }, first.prev, bodies))
}

/// Whether a daemon began or ended in these lines.
fn began(group: &[Text]) -> bool {
    group.iter().filter_map(|(_, line)| line.as_ref()?.entry.as_ref()).any(Entry::is_boundary)
}

fn runs(texts: &[Text], inside: impl Fn(&Line) -> bool + Copy) -> Vec<Gap> {
    let erased = |group: &&[Text]| group[0].1.as_ref().is_some_and(inside);
    groups(texts, inside).into_iter().filter(erased).filter_map(|group| Some(gap(group)?.0)).collect()
}

/// The file's new content; none if nothing in it is erased, or was `changed` before.
fn without(
    texts: &[Text],
    inside: impl Fn(&Line) -> bool + Copy,
    mut changed: bool,
) -> Result<Option<Vec<u8>>, LedgerError> {
    let mut bytes = Vec::new();
    for group in groups(texts, inside) {
        let erased = group[0].1.as_ref().is_some_and(inside);
        if let Some((Gap { n, .. }, prev, bodies)) = gap(group).filter(|_| erased) {
            changed = true;
            let text = line::write(n, Timestamp::now(), prev, &Entry::Gap { bodies, began: began(group) })
                .map_err(|e| LedgerError::Damaged(format!("a gap cannot be written ({e})")))?;
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(b'\n');
        } else {
            for (text, _) in group {
                bytes.extend_from_slice(text);
                bytes.push(b'\n');
            }
        }
    }
    Ok(changed.then_some(bytes))
}
