//! What all nodes of a network agree on: IV Index, key refreshes, and the beacons and heartbeats that tell of them.

use core::time::Duration;

use clock::Instant;
use mesh_wire::address::Address;
use mesh_wire::beacon::{Beacon, NetworkFlags, SecureNetwork};
use mesh_wire::bearer::AdType;
use mesh_wire::foundation::Features;
use mesh_wire::heartbeat::{self, Heartbeat};
use mesh_wire::lower_transport::LowerTransportPdu;
use mesh_wire::{IvIndex, NetKeyIndex};

use super::{Command, CommandError, Event, IvUpdateCommand, Node, Timer, random_ms};
use crate::bearer::Transmission;
use crate::discard::Discard;
use crate::keys::{Credentials, KeyRefreshPhase, Subnet};
use crate::network::{Arrived, IvChange, IvUpdate, Outgoing};

/// The sequence number from which on a node asks for an IV Update: half of them are left, which is far more than 96
/// hours' worth (MshPRT §3.11.5).
const IV_UPDATE_AT: u32 = 0x80_0000;

/// Longest wait before a beacon that nobody waits for.
const BEACON_PHASE_MS: u32 = 10_000;

/// Longest wait before a beacon that tells of a change.
const BEACON_HURRY_MS: u32 = 500;

const HOUR: Duration = Duration::from_secs(3600);

impl Node {
    /// The same node in a network whose flags at provisioning were these (MshPRT §5.4.2.5). Only for a node that was
    /// provisioned just now: one that is restored knows better.
    #[must_use]
    pub fn with_network_flags(mut self, flags: NetworkFlags) -> Self {
        self.network.iv = IvUpdate::new(self.network.iv.index(), flags.iv_update);
        if flags.key_refresh
            && let Some(index) = self.keys.subnets().first().map(|subnet| subnet.index)
        {
            self.keys.use_new_keys(index);
        }
        self.record_iv_update(Instant::ORIGIN);
        self.record_configuration();
        self
    }

    /// The IV Index of the network, and how far an update of it is.
    pub fn iv_update(&self) -> &IvUpdate {
        self.network.iv_update()
    }

    /// The subnets that the node belongs to.
    pub fn subnets(&self) -> &[Subnet] {
        self.keys.subnets()
    }

    /// The features that are in use.
    pub fn features(&self) -> Features {
        let mut features = 0;
        for (feature, is_on) in [
            (Features::RELAY, self.network.relay.enabled),
            (Features::PROXY, self.features.proxy),
            (Features::FRIEND, self.features.friend),
            (Features::LOW_POWER, self.low_power.as_ref().is_some_and(|x| x.friend().is_some())),
        ] {
            features |= if is_on { feature.0 } else { 0 };
        }
        Features(features)
    }

    /// Begins what needs the time, at the first call that tells it.
    pub(super) fn start(&mut self, now: Instant) {
        if !self.is_started {
            self.is_started = true;
            self.network.iv.begin(now);
            self.join_beacons(now);
            self.watch_hours(now);
            self.follow_configuration(now);
        }
    }

    pub(super) fn join_beacons(&mut self, now: Instant) {
        for position in 0..self.keys.subnets().len() {
            let index = self.keys.subnets()[position].index;
            let delay = random_ms(&mut self.beacon_rng, 0, BEACON_PHASE_MS);
            self.beacons.join(now, index, delay);
        }
    }

    pub(super) fn receive_beacon(&mut self, now: Instant, data: &[u8]) -> Result<(), Discard> {
        let Ok(Beacon::SecureNetwork(beacon)) = Beacon::decode(data) else {
            return Err(Discard::Beacon);
        };
        let (index, is_new) = self.find_subnet(&beacon)?;
        self.beacons.observe(index);
        self.follow_network(now, index, is_new, beacon.flags, beacon.iv_index)
    }

    /// Follows what an authentic beacon or Friend Update says of a subnet; `is_new`: it was made with the new key of a
    /// refresh.
    pub(super) fn follow_network(
        &mut self,
        now: Instant,
        index: NetKeyIndex,
        is_new: bool,
        flags: NetworkFlags,
        iv_index: IvIndex,
    ) -> Result<(), Discard> {
        self.follow_key_refresh(now, index, is_new, flags.key_refresh);
        // §3.11.5: who belongs to the primary subnet takes newer IV Indexes from its beacons only.
        let has_primary = self.keys.subnet(NetKeyIndex::ZERO).is_some();
        let is_newer = iv_index > self.network.iv.index();
        if is_newer && has_primary && index != NetKeyIndex::ZERO {
            return Err(Discard::Beacon);
        }
        let is_sending = self.segmenter.is_sending();
        let change = self.network.iv.handle_beacon(now, iv_index, flags.iv_update, is_sending);
        self.follow_iv_update(now, change);
        Ok(())
    }

    /// The subnet that a beacon is of, and whether it was made with the new key of a refresh.
    fn find_subnet(&self, beacon: &SecureNetwork) -> Result<(NetKeyIndex, bool), Discard> {
        for subnet in self.keys.subnets() {
            for (number, material) in subnet.receiving().enumerate() {
                if material.network_id != beacon.network_id || !beacon.is_authentic(&material.net_key) {
                    continue;
                }
                let is_new = number == 1;
                let is_over = subnet.new.is_some() && subnet.phase == KeyRefreshPhase::Second;
                // Once the new key sends, beacons of the old one say nothing any more (§3.11.4.1).
                return if is_over && !is_new { Err(Discard::Beacon) } else { Ok((subnet.index, is_new)) };
            }
        }
        Err(Discard::Beacon)
    }

    /// A beacon made with the new key takes a refresh on, or to its end (MshPRT §3.11.4.1).
    fn follow_key_refresh(&mut self, now: Instant, index: NetKeyIndex, is_new: bool, flag: bool) {
        let Some(subnet) = self.keys.subnet(index) else { return };
        let has_one_key = subnet.new.is_none();
        match (subnet.phase, flag) {
            (KeyRefreshPhase::First, true) if is_new => self.keys.use_new_keys(index),
            (KeyRefreshPhase::First | KeyRefreshPhase::Second, false) if is_new || has_one_key => {
                self.keys.revoke_old_keys(index);
            }
            _ => return,
        }
        self.tell_key_refresh(now, index);
        self.record_configuration();
    }

    pub(super) fn tell_key_refresh(&mut self, now: Instant, net_key_index: NetKeyIndex) {
        if let Some(phase) = self.keys.subnet(net_key_index).map(|subnet| subnet.phase) {
            self.events.push_back(Event::KeyRefresh { net_key_index, phase });
            self.tell_low_power_nodes(Some(net_key_index));
            self.hurry_beacons(now);
        }
    }

    fn hurry_beacons(&mut self, now: Instant) {
        let delay = random_ms(&mut self.beacon_rng, 0, BEACON_HURRY_MS);
        self.beacons.hurry(now, delay);
    }

    pub(super) fn command_iv_update(
        &mut self,
        now: Instant,
        command: IvUpdateCommand,
    ) -> Result<(), CommandError> {
        let is_primary = self.keys.subnet(NetKeyIndex::ZERO).is_some();
        let is_sending = self.segmenter.is_sending();
        let change = match command {
            IvUpdateCommand::TestMode(is_on) => {
                self.network.iv.set_test_mode(is_on);
                return Ok(());
            }
            IvUpdateCommand::Start if !is_primary => Err(crate::network::IvUpdateError::NotPrimary),
            IvUpdateCommand::Start => self.network.iv.start(now),
            IvUpdateCommand::Finish => self.network.iv.finish(now, is_sending),
        };
        self.follow_iv_update(now, Some(change.map_err(CommandError::IvUpdate)?));
        Ok(())
    }

    /// Asks for an IV Update before sequence numbers run out.
    pub(super) fn spare_sequence(&mut self, now: Instant) {
        let is_short = u32::from(self.network.next_seq()) >= IV_UPDATE_AT;
        if is_short && !self.network.iv.is_in_progress() {
            // When it is too early, the next message asks again.
            let _ = self.command_iv_update(now, IvUpdateCommand::Start);
        }
    }

    fn follow_iv_update(&mut self, now: Instant, change: Option<IvChange>) {
        let Some(change) = change else { return };
        let resets_seq = match change {
            IvChange::Started => false,
            IvChange::Finished => true,
            IvChange::Recovered { resets_seq } => resets_seq,
        };
        if resets_seq {
            // Their segments were secured with an IV Index that is no longer sent with. After an update there are none.
            self.segmenter.cancel_all();
            self.network.reset_seq();
        }
        for source in self.replay_list.forget_before(self.network.iv.index()) {
            self.record_replay(source);
        }
        let (index, is_in_progress) = (self.network.iv.index(), self.network.iv.is_in_progress());
        self.events.push_back(Event::IvIndex { index, is_in_progress });
        self.tell_low_power_nodes(None);
        self.record_iv_update(now);
        self.record_sequence();
        self.hurry_beacons(now);
        self.watch_hours(now);
    }

    /// What counts in hours is stored every hour.
    pub(super) fn watch_hours(&mut self, now: Instant) {
        let stored = self.network.iv.stored(now);
        if self.records.is_some() && (stored.hours, stored.hours_since_recovery) != (u16::MAX, u16::MAX) {
            self.timers.set(Timer::Hour, now + HOUR);
        }
    }

    pub(super) fn handle_network_timeouts(&mut self, now: Instant) {
        self.finish_iv_update(now);
        while let Some(subnet) = self.beacons.pop_due(now) {
            self.send_beacon(subnet);
        }
        while self.heartbeats.pop_due(now) {
            self.send_heartbeat();
            // Changes with the logarithm of the count that is left.
            self.record_configuration();
        }
    }

    /// Ends an IV Update that is due, or that waited for segmented messages.
    pub(super) fn finish_iv_update(&mut self, now: Instant) {
        let is_sending = self.segmenter.is_sending();
        let change = self.network.iv.handle_timeout(now, is_sending);
        self.follow_iv_update(now, change);
    }

    /// The Secure Network beacon of a subnet as it is now.
    pub fn secure_network_beacon(&self, subnet: NetKeyIndex) -> Option<SecureNetwork> {
        let subnet = self.keys.subnet(subnet)?;
        let flags = NetworkFlags {
            key_refresh: subnet.phase == KeyRefreshPhase::Second,
            iv_update: self.network.iv.is_in_progress(),
        };
        let material = subnet.sending();
        let iv_index = self.network.iv.index();
        Some(SecureNetwork::new(&material.net_key, material.network_id, flags, iv_index))
    }

    fn send_beacon(&mut self, subnet: NetKeyIndex) {
        let Some(beacon) = self.secure_network_beacon(subnet) else { return };
        self.transmit.push_back(Transmission {
            ad_type: AdType::MeshBeacon,
            data: Beacon::SecureNetwork(beacon).encode(),
            count: 1,
            interval: Duration::ZERO,
            delay: Duration::ZERO,
        });
    }

    /// Tells of features that have changed, if somebody wants to know.
    pub(super) fn tell_features(&mut self, before: Features) {
        let changed = Features(before.0 ^ self.features().0);
        if self.heartbeats.is_triggered_by(changed) {
            self.send_heartbeat();
        }
    }

    fn send_heartbeat(&mut self) {
        let publication = *self.heartbeats.publication();
        let heartbeat = Heartbeat { init_ttl: publication.ttl, features: self.features() };
        let pdu =
            LowerTransportPdu::UnsegmentedControl(heartbeat::OPCODE, heartbeat.encode().as_slice().into());
        let outgoing = Outgoing {
            net_key_index: publication.net_key_index,
            ttl: publication.ttl,
            src: self.address,
            dst: publication.destination,
            pdu,
            credentials: Credentials::Flooding,
            seq: None,
        };
        // Without sequence numbers there is no sign of life to give.
        let _ = self.send_network(&outgoing);
    }

    pub(super) fn receive_heartbeat(
        &mut self,
        now: Instant,
        arrived: &Arrived,
        parameters: &[u8],
    ) -> Result<(), Discard> {
        let heartbeat = Heartbeat::decode(parameters).map_err(|_| Discard::TransportPdu)?;
        let (source, destination, ttl) = (arrived.pdu.src, arrived.pdu.dst, arrived.pdu.ttl);
        self.heartbeats.receive(now, source, destination, ttl, &heartbeat);
        self.events.push_back(Event::Heartbeat {
            source,
            hops: heartbeat.hops(ttl),
            features: heartbeat.features,
        });
        Ok(())
    }

    /// Whether heartbeats to this address are counted.
    pub(super) fn counts_heartbeats_to(&self, now: Instant, address: Address) -> bool {
        self.heartbeats.subscribed(now) == Some(address)
    }
}

impl From<IvUpdateCommand> for Command {
    fn from(command: IvUpdateCommand) -> Self {
        Self::IvUpdate(command)
    }
}
