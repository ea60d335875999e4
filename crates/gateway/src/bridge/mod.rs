//! What a message on a topic means for the mesh, and what a message of the mesh means on topics.

mod announce;
mod commands;
mod groups;
mod reports;
mod requests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Timers};
use mesh_commission::cdb::NetworkDatabase;
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, UnicastAddress};
use serde_json::{Value, json};

use crate::devices::{Device, Devices, KnownNode};
use crate::groups::Groups;
use crate::record::Change;
use crate::requester::Requester;
use crate::scheduler::{Airtime, Scheduler, Subject};
use crate::topics::{Inbound, Topics};

pub(crate) use commands::Purpose;
pub(crate) use reports::{PRESS_TIME, SILENCE_GRACE};
pub(crate) use requests::REQUESTS;

/// How long a node that does not say what it is has peace before it is asked again.
pub(crate) const INTERVIEW_PAUSE: Duration = Duration::from_secs(30);

/// How often `bridge/health` is published.
pub(crate) const HEALTH_PERIOD: Duration = Duration::from_secs(60);

/// Messages that wait for a broker; what is retained does not count, as it is made anew.
const MAX_OUTBOX: usize = 10_000;

/// A message that the gateway publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The Topic Name.
    pub topic: String,
    /// JSON, or text.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// The requester's Correlation Data, in an answer.
    pub correlation_data: Option<Bytes>,
}

/// A message that the gateway's subscription brought.
#[derive(Clone, Debug)]
pub struct Inbox<'a> {
    /// The Topic Name.
    pub topic: &'a str,
    /// Bytes that anybody may have written.
    pub payload: &'a [u8],
    /// Whether it was retained when the gateway subscribed.
    pub retain: bool,
    /// Where the sender wants to be told how it ended.
    pub response_topic: Option<&'a str>,
    /// What the answer has to carry.
    pub correlation_data: Option<Bytes>,
}

/// What the gateway has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Commands to set a state that were understood and sent.
    pub commands: u64,
    /// Commands that were confirmed.
    pub confirmed: u64,
    /// Commands that ended without a confirmation.
    pub failed: u64,
    /// Transmissions beyond the first of a request.
    pub retries: u64,
    /// Network PDUs that were sent.
    pub pdus: u64,
    /// Requests that wait for airtime.
    pub waiting: usize,
}

/// How the bridge runs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) base: String,
    pub(crate) airtime: Airtime,
    pub(crate) availability_periods: u32,
    pub(crate) discovery_prefix: Option<String>,
    pub(crate) may_export_keys: bool,
    /// Milliseconds from 1970 to the origin of time.
    pub(crate) origin_unix_ms: u64,
    /// The gateway's own primary element.
    pub(crate) own: UnicastAddress,
}

/// The gateway's rules, without its mesh node.
#[derive(Debug)]
pub(crate) struct Bridge {
    settings: Settings,
    topics: Topics,
    database: NetworkDatabase,
    devices: Devices,
    groups: Groups,
    scheduler: Scheduler<Purpose>,
    interviews: Timers<UnicastAddress>,
    /// When to ask what an element has become, by the opcode of the message that told of the change.
    transitions: Timers<(UnicastAddress, Opcode)>,
    silences: Timers<UnicastAddress>,
    notices: Timers<announce::Notice>,
    next_tid: u8,
    next_job: u64,
    group_jobs: BTreeMap<u64, groups::GroupJob>,
    requests: BTreeMap<u64, requests::Job>,
    presses: VecDeque<reports::Press>,
    outbox: VecDeque<Publication>,
    changes: BTreeMap<String, Change>,
    /// What was stored of endpoints, by key.
    remembered: BTreeMap<String, Vec<u8>>,
    /// All that is stored, for a backup.
    stored: BTreeMap<Vec<u8>, Vec<u8>>,
    is_connected: bool,
    /// Topics on which something may be retained, and whether it is to be taken back.
    retained: BTreeMap<String, bool>,
    /// What was last published of groups, which change with each of their members.
    last_group_states: BTreeMap<String, Vec<u8>>,
    /// Groups that the gateway's own node has to subscribe to.
    subscriptions: VecDeque<Address>,
    statistics: Statistics,
    /// What has to be told once the broker is there.
    complaints: Vec<String>,
}

impl Bridge {
    /// A gateway for the nodes of `database`, some of which it knows from before.
    pub(crate) fn new(
        now: Instant,
        settings: Settings,
        database: NetworkDatabase,
        nodes: Vec<KnownNode>,
        first_tid: u8,
    ) -> Self {
        let (devices, renamed) = Devices::new(nodes);
        let mut complaints: Vec<String> = (renamed.into_iter())
            .map(|x| {
                format!(
                    "the name {:?} cannot be used, as {}; the node is known as {}",
                    x.wanted, x.why, x.used
                )
            })
            .collect();
        let (groups, bad_names) = Groups::new(&database, &devices);
        complaints.extend(bad_names);
        let subscriptions = groups.iter().map(|group| group.address).collect();
        Self {
            topics: Topics::new(&settings.base, settings.discovery_prefix.as_deref()),
            scheduler: Scheduler::new(now, settings.airtime),
            settings,
            database,
            devices,
            groups,
            interviews: Timers::new(),
            transitions: Timers::new(),
            silences: Timers::new(),
            notices: Timers::new(),
            next_tid: first_tid,
            next_job: 0,
            group_jobs: BTreeMap::new(),
            requests: BTreeMap::new(),
            presses: VecDeque::new(),
            outbox: VecDeque::new(),
            changes: BTreeMap::new(),
            remembered: BTreeMap::new(),
            stored: BTreeMap::new(),
            is_connected: false,
            retained: BTreeMap::new(),
            last_group_states: BTreeMap::new(),
            subscriptions,
            statistics: Statistics::default(),
            complaints,
        }
    }

    pub(crate) fn topics(&self) -> &Topics {
        &self.topics
    }

    pub(crate) fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter()
    }

    pub(crate) fn farthest(&self) -> Option<(&Device, u8)> {
        self.devices.farthest()
    }

    pub(crate) fn database(&self) -> &NetworkDatabase {
        &self.database
    }

    pub(crate) fn statistics(&self) -> Statistics {
        Statistics {
            retries: self.scheduler.retries(),
            pdus: self.scheduler.pdus(),
            waiting: self.scheduler.waiting(),
            ..self.statistics
        }
    }

    /// Asks every node that is not known what it is, and every other how it is.
    pub(crate) fn start(&mut self, now: Instant) {
        let devices: Vec<(UnicastAddress, bool)> =
            self.devices.iter().map(|device| (device.address, device.composition.is_some())).collect();
        for (address, is_known) in devices {
            if is_known {
                self.ask_everything(address);
            } else {
                self.interview(now, address);
            }
            self.expect(now, address);
        }
    }

    /// Obeys a message on one of the gateway's topics, or says why it cannot.
    pub(crate) fn handle_publish(&mut self, now: Instant, inbox: &Inbox<'_>) {
        if self.is_birth(inbox) {
            return self.publish_discovery();
        }
        // Retained commands would be obeyed again at every start.
        if inbox.retain {
            return;
        }
        let topics = self.topics.clone();
        let Some(inbound) = topics.parse(inbox.topic) else { return };
        let requester = inbox
            .response_topic
            .and_then(|topic| Requester::new(&self.topics, topic, inbox.correlation_data.clone()));
        let result = match inbound {
            Inbound::Get { name } => self.read(name, requester.clone()),
            Inbound::Set { name, attribute } => crate::command::SetCommand::parse(attribute, inbox.payload)
                .map_err(|error| format!("{}: {error}", inbox.topic))
                .and_then(|command| self.write(now, name, &command, requester.clone())),
            Inbound::Request { path } => {
                self.handle_request(now, path, inbox.payload, requester);
                return;
            }
        };
        if let Err(error) = result {
            self.fail(requester, error, 0);
        }
    }

    /// Repeats, gives up and asks what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(ended) = self.scheduler.handle_timeout(now) {
            self.give_up(now, ended);
        }
        while let Some((address, _)) = self.transitions.pop_expired(now) {
            self.ask_states(address);
        }
        while let Some(address) = self.interviews.pop_expired(now) {
            self.interview(now, address);
        }
        while let Some(address) = self.silences.pop_expired(now) {
            self.set_online(now, address, false);
        }
        self.publish_notices(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let timers =
            [self.transitions.next(), self.interviews.next(), self.silences.next(), self.notices.next()];
        timers.into_iter().chain([self.scheduler.poll_timeout()]).flatten().min()
    }

    /// The next message to put on the air, if there is airtime.
    pub(crate) fn poll_request(&mut self, now: Instant) -> Option<(Subject, Vec<u8>)> {
        self.scheduler.poll_transmit(now)
    }

    pub(crate) fn handle_sent(&mut self, now: Instant) {
        self.scheduler.handle_sent(now);
    }

    /// The next group that the gateway's own node has to subscribe to.
    pub(crate) fn poll_subscription(&mut self) -> Option<Address> {
        self.subscriptions.pop_front()
    }

    pub(crate) fn poll_publish(&mut self) -> Option<Publication> {
        self.outbox.pop_front()
    }

    /// What has to outlast a restart, by key.
    pub(crate) fn take_changes(&mut self) -> BTreeMap<String, Change> {
        std::mem::take(&mut self.changes)
    }

    /// Takes note of what is being stored.
    pub(crate) fn note_stored(&mut self, key: &[u8], change: Option<&[u8]>) {
        match change {
            Some(value) => _ = self.stored.insert(key.to_vec(), value.to_vec()),
            None => _ = self.stored.remove(key),
        }
    }

    /// Takes back what was stored before a restart. What cannot be read is found out again.
    pub(crate) fn restore(&mut self, stored: &BTreeMap<String, Vec<u8>>) {
        for (key, value) in stored {
            if let Some(topic) = key.strip_prefix(crate::record::RETAINED) {
                self.retained.insert(topic.to_owned(), value == &[1]);
            } else if key.starts_with(crate::record::ENDPOINT) {
                self.remembered.insert(key.clone(), value.clone());
            }
        }
        let nodes: Vec<UnicastAddress> = self.devices.iter().map(|device| device.address).collect();
        for node in nodes {
            if let Some(page_0) = stored.get(&crate::record::device(node)) {
                let _ = self.take_composition(node, page_0);
            }
        }
    }

    /// Where Home Assistant says that it has started.
    pub(crate) fn birth_topic(&self) -> Option<String> {
        self.settings.discovery_prefix.as_ref().map(|prefix| format!("{prefix}/status"))
    }

    pub(crate) fn group_address(&self, name: &str) -> Option<Address> {
        self.groups.named(name).map(|group| group.address)
    }

    /// Tells somebody who reads `bridge/logging`, once the broker is there.
    pub(crate) fn complain(&mut self, complaint: String) {
        self.complaints.push(complaint);
    }

    /// Publishes an order to a thing that speaks MQTT.
    pub(crate) fn publish_command(&mut self, topic: String, payload: String) {
        let payload = payload.into_bytes();
        self.outbox.push_back(Publication { topic, payload, retain: false, correlation_data: None });
    }

    fn job_id(&mut self) -> u64 {
        self.next_job += 1;
        self.next_job
    }

    pub(crate) fn log_error(&mut self, message: &str) {
        self.log("error", message);
    }

    fn log(&mut self, level: &str, message: &str) {
        let payload = json!({"level": level, "message": message});
        self.publish(self.topics.bridge("logging"), &payload);
    }

    fn event(&mut self, kind: &str, data: &Value) {
        self.publish(self.topics.bridge("event"), &json!({"type": kind, "data": data}));
    }

    fn publish(&mut self, topic: String, payload: &Value) {
        if self.outbox.len() >= MAX_OUTBOX {
            // Without a broker for so long, the oldest news are the least worth.
            self.outbox.pop_front();
        }
        let payload = payload.to_string().into_bytes();
        self.outbox.push_back(Publication { topic, payload, retain: false, correlation_data: None });
    }

    fn remember_network(&mut self) {
        self.changes.insert(crate::record::NETWORK.to_owned(), Some(self.database.to_json().into_bytes()));
    }
}
