//! The topics of the gateway's contract: what is published where, and what an inbound topic asks for.

/// Levels that end a name inside a topic, so that no name may hold them.
pub(crate) const RESERVED_LEVELS: [&str; 5] = ["set", "get", "availability", "action", "raw"];

/// The topic tree of one gateway, below its base topic.
#[derive(Clone, Debug)]
pub(crate) struct Topics {
    base: String,
    /// Where Home Assistant looks for configurations, if the gateway publishes some.
    discovery: Option<String>,
}

/// What a message on an inbound topic asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inbound<'a> {
    /// `<name>/set` or `<name>/set/<attribute>`.
    Set { name: &'a str, attribute: Option<&'a str> },
    /// `<name>/get`.
    Get { name: &'a str },
    /// `bridge/request/<path>`.
    Request { path: &'a str },
}

impl Topics {
    pub(crate) fn new(base: &str, discovery: Option<&str>) -> Self {
        Self { base: base.to_owned(), discovery: discovery.map(str::to_owned) }
    }

    /// The filter that covers every inbound topic.
    pub(crate) fn filter(&self) -> String {
        format!("{}/#", self.base)
    }

    pub(crate) fn state(&self, name: &str) -> String {
        format!("{}/{name}", self.base)
    }

    pub(crate) fn availability(&self, name: &str) -> String {
        format!("{}/{name}/availability", self.base)
    }

    pub(crate) fn action(&self, name: &str) -> String {
        format!("{}/{name}/action", self.base)
    }

    pub(crate) fn set(&self, name: &str) -> String {
        format!("{}/{name}/set", self.base)
    }

    pub(crate) fn bridge(&self, leaf: &str) -> String {
        format!("{}/bridge/{leaf}", self.base)
    }

    /// Whether `topic` lies where the gateway is believed, so that nobody can have it write there at will.
    pub(crate) fn owns(&self, topic: &str) -> bool {
        let is_within =
            |tree: &str| topic.strip_prefix(tree).is_some_and(|x| x.is_empty() || x.starts_with('/'));
        is_within(&self.base) || self.discovery.as_deref().is_some_and(is_within)
    }

    /// What `topic` asks for; `None` for the topics on which the gateway itself publishes.
    pub(crate) fn parse<'a>(&self, topic: &'a str) -> Option<Inbound<'a>> {
        let rest = self.below_base(topic)?;
        if let Some(path) = rest.strip_prefix("bridge/request/") {
            return Some(Inbound::Request { path });
        }
        if rest.split('/').next() == Some("bridge") {
            return None;
        }
        if let Some(name) = rest.strip_suffix("/get") {
            return Some(Inbound::Get { name });
        }
        if let Some(name) = rest.strip_suffix("/set") {
            return Some(Inbound::Set { name, attribute: None });
        }
        let (name, attribute) = rest.rsplit_once("/set/")?;
        Some(Inbound::Set { name, attribute: Some(attribute) })
    }

    fn below_base<'a>(&self, topic: &'a str) -> Option<&'a str> {
        topic.strip_prefix(self.base.as_str())?.strip_prefix('/')
    }
}

/// Why a friendly name cannot be used in topics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A level of the name is empty, or the name is.
    #[error("it has an empty level; write something between the slashes")]
    EmptyLevel,
    /// The name would collide with the gateway's own topics.
    #[error("it begins with \"bridge\", where the gateway's own topics are")]
    Bridge,
    /// A level of the name ends it in a topic.
    #[error("its level {0:?} has a meaning of its own in topics")]
    ReservedLevel(String),
    /// The name holds a character that no Topic Name may hold.
    #[error("it holds {0:?}, which no topic may")]
    Character(char),
}

/// Checks that `name` can stand in the gateway's topics.
pub(crate) fn check_name(name: &str) -> Result<(), NameError> {
    if let Some(character) = name.chars().find(|c| matches!(c, '+' | '#') || c.is_control()) {
        return Err(NameError::Character(character));
    }
    if name.starts_with("bridge") {
        return Err(NameError::Bridge);
    }
    for level in name.split('/') {
        if level.is_empty() {
            return Err(NameError::EmptyLevel);
        }
        if RESERVED_LEVELS.contains(&level) {
            return Err(NameError::ReservedLevel(level.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbound_topic_names_its_device_whatever_slashes_the_name_holds() {
        let topics = Topics::new("mesh", Some("homeassistant"));
        let set = |name, attribute| Some(Inbound::Set { name, attribute });
        assert_eq!(topics.parse("mesh/lamp/set"), set("lamp", None));
        assert_eq!(topics.parse("mesh/floor 1/lamp/set"), set("floor 1/lamp", None));
        assert_eq!(topics.parse("mesh/floor 1/lamp/set/state"), set("floor 1/lamp", Some("state")));
        assert_eq!(topics.parse("mesh/a/b/get"), Some(Inbound::Get { name: "a/b" }));
        let request = Inbound::Request { path: "group/members/add" };
        assert_eq!(topics.parse("mesh/bridge/request/group/members/add"), Some(request));
    }

    #[test]
    fn what_the_gateway_publishes_is_no_command() {
        let topics = Topics::new("mesh", Some("homeassistant"));
        for topic in
            ["mesh/lamp", "mesh/bridge/state", "mesh/bridge/response/x", "meshed/lamp/set", "other", "mesh"]
        {
            assert_eq!(topics.parse(topic), None, "{topic}");
        }
        assert!(topics.owns("mesh") && topics.owns("mesh/lamp/set") && !topics.owns("meshed/lamp"));
        assert!(topics.owns("homeassistant/light/x/config"));
    }

    #[test]
    fn names_that_would_break_the_topics_are_refused() {
        assert_eq!(check_name("kitchen/ceiling"), Ok(()));
        assert_eq!(check_name(""), Err(NameError::EmptyLevel));
        assert_eq!(check_name("a//b"), Err(NameError::EmptyLevel));
        assert_eq!(check_name("bridge/x"), Err(NameError::Bridge));
        assert_eq!(check_name("a/set"), Err(NameError::ReservedLevel("set".to_owned())));
        assert_eq!(check_name("bath + kitchen"), Err(NameError::Character('+')));
        assert_eq!(check_name("a\0"), Err(NameError::Character('\0')));
    }
}
