// What both Node clients are asked to do, written once against the adapter that each of them has.
//
// An adapter is a class with the methods used here. `reader(topic, settings)` gives what its client has for reading: it collects
// records into `records` by itself, commits them beforehand where the settings say `commits`, and keeps what it fails with in
// `failure`. `errorCode(error)` says Kafka's number of an error, `isRefusal(error)` whether it says that a feature is not there.
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import * as report from './report.js'
import * as secure from './secure.js'
import { all, check, equal, eventually, said, NotServed, Skipped } from './report.js'

const OFFSET_OUT_OF_RANGE = 1
const UNKNOWN_TOPIC_OR_PARTITION = 3
const MESSAGE_TOO_LARGE = 10
const INVALID_TOPIC = 17
const TOPIC_ALREADY_EXISTS = 36
const INVALID_PARTITIONS = 37
const INVALID_CONFIG = 40
const NON_EMPTY_GROUP = 68
const GROUP_ID_NOT_FOUND = 69

const END_TXN = 26
const CONSUMER_GROUP_HEARTBEAT = 68

const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd']

/** The keys of the APIs in the broker's answer to ApiVersions 0. */
async function advertised(broker) {
  const [host, port] = broker.split(':')
  const socket = connect(port, host)
  socket.setTimeout(10_000, () => socket.destroy(new Error('no answer to ApiVersions')))
  socket.write(Buffer.from('0000000a' + '0012' + '0000' + '00000001' + 'ffff', 'hex'))
  let answer = Buffer.alloc(0)
  for await (const part of socket) {
    answer = Buffer.concat([answer, part])
    if (answer.length >= 4 && answer.length >= 4 + answer.readInt32BE(0)) break
  }
  equal(0, answer.readInt16BE(8), 'the error of ApiVersions')
  return new Set(Array.from({ length: answer.readInt32BE(10) }, (_, index) => answer.readInt16BE(14 + 6 * index)))
}

/** Numbers from `first` to before `end`, every `step`th of them, as text. */
function numbers(first, end, step = 1) {
  return Array.from({ length: Math.ceil((end - first) / step) }, (_, index) => `${first + index * step}`)
}

/** Records that carry a number, spread over the partitions in turn. */
function numbered(first, end, partitions = 1) {
  return numbers(first, end).map(value => record({ value, partition: value % partitions }))
}

function record({ value, key = null, partition = 0, headers = [], timestamp }) {
  return { value: bytes(value), key: bytes(key), partition, headers, timestamp }
}

function bytes(value) {
  return typeof value === 'string' ? Buffer.from(value) : value
}

function values(records) {
  return records.map(({ value }) => value.toString())
}

function inOrder(texts) {
  return texts.toSorted((one, other) => one - other)
}

export class Scenarios {
  constructor(client, prefix) {
    this.client = client
    this.prefix = prefix
  }

  async topic(name, partitions = 1, configs = {}) {
    const topic = `${this.prefix}-${name}`
    await this.client.createTopic(topic, partitions, configs)
    await eventually(`${topic} has leaders`, async () => (await this.client.partitions(topic)) === partitions)
    return topic
  }

  async refused(code, action) {
    try {
      await action()
    } catch (failure) {
      if (all(failure).some(each => this.client.errorCode(each) === code)) return
      throw failure
    }
    throw new Error(`expected error ${code}, and it succeeded`)
  }

  /**
   * Runs what the broker may not serve: a refusal that says so is an answer, anything else is a failure.
   *
   * `api` is the key of an API that it needs, for clients that do not tell a broker without it from one in trouble.
   */
  async served(action, api) {
    try {
      return await action()
    } catch (failure) {
      if (failure instanceof Skipped) throw failure
      const refused = all(failure).some(each => this.client.isRefusal(each))
      if (!refused && (api === undefined || (await advertised(this.client.brokers[0])).has(api))) throw failure
      throw new NotServed(said(failure))
    }
  }

  produce(topic, records, settings = {}) {
    return this.producing(settings, producer => producer.send(topic, records))
  }

  async producing(settings, use) {
    const producer = await this.client.producer(settings)
    try {
      return await use(producer)
    } finally {
      await producer.close()
    }
  }

  /** Opens a reader for as long as `use` takes. */
  async reading(topic, settings, use) {
    const reader = await this.client.reader(topic, settings)
    try {
      return await use(reader)
    } finally {
      await reader.close()
    }
  }

  /** Waits for that many records, and takes them and what came with them. */
  async take(reader, count) {
    await eventually(`${count} records are read`, () => reader.failure || reader.records.length >= count)
    if (reader.failure) throw reader.failure
    return reader.records.splice(0)
  }

  read(topic, count, partitions = 1, settings = {}) {
    const offsets = numbers(0, partitions).map(() => 0)
    return this.reading(topic, { offsets, ...settings }, reader => this.take(reader, count))
  }

  async values(topic, count, settings = { offsets: [0] }) {
    return values(await this.reading(topic, settings, reader => this.take(reader, count)))
  }

  write(topic, count) {
    return this.produce(topic, numbered(0, count))
  }

  /** The same with a client that gets in as the access says. */
  async over(access) {
    const client = new this.client.constructor(access.brokers, this.prefix, access)
    await client.start()
    return new Scenarios(client, this.prefix)
  }

  async admin() {
    const client = this.client
    const { brokers, controller } = await client.cluster()
    check(brokers.includes(controller), `controller ${controller} is one of the brokers ${brokers}`)
    const topic = await this.topic('admin', 2, { 'retention.ms': '3600000' })
    await this.refused(TOPIC_ALREADY_EXISTS, () => client.createTopic(topic, 2, {}))
    await this.refused(INVALID_CONFIG, () => client.createTopic(`${topic}-other`, 1, { 'retention.ms': 'long' }))
    await this.refused(INVALID_TOPIC, () => client.createTopic('not/a/name', 1, {}))
    await this.refused(INVALID_PARTITIONS, () => client.createTopic(`${topic}-other`, 0, {}))
    check((await client.topics()).includes(topic), 'the topic is listed')
    const config = async name => (await client.config(topic)).get(name)
    equal('3600000', await config('retention.ms'), 'retention.ms as created')
    equal('delete', await config('cleanup.policy'), 'cleanup.policy by default')
    await client.alterConfig(topic, 'retention.ms', '7200000')
    await eventually('retention.ms is altered', async () => (await config('retention.ms')) === '7200000')
    await this.refused(INVALID_CONFIG, () => client.alterConfig(topic, 'retention.ms', 'long'))
    if (client.editsLists) {
      await client.appendConfig(topic, 'cleanup.policy', 'compact')
      await eventually('compact is appended', async () => (await config('cleanup.policy')) === 'delete,compact')
      await client.subtractConfig(topic, 'cleanup.policy', 'delete')
      await eventually('delete is subtracted', async () => (await config('cleanup.policy')) === 'compact')
      equal('7200000', await config('retention.ms'), 'retention.ms after edits of another')
    }
    await client.createPartitions(topic, 5)
    await eventually('it has five partitions', async () => (await client.partitions(topic)) === 5)
    await this.refused(INVALID_PARTITIONS, () => client.createPartitions(topic, 3))
    await client.deleteTopic(topic)
    await eventually('the topic is gone', async () => !(await client.topics()).includes(topic))
    await this.refused(UNKNOWN_TOPIC_OR_PARTITION, () => client.partitions(topic))
    await this.refused(UNKNOWN_TOPIC_OR_PARTITION, () => client.deleteTopic(topic))
  }

  async codecs() {
    const written = numbers(0, 200).map(i => record({ value: `record ${i} of many that are all alike `.repeat(10) }))
    for (const codec of CODECS) {
      const topic = await this.topic(`codec-${codec}`)
      await this.produce(topic, written, { codec })
      equal(values(written), values(await this.read(topic, 200)), `records with codec ${codec}`)
    }
  }

  async idempotent() {
    const topic = await this.topic('idempotent', 3)
    const written = numbered(0, 1200, 3)
    await this.producing({ idempotent: true }, async producer => {
      // Each request continues the sequences of the last.
      for (const first of [0, 300, 600, 900]) await producer.send(topic, written.slice(first, first + 300))
    })
    const read = await this.read(topic, 1200, 3)
    for (const partition of [0, 1, 2]) {
      const found = values(read.filter(each => each.partition === partition))
      equal(numbers(partition, 1200, 3), found, `partition ${partition}`)
    }
  }

  group() {
    return this.rebalances('group', 'roundrobin')
  }

  cooperative() {
    return this.rebalances('cooperative', 'cooperative-sticky')
  }

  consumerProtocol() {
    return this.served(() => this.rebalances('kip-848', 'kip-848'), CONSUMER_GROUP_HEARTBEAT)
  }

  /** Two members share four partitions, one leaves, a third joins; every record is handed out once overall. */
  async rebalances(name, protocol) {
    if (!this.client.protocols.includes(protocol)) throw new Skipped(`it has no ${protocol}`)
    const client = this.client
    const topic = await this.topic(name, 4)
    const group = `${this.prefix}-${name}`
    const members = []
    const join = async () => {
      const member = await client.reader(topic, { group, protocol, commits: true })
      members.push(member)
      return member
    }
    const handedOut = () => {
      for (const { failure } of members) if (failure) throw failure
      return members.flatMap(({ records }) => records)
    }
    const produce = async (first, end) => {
      await this.produce(topic, numbered(first, end, 4))
      await eventually(`${end} records are read`, () => handedOut().length >= end)
    }
    const shared = (one, other) => {
      const union = new Set([...one.assignment(), ...other.assignment()])
      return one.assignment().length === 2 && other.assignment().length === 2 && union.size === 4
    }
    try {
      const first = await join()
      await eventually('the first member has all', () => first.assignment().length === 4)
      const second = await join()
      await eventually('two members share', () => shared(first, second))
      await produce(0, 200)
      if (protocol !== 'kip-848') await eventually('two members are described', async () => (await client.members(group)) === 2)
      await this.refused(NON_EMPTY_GROUP, () => client.deleteGroup(group))
      await first.close()
      await eventually('the second member has all', () => second.assignment().length === 4)
      await produce(200, 400)
      const third = await join()
      await eventually('a third member shares', () => shared(second, third))
      await produce(400, 600)
      await second.close()
      await third.close()
      // Whoever comes later finds everything committed; a record of its own shows that it has read.
      const last = await join()
      await eventually('the last member has all', () => last.assignment().length === 4)
      await produce(600, 601)
    } finally {
      await Promise.all(members.map(member => member.close()))
    }
    equal(numbers(0, 601), inOrder(values(handedOut())), 'records handed out')
    await eventually('the empty group is deleted', async () => (await client.deleteGroup(group)) ?? true)
    await this.refused(GROUP_ID_NOT_FOUND, () => client.deleteGroup(group))
  }

  async commitAndResume() {
    const topic = await this.topic('commit-resume')
    const group = `${this.prefix}-commit-resume`
    const metadata = this.client.commitsMetadata ? 'eighty' : ''
    await this.produce(topic, numbered(0, 100))
    await this.reading(topic, { group }, async reader => {
      equal(numbers(0, 100), values(await this.take(reader, 100)), 'from the beginning')
      await reader.commit(0, 40)
    })
    equal(40, (await this.client.groupOffset(group, topic, 0)).offset, 'the committed offset')
    await this.reading(topic, { group }, async reader => {
      equal(numbers(40, 100), values(await this.take(reader, 60)), 'from the commit')
      await reader.commit(0, 80, metadata)
    })
    equal({ offset: 80, metadata }, await this.client.groupOffset(group, topic, 0), 'the commit as admin sees it')
    await this.reading(topic, { group }, async reader => {
      equal(numbers(80, 100), values(await this.take(reader, 20)), 'from the second commit')
    })
  }

  async offsetsForTimes() {
    const topic = await this.topic('times')
    const start = Date.now() - 60_000
    const written = numbers(0, 10).map(i => record({ value: i, timestamp: start + i * 1000 }))
    await this.produce(topic, written)
    for (const [after, expected] of [[-5000, 0], [0, 0], [4500, 5], [5000, 5], [9000, 9], [9001, null]]) {
      equal(expected, await this.client.offsetForTime(topic, 0, start + after), `offset ${after} ms after the first`)
    }
    const stamps = (await this.read(topic, 10)).map(({ timestamp }) => timestamp)
    equal(written.map(({ timestamp }) => timestamp), stamps, 'timestamps')
  }

  async headers() {
    const topic = await this.topic('headers')
    const all256 = Buffer.from(Array.from({ length: 256 }, (_, index) => index))
    const headers = [['b', '1'], ['a', '2'], ['b', '3'], ['empty', ''], ['bytes', all256]]
    if (this.client.nullHeaders) headers.push(['null', null])
    const written = [
      record({ value: 'v', key: 'k', headers: headers.map(([name, value]) => [name, bytes(value)]) }),
      record({ value: null, key: 'tombstone' }),
      record({ value: '', headers: [['only', bytes('x')]] }),
      record({ value: '', key: '' })
    ]
    await this.produce(topic, written)
    // A client that has headers by name keeps the order of those of one name only.
    const byName = given => given.toSorted(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0))
    const parts = ({ key, value, headers }) => [key, value, this.client.ordersHeaders ? headers : byName(headers)]
    equal(written.map(parts), (await this.read(topic, written.length)).map(parts), 'records')
  }

  async large() {
    const small = await this.topic('large')
    const big = await this.topic('larger', 1, { 'max.message.bytes': '4000000' })
    const fits = record({ value: randomBytes(900_000) })
    const beyond = record({ value: randomBytes(3_000_000) })
    await this.produce(small, [fits])
    await this.refused(MESSAGE_TOO_LARGE, () => this.produce(small, [beyond]))
    await this.produce(big, [beyond])
    for (const [topic, { value }] of [[small, fits], [big, beyond]]) {
      const [read, ...more] = await this.read(topic, 1)
      check(more.length === 0 && value.equals(read.value), `the record of ${value.length} bytes`)
    }
  }

  async seek() {
    const topic = await this.topic('seek', 2)
    await this.produce(topic, numbered(0, 100))
    await this.reading(topic, { offsets: [50, 0] }, async reader => {
      equal(numbers(50, 100), values(await this.take(reader, 50)), 'from the middle')
      await reader.seek([0, 0])
      equal(numbers(0, 100), values(await this.take(reader, 100)), 'from the beginning')
      await reader.seek([99, 0])
      equal(['99'], values(await this.take(reader, 1)), 'the last one')
      const [, end] = await this.client.ends(topic, 0)
      await reader.seek([end, 0])
      await this.produce(topic, [record({ value: 'new' })])
      equal(['new'], values(await this.take(reader, 1)), 'from the end')
      reader.pause()
      await this.produce(topic, [record({ value: 'held' })])
      const others = this.reading(topic, { offsets: [end + 1, 0] }, other => this.take(other, 1))
      equal(['held'], values(await others), 'what another reads')
      equal([], values(reader.records), 'what comes while it is paused')
      reader.resume()
      equal(['held'], values(await this.take(reader, 1)), 'after it is resumed')
    })
  }

  async deleteRecords() {
    const topic = await this.topic('delete-records')
    await this.produce(topic, numbered(0, 100))
    await this.client.deleteRecords(topic, 0, 30)
    equal([30, 100], await this.client.ends(topic, 0), 'first and end offset')
    await this.refused(OFFSET_OUT_OF_RANGE, () => this.client.deleteRecords(topic, 0, 101))
    await this.reading(topic, { offsets: [10] }, async reader => {
      equal(numbers(30, 100), values(await this.take(reader, 70)), 'reset to the first')
    })
    if (this.client.failsOutOfRange) {
      await this.reading(topic, { offsets: [10], reset: 'none' }, async reader => {
        await this.refused(OFFSET_OUT_OF_RANGE, () => this.take(reader, 1))
      })
    }
    await this.client.deleteRecords(topic, 0, -1)
    equal([100, 100], await this.client.ends(topic, 0), 'first and end offset of the emptied partition')
  }

  async sparkPattern() {
    const topic = await this.topic('spark', 2)
    const start = Date.now() - 60_000
    await this.produce(topic, numbers(0, 40).map(i => record({ value: i, partition: i % 2, timestamp: start + i * 1000 })))
    equal(2, await this.client.partitions(topic), 'partitions')
    for (const partition of [0, 1]) {
      equal([0, 20], await this.client.ends(topic, partition), `first and end offset of ${partition}`)
    }
    equal(10, await this.client.offsetForTime(topic, 0, start + 20_000), 'offset by time')
    await this.reading(topic, { offsets: [0, 10] }, async reader => {
      for (const [offsets, ends] of [[[0, 10], [10, 20]], [[10, 0], [20, 10]], [[5, 15], [6, 16]]]) {
        await reader.seek(offsets)
        const within = partition => reader.records.filter(each => each.partition === partition && each.offset < ends[partition])
        await eventually(`ranges from ${offsets}`, () => [0, 1].every(each => within(each).length >= ends[each] - offsets[each]))
        for (const partition of [0, 1]) {
          const expected = numbers(offsets[partition] * 2 + partition, ends[partition] * 2 + partition, 2)
          equal(expected, values(within(partition)), `${partition}: ${offsets[partition]} to ${ends[partition]}`)
        }
      }
    })
  }

  async transactions() {
    const source = await this.topic('transactions-in')
    const output = await this.topic('transactions-out', 2)
    const group = `${this.prefix}-transactions`
    // Transactions that begin with these are aborted, and tried again.
    const aborted = this.client.hidesEveryAbort ? [20, 50, 80] : [20]
    await this.produce(source, numbered(0, 90))
    await this.reading(source, { group }, async reader => {
      const records = await this.take(reader, 90)
      const producer = await this.client.transactional(`${this.prefix}-copier`)
      try {
        for (let next = 0; next < 90; next += 10) {
          const some = records.slice(next, next + 10)
          const copies = some.map(({ value, offset }) => record({ value, partition: offset % 2 }))
          for (const commits of aborted.includes(next) ? [false, true] : [true]) {
            const transaction = await this.served(() => producer.begin(), END_TXN)
            await transaction.send(output, copies)
            await transaction.sendOffset(reader, some.at(-1))
            await (commits ? transaction.commit() : transaction.abort())
          }
        }
      } finally {
        await producer.close()
      }
    })
    const committed = await this.read(output, 90, 2, { isolation: 'committed' })
    equal(numbers(0, 90), inOrder(values(committed)), 'committed records')
    await this.read(output, 90 + 10 * aborted.length, 2, { isolation: 'uncommitted' })
    equal(90, (await this.client.groupOffset(group, source, 0)).offset, 'offset committed by transactions')
  }

  shareGroups() {
    throw new Skipped('it has no share consumer')
  }

  all() {
    return {
      admin: () => this.admin(),
      codecs: () => this.codecs(),
      idempotent: () => this.idempotent(),
      group: () => this.group(),
      cooperative: () => this.cooperative(),
      'commit-resume': () => this.commitAndResume(),
      'offsets-for-times': () => this.offsetsForTimes(),
      headers: () => this.headers(),
      large: () => this.large(),
      seek: () => this.seek(),
      'delete-records': () => this.deleteRecords(),
      'spark-pattern': () => this.sparkPattern(),
      transactions: () => this.transactions(),
      'kip-848': () => this.consumerProtocol(),
      sasl: () => secure.sasl(this),
      tls: () => secure.tls(this),
      acls: () => secure.acls(this),
      'share-groups': async () => this.shareGroups()
    }
  }
}

export async function main(Client) {
  const [bootstrap, prefix, ...only] = process.argv.slice(2)
  const client = new Client(bootstrap.split(','), prefix)
  await client.start()
  await report.run(new Scenarios(client, prefix).all(), only)
}
