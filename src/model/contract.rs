//! The contract of a model file: names, types and shapes, feature configuration, labels, costs.

use super::{MODULES, ModelError, SPEECH_FRAMES};
use crate::events::Label;
use crate::features::{CHANNELS, FRAMES, FeatureConfig};
use ort::session::Session;
use ort::value::Outlet;
use ort::value::TensorElementType;
use ort::value::ValueType;
use std::path::Path;

/// The contract this program speaks.
const CONTRACT: &str = "undertone/1";
/// The input that says whether the emotion is wanted; a file gives `true` for it where nobody does.
pub const ASKS: &str = "emotion";
/// The output that says whether the emotion head was asked.
pub const JUDGED: &str = "emotion_judged";

/// What the metadata of a fitting model says.
pub struct Card {
    pub version: String,
    pub macs_modules: [u64; MODULES],
    pub macs_stem: u64,
    /// 0 where the file has no head that could be left out.
    pub macs_emotion: u64,
    /// What [`super::digest::verify`] compares, if the file says it.
    pub digest: Option<String>,
    /// Whether it has the input `emotion` and the output `emotion_judged`.
    pub asks: bool,
}

/// Checks everything that `infer` relies on.
///
/// # Errors
/// [`ModelError::Contract`] with the first field that differs.
pub fn check(session: &Session, path: &Path) -> Result<Card, ModelError> {
    let differs = |field: &str, found: String, expected: String| ModelError::Contract {
        path: path.into(),
        field: field.into(),
        found,
        expected,
    };
    let (f32, u8) = (TensorElementType::Float32, TensorElementType::Uint8);
    let features = [1, CHANNELS as i64, FRAMES as i64];
    let inputs: [(&str, _, &[i64]); 2] = [("features", f32, &features), ("gate_threshold", f32, &[])];
    let logits = [1, Label::COUNT as i64];
    let speech = [1, SPEECH_FRAMES as i64];
    let modules = [MODULES as i64];
    let outputs: [(&str, _, &[i64]); 4] = [
        ("logits", f32, &logits),
        ("speech", f32, &speech),
        ("p_execute", f32, &modules),
        ("executed", u8, &modules),
    ];
    let sides = [("input", session.inputs(), &inputs[..]), ("output", session.outputs(), &outputs[..])];
    for (side, outlets, expected) in sides {
        for (name, element, shape) in expected {
            let found = describe(outlets, name);
            let expected = format!("{element:?} {shape:?}");
            if found != expected {
                return Err(differs(&format!("{side} `{name}`"), found, expected));
            }
        }
    }

    let metadata = session.metadata().map_err(|e| ModelError::Run(e.to_string()))?;
    let field = |name: &str| {
        metadata
            .custom(name)
            .ok_or_else(|| differs(&format!("metadata `{name}`"), "absent".into(), "a value".into()))
    };
    let contract = field("contract")?;
    if contract != CONTRACT {
        return Err(differs("metadata `contract`", contract, CONTRACT.into()));
    }
    let labels: Vec<String> = serde_json::from_str(&field("labels")?).unwrap_or_default();
    if labels != Label::ALL.map(Label::name) {
        return Err(differs("metadata `labels`", labels.join(", "), Label::ALL.map(Label::name).join(", ")));
    }
    let theirs: serde_json::Value = serde_json::from_str(&field("features")?).unwrap_or_default();
    let ours = serde_json::to_value(FeatureConfig::default()).unwrap_or_default();
    for (name, expected) in ours.as_object().into_iter().flatten() {
        let found = theirs.get(name);
        if found.is_none_or(|found| !same_number(found, expected)) {
            let found = found.map_or("absent".into(), ToString::to_string);
            return Err(differs(&format!("feature setting `{name}`"), found, expected.to_string()));
        }
    }
    let macs: Vec<u64> = serde_json::from_str(&field("macs_modules")?).unwrap_or_default();
    let macs_modules = macs.try_into().map_err(|macs: Vec<u64>| {
        differs("metadata `macs_modules`", format!("{} numbers", macs.len()), format!("{MODULES} numbers"))
    })?;
    let stem = field("macs_stem")?;
    let macs_stem =
        stem.parse().map_err(|_| differs("metadata `macs_stem`", stem.clone(), "a number".into()))?;
    // Files from before 0.7 have neither; they look for an emotion wherever a voice is, and count it as part of the stem.
    let optional = session.overridable_initializers();
    let takes = optional.iter().any(|input| input.name() == ASKS && kind(input.dtype()) == "Bool []");
    let asks = takes && describe(session.outputs(), JUDGED) == format!("{u8:?} []");
    let macs_emotion = metadata.custom("macs_emotion").and_then(|macs| macs.parse().ok()).unwrap_or(0);
    let digest = metadata.custom(super::digest::KEY);
    Ok(Card { version: field("version")?, macs_modules, macs_stem, macs_emotion, digest, asks })
}

fn same_number(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    a == b || (a.is_number() && a.as_f64() == b.as_f64())
}

fn describe(outlets: &[Outlet], name: &str) -> String {
    outlets.iter().find(|outlet| outlet.name() == name).map_or("absent".into(), |outlet| kind(outlet.dtype()))
}

fn kind(of: &ValueType) -> String {
    match of {
        ValueType::Tensor { ty, shape, .. } => format!("{ty:?} {:?}", &shape[..]),
        other => format!("{other:?}"),
    }
}
