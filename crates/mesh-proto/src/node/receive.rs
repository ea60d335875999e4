//! The way up: from a bearer to a model.

use alloc::vec::Vec;

use core::time::Duration;

use clock::Instant;
use mesh_crypto::{LabelUuid, Mic};
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::bearer::AdType;
use mesh_wire::foundation::ConfigMessage;
use mesh_wire::friendship::FriendshipMessage;
use mesh_wire::lower_transport::{KeyHint, LowerTransportPdu, Segment, SegmentedKind};
use mesh_wire::network::{Header, ivi_nid};
use mesh_wire::{DecodeError, ModelId, NetKeyIndex, SeqAuth, Ttl, heartbeat};

use super::{Event, Node, OutgoingMessage};
use crate::access::{Access, Context, ModelEntry, Place, Reach, ReceivedMessage, ServerEntry};
use crate::bearer::Received;
use crate::discard::Discard;
use crate::keys::MessageKey;
use crate::lower_transport::SegmentSource;
use crate::network::{Arrived, RELAY_DELAY_MAX};
use crate::sabotage::{self, Fault};
use crate::upper_transport::{self, Destination, Envelope, Opened};

/// An access message on its way to the models.
struct Delivery {
    net_key_index: NetKeyIndex,
    source: UnicastAddress,
    destination: Destination,
    ttl: Ttl,
    rssi: Option<i8>,
    key: MessageKey,
    payload: Vec<u8>,
}

impl Node {
    pub(super) fn receive(&mut self, now: Instant, received: &Received<'_>) -> Result<(), Discard> {
        match received.ad_type {
            AdType::MeshMessage => {}
            AdType::MeshBeacon => return self.receive_beacon(now, received.data),
            AdType::PbAdv => return Err(Discard::AdType),
        }
        let arrived = self.network.receive(&self.keys, received.data).inspect_err(|_| {
            if sabotage::is(Fault::ReplayListBeforeMic) {
                self.note_unchecked(received.data);
            }
        })?;
        let is_to_be_relayed = self.note_friendship(now, &arrived)?;
        let delay = self.random_ms(0, u32::try_from(RELAY_DELAY_MAX.as_millis()).unwrap_or(0));
        if is_to_be_relayed && let Some(relayed) = self.network.relay(&self.keys, &arrived, delay) {
            self.transmit.push_back(relayed);
        }
        if is_to_be_relayed {
            self.pass_to_bearers(&arrived, None);
        }
        self.receive_network(now, &arrived, Some(received.rssi))
    }

    /// Takes a network PDU, from whatever bearer it came.
    pub(super) fn receive_network(
        &mut self,
        now: Instant,
        arrived: &Arrived,
        rssi: Option<i8>,
    ) -> Result<(), Discard> {
        let is_stored = self.friend.as_mut().is_some_and(|friend| friend.store(now, arrived));
        if !self.is_for_this_node(arrived.pdu.dst) && !self.counts_heartbeats_to(now, arrived.pdu.dst) {
            return if is_stored { Ok(()) } else { Err(Discard::NotForThisNode) };
        }
        let lower = LowerTransportPdu::decode(arrived.pdu.ctl, &arrived.pdu.transport_pdu)
            .map_err(|_| Discard::TransportPdu)?;
        match self.replay_list.check(arrived.pdu.src, arrived.seq_auth()) {
            // A Friend keeps segments until it has them all, and lets pass what their source sent later, such as its
            // acknowledgments. That the message is new, its SeqAuth says.
            Err(Discard::Replayed) if is_segment(&lower) && self.is_from_friend(arrived) => {}
            other => other?,
        }
        match lower {
            LowerTransportPdu::UnsegmentedAccess(hint, upper) => {
                let opened = self.open(hint, arrived, arrived.seq_auth(), &upper, Mic::Bits32)?;
                self.replay_list.note(arrived.pdu.src, arrived.seq_auth());
                self.record_replay(arrived.pdu.src);
                self.deliver_opened(now, arrived, opened, rssi)
            }
            LowerTransportPdu::Segment(segment) => self.receive_segment(now, arrived, &segment, rssi),
            LowerTransportPdu::SegmentAck(ack) => {
                let Address::Unicast(own) = arrived.pdu.dst else {
                    return Err(Discard::UnknownAck);
                };
                self.segmenter.handle_ack(now, arrived.pdu.src, own, arrived.net_key_index, ack)?;
                self.replay_list.note(arrived.pdu.src, arrived.seq_auth());
                self.record_replay(arrived.pdu.src);
                Ok(())
            }
            LowerTransportPdu::UnsegmentedControl(opcode, parameters) => {
                match opcode {
                    heartbeat::OPCODE => self.receive_heartbeat(now, arrived, &parameters)?,
                    opcode if FriendshipMessage::has_opcode(opcode) => {
                        self.receive_friendship(now, arrived, opcode, &parameters, rssi)?;
                    }
                    _ => return Err(Discard::ControlOpcode),
                }
                self.replay_list.note(arrived.pdu.src, arrived.seq_auth());
                self.record_replay(arrived.pdu.src);
                Ok(())
            }
        }
    }

    /// What no node may do: notes what a PDU says of itself.
    fn note_unchecked(&mut self, octets: &[u8]) {
        let Some((ivi, nid)) = ivi_nid(octets) else { return };
        let Some(iv_index) = self.network.iv.receiving(ivi) else { return };
        for material in self.keys.receiving_material().filter(|material| material.keys.nid() == nid) {
            if let Ok(header) = Header::deobfuscate(octets, material.keys, iv_index) {
                self.replay_list.note(header.src, SeqAuth { iv_index, seq: header.seq });
            }
        }
    }

    fn is_for_this_node(&self, dst: Address) -> bool {
        match dst {
            Address::Unassigned => false,
            Address::Unicast(address) => self.network.own_element(address).is_some(),
            Address::Virtual(_) => self.elements.has_subscriber(dst),
            Address::Group(_) => {
                self.elements.has_subscriber(dst)
                    || matches!(self.reach(Destination::Address(dst)), Some(Reach::Fixed(_)))
            }
        }
    }

    fn reach(&self, destination: Destination) -> Option<Reach> {
        Reach::of(destination, |address| self.network.own_element(address), self.features())
    }

    fn receive_segment(
        &mut self,
        now: Instant,
        arrived: &Arrived,
        segment: &Segment,
        rssi: Option<i8>,
    ) -> Result<(), Discard> {
        let source =
            SegmentSource { by_friend: self.is_from_friend(arrived), ..SegmentSource::from(arrived) };
        if !self.reassembler.knows(&source, segment) {
            let seq_auth =
                SeqAuth::of_segment(source.seq_auth, segment.seq_zero).ok_or(Discard::TransportPdu)?;
            self.replay_list.check_segmented(source.src, seq_auth)?;
        }
        let Some(whole) = self.reassembler.handle_segment(now, source, segment)? else {
            return Ok(());
        };
        let SegmentedKind::Access { key, szmic } = whole.kind else {
            return Err(Discard::ControlOpcode);
        };
        let mic = if szmic { Mic::Bits64 } else { Mic::Bits32 };
        let opened = self.open(key, arrived, whole.seq_auth, &whole.upper, mic)?;
        self.replay_list.note_segmented(source.src, whole.seq_auth, source.seq_auth);
        self.record_replay(source.src);
        self.deliver_opened(now, arrived, opened, rssi)
    }

    fn open(
        &self,
        hint: KeyHint,
        arrived: &Arrived,
        seq_auth: SeqAuth,
        upper: &[u8],
        mic: Mic,
    ) -> Result<Opened, Discard> {
        let envelope = Envelope {
            net_key_index: arrived.net_key_index,
            src: arrived.pdu.src,
            dst: arrived.pdu.dst,
            seq_auth,
        };
        let labels: Vec<LabelUuid> = match arrived.pdu.dst {
            Address::Virtual(_) => self.elements.labels(),
            _ => Vec::new(),
        };
        upper_transport::open(&self.keys, &labels, hint, &envelope, upper, mic)
    }

    fn deliver_opened(
        &mut self,
        now: Instant,
        arrived: &Arrived,
        opened: Opened,
        rssi: Option<i8>,
    ) -> Result<(), Discard> {
        let destination = opened.label.map_or(Destination::Address(arrived.pdu.dst), Destination::Label);
        self.deliver(
            now,
            &Delivery {
                net_key_index: arrived.net_key_index,
                source: arrived.pdu.src,
                destination,
                ttl: arrived.pdu.ttl,
                rssi,
                key: opened.key,
                payload: opened.payload,
            },
        )
    }

    /// Gives this node's models what one of its own elements sends to a destination that they belong to. On
    /// a bearer it would not come back, and would be taken for a replay if it did.
    pub(super) fn loop_back(&mut self, now: Instant, net_key_index: NetKeyIndex, message: &OutgoingMessage) {
        let address = message.destination.address();
        if !self.is_for_this_node(address) {
            return;
        }
        let Some(source) = self.address.element(message.element) else {
            return;
        };
        let delivery = Delivery {
            net_key_index,
            source,
            destination: message.destination,
            ttl: message.ttl.unwrap_or(self.default_ttl),
            rssi: None,
            key: message.key,
            payload: message.payload.clone(),
        };
        if let Err(discard) = self.deliver(now, &delivery) {
            self.discard(discard);
        }
    }

    /// Gives an access message to each model that it reaches (MshPRT §3.7.3.4).
    fn deliver(&mut self, now: Instant, delivery: &Delivery) -> Result<(), Discard> {
        let (opcode, parameters) = Opcode::decode(&delivery.payload).map_err(|_| Discard::AccessPdu)?;
        let reach = self.reach(delivery.destination).ok_or(Discard::NoModel)?;
        if delivery.key == MessageKey::LocalDevice {
            return self.deliver_to_configuration_server(now, delivery, reach, opcode, parameters);
        }
        let mut result = Err(Discard::NoModel);
        let mut outcomes = Vec::new();
        let (elements, servers) = self.elements.split_mut();
        let models =
            (0..=u8::MAX).zip(elements).flat_map(|(at, x)| x.models.iter().map(move |model| (at, model)));
        for (element, entry) in models {
            if !reach.covers(element, entry) || !is_reached_by(servers, entry, delivery.key, opcode) {
                continue;
            }
            let message = ReceivedMessage {
                element,
                model: entry.id,
                source: delivery.source,
                destination: delivery.destination,
                ttl: delivery.ttl,
                rssi: delivery.rssi,
                key: delivery.key,
                opcode,
                parameters: parameters.to_vec(),
            };
            match entry.access {
                Access::Server(number) => {
                    let ServerEntry { first_element, server } = &mut servers[number];
                    let place = Place { element: element - *first_element, model: entry.id };
                    let mut context = Context::default();
                    match server.handle_message(now, place, &message, &mut context) {
                        Ok(()) => outcomes.push((element, number, *first_element, context)),
                        Err(_) => {
                            result = Err(Discard::Parameters);
                            continue;
                        }
                    }
                }
                Access::Host(_) => self.events.push_back(Event::Message(message)),
                Access::Foundation => continue,
            }
            result = Ok(());
        }
        for (element, number, first_element, mut context) in outcomes {
            if let Some(payload) = context.reply.take() {
                self.answer(now, element, delivery, payload);
            }
            // Where many have heard the same, they must not all publish at once.
            let is_unicast = delivery.destination.address().unicast().is_some();
            let delay = if is_unicast { Duration::ZERO } else { self.random_ms(20, 500) };
            self.follow_up(now, delay, number, first_element, context);
        }
        result
    }

    fn deliver_to_configuration_server(
        &mut self,
        now: Instant,
        delivery: &Delivery,
        reach: Reach,
        opcode: Opcode,
        parameters: &[u8],
    ) -> Result<(), Discard> {
        if reach != Reach::Element(0) {
            return Err(Discard::NoModel);
        }
        let request = ConfigMessage::decode(opcode, parameters).map_err(|error| match error {
            DecodeError::UnknownOpcode => Discard::NoModel,
            _ => Discard::Parameters,
        })?;
        let answer = self.configure(now, &request, delivery.net_key_index).ok_or(Discard::NoModel)?;
        self.answer(now, 0, delivery, answer.encode());
        Ok(())
    }

    /// Does what a server asked for; what it publishes, after `delay`.
    pub(super) fn follow_up(
        &mut self,
        now: Instant,
        delay: Duration,
        number: usize,
        first_element: u8,
        context: Context,
    ) {
        if context.changed {
            self.record_server(number);
            self.events.push_back(Event::Changed { element: first_element });
        }
        for (place, payload) in context.publications {
            self.publish(now + delay, first_element.saturating_add(place.element), place.model, payload);
        }
        for place in context.hurried {
            self.hurry(now, first_element.saturating_add(place.element), place.model);
        }
    }

    /// Answers `delivery` under its own key: with TTL 0 if it came with TTL 0, after a random delay of 20 to
    /// 50 ms, or to 500 ms where many may answer (MshPRT §3.7.3.2).
    fn answer(&mut self, now: Instant, element: u8, delivery: &Delivery, payload: Vec<u8>) {
        let is_unicast = delivery.destination.address().unicast().is_some();
        let delay = self.random_ms(20, if is_unicast { 50 } else { 500 });
        let message = OutgoingMessage {
            element,
            destination: Destination::Address(delivery.source.into()),
            key: delivery.key,
            ttl: (delivery.ttl == Ttl::ZERO).then_some(Ttl::ZERO),
            payload,
            segmented: false,
        };
        self.wait(now + delay, delivery.net_key_index, message, true);
    }

    pub(super) fn handle_server_timeouts(&mut self, now: Instant) {
        let mut outcomes = Vec::new();
        for (number, entry) in self.elements.servers_mut().iter_mut().enumerate() {
            if entry.server.poll_timeout().is_some_and(|at| at <= now) {
                let mut context = Context::default();
                entry.server.handle_timeout(now, &mut context);
                outcomes.push((number, entry.first_element, context));
            }
        }
        for (number, first_element, context) in outcomes {
            // Other nodes come to the end of the same transition at the same time (MshPRT §3.7.3.1).
            let delay = self.random_ms(20, 500);
            self.follow_up(now, delay, number, first_element, context);
        }
    }
}

fn is_segment(pdu: &LowerTransportPdu) -> bool {
    matches!(pdu, LowerTransportPdu::Segment(_))
}

/// Whether a message under `key` with this opcode is the model's: an AppKey must be bound to it, and device
/// keys are the foundation models' (MshPRT §3.7.3.4).
fn is_reached_by(servers: &[ServerEntry], entry: &ModelEntry, key: MessageKey, opcode: Opcode) -> bool {
    let is_bound = match key {
        MessageKey::App(index) => entry.bindings.contains(&index),
        MessageKey::RemoteDevice => entry.id == ModelId::CONFIGURATION_CLIENT,
        MessageKey::LocalDevice => false,
    };
    let understands = match &entry.access {
        Access::Server(number) => servers[*number].server.understands(entry.id, opcode),
        Access::Host(opcodes) => opcodes.contains(&opcode),
        Access::Foundation => false,
    };
    is_bound && understands
}
