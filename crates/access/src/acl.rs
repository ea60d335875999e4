//! The ACL file: rules in TOML, of which the first that speaks of a request decides.

use mqtt_wire::{TopicFilter, TopicName};
use serde::Deserialize;

use crate::pattern::Pattern;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The user name, if it was proved: by a password or a certificate.
    pub username: Option<&'a str>,
    /// The Client Identifier.
    pub client_id: &'a str,
}

/// The rules of an ACL file.
///
/// A request that no rule speaks of is denied. A subscription is allowed by a rule only if every topic that it can
/// match is the rule's, and is denied by one already if a single topic is.
#[derive(Clone, Debug, Default)]
pub struct Acl {
    rules: Vec<Rule>,
}

/// What is wrong with an ACL file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    /// The file is no TOML, or holds what it should not.
    #[error("{0}")]
    Parse(String),
    /// A rule says nothing, or contradicts itself.
    #[error("rule {number}: {problem}")]
    Rule {
        /// The rule's number, from 1.
        number: usize,
        /// What is wrong with it.
        problem: String,
    },
}

#[derive(Clone, Debug)]
struct Rule {
    is_allowed: bool,
    action: Action,
    username: Option<String>,
    client_id: Option<String>,
    topics: Vec<Pattern>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Publish,
    Subscribe,
    All,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rules: Vec<RuleEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    allow: Option<Action>,
    deny: Option<Action>,
    username: Option<String>,
    client_id: Option<String>,
    topics: Vec<String>,
}

impl Acl {
    /// Reads the text of an ACL file.
    ///
    /// # Errors
    /// What is wrong with which rule.
    pub fn parse(text: &str) -> Result<Self, AclError> {
        let file: File = toml::from_str(text).map_err(|error| AclError::Parse(error.to_string()))?;
        let rules = file.rules.into_iter().enumerate().map(|(index, entry)| {
            Rule::new(entry).map_err(|problem| AclError::Rule { number: index + 1, problem })
        });
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }

    /// Whether a client may publish to a topic.
    pub fn may_publish(&self, who: &Identity<'_>, topic: &TopicName) -> bool {
        let levels: Vec<&[u8]> = topic.levels().collect();
        self.decide(who, Action::Publish, &levels)
    }

    /// Whether a client may subscribe to a filter; of a shared subscription to what follows the group.
    pub fn may_subscribe(&self, who: &Identity<'_>, filter: &TopicFilter) -> bool {
        let skipped = if filter.share().is_some() { 2 } else { 0 };
        let levels: Vec<&[u8]> = filter.levels().skip(skipped).collect();
        self.decide(who, Action::Subscribe, &levels)
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule, so that everything is denied.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn decide(&self, who: &Identity<'_>, action: Action, levels: &[&[u8]]) -> bool {
        (self.rules.iter())
            .find(|rule| rule.speaks_of(who, action, levels))
            .is_some_and(|rule| rule.is_allowed)
    }
}

impl Rule {
    fn new(entry: RuleEntry) -> Result<Self, String> {
        let (is_allowed, action) = match (entry.allow, entry.deny) {
            (Some(action), None) => (true, action),
            (None, Some(action)) => (false, action),
            _ => return Err("say either allow or deny: \"publish\", \"subscribe\" or \"all\"".to_owned()),
        };
        if entry.topics.is_empty() {
            return Err("topics is empty, so the rule speaks of nothing; \"#\" means all topics".to_owned());
        }
        let topics = entry
            .topics
            .iter()
            .map(|text| Pattern::parse(text).map_err(|error| format!("{text:?}: {error}")))
            .collect::<Result<_, _>>()?;
        let RuleEntry { username, client_id, .. } = entry;
        Ok(Self { is_allowed, action, username, client_id, topics })
    }

    fn speaks_of(&self, who: &Identity<'_>, action: Action, levels: &[&[u8]]) -> bool {
        let is_about = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is == Some(wanted))
        };
        (self.action == Action::All || self.action == action)
            && is_about(&self.username, who.username)
            && is_about(&self.client_id, Some(who.client_id))
            && self.topics.iter().any(|pattern| match pattern.bind(who) {
                Some(bound) if self.is_allowed => bound.covers(levels),
                Some(bound) => bound.overlaps(levels),
                // A name that is no plain level: such a client gets nothing by it, and is denied what comes after.
                None => !self.is_allowed,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who<'a>(username: &'a str, client_id: &'a str) -> Identity<'a> {
        Identity { username: (!username.is_empty()).then_some(username), client_id }
    }

    fn publishes(acl: &Acl, identity: Identity<'_>, topic: &str) -> bool {
        acl.may_publish(&identity, &TopicName::new(topic).unwrap())
    }

    fn subscribes(acl: &Acl, identity: Identity<'_>, filter: &str) -> bool {
        acl.may_subscribe(&identity, &TopicFilter::new(filter).unwrap())
    }

    #[test]
    fn the_first_rule_that_speaks_of_a_request_decides() {
        let acl = Acl::parse(
            r##"
            [[rules]]
            deny = "all"
            topics = ["secret/#"]

            [[rules]]
            allow = "all"
            username = "operator"
            topics = ["#"]

            [[rules]]
            allow = "subscribe"
            topics = ["plant/+/state"]

            [[rules]]
            allow = "publish"
            client_id = "meter-7"
            topics = ["plant/meter-7/state", "plant/meter-7/log/#"]
            "##,
        )
        .unwrap();
        assert_eq!(acl.len(), 4);
        let (operator, meter, other) = (who("operator", "desk"), who("", "meter-7"), who("", "meter-8"));
        assert!(publishes(&acl, operator, "anything") && subscribes(&acl, operator, "plant/meter-7/+"));
        assert!(!publishes(&acl, operator, "secret/a") && !subscribes(&acl, operator, "secret/+"));
        assert!(!subscribes(&acl, operator, "#"), "it would show what is denied");
        assert!(!subscribes(&acl, operator, "$SYS/broker"), "a wildcard does not stand for $SYS");
        assert!(
            publishes(&acl, meter, "plant/meter-7/log/x") && !publishes(&acl, other, "plant/meter-7/log/x")
        );
        assert!(!subscribes(&acl, meter, "plant/meter-7/log/x"), "publishing only");
        assert!(subscribes(&acl, other, "plant/meter-7/state") && !subscribes(&acl, other, "plant/#"));
        assert!(
            subscribes(&acl, other, "$share/g/plant/+/state") && !subscribes(&acl, other, "$share/g/plant/#")
        );
        assert!(!publishes(&acl, other, "plant/meter-7/state"), "denied, as no rule speaks of it");
    }

    #[test]
    fn a_client_has_its_own_topics_and_no_name_gives_it_more() {
        let acl =
            Acl::parse("[[rules]]\nallow = 'all'\ntopics = ['u/${username}/#', 'c/${clientid}']\n").unwrap();
        assert!(subscribes(&acl, who("ann", "x"), "u/ann/#") && publishes(&acl, who("", "x"), "c/x"));
        assert!(!subscribes(&acl, who("ann", "x"), "u/bob/#") && !publishes(&acl, who("", "x"), "u//a"));
        for name in ["+", "#", "ann/..", "a/b"] {
            for filter in ["u/+/a", "u/#", "c/+", "c/#", "u/ann/x", "u/a/b/x"] {
                assert!(!subscribes(&acl, who(name, name), filter), "{name} {filter}");
            }
        }
        let acl = Acl::parse(
            "[[rules]]\ndeny = 'all'\ntopics = ['${clientid}/private']\n[[rules]]\nallow = 'all'\ntopics = ['#']\n",
        )
        .unwrap();
        assert!(publishes(&acl, who("", "a"), "b/private") && !publishes(&acl, who("", "a"), "a/private"));
        assert!(!publishes(&acl, who("", "a/b"), "x"), "a name that cannot be compared is denied");
    }

    #[test]
    fn a_user_rule_is_not_for_those_who_did_not_prove_who_they_are() {
        let acl = Acl::parse("[[rules]]\nallow = 'all'\nusername = 'ann'\ntopics = ['#']\n").unwrap();
        assert!(publishes(&acl, who("ann", "x"), "a") && !publishes(&acl, who("", "ann"), "a"));
    }

    #[test]
    fn a_file_that_is_wrong_says_where() {
        let error = |text: &str| Acl::parse(text).unwrap_err().to_string();
        assert!(error("[[rules]]\ntopics = ['a']\n").starts_with("rule 1: say either"));
        assert!(
            error("[[rules]]\nallow='all'\ndeny='all'\ntopics = ['a']\n").starts_with("rule 1: say either")
        );
        assert!(error("[[rules]]\nallow='all'\ntopics = []\n").contains("topics is empty"));
        assert!(error("[[rules]]\nallow='all'\ntopics = ['a/#/b']\n").contains("\"a/#/b\""));
        assert!(error("[[rules]]\nallow='all'\nuser='a'\ntopics = ['a']\n").contains("unknown field `user`"));
        assert!(Acl::parse("").unwrap().is_empty());
    }
}
