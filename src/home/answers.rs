//! What the broker has answered, and so: than what a command that comes now is newer for sure.
//!
//! In: when something left that the broker acknowledges, and when it did. Out: a moment for each command. A broker that
//! stood still, or the network on the way to it, may have held the command back, and nobody sees that from the command
//! itself. But whatever the broker had of others when it answered comes before the answer, or soon after it: so what
//! comes [`SETTLES`] after the answer was said later than what was answered had left.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So long after an answer a broker that stood still has read what the connections of others had for it meanwhile.
const SETTLES: Duration = Duration::from_secs(2);
/// Answers within this time count as one, so that few are kept.
const TOGETHER: Duration = Duration::from_millis(100);

/// Outlives connections: what a broker has read is read.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// When the newest left whose answer is old enough.
    settled: Option<Instant>,
    recent: VecDeque<Answer>,
}

/// One answer, or some that came together.
#[derive(Debug)]
struct Answer {
    begun: Instant,
    last: Instant,
    /// When the newest of what was answered had left.
    sent: Instant,
}

impl Answers {
    /// The broker has answered now what had left at `sent`.
    pub(super) fn answered(&mut self, sent: Instant, now: Instant) {
        self.settle(now);
        match self.recent.back_mut() {
            Some(answer) if now.duration_since(answer.begun) < TOGETHER => {
                (answer.last, answer.sent) = (now, answer.sent.max(sent));
            }
            _ => self.recent.push_back(Answer { begun: now, last: now, sent }),
        }
    }

    /// What comes now was said after this moment, as far as the broker can know; none: at any time.
    pub(super) fn said_after(&mut self, now: Instant) -> Option<Instant> {
        self.settle(now);
        self.settled
    }

    fn settle(&mut self, now: Instant) {
        while let Some(answer) = self.recent.front().filter(|it| now.duration_since(it.last) >= SETTLES) {
            self.settled = self.settled.max(Some(answer.sent));
            self.recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_soon_after_an_answer_may_be_older_than_the_question() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut answers = Answers::default();
        assert_eq!(answers.said_after(at(0)), None);
        answers.answered(at(10), at(20));
        assert_eq!(answers.said_after(at(2019)), None);
        assert_eq!(answers.said_after(at(2020)), Some(at(10)));
        // Held back for a minute: what comes with the answer is no newer than before.
        answers.answered(at(5000), at(65_000));
        assert_eq!(answers.said_after(at(66_999)), Some(at(10)));
        assert_eq!(answers.said_after(at(67_000)), Some(at(5000)));
    }

    #[test]
    fn a_stream_of_answers_keeps_little_and_puts_nothing_off() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut answers = Answers::default();
        for ms in 0..10_000 {
            answers.answered(at(ms), at(ms));
        }
        assert!(answers.recent.len() <= 21, "{}", answers.recent.len());
        let known = answers.said_after(at(10_000)).unwrap();
        assert!(known >= at(7800) && known <= at(8000), "{:?}", known - begun);
    }
}
