//! What goes to other shards and comes from them.

use clock::Instant;

use super::Shard;
use crate::lanes::{Body, PeerMessage, Place};
use crate::routes::ShardId;

impl Shard {
    /// Takes what other shards sent.
    pub fn handle_peer(&mut self, now: Instant, messages: Vec<PeerMessage>) {
        self.now = now;
        for message in messages {
            self.lanes.push(message);
        }
        self.drain_lanes(now);
    }

    /// Whether more waits for other shards than should: publishers are not read until it is less.
    pub fn is_congested(&self) -> bool {
        let most = self.shared.limits.max_peer_backlog;
        self.peers.iter().any(|batch| batch.len() >= most)
            || self.lanes.len() >= most
            || self.store.log.as_ref().is_some_and(|log| log.is_congested())
    }

    /// The place of the next message to any shard.
    pub(super) fn next_place(&mut self) -> Place {
        self.sent += 1;
        Place { shard: self.id, number: self.sent }
    }

    /// Tells a shard something, also itself.
    pub(super) fn tell(&mut self, to: ShardId, body: Body) {
        let place = self.next_place();
        self.post(to, PeerMessage { place, after: None, body });
    }

    pub(super) fn post(&mut self, to: ShardId, message: PeerMessage) {
        if to == self.id {
            self.lanes.push(message);
        } else {
            self.peers[to].push(message);
        }
    }

    /// Takes up what has nothing to wait for. What is told on the way to this shard itself is taken up by the
    /// outermost call.
    pub(super) fn drain_lanes(&mut self, now: Instant) {
        if self.is_draining_lanes {
            return;
        }
        self.is_draining_lanes = true;
        while let Some(body) = self.lanes.pop() {
            match body {
                Body::Publish { message, stored, is_owed } => {
                    self.deliver(now, &message, stored.as_ref(), is_owed);
                }
                Body::Join { group, client, shard, token, is_durable, room } => {
                    self.count_member(&group, &client, is_durable);
                    self.handle_join(now, &group, client, shard, token, room);
                }
                Body::Joined { client, token } => self.handle_joined(now, &client, token),
                Body::Leave { group, client } => {
                    self.count_member(&group, &client, false);
                    self.handle_leave(now, &group, &client);
                }
                Body::Member { group, client, room, is_answer } => {
                    self.handle_member(now, &group, &client, room, is_answer);
                }
                Body::Ask { group, client } => self.handle_ask(group, client),
                Body::Assign { group, client, message, stored } => {
                    self.handle_assign(now, group, client, message, stored);
                }
                Body::Refused { group, client, refused } => {
                    self.handle_refused(now, &group, &client, refused);
                }
            }
        }
        self.is_draining_lanes = false;
    }
}
