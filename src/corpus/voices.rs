//! Whose voice and which language a row is: the manifest's columns `sex` and `language`, or else what
//! the corpus documents about its speakers.
//!
//! | corpus | language | sex |
//! | --- | --- | --- |
//! | EMO-DB | German | male 03, 10, 11, 12, 15; female 08, 09, 13, 14, 16 (Burkhardt et al., 2005) |
//! | RAVDESS | English | odd actors male, even ones female (Livingstone and Russo, 2018) |
//! | nEMO | Polish | `gender` in the corpus' data.tsv (Christop, 2024) |
//! | CREMA-D | English | not in its file names |

use super::manifest::Row;
use serde::Serialize;

/// What a group is called when neither manifest nor corpus says it.
pub const UNKNOWN: &str = "unknown";

/// A speaker's sex, as the corpus states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sex {
    /// Also read from `f`.
    Female,
    /// Also read from `m`.
    Male,
}

impl Sex {
    /// By its name or its first letter, in any case.
    pub fn from_name(name: &str) -> Option<Sex> {
        match name.to_lowercase().as_str() {
            "female" | "f" => Some(Sex::Female),
            "male" | "m" => Some(Sex::Male),
            _ => None,
        }
    }

    /// The name in manifests and reports.
    pub fn name(self) -> &'static str {
        match self {
            Sex::Female => "female",
            Sex::Male => "male",
        }
    }
}

/// The corpora that mean something here, by their names.
const KNOWN: [&str; 4] = ["emodb", "ravdess", "cremad", "nemo"];

/// The corpus of [`KNOWN`] that this name means, whatever its case and hyphens (`EMO-DB`, `CREMA_D`).
pub fn known(corpus: &str) -> Option<&'static str> {
    let letters = corpus.chars().filter(|c| !matches!(c, '-' | '_' | ' '));
    let name: String = letters.flat_map(char::to_lowercase).collect();
    KNOWN.into_iter().find(|known| *known == name)
}

/// What a speaker is called within the corpus: without its name in front.
fn own_name(row: &Row) -> &str {
    let named = row.speaker.rsplit_once(['-', '_', ' ']);
    let own = named.filter(|(corpus, _)| *corpus == row.corpus || known(corpus) == known(&row.corpus));
    own.map_or(row.speaker.as_str(), |(_, speaker)| speaker)
}

/// The speaker's sex: the manifest's, or the corpus' own.
pub fn sex(row: &Row) -> Option<Sex> {
    row.sex.or_else(|| {
        let speaker = own_name(row);
        match known(&row.corpus)? {
            "emodb" => match speaker {
                "03" | "10" | "11" | "12" | "15" => Some(Sex::Male),
                "08" | "09" | "13" | "14" | "16" => Some(Sex::Female),
                _ => None,
            },
            "ravdess" => {
                let odd = speaker.parse::<u32>().ok()? % 2 == 1;
                Some(if odd { Sex::Male } else { Sex::Female })
            }
            "nemo" => match speaker {
                "EB0" | "IC0" | "KD0" | "MK0" => Some(Sex::Female),
                "KS0" | "MP0" | "SM0" | "TP0" | "WR0" => Some(Sex::Male),
                _ => None,
            },
            _ => None,
        }
    })
}

/// The language: the manifest's, in its own words, or the corpus' own.
pub fn language(row: &Row) -> Option<&str> {
    row.language.as_deref().or(match known(&row.corpus) {
        Some("emodb") => Some("German"),
        Some("ravdess" | "cremad") => Some("English"),
        Some("nemo") => Some("Polish"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(corpus: &str, speaker: &str) -> Row {
        Row { corpus: corpus.into(), speaker: speaker.into(), ..Row::default() }
    }

    #[test]
    fn speakers_of_the_corpora() {
        for (corpus, speaker, expected) in [
            ("emodb", "emodb-03", Some(Sex::Male)),
            ("EMO-DB", "EMO-DB-03", Some(Sex::Male)),
            ("EmoDB", "08", Some(Sex::Female)),
            ("RAVDESS", "ravdess-14", Some(Sex::Female)),
            ("mine", "ravdess-14", None),
            ("emodb", "emodb-16", Some(Sex::Female)),
            ("ravdess", "ravdess-14", Some(Sex::Female)),
            ("ravdess", "3", Some(Sex::Male)),
            ("nemo", "nemo-WR0", Some(Sex::Male)),
            ("nemo", "nemo-EB0", Some(Sex::Female)),
            ("nemo", "nemo-XX0", None),
            ("cremad", "cremad-1001", None),
        ] {
            assert_eq!(sex(&row(corpus, speaker)), expected, "{speaker}");
        }
    }

    #[test]
    fn the_manifest_wins() {
        let told =
            Row { sex: Some(Sex::Female), language: Some("Plattdeutsch".into()), ..row("emodb", "03") };
        assert_eq!(sex(&told), Some(Sex::Female));
        assert_eq!(language(&told), Some("Plattdeutsch"));
        assert_eq!(language(&row("emodb", "03")), Some("German"));
        assert_eq!(language(&row("mine", "me")), None);
        for name in ["CREMA-D", "crema_d", "Crema D", "cremad"] {
            assert_eq!(language(&row(name, "1001")), Some("English"), "{name}");
        }
    }
}
