//! Which rows are judged: those of the test splits; where there are none, the ones without a split. Never `train`,
//! and nothing without a label.

use crate::corpus::CorpusError;
use crate::corpus::manifest::{Kind, Row};
use crate::events::Label;
use std::fmt;
use std::path::Path;

/// How many rows are left out, and why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Of split `train`.
    pub train: usize,
    /// Without an emotion.
    pub unlabelled: usize,
    /// Without a split, where others are of a test split.
    pub unsplit: usize,
    /// Windows with a part of an utterance: their emotion was not asked for.
    pub windows: usize,
    /// Background, where another one was named.
    pub replaced: usize,
}

impl LeftOut {
    /// Whether nothing is.
    pub fn nothing(&self) -> bool {
        *self == LeftOut::default()
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = [
            (self.train, "of split `train`"),
            (self.unlabelled, "without an emotion"),
            (self.unsplit, "without a split, where others are of a test split"),
            (self.windows, "of kind `window`"),
            (self.replaced, "of background, as --noise is given"),
        ];
        let mut first = true;
        for (count, reason) in reasons.into_iter().filter(|(count, _)| *count > 0) {
            let rows = if count == 1 { "row" } else { "rows" };
            write!(f, "{}{count} {rows} {reason}", if first { "" } else { ", " })?;
            first = false;
        }
        Ok(())
    }
}

/// Whether a row is of background.
pub fn is_background(row: &Row) -> bool {
    row.emotion == Some(Label::Background)
}

/// Of rows, those to judge; the others are counted. `row` finds the row in whatever goes with it.
pub fn judged<T>(mut rows: Vec<T>, left_out: &mut LeftOut, row: impl Fn(&T) -> &Row) -> Vec<T> {
    rows.retain(|of| {
        let row = row(of);
        let count = match (row.emotion, row.kind) {
            (None, _) => &mut left_out.unlabelled,
            (_, Kind::Window) => &mut left_out.windows,
            _ => return true,
        };
        *count += 1;
        false
    });
    let any_test = rows.iter().any(|of| row(of).split.starts_with("test"));
    rows.retain(|of| {
        let count = match row(of).split.as_str() {
            "" if any_test => &mut left_out.unsplit,
            "train" => &mut left_out.train,
            _ => return true,
        };
        *count += 1;
        false
    });
    rows
}

/// That nothing in `path` of this (`speech`, or any `row`) is to be judged, and what to do.
pub fn none(path: &Path, what: &str, left_out: &LeftOut) -> CorpusError {
    let left_out = if left_out.nothing() { "it is empty".into() } else { left_out.to_string() };
    CorpusError::Nothing(format!(
        "{} holds no {what} to judge ({left_out}); a row is judged that has an emotion and the split test_seen or \
         test_unseen, or none where no row is of a test split",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(emotion: Option<Label>, split: &str) -> Row {
        Row { emotion, split: split.into(), ..Row::default() }
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let happy = Some(Label::Happy);
        let window = Row { kind: Kind::Window, ..row(happy, "test_seen") };
        let mut rows = vec![row(happy, ""), row(happy, "train"), row(None, "test_seen"), window];
        let mut left_out = LeftOut::default();
        assert_eq!(judged(rows.clone(), &mut left_out, |row| row), [row(happy, "")]);
        assert_eq!(
            left_out.to_string(),
            "1 row of split `train`, 1 row without an emotion, 1 row of kind `window`"
        );
        rows.push(row(happy, "test_unseen"));
        let mut left_out = LeftOut::default();
        assert_eq!(judged(rows, &mut left_out, |row| row), [row(happy, "test_unseen")]);
        assert_eq!((left_out.unsplit, left_out.train), (1, 1));
    }
}
