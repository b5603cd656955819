//! The same requests while no service runs: answered from the store, under the lock of the data directory.

use store::{BindingFields, DataDir, DataLock, Store};

use super::accounts::plan;
use super::protocol::{BindingInfo, Refusal, Reply, Request};
use crate::config::{Config, StoreUrl};

/// A store that no service has open.
#[derive(Debug)]
pub struct Offline {
    store: Store,
    config: Config,
    _lock: DataLock,
}

impl Offline {
    /// Locks the directory and opens its store.
    pub fn open(dir: &DataDir, config: Config) -> Result<Self, store::StoreError> {
        let lock = dir.lock()?;
        let StoreUrl::Sqlite(file) = &config.store.url;
        let store = Store::open(&dir.file(file))?;
        Ok(Self {
            store,
            config,
            _lock: lock,
        })
    }

    /// Answers a request. `now` is in unix seconds.
    pub fn handle(&mut self, request: &Request, now: u64) -> Result<Reply, Refusal> {
        if let Some(plan) = plan(request, &self.store, &self.config, now) {
            let plan = plan.map_err(|error| Refusal::from(&error))?;
            if !plan.changes.is_empty() {
                self.store
                    .apply(&plan.changes)
                    .map_err(|error| Refusal::from(&error))?;
            }
            return Ok(plan.reply);
        }
        match request {
            Request::Bindings { account, limit } => self.bindings(account.as_deref(), *limit as usize, now),
            Request::Records(query) => match self.store.records(query) {
                Ok(records) => Ok(Reply::Records { records }),
                Err(error) => Err((&error).into()),
            },
            _ => Err(Refusal::not_running()),
        }
    }

    fn bindings(&self, account: Option<&str>, limit: usize, now: u64) -> Result<Reply, Refusal> {
        let (mut bindings, mut more) = (Vec::new(), false);
        let each = |fields: BindingFields<'_>| {
            more = bindings.len() == limit;
            if !more {
                bindings.push(binding_info(&fields));
            }
            !more
        };
        let read = match account {
            None => self.store.each_binding(now, each),
            Some(account) if account.contains('@') => self.store.each_binding_of(account, now, each),
            Some(account) => {
                let aor = format!("{account}@{}", self.config.default_domain());
                self.store.each_binding_of(&aor, now, each)
            }
        };
        read.map_err(|error| Refusal::from(&error))?;
        Ok(Reply::Bindings { bindings, more })
    }
}

/// A binding of the store as commands show it.
pub fn binding_info(fields: &BindingFields<'_>) -> BindingInfo {
    let flow = switch::location::decode_flow(fields.flow);
    BindingInfo {
        aor: fields.aor.to_owned(),
        contact: fields.contact.to_owned(),
        transport: flow
            .map(|(flow, _)| flow.transport.as_via().to_owned())
            .unwrap_or_default(),
        remote: flow.map(|(flow, _)| flow.remote.to_string()).unwrap_or_default(),
        behind_nat: flow.is_some_and(|(_, behind_nat)| behind_nat),
        registered_at: fields.registered_at,
        expires_at: fields.expires_at,
        q: fields.q,
        path: fields.path.to_owned(),
        instance: fields.instance.to_owned(),
        user_agent: fields.user_agent.to_owned(),
    }
}
