//! The topics of an ACL rule: a Topic Filter in which a level may stand for the client's own name.

use std::fmt;

use mqtt_wire::TopicFilter;

use crate::acl::Identity;

/// A pattern of an ACL rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    levels: Vec<Level>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Text(Vec<u8>),
    /// `+`
    One,
    /// `#`
    Rest,
    /// `${username}`
    Username,
    /// `${clientid}`
    ClientId,
}

/// A pattern with the client's own name put in. It borrows from both.
#[derive(Clone, Debug)]
pub(crate) struct Bound<'a> {
    levels: Vec<BoundLevel<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BoundLevel<'a> {
    Text(&'a [u8]),
    One,
    Rest,
}

/// Why text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PatternError {
    Filter(String),
    Placeholder,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(error) => f.write_str(error),
            Self::Placeholder => {
                f.write_str("${username} and ${clientid} are whole levels, and there are no others")
            }
        }
    }
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        // A placeholder counts as an ordinary level here: none of its characters is special to a filter.
        let filter = TopicFilter::new(text).map_err(|error| PatternError::Filter(error.to_string()))?;
        if filter.share().is_some() {
            return Err(PatternError::Filter(
                "a rule speaks of topics, so it has no $share/group".to_owned(),
            ));
        }
        let levels = filter.levels().map(|level| match level {
            b"+" => Ok(Level::One),
            b"#" => Ok(Level::Rest),
            b"${username}" => Ok(Level::Username),
            b"${clientid}" => Ok(Level::ClientId),
            text if text.windows(2).any(|pair| pair == b"${") => Err(PatternError::Placeholder),
            text => Ok(Level::Text(text.to_vec())),
        });
        Ok(Self { levels: levels.collect::<Result<_, _>>()? })
    }

    /// Puts the client's own name in. `None` where that is not one plain level: a name with `/`, `+` or `#` would
    /// make the pattern wider than whoever wrote it meant.
    pub(crate) fn bind<'a>(&'a self, who: &Identity<'a>) -> Option<Bound<'a>> {
        let plain = |name: &'a str| {
            let is_plain = !name.is_empty() && !name.contains(['/', '+', '#']);
            is_plain.then_some(BoundLevel::Text(name.as_bytes()))
        };
        let levels = self.levels.iter().map(|level| match level {
            Level::Text(text) => Some(BoundLevel::Text(text)),
            Level::One => Some(BoundLevel::One),
            Level::Rest => Some(BoundLevel::Rest),
            Level::Username => plain(who.username?),
            Level::ClientId => plain(who.client_id),
        });
        levels.collect::<Option<Vec<_>>>().map(|levels| Bound { levels })
    }
}

impl Bound<'_> {
    /// Whether every topic that `filter` matches is one of the pattern's. A Topic Name is a filter that matches one.
    pub(crate) fn covers(&self, filter: &[&[u8]]) -> bool {
        // A wildcard in the first level does not match topics that begin with `$` (MQTT 5.0 §4.7.2).
        let is_wild = matches!(self.levels.first(), Some(BoundLevel::One | BoundLevel::Rest));
        if is_wild && filter.first().is_some_and(|level| level.starts_with(b"$")) {
            return false;
        }
        let mut wanted = filter.iter().copied();
        for level in &self.levels {
            match (level, wanted.next()) {
                (BoundLevel::Rest, _) => return true,
                (BoundLevel::One, Some(level)) if level != b"#" => {}
                (BoundLevel::Text(text), Some(level)) if *text == level => {}
                _ => return false,
            }
        }
        wanted.next().is_none()
    }

    /// Whether some topic is matched by both.
    pub(crate) fn overlaps(&self, filter: &[&[u8]]) -> bool {
        let is_wild = matches!(self.levels.first(), Some(BoundLevel::One | BoundLevel::Rest));
        let filter_is_wild = matches!(filter.first(), Some(&(b"+" | b"#")));
        let is_system = matches!(self.levels.first(), Some(BoundLevel::Text(text)) if text.starts_with(b"$"));
        let filter_is_system = filter.first().is_some_and(|level| level.starts_with(b"$"));
        if (is_wild && filter_is_system) || (filter_is_wild && is_system) {
            return false;
        }
        let (mut levels, mut wanted) = (self.levels.iter(), filter.iter().copied());
        loop {
            match (levels.next(), wanted.next()) {
                // `#` also stands for no level at all.
                (Some(BoundLevel::Rest), _) | (_, Some(b"#")) | (None, None) => return true,
                (Some(BoundLevel::One), Some(_)) | (Some(BoundLevel::Text(_)), Some(b"+")) => {}
                (Some(BoundLevel::Text(text)), Some(level)) if *text == level => {}
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mqtt_wire::TopicName;
    use proptest::prelude::*;

    use super::*;

    /// Every topic of up to three levels over a small alphabet.
    fn topics() -> Vec<String> {
        let levels = ["a", "b", "$x"];
        let mut all: Vec<String> = levels.iter().map(ToString::to_string).collect();
        let mut last = all.clone();
        for _ in 0..3 {
            last = last
                .iter()
                .flat_map(|head| levels.iter().map(move |level| format!("{head}/{level}")))
                .collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just("a"), Just("b"), Just("+"), Just("$x")];
        (prop::collection::vec(level, 1..4), any::<bool>()).prop_map(|(mut levels, rest)| {
            if rest {
                levels.pop();
                levels.push("#");
            }
            levels.join("/")
        })
    }

    proptest! {
        #[test]
        fn covering_and_overlapping_agree_with_looking_at_every_topic(pattern in filter(), wanted in filter()) {
            let pattern_filter = TopicFilter::new(&pattern).unwrap();
            let wanted = TopicFilter::new(&wanted).unwrap();
            let nobody = Identity { username: None, client_id: "" };
            let parsed = Pattern::parse(&pattern).unwrap();
            let bound = parsed.bind(&nobody).unwrap();
            let levels: Vec<&[u8]> = wanted.levels().collect();
            let matched: Vec<bool> = topics()
                .iter()
                .map(|topic| TopicName::new(topic).unwrap())
                .filter(|topic| wanted.matches(topic))
                .map(|topic| pattern_filter.matches(&topic))
                .collect();
            prop_assert_eq!(bound.overlaps(&levels), matched.iter().any(|&is| is));
            // The alphabet is small, so a filter may seem to be covered that is not; never the other way.
            if bound.covers(&levels) {
                prop_assert!(matched.iter().all(|&is| is));
            }
        }

        #[test]
        fn a_name_never_widens_a_pattern(name in "[ab+#/$]{0,4}", wanted in filter()) {
            let who = Identity { username: Some(&name), client_id: "" };
            let parsed = Pattern::parse("a/${username}/b").unwrap();
            let wanted = TopicFilter::new(&wanted).unwrap();
            let levels: Vec<&[u8]> = wanted.levels().collect();
            let covers = parsed.bind(&who).is_some_and(|bound| bound.covers(&levels));
            prop_assert_eq!(covers, wanted.as_str() == format!("a/{name}/b") && !name.contains(['+', '#', '/']) && !name.is_empty());
        }
    }

    #[test]
    fn a_topic_is_covered_as_the_standard_says() {
        let covers = |pattern: &str, wanted: &str| {
            let nobody = Identity { username: None, client_id: "" };
            let parsed = Pattern::parse(pattern).unwrap();
            let levels: Vec<&[u8]> = wanted.split('/').map(str::as_bytes).collect();
            parsed.bind(&nobody).unwrap().covers(&levels)
        };
        assert!(covers("a/#", "a") && covers("a/#", "a/b/+") && covers("a/#", "a/#") && covers("#", "+"));
        assert!(covers("a/+", "a/b") && covers("a/+", "a/+"));
        assert!(!covers("a/+", "a/#") && !covers("a/+", "a") && !covers("a/b", "a/+"));
        assert!(
            !covers("#", "$SYS/broker") && !covers("+/broker", "$SYS/broker") && covers("$SYS/#", "$SYS/a")
        );
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for text in ["a/${username", "a/x${clientid}", "${user}"] {
            assert_eq!(Pattern::parse(text), Err(PatternError::Placeholder), "{text}");
        }
        for text in ["", "a#", "$share/g/a"] {
            assert!(matches!(Pattern::parse(text), Err(PatternError::Filter(_))), "{text}");
        }
    }
}
