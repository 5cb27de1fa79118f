//! One end of one MQTT conversation, sans-IO.
