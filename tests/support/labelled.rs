//! Labelled audio that is made for a test.
#![allow(dead_code)] // each test uses a part of it

use crate::room;

/// A folder with voices of the room and noise, and a manifest of them.
pub struct Corpus {
    pub folder: tempfile::TempDir,
    pub rows: Vec<String>,
}

impl Corpus {
    pub fn new(columns: &str) -> Corpus {
        Corpus { folder: tempfile::tempdir().unwrap(), rows: vec![columns.into()] }
    }

    /// A voice of the room, by its number, with the columns behind `path`.
    pub fn voice(&mut self, number: usize, columns: &str) {
        let (start, end) = room::VOICES[number];
        let samples = room::samples();
        let voice = &samples[(start * 16_000.0) as usize..(end * 16_000.0) as usize];
        self.file(&format!("voice-{number}.wav"), voice, columns);
    }

    /// Seconds of noise.
    pub fn noise(&mut self, name: &str, seconds: usize, columns: &str) {
        let samples: Vec<f32> = (0..seconds * 16_000)
            .map(|i| ((i as u32).wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 - 0.5) * 0.1)
            .collect();
        self.file(name, &samples, columns);
    }

    pub fn file(&mut self, name: &str, samples: &[f32], columns: &str) {
        room::write_wav(&self.folder.path().join(name), samples, 16_000, 1, 16);
        self.rows.push(format!("{name},{columns}"));
    }

    pub fn manifest(&self) -> String {
        let path = self.folder.path().join("manifest.csv");
        std::fs::write(&path, self.rows.join("\n") + "\n").unwrap();
        path.to_str().unwrap().into()
    }
}
