//! Shared subscriptions: what a member's shard and the owner of a group tell each other (§4.8.2).

use std::sync::Arc;

use clock::Instant;
use mqtt_wire::{Packet, QoS, SubAck, Text, TopicFilter};

use super::deliver::Shapes;
use super::{ConnectionId, Shard, Subscriber};
use crate::client::{Delivery, Subscription};
use crate::durable::Stored;
use crate::durable::record::Record;
use crate::lanes::Body;
use crate::message::Message;
use crate::routes::ShardId;
use crate::sabotage::{self, Fault};
use crate::shared::inner_filter;

/// A SUBACK that waits until the owners of the shared subscriptions in it have taken the client in: from SUBACK
/// on no message is missed.
#[derive(Debug)]
pub(super) struct PendingSubAck {
    pub(super) connection: ConnectionId,
    pub(super) suback: SubAck,
    pub(super) missing: usize,
}

impl Shard {
    /// The owner: a client takes part.
    pub(super) fn handle_join(&mut self, group: &TopicFilter, client: Text, shard: ShardId, token: u64) {
        if self.groups.join(group, client.clone(), shard)
            && let Some(filter) = inner_filter(group)
        {
            let subscriber = Subscriber::Group(group.clone());
            if self.subscriptions.insert(&filter, subscriber, Subscription::default()).is_first {
                self.shared.routes.insert(&filter, self.id);
            }
        }
        self.tell(shard, Body::Joined { client, token });
    }

    /// The member's shard: has the owner of a group know of a client, or of how long its session lasts.
    pub(super) fn join(&mut self, group: TopicFilter, client: Text, token: u64) {
        let is_durable = self.clients.get(&client).is_some_and(|client| client.is_durable);
        let (owner, shard) = (self.shared.shard_of_group(&group), self.id);
        self.tell(owner, Body::Join { group, client, shard, token, is_durable });
    }

    /// A message that no member of a group has to get any more.
    pub(super) fn finish_group(&mut self, stored: Option<&Stored>, group: &TopicFilter) {
        if let Some(stored) = stored {
            self.record(&Record::GroupDone { id: stored.id, group: group.clone() });
        }
    }

    /// The member's shard: it does from now on.
    pub(super) fn handle_joined(&mut self, now: Instant, client: &Text, token: u64) {
        let Some(pending) = self.pending.get_mut(&token) else { return };
        pending.missing -= 1;
        if pending.missing == 0
            && let Some(PendingSubAck { connection, suback, .. }) = self.pending.remove(&token)
        {
            self.answer_for_all(now, connection, Packet::from(suback));
        }
        self.report_member(client);
    }

    /// The owner: a client takes part no more.
    pub(super) fn handle_leave(&mut self, group: &TopicFilter, client: &Text) {
        if self.groups.leave(group, client)
            && let Some(filter) = inner_filter(group)
        {
            self.forget_subscriber(&filter, &Subscriber::Group(group.clone()));
        }
    }

    /// The owner: gives a message of a group to somebody other than `tried`.
    pub(super) fn dispatch(
        &mut self,
        group: &TopicFilter,
        (message, stored): (Arc<Message>, Option<Stored>),
        tried: Vec<Text>,
    ) {
        let strategy = self.shared.limits.shared_subscription_strategy;
        let Some(picked) = self.groups.pick(group, strategy, &message, &tried) else {
            self.stats.dropped_no_member += 1;
            return self.finish_group(stored.as_ref(), group);
        };
        let (group, client, is_last) = (group.clone(), picked.client, picked.is_last);
        self.tell(picked.shard, Body::Assign { group, client, message, stored, tried, is_last });
    }

    /// The member's shard: a message for one of its clients.
    pub(super) fn handle_assign(
        &mut self,
        now: Instant,
        group: TopicFilter,
        client_id: &Text,
        (message, stored): (Arc<Message>, Option<Stored>),
        mut tried: Vec<Text>,
        is_last: bool,
    ) {
        let subscription = self.clients.get(client_id).and_then(|client| client.subscriptions.get(&group));
        let Some(&Subscription { options, identifier }) = subscription else {
            // It has left, and the owner is about to know.
            return self.refuse(group, (message, stored), tried, client_id);
        };
        let qos = message.qos.min(options.qos);
        let can_take = self.clients.get(client_id).is_some_and(|client| {
            client.connection.is_some()
                && (qos == QoS::AtMostOnce || (client.queue.is_empty() && client.outbound.has_room()))
        });
        if !can_take && !is_last && tried.len() < MAX_TRIES {
            return self.refuse(group, (message, stored), tried, client_id);
        }
        tried.clear();
        let retain = message.retain && options.retain_as_published;
        let identifiers = identifier.into_iter().collect();
        if qos == QoS::AtMostOnce {
            // Nobody answers for it any more.
            self.finish_group(stored.as_ref(), &group);
        }
        let mut delivery = Delivery { message, qos, retain, identifiers, group: Some(group), stored: None };
        if self.clients.get(client_id).is_some_and(|client| client.is_durable) {
            delivery.stored = self.record_ref(client_id, &delivery, stored);
        } else {
            delivery.stored = stored.filter(|_| qos > QoS::AtMostOnce);
        }
        self.deliver_to(now, client_id, delivery, &mut Shapes::default());
    }

    fn refuse(
        &mut self,
        group: TopicFilter,
        (message, stored): (Arc<Message>, Option<Stored>),
        mut tried: Vec<Text>,
        client_id: &Text,
    ) {
        let owner = self.shared.shard_of_group(&group);
        if !tried.contains(client_id) {
            tried.push(client_id.clone());
        }
        self.tell(owner, Body::Refused { group, message, stored, tried });
    }

    /// Gives messages of groups back, which their member will not take any more.
    pub(super) fn give_back(&mut self, client_id: &Text, deliveries: Vec<Delivery>) {
        if sabotage::is(Fault::ShareWithoutRedelivery) {
            return;
        }
        for Delivery { message, group, stored, .. } in deliveries {
            if let Some(group) = group {
                self.refuse(group, (message, stored), Vec::new(), client_id);
            }
        }
    }
}

/// Members that are asked before somebody has to take a message.
const MAX_TRIES: usize = 8;
