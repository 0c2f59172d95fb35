//! `sticky` and `cooperative-sticky`: as balanced as the subscriptions allow, moving as few partitions as possible.
//!
//! Works in two steps: decide who may keep what ([`Claims`]), then balance, by a short way if all members subscribe
//! to the same topics ([`share_equally`]) and by a long one if not ([`Unequal`]).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_client::types::TopicPartition;
use kafka_wire::consumer_protocol::{TopicPartitions, put_topic_partitions};
use kafka_wire::primitives::Reader;

use super::{Assignments, LastAssignment, Member, PartitionAssignor, Topics, partition};
use crate::group::by_topic;

/// Balanced, and sticky over rebalances in which every member gives everything up first (the eager protocol).
#[derive(Clone, Copy, Debug, Default)]
pub struct StickyAssignor;

/// Balanced, sticky, and cooperative: members go on reading what they keep while the group rebalances (KIP-429).
#[derive(Clone, Copy, Debug, Default)]
pub struct CooperativeStickyAssignor;

impl PartitionAssignor for StickyAssignor {
    fn name(&self) -> &str {
        "sticky"
    }

    /// What the member had: an eager member owns nothing when it joins, so the leader could not know otherwise.
    fn user_data(&self, last: Option<&LastAssignment>) -> Option<Bytes> {
        let last = last?;
        let mut out = BytesMut::new();
        put_topic_partitions(&mut out, &by_topic(&last.partitions)).ok()?;
        out.put_i32(last.generation);
        Some(out.freeze())
    }

    fn assign(&self, topics: &Topics, members: &[Member]) -> Assignments {
        let board = Board::new(topics, members);
        let claims = board.members.iter().map(|member| previous_assignment(member)).collect();
        let claims = Claims::resolve(&board, claims);
        board.named(board.balance(&claims))
    }
}

impl PartitionAssignor for CooperativeStickyAssignor {
    fn name(&self) -> &str {
        "cooperative-sticky"
    }

    fn is_cooperative(&self) -> bool {
        true
    }

    /// The generation, for leaders too old to read it in the subscription itself.
    fn user_data(&self, last: Option<&LastAssignment>) -> Option<Bytes> {
        let generation = last.map_or(NO_GENERATION, |last| last.generation);
        Some(Bytes::copy_from_slice(&generation.to_be_bytes()))
    }

    fn assign(&self, topics: &Topics, members: &[Member]) -> Assignments {
        let board = Board::new(topics, members);
        let claims = board.members.iter().map(|member| LastAssignment {
            partitions: member.owned.clone(),
            generation: claimed_generation(member),
        });
        let claims = Claims::resolve(&board, claims.collect());
        board.named(board.balance(&claims))
    }
}

/// The generation of a member that has never been assigned anything.
const NO_GENERATION: i32 = -1;

/// What an eager member had before, from its user data (with the generation in version 1, without in version 0);
/// nothing if that cannot be read, as it was written by another member.
fn previous_assignment(member: &Member) -> LastAssignment {
    let read = |bytes: &[u8]| {
        let mut reader = Reader::new(bytes);
        let previous = TopicPartitions::parse(&mut reader).ok()?;
        let partitions = previous.iter().flat_map(|(topic, partitions)| {
            let topic: Arc<str> = topic.into();
            partitions.map(move |number| TopicPartition::new(Arc::clone(&topic), number))
        });
        Some(LastAssignment {
            partitions: partitions.collect(),
            generation: reader.i32().unwrap_or(NO_GENERATION),
        })
    };
    let nothing = LastAssignment { partitions: Vec::new(), generation: NO_GENERATION };
    member.user_data.as_deref().and_then(read).unwrap_or(nothing)
}

/// The generation of a cooperative member's claims: from its subscription, or, if that is too old to say, its user data.
fn claimed_generation(member: &Member) -> i32 {
    let in_user_data = || Reader::new(member.user_data.as_deref()?).i32().ok();
    member.generation.or_else(in_user_data).unwrap_or(NO_GENERATION)
}

/// The partitions of all topics, and the members, as plain numbers.
struct Board<'a> {
    /// The topics that exist, by name, each with the number of its first partition among all.
    topics: Vec<(&'a Arc<str>, usize)>,
    /// The topic of each partition.
    topic_of: Vec<usize>,
    /// The members, by id.
    members: Vec<&'a Member>,
    /// The topics that each member subscribes to.
    wants: Vec<BTreeSet<usize>>,
}

impl<'a> Board<'a> {
    fn new(topics: &'a Topics, members: &'a [Member]) -> Self {
        let mut members: Vec<&Member> = members.iter().collect();
        members.sort_by_key(|member| &member.id);
        let subscribed: BTreeSet<&Arc<str>> = members.iter().flat_map(|member| &member.topics).collect();
        let (mut known, mut topic_of) = (Vec::new(), Vec::new());
        for (topic, partitions) in topics.iter().filter(|(topic, _)| subscribed.contains(topic)) {
            known.push((topic, topic_of.len()));
            topic_of.resize(topic_of.len() + partitions, known.len() - 1);
        }
        let mut board = Self { topics: known, topic_of, members, wants: Vec::new() };
        let wants = |member: &&Member| member.topics.iter().filter_map(|topic| board.topic(topic)).collect();
        board.wants = board.members.iter().map(wants).collect();
        board
    }

    fn topic(&self, name: &str) -> Option<usize> {
        self.topics.binary_search_by(|(topic, _)| (**topic).as_ref().cmp(name)).ok()
    }

    /// The partitions of a topic.
    fn partitions_of(&self, topic: usize) -> std::ops::Range<usize> {
        let end = self.topics.get(topic + 1).map_or(self.topic_of.len(), |(_, first)| *first);
        self.topics[topic].1..end
    }

    /// The number of a partition that exists.
    fn number(&self, named: &TopicPartition) -> Option<usize> {
        let all = self.partitions_of(self.topic(&named.topic)?);
        let number = all.start + usize::try_from(named.partition).ok()?;
        all.contains(&number).then_some(number)
    }

    /// A new assignment, sorted, for each member in turn.
    fn balance(&self, claims: &Claims) -> Vec<Vec<usize>> {
        let mut assignment = if self.wants.windows(2).all(|pair| pair[0] == pair[1]) {
            share_equally(self, claims)
        } else {
            Unequal::new(self, claims).balance()
        };
        assignment.iter_mut().for_each(|partitions| partitions.sort_unstable());
        assignment
    }

    fn named(&self, assignment: Vec<Vec<usize>>) -> Assignments {
        let named = |number: usize| {
            let (topic, first) = self.topics[self.topic_of[number]];
            partition(topic, number - first)
        };
        let partitions = assignment.into_iter().map(|partitions| partitions.into_iter().map(named).collect());
        self.members.iter().map(|member| Arc::clone(&member.id)).zip(partitions).collect()
    }
}

/// Who says to own what, and who may keep it.
struct Claims {
    /// Who may keep the partition: the claimant of the highest generation. If two claim it in the same generation
    /// then nobody may (KAFKA-13419, KAFKA-14639): at least one of them is wrong, and both may be reading.
    keeper: Vec<Option<usize>>,
    /// For partitions claimed by a member that has missed a generation: that member, the most recent one.
    before: Vec<Option<usize>>,
}

impl Claims {
    fn resolve(board: &Board<'_>, claims: Vec<LastAssignment>) -> Self {
        let partitions = board.topic_of.len();
        let newest = claims.iter().map(|claim| claim.generation).max().unwrap_or(NO_GENERATION);
        let mut claimants: Vec<Vec<usize>> = vec![Vec::new(); partitions];
        for (member, claim) in claims.iter().enumerate() {
            for number in claim.partitions.iter().filter_map(|named| board.number(named)) {
                if claimants[number].last() != Some(&member) {
                    claimants[number].push(member);
                }
            }
        }
        let generation = |member: usize| claims[member].generation;
        let keeper = claimants.iter().map(|of_partition| {
            let best = of_partition.iter().copied().max_by_key(|member| generation(*member))?;
            let rivals =
                of_partition.iter().filter(|member| generation(**member) == generation(best)).count();
            (rivals == 1).then_some(best)
        });
        let before = claimants.iter().map(|of_partition| {
            let stale = of_partition.iter().copied().filter(|member| generation(*member) < newest);
            stale.max_by_key(|member| generation(*member))
        });
        Self { keeper: keeper.collect(), before: before.collect() }
    }
}

/// Balances members that all subscribe to the same topics: everybody gets the same number of partitions, or one more.
fn share_equally(board: &Board<'_>, claims: &Claims) -> Vec<Vec<usize>> {
    let (members, partitions) = (board.members.len(), board.topic_of.len());
    let mut assignment: Vec<Vec<usize>> = vec![Vec::new(); members];
    if members == 0 {
        return assignment;
    }
    for (number, keeper) in claims.keeper.iter().enumerate() {
        if let Some(keeper) = keeper {
            assignment[*keeper].push(number);
        }
    }
    let each = partitions / members;
    // So many members get one partition more than the others.
    let mut larger_shares = partitions % members;
    let (mut short, mut at_least_each) = (Vec::new(), VecDeque::new());
    for (member, kept) in assignment.iter_mut().enumerate() {
        // Low partition numbers stay, of all topics: what is left over then lies side by side for the others.
        kept.sort_by_key(|number| {
            (number - board.topics[board.topic_of[*number]].1, board.topic_of[*number])
        });
        if kept.len() < each {
            short.push(member);
        } else if kept.len() > each && larger_shares > 0 {
            larger_shares -= 1;
            kept.truncate(each + 1);
        } else {
            kept.truncate(each);
            at_least_each.push_back(member);
        }
    }
    let mut free = vec![true; partitions];
    assignment.iter().flatten().for_each(|number| free[*number] = false);
    let mut turn = 0;
    for number in (0..partitions).filter(|number| free[*number]) {
        if short.is_empty() {
            // All have their share; one each for those who may have one more.
            let Some(member) = at_least_each.pop_front() else { break };
            assignment[member].push(number);
            continue;
        }
        turn %= short.len();
        let member = short[turn];
        assignment[member].push(number);
        if assignment[member].len() == each {
            short.remove(turn);
            at_least_each.push_back(member);
        } else {
            turn += 1;
        }
    }
    assignment
}

/// Balances members whose subscriptions differ: gives free partitions to whoever has least, then moves single
/// partitions from those who have more to those who have at least two fewer, as long as there are any.
struct Unequal<'a> {
    board: &'a Board<'a>,
    before: &'a [Option<usize>],
    /// The members that subscribe to each topic.
    candidates: Vec<Vec<usize>>,
    assignment: Vec<Vec<usize>>,
    holder: Vec<Option<usize>>,
    /// Members whose share can change, least assigned first.
    by_load: BTreeSet<(usize, usize)>,
    moves: Moves,
    /// Whether a claim was dropped because its claimant no longer subscribes to the topic.
    gave_up: bool,
}

impl<'a> Unequal<'a> {
    fn new(board: &'a Board<'a>, claims: &'a Claims) -> Self {
        let mut candidates = vec![Vec::new(); board.topics.len()];
        for (member, wants) in board.wants.iter().enumerate() {
            wants.iter().for_each(|topic| candidates[*topic].push(member));
        }
        let mut assignment = vec![Vec::new(); board.members.len()];
        let mut holder = vec![None; board.topic_of.len()];
        let mut gave_up = false;
        for (number, keeper) in claims.keeper.iter().enumerate() {
            match keeper {
                Some(keeper) if board.wants[*keeper].contains(&board.topic_of[number]) => {
                    assignment[*keeper].push(number);
                    holder[number] = Some(*keeper);
                }
                Some(_) => gave_up = true,
                None => {}
            }
        }
        let by_load = assignment.iter().enumerate().map(|(member, kept)| (kept.len(), member)).collect();
        let (before, moves) = (&*claims.before, Moves::default());
        Self { board, before, candidates, assignment, holder, by_load, moves, gave_up }
    }

    fn balance(mut self) -> Vec<Vec<usize>> {
        let from_scratch = self.by_load.last().is_none_or(|(load, _)| *load == 0);
        // Topics that few members can have come first: there is less choice about them.
        let mut topics: Vec<usize> = (0..self.board.topics.len()).collect();
        topics.sort_by_key(|topic| (self.candidates[*topic].len(), *topic));
        let all: Vec<usize> = topics.iter().flat_map(|topic| self.board.partitions_of(*topic)).collect();
        let free: Vec<usize> = all.iter().copied().filter(|number| self.holder[*number].is_none()).collect();
        for number in &free {
            if let Some(member) = self.least_loaded(self.board.topic_of[*number]) {
                self.give(*number, member);
            }
        }

        let movable = |number: &usize| self.candidates[self.board.topic_of[*number]].len() > 1;
        let free: Vec<usize> = free.into_iter().filter(movable).collect();
        let all: Vec<usize> = all.into_iter().filter(movable).collect();
        for member in 0..self.assignment.len() {
            if self.is_settled(member) {
                self.by_load.remove(&(self.assignment[member].len(), member));
            }
        }
        let kept = self.assignment.clone();
        if !self.gave_up {
            self.spread(&free);
        }
        let moved = self.spread(&all);
        if !from_scratch && moved && self.imbalance(&self.assignment) >= self.imbalance(&kept) {
            return kept;
        }
        self.assignment
    }

    /// Moves partitions of the list until everything is balanced or none of them can be moved to any use.
    fn spread(&mut self, partitions: &[usize]) -> bool {
        let mut moved = false;
        let mut balanced = self.is_balanced();
        loop {
            let mut moved_now = false;
            for number in partitions {
                if balanced {
                    break;
                }
                let Some(to) = self.better_place(*number) else { continue };
                self.shift(*number, to);
                balanced = self.is_balanced();
                moved_now = true;
            }
            if !moved_now {
                return moved;
            }
            moved = true;
        }
    }

    /// A member that has at least two partitions fewer than the one who has this partition, and could have it; first
    /// of all the one that had it before.
    fn better_place(&self, number: usize) -> Option<usize> {
        let load = |member: usize| self.assignment[member].len();
        let topic = self.board.topic_of[number];
        let limit = load(self.holder[number]?).checked_sub(1)?;
        if let Some(before) = self.before[number]
            && load(before) < limit
            && self.board.wants[before].contains(&topic)
        {
            return Some(before);
        }
        self.least_loaded(topic).filter(|member| load(*member) < limit)
    }

    /// Moves the partition, or in its stead one of the same topic that came the opposite way before: that one then
    /// is back where it was.
    fn shift(&mut self, number: usize, to: usize) {
        let from = self.holder[number];
        let topic = self.board.topic_of[number];
        let returning = from.and_then(|from| self.moves.opposite(topic, from, to));
        let number = returning.filter(|other| self.holder[*other] == from).unwrap_or(number);
        if let Some(from) = from {
            self.moves.record(topic, number, from, to);
        }
        self.give(number, to);
    }

    fn give(&mut self, number: usize, to: usize) {
        if let Some(from) = self.holder[number] {
            self.change(from, |assigned| assigned.retain(|other| *other != number));
        }
        self.change(to, |assigned| assigned.push(number));
        self.holder[number] = Some(to);
    }

    fn change(&mut self, member: usize, how: impl FnOnce(&mut Vec<usize>)) {
        let tracked = self.by_load.remove(&(self.assignment[member].len(), member));
        how(&mut self.assignment[member]);
        if tracked {
            self.by_load.insert((self.assignment[member].len(), member));
        }
    }

    fn least_loaded(&self, topic: usize) -> Option<usize> {
        let mut members = self.by_load.iter().map(|(_, member)| *member);
        members.find(|member| self.board.wants[*member].contains(&topic))
    }

    /// Whether the member's share cannot change: it has everything it could, and nobody else could have any of that.
    fn is_settled(&self, member: usize) -> bool {
        let wants = &self.board.wants[member];
        let possible: usize = wants.iter().map(|topic| self.board.partitions_of(*topic).len()).sum();
        self.assignment[member].len() == possible
            && wants.iter().all(|topic| self.candidates[*topic].len() < 2)
    }

    /// Whether no partition could go to a member that has at least two fewer than its holder.
    fn is_balanced(&self) -> bool {
        let (Some((least, _)), Some((most, _))) = (self.by_load.first(), self.by_load.last()) else {
            return true;
        };
        if least + 1 >= *most {
            return true;
        }
        let mut largest_holder = vec![0; self.board.topics.len()];
        for (number, holder) in self.holder.iter().enumerate() {
            let load = holder.map_or(0, |holder| self.assignment[holder].len());
            let largest = &mut largest_holder[self.board.topic_of[number]];
            *largest = load.max(*largest);
        }
        let improvable = |(load, member): &(usize, usize)| {
            self.board.wants[*member].iter().any(|topic| load + 1 < largest_holder[*topic])
        };
        !self.by_load.iter().any(improvable)
    }

    /// The sum of the differences between all pairs of members whose share can change.
    fn imbalance(&self, assignment: &[Vec<usize>]) -> usize {
        let mut loads: Vec<usize> =
            self.by_load.iter().map(|(_, member)| assignment[*member].len()).collect();
        loads.sort_unstable();
        let (mut sum, mut before) = (0, 0);
        for (place, load) in loads.into_iter().enumerate() {
            sum += load * place - before;
            before += load;
        }
        sum
    }
}

/// Which partitions have been moved so far, from whom to whom.
#[derive(Default)]
struct Moves {
    of_partition: HashMap<usize, (usize, usize)>,
    /// The same by topic and direction.
    of_topic: BTreeMap<(usize, usize, usize), BTreeSet<usize>>,
}

impl Moves {
    /// A partition of the topic that has been moved to `from`, and was with `to` before.
    fn opposite(&self, topic: usize, from: usize, to: usize) -> Option<usize> {
        self.of_topic.get(&(topic, to, from))?.first().copied()
    }

    fn record(&mut self, topic: usize, number: usize, from: usize, to: usize) {
        let origin = match self.of_partition.remove(&number) {
            Some((origin, last)) => {
                if let Some(partitions) = self.of_topic.get_mut(&(topic, origin, last)) {
                    partitions.remove(&number);
                }
                origin
            }
            None => from,
        };
        if origin != to {
            self.of_partition.insert(number, (origin, to));
            self.of_topic.entry((topic, origin, to)).or_default().insert(number);
        }
    }
}
