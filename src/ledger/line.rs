//! An entry as a line of JSON: `{"n":…,"t":…,"kind":…,…,"salt":…,"prev":…,"sum":…}`.
//!
//! `prev` is the hash of the line before it; of line 1, 64 zeros. A line's hash is the SHA-256 of two others
//! one behind the other, 32 bytes each: the SHA-256 of its body, which is all that stands before `,"prev"`, and
//! its `prev`. So a gap that keeps the hashes of erased bodies links what is before it to what is behind it,
//! and nothing of the bodies themselves is needed for that. `salt` is random, so that nobody can find an
//! erased line by trying what may have stood there. `sum` is the beginning of the SHA-256 of all that stands
//! before it: it says which of two lines was changed.

use super::entry::Entry;
use super::files::Head;
use crate::digest::Digest;
use jiff::Timestamp;
use serde::Deserialize;

/// Stands where a line stood that could not be read and was erased: no line either, so that it stays a finding.
pub(super) const BLOT: &[u8] = b"a damaged line stood here, and was erased on somebody's wish";
/// No line is longer.
pub const LONGEST: usize = 64 * 1024;
/// No line has a higher number: names of files have room for these digits.
pub const HIGHEST: u64 = 10_u64.pow(DIGITS as u32) - 1;
/// Digits of a file's name.
pub(super) const DIGITS: usize = 12;
/// `,"sum":"12345678"}`
const SUM: usize = 18;
/// `,"prev":"…"`
const PREV: usize = 74;

/// A line, read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Line {
    /// Its number; the first is 1.
    pub n: u64,
    /// When it was recorded.
    pub t: Timestamp,
    /// The link to the line before.
    pub prev: Digest,
    /// SHA-256 of what stands before the link.
    #[serde(skip, default = "nothing")]
    pub body: Digest,
    /// What happened; none if a later version of undertone wrote it.
    #[serde(skip)]
    pub entry: Option<Entry>,
}

fn nothing() -> Digest {
    Digest::ZERO
}

impl Line {
    /// Number and hash of each line that it stands for: itself, or if it is a gap, those that were erased.
    pub fn links(&self) -> Vec<Head> {
        let bodies = match &self.entry {
            Some(Entry::Gap { bodies, .. }) => bodies.as_slice(),
            _ => std::slice::from_ref(&self.body),
        };
        let mut last = Head { n: self.n.saturating_sub(1), hash: self.prev };
        let mut links = Vec::with_capacity(bodies.len());
        for body in bodies {
            last = Head { n: last.n.saturating_add(1), hash: Digest::chained(*body, last.hash) };
            links.push(last);
        }
        links
    }

    /// The last of them, which the line behind it carries on.
    pub fn last(&self) -> Head {
        self.links().pop().unwrap_or(Head { n: self.n, hash: self.prev })
    }
}

/// Writes a line, without its newline.
///
/// # Errors
/// When the entry cannot be written as JSON, which no entry is known to do.
pub fn write(n: u64, t: Timestamp, prev: Digest, entry: &Entry) -> Result<String, serde_json::Error> {
    let body = serde_json::to_string(entry)?;
    let inner = body.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(&body);
    let salt: u64 = rand::random();
    let head = format!("{{\"n\":{n},\"t\":\"{t}\",{inner},\"salt\":\"{salt:016x}\",\"prev\":\"{prev}\"");
    let sum = sum(head.as_bytes());
    Ok(format!("{head},\"sum\":\"{sum}\"}}"))
}

/// Reads a line, without its newline. None if it is none, or was changed.
pub fn read(bytes: &[u8]) -> Option<Line> {
    let end = bytes.len().checked_sub(SUM)?;
    let (head, tail) = bytes.split_at(end);
    if bytes.len() > LONGEST || tail != format!(",\"sum\":\"{}\"}}", sum(head)).as_bytes() {
        return None;
    }
    let (body, link) = head.split_at(head.len().checked_sub(PREV)?);
    let mut line: Line = serde_json::from_slice(bytes).ok()?;
    line.entry = serde_json::from_slice(bytes).ok();
    line.body = Digest::of(body);
    let fits = link == format!(",\"prev\":\"{}\"", line.prev).as_bytes()
        && !matches!(&line.entry, Some(Entry::Gap { bodies, .. }) if bodies.is_empty())
        && line.n > 0
        && line.last().n <= HIGHEST;
    fits.then_some(line)
}

fn sum(head: &[u8]) -> String {
    let mut text = Digest::of(head).to_string();
    text.truncate(8);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_and_no_bit_of_it_may_change() {
        let entry = Entry::Lost { lines: 3 };
        let (t, prev) = (Timestamp::from_second(1_000_000).unwrap(), Digest::of(b"before"));
        let text = write(7, t, prev, &entry).unwrap();
        let line = read(text.as_bytes()).unwrap();
        assert_eq!((line.n, line.t, line.prev, &line.entry), (7, t, prev, &Some(entry.clone())));
        assert_eq!(line.links(), [Head { n: 7, hash: Digest::chained(line.body, prev) }]);
        for place in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[place] ^= 1;
            assert_eq!(read(&changed), None, "{place}");
            assert_eq!(read(&text.as_bytes()[..place]), None);
        }
        assert_ne!(write(7, t, prev, &entry).unwrap(), text, "no two lines are alike");
    }

    #[test]
    fn a_gap_stands_for_the_lines_that_were_there() {
        let (t, mut prev) = (Timestamp::from_second(1_000_000).unwrap(), Digest::of(b"before"));
        let (mut lines, mut bodies) = (Vec::new(), Vec::new());
        for n in 5..8 {
            let line = read(write(n, t, prev, &Entry::Lost { lines: n }).unwrap().as_bytes()).unwrap();
            prev = line.last().hash;
            bodies.push(line.body);
            lines.push(line.last());
        }
        let gap = |prev, bodies| write(5, t, prev, &Entry::Gap { bodies, began: false }).unwrap();
        let read_gap = |prev, bodies| read(gap(prev, bodies).as_bytes());
        assert_eq!(read_gap(Digest::of(b"before"), bodies.clone()).unwrap().links(), lines);
        assert_ne!(read_gap(Digest::of(b"another"), bodies.clone()).unwrap().last(), lines[2]);
        assert_eq!(read_gap(prev, Vec::new()), None, "a gap of nothing");
    }

    #[test]
    fn numbers_beyond_all_sense_are_none() {
        let (t, prev) = (Timestamp::from_second(1_000_000).unwrap(), Digest::ZERO);
        for (n, good) in [(0, false), (1, true), (HIGHEST, true), (HIGHEST + 1, false), (u64::MAX, false)] {
            let text = write(n, t, prev, &Entry::Stopped {}).unwrap();
            assert_eq!(read(text.as_bytes()).is_some(), good, "{n}");
        }
    }

    #[test]
    fn nothing_can_stand_between_the_link_and_the_sum() {
        let text = write(1, Timestamp::from_second(1).unwrap(), Digest::ZERO, &Entry::Stopped {}).unwrap();
        let more = format!("{},\"more\":1", &text[..text.len() - SUM]);
        let text = format!("{more},\"sum\":\"{}\"}}", sum(more.as_bytes()));
        assert_eq!(read(text.as_bytes()), None);
    }

    #[test]
    fn the_digest_is_that_of_others() {
        // printf abc | sha256sum
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), abc);
        assert_eq!(Digest::of_reader(&b"abc"[..]).unwrap(), abc.parse().unwrap());
        assert!(abc.to_uppercase().parse::<Digest>().is_err());
    }
}
