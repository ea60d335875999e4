//! A node (MshPRT §2.3.4): all layers joined, from what a bearer receives to what a model does.

mod friendship;
mod network_state;
mod proxy;
mod publish;
mod receive;
mod records;
mod send;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::any::Any;
use core::time::Duration;

use clock::{Instant, Timers};
use mesh_crypto::{DevKey, NetKey};
use mesh_wire::address::UnicastAddress;
use mesh_wire::foundation::{CompositionData, ConfigMessage, Features, Status};
use mesh_wire::proxy_configuration::{FilterType, ProxyConfiguration};
use mesh_wire::{AppKeyIndex, IvIndex, ModelId, NetKeyIndex, Transmit, Ttl};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::access::{Access, Context, Element, Elements, MAX_SUBSCRIPTIONS, ReceivedMessage, Server};
use crate::beacon::Beacons;
use crate::bearer::{Received, Transmission};
use crate::discard::{Discard, DiscardCounts};
use crate::foundation::{ConfigurationServer, FeatureStates, Product, describe};
use crate::friend::{Friend, FriendSettings};
use crate::heartbeat::Heartbeats;
use crate::keys::{KeyRefreshPhase, Keys, MessageKey};
use crate::low_power::{LowPower, LowPowerSettings, LowPowerSettingsError};
use crate::lower_transport::{
    MessageId, Reassembler, ReplayList, SarReceiver, SarTransmitter, SegmentedError, Segmenter,
};
use crate::network::{IvUpdateError, NetworkLayer, Relay};
use crate::proxy::{ConnectionId, Proxy};
use crate::upper_transport::Destination;

pub use records::{Record, RecordKey, RestoreError};

/// Sources that a node protects against replay, unless [`NodeOptions::replay_list`] says otherwise.
const REPLAY_LIST: u16 = 256;

/// Messages that may wait in a node: for their random delay, or for another to the same destination.
const MAX_WAITING: usize = 256;

/// What provisioning gives a node (MshPRT §5.4.2.5).
#[derive(Clone, Debug)]
pub struct Provisioned {
    /// NetKey.
    pub net_key: NetKey,
    /// Its index.
    pub net_key_index: NetKeyIndex,
    /// IV Index.
    pub iv_index: IvIndex,
    /// The address of the primary element; the others follow.
    pub address: UnicastAddress,
    /// The device key.
    pub dev_key: DevKey,
}

/// What a node is, beyond what provisioning gives it.
#[derive(Debug)]
pub struct NodeConfig {
    /// Who made it.
    pub product: Product,
    /// Its elements, the primary one first; the node itself adds the Configuration Server to that.
    pub elements: Vec<Element>,
    /// Network Transmit.
    pub network_transmit: Transmit,
    /// Relay and Relay Retransmit.
    pub relay: Relay,
    /// Default TTL.
    pub default_ttl: Ttl,
    /// What its random delays come from.
    pub seed: [u8; 32],
    /// What most nodes leave as it is.
    pub options: NodeOptions,
}

/// The parts of a [`NodeConfig`] that most nodes leave as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeOptions {
    /// Sources that the node protects against replay, the CRPL of its composition data; 256 by default. A source takes
    /// about 30 octets. A node that hears from more takes nothing from the others: one that is talked to by a whole
    /// network needs as many as that has elements.
    pub replay_list: u16,
    /// Most addresses that a model of the node subscribes to; 32 by default.
    pub subscriptions: usize,
    /// The Friend feature; `None`: the node does not have it.
    pub friend: Option<FriendSettings>,
    /// The Low Power feature; `None`: the node does not have it. It is switched on by [`Command::LowPower`], which
    /// refuses settings that allow no friendship.
    pub low_power: Option<LowPowerSettings>,
    /// The Proxy feature: whether the node has it, which is then on until a Configuration Client turns it off.
    pub proxy: bool,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            replay_list: REPLAY_LIST,
            subscriptions: MAX_SUBSCRIPTIONS,
            friend: None,
            low_power: None,
            proxy: false,
        }
    }
}

/// An access message that the host has a model send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// The element that sends it.
    pub element: u8,
    /// Whom it is for.
    pub destination: Destination,
    /// The key that secures it.
    pub key: MessageKey,
    /// The TTL; `None`: the Default TTL.
    pub ttl: Option<Ttl>,
    /// Opcode and parameters, at most 380 octets.
    pub payload: Vec<u8>,
    /// Whether it is sent in segments, and so acknowledged, even if it is short enough not to be.
    pub segmented: bool,
}

/// What the host can ask of a node.
#[derive(Clone, Debug)]
pub enum Command {
    /// Sends a message. Its end is told by [`Event::Sent`].
    Send(OutgoingMessage),
    /// Publishes for a client model, as its publication says (MshPRT §3.7.6.1): somebody has pressed a switch.
    Publish {
        /// The model's element.
        element: u8,
        /// The model.
        model: ModelId,
        /// Opcode and parameters, at most 380 octets.
        payload: Vec<u8>,
    },
    /// Adds the device key of another node, so that its Configuration Server can be talked to.
    AddDeviceKey {
        /// Its primary element.
        address: UnicastAddress,
        /// How many elements it has.
        elements: u8,
        /// Its device key.
        key: DevKey,
    },
    /// Sets how messages are segmented and reassembled, for slower or faster networks; the node remembers it.
    Sar {
        /// SAR Transmitter.
        transmitter: SarTransmitter,
        /// SAR Receiver.
        receiver: SarReceiver,
    },
    /// Begins or ends an IV Update, or makes its tests possible.
    IvUpdate(IvUpdateCommand),
    /// Has a node with the Low Power feature look for a Friend, and sleep once it has one; or stay awake. A host says
    /// so again after a restart.
    LowPower(bool),
    /// Has a Low Power node ask its Friend now, as a host does that waits for an answer.
    Poll,
    /// As a client of a proxy, tells the server which addresses to send messages for. Until the host does, the node
    /// sees to it that it gets what is for itself.
    ProxyFilter {
        /// The connection.
        connection: ConnectionId,
        /// What the server is asked for.
        request: ProxyConfiguration,
    },
    /// Has a proxy advertise who it is for 60 seconds (Node Identity), as when its button is pressed.
    IdentifyNode,
    /// Has the node's own Configuration Server carry out a request, as if a Configuration Client had sent it.
    Configure(ConfigMessage),
}

/// What is done to the IV Index of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IvUpdateCommand {
    /// Begins an update, which other nodes follow.
    Start,
    /// Ends it, after 96 hours.
    Finish,
    /// Has the 96 hours not hold, for tests with other devices, or hold again.
    TestMode(bool),
}

/// What came of a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// The message is on its way under this id.
    Sending(MessageId),
    /// The Configuration Server's answer.
    Configured(ConfigMessage),
}

/// Why a command cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The node has no such element.
    #[error("this node has no element {0}")]
    UnknownElement(u8),
    /// The node has no such key, or the destination cannot be reached under it.
    #[error("this node does not have the key that the message is to be secured with")]
    UnknownKey,
    /// The message is too long.
    #[error("an access message has 1 to 380 octets")]
    Length,
    /// The model does not publish, or the node does not have the model.
    #[error("this model publishes nowhere; a Configuration Client has to set where")]
    NoPublication,
    /// A TTL of 1, with which nothing is originated.
    #[error("a message cannot be sent with a TTL of 1; 0 reaches neighbours, 2 is relayed once")]
    Ttl,
    /// Too many messages wait already.
    #[error("too many messages wait to be sent; try again when some have been")]
    Busy,
    /// No sequence number is left.
    #[error("every sequence number of this IV Index has been used; the network needs an IV Update")]
    SequenceExhausted,
    /// The node is no proxy, or has no such connection to one.
    #[error("this node is no proxy, or not the client of one on this connection")]
    NoProxy,
    /// A Configuration Server does not get such messages.
    #[error("a Configuration Server does not get such messages")]
    NotARequest,
    /// The node does not have the Low Power feature.
    #[error("this node does not have the Low Power feature; it is an option of its making")]
    NotLowPower,
    /// There can be no friendship with the settings of the Low Power feature.
    #[error(transparent)]
    LowPowerSettings(LowPowerSettingsError),
    /// The IV Index cannot be changed so, or not now.
    #[error(transparent)]
    IvUpdate(IvUpdateError),
    /// The node has left the network.
    #[error("this node was reset and belongs to no network")]
    Reset,
}

/// What a node tells its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message reached a client model.
    Message(ReceivedMessage),
    /// A state of a server changed.
    Changed {
        /// The server's first element.
        element: u8,
    },
    /// The sending of a message has ended: an unsegmented one was handed to the bearer, a segmented one
    /// acknowledged, if its destination does that.
    Sent {
        /// Which.
        id: MessageId,
        /// How.
        result: Result<(), SendError>,
    },
    /// The IV Index of the network changed, or the state of its update.
    IvIndex {
        /// The IV Index.
        index: IvIndex,
        /// Whether an update is in progress.
        is_in_progress: bool,
    },
    /// The refresh of a NetKey made a step, by a beacon or by a Configuration Client.
    KeyRefresh {
        /// The index of the NetKey.
        net_key_index: NetKeyIndex,
        /// The phase that was reached.
        phase: KeyRefreshPhase,
    },
    /// A Heartbeat arrived.
    Heartbeat {
        /// Whose.
        source: UnicastAddress,
        /// How many hops it made.
        hops: u8,
        /// The features that are in use there.
        features: Features,
    },
    /// A friendship began or ended.
    Friendship {
        /// The other node: the Friend, or the Low Power node.
        with: UnicastAddress,
        /// Which of the two this node is.
        role: FriendshipRole,
        /// Whether it began.
        has_begun: bool,
    },
    /// A proxy server has answered a client: its filter is as it says.
    ProxyFilter {
        /// The connection.
        connection: ConnectionId,
        /// What the filter does with its list.
        filter_type: FilterType,
        /// How many addresses that has.
        list_size: u16,
    },
    /// A Configuration Client has taken the node out of the network; it must be provisioned anew.
    Reset,
}

/// What a node is in a friendship.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FriendshipRole {
    /// It keeps messages for the other.
    Friend,
    /// It sleeps.
    LowPower,
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Its segments did not arrive.
    #[error(transparent)]
    Segmented(#[from] SegmentedError),
    /// Its key went away while it waited.
    #[error("the key was deleted while the message waited")]
    UnknownKey,
    /// No sequence number is left.
    #[error("every sequence number of this IV Index has been used; the network needs an IV Update")]
    SequenceExhausted,
    /// Too many segmented messages wait for the same destination.
    #[error("too many messages wait for that destination")]
    Busy,
}

/// What a node has to do later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Send the waiting message with this number.
    Waiting(u64),
    /// Publish the state of a model.
    PublishPeriod(u8, ModelId),
    /// Repeat the last publication of a model.
    PublishRetransmit(u8, ModelId),
    /// Store what counts in hours.
    Hour,
}

/// A node of a mesh network, without its bearers.
#[derive(Debug)]
pub struct Node {
    address: UnicastAddress,
    composition: CompositionData,
    default_ttl: Ttl,
    keys: Keys,
    network: NetworkLayer,
    replay_list: ReplayList,
    segmenter: Segmenter,
    reassembler: Reassembler,
    elements: Elements,
    beacons: Beacons,
    heartbeats: Heartbeats,
    features: FeatureStates,
    /// The Friend feature, if the node has it.
    friend: Option<Friend>,
    /// The Low Power feature, if the node has it.
    low_power: Option<LowPower>,
    proxy: Proxy,
    publications: publish::Publications,
    timers: Timers<Timer>,
    waiting: send::Waiting,
    rng: ChaCha8Rng,
    /// When beacons are sent is drawn from a stream of its own: they change nothing about when messages are.
    beacon_rng: ChaCha8Rng,
    discards: DiscardCounts,
    transmit: VecDeque<Transmission>,
    events: VecDeque<Event>,
    is_started: bool,
    is_reset: bool,
    /// What the host has to store; `None`: it stores nothing.
    records: Option<records::Records>,
}

impl Node {
    /// A node of the network that it was provisioned into.
    pub fn new(provisioned: Provisioned, config: NodeConfig) -> Self {
        let Provisioned { net_key, net_key_index, iv_index, address, dev_key } = provisioned;
        let mut elements = config.elements;
        if elements.is_empty() {
            elements.push(Element::new(0));
        }
        elements[0].add(ModelId::CONFIGURATION_SERVER, Access::Foundation);
        let elements = Elements::new(elements).with_max_subscriptions(config.options.subscriptions);
        let composition = CompositionData {
            company: config.product.company,
            product: config.product.product,
            version: config.product.version,
            replay_list: config.options.replay_list,
            features: friendship::supported(&config.options),
            elements: describe(&elements),
        };
        let element_count = u8::try_from(elements.len()).unwrap_or(u8::MAX);
        let mut beacons = Beacons::default();
        beacons.set_enabled(true);
        let mut beacon_rng = ChaCha8Rng::from_seed(config.seed);
        beacon_rng.set_stream(1);
        let options = config.options;
        let (friend, low_power) = friendship::features(address, element_count, config.seed, &options);
        Self {
            address,
            composition,
            default_ttl: config.default_ttl,
            keys: Keys::new(dev_key, net_key_index, net_key),
            network: NetworkLayer::new(
                address,
                element_count,
                iv_index,
                config.network_transmit,
                config.relay,
            ),
            replay_list: ReplayList::new(usize::from(options.replay_list)),
            segmenter: Segmenter::new(SarTransmitter::default()),
            reassembler: Reassembler::new(SarReceiver::default()),
            elements,
            beacons,
            heartbeats: Heartbeats::default(),
            features: friendship::initial_states(&options),
            friend,
            low_power,
            proxy: Proxy::default(),
            publications: publish::Publications::default(),
            timers: Timers::new(),
            waiting: send::Waiting::default(),
            rng: ChaCha8Rng::from_seed(config.seed),
            beacon_rng,
            discards: DiscardCounts::default(),
            transmit: VecDeque::new(),
            events: VecDeque::new(),
            is_started: false,
            is_reset: false,
            records: None,
        }
    }

    /// A node whose host stores what it must remember ([`Node::take_records`]): the one that `stored` came from,
    /// or, without any, one that was provisioned just now.
    ///
    /// # Errors
    /// The first record that cannot be read.
    pub fn restore(
        now: Instant,
        provisioned: Provisioned,
        config: NodeConfig,
        stored: impl IntoIterator<Item = (RecordKey, Vec<u8>)>,
    ) -> Result<Self, RestoreError> {
        let mut node = Self::new(provisioned, config);
        node.remember(now, stored)?;
        Ok(node)
    }

    /// The address of the primary element.
    pub fn address(&self) -> UnicastAddress {
        self.address
    }

    /// Composition Data page 0.
    pub fn composition(&self) -> &CompositionData {
        &self.composition
    }

    /// The TTL of what is sent without saying which.
    pub fn default_ttl(&self) -> Ttl {
        self.default_ttl
    }

    /// The SAR Transmitter and SAR Receiver states.
    pub fn sar(&self) -> (&SarTransmitter, &SarReceiver) {
        (self.segmenter.sar(), self.reassembler.sar())
    }

    fn set_sar_receiver(&mut self, receiver: &SarReceiver) {
        self.reassembler.set_sar(*receiver);
        if let Some(friend) = &mut self.friend {
            friend.set_sar(*receiver);
        }
    }

    /// What was received and not passed on, by reason.
    pub fn discards(&self) -> &DiscardCounts {
        &self.discards
    }

    /// The server of type `S` that begins on an element, if there is one.
    pub fn server<S: Server>(&self, element: u8) -> Option<&S> {
        let mut servers = self.elements.servers().iter().filter(|entry| entry.first_element == element);
        servers.find_map(|entry| (entry.server.as_ref() as &dyn Any).downcast_ref())
    }

    /// Has the host act on a server, as a hand on the lamp's own button or a sensor's measurement does, and does
    /// what the server then asks for.
    pub fn with_server<S: Server, T>(
        &mut self,
        now: Instant,
        element: u8,
        act: impl FnOnce(&mut S, &mut Context) -> T,
    ) -> Option<T> {
        let mut servers = self.elements.servers_mut().iter_mut().enumerate();
        let (number, first, server) = servers.find_map(|(number, entry)| {
            let server = (entry.server.as_mut() as &mut dyn Any).downcast_mut::<S>()?;
            (entry.first_element == element).then_some((number, entry.first_element, server))
        })?;
        let mut context = Context::default();
        let result = act(server, &mut context);
        self.follow_up(now, Duration::ZERO, number, first, context);
        self.flush(now);
        Some(result)
    }

    /// The AppKeys that a model is bound to.
    pub fn bindings(&self, element: u8, model: ModelId) -> &[AppKeyIndex] {
        self.elements.model(element, model).map_or(&[], |entry| &entry.bindings)
    }

    /// Takes what a bearer received.
    pub fn handle_pdu(&mut self, now: Instant, received: &Received<'_>) {
        if self.is_reset {
            return;
        }
        self.start(now);
        if let Err(discard) = self.receive(now, received) {
            self.discards.count(discard);
        }
        self.flush(now);
    }

    /// Carries out what the host asks for.
    ///
    /// # Errors
    /// Says what is wrong with the command; the node is as it was.
    pub fn handle_command(&mut self, now: Instant, command: Command) -> Result<Answer, CommandError> {
        if self.is_reset {
            return Err(CommandError::Reset);
        }
        self.start(now);
        let answer = match command {
            Command::LowPower(is_on) => self.command_low_power(now, is_on).map(|()| Answer::Done),
            Command::Poll => self.command_poll(now).map(|()| Answer::Done),
            Command::IvUpdate(command) => self.command_iv_update(now, command).map(|()| Answer::Done),
            Command::Send(message) => self.send(now, message).map(Answer::Sending),
            Command::Publish { element, model, payload } => {
                self.publish_for_host(now, element, model, payload).map(|()| Answer::Done)
            }
            Command::AddDeviceKey { address, elements, key } => {
                self.keys.add_remote_device(address, elements, key);
                Ok(Answer::Done)
            }
            Command::Sar { transmitter, receiver } => {
                // By way of the octets, so that what holds is what is remembered.
                self.segmenter.set_sar(SarTransmitter::from_octets(transmitter.to_octets()));
                self.set_sar_receiver(&SarReceiver::from_octets(receiver.to_octets()));
                self.record_sar();
                Ok(Answer::Done)
            }
            Command::ProxyFilter { connection, request } => {
                self.configure_proxy(connection, &request).map(|()| Answer::Done)
            }
            Command::IdentifyNode => self.identify_node(now).map(|()| Answer::Done),
            Command::Configure(request) => {
                let via = self.keys.subnets().first().map_or(NetKeyIndex::ZERO, |subnet| subnet.index);
                let answer = self.configure(now, &request, via).ok_or(CommandError::NotARequest)?;
                if request == ConfigMessage::NodeReset {
                    self.reset();
                }
                Ok(Answer::Configured(answer))
            }
        };
        self.flush(now);
        answer
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.is_reset {
            return;
        }
        self.start(now);
        self.reassembler.handle_timeout(now);
        self.segmenter.handle_timeout(now);
        self.handle_network_timeouts(now);
        self.handle_friendship_timeouts(now);
        self.proxy.handle_timeout(now);
        while let Some(timer) = self.timers.pop_expired(now) {
            match timer {
                Timer::Waiting(number) => self.send_waiting(now, number),
                Timer::PublishPeriod(element, model) => self.publish_periodically(now, element, model),
                Timer::PublishRetransmit(element, model) => self.repeat_publication(now, element, model),
                Timer::Hour => {
                    self.record_iv_update(now);
                    self.watch_hours(now);
                }
            }
        }
        self.handle_server_timeouts(now);
        self.flush(now);
    }

    /// When [`Node::handle_timeout`] is next due. May change with every call that takes `&mut self`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_reset {
            return None;
        }
        if !self.is_started && (self.beacons.is_enabled() || self.features.proxy) {
            // Beacons, and what a proxy advertises, begin when the node is first told the time.
            return Some(Instant::ORIGIN);
        }
        let servers = self.elements.servers().iter().filter_map(|entry| entry.server.poll_timeout());
        let layers = [
            self.timers.next(),
            self.segmenter.poll_timeout(),
            self.reassembler.poll_timeout(),
            self.network.iv.poll_timeout(),
            self.beacons.poll_timeout(),
            self.heartbeats.poll_timeout(),
            self.friend.as_ref().and_then(Friend::poll_timeout),
            self.low_power.as_ref().and_then(LowPower::poll_timeout),
            self.proxy.poll_timeout(),
            self.features.node_identity.values().min().copied(),
        ];
        layers.into_iter().flatten().chain(servers).min()
    }

    /// The next advertisement to be sent; none while records wait to be stored.
    pub fn poll_transmit(&mut self) -> Option<Transmission> {
        if self.is_held_back() { None } else { self.transmit.pop_front() }
    }

    /// The next thing that the host should know; nothing while records wait to be stored.
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.is_held_back() { None } else { self.events.pop_front() }
    }

    /// Takes the node out of its network.
    fn reset(&mut self) {
        self.is_reset = true;
        self.proxy.end();
        self.forget();
        self.events.push_back(Event::Reset);
    }

    /// Runs the Configuration Server, and follows up on what it changed.
    fn configure(
        &mut self,
        now: Instant,
        request: &ConfigMessage,
        via: NetKeyIndex,
    ) -> Option<ConfigMessage> {
        let features = self.features();
        let phases = |node: &Self| -> Vec<_> {
            node.keys.subnets().iter().map(|subnet| (subnet.index, subnet.phase)).collect()
        };
        let phases_before = phases(self);
        let mut server = ConfigurationServer {
            now,
            address: self.address,
            beacons: &mut self.beacons,
            heartbeats: &mut self.heartbeats,
            features: &mut self.features,
            keys: &mut self.keys,
            elements: &mut self.elements,
            network: &mut self.network,
            default_ttl: &mut self.default_ttl,
            friend: self.friend.as_ref(),
            composition: &self.composition,
        };
        let answer = server.handle(request, via)?;
        if let ConfigMessage::ModelPublicationStatus { status: Status::Success, .. } = answer {
            self.restart_publications(now, request);
        }
        for (index, phase) in phases(self) {
            let has_changed = phases_before.iter().any(|&(known, before)| known == index && before != phase);
            if self.is_started && has_changed {
                self.tell_key_refresh(now, index);
            }
        }
        self.follow_configuration(now);
        self.tell_features(features);
        if self.is_started {
            self.join_beacons(now);
        }
        self.record_configuration();
        Some(answer)
    }

    /// A duration from `min` to `max`, in steps of a millisecond.
    fn random_ms(&mut self, min: u32, max: u32) -> Duration {
        random_ms(&mut self.rng, min, max)
    }

    fn discard(&mut self, discard: Discard) {
        self.discards.count(discard);
    }
}

fn random_ms(rng: &mut ChaCha8Rng, min: u32, max: u32) -> Duration {
    // The remainder's bias over a span of 10,000 is below one in 400,000.
    Duration::from_millis(u64::from(min + rng.next_u32() % (max - min + 1)))
}
