//! The store against a disk that stops, forgets what was not synced, and keeps a part of it in any order.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::*;

/// A disk writes this much at once, or not at all.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    synced: Vec<u8>,
    /// As a program sees it that reads what it wrote.
    current: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// Operations until the power goes; each after that fails.
    left: Option<u32>,
    is_full: bool,
}

#[derive(Clone, Debug)]
enum Unsynced {
    Length(usize),
    Bytes(usize, Vec<u8>),
}

fn apply(image: &mut Vec<u8>, change: &Unsynced) {
    match change {
        Unsynced::Length(length) => image.resize(*length, 0),
        Unsynced::Bytes(at, bytes) => {
            let end = (at + bytes.len()).min(image.len());
            if *at < end {
                image[*at..end].copy_from_slice(&bytes[..end - at]);
            }
        }
    }
}

impl Disk {
    fn new(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { synced: image.clone(), current: image, ..State::default() })))
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> std::io::Result<T> {
        let mut state = self.0.lock().unwrap();
        if let Some(left) = &mut state.left {
            *left = left.checked_sub(1).ok_or_else(|| std::io::Error::other("the power is gone"))?;
        }
        Ok(work(&mut state))
    }

    fn cut_power_after(&self, operations: u32) {
        self.0.lock().unwrap().left = Some(operations);
    }

    fn set_full(&self, is_full: bool) {
        self.0.lock().unwrap().is_full = is_full;
    }

    /// What is on the disk after a power cut: what was synced, and any part of the rest, now and then all of it.
    fn after_crash(&self, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let state = self.0.lock().unwrap();
        if rng.next_u32().is_multiple_of(4) {
            return state.current.clone();
        }
        let mut image = state.synced.clone();
        for change in &state.unsynced {
            match change {
                Unsynced::Length(_) if rng.next_u32().is_multiple_of(4) => {}
                Unsynced::Length(_) => apply(&mut image, change),
                Unsynced::Bytes(at, bytes) => {
                    for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                        if rng.next_u32().is_multiple_of(2) {
                            apply(&mut image, &Unsynced::Bytes(at + number * SECTOR, sector.to_vec()));
                        }
                    }
                }
            }
        }
        image
    }

    fn open(&self) -> Result<RecordStore, StoreError> {
        let disk = self.clone();
        let path = Path::new("disk");
        RecordStore::start(path.to_owned(), None, move || open(path, disk.clone()))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        self.with(|state| state.current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.with(|state| {
            let at = usize::try_from(offset).unwrap();
            let bytes = state.current.get(at..at + out.len()).ok_or(std::io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(bytes);
            Ok(())
        })?
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.change(Unsynced::Length(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.with(|state| {
            state.synced = state.current.clone();
            state.unsynced.clear();
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.change(Unsynced::Bytes(usize::try_from(offset).unwrap(), data.to_vec()))
    }
}

impl Disk {
    fn change(&self, change: Unsynced) -> std::io::Result<()> {
        self.with(|state| {
            if state.is_full {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            apply(&mut state.current, &change);
            state.unsynced.push(change);
            Ok(())
        })?
    }
}

fn empty() -> Vec<u8> {
    let disk = Disk::new(Vec::new());
    initialize(Path::new("disk"), disk.clone()).unwrap();
    disk.with(|state| state.synced.clone()).unwrap()
}

/// Some changes to a dozen keys, with values of up to three pages.
fn some_changes(rng: &mut ChaCha8Rng) -> Vec<Change> {
    let count = 1 + rng.next_u32() % 5;
    let change = |_| {
        let key = vec![b'k', u8::try_from(rng.next_u32() % 12).unwrap()];
        let value = vec![rng.next_u32().to_be_bytes()[0]; usize::try_from(rng.next_u32() % 9_000).unwrap()];
        (key, (!rng.next_u32().is_multiple_of(4)).then_some(value))
    };
    (0..count).map(change).collect()
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn apply_to(model: &mut Model, changes: Vec<Change>) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(model.insert(key, value)),
            None => drop(model.remove(&key)),
        }
    }
}

/// Commits until the power goes, and then again on what is left of the disk, several times over: every commit is
/// there whole or not at all, in their order, and all those that were reported are there.
fn crash_again_and_again(seed: u64) -> u32 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut image = empty();
    let mut expected = Model::new();
    let mut unfinished = 0;
    for _ in 0..6 {
        let disk = Disk::new(image);
        // The states after each commit since the last that was reported.
        let mut possible = vec![expected.clone()];
        disk.cut_power_after(rng.next_u32() % 120);
        if let Ok(store) = disk.open() {
            for _ in 0..200 {
                let batch: Vec<_> = (0..1 + rng.next_u32() % 3).map(|_| some_changes(&mut rng)).collect();
                let commits: Vec<Commit> = batch.iter().map(|x| store.commit(x.clone())).collect();
                for changes in batch {
                    let mut next = possible.last().unwrap().clone();
                    apply_to(&mut next, changes);
                    possible.push(next);
                }
                let mut has_failed = false;
                for commit in commits {
                    match commit.wait() {
                        Ok(()) => drop(possible.remove(0)),
                        Err(_) => has_failed = true,
                    }
                }
                if has_failed {
                    break;
                }
            }
        }
        image = disk.after_crash(&mut rng);
        let store = Disk::new(image.clone()).open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let found: Model = store.load().unwrap().into_iter().collect();
        let at = possible.iter().position(|model| *model == found);
        let at = at.unwrap_or_else(|| panic!("seed {seed}: neither before nor after a commit"));
        unfinished += u32::from(at > 0);
        expected = found;
    }
    unfinished
}

#[test]
fn commits_survive_power_cuts_all_together_or_not_at_all() {
    let unfinished: u32 = (0..200).map(crash_again_and_again).sum();
    assert!(unfinished > 0, "a commit that was not reported sometimes is there");
}

#[test]
fn a_full_disk_is_said_and_works_again_with_space() {
    let disk = Disk::new(empty());
    let store = disk.open().unwrap();
    let change = |value: u8| vec![(b"key".to_vec(), Some(vec![value; 100_000]))];
    store.commit(change(1)).wait().unwrap();
    disk.set_full(true);
    let error = store.commit(change(2)).wait().unwrap_err();
    assert_eq!(error, StoreError::Full { path: "disk".into() });
    assert!(error.to_string().contains("free some"));
    disk.set_full(false);
    assert_eq!(store.load().unwrap()[0].1[0], 1);
    store.commit(change(3)).wait().unwrap();
    assert_eq!(store.load().unwrap()[0].1[0], 3);
}

#[test]
fn what_waits_together_shares_a_sync() {
    #[derive(Debug)]
    struct Counting(Disk, Arc<Mutex<u32>>);
    impl StorageBackend for Counting {
        fn len(&self) -> std::io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> std::io::Result<()> {
            self.0.set_len(len)
        }
        fn sync_data(&self) -> std::io::Result<()> {
            *self.1.lock().unwrap() += 1;
            self.0.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
            self.0.write(offset, data)
        }
    }
    let (disk, syncs) = (Disk::new(empty()), Arc::new(Mutex::new(0)));
    let counting = syncs.clone();
    let path = Path::new("disk");
    let open = move || open(path, Counting(disk.clone(), counting.clone()));
    let store = RecordStore::start(path.to_owned(), None, open).unwrap();
    *syncs.lock().unwrap() = 0;
    // While the writer waits for this lock in its first sync, the rest comes together.
    let held = syncs.lock().unwrap();
    let commits: Vec<Commit> =
        (0..100).map(|number| store.commit(vec![(vec![number], Some(vec![number]))])).collect();
    drop(held);
    for commit in commits {
        commit.wait().unwrap();
    }
    assert!(*syncs.lock().unwrap() < 20, "{}", syncs.lock().unwrap());
    assert_eq!(store.load().unwrap().len(), 100);
}

#[test]
fn a_data_directory_is_one_process_s_and_its_file_its_owner_s() {
    let folder = tempfile::tempdir().unwrap();
    let store = RecordStore::open(folder.path()).unwrap();
    store.commit(vec![(b"a".to_vec(), Some(b"1".to_vec()))]).wait().unwrap();
    let error = RecordStore::open(folder.path()).unwrap_err();
    assert_eq!(error, StoreError::Locked { path: folder.path().to_owned() });
    drop(store);
    let path = folder.path().join(FILE);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let store = RecordStore::open(folder.path()).unwrap();
    assert_eq!(store.load().unwrap(), [(b"a".to_vec(), b"1".to_vec())]);
    drop(store);
    for garbage in [&b"not a database at all"[..], &[0; 4096]] {
        std::fs::write(&path, garbage).unwrap();
        let error = RecordStore::open(folder.path()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("restore a copy"), "{error}");
    }
}

#[test]
fn damage_is_found_when_the_store_is_opened() {
    let disk = Disk::new(empty());
    let store = disk.open().unwrap();
    store.commit(vec![(b"key".to_vec(), Some(vec![0x5a; 600]))]).wait().unwrap();
    drop(store);
    let mut image = disk.0.lock().unwrap().synced.clone();
    let at = image.windows(600).rposition(|x| x.iter().all(|&x| x == 0x5a)).unwrap();
    image[at + 300] ^= 1;
    let error = Disk::new(image).open().unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn a_newer_format_is_refused() {
    let disk = Disk::new(empty());
    {
        let database = Builder::new().create_with_backend(disk.clone()).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(FORMAT).unwrap().insert("version", 2).unwrap();
        transaction.commit().unwrap();
    }
    let error = disk.open().unwrap_err();
    assert_eq!(error, StoreError::Format { path: "disk".into(), found: 2, known: 1 });
}

#[test]
fn handles_see_their_own_part_only() {
    let store = Disk::new(empty()).open().unwrap();
    let (a, ab) = (store.within(b"a/"), store.within(b"a/").within(b"b/"));
    let one = |key: &str| (key.as_bytes().to_vec(), Some(key.as_bytes().to_vec()));
    for commit in [a.commit(vec![one("x")]), ab.commit(vec![one("y")]), store.commit(vec![one("z")])] {
        commit.wait().unwrap();
    }
    assert_eq!(ab.load().unwrap(), [(b"y".to_vec(), b"y".to_vec())]);
    assert_eq!(a.load().unwrap().len(), 2);
    a.commit(vec![(b"b/y".to_vec(), None)]).wait().unwrap();
    assert_eq!((ab.load().unwrap().len(), store.load().unwrap().len()), (0, 2));
}
