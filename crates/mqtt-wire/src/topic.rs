use std::fmt;

use bytes::Bytes;

use crate::{Text, TextError};

/// A Topic Name (§4.7): what a message is published to. Never holds `+` or `#`. Empty only in a PUBLISH of
/// MQTT 5.0 that has a Topic Alias instead.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Text);

/// A Topic Filter (§4.7): what is subscribed to. `+` stands for one level, `#` at the end for any number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Text);

/// Why a text is no topic name or filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// It is empty (§4.7.3).
    #[error("a topic is empty")]
    Empty,
    /// A topic name holds a wildcard (§3.3.2.1).
    #[error("a topic name holds + or #")]
    WildcardInName,
    /// `#` is not the last character, or does not follow `/` (§4.7.1.2).
    #[error("a topic filter has # elsewhere than as its last level")]
    MultiLevelWildcard,
    /// `+` shares its level with other characters (§4.7.1.3).
    #[error("a topic filter has + in a level with other characters")]
    SingleLevelWildcard,
    /// `$share/` without a group, or without a filter after it, or with a wildcard in the group (§4.8.2).
    #[error("a shared subscription is not $share/group/filter")]
    Share,
    /// The text itself is none that MQTT allows.
    #[error(transparent)]
    Text(#[from] TextError),
}

impl TopicName {
    /// A topic name.
    pub fn new(name: &str) -> Result<Self, TopicError> {
        Self::try_from(Text::new(name)?)
    }

    /// The name that stands where a Topic Alias says which (§3.3.2.3.4).
    pub fn empty() -> Self {
        Self::default()
    }

    /// The same name in memory of its own ([`Text::detached`]).
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(self.0.detached())
    }

    /// Whether a Topic Alias has to say which topic is meant.
    pub fn is_empty(&self) -> bool {
        self.0.as_bytes().is_empty()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Its UTF-8.
    pub fn as_bytes(&self) -> &Bytes {
        self.0.as_bytes()
    }

    /// Its levels.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.as_bytes().split(|&byte| byte == b'/')
    }

    /// Whether it begins with `$`: such topics are not matched by a wildcard in the first level (§4.7.2).
    pub fn is_system(&self) -> bool {
        self.as_bytes().first() == Some(&b'$')
    }
}

impl TopicFilter {
    /// A topic filter.
    pub fn new(filter: &str) -> Result<Self, TopicError> {
        Self::try_from(Text::new(filter)?)
    }

    /// The filter.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Its UTF-8.
    pub fn as_bytes(&self) -> &Bytes {
        self.0.as_bytes()
    }

    /// Its levels.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.as_bytes().split(|&byte| byte == b'/')
    }

    /// The same filter in memory of its own ([`Text::detached`]).
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(self.0.detached())
    }

    /// Group and filter of a shared subscription, `$share/group/filter` (§4.8.2).
    pub fn share(&self) -> Option<(&str, &str)> {
        self.as_str().strip_prefix("$share/")?.split_once('/')
    }

    /// Whether it holds a wildcard.
    pub fn has_wildcard(&self) -> bool {
        self.as_bytes().iter().any(|byte| matches!(byte, b'+' | b'#'))
    }

    /// Whether it matches `topic` (§4.7). A shared subscription's filter is the part after the group, which
    /// has to be taken out first.
    pub fn matches(&self, topic: &TopicName) -> bool {
        let is_wild = matches!(self.as_bytes().first(), Some(b'+' | b'#'));
        if is_wild && topic.is_system() {
            return false;
        }
        let mut levels = topic.levels();
        for level in self.levels() {
            match (level, levels.next()) {
                (b"#", _) => return true,
                (b"+", Some(_)) => {}
                (level, Some(wanted)) if level == wanted => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

impl TryFrom<Text> for TopicName {
    type Error = TopicError;

    fn try_from(text: Text) -> Result<Self, TopicError> {
        if text.as_bytes().is_empty() {
            return Err(TopicError::Empty);
        }
        if text.as_bytes().iter().any(|byte| matches!(byte, b'+' | b'#')) {
            return Err(TopicError::WildcardInName);
        }
        Ok(Self(text))
    }
}

impl TryFrom<Text> for TopicFilter {
    type Error = TopicError;

    fn try_from(text: Text) -> Result<Self, TopicError> {
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Err(TopicError::Empty);
        }
        let last = bytes.split(|&byte| byte == b'/').count() - 1;
        for (index, level) in bytes.split(|&byte| byte == b'/').enumerate() {
            if level.contains(&b'#') && (level != b"#" || index != last) {
                return Err(TopicError::MultiLevelWildcard);
            }
            if level.contains(&b'+') && level != b"+" {
                return Err(TopicError::SingleLevelWildcard);
            }
        }
        let filter = Self(text);
        if filter.levels().next() == Some(b"$share") {
            let is_valid = filter.share().is_some_and(|(group, rest)| {
                !group.is_empty() && !group.contains(['+', '#']) && !rest.is_empty()
            });
            if !is_valid {
                return Err(TopicError::Share);
            }
        }
        Ok(filter)
    }
}

macro_rules! show_as_text {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

show_as_text!(TopicName);
show_as_text!(TopicFilter);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard_match_as_it_says() {
        let matches =
            |filter, topic| TopicFilter::new(filter).unwrap().matches(&TopicName::new(topic).unwrap());
        // §4.7.1.2
        for topic in
            ["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"]
        {
            assert!(matches("sport/tennis/player1/#", topic), "{topic}");
        }
        assert!(matches("sport/#", "sport") && matches("#", "a/b"));
        // §4.7.1.3
        assert!(matches("sport/tennis/+", "sport/tennis/player1"));
        assert!(!matches("sport/tennis/+", "sport/tennis/player1/ranking"));
        assert!(!matches("sport/+", "sport") && matches("sport/+", "sport/"));
        assert!(matches("+/+", "/finance") && matches("/+", "/finance") && !matches("+", "/finance"));
        // §4.7.2
        assert!(!matches("#", "$SYS/x") && !matches("+/monitor/Clients", "$SYS/monitor/Clients"));
        assert!(matches("$SYS/#", "$SYS/x") && matches("$SYS/monitor/+", "$SYS/monitor/Clients"));
        // §4.7.3
        assert!(!matches("ACCOUNTS", "Accounts") && !matches("a", "/a"));
    }

    #[test]
    fn what_is_no_filter_or_name_says_why() {
        let filter = |text| TopicFilter::new(text).map(|_| ());
        assert_eq!(filter(""), Err(TopicError::Empty));
        for text in ["sport/tennis#", "sport/#/ranking", "##", "#/"] {
            assert_eq!(filter(text), Err(TopicError::MultiLevelWildcard), "{text}");
        }
        assert_eq!(filter("sport+"), Err(TopicError::SingleLevelWildcard));
        for text in ["$share", "$share/", "$share/g", "$share//a", "$share/g/", "$share/+/a"] {
            assert_eq!(filter(text), Err(TopicError::Share), "{text}");
        }
        assert_eq!(TopicFilter::new("$share/g/a/+").unwrap().share(), Some(("g", "a/+")));
        assert_eq!(TopicName::new("a/+"), Err(TopicError::WildcardInName));
        assert_eq!(TopicName::new("a\0"), Err(TopicError::Text(TextError::Nul)));
    }
}
