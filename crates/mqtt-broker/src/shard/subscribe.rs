//! SUBSCRIBE and UNSUBSCRIBE.

use clock::Instant;
use mqtt_wire::{
    Packet, Properties, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeFilter, Text, TopicFilter,
    UnsubAck, Unsubscribe,
};

use super::deliver::retained;
use super::{ConnectionId, Shard};
use crate::client::Delivery;

impl Shard {
    /// The routes are written before the retained messages are looked up and before SUBACK leaves: from then on
    /// no message is missed.
    pub(super) fn handle_subscribe(&mut self, now: Instant, id: ConnectionId, subscribe: Subscribe) {
        let Some(client_id) = self.connection(id).map(|connection| connection.client.clone()) else { return };
        let mut reason_codes = Vec::with_capacity(subscribe.filters.len());
        let mut deliveries = Vec::new();
        for filter in subscribe.filters {
            reason_codes.push(self.subscribe(now, id, &client_id, filter, &mut deliveries));
        }
        let (packet_id, properties) = (subscribe.packet_id, Properties::default());
        self.send(now, id, &Packet::from(SubAck { packet_id, properties, reason_codes }));
        for delivery in deliveries {
            self.deliver_retained(now, &client_id, delivery);
        }
    }

    fn subscribe(
        &mut self,
        now: Instant,
        id: ConnectionId,
        client_id: &Text,
        SubscribeFilter { filter, options }: SubscribeFilter,
        deliveries: &mut Vec<Delivery>,
    ) -> ReasonCode {
        if filter.share().is_some() {
            return ReasonCode::SharedSubscriptionsNotSupported;
        }
        let limits = self.shared.limits;
        if filter.levels().count() > limits.max_topic_levels {
            return ReasonCode::TopicFilterInvalid;
        }
        if !self.may_subscribe(id, &filter) {
            return ReasonCode::NotAuthorized;
        }
        let is_full = self.with_client(id, |client| {
            let is_new = !client.subscriptions.contains_key(&filter);
            is_new && client.subscriptions.len() >= limits.max_subscriptions
        });
        if is_full != Some(false) {
            return ReasonCode::QuotaExceeded;
        }
        let inserted = self.subscriptions.insert(&filter, client_id.clone(), options);
        if inserted.is_first {
            self.shared.routes.insert(&filter, self.id);
        }
        let is_new = inserted.replaced.is_none();
        if options.retain_handling == RetainHandling::Send
            || (options.retain_handling == RetainHandling::SendIfNew && is_new)
        {
            let found = self.shared.retained.matching(now, &filter);
            deliveries.extend(found.into_iter().map(|message| retained(message, options.qos)));
        }
        self.with_client(id, |client| client.subscriptions.insert(filter, options));
        // Granted QoS 0, 1 and 2 are the reason codes 0, 1 and 2.
        ReasonCode::try_from(options.qos as u8).unwrap_or(ReasonCode::GRANTED_QOS_0)
    }

    pub(super) fn handle_unsubscribe(&mut self, now: Instant, id: ConnectionId, unsubscribe: &Unsubscribe) {
        let Some(client_id) = self.connection(id).map(|connection| connection.client.clone()) else { return };
        let mut reason_codes = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            let existed = self.with_client(id, |client| client.subscriptions.remove(filter).is_some());
            if existed == Some(true) {
                self.forget_subscription(filter, &client_id);
                reason_codes.push(ReasonCode::Success);
            } else {
                reason_codes.push(ReasonCode::NoSubscriptionExisted);
            }
        }
        let (packet_id, properties) = (unsubscribe.packet_id, Properties::default());
        self.send(now, id, &Packet::from(UnsubAck { packet_id, properties, reason_codes }));
    }

    /// Takes a subscription out of the index, and its route if it was the last.
    pub(super) fn forget_subscription(&mut self, filter: &TopicFilter, client_id: &Text) {
        if self.subscriptions.remove(filter, client_id) == Some(true) {
            self.shared.routes.remove(filter, self.id);
        }
    }
}
