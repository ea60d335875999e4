//! What a message on a topic means for the mesh, and what a message of the mesh means on topics.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Timers};
use mesh_models::generic::{OnOffGet, OnOffSet, OnOffStatus};
use mesh_models::transition::TransitionTime;
use mesh_wire::address::UnicastAddress;
use mesh_wire::foundation::{CompositionData, ConfigMessage};
use serde_json::{Value, json};

use crate::command::{SetCommand, Target};
use crate::devices::{Device, Devices, Endpoint, KnownNode};
use crate::exchanges::{Ended, Exchanges, Kind, Priority, Request, Subject, Submitted};
use crate::exposes;
use crate::requester::{Outcome, Requester};
use crate::topics::{Inbound, Topics};

/// Clients that may wait for the same reading; further ones get no answer of their own.
const MAX_READERS: usize = 16;

/// How long a node that does not say what it is has peace before it is asked again.
const INTERVIEW_PAUSE: Duration = Duration::from_secs(30);

/// How long after the end of a transition the gateway waits for the lamp's own report before it asks.
const TRANSITION_GRACE: Duration = Duration::from_millis(500);

/// A message that the gateway publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The Topic Name.
    pub topic: String,
    /// JSON.
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
    /// Commands that their lamp confirmed.
    pub confirmed: u64,
    /// Commands that ended without a confirmation.
    pub failed: u64,
    /// Transmissions beyond the first of a request.
    pub retries: u64,
}

/// What a request is for.
#[derive(Debug)]
enum Purpose {
    Interview,
    Read { requesters: Vec<Requester> },
    Write { on: bool, requester: Option<Requester> },
}

/// The gateway's rules, without its mesh node.
#[derive(Debug)]
pub(crate) struct Bridge {
    topics: Topics,
    network: Value,
    devices: Devices,
    exchanges: Exchanges<Purpose>,
    interviews: Timers<UnicastAddress>,
    transitions: Timers<UnicastAddress>,
    next_tid: u8,
    outbox: VecDeque<Publication>,
    statistics: Statistics,
    /// What has to be told once the broker is there.
    complaints: Vec<String>,
}

impl Bridge {
    /// A gateway for `nodes`. `network` is what `bridge/info` says of the network itself.
    pub(crate) fn new(base: &str, network: Value, nodes: Vec<KnownNode>) -> Self {
        let (devices, renamed) = Devices::new(nodes);
        let complaints = (renamed.into_iter())
            .map(|x| {
                format!(
                    "the name {:?} cannot be used, as {}; the node is known as {}",
                    x.wanted, x.why, x.used
                )
            })
            .collect();
        Self {
            topics: Topics::new(base),
            network,
            devices,
            exchanges: Exchanges::new(),
            interviews: Timers::new(),
            transitions: Timers::new(),
            next_tid: 0,
            outbox: VecDeque::new(),
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

    pub(crate) fn statistics(&self) -> Statistics {
        Statistics { retries: self.exchanges.retries(), ..self.statistics }
    }

    /// Asks every node what it is.
    pub(crate) fn start(&mut self, now: Instant) {
        let addresses: Vec<UnicastAddress> = self.devices.iter().map(|device| device.address).collect();
        for address in addresses {
            self.interview(now, address);
        }
    }

    /// Publishes all that is retained: a broker is there, and may have forgotten.
    pub(crate) fn handle_connected(&mut self) {
        self.publish_retained(self.topics.bridge("state"), &json!({"state": "online"}));
        self.publish_info();
        self.publish_devices();
        let states: Vec<(String, Value)> = (self.devices.iter())
            .flat_map(|device| &device.endpoints)
            .map(|endpoint| (self.topics.state(&endpoint.name), endpoint.shadow.to_json()))
            .collect();
        for (topic, state) in states {
            self.publish_retained(topic, &state);
        }
        for complaint in std::mem::take(&mut self.complaints) {
            self.log_error(&complaint);
        }
    }

    /// Obeys a message on one of the gateway's topics, or says why it cannot.
    pub(crate) fn handle_publish(&mut self, now: Instant, inbox: &Inbox<'_>) {
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
            Inbound::Get { name } => self.read(now, name, requester.clone()),
            Inbound::Set { name, attribute } => SetCommand::parse(attribute, inbox.payload)
                .map_err(|error| format!("{}: {error}", inbox.topic))
                .and_then(|command| self.write(now, name, command, requester.clone())),
        };
        if let Err(error) = result {
            self.fail(requester, error, 0);
        }
    }

    /// Takes a message that came with an AppKey.
    pub(crate) fn handle_status(&mut self, now: Instant, source: UnicastAddress, status: &OnOffStatus) {
        let Some(endpoint) = self.devices.endpoint_mut(source) else { return };
        let news = endpoint.shadow.confirm_on(status.present);
        let (topic, state) = (self.topics.state(&endpoint.name), endpoint.shadow.to_json());
        match status.target {
            // What the lamp cannot say ("unknown") is asked for soon.
            Some((_, remaining)) => {
                let remaining = remaining.duration().unwrap_or_default();
                self.transitions.set(source, now + remaining + TRANSITION_GRACE);
            }
            None => _ = self.transitions.cancel(&source),
        }
        let set = Subject { address: source, kind: Kind::Set };
        let wanted = match self.exchanges.active_owner(set) {
            Some(Purpose::Write { on, .. }) => Some(*on),
            _ => None,
        };
        let is_confirmed = wanted == Some(status.destiny());
        let written = is_confirmed.then(|| self.exchanges.answered(now, set)).flatten();
        let read = self.exchanges.answered(now, Subject { address: source, kind: Kind::Get });
        if news || written.is_some() || read.is_some() {
            self.publish_retained(topic, &state);
        }
        if let Some(ended) = written {
            self.statistics.confirmed += 1;
            self.confirm(ended, &state);
        }
        if let Some(ended) = read {
            self.confirm(ended, &state);
        }
    }

    /// Takes what a node says of itself; it came with that node's device key.
    pub(crate) fn handle_composition(&mut self, now: Instant, source: UnicastAddress, page_0: &[u8]) {
        let subject = Subject { address: source, kind: Kind::Composition };
        if self.exchanges.answered(now, subject).is_none() {
            return;
        }
        let composition = match CompositionData::decode(page_0) {
            Ok(composition) => composition,
            Err(error) => {
                self.log_error(&format!("the composition data of {source} cannot be read: {error}"));
                return;
            }
        };
        self.devices.set_composition(source, composition);
        self.publish_devices();
        let Some(device) = self.devices.get(source) else { return };
        let endpoints: Vec<Endpoint> = device.endpoints.clone();
        for endpoint in endpoints {
            self.publish_retained(self.topics.state(&endpoint.name), &endpoint.shadow.to_json());
            self.ask_state(now, endpoint.address, Priority::Background, None);
        }
    }

    /// Notes how far away `source` is: its message arrived with `ttl`.
    pub(crate) fn note_distance(&mut self, source: UnicastAddress, ttl: u8) {
        let farthest = self.devices.farthest().map(|(device, hops)| (device.address, hops));
        let Some(device) = self.devices.of_element_mut(source) else { return };
        // A message that was sent with another TTL than the node's default says nothing about distance.
        let Some(hops) = device.default_ttl.checked_sub(ttl).map(|relays| relays + 1) else { return };
        if device.note_hops(hops) {
            self.publish_devices();
        }
        if farthest != self.devices.farthest().map(|(device, hops)| (device.address, hops)) {
            self.publish_info();
        }
    }

    /// Repeats, gives up and asks what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(ended) = self.exchanges.handle_timeout(now) {
            self.give_up(now, ended);
        }
        while let Some(address) = self.transitions.pop_expired(now) {
            self.ask_state(now, address, Priority::Background, None);
        }
        while let Some(address) = self.interviews.pop_expired(now) {
            self.interview(now, address);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.exchanges.poll_timeout(), self.transitions.next(), self.interviews.next()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(crate) fn poll_request(&mut self) -> Option<(Subject, Vec<u8>)> {
        self.exchanges.poll_transmit()
    }

    pub(crate) fn poll_publish(&mut self) -> Option<Publication> {
        self.outbox.pop_front()
    }

    fn interview(&mut self, now: Instant, address: UnicastAddress) {
        let request = Request {
            subject: Subject { address, kind: Kind::Composition },
            priority: Priority::Background,
            payload: ConfigMessage::CompositionDataGet { page: 0 }.encode(),
            owner: Purpose::Interview,
        };
        if let Submitted::Full(_) = self.exchanges.submit(now, request) {
            self.interviews.set(address, now + INTERVIEW_PAUSE);
        }
    }

    fn read(&mut self, now: Instant, name: &str, requester: Option<Requester>) -> Result<(), String> {
        let address = self.devices.find(name)?.address;
        self.ask_state(now, address, Priority::Person, requester);
        Ok(())
    }

    fn ask_state(
        &mut self,
        now: Instant,
        address: UnicastAddress,
        priority: Priority,
        requester: Option<Requester>,
    ) {
        let subject = Subject { address, kind: Kind::Get };
        if let Some(Purpose::Read { requesters }) = self.exchanges.owner_mut(subject) {
            if requesters.len() < MAX_READERS {
                requesters.extend(requester);
            }
            return;
        }
        let payload = OnOffGet.encode();
        let owner = Purpose::Read { requesters: requester.into_iter().collect() };
        let request = Request { subject, priority, payload, owner };
        if let Submitted::Full(request) = self.exchanges.submit(now, request) {
            self.refuse(request);
        }
    }

    fn write(
        &mut self,
        now: Instant,
        name: &str,
        command: SetCommand,
        requester: Option<Requester>,
    ) -> Result<(), String> {
        let endpoint = self.devices.find(name)?;
        let on = match (command.target, endpoint.shadow.on()) {
            (Target::On, _) => true,
            (Target::Off, _) => false,
            (Target::Toggle, Some(on)) => !on,
            (Target::Toggle, None) => {
                return Err(format!(
                    "{name} cannot be toggled, as its state is not known yet; say ON or OFF"
                ));
            }
        };
        let address = endpoint.address;
        // Repetitions carry the same TID, so that the lamp takes them as one command.
        let tid = self.next_tid;
        self.next_tid = tid.wrapping_add(1);
        let transition = command.transition.map(TransitionTime::at_least);
        let request = Request {
            subject: Subject { address, kind: Kind::Set },
            priority: Priority::Person,
            payload: OnOffSet::new(on, tid, transition).encode(),
            owner: Purpose::Write { on, requester },
        };
        self.statistics.commands += 1;
        match self.exchanges.submit(now, request) {
            Submitted::Accepted => {}
            Submitted::Replaced(older) => self.supersede(older),
            Submitted::Full(request) => self.refuse(request),
        }
        Ok(())
    }

    fn supersede(&mut self, older: Request<Purpose>) {
        if let Purpose::Write { requester: Some(requester), .. } = older.owner {
            let error = "superseded by a newer command before it was sent".to_owned();
            self.answer(requester, &Outcome::Failed { error, attempts: 0 });
        }
    }

    fn refuse(&mut self, request: Request<Purpose>) {
        let error = "too many commands wait for their turn on the air; send fewer, or use a group".to_owned();
        self.end_without_answer(request, &error, 0);
    }

    fn give_up(&mut self, now: Instant, ended: Ended<Purpose>) {
        let address = ended.request.subject.address;
        if matches!(ended.request.owner, Purpose::Interview) {
            self.interviews.set(address, now + INTERVIEW_PAUSE);
        }
        let name = self.devices.endpoint(address).map(|endpoint| endpoint.name.clone());
        let name = name.or_else(|| self.devices.get(address).map(|device| device.name.clone()));
        let error = format!(
            "{} did not answer {} attempts in {:.1} s; its state is unknown. See that it has power and that a relay is near it",
            name.unwrap_or_else(|| address.to_string()),
            ended.attempts,
            ended.took.as_secs_f64(),
        );
        self.end_without_answer(ended.request, &error, ended.attempts);
    }

    fn end_without_answer(&mut self, request: Request<Purpose>, error: &str, attempts: u32) {
        let requesters = match request.owner {
            Purpose::Interview => Vec::new(),
            Purpose::Read { requesters } => requesters,
            Purpose::Write { requester, .. } => {
                self.statistics.failed += 1;
                requester.into_iter().collect()
            }
        };
        for requester in requesters {
            self.answer(requester, &Outcome::Failed { error: error.to_owned(), attempts });
        }
        self.log_error(error);
    }

    fn confirm(&mut self, ended: Ended<Purpose>, state: &Value) {
        let attempts = ended.attempts;
        let requesters = match ended.request.owner {
            Purpose::Interview => Vec::new(),
            Purpose::Read { requesters } => requesters,
            Purpose::Write { requester, .. } => requester.into_iter().collect(),
        };
        for requester in requesters {
            self.answer(requester, &Outcome::Confirmed { data: state.clone(), attempts });
        }
    }

    fn fail(&mut self, requester: Option<Requester>, error: String, attempts: u32) {
        self.log_error(&error);
        if let Some(requester) = requester {
            self.answer(requester, &Outcome::Failed { error, attempts });
        }
    }

    fn answer(&mut self, requester: Requester, outcome: &Outcome) {
        self.outbox.push_back(Publication {
            topic: requester.response_topic,
            payload: outcome.to_json().to_string().into_bytes(),
            retain: false,
            correlation_data: requester.correlation_data,
        });
    }

    fn log_error(&mut self, message: &str) {
        let payload = json!({"level": "error", "message": message}).to_string().into_bytes();
        let topic = self.topics.bridge("logging");
        self.outbox.push_back(Publication { topic, payload, retain: false, correlation_data: None });
    }

    fn publish_retained(&mut self, topic: String, payload: &Value) {
        let payload = payload.to_string().into_bytes();
        self.outbox.push_back(Publication { topic, payload, retain: true, correlation_data: None });
    }

    fn publish_info(&mut self) {
        let farthest = (self.devices.farthest())
            .map(|(device, hops)| json!({"name": device.name, "address": device.address.to_string(), "hops": hops}));
        let info = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "network": self.network,
            "farthest": farthest,
        });
        self.publish_retained(self.topics.bridge("info"), &info);
    }

    fn publish_devices(&mut self) {
        let devices = Value::Array(self.devices.iter().map(exposes::device_to_json).collect());
        self.publish_retained(self.topics.bridge("devices"), &devices);
    }
}
