//! Friendship in a node: the Friend and Low Power features joined with keys, sequence numbers and the layers.

use alloc::vec::Vec;

use clock::Instant;
use mesh_crypto::{FriendshipParameters, Mic};
use mesh_wire::address::{Address, GroupAddress, UnicastAddress};
use mesh_wire::beacon::NetworkFlags;
use mesh_wire::foundation::Features;
use mesh_wire::friendship::FriendshipMessage;
use mesh_wire::lower_transport::{ACCESS_SEGMENT, LowerTransportPdu, Segment, SegmentedKind};
use mesh_wire::{NetKeyIndex, SeqAuth, Ttl};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use super::{CommandError, Event, FriendshipRole, Node, NodeOptions, OutgoingMessage, SendError};
use crate::access::is_member;
use crate::discard::Discard;
use crate::foundation::FeatureStates;
use crate::friend::{self, Friend, OwnMessage, Stored};
use crate::keys::{Credentials, KeyRefreshPhase};
use crate::low_power::{self, LowPower};
use crate::lower_transport::{Ack, SarReceiver};
use crate::network::{Arrived, Outgoing, SequenceExhausted};
use crate::upper_transport::{self, Destination, Envelope};

/// The features that a node with these options has.
pub(super) fn supported(options: &NodeOptions) -> Features {
    let friend = if options.friend.is_some() { Features::FRIEND.0 } else { 0 };
    let low_power = if options.low_power.is_some() { Features::LOW_POWER.0 } else { 0 };
    let proxy = if options.proxy { Features::PROXY.0 } else { 0 };
    Features(Features::RELAY.0 | friend | low_power | proxy)
}

/// Which of the features are in use at first.
pub(super) fn initial_states(options: &NodeOptions) -> FeatureStates {
    FeatureStates {
        supported: supported(options),
        friend: options.friend.is_some_and(|friend| friend.enabled),
        proxy: options.proxy,
        ..FeatureStates::default()
    }
}

/// The Friend and Low Power features of a node with these options and so many elements from `address` on.
pub(super) fn features(
    address: UnicastAddress,
    elements: u8,
    seed: [u8; 32],
    options: &NodeOptions,
) -> (Option<Friend>, Option<LowPower>) {
    // When a Friend is looked for is drawn from a stream of its own, as are the times of beacons.
    let mut rng = ChaCha8Rng::from_seed(seed);
    rng.set_stream(2);
    let friend = options.friend.map(|settings| Friend::new(address, settings, SarReceiver::default()));
    let low_power = options.low_power.map(|settings| LowPower::new(address, elements, settings, rng));
    (friend, low_power)
}

/// The fixed groups that a node with these features belongs to (MshPRT table 3.27).
pub(super) fn fixed_groups(features: Features) -> impl Iterator<Item = Address> {
    let groups = [
        GroupAddress::ALL_NODES,
        GroupAddress::ALL_RELAYS,
        GroupAddress::ALL_FRIENDS,
        GroupAddress::ALL_PROXIES,
    ];
    groups.into_iter().filter(move |&group| is_member(group, features)).map(Address::Group)
}

/// What the node is to others.
impl Node {
    /// Whether the radio has to be on: a Low Power node that has a Friend listens only when it waits for an answer.
    /// May change with every call that takes `&mut self`.
    pub fn is_listening(&self) -> bool {
        self.low_power.as_ref().is_none_or(LowPower::is_listening)
    }

    /// The Friend of this Low Power node, if it has one.
    pub fn friend(&self) -> Option<UnicastAddress> {
        self.low_power.as_ref().and_then(LowPower::friend)
    }

    /// The Low Power nodes whose Friend this node is, by subnet and primary element.
    pub fn low_power_nodes(&self) -> impl Iterator<Item = (NetKeyIndex, UnicastAddress)> {
        self.friend.iter().flat_map(Friend::low_power_nodes)
    }

    pub(super) fn command_low_power(&mut self, now: Instant, is_on: bool) -> Result<(), CommandError> {
        let low_power = self.low_power.as_mut().ok_or(CommandError::NotLowPower)?;
        if is_on {
            low_power.switch_on(now).map_err(CommandError::LowPowerSettings)?;
        } else {
            low_power.switch_off();
            low_power.handle_timeout(now);
        }
        Ok(())
    }

    pub(super) fn command_poll(&mut self, now: Instant) -> Result<(), CommandError> {
        let low_power = self.low_power.as_mut().ok_or(CommandError::NotLowPower)?;
        low_power.poll(now);
        low_power.handle_timeout(now);
        Ok(())
    }

    /// Follows what a Configuration Client has changed: friendships that can be no more, and what is listened to.
    pub(super) fn follow_configuration(&mut self, now: Instant) {
        let (keys, is_on) = (&self.keys, self.features.friend);
        if let Some(friend) = &mut self.friend {
            friend.end(|subnet| !is_on || keys.subnet(subnet).is_none());
        }
        let fixed_groups = fixed_groups(self.features());
        let Some(low_power) = &mut self.low_power else { return };
        if self.is_started && keys.subnet(low_power.subnet()).is_none() {
            low_power.switch_off();
        }
        let subscriptions = self.elements.models().flat_map(|(_, model)| &model.subscriptions);
        let heartbeats = self.heartbeats.subscribed(now).filter(|address| address.unicast().is_none());
        let subscriptions = subscriptions.map(Destination::address);
        low_power.listen_to(now, subscriptions.chain(heartbeats).chain(fixed_groups));
    }

    /// The material under which a message is sent; `by_friend`: under that of a friendship, if there is one.
    pub(super) fn credentials(&self, net_key_index: NetKeyIndex, by_friend: bool) -> Credentials {
        let low_power = self.low_power.as_ref().filter(|x| by_friend && x.subnet() == net_key_index);
        low_power.and_then(LowPower::credentials).unwrap_or_default()
    }

    /// Whether a PDU came by this Low Power node's Friend, whoever sent it first.
    pub(super) fn is_from_friend(&self, arrived: &Arrived) -> bool {
        let link = self.low_power.as_ref().and_then(LowPower::link);
        link.is_some_and(|x| (x.net_key_index, x.credentials) == (arrived.net_key_index, arrived.credentials))
    }

    pub(super) fn handle_friendship_timeouts(&mut self, now: Instant) {
        if let Some(friend) = &mut self.friend {
            friend.handle_timeout(now);
        }
        if let Some(low_power) = &mut self.low_power {
            low_power.handle_timeout(now);
        }
    }

    /// Takes note of what came under the material of a friendship, before anything is made of it. Returns whether it
    /// may be relayed: what a Friend sends is for its Low Power node only.
    pub(super) fn note_friendship(&mut self, now: Instant, arrived: &Arrived) -> Result<bool, Discard> {
        if arrived.credentials == Credentials::Flooding {
            return Ok(true);
        }
        if let Some(low_power) = &mut self.low_power {
            low_power.note(now, arrived);
        }
        if arrived.is_repeated {
            return Err(Discard::Cached);
        }
        let is_from_low_power_node = |friend: &Friend| friend.is_from_low_power_node(arrived);
        Ok(self.friend.as_ref().is_some_and(is_from_low_power_node))
    }

    /// Takes a transport control message of friendship.
    pub(super) fn receive_friendship(
        &mut self,
        now: Instant,
        arrived: &Arrived,
        opcode: u8,
        parameters: &[u8],
        rssi: Option<i8>,
    ) -> Result<(), Discard> {
        let message = FriendshipMessage::decode(opcode, parameters).map_err(|_| Discard::TransportPdu)?;
        match message {
            FriendshipMessage::Update { flags, iv_index, .. } => {
                if !self.low_power.as_ref().is_some_and(|x| x.is_word_of_friend(arrived)) {
                    return Err(Discard::Friendship);
                }
                let subnet = self.keys.subnet(arrived.net_key_index).ok_or(Discard::Friendship)?;
                let is_over = subnet.new.is_some() && subnet.phase == KeyRefreshPhase::Second;
                // Once the new key sends, the old one says nothing any more, as with beacons (§3.11.4.2).
                if is_over && !arrived.is_new_key {
                    return Ok(());
                }
                let (index, is_new) = (arrived.net_key_index, arrived.is_new_key);
                // What a beacon of a secondary subnet may not say is no fault of the message.
                let _ = self.follow_network(now, index, is_new, flags, iv_index);
                Ok(())
            }
            FriendshipMessage::Offer(_) | FriendshipMessage::SubscriptionListConfirm { .. } => {
                self.low_power.as_mut().ok_or(Discard::Friendship)?.receive(now, arrived, message)
            }
            FriendshipMessage::ClearConfirm { .. } => {
                let to_low_power = self.low_power.as_mut().ok_or(Discard::Friendship);
                to_low_power.and_then(|x| x.receive(now, arrived, message.clone())).or_else(|_| {
                    self.friend.as_mut().ok_or(Discard::Friendship)?.receive(now, arrived, message, rssi)
                })
            }
            _ if self.features.friend => {
                self.friend.as_mut().ok_or(Discard::Friendship)?.receive(now, arrived, message, rssi)
            }
            _ => Err(Discard::Friendship),
        }
    }

    /// The next acknowledgment of segments. Those for a Low Power node are its Friend's to give (MshPRT §3.5.3.2).
    pub(super) fn poll_ack(&mut self) -> Option<Ack> {
        let has_friend = self.friend().is_some();
        let subnet = self.low_power.as_ref().map(LowPower::subnet);
        while let Some(ack) = self.reassembler.poll_ack() {
            if !has_friend || subnet != Some(ack.net_key_index) {
                return Some(ack);
            }
        }
        self.friend.as_mut()?.poll_ack()
    }

    /// Has a Low Power node ask while it waits for acknowledgments, and its radio follow.
    pub(super) fn follow_low_power(&mut self, now: Instant) {
        let Some(low_power) = &mut self.low_power else { return };
        if self.segmenter.is_sending() {
            low_power.hurry(now);
        }
        self.network.low_power = low_power.link();
    }

    /// Does the next thing that either feature asks for, if there is one.
    pub(super) fn do_for_friendships(&mut self, now: Instant) -> bool {
        if let Some(output) = self.friend.as_mut().and_then(Friend::poll_output) {
            self.do_for_friend(now, output);
            return true;
        }
        if let Some(output) = self.low_power.as_mut().and_then(LowPower::poll_output) {
            self.do_for_low_power(output);
            return true;
        }
        false
    }

    fn do_for_friend(&mut self, now: Instant, output: friend::Output) {
        use friend::Output;
        match output {
            Output::Send { net_key_index, credentials, ttl, dst, message } => {
                self.send_friendship(net_key_index, credentials, ttl, dst.into(), &message);
            }
            Output::Offered(subnet, parameters) => self.keys.add_friendship(subnet, parameters),
            Output::Forget(subnet, parameters) => self.keys.remove_friendship(subnet, parameters),
            Output::Reply(key) => self.answer_poll(now, key),
            Output::Established(key) => self.tell_friendship(key.1, FriendshipRole::Friend, true),
            Output::Ended(key) => self.tell_friendship(key.1, FriendshipRole::Friend, false),
        }
    }

    fn do_for_low_power(&mut self, output: low_power::Output) {
        use low_power::Output;
        let Some(subnet) = self.low_power.as_ref().map(LowPower::subnet) else { return };
        match output {
            Output::Send { credentials, dst, message } => {
                self.send_friendship(subnet, credentials, Ttl::ZERO, dst, &message);
            }
            Output::Chosen(parameters) => self.keys.add_friendship(subnet, parameters),
            Output::Forget(parameters) => self.keys.remove_friendship(subnet, parameters),
            Output::Established(friend) => self.tell_friendship(friend, FriendshipRole::LowPower, true),
            Output::Ended(friend) => {
                self.reassembler.cancel_by_friend();
                self.tell_friendship(friend, FriendshipRole::LowPower, false);
            }
        }
    }

    fn tell_friendship(&mut self, with: UnicastAddress, role: FriendshipRole, has_begun: bool) {
        self.events.push_back(Event::Friendship { with, role, has_begun });
        if role == FriendshipRole::LowPower {
            // The state is what it is now; before it was the other way round (§3.6.7.2).
            self.tell_features(Features(self.features().0 ^ Features::LOW_POWER.0));
        }
    }

    /// Sends a control message of friendship from the primary element.
    fn send_friendship(
        &mut self,
        net_key_index: NetKeyIndex,
        credentials: Credentials,
        ttl: Ttl,
        dst: Address,
        message: &FriendshipMessage,
    ) {
        let pdu = LowerTransportPdu::UnsegmentedControl(message.opcode(), message.encode());
        let src = self.address;
        let outgoing = Outgoing { net_key_index, ttl, src, dst, pdu, credentials, seq: None };
        let is_repeated =
            matches!(message, FriendshipMessage::Clear { .. } | FriendshipMessage::ClearConfirm { .. });
        // Without sequence numbers there is no friendship; the other node notices.
        let _ =
            if is_repeated { self.send_at_once(&outgoing) } else { self.send_once(&outgoing).map(|_| ()) };
    }

    /// Sends a PDU once, and returns it.
    fn send_once(&mut self, outgoing: &Outgoing) -> Result<mesh_wire::network::NetworkPdu, SendError> {
        let seq = match outgoing.seq {
            Some(seq) => seq,
            None => self.network.take_seq().map_err(|SequenceExhausted| SendError::SequenceExhausted)?,
        };
        self.record_sequence();
        self.segmenter.handle_seq(seq);
        let pdu = outgoing.to_pdu(seq);
        let at = (&pdu, self.network.iv_index());
        let (subnet, credentials) = (outgoing.net_key_index, outgoing.credentials);
        self.transmit.extend(self.network.send_once(&self.keys, subnet, credentials, at));
        Ok(pdu)
    }

    /// Tells the Low Power nodes of this node, in one subnet or in all, of a change of IV Index, flags or keys.
    pub(super) fn tell_low_power_nodes(&mut self, subnet: Option<NetKeyIndex>) {
        let iv_index = self.network.iv.index();
        if let Some(friend) = &mut self.friend {
            if subnet.is_none() {
                friend.change_iv_index(iv_index);
            }
            friend.store_update(subnet);
        }
    }

    pub(super) fn has_low_power_node(&self, net_key_index: NetKeyIndex, dst: Address) -> bool {
        self.friend.as_ref().is_some_and(|friend| friend.has_listener(net_key_index, dst))
    }

    /// Stores an access message of this node's own elements for its Low Power nodes.
    pub(super) fn store_message(
        &mut self,
        net_key_index: NetKeyIndex,
        message: &OutgoingMessage,
    ) -> Result<(), SendError> {
        let src = self.address.element(message.element).ok_or(SendError::UnknownKey)?;
        let own = OwnMessage {
            src,
            destination: message.destination,
            key: message.key,
            ttl: message.ttl.unwrap_or(self.default_ttl),
            payload: message.payload.clone(),
            segmented: message.segmented,
        };
        let dst = message.destination.address();
        let Some(friend) = &mut self.friend else { return Ok(()) };
        if friend.store_own(net_key_index, dst, &Stored::Access(own)) { Ok(()) } else { Err(SendError::Busy) }
    }

    /// Stores a control message of this node's own for its Low Power nodes. Returns whether nobody else is to get it.
    pub(super) fn store_control(&mut self, outgoing: &Outgoing) -> bool {
        let Some(friend) = &mut self.friend else { return false };
        if !friend.has_listener(outgoing.net_key_index, outgoing.dst) {
            return false;
        }
        friend.store_own(outgoing.net_key_index, outgoing.dst, &Stored::Own(outgoing.clone()));
        outgoing.dst.unicast().is_some()
    }

    /// Sends the oldest of a Friend Queue, for the first time or once more.
    fn answer_poll(&mut self, now: Instant, key: friend::Key) {
        // An own message may turn into its segments first, or away with its key.
        for _ in 0..=u8::MAX {
            let iv_index = self.network.iv.index();
            let Some((queue, parameters)) = self.friend.as_mut().and_then(|x| x.queue_mut(key)) else {
                return;
            };
            let has_more = queue.has_more();
            let Some((stored, sent)) = queue.oldest(iv_index) else {
                queue.push(Stored::Update);
                continue;
            };
            if let Some((pdu, iv_index)) = sent {
                let at = (pdu, *iv_index);
                let credentials = Credentials::Friendship(parameters);
                self.transmit.extend(self.network.send_once(&self.keys, key.0, credentials, at));
                return;
            }
            match stored.clone() {
                Stored::Received { pdu, iv_index } => queue.fix(pdu, iv_index),
                Stored::Access(message) => {
                    let pdus = self.secure_own(now, key.0, &message).unwrap_or_default();
                    if let Some((queue, _)) = self.friend.as_mut().and_then(|x| x.queue_mut(key)) {
                        queue.expand(pdus);
                    }
                }
                Stored::Own(outgoing) => return self.answer_with(key, parameters, outgoing),
                Stored::Update => {
                    let update = self.friend_update(key, parameters, has_more);
                    return self.answer_with(key, parameters, update);
                }
            }
        }
    }

    fn answer_with(&mut self, key: friend::Key, parameters: FriendshipParameters, outgoing: Outgoing) {
        let credentials = Credentials::Friendship(parameters);
        let Ok(pdu) = self.send_once(&Outgoing { credentials, ..outgoing }) else { return };
        let iv_index = self.network.iv_index();
        if let Some((queue, _)) = self.friend.as_mut().and_then(|friend| friend.queue_mut(key)) {
            queue.fix(pdu, iv_index);
        }
    }

    fn friend_update(&self, key: friend::Key, parameters: FriendshipParameters, more_data: bool) -> Outgoing {
        let phase = self.keys.subnet(key.0).map(|subnet| subnet.phase);
        let flags = NetworkFlags {
            key_refresh: phase == Some(KeyRefreshPhase::Second),
            iv_update: self.network.iv.is_in_progress(),
        };
        let message = FriendshipMessage::Update { flags, iv_index: self.network.iv.index(), more_data };
        Outgoing {
            net_key_index: key.0,
            ttl: Ttl::ZERO,
            src: self.address,
            dst: key.1.into(),
            pdu: LowerTransportPdu::UnsegmentedControl(message.opcode(), message.encode()),
            credentials: Credentials::Friendship(parameters),
            seq: None,
        }
    }

    /// Secures an own message for a Low Power node: the first PDU has the sequence number that secures it, further
    /// segments get theirs when they are sent.
    fn secure_own(
        &mut self,
        now: Instant,
        net_key_index: NetKeyIndex,
        message: &OwnMessage,
    ) -> Result<Vec<Stored>, SendError> {
        self.spare_sequence(now);
        let seq = self.network.take_seq().map_err(|SequenceExhausted| SendError::SequenceExhausted)?;
        self.record_sequence();
        let (src, dst) = (message.src, message.destination.address());
        let seq_auth = SeqAuth { iv_index: self.network.iv_index(), seq };
        let envelope = Envelope { net_key_index, src, dst, seq_auth };
        let to = &message.destination;
        let mic = Mic::Bits32;
        let secured = upper_transport::secure(&self.keys, message.key, to, &envelope, &message.payload, mic)
            .map_err(|upper_transport::UnknownKey| SendError::UnknownKey)?;
        let store = |number: usize, pdu| {
            let seq = (number == 0).then_some(seq);
            let (ttl, credentials) = (message.ttl, Credentials::Flooding);
            Stored::Own(Outgoing { net_key_index, ttl, src, dst, pdu, credentials, seq })
        };
        if !message.is_segmented() {
            let pdu = LowerTransportPdu::UnsegmentedAccess(secured.hint, secured.upper.into());
            return Ok(alloc::vec![store(0, pdu)]);
        }
        let seg_n = u8::try_from(message.pdus() - 1).unwrap_or(31);
        let segments = secured.upper.chunks(ACCESS_SEGMENT).enumerate().map(|(number, octets)| {
            let kind = SegmentedKind::Access { key: secured.hint, szmic: false };
            let seg_o = u8::try_from(number).unwrap_or(seg_n);
            let segment = Segment { kind, seq_zero: seq.zero(), seg_o, seg_n, octets: octets.into() };
            store(number, LowerTransportPdu::Segment(segment))
        });
        Ok(segments.collect())
    }
}
