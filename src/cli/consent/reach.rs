//! Whether what was said at the command line reaches the daemon that runs, and what becomes of it where it does not.

use super::super::Failure;
use super::super::place::Place;
use super::is_astray;
use crate::config::Config;
use crate::consent::{By, ConsentError, Scope, Store};
use crate::events::Consent;
use crate::state::{self, Stray, as_owner};
use jiff::Timestamp;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a daemon gets to do what it was told.
const CONFIRMED: Duration = Duration::from_secs(2);
/// How long it gets to take a folder that has the name of its own.
const RETAKES: Duration = Duration::from_secs(6);
/// How long it gets to write what it already does.
const WRITTEN: Duration = Duration::from_millis(500);
/// How long nobody has the folder during a new start, at the very most.
const NEW_START: Duration = Duration::from_secs(5);
/// How long it is tried to tell a daemon, whatever happens.
const PATIENCE: Duration = Duration::from_secs(15);

/// Warns where what was said reaches no daemon: a withdrawal always, a grant only if one is found to run with another
/// folder, since else it waits for whoever starts. False: it is likely that another daemon was meant, because nobody said
/// which folder, or the configuration that says so cannot be read.
pub(super) fn reaches(place: &Place, config: &Config, store: &Store, withdraws: bool, unread: bool) -> bool {
    let folder = store.folder();
    if state::is_occupied(folder) {
        if let Some(daemon) = state::stopped(folder) {
            complain!(
                "undertone: the undertone that runs (process {daemon}) was stopped (SIGSTOP) and does nothing at the moment; \
                 what was said holds as soon as it goes on: kill -CONT {daemon}"
            );
            return !withdraws;
        }
        let unreadable =
            state::occupant(folder).and_then(|daemon| Some((daemon, state::stranger(daemon, folder)?)));
        if let Some((daemon, user)) = unreadable.filter(|_| !withdraws) {
            complain!(
                "undertone: the undertone that runs (process {daemon}) does not own {folder}, and cannot read what is said there: \
                 chown -R {user} {folder}",
                folder = folder.display()
            );
            return false;
        }
        return true;
    }
    if !state::strays(folder).is_empty() {
        // A daemon takes what has the name of its folder as soon as it sees that. Who withdraws does not wait for that, and who grants did.
        return within(RETAKES / 6, || state::is_occupied(folder)) || !tell_strays(folder, withdraws);
    }
    let ours = folder.display();
    let others = [state::folder(config), Some(config.state_dir.clone()), Some(Config::default().state_dir)];
    let other = others.into_iter().flatten().find(|other| other != folder && state::is_occupied(other));
    match other {
        Some(other) => {
            complain!(
                "undertone: no undertone is running with the state folder {ours}; one is running with {other}, and \
                 goes on as before: --state-dir {other} reaches it",
                other = other.display()
            );
            place.state_dir.is_some() || (place.config.is_some() && !unread)
        }
        None if withdraws => {
            complain!(
                "undertone: no undertone is running with the state folder {ours}; if one is running with another \
                 folder, it goes on as before: --state-dir with that folder reaches it"
            );
            place.state_dir.is_some() || !unread
        }
        None => true,
    }
}

/// What the daemon withholds and could not write was said before this: it is written first, if it can be.
pub(super) fn written_first(store: &Store) -> Result<(), Failure> {
    if let Some(daemon) = state::stopped(store.folder()) {
        complain!(
            "undertone: the undertone that runs (process {daemon}) was stopped (SIGSTOP), and may know of a withdrawal that is not \
             written yet: nothing is granted until it goes on: kill -CONT {daemon}"
        );
        return Err(Failure::Told { status: 1 });
    }
    // A daemon that had another folder takes this one, and writes what was withdrawn there.
    if is_astray(store.folder()) && within(RETAKES, || state::is_occupied(store.folder())) {
        within(WRITTEN, || !store.held().is_empty());
    }
    // What is just being written needs no help.
    if within(WRITTEN, || store.held().is_empty()) {
        return Ok(());
    }
    // The daemon sees that somebody could write, and does so. (It holds nothing for a moment, because the file is another.)
    let Ok(mine) = as_owner(store.folder(), || store.change(|_| {})) else { return Ok(()) }; // told below
    if within(CONFIRMED, || store.stamp() != mine.stamp && store.held().is_empty()) || store.held().is_empty()
    {
        return Ok(());
    }
    complain!(
        "undertone: the undertone that runs has not written down yet what was withdrawn before; say it again in a minute"
    );
    Err(Failure::Told { status: 1 })
}

/// Tells each daemon that calls this folder its own and has another one; false: there is none.
pub(super) fn tell_strays(folder: &Path, withdraws: bool) -> bool {
    let strays = state::strays(folder);
    strays.iter().for_each(|stray| tell_stray(stray, folder, withdraws));
    !strays.is_empty()
}

/// A daemon that would not see what was said in the folder that has the name of its own: a withdrawal reaches it by a signal.
fn tell_stray(stray: &Stray, folder: &Path, withdraws: bool) {
    let (process, since, own) = (stray.process, Timestamp::now(), Store::new(&stray.folder));
    let what = format!(
        "the undertone that runs (process {process}) has another folder than the one that is {} now: a disk was mounted there or \
         taken away, or the folder was moved; `systemctl restart undertone` gives it this one, and what is said there holds then",
        folder.display()
    );
    if !withdraws {
        return complain!("undertone: this does not reach anybody: {what}");
    }
    let told = rustix::process::kill_process(process, rustix::process::Signal::USR1).is_ok();
    let holds = || is_written(&own, since) || own.held().contains(&Scope::Listening);
    match told && within(CONFIRMED, holds) {
        true => complain!(
            "undertone: {what}. It was told by a signal to withhold everything until that is granted anew, and does"
        ),
        false => complain!(
            "undertone: {what}. It was told by a signal to withhold everything, and does NOT confirm it: \
             `systemctl stop undertone` closes the microphone at once"
        ),
    }
}

/// Whether a withdrawal by the signal is on the disk.
fn is_written(store: &Store, since: Timestamp) -> bool {
    let said = store.load().record.said(Scope::Listening);
    said.is_some_and(|said| said.consent == Consent::Withheld && said.by == By::Command && said.at >= since)
}

/// Whether it comes true in that time.
fn within(limit: Duration, done: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// What becomes of a withdrawal that this command cannot write: the daemon is told by a signal, if it can be, and confirms it
/// by what it then holds, or writes. One that is just starting anew is told again. True: it is written.
pub(super) fn told_otherwise(store: &Store, why: &ConsentError) -> (String, bool) {
    let (begun, since) = (Instant::now(), Timestamp::now());
    let written = || is_written(store, since);
    let (mut told, mut nobody_since) = (None, begun);
    while begun.elapsed() < PATIENCE && nobody_since.elapsed() < NEW_START {
        let daemon = state::occupant(store.folder())
            .filter(|daemon| rustix::process::kill_process(*daemon, rustix::process::Signal::USR1).is_ok());
        if let Some(daemon) = daemon
            && within(CONFIRMED, || written() || store.held().contains(&Scope::Listening))
        {
            if within(WRITTEN, written) {
                let told = format!(
                    "the undertone that runs (process {daemon}) withholds everything until it is granted anew, and has \
                     written that down, because this command could not: {why}"
                );
                return (told, true);
            }
            let told = format!(
                "the undertone that runs (process {daemon}) was told to withhold everything until it is granted anew, \
                 and does, but that is NOT written down and ends with the process: {why}; mend that, and say it again"
            );
            return (told, false);
        }
        match daemon {
            Some(_) => (told, nobody_since) = (daemon, Instant::now()),
            None => std::thread::sleep(CONFIRMED / 20), // it may be starting anew
        }
    }
    let unsure = match told {
        Some(daemon) if state::stopped(store.folder()).is_some() => format!(
            "the undertone that runs (process {daemon}) was told, but is stopped (SIGSTOP), and obeys when it goes on: kill -CONT {daemon}"
        ),
        Some(daemon) => {
            format!("the undertone that runs (process {daemon}) was told, and does not confirm it")
        }
        None => "no undertone could be told".into(),
    };
    let told = format!(
        "this did NOT take effect as far as is known ({unsure}), and if undertone runs its microphone may be open: {why}; \
         `systemctl stop undertone` closes it at once, as does the switch in the home hub"
    );
    (told, false)
}
