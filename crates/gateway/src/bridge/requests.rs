//! `bridge/request/…`: what people ask of the gateway itself, and how it answers on `bridge/response/…`.

use std::collections::VecDeque;

use clock::Instant;
use mesh_commission::cdb::NetworkDatabase;
use mesh_wire::address::{Address, UnicastAddress};
use mesh_wire::foundation::{ConfigMessage, ModelRef, Status, SubscriptionChange};
use serde_json::{Map, Value, json};

use super::commands::Purpose;
use super::{Bridge, Publication};
use crate::devices::is_below;
use crate::exposes;
use crate::facts::Facts;
use crate::groups::subscribers;
use crate::requester::Requester;
use crate::scheduler::{Lane, Priority, Request, Subject};

/// Requests that may be under way at the same time.
const MAX_JOBS: usize = 64;

/// Whom an answer goes to.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    path: String,
    /// What the requester wants to find in the answer again.
    transaction: Option<Value>,
    requester: Option<Requester>,
}

/// A request that needs the mesh, one message after the other.
#[derive(Debug)]
pub(super) struct Job {
    caller: Caller,
    /// The node of the present message.
    node: UnicastAddress,
    rest: VecDeque<ConfigMessage>,
    group: Address,
    member: UnicastAddress,
    change: SubscriptionChange,
}

/// What is answered: data, or an error.
type Answer = Result<Value, String>;

/// What a request can ask for.
pub(crate) const REQUESTS: [(&str, &str, &str); 9] = [
    (
        "device/rename",
        r#"{"from":"ground/hall/lamp","to":"ground/hall/ceiling"}"#,
        "gives a node another name",
    ),
    ("device/get", r#"{"id":"ground/hall/lamp"}"#, "what `bridge/devices` says of a node, with its state"),
    (
        "group/add",
        r#"{"friendly_name":"evening"}"#,
        "makes a group; `id` may give its address, such as `C005`",
    ),
    ("group/remove", r#"{"id":"evening"}"#, "removes a group without members"),
    (
        "group/members/add",
        r#"{"group":"evening","device":"ground/hall/lamp"}"#,
        "has an element subscribe to a group; answered when the node has confirmed it",
    ),
    ("group/members/remove", r#"{"group":"evening","device":"ground/hall/lamp"}"#, "the opposite"),
    ("health", "{}", "whether the gateway is well, and its figures"),
    ("backup", "{}", "everything that the gateway keeps, keys included; refused unless `export_keys` is on"),
    (
        "network/export",
        "{}",
        "the network as a Mesh Configuration Database, keys included; refused unless `export_keys` is on",
    ),
];

impl Bridge {
    /// Obeys a request, or says why it cannot.
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        path: &str,
        payload: &[u8],
        requester: Option<Requester>,
    ) {
        let parsed = members_of(payload);
        let transaction = parsed.as_ref().ok().and_then(|members| members.get("transaction").cloned());
        let caller = Caller { path: path.to_owned(), transaction, requester };
        let members = match parsed {
            Ok(members) => members,
            Err(error) => return self.respond(&caller, Err(error)),
        };
        let answer = match path {
            "device/rename" => self.rename_device(now, &members),
            "device/get" => self.describe_device(&members),
            "group/add" => self.add_group(&members),
            "group/remove" => self.remove_group(&members),
            "group/members/add" => return self.change_members(caller, &members, SubscriptionChange::Add),
            "group/members/remove" => {
                return self.change_members(caller, &members, SubscriptionChange::Delete);
            }
            "health" => Ok(self.health()),
            "backup" => self.exported(Self::backup),
            "network/export" => self.exported(|bridge| json_of(&bridge.database)),
            _ => {
                let known: Vec<&str> = REQUESTS.iter().map(|(path, ..)| *path).collect();
                Err(format!("there is no request {path:?}; what can be asked for is {}", known.join(", ")))
            }
        };
        self.respond(&caller, answer);
    }

    fn respond(&mut self, caller: &Caller, answer: Answer) {
        let mut response = match answer {
            Ok(data) => json!({"data": data, "status": "ok"}),
            Err(error) => {
                self.log_error(&format!("bridge/request/{}: {error}", caller.path));
                json!({"data": {}, "status": "error", "error": error})
            }
        };
        if let Some(transaction) = &caller.transaction {
            response["transaction"] = transaction.clone();
        }
        self.publish(self.topics.bridge(&format!("response/{}", caller.path)), &response);
        if let Some(requester) = &caller.requester {
            self.outbox.push_back(Publication {
                topic: requester.response_topic.clone(),
                payload: response.to_string().into_bytes(),
                retain: false,
                correlation_data: requester.correlation_data.clone(),
            });
        }
    }

    fn rename_device(&mut self, now: Instant, members: &Map<String, Value>) -> Answer {
        let (from, to) = (text(members, "from")?, text(members, "to")?);
        let device = self.devices.device_named(from).ok_or_else(|| unknown_device(from))?;
        let address = device.address;
        if self.groups.iter().any(|group| group.name == to || is_below(&group.name, to)) {
            return Err(format!(
                "{to:?} cannot be used, as a group has that name, or one that an element could have"
            ));
        }
        self.devices.rename(address, to).map_err(|why| format!("{to:?} cannot be used, as {why}"))?;
        let entry = self.database.nodes.iter_mut().find(|node| node.unicast_address.0 == u16::from(address));
        if let Some(entry) = entry {
            entry.name = Some(to.to_owned());
        }
        self.remember_network();
        self.announce_device(address);
        self.publish_groups();
        self.info_changed(now);
        self.sweep();
        let data = json!({"from": from, "to": to});
        self.event("device_renamed", &data);
        Ok(data)
    }

    fn describe_device(&self, members: &Map<String, Value>) -> Answer {
        let name = text(members, "id").or_else(|_| text(members, "device"))?;
        let device = self.devices.device_named(name).ok_or_else(|| unknown_device(name))?;
        let mut described = exposes::device_to_json(device);
        for (endpoint, described) in
            device.endpoints.iter().zip(described["endpoints"].as_array_mut().into_iter().flatten())
        {
            described["state"] = self.state_json(device, endpoint);
        }
        Ok(described)
    }

    fn add_group(&mut self, members: &Map<String, Value>) -> Answer {
        let name = text(members, "friendly_name").or_else(|_| text(members, "id"))?;
        self.groups
            .check_name(name, &self.devices)
            .map_err(|why| format!("{name:?} cannot be used, as {why}"))?;
        let wished = members.get("address").map(|address| {
            let hex = address.as_str().unwrap_or_default();
            crate::groups::group_address(hex)
                .filter(|address| self.groups.get(*address).is_none())
                .ok_or_else(|| {
                    format!("{address} is no free group address; give one from \"C000\" to \"FEFF\", or none")
                })
        });
        let address = match wished {
            Some(address) => address?,
            None => self
                .groups
                .free_address(&self.database)
                .ok_or("the provisioner's range of group addresses is used up")?,
        };
        self.groups.insert(name.to_owned(), address);
        self.database.groups.extend(self.groups.get(address).map(crate::groups::Group::to_entry));
        self.subscriptions.push_back(address);
        self.remember_network();
        self.announce_group(address);
        self.publish_groups();
        let hex = self.groups.get(address).map(crate::groups::Group::hex);
        Ok(json!({"friendly_name": name, "address": hex}))
    }

    fn remove_group(&mut self, members: &Map<String, Value>) -> Answer {
        let name = text(members, "id").or_else(|_| text(members, "friendly_name"))?;
        let group = self.groups.named(name).ok_or_else(|| unknown_group(name))?;
        if !group.members.is_empty() {
            let count = group.members.len();
            return Err(format!(
                "{name} has {count} members, which would go on listening to its address; remove them first with \
                 bridge/request/group/members/remove"
            ));
        }
        let (address, hex) = (group.address, group.hex());
        self.groups.remove(address);
        self.database.groups.retain(|entry| entry.address != hex);
        self.remember_network();
        self.publish_groups();
        self.sweep();
        Ok(json!({"id": name}))
    }

    fn change_members(&mut self, caller: Caller, members: &Map<String, Value>, change: SubscriptionChange) {
        match self.plan_change(members, change) {
            Ok((node, group, member, messages)) => {
                let job = Job { caller, node, rest: messages, group, member, change };
                if self.requests.len() >= MAX_JOBS {
                    let error = "too many requests are under way; wait for their answers".to_owned();
                    return self.respond(&job.caller, Err(error));
                }
                let number = self.job_id();
                self.requests.insert(number, job);
                self.next_message(number);
            }
            Err(error) => self.respond(&caller, Err(error)),
        }
    }

    /// The messages that have an element's models subscribe, or not any more.
    #[allow(clippy::type_complexity, reason = "named where it is taken apart")]
    fn plan_change(
        &self,
        members: &Map<String, Value>,
        change: SubscriptionChange,
    ) -> Result<(UnicastAddress, Address, UnicastAddress, VecDeque<ConfigMessage>), String> {
        let (group, device) = (text(members, "group")?, text(members, "device")?);
        let group = self.groups.named(group).ok_or_else(|| unknown_group(group))?;
        let endpoint = self.devices.find(device)?;
        let node = self.devices.of_element(endpoint.address).ok_or_else(|| unknown_device(device))?;
        let has = |element: UnicastAddress, model| {
            let index = u16::from(element) - u16::from(node.address);
            let elements = node.composition.as_ref().map(|composition| &composition.elements);
            elements.and_then(|x| x.get(usize::from(index))).is_some_and(|x| x.models.contains(&model))
        };
        let models: Vec<ModelRef> = subscribers(endpoint, has);
        if models.is_empty() {
            return Err(format!("{device} has no model that a group could control"));
        }
        let address = group.address;
        let messages =
            models.into_iter().map(|model| ConfigMessage::ModelSubscriptionChange { change, address, model });
        Ok((node.address, address, endpoint.address, messages.collect()))
    }

    fn next_message(&mut self, number: u64) {
        let Some(job) = self.requests.get_mut(&number) else { return };
        let Some(message) = job.rest.pop_front() else { return self.complete(number) };
        let request = Request {
            subject: Subject { destination: job.node.into(), lane: Lane::Configure },
            priority: Priority::Person,
            payload: message.encode(),
            wanted: Facts::default(),
            owner: Purpose::Configure { job: number, about: message },
        };
        self.submit(request);
    }

    /// Takes a node's answer to the present message of a request.
    pub(super) fn continue_request(&mut self, number: u64, status: Status) {
        if status == Status::Success {
            return self.next_message(number);
        }
        self.fail_request(number, &format!("the node refuses it: {status}"));
    }

    pub(super) fn fail_request(&mut self, number: u64, error: &str) {
        if let Some(job) = self.requests.remove(&number) {
            self.respond(&job.caller, Err(error.to_owned()));
        }
    }

    /// The node has confirmed everything: the group has a member more, or less.
    fn complete(&mut self, number: u64) {
        let Some(job) = self.requests.remove(&number) else { return };
        let Some(group) = self.groups.get_mut(job.group) else {
            return self.respond(&job.caller, Err("the group was removed meanwhile".to_owned()));
        };
        let is_added = job.change == SubscriptionChange::Add;
        if is_added {
            group.members.insert(job.member);
        } else {
            group.members.remove(&job.member);
        }
        let (name, hex) = (group.name.clone(), group.hex());
        if let Some(endpoint) = self.devices.endpoint(job.member) {
            let models = subscribers(endpoint, |_, _| true);
            note_subscription(&mut self.database, &models, &hex, is_added);
        }
        self.remember_network();
        self.announce_group(job.group);
        self.publish_groups();
        let device = self.devices.endpoint(job.member).map(|endpoint| endpoint.name.clone());
        self.respond(&job.caller, Ok(json!({"group": name, "device": device})));
    }

    /// What only those may have who may have the keys.
    fn exported(&self, export: impl FnOnce(&Self) -> Value) -> Answer {
        if self.settings.may_export_keys {
            Ok(export(self))
        } else {
            Err("it would show the keys of the network; allow it with export_keys = true".to_owned())
        }
    }

    fn backup(&self) -> Value {
        let records: Map<String, Value> =
            self.stored.iter().map(|(key, value)| (hex::encode(key), json!(hex::encode(value)))).collect();
        json!({"format": "trellis-gateway", "version": 1, "network": json_of(&self.database), "records": records})
    }
}

/// Writes into the database what models of elements subscribe to.
fn note_subscription(database: &mut NetworkDatabase, models: &[ModelRef], group: &str, is_added: bool) {
    for node in &mut database.nodes {
        let address = node.unicast_address.0;
        for element in &mut node.elements {
            let element_address = address + u16::from(element.index);
            for model in &mut element.models {
                let is_it = models.iter().any(|x| {
                    u16::from(x.element) == element_address && x.model.to_string() == model.model_id
                });
                if is_it {
                    model.subscribe.retain(|other| other != group);
                    model.subscribe.extend(is_added.then(|| group.to_owned()));
                }
            }
        }
    }
}

fn json_of(database: &NetworkDatabase) -> Value {
    serde_json::from_str(&database.to_json()).unwrap_or_default()
}

/// A request's payload: an object, or nothing.
fn members_of(payload: &[u8]) -> Result<Map<String, Value>, String> {
    if payload.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(payload) {
        Ok(Value::Object(members)) => Ok(members),
        // As zigbee2mqtt has it: a plain name.
        Ok(Value::String(name)) => Ok(Map::from_iter([("id".to_owned(), Value::String(name))])),
        _ => Err("the payload is no JSON object".to_owned()),
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    members.get(name).and_then(Value::as_str).ok_or_else(|| format!("{name:?} is missing; it is a text"))
}

fn unknown_device(name: &str) -> String {
    format!("there is no device named {name:?}; bridge/devices lists their names")
}

fn unknown_group(name: &str) -> String {
    format!("there is no group named {name:?}; bridge/groups lists their names")
}
