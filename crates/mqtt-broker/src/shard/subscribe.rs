//! SUBSCRIBE and UNSUBSCRIBE.

use clock::Instant;
use mqtt_proto::server::ProtocolError;
use mqtt_wire::{
    Properties, QoS, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeFilter, Text, TopicFilter,
    UnsubAck, Unsubscribe,
};

use super::share::PendingSubAck;
use super::{ConnectionId, Shard, Subscriber};
use crate::client::Subscription;
use crate::durable::record::Record;
use crate::lanes::Body;
use crate::sabotage::{self, Fault};

/// What is to be done for the filters of a SUBSCRIBE beside answering it.
#[derive(Debug, Default)]
struct FollowUp {
    /// Whose retained messages are sent.
    retained: Vec<(TopicFilter, Subscription)>,
    /// The shared subscriptions, whose owners have to know before SUBACK leaves.
    joins: Vec<TopicFilter>,
}

impl Shard {
    /// The routes are written before the retained messages are looked up and before SUBACK leaves: from then on
    /// no message is missed.
    pub(super) fn handle_subscribe(&mut self, now: Instant, id: ConnectionId, subscribe: Subscribe) {
        if subscribe.filters.len() > self.shared.limits.max_filters_per_packet {
            return self.fail(now, id, ProtocolError::TooManyFilters);
        }
        let Some(client_id) = self.connection(id).map(|connection| connection.client.clone()) else { return };
        let identifier = subscribe.properties.subscription_identifiers.first().copied();
        let mut follow_up = FollowUp::default();
        let reason_codes = (subscribe.filters.into_iter())
            .map(|filter| self.subscribe(id, &client_id, filter, identifier, &mut follow_up))
            .collect();
        let (packet_id, properties) = (subscribe.packet_id, Properties::default());
        let suback = SubAck { packet_id, properties, reason_codes };
        let FollowUp { retained, joins } = follow_up;
        if joins.is_empty() {
            self.answer_for_all(now, id, suback.into());
        } else {
            self.next_token += 1;
            let token = self.next_token;
            self.pending.insert(token, PendingSubAck { connection: id, suback, missing: joins.len() });
            for group in joins {
                self.join(group, client_id.clone(), token);
            }
            self.drain_lanes(now);
        }
        self.start_scans(now, &client_id, retained);
    }

    /// Why a filter is not subscribed to.
    fn check_filter(&mut self, id: ConnectionId, filter: &TopicFilter) -> Result<(), ReasonCode> {
        let limits = self.shared.limits;
        if filter.levels().count() > limits.max_topic_levels {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        if filter.share().is_some() && !limits.shared_subscription {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        if filter.has_wildcard() && !limits.wildcard_subscription {
            return Err(ReasonCode::WildcardSubscriptionsNotSupported);
        }
        if !self.may_subscribe(id, filter) {
            return Err(ReasonCode::NotAuthorized);
        }
        let has_room = self.with_client(id, |client| {
            client.subscriptions.contains_key(filter) || client.subscriptions.len() < limits.max_subscriptions
        });
        if has_room == Some(true) { Ok(()) } else { Err(ReasonCode::QuotaExceeded) }
    }

    fn subscribe(
        &mut self,
        id: ConnectionId,
        client_id: &Text,
        SubscribeFilter { filter, mut options }: SubscribeFilter,
        identifier: Option<u32>,
        follow_up: &mut FollowUp,
    ) -> ReasonCode {
        if let Err(reason) = self.check_filter(id, &filter) {
            return reason;
        }
        options.qos = options.qos.min(self.shared.limits.max_qos_allowed);
        let subscription = Subscription { options, identifier };
        let replaced = self
            .with_client(id, |client| client.subscriptions.insert(filter.detached(), subscription))
            .flatten();
        let is_durable = self.with_client(id, |client| client.is_durable) == Some(true);
        if is_durable {
            let (client, filter) = (client_id.clone(), filter.clone());
            self.record(&Record::Subscribed { client, filter, subscription });
        }
        if filter.share().is_some() {
            if replaced.is_none() {
                self.with_client(id, |client| client.shared += 1);
                follow_up.joins.push(filter.detached());
            }
        } else {
            let was_stored = replaced.is_some_and(|replaced| replaced.options.qos > QoS::AtMostOnce);
            let is_stored = options.qos > QoS::AtMostOnce;
            if is_durable && is_stored != was_stored && !sabotage::is(Fault::RouteAfterSubAck) {
                self.count_durable(&filter, is_stored);
            }
            let subscriber = Subscriber::Client(client_id.clone());
            if self.subscriptions.insert(&filter, subscriber, subscription).is_first
                && !sabotage::postpones_route(self.id, &filter)
            {
                self.shared.routes.insert(&filter, self.id);
            }
            let handling = options.retain_handling;
            if handling == RetainHandling::Send
                || (handling == RetainHandling::SendIfNew && replaced.is_none())
            {
                follow_up.retained.push((filter, subscription));
            }
        }
        // Granted QoS 0, 1 and 2 are the reason codes 0, 1 and 2.
        ReasonCode::try_from(options.qos as u8).unwrap_or(ReasonCode::GRANTED_QOS_0)
    }

    pub(super) fn handle_unsubscribe(&mut self, now: Instant, id: ConnectionId, unsubscribe: &Unsubscribe) {
        if unsubscribe.filters.len() > self.shared.limits.max_filters_per_packet {
            return self.fail(now, id, ProtocolError::TooManyFilters);
        }
        let Some(client_id) = self.connection(id).map(|connection| connection.client.clone()) else { return };
        let mut reason_codes = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            let removed = self.with_client(id, |client| client.subscriptions.remove(filter)).flatten();
            if let Some(removed) = removed {
                self.record_exchange(id, |client| Record::Unsubscribed { client, filter: filter.clone() });
                if self.with_client(id, |client| client.is_durable) == Some(true) {
                    self.forget_durable(filter, removed);
                }
                if filter.share().is_some() {
                    self.with_client(id, |client| client.shared -= 1);
                }
                self.forget_subscription(filter, &client_id);
                reason_codes.push(ReasonCode::Success);
            } else {
                reason_codes.push(ReasonCode::NoSubscriptionExisted);
            }
        }
        self.drain_lanes(now);
        let (packet_id, properties) = (unsubscribe.packet_id, Properties::default());
        self.answer_for_all(now, id, UnsubAck { packet_id, properties, reason_codes }.into());
    }

    /// A durable client has a subscription no more.
    pub(super) fn forget_durable(&mut self, filter: &TopicFilter, subscription: Subscription) {
        if filter.share().is_none() && subscription.options.qos > QoS::AtMostOnce {
            self.count_durable(filter, false);
        }
    }

    /// Takes a client's subscription out of the index, or out of its group.
    pub(super) fn forget_subscription(&mut self, filter: &TopicFilter, client_id: &Text) {
        if filter.share().is_some() {
            let owner = self.shared.shard_of_group(filter);
            self.tell(owner, Body::Leave { group: filter.clone(), client: client_id.clone() });
        } else {
            self.forget_subscriber(filter, &Subscriber::Client(client_id.clone()));
        }
    }

    /// Takes a subscriber out of the index, and its route if it was the last.
    pub(super) fn forget_subscriber(&mut self, filter: &TopicFilter, subscriber: &Subscriber) {
        if self.subscriptions.remove(filter, subscriber) == Some(true) {
            self.shared.routes.remove(filter, self.id);
        }
    }
}
