//! Sockets, threads and signals around the engine.
