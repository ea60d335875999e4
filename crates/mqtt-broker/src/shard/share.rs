//! Shared subscriptions: what a member's shard and the owner of a group tell each other (§4.8.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use clock::Instant;
use journal::log::Position;
use mqtt_wire::{Packet, QoS, SubAck, Text, TopicFilter};

use super::deliver::Shapes;
use super::store::{Load, Whose};
use super::{ConnectionId, Shard, Subscriber};
use crate::client::{Delivery, Subscription};
use crate::durable::Stored;
use crate::durable::record::Record;
use crate::lanes::Body;
use crate::message::Message;
use crate::queue::Queued;
use crate::routes::ShardId;
use crate::sabotage::{self, Fault};
use crate::shared::{Group, Picked, inner_filter};

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
    pub(super) fn handle_join(
        &mut self,
        now: Instant,
        group: &TopicFilter,
        client: Text,
        shard: ShardId,
        token: u64,
        room: Option<u16>,
    ) {
        if self.groups.join(group, client.clone(), shard, room)
            && let Some(filter) = inner_filter(group)
        {
            let subscriber = Subscriber::Group(group.clone());
            if self.subscriptions.insert(&filter, subscriber, Subscription::default()).is_first {
                self.shared.routes.insert(&filter, self.id);
            }
        }
        self.tell(shard, Body::Joined { client, token });
        self.serve(now, group);
    }

    /// The member's shard: has the owner of a group know of a client, or of how long its session lasts.
    pub(super) fn join(&mut self, group: TopicFilter, client: Text, token: u64) {
        let member = self.clients.get_mut(&client).map(|client| (client.is_durable, client.tell_room()));
        let (is_durable, room) = member.unwrap_or_default();
        let (owner, shard) = (self.shared.shard_of_group(&group), self.id);
        self.tell(owner, Body::Join { group, client, shard, token, is_durable, room });
    }

    /// A message that no member of a group has to get any more.
    pub(super) fn finish_group(&mut self, stored: Option<&Stored>, group: &TopicFilter) {
        if let Some(stored) = stored {
            self.record_done(&Record::GroupDone { id: stored.id, group: group.clone() });
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

    /// The owner: a client takes part no more. With the last one goes what waited.
    pub(super) fn handle_leave(&mut self, now: Instant, group: &TopicFilter, client: &Text) {
        let Some(mut waiting) = self.groups.leave(group, client) else { return self.serve(now, group) };
        if let Some(filter) = inner_filter(group) {
            self.forget_subscriber(&filter, &Subscriber::Group(group.clone()));
        }
        while let Some(queued) = waiting.pop() {
            self.stats.dropped_no_member += 1;
            self.finish_group(queued.stored(), group);
        }
        self.stats.dropped_unreachable += waiting.take_unreachable() as u64;
    }

    /// The owner: gives a message to a member of a group. One of QoS 1 or 2 waits until one can take it, behind those
    /// that wait already.
    pub(super) fn dispatch(
        &mut self,
        now: Instant,
        name: &TopicFilter,
        message: &Arc<Message>,
        stored: Option<Stored>,
    ) {
        let waits = message.qos > QoS::AtMostOnce;
        let has_waiting = self.groups.get_mut(name).is_some_and(|group| !group.waiting.is_empty());
        if !(waits && has_waiting)
            && let Some(picked) = self.pick(name, message)
        {
            return self.assign(name, picked, Arc::clone(message), stored);
        }
        let Some(group) = self.groups.get_mut(name).filter(|_| waits) else {
            self.stats.dropped_no_member += 1;
            return self.finish_group(stored.as_ref(), name);
        };
        let (limits, overflow, is_away) = (self.shared.limits, self.store.overflow.as_ref(), group.is_away());
        let is_log_full = is_away && self.store.is_full();
        let delivery = Delivery::for_group(message, stored);
        let dropped = group.waiting.push_within(delivery, is_away, overflow, &limits, is_log_full);
        let unreachable = group.waiting.take_unreachable();
        self.count_dropped(&dropped, unreachable, is_log_full);
        for queued in &dropped {
            self.finish_group(queued.stored(), name);
        }
        self.serve(now, name);
    }

    fn pick(&mut self, group: &TopicFilter, message: &Message) -> Option<Picked> {
        self.groups.pick(group, self.shared.limits.shared_subscription_strategy, message)
    }

    fn assign(
        &mut self,
        group: &TopicFilter,
        Picked { client, shard, is_asked }: Picked,
        message: Arc<Message>,
        stored: Option<Stored>,
    ) {
        self.tell(shard, Body::Assign { group: group.clone(), client: client.clone(), message, stored });
        if is_asked {
            self.tell(shard, Body::Ask { group: group.clone(), client });
        }
    }

    /// The owner: gives those what waits who can take it.
    pub(super) fn serve(&mut self, now: Instant, name: &TopicFilter) {
        while let Some(group) = self.groups.get_mut(name).filter(|group| group.has_room())
            && let Some(message) = group.next_loaded().cloned()
        {
            let has_expired = message.has_expired(now);
            let picked = if has_expired { None } else { self.pick(name, &message) };
            if !has_expired && picked.is_none() {
                // The one who has to get it tells when it has room.
                return;
            }
            let popped = self.groups.get_mut(name).and_then(Group::pop_loaded);
            let stored = popped.and_then(|delivery| delivery.stored);
            if let Some(picked) = picked {
                self.assign(name, picked, message, stored);
            } else {
                self.stats.dropped_expired += 1;
                self.finish_group(stored.as_ref(), name);
            }
        }
        let can_go_on = |group: &&mut Group| group.has_room() && !group.is_loading;
        let Some(group) = self.groups.get_mut(name).filter(can_go_on) else { return };
        let positions = group.waiting.next_to_load();
        group.is_loading = !positions.is_empty();
        self.stats.dropped_unreachable += group.waiting.take_unreachable() as u64;
        if !positions.is_empty() {
            self.request_load(Load::of(Whose::Group(name.clone()), positions));
        }
    }

    /// The owner: what was read for that.
    pub(super) fn take_loaded_for_group(
        &mut self,
        now: Instant,
        name: &TopicFilter,
        messages: BTreeMap<Position, Option<Arc<Message>>>,
    ) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.is_loading = false;
        let lost = group.waiting.take_loaded(messages);
        self.stats.dropped_damaged += lost.len() as u64;
        for queued in &lost {
            self.finish_group(queued.stored(), name);
        }
        self.serve(now, name);
    }

    /// The owner: a member says what it can take.
    pub(super) fn handle_member(
        &mut self,
        now: Instant,
        name: &TopicFilter,
        client: &Text,
        room: Option<u16>,
        is_answer: bool,
    ) {
        let Some(group) = self.groups.get_mut(name) else { return };
        let was_away = group.is_away();
        let to_ask = group.tells(client, room, is_answer);
        if group.is_away() && !was_away {
            group.put_away(0, self.store.overflow.as_ref());
        }
        if let Some(shard) = to_ask {
            self.tell(shard, Body::Ask { group: name.clone(), client: client.clone() });
        }
        self.serve(now, name);
    }

    /// The member's shard: says what it can take.
    pub(super) fn handle_ask(&mut self, group: TopicFilter, client: Text) {
        let room = self.clients.get_mut(&client).and_then(|client| client.tell_room());
        let owner = self.shared.shard_of_group(&group);
        self.tell(owner, Body::Member { group, client, room, is_answer: true });
    }

    /// The member's shard: a message for one of its clients.
    pub(super) fn handle_assign(
        &mut self,
        now: Instant,
        group: TopicFilter,
        client_id: Text,
        message: Arc<Message>,
        stored: Option<Stored>,
    ) {
        let taker = self.clients.get_mut(&client_id).and_then(|client| {
            let subscription = *client.subscriptions.get(&group)?;
            let qos = message.qos.min(subscription.options.qos);
            let can_take =
                client.connection.is_some() && (qos == QoS::AtMostOnce || client.room_for_shared() > 0);
            client.is_busy |= client.connection.is_some() && !can_take;
            can_take.then_some((subscription, qos))
        });
        let Some((Subscription { options, identifier }, qos)) = taker else {
            // It is full, or has left, and the owner knows or is about to.
            if message.qos > QoS::AtMostOnce {
                let queued = Queued::Here(Box::new(Delivery::for_group(&message, stored)));
                self.refuse(group, client_id, vec![queued]);
            }
            return;
        };
        let retain = message.retain && options.retain_as_published;
        let identifiers = identifier.into_iter().collect();
        if qos == QoS::AtMostOnce {
            // Nobody answers for it any more.
            self.finish_group(stored.as_ref(), &group);
        }
        let mut delivery = Delivery { message, qos, retain, identifiers, group: Some(group), stored: None };
        if self.clients.get(&client_id).is_some_and(|client| client.is_durable) {
            delivery.stored = self.record_ref(&client_id, &delivery, stored);
        } else {
            delivery.stored = stored.filter(|_| qos > QoS::AtMostOnce);
        }
        self.deliver_to(now, &client_id, delivery, &mut Shapes::default());
    }

    fn refuse(&mut self, group: TopicFilter, client: Text, refused: Vec<Queued>) {
        let owner = self.shared.shard_of_group(&group);
        self.tell(owner, Body::Refused { group, client, refused });
    }

    /// The owner: what a member has not taken goes to another one, before what waits.
    pub(super) fn handle_refused(
        &mut self,
        now: Instant,
        name: &TopicFilter,
        client: &Text,
        refused: Vec<Queued>,
    ) {
        self.stats.redispatched += refused.len() as u64;
        if let Some(group) = self.groups.get_mut(name) {
            group.is_full(client);
            group.take_back(refused, self.store.overflow.as_ref());
            return self.serve(now, name);
        }
        self.stats.dropped_no_member += refused.len() as u64;
        for queued in &refused {
            self.finish_group(queued.stored(), name);
        }
    }

    /// Gives messages of groups back, which their member will not take any more.
    pub(super) fn give_back(&mut self, client_id: &Text, all: Vec<Queued>) {
        if sabotage::is(Fault::ShareWithoutRedelivery) {
            return;
        }
        let mut of_groups: BTreeMap<TopicFilter, Vec<Queued>> = BTreeMap::new();
        for queued in all {
            if let Some(group) = queued.group().cloned() {
                of_groups.entry(group).or_default().push(queued.for_group());
            }
        }
        for (group, refused) in of_groups {
            self.refuse(group, client_id.clone(), refused);
        }
    }
}
