//! What a client has asked for and what it has got, so that it can be asked for again.

use std::collections::{BTreeMap, HashMap};

use mqtt_wire::{PacketId, Properties, ReasonCode, SubscribeFilter, SubscriptionOptions, TopicFilter};

use crate::driver::Answer;

/// A SUBSCRIBE or UNSUBSCRIBE.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Subscribe(Vec<SubscribeFilter>, Box<Properties>),
    Unsubscribe(Vec<TopicFilter>),
}

/// What was asked for, and whoever waits for the answer: nobody, when it was asked again after a reconnection.
pub(crate) type Pending = (Asked, Option<Answer<Vec<ReasonCode>>>);

/// What was asked for and not answered, and what is subscribed to.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    asked: HashMap<PacketId, Pending>,
    held: BTreeMap<TopicFilter, (SubscriptionOptions, Box<Properties>)>,
}

impl Subscriptions {
    pub(crate) fn ask(&mut self, id: PacketId, asked: Asked, answer: Option<Answer<Vec<ReasonCode>>>) {
        self.asked.insert(id, (asked, answer));
    }

    pub(crate) fn answered(&mut self, id: PacketId, reasons: Vec<ReasonCode>) {
        let Some((asked, answer)) = self.asked.remove(&id) else { return };
        match asked {
            Asked::Subscribe(filters, properties) => {
                for (SubscribeFilter { filter, options }, reason) in filters.into_iter().zip(&reasons) {
                    if !reason.is_error() {
                        self.held.insert(filter, (options, properties.clone()));
                    }
                }
            }
            Asked::Unsubscribe(filters) => filters.iter().for_each(|filter| _ = self.held.remove(filter)),
        }
        if let Some(answer) = answer {
            // Whoever asked may have stopped waiting.
            let _ = answer.send(Ok(reasons));
        }
    }

    /// What has to be asked for on a new connection: what was not answered, and in a new session also what is held.
    pub(crate) fn ask_again(&mut self, session_present: bool) -> Vec<Pending> {
        let mut again = Vec::new();
        if !session_present {
            again.extend(self.held.iter().map(|(filter, (options, properties))| {
                let filters = vec![SubscribeFilter { filter: filter.clone(), options: *options }];
                (Asked::Subscribe(filters, properties.clone()), None)
            }));
        }
        let mut open: Vec<_> = self.asked.drain().collect();
        open.sort_by_key(|(id, _)| *id);
        again.extend(open.into_iter().map(|(_, asked)| asked));
        again
    }
}
