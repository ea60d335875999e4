//! The PB-ADV bearer (MshPRT §5.2.1, §5.3): a link and its transactions on the advertising bearer.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use clock::{Instant, Timers};
use mesh_wire::beacon::{Beacon, UnprovisionedDevice};
use mesh_wire::bearer::AdType;
use mesh_wire::bearer::pb_adv::{BearerControl, CloseReason, DeviceUuid, GenericPdu, PbAdvPdu};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::transaction::{Incoming, Numbers, Outgoing, Progress};
use super::{LinkEnd, Protocol, Provisionee, Provisioner};
use crate::bearer::{Received, Transmission};

/// How long a device may take to acknowledge a Link Open (MshPRT §5.3.2).
const LINK_ESTABLISHMENT: Duration = Duration::from_secs(60);

/// How long the other end may take to acknowledge a transaction (MshPRT §5.3.3).
const ACKNOWLEDGMENT: Duration = Duration::from_secs(30);

/// How often a Link Close is sent, at least (MshPRT §5.3.1.4.3).
const LINK_CLOSE_COUNT: u8 = 3;

/// How many provisioning PDUs wait for the transaction before them. The protocol has two to send at once at most.
const MAX_WAITING: usize = 4;

/// What the specification leaves to the implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PbAdvConfig {
    /// After how long without an answer a Link Open or a transaction is sent again. A peer that takes longer than
    /// this to answer, as a slow one may, can fall behind for ever: BlueZ drops the answer that it was about to send.
    pub retry: Duration,
    /// Time between two Unprovisioned Device beacons.
    pub beacon_interval: Duration,
}

impl Default for PbAdvConfig {
    fn default() -> Self {
        Self { retry: Duration::from_millis(500), beacon_interval: Duration::from_secs(2) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The next beacon is due.
    Beacon,
    /// The next segment of the transaction is due.
    Segment,
    /// The Link Open or the transaction is to be repeated.
    Retry,
    /// The other end had its time to answer.
    GiveUp,
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Device(UnprovisionedDevice),
    Provisioner(DeviceUuid),
}

/// One end of the provisioning protocol on the advertising bearer.
#[derive(Debug)]
pub struct PbAdv<P> {
    protocol: P,
    role: Role,
    config: PbAdvConfig,
    link: Option<Link>,
    /// The link that this end closed last, and why: who still talks in it did not hear of that.
    closed: Option<(u32, CloseReason)>,
    timers: Timers<Timer>,
    rng: ChaCha8Rng,
    transmit: VecDeque<Transmission>,
}

#[derive(Debug)]
struct Link {
    id: u32,
    /// Whether the device has agreed.
    is_open: bool,
    /// Whether a provisioning PDU came; a Link Open is not answered any more then.
    is_in_use: bool,
    numbers: Numbers,
    outgoing: Option<Outgoing>,
    queue: VecDeque<Vec<u8>>,
    incoming: Incoming,
}

impl Link {
    fn new(id: u32, own: Numbers, other: Numbers) -> Self {
        Self {
            id,
            is_open: false,
            is_in_use: false,
            numbers: own,
            outgoing: None,
            queue: VecDeque::new(),
            incoming: Incoming::from(other),
        }
    }
}

impl PbAdv<Provisionee> {
    /// A device that beacons and waits for a link. Delays come from `seed`.
    pub fn device(
        now: Instant,
        device: Provisionee,
        beacon: UnprovisionedDevice,
        config: PbAdvConfig,
        seed: [u8; 32],
    ) -> Self {
        let mut pb_adv = Self::new(device, Role::Device(beacon), config, seed);
        pb_adv.timers.set(Timer::Beacon, now);
        pb_adv
    }
}

impl PbAdv<Provisioner> {
    /// Opens a link to the device with this UUID. Its id and delays come from `seed`.
    pub fn open(
        now: Instant,
        provisioner: Provisioner,
        uuid: DeviceUuid,
        config: PbAdvConfig,
        seed: [u8; 32],
    ) -> Self {
        let mut pb_adv = Self::new(provisioner, Role::Provisioner(uuid), config, seed);
        let id = pb_adv.rng.next_u32();
        pb_adv.open_link(now, id);
        pb_adv
    }

    /// The same with a link id that is given, to reproduce a session that is written down.
    pub fn open_with_id(
        now: Instant,
        provisioner: Provisioner,
        uuid: DeviceUuid,
        config: PbAdvConfig,
        id: u32,
    ) -> Self {
        let mut pb_adv = Self::new(provisioner, Role::Provisioner(uuid), config, [0; 32]);
        pb_adv.open_link(now, id);
        pb_adv
    }

    fn open_link(&mut self, now: Instant, id: u32) {
        self.link = Some(Link::new(id, Numbers::PROVISIONER, Numbers::DEVICE));
        self.timers.set(Timer::GiveUp, now + LINK_ESTABLISHMENT);
        self.send_link_open(now);
    }
}

impl<P: Protocol> PbAdv<P> {
    fn new(protocol: P, role: Role, config: PbAdvConfig, seed: [u8; 32]) -> Self {
        Self {
            protocol,
            role,
            config,
            link: None,
            closed: None,
            timers: Timers::new(),
            rng: ChaCha8Rng::from_seed(seed),
            transmit: VecDeque::new(),
        }
    }

    /// The end of the protocol that is carried.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// Has the host act on it, and sends what it then has to say.
    pub fn with_protocol<T>(&mut self, now: Instant, act: impl FnOnce(&mut P) -> T) -> T {
        let result = act(&mut self.protocol);
        self.flush(now);
        result
    }

    /// Whether a link is open.
    pub fn is_linked(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.is_open)
    }

    /// Whether there is nothing left to do: the session has ended, and all was handed out.
    pub fn is_finished(&self) -> bool {
        self.protocol.is_done() && self.link.is_none() && self.transmit.is_empty()
    }

    /// Takes what a bearer received. What is not PB-ADV, or of another link, is ignored.
    pub fn handle_pdu(&mut self, now: Instant, received: &Received<'_>) {
        if received.ad_type != AdType::PbAdv {
            return;
        }
        let Ok(pdu) = PbAdvPdu::decode(received.data) else { return };
        match pdu.content {
            GenericPdu::BearerControl(BearerControl::LinkOpen(uuid)) => {
                self.handle_link_open(now, pdu.link_id, &uuid);
            }
            _ if self.link.as_ref().is_some_and(|link| link.id == pdu.link_id) => {
                self.handle_in_link(now, &pdu);
            }
            // Of a link that this end has closed: the other did not hear it.
            GenericPdu::TransactionStart { .. } => match self.closed {
                Some((id, reason)) if id == pdu.link_id => self.send_link_close(id, reason),
                _ => {}
            },
            _ => {}
        }
        self.flush(now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_expired(now) {
            match timer {
                Timer::Beacon => self.send_beacon(now),
                Timer::Segment => self.send_segment(now),
                Timer::Retry => self.send_again(now),
                Timer::GiveUp => self.give_up(now),
            }
        }
        self.protocol.handle_timeout(now);
        self.flush(now);
    }

    /// When [`PbAdv::handle_timeout`] is next due. May change with every call that takes `&mut self`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next().into_iter().chain(self.protocol.poll_timeout()).min()
    }

    /// The next advertisement to be sent.
    pub fn poll_transmit(&mut self) -> Option<Transmission> {
        self.transmit.pop_front()
    }

    /// A device takes a link when it has none, and confirms the one that it has until it is in use
    /// (MshPRT §5.3.2).
    fn handle_link_open(&mut self, now: Instant, id: u32, uuid: &DeviceUuid) {
        let Role::Device(beacon) = self.role else { return };
        if beacon.uuid != *uuid || self.protocol.is_done() {
            return;
        }
        match &self.link {
            Some(link) if link.id != id || link.is_in_use => return,
            Some(_) => {}
            None => {
                let mut link = Link::new(id, Numbers::DEVICE, Numbers::PROVISIONER);
                link.is_open = true;
                self.link = Some(link);
                self.protocol.handle_link_open(now);
            }
        }
        self.send(id, 0, GenericPdu::BearerControl(BearerControl::LinkAck));
    }

    fn handle_in_link(&mut self, now: Instant, pdu: &PbAdvPdu) {
        let Some(link) = &mut self.link else { return };
        match &pdu.content {
            GenericPdu::BearerControl(BearerControl::LinkAck) => {
                if matches!(self.role, Role::Provisioner(_)) && !link.is_open {
                    link.is_open = true;
                    self.stop_timers();
                    self.protocol.handle_link_open(now);
                }
            }
            GenericPdu::BearerControl(BearerControl::LinkClose(reason)) => {
                self.end_link(now, LinkEnd::Closed(*reason));
            }
            GenericPdu::BearerControl(BearerControl::LinkOpen(_)) => {}
            GenericPdu::TransactionAck => {
                if link.outgoing.take_if(|sent| sent.number == pdu.transaction).is_some() {
                    let is_all = link.queue.is_empty();
                    self.stop_timers();
                    if is_all {
                        self.protocol.handle_delivered(now);
                    }
                }
            }
            GenericPdu::TransactionStart { .. } | GenericPdu::TransactionContinuation { .. } => {
                if !link.is_open {
                    return;
                }
                let (id, progress) = (link.id, link.incoming.handle(pdu.transaction, &pdu.content));
                match progress {
                    Progress::None => {}
                    Progress::Repeated => self.send(id, pdu.transaction, GenericPdu::TransactionAck),
                    Progress::Whole(octets) => {
                        link.is_in_use = true;
                        // Only now it is being provisioned (§5.3.2), and beacons no more (§5.4.2.1): a link that somebody
                        // opens and does not use hides no device.
                        self.timers.cancel(&Timer::Beacon);
                        // Who goes on has got what was said: each end answers the other. BlueZ's answer overtakes its
                        // acknowledgment.
                        if link.outgoing.take_if(|sent| sent.next == sent.segments.len()).is_some() {
                            self.stop_timers();
                        }
                        self.send(id, pdu.transaction, GenericPdu::TransactionAck);
                        self.protocol.handle_pdu(now, &octets);
                    }
                }
            }
        }
    }

    /// Starts what can be started, and closes the link if the protocol has it closed.
    fn flush(&mut self, now: Instant) {
        while let Some(pdu) = self.protocol.poll_transmit() {
            // A peer that says much and acknowledges nothing does not make this grow.
            if let Some(link) = self.link.as_mut().filter(|link| link.queue.len() < MAX_WAITING) {
                link.queue.push_back(pdu);
            }
        }
        if let Some(reason) = self.protocol.poll_close()
            && let Some(link) = self.link.take()
        {
            self.closed = Some((link.id, reason));
            self.send_link_close(link.id, reason);
            self.stop_timers();
            self.resume_beacons(now);
        }
        let Some(link) = &mut self.link else { return };
        if link.is_open
            && link.outgoing.is_none()
            && let Some(pdu) = link.queue.pop_front()
        {
            link.outgoing = Some(Outgoing::new(link.numbers.take(), &pdu));
            self.timers.set(Timer::GiveUp, now + ACKNOWLEDGMENT);
            self.send_transaction(now);
        }
    }

    fn send_again(&mut self, now: Instant) {
        match &self.link {
            Some(link) if link.is_open => self.send_transaction(now),
            Some(_) => self.send_link_open(now),
            None => {}
        }
    }

    /// Sends the transaction from its first segment on. Segments leave one by one, so that those that are not needed
    /// any more, once it is acknowledged, are not sent.
    fn send_transaction(&mut self, now: Instant) {
        let delay = self.random_delay();
        if let Some(outgoing) = self.link.as_mut().and_then(|link| link.outgoing.as_mut()) {
            outgoing.next = 0;
            self.timers.set(Timer::Segment, now + delay);
        }
    }

    fn send_segment(&mut self, now: Instant) {
        let delay = self.random_delay();
        let Some(link) = &mut self.link else { return };
        let Some(outgoing) = &mut link.outgoing else { return };
        let Some(content) = outgoing.segments.get(outgoing.next).cloned() else { return };
        outgoing.next += 1;
        let is_last = outgoing.next == outgoing.segments.len();
        let pdu = PbAdvPdu { link_id: link.id, transaction: outgoing.number, content };
        self.transmit_after(Duration::ZERO, &pdu);
        if is_last {
            self.timers.set(Timer::Retry, now + self.config.retry);
        } else {
            self.timers.set(Timer::Segment, now + delay);
        }
    }

    fn send_link_open(&mut self, now: Instant) {
        let (Some(link), Role::Provisioner(uuid)) = (&self.link, self.role) else { return };
        self.send(link.id, 0, GenericPdu::BearerControl(BearerControl::LinkOpen(uuid)));
        self.timers.set(Timer::Retry, now + self.config.retry);
    }

    fn send_link_close(&mut self, link_id: u32, reason: CloseReason) {
        let content = GenericPdu::BearerControl(BearerControl::LinkClose(reason));
        self.send(link_id, 0, content);
        if let Some(last) = self.transmit.back_mut() {
            last.count = LINK_CLOSE_COUNT;
            last.interval = Duration::from_millis(50);
        }
    }

    fn give_up(&mut self, now: Instant) {
        let Some(link) = &self.link else { return };
        let (id, is_open) = (link.id, link.is_open);
        self.send_link_close(id, CloseReason::Timeout);
        self.closed = Some((id, CloseReason::Timeout));
        self.end_link(now, if is_open { LinkEnd::Unacknowledged } else { LinkEnd::NotOpened });
    }

    fn end_link(&mut self, now: Instant, end: LinkEnd) {
        self.link = None;
        self.stop_timers();
        self.protocol.handle_link_end(now, end);
        self.resume_beacons(now);
    }

    fn stop_timers(&mut self) {
        self.timers.cancel(&Timer::Segment);
        self.timers.cancel(&Timer::Retry);
        self.timers.cancel(&Timer::GiveUp);
    }

    fn resume_beacons(&mut self, now: Instant) {
        if matches!(self.role, Role::Device(_))
            && !self.protocol.is_done()
            && self.timers.get(&Timer::Beacon).is_none()
        {
            self.timers.set(Timer::Beacon, now + self.config.beacon_interval);
        }
    }

    fn send_beacon(&mut self, now: Instant) {
        let Role::Device(beacon) = self.role else { return };
        // Devices that were switched on together, or a scanner with the same rhythm, would miss every one.
        let delay = self.random_delay();
        self.transmit.push_back(Transmission {
            ad_type: AdType::MeshBeacon,
            data: Beacon::UnprovisionedDevice(beacon).encode(),
            count: 1,
            interval: Duration::ZERO,
            delay,
        });
        self.timers.set(Timer::Beacon, now + self.config.beacon_interval);
    }

    fn send(&mut self, link_id: u32, transaction: u8, content: GenericPdu) {
        let delay = self.random_delay();
        self.transmit_after(delay, &PbAdvPdu { link_id, transaction, content });
    }

    fn transmit_after(&mut self, delay: Duration, pdu: &PbAdvPdu) {
        self.transmit.push_back(Transmission {
            ad_type: AdType::PbAdv,
            data: pdu.encode(),
            count: 1,
            interval: Duration::ZERO,
            delay,
        });
    }

    /// Each Generic Provisioning PDU waits 20 to 50 ms (MshPRT §5.3.3).
    fn random_delay(&mut self) -> Duration {
        Duration::from_millis(u64::from(20 + self.rng.next_u32() % 31))
    }
}
