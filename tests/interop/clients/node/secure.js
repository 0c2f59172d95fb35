// Where the cluster demands to know who asks, written once for both Node clients.
//
// SECURED names a folder with the cluster's certificates (ca.pem, alice.pem, alice.key, and of an authority that it does not know
// other/), its users (name=password) and its listeners (name=host:port,…). An access is how a client gets in: the brokers, what is
// given to Node's TLS, and a mechanism, name and password or not.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { all, check, equal, eventually, said, Skipped } from './report.js'

const TOPIC_AUTHORIZATION_FAILED = 29
const GROUP_AUTHORIZATION_FAILED = 30

// What Node says of a certificate that it does not trust, and of a broker that refuses its own or that it shows none.
const UNTRUSTED = /unable to verify the first certificate|self-signed certificate in certificate chain/
const ALERT = /alert[ _](bad|unknown|required|certificate)|certificate required/i

// Kafka's numbers, which both clients take.
const TOPIC = 2
const GROUP = 3
const LITERAL = 3
const [ANY, READ, WRITE, DESCRIBE] = [1, 3, 4, 8]
const ALLOW = 3

const numbers = Array.from({ length: 20 }, (_, index) => `${index}`)

function text(...path) {
  if (!process.env.SECURED) throw new Skipped('SECURED names no folder of a secured cluster')
  return readFileSync(join(process.env.SECURED, ...path), 'utf8')
}

/** The value of a name in a file of lines name=value. */
function line(file, name) {
  return text(file).split('\n').find(each => each.startsWith(`${name}=`)).slice(name.length + 1)
}

function anybody(listener, authority = '.') {
  return { brokers: line('listeners', listener).split(','), tls: { ca: [text(authority, 'ca.pem')] } }
}

function identified(folder = '.') {
  const { brokers, tls } = anybody('MTLS')
  return { brokers, tls: { ...tls, cert: text(folder, 'alice.pem'), key: text(folder, 'alice.key') } }
}

function login(username, { mechanism = 'SCRAM-SHA-512', password = line('users', username), authority } = {}) {
  return { ...anybody('SASL_SSL', authority), sasl: { mechanism, username, password } }
}

export async function sasl(scenarios) {
  for (const mechanism of ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512']) {
    await roundTrip(scenarios, `sasl-${mechanism}`, login('alice', { mechanism }))
    const complaint = await complaintOf(scenarios, login('alice', { mechanism, password: 'wrong' }))
    check(all(complaint).some(each => scenarios.client.isAuthentication(each)), `a wrong password, got ${said(complaint)}`)
  }
  await complains(scenarios, UNTRUSTED, login('alice', { authority: 'other' }))
}

export async function tls(scenarios) {
  await roundTrip(scenarios, 'tls-mutual', identified())
  await roundTrip(scenarios, 'tls', anybody('SSL'))
  const refused = scenarios.client.tellsAlerts ? ALERT : /Connection closed/
  await complains(scenarios, refused, anybody('MTLS'))
  await complains(scenarios, refused, identified('other'))
  await complains(scenarios, UNTRUSTED, anybody('SSL', 'other'))
}

export async function acls(scenarios) {
  const [alice, bob, { client: admin }] = await Promise.all(['alice', 'bob', 'admin'].map(name => scenarios.over(login(name))))
  const topic = await scenarios.topic('acls')
  const open = await scenarios.topic('acls-open')
  const group = `${scenarios.prefix}-acls-group`
  const about = [filter(TOPIC, topic), filter(GROUP, group)]
  const described = async () => (await Promise.all(about.map(each => admin.acls(each)))).flat()
  const created = []
  const allow = async (resourceType, resourceName, principal, ...operations) => {
    const resource = { resourceType, resourceName, resourcePatternType: LITERAL, host: '*', permissionType: ALLOW }
    const acls = operations.map(operation => ({ ...resource, principal, operation }))
    await admin.createAcls(acls)
    created.push(...acls)
    await eventually('the ACLs are described', async () => inOrder(await described()) === inOrder(created))
  }
  await allow(TOPIC, topic, 'User:alice', READ, WRITE, DESCRIBE)
  await allow(TOPIC, topic, 'User:CN=alice', READ)
  await allow(GROUP, group, 'User:alice', READ)

  await alice.write(topic, 20)
  equal(numbers, await alice.values(topic, 20), 'what alice reads')
  equal(numbers, await alice.values(topic, 20, { group }), "what alice's group reads")
  const byCertificate = await scenarios.over(identified())
  equal(numbers, await byCertificate.values(topic, 20), 'what alice reads by her certificate')
  await scenarios.refused(GROUP_AUTHORIZATION_FAILED, () => bob.values(open, 1, { group }))
  await scenarios.refused(TOPIC_AUTHORIZATION_FAILED, () => bob.write(topic, 1))
  check((await alice.client.topics()).includes(topic), 'alice is told of the topic')
  check(!(await bob.client.topics()).includes(topic), 'bob is not told of it')
  // He may know of it now, and what he asks of its leader is refused.
  await allow(TOPIC, topic, 'User:bob', DESCRIBE)
  await scenarios.refused(TOPIC_AUTHORIZATION_FAILED, () => bob.write(topic, 1))
  await scenarios.refused(TOPIC_AUTHORIZATION_FAILED, () => bob.values(topic, 1))

  const deleted = (await Promise.all(about.map(each => admin.deleteAcls(each)))).flat()
  equal(inOrder(created), inOrder(deleted), 'deleted ACLs')
  await eventually('the ACLs are gone', async () => (await described()).length === 0)
  await bob.write(topic, 1)
}

function filter(resourceType, resourceName) {
  const anybody = { principal: undefined, host: undefined, operation: ANY, permissionType: ANY }
  return { resourceType, resourceName, resourcePatternType: LITERAL, ...anybody }
}

function inOrder(acls) {
  const parts = ['resourceType', 'resourceName', 'resourcePatternType', 'principal', 'host', 'operation', 'permissionType']
  return acls.map(acl => parts.map(part => acl[part]).join(' ')).toSorted().join('\n')
}

async function roundTrip(scenarios, name, access) {
  const topic = await scenarios.topic(name)
  const user = await scenarios.over(access)
  await user.write(topic, 20)
  equal(numbers, await user.values(topic, 20), `what is read over ${name}`)
}

/** What a client fails with that is not let in. */
async function complaintOf(scenarios, access) {
  try {
    const { client } = await scenarios.over(access)
    await client.cluster()
  } catch (failure) {
    return failure
  }
  throw new Error(`${access.sasl?.username} got in`)
}

async function complains(scenarios, words, access) {
  const complaint = said(await complaintOf(scenarios, access))
  check(words.test(complaint), `expected ${words}, got ${complaint}`)
}
