// Where the cluster demands to know who asks. SECURED names a folder with its certificates (ca.pem, alice.pem, alice.key, and of an
// authority that it does not know other/), its users (name=password) and its listeners (name=host:port,…).
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

var secured = os.Getenv("SECURED")

// access is how a client gets in; of two options for one thing the later counts.
type access []kgo.Opt

func (given access) and(more ...kgo.Opt) access { return append(slices.Clone(given), more...) }

func (given access) connect(ctx context.Context) error {
	client := client(given.and(kgo.RequestRetries(0))...)
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return client.Ping(ctx)
}

// demand leaves the scenario out where the cluster has no such listeners.
func demand() {
	if secured == "" {
		panic(skipped{errors.New("SECURED names no folder of a secured cluster")})
	}
}

func overSASL(ctx context.Context) {
	demand()
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		roundTrip(ctx, "sasl-"+mechanism, login(mechanism, "alice", password("alice")))
		wrong, stranger := login(mechanism, "alice", password("bob")), login(mechanism, "nobody", "secret")
		refused(kerr.SaslAuthenticationFailed, wrong.connect(ctx), mechanism+" with a wrong password")
		refused(kerr.SaslAuthenticationFailed, stranger.connect(ctx), mechanism+" of an unknown user")
	}
	mistrusted(ctx, user("alice").and(kgo.DialTLSConfig(trust("other"))))
}

func overTLS(ctx context.Context) {
	demand()
	roundTrip(ctx, "tls-mutual", over("MTLS", identified(".")))
	roundTrip(ctx, "tls", over("SSL", trust(".")))
	alerted(ctx, over("MTLS", trust(".")), "no certificate")
	alerted(ctx, over("MTLS", identified("other")), "a certificate of another authority")
	mistrusted(ctx, over("SSL", trust("other")))
}

func acls(ctx context.Context) {
	demand()
	alice, bob := user("alice"), user("bob")
	closed, open, group := topic(ctx, "acls", 1, nil), topic(ctx, "acls-open", 1, nil), named("acls-group")
	admin := kadm.NewClient(client(user("admin")...))
	defer admin.Close()

	operations := []kadm.ACLOperation{kadm.OpRead, kadm.OpWrite, kadm.OpDescribe}
	allow := func(principal string) *kadm.ACLBuilder { return kadm.NewACLs().Allow(principal) }
	create := func(acls *kadm.ACLBuilder) {
		for _, created := range get(admin.CreateACLs(ctx, acls)) {
			must(created.Err)
		}
	}
	create(allow("User:alice").Topics(closed).Operations(operations...))
	create(allow("User:alice").Groups(group).Operations(kadm.OpRead))
	create(allow("User:CN=alice").Topics(closed).Operations(kadm.OpRead))
	about := kadm.NewACLs().Topics(closed).Groups(group).Allow().AllowHosts().Operations()
	described := func() (found []string, err error) {
		results, err := admin.DescribeACLs(ctx, about)
		for _, result := range results {
			err = errors.Join(err, result.Err)
			for _, acl := range result.Described {
				found = append(found, fmt.Sprintln(acl.Permission, acl.Principal, acl.Host, acl.Operation, acl.Type, acl.Pattern, acl.Name))
			}
		}
		slices.Sort(found)
		return
	}
	expected := []string{
		fmt.Sprintln("ALLOW User:CN=alice * READ TOPIC LITERAL", closed),
		fmt.Sprintln("ALLOW User:alice * DESCRIBE TOPIC LITERAL", closed),
		fmt.Sprintln("ALLOW User:alice * READ GROUP LITERAL", group),
		fmt.Sprintln("ALLOW User:alice * READ TOPIC LITERAL", closed),
		fmt.Sprintln("ALLOW User:alice * WRITE TOPIC LITERAL", closed),
	}
	eventually("the ACLs are described", func() (bool, error) {
		found, err := described()
		return slices.Equal(expected, found), err
	})

	must(produce(ctx, numbered(closed, 0, 20, 1), alice...))
	equal(numbers(0, 20, 1), values(read(ctx, closed, 20, 1, alice...)), "what alice reads")
	equal(numbers(0, 20, 1), values(read(ctx, closed, 20, 1, over("MTLS", identified("."))...)), "what alice reads by her certificate")
	equal(operations, authorized(ctx, closed, alice), "what alice may do")
	member := client(alice.and(kgo.ConsumerGroup(group), kgo.ConsumeTopics(closed), kgo.ConsumeResetOffset(start()))...)
	defer member.Close()
	equal(numbers(0, 20, 1), values(get(poll(ctx, member, 20))), "what alice's group reads")

	refused(kerr.TopicAuthorizationFailed, produce(ctx, numbered(closed, 0, 1, 1), bob...), "a record of bob's")
	reader := client(bob.and(from(closed, start()))...)
	defer reader.Close()
	_, err := poll(ctx, reader, 1)
	refused(kerr.TopicAuthorizationFailed, err, "bob's reading")
	unprivileged := kadm.NewClient(client(bob...))
	defer unprivileged.Close()
	listed := get(unprivileged.ListTopics(ctx))
	check(listed.Has(open) && !listed.Has(closed), "bob is told of what he may know: %v", listed.Names())
	joiner := client(bob.and(kgo.ConsumerGroup(group), kgo.ConsumeTopics(open))...)
	defer joiner.Close()
	_, err = poll(ctx, joiner, 1)
	refused(kerr.GroupAuthorizationFailed, err, "bob's joining")

	// He may know of it now, and what he asks of its leader is refused.
	create(allow("User:bob").Topics(closed).Operations(kadm.OpDescribe))
	eventually("bob may know the topic", func() (bool, error) {
		described, err := unprivileged.Metadata(kadm.WithAuthorizedOps(ctx), closed)
		return slices.Equal([]kadm.ACLOperation{kadm.OpDescribe}, described.Topics[closed].AuthorizedOperations), err
	})
	refused(kerr.TopicAuthorizationFailed, produce(ctx, numbered(closed, 0, 1, 1), bob...), "a record of bob's for the leader")
	_, err = poll(ctx, reader, 1)
	refused(kerr.TopicAuthorizationFailed, err, "bob's reading from the leader")

	deleted := 0
	for _, result := range get(admin.DeleteACLs(ctx, about)) {
		must(result.Err)
		deleted += len(result.Deleted)
	}
	equal(len(expected)+1, deleted, "deleted ACLs")
	eventually("the ACLs are gone", func() (bool, error) {
		found, err := described()
		return len(found) == 0, err
	})
	must(produce(ctx, numbered(closed, 0, 1, 1), bob...))
}

// authorized are the operations that a user may do on a topic.
func authorized(ctx context.Context, topic string, user access) []kadm.ACLOperation {
	admin := kadm.NewClient(client(user...))
	defer admin.Close()
	metadata := get(admin.Metadata(kadm.WithAuthorizedOps(ctx), topic))
	must(metadata.Topics[topic].Err)
	return metadata.Topics[topic].AuthorizedOperations
}

func roundTrip(ctx context.Context, name string, given access) {
	topic := topic(ctx, name, 1, nil)
	must(produce(ctx, numbered(topic, 0, 20, 1), given...))
	equal(numbers(0, 20, 1), values(read(ctx, topic, 20, 1, given...)), "what is read over %s", name)
}

// mistrusted fails unless the client finds that the broker's certificate is of an authority that it does not know.
func mistrusted(ctx context.Context, given access) {
	err := given.connect(ctx)
	check(errors.As(err, new(x509.UnknownAuthorityError)), "an unknown authority: %v", err)
}

// alerted fails unless the broker ends the handshake because of the certificate that it is shown.
func alerted(ctx context.Context, given access, what string) {
	err := given.connect(ctx)
	var refusal *net.OpError
	alert := errors.As(err, &refusal) && refusal.Op == "remote error" && strings.Contains(err.Error(), "certificate")
	check(alert, "%s: expected an alert of the broker's, got %v", what, err)
}

// user is the access by which most scenarios get in.
func user(name string) access { return login("SCRAM-SHA-512", name, password(name)) }

func login(mechanism, user, password string) access {
	var how sasl.Mechanism
	switch mechanism {
	case "PLAIN":
		how = plain.Auth{User: user, Pass: password}.AsMechanism()
	case "SCRAM-SHA-256":
		how = scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
	case "SCRAM-SHA-512":
		how = scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
	}
	return over("SASL_SSL", trust(".")).and(kgo.SASL(how))
}

func over(listener string, config *tls.Config) access {
	return access{kgo.SeedBrokers(strings.Split(line("listeners", listener), ",")...), kgo.DialTLSConfig(config)}
}

func trust(folder string) *tls.Config {
	roots := x509.NewCertPool()
	check(roots.AppendCertsFromPEM(get(os.ReadFile(filepath.Join(secured, folder, "ca.pem")))), "a certificate of an authority")
	return &tls.Config{RootCAs: roots}
}

// identified trusts the broker, and is alice by the certificate in a folder.
func identified(folder string) *tls.Config {
	config := trust(".")
	alice := get(tls.LoadX509KeyPair(filepath.Join(secured, folder, "alice.pem"), filepath.Join(secured, folder, "alice.key")))
	// Not as one of several to choose from: the client would send none that the broker does not ask for.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &alice, nil }
	return config
}

func password(user string) string { return line("users", user) }

// line is the value of a name in a file of lines name=value.
func line(file, name string) string {
	for _, line := range strings.Split(string(get(os.ReadFile(filepath.Join(secured, file)))), "\n") {
		if found, value, _ := strings.Cut(line, "="); found == name {
			return value
		}
	}
	fail("%s has no %s", file, name)
	return ""
}
