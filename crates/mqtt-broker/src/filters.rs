use crate::row::Row;

/// Values by topic filter: finding those of all filters that match a topic costs by the topic's levels and what matches,
/// not by the number of filters.
///
/// Most filters share their last levels with no other one (`devices/17/commands/#`), and there may be as many of them as
/// there are sessions. So what is left of such a filter is kept as it is ([`Branch::Leaf`]).
#[derive(Clone, Debug)]
pub(crate) struct Filters<T> {
    root: Node<T>,
}

#[derive(Clone, Debug)]
struct Node<T> {
    /// By the text of the next level.
    children: Row<Box<[u8]>, Branch<T>>,
    /// `+` as the next level.
    any: Option<Box<Branch<T>>>,
    /// The filter that ends here.
    here: Option<Box<T>>,
    /// The filter that ends here with `#`.
    below: Option<Box<T>>,
}

/// Filters that have their first levels in common.
#[derive(Clone, Debug)]
enum Branch<T> {
    /// One, and the levels that are left of it.
    Leaf(Option<Box<[u8]>>, T),
    Node(Box<Node<T>>),
}

/// The first of some levels, and those behind it.
fn split(levels: &[u8]) -> (&[u8], Option<&[u8]>) {
    match levels.iter().position(|&byte| byte == b'/') {
        Some(at) => (&levels[..at], Some(&levels[at + 1..])),
        None => (levels, None),
    }
}

/// Whether what is left of a filter matches what is left of a topic (§4.7).
fn matches(mut filter: Option<&[u8]>, mut topic: Option<&[u8]>) -> bool {
    loop {
        match (filter, topic) {
            (None, None) | (Some(b"#"), _) => return true,
            (Some(wanted), Some(levels)) => {
                let ((wanted, filter_rest), (level, topic_rest)) = (split(wanted), split(levels));
                if wanted != b"+" && wanted != level {
                    return false;
                }
                (filter, topic) = (filter_rest, topic_rest);
            }
            _ => return false,
        }
    }
}

impl<T> Default for Filters<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { children: Row::default(), any: None, here: None, below: None }
    }
}

impl<T: Default> Filters<T> {
    /// The value of a filter, which is a new one if there is none.
    pub(crate) fn get_or_new(&mut self, filter: &[u8]) -> &mut T {
        self.root.get_or_new(Some(filter))
    }
}

impl<T> Filters<T> {
    /// Changes the value of a filter; `work` says, too, whether there is nothing left of it. `None`: it has none.
    pub(crate) fn change<R>(&mut self, filter: &[u8], work: impl FnOnce(&mut T) -> (R, bool)) -> Option<R> {
        self.root.change(Some(filter), work)
    }

    /// Calls `found` for the value of each filter that matches (§4.7). `is_system`: the topic begins with `$`.
    pub(crate) fn for_each_match(&self, topic: &[u8], is_system: bool, mut found: impl FnMut(&T)) {
        self.root.visit(Some(topic), is_system, &mut found);
    }

    /// Gives back room in tables that were filled in order.
    pub(crate) fn repack(&mut self) {
        self.root.repack();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }
}

/// The recursions are as deep as a topic has levels, which the broker limits.
impl<T: Default> Node<T> {
    fn get_or_new(&mut self, levels: Option<&[u8]>) -> &mut T {
        let Some(levels) = levels else { return self.here.get_or_insert_default() };
        if levels == b"#" {
            return self.below.get_or_insert_default();
        }
        let (level, rest) = split(levels);
        let leaf = || Branch::Leaf(rest.map(Into::into), T::default());
        if level == b"+" {
            return self.any.get_or_insert_with(|| Box::new(leaf())).get_or_new(rest);
        }
        self.children.get_or_insert_with(level, leaf).get_or_new(rest)
    }
}

impl<T: Default> Branch<T> {
    fn get_or_new(&mut self, rest: Option<&[u8]>) -> &mut T {
        if let Self::Leaf(own, value) = self
            && own.as_deref() != rest
        {
            let mut node = Node::default();
            *node.get_or_new(own.as_deref()) = std::mem::take(value);
            *self = Self::Node(Box::new(node));
        }
        match self {
            Self::Leaf(_, value) => value,
            Self::Node(node) => node.get_or_new(rest),
        }
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.any.is_none() && self.here.is_none() && self.below.is_none()
    }

    fn repack(&mut self) {
        self.children.repack();
        let any = self.any.iter_mut().map(|any| &mut **any);
        for branch in self.children.values_mut().chain(any) {
            if let Branch::Node(node) = branch {
                node.repack();
            }
        }
    }

    fn change<R>(&mut self, levels: Option<&[u8]>, work: impl FnOnce(&mut T) -> (R, bool)) -> Option<R> {
        let (level, rest) = match levels {
            None => return change_value(&mut self.here, work),
            Some(b"#") => return change_value(&mut self.below, work),
            Some(levels) => split(levels),
        };
        if level == b"+" {
            let (result, is_empty) = self.any.as_mut()?.change(rest, work)?;
            self.any.take_if(|_| is_empty);
            return Some(result);
        }
        let (result, is_empty) = self.children.get_mut(level)?.change(rest, work)?;
        if is_empty {
            self.children.remove(level);
        }
        Some(result)
    }

    /// `no_wildcard`: the first level of a topic that begins with `$` is not matched by one (§4.7.2).
    fn visit(&self, levels: Option<&[u8]>, no_wildcard: bool, found: &mut impl FnMut(&T)) {
        if !no_wildcard {
            // `#` includes its parent level, so that a filter may end before the topic does or with it.
            self.below.iter().for_each(|value| found(value));
        }
        let Some((level, rest)) = levels.map(split) else {
            return self.here.iter().for_each(|value| found(value));
        };
        if let Some(any) = self.any.as_ref().filter(|_| !no_wildcard) {
            any.visit(rest, found);
        }
        if let Some(child) = self.children.get(level) {
            child.visit(rest, found);
        }
    }
}

fn change_value<T, R>(value: &mut Option<Box<T>>, work: impl FnOnce(&mut T) -> (R, bool)) -> Option<R> {
    let (result, is_empty) = work(value.as_mut()?);
    value.take_if(|_| is_empty);
    Some(result)
}

impl<T> Branch<T> {
    /// Says, too, whether it is empty then.
    fn change<R>(
        &mut self,
        rest: Option<&[u8]>,
        work: impl FnOnce(&mut T) -> (R, bool),
    ) -> Option<(R, bool)> {
        match self {
            Self::Leaf(own, value) => (own.as_deref() == rest).then(|| work(value)),
            Self::Node(node) => {
                let result = node.change(rest, work)?;
                Some((result, node.is_empty()))
            }
        }
    }

    fn visit(&self, rest: Option<&[u8]>, found: &mut impl FnMut(&T)) {
        match self {
            Self::Leaf(own, value) if matches(own.as_deref(), rest) => found(value),
            Self::Leaf(..) => {}
            Self::Node(node) => node.visit(rest, false, found),
        }
    }
}
