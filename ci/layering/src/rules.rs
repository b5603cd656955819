//! Which crate may know which, and the walk over the graph that finds the arrows that may not be.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::metadata::{Metadata, Node, Package};

/// Every fault in the graph, as a sentence.
pub(crate) fn check(metadata: &Metadata) -> Vec<String> {
    let packages = metadata.by_id();
    let nodes = metadata.nodes();
    let mut faults = Vec::new();
    for member in metadata.members() {
        arrows(member, &packages, &nodes, metadata, &mut faults);
        if is_pure(&member.name) {
            reach(member, &packages, &nodes, &mut faults);
        }
    }
    faults.sort();
    faults
}

/// Protocol crates: no socket, no clock, no file, no thread.
pub(crate) fn is_pure(name: &str) -> bool {
    PURE.contains(&name)
}

/// The only crate that may contain `unsafe`.
pub(crate) fn may_be_unsafe(name: &str) -> bool {
    name == "net"
}

fn arrows(
    member: &Package,
    packages: &HashMap<&str, &Package>,
    nodes: &HashMap<&str, &Node>,
    metadata: &Metadata,
    faults: &mut Vec<String>,
) {
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == member.name) else {
        faults.push(format!(
            "{}: no rule for this crate; give it one in ci/layering/src/rules.rs",
            member.name
        ));
        return;
    };
    let Some(node) = nodes.get(member.id.as_str()) else {
        return;
    };
    for arrow in &node.deps {
        if !metadata.workspace_members.contains(&arrow.pkg) {
            continue;
        }
        let Some(target) = packages.get(arrow.pkg.as_str()) else {
            continue;
        };
        let tested_with = DEVELOPMENT_ONLY.contains(&target.name.as_str());
        if arrow.is_for_the_product() {
            if tested_with {
                faults.push(format!("{} -> {}: is for tests only", member.name, target.name));
            } else if !allowed.contains(&target.name.as_str()) {
                faults.push(format!(
                    "{} -> {}: points the wrong way",
                    member.name, target.name
                ));
            }
        } else if !tested_with && !allowed.contains(&target.name.as_str()) {
            faults.push(format!(
                "{} -> {} (tests): points the wrong way",
                member.name, target.name
            ));
        }
    }
}

/// What a protocol crate gets in the product, directly or through others, must not include the operating system.
fn reach(
    member: &Package,
    packages: &HashMap<&str, &Package>,
    nodes: &HashMap<&str, &Node>,
    faults: &mut Vec<String>,
) {
    let mut seen = HashSet::from([member.id.as_str()]);
    let mut queue = VecDeque::from([(member.id.as_str(), member.name.clone())]);
    while let Some((id, path)) = queue.pop_front() {
        let Some(node) = nodes.get(id) else { continue };
        for arrow in node.deps.iter().filter(|arrow| arrow.is_for_the_product()) {
            let Some(target) = packages.get(arrow.pkg.as_str()) else {
                continue;
            };
            if !seen.insert(&arrow.pkg) {
                continue;
            }
            let path = format!("{path} -> {}", target.name);
            let direct = id == member.id;
            if FORBIDDEN
                .iter()
                .any(|name| target.name == *name || target.name.starts_with(&format!("{name}-")))
                || direct && FORBIDDEN_DIRECTLY.contains(&target.name.as_str())
            {
                faults.push(format!("{path}: a protocol crate does no I/O"));
            } else {
                queue.push_back((&arrow.pkg, path));
            }
        }
    }
}

/// Who may use whom, in the product and in tests.
const MAY_USE: &[(&str, &[&str])] = &[
    ("sip", &[]),
    ("media", &[]),
    ("stun", &[]),
    ("net", &[]),
    ("store", &[]),
    ("agent", &["sip", "media", "stun"]),
    ("switch", &["sip", "media", "stun"]),
    (
        "server",
        &["sip", "media", "stun", "agent", "switch", "net", "store"],
    ),
    ("testkit", &["sip", "media", "stun", "agent", "switch"]),
    ("trapez", &["server", "store"]),
    ("trapez-load", &["sip", "media", "agent", "net"]),
    ("layering", &[]),
];

/// Any crate's tests may use these, no crate's product may.
const DEVELOPMENT_ONLY: &[&str] = &["testkit"];

const PURE: &[&str] = &["sip", "media", "stun", "agent", "switch"];

/// The operating system, by the names (and name families) through which it comes in.
const FORBIDDEN: &[&str] = &[
    "tokio",
    "mio",
    "socket2",
    "hickory",
    "rusqlite",
    "libsqlite3",
    "nix",
    "rustix",
    "polling",
    "async-io",
    "smol",
    "quinn",
    "hyper",
    "getrandom",
];

/// Harmless far down (cpu feature detection has it), but nothing a protocol crate calls itself.
const FORBIDDEN_DIRECTLY: &[&str] = &["libc"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A made-up workspace: `ours` are members, every arrow is (from, to, kind).
    fn metadata(ours: &[&str], arrows: &[(&str, &str, Option<&str>)]) -> Metadata {
        let mut names: Vec<&str> = ours.to_vec();
        for (from, to, _) in arrows {
            names.extend([*from, *to]);
        }
        names.sort_unstable();
        names.dedup();
        let packages: Vec<_> = names
            .iter()
            .map(|name| json!({"id": format!("{name}#1"), "name": name, "manifest_path": format!("/{name}/Cargo.toml")}))
            .collect();
        let nodes: Vec<_> = names
            .iter()
            .map(|name| {
                let deps: Vec<_> = arrows
                    .iter()
                    .filter(|(from, _, _)| from == name)
                    .map(|(_, to, kind)| json!({"pkg": format!("{to}#1"), "dep_kinds": [{"kind": kind}]}))
                    .collect();
                json!({"id": format!("{name}#1"), "deps": deps})
            })
            .collect();
        let members: Vec<_> = ours.iter().map(|name| format!("{name}#1")).collect();
        let document =
            json!({"packages": packages, "workspace_members": members, "resolve": {"nodes": nodes}});
        serde_json::from_value(document).expect("the made-up metadata has the right shape")
    }

    #[test]
    fn the_layering_of_the_design_passes() {
        let ours = [
            "sip", "media", "net", "store", "agent", "switch", "server", "trapez", "testkit",
        ];
        let arrows = [
            ("agent", "sip", None),
            ("switch", "media", None),
            ("server", "switch", None),
            ("server", "net", None),
            ("net", "tokio", None),
            ("store", "rusqlite", None),
            ("trapez", "server", None),
            ("testkit", "switch", None),
            ("switch", "testkit", Some("dev")),
            ("sip", "slab", None),
            ("sip", "proptest", Some("dev")),
            ("proptest", "getrandom", None),
        ];
        assert_eq!(check(&metadata(&ours, &arrows)), [""; 0]);
    }

    #[test]
    fn a_leaf_that_knows_another_leaf_is_found() {
        let faults = check(&metadata(&["sip", "media"], &[("media", "sip", None)]));
        assert_eq!(faults, ["media -> sip: points the wrong way"]);
    }

    #[test]
    fn an_arrow_from_below_is_found_in_tests_too() {
        let faults = check(&metadata(
            &["switch", "server"],
            &[("switch", "server", Some("dev"))],
        ));
        assert_eq!(faults, ["switch -> server (tests): points the wrong way"]);
    }

    #[test]
    fn the_binary_knows_only_server_and_store() {
        let faults = check(&metadata(&["trapez", "switch"], &[("trapez", "switch", None)]));
        assert_eq!(faults, ["trapez -> switch: points the wrong way"]);
    }

    #[test]
    fn testkit_in_the_product_is_found() {
        let faults = check(&metadata(&["server", "testkit"], &[("server", "testkit", None)]));
        assert_eq!(faults, ["server -> testkit: is for tests only"]);
    }

    #[test]
    fn a_crate_without_a_rule_is_found() {
        let faults = check(&metadata(&["gadget"], &[]));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("gadget: no rule"), "{faults:?}");
    }

    #[test]
    fn a_socket_far_below_a_protocol_crate_is_found_with_its_path() {
        let arrows = [
            ("switch", "sip", None),
            ("sip", "helper", None),
            ("helper", "mio", None),
        ];
        let faults = check(&metadata(&["switch", "sip"], &arrows));
        assert_eq!(
            faults,
            [
                "sip -> helper -> mio: a protocol crate does no I/O",
                "switch -> sip -> helper -> mio: a protocol crate does no I/O"
            ]
        );
    }

    #[test]
    fn a_family_is_forbidden_by_its_first_name() {
        let faults = check(&metadata(
            &["agent"],
            &[("agent", "tokio-util", None), ("agent", "hickory-resolver", None)],
        ));
        assert_eq!(faults.len(), 2, "{faults:?}");
    }

    #[test]
    fn libc_is_forbidden_directly_but_not_below_cpu_detection() {
        let below = [("sip", "cpufeatures", None), ("cpufeatures", "libc", None)];
        assert_eq!(check(&metadata(&["sip"], &below)), [""; 0]);
        let direct = check(&metadata(&["sip"], &[("sip", "libc", None)]));
        assert_eq!(direct, ["sip -> libc: a protocol crate does no I/O"]);
    }

    #[test]
    fn a_build_script_counts_as_the_product() {
        let faults = check(&metadata(&["sip", "net"], &[("sip", "net", Some("build"))]));
        assert_eq!(faults, ["sip -> net: points the wrong way"]);
    }
}
