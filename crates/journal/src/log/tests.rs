use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::fault::FaultyDisk;
use super::*;

const SMALL: Options =
    Options { fsync: Fsync::Always, segment_bytes: 400, max_waiting_bytes: 2_000, max_live_bytes: u64::MAX };

type Records = BTreeMap<Position, Vec<u8>>;

fn reopen(disk: &FaultyDisk, options: Options) -> (Writer, Report, Records) {
    let mut records = Records::new();
    let storage = Arc::new(disk.clone());
    let (writer, report) = open(storage, options, 42, |position, body| {
        records.insert(position, body.to_vec());
    })
    .unwrap();
    (writer, report, records)
}

fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    usize::try_from(rng.next_u64() % bound.max(1) as u64).unwrap()
}

#[test]
fn what_was_appended_is_read_back_from_wherever_it_is() {
    let disk = FaultyDisk::default();
    let (mut writer, ..) = reopen(&disk, SMALL);
    let log = Arc::clone(writer.log());
    let first = log.append(b"one");
    assert!(log.durable() < first.end);
    let positions = [first.hold.position()];
    assert_eq!(log.read(&disk, &positions), [Some(b"one".to_vec())], "from what was not written");
    writer.turn(false).unwrap();
    assert_eq!(log.durable(), first.end);
    let long = vec![7; 100_000];
    let second = log.append(&long);
    let third = log.append(b"three");
    writer.turn(false).unwrap();
    let positions = [first.hold.position(), second.hold.position(), third.hold.position()];
    let found = log.read(&disk, &positions);
    assert_eq!(found, [Some(b"one".to_vec()), Some(long.clone()), Some(b"three".to_vec())]);
    drop(writer);
    let (writer, report, records) = reopen(&disk, SMALL);
    assert_eq!((report.records, report.losses.len(), report.unfinished), (3, 0, 0));
    assert_eq!(records.into_values().collect::<Vec<_>>(), [b"one".to_vec(), long, b"three".to_vec()]);
    assert_eq!(writer.log().read(&disk, &positions[..1]), [Some(b"one".to_vec())]);
}

#[test]
fn one_sync_is_for_all_that_wait() {
    let disk = FaultyDisk::default();
    let (mut writer, ..) = reopen(&disk, Options::default());
    for _ in 0..1_000 {
        writer.log().append(b"record");
    }
    let before = disk.syncs();
    writer.turn(false).unwrap();
    assert_eq!(disk.syncs() - before, 1);
}

#[test]
fn with_interval_what_was_written_counts_and_a_turn_that_must_syncs() {
    let disk = FaultyDisk::default();
    let options = Options { fsync: Fsync::Interval(Duration::from_secs(1)), ..Options::default() };
    let (mut writer, ..) = reopen(&disk, options);
    let appended = writer.log().append(b"record");
    let before = disk.syncs();
    writer.turn(false).unwrap();
    assert_eq!((writer.log().durable(), disk.syncs()), (appended.end, before));
    writer.turn(true).unwrap();
    assert_eq!(disk.syncs(), before + 1);
}

#[test]
fn segments_that_nobody_claims_go_from_the_front_and_after_a_sync() {
    let disk = FaultyDisk::default();
    let (mut writer, ..) = reopen(&disk, SMALL);
    let log = Arc::clone(writer.log());
    let mut holds: Vec<Hold> = (0..40).map(|_| log.append(&[1; 100]).hold).collect();
    writer.turn(false).unwrap();
    let all = log.stats().segments;
    assert!(all > 5, "{all}");
    let first = holds.remove(0);
    drop(holds);
    writer.turn(false).unwrap();
    assert_eq!(log.stats().segments, all, "the first is still wanted");
    assert!(log.evacuate_before().is_some_and(|before| before > first.position()), "but it is wasteful");
    let moved = log.append(&[1; 100]);
    drop(first);
    writer.turn(false).unwrap();
    assert!(log.stats().segments <= 2, "{:?}", log.stats());
    writer.turn(false).unwrap();
    assert_eq!(log.evacuate_before(), None);
    drop(writer);
    let (_, report, records) = reopen(&disk, SMALL);
    assert_eq!(report.losses, []);
    assert!(records.contains_key(&moved.hold.position()));
}

#[test]
fn whoever_ends_takes_nothing_with_them() {
    let disk = FaultyDisk::default();
    let (mut writer, ..) = reopen(&disk, SMALL);
    let log = Arc::clone(writer.log());
    let holds: Vec<Hold> = (0..40).map(|_| log.append(&[1; 100]).hold).collect();
    writer.turn(false).unwrap();
    log.keep_all();
    drop(holds);
    writer.close().unwrap();
    drop(writer);
    assert_eq!(reopen(&disk, SMALL).2.len(), 40);
}

#[test]
fn a_full_disk_holds_up_and_loses_nothing() {
    let disk = FaultyDisk::default();
    let (mut writer, ..) = reopen(&disk, SMALL);
    let log = Arc::clone(writer.log());
    log.append(&[1; 100]);
    writer.turn(false).unwrap();
    disk.limit(Some(disk.bytes() + 50));
    let late: Vec<Appended> = (0..9).map(|_| log.append(&[2; 100])).collect();
    for _ in 0..3 {
        assert!(writer.turn(false).is_err());
        assert!(log.is_congested());
        assert!(log.durable() < late[0].end);
        assert_eq!(log.read(&disk, &[late[3].hold.position()]), [Some(vec![2; 100])]);
    }
    disk.limit(None);
    writer.turn(false).unwrap();
    assert!(!log.is_congested());
    assert_eq!(log.durable(), late[8].end);
    drop(writer);
    let (_, report, records) = reopen(&disk, SMALL);
    assert_eq!((records.len(), report.losses.len(), report.unfinished), (10, 0, 0));
}

#[test]
fn damage_is_named_and_what_comes_after_it_is_kept() {
    let disk = FaultyDisk::default();
    let (mut writer, ..) = reopen(&disk, Options::default());
    let log = Arc::clone(writer.log());
    let all: Vec<Position> = (0..20_u8)
        .map(|number| {
            let appended = log.append(&[number; 50]);
            writer.turn(false).unwrap();
            appended.hold.position()
        })
        .collect();
    let hit = disk.flip((all[4].0 + 30) * 8).unwrap();
    drop(writer);
    let (_, report, records) = reopen(&disk, Options::default());
    assert_eq!(records.len(), 19);
    assert!(!records.contains_key(&all[4]));
    let [loss] = report.losses[..] else { panic!("{report:?}") };
    assert!(loss.offset <= hit.1 && hit.1 < loss.offset + loss.bytes);
    assert_eq!((loss.segment, report.unfinished), (Position(0), 0));
}

#[test]
fn a_record_that_looks_like_frames_is_never_taken_for_some() {
    let disk = FaultyDisk::default();
    let (mut writer, ..) = reopen(&disk, Options::default());
    let log = Arc::clone(writer.log());
    let mut forged = Vec::new();
    for position in 0..200 {
        // Whoever sends it knows everything but the salt.
        frame::write(&mut forged, 41, Position(position), Kind::Record, b"forged");
    }
    let appended = log.append(&forged);
    writer.turn(false).unwrap();
    log.append(b"later");
    writer.turn(false).unwrap();
    log.append(b"later still");
    writer.turn(false).unwrap();
    disk.flip((appended.hold.position().0 + 3) * 8).unwrap();
    let (_, report, records) = reopen(&disk, Options::default());
    assert_eq!(records.into_values().collect::<Vec<_>>(), [b"later".to_vec(), b"later still".to_vec()]);
    assert_eq!(report.losses.len(), 1);
}

#[test]
fn a_log_of_a_newer_format_is_left_alone() {
    let disk = FaultyDisk::default();
    let mut header = frame::segment_header(Position(0), 1);
    header[9] = 9;
    let check = crc32fast::hash(&header[..26]);
    header[26..].copy_from_slice(&check.to_be_bytes());
    disk.create(Position(0)).unwrap();
    disk.write(Position(0), 0, &header).unwrap();
    let error = open(Arc::new(disk), SMALL, 1, |_, _| {}).err().unwrap();
    assert!(error.to_string().contains("format 9"), "{error}");
}

/// A log and a model of it: what was durable is there after any crash, in its order, and nothing else is but what
/// was appended.
fn crash(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let disk = FaultyDisk::default();
    let options = Options { segment_bytes: 100 + below(&mut rng, 2_000) as u64, ..SMALL };
    let (mut writer, ..) = reopen(&disk, options);
    let mut held: BTreeMap<Position, (Hold, Position, Vec<u8>)> = BTreeMap::new();
    // Released, and perhaps still there.
    let mut released = Records::new();
    for round in 0..30 {
        for _ in 0..below(&mut rng, 40) {
            match below(&mut rng, 10) {
                0..6 => {
                    let body: Vec<u8> =
                        (0..below(&mut rng, 300)).map(|_| rng.next_u64().to_be_bytes()[0]).collect();
                    let appended = writer.log().append(&body);
                    held.insert(appended.hold.position(), (appended.hold, appended.end, body));
                }
                6 if !held.is_empty() => {
                    let nth = below(&mut rng, held.len());
                    let position = *held.keys().nth(nth).unwrap();
                    let (_, _, body) = held.remove(&position).unwrap();
                    released.insert(position, body);
                }
                7 => disk.limit((below(&mut rng, 3) == 0).then(|| disk.bytes() + 500)),
                _ => _ = writer.turn(below(&mut rng, 5) == 0),
            }
        }
        disk.limit(None);
        let durable = writer.log().durable();
        drop(writer);
        // In the other rounds the process is killed, and the system lives on.
        if below(&mut rng, 3) > 0 {
            disk.cut_power(|bound| below(&mut rng, bound));
        }
        let (again, report, records) = reopen(&disk, options);
        assert_eq!(report.losses, [], "seed {seed} round {round}");
        for (position, (_, end, body)) in &held {
            let found = records.get(position);
            assert!(*end > durable || found.is_some(), "seed {seed} round {round}: {position:?} is lost");
            assert!(
                found.is_none_or(|found| found == body),
                "seed {seed} round {round}: {position:?} differs"
            );
        }
        for (position, body) in &records {
            let known = held.get(position).map(|(.., body)| body).or(released.get(position));
            assert_eq!(known, Some(body), "seed {seed} round {round}: {position:?} was never appended");
        }
        held.retain(|position, _| records.contains_key(position));
        for (position, (hold, end, body)) in &mut held {
            *hold = again.log().hold(*position, body.len()).unwrap();
            *end = Position(0);
        }
        released.retain(|position, _| records.contains_key(position));
        writer = again;
    }
}

#[test]
fn what_was_durable_survives_any_crash() {
    for seed in 0..300 {
        crash(seed);
    }
}

/// With bits flipped: every record is as it was, or in a place that the report names.
#[test]
fn what_flipped_bits_take_is_named_and_nothing_else_is_lost() {
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let disk = FaultyDisk::default();
        let (mut writer, ..) = reopen(&disk, SMALL);
        let mut all = Records::new();
        for _ in 0..60 {
            let body: Vec<u8> = (0..below(&mut rng, 120)).map(|_| rng.next_u64().to_be_bytes()[0]).collect();
            let appended = writer.log().append(&body);
            std::mem::forget(appended.hold.clone());
            all.insert(appended.hold.position(), body);
            writer.turn(false).unwrap();
        }
        writer.close().unwrap();
        drop(writer);
        for _ in 0..=below(&mut rng, 3) {
            let bytes = below(&mut rng, usize::try_from(disk.bytes() - 40).unwrap()) as u64;
            disk.flip(bytes * 8 + 3).unwrap();
        }
        let (_, report, records) = reopen(&disk, SMALL);
        for (position, body) in &all {
            let is_named = report.losses.iter().any(|loss| {
                let at = position.0 - loss.segment.0.min(position.0);
                (loss.offset..loss.offset + loss.bytes).contains(&at)
            });
            match records.get(position) {
                Some(found) => assert_eq!(found, body, "seed {seed}"),
                None => assert!(is_named, "seed {seed}: {position:?} is lost without a word: {report:?}"),
            }
        }
    }
}

#[test]
fn a_thread_writes_to_files_and_ends_with_everything_written() {
    let folder = tempfile::tempdir().unwrap();
    let storage = || Arc::new(Folder::open(folder.path().join("log")).unwrap());
    let (writer, _) = open(storage(), SMALL, 1, |_, _| {}).unwrap();
    let log = Arc::clone(writer.log());
    let thread = writer.start().unwrap();
    let threads: Vec<_> = (0..4_u8)
        .map(|number| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || (0..100).map(|_| log.append(&[number; 30])).collect::<Vec<_>>())
        })
        .collect();
    let appended: Vec<Appended> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let last = appended.iter().map(|appended| appended.end).max().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { log.watch().wait_for(|&durable| durable >= last).await.map(|_| ()).unwrap() });
    drop(thread);
    let mut count = 0;
    let (_, report) = open(storage(), SMALL, 1, |_, _| count += 1).unwrap();
    assert_eq!((count, report.unfinished), (400, 0));
}

#[test]
fn what_nobody_waits_for_is_written_with_others_or_later_or_when_it_is_much() {
    let (mut writer, ..) = reopen(&FaultyDisk::default(), Options::default());
    let log = Arc::clone(writer.log());
    let is_wanted = || log.lock().is_wanted;
    let first = log.append_later(b"later");
    assert!(!is_wanted());
    log.hurry();
    assert!(is_wanted());
    writer.turn(false).unwrap();
    assert!(!is_wanted() && log.durable() == first.end);
    log.hurry();
    assert!(!is_wanted(), "there is nothing");
    log.append_later(b"later");
    log.append(b"now");
    assert!(is_wanted());
    writer.turn(false).unwrap();
    (0..64).for_each(|_| drop(log.append_later(&[7; 1_024])));
    assert!(is_wanted());
    writer.turn(false).unwrap();

    let thread = writer.start().unwrap();
    let last = log.append_later(b"in a while").end;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { log.watch().wait_for(|&durable| durable >= last).await.map(|_| ()).unwrap() });
    drop(thread);
}

#[test]
fn a_view_reads_and_changes_nothing() {
    let disk = FaultyDisk::default();
    let (mut writer, ..) = reopen(&disk, SMALL);
    let position = writer.log().append(b"one").hold.position();
    writer.close().unwrap();
    let before = disk.bytes();
    let mut seen = 0;
    let (log, report) = view(&disk, |_, _| seen += 1).unwrap();
    assert_eq!((report.records, seen, disk.bytes()), (1, 1, before));
    assert_eq!(log.read(&disk, &[position]), [Some(b"one".to_vec())]);
}
