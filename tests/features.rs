//! The features against librosa, on the golden files that tests/golden/golden.py makes.

use std::path::{Path, PathBuf};
use undertone::features::stream::FrameStream;
use undertone::features::utterance::Utterance;
use undertone::features::{FFT, FRAMES, Frame, INPUT, WINDOW, normalise};

/// Largest allowed difference, in dB (and dB per window for deltas).
const TOLERANCE: f32 = 1e-3;

fn golden() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/features");
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "s16"))
        .collect();
    names.sort();
    assert!(names.len() >= 5, "golden recordings are missing: {names:?}");
    names
}

fn samples(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.chunks_exact(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0).collect()
}

fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(values.len(), INPUT, "{}", path.display());
    values
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn utterances_match_librosa() {
    let mut utterance = Utterance::new();
    for path in golden() {
        let mut ours = [0.0; INPUT];
        utterance.features(&samples(&path), &mut ours);
        let off = largest_difference(&ours, &floats(&path.with_extension("f32")));
        println!("{}: {off:.6} dB", path.display());
        assert!(off <= TOLERANCE, "{}: {off} dB", path.display());
    }
}

#[test]
fn streaming_frames_match_librosa_whatever_the_block_size() {
    let mut compared = 0;
    for path in golden() {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let golden = path.with_file_name(format!("{name}_stream.f32"));
        if !golden.exists() {
            continue;
        }
        let golden = floats(&golden);
        // librosa puts the 400-sample window into the middle of its 1024-sample frame.
        let samples = &samples(&path)[(FFT - WINDOW) / 2..];
        for block in [1, 159, 160, 441, 4096] {
            let mut frames: Vec<Frame> = Vec::new();
            let mut stream = FrameStream::new();
            samples.chunks(block).for_each(|piece| stream.push(piece, |frame| frames.push(*frame)));
            let mut ours = [0.0; INPUT];
            normalise(frames[..FRAMES].iter(), &mut ours);
            let off = largest_difference(&ours, &golden);
            assert!(off <= TOLERANCE, "{name}, blocks of {block}: {off} dB");
        }
        compared += 1;
    }
    assert!(compared > 0, "no golden file for the streaming hop");
}
