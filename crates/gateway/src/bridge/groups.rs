//! Commands to groups: one message on the air for all members, and then whoever did not follow by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use clock::Instant;
use mesh_wire::address::{Address, UnicastAddress};
use serde_json::{Value, json};

use super::Bridge;
use super::commands::{Purpose, recipient};
use crate::command::SetCommand;
use crate::facts::{Facts, Report};
use crate::groups::Group;
use crate::plan::{self, Recipient, Step};
use crate::requester::{Outcome, Requester};
use crate::scheduler::{Lane, Priority, Request, Subject};

/// A command to a group that is under way.
#[derive(Debug)]
pub(super) struct GroupJob {
    group: Address,
    requester: Option<Requester>,
    command: SetCommand,
    /// The message that is on its way to all, and those that follow it.
    step: Step,
    rest: VecDeque<Step>,
    /// The members that have not said yet that they are what they should be.
    pending: BTreeMap<UnicastAddress, Member>,
    /// Those that did not do it.
    failed: BTreeSet<UnicastAddress>,
    /// Messages to the whole group so far.
    attempts: u32,
}

/// What a member should be, and what it has said it will be.
#[derive(Clone, Copy, Debug, Default)]
struct Member {
    wanted: Facts,
    said: Facts,
}

impl Bridge {
    pub(super) fn write_group(
        &mut self,
        now: Instant,
        address: Address,
        command: &SetCommand,
        requester: Option<Requester>,
    ) -> Result<(), String> {
        let Some(group) = self.groups.get(address) else { return Ok(()) };
        let name = group.name.clone();
        if group.members.is_empty() {
            return Err(format!("{name} has no members; add some with bridge/request/group/members/add"));
        }
        let capabilities = self.groups.capabilities(group, &self.devices);
        let state = Facts { on: self.group_on(group), ..Facts::default() };
        let to = Recipient {
            address,
            capabilities: &capabilities,
            facts: &state,
            lightness_range: Group::LIGHTNESS_RANGE,
            temperature_range: Group::TEMPERATURE_RANGE,
        };
        let command = command.resolved(state.on);
        let mut steps = plan::steps(&command, &to).map_err(|why| format!("{name} {why}"))?;
        let Some(step) = steps.pop_front() else { return Ok(()) };
        let pending = self.wanted_of(group, &command);
        self.statistics.commands += 1;
        for (&member, state) in &pending {
            self.supersede_writes(now, member, &state.wanted);
        }
        let job = self.job_id();
        let job_of = GroupJob {
            group: address,
            requester,
            command,
            step,
            rest: steps,
            pending,
            failed: BTreeSet::new(),
            attempts: 0,
        };
        self.group_jobs.insert(job, job_of);
        self.send_to_group(job);
        Ok(())
    }

    /// What each member that can do something of a command should be.
    fn wanted_of(&self, group: &Group, command: &SetCommand) -> BTreeMap<UnicastAddress, Member> {
        let members = group.members.iter().filter_map(|&member| {
            let wanted = plan::outcome(&self.steps_for(member, command)?);
            (wanted != Facts::default()).then_some((member, Member { wanted, said: Facts::default() }))
        });
        members.collect()
    }

    /// The messages with which one member does its part of a command.
    fn steps_for(&self, member: UnicastAddress, command: &SetCommand) -> Option<VecDeque<Step>> {
        let endpoint = self.devices.endpoint(member)?;
        plan::steps(&command.limited_to(&endpoint.capabilities), &recipient(endpoint)).ok()
    }

    /// Sends the present message of a job to all at once, unacknowledged.
    fn send_to_group(&mut self, number: u64) {
        let tid = self.take_tid();
        let Some(job) = self.group_jobs.get_mut(&number) else { return };
        job.attempts += 1;
        let request = Request {
            subject: Subject { destination: job.step.destination, lane: Lane::Set },
            priority: Priority::Person,
            payload: job.step.message.encode(tid, false),
            wanted: job.step.wanted,
            owner: Purpose::Group(number),
        };
        self.submit(request);
    }

    /// Goes on with a job whose message has had its time: with the next one, or with the members that have not
    /// said that they did it.
    pub(super) fn continue_group(&mut self, number: u64) {
        let Some(job) = self.group_jobs.get_mut(&number) else { return };
        if let Some(step) = job.rest.pop_front() {
            job.step = step;
            return self.send_to_group(number);
        }
        let command = job.command;
        let members: Vec<UnicastAddress> = job.pending.keys().copied().collect();
        for member in members {
            match self.steps_for(member, &command) {
                Some(steps) if !steps.is_empty() => self.write_steps(steps, None, Some(number), 0),
                _ => self.fail_member(number, member),
            }
        }
        self.finish_group(number);
    }

    /// Takes what a member says of itself.
    pub(super) fn settle_groups(&mut self, now: Instant, member: UnicastAddress, report: &Report) {
        let mut settled = Vec::new();
        for (&number, job) in &mut self.group_jobs {
            let Some(state) = job.pending.get_mut(&member) else { continue };
            state.said.learn(&report.destiny);
            if state.said.fulfil(&state.wanted) {
                job.pending.remove(&member);
                settled.push((number, job.step.destination));
            }
        }
        for (number, destination) in settled {
            let Some(job) = self.group_jobs.get(&number) else { continue };
            let subject = Subject { destination, lane: Lane::Set };
            let is_on_air =
                matches!(self.scheduler.owner_mut(subject), Some(Purpose::Group(it)) if *it == number);
            if job.pending.is_empty() && job.rest.is_empty() && is_on_air {
                self.scheduler.answered(now, subject);
            }
            self.finish_group(number);
        }
    }

    /// A member did not do what it was told on its own either.
    pub(super) fn fail_member(&mut self, number: u64, element: UnicastAddress) {
        let Some(member) = self.devices.endpoint(element).map(|endpoint| endpoint.address) else { return };
        if let Some(job) = self.group_jobs.get_mut(&number)
            && job.pending.remove(&member).is_some()
        {
            job.failed.insert(member);
        }
        self.finish_group(number);
    }

    /// A member is told something else: the jobs that wanted what this replaces have no business with it any more.
    pub(super) fn release_member(&mut self, member: UnicastAddress, wanted: &Facts) {
        let mut released = Vec::new();
        for (&number, job) in &mut self.group_jobs {
            if job.pending.get(&member).is_some_and(|state| wanted.replaces(&state.wanted)) {
                job.pending.remove(&member);
                released.push(number);
            }
        }
        for number in released {
            self.finish_group(number);
        }
    }

    /// Ends a job that was not carried out.
    pub(super) fn fail_group(&mut self, number: u64, error: &str) {
        let Some(job) = self.group_jobs.remove(&number) else { return };
        self.statistics.failed += 1;
        if let Some(requester) = job.requester {
            self.answer(requester, &Outcome::Failed { error: error.to_owned(), attempts: job.attempts });
        }
    }

    /// Ends a job when nothing of it is open any more.
    fn finish_group(&mut self, number: u64) {
        let is_over =
            self.group_jobs.get(&number).is_some_and(|job| job.pending.is_empty() && job.rest.is_empty());
        if !is_over {
            return;
        }
        let Some(job) = self.group_jobs.remove(&number) else { return };
        let name =
            self.groups.get(job.group).map_or_else(|| job.group.to_string(), |group| group.name.clone());
        let outcome = if job.failed.is_empty() {
            self.statistics.confirmed += 1;
            Outcome::Confirmed { data: self.group_state(&name), attempts: job.attempts }
        } else {
            self.statistics.failed += 1;
            let names = job.failed.iter().filter_map(|&member| self.devices.endpoint(member));
            let names: Vec<&str> = names.map(|endpoint| endpoint.name.as_str()).collect();
            let error = format!("of {name}, these did not confirm the command: {}", names.join(", "));
            self.log_error(&error);
            Outcome::Failed { error, attempts: job.attempts }
        };
        if let Some(requester) = job.requester {
            self.answer(requester, &outcome);
        }
    }

    /// The state of a group: on if any member is, and what its lit members have in common.
    pub(super) fn group_state(&self, name: &str) -> Value {
        let Some(group) = self.groups.named(name) else { return Value::Null };
        let capabilities = self.groups.capabilities(group, &self.devices);
        let members = group.members.iter().filter_map(|&member| self.devices.endpoint(member));
        let states: Vec<Facts> = members.map(|endpoint| *endpoint.shadow.facts()).collect();
        let lit: Vec<Facts> = states.iter().copied().filter(|facts| facts.on == Some(true)).collect();
        let common = lit.iter().copied().reduce(Facts::in_common).unwrap_or_default();
        let on = self.group_on(group);
        let lightness = if on == Some(false) { Some(0) } else { mean_lightness(&lit) };
        let mut shadow = crate::shadow::Shadow::default();
        shadow.confirm(&Facts { on, lightness, ..common });
        json!(shadow.to_json(&capabilities))
    }

    /// Whether any member is on; `None` when nobody is, as far as is known, and not all are known.
    fn group_on(&self, group: &Group) -> Option<bool> {
        let members = group.members.iter().filter_map(|&member| self.devices.endpoint(member));
        let states: Vec<Option<bool>> = members.map(|endpoint| endpoint.shadow.on()).collect();
        if states.contains(&Some(true)) {
            Some(true)
        } else if states.contains(&None) || states.is_empty() {
            None
        } else {
            Some(false)
        }
    }
}

fn mean_lightness(lit: &[Facts]) -> Option<u16> {
    let known: Vec<u32> = lit.iter().filter_map(|facts| facts.lightness).map(u32::from).collect();
    let count = u32::try_from(known.len()).ok().filter(|&count| count > 0)?;
    u16::try_from(known.iter().sum::<u32>() / count).ok()
}
