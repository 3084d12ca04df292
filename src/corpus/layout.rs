//! Corpora by their file names, for folders that come without a manifest.
//!
//! | corpus | name | example |
//! | --- | --- | --- |
//! | EMO-DB | speaker (2), text (3), emotion letter, version | `03a01Fa.wav` |
//! | RAVDESS | modality-channel-emotion-intensity-statement-repetition-actor | `03-01-05-01-02-01-12.wav` |
//! | CREMA-D | actor_sentence_EMOTION_level | `1001_DFA_ANG_XX.wav` |
//! | nEMO | speaker_emotion_sentence | `EB0_anger_12.wav` |

use super::manifest::Row;
use crate::events::Label;
use std::path::Path;

/// Reads corpus, speaker and emotion off a file name; none if it fits no corpus.
///
/// The label is none where the corpus' own has no place among the seven (boredom, calm, surprise).
/// The split is left empty: a name does not say it.
pub fn by_name(path: &Path) -> Option<Row> {
    let stem = path.file_stem()?.to_str()?;
    let (corpus, speaker, emotion) =
        ravdess(stem).or_else(|| crema_d(stem)).or_else(|| nemo(stem)).or_else(|| emo_db(stem))?;
    Some(Row {
        path: path.into(),
        corpus: corpus.into(),
        speaker: format!("{corpus}-{speaker}"),
        emotion,
        ..Row::default()
    })
}

type Found<'a> = (&'static str, &'a str, Option<Label>);

fn emo_db(stem: &str) -> Option<Found<'_>> {
    let b = stem.as_bytes();
    let shape = b.len() == 7
        && b[..2].iter().all(u8::is_ascii_digit)
        && b[2].is_ascii_lowercase()
        && b[3..5].iter().all(u8::is_ascii_digit)
        && b[6].is_ascii_lowercase();
    if !shape {
        return None;
    }
    let emotion = match b[5] {
        b'W' => Some(Label::Anger),
        b'E' => Some(Label::Disgust),
        b'A' => Some(Label::Fear),
        b'F' => Some(Label::Happy),
        b'T' => Some(Label::Sad),
        b'N' => Some(Label::Neutral),
        b'L' => None,
        _ => return None,
    };
    Some(("emodb", &stem[..2], emotion))
}

fn ravdess(stem: &str) -> Option<Found<'_>> {
    let parts: Vec<&str> = stem.split('-').collect();
    let digits = |p: &&str| p.len() == 2 && p.bytes().all(|c| c.is_ascii_digit());
    if parts.len() != 7 || !parts.iter().all(digits) {
        return None;
    }
    let emotion = match parts[2] {
        "01" => Some(Label::Neutral),
        "03" => Some(Label::Happy),
        "04" => Some(Label::Sad),
        "05" => Some(Label::Anger),
        "06" => Some(Label::Fear),
        "07" => Some(Label::Disgust),
        "02" | "08" => None,
        _ => return None,
    };
    Some(("ravdess", parts[6], emotion))
}

fn crema_d(stem: &str) -> Option<Found<'_>> {
    let parts: Vec<&str> = stem.split('_').collect();
    let [actor, sentence, emotion, _level] = parts.as_slice() else { return None };
    if actor.len() != 4 || !actor.bytes().all(|c| c.is_ascii_digit()) || sentence.len() != 3 {
        return None;
    }
    let emotion = match *emotion {
        "NEU" => Label::Neutral,
        "HAP" => Label::Happy,
        "FEA" => Label::Fear,
        "DIS" => Label::Disgust,
        "ANG" => Label::Anger,
        "SAD" => Label::Sad,
        _ => return None,
    };
    Some(("cremad", actor, Some(emotion)))
}

fn nemo(stem: &str) -> Option<Found<'_>> {
    let parts: Vec<&str> = stem.split('_').collect();
    let [speaker, emotion, sentence] = parts.as_slice() else { return None };
    let name = speaker.as_bytes();
    if name.len() != 3 || !name[..2].iter().all(u8::is_ascii_uppercase) || !name[2].is_ascii_digit() {
        return None;
    }
    sentence.parse::<u32>().ok()?;
    let emotion = match *emotion {
        "neutral" => Some(Label::Neutral),
        "happiness" => Some(Label::Happy),
        "fear" => Some(Label::Fear),
        "anger" => Some(Label::Anger),
        "sadness" => Some(Label::Sad),
        "surprise" | "surprised" => None,
        _ => return None,
    };
    Some(("nemo", speaker, emotion))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str) -> Option<(String, String, Option<Label>)> {
        by_name(Path::new(name)).map(|row| (row.corpus, row.speaker, row.emotion))
    }

    fn is(corpus: &str, speaker: &str, emotion: Option<Label>) -> Option<(String, String, Option<Label>)> {
        Some((corpus.into(), speaker.into(), emotion))
    }

    #[test]
    fn names_of_the_four_corpora() {
        assert_eq!(told("wav/03a01Fa.wav"), is("emodb", "emodb-03", Some(Label::Happy)));
        assert_eq!(told("16b10Wb.flac"), is("emodb", "emodb-16", Some(Label::Anger)));
        assert_eq!(told("09a07La.wav"), is("emodb", "emodb-09", None));
        assert_eq!(
            told("Actor_12/03-01-07-02-01-02-12.wav"),
            is("ravdess", "ravdess-12", Some(Label::Disgust))
        );
        assert_eq!(told("03-01-08-01-01-01-01.wav"), is("ravdess", "ravdess-01", None));
        assert_eq!(told("AudioWAV/1001_DFA_ANG_XX.wav"), is("cremad", "cremad-1001", Some(Label::Anger)));
        assert_eq!(told("1091_WSI_NEU_XX.wav"), is("cremad", "cremad-1091", Some(Label::Neutral)));
        assert_eq!(told("1076_IEO_HAP_HI.wav"), is("cremad", "cremad-1076", Some(Label::Happy)));
        assert_eq!(told("samples/SM0_happiness_7.wav"), is("nemo", "nemo-SM0", Some(Label::Happy)));
        assert_eq!(told("WR0_surprised_90.ogg"), is("nemo", "nemo-WR0", None));
    }

    #[test]
    fn other_names_are_no_corpus() {
        for name in [
            "",
            "hello.wav",
            "03a01Xa.wav",
            "1001_DFA_BAD_XX.wav",
            "EB0_joy_3.wav",
            "03-01-09-01-01-01-01.wav",
        ] {
            assert_eq!(told(name), None, "{name}");
        }
    }
}
