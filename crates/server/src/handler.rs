//! Answers the commands of `trapez` while the service runs.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sip::Transport;
use store::{Change, Store, WriterHandle};
use switch::directory::AddressOfRecord;
use switch::{CallState, Shared};
use tokio::sync::{mpsc, oneshot};

use crate::config::Config;
use crate::control::{
    BindingInfo, CallInfo, Handler, Refusal, RefusalKind, Reply, Request, Status, directory_account, plan,
};
use crate::storage;
use crate::worker::{Mail, Mailbox};

/// What the commands can see and change.
pub(crate) struct ServiceHandler {
    config: Config,
    shared: Arc<Shared>,
    workers: Vec<Mailbox>,
    writer: WriterHandle,
    /// Reads beside the writer.
    store: Mutex<Store>,
    listen: Vec<(Transport, SocketAddr)>,
    started_at: u64,
    stop: mpsc::Sender<()>,
}

impl ServiceHandler {
    pub(crate) fn new(
        config: Config,
        shared: Arc<Shared>,
        workers: Vec<Mailbox>,
        writer: WriterHandle,
        store: Store,
        listen: Vec<(Transport, SocketAddr)>,
        stop: mpsc::Sender<()>,
    ) -> Self {
        let started_at = net::clock::unix_seconds();
        ServiceHandler {
            config,
            shared,
            workers,
            writer,
            store: Mutex::new(store),
            listen,
            started_at,
            stop,
        }
    }
}

impl Handler for ServiceHandler {
    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send + '_>> {
        Box::pin(self.answer(request))
    }
}

impl ServiceHandler {
    async fn answer(&self, request: Request) -> Result<Reply, Refusal> {
        match request {
            Request::Bindings { account, limit } => Ok(self.bindings(account.as_deref(), limit as usize)),
            Request::Calls { limit } => Ok(self.calls(limit as usize).await),
            Request::Records(query) => {
                let records = self
                    .store()
                    .records(&query)
                    .map_err(|error| Refusal::from(&error))?;
                Ok(Reply::Records { records })
            }
            Request::Status => Ok(Reply::Status(self.status().await)),
            Request::Stop => {
                let _ = self.stop.send(()).await;
                Ok(Reply::Stopping)
            }
            request => self.account(request).await,
        }
    }

    /// A request about accounts: decided, written, and then known to the workers.
    async fn account(&self, request: Request) -> Result<Reply, Refusal> {
        let planned = plan(&request, &self.store(), &self.config, net::clock::unix_seconds());
        let Some(planned) = planned else {
            return Err(Refusal::not_running());
        };
        let planned = planned.map_err(|error| Refusal::from(&error))?;
        if planned.changes.is_empty() {
            return Ok(planned.reply);
        }
        let (written, result) = oneshot::channel();
        let changes = planned.changes.clone();
        let submitted = self.writer.submit_then(changes, move |result| {
            let _ = written.send(result.map_err(Refusal::from));
        });
        if submitted.is_err() {
            return Err(busy());
        }
        result.await.unwrap_or_else(|_| Err(busy()))?;
        for change in &planned.changes {
            self.publish(change);
        }
        Ok(planned.reply)
    }

    /// Tells the workers about a change of the accounts.
    fn publish(&self, change: &Change) {
        match change {
            Change::AddAccount(account) | Change::PutAccount(account) => {
                if let Ok(known) = directory_account(account) {
                    let aor = AddressOfRecord::new(&account.name, &account.domain);
                    self.shared.directory.put(aor, known);
                }
            }
            Change::RemoveAccount { name, domain } => {
                self.shared.directory.remove(&AddressOfRecord::new(name, domain));
            }
            Change::RemoveBindings { aor } => self.shared.location.remove_all(aor),
            _ => {}
        }
    }

    fn bindings(&self, account: Option<&str>, limit: usize) -> Reply {
        let wanted = account.map(|account| match account.contains('@') {
            true => account.to_owned(),
            false => format!("{account}@{}", self.config.default_domain()),
        });
        let mut bindings = Vec::new();
        self.shared
            .location
            .for_each(net::clock::unix_seconds(), |binding| {
                if wanted.as_deref().is_none_or(|wanted| binding.aor() == wanted) {
                    let flow = binding.flow();
                    bindings.push(BindingInfo {
                        aor: binding.aor().to_owned(),
                        contact: binding.contact().to_owned(),
                        transport: flow.transport.as_via().to_owned(),
                        remote: flow.remote.to_string(),
                        behind_nat: binding.behind_nat(),
                        registered_at: binding.registered_at(),
                        expires_at: binding.expires(),
                        q: binding.q(),
                        path: binding.path().to_owned(),
                        instance: binding.instance().to_owned(),
                        user_agent: binding.user_agent().to_owned(),
                    });
                }
            });
        bindings.sort_by(|a, b| (&a.aor, &a.contact).cmp(&(&b.aor, &b.contact)));
        let more = bindings.len() > limit;
        bindings.truncate(limit);
        Reply::Bindings { bindings, more }
    }

    async fn calls(&self, limit: usize) -> Reply {
        for worker in &self.workers {
            worker.send(Mail::RefreshCounters);
        }
        // The relay answers within a nap and a turn of the worker; without its answer the counters are those of before.
        tokio::time::sleep(COUNTERS_WAIT).await;
        let mut calls: Vec<CallInfo> = Vec::new();
        for worker in &self.workers {
            let (reply, answer) = oneshot::channel();
            worker.send(Mail::Calls(reply));
            calls.extend(answer.await.unwrap_or_default().iter().map(call_info));
        }
        calls.sort_by_key(|call| call.started_at);
        let more = calls.len() > limit;
        calls.truncate(limit);
        Reply::Calls { calls, more }
    }

    async fn status(&self) -> Status {
        let mut calls = 0;
        for worker in &self.workers {
            let (reply, answer) = oneshot::channel();
            worker.send(Mail::Load(reply));
            calls += answer.await.map_or(0, |(_, calls)| calls as u64);
        }
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started_at,
            domains: self.config.domains.iter().map(ToString::to_string).collect(),
            listen: self
                .listen
                .iter()
                .map(|(transport, at)| format!("{} {at}", transport.as_via()))
                .collect(),
            workers: self.workers.len() as u32,
            media_workers: u32::from(
                self.config
                    .server
                    .media_workers
                    .unwrap_or(self.workers.len() as u8),
            ),
            accounts: self.shared.directory.len() as u64,
            bindings: self.shared.location.len() as u64,
            calls,
        }
    }

    fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn call_info(call: &switch::CallInfo) -> CallInfo {
    CallInfo {
        call_id: call.call_id.clone(),
        from: call.caller.clone(),
        to: call.callee.clone(),
        started_at: call.started,
        answered_at: call.answered,
        state: match call.state {
            CallState::Calling => "calling",
            CallState::Ringing => "ringing",
            CallState::Talking => "talking",
            CallState::Ending => "ending",
        }
        .to_owned(),
        codec: call.codec.clone().unwrap_or_default(),
        media: storage::media_path(call.media),
        from_caller: storage::counters(&call.from_caller),
        from_callee: storage::counters(&call.from_callee),
    }
}

/// The store does not keep up.
fn busy() -> Refusal {
    Refusal {
        kind: RefusalKind::Store,
        message: "the store is too busy to write this".to_owned(),
        remedy: "try again in a moment".to_owned(),
    }
}

/// How long the relay has to send its counters.
const COUNTERS_WAIT: Duration = Duration::from_millis(30);
