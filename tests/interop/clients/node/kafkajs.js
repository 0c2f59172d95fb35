// kafkajs, whose consumer is always of a group, and hands out batches to a function of ours.
import zlib from 'node:zlib'
import { promisify } from 'node:util'
import kafkajs from 'kafkajs'
import lz4 from 'lz4js'
import snappy from 'kafkajs-snappy'
import { main } from './scenarios.js'

const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = kafkajs

const GROUP_AUTHORIZATION_FAILED = 30
const TOPIC_ALREADY_EXISTS = 36

const zstdCompress = promisify(zlib.zstdCompress)
const zstdDecompress = promisify(zlib.zstdDecompress)
CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => {
    const frame = Buffer.from(lz4.compress(encoder.buffer))
    // It does not say that its one block is independent, without which Kafka refuses it: the flag, and the checksum with it.
    frame[4] = 0x60
    frame[6] = 0x73
    return frame
  },
  decompress: async buffer => Buffer.from(lz4.decompress(buffer))
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: encoder => zstdCompress(encoder.buffer),
  decompress: buffer => zstdDecompress(buffer)
})

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD
}

class Client {
  editsLists = false
  nullHeaders = false
  ordersHeaders = false
  commitsMetadata = true
  failsOutOfRange = false
  tellsAlerts = true
  hidesEveryAbort = true
  protocols = ['roundrobin']

  constructor(brokers, prefix, { tls: ssl, sasl } = {}) {
    this.brokers = brokers
    this.prefix = prefix
    this.readers = 0
    this.settings = {
      brokers,
      clientId: prefix,
      ssl,
      sasl: sasl && { ...sasl, mechanism: sasl.mechanism.toLowerCase() },
      logLevel: logLevel.ERROR,
      logCreator: () => ({ namespace, log }) => console.error(namespace, log.message),
      retry: { initialRetryTime: 50, retries: 2 }
    }
    this.kafka = new Kafka(this.settings)
  }

  async start() {
    this.admin = this.kafka.admin()
    await this.admin.connect()
  }

  errorCode(failure) {
    // What it makes of that error.
    return failure.name === 'KafkaJSGroupCoordinatorNotFound' ? GROUP_AUTHORIZATION_FAILED : failure.code
  }

  isRefusal(failure) {
    return failure.name === 'KafkaJSServerDoesNotSupportApiKey'
  }

  // Admin

  async cluster() {
    const { brokers, controller } = await this.admin.describeCluster()
    return { brokers: brokers.map(({ nodeId }) => nodeId), controller }
  }

  topics() {
    return this.admin.listTopics()
  }

  async partitions(topic) {
    const { topics } = await this.admin.fetchTopicMetadata({ topics: [topic] })
    return topics[0].partitions.filter(({ leader }) => leader >= 0).length
  }

  async createTopic(topic, numPartitions, configs) {
    const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
    const created = await this.admin.createTopics({ topics: [{ topic, numPartitions, configEntries }] })
    // It makes this of an error.
    if (!created) throw Object.assign(new Error('it exists already'), { code: TOPIC_ALREADY_EXISTS })
  }

  async createPartitions(topic, count) {
    await this.admin.createPartitions({ topicPartitions: [{ topic, count }] })
  }

  async deleteTopic(topic) {
    await this.admin.deleteTopics({ topics: [topic] })
  }

  async config(topic) {
    const asked = [{ type: ConfigResourceTypes.TOPIC, name: topic }]
    const { resources } = await this.admin.describeConfigs({ resources: asked, includeSynonyms: false })
    return new Map(resources[0].configEntries.map(({ configName, configValue }) => [configName, configValue]))
  }

  async alterConfig(topic, name, value) {
    const resources = [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name, value }] }]
    await this.admin.alterConfigs({ validateOnly: false, resources })
  }

  async deleteRecords(topic, partition, before) {
    await this.admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: `${before}` }] })
  }

  async members(group) {
    const { groups } = await this.admin.describeGroups([group])
    return groups[0].members.length
  }

  async deleteGroup(group) {
    await this.admin.deleteGroups([group])
  }

  async groupOffset(group, topic, partition) {
    const [{ partitions }] = await this.admin.fetchOffsets({ groupId: group, topics: [topic] })
    const found = partitions.find(each => each.partition === partition)
    return { offset: Number(found.offset), metadata: found.metadata ?? '' }
  }

  async ends(topic, partition) {
    const found = (await this.admin.fetchTopicOffsets(topic)).find(each => each.partition === partition)
    return [Number(found.low), Number(found.high)]
  }

  async offsetForTime(topic, partition, time) {
    const found = (await this.admin.fetchTopicOffsetsByTimestamp(topic, time)).find(each => each.partition === partition)
    const [, end] = await this.ends(topic, partition)
    // For a time after the last record it gives the end.
    return Number(found.offset) === end ? null : Number(found.offset)
  }

  // Security

  isAuthentication(failure) {
    return failure.name === 'KafkaJSSASLAuthenticationError'
  }

  async createAcls(acl) {
    await this.admin.createAcls({ acl })
  }

  async acls(filter) {
    const { resources } = await this.admin.describeAcls(filter)
    return resources.flatMap(({ acls, ...resource }) => acls.map(acl => ({ ...resource, ...acl })))
  }

  async deleteAcls(filter) {
    const { filterResponses } = await this.admin.deleteAcls({ filters: [filter] })
    return filterResponses.flatMap(({ matchingAcls }) => matchingAcls)
  }

  // Produce

  async producer({ codec = 'none', idempotent = false }) {
    const producer = this.kafka.producer({ idempotent, allowAutoTopicCreation: false })
    await producer.connect()
    return {
      send: (topic, records) => send(producer, topic, records, CODECS[codec]),
      close: () => producer.disconnect()
    }
  }

  async transactional(transactionalId) {
    const producer = this.kafka.producer({ transactionalId, idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    return {
      begin: async () => {
        const transaction = await producer.transaction()
        return {
          send: (topic, records) => send(transaction, topic, records),
          sendOffset: ({ groupId }, { topic, partition, offset }) => {
            const partitions = [{ partition, offset: `${offset + 1}` }]
            return transaction.sendOffsets({ consumerGroupId: groupId, topics: [{ topic, partitions }] })
          },
          commit: () => transaction.commit(),
          abort: () => transaction.abort()
        }
      },
      close: () => producer.disconnect()
    }
  }

  // Consume

  async reader(topic, { group = `${this.prefix}-reader-${this.readers++}`, offsets, isolation, commits = false }) {
    const reader = new Reader(this.kafka, topic, group, isolation, commits)
    await reader.start(offsets)
    return reader
  }
}

async function send(sender, topic, records, compression = CompressionTypes.None) {
  const messages = records.map(({ key, value, partition, headers, timestamp }) => {
    const byName = {}
    for (const [name, header] of headers) (byName[name] ??= []).push(header)
    return { key, value, partition, headers: byName, timestamp: timestamp && `${timestamp}` }
  })
  await sender.send({ topic, messages, compression, acks: -1 })
}

class Reader {
  records = []
  failure = null
  partitions = []

  constructor(kafka, topic, groupId, isolation, commits) {
    this.topic = topic
    this.groupId = groupId
    this.commits = commits
    this.consumer = kafka.consumer({
      groupId,
      // A heartbeat is how a member hears of a rebalance, and it is sent between fetches.
      heartbeatInterval: 100,
      maxWaitTimeInMs: 100,
      sessionTimeout: 10_000,
      readUncommitted: isolation === 'uncommitted',
      retry: { initialRetryTime: 50, retries: 5 }
    })
  }

  async start(offsets) {
    const { GROUP_JOIN, REBALANCING, CRASH } = this.consumer.events
    this.consumer.on(GROUP_JOIN, ({ payload }) => { this.partitions = payload.memberAssignment[this.topic] ?? [] })
    this.consumer.on(REBALANCING, () => { this.partitions = [] })
    this.consumer.on(CRASH, ({ payload }) => { this.failure = payload.error })
    await this.consumer.connect()
    await this.consumer.subscribe({ topic: this.topic, fromBeginning: true })
    await this.consumer.run({ autoCommit: false, eachBatch: given => this.handle(given) })
    if (offsets) this.seek(offsets)
  }

  async handle({ batch, isRunning, isStale, commitOffsetsIfNecessary }) {
    if (!isRunning() || isStale()) return
    const { topic, partition } = batch
    if (this.commits) {
      const offset = `${BigInt(batch.lastOffset()) + 1n}`
      await commitOffsetsIfNecessary({ topics: [{ topic, partitions: [{ partition, offset }] }] })
    }
    for (const { key, value, headers, timestamp, offset } of batch.messages) {
      const pairs = Object.entries(headers).flatMap(([name, found]) => [found].flat().map(header => [name, header]))
      this.records.push({ topic, partition, key, value, headers: pairs, timestamp: Number(timestamp), offset: Number(offset) })
    }
  }

  assignment() {
    return this.partitions
  }

  seek(offsets) {
    for (const [partition, offset] of offsets.entries()) this.consumer.seek({ topic: this.topic, partition, offset: `${offset}` })
    this.records = []
  }

  pause() {
    this.consumer.pause([{ topic: this.topic, partitions: [0] }])
  }

  resume() {
    this.consumer.resume([{ topic: this.topic, partitions: [0] }])
  }

  async commit(partition, offset, metadata) {
    await this.consumer.commitOffsets([{ topic: this.topic, partition, offset: `${offset}`, metadata }])
  }

  close() {
    this.closing ??= this.consumer.disconnect()
    return this.closing
  }
}

await main(Client)
