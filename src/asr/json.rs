//! JSON that a server sends, of which only what is looked at is kept.
//!
//! A server is not trusted: a few bytes of nested JSON become hundreds in memory if all of it is kept. So what nobody
//! looks at is passed over, however deep it is nested, and of lists only the beginning is taken.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Most objects of a list that are kept.
const MAX_LISTED: usize = 100;

/// A value of any kind; `T` are the fields of an object that are looked at. Not `Debug`, because it may hold words.
#[derive(Clone, PartialEq, Default)]
pub enum Json<T = IgnoredAny> {
    /// There is no such field.
    #[default]
    Absent,
    /// `null`.
    Null,
    /// A whole number that is not negative.
    Number(u64),
    /// A string.
    Text(String),
    /// An object.
    Object(T),
    /// The objects in a list, the first hundred of them.
    List(Vec<T>),
    /// Another number, true or false.
    Other,
}

impl<T> Json<T> {
    /// The string that it is.
    pub fn text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The objects in the list that it is.
    pub fn list(&self) -> &[T] {
        match self {
            Json::List(list) => list,
            _ => &[],
        }
    }

    /// The other one, if there is no such field.
    pub fn or(self, other: Json<T>) -> Json<T> {
        match self {
            Json::Absent => other,
            found => found,
        }
    }
}

/// The object that these bytes are, if they are one.
pub fn object<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match serde_json::from_slice(bytes) {
        Ok(Json::Object(object)) => Some(object),
        _ => None,
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json<T>, D::Error> {
        deserializer.deserialize_any(Reader(PhantomData))
    }
}

/// Reads a value of any kind.
struct Reader<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
    type Value = Json<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json<T>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Json<T>, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Json<T>, E> {
        Ok(Json::Number(number))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Json<T>, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Json<T>, E> {
        Ok(Json::Other)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json<T>, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Json<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Json::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<T>, A::Error> {
        let mut list = Vec::new();
        while list.len() < MAX_LISTED {
            match items.next_element()? {
                Some(Json::Object(object)) => list.push(object),
                Some(_) => {}
                None => return Ok(Json::List(list)),
            }
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Json::List(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Fields {
        text: Json,
        number: Json,
        inner: Json<Inner>,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Inner {
        name: Json,
    }

    fn read(json: &str) -> Option<Fields> {
        object(json.as_bytes())
    }

    #[test]
    fn values_of_every_kind_are_told_apart() {
        let text = |json: &str| read(json).unwrap().text;
        assert!(text("{}") == Json::Absent);
        assert!(text("{\"text\":null}") == Json::Null);
        assert!(text("{\"text\":\"\\u00e4\\n\"}") == Json::Text("ä\n".into()));
        assert!(text("{\"text\":{\"a\":1}}") == Json::Object(IgnoredAny));
        assert!(text("{\"text\":[[{}],{},1]}") == Json::List(vec![IgnoredAny]));
        let number = |json: &str| read(json).unwrap().number;
        assert!(number("{\"number\":18446744073709551615}") == Json::Number(u64::MAX));
        for other in ["-1", "1.5", "18446744073709551616", "true"] {
            assert!(number(&format!("{{\"number\":{other}}}")) == Json::Other, "{other}");
        }
        assert!(read("{\"inner\":{\"name\":\"n\"}}").unwrap().inner.or(Json::Null).text().is_none());
        for none in ["", "[]", "[\"text\"]", "null", "7", "\"text\"", "{\"text\":", "{} {}"] {
            assert!(read(none).is_none(), "{none}");
        }
    }

    #[test]
    fn of_a_list_only_the_beginning_is_kept() {
        let names: Vec<String> = (0..1000).map(|i| format!("{{\"name\":\"{i}\"}}")).collect();
        let read = read(&format!("{{\"inner\":[1,{}],\"text\":\"after\"}}", names.join(","))).unwrap();
        let kept: Vec<&str> = read.inner.list().iter().filter_map(|inner| inner.name.text()).collect();
        assert_eq!((kept.len(), kept[0], kept[99]), (MAX_LISTED, "0", "99"));
        assert_eq!(read.text.text(), Some("after"));
    }

    /// tests/asr_memory.rs measures what it takes.
    #[test]
    fn what_nobody_looks_at_may_be_nested_at_will() {
        let one = format!("{}1{}", "{\"\":".repeat(120), "}".repeat(120));
        let wide = vec![one; 1700].join(",");
        assert!(wide.len() > 1_000_000);
        let read_text = |json: String| read(&json).unwrap().text.text().map(str::to_owned);
        assert_eq!(read_text(format!("{{\"x\":[{wide}],\"text\":\"ok\"}}")).as_deref(), Some("ok"));
        let deep = format!("{{\"x\":{}{},\"text\":\"ok\"}}", "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(read_text(deep).as_deref(), Some("ok"));
        // Where something is looked at, no stack is spent on it without end.
        assert!(read(&format!("{{\"text\":{}{}}}", "[".repeat(500_000), "]".repeat(500_000))).is_none());
    }
}
