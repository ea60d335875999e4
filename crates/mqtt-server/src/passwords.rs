//! Passwords and rules: their files, and the threads on which passwords are hashed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use access::{Acl, AclError, Users, UsersError};
use arc_swap::ArcSwap;
use mqtt_broker::{Lookup, Shared, Verdict};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::config::AccessConfig;

/// Passwords that may wait to be hashed.
const MAX_WAITING: usize = 1_024;

/// Why passwords or rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The password file is malformed.
    #[error("the password file {} cannot be used: {source}", path.display())]
    Users {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: UsersError,
    },
    /// The system gives no random numbers, without which nobody can be challenged.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The ACL file is malformed.
    #[error("the ACL file {} cannot be used: {source}", path.display())]
    Acl {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: AclError,
    },
}

/// The users, and where their passwords are hashed: beside the shards, a few at a time.
#[derive(Debug)]
pub(crate) struct Passwords {
    users: ArcSwap<Users>,
    workers: Semaphore,
    waiting: AtomicUsize,
    runtime: Handle,
}

impl Passwords {
    /// Hashes as many passwords at the same time as there are cores, on threads of `runtime`.
    pub(crate) fn new(runtime: Handle) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Arc::new(Self {
            users: ArcSwap::default(),
            workers: Semaphore::new(cores),
            waiting: AtomicUsize::new(0),
            runtime,
        })
    }

    /// Looks a password up, and hands the answer to `answer`.
    pub(crate) fn look_up<F>(
        self: &Arc<Self>,
        lookup: Lookup,
        answer: impl FnOnce(Verdict) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        let passwords = Arc::clone(self);
        if passwords.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            passwords.waiting.fetch_sub(1, Ordering::Relaxed);
            self.runtime.spawn(async move { answer(Verdict::Busy).await });
            return;
        }
        self.runtime.spawn(async move {
            let verdict = passwords.verify(lookup).await;
            passwords.waiting.fetch_sub(1, Ordering::Relaxed);
            answer(verdict).await;
        });
    }

    async fn verify(&self, lookup: Lookup) -> Verdict {
        let Ok(_worker) = self.workers.acquire().await else { return Verdict::Busy };
        let users = self.users.load_full();
        let verify = move || users.verify(&lookup.username, &lookup.password);
        match tokio::task::spawn_blocking(verify).await {
            Ok(true) => Verdict::Accepted,
            // A look-up that failed lets nobody in.
            Ok(false) | Err(_) => Verdict::Denied,
        }
    }
}

/// Reads the files and puts them in force; on error what was in force stays.
pub(crate) fn load(config: &AccessConfig, passwords: &Passwords, shared: &Shared) -> Result<(), AccessError> {
    let users = config.password_file.as_ref().map(|path| {
        Users::parse(&read(path)?).map_err(|source| AccessError::Users { path: path.clone(), source })
    });
    let acl = config.acl_file.as_ref().map(|path| {
        Acl::parse(&read(path)?).map_err(|source| AccessError::Acl { path: path.clone(), source })
    });
    let (users, acl) = (users.transpose()?, acl.transpose()?);
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(AccessError::Random)?;
    let verifiers = users.as_ref().map(|users| users.verifiers(secret));
    shared.scram.store(verifiers.filter(|verifiers| !verifiers.is_empty()).map(Arc::new));
    passwords.users.store(Arc::new(users.unwrap_or_default()));
    shared.acl.store(acl.map(Arc::new));
    Ok(())
}

pub(crate) fn files(config: &AccessConfig) -> Vec<PathBuf> {
    config.password_file.iter().chain(&config.acl_file).cloned().collect()
}

fn read(path: &Path) -> Result<String, AccessError> {
    std::fs::read_to_string(path).map_err(|source| AccessError::Read { path: path.to_owned(), source })
}
