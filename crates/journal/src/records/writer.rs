use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;

use redb::{Database, ReadableDatabase as _};
use tokio::sync::oneshot;

use super::{Change, RECORDS, StoreError, Stored};

/// What the writer's thread is asked for.
pub(super) enum Job {
    Commit { changes: Vec<Change>, done: oneshot::Sender<Result<(), StoreError>> },
    Load { prefix: Vec<u8>, done: mpsc::SyncSender<Loaded> },
}

type Loaded = Result<Vec<Stored>, StoreError>;

type Open = Box<dyn FnMut() -> Result<Database, StoreError> + Send>;

/// The thread that alone reads and writes the file. Ends with this value, after everything that waits.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

struct Worker {
    path: PathBuf,
    open: Open,
    /// `None` after a failure: it is opened anew for what comes next.
    database: Option<Database>,
}

impl Writer {
    pub(super) fn start(path: PathBuf, lock: Option<File>, mut open: Open) -> Result<Self, StoreError> {
        let database = Some(open()?);
        let (jobs, waiting) = mpsc::channel();
        let failed = path.clone();
        let mut worker = Worker { path, open, database };
        let thread = std::thread::Builder::new().name("records".to_owned()).spawn(move || {
            worker.run(&waiting);
            drop(worker);
            drop(lock);
        });
        let thread = Some(thread.map_err(|error| StoreError::of_io(failed, &error))?);
        Ok(Self { jobs: Some(jobs), thread })
    }

    /// Queues a job. How many wait is its callers' affair: each waits for its own before it goes on.
    pub(super) fn submit(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // A thread that has ended drops the job, and its caller learns that the store is closed.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // If it crashed, everybody has been told that the store is closed.
            let _ = thread.join();
        }
    }
}

impl Worker {
    fn run(&mut self, waiting: &mpsc::Receiver<Job>) {
        while let Ok(first) = waiting.recv() {
            let (mut changes, mut askers) = (Vec::new(), Vec::new());
            for job in std::iter::once(first).chain(waiting.try_iter()) {
                match job {
                    Job::Commit { changes: more, done } => {
                        changes.extend(more);
                        askers.push(done);
                    }
                    Job::Load { prefix, done } => {
                        self.commit_for(std::mem::take(&mut changes), std::mem::take(&mut askers));
                        let loaded = self.load(&prefix);
                        // Whoever asked may have gone.
                        let _ = done.send(loaded);
                    }
                }
            }
            self.commit_for(changes, askers);
        }
    }

    fn commit_for(&mut self, changes: Vec<Change>, askers: Vec<oneshot::Sender<Result<(), StoreError>>>) {
        if askers.is_empty() {
            return;
        }
        let result = if changes.is_empty() { Ok(()) } else { self.commit(changes) };
        for asker in askers {
            // Whoever asked may have gone.
            let _ = asker.send(result.clone());
        }
    }

    fn commit(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.with_database(|database| {
            let transaction = database.begin_write()?;
            {
                let mut records = transaction.open_table(RECORDS)?;
                for (key, value) in changes {
                    match value {
                        Some(value) => records.insert(&key[..], &value[..])?,
                        None => records.remove(&key[..])?,
                    };
                }
            }
            transaction.commit()?;
            Ok(())
        })
    }

    fn load(&mut self, prefix: &[u8]) -> Loaded {
        self.with_database(|database| {
            let records = database.begin_read()?.open_table(RECORDS)?;
            let mut found = Vec::new();
            for record in records.range(prefix..)? {
                let (key, value) = record?;
                let Some(key) = key.value().strip_prefix(prefix) else { break };
                found.push((key.to_vec(), value.value().to_vec()));
            }
            Ok(found)
        })
    }

    /// Does something with the database. After a failure it is closed: what it holds in memory is not what is on
    /// the disk any more.
    fn with_database<T>(
        &mut self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let database = match &mut self.database {
            Some(database) => database,
            closed => closed.insert((self.open)()?),
        };
        let result = work(database);
        if result.is_err() {
            self.database = None;
        }
        result.map_err(|error| StoreError::of_redb(self.path.clone(), error))
    }
}
