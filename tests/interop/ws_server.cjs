// The server of the package ws in front of a broker: what a bridge over WebSocket meets when nobody here wrote the other end.
//
// Called with the port to listen on, the broker's port and, for wss, certificate and key. Prints a line for each connection and each
// close. It pings often and closes on what is no binary message.
'use strict'

const fs = require('node:fs')
const http = require('node:http')
const https = require('node:https')
const net = require('node:net')
const { WebSocketServer } = require('ws')

const [port, upstreamPort, cert, key] = process.argv.slice(2)
const server = cert ? https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }) : http.createServer()
const handleProtocols = offered => offered.has('mqtt') && 'mqtt'
const sockets = new WebSocketServer({ server, path: '/mqtt', handleProtocols, perMessageDeflate: true })

sockets.on('connection', socket => {
  console.log('connected', socket.protocol, JSON.stringify(socket.extensions))
  const upstream = net.connect(Number(upstreamPort), '127.0.0.1')
  const pinging = setInterval(() => socket.ping('are you there'), 20)
  let pongs = 0
  socket.on('pong', data => { if (String(data) === 'are you there' && ++pongs === 3) console.log('pongs') })
  socket.on('message', (data, isBinary) => { isBinary ? upstream.write(data) : socket.close(1003) })
  socket.on('close', code => {
    clearInterval(pinging)
    console.log('closed', code)
    upstream.end()
  })
  socket.on('error', error => console.log('error', error.message))
  upstream.on('data', data => {
    // In two fragments, as a server may.
    socket.send(data.subarray(0, 1), { fin: false, binary: true })
    socket.send(data.subarray(1), { fin: true, binary: true })
  })
  // Not closed when the broker has closed after DISCONNECT: the bridge does that, and which came first would be chance.
  upstream.on('error', () => {})
})
server.listen(Number(port), '127.0.0.1', () => console.log('listening'))
