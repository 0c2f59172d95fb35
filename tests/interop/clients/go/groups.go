// Groups: members that come, go and come back, and commits that survive them.
package main

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func group(ctx context.Context) {
	rebalances(ctx, "group", kgo.Balancers(kgo.RangeBalancer()))
}

func cooperative(ctx context.Context) {
	rebalances(ctx, "cooperative", kgo.Balancers(kgo.CooperativeStickyBalancer()))
}

// rebalances has two members share four partitions, one leave, a third join; every record is handed out once overall.
func rebalances(ctx context.Context, name string, protocol ...kgo.Opt) {
	topic := topic(ctx, name, 4, nil)
	members := &members{group: named(name), topic: topic, protocol: protocol}
	defer members.stop()
	add := func(first, end int) {
		must(produce(ctx, numbered(topic, first, end, 4)))
		eventually(strconv.Itoa(end)+" records are read", func() (bool, error) {
			read, err := members.read()
			return len(read) >= end, err
		})
	}
	hasAll := func(one *member) func() (bool, error) {
		return func() (bool, error) { return len(one.assignment()) == 4, one.failed() }
	}
	share := func(one, other *member) func() (bool, error) {
		return func() (bool, error) {
			both := append(one.assignment(), other.assignment()...)
			slices.Sort(both)
			return len(one.assignment()) == 2 && slices.Equal(both, []int32{0, 1, 2, 3}), one.failed()
		}
	}

	first := members.join(ctx)
	eventually("the first member has all", hasAll(first))
	second := members.join(ctx)
	eventually("two members share", share(first, second))
	add(0, 200)
	_, err := admin.DeleteGroup(ctx, members.group)
	refused(kerr.NonEmptyGroup, err, "deleting a group with members")
	first.leave()
	eventually("the second member has all", hasAll(second))
	add(200, 400)
	third := members.join(ctx)
	eventually("a third member shares", share(second, third))
	add(400, 600)
	second.leave()
	third.leave()
	// Whoever comes later finds everything committed; a record of its own shows that it has read.
	last := members.join(ctx)
	eventually("the last member has all", hasAll(last))
	add(600, 601)
	last.leave()

	read := get(members.read())
	slices.SortFunc(read, func(one, other string) int { return get(strconv.Atoi(one)) - get(strconv.Atoi(other)) })
	equal(numbers(0, 601, 1), read, "records handed out")
	eventually("the empty group is deleted", func() (bool, error) {
		_, err := admin.DeleteGroup(ctx, members.group)
		return true, err
	})
	_, err = admin.DeleteGroup(ctx, members.group)
	refused(kerr.GroupIDNotFound, err, "deleting a deleted group")
}

// members of one group, each of which polls and commits on its own.
type members struct {
	group, topic string
	protocol     []kgo.Opt
	all          []*member
}

type member struct {
	client   *kgo.Client
	leaving  context.CancelFunc
	left     chan struct{}
	lock     sync.Mutex
	assigned map[int32]bool
	read     []string
	failure  error
}

func (m *members) join(ctx context.Context) *member {
	ctx, leaving := context.WithCancel(ctx)
	joined := &member{leaving: leaving, left: make(chan struct{}), assigned: map[int32]bool{}}
	changes := func(assigned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			joined.lock.Lock()
			defer joined.lock.Unlock()
			for _, partition := range changed[m.topic] {
				if assigned {
					joined.assigned[partition] = true
				} else {
					delete(joined.assigned, partition)
				}
			}
		}
	}
	joined.client = client(append([]kgo.Opt{
		kgo.ConsumerGroup(m.group),
		kgo.ConsumeTopics(m.topic),
		kgo.ConsumeResetOffset(start()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		// A heartbeat is how a member hears of a rebalance.
		kgo.HeartbeatInterval(200 * time.Millisecond),
		kgo.OnPartitionsAssigned(changes(true)),
		kgo.OnPartitionsRevoked(changes(false)),
		kgo.OnPartitionsLost(changes(false)),
	}, m.protocol...)...)
	m.all = append(m.all, joined)
	go joined.work(ctx)
	return joined
}

func (m *member) work(ctx context.Context) {
	defer close(m.left)
	defer m.client.CloseAllowingRebalance()
	for ctx.Err() == nil {
		fetches := m.client.PollFetches(ctx)
		records := fetches.Records()
		err := fetches.Err()
		if ctx.Err() != nil {
			err = nil
		}
		if err == nil && len(records) > 0 {
			err = m.client.CommitRecords(context.WithoutCancel(ctx), records...)
		}
		m.lock.Lock()
		m.read = append(m.read, values(records)...)
		m.failure = err
		m.lock.Unlock()
		m.client.AllowRebalance()
		if err != nil {
			return
		}
	}
}

func (m *member) leave() {
	m.leaving()
	select {
	case <-m.left:
	case <-time.After(patience):
		fail("a member did not leave within %v", patience)
	}
	must(m.failed())
}

func (m *member) failed() error {
	m.lock.Lock()
	defer m.lock.Unlock()
	return m.failure
}

func (m *member) assignment() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	return slices.Collect(maps.Keys(m.assigned))
}

func (m *members) read() (all []string, err error) {
	for _, member := range m.all {
		member.lock.Lock()
		all = append(all, member.read...)
		if member.failure != nil {
			err = member.failure
		}
		member.lock.Unlock()
	}
	return
}

func (m *members) stop() {
	for _, member := range m.all {
		member.leaving()
	}
}

func commitAndResume(ctx context.Context) {
	topic, group := topic(ctx, "commit-resume", 1, nil), named("commit-resume")
	must(produce(ctx, numbered(topic, 0, 100, 1)))
	for _, first := range []int{0, 40} {
		consumer := client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(start()), kgo.DisableAutoCommit())
		records := get(poll(ctx, consumer, 40))
		equal(numbers(first, first+40, 1), values(records), "from %d on", first)
		must(consumer.CommitRecords(ctx, records...))
		consumer.Close()
	}
	fetched, _ := get(admin.FetchOffsets(ctx, group)).Lookup(topic, 0)
	must(fetched.Err)
	equal(80, fetched.At, "the commit")
	reset := kadm.Offsets{}
	reset.Add(kadm.Offset{Topic: topic, Partition: 0, At: 10, LeaderEpoch: -1, Metadata: "ten"})
	must(get(admin.CommitOffsets(ctx, group, reset)).Error())
	fetched, _ = get(admin.FetchOffsets(ctx, group)).Lookup(topic, 0)
	equal("ten", fetched.Metadata, "metadata of the commit")
	consumer := client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit())
	defer consumer.Close()
	equal([]string{"10"}, values(get(poll(ctx, consumer, 1))), "where a reset group resumes")
}
