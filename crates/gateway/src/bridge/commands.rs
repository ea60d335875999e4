//! Commands and questions: what people ask for, and how each ends.

use std::collections::VecDeque;

use clock::Instant;
use mesh_models::messages::{BatteryGet, CtlTemperatureRangeGet, LightnessRangeGet};
use mesh_models::sensor::SensorGet;
use mesh_wire::access::Opcode;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::foundation::ConfigMessage;
use serde_json::Value;

use super::{Bridge, INTERVIEW_PAUSE, Publication};
use crate::command::SetCommand;
use crate::devices::Endpoint;
use crate::facts::Facts;
use crate::plan::{self, Recipient, Step};
use crate::requester::{Outcome, Requester};
use crate::scheduler::{Ended, Lane, Priority, Request, Subject, Submitted};

/// Clients that may wait for the same reading; further ones get no answer of their own.
const MAX_READERS: usize = 16;

/// What a request is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// To know what a node is.
    Interview,
    /// To know a state.
    Read { requesters: Vec<Requester> },
    /// To set states of one endpoint.
    Write(Write),
    /// To set states of a group: the number of its job.
    Group(u64),
    /// To configure a node: the number of a request's job, and what the answer is about.
    Configure { job: u64, about: ConfigMessage },
}

/// A command to one endpoint, a message at a time.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) step: Step,
    pub(crate) rest: VecDeque<Step>,
    pub(crate) tid: u8,
    pub(crate) requester: Option<Requester>,
    /// The job of the group that it is for, if it is for one.
    pub(crate) group_job: Option<u64>,
    /// Attempts of the messages before.
    pub(crate) attempts: u32,
}

impl Bridge {
    pub(super) fn interview(&mut self, now: Instant, address: UnicastAddress) {
        let request = Request {
            subject: Subject { destination: address.into(), lane: Lane::Configure },
            priority: Priority::Background,
            payload: ConfigMessage::CompositionDataGet { page: 0 }.encode(),
            wanted: Facts::default(),
            owner: Purpose::Interview,
        };
        if let Submitted::Full(_) = self.scheduler.submit(request) {
            self.interviews.set(address, now + INTERVIEW_PAUSE);
        }
    }

    pub(super) fn read(&mut self, name: &str, requester: Option<Requester>) -> Result<(), String> {
        if let Some(group) = self.groups.named(name) {
            let members: Vec<UnicastAddress> = group.members.iter().copied().collect();
            for member in members {
                self.ask_states(member);
            }
            let data = self.group_state(name);
            if let Some(requester) = requester {
                self.answer(requester, &Outcome::Confirmed { data, attempts: 0 });
            }
            return Ok(());
        }
        let endpoint = self.devices.find(name)?;
        let address = endpoint.address;
        let questions = questions_of(endpoint);
        let last =
            questions.len().checked_sub(1).ok_or_else(|| format!("{name} has nothing that can be read"))?;
        let mut requester = requester;
        for (index, (opcode, payload)) in questions.into_iter().enumerate() {
            // The answer to the last question is the answer to all.
            let requester = if index == last { requester.take() } else { None };
            self.ask(address, opcode, payload, Priority::Person, requester);
        }
        Ok(())
    }

    /// Asks all that can be asked of a node's endpoints, in the background.
    pub(super) fn ask_everything(&mut self, node: UnicastAddress) {
        let Some(device) = self.devices.get(node) else { return };
        let endpoints: Vec<(UnicastAddress, Vec<Question>)> = (device.endpoints.iter())
            .map(|endpoint| {
                let mut questions = questions_of(endpoint);
                if endpoint.capabilities.lightness {
                    questions.push((LightnessRangeGet::OPCODE, LightnessRangeGet {}.encode()));
                }
                if endpoint.capabilities.temperature.is_some() {
                    questions.push((CtlTemperatureRangeGet::OPCODE, CtlTemperatureRangeGet {}.encode()));
                }
                (endpoint.address, questions)
            })
            .collect();
        for (address, questions) in endpoints {
            for (opcode, payload) in questions {
                self.ask(address, opcode, payload, Priority::Background, None);
            }
        }
    }

    /// Asks an endpoint for its states, in the background.
    pub(super) fn ask_states(&mut self, address: UnicastAddress) {
        let Some(endpoint) = self.devices.endpoint(address) else { return };
        let (address, questions) = (endpoint.address, plan::questions(&endpoint.capabilities));
        for (opcode, payload) in questions {
            self.ask(address, opcode, payload, Priority::Background, None);
        }
    }

    pub(super) fn ask(
        &mut self,
        address: UnicastAddress,
        opcode: Opcode,
        payload: Vec<u8>,
        priority: Priority,
        requester: Option<Requester>,
    ) {
        let subject = Subject { destination: address.into(), lane: Lane::Get(opcode) };
        if let Some(Purpose::Read { requesters }) = self.scheduler.owner_mut(subject) {
            if requesters.len() < MAX_READERS {
                requesters.extend(requester);
            }
            if priority == Priority::Person {
                self.scheduler.hurry(subject);
            }
            return;
        }
        let owner = Purpose::Read { requesters: requester.into_iter().collect() };
        let request = Request { subject, priority, payload, wanted: Facts::default(), owner };
        self.submit(request);
    }

    pub(super) fn write(
        &mut self,
        now: Instant,
        name: &str,
        command: &SetCommand,
        requester: Option<Requester>,
    ) -> Result<(), String> {
        if let Some(group) = self.groups.named(name) {
            let address = group.address;
            return self.write_group(now, address, command, requester);
        }
        let endpoint = self.devices.find(name)?;
        if !endpoint.capabilities.is_controllable() {
            return Err(format!("{name} has nothing that can be set; bridge/devices lists what it exposes"));
        }
        let member = endpoint.address;
        let steps = plan::steps(command, &recipient(endpoint)).map_err(|why| format!("{name} {why}"))?;
        self.statistics.commands += 1;
        self.release_member(member, &plan::outcome(&steps));
        self.write_steps(steps, requester, None, 0);
        Ok(())
    }

    /// Ends the commands to a member that a newer one to its group replaces.
    pub(super) fn supersede_writes(&mut self, now: Instant, member: UnicastAddress, wanted: &Facts) {
        self.release_member(member, wanted);
        let Some(endpoint) = self.devices.endpoint(member) else { return };
        let elements: Vec<UnicastAddress> =
            std::iter::once(endpoint.address).chain(endpoint.capabilities.other_elements()).collect();
        for element in elements {
            let subject = Subject { destination: element.into(), lane: Lane::Set };
            for ended in self.scheduler.withdraw(now, subject, wanted) {
                self.supersede(ended.request.owner, ended.attempts);
            }
        }
    }

    /// Has the first of the steps sent; the others follow when it is confirmed.
    pub(super) fn write_steps(
        &mut self,
        mut steps: VecDeque<Step>,
        requester: Option<Requester>,
        group_job: Option<u64>,
        attempts: u32,
    ) {
        let Some(step) = steps.pop_front() else { return };
        // Repetitions carry the same TID, so that the lamp takes them as one command.
        let tid = self.take_tid();
        let request = Request {
            subject: Subject { destination: step.destination, lane: Lane::Set },
            priority: Priority::Person,
            payload: step.message.encode(tid, true),
            wanted: step.wanted,
            owner: Purpose::Write(Write { step, rest: steps, tid, requester, group_job, attempts }),
        };
        self.submit(request);
    }

    pub(super) fn take_tid(&mut self) -> u8 {
        let tid = self.next_tid;
        self.next_tid = tid.wrapping_add(1);
        tid
    }

    pub(super) fn submit(&mut self, request: Request<Purpose>) {
        match self.scheduler.submit(request) {
            Submitted::Accepted => {}
            Submitted::Replaced(older) => {
                for older in older {
                    self.supersede(older.owner, 0);
                }
            }
            Submitted::Full(request) => {
                let error = "too many commands wait for their turn on the air; send fewer, or use a group";
                self.end_without_answer(request.owner, error, 0);
            }
        }
    }

    fn supersede(&mut self, owner: Purpose, attempts: u32) {
        self.end_quietly(owner, "superseded by a newer command", attempts);
    }

    /// Takes a request whose attempts are used up, or that a newer one says all of.
    pub(super) fn give_up(&mut self, now: Instant, ended: Ended<Purpose>) {
        if ended.is_superseded {
            return self.supersede(ended.request.owner, ended.attempts);
        }
        if let Purpose::Group(job) = ended.request.owner {
            return self.continue_group(job);
        }
        let destination = ended.request.subject.destination;
        if let (Purpose::Interview, Address::Unicast(address)) = (&ended.request.owner, destination) {
            self.interviews.set(address, now + INTERVIEW_PAUSE);
        }
        let address = destination.unicast();
        let device = address.and_then(|address| self.devices.of_element(address));
        let (node, name) = match device {
            Some(device) => (Some(device.address), self.name_of(destination)),
            None => (None, destination.to_string()),
        };
        let error = format!(
            "{name} did not answer {} attempts in {:.1} s; its state is unknown. See that it has power and that a relay is near it",
            ended.attempts,
            ended.took.as_secs_f64(),
        );
        self.end_without_answer(ended.request.owner, &error, ended.attempts);
        if let Some(node) = node {
            self.set_online(now, node, false);
        }
    }

    /// What topics call whoever has an address.
    fn name_of(&self, destination: Address) -> String {
        let address = destination.unicast();
        let endpoint = address.and_then(|address| self.devices.endpoint(address)).map(|x| x.name.clone());
        let device = || address.and_then(|address| self.devices.of_element(address)).map(|x| x.name.clone());
        endpoint.or_else(device).unwrap_or_else(|| destination.to_string())
    }

    fn end_without_answer(&mut self, owner: Purpose, error: &str, attempts: u32) {
        self.log_error(error);
        self.end_quietly(owner, error, attempts);
    }

    fn end_quietly(&mut self, owner: Purpose, error: &str, attempts: u32) {
        let requesters = match owner {
            Purpose::Interview => Vec::new(),
            Purpose::Read { requesters } => requesters,
            Purpose::Write(write) => {
                if let (Some(job), Some(address)) = (write.group_job, write.step.destination.unicast()) {
                    return self.fail_member(job, address);
                }
                self.statistics.failed += 1;
                write.requester.into_iter().collect()
            }
            Purpose::Group(job) => return self.fail_group(job, error),
            Purpose::Configure { job, .. } => return self.fail_request(job, error),
        };
        for requester in requesters {
            self.answer(requester, &Outcome::Failed { error: error.to_owned(), attempts });
        }
    }

    /// Takes a request that was answered.
    pub(super) fn succeed(&mut self, ended: Ended<Purpose>, endpoint: UnicastAddress) {
        let attempts = ended.attempts;
        match ended.request.owner {
            Purpose::Read { requesters } => {
                let data = self.state_of(endpoint);
                for requester in requesters {
                    self.answer(requester, &Outcome::Confirmed { data: data.clone(), attempts });
                }
            }
            Purpose::Write(write) => self.succeed_write(write, attempts, endpoint),
            Purpose::Interview | Purpose::Group(_) | Purpose::Configure { .. } => {}
        }
    }

    fn succeed_write(&mut self, write: Write, attempts: u32, endpoint: UnicastAddress) {
        let attempts = write.attempts + attempts;
        if !write.rest.is_empty() {
            return self.write_steps(write.rest, write.requester, write.group_job, attempts);
        }
        if write.group_job.is_some() {
            return;
        }
        self.statistics.confirmed += 1;
        let Some(requester) = write.requester else { return };
        let data = self.state_of(endpoint);
        self.answer(requester, &Outcome::Confirmed { data, attempts });
    }

    /// Has further attempts begin a new transaction: the element has answered, and did not do what was asked, so
    /// that it may have taken this one for an older.
    pub(super) fn renew_transaction(&mut self, subject: Subject) {
        let tid = self.take_tid();
        let Some(Purpose::Write(write)) = self.scheduler.owner_mut(subject) else { return };
        write.tid = tid;
        let payload = write.step.message.encode(tid, true);
        if let Some(old) = self.scheduler.payload_mut(subject) {
            *old = payload;
        }
    }

    pub(super) fn fail(&mut self, requester: Option<Requester>, error: String, attempts: u32) {
        self.log_error(&error);
        if let Some(requester) = requester {
            self.answer(requester, &Outcome::Failed { error, attempts });
        }
    }

    pub(super) fn answer(&mut self, requester: Requester, outcome: &Outcome) {
        self.outbox.push_back(Publication {
            topic: requester.response_topic,
            payload: outcome.to_json().to_string().into_bytes(),
            retain: false,
            correlation_data: requester.correlation_data,
        });
    }

    /// The state of an endpoint, as it is published.
    pub(super) fn state_of(&self, address: UnicastAddress) -> Value {
        let Some((device, endpoint)) = self.devices.of_element(address).zip(self.devices.endpoint(address))
        else {
            return Value::Null;
        };
        self.state_json(device, endpoint)
    }
}

/// Whoever an endpoint is, for a plan.
pub(super) fn recipient(endpoint: &Endpoint) -> Recipient<'_> {
    Recipient {
        address: endpoint.address.into(),
        capabilities: &endpoint.capabilities,
        facts: endpoint.shadow.facts(),
        lightness_range: endpoint.lightness_range,
        temperature_range: endpoint.temperature_range,
    }
}

/// The opcode of a message that asks for something, and the message.
type Question = (Opcode, Vec<u8>);

/// All questions that tell an endpoint's state.
fn questions_of(endpoint: &Endpoint) -> Vec<Question> {
    let mut questions = plan::questions(&endpoint.capabilities);
    if endpoint.capabilities.battery {
        questions.push((BatteryGet::OPCODE, BatteryGet {}.encode()));
    }
    if endpoint.capabilities.sensor {
        questions.push((SensorGet::OPCODE, SensorGet { property_id: None }.encode()));
    }
    questions
}
