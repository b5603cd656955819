//! Messages between our codec and somebody else's (stun-types): what one writes the other reads in the same way.

use proptest::prelude::*;
use stun::attribute::AttributeType;
use stun::integrity::{Integrity, Key, PasswordAlgorithm, verify, verify_fingerprint};
use stun::message::{Class, Message, Method, TransactionId, Writer};
use turn_client_proto::stun::types::attribute::{Attribute, Software, XorMappedAddress};
use turn_client_proto::stun::types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message as Theirs, MessageClass, MessageIntegrityCredentials,
    MessageWrite, MessageWriteExt, MessageWriteVec, Method as TheirMethod,
};

fn credentials() -> MessageIntegrityCredentials {
    LongTermKeyCredentials::new("alice".into(), "secret".into(), "example.org".into()).into()
}

fn integrity() -> impl Strategy<Value = Option<Integrity>> {
    prop_oneof![
        Just(None),
        Just(Some(Integrity::Sha1)),
        Just(Some(Integrity::Sha256))
    ]
}

/// None that mean something to a reader of any message.
fn attributes() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    let kind = any::<u16>().prop_filter("not sealing", |kind| ![0x0008, 0x001c, 0x8028].contains(kind));
    proptest::collection::vec((kind, proptest::collection::vec(any::<u8>(), 0..20)), 0..6)
}

/// The key of a long-term credential is of the algorithm of its integrity there.
fn key(integrity: Integrity) -> Key {
    let algorithm = match integrity {
        Integrity::Sha1 => PasswordAlgorithm::Md5,
        Integrity::Sha256 => PasswordAlgorithm::Sha256,
    };
    Key::new(algorithm, "alice", "example.org", "secret")
}

proptest! {
    #[test]
    fn what_we_write_they_read(
        random in any::<[u8; 12]>(),
        class in 0..4usize,
        method in 0..METHODS.len(),
        attributes in attributes(),
        integrity in integrity(),
        fingerprint in any::<bool>(),
    ) {
        let (method, number) = METHODS[method];
        let (class, their_class) = [
            (Class::Request, MessageClass::Request),
            (Class::Indication, MessageClass::Indication),
            (Class::Success, MessageClass::Success),
            (Class::Error, MessageClass::Error),
        ][class];
        let mut buffer = [0; 400];
        let mut writer = Writer::new(&mut buffer, class, method, TransactionId::new(random));
        for (kind, value) in &attributes {
            writer.attribute(AttributeType(*kind), value);
        }
        if let Some(integrity) = integrity {
            writer.integrity(integrity, key(integrity).as_bytes());
        }
        if fingerprint {
            writer.fingerprint();
        }
        let length = writer.finish().unwrap();
        // It judges the fingerprint along the way.
        let theirs = Theirs::from_bytes(&buffer[..length]).unwrap();
        prop_assert_eq!((theirs.class(), theirs.method()), (their_class, TheirMethod::new(number)));
        let id = u128::from_be_bytes(std::array::from_fn(|at| if at < 4 { 0 } else { random[at - 4] }));
        prop_assert_eq!(theirs.transaction_id(), id.into());
        let read: Vec<(u16, Vec<u8>)> = theirs
            .iter_attributes()
            .map(|(_, attribute)| (attribute.get_type().value(), attribute.value.to_vec()))
            .filter(|(kind, _)| ![0x0008, 0x001c, 0x8028].contains(kind))
            .collect();
        prop_assert_eq!(read, attributes);
        match integrity {
            None => prop_assert!(theirs.validate_integrity(&credentials()).is_err()),
            Some(integrity) => {
                let algorithm = match integrity {
                    Integrity::Sha1 => IntegrityAlgorithm::Sha1,
                    Integrity::Sha256 => IntegrityAlgorithm::Sha256,
                };
                prop_assert_eq!(theirs.validate_integrity(&credentials()).unwrap(), algorithm);
            }
        }
    }

    #[test]
    fn what_they_write_we_read(
        port in any::<u16>(),
        ip in any::<std::net::IpAddr>(),
        software in "[a-z]{0,20}",
        integrity in integrity(),
        fingerprint in any::<bool>(),
    ) {
        let mut builder = Theirs::builder_request(TheirMethod::new(3), MessageWriteVec::default());
        let id = builder.transaction_id();
        let address = std::net::SocketAddr::new(ip, port);
        builder.add_attribute(&XorMappedAddress::new(address, id)).unwrap();
        builder.add_attribute(&Software::new(&software).unwrap()).unwrap();
        if let Some(integrity) = integrity {
            let algorithm = match integrity {
                Integrity::Sha1 => IntegrityAlgorithm::Sha1,
                Integrity::Sha256 => IntegrityAlgorithm::Sha256,
            };
            builder.add_message_integrity(&credentials(), algorithm).unwrap();
        }
        if fingerprint {
            builder.add_fingerprint().unwrap();
        }
        let bytes = builder.finish();
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!((message.class(), message.method()), (Class::Request, Method::ALLOCATE));
        let value = message.value(AttributeType::XOR_MAPPED_ADDRESS).unwrap();
        let read = stun::attribute::read_xor_address(value, &message.transaction_id());
        prop_assert_eq!(read, Some(address));
        prop_assert_eq!(message.value(AttributeType::SOFTWARE), Some(software.as_bytes()));
        for kind in [Integrity::Sha1, Integrity::Sha256] {
            let expected = (integrity == Some(kind)).then_some(true);
            prop_assert_eq!(verify(&message, kind, key(kind).as_bytes()), expected);
        }
        prop_assert_eq!(verify_fingerprint(&message), fingerprint.then_some(true));
    }

    /// They are stricter in what they take.
    #[test]
    fn what_they_take_for_a_message_we_do_too(mut bytes in proptest::collection::vec(any::<u8>(), 20..100)) {
        bytes.truncate(bytes.len() & !3);
        let length = (bytes.len() - 20) as u16;
        bytes[0] &= 0x3f;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        if bytes.len() > 24 {
            // A length that fits more often than by chance.
            bytes[22..24].copy_from_slice(&(length - 4).to_be_bytes());
        }
        if Theirs::from_bytes(&bytes).is_ok() {
            prop_assert!(Message::parse(&bytes).is_ok());
        }
    }
}

const METHODS: [(Method, u16); 7] = [
    (Method::BINDING, 1),
    (Method::ALLOCATE, 3),
    (Method::REFRESH, 4),
    (Method::SEND, 6),
    (Method::DATA, 7),
    (Method::CREATE_PERMISSION, 8),
    (Method::CHANNEL_BIND, 9),
];
