use std::collections::HashSet;

use bytes::BytesMut;
use mqtt_wire::{Publish, QoS, Text};

use super::line::{Header, Line, MessageLine, OnItsWay, SentLine, SessionLine, filter, packet_id, text};
use super::{FORMAT, Totals, VERSION};
use crate::durable::record::{MessageRecord, Record};

/// Why a line cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The first line does not say what it is.
    #[error("this is not a file that `trellis data export` wrote")]
    Foreign,
    /// The file is of another version.
    #[error("the file has version {found}, and this program knows {VERSION}; use a newer one")]
    Version {
        /// The version.
        found: u32,
    },
    /// Not one of the lines that there are.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Something in it is not what it should be.
    #[error("a {what} that is none")]
    Value {
        /// What.
        what: &'static str,
    },
    /// A session of that name was there already.
    #[error("a second session of {0:?}")]
    Twice(String),
    /// There is no session of that name, or it comes later.
    #[error("there is no session of {0:?} before this line")]
    NoSession(String),
    /// Messages are numbered from 1 on.
    #[error("message {found} stands where {expected} should")]
    Number {
        /// The number that there is.
        found: u64,
        /// The number that there should be.
        expected: u64,
    },
    /// A message that was not there.
    #[error("there is no message {0} before this line")]
    NoMessage(u64),
    /// The last line counts something else.
    #[error("the last line counts {stated:?}, and there were {found:?}")]
    Totals {
        /// What it says.
        stated: Totals,
        /// What there was.
        found: Totals,
    },
    /// There is no last line.
    #[error("the file ends before its last line: a part of it is missing")]
    Unfinished,
    /// Something comes after the last line.
    #[error("there is something after the last line")]
    Trailing,
}

/// What is retained; and what was.
const RETAINED: u64 = 2;
const SUPERSEDED: u64 = 1;

/// Makes records of a new log from the lines of a text. The identity of a message is its number: below every position
/// behind it, and so below that of every message to come.
#[derive(Debug, Default)]
pub struct Import {
    clients: HashSet<Text>,
    found: Totals,
    has_begun: bool,
    is_over: bool,
    scratch: BytesMut,
}

impl Import {
    /// Takes the next line, without its end, and hands on the records that it stands for.
    ///
    /// # Errors
    /// When it cannot be used; the log is not to be, either.
    pub fn line(&mut self, line: &str, append: &mut dyn FnMut(&[u8])) -> Result<(), LineError> {
        if !self.has_begun {
            let Header { format, version } = serde_json::from_str(line).map_err(|_| LineError::Foreign)?;
            return match (format == FORMAT, version == VERSION) {
                (false, _) => Err(LineError::Foreign),
                (true, false) => Err(LineError::Version { found: version }),
                (true, true) => {
                    self.has_begun = true;
                    Ok(())
                }
            };
        }
        if self.is_over {
            return Err(LineError::Trailing);
        }
        match serde_json::from_str(line)? {
            Line::Session(session) => self.session(&session, append),
            Line::Message(message) => self.message(&message, append),
            Line::Sent(sent) => self.sent(&sent, append),
            Line::End(stated) if stated == self.found => {
                self.is_over = true;
                Ok(())
            }
            Line::End(stated) => Err(LineError::Totals { stated, found: self.found }),
        }
    }

    /// After the last line.
    ///
    /// # Errors
    /// When it was not the last one.
    pub fn finish(self) -> Result<Totals, LineError> {
        match (self.has_begun, self.is_over) {
            (false, _) => Err(LineError::Foreign),
            (true, false) => Err(LineError::Unfinished),
            (true, true) => Ok(self.found),
        }
    }

    fn session(&mut self, line: &SessionLine, append: &mut dyn FnMut(&[u8])) -> Result<(), LineError> {
        let record = line.to_record()?;
        if !self.clients.insert(record.client.clone()) {
            return Err(LineError::Twice(line.client.clone()));
        }
        self.found.sessions += 1;
        self.append(&Record::Session(Box::new(record)), append);
        Ok(())
    }

    fn message(&mut self, line: &MessageLine, append: &mut dyn FnMut(&[u8])) -> Result<(), LineError> {
        let (found, expected) = (line.number, self.found.messages + 1);
        if found != expected {
            return Err(LineError::Number { found, expected });
        }
        self.found.messages = expected;
        let id = line.number;
        let publish = line.content.to_publish()?;
        let refs = line.receivers.iter().map(|receiver| {
            self.is_there(&receiver.client)?;
            receiver.to_ref()
        });
        let refs = refs.collect::<Result<Vec<_>, _>>()?;
        let groups = line.groups.iter().map(|group| filter(group)).collect::<Result<Vec<_>, _>>()?;
        let (shards, of_shards) = line.on_its_way.as_ref().map_or(Ok((0, 0)), on_its_way)?;
        let is_to_be_retained = line.on_its_way.as_ref().is_some_and(|x| x.is_to_be_retained);
        if (line.is_retained || is_to_be_retained) && !publish.retain {
            return Err(LineError::Value { what: "message to be retained" });
        }
        // A message that is on its way and is not new would else be retained when it arrives.
        let is_superseded = publish.retain && of_shards > 0 && !line.is_retained && !is_to_be_retained;
        let version = match (line.is_retained, is_superseded) {
            (true, _) => RETAINED,
            (false, true) => SUPERSEDED,
            (false, false) => 0,
        };
        let topic = publish.topic.clone();
        let record = MessageRecord {
            copy_of: Some(id),
            publisher: text(&line.publisher)?,
            receipt: None,
            shards,
            of_shards,
            version,
            expires_ms: line.expires_ms.unwrap_or(0),
            publish,
        };
        self.append(&Record::Message(Box::new(record.clone())), append);
        if is_superseded {
            let nothing = Publish { retain: true, ..Publish::new(topic, QoS::AtLeastOnce, "") };
            let taken_back =
                MessageRecord { copy_of: None, shards: 0, of_shards: 0, publish: nothing, ..record };
            self.append(&Record::Message(Box::new(taken_back)), append);
        }
        if !refs.is_empty() || !groups.is_empty() {
            let record = Record::Refs { id, shard: None, refs, groups, is_moved: false };
            self.append(&record, append);
        }
        Ok(())
    }

    fn sent(&mut self, line: &SentLine, append: &mut dyn FnMut(&[u8])) -> Result<(), LineError> {
        self.is_there(&line.client)?;
        if !(1..=self.found.messages).contains(&line.message) {
            return Err(LineError::NoMessage(line.message));
        }
        self.found.sent += 1;
        let (client, packet_id) = (text(&line.client)?, packet_id(line.packet_id)?);
        self.append(&Record::Sent { client, id: line.message, packet_id }, append);
        Ok(())
    }

    fn is_there(&self, client: &str) -> Result<(), LineError> {
        if self.clients.contains(&text(client)?) {
            Ok(())
        } else {
            Err(LineError::NoSession(client.to_owned()))
        }
    }

    fn append(&mut self, record: &Record, append: &mut dyn FnMut(&[u8])) {
        self.scratch.clear();
        record.encode(&mut self.scratch);
        append(&self.scratch);
    }
}

/// The bits of the shards, and how many there are.
fn on_its_way(line: &OnItsWay) -> Result<(u64, u8), LineError> {
    let of_shards = line.of_shards;
    if !(1..=64).contains(&of_shards) || line.shards.iter().any(|&shard| shard >= of_shards) {
        return Err(LineError::Value { what: "shard" });
    }
    Ok((line.shards.iter().fold(0, |bits, shard| bits | 1 << shard), of_shards))
}
