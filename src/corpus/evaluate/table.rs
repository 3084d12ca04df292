//! The report for people: tables of text.

use super::Timed;
use super::report::{Accuracy, Confusion, Report, Splits};
use crate::events::Label;
use std::collections::BTreeMap;
use std::io::{Result, Write};

/// Complaints that are printed.
const COMPLAINTS: usize = 10;

/// Prints a report, headings in bold if `colour`.
///
/// # Errors
/// When it cannot be written.
pub fn print(out: &mut impl Write, report: &Report, colour: bool) -> Result<()> {
    let by = &report.by;
    let names = [&report.corpora, &by.sex, &by.language, &by.snr_db].into_iter().flat_map(BTreeMap::keys);
    let width = names.map(|name| name.chars().count()).fold(12, usize::max);
    let mut sheet = Sheet { out, width, bold: if colour { ["\x1b[1m", "\x1b[0m"] } else { ["", ""] } };
    accuracies(&mut sheet, report)?;
    groups(&mut sheet, report)?;
    confidence(&mut sheet, report)?;
    skips(&mut sheet, report)?;
    cost(&mut sheet, report)?;
    mistakes(&mut sheet, report)?;
    confusion(&mut sheet, report)?;
    complaints(&mut sheet, report)?;
    writeln!(sheet.out, "\nmodel {}", report.model)
}

struct Sheet<'a, W> {
    out: &'a mut W,
    /// Of the names of groups.
    width: usize,
    bold: [&'static str; 2],
}

impl<W: Write> Sheet<'_, W> {
    fn heading(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "\n{}{text}{}\n", self.bold[0], self.bold[1])
    }
}

/// A share as percent; a dash where there is none.
fn percent(share: impl Into<Option<f64>>) -> String {
    share.into().map_or("-".into(), |share| format!("{:.1}", 100.0 * share))
}

fn columns(name: &str, width: usize, split: &str, a: &Accuracy) -> String {
    let (accuracy, uar, skipped) = (percent(a.accuracy), percent(a.uar), percent(a.skipped));
    format!("{name:<width$} {split:<12} {:>5} {accuracy:>9} {uar:>6} {skipped:>8}", a.n)
}

fn head(name: &str, width: usize) -> String {
    format!("{name:<width$} {:<12} {:>5} {:>9} {:>6} {:>8}", "split", "n", "accuracy", "UAR", "skipped")
}

fn accuracies(sheet: &mut Sheet<impl Write>, report: &Report) -> Result<()> {
    sheet.heading("Table 1: accuracy, % (UAR of a guess: 100 / emotions that the corpus has)")?;
    writeln!(sheet.out, "{}", head("corpus", sheet.width))?;
    for (corpus, splits) in &report.corpora {
        for (split, a) in splits {
            writeln!(sheet.out, "{}", columns(corpus, sheet.width, split, a))?;
        }
    }
    Ok(())
}

fn groups(sheet: &mut Sheet<impl Write>, report: &Report) -> Result<()> {
    let by = &report.by;
    for (title, name, groups, unit) in [
        ("By the speaker's sex", "sex", &by.sex, ""),
        ("By language", "language", &by.language, ""),
        ("By signal-to-noise ratio", "ratio", &by.snr_db, " dB"),
    ] {
        if groups.is_empty() {
            continue;
        }
        sheet.heading(title)?;
        writeln!(sheet.out, "{}", head(name, sheet.width))?;
        for (group, splits) in in_order(groups) {
            for (split, a) in splits {
                writeln!(sheet.out, "{}", columns(&format!("{group}{unit}"), sheet.width, split, a))?;
            }
        }
    }
    Ok(())
}

fn confidence(sheet: &mut Sheet<impl Write>, report: &Report) -> Result<()> {
    let Some(first) = report.confidence.values().next() else { return Ok(()) };
    sheet.heading(
        "What cascade.emotion_confidence leaves: clips that are told with so much, % (and of these right, %)",
    )?;
    write!(sheet.out, "{:<12}", "at least")?;
    first.kept.iter().try_for_each(|kept| write!(sheet.out, " {:>13.1}", kept.at_least))?;
    writeln!(sheet.out)?;
    for (split, found) in &report.confidence {
        write!(sheet.out, "{split:<12}")?;
        for kept in &found.kept {
            let cell = format!("{} ({})", percent(kept.told), percent(kept.right));
            write!(sheet.out, " {cell:>13}")?;
        }
        writeln!(sheet.out)?;
    }
    for (split, found) in &report.confidence {
        writeln!(
            sheet.out,
            "{split}: mean confidence {}, right {}, expected calibration error {} points (10 bins)",
            percent(found.mean),
            percent(found.right),
            percent(found.calibration_error)
        )?;
    }
    Ok(())
}

/// Groups whose names are numbers in their order, others by name.
fn in_order(groups: &BTreeMap<String, Splits>) -> Vec<(&String, &Splits)> {
    let mut found: Vec<_> = groups.iter().collect();
    let number = |name: &str| name.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0f64);
    found.sort_by(|a, b| number(a.0).total_cmp(&number(b.0)));
    found
}

fn skips(sheet: &mut Sheet<impl Write>, report: &Report) -> Result<()> {
    sheet.heading("Table 2: modules skipped, %")?;
    for (label, share) in &report.skipped {
        writeln!(sheet.out, "{label:<24} {:>8}", percent(*share))?;
    }
    let increase = percent(report.skip_increase);
    writeln!(sheet.out, "skip increase, background over speech: {increase} points")?;
    if report.noise.is_empty() {
        return Ok(());
    }
    sheet.heading("By kind of background, % of windows of 3.6 s")?;
    writeln!(
        sheet.out,
        "{:<24} {:>10} {:>8} {:>8} {:>8} {:>12} {:>14}",
        "kind", "recordings", "windows", "skipped", "MACs", "class head", "frame head"
    )?;
    for (kind, n) in &report.noise {
        writeln!(
            sheet.out,
            "{kind:<24} {:>10} {:>8} {:>8} {:>8} {:>12} {:>14}",
            n.recordings,
            n.windows,
            percent(n.skipped),
            percent(n.macs_ratio),
            percent(n.as_speech),
            percent(n.opens_segment)
        )?;
    }
    writeln!(
        sheet.out,
        "(class head: windows taken for speech; frame head: windows that would begin a segment)"
    )
}

fn cost(sheet: &mut Sheet<impl Write>, report: &Report) -> Result<()> {
    sheet.heading("Cost")?;
    let macs = &report.macs_ratio;
    let (speech, background) = (percent(macs.speech), percent(macs.background));
    writeln!(
        sheet.out,
        "MACs against the network without gates: {speech} % on speech, {background} % on background"
    )?;
    for (name, timed) in [("background", &report.latency.background), ("speech", &report.latency.speech)] {
        if let Some(timed) = timed {
            writeln!(
                sheet.out,
                "a window of {name}, median of {}, one thread: {}",
                timed.windows,
                time(timed)
            )?;
        }
    }
    Ok(())
}

fn time(timed: &Timed) -> String {
    match (timed.ungated_ms, timed.ratio) {
        (Some(ungated), Some(ratio)) => {
            format!("{:.2} ms, {ratio:.3} of {ungated:.2} ms without gates", timed.ms)
        }
        _ => format!("{:.2} ms", timed.ms),
    }
}

fn mistakes(sheet: &mut Sheet<impl Write>, report: &Report) -> Result<()> {
    sheet.heading("Speech and background mistaken, %")?;
    let windows = report.background_windows;
    let share = |share: Option<f64>| share.map_or("-".into(), |share| format!("{:.2}", 100.0 * share));
    let line = |text: &str, of: &str, value| format!("{text:<66} {:>7}  {of}", share(value));
    let of = format!("of {windows} windows of background");
    writeln!(
        sheet.out,
        "{}",
        line("background taken for speech by the class head", &of, report.background_as_speech)
    )?;
    let text = "background in which the frame head would begin a segment";
    writeln!(sheet.out, "{}", line(text, &of, report.background_opens_segment))?;
    let text = "utterances taken for background by the class head";
    writeln!(sheet.out, "{}", line(text, "of all clips", report.speech_as_background))?;
    if let Some(missed) = &report.speech_missed {
        let of = format!("of {} windows with over 0.5 s of it", missed.windows);
        let at = missed.snr_db;
        for (head, value) in [
            ("by the class head", missed.class_head),
            ("by the frame head", missed.frame_head),
            ("by either", missed.either),
        ] {
            let text = format!("speech at {at} dB missed {head}");
            writeln!(sheet.out, "{}", line(&text, &of, value))?;
        }
    }
    Ok(())
}

fn confusion(sheet: &mut Sheet<impl Write>, report: &Report) -> Result<()> {
    let mut splits: BTreeMap<&str, Confusion> = BTreeMap::new();
    for (split, counts) in report.confusion.values().flatten() {
        let sums = splits.entry(split).or_insert([[0; Label::COUNT]; Label::COUNT]);
        for (sum, count) in sums.iter_mut().flatten().zip(counts.iter().flatten()) {
            *sum += count;
        }
    }
    for (split, counts) in splits {
        sheet.heading(&format!("Confusion, clips of {split}: a row is the truth, a column what was told"))?;
        write!(sheet.out, "{:<12}", "")?;
        for label in Label::ALL {
            write!(sheet.out, " {:>10}", label.name())?;
        }
        writeln!(sheet.out)?;
        for (label, row) in Label::ALL.iter().zip(&counts).filter(|(_, row)| row.iter().any(|n| *n > 0)) {
            write!(sheet.out, "{label:<12}")?;
            for (told, count) in Label::ALL.iter().zip(row) {
                let [on, off] = if told == label { sheet.bold } else { ["", ""] };
                write!(sheet.out, " {on}{count:>10}{off}")?;
            }
            writeln!(sheet.out)?;
        }
    }
    Ok(())
}

fn complaints(sheet: &mut Sheet<impl Write>, report: &Report) -> Result<()> {
    if let Some(seconds) = report.noise_cut_s {
        writeln!(
            sheet.out,
            "\nOf each background recording the first {seconds:.0} s at most were laid over speech."
        )?;
    }
    if report.complaints.is_empty() {
        return Ok(());
    }
    sheet.heading("Audio to look at; what is not left out was judged as it is")?;
    for complaint in report.complaints.iter().take(COMPLAINTS) {
        let line = complaint.line.map_or(String::new(), |line| format!("line {line}, "));
        writeln!(sheet.out, "{line}{}: {}", complaint.path.display(), complaint.what)?;
    }
    match report.complaints_in_all.saturating_sub(COMPLAINTS) {
        0 => Ok(()),
        more => writeln!(sheet.out, "and {more} more (--json names 100)"),
    }
}
