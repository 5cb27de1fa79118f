"""paho-mqtt against the broker: every version and QoS, retained messages, wills, sessions, and the properties of 5.0.

Called with host, port and, for WebSocket, the word ws. Ends with 0 when everything was as it should be; otherwise the exception says what was not.
"""

import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

HOST, PORT = sys.argv[1], int(sys.argv[2])
TRANSPORT = "websockets" if sys.argv[3:] == ["ws"] else "tcp"
SECONDS = 15


class Client:
    """A connected client whose messages and events can be waited for."""

    def __init__(self, client_id, protocol, clean=True, will=None, expiry=None):
        five = protocol == mqtt.MQTTv5
        options = {} if five else {"clean_session": clean}
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=protocol, transport=TRANSPORT, **options)
        self.messages, self.events = queue.Queue(), queue.Queue()
        self.client.on_message = lambda client, data, message: self.messages.put(message)
        self.client.on_connect = lambda client, data, flags, reason, properties: self.events.put((flags, reason))
        self.client.on_subscribe = lambda client, data, mid, reasons, properties: self.events.put(reasons)
        self.client.on_disconnect = lambda client, data, flags, reason, properties: self.events.put("gone")
        if will:
            self.client.will_set(will, "gone", qos=1)
        if five:
            properties = Properties(PacketTypes.CONNECT)
            if expiry is not None:
                properties.SessionExpiryInterval = expiry
            self.client.connect(HOST, PORT, clean_start=clean, properties=properties)
        else:
            self.client.connect(HOST, PORT)
        self.client.loop_start()
        self.flags, reason = self.events.get(timeout=SECONDS)
        assert not reason.is_failure, reason

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        reasons = self.events.get(timeout=SECONDS)
        assert [reason.value for reason in reasons] == [qos], reasons

    def publish(self, topic, payload, **options):
        info = self.client.publish(topic, payload, **options)
        info.wait_for_publish(SECONDS)
        assert info.is_published(), (topic, payload)

    def message(self):
        return self.messages.get(timeout=SECONDS)

    def close(self):
        self.client.disconnect()
        assert self.events.get(timeout=SECONDS) == "gone"
        self.client.loop_stop()

    def break_off(self):
        self.client._sock_close()
        self.client.loop_stop()


PROTOCOLS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}


def every_pairing():
    for heard, hearing in PROTOCOLS.items():
        subscriber = Client("paho-sub", hearing)
        subscriber.subscribe("paho/#", 2)
        for said, saying in PROTOCOLS.items():
            publisher = Client("paho-pub", saying)
            for qos in 0, 1, 2:
                text = f"{said} to {heard} at {qos}"
                publisher.publish("paho/" + said, text, qos=qos)
                message = subscriber.message()
                came = (message.topic, message.payload.decode(), message.qos, message.retain)
                assert came == ("paho/" + said, text, qos, False), came
            publisher.close()
        subscriber.close()


def retained():
    for protocol in PROTOCOLS.values():
        publisher = Client("paho-pub", protocol)
        publisher.publish("kept/paho", "x", qos=1, retain=True)
        subscriber = Client("paho-sub", protocol)
        subscriber.subscribe("kept/+", 1)
        message = subscriber.message()
        assert message.retain and message.payload == b"x", message
        publisher.publish("kept/paho", None, qos=1, retain=True)
        assert subscriber.message().payload == b""
        publisher.close()
        subscriber.close()


def sessions():
    for name, protocol in PROTOCOLS.items():
        first = Client("paho-away", protocol, clean=False, expiry=100)
        first.subscribe("away", 1)
        first.close()
        publisher = Client("paho-pub", protocol)
        for number in range(50):
            publisher.publish("away", str(number), qos=1)
        publisher.close()
        second = Client("paho-away", protocol, clean=False, expiry=100)
        assert second.flags.session_present == (name != "3.1"), second.flags
        assert [second.message().payload for _ in range(50)] == [str(number).encode() for number in range(50)]
        second.close()
        Client("paho-away", protocol).close()


def wills():
    watcher = Client("paho-watcher", mqtt.MQTTv5)
    watcher.subscribe("will/+", 1)
    for name, protocol in PROTOCOLS.items():
        Client("paho-dying", protocol, will="will/" + name).break_off()
        assert watcher.message().topic == "will/" + name
    watcher.close()


def properties():
    subscriber, publisher = Client("paho-sub", mqtt.MQTTv5), Client("paho-pub", mqtt.MQTTv5)
    subscriber.subscribe("props", 2)
    sent = Properties(PacketTypes.PUBLISH)
    sent.ContentType, sent.ResponseTopic, sent.CorrelationData = "text/plain", "answers", b"\x00\xff"
    sent.MessageExpiryInterval, sent.PayloadFormatIndicator = 100, 1
    sent.UserProperty = [("a", "1"), ("b", "2"), ("a", "3")]
    publisher.publish("props", "x", qos=2, properties=sent)
    came = subscriber.message().properties
    assert (came.ContentType, came.ResponseTopic, came.CorrelationData) == ("text/plain", "answers", b"\x00\xff")
    assert came.PayloadFormatIndicator == 1 and 95 <= came.MessageExpiryInterval <= 100, came
    assert came.UserProperty == [("a", "1"), ("b", "2"), ("a", "3")], came
    publisher.close()
    subscriber.close()


for check in every_pairing, retained, sessions, wills, properties:
    check()
    print("ok", check.__name__, flush=True)
