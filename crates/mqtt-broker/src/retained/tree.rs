//! Retained messages by the levels of their topics, with a walk that can stop anywhere and go on later.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::durable::Stored;
use crate::message::Message;

/// A retained message and its version: of two of the same topic, the higher one was published later.
#[derive(Clone, Debug)]
pub(super) struct Retained {
    pub(super) message: Arc<Message>,
    pub(super) version: u64,
    /// Where the log has it.
    pub(super) stored: Option<Stored>,
}

/// Most levels are short, and compared more quickly where they are.
pub(super) type Text = SmallVec<[u8; 16]>;

/// A level of the topic tree.
#[derive(Debug, Default)]
pub(super) struct Level {
    children: BTreeMap<Text, Level>,
    /// For each level below children: its text, and the children that have it. So `+/b` costs by these, not by all
    /// children.
    grandchildren: BTreeMap<Text, BTreeSet<Text>>,
    retained: Option<Retained>,
}

/// One slice of a walk: how much it may still look at, and what it found.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) budget: usize,
    pub(super) found: Vec<(Arc<Message>, Option<Stored>)>,
    path: Vec<Text>,
    /// Where the walk has to go on; `None`: it has been everywhere.
    pub(super) stopped_at: Option<Vec<Text>>,
}

impl Walk {
    pub(super) fn new(budget: usize) -> Self {
        Self { budget, found: Vec::new(), path: Vec::new(), stopped_at: None }
    }
}

impl Level {
    pub(super) fn get(&self, levels: &[&[u8]]) -> Option<&Retained> {
        match levels.split_first() {
            None => self.retained.as_ref(),
            Some((level, rest)) => self.children.get(*level)?.get(rest),
        }
    }

    pub(super) fn get_mut(&mut self, levels: &[&[u8]]) -> Option<&mut Retained> {
        match levels.split_first() {
            None => self.retained.as_mut(),
            Some((level, rest)) => self.children.get_mut(*level)?.get_mut(rest),
        }
    }

    /// The recursion is as deep as a topic has levels, which the broker limits.
    pub(super) fn for_each(&self, found: &mut impl FnMut(&Retained)) {
        self.retained.iter().for_each(&mut *found);
        self.children.values().for_each(|child| child.for_each(found));
    }

    pub(super) fn insert(&mut self, levels: &[&[u8]], retained: Retained) -> Option<Retained> {
        let Some((level, rest)) = levels.split_first() else { return self.retained.replace(retained) };
        let child = self.children.entry((*level).into()).or_default();
        if let Some(below) = rest.first().filter(|below| !child.children.contains_key(**below)) {
            match self.grandchildren.get_mut(*below) {
                Some(children) => drop(children.insert((*level).into())),
                None => drop(self.grandchildren.insert((*below).into(), [(*level).into()].into())),
            }
        }
        child.insert(rest, retained)
    }

    pub(super) fn remove(&mut self, levels: &[&[u8]]) -> Option<Retained> {
        let Some((level, rest)) = levels.split_first() else { return self.retained.take() };
        let child = self.children.get_mut(*level)?;
        let removed = child.remove(rest);
        if let Some(below) = rest.first().filter(|below| !child.children.contains_key(**below))
            && let Some(children) = self.grandchildren.get_mut(*below)
        {
            children.remove(*level);
            if children.is_empty() {
                self.grandchildren.remove(*below);
            }
        }
        if child.is_empty() {
            self.children.remove(*level);
        }
        removed
    }

    fn is_empty(&self) -> bool {
        self.retained.is_none() && self.children.is_empty()
    }

    /// Collects what matches `filter` from `from` on, in the order of topics. `from` is a path below this level;
    /// `None`: all of it. `is_first`: a wildcard does not match a level that begins with `$` there (§4.7.2).
    /// Says whether the walk goes on.
    pub(super) fn walk(
        &self,
        filter: &[&[u8]],
        from: Option<&[Text]>,
        is_first: bool,
        walk: &mut Walk,
    ) -> bool {
        let start = from.and_then(<[Text]>::first);
        // The way back to where the walk stopped costs nothing, so that every slice gets further.
        if start.is_none() {
            if walk.budget == 0 {
                walk.stopped_at = Some(walk.path.clone());
                return false;
            }
            walk.budget -= 1;
        }
        let is_reachable = |level: &[u8]| !is_first || level.first() != Some(&b'$');
        match filter {
            [] => {
                self.collect(start, walk);
                true
            }
            [b"#", ..] => {
                self.collect(start, walk);
                self.children_from(start)
                    .filter(|level| is_reachable(level))
                    .all(|level| self.walk_child(level, filter, from, walk))
            }
            [b"+", rest @ ..] => match rest.first() {
                Some(&below) if !matches!(below, b"+" | b"#") => self
                    .children_with(below, start)
                    .filter(|level| is_reachable(level))
                    .all(|level| self.walk_child(level, rest, from, walk)),
                _ => self
                    .children_from(start)
                    .filter(|level| is_reachable(level))
                    .all(|level| self.walk_child(level, rest, from, walk)),
            },
            [level, rest @ ..] => {
                // What lies before the start has been seen.
                start.is_some_and(|start| *level < &start[..]) || self.walk_child(level, rest, from, walk)
            }
        }
    }

    fn walk_child(&self, level: &[u8], filter: &[&[u8]], from: Option<&[Text]>, walk: &mut Walk) -> bool {
        let Some(child) = self.children.get(level) else { return true };
        let from = from.and_then(<[Text]>::split_first).filter(|(start, _)| start[..] == *level);
        walk.path.push(level.into());
        let goes_on = child.walk(filter, from.map(|(_, rest)| rest), false, walk);
        walk.path.pop();
        goes_on
    }

    fn collect(&self, start: Option<&Text>, walk: &mut Walk) {
        // A start below this level says that this level itself has been seen.
        if let Some(retained) = self.retained.as_ref().filter(|_| start.is_none()) {
            walk.found.push((Arc::clone(&retained.message), retained.stored.clone()));
        }
    }

    fn children_from(&self, start: Option<&Text>) -> impl Iterator<Item = &[u8]> {
        let start = start.map_or(Bound::Unbounded, Bound::Included);
        self.children.range::<Text, _>((start, Bound::Unbounded)).map(|(level, _)| &level[..])
    }

    fn children_with(&self, below: &[u8], start: Option<&Text>) -> impl Iterator<Item = &[u8]> {
        let start = start.map_or(Bound::Unbounded, Bound::Included);
        let children = self.grandchildren.get(below).into_iter();
        children
            .flat_map(move |children| children.range::<Text, _>((start, Bound::Unbounded)))
            .map(|level| &level[..])
    }
}
