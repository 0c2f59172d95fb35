// @platformatic/kafka, whose streams read from a position given when they are made.
import {
  Admin, ConfigResourceTypes, Consumer, FetchIsolationLevels, IncrementalAlterConfigOperationTypes as Edits, ListOffsetTimestamps,
  Producer
} from '@platformatic/kafka'
import { main } from './scenarios.js'

const UNKNOWN_TOPIC_OR_PARTITION = 3
const UNSUPPORTED_VERSION = 35

class Client {
  editsLists = true
  nullHeaders = true
  ordersHeaders = true
  commitsMetadata = false
  failsOutOfRange = true
  // Of a connection that fails after its side of the handshake it says that it is closed.
  tellsAlerts = false
  // Of the aborted transactions of one producer it hides the last in each answer.
  hidesEveryAbort = false
  protocols = ['roundrobin', 'cooperative-sticky', 'kip-848']

  constructor(bootstrapBrokers, prefix, access) {
    this.brokers = bootstrapBrokers
    this.prefix = prefix
    this.readers = 0
    this.settings = { bootstrapBrokers, clientId: prefix, retries: 2, retryDelay: 50, timeout: 10_000 }
    if (access) Object.assign(this.settings, { tls: access.tls, ...(access.sasl && { sasl: access.sasl }) })
    this.admin = new Admin(this.settings)
  }

  async start() {}

  errorCode(failure) {
    // What it makes of that error.
    return failure.message?.startsWith('Unknown topic ') ? UNKNOWN_TOPIC_OR_PARTITION : failure.apiCode
  }

  isRefusal(failure) {
    return failure.code === 'PLT_KFK_UNSUPPORTED_API' || failure.apiCode === UNSUPPORTED_VERSION
  }

  // Admin

  async cluster() {
    const { brokers, controllerId } = await this.admin.metadata({ topics: [], forceUpdate: true })
    return { brokers: [...brokers.keys()], controller: controllerId }
  }

  topics() {
    return this.admin.listTopics()
  }

  async partitions(topic) {
    const { topics } = await this.admin.metadata({ topics: [topic], forceUpdate: true })
    return topics.get(topic).partitions.filter(({ leader }) => leader >= 0).length
  }

  async createTopic(topic, partitions, configs) {
    const given = Object.entries(configs).map(([name, value]) => ({ name, value }))
    await this.admin.createTopics({ topics: [topic], partitions, configs: given })
  }

  async createPartitions(topic, count) {
    await this.admin.createPartitions({ topics: [{ name: topic, count }] })
  }

  async deleteTopic(topic) {
    await this.admin.deleteTopics({ topics: [topic] })
  }

  async config(topic) {
    const resources = [{ resourceType: ConfigResourceTypes.TOPIC, resourceName: topic }]
    const [{ configs }] = await this.admin.describeConfigs({ resources })
    return new Map(configs.map(({ name, value }) => [name, value]))
  }

  alterConfig(topic, name, value) {
    return this.edit(topic, name, value, Edits.SET)
  }

  appendConfig(topic, name, value) {
    return this.edit(topic, name, value, Edits.APPEND)
  }

  subtractConfig(topic, name, value) {
    return this.edit(topic, name, value, Edits.SUBTRACT)
  }

  async edit(topic, name, value, configOperation) {
    const edited = { resourceType: ConfigResourceTypes.TOPIC, resourceName: topic, configs: [{ name, value, configOperation }] }
    await this.admin.incrementalAlterConfigs({ resources: [edited] })
  }

  async deleteRecords(topic, partition, before) {
    await this.admin.deleteRecords({ topics: [{ name: topic, partitions: [{ partition, offset: BigInt(before) }] }] })
  }

  async members(group) {
    return (await this.admin.describeGroups({ groups: [group] })).get(group).members.size
  }

  async deleteGroup(group) {
    await this.admin.deleteGroups({ groups: [group] })
  }

  async groupOffset(group, topic, partition) {
    const [{ topics }] = await this.admin.listConsumerGroupOffsets({ groups: [group] })
    const { partitions } = topics.find(({ name }) => name === topic)
    const found = partitions.find(({ partitionIndex }) => partitionIndex === partition)
    return { offset: Number(found.committedOffset), metadata: found.metadata }
  }

  async ends(topic, partition) {
    const ends = [ListOffsetTimestamps.EARLIEST, ListOffsetTimestamps.LATEST]
    return Promise.all(ends.map(end => this.offset(topic, partition, end)))
  }

  async offsetForTime(topic, partition, time) {
    const offset = await this.offset(topic, partition, BigInt(time))
    return offset === -1 ? null : offset
  }

  async offset(topic, partitionIndex, timestamp) {
    const [found] = await this.admin.listOffsets({ topics: [{ name: topic, partitions: [{ partitionIndex, timestamp }] }] })
    return Number(found.partitions[0].offset)
  }

  // Security

  isAuthentication(failure) {
    return failure.code === 'PLT_KFK_AUTHENTICATION'
  }

  async createAcls(creations) {
    await this.admin.createAcls({ creations })
  }

  async acls(filter) {
    const resources = await this.admin.describeAcls({ filter })
    return resources.flatMap(({ acls, ...resource }) => acls.map(acl => ({ ...resource, ...acl })))
  }

  deleteAcls(filter) {
    return this.admin.deleteAcls({ filters: [filter] })
  }

  // Produce

  async producer({ codec = 'none' }) {
    // A request that one partition of it refuses is sent again whole: without this the others have it twice.
    const idempotent = true
    const producer = new Producer({ ...this.settings, compression: codec, idempotent })
    return {
      send: (topic, records) => send(producer, topic, records),
      close: () => producer.close()
    }
  }

  async transactional(transactionalId) {
    const producer = new Producer({ ...this.settings, transactionalId, idempotent: true })
    return {
      begin: async () => {
        const transaction = await producer.beginTransaction()
        return {
          send: (topic, records) => send(transaction, topic, records),
          sendOffset: async ({ consumer }, { message }) => {
            await transaction.addConsumer(consumer)
            await transaction.addOffset(message)
          },
          commit: () => transaction.commit(),
          abort: () => transaction.abort()
        }
      },
      close: () => producer.close()
    }
  }

  // Consume

  async reader(topic, { group, protocol = 'roundrobin', offsets, isolation, commits = false, reset }) {
    const membership =
      protocol === 'kip-848'
        ? { groupProtocol: 'consumer' }
        // A heartbeat is how a member hears of a rebalance.
        : { protocols: [{ name: protocol, version: 1 }], sessionTimeout: 10_000, heartbeatInterval: 100 }
    const consumer = new Consumer({
      ...this.settings,
      ...membership,
      groupId: group ?? `${this.prefix}-reader-${this.readers++}`,
      rebalanceTimeout: 60_000,
      maxWaitTime: 100,
      autocommit: false,
      isolationLevel: isolation === 'uncommitted' ? FetchIsolationLevels.READ_UNCOMMITTED : FetchIsolationLevels.READ_COMMITTED
    })
    const reader = new Reader(consumer, topic, commits, reset === 'none' ? 'fail' : 'earliest')
    await reader.start(offsets)
    return reader
  }
}

async function send(sender, topic, records) {
  const messages = records.map(({ key, value, partition, headers, timestamp }) => ({
    topic,
    key,
    value,
    partition,
    // A map of buffers can have two of one name.
    headers: new Map(headers.map(([name, header]) => [Buffer.from(name), header])),
    ...(timestamp && { timestamp: BigInt(timestamp) })
  }))
  await sender.send({ messages, acks: -1 })
}

class Reader {
  records = []
  failure = null
  uncommitted = []

  constructor(consumer, topic, commits, fallbackMode) {
    this.consumer = consumer
    this.topic = topic
    this.commits = commits
    this.fallbackMode = fallbackMode
  }

  async start(offsets) {
    const { topic, fallbackMode } = this
    const from = offsets && {
      mode: 'manual',
      offsets: offsets.map((offset, partition) => ({ topic, partition, offset: BigInt(offset) }))
    }
    const stream = await this.consumer.consume({ topics: [topic], fallbackMode, mode: 'committed', ...from })
    stream.on('data', message => this.handle(message))
    stream.on('error', failure => { this.failure = failure })
    this.stream = stream
  }

  handle(message) {
    const { topic, partition, key = null, value = null, headerEntries } = message
    // An answer that was on its way when the partition was taken away: it belongs to another member.
    if (this.commits && !this.assignment().includes(partition)) return
    const headers = headerEntries.map(([name, header]) => [name.toString(), header ?? null])
    const [timestamp, offset] = [Number(message.timestamp), Number(message.offset)]
    const record = { topic, partition, key, value, headers, timestamp, offset, message }
    if (!this.commits) {
      this.records.push(record)
      return
    }
    this.uncommitted.push(record)
    this.committing ??= this.commitAll().catch(failure => { this.failure = failure })
  }

  async commitAll() {
    while (this.uncommitted.length > 0) {
      const records = this.uncommitted.splice(0)
      const last = new Map(records.map(record => [record.partition, record]))
      await this.commitRecords([...last.values()])
      this.records.push(...records)
    }
    this.committing = null
  }

  async commitRecords(records) {
    const offsets = records.map(({ topic, partition, offset, message }) => {
      return { topic, partition, offset: BigInt(offset + 1), leaderEpoch: message.leaderEpoch }
    })
    await this.consumer.commit({ offsets })
  }

  assignment() {
    return this.consumer.assignments?.find(({ topic }) => topic === this.topic)?.partitions ?? []
  }

  async seek(offsets) {
    await this.stream.close()
    this.records = []
    await this.start(offsets)
  }

  pause() {
    this.stream.pause()
  }

  resume() {
    this.stream.resume()
  }

  async commit(partition, offset) {
    await this.consumer.commit({ offsets: [{ topic: this.topic, partition, offset: BigInt(offset), leaderEpoch: -1 }] })
  }

  close() {
    this.closing ??= this.leave()
    return this.closing
  }

  async leave() {
    await this.committing
    // One that failed is closed by that.
    if (!this.failure) await this.stream.close()
    await this.consumer.close()
  }
}

await main(Client)
