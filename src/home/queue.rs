//! Commands on their way from the connection to the service: bounded, in order, and never without room for a
//! withdrawal.
//!
//! In: commands, as they arrive, and after which moment each was said for sure. Out: the same, but a withdrawal that only repeats one that waits is not kept
//! twice. So withdrawals need no limit of their own: at most three kinds of them wait between two grants, and
//! of everything else at most [`super::commands::QUEUE`] wait.

use super::commands::{Command, QUEUE};
use crate::consent::Order;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// The end that takes.
#[derive(Debug)]
pub struct Commands(Arc<Queue>);

/// What both ends have in common.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

/// A command, and after which moment it was said for sure; none: at any time.
type Waits = (Command, Option<Instant>);

#[derive(Debug, Default)]
struct Waiting {
    commands: VecDeque<Waits>,
    /// Somebody else takes the commands from now on.
    closed: bool,
}

impl Commands {
    /// An empty queue, and its end that takes.
    pub(super) fn new() -> (Arc<Queue>, Commands) {
        let queue = Arc::new(Queue::default());
        (Arc::clone(&queue), Commands(queue))
    }

    /// The next command, once there is one, and after which moment it was said for sure; none if somebody else takes them now. Nothing is lost if the wait
    /// is given up.
    pub async fn recv(&mut self) -> Option<Waits> {
        loop {
            {
                let mut waiting = self.0.lock();
                let next = waiting.commands.pop_front();
                if next.is_some() || waiting.closed {
                    return next;
                }
            }
            self.0.wake.notified().await;
        }
    }

    /// The next command, if there is one.
    pub fn try_recv(&mut self) -> Option<Waits> {
        self.0.lock().commands.pop_front()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a command. False: too many others wait; never so for a withdrawal.
    pub(super) fn push(&self, command: Command, said_after: Option<Instant>) -> bool {
        let mut waiting = self.lock();
        let room = match command.withdraws() {
            true => {
                if !repeats(&mut waiting.commands, command) {
                    waiting.commands.push_back((command, said_after));
                }
                true
            }
            false => {
                let others = waiting.commands.iter().filter(|(waits, _)| !waits.withdraws()).count();
                let room = others < QUEUE;
                if room {
                    waiting.commands.push_back((command, said_after));
                }
                room
            }
        };
        drop(waiting);
        self.wake.notify_one();
        room
    }

    /// Nobody takes commands from here any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }
}

/// Whether a withdrawal says the same as one that waits, and that no grant follows. Of two guest modes the
/// longer one stays.
fn repeats(commands: &mut VecDeque<Waits>, withdrawal: Command) -> bool {
    for (waits, _) in commands.iter_mut().rev() {
        match (&mut *waits, withdrawal) {
            (Command::Consent(order), _) if order.gives() => return false,
            (Command::Consent(Order::GuestsCome(before)), Command::Consent(Order::GuestsCome(time))) => {
                *before = before.zip(time).map(|(a, b)| a.max(b));
                return true;
            }
            (waits, withdrawal) if *waits == withdrawal => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consent::Scope;
    use crate::events::Consent;
    use jiff::SignedDuration;

    fn say(scope: Scope, consent: Consent) -> Command {
        Command::Consent(Order::Say(scope, consent))
    }

    fn come(hours: Option<i64>) -> Command {
        Command::Consent(Order::GuestsCome(hours.map(SignedDuration::from_hours)))
    }

    fn left(pushed: &[Command]) -> Vec<Command> {
        let (queue, mut taken) = Commands::new();
        pushed.iter().for_each(|command| assert!(queue.push(*command, None) || !command.withdraws()));
        std::iter::from_fn(|| Some(taken.try_recv()?.0)).collect()
    }

    #[test]
    fn a_withdrawal_always_finds_room_and_is_not_kept_twice() {
        let (withdraw, grant) =
            (say(Scope::Listening, Consent::Withheld), say(Scope::Listening, Consent::Granted));
        let other = say(Scope::Transcription, Consent::Withheld);
        assert_eq!(left(&[withdraw; 1000]), [withdraw]);
        assert_eq!(left(&[withdraw, other, Command::Forget, withdraw]), [withdraw, other, Command::Forget]);
        assert_eq!(left(&[withdraw, grant, withdraw, withdraw]), [withdraw, grant, withdraw]);
        assert_eq!(left(&[come(Some(1)), come(Some(3)), come(Some(2))]), [come(Some(3))]);
        assert_eq!(left(&[come(Some(1)), come(None), come(Some(2))]), [come(None)]);
        let mut flood = vec![Command::Forget; 2 * QUEUE];
        flood.push(withdraw);
        let taken = left(&flood);
        assert_eq!((taken.len(), taken.last()), (QUEUE + 1, Some(&withdraw)));
        assert!(left(&[grant, withdraw, other, come(None)].repeat(1000)).len() <= 4 * QUEUE + 3);
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_and_whoever_is_replaced_is_told() {
        let (queue, mut taken) = Commands::new();
        let waiting =
            tokio::spawn(
                async move { (taken.recv().await.map(|it| it.0), taken.recv().await.map(|it| it.0)) },
            );
        tokio::task::yield_now().await;
        assert!(queue.push(Command::Restart, None));
        tokio::task::yield_now().await;
        queue.close();
        assert_eq!(waiting.await.unwrap(), (Some(Command::Restart), None));
    }
}
