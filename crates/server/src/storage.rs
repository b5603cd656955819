//! Between the switch's words and those of the store and of the DNS: plain conversions.

use store::{BindingFields, MediaPath, Record, StreamCounters};
use switch::directory::AddressOfRecord;
use switch::location::{Binding, BindingParts, decode_flow};
use switch::{CallRecord, Change, Traffic};

/// What the store is to write for a change of the switch.
pub(crate) fn changes(change: &Change) -> Vec<store::Change> {
    match change {
        Change::Bindings(changes) => changes
            .iter()
            .filter_map(|change| match (&change.before, &change.after) {
                (_, Some(after)) => Some(put_binding(after, change.order)),
                (Some(before), None) => Some(store::Change::RemoveBinding {
                    aor: before.aor().into(),
                    contact: before.contact().into(),
                    order: change.order,
                }),
                (None, None) => None,
            })
            .collect(),
        Change::Record(record) => vec![store::Change::PutRecord(Box::new(call_record(record)))],
        _ => Vec::new(),
    }
}

fn put_binding(binding: &Binding, order: u64) -> store::Change {
    let parts = binding.parts();
    let binding = store::Binding::new(BindingFields {
        aor: parts.aor,
        contact: parts.contact,
        call_id: parts.call_id,
        path: parts.path,
        instance: parts.instance,
        user_agent: parts.user_agent,
        flow: binding.flow_bytes(),
        cseq: parts.cseq,
        reg_id: parts.reg_id.into(),
        q: parts.q,
        registered_at: parts.registered_at,
        expires_at: parts.expires,
    });
    store::Change::PutBinding { binding, order }
}

/// Puts a stored binding back into the location service. One without an account was written while the account was removed.
pub(crate) fn restore(
    fields: &BindingFields<'_>,
    directory: &switch::Directory,
    location: &switch::Location,
) {
    let aor = fields.aor.rsplit_once('@');
    let exists = aor.is_some_and(|(user, domain)| directory.exists(&AddressOfRecord::new(user, domain)));
    let Some((flow, behind_nat)) = decode_flow(fields.flow).filter(|_| exists) else {
        return;
    };
    location.restore(&BindingParts {
        aor: fields.aor,
        contact: fields.contact,
        call_id: fields.call_id,
        cseq: fields.cseq,
        q: fields.q,
        expires: fields.expires_at,
        registered_at: fields.registered_at,
        path: fields.path,
        instance: fields.instance,
        reg_id: u16::try_from(fields.reg_id).unwrap_or(0),
        user_agent: fields.user_agent,
        flow,
        behind_nat,
    });
}

fn call_record(record: &CallRecord) -> Record {
    Record {
        id: record.id,
        call_id: record.call_id.clone(),
        from: record.caller.clone(),
        to: record.callee.clone(),
        started_at: record.started,
        ringing_at: record.ringing,
        answered_at: record.answered,
        ended_at: Some(record.ended),
        ended_by: match record.ended_by {
            switch::EndedBy::Caller => store::EndedBy::Caller,
            switch::EndedBy::Callee => store::EndedBy::Callee,
            switch::EndedBy::Service => store::EndedBy::Service,
        },
        status: record.status,
        reason: record.reason.clone().unwrap_or_default(),
        codec: record.codec.clone().unwrap_or_default(),
        media: media_path(record.media),
        from_caller: counters(&record.from_caller),
        from_callee: counters(&record.from_callee),
    }
}

/// The way of the media, in the store's form.
pub(crate) fn media_path(path: switch::MediaPath) -> MediaPath {
    match path {
        switch::MediaPath::None => MediaPath::None,
        switch::MediaPath::Direct => MediaPath::Direct,
        switch::MediaPath::Relay => MediaPath::Relay,
        switch::MediaPath::Local => MediaPath::Local,
    }
}

/// The counters of one direction, in the store's form.
pub(crate) fn counters(traffic: &Traffic) -> StreamCounters {
    StreamCounters {
        packets: traffic.packets,
        bytes: traffic.bytes,
        lost: traffic.lost,
        late: traffic.late,
        jitter_us: (traffic.jitter * 1000.0) as u32,
        first_at: traffic.first.unwrap_or(0),
        last_at: traffic.last.unwrap_or(0),
    }
}

/// A question of the switch, for the resolver.
pub(crate) fn dns_query(query: &sip::resolve::Query) -> net::dns::Query {
    use sip::resolve::RecordType;
    let record_type = match query.record_type {
        RecordType::Naptr => net::dns::RecordType::Naptr,
        RecordType::Srv => net::dns::RecordType::Srv,
        RecordType::A => net::dns::RecordType::A,
        RecordType::Aaaa => net::dns::RecordType::Aaaa,
    };
    net::dns::Query::new(record_type, &query.name)
}

/// The resolver's answer, for the switch.
pub(crate) fn dns_answer(answer: net::dns::Answer) -> sip::resolve::Answer {
    use net::dns::{LookupError, Records};
    use sip::resolve::{Answer, Naptr, Srv};
    match answer.result {
        Ok(Records::Naptr(records)) => Answer::Naptr(
            records
                .into_iter()
                .map(|record| Naptr {
                    order: record.order,
                    preference: record.preference,
                    flags: record.flags,
                    service: record.service,
                    replacement: record.replacement,
                })
                .collect(),
        ),
        Ok(Records::Srv(records)) => Answer::Srv(
            records
                .into_iter()
                .map(|record| Srv {
                    priority: record.priority,
                    weight: record.weight,
                    port: record.port,
                    target: record.target,
                })
                .collect(),
        ),
        Ok(Records::A(addresses)) => Answer::A(addresses),
        Ok(Records::Aaaa(addresses)) => Answer::Aaaa(addresses),
        Err(LookupError::NotFound | LookupError::NoRecords | LookupError::InvalidName) => Answer::NoRecords,
        Err(_) => Answer::Failed,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::{Store, Writer, WriterOptions};
    use switch::directory::Account;
    use switch::{Directory, Location};

    use super::*;

    /// One worker sweeps a registration that has ended, another one is asked for the same contact at that moment and hands it
    /// over first.
    #[test]
    fn a_registration_is_not_lost_to_a_removal_that_comes_late() {
        let flow = sip::Flow {
            transport: sip::Transport::Udp,
            local: "203.0.113.2:5060".parse().unwrap(),
            remote: "192.0.2.1:5060".parse().unwrap(),
            connection: None,
        };
        let parts = BindingParts {
            aor: "alice@example.org",
            contact: "sip:alice@192.0.2.1",
            call_id: "a",
            cseq: 1,
            q: 1000,
            expires: 100,
            registered_at: 1,
            path: "",
            instance: "",
            reg_id: 0,
            user_agent: "",
            flow,
            behind_nat: false,
        };
        let location = Location::new([1; 16]);
        location.restore(&parts);
        let mut swept = Vec::new();
        (0..switch::location::SHARDS).for_each(|part| location.sweep(part, 100, &mut swept));
        let added = location.update(parts.aor, |bindings| {
            let after = Binding::new(&BindingParts {
                expires: 200,
                ..parts
            });
            bindings.insert(after.clone());
            switch::location::BindingChange {
                before: None,
                after: Some(after),
                order: bindings.next_change(),
            }
        });
        let writer = Writer::start(Store::memory().unwrap(), WriterOptions::default(), vec![]).unwrap();
        for change in [vec![added], swept] {
            let change = Change::Bindings(Arc::from(change));
            writer.handle().submit_then(changes(&change), |_| {}).unwrap();
        }
        let store = writer.stop().unwrap();
        let directory = Directory::new(["example.org"], [], [2; 16]);
        let restored = |directory: &Directory| {
            let location = Location::new([3; 16]);
            let each = |fields: BindingFields<'_>| {
                restore(&fields, directory, &location);
                true
            };
            store.each_binding(0, each).unwrap();
            location.lookup(parts.aor, 150).len()
        };
        assert_eq!(restored(&directory), 0, "without its account it is nobody's");
        let alice = AddressOfRecord::new("alice", "example.org");
        directory.put(alice.clone(), Account::with_password(&alice, "secret"));
        assert_eq!(restored(&directory), 1);
    }
}
