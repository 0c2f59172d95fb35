//! What every strategy promises, on examples from Kafka's documentation and on random groups.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kafka_client::types::TopicPartition;

use super::*;
use crate::group::seeds;

fn strategies() -> [Arc<dyn PartitionAssignor>; 4] {
    ["range", "roundrobin", "sticky", "cooperative-sticky"].map(|name| by_name(name).unwrap())
}

fn topics<const N: usize>(topics: [(&str, usize); N]) -> Topics {
    topics.into_iter().collect()
}

fn partitions(named: &[(&str, i32)]) -> Vec<TopicPartition> {
    named.iter().map(|(topic, partition)| TopicPartition::new(*topic, *partition)).collect()
}

/// `a: t0-0 t0-1, b: t1-0`
fn printed(assignments: &Assignments) -> String {
    let member = |(id, partitions): (&Arc<str>, &Vec<TopicPartition>)| {
        let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        format!("{id}: {}", partitions.join(" "))
    };
    assignments.iter().map(member).collect::<Vec<_>>().join(", ")
}

#[test]
fn range_gives_each_member_the_same_range_of_topics_of_the_same_size() {
    let members = [Member::new("c1", ["t0", "t1"]), Member::new("c0", ["t0", "t1"])];
    let assigned = RangeAssignor.assign(&topics([("t0", 3), ("t1", 3)]), &members);
    assert_eq!(printed(&assigned), "c0: t0-0 t0-1 t1-0 t1-1, c1: t0-2 t1-2");
}

#[test]
fn round_robin_deals_out_one_by_one_and_skips_members_without_the_topic() {
    let members = [Member::new("c0", ["t0", "t1"]), Member::new("c1", ["t0", "t1"])];
    let assigned = RoundRobinAssignor.assign(&topics([("t0", 3), ("t1", 3)]), &members);
    assert_eq!(printed(&assigned), "c0: t0-0 t0-2 t1-1, c1: t0-1 t1-0 t1-2");

    let members =
        [Member::new("c0", ["t0"]), Member::new("c1", ["t0", "t1"]), Member::new("c2", ["t0", "t1", "t2"])];
    let assigned = RoundRobinAssignor.assign(&topics([("t0", 1), ("t1", 2), ("t2", 3)]), &members);
    assert_eq!(printed(&assigned), "c0: t0-0, c1: t1-0, c2: t1-1 t2-0 t2-1 t2-2");
}

#[test]
fn static_members_are_ranked_by_instance_id_and_before_the_others() {
    let mut members = [Member::new("a", ["t"]), Member::new("b", ["t"]), Member::new("c", ["t"])];
    members[2].instance_id = Some("1".into());
    members[1].instance_id = Some("2".into());
    for assignor in [by_name("range").unwrap(), by_name("roundrobin").unwrap()] {
        let assigned = assignor.assign(&topics([("t", 3)]), &members);
        assert_eq!(printed(&assigned), "a: t-2, b: t-1, c: t-0");
    }
}

#[test]
fn sticky_moves_only_the_partitions_of_the_member_that_left() {
    let (wanted, all) = (["t0", "t1", "t2", "t3"], topics([("t0", 2), ("t1", 2), ("t2", 2), ("t3", 2)]));
    let members = ["c0", "c1", "c2"].map(|id| Member::new(id, wanted));
    let first = StickyAssignor.assign(&all, &members);
    assert_eq!(printed(&first), "c0: t0-0 t1-1 t3-0, c1: t0-1 t2-0 t3-1, c2: t1-0 t2-1");

    let remaining = [&members[0], &members[2]].map(|member| with_previous(member, &first, 1));
    let second = StickyAssignor.assign(&all, &remaining);
    for id in ["c0", "c2"] {
        assert!(first[id].iter().all(|kept| second[id].contains(kept)), "{}", printed(&second));
        assert_eq!(second[id].len(), 4);
    }
}

/// Kafka's own example of what round robin gets wrong and sticky right.
#[test]
fn sticky_is_fairer_than_round_robin_when_subscriptions_differ() {
    let all = topics([("t0", 1), ("t1", 2), ("t2", 3)]);
    let members =
        [Member::new("c0", ["t0"]), Member::new("c1", ["t0", "t1"]), Member::new("c2", ["t0", "t1", "t2"])];
    let first = StickyAssignor.assign(&all, &members);
    assert_eq!(printed(&first), "c0: t0-0, c1: t1-0 t1-1, c2: t2-0 t2-1 t2-2");

    let remaining = [&members[1], &members[2]].map(|member| with_previous(member, &first, 1));
    assert_eq!(printed(&StickyAssignor.assign(&all, &remaining)), "c1: t0-0 t1-0 t1-1, c2: t2-0 t2-1 t2-2");
}

#[test]
fn the_claim_of_the_higher_generation_wins() {
    let all = topics([("t", 3)]);
    let claim = |id: &str, claimed: &[(&str, i32)], generation| {
        Member::new(id, ["t"]).owning(partitions(claimed), generation)
    };
    // Whichever order they come in: `b` missed generation 2, in which t-0 and t-1 went to `a`.
    for members in [
        [claim("a", &[("t", 0), ("t", 1)], 2), claim("b", &[("t", 0), ("t", 2)], 1)],
        [claim("b", &[("t", 0), ("t", 2)], 1), claim("a", &[("t", 0), ("t", 1)], 2)],
    ] {
        let assigned = lead(&CooperativeStickyAssignor, &all, &members);
        assert_eq!(printed(&assigned), "a: t-0 t-1, b: t-2");
    }
}

#[test]
fn a_partition_claimed_twice_in_one_generation_is_taken_from_both_before_either_gets_it() {
    for wanted in [["t", "u"], ["t", "v"]] {
        let all = topics([("t", 2), ("u", 1)]);
        let members = [
            Member::new("a", ["t", "u"]).owning(partitions(&[("t", 0), ("u", 0)]), 4),
            Member::new("b", wanted).owning(partitions(&[("t", 0), ("t", 1)]), 4),
        ];
        let assigned = lead(&CooperativeStickyAssignor, &all, &members);
        assert_eq!(printed(&assigned), "a: u-0, b: t-1");
    }
}

#[test]
fn those_who_claim_a_partition_twice_keep_what_is_undoubtedly_theirs() {
    let members = [
        Member::new("a", ["t"]).owning(partitions(&[("t", 0), ("t", 1)]), 4),
        Member::new("b", ["t"]).owning(partitions(&[("t", 0), ("t", 2)]), 4),
        Member::new("c", ["t"]),
    ];
    let assigned = lead(&CooperativeStickyAssignor, &topics([("t", 3)]), &members);
    assert_eq!(printed(&assigned), "a: t-1, b: t-2, c: ");
}

#[test]
fn user_data_of_another_member_that_cannot_be_read_counts_as_none() {
    let all = topics([("t", 2)]);
    for garbage in [&b""[..], b"\x00", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x01\x00\x05t"] {
        let mut members = [Member::new("a", ["t"]), Member::new("b", ["t"])];
        members[0].user_data = Some(Bytes::copy_from_slice(garbage));
        for assignor in strategies() {
            assert_eq!(printed(&assignor.assign(&all, &members)), "a: t-0, b: t-1", "{}", assignor.name());
        }
    }
}

#[test]
fn claims_on_partitions_that_do_not_exist_are_ignored() {
    let all = topics([("t", 2)]);
    let claimed = partitions(&[("t", 0), ("t", 7), ("t", -1), ("gone", 0)]);
    let members = [Member::new("a", ["t"]).owning(claimed, 1), Member::new("b", ["t"])];
    assert_eq!(printed(&lead(&CooperativeStickyAssignor, &all, &members)), "a: t-0, b: t-1");
}

#[test]
fn topics_nobody_can_read_and_groups_without_members_do_no_harm() {
    for assignor in strategies() {
        assert!(assignor.assign(&topics([("t", 2)]), &[]).is_empty());
        let assigned = assignor.assign(&topics([("t", 2)]), &[Member::new("a", ["u", "u"])]);
        assert_eq!(printed(&assigned), "a: ", "{}", assignor.name());
        let assigned = assignor.assign(&topics([("t", 2)]), &[Member::new("a", ["t", "t"])]);
        assert_eq!(printed(&assigned), "a: t-0 t-1", "{}", assignor.name());
    }
}

#[test]
fn every_partition_that_somebody_wants_has_exactly_one_owner_who_wants_it() {
    for (seed, mut random) in seeds(300) {
        let (all, members) = random_group(&mut random, false);
        for assignor in strategies() {
            let assigned = assignor.assign(&all, &members);
            let owners = owners(&assigned);
            for member in &members {
                let unwanted =
                    assigned[&member.id].iter().find(|owned| !member.topics.contains(&owned.topic));
                assert_eq!(unwanted, None, "{} seed {seed}", assignor.name());
            }
            for (topic, partitions) in all.iter() {
                let wanted = members.iter().any(|member| member.topics.contains(topic));
                for index in 0..partitions {
                    let owned = owners.contains_key(&partition(topic, index));
                    assert_eq!(owned, wanted, "{topic}-{index} by {} seed {seed}", assignor.name());
                }
            }
        }
    }
}

#[test]
fn members_that_want_the_same_get_the_same_number_of_partitions_or_one_more() {
    for (seed, mut random) in seeds(300) {
        let (all, members) = random_group(&mut random, true);
        for assignor in &strategies()[1..] {
            let assigned = assignor.assign(&all, &members);
            let sizes: Vec<usize> = assigned.values().map(Vec::len).collect();
            let spread = sizes.iter().max().unwrap() - sizes.iter().min().unwrap();
            assert!(spread <= 1, "{} seed {seed}: {}", assignor.name(), printed(&assigned));
        }
        let assigned = RangeAssignor.assign(&all, &members);
        for (topic, _) in all.iter() {
            let sizes = assigned.values().map(|owned| owned.iter().filter(|one| one.topic == *topic).count());
            let sizes: Vec<usize> = sizes.collect();
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "range seed {seed}");
        }
    }
}

#[test]
fn sticky_leaves_no_partition_where_a_member_with_two_fewer_could_have_it() {
    for (seed, mut random) in seeds(300) {
        let (all, mut members) = random_group(&mut random, false);
        for generation in 1..4 {
            let assigned = StickyAssignor.assign(&all, &members);
            for (owner, owned) in &assigned {
                for other in &members {
                    let could_have = |one: &&TopicPartition| other.topics.contains(&one.topic);
                    if assigned[&other.id].len() + 1 < owned.len() {
                        let found = owned.iter().find(could_have);
                        assert_eq!(found, None, "{owner} -> {} seed {seed}", other.id);
                    }
                }
            }
            members = members.iter().map(|member| with_previous(member, &assigned, generation)).collect();
            if members.len() > 1 {
                members.swap_remove(random.usize(..members.len()));
            }
            members.push(random_member(&mut random, &format!("new-{generation}"), &all, false));
        }
    }
}

#[test]
fn sticky_takes_nothing_from_anybody_when_a_member_leaves_and_only_a_share_when_one_joins() {
    for (seed, mut random) in seeds(300) {
        let (all, mut members) = random_group(&mut random, true);
        let total: usize = all.iter().map(|(_, partitions)| partitions).sum();
        let before = StickyAssignor.assign(&all, &members);
        members = members.iter().map(|member| with_previous(member, &before, 1)).collect();
        assert_eq!(StickyAssignor.assign(&all, &members), before, "nothing changed, seed {seed}");

        let newcomer = Member::new("newcomer", members[0].topics.clone());
        let joined: Vec<Member> = members.iter().cloned().chain([newcomer]).collect();
        let moved = count_moved(&before, &StickyAssignor.assign(&all, &joined));
        assert!(moved <= total.div_ceil(joined.len()), "{moved} of {total} moved, seed {seed}");

        if members.len() > 1 {
            let left = members.swap_remove(random.usize(..members.len()));
            let moved = count_moved(&before, &StickyAssignor.assign(&all, &members));
            assert_eq!(moved, before[&left.id].len(), "seed {seed}");
        }
    }
}

#[test]
fn a_cooperative_group_settles_in_two_rounds_and_no_partition_ever_has_two_owners() {
    for (seed, mut random) in seeds(300) {
        let equal = random.bool();
        let (all, mut members) = random_group(&mut random, equal);
        let mut generation = 1;
        for change in 0..5 {
            let mut rounds = 0;
            loop {
                let assigned = lead(&CooperativeStickyAssignor, &all, &members);
                rounds += 1;
                assert!(rounds <= 3, "seed {seed}");
                // Until they have let go, members own what they had as well as what they get.
                let held = members.iter().map(|member| {
                    let held: BTreeSet<_> =
                        member.owned.iter().chain(&assigned[&member.id]).cloned().collect();
                    (Arc::clone(&member.id), held.into_iter().collect())
                });
                owners(&held.collect());
                let settled = members.iter().all(|member| member.owned == assigned[&member.id]);
                for member in &mut members {
                    *member = member.clone().owning(assigned[&member.id].clone(), generation);
                }
                generation += 1;
                if settled {
                    break;
                }
            }
            if members.len() > 1 && random.bool() {
                members.swap_remove(random.usize(..members.len()));
            } else {
                members.push(random_member(&mut random, &format!("new-{change}"), &all, equal));
            }
        }
    }
}

fn lead(assignor: &dyn PartitionAssignor, topics: &Topics, members: &[Member]) -> Assignments {
    assign_as_leader(assignor, topics, members).0
}

fn random_group(random: &mut fastrand::Rng, equal: bool) -> (Topics, Vec<Member>) {
    let all: Topics =
        (0..random.usize(1..6)).map(|number| (format!("t{number}"), random.usize(1..9))).collect();
    let members = 0..random.usize(1..8);
    let members = members.map(|number| random_member(random, &format!("m{number}"), &all, equal)).collect();
    (all, members)
}

fn random_member(random: &mut fastrand::Rng, id: &str, all: &Topics, equal: bool) -> Member {
    let wanted = all.iter().filter(|_| equal || random.bool()).map(|(topic, _)| Arc::clone(topic));
    Member::new(id, wanted.collect::<Vec<_>>())
}

/// The member as it joins again after this assignment, under the eager protocol.
fn with_previous(member: &Member, assigned: &Assignments, generation: i32) -> Member {
    let last = LastAssignment::new(assigned[&member.id].clone(), generation);
    Member { user_data: StickyAssignor.user_data(Some(&last)), ..member.clone() }
}

fn owners(assigned: &Assignments) -> HashMap<TopicPartition, Arc<str>> {
    let mut owners = HashMap::new();
    for (id, partitions) in assigned {
        for owned in partitions {
            let other = owners.insert(owned.clone(), Arc::clone(id));
            assert_eq!(other, None, "{owned} is also with {id}");
        }
    }
    owners
}

fn count_moved(before: &Assignments, after: &Assignments) -> usize {
    let after: BTreeMap<_, _> = owners(after).into_iter().collect();
    owners(before).into_iter().filter(|(owned, owner)| after.get(owned) != Some(owner)).count()
}
