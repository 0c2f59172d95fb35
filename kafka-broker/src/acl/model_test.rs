//! The authorizer against a plain model: every access control list is read on its own, as the documentation puts it.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use kafka_wire::acl::{AclOperation, PatternType, PermissionType, ResourceType};

use super::{Acl, AclFilter, AclSet, Authorizer, Requester, ResourcePattern};
use crate::principal::Principal;

const TYPES: &[ResourceType] = &[ResourceType::Topic, ResourceType::Group];
const PRINCIPALS: &[&str] = &["User:alice", "User:bob", "Group:alice", "User:*"];
const HOSTS: &[&str] = &["10.0.0.1", "0:0:0:0:0:0:0:1", "*"];
const OPERATIONS: &[AclOperation] = &[
    AclOperation::All,
    AclOperation::Read,
    AclOperation::Write,
    AclOperation::Delete,
    AclOperation::Alter,
    AclOperation::Create,
    AclOperation::Describe,
    AclOperation::DescribeConfigs,
    AclOperation::AlterConfigs,
];
const NAMES: &[&str] = &["a", "b", "ab", "aba", "abab", "bb", "ba", "", "*", "*a", "hardcode", "c"];

/// Names of up to four letters: more than patterns of three can tell apart.
fn short_names() -> Vec<String> {
    let mut names = vec![String::new(), "hardcode".to_owned(), "*c".to_owned()];
    let mut longest = vec![String::new()];
    for _ in 0..4 {
        longest =
            longest.iter().flat_map(|name| ["a", "b", "c"].map(|letter| format!("{name}{letter}"))).collect();
        names.extend_from_slice(&longest);
    }
    names
}

fn random_acl(rng: &mut fastrand::Rng) -> Acl {
    let name = match rng.u8(..6) {
        0 => "*".to_owned(),
        _ => (0..rng.usize(1..4)).map(|_| if rng.bool() { 'a' } else { 'b' }).collect(),
    };
    let pattern = ResourcePattern::new(pick(rng, TYPES), name);
    let pattern = if rng.bool() { pattern.prefixed() } else { pattern };
    let (principal, operation) = (pick(rng, PRINCIPALS), pick(rng, OPERATIONS));
    let acl = if rng.u8(..4) == 0 {
        Acl::deny(principal, operation, pattern)
    } else {
        Acl::allow(principal, operation, pattern)
    };
    acl.from_host(pick(rng, HOSTS))
}

fn pick<T: Copy>(rng: &mut fastrand::Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

/// Whether the list is about this resource.
fn covers(acl: &Acl, resource_type: ResourceType, name: &str) -> bool {
    acl.pattern.resource_type == resource_type
        && match acl.pattern.pattern_type {
            PatternType::Prefixed => name.starts_with(&acl.pattern.name),
            _ => acl.pattern.name == name || acl.pattern.name == "*",
        }
}

fn is_about(acl: &Acl, who: Requester<'_>) -> bool {
    let same_host = acl.host == "*" || acl.host.parse() == Ok(who.host);
    same_host && (acl.principal == "User:*" || acl.principal == who.principal.to_string())
}

fn model(
    authorizer: &Authorizer,
    who: Requester<'_>,
    operation: AclOperation,
    resource_type: ResourceType,
    name: &str,
) -> bool {
    use AclOperation::{All, Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
    let covering: Vec<_> =
        authorizer.acls.all().iter().filter(|acl| covers(acl, resource_type, name)).collect();
    let mine: Vec<_> = covering.iter().filter(|acl| is_about(acl, who)).collect();
    let denied = mine
        .iter()
        .any(|acl| acl.permission == PermissionType::Deny && [All, operation].contains(&acl.operation));
    let enough = match operation {
        Describe => vec![All, Describe, Read, Write, Delete, Alter],
        DescribeConfigs => vec![All, DescribeConfigs, AlterConfigs],
        other => vec![All, other],
    };
    let allowed =
        mine.iter().any(|acl| acl.permission == PermissionType::Allow && enough.contains(&acl.operation));
    if authorizer.super_users.contains(who.principal) {
        return true;
    }
    !denied && (allowed || (covering.is_empty() && authorizer.allow_if_no_acl))
}

#[test]
fn the_authorizer_decides_as_the_model_does() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut allowed, mut refused) = (0, 0);
    let short_names = short_names();
    for _ in 0..500 {
        let acls: BTreeSet<Acl> = (0..rng.usize(..8)).map(|_| random_acl(&mut rng)).collect();
        let super_users = if rng.u8(..10) == 0 { vec![Principal::user("bob")] } else { Vec::new() };
        let authorizer = Authorizer {
            super_users: HashSet::from_iter(super_users),
            allow_if_no_acl: rng.u8(..4) == 0,
            acls: AclSet::new(acls),
        };
        let principal = Principal::parse(pick(&mut rng, &PRINCIPALS[..3]));
        let host: IpAddr = pick(&mut rng, &["10.0.0.1", "10.0.0.2", "::1"]).parse().unwrap();
        let who = Requester { principal: &principal, host };
        for resource_type in TYPES.iter().copied() {
            for operation in OPERATIONS[1..].iter().copied() {
                for name in NAMES {
                    let expected = model(&authorizer, who, operation, resource_type, name);
                    let decided = authorizer.allows(who, operation, resource_type, name);
                    assert_eq!(
                        decided, expected,
                        "{who:?} {operation} {resource_type} {name:?}: {authorizer:?}"
                    );
                    if expected { allowed += 1 } else { refused += 1 }
                }
                // Where nothing implies the operation, "some resource" means: there is one.
                if !matches!(operation, AclOperation::Describe | AclOperation::DescribeConfigs) {
                    let expected = short_names
                        .iter()
                        .any(|name| model(&authorizer, who, operation, resource_type, name));
                    let decided = authorizer.allows_some(who, operation, resource_type);
                    assert_eq!(decided, expected, "{who:?} {operation} some {resource_type}: {authorizer:?}");
                }
            }
        }
    }
    assert!(allowed > 1_000 && refused > 1_000, "both happen: {allowed}, {refused}");
}

#[test]
fn a_deny_of_one_operation_does_not_deny_what_it_would_imply() {
    let topic = || ResourcePattern::topic("t");
    let acls = [
        Acl::allow("User:*", AclOperation::Write, topic()),
        Acl::deny("User:alice", AclOperation::Write, topic()),
        Acl::allow("User:alice", AclOperation::Read, topic()),
    ];
    let authorizer = Authorizer { acls: AclSet::new(acls.into_iter().collect()), ..Authorizer::default() };
    let alice = Principal::user("alice");
    let who = Requester { principal: &alice, host: "127.0.0.1".parse().unwrap() };
    let allows = |operation| authorizer.allows(who, operation, ResourceType::Topic, "t");
    assert!(allows(AclOperation::Read) && allows(AclOperation::Describe));
    assert!(!allows(AclOperation::Write));
    let bits = 1 << AclOperation::Read.code() | 1 << AclOperation::Describe.code();
    assert_eq!(authorizer.operations(who, ResourceType::Topic, "t"), bits);
}

#[test]
fn addresses_are_compared_as_addresses_and_names_match_nothing() {
    let acl =
        |host: &str| Acl::allow("User:a", AclOperation::Read, ResourcePattern::topic("t")).from_host(host);
    let allows = |host: &str, from: &str| {
        let acls = AclSet::new(BTreeSet::from([acl(host)]));
        let principal = Principal::user("a");
        let who = Requester { principal: &principal, host: from.parse().unwrap() };
        let authorizer = Authorizer { acls, ..Authorizer::default() };
        authorizer.allows(who, AclOperation::Read, ResourceType::Topic, "t")
    };
    assert!(allows("0:0:0:0:0:0:0:1", "::1") && allows("::ffff:10.0.0.1", "10.0.0.1"));
    assert!(!allows("localhost", "127.0.0.1") && !allows("10.0.0.1", "10.0.0.2"));
}

#[test]
fn filters_match_as_kafkas_do() {
    let any = AclFilter {
        resource_type: ResourceType::Any,
        pattern_type: PatternType::Any,
        name: None,
        principal: None,
        host: None,
        operation: AclOperation::Any,
        permission: PermissionType::Any,
    };
    let on = |pattern: ResourcePattern| Acl::allow("User:a", AclOperation::Read, pattern);
    let all = [
        on(ResourcePattern::topic("orders")),
        on(ResourcePattern::topic("ord").prefixed()),
        on(ResourcePattern::topic("orders").prefixed()),
        on(ResourcePattern::topic("*")),
        on(ResourcePattern::group("orders")),
    ];
    let matched = |filter: &AclFilter| -> Vec<usize> {
        (0..).zip(&all).filter(|(_, acl)| filter.matches(acl)).map(|(at, _)| at).collect()
    };
    let topic = |pattern_type, name: &str| AclFilter {
        resource_type: ResourceType::Topic,
        pattern_type,
        name: Some(name.to_owned()),
        ..any.clone()
    };
    assert_eq!(matched(&any), [0, 1, 2, 3, 4]);
    assert_eq!(matched(&topic(PatternType::Match, "orders")), [0, 1, 2, 3]);
    assert_eq!(matched(&topic(PatternType::Match, "ordnance")), [1, 3]);
    assert_eq!(matched(&topic(PatternType::Any, "orders")), [0, 2]);
    assert_eq!(matched(&topic(PatternType::Literal, "orders")), [0]);
    assert_eq!(matched(&topic(PatternType::Prefixed, "orders")), [2]);
    assert_eq!(matched(&AclFilter { pattern_type: PatternType::Prefixed, ..any.clone() }), [1, 2]);
    assert_eq!(matched(&AclFilter { principal: Some("User:b".into()), ..any.clone() }), [0; 0]);
    assert_eq!(matched(&AclFilter { permission: PermissionType::Deny, ..any.clone() }), [0; 0]);
    assert_eq!(matched(&AclFilter { host: Some("*".into()), ..any }), [0, 1, 2, 3, 4]);
}
