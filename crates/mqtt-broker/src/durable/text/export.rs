use std::io;

use journal::log::Position;
use mqtt_wire::{Text, TopicFilter};
use serde::Serialize;

use super::line::{Content, Header, Line, MessageLine, OnItsWay, Receiver, SentLine, SessionLine};
use super::{FORMAT, Totals, VERSION};
use crate::durable::record::{MessageId, Record, Whole};
use crate::durable::recovery::{At, Recovery, Unrouted};
use crate::durable::sessions::{Entry, Session};

/// Messages that are read at once.
const BATCH: usize = 64;

/// Why the text could not be written to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A message was whole a moment ago.
    #[error("the log cannot be read at position {}; `trellis data check` names what is damaged", .0.0)]
    Read(Position),
    /// What takes the lines does not.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// Gives the records at positions of the log.
type Read<'a> = dyn FnMut(&[Position]) -> Vec<Option<Vec<u8>>> + 'a;

/// In which list of a session something is, and where in that; what was sent comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Sent(u32),
    Queued(u32),
}

/// A session that has to get a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reference {
    id: MessageId,
    session: u32,
    place: Place,
}

/// Everything but the messages themselves, in their order.
struct Export {
    sessions: Vec<(Text, Session)>,
    references: Vec<Reference>,
    retained: Vec<MessageId>,
    /// What shared subscriptions have to get, and nobody has.
    groups: Vec<(MessageId, TopicFilter)>,
    unrouted: Vec<Unrouted>,
    /// The number of a message is its place here and one.
    messages: Vec<(MessageId, At)>,
}

/// Takes the beginning of `rest` that is of this message.
fn take<'a, T>(rest: &mut &'a [T], id: MessageId, id_of: impl Fn(&T) -> MessageId) -> &'a [T] {
    let (theirs, others) = rest.split_at(rest.partition_point(|one| id_of(one) <= id));
    *rest = others;
    theirs
}

impl Recovery {
    /// Writes everything down as text, line by line, without the ends of the lines. `read` gives the records at
    /// positions of the log.
    ///
    /// # Errors
    /// When the log cannot be read, or the lines are not taken. What was written has no last line then.
    pub fn export(
        mut self,
        read: &mut Read<'_>,
        line: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> Result<Totals, ExportError> {
        self.finish();
        let export = Export::new(self);
        write(line, &Header { format: FORMAT.to_owned(), version: VERSION })?;
        export.sessions(line)?;
        export.messages(read, line)?;
        let sent = export.sent(line)?;
        let (sessions, messages) = (export.sessions.len() as u64, export.messages.len() as u64);
        let totals = Totals { sessions, messages, sent };
        write(line, &Line::End(totals))?;
        Ok(totals)
    }
}

impl Export {
    fn new(recovery: Recovery) -> Self {
        let unrouted = recovery.unrouted();
        let sessions: Vec<_> = recovery.sessions.of_shards(1).into_iter().flatten().collect();
        let mut references = Vec::new();
        let mut messages = Vec::new();
        for (session, (_, contents)) in (0..).zip(&sessions) {
            let sent = (0..).zip(&contents.outbound).filter_map(|(place, (_, entry))| {
                let entry = entry.as_ref()?;
                Some((Place::Sent(place), entry))
            });
            let queued = (0..).zip(&contents.queue).map(|(place, entry)| (Place::Queued(place), entry));
            for (place, entry) in sent.chain(queued) {
                references.push(Reference { id: entry.id, session, place });
                messages.push((entry.id, entry.at()));
            }
        }
        let kept = recovery.retained.iter().flatten().filter_map(|(_, kept)| kept.message.as_ref());
        messages.extend(kept.map(|kept| (kept.id, kept.at)));
        let kept = recovery.retained.iter().flatten().filter_map(|(_, kept)| Some(kept.message.as_ref()?.id));
        let mut retained: Vec<_> = kept.collect();
        retained.sort_unstable();
        messages.extend(unrouted.iter().map(|unrouted| (unrouted.id, unrouted.at)));
        let mut groups = Vec::new();
        for ((id, group), in_group) in recovery.groups {
            if in_group.holder.is_none() {
                messages.push((id, in_group.at));
                groups.push((id, group));
            }
        }
        references.sort_unstable();
        // Of a message that was copied forward, the copy.
        messages.sort_unstable_by_key(|(id, at)| (*id, std::cmp::Reverse(at.position)));
        messages.dedup_by_key(|(id, _)| *id);
        Self { sessions, references, retained, groups, unrouted, messages }
    }

    fn sessions(&self, line: &mut dyn FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        for (_, session) in &self.sessions {
            // Those that have none are no sessions any more.
            let Some(record) = &session.record else { continue };
            let received = session.outbound.iter().filter(|(_, entry)| entry.is_none());
            let whole = Whole {
                subscriptions: session.subscriptions.iter().map(|(filter, x)| (filter.clone(), *x)).collect(),
                receipts: session.receipts.iter().copied().collect(),
                received: received.map(|(id, _)| *id).collect(),
            };
            write(line, &Line::Session(Box::new(SessionLine::new(record, &whole))))?;
        }
        Ok(())
    }

    fn messages(
        &self,
        read: &mut Read<'_>,
        line: &mut dyn FnMut(&str) -> io::Result<()>,
    ) -> Result<(), ExportError> {
        let (mut references, mut groups) = (&self.references[..], &self.groups[..]);
        let (mut retained, mut unrouted) = (&self.retained[..], &self.unrouted[..]);
        let mut number = 0;
        for batch in self.messages.chunks(BATCH) {
            let positions: Vec<_> = batch.iter().map(|(_, at)| at.position).collect();
            for (&(id, at), bytes) in batch.iter().zip(read(&positions)) {
                number += 1;
                let decoded = bytes.and_then(|bytes| Record::decode(&bytes).ok());
                let Some(Record::Message(message)) = decoded else {
                    return Err(ExportError::Read(at.position));
                };
                let of_groups = take(&mut groups, id, |(id, _)| *id).iter();
                let line_of_it = MessageLine {
                    number,
                    publisher: message.publisher.as_str().to_owned(),
                    expires_ms: Some(message.expires_ms).filter(|&ms| ms > 0),
                    content: Content::of_publish(&message.publish),
                    is_retained: !take(&mut retained, id, |id| *id).is_empty(),
                    on_its_way: take(&mut unrouted, id, |one| one.id).first().map(on_its_way),
                    receivers: take(&mut references, id, |one| one.id)
                        .iter()
                        .filter_map(|reference| self.receiver(*reference))
                        .collect(),
                    groups: of_groups.map(|(_, group)| group.as_str().to_owned()).collect(),
                };
                write(line, &Line::Message(Box::new(line_of_it)))?;
            }
        }
        Ok(())
    }

    fn receiver(&self, Reference { session, place, .. }: Reference) -> Option<Receiver> {
        let (client, session) = self.sessions.get(session as usize)?;
        let entry: &Entry = match place {
            Place::Sent(at) => session.outbound.get(at as usize)?.1.as_ref()?,
            Place::Queued(at) => session.queue.get(at as usize)?,
        };
        Some(Receiver::new(client, &entry.how(), entry.group()))
    }

    /// In the order in which each client got them, which is the one in which they are sent again.
    fn sent(&self, line: &mut dyn FnMut(&str) -> io::Result<()>) -> io::Result<u64> {
        let mut count = 0;
        for (client, session) in &self.sessions {
            for (packet_id, entry) in &session.outbound {
                let Some(entry) = entry else { continue };
                let message = self.messages.partition_point(|(id, _)| *id <= entry.id) as u64;
                let client = client.as_str().to_owned();
                write(line, &Line::Sent(SentLine { client, message, packet_id: packet_id.0.get() }))?;
                count += 1;
            }
        }
        Ok(count)
    }
}

fn on_its_way(unrouted: &Unrouted) -> OnItsWay {
    OnItsWay {
        shards: (0..64).filter(|shard| unrouted.shards >> shard & 1 == 1).collect(),
        of_shards: unrouted.of_shards,
        is_to_be_retained: unrouted.is_to_be_retained,
    }
}

fn write(line: &mut dyn FnMut(&str) -> io::Result<()>, value: &impl Serialize) -> io::Result<()> {
    line(&serde_json::to_string(value)?)
}
