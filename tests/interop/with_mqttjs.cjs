// MQTT.js against the broker: every version and QoS, retained messages, wills, sessions, and the properties of 5.0.
//
// Called with host, port and, for WebSocket, the word ws. Ends with 0 when everything was as it should be; otherwise the error says what was not.
'use strict'

const assert = require('node:assert')
const mqtt = require('mqtt')

const [host, port, transport] = process.argv.slice(2)
const url = transport === 'ws' ? `ws://${host}:${port}/mqtt` : `mqtt://${host}:${port}`
const SECONDS = 15
const VERSIONS = {
  '3.1': { protocolVersion: 3, protocolId: 'MQIsdp' },
  '3.1.1': { protocolVersion: 4 },
  '5.0': { protocolVersion: 5 },
}

function within (what, promise) {
  let timer
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${SECONDS} s: ${what}`)), SECONDS * 1000)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

// A connected client whose messages can be waited for.
async function connect (clientId, version, options = {}) {
  const client = mqtt.connect(url, { clientId, clean: true, reconnectPeriod: 0, keepalive: 60, ...version, ...options })
  const waiting = []
  const came = []
  client.on('message', (topic, payload, packet) => {
    const next = waiting.shift()
    next ? next(packet) : came.push(packet)
  })
  client.next = () => within('a message', new Promise(resolve => came.length ? resolve(came.shift()) : waiting.push(resolve)))
  client.connack = await within('CONNACK', new Promise((resolve, reject) => {
    client.once('connect', resolve)
    client.once('error', reject)
  }))
  return client
}

async function everyPairing () {
  for (const [heard, hearing] of Object.entries(VERSIONS)) {
    const subscriber = await connect('js-sub', hearing)
    assert.strictEqual((await subscriber.subscribeAsync('js/#', { qos: 2 }))[0].qos, 2)
    for (const [said, saying] of Object.entries(VERSIONS)) {
      const publisher = await connect('js-pub', saying)
      for (const qos of [0, 1, 2]) {
        const text = `${said} to ${heard} at ${qos}`
        await within(text, publisher.publishAsync(`js/${said}`, text, { qos }))
        const packet = await subscriber.next()
        assert.deepStrictEqual([packet.topic, packet.payload.toString(), packet.qos, packet.retain], [`js/${said}`, text, qos, false])
      }
      await publisher.endAsync()
    }
    await subscriber.endAsync()
  }
}

async function retained () {
  for (const version of Object.values(VERSIONS)) {
    const publisher = await connect('js-pub', version)
    await publisher.publishAsync('kept/js', 'x', { qos: 1, retain: true })
    const subscriber = await connect('js-sub', version)
    await subscriber.subscribeAsync('kept/+', { qos: 1 })
    const packet = await subscriber.next()
    assert.deepStrictEqual([packet.retain, packet.payload.toString()], [true, 'x'])
    await publisher.publishAsync('kept/js', '', { qos: 1, retain: true })
    assert.strictEqual((await subscriber.next()).payload.length, 0)
    await publisher.endAsync()
    await subscriber.endAsync()
  }
}

async function sessions () {
  for (const [name, version] of Object.entries(VERSIONS)) {
    const options = { clean: false, properties: name === '5.0' ? { sessionExpiryInterval: 100 } : undefined }
    const first = await connect('js-away', version, options)
    await first.subscribeAsync('away', { qos: 1 })
    await first.endAsync()
    const publisher = await connect('js-pub', version)
    for (let number = 0; number < 50; number++) await publisher.publishAsync('away', `${number}`, { qos: 1 })
    await publisher.endAsync()
    const second = await connect('js-away', version, options)
    assert.strictEqual(second.connack.sessionPresent, name !== '3.1')
    for (let number = 0; number < 50; number++) assert.strictEqual((await second.next()).payload.toString(), `${number}`)
    await second.endAsync()
    await (await connect('js-away', version)).endAsync()
  }
}

async function wills () {
  const watcher = await connect('js-watcher', VERSIONS['5.0'])
  await watcher.subscribeAsync('will/+', { qos: 1 })
  for (const [name, version] of Object.entries(VERSIONS)) {
    const client = await connect('js-dying', version, { will: { topic: `will/${name}`, payload: 'gone', qos: 1 } })
    client.stream.destroy()
    assert.strictEqual((await watcher.next()).topic, `will/${name}`)
    await client.endAsync(true)
  }
  await watcher.endAsync()
}

async function properties () {
  const subscriber = await connect('js-sub', VERSIONS['5.0'], { properties: { topicAliasMaximum: 5 } })
  const publisher = await connect('js-pub', VERSIONS['5.0'], { autoUseTopicAlias: true, autoAssignTopicAlias: true })
  await subscriber.subscribeAsync('props', { qos: 2, properties: { subscriptionIdentifier: 42 } })
  for (let round = 0; round < 3; round++) {
    await publisher.publishAsync('props', 'x', {
      qos: 2,
      properties: {
        contentType: 'text/plain', responseTopic: 'answers', correlationData: Buffer.from([0, 255]),
        messageExpiryInterval: 100, payloadFormatIndicator: true, userProperties: { a: ['1', '3'], b: '2' },
      },
    })
    const packet = await subscriber.next()
    const came = packet.properties
    assert.strictEqual(packet.payload.toString(), 'x')
    assert.deepStrictEqual([came.contentType, came.responseTopic, came.payloadFormatIndicator], ['text/plain', 'answers', true])
    assert.deepStrictEqual([...came.correlationData], [0, 255])
    assert(came.messageExpiryInterval >= 95 && came.messageExpiryInterval <= 100)
    assert.deepStrictEqual(JSON.parse(JSON.stringify(came.userProperties)), { a: ['1', '3'], b: '2' })
    assert.strictEqual(came.subscriptionIdentifier, 42)
  }
  await publisher.endAsync()
  await subscriber.endAsync()
}

async function main () {
  for (const check of [everyPairing, retained, sessions, wills, properties]) {
    await check()
    console.log('ok', check.name)
  }
}

main().then(() => process.exit(0), error => {
  console.error(error)
  process.exit(1)
})
