//! What goes between the members and the coordinator, and what becomes of it on the way.

use super::translation::{from_broker, refusal, to_broker};
use super::*;

impl Simulation {
    /// Does what the machine wants done.
    pub(super) fn drain(&mut self, number: usize) {
        let mut changed = false;
        while let Some(machine) = &mut self.consumers[number].machine {
            let membership = machine.membership();
            if membership.generation < 0 && !self.consumers[number].held.is_empty() {
                self.lost += self.consumers[number].held.len();
                self.consumers[number].losses += 1;
                self.consumers[number].held.clear();
            }
            let Some(machine) = &mut self.consumers[number].machine else { break };
            let Some(output) = machine.poll_output() else { break };
            match output {
                Output::Send { request, body } => {
                    if let Request::Commit(commit) = &body {
                        assert_eq!(commit.generation, membership.generation, "{number} commits for the past");
                        assert_eq!(commit.member_id, membership.member_id);
                    }
                    self.transmit(number, request, body);
                }
                Output::Lookup(topics) => {
                    self.consumers[number].watched = Some(topics.clone());
                    if !topics.is_empty() {
                        let after = self.milliseconds(0, 300);
                        self.schedule(number, after, Event::Topics { watched: topics });
                    }
                }
                Output::Rediscover => self.cut(number),
                Output::Committed { commit, .. } => {
                    assert!(
                        self.consumers[number].commits.remove(&commit),
                        "a second outcome of commit {commit}"
                    );
                }
                Output::Left => {
                    self.tell(|| format!("{number} has left"));
                    let consumer = &self.consumers[number];
                    assert!(consumer.commits.is_empty(), "commits without outcome: {:?}", consumer.commits);
                    self.stop(number);
                    return;
                }
                Output::Failed(error) => {
                    // Two processes of one instance id: the older one is fenced off, as it should be.
                    assert_eq!(error.error_code(), Some(ErrorCode::FENCED_INSTANCE_ID), "{error}");
                    self.stop(number);
                    return;
                }
                news => {
                    self.tell(|| format!("{number} is told {news:?} in {membership:?}"));
                    let consumer = &mut self.consumers[number];
                    match &news {
                        Output::Assigned(partitions) => {
                            for partition in partitions {
                                assert!(
                                    consumer.held.insert(partition.clone()),
                                    "{partition} assigned twice"
                                );
                            }
                            changed = true;
                        }
                        Output::Lost(partitions) if membership.generation >= 0 => {
                            // It has missed a generation, and is in the next one already.
                            self.lost += partitions.len();
                            consumer.losses += 1;
                            consumer.held.clear();
                        }
                        Output::Lost(_) => assert!(consumer.held.is_empty(), "{number} has lost only some"),
                        _ => {}
                    }
                    consumer.inbox.push_back((consumer.losses, news));
                }
            }
        }
        if changed {
            self.check_owners();
        }
        let consumer = &mut self.consumers[number];
        if let Some(due) = consumer.machine.as_ref().and_then(ClassicMember::poll_timeout)
            && consumer.timer.is_none_or(|timer| due < timer)
        {
            consumer.timer = Some(due);
            self.schedule(number, due.saturating_duration_since(self.now), Event::Timer);
        }
    }

    fn transmit(&mut self, number: usize, request: RequestId, body: Request) {
        self.tell(|| format!("{number} asks {body:?}"));
        let timeout = if matches!(body, Request::Join(_)) {
            MAX_POLL_INTERVAL + REQUEST_TIMEOUT
        } else {
            REQUEST_TIMEOUT
        };
        let lost = self.trouble && self.random.u8(..40) == 0;
        let delay = self.delay();
        if let Request::Leave(_) = body {
            // Takes another way, so that it need not queue behind a parked JoinGroup.
            let link = self.consumers[number].link.number;
            self.consumers[number].link.outstanding.insert(request);
            if !lost {
                self.arrive(number, link, request, body);
            }
            self.schedule(number, timeout, Event::TimedOut { link, request });
            return;
        }
        let link = &mut self.consumers[number].link;
        link.outstanding.insert(request);
        let at = (self.now + delay).max(link.last_out.unwrap_or(self.now));
        link.last_out = Some(at);
        let (link, after) = (link.number, at - self.now);
        if !lost {
            self.schedule(number, after, Event::Arrive { link, request, body: Box::new(body) });
        }
        self.schedule(number, timeout, Event::TimedOut { link, request });
    }

    /// The connection breaks; what had not arrived yet never will.
    pub(super) fn cut(&mut self, number: usize) {
        let link = &mut self.consumers[number].link;
        let failed = std::mem::take(&mut link.outstanding);
        *link = Link { number: link.number + 1, ..Link::default() };
        self.tell(|| format!("{number} loses its connection, and {failed:?} with it"));
        for request in failed {
            let error = kafka_client::Error::timed_out("simulated", REQUEST_TIMEOUT);
            self.input(number, Input::Answer { request, answer: Answer::Failed(error) });
        }
    }

    /// Lets the coordinator take the next requests from a connection.
    pub(super) fn serve(&mut self, number: usize) {
        while !self.consumers[number].link.parked {
            let Some((request, body)) = self.consumers[number].link.queue.pop_front() else { return };
            let link = self.consumers[number].link.number;
            self.consumers[number].link.parked = true;
            self.arrive(number, link, request, body);
        }
    }

    fn arrive(&mut self, consumer: usize, link: u64, request: RequestId, body: Request) {
        self.next_origin += 1;
        let instance_id = self.consumers[consumer].instance_id.as_deref().map(str::to_owned);
        let (input, commit, member_id) = to_broker(body, instance_id);
        let run = self.consumers[consumer].run;
        self.origins.insert(self.next_origin, Origin { consumer, run, link, request, commit, member_id });
        if self.coordinator_gone {
            let reply = refusal(&input, broker::GroupError::NotCoordinator);
            self.coordinator_answered(broker::Output { request: self.next_origin, reply });
        } else {
            self.group.handle(self.next_origin, input, self.now);
            self.coordinator_answers();
        }
    }

    pub(super) fn coordinator_answers(&mut self) {
        while let Some(output) = self.group.poll_output() {
            self.coordinator_answered(output);
        }
    }

    fn coordinator_answered(&mut self, output: broker::Output) {
        let Some(origin) = self.origins.remove(&output.request) else { panic!("answered twice") };
        if let broker::Reply::Commit(Ok(results)) = &output.reply {
            assert!(results.iter().all(Result::is_ok));
            self.check_commit(&origin);
        }
        let is_leave = matches!(output.reply, broker::Reply::Leave(_));
        let answer = from_broker(output.reply, &origin.commit);
        if self.consumers[origin.consumer].run != origin.run {
            return;
        }
        let lost = self.trouble && self.random.u8(..40) == 0;
        let delay = self.delay();
        let link = &mut self.consumers[origin.consumer].link;
        if link.number != origin.link {
            return;
        }
        let mut at = self.now + delay;
        if !is_leave {
            link.parked = false;
            at = at.max(link.last_back.unwrap_or(at));
            link.last_back = Some(at);
        }
        let after = at - self.now;
        if !lost {
            let answered =
                Event::Answered { link: origin.link, request: origin.request, answer: Box::new(answer) };
            self.schedule(origin.consumer, after, answered);
        }
        self.serve(origin.consumer);
    }

    /// The coordinator has accepted a commit.
    fn check_commit(&mut self, origin: &Origin) {
        let members = self.group.describe().members;
        for (partition, offset) in &origin.commit {
            let before = self.committed.insert(partition.clone(), *offset).unwrap_or(0);
            assert!(before <= *offset, "{partition} goes back from {before} to {offset}");
            for (number, other) in self.consumers.iter().enumerate() {
                let is_another = other
                    .machine
                    .as_ref()
                    .is_some_and(|other| *other.membership().member_id != *origin.member_id);
                let has_it = is_another && other.held.contains(partition) && self.is_counted(other, &members);
                assert!(!has_it, "{} commits {partition}, which is with {number}", origin.consumer);
            }
        }
    }
}
