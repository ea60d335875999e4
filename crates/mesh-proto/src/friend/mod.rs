//! The Friend feature (MshPRT §3.6.6.3, §3.5.5): keeps what comes for Low Power nodes that sleep, and gives it to them
//! when they ask. It decides what is sent and when; the node secures it, and takes the sequence numbers.

mod queue;
mod segments;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use clock::{Instant, Timers};
use mesh_crypto::FriendshipParameters;
use mesh_wire::address::{Address, GroupAddress, UnicastAddress};
use mesh_wire::friendship::{FriendOffer, FriendRequest, FriendshipMessage};
use mesh_wire::lower_transport::LowerTransportPdu;
use mesh_wire::network::NetworkPdu;
use mesh_wire::{IvIndex, NetKeyIndex, Ttl};

use crate::discard::Discard;
use crate::keys::Credentials;
use crate::lower_transport::{Ack, SarReceiver};
use crate::network::Arrived;
use segments::Segments;

pub use queue::{FriendQueue, OwnMessage, Stored};

/// How long a Friend Offer holds.
const OFFER_HOLDS: Duration = Duration::from_secs(1);

/// The first wait for a Friend Clear Confirm; each further one is twice as long.
const FIRST_CLEAR_REPEAT: Duration = Duration::from_secs(1);

/// Low Power nodes that another Friend is told of, or that are remembered after the end of their friendship, at a time:
/// whoever has the key of a network could make up any number of them.
const MAX_REMEMBERED: usize = 64;

/// What a node with the Friend feature offers to each Low Power node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FriendSettings {
    /// Whether the Friend state is on until a Configuration Client says otherwise.
    pub enabled: bool,
    /// ReceiveWindow in milliseconds, 1 to 255: how long after the Receive Delay its answer may take. The less, the
    /// more batteries last.
    pub receive_window_ms: u8,
    /// Lower transport PDUs in a Friend Queue; the longest message has 32.
    pub queue_size: u8,
    /// Addresses in a Friend Subscription List.
    pub subscription_list_size: u8,
    /// Low Power nodes that it is the Friend of at a time, all subnets together.
    pub low_power_nodes: u8,
}

impl Default for FriendSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            receive_window_ms: 100,
            queue_size: 64,
            subscription_list_size: 32,
            low_power_nodes: 8,
        }
    }
}

/// A Low Power node, by subnet and primary element.
pub type Key = (NetKeyIndex, UnicastAddress);

/// What the node has to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a message from the primary element.
    Send {
        /// In this subnet.
        net_key_index: NetKeyIndex,
        /// Under this material.
        credentials: Credentials,
        /// With this TTL.
        ttl: Ttl,
        /// To this element.
        dst: UnicastAddress,
        /// This.
        message: FriendshipMessage,
    },
    /// Listen with the material of a friendship that may come of an offer.
    Offered(NetKeyIndex, FriendshipParameters),
    /// Send the oldest of a Friend Queue.
    Reply(Key),
    /// A Low Power node has taken the offer.
    Established(Key),
    /// Forget the material of a friendship, or of an offer that was not taken.
    Forget(NetKeyIndex, FriendshipParameters),
    /// A friendship is over.
    Ended(Key),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Send the Friend Offer.
    Offer(Key),
    /// The offer was not taken.
    OfferEnd(Key),
    /// Send what the Low Power node waits for.
    Reply(Key),
    /// The Low Power node has not been heard.
    Poll(Key),
    /// Send Friend Clear again.
    Clear(Key),
}

/// What a Low Power node waits for after its Receive Delay.
#[derive(Clone, Copy, Debug)]
enum Reply {
    Oldest,
    Confirm { transaction: u8 },
}

#[derive(Clone, Debug)]
struct Peer {
    request: FriendRequest,
    /// How strong the request was.
    rssi: i8,
    /// What the material of the friendship comes from, once the offer was sent.
    parameters: Option<FriendshipParameters>,
    /// The FSN of the last Friend Poll, once there was one.
    fsn: Option<bool>,
    reply: Option<Reply>,
    subscriptions: BTreeSet<Address>,
    queue: FriendQueue,
}

/// A Friend Clear that is repeated until the Friend before confirms it.
#[derive(Clone, Copy, Debug)]
struct Clearing {
    previous: UnicastAddress,
    lpn_counter: u16,
    wait: Duration,
    end: Instant,
}

/// The Friend of some Low Power nodes.
#[derive(Clone, Debug)]
pub struct Friend {
    settings: FriendSettings,
    address: UnicastAddress,
    /// FriendCounter.
    counter: u16,
    peers: BTreeMap<Key, Peer>,
    clearing: BTreeMap<Key, Clearing>,
    /// Friendships that ended before their Poll Timeout, until that: who tells of it, or tells again, is confirmed.
    cleared: BTreeMap<Key, (u16, Instant)>,
    segments: Segments,
    timers: Timers<Timer>,
    outputs: VecDeque<Output>,
}

impl Peer {
    fn is_established(&self) -> bool {
        self.fsn.is_some()
    }

    fn covers(&self, lpn: UnicastAddress, address: UnicastAddress) -> bool {
        let offset = u16::from(address).checked_sub(lpn.into());
        offset.is_some_and(|offset| offset < u16::from(self.request.elements))
    }

    fn listens_to(&self, lpn: UnicastAddress, dst: Address) -> bool {
        match dst {
            Address::Unicast(address) => self.covers(lpn, address),
            other => self.subscriptions.contains(&other),
        }
    }
}

impl Friend {
    /// The Friend whose primary element has `address`.
    pub fn new(address: UnicastAddress, settings: FriendSettings, sar: SarReceiver) -> Self {
        Self {
            settings,
            address,
            counter: 0,
            peers: BTreeMap::new(),
            clearing: BTreeMap::new(),
            cleared: BTreeMap::new(),
            segments: Segments::new(sar),
            timers: Timers::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Replaces the states by which it acknowledges segments for Low Power nodes.
    pub(crate) fn set_sar(&mut self, sar: SarReceiver) {
        self.segments.set_sar(sar);
    }

    /// The Low Power nodes that it is the Friend of.
    pub fn low_power_nodes(&self) -> impl Iterator<Item = Key> {
        self.peers.iter().filter(|(_, peer)| peer.is_established()).map(|(&key, _)| key)
    }

    /// What is left of the Poll Timeout of a Low Power node, in steps of 100 ms; 0: it has another Friend, or none.
    pub fn poll_timeout_of(&self, now: Instant, lpn: UnicastAddress) -> u32 {
        let ends = self.low_power_nodes().filter(|(_, address)| *address == lpn);
        let end = ends.filter_map(|key| self.timers.get(&Timer::Poll(key))).max();
        // Less than a second cannot be said.
        end.map_or(0, |end| mesh_wire::friendship::PollTimeout::of(end - now).steps())
    }

    /// Ends all friendships and offers, or those for which `ends` holds.
    pub fn end(&mut self, ends: impl Fn(NetKeyIndex) -> bool) {
        let keys: Vec<Key> = self.peers.keys().copied().filter(|key| ends(key.0)).collect();
        keys.into_iter().for_each(|key| self.forget(key));
        self.clearing.retain(|key, _| !ends(key.0));
    }

    /// Takes a message that is for the Friend.
    ///
    /// # Errors
    /// Why nothing comes of it.
    pub fn receive(
        &mut self,
        now: Instant,
        arrived: &Arrived,
        message: FriendshipMessage,
        rssi: Option<i8>,
    ) -> Result<(), Discard> {
        let key = (arrived.net_key_index, arrived.pdu.src);
        let is_flooding = arrived.credentials == Credentials::Flooding;
        // These come from afar, from one Friend to another (§3.6.6.3.1).
        let is_to_this = arrived.pdu.dst == self.address.into();
        match message {
            FriendshipMessage::Request(request)
                if is_flooding && arrived.is_of_neighbour_to(Address::Group(GroupAddress::ALL_FRIENDS)) =>
            {
                self.receive_request(now, key, request, rssi.ok_or(Discard::Friendship)?)
            }
            FriendshipMessage::Clear { lpn, lpn_counter } if is_flooding && is_to_this => {
                self.receive_clear(now, arrived, lpn, lpn_counter)
            }
            FriendshipMessage::ClearConfirm { lpn, lpn_counter } if is_flooding && is_to_this => {
                let key = (arrived.net_key_index, lpn);
                let is_it = |x: &Clearing| x.previous == arrived.pdu.src && x.lpn_counter == lpn_counter;
                self.clearing.get(&key).filter(|x| is_it(x)).ok_or(Discard::Friendship)?;
                self.clearing.remove(&key);
                self.timers.cancel(&Timer::Clear(key));
                Ok(())
            }
            FriendshipMessage::Poll { fsn } if self.is_of_peer(arrived) => {
                self.receive_poll(now, key, fsn);
                Ok(())
            }
            FriendshipMessage::SubscriptionListAdd { transaction, addresses }
                if self.is_of_friend(arrived) =>
            {
                let size = usize::from(self.settings.subscription_list_size);
                self.change_list(now, key, transaction, |list| {
                    for address in addresses {
                        if list.len() < size {
                            list.insert(address);
                        }
                    }
                });
                Ok(())
            }
            FriendshipMessage::SubscriptionListRemove { transaction, addresses }
                if self.is_of_friend(arrived) =>
            {
                self.change_list(now, key, transaction, |list| {
                    list.retain(|address| !addresses.contains(address));
                });
                Ok(())
            }
            _ => Err(Discard::Friendship),
        }
    }

    /// Whether a PDU is secured with the material of a friendship, or of an offer, and that node sent it to this one.
    fn is_of_peer(&self, arrived: &Arrived) -> bool {
        if !arrived.is_of_neighbour_to(self.address) {
            return false;
        }
        let peer = self.peers.get(&(arrived.net_key_index, arrived.pdu.src));
        let parameters = peer.and_then(|peer| peer.parameters);
        parameters.is_some_and(|parameters| arrived.credentials == Credentials::Friendship(parameters))
    }

    fn is_of_friend(&self, arrived: &Arrived) -> bool {
        let peer = self.peers.get(&(arrived.net_key_index, arrived.pdu.src));
        peer.is_some_and(Peer::is_established) && self.is_of_peer(arrived)
    }

    /// Whether a PDU under the material of a friendship comes from the Low Power node of it, so that it is taken on.
    pub fn is_from_low_power_node(&self, arrived: &Arrived) -> bool {
        let Credentials::Friendship(parameters) = arrived.credentials else { return false };
        let Some(lpn) = UnicastAddress::new(parameters.lpn_address) else { return false };
        let peer = self.peers.get(&(arrived.net_key_index, lpn));
        peer.is_some_and(|x| x.parameters == Some(parameters) && x.covers(lpn, arrived.pdu.src))
    }

    fn receive_request(
        &mut self,
        now: Instant,
        key: Key,
        request: FriendRequest,
        rssi: i8,
    ) -> Result<(), Discard> {
        // Who asks has no Friend any more, whatever this one knows (§3.6.6.3.1).
        self.forget(key);
        self.cleared.retain(|_, (_, end)| now < *end);
        let last = key.1.element(request.elements - 1);
        let has_room = self.peers.len() < usize::from(self.settings.low_power_nodes);
        if last.is_none() || !has_room || request.criteria.min_queue_size() > self.settings.queue_size {
            return Err(Discard::Friendship);
        }
        let peer = Peer {
            request,
            rssi,
            parameters: None,
            fsn: None,
            reply: None,
            subscriptions: BTreeSet::new(),
            queue: FriendQueue::new(self.settings.queue_size.into()),
        };
        self.peers.insert(key, peer);
        let delay = request.criteria.offer_delay(self.settings.receive_window_ms, rssi);
        self.timers.set(Timer::Offer(key), now + delay);
        Ok(())
    }

    fn send_offer(&mut self, now: Instant, key: Key) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let parameters = FriendshipParameters {
            lpn_address: key.1.into(),
            friend_address: self.address.into(),
            lpn_counter: peer.request.lpn_counter,
            friend_counter: self.counter,
        };
        peer.parameters = Some(parameters);
        let offer = FriendOffer {
            receive_window_ms: self.settings.receive_window_ms,
            queue_size: self.settings.queue_size,
            subscription_list_size: self.settings.subscription_list_size,
            rssi: peer.rssi,
            friend_counter: self.counter,
        };
        self.counter = self.counter.wrapping_add(1);
        // The Low Power node's first Friend Poll comes before there is a friendship, under its material.
        self.outputs.push_back(Output::Offered(key.0, parameters));
        self.send(key.0, Credentials::Flooding, Ttl::ZERO, key.1, FriendshipMessage::Offer(offer));
        self.timers.set(Timer::OfferEnd(key), now + OFFER_HOLDS);
    }

    fn receive_poll(&mut self, now: Instant, key: Key, fsn: bool) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let before = peer.fsn.replace(fsn);
        if before.is_some_and(|before| before != fsn) {
            peer.queue.acknowledge();
        }
        if peer.queue.is_empty() {
            peer.queue.push(Stored::Update);
        }
        if before.is_none() {
            let request = peer.request;
            self.timers.cancel(&Timer::OfferEnd(key));
            self.cleared.remove(&key);
            self.outputs.push_back(Output::Established(key));
            self.begin_clear(now, key, &request);
        }
        self.answer_after_delay(now, key, Reply::Oldest);
    }

    fn change_list(
        &mut self,
        now: Instant,
        key: Key,
        transaction: u8,
        change: impl FnOnce(&mut BTreeSet<Address>),
    ) {
        if let Some(peer) = self.peers.get_mut(&key) {
            change(&mut peer.subscriptions);
            self.answer_after_delay(now, key, Reply::Confirm { transaction });
        }
    }

    fn answer_after_delay(&mut self, now: Instant, key: Key, reply: Reply) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.reply = Some(reply);
            let delay = Duration::from_millis(peer.request.receive_delay_ms.into());
            self.timers.set(Timer::Reply(key), now + delay);
            self.timers.set(Timer::Poll(key), now + peer.request.poll_timeout.duration());
        }
    }

    fn reply(&mut self, key: Key) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        match (peer.reply.take(), peer.parameters) {
            (Some(Reply::Oldest), _) => self.outputs.push_back(Output::Reply(key)),
            (Some(Reply::Confirm { transaction }), Some(parameters)) => {
                let message = FriendshipMessage::SubscriptionListConfirm { transaction };
                self.send(key.0, Credentials::Friendship(parameters), Ttl::ZERO, key.1, message);
            }
            _ => {}
        }
    }

    /// Tells the Friend that the Low Power node had before that it has another.
    fn begin_clear(&mut self, now: Instant, key: Key, request: &FriendRequest) {
        let Some(previous) = request.previous.filter(|&previous| previous != self.address) else { return };
        let end = now + 2 * request.poll_timeout.duration();
        let clearing = Clearing { previous, lpn_counter: request.lpn_counter, wait: FIRST_CLEAR_REPEAT, end };
        if self.clearing.len() < MAX_REMEMBERED || self.clearing.contains_key(&key) {
            self.clearing.insert(key, clearing);
            self.send_clear(now, key);
        }
    }

    fn send_clear(&mut self, now: Instant, key: Key) {
        let Some(&Clearing { previous, lpn_counter, wait, end }) = self.clearing.get(&key) else { return };
        if now >= end {
            self.clearing.remove(&key);
            return;
        }
        let message = FriendshipMessage::Clear { lpn: key.1, lpn_counter };
        self.send(key.0, Credentials::Flooding, Ttl::MAX, previous, message);
        self.timers.set(Timer::Clear(key), (now + wait).min(end));
        if let Some(clearing) = self.clearing.get_mut(&key) {
            clearing.wait = 2 * wait;
        }
    }

    fn receive_clear(
        &mut self,
        now: Instant,
        arrived: &Arrived,
        lpn: UnicastAddress,
        lpn_counter: u16,
    ) -> Result<(), Discard> {
        let key = (arrived.net_key_index, lpn);
        let is_valid = |counter: u16| lpn_counter.wrapping_sub(counter) <= 255;
        self.cleared.retain(|_, (_, end)| now < *end);
        if let Some(peer) = self.peers.get(&key).filter(|peer| peer.is_established()) {
            if !is_valid(peer.request.lpn_counter) {
                return Err(Discard::Friendship);
            }
            self.forget(key);
        } else if !self.cleared.get(&key).is_some_and(|(counter, _)| is_valid(*counter)) {
            return Err(Discard::Friendship);
        }
        // An answer to a neighbour goes no further than the question came.
        let ttl = if arrived.pdu.ttl == Ttl::ZERO { Ttl::ZERO } else { Ttl::MAX };
        let message = FriendshipMessage::ClearConfirm { lpn, lpn_counter };
        self.send(key.0, Credentials::Flooding, ttl, arrived.pdu.src, message);
        Ok(())
    }

    fn send(
        &mut self,
        net_key_index: NetKeyIndex,
        credentials: Credentials,
        ttl: Ttl,
        dst: UnicastAddress,
        message: FriendshipMessage,
    ) {
        self.outputs.push_back(Output::Send { net_key_index, credentials, ttl, dst, message });
    }

    fn forget(&mut self, key: Key) {
        let Some(peer) = self.peers.remove(&key) else { return };
        if let Some(end) = self.timers.get(&Timer::Poll(key))
            && self.cleared.len() < MAX_REMEMBERED
        {
            self.cleared.insert(key, (peer.request.lpn_counter, end));
        }
        for timer in [Timer::Offer(key), Timer::OfferEnd(key), Timer::Reply(key), Timer::Poll(key)] {
            self.timers.cancel(&timer);
        }
        if let Some(parameters) = peer.parameters {
            self.outputs.push_back(Output::Forget(key.0, parameters));
        }
        if peer.is_established() {
            self.outputs.push_back(Output::Ended(key));
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.segments.handle_timeout(now);
        while let Some(timer) = self.timers.pop_expired(now) {
            match timer {
                Timer::Offer(key) => self.send_offer(now, key),
                Timer::OfferEnd(key) | Timer::Poll(key) => self.forget(key),
                Timer::Reply(key) => self.reply(key),
                Timer::Clear(key) => self.send_clear(now, key),
            }
        }
    }

    /// When [`Friend::handle_timeout`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.segments.poll_timeout()].into_iter().flatten().min()
    }

    /// What the node has to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The next acknowledgment of segments, on behalf of a Low Power node.
    pub fn poll_ack(&mut self) -> Option<Ack> {
        let ack = self.segments.poll_ack()?;
        Some(Ack { src: self.address, ..ack })
    }

    /// Stores what arrived, if a Low Power node listens to its destination (MshPRT §3.5.5); says whether one does.
    pub fn store(&mut self, now: Instant, arrived: &Arrived) -> bool {
        let keys = self.listeners(arrived.net_key_index, arrived.pdu.dst, Some(arrived.pdu.src));
        let (Some(ttl), false) = (arrived.pdu.ttl.relayed(), keys.is_empty()) else { return false };
        let Ok(lower) = LowerTransportPdu::decode(arrived.pdu.ctl, &arrived.pdu.transport_pdu) else {
            return false;
        };
        let pdu = NetworkPdu { ttl, ..arrived.pdu.clone() };
        let whole = match lower {
            LowerTransportPdu::Segment(segment) => {
                let fits = segment.seg_n < self.settings.queue_size;
                self.segments.receive(now, arrived, &segment, pdu, fits)
            }
            _ => alloc::vec![pdu],
        };
        for key in keys {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            for pdu in &whole {
                peer.queue.push(Stored::Received { pdu: pdu.clone(), iv_index: arrived.iv_index });
            }
        }
        true
    }

    /// Whether a Low Power node listens to `dst`.
    pub fn has_listener(&self, net_key_index: NetKeyIndex, dst: Address) -> bool {
        !self.listeners(net_key_index, dst, None).is_empty()
    }

    /// Stores what the Friend itself sends. Says whether it fits.
    pub fn store_own(&mut self, net_key_index: NetKeyIndex, dst: Address, stored: &Stored) -> bool {
        let pdus = if let Stored::Access(message) = stored { message.pdus() } else { 1 };
        let mut fits = true;
        for key in self.listeners(net_key_index, dst, None) {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            fits &= peer.queue.fits(pdus);
            if peer.queue.fits(pdus) {
                peer.queue.push(stored.clone());
            }
        }
        fits
    }

    /// Tells the Low Power nodes, of all subnets or of one, of new security parameters.
    pub fn store_update(&mut self, subnet: Option<NetKeyIndex>) {
        for (key, peer) in &mut self.peers {
            if peer.is_established() && subnet.is_none_or(|subnet| subnet == key.0) {
                peer.queue.push(Stored::Update);
            }
        }
    }

    fn listeners(&self, net_key_index: NetKeyIndex, dst: Address, src: Option<UnicastAddress>) -> Vec<Key> {
        let listens = |((subnet, lpn), peer): &(&Key, &Peer)| {
            *subnet == net_key_index
                && peer.is_established()
                && peer.listens_to(*lpn, dst)
                && !src.is_some_and(|src| peer.covers(*lpn, src))
        };
        self.peers.iter().filter(listens).map(|(&key, _)| key).collect()
    }

    /// The Friend Queue of a Low Power node, and the material of its friendship.
    pub fn queue_mut(&mut self, key: Key) -> Option<(&mut FriendQueue, FriendshipParameters)> {
        let peer = self.peers.get_mut(&key)?;
        Some((&mut peer.queue, peer.parameters?))
    }

    /// The IV Index has changed: discards of all Friend Queues what nobody accepts any more, and own messages of which
    /// a part was sent before.
    pub fn change_iv_index(&mut self, iv_index: IvIndex) {
        for peer in self.peers.values_mut() {
            peer.queue.oldest(iv_index);
            peer.queue.discard_begun();
        }
    }
}
