//! Any access control lists and any question: the authorizer, which finds lists by the resource, decides as one that reads
//! every list does.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use kafka_broker::{
    Acl, AclOperation, PatternType, PermissionType, ResourcePattern, ResourceType, acls_allow,
};
use libfuzzer_sys::fuzz_target;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const TYPES: [ResourceType; 2] = [ResourceType::Topic, ResourceType::Group];
const PRINCIPALS: [&str; 3] = ["User:a", "User:*", "Group:a"];
const HOSTS: [&str; 3] = ["*", "10.0.0.1", "10.0.0.2"];

fuzz_target!(|input: (&str, u8, Vec<(&str, u8, u8)>)| {
    let (name, question, lists) = input;
    let operation = operation(question);
    let resource_type = TYPES[usize::from(question >> 7)];
    let acls = lists.into_iter().filter(|(name, ..)| !name.is_empty()).map(|(name, flags, said)| {
        let pattern = ResourcePattern::new(TYPES[usize::from(flags & 1)], name);
        let pattern = if flags & 2 == 0 { pattern } else { pattern.prefixed() };
        let principal = PRINCIPALS[usize::from(flags >> 2) % 3];
        let make = if said & 128 == 0 { Acl::allow } else { Acl::deny };
        make(principal, self::operation(said), pattern).from_host(HOSTS[usize::from(flags >> 4) % 3])
    });
    let acls: Vec<Acl> = acls.collect();
    let expected = model(&acls, operation, resource_type, name);
    assert_eq!(
        acls_allow(acls.clone(), "User:a", HOST, operation, resource_type, name),
        expected,
        "{acls:?}"
    );
});

/// Some operation; `Any` is for filters only.
fn operation(byte: u8) -> AclOperation {
    let all = &AclOperation::ALL[1..];
    all[usize::from(byte & 127) % all.len()]
}

fn model(acls: &[Acl], operation: AclOperation, resource_type: ResourceType, name: &str) -> bool {
    use AclOperation::{All, Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
    let applies = |acl: &&Acl| {
        let covered = match acl.pattern.pattern_type {
            PatternType::Prefixed => name.starts_with(&acl.pattern.name),
            _ => ["*", name].contains(&acl.pattern.name.as_str()),
        };
        covered
            && acl.pattern.resource_type == resource_type
            && ["User:*", "User:a"].contains(&acl.principal.as_str())
            && ["*", "10.0.0.1"].contains(&acl.host.as_str())
    };
    let said: Vec<&Acl> = acls.iter().filter(applies).collect();
    let denied = said
        .iter()
        .any(|acl| acl.permission == PermissionType::Deny && [All, operation].contains(&acl.operation));
    let enough = match operation {
        Describe => vec![All, Describe, Read, Write, Delete, Alter],
        DescribeConfigs => vec![All, DescribeConfigs, AlterConfigs],
        other => vec![All, other],
    };
    !denied
        && said.iter().any(|acl| acl.permission == PermissionType::Allow && enough.contains(&acl.operation))
}
