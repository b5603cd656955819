//! Between the switch's words and those of the store and of the DNS: plain conversions.

use store::{BindingFields, MediaPath, Record, StreamCounters};
use switch::location::{Binding, BindingParts, decode_flow};
use switch::{CallRecord, Change, Traffic};

/// What the store is to write for a change of the switch.
pub(crate) fn changes(change: &Change) -> Vec<store::Change> {
    match change {
        Change::Bindings(changes) => changes
            .iter()
            .filter_map(|change| match (&change.before, &change.after) {
                (_, Some(after)) => Some(put_binding(after)),
                (Some(before), None) => Some(store::Change::RemoveBinding {
                    aor: before.aor().into(),
                    contact: before.contact().into(),
                }),
                (None, None) => None,
            })
            .collect(),
        Change::Record(record) => vec![store::Change::PutRecord(Box::new(call_record(record)))],
        _ => Vec::new(),
    }
}

fn put_binding(binding: &Binding) -> store::Change {
    let parts = binding.parts();
    store::Change::PutBinding(store::Binding::new(BindingFields {
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
    }))
}

/// Puts a stored binding back into the location service.
pub(crate) fn restore(fields: &BindingFields<'_>, location: &switch::Location) {
    let Some((flow, behind_nat)) = decode_flow(fields.flow) else {
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
