use std::borrow::Borrow;
use std::collections::BTreeMap;

/// A map, in order, that takes no more memory than its entries do while there are few of them: most sessions have one
/// subscription, and most topic filters one subscriber. A `BTreeMap` has room for eleven in its first node.
#[derive(Clone, Debug)]
pub(crate) enum Row<K, V> {
    Few(Vec<(K, V)>),
    #[allow(clippy::box_collection, reason = "as large as the other one, else")]
    Many(Box<BTreeMap<K, V>>),
}

/// Entries that are moved for one that comes, at most.
const FEW: usize = 8;

impl<K, V> Default for Row<K, V> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<K: Ord, V> Row<K, V> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match self {
            Self::Few(few) => find(few, key).ok().map(|at| &few[at].1),
            Self::Many(many) => many.get(key),
        }
    }

    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        match self {
            Self::Few(few) => find(few, key).ok().map(|at| &mut few[at].1),
            Self::Many(many) => many.get_mut(key),
        }
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Adds or replaces an entry, and returns what was replaced.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.get_mut(&key) {
            Some(present) => Some(std::mem::replace(present, value)),
            None => {
                self.add(key, value);
                None
            }
        }
    }

    /// Adds an entry whose key is not there yet.
    pub(crate) fn add(&mut self, key: K, value: V) {
        match self {
            Self::Few(few) if few.len() < FEW => {
                let at = find(few, &key).unwrap_or_else(|at| at);
                few.reserve_exact(1);
                few.insert(at, (key, value));
            }
            Self::Few(few) => {
                let mut many: BTreeMap<K, V> = std::mem::take(few).into_iter().collect();
                many.insert(key, value);
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => _ = many.insert(key, value),
        }
    }

    /// The value of a key, which is added with `new` if it is not there.
    pub(crate) fn get_or_insert_with<Q>(&mut self, key: &Q, new: impl Fn() -> V) -> &mut V
    where
        K: Borrow<Q> + for<'a> From<&'a Q>,
        Q: Ord + ?Sized,
    {
        if matches!(self, Self::Few(_)) && self.get(key).is_none() {
            self.add(key.into(), new());
        }
        match self {
            Self::Few(few) => {
                let at = find(few, key).unwrap_or_else(|at| at);
                &mut few[at].1
            }
            Self::Many(many) => many.entry(key.into()).or_insert_with(new),
        }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let removed = match self {
            Self::Few(few) => {
                let at = find(few, key).ok()?;
                let (_, removed) = few.remove(at);
                few.shrink_to_fit();
                Some(removed)
            }
            Self::Many(many) => many.remove(key),
        };
        if self.is_empty() {
            *self = Self::default();
        }
        removed
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let (few, many) = match self {
            Self::Few(few) => (&few[..], None),
            Self::Many(many) => (&[][..], Some(many)),
        };
        few.iter().map(|(key, value)| (key, value)).chain(many.into_iter().flat_map(|many| many.iter()))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let (few, many) = match self {
            Self::Few(few) => (&mut few[..], None),
            Self::Many(many) => (&mut [][..], Some(many)),
        };
        few.iter_mut().map(|(_, value)| value).chain(many.into_iter().flat_map(|many| many.values_mut()))
    }

    /// Gives back room: a map that was filled in order is half empty.
    pub(crate) fn repack(&mut self) {
        if let Self::Many(many) = self {
            **many = std::mem::take(&mut **many).into_iter().collect();
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }
}

fn find<K: Borrow<Q>, V, Q: Ord + ?Sized>(few: &[(K, V)], key: &Q) -> Result<usize, usize> {
    few.binary_search_by(|(other, _)| other.borrow().cmp(key))
}

impl<K: Ord, V> FromIterator<(K, V)> for Row<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut row = Self::default();
        entries.into_iter().for_each(|(key, value)| _ = row.insert(key, value));
        row
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_is_a_map(steps in prop::collection::vec((any::<bool>(), 0..20_u8, any::<u8>()), 0..100)) {
            let (mut row, mut map) = (Row::default(), BTreeMap::new());
            for (is_insert, key, value) in steps {
                if is_insert {
                    prop_assert_eq!(row.insert(key, value), map.insert(key, value));
                } else {
                    prop_assert_eq!(row.remove(&key), map.remove(&key));
                }
                prop_assert_eq!(row.len(), map.len());
                prop_assert!(row.iter().eq(&map));
                prop_assert_eq!(row.get(&key), map.get(&key));
            }
        }
    }
}
