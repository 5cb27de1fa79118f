//! What a seed is about: how many of everything, how bad the network is, how often what goes wrong.
//!
//! In: chance. Out: a [`Plan`]. Each seed leaves some kinds of trouble out, so that others get deeper (one that cuts all
//! the time never sees a long queue).

use viaduct_codec::Level;
use viaduct_session::OnFull;

use crate::pipe::Weather;
use crate::rng::Rng;

/// What clients do, by weight.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Publish,
    Subscribe,
    Unsubscribe,
    /// DISCONNECT and close.
    Goodbye,
    /// Close without a word.
    Leave,
    /// Another connection with the same ClientID.
    TakeOver,
    /// Read nothing for a while.
    Stall,
    /// Send nothing for a while, not even PINGREQ.
    Freeze,
    /// Close one's own half of the connection, and read on.
    Mute,
}

impl Act {
    pub(crate) const ALL: [Self; 9] = [
        Self::Publish,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Goodbye,
        Self::Leave,
        Self::TakeOver,
        Self::Stall,
        Self::Freeze,
        Self::Mute,
    ];
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The workers of each broker.
    pub(crate) workers: Vec<u16>,
    /// The levels that bridges between the two speak.
    pub(crate) bridges: Vec<Level>,
    pub(crate) clients: usize,
    pub(crate) weather: Weather,
    /// Times of trouble, each followed by rest and reckoning.
    pub(crate) rounds: u64,
    /// Milliseconds that a time of trouble lasts.
    pub(crate) trouble: u64,
    /// Milliseconds between two acts of a client, usually.
    pub(crate) pace: u64,
    /// As [`Act::ALL`].
    pub(crate) acts: [u64; 9],
    /// Milliseconds between two cuts, usually; 0 for none.
    pub(crate) cuts: u64,
    /// Milliseconds between two restarts, usually; 0 for none.
    pub(crate) restarts: u64,
    /// Of a hundred answers, how many are late.
    pub(crate) late: u64,
    /// Of a hundred messages that 5.0 gets, how many it refuses.
    pub(crate) refuse: u64,
    /// Of a hundred messages, how many are to be retained.
    pub(crate) retain: u64,
    /// Of a hundred messages of 5.0, how many expire.
    pub(crate) expire: u64,
    /// Of a hundred connections, how many leave a will.
    pub(crate) wills: u64,
    /// Of a hundred connections, how many begin anew.
    pub(crate) clean: u64,
    /// Of a hundred subscriptions, how many are shared.
    pub(crate) shared: u64,
    /// Of a hundred CONNECTs, how many have something right behind them.
    pub(crate) hasty: u64,
    /// Topics below each branch.
    pub(crate) places: u64,
    /// Clients of 3.1.1 and 5.0 that change from one to the other.
    pub(crate) switches: bool,
    /// Messages that may wait for one session, and what becomes of the next one.
    pub(crate) queue: Option<(usize, OnFull)>,
    /// Seconds that a broker lets sessions live at most, and connections be silent.
    pub(crate) caps: Option<(u32, u16)>,
    /// A second connection with a ClientID that has one is refused.
    pub(crate) rejects: bool,
    /// Wills of connections that are taken over are not published.
    pub(crate) quiet_takeovers: bool,
    /// Messages a second that a client may send before it is not read for a while.
    pub(crate) rate: Option<u32>,
    /// Milliseconds that the log of a broker usually needs for a write.
    pub(crate) disk: u64,
    /// Milliseconds between two stops of a bridge by its operator, usually; 0 for none.
    pub(crate) stops: u64,
    /// Whether bridges say at both ends whether they are up.
    pub(crate) notices: bool,
    /// Messages that a bridge has open at a time.
    pub(crate) window: u16,
    /// Whether some subscribe to everything.
    pub(crate) everything: bool,
    /// Milliseconds that mail between workers usually takes.
    pub(crate) mail: u64,
    /// Bytes of a large message; most are small.
    pub(crate) large: u64,
}

impl Plan {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let has_two = rng.percent(40);
        let workers = (0..1 + u64::from(has_two)).map(|_| rng.pick(&[1, 1, 2, 3])).collect();
        let bridges = if has_two { rng.pick(&[0, 1, 1, 2]) } else { 0 };
        let levels = [Level::V5, Level::V5, Level::V311, Level::V311_BRIDGE, Level::V31, Level::V31_BRIDGE];
        let some =
            |rng: &mut Rng, percent: u64, choices: &[u64]| if rng.percent(percent) { rng.pick(choices) } else { 0 };
        Self {
            workers,
            bridges: (0..bridges).map(|_| rng.pick(&levels)).collect(),
            clients: usize::try_from(rng.between(3, 10)).unwrap_or(3),
            weather: Weather { latency: rng.pick(&[1, 5, 30, 200]), shreds: rng.pick(&[0, 20, 100]) },
            rounds: rng.between(1, 3),
            trouble: rng.pick(&[3_000, 10_000, 20_000]),
            pace: rng.pick(&[60, 150, 400]),
            acts: [
                100,
                rng.pick(&[5, 15]),
                some(rng, 70, &[2, 8]),
                some(rng, 70, &[1, 4]),
                some(rng, 70, &[1, 4]),
                some(rng, 50, &[1, 4, 12]),
                some(rng, 50, &[1, 5]),
                some(rng, 30, &[1, 3]),
                some(rng, 30, &[1, 3]),
            ],
            cuts: some(rng, 75, &[300, 1_000, 4_000]),
            restarts: some(rng, 35, &[2_000, 5_000, 20_000]),
            late: some(rng, 60, &[5, 30]),
            refuse: some(rng, 20, &[3, 20]),
            retain: some(rng, 60, &[5, 30, 60]),
            expire: some(rng, 40, &[10, 40]),
            wills: some(rng, 60, &[20, 80]),
            clean: some(rng, 60, &[5, 30]),
            shared: some(rng, 50, &[10, 40]),
            hasty: some(rng, 40, &[10, 50]),
            places: if rng.percent(15) { 120 } else { 3 },
            switches: rng.percent(20),
            queue: if has_two || rng.percent(80) {
                None
            } else {
                Some((rng.place(20) + 2, rng.pick(&[OnFull::DropOldest, OnFull::DropNewest])))
            },
            caps: if has_two || rng.percent(85) { None } else { Some((rng.pick(&[3, 60]), 30)) },
            rejects: rng.percent(8),
            quiet_takeovers: rng.percent(15),
            rate: if rng.percent(8) { Some(rng.pick(&[3, 30])) } else { None },
            disk: rng.pick(&[1, 4, 30]),
            stops: some(rng, 30, &[5_000]),
            notices: rng.percent(40),
            window: rng.pick(&[1, 3, 10, 100]),
            everything: rng.percent(15),
            mail: rng.pick(&[0, 1, 20]),
            large: some(rng, 30, &[2_000, 30_000]),
        }
    }
}
