//! `undertone analyze --plot`: a recording, what was heard in it, and which modules ran, in one picture.
//!
//! In: the samples, the segments, the windows that the model judged. Out: an SVG file of three panels on one
//! axis of time. Wide recordings are thinned to what a screen shows.

use super::Failure;
use crate::audio::SAMPLE_RATE;
use crate::cascade::Judged;
use crate::events::Emotion;
use crate::features::stream::FrameStream;
use crate::features::{Frame, HOP, MELS};
use crate::model::MODULES;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Width and height of the picture.
const SIZE: (u32, u32) = (1200, 760);
/// Columns of the picture's data at most.
const COLUMNS: usize = 400;
/// What is quieter than the loudest by this is white, in dB.
const RANGE_DB: f32 = 60.0;
/// The features have no weaker sound; where nothing is louder there is nothing to draw.
const SILENCE_DB: f32 = -99.9;
/// Names of the four modules of a block, in their order.
const KINDS: [&str; 4] = ["ff1", "attention", "convolution", "ff2"];

const SOUND: RGBColor = RGBColor(90, 90, 90);
const SPEECH: RGBColor = RGBColor(250, 200, 80);
const RAN: RGBColor = RGBColor(30, 90, 160);
const SKIPPED: RGBColor = RGBColor(225, 232, 240);

type Panel<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn<T> = Result<T, Box<dyn std::error::Error>>;

/// Refuses, before anything is done, to write a picture over what is none: over a recording, most of all.
///
/// # Errors
/// One sentence, with another name to give.
pub fn may_write(out: &Path, inputs: &[PathBuf]) -> Result<(), Failure> {
    let shown = out.display();
    let refuse = |why: String| {
        Err(Failure::Usage(format!("--plot {shown}: {why}; name a new file that ends in .svg after --plot")))
    };
    if inputs.iter().any(|input| is_same(input, out)) {
        return refuse("the recording itself would be overwritten".into());
    }
    if !out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg")) {
        return refuse("a picture is an SVG file".into());
    }
    let Ok(there) = std::fs::metadata(out) else { return Ok(()) };
    let mut head = [0; 4];
    let picture = there.is_file()
        && (there.len() == 0
            || std::fs::File::open(out).and_then(|mut file| file.read_exact(&mut head)).is_ok()
                && head == *b"<svg");
    if picture { Ok(()) } else { refuse("it is there, and is no picture of undertone's".into()) }
}

/// Whether two names are those of one file.
fn is_same(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    a == b || id(a).is_ok_and(|a| id(b).is_ok_and(|b| a == b))
}

/// What there is to see.
pub struct Picture<'a> {
    /// 16 kHz mono.
    pub samples: &'a [f32],
    /// Segments that were told.
    pub segments: &'a [Emotion],
    /// Windows that the model judged.
    pub windows: &'a [Judged],
}

impl Picture<'_> {
    /// Writes the picture.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|e| std::io::Error::other(e.to_string()))?;
        std::fs::write(path, svg).map_err(|e| {
            let reason = format!("the picture cannot be written to {}: {e}", path.display());
            std::io::Error::new(e.kind(), reason).into()
        })
    }

    fn seconds(&self) -> f64 {
        (self.samples.len() as f64 / f64::from(SAMPLE_RATE)).max(0.1)
    }

    fn draw(&self, svg: &mut String) -> Drawn<()> {
        let whole = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        whole.fill(&WHITE)?;
        let (wave, rest) = whole.split_vertically(210);
        let (mel, gates) = rest.split_vertically(250);
        self.waveform(&mut self.panel(&wave, (-1.0, 1.0), "level", "")?)?;
        self.spectrum(&mut self.panel(&mel, (0.0, MELS as f64), "mel band", "")?)?;
        self.gates(&mut self.panel(&gates, (0.0, MODULES as f64), "module (by kind)", "seconds")?)?;
        whole.present()?;
        Ok(())
    }

    fn panel<'a, 'b>(
        &self,
        area: &DrawingArea<SVGBackend<'b>, plotters::coord::Shift>,
        (low, high): (f64, f64),
        up: &str,
        along: &str,
    ) -> Drawn<Panel<'a, 'b>> {
        let mut panel = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(if along.is_empty() { 22 } else { 42 })
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..self.seconds(), low..high)?;
        panel.configure_mesh().disable_mesh().y_labels(5).x_desc(along).y_desc(up).draw()?;
        Ok(panel)
    }

    /// The loudest and the deepest sample of each column, relative to the loudest of all, above the segments.
    fn waveform(&self, panel: &mut Panel) -> Drawn<()> {
        for segment in self.segments {
            let corners = [(segment.start_s, -1.0), (segment.end_s, 1.0)];
            panel.draw_series([Rectangle::new(corners, SPEECH.mix(0.45).filled())])?;
        }
        let loudest = self.samples.iter().fold(1e-6f32, |most, s| most.max(s.abs()));
        let step = self.samples.len().div_ceil(3 * COLUMNS).max(1);
        let second = |column: usize| (column * step) as f64 / f64::from(SAMPLE_RATE);
        let columns = self.samples.chunks(step).enumerate().map(|(column, samples)| {
            let low = samples.iter().copied().fold(f32::INFINITY, f32::min) / loudest;
            let high = samples.iter().copied().fold(f32::NEG_INFINITY, f32::max) / loudest;
            PathElement::new(
                [(second(column), f64::from(low)), (second(column), f64::from(high))],
                SOUND.stroke_width(1),
            )
        });
        panel.draw_series(columns)?;
        let names = self.segments.iter().map(|segment| {
            let name = format!("{} {:.2}", segment.label, segment.confidence);
            Text::new(name, (segment.start_s, 0.97), ("sans-serif", 14).into_font())
        });
        panel.draw_series(names)?;
        Ok(())
    }

    /// Log-mel frames as the model's features have them, averaged to columns.
    fn spectrum(&self, panel: &mut Panel) -> Drawn<()> {
        let mut frames: Vec<Frame> = Vec::new();
        FrameStream::new().push(self.samples, |frame| frames.push(*frame));
        let loudest = frames.iter().flatten().fold(f32::NEG_INFINITY, |most, db| most.max(*db));
        if loudest <= SILENCE_DB {
            return Ok(());
        }
        let step = frames.len().div_ceil(COLUMNS).max(1);
        let second = |frame: usize| (frame * HOP) as f64 / f64::from(SAMPLE_RATE);
        for (column, frames) in frames.chunks(step).enumerate() {
            let (from, to) = (second(column * step), second((column + 1) * step));
            let bands = (0..MELS).filter_map(|band| {
                let mean = frames.iter().map(|frame| frame[band]).sum::<f32>() / frames.len() as f32;
                let share = 1.0 + (mean - loudest) / RANGE_DB;
                (share > 0.02).then(|| {
                    let shade = (255.0 * (1.0 - share.min(1.0))) as u8;
                    let corners = [(from, band as f64), (to, band as f64 + 1.0)];
                    Rectangle::new(corners, RGBColor(shade, shade, shade.saturating_add(20)).filled())
                })
            });
            panel.draw_series(bands)?;
        }
        Ok(())
    }

    /// One column for each window that was judged, from the end of the one before it to its own: what ran is
    /// dark. Where nothing is drawn, the level sufficed. Modules of one kind lie together, block 0 below.
    fn gates(&self, panel: &mut Panel) -> Drawn<()> {
        let second = |sample: u64| sample as f64 / f64::from(SAMPLE_RATE);
        for window in self.windows {
            let (from, to) = (second(window.since), second(window.until));
            panel.draw_series([Rectangle::new([(from, 0.0), (to, MODULES as f64)], SKIPPED.filled())])?;
            let ran = (0..MODULES).filter(|module| window.executed[*module]).map(|module| {
                let row = (module % KINDS.len() * (MODULES / KINDS.len()) + module / KINDS.len()) as f64;
                Rectangle::new([(from, row), (to, row + 1.0)], RAN.filled())
            });
            panel.draw_series(ran)?;
        }
        let names = KINDS.iter().enumerate().map(|(kind, name)| {
            let top = ((kind + 1) * (MODULES / KINDS.len())) as f64 - 1.0;
            Text::new((*name).to_owned(), (self.seconds() * 0.003, top), ("sans-serif", 12).into_font())
        });
        panel.draw_series(names)?;
        Ok(())
    }
}
